package tabard

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"sync"

	"tabard/internal/clientws"
	"tabard/internal/listen"
	"tabard/internal/settings"
)

// Run listens, serves until ctx ends or a listener breaks, then stops: no new connection, clients told to come
// back, deliveries and requests finished within the shutdown timeout, the store closed. It returns after everything
// that it started has ended.
func (s *Server) Run(ctx context.Context) (err error) {
	defer func() { err = errors.Join(err, s.Close()) }()
	doors, err := s.open(ctx)
	if err != nil {
		return err
	}
	broken := make(chan error, len(doors))
	var serving sync.WaitGroup
	for _, d := range doors {
		serving.Go(func() {
			if err := d.server.Serve(d.listener); err != nil && !errors.Is(err, http.ErrServerClosed) {
				broken <- fmt.Errorf("%s listener %s: %w", d.name, d.listener.Addr(), err)
			}
		})
	}
	if s.acme != nil {
		err = s.acme.Begin()
	}
	if err == nil {
		err = s.applySeed(ctx, doors[slices.IndexFunc(doors, func(d *door) bool { return d.name == "admin" })].handler)
	}
	if err == nil {
		err = s.writeReady()
	}
	if err == nil {
		close(s.ready)
		s.log.Info("ready", "endpoint", s.origins.endpoint(&settings.Instance{Name: settings.DefaultInstance}), "admin", s.origins.bound.Load().admin)
		select {
		case <-ctx.Done():
		case err = <-broken:
		case <-s.fabric.Lost():
			err = errors.New("the lease on the external NATS was lost: another node may be serving")
		}
	}
	err = errors.Join(err, s.shutDown(doors))
	serving.Wait()
	return err
}

// A door is a bound listener and what serves it.
type door struct {
	name     string
	listener net.Listener
	server   *listen.Server
	handler  http.Handler
	clients  *clientws.Server // nil on the admin address
}

// open binds every address, all or none, and makes the servers that know them.
func (s *Server) open(ctx context.Context) (doors []*door, err error) {
	defer func() {
		if err != nil {
			for _, d := range doors {
				d.listener.Close()
			}
		}
	}()
	bind := func(name, addr string) (*door, error) {
		l, err := listen.Listen(ctx, addr)
		if err != nil {
			return nil, fmt.Errorf("%s listener: %w", name, err)
		}
		d := &door{name: name, listener: l}
		doors = append(doors, d)
		return d, nil
	}
	public, err := bind("public", s.cfg.Listen)
	if err != nil {
		return doors, err
	}
	admin, err := bind("admin", s.cfg.AdminListen)
	if err != nil {
		return doors, err
	}
	b := &bound{public: dialable(public.listener.Addr()), admin: dialable(admin.listener.Addr()), instances: make(map[string]string), vaults: make(map[string]string)}
	own := make(map[*door]string)
	for _, name := range slices.Sorted(maps.Keys(s.cfg.InstanceListen)) {
		d, err := bind("instance "+name, s.cfg.InstanceListen[name])
		if err != nil {
			return doors, err
		}
		own[d] = strings.ToLower(name)
		b.instances[strings.ToLower(name)] = dialable(d.listener.Addr())
	}
	vaults := make(map[*door]string)
	for _, name := range slices.Sorted(maps.Keys(s.cfg.VaultListen)) {
		d, err := bind("vault "+name, s.cfg.VaultListen[name])
		if err != nil {
			return doors, err
		}
		vaults[d] = strings.ToLower(name)
		b.vaults[strings.ToLower(name)] = dialable(d.listener.Addr())
	}
	s.origins.bound.Store(b)
	if err := s.beginTrust(); err != nil {
		return doors, err
	}
	s.secrets.Begin()

	for _, d := range doors {
		opt := listen.Options{TLS: s.tls, TLSOnly: s.cfg.TLSOnly, TrustedProxies: s.cfg.trustedProxies(), Log: s.log}
		if d == admin {
			opt.Handler = s.adminHandler(ctx.Done())
		} else if name, ok := vaults[d]; ok {
			opt.Handler = s.ownVaultHandler(name)
		} else {
			choose := s.chooseInstance
			if name, ok := own[d]; ok {
				choose = func(*http.Request) *settings.Instance { return s.instance(name) }
			}
			opt.Handler, d.clients = s.publicHandler(choose)
			opt.IsUpgrade, opt.Upgrade, opt.IsBrief = isClientPath, s.telemetry.Upgrade(d.clients.ServeConn), isDataPlanePath
			opt.TLS = s.publicTLS()
		}
		d.handler, d.server = opt.Handler, listen.New(opt)
	}
	return doors, nil
}

func (s *Server) instance(name string) *settings.Instance {
	in, _ := s.settings.Snapshot().Instance(name)
	return in
}

// trustedProxies are the networks of the reverse proxies that are believed.
func (c Config) trustedProxies() []netip.Prefix {
	var list []netip.Prefix
	for _, text := range c.TrustedProxy {
		list = append(list, settings.Network(text)) // validated before
	}
	return list
}

// ownPorts are the addresses that no event handler may have.
func (o *origins) ownPorts() []netip.AddrPort {
	b := o.bound.Load()
	var list []netip.AddrPort
	for _, addr := range slices.Concat(slices.Collect(maps.Values(b.instances)), slices.Collect(maps.Values(b.vaults)), []string{b.public, b.admin}) {
		if a, err := netip.ParseAddrPort(addr); err == nil {
			list = append(list, a)
		}
	}
	return list
}

// shutDown stops the doors, the clients and the deliveries, in this order, within the shutdown timeout.
func (s *Server) shutDown(doors []*door) error {
	s.log.Info("stopping", "timeout", s.cfg.ShutdownTimeout)
	ctx, cancel := context.WithTimeout(context.Background(), s.cfg.ShutdownTimeout) // Run's own is over
	defer cancel()
	var (
		mu   sync.Mutex // guards errs
		errs []error
		wg   sync.WaitGroup
	)
	fail := func(err error) {
		if err != nil {
			mu.Lock()
			defer mu.Unlock()
			errs = append(errs, err)
		}
	}
	for _, d := range doors {
		wg.Go(func() { fail(d.server.Shutdown(ctx)) })
	}
	fail(s.hubs.Close(ctx)) // clients are told to come back
	for _, d := range doors {
		if d.clients != nil {
			fail(d.clients.Close(ctx)) // their disconnected events are queued
		}
	}
	wg.Wait()
	fail(s.events.Close(ctx))
	return errors.Join(errs...)
}
