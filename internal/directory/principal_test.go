package directory

import (
	"errors"
	"slices"
	"strings"
	"testing"
)

const (
	subscription = "dddd0000-0000-4000-8000-00000000000d"
	instanceID   = "/subscriptions/" + subscription + "/resourceGroups/default/providers/Microsoft.SignalRService/WebPubSub/default"
	identityRID  = "/subscriptions/" + subscription + "/resourceGroups/default/providers/Microsoft.ManagedIdentity/userAssignedIdentities/sender"
)

func TestAnApplicationHasAtMostOneServicePrincipal(t *testing.T) {
	d := open(t)
	a := must(d.CreateApplication(t.Context(), Application{DisplayName: "orders", IdentifierURIs: []string{"api://orders"}}))(t)
	if _, ok := d.ServicePrincipalByAppID(a.AppID); ok {
		t.Fatal("it has one before it was created")
	}
	p := must(d.CreateServicePrincipal(t.Context(), strings.ToUpper(a.AppID)))(t)
	if p.Type != TypeApplication || p.AppID != a.AppID || !p.AccountEnabled || p.DisplayName != "orders" ||
		!slices.Equal(p.ServicePrincipalNames, []string{a.AppID, "api://orders"}) || !guid.MatchString(p.ID) || p.ID == a.ID {
		t.Errorf("created %+v", p)
	}
	_, err := d.CreateServicePrincipal(t.Context(), a.AppID)
	wantErr(t, err, ErrConflict)
	for _, id := range []string{"", "nobody", a.ID} { // an object id is not an appId
		_, err = d.CreateServicePrincipal(t.Context(), id)
		wantErr(t, err, ErrNotFound)
	}
}

func TestSystemAndUserAssignedPrincipalsSayWhoseTheyAre(t *testing.T) {
	d := open(t)
	system := must(d.CreateManagedIdentity(t.Context(), "default", instanceID, false))(t)
	u, created, err := d.PutUserAssignedIdentity(t.Context(), UserAssignedIdentity{ID: identityRID, Location: "local"})
	if err != nil || !created {
		t.Fatal(created, err)
	}
	user, ok := d.ServicePrincipal(strings.ToUpper(u.PrincipalID))
	if !ok {
		t.Fatal("the user-assigned identity has no principal")
	}
	for _, row := range []struct {
		p    ServicePrincipal
		want []string
	}{
		{system, []string{"isExplicit=False", instanceID}},
		{user, []string{"isExplicit=True", identityRID}},
	} {
		if row.p.Type != TypeManagedIdentity || !slices.Equal(row.p.AlternativeNames, row.want) || !slices.Equal(row.p.ServicePrincipalNames, []string{row.p.AppID}) {
			t.Errorf("got %+v, want alternative names %q", row.p, row.want)
		}
		resource, explicit, ok := row.p.ManagedIdentity()
		if got, found := d.ManagedIdentity(strings.ToUpper(resource), explicit); !ok || !found || got.ID != row.p.ID {
			t.Errorf("by resource: %+v", got)
		}
		if _, found := d.ManagedIdentity(resource, !explicit); found {
			t.Error("found as the other kind")
		}
		if _, ok := d.Application(row.p.AppID); ok {
			t.Error("a managed identity has an application")
		}
	}
	_, err = d.CreateManagedIdentity(t.Context(), "default", strings.ToLower(instanceID), false)
	wantErr(t, err, ErrConflict)
	for _, bad := range []string{"", "subscriptions/x", "/a b", "/" + strings.Repeat("a", 3000)} {
		var v *ValidationError
		if _, err := d.CreateManagedIdentity(t.Context(), "x", bad, false); !errors.As(err, &v) || v.Field != "resourceId" {
			t.Errorf("resource id %.20q: %v", bad, err)
		}
	}
	if _, err := d.CreateManagedIdentity(t.Context(), "", instanceID+"2", false); !slices.Equal(fields(err), []string{"displayName"}) {
		t.Errorf("no name: %v", err)
	}
}

func TestSwitchingASystemIdentityOffAndOnGivesNewIDs(t *testing.T) {
	d := open(t)
	first := must(d.CreateManagedIdentity(t.Context(), "default", instanceID, false))(t)
	if err := d.DeleteServicePrincipal(t.Context(), first.ID); err != nil {
		t.Fatal(err)
	}
	if _, ok := d.ManagedIdentity(instanceID, false); ok {
		t.Fatal("it is still there")
	}
	wantErr(t, d.DeleteServicePrincipal(t.Context(), first.ID), ErrNotFound)
	second := must(d.CreateManagedIdentity(t.Context(), "default", instanceID, false))(t)
	if second.ID == first.ID || second.AppID == first.AppID {
		t.Error("ids were used again")
	}
}

