package arm

import (
	"net/http"
	"regexp"
	"strings"
	"testing"
)

var guidText = regexp.MustCompile(`^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$`)

func TestEveryAnswerNamesItsRequest(t *testing.T) {
	p := start(t)
	for _, path := range []string{theDefault + version, theDefault, "/nowhere", webPubSubs + "/nobody" + version} {
		a := p.do("GET", path, "", "x-ms-client-request-id", "mine", "x-ms-return-client-request-id", "true", "x-ms-correlation-request-id", "theirs")
		h := a.header
		if !guidText.MatchString(h.Get("X-Ms-Request-Id")) || h.Get("X-Ms-Correlation-Request-Id") != "theirs" || h.Get("X-Ms-Client-Request-Id") != "mine" {
			t.Errorf("%s: headers %v", path, h)
		}
		if h.Get("Content-Type") != "application/json; charset=utf-8" || h.Get("X-Go-Azure-Sdk-Skip-Polling-Delay") != "true" || h.Get("Cache-Control") != "no-store" {
			t.Errorf("%s: headers %v", path, h)
		}
	}
	a := p.do("GET", theDefault+version, "", "x-ms-client-request-id", "mine")
	if a.header.Get("X-Ms-Client-Request-Id") != "" || a.header.Get("X-Ms-Correlation-Request-Id") != a.header.Get("X-Ms-Request-Id") {
		t.Errorf("unasked: %v", a.header)
	}
}

func TestWithoutAuthorizationNothingIsServedOnEitherSurface(t *testing.T) {
	p := start(t)
	for _, path := range []string{theDefault + version, theDefault, "/nowhere", "/subscriptions"} {
		a := p.do("GET", path, "", "Authorization", "Bearer wrong").refused(401, "AuthenticationFailed")
		want := `Bearer authorization_uri="https://127.0.0.1:8080/` + p.directory.TenantID() + `", error="invalid_token", error_description="Authentication failed: the 'Authorization' header is missing or wrong"`
		if got := a.header.Get("WWW-Authenticate"); got != want {
			t.Errorf("%s: WWW-Authenticate %s, want %s", path, got, want)
		}
	}
	for _, path := range []string{"/v1.0/applications", "/V1.0/nothing"} {
		a := p.do("GET", path, "", "Authorization", "").refused(401, "InvalidAuthenticationToken")
		want := `Bearer realm="", authorization_uri="https://127.0.0.1:8080/common/oauth2/authorize", client_id="00000003-0000-0000-c000-000000000000"`
		if got := a.header.Get("WWW-Authenticate"); got != want {
			t.Errorf("%s: WWW-Authenticate %s, want %s", path, got, want)
		}
	}
	closed := start(t, func(o *Options) { o.Authorize = nil })
	closed.do("GET", theDefault+version, "").refused(401, "AuthenticationFailed")
}

func TestApiVersionsAreRequiredAndListed(t *testing.T) {
	p := start(t)
	p.do("GET", theDefault, "").refused(400, "MissingApiVersionParameter")
	p.do("GET", theDefault+"?api-version=latest", "").refused(400, "InvalidApiVersionParameter")
	p.do("GET", theDefault+"?api-version=2024-13", "").refused(400, "InvalidApiVersionParameter")
	a := p.do("GET", theDefault+"/hubs?api-version=2020-01-01", "").refused(400, "NoRegisteredProviderFound")
	if m := a.str("error.message"); !strings.Contains(m, "webPubSub/hubs") || !strings.Contains(m, "2024-03-01") {
		t.Errorf("the message does not name type and supported versions: %s", m)
	}
	for _, v := range webPubSubVersions.list {
		p.do("GET", theDefault+"?Api-Version="+v, "").want(200)
	}
	for _, v := range []string{"2018-11-30", "2023-01-31", "2024-11-30", "2031-01-01-preview"} {
		p.do("GET", identitiesPath+"?api-version="+v, "").want(200)
	}
	p.do("GET", identitiesPath+"?api-version=2015-08-31-preview", "").refused(400, "NoRegisteredProviderFound")
}

func TestPathsAreMatchedIgnoringCaseInTheirEscapedForm(t *testing.T) {
	p := start(t)
	for _, path := range []string{
		strings.ToLower(theDefault), strings.ToUpper(theDefault), "/" + theDefault, "///" + theDefault, theDefault + "/",
		strings.Replace(theDefault, "default/providers", "%64efault/providers", 1),
	} {
		p.do("GET", path+version, "").want(200).is("name", "default")
	}
	for _, path := range []string{
		strings.Replace(theDefault, "/providers", "//providers", 1), // an empty segment within
		theDefault + "/nothing", "/", "", "/subscriptions/x/y", theDefault + "/hubs/a%2Fb/c", strings.Repeat("/x", 200), "/v1.0x/applications",
	} {
		p.do("GET", path+version, "").refused(404, "InvalidResourceType")
	}
	p.do("GET", theDefault+"/hubs/a%2Fb"+version, "").refused(404, "ResourceNotFound") // one segment, a name that cannot be
	a := p.do("POST", theDefault+version, "").refused(405, "MethodNotAllowed")
	if got := a.header.Get("Allow"); got != "DELETE, GET, PATCH, PUT" {
		t.Errorf("Allow: %s", got)
	}
	p.do("HEAD", theDefault+version, "").want(200)
}

