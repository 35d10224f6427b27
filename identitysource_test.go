package tabard

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gobwas/ws"
	"github.com/gobwas/ws/wsutil"
	"github.com/google/uuid"

	"tabard/guard"
	"tabard/internal/directory"
	"tabard/internal/identity"
	"tabard/internal/settings"
	"tabard/internal/tokenservice"
)

// A scribe is an event handler that writes down what reaches it.
type scribe struct {
	*httptest.Server
	mu      sync.Mutex // guards what follows
	written bytes.Buffer
	tokens  []string
}

// Values that differ from one delivery to the next, whatever the source of its token.
var passing = regexp.MustCompile(`[0-9a-zA-Z_-]{30,}|\d{4}-\d\d-\d\dT[0-9:.]+Z|127\.0\.0\.1:\d+`)

func newScribe(t *testing.T) *scribe {
	s := &scribe{}
	s.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		s.mu.Lock()
		defer s.mu.Unlock()
		if token, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer "); ok {
			s.tokens = append(s.tokens, token)
			r.Header.Set("Authorization", "Bearer {token}")
		}
		if r.Header.Get("ce-eventName") == "connect" { // it has the client's headers, a port among them
			body = []byte("{the client's handshake}")
			r.Header.Del("Content-Length")
		}
		fmt.Fprintf(&s.written, "%s %s\n", r.Method, r.URL.Path)
		for _, name := range slices.Sorted(maps.Keys(r.Header)) {
			fmt.Fprintf(&s.written, "%s: %s\n", name, passing.ReplaceAllString(strings.Join(r.Header[name], ", "), "{passing}"))
		}
		fmt.Fprintf(&s.written, "\n%s\n\n", body)
		w.Header().Set("WebHook-Allowed-Origin", "*")
		w.Header().Set("Content-Type", "text/plain")
		if r.Header.Get("ce-eventName") != "connect" && r.Method == http.MethodPost {
			_, _ = io.WriteString(w, "thanks")
		}
	}))
	t.Cleanup(s.Close)
	return s
}

// take returns what was written since the last time, and the tokens.
func (s *scribe) take() (string, []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	defer func() { s.written.Reset(); s.tokens = nil }()
	return s.written.String(), s.tokens
}

// say has a client say hello, and returns what the application answered, or the error.
func (s *served) say() (string, error) {
	conn, _, _, err := ws.Dial(s.t.Context(), "ws"+strings.TrimPrefix(s.Endpoint, "http")+"/client/hubs/chat")
	if err != nil {
		return "", err
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(15 * time.Second)); err != nil {
		return "", err
	}
	if err := wsutil.WriteClientText(conn, []byte("hello")); err != nil {
		return "", err
	}
	answer, _, err := wsutil.ReadServerData(conn)
	return string(answer), err
}

// patch edits the default instance through the control plane.
func (s *served) patch(body string) (int, string) {
	return s.call(http.MethodPatch, s.AdminURL+s.theDefault().ResourceID()+"?api-version=2024-03-01", s.AdminToken, body)
}

