package customdomain

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"log/slog"
	"math/big"
	"net"
	"sync"
	"testing"
	"time"

	"software.sslmate.com/src/go-pkcs12"

	"tabard/internal/settings"
)

// An authority signs server certificates through an intermediate one.
type authority struct {
	t                  testing.TB
	root, intermediate *x509.Certificate
	key                crypto.Signer // of the intermediate
}

func newAuthority(t testing.TB) *authority {
	t.Helper()
	a := &authority{t: t}
	rootKey := newECKey(t)
	a.root = a.sign(&x509.Certificate{Subject: pkix.Name{CommonName: "root"}, IsCA: true, BasicConstraintsValid: true}, nil, rootKey.Public(), rootKey)
	a.key = newECKey(t)
	a.intermediate = a.sign(&x509.Certificate{Subject: pkix.Name{CommonName: "intermediate"}, IsCA: true, BasicConstraintsValid: true}, a.root, a.key.Public(), rootKey)
	return a
}

func newECKey(t testing.TB) crypto.Signer {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func (a *authority) sign(template, parent *x509.Certificate, public crypto.PublicKey, key crypto.Signer) *x509.Certificate {
	a.t.Helper()
	serial, err := rand.Int(rand.Reader, big.NewInt(1<<62))
	if err != nil {
		a.t.Fatal(err)
	}
	template.SerialNumber = serial
	if template.NotAfter.IsZero() {
		template.NotBefore, template.NotAfter = time.Now().Add(-time.Hour), time.Now().Add(time.Hour)
	}
	if parent == nil {
		parent = template
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, public, key)
	if err != nil {
		a.t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		a.t.Fatal(err)
	}
	return cert
}

func (a *authority) roots() *x509.CertPool {
	pool := x509.NewCertPool()
	pool.AddCert(a.root)
	return pool
}

// A pair is a server's certificate and key.
type pair struct {
	*authority
	leaf *x509.Certificate
	key  crypto.Signer
}

func (a *authority) issue(key crypto.Signer, names ...string) pair {
	return pair{a, a.sign(&x509.Certificate{Subject: pkix.Name{CommonName: names[0]}, DNSNames: names}, a.intermediate, key.Public(), a.key), key}
}

// asPEM is the pair as Azure keeps it: the key, then the chain.
func (p pair) asPEM() string {
	p.t.Helper()
	der, err := x509.MarshalPKCS8PrivateKey(p.key)
	if err != nil {
		p.t.Fatal(err)
	}
	var b bytes.Buffer
	for _, block := range []*pem.Block{{Type: "PRIVATE KEY", Bytes: der}, {Type: "CERTIFICATE", Bytes: p.leaf.Raw}, {Type: "CERTIFICATE", Bytes: p.intermediate.Raw}} {
		if err := pem.Encode(&b, block); err != nil {
			p.t.Fatal(err)
		}
	}
	return b.String()
}

func (p pair) asPFX(encoder *pkcs12.Encoder, password string) string {
	p.t.Helper()
	der, err := encoder.Encode(p.key, p.leaf, []*x509.Certificate{p.root, p.intermediate}, password)
	if err != nil {
		p.t.Fatal(err)
	}
	return base64.StdEncoding.EncodeToString(der)
}

// keys are of each kind that TLS knows.
func keys(t testing.TB) map[string]crypto.Signer {
	t.Helper()
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	_, edKey, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return map[string]crypto.Signer{"RSA": rsaKey, "ECDSA": newECKey(t), "Ed25519": edKey}
}

// A world has two instances with a domain each and secrets that can be changed.
type world struct {
	*Certificates
	t         testing.TB
	authority *authority
	log       bytes.Buffer

	mu        sync.Mutex // guards all below
	now       time.Time
	secrets   map[string]string // by URI
	instances map[string]*settings.Instance
}

var errDenied = errors.New("secret_denied: the vault answers 403")

func newWorld(t testing.TB) *world {
	w := &world{t: t, authority: newAuthority(t), now: time.Now(), secrets: map[string]string{}, instances: map[string]*settings.Instance{}}
	for _, name := range []string{"one", "two"} {
		in := &settings.Instance{
			Name:               name,
			CustomCertificates: map[string]*settings.CustomCertificate{"tls": {Name: "TLS", VaultBaseURI: "https://v.vault.azure.net/", SecretName: name}},
		}
		in.CustomDomains = map[string]*settings.CustomDomain{"d": {Name: "d", DomainName: name + ".example.com", Certificate: in.CertificateID("TLS")}}
		w.instances[name+".example.com"] = in
	}
	w.Certificates = New(Options{
		Owner: func(domain string) (*settings.Instance, bool) {
			w.mu.Lock()
			defer w.mu.Unlock()
			in, ok := w.instances[domain]
			return in, ok
		},
		Secret: func(_ context.Context, in *settings.Instance, uri string) (string, error) {
			w.mu.Lock()
			defer w.mu.Unlock()
			value, ok := w.secrets[uri]
			if !ok {
				return "", errDenied
			}
			return value, nil
		},
		Log: slog.New(slog.NewTextHandler(&w.log, nil)),
		Now: func() time.Time {
			w.mu.Lock()
			defer w.mu.Unlock()
			return w.now
		},
	})
	return w
}

func (w *world) put(secret, value string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.secrets["https://v.vault.azure.net/secrets/"+secret] = value
}

func (w *world) deny(secret string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	delete(w.secrets, "https://v.vault.azure.net/secrets/"+secret)
}

// handshake connects as a client of a name and returns the certificate that it verified.
func (w *world) handshake(name string) (*x509.Certificate, error) {
	w.t.Helper()
	a, b := net.Pipe()
	defer a.Close()
	defer b.Close()
	done := make(chan struct{})
	go func() {
		defer close(done)
		defer b.Close()
		_ = tls.Server(b, &tls.Config{GetCertificate: func(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
			if cert := w.ForClient(hello); cert != nil {
				return cert, nil
			}
			return nil, errors.New("no certificate")
		}}).Handshake()
	}()
	defer func() { a.Close(); <-done }()
	c := tls.Client(a, &tls.Config{RootCAs: w.authority.roots(), ServerName: name})
	if err := c.Handshake(); err != nil {
		return nil, err
	}
	return c.ConnectionState().PeerCertificates[0], nil
}
