package conformance_test

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/coder/websocket"
	"github.com/coreos/go-oidc/v3/oidc"
	"github.com/lestrrat-go/jwx/v3/jwk"
	"github.com/lestrrat-go/jwx/v3/jwt"
)

// A handler keeps the bearer tokens that the service presents, one per method.
type handler struct {
	*httptest.Server
	mu     sync.Mutex
	tokens map[string]string
}

func newHandler(t *testing.T) *handler {
	h := &handler{tokens: make(map[string]string)}
	h.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h.mu.Lock()
		h.tokens[r.Method] = strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer ")
		h.mu.Unlock()
		w.Header().Set("WebHook-Allowed-Origin", "*")
		if r.Method == http.MethodPost {
			w.Header().Set("Content-Type", "text/plain")
			_, _ = w.Write([]byte("verified"))
		}
	}))
	t.Cleanup(h.Close)
	return h
}

func (h *handler) token(method string) string {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.tokens[method]
}

// event sends one event as a raw client of the hub and returns the handler's answer.
func event(t *testing.T, s *service, hub, data string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	url := s.cli(t, "connect", "--hub", hub, "--user", "alice", "--print-url")
	conn, res, err := websocket.Dial(ctx, url, nil)
	if err != nil {
		t.Fatalf("dial: %v (%v)", err, res)
	}
	defer conn.CloseNow()
	if err := conn.Write(ctx, websocket.MessageText, []byte(data)); err != nil {
		t.Fatal(err)
	}
	_, answer, err := conn.Read(ctx)
	if err != nil {
		t.Fatal(err)
	}
	return string(answer)
}

func TestTheServicesTokensVerifyByDiscoveryAlone(t *testing.T) {
	s := start(t)
	var me struct{ Type, PrincipalID, ClientID, TenantID string }
	s.cli(t, "identity", "assign", "--system")
	s.json(t, &me, "identity", "show")
	var v1, v2 struct{ AppID string }
	s.json(t, &v1, "app", "create", "one", "--identifier-uri", "api://one")
	s.json(t, &v2, "app", "create", "two", "--identifier-uri", "api://two", "--token-version", "2")

	for _, tc := range []struct{ name, hub, resource, issuer, audience string }{
		{"v1 by identifier URI", "one", "api://one", s.Issuer, "api://one"},
		{"v1 by application id", "oneid", v1.AppID, s.Issuer, v1.AppID},
		{"v2 by identifier URI", "two", "api://two", s.IssuerV2, v2.AppID},
	} {
		t.Run(tc.name, func(t *testing.T) {
			h := newHandler(t)
			s.cli(t, "hub", "set", tc.hub, "--handler-url", h.URL, "--user-events", "*", "--auth", "managed-identity", "--audience", tc.resource)
			if got := event(t, s, tc.hub, "hello"); got != "verified" {
				t.Fatalf("answer %q", got)
			}
			for _, method := range []string{http.MethodOptions, http.MethodPost} {
				token := h.token(method)
				withOIDC(t, s, token, tc.issuer, tc.audience, me.PrincipalID)
				withJWX(t, s, token, tc.issuer, tc.audience, me.PrincipalID)
			}
		})
	}
}

func withOIDC(t *testing.T, s *service, token, issuer, audience, principal string) {
	t.Helper()
	ctx := oidc.ClientContext(context.Background(), s.client)
	provider, err := oidc.NewProvider(ctx, issuer)
	if err != nil {
		t.Fatalf("go-oidc discovery: %v", err)
	}
	verified, err := provider.Verifier(&oidc.Config{ClientID: audience}).Verify(ctx, token)
	if err != nil {
		t.Fatalf("go-oidc: %v", err)
	}
	var claims struct {
		OID   string `json:"oid"`
		IDTyp string `json:"idtyp"`
	}
	if err := verified.Claims(&claims); err != nil || claims.OID != principal || claims.IDTyp != "app" {
		t.Errorf("go-oidc: claims %+v, %v", claims, err)
	}
	if _, err := provider.Verifier(&oidc.Config{ClientID: "api://other"}).Verify(ctx, token); err == nil {
		t.Error("go-oidc accepted the token for another audience")
	}
	var expired *oidc.TokenExpiredError
	late := provider.Verifier(&oidc.Config{ClientID: audience, Now: func() time.Time { return time.Now().Add(25 * time.Hour) }})
	if _, err := late.Verify(ctx, token); !errors.As(err, &expired) {
		t.Errorf("go-oidc a day later: %v, want an expired token", err)
	}
}

func withJWX(t *testing.T, s *service, token, issuer, audience, principal string) {
	t.Helper()
	ctx := context.Background()
	document, err := s.get(ctx, strings.TrimSuffix(issuer, "/")+"/.well-known/openid-configuration")
	if err != nil {
		t.Fatal(err)
	}
	keys, err := jwk.Fetch(ctx, field(t, document, "jwks_uri"), jwk.WithHTTPClient(s.client))
	if err != nil {
		t.Fatalf("jwx keys: %v", err)
	}
	// Azure's key sets carry no alg member; a validator infers it from the key type.
	verified, err := jwt.Parse([]byte(token), jwt.WithKeySet(keys, inferAlgorithm), jwt.WithIssuer(issuer), jwt.WithAudience(audience), jwt.WithValidate(true))
	if err != nil {
		t.Fatalf("jwx: %v", err)
	}
	if sub, _ := verified.Subject(); sub != principal {
		t.Errorf("jwx: subject %q, want %q", sub, principal)
	}
	if _, err := jwt.Parse([]byte(token), jwt.WithKeySet(keys, inferAlgorithm), jwt.WithAudience("api://other")); err == nil {
		t.Error("jwx accepted the token for another audience")
	}
}
