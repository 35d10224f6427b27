package guard_test

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
	"net/http"
	"strings"
	"testing"
	"time"

	"tabard/guard"
	"tabard/guard/reason"
)

func TestGoodTokensPass(t *testing.T) {
	is, c := newIssuer(t), newClock()
	v := newVerifier(t, is.trust(c))
	for _, tc := range []struct {
		name   string
		claims map[string]any
	}{
		{"version 1, a managed identity", is.claims(c)},
		{"version 2, by the same configuration", is.claims2(c)},
		{"without idtyp, oid and sub agree", with(is.claims(c), "idtyp", nil)},
		{"without iat and nbf", with(is.claims(c), "iat", nil, "nbf", nil)},
		{"expired 4 minutes ago", with(is.claims(c), "exp", c.now().Unix()-240)},
		{"valid in 4 minutes", with(is.claims(c), "nbf", c.now().Unix()+240, "iat", c.now().Unix()+240)},
		{"a life of 48 hours and the skew", with(is.claims(c), "exp", c.now().Unix()+48*3600)},
		{"a tenant id in capitals, if the issuer says so", with(is.claims(c), "roles", []string{"a", "b"})},
	} {
		t.Run(tc.name, func(t *testing.T) {
			token := is.token(tc.claims)
			for range 2 { // the second time it is remembered
				claims, err := v.Verify(t.Context(), token)
				if err != nil {
					t.Fatal(err)
				}
				if claims.ObjectID != principal || claims.AppID != client || claims.TenantID != tenant || claims.Audience != tc.claims["aud"] ||
					claims.Issuer != tc.claims["iss"] || claims.Version != tc.claims["ver"] || !json.Valid(claims.Raw) {
					t.Errorf("claims are %+v", claims)
				}
			}
		})
	}
}

func TestClaimsAreReadWhole(t *testing.T) {
	is, c := newIssuer(t), newClock()
	v := newVerifier(t, is.trust(c))
	claims, err := v.Verify(t.Context(), is.token(with(is.claims2(c), "roles", []string{"Events.Send", "Übung"})))
	if err != nil {
		t.Fatal(err)
	}
	now := c.now()
	if !claims.Expiry.Equal(now.Add(24*time.Hour)) || !claims.IssuedAt.Equal(now.Add(-5*time.Minute)) || !claims.NotBefore.Equal(now.Add(-5*time.Minute)) {
		t.Errorf("times are %v, %v, %v", claims.Expiry, claims.IssuedAt, claims.NotBefore)
	}
	if !claims.HasRole("Übung") || !claims.HasRole("Events.Send") || claims.HasRole("Events") {
		t.Errorf("roles are %q", claims.Roles)
	}
	if claims.HostResourceID != "/host" || !strings.HasPrefix(claims.ResourceID, "/subscriptions/") || claims.TokenID != "x9" || claims.Subject != principal || claims.IdentityType != "app" {
		t.Errorf("claims are %+v", claims)
	}
}

// goodHeader is what the issuer's first key signs with.
func goodHeader() map[string]any {
	return map[string]any{"typ": "JWT", "alg": "RS256", "x5t": "key-0", "kid": "key-0"}
}

// hs256 signs as someone who knows a shared key, or takes a public key for one.
func hs256(key []byte, header, claims any) string {
	input := b64([]byte(text(header))) + "." + b64([]byte(text(claims)))
	h := hmac.New(sha256.New, key)
	h.Write([]byte(input))
	return input + "." + b64(h.Sum(nil))
}

