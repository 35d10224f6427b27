package tabard

import (
	"encoding/base64"
	"encoding/json"
	"net/http"
	"strings"
	"testing"

	"tabard/internal/rbac"
)

func TestThePortalIsReadWithoutATokenAndNothingBehindItIs(t *testing.T) {
	s := serve(t, Config{})
	client := &http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	req, err := http.NewRequest("GET", s.AdminURL+"/", nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Accept", "text/html,*/*;q=0.8") // as browsers do
	res, err := client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	res.Body.Close()
	client.CloseIdleConnections()
	if res.StatusCode != 302 || res.Header.Get("Location") != "portal/" {
		t.Errorf("the root answers %d to %q", res.StatusCode, res.Header.Get("Location"))
	}
	if status, text := s.call("GET", s.AdminURL+"/portal/settings.json", "", ""); status != 200 || !strings.Contains(text, `"oidc":null`) {
		t.Errorf("the settings: %d %s", status, text)
	}
	for _, path := range []string{"POST /tabard/v1/access", "GET /tabard/v1/instances/default/api/hubs/chat/groups/g/connections", "GET /tabard/v1/vaults/default/secrets"} {
		method, path, _ := strings.Cut(path, " ")
		if status, text := s.call(method, s.AdminURL+path+"?api-version=7.6", "", `[{"method":"GET","path":"/subscriptions"}]`); status != 401 {
			t.Errorf("%s: %d %s", path, status, text)
		}
	}
}

func TestTheDataPlaneBeneathTheAdminAddressIsForThoseWhoMayListKeys(t *testing.T) {
	s := serve(t, Config{})
	theDefault := "/subscriptions/" + s.SubscriptionID + "/resourceGroups/default/providers/Microsoft.SignalRService/webPubSub/default"
	reader, contributor := s.principal("reader"), s.principal("contributor")
	s.assign(reader, rbac.Reader, theDefault)
	s.assign(contributor, rbac.Contributor, theDefault)
	const api = "/tabard/v1/instances/default/api/hubs/chat/"
	for _, tc := range []struct {
		name, token, method, path string
		status                    int
	}{
		{"the admin token sends", s.AdminToken, "POST", api + ":send", 202},
		{"a contributor sends", s.token(contributor, armResource), "POST", api + ":send", 202},
		{"a reader does not", s.token(reader, armResource), "POST", api + ":send", 403},
		{"a token for the data plane is none for this address", s.token(contributor, dataPlaneResource), "POST", api + ":send", 401},
		{"names may hold slashes", s.AdminToken, "HEAD", api + "groups/a%2Fb", 404},
		{"an unknown operation", s.AdminToken, "POST", api + ":sing", 404},
		{"an unknown instance", s.AdminToken, "POST", strings.Replace(api, "default", "none", 1) + ":send", 404},
	} {
		if status, text := s.call(tc.method, s.AdminURL+tc.path+"?api-version=2024-01-01", tc.token, `"hello"`); status != tc.status {
			t.Errorf("%s: %d %s, want %d", tc.name, status, text, tc.status)
		}
	}
	status, text := s.call("POST", s.AdminURL+api+":generateToken?api-version=2024-01-01&userId=u", s.AdminToken, "")
	var made struct{ Token string }
	if err := json.Unmarshal([]byte(text), &made); status != 200 || err != nil {
		t.Fatalf("%d %s", status, text)
	}
	payload, err := base64.RawURLEncoding.DecodeString(strings.Split(made.Token+"..", ".")[1])
	var claims struct{ Aud string }
	if err != nil || json.Unmarshal(payload, &claims) != nil {
		t.Fatalf("%q is not a token", made.Token)
	}
	if aud := claims.Aud; aud != s.Endpoint+"/client/hubs/chat" {
		t.Errorf("the client token is for %v, not for the public address", aud)
	}
}

func TestSecretsAreReachedBeneathTheAdminAddress(t *testing.T) {
	s := serve(t, Config{})
	const secret = "/tabard/v1/vaults/default/secrets/code"
	if status, text := s.call("PUT", s.AdminURL+secret+"?api-version=7.6", s.AdminToken, `{"value":"v1"}`); status != 200 {
		t.Fatalf("%d %s", status, text)
	}
	if status, text := s.call("GET", s.AdminURL+secret+"?api-version=7.6", s.AdminToken, ""); status != 200 || !strings.Contains(text, `"v1"`) {
		t.Errorf("%d %s", status, text)
	}
	for path, want := range map[string]int{"/tabard/v1/vaults/none/secrets": 404, "/tabard/v1/vaults/default/keys": 404, "/tabard/v1/vaults/": 404} {
		if status, text := s.call("GET", s.AdminURL+path+"?api-version=7.6", s.AdminToken, ""); status != want {
			t.Errorf("%s: %d %s", path, status, text)
		}
	}
}

func TestACallerLearnsWhatItMayDoAndWhyNot(t *testing.T) {
	s := serve(t, Config{})
	theDefault := "/subscriptions/" + s.SubscriptionID + "/resourceGroups/default/providers/Microsoft.SignalRService/webPubSub/default"
	reader := s.principal("reader")
	s.assign(reader, rbac.Reader, theDefault)
	questions := `[{"method":"GET","path":"` + theDefault + `"},{"method":"put","path":"` + theDefault + `/hubs/chat"},{"method":"GET","path":"/v1.0/applications"}]`
	ask := func(token string) (verdicts []struct {
		Allowed bool
		Message string
	}) {
		status, text := s.call("POST", s.AdminURL+"/tabard/v1/access", token, questions)
		var body struct{ Value json.RawMessage }
		if err := json.Unmarshal([]byte(text), &body); err != nil || status != 200 || json.Unmarshal(body.Value, &verdicts) != nil || len(verdicts) != 3 {
			t.Fatalf("%d %s", status, text)
		}
		return verdicts
	}
	got := ask(s.token(reader, armResource))
	_, refused := s.call("PUT", s.AdminURL+theDefault+"/hubs/chat?api-version=2024-03-01", s.token(reader, armResource), `{"properties":{}}`)
	if !got[0].Allowed || got[1].Allowed || got[2].Allowed || !strings.Contains(refused, got[1].Message) || got[1].Message == "" {
		t.Errorf("a reader may %+v; the API says %s", got, refused)
	}
	for _, v := range ask(s.AdminToken) {
		if !v.Allowed || v.Message != "" {
			t.Errorf("the admin may %+v", v)
		}
	}
	for body, want := range map[string]int{`{`: 400, `[` + strings.Repeat(`{"method":"GET","path":"/x"},`, 64) + `{}]`: 400, `[]`: 200} {
		if status, text := s.call("POST", s.AdminURL+"/tabard/v1/access", s.AdminToken, body); status != want {
			t.Errorf("%.20s: %d %s", body, status, text)
		}
	}
	if status, _ := s.call("GET", s.AdminURL+"/tabard/v1/access", s.AdminToken, ""); status != 405 {
		t.Errorf("GET: %d", status)
	}
}

func TestThePortalsIssuerHasToBeTrusted(t *testing.T) {
	const issuer = "https://login.example.com/tenant/v2.0"
	for name, tc := range map[string]struct {
		cfg  Config
		want string
	}{
		"alone":     {Config{PortalOIDCIssuer: issuer}, "give both or neither"},
		"untrusted": {Config{PortalOIDCIssuer: issuer, PortalOIDCClientID: "c"}, "no trust-issuer is of the host"},
		"insecure":  {Config{PortalOIDCIssuer: "http://login.example.com/tenant", PortalOIDCClientID: "c"}, "is not the address of an issuer"},
		"trusted":   {Config{PortalOIDCIssuer: issuer, PortalOIDCClientID: "c", TrustIssuer: []string{issuer}}, ""},
	} {
		err := tc.cfg.Validate()
		if (err == nil) != (tc.want == "") || err != nil && !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s: %v, want %q", name, err, tc.want)
		}
	}
}

func TestThePageMayOpenSocketsToEveryPublicAddress(t *testing.T) {
	s := serve(t, Config{PublicURL: []string{"https://wps.example.com"}, InstanceListen: map[string]string{"orders": "127.0.0.1:0"}})
	b := s.Server.origins.bound.Load()
	_, port, _ := strings.Cut(b.public, ":")
	got := strings.Join(s.Server.origins.sockets(), " ") + " "
	for _, want := range []string{"wss://wps.example.com ", "wss://*.wps.example.com ", "ws://" + b.public + " ", "ws://*.localhost:" + port + " ", "ws://" + b.instances["orders"] + " "} {
		if !strings.Contains(got, want) {
			t.Errorf("no %q in %q", want, got)
		}
	}
}
