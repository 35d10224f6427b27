// Package fabric gives the process its NATS connection with JetStream: durable streams and key-value
// buckets under state, subjects under clustering.
//
// Someone who starts the service wants no other service to install, so by default a NATS server runs
// inside the process. It opens no socket, keeps its files below the data directory and syncs every write
// before it acknowledges it. Someone who has a NATS cluster already names its URL instead; what is built
// on top cannot tell the difference.
//
// Exactly one process may use a data directory, and, until clustering exists, exactly one node may use an
// external NATS: the first is guarded by a file lock, the second by a lease that its holder renews.
// What is stored, and how it is sealed, is the business of package store.
package fabric

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// Options says which NATS to use. The zero value is invalid: DataDir or URL must be set.
type Options struct {
	// DataDir is the data directory, created 0700 if missing and locked exclusively until Close. Required
	// for the embedded server (whose files live in its folder "nats"); with URL set it may be empty.
	DataDir string
	// URL is one or several comma-separated addresses of an external NATS server with JetStream
	// ("nats://host:4222", "tls://…"). Empty: a server inside this process.
	URL string
	// Credentials authenticate to URL; ignored by the embedded server.
	Credentials Credentials
	// Replicas is how many servers of an external cluster keep each bucket that is created from now on.
	// Default 1, at most 5; ignored by the embedded server.
	Replicas int
	// LeaseTTL is how long an external NATS refuses a new node after this one crashed. Default 15 s, at
	// least 1 s. The lease is renewed three times in that span.
	LeaseTTL time.Duration
	// Log receives warnings, and the NATS server's own lines at debug. Default: discarded.
	Log *slog.Logger
}

// Credentials for an external NATS server. At most one of CredsFile, NKeyFile, Token and User is set.
type Credentials struct {
	// CredsFile names a NATS credentials file (JWT and seed).
	CredsFile string
	// NKeyFile names a file with an nkey seed.
	NKeyFile string
	// Token is a bearer token.
	Token string
	// User and Password authenticate by password.
	User, Password string
	// CAFile names the PEM certificates that may sign the server's certificate. Default: the system's.
	CAFile string
	// CertFile and KeyFile are this client's certificate, if the server asks for one.
	CertFile, KeyFile string
}

// A Fabric is an open NATS connection with JetStream. It is safe for concurrent use.
type Fabric struct {
	log      *slog.Logger
	conn     *nats.Conn
	js       jetstream.JetStream
	embedded *server.Server // nil for an external NATS
	lock     *dirLock       // nil without a data directory
	lease    *lease         // nil for the embedded server
	replicas int
	dataDir  string
	never    chan struct{} // what Lost returns without a lease

	closing sync.Once
}

// startTimeout bounds how long an embedded server may take to recover its files.
const startTimeout = 60 * time.Second

// Open starts or connects NATS. A data directory or an external NATS that another process uses gives an
// *InUseError. For an external NATS whose last node crashed, Open waits until that node's lease has
// expired, at most Options.LeaseTTL.
func Open(ctx context.Context, opt Options) (_ *Fabric, err error) {
	if opt.DataDir == "" && opt.URL == "" {
		return nil, errors.New("fabric: neither a data directory nor a NATS URL is set")
	}
	if opt.Replicas < 0 || opt.Replicas > 5 {
		return nil, fmt.Errorf("fabric: replicas is %d, want 1 to 5", opt.Replicas)
	}
	if opt.LeaseTTL == 0 {
		opt.LeaseTTL = 15 * time.Second
	}
	if opt.LeaseTTL < time.Second {
		return nil, fmt.Errorf("fabric: lease TTL is %v, want at least 1s", opt.LeaseTTL)
	}
	f := &Fabric{log: opt.Log, replicas: max(opt.Replicas, 1), dataDir: opt.DataDir, never: make(chan struct{})}
	if f.log == nil {
		f.log = slog.New(slog.DiscardHandler)
	}
	defer func() {
		if err != nil {
			f.Close()
		}
	}()
	if opt.DataDir != "" {
		if err := os.MkdirAll(opt.DataDir, 0o700); err != nil {
			return nil, fmt.Errorf("fabric: data directory: %w", err)
		}
		if f.lock, err = lockDir(opt.DataDir); err != nil {
			return nil, err
		}
	}
	if opt.URL == "" {
		f.replicas = 1
		err = f.openEmbedded(opt)
	} else {
		err = f.openExternal(ctx, opt)
	}
	if err != nil {
		return nil, err
	}
	return f, nil
}

func (f *Fabric) openEmbedded(opt Options) error {
	srv, err := server.NewServer(&server.Options{
		// The name is unique so that nothing inside JetStream takes two processes of one host for the same.
		ServerName: "tabard-" + rand.Text(),
		DontListen: true,
		JetStream:  true,
		StoreDir:   filepath.Join(opt.DataDir, "nats"),
		SyncAlways: true,
		NoSigs:     true,
		NoLog:      true,
		// Nothing is measured for, or published to, a system account nobody can reach.
		NoSystemAccount: true,
	})
	if err != nil {
		return fmt.Errorf("fabric: embedded NATS: %w", err)
	}
	srv.SetLoggerV2(&serverLog{log: f.log.With("component", "nats")}, true, false, false)
	f.embedded = srv
	srv.Start()
	if !srv.ReadyForConnections(startTimeout) {
		return fmt.Errorf("fabric: embedded NATS did not start within %v", startTimeout)
	}
	if !srv.JetStreamEnabled() {
		return fmt.Errorf("fabric: embedded NATS could not open its files in %s", filepath.Join(opt.DataDir, "nats"))
	}
	return f.connect("", nats.InProcessServer(srv))
}

