package guard_test

import (
	"net/http"
	"strings"
	"testing"

	"tabard/guard"
	"tabard/guard/reason"
)

func TestTheChallengeSaysWhy(t *testing.T) {
	g := newRig(t, guard.Options{Realm: "orders"}, guard.Handlers{})
	bearer := func(changes ...any) string {
		return "Bearer " + g.issuer.token(with(g.issuer.claims(g.clock), changes...))
	}
	for _, tc := range []struct {
		name, authorization, want string
	}{
		{"both values, fit for a quoted string", bearer("aud", "api://b\"\\ü"),
			`Bearer realm="orders", error="invalid_token", error_description="wrong_audience: audience is 'api://b/'///u00fc', want 'api://handler' or '` + appID + `'"`},
		{"a line end in a claim cannot begin a header", bearer("tid", "x\r\nSet-Cookie: a=b"),
			`Bearer realm="orders", error="invalid_token", error_description="wrong_tenant: the token's tenant (tid) is 'x/r/nSet-Cookie: a=b', which is not a tenant id"`},
		{"a good token that does not suffice", bearer("scp", "x"),
			`Bearer realm="orders", error="insufficient_scope", error_description="not_app_token: the token is not an application's access token: it is a user's (it has scp)"`},
	} {
		t.Run(tc.name, func(t *testing.T) {
			res := g.send(g.event("user", "x", "hi", "Authorization", tc.authorization))
			if got := res.header.Get("WWW-Authenticate"); got != tc.want {
				t.Errorf("got  %s\nwant %s", got, tc.want)
			}
			// The service forwards the body of a refused connect to the client, whose token this is not.
			if strings.Contains(res.body, "api://") || strings.Contains(res.body, tenant) {
				t.Errorf("the body has values: %s", res.body)
			}
		})
	}
}

func TestAnIssuerThatIsDownIsNotTheCallersFault(t *testing.T) {
	g := newRig(t, guard.Options{}, guard.Handlers{})
	g.issuer.Close()
	res := g.send(g.event("user", "x", "hi"))
	if res.status != http.StatusServiceUnavailable || res.code() != reason.DiscoveryFailed || res.header.Get("Retry-After") != "1" || res.header.Get("WWW-Authenticate") != "" {
		t.Errorf("%d %v %s", res.status, res.header, res.body)
	}
	if strings.Contains(res.body, "127.0.0.1") {
		t.Errorf("the body names the issuer's address: %s", res.body)
	}
}

func TestObserveSeesEachVerification(t *testing.T) {
	var seen []guard.Verification
	g := newRig(t, guard.Options{Observe: func(v guard.Verification) { seen = append(seen, v) }}, guard.Handlers{})
	g.do(g.event("user", "x", "hi"))
	g.do(g.event("user", "x", "hi"))
	g.do(g.event("user", "x", "hi", "Authorization", ""))
	if len(seen) != 3 {
		t.Fatalf("%d verifications", len(seen))
	}
	for i, v := range seen[:2] {
		if v.Err != nil || v.Claims.ObjectID != principal || len(v.Checks) != 12 || v.Cached != (i == 1) || v.RemoteAddr == "" {
			t.Errorf("number %d: %+v", i, v)
		}
	}
	if v := seen[2]; v.Err == nil || v.Err.Code != reason.TokenMissing || len(v.Checks) != 1 || v.Checks[0].OK || v.Checks[0].Name != "authorization" {
		t.Errorf("without token: %+v", v)
	}
}

func TestValidationOriginsAreComparedWhole(t *testing.T) {
	for _, tc := range []struct {
		name, allowed, origin, want string
	}{
		{"an allowed host, an origin with a port", "svc.example", "svc.example:8443", "svc.example:8443"},
		{"another port", "svc.example:1", "svc.example:2", ""},
		{"an allowed beginning", "svc.example", "svc.example.evil", ""},
		{"an allowed end", "svc.example", "evil-svc.example", ""},
		{"several at once, one line for each that is allowed", "svc.example", "a, svc.example,SVC.EXAMPLE", "svc.example|SVC.EXAMPLE"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			g := newRig(t, guard.Options{AllowedOrigins: []string{tc.allowed}}, guard.Handlers{})
			r := g.event("user", "x", "", "WebHook-Request-Origin", tc.origin)
			r.Method = http.MethodOptions
			if got := strings.Join(g.send(r).header.Values("WebHook-Allowed-Origin"), "|"); got != tc.want {
				t.Errorf("got %q", got)
			}
		})
	}
	g := newRig(t, guard.Options{}, guard.Handlers{})
	r := g.event("user", "x", "", "WebHook-Request-Origin", "")
	r.Method = http.MethodOptions
	if res := g.send(r); res.status != http.StatusBadRequest || res.code() != reason.OriginMissing {
		t.Errorf("no origin: %d %s", res.status, res.body)
	}
}

func TestNobodyGetsRoundTheSignature(t *testing.T) {
	const good = "sha256=5df1dae6dae694d8b33f4be6e32838c9b84f1195e93eb00887ef373743b7d370" // event-handlers.md 4.1
	const id, key = "0f5a6b6f2c7e4a54b0d1c7a0e3f4d5b6", "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789ABCDEFGH"
	other := "sha256=" + strings.Repeat("00", 32)
	g := newRig(t, guard.Options{AccessKeys: []string{"other", key}}, guard.Handlers{})
	for _, tc := range []struct {
		name, signature string
		pairs           []string
		want            reason.Code
	}{
		{"the eighth value", strings.Repeat(other+",", 7) + good, nil, ""},
		{"the ninth value is not looked at", strings.Repeat(other+",", 8) + good, nil, reason.EventSignatureInvalid},
		{"no connection", good, []string{"ce-connectionId", ""}, reason.EventSignatureMissing},
		{"a request that is no event", "", []string{"ce-type", "", "ce-awpsversion", ""}, reason.EventSignatureMissing},
		{"without sha256=", good[7:], nil, reason.EventSignatureInvalid},
		{"an empty value", "sha256=", nil, reason.EventSignatureInvalid},
	} {
		t.Run(tc.name, func(t *testing.T) {
			pairs := append([]string{"ce-connectionId", id, "ce-signature", tc.signature}, tc.pairs...)
			if res := g.send(g.event("user", "x", "hi", pairs...)); res.code() != tc.want {
				t.Errorf("got %d %s", res.status, res.body)
			}
		})
	}
	r := g.event("user", "x", "hi", "ce-connectionId", id, "ce-signature", good)
	r.Header.Add("ce-connectionId", "victim")
	if res := g.send(r); res.code() != reason.EventSignatureMissing {
		t.Errorf("two connection ids: %d %s", res.status, res.body)
	}
}
