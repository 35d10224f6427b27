package tabard_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"tabard"
)

// filled is a service with something of everything, and the requests whose answers show it.
func filled(t *testing.T, r *running, canary string) (shown []string) {
	t.Helper()
	ok := func(method, url, body string) string {
		t.Helper()
		status, text := r.call(t, method, url, r.AdminToken, body)
		if status >= 300 {
			t.Fatalf("%s %s: %d %s", method, url, status, text)
		}
		return text
	}
	group := r.AdminURL + "/subscriptions/" + r.SubscriptionID + "/resourceGroups/default"
	const wps, kv, msi, authz = "?api-version=2024-03-01", "?api-version=2024-11-01", "?api-version=2023-01-31", "?api-version=2022-04-01"
	instances := group + "/providers/Microsoft.SignalRService/webPubSub"
	ok("PUT", instances+"/two"+wps, `{"location":"local","identity":{"type":"SystemAssigned"},"tags":{"a":"b"}}`)
	ok("PUT", instances+"/two/hubs/chat"+wps, `{"properties":{"eventHandlers":[{"urlTemplate":"https://h.example/?code=`+canary+`","systemEvents":["connect"]}]}}`)
	ok("PUT", group+"/providers/Microsoft.ManagedIdentity/userAssignedIdentities/courier"+msi, `{"location":"local"}`)
	var app struct{ ID, AppID string }
	if err := json.Unmarshal([]byte(ok("POST", r.AdminURL+"/v1.0/applications", `{"displayName":"orders","identifierUris":["api://orders"]}`)), &app); err != nil {
		t.Fatal(err)
	}
	ok("POST", r.AdminURL+"/v1.0/servicePrincipals", `{"appId":"`+app.AppID+`"}`)
	var two struct{ Identity struct{ PrincipalID string } }
	if err := json.Unmarshal([]byte(ok("GET", instances+"/two"+wps, "")), &two); err != nil {
		t.Fatal(err)
	}
	ok("PUT", group+"/providers/Microsoft.KeyVault/vaults/default"+kv, `{"location":"local","properties":{"accessPolicies":[{"tenantId":"`+r.TenantID+`","objectId":"`+two.Identity.PrincipalID+`","permissions":{"secrets":["get"]}}]}}`)
	ok("PUT", instances+"/two/providers/Microsoft.Authorization/roleAssignments/0f0e0d0c-0b0a-4908-8706-050403020100"+authz,
		`{"properties":{"roleDefinitionId":"12cf5a90-567b-43ae-8102-96cf46c7d9b4","principalId":"`+two.Identity.PrincipalID+`"}}`)
	secrets := r.AdminHTTPSURL + "/secrets"
	var first struct{ ID string }
	if err := json.Unmarshal([]byte(ok("PUT", secrets+"/code?api-version=7.4", `{"value":"`+canary+`-1"}`)), &first); err != nil {
		t.Fatal(err)
	}
	ok("PUT", secrets+"/code?api-version=7.4", `{"value":"`+canary+`-2"}`)
	ok("PUT", secrets+"/gone?api-version=7.4", `{"value":"`+canary+`-3"}`)
	ok("DELETE", secrets+"/gone?api-version=7.4", "")
	ok("POST", instances+"/two/regenerateKey"+wps, `{"keyType":"Secondary"}`)
	path := func(url string) string { return regexp.MustCompile(`^https?://[^/]+`).ReplaceAllString(url, "") }
	shown = []string{"GET " + path(first.ID) + "?api-version=7.4", "GET /tabard/v1/signingKeys"}
	for _, s := range []string{
		"GET " + instances + wps, "POST " + instances + "/two/listKeys" + wps, "POST " + instances + "/default/listKeys" + wps, "GET " + instances + "/two/hubs" + wps,
		"GET " + group + "/providers/Microsoft.ManagedIdentity/userAssignedIdentities" + msi, "GET " + r.AdminURL + "/v1.0/applications", "GET " + r.AdminURL + "/v1.0/servicePrincipals",
		"GET " + group + "/providers/Microsoft.KeyVault/vaults" + kv, "GET " + instances + "/two/providers/Microsoft.Authorization/roleAssignments" + authz,
		"GET " + secrets + "/code?api-version=7.4", "GET " + secrets + "/code/versions?api-version=7.4", "GET " + r.AdminHTTPSURL + "/deletedsecrets/gone?api-version=7.4",
	} {
		method, url, _ := strings.Cut(s, " ")
		shown = append(shown, method+" "+path(url))
	}
	return shown
}

var ports = regexp.MustCompile(`127\.0\.0\.1:\d+|localhost:\d+`)

