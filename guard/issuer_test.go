package guard_test

import (
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"errors"
	"io"
	"log"
	"maps"
	"math/big"
	"net/http"
	"net/http/httptest"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"tabard/guard"
	"tabard/guard/reason"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	tenant      = "aaaa0000-0000-4000-8000-00000000000a"
	otherTenant = "bbbb0000-0000-4000-8000-00000000000b"
	principal   = "cccc0000-0000-4000-8000-00000000000c"
	client      = "dddd0000-0000-4000-8000-00000000000d"
	audience    = "api://handler"
	appID       = "eeee0000-0000-4000-8000-00000000000e"
)

// rsaKeys are made once: a key of 2048 bits takes a while.
var rsaKeys = sync.OnceValue(func() []*rsa.PrivateKey {
	keys := make([]*rsa.PrivateKey, 4)
	for i := range keys {
		k, err := rsa.GenerateKey(rand.Reader, 2048)
		if err != nil {
			panic(err)
		}
		keys[i] = k
	}
	return keys
})

// A testKey is a signing key as an issuer publishes it.
type testKey struct {
	id      string
	private *rsa.PrivateKey
	extra   map[string]any // members of the published key, beside the usual ones
}

// A testIssuer is a token issuer with the addresses and documents of the
// Microsoft identity platform, over real TLS.
type testIssuer struct {
	*httptest.Server
	keySets atomic.Int32 // how often keys were fetched

	mu       sync.Mutex
	keys     []testKey
	override map[string]http.HandlerFunc
}

func newIssuer(t testing.TB) *testIssuer {
	is := &testIssuer{override: map[string]http.HandlerFunc{}, keys: []testKey{{id: "key-0", private: rsaKeys()[0]}, {id: "key-1", private: rsaKeys()[1]}}}
	is.Server = httptest.NewUnstartedServer(is)
	is.Config.ErrorLog = log.New(io.Discard, "", 0) // handshakes are refused on purpose
	is.StartTLS()
	t.Cleanup(is.Close)
	return is
}

func (is *testIssuer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	is.mu.Lock()
	override, keys := is.override[r.URL.Path], slices.Clone(is.keys)
	is.mu.Unlock()
	if override != nil {
		override(w, r)
		return
	}
	document := func(issuer, keysAt string) {
		writeJSON(w, map[string]any{"issuer": issuer, "jwks_uri": is.URL + keysAt, "token_endpoint": is.URL + "/token", "id_token_signing_alg_values_supported": []string{"RS256"}})
	}
	const discovery = "/.well-known/openid-configuration"
	switch r.URL.Path {
	case "/" + tenant + discovery:
		document(is.v1(tenant), "/common/discovery/keys")
	case "/" + tenant + "/v2.0" + discovery:
		document(is.v2(tenant), "/"+tenant+"/discovery/v2.0/keys")
	case "/common" + discovery:
		document(is.v1("{tenantid}"), "/common/discovery/keys")
	case "/common/v2.0" + discovery:
		document(is.v2("{tenantid}"), "/common/discovery/v2.0/keys")
	case "/common/discovery/keys":
		is.keySets.Add(1)
		writeJSON(w, jwks(keys, ""))
	case "/common/discovery/v2.0/keys", "/" + tenant + "/discovery/v2.0/keys":
		is.keySets.Add(1)
		writeJSON(w, jwks(keys, is.v2("{tenantid}")))
	default:
		http.NotFound(w, r)
	}
}

func writeJSON(w http.ResponseWriter, v any) {
	w.Header().Set("Content-Type", "application/json; charset=utf-8")
	json.NewEncoder(w).Encode(v)
}

func jwks(keys []testKey, issuer string) any {
	list := []any{}
	for _, k := range keys {
		m := map[string]any{"kty": "RSA", "use": "sig", "kid": k.id, "x5t": k.id,
			"n": b64(k.private.N.Bytes()), "e": b64(big.NewInt(int64(k.private.E)).Bytes())}
		if issuer != "" {
			m["issuer"] = issuer
		}
		maps.Copy(m, k.extra)
		list = append(list, m)
	}
	return map[string]any{"keys": list}
}

func (is *testIssuer) v1(tenant string) string { return is.URL + "/" + tenant + "/" }
func (is *testIssuer) v2(tenant string) string { return is.URL + "/" + tenant + "/v2.0" }

func (is *testIssuer) setKeys(keys ...testKey) {
	is.mu.Lock()
	defer is.mu.Unlock()
	is.keys = keys
}

