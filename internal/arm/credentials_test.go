package arm

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha1"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"fmt"
	"math/big"
	"strings"
	"sync"
	"testing"
	"time"

	"tabard/internal/directory"
)

// register makes an application and returns the path of it, by object id, and its appId.
func (p *plane) register(name string) (path, appID string) {
	p.t.Helper()
	a := p.do("POST", "/v1.0/applications", fmt.Sprintf(`{"displayName":%q}`, name)).want(201)
	return "/v1.0/applications/" + a.str("id"), a.str("appId")
}

// principalOf makes the service principal of an application and returns its path and object id.
func (p *plane) principalOf(appID string) (path, id string) {
	p.t.Helper()
	id = p.do("POST", "/v1.0/servicePrincipals", fmt.Sprintf(`{"appId":%q}`, appID)).want(201).str("id")
	return "/v1.0/servicePrincipals/" + id, id
}

var signingKey = sync.OnceValue(func() *rsa.PrivateKey {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		panic(err)
	}
	return key
})

// der is a certificate, and as Graph has it.
func der(t *testing.T, name string) (raw []byte, encoded string) {
	t.Helper()
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name},
		NotBefore: time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC), NotAfter: time.Date(2028, 1, 1, 0, 0, 0, 0, time.UTC),
	}
	raw, err := x509.CreateCertificate(rand.Reader, template, template, signingKey().Public(), signingKey())
	if err != nil {
		t.Fatal(err)
	}
	return raw, base64.StdEncoding.EncodeToString(raw)
}

func TestAnApplicationsSecretIsShownOnce(t *testing.T) {
	p := start(t)
	path, appID := p.register("worker")
	a := p.do("POST", path+"/addPassword", `{"passwordCredential":{"displayName":"laptop","endDateTime":"2030-01-01T00:00:00Z"}}`).want(200).
		is("displayName", "laptop").is("endDateTime", "2030-01-01T00:00:00Z").is("customKeyIdentifier", nil)
	secret, keyID := a.str("secretText"), a.str("keyId")
	if len(secret) < 16 || len(secret) > 64 || a.str("hint") != secret[:3] || !guidText.MatchString(keyID) {
		t.Errorf("%s", a.text)
	}
	if _, err := p.directory.CheckPassword(appID, secret); err != nil {
		t.Errorf("the secret does not hold: %v", err)
	}
	for _, get := range []string{path, "/v1.0/applications(appId='" + appID + "')", path + "?$select=passwordCredentials", "/v1.0/applications"} {
		answer := p.do("GET", get, "").want(200)
		if strings.Contains(answer.text, secret) || strings.Contains(answer.text, "hash") || strings.Contains(answer.text, "salt") {
			t.Errorf("%s shows what proves a secret: %s", get, answer.text)
		}
		if !strings.Contains(answer.text, keyID) {
			t.Errorf("%s does not name the secret: %s", get, answer.text)
		}
	}
	if strings.Contains(p.log.String(), secret) {
		t.Error("the log has the secret")
	}
	second := p.do("POST", "/v1.0/applications(appId='"+appID+"')/addPassword", "").want(200)
	begins, err1 := time.Parse(time.RFC3339, second.str("startDateTime"))
	ends, err2 := time.Parse(time.RFC3339, second.str("endDateTime"))
	if err1 != nil || err2 != nil || !ends.Equal(begins.AddDate(2, 0, 0)) || second.get("displayName") != nil {
		t.Errorf("defaults: %s", second.text)
	}
	p.do("PATCH", path, `{"displayName":"renamed"}`).want(204)
	if _, err := p.directory.CheckPassword(appID, secret); err != nil {
		t.Errorf("a change of the application ended its secret: %v", err)
	}
	p.do("POST", path+"/removePassword", fmt.Sprintf(`{"keyId":%q}`, keyID)).want(204)
	if _, err := p.directory.CheckPassword(appID, secret); err == nil {
		t.Error("a removed secret is taken")
	}
	if _, err := p.directory.CheckPassword(appID, second.str("secretText")); err != nil {
		t.Errorf("the other secret: %v", err)
	}
	p.do("POST", path+"/removePassword", fmt.Sprintf(`{"keyId":%q}`, keyID)).refused(400, "Request_BadRequest")
}

