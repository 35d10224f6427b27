package tabard

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"regexp"
	"slices"
	"strings"
	"testing"

	"tabard/internal/arm"
	"tabard/internal/rbac"
)

// asks tells whether a principal may do that, by asking with its token: nothing is done.
func (s *served) asks(principal, method, path string) bool {
	s.t.Helper()
	r := httptest.NewRequest(method, "http://h"+path, nil)
	r.Header.Set("Authorization", "Bearer "+s.token(principal, armResource))
	err := s.authorize(r)
	var refused *arm.Refusal
	if err != nil && (!errors.As(err, &refused) || refused.Status != http.StatusForbidden) {
		s.t.Fatalf("%s %s: %v", method, path, err)
	}
	return err == nil
}

// TestEachRoleAllowsItsOperationsAndNoOther is least privilege both ways: + is allowed, - is refused. Each principal has
// its one role at the subscription.
func TestEachRoleAllowsItsOperationsAndNoOther(t *testing.T) {
	s := serve(t, Config{})
	sub := "/subscriptions/" + s.SubscriptionID
	group := sub + "/resourceGroups/default"
	wps, vault, robot := group+"/providers/Microsoft.SignalRService/webPubSub/default", group+"/providers/Microsoft.KeyVault/vaults/default", group+"/providers/Microsoft.ManagedIdentity/userAssignedIdentities/robot"
	roles := []string{rbac.Owner, rbac.Contributor, rbac.Reader, rbac.WebPubSubManager, rbac.WebPubSubOwner, rbac.WebPubSubReader, rbac.VaultAdmin, rbac.VaultSecretsAdmin, rbac.VaultSecretsUser, ""}
	principals := make([]string, len(roles))
	for i, role := range roles {
		definition, _ := rbac.Find(role)
		principals[i] = s.principal("role" + strings.ToLower(regexp.MustCompile(`[^A-Za-z]`).ReplaceAllString(definition.Name, "")))
		if role != "" {
			s.assign(principals[i], role, sub)
		}
	}
	for _, row := range []struct {
		method, path string
		allowed      string // of Owner, Contributor, Reader, SignalR/Web PubSub Contributor; Web PubSub Service Owner and Reader; Key Vault Administrator, Secrets Officer, Secrets User; nobody
	}{
		{"GET", sub, "+++- -- --- -"},
		{"GET", sub + "/resourceGroups", "++++ -- ++- -"},
		{"PUT", sub + "/resourceGroups/new", "++-- -- --- -"},
		{"DELETE", sub + "/resourceGroups/new", "++-- -- --- -"},
		{"GET", sub + "/resources", "+++- -- --- -"},
		{"GET", wps, "++++ -- --- -"},
		{"PUT", wps, "++-+ -- --- -"},
		{"PATCH", wps, "++-+ -- --- -"},
		{"DELETE", wps, "++-+ -- --- -"},
		{"POST", wps + "/listKeys", "++-+ -- --- -"},
		{"POST", wps + "/regenerateKey", "++-+ -- --- -"},
		{"POST", wps + "/restart", "++-+ -- --- -"},
		{"GET", wps + "/hubs", "++++ -- --- -"},
		{"PUT", wps + "/hubs/chat", "++-+ -- --- -"},
		{"DELETE", wps + "/hubs/chat", "++-+ -- --- -"},
		{"PUT", wps + "/customCertificates/c", "++-+ -- --- -"},
		{"PUT", wps + "/customDomains/d", "++-+ -- --- -"},
		{"GET", wps + "/operationStatuses/x", "++++ -- --- -"},
		{"POST", sub + "/providers/Microsoft.SignalRService/locations/local/checkNameAvailability", "++-+ -- --- -"},
		{"GET", robot, "+++- -- --- -"},
		{"PUT", robot, "++-- -- --- -"},
		{"DELETE", robot, "++-- -- --- -"},
		{"PUT", robot + "/federatedIdentityCredentials/abc", "++-- -- --- -"},
		{"POST", robot + "/tabardEnvironment", "++-- -- --- -"},
		{"GET", vault, "+++- -- --- -"},
		{"PUT", vault, "++-- -- --- -"},
		{"DELETE", vault, "++-- -- --- -"},
		{"PUT", vault + "/accessPolicies/add", "++-- -- --- -"},
		{"GET", sub + "/providers/Microsoft.KeyVault/deletedVaults", "+++- -- ++- -"},
		{"POST", sub + "/providers/Microsoft.KeyVault/locations/local/deletedVaults/v/purge", "++-- -- --- -"},
		{"GET", wps + "/providers/Microsoft.Authorization/roleAssignments", "++++ -- ++- -"},
		{"PUT", wps + "/providers/Microsoft.Authorization/roleAssignments/x", "+--- -- --- -"},
		{"DELETE", wps + "/providers/Microsoft.Authorization/roleAssignments/x", "+--- -- --- -"},
		{"PUT", "/providers/Microsoft.Authorization/roleAssignments/x", "---- -- --- -"},
		{"GET", sub + "/providers/Microsoft.Authorization/roleDefinitions", "++++ -- ++- -"},
		{"GET", "/subscriptions", "++++ ++ +++ -"},
		{"GET", "/v1.0/applications", "+--- -- --- -"},
		{"POST", "/v1.0/applications", "+--- -- --- -"},
		{"POST", "/v1.0/applications/x/addPassword", "+--- -- --- -"},
	} {
		want := strings.ReplaceAll(row.allowed, " ", "")
		got := ""
		for _, p := range principals {
			if s.asks(p, row.method, row.path) {
				got += "+"
			} else {
				got += "-"
			}
		}
		if got != want {
			t.Errorf("%-6s %s\n got %s\nwant %s", row.method, strings.TrimPrefix(row.path, sub), got, want)
		}
	}
}

