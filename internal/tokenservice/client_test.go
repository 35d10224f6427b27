package tokenservice

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"reflect"
	"strings"
	"testing"
	"time"

	"tabard/internal/directory"
)

// post sends a token request for client_credentials. params are name, value, name, value…
func (h *house) post(version int, edit func(*http.Request), params ...string) *httptest.ResponseRecorder {
	form := url.Values{"grant_type": {"client_credentials"}}
	for i := 0; i < len(params); i += 2 {
		form.Set(params[i], params[i+1])
	}
	path := "/" + testTenant + "/oauth2/token"
	if version == 2 {
		path = "/" + testTenant + "/oauth2/v2.0/token"
	}
	return h.do("POST", path, func(r *http.Request) {
		r.Body = io.NopCloser(strings.NewReader(form.Encode()))
		r.Header.Set("Content-Type", formType)
		if edit != nil {
			edit(r)
		}
	})
}

// granted decodes an answer that must be a token, verifies its signature and returns body and claims.
func (h *house) granted(t testing.TB, w *httptest.ResponseRecorder) (body map[string]any, claims map[string]any) {
	t.Helper()
	if w.Code != 200 {
		t.Fatalf("%d %s", w.Code, w.Body)
	}
	if err := json.Unmarshal(w.Body.Bytes(), &body); err != nil {
		t.Fatal(err)
	}
	return body, h.claims(t, body["access_token"])
}

// claims verifies a token with the published keys.
func (h *house) claims(t testing.TB, raw any) (claims map[string]any) {
	t.Helper()
	a, refused := parseAssertion(raw.(string), "RS256")
	if refused != nil {
		t.Fatal(refused)
	}
	if key := h.ownKey(a.header.Kid); key == nil || !a.signedBy(key) {
		t.Fatal("the token is not signed with a published key")
	}
	if err := json.Unmarshal(a.jws.UnsafePayloadWithoutVerification(), &claims); err != nil {
		t.Fatal(err)
	}
	return claims
}

func (h *house) secret(t testing.TB, app directory.Application) string {
	t.Helper()
	_, secret, err := h.directory.AddPassword(t.Context(), app.AppID, directory.PasswordCredential{})
	if err != nil {
		t.Fatal(err)
	}
	return secret
}

func TestA21AClientGetsATokenForItsSecretByFormAndByBasic(t *testing.T) {
	h := start(t)
	client, sp := h.register(t, directory.Application{DisplayName: "client"})
	target, _ := h.register(t, directory.Application{DisplayName: "orders", IdentifierURIs: []string{"api://orders"}})
	secret := h.secret(t, client)
	for _, version := range []int{1, 2} {
		for name, edit := range map[string]func(*http.Request){
			"form": nil,
			"Basic": func(r *http.Request) {
				body := must(io.ReadAll(r.Body))(t)
				form := must(url.ParseQuery(string(body)))(t)
				form.Del("client_id")
				form.Del("client_secret")
				r.Body = io.NopCloser(strings.NewReader(form.Encode()))
				r.Header.Set("Authorization", "Basic "+base64.StdEncoding.EncodeToString([]byte(url.QueryEscape(client.AppID)+":"+url.QueryEscape(secret))))
			},
		} {
			t.Run(fmt.Sprintf("v%d %s", version, name), func(t *testing.T) {
				w := h.post(version, edit, "client_id", client.AppID, "client_secret", secret, "resource", "api://orders", "scope", "api://orders/.default")
				if version == 2 {
					w = h.post(version, edit, "client_id", client.AppID, "client_secret", secret, "scope", "api://orders/.default")
				}
				body, c := h.granted(t, w)
				issued := h.clock.Now().Unix()
				exp := int64(c["exp"].(float64))
				if life := exp - issued; life < 3600 || life >= 5400 {
					t.Errorf("the token lives %d s", life)
				}
				in := exp - issued - 1
				want := map[string]any{"token_type": "Bearer", "expires_in": float64(in), "ext_expires_in": float64(in), "access_token": body["access_token"]}
				if version == 1 {
					want = map[string]any{
						"token_type": "Bearer", "expires_in": fmt.Sprint(in), "ext_expires_in": fmt.Sprint(in), "access_token": body["access_token"],
						"expires_on": fmt.Sprint(exp), "not_before": fmt.Sprint(issued - 300), "resource": "api://orders",
					}
				}
				if !reflect.DeepEqual(body, want) {
					t.Errorf("body %v, want %v", body, want)
				}
				for _, opaque := range []string{"aio", "rh", "uti", "exp"} {
					delete(c, opaque)
				}
				issuer := testAuthority + "/" + testTenant + "/"
				wantClaims := map[string]any{
					"aud": "api://orders", "iss": issuer, "idp": issuer, "appid": client.AppID, "appidacr": "1", "idtyp": "app", "ver": "1.0",
					"oid": sp.ID, "sub": sp.ID, "tid": testTenant, "iat": float64(issued - 300), "nbf": float64(issued - 300),
				}
				if !reflect.DeepEqual(c, wantClaims) {
					t.Errorf("claims %v, want %v", c, wantClaims)
				}
				header := w.Header()
				if header.Get("Cache-Control") != "no-store, no-cache" || header.Get("Pragma") != "no-cache" || !guid.MatchString(header.Get("x-ms-request-id")) {
					t.Errorf("headers %v", header)
				}
				if header.Get("Access-Control-Allow-Origin") != "" { // B27
					t.Error("scripts of any origin may read a token")
				}
			})
		}
	}
	_ = target
}

