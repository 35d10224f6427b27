package arm

import (
	"encoding/json"
	"slices"
	"testing"

	"tabard/internal/fabric"
	"tabard/internal/rbac"
	"tabard/internal/settings"
	"tabard/internal/store"
)

const resourceVersion = "?api-version=2022-12-01"

func TestAResourceGroupIsCreatedAndDeletedWithWhatLiesInIt(t *testing.T) {
	p := start(t)
	shop := sub + "/resourcegroups/Shop"
	p.do("GET", shop+resourceVersion, "").refused(404, "ResourceGroupNotFound")
	p.do("HEAD", shop+resourceVersion, "").want(404)
	p.do("PATCH", shop+resourceVersion, `{"tags":{}}`).refused(404, "ResourceGroupNotFound")
	p.do("DELETE", shop+resourceVersion, "").refused(404, "ResourceGroupNotFound")
	p.do("GET", shop+"/resources"+resourceVersion, "").refused(404, "ResourceGroupNotFound")

	p.do("PUT", shop+resourceVersion, `{"location":"West US","tags":{"a":"b"}}`).want(201).
		is("id", sub+"/resourceGroups/Shop").is("name", "Shop").is("location", "West US").is("tags", map[string]any{"a": "b"}).is("properties.provisioningState", "Succeeded").is("type", "Microsoft.Resources/resourceGroups")
	p.do("PUT", sub+"/resourceGroups/SHOP"+resourceVersion, `{"location":"westus"}`).want(200).is("name", "Shop").is("location", "West US").is("tags", map[string]any{})
	p.do("PATCH", shop+resourceVersion, `{"tags":{"c":"d"}}`).want(200).is("tags", map[string]any{"c": "d"})
	p.do("PATCH", shop+resourceVersion, `{}`).want(200).is("tags", map[string]any{"c": "d"})
	p.do("PUT", shop+resourceVersion, `{"location":"eastus"}`).refused(409, "InvalidResourceGroupLocation")
	p.do("PUT", shop+resourceVersion, `{"location":1}`).refused(400, "BadRequest").is("error.target", "location")
	p.do("HEAD", shop+resourceVersion, "").want(204)

	in := shop + "/providers/Microsoft.SignalRService/webPubSub/wps" + version
	p.do("PUT", in, `{"location":"local","identity":{"type":"SystemAssigned"}}`).want(201)
	principal := p.do("GET", in, "").str("identity.principalId")
	p.do("PUT", shop+"/providers/Microsoft.ManagedIdentity/userAssignedIdentities/robot"+identityVersion, `{"location":"local"}`).want(201)
	p.do("PUT", shop+"/providers/Microsoft.KeyVault/vaults/shopvault"+vaultVersion, vaultPut(p, "")).want(201)
	p.do("PUT", shop+"/providers/Microsoft.Authorization/roleAssignments/11111111-0000-4000-8000-000000000001?api-version=2022-04-01",
		`{"properties":{"roleDefinitionId":"`+rbac.Reader+`","principalId":"`+principal+`"}}`).want(201)
	if n := len(p.do("GET", shop+"/resources"+resourceVersion, "").want(200).items()); n != 3 {
		t.Errorf("%d resources", n)
	}
	if n := len(p.do("GET", shop+"/resources"+resourceVersion+"&$filter=resourceType+eq+'microsoft.keyvault/vaults'+and+name+eq+'shopvault'", "").want(200).items()); n != 1 {
		t.Errorf("%d vaults", n)
	}
	for _, filter := range []string{"tagName+eq+'a'", "name+eq+'a'+and", "name+eq+'a'+name+eq+'b'"} {
		p.do("GET", shop+"/resources"+resourceVersion+"&$filter="+filter, "").refused(400, "InvalidFilterInQueryString")
	}

	p.do("DELETE", shop+resourceVersion, "").want(200)
	p.do("GET", shop+resourceVersion, "").refused(404, "ResourceGroupNotFound")
	p.do("GET", in, "").refused(404, "ResourceGroupNotFound")
	if _, ok := p.settings.Snapshot().Instance("wps"); ok {
		t.Error("the instance is still there")
	}
	if n := p.systemPrincipals(); n != 0 {
		t.Errorf("%d principals are left", n)
	}
	if left := p.roles.Assignments(rbac.Filter{}); len(left) != 0 {
		t.Errorf("left: %v", left)
	}
	if _, gone := p.vaults.DeletedVault("shopvault"); !gone {
		t.Error("the vault cannot be recovered")
	}
	p.do("DELETE", rg+resourceVersion, "").refused(409, "ResourceGroupDeletionBlocked")
	p.do("GET", theDefault+version, "").want(200)
}

func TestAResourceBringsItsGroupAlong(t *testing.T) {
	p := start(t)
	in := sub + "/resourceGroups/New/providers/Microsoft.SignalRService/webPubSub/wps" + version
	p.do("GET", in, "").refused(404, "ResourceGroupNotFound")
	if got := p.do("PUT", in, `{"location":"local"}`).want(201).warnings(); len(got) != 1 {
		t.Errorf("warnings %q, want one: Azure would have refused", got)
	}
	if got := p.do("PUT", in, `{"location":"local"}`).want(200).warnings(); len(got) != 0 {
		t.Errorf("warnings %q", got)
	}
	p.do("PUT", sub+"/resourceGroups/Bad/providers/Microsoft.SignalRService/webPubSub/other"+version, `{}`).refused(400, "BadRequest")
	p.do("DELETE", in, "").want(200)
	p.do("GET", in, "").refused(404, "ResourceNotFound") // the group stays
	p.do("PUT", sub+"/resourceGroups/new"+resourceVersion, `{"location":"westus"}`).want(200).is("name", "New").is("location", "westus")
	p.do("PUT", sub+"/resourceGroups/DEFAULT"+resourceVersion, `{"location":"westus"}`).want(200).is("name", "default")
	var names []string
	for _, g := range p.do("GET", sub+"/resourceGroups"+resourceVersion, "").want(200).items() {
		names = append(names, g.(map[string]any)["name"].(string))
	}
	if !slices.Equal(names, []string{"default", "New"}) {
		t.Errorf("groups %q", names)
	}
	p.do("GET", sub+"/resourceGroups/a%20b"+resourceVersion, "").refused(400, "InvalidResourceGroup")
}

