package tabard_test

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"tabard"
	"tabard/internal/apply"
	"tabard/internal/template"
)

// A wire is a running service as package apply sees it; it counts what is written.
type wire struct {
	*running
	t      *testing.T
	writes int
}

func (w *wire) Do(ctx context.Context, r apply.Request) (*apply.Response, error) {
	if r.Method != http.MethodGet && !strings.HasSuffix(r.Path, "/listKeys") {
		w.writes++
	}
	var body bytes.Buffer
	if r.Body != nil {
		if err := json.NewEncoder(&body).Encode(r.Body); err != nil {
			return nil, err
		}
	}
	address := w.AdminHTTPSURL + r.Path
	if len(r.Query) > 0 {
		address += "?" + r.Query.Encode()
	}
	req, err := http.NewRequestWithContext(ctx, r.Method, address, &body)
	if err != nil {
		return nil, err
	}
	if r.Vault != "" {
		u, err := url.Parse(w.AdminHTTPSURL)
		if err != nil {
			return nil, err
		}
		req.Host = strings.ToLower(r.Vault) + ".localhost:" + u.Port()
	}
	req.Header.Set("Authorization", "Bearer "+w.AdminToken)
	req.Header.Set("Content-Type", "application/json")
	res, err := w.http.Do(req)
	if err != nil {
		return nil, err
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	return &apply.Response{Status: res.StatusCode, Body: text, Warnings: res.Header.Values("X-Tabard-Warning")}, err
}

func (w *wire) apply(text string, env map[string]string) *apply.Result {
	w.t.Helper()
	path := filepath.Join(w.t.TempDir(), "r.yaml")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		w.t.Fatal(err)
	}
	files, err := template.Load([]string{path}, nil)
	if err != nil {
		w.t.Fatal(err)
	}
	set, err := template.Expand(w.t.Context(), files, template.Environment{Subscription: w.SubscriptionID, Tenant: w.TenantID, Group: "default", Location: "local"})
	if err != nil {
		w.t.Fatal(err)
	}
	result, err := apply.Run(w.t.Context(), set, apply.Options{Service: w, Subscription: w.SubscriptionID, Tenant: w.TenantID, Group: "default",
		Getenv: func(name string) (string, bool) { v, ok := env[name]; return v, ok }})
	if err != nil {
		w.t.Fatal(err)
	}
	for _, c := range result.Changes {
		if c.Error != "" {
			w.t.Errorf("%s %s: %s", c.Type, c.Name, c.Error)
		}
	}
	return result
}

func (w *wire) export() string {
	w.t.Helper()
	e, err := apply.Export(w.t.Context(), apply.ExportOptions{Service: w, Subscription: w.SubscriptionID, Group: "default"})
	if err != nil {
		w.t.Fatal(err)
	}
	text, err := e.YAML()
	if err != nil {
		w.t.Fatal(err)
	}
	return string(text)
}

