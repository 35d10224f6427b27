// Package tabard is an open, self-hostable service that speaks the wire protocols of Azure Web PubSub and proves
// who it is to everything it calls.
//
// A developer embeds it in a test on free ports, or runs the binary; either way the same [Server] serves clients,
// the REST data plane and the token issuer on its public address, and the control plane on its admin address:
//
//	srv, err := tabard.New(tabard.Config{Data: dir, Listen: "127.0.0.1:0", AdminListen: "127.0.0.1:0"}, log)
//	go srv.Run(ctx)
//	ready, err := srv.Ready(ctx) // endpoints, connection string, admin token
//
// This package only wires: what each part does is in its own package.
package tabard

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"path/filepath"
	"sync"
	"time"

	"github.com/google/uuid"

	"tabard/internal/access"
	"tabard/internal/acme"
	"tabard/internal/audit"
	"tabard/internal/clientws"
	"tabard/internal/customdomain"
	"tabard/internal/directory"
	"tabard/internal/egress"
	"tabard/internal/eventhandler"
	"tabard/internal/fabric"
	"tabard/internal/hub"
	"tabard/internal/identity"
	"tabard/internal/keyvault"
	"tabard/internal/keyvault/reference"
	"tabard/internal/localca"
	"tabard/internal/metrics"
	"tabard/internal/rbac"
	"tabard/internal/settings"
	"tabard/internal/store"
	"tabard/internal/telemetry"
	"tabard/internal/tokenservice"
	"tabard/internal/trace"
)

// A Server is one process of the service.
type Server struct {
	cfg     Config
	log     *slog.Logger
	origins *origins
	service service

	serviceKeys keyCache // see serviceKey
	clients     clientws.Counters

	fabric     *fabric.Fabric
	master     store.MasterKey
	masterDone func() // releases what reaches it
	store      *store.Store
	settings   *settings.Settings
	directory  *directory.Directory
	tokens     *tokenservice.Service
	identity   *identity.Cache
	sources    *sources
	trace      *trace.Recorder
	metrics    *metrics.Metrics
	telemetry  *telemetry.Telemetry // nil: no spans
	egress     *egress.Egress
	events     *eventhandler.Dispatcher
	hubs       *hub.Registry
	access     *access.Verifier
	rbac       *rbac.RBAC
	data       *trust // tokens for the data plane
	control    *trust // tokens for the control plane
	vaultTrust *trust // tokens for the vaults
	vaults     *keyvault.Vaults
	secrets    *reference.Resolver
	domains    *customdomain.Certificates
	acme       *acme.Manager // nil without domains
	admin      *adminToken
	audit      *audit.Log
	applySets  *store.Collection[applySet]
	tls        *tls.Config
	caFile     string

	ready     chan struct{} // closed once every listener answers
	closeOnce sync.Once
	closeErr  error
}

// service is what the installation itself must remember, under the key "service".
type service struct {
	SubscriptionID  string `json:"subscriptionId"`
	ReconnectionKey []byte `json:"reconnectionKey"` // signs what recovers a reliable client's connection
	ClientTokenKey  []byte `json:"clientTokenKey"`  // root of the keys that sign client tokens for principals of a directory
}

// complete makes what is missing, of a new installation or of one from before a field existed, and tells whether
// anything was.
func (s *service) complete() (changed bool) {
	if s.SubscriptionID == "" {
		s.SubscriptionID, changed = uuid.NewString(), true
	}
	for _, key := range []*[]byte{&s.ReconnectionKey, &s.ClientTokenKey} {
		if len(*key) == 0 {
			*key, changed = make([]byte, 32), true
			rand.Read(*key) // never fails
		}
	}
	return changed
}

// New opens the state and builds every part; nothing listens yet. The caller runs the Server, or closes it.
func New(cfg Config, log *slog.Logger) (_ *Server, err error) {
	cfg.complete()
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	s := &Server{cfg: cfg, log: log, origins: newOrigins(cfg), ready: make(chan struct{})}
	defer func() {
		if err != nil {
			_ = s.Close()
		}
	}()
	ctx, cancel := context.WithTimeout(context.Background(), startTimeout) // an embedder's New has no context of its own
	defer cancel()
	if err := s.openState(ctx); err != nil {
		return nil, err
	}
	if err := s.openTLS(); err != nil {
		return nil, err
	}
	return s, s.build(ctx)
}

// startTimeout bounds opening the state; an external NATS may take a while to answer.
const startTimeout = time.Minute

