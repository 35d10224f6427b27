package doctor_test

import (
	"context"
	"crypto"
	"crypto/hmac"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"math/big"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"tabard/guard"
	"tabard/guard/doctor"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	tenant    = "aaaa0000-0000-4000-8000-00000000000a"
	principal = "cccc0000-0000-4000-8000-00000000000c"
	intruder  = "dddd0000-0000-4000-8000-00000000000d"
	audience  = "api://handler"
)

var all = []string{"no_token", "wrong_audience", "other_identity", "expired", "foreign_key", "alg_none", "hs256_public_key", "replayed_id", "wrong_origin", "oversize"}

// An issuer of real tokens, over TLS.
type issuer struct {
	*httptest.Server
	key *rsa.PrivateKey
}

var signingKey = sync.OnceValue(func() *rsa.PrivateKey {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		panic(err)
	}
	return key
})

func newIssuer(t *testing.T) *issuer {
	is := &issuer{key: signingKey()}
	is.Server = httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/keys" {
			_ = json.NewEncoder(w).Encode(map[string]any{"keys": []any{
				map[string]any{"kty": "RSA", "kid": "other", "n": "AQAB", "e": "AQAB"},
				map[string]any{"kty": "RSA", "use": "sig", "kid": "k", "n": b64(is.key.N.Bytes()), "e": b64(big.NewInt(int64(is.key.E)).Bytes())},
			}})
			return
		}
		_ = json.NewEncoder(w).Encode(map[string]any{"issuer": is.iss(), "jwks_uri": is.URL + "/keys"})
	}))
	t.Cleanup(is.Close)
	return is
}

func b64(b []byte) string      { return base64.RawURLEncoding.EncodeToString(b) }
func (is *issuer) iss() string { return is.URL + "/" + tenant + "/" }
func text(v any) []byte        { b, _ := json.Marshal(v); return b }
func (is *issuer) trust() guard.Trust {
	pool := x509.NewCertPool()
	pool.AddCert(is.Certificate())
	return guard.Trust{Issuers: []string{is.iss()}, Audiences: []string{audience}, RootCAs: pool}
}

func (is *issuer) token(changes ...any) string {
	now := time.Now().Unix()
	claims := map[string]any{"aud": audience, "iss": is.iss(), "iat": now - 300, "nbf": now - 300, "exp": now + 3600, "appid": principal, "idtyp": "app",
		"oid": principal, "sub": principal, "tid": tenant, "ver": "1.0"}
	for i := 0; i < len(changes); i += 2 {
		claims[changes[i].(string)] = changes[i+1]
	}
	input := b64(text(map[string]any{"alg": "RS256", "typ": "JWT", "kid": "k"})) + "." + b64(text(claims))
	sum := sha256.Sum256([]byte(input))
	signature, err := rsa.SignPKCS1v15(rand.Reader, is.key, crypto.SHA256, sum[:])
	if err != nil {
		panic(err)
	}
	return input + "." + b64(signature)
}

// options have all the real tokens.
func (is *issuer) options() doctor.Options {
	return doctor.Options{
		Token:              is.token(),
		OtherAudienceToken: is.token("aud", "api://other"),
		OtherIdentityToken: is.token("oid", intruder, "sub", intruder, "appid", intruder),
		ExpiredToken:       is.token("iat", time.Now().Unix()-7200, "nbf", time.Now().Unix()-7200, "exp", time.Now().Unix()-3600),
		Client:             is.Client(),
	}
}

func names(list []doctor.Finding) []string {
	names := make([]string, len(list))
	for i, f := range list {
		names[i] = f.Attack
	}
	return names
}

func examine(t *testing.T, h http.Handler, opt doctor.Options) (*doctor.Report, error) {
	t.Helper()
	s := httptest.NewServer(h)
	defer s.Close()
	report, err := doctor.Examine(t.Context(), s.URL+"/eventhandler", opt)
	if opt.Client != nil {
		opt.Client.CloseIdleConnections()
	}
	return report, err
}

func expect(t *testing.T, report *doctor.Report, accepted ...string) {
	t.Helper()
	if got := names(report.Accepted); !slices.Equal(got, accepted) {
		t.Errorf("accepted %q, want %q\nrefused %+v", got, accepted, report.Refused)
	}
	if got := len(report.Accepted) + len(report.Refused); got != len(all) {
		t.Errorf("%d attacks are reported", got)
	}
	for _, f := range report.Accepted {
		if f.Fix == "" || !f.Conclusive {
			t.Errorf("an accepted attack without advice: %+v", f)
		}
	}
}

