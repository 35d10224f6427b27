package tabard

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/gobwas/ws"
	"github.com/gobwas/ws/wsutil"

	"tabard/internal/rbac"
	"tabard/internal/settings"
)

// signed is a token of an access key for an audience, as SDKs make it.
func signed(key, audience string) string {
	claims, _ := json.Marshal(map[string]any{"aud": audience, "exp": time.Now().Add(time.Hour).Unix()})
	text := base64.RawURLEncoding.EncodeToString([]byte(`{"alg":"HS256","typ":"JWT"}`)) + "." + base64.RawURLEncoding.EncodeToString(claims)
	mac := hmac.New(sha256.New, []byte(key))
	mac.Write([]byte(text))
	return text + "." + base64.RawURLEncoding.EncodeToString(mac.Sum(nil))
}

// A tenantInstance is one of two instances in one process that must not know of each other.
type tenantInstance struct {
	s             *served
	name, id      string
	origin, key   string
	owner, system string // object ids: of a data-plane owner of this instance alone, and of its own identity
}

func (s *served) tenantInstance(name string) *tenantInstance {
	s.t.Helper()
	a := &tenantInstance{s: s, name: name, id: strings.TrimSuffix(s.instanceID(), "default") + name, origin: "http://" + s.origins.bound.Load().instances[name]}
	s.controlPlane("PUT", a.id+"?api-version=2024-03-01", `{"location":"local","identity":{"type":"SystemAssigned"}}`)
	s.controlPlane("PUT", a.id+"/hubs/chat?api-version=2024-03-01", `{"properties":{}}`)
	in := s.instance(name)
	a.key, a.system = in.Keys.Primary, in.Identity.PrincipalID
	a.owner = s.principal("owner-" + name)
	s.assign(a.owner, rbac.WebPubSubOwner, a.id)
	return a
}

// rest calls an operation of the data plane at this instance's address.
func (a *tenantInstance) rest(token, method, operation, body string) (int, string) {
	a.s.t.Helper()
	return a.s.call(method, a.origin+"/api/hubs/chat/"+operation+"?api-version=2024-12-01", token, body)
}

// dial connects a client with a token, and returns the status that refused it or 101.
func (a *tenantInstance) dial(token string) (*client, int) {
	a.s.t.Helper()
	conn, _, _, err := ws.Dial(a.s.t.Context(), "ws"+strings.TrimPrefix(a.origin, "http")+"/client/hubs/chat?access_token="+token)
	if refused, ok := err.(ws.StatusError); ok {
		return nil, int(refused)
	}
	if err != nil {
		a.s.t.Fatal(err)
	}
	a.s.t.Cleanup(func() { _ = conn.Close() })
	return &client{a.s.t, conn}, http.StatusSwitchingProtocols
}

type client struct {
	t    testing.TB
	conn net.Conn
}

// next is the next message that arrives.
func (c *client) next() string {
	c.t.Helper()
	_ = c.conn.SetReadDeadline(time.Now().Add(20 * time.Second)) // a message that does not come fails the test
	data, _, err := wsutil.ReadServerData(c.conn)
	if err != nil {
		c.t.Fatal(err)
	}
	return string(data)
}

