package directory

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// rsaKey spares each test the search for primes.
var rsaKey = sync.OnceValue(func() *rsa.PrivateKey {
	k, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		panic(err)
	}
	return k
})

func certificate(t testing.TB, key crypto.Signer, name string) []byte {
	t.Helper()
	template := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: name},
		NotBefore: time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC), NotAfter: time.Date(2028, 1, 1, 0, 0, 0, 0, time.UTC),
	}
	return must(x509.CreateCertificate(rand.Reader, template, template, key.Public(), key))(t)
}

func TestACertificateIsFoundByBothThumbprints(t *testing.T) {
	d := open(t)
	a, _ := register(t, d, "orders")
	der := certificate(t, rsaKey(), "orders")
	k := must(d.AddKey(t.Context(), a.AppID, KeyCredential{Certificate: pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})}))(t)
	if !guid.MatchString(k.KeyID) || k.DisplayName != "CN=orders" || !bytes.Equal(k.Certificate, der) || k.StartDateTime.Year() != 2026 || k.EndDateTime.Year() != 2028 {
		t.Fatalf("%+v", k)
	}
	a = must1(d.Application(a.ID))(t)
	for _, thumbprint := range [][]byte{k.Thumbprint(), k.ThumbprintSHA256()} {
		if found, ok := a.Key(thumbprint); !ok || found.KeyID != k.KeyID {
			t.Errorf("by %x: %+v", thumbprint, found)
		}
	}
	for _, none := range [][]byte{nil, make([]byte, 20), k.ThumbprintSHA256()[:20]} {
		if found, ok := a.Key(none); ok {
			t.Errorf("by %x: %+v", none, found)
		}
	}
	if public, err := k.PublicKey(); err != nil || !public.Equal(rsaKey().Public()) {
		t.Error(err)
	}
	if _, err := d.AddKey(t.Context(), a.AppID, KeyCredential{Certificate: der}); !slices.Equal(fields(err), []string{"keyCredentials"}) {
		t.Errorf("the same once more: %v", err)
	}
	if err := d.RemoveKey(t.Context(), a.AppID, strings.ToUpper(k.KeyID)); err != nil {
		t.Fatal(err)
	}
	wantErr(t, d.RemoveKey(t.Context(), a.AppID, k.KeyID), ErrNotFound)
}

func TestCertificatesThatProveNothingAreRefused(t *testing.T) {
	d := open(t)
	a, _ := register(t, d, "orders")
	weak := weakKey()
	curve := must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader))(t)
	good := certificate(t, rsaKey(), "orders")
	for _, row := range []struct {
		name  string
		key   KeyCredential
		field string
	}{
		{"nothing", KeyCredential{}, "key"},
		{"something else", KeyCredential{Certificate: []byte("certificate")}, "key"},
		{"a private key", KeyCredential{Certificate: pem.EncodeToMemory(&pem.Block{Type: "RSA PRIVATE KEY", Bytes: x509.MarshalPKCS1PrivateKey(rsaKey())})}, "key"},
		{"a weak key", KeyCredential{Certificate: certificate(t, weak, "weak")}, "key"},
		{"an elliptic curve", KeyCredential{Certificate: certificate(t, curve, "curve")}, "key"},
		{"too large", KeyCredential{Certificate: append(slices.Clone(good), make([]byte, maxCertificate)...)}, "key"},
		{"longer than the certificate", KeyCredential{Certificate: good, EndDateTime: time.Date(2029, 1, 1, 0, 0, 0, 0, time.UTC)}, "endDateTime"},
		{"begun before the certificate", KeyCredential{Certificate: good, StartDateTime: time.Date(2025, 1, 1, 0, 0, 0, 0, time.UTC)}, "endDateTime"},
		{"a name with a line break", KeyCredential{Certificate: good, DisplayName: "a\nb"}, "displayName"},
	} {
		if _, err := d.AddKey(t.Context(), a.ID, row.key); !slices.Equal(fields(err), []string{row.field}) {
			t.Errorf("%s: %v", row.name, err)
		}
	}
}

// weakKey is one of 1024 bits. The library makes no such keys any more, so its primes are drawn here.
func weakKey() *rsa.PrivateKey {
	for {
		p, _ := rand.Prime(rand.Reader, 512)
		q, _ := rand.Prime(rand.Reader, 512)
		one, e := big.NewInt(1), big.NewInt(65537)
		phi := new(big.Int).Mul(new(big.Int).Sub(p, one), new(big.Int).Sub(q, one))
		n := new(big.Int).Mul(p, q)
		exponent := new(big.Int).ModInverse(e, phi)
		if n.BitLen() == 1024 && exponent != nil {
			k := &rsa.PrivateKey{PublicKey: rsa.PublicKey{N: n, E: 65537}, D: exponent, Primes: []*big.Int{p, q}}
			k.Precompute()
			return k
		}
	}
}

func TestSettingCertificatesKeepsThoseThatAreNamedByID(t *testing.T) {
	d := open(t)
	a, _ := register(t, d, "orders")
	one, two := certificate(t, rsaKey(), "one"), certificate(t, rsaKey(), "two")
	k := must(d.AddKey(t.Context(), a.ID, KeyCredential{Certificate: one}))(t)
	set := func(keys ...KeyCredential) error {
		_, err := d.UpdateApplication(t.Context(), a.ID, func(a *Application) error { return a.SetKeys(keys) })
		return err
	}
	if err := set(KeyCredential{KeyID: k.KeyID}, KeyCredential{Certificate: two}); err != nil {
		t.Fatal(err)
	}
	kept := must1(d.Application(a.ID))(t).KeyCredentials
	if len(kept) != 2 || kept[0].KeyID != k.KeyID || !bytes.Equal(kept[0].Certificate, one) || !bytes.Equal(kept[1].Certificate, two) {
		t.Fatalf("%+v", kept)
	}
	for name, row := range map[string]struct {
		keys  []KeyCredential
		field string
	}{
		"an unknown id":        {[]KeyCredential{{Certificate: one}, {KeyID: "unknown"}}, "keyCredentials[1].key"},
		"no certificate":       {[]KeyCredential{{Certificate: []byte("x")}}, "keyCredentials[0].key"},
		"the same twice":       {[]KeyCredential{{Certificate: two}, {Certificate: two}}, "keyCredentials"},
		"one kept and new":     {[]KeyCredential{{KeyID: k.KeyID}, {Certificate: one}}, "keyCredentials"},
		"one more than 20":     {slices.Repeat([]KeyCredential{{KeyID: k.KeyID}}, MaxKeys+1), "keyCredentials"},
		"an end after its own": {[]KeyCredential{{Certificate: two, EndDateTime: latest}}, "keyCredentials[0].endDateTime"},
	} {
		if err := set(row.keys...); !slices.Equal(fields(err), []string{row.field}) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if got := must1(d.Application(a.ID))(t).KeyCredentials; len(got) != 2 {
		t.Errorf("refused requests changed something: %+v", got)
	}
	if err := set(); err != nil {
		t.Fatal(err)
	}
	if got := must1(d.Application(a.ID))(t).KeyCredentials; len(got) != 0 {
		t.Errorf("left: %+v", got)
	}
}
