package arm

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// The conformance checklist of the control plane (appendix A), by number. Each line that this package alone can show
// runs against a control plane of its own.
var checklist = map[int]struct {
	given string
	then  func(*plane)
}{
	1: {"PUT creates and replaces, and GET shows the same", func(p *plane) {
		const body = `{"location":"local","sku":{"name":"Premium_P1","capacity":2},"tags":{"a":"b"},"properties":{"disableAadAuth":true}}`
		first, second, third := p.do("PUT", shop, body).want(201), p.do("PUT", shop, body).want(200), p.do("GET", shop, "").want(200)
		if first.text != second.text || second.text != third.text {
			p.t.Errorf("%s\n%s\n%s", first.text, second.text, third.text)
		}
	}},
	2: {"listKeys answers four fields", func(p *plane) {
		a := p.do("POST", theDefault+"/listKeys"+version, "").want(200)
		if len(a.body) != 4 || a.str("primaryConnectionString") != "Endpoint=http://127.0.0.1:8080;AccessKey="+a.str("primaryKey")+";Version=1.0;" || a.str("secondaryConnectionString") == "" || len(a.str("secondaryKey")) != 44 {
			p.t.Errorf("keys of %d fields", len(a.body))
		}
	}},
	3: {"handlers come back in order, byte for byte", func(p *plane) {
		handlers := []any{
			map[string]any{"urlTemplate": "https://H.example/{Hub}/{EVENT}?q=%20x", "userEventPattern": " b , a", "systemEvents": []any{"Connected", "connect"}, "auth": map[string]any{"type": "ManagedIdentity", "managedIdentity": map[string]any{"resource": "API://Mixed/"}}},
			map[string]any{"urlTemplate": "https://a.example", "userEventPattern": "*", "systemEvents": []any{}, "auth": map[string]any{"type": "None"}},
		}
		p.do("PUT", chat, `{"properties":{"eventHandlers":`+string(encode(handlers))+`}}`).want(201)
		p.do("GET", chat, "").is("properties.eventHandlers", handlers)
	}},
	5: {"a system-assigned identity has GUIDs that stay", func(p *plane) {
		id := p.do("PUT", shop, `{"location":"local","identity":{"type":"SystemAssigned"}}`).want(201).str("identity.principalId")
		for _, body := range []string{`{"tags":{"x":"y"}}`, `{"identity":{"type":"systemassigned"}}`} {
			p.do("PATCH", shop, body).is("identity.principalId", id)
		}
		p.do("PUT", shop, `{"location":"local"}`).want(200).is("identity.principalId", id).is("identity.tenantId", p.directory.TenantID())
		if !guidText.MatchString(id) {
			p.t.Errorf("%s is no GUID", id)
		}
	}},
	6: {"a user-assigned identity shows that identity's ids", func(p *plane) {
		robot := p.do("PUT", identitiesPath+"/robot"+identityVersion, `{"location":"local"}`).want(201)
		a := p.do("PUT", shop, `{"location":"local","identity":{"type":"UserAssigned","userAssignedIdentities":{"`+robot.str("id")+`":{}}}}`).want(201)
		a.is("identity|userAssignedIdentities|"+robot.str("id"), map[string]any{"principalId": robot.get("properties.principalId"), "clientId": robot.get("properties.clientId")})
	}},
	7: {"more than one identity is refused with the rule", func(p *plane) {
		for _, identity := range []string{`{"type":"UserAssigned","userAssignedIdentities":{"/a":{},"/b":{}}}`, `{"type":"SystemAssigned, UserAssigned"}`, `{"type":"SystemAssigned,UserAssigned","userAssignedIdentities":{"/a":{}}}`} {
			if a := p.do("PATCH", theDefault+version, `{"identity":`+identity+`}`).refused(400, "InvalidIdentity"); !strings.Contains(a.str("error.message"), "only one managed identity") {
				p.t.Errorf("%s", a.text)
			}
		}
	}},
	9: {"from a system-assigned to a user-assigned identity in one request", func(p *plane) {
		robot := p.do("PUT", identitiesPath+"/robot"+identityVersion, `{"location":"local"}`).str("id")
		p.do("PATCH", theDefault+version, `{"identity":{"type":"SystemAssigned"}}`).want(200)
		p.do("PATCH", theDefault+version, `{"identity":{"type":"UserAssigned","userAssignedIdentities":{"`+robot+`":{}}}}`).want(200).is("identity.type", "UserAssigned").is("identity.principalId", nil)
		if p.systemPrincipals() != 0 {
			p.t.Error("the system-assigned principal is left")
		}
	}},
	10: {"what is missing is 404 with an error body", func(p *plane) { p.do("GET", shop, "").refused(404, "ResourceNotFound") }},
	11: {"DELETE: 200, then 404 at once, then 204", func(p *plane) {
		p.do("PUT", shop, `{"location":"local"}`).want(201)
		p.do("DELETE", shop, "").want(200)
		p.do("GET", shop, "").refused(404, "ResourceNotFound")
		p.do("DELETE", shop, "").want(204)
	}},
	12: {"every answer has a request id, every error a code and a message", func(p *plane) {
		for _, path := range []string{theDefault + version, shop, "/x", theDefault, theDefault + "/nothing" + version} {
			if a := p.do("GET", path, ""); !guidText.MatchString(a.header.Get("X-Ms-Request-Id")) || a.status >= 400 && (a.str("error.code") == "" || a.str("error.message") == "") {
				p.t.Errorf("%s: %s %v", path, a.text, a.header)
			}
		}
	}},
	13: {"every JSON answer says so", func(p *plane) {
		for _, path := range []string{theDefault + version, shop, webPubSubs + version} {
			if got := p.do("GET", path, "").header.Get("Content-Type"); got != "application/json; charset=utf-8" {
				p.t.Errorf("%s: %s", path, got)
			}
		}
	}},
	14: {"what Terraform reads unchecked is always there", func(p *plane) {
		p.do("PUT", shop, `{"location":"local","sku":{"name":"Standard_S1"}}`).want(201)
		p.do("GET", shop, "").is("sku.capacity", 1).is("properties.disableLocalAuth", false).is("properties.disableAadAuth", false).is("properties.publicNetworkAccess", "Enabled").
			is("properties.tls.clientCertEnabled", false).is("properties.liveTraceConfiguration", nil)
		for _, name := range []string{"hostName", "version", "publicPort", "serverPort", "externalIP"} {
			if p.do("GET", shop, "").get("properties."+name) == nil {
				p.t.Errorf("no %s", name)
			}
		}
		p.do("PUT", chat, `{"properties":{}}`).want(201)
		p.do("GET", chat, "").is("properties.anonymousConnectPolicy", "deny")
		for _, hub := range p.do("GET", theDefault+"/hubs"+version, "").items() {
			if hub.(map[string]any)["properties"].(map[string]any)["anonymousConnectPolicy"] == nil {
				p.t.Error("a hub in the list has no policy")
			}
		}
	}},
	18: {"a hub's PUT is 201 or 200, without polling headers", func(p *plane) {
		for _, want := range []int{201, 200} {
			if a := p.do("PUT", chat, `{"properties":{}}`).want(want); a.header.Get("Azure-AsyncOperation")+a.header.Get("Location")+a.header.Get("Retry-After") != "" {
				p.t.Errorf("headers %v", a.header)
			}
		}
	}},
	20: {"the requests of az webpubsub: create, hub update, delete", func(p *plane) {
		p.do("PUT", shop, `{"location":"eastus","tags":null,"sku":{"name":"Free_F1","tier":null,"capacity":1},"kind":"WebPubSub","properties":{}}`).want(201)
		p.do("PUT", webPubSubs+"/shop/hubs/chat"+version, `{"properties":{"eventHandlers":[{"urlTemplate":"http://h.example/{event}","userEventPattern":"a,b","systemEvents":["connect"],"auth":{"type":"ManagedIdentity","managedIdentity":{"resource":null}}}],"anonymousConnectPolicy":"deny"}}`).want(201)
		got := p.do("GET", webPubSubs+"/shop/hubs/chat"+version, "").want(200)
		p.do("PUT", webPubSubs+"/shop/hubs/chat"+version, strings.Replace(got.text, `"deny"`, `"allow"`, 1)).want(201) // the whole document, read-only members included
		whole := p.do("GET", shop, "").want(200)
		p.do("PUT", shop, strings.Replace(whole.text, `"tags":{}`, `"tags":{"x":"y"}`, 1)).want(200).is("tags", map[string]any{"x": "y"})
		p.do("DELETE", webPubSubs+"/shop/hubs/chat"+version, "").want(200)
		p.do("DELETE", shop, "").want(200)
	}},
	21: {"the requests of az webpubsub identity", func(p *plane) {
		p.do("PATCH", theDefault+version, `{"location":null,"identity":{"type":"SystemAssigned","userAssignedIdentities":null}}`).want(200).is("identity.type", "SystemAssigned")
		p.do("PATCH", theDefault+version, `{"location":null,"identity":{"type":"None"}}`).want(200).is("identity", map[string]any{"type": "None"})
	}},
	23: {"key types in any case", func(p *plane) {
		for _, kind := range []string{"primary", "SECONDARY", "salt"} {
			p.do("POST", theDefault+"/regenerateKey"+version, `{"keyType":"`+kind+`"}`).want(200)
		}
		p.do("POST", theDefault+"/regenerateKey"+version, `{"keyType":"third"}`).refused(400, "BadRequest")
	}},
	24: {"paths ignore case, answers keep the user's", func(p *plane) {
		p.do("PUT", sub+"/resourcegroups/My.RG/providers/microsoft.signalrservice/WebPubSub/MyShop"+version, `{"location":"local"}`).want(201)
		p.do("GET", strings.ToUpper(sub+"/resourceGroups/my.rg/providers/Microsoft.SignalRService/webPubSub/myshop")+version, "").want(200).
			is("id", sub+"/resourceGroups/My.RG/providers/Microsoft.SignalRService/WebPubSub/MyShop").is("name", "MyShop").is("type", "Microsoft.SignalRService/WebPubSub")
	}},
	25: {"versions are required; the known ones are accepted, others named", func(p *plane) {
		p.do("GET", theDefault, "").refused(400, "MissingApiVersionParameter")
		for _, v := range []string{"2021-10-01", "2022-08-01-preview", "2023-02-01", "2024-03-01", "2024-04-01-preview", "2024-08-01-preview", "2024-10-01-preview", "2025-01-01-preview", "2025-08-01-preview"} {
			p.do("GET", theDefault+"?api-version="+v, "").want(200)
		}
		if a := p.do("GET", theDefault+"?api-version=2019-01-01", "").refused(400, "NoRegisteredProviderFound"); !strings.Contains(a.str("error.message"), "2024-03-01") {
			p.t.Errorf("%s", a.text)
		}
	}},
	26: {"lists have a value and no empty link", func(p *plane) {
		for _, path := range []string{webPubSubs, theDefault + "/hubs", theDefault + "/replicas", theDefault + "/customDomains"} {
			p.do("GET", path+version, "").want(200).items()
		}
	}},
	27: {"a taken name", func(p *plane) {
		p.do("POST", sub+"/providers/Microsoft.SignalRService/locations/local/checkNameAvailability"+version, `{"type":"Microsoft.SignalRService/WebPubSub","name":"DEFAULT"}`).want(200).is("nameAvailable", false).is("reason", "AlreadyExists")
	}},
	28: {"PATCH of tags replaces the map and nothing else", func(p *plane) {
		p.do("PUT", shop, `{"location":"local","tags":{"a":"1","b":"2"},"properties":{"disableAadAuth":true}}`).want(201)
		p.do("PATCH", shop, `{"tags":{"c":"3"}}`).want(200).is("tags", map[string]any{"c": "3"}).is("properties.disableAadAuth", true)
	}},
	29: {"PATCH with a null location", func(p *plane) { p.do("PATCH", theDefault+version, `{"location":null,"tags":{}}`).want(200) }},
	30: {"location and kind stay", func(p *plane) {
		p.do("PUT", shop, `{"location":"westus"}`).want(201)
		p.do("PUT", shop, `{"location":"eastus"}`).refused(400, "BadRequest").is("error.target", "location")
		p.do("PUT", shop, `{"location":"westus","kind":"SocketIO"}`).refused(400, "BadRequest").is("error.target", "kind")
	}},
	31: {"read-only properties in a PUT are ignored", func(p *plane) {
		p.do("PUT", shop, `{"id":"x","name":"y","type":"z","systemData":{},"location":"local","properties":{"provisioningState":"Failed","hostName":"evil.example","externalIP":"1.2.3.4","version":"9","publicPort":1}}`).want(201).
			is("name", "shop").is("properties.provisioningState", "Succeeded").is("properties.hostName", "127.0.0.1").is("properties.version", "1.0").is("properties.publicPort", 8080)
	}},
	35: {"a user-assigned identity keeps its ids", func(p *plane) {
		first := p.do("PUT", identitiesPath+"/robot"+identityVersion, `{"location":"local"}`).want(201)
		p.do("PUT", identitiesPath+"/robot"+identityVersion, `{"location":"local"}`).want(200).is("properties", first.get("properties"))
	}},
	37: {"identities/default tells a system identity's client id", func(p *plane) {
		const path = theDefault + "/providers/Microsoft.ManagedIdentity/identities/default" + identityVersion
		p.do("GET", path, "").refused(404, "ResourceNotFound")
		p.do("PATCH", theDefault+version, `{"identity":{"type":"SystemAssigned"}}`).want(200)
		if id := p.do("GET", path, "").want(200).str("properties.clientId"); !guidText.MatchString(id) {
			p.t.Errorf("%s is no GUID", id)
		}
	}},
	39: {"auth.type without managedIdentity", func(p *plane) {
		p.do("PUT", chat, `{"properties":{"eventHandlers":[{"urlTemplate":"https://h.example","auth":{"type":"ManagedIdentity"}}]}}`).want(201).
			is("properties.eventHandlers", []any{map[string]any{"urlTemplate": "https://h.example", "systemEvents": []any{}, "auth": map[string]any{"type": "ManagedIdentity"}}})
	}},
	40: {"any string as resource", func(p *plane) {
		for _, resource := range []string{"uri://x", "/subscriptions/x/resourceGroups/y", "11111111-2222-4333-8444-555555555555", "any text"} {
			a := p.do("PUT", chat, `{"properties":{"eventHandlers":[{"urlTemplate":"https://h.example","auth":{"type":"ManagedIdentity","managedIdentity":{"resource":"`+resource+`"}}}]}}`).want(201)
			if !strings.Contains(a.text, `"resource":"`+resource+`"`) {
				p.t.Errorf("%s", a.text)
			}
		}
	}},
	41: {"Allow works like allow, absence is deny", func(p *plane) {
		p.do("PUT", chat, `{"properties":{"anonymousConnectPolicy":"Allow"}}`).want(201).is("properties.anonymousConnectPolicy", "Allow")
		in, _ := p.settings.Snapshot().Instance("default")
		if !in.Hub("chat").AllowAnonymous() || in.Hub("other").AllowAnonymous() {
			p.t.Error("not as configured")
		}
		p.do("PUT", chat, `{"properties":{"anonymousConnectPolicy":"maybe"}}`).refused(400, "BadRequest")
	}},
	42: {"the interval is 1 to 120, 20 by itself", func(p *plane) {
		for _, n := range []int{0, -1, 121} {
			p.do("PUT", chat, fmt.Sprintf(`{"properties":{"webSocketKeepAliveIntervalInSeconds":%d}}`, n)).refused(400, "BadRequest").is("error.target", "properties.webSocketKeepAliveIntervalInSeconds")
		}
		for _, n := range []int{1, 120} {
			p.do("PUT", chat, fmt.Sprintf(`{"properties":{"webSocketKeepAliveIntervalInSeconds":%d}}`, n)).want(201)
		}
		p.do("PUT", chat, `{"properties":{}}`).want(201).is("properties.webSocketKeepAliveIntervalInSeconds", 20)
	}},
	43: {"ten event listeners over all hubs, not eleven", func(p *plane) {
		listener := `{"filter":{"type":"EventName","userEventPattern":"*"},"endpoint":{"type":"EventHub","fullyQualifiedNamespace":"n.servicebus.windows.net","eventHubName":"e"}}`
		listeners := func(n int) string {
			return `{"properties":{"eventListeners":[` + strings.TrimSuffix(strings.Repeat(listener+",", n), ",") + `]}}`
		}
		p.do("PUT", chat, listeners(6)).want(201)
		p.do("PUT", theDefault+"/hubs/other"+version, listeners(5)).refused(400, "BadRequest").is("error.target", "properties.eventListeners")
		p.do("PUT", theDefault+"/hubs/other"+version, listeners(4)).want(201)
		p.do("PUT", chat, listeners(7)).refused(400, "BadRequest")
		p.do("PUT", theDefault+"/hubs/third"+version, `{"properties":{"eventListeners":[{"filter":{"type":"Everything"},"endpoint":{"type":"EventHub"}}]}}`).refused(400, "BadRequest")
	}},
	44: {"a parameter in the host is refused by the handler's path", func(p *plane) {
		p.do("PUT", chat, `{"properties":{"eventHandlers":[{"urlTemplate":"https://ok.example"},{"urlTemplate":"https://{hub}.example"}]}}`).refused(400, "BadRequest").is("error.target", "properties.eventHandlers[1].urlTemplate")
	}},
	49: {"live trace is absent until it is set", func(p *plane) {
		p.do("GET", theDefault+version, "").is("properties.liveTraceConfiguration", nil)
		trace := map[string]any{"enabled": "true", "categories": []any{map[string]any{"name": "HttpRequestLogs", "enabled": "true"}}}
		p.do("PATCH", theDefault+version, `{"properties":{"liveTraceConfiguration":`+string(encode(trace))+`}}`).want(200).is("properties.liveTraceConfiguration", trace)
	}},
	52: {"usages and SKUs", func(p *plane) {
		usage := p.do("GET", sub+"/providers/Microsoft.SignalRService/locations/local/usages"+version, "").want(200).items()[0].(map[string]any)
		if usage["limit"] != float64(-1) || usage["unit"] != "Count" || usage["currentValue"] != float64(1) || usage["name"].(map[string]any)["value"] == "" {
			p.t.Errorf("%v", usage)
		}
		for _, item := range p.do("GET", theDefault+"/skus"+version, "").want(200).items() {
			sku := item.(map[string]any)
			if sku["resourceType"] != "Microsoft.SignalRService/WebPubSub" || sku["capacity"].(map[string]any)["default"] == nil {
				p.t.Errorf("%v", sku)
			}
		}
	}},
	53: {"the operations of the provider, hubs and domains among them", func(p *plane) {
		text := p.do("GET", "/providers/Microsoft.SignalRService/operations"+version, "").want(200).text
		for _, name := range []string{"WebPubSub/read", "WebPubSub/write", "WebPubSub/delete", "WebPubSub/listkeys/action", "WebPubSub/hubs/write", "WebPubSub/customDomains/write", "WebPubSub/customCertificates/read", "WebPubSub/sharedPrivateLinkResources/delete"} {
			if !strings.Contains(text, `"Microsoft.SignalRService/`+name+`"`) {
				p.t.Errorf("no %s", name)
			}
		}
	}},
}

