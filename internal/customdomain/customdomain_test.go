package customdomain

import (
	"crypto/tls"
	"encoding/base64"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
	"software.sslmate.com/src/go-pkcs12"

	"tabard/internal/settings"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestEveryFormOfACertificateIsServedWithItsChain(t *testing.T) {
	w := newWorld(t)
	for kind, key := range keys(t) {
		p := w.authority.issue(key, "one.example.com")
		pfx := p.asPFX(pkcs12.Modern2023, "")
		for form, value := range map[string]string{
			"PEM": p.asPEM(), "PKCS #12 of today": pfx, "PKCS #12 as Windows writes it": p.asPFX(pkcs12.LegacyDES, ""), "PKCS #12 as old Windows wrote it": p.asPFX(pkcs12.LegacyRC2, ""),
			"PKCS #12 in lines": pfx[:76] + "\r\n" + pfx[76:] + "\n",
		} {
			if kind == "Ed25519" && strings.HasPrefix(form, "PKCS") {
				continue // the library writes none
			}
			t.Run(kind+" "+form, func(t *testing.T) {
				w.put("one", value)
				leaf, err := w.handshake("one.example.com")
				if err != nil || !leaf.Equal(p.leaf) {
					t.Fatalf("%v, served %v", err, leaf)
				}
			})
		}
	}
}

func TestWhatIsNoCertificateIsRefusedInWords(t *testing.T) {
	a := newAuthority(t)
	p, other := a.issue(newECKey(t), "one.example.com"), a.issue(newECKey(t), "other.example.com")
	keyOnly, _, _ := strings.Cut(p.asPEM(), "-----BEGIN CERTIFICATE")
	_, certOnly, _ := strings.Cut(p.asPEM(), "-----END PRIVATE KEY-----\n")
	otherKey, _, _ := strings.Cut(other.asPEM(), "-----BEGIN CERTIFICATE")
	mixed := pair{a, p.leaf, other.key}
	authority := pair{a, a.intermediate, a.key}
	for name, tc := range map[string]struct{ value, want string }{
		"nothing":                       {"", "cannot be read"},
		"a password":                    {"hunter2 is no certificate", "neither PEM"},
		"base64 of something":           {base64.StdEncoding.EncodeToString([]byte("something")), "cannot be read"},
		"PKCS #12 with a password":      {p.asPFX(pkcs12.Modern2023, "secret"), "has a password"},
		"rounds of hashing for hours":   {p.asPFX(pkcs12.Modern2023.WithIterations(maxRounds+1), ""), "rounds of hashing"},
		"a key alone":                   {keyOnly, "not a certificate with its key"},
		"a certificate alone":           {certOnly, "not a certificate with its key"},
		"another key":                   {otherKey + certOnly, "not a certificate with its key"},
		"another key in PKCS #12":       {mixed.asPFX(pkcs12.Modern2023, ""), "not that of the certificate"},
		"half of it":                    {p.asPEM()[:400], "not a certificate with its key"},
		"an authority":                  {authority.asPEM(), "an authority's"},
		"more than a vault would store": {strings.Repeat("A", maxSecret+1), "larger than"},
	} {
		t.Run(name, func(t *testing.T) {
			cert, err := parse(tc.value)
			if err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Fatalf("got %v, %v; want %q", cert, err, tc.want)
			}
			if tc.value != "" && strings.Contains(err.Error(), tc.value[:min(len(tc.value), 24)]) {
				t.Errorf("the error tells the secret: %v", err)
			}
		})
	}
}

func TestANewSecretIsServedFromTheNextHandshakeOn(t *testing.T) {
	w := newWorld(t)
	first, second := w.authority.issue(newECKey(t), "one.example.com"), w.authority.issue(newECKey(t), "one.example.com")
	w.put("one", first.asPEM())
	if leaf, err := w.handshake("one.example.com"); err != nil || !leaf.Equal(first.leaf) {
		t.Fatal(err)
	}
	w.put("one", second.asPFX(pkcs12.Modern2023, ""))
	if leaf, err := w.handshake("One.Example.com"); err != nil || !leaf.Equal(second.leaf) {
		t.Fatalf("%v, served %v", err, leaf)
	}
}

