package tokenservice

import (
	"crypto/rsa"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"math/big"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"

	"tabard/internal/directory"
	"tabard/internal/egress"
	"tabard/internal/throttle"
)

// A foreignIssuer publishes discovery document and keys over TLS, as a cluster does. Tests change what it answers.
type foreignIssuer struct {
	*httptest.Server
	key       *rsa.PrivateKey
	documents atomic.Int64 // requests for the discovery document
	sets      atomic.Int64 // and for the keys
	answer    atomic.Value // func(w, r, default) bool: answers itself
	issuer    string
}

func jwk(kid string, key *rsa.PublicKey) map[string]any {
	return map[string]any{
		"kty": "RSA", "use": "sig", "alg": "RS256", "kid": kid, "n": base64.RawURLEncoding.EncodeToString(key.N.Bytes()),
		"e": base64.RawURLEncoding.EncodeToString(big.NewInt(int64(key.E)).Bytes()),
	}
}

func newForeignIssuer(t testing.TB, suffix string) *foreignIssuer {
	t.Helper()
	x := &foreignIssuer{key: must(pooledKey())(t)}
	x.answer.Store(func(http.ResponseWriter, *http.Request) bool { return false })
	x.Server = httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if x.answer.Load().(func(http.ResponseWriter, *http.Request) bool)(w, r) {
			return
		}
		switch r.URL.Path {
		case "/.well-known/openid-configuration":
			x.documents.Add(1)
			_ = json.NewEncoder(w).Encode(map[string]any{"issuer": x.issuer, "jwks_uri": x.URL + "/keys"})
		case "/keys":
			x.sets.Add(1)
			_ = json.NewEncoder(w).Encode(map[string]any{"keys": []any{jwk("one", &x.key.PublicKey), "not a key", map[string]any{"kty": "EC"}}})
		default:
			http.NotFound(w, r)
		}
	}))
	t.Cleanup(x.Close)
	x.issuer = x.URL + suffix
	return x
}

const subject1 = "system:serviceaccount:default:sender"

func (x *foreignIssuer) sign(t testing.TB, h *house, edit func(*draft)) string {
	now := h.clock.Now()
	d := draft{
		alg: jose.RS256, key: x.key, header: map[jose.HeaderKey]any{"kid": "one"},
		claims: map[string]any{
			"iss": x.issuer, "sub": subject1, "aud": []string{directory.TokenExchange}, "iat": now.Unix(), "nbf": now.Unix(), "exp": now.Add(time.Hour).Unix(),
			"kubernetes.io": map[string]any{"namespace": "default"},
		},
	}
	if edit != nil {
		edit(&d)
	}
	return d.sign(t)
}

// trusting opens a house whose egress reaches the issuer, and an application and identity that trust it.
func trusting(t testing.TB, x *foreignIssuer, policy egress.Policy) (*house, directory.Application, directory.UserAssignedIdentity) {
	t.Helper()
	policy.RootCAs = x.Client().Transport.(*http.Transport).TLSClientConfig.RootCAs
	out := egress.New(policy)
	t.Cleanup(out.Close)
	h := open(t, t.TempDir(), func(o *Options) { o.Transport = out.Transport() })
	app, _ := h.register(t, directory.Application{DisplayName: "client"})
	u := h.identity(t, "sender")
	for _, owner := range []string{app.ID, u.ID} {
		if _, err := h.directory.CreateFederatedCredential(t.Context(), owner, directory.FederatedCredential{Name: "cluster", Issuer: x.issuer, Subject: subject1}); err != nil {
			t.Fatal(err)
		}
	}
	return h, app, u
}

func TestA28AWorkloadExchangesItsTokenAsApplicationAndAsIdentity(t *testing.T) {
	for _, suffix := range []string{"", "/"} { // issuers with and without a slash behind
		x := newForeignIssuer(t, suffix)
		h, app, u := trusting(t, x, egress.Policy{AllowLoopback: true})
		_, c := h.granted(t, h.assert(app.AppID, x.sign(t, h, nil)+"\n", vaultScope)) // the file's last line break comes along
		if c["appid"] != app.AppID || c["appidacr"] != "2" || c["xms_mirid"] != nil {
			t.Errorf("application: %v", c)
		}
		again := x.sign(t, h, nil)
		for range 3 { // a projected token is presented until it is replaced
			_, c = h.granted(t, h.assert(u.ClientID, again, vaultScope))
		}
		if c["oid"] != u.PrincipalID || c["appid"] != u.ClientID || c["xms_mirid"] != u.ID {
			t.Errorf("identity: %v", c)
		}
		if x.documents.Load() != 1 || x.sets.Load() != 1 {
			t.Errorf("%d documents and %d key sets were fetched", x.documents.Load(), x.sets.Load())
		}
	}
}

