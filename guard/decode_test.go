package guard_test

import (
	"crypto"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/json"
	"strings"
	"testing"
	"time"

	"tabard/guard"
	"tabard/guard/reason"
)

func TestDecodeShowsATokenAndWhatIsOddAboutIt(t *testing.T) {
	is, c := newIssuer(t), newClock()
	good := is.token(is.claims(c))
	parts := strings.Split(good, ".")
	header := func(json string) string { return b64([]byte(json)) + "." + parts[1] + "." + parts[2] }
	for _, tc := range []struct {
		name, token string
		note        reason.Code
	}{
		{"a good one", good, ""},
		{"for Microsoft Graph", is.token(with(is.claims(c), "aud", "https://graph.microsoft.com")), reason.AudienceIsGraph},
		{"alg none", header(`{"alg":"none"}`), reason.AlgorithmNotAllowed},
		{"encrypted", header(`{"alg":"RSA-OAEP","enc":"A256GCM"}`) + ".a.b", reason.EncryptedToken},
	} {
		t.Run(tc.name, func(t *testing.T) {
			got, err := guard.Decode(tc.token)
			if err != nil {
				t.Fatal(err)
			}
			found := tc.note == ""
			for _, n := range got.Notes {
				found = found || n.Code == tc.note
			}
			if !found || !json.Valid(got.Header) {
				t.Errorf("got %s %+v, want a note %s", got.Header, got.Notes, tc.note)
			}
		})
	}
	for _, bad := range []string{"", "a", "a.b", "a.b.c.d", "é.é.é", strings.Repeat("x", guard.MaxTokenSize+1)} {
		if got, err := guard.Decode(bad); err == nil {
			t.Errorf("%.20q decodes as %+v", bad, got)
		}
	}
}

func FuzzDecode(f *testing.F) {
	f.Add("eyJhbGciOiJSUzI1NiJ9.eyJhdWQiOiJhIn0.c2ln")
	f.Add("eyJhbGciOiJub25lIn0.e30.")
	f.Add("a.b.c.d.e")
	is, c := newIssuer(f), newClock()
	v := newVerifier(f, is.trust(c))
	if err := v.Preload(f.Context()); err != nil {
		f.Fatal(err)
	}
	f.Add(is.token(is.claims(c)))
	f.Fuzz(func(t *testing.T, token string) {
		decoded, err := guard.Decode(token)
		if err == nil && !json.Valid(decoded.Header) {
			t.Errorf("header %q is no JSON", decoded.Header)
		}
		claims, err := v.Verify(t.Context(), token)
		if (claims == nil) == (err == nil) {
			t.Errorf("claims %v with error %v", claims, err)
		}
		if err == nil && token != is.token(is.claims(c)) {
			t.Errorf("accepted %q", token)
		}
	})
}

func BenchmarkSeenToken(b *testing.B) {
	is, c := newIssuer(b), newClock()
	c.seconds.Store(time.Now().Unix())
	trust := is.trust(c)
	trust.Now = nil // reading the real clock is part of the price
	v := newVerifier(b, trust)
	token := is.token(is.claims(c))
	if _, err := v.Verify(b.Context(), token); err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := v.Verify(b.Context(), token); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkNewToken remembers none, so that each is new. BenchmarkBareRSA is what it is held against.
func BenchmarkNewToken(b *testing.B) {
	is, c := newIssuer(b), newClock()
	trust := is.trust(c)
	trust.SeenTokens = -1
	v := newVerifier(b, trust)
	token := is.token(is.claims(c))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := v.Verify(b.Context(), token); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkBareRSA(b *testing.B) {
	key := rsaKeys()[0]
	sum := sha256.Sum256([]byte("signed"))
	signature, err := rsa.SignPKCS1v15(nil, key, crypto.SHA256, sum[:])
	if err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		if err := rsa.VerifyPKCS1v15(&key.PublicKey, crypto.SHA256, sum[:], signature); err != nil {
			b.Fatal(err)
		}
	}
}
