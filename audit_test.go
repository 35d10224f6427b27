package tabard_test

import (
	"encoding/json"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"testing"

	"tabard"
	"tabard/internal/arm"
)

// An event is what a test looks at of a recorded change.
type event struct {
	Caller        string
	OperationName struct{ Value string }
	ResourceID    string `json:"resourceId"`
	Status        struct{ Value string }
	HTTPRequest   struct{ Method, URI, ClientIPAddress string } `json:"httpRequest"`
	Properties    map[string]string
	CorrelationID string `json:"correlationId"`
}

// events are the recorded changes that a filter selects, the newest first.
func (r *running) events(t *testing.T, filter string) (list []event, text string) {
	t.Helper()
	next := r.AdminURL + "/subscriptions/" + r.SubscriptionID + "/providers/Microsoft.Insights/eventtypes/management/values?api-version=2015-04-01&$filter=" + url.QueryEscape(filter)
	for next != "" {
		status, body := r.call(t, "GET", next, r.AdminToken, "")
		if status != 200 {
			t.Fatalf("%d %s", status, body)
		}
		var page struct {
			Value    []event
			NextLink string
		}
		if err := json.Unmarshal([]byte(body), &page); err != nil {
			t.Fatal(err)
		}
		list, next, text = append(list, page.Value...), page.NextLink, text+body
	}
	return list, text
}

var parameter = regexp.MustCompile(`\{(\w+)\}`)

// Every operation of the control plane and the directory that may change something leaves exactly one record of each
// request to it; what only reads leaves none.
func TestEveryOperationThatChangesSomethingIsRecordedOnce(t *testing.T) {
	r := start(t, tabard.Config{Data: t.TempDir()}, nil)
	reading := map[string]bool{"checkNameAvailability": true, "explainSecretReference": true}
	changing := 0
	for _, route := range arm.Routes() {
		if route.Method == "GET" || route.Method == "HEAD" {
			continue
		}
		path := parameter.ReplaceAllStringFunc(route.Pattern, func(p string) string {
			switch p {
			case "{subscription}":
				return r.SubscriptionID
			case "{assignment}", "{id}", "{appId}":
				return "0f0e0d0c-0b0a-4908-8706-050403020100"
			case "{how}":
				return "add"
			}
			return "nothing"
		})
		want := 1
		if reading[path[strings.LastIndexByte(path, '/')+1:]] {
			want = 0
		}
		changing += want
		before, _ := r.events(t, "")
		status, body := r.call(t, route.Method, r.AdminURL+path+"?api-version=2024-03-01", r.AdminToken, "{}")
		after, _ := r.events(t, "")
		if n := len(after) - len(before); n != want {
			t.Errorf("%s %s (%d %s) left %d records, want %d", route.Method, route.Pattern, status, body, n, want)
			continue
		}
		if want == 0 {
			continue
		}
		e := after[0]
		if e.Caller != "admin token" || e.HTTPRequest.Method != route.Method || e.HTTPRequest.URI != path || e.HTTPRequest.ClientIPAddress != "127.0.0.1" ||
			!strings.Contains(e.OperationName.Value, "/") || e.ResourceID == "" || e.CorrelationID == "" || (e.Status.Value == "Succeeded") != (status < 300) {
			t.Errorf("%s %s (%d) left %+v", route.Method, route.Pattern, status, e)
		}
	}
	if changing < 40 {
		t.Errorf("only %d operations change something", changing)
	}
}