// show is the answers to all requests, ports and names of requests left out.
func (r *running) show(t *testing.T, requests []string) string {
	t.Helper()
	var all strings.Builder
	for _, request := range requests {
		method, path, _ := strings.Cut(request, " ")
		status, text := r.call(t, method, r.AdminHTTPSURL+path, r.AdminToken, "")
		if status != 200 {
			t.Fatalf("%s: %d %s", request, status, text)
		}
		all.WriteString(request + "\n" + ports.ReplaceAllString(text, "HOST") + "\n")
	}
	return regexp.MustCompile(`"publicPort":\d+,|"serverPort":\d+,`).ReplaceAllString(all.String(), "")
}

func (r *running) backup(t *testing.T, body string) []byte {
	t.Helper()
	status, text := r.call(t, "POST", r.AdminURL+"/tabard/v1/backup", r.AdminToken, body)
	if status != 200 {
		t.Fatalf("%d %s", status, text)
	}
	return []byte(text)
}

func TestABackupBringsEverythingBack(t *testing.T) {
	const canary = "backup-canary-e5b7"
	dir := t.TempDir()
	r := start(t, tabard.Config{Data: dir}, nil)
	requests := filled(t, r, canary)
	want, ready := r.show(t, requests), r.Ready
	changes, _ := r.events(t, "")
	sealed := r.backup(t, "")
	if bytes.Contains(sealed, []byte(canary)) || bytes.Contains(sealed, []byte(ready.AdminToken)) {
		t.Error("the backup shows what is in it")
	}
	if err := r.stop(); err != nil {
		t.Fatal(err)
	}
	masterKey := filepath.Join(t.TempDir(), "kept.key")
	if err := os.Rename(filepath.Join(dir, "master.key"), masterKey); err != nil {
		t.Fatal(err)
	}
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}

	another := filepath.Join(t.TempDir(), "another.key")
	if err := os.WriteFile(another, []byte("AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := tabard.Restore(t.Context(), bytes.NewReader(sealed), tabard.RestoreOptions{Data: dir, MasterKey: tabard.MasterKeySource{File: another}}); !errors.Is(err, tabard.ErrWrongBackupKey) {
		t.Errorf("with another master key: %v", err)
	}
	if _, err := tabard.Restore(t.Context(), bytes.NewReader(sealed), tabard.RestoreOptions{Data: dir}); !errors.Is(err, tabard.ErrWrongBackupKey) {
		t.Errorf("without one: %v", err)
	}
	if _, err := tabard.Restore(t.Context(), bytes.NewReader(sealed[:len(sealed)-100]), tabard.RestoreOptions{Data: dir, MasterKey: tabard.MasterKeySource{File: masterKey}}); !errors.Is(err, tabard.ErrDamagedBackup) {
		t.Errorf("cut short: %v", err)
	}
	if _, err := os.Stat(dir); !errors.Is(err, os.ErrNotExist) {
		t.Fatalf("what failed left something: %v", err)
	}

	info, err := tabard.Restore(t.Context(), bytes.NewReader(sealed), tabard.RestoreOptions{Data: dir, MasterKey: tabard.MasterKeySource{File: masterKey}})
	if err != nil || info.Items == 0 || info.Created.IsZero() {
		t.Fatalf("%+v %v", info, err)
	}
	r = start(t, tabard.Config{Data: dir, MasterKeyFile: masterKey}, nil)
	if got := r.show(t, requests); got != want {
		t.Errorf("restored is\n%s\nwant\n%s", got, want)
	}
	if r.AdminToken != ready.AdminToken || r.TenantID != ready.TenantID || r.SubscriptionID != ready.SubscriptionID {
		t.Error("the restored service is another one")
	}
	if restored, _ := r.events(t, ""); len(restored) != len(changes)+2 { // and the keys that were shown meanwhile, twice
		t.Errorf("%d records, %d before the backup", len(restored), len(changes))
	}
}

func TestABackupIsForTheAdminTokenAlone(t *testing.T) {
	r := start(t, tabard.Config{Data: t.TempDir()}, nil)
	if status, _ := r.call(t, "POST", r.AdminURL+"/tabard/v1/backup", "", ""); status != 401 {
		t.Errorf("without a token: %d", status)
	}
	for _, body := range []string{`[`, `{"recipient":[]}`, `{"recipients":["age1nonsense"]}`} {
		if status, text := r.call(t, "POST", r.AdminURL+"/tabard/v1/backup", r.AdminToken, body); status != 400 {
			t.Errorf("%s: %d %s", body, status, text)
		}
	}
}
