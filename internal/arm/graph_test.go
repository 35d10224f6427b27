package arm

import (
	"fmt"
	"net/url"
	"strings"
	"testing"
)

func filter(text string) string { return "?$filter=" + url.QueryEscape(text) }

func TestApplicationsAreCreatedFoundChangedAndDeleted(t *testing.T) {
	p := start(t)
	a := p.do("POST", "/v1.0/applications", `{"displayName":"handler 'a'","identifierUris":["api://handler-a"],"signInAudience":"AzureADMyOrg",
		"api":{"requestedAccessTokenVersion":2,"oauth2PermissionScopes":[],"acceptMappedClaims":null},
		"appRoles":[{"id":"5f9b6c1e-1111-4222-8333-444444444444","allowedMemberTypes":["Application"],"displayName":"Send","description":"Sends","value":"Events.Send"}],
		"web":{"redirectUris":[],"implicitGrantSettings":{"enableIdTokenIssuance":false}},"tags":[],"description":null,"@odata.type":"#microsoft.graph.application"}`).want(201).
		is("displayName", "handler 'a'").is("identifierUris", []string{"api://handler-a"}).is("signInAudience", "AzureADMyOrg").
		is("api", map[string]any{"requestedAccessTokenVersion": 2, "oauth2PermissionScopes": []any{}}).is("passwordCredentials", []any{})
	id, appID := a.str("id"), a.str("appId")
	if a.header.Get("Location") != p.url+"/v1.0/applications/"+id || a.header.Get("OData-Version") != "4.0" || a.header.Get("Request-Id") == "" {
		t.Errorf("headers %v", a.header)
	}
	p.do("POST", "/v1.0/applications", `{"displayName":"other"}`).want(201).is("identifierUris", []any{}).is("api.requestedAccessTokenVersion", nil)
	for _, path := range []string{
		"/v1.0/applications/" + id, "/v1.0/applications(appId='" + appID + "')", "/V1.0/Applications(AppId='" + strings.ToUpper(appID) + "')",
	} {
		p.do("GET", path, "").want(200).is("id", id).is("|@odata.context", nil)
	}
	for _, f := range []string{
		"appId eq '" + appID + "'", "displayName eq 'Handler ''A'''", "identifierUris/any(x:x eq 'api://handler-a')", "identifierUris/any( uri : uri  eq  'API://handler-a' )",
		"startswith(displayName,'hand')", "id eq '" + id + "' and startswith( displayName , 'handler' )",
	} {
		list := p.do("GET", "/v1.0/applications"+filter(f), "").want(200)
		if items := list.items(); len(items) != 1 || items[0].(map[string]any)["id"] != id {
			t.Errorf("%s finds %s", f, list.text)
		}
	}
	if n := len(p.do("GET", "/v1.0/applications"+filter("displayName eq 'nobody'"), "").want(200).items()); n != 0 {
		t.Errorf("%d found, want none", n)
	}
	p.do("PATCH", "/v1.0/applications/"+id, `{"displayName":"renamed","api":{"requestedAccessTokenVersion":null},"appRoles":[]}`).want(204)
	p.do("GET", "/v1.0/applications/"+id, "").want(200).is("displayName", "renamed").is("identifierUris", []string{"api://handler-a"}).
		is("api.requestedAccessTokenVersion", nil).is("appRoles", []any{}).is("appId", appID)
	p.do("PATCH", "/v1.0/applications(appId='"+appID+"')", `{"identifierUris":[]}`).want(204)
	p.do("GET", "/v1.0/applications/"+id, "").want(200).is("identifierUris", []any{}).is("displayName", "renamed")
	p.do("DELETE", "/v1.0/applications/"+id, "").want(204)
	for _, method := range []string{"GET", "DELETE", "PATCH"} {
		p.do(method, "/v1.0/applications/"+id, map[string]string{"PATCH": "{}"}[method]).refused(404, "Request_ResourceNotFound")
	}
	p.do("GET", "/v1.0/applications/"+appID, "").refused(404, "Request_ResourceNotFound")
}

func TestAnAppIdIsNoObjectId(t *testing.T) {
	p := start(t)
	a := p.do("POST", "/v1.0/applications", `{"displayName":"a"}`).want(201)
	p.do("GET", "/v1.0/applications/"+a.str("appId"), "").refused(404, "Request_ResourceNotFound")
	p.do("GET", "/v1.0/applications(appId='"+a.str("id")+"')", "").refused(404, "Request_ResourceNotFound")
}

