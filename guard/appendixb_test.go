package guard_test

import (
	"bytes"
	"context"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"tabard/guard"
	"tabard/guard/reason"
)

// A fortress is a guarded handler over TLS, its issuer, and everything that it says anywhere.
type fortress struct {
	*rig
	server *httptest.Server
	called int // how often the application was
	log    bytes.Buffer
	mu     sync.Mutex // guards said
	said   strings.Builder
}

func newFortress(t *testing.T, change func(*guard.Trust)) *fortress {
	f := &fortress{rig: &rig{t: t, issuer: newIssuer(t), clock: newClock()}}
	trust := f.issuer.trust(f.clock)
	trust.Callers = []string{principal}
	if change != nil {
		change(&trust)
	}
	g, err := guard.New(trust, guard.Options{
		Observe: func(v guard.Verification) {
			f.mu.Lock()
			defer f.mu.Unlock()
			fmt.Fprintf(&f.said, "%+v %+v\n", v, v.Err)
		},
		Log: slog.New(slog.NewTextHandler(&f.log, &slog.HandlerOptions{Level: slog.LevelDebug})),
	})
	if err != nil {
		t.Fatal(err)
	}
	f.guard, f.token = g, f.issuer.token(f.issuer.claims(f.clock))
	f.server = httptest.NewTLSServer(g.Events(guard.Handlers{User: func(context.Context, *guard.Event) (guard.Reply, error) { f.called++; return guard.Text("in"), nil }}))
	t.Cleanup(func() { f.server.Close(); g.Close() })
	return f
}

// attack sends an event with these Authorization headers.
func (f *fortress) attack(query string, authorization ...string) response {
	f.t.Helper()
	r := f.event("user", "x", "hi")
	r.RequestURI = ""
	r.URL.Scheme, r.URL.Host, r.URL.RawQuery = "https", f.server.Listener.Addr().String(), query
	r.Header["Authorization"] = authorization
	if len(authorization) == 0 {
		delete(r.Header, "Authorization")
	}
	res, err := f.server.Client().Do(r)
	if err != nil {
		return response{} // hung up on
	}
	defer res.Body.Close()
	text, _ := io.ReadAll(res.Body)
	return response{res.StatusCode, res.Header, string(text)}
}

// refuses sends each token and demands that the application is not called, and the reason.
func (f *fortress) refuses(tokens map[string]string, codes ...reason.Code) {
	f.t.Helper()
	for name, token := range tokens {
		res := f.attack("", "Bearer "+token)
		fits := false
		for _, code := range codes {
			fits = fits || res.code() == code
		}
		if f.called > 0 || !fits || res.status != 401 && res.status != 403 {
			f.t.Errorf("%s: %d %s, want one of %s; the application was called %d times", name, res.status, res.body, codes, f.called)
		}
	}
}

