package arm

import (
	"maps"
	"net/url"
	"slices"
	"strings"
)

// A route binds a method and a path pattern to a handler. A pattern's segments are literals, compared ignoring case,
// or hold one {parameter}, possibly between literal parts: applications(appId='{appId}').
type route struct {
	method, pattern string
	versions        *versions // accepted api-versions; nil: the parameter is not looked at
	handle          handler
}

// intoGroup tells whether the route puts a resource into a resource group.
func (r *route) intoGroup() bool {
	return r.method == "PUT" && strings.Contains(r.pattern, "{group}/providers/") && !strings.Contains(r.pattern, authorizationProvider)
}

// kind is the resource type that the route is about, as the messages of version errors name it: the literal segments
// after the last provider, or the last literal.
func (r *route) kind() string {
	_, rest, _ := cutLast(r.pattern, "/providers/")
	var types []string
	for i, segment := range strings.Split(rest, "/") {
		if i > 0 && !strings.HasPrefix(segment, "{") {
			types = append(types, segment)
		}
	}
	return strings.Join(types, "/")
}

func cutLast(s, sep string) (before, after string, found bool) {
	if i := strings.LastIndex(s, sep); i >= 0 {
		return s[:i], s[i+len(sep):], true
	}
	return "", s, false
}

// params are the values of a pattern's parameters, unescaped, in the client's casing.
type params map[string]string

// maxSegments bounds the depth of a path; the deepest pattern has 11.
const maxSegments = 24

// A node is what follows a prefix of paths.
type node struct {
	literals map[string]*node // by lower-cased segment
	slots    []slot
	methods  map[string]*route
}

// A slot is a segment with a parameter.
type slot struct {
	prefix, name, suffix string
	next                 *node
}

func compile(table []route) *node {
	root := &node{}
	for i := range table {
		r := &table[i]
		n := root
		for segment := range strings.SplitSeq(strings.TrimPrefix(r.pattern, "/"), "/") {
			n = n.child(segment)
		}
		if n.methods == nil {
			n.methods = map[string]*route{}
		}
		n.methods[r.method] = r
	}
	return root
}

func (n *node) child(segment string) *node {
	prefix, rest, ok := strings.Cut(segment, "{")
	if !ok {
		key := strings.ToLower(segment)
		if n.literals == nil {
			n.literals = map[string]*node{}
		}
		if n.literals[key] == nil {
			n.literals[key] = &node{}
		}
		return n.literals[key]
	}
	name, suffix, _ := strings.Cut(rest, "}")
	for _, s := range n.slots {
		if s.prefix == prefix && s.name == name && s.suffix == suffix {
			return s.next
		}
	}
	next := &node{}
	n.slots = append(n.slots, slot{prefix, name, suffix, next})
	slices.SortStableFunc(n.slots, func(a, b slot) int { // the more literal first
		return len(b.prefix) + len(b.suffix) - len(a.prefix) - len(a.suffix)
	})
	return next
}

// find looks up the route of a request by its escaped path. Empty segments in front (clients write "/{scope}" with a
// scope that begins with a slash) and one at the end are ignored.
func (n *node) find(method, escaped string) (*route, params, error) {
	raw := strings.Split(strings.TrimSuffix(strings.TrimLeft(escaped, "/"), "/"), "/")
	if len(raw) > maxSegments {
		return nil, nil, &unrouted{escaped}
	}
	segments := make([]string, len(raw))
	for i, s := range raw {
		var err error
		if segments[i], err = url.PathUnescape(s); err != nil || s == "" {
			return nil, nil, &unrouted{escaped}
		}
	}
	found := params{}
	n = n.match(segments, found)
	if n == nil {
		return nil, nil, &unrouted{escaped}
	}
	r := n.methods[method]
	if r == nil && method == "HEAD" {
		r = n.methods["GET"] // net/http drops the body
	}
	if r == nil {
		return nil, nil, &methodNotAllowed{method, slices.Sorted(maps.Keys(n.methods))}
	}
	return r, found, nil
}

// match returns the node with routes that the segments lead to, literals before parameters, or nil.
func (n *node) match(segments []string, found params) *node {
	if len(segments) == 0 {
		if n.methods == nil {
			return nil
		}
		return n
	}
	segment := segments[0]
	if next := n.literals[strings.ToLower(segment)]; next != nil {
		if end := next.match(segments[1:], found); end != nil {
			return end
		}
	}
	for _, s := range n.slots {
		value, ok := s.value(segment)
		if !ok {
			continue
		}
		if end := s.next.match(segments[1:], found); end != nil {
			found[s.name] = value
			return end
		}
	}
	return nil
}

func (s *slot) value(segment string) (string, bool) {
	fixed := len(s.prefix) + len(s.suffix)
	if len(segment) <= fixed {
		return "", false
	}
	end := len(segment) - len(s.suffix)
	return segment[len(s.prefix):end], strings.EqualFold(segment[:len(s.prefix)], s.prefix) && strings.EqualFold(segment[end:], s.suffix)
}
