package tabard

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"tabard/internal/rbac"
)

// The lines of the control plane's checklist (control-plane.md, appendix A) that show on the data plane; the others are
// in internal/arm.

func TestChecklist04And08AChangedHubAndALostIdentityCountForTheNextEvent(t *testing.T) {
	s := serve(t, Config{AllowLoopbackHandlers: true})
	var mu sync.Mutex // guards seen
	seen := map[string]int{}
	handler := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("WebHook-Allowed-Origin", "*")
		if r.Method == http.MethodPost {
			mu.Lock()
			defer mu.Unlock()
			seen[r.URL.Path+" "+strings.SplitN(r.Header.Get("Authorization"), " ", 2)[0]]++
		}
	}))
	defer handler.Close()
	const v = "?api-version=2024-03-01"
	hub := func(path, auth string) {
		s.controlPlane("PUT", s.instanceID()+"/hubs/chat"+v, `{"properties":{"eventHandlers":[{"urlTemplate":"`+handler.URL+path+`","userEventPattern":"*"`+auth+`}]}}`)
	}
	hub("/first", "")
	if err := s.event(); err != nil {
		t.Fatal(err)
	}
	hub("/second", "")
	if err := s.event(); err != nil {
		t.Fatal(err)
	}
	if seen["/first "] != 1 || seen["/second "] != 1 {
		t.Errorf("seen %v", seen)
	}
	s.controlPlane("POST", "/v1.0/applications", `{"displayName":"orders","identifierUris":["api://orders"]}`)
	var app struct{ Value []struct{ AppID string } }
	if err := json.Unmarshal([]byte(s.controlPlane("GET", "/v1.0/applications", "")), &app); err != nil {
		t.Fatal(err)
	}
	s.call("POST", s.AdminURL+"/v1.0/servicePrincipals", s.AdminToken, `{"appId":"`+app.Value[0].AppID+`"}`)
	s.controlPlane("PATCH", s.instanceID()+v, `{"identity":{"type":"SystemAssigned"}}`)
	hub("/third", `,"auth":{"type":"ManagedIdentity","managedIdentity":{"resource":"api://orders"}}`)
	if err := s.event(); err != nil || seen["/third Bearer"] != 1 {
		t.Errorf("with an identity: %v, seen %v", err, seen)
	}
	s.controlPlane("PATCH", s.instanceID()+v, `{"identity":{"type":"None"}}`)
	if err := s.event(); err == nil || len(seen) != 3 || seen["/third Bearer"] != 1 {
		t.Errorf("without one: %v, seen %v", err, seen)
	}
}

func TestChecklist22And46KeysAndTokensAreSwitchedOffAtOnce(t *testing.T) {
	s := serve(t, Config{})
	const v = "?api-version=2024-03-01"
	send := func(token string) int {
		t.Helper()
		status, _ := s.call("POST", s.Endpoint+"/api/hubs/chat/:send?api-version=2024-12-01", token, `"x"`)
		return status
	}
	key := func(key string) int {
		t.Helper()
		return send(signed(key, s.Endpoint+"/api/hubs/chat/:send"))
	}
	old := s.theDefault().Keys
	if a, b := key(old.Primary), key(old.Secondary); a != 202 || b != 202 {
		t.Fatalf("both keys: %d, %d", a, b)
	}
	s.controlPlane("POST", s.instanceID()+"/regenerateKey"+v, `{"keyType":"primary"}`)
	if a, b, c := key(old.Primary), key(old.Secondary), key(s.theDefault().Keys.Primary); a != 401 || b != 202 || c != 202 {
		t.Errorf("the old primary, the secondary, the new primary key: %d, %d, %d", a, b, c)
	}
	owner := s.principal("owner")
	s.assign(owner, rbac.WebPubSubOwner, s.instanceID())
	for _, tc := range []struct {
		properties string
		key, token int
	}{
		{`{"disableLocalAuth":true}`, 401, 202},
		{`{"disableLocalAuth":false,"disableAadAuth":true}`, 202, 401},
		{`{"disableAadAuth":false}`, 202, 202},
	} {
		s.controlPlane("PATCH", s.instanceID()+v, `{"properties":`+tc.properties+`}`)
		if k, a := key(old.Secondary), send(s.token(owner, dataPlaneResource)); k != tc.key || a != tc.token {
			t.Errorf("%s: a key %d, a token %d", tc.properties, k, a)
		}
	}
}

func TestChecklist33TokensForEachNameOfTheControlPlane(t *testing.T) {
	s := serve(t, Config{ARMURL: []string{"https://arm.example.com", "https://ARM.example.net:443"}})
	reader := s.principal("reader")
	s.assign(reader, rbac.Reader, "/subscriptions/"+s.SubscriptionID)
	own := strings.Replace(s.AdminURL, "http://", "https://", 1)
	for resource, want := range map[string]int{
		"https://management.azure.com": 200, "https://management.azure.com/": 200, "https://management.core.windows.net": 200, "https://management.core.windows.net/": 200,
		own: 200, own + "/": 200, strings.Replace(own, "127.0.0.1", "localhost", 1): 200, "https://arm.example.com": 200, "https://arm.example.com/": 200, "https://arm.example.net": 200,
		dataPlaneResource: 401, "https://vault.azure.net": 401,
	} {
		if status, text := s.call("GET", s.AdminURL+s.instanceID()+"?api-version=2024-03-01", s.token(reader, resource), ""); status != want {
			t.Errorf("a token for %s: %d %s", resource, status, text)
		}
	}
	if _, err := New(Config{Data: t.TempDir(), ARMURL: []string{"http://arm.example.com", "https://arm.example.com/x"}}, nil); err == nil || strings.Count(err.Error(), "arm-url") != 2 {
		t.Errorf("origins that are none: %v", err)
	}
}
