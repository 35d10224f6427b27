package directory

import (
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"
)

func TestAnApplicationIsFoundByEachOfItsNames(t *testing.T) {
	d := open(t)
	a, _ := register(t, d, "orders", "api://orders", "https://Orders.Example/api")
	if !guid.MatchString(a.ID) || !guid.MatchString(a.AppID) || a.ID == a.AppID || a.CreatedDateTime.IsZero() {
		t.Fatalf("ids or time are not set: %+v", a)
	}
	for _, name := range []string{a.ID, a.AppID, strings.ToUpper(a.AppID)} {
		if got, ok := d.Application(name); !ok || !reflect.DeepEqual(got, a) {
			t.Errorf("by %s: %+v", name, got)
		}
	}
	for _, uri := range []string{"api://orders", "api://orders/", "api://ORDERS", "https://orders.example/api/"} {
		if got, ok := d.ApplicationByURI(uri); !ok || got.ID != a.ID {
			t.Errorf("by %s: %+v", uri, got)
		}
	}
	for _, uri := range []string{"", "api://orders//", "https://orders.example/API", "API://orders", "orders"} {
		if got, ok := d.ApplicationByURI(uri); ok {
			t.Errorf("by %q: %+v, want none", uri, got)
		}
	}
	if _, ok := d.Application(""); ok {
		t.Error("an application without id was found")
	}
}

func TestFaultsOfAnApplicationAreAllNamedAtOnce(t *testing.T) {
	three := 3
	role := func(edit func(*AppRole)) []AppRole {
		r := AppRole{DisplayName: "Send", Value: "Events.Send", AllowedMemberTypes: []string{"Application"}, IsEnabled: true}
		edit(&r)
		return []AppRole{r}
	}
	sameID := "cccc0000-0000-4000-8000-00000000000c"
	for _, row := range []struct {
		name   string
		app    Application
		fields []string
	}{
		{"no name", Application{}, []string{"displayName"}},
		{"a name of blanks", Application{DisplayName: " \t"}, []string{"displayName"}},
		{"a name with a line break", Application{DisplayName: "a\nb"}, []string{"displayName"}},
		{"a name that is too long", Application{DisplayName: strings.Repeat("ä", 257)}, []string{"displayName"}},
		{"a long name of many bytes is fine", Application{DisplayName: strings.Repeat("ä", 256)}, nil},
		{"token version 3 and no name", Application{RequestedAccessTokenVersion: &three}, []string{"displayName", "api.requestedAccessTokenVersion"}},
		{"not a URI", Application{DisplayName: "x", IdentifierURIs: []string{"api://ok", "orders", "api://"}}, []string{"identifierUris[1]", "identifierUris[2]"}},
		{"white space, wildcard, query, fragment", Application{DisplayName: "x", IdentifierURIs: []string{"api://a b", "api://*", "https://a/?b", "https://a/#b"}},
			[]string{"identifierUris[0]", "identifierUris[1]", "identifierUris[2]", "identifierUris[3]"}},
		{"a URI that is too long", Application{DisplayName: "x", IdentifierURIs: []string{"api://" + strings.Repeat("a", 250)}}, []string{"identifierUris[0]"}},
		{"the same URI twice", Application{DisplayName: "x", IdentifierURIs: []string{"api://orders", "api://ORDERS/"}}, []string{"identifierUris[1]"}},
		{"too many URIs", Application{DisplayName: "x", IdentifierURIs: make([]string, 51)}, []string{"identifierUris"}},
		{"a URN is a URI", Application{DisplayName: "x", IdentifierURIs: []string{"urn:example:orders"}}, nil},
		{"a role without id gets one", Application{DisplayName: "x", AppRoles: role(func(*AppRole) {})}, nil},
		{"a role with a bad id", Application{DisplayName: "x", AppRoles: role(func(r *AppRole) { r.ID = "send" })}, []string{"appRoles[0].id"}},
		{"a role with the id of default access", Application{DisplayName: "x", AppRoles: role(func(r *AppRole) { r.ID = DefaultAccess })}, []string{"appRoles[0].id"}},
		{"a role for nobody, without a name", Application{DisplayName: "x", AppRoles: role(func(r *AppRole) { r.AllowedMemberTypes, r.DisplayName = nil, "" })},
			[]string{"appRoles[0].displayName", "appRoles[0].allowedMemberTypes"}},
		{"a role for devices", Application{DisplayName: "x", AppRoles: role(func(r *AppRole) { r.AllowedMemberTypes = []string{"Device"} })}, []string{"appRoles[0].allowedMemberTypes"}},
		{"a role value with a blank", Application{DisplayName: "x", AppRoles: role(func(r *AppRole) { r.Value = "Events Send" })}, []string{"appRoles[0].value"}},
		{"two roles with the same id and value", Application{DisplayName: "x", AppRoles: append(
			role(func(r *AppRole) { r.ID = sameID }), role(func(r *AppRole) { r.ID = strings.ToUpper(sameID) })...)}, []string{"appRoles[1].id", "appRoles[1].value"}},
		{"too many roles", Application{DisplayName: "x", AppRoles: make([]AppRole, 201)}, []string{"appRoles"}},
	} {
		t.Run(row.name, func(t *testing.T) {
			d := open(t)
			_, err := d.CreateApplication(t.Context(), row.app)
			if got := fields(err); !slices.Equal(got, row.fields) {
				t.Fatalf("faults %q, want %q (%v)", got, row.fields, err)
			}
			if n := len(d.Applications()); (n == 0) != (err != nil) {
				t.Errorf("%d applications after error %v", n, err)
			}
		})
	}
}