// everything has one of each kind, and of each way to name something.
const everything = `
- {type: Microsoft.ManagedIdentity/userAssignedIdentities, name: courier, tags: {a: "[[literal]"}}
- {type: Microsoft.ManagedIdentity/userAssignedIdentities, name: far-one, resourceGroup: elsewhere}
- type: Microsoft.ManagedIdentity/userAssignedIdentities/federatedIdentityCredentials
  name: courier/github
  properties: {issuer: "https://token.actions.githubusercontent.com", subject: "repo:a/b:ref:refs/heads/main", audiences: ["api://AzureADTokenExchange"]}
- type: Microsoft.Graph/applications
  properties:
    displayName: Orders API
    identifierUris: ["api://orders"]
    api: {requestedAccessTokenVersion: 2}
    appRoles: [{id: 0f0e0d0c-0b0a-4908-8706-050403020100, allowedMemberTypes: [Application], displayName: Read, description: Read orders, value: Orders.Read}]
- type: Microsoft.Graph/applications/federatedIdentityCredentials
  name: Orders API/pipeline
  properties: {issuer: "https://issuer.example", subject: ci, audiences: ["api://AzureADTokenExchange"]}
- {type: Microsoft.Graph/servicePrincipals, name: Orders API, properties: {appRoleAssignmentRequired: true}}
- type: Microsoft.SignalRService/webPubSub
  name: orders
  tags: {team: orders}
  sku: {name: Premium_P1, capacity: 2}
  identity: {type: SystemAssigned}
  properties: {disableLocalAuth: true, publicNetworkAccess: Disabled, networkACLs: {defaultAction: Deny, publicNetwork: {allow: [ClientConnection]}}, tabard: {maxConnections: 7}}
- {type: Microsoft.SignalRService/webPubSub, name: near, identity: {type: UserAssigned, userAssignedIdentities: {courier: {}}}}
- {type: Microsoft.SignalRService/webPubSub, name: far, resourceGroup: elsewhere, identity: {type: UserAssigned, userAssignedIdentities: {"[resourceId('default', 'Microsoft.ManagedIdentity/userAssignedIdentities', 'courier')]": {}}}}
- type: Microsoft.SignalRService/webPubSub/hubs
  name: orders/chat
  properties:
    anonymousConnectPolicy: Allow
    webSocketKeepAliveIntervalInSeconds: 30
    eventHandlers:
    - {urlTemplate: "http://h.invalid/{event}", systemEvents: [connect], auth: {type: ManagedIdentity, managedIdentity: {resource: "api://orders"}}}
    - {urlTemplate: "http://h.invalid/", userEventPattern: "*"}
- {type: Microsoft.SignalRService/webPubSub/hubs, name: near/empty, properties: {}}
- type: Microsoft.KeyVault/vaults
  name: hooks
  tags: {a: b}
  properties:
    softDeleteRetentionInDays: 7
    accessPolicies:
    - {principal: {instance: orders}, permissions: {secrets: [get]}}
    - {principal: {identity: courier}, permissions: {secrets: [get, list]}}
    - {principal: {application: Orders API}, permissions: {secrets: [all], keys: [get]}}
    - {objectId: 0f0e0d0c-0b0a-4908-8706-050403020199, permissions: {secrets: [set]}}
- {type: Microsoft.KeyVault/vaults, name: roles, resourceGroup: elsewhere, properties: {enableRbacAuthorization: true}}
- type: Microsoft.KeyVault/vaults/secrets
  name: hooks/handler-key
  tags: {a: b}
  properties: {contentType: text/plain, attributes: {exp: 4102444800}, valueFrom: {env: TABARD_SECRET_HOOKS_HANDLER_KEY}}
- {type: Microsoft.Authorization/roleAssignments, scope: Microsoft.SignalRService/webPubSub/orders, properties: {role: Web PubSub Service Owner, principal: {identity: courier}, description: why}}
- {type: Microsoft.Authorization/roleAssignments, scope: Microsoft.KeyVault/vaults/roles, resourceGroup: elsewhere, properties: {role: Key Vault Secrets User, principal: {instance: "[resourceId('default', 'Microsoft.SignalRService/webPubSub', 'orders')]"}}}
- {type: Microsoft.Authorization/roleAssignments, scope: "[subscription().id]", properties: {role: Reader, principal: {application: Orders API}}}
- {type: Microsoft.Authorization/roleAssignments, scope: /, properties: {role: Reader, principal: {identity: courier}}}
- {type: Microsoft.Authorization/roleAssignments, properties: {role: Contributor, principal: {identity: courier}}}
`

func TestWhatIsExportedMakesTheSameAgain(t *testing.T) {
	env := map[string]string{"TABARD_SECRET_HOOKS_HANDLER_KEY": "s3cr3t"}
	first := &wire{running: start(t, tabard.Config{Data: t.TempDir()}, nil), t: t}
	made := first.apply(everything, env)
	if n := made.Count(apply.Create); n != len(made.Changes) {
		t.Fatalf("%d of %d created", n, len(made.Changes))
	}
	exported := first.export()
	if strings.Contains(exported, "s3cr3t") {
		t.Error("a secret is exported")
	}

	// On the same service nothing is written, with and without the secret's value.
	first.writes = 0
	for _, text := range []string{everything, exported} {
		if same := first.apply(text, env); same.Count(apply.Unchanged) != len(same.Changes) {
			for _, c := range same.Changes {
				if c.Action != apply.Unchanged {
					t.Errorf("%s %s: %s %+v", c.Action, c.Type, c.Name, c.Diff)
				}
			}
		}
	}
	if same := first.apply(exported, nil); same.Count(apply.Unchanged) != len(same.Changes) {
		t.Error("without the value of the secret something changes")
	}
	if first.writes != 0 {
		t.Errorf("%d writes", first.writes)
	}

	second := &wire{running: start(t, tabard.Config{Data: t.TempDir()}, nil), t: t}
	second.apply(exported, env)
	if again := second.export(); again != exported {
		t.Errorf("exported again is\n%s\nwant\n%s", again, exported)
	}
	if first.SubscriptionID == second.SubscriptionID {
		t.Error("both services have one subscription")
	}
}

