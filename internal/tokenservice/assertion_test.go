package tokenservice

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"math/big"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/google/uuid"

	"tabard/internal/directory"
	"tabard/internal/throttle"
)

func debugLog(w io.Writer) *slog.Logger {
	return slog.New(slog.NewTextHandler(w, &slog.HandlerOptions{Level: slog.LevelDebug}))
}

// A keyPair is a certificate and its key.
type keyPair struct {
	key *rsa.PrivateKey
	der []byte
}

func newKeyPair(t testing.TB, notBefore, notAfter time.Time) keyPair {
	t.Helper()
	key := must(pooledKey())(t)
	template := &x509.Certificate{SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: "client"}, NotBefore: notBefore, NotAfter: notAfter}
	return keyPair{key, must(x509.CreateCertificate(rand.Reader, template, template, key.Public(), key))(t)}
}

func (k keyPair) pem(t testing.TB) []byte {
	return append(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: k.der}),
		pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: must(x509.MarshalPKCS8PrivateKey(k.key))(t)})...)
}

func (h *house) certify(t testing.TB, app directory.Application) keyPair {
	t.Helper()
	k := newKeyPair(t, h.clock.Now().AddDate(-1, 0, 0), h.clock.Now().AddDate(1, 0, 0))
	if _, err := h.directory.AddKey(t.Context(), app.ID, directory.KeyCredential{Certificate: k.der}); err != nil {
		t.Fatal(err)
	}
	return k
}

// A draft is an assertion before it is signed; tests spoil it.
type draft struct {
	alg    jose.SignatureAlgorithm
	key    any
	header map[jose.HeaderKey]any
	claims map[string]any
}

func (d draft) sign(t testing.TB) string {
	t.Helper()
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: d.alg, Key: d.key}, &jose.SignerOptions{ExtraHeaders: d.header})
	if err != nil {
		t.Fatal(err)
	}
	payload := must(json.Marshal(d.claims))(t)
	return must(must(signer.Sign(payload))(t).CompactSerialize())(t)
}

// signWith is the assertion of an application as MSAL makes it, after edit.
func (h *house) signWith(t testing.TB, k keyPair, app directory.Application, edit func(*draft)) string {
	t.Helper()
	sum := sha256.Sum256(k.der)
	now := h.clock.Now()
	d := draft{
		alg: jose.PS256, key: k.key,
		header: map[jose.HeaderKey]any{"typ": "JWT", "x5t#S256": base64.StdEncoding.EncodeToString(sum[:])},
		claims: map[string]any{
			"aud": testAuthority + "/" + testTenant + "/oauth2/v2.0/token", "iss": app.AppID, "sub": app.AppID, "jti": uuid.NewString(),
			"nbf": now.Unix(), "iat": now.Unix(), "exp": now.Add(10 * time.Minute).Unix(),
		},
	}
	if edit != nil {
		edit(&d)
	}
	return d.sign(t)
}

func (h *house) sign(t testing.TB, app directory.Application, edit func(*draft)) string {
	return h.signWith(t, newKeyPair(t, h.clock.Now().AddDate(-1, 0, 0), h.clock.Now().AddDate(1, 0, 0)), app, edit)
}

// assert presents an assertion.
func (h *house) assert(clientID, assertion, scope string) *httptest.ResponseRecorder {
	return h.post(2, nil, "client_id", clientID, "client_assertion_type", assertionType, "client_assertion", assertion, "scope", scope)
}

const vaultScope = "https://vault.azure.net/.default"