func TestOnlyTheSwitchesOfAPrincipalCanBeEdited(t *testing.T) {
	d := open(t)
	_, p := register(t, d, "orders", "api://orders")
	got := must(d.UpdateServicePrincipal(t.Context(), p.ID, func(p *ServicePrincipal) error {
		p.ID, p.AppID, p.Type, p.DisplayName = "x", "y", "z", "w"
		p.AccountEnabled, p.AppRoleAssignmentRequired = false, true
		return nil
	}))(t)
	want := p
	want.AccountEnabled, want.AppRoleAssignmentRequired = false, true
	if got.ID != want.ID || got.AppID != want.AppID || got.Type != want.Type || got.DisplayName != want.DisplayName || got.AccountEnabled || !got.AppRoleAssignmentRequired {
		t.Errorf("got %+v, want %+v", got, want)
	}
	boom := errors.New("boom")
	_, err := d.UpdateServicePrincipal(t.Context(), p.ID, func(*ServicePrincipal) error { return boom })
	wantErr(t, err, boom)
	_, err = d.UpdateServicePrincipal(t.Context(), "nobody", func(*ServicePrincipal) error { return nil })
	wantErr(t, err, ErrNotFound)
}

func TestUserAssignedIdentities(t *testing.T) {
	d := open(t)
	put := func(u UserAssignedIdentity) (UserAssignedIdentity, bool) {
		t.Helper()
		got, created, err := d.PutUserAssignedIdentity(t.Context(), u)
		if err != nil {
			t.Fatal(err)
		}
		return got, created
	}
	first, created := put(UserAssignedIdentity{SubscriptionID: subscription, ResourceGroup: "default", Name: "sender", Location: "local", Tags: map[string]string{"a": "1"}})
	if !created || first.ID != identityRID || first.TenantID != d.TenantID() || !guid.MatchString(first.ClientID) || !guid.MatchString(first.PrincipalID) {
		t.Fatalf("created %v, %+v", created, first)
	}
	again, created := put(UserAssignedIdentity{ID: strings.ToUpper(identityRID), Location: "LOCAL", Tags: map[string]string{"b": "2"}})
	if created || again.ID != first.ID || again.Name != "sender" || again.PrincipalID != first.PrincipalID || again.ClientID != first.ClientID || again.Tags["b"] != "2" || len(again.Tags) != 1 {
		t.Errorf("put again: created %v, %+v", created, again)
	}
	if got, ok := d.UserAssignedIdentity(strings.ToLower(identityRID)); !ok || got.ID != first.ID || got.Tags["b"] != "2" {
		t.Errorf("read %+v", got)
	}
	_, _, err := d.PutUserAssignedIdentity(t.Context(), UserAssignedIdentity{ID: identityRID, Location: "elsewhere"})
	wantErr(t, err, ErrConflict)

	// A process that died in the middle of a deletion left the resource without its principal.
	if err := d.DeleteServicePrincipal(t.Context(), first.PrincipalID); err != nil {
		t.Fatal(err)
	}
	renewed, created := put(UserAssignedIdentity{ID: identityRID, Location: "local"})
	if !created || renewed.PrincipalID == first.PrincipalID {
		t.Errorf("put after half a deletion: created %v, %+v", created, renewed)
	}
	if err := d.DeleteUserAssignedIdentity(t.Context(), strings.ToUpper(identityRID)); err != nil {
		t.Fatal(err)
	}
	if _, ok := d.ServicePrincipal(renewed.PrincipalID); ok {
		t.Error("the principal outlived its identity")
	}
	if n := len(d.UserAssignedIdentities()); n != 0 {
		t.Errorf("%d identities are left", n)
	}
	wantErr(t, d.DeleteUserAssignedIdentity(t.Context(), identityRID), ErrNotFound)
}

func TestFaultsOfAUserAssignedIdentity(t *testing.T) {
	good := UserAssignedIdentity{SubscriptionID: subscription, ResourceGroup: "default", Name: "sender", Location: "local"}
	for _, row := range []struct {
		name   string
		edit   func(*UserAssignedIdentity)
		fields []string
	}{
		{"everything is missing", func(u *UserAssignedIdentity) { *u = UserAssignedIdentity{} }, []string{"subscriptionId", "resourceGroup", "name", "location"}},
		{"a short name", func(u *UserAssignedIdentity) { u.Name = "ab" }, []string{"name"}},
		{"a name with a slash", func(u *UserAssignedIdentity) { u.Name = "ab/cd" }, []string{"name"}},
		{"a resource group that ends in a dot", func(u *UserAssignedIdentity) { u.ResourceGroup = "default." }, []string{"resourceGroup"}},
		{"a subscription that is no GUID", func(u *UserAssignedIdentity) { u.SubscriptionID = "mine" }, []string{"subscriptionId"}},
		{"a tag without a name", func(u *UserAssignedIdentity) { u.Tags = map[string]string{"": "x"} }, []string{"tags"}},
		{"the id of something else", func(u *UserAssignedIdentity) { u.ID = instanceID }, []string{"id"}},
	} {
		t.Run(row.name, func(t *testing.T) {
			u := good
			row.edit(&u)
			d := open(t)
			_, _, err := d.PutUserAssignedIdentity(t.Context(), u)
			if got := fields(err); !slices.Equal(got, row.fields) {
				t.Errorf("faults %q, want %q", got, row.fields)
			}
			if len(d.ServicePrincipals()) != 0 {
				t.Error("a principal was made all the same")
			}
		})
	}
}