func TestASeedIsAppliedBeforeTheServiceIsReady(t *testing.T) {
	dir := t.TempDir()
	seed, key := filepath.Join(dir, "seed.yaml"), filepath.Join(dir, "key.txt")
	if err := os.WriteFile(key, []byte("from a file\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(seed, []byte(`
parameters: {hub: {type: string}}
resources:
- {type: Microsoft.SignalRService/webPubSub/hubs, name: "[concat('default/', parameters('hub'))]", properties: {anonymousConnectPolicy: allow}}
- {type: Microsoft.KeyVault/vaults/secrets, name: default/code, properties: {valueFrom: {file: key.txt}}}
`), 0o600); err != nil {
		t.Fatal(err)
	}
	cfg := tabard.Config{Data: filepath.Join(dir, "d"), Seed: []string{seed}, SeedParameters: []string{"hub=chat"}}
	versions := func(r *running) int {
		_, text := r.call(t, "GET", r.AdminHTTPSURL+"/secrets/code/versions?api-version=7.4", r.AdminToken, "")
		return strings.Count(text, `"id"`)
	}
	for range 2 { // the second start changes nothing
		r := start(t, cfg, nil)
		if text := r.arm(t, "GET", "/hubs/chat", ""); !strings.Contains(text, `"anonymousConnectPolicy":"allow"`) {
			t.Errorf("the hub is %s", text)
		}
		if status, text := r.call(t, "GET", r.AdminHTTPSURL+"/secrets/code?api-version=7.4", r.AdminToken, ""); status != 200 || !strings.Contains(text, `"value":"from a file"`) {
			t.Errorf("the secret is %d %s", status, text)
		}
		if n := versions(r); n != 1 {
			t.Errorf("the secret has %d versions", n)
		}
		if err := r.stop(); err != nil {
			t.Fatal(err)
		}
	}
	cfg.SeedParameters = nil
	srv, err := tabard.New(cfg, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := srv.Run(t.Context()); err == nil || !strings.Contains(err.Error(), "seed.yaml:2: parameter hub has no value") {
		t.Errorf("a seed with a fault: %v", err)
	}
}

func TestApplySetsAreKeptForWhoSawThem(t *testing.T) {
	r := start(t, tabard.Config{Data: t.TempDir()}, nil)
	set := r.AdminURL + apply.InventoryPath
	for _, tc := range []struct {
		method, name, body string
		want               int
	}{
		{"GET", "s", "", 404}, {"PUT", "s", `{"resources":[{"id":"/a","path":"/a"}]}`, 200}, {"GET", "s", "", 200},
		{"PUT", "s", `{"resources":[]}`, 412}, {"PUT", "s", `{"resources":[],"etag":"99"}`, 412}, {"PUT", "s", `{`, 400},
		{"PUT", "..%2Fs", `{}`, 400}, {"PUT", strings.Repeat("x", 65), `{}`, 400}, {"DELETE", "s", "", 405},
	} {
		if status, text := r.call(t, tc.method, set+tc.name, r.AdminToken, tc.body); status != tc.want {
			t.Errorf("%s %s %s: %d %s", tc.method, tc.name, tc.body, status, text)
		}
	}
	if status, _ := r.call(t, "GET", set+"s", "wrong", ""); status != 401 {
		t.Errorf("without the admin token: %d", status)
	}
}

// outcome applies one file and tells what came of its last resource.
func (w *wire) outcome(text string, env map[string]string) apply.Change {
	w.t.Helper()
	dir := w.t.TempDir()
	path := filepath.Join(dir, "r.yaml")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		w.t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "large"), bytes.Repeat([]byte("x"), 64<<10+1), 0o600); err != nil {
		w.t.Fatal(err)
	}
	files, err := template.Load([]string{path}, nil)
	if err != nil {
		w.t.Fatal(err)
	}
	set, err := template.Expand(w.t.Context(), files, template.Environment{Subscription: w.SubscriptionID, Tenant: w.TenantID, Group: "default", Location: "local"})
	if err != nil {
		w.t.Fatal(err)
	}
	result, err := apply.Run(w.t.Context(), set, apply.Options{Service: w, Subscription: w.SubscriptionID, Tenant: w.TenantID, Group: "default",
		Getenv: func(name string) (string, bool) { v, ok := env[name]; return v, ok }})
	if err != nil {
		w.t.Fatal(err)
	}
	return result.Changes[len(result.Changes)-1]
}

func TestWhatApplySaysOfOneResource(t *testing.T) {
	w := &wire{running: start(t, tabard.Config{Data: t.TempDir()}, nil), t: t}
	const secret = "- {type: Microsoft.KeyVault/vaults/secrets, name: default/s, properties: "
	const policies = "- type: Microsoft.KeyVault/vaults/accessPolicies\n  name: default/"
	const who = "\n  properties: {accessPolicies: [{objectId: 0f0e0d0c-0b0a-4908-8706-050403020100, permissions: {secrets: [get]}}]}\n"
	env := map[string]string{"V": "value-1", "W": "value-2", "EMPTY": ""}
	for _, tc := range []struct{ name, text, action, says string }{
		{"a secret without a value", secret + "{}}", apply.Failed, "properties.valueFrom is required"},
		{"a value twice", secret + "{value: a, valueFrom: {env: V}}}", apply.Failed, "not both"},
		{"a value from two places", secret + "{valueFrom: {env: V, file: f}}}", apply.Failed, "give env or file"},
		{"a value from somewhere else", secret + "{valueFrom: {url: x}}}", apply.Failed, `"url" is neither env nor file`},
		{"a variable that is empty", secret + "{valueFrom: {env: EMPTY}}}", apply.Failed, "the environment has no EMPTY"},
		{"a file that is not there", secret + "{valueFrom: {file: none}}}", apply.Failed, "there is no file none"},
		{"a file that is too large", secret + "{valueFrom: {file: large}}}", apply.Failed, "more than 65536 bytes"},
		{"nothing that could be kept", secret + "{valueFrom: {env: NONE, keepExisting: true}}}", apply.Failed, "nothing stored that could be kept"},
		{"an attribute that is none", secret + "{valueFrom: {env: V}, attributes: {expires: 1}}}", apply.Failed, `"expires" is none of`},
		{"a value in the file", secret + "{value: value-1}}", apply.Create, "the value stands in the file"},
		{"the same from the environment", secret + "{valueFrom: {env: V}}}", apply.Unchanged, ""},
		{"kept", secret + "{valueFrom: {env: NONE, keepExisting: true}}}", apply.Unchanged, ""},
		{"other tags", "- {type: Microsoft.KeyVault/vaults/secrets, name: default/s, tags: {a: b}, properties: {valueFrom: {env: V}}}", apply.Update, ""},
		{"disabled", secret + "{valueFrom: {env: V}, attributes: {enabled: false}}}", apply.Update, ""},
		{"still disabled", secret + "{valueFrom: {env: V}, attributes: {enabled: false}}}", apply.Unchanged, ""},
		{"enabled with another value", secret + "{valueFrom: {env: W}}}", apply.Update, ""},
		{"in a vault that is not there", "- {type: Microsoft.KeyVault/vaults/secrets, name: nowhere/s, properties: {valueFrom: {env: V}}}", apply.Failed, ""},

		{"a policy to add", policies + "add" + who, apply.Update, ""},
		{"that is there", policies + "add" + who, apply.Unchanged, ""},
		{"a policy to remove", policies + "remove" + who, apply.Update, ""},
		{"that is not there", policies + "remove" + who, apply.Unchanged, ""},

		{"a principal that is two", "- {type: Microsoft.Authorization/roleAssignments, properties: {role: Reader, principal: {identity: a, instance: b}}}", apply.Failed, "give one of instance, identity and application"},
		{"a principal that is none", "- {type: Microsoft.Authorization/roleAssignments, properties: {role: Reader, principal: {user: a}}}", apply.Failed, `"user" is none of`},
		{"a principal and its id", "- {type: Microsoft.Authorization/roleAssignments, properties: {role: Reader, principal: {identity: a}, principalId: b}}", apply.Failed, "not both"},
		{"an instance without an identity", "- {type: Microsoft.Authorization/roleAssignments, properties: {role: Reader, principal: {instance: default}}}", apply.Failed, "default has no managed identity"},
		{"an identity that is not there", "- {type: Microsoft.Authorization/roleAssignments, properties: {role: Reader, principal: {identity: nobody}}}", apply.Failed, "nobody is not there"},
		{"a role that is none", "- {type: Microsoft.Authorization/roleAssignments, properties: {role: King, principalId: a}}", apply.Failed, `there is no role "King"`},
		{"an application without a principal", "- {type: Microsoft.Graph/applications, properties: {displayName: lonely}}\n- {type: Microsoft.Authorization/roleAssignments, properties: {role: Reader, principal: {application: lonely}}}", apply.Failed, "has no service principal"},
		{"a kind that the directory lacks", "- {type: Microsoft.Graph/groups, name: g}", apply.Failed, "resources of type Microsoft.Graph/groups are not supported"},
		{"a principal of no application", "- {type: Microsoft.Graph/servicePrincipals, name: nobody}", apply.Failed, `there is no application "nobody"`},
		{"a kind that the service lacks", "- {type: Microsoft.Compute/virtualMachines, name: vm}", apply.Failed, ""},
		{"a resource group", "- {type: Microsoft.Resources/resourceGroups, name: any, location: westus}", apply.Unchanged, ""},
	} {
		c := w.outcome(tc.text+"\n", env)
		said := c.Error + strings.Join(c.Warnings, " ")
		if c.Action != tc.action || !strings.Contains(said, tc.says) || tc.action == apply.Failed && c.Error == "" || strings.Contains(said, "value-") {
			t.Errorf("%s: %s %q %v, want %s %q", tc.name, c.Action, said, c.Diff, tc.action, tc.says)
		}
	}
	if status, text := w.call(t, "DELETE", w.AdminHTTPSURL+"/secrets/s?api-version=7.4", w.AdminToken, ""); status != 200 {
		t.Fatal(status, text)
	}
	if c := w.outcome(secret+"{valueFrom: {env: V}}}\n", env); c.Action != apply.Failed || !strings.Contains(c.Error, "tabard secret recover") {
		t.Errorf("a secret that was deleted: %+v", c)
	}
}

// The template has what Bicep makes of modules, loops, role assignments and connection strings kept in a vault.
func TestWhatBicepCompilesToIsApplied(t *testing.T) {
	w := &wire{running: start(t, tabard.Config{Data: t.TempDir()}, nil), t: t}
	run := func(dry bool) *apply.Result {
		t.Helper()
		files, err := template.Load([]string{"testdata/bicep.json"}, nil)
		if err != nil {
			t.Fatal(err)
		}
		parameters := template.Parameters{}
		if err := parameters.Set("hub1_url_0=http://h.invalid/{event}"); err != nil {
			t.Fatal(err)
		}
		set, err := template.Expand(t.Context(), files, template.Environment{Subscription: w.SubscriptionID, Tenant: w.TenantID, Group: "default", Location: "local", Parameters: parameters})
		if err != nil {
			t.Fatal(err)
		}
		result, err := apply.Run(t.Context(), set, apply.Options{Service: w, Subscription: w.SubscriptionID, Tenant: w.TenantID, Group: "default", DryRun: dry})
		if err != nil {
			t.Fatal(err)
		}
		for _, c := range result.Changes {
			if c.Error != "" {
				t.Errorf("%s %s: %s", c.Type, c.Name, c.Error)
			}
		}
		return result
	}
	w.writes = 0
	if dry := run(true); dry.Count(apply.Create) != 7 || w.writes != 0 {
		t.Errorf("a dry run: %d to create, %d writes", dry.Count(apply.Create), w.writes)
	}
	first := run(false)
	if first.Count(apply.Create) != 7 {
		t.Errorf("created are %d of %d", first.Count(apply.Create), len(first.Changes))
	}
	for _, c := range first.Changes {
		if strings.Contains(strings.Join(c.Warnings, " "), "stands in the file") {
			t.Errorf("%s: a computed value does not stand in the file", c.Name)
		}
	}
	w.writes = 0
	if second := run(false); second.Count(apply.Unchanged) != 7 || w.writes != 0 {
		for _, c := range second.Changes {
			t.Logf("%s %s %+v", c.Action, c.Name, c.Diff)
		}
		t.Errorf("a second time %d are unchanged, %d writes", second.Count(apply.Unchanged), w.writes)
	}
	vault := ""
	for _, c := range first.Changes {
		if c.Type == "Microsoft.KeyVault/vaults" {
			vault = c.Name
		}
	}
	answer, err := w.Do(t.Context(), apply.Request{Method: "GET", Path: "/secrets/connectionstrings--pubsub", Query: url.Values{"api-version": {"7.4"}}, Vault: vault})
	if err != nil || answer.Status != 200 || !strings.Contains(string(answer.Body), "AccessKey=") {
		t.Errorf("the connection string: %v %+v", err, answer)
	}
}