func TestA27AClientSignsInWithItsCertificateInEverySpelling(t *testing.T) {
	h := start(t)
	app, sp := h.register(t, directory.Application{DisplayName: "client"})
	k := h.certify(t, app)
	s1, s256 := sha1.Sum(k.der), sha256.Sum256(k.der)
	now := h.clock.Now()
	for name, edit := range map[string]func(*draft){
		"as MSAL Go":       nil,
		"as MSAL Node":     func(d *draft) { d.header["x5t#S256"] = base64.RawURLEncoding.EncodeToString(s256[:]) },
		"padded base64url": func(d *draft) { d.header["x5t#S256"] = base64.URLEncoding.EncodeToString(s256[:]) },
		"RS256 with SHA-1": func(d *draft) {
			d.alg, d.header = jose.RS256, map[jose.HeaderKey]any{"x5t": base64.RawURLEncoding.EncodeToString(s1[:])}
		},
		"with its chain":           func(d *draft) { d.header["x5c"] = []string{base64.StdEncoding.EncodeToString(k.der)} },
		"for the v1 endpoint":      func(d *draft) { d.claims["aud"] = testAuthority + "/" + testTenant + "/oauth2/token" },
		"for the v2 issuer":        func(d *draft) { d.claims["aud"] = testAuthority + "/" + testTenant + "/v2.0" },
		"for the v1 issuer":        func(d *draft) { d.claims["aud"] = []string{testAuthority + "/" + testTenant + "/"} },
		"without jti, nbf and iat": func(d *draft) { delete(d.claims, "jti"); delete(d.claims, "nbf"); delete(d.claims, "iat") },
		"A59 its clock 4 min ahead": func(d *draft) {
			d.claims["nbf"], d.claims["exp"] = now.Add(4*time.Minute).Unix(), now.Add(14*time.Minute).Unix()
		},
		"A59 its clock 4 min back": func(d *draft) {
			d.claims["nbf"], d.claims["exp"] = now.Add(-14*time.Minute).Unix(), now.Add(-4*time.Minute).Unix()
		},
		"in upper case": func(d *draft) {
			d.claims["iss"], d.claims["sub"] = strings.ToUpper(app.AppID), strings.ToUpper(app.AppID)
		},
		"with fractions of seconds": func(d *draft) { d.claims["exp"] = float64(now.Add(time.Minute).Unix()) + 0.5 },
	} {
		t.Run(name, func(t *testing.T) {
			_, c := h.granted(t, h.assert(app.AppID, " "+h.signWith(t, k, app, edit)+"\n", vaultScope))
			if c["appidacr"] != "2" || c["oid"] != sp.ID || c["appid"] != app.AppID {
				t.Errorf("%v", c)
			}
		})
	}
}

func TestB15AssertionsThatProveNothing(t *testing.T) {
	h := start(t)
	app, _ := h.register(t, directory.Application{DisplayName: "client"})
	other, _ := h.register(t, directory.Application{DisplayName: "other"})
	k := h.certify(t, app)
	now := h.clock.Now()
	expired := newKeyPair(t, now.AddDate(-2, 0, 0), now.Add(-time.Hour))
	if _, err := h.directory.AddKey(t.Context(), app.ID, directory.KeyCredential{Certificate: expired.der}); err != nil {
		t.Fatal(err)
	}
	removed := h.certify(t, app)
	current, _ := h.directory.Application(app.ID)
	if err := h.directory.RemoveKey(t.Context(), app.ID, current.KeyCredentials[2].KeyID); err != nil {
		t.Fatal(err)
	}
	foreign := newKeyPair(t, now.AddDate(-1, 0, 0), now.AddDate(1, 0, 0))
	claim := func(name string, value any) func(*draft) { return func(d *draft) { d.claims[name] = value } }
	without := func(name string) func(*draft) { return func(d *draft) { delete(d.claims, name) } }
	for _, row := range []struct {
		name string
		key  keyPair
		edit func(*draft)
		code int
	}{
		{"the audience of another endpoint", k, claim("aud", testAuthority+"/common/oauth2/v2.0/token"), 50013},
		{"Microsoft's audience", k, claim("aud", "https://login.microsoftonline.com/"+testTenant+"/oauth2/v2.0/token"), 50013},
		{"several audiences", k, claim("aud", []string{testAuthority + "/" + testTenant + "/oauth2/v2.0/token", "x"}), 50013},
		{"exp a year away", k, claim("exp", now.AddDate(1, 0, 0).Unix()), 50013},
		{"exp in milliseconds", k, claim("exp", now.UnixMilli()), 50013},
		{"expired six minutes ago", k, claim("exp", now.Add(-6*time.Minute).Unix()), 700024},
		{"begins in six minutes", k, claim("nbf", now.Add(6*time.Minute).Unix()), 700024},
		{"exp as text", k, claim("exp", fmt.Sprint(now.Add(time.Minute).Unix())), 50027},
		{"an aud that is a number", k, claim("aud", 1), 50027},
		{"another application's iss", k, claim("sub", other.AppID), 700021},
		{"a key that was never registered", foreign, nil, 700027},
		{"a key that was never registered, brought along", foreign, func(d *draft) { d.header["x5c"] = []string{base64.StdEncoding.EncodeToString(foreign.der)} }, 700027},
		{"a key that was removed", removed, nil, 700027},
		{"a certificate that has expired", expired, nil, 50012},
		{"the thumbprint of the certificate over another key", k, func(d *draft) { d.key = weakly(t, k) }, 700027},
		{"no thumbprint", k, func(d *draft) { delete(d.header, "x5t#S256") }, 700027},
		{"a thumbprint that is none", k, func(d *draft) { d.header["x5t#S256"] = "abcd" }, 700027},
		{"a thumbprint of a path", k, func(d *draft) { d.header["x5t#S256"] = "../../etc/passwd\x00'" }, 700027},
		{"a huge thumbprint", k, func(d *draft) { d.header["x5t#S256"] = strings.Repeat("a", 4096) }, 50027},
		{"an extension that nobody understands", k, func(d *draft) { d.header["b64"] = true }, 50027},
	} {
		t.Run(row.name, func(t *testing.T) {
			wantFailure(t, h.assert(app.AppID, h.signWith(t, row.key, app, row.edit), vaultScope), 401, "invalid_client", row.code)
			h.failures = throttle.New(failureBurst, failureEvery) // so that they do not add up
		})
	}
	for _, name := range []string{"iss", "sub", "aud", "exp"} {
		if f := wantFailure(t, h.assert(app.AppID, h.signWith(t, k, app, without(name)), vaultScope), 400, "invalid_request", 90014); !strings.Contains(f.ErrorDescription, "'"+name+"'") {
			t.Errorf("%s", f.ErrorDescription)
		}
	}
	wantFailure(t, h.assert(other.AppID, h.signWith(t, k, app, nil), vaultScope), 401, "invalid_client", 70025)
	wantFailure(t, h.assert(app.AppID, strings.Repeat("a", maxAssertion+1), vaultScope), 401, "invalid_client", 50027)
}

