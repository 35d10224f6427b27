package tabard

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"tabard/internal/eventhandler"
	"tabard/internal/rbac"
	"tabard/internal/trace"
)

// A codeHandler remembers the codes in its URL.
type codeHandler struct {
	*httptest.Server
	mu    sync.Mutex
	codes []string
}

func newCodeHandler(t *testing.T) *codeHandler {
	h := &codeHandler{}
	h.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("WebHook-Allowed-Origin", "*")
		if r.Method == http.MethodPost {
			h.mu.Lock()
			h.codes = append(h.codes, r.URL.Query().Get("code"))
			h.mu.Unlock()
			w.WriteHeader(http.StatusNoContent)
		}
	}))
	t.Cleanup(h.Close)
	return h
}

func (h *codeHandler) last() string {
	h.mu.Lock()
	defer h.mu.Unlock()
	if len(h.codes) == 0 {
		return ""
	}
	return h.codes[len(h.codes)-1]
}

// control calls a path of the control plane as the administrator and wants success.
func (s *served) controlPlane(method, path, body string) string {
	s.t.Helper()
	status, text := s.call(method, s.AdminURL+path, s.AdminToken, body)
	if status >= 300 {
		s.t.Fatalf("%s %s: %d %s", method, path, status, text)
	}
	return text
}

const armVersion = "?api-version=2024-11-01"

func (s *served) group() string {
	return "/subscriptions/" + s.SubscriptionID + "/resourceGroups/default/providers"
}
func (s *served) instanceID() string {
	return s.group() + "/Microsoft.SignalRService/webPubSub/default"
}

