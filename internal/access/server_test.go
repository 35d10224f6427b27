package access

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"tabard/guard/reason"
	"tabard/internal/settings"
)

func call(url, token string) *http.Request {
	r := httptest.NewRequest("POST", url, nil)
	r.Header.Set("Authorization", "Bearer "+token)
	return r
}

// server is what a server may do with an access key: anything, so any action will do.
func server(v *Verifier, in *settings.Instance, r *http.Request) error {
	p, err := v.Server(in, r, sendAction)
	if p != (Principal{}) {
		panic("a holder of an access key has become a principal")
	}
	return err
}

func serverToken(aud any) string { return sign(primary, m{"aud": aud, "exp": now.Unix() + 60}) }

func TestAudiencesOfServers(t *testing.T) {
	const (
		url  = "http://example.com/api/hubs/chat/:send?api-version=2024-12-01&filter=userId%20eq%20%27x%27"
		want = reason.AudienceMismatch
	)
	for _, tc := range []struct {
		name, url, aud string
		want           reason.Code
	}{
		{"the whole URL", url, url, ""},
		{"without query", url, "http://example.com/api/hubs/chat/:send", ""},
		{"with another query", url, "http://example.com/api/hubs/chat/:send?api-version=2024-12-01", want},
		{"with an empty query", url, "http://example.com/api/hubs/chat/:send?", want},
		{"with more query", "http://example.com/api/hubs/chat/:send", url, want},
		{"in other letters", url, strings.ToUpper(url), ""},
		{"with escapes undone", url, "http://example.com/api/hubs/chat/:send?api-version=2024-12-01&filter=userId eq 'x'", ""},
		{"with a separator of the query unescaped", "/api/hubs/chat/:send?filter=a%26b%3Dc", "http://example.com/api/hubs/chat/:send?filter=a&b=c", want},
		{"with the colon escaped", url, "http://example.com/api/hubs/chat/%3Asend", ""},
		{"https", url, "https://example.com/api/hubs/chat/:send", ""},
		{"the public endpoint behind a reverse proxy", url, "https://pubsub.example.com/api/hubs/chat/:send", ""},
		{"the public endpoint with its default port", url, "https://pubsub.example.com:443/api/hubs/chat/:send", ""},
		{"another path", url, "http://example.com/api/hubs/chat/:closeConnections", want},
		{"the hub alone, as the documentation's example", url, "http://example.com/api/hubs/chat", want},
		{"the origin alone", url, "http://example.com", want},
		{"the beginning of the path", url, "http://example.com/api/hubs/chat/:sen", want},
		{"more than the path", url, "http://example.com/api/hubs/chat/:send/x", want},
		{"with a trailing slash", url, "http://example.com/api/hubs/chat/:send/", want},
		{"another hub", url, "http://example.com/api/hubs/other/:send", want},
		{"another host", url, "http://evil.example/api/hubs/chat/:send", want},
		{"a client's audience", url, "http://example.com/client/hubs/chat", want},
		{"the audience of the directory", url, "https://webpubsub.azure.com", want},
		{"an escaped slash", "/api/hubs/chat/groups/g%2F1/:send", "http://example.com/api/hubs/chat/groups/g%2f1/:send", ""},
		{"an escaped slash is not a slash", "/api/hubs/chat/groups/a%2Fconnections%2Fc", "http://example.com/api/hubs/chat/groups/a/connections/c", want},
		{"an escaped percent sign", "/api/hubs/chat/users/50%25/:send", "http://example.com/api/hubs/chat/users/50%25/:send", ""},
		{"an escaped percent sign is not an escape", "/api/hubs/chat/users/%2541/:send", "http://example.com/api/hubs/chat/users/A/:send", want},
		{"a letter beyond ASCII unescaped", "/api/hubs/chat/users/%C3%A9/:send", "http://example.com/api/hubs/chat/users/é/:send", ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			v, r := verifier(), call(tc.url, serverToken(tc.aud))
			for _, try := range []string{"new", "seen"} {
				if got := code(server(v, instance(), r)); got != tc.want {
					t.Errorf("%s token: got %q, want %q", try, got, tc.want)
				}
			}
		})
	}
}

