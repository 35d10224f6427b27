package tokenservice

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"tabard/internal/directory"
)

var update = flag.Bool("update", false, "write the golden files anew")

func golden(t *testing.T, name string, got []byte) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(path, got, 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("%s differs; if that is meant, run go test -update\ngot:\n%s\nwant:\n%s", path, got, want)
	}
}

func indent(t *testing.T, body []byte) []byte {
	t.Helper()
	var out bytes.Buffer
	if err := json.Indent(&out, body, "", "  "); err != nil {
		t.Fatalf("%s: %v", body, err)
	}
	out.WriteByte('\n')
	return out.Bytes()
}

func TestPublicDocuments(t *testing.T) {
	h := start(t)
	for _, row := range []struct{ target, golden string }{
		{"/" + testTenant + "/v2.0/.well-known/openid-configuration", "discovery-v2-tenant.json"},
		{"/" + testTenant + "/.well-known/openid-configuration", "discovery-v1-tenant.json"},
		{"/common/v2.0/.well-known/openid-configuration", "discovery-v2-common.json"},
		{"/common/.well-known/openid-configuration", "discovery-v1-common.json"},
		{"/organizations/v2.0/.well-known/openid-configuration", "discovery-v2-common.json"},
		{"/organizations/.well-known/openid-configuration", "discovery-v1-common.json"},

		{"/" + testTenant + "/v2.0/.well-known/openid-configuration?", "discovery-v2-tenant.json"}, // as MSAL Go asks
		{"/" + testTenant + "/.well-known/openid-configuration?appid=" + testTenant, "discovery-v1-tenant.json"},
		{"/" + strings.ToUpper(testTenant) + "/v2.0/.well-known/openid-configuration", "discovery-v2-tenant.json"},
		{"/Common/.well-known/openid-configuration", "discovery-v1-common.json"},

		{"/common/discovery/instance?api-version=1.1&authorization_endpoint=" + url.QueryEscape(testAuthority+"/"+testTenant+"/oauth2/v2.0/authorize"), "instance-tenant.json"},
		{"/common/discovery/instance?authorization_endpoint=" + url.QueryEscape("https://LOGIN.wps.test:8443/organizations/oauth2/v2.0/authorize"), "instance-organizations.json"},
	} {
		t.Run(row.target, func(t *testing.T) {
			w := h.do("GET", row.target, nil)
			if w.Code != 200 {
				t.Fatalf("%d %s", w.Code, w.Body)
			}
			golden(t, row.golden, indent(t, w.Body.Bytes()))
			for name, want := range map[string]string{
				"Content-Type": "application/json; charset=utf-8", "Cache-Control": "public, max-age=300",
				"Access-Control-Allow-Origin": "*", "X-Content-Type-Options": "nosniff",
			} {
				if got := w.Header().Get(name); got != want {
					t.Errorf("%s is %q, want %q", name, got, want)
				}
			}
			if strings.Contains(w.Body.String(), "microsoft.com") || strings.Contains(w.Body.String(), "windows.net") {
				t.Errorf("an address leads to Microsoft: %s", w.Body)
			}
		})
	}
}

func TestTheIssuersOfTheDocumentsAreThoseOfTheTokens(t *testing.T) {
	h := start(t)
	p := h.system(t)
	v2, _ := h.register(t, directory.Application{DisplayName: "billing", RequestedAccessTokenVersion: two()})
	for path, resource := range map[string]string{"/.well-known/openid-configuration": "https://vault.azure.net", "/v2.0/.well-known/openid-configuration": v2.AppID} {
		var c struct{ Iss, Tid string }
		if err := json.Unmarshal(h.mint(t, p, resource).Claims, &c); err != nil {
			t.Fatal(err)
		}
		for _, tenant := range []string{testTenant, "common"} {
			var doc struct{ Issuer string }
			if err := json.Unmarshal(h.do("GET", "/"+tenant+path, nil).Body.Bytes(), &doc); err != nil {
				t.Fatal(err)
			}
			if got := strings.ReplaceAll(doc.Issuer, "{tenantid}", c.Tid); got != c.Iss {
				t.Errorf("%s%s says issuer %s, tokens say %s", tenant, path, doc.Issuer, c.Iss)
			}
			if (tenant == "common") != strings.Contains(doc.Issuer, "{tenantid}") {
				t.Errorf("%s%s says issuer %s", tenant, path, doc.Issuer)
			}
		}
	}
}