// TestAttacksAreRefused goes through identity.md 9.3 and appendix B.
func TestAttacksAreRefused(t *testing.T) {
	is, c := newIssuer(t), newClock()
	key, foreign := rsaKeys()[0], rsaKeys()[3]
	good := is.claims(c)
	now := c.now().Unix()
	der := x509.MarshalPKCS1PublicKey(&key.PublicKey)
	spki, err := x509.MarshalPKIXPublicKey(&key.PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	attackerJWK := jwks([]testKey{{id: "key-0", private: foreign}}, "").(map[string]any)["keys"].([]any)[0].(map[string]any)
	delete(attackerJWK, "x5t") // go-jose demands a SHA-1 there
	attacker := newIssuer(t)
	parts := strings.Split(is.token(good), ".")
	lastChar := parts[2][len(parts[2])-1:]
	sameBits := string("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"[strings.Index("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_", lastChar)^1])
	signGood := func(changes ...any) string { return is.token(with(good, changes...)) }
	withHeader := func(changes ...any) string { return sign(key, with(goodHeader(), changes...), good) }
	withAlg := func(alg string) string {
		return b64([]byte(text(with(goodHeader(), "alg", alg)))) + "." + b64([]byte(text(good))) + "."
	}

	for _, tc := range []struct {
		name, token string
		want        reason.Code
	}{
		{"no algorithm", withAlg("none"), reason.AlgorithmNotAllowed},
		{"no algorithm, capital", withAlg("None"), reason.AlgorithmNotAllowed},
		{"no algorithm, capitals", withAlg("NONE"), reason.AlgorithmNotAllowed},
		{"no algorithm, mixed", withAlg("nOnE"), reason.AlgorithmNotAllowed},
		{"an empty algorithm", withAlg(""), reason.AlgorithmNotAllowed},
		{"an algorithm that is not a string", sign(key, with(goodHeader(), "alg", 1), good), reason.TokenMalformed},
		{"no alg member", withHeader("alg", nil), reason.AlgorithmNotAllowed},
		{"an empty signature", parts[0] + "." + parts[1] + ".", reason.SignatureInvalid},
		{"HS256 keyed with the DER of the public key", hs256(der, with(goodHeader(), "alg", "HS256"), good), reason.AlgorithmNotAllowed},
		{"HS256 keyed with the PEM of the public key", hs256(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: spki}), with(goodHeader(), "alg", "HS256"), good), reason.AlgorithmNotAllowed},
		{"HS256 keyed with the JWK of the public key", hs256([]byte(text(attackerJWK)), with(goodHeader(), "alg", "HS256"), good), reason.AlgorithmNotAllowed},
		{"HMAC named RS256", hs256(der, goodHeader(), good), reason.SignatureInvalid},
		{"PS256 with the right key", ps256(key, with(goodHeader(), "alg", "PS256"), good), reason.AlgorithmNotAllowed},
		{"a PS256 signature named RS256", ps256(key, goodHeader(), good), reason.SignatureInvalid},
		{"RS512", withHeader("alg", "RS512"), reason.AlgorithmNotAllowed},

		{"another key behind a known key id", sign(foreign, goodHeader(), good), reason.SignatureInvalid},
		{"a jwk header with the attacker's key", sign(foreign, with(goodHeader(), "jwk", attackerJWK), good), reason.SignatureInvalid},
		{"a jwk header and no key id", sign(foreign, with(goodHeader(), "jwk", attackerJWK, "kid", nil), good), reason.KeyIDInvalid},
		{"a jku header to the attacker's keys", sign(foreign, with(goodHeader(), "jku", attacker.URL+"/common/discovery/keys"), good), reason.SignatureInvalid},
		{"an x5u header to the attacker's certificate", sign(foreign, with(goodHeader(), "x5u", attacker.URL+"/cert"), good), reason.SignatureInvalid},
		{"an x5c header with the attacker's certificate", sign(foreign, with(goodHeader(), "x5c", []string{base64.StdEncoding.EncodeToString(attacker.Certificate().Raw)}), good), reason.SignatureInvalid},
		{"crit", withHeader("crit", []string{"exp"}), reason.CriticalHeader},
		{"crit, empty", withHeader("crit", []string{}), reason.CriticalHeader},
		{"an unencoded payload", withHeader("b64", false), reason.TokenMalformed},
		{"a compressed payload", withHeader("zip", "DEF"), reason.TokenMalformed},

		{"a key id that is not published", withHeader("kid", "nobody"), reason.UnknownKey},
		{"no key id", withHeader("kid", nil), reason.KeyIDInvalid},
		{"an empty key id", withHeader("kid", ""), reason.KeyIDInvalid},
		{"a key id that is a number", withHeader("kid", 7), reason.TokenMalformed},
		{"a key id that is a path", withHeader("kid", "../../etc/passwd"), reason.UnknownKey},
		{"a key id with quotes", withHeader("kid", `' OR "1"="1`), reason.UnknownKey},
		{"a key id with a NUL", withHeader("kid", "key-0\x00"), reason.UnknownKey},
		{"a key id in other letter case", withHeader("kid", "KEY-0"), reason.UnknownKey},
		{"a key id of 257 bytes", withHeader("kid", strings.Repeat("k", 257)), reason.KeyIDInvalid},
		{"a key id of 1 MiB", withHeader("kid", strings.Repeat("k", 1<<20)), reason.TokenTooLarge},

		{"another tenant, signed by the shared key", signGood("tid", otherTenant, "iss", is.v1(otherTenant)), reason.WrongTenant},
		{"issuer of one tenant, tid of another", signGood("tid", otherTenant), reason.WrongTenant},
		{"issuer of another tenant, own tid", signGood("iss", is.v1(otherTenant)), reason.IssuerMismatch},
		{"no tenant", signGood("tid", nil), reason.WrongTenant},
		{"a tenant that is not a GUID", signGood("tid", "common"), reason.WrongTenant},
		{"the placeholder as tenant", signGood("tid", "{tenantid}", "iss", is.v1("{tenantid}")), reason.WrongTenant},
		{"version 1 with the issuer of version 2", signGood("iss", is.v2(tenant)), reason.IssuerVersion},
		{"version 2 with the issuer of version 1", is.token(with(is.claims2(c), "iss", is.v1(tenant))), reason.IssuerVersion},
		{"version 3", signGood("ver", "3.0"), reason.IssuerVersion},
		{"no version", signGood("ver", nil), reason.IssuerVersion},
		{"the issuer without its slash", signGood("iss", strings.TrimSuffix(is.v1(tenant), "/")), reason.IssuerMismatch},
		{"the issuer in capitals", signGood("iss", strings.ToUpper(is.v1(tenant))), reason.IssuerMismatch},
		{"Microsoft's issuer", signGood("iss", "https://sts.windows.net/"+tenant+"/"), reason.IssuerMismatch},
		{"no issuer", signGood("iss", nil), reason.IssuerMismatch},
		{"an issuer that is a number", signGood("iss", 1), reason.ClaimInvalid},

		{"another audience", signGood("aud", "api://other"), reason.WrongAudience},
		{"the audience in other letter case", signGood("aud", "API://handler"), reason.WrongAudience},
		{"the audience with a slash", signGood("aud", audience+"/"), reason.WrongAudience},
		{"the audience with spn:", signGood("aud", "spn:"+appID), reason.WrongAudience},
		{"an empty audience", signGood("aud", ""), reason.WrongAudience},
		{"no audience", signGood("aud", nil), reason.WrongAudience},
		{"a list of audiences with ours", signGood("aud", []string{audience, "api://other"}), reason.AudienceIsList},
		{"a list of our audience only", signGood("aud", []string{audience}), reason.AudienceIsList},
		{"an audience that is an object", signGood("aud", map[string]any{"a": audience}), reason.ClaimInvalid},
		{"an audience that is null", sign(key, goodHeader(), json.RawMessage(strings.Replace(text(good), `"aud":"`+audience+`"`, `"aud":null`, 1))), reason.ClaimInvalid},
		{"Microsoft Graph, as others make it", signGood("aud", "https://graph.microsoft.com"), reason.AudienceIsGraph},
		{"Microsoft Graph, as Microsoft makes it", sign(foreign, with(goodHeader(), "nonce", "n"), with(good, "aud", "00000003-0000-0000-c000-000000000000")), reason.AudienceIsGraph},
		{"a token for Key Vault", signGood("aud", "https://vault.azure.net"), reason.WrongAudience},

		{"expired 6 minutes ago", signGood("exp", now-360), reason.Expired},
		{"expired exactly 5 minutes ago", signGood("exp", now-300), reason.Expired},
		{"no expiry", signGood("exp", nil), reason.ExpiryMissing},
		{"an expiry that is a string", signGood("exp", "1790086400"), reason.ClaimInvalid},
		{"an expiry in milliseconds", signGood("exp", (now+3600)*1000), reason.ClaimInvalid},
		{"a huge expiry", sign(key, goodHeader(), json.RawMessage(`{"exp":1e400,`+text(with(good, "exp", nil))[1:])), reason.ClaimInvalid},
		{"an expiry with a fraction", signGood("exp", 1790086400.5), reason.ClaimInvalid},
		{"a negative expiry", signGood("exp", -1), reason.ClaimInvalid},
		{"an expiry in the year 9000", signGood("exp", 221845392000), reason.LifetimeTooLong},
		{"a life of a year that is almost over", signGood("iat", now-365*86400, "nbf", now-365*86400, "exp", now+60), reason.LifetimeTooLong},
		{"valid in 10 minutes", signGood("nbf", now+600), reason.NotYetValid},
		{"issued in 10 minutes", signGood("iat", now+600), reason.ClockSkew},
		{"a start that is a string", signGood("nbf", "now"), reason.ClaimInvalid},

		{"a user's token", signGood("scp", "user_impersonation", "idtyp", "user", "sub", "pairwise"), reason.NotAppToken},
		{"a user's token without idtyp", signGood("idtyp", nil, "sub", "pairwise"), reason.NotAppToken},
		{"an app's token with a user's scope", signGood("scp", "x"), reason.NotAppToken},
		{"an id token", is.token(with(is.claims2(c), "nonce", "n", "azp", nil, "idtyp", nil)), reason.NotAppToken},
		{"an id token without nonce", is.token(with(is.claims2(c), "azp", nil, "idtyp", nil)), reason.NotAppToken},
		{"a token without oid", signGood("oid", nil), reason.NotAppToken},
		{"an unknown kind", signGood("idtyp", "device"), reason.NotAppToken},
		{"roles that are a string", signGood("roles", "Events.Send"), reason.ClaimInvalid},
		{"roles with a number in them", signGood("roles", []any{"a", 1}), reason.ClaimInvalid},
		{"a client token of Web PubSub", hs256([]byte("key"), map[string]any{"alg": "HS256", "typ": "JWT"}, map[string]any{"aud": is.URL + "/client/hubs/chat", "exp": now + 60}), reason.AlgorithmNotAllowed},

		{"a repeated claim", signText(key, text(goodHeader()), `{"aud":"api://other",`+text(good)[1:]), reason.TokenMalformed},
		{"a repeated claim, escaped", signText(key, text(goodHeader()), `{"\u0061ud":"api://other",`+text(good)[1:]), reason.TokenMalformed},
		{"a repeated header member", signText(key, `{"alg":"none",`+text(goodHeader())[1:], text(good)), reason.TokenMalformed},
		{"data after the claims", signText(key, text(goodHeader()), text(good)+`{}`), reason.TokenMalformed},
		{"data after the header", signText(key, text(goodHeader())+" x", text(good)), reason.TokenMalformed},
		{"claims that are a list", signText(key, text(goodHeader()), `[]`), reason.TokenMalformed},
		{"claims that are no JSON", signText(key, text(goodHeader()), `hello`), reason.TokenMalformed},
		{"a token inside a token", signText(key, text(with(goodHeader(), "cty", "JWT")), text(good)), reason.TokenMalformed},
		{"a nested token as payload", signText(key, text(goodHeader()), is.token(good)), reason.TokenMalformed},
		{"a type of another kind", withHeader("typ", "dpop+jwt"), reason.TokenMalformed},
		{"a changed signature", parts[0] + "." + parts[1] + "." + flip(parts[2]), reason.SignatureInvalid},
		{"changed claims", parts[0] + "." + b64([]byte(text(with(good, "oid", otherTenant)))) + "." + parts[2], reason.SignatureInvalid},
		{"trailing bits in base64url", parts[0] + "." + parts[1] + "." + parts[2][:len(parts[2])-1] + sameBits, reason.TokenMalformed},
		{"padding", parts[0] + "." + parts[1] + "." + parts[2] + "==", reason.TokenMalformed},
		{"standard base64", strings.NewReplacer("-", "+", "_", "/").Replace(parts[0] + "." + b64([]byte(text(with(good, "x", "\u00ff\u00ff??>>")))) + "." + parts[2]), reason.TokenMalformed},
		{"a line end inside", parts[0] + "." + parts[1] + ".\n" + parts[2], reason.TokenMalformed},
		{"a space in front", " " + is.token(good), reason.TokenMalformed},
		{"two parts", parts[0] + "." + parts[1], reason.TokenMalformed},
		{"four parts", is.token(good) + ".x", reason.TokenMalformed},
		{"five parts", strings.Repeat("eyJh.", 4) + "eyJh", reason.EncryptedToken},
		{"an opaque token", "0123456789abcdef", reason.TokenMalformed},
		{"nothing", "", reason.TokenMalformed},
		{"dots", "..", reason.TokenMalformed},
		{"20 MB", strings.Repeat("A", 20<<20), reason.TokenTooLarge},
	} {
		t.Run(tc.name, func(t *testing.T) {
			for _, warm := range []bool{false, true} {
				v := newVerifier(t, is.trust(c))
				if warm { // keys are known, and the header of good tokens is vetted
					if _, err := v.Verify(t.Context(), is.token(good)); err != nil {
						t.Fatal(err)
					}
				}
				claims, err := v.Verify(t.Context(), tc.token)
				if claims != nil || codeOf(t, err) != tc.want {
					t.Errorf("warm %v: claims %v, error %v; want %s", warm, claims, err, tc.want)
				}
				var e *guard.Error
				if errors.As(err, &e) && e.Status != http.StatusUnauthorized && tc.want != reason.NotAppToken {
					t.Errorf("status is %d", e.Status)
				}
				if err != nil && len(err.Error()) > 1500 {
					t.Errorf("the error has %d bytes", len(err.Error()))
				}
			}
		})
	}
	if n := attacker.keySets.Load(); n > 0 {
		t.Errorf("the attacker's keys were fetched %d times", n)
	}
}

