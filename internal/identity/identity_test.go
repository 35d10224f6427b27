package identity

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"
)

func jwt(payload string) string {
	enc := base64.RawURLEncoding.EncodeToString
	return enc([]byte(`{"alg":"RS256"}`)) + "." + enc([]byte(payload)) + "." + enc([]byte("signature-canary"))
}

func TestClaimsOfARawToken(t *testing.T) {
	for _, row := range []struct{ name, raw, claims string }{
		{"a signed JWT", jwt(`{"aud":"api://x"}`), `{"aud":"api://x"}`},
		{"an opaque token", "0123456789abcdef", ""},
		{"an encrypted JWT has five segments", jwt(`{}`) + ".a.b", ""},
		{"two segments", "e30.e30", ""},
		{"padding", "e30.e30=.x", ""},
		{"not an object", jwt(`["aud"]`), ""},
		{"not JSON", jwt(`{"aud":`), ""},
		{"empty", "", ""},
	} {
		t.Run(row.name, func(t *testing.T) {
			tok := NewToken(row.raw, time.Time{}, time.Time{}, time.Time{})
			if string(tok.Claims) != row.claims {
				t.Errorf("claims %q, want %q", tok.Claims, row.claims)
			}
			if tok.Raw != row.raw || tok.Authorization[0] != "Bearer "+row.raw {
				t.Error("the raw token was changed")
			}
		})
	}
}

func TestATokenNeverShowsItself(t *testing.T) {
	tok := NewToken(jwt(`{"aud":"api://x"}`), time.Now(), time.Now().Add(time.Hour), time.Time{})
	var out bytes.Buffer
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x"} {
		fmt.Fprintf(&out, verb, tok)
		fmt.Fprintf(&out, verb, struct{ T *Token }{tok})
	}
	slog.New(slog.NewJSONHandler(&out, nil)).Info("x", "token", tok)
	slog.New(slog.NewTextHandler(&out, nil)).Info("x", "token", tok, "error", fmt.Errorf("with %v", tok))
	b, err := json.Marshal(map[string]any{"token": tok})
	if err != nil {
		t.Fatal(err)
	}
	out.Write(b)
	for _, secret := range []string{tok.Raw, base64.RawURLEncoding.EncodeToString([]byte("signature-canary"))} {
		if strings.Contains(out.String(), secret) {
			t.Fatalf("the token is in %s", out.String())
		}
	}
}

func TestAnErrorSaysWhatTheIssuerSaid(t *testing.T) {
	cause := errors.New("dial refused")
	for want, err := range map[string]*Error{
		"token refused: AADSTS500011: no such resource": {Code: "AADSTS500011", Description: "AADSTS500011: no such resource"},
		"token refused: AADSTS90033":                    {Code: "AADSTS90033"},
		"token refused: AADSTS90033: dial refused":      {Code: "AADSTS90033", Err: cause},
	} {
		if err.Error() != want {
			t.Errorf("got %q, want %q", err.Error(), want)
		}
	}
	if !errors.Is(&Error{Err: cause}, cause) {
		t.Error("the cause is hidden")
	}
}

func FuzzNewToken(f *testing.F) {
	f.Add(jwt(`{"aud":"api://x"}`))
	f.Add("a.b.c")
	f.Add("..")
	f.Fuzz(func(t *testing.T, raw string) {
		tok := NewToken(raw, time.Time{}, time.Time{}, time.Time{})
		if tok.Claims != nil && !json.Valid(tok.Claims) {
			t.Fatalf("claims of %q are not JSON: %q", raw, tok.Claims)
		}
	})
}