// What went wrong with one certificate is told, does not end what served before, and concerns nobody else.
func TestAFailureIsToldAndTheGoodOneServesOn(t *testing.T) {
	w := newWorld(t)
	one, two := w.instances["one.example.com"], w.instances["two.example.com"]
	if err := w.Problem(one, one.CustomCertificates["tls"]); err == nil || !strings.Contains(err.Error(), "403") {
		t.Fatalf("a denied secret: %v", err)
	}
	if _, err := w.handshake("one.example.com"); err == nil {
		t.Fatal("served without a certificate")
	}
	w.put("two", w.authority.issue(newECKey(t), "two.example.com").asPEM())
	good := w.authority.issue(newECKey(t), "one.example.com")
	w.put("one", good.asPEM())
	if err := w.Load(t.Context(), one, one.CustomCertificates["tls"]); err != nil {
		t.Fatal(err)
	}
	for name, tc := range map[string]struct {
		spoil func()
		want  string
	}{
		"denied":  {func() { w.deny("one") }, "403"},
		"garbage": {func() { w.put("one", "garbage") }, "neither PEM"},
	} {
		w.put("one", good.asPEM())
		if err := w.Problem(one, one.CustomCertificates["tls"]); err != nil {
			t.Fatalf("%s: not mended before: %v", name, err)
		}
		tc.spoil()
		for range 2 {
			if err := w.DomainProblem(one, one.CustomDomains["d"]); err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("%s: told %v, want %q", name, err, tc.want)
			}
		}
		if leaf, err := w.handshake("one.example.com"); err != nil || !leaf.Equal(good.leaf) {
			t.Errorf("%s: the good certificate does not serve on: %v", name, err)
		}
		if err := w.DomainProblem(two, two.CustomDomains["d"]); err != nil {
			t.Errorf("%s: another instance is affected: %v", name, err)
		}
	}
	if _, err := w.handshake("two.example.com"); err != nil {
		t.Errorf("another instance is affected: %v", err)
	}
	if n := strings.Count(w.log.String(), "neither PEM"); n != 1 {
		t.Errorf("garbage was logged %d times, want once:\n%s", n, &w.log)
	}
	if strings.Contains(w.log.String(), "BEGIN") || strings.Contains(w.log.String(), "garbage") {
		t.Errorf("the log tells a secret:\n%s", &w.log)
	}
}

func TestACertificateOutOfItsTimeOrOfAnotherNameIsAProblem(t *testing.T) {
	w := newWorld(t)
	one := w.instances["one.example.com"]
	w.put("one", w.authority.issue(newECKey(t), "other.example.com", "*.example.org").asPEM())
	if err := w.Problem(one, one.CustomCertificates["tls"]); err != nil {
		t.Errorf("the certificate itself is good: %v", err)
	}
	if err := w.DomainProblem(one, one.CustomDomains["d"]); err == nil || !strings.Contains(err.Error(), "not valid for one.example.com, but for other.example.com, *.example.org") {
		t.Errorf("told %v", err)
	}
	if _, err := w.handshake("one.example.com"); err == nil {
		t.Error("a certificate of another name was served")
	}
	w.put("one", w.authority.issue(newECKey(t), "*.example.com").asPEM())
	if err := w.DomainProblem(one, one.CustomDomains["d"]); err != nil {
		t.Errorf("a wildcard: %v", err)
	}
	for _, tc := range []struct {
		after time.Duration
		want  string
	}{{2 * time.Hour, "was valid until"}, {-2 * time.Hour, "is valid from"}} {
		w.mu.Lock()
		w.now = time.Now().Add(tc.after)
		w.mu.Unlock()
		if err := w.Problem(one, one.CustomCertificates["tls"]); err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("told %v, want %q", err, tc.want)
		}
	}
}

func TestNobodyGetsAnothersCertificate(t *testing.T) {
	w := newWorld(t)
	for _, name := range []string{"one", "two"} {
		w.put(name, w.authority.issue(newECKey(t), "one.example.com", "two.example.com").asPEM())
	}
	one, _ := w.handshake("one.example.com")
	two, _ := w.handshake("two.example.com")
	if one == nil || two == nil || one.Equal(two) {
		t.Error("two instances share a certificate")
	}
	for _, name := range []string{"three.example.com", "a.one.example.com", "example.com"} {
		if cert := w.ForClient(&tls.ClientHelloInfo{ServerName: name}); cert != nil {
			t.Errorf("%s is served", name)
		}
	}
	if cert := w.ForClient(&tls.ClientHelloInfo{}); cert != nil {
		t.Error("a client that names nobody is served")
	}
}

// Another secret under the same name starts anew: the old certificate is not the new one's predecessor.
func TestAnotherSecretIsAnotherCertificate(t *testing.T) {
	w := newWorld(t)
	one := w.instances["one.example.com"]
	w.put("one", w.authority.issue(newECKey(t), "one.example.com").asPEM())
	if _, err := w.handshake("one.example.com"); err != nil {
		t.Fatal(err)
	}
	one.CustomCertificates["tls"].SecretName = "missing"
	if _, err := w.handshake("one.example.com"); err == nil {
		t.Error("the certificate of the former secret is served")
	}
	if err := w.Problem(one, &settings.CustomCertificate{Name: "nothing"}); err == nil {
		t.Error("a certificate that is not configured is no problem")
	}
	w.Changed(nil, &settings.Snapshot{})
	if len(w.held) != 0 {
		t.Errorf("%d certificates of instances that are gone are held", len(w.held))
	}
}

func FuzzParse(f *testing.F) {
	a := newAuthority(f)
	p := a.issue(newECKey(f), "one.example.com")
	f.Add(p.asPEM())
	der, _ := base64.StdEncoding.DecodeString(p.asPFX(pkcs12.Passwordless, ""))
	f.Add(base64.StdEncoding.EncodeToString(der))
	f.Fuzz(func(t *testing.T, value string) {
		cert, err := parse(value)
		if (cert == nil) == (err == nil) {
			t.Fatal(cert, err)
		}
		if cert != nil && (cert.Leaf == nil || cert.PrivateKey == nil || len(cert.Certificate) == 0) {
			t.Fatalf("half a certificate of %q", value)
		}
	})
}
