package tabard_test

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"

	"tabard"
	"tabard/guard"
)

// identity creates a user-assigned identity and returns its ARM id and client id.
func (r *running) identity(t *testing.T, name string) (id, clientID string) {
	t.Helper()
	id = "/subscriptions/" + r.SubscriptionID + "/resourceGroups/default/providers/Microsoft.ManagedIdentity/userAssignedIdentities/" + name
	status, body := r.call(t, http.MethodPut, r.AdminURL+id+"?api-version=2023-01-31", r.AdminToken, `{"location":"local"}`)
	var u struct{ Properties struct{ ClientID string } }
	if err := json.Unmarshal([]byte(body), &u); err != nil || status != http.StatusCreated {
		t.Fatalf("%d %s", status, body)
	}
	return id, u.Properties.ClientID
}

// environment asks for the variables of an identity.
func (r *running) environment(t *testing.T, id, body string) map[string]string {
	t.Helper()
	status, text := r.call(t, http.MethodPost, r.AdminURL+id+"/tabardEnvironment", r.AdminToken, body)
	var answer struct{ Environment map[string]string }
	if err := json.Unmarshal([]byte(text), &answer); err != nil || status != http.StatusOK {
		t.Fatalf("%d %s", status, text)
	}
	return answer.Environment
}

// token asks as App Service's libraries do.
func (r *running) workloadToken(t *testing.T, env map[string]string) (int, string) {
	t.Helper()
	req, err := http.NewRequest(http.MethodGet, env["IDENTITY_ENDPOINT"]+"?api-version=2019-08-01&resource=https://vault.azure.net", nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("X-IDENTITY-HEADER", env["IDENTITY_HEADER"])
	res, err := r.http.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	var answer struct {
		Token string `json:"access_token"`
	}
	_ = json.NewDecoder(res.Body).Decode(&answer)
	return res.StatusCode, answer.Token
}

func TestAProgramGetsTokensWithTheEnvironmentOfAnIdentity(t *testing.T) {
	for name, cfg := range map[string]tabard.Config{"plain": {}, "TLS only": {TLSOnly: true}} {
		t.Run(name, func(t *testing.T) {
			cfg.Data = t.TempDir()
			r := start(t, cfg, nil)
			if cfg.TLSOnly {
				r.AdminURL = r.AdminHTTPSURL
			}
			id, clientID := r.identity(t, "sender")
			env := r.environment(t, id, "")
			if env["AZURE_CLIENT_ID"] != clientID || env["AZURE_TENANT_ID"] != r.TenantID || env["IDENTITY_ENDPOINT"] != r.AdminURL+"/msi/token" ||
				!strings.HasPrefix(r.Issuer, env["AZURE_AUTHORITY_HOST"]) || (env["NODE_EXTRA_CA_CERTS"] != "") != cfg.TLSOnly {
				t.Errorf("%v", env)
			}
			status, token := r.workloadToken(t, env)
			decoded, err := guard.Decode(token)
			if status != http.StatusOK || err != nil || decoded.Claims.AppID != clientID {
				t.Fatalf("%d, %v", status, err)
			}
			fresh := r.environment(t, id, `{"rotate":true}`)
			if status, _ := r.workloadToken(t, env); status != http.StatusUnauthorized {
				t.Errorf("the old secret is answered with %d", status)
			}
			if status, _ := r.workloadToken(t, fresh); status != http.StatusOK {
				t.Errorf("the new secret is answered with %d", status)
			}
			if env := r.environment(t, id, `{"federatedTokenFile":"/token"}`); env["AZURE_FEDERATED_TOKEN_FILE"] != "/token" || env["IDENTITY_HEADER"] != "" || env["SSL_CERT_FILE"] != r.CAFile {
				t.Errorf("%v", env)
			}
			for _, row := range []struct {
				path, token, body string
				status            int
			}{
				{id + "/tabardEnvironment", "", "", 401},
				{id + "/tabardEnvironment", "wrong", "", 401},
				{id + "/tabardEnvironment", r.AdminToken, `{"other":1}`, 400},
				{id + "/tabardEnvironment", r.AdminToken, strings.Repeat(" ", 1<<17), 400},
				{id + "x/tabardEnvironment", r.AdminToken, "", 404},
				{"/" + id + "/tabardenvironment", r.AdminToken, "", 200},
			} {
				if status, body := r.call(t, http.MethodPost, r.AdminURL+row.path, row.token, row.body); status != row.status {
					t.Errorf("%s: %d %s, want %d", row.path, status, body, row.status)
				}
			}
			req, err := http.NewRequest(http.MethodGet, r.AdminURL+"/metadata/identity/oauth2/token?api-version=2018-02-01&resource=https://vault.azure.net", nil)
			if err != nil {
				t.Fatal(err)
			}
			req.Header.Set("Metadata", "true")
			res, err := r.http.Do(req)
			if err != nil {
				t.Fatal(err)
			}
			res.Body.Close()
			if res.StatusCode != http.StatusBadRequest {
				t.Errorf("IMDS is on without being asked for: %d", res.StatusCode)
			}
		})
	}
}

func TestA46SigningKeysAreListedRotatedAndRevoked(t *testing.T) {
	r := start(t, tabard.Config{Data: t.TempDir()}, nil)
	type key struct{ Kid, State string }
	keys := func(method, path string, want int) (list []key) {
		t.Helper()
		status, body := r.call(t, method, r.AdminURL+"/tabard/v1/signingKeys"+path, r.AdminToken, "")
		var answer struct{ Keys []key }
		if err := json.Unmarshal([]byte(body), &answer); err != nil || status != want {
			t.Fatalf("%d %s", status, body)
		}
		return answer.Keys
	}
	before := keys(http.MethodGet, "", 200)
	if len(before) != 2 || before[0].State != "active" || before[1].State != "next" {
		t.Fatalf("%v", before)
	}
	rotated := keys(http.MethodPost, "/rotate", 200)
	if len(rotated) != 3 || rotated[0].Kid != before[1].Kid || rotated[2] != (key{before[0].Kid, "retired"}) {
		t.Errorf("rotated: %v", rotated)
	}
	revoked := keys(http.MethodPost, "/"+rotated[0].Kid+"/revoke", 200)
	if len(revoked) != 3 || revoked[0].Kid != rotated[1].Kid {
		t.Errorf("revoked: %v", revoked)
	}
	keys(http.MethodPost, "/"+rotated[0].Kid+"/revoke", 404)
	keys(http.MethodGet, "/rotate", 404)
	keys(http.MethodDelete, "", 404)
	for _, token := range []string{"", "wrong"} {
		for _, path := range []string{"", "/rotate", "/x/revoke"} {
			if status, _ := r.call(t, http.MethodPost, r.AdminURL+"/tabard/v1/signingKeys"+path, token, ""); status != http.StatusUnauthorized {
				t.Errorf("%s with token %q: %d", path, token, status)
			}
		}
	}
}
