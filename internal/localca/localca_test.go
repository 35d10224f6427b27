package localca

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// handshake connects over TLS and returns the server's leaf as the client verified it.
func handshake(t *testing.T, server *tls.Config, roots *x509.CertPool, name string) (*x509.Certificate, error) {
	t.Helper()
	a, b := net.Pipe()
	defer a.Close()
	defer b.Close()
	go func() { _ = tls.Server(b, server).Handshake() }()
	c := tls.Client(a, &tls.Config{RootCAs: roots, ServerName: name, MinVersion: tls.VersionTLS12})
	_ = a.SetDeadline(time.Now().Add(5 * time.Second))
	if err := c.Handshake(); err != nil {
		return nil, err
	}
	return c.ConnectionState().PeerCertificates[0], nil
}

func TestWhoTrustsTheAuthorityReachesTheServiceByNameAndAddress(t *testing.T) {
	ca, err := Open(t.TempDir(), []string{"wps.example.com", "*.wps.example.com", "10.1.2.3"})
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"localhost", "two.localhost", "127.0.0.1", "::1", "wps.example.com", "two.wps.example.com", "10.1.2.3"} {
		leaf, err := handshake(t, ca.TLSConfig(), ca.Pool(), name)
		if err != nil {
			t.Errorf("%s: %v", name, err)
		} else if life := leaf.NotAfter.Sub(leaf.NotBefore); life > 398*24*time.Hour {
			t.Errorf("%s: a leaf of %v, browsers refuse more than 398 days", name, life)
		}
	}
	if _, err := handshake(t, ca.TLSConfig(), ca.Pool(), "evil.example"); err == nil {
		t.Error("another name is covered")
	}
	if _, err := handshake(t, ca.TLSConfig(), x509.NewCertPool(), "localhost"); err == nil {
		t.Error("a client that does not trust the authority connects")
	}
}

// Node takes no wildcard before a single label: what *.localhost stands for must be in the certificate by name.
func TestANameBelowAWildcardIsInItsCertificate(t *testing.T) {
	ca, err := Open(t.TempDir(), []string{"*.wps.example.com"})
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"vault.localhost", "Two.wps.example.com"} {
		leaf, err := handshake(t, ca.TLSConfig(), ca.Pool(), name)
		if err != nil || leaf.DNSNames[0] != strings.ToLower(name) {
			t.Errorf("%s: %v, names %v", name, err, leaf)
		}
	}
	for _, name := range []string{"", "localhost", "evil.example", "a.b.localhost", "a_b.localhost", "-.localhost", strings.Repeat("a", 64) + ".localhost"} {
		if leaf, err := ca.certificate(name); err != nil || leaf.Leaf.DNSNames[0] != "localhost" {
			t.Errorf("%q got a leaf of its own", name)
		}
	}
	for i := range 3 * maxLeaves {
		if _, err := ca.certificate(fmt.Sprint("x", i, ".localhost")); err != nil {
			t.Fatal(err)
		}
	}
	if len(ca.leaves) > maxLeaves {
		t.Errorf("%d leaves are kept", len(ca.leaves))
	}
}

func TestTheAuthorityStaysOverARestartAndItsKeyIsPrivate(t *testing.T) {
	dir := t.TempDir()
	first, err := Open(dir, nil)
	if err != nil {
		t.Fatal(err)
	}
	second, err := Open(dir, []string{"new.example"})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := handshake(t, second.TLSConfig(), first.Pool(), "new.example"); err != nil {
		t.Errorf("who trusted the authority before the restart: %v", err)
	}
	info, err := os.Stat(filepath.Join(dir, "ca-key.pem"))
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("key file: %v, %v", info.Mode(), err)
	}
}

func TestADamagedAuthorityIsRefusedInWords(t *testing.T) {
	for _, tc := range []struct {
		name   string
		damage func(dir string) error
		want   string
	}{
		{"a key that others may read", func(dir string) error { return os.Chmod(filepath.Join(dir, "ca-key.pem"), 0o644) }, "may be read by others"},
		{"no key", func(dir string) error { return os.Remove(filepath.Join(dir, "ca-key.pem")) }, "the key of"},
		{"nothing but half a key", func(dir string) error {
			return errors.Join(os.Remove(filepath.Join(dir, "ca.pem")), os.Truncate(filepath.Join(dir, "ca-key.pem"), 100))
		}, "holds no key"},
		{"nothing but a key that others may read", func(dir string) error {
			return errors.Join(os.Remove(filepath.Join(dir, "ca.pem")), os.Chmod(filepath.Join(dir, "ca-key.pem"), 0o644))
		}, "may be read by others"},
		{"half a certificate", func(dir string) error { return os.Truncate(filepath.Join(dir, "ca.pem"), 100) }, "ca.pem"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			dir := t.TempDir()
			if _, err := Open(dir, nil); err != nil {
				t.Fatal(err)
			}
			if err := tc.damage(dir); err != nil {
				t.Fatal(err)
			}
			if _, err := Open(dir, nil); err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("got %v, want %q", err, tc.want)
			}
		})
	}
}

