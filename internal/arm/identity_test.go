package arm

import (
	"fmt"
	"strings"
	"sync"
	"testing"

	"tabard/internal/settings"
)

const identityVersion = "?api-version=2023-01-31"

// userIdentity makes a user-assigned identity and returns its ARM id and principal id.
func (p *plane) userIdentity(name string) (id, principal string) {
	p.t.Helper()
	a := p.do("PUT", identitiesPath+"/"+name+identityVersion, `{"location":"local"}`).want(201)
	return a.str("id"), a.str("properties.principalId")
}

func TestASystemAssignedIdentityIsMadeKeptAndDeleted(t *testing.T) {
	p := start(t)
	on := p.do("PATCH", theDefault+version, `{"identity":{"type":"systemassigned"}}`).want(200).is("identity.type", "SystemAssigned").is("identity.tenantId", p.directory.TenantID())
	first := on.str("identity.principalId")
	sp, ok := p.directory.ServicePrincipal(first)
	if resource, explicit, _ := sp.ManagedIdentity(); !ok || explicit || resource != on.str("id") || sp.DisplayName != "default" {
		t.Fatalf("the principal is %+v", sp)
	}
	p.do("GET", theDefault+"/providers/Microsoft.ManagedIdentity/identities/default"+identityVersion, "").want(200).
		is("properties.principalId", first).is("properties.clientId", sp.AppID).is("properties.tenantId", p.directory.TenantID()).is("properties.clientSecretUrl", nil).
		is("name", "default").is("type", "Microsoft.ManagedIdentity/identities").is("location", "local")

	// Stable across updates, replacements without an identity, and what GET answered sent back.
	p.do("PATCH", theDefault+version, `{"identity":{"type":"SystemAssigned"},"tags":{"a":"b"}}`).want(200).is("identity.principalId", first)
	p.do("PUT", theDefault+version, `{"location":"local"}`).want(200).is("identity.principalId", first)
	p.do("PUT", theDefault+version, `{"location":"local","identity":null}`).want(200).is("identity.principalId", first)
	p.do("PUT", theDefault+version, on.text).want(200).is("identity.principalId", first)

	p.do("PATCH", theDefault+version, `{"identity":{"type":"None","userAssignedIdentities":null}}`).want(200).is("identity", map[string]any{"type": "None"})
	if n := p.systemPrincipals(); n != 0 {
		t.Errorf("%d principals after the identity was removed", n)
	}
	p.do("GET", theDefault+"/providers/Microsoft.ManagedIdentity/identities/default"+identityVersion, "").refused(404, "ResourceNotFound")
	second := p.do("PATCH", theDefault+version, `{"identity":{"type":"SystemAssigned"}}`).want(200).str("identity.principalId")
	if first == second {
		t.Error("enabling the identity again gave the old ids back")
	}
	p.do("DELETE", theDefault+version, "").want(200)
	if n := p.systemPrincipals(); n != 0 {
		t.Errorf("%d principals after the instance was deleted", n)
	}
}

func TestAnInstanceIsBornWithItsIdentity(t *testing.T) {
	p := start(t)
	id, principal := p.userIdentity("robot")
	p.do("PUT", webPubSubs+"/abc"+version, `{"location":"local","identity":{"type":"SystemAssigned"}}`).want(201).is("identity.type", "SystemAssigned").str("identity.principalId")
	asked := strings.ToUpper(id)
	p.do("PUT", webPubSubs+"/abd"+version, fmt.Sprintf(`{"location":"local","identity":{"type":"UserAssigned","userAssignedIdentities":{%q:{}}}}`, asked)).want(201).
		is("identity.principalId", nil).is("identity|userAssignedIdentities|"+asked+"|principalId", principal)
}

