package main

import (
	"bytes"
	"context"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"tabard"
	"tabard/guard"
)

// A demoServer is an HTTP server on a free loopback port.
type demoServer struct {
	URL    string
	server *http.Server
	done   chan struct{}
}

func startServer(h http.Handler) (*demoServer, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	return serveOn(l, h), nil
}

func serveOn(l net.Listener, h http.Handler) *demoServer {
	s := &demoServer{URL: "http://" + l.Addr().String(), server: &http.Server{Handler: h, ReadHeaderTimeout: 10 * time.Second}, done: make(chan struct{})}
	go func() { defer close(s.done); _ = s.server.Serve(l) }() // ends with Close
	return s
}

func (s *demoServer) Close() {
	_ = s.server.Close()
	<-s.done
}

// A sample is the demo's event handler: what an application would write, behind the guard library. It remembers
// what arrived and what was verified.
type sample struct {
	*demoServer
	guard *guard.Guard
	ahead atomic.Int64 // nanoseconds that its clock is ahead

	mu           sync.Mutex // guards all below
	arrived      []*event
	verification guard.Verification
}

// startSample serves the handler; it lets only the caller's tokens pass.
func startSample(ready tabard.Ready, caller string) (*sample, error) {
	s := &sample{}
	var err error
	s.guard, err = guard.New(guard.Trust{
		Issuers:   guard.Authority(ready.HTTPSEndpoint, ready.TenantID),
		Audiences: []string{demoAudience},
		Callers:   []string{caller},
		CAFile:    ready.CAFile,
		Now:       func() time.Time { return time.Now().Add(time.Duration(s.ahead.Load())) },
	}, guard.Options{
		Observe: func(v guard.Verification) { s.mu.Lock(); defer s.mu.Unlock(); s.verification = v },
		Log:     slog.New(slog.DiscardHandler), // the demo tells the refusals itself
	})
	if err != nil {
		return nil, err
	}
	application := s.guard.Events(guard.Handlers{
		User: func(_ context.Context, e *guard.Event) (guard.Reply, error) {
			return guard.Textf("%s said %s", e.UserID, e.Text()), nil
		},
	})
	s.demoServer, err = startServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodPost {
			s.keep(r)
		}
		application.ServeHTTP(w, r)
	}))
	return s, err
}

func (s *sample) Close() {
	s.demoServer.Close()
	s.guard.Close()
}

// advance sets the handler's clock ahead of the real one.
func (s *sample) advance(d time.Duration) { s.ahead.Store(int64(d)) }

func (s *sample) keep(r *http.Request) {
	body, err := io.ReadAll(io.LimitReader(r.Body, maxMessage))
	if err != nil {
		return // the application will meet the same error
	}
	r.Body = io.NopCloser(bytes.NewReader(body))
	s.mu.Lock()
	defer s.mu.Unlock()
	s.arrived = append(s.arrived, &event{method: r.Method, path: r.URL.RequestURI(), header: r.Header.Clone(), body: body})
}

func (s *sample) events() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.arrived)
}

func (s *sample) lastEvent() *event {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.arrived) == 0 {
		return nil
	}
	return s.arrived[len(s.arrived)-1]
}

func (s *sample) lastVerification() guard.Verification {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.verification
}

// An event is a request as it arrived at the handler.
type event struct {
	method, path string
	header       http.Header
	body         []byte
}

func (e *event) token() string { return strings.TrimPrefix(e.header.Get("Authorization"), "Bearer ") }

// replay sends the same request to the handler with another token, or with none.
func (e *event) replay(ctx context.Context, to, token string) (verdict, error) {
	req, err := http.NewRequestWithContext(ctx, e.method, to+e.path, bytes.NewReader(e.body))
	if err != nil {
		return verdict{}, err
	}
	req.Header = e.header.Clone()
	req.Header.Del("Authorization")
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	client := http.Client{Timeout: 10 * time.Second}
	res, err := client.Do(req)
	if err != nil {
		return verdict{}, err
	}
	defer res.Body.Close()
	return verdict{res.StatusCode, res.Header.Get("WWW-Authenticate")}, nil
}

// A verdict is how a handler answered: its status and, of a refusal, the WWW-Authenticate header that says why.
type verdict struct {
	status    int
	challenge string
}

// A trap is an event handler that verifies nothing, as most do, and keeps the tokens it is sent.
type trap struct {
	*demoServer
	last atomic.Pointer[string]
}

func startTrap() (*trap, error) {
	t := &trap{}
	var err error
	t.demoServer, err = startServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		token := strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer ")
		t.last.Store(&token)
		w.Header().Set("WebHook-Allowed-Origin", "*")
		if r.Method == http.MethodPost {
			_, _ = io.WriteString(w, "thanks")
		}
	}))
	return t, err
}

// token returns the token that came last and forgets it.
func (t *trap) token() string {
	if token := t.last.Swap(nil); token != nil {
		return *token
	}
	return ""
}
