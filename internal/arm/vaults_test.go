package arm

import (
	"fmt"
	"strings"
	"sync"
	"testing"
)

const (
	vaultVersion = "?api-version=2024-11-01"
	vaultsPath   = rg + "/providers/Microsoft.KeyVault/vaults"
	theVault     = vaultsPath + "/va1"
	somebody     = "cccc0000-0000-4000-8000-00000000000c"
)

func vaultPut(p *plane, extra string) string {
	return `{"location":"local","tags":{"a":"b"},"properties":{"tenantId":"` + p.directory.TenantID() + `","sku":{"family":"A","name":"standard"},"accessPolicies":[]` + extra + `}}`
}

// Checklist 43 of the key-vault specification is in here.
func TestVaultsAreCreatedChangedAndListed(t *testing.T) {
	p := start(t)
	a := p.do("PUT", theVault+vaultVersion, vaultPut(p, "")).want(201)
	a.is("id", theVault).is("name", "va1").is("type", "Microsoft.KeyVault/vaults").is("location", "local").is("tags", map[string]string{"a": "b"})
	a.is("properties.vaultUri", "https://va1.kv.example:8081/").is("properties.enableSoftDelete", true).is("properties.softDeleteRetentionInDays", 90).
		is("properties.enablePurgeProtection", nil).is("properties.enableRbacAuthorization", false).is("properties.sku", map[string]string{"family": "A", "name": "standard"}).
		is("properties.tenantId", p.directory.TenantID()).is("properties.accessPolicies", []any{}).is("properties.provisioningState", "Succeeded")
	if got := p.do("GET", strings.ToUpper(theVault)+vaultVersion, "").want(200); got.text != a.text {
		t.Errorf("GET %s\nPUT %s", got.text, a.text)
	}
	p.do("PUT", theVault+vaultVersion, a.text).want(200)
	if strings.Contains(a.text, "dataKey") || strings.Contains(a.text, "DataKey") {
		t.Errorf("the data key is shown: %s", a.text)
	}
	p.do("PATCH", theVault+vaultVersion, `{"properties":{"enableRbacAuthorization":true}}`).want(200).is("properties.enableRbacAuthorization", true).is("tags", map[string]string{"a": "b"})
	warned := p.do("PATCH", theVault+vaultVersion, `{"properties":{"publicNetworkAccess":"Disabled"}}`).want(200).is("properties.publicNetworkAccess", "Disabled")
	if w := warned.warnings(); len(w) != 1 || !strings.Contains(w[0], "has no effect") {
		t.Errorf("warnings %q", w)
	}
	for _, path := range []string{vaultsPath, sub + "/providers/Microsoft.KeyVault/vaults"} {
		if n := len(p.do("GET", path+vaultVersion, "").want(200).items()); n != 2 {
			t.Errorf("%s: %d vaults, want the default one and ours", path, n)
		}
	}
	p.do("GET", vaultsPath+"/nobody"+vaultVersion, "").refused(404, "ResourceNotFound")
	p.do("GET", sub+"/resourceGroups/other/providers/Microsoft.KeyVault/vaults/va1"+vaultVersion, "").refused(404, "ResourceGroupNotFound")
	p.do("PUT", sub+"/resourceGroups/other/providers/Microsoft.KeyVault/vaults/va1"+vaultVersion, vaultPut(p, "")).refused(409, "VaultAlreadyExists")
}