// flip changes one character in the middle.
func flip(s string) string {
	b := []byte(s)
	if b[9] == 'A' {
		b[9] = 'B'
	} else {
		b[9] = 'A'
	}
	return string(b)
}

func ps256(k *rsa.PrivateKey, header, claims any) string {
	input := b64([]byte(text(header))) + "." + b64([]byte(text(claims)))
	sum := sha256.Sum256([]byte(input))
	signature, err := rsa.SignPSS(rand.Reader, k, crypto.SHA256, sum[:], nil)
	if err != nil {
		panic(err)
	}
	return input + "." + b64(signature)
}

func TestRefusalsNameBothValues(t *testing.T) {
	is, c := newIssuer(t), newClock()
	trust := is.trust(c)
	trust.Audiences = []string{"api://a"}
	trust.Roles = []string{"Events.Send"}
	v := newVerifier(t, trust)
	good := with(is.claims(c), "aud", "api://a")
	for _, tc := range []struct {
		name   string
		claims map[string]any
		want   string
	}{
		{"audience", with(good, "aud", "api://b"), `wrong_audience: audience is "api://b", want "api://a"`},
		{"issuer", with(good, "iss", "https://x/"), `issuer_mismatch: issuer is "https://x/", want "` + is.v1(tenant) + `"`},
		{"expiry", with(good, "exp", c.now().Unix()-3600), `expired: the token expired 1h0m0s ago, at 2026-09-21T13:13:20Z`},
		{"no role", good, `role_missing: the caller's roles are none, want "Events.Send"`},
		{"another role", with(good, "roles", []string{"Read", "Write"}), `role_missing: the caller's roles are "Read" or "Write", want "Events.Send"`},
	} {
		t.Run(tc.name, func(t *testing.T) {
			_, err := v.Verify(t.Context(), is.token(tc.claims))
			if err == nil || err.Error() != tc.want {
				t.Errorf("got  %v\nwant %s", err, tc.want)
			}
		})
	}
}

