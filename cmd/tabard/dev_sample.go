package main

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"sync/atomic"

	"tabard"
	"tabard/guard"
)

// An echo is the event handler that tabard dev runs for newcomers: a server of its own behind the guard library, which
// tells a client what was verified about the service that passed its words on. It trusts this service's issuer and
// nobody else, like the handler of any application would.
type echo struct {
	*demoServer
	guard       *guard.Guard
	application atomic.Pointer[http.Handler] // nil until the issuer is known
}

// startEcho listens on addr.
func startEcho(addr string) (*echo, error) {
	l, err := net.Listen("tcp", addr)
	if err != nil {
		return nil, fmt.Errorf("sample handler: %w", err)
	}
	e := &echo{}
	e.demoServer = serveOn(l, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if application := e.application.Load(); application != nil {
			(*application).ServeHTTP(w, r)
			return
		}
		http.Error(w, "the service is starting", http.StatusServiceUnavailable)
	}))
	return e, nil
}

// settings is how the portal finds the handler.
func (e *echo) settings() *tabard.SampleHandler {
	return &tabard.SampleHandler{URL: e.URL + "/eventhandler", Audience: demoAudience}
}

// trust begins to serve, now that the issuer is known.
func (e *echo) trust(ready tabard.Ready, log *slog.Logger) (err error) {
	e.guard, err = guard.New(guard.Trust{
		Issuers:   guard.Authority(ready.HTTPSEndpoint, ready.TenantID),
		Audiences: []string{demoAudience},
		CAFile:    ready.CAFile,
	}, guard.Options{Log: log.With("component", "sample handler")})
	if err != nil {
		return fmt.Errorf("sample handler: %w", err)
	}
	application := e.guard.Events(guard.Handlers{
		User: func(_ context.Context, ev *guard.Event) (guard.Reply, error) {
			return guard.Textf("%s said %q. The caller proved to be %s (oid), with a token for %s.", ev.UserID, ev.Text(), ev.Caller.ObjectID, ev.Caller.Audience), nil
		},
	})
	e.application.Store(&application)
	return nil
}

func (e *echo) Close() {
	e.demoServer.Close()
	if e.guard != nil {
		e.guard.Close()
	}
}
