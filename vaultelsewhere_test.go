package tabard

import (
	"context"
	"encoding/json"
	"log/slog"
	"net"
	"strings"
	"testing"
)

// Two installations: events of one take a key from a vault of the other, which is to it what Azure's would be. Everything
// is real but the name: the vault's host, which no name server knows, is dialled where it listens.
func TestAVaultOfAnotherInstallationIsReadWithTheInstancesIdentitySource(t *testing.T) {
	const host = "hooks.kv.b.test"
	b := serve(t, Config{VaultURL: []string{"https://kv.b.test"}})
	a := serveLogged(t, Config{AllowLoopbackHandlers: true, VaultDomain: []string{"kv.b.test"}, HandlerCA: b.CAFile}, slog.New(slog.DiscardHandler))
	dial := a.egress.Transport().DialContext
	a.egress.Transport().DialContext = func(ctx context.Context, network, addr string) (net.Conn, error) {
		if addr == host+":443" {
			addr = strings.TrimPrefix(b.AdminHTTPSURL, "https://")
		}
		return dial(ctx, network, addr)
	}

	decode := func(text string, into any) {
		t.Helper()
		if err := json.Unmarshal([]byte(text), into); err != nil {
			t.Fatal(err, text)
		}
	}
	var app struct{ ID, AppID string }
	decode(b.controlPlane("POST", "/v1.0/applications", `{"displayName":"herald"}`), &app)
	var principal struct{ ID string }
	decode(b.controlPlane("POST", "/v1.0/servicePrincipals", `{"appId":"`+app.AppID+`"}`), &principal)
	var secret struct{ SecretText string }
	decode(b.controlPlane("POST", "/v1.0/applications/"+app.ID+"/addPassword", `{}`), &secret)
	b.controlPlane("PUT", b.group()+"/Microsoft.KeyVault/vaults/hooks"+armVersion, `{"location":"local","properties":{}}`)
	put := func(value string) {
		t.Helper()
		if status, text := b.vaultCall("hooks", "PUT", "/secrets/code", b.AdminToken, `{"value":"`+value+`"}`); status != 200 || !strings.Contains(text, `"id":"https://`+host+`/secrets/code/`) {
			t.Fatal(status, text)
		}
	}
	put("key-1")

	body, _ := json.Marshal(map[string]any{"properties": map[string]any{"tabard": map[string]any{"identitySource": map[string]any{
		"type": "oauth", "clientId": app.AppID, "clientSecret": secret.SecretText, "issuer": b.IssuerV2,
	}}}})
	a.controlPlane("PATCH", a.instanceID()+"?api-version=2024-03-01", string(body))
	handler := newCodeHandler(t)
	uri := "https://" + host + "/secrets/code"
	a.hubRefersTo(handler, uri)
	if err := a.event(); err == nil || !strings.Contains(err.Error(), "secret_denied") || !strings.Contains(err.Error(), principal.ID) {
		t.Fatalf("without a policy: %v", err)
	}
	if steps, text := a.explain(uri); !strings.Contains(steps, "vault ok, permission failed") || !strings.Contains(text, "give object id "+principal.ID+" the secret permission Get in the access policies of "+host) {
		t.Errorf("explained as %s: %s", steps, text)
	}
	b.controlPlane("PUT", b.group()+"/Microsoft.KeyVault/vaults/hooks/accessPolicies/add"+armVersion,
		`{"properties":{"accessPolicies":[{"tenantId":"`+b.TenantID+`","objectId":"`+principal.ID+`","permissions":{"secrets":["get"]}}]}}`)
	refresh := func() {
		a.controlPlane("POST", a.instanceID()+"/refreshSecretReferences?api-version=2024-03-01", "")
	}
	refresh()
	if err := a.event(); err != nil || handler.last() != "key-1" {
		t.Fatalf("with a policy: %v, code %q", err, handler.last())
	}
	put("key-2")
	refresh()
	if err := a.event(); err != nil || handler.last() != "key-2" {
		t.Errorf("after the rotation: %v, code %q", err, handler.last())
	}
	if steps, text := a.explain(uri); !strings.Contains(steps, "value ok, held ok") || !strings.Contains(text, "a vault outside, in a known domain; it gets a token for https://kv.b.test only") {
		t.Errorf("explained as %s: %s", steps, text)
	}
}
