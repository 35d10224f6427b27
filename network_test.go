package tabard

import (
	"net/http"
	"strings"
	"testing"

	"github.com/gobwas/ws"

	"tabard/guard/reason"
	"tabard/internal/trace"
)

func TestNetworkRulesAreInForceForTheNextRequest(t *testing.T) {
	s := serve(t, Config{})
	instance := s.instanceID() + "?api-version=2024-03-01"
	s.controlPlane("PUT", s.instanceID()+"/hubs/chat?api-version=2024-03-01", `{"properties":{"anonymousConnectPolicy":"allow"}}`)
	connect := func() int {
		t.Helper()
		conn, _, _, err := ws.Dial(t.Context(), "ws"+strings.TrimPrefix(s.Endpoint, "http")+"/client/hubs/chat")
		if refused, ok := err.(ws.StatusError); ok {
			return int(refused)
		}
		if err != nil {
			t.Fatal(err)
		}
		conn.Close()
		return http.StatusSwitchingProtocols
	}
	stays, _, _, err := ws.Dial(t.Context(), "ws"+strings.TrimPrefix(s.Endpoint, "http")+"/client/hubs/chat")
	if err != nil {
		t.Fatal(err)
	}
	defer stays.Close()
	for _, tc := range []struct {
		name, properties string
		client, rest     int
	}{
		{"no rules", `{}`, 101, 401},
		{"clients only", `{"networkACLs":{"defaultAction":"Deny","publicNetwork":{"allow":["ClientConnection"]}}}`, 101, 403},
		{"servers only", `{"networkACLs":{"defaultAction":"Allow","publicNetwork":{"deny":["ClientConnection"],"allow":null}}}`, 403, 401},
		{"everybody but this machine", `{"networkACLs":{"defaultAction":"Allow","publicNetwork":null,"ipRules":[{"value":"127.0.0.0/8","action":"Deny"}]}}`, 403, 403},
		{"nobody but this machine", `{"networkACLs":{"defaultAction":"Deny","ipRules":[{"value":"127.0.0.0/8","action":"Allow"}]}}`, 101, 401},
		{"switched off", `{"publicNetworkAccess":"Disabled"}`, 403, 403},
		{"switched on", `{"publicNetworkAccess":"Enabled","networkACLs":null}`, 101, 401},
	} {
		s.controlPlane("PATCH", instance, `{"properties":`+tc.properties+`}`)
		if got := connect(); got != tc.client {
			t.Errorf("%s: a client gets %d, want %d", tc.name, got, tc.client)
		}
		status, body := s.call("GET", s.Endpoint+"/api/hubs/chat/groups/g/connections?api-version=2024-12-01", "", "")
		if status != tc.rest {
			t.Errorf("%s: a server gets %d %s, want %d", tc.name, status, body, tc.rest)
		}
		if status == http.StatusForbidden && (!strings.Contains(body, `"code":"Error.Forbidden"`) || !strings.Contains(body, "network rules")) {
			t.Errorf("%s: not the data plane's error: %s", tc.name, body)
		}
	}
	refused := 0
	for _, r := range s.trace.Records(trace.Filter{Instance: "default"}) {
		if r.Code == reason.NetworkDenied {
			refused++
		}
	}
	if refused != 6 {
		t.Errorf("%d refusals are in the trace, want 6", refused)
	}
	// A connection that was open before lives on through all of this.
	if err := ws.WriteFrame(stays, ws.MaskFrame(ws.NewPingFrame([]byte("still there?")))); err != nil {
		t.Fatal(err)
	}
	if header, err := ws.ReadHeader(stays); err != nil || header.OpCode != ws.OpPong {
		t.Errorf("an open connection got %v, %v", header, err)
	}
	// What belongs to the installation is not the instance's to close.
	s.controlPlane("PATCH", instance, `{"properties":{"publicNetworkAccess":"Disabled"}}`)
	for _, url := range []string{s.Endpoint + "/api/health", s.Issuer + ".well-known/openid-configuration"} {
		if status, body := s.call("GET", url, "", ""); status != http.StatusOK {
			t.Errorf("%s: %d %s", url, status, body)
		}
	}
}

func TestOnlyATrustedProxySaysWhoTheClientIs(t *testing.T) {
	for _, tc := range []struct {
		name    string
		trusted []string
		status  int // for a client of the denied network, by its header
	}{
		{"nobody is trusted", nil, http.StatusUnauthorized},
		{"somebody else is trusted", []string{"192.0.2.1"}, http.StatusUnauthorized},
		{"this machine is trusted", []string{"127.0.0.0/8"}, http.StatusForbidden},
		{"this machine is trusted, written as a v6 address", []string{"::ffff:127.0.0.1"}, http.StatusForbidden},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s := serve(t, Config{TrustedProxy: tc.trusted})
			s.controlPlane("PATCH", s.instanceID()+"?api-version=2024-03-01", `{"properties":{"networkACLs":{"ipRules":[{"value":"198.51.100.0/24","action":"Deny"}]}}}`)
			r, err := http.NewRequest("GET", s.Endpoint+"/api/hubs/chat/groups/g/connections?api-version=2024-12-01", nil)
			if err != nil {
				t.Fatal(err)
			}
			r.Header.Set("X-Forwarded-For", "127.0.0.1, 198.51.100.7")
			res, err := s.http.Do(r)
			if err != nil {
				t.Fatal(err)
			}
			res.Body.Close()
			if res.StatusCode != tc.status {
				t.Errorf("status %d, want %d", res.StatusCode, tc.status)
			}
		})
	}
}
