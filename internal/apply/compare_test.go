package apply

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"reflect"
	"strings"
	"testing"

	"tabard/internal/template"
)

func parse(t *testing.T, text string) map[string]any {
	t.Helper()
	o, err := decode([]byte(text))
	if err != nil {
		t.Fatalf("%v in %s", err, text)
	}
	return o
}

func TestWhatCountsAsADifference(t *testing.T) {
	const (
		wps   = "Microsoft.SignalRService/webPubSub"
		hub   = wps + "/hubs"
		vault = "Microsoft.KeyVault/vaults"
		role  = "Microsoft.Authorization/roleAssignments"
	)
	for _, tc := range []struct {
		name, kind, wanted, current string
		want                        string // paths
	}{
		{"nothing", wps, `{}`, `{}`, ""},
		{"what the service adds", wps, `{"location":"West US 2"}`, `{"location":"westus2","id":"x","properties":{"hostName":"h","disableLocalAuth":false,"publicNetworkAccess":"Enabled","tls":{"clientCertEnabled":false},"unheardOf":1}}`, ""},
		{"a default that is left out", wps, `{}`, `{"sku":{"name":"Standard_S1","tier":"Standard","size":"S1","capacity":1}}`, ""},
		{"a setting that is left out goes back to its default", wps, `{"properties":{}}`, `{"tags":{"a":"b"},"properties":{"disableLocalAuth":true,"publicNetworkAccess":"Disabled"}}`, "properties.disableLocalAuth properties.publicNetworkAccess tags"},
		{"an identity that is left out stays", wps, `{}`, `{"identity":{"type":"SystemAssigned"}}`, ""},
		{"an extension that is left out stays", wps, `{"properties":{}}`, `{"properties":{"tabard":{"maxConnections":7}}}`, ""},
		{"another identity", wps, `{"identity":{"type":"None"}}`, `{"identity":{"type":"SystemAssigned","principalId":"p"}}`, "identity.type"},
		{"the same user-assigned identity in other case", wps, `{"identity":{"type":"UserAssigned","userAssignedIdentities":{"/A/b":{}}}}`, `{"identity":{"type":"UserAssigned","userAssignedIdentities":{"/a/B":{"principalId":"p"}}}}`, ""},
		{"another user-assigned identity", wps, `{"identity":{"type":"UserAssigned","userAssignedIdentities":{"/a":{}}}}`, `{"identity":{"type":"UserAssigned","userAssignedIdentities":{"/b":{"principalId":"p"}}}}`, "identity.userAssignedIdentities"},
		{"names in other case", wps, `{"Properties":{"DisableLocalAuth":true}}`, `{"properties":{"disableLocalAuth":true}}`, ""},
		{"a tag that goes", wps, `{"tags":{"a":"1"}}`, `{"tags":{"a":"1","b":"2"}}`, "tags.b"},
		{"numbers", wps, `{"sku":{"name":"Premium_P1","capacity":2}}`, `{"sku":{"name":"Premium_P1","tier":"Premium","capacity":1}}`, "sku.capacity"},
		{"a secret that is not given back", wps, `{"properties":{"tabard":{"identitySource":{"clientSecret":"x","clientId":"c"}}}}`, `{"properties":{"tabard":{"identitySource":{"clientId":"c"}}}}`, ""},

		{"azurerm's spelling", hub, `{"properties":{"anonymousConnectPolicy":"Deny"}}`, `{"properties":{"anonymousConnectPolicy":"deny","webSocketKeepAliveIntervalInSeconds":20,"eventHandlers":[]}}`, ""},
		{"a handler more", hub, `{"properties":{"eventHandlers":[{"urlTemplate":"a"},{"urlTemplate":"b"}]}}`, `{"properties":{"eventHandlers":[{"urlTemplate":"a","systemEvents":[]}]}}`, "properties.eventHandlers[1]"},
		{"a handler less", hub, `{"properties":{"eventHandlers":[]}}`, `{"properties":{"eventHandlers":[{"urlTemplate":"a"}]}}`, "properties.eventHandlers[0]"},
		{"a handler that loses its authentication", hub, `{"properties":{"eventHandlers":[{"urlTemplate":"a"}]}}`, `{"properties":{"eventHandlers":[{"urlTemplate":"a","auth":{"type":"ManagedIdentity"}}]}}`, "properties.eventHandlers[0].auth"},
		{"a handler with none", hub, `{"properties":{"eventHandlers":[{"urlTemplate":"a"}]}}`, `{"properties":{"eventHandlers":[{"urlTemplate":"a","auth":{"type":"None"}}]}}`, ""},
		{"system events in another order", hub, `{"properties":{"eventHandlers":[{"urlTemplate":"a","systemEvents":["connected","Connect"]}]}}`, `{"properties":{"eventHandlers":[{"urlTemplate":"a","systemEvents":["connect","connected"]}]}}`, ""},
		{"handlers in another order", hub, `{"properties":{"eventHandlers":[{"urlTemplate":"b"},{"urlTemplate":"a"}]}}`, `{"properties":{"eventHandlers":[{"urlTemplate":"a"},{"urlTemplate":"b"}]}}`, "properties.eventHandlers[0].urlTemplate properties.eventHandlers[1].urlTemplate"},

		{"policies in another order", vault, `{"properties":{"accessPolicies":[{"objectId":"A","permissions":{"secrets":["get","list"]}},{"objectId":"b","permissions":{"secrets":["get"]}}]}}`,
			`{"properties":{"accessPolicies":[{"objectId":"B","permissions":{"secrets":["Get"],"keys":[]}},{"objectId":"a","permissions":{"secrets":["list","get"]}}]}}`, ""},
		{"a policy that goes", vault, `{"properties":{"accessPolicies":[]}}`, `{"properties":{"accessPolicies":[{"objectId":"b","permissions":{"secrets":["get"]}}]}}`, "properties.accessPolicies[b]"},
		{"a permission more", vault, `{"properties":{"accessPolicies":[{"objectId":"b","permissions":{"secrets":["get","set"]}}]}}`, `{"properties":{"accessPolicies":[{"objectId":"b","permissions":{"secrets":["get"]}}]}}`, "properties.accessPolicies[0].permissions.secrets"},

		{"a role's id in another form", role, `{"properties":{"roleDefinitionId":"ABC","principalId":"P"}}`, `{"properties":{"roleDefinitionId":"/subscriptions/s/providers/Microsoft.Authorization/roleDefinitions/abc","principalId":"p","principalType":"ServicePrincipal","scope":"/"}}`, ""},
	} {
		var paths []string
		for _, d := range compare(tc.kind, parse(t, tc.wanted), parse(t, tc.current)) {
			paths = append(paths, d.Path)
		}
		if got := strings.Join(paths, " "); got != tc.want {
			t.Errorf("%s: %s, want %s", tc.name, got, tc.want)
		}
	}
}