// vaultCall calls a vault at its origin, whose name need not resolve.
func (s *served) vaultCall(vault, method, path, token, body string) (int, string) {
	s.t.Helper()
	r, err := http.NewRequest(method, s.AdminHTTPSURL+path+"?api-version=7.4", strings.NewReader(body))
	if err != nil {
		s.t.Fatal(err)
	}
	r.Host = strings.TrimPrefix(s.origins.vaultOrigin(vault), "https://")
	r.Header.Set("Authorization", "Bearer "+token)
	r.Header.Set("Content-Type", "application/json")
	res, err := s.http.Do(r)
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

// event sends a user event through the dispatcher, as a connection would.
func (s *served) event() error {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(s.t.Context(), 20*time.Second)
	defer cancel()
	session := s.events.NewSession("default", "chat", "c1")
	session.Bind("alice", "")
	_, err := session.User(ctx, eventhandler.UserEvent{Name: "message", Type: eventhandler.Text, Data: []byte("hi")})
	return err
}

func (s *served) hubRefersTo(handler *codeHandler, uri string) {
	s.t.Helper()
	body, _ := json.Marshal(map[string]any{"properties": map[string]any{"eventHandlers": []any{map[string]any{
		"urlTemplate": handler.URL + "/?code={@Microsoft.KeyVault(SecretUri=" + uri + ")}", "userEventPattern": "*",
	}}}})
	s.controlPlane("PUT", s.instanceID()+"/hubs/chat?api-version=2024-03-01", string(body))
}

// explain returns the steps of an explanation as "name outcome", and all of its text.
func (s *served) explain(uri string) (steps, text string) {
	s.t.Helper()
	text = s.controlPlane("POST", s.instanceID()+"/explainSecretReference?api-version=2024-03-01", fmt.Sprintf(`{"secretUri":%q}`, uri))
	var answer struct {
		Value []struct{ Name, Outcome string }
	}
	if err := json.Unmarshal([]byte(text), &answer); err != nil {
		s.t.Fatal(err)
	}
	var list []string
	for _, step := range answer.Value {
		list = append(list, step.Name+" "+step.Outcome)
	}
	return strings.Join(list, ", "), text
}

// The whole road: a secret in a vault, refused and explained without a policy, delivered with one, rotated, and in
// nothing that came out. Security checklist 11, 17 and 18 of the key-vault specification with everything real.
func TestASecretTravelsFromTheVaultToTheHandlerAndNowhereElse(t *testing.T) {
	const canary = "canary-vault-secret"
	var log bytes.Buffer
	var logMu sync.Mutex
	dir := t.TempDir()
	var spans bytes.Buffer
	collected := &locked{&logMu, &spans}
	collector := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { _, _ = io.Copy(collected, r.Body) }))
	defer collector.Close()
	s := serveLogged(t, Config{Data: dir, AllowLoopbackHandlers: true, OTLPEndpoint: collector.URL}, slog.New(slog.NewJSONHandler(&locked{&logMu, &log}, &slog.HandlerOptions{Level: slog.LevelDebug})))
	var out strings.Builder
	see := func(text string) string { out.WriteString(text); return text }
	handler := newCodeHandler(t)

	see(s.controlPlane("PATCH", s.instanceID()+"?api-version=2024-03-01", `{"identity":{"type":"SystemAssigned"}}`))
	oid := s.theDefault().Identity.PrincipalID
	see(s.controlPlane("PUT", s.group()+"/Microsoft.KeyVault/vaults/hooks"+armVersion, `{"location":"local","properties":{"sku":{"family":"A","name":"standard"},"tenantId":"`+s.TenantID+`"}}`))
	if status, text := s.vaultCall("hooks", "PUT", "/secrets/code", s.AdminToken, `{"value":"`+canary+`-1"}`); status != 200 {
		t.Fatal(status, text)
	}
	uri := s.origins.vaultOrigin("hooks") + "/secrets/code/"
	s.hubRefersTo(handler, uri)

	err := s.event()
	if err == nil || !strings.Contains(err.Error(), "secret_denied") || !strings.Contains(err.Error(), oid) {
		t.Fatalf("without a policy: %v", err)
	}
	see(err.Error())
	if steps, text := s.explain(uri); !strings.Contains(steps, "vault ok, permission failed, secret skipped") || !strings.Contains(see(text), "tabard vault policy set hooks --object-id "+oid+" --secrets get") {
		t.Errorf("explained as %s: %s", steps, text)
	}
	see(s.controlPlane("PUT", s.group()+"/Microsoft.KeyVault/vaults/hooks/accessPolicies/add"+armVersion,
		`{"properties":{"accessPolicies":[{"tenantId":"`+s.TenantID+`","objectId":"`+oid+`","permissions":{"secrets":["get"]}}]}}`))
	if err := s.event(); err != nil || handler.last() != canary+"-1" {
		t.Fatalf("with a policy: %v, code %q", err, handler.last())
	}
	if status, text := s.vaultCall("hooks", "PUT", "/secrets/code", s.AdminToken, `{"value":"`+canary+`-2"}`); status != 200 {
		t.Fatal(status, text)
	}
	if err := s.event(); err != nil || handler.last() != canary+"-2" {
		t.Errorf("after the rotation: %v, code %q", err, handler.last())
	}
	steps, text := s.explain(uri)
	if !strings.Contains(steps, "value ok, held ok") {
		t.Errorf("explained as %s", steps)
	}
	see(text)
	references := see(s.controlPlane("GET", s.instanceID()+"/secretReferences?api-version=2024-03-01", ""))
	if !strings.Contains(references, `"resolved":true`) || !strings.Contains(references, `"source":"embedded"`) || !strings.Contains(references, `"hub":"chat"`) {
		t.Errorf("references %s", references)
	}
	see(s.controlPlane("GET", s.instanceID()+"/hubs/chat?api-version=2024-03-01", ""))

	// Disabled, denied, deleted and unreadable: every failure leaves its text.
	refused := func(code string) {
		t.Helper()
		deadline := time.Now().Add(10 * time.Second)
		for {
			err := s.event()
			s.controlPlane("POST", s.instanceID()+"/refreshSecretReferences?api-version=2024-03-01", "")
			if err != nil && strings.Contains(see(err.Error()), code) {
				return
			}
			if time.Now().After(deadline) {
				t.Fatalf("want %s: %v", code, err)
			}
		}
	}
	see(second(s.vaultCall("hooks", "PATCH", "/secrets/code/", s.AdminToken, `{"attributes":{"enabled":false}}`)))
	refused("secret_disabled")
	if status, _ := s.vaultCall("hooks", "PUT", "/secrets/code", s.AdminToken, `{"value":"`+canary+` with a space"}`); status != 200 {
		t.Fatal(status)
	}
	refused("secret_unusable")
	_, text = s.explain(uri)
	see(text)
	see(second(s.vaultCall("hooks", "DELETE", "/secrets/code", s.AdminToken, "")))
	refused("secret_not_found")
	s.hubRefersTo(handler, "https://evil.example/secrets/code")
	refused("secret_host_not_allowed")

	_, numbers := s.call("GET", s.AdminURL+"/metrics", s.AdminToken, "")
	for _, line := range []string{
		`tabard_vault_calls_total{caller="client",operation="set",status="200"} 3`, `tabard_vault_calls_total{caller="service",operation="get",status="403"} `,
		`tabard_vault_read_duration_seconds_count{code="secret_denied",vault="embedded"} `, `tabard_referred_secrets{state="unresolved"} 1`, `tabard_referred_secrets_failing 1`, `tabard_vaults 2`, `tabard_secret_versions 3`,
	} {
		if !strings.Contains(see(numbers), line) {
			t.Errorf("no line %s", line)
		}
	}
	records, _ := json.Marshal(s.Server.trace.Records(trace.Filter{Instance: "default"}))
	see(string(records))
	s.stop()
	logMu.Lock()
	see(log.String())
	see(spans.String())
	logMu.Unlock()
	if !strings.Contains(out.String(), "tabard.rule") {
		t.Error("no span was collected")
	}
	if text := out.String(); strings.Contains(text, canary) {
		i := strings.Index(text, canary)
		t.Errorf("the value came out: …%s…", text[max(0, i-200):min(len(text), i+100)])
	}
	if !strings.Contains(out.String(), "secret_denied") || !strings.Contains(out.String(), "vault call") {
		t.Error("the test saw nothing")
	}
	searchFiles(t, dir, canary)
}

