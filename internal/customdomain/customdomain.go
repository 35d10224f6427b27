// Package customdomain holds the TLS certificates of instances' custom domains.
//
// An operator keeps a certificate in a key vault and gives an instance a domain; clients of that domain meet the
// certificate from the next handshake on, and its successor as soon as the vault has one, without a restart. The secret
// is read as the instance's managed identity by whoever Options name, which remembers it and follows its changes; here
// it becomes a certificate, in memory only. A certificate that can no longer be read, or whose successor is no good,
// serves on: who wants to end it deletes the domain. One instance's trouble is no other's.
//
// What it leaves to others: reading vaults (keyvault/reference), which instance has a domain (settings), listeners.
// It has no goroutine.
package customdomain

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"time"

	"tabard/internal/settings"
)

// Options of [New]. Owner and Secret are required.
type Options struct {
	// Owner finds the instance that has a DNS name as its custom domain.
	Owner func(domain string) (*settings.Instance, bool)
	// Secret reads a secret of a key vault as the instance's managed identity. It is called with every handshake, so it
	// must remember what it read.
	Secret func(ctx context.Context, in *settings.Instance, uri string) (string, error)
	// Log gets what happens to certificates, never what is in them but names and times. Default: discarded.
	Log *slog.Logger
	// Now is the clock; nil means time.Now.
	Now func() time.Time
}

// Certificates serves certificates by name. It is safe for concurrent use.
type Certificates struct {
	opt Options

	mu   sync.Mutex // guards held
	held map[key]*held
}

// A key names a custom certificate, in lower case.
type key struct{ instance, name string }

// A held is what is known of one custom certificate.
type held struct {
	mu      sync.Mutex // guards all below
	uri     string
	digest  [sha256.Size]byte // of the secret that was judged last
	fault   error             // what is wrong with it
	current *tls.Certificate  // the last good one
	told    string            // the problem that was logged last
}

// New returns Certificates that hold nothing yet.
func New(opt Options) *Certificates {
	if opt.Log == nil {
		opt.Log = slog.New(slog.DiscardHandler)
	}
	if opt.Now == nil {
		opt.Now = time.Now
	}
	return &Certificates{opt: opt, held: map[key]*held{}}
}

// ForClient is the certificate for the name that a client asks for, nil if that is no custom domain or there is no
// certificate for it.
func (c *Certificates) ForClient(hello *tls.ClientHelloInfo) *tls.Certificate {
	name := strings.ToLower(strings.TrimSuffix(hello.ServerName, "."))
	in, ok := c.opt.Owner(name)
	if !ok {
		return nil
	}
	for _, d := range in.CustomDomains {
		if d.DomainName != name {
			continue
		}
		cert, _ := c.load(hello.Context(), in, d.CertificateName())
		if cert != nil && cert.Leaf.VerifyHostname(name) == nil {
			return cert
		}
	}
	return nil
}

// Load reads a certificate now, within ctx, and says why it cannot be used; nil if it can. The error is for the
// instance's operators and holds nothing secret.
func (c *Certificates) Load(ctx context.Context, in *settings.Instance, cert *settings.CustomCertificate) error {
	_, err := c.load(ctx, in, cert.Name)
	return err
}

// problemTimeout bounds the look at a certificate that was never read; mostly it is remembered.
const problemTimeout = 2 * time.Second

// Problem says what is wrong with a certificate as it was read last; nil if nothing is.
func (c *Certificates) Problem(in *settings.Instance, cert *settings.CustomCertificate) error {
	ctx, cancel := context.WithTimeout(context.Background(), problemTimeout) // there is no request to end it
	defer cancel()
	return c.Load(ctx, in, cert)
}

// DomainProblem says why a custom domain is not served with its certificate; nil if it is.
func (c *Certificates) DomainProblem(in *settings.Instance, d *settings.CustomDomain) error {
	ctx, cancel := context.WithTimeout(context.Background(), problemTimeout) // there is no request to end it
	defer cancel()
	cert, err := c.load(ctx, in, d.CertificateName())
	if err != nil {
		return err
	}
	if err := cert.Leaf.VerifyHostname(d.DomainName); err != nil {
		return fmt.Errorf("the certificate is not valid for %s, but for %s", d.DomainName, strings.Join(cert.Leaf.DNSNames, ", "))
	}
	return nil
}

// load reads a certificate. With an error there may still be an earlier good one, which serves on.
func (c *Certificates) load(ctx context.Context, in *settings.Instance, name string) (*tls.Certificate, error) {
	named, ok := in.CustomCertificates[strings.ToLower(name)]
	if !ok {
		return nil, fmt.Errorf("there is no custom certificate %q", name)
	}
	h := c.hold(key{strings.ToLower(in.Name), strings.ToLower(name)}, named.SecretURI())
	value, err := c.opt.Secret(ctx, in, named.SecretURI())
	h.mu.Lock() // parsing is done under it: whoever comes next needs the result
	defer h.mu.Unlock()
	if err == nil {
		err = h.judge(value)
	}
	if err == nil {
		err = c.outOfTime(h.current.Leaf)
	}
	c.tell(h, in, named, err)
	return h.current, err
}

// hold returns what is held of a certificate; another secret starts anew.
func (c *Certificates) hold(k key, uri string) *held {
	c.mu.Lock()
	defer c.mu.Unlock()
	h := c.held[k]
	if h == nil || h.uri != uri {
		h = &held{uri: uri}
		c.held[k] = h
	}
	return h
}

// judge makes a certificate of the secret, if it is another one than before.
func (h *held) judge(value string) error {
	digest := sha256.Sum256([]byte(value))
	if digest == h.digest {
		return h.fault
	}
	h.digest = digest
	cert, err := parse(value)
	if h.fault = err; err == nil {
		h.current = cert
	}
	return err
}

func (c *Certificates) outOfTime(leaf *x509.Certificate) error {
	switch now := c.opt.Now(); {
	case now.After(leaf.NotAfter):
		return fmt.Errorf("the certificate was valid until %s", leaf.NotAfter.UTC().Format(time.DateTime))
	case now.Before(leaf.NotBefore):
		return fmt.Errorf("the certificate is valid from %s only", leaf.NotBefore.UTC().Format(time.DateTime))
	}
	return nil
}

// tell logs what is new about a certificate.
func (c *Certificates) tell(h *held, in *settings.Instance, named *settings.CustomCertificate, err error) {
	news := ""
	if err != nil {
		news = err.Error()
	} else {
		news = h.current.Leaf.SerialNumber.String()
	}
	if news == h.told {
		return
	}
	h.told = news
	log := c.opt.Log.With("instance", in.Name, "certificate", named.Name, "secret", named.SecretURI())
	if err != nil {
		log.Warn("custom certificate cannot be used", "error", err, "earlier one serves on", h.current != nil)
		return
	}
	log.Info("custom certificate in use", "names", h.current.Leaf.DNSNames, "until", h.current.Leaf.NotAfter)
}

// Changed forgets what the settings do not name any more.
func (c *Certificates) Changed(_, now *settings.Snapshot) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for k := range c.held {
		in, ok := now.Instance(k.instance)
		if ok {
			_, ok = in.CustomCertificates[k.name]
		}
		if !ok {
			delete(c.held, k)
		}
	}
}
