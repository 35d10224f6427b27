package tabard

import (
	"crypto/tls"
	"net/http"
	"slices"
	"testing"

	"tabard/internal/settings"
)

func originsOf(cfg Config) *origins {
	o := newOrigins(cfg)
	o.bound.Store(&bound{public: "127.0.0.1:8080", admin: "127.0.0.1:8081", instances: map[string]string{"own": "127.0.0.1:9000"}})
	return o
}

func TestOriginsOfAnInstance(t *testing.T) {
	public := Config{PublicURL: []string{"https://WPS.example.com", "http://wps.internal:8080"}}
	for _, tc := range []struct {
		name, instance             string
		cfg                        Config
		endpoint, https, host      string
		alsoAudience, alsoAnswered string
	}{
		{"the default instance is on the bound address", "default", Config{},
			"http://127.0.0.1:8080", "https://127.0.0.1:8080", "127.0.0.1", "https://127.0.0.1:8080", "127.0.0.1:8080"},
		{"without plain http it is https alone", "default", Config{TLSOnly: true},
			"https://127.0.0.1:8080", "https://127.0.0.1:8080", "127.0.0.1", "https://127.0.0.1:8080", "127.0.0.1:8080"},
		{"another instance is a name before the host", "Two", Config{},
			"http://two.localhost:8080", "https://two.localhost:8080", "two.localhost", "https://two.localhost:8080", "two.localhost:8080"},
		{"an address of its own needs no name", "own", Config{},
			"http://127.0.0.1:9000", "https://127.0.0.1:9000", "127.0.0.1", "http://127.0.0.1:9000", "127.0.0.1:9000"},
		{"the first public URL is preferred, the others are audiences too", "default", public,
			"https://wps.example.com", "https://wps.example.com", "wps.example.com", "http://wps.internal:8080", ""},
		{"another instance below public URLs", "two", public,
			"https://two.wps.example.com", "https://two.wps.example.com", "two.wps.example.com", "http://two.wps.internal:8080", ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			o := originsOf(tc.cfg)
			in := &settings.Instance{Name: tc.instance}
			if got := o.endpoint(in); got != tc.endpoint {
				t.Errorf("endpoint %s, want %s", got, tc.endpoint)
			}
			if got := o.httpsEndpoint(in); got != tc.https {
				t.Errorf("https endpoint %s, want %s", got, tc.https)
			}
			if got := o.endpoints(in); !slices.Contains(got, tc.alsoAudience) {
				t.Errorf("audiences %v lack %s", got, tc.alsoAudience)
			}
			host, aliases := o.hostName(in)
			if host != tc.host || tc.alsoAnswered != "" && !slices.Contains(aliases, tc.alsoAnswered) {
				t.Errorf("host %s, aliases %v; want %s, %s", host, aliases, tc.host, tc.alsoAnswered)
			}
		})
	}
}

func TestTheOriginThatACallerUsed(t *testing.T) {
	public := []string{"https://WPS.example.com:443", "http://wps.internal:8080"}
	for _, tc := range []struct {
		name   string
		public []string
		host   string
		secure bool
		want   string
	}{
		{"without public URLs the connection tells", nil, "h:8080", false, "http://h:8080"},
		{"and over TLS", nil, "h:8080", true, "https://h:8080"},
		{"behind a proxy that ends TLS", public, "wps.example.com", false, "https://wps.example.com"},
		{"another instance behind it", public, "two.WPS.example.com", false, "https://two.WPS.example.com"},
		{"a public URL in plain", public, "wps.internal:8080", false, "http://wps.internal:8080"},
		{"another port of a public host", public, "wps.example.com:8443", false, "http://wps.example.com:8443"},
		{"a host that only ends like a public one", public, "evilwps.example.com", false, "http://evilwps.example.com"},
		{"two names below a public host", public, "a.b.wps.example.com", false, "http://a.b.wps.example.com"},
		{"both schemes are public: in plain", []string{"https://h.example", "http://h.example"}, "h.example", false, "http://h.example"},
		{"both schemes are public: over TLS", []string{"http://h.example", "https://h.example"}, "h.example", true, "https://h.example"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			r := &http.Request{Host: tc.host, Header: http.Header{"X-Forwarded-Proto": {"gopher"}, "X-Forwarded-Host": {"evil.example"}}}
			if tc.secure {
				r.TLS = &tls.ConnectionState{}
			}
			if got := originsOf(Config{PublicURL: tc.public}).reached(r); got != tc.want {
				t.Errorf("%s, want %s", got, tc.want)
			}
		})
	}
}

func TestTheHostSelectsTheInstance(t *testing.T) {
	o := originsOf(Config{PublicURL: []string{"https://wps.example.com"}})
	for host, want := range map[string]string{ // empty: a custom domain's, or nobody's
		"wps.example.com":          "default",
		"WPS.example.com:443":      "default",
		"two.wps.example.com":      "two",
		"Two.WPS.example.com.":     "two",
		"a.b.wps.example.com":      "", // not one label below: no instance has that name
		"two.localhost:8080":       "two",
		"localhost:8080":           "default",
		"127.0.0.1:8080":           "default",
		"[::1]:8080":               "default",
		"unknown-proxy.internal":   "",
		"two.evil.example":         "",
		"wps.example.com.evil.com": "",
	} {
		if got, ok := o.named(host); got != want || ok != (want != "") {
			t.Errorf("Host %s selects %q, want %q", host, got, want)
		}
	}
}

func TestTheAuthorityIsAlwaysHTTPS(t *testing.T) {
	for _, tc := range []struct {
		cfg  Config
		want string
	}{
		{Config{}, "https://127.0.0.1:8080"},
		{Config{PublicURL: []string{"http://a.example", "https://b.example"}}, "https://b.example"},
		{Config{PublicURL: []string{"http://a.example"}}, "https://127.0.0.1:8080"},
	} {
		if got := originsOf(tc.cfg).authority(); got != tc.want {
			t.Errorf("public URLs %v: authority %s, want %s", tc.cfg.PublicURL, got, tc.want)
		}
	}
}
