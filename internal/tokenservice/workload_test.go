package tokenservice

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"reflect"
	"strings"
	"testing"
	"time"

	"tabard/internal/directory"
	"tabard/internal/store"
)

// workload sends a request to the workload handler from this host.
func (h *house) workload(target string, header map[string]string) *httptest.ResponseRecorder {
	r := httptest.NewRequest("GET", target, nil)
	r.RemoteAddr, r.Host = "127.0.0.1:5", "127.0.0.1:8081"
	for name, value := range header {
		r.Header.Set(name, value)
	}
	w := httptest.NewRecorder()
	h.WorkloadHandler().ServeHTTP(w, r)
	return w
}

func (h *house) appService(query, secret string) *httptest.ResponseRecorder {
	return h.workload("/msi/token?"+query, map[string]string{"X-IDENTITY-HEADER": secret})
}

func (h *house) imds(query string) *httptest.ResponseRecorder {
	return h.workload(imdsPath+"?"+query, map[string]string{"Metadata": "true"})
}

func openWorkloads(t testing.TB, imds ...string) *house {
	return open(t, t.TempDir(), func(o *Options) {
		o.IMDS, o.HostName = imds, "laptop"
		o.WorkloadOrigin = func() string { return "http://127.0.0.1:8081" }
	})
}

func (h *house) identity(t testing.TB, name string) directory.UserAssignedIdentity {
	t.Helper()
	id := strings.TrimSuffix(identityID, "sender") + name
	u, _, err := h.directory.PutUserAssignedIdentity(t.Context(), directory.UserAssignedIdentity{ID: id, Location: "local"})
	if err != nil {
		t.Fatal(err)
	}
	return u
}

const machine = "/subscriptions/dddd0000-0000-4000-8000-00000000000d/resourceGroups/default/providers/Microsoft.HybridCompute/machines/laptop"

func TestA1A5A6A41A42BothDoorsAnswerWithTheSameBody(t *testing.T) {
	h := openWorkloads(t, "sender")
	u := h.identity(t, "sender")
	target, sp := h.register(t, directory.Application{DisplayName: "orders", IdentifierURIs: []string{"api://orders"}, AppRoles: sendRole()})
	if _, err := h.directory.AssignAppRole(t.Context(), u.PrincipalID, sp.ID, target.AppRoles[0].ID); err != nil {
		t.Fatal(err)
	}
	env := must(h.EnvFor(t.Context(), u.ID, EnvOptions{}))(t)
	for _, resource := range []string{"api://orders", "api://orders/"} { // echoed byte for byte
		query := "api-version=2019-08-01&resource=" + url.QueryEscape(resource)
		for name, w := range map[string]*httptest.ResponseRecorder{
			"App Service": h.appService(query, env["IDENTITY_HEADER"]), "IMDS": h.imds(query),
			"App Service, upper case and slash":                h.workload("/MSI/token/?"+query, map[string]string{"X-IDENTITY-HEADER": env["IDENTITY_HEADER"]}),
			"A36 IMDS with a slash, as JavaScript requests it": h.workload(imdsPath+"/?"+query, map[string]string{"Metadata": "true", "Content-Type": formType}),
		} {
			body, c := h.granted(t, w)
			now := h.clock.Now().Unix()
			want := map[string]any{
				"access_token": body["access_token"], "client_id": u.ClientID, "resource": resource, "token_type": "Bearer",
				"expires_in": "86400", "ext_expires_in": "86400", "refresh_in": float64(43200),
				"expires_on": fmt.Sprint(now + 86400), "not_before": fmt.Sprint(now - 300),
			}
			if !reflect.DeepEqual(body, want) {
				t.Errorf("%s: %v, want %v", name, body, want)
			}
			if c["aud"] != resource || c["oid"] != u.PrincipalID || c["appid"] != u.ClientID || c["xms_mirid"] != u.ID || c["xms_az_rid"] != machine || !reflect.DeepEqual(c["roles"], []any{"Events.Send"}) {
				t.Errorf("%s: claims %v", name, c)
			}
			if w.Header().Get("Cache-Control") != "no-store, no-cache" || w.Header().Get("Access-Control-Allow-Origin") != "" {
				t.Errorf("%s: %v", name, w.Header())
			}
		}
	}
}