func TestCallersAndRoles(t *testing.T) {
	is, c := newIssuer(t), newClock()
	for _, tc := range []struct {
		name           string
		callers, roles []string
		claims         map[string]any
		want           reason.Code
	}{
		{"the object id is allowed", []string{principal}, nil, is.claims(c), ""},
		{"the object id is allowed, in capitals", []string{strings.ToUpper(principal)}, nil, is.claims(c), ""},
		{"the client id of version 1 is allowed", []string{client}, nil, is.claims(c), ""},
		{"the client id of version 2 is allowed", []string{client}, nil, is.claims2(c), ""},
		{"another identity of the tenant", []string{otherTenant}, nil, is.claims(c), reason.CallerNotAllowed},
		{"a user of the right client", []string{client}, nil, with(is.claims(c), "scp", "x", "idtyp", "user"), reason.NotAppToken},
		{"azp in a version 1 token does not count", []string{otherTenant}, nil, with(is.claims(c), "azp", otherTenant), reason.CallerNotAllowed},
		{"appid in a version 2 token does not count", []string{otherTenant}, nil, with(is.claims2(c), "appid", otherTenant), reason.CallerNotAllowed},
		{"one of two roles", nil, []string{"a", "b"}, with(is.claims(c), "roles", []string{"b"}), ""},
		{"no role", nil, []string{"a"}, is.claims(c), reason.RoleMissing},
		{"the role in other letter case", nil, []string{"a"}, with(is.claims(c), "roles", []string{"A"}), reason.RoleMissing},
		{"the role, but another caller", []string{otherTenant}, []string{"a"}, with(is.claims(c), "roles", []string{"a"}), reason.CallerNotAllowed},
	} {
		t.Run(tc.name, func(t *testing.T) {
			trust := is.trust(c)
			trust.Callers, trust.Roles = tc.callers, tc.roles
			_, err := newVerifier(t, trust).Verify(t.Context(), is.token(tc.claims))
			if codeOf(t, err) != tc.want {
				t.Errorf("got %v, want %s", err, tc.want)
			}
			var e *guard.Error
			if errors.As(err, &e) {
				if e.Status != http.StatusForbidden {
					t.Errorf("status is %d", e.Status)
				}
				for _, allowed := range tc.callers {
					if strings.Contains(e.Message, allowed) && allowed != client {
						t.Errorf("the refusal tells who is allowed: %s", e.Message)
					}
				}
			}
		})
	}
}