// A crash between the key and its certificate, on the first start, or a lost certificate must not keep the service down,
// nor those out who trust it.
func TestAKeyWithoutItsCertificateGetsANewOne(t *testing.T) {
	dir := t.TempDir()
	first, err := Open(dir, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(first.CertFile()); err != nil {
		t.Fatal(err)
	}
	second, err := Open(dir, nil)
	if err != nil {
		t.Fatal(err)
	}
	third, err := Open(dir, nil)
	if err != nil {
		t.Fatal(err)
	}
	for name, ca := range map[string]*CA{"the start that signed anew": second, "the next one": third} {
		if _, err := handshake(t, ca.TLSConfig(), first.Pool(), "localhost"); err != nil {
			t.Errorf("%s: who trusted the lost certificate: %v", name, err)
		}
		if _, err := handshake(t, ca.TLSConfig(), second.Pool(), "localhost"); err != nil {
			t.Errorf("%s: who trusts the new certificate: %v", name, err)
		}
	}
}

func TestALeafIsRenewedBeforeItEnds(t *testing.T) {
	now := time.Now()
	ca, err := open(t.TempDir(), nil, func() time.Time { return now })
	if err != nil {
		t.Fatal(err)
	}
	serial := func() string {
		c, err := ca.certificate("")
		if err != nil {
			t.Fatal(err)
		}
		return c.Leaf.SerialNumber.String()
	}
	first := serial()
	now = now.Add(leafLife/3*2 - time.Hour)
	if serial() != first {
		t.Error("renewed too early")
	}
	now = now.Add(2 * time.Hour)
	if serial() == first {
		t.Error("not renewed with a third of its life left")
	}
}

// pair writes a new certificate of an authority into dir.
func pair(t *testing.T, dir string) (certPath, keyPath string, pool *x509.CertPool) {
	t.Helper()
	ca, err := Open(t.TempDir(), nil)
	if err != nil {
		t.Fatal(err)
	}
	certPath, keyPath = filepath.Join(dir, "ca.pem"), filepath.Join(dir, "ca-key.pem")
	if err := ca.create(keyPath); err != nil { // an authority's own certificate serves as well as any
		t.Fatal(err)
	}
	text, err := os.ReadFile(ca.path)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(certPath, text, 0o600); err != nil {
		t.Fatal(err)
	}
	return certPath, keyPath, ca.Pool()
}

func TestFilesAreReadAgainAndABadChangeKeepsTheGoodPair(t *testing.T) {
	dir := t.TempDir()
	certPath, keyPath, _ := pair(t, dir)
	var log bytes.Buffer
	f, err := OpenFiles(certPath, keyPath, slog.New(slog.NewTextHandler(&log, nil)))
	if err != nil {
		t.Fatal(err)
	}
	now := time.Now()
	f.now = func() time.Time { return now }
	first := f.certificate()
	if err := os.WriteFile(certPath, []byte("nonsense"), 0o600); err != nil {
		t.Fatal(err)
	}
	if f.certificate() != first || log.Len() > 0 {
		t.Error("looked at the files again within a second")
	}
	now = now.Add(checkInterval)
	if f.certificate() != first || !strings.Contains(log.String(), "changed certificate not used") {
		t.Errorf("a bad change: log %q", log.String())
	}
	logged := log.Len()
	now = now.Add(checkInterval)
	if f.certificate() != first || log.Len() != logged {
		t.Errorf("the same fault was logged again: %q", log.String())
	}
	if err := os.WriteFile(certPath, []byte("other nonsense"), 0o600); err != nil {
		t.Fatal(err)
	}
	now = now.Add(checkInterval)
	if f.certificate() != first || log.Len() == logged {
		t.Error("another bad change was not logged")
	}
	if err := os.Remove(certPath); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		logged = log.Len()
		now = now.Add(checkInterval)
		f.certificate()
	}
	if log.Len() != logged || !strings.Contains(log.String(), "no such file") {
		t.Errorf("a missing file: log %q", log.String())
	}
	pair(t, dir)
	now = now.Add(checkInterval)
	if f.certificate() == first {
		t.Error("a good change was not used")
	}
}

func TestFilesThatDoNotFitAreRefused(t *testing.T) {
	certPath, _, _ := pair(t, t.TempDir())
	_, otherKey, _ := pair(t, t.TempDir())
	if _, err := OpenFiles(certPath, otherKey, nil); err == nil {
		t.Error("a key of another certificate was accepted")
	}
	if _, err := OpenFiles("missing.pem", otherKey, nil); err == nil || !strings.Contains(err.Error(), "missing.pem") {
		t.Errorf("got %v", err)
	}
}
