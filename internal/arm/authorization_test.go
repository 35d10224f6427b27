package arm

import (
	"net/http"
	"strings"
	"testing"

	"github.com/google/uuid"

	"tabard/internal/directory"
	"tabard/internal/rbac"
)

const (
	roleVersion = "?api-version=2022-04-01"
	assignments = "/providers/Microsoft.Authorization/roleAssignments/"
	definitions = "/providers/Microsoft.Authorization/roleDefinitions/"
	stranger    = "dddddddd-0000-4000-8000-000000000009" // of no directory
)

// robot makes a principal that roles can be assigned to.
func (p *plane) robot(name string) directory.UserAssignedIdentity {
	p.t.Helper()
	u, _, err := p.directory.PutUserAssignedIdentity(p.t.Context(), directory.UserAssignedIdentity{
		ID: directory.UserAssignedIdentityID(testSubscription, "default", name), Location: "local",
	})
	if err != nil {
		p.t.Fatal(err)
	}
	return u
}

func assignBody(role, principal string) string {
	return `{"properties":{"roleDefinitionId":"` + sub + definitions + role + `","principalId":"` + principal + `"}}`
}

const send = "Microsoft.SignalRService/WebPubSub/hub/send/action"

func TestARoleIsAssignedSeenAndTakenBack(t *testing.T) {
	for _, tc := range []struct{ name, scope, kept string }{
		{"everything", "", "/"},
		{"a subscription", sub, sub},
		{"a resource group", rg, rg},
		{"an instance, spelled as it likes", strings.ToLower(theDefault), rg + "/providers/Microsoft.SignalRService/WebPubSub/default"},
		{"a hub", theDefault + "/hubs/chat", rg + "/providers/Microsoft.SignalRService/WebPubSub/default/hubs/chat"},
		{"a vault", rg + "/providers/Microsoft.KeyVault/vaults/v", rg + "/providers/Microsoft.KeyVault/vaults/v"},
		{"a secret", rg + "/providers/Microsoft.KeyVault/vaults/v/secrets/s", rg + "/providers/Microsoft.KeyVault/vaults/v/secrets/s"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			p := start(t, func(o *Options) { o.Caller = func(*http.Request) string { return stranger } })
			who := p.robot("robot").PrincipalID
			id := uuid.NewString()
			path := tc.scope + assignments + id + roleVersion
			p.do("GET", path, "").refused(404, "RoleAssignmentNotFound")
			p.do("DELETE", path, "").want(204)
			for _, status := range []int{201, 200} { // again changes nothing
				a := p.do("PUT", path, assignBody(rbac.WebPubSubOwner, who)).want(status)
				a.is("name", id).is("type", "Microsoft.Authorization/roleAssignments").is("id", strings.TrimSuffix(tc.kept, "/")+assignments+id)
				a.is("properties.scope", tc.kept).is("properties.principalId", who).is("properties.principalType", "ServicePrincipal")
				a.is("properties.createdBy", stranger).is("properties.condition", nil).is("properties.description", nil)
				if role := a.str("properties.roleDefinitionId"); !strings.HasSuffix(role, definitions+rbac.WebPubSubOwner) || (tc.scope != "") != strings.HasPrefix(role, sub) {
					t.Errorf("role %s", role)
				}
			}
			if !p.roles.Allowed(who, tc.kept+"/x", send, true) {
				t.Error("it does not count")
			}
			p.do("GET", path, "").want(200).is("name", id)
			if tc.scope != rg {
				p.do("GET", rg+assignments+id+roleVersion, "").refused(404, "RoleAssignmentNotFound") // it is another's
				p.do("DELETE", rg+assignments+id+roleVersion, "").want(204)
			}
			p.do("PUT", tc.scope+assignments+uuid.NewString()+roleVersion, assignBody(rbac.WebPubSubOwner, who)).refused(409, "RoleAssignmentExists")
			p.do("DELETE", path, "").want(200).is("name", id)
			if p.roles.Known(who) {
				t.Error("it counts still")
			}
		})
	}
}