func TestTenantIndependentDocuments(t *testing.T) {
	is, c := newIssuer(t), newClock()
	trust := is.trust(c)
	trust.Issuers = guard.Authority(is.URL, "common")
	if _, err := guard.NewVerifier(trust); err == nil || !strings.Contains(err.Error(), "Tenants") {
		t.Errorf("common without tenants: %v", err)
	}
	trust.Tenants = []string{strings.ToUpper(tenant), otherTenant}
	v := newVerifier(t, trust)
	const third = "99990000-0000-4000-8000-000000000009"
	for _, tc := range []struct {
		name   string
		claims map[string]any
		want   reason.Code
	}{
		{"the first tenant, version 1", is.claims(c), ""},
		{"the first tenant, version 2", is.claims2(c), ""},
		{"the second tenant", with(is.claims(c), "tid", otherTenant, "iss", is.v1(otherTenant)), ""},
		{"a tenant that is not listed", with(is.claims(c), "tid", third, "iss", is.v1(third)), reason.WrongTenant},
		{"a listed tenant's issuer, another's tid", with(is.claims(c), "tid", third), reason.WrongTenant},
		{"two listed tenants mixed", with(is.claims(c), "tid", otherTenant), reason.IssuerMismatch},
		{"the placeholder", with(is.claims(c), "tid", "{tenantid}", "iss", is.v1("{tenantid}")), reason.WrongTenant},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if _, err := v.Verify(t.Context(), is.token(tc.claims)); codeOf(t, err) != tc.want {
				t.Errorf("got %v, want %s", err, tc.want)
			}
		})
	}
}