func TestA38A39A40SelectorsAndErrorsOfAppService(t *testing.T) {
	h := openWorkloads(t)
	u, other := h.identity(t, "sender"), h.identity(t, "other")
	system := h.system(t)
	env := must(h.EnvFor(t.Context(), strings.ToUpper(u.ID), EnvOptions{}))(t)
	const good = "api-version=2019-08-01&resource=https://vault.azure.net"
	for _, row := range []struct {
		query  string
		header string
		status int
		says   string
	}{
		{good, env["IDENTITY_HEADER"], 200, ""}, // no id: the one that the header belongs to
		{good + "&client_id=" + u.ClientID, env["IDENTITY_HEADER"], 200, ""},
		{good + "&client_id=" + strings.ToUpper(u.ClientID), env["IDENTITY_HEADER"], 200, ""},
		{good + "&principal_id=" + u.PrincipalID, env["IDENTITY_HEADER"], 200, ""},
		{good + "&object_id=" + u.PrincipalID, env["IDENTITY_HEADER"], 200, ""},
		{good + "&mi_res_id=" + strings.ToLower(u.ID), env["IDENTITY_HEADER"], 200, ""},
		{good + "&msi_res_id=" + u.ID, env["IDENTITY_HEADER"], 200, ""},
		{good + "&client_id=", env["IDENTITY_HEADER"], 200, ""},
		{"api-version=2025-01-01&resource=https://vault.azure.net", env["IDENTITY_HEADER"], 200, ""},
		{good, "", 401, "X-IDENTITY-HEADER"},
		{good, "wrong", 401, "X-IDENTITY-HEADER"},
		{good, env["IDENTITY_HEADER"] + "x", 401, "X-IDENTITY-HEADER"},
		{good, u.ClientID, 401, "X-IDENTITY-HEADER"},
		{good + "&client_id=" + other.ClientID, env["IDENTITY_HEADER"], 400, "Identity not found"}, // B21
		{good + "&client_id=" + system.ClientID, env["IDENTITY_HEADER"], 400, "Identity not found"},
		{good + "&object_id=" + system.PrincipalID, env["IDENTITY_HEADER"], 400, "Identity not found"},
		{good + "&client_id=x", env["IDENTITY_HEADER"], 400, "Identity not found"},
		{good + "&client_id=" + u.ClientID + "&mi_res_id=" + u.ID, env["IDENTITY_HEADER"], 400, "only one of"}, // A38
		{good + "&client_id=" + u.ClientID + "&client_id=" + u.ClientID, env["IDENTITY_HEADER"], 400, "2 times"},
		{"api-version=2019-08-01&resource=api://nowhere", env["IDENTITY_HEADER"], 400, "AADSTS500011: The resource principal named api://nowhere"}, // A17
		{"api-version=2019-08-01", env["IDENTITY_HEADER"], 400, "'resource' is missing"},
		{"resource=https://vault.azure.net", env["IDENTITY_HEADER"], 400, "'api-version' is missing"},
		{"api-version=2017-09-01&resource=https://vault.azure.net", env["IDENTITY_HEADER"], 400, "2019-08-01"},
		{"api-version=latest&resource=https://vault.azure.net", env["IDENTITY_HEADER"], 400, "not supported"},
		{"%zz", env["IDENTITY_HEADER"], 400, "well-formed"},
	} {
		w := h.appService(row.query, row.header)
		if w.Code != row.status {
			t.Errorf("%s: %d %s, want %d", row.query, w.Code, w.Body, row.status)
			continue
		}
		if row.status == 200 {
			h.granted(t, w)
			continue
		}
		var e struct {
			StatusCode             int
			Message, CorrelationID string
		}
		if err := json.Unmarshal(w.Body.Bytes(), &e); err != nil || e.StatusCode != row.status || !strings.Contains(e.Message, row.says) || !guid.MatchString(e.CorrelationID) {
			t.Errorf("%s: %s, want %q", row.query, w.Body, row.says)
		}
	}
	r := httptest.NewRequest("POST", "/msi/token?"+good, nil)
	r.Header.Set("X-IDENTITY-HEADER", env["IDENTITY_HEADER"])
	w := httptest.NewRecorder()
	h.WorkloadHandler().ServeHTTP(w, r)
	if w.Code != 405 || w.Header().Get("Allow") != "GET" {
		t.Errorf("POST: %d", w.Code)
	}
	r = httptest.NewRequest("GET", "/msi/token?"+good, nil)
	r.Header["X-Identity-Header"] = []string{env["IDENTITY_HEADER"], env["IDENTITY_HEADER"]}
	w = httptest.NewRecorder()
	h.WorkloadHandler().ServeHTTP(w, r)
	if w.Code != 401 {
		t.Errorf("two headers: %d", w.Code)
	}
	if w := h.workload("/msi/other", nil); w.Code != 404 {
		t.Errorf("another path: %d", w.Code)
	}
}

