package tabard

import (
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/gobwas/ws"
	"github.com/gobwas/ws/wsutil"

	"tabard/guard"
	"tabard/internal/directory"
	"tabard/internal/settings"
)

// BenchmarkTokenForAnEvent is what the managed identity adds to an event before it is sent: whose token, and the
// remembered one itself.
func BenchmarkTokenForAnEvent(b *testing.B) {
	s := serve(b, Config{})
	user := s.principal("orders")
	for _, kind := range []settings.IdentityType{settings.IdentitySystemAssigned, settings.IdentityUserAssigned} {
		b.Run(string(kind), func(b *testing.B) {
			body := `{"identity":{"type":"SystemAssigned"}}`
			if kind == settings.IdentityUserAssigned {
				body = `{"identity":{"type":"UserAssigned","userAssignedIdentities":{"` + s.ids[user].ID + `":{}}}}`
			}
			if status, text := s.patch(body); status != 200 {
				b.Fatal(status, text)
			}
			in := s.theDefault()
			b.ReportAllocs()
			for b.Loop() {
				if _, err := s.Server.token(b.Context(), in, "https://vault.azure.net"); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkEventWithIdentity is an event of a client and the application's answer: without identity, with a token that
// nobody looks at, and with the guard that verifies it.
func BenchmarkEventWithIdentity(b *testing.B) {
	s := serve(b, Config{AllowLoopbackHandlers: true})
	app, err := s.directory.CreateApplication(b.Context(), directory.Application{DisplayName: "bench", IdentifierURIs: []string{"api://bench"}})
	if err == nil {
		_, err = s.directory.CreateServicePrincipal(b.Context(), app.AppID)
	}
	if err != nil {
		b.Fatal(err)
	}
	if status, text := s.patch(`{"identity":{"type":"SystemAssigned"}}`); status != 200 {
		b.Fatal(status, text)
	}
	g, err := guard.New(guard.Trust{Issuers: []string{s.Issuer}, Audiences: []string{"api://bench"}, CAFile: s.CAFile}, guard.Options{Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(g.Close)
	echo := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("WebHook-Allowed-Origin", "*")
		w.Header().Set("Content-Type", "text/plain")
		_, _ = io.Copy(w, r.Body)
	})
	for _, row := range []struct {
		name    string
		handler http.Handler
		auth    *settings.Auth
	}{
		{"without", echo, nil},
		{"with a token", echo, &settings.Auth{Type: settings.AuthManagedIdentity, ManagedIdentity: &settings.ManagedIdentity{Resource: "api://bench"}}},
		{"with a token that the guard verifies", g.Protect(echo), &settings.Auth{Type: settings.AuthManagedIdentity, ManagedIdentity: &settings.ManagedIdentity{Resource: "api://bench"}}},
	} {
		b.Run(row.name, func(b *testing.B) {
			application := httptest.NewServer(row.handler)
			defer application.Close()
			if _, _, err := s.settings.UpdateHub(b.Context(), settings.DefaultInstance, "chat", func(hub *settings.Hub) error {
				hub.AnonymousConnectPolicy = "allow"
				hub.EventHandlers = []*settings.EventHandler{{URLTemplate: application.URL, UserEventPattern: "*", Auth: row.auth}}
				return nil
			}); err != nil {
				b.Fatal(err)
			}
			conn, _, _, err := ws.Dial(b.Context(), "ws"+strings.TrimPrefix(s.Endpoint, "http")+"/client/hubs/chat")
			if err != nil {
				b.Fatal(err)
			}
			defer conn.Close()
			for b.Loop() {
				if err := wsutil.WriteClientText(conn, []byte("hello")); err != nil {
					b.Fatal(err)
				}
				if answer, _, err := wsutil.ReadServerData(conn); err != nil || string(answer) != "hello" {
					b.Fatal(string(answer), err)
				}
			}
		})
	}
}
