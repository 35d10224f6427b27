// Package localca gives the listeners certificates.
//
// On a laptop nobody has a certificate for 127.0.0.1, yet every library that handles tokens insists on https. So a
// local authority is made in the data directory on the first start; whoever trusts its one certificate reaches the
// service by name and by address. In production the operator names two files instead, which are read again when they
// change. TLS settings are the same either way: 1.2 or newer.
//
// What it leaves to others: installing trust in browsers and languages (the command line prints how).
package localca

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"sync"
	"time"
)

// Lives of the certificates. A leaf is renewed when a third of its life is left; clients notice nothing.
const (
	caLife   = 20 * 365 * 24 * time.Hour
	leafLife = 397 * 24 * time.Hour // browsers refuse longer ones
	backdate = 5 * time.Minute      // for clients whose clock is behind
)

// maxLeaves bounds the leaves that are kept.
const maxLeaves = 64

var hostLabel = regexp.MustCompile(`^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$`)

// A CA is a local certificate authority with the leaf that it signed for this service.
type CA struct {
	path string
	cert *x509.Certificate
	key  crypto.Signer
	dns  []string
	ips  []net.IP
	now  func() time.Time

	mu     sync.Mutex                  // guards leaves
	leaves map[string]*tls.Certificate // by the name that is added to the usual ones; empty: none
}

// Open loads the authority from dir, or makes it there on the first start: ca.pem, which may be given to anybody, and
// ca-key.pem, mode 0600. Leaves are for localhost, *.localhost, 127.0.0.1, ::1 and the hosts given, which may be
// names, wildcard names or addresses. The authority is not name-constrained: the hosts of an installation change, and
// a new authority for each change would have to be trusted anew everywhere. Its key never leaves the directory.
func Open(dir string, hosts []string) (*CA, error) { return open(dir, hosts, time.Now) }

func open(dir string, hosts []string, now func() time.Time) (*CA, error) {
	ca := &CA{path: filepath.Join(dir, "ca.pem"), now: now, dns: []string{"localhost", "*.localhost"}, ips: []net.IP{net.IPv4(127, 0, 0, 1), net.IPv6loopback}}
	for _, h := range hosts {
		if ip := net.ParseIP(h); ip != nil {
			ca.ips = append(ca.ips, ip)
		} else if !slices.Contains(ca.dns, h) {
			ca.dns = append(ca.dns, h)
		}
	}
	keyPath := filepath.Join(dir, "ca-key.pem")
	info, err := os.Stat(keyPath)
	_, certErr := os.Stat(ca.path)
	switch {
	case errors.Is(err, fs.ErrNotExist) && errors.Is(certErr, fs.ErrNotExist):
		return ca, ca.create(keyPath)
	case err != nil:
		return nil, fmt.Errorf("the key of %s: %w", ca.path, err)
	case info.Mode().Perm()&0o077 != 0 && runtime.GOOS != "windows": // which has access lists instead
		return nil, fmt.Errorf("%s may be read by others: remove it and %s to have a new authority made, or chmod 600 it if nobody did", keyPath, ca.path)
	case errors.Is(certErr, fs.ErrNotExist): // the start that made the key was cut short, or the file was lost
		return ca, ca.certify(keyPath)
	}
	pair, err := tls.LoadX509KeyPair(ca.path, keyPath)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", ca.path, err)
	}
	ca.cert, ca.key = pair.Leaf, pair.PrivateKey.(crypto.Signer)
	if !ca.cert.IsCA || now().After(ca.cert.NotAfter) {
		return nil, fmt.Errorf("%s is no valid authority any more: remove it and %s to have a new one made", ca.path, keyPath)
	}
	return ca, nil
}

// create makes the key and then the certificate. Whatever comes between, the next start goes on from there.
func (ca *CA) create(keyPath string) error {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return err
	}
	if err := writeNew(keyPath, 0o600, &pem.Block{Type: "PRIVATE KEY", Bytes: der}); err != nil {
		return err
	}
	return ca.certify(keyPath)
}

// certify signs the authority's certificate with the key that is there. Certificates of one key have the same subject,
// so that who trusts an earlier one trusts what the later one signs.
func (ca *CA) certify(keyPath string) error {
	text, err := os.ReadFile(keyPath)
	if err != nil {
		return err
	}
	block, _ := pem.Decode(text)
	if block == nil {
		return fmt.Errorf("%s holds no key: remove it to have a new authority made", keyPath)
	}
	parsed, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	key, ok := parsed.(crypto.Signer)
	if err != nil || !ok {
		return fmt.Errorf("%s holds no key that can sign: remove it to have a new authority made", keyPath)
	}
	spki, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		return err
	}
	serial, err := serialNumber()
	if err != nil {
		return err
	}
	id := sha256.Sum256(spki)
	template := &x509.Certificate{
		SerialNumber:          serial,
		Subject:               pkix.Name{Organization: []string{"Tabard local authority"}, CommonName: fmt.Sprintf("Tabard local authority %x", id[:4])},
		SubjectKeyId:          id[:20],
		NotBefore:             ca.now().Add(-backdate),
		NotAfter:              ca.now().Add(caLife),
		KeyUsage:              x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
		BasicConstraintsValid: true,
		IsCA:                  true,
		MaxPathLenZero:        true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return err
	}
	if ca.cert, err = x509.ParseCertificate(der); err != nil {
		return err
	}
	ca.key = key
	return writeNew(ca.path, 0o644, &pem.Block{Type: "CERTIFICATE", Bytes: der})
}

