package tabard

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"tabard/internal/rbac"
)

func TestAPathSaysActionAndScope(t *testing.T) {
	const (
		sub = "/subscriptions/11111111-2222-4333-8444-555555555555"
		rg  = sub + "/resourceGroups/default"
		wps = rg + "/providers/Microsoft.SignalRService/webPubSub/orders"
	)
	for _, tc := range []struct{ method, path, scope, action string }{
		{"GET", "/subscriptions", "/", "Microsoft.Resources/subscriptions/read"},
		{"GET", "/tenants", "/", "Microsoft.Resources/tenants/read"},
		{"GET", "/providers", "/", "Microsoft.Resources/providers/read"},
		{"GET", "/providers/Microsoft.SignalRService", "/", "Microsoft.Resources/providers/read"},
		{"GET", "/providers/Microsoft.SignalRService/operations", "/", "Microsoft.SignalRService/operations/read"},
		{"GET", sub, sub, "Microsoft.Resources/subscriptions/read"},
		{"GET", sub + "/resourcegroups", sub, "Microsoft.Resources/subscriptions/resourcegroups/read"},
		{"HEAD", rg, rg, "Microsoft.Resources/subscriptions/resourceGroups/read"},
		{"PUT", rg, rg, "Microsoft.Resources/subscriptions/resourceGroups/write"},
		{"GET", rg + "/resources", rg, "Microsoft.Resources/subscriptions/resourceGroups/resources/read"},
		{"GET", sub + "/providers/Microsoft.SignalRService", sub, "Microsoft.Resources/subscriptions/providers/read"},
		{"POST", sub + "/providers/Microsoft.SignalRService/register", sub, "Microsoft.SignalRService/register/action"},
		{"GET", sub + "/providers/Microsoft.SignalRService/webPubSub", sub, "Microsoft.SignalRService/webPubSub/read"},
		{"POST", sub + "/providers/Microsoft.SignalRService/locations/local/checkNameAvailability", sub + "/providers/Microsoft.SignalRService/locations/local", "Microsoft.SignalRService/locations/checkNameAvailability/action"},
		{"GET", wps, wps, "Microsoft.SignalRService/webPubSub/read"},
		{"PUT", wps, wps, "Microsoft.SignalRService/webPubSub/write"},
		{"PATCH", wps + "/", wps, "Microsoft.SignalRService/webPubSub/write"},
		{"DELETE", "//" + wps[1:], wps, "Microsoft.SignalRService/webPubSub/delete"},
		{"POST", wps + "/listKeys", wps, "Microsoft.SignalRService/webPubSub/listKeys/action"},
		{"GET", wps + "/trace", wps, "Microsoft.SignalRService/webPubSub/trace/read"},
		{"PUT", wps + "/hubs/chat", wps + "/hubs/chat", "Microsoft.SignalRService/webPubSub/hubs/write"},
		{"PUT", wps + "/hubs/ch%61t", wps + "/hubs/chat", "Microsoft.SignalRService/webPubSub/hubs/write"},
		{"GET", wps + "/providers/Microsoft.Authorization/roleAssignments", wps, "Microsoft.Authorization/roleAssignments/read"},
		{"PUT", wps + "/providers/Microsoft.Authorization/roleAssignments/x", wps + "/providers/Microsoft.Authorization/roleAssignments/x", "Microsoft.Authorization/roleAssignments/write"},
		{"PUT", "/providers/Microsoft.Authorization/roleAssignments/x", "/providers/Microsoft.Authorization/roleAssignments/x", "Microsoft.Authorization/roleAssignments/write"},
		{"OPTIONS", wps, wps, "Microsoft.SignalRService/webPubSub/action"},
	} {
		r := httptest.NewRequest(tc.method, "http://h"+tc.path, nil)
		if scope, action := (&Server{}).asked(r); scope != tc.scope || action != tc.action {
			t.Errorf("%s %s: %s at %s, want %s at %s", tc.method, tc.path, action, scope, tc.action, tc.scope)
		}
	}
	for _, path := range []string{rg + "%2Fproviders", sub + "//resourceGroups/default", rg + "/%252F", "/", "//", wps + "//"} {
		r := httptest.NewRequest("GET", "http://h"+path, nil)
		if scope, action := (&Server{}).asked(r); action != "" {
			t.Errorf("%s: %s at %s, want none", path, action, scope)
		}
	}
	s := &Server{service: service{SubscriptionID: "the-subscription"}}
	for _, method := range []string{"GET", "POST"} {
		scope, action := s.asked(httptest.NewRequest(method, "http://h/V1.0/applications/x", nil))
		if scope != "/subscriptions/the-subscription" || action != "Microsoft.Authorization/roleAssignments/write" {
			t.Errorf("Graph: %s at %s", action, scope)
		}
	}
}