func guarded(t *testing.T, trust guard.Trust, opt guard.Options) http.Handler {
	t.Helper()
	opt.Log = slog.New(slog.DiscardHandler)
	g, err := guard.New(trust, opt)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(g.Close)
	return g.Events(guard.Handlers{User: func(_ context.Context, e *guard.Event) (guard.Reply, error) { return guard.Text(e.Text()), nil }})
}

func TestTheGuardLetsNothingIn(t *testing.T) {
	is := newIssuer(t)
	trust := is.trust()
	trust.Callers = []string{principal}
	report, err := examine(t, guarded(t, trust, guard.Options{Duplicates: &guard.Duplicates{}}), is.options())
	if err != nil {
		t.Fatal(err)
	}
	expect(t, report)
	reasons := map[string]string{"no_token": "token_missing", "wrong_audience": "wrong_audience", "other_identity": "caller_not_allowed", "expired": "expired",
		"foreign_key": "signature_invalid", "alg_none": "algorithm_not_allowed", "hs256_public_key": "algorithm_not_allowed", "replayed_id": "from memory", "wrong_origin": "token_missing", "oversize": "body_too_large"}
	for _, f := range report.Refused {
		if !f.Conclusive || !strings.Contains(f.Detail, reasons[f.Attack]) || f.Fix != "" {
			t.Errorf("%+v", f)
		}
	}
}

func TestTheProxyLetsNothingIn(t *testing.T) {
	is := newIssuer(t)
	app := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	defer app.Close()
	trust := is.trust()
	trust.Callers = []string{principal}
	p, err := guard.NewProxy(trust, guard.ProxyOptions{Upstream: app.URL, Duplicates: &guard.Duplicates{}, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	report, err := examine(t, p, is.options())
	if err != nil {
		t.Fatal(err)
	}
	expect(t, report)
}

func TestWhatAGuardIsNotToldItLetsIn(t *testing.T) {
	is := newIssuer(t)
	report, err := examine(t, guarded(t, is.trust(), guard.Options{MaxBody: 64 << 20}), is.options())
	if err != nil {
		t.Fatal(err)
	}
	expect(t, report, "other_identity", "replayed_id", "oversize")
}

// careless verifies nothing and answers the validation.
func careless(w http.ResponseWriter, r *http.Request) {
	_, _ = io.Copy(io.Discard, r.Body)
	w.Header().Set("WebHook-Allowed-Origin", "*")
}

func TestAHandlerThatVerifiesNothingLetsEverythingIn(t *testing.T) {
	for name, opt := range map[string]doctor.Options{"with nothing known": {}, "with real tokens": newIssuer(t).options()} {
		report, err := examine(t, http.HandlerFunc(careless), opt)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		expect(t, report, all...)
	}
}

// decode takes a token apart without verifying it.
func decode(r *http.Request) (header, claims map[string]any, parts []string) {
	parts = strings.Split(strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer "), ".")
	if len(parts) != 3 {
		return nil, nil, nil
	}
	for i, into := range []*map[string]any{&header, &claims} {
		b, _ := base64.RawURLEncoding.DecodeString(parts[i])
		_ = json.Unmarshal(b, into)
	}
	return header, claims, parts
}

func TestEachHoleIsFound(t *testing.T) {
	is := newIssuer(t)
	spki, err := x509.MarshalPKIXPublicKey(&is.key.PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	asPEM := pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: spki})
	signed := func(parts []string) bool {
		signature, _ := base64.RawURLEncoding.DecodeString(parts[2])
		sum := sha256.Sum256([]byte(parts[0] + "." + parts[1]))
		return rsa.VerifyPKCS1v15(&is.key.PublicKey, crypto.SHA256, sum[:], signature) == nil
	}
	good := func(claims map[string]any) bool {
		exp, _ := claims["exp"].(float64)
		return claims["aud"] == audience && claims["oid"] == principal && int64(exp) > time.Now().Unix()
	}
	for _, tc := range []struct {
		name     string
		lets     func(header, claims map[string]any, parts []string) bool
		accepted []string
	}{
		{"claims are believed", func(_, c map[string]any, _ []string) bool { return good(c) }, []string{"foreign_key", "alg_none", "hs256_public_key", "replayed_id", "oversize"}},
		{"alg none is believed", func(h, c map[string]any, p []string) bool {
			return good(c) && (signed(p) || strings.EqualFold(fmt.Sprint(h["alg"]), "none"))
		}, []string{"alg_none", "replayed_id", "oversize"}},
		{"alg none is believed unless it is spelled so", func(h, c map[string]any, p []string) bool { return good(c) && (signed(p) || h["alg"] == "nOnE") }, []string{"alg_none", "replayed_id", "oversize"}},
		{"the public key is taken for a shared one", func(h, c map[string]any, p []string) bool {
			m := hmac.New(sha256.New, asPEM)
			m.Write([]byte(p[0] + "." + p[1]))
			return good(c) && (signed(p) || h["alg"] == "HS256" && p[2] == b64(m.Sum(nil)))
		}, []string{"hs256_public_key", "replayed_id", "oversize"}},
		{"a key in the header is believed", func(h, c map[string]any, p []string) bool { return good(c) && (signed(p) || h["jwk"] != nil) }, []string{"foreign_key", "replayed_id", "oversize"}},
		{"the audience is not compared", func(_, c map[string]any, p []string) bool {
			c = maps.Clone(c)
			c["aud"] = audience
			return good(c) && signed(p)
		}, []string{"wrong_audience", "replayed_id", "oversize"}},
		{"the expiry is not compared", func(_, c map[string]any, p []string) bool {
			c = maps.Clone(c)
			c["exp"] = 1e12
			return good(c) && signed(p)
		}, []string{"expired", "replayed_id", "oversize"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			report, err := examine(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				header, claims, parts := decode(r)
				if r.Method == http.MethodPost && (parts == nil || !tc.lets(header, claims, parts)) {
					w.WriteHeader(http.StatusUnauthorized)
					return
				}
				careless(w, r)
			}), is.options())
			if err != nil {
				t.Fatal(err)
			}
			expect(t, report, tc.accepted...)
		})
	}
}