// TestAppendixB runs the rows of identity.md's security checklist that a receiver of tokens must answer for, by their
// numbers. The other rows belong to the issuer, the event sender, the stores and the identity endpoints.
func TestAppendixB(t *testing.T) {
	key, foreign := rsaKeys()[0], rsaKeys()[3]
	spki, err := x509.MarshalPKIXPublicKey(&key.PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	jwk := jwks([]testKey{{id: "key-0", private: foreign}}, "").(map[string]any)["keys"].([]any)[0].(map[string]any)
	delete(jwk, "x5t") // go-jose demands a SHA-1 there

	for _, row := range []struct {
		number int
		name   string
		run    func(t *testing.T, f *fortress, good map[string]any)
	}{
		{1, "alg none in any letter case; an empty signature", func(_ *testing.T, f *fortress, good map[string]any) {
			tokens := map[string]string{}
			for _, alg := range []string{"none", "None", "NONE", "nOnE", "noNe", ""} {
				head := b64([]byte(text(with(goodHeader(), "alg", alg)))) + "." + b64([]byte(text(good))) + "."
				tokens[alg], tokens[alg+" with a signature"] = head, head+"c2ln"
			}
			f.refuses(tokens, reason.AlgorithmNotAllowed)
			f.refuses(map[string]string{"an empty signature": f.token[:strings.LastIndexByte(f.token, '.')+1]}, reason.SignatureInvalid)
		}},
		{2, "HS256 keyed with the PEM, DER or JWK form of the public key", func(_ *testing.T, f *fortress, good map[string]any) {
			head := with(goodHeader(), "alg", "HS256")
			public := jwks([]testKey{{id: "key-0", private: key}}, "").(map[string]any)["keys"].([]any)[0]
			f.refuses(map[string]string{
				"PEM": hs256(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: spki}), head, good), "DER": hs256(spki, head, good),
				"PKCS 1": hs256(x509.MarshalPKCS1PublicKey(&key.PublicKey), head, good), "JWK": hs256([]byte(text(public)), head, good), "modulus": hs256(key.N.Bytes(), head, good),
			}, reason.AlgorithmNotAllowed)
		}},
		{3, "jku, x5u, jwk and x5c that point to the attacker's key", func(t *testing.T, f *fortress, good map[string]any) {
			evil := newIssuer(t)
			f.refuses(map[string]string{
				"jku": sign(foreign, with(goodHeader(), "jku", evil.URL+"/common/discovery/keys"), good),
				"x5u": sign(foreign, with(goodHeader(), "x5u", evil.URL+"/cert"), good),
				"jwk": sign(foreign, with(goodHeader(), "jwk", jwk), good),
				"x5c": sign(foreign, with(goodHeader(), "x5c", []string{base64.StdEncoding.EncodeToString(evil.Certificate().Raw)}), good),
			}, reason.SignatureInvalid)
			if n := evil.keySets.Load(); n > 0 {
				t.Errorf("the attacker's keys were fetched %d times", n)
			}
		}},
		{4, "10,000 unknown key ids in a minute: one fetch in 5 minutes, no memory", func(t *testing.T, f *fortress, good map[string]any) {
			if res := f.attack("", "Bearer "+f.token); res.status != 200 {
				t.Fatal(res.status, res.body)
			}
			before := f.issuer.keySets.Load()
			var wg sync.WaitGroup
			signature := f.token[strings.LastIndexByte(f.token, '.'):] // any will do: the key is looked for first
			for worker := range 4 {
				wg.Go(func() {
					for i := range 2500 {
						header := with(goodHeader(), "kid", fmt.Sprint(worker, "-", i))
						_, err := f.guard.Verifier().Verify(t.Context(), b64([]byte(text(header)))+"."+b64([]byte(text(good)))+signature)
						if codeOf(t, err) != reason.UnknownKey {
							t.Error(err)
						}
					}
				})
			}
			wg.Wait()
			if n := f.issuer.keySets.Load() - before; n > 2 { // two issuers, version 1 and 2
				t.Errorf("keys were fetched %d times", n)
			}
			if n := f.guard.Verifier().Remembered(); n != 1 {
				t.Errorf("%d tokens are remembered", n)
			}
		}},
		{5, "a key id of 1 MiB, with ../, quotes, NUL", func(_ *testing.T, f *fortress, good map[string]any) {
			tokens := map[string]string{}
			for _, kid := range []string{"../key-0", "key-0/../key-0", `"key-0"`, `key-0' OR '1'='1`, "key-0\x00", "\x00", strings.Repeat("k", 300)} {
				tokens[kid[:min(len(kid), 10)]] = sign(key, with(goodHeader(), "kid", kid), good)
			}
			f.refuses(tokens, reason.UnknownKey, reason.KeyIDInvalid)
			f.refuses(map[string]string{"12 KiB": sign(key, with(goodHeader(), "kid", strings.Repeat("k", 12<<10)), map[string]any{})}, reason.TokenTooLarge, reason.KeyIDInvalid)
			if res := f.attack("", "Bearer "+sign(key, with(goodHeader(), "kid", strings.Repeat("k", 1<<20)), good)); res.status != 0 && res.status != http.StatusRequestHeaderFieldsTooLarge && res.status != 401 {
				f.t.Errorf("1 MiB: %d", res.status)
			}
		}},
		{6, "a valid signature, another tenant's tid and iss", func(_ *testing.T, f *fortress, good map[string]any) {
			f.refuses(map[string]string{"v1": f.issuer.token(with(good, "tid", otherTenant, "iss", f.issuer.v1(otherTenant))),
				"v2": f.issuer.token(with(f.issuer.claims2(f.clock), "tid", otherTenant, "iss", f.issuer.v2(otherTenant)))}, reason.WrongTenant)
		}},
		{7, "iss of tenant A, tid of tenant B", func(_ *testing.T, f *fortress, good map[string]any) {
			f.refuses(map[string]string{"our iss": f.issuer.token(with(good, "tid", otherTenant)), "our tid": f.issuer.token(with(good, "iss", f.issuer.v1(otherTenant)))},
				reason.WrongTenant, reason.IssuerMismatch)
		}},
		{8, "a version 2 token with a version 1 issuer and the reverse", func(_ *testing.T, f *fortress, good map[string]any) {
			f.refuses(map[string]string{"1 as 2": f.issuer.token(with(good, "iss", f.issuer.v2(tenant))), "2 as 1": f.issuer.token(with(f.issuer.claims2(f.clock), "iss", f.issuer.v1(tenant)))}, reason.IssuerVersion)
		}},
		{9, "aud of another app, a list with ours, another letter case, spn:", func(_ *testing.T, f *fortress, good map[string]any) {
			f.refuses(map[string]string{
				"another": f.issuer.token(with(good, "aud", "api://other")), "a list": f.issuer.token(with(good, "aud", []string{audience, "api://other"})),
				"case": f.issuer.token(with(good, "aud", strings.ToUpper(audience))), "spn": f.issuer.token(with(good, "aud", "spn:"+appID)),
			}, reason.WrongAudience, reason.AudienceIsList)
		}},
		{10, "the right aud and an oid that is not allowed; the right appid in a user's token", func(_ *testing.T, f *fortress, good map[string]any) {
			f.refuses(map[string]string{"another oid": f.issuer.token(with(good, "oid", otherTenant, "sub", otherTenant))}, reason.CallerNotAllowed)
			f.refuses(map[string]string{"a user's": f.issuer.token(with(good, "scp", "user_impersonation")), "without scp": f.issuer.token(with(good, "idtyp", "user", "sub", "pairwise"))}, reason.NotAppToken)
		}},
		{11, "an id token, a refresh token, a client token of Web PubSub, a Key Vault token", func(_ *testing.T, f *fortress, good map[string]any) {
			f.refuses(map[string]string{"id token": f.issuer.token(with(f.issuer.claims2(f.clock), "nonce", "n", "azp", nil, "idtyp", nil))}, reason.NotAppToken)
			f.refuses(map[string]string{"refresh token": "0.AXXXrefresh"}, reason.TokenMalformed)
			f.refuses(map[string]string{"client token": hs256([]byte("accesskey"), map[string]any{"alg": "HS256", "typ": "JWT"}, with(good, "aud", "https://svc.example/client/hubs/chat"))}, reason.AlgorithmNotAllowed)
			f.refuses(map[string]string{"Key Vault": f.issuer.token(with(good, "aud", "https://vault.azure.net"))}, reason.WrongAudience)
		}},
		{12, "no exp, exp as a string, in milliseconds; nbf 10 minutes ahead", func(_ *testing.T, f *fortress, good map[string]any) {
			now := f.clock.now().Unix()
			f.refuses(map[string]string{"none": f.issuer.token(with(good, "exp", nil)), "a string": f.issuer.token(with(good, "exp", fmt.Sprint(now+3600))),
				"milliseconds": f.issuer.token(with(good, "exp", (now+3600)*1000)), "nbf": f.issuer.token(with(good, "nbf", now+600))},
				reason.ExpiryMissing, reason.ClaimInvalid, reason.NotYetValid)
		}},
		{13, "repeated members, trailing data, non-canonical base64url, four segments", func(_ *testing.T, f *fortress, good map[string]any) {
			header, claims := text(goodHeader()), text(good)
			f.refuses(map[string]string{
				"a repeated claim": signText(key, header, `{"oid":"x",`+claims[1:]), "a repeated header member": signText(key, `{"alg":"RS256",`+header[1:], claims),
				"data after the claims": signText(key, header, claims+"{}"), "data after the header": signText(key, header+"{}", claims),
				"padding": f.token + "==", "a line end": strings.Replace(f.token, ".", ".%0A", 1), "four segments": f.token + ".x",
			}, reason.TokenMalformed)
		}},
		{14, "a header of 20 MB, two Authorization headers, a token in the query", func(t *testing.T, f *fortress, _ map[string]any) {
			if res := f.attack("", "Bearer "+strings.Repeat("x", 20<<20)); res.status != 0 && res.status != http.StatusRequestHeaderFieldsTooLarge {
				t.Errorf("20 MB: %d", res.status)
			}
			if res := f.attack("", "Bearer "+f.token, "Bearer "+f.token); res.status != 401 || res.code() != reason.SeveralAuthorizationHeaders {
				t.Errorf("two headers: %d %s", res.status, res.body)
			}
			if res := f.attack("access_token=" + f.token); res.status != 401 || res.code() != reason.TokenMissing {
				t.Errorf("in the query: %d %s", res.status, res.body)
			}
		}},
		{20, "no token in logs, records or error texts", func(t *testing.T, f *fortress, good map[string]any) {
			bad := f.issuer.token(with(good, "aud", "api://other"))
			answers := ""
			for _, token := range []string{bad, f.token + "x", "opaque-secret-value", hs256([]byte("k"), goodHeader(), good)} {
				res := f.attack("", "Bearer "+token)
				answers += fmt.Sprint(res.header, res.body)
				signature := token[strings.LastIndexByte(token, '.')+1:]
				for where, said := range map[string]string{"the log": f.log.String(), "the observer": f.said.String(), "the answer": answers} {
					if strings.Contains(said, signature) {
						t.Errorf("%s holds the signature of a token", where)
					}
				}
			}
		}},
		{29, "spoofed X-MS-CLIENT-PRINCIPAL* through the guard", func(t *testing.T, _ *fortress, _ map[string]any) {
			p := newProxied(t, guard.ProxyOptions{}, nil) // each spelling: TestForgedPrincipalsDoNotReachTheApplication
			p.do("GET", "/", "", "x_ms_client_principal_id", "forged", "X-MS-TOKEN-AAD-ACCESS-TOKEN", "forged")
			if r := p.last(); strings.Contains(fmt.Sprint(r.Header), "forged") || r.Header.Get("X-MS-CLIENT-PRINCIPAL-ID") != principal {
				t.Errorf("the application sees %v", r.Header)
			}
		}},
		{30, "private or weak keys in the key set are not used", func(_ *testing.T, f *fortress, _ map[string]any) {
			f.issuer.setKeys(testKey{id: "key-0", private: key, extra: map[string]any{"d": b64(key.D.Bytes())}})
			f.refuses(map[string]string{"a private key": f.token}, reason.UnknownKey) // weak ones: TestUnusableKeysAreLeftOut
		}},
		{34, "discovery over http, or with a jwks_uri on another host", func(t *testing.T, _ *fortress, _ map[string]any) {
			if _, err := guard.New(guard.Trust{Issuers: []string{"http://login.example/" + tenant + "/"}, Audiences: []string{audience}}, guard.Options{}); err == nil {
				t.Error("an http issuer is accepted")
			}
			evil := newIssuer(t)
			f := newFortress(t, func(trust *guard.Trust) { trust.Issuers = trust.Issuers[:1] })
			for _, keysAt := range []string{evil.URL + "/common/discovery/keys", strings.Replace(f.issuer.URL, "https", "http", 1) + "/common/discovery/keys"} {
				f.issuer.answer("/"+tenant+"/.well-known/openid-configuration", func(w http.ResponseWriter, _ *http.Request) {
					writeJSON(w, map[string]any{"issuer": f.issuer.v1(tenant), "jwks_uri": keysAt})
				})
				if res := f.attack("", "Bearer "+f.token); res.status != http.StatusServiceUnavailable || res.code() != reason.DiscoveryInvalid {
					t.Errorf("%s: %d %s", keysAt, res.status, res.body)
				}
				f.clock.advance(time.Minute) // past the back-off
			}
			if n := evil.keySets.Load(); n > 0 {
				t.Errorf("the other host was asked %d times", n)
			}
		}},
	} {
		t.Run(fmt.Sprintf("%d %s", row.number, row.name), func(t *testing.T) {
			f := newFortress(t, nil)
			row.run(t, f, f.issuer.claims(f.clock))
		})
	}

	t.Run("and a good token passes", func(t *testing.T) {
		f := newFortress(t, nil)
		if res := f.attack("", "Bearer "+f.token); res.status != 200 || res.body != "in" || f.called != 1 {
			t.Errorf("%d %s", res.status, res.body)
		}
	})
}
