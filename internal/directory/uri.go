package directory

import (
	"fmt"
	"strings"

	"github.com/google/uuid"
)

const maxURI = 255 // bytes of an identifier URI, as in Entra

// normalizeURI gives the form in which identifier URIs are compared (identity.md 4.2): one trailing slash
// removed, the host in lower case, everything else byte for byte.
func normalizeURI(uri string) string {
	uri = strings.TrimSuffix(uri, "/")
	scheme, rest, ok := strings.Cut(uri, "://")
	if !ok {
		return uri
	}
	end := strings.IndexAny(rest, "/?#")
	if end < 0 {
		end = len(rest)
	}
	return scheme + "://" + lower(rest[:end]) + rest[end:]
}

// checkURI says what keeps a string from being an identifier URI, or "". Any absolute URI will do, local
// names like api://orders included; Entra's demand for a verified domain is not made.
func checkURI(uri string) string {
	if len(uri) > maxURI {
		return fmt.Sprintf("has %d bytes, at most %d", len(uri), maxURI)
	}
	for i := range len(uri) {
		if c := uri[i]; c <= ' ' || c >= 0x7f || strings.IndexByte("\"<>\\^`{|}#?*", c) >= 0 {
			return fmt.Sprintf("%q holds the character %q", uri, rune(c))
		}
	}
	scheme, rest, ok := strings.Cut(uri, ":")
	if !ok || !validScheme(scheme) || strings.Trim(rest, "/") == "" || strings.HasPrefix(rest, "///") {
		return fmt.Sprintf("%q is not an absolute URI such as api://orders", uri)
	}
	return ""
}

func validScheme(s string) bool {
	for i := range len(s) {
		c := s[i] | 0x20
		letter := 'a' <= c && c <= 'z'
		if !letter && (i == 0 || (s[i] < '0' || s[i] > '9') && strings.IndexByte("+-.", s[i]) < 0) {
			return false
		}
	}
	return s != ""
}

// parseGUID returns a GUID in its canonical lower-case form. Only the plain 36 character form is one.
func parseGUID(s string) (string, bool) {
	if len(s) != 36 {
		return "", false
	}
	id, err := uuid.Parse(s)
	return id.String(), err == nil
}

// lower folds ASCII only: ids and hosts hold nothing else, and Unicode folding would let two names meet.
func lower(s string) string {
	for i := range len(s) {
		if 'A' <= s[i] && s[i] <= 'Z' {
			b := []byte(s)
			for ; i < len(b); i++ {
				if 'A' <= b[i] && b[i] <= 'Z' {
					b[i] |= 0x20
				}
			}
			return string(b)
		}
	}
	return s
}