func TestEveryAddressInADocumentAnswers(t *testing.T) {
	h := start(t)
	for _, target := range []string{"/common/.well-known/openid-configuration", "/common/v2.0/.well-known/openid-configuration", "/" + testTenant + "/.well-known/openid-configuration", "/" + testTenant + "/v2.0/.well-known/openid-configuration"} {
		var doc map[string]any
		if err := json.Unmarshal(h.do("GET", target, nil).Body.Bytes(), &doc); err != nil {
			t.Fatal(err)
		}
		n := 0
		for field, value := range doc {
			address, _ := value.(string)
			if !strings.HasPrefix(address, testAuthority+"/") || field == "issuer" {
				continue
			}
			n++
			path := strings.TrimPrefix(address, testAuthority)
			if w := h.do("GET", path, nil); w.Code == http.StatusNotFound {
				t.Errorf("%s: %s leads to %s, which answers %d", target, field, address, w.Code)
			}
		}
		if n < 6 {
			t.Errorf("%s: only %d addresses", target, n)
		}
	}
}

func TestMethodsOfPublicDocuments(t *testing.T) {
	h := start(t)
	const target = "/common/discovery/keys"
	head := h.do("HEAD", target, nil)
	if head.Code != 200 || head.Header().Get("Content-Length") != fmt.Sprint(h.do("GET", target, nil).Body.Len()) {
		t.Errorf("HEAD: %d, %v", head.Code, head.Header())
	}
	preflight := h.do("OPTIONS", target, func(r *http.Request) { r.Header.Set("Origin", "https://example.com") })
	if preflight.Code != 204 || preflight.Header().Get("Access-Control-Allow-Origin") != "*" || preflight.Header().Get("Access-Control-Allow-Methods") != "GET, HEAD" {
		t.Errorf("OPTIONS: %d, %v", preflight.Code, preflight.Header())
	}
	post := h.do("POST", target, nil)
	wantFailure(t, post, 400, "invalid_request", 900561)
	if post.Header().Get("Allow") != "GET, HEAD" {
		t.Errorf("Allow is %q", post.Header().Get("Allow"))
	}
}

var timestamp = regexp.MustCompile(`^2026-11-2\d \d\d:\d\d:\d\dZ$`)

// wantFailure checks an answer against the error shape of identity.md 4.6.
func wantFailure(t *testing.T, w *httptest.ResponseRecorder, status int, oauth string, code int) failure {
	t.Helper()
	var f failure
	d := json.NewDecoder(w.Body)
	d.DisallowUnknownFields()
	if err := d.Decode(&f); err != nil {
		t.Fatalf("status %d: not an error of the right shape: %v", w.Code, err)
	}
	if w.Code != status || f.Error != oauth || !slices.Equal(f.ErrorCodes, []int{code}) {
		t.Errorf("got %d %s %v (%s), want %d %s %d", w.Code, f.Error, f.ErrorCodes, f.ErrorDescription, status, oauth, code)
	}
	if prefix := fmt.Sprintf("AADSTS%d: ", code); !strings.HasPrefix(f.ErrorDescription, prefix) {
		t.Errorf("description %q does not begin with %q", f.ErrorDescription, prefix)
	}
	if suffix := fmt.Sprintf(" Trace ID: %s Correlation ID: %s Timestamp: %s", f.TraceID, f.CorrelationID, f.Timestamp); !strings.HasSuffix(f.ErrorDescription, suffix) {
		t.Errorf("description %q does not end in %q", f.ErrorDescription, suffix)
	}
	if !timestamp.MatchString(f.Timestamp) || !guid.MatchString(f.TraceID) || !guid.MatchString(f.CorrelationID) {
		t.Errorf("timestamp %q, trace %q, correlation %q", f.Timestamp, f.TraceID, f.CorrelationID)
	}
	h := w.Header()
	if h.Get("Cache-Control") != "no-store, no-cache" || h.Get("Pragma") != "no-cache" || h.Get("x-ms-request-id") != f.TraceID || h.Get("Content-Type") != "application/json; charset=utf-8" {
		t.Errorf("headers %v", h)
	}
	if f.ErrorURI != "" && f.ErrorURI != fmt.Sprintf("%s/error?code=%d", testAuthority, code) {
		t.Errorf("error_uri %q", f.ErrorURI)
	}
	return f
}

func TestAnUnknownTenantIsNamed(t *testing.T) {
	h := start(t)
	for _, tenant := range []string{"bbbb0000-0000-4000-8000-00000000000b", "consumers", "contoso.example", "%7Btenantid%7D", "a%20b"} {
		for rest := range endpoints {
			f := wantFailure(t, h.do("GET", "/"+tenant+"/"+rest, nil), 400, "invalid_request", 90002)
			if name, _ := url.PathUnescape(tenant); !strings.Contains(f.ErrorDescription, "'"+name+"'") || f.ErrorURI == "" {
				t.Errorf("%s/%s: %+v", tenant, rest, f)
			}
		}
	}
	f := wantFailure(t, h.do("GET", "/"+strings.Repeat("x", 5000)+"/discovery/keys", nil), 400, "invalid_request", 90002)
	if len(f.ErrorDescription) > 1000 {
		t.Errorf("a long name comes back whole: %d bytes", len(f.ErrorDescription))
	}
}