func TestGroupsAreBounded(t *testing.T) {
	p := start(t)
	for i := range settings.MaxGroups {
		name := "g" + string(rune('a'+i%26)) + string(rune('a'+i/26%26)) + string(rune('a'+i/676))
		if _, _, err := p.settings.PutGroup(t.Context(), testSubscription, name, func(*settings.Group) error { return nil }); err != nil {
			t.Fatal(err)
		}
	}
	p.do("PUT", sub+"/resourceGroups/more"+resourceVersion, `{"location":"local"}`).refused(400, "BadRequest").is("error.target", "name")
}

// TestClientsFindThisCloud holds the metadata against what go-azure-sdk and az index unasked (control-plane.md 9).
func TestClientsFindThisCloud(t *testing.T) {
	p := start(t)
	open := []string{"Authorization", ""} // who asks has no token yet
	p.do("GET", "/metadata/endpoints", "", open...).refused(400, "MissingApiVersionParameter")
	p.do("GET", "/metadata/endpoints?api-version=2010-01-01", "", open...).refused(400, "NoRegisteredProviderFound")
	p.do("POST", "/metadata/endpoints?api-version=2022-09-01", "", open...).refused(401, "AuthenticationFailed")
	p.do("GET", "/metadata/endpoints/x?api-version=2022-09-01", "", open...).refused(401, "AuthenticationFailed")

	now := p.do("GET", "/metadata/endpoints?api-version=2022-09-01", "", open...).want(200)
	own := "https://" + p.url[len("http://"):] + "/"
	for name, want := range map[string]string{"resourceManager": own, "microsoftGraphResourceId": own, "authentication.loginEndpoint": "https://127.0.0.1:8080/", "suffixes.keyVaultDns": "kv.example:8081"} {
		now.is(name, want)
	}
	for _, name := range []string{"name", "sqlManagement", "batch", "gallery", "graphAudience", "vmImageAliasDoc", "media", "suffixes.storage", "suffixes.sqlServerHostname", "authentication.tenant"} {
		if now.str(name) == "" {
			t.Errorf("%s is empty", name)
		}
	}
	audiences, _ := now.get("authentication.audiences").([]any)
	if !slices.Contains(audiences, any(own)) || !slices.Contains(audiences, any("https://management.azure.com/")) {
		t.Errorf("audiences %v", audiences)
	}
	p.do("GET", "/metadata/endpoints?api-version=2015-01-01", "", open...).want(200).is("authentication.audiences", audiences).is("graphEndpoint", own)

	clouds := p.raw("GET", "/metadata/endpoints?api-version=2019-05-01", open...)
	var list []map[string]any
	if err := json.Unmarshal(clouds, &list); err != nil || len(list) != 1 || list[0]["resourceManager"] != own {
		t.Errorf("%v in %s", err, clouds)
	}
}

// Of several who have all seen the same group, one may change it: the precondition is looked at within the write.
func TestOfManyWhoSawTheSameGroupOneChangesIt(t *testing.T) {
	p := start(t)
	group := sub + "/resourceGroups/contended" + resourceVersion
	change := func(method, body, header, value string) (done int) {
		t.Helper()
		answers := make(chan *answer)
		for range 8 {
			go func() { answers <- p.do(method, group, body, header, value) }()
		}
		for range 8 {
			switch a := <-answers; a.status {
			case 200, 201:
				done++
			case 409: // it came between too often
				a.refused(409, "Conflict")
			default:
				a.refused(412, "PreconditionFailed")
			}
		}
		return done
	}
	if n := change("PUT", `{"location":"local"}`, "If-None-Match", "*"); n != 1 {
		t.Errorf("%d created the group", n)
	}
	if n := change("PATCH", `{"tags":{"a":"b"}}`, "If-Match", p.do("GET", group, "").header.Get("ETag")); n != 1 {
		t.Errorf("%d changed what they had seen", n)
	}
}

func TestAGroupWhoseRolesCannotBeDeletedCanBeDeletedAgain(t *testing.T) {
	dir := t.TempDir()
	f, err := fabric.Open(t.Context(), fabric.Options{DataDir: dir})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(f.Close)
	st, err := store.Open(t.Context(), f, store.MasterKeyFile(dir+"/master.key"), nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(st.Close)
	failing, err := rbac.Open(t.Context(), st, rbac.Options{})
	if err != nil {
		t.Fatal(err)
	}
	shop := sub + "/resourceGroups/shop"
	a := rbac.Assignment{ID: "11111111-0000-4000-8000-000000000001", Scope: shop, RoleID: rbac.Reader, PrincipalID: "11111111-0000-4000-8000-000000000002", PrincipalType: "ServicePrincipal"}
	if _, _, err := failing.Put(t.Context(), a, ""); err != nil {
		t.Fatal(err)
	}
	f.Close()

	p := start(t, func(o *Options) { o.Roles = failing })
	p.do("PUT", shop+resourceVersion, `{"location":"local"}`).want(201)
	p.do("DELETE", shop+resourceVersion, "").want(500)
	p.do("GET", shop+resourceVersion, "").want(200)
	p.handler.Roles = p.roles
	p.do("DELETE", shop+resourceVersion, "").want(200)
}
