package arm

import (
	"slices"
	"strings"
	"testing"
)

func TestHubSettingsAreStoredInOrderAndReturnedAsGiven(t *testing.T) {
	p := start(t)
	path := theDefault + "/hubs/Chat"
	p.do("GET", path+version, "").refused(404, "ResourceNotFound")
	p.do("DELETE", path+version, "").want(204)
	body := `{"properties":{
		"eventHandlers":[
			{"urlTemplate":"https://h.example/{hub}/{event}?k=<&>","userEventPattern":"a, b","systemEvents":["Connect","disconnected"],
			 "auth":{"type":"ManagedIdentity","managedIdentity":{"resource":"uri://myUri"}}},
			{"urlTemplate":"http://127.0.0.1/","userEventPattern":"*","auth":{"type":"None"}},
			{"urlTemplate":"http://127.0.0.1/x","auth":{"type":"ManagedIdentity"}}],
		"anonymousConnectPolicy":"Allow","webSocketKeepAliveIntervalInSeconds":7,"tabard":{"dropOnUserEventFailure":true}}}`
	a := p.do("PUT", path+version, body).want(201).is("id", strings.Replace(theDefault, "webPubSub/", "WebPubSub/", 1)+"/hubs/Chat").
		is("name", "Chat").is("type", "Microsoft.SignalRService/WebPubSub/hubs").
		is("properties.anonymousConnectPolicy", "Allow").is("properties.webSocketKeepAliveIntervalInSeconds", 7).
		is("properties.tabard", map[string]any{"dropOnUserEventFailure": true, "encodeSecrets": false, "jsonAsText": false}).
		is("properties.eventHandlers", []any{
			map[string]any{"urlTemplate": "https://h.example/{hub}/{event}?k=<&>", "userEventPattern": "a, b", "systemEvents": []string{"Connect", "disconnected"},
				"auth": map[string]any{"type": "ManagedIdentity", "managedIdentity": map[string]any{"resource": "uri://myUri"}}},
			map[string]any{"urlTemplate": "http://127.0.0.1/", "userEventPattern": "*", "systemEvents": []string{}, "auth": map[string]any{"type": "None"}},
			map[string]any{"urlTemplate": "http://127.0.0.1/x", "systemEvents": []string{}, "auth": map[string]any{"type": "ManagedIdentity"}},
		})
	if !strings.Contains(a.text, "?k=<&>") {
		t.Errorf("the template is escaped: %s", a.text)
	}
	p.do("PUT", strings.ToUpper(path)+version, body).want(200).is("name", "Chat")
	p.do("PUT", path+version, a.text).want(200)
	if got := p.do("GET", path+version, "").want(200).text; got != a.text {
		t.Errorf("GET answers %s, PUT answered %s", got, a.text)
	}
	if in, _ := p.settings.Snapshot().Instance("default"); in.Hub("chat").UserHandler("b").Resource() != "uri://myUri" {
		t.Error("the handler is not in effect")
	}
	// A replacement falls back to the defaults, but for the switch that Azure's clients do not know.
	p.do("PUT", path+version, `{"properties":{}}`).want(201).is("properties", map[string]any{
		"eventHandlers": []any{}, "anonymousConnectPolicy": "deny", "webSocketKeepAliveIntervalInSeconds": 20, "tabard": map[string]any{"dropOnUserEventFailure": true, "encodeSecrets": false, "jsonAsText": false},
	})
	p.do("PUT", path+version, `{"properties":{"tabard":{}}}`).want(201).is("properties.tabard.dropOnUserEventFailure", false)
	p.do("PUT", theDefault+"/hubs/abc"+version, `{"properties":{}}`).want(201)
	if list := p.do("GET", theDefault+"/hubs"+version, "").want(200).items(); len(list) != 2 || list[0].(map[string]any)["name"] != "abc" {
		t.Errorf("hubs: %v", list)
	}
	p.do("DELETE", path+version, "").want(200)
	p.do("GET", path+version, "").refused(404, "ResourceNotFound")
	for _, method := range []string{"GET", "PUT", "DELETE"} {
		p.do(method, webPubSubs+"/nobody/hubs/chat"+version, map[string]string{"PUT": `{"properties":{}}`}[method]).refused(404, "ParentResourceNotFound")
	}
}

