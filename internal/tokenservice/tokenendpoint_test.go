package tokenservice

import (
	"encoding/base64"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"

	"tabard/internal/directory"
)

const formType = "application/x-www-form-urlencoded"

func TestTokenEndpointRefusals(t *testing.T) {
	h := start(t)
	app, _ := h.register(t, directory.Application{DisplayName: "client"})
	bare, err := h.directory.CreateApplication(t.Context(), directory.Application{DisplayName: "bare"})
	if err != nil {
		t.Fatal(err)
	}
	managed := h.system(t)
	const grant = "grant_type=client_credentials"
	client := grant + "&client_id=" + app.AppID + "&scope=" + url.QueryEscape("api://x/.default offline_access openid")
	basic := func(id, secret string) string {
		return "Basic " + base64.StdEncoding.EncodeToString([]byte(url.QueryEscape(id)+":"+url.QueryEscape(secret)))
	}
	for _, row := range []struct {
		name          string
		tenant        string // default: the tenant
		v1            bool
		body          string
		authorization string
		status        int
		oauth         string
		code          int
		says          string
	}{
		{name: "nothing", status: 400, oauth: "invalid_request", code: 900144, says: "'grant_type'"},
		{name: "another grant", body: "grant_type=password&username=u&password=p", status: 400, oauth: "unsupported_grant_type", code: 70003, says: "'password'"},
		{name: "another grant on common", tenant: "common", body: "grant_type=authorization_code", status: 400, oauth: "unsupported_grant_type", code: 70003},
		{name: "client_credentials on common", tenant: "common", body: client, status: 400, oauth: "invalid_request", code: 9001023},
		{name: "client_credentials on organizations", tenant: "organizations", body: client, status: 400, oauth: "invalid_request", code: 9001023},
		{name: "an unknown tenant", tenant: "contoso", body: client, status: 400, oauth: "invalid_request", code: 90002, says: "'contoso'"},
		{name: "no client", body: grant + "&scope=x", status: 400, oauth: "invalid_request", code: 900144, says: "'client_id'"},
		{name: "no scope", body: grant + "&client_id=" + app.AppID, status: 400, oauth: "invalid_request", code: 900144, says: "'scope'"},
		{name: "resource on v2", body: client + "&resource=", status: 400, oauth: "invalid_request", code: 901002},
		{name: "an unknown client", body: strings.ReplaceAll(client, app.AppID, testTenant), status: 400, oauth: "unauthorized_client", code: 700016, says: testTenant},
		{name: "a client without service principal", body: strings.ReplaceAll(client, app.AppID, bare.AppID), status: 400, oauth: "unauthorized_client", code: 700016, says: "service principal"},
		{name: "no credential", body: client, status: 401, oauth: "invalid_client", code: 7000218},
		{name: "no credential, v1 without scope", v1: true, body: grant + "&resource=api://x&client_id=" + app.AppID, status: 401, oauth: "invalid_client", code: 7000218},
		{name: "a client id in upper case", body: strings.ReplaceAll(client, app.AppID, strings.ToUpper(app.AppID)), status: 401, oauth: "invalid_client", code: 7000218},
		{name: "a managed identity as client", body: strings.ReplaceAll(client, app.AppID, managed.ClientID), status: 401, oauth: "invalid_client", code: 7000218},
		{name: "a secret", body: client + "&client_secret=guess", status: 401, oauth: "invalid_client", code: 7000215},
		{name: "a secret by Basic", body: grant + "&scope=x/.default", authorization: basic(app.AppID, "p:a ss"), status: 401, oauth: "invalid_client", code: 7000215},
		{name: "Basic and the same client in the body", body: client, authorization: basic(app.AppID, "s"), status: 401, oauth: "invalid_client", code: 7000215},
		{name: "Basic and another client in the body", body: client, authorization: basic(testTenant, "s"), status: 400, oauth: "invalid_request", code: 9002313},
		{name: "two secrets", body: client + "&client_secret=a", authorization: basic(app.AppID, "b"), status: 400, oauth: "invalid_request", code: 9002313},
		{name: "Basic that is not base64", body: client, authorization: "Basic ???", status: 400, oauth: "invalid_request", code: 9002313},
		{name: "Basic without a colon", body: client, authorization: "Basic " + base64.StdEncoding.EncodeToString([]byte("x")), status: 400, oauth: "invalid_request", code: 9002313},
		{name: "another scheme is no credential", body: client, authorization: "Bearer x", status: 401, oauth: "invalid_client", code: 7000218},
		{name: "an assertion", body: client + "&client_assertion_type=urn%3Aietf%3Aparams%3Aoauth%3Aclient-assertion-type%3Ajwt-bearer&client_assertion=a.b.c%0A", status: 401, oauth: "invalid_client", code: 50027},
		{name: "an assertion without its type", body: client + "&client_assertion=a.b.c", status: 400, oauth: "invalid_request", code: 9002313, says: "client_assertion_type"},
		{name: "an assertion and a secret", body: client + "&client_assertion=a.b.c&client_secret=s", status: 400, oauth: "invalid_request", code: 9002313},
		{name: "an assertion of blanks is none", body: client + "&client_assertion=%0A", status: 401, oauth: "invalid_client", code: 7000218},
		{name: "a parameter twice", body: client + "&client_id=" + app.AppID, status: 400, oauth: "invalid_request", code: 9002313, says: "'client_id'"},
		{name: "a malformed body", body: "grant_type=%zz", status: 400, oauth: "invalid_request", code: 9002313},
		{name: "a body that is too large", body: client + "&x=" + strings.Repeat("a", maxForm), status: 400, oauth: "invalid_request", code: 9002313, says: "65536"},
		{name: "unknown parameters are ignored", body: client + "&claims=%7B%7D&client_info=1&x-client-SKU=msal", status: 401, oauth: "invalid_client", code: 7000218},
	} {
		t.Run(row.name, func(t *testing.T) {
			target := "/" + testTenant
			if row.tenant != "" {
				target = "/" + row.tenant
			}
			target += "/oauth2/v2.0/token"
			if row.v1 {
				target = strings.Replace(target, "/v2.0", "", 1)
			}
			w := h.do("POST", target, func(r *http.Request) {
				r.Body = io.NopCloser(strings.NewReader(row.body))
				r.Header.Set("Content-Type", formType+"; charset=utf-8")
				if row.authorization != "" {
					r.Header.Set("Authorization", row.authorization)
				}
			})
			f := wantFailure(t, w, row.status, row.oauth, row.code)
			if !strings.Contains(f.ErrorDescription, row.says) {
				t.Errorf("%q does not say %q", f.ErrorDescription, row.says)
			}
			if strings.Contains(f.ErrorDescription, "guess") {
				t.Errorf("the secret comes back: %q", f.ErrorDescription)
			}
			if w.Header().Get("Access-Control-Allow-Origin") != "" {
				t.Error("scripts of any origin may read the answer")
			}
			if got := w.Header().Get("WWW-Authenticate"); (got != "") != (row.code == 7000215 && row.authorization != "") {
				t.Errorf("WWW-Authenticate is %q", got)
			}
		})
	}
}