func TestAnApplicationsCertificates(t *testing.T) {
	p := start(t)
	path, _ := p.register("worker")
	raw, one := der(t, "one")
	_, two := der(t, "two")
	thumbprint := sha1.Sum(raw)
	added := p.do("POST", path+"/addKey", `{"keyCredential":{"type":"AsymmetricX509Cert","usage":"Verify","key":"`+one+`"},"passwordCredential":null,"proof":"x"}`).want(200).
		is("displayName", "CN=one").is("customKeyIdentifier", base64.StdEncoding.EncodeToString(thumbprint[:])).is("key", nil).is("endDateTime", "2028-01-01T00:00:00Z")
	keyID := added.str("keyId")
	list := func(query string) []any {
		return p.do("GET", path+query, "").want(200).get("keyCredentials").([]any)
	}
	if keys := list(""); len(keys) != 1 || keys[0].(map[string]any)["key"] != nil {
		t.Errorf("%v", keys)
	}
	if keys := list("?$select=id,keyCredentials"); keys[0].(map[string]any)["key"] != one {
		t.Errorf("selected: %v", keys)
	}
	// What is read is written back, with one more, and other properties at once.
	p.do("PATCH", path, `{"displayName":"both","keyCredentials":[{"keyId":"`+keyID+`","type":"AsymmetricX509Cert","usage":"Verify","key":null,"customKeyIdentifier":"x"},{"displayName":"second","key":"`+two+`"}]}`).want(204)
	if keys := list(""); len(keys) != 2 || keys[0].(map[string]any)["keyId"] != keyID || keys[1].(map[string]any)["displayName"] != "second" {
		t.Errorf("%v", keys)
	}
	p.do("PATCH", path, `{"displayName":"neither","keyCredentials":[{"keyId":"11111111-1111-4111-8111-111111111111"}]}`).refused(400, "Request_BadRequest")
	p.do("GET", path, "").want(200).is("displayName", "both")
	p.do("POST", path+"/removeKey", `{"keyId":"`+keyID+`","proof":"x"}`).want(204)
	p.do("POST", path+"/removeKey", `{"keyId":"`+keyID+`"}`).refused(400, "Request_BadRequest")
	if keys := list(""); len(keys) != 1 {
		t.Errorf("%v", keys)
	}
	p.do("PATCH", path, `{"keyCredentials":[]}`).want(204)
	if keys := list(""); len(keys) != 0 {
		t.Errorf("%v", keys)
	}
	p.do("POST", "/v1.0/applications", `{"displayName":"born with one","keyCredentials":[{"key":"`+one+`"}]}`).want(201)
}

func TestCredentialsThatAreRefused(t *testing.T) {
	p := start(t)
	path, _ := p.register("worker")
	_, key := der(t, "one")
	for name, tc := range map[string]struct{ method, path, body, mentions string }{
		"an end that is no time":        {"POST", "/addPassword", `{"passwordCredential":{"endDateTime":"tomorrow"}}`, "endDateTime"},
		"an end before the start":       {"POST", "/addPassword", `{"passwordCredential":{"endDateTime":"2020-01-01T00:00:00Z"}}`, "endDateTime"},
		"an end that never comes":       {"POST", "/addPassword", `{"passwordCredential":{"endDateTime":"2999-01-01T00:00:00Z"}}`, "endDateTime"},
		"a secret of one's own":         {"POST", "/addPassword", `{"passwordCredential":{"secretText":"hunter2"}}`, "secretText"},
		"an unknown parameter":          {"POST", "/addPassword", `{"displayName":"x"}`, "displayName"},
		"no key id":                     {"POST", "/removePassword", ``, "keyId"},
		"a key id that is a number":     {"POST", "/removePassword", `{"keyId":1}`, "keyId"},
		"no certificate":                {"POST", "/addKey", `{"keyCredential":{}}`, "keyCredential.key"},
		"no base64":                     {"POST", "/addKey", `{"keyCredential":{"key":"%"}}`, "keyCredential.key"},
		"no certificate in it":          {"POST", "/addKey", `{"keyCredential":{"key":"AAAA"}}`, "key"},
		"a key that signs":              {"POST", "/addKey", `{"keyCredential":{"key":"` + key + `","usage":"Sign"}}`, "usage"},
		"a symmetric key":               {"POST", "/addKey", `{"keyCredential":{"key":"` + key + `","type":"Symmetric"}}`, "type"},
		"its password":                  {"POST", "/addKey", `{"keyCredential":{"key":"` + key + `"},"passwordCredential":{"secretText":"x"}}`, "passwordCredential"},
		"secrets by PATCH":              {"PATCH", "", `{"passwordCredentials":[{"displayName":"x"}]}`, "addPassword"},
		"a certificate twice":           {"PATCH", "", `{"keyCredentials":[{"key":"` + key + `"},{"key":"` + key + `"}]}`, "twice"},
		"a certificate and a bad name":  {"PATCH", "", `{"displayName":"","keyCredentials":[{"key":"` + key + `"}]}`, "displayName"},
		"faults of several credentials": {"PATCH", "", `{"keyCredentials":[{"key":1},{"type":"x"}]}`, "keyCredentials[1].type"},
	} {
		t.Run(name, func(t *testing.T) {
			a := p.do(tc.method, path+tc.path, tc.body).refused(400, "Request_BadRequest")
			if !strings.Contains(a.str("error.message"), tc.mentions) || strings.Contains(a.text, "hunter2") {
				t.Errorf("the message does not mention %q: %s", tc.mentions, a.text)
			}
		})
	}
	app, _ := p.directory.Application(strings.TrimPrefix(path, "/v1.0/applications/"))
	if len(app.PasswordCredentials)+len(app.KeyCredentials) != 0 {
		t.Errorf("refused requests left %v %v", app.PasswordCredentials, app.KeyCredentials)
	}
	for range directory.MaxPasswords {
		p.do("POST", path+"/addPassword", "").want(200)
	}
	p.do("POST", path+"/addPassword", "").refused(400, "Request_BadRequest")
	for _, action := range []string{"addPassword", "removePassword", "addKey", "removeKey"} {
		p.do("POST", "/v1.0/applications/11111111-1111-4111-8111-111111111111/"+action, `{}`).refused(404, "Request_ResourceNotFound")
		p.do("POST", path+"/"+action, `{}`, "Authorization", "").refused(401, "InvalidAuthenticationToken")
	}
}