func TestWrongIdentityHeadersAreLimitedAndRightOnesAreNot(t *testing.T) {
	h := openWorkloads(t)
	u := h.identity(t, "sender")
	env := must(h.EnvFor(t.Context(), u.ID, EnvOptions{}))(t)
	const good = "api-version=2019-08-01&resource=https://vault.azure.net"
	for range failureBurst {
		if w := h.appService(good, "guess"); w.Code != 401 {
			t.Fatal(w.Code)
		}
	}
	if w := h.appService(good, "guess"); w.Code != 429 || w.Header().Get("Retry-After") == "" {
		t.Errorf("%d, %v", w.Code, w.Header())
	}
	for range appServiceRate {
		h.granted(t, h.appService(good, env["IDENTITY_HEADER"]))
	}
	if w := h.appService(good, env["IDENTITY_HEADER"]); w.Code != 429 {
		t.Errorf("request 101 of a second: %d", w.Code)
	}
	h.clock.advance(time.Second)
	h.granted(t, h.appService(good, env["IDENTITY_HEADER"]))
}

func TestTheIdentityHeaderIsSealedKeptRotatedAndEndsWithItsIdentity(t *testing.T) {
	dir := t.TempDir()
	edit := func(o *Options) { o.WorkloadOrigin = func() string { return "http://127.0.0.1:8081" } }
	h := open(t, dir, edit)
	u := h.identity(t, "sender")
	first := must(h.EnvFor(t.Context(), u.ID, EnvOptions{}))(t)
	want := map[string]string{
		"IDENTITY_ENDPOINT": "http://127.0.0.1:8081/msi/token", "IDENTITY_HEADER": first["IDENTITY_HEADER"],
		"AZURE_CLIENT_ID": u.ClientID, "AZURE_TENANT_ID": testTenant, "AZURE_AUTHORITY_HOST": testAuthority + "/",
	}
	if !reflect.DeepEqual(first, want) || len(first["IDENTITY_HEADER"]) < 32 {
		t.Fatalf("%v", first)
	}
	h.stop()
	h = open(t, dir, edit)
	again := must(h.EnvFor(t.Context(), u.ID, EnvOptions{}))(t)
	if again["IDENTITY_HEADER"] != first["IDENTITY_HEADER"] {
		t.Error("a restart changed the secret")
	}
	const good = "api-version=2019-08-01&resource=https://vault.azure.net"
	h.granted(t, h.appService(good, first["IDENTITY_HEADER"]))
	rotated := must(h.EnvFor(t.Context(), u.ID, EnvOptions{Rotate: true}))(t)
	if rotated["IDENTITY_HEADER"] == first["IDENTITY_HEADER"] || h.appService(good, first["IDENTITY_HEADER"]).Code != 401 {
		t.Error("the old secret still works after the rotation")
	}
	h.granted(t, h.appService(good, rotated["IDENTITY_HEADER"]))

	if err := h.directory.DeleteUserAssignedIdentity(t.Context(), u.ID); err != nil {
		t.Fatal(err)
	}
	if w := h.appService(good, rotated["IDENTITY_HEADER"]); w.Code != 401 {
		t.Errorf("after the identity's end: %d", w.Code)
	}
	if _, err := h.EnvFor(t.Context(), u.ID, EnvOptions{}); err == nil {
		t.Error("a deleted identity has an environment")
	}
	u = h.identity(t, "sender") // the same name, another identity
	if w := h.appService(good, rotated["IDENTITY_HEADER"]); w.Code != 401 {
		t.Errorf("under a new identity of the same name: %d", w.Code)
	}
	fresh := must(h.EnvFor(t.Context(), u.ID, EnvOptions{}))(t)
	h.granted(t, h.appService(good, fresh["IDENTITY_HEADER"]))
	if err := h.headers.forgetDeleted(t.Context(), h.directory); err != nil || len(h.headers.stored.All()) != 1 {
		t.Errorf("%v, %d kept", err, len(h.headers.stored.All()))
	}
	if err := h.directory.DeleteUserAssignedIdentity(t.Context(), u.ID); err != nil {
		t.Fatal(err)
	}
	if err := h.headers.forgetDeleted(t.Context(), h.directory); err != nil || len(h.headers.stored.All()) != 0 {
		t.Errorf("%v, %d kept", err, len(h.headers.stored.All()))
	}
}

