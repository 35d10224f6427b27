package arm

import (
	"net/http"
	"strings"

	"tabard/internal/audit"
)

// A Route is a method and a path pattern of the surface.
type Route struct{ Method, Pattern string }

// Routes are all operations of the surface, for those who check that nothing is forgotten.
func Routes() []Route {
	var list []Route
	for _, r := range (&server{}).table() {
		list = append(list, Route{r.method, r.pattern})
	}
	return list
}

// readingVerbs are last segments of paths at which a POST changes nothing and shows nothing that a GET would not.
var readingVerbs = map[string]bool{"checknameavailability": true, "explainsecretreference": true}

// Changes tells whether a request may change something, or shows keys or contents: then it belongs in the audit log.
func Changes(r *http.Request) bool {
	switch r.Method {
	case http.MethodGet, http.MethodHead, http.MethodOptions:
		return false
	}
	_, last, _ := cutLast(strings.TrimSuffix(r.URL.Path, "/"), "/")
	return r.Method != http.MethodPost || !readingVerbs[strings.ToLower(last)]
}

// audited serves a route and tells the audit log what the resource was before and, where the answer does not show it,
// what it is afterwards.
func (s *server) audited(rt *route, c *call) (reply, error) {
	entry := audit.From(c.r.Context())
	if entry == nil {
		return rt.handle(c)
	}
	path := resourcePath(c.r)
	entry.Before(s.state(c, path))
	rep, err := rt.handle(c)
	if err == nil && rep.status < 300 && (rep.body == nil || c.r.Method == http.MethodPost && rep.status != http.StatusCreated) {
		entry.After(s.state(c, path))
	}
	return rep, err
}

// resourcePath is the escaped path of the resource that a request changes: what an action is done to, or the vault whose
// policies are edited.
func resourcePath(r *http.Request) string {
	path := strings.TrimSuffix(r.URL.EscapedPath(), "/")
	if r.Method == http.MethodPost {
		path, _, _ = cutLast(path, "/")
	}
	if above, last, ok := cutLast(path, "/"); ok && len(above) > 0 && r.Method == http.MethodPut {
		if vault, kind, ok := cutLast(above, "/"); ok && strings.EqualFold(kind, "accessPolicies") && last != "" {
			return vault
		}
	}
	return path
}

// state is what a GET of the path answers at the moment, nil if there is no such resource.
func (s *server) state(c *call, path string) any {
	rt, params, err := s.routes.find(http.MethodGet, path)
	if err != nil || rt.method != http.MethodGet {
		return nil
	}
	r := c.r.Clone(c.r.Context())
	r.Method, r.Body, r.ContentLength = http.MethodGet, http.NoBody, 0
	r.URL.RawQuery = "" // a $select is not for us
	rep, err := rt.handle(&call{w: headerOnly{}, r: r, params: params, id: c.id})
	if err != nil {
		return nil
	}
	return rep.body
}

// headerOnly takes the headers of an answer that goes nowhere.
type headerOnly http.Header

func (h headerOnly) Header() http.Header         { return http.Header(h) }
func (h headerOnly) Write(b []byte) (int, error) { return len(b), nil }
func (h headerOnly) WriteHeader(int)             {}
