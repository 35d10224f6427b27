package guard

import (
	"errors"
	"net"
	"net/http"
	"net/url"
	"strings"

	"tabard/guard/reason"
)

const originHeader = "Webhook-Request-Origin"

// isValidation reports whether a request is the service's endpoint validation
// (abuse protection, event-handlers.md 5): OPTIONS, or GET where something on the
// way answered OPTIONS with 404.
func isValidation(r *http.Request) bool {
	return (r.Method == http.MethodOptions || r.Method == http.MethodGet) && len(r.Header[originHeader]) > 0
}

// answerValidation tells the service whether it may send events here.
func (g *Guard) answerValidation(w http.ResponseWriter, r *http.Request) {
	if g.opt.TokenOnValidation || len(r.Header["Authorization"]) > 0 {
		if _, err := g.authenticate(r); err != nil {
			g.refuse(w, r, err)
			return
		}
	}
	allowed := g.allowedOrigins(r.Header[originHeader])
	if len(allowed) == 0 {
		g.refuse(w, r, &Error{Code: reason.ValidationOriginDenied, Status: http.StatusForbidden,
			Message: "the service's origin is " + show(strings.Join(r.Header[originHeader], ", ")) + ", which is not allowed"})
		return
	}
	for _, origin := range allowed {
		w.Header().Add("WebHook-Allowed-Origin", origin)
	}
	w.WriteHeader(http.StatusOK)
}

// allowedOrigins returns the answer's header lines. A service with several names
// may ask for all of them in one header, divided by commas; one line is answered
// for each, since a service compares whole lines.
func (g *Guard) allowedOrigins(asked []string) []string {
	if len(g.opt.AllowedOrigins) == 0 {
		return []string{"*"}
	}
	var list []string
	for _, line := range asked {
		for origin := range strings.SplitSeq(line, ",") {
			origin = strings.TrimSpace(origin)
			for _, host := range g.opt.AllowedOrigins {
				if headerSafe(origin) && sameHost(origin, host) && len(list) < 16 {
					list = append(list, origin)
					break
				}
			}
		}
	}
	return list
}

// sameHost compares the origin that a service names, usually a bare host name,
// with an allowed one. A port counts only if both have one.
func sameHost(origin, allowed string) bool {
	if strings.EqualFold(origin, allowed) {
		return true
	}
	host, _, err := net.SplitHostPort(allowed)
	if err == nil && strings.EqualFold(origin, host) {
		return true
	}
	host, _, err = net.SplitHostPort(origin)
	return err == nil && strings.EqualFold(host, allowed)
}

// originHost reduces an allowed origin, given as a URL or as a host with or
// without port, to the latter.
func originHost(s string) (string, error) {
	if u, err := url.Parse(s); err == nil && u.Host != "" {
		s = u.Host
	}
	if s == "" || strings.ContainsAny(s, "/,*\" ") || !headerSafe(s) {
		return "", errors.New("is not a host name; leave AllowedOrigins empty to allow any")
	}
	return s, nil
}