func TestAttacksOnServerTokens(t *testing.T) {
	const url = "http://example.com/api/hubs/chat/:send"
	for _, tc := range []struct {
		name, token string
		want        reason.Code
	}{
		{"alg none", encode(`{"alg":"none"}`) + "." + encode(`{"aud":"`+url+`","exp":1800000060}`) + ".", reason.AlgorithmNotAllowed},
		{"another instance's key", sign(stranger, m{"aud": url, "exp": now.Unix() + 60}), reason.KeySignatureInvalid},
		{"no exp", sign(primary, m{"aud": url}), reason.ExpiryMissing},
		{"expired", sign(primary, m{"aud": url, "exp": now.Unix() - 301}), reason.Expired},
		{"not yet valid", sign(primary, m{"aud": url, "exp": now.Unix() + 900, "nbf": now.Unix() + 301}), reason.NotYetValid},
		{"exp in milliseconds", sign(primary, m{"aud": url, "exp": now.UnixMilli()}), reason.ClaimInvalid},
		{"aud an object", sign(primary, m{"aud": m{}, "exp": now.Unix() + 60}), reason.ClaimInvalid},
		{"a token too large to be remembered, and bad", sign(stranger, m{"aud": url, "exp": now.Unix() + 60, "x": strings.Repeat("x", maxSeenToken)}), reason.KeySignatureInvalid},
		{"a mebibyte", strings.Repeat("a", 1<<20), reason.TokenTooLarge},
	} {
		t.Run(tc.name, func(t *testing.T) {
			v := verifier()
			for _, try := range []string{"first", "second"} {
				if got := code(server(v, instance(), call(url, tc.token))); got != tc.want {
					t.Errorf("%s time: got %q, want %q", try, got, tc.want)
				}
			}
			if n := len(v.servers.young); n != 0 {
				t.Errorf("%d tokens remembered", n)
			}
		})
	}

	r := httptest.NewRequest("POST", url, nil)
	if got := code(server(verifier(), instance(), r)); got != reason.NoToken {
		t.Errorf("no header: %q", got)
	}
	r = httptest.NewRequest("POST", url+"?access_token="+serverToken(url), nil)
	if got := code(server(verifier(), instance(), r)); got != reason.NoToken {
		t.Errorf("a token in the query: %q", got)
	}
	in := instance()
	in.DisableLocalAuth = true
	if got := code(server(verifier(), in, call(url, serverToken(url)))); got != reason.LocalAuthDisabled {
		t.Errorf("access keys off: %q", got)
	}
	in.Keys = settings.Keys{}
	in.DisableLocalAuth = false
	if got := code(server(verifier(), in, call(url, sign("", m{"aud": url, "exp": now.Unix() + 60})))); got != reason.KeySignatureInvalid {
		t.Errorf("an instance without keys: %q", got)
	}
}

func TestSeenTokensAreForgotten(t *testing.T) {
	const url = "http://example.com/api/hubs/chat/:send"
	clock := now
	v := New(Options{Now: func() time.Time { return clock }})
	in, r := instance(), call(url, serverToken(url))
	if err := server(v, in, r); err != nil {
		t.Fatal(err)
	}

	clock = now.Add(60*time.Second + Skew + time.Second)
	if got := code(server(v, in, r)); got != reason.Expired {
		t.Errorf("after its expiry: %q", got)
	}
	clock = now

	in.Keys.Primary = "regeneratedregeneratedregeneratedregenerated"
	if got := code(server(v, in, r)); got != reason.KeySignatureInvalid {
		t.Errorf("after its key was regenerated: %q", got)
	}
	other := &settings.Instance{Name: "other", Keys: settings.Keys{Primary: stranger, Secondary: stranger + "2"}}
	if got := code(server(v, other, r)); got != reason.KeySignatureInvalid {
		t.Errorf("for another instance: %q", got)
	}
	in.Keys = settings.Keys{Primary: stranger, Secondary: primary}
	if err := server(v, in, r); err != nil {
		t.Errorf("after its key became the secondary: %v", err)
	}

	for i := range 3 * maxSeenServers {
		u := fmt.Sprintf("http://example.com/api/hubs/h%d/:send", i)
		if err := server(v, in, call(u, serverToken(u))); err != nil {
			t.Fatal(err)
		}
		if i%100 == 0 { // what is asked for stays
			if err := server(v, in, r); err != nil {
				t.Fatal(err)
			}
		}
	}
	if n := len(v.servers.young) + len(v.servers.old); n > 2*maxSeenServers {
		t.Errorf("%d tokens remembered", n)
	}
}

func TestSeenServerTokenDoesNotAllocateMuch(t *testing.T) {
	const url = "http://example.com/api/hubs/chat/groups/g/:send?api-version=2024-12-01"
	v, in, r := verifier(), instance(), call(url, serverToken(url))
	n := testing.AllocsPerRun(100, func() {
		if err := server(v, in, r); err != nil {
			t.Fatal(err)
		}
	})
	if n > 0 {
		t.Errorf("%v allocations", n)
	}
}

func BenchmarkServerTokenNew(b *testing.B) {
	const url = "http://example.com/api/hubs/chat/groups/g/:send?api-version=2024-12-01"
	v, in, r := verifier(), instance(), call(url, serverToken(url))
	b.ReportAllocs()
	for b.Loop() {
		v.servers.young, v.servers.old = nil, nil
		if err := server(v, in, r); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkServerTokenSeen(b *testing.B) {
	const url = "http://example.com/api/hubs/chat/groups/g/:send?api-version=2024-12-01"
	v, in, r := verifier(), instance(), call(url, serverToken(url))
	b.ReportAllocs()
	for b.Loop() {
		if err := server(v, in, r); err != nil {
			b.Fatal(err)
		}
	}
}