func TestKeysOfAnotherIssuerAreRefused(t *testing.T) {
	is, c := newIssuer(t), newClock()
	consumer := is.v2("9188040d-6c67-4c5b-b112-36a304b66dad")
	is.setKeys(testKey{id: "consumer", private: rsaKeys()[2], extra: map[string]any{"issuer": consumer}})
	v := newVerifier(t, is.trust(c))
	if _, err := v.Verify(t.Context(), is.token(is.claims2(c))); codeOf(t, err) != reason.KeyIssuerMismatch {
		t.Errorf("version 2: %v", err)
	}
	if _, err := v.Verify(t.Context(), is.token(is.claims(c))); codeOf(t, err) != reason.KeyIssuerMismatch {
		t.Errorf("version 1: %v", err)
	}
	// Microsoft's own validator lets a version 1 token pass with a key of the same
	// tenant's version 2 issuer.
	is.setKeys(testKey{id: "v2", private: rsaKeys()[2], extra: map[string]any{"issuer": is.v2("{tenantid}")}})
	if _, err := newVerifier(t, is.trust(c)).Verify(t.Context(), is.token(is.claims(c))); err != nil {
		t.Errorf("version 1 with a key of version 2: %v", err)
	}
}

func TestExplainListsTheChecks(t *testing.T) {
	is, c := newIssuer(t), newClock()
	v := newVerifier(t, is.trust(c))
	names := func(x guard.Verification) string {
		var list []string
		for _, check := range x.Checks {
			name := check.Name
			if !check.OK {
				name += "!"
			}
			list = append(list, name)
		}
		return strings.Join(list, " ")
	}
	const all = "format algorithm key signature tenant version issuer audience lifetime kind caller roles"
	good := is.token(is.claims2(c)) // the second issuer's, so an attempt with the first one fails unseen
	for i, cached := range []bool{false, true} {
		x := v.Explain(t.Context(), good)
		if x.Err != nil || x.Claims == nil || x.Token != nil || x.Cached != cached || names(x) != all {
			t.Errorf("time %d: %q %+v", i, names(x), x)
		}
	}
	x := v.Explain(t.Context(), is.token(with(is.claims2(c), "aud", "api://b")))
	if names(x) != "format algorithm key signature tenant version issuer audience!" || x.Claims != nil || x.Err == nil {
		t.Errorf("wrong audience: %q %+v", names(x), x)
	}
	if last := x.Checks[len(x.Checks)-1]; last.Value != x.Err.Message {
		t.Errorf("the failed check says %q", last.Value)
	}
	if x.Token == nil || x.Token.Claims.Audience != "api://b" || strings.Contains(string(x.Token.Payload), ".") && x.Token.KeyID != "key-0" {
		t.Errorf("the refused token is %+v", x.Token)
	}
	// A token that Verify has seen before is explained in full all the same.
	other := is.token(with(is.claims(c), "uti", "other"))
	if _, err := v.Verify(t.Context(), other); err != nil {
		t.Fatal(err)
	}
	if x := v.Explain(t.Context(), other); names(x) != all {
		t.Errorf("after Verify: %q", names(x))
	}
	if x := v.Explain(t.Context(), "opaque"); names(x) != "format!" || x.Token != nil {
		t.Errorf("opaque: %q %+v", names(x), x)
	}
}