func (s *Server) openState(ctx context.Context) error {
	var err error
	if s.fabric, err = fabric.Open(ctx, fabric.Options{
		DataDir: s.cfg.Data, URL: s.cfg.NATSURL, Credentials: fabric.Credentials{CredsFile: s.cfg.NATSCredentials}, Replicas: s.cfg.NATSReplicas, Log: s.log,
	}); err != nil {
		return fmt.Errorf("open state: %w", err)
	}
	if err = s.openStore(ctx); err != nil {
		return fmt.Errorf("open state: %w", err)
	}
	if s.service, err = openService(ctx, s.store); err != nil {
		return err
	}
	if err = s.openAudit(ctx); err != nil {
		return err
	}
	if s.applySets, err = openApplySets(ctx, s.store); err != nil {
		return fmt.Errorf("open what was applied: %w", err)
	}
	if s.directory, err = directory.Open(ctx, s.store, directory.Options{VaultResources: s.origins.vaultResources, ControlPlane: s.origins.armResources}); err != nil {
		return fmt.Errorf("open the directory: %w", err)
	}
	if s.rbac, err = rbac.Open(ctx, s.store, rbac.Options{}); err != nil {
		return fmt.Errorf("open role assignments: %w", err)
	}
	if s.settings, err = settings.Open(ctx, s.store, settings.Options{SubscriptionID: s.service.SubscriptionID}); err != nil {
		return fmt.Errorf("open settings: %w", err)
	}
	if s.tokens, err = tokenservice.New(ctx, s.store, s.directory, tokenservice.Options{
		Authority: s.origins.authority, Lifetime: s.cfg.TokenLifetime, ClientLifetime: s.cfg.ClientTokenLifetime, Log: s.log,
		Transport: fetch{s}, AllowLoopbackHTTP: s.cfg.AllowLoopbackTokenHTTP,
		WorkloadOrigin: s.workloadOrigin, IMDS: s.cfg.IMDSIdentity, RevokedKeys: s.cfg.RevokedSigningKey,
	}); err != nil {
		return fmt.Errorf("open the token service: %w", err)
	}
	if s.admin, err = openAdminToken(filepath.Join(s.cfg.Data, "admin.token")); err != nil {
		return fmt.Errorf("open the admin token: %w", err)
	}
	return nil
}

// openService loads, or on the first start makes, what the installation remembers about itself.
func openService(ctx context.Context, st *store.Store) (service, error) {
	const key = "service"
	c, err := store.OpenCollection[service](ctx, st, "service", store.Schema{Version: 1})
	if err != nil {
		return service{}, err
	}
	item, ok := c.Get(key)
	if made := item.Value; made.complete() {
		if ok {
			_, err = c.Update(ctx, key, made, item.Revision)
		} else {
			_, err = c.Create(ctx, key, made)
		}
		if err != nil && !errors.Is(err, store.ErrExists) && !errors.Is(err, store.ErrConflict) { // another node was first
			return service{}, err
		}
		item, _ = c.Get(key)
	}
	return item.Value, nil
}

func (s *Server) openTLS() error {
	if s.cfg.TLSCert != "" {
		files, err := localca.OpenFiles(s.cfg.TLSCert, s.cfg.TLSKey, s.log)
		if err != nil {
			return err
		}
		s.tls = files.TLSConfig()
		return nil
	}
	ca, err := localca.Open(s.cfg.Data, s.origins.names())
	if err != nil {
		return fmt.Errorf("open the local certificate authority: %w", err)
	}
	s.tls = ca.TLSConfig()
	s.caFile, err = filepath.Abs(ca.CertFile()) // those who read the ready object may be elsewhere
	return err
}

