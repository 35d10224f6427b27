package arm

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"tabard/internal/settings"
)

func TestAnInstanceIsCreatedReplacedPatchedAndDeleted(t *testing.T) {
	p := start(t)
	path := webPubSubs + "/Shop-1"
	p.do("GET", path+version, "").refused(404, "ResourceNotFound")
	p.do("DELETE", path+version, "").want(204)
	created := p.do("PUT", path+version, `{"location":"West US 2","sku":{"name":"premium_p2"},"tags":{"a":"1"},
		"properties":{"disableLocalAuth":true,"publicNetworkAccess":"enabled","tls":{"clientCertEnabled":true},"hostName":"ignored",
		"tabard":{"skipLoopbackValidation":true},"provisioningState":"Deleting"}}`).want(201)
	created.is("id", webPubSubs[:len(webPubSubs)-len("webPubSub")]+"WebPubSub/Shop-1").is("type", "Microsoft.SignalRService/WebPubSub").
		is("name", "Shop-1").is("location", "West US 2").is("kind", "WebPubSub").is("sku.name", "Premium_P2").is("sku.capacity", 100).is("sku.tier", "Premium").
		is("properties.provisioningState", "Succeeded").is("properties.hostName", "127.0.0.1").is("properties.publicPort", 8080).
		is("properties.disableLocalAuth", true).is("properties.disableAadAuth", false).is("properties.publicNetworkAccess", "Enabled").
		is("properties.tls.clientCertEnabled", true).is("properties.tabard.skipLoopbackValidation", true).is("properties.liveTraceConfiguration", nil).
		is("identity.type", "None")
	if got := p.do("GET", path+version, "").want(200).text; got != created.text {
		t.Errorf("GET answers %s, PUT answered %s", got, created.text)
	}
	if got := p.do("PUT", strings.ToLower(path)+version, created.text).want(200).text; got != created.text {
		t.Errorf("putting back what GET answered changed it to %s", got)
	}
	for _, h := range []string{"Azure-Asyncoperation", "Location", "Retry-After"} {
		if created.header.Get(h) != "" {
			t.Errorf("a finished PUT names %s, and clients would poll", h)
		}
	}

	// What a replacement omits goes back to its default, but for what Azure's clients do not know or rarely send.
	p.do("PUT", path+version, `{"location":"westus2"}`).want(200).is("properties.disableLocalAuth", false).is("tags", map[string]any{}).
		is("sku.name", "Standard_S1").is("properties.tls.clientCertEnabled", false).is("properties.tabard.skipLoopbackValidation", true).is("location", "West US 2")

	p.do("PATCH", path+version, `{"location":null,"tags":{"b":"2"},"properties":{"disableAadAuth":true,"networkACLs":{"defaultAction":"Deny","publicNetwork":{"allow":["RESTAPI"]}}}}`).want(200).
		is("tags", map[string]any{"b": "2"}).is("properties.disableAadAuth", true)
	p.do("PATCH", path+version, `{"properties":{"networkACLs":{"publicNetwork":{"deny":["Trace"]}}},"sku":{"capacity":5}}`).want(200).
		is("tags", map[string]any{"b": "2"}).is("properties.disableAadAuth", true).is("sku.capacity", 5).is("sku.name", "Standard_S1").
		is("properties.networkACLs", map[string]any{"defaultAction": "Deny", "publicNetwork": map[string]any{"allow": []string{"RESTAPI"}, "deny": []string{"Trace"}}})
	p.do("PATCH", path+version, `{"tags":{},"properties":{"networkACLs":null,"DisableAadAuth":false}}`).want(200).
		is("tags", map[string]any{}).is("properties.networkACLs", nil).is("properties.disableAadAuth", false)

	p.do("DELETE", path+version, "").want(200)
	p.do("GET", path+version, "").refused(404, "ResourceNotFound")
	p.do("DELETE", path+version, "").want(204)
	p.do("PATCH", path+version, `{}`).refused(404, "ResourceNotFound")
}

func TestPropertiesWithoutEffectAreKeptReturnedAndWarnedOf(t *testing.T) {
	p := start(t)
	a := p.do("PATCH", theDefault+version, `{"properties":{"regionEndpointEnabled":"disabled","resourceStopped":"True","fromTheFuture":{"x":[1]},"liveTraceConfiguration":{"enabled":"false"}}}`).want(200).
		is("properties.regionEndpointEnabled", "Disabled").is("properties.resourceStopped", "true").is("properties.fromTheFuture", map[string]any{"x": []int{1}}).
		is("properties.liveTraceConfiguration", map[string]any{"enabled": "false"})
	if got := a.warnings(); len(got) != 3 || !strings.Contains(got[2], "regionEndpointEnabled") {
		t.Errorf("warnings %q, want one for each of the three", got)
	}
	if got := p.do("PATCH", theDefault+version, `{"properties":{"regionEndpointEnabled":"Enabled","resourceStopped":null,"fromTheFuture":null,"liveTraceConfiguration":null}}`).want(200).warnings(); len(got) != 0 {
		t.Errorf("warnings %q, want none for defaults", got)
	}
}

