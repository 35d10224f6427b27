// Package acme obtains and renews certificates for public host names from an ACME authority such as Let's Encrypt.
//
// An operator names hosts and agrees to the authority's terms; certificates come and are renewed by themselves while the
// service runs. The authority proves control by a request to the public address, over TLS (TLS-ALPN-01) or plain HTTP
// (HTTP-01); both are answered on the listener that is there anyway. Until there is a certificate, and whenever none can
// be had, the listener's other one is served, so that a failing authority stops nobody.
//
// certmagic keeps certificates, decides when to renew and tries again; what it lacks for us is an issuer that reaches the
// authority through the service's own way out and opens no ports, which is here. [Manager.Close] ends its goroutines.
package acme

import (
	"context"
	"crypto/tls"
	"log/slog"
	"net/http"
	"slices"
	"strings"

	"github.com/caddyserver/certmagic"
	"github.com/mholt/acmez/v3"
	"go.uber.org/zap"

	"tabard/internal/store"
)

// LetsEncrypt is the directory of the default authority.
const LetsEncrypt = certmagic.LetsEncryptProductionCA

// Protocol is what an authority that checks control over TLS negotiates (RFC 8737). The listener's configuration must
// offer it.
const Protocol = acmez.ACMETLS1Protocol

// MaxDomains bounds the names of an installation.
const MaxDomains = 100

// Options of [Open]. All but Email, NoHTTP and Log are required.
type Options struct {
	// Domains are DNS names, without wildcards. Each gets a certificate of its own.
	Domains []string
	// Email is where the authority writes if something is wrong; it may be empty.
	Email string
	// Directory is the address of the authority.
	Directory string
	// Store keeps the account's key and the certificates with their keys, sealed.
	Store *store.Store
	// Transport is the way out to the authority.
	Transport http.RoundTripper
	// NoHTTP says that the public address answers no plain HTTP, so that control can be proven over TLS only.
	NoHTTP bool
	// Log gets what becomes of certificates. Default: discarded.
	Log *slog.Logger
}

// A Manager keeps certificates. It is safe for concurrent use.
type Manager struct {
	domains []string
	config  *certmagic.Config
	cache   *certmagic.Cache
	solver  *solver

	ctx    context.Context // of everything in the background
	cancel context.CancelFunc
}

// Open makes a Manager from what is kept. It does nothing before Begin.
func Open(ctx context.Context, opt Options) (*Manager, error) {
	if opt.Log == nil {
		opt.Log = slog.New(slog.DiscardHandler)
	}
	log := opt.Log.With("component", "acme")
	storage, err := openStorage(ctx, opt.Store)
	if err != nil {
		return nil, err
	}
	m := &Manager{solver: newSolver()}
	for _, d := range opt.Domains {
		m.domains = append(m.domains, strings.ToLower(d))
	}
	m.ctx, m.cancel = context.WithCancel(context.Background()) // lives until Close
	quiet := zap.NewNop()                                      // what matters comes as events
	m.cache = certmagic.NewCache(certmagic.CacheOptions{
		GetConfigForCert: func(certmagic.Certificate) (*certmagic.Config, error) { return m.config, nil },
		Capacity:         2 * MaxDomains,
		Logger:           quiet,
	})
	m.config = certmagic.New(m.cache, certmagic.Config{
		Storage:    storage,
		Issuers:    []certmagic.Issuer{&issuer{opt: opt, storage: storage, solver: m.solver}},
		OCSP:       certmagic.OCSPConfig{DisableStapling: true}, // it would call addresses that certificates name
		DisableARI: true,
		OnEvent:    func(_ context.Context, event string, data map[string]any) error { tell(log, event, data); return nil },
		Logger:     quiet,
	})
	return m, nil
}

// tell logs the events that an operator wants to hear of.
func tell(log *slog.Logger, event string, data map[string]any) {
	switch event {
	case "cert_obtained":
		log.Info("certificate obtained", "domain", data["identifier"], "renewal", data["renewal"])
	case "cert_failed":
		log.Warn("certificate not obtained; it is tried again", "domain", data["identifier"], "renewal", data["renewal"], "error", data["error"])
	}
}

// Begin uses the certificates that are kept, and obtains and renews what is missing from now on. The public address must
// be answering.
func (m *Manager) Begin() error { return m.config.ManageAsync(m.ctx, m.domains) }

// Close ends what Begin began.
func (m *Manager) Close() {
	m.cancel()
	m.cache.Stop()
}

// ForClient is the certificate for a client, or for an authority that checks control; nil if another one is to be served.
func (m *Manager) ForClient(hello *tls.ClientHelloInfo) *tls.Certificate {
	if slices.Equal(hello.SupportedProtos, []string{Protocol}) {
		return m.solver.certificate(hello.ServerName)
	}
	if !slices.Contains(m.domains, strings.ToLower(hello.ServerName)) {
		return nil
	}
	cert, err := m.config.GetCertificateWithContext(hello.Context(), hello)
	if err != nil { // there is none yet
		return nil
	}
	return cert
}

// Handler answers authorities that check control over HTTP; everything else is next's.
func (m *Manager) Handler(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if token, ok := strings.CutPrefix(r.URL.Path, "/.well-known/acme-challenge/"); ok && r.Method == http.MethodGet {
			if answer, ok := m.solver.answer(r.Host, token); ok {
				w.Header().Set("Content-Type", "text/plain")
				_, _ = w.Write([]byte(answer)) // an authority that has gone asks again
				return
			}
		}
		next.ServeHTTP(w, r)
	})
}