func TestFederatedCredentialsOfApplications(t *testing.T) {
	p := start(t)
	path, appID := p.register("worker")
	list := path + "/federatedIdentityCredentials"
	a := p.do("POST", list, `{"name":"cluster","issuer":"https://issuer.example/","subject":"system:serviceaccount:a:b","description":"CI","audiences":["api://AzureADTokenExchange"]}`).want(201).
		is("issuer", "https://issuer.example/").is("subject", "system:serviceaccount:a:b").is("description", "CI").is("audiences", []string{"api://AzureADTokenExchange"})
	id := a.str("id")
	if a.header.Get("Location") != p.url+list+"/"+id {
		t.Errorf("Location %s", a.header.Get("Location"))
	}
	for _, one := range []string{list + "/" + id, list + "/cluster", list + "(name='Cluster')", "/v1.0/applications(appId='" + appID + "')/federatedIdentityCredentials/cluster"} {
		p.do("GET", one, "").want(200).is("id", id)
	}
	p.do("GET", list+"(name='"+id+"')", "").refused(404, "Request_ResourceNotFound")
	p.do("POST", list, `{"name":"another","issuer":"https://issuer.example","subject":"s"}`).want(201).is("description", nil)
	for f, want := range map[string]int{"": 2, filter("name eq 'another'"): 1, filter("issuer eq 'https://issuer.example/' and subject eq 'x'"): 0, filter("audiences/any(a:a eq 'api://AzureADTokenExchange')"): 2} {
		if got := p.do("GET", list+f, "").want(200); len(got.items()) != want {
			t.Errorf("%s: %s, want %d", f, got.text, want)
		}
	}
	page := p.do("GET", list+"?$top=1", "").want(200)
	next, _ := page.body["@odata.nextLink"].(string)
	if rest := p.do("GET", strings.TrimPrefix(next, p.url), "").want(200).items(); len(rest) != 1 || rest[0].(map[string]any)["name"] != "cluster" {
		t.Errorf("next page %s: %v", next, rest)
	}
	p.do("PATCH", list+"/"+id, `{"subject":"other","description":null}`).want(204)
	p.do("GET", list+"/"+id, "").want(200).is("subject", "other").is("issuer", "https://issuer.example/").is("description", "CI")
	for name, tc := range map[string]struct {
		method, path, body, code string
		status                   int
	}{
		"a name that is taken":       {"POST", "", `{"name":"CLUSTER","issuer":"https://i.example","subject":"s"}`, "Request_MultipleObjectsWithSameKeyValue", 409},
		"a pair that is taken":       {"POST", "", `{"name":"third","issuer":"https://issuer.example","subject":"s"}`, "Request_MultipleObjectsWithSameKeyValue", 409},
		"a pair that becomes taken":  {"PATCH", "/another", `{"issuer":"https://issuer.example/","subject":"other"}`, "Request_MultipleObjectsWithSameKeyValue", 409},
		"a new name":                 {"PATCH", "/another", `{"name":"third"}`, "Request_BadRequest", 400},
		"an issuer over http":        {"POST", "", `{"name":"third","issuer":"http://i.example","subject":"s"}`, "Request_BadRequest", 400},
		"no issuer":                  {"POST", "", `{"name":"third","subject":"s"}`, "Request_BadRequest", 400},
		"two audiences":              {"POST", "", `{"name":"third","issuer":"https://i.example","subject":"s","audiences":["a","b"]}`, "Request_BadRequest", 400},
		"a property that is unknown": {"POST", "", `{"name":"third","issuer":"https://i.example","subject":"s","claimsMatchingExpression":{"value":"x"}}`, "Request_BadRequest", 400},
		"one that is not there":      {"PATCH", "/third", `{"subject":"s"}`, "Request_ResourceNotFound", 404},
	} {
		t.Run(name, func(t *testing.T) { p.do(tc.method, list+tc.path, tc.body).refused(tc.status, tc.code) })
	}
	p.do("PATCH", list+"(name='third')", `{"issuer":"https://i.example","subject":"s"}`).refused(404, "Request_ResourceNotFound")
	p.do("PATCH", list+"(name='third')", `{"issuer":"https://i.example","subject":"s"}`, "Prefer", "create-if-missing").want(201).is("name", "third")
	p.do("PATCH", list+"(name='third')", `{"subject":"t"}`, "Prefer", "create-if-missing").want(204)
	for _, one := range []string{"/" + id, "/another", "(name='third')"} {
		p.do("DELETE", list+one, "").want(204)
		p.do("DELETE", list+one, "").refused(404, "Request_ResourceNotFound")
	}
	for i := range directory.MaxFederatedCredentials {
		p.do("POST", list, fmt.Sprintf(`{"name":"n%02d","issuer":"https://i.example","subject":"s%d"}`, i, i)).want(201)
	}
	p.do("POST", list, `{"name":"n20","issuer":"https://i.example","subject":"s20"}`).refused(400, "Request_BadRequest")
}