func TestAnIdentifierURIIsUniqueInTheTenant(t *testing.T) {
	d := open(t)
	first, _ := register(t, d, "orders", "api://orders")
	for _, uri := range []string{"api://orders", "api://Orders", "api://orders/"} {
		_, err := d.CreateApplication(t.Context(), Application{DisplayName: "thief", IdentifierURIs: []string{uri}})
		wantErr(t, err, ErrConflict)
		if !strings.Contains(err.Error(), first.AppID) {
			t.Errorf("%v does not say whose it is", err)
		}
	}
	for _, uri := range []string{"https://graph.microsoft.com/", "https://VAULT.azure.net"} {
		_, err := d.CreateApplication(t.Context(), Application{DisplayName: "thief", IdentifierURIs: []string{uri}})
		wantErr(t, err, ErrConflict)
	}
	other, _ := register(t, d, "billing", "api://billing")
	take := func(a *Application) error { a.IdentifierURIs = append(a.IdentifierURIs, "api://orders"); return nil }
	_, err := d.UpdateApplication(t.Context(), other.ID, take)
	wantErr(t, err, ErrConflict)
	must(d.UpdateApplication(t.Context(), first.ID, func(a *Application) error { a.IdentifierURIs = nil; return nil }))(t)
	must(d.UpdateApplication(t.Context(), other.ID, take))(t)
	if got, _ := d.ApplicationByURI("api://orders"); got.ID != other.ID {
		t.Errorf("api://orders is %s's, want %s's", got.ID, other.ID)
	}
}

func TestAnUpdateKeepsIDsAndRefusesFaults(t *testing.T) {
	d := open(t)
	a, _ := register(t, d, "orders", "api://orders")
	got := must(d.UpdateApplication(t.Context(), a.AppID, func(a *Application) error {
		a.ID, a.AppID, a.DisplayName = "x", "y", "sales"
		return nil
	}))(t)
	if got.ID != a.ID || got.AppID != a.AppID || got.DisplayName != "sales" {
		t.Errorf("updated to %+v", got)
	}
	if p, _ := d.ServicePrincipalByAppID(a.AppID); p.DisplayName != "sales" || !slices.Equal(p.ServicePrincipalNames, []string{a.AppID, "api://orders"}) {
		t.Errorf("the service principal did not follow: %+v", p)
	}
	_, err := d.UpdateApplication(t.Context(), a.ID, func(a *Application) error { a.DisplayName = ""; return nil })
	if got := fields(err); !slices.Equal(got, []string{"displayName"}) {
		t.Errorf("faults %q", got)
	}
	boom := errors.New("boom")
	_, err = d.UpdateApplication(t.Context(), a.ID, func(*Application) error { return boom })
	wantErr(t, err, boom)
	_, err = d.UpdateApplication(t.Context(), "nobody", func(*Application) error { return nil })
	wantErr(t, err, ErrNotFound)
}

func TestWhatTheDirectoryReturnsIsTheCallersOwn(t *testing.T) {
	d := open(t)
	two := 2
	uris := []string{"api://orders"}
	a, _ := registerAs(t, d, Application{DisplayName: "orders", IdentifierURIs: uris, RequestedAccessTokenVersion: &two})
	uris[0], two, a.IdentifierURIs[0], *a.RequestedAccessTokenVersion = "api://changed", 1, "api://changed", 1
	for i, got := range []Application{must2(d.Application(a.ID)), d.Applications()[0], must2(d.ApplicationByURI("api://orders"))} {
		if got.IdentifierURIs[0] != "api://orders" || *got.RequestedAccessTokenVersion != 2 {
			t.Errorf("%d: the caller's edit shows in the directory: %+v", i, got)
		}
		got.IdentifierURIs[0] = "api://changed"
	}
}

func must2[T any](v T, ok bool) T {
	if !ok {
		panic("not found")
	}
	return v
}

func TestDeletingAnApplicationDeletesItsPrincipalAndItsAssignments(t *testing.T) {
	d := open(t)
	a, p := register(t, d, "orders", "api://orders")
	_, caller := register(t, d, "caller")
	must(d.AssignAppRole(t.Context(), caller.ID, p.ID, DefaultAccess))(t)
	must(d.AssignAppRole(t.Context(), p.ID, caller.ID, DefaultAccess))(t)
	if err := d.DeleteApplication(t.Context(), a.AppID); err != nil {
		t.Fatal(err)
	}
	if _, ok := d.Application(a.ID); ok {
		t.Error("the application is still there")
	}
	if _, ok := d.ServicePrincipal(p.ID); ok {
		t.Error("its service principal is still there")
	}
	if got := d.AppRoleAssignments("", ""); len(got) != 0 || len(d.assignments.All()) != 0 {
		t.Errorf("assignments are still there: %v", got)
	}
	wantErr(t, d.DeleteApplication(t.Context(), a.ID), ErrNotFound)
	register(t, d, "orders", "api://orders") // the name is free again
}

func TestTheListIsOrderedByName(t *testing.T) {
	d := open(t)
	for _, name := range []string{"c", "a", "b"} {
		register(t, d, name)
	}
	var names []string
	for _, a := range d.Applications() {
		names = append(names, a.DisplayName)
	}
	if fmt.Sprint(names) != "[a b c]" {
		t.Errorf("order %v", names)
	}
}
