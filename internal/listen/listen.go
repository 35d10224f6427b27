// Package listen answers plain HTTP and TLS on one port, and lets WebSocket clients past net/http.
//
// A developer types http:// or https:// and both work; an operator turns plain HTTP off with one option. The first
// byte of a connection decides which it is. What matters at scale is the second job: net/http's upgrade leaves two
// 4 KiB buffers and a grown stack with each of ten thousand idle clients, and takes three times as long for a small
// request as that request. So heads are read here, into a borrowed buffer: a WebSocket upgrade for a path that the owner
// wants has the bare connection handed over, a brief request is answered. Everything else, malformed heads included, is
// given to net/http byte for byte, so that there is one HTTP implementation that decides what is valid.
//
// What it leaves to others: certificates (localca), the handshake's answer and the connection's life (clientws).
// It stops with [Server.Shutdown].
package listen

import (
	"context"
	"crypto/tls"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"
)

// Bounds of what a stranger may cost before it is known what it wants.
const (
	// DefaultHeadTimeout is the time for the first byte, the TLS handshake and the first request's head together.
	DefaultHeadTimeout = 10 * time.Second
	// MaxHead is how much of a first request is looked at, in bytes. A longer head is left to net/http.
	MaxHead = 16 << 10
	// DefaultBodyTimeout is the time for a request's body, for each mebibyte of it that has begun.
	DefaultBodyTimeout = time.Minute
	// DefaultMaxWaiting bounds the connections that have not said yet what they want; further ones are closed.
	DefaultMaxWaiting = 8192
	// maxHeaderBytes bounds what net/http reads of a request's head.
	maxHeaderBytes = 64 << 10
	idleTimeout    = 2 * time.Minute
)

// Options of [New].
type Options struct {
	// Handler serves every request that is not handed to Upgrade. Required.
	Handler http.Handler
	// IsUpgrade tells whether WebSocket upgrades of the escaped path go to Upgrade; nil means none.
	IsUpgrade func(path string) bool
	// IsBrief tells whether HTTP/1.1 requests of the escaped path take the short way past net/http: those whose Handler
	// gives small answers, does not wait for long and wants no more of the ResponseWriter than its three methods. The
	// answer is sent when Handler returns, with the headers of that moment and no Content-Type but Handler's; the
	// request's context is its connection's. Requests with large bodies go to net/http all the same. nil means none.
	IsBrief func(path string) bool
	// Upgrade owns the connection from now on. It is called on a goroutine of its own when a request of a
	// connection is a WebSocket upgrade; the request has RemoteAddr, Host, TLS and a context that ends when Upgrade
	// returns or the server is shut down in haste. The connection is the accepted one itself (or the *tls.Conn),
	// unless the client sent bytes behind the head, which are then read first.
	Upgrade func(net.Conn, *http.Request)
	// TLS is the configuration for TLS clients; nil serves plain HTTP only. A connection for which a protocol is
	// negotiated that is neither HTTP/1.1 nor HTTP/2 is closed after the handshake: all there is to it, in ACME.
	TLS *tls.Config
	// TLSOnly refuses plain HTTP with a sentence that says so.
	TLSOnly bool
	// HeadTimeout is the time that a new connection has to send a first request's head. 0 means DefaultHeadTimeout.
	HeadTimeout time.Duration
	// BodyTimeout is the time in which each mebibyte of a request's body must arrive. The handler's reading fails then,
	// and the connection is closed behind the answer. 0 means DefaultBodyTimeout.
	BodyTimeout time.Duration
	// TrustedProxies are the networks of reverse proxies whose X-Forwarded-For and X-Forwarded-Proto are believed. Each
	// must set both, not pass on what its client sent, and keep the Host header. Whoever can send from there can pretend
	// to be anybody.
	TrustedProxies []netip.Prefix
	// MaxWaiting bounds connections within that time. 0 means DefaultMaxWaiting.
	MaxWaiting int
	// Log gets what net/http complains of, at debug level, and accept errors. Default: discarded.
	Log *slog.Logger
}

// A Server serves one or more listeners.
type Server struct {
	opt     Options
	http    *http.Server
	handed  *handed // connections on their way to http
	waiting chan struct{}

	ctx    context.Context // of upgrades and brief requests; ended when Shutdown runs out of time, and at its end
	cancel context.CancelFunc

	stopping atomic.Bool // set with mu held

	mu        sync.Mutex // guards all below
	listeners map[net.Listener]struct{}
	early     map[net.Conn]struct{}  // not known yet what they want
	dialogues map[*dialogue]struct{} // with brief requests
	wg        sync.WaitGroup         // goroutines of connections, while they are ours
}