func (f *Fabric) openExternal(ctx context.Context, opt Options) error {
	options, err := opt.Credentials.options()
	if err != nil {
		return err
	}
	if err := f.connect(opt.URL, options...); err != nil {
		return fmt.Errorf("fabric: NATS at %s: %w", redact(opt.URL), err)
	}
	f.lease, err = takeLease(ctx, f, redact(opt.URL), opt.LeaseTTL)
	return err
}

func (c Credentials) options() ([]nats.Option, error) {
	var options []nats.Option
	ways := 0
	if c.CredsFile != "" {
		ways++
		options = append(options, nats.UserCredentials(c.CredsFile))
	}
	if c.NKeyFile != "" {
		ways++
		option, err := nats.NkeyOptionFromSeed(c.NKeyFile)
		if err != nil {
			return nil, fmt.Errorf("fabric: nkey file %s: %w", c.NKeyFile, err)
		}
		options = append(options, option)
	}
	if c.Token != "" {
		ways++
		options = append(options, nats.Token(c.Token))
	}
	if c.User != "" {
		ways++
		options = append(options, nats.UserInfo(c.User, c.Password))
	}
	if ways > 1 {
		return nil, errors.New("fabric: several NATS credentials are set, want at most one of credentials file, nkey file, token and user")
	}
	if (c.CertFile == "") != (c.KeyFile == "") {
		return nil, errors.New("fabric: a NATS client certificate needs both its certificate and its key file")
	}
	if c.CAFile != "" {
		options = append(options, nats.RootCAs(c.CAFile))
	}
	if c.CertFile != "" {
		options = append(options, nats.ClientCert(c.CertFile, c.KeyFile))
	}
	return options, nil
}

func (f *Fabric) connect(address string, options ...nats.Option) error {
	log := f.log.With("component", "nats")
	conn, err := nats.Connect(address, append(options,
		nats.Name("tabard"),
		nats.Timeout(10*time.Second),
		nats.MaxReconnects(-1),
		nats.ReconnectWait(250*time.Millisecond),
		nats.ReconnectJitter(250*time.Millisecond, 250*time.Millisecond),
		nats.PingInterval(20*time.Second),
		nats.MaxPingsOutstanding(2),
		// A write while disconnected fails at once instead of being sent some time later, when its caller
		// has long been told that it failed.
		nats.ReconnectBufSize(-1),
		nats.DisconnectErrHandler(func(_ *nats.Conn, err error) {
			if err != nil {
				log.Warn("NATS disconnected", "error", err)
			}
		}),
		nats.ReconnectHandler(func(*nats.Conn) { log.Warn("NATS reconnected") }),
		nats.ErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) { log.Warn("NATS error", "error", err) }),
	)...)
	if err != nil {
		return err
	}
	f.conn = conn
	f.js, err = jetstream.New(conn)
	return err
}

// JetStream returns the API for streams and buckets. It is valid until Close.
func (f *Fabric) JetStream() jetstream.JetStream { return f.js }

// Conn returns the connection itself, for subjects and status changes. It is valid until Close, and only
// Close closes it.
func (f *Fabric) Conn() *nats.Conn { return f.conn }

// Replicas is how many copies a bucket that is created now shall have.
func (f *Fabric) Replicas() int { return f.replicas }

// DataDir is the locked data directory, or "" if there is none.
func (f *Fabric) DataDir() string { return f.dataDir }

// Lost is closed when another node has taken the external NATS because this one could not renew its lease
// in time. The process should stop then: two nodes on one NATS do not know of each other's connections.
func (f *Fabric) Lost() <-chan struct{} {
	if f.lease == nil {
		return f.never
	}
	return f.lease.lost
}

// Close releases the lease, closes the connection, stops an embedded server and unlocks the data
// directory. What was acknowledged is on disk already. It may be called more than once.
func (f *Fabric) Close() {
	f.closing.Do(func() {
		if f.lease != nil {
			f.lease.release()
		}
		if f.conn != nil {
			f.conn.Close()
		}
		if f.embedded != nil {
			f.embedded.Shutdown()
			f.embedded.WaitForShutdown()
		}
		if f.lock != nil {
			f.lock.unlock()
		}
	})
}

// redact removes user, password and token from a list of NATS addresses.
func redact(addresses string) string {
	list := strings.Split(addresses, ",")
	for i, address := range list {
		u, err := url.Parse(strings.TrimSpace(address))
		switch {
		case err != nil:
			list[i] = "(unreadable address)"
		case u.User != nil:
			u.User = nil
			list[i] = u.String()
		case u.Scheme == "" || u.Host == "":
			// "user:pass@host:4222" parses as a scheme or a path: keep what follows the last @.
			_, host, found := strings.Cut(address, "@")
			if found {
				list[i] = host
			}
		}
	}
	return strings.Join(list, ",")
}