func TestA29A30WhatDoesNotMatchIsNamed(t *testing.T) {
	x := newForeignIssuer(t, "")
	h, app, _ := trusting(t, x, egress.Policy{AllowLoopback: true})
	bare, _ := h.register(t, directory.Application{DisplayName: "bare"})
	now := h.clock.Now()
	claim := func(name string, value any) func(*draft) { return func(d *draft) { d.claims[name] = value } }
	for _, row := range []struct {
		name   string
		client string
		edit   func(*draft)
		status int
		oauth  string
		code   int
		says   string
	}{
		{"an issuer with a slash more", "", claim("iss", x.issuer+"/"), 401, "invalid_client", 700211, "'" + x.issuer + "/'"},
		{"another issuer", "", claim("iss", "https://attacker.example"), 401, "invalid_client", 700211, "'https://attacker.example'"},
		{"a subject in another case", "", claim("sub", strings.ToUpper(subject1)), 401, "invalid_client", 7002138, "case-sensitive"},
		{"another subject", "", claim("sub", "system:serviceaccount:default:other"), 401, "invalid_client", 700213, "'system:serviceaccount:default:other'"},
		{"another audience", "", claim("aud", "https://kubernetes.default.svc"), 401, "invalid_client", 700212, "'https://kubernetes.default.svc'"},
		{"the id of the exchange, which only our own tokens carry in the issuer's name", "", claim("aud", []string{"x"}), 401, "invalid_client", 700212, directory.TokenExchange},
		{"a client without credentials", bare.AppID, nil, 401, "invalid_client", 70025, "no configured"},
		{"PS256", "", func(d *draft) { d.alg = jose.PS256 }, 400, "invalid_request", 900384, "RS256"},
		{"an unknown kid", "", func(d *draft) { d.header["kid"] = "two" }, 400, "invalid_request", 900384, `"two"`},
		{"a kid of a path", "", func(d *draft) { d.header["kid"] = "../../keys\x00'" }, 400, "invalid_request", 900384, ""},
		{"no kid", "", func(d *draft) { delete(d.header, "kid") }, 400, "invalid_request", 900384, ""},
		{"another key under the same kid", "", func(d *draft) { d.key = weakly(t, keyPair{key: x.key}) }, 400, "invalid_request", 900384, "signature"},
		{"expired", "", claim("exp", now.Add(-6*time.Minute).Unix()), 401, "invalid_client", 700024, ""},
		{"not yet valid", "", claim("nbf", now.Add(6*time.Minute).Unix()), 401, "invalid_client", 700024, ""},
		{"for two years", "", claim("exp", now.AddDate(2, 0, 0).Unix()), 401, "invalid_client", 50013, ""},
		{"without exp", "", func(d *draft) { delete(d.claims, "exp") }, 400, "invalid_request", 90014, "'exp'"},
	} {
		t.Run(row.name, func(t *testing.T) {
			h.failures = throttle.New(failureBurst, failureEvery)
			client := app.AppID
			if row.client != "" {
				client = row.client
			}
			f := wantFailure(t, h.assert(client, x.sign(t, h, row.edit), vaultScope), row.status, row.oauth, row.code)
			if !strings.Contains(f.ErrorDescription, row.says) {
				t.Errorf("%s", f.ErrorDescription)
			}
		})
	}
	// The audience of our own exchange by its id is accepted from anybody, since both name the same.
	h.granted(t, h.assert(app.AppID, x.sign(t, h, claim("aud", directory.TokenExchangeAppID)), vaultScope))
	curve := x.sign(t, h, nil)
	parts := strings.Split(curve, ".")
	es := base64.RawURLEncoding.EncodeToString([]byte(`{"alg":"ES256","kid":"one"}`)) + "." + parts[1] + "." + parts[2]
	wantFailure(t, h.assert(app.AppID, es, vaultScope), 400, "invalid_request", 900384) // A30
}