// New makes a Server. It has no goroutine until Serve.
func New(opt Options) *Server {
	if opt.HeadTimeout == 0 {
		opt.HeadTimeout = DefaultHeadTimeout
	}
	if opt.BodyTimeout == 0 {
		opt.BodyTimeout = DefaultBodyTimeout
	}
	if opt.MaxWaiting == 0 {
		opt.MaxWaiting = DefaultMaxWaiting
	}
	if opt.Log == nil {
		opt.Log = slog.New(slog.DiscardHandler)
	}
	if opt.TLS != nil {
		opt.TLS = opt.TLS.Clone()
		if len(opt.TLS.NextProtos) == 0 {
			opt.TLS.NextProtos = []string{"h2", "http/1.1"}
		}
	}
	s := &Server{opt: opt, handed: newHanded(), waiting: make(chan struct{}, opt.MaxWaiting),
		listeners: make(map[net.Listener]struct{}), early: make(map[net.Conn]struct{}), dialogues: make(map[*dialogue]struct{})}
	s.ctx, s.cancel = context.WithCancel(context.Background())
	s.http = &http.Server{
		Handler:           http.HandlerFunc(s.serveHTTP),
		ReadHeaderTimeout: opt.HeadTimeout,
		IdleTimeout:       idleTimeout,
		MaxHeaderBytes:    maxHeaderBytes,
		ErrorLog:          slog.NewLogLogger(opt.Log.Handler(), slog.LevelDebug),
		ConnContext:       withTLSState,
	}
	return s
}

// Serve accepts connections until the listener fails or the server is shut down, which is http.ErrServerClosed.
// It closes the listener. Several listeners may be served at once.
func (s *Server) Serve(l net.Listener) error {
	defer l.Close()
	s.mu.Lock()
	if s.stopping.Load() {
		s.mu.Unlock()
		return http.ErrServerClosed
	}
	s.listeners[l] = struct{}{}
	if s.handed.start() {
		s.wg.Go(func() { _ = s.http.Serve(s.handed) }) // ends with Shutdown
	}
	s.mu.Unlock()
	for pause := time.Duration(0); ; {
		conn, err := l.Accept()
		switch {
		case err == nil:
			pause = 0
			s.begin(conn)
			continue
		case s.stopping.Load():
			return http.ErrServerClosed
		case errors.Is(err, net.ErrClosed):
			return err
		}
		// Out of file descriptors, most likely: those who leave make room.
		pause = min(max(2*pause, 5*time.Millisecond), time.Second)
		s.opt.Log.Error("connection not accepted", "error", err, "pause", pause)
		select {
		case <-time.After(pause):
		case <-s.ctx.Done():
			return http.ErrServerClosed
		}
	}
}

// begin meets a new connection on a goroutine of its own.
func (s *Server) begin(conn net.Conn) {
	select {
	case s.waiting <- struct{}{}:
	default: // as many strangers as there may be
		conn.Close()
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.stopping.Load() {
		<-s.waiting
		conn.Close()
		return
	}
	s.early[conn] = struct{}{}
	s.wg.Go(func() { s.meet(conn) })
}

// known says that it is clear what the connection wants: it no longer counts as waiting. It is false when the server
// stops; the connection is closed then.
func (s *Server) known(conn net.Conn) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, ok := s.early[conn]; !ok {
		return false
	}
	delete(s.early, conn)
	<-s.waiting
	return true
}

// Shutdown stops accepting, closes connections that have not asked for anything or that rest, and waits for requests
// under way and for Upgrade to return. When ctx ends first, it closes the connections of those requests, ends all
// contexts and returns the error of ctx; connections that Upgrade owns are their owner's to close.
func (s *Server) Shutdown(ctx context.Context) error {
	s.mu.Lock()
	s.stopping.Store(true)
	for l := range s.listeners {
		l.Close()
	}
	for conn := range s.early {
		conn.Close()
		delete(s.early, conn)
		<-s.waiting
	}
	for d := range s.dialogues {
		d.interrupt()
	}
	s.mu.Unlock()
	defer s.cancel()
	err := s.http.Shutdown(ctx)
	if err != nil {
		s.http.Close()
	}
	s.handed.Close()
	done := make(chan struct{})
	go func() {
		s.wg.Wait()
		close(done)
	}()
	select {
	case <-done:
		return err
	case <-ctx.Done():
		s.mu.Lock()
		defer s.mu.Unlock()
		for d := range s.dialogues {
			d.conn.Close()
		}
		return ctx.Err()
	}
}
