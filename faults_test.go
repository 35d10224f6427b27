package tabard

import (
	"crypto/tls"
	"encoding/json"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"tabard/guard"
	"tabard/guard/reason"
	"tabard/internal/directory"
	"tabard/internal/trace"
)

// fault configures the hub chat with one handler, sends it an event that no client sent, and returns the records that
// the event left: what an operator has to go by.
func (s *served) fault(template, auth string) []trace.Record {
	s.t.Helper()
	rule := map[string]any{"urlTemplate": template, "userEventPattern": "*"}
	if auth != "" {
		rule["auth"] = json.RawMessage(auth)
	}
	body, _ := json.Marshal(map[string]any{"properties": map[string]any{"eventHandlers": []any{rule}}})
	s.controlPlane("PUT", s.instanceID()+"/hubs/chat?api-version=2024-03-01", string(body))
	last := uint64(0)
	for _, r := range s.Server.trace.Records(trace.Filter{Instance: "default"}) {
		last = r.ID
	}
	s.controlPlane("POST", s.instanceID()+"/hubs/chat/trigger?api-version=2024-03-01", `{"data":"hi","userId":"ann"}`)
	var out struct{ Value []trace.Record }
	text := s.controlPlane("GET", s.instanceID()+"/trace?api-version=2024-03-01", "")
	if err := json.Unmarshal([]byte(text), &out); err != nil {
		s.t.Fatal(err)
	}
	var recs []trace.Record
	for _, r := range out.Value {
		if r.ID > last {
			recs = append(recs, r)
		}
	}
	return recs
}

// says fails the test unless the delivery's record has the code, and the stage the outcome failed.
func (s *served) says(recs []trace.Record, code reason.Code, stage string) trace.Record {
	s.t.Helper()
	for _, r := range recs {
		if r.Kind != trace.Delivery {
			continue
		}
		failed := ""
		for _, st := range r.Stages {
			if st.Outcome == trace.Failed {
				failed = st.Name
			}
		}
		if r.Code != code || failed != stage {
			s.t.Errorf("the trace says %s at %q (%s), want %s at %q", r.Code, failed, r.Detail, code, stage)
		}
		return r
	}
	s.t.Fatalf("no delivery among %d records", len(recs))
	return trace.Record{}
}

const identityFor = `{"type":"ManagedIdentity","managedIdentity":{"resource":"%"}}`

func auth(resource string) string { return strings.ReplaceAll(identityFor, "%", resource) }

// willing answers the endpoint validation and takes every event.
func willing(w http.ResponseWriter, _ *http.Request) { w.Header().Set("WebHook-Allowed-Origin", "*") }

func handlerOf(t *testing.T, h http.HandlerFunc) *httptest.Server {
	srv := httptest.NewServer(h)
	t.Cleanup(srv.Close)
	return srv
}