func TestB4B16WhatIsFetchedFromIssuersIsBounded(t *testing.T) {
	x := newForeignIssuer(t, "")
	h, app, _ := trusting(t, x, egress.Policy{AllowLoopback: true})
	h.granted(t, h.assert(app.AppID, x.sign(t, h, nil), vaultScope))
	ask := func(kid string) int {
		h.failures = throttle.New(failureBurst, failureEvery)
		return h.assert(app.AppID, x.sign(t, h, func(d *draft) { d.header["kid"] = kid }), vaultScope).Code
	}
	for i := range 50 { // B4: unknown keys make no more than one request per five minutes
		if status := ask(fmt.Sprint("unknown ", i)); status != 400 {
			t.Fatal(status)
		}
	}
	if n := x.sets.Load(); n != 1 {
		t.Errorf("unknown keys made %d fetches", n)
	}
	h.clock.advance(unknownKeyPause)
	for i := range 10 {
		ask(fmt.Sprint("unknown ", i))
	}
	if n := x.sets.Load(); n != 2 {
		t.Errorf("after five minutes: %d fetches", n)
	}

	// The issuer is down: what is known counts for a day, and no longer.
	x.answer.Store(func(w http.ResponseWriter, r *http.Request) bool { w.WriteHeader(503); return true })
	for _, step := range []time.Duration{refetchAfter, believeFor - refetchAfter - unknownKeyPause - time.Minute} {
		h.clock.advance(step)
		if status := ask("one"); status != 200 {
			t.Fatalf("after %v: %d", step, status)
		}
	}
	h.clock.advance(10 * time.Minute)
	if f := wantFailure(t, h.assert(app.AppID, x.sign(t, h, nil), vaultScope), 400, "invalid_request", 50166); !strings.Contains(f.ErrorDescription, "status 503") {
		t.Errorf("%s", f.ErrorDescription)
	}
	h.clock.advance(failurePause)

	reply := func(path, body string) func(http.ResponseWriter, *http.Request) bool {
		return func(w http.ResponseWriter, r *http.Request) bool {
			if r.URL.Path == path {
				_, _ = w.Write([]byte(body))
			}
			return r.URL.Path == path
		}
	}
	document := func(issuer, keys string) func(http.ResponseWriter, *http.Request) bool {
		return reply("/.well-known/openid-configuration", fmt.Sprintf(`{"issuer":%q,"jwks_uri":%q}`, issuer, keys))
	}
	redirect := func(path string) func(http.ResponseWriter, *http.Request) bool {
		return func(w http.ResponseWriter, r *http.Request) bool {
			if r.URL.Path == path {
				http.Redirect(w, r, "/elsewhere", http.StatusFound)
			}
			return r.URL.Path == path
		}
	}
	for name, answer := range map[string]func(http.ResponseWriter, *http.Request) bool{
		"a document of 2 MB":                  reply("/.well-known/openid-configuration", `{"x":"`+strings.Repeat("a", 2<<20)+`"}`),
		"keys of 10 MB":                       reply("/keys", `{"keys":["`+strings.Repeat("a", 10<<20)+`"]}`),
		"a document that is no JSON":          reply("/.well-known/openid-configuration", "<html>"),
		"keys that are no JSON":               reply("/keys", "[]"),
		"a redirected document":               redirect("/.well-known/openid-configuration"),
		"redirected keys":                     redirect("/keys"),
		"another issuer's document":           document("https://other.example", x.URL+"/keys"),
		"the issuer with a slash more":        document(x.issuer+"/", x.URL+"/keys"),
		"keys over http":                      document(x.issuer, "http://127.0.0.1:1/keys"),
		"keys with a user name":               document(x.issuer, strings.Replace(x.URL, "https://", "https://a:b@", 1)+"/keys"),
		"keys at a metadata address":          document(x.issuer, "https://169.254.169.254/keys"),
		"keys at an address that is private":  document(x.issuer, "https://10.0.0.1/keys"),
		"keys that nobody can be asked about": document(x.issuer, ""),
	} {
		x.answer.Store(answer)
		fresh, app, _ := trusting(t, x, egress.Policy{AllowLoopback: true, DenyPrivate: true})
		if f := wantFailure(t, fresh.assert(app.AppID, x.sign(t, fresh, nil), vaultScope), 400, "invalid_request", 50166); strings.Contains(f.ErrorDescription, "10.0.0.1") {
			t.Errorf("%s: %s", name, f.ErrorDescription)
		}
		fresh.stop()
	}

	// The key at place 101 does not count, the one at place 100 does.
	for filler, want := range map[int]int{maxForeignKeys - 1: 200, maxForeignKeys: 400} {
		var keys []any
		for i := range filler {
			keys = append(keys, jwk(fmt.Sprint("filler ", i), &x.key.PublicKey))
		}
		body := must(json.Marshal(map[string]any{"keys": append(keys, jwk("one", &x.key.PublicKey))}))(t)
		x.answer.Store(reply("/keys", string(body)))
		fresh, app, _ := trusting(t, x, egress.Policy{AllowLoopback: true})
		if w := fresh.assert(app.AppID, x.sign(t, fresh, nil), vaultScope); w.Code != want {
			t.Errorf("behind %d keys: %d %s", filler, w.Code, w.Body)
		}
	}
}

