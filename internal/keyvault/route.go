package keyvault

import (
	"net/http"
	"net/url"
	"strings"
)

// An operation is one thing that the API can do. run is called when its caller may do it.
type operation struct {
	name       string // for the audit
	permission Permission
	run        func(*call) (status int, body any, err error)
}

var (
	opList        = &operation{"list", permitList, (*call).list}
	opVersions    = &operation{"list-versions", permitList, (*call).listVersions}
	opGet         = &operation{"get", permitGet, (*call).get}
	opSet         = &operation{"set", permitSet, (*call).set}
	opUpdate      = &operation{"update", permitUpdate, (*call).update}
	opDelete      = &operation{"delete", permitDelete, (*call).delete}
	opBackup      = &operation{"backup", permitBackup, (*call).backup}
	opRestore     = &operation{"restore", permitRestore, (*call).restore}
	opListDeleted = &operation{"list-deleted", permitList, (*call).listDeleted}
	opGetDeleted  = &operation{"get-deleted", permitSee, (*call).getDeleted}
	opRecover     = &operation{"recover", permitRecover, (*call).recover}
	opPurge       = &operation{"purge", permitPurge, (*call).purge}
)

// InPath tells whether an escaped path belongs to the secrets API.
func InPath(escaped string) bool {
	first, _, _ := strings.Cut(strings.TrimLeft(escaped, "/"), "/")
	return strings.EqualFold(first, "secrets") || strings.EqualFold(first, "deletedsecrets")
}

// route finds the operation by the escaped path: repeated slashes count as one and one at the end is ignored, since
// clients make paths from a vault's URI, which ends in one, and leave the version of a secret empty. Which operation
// it is, method and literal segments decide: GET /secrets/restore is a secret, POST is not.
func (c *call) route() (*operation, error) {
	var segments []string
	for s := range strings.SplitSeq(c.r.URL.EscapedPath(), "/") {
		if s == "" {
			continue
		}
		// A name that is still encoded after this holds a "%", which no name may: there is no double decoding.
		decoded, err := url.PathUnescape(s)
		if err != nil {
			return nil, noSuchPath()
		}
		segments = append(segments, decoded)
		if len(segments) > 3 {
			return nil, noSuchPath()
		}
	}
	if len(segments) == 0 {
		return nil, noSuchPath()
	}
	if len(segments) > 1 {
		c.name = segments[1]
	}
	kind, method := strings.ToLower(segments[0]), c.r.Method
	if kind == "deletedsecrets" {
		return c.routeDeleted(segments, method)
	}
	if kind != "secrets" {
		return nil, noSuchPath()
	}
	switch len(segments) {
	case 1:
		if method == http.MethodGet {
			return opList, nil
		}
	case 2:
		switch method {
		case http.MethodGet:
			return opGet, nil
		case http.MethodPut:
			return opSet, nil
		case http.MethodPatch:
			return opUpdate, nil
		case http.MethodDelete:
			return opDelete, nil
		case http.MethodPost:
			if strings.EqualFold(c.name, "restore") {
				c.name = ""
				return opRestore, nil
			}
		}
	case 3:
		last := segments[2]
		switch {
		case method == http.MethodGet && strings.EqualFold(last, "versions"):
			return opVersions, nil
		case method == http.MethodPost && strings.EqualFold(last, "backup"):
			return opBackup, nil
		case method == http.MethodGet:
			c.id = last
			return opGet, nil
		case method == http.MethodPatch:
			c.id = last
			return opUpdate, nil
		}
	}
	return nil, wrongMethod(method)
}

func (c *call) routeDeleted(segments []string, method string) (*operation, error) {
	switch {
	case len(segments) == 1 && method == http.MethodGet:
		return opListDeleted, nil
	case len(segments) == 2 && method == http.MethodGet:
		return opGetDeleted, nil
	case len(segments) == 2 && method == http.MethodDelete:
		return opPurge, nil
	case len(segments) == 3 && !strings.EqualFold(segments[2], "recover"):
		return nil, noSuchPath()
	case len(segments) == 3 && method == http.MethodPost:
		return opRecover, nil
	}
	return nil, wrongMethod(method)
}