func TestBodiesAreReadStrictly(t *testing.T) {
	p := start(t)
	put := theDefault + "/hubs/chat" + version
	for _, tc := range []struct {
		name, body string
		status     int
		code       string
	}{
		{"nothing", "", 400, "InvalidRequestContent"},
		{"blanks", "  \n", 400, "InvalidRequestContent"},
		{"not JSON", "properties: {}", 400, "InvalidRequestContent"},
		{"half an object", `{"properties":{`, 400, "InvalidRequestContent"},
		{"an array", `[{"properties":{}}]`, 400, "InvalidRequestContent"},
		{"null", `null`, 400, "InvalidRequestContent"},
		{"something after it", `{"properties":{}} {}`, 400, "InvalidRequestContent"},
		{"a member twice", `{"properties":{"eventHandlers":[],"eventHandlers":[]}}`, 400, "InvalidRequestContent"},
		{"not UTF-8", "{\"properties\":{\"anonymousConnectPolicy\":\"\xff\"}}", 400, "InvalidRequestContent"},
		{"nested without end", `{"properties":` + strings.Repeat(`[`, 100_000), 400, "InvalidRequestContent"},
		{"a trailing comma", `{"properties":{},}`, 400, "InvalidRequestContent"},
		{"more than a mebibyte", `{"properties":{"x":"` + strings.Repeat("x", maxBody) + `"}}`, 413, "RequestContentTooLarge"},
	} {
		t.Run(tc.name, func(t *testing.T) { p.do("PUT", put, tc.body).refused(tc.status, tc.code) })
	}
	p.do("PUT", put, `{"properties":{}}`, "Content-Type", "text/plain").refused(415, "UnsupportedMediaType")
	p.do("PUT", put, `{"properties":{}}`, "Content-Type", "application/json; charset=utf-8").want(201)
}

func TestSubscriptionsAndProvidersAreListed(t *testing.T) {
	p := start(t)
	const v = "?api-version=2022-12-01"
	p.do("GET", "/subscriptions"+v, "").want(200)
	p.do("GET", sub+v, "").want(200).is("subscriptionId", testSubscription).is("state", "Enabled").is("tenantId", p.directory.TenantID())
	if tenants := p.do("GET", "/tenants"+v, "").want(200).items(); tenants[0].(map[string]any)["tenantId"] != p.directory.TenantID() {
		t.Errorf("tenants: %v", tenants)
	}
	p.do("GET", sub+"/locations"+v, "").want(200)
	p.do("PUT", sub+"/resourceGroups/Robots/providers/Microsoft.ManagedIdentity/userAssignedIdentities/robot"+identityVersion, `{"location":"local"}`).want(201)
	groups := p.do("GET", sub+"/resourcegroups"+v, "").want(200).items()
	if len(groups) != 2 || groups[1].(map[string]any)["name"] != "Robots" {
		t.Errorf("groups: %v", groups)
	}
	if n := len(p.do("GET", sub+"/resources"+v, "").want(200).items()); n != 3 {
		t.Errorf("%d resources, want 3", n)
	}
	if n := len(p.do("GET", sub+"/resourceGroups/robots/resources"+v, "").want(200).items()); n != 1 {
		t.Errorf("%d resources in the group, want 1", n)
	}
	if n := len(p.do("GET", sub+"/providers"+v, "").want(200).items()); n != 5 {
		t.Errorf("%d providers, want 5", n)
	}
	p.do("GET", sub+"/providers/microsoft.signalrservice"+v, "").want(200).is("registrationState", "Registered").is("namespace", "Microsoft.SignalRService")
	p.do("POST", sub+"/providers/Microsoft.ManagedIdentity/register"+v, "").want(200).is("registrationState", "Registered")
	p.do("GET", sub+"/providers/Microsoft.Storage"+v, "").refused(404, "InvalidResourceNamespace")
}

func TestAFailureOfTheServiceIsLoggedAndNotTold(t *testing.T) {
	p := start(t)
	c := &call{r: httptestRequest(t), id: "the-request"}
	err := p.handler.toARM(c, http.ErrBodyNotAllowed)
	if err.Status != 500 || err.Code != "InternalServerError" || strings.Contains(err.Message, "body") {
		t.Errorf("told: %+v", err)
	}
	if got := p.handler.toGraph(c, http.ErrBodyNotAllowed); got.Status != 500 || strings.Contains(got.Message, "body") {
		t.Errorf("told: %+v", got)
	}
	if !strings.Contains(p.log.String(), "the-request") || !strings.Contains(p.log.String(), http.ErrBodyNotAllowed.Error()) {
		t.Errorf("logged: %s", p.log.String())
	}
}

func httptestRequest(t *testing.T) *http.Request {
	r, err := http.NewRequestWithContext(t.Context(), "GET", "http://localhost/", nil)
	if err != nil {
		t.Fatal(err)
	}
	return r
}