func TestFederatedCredentialsOfUserAssignedIdentities(t *testing.T) {
	p := start(t)
	robot := identitiesPath + "/robot"
	list := robot + "/federatedIdentityCredentials"
	one := list + "/cluster" + identityVersion
	const body = `{"properties":{"issuer":"https://issuer.example","subject":"s","audiences":["api://AzureADTokenExchange"]}}`
	p.do("PUT", one, body).refused(404, "ParentResourceNotFound")
	p.do("GET", list+identityVersion, "").refused(404, "ParentResourceNotFound")
	p.do("PUT", robot+identityVersion, `{"location":"local"}`).want(201)
	p.do("PUT", one, body).want(201).is("id", list+"/cluster").is("name", "cluster").is("type", "Microsoft.ManagedIdentity/userAssignedIdentities/federatedIdentityCredentials").
		is("properties", map[string]any{"issuer": "https://issuer.example", "subject": "s", "audiences": []string{"api://AzureADTokenExchange"}})
	p.do("PUT", strings.Replace(one, "cluster", "Cluster", 1), strings.Replace(body, `"s"`, `"t"`, 1)).want(200).is("name", "cluster").is("properties.subject", "t")
	p.do("GET", one, "").want(200).is("properties.subject", "t")
	p.do("PUT", list+"/second"+identityVersion, strings.Replace(body, `"s"`, `"t"`, 1)).refused(409, "IssuerSubjectConflict")
	a := p.do("PUT", list+"/s"+identityVersion, `{"properties":{"issuer":"http://x","audiences":["a","b"]}}`).refused(400, "BadRequest")
	if got := strings.Join(a.details(), " "); got != "name properties.issuer properties.subject properties.audiences" {
		t.Errorf("faults of %s", got)
	}
	p.do("PUT", one, `{"issuer":"https://x"}`).refused(400, "BadRequest")
	p.do("PUT", one, `{"properties":{"audience":"x"}}`).refused(400, "BadRequest")
	if n := len(p.do("GET", list+identityVersion, "").want(200).items()); n != 1 {
		t.Errorf("%d listed", n)
	}
	p.do("PUT", robot+identityVersion, `{"location":"local","tags":{"a":"b"}}`).want(200)
	p.do("GET", one, "").want(200)
	p.do("DELETE", one, "").want(200)
	p.do("DELETE", one, "").want(204)
	p.do("GET", one, "").refused(404, "ResourceNotFound")
	p.do("DELETE", strings.Replace(one, "robot", "nobody", 1), "").want(204)
}