func TestARefusalOfForgedTokensIsNotConclusive(t *testing.T) {
	is := newIssuer(t)
	trust := is.trust()
	report, err := examine(t, guarded(t, trust, guard.Options{}), doctor.Options{})
	if err != nil {
		t.Fatal(err)
	}
	expect(t, report)
	for _, f := range report.Refused {
		if want := f.Attack == "no_token" || f.Attack == "wrong_origin"; f.Conclusive != want {
			t.Errorf("%s is conclusive: %t", f.Attack, f.Conclusive)
		}
	}
	report, err = examine(t, guarded(t, trust, guard.Options{}), doctor.Options{Issuer: is.iss(), Audience: audience, Client: is.Client()})
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range report.Refused {
		if f.Attack == "hs256_public_key" && !f.Conclusive {
			t.Errorf("with the issuer's key: %+v", f)
		}
	}
}

func TestRefusalsThatProveNothingAreErrors(t *testing.T) {
	is := newIssuer(t)
	opt := is.options()
	opt.Token = is.token("aud", "api://other")
	if _, err := examine(t, guarded(t, is.trust(), guard.Options{}), opt); !errors.Is(err, doctor.ErrGoodRefused) || !strings.Contains(err.Error(), "wrong_audience") {
		t.Errorf("a good token that is none: %v", err)
	}
	if _, err := examine(t, http.NotFoundHandler(), doctor.Options{}); !errors.Is(err, doctor.ErrNoHandler) {
		t.Errorf("nothing there: %v", err)
	}
	if _, err := examine(t, http.HandlerFunc(careless), doctor.Options{Token: "opaque"}); err == nil {
		t.Error("an opaque token is taken for a good one")
	}
	for _, address := range []string{"", "ftp://h/", "h:80", "http://127.0.0.1:1/"} {
		if _, err := doctor.Examine(t.Context(), address, doctor.Options{}); err == nil {
			t.Errorf("%q is examined", address)
		}
	}
}

func TestEventsAreThoseThatTheServiceSends(t *testing.T) {
	var seen []*http.Request
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		if r.Method == http.MethodPost {
			if _, err := guard.ParseEvent(r, body); err != nil {
				t.Error(err)
			}
		}
		seen = append(seen, r)
		w.WriteHeader(http.StatusFound)
	}))
	defer s.Close()
	report, err := doctor.Examine(t.Context(), s.URL+"/api/webpubsub/hubs/orders/", doctor.Options{Event: "greet", AccessKey: "key", Oversize: 2 << 20})
	if err != nil {
		t.Fatal(err)
	}
	expect(t, report) // a redirect is no acceptance
	for _, r := range seen {
		if r.Method == http.MethodPost && (r.Header.Get("ce-hub") != "orders" || r.Header.Get("ce-eventName") != "greet" || !strings.HasPrefix(r.Header.Get("ce-signature"), "sha256=")) {
			t.Errorf("headers are %v", r.Header)
		}
	}
}
