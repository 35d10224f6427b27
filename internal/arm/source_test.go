package arm

import (
	"strings"
	"testing"
)

func TestTheIdentitySourceOfAnInstanceIsSetWithoutShowingItsSecretAgain(t *testing.T) {
	p := start(t)
	const at = "properties.tabard.identitySource"
	set := func(source string) *answer {
		t.Helper()
		return p.do("PATCH", theDefault+version, `{"properties":{"tabard":{"identitySource":`+source+`}}}`)
	}
	secret := func() string {
		in, _ := p.settings.Snapshot().Instance("default")
		return in.Extensions.IdentitySource.ClientSecret
	}
	a := set(`{"type":"OAuth","issuer":"https://issuer.example","clientId":"x","clientSecret":"hush"}`).want(200)
	a.is(at+".type", "oauth").is(at+".resourceParameter", "scope").is(at+".clientId", "x")
	if strings.Contains(a.text, "hush") || secret() != "hush" {
		t.Errorf("stored %q, answered %s", secret(), a.text)
	}
	if got := p.do("GET", theDefault+version, "").want(200); strings.Contains(got.text, "hush") {
		t.Errorf("the secret is shown: %s", got.text)
	}
	set(`{"resourceParameter":"audience"}`).want(200).is(at+".resourceParameter", "audience")
	if secret() != "hush" {
		t.Error("a change of something else lost the secret")
	}
	set(`{"issuer":"https://attacker.example"}`).refused(400, "BadRequest").is("error.target", at+".clientSecret") // it does not follow
	set(`{"type":"oauth","secret":"x"}`).refused(400, "BadRequest").is("error.target", at+".secret")
	set(`{"clientId":1}`).refused(400, "BadRequest").is("error.target", at+".clientId")
	p.do("PUT", theDefault+"/hubs/chat"+version, `{"properties":{"eventHandlers":[{"urlTemplate":"http://h.example/","auth":{"type":"ManagedIdentity","managedIdentity":{"resource":"api://x"}}}]}}`).want(201)
	if got := p.do("GET", theDefault+"/hubs/chat"+version, "").want(200).warnings(); len(got) != 0 {
		t.Errorf("warnings %q although the source has an identity", got)
	}
	set(`null`).want(200)
	if in, _ := p.settings.Snapshot().Instance("default"); in.Extensions.IdentitySource != nil {
		t.Error("it is still there")
	}
}