func TestRolesOpenTheControlPlane(t *testing.T) {
	s := serve(t, Config{})
	sub := "/subscriptions/" + s.SubscriptionID
	group := sub + "/resourceGroups/default"
	theDefault := group + "/providers/Microsoft.SignalRService/webPubSub/default"
	const v = "?api-version=2024-03-01"
	const hub = `{"properties":{"anonymousConnectPolicy":"deny"}}`

	nobody := s.principal("nobody")
	reader, contributor, owner, manager, user := s.principal("reader"), s.principal("contributor"), s.principal("owner"), s.principal("manager"), s.principal("user")
	s.assign(reader, rbac.Reader, theDefault)
	s.assign(contributor, rbac.Contributor, group)
	s.assign(owner, rbac.Owner, sub)
	s.assign(manager, rbac.WebPubSubManager, theDefault)
	s.assign(user, rbac.WebPubSubOwner, sub)
	for _, tc := range []struct {
		name, method, path, body string
		who                      string
		status                   int
	}{
		{"nobody sees nothing", "GET", theDefault + v, "", nobody, 403},
		{"nobody is not introduced", "GET", "/subscriptions?api-version=2022-12-01", "", nobody, 403},
		{"a reader reads", "GET", theDefault + v, "", reader, 200},
		{"a reader reads below", "GET", theDefault + "/hubs" + v, "", reader, 200},
		{"a reader finds the subscription", "GET", "/subscriptions?api-version=2022-12-01", "", reader, 200},
		{"a reader sees nothing above", "GET", group + "/providers/Microsoft.SignalRService/webPubSub" + v, "", reader, 403},
		{"a reader writes nothing", "PUT", theDefault + "/hubs/chat" + v, hub, reader, 403},
		{"a reader gets no keys", "POST", theDefault + "/listKeys" + v, "", reader, 403},
		{"a reader does not reach the directory", "GET", "/v1.0/applications", "", reader, 403},
		{"a contributor writes", "PUT", theDefault + "/hubs/chat" + v, hub, contributor, 201},
		{"a contributor gets keys", "POST", theDefault + "/listKeys" + v, "", contributor, 200},
		{"a contributor does nothing above", "GET", sub + "/resourceGroups?api-version=2022-12-01", "", contributor, 403},
		{"a contributor does not reach the directory", "GET", "/v1.0/applications", "", contributor, 403},
		{"an owner reaches the directory", "GET", "/v1.0/applications", "", owner, 200},
		{"an owner writes there", "POST", "/v1.0/applications", `{"displayName":"orders"}`, owner, 201},
		{"an owner lists the subscription", "GET", sub + "/providers/Microsoft.SignalRService/webPubSub" + v, "", owner, 200},
		{"an owner does not replace the admin token", "POST", "/tabard/v1/adminToken/rotate", "", owner, 401},
		{"a manager of the instance writes", "DELETE", theDefault + "/hubs/chat" + v, "", manager, 200},
		{"a manager of the instance makes no identities", "GET", group + "/providers/Microsoft.ManagedIdentity/userAssignedIdentities?api-version=2023-01-31", "", manager, 403},
		{"a user of the data plane manages nothing", "GET", theDefault + v, "", user, 403},
		{"an odd path is nobody's", "GET", group + "%2Fx" + v, "", owner, 403},
	} {
		t.Run(tc.name, func(t *testing.T) {
			resource := armResource
			if len(tc.name)%2 == 0 { // both names of the one resource
				resource = oldARMResource + "/"
			}
			status, text := s.call(tc.method, s.AdminURL+tc.path, s.token(tc.who, resource), tc.body)
			if status != tc.status {
				t.Errorf("%d %s, want %d", status, text, tc.status)
			}
			if code := "AuthorizationFailed"; status == 403 && !strings.Contains(tc.path, "/v1.0") && (!strings.Contains(text, code) || !strings.Contains(text, tc.who)) {
				t.Errorf("%s, want %s naming the caller", text, code)
			}
		})
	}
	const id = "/providers/Microsoft.Authorization/roleAssignments/5f1c2b7e-0000-4000-8000-000000000001?api-version=2022-04-01"
	grant := `{"properties":{"roleDefinitionId":"` + rbac.Reader + `","principalId":"` + nobody + `"}}`
	if status, text := s.call("PUT", s.AdminURL+theDefault+id, s.token(contributor, armResource), grant); status != 403 {
		t.Errorf("a contributor assigns roles: %d %s", status, text)
	}
	if status, text := s.call("PUT", s.AdminURL+id, s.token(owner, armResource), grant); status != 403 {
		t.Errorf("an owner of the subscription assigns roles above it: %d %s", status, text)
	}
	if status, text := s.call("PUT", s.AdminURL+theDefault+id, s.token(owner, armResource), grant); status != 201 || !strings.Contains(text, `"createdBy":"`+owner+`"`) {
		t.Errorf("an owner assigns a role: %d %s", status, text)
	}
	if status, text := s.call("GET", s.AdminURL+theDefault+v, s.token(nobody, armResource), ""); status != 200 {
		t.Errorf("whoever has a role now: %d %s", status, text)
	}
	for name, token := range map[string]string{
		"for the data plane": s.token(owner, dataPlaneResource),
		"for a key vault":    s.token(owner, "https://vault.azure.net"),
		"for Graph":          s.token(owner, "https://graph.microsoft.com"),
		"altered":            s.token(owner, armResource) + "A",
		"with dots only":     "..",
	} {
		if status, text := s.call("GET", s.AdminURL+theDefault+v, token, ""); status != 401 {
			t.Errorf("a token %s: %d %s", name, status, text)
		}
	}
	if status, text := s.call("GET", s.AdminURL+theDefault+v, s.AdminToken, ""); status != 200 {
		t.Errorf("the admin token: %d %s", status, text)
	}
	two := httptest.NewRequest("GET", "/subscriptions", nil)
	two.Header["Authorization"] = []string{"Bearer " + s.token(owner, armResource), "Bearer " + s.AdminToken}
	if err := s.authorize(two); err != errAdminToken {
		t.Errorf("two credentials: %v", err)
	}
	if err := s.directory.DeleteUserAssignedIdentity(t.Context(), s.ids[reader].ID); err != nil {
		t.Fatal(err)
	}
	if status, text := s.call("GET", s.AdminURL+theDefault+v, s.first[reader+" "+armResource], ""); status != http.StatusForbidden {
		t.Errorf("a principal that was deleted: %d %s", status, text)
	}
}

