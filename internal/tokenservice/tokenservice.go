// Package tokenservice is the embedded issuer: a stand-in for the Microsoft identity platform that signs
// access tokens for the identities of the directory and publishes what a receiver needs to verify them.
// The author of an event handler needs nothing from us but an issuer address: discovery document, key set,
// and tokens whose claims are those that Azure sends (identity.md sections 2 to 5).
//
// Who exists and who has which role is the directory's knowledge; remembering tokens is identity's; verifying
// them is guard's. Keys live sealed in the store, in one document that each process watches, so that all
// processes publish the same keys and sign with the same one. A [Service] looks after its keys in the background
// until [Service.Close], which comes before the store's.
package tokenservice

import (
	"context"
	"crypto/rand"
	"crypto/rsa"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"tabard/internal/directory"
	"tabard/internal/store"
	"tabard/internal/throttle"
)

const (
	minLifetime = 5 * time.Minute
	maxLifetime = 24 * time.Hour
	skew        = 5 * time.Minute // how far nbf and iat lie in the past
)

// Options configure a [Service].
type Options struct {
	// Authority returns the public origin of the service, such as "https://127.0.0.1:8080": every issuer and
	// every URL in the documents begins with it. It is asked on each use, since the port may be known only
	// after listening; until then it returns "". It should be https: clients and receivers refuse http.
	Authority func() string
	// Lifetime is that of managed-identity tokens, 5 minutes to 24 hours. 0 means 24 hours, as in Azure.
	Lifetime time.Duration
	// ClientLifetime is that of the tokens that the token endpoint issues, 5 minutes to 24 hours. 0 means 60 to 90
	// minutes at random, as in Azure.
	ClientLifetime time.Duration
	// Transport fetches the keys of issuers that federated credentials name. It decides which addresses may be reached
	// and must not be one that sends credentials. nil: no other issuer is believed.
	Transport http.RoundTripper
	// AllowLoopbackHTTP lets clients on this machine use the token endpoint over plain http. Everybody else sends
	// secrets over TLS or is refused.
	AllowLoopbackHTTP bool
	// WorkloadOrigin is where WorkloadHandler is reached, such as "http://127.0.0.1:8081"; asked on each use. nil: EnvFor
	// gives no managed-identity variables.
	WorkloadOrigin func() string
	// IMDS lists the user-assigned identities, by ARM id, name or client id, that the IMDS endpoint gives tokens of to
	// every program on this host. Empty: none, the endpoint is off.
	IMDS []string
	// HostName names this host in the claim xms_az_rid of workloads' tokens. Default: os.Hostname.
	HostName string
	// RevokedKeys are ids of signing keys that are revoked on start, should they be there: those that a backup restored.
	RevokedKeys []string
	// RotateEvery is the age at which the signing key is replaced. 0 means 90 days, the least is 24 hours;
	// negative: never.
	RotateEvery time.Duration
	// AllowMicrosoftAuthority permits an Authority on a host name of Microsoft's login services. Dangerous:
	// a token with Microsoft's issuer and another key invites receivers to switch checks off. For tests only.
	AllowMicrosoftAuthority bool
	// Log receives one line per issued token (uti, identity, audience; never the token) at debug, and key
	// changes. nil discards.
	Log *slog.Logger
	// Now is the clock. Default: time.Now.
	Now func() time.Time

	generate func() (*rsa.PrivateKey, error) // in tests: keys made before
}

// A Service issues tokens for one tenant. It is safe for concurrent use.
type Service struct {
	directory *directory.Directory
	opt       Options
	log       *slog.Logger

	rings *store.Collection[ring]
	keys  atomic.Pointer[keySet]

	cancel context.CancelFunc
	done   sync.WaitGroup

	mu       sync.Mutex // guards onRevoke and orders replacements of keys
	onRevoke []func()

	issuers  *issuers
	replays  *replays
	failures *throttle.Limiter // of clients, by client and address

	headers                    *headers
	imdsLimit, appServiceLimit *throttle.Limiter // by identity
}

// A client that fails this often at one address waits, and may then try again once per interval. Its secrets cannot be
// guessed at any rate; what is saved is the work, and whoever looks at the log.
const (
	failureBurst = 30
	failureEvery = 2 * time.Second
)

// New loads the signing keys, and makes them on the first start. The caller closes the service.
func New(ctx context.Context, s *store.Store, d *directory.Directory, opt Options) (*Service, error) {
	if opt.Authority == nil {
		return nil, errors.New("token service: no authority is set")
	}
	if opt.Lifetime == 0 {
		opt.Lifetime = maxLifetime
	}
	if opt.Lifetime < minLifetime || opt.Lifetime > maxLifetime {
		return nil, fmt.Errorf("token service: token lifetime is %v, want %v to %v", opt.Lifetime, minLifetime, maxLifetime)
	}
	if opt.ClientLifetime != 0 && (opt.ClientLifetime < minLifetime || opt.ClientLifetime > maxLifetime) {
		return nil, fmt.Errorf("token service: lifetime of clients' tokens is %v, want %v to %v", opt.ClientLifetime, minLifetime, maxLifetime)
	}
	if opt.RotateEvery == 0 {
		opt.RotateEvery = 90 * 24 * time.Hour
	}
	if opt.RotateEvery > 0 && opt.RotateEvery < publishAhead {
		return nil, fmt.Errorf("token service: keys rotate every %v, want at least %v: receivers need that long to learn a key", opt.RotateEvery, publishAhead)
	}
	if opt.HostName == "" {
		var err error
		if opt.HostName, err = os.Hostname(); err != nil {
			opt.HostName = "localhost"
		}
	}
	if opt.Now == nil {
		opt.Now = time.Now
	}
	if opt.Log == nil {
		opt.Log = slog.New(slog.DiscardHandler)
	}
	if opt.generate == nil {
		opt.generate = func() (*rsa.PrivateKey, error) { return rsa.GenerateKey(rand.Reader, keyBits) }
	}
	svc := &Service{
		directory: d, opt: opt, log: opt.Log.With("component", "tokenservice"),
		issuers:  &issuers{transport: opt.Transport, known: make(map[string]*issuerKeys)},
		replays:  newReplays(),
		failures: throttle.New(failureBurst, failureEvery),

		imdsLimit:       throttle.New(imdsRate, time.Second/imdsRate),
		appServiceLimit: throttle.New(appServiceRate, time.Second/appServiceRate),
	}
	err := svc.openKeys(ctx, s)
	if err == nil {
		svc.headers, err = openHeaders(ctx, s)
	}
	if err != nil {
		return nil, fmt.Errorf("token service: %w", err)
	}
	life, cancel := context.WithCancel(context.Background()) // lives as long as the service, ended by Close
	svc.cancel = cancel
	svc.done.Go(func() { svc.run(life) })
	return svc, nil
}

// Close stops the background work and waits for it. Tokens can still be issued.
func (s *Service) Close() {
	s.cancel()
	s.done.Wait()
}

// Issuer is the iss of v1 tokens, "{authority}/{tenant}/" with its trailing slash; empty while the authority
// is not known.
func (s *Service) Issuer() string {
	a, err := s.authority()
	if err != nil {
		return ""
	}
	return a.issuer(1, s.directory.TenantID())
}

// IssuerV2 is the iss of v2 tokens, "{authority}/{tenant}/v2.0"; empty while the authority is not known.
func (s *Service) IssuerV2() string {
	a, err := s.authority()
	if err != nil {
		return ""
	}
	return a.issuer(2, s.directory.TenantID())
}