// Whatever is compared, a secret and what is not known yet are shown as that.
func TestDifferencesShowNoSecret(t *testing.T) {
	const canary = "compare-canary"
	wanted := map[string]any{"properties": map[string]any{
		"a": secret(canary), "b": []any{map[string]any{"c": secret(canary)}}, "clientSecret": canary, "later": template.Unknown{Of: "x"},
	}}
	text, err := json.Marshal(compare("A.B/c", wanted, map[string]any{"properties": map[string]any{"clientSecret": "old-" + canary}}))
	if err != nil || strings.Contains(string(text), canary) || !strings.Contains(string(text), "(known after x is there)") {
		t.Errorf("%s %v", text, err)
	}
}

// A fixed service answers by the end of the path.
type fixed map[string]string

func (f fixed) Do(_ context.Context, r Request) (*Response, error) {
	body, ok := f[r.Path[strings.LastIndexByte(r.Path, '/')+1:]]
	if !ok {
		return &Response{Status: http.StatusNotFound}, nil
	}
	return &Response{Status: http.StatusOK, Body: []byte(body)}, nil
}

// What stood for an id in the file is not sent besides it, however it is spelled.
func TestNamesAreReplacedInAnyCase(t *testing.T) {
	service := client{fixed{
		"roleDefinitions":   `{"value":[{"id":"/roles/owner"}]}`,
		"servicePrincipals": `{"value":[{"id":"p","servicePrincipalType":"Application"}]}`,
	}}
	k := &armKind{runner: &runner{client: service, state: state{service}}, res: &template.Resource{Type: "Microsoft.Authorization/roleAssignments"}}
	got, err := k.prepare(t.Context(), parse(t, `{"properties":{"Role":"Owner","Principal":{"Application":"shop"}}}`))
	if err != nil {
		t.Fatal(err)
	}
	if want := parse(t, `{"properties":{"roleDefinitionId":"/roles/owner","principalId":"p"}}`); !reflect.DeepEqual(got, want) {
		t.Errorf("%v is sent, want %v", got, want)
	}
}

func TestTextThatLooksLikeAnExpressionIsEscaped(t *testing.T) {
	if got := fmt.Sprintln(literal("[a]"), literal("a]"), literal("[a")); got != "[[a] a] [a\n" {
		t.Error(got)
	}
}