// weakly is another key than k's.
func weakly(t testing.TB, k keyPair) *rsa.PrivateKey {
	for {
		if key := must(pooledKey())(t); !key.Equal(k.key) {
			return key
		}
	}
}

func TestB15AnAssertionIsTakenOncePerRequestAndFromOneAddress(t *testing.T) {
	h := start(t)
	app, _ := h.register(t, directory.Application{DisplayName: "client"})
	k := h.certify(t, app)
	const jti = "the same"
	fresh := func() string { return h.signWith(t, k, app, func(d *draft) { d.claims["jti"] = jti }) }
	assertion := fresh()
	h.granted(t, h.assert(app.AppID, assertion, vaultScope))
	wantFailure(t, h.assert(app.AppID, assertion, vaultScope), 401, "invalid_client", 50013)
	wantFailure(t, h.assert(app.AppID, fresh(), vaultScope), 401, "invalid_client", 50013) // another signature over the same jti
	// MSAL Node keeps an assertion for ten minutes and presents it for each resource.
	h.granted(t, h.assert(app.AppID, assertion, "https://storage.azure.com/.default"))
	elsewhere := h.post(2, func(r *http.Request) { r.RemoteAddr = "198.51.100.1:1" }, "client_id", app.AppID, "client_assertion_type", assertionType, "client_assertion", assertion, "scope", "https://management.azure.com/.default")
	wantFailure(t, elsewhere, 401, "invalid_client", 50013)
	// What failed for another reason than the credential may be tried again.
	again := h.signWith(t, k, app, nil)
	wantFailure(t, h.assert(app.AppID, again, "api://not-yet/.default"), 400, "invalid_resource", 500011)
	h.register(t, directory.Application{DisplayName: "late", IdentifierURIs: []string{"api://not-yet"}})
	h.granted(t, h.assert(app.AppID, again, "api://not-yet/.default"))
	// After its end it is refused for that, and forgotten.
	h.clock.advance(16 * time.Minute)
	wantFailure(t, h.assert(app.AppID, assertion, vaultScope), 401, "invalid_client", 700024)
	h.granted(t, h.assert(app.AppID, fresh(), vaultScope))
}

func TestTheMemoryOfAssertionsIsBoundedPerClient(t *testing.T) {
	m, now := newReplays(), time.Now()
	enter := func(client string, i int, until time.Time) *refusal {
		return m.enter(presentation{client: client, peer: "p", id: fmt.Sprint(i), request: "r", until: until}, now)
	}
	for i := range maxAssertionsPerClient {
		if r := enter("greedy", i, now.Add(time.Minute)); r != nil {
			t.Fatal(r)
		}
	}
	if r := enter("greedy", -1, now.Add(time.Minute)); r == nil || r.code != codeThrottled {
		t.Fatalf("one too many: %v", r)
	}
	if r := enter("modest", 0, now.Add(time.Minute)); r != nil {
		t.Errorf("another client: %v", r)
	}
	now = now.Add(time.Minute)
	if r := enter("greedy", -1, now.Add(time.Minute)); r != nil || len(m.presents) != 1 || len(m.clients) != 1 {
		t.Errorf("after their end: %v, %d remembered, %v", r, len(m.presents), m.clients)
	}
	for i := range maxRequestsPerAssertion + 1 {
		r := m.enter(presentation{client: "wide", peer: "p", id: "1", request: fmt.Sprint(i), until: now.Add(time.Minute)}, now)
		if (r != nil) != (i == maxRequestsPerAssertion) {
			t.Fatalf("request %d: %v", i, r)
		}
	}
}