// TestARoleCountsAtItsScopeAndBelow assigns one role at each scope and asks at each.
func TestARoleCountsAtItsScopeAndBelow(t *testing.T) {
	s := serve(t, Config{})
	sub := "/subscriptions/" + s.SubscriptionID
	group, other := sub+"/resourceGroups/shop", sub+"/resourceGroups/shop2"
	wps := group + "/providers/Microsoft.SignalRService/webPubSub/one"
	places := []string{"/", sub, group, wps, wps + "/hubs/chat"}
	beside := []string{other, other + "/providers/Microsoft.SignalRService/webPubSub/one", group + "/providers/Microsoft.SignalRService/webPubSub/one2", wps + "/hubs/chat2", "/subscriptions/00000000-0000-4000-8000-000000000000"}
	names := []string{"root", "sub", "group", "wps", "hub"}
	for i, scope := range places {
		p := s.principal(names[i])
		s.assign(p, rbac.Contributor, scope)
		for j, place := range places {
			if place == "/" {
				continue // nothing to read there
			}
			for _, method := range []string{"GET", "PUT"} {
				if got, want := s.asks(p, method, strings.ToUpper(place)), j >= i; got != want {
					t.Errorf("assigned at %s: %s %s is %v", scope, method, place, got)
				}
			}
		}
		for _, place := range beside {
			want := scope == "/" || strings.HasPrefix(place, scope+"/")
			if got := s.asks(p, "GET", place); got != want {
				t.Errorf("assigned at %s: beside it, %s is %v", scope, place, got)
			}
		}
	}
}

var routeParameter = regexp.MustCompile(`\{[^}]*\}`)

// TestEveryRouteIsSomebodysAndNoReadersWrite asks about each route of the table, so that a new one cannot be forgotten:
// an owner of everything may do it, nobody without a role may, and a reader may if it is a GET outside the directory.
func TestEveryRouteIsSomebodysAndNoReadersWrite(t *testing.T) {
	s := serve(t, Config{})
	owner, reader, nobody := s.principal("owner"), s.principal("reader"), s.principal("nobody")
	s.assign(owner, rbac.Owner, "/")
	s.assign(reader, rbac.Reader, "/")
	var unlike []string
	for _, route := range arm.Routes() {
		path := routeParameter.ReplaceAllStringFunc(route.Pattern, func(name string) string {
			if name == "{subscription}" {
				return s.SubscriptionID
			}
			return "default"
		})
		if !s.asks(owner, route.Method, path) {
			t.Errorf("%s %s: nobody may do it", route.Method, route.Pattern)
		}
		if s.asks(nobody, route.Method, path) {
			t.Errorf("%s %s: everybody may do it", route.Method, route.Pattern)
		}
		reads := (route.Method == "GET" || route.Method == "HEAD") && !strings.HasPrefix(route.Pattern, "/v1.0")
		if s.asks(reader, route.Method, path) != reads {
			unlike = append(unlike, route.Method+" "+route.Pattern)
		}
	}
	slices.Sort(unlike)
	if len(unlike) > 0 {
		t.Errorf("a reader is treated otherwise at\n%s", strings.Join(unlike, "\n"))
	}
}