func second(_ int, text string) string { return text }

type locked struct {
	mu *sync.Mutex
	w  io.Writer
}

func (l *locked) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.w.Write(p)
}

// searchFiles looks for a text, plain and encoded, in every file of the data directory.
func searchFiles(t *testing.T, dir, text string) {
	t.Helper()
	n := len(text) / 3 * 3
	spellings := []string{text, base64.StdEncoding.EncodeToString([]byte(text[:n])), base64.RawURLEncoding.EncodeToString([]byte(text[:n]))}
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		content, err := os.ReadFile(path)
		for _, s := range spellings {
			if strings.Contains(string(content), s) {
				t.Errorf("%s holds %q", path, s)
			}
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
}

func TestAVaultInRBACModeAsksTheRolesAndAtOnce(t *testing.T) {
	s := serve(t, Config{AllowLoopbackHandlers: true})
	handler := newCodeHandler(t)
	s.controlPlane("PATCH", s.instanceID()+"?api-version=2024-03-01", `{"identity":{"type":"SystemAssigned"}}`)
	oid := s.theDefault().Identity.PrincipalID
	s.controlPlane("PATCH", s.group()+"/Microsoft.KeyVault/vaults/default"+armVersion, `{"properties":{"enableRbacAuthorization":true}}`)
	if status, text := s.vaultCall("default", "PUT", "/secrets/code", s.AdminToken, `{"value":"abc"}`); status != 200 {
		t.Fatal(status, text)
	}
	s.hubRefersTo(handler, s.AdminHTTPSURL+"/secrets/code")
	if err := s.event(); err == nil || !strings.Contains(err.Error(), "secret_denied") || !strings.Contains(err.Error(), "getSecret/action") {
		t.Fatalf("without a role: %v", err)
	}
	_, text := s.explain(s.AdminHTTPSURL + "/secrets/code")
	if !strings.Contains(text, "assign the role Key Vault Secrets User to object id "+oid) {
		t.Errorf("explained as %s", text)
	}
	s.assign(oid, rbac.VaultSecretsUser, s.group()+"/Microsoft.KeyVault/vaults/default")
	if err := s.event(); err != nil || handler.last() != "abc" {
		t.Errorf("with a role: %v, %q", err, handler.last())
	}
}

func TestVaultsAreReachedByHostAndAtAddressesOfTheirOwn(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0") // a free port
	if err != nil {
		t.Fatal(err)
	}
	addr := listener.Addr().String()
	listener.Close()
	s := serve(t, Config{VaultListen: map[string]string{"own": addr}, VaultURL: []string{"https://kv.example.com"}})
	for _, name := range []string{"own", "named"} {
		s.controlPlane("PUT", s.group()+"/Microsoft.KeyVault/vaults/"+name+armVersion, `{"location":"local","properties":{}}`)
	}
	if status, text := s.call("PUT", "https://"+addr+"/secrets/n?api-version=7.4", s.AdminToken, `{"value":"of own"}`); status != 200 || !strings.Contains(text, `"id":"https://`+addr+`/secrets/n/`) {
		t.Errorf("%d %s", status, text)
	}
	if status, _ := s.call("GET", "https://"+addr+"/subscriptions?api-version=2022-12-01", s.AdminToken, ""); status != 404 {
		t.Errorf("the control plane at a vault's address: %d", status)
	}
	if status, text := s.vaultCall("named", "PUT", "/secrets/n", s.AdminToken, `{"value":"of named"}`); status != 200 || !strings.Contains(text, `"id":"https://named.kv.example.com/secrets/n/`) {
		t.Errorf("%d %s", status, text)
	}
	if status, text := s.vaultCall("named", "GET", "/secrets/n", "", ""); status != 401 || !strings.Contains(text, "AKV10000") {
		t.Errorf("%d %s", status, text)
	}
	p := s.principal("reader")
	if status, text := s.vaultCall("named", "GET", "/secrets/n", s.token(p, "https://kv.example.com"), ""); status != 403 || !strings.Contains(text, p) {
		t.Errorf("a token for the vault's own domain: %d %s", status, text)
	}
	if status, text := s.vaultCall("named", "GET", "/secrets/n", s.token(p, dataPlaneResource), ""); status != 401 || !strings.Contains(text, "AKV10022") {
		t.Errorf("a token for Web PubSub: %d %s", status, text)
	}
}

func TestTheMasterKeyIsReplacedWhileServing(t *testing.T) {
	dir := t.TempDir()
	s := serve(t, Config{Data: dir})
	if status, _ := s.vaultCall("default", "PUT", "/secrets/n", s.AdminToken, `{"value":"kept"}`); status != 200 {
		t.Fatal(status)
	}
	before, _ := os.ReadFile(filepath.Join(dir, "master.key"))
	if status, text := s.call("POST", s.AdminURL+"/tabard/v1/masterKey/rotate", "wrong", ""); status != 401 {
		t.Errorf("%d %s", status, text)
	}
	if status, text := s.call("POST", s.AdminURL+"/tabard/v1/masterKey/rotate", s.AdminToken, ""); status != 200 {
		t.Fatal(status, text)
	}
	after, _ := os.ReadFile(filepath.Join(dir, "master.key"))
	if bytes.Equal(before, after) {
		t.Error("the file is the same")
	}
	if status, _ := s.vaultCall("default", "PUT", "/secrets/m", s.AdminToken, `{"value":"after"}`); status != 200 {
		t.Error(status)
	}
	s.stop()
	s = serve(t, Config{Data: dir})
	for name, want := range map[string]string{"n": "kept", "m": "after"} {
		if status, text := s.vaultCall("default", "GET", "/secrets/"+name, s.AdminToken, ""); status != 200 || !strings.Contains(text, `"value":"`+want+`"`) {
			t.Errorf("%d %s", status, text)
		}
	}
}
