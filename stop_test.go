package tabard

import (
	"net/http"
	"strings"
	"testing"

	"github.com/gobwas/ws"
	"github.com/gobwas/ws/wsutil"
)

func TestAStoppedInstanceServesNobodyAndADeletedOneEndsItsConnections(t *testing.T) {
	s := serve(t, Config{InstanceListen: map[string]string{"shop": "127.0.0.1:0"}})
	shop := strings.TrimSuffix(s.instanceID(), "default") + "shop"
	const version = "?api-version=2024-03-01"
	create := func() string {
		s.controlPlane("PUT", shop+version, `{"location":"local"}`)
		s.controlPlane("PUT", shop+"/hubs/chat"+version, `{"properties":{"anonymousConnectPolicy":"allow"}}`)
		return "ws://" + s.origins.bound.Load().instances["shop"] + "/client/hubs/chat"
	}
	address := create()
	status := func() int {
		t.Helper()
		conn, _, _, err := ws.Dial(t.Context(), address)
		if refused, ok := err.(ws.StatusError); ok {
			return int(refused)
		}
		if err != nil {
			t.Fatal(err)
		}
		conn.Close()
		return http.StatusSwitchingProtocols
	}
	// closed dials before what is done and returns the code that the connection ends with.
	closed := func(do func()) ws.StatusCode {
		t.Helper()
		conn, _, _, err := ws.Dial(t.Context(), address)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		do()
		_, _, err = wsutil.ReadServerData(conn)
		ended, ok := err.(wsutil.ClosedError)
		if !ok {
			t.Fatalf("the connection ended with %v", err)
		}
		return ended.Code
	}
	if code := closed(func() { s.controlPlane("PATCH", shop+version, `{"properties":{"resourceStopped":"true"}}`) }); code != 1008 {
		t.Errorf("stopped: code %d", code)
	}
	if got := status(); got != 503 {
		t.Errorf("a client of a stopped instance gets %d", got)
	}
	rest := "http" + strings.TrimPrefix(strings.TrimSuffix(address, "/client/hubs/chat"), "ws") + "/api/hubs/chat/groups/g/connections?api-version=2024-12-01"
	if got, body := s.call("GET", rest, "", ""); got != 503 || !strings.Contains(body, "stopped") {
		t.Errorf("a server of a stopped instance gets %d %s", got, body)
	}
	s.controlPlane("PATCH", shop+version, `{"properties":{"resourceStopped":"false"}}`)
	if got := status(); got != 101 {
		t.Errorf("after it was started again: %d", got)
	}
	if code := closed(func() { s.controlPlane("DELETE", shop+version, "") }); code != 1008 {
		t.Errorf("deleted: code %d", code)
	}
	if got := status(); got != 404 {
		t.Errorf("a client of a deleted instance gets %d", got)
	}
	create()
	if got := status(); got != 101 {
		t.Errorf("a new instance of the name: %d", got)
	}
}