func TestBadGraphRequestsAreRefusedInGraphsShape(t *testing.T) {
	p := start(t)
	taken := p.do("POST", "/v1.0/applications", `{"displayName":"a","identifierUris":["api://a"]}`).want(201).str("id")
	for _, tc := range []struct {
		name, method, path, body string
		status                   int
		code, mentions           string
	}{
		{"no display name", "POST", "applications", `{}`, 400, "Request_BadRequest", "displayName"},
		{"several faults at once", "POST", "applications", `{"identifierUris":["nonsense"],"appRoles":[{"id":"x"}]}`, 400, "Request_BadRequest", "appRoles[0].displayName"},
		{"wrong types", "POST", "applications", `{"displayName":1,"identifierUris":"api://x","api":[],"appRoles":[{"isEnabled":"yes","kind":1}]}`, 400, "Request_BadRequest", "appRoles[0].kind"},
		{"something that is not kept", "POST", "applications", `{"displayName":"b","web":{"redirectUris":["http://localhost"]}}`, 400, "Request_BadRequest", "'web'"},
		{"another audience", "POST", "applications", `{"displayName":"b","signInAudience":"AzureADMultipleOrgs"}`, 400, "Request_BadRequest", "signInAudience"},
		{"a URI of another application", "POST", "applications", `{"displayName":"b","identifierUris":["api://a/"]}`, 400, "Request_BadRequest", "already exists"},
		{"a token version that does not exist", "PATCH", "applications/" + taken, `{"api":{"requestedAccessTokenVersion":3}}`, 400, "Request_BadRequest", "requestedAccessTokenVersion"},
		{"no JSON", "POST", "applications", `displayName=b`, 400, "Request_BadRequest", "Unable to read JSON"},
		{"a member twice", "POST", "applications", `{"displayName":"b","displayName":"c"}`, 400, "Request_BadRequest", "twice"},
		{"too much", "POST", "applications", `{"displayName":"` + strings.Repeat("b", maxBody) + `"}`, 413, "RequestEntityTooLarge", "limit"},
		{"an unknown collection", "GET", "users", ``, 400, "BadRequest", "/v1.0/users"},
		{"a wrong method", "PUT", "applications", `{}`, 405, "Request_BadRequest", "not allowed"},
		{"a filter of an unknown field", "GET", "applications" + filter("nobody eq 'x'"), ``, 400, "Request_UnsupportedQuery", "nobody"},
		{"a list compared as a value", "GET", "applications" + filter("identifierUris eq 'x'"), ``, 400, "Request_UnsupportedQuery", "identifierUris"},
		{"a filter that ends early", "GET", "applications" + filter("displayName eq 'x"), ``, 400, "Request_UnsupportedQuery", "Supported are"},
		{"a disjunction", "GET", "applications" + filter("appId eq 'x' or appId eq 'y'"), ``, 400, "Request_UnsupportedQuery", "or appId"},
		{"a search", "GET", "applications?$search=x", ``, 400, "Request_UnsupportedQuery", "$search"},
		{"a page of nothing", "GET", "applications?$top=0", ``, 400, "Request_UnsupportedQuery", "page size"},
		{"a page token that is none", "GET", "applications?$skiptoken=%20", ``, 400, "Request_UnsupportedQuery", "skiptoken"},
		{"a principal of nobody", "POST", "servicePrincipals", `{"appId":"11111111-1111-4111-8111-111111111111"}`, 400, "Request_BadRequest", "does not reference a valid application"},
		{"a principal of no appId", "POST", "servicePrincipals", `{}`, 400, "Request_BadRequest", "appId"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			a := p.do(tc.method, "/v1.0/"+tc.path, tc.body, "client-request-id", "mine").refused(tc.status, tc.code)
			if !strings.Contains(a.str("error.message"), tc.mentions) {
				t.Errorf("the message does not mention %q: %s", tc.mentions, a.text)
			}
			if a.str("error.innerError.client-request-id") != "mine" || a.str("error.innerError.request-id") != a.header.Get("Request-Id") || a.header.Get("Client-Request-Id") != "mine" {
				t.Errorf("the request is not named: %s", a.text)
			}
		})
	}
	if n := len(p.directory.Applications()); n != 1 {
		t.Errorf("%d applications, want 1: a refused request made one", n)
	}
}