// answer replaces what the issuer says at a path; nil restores it.
func (is *testIssuer) answer(path string, h http.HandlerFunc) {
	is.mu.Lock()
	defer is.mu.Unlock()
	is.override[path] = h
}

func (is *testIssuer) pool() *x509.CertPool {
	pool := x509.NewCertPool()
	pool.AddCert(is.Certificate())
	return pool
}

// trust is a configuration that accepts the issuer's good tokens.
func (is *testIssuer) trust(c *clock) guard.Trust {
	return guard.Trust{
		Issuers:   guard.Authority(is.URL, tenant),
		Audiences: []string{audience, appID},
		RootCAs:   is.pool(),
		Now:       c.now,
	}
}

// claims are those of a managed identity's good token of version 1.
func (is *testIssuer) claims(c *clock) map[string]any {
	now := c.now().Unix()
	return map[string]any{
		"aud": audience, "iss": is.v1(tenant), "iat": now - 300, "nbf": now - 300, "exp": now + 86400,
		"aio": "E2Z", "appid": client, "appidacr": "2", "idp": is.v1(tenant), "idtyp": "app",
		"oid": principal, "rh": "1.A", "sub": principal, "tid": tenant, "uti": "x9", "ver": "1.0",
		"xms_mirid": "/subscriptions/s/resourcegroups/r/providers/Microsoft.SignalRService/WebPubSub/default",
	}
}

// claims2 are those of a good token of version 2.
func (is *testIssuer) claims2(c *clock) map[string]any {
	m := with(is.claims(c), "aud", appID, "iss", is.v2(tenant), "ver", "2.0", "azp", client, "azpacr", "2", "xms_az_rid", "/host")
	for _, name := range []string{"appid", "appidacr", "idp"} {
		delete(m, name)
	}
	return m
}

// with returns a copy of claims with some changed; a nil value removes one.
func with(claims map[string]any, changes ...any) map[string]any {
	m := maps.Clone(claims)
	for i := 0; i < len(changes); i += 2 {
		if changes[i+1] == nil {
			delete(m, changes[i].(string))
		} else {
			m[changes[i].(string)] = changes[i+1]
		}
	}
	return m
}

// token signs claims with the issuer's first key.
func (is *testIssuer) token(claims map[string]any) string {
	is.mu.Lock()
	k := is.keys[0]
	is.mu.Unlock()
	return sign(k.private, map[string]any{"typ": "JWT", "alg": "RS256", "x5t": k.id, "kid": k.id}, claims)
}

func sign(k *rsa.PrivateKey, header, claims any) string {
	return signText(k, text(header), text(claims))
}

func signText(k *rsa.PrivateKey, header, claims string) string {
	input := b64([]byte(header)) + "." + b64([]byte(claims))
	sum := sha256.Sum256([]byte(input))
	signature, err := rsa.SignPKCS1v15(nil, k, crypto.SHA256, sum[:])
	if err != nil {
		panic(err)
	}
	return input + "." + b64(signature)
}

func text(v any) string {
	b, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	return string(b)
}

func b64(b []byte) string { return base64.RawURLEncoding.EncodeToString(b) }

// A clock is a time that tests move.
type clock struct{ seconds atomic.Int64 }

func newClock() *clock {
	c := &clock{}
	c.seconds.Store(1790000000)
	return c
}

func (c *clock) now() time.Time          { return time.Unix(c.seconds.Load(), 0) }
func (c *clock) advance(d time.Duration) { c.seconds.Add(int64(d / time.Second)) }

func newVerifier(t testing.TB, trust guard.Trust) *guard.Verifier {
	t.Helper()
	v, err := guard.NewVerifier(trust)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(v.Close)
	return v
}

// codeOf returns the reason code of an error of this package, "" for none.
func codeOf(t testing.TB, err error) reason.Code {
	t.Helper()
	if err == nil {
		return ""
	}
	var e *guard.Error
	if !errors.As(err, &e) {
		t.Fatalf("%v is not a *guard.Error", err)
	}
	return e.Code
}

// eventually polls until a condition holds.
func eventually(t testing.TB, what string, holds func() bool) {
	t.Helper()
	for deadline := time.Now().Add(5 * time.Second); !holds(); {
		if time.Now().After(deadline) {
			t.Fatalf("still not: %s", what)
		}
		time.Sleep(time.Millisecond)
	}
}