func TestTheEnvironmentOfWorkloadIdentityHoldsNoSecret(t *testing.T) {
	h := openWorkloads(t)
	u := h.identity(t, "sender")
	env := must(h.EnvFor(t.Context(), u.ID, EnvOptions{FederatedTokenFile: "/var/run/token"}))(t)
	want := map[string]string{"AZURE_CLIENT_ID": u.ClientID, "AZURE_TENANT_ID": testTenant, "AZURE_AUTHORITY_HOST": testAuthority + "/", "AZURE_FEDERATED_TOKEN_FILE": "/var/run/token"}
	if !reflect.DeepEqual(env, want) {
		t.Errorf("%v", env)
	}
	c := must(store.OpenCollection[identityHeader](t.Context(), h.store, "identity-headers", store.Schema{Version: 1}))(t)
	if len(c.All()) != 0 {
		t.Error("a secret was made that nobody asked for")
	}
}

func TestA35A37A38A39SelectorsAndErrorsOfIMDS(t *testing.T) {
	h := openWorkloads(t, "sender", strings.ToUpper(identityID), "gone")
	u, other := h.identity(t, "sender"), h.identity(t, "other")
	system := h.system(t)
	const good = "api-version=2018-02-01&resource=https://vault.azure.net"
	metadata := map[string]string{"Metadata": "true"}
	for _, row := range []struct {
		name, query string
		header      map[string]string
		status      int
		code, says  string
	}{
		{"no id: the only one", good, metadata, 200, "", ""},
		{"by client id", good + "&client_id=" + u.ClientID, metadata, 200, "", ""},
		{"by object id", good + "&object_id=" + u.PrincipalID, metadata, 200, "", ""},
		{"by principal id", good + "&principal_id=" + u.PrincipalID, metadata, 200, "", ""},
		{"by resource id", good + "&msi_res_id=" + url.QueryEscape(u.ID), metadata, 200, "", ""},
		{"A35 no header", good, nil, 400, "bad_request_102", "Required metadata header not specified"},
		{"A35 a wrong header", good, map[string]string{"Metadata": "True"}, 400, "bad_request_102", ""},
		{"B19 forwarded", good, map[string]string{"Metadata": "true", "X-Forwarded-For": "192.0.2.1"}, 400, "invalid_request", "forwarded"},
		{"A37 not on the list", good + "&client_id=" + other.ClientID, metadata, 400, "invalid_request", "Identity not found"},
		{"the service's own identity", good + "&client_id=" + system.ClientID, metadata, 400, "invalid_request", "Identity not found"},
		{"A38 two ids", good + "&client_id=" + u.ClientID + "&object_id=" + u.PrincipalID, metadata, 400, "invalid_request", "Only one of"},
		{"no version", "resource=https://vault.azure.net", metadata, 400, "invalid_request", "api-version"},
		{"an old version", "api-version=2017-01-01&resource=https://vault.azure.net", metadata, 400, "invalid_request", "2018-02-01"},
		{"no resource", "api-version=2018-02-01&resource=", metadata, 400, "invalid_request", "'resource'"},
		{"an unknown resource", "api-version=2018-02-01&resource=api://nowhere", metadata, 400, "invalid_resource", "AADSTS500011: The resource principal named api://nowhere"},
	} {
		t.Run(row.name, func(t *testing.T) {
			w := h.workload(imdsPath+"?"+row.query, row.header)
			if w.Code != row.status {
				t.Fatalf("%d %s, want %d", w.Code, w.Body, row.status)
			}
			if row.status == 200 {
				h.granted(t, w)
				return
			}
			var e struct {
				Error       string
				Description string `json:"error_description"`
			}
			if err := json.Unmarshal(w.Body.Bytes(), &e); err != nil || e.Error != row.code || !strings.Contains(e.Description, row.says) {
				t.Errorf("%s, want %s %q", w.Body, row.code, row.says)
			}
		})
	}
	h.clock.advance(time.Second)
	for range imdsRate {
		h.granted(t, h.imds(good))
	}
	if w := h.imds(good); w.Code != 429 || w.Header().Get("Retry-After") != "1" {
		t.Errorf("request 21 of a second: %d", w.Code)
	}
}

