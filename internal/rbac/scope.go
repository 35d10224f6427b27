package rbac

import (
	"errors"
	"fmt"
	"strings"
)

// Root is the scope of everything.
const Root = "/"

const (
	maxScope    = 900 // bytes; with a role and a principal it makes a key of the store
	maxSegments = 24
)

// ParseScope checks a scope and drops slashes at its end: "/", or the ARM id of a subscription, a resource group or a
// resource, at any depth.
func ParseScope(scope string) (string, error) {
	s := strings.TrimRight(scope, "/")
	switch {
	case s == "" && scope != "":
		return Root, nil
	case !strings.HasPrefix(s, "/"):
		return "", errors.New("is not an ARM id: it must begin with a slash")
	case len(s) > maxScope:
		return "", fmt.Errorf("is longer than %d bytes", maxScope)
	}
	for i := range len(s) {
		if c := s[i]; c <= ' ' || c >= 0x7f || strings.IndexByte(`%?#\"<>*`, c) >= 0 {
			return "", fmt.Errorf("holds %q, which an ARM id cannot", c)
		}
	}
	segments := strings.Split(s[1:], "/")
	if len(segments) > maxSegments {
		return "", fmt.Errorf("has more than %d segments", maxSegments)
	}
	for _, segment := range segments {
		if segment == "" || segment == "." || segment == ".." {
			return "", errors.New("has an empty segment, or one of dots")
		}
	}
	if err := checkShape(segments); err != nil {
		return "", err
	}
	return s, nil
}

// checkShape refuses what is no subscription, resource group or resource: an assignment there would never count, and
// whoever made it believes that it does.
func checkShape(segments []string) error {
	if !strings.EqualFold(segments[0], "subscriptions") || len(segments) < 2 {
		return errors.New("is none of /, /subscriptions/ID and what is below")
	}
	if _, ok := parseGUID(segments[1]); !ok {
		return fmt.Errorf("names the subscription %q, which is not a GUID", segments[1])
	}
	rest := segments[2:]
	if len(rest) >= 2 && strings.EqualFold(rest[0], "resourceGroups") {
		rest = rest[2:]
	}
	for len(rest) > 0 {
		if !strings.EqualFold(rest[0], "providers") || len(rest) < 4 {
			return errors.New("does not end at a subscription, a resource group or a resource")
		}
		if rest = rest[2:]; len(rest) < 2 { // the namespace, then pairs of type and name
			return errors.New("names a provider without a resource")
		}
		for len(rest) > 0 && !strings.EqualFold(rest[0], "providers") {
			if len(rest) < 2 {
				return errors.New("ends in a resource type without a name")
			}
			rest = rest[2:]
		}
	}
	return nil
}

// foldScope is the form in which scopes are compared: ASCII letters small, nothing at the end; "" is everything.
// Letters beyond ASCII are left alone: what folds into an ASCII letter elsewhere must not be taken for it here.
func foldScope(scope string) string {
	scope = strings.TrimRight(scope, "/")
	for i := range len(scope) {
		if 'A' <= scope[i] && scope[i] <= 'Z' {
			b := []byte(scope)
			for i := range b {
				b[i] = fold(b[i])
			}
			return string(b)
		}
	}
	return scope
}

// covers tells whether an assignment at the folded scope counts at another scope, in any case: whole segments are
// compared, so that /a does not cover /ab.
func covers(folded, scope string) bool {
	if len(scope) < len(folded) || !hasPrefixFold(scope, folded) {
		return false
	}
	return len(scope) == len(folded) || scope[len(folded)] == '/'
}

// hasPrefixFold is strings.HasPrefix with s folded and prefix folded already. s is not shorter than prefix.
func hasPrefixFold(s, prefix string) bool {
	if s[:len(prefix)] == prefix {
		return true
	}
	for i := range len(prefix) {
		if fold(s[i]) != prefix[i] {
			return false
		}
	}
	return true
}

func fold(c byte) byte {
	if 'A' <= c && c <= 'Z' {
		return c + 'a' - 'A'
	}
	return c
}