func TestB16IssuersAtForbiddenAddressesAreNotAsked(t *testing.T) {
	x := newForeignIssuer(t, "")
	own := netip.MustParseAddrPort(x.Listener.Addr().String())
	for name, policy := range map[string]egress.Policy{
		"loopback in production": {}, "denied": {AllowLoopback: true, Deny: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}},
		"a port of our own": {AllowLoopback: true, Refuse: egress.OwnPorts(func() []netip.AddrPort { return []netip.AddrPort{own} })},
	} {
		h, app, _ := trusting(t, x, policy)
		f := wantFailure(t, h.assert(app.AppID, x.sign(t, h, nil), vaultScope), 400, "invalid_request", 50166)
		if strings.Contains(f.ErrorDescription, "127.0.0.1 is") || x.documents.Load() != 0 {
			t.Errorf("%s: %s", name, f.ErrorDescription)
		}
	}
	h := start(t) // no transport at all
	app, _ := h.register(t, directory.Application{DisplayName: "client"})
	if _, err := h.directory.CreateFederatedCredential(t.Context(), app.ID, directory.FederatedCredential{Name: "cluster", Issuer: x.issuer, Subject: subject1}); err != nil {
		t.Fatal(err)
	}
	wantFailure(t, h.assert(app.AppID, x.sign(t, h, nil), vaultScope), 400, "invalid_request", 50166)
}

func TestB30WeakAndPrivateKeysOfIssuersDoNotCount(t *testing.T) {
	good := must(pooledKey())(t)
	spoil := func(name string, value any) json.RawMessage {
		k := jwk("one", &good.PublicKey)
		k[name] = value
		return must(json.Marshal(k))(t)
	}
	if kid, key := foreignKey(spoil("x5t", "x")); kid != "one" || !key.Equal(good.Public()) {
		t.Fatal("a good key is not read")
	}
	for name, raw := range map[string]json.RawMessage{
		"weak":           spoil("n", base64.RawURLEncoding.EncodeToString(good.N.Bytes()[:127])),
		"huge":           spoil("n", strings.Repeat("A_", 1000)),
		"even exponent":  spoil("e", "Ag"),
		"exponent one":   spoil("e", "AQ"),
		"long exponent":  spoil("e", "AQAAAAAAAQ"),
		"private":        spoil("d", "AQAB"),
		"for encryption": spoil("use", "enc"),
		"of another alg": spoil("alg", "PS256"),
		"symmetric":      spoil("kty", "oct"),
		"no kid":         spoil("kid", ""),
		"a long kid":     spoil("kid", strings.Repeat("a", maxKeyID+1)),
		"no JSON":        json.RawMessage("x"),
	} {
		if _, key := foreignKey(raw); key != nil {
			t.Errorf("%s: counts", name)
		}
	}
}

func TestTheMemoryOfIssuersIsBounded(t *testing.T) {
	x, now := &issuers{known: map[string]*issuerKeys{}}, time.Now()
	for i := range 2 * maxIssuers {
		x.entry(fmt.Sprint(i), now.Add(time.Duration(i)))
	}
	if len(x.known) != maxIssuers || x.known[fmt.Sprint(2*maxIssuers-1)] == nil || x.known["0"] != nil {
		t.Errorf("%d are remembered", len(x.known))
	}
}