// writeNew writes a file that appears whole or not at all, and stays.
func writeNew(path string, mode os.FileMode, block *pem.Block) error {
	tmp, err := os.CreateTemp(filepath.Dir(path), ".tmp-*")
	if err != nil {
		return err
	}
	defer os.Remove(tmp.Name())
	err = errors.Join(tmp.Chmod(mode), pem.Encode(tmp, block), tmp.Sync(), tmp.Close())
	if err != nil {
		return err
	}
	if err := os.Rename(tmp.Name(), path); err != nil {
		return err
	}
	return syncDir(filepath.Dir(path))
}

// syncDir makes a rename in dir durable. Windows does so by itself and cannot sync a directory.
func syncDir(dir string) error {
	if runtime.GOOS == "windows" {
		return nil
	}
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

func serialNumber() (*big.Int, error) {
	n, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 126))
	if err != nil {
		return nil, err
	}
	return n.SetBit(n, 126, 1), nil // positive, and always 16 bytes
}

// CertFile is the path of the authority's certificate, for clients to trust.
func (ca *CA) CertFile() string { return ca.path }

// Pool holds the authority's certificate.
func (ca *CA) Pool() *x509.CertPool {
	pool := x509.NewCertPool()
	pool.AddCert(ca.cert)
	return pool
}

// TLSConfig is a server's configuration whose certificate renews itself.
func (ca *CA) TLSConfig() *tls.Config {
	return serverConfig(func(hello *tls.ClientHelloInfo) (*tls.Certificate, error) { return ca.certificate(hello.ServerName) })
}

func serverConfig(get func(*tls.ClientHelloInfo) (*tls.Certificate, error)) *tls.Config {
	return &tls.Config{MinVersion: tls.VersionTLS12, NextProtos: []string{"h2", "http/1.1"}, GetCertificate: get}
}

// certificate is the current leaf for a server name, made anew when a third of its life is left. A name that only a
// wildcard covers gets a leaf that names it: some clients (Node) take no wildcard before a single label, as *.localhost.
func (ca *CA) certificate(name string) (*tls.Certificate, error) {
	name = strings.ToLower(name)
	if !ca.isWild(name) {
		name = ""
	}
	ca.mu.Lock()
	defer ca.mu.Unlock()
	if leaf := ca.leaves[name]; leaf != nil && ca.now().Before(leaf.Leaf.NotAfter.Add(-leafLife/3)) {
		return leaf, nil
	}
	if ca.leaves == nil {
		ca.leaves = make(map[string]*tls.Certificate)
	}
	for other := range ca.leaves { // names come from clients: at the bound, any other makes room
		if len(ca.leaves) < maxLeaves {
			break
		}
		delete(ca.leaves, other)
	}
	leaf, err := ca.sign(name)
	if err != nil {
		return nil, err
	}
	ca.leaves[name] = leaf
	return leaf, nil
}

// isWild tells whether a name is one label before a host whose every name is served.
func (ca *CA) isWild(name string) bool {
	label, parent, ok := strings.Cut(name, ".")
	return ok && hostLabel.MatchString(label) && slices.Contains(ca.dns, "*."+parent) && !slices.Contains(ca.dns, name)
}

// sign makes a leaf for the usual names and one more, if it is not empty.
func (ca *CA) sign(name string) (*tls.Certificate, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	serial, err := serialNumber()
	if err != nil {
		return nil, err
	}
	names := ca.dns
	if name != "" {
		names = append([]string{name}, names...)
	}
	template := &x509.Certificate{
		SerialNumber: serial,
		Subject:      pkix.Name{Organization: []string{"Tabard"}},
		NotBefore:    ca.now().Add(-backdate),
		NotAfter:     ca.now().Add(leafLife - backdate),
		KeyUsage:     x509.KeyUsageDigitalSignature,
		ExtKeyUsage:  []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		DNSNames:     names,
		IPAddresses:  ca.ips,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, ca.cert, key.Public(), ca.key)
	if err != nil {
		return nil, err
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, err
	}
	return &tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key, Leaf: leaf}, nil
}