// The classic faults, each caused for real; those whose repetitions take seconds are in package eventhandler
// (TestClassicFaultsThatAreRepeated).
func TestClassicFaults(t *testing.T) {
	s := serve(t, Config{AllowLoopbackHandlers: true})
	ok := handlerOf(t, willing)
	app, err := s.directory.CreateApplication(t.Context(), directory.Application{DisplayName: "h", IdentifierURIs: []string{"api://h", "api://other"}})
	if err == nil {
		_, err = s.directory.CreateServicePrincipal(t.Context(), app.AppID)
	}
	if err != nil {
		t.Fatal(err)
	}

	t.Run("no identity", func(t *testing.T) {
		s.t = t
		s.says(s.fault(ok.URL, auth("api://h")), reason.IdentityMissing, "validation")
	})
	s.t = t
	s.controlPlane("PATCH", s.instanceID()+"?api-version=2024-03-01", `{"identity":{"type":"SystemAssigned"}}`)

	t.Run("empty audience", func(t *testing.T) {
		s.t = t
		recs := s.fault(ok.URL+"/empty", `{"type":"ManagedIdentity"}`)
		if r := s.says(recs, reason.Delivered, ""); r.Audience != "https://graph.microsoft.com" {
			t.Errorf("audience %q", r.Audience)
		}
		warned := false
		for _, r := range recs {
			warned = warned || r.Kind == trace.Identity && r.Code == reason.AudienceEmpty
		}
		if !warned {
			t.Error("nothing warns that the handler cannot verify the token")
		}
	})

	t.Run("wrong audience at the handler", func(t *testing.T) {
		s.t = t
		g, err := guard.New(guard.Trust{Issuers: []string{s.Issuer}, Audiences: []string{"api://other"}, Transport: s.http.Transport}, guard.Options{})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(g.Close)
		h := handlerOf(t, g.Protect(http.HandlerFunc(willing)).ServeHTTP)
		recs := s.fault(h.URL, auth("api://h"))
		for _, v := range recs { // the validation carried the token and was refused: its record has the claims
			if v.Kind == trace.Validation && (v.Code != reason.WrongAudience || v.Status != 401 || !strings.Contains(string(v.Claims), `"aud":"api://h"`)) {
				t.Errorf("%+v", v)
			}
		}
		r := s.says(recs, reason.WrongAudience, "validation")
		if !strings.Contains(r.Detail, "api://other") || !strings.Contains(r.Detail, "api://h") {
			t.Errorf("detail %s", r.Detail)
		}
	})

	t.Run("a 401 on validation, as App Service gives one", func(t *testing.T) {
		s.t = t
		h := handlerOf(t, func(w http.ResponseWriter, r *http.Request) {
			if r.Header.Get("Authorization") == "" {
				w.Header().Set("WWW-Authenticate", `Bearer realm="app.azurewebsites.net"`)
				w.WriteHeader(http.StatusUnauthorized)
				_, _ = io.WriteString(w, "You do not have permission to view this directory or page.")
				return
			}
			willing(w, r)
		})
		s.says(s.fault(h.URL, ""), reason.ValidationUnauthorized, "validation")
		s.says(s.fault(h.URL, auth("api://h")), reason.Delivered, "") // and what cures it
	})

	t.Run("validation header missing", func(t *testing.T) {
		s.t = t
		h := handlerOf(t, func(http.ResponseWriter, *http.Request) {})
		recs := s.fault(h.URL, "")
		s.says(recs, reason.ValidationHeaderMissing, "validation")
		azure := false
		for _, r := range recs {
			azure = azure || r.Operation == "AbuseProtectionResponseMissingAllowedOrigin"
		}
		if !azure {
			t.Error("no record has Azure's name of it")
		}
	})

	t.Run("TLS failure", func(t *testing.T) {
		s.t = t
		srv := httptest.NewUnstartedServer(http.HandlerFunc(willing))
		srv.Config.ErrorLog = log.New(io.Discard, "", 0)
		srv.TLS = &tls.Config{MinVersion: tls.VersionTLS12}
		srv.StartTLS() // a certificate that nobody here trusts
		t.Cleanup(srv.Close)
		recs := s.fault(srv.URL, "")
		s.says(recs, reason.TLSFailure, "validation")
		for _, r := range recs { // the validation's own record says at which step
			if r.Kind == trace.Validation && (r.Code != reason.TLSFailure || r.Stages[len(r.Stages)-1].Name != "tls" || r.Stages[len(r.Stages)-1].Outcome != trace.Failed) {
				t.Errorf("%+v", r.Stages)
			}
		}
	})

	t.Run("plain http with a token", func(t *testing.T) {
		s.t = t
		listener, err := net.Listen("tcp", "0.0.0.0:0")
		if err != nil {
			t.Fatal(err)
		}
		srv := &httptest.Server{Listener: listener, Config: &http.Server{Handler: http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { t.Errorf("called with %v", r.Header) })}}
		srv.Start()
		t.Cleanup(srv.Close)
		_, port, _ := net.SplitHostPort(listener.Addr().String())
		s.says(s.fault("http://192.0.2.1:"+port, auth("api://h")), reason.TokenOverPlainHTTP, "validation")
	})

	vaultURI := s.origins.vaultOrigin("hooks") + "/secrets/code"
	withSecret := ok.URL + "/?code={@Microsoft.KeyVault(SecretUri=" + vaultURI + ")}"
	s.t = t
	s.controlPlane("PUT", s.group()+"/Microsoft.KeyVault/vaults/hooks"+armVersion, `{"location":"local","properties":{"sku":{"family":"A","name":"standard"},"tenantId":"`+s.TenantID+`"}}`)
	if status, text := s.vaultCall("hooks", "PUT", "/secrets/code", s.AdminToken, `{"value":"abc"}`); status != 200 {
		t.Fatal(status, text)
	}
	t.Run("secret denied", func(t *testing.T) {
		s.t = t
		s.says(s.fault(withSecret, ""), reason.SecretDenied, "secret")
	})
	s.t = t
	s.controlPlane("PUT", s.group()+"/Microsoft.KeyVault/vaults/hooks/accessPolicies/add"+armVersion,
		`{"properties":{"accessPolicies":[{"tenantId":"`+s.TenantID+`","objectId":"`+s.theDefault().Identity.PrincipalID+`","permissions":{"secrets":["get"]}}]}}`)
	t.Run("secret gone", func(t *testing.T) {
		s.t = t
		s.says(s.fault(withSecret, ""), reason.Delivered, "")
		s.says(s.fault(ok.URL+"/?code={@Microsoft.KeyVault(SecretUri="+s.origins.vaultOrigin("hooks")+"/secrets/gone)}", ""), reason.SecretNotFound, "secret")
	})
	s.t = t
}