func TestListsCoverAGroupOrASubscription(t *testing.T) {
	p := start(t)
	p.do("PUT", sub+"/resourceGroups/Other/providers/microsoft.signalrservice/WEBPUBSUB/abc"+version, `{"location":"local"}`).want(201).
		is("id", sub+"/resourceGroups/Other/providers/Microsoft.SignalRService/WebPubSub/abc")
	if n := len(p.do("GET", webPubSubs+version, "").want(200).items()); n != 1 {
		t.Errorf("%d instances in the group, want 1", n)
	}
	all := p.do("GET", sub+"/providers/Microsoft.SignalRService/webpubsub"+version, "").want(200).items()
	if len(all) != 2 || all[0].(map[string]any)["name"] != "abc" {
		t.Errorf("got %v, want abc and default", all)
	}
	p.do("GET", sub+"/resourceGroups/nobody/providers/Microsoft.SignalRService/webPubSub"+version, "").refused(404, "ResourceGroupNotFound")
	p.do("GET", sub+"/resourceGroups/default/providers/Microsoft.SignalRService/webPubSub/abc"+version, "").refused(404, "ResourceNotFound")
	p.do("PUT", webPubSubs+"/ABC"+version, `{"location":"local"}`).refused(409, "NameAlreadyExists")
}

func TestKeysAreListedAndRegeneratedOneByOne(t *testing.T) {
	p := start(t)
	list := func() [4]string {
		a := p.do("POST", theDefault+"/listKeys"+version, "").want(200)
		return [4]string{a.str("primaryKey"), a.str("secondaryKey"), a.str("primaryConnectionString"), a.str("secondaryConnectionString")}
	}
	before := list()
	if want := "Endpoint=http://127.0.0.1:8080;AccessKey=" + before[0] + ";Version=1.0;"; before[2] != want {
		t.Errorf("connection string %s, want %s", before[2], want)
	}
	for _, tc := range []struct {
		given                    string
		primaryNew, secondaryNew bool
	}{{"Primary", true, false}, {"secondary", false, true}, {"SALT", true, true}} {
		before := list()
		a := p.do("POST", theDefault+"/RegenerateKey"+version, fmt.Sprintf(`{"keyType":%q}`, tc.given)).want(200)
		after := list()
		if (before[0] != after[0]) != tc.primaryNew || (before[1] != after[1]) != tc.secondaryNew {
			t.Errorf("%s changed the wrong keys", tc.given)
		}
		a.is("primaryKey", after[0]).is("secondaryConnectionString", after[3])
	}
	p.do("POST", theDefault+"/regenerateKey"+version, `{"keyType":"Tertiary"}`).refused(400, "BadRequest").is("error.target", "keyType")
	p.do("POST", theDefault+"/regenerateKey"+version, `{}`).refused(400, "BadRequest").is("error.target", "keyType")
	p.do("POST", webPubSubs+"/nobody/listKeys"+version, "").refused(404, "ResourceNotFound")
	p.do("POST", webPubSubs+"/nobody/regenerateKey"+version, `{"keyType":"Primary"}`).refused(404, "ResourceNotFound")
	if a := p.do("PATCH", theDefault+version, `{"properties":{"disableLocalAuth":true}}`).want(200); list() == [4]string{} || strings.Contains(a.text, list()[0]) {
		t.Error("keys must stay readable without local auth, but only through listKeys")
	}
}

func TestNamesAreCheckedForTheWholeService(t *testing.T) {
	p := start(t)
	check := sub + "/providers/Microsoft.SignalRService/locations/anywhere/checkNameAvailability" + version
	for _, tc := range []struct {
		name, body string
		available  bool
		reason     any
	}{
		{"a free name", `{"type":"Microsoft.SignalRService/WebPubSub","name":"shop"}`, true, nil},
		{"a taken name in other case", `{"type":"microsoft.signalrservice/webpubsub","name":"DEFAULT"}`, false, "AlreadyExists"},
		{"a name that cannot be", `{"type":"Microsoft.SignalRService/SignalR","name":"1-"}`, false, "Invalid"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			p.do("POST", check, tc.body).want(200).is("nameAvailable", tc.available).is("reason", tc.reason)
		})
	}
	p.do("POST", check, `{"type":"Microsoft.Storage/storageAccounts","name":"shop"}`).refused(400, "BadRequest").is("error.target", "type")
	p.do("POST", check, `{"type":"Microsoft.SignalRService/WebPubSub"}`).refused(400, "BadRequest").is("error.target", "name")
}

func TestRestartAnswersWhatTheGoClientAccepts(t *testing.T) {
	p := start(t)
	p.do("POST", theDefault+"/restart"+version, "").want(204)
	p.do("POST", webPubSubs+"/nobody/restart"+version, "").refused(404, "ResourceNotFound")
	if !slices.Equal(p.restarted, []string{"default"}) {
		t.Errorf("restarted %v", p.restarted)
	}
}

