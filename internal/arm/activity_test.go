package arm

import (
	"context"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"tabard/internal/audit"
	"tabard/internal/fabric"
	"tabard/internal/store"
)

const activity = sub + "/providers/Microsoft.Insights/eventtypes/management/values?api-version=2015-04-01"

// recording is a plane with an audit log, and what puts records into it.
func recording(t *testing.T, now func() time.Time) (p *plane, record func(about audit.Request, method, path string, status int)) {
	f, err := fabric.Open(context.Background(), fabric.Options{DataDir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(f.Close)
	st, err := store.Open(context.Background(), f, store.MasterKeyFile(t.TempDir()+"/key"), nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(st.Close)
	log, err := audit.Open(context.Background(), st, audit.Options{Now: now})
	if err != nil {
		t.Fatal(err)
	}
	p = start(t, func(o *Options) { o.Audit = log })
	return p, func(about audit.Request, method, path string, status int) {
		log.Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(status) }),
			func(*http.Request) *audit.Request { return &about }).ServeHTTP(httptest.NewRecorder(), httptest.NewRequest(method, path, nil))
	}
}

func TestTheActivityLogIsFiltered(t *testing.T) {
	now := time.Date(2026, 5, 1, 12, 0, 0, 0, time.UTC)
	p, record := recording(t, func() time.Time { return now })
	admin, app := audit.Caller{Admin: true}, audit.Caller{TenantID: "t", ObjectID: "0b1ec7", AppID: "c11e47"}
	record(audit.Request{Caller: admin, Operation: "Microsoft.SignalRService/webPubSub/write", Resource: theDefault}, "PUT", "/a", 201)
	now = now.Add(time.Hour)
	record(audit.Request{Caller: app, Operation: "Microsoft.KeyVault/vaults/secrets/setSecret/action", Resource: sub + "/resourceGroups/Other/providers/Microsoft.KeyVault/vaults/v/secrets/s"}, "PUT", "/b", 200)
	now = now.Add(time.Hour)
	record(audit.Request{Caller: app, Operation: "Microsoft.SignalRService/webPubSub/hubs/delete", Resource: theDefault + "/hubs/chat"}, "DELETE", "/c", 409)
	for filter, want := range map[string]string{
		"": "/c /b /a",
		"eventTimestamp ge '2026-05-01T13:00:00Z'": "/c /b",
		"eventTimestamp ge 2026-05-01T12:00:00Z and eventTimestamp le 2026-05-01T13:00:00Z and eventChannels eq 'Admin, Operation'": "/b /a",
		"resourceGroupName eq 'other'":                                      "/b",
		"resourceProvider eq 'microsoft.signalrservice'":                    "/c /a",
		"resourceUri eq '" + theDefault + "'":                               "/c /a",
		"resourceId eq '" + theDefault + "/hubs'":                           "/c",
		"resourceId eq '" + theDefault + "/hub'":                            "",
		"resourceType eq 'Microsoft.KeyVault/vaults/secrets'":               "/b",
		"caller eq '0b1ec7' and status eq 'Failed'":                         "/c",
		"caller eq 'C11E47'":                                                "/c /b",
		"caller eq 'admin token'":                                           "/a",
		"operationName eq 'Microsoft.SignalRService/webPubSub/hubs/delete'": "/c",
		"category eq 'Security'":                                            "",
	} {
		a := p.do("GET", activity+"&$filter="+strings.NewReplacer(" ", "%20", "'", "%27").Replace(filter), "").want(200)
		var got []string
		for _, item := range a.items() {
			got = append(got, item.(map[string]any)["httpRequest"].(map[string]any)["uri"].(string))
		}
		if strings.Join(got, " ") != want {
			t.Errorf("%q selects %v, want %s", filter, got, want)
		}
	}
	for _, bad := range []string{"x eq 'y'", "caller", "caller eq", "caller ne 'x'", "eventTimestamp eq '2026-01-01'", "eventTimestamp ge 'noon'", "caller eq 'x' or caller eq 'y'", "caller eq 'x' and", "caller eq 'x"} {
		p.do("GET", activity+"&$filter="+strings.NewReplacer(" ", "%20", "'", "%27").Replace(bad), "").refused(400, "UnsupportedQuery")
	}
	p.do("GET", activity+"&$skiptoken=x", "").refused(400, "BadRequest")
}

func TestAnActivityHasTheMembersThatAzuresClientsRead(t *testing.T) {
	now := time.Date(2026, 5, 1, 12, 0, 0, 0, time.UTC)
	p, record := recording(t, func() time.Time { return now })
	record(audit.Request{Caller: audit.Caller{TenantID: "t", ObjectID: "o", AppID: "a"}, Operation: "Microsoft.SignalRService/webPubSub/regenerateKey/action", Resource: theDefault}, "POST", "/r", 200)
	a := p.do("GET", activity, "").want(200)
	e := &answer{t: t, text: a.text, body: a.items()[0].(map[string]any)}
	e.is("eventTimestamp", "2026-05-01T12:00:00.0000000Z").is("operationName.value", "Microsoft.SignalRService/webPubSub/regenerateKey/action").
		is("resourceId", theDefault).is("resourceGroupName", "default").is("resourceProviderName.value", "Microsoft.SignalRService").
		is("resourceType.value", "Microsoft.SignalRService/webPubSub").is("status.value", "Succeeded").is("subStatus.value", "OK").
		is("level", "Informational").is("caller", "o").is("claims.appid", "a").is("authorization.scope", theDefault).is("category.value", "Administrative").
		is("httpRequest.method", "POST").is("httpRequest.clientIpAddress", "192.0.2.1").is("properties.statusCode", "200").is("subscriptionId", testSubscription)
	for _, name := range []string{"id", "eventDataId", "correlationId", "operationId", "submissionTimestamp", "tenantId"} {
		if e.str(name) == "" {
			t.Errorf("%s is empty", name)
		}
	}
}

func TestTheActivityLogComesInPages(t *testing.T) {
	p, record := recording(t, time.Now)
	for range activityPage + 1 {
		record(audit.Request{Caller: audit.Caller{Admin: true}, Operation: "X/write", Resource: "/x"}, "PUT", "/x", 200)
	}
	a := p.do("GET", activity+"&$filter=caller%20eq%20%27admin%20token%27", "").want(200)
	next, _ := a.body["nextLink"].(string)
	if n := len(a.body["value"].([]any)); n != activityPage || !strings.HasPrefix(next, p.url) {
		t.Fatalf("%d events, then %q", n, next)
	}
	if n := len(p.do("GET", strings.TrimPrefix(next, p.url), "").want(200).items()); n != 1 {
		t.Errorf("the second page has %d", n)
	}
}

func TestWithoutAnAuditLogNothingIsFound(t *testing.T) {
	if n := len(start(t).do("GET", activity, "").want(200).items()); n != 0 {
		t.Errorf("%d events", n)
	}
}
