package listen

import (
	"context"
	"crypto/tls"
	"net"
	"net/http"
	"sync"
)

// handed is the listener that net/http serves: its connections come from meet.
type handed struct {
	conns chan net.Conn
	done  chan struct{}

	mu      sync.Mutex // guards all below
	started bool
	closed  bool
}

func newHanded() *handed { return &handed{conns: make(chan net.Conn), done: make(chan struct{})} }

// start tells whether this is the first call, so that net/http serves once.
func (h *handed) start() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	first := !h.started
	h.started = true
	return first
}

// hand gives a connection to net/http, or closes it when that has stopped.
func (h *handed) hand(conn net.Conn) {
	select {
	case h.conns <- conn:
	case <-h.done:
		conn.Close()
	}
}

func (h *handed) Accept() (net.Conn, error) {
	select {
	case conn := <-h.conns:
		return conn, nil
	case <-h.done:
		return nil, net.ErrClosed
	}
}

func (h *handed) Close() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if !h.closed {
		h.closed = true
		close(h.done)
	}
	return nil
}

func (h *handed) Addr() net.Addr { return &net.TCPAddr{} }

// A replayed connection first returns bytes that were read already.
type replayed struct {
	net.Conn
	rest  []byte
	state *tls.ConnectionState // of the TLS connection inside; nil for plain ones
}

func (c *replayed) Read(p []byte) (int, error) {
	if len(c.rest) == 0 {
		return c.Conn.Read(p)
	}
	n := copy(p, c.rest)
	if c.rest = c.rest[n:]; len(c.rest) == 0 {
		c.rest = nil // lets the bytes go
	}
	return n, nil
}

// CloseWrite lets net/http end a connection gently.
func (c *replayed) CloseWrite() error {
	if half, ok := c.Conn.(interface{ CloseWrite() error }); ok {
		return half.CloseWrite()
	}
	return nil
}

type tlsStateKey struct{}

// withTLSState carries the TLS state of a replayed connection to its requests: net/http sees no *tls.Conn in it.
func withTLSState(ctx context.Context, conn net.Conn) context.Context {
	if c, ok := conn.(*replayed); ok && c.state != nil {
		return context.WithValue(ctx, tlsStateKey{}, c.state)
	}
	return ctx
}

// serveHTTP gives such requests their TLS state, and every request its client's address and a time for its body.
func (s *Server) serveHTTP(w http.ResponseWriter, r *http.Request) {
	if r.TLS == nil {
		r.TLS, _ = r.Context().Value(tlsStateKey{}).(*tls.ConnectionState)
	}
	s.forwarded(r)
	s.timeBody(w, r)
	s.opt.Handler.ServeHTTP(w, r)
}