func TestBadVaultDocumentsNameEveryFault(t *testing.T) {
	p := start(t)
	a := p.do("PUT", theVault+vaultVersion, `{"location":"local","properties":{"tenantId":"x","sku":{"name":"gold"},"softDeleteRetentionInDays":3,"accessPolicies":[{"tenantId":"t","objectId":"`+somebody+`","permissions":{"secrets":["read"]}}]}}`).refused(400, "BadRequest")
	for _, field := range []string{"properties.tenantId", "properties.sku.name", "properties.softDeleteRetentionInDays", "properties.accessPolicies[0].tenantId", "properties.accessPolicies[0].permissions.secrets"} {
		if !strings.Contains(strings.Join(a.details(), " "), field) {
			t.Errorf("no fault of %s: %s", field, a.text)
		}
	}
	p.do("PUT", theVault+vaultVersion, `{"properties":{}}`).refused(400, "BadRequest").is("error.target", "location")
	p.do("PUT", theVault+vaultVersion, vaultPut(p, `,"enableSoftDelete":false`)).refused(400, "BadRequest")
	p.do("PUT", vaultsPath+"/a_b"+vaultVersion, vaultPut(p, "")).refused(400, "BadRequest").is("error.target", "name")
	p.do("PUT", theVault+vaultVersion, vaultPut(p, `,"createMode":"clone"`)).refused(400, "BadRequest")
	p.do("PUT", theVault+vaultVersion, `{"location":"local","properties":{"accessPolicies":{}}}`).refused(400, "BadRequest")
}

// Checklist 42.
func TestAccessPoliciesAreEdited(t *testing.T) {
	p := start(t)
	p.do("PUT", theVault+vaultVersion, vaultPut(p, "")).want(201)
	body := func(secrets string) string {
		return `{"properties":{"accessPolicies":[{"tenantId":"` + p.directory.TenantID() + `","objectId":"` + somebody + `","permissions":{"secrets":[` + secrets + `]}}]}}`
	}
	secrets := func() any {
		list := p.do("GET", theVault+vaultVersion, "").want(200).get("properties.accessPolicies").([]any)
		if len(list) == 0 {
			return nil
		}
		return list[0].(map[string]any)["permissions"].(map[string]any)["secrets"]
	}
	for _, step := range []struct{ how, given, want string }{
		{"add", `"get"`, "get"}, {"add", `"list"`, "get list"}, {"replace", `"set"`, "set"}, {"Remove", `"set"`, ""},
	} {
		p.do("PUT", theVault+"/accessPolicies/"+step.how+vaultVersion, body(step.given)).want(200)
		var got []string
		if list, ok := secrets().([]any); ok {
			for _, s := range list {
				got = append(got, s.(string))
			}
		}
		if strings.Join(got, " ") != step.want {
			t.Errorf("%s %s: %v", step.how, step.given, got)
		}
	}
	p.do("PUT", theVault+"/accessPolicies/merge"+vaultVersion, body("")).refused(404, "InvalidResourceType")
	p.do("PUT", theVault+"/accessPolicies/add"+vaultVersion, `{"properties":{}}`).refused(400, "BadRequest")
	p.do("PUT", vaultsPath+"/nobody/accessPolicies/add"+vaultVersion, body(`"get"`)).refused(404, "ResourceNotFound")
}