func must[T any](v T, err error) func(testing.TB) T {
	return func(t testing.TB) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

func TestA13A14A15AudienceAndVersionFollowTheResource(t *testing.T) {
	h := start(t)
	client, _ := h.register(t, directory.Application{DisplayName: "client"})
	secret := h.secret(t, client)
	one := 1
	for name, version := range map[string]*int{"null": nil, "1": &one, "2": two()} {
		uri := "api://version-" + name
		app, _ := h.register(t, directory.Application{DisplayName: name, IdentifierURIs: []string{uri}, RequestedAccessTokenVersion: version})
		for _, endpoint := range []int{1, 2} {
			for _, resource := range []string{uri, uri + "/", app.AppID, strings.ToUpper(app.AppID)} {
				params := []string{"client_id", client.AppID, "client_secret", secret, "resource", resource}
				if endpoint == 2 {
					params = append(params[:4:4], "scope", resource+"/.default")
				}
				_, c := h.granted(t, h.post(endpoint, nil, params...))
				want := map[string]string{"ver": "1.0", "aud": resource, "iss": testAuthority + "/" + testTenant + "/"}
				if name == "2" {
					want = map[string]string{"ver": "2.0", "aud": app.AppID, "iss": testAuthority + "/" + testTenant + "/v2.0"}
				}
				for claim, value := range want {
					if c[claim] != value {
						t.Errorf("version %s, endpoint v%d, resource %s: %s is %v, want %s", name, endpoint, resource, claim, c[claim], value)
					}
				}
			}
		}
	}
}

func TestA16AnEmptyResourceIsGraph(t *testing.T) {
	h := start(t)
	client, _ := h.register(t, directory.Application{DisplayName: "client"})
	secret := h.secret(t, client)
	for _, w := range []*httptest.ResponseRecorder{
		h.post(1, nil, "client_id", client.AppID, "client_secret", secret),
		h.post(1, nil, "client_id", client.AppID, "client_secret", secret, "resource", ""),
		h.post(2, nil, "client_id", client.AppID, "client_secret", secret, "scope", ".default"),
	} {
		var body struct {
			Token    string `json:"access_token"`
			Resource *string
		}
		if err := json.Unmarshal(w.Body.Bytes(), &body); err != nil || w.Code != 200 || body.Resource != nil && *body.Resource != directory.Graph {
			t.Fatalf("%d %s", w.Code, w.Body)
		}
		a, refused := parseAssertion(body.Token, "RS256")
		if refused != nil || a.claims.Aud[0] != directory.Graph {
			t.Fatalf("%v, %v", refused, a)
		}
		if a.signedBy(h.ownKey(a.header.Kid)) {
			t.Error("others can verify a token for Graph")
		}
	}
}

func TestA19A20RolesAndAssignmentRequired(t *testing.T) {
	h := start(t)
	client, sp := h.register(t, directory.Application{DisplayName: "client"})
	target, resource := h.register(t, directory.Application{DisplayName: "orders", IdentifierURIs: []string{"api://orders"}, AppRoles: sendRole()})
	secret := h.secret(t, client)
	ask := func() *httptest.ResponseRecorder {
		return h.post(2, nil, "client_id", client.AppID, "client_secret", secret, "scope", "api://orders/.default")
	}
	if _, c := h.granted(t, ask()); c["roles"] != nil {
		t.Errorf("without an assignment: roles %v", c["roles"])
	}
	if _, err := h.directory.UpdateServicePrincipal(t.Context(), resource.ID, func(p *directory.ServicePrincipal) error { p.AppRoleAssignmentRequired = true; return nil }); err != nil {
		t.Fatal(err)
	}
	f := wantFailure(t, ask(), 400, "invalid_grant", 501051)
	if want := fmt.Sprintf("Application '%s'(client) is not assigned to a role for the application '%s'(orders)", client.AppID, target.AppID); !strings.Contains(f.ErrorDescription, want) {
		t.Errorf("%s", f.ErrorDescription)
	}
	if _, err := h.directory.AssignAppRole(t.Context(), sp.ID, resource.ID, target.AppRoles[0].ID); err != nil {
		t.Fatal(err)
	}
	if _, c := h.granted(t, ask()); !reflect.DeepEqual(c["roles"], []any{"Events.Send"}) {
		t.Errorf("with an assignment: roles %v", c["roles"])
	}
}

func TestA24A25Scopes(t *testing.T) {
	h := start(t)
	client, _ := h.register(t, directory.Application{DisplayName: "client", IdentifierURIs: []string{"api://client"}})
	h.register(t, directory.Application{DisplayName: "orders", IdentifierURIs: []string{"api://orders", "https://orders.example/"}})
	secret := h.secret(t, client)
	for _, row := range []struct {
		scope string
		aud   string // of the token, or:
		oauth string
		code  int
	}{
		{scope: "api://orders/.default", aud: "api://orders"},
		{scope: "api://orders/.default openid offline_access profile", aud: "api://orders"}, // as azidentity sends it
		{scope: "  email api://orders/.default  api://orders/.default ", aud: "api://orders"},
		{scope: "https://orders.example//.default", aud: "https://orders.example/"},
		{scope: "https://ORDERS.example/.default", aud: "https://ORDERS.example"},
		{scope: client.AppID + "/.default", aud: client.AppID},
		{scope: "api://client/.default", oauth: "invalid_request", code: 90009},
		{scope: "openid", oauth: "invalid_request", code: 700023},
		{scope: "api://orders", oauth: "invalid_scope", code: 1002012},
		{scope: "api://orders/Events.Send", oauth: "invalid_scope", code: 1002012},
		{scope: "api://orders/.DEFAULT", oauth: "invalid_scope", code: 1002012},
		{scope: "api://orders/.default api://orders/Events.Send", oauth: "invalid_scope", code: 70011},
		{scope: "/.default", oauth: "invalid_scope", code: 70011},
		{scope: "api://orders/.default https://vault.azure.net/.default", oauth: "invalid_request", code: 700022},
		{scope: "api://orders/Events.Send/.default", oauth: "invalid_resource", code: 500011}, // A17
		{scope: strings.Repeat("a", 3000) + "/.default", oauth: "invalid_resource", code: 50001},
	} {
		w := h.post(2, nil, "client_id", client.AppID, "client_secret", secret, "scope", row.scope)
		if row.code != 0 {
			wantFailure(t, w, 400, row.oauth, row.code)
			continue
		}
		body, c := h.granted(t, w)
		if c["aud"] != row.aud || body["id_token"] != nil || body["refresh_token"] != nil {
			t.Errorf("%s: aud %v, %v", row.scope, c["aud"], body)
		}
	}
}

func TestA22A23WrongExpiredAndUnknown(t *testing.T) {
	h := start(t)
	client, sp := h.register(t, directory.Application{DisplayName: "client"})
	c, secret, err := h.directory.AddPassword(t.Context(), client.ID, directory.PasswordCredential{StartDateTime: time.Now().AddDate(-1, 0, 0), EndDateTime: time.Now().Add(-time.Minute)})
	if err != nil {
		t.Fatal(err)
	}
	ask := func(id, secret string) *httptest.ResponseRecorder {
		return h.post(2, nil, "client_id", id, "client_secret", secret, "scope", "https://vault.azure.net/.default")
	}
	f := wantFailure(t, ask(client.AppID, secret), 401, "invalid_client", 7000222)
	if !strings.Contains(f.ErrorDescription, c.KeyID) {
		t.Errorf("it does not say which: %s", f.ErrorDescription)
	}
	// B28: who does not hold the secret does not learn that it expired. The id of a secret is no secret.
	for _, wrong := range []string{c.KeyID, secret[:39], secret + "x", "x"} {
		if f := wantFailure(t, ask(client.AppID, wrong), 401, "invalid_client", 7000215); strings.Contains(f.ErrorDescription, wrong) && len(wrong) > 1 || strings.Contains(f.ErrorDescription, "expired") {
			t.Errorf("%s", f.ErrorDescription)
		}
	}
	wantFailure(t, ask(testTenant, secret), 400, "unauthorized_client", 700016)
	good := h.secret(t, client)
	if _, err := h.directory.UpdateServicePrincipal(t.Context(), sp.ID, func(p *directory.ServicePrincipal) error { p.AccountEnabled = false; return nil }); err != nil {
		t.Fatal(err)
	}
	wantFailure(t, ask(client.AppID, good), 400, "unauthorized_client", 7000112)
	wantFailure(t, ask(client.AppID, "wrong"), 401, "invalid_client", 7000215)
}

func TestA34TheCorrelationIDIsTheCallers(t *testing.T) {
	h := start(t)
	client, _ := h.register(t, directory.Application{DisplayName: "client"})
	secret := h.secret(t, client)
	const id = "eeee0000-0000-4000-8000-00000000000e"
	w := h.post(2, func(r *http.Request) {
		r.Header.Set("client-request-id", id)
		r.Header.Set("return-client-request-id", "true")
	}, "client_id", client.AppID, "client_secret", secret, "scope", "https://vault.azure.net/.default")
	if w.Code != 200 || w.Header().Get("client-request-id") != id {
		t.Errorf("%d, %v", w.Code, w.Header())
	}
	w = h.post(2, func(r *http.Request) { r.Header.Set("client-request-id", id) }, "client_id", client.AppID, "client_secret", "x", "scope", "https://vault.azure.net/.default")
	if f := wantFailure(t, w, 401, "invalid_client", 7000215); f.CorrelationID != id {
		t.Errorf("%+v", f)
	}
}

func TestB28FailuresAreLimitedPerClientAndAddress(t *testing.T) {
	h := start(t)
	client, _ := h.register(t, directory.Application{DisplayName: "client"})
	other, _ := h.register(t, directory.Application{DisplayName: "other"})
	secret, others := h.secret(t, client), h.secret(t, other)
	ask := func(address, id, secret string) *httptest.ResponseRecorder {
		return h.post(2, func(r *http.Request) { r.RemoteAddr = address }, "client_id", id, "client_secret", secret, "scope", "https://vault.azure.net/.default")
	}
	for range failureBurst {
		wantFailure(t, ask("192.0.2.7:1", client.AppID, "guess"), 401, "invalid_client", 7000215)
	}
	for _, try := range []string{"guess", secret} { // the right one too: it might have been guessed
		w := ask("192.0.2.7:2", client.AppID, try)
		if w.Code != 429 || w.Header().Get("Retry-After") != "2" {
			t.Fatalf("%d, Retry-After %q", w.Code, w.Header().Get("Retry-After"))
		}
	}
	h.granted(t, ask("192.0.2.8:1", client.AppID, secret)) // elsewhere
	h.granted(t, ask("192.0.2.7:1", other.AppID, others))  // another client
	h.clock.advance(failureEvery)
	h.granted(t, ask("192.0.2.7:1", client.AppID, secret)) // after a while, and it forgives what was before
	wantFailure(t, ask("192.0.2.7:1", client.AppID, "guess"), 401, "invalid_client", 7000215)
	wantFailure(t, ask("192.0.2.7:1", client.AppID, "guess"), 401, "invalid_client", 7000215)
}

func TestSecretsTravelOverTLSOnly(t *testing.T) {
	h := start(t)
	client, _ := h.register(t, directory.Application{DisplayName: "client"})
	secret := h.secret(t, client)
	plain := func(s *Service, address string) *httptest.ResponseRecorder {
		form := url.Values{"grant_type": {"client_credentials"}, "client_id": {client.AppID}, "client_secret": {secret}, "scope": {"https://vault.azure.net/.default"}}
		r := httptest.NewRequest("POST", "/"+testTenant+"/oauth2/v2.0/token", strings.NewReader(form.Encode()))
		r.Header.Set("Content-Type", formType)
		r.RemoteAddr = address
		w := httptest.NewRecorder()
		s.Handler().ServeHTTP(w, r)
		return w
	}
	for _, address := range []string{"127.0.0.1:5", "192.0.2.1:5"} {
		if f := wantFailure(t, plain(h.Service, address), 400, "invalid_request", 9002313); !strings.Contains(f.ErrorDescription, testAuthority+"/"+testTenant+"/oauth2/v2.0/token") {
			t.Errorf("%s", f.ErrorDescription)
		}
	}
	lenient := h.process(t, func(o *Options) { o.AllowLoopbackHTTP = true })
	h.granted(t, plain(lenient, "127.0.0.1:5"))
	h.granted(t, plain(lenient, "[::1]:5"))
	wantFailure(t, plain(lenient, "192.0.2.1:5"), 400, "invalid_request", 9002313)
}

func TestB32ClientCredentialsNeedAConcreteTenant(t *testing.T) {
	h := start(t)
	client, _ := h.register(t, directory.Application{DisplayName: "client"})
	secret := h.secret(t, client)
	for _, segment := range []string{"common", "organizations", "Common"} {
		for _, path := range []string{"/oauth2/token", "/oauth2/v2.0/token"} {
			w := h.do("POST", "/"+segment+path, func(r *http.Request) {
				r.Body = io.NopCloser(strings.NewReader(url.Values{"grant_type": {"client_credentials"}, "client_id": {client.AppID}, "client_secret": {secret}, "scope": {"https://vault.azure.net/.default"}}.Encode()))
				r.Header.Set("Content-Type", formType)
			})
			wantFailure(t, w, 400, "invalid_request", 9001023)
		}
	}
}

func TestB35NobodyChoosesItsOwnClaims(t *testing.T) {
	h := start(t)
	client, sp := h.register(t, directory.Application{DisplayName: "client"})
	secret := h.secret(t, client)
	for _, wish := range []string{
		`{"access_token":{"xms_mirid":{"value":"/forged"},"oid":{"value":"forged"},"roles":{"values":["Admin"]},"sub":null,"xms_cc":{"values":["CP1"]}}}`,
		`not json`, `{"access_token":{"nbf":{"essential":true,"value":"1"}}}`,
	} {
		_, c := h.granted(t, h.post(2, nil, "client_id", client.AppID, "client_secret", secret, "scope", "https://vault.azure.net/.default", "claims", wish,
			"oid", "forged", "xms_mirid", "/forged", "roles", "Admin"))
		if c["oid"] != sp.ID || c["sub"] != sp.ID || c["roles"] != nil || c["xms_mirid"] != nil || c["xms_az_rid"] != nil {
			t.Errorf("%s: %v", wish, c)
		}
	}
}

func TestClientsTokensMayHaveAFixedLifeWithAdviceToRenew(t *testing.T) {
	h := open(t, t.TempDir(), func(o *Options) { o.ClientLifetime = 4 * time.Hour })
	client, _ := h.register(t, directory.Application{DisplayName: "client"})
	secret := h.secret(t, client)
	body, _ := h.granted(t, h.post(2, nil, "client_id", client.AppID, "client_secret", secret, "scope", "https://vault.azure.net/.default"))
	if body["expires_in"] != float64(4*3600-1) || body["refresh_in"] != float64(2*3600) { // A42
		t.Errorf("%v", body)
	}
	for _, life := range []time.Duration{time.Minute, 25 * time.Hour, -1} {
		if _, err := New(t.Context(), h.store, h.directory, Options{Authority: func() string { return "" }, ClientLifetime: life}); err == nil {
			t.Errorf("%v was taken", life)
		}
	}
}

func TestB20NothingSecretIsLogged(t *testing.T) {
	var log strings.Builder
	h := open(t, t.TempDir(), func(o *Options) {
		o.Log = debugLog(&log)
		o.WorkloadOrigin = func() string { return "http://127.0.0.1:1" }
	})
	client, _ := h.register(t, directory.Application{DisplayName: "client"})
	secret := h.secret(t, client)
	body, _ := h.granted(t, h.post(2, nil, "client_id", client.AppID, "client_secret", secret, "scope", "https://vault.azure.net/.default"))
	answers := h.post(2, nil, "client_id", client.AppID, "client_secret", secret+"x", "scope", "https://vault.azure.net/.default").Body.String()
	assertion := h.sign(t, client, nil)
	answers += h.post(2, nil, "client_id", client.AppID, "client_assertion_type", assertionType, "client_assertion", assertion, "scope", "https://vault.azure.net/.default").Body.String()
	u := h.user(t)
	env := must(h.EnvFor(t.Context(), u.ResourceID, EnvOptions{}))(t)
	w := h.appService("resource=https://nowhere.example&api-version=2019-08-01", env["IDENTITY_HEADER"])
	answers += w.Body.String()
	for _, hidden := range []string{secret, body["access_token"].(string), assertion, env["IDENTITY_HEADER"]} {
		if strings.Contains(log.String(), hidden) || strings.Contains(answers, hidden) {
			t.Errorf("%q is shown", hidden)
		}
	}
	if !strings.Contains(log.String(), "token issued") || !strings.Contains(log.String(), "client refused") {
		t.Errorf("the log says too little:\n%s", log.String())
	}
}

func BenchmarkTokenEndpoint(b *testing.B) {
	h := openWorkloads(b)
	client, _ := h.register(b, directory.Application{DisplayName: "client"})
	secret := h.secret(b, client)
	b.Run("secret", func(b *testing.B) {
		b.RunParallel(func(pb *testing.PB) {
			for pb.Next() {
				if w := h.post(2, nil, "client_id", client.AppID, "client_secret", secret, "scope", "https://vault.azure.net/.default"); w.Code != 200 {
					b.Errorf("%d %s", w.Code, w.Body)
					return
				}
			}
		})
	})
	b.Run("certificate", func(b *testing.B) {
		k := h.certify(b, client)
		assertions := make(chan string, 256)
		for range cap(assertions) {
			assertions <- h.signWith(b, k, client, nil)
		}
		for i := 0; b.Loop(); i++ {
			if i%cap(assertions) == 0 {
				h.replays = newReplays()
			}
			assertion := <-assertions
			assertions <- assertion
			if w := h.post(2, nil, "client_id", client.AppID, "client_assertion_type", assertionType, "client_assertion", assertion, "scope", "https://vault.azure.net/.default"); w.Code != 200 {
				b.Fatalf("%d %s", w.Code, w.Body)
			}
		}
	})
	u := h.identity(b, "sender")
	b.Run("managed identity", func(b *testing.B) {
		env := must(h.EnvFor(b.Context(), u.ID, EnvOptions{}))(b)
		for b.Loop() {
			h.clock.advance(time.Second)
			if w := h.appService("resource=https://vault.azure.net&api-version=2019-08-01", env["IDENTITY_HEADER"]); w.Code != 200 {
				b.Fatalf("%d %s", w.Code, w.Body)
			}
		}
	})
}