func TestRememberedTokensDoNotOutliveTheirExpiry(t *testing.T) {
	is, c := newIssuer(t), newClock()
	v := newVerifier(t, is.trust(c))
	token := is.token(with(is.claims(c), "exp", c.now().Unix()+60))
	verify := func() error { _, err := v.Verify(context.Background(), token); return err }
	if err := verify(); err != nil {
		t.Fatal(err)
	}
	if v.Remembered() != 1 {
		t.Errorf("%d tokens are remembered", v.Remembered())
	}
	c.advance(61 * time.Second)
	if err := verify(); err != nil || v.Remembered() != 0 {
		t.Errorf("within the skew: %v, %d remembered", err, v.Remembered())
	}
	c.advance(5 * time.Minute)
	if err := verify(); codeOf(t, err) != reason.Expired {
		t.Errorf("after the skew: %v", err)
	}
}

func TestRememberedTokensAreBounded(t *testing.T) {
	is, c := newIssuer(t), newClock()
	trust := is.trust(c)
	trust.SeenTokens = 10
	v := newVerifier(t, trust)
	for i := range 50 {
		if _, err := v.Verify(t.Context(), is.token(with(is.claims(c), "uti", i))); codeOf(t, err) != reason.ClaimInvalid {
			t.Fatal(err) // uti is not a string
		}
		if _, err := v.Verify(t.Context(), is.token(with(is.claims(c), "n", i))); err != nil {
			t.Fatal(err)
		}
		if n := v.Remembered(); n > 11 {
			t.Fatalf("%d tokens are remembered, the limit is 10", n)
		}
	}
}

func TestConfigurationFaultsAreAllReported(t *testing.T) {
	_, err := guard.NewVerifier(guard.Trust{
		Issuers:   []string{"http://127.0.0.1/x/", "https://u:p@h/x", "https://h", "https://h/common/", "ftp://h/t", "::"},
		Audiences: []string{"", "https://graph.microsoft.com/"},
		Tenants:   nil,
		Callers:   []string{"me"},
		CAFile:    "/does/not/exist",
	})
	for _, want := range []string{"not an https URL", "user name", "no tenant", "every tenant", "empty audience", "Graph", `"me"`, "CAFile", "ftp://h/t", "::"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q is not in: %v", want, err)
		}
	}
	if _, err := guard.NewVerifier(guard.Trust{}); err == nil || !strings.Contains(err.Error(), "Issuers") || !strings.Contains(err.Error(), "Audiences") {
		t.Errorf("the zero Trust: %v", err)
	}
}