func TestDeliveriesUnderTheThreeSourcesDifferInTokenAndIssuerOnly(t *testing.T) {
	// Another Tabard stands in for Azure's platform and for a foreign issuer.
	theirs := serve(t, Config{})
	app, err := theirs.directory.CreateApplication(t.Context(), directory.Application{DisplayName: "wps"})
	if err == nil {
		_, err = theirs.directory.CreateServicePrincipal(t.Context(), app.AppID)
	}
	if err != nil {
		t.Fatal(err)
	}
	_, secret, err := theirs.directory.AddPassword(t.Context(), app.ID, directory.PasswordCredential{})
	if err != nil {
		t.Fatal(err)
	}
	platform := theirs.ids[theirs.principal("platform")]
	env, err := theirs.tokens.EnvFor(t.Context(), platform.ID, tokenservice.EnvOptions{})
	if err != nil {
		t.Fatal(err)
	}
	for name, value := range env {
		t.Setenv(name, value)
	}

	// A pod's token, which the other Tabard itself gave: an application there trusts it.
	if _, err := theirs.directory.CreateFederatedCredential(t.Context(), app.ID, directory.FederatedCredential{
		Name: "pod", Issuer: theirs.IssuerV2, Subject: platform.PrincipalID, Audiences: []string{directory.TokenExchangeAppID},
	}); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(file, []byte(theirs.token(platform.PrincipalID, directory.TokenExchange)+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, value := range map[string]string{"AZURE_FEDERATED_TOKEN_FILE": file, "AZURE_CLIENT_ID": app.AppID} {
		t.Setenv(name, value)
	}
	h := newScribe(t)
	s := serve(t, Config{AllowLoopbackHandlers: true, HandlerCA: theirs.CAFile, AzureIdentity: []string{"system", "workload", platform.ClientID}})
	own := s.ids[s.principal("own")]
	resource := "api://" + uuid.NewString() // azidentity remembers tokens for the whole process
	for _, d := range []*directory.Directory{s.directory, theirs.directory} {
		orders, err := d.CreateApplication(t.Context(), directory.Application{DisplayName: "orders", IdentifierURIs: []string{resource}})
		if err == nil {
			_, err = d.CreateServicePrincipal(t.Context(), orders.AppID)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if _, _, err := s.settings.UpdateHub(t.Context(), settings.DefaultInstance, "chat", func(hub *settings.Hub) error {
		hub.AnonymousConnectPolicy = "allow"
		hub.EventHandlers = []*settings.EventHandler{{
			URLTemplate: h.URL + "/events", UserEventPattern: "*", SystemEvents: []string{"connect"},
			Auth: &settings.Auth{Type: settings.AuthManagedIdentity, ManagedIdentity: &settings.ManagedIdentity{Resource: resource}},
		}}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	oauth := `{"type":"oauth","credential":null,"issuer":"` + theirs.IssuerV2 + `","clientId":"` + app.AppID + `","clientSecret":"` + secret + `"}`
	want, err := os.ReadFile("testdata/delivery.txt")
	if err != nil {
		t.Fatal(err)
	}
	for _, row := range []struct{ name, patch, issuer, client string }{
		{"embedded", `{"identity":{"type":"UserAssigned","userAssignedIdentities":{"` + own.ID + `":{}}}}`, s.Issuer, own.ClientID},
		{"azure, user-assigned", `{"identity":{"type":"None"},"properties":{"tabard":{"identitySource":{"type":"azure","clientId":"` + platform.ClientID + `"}}}}`, theirs.Issuer, platform.ClientID},
		{"azure, system-assigned", `{"properties":{"tabard":{"identitySource":{"type":"azure","clientId":null}}}}`, theirs.Issuer, platform.ClientID},
		{"azure, workload identity", `{"properties":{"tabard":{"identitySource":{"type":"azure","credential":"workloadIdentity"}}}}`, theirs.Issuer, app.AppID},
		{"oauth", `{"properties":{"tabard":{"identitySource":` + oauth + `}}}`, theirs.Issuer, app.AppID},
		{"embedded again", `{"identity":{"type":"UserAssigned","userAssignedIdentities":{"` + own.ID + `":{}}},"properties":{"tabard":{"identitySource":null}}}`, s.Issuer, own.ClientID},
	} {
		if status, body := s.patch(row.patch); status != http.StatusOK || strings.Contains(body, secret) {
			t.Fatalf("%s: %d %s", row.name, status, body)
		}
		for range 2 { // the second time with the remembered token
			if answer, err := s.say(); answer != "thanks" {
				t.Fatalf("%s: %q, %v", row.name, answer, err)
			}
		}
		written, tokens := h.take()
		// The first delivery of all is preceded by the validation of the endpoint, which is remembered.
		got := written
		if row.name == "embedded" {
			var validation string
			validation, got, _ = strings.Cut(written, "POST ")
			got = "POST " + got
			if !strings.HasPrefix(validation, "OPTIONS /events\n") || !strings.Contains(validation, "Authorization: Bearer {token}") {
				t.Errorf("validation:\n%s", validation)
			}
		}
		if got != string(want)+string(want) {
			t.Errorf("%s: delivered\n%s\nwant twice\n%s", row.name, got, want)
		}
		for _, token := range tokens {
			decoded, err := guard.Decode(token)
			if err != nil || decoded.Claims.Issuer != row.issuer || decoded.Claims.AppID != row.client || decoded.Claims.Audience != resource || token != tokens[0] {
				t.Errorf("%s: %s, %v", row.name, decoded.Payload, err)
			}
		}
	}
}

func TestAPlatformIdentityThatIsNotGivenToInstancesIsNotUsed(t *testing.T) {
	asked := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { t.Error("the platform was asked") }))
	defer asked.Close()
	t.Setenv("IDENTITY_ENDPOINT", asked.URL)
	t.Setenv("IDENTITY_HEADER", "x")
	s := serve(t, Config{AzureIdentity: []string{"aaaa0000-0000-4000-8000-00000000000a"}})
	for _, source := range []string{`{"type":"azure"}`, `{"type":"azure","clientId":"bbbb0000-0000-4000-8000-00000000000b"}`, `{"type":"azure","clientId":null,"credential":"workloadIdentity"}`} {
		if status, body := s.patch(`{"properties":{"tabard":{"identitySource":` + source + `}}}`); status != http.StatusOK {
			t.Fatalf("%d %s", status, body)
		}
		if _, err := s.Server.token(t.Context(), s.theDefault(), "https://management.azure.com"); err == nil || !strings.Contains(err.Error(), "--azure-identity") {
			t.Errorf("%s: %v", source, err)
		}
	}
}

func TestAnOAuthIssuerAtAForbiddenAddressIsNotAsked(t *testing.T) {
	asked := httptest.NewTLSServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { t.Error("the issuer was asked") }))
	defer asked.Close()
	s := serve(t, Config{})
	source, err := json.Marshal(settings.IdentitySource{Type: settings.SourceOAuth, TokenEndpoint: asked.URL, ClientID: "x", ClientSecret: "hush"})
	if err != nil {
		t.Fatal(err)
	}
	if status, body := s.patch(`{"properties":{"tabard":{"identitySource":` + string(source) + `}}}`); status != http.StatusOK {
		t.Fatalf("%d %s", status, body)
	}
	_, err = s.Server.token(t.Context(), s.theDefault(), "api://orders")
	if err == nil || !strings.Contains(err.Error(), "loopback") || strings.Contains(err.Error(), "hush") {
		t.Errorf("%v", err)
	}
	var refused *identity.Error
	if !errors.As(err, &refused) || !refused.Permanent {
		t.Errorf("an address that is forbidden is tried again: %v", err)
	}
}
