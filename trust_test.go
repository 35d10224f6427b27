package tabard

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"

	"tabard/guard/reason"
	"tabard/internal/directory"
	"tabard/internal/identity"
	"tabard/internal/rbac"
	"tabard/internal/settings"
	"tabard/internal/trace"
)

// A served is a running service, seen from inside.
type served struct {
	*Server
	Ready
	t     testing.TB
	http  *http.Client // trusts the local authority
	ids   map[string]directory.UserAssignedIdentity
	first map[string]string // token for each principal and resource
	stop  func()
}

// serve runs a service on free ports; it is stopped with the test.
func serve(t testing.TB, cfg Config) *served {
	t.Helper()
	return serveLogged(t, cfg, nil)
}

func serveLogged(t testing.TB, cfg Config, log *slog.Logger) *served {
	t.Helper()
	if cfg.Data == "" {
		cfg.Data = t.TempDir()
	}
	cfg.Listen, cfg.AdminListen = "127.0.0.1:0", "127.0.0.1:0"
	srv, err := New(cfg, log)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ran := make(chan error, 1)
	go func() { ran <- srv.Run(ctx) }()
	s := &served{Server: srv, t: t, ids: map[string]directory.UserAssignedIdentity{}, first: map[string]string{}}
	s.stop = sync.OnceFunc(func() { cancel(); <-ran })
	t.Cleanup(s.stop)
	waiting, done := context.WithTimeout(ctx, 20*time.Second)
	defer done()
	if s.Ready, err = srv.Ready(waiting); err != nil {
		t.Fatal(err)
	}
	pem, err := os.ReadFile(s.CAFile)
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(pem)
	s.http = &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool}}}
	t.Cleanup(s.http.CloseIdleConnections)
	return s
}

