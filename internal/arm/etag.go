package arm

import (
	"crypto/sha256"
	"encoding/hex"
	"net/http"
	"slices"
	"strings"
)

// etag names a representation: it is made of the document itself, so that a resource that shares a stored document with
// others changes its tag only when it changes itself.
func etag(doc map[string]any) string {
	sum := sha256.Sum256(encode(doc))
	return `"` + hex.EncodeToString(sum[:12]) + `"`
}

// resource is the answer that shows a resource, with its tag.
func (c *call) resource(status int, doc map[string]any) reply {
	c.w.Header().Set("ETag", etag(doc))
	return reply{status, doc}
}

// match holds If-Match and If-None-Match against the resource as it is, nil if it does not exist. Writes call it within
// their compare-and-swap, so that nobody comes between.
func (c *call) match(doc map[string]any) error {
	tag := ""
	if doc != nil {
		tag = etag(doc)
	}
	holds := func(header string) (given, holds bool) {
		var tags []string
		for _, line := range c.r.Header.Values(header) {
			for one := range strings.SplitSeq(line, ",") {
				tags = append(tags, strings.TrimPrefix(strings.TrimSpace(one), "W/"))
			}
		}
		return len(tags) > 0, doc != nil && (slices.Contains(tags, "*") || slices.Contains(tags, tag))
	}
	if given, ok := holds("If-Match"); given && !ok {
		return preconditionFailed("If-Match")
	}
	if given, ok := holds("If-None-Match"); given && ok && c.r.Method != http.MethodGet {
		return preconditionFailed("If-None-Match")
	}
	return nil
}
