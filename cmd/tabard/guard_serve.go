package main

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/signal"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"tabard/guard"
)

// reloadInterval is how often the guard's files are looked at. Reading a few small files costs nothing, and unlike
// notifications it works on every file system and for files that are replaced through links.
const reloadInterval = time.Second

// A guardServer serves a proxy and, if wanted, its metrics.
type guardServer struct {
	cmd         *guardCmd
	proxy       *guard.Proxy
	log         *slog.Logger
	ready       guardReady
	certificate atomic.Pointer[tls.Certificate]

	public, metrics     net.Listener
	publicSrv, adminSrv *http.Server // adminSrv and metrics are nil if there are no metrics
}

// listen opens the addresses, so that what is wrong with them is known before anything is said to be ready.
func (c *guardCmd) listen(proxy *guard.Proxy, log *slog.Logger) (_ *guardServer, err error) {
	g := &guardServer{cmd: c, proxy: proxy, log: log}
	g.publicSrv = &http.Server{
		Handler: proxy, ReadHeaderTimeout: 10 * time.Second, IdleTimeout: 2 * time.Minute, MaxHeaderBytes: 64 << 10,
		ErrorLog: slog.NewLogLogger(log.Handler(), slog.LevelDebug),
	}
	scheme := "http://"
	if c.TLSCert != "" {
		scheme = "https://"
		pair, err := tls.LoadX509KeyPair(c.TLSCert, c.TLSKey)
		if err != nil {
			return nil, fail(exitUsage, "--tls-cert and --tls-key are PEM files that belong together", "%v", err)
		}
		g.certificate.Store(&pair)
		g.publicSrv.TLSConfig = &tls.Config{MinVersion: tls.VersionTLS12,
			GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return g.certificate.Load(), nil }}
	}
	if g.public, err = net.Listen("tcp", c.Listen); err != nil {
		return nil, err
	}
	g.ready.Endpoint = scheme + g.public.Addr().String()
	if c.MetricsListen == "" {
		return g, nil
	}
	if g.metrics, err = net.Listen("tcp", c.MetricsListen); err != nil {
		g.public.Close()
		return nil, err
	}
	g.ready.MetricsURL = "http://" + g.metrics.Addr().String() + "/metrics"
	mux := http.NewServeMux()
	mux.HandleFunc("GET /metrics", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/plain; version=0.0.4; charset=utf-8")
		_ = proxy.WriteMetrics(w) // a scraper that hung up gets no metrics
	})
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "ok\n") })
	g.adminSrv = &http.Server{Handler: mux, ReadHeaderTimeout: 10 * time.Second}
	return g, nil
}

// run serves until ctx ends, then finishes what is under way.
func (g *guardServer) run(ctx context.Context, args []string) error {
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	failed := make(chan error, 2)
	var serving sync.WaitGroup
	serve := func(run func() error) {
		serving.Go(func() {
			if err := run(); !errors.Is(err, http.ErrServerClosed) {
				failed <- err
			}
		})
	}
	if g.publicSrv.TLSConfig != nil {
		serve(func() error { return g.publicSrv.ServeTLS(g.public, "", "") })
	} else {
		serve(func() error { return g.publicSrv.Serve(g.public) })
	}
	if g.adminSrv != nil {
		serve(func() error { return g.adminSrv.Serve(g.metrics) })
	}
	serving.Go(func() { g.follow(ctx, args) })
	if err := g.proxy.Preload(ctx); err != nil && ctx.Err() == nil { // it works as soon as they answer
		g.log.Warn("an issuer does not answer; requests are refused until it does", "error", err)
	}
	g.log.Info("guarding", "endpoint", g.ready.Endpoint, "upstream", g.cmd.Upstream, "metrics", g.ready.MetricsURL)
	var err error
	if g.cmd.ReadyFile != "" {
		err = g.ready.write(g.cmd.ReadyFile)
	}
	if err == nil {
		select {
		case <-ctx.Done():
		case err = <-failed:
		}
	}
	stop()
	g.shutdown()
	serving.Wait()
	return err
}

func (g *guardServer) shutdown() {
	ctx, cancel := context.WithTimeout(context.Background(), g.cmd.ShutdownTimeout) // the caller's has ended
	defer cancel()
	if err := g.publicSrv.Shutdown(ctx); err != nil {
		g.log.Warn("requests were cut off", "error", err)
	}
	g.proxy.Close() // WebSockets too
	_ = g.publicSrv.Close()
	if g.adminSrv != nil {
		_ = g.adminSrv.Close()
	}
}

// follow replaces the configuration when one of its files changes or a SIGHUP comes.
func (g *guardServer) follow(ctx context.Context, args []string) {
	hangUp := make(chan os.Signal, 1)
	signal.Notify(hangUp, syscall.SIGHUP)
	defer signal.Stop(hangUp)
	tick := time.NewTicker(reloadInterval)
	defer tick.Stop()
	current, last := g.cmd, fingerprint(g.cmd.files())
	for {
		asked := false
		select {
		case <-ctx.Done():
			return
		case <-hangUp:
			asked = true
		case <-tick.C:
		}
		now := fingerprint(current.files())
		if !asked && now == last {
			continue
		}
		last = now // a wrong file is complained about once
		next, err := g.reload(ctx, args)
		if err != nil {
			g.log.Error("the configuration stays as it was", "error", err)
			continue
		}
		current, last = next, fingerprint(next.files())
		g.log.Info("the configuration was replaced")
	}
}

// reload reads flags, environment and files as at the start.
func (g *guardServer) reload(ctx context.Context, args []string) (*guardCmd, error) {
	parser, err := newParser(&stdio{out: io.Discard, err: io.Discard}, func(int) {})
	if err != nil {
		return nil, err
	}
	command, err := parser.Parse(args)
	if err != nil {
		return nil, err
	}
	next, ok := command.Selected().Target.Addr().Interface().(*guardCmd)
	if !ok {
		return nil, fmt.Errorf("%s is another command", command.Command())
	}
	trust, err := next.trust()
	if err != nil {
		return nil, err
	}
	var pair tls.Certificate
	if next.TLSCert != "" {
		if pair, err = tls.LoadX509KeyPair(next.TLSCert, next.TLSKey); err != nil {
			return nil, err
		}
	}
	if err := g.proxy.Reload(ctx, trust, next.options(g.log)); err != nil {
		return nil, errors.New(plainFaults(err))
	}
	if next.TLSCert != "" { // after all that can fail
		g.certificate.Store(&pair)
	}
	if next.Listen != g.cmd.Listen || next.MetricsListen != g.cmd.MetricsListen || (next.TLSCert == "") != (g.cmd.TLSCert == "") {
		g.log.Warn("another address, or TLS where there was none, takes a restart")
	}
	next.warn(g.log)
	return next, nil
}

// fingerprint changes when one of the files does. A file that cannot be read counts as one of its own.
func fingerprint(files []string) [sha256.Size]byte {
	h := sha256.New()
	for _, name := range files {
		if name == "" {
			continue
		}
		text, err := os.ReadFile(name)
		fmt.Fprintf(h, "%q %t %d ", name, err == nil, len(text))
		h.Write(text)
	}
	return [sha256.Size]byte(h.Sum(nil))
}

// plainFaults are the faults that package guard reports, one a line, without its name.
func plainFaults(err error) string {
	lines := strings.Split(strings.ReplaceAll(err.Error(), "guard: ", ""), "\n")
	return strings.Join(slices.Compact(lines), "\n")
}