func TestB17OfOurOwnTokensOnlyThoseOfUserAssignedIdentitiesAreCredentials(t *testing.T) {
	h := start(t)
	system, user := h.system(t), h.user(t)
	app, sp := h.register(t, directory.Application{DisplayName: "client"})
	secret := h.secret(t, app)
	h.register(t, directory.Application{DisplayName: "orders", IdentifierURIs: []string{"api://orders"}, RequestedAccessTokenVersion: two()})
	trust := func(name, issuer, subject string, audience ...string) {
		t.Helper()
		if _, err := h.directory.CreateFederatedCredential(t.Context(), app.ID, directory.FederatedCredential{Name: name, Issuer: issuer, Subject: subject, Audiences: audience}); err != nil {
			t.Fatal(err)
		}
	}
	trust("user", h.IssuerV2(), user.PrincipalID)
	trust("system", h.IssuerV2(), system.PrincipalID)
	trust("application", h.IssuerV2(), sp.ID)
	trust("version-1", h.Issuer(), user.PrincipalID, "https://vault.azure.net")

	exchange := h.mint(t, user, directory.TokenExchange)
	_, c := h.granted(t, h.assert(app.AppID, exchange.Raw, vaultScope))
	if c["appid"] != app.AppID || c["oid"] != sp.ID || c["appidacr"] != "2" {
		t.Errorf("%v", c)
	}
	if !strings.Contains(string(exchange.Claims), `"ver":"2.0"`) || !strings.Contains(string(exchange.Claims), directory.TokenExchangeAppID) {
		t.Errorf("%s", exchange.Claims)
	}
	body, _ := h.granted(t, h.post(2, nil, "client_id", app.AppID, "client_secret", secret, "scope", directory.TokenExchange+"/.default"))

	wantFailure(t, h.assert(app.AppID, h.mint(t, system, directory.TokenExchange).Raw, vaultScope), 400, "unauthorized_client", 700229)
	wantFailure(t, h.assert(app.AppID, body["access_token"].(string), vaultScope), 400, "unauthorized_client", 700229)
	wantFailure(t, h.assert(app.AppID, h.mint(t, user, "https://vault.azure.net").Raw, vaultScope), 400, "unauthorized_client", 700229)
	wantFailure(t, h.assert(app.AppID, h.mint(t, user, "api://orders").Raw, vaultScope), 401, "invalid_client", 700212)
	forged := draft{alg: jose.RS256, key: must(pooledKey())(t), header: map[jose.HeaderKey]any{"kid": h.Keys()[0].ID}}
	if err := json.Unmarshal(exchange.Claims, &forged.claims); err != nil {
		t.Fatal(err)
	}
	for range 4 { // one of the pool is the service's own
		if raw := forged.sign(t); strings.Split(raw, ".")[2] != strings.Split(exchange.Raw, ".")[2] {
			if a, _ := parseAssertion(raw, jose.RS256); !a.signedBy(h.ownKey(h.Keys()[0].ID)) {
				wantFailure(t, h.assert(app.AppID, raw, vaultScope), 400, "invalid_request", 900384)
			}
		}
		forged.key = must(pooledKey())(t)
	}
	// The identity is gone, and with it what its tokens prove.
	if err := h.directory.DeleteUserAssignedIdentity(t.Context(), user.ResourceID); err != nil {
		t.Fatal(err)
	}
	wantFailure(t, h.assert(app.AppID, exchange.Raw, vaultScope), 400, "unauthorized_client", 700229)
	// A system-assigned identity can be spoken for by nobody.
	wantFailure(t, h.assert(system.ClientID, exchange.Raw, vaultScope), 401, "invalid_client", 70025)
}

func TestB31ARevokedKeyThatABackupRestoresIsRevokedOnStart(t *testing.T) {
	dir := t.TempDir()
	h := open(t, dir, nil)
	active := h.Keys()[0].ID
	token := h.mint(t, h.system(t), "https://vault.azure.net")
	h.stop() // the state as it was backed up

	h = open(t, dir, func(o *Options) { o.RevokedKeys = []string{active, "unknown"} })
	if h.ownKey(active) != nil || h.Keys()[0].ID == active || len(h.Keys()) != 2 {
		t.Errorf("%+v", h.Keys())
	}
	if a, _ := parseAssertion(token.Raw, jose.RS256); h.ownKey(a.header.Kid) != nil {
		t.Error("the key of the old token is still published")
	}
}