func TestA39SeveralIdentitiesAndNoneNamed(t *testing.T) {
	h := openWorkloads(t, "sender", "other")
	u := h.identity(t, "sender")
	h.identity(t, "other")
	const good = "api-version=2018-02-01&resource=https://vault.azure.net"
	if w := h.imds(good); w.Code != 400 || !strings.Contains(w.Body.String(), "Multiple user assigned identities exist") {
		t.Errorf("%d %s", w.Code, w.Body)
	}
	if body, _ := h.granted(t, h.imds(good+"&client_id="+u.ClientID)); body["client_id"] != u.ClientID {
		t.Errorf("%v", body)
	}
}

func TestB18IMDSIsOffByDefaultAndForThisHostOnly(t *testing.T) {
	const good = "api-version=2018-02-01&resource=https://vault.azure.net"
	off := openWorkloads(t)
	u := off.identity(t, "sender")
	if w := off.imds(good + "&client_id=" + u.ClientID); w.Code != 400 || !strings.Contains(w.Body.String(), "off") {
		t.Errorf("while it is off: %d %s", w.Code, w.Body)
	}
	h := openWorkloads(t, "sender")
	h.identity(t, "sender")
	for address, status := range map[string]int{"127.0.0.1:5": 200, "127.9.9.9:5": 200, "[::1]:5": 200, "[::ffff:127.0.0.1]:5": 200, "192.0.2.1:5": 403, "10.0.0.1:5": 403, "[fe80::1]:5": 403, "": 403} {
		r := httptest.NewRequest("GET", imdsPath+"?"+good, nil)
		r.RemoteAddr, r.Host = address, "169.254.169.254"
		r.Header.Set("Metadata", "true")
		w := httptest.NewRecorder()
		h.WorkloadHandler().ServeHTTP(w, r)
		if w.Code != status {
			t.Errorf("from %q: %d, want %d", address, w.Code, status)
		}
	}
	// A web page whose name resolves to this host is kept from what it would ask for in its own name.
	for host, status := range map[string]int{"localhost:8081": 200, "[::1]:8081": 200, "wps.localhost": 200, "127.0.0.1": 200, "rebound.example": 403, "rebound.example:8081": 403, "localhost.example": 403, "": 403} {
		r := httptest.NewRequest("GET", imdsPath+"?"+good, nil)
		r.RemoteAddr, r.Host = "127.0.0.1:5", host
		r.Header.Set("Metadata", "true")
		w := httptest.NewRecorder()
		h.WorkloadHandler().ServeHTTP(w, r)
		if w.Code != status {
			t.Errorf("for %q: %d, want %d", host, w.Code, status)
		}
	}
	r := httptest.NewRequest("POST", imdsPath+"?"+good, nil)
	r.RemoteAddr, r.Host = "127.0.0.1:5", "127.0.0.1:8081"
	r.Header.Set("Metadata", "true")
	w := httptest.NewRecorder()
	h.WorkloadHandler().ServeHTTP(w, r)
	if w.Code != http.StatusMethodNotAllowed {
		t.Errorf("POST: %d", w.Code)
	}
}

func FuzzWorkloadQuery(f *testing.F) {
	f.Add("api-version=2018-02-01&resource=https://vault.azure.net&client_id=x")
	f.Add("client_id=a&client_id=b")
	f.Add("%zz&=;")
	f.Fuzz(func(t *testing.T, query string) {
		q, problem := readWorkload(&http.Request{URL: &url.URL{RawQuery: query}}, "2018-02-01")
		if problem == "" && (q.resource == "" || q.version < "2018-02-01" || (q.selector == "") != (q.id == "")) {
			t.Fatalf("accepted: %+v", q)
		}
	})
}