// Whoever may edit an instance, but holds no role on an identity, must not make the instance speak for it: events would
// carry its token to a handler of the editor's choice.
func TestGivingAnInstanceAnIdentityNeedsTheRightToAssignIt(t *testing.T) {
	s := serve(t, Config{})
	group := "/subscriptions/" + s.SubscriptionID + "/resourceGroups/default"
	theDefault := group + "/providers/Microsoft.SignalRService/webPubSub/default"
	const v = "?api-version=2024-03-01"
	precious, other := s.ids[s.principal("precious")].ID, s.ids[s.principal("other")].ID
	manager, contributor := s.principal("manager"), s.principal("contributor")
	s.assign(manager, rbac.WebPubSubManager, group)
	s.assign(contributor, rbac.Contributor, group)
	give := func(who, path, identity string) (int, string) {
		method := "PATCH"
		if path != theDefault {
			method = "PUT"
		}
		return s.call(method, s.AdminURL+path+v, s.token(who, armResource), `{"location":"local","identity":{"type":"UserAssigned","userAssignedIdentities":{"`+identity+`":{}}}}`)
	}
	refused := func(what string, status int, text string) {
		t.Helper()
		if status != 403 || !strings.Contains(text, "LinkedAuthorizationFailed") || !strings.Contains(strings.ToLower(text), "userassignedidentities/assign/action") || !strings.Contains(text, manager) {
			t.Errorf("%s: %d %s", what, status, text)
		}
	}
	for name, identity := range map[string]string{"an identity": precious, "in other letters": strings.ToUpper(precious), "one that is not there": precious + "x"} {
		status, text := give(manager, theDefault, identity)
		refused(name, status, text)
		status, text = give(manager, group+"/providers/Microsoft.SignalRService/webPubSub/fresh", identity)
		refused(name+" for a new instance", status, text)
	}
	if in := s.theDefault(); in.Identity.UserAssigned != "" {
		t.Fatalf("it has %v", in.Identity)
	}
	if _, made := s.settings.Snapshot().Instance("fresh"); made {
		t.Error("the instance was made all the same")
	}
	if status, text := give(contributor, theDefault, precious); status != 200 {
		t.Errorf("a contributor of the group: %d %s", status, text)
	}
	if status, text := give(manager, theDefault, precious); status != 200 {
		t.Errorf("the one that it has already: %d %s", status, text)
	}
	status, text := give(manager, theDefault, other)
	refused("another one", status, text)
	s.assign(manager, rbac.IdentityOperator, other)
	if status, text := give(manager, theDefault, other); status != 200 {
		t.Errorf("an operator of that identity: %d %s", status, text)
	}
	status, text = give(manager, theDefault, precious)
	refused("still not the first", status, text)
}