const (
	shop = webPubSubs + "/shop" + version
	chat = theDefault + "/hubs/chat" + version
)

// shownBy are the lines that need more than this package, and the tests that show them.
var shownBy = map[int]string{
	4: "TestChecklist04And08AChangedHubAndALostIdentityCountForTheNextEvent", 8: "TestChecklist04And08AChangedHubAndALostIdentityCountForTheNextEvent",
	17: "TestEveryMethodOfArmwebpubsub", 19: "TestEveryMethodOfArmwebpubsub",
	22: "TestChecklist22And46KeysAndTokensAreSwitchedOffAtOnce", 46: "TestChecklist22And46KeysAndTokensAreSwitchedOffAtOnce",
	32: "TestClientsFindThisCloud", 33: "TestChecklist33TokensForEachNameOfTheControlPlane", 34: "TestRolesOpenTheControlPlane",
	36: "TestEveryMethodOfArmmsi", 38: "TestAVaultInRBACModeAsksTheRolesAndAtOnce", 45: "TestNothingSecretReachesALogATraceAnAnswerOrTheDisk",
	47: "TestNetworkRulesAreInForceForTheNextRequest", 48: "TestAStoppedInstanceServesNobodyAndADeletedOneEndsItsConnections",
	50: "TestEveryPublishedOperationAnswersEveryDocumentedStatus", 51: "TestEveryPublishedOperationAnswersEveryDocumentedStatus",
	54: "every method of the instances' client, pollers to their end", 55: "TestACertificateThatCannotBeServedSaysWhyWherePollersLook",
}

