package guard

import (
	"errors"
	"net/http"
	"path"
	"strings"
)

// An exclusion is a path, or all below one, that needs no token.
type exclusion struct {
	method string // "" is any
	path   string
	below  bool // path ends in a slash, and everything that begins with it is meant
}

func parseExclusion(text string) (exclusion, error) {
	var x exclusion
	if method, rest, ok := strings.Cut(text, " "); ok {
		x.method, text = method, rest
		if method == "" || method != strings.ToUpper(method) || !headerName(method) {
			return x, errors.New("does not begin with a method and a space")
		}
	}
	if rest, ok := strings.CutSuffix(text, "/*"); ok {
		text, x.below = rest+"/", true
	}
	if !unambiguous(text) {
		return x, errors.New("is not a plain path from the root, optionally with /* at its end")
	}
	x.path = text
	return x, nil
}

// isExcluded reports whether a request needs no token.
func (s *setup) isExcluded(r *http.Request) bool {
	if len(s.excluded) == 0 {
		return false
	}
	escaped := r.URL.EscapedPath()
	if !unambiguous(escaped) {
		return false
	}
	for _, x := range s.excluded {
		if (x.method == "" || x.method == r.Method) && (escaped == x.path || x.below && strings.HasPrefix(escaped, x.path)) {
			return true
		}
	}
	return false
}

// unambiguous reports whether every server reads a path alike: from the root,
// clean, and of characters that none of them decodes, splits at or drops.
func unambiguous(p string) bool {
	if p == "" || p[0] != '/' || strings.Contains(p, "//") || len(p) > 1 && path.Clean(p) != strings.TrimSuffix(p, "/") {
		return false
	}
	for i := range len(p) {
		c := p[i]
		if !(c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || strings.IndexByte("/-._~!$&'()*+,=:@", c) >= 0) {
			return false
		}
	}
	return true
}