func TestABadInstanceIsRefusedWithEveryFaultAndChangesNothing(t *testing.T) {
	p := start(t)
	for _, tc := range []struct {
		name, method, path, body string
		targets                  []string
	}{
		{"no location", "PUT", webPubSubs + "/abc", `{}`, []string{"location"}},
		{"everything of the wrong type", "PUT", webPubSubs + "/abc",
			`{"location":1,"tags":["x"],"kind":{},"sku":"S1","identity":5,"properties":{"disableLocalAuth":"yes","tls":7,"networkACLs":"open","publicNetworkAccess":"maybe"}}`,
			[]string{"location", "kind", "tags", "sku", "properties.disableLocalAuth", "properties.publicNetworkAccess", "properties.networkACLs", "properties.tls", "identity"}},
		{"an unknown SKU", "PUT", webPubSubs + "/abc", `{"location":"l","sku":{"name":"Gold"}}`, []string{"sku.name"}},
		{"a capacity between the steps", "PUT", webPubSubs + "/abc", `{"location":"l","sku":{"name":"Standard_S1","capacity":11}}`, []string{"sku.capacity"}},
		{"a name that cannot be and no location", "PUT", webPubSubs + "/-x", `{"kind":"WebPubSub"}`, []string{"name", "location"}},
		{"an unknown kind", "PUT", webPubSubs + "/abc", `{"location":"l","kind":"Chat"}`, []string{"kind"}},
		{"another location", "PUT", theDefault, `{"location":"elsewhere"}`, []string{"location"}},
		{"another kind", "PUT", theDefault, `{"location":"local","kind":"socketio"}`, []string{"kind"}},
		{"another location by PATCH", "PATCH", theDefault, `{"location":"elsewhere"}`, []string{"location"}},
		{"both ways in switched off", "PATCH", theDefault, `{"properties":{"disableLocalAuth":true,"disableAadAuth":true}}`, []string{"properties.disableAadAuth"}},
		{"a misspelt switch of Tabard", "PATCH", theDefault, `{"properties":{"tabard":{"allowTokenOverPlainHTP":true}}}`, []string{"properties.tabard.allowTokenOverPlainHTP"}},
		{"a tag that is a number", "PATCH", theDefault, `{"tags":{"cost":1}}`, []string{"tags.cost"}},
		{"a name twice in different case", "PUT", theDefault, `{"location":"local","Location":"local"}`, []string{"location"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			before, _ := p.settings.Snapshot().Instance("default")
			a := p.do(tc.method, tc.path+version, tc.body).refused(400, "BadRequest")
			got := a.details()
			if !slices.Equal(got, tc.targets) {
				t.Errorf("details of %q, want %q: %s", got, tc.targets, a.text)
			}
			after, _ := p.settings.Snapshot().Instance("default")
			if _, made := p.settings.Snapshot().Instance("abc"); made || before.Revision() != after.Revision() {
				t.Error("a refused write changed something")
			}
		})
	}
}

func TestInstancesOfAnotherSubscriptionStayReachable(t *testing.T) {
	const old = "99999999-2222-4333-8444-555555555555"
	p := start(t)
	if _, err := p.settings.Create(t.Context(), settings.Instance{Name: "moved", SubscriptionID: old, ResourceGroup: "default", Location: "local"}); err != nil {
		t.Fatal(err)
	}
	p.do("GET", strings.Replace(theDefault, testSubscription, old, 1)+version, "").refused(404, "ResourceNotFound")
	p.do("GET", strings.ToUpper("/subscriptions/"+old)+"/resourceGroups/default/providers/Microsoft.SignalRService/webPubSub/moved"+version, "").want(200)
	if n := len(p.do("GET", "/subscriptions?api-version=2022-12-01", "").want(200).items()); n != 2 {
		t.Errorf("%d subscriptions, want 2", n)
	}
	p.do("GET", strings.Replace(theDefault, testSubscription, "88888888-2222-4333-8444-555555555555", 1)+version, "").refused(404, "SubscriptionNotFound")
	p.do("GET", strings.Replace(theDefault, testSubscription, "mine", 1)+version, "").refused(400, "InvalidSubscriptionId")
	p.do("GET", sub+"/resourceGroups/bad./providers/Microsoft.SignalRService/webPubSub"+version, "").refused(400, "InvalidResourceGroup")
}

func TestSKUsAndUsagesHaveTheDocumentedShapes(t *testing.T) {
	p := start(t)
	skus := p.do("GET", theDefault+"/skus"+version, "").want(200).items()
	if len(skus) != 4 {
		t.Fatalf("%d SKUs, want 4", len(skus))
	}
	last := skus[3].(map[string]any)["capacity"].(map[string]any)
	if last["minimum"] != 100.0 || last["maximum"] != 1000.0 || last["default"] != 100.0 {
		t.Errorf("capacity of Premium_P2: %v", last)
	}
	usage := p.do("GET", sub+"/providers/Microsoft.SignalRService/locations/local/usages"+version, "").want(200).items()[0].(map[string]any)
	if usage["limit"] != -1.0 || usage["currentValue"] != 1.0 || usage["unit"] != "Count" {
		t.Errorf("usage %v", usage)
	}
}