func TestRoleAssignmentsThatAreRefused(t *testing.T) {
	p := start(t)
	who := p.robot("robot")
	good := assignBody(rbac.WebPubSubOwner, who.PrincipalID)
	path := theDefault + assignments + uuid.NewString() + roleVersion
	with := func(member string) string {
		return strings.Replace(good, `{"properties":{`, `{"properties":{`+member+`,`, 1)
	}
	for _, tc := range []struct {
		name, path, body string
		status           int
		code             string
	}{
		{"a name that is no GUID", theDefault + assignments + "mine" + roleVersion, good, 400, "InvalidRoleAssignmentId"},
		{"an unknown role", path, assignBody(stranger, who.PrincipalID), 404, "RoleDefinitionDoesNotExist"},
		{"a role by its name", path, strings.Replace(good, rbac.WebPubSubOwner, "Owner", 1), 404, "RoleDefinitionDoesNotExist"},
		{"nobody", path, assignBody(rbac.WebPubSubOwner, stranger), 400, "PrincipalNotFound"},
		{"a client id", path, assignBody(rbac.WebPubSubOwner, who.ClientID), 400, "PrincipalNotFound"},
		{"no body", path, "", 400, "InvalidRequestContent"},
		{"an empty body", path, "{}", 400, "BadRequest"},
		{"a number for a principal", path, `{"properties":{"roleDefinitionId":"` + rbac.Reader + `","principalId":5}}`, 400, "BadRequest"},
		{"a condition", path, with(`"condition":"@Resource[x] StringEquals 'y'","conditionVersion":"2.0"`), 400, "BadRequest"},
		{"a delegated identity", path, with(`"delegatedManagedIdentityResourceId":"/x"`), 400, "BadRequest"},
		{"a principal type that is none", path, with(`"principalType":"Robot"`), 400, "BadRequest"},
		{"a long description", path, with(`"description":"` + strings.Repeat("x", 2000) + `"`), 400, "BadRequest"},
		{"an instance that does not exist", webPubSubs + "/nobody" + assignments + uuid.NewString() + roleVersion, good, 404, "ResourceNotFound"},
		{"an instance in another group", sub + "/resourceGroups/other/providers/Microsoft.SignalRService/webPubSub/default" + assignments + uuid.NewString() + roleVersion, good, 404, "ResourceNotFound"},
		{"an instance with the Kelvin sign", strings.Replace(path, "default/providers/Microsoft.Auth", "%E2%84%AA/providers/Microsoft.Auth", 1), good, 404, "ResourceNotFound"},
		{"a resource with odd letters", rg + "/providers/Microsoft.KeyVault/vaults/%C3%A9" + assignments + uuid.NewString() + roleVersion, good, 400, "BadRequest"},
		{"another subscription", strings.Replace(path, testSubscription, stranger, 1), good, 404, "SubscriptionNotFound"},
		{"no version", theDefault + assignments + uuid.NewString(), good, 400, "MissingApiVersionParameter"},
	} {
		t.Run(tc.name, func(t *testing.T) { p.do("PUT", tc.path, tc.body).refused(tc.status, tc.code) })
	}
	if m := p.do("PUT", path, assignBody(rbac.WebPubSubOwner, who.ClientID)).str("error.message"); !strings.Contains(m, who.PrincipalID) {
		t.Errorf("a client id is not explained: %s", m)
	}
	if got := p.roles.Assignments(rbac.Filter{}); len(got) != 0 {
		t.Errorf("kept: %v", got)
	}
	a := p.do("PUT", path, strings.Replace(with(`"principalType":"serviceprincipal"`), who.PrincipalID, stranger, 1)).want(201)
	if len(a.warnings()) != 1 || a.str("properties.principalType") != "ServicePrincipal" {
		t.Errorf("a principal of another tenant: %q, %s", a.warnings(), a.text)
	}
	p.do("PUT", path, good).refused(400, "RoleAssignmentUpdateNotPermitted")
}

func TestRoleAssignmentsAreListed(t *testing.T) {
	p := start(t)
	one, two := p.robot("one").PrincipalID, p.robot("two").PrincipalID
	for scope, who := range map[string]string{"": one, sub: two, rg: one, theDefault: two, identitiesPath + "/one": one} {
		p.do("PUT", scope+assignments+uuid.NewString()+roleVersion, assignBody(rbac.Reader, who)).want(201)
	}
	list := strings.TrimSuffix(assignments, "/") + roleVersion
	for _, tc := range []struct {
		name, path string
		want       int
	}{
		{"everything", list, 5},
		{"the instance, with what is inherited", theDefault + list, 4},
		{"the group, with what is below", rg + list, 5},
		{"the group alone", rg + list + "&$filter=atScope()", 3},
		{"a principal's", sub + list + "&$filter=principalId%20eq%20'" + one + "'", 3},
		{"a principal's, as az asks", sub + list + "&$filter=assignedTo('" + two + "')", 2},
		{"a principal's at the group", rg + list + "&$filter=atScope()%20and%20assignedTo('" + strings.ToUpper(one) + "')", 2},
		{"an empty filter", list + "&$filter=", 5},
		{"a principal's that is none", list + "&$filter=principalId%20eq%20'x'", 0},
	} {
		if got := len(p.do("GET", tc.path, "").want(200).items()); got != tc.want {
			t.Errorf("%s: %d, want %d", tc.name, got, tc.want)
		}
	}
	for _, filter := range []string{"x", "atScope", "atScope()%20or%20atScope()", "principalId%20ne%20'x'", "principalId%20eq%20x", "assignedTo('x'", "atScope()%20atScope()"} {
		p.do("GET", list+"&$filter="+filter, "").refused(400, "UnsupportedQuery")
	}
}