func TestARecordSaysWhatWasAndWhatIs(t *testing.T) {
	const canary = "audit-canary-51c0"
	r := start(t, tabard.Config{Data: t.TempDir()}, nil)
	hub := `{"properties":{"eventHandlers":[{"urlTemplate":"https://h.example/?code=` + canary + `","systemEvents":["connect"]}]}}`
	r.arm(t, "PUT", "/hubs/chat", hub)
	r.arm(t, "PUT", "/hubs/chat", strings.Replace(hub, "connect", "connected", 1))
	r.arm(t, "POST", "/regenerateKey", `{"keyType":"Primary"}`)
	r.arm(t, "DELETE", "/hubs/chat", "")
	secret := func(method, path, body string) {
		t.Helper()
		if status, text := r.call(t, method, r.AdminHTTPSURL+path+"?api-version=7.4", r.AdminToken, body); status >= 300 {
			t.Fatalf("%s %s: %d %s", method, path, status, text)
		}
	}
	secret("PUT", "/secrets/code", `{"value":"`+canary+`"}`)
	secret("PATCH", "/secrets/code/", `{"tags":{"a":"b"}}`)
	secret("DELETE", "/secrets/code", "")
	secret("DELETE", "/deletedsecrets/code", "")
	if status, body := r.call(t, "PUT", r.AdminURL+"/subscriptions/"+r.SubscriptionID+"/resourceGroups/default/providers/Microsoft.KeyVault/vaults/default/secrets/arm?api-version=2024-11-01", r.AdminToken, `{"properties":{"value":"`+canary+`"}}`); status >= 300 {
		t.Fatalf("%d %s", status, body)
	}
	list, text := r.events(t, "")
	list = list[1:] // of the last one, only what it shows counts
	if strings.Contains(text, canary) {
		t.Error("a secret is shown")
	}
	var got []string
	for i := len(list) - 1; i >= 0; i-- {
		got = append(got, list[i].OperationName.Value)
	}
	want := []string{
		"Microsoft.SignalRService/WebPubSub/hubs/write", "Microsoft.SignalRService/WebPubSub/hubs/write", "Microsoft.SignalRService/WebPubSub/regenerateKey/action", "Microsoft.SignalRService/WebPubSub/hubs/delete",
		"Microsoft.KeyVault/vaults/secrets/setSecret/action", "Microsoft.KeyVault/vaults/secrets/update/action", "Microsoft.KeyVault/vaults/secrets/delete", "Microsoft.KeyVault/vaults/secrets/purge/action",
	}
	if strings.Join(got, "\n") != strings.Join(want, "\n") {
		t.Fatalf("recorded are\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	change := list[len(list)-2].Properties
	if !strings.Contains(change["before"], `"systemEvents":["connect"]`) || !strings.Contains(change["after"], `"systemEvents":["connected"]`) || !strings.Contains(change["after"], "?code=***") {
		t.Errorf("the change of the hub has %v", change)
	}
	gone := list[len(list)-4].Properties
	if gone["before"] == "" || gone["after"] != "" {
		t.Errorf("its deletion has %v", gone)
	}
	if set := list[3]; !strings.HasSuffix(set.ResourceID, "/providers/Microsoft.KeyVault/vaults/default/secrets/code") || !strings.Contains(set.Properties["after"], `"value":"***"`) {
		t.Errorf("the secret has %+v", set)
	}
	if list, _ := r.events(t, "resourceProvider eq 'Microsoft.KeyVault' and status eq 'Succeeded'"); len(list) != 5 {
		t.Errorf("of the vault are %d", len(list))
	}
}

// Records survive a restart, refused requests are recorded apart, and who has a role is named.
func TestRecordsSayWhoAndOutliveTheProcess(t *testing.T) {
	dir := t.TempDir()
	r := start(t, tabard.Config{Data: dir}, nil)
	path := r.AdminURL + "/subscriptions/" + r.SubscriptionID + "/resourceGroups/default/providers/Microsoft.SignalRService/webPubSub/default/hubs/chat?api-version=2024-03-01"
	for token, want := range map[string]int{"": 401, "wrong": 401, r.AdminToken: 201} {
		if status, body := r.call(t, http.MethodPut, path, token, `{"properties":{}}`); status != want {
			t.Fatalf("%d %s", status, body)
		}
	}
	if err := r.stop(); err != nil {
		t.Fatal(err)
	}
	r = start(t, tabard.Config{Data: dir}, nil)
	list, _ := r.events(t, "resourceUri eq '/subscriptions/"+r.SubscriptionID+"/resourceGroups/default'")
	callers := map[string]int{}
	for _, e := range list {
		callers[e.Caller+" "+e.Status.Value]++
	}
	if len(list) != 3 || callers["unknown Failed"] != 2 || callers["admin token Succeeded"] != 1 {
		t.Errorf("recorded are %v", callers)
	}
}