func TestWhoGuessesOnTheAdminAddressIsSlowedDownAndItsOperatorIsNot(t *testing.T) {
	s := serve(t, Config{})
	owner := s.principal("owner")
	s.assign(owner, rbac.Owner, "/")
	path := s.AdminURL + s.theDefault().ResourceID() + "?api-version=2024-03-01"
	limited := 0
	for i := range 2 * guessBurst {
		url := path
		if i%2 == 0 {
			url = s.AdminURL + "/tabard/v1/signingKeys"
		}
		switch status, body := s.call("GET", url, "wrong", ""); status {
		case 401:
			if limited > 0 && i < guessBurst {
				t.Errorf("guess %d: %d", i, status)
			}
		case 429:
			limited++
			if i < guessBurst {
				t.Errorf("guess %d is limited: %s", i, body)
			}
		default:
			t.Fatalf("%d %s", status, body)
		}
	}
	if limited == 0 {
		t.Error("nobody is slowed down")
	}
	for name, token := range map[string]string{"the admin token": s.AdminToken, "an owner": s.token(owner, armResource)} {
		if status, body := s.call("GET", path, token, ""); status != 200 {
			t.Errorf("%s: %d %s", name, status, body)
		}
	}
	if status, _ := s.call("GET", s.AdminURL+"/healthz", "", ""); status != 200 {
		t.Errorf("health: %d", status)
	}
	if status, _ := s.call("GET", path, "", ""); status != 401 {
		t.Errorf("without a credential: %d", status)
	}
}

func TestAReaderMayReadTheTraceAndWhoHasNoRoleMayNot(t *testing.T) {
	s := serve(t, Config{})
	reader, user := s.principal("reader"), s.principal("user")
	s.assign(reader, rbac.Reader, s.theDefault().ResourceID())
	s.assign(user, rbac.WebPubSubOwner, s.theDefault().ResourceID())
	path := s.AdminURL + s.theDefault().ResourceID() + "/trace?api-version=2024-03-01"
	for _, row := range []struct {
		who    string
		status int
	}{{reader, 200}, {user, 403}} {
		if status, body := s.call("GET", path, s.token(row.who, armResource), ""); status != row.status {
			t.Errorf("%d %s, want %d", status, body, row.status)
		}
	}
}