func TestABadHubIsRefusedWithEveryFaultAndChangesNothing(t *testing.T) {
	p := start(t)
	for _, tc := range []struct {
		name, hub, body string
		targets         []string
	}{
		{"no properties", "chat", `{}`, []string{"properties"}},
		{"a hub name that cannot be", "1chat", `{"properties":{}}`, []string{"name"}},
		{"everything of the wrong type", "chat", `{"properties":{"eventHandlers":{},"anonymousConnectPolicy":true,"webSocketKeepAliveIntervalInSeconds":"20","eventListeners":"x","tabard":1}}`,
			[]string{"properties.anonymousConnectPolicy", "properties.eventHandlers", "properties.webSocketKeepAliveIntervalInSeconds", "properties.tabard", "properties.eventListeners"}},
		{"a misspelt name in a handler", "chat", `{"properties":{"eventHandlers":[{"urlTemplate":"http://h.example/"},{"urlTemplate":"http://h.example/","userEventPatern":"*","auth":{"kind":"ManagedIdentity","managedIdentity":{"audience":"x"}}}]}}`,
			[]string{"properties.eventHandlers[1].userEventPatern", "properties.eventHandlers[1].auth.kind", "properties.eventHandlers[1].auth.managedIdentity.audience"}},
		{"faults of form, of value and of the name together", "1chat", `{"properties":{"eventHandlers":[{"urlTemplate":"http://{hub}.example/","audience":"x"},{"urlTemplate":1}],"anonymousConnectPolicy":"perhaps"}}`,
			[]string{"properties.eventHandlers[0].audience", "properties.eventHandlers[1].urlTemplate", "name", "properties.anonymousConnectPolicy", "properties.eventHandlers[0].urlTemplate"}},
		{"group presence, which does not exist here", "chat", `{"properties":{"eventHandlers":[{"urlTemplate":"http://h.example/","groupPresenceEvents":{"eventNames":["joined"]}}]}}`,
			[]string{"properties.eventHandlers[0].groupPresenceEvents"}},
		{"a null handler and a null event", "chat", `{"properties":{"eventHandlers":[null,{"urlTemplate":"http://h.example/","systemEvents":[null]}]}}`,
			[]string{"properties.eventHandlers[0]", "properties.eventHandlers[1].systemEvents[0]"}},
		{"a parameter in the host, an unknown event, a wildcard", "chat", `{"properties":{"eventHandlers":[{"urlTemplate":"http://{hub}.example/","systemEvents":["joined"],"userEventPattern":"a*"}]}}`,
			[]string{"properties.eventHandlers[0].urlTemplate", "properties.eventHandlers[0].systemEvents[0]", "properties.eventHandlers[0].userEventPattern"}},
		{"an interval of nothing", "chat", `{"properties":{"webSocketKeepAliveIntervalInSeconds":0}}`, []string{"properties.webSocketKeepAliveIntervalInSeconds"}},
		{"an interval beyond two minutes", "chat", `{"properties":{"webSocketKeepAliveIntervalInSeconds":121}}`, []string{"properties.webSocketKeepAliveIntervalInSeconds"}},
		{"a fractional interval", "chat", `{"properties":{"webSocketKeepAliveIntervalInSeconds":1.5}}`, []string{"properties.webSocketKeepAliveIntervalInSeconds"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			a := p.do("PUT", theDefault+"/hubs/"+tc.hub+version, tc.body).refused(400, "BadRequest")
			if got := a.details(); !slices.Equal(got, tc.targets) {
				t.Errorf("details of %q, want %q: %s", got, tc.targets, a.text)
			}
			if in, _ := p.settings.Snapshot().Instance("default"); len(in.Hubs) != 0 {
				t.Error("a refused write changed something")
			}
		})
	}
}

func TestHandlersThatCannotAuthenticateAreAcceptedWithAWarning(t *testing.T) {
	p := start(t)
	path := theDefault + "/hubs/chat" + version
	handler := func(auth string) string {
		return `{"properties":{"eventHandlers":[{"urlTemplate":"http://h.example/","auth":` + auth + `}]}}`
	}
	expect := func(a *answer, codes ...string) {
		t.Helper()
		got := a.warnings()
		ok := len(got) == len(codes)
		for i := range codes {
			ok = ok && strings.HasSuffix(got[i], "("+codes[i]+")")
		}
		if !ok {
			t.Errorf("warnings %q, want %q", got, codes)
		}
	}
	expect(p.do("PUT", path, handler(`{"type":"ManagedIdentity","managedIdentity":{"resource":"api://x"}}`)).want(201), "identity_missing")
	expect(p.do("PUT", path, handler(`{"type":"ManagedIdentity"}`)).want(201), "identity_missing", "audience_empty")
	expect(p.do("PATCH", theDefault+version, `{"identity":{"type":"SystemAssigned"}}`).want(200), "audience_empty")
	expect(p.do("PUT", path, handler(`{"type":"ManagedIdentity","managedIdentity":{"resource":"api://x"}}`)).want(201))
	expect(p.do("PATCH", theDefault+version, `{"identity":{"type":"None"}}`).want(200), "identity_missing")
	expect(p.do("PUT", path, handler(`null`)).want(201))
	if got := p.do("PUT", path, `{"properties":{"eventListeners":[{"filter":{"type":"EventName"},"endpoint":{"type":"EventHub","fullyQualifiedNamespace":"n.servicebus.windows.net","eventHubName":"e"}}]}}`).want(201).
		is("properties.eventListeners", []any{map[string]any{"filter": map[string]any{"type": "EventName"}, "endpoint": map[string]any{"type": "EventHub", "fullyQualifiedNamespace": "n.servicebus.windows.net", "eventHubName": "e"}}}).warnings(); len(got) != 1 {
		t.Errorf("warnings %q, want one: listeners have no effect", got)
	}
	p.do("PATCH", theDefault+version, `{"properties":{"tabard":{"refuseGraphAudience":true}}}`).want(200)
	p.do("PUT", path, handler(`{"type":"ManagedIdentity"}`)).refused(400, "BadRequest").is("error.target", "properties.eventHandlers[0].auth.managedIdentity.resource")
}