func TestServicePrincipalsOfApplicationsAndIdentities(t *testing.T) {
	p := start(t)
	appID := p.do("POST", "/v1.0/applications", `{"displayName":"a","identifierUris":["api://a"],"appRoles":[{"allowedMemberTypes":["Application"],"displayName":"R","value":"r"}]}`).want(201).str("appId")
	if n := len(p.do("GET", "/v1.0/servicePrincipals", "").want(200).items()); n != 0 {
		t.Errorf("%d principals, want none: an application has none of itself", n)
	}
	sp := p.do("POST", "/v1.0/servicePrincipals", fmt.Sprintf(`{"appId":%q,"appRoleAssignmentRequired":true}`, appID)).want(201).
		is("servicePrincipalType", "Application").is("servicePrincipalNames", []string{appID, "api://a"}).is("appRoleAssignmentRequired", true).
		is("accountEnabled", true).is("appOwnerOrganizationId", p.directory.TenantID()).is("alternativeNames", []any{})
	id := sp.str("id")
	if roles := sp.get("appRoles").([]any); len(roles) != 1 {
		t.Errorf("roles: %v", roles)
	}
	p.do("POST", "/v1.0/servicePrincipals", fmt.Sprintf(`{"appId":%q}`, appID)).refused(409, "Request_MultipleObjectsWithSameKeyValue")
	p.do("PATCH", "/v1.0/servicePrincipals/"+id, `{"accountEnabled":false}`).want(204)
	p.do("PATCH", "/v1.0/servicePrincipals/"+id, `{"displayName":"x"}`).refused(400, "Request_BadRequest")
	p.do("GET", "/v1.0/servicePrincipals(appId='"+appID+"')", "").want(200).is("id", id).is("accountEnabled", false).is("appRoleAssignmentRequired", true)

	identity := p.do("PATCH", theDefault+version, `{"identity":{"type":"SystemAssigned"}}`).want(200).str("identity.principalId")
	p.do("GET", "/v1.0/servicePrincipals/"+identity, "").want(200).is("servicePrincipalType", "ManagedIdentity").is("displayName", "default").
		is("appOwnerOrganizationId", nil).is("alternativeNames", []string{"isExplicit=False", p.do("GET", theDefault+version, "").str("id")})
	for f, want := range map[string]string{
		"servicePrincipalType eq 'ManagedIdentity'":         identity,
		"servicePrincipalNames/any(c:c eq 'api://a')":       id,
		"servicePrincipalNames/any(c:c eq '" + appID + "')": id,
		"appId eq '" + appID + "'":                          id,
		"displayName eq 'default'":                          identity,
		"alternativeNames/any(n:n eq 'isExplicit=False')":   identity,
	} {
		list := p.do("GET", "/v1.0/servicePrincipals"+filter(f), "").want(200)
		if items := list.items(); len(items) != 1 || items[0].(map[string]any)["id"] != want {
			t.Errorf("%s finds %s", f, list.text)
		}
	}
	p.do("DELETE", "/v1.0/servicePrincipals/"+identity, "").refused(403, "Authorization_RequestDenied")
	p.do("DELETE", "/v1.0/servicePrincipals/"+id, "").want(204)
	p.do("DELETE", "/v1.0/servicePrincipals/"+id, "").refused(404, "Request_ResourceNotFound")
	p.do("GET", "/v1.0/applications(appId='"+appID+"')", "").want(200)
}

func TestListsArePagedOnDemand(t *testing.T) {
	p := start(t)
	for _, name := range []string{"c", "a", "b", "a"} {
		p.do("POST", "/v1.0/applications", `{"displayName":"`+name+`"}`).want(201)
	}
	var names []string
	link := p.url + "/v1.0/applications?$top=2&$select=id&$count=true" + "&" + filter("startswith(displayName,'')")[1:]
	for pages := 0; link != ""; pages++ {
		if pages == 5 {
			t.Fatal("the pages do not end")
		}
		link = strings.Replace(link, "skiptoken", "SkipToken", 1) // some clients write it so; it must not come back beside the next
		a := p.do("GET", strings.TrimPrefix(link, p.url), "").want(200)
		for _, item := range a.items() {
			names = append(names, item.(map[string]any)["displayName"].(string))
		}
		link, _ = a.body["@odata.nextLink"].(string)
		if link != "" && !strings.HasPrefix(link, p.url+"/v1.0/applications?") {
			t.Fatalf("next link %s", link)
		}
	}
	if got := strings.Join(names, ""); got != "aabc" {
		t.Errorf("got %s, want aabc", got)
	}
}

func FuzzFilter(f *testing.F) {
	for _, seed := range []string{"appId eq 'x'", "identifierUris/any(x:x eq 'y''z')", "startswith(displayName,'a') and id eq ''", "a eq 'b' and", "/any(:)", "and and", "'"} {
		f.Add(seed)
	}
	fields := map[string]bool{"appId": false, "displayName": false, "identifierUris": true, "id": false}
	f.Fuzz(func(t *testing.T, text string) {
		conditions, err := parseFilter(text, fields)
		if (err == nil) != (len(conditions) > 0) {
			t.Fatalf("%d conditions and %v", len(conditions), err)
		}
		// What was understood, written out again, must mean the same.
		var again []string
		for _, c := range conditions {
			value := "'" + strings.ReplaceAll(c.value, "'", "''") + "'"
			switch {
			case fields[c.field]:
				again = append(again, c.field+"/any(x:x eq "+value+")")
			case c.prefix:
				again = append(again, "startswith("+c.field+","+value+")")
			default:
				again = append(again, c.field+" eq "+value)
			}
		}
		if err == nil {
			second, err := parseFilter(strings.Join(again, " and "), fields)
			if err != nil || fmt.Sprint(second) != fmt.Sprint(conditions) {
				t.Fatalf("%q became %v, then %v, %v", text, conditions, second, err)
			}
		}
	})
}