func TestTheIdentitySwitchesInOneStep(t *testing.T) {
	p := start(t)
	robot, robotPrincipal := p.userIdentity("robot")
	other, _ := p.userIdentity("other")
	patch := func(identity string) *answer {
		t.Helper()
		return p.do("PATCH", theDefault+version, `{"identity":`+identity+`}`).want(200)
	}
	user := func(id string) string {
		return fmt.Sprintf(`{"type":"UserAssigned","userAssignedIdentities":{%q:{}}}`, id)
	}
	patch(`{"type":"SystemAssigned"}`)
	patch(user(robot)).is("identity", map[string]any{"type": "UserAssigned", "userAssignedIdentities": map[string]any{robot: map[string]any{
		"principalId": robotPrincipal, "clientId": p.do("GET", robot+identityVersion, "").str("properties.clientId"),
	}}})
	if n := p.systemPrincipals(); n != 0 {
		t.Errorf("%d system-assigned principals after the switch", n)
	}
	patch(fmt.Sprintf(`{"type":"UserAssigned","userAssignedIdentities":{%q:null,%q:{}}}`, robot, other)).is("identity|userAssignedIdentities|"+robot, nil)
	patch(`{"type":"SystemAssigned"}`).is("identity.userAssignedIdentities", nil)
	if in, _ := p.settings.Snapshot().Instance("default"); in.Identity.UserAssigned != "" {
		t.Errorf("still assigned: %s", in.Identity.UserAssigned)
	}
	if _, ok := p.directory.UserAssignedIdentity(robot); !ok {
		t.Error("a user-assigned identity went with its assignment")
	}
}

func TestAnIdentityThatIsNotOneIsRefusedWithTheRule(t *testing.T) {
	p := start(t)
	robot, _ := p.userIdentity("robot")
	other, _ := p.userIdentity("other")
	p.do("PATCH", theDefault+version, `{"identity":{"type":"SystemAssigned"}}`).want(200)
	before, _ := p.settings.Snapshot().Instance("default")
	for _, tc := range []struct{ name, identity, code string }{
		{"both kinds at once", `{"type":"SystemAssigned, UserAssigned","userAssignedIdentities":{"` + robot + `":{}}}`, "InvalidIdentity"},
		{"two user-assigned ones", `{"type":"UserAssigned","userAssignedIdentities":{"` + robot + `":{},"` + other + `":{}}}`, "InvalidIdentity"},
		{"user-assigned without any", `{"type":"UserAssigned"}`, "InvalidIdentity"},
		{"user-assigned with the only one removed", `{"type":"UserAssigned","userAssignedIdentities":{"` + robot + `":null}}`, "InvalidIdentity"},
		{"system-assigned with a user-assigned one", `{"type":"SystemAssigned","userAssignedIdentities":{"` + robot + `":{}}}`, "InvalidIdentity"},
		{"none with a user-assigned one", `{"type":"None","userAssignedIdentities":{"` + robot + `":{}}}`, "InvalidIdentity"},
		{"no type", `{}`, "InvalidIdentity"},
		{"one that does not exist", `{"type":"UserAssigned","userAssignedIdentities":{"` + robot + `x":{}}}`, "FailedIdentityOperation"},
		{"one that is no resource id", `{"type":"UserAssigned","userAssignedIdentities":{"robot":{}}}`, "FailedIdentityOperation"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			for _, request := range [][2]string{{"PATCH", theDefault}, {"PUT", theDefault}, {"PUT", webPubSubs + "/abc"}} {
				a := p.do(request[0], request[1]+version, `{"location":"local","identity":`+tc.identity+`}`).refused(400, tc.code)
				if tc.code == "InvalidIdentity" && !strings.Contains(a.str("error.message"), "only one managed identity at a time") {
					t.Errorf("the message does not name the rule: %s", a.text)
				}
			}
		})
	}
	after, _ := p.settings.Snapshot().Instance("default")
	if _, made := p.settings.Snapshot().Instance("abc"); made || before.Revision() != after.Revision() || p.systemPrincipals() != 1 {
		t.Error("a refused identity changed something")
	}
}

func TestAFailedWriteLeavesNoPrincipal(t *testing.T) {
	p := start(t)
	both := `,"properties":{"disableLocalAuth":true,"disableAadAuth":true}}` // only the store's side refuses this
	p.do("PUT", webPubSubs+"/abc"+version, `{"location":"local","identity":{"type":"SystemAssigned"}`+both).refused(400, "BadRequest")
	p.do("PATCH", theDefault+version, `{"identity":{"type":"SystemAssigned"}`+both).refused(400, "BadRequest")
	if n := p.systemPrincipals(); n != 0 {
		t.Errorf("%d principals belong to nobody", n)
	}
	first := p.do("PATCH", theDefault+version, `{"identity":{"type":"SystemAssigned"}}`).want(200).str("identity.principalId")
	p.do("PATCH", theDefault+version, `{"identity":{"type":"None"}`+both).refused(400, "BadRequest")
	if _, ok := p.directory.ServicePrincipal(first); !ok {
		t.Error("the principal went although the write that removes it was refused")
	}
}

