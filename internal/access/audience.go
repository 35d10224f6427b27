package access

import (
	"net/http"
	"strings"

	"tabard/guard/reason"
	"tabard/internal/settings"
)

// Audiences are URLs, and every SDK writes them a little differently (client-protocols.md 2.3, rest-api.md 5.1): one
// lower-cases the endpoint, one keeps the port that everybody knows, one escapes what another does not, and behind
// a proxy the scheme and the host are not those of the request. What is compared is therefore: the authority without
// a default port, of the request or of a configured endpoint; and the rest without letter case and with escapes
// undone. http and https are the same, since the service may stand behind a proxy that ends TLS. Nothing shorter
// than the whole address is accepted.

// allowed tells whether one of the audiences is at an origin of the instance and names a resource that names accepts.
func (v *Verifier) allowed(in *settings.Instance, r *http.Request, audiences []string, names func(resource string) bool) bool {
	for _, aud := range audiences {
		authority, resource, ok := splitURL(aud)
		if !ok || !names(resource) {
			continue
		}
		if sameAuthority(authority, r.Host) {
			return true
		}
		for _, endpoint := range v.opt.Endpoints(in) {
			if own, _, ok := splitURL(endpoint); ok && sameAuthority(authority, own) {
				return true
			}
		}
	}
	return false
}

func audienceMismatch(audiences []string, want string) *Refusal {
	got := strings.Join(audiences, ", ")
	if len(got) > 512 {
		got = strings.ToValidUTF8(got[:512], "") + "…"
	}
	if got == "" {
		return unauthorized(reason.AudienceMismatch, "The token has no audience, want %s.", want)
	}
	return unauthorized(reason.AudienceMismatch, "The token's audience is %q, want %s at an address of this instance.", got, want)
}

// splitURL cuts an http or https URL after its authority. A URL with a fragment or with user information is no
// audience.
func splitURL(u string) (authority, resource string, ok bool) {
	scheme, rest, found := strings.Cut(u, "://")
	if !found || !strings.EqualFold(scheme, "http") && !strings.EqualFold(scheme, "https") {
		return "", "", false
	}
	if strings.ContainsRune(rest, '#') {
		return "", "", false
	}
	if i := strings.IndexAny(rest, "/?"); i >= 0 {
		rest, resource = rest[:i], rest[i:]
	}
	return rest, resource, rest != "" && !strings.ContainsRune(rest, '@')
}

func sameAuthority(a, b string) bool {
	return strings.EqualFold(withoutDefaultPort(a), withoutDefaultPort(b))
}

func withoutDefaultPort(authority string) string {
	return strings.TrimSuffix(strings.TrimSuffix(authority, ":443"), ":80")
}

// sameResource compares two paths or two queries without letter case and with escapes undone. The escapes of
// characters that separate parts of a URL are not undone: "a%2Fb" is one segment and not the same as "a/b".
func sameResource(a, b string) bool {
	if a == b { // as most SDKs have it
		return true
	}
	for a != "" && b != "" {
		ca, na := nextChar(a)
		cb, nb := nextChar(b)
		if ca != cb {
			return false
		}
		a, b = a[na:], b[nb:]
	}
	return a == b
}

const escaped = 0x100 // marks an escaped separator

func nextChar(s string) (c, size int) {
	c, size = int(s[0]), 1
	if c == '%' && len(s) >= 3 {
		hi, ok1 := unhex(s[1])
		lo, ok2 := unhex(s[2])
		if ok1 && ok2 {
			c, size = hi<<4|lo, 3
			if strings.IndexByte("/?#%&=+", byte(c)) >= 0 {
				return c | escaped, size
			}
		}
	}
	if 'A' <= c && c <= 'Z' {
		c += 'a' - 'A'
	}
	return c, size
}

func unhex(c byte) (int, bool) {
	switch {
	case '0' <= c && c <= '9':
		return int(c - '0'), true
	case 'a' <= c && c <= 'f':
		return int(c-'a') + 10, true
	case 'A' <= c && c <= 'F':
		return int(c-'A') + 10, true
	}
	return 0, false
}