func TestTheTokenEndpointTakesFormsByPostOnly(t *testing.T) {
	h := start(t)
	for _, path := range []string{"/oauth2/token", "/oauth2/v2.0/token"} {
		for _, method := range []string{"GET", "PUT", "OPTIONS", "HEAD"} {
			w := h.do(method, "/"+testTenant+path, nil)
			f := wantFailure(t, w, 400, "invalid_request", 900561)
			if w.Header().Get("Allow") != "POST" || !strings.Contains(f.ErrorDescription, method) || w.Header().Get("Access-Control-Allow-Origin") != "" {
				t.Errorf("%s %s: %v, %+v", method, path, w.Header(), f)
			}
		}
		for _, media := range []string{"", "application/json", "multipart/form-data; boundary=x", ";"} {
			w := h.do("POST", "/"+testTenant+path, func(r *http.Request) {
				r.Body = io.NopCloser(strings.NewReader("grant_type=client_credentials"))
				r.Header.Set("Content-Type", media)
			})
			wantFailure(t, w, 400, "invalid_request", 9002313)
		}
	}
}

func FuzzTokenRequest(f *testing.F) {
	f.Add("grant_type=client_credentials&client_id=x&scope=y", "Basic eDp5")
	f.Add("client_secret=a&client_secret=b", "Bearer x")
	f.Add("%zz;=", "basic")
	f.Fuzz(func(t *testing.T, body, authorization string) {
		r := httptest.NewRequest("POST", "/", strings.NewReader(body))
		r.Header = http.Header{"Content-Type": {formType}, "Authorization": {authorization}}
		q, err := readTokenRequest(httptest.NewRecorder(), r, 2)
		if err != nil {
			return
		}
		form, parseErr := url.ParseQuery(body)
		if parseErr != nil {
			t.Fatalf("accepted a body that is no form: %v", parseErr)
		}
		if got := form.Get("grant_type"); q.grantType != got {
			t.Fatalf("grant type %q, want %q", q.grantType, got)
		}
		if err := q.check(""); err == nil {
			t.Fatal("a request for no concrete tenant passed")
		}
	})
}

func FuzzPaths(f *testing.F) {
	h := start(f)
	for _, path := range []string{"/", "/common/discovery/keys", "//", "/%2f/discovery/keys", "/error", "/\x00/oauth2/token"} {
		f.Add(path)
	}
	f.Fuzz(func(t *testing.T, path string) {
		r := httptest.NewRequest("GET", "/", nil)
		r.URL.Path = path
		w := httptest.NewRecorder()
		h.Handler().ServeHTTP(w, r)
		if _, rest, _ := strings.Cut(strings.TrimPrefix(path, "/"), "/"); w.Code >= 500 || w.Code == 404 && endpoints[rest] != nil {
			t.Fatalf("%q: answered %d", path, w.Code)
		}
	})
}