func TestAPrincipalLeftByACrashIsNotRevived(t *testing.T) {
	p := start(t)
	in, _ := p.settings.Snapshot().Instance("default")
	stale, err := p.directory.CreateManagedIdentity(t.Context(), in.Name, in.ResourceID(), false)
	if err != nil {
		t.Fatal(err)
	}
	if got := p.do("PATCH", theDefault+version, `{"identity":{"type":"SystemAssigned"}}`).want(200).str("identity.principalId"); got == stale.ID {
		t.Error("the instance got the old principal, and the rights that it may have")
	}
	if n := p.systemPrincipals(); n != 1 {
		t.Errorf("%d principals, want 1", n)
	}
}

func TestWritersThatSwitchAtOnceLeaveDirectoryAndSettingsInStep(t *testing.T) {
	p := start(t)
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			p.do("PATCH", theDefault+version, fmt.Sprintf(`{"identity":{"type":%q},"tags":{"n":"%d"}}`, []string{"SystemAssigned", "None"}[i%2], i)).want(200)
		})
	}
	wg.Wait()
	in, _ := p.settings.Snapshot().Instance("default")
	want := 0
	if in.Identity.Type == settings.IdentitySystemAssigned {
		want = 1
		if _, ok := p.directory.ServicePrincipal(in.Identity.PrincipalID); !ok {
			t.Error("the instance names a principal that does not exist")
		}
	}
	if n := p.systemPrincipals(); n != want {
		t.Errorf("%d principals, want %d", n, want)
	}
}

func TestUserAssignedIdentitiesAreResources(t *testing.T) {
	p := start(t)
	path := identitiesPath + "/Robot_1"
	p.do("GET", path+identityVersion, "").refused(404, "ResourceNotFound")
	p.do("PATCH", path+identityVersion, `{"tags":{}}`).refused(404, "ResourceNotFound")
	made := p.do("PUT", path+identityVersion, `{"location":"local","tags":{"a":"1"}}`).want(201).is("id", path).is("name", "Robot_1").
		is("type", "Microsoft.ManagedIdentity/userAssignedIdentities").is("properties.tenantId", p.directory.TenantID())
	again := p.do("PUT", strings.ToLower(path)+identityVersion, `{"location":"Local","tags":{"b":"2"},"properties":{"isolationScope":"Regional","clientId":"ignored"}}`).want(200).
		is("id", path).is("properties.clientId", made.get("properties.clientId")).is("properties.isolationScope", "Regional").is("tags", map[string]any{"b": "2"})
	if len(again.warnings()) != 1 {
		t.Errorf("warnings %q, want one of isolationScope", again.warnings())
	}
	p.do("PATCH", path+identityVersion, `{"properties":{"assignmentRestrictions":{"providers":["Microsoft.SignalRService"]}}}`).want(200).is("tags", map[string]any{"b": "2"}).is("location", "local").
		is("properties.isolationScope", "Regional").is("properties.assignmentRestrictions", map[string]any{"providers": []any{"Microsoft.SignalRService"}})
	p.do("PATCH", path+identityVersion, `{"properties":{"isolationScope":"Galactic"}}`).refused(400, "BadRequest").is("error.target", "properties.isolationScope")
	p.do("PATCH", path+identityVersion, `{"tags":{"c":"3"}}`).want(200).is("tags", map[string]any{"c": "3"})
	p.do("PUT", path+identityVersion, `{"location":"moon"}`).refused(400, "BadRequest").is("error.target", "location")
	p.do("PUT", path+identityVersion, `{}`).refused(400, "BadRequest").is("error.target", "location")
	p.do("PUT", identitiesPath+"/x"+identityVersion, `{"location":"local"}`).refused(400, "BadRequest").is("error.target", "name")
	for _, list := range []string{identitiesPath, sub + "/providers/Microsoft.ManagedIdentity/userAssignedIdentities"} {
		if n := len(p.do("GET", list+identityVersion, "").want(200).items()); n != 1 {
			t.Errorf("%s has %d entries, want 1", list, n)
		}
	}
	p.do("PATCH", theDefault+version, `{"identity":{"type":"UserAssigned","userAssignedIdentities":{"`+path+`":{}}}}`).want(200)
	if got := p.do("DELETE", path+identityVersion, "").want(200).warnings(); len(got) != 1 || !strings.Contains(got[0], "default") {
		t.Errorf("warnings %q, want one that names the instance", got)
	}
	p.do("DELETE", path+identityVersion, "").want(204)
	p.do("GET", theDefault+version, "").want(200).is("identity", map[string]any{"type": "UserAssigned", "userAssignedIdentities": map[string]any{path: map[string]any{}}})
}