func TestRoleDefinitionsAreFoundByName(t *testing.T) {
	p := start(t)
	list := strings.TrimSuffix(definitions, "/") + roleVersion
	if n := len(p.do("GET", theDefault+list, "").want(200).items()); n != len(rbac.Definitions()) {
		t.Errorf("%d definitions", n)
	}
	items := p.do("GET", rg+list+"&$filter=roleName%20eq%20'web%20pubsub%20service%20owner'", "").want(200).items()
	if len(items) != 1 || items[0].(map[string]any)["id"] != sub+definitions+rbac.WebPubSubOwner {
		t.Fatalf("%v", items)
	}
	for filter, want := range map[string]int{
		"atScopeAndBelow()%20and%20roleName%20eq%20'Owner'": 1, "type%20eq%20'CustomRole'": 0, "type%20eq%20'BuiltInRole'": len(rbac.Definitions()), "roleName%20eq%20'o''wner'": 0,
	} {
		if n := len(p.do("GET", list+"&$filter="+filter, "").want(200).items()); n != want {
			t.Errorf("%s: %d, want %d", filter, n, want)
		}
	}
	p.do("GET", list+"&$filter=roleName%20eq%20Owner", "").refused(400, "UnsupportedQuery")
	a := p.do("GET", sub+definitions+strings.ToUpper(rbac.Contributor)+roleVersion, "").want(200)
	a.is("name", rbac.Contributor).is("properties.roleName", "Contributor").is("properties.type", "BuiltInRole").is("properties.assignableScopes", []string{"/"})
	if a := p.do("GET", definitions+rbac.WebPubSubReader+roleVersion, "").want(200); !strings.Contains(a.text, `"permissions":[{"actions":[],"dataActions":["Microsoft.SignalRService/WebPubSub/*/read"],"notActions":[],"notDataActions":[]}]`) {
		t.Errorf("%s", a.text)
	}
	p.do("GET", definitions+stranger+roleVersion, "").refused(404, "RoleDefinitionDoesNotExist")
	p.do("PUT", definitions+stranger+roleVersion, "{}").refused(405, "MethodNotAllowed")
}

func TestALaterInstanceInheritsNoRoles(t *testing.T) {
	p := start(t)
	who := p.robot("robot").PrincipalID
	orders := webPubSubs + "/orders"
	const body = `{"location":"local","sku":{"name":"Free_F1"}}`
	p.do("PUT", orders+version, body).want(201)
	p.do("PUT", orders+assignments+uuid.NewString()+roleVersion, assignBody(rbac.WebPubSubOwner, who)).want(201)
	p.do("PUT", orders+version, body).want(200)
	if !p.roles.Known(who) {
		t.Error("an update of the instance took the role away")
	}
	p.do("DELETE", orders+version, "").want(200)
	if p.roles.Known(who) {
		t.Error("the role is there after its instance")
	}
	left := rbac.Assignment{PrincipalID: who, RoleID: rbac.WebPubSubOwner, Scope: orders} // as if the deletion had been cut short
	if _, _, err := p.roles.Put(t.Context(), left, ""); err != nil {
		t.Fatal(err)
	}
	p.do("PUT", orders+version, body).want(201)
	if p.roles.Known(who) {
		t.Error("the role came back with the instance's name")
	}
}

func TestARefusalOfAuthorizeHasItsStatus(t *testing.T) {
	for _, tc := range []struct {
		status     int
		arm, graph string
	}{
		{status: 403, arm: "AuthorizationFailed", graph: "Authorization_RequestDenied"},
		{status: 503, arm: "ServiceUnavailable", graph: "ServiceUnavailable"},
	} {
		p := start(t, func(o *Options) {
			o.Authorize = func(*http.Request) error { return &Refusal{tc.status, "The client may not."} }
		})
		a := p.do("GET", theDefault+version, "").refused(tc.status, tc.arm)
		b := p.do("GET", "/v1.0/applications", "").refused(tc.status, tc.graph)
		for _, a := range []*answer{a, b} {
			if a.header.Get("WWW-Authenticate") != "" || !strings.Contains(a.str("error.message"), "The client may not.") {
				t.Errorf("%v %s", a.header, a.text)
			}
		}
	}
}
