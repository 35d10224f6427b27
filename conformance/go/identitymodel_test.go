package conformance_test

import (
	"bytes"
	"context"
	"crypto"
	"crypto/rsa"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"
)

// The rules of Microsoft.IdentityModel with Microsoft.IdentityModel.Validators' issuer rules, written from its
// documents on the standard library alone: keys come from the certificates in x5c, an issuer with {tenantid} is a
// template for the token's tid, the key's own issuer must be the token's, lifetimes have five minutes of leeway.

type identityModel struct {
	issuer    string // of the discovery document, perhaps with {tenantid}
	keys      map[string]modelKey
	audiences []string
	now       func() time.Time
}

type modelKey struct {
	public *rsa.PublicKey
	issuer string
}

// newIdentityModel reads a discovery document and its keys, as ConfigurationManager does.
func newIdentityModel(t *testing.T, s *service, authority string, audiences ...string) *identityModel {
	t.Helper()
	ctx := context.Background()
	document, err := s.get(ctx, strings.TrimSuffix(authority, "/")+"/.well-known/openid-configuration")
	if err != nil {
		t.Fatal(err)
	}
	set, err := s.get(ctx, field(t, document, "jwks_uri"))
	if err != nil {
		t.Fatal(err)
	}
	var jwks struct {
		Keys []struct {
			Kty, Use, Kid, X5t, N, E, Issuer string
			X5c                              []string
		}
	}
	if err := json.Unmarshal(set, &jwks); err != nil || len(jwks.Keys) < 2 {
		t.Fatalf("%d keys, %v", len(jwks.Keys), err)
	}
	m := &identityModel{issuer: field(t, document, "issuer"), keys: map[string]modelKey{}, audiences: audiences, now: time.Now}
	for _, k := range jwks.Keys {
		der, err := base64.StdEncoding.DecodeString(k.X5c[0])
		if err != nil {
			t.Fatalf("x5c of %s: %v", k.Kid, err)
		}
		certificate, err := x509.ParseCertificate(der)
		if err != nil {
			t.Fatalf("x5c of %s: %v", k.Kid, err)
		}
		thumbprint := sha1.Sum(der)
		public, ok := certificate.PublicKey.(*rsa.PublicKey)
		n, _ := base64.RawURLEncoding.DecodeString(k.N)
		if !ok || k.Kty != "RSA" || k.Use != "sig" || k.E != "AQAB" || k.X5t != base64.RawURLEncoding.EncodeToString(thumbprint[:]) || k.Kid != k.X5t || !bytes.Equal(public.N.Bytes(), n) {
			t.Fatalf("the members of key %s contradict its certificate", k.Kid)
		}
		m.keys[k.Kid] = modelKey{public, k.Issuer}
	}
	return m
}

func (m *identityModel) validate(token string) (map[string]any, error) {
	parts := strings.Split(token, ".")
	if len(parts) != 3 || len(token) > 250<<10 {
		return nil, fmt.Errorf("IDX12741: JWT must have three segments")
	}
	var header struct{ Alg, Typ, Kid string }
	var claims map[string]any
	for i, into := range []any{&header, &claims} {
		raw, err := base64.RawURLEncoding.DecodeString(parts[i])
		if err != nil {
			return nil, err
		}
		if err := json.Unmarshal(raw, into); err != nil {
			return nil, err
		}
	}
	key, ok := m.keys[header.Kid]
	if !ok {
		return nil, fmt.Errorf("IDX10503: no key has the kid %q", header.Kid)
	}
	signature, err := base64.RawURLEncoding.DecodeString(parts[2])
	if err != nil {
		return nil, err
	}
	hash := sha256.Sum256([]byte(parts[0] + "." + parts[1]))
	if err := rsa.VerifyPKCS1v15(key.public, crypto.SHA256, hash[:], signature); header.Alg != "RS256" || err != nil {
		return nil, fmt.Errorf("IDX10511: signature validation failed: %v", err)
	}
	text := func(name string) string { v, _ := claims[name].(string); return v }
	at := func(name string) time.Time { v, _ := claims[name].(float64); return time.Unix(int64(v), 0) }
	template := func(issuer string) string { return strings.ReplaceAll(issuer, "{tenantid}", text("tid")) }
	const skew = 5 * time.Minute
	found := false
	for _, a := range m.audiences {
		found = found || a == text("aud")
	}
	switch now := m.now(); {
	case claims["exp"] == nil:
		return nil, fmt.Errorf("IDX10225: no expiration time")
	case now.After(at("exp").Add(skew)):
		return nil, fmt.Errorf("IDX10223: the token is expired")
	case now.Before(at("nbf").Add(-skew)):
		return nil, fmt.Errorf("IDX10222: the token is not yet valid")
	case !found:
		return nil, fmt.Errorf("IDX10214: audience validation failed: %q", text("aud"))
	case text("iss") != template(m.issuer):
		return nil, fmt.Errorf("IDX40001: issuer %q does not match %q", text("iss"), m.issuer)
	case key.issuer != "" && text("iss") != template(key.issuer):
		return nil, fmt.Errorf("IDX40004: the key's issuer is %q", key.issuer)
	}
	return claims, nil
}

// withIdentityModel accepts the token under the tenant's own document and the tenant-independent one, and refuses it
// where it must.
func withIdentityModel(t *testing.T, s *service, token, issuer, audience, principal string) {
	t.Helper()
	common := strings.Replace(issuer, s.TenantID, "common", 1)
	for _, authority := range []string{issuer, common} {
		m := newIdentityModel(t, s, authority, audience)
		claims, err := m.validate(token)
		if err != nil || claims["oid"] != principal || claims["sub"] != principal || claims["idtyp"] != "app" || claims["scp"] != nil {
			t.Errorf("IdentityModel at %s: %v, %v", authority, claims, err)
		}
		for code, edit := range map[string]func(*identityModel){
			"IDX10214": func(m *identityModel) { m.audiences = []string{audience + "x"} },
			"IDX40001": func(m *identityModel) { m.issuer = strings.Replace(m.issuer, "https://", "https://other.", 1) },
			"IDX10223": func(m *identityModel) { m.now = func() time.Time { return time.Now().Add(25 * time.Hour) } },
			"IDX10222": func(m *identityModel) { m.now = func() time.Time { return time.Now().Add(-11 * time.Minute) } },
			"IDX10503": func(m *identityModel) { m.keys = nil },
		} {
			strict := *m
			edit(&strict)
			if _, err := strict.validate(token); err == nil || !strings.HasPrefix(err.Error(), code) {
				t.Errorf("%v, want %s", err, code)
			}
		}
	}
}