func TestInstancesDoNotSeeReachOrExhaustEachOther(t *testing.T) {
	s := serve(t, Config{InstanceListen: map[string]string{"one": "127.0.0.1:0", "two": "127.0.0.1:0"}})
	one, two := s.tenantInstance("one"), s.tenantInstance("two")
	audience := func(a *tenantInstance, path string) string { return a.origin + path }
	clientToken := signed(one.key, audience(one, "/client/hubs/chat"))
	const publish = ":send"

	// Every credential of one works at its own place, and at no other.
	for _, tc := range []struct {
		name  string
		token string
		at    *tenantInstance
		rest  int
	}{
		{"its own key", signed(one.key, audience(one, "/api/hubs/chat/:send")), one, 202},
		{"the other's key for this place", signed(two.key, audience(one, "/api/hubs/chat/:send")), one, 401},
		{"a key for its own place, here", signed(one.key, audience(one, "/api/hubs/chat/:send")), two, 401},
		{"its own key, for this place", signed(one.key, audience(two, "/api/hubs/chat/:send")), two, 401},
		{"a principal with a role here", s.token(one.owner, dataPlaneResource), one, 202},
		{"a principal with a role at the other", s.token(one.owner, dataPlaneResource), two, 403},
		{"a client's token", clientToken, one, 401},
		{"the admin token", s.AdminToken, one, 401},
	} {
		if status, text := tc.at.rest(tc.token, "POST", publish, `"x"`); status != tc.rest {
			t.Errorf("%s: %d %s, want %d", tc.name, status, text, tc.rest)
		}
	}
	first, status := one.dial(clientToken)
	if status != 101 {
		t.Fatalf("a client at its own instance: %d", status)
	}
	for name, token := range map[string]string{"one's token": clientToken, "one's key for two": signed(one.key, audience(two, "/client/hubs/chat")), "none": ""} {
		if _, status := two.dial(token); status != 401 {
			t.Errorf("a client at two with %s: %d", name, status)
		}
	}
	// The Host header chooses on the shared address, and there too the key must be the named instance's.
	shared := &tenantInstance{s: s, name: "one", origin: s.Endpoint}
	if status, _ := shared.rest(signed(one.key, s.Endpoint+"/api/hubs/chat/:send"), "POST", publish, `"x"`); status != 401 {
		t.Errorf("one's key at the default instance: %d", status)
	}

	// The same hub, group and connection ids are different ones.
	second, status := two.dial(signed(two.key, audience(two, "/client/hubs/chat")))
	if status != 101 {
		t.Fatalf("a client at two: %d", status)
	}
	for _, a := range []*tenantInstance{one, two} {
		if status, text := a.rest(signed(a.key, audience(a, "/api/hubs/chat/:send")), "POST", publish, `"to `+a.name+`"`); status != 202 {
			t.Fatalf("%d %s", status, text)
		}
	}
	if got := first.next(); got != `"to one"` {
		t.Errorf("one's client got %s", got)
	}
	if got := second.next(); got != `"to two"` {
		t.Errorf("two's client got %s", got)
	}
	var live struct {
		Connections int
		Hubs        []json.RawMessage
	}
	if err := json.Unmarshal([]byte(s.controlPlane("GET", two.id+"/live?api-version=2024-03-01", "")), &live); err != nil || live.Connections != 1 {
		t.Errorf("two has %+v, %v", live, err)
	}
	found, _ := s.hubs.Lookup("one", "chat").Connections("", "", "", 10)
	ids := found[0].ID()
	if status, _ := two.rest(s.token(two.owner, dataPlaneResource), "HEAD", "connections/"+ids, ""); status != 404 {
		t.Errorf("one's connection at two: %d", status)
	}
	if status, _ := two.rest(s.token(two.owner, dataPlaneResource), "DELETE", "connections/"+ids, ""); status >= 300 {
		t.Errorf("closing one's connection at two: %d", status)
	}
	if status, _ := one.rest(s.token(one.owner, dataPlaneResource), "HEAD", "connections/"+ids, ""); status != 200 {
		t.Errorf("one's connection after that: %d", status)
	}

	// Identities and what is below an instance.
	if one.system == two.system {
		t.Error("two instances are one principal")
	}
	reader := s.principal("reader")
	s.assign(reader, rbac.Contributor, one.id)
	for _, path := range []string{"", "/hubs/chat", "/hubs", "/trace", "/live", "/customDomains"} {
		if !s.asks(reader, "GET", one.id+path) || s.asks(reader, "GET", two.id+path) {
			t.Errorf("a contributor of one at %q", path)
		}
	}

	// One's connections do not use up two's.
	s.controlPlane("PATCH", one.id+"?api-version=2024-03-01", `{"properties":{"tabard":{"maxConnections":2}}}`)
	if _, status := one.dial(clientToken); status != 101 {
		t.Errorf("the second client of one: %d", status)
	}
	if _, status := one.dial(clientToken); status != 429 {
		t.Errorf("the third client of one: %d", status)
	}
	for range 4 {
		if _, status := two.dial(signed(two.key, audience(two, "/client/hubs/chat"))); status != 101 {
			t.Errorf("a client of two: %d", status)
		}
	}
}

// fill stores n instances with that many hubs each, one event handler in every hub.
func fill(t testing.TB, s *settings.Settings, subscription string, n, hubs int) {
	t.Helper()
	for i := range n {
		in := settings.Instance{Name: fmt.Sprintf("tenant-%03d", i), SubscriptionID: subscription, ResourceGroup: "many", Location: "local", Hubs: map[string]*settings.Hub{}}
		for j := range hubs {
			name := fmt.Sprintf("hub%d", j)
			in.Hubs[name] = &settings.Hub{Name: name, EventHandlers: []*settings.EventHandler{{URLTemplate: "https://handler.example/{hub}/{event}", UserEventPattern: "*", SystemEvents: []string{"connect"}}}}
		}
		if _, err := s.Create(t.Context(), in); err != nil {
			t.Fatal(err)
		}
	}
}

const manyInstances, manyHubs = 200, 20

func TestTwoHundredInstancesWithTwentyHubsStartInSeconds(t *testing.T) {
	data := t.TempDir()
	s := serve(t, Config{Data: data})
	fill(t, s.settings, s.SubscriptionID, manyInstances, manyHubs)
	s.stop()
	start := time.Now()
	again := serve(t, Config{Data: data})
	took := time.Since(start)
	t.Logf("%d instances with %d hubs each were served after %v", manyInstances, manyHubs, took)
	if limit := 20 * time.Second; took > limit { // two orders of magnitude above an idle machine's: it may be anything but
		t.Errorf("the start took %v", took)
	}
	if n := len(again.settings.Snapshot().Instances()); n != manyInstances+1 {
		t.Errorf("%d instances", n)
	}
	var list struct{ Value []json.RawMessage }
	if err := json.Unmarshal([]byte(again.controlPlane("GET", "/subscriptions/"+again.SubscriptionID+"/resourceGroups/many/providers/Microsoft.SignalRService/webPubSub?api-version=2024-03-01", "")), &list); err != nil || len(list.Value) != manyInstances {
		t.Errorf("%d are listed, %v", len(list.Value), err)
	}
	in, _ := again.settings.Snapshot().Instance("tenant-199")
	if h := in.Hub("hub19").UserHandler("x"); h == nil || h.Template() == nil {
		t.Error("the last hub of the last instance has no handler")
	}
}

// BenchmarkIdleInstance tells what an instance with twenty hubs costs while nothing happens: bytes of memory, and
// goroutines, of which it should have none.
func BenchmarkIdleInstance(b *testing.B) {
	for b.Loop() {
		s := serve(b, Config{})
		before := idle()
		goroutines := runtime.NumGoroutine()
		fill(b, s.settings, s.SubscriptionID, manyInstances, manyHubs)
		b.ReportMetric(float64(idle()-before)/manyInstances, "B/instance")
		b.ReportMetric(float64(runtime.NumGoroutine()-goroutines)/manyInstances, "goroutines/instance")
		s.stop()
	}
}

// idle is the memory that is in use when all that can be freed is.
func idle() uint64 {
	var m runtime.MemStats
	runtime.GC()
	runtime.GC()
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}