func TestADeletedVaultIsListedRecoveredAndPurged(t *testing.T) {
	p := start(t)
	p.do("PUT", theVault+vaultVersion, vaultPut(p, `,"softDeleteRetentionInDays":7`)).want(201)
	p.do("DELETE", theVault+vaultVersion, "").want(200)
	p.do("DELETE", theVault+vaultVersion, "").want(204)
	p.do("GET", theVault+vaultVersion, "").refused(404, "ResourceNotFound")
	p.do("PUT", theVault+vaultVersion, vaultPut(p, "")).refused(409, "ConflictError")
	deleted := sub + "/providers/Microsoft.KeyVault/locations/local/deletedVaults/va1"
	p.do("GET", deleted+vaultVersion, "").want(200).is("properties.vaultId", theVault)
	if n := len(p.do("GET", sub+"/providers/Microsoft.KeyVault/deletedVaults"+vaultVersion, "").want(200).items()); n != 1 {
		t.Errorf("%d deleted vaults", n)
	}
	name := sub + "/providers/Microsoft.KeyVault/checkNameAvailability" + vaultVersion
	p.do("POST", name, `{"name":"va1","type":"Microsoft.KeyVault/vaults"}`).want(200).is("nameAvailable", false).is("reason", "AlreadyExists")
	p.do("POST", name, `{"name":"x","type":"Microsoft.KeyVault/vaults"}`).want(200).is("reason", "AccountNameInvalid")
	p.do("POST", name, `{"name":"another","type":"Microsoft.KeyVault/vaults"}`).want(200).is("nameAvailable", true)
	p.do("PUT", theVault+vaultVersion, `{"location":"local","properties":{"createMode":"recover"}}`).want(200).is("properties.softDeleteRetentionInDays", 7)
	p.do("DELETE", theVault+vaultVersion, "").want(200)
	p.do("POST", deleted+"/purge"+vaultVersion, "").want(200)
	p.do("POST", deleted+"/purge"+vaultVersion, "").refused(404, "DeletedVaultNotFound")
	p.do("PUT", theVault+vaultVersion, vaultPut(p, `,"enablePurgeProtection":true`)).want(201).is("properties.enablePurgeProtection", true)
	p.do("PUT", theVault+vaultVersion, vaultPut(p, `,"enablePurgeProtection":false`)).refused(400, "BadRequest")
	p.do("DELETE", theVault+vaultVersion, "").want(200)
	p.do("POST", deleted+"/purge"+vaultVersion, "").refused(405, "MethodNotAllowed")
}

func TestReferencesAreToldRefreshedAndExplained(t *testing.T) {
	p := start(t)
	p.do("GET", theDefault+"/secretReferences"+version, "").want(200).is("value", []any{map[string]string{"of": "default"}})
	p.do("POST", theDefault+"/refreshSecretReferences"+version, "").want(202)
	if len(p.refreshed) != 1 || p.refreshed[0] != "default" {
		t.Errorf("refreshed %v", p.refreshed)
	}
	p.do("POST", theDefault+"/explainSecretReference"+version, `{"secretUri":"https://v/secrets/n"}`).want(200).is("value", []any{map[string]string{"of": "default", "uri": "https://v/secrets/n"}})
	p.do("POST", theDefault+"/explainSecretReference"+version, `{}`).refused(400, "BadRequest").is("error.target", "secretUri")
	p.do("POST", theDefault+"/explainSecretReference"+version, `{"secretUri":"`+strings.Repeat("x", maxSecretURI+1)+`"}`).refused(400, "BadRequest")
	p.do("GET", webPubSubs+"/nobody/secretReferences"+version, "").refused(404, "ResourceNotFound")
}

// What one PATCH names and what another changes meanwhile both stay: in particular no policy comes back that was taken
// away.
func TestChangesOfAVaultDoNotUndoEachOther(t *testing.T) {
	p := start(t)
	p.do("PUT", theVault+vaultVersion, vaultPut(p, "")).want(201)
	policy := `{"properties":{"accessPolicies":[{"tenantId":"` + p.directory.TenantID() + `","objectId":"` + somebody + `","permissions":{"secrets":["get"]}}]}}`
	var wg sync.WaitGroup
	for worker := range 4 {
		wg.Go(func() {
			for i := range 25 {
				body := fmt.Sprintf(`{"tags":{"w":"%d-%d"}}`, worker, i)
				p.do("PATCH", theVault+vaultVersion, body).want(200)
			}
		})
	}
	for range 25 {
		for _, step := range []struct {
			how  string
			left int
		}{{"add", 1}, {"remove", 0}} {
			p.do("PUT", theVault+"/accessPolicies/"+step.how+vaultVersion, policy).want(200)
			properties, _ := p.do("GET", theVault+vaultVersion, "").want(200).body["properties"].(map[string]any)
			if list, _ := properties["accessPolicies"].([]any); len(list) != step.left {
				t.Errorf("after %s: %d policies, want %d", step.how, len(list), step.left)
			}
		}
	}
	wg.Wait()
}