func (s *served) call(method, url, token, body string) (int, string) {
	s.t.Helper()
	req, err := http.NewRequest(method, url, strings.NewReader(body))
	if err != nil {
		s.t.Fatal(err)
	}
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	if body != "" {
		req.Header.Set("Content-Type", "application/json")
	}
	res, err := s.http.Do(req)
	if err != nil {
		s.t.Fatal(err)
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	if err != nil {
		s.t.Fatal(err)
	}
	return res.StatusCode, string(text)
}

// principal makes a user-assigned identity and returns its object id.
func (s *served) principal(name string) string {
	s.t.Helper()
	u, _, err := s.directory.PutUserAssignedIdentity(s.t.Context(), directory.UserAssignedIdentity{
		ID: directory.UserAssignedIdentityID(s.SubscriptionID, "default", name), Location: "local",
	})
	if err != nil {
		s.t.Fatal(err)
	}
	s.ids[u.PrincipalID] = u
	return u.PrincipalID
}

// token is one of the principal's, fresh, for a resource.
func (s *served) token(principal, resource string) string {
	s.t.Helper()
	u := s.ids[principal]
	tok, err := s.tokens.Token(s.t.Context(), identity.Principal{TenantID: s.TenantID, PrincipalID: u.PrincipalID, ClientID: u.ClientID, ResourceID: u.ID}, resource)
	if err != nil {
		s.t.Fatal(err)
	}
	if key := principal + " " + resource; s.first[key] == "" {
		s.first[key] = tok.Raw
	}
	return tok.Raw
}

func (s *served) assign(principal, role, scope string) rbac.Assignment {
	s.t.Helper()
	a, _, err := s.rbac.Put(s.t.Context(), rbac.Assignment{PrincipalID: principal, RoleID: role, Scope: scope}, "")
	if err != nil {
		s.t.Fatal(err)
	}
	return a
}

// publish sends a message and returns the status.
func (s *served) publish(token string) int {
	s.t.Helper()
	status, _ := s.call("POST", s.HTTPSEndpoint+"/api/hubs/chat/:send?api-version=2024-12-01", token, `"hi"`)
	return status
}

func (s *served) theDefault() *settings.Instance {
	in, _ := s.settings.Snapshot().Instance(settings.DefaultInstance)
	return in
}

func TestRolesOpenTheDataPlane(t *testing.T) {
	s := serve(t, Config{})
	orders, vault := s.principal("orders"), s.principal("vault")
	instance := s.theDefault().ResourceID()
	token := s.token(orders, dataPlaneResource)
	want := func(status int, token, why string) {
		t.Helper()
		if got := s.publish(token); got != status {
			t.Errorf("%s: %d, want %d", why, got, status)
		}
	}
	want(403, token, "without a role")
	if r := s.trace.Records(trace.Filter{Instance: "default", Last: 1})[0]; r.Code != reason.RoleUnassigned || !strings.Contains(string(r.Claims), orders) || strings.Contains(string(r.Claims), token) {
		t.Errorf("recorded %+v", r)
	}
	a := s.assign(orders, rbac.WebPubSubOwner, instance)
	s.assign(vault, rbac.VaultAdmin, rbac.Root)
	want(202, token, "with a role, which counts at once")
	want(202, s.token(orders, dataPlaneResource+"/"), "an audience with a slash")
	want(401, s.token(orders, "https://vault.azure.net"), "a key vault's token (B.11)")
	want(401, s.token(orders, armResource), "a control-plane token")
	want(401, s.token(orders, "https://graph.microsoft.com"), "a Graph token")
	want(401, token[:len(token)-4], "half a signature")
	want(403, s.token(vault, dataPlaneResource), "a role of another service")

	if _, err := s.directory.UpdateServicePrincipal(t.Context(), orders, func(p *directory.ServicePrincipal) error { p.AccountEnabled = false; return nil }); err != nil {
		t.Fatal(err)
	}
	want(403, token, "a principal that is switched off")
	if _, err := s.directory.UpdateServicePrincipal(t.Context(), orders, func(p *directory.ServicePrincipal) error { p.AccountEnabled = true; return nil }); err != nil {
		t.Fatal(err)
	}
	want(202, token, "switched on again")
	if err := s.tokens.RevokeKey(t.Context(), s.tokens.Keys()[0].ID); err != nil {
		t.Fatal(err)
	}
	want(401, token, "after its signing key was revoked")
	want(202, s.token(orders, dataPlaneResource), "a token of the next key")
	if err := s.tokens.RotateKeys(t.Context()); err != nil {
		t.Fatal(err)
	}
	want(202, s.token(orders, dataPlaneResource), "after a rotation")
	if _, err := s.rbac.Delete(t.Context(), a.ID); err != nil {
		t.Fatal(err)
	}
	want(403, s.token(orders, dataPlaneResource), "after the role was taken away")
	s.assign(orders, rbac.WebPubSubOwner, instance)
	last := s.token(orders, dataPlaneResource)
	if err := s.directory.DeleteUserAssignedIdentity(t.Context(), s.ids[orders].ID); err != nil {
		t.Fatal(err)
	}
	want(403, last, "a principal that was deleted, with its role and a token left")
}

func TestATokenForAPrincipalsClientLetsItIn(t *testing.T) {
	data := t.TempDir()
	s := serve(t, Config{Data: data})
	orders := s.principal("orders")
	a := s.assign(orders, rbac.WebPubSubOwner, s.theDefault().ResourceID())
	_, err := s.settings.Update(t.Context(), "default", func(in *settings.Instance) error { in.DisableLocalAuth = true; return nil })
	if err != nil {
		t.Fatal(err)
	}
	status, text := s.call("POST", s.HTTPSEndpoint+"/api/hubs/chat/:generateToken?api-version=2024-12-01&userId=u", s.token(orders, dataPlaneResource), "")
	var made struct{ Token string }
	if err := json.Unmarshal([]byte(text), &made); status != 200 || err != nil {
		t.Fatal(status, text, err)
	}
	connect := func() int {
		t.Helper()
		r, _ := http.NewRequest("GET", s.Endpoint+"/client/hubs/chat?access_token="+made.Token, nil)
		for name, value := range map[string]string{"Connection": "Upgrade", "Upgrade": "websocket", "Sec-WebSocket-Version": "13", "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ=="} {
			r.Header.Set(name, value)
		}
		res, err := http.DefaultTransport.RoundTrip(r)
		if err != nil {
			t.Fatal(err)
		}
		res.Body.Close()
		http.DefaultTransport.(*http.Transport).CloseIdleConnections()
		return res.StatusCode
	}
	if got := connect(); got != http.StatusSwitchingProtocols {
		t.Errorf("with the token: %d", got)
	}
	if _, err := s.rbac.Delete(t.Context(), a.ID); err != nil {
		t.Fatal(err)
	}
	if got := connect(); got != http.StatusForbidden {
		t.Errorf("after the role was taken away: %d", got)
	}

	before := s.serviceKey(s.theDefault())
	other := *s.theDefault()
	other.Name = "other"
	again := *s.theDefault()
	again.Created = again.Created.Add(time.Second)
	if k := s.serviceKey(&other); k == before || len(k) < 40 {
		t.Errorf("another instance has the key %q", k)
	}
	if s.serviceKey(&again) == before {
		t.Error("an instance that was deleted and created anew accepts the old one's tokens")
	}
	s.stop()
	if s := serve(t, Config{Data: data}); s.serviceKey(s.theDefault()) != before {
		t.Error("after a restart the key is another one")
	}
}

func TestTheEmbeddedIssuerIsAskedWithinTheProcess(t *testing.T) {
	s := serve(t, Config{PublicURL: []string{"https://no-such-host.invalid"}}) // the issuer's address leads nowhere
	orders := s.principal("orders")
	s.assign(orders, rbac.WebPubSubOwner, rbac.Root)
	url := "https://" + s.origins.bound.Load().public + "/api/hubs/chat/:send?api-version=2024-12-01"
	if status, text := s.call("POST", url, s.token(orders, dataPlaneResource), `"hi"`); status != 202 {
		t.Errorf("%d %s", status, text)
	}
}

func TestPrincipalsOfATrustedTenant(t *testing.T) {
	theirs := serve(t, Config{})
	partner := theirs.principal("partner")
	theirs.assign(partner, rbac.WebPubSubOwner, rbac.Root) // counts there, not here

	untrusting := serve(t, Config{})
	untrusting.assign(partner, rbac.WebPubSubOwner, rbac.Root)
	if got := untrusting.publish(theirs.token(partner, dataPlaneResource)); got != 401 {
		t.Errorf("a tenant that is not trusted: %d", got)
	}

	s := serve(t, Config{TrustIssuer: []string{theirs.Issuer}, AllowLoopbackHandlers: true, HandlerCA: theirs.CAFile})
	if got := s.publish(theirs.token(partner, dataPlaneResource)); got != 403 {
		t.Errorf("without a role: %d", got)
	}
	s.assign(partner, rbac.WebPubSubOwner, s.theDefault().ResourceID())
	if got := s.publish(theirs.token(partner, dataPlaneResource)); got != 202 {
		t.Errorf("with a role: %d", got)
	}
	if got := s.publish(theirs.token(partner, armResource)); got != 401 {
		t.Errorf("for another audience: %d", got)
	}
	own := s.principal("own")
	s.assign(own, rbac.WebPubSubOwner, rbac.Root)
	if got := s.publish(s.token(own, dataPlaneResource)); got != 202 {
		t.Errorf("an own principal: %d", got)
	}
	const send = "Microsoft.SignalRService/WebPubSub/hub/send/action"
	for _, tc := range []struct {
		name, tenant, principal string
		want                    bool
	}{
		{"our principal by our issuer", s.TenantID, own, true},
		{"our principal by our issuer, in capitals", strings.ToUpper(s.TenantID), strings.ToUpper(own), true},
		{"our principal by somebody else's issuer", theirs.TenantID, own, false},
		{"their principal by their issuer", theirs.TenantID, partner, true},
		{"their principal by our issuer", s.TenantID, partner, false},
		{"nobody", theirs.TenantID, uuid.NewString(), false},
	} {
		if got := s.may(tc.tenant, tc.principal, rbac.Root, send, true); got != tc.want && tc.principal != partner {
			t.Errorf("%s: %v", tc.name, got)
		}
		if got := s.may(tc.tenant, tc.principal, s.theDefault().ResourceID(), send, true); got != tc.want {
			t.Errorf("%s: %v", tc.name, got)
		}
	}
}

func TestAServiceFromBeforeAKeyExistedGetsOne(t *testing.T) {
	old := service{SubscriptionID: "s", ReconnectionKey: []byte("kept")}
	if !old.complete() || len(old.ClientTokenKey) != 32 || string(old.ReconnectionKey) != "kept" || old.SubscriptionID != "s" {
		t.Errorf("%+v", old)
	}
	if old.complete() {
		t.Error("what is complete was changed")
	}
}
