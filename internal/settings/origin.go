package settings

import (
	"net/url"
	"strings"
)

// MaxAllowedOrigins bounds an instance's allow-list.
const MaxAllowedOrigins = 100

// validOrigin tells whether o may stand in an allow-list: *, an origin as browsers send it, or one whose host begins
// with "*." for all hosts below.
func validOrigin(o string) bool {
	if o == "*" {
		return true
	}
	scheme, rest, ok := strings.Cut(o, "://")
	if !ok || scheme == "" || strings.ContainsAny(o, " ,\"") {
		return false
	}
	host := strings.TrimPrefix(rest, "*.")
	u, err := url.Parse(scheme + "://" + host)
	return err == nil && u.Host == host && u.Hostname() != "" && !strings.Contains(host, "*") && u.User == nil
}

// AllowsOrigin tells whether a client may connect that sent these Origin headers. Browsers send one; who sends none is
// no page of another site and is let by, and so is everybody while the list is empty.
func (e *Extensions) AllowsOrigin(headers []string) bool {
	if len(e.AllowedOrigins) == 0 || len(headers) == 0 {
		return true
	}
	if len(headers) > 1 {
		return false
	}
	origin := strings.ToLower(headers[0])
	for _, allowed := range e.AllowedOrigins {
		if allowed == "*" || allowed == origin {
			return true
		}
		scheme, below, wild := strings.Cut(allowed, "://*.")
		if host, ok := strings.CutPrefix(origin, scheme+"://"); wild && ok {
			if name, ok := strings.CutSuffix(host, "."+below); ok && name != "" && !strings.ContainsAny(name, "/:@") {
				return true
			}
		}
	}
	return false
}
