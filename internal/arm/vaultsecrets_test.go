package arm

import (
	"fmt"
	"strings"
	"testing"
)

// Checklist 48 of the key-vault specification: a template creates secrets once, however often it is applied.
func TestATemplateSetsASecretOnceAndNeverReadsIt(t *testing.T) {
	p := start(t)
	p.do("PUT", theVault+vaultVersion, vaultPut(p, "")).want(201)
	const canary = "canary-of-a-template"
	path := theVault + "/secrets/hook-key" + vaultVersion
	body := `{"tags":{"env":"dev"},"properties":{"value":"` + canary + `","contentType":"text/plain","attributes":{"exp":1821536000}}}`
	var texts strings.Builder
	made := p.do("PUT", path, body).want(201)
	made.is("name", "hook-key").is("type", "Microsoft.KeyVault/vaults/secrets").is("tags", map[string]string{"env": "dev"}).
		is("id", theVault+"/secrets/hook-key").is("properties.contentType", "text/plain").is("properties.attributes.enabled", true).is("properties.attributes.exp", 1821536000).
		is("properties.secretUri", "https://va1.kv.example:8081/secrets/hook-key")
	version := func(a *answer) string {
		p, _ := a.body["properties"].(map[string]any)
		text, _ := p["secretUriWithVersion"].(string)
		return text
	}
	if !strings.HasPrefix(version(made), "https://va1.kv.example:8081/secrets/hook-key/") {
		t.Errorf("uri %s", version(made))
	}
	again := p.do("PUT", path, body).want(200)
	if version(again) != version(made) {
		t.Error("the same value made another version")
	}
	retagged := p.do("PUT", path, strings.Replace(body, "dev", "prod", 1)).want(200).is("tags", map[string]string{"env": "prod"})
	if version(retagged) != version(made) {
		t.Error("other tags made another version")
	}
	changed := p.do("PUT", path, strings.Replace(body, canary, canary+"-2", 1)).want(201)
	if version(changed) == version(made) {
		t.Error("another value made no version")
	}
	p.do("PATCH", path, `{"properties":{"attributes":{"enabled":false}}}`).want(200).is("properties.attributes.enabled", false).is("tags", map[string]string{"env": "dev"})
	got := p.do("GET", strings.ToUpper(theVault)+"/secrets/HOOK-KEY"+vaultVersion, "").want(200)
	list := p.do("GET", theVault+"/secrets"+vaultVersion, "").want(200)
	if len(list.items()) != 1 {
		t.Errorf("list %s", list.text)
	}
	for _, a := range []*answer{made, again, changed, got, list} {
		texts.WriteString(a.text)
	}
	for name, a := range map[string]*answer{
		"no value":             p.do("PUT", theVault+"/secrets/n"+vaultVersion, `{"properties":{}}`).refused(400, "BadRequest").is("error.target", "properties.value"),
		"a value that is none": p.do("PUT", path, `{"properties":{"value":["`+canary+`"]}}`).refused(400, "BadRequest"),
		"a bad name":           p.do("PUT", theVault+"/secrets/a_b"+vaultVersion, body).refused(400, "BadRequest"),
		"too long":             p.do("PUT", path, `{"properties":{"value":"`+strings.Repeat(canary, 2000)+`"}}`).refused(400, "BadRequest"),
		"a bad time":           p.do("PUT", path, strings.Replace(body, "1821536000", "-1", 1)).refused(400, "BadRequest"),
		"nothing to change":    p.do("PATCH", theVault+"/secrets/n"+vaultVersion, `{"properties":{"value":"`+canary+`"}}`).refused(404, "ResourceNotFound"),
		"no vault":             p.do("PUT", vaultsPath+"/nobody/secrets/n"+vaultVersion, body).refused(404, "ResourceNotFound"),
		"no secret":            p.do("GET", theVault+"/secrets/n"+vaultVersion, "").refused(404, "ResourceNotFound"),
	} {
		if strings.Contains(a.text, canary) {
			t.Errorf("%s: the value is repeated: %s", name, a.text)
		}
	}
	if strings.Contains(texts.String(), canary) || strings.Contains(texts.String(), `"value":"`) {
		t.Errorf("a value came out: %s", texts.String())
	}
}

func TestSecretsOfAVaultAreListedByThePage(t *testing.T) {
	p := start(t)
	p.do("PUT", theVault+vaultVersion, vaultPut(p, "")).want(201)
	for i := range secretsPage + 1 {
		p.do("PUT", fmt.Sprintf("%s/secrets/s%d%s", theVault, i, vaultVersion), `{"properties":{"value":"x"}}`).want(201)
	}
	first := p.do("GET", theVault+"/secrets"+vaultVersion, "").want(200)
	next, _ := first.body["nextLink"].(string)
	_, path, found := strings.Cut(next, "/subscriptions/")
	if value, _ := first.body["value"].([]any); len(value) != secretsPage || !found {
		t.Fatalf("%d secrets, next %q", len(value), next)
	}
	second := p.do("GET", "/subscriptions/"+path, "").want(200)
	if len(second.items()) != 1 || second.body["nextLink"] != nil {
		t.Errorf("second page %s", second.text)
	}
}
