package tabard

import (
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	neturl "net/url"
	"strings"
	"testing"
	"time"

	"tabard/internal/arm"
	"tabard/internal/directory"
	"tabard/internal/rbac"
)

func TestMetricsAreForThoseWhoMayReadThem(t *testing.T) {
	s := serve(t, Config{AllowLoopbackHandlers: true})
	url := s.AdminURL + "/metrics"
	reader, nobody := s.principal("reader"), s.principal("nobody")
	s.assign(reader, rbac.Reader, "/subscriptions/"+s.SubscriptionID)
	for name, c := range map[string]struct {
		token  string
		status int
	}{
		"nobody":                 {"", 401},
		"another token":          {strings.Repeat("x", 43), 401},
		"the admin":              {s.AdminToken, 200},
		"a reader":               {s.token(reader, armResource), 200},
		"a principal of no role": {s.token(nobody, armResource), 403},
		"a data plane's token":   {s.token(reader, dataPlaneResource), 401},
	} {
		if status, text := s.call(http.MethodGet, url, c.token, ""); status != c.status {
			t.Errorf("%s: %d %.300s", name, status, text)
		}
	}
	// As docs/operating.md has it for Prometheus: an application with a secret.
	app, err := s.directory.CreateApplication(t.Context(), directory.Application{DisplayName: "prometheus"})
	if err != nil {
		t.Fatal(err)
	}
	sp, err := s.directory.CreateServicePrincipal(t.Context(), app.AppID)
	if err != nil {
		t.Fatal(err)
	}
	_, secret, err := s.directory.AddPassword(t.Context(), app.ID, directory.PasswordCredential{})
	if err != nil {
		t.Fatal(err)
	}
	s.assign(sp.ID, rbac.Reader, "/subscriptions/"+s.SubscriptionID)
	res, err := s.http.PostForm(strings.TrimSuffix(s.IssuerV2, "/v2.0")+"/oauth2/v2.0/token", neturl.Values{
		"grant_type": {"client_credentials"}, "client_id": {app.AppID}, "client_secret": {secret}, "scope": {armResource + "/.default"},
	})
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	var got struct {
		Token string `json:"access_token"`
	}
	if err := json.NewDecoder(res.Body).Decode(&got); err != nil || got.Token == "" {
		t.Fatal(res.Status, err)
	}
	if status, text := s.call(http.MethodGet, url, got.Token, ""); status != 200 {
		t.Errorf("Prometheus' own application: %d %.300s", status, text)
	}
	if status, _ := s.call(http.MethodPost, url, s.AdminToken, ""); status == 200 {
		t.Error("POST is answered")
	}
}

// What happens is seen in the numbers, and nothing that may not be.
func TestMetricsTellWhatHappened(t *testing.T) {
	s := serve(t, Config{AllowLoopbackHandlers: true})
	handler := newCodeHandler(t)
	s.controlPlane("PATCH", s.instanceID()+"?api-version=2024-03-01", `{"identity":{"type":"SystemAssigned"}}`)
	s.fault(handler.URL+"/?code=canary-code-of-the-url", `{"type":"ManagedIdentity"}`)
	s.publish(s.AdminToken)
	if _, err := s.say(); err == nil {
		t.Error("an anonymous client was let in")
	}
	var text string
	for end := time.Now().Add(5 * time.Second); ; time.Sleep(10 * time.Millisecond) { // a client hears of its refusal before it is counted
		_, text = s.call(http.MethodGet, s.AdminURL+"/metrics", s.AdminToken, "")
		if strings.Contains(text, `tabard_connections_refused_total{code="anonymous_denied"`) || time.Now().After(end) {
			break
		}
	}
	for _, line := range []string{
		`tabard_event_duration_seconds_count{code="delivered",hub="chat",instance="default",rule="` + handler.URL + `/?code=…",status="2xx"} 1`,
		`tabard_connections_refused_total{code="anonymous_denied",instance="default"} 1`,
		`tabard_client_refusals_total{code="anonymous_denied"} 1`,
		`tabard_token_acquisition_duration_seconds_count{outcome="ok",source="embedded"} 1`,
		`tabard_rest_requests_refused_total{code=`,
	} {
		if !strings.Contains(text, line) {
			t.Errorf("no line %s in\n%s", line, text)
		}
	}
	if strings.Contains(text, "canary") || strings.Contains(text, "ann") {
		t.Error("a secret or a user is in the metrics")
	}
}

// Metrics and the environment of identities are no routes of package arm, but refuse in its words.
func TestRefusalsOutsideArmHaveItsCodes(t *testing.T) {
	for code, err := range map[string]error{
		"AuthenticationFailed": errAdminToken,
		"AuthorizationFailed":  &arm.Refusal{Status: http.StatusForbidden, Message: "no role"},
		"ServiceUnavailable":   &arm.Refusal{Status: http.StatusServiceUnavailable, Message: "no keys of the issuer"},
	} {
		w := httptest.NewRecorder()
		unauthorized(w, err)
		var refused *arm.Refusal
		want := http.StatusUnauthorized
		if errors.As(err, &refused) {
			want = refused.Status
		}
		if w.Code != want || !strings.Contains(w.Body.String(), `"`+code+`"`) || (w.Header().Get("WWW-Authenticate") != "") != (want == http.StatusUnauthorized) {
			t.Errorf("%s: %d %s %v", code, w.Code, w.Body, w.Header())
		}
	}
}
