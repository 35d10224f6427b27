package access

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"tabard/guard/reason"
)

// TestSecurityChecklist goes through the rows of identity.md, appendix B, that a token of a directory can meet on the
// data plane, by number. Row 2 and the client token of row 11 are in TestNoTokenOfOneKindPassesAsTheOther.
func TestSecurityChecklist(t *testing.T) {
	const other = "bbbb0000-0000-4000-8000-00000000000b"
	headed := func(member string) string {
		return rs256(rsaKey(), `{"typ":"JWT","alg":"RS256",`+member+`}`, accessClaims(nil))
	}
	good := accessToken(nil)
	parts := strings.Split(good, ".")
	const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
	last := len(good) - 1
	notCanonical := good[:last] + string(alphabet[strings.IndexByte(alphabet, good[last])^1]) // the same bytes, if read leniently
	unsigned := func(alg, signature string) string {
		return encode(`{"typ":"JWT","alg":"`+alg+`","kid":"k"}`) + "." + parts[1] + "." + signature
	}
	raw := func(payload string) string { return rs256Text(rsaKey(), rsaHeader, payload) } // signed as it stands
	for _, tc := range []struct {
		row         int
		name, token string
		want        reason.Code
	}{
		{1, "alg none with a signature", unsigned("none", parts[2]), reason.AlgorithmNotAllowed},
		{1, "alg None with a signature", unsigned("None", parts[2]), reason.AlgorithmNotAllowed},
		{1, "alg nOnE without a signature", unsigned("nOnE", ""), reason.AlgorithmNotAllowed},
		{1, "alg RS256 without a signature", parts[0] + "." + parts[1] + ".", reason.AlgorithmNotAllowed},
		{3, "jku", headed(`"kid":"x","jku":"https://evil.example/keys"`), reason.UnknownKey},
		{3, "x5u", headed(`"kid":"x","x5u":"https://evil.example/cert"`), reason.UnknownKey},
		{3, "x5c", headed(`"kid":"x","x5c":["MIIB"]`), reason.UnknownKey},
		{3, "jwk", headed(`"kid":"x","jwk":{"kty":"RSA","n":"AQAB","e":"AQAB"}`), reason.UnknownKey},
		{5, "a kid that is a path", headed(`"kid":"../../keys"`), reason.UnknownKey},
		{5, "a kid with quotes", headed(`"kid":"' or '1'='1"`), reason.UnknownKey},
		{5, "a kid with NUL", headed(`"kid":"k\u0000"`), reason.UnknownKey},
		{5, "a kid of a kibibyte", headed(`"kid":"` + strings.Repeat("k", 1024) + `"`), reason.KeyIDInvalid},
		{5, "no kid", headed(`"x":1`), reason.KeyIDInvalid},
		{6, "another tenant's tid and iss", accessToken(m{"tid": other, "iss": authority + "/" + other + "/"}), reason.WrongTenant},
		{7, "iss of one tenant, tid of another", accessToken(m{"iss": authority + "/" + other + "/"}), reason.IssuerMismatch},
		{8, "version 2 with the issuer of version 1", accessToken(m{"ver": "2.0", "azp": client}), reason.IssuerVersion},
		{8, "version 1 with the issuer of version 2", accessToken(m{"iss": authority + "/" + tenant + "/v2.0"}), reason.IssuerVersion},
		{9, "another application", accessToken(m{"aud": "api://other"}), reason.WrongAudience},
		{9, "a list with ours in it", accessToken(m{"aud": []string{"api://other", resource}}), reason.AudienceIsList},
		{9, "ours in other letters", accessToken(m{"aud": strings.ToUpper(resource)}), reason.WrongAudience},
		{9, "ours with spn: in front", accessToken(m{"aud": "spn:" + resource}), reason.WrongAudience},
		{10, "the right audience, no role", accessToken(m{"oid": client, "sub": client}), reason.RoleUnassigned},
		{10, "the right application, but a user", accessToken(m{"scp": "access"}), reason.NotAppToken},
		{11, "an id token", accessToken(m{"appid": nil, "idtyp": nil, "nonce": "n"}), reason.NotAppToken},
		{11, "a key vault's token", accessToken(m{"aud": "https://vault.azure.net"}), reason.WrongAudience},
		{12, "no exp", accessToken(m{"exp": nil}), reason.ExpiryMissing},
		{12, "exp as text", accessToken(m{"exp": fmt.Sprint(now.Unix() + 60)}), reason.ClaimInvalid},
		{12, "exp in milliseconds", accessToken(m{"exp": (now.Unix() + 60) * 1000}), reason.ClaimInvalid},
		{12, "nbf in ten minutes", accessToken(m{"nbf": now.Unix() + 600}), reason.NotYetValid},
		{13, "a claim twice", raw(`{"aud":"` + resource + `","aud":"` + resource + `"}`), reason.TokenMalformed},
		{13, "a header member twice", headed(`"kid":"k","kid":"k"`), reason.TokenMalformed},
		{13, "something behind the claims", raw(`{"aud":"` + resource + `"} {}`), reason.TokenMalformed},
		{13, "base64url that is not canonical", notCanonical, reason.TokenMalformed},
		{13, "padding", good + "==", reason.TokenMalformed},
		{13, "four segments", good + "." + parts[2], reason.TokenMalformed},
		{14, "20 megabytes", good + strings.Repeat("A", 20<<20), reason.TokenTooLarge},
	} {
		t.Run(fmt.Sprintf("%02d %s", tc.row, tc.name), func(t *testing.T) {
			d := newDirectory(t)
			if p, err := d.verifier().Server(instance(), call(sendURL, tc.token), sendAction); code(err) != tc.want {
				t.Errorf("%+v, %v (%s), want %s", p, err, code(err), tc.want)
			}
		})
	}
	t.Run("04 ten thousand unknown keys", func(t *testing.T) {
		d := newDirectory(t)
		v := d.verifier()
		for i := range 10_000 {
			header := fmt.Sprintf(`{"typ":"JWT","alg":"RS256","kid":"k%d"}`, i)
			if _, err := v.Server(instance(), call(sendURL, encode(header)+"."+parts[1]+"."+parts[2]), sendAction); code(err) != reason.UnknownKey {
				t.Fatal(err)
			}
		}
		if n := d.fetches.Load(); n > 2 {
			t.Errorf("the keys were fetched %d times", n)
		}
		if _, err := v.Server(instance(), call(sendURL, good), sendAction); err != nil {
			t.Errorf("a good token afterwards: %v", err)
		}
	})
	t.Run("14 two headers, and a token in the query", func(t *testing.T) {
		v := newDirectory(t).verifier()
		r := call(sendURL, good)
		r.Header["Authorization"] = append(r.Header["Authorization"], "Bearer "+good)
		if _, err := v.Server(instance(), r, sendAction); code(err) != reason.SeveralAuthorizationHeaders {
			t.Error(err)
		}
		r = httptest.NewRequest(http.MethodPost, sendURL+"?access_token="+good, nil)
		if _, err := v.Server(instance(), r, sendAction); code(err) != reason.NoToken {
			t.Error(err)
		}
	})
}
