package localca

import (
	"bytes"
	"crypto/tls"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"time"
)

// checkInterval is how often, at most, the files are looked at.
const checkInterval = time.Second

// Files is a certificate chain and its key in two PEM files, read again when they change.
type Files struct {
	certPath, keyPath string
	log               *slog.Logger
	now               func() time.Time

	mu        sync.Mutex // guards all below
	checked   time.Time
	cert, key []byte // what was read last, good or bad
	missing   string // why the files could not be read; empty if they could
	current   *tls.Certificate
}

// OpenFiles loads the pair. Later changes of the files are noticed at a handshake, at most a second after the last
// look; a pair that does not load is logged once and the good one stays.
func OpenFiles(certPath, keyPath string, log *slog.Logger) (*Files, error) {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	f := &Files{certPath: certPath, keyPath: keyPath, log: log, now: time.Now}
	if err := f.load(); err != nil {
		return nil, fmt.Errorf("certificate %s with key %s: %w", certPath, keyPath, err)
	}
	f.checked = f.now()
	return f, nil
}

// TLSConfig is a server's configuration that follows the files.
func (f *Files) TLSConfig() *tls.Config {
	return serverConfig(func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return f.certificate(), nil })
}

func (f *Files) certificate() *tls.Certificate {
	f.mu.Lock()
	defer f.mu.Unlock()
	if now := f.now(); now.Sub(f.checked) >= checkInterval {
		f.checked = now
		if err := f.load(); err != nil {
			f.log.Error("changed certificate not used", "cert", f.certPath, "key", f.keyPath, "error", err)
		}
	}
	return f.current
}

// load reads the files and, if they changed and fit each other, uses them. The error is told once for each change.
func (f *Files) load() error {
	cert, err := os.ReadFile(f.certPath)
	if err != nil {
		return f.unreadable(err)
	}
	key, err := os.ReadFile(f.keyPath)
	if err != nil {
		return f.unreadable(err)
	}
	f.missing = ""
	if bytes.Equal(cert, f.cert) && bytes.Equal(key, f.key) {
		return nil
	}
	f.cert, f.key = cert, key
	pair, err := tls.X509KeyPair(cert, key)
	if err != nil {
		return err
	}
	f.current = &pair
	return nil
}

func (f *Files) unreadable(err error) error {
	if text := err.Error(); text != f.missing {
		f.missing = text
		return err
	}
	return nil
}