func TestAppRolesAreAssignedAndSeenFromBothEnds(t *testing.T) {
	p := start(t)
	const role, forUsers = "5f9b6c1e-1111-4222-8333-444444444444", "5f9b6c1e-1111-4222-8333-555555555555"
	api := p.do("POST", "/v1.0/applications", `{"displayName":"api","appRoles":[
		{"id":"`+role+`","allowedMemberTypes":["Application"],"displayName":"Send","value":"Events.Send"},
		{"id":"`+forUsers+`","allowedMemberTypes":["User"],"displayName":"Look","value":"Look"}]}`).want(201).str("appId")
	resourcePath, resource := p.principalOf(api)
	_, worker := p.register("worker")
	clientPath, client := p.principalOf(worker)
	robot := p.do("PUT", identitiesPath+"/robot"+identityVersion, `{"location":"local"}`).want(201).str("properties.principalId")

	assign := fmt.Sprintf(`{"principalId":%q,"resourceId":%q,"appRoleId":%q}`, client, resource, role)
	a := p.do("POST", resourcePath+"/appRoleAssignedTo", assign).want(201).
		is("principalId", client).is("principalDisplayName", "worker").is("principalType", "ServicePrincipal").is("resourceId", resource).is("resourceDisplayName", "api").is("appRoleId", role)
	p.do("POST", clientPath+"/appRoleAssignments", assign).refused(400, "Request_BadRequest")
	p.do("POST", "/v1.0/servicePrincipals/"+robot+"/appRoleAssignments", fmt.Sprintf(`{"resourceId":%q,"appRoleId":"00000000-0000-0000-0000-000000000000"}`, resource)).want(201).is("principalDisplayName", "robot")
	if roles, ok := p.directory.Roles(client, resource); !ok || fmt.Sprint(roles) != "[Events.Send]" {
		t.Errorf("%v %v", roles, ok)
	}
	count := func(path string, want int) {
		t.Helper()
		if got := p.do("GET", path, "").want(200); len(got.items()) != want {
			t.Errorf("%s: %s, want %d", path, got.text, want)
		}
	}
	count(resourcePath+"/appRoleAssignedTo", 2)
	count(resourcePath+"/appRoleAssignments", 0)
	count(clientPath+"/appRoleAssignments", 1)
	count(clientPath+"/appRoleAssignments"+filter("resourceId eq "+resource), 1) // a GUID without quotes, as Graph's documents write it
	count(clientPath+"/appRoleAssignments"+filter("resourceId eq "+client), 0)
	count(resourcePath+"/appRoleAssignedTo"+filter("principalDisplayName eq 'robot' and principalType eq 'ServicePrincipal'"), 1)
	count("/v1.0/servicePrincipals(appId='"+api+"')/appRoleAssignedTo?$top=1", 1)
	count("/v1.0/servicePrincipals"+filter("accountEnabled eq true and appRoleAssignmentRequired eq false"), 3)

	for name, body := range map[string]string{
		"a role for users":       fmt.Sprintf(`{"principalId":%q,"resourceId":%q,"appRoleId":%q}`, client, resource, forUsers),
		"no role of it":          fmt.Sprintf(`{"principalId":%q,"resourceId":%q,"appRoleId":%q}`, client, resource, client),
		"nobody":                 fmt.Sprintf(`{"principalId":%q,"resourceId":%q,"appRoleId":%q}`, role, resource, role),
		"no principal":           fmt.Sprintf(`{"resourceId":%q,"appRoleId":%q}`, resource, role),
		"no role":                fmt.Sprintf(`{"principalId":%q,"resourceId":%q}`, client, resource),
		"another than the path":  fmt.Sprintf(`{"principalId":%q,"resourceId":%q,"appRoleId":%q}`, client, client, role),
		"a member that is wrong": fmt.Sprintf(`{"principalId":1,"resourceId":%q,"appRoleId":%q}`, resource, role),
		"an unknown member":      fmt.Sprintf(`{"principalId":%q,"resourceId":%q,"appRoleId":%q,"x":1}`, client, resource, role),
	} {
		t.Run(name, func(t *testing.T) {
			p.do("POST", resourcePath+"/appRoleAssignedTo", body).refused(400, "Request_BadRequest")
		})
	}
	id := a.str("id")
	p.do("GET", clientPath+"/appRoleAssignments/"+id, "").want(200).is("id", id)
	p.do("GET", resourcePath+"/appRoleAssignments/"+id, "").refused(404, "Request_ResourceNotFound")
	p.do("DELETE", "/v1.0/servicePrincipals/"+robot+"/appRoleAssignments/"+id, "").refused(404, "Request_ResourceNotFound")
	p.do("DELETE", clientPath+"/appRoleAssignments/"+id, "").want(204)
	p.do("DELETE", resourcePath+"/appRoleAssignedTo/"+id, "").refused(404, "Request_ResourceNotFound")
	if _, ok := p.directory.Roles(client, resource); ok {
		t.Error("the role is still there")
	}
}