func TestB1B2B3B13ForgedAssertions(t *testing.T) {
	h := start(t)
	app, _ := h.register(t, directory.Application{DisplayName: "client"})
	k := h.certify(t, app)
	good := h.signWith(t, k, app, nil)
	parts := strings.Split(good, ".")
	encode := func(s string) string { return base64.RawURLEncoding.EncodeToString([]byte(s)) }
	decode := func(s string) string { return string(must(base64.RawURLEncoding.DecodeString(s))(t)) }
	header, claims := decode(parts[0]), decode(parts[1])
	hmac := func(secret []byte) string {
		return h.signWith(t, k, app, func(d *draft) { d.alg, d.key = jose.HS256, secret })
	}
	public := must(x509.MarshalPKIXPublicKey(k.key.Public()))(t)
	forged := map[string]string{
		"HS256 with the DER of the public key": hmac(public),
		"HS256 with its PEM":                   hmac(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: public})),
		"HS256 with the certificate":           hmac(k.der),
		"an empty signature":                   parts[0] + "." + parts[1] + ".",
		"two segments":                         parts[0] + "." + parts[1],
		"four segments":                        good + "." + parts[2],
		"a padded segment":                     parts[0] + "=." + parts[1] + "." + parts[2],
		"a line break inside":                  parts[0] + ".\n" + parts[1] + "." + parts[2],
		"a segment with other trailing bits":   parts[0] + "." + parts[1] + "." + parts[2][:len(parts[2])-1] + string(parts[2][len(parts[2])-1]+1),
		"a header member twice":                encode(header[:len(header)-1]+`,"alg":"PS256"}`) + "." + parts[1] + "." + parts[2],
		"a claim twice":                        parts[0] + "." + encode(claims[:len(claims)-1]+`,"sub":"x"}`) + "." + parts[2],
		"data behind the claims":               parts[0] + "." + encode(claims+"{}") + "." + parts[2],
		"claims that were changed":             parts[0] + "." + encode(strings.Replace(claims, `"nbf"`, `"nbx"`, 1)) + "." + parts[2],
		"a JSON serialization":                 `{"payload":"` + parts[1] + `","protected":"` + parts[0] + `","signature":"` + parts[2] + `"}`,
	}
	for _, none := range []string{"none", "None", "nOnE", "NONE", ""} {
		forged["alg "+none] = encode(strings.Replace(header, "PS256", none, 1)) + "." + parts[1] + "." + parts[2]
		forged["alg "+none+" without signature"] = encode(strings.Replace(header, "PS256", none, 1)) + "." + parts[1] + "."
	}
	attacker := newKeyPair(t, h.clock.Now().AddDate(-1, 0, 0), h.clock.Now().AddDate(1, 0, 0))
	for name, value := range map[jose.HeaderKey]any{
		"jku": "https://attacker.example/keys", "x5u": "https://attacker.example/cert", "jwk": jose.JSONWebKey{Key: attacker.key.Public()}, "x5c": []string{base64.StdEncoding.EncodeToString(attacker.der)},
	} {
		forged["a key in "+string(name)] = h.signWith(t, k, app, func(d *draft) {
			d.key, d.header = weakly(t, k), maps.Clone(d.header)
			d.header[name] = value
		})
	}
	for name, assertion := range forged {
		w := h.assert(app.AppID, assertion, vaultScope)
		if w.Code != 401 && w.Code != 400 || strings.Contains(w.Body.String(), "access_token") {
			t.Errorf("%s: %d %s", name, w.Code, w.Body)
		}
		h.failures = throttle.New(failureBurst, failureEvery)
	}
	h.granted(t, h.assert(app.AppID, good, vaultScope)) // it was good all the time
}

func FuzzClientAssertion(f *testing.F) {
	h := start(f)
	app, _ := h.register(f, directory.Application{DisplayName: "client"})
	good := h.sign(f, app, nil)
	f.Add(good)
	f.Add("a.b.c")
	f.Add("eyJhbGciOiJub25lIn0.e30.")
	f.Fuzz(func(t *testing.T, raw string) {
		a, refused := parseAssertion(raw, jose.PS256, jose.RS256)
		if (a == nil) == (refused == nil) {
			t.Fatal("neither accepted nor refused")
		}
		if a != nil && (a.header.Alg != "PS256" && a.header.Alg != "RS256" || a.claims.Sub == "" || len(a.claims.Aud) == 0) {
			t.Fatalf("accepted: %+v", a)
		}
		if refused != nil && len(refused.text) > 2000 {
			t.Fatalf("a refusal of %d bytes", len(refused.text))
		}
	})
}