// notShown are the lines that no test shows, each with the reason.
var notShown = map[int]string{
	15: "Terraform's provider is not on the registries at hand; lines 14 and 24 and groups_test.go hold what it reads and in which order",
	16: "the same; destroying is DELETE, then GET until 404, which line 11 holds",
	56: "resource logs are internal/trace's",
	57: "close categories are internal/trace's",
	58: "live trace is internal/trace's",
}

func TestChecklist(t *testing.T) {
	for n := 1; n <= 58; n++ {
		line, here := checklist[n]
		name, elsewhere := shownBy[n]
		_, nowhere := notShown[n]
		if btoi(here)+btoi(elsewhere)+btoi(nowhere) != 1 {
			t.Errorf("line %d is to be in exactly one of the tables", n)
		}
		if here {
			t.Run(fmt.Sprintf("%02d %s", n, line.given), func(t *testing.T) { line.then(start(t)) })
		}
		if elsewhere && !testExists(t, name) {
			t.Errorf("line %d: there is no test %q", n, name)
		}
	}
}

func btoi(b bool) int {
	if b {
		return 1
	}
	return 0
}

// testExists looks for a test of that name in the repository, Go or JavaScript.
func testExists(t *testing.T, name string) bool {
	t.Helper()
	pattern := regexp.MustCompile(`(func ` + regexp.QuoteMeta(name) + `\(|test\("` + regexp.QuoteMeta(name) + `")`)
	found := false
	err := filepath.WalkDir("../..", func(path string, d fs.DirEntry, err error) error {
		if err != nil || found {
			return err
		}
		if d.IsDir() && (d.Name() == "node_modules" || d.Name() == ".git") {
			return fs.SkipDir
		}
		if strings.HasSuffix(path, "_test.go") || strings.HasSuffix(path, ".test.js") {
			text, err := os.ReadFile(path)
			found = pattern.Match(text)
			return err
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return found
}