// build makes the parts that serve, from the state that is open.
func (s *Server) build(ctx context.Context) error {
	policy, err := s.egressPolicy()
	if err != nil {
		return err
	}
	s.egress = egress.New(policy)
	if err := s.openACME(ctx); err != nil {
		return err
	}
	if err := s.openTrace(ctx); err != nil {
		return err
	}
	s.sources = &sources{
		embedded: s.tokens, settings: s.settings.Snapshot, outside: s.egress.Transport(), allowed: s.cfg.AzureIdentity, made: make(map[string]madeSource),
	}
	s.identity = identity.NewCache(timed{s.sources, s.tokenTook}, identity.Options{Log: s.log})
	if s.telemetry, err = s.openTelemetry(ctx); err != nil {
		return err
	}
	s.events = eventhandler.New(eventhandler.Options{
		Tracer:   s.tracer(),
		Settings: s.settings.Snapshot,
		Identity: s.token,
		Rejected: s.tokenRejected,
		Secrets: func(ctx context.Context, in *settings.Instance, uri string) (string, error) {
			return s.secrets.Secret(ctx, in, uri)
		},
		SecretsRejected: func(in *settings.Instance, uris []string) { s.secrets.Rejected(in, uris) },
		Egress:          s.egress,
		Trace:           s.trace,
		Origin:          s.origins.hostName,
		Log:             s.log,
	})
	s.hubs = hub.NewRegistry(hub.Options{KeepAlive: s.keepAlive, MaxConnections: s.cfg.MaxConnections, Log: s.log})
	s.metrics = s.newMetrics()
	if s.data, err = s.newTrust(dataPlaneResource); err != nil {
		return fmt.Errorf("trust-issuer: %w", err)
	}
	if s.control, err = s.newTrust(armResource, oldARMResource); err != nil {
		return fmt.Errorf("trust-issuer: %w", err)
	}
	s.control.own = s.origins.armAudiences
	if s.vaultTrust, err = s.newTrust(keyvault.Resource); err != nil {
		return fmt.Errorf("trust-issuer: %w", err)
	}
	s.vaultTrust.own = s.origins.vaultResources
	if err := s.openVaults(ctx); err != nil {
		return err
	}
	s.secrets = s.newReferences()
	s.domains = s.newDomains()
	s.access = access.New(access.Options{
		Endpoints: s.origins.endpoints, ServiceKey: s.serviceKey, Tokens: s.data.verify, Allowed: s.mayOnDataPlane,
	})
	s.settings.OnChange(s.settingsChanged)
	s.settings.OnChange(s.domains.Changed)
	s.directory.OnChange(s.directoryChanged)
	s.rbac.OnChange(s.secrets.RolesChanged) // a role may have been all that let an identity read
	s.tokens.OnRevoke(s.identity.FlushAll)  // what a revoked key signed is worth nothing
	s.tokens.OnRevoke(func() {
		if err := s.beginTrust(); err != nil {
			s.log.Error("what a revoked key signed may be remembered for an hour", "error", err)
		}
	})
	return nil
}

func (s *Server) egressPolicy() (egress.Policy, error) {
	p := egress.Policy{
		AllowLoopback: s.cfg.AllowLoopbackHandlers,
		DenyPrivate:   s.cfg.DenyPrivateHandlers,
		Refuse:        egress.OwnPorts(s.origins.ownPorts),
	}
	for _, n := range s.cfg.AllowHandlerNetworks {
		p.Allow = append(p.Allow, netip.MustParsePrefix(n)) // validated
	}
	for _, n := range s.cfg.DenyHandlerNetworks {
		p.Deny = append(p.Deny, netip.MustParsePrefix(n))
	}
	var err error
	p.RootCAs, err = rootsWith(s.cfg.HandlerCA)
	return p, err
}

func (s *Server) keepAlive(instance, hub string) time.Duration {
	in, ok := s.settings.Snapshot().Instance(instance)
	if !ok {
		return 0
	}
	return in.Hub(hub).KeepAlive()
}

// Close releases everything that New opened. Run does it by itself; only a Server that never ran needs it.
func (s *Server) Close() error {
	s.closeOnce.Do(func() {
		ctx, cancel := context.WithTimeout(context.Background(), s.cfg.ShutdownTimeout)
		defer cancel()
		if s.hubs != nil {
			s.closeErr = s.hubs.Close(ctx)
		}
		if s.events != nil {
			s.closeErr = errors.Join(s.closeErr, s.events.Close(ctx))
		}
		if err := s.telemetry.Close(ctx); err != nil { // a collector that is away costs spans, not the stop's success
			s.log.Warn("the last spans were not sent", "error", err)
		}
		if s.acme != nil {
			s.acme.Close()
		}
		if s.secrets != nil {
			s.secrets.Close()
		}
		if s.identity != nil {
			s.identity.Close()
			s.sources.close()
		}
		if s.egress != nil {
			s.egress.Close()
		}
		if s.tokens != nil {
			s.tokens.Close()
		}
		if s.vaults != nil {
			s.vaults.Close()
		}
		for _, t := range []*trust{s.data, s.control, s.vaultTrust} {
			if t != nil {
				t.close()
			}
		}
		s.trace.Close()
		if s.audit != nil {
			s.closeErr = errors.Join(s.closeErr, s.audit.Close())
		}
		if s.store != nil {
			s.store.Close()
		}
		if s.masterDone != nil {
			s.masterDone()
		}
		if s.fabric != nil {
			s.fabric.Close()
		}
	})
	return s.closeErr
}