func TestAppRoleAssignments(t *testing.T) {
	d := open(t)
	roles := []AppRole{
		{DisplayName: "Send", Value: "Events.Send", AllowedMemberTypes: []string{"Application"}, IsEnabled: true},
		{DisplayName: "Admin", Value: "Admin", AllowedMemberTypes: []string{"User", "Application"}, IsEnabled: true},
		{DisplayName: "Read", Value: "Read", AllowedMemberTypes: []string{"User"}, IsEnabled: true},
		{DisplayName: "Old", Value: "Old", AllowedMemberTypes: []string{"Application"}},
	}
	a, resource := registerAs(t, d, Application{DisplayName: "orders", AppRoles: roles})
	caller := must(d.CreateManagedIdentity(t.Context(), "default", instanceID, false))(t)
	role := func(i int) string { return a.AppRoles[i].ID }
	wantRoles := func(assigned bool, want ...string) {
		t.Helper()
		got, ok := d.Roles(caller.ID, resource.ID)
		if !slices.Equal(got, want) || ok != assigned {
			t.Fatalf("roles %q, assigned %v, want %q, %v", got, ok, want, assigned)
		}
	}
	wantRoles(false)
	must(d.AssignAppRole(t.Context(), caller.ID, resource.ID, DefaultAccess))(t)
	wantRoles(true)
	send := must(d.AssignAppRole(t.Context(), strings.ToUpper(caller.ID), strings.ToUpper(resource.ID), strings.ToUpper(role(0))))(t)
	must(d.AssignAppRole(t.Context(), caller.ID, resource.ID, role(1)))(t)
	wantRoles(true, "Admin", "Events.Send")

	_, err := d.AssignAppRole(t.Context(), caller.ID, resource.ID, role(0))
	wantErr(t, err, ErrConflict)
	for _, row := range []struct{ name, principal, resource, role, field string }{
		{"a principal that does not exist", "nobody", resource.ID, role(0), "principalId"},
		{"a resource that does not exist", caller.ID, "nothing", role(0), "resourceId"},
		{"a resource that is no application", caller.ID, caller.ID, DefaultAccess, "resourceId"},
		{"a role that does not exist", caller.ID, resource.ID, "cccc0000-0000-4000-8000-00000000000c", "appRoleId"},
		{"a role for users", caller.ID, resource.ID, role(2), "appRoleId"},
		{"a role that is disabled", caller.ID, resource.ID, role(3), "appRoleId"},
	} {
		_, err := d.AssignAppRole(t.Context(), row.principal, row.resource, row.role)
		if got := fields(err); !slices.Equal(got, []string{row.field}) {
			t.Errorf("%s: %v, want a fault of %s", row.name, err, row.field)
		}
	}
	if got := d.AppRoleAssignments(caller.ID, ""); len(got) != 3 {
		t.Errorf("the principal has %d assignments, want 3", len(got))
	}
	if got := d.AppRoleAssignments("", resource.ID); len(got) != 3 {
		t.Errorf("the resource has %d assignments, want 3", len(got))
	}
	if got := d.AppRoleAssignments(resource.ID, ""); len(got) != 0 {
		t.Errorf("the resource itself is assigned %d roles, want none", len(got))
	}

	must(d.UpdateApplication(t.Context(), a.ID, func(a *Application) error { a.AppRoles[1].IsEnabled = false; return nil }))(t)
	wantRoles(true, "Events.Send")
	if err := d.DeleteAppRoleAssignment(t.Context(), send.ID); err != nil {
		t.Fatal(err)
	}
	wantErr(t, d.DeleteAppRoleAssignment(t.Context(), send.ID), ErrNotFound)
	wantRoles(true)
	if err := d.DeleteServicePrincipal(t.Context(), caller.ID); err != nil {
		t.Fatal(err)
	}
	wantRoles(false)
	if n := len(d.assignments.All()); n != 0 {
		t.Errorf("%d assignments of a deleted principal are left", n)
	}
}