func TestCorrelation(t *testing.T) {
	h := start(t)
	const id = "eeee0000-0000-4000-8000-00000000000e"
	for _, row := range []struct {
		name, query, header, back string
		want                      bool
	}{
		{"from the header, asked back", "", id, "true", true},
		{"from the query, as JS libraries send it", "?client-request-id=" + id, "", "", true},
		{"not a GUID", "", "x\" onload=", "true", false},
		{"none", "", "", "", false},
	} {
		t.Run(row.name, func(t *testing.T) {
			w := h.do("GET", "/nowhere/discovery/keys"+row.query, func(r *http.Request) {
				r.Header.Set("client-request-id", row.header)
				r.Header.Set("return-client-request-id", row.back)
			})
			f := wantFailure(t, w, 400, "invalid_request", 90002)
			if (f.CorrelationID == id) != row.want {
				t.Errorf("correlation id is %s", f.CorrelationID)
			}
			want := ""
			if row.back == "true" {
				want = f.CorrelationID
			}
			if got := w.Header().Get("client-request-id"); got != want {
				t.Errorf("client-request-id is %q, want %q", got, want)
			}
		})
	}
}

func TestInstanceDiscoveryTrustsThisAuthorityOnly(t *testing.T) {
	h := start(t)
	ask := func(endpoint string) *httptest.ResponseRecorder {
		return h.do("GET", "/common/discovery/instance?api-version=1.1&authorization_endpoint="+url.QueryEscape(endpoint), nil)
	}
	wantFailure(t, h.do("GET", "/common/discovery/instance", nil), 400, "invalid_request", 900144)
	for _, foreign := range []string{"https://login.microsoftonline.com/common/oauth2/v2.0/authorize", "https://login.wps.test/common/oauth2/authorize", "https://evil@other.test/common", "://", "common"} {
		wantFailure(t, ask(foreign), 400, "invalid_instance", 50049)
	}
	wantFailure(t, ask(testAuthority+"/nowhere/oauth2/authorize"), 400, "invalid_request", 90002)
}

func TestThereIsNoSignInPage(t *testing.T) {
	h := start(t)
	for _, target := range []string{"/common/oauth2/v2.0/authorize?client_id=x", "/" + testTenant + "/oauth2/authorize", "/oidc/userinfo", "/" + testTenant + "/kerberos"} {
		w := h.do("GET", target, nil)
		if w.Code != 400 || !strings.HasPrefix(w.Header().Get("Content-Type"), "text/plain") || !strings.Contains(w.Body.String(), "no interactive sign-in") {
			t.Errorf("%s: %d %s", target, w.Code, w.Body)
		}
	}
}

func TestErrorURIExplainsEveryCode(t *testing.T) {
	h := start(t)
	for c := range aadsts {
		for _, spelled := range []string{fmt.Sprint(int(c)), c.String()} {
			w := h.do("GET", "/error?code="+spelled, nil)
			if w.Code != 200 || !strings.Contains(w.Body.String(), c.String()) || !strings.Contains(w.Body.String(), aadsts[c].oauth) {
				t.Errorf("%s: %d %s", spelled, w.Code, w.Body)
			}
		}
	}
	for _, unknown := range []string{"", "1", "<script>", "99999999999999999999"} {
		if w := h.do("GET", "/error?code="+url.QueryEscape(unknown), nil); w.Code != 404 || strings.Contains(w.Body.String(), "<") {
			t.Errorf("%q: %d %s", unknown, w.Code, w.Body)
		}
	}
}

func TestPathsThatAreNotTheTokenServices(t *testing.T) {
	h := start(t)
	for _, path := range []string{"/", "/common", "/common/", "/" + testTenant, "/common/discovery", "/common/discovery/keys/", "/common//discovery/keys", "/api/hubs/chat/:send", "/client/hubs/chat", "/x/common/discovery/keys", "/oidc", "/error/"} {
		if w := h.do("GET", path, nil); w.Code != 404 {
			t.Errorf("%s answers %d", path, w.Code)
		}
	}
}

func TestWhileTheOriginIsUnknownTheAnswerIsTryAgain(t *testing.T) {
	h := start(t)
	h.origin.Store("")
	w := h.do("GET", "/common/discovery/keys", nil)
	f := wantFailure(t, w, 503, "temporarily_unavailable", 90033)
	if w.Header().Get("Retry-After") == "" || f.ErrorURI != "" {
		t.Errorf("%v, %+v", w.Header(), f)
	}
	h.origin.Store("https://login.microsoftonline.com")
	f = wantFailure(t, h.do("GET", "/common/.well-known/openid-configuration", nil), 500, "server_error", 50000)
	if strings.Contains(f.ErrorDescription, "microsoft") {
		t.Errorf("a caller is told how the service is configured: %s", f.ErrorDescription)
	}
}
