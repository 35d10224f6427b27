package tabard

import (
	"bytes"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"testing"

	"tabard/internal/trace"
)

// Every way in which a call with a secret in it can fail, over every road to a vault, and what comes out of it: no
// error repeats a value, and neither log, audit log, trace, portal, metrics, lists nor the disk hold one. Only what is
// asked for a value, and may have it, answers with it.
func TestAVaultsValueIsInNoAnswerThatWasNotAskedForIt(t *testing.T) {
	const canary = "canary-5d1c-value"
	var log bytes.Buffer
	var logMu sync.Mutex
	dir := t.TempDir()
	s := serveLogged(t, Config{Data: dir, AllowLoopbackHandlers: true}, slog.New(slog.NewJSONHandler(&locked{&logMu, &log}, &slog.HandlerOptions{Level: slog.LevelDebug})))
	out := map[string]*strings.Builder{}
	see := func(where, text string) string {
		if out[where] == nil {
			out[where] = new(strings.Builder)
		}
		out[where].WriteString(text + "\n")
		return text
	}
	s.controlPlane("PATCH", s.instanceID()+"?api-version=2024-03-01", `{"identity":{"type":"SystemAssigned"}}`)
	s.controlPlane("PUT", s.group()+"/Microsoft.KeyVault/vaults/hooks"+armVersion, `{"location":"local","properties":{}}`)
	reader := s.principal("reader")
	s.controlPlane("PUT", s.group()+"/Microsoft.KeyVault/vaults/hooks/accessPolicies/add"+armVersion,
		`{"properties":{"accessPolicies":[{"tenantId":"`+s.TenantID+`","objectId":"`+reader+`","permissions":{"secrets":["get","list","backup"]}}]}}`)
	readersToken := s.token(reader, "https://vault.azure.net")

	// The roads: the vault's own host, and beneath the admin address, encrypted and, on this machine, not.
	type road func(method, path, token, body string) (int, string)
	beneathAdmin := func(origin string) road {
		return func(method, path, token, body string) (int, string) {
			return s.call(method, origin+"/tabard/v1/vaults/hooks"+path+"?api-version=7.4", token, body)
		}
	}
	roads := map[string]road{
		"host": func(method, path, token, body string) (int, string) {
			return s.vaultCall("hooks", method, path, token, body)
		},
		"beneath, TLS":   beneathAdmin(s.AdminHTTPSURL),
		"beneath, plain": beneathAdmin(s.AdminURL),
		"beneath, dotted": func(method, path, token, body string) (int, string) {
			return s.call(method, s.AdminHTTPSURL+"//tabard/v1/vaults/hooks"+path+"?api-version=7.4", token, body)
		},
	}
	value := `"value":"` + canary + `"`
	for name, do := range roads {
		secret := "/secrets/s" + fmt.Sprint(len(name))
		if status, text := do("PUT", secret, s.AdminToken, "{"+value+"}"); name == "beneath, dotted" {
			see("an error", text)
			if status < 400 {
				t.Errorf("%s: %d", name, status)
			}
			continue
		} else if status != 200 {
			t.Fatalf("%s: %d %s", name, status, text)
		}
		for _, call := range []struct {
			name, method, path, token, body string
			status                          int
		}{
			{"no token", "PUT", secret, "", "{" + value + "}", 401},
			{"a bad token", "PUT", secret, "x.y.z", "{" + value + "}", 401},
			{"another audience's token", "PUT", secret, s.token(reader, dataPlaneResource), "{" + value + "}", 401},
			{"no permission", "PUT", secret, readersToken, "{" + value + "}", 403},
			{"no such path", "PUT", secret + "/a/b/c", s.AdminToken, "{" + value + "}", 404},
			{"no such method", "POST", secret, s.AdminToken, "{" + value + "}", 405},
			{"a name that cannot be", "PUT", "/secrets/a_b", s.AdminToken, "{" + value + "}", 400},
			{"a body that ends early", "PUT", secret, s.AdminToken, "{" + value, 400},
			{"no object", "PUT", secret, s.AdminToken, `"` + canary + `"`, 400},
			{"no text", "PUT", secret, s.AdminToken, `{"value":{"` + canary + `":"` + canary + `"}}`, 400},
			{"a number where text is due", "PUT", secret, s.AdminToken, "{" + value + `,"contentType":1}`, 400},
			{"a time that is none", "PUT", secret, s.AdminToken, "{" + value + `,"attributes":{"exp":-1}}`, 400},
			{"too many tags", "PUT", secret, s.AdminToken, "{" + value + `,"tags":{"1":"","2":"","3":"","4":"","5":"","6":"","7":"","8":"","9":"","10":"","11":"","12":"","13":"","14":"","15":"","16":""}}`, 400},
			{"too long", "PUT", secret, s.AdminToken, `{"value":"` + strings.Repeat(canary, 2000) + `"}`, 400},
			{"far too long", "PUT", secret, s.AdminToken, `{"value":"` + strings.Repeat(canary, 8000) + `"}`, 413},
			{"a blob that is none", "POST", "/secrets/restore", s.AdminToken, "{" + value + "}", 400},
			{"a changed version", "PATCH", secret + "/", s.AdminToken, "{" + value + `,"tags":{"a":"b"}}`, 200},
			{"a list", "GET", "/secrets", readersToken, "", 200},
			{"versions", "GET", secret + "/versions", readersToken, "", 200},
			{"a backup", "POST", secret + "/backup", readersToken, "", 200},
			{"a deletion", "DELETE", secret, s.AdminToken, "", 200},
			{"a deleted name", "PUT", secret, s.AdminToken, "{" + value + "}", 409},
			{"a deleted secret", "GET", "/deleted" + secret[1:], readersToken, "", 200},
			{"deleted secrets", "GET", "/deletedsecrets", readersToken, "", 200},
			{"a recovery", "POST", "/deleted" + secret[1:] + "/recover", s.AdminToken, "", 200},
			{"a disabled version", "PATCH", secret + "/", s.AdminToken, `{"attributes":{"enabled":false}}`, 200},
			{"a disabled secret", "GET", secret, readersToken, "", 403},
		} {
			status, text := do(call.method, call.path, call.token, call.body)
			if status != call.status {
				t.Errorf("%s, %s: %d, want %d: %.300s", name, call.name, status, call.status, text)
			}
			see("the answer to "+call.name, text)
		}
	}
	if status, text := s.call("GET", s.AdminURL+"/tabard/v1/vaults/nothing/secrets?api-version=7.4", s.AdminToken, ""); status != 404 {
		t.Errorf("a vault that is not there: %d %s", status, text)
	}

	see("the audit log", s.controlPlane("GET", "/subscriptions/"+s.SubscriptionID+"/providers/Microsoft.Insights/eventtypes/management/values?api-version=2015-04-01", ""))
	if !strings.Contains(out["the audit log"].String(), "Microsoft.KeyVault/vaults/secrets/setSecret/action") {
		t.Error("the audit log knows of no secret that was set")
	}
	records, _ := json.Marshal(s.Server.trace.Records(trace.Filter{Instance: "default"}))
	see("the trace", string(records))
	for _, path := range []string{"/", "/portal/", "/portal/config.json", "/metrics", "/tabard/v1/vaults/hooks/secrets?api-version=7.4"} {
		req, err := http.NewRequest("GET", s.AdminURL+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Accept", "text/html, */*")
		req.Header.Set("Authorization", "Bearer "+s.AdminToken)
		res, err := s.http.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		var body bytes.Buffer
		_, _ = body.ReadFrom(res.Body)
		res.Body.Close()
		see("the portal or the metrics", fmt.Sprint(res.Header)+body.String())
	}
	s.stop()
	logMu.Lock()
	see("the log", log.String())
	logMu.Unlock()
	for where, text := range out {
		if i := strings.Index(text.String(), canary); i >= 0 {
			t.Errorf("the value is in %s: …%s…", where, text.String()[max(0, i-200):min(text.Len(), i+60)])
		}
	}
	searchFiles(t, dir, canary)
}
