package dataplane_test

import (
	"context"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/gobwas/ws"
	"go.uber.org/goleak"

	"tabard/internal/access"
	"tabard/internal/dataplane"
	"tabard/internal/hub"
	"tabard/internal/rbac"
	"tabard/internal/settings"
	"tabard/internal/subprotocol"
	"tabard/internal/trace"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// The primary key looks like base64, and its text is the secret.
const (
	primaryKey   = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopq="
	secondaryKey = "secondary+secondary/secondary+secondary/abc="
	publicOrigin = "https://pubsub.example.com"
)

// A service is the real handler on a real listener with real connections in its hubs.
type service struct {
	t        testing.TB
	url      string
	handler  http.Handler
	access   *access.Verifier
	hubs     *hub.Registry
	instance *settings.Instance
	trace    *trace.Recorder
	roles    *rbac.RBAC // nil: nobody has one; see withRoles
}

func newService(t testing.TB) *service {
	t.Helper()
	s := &service{
		t:        t,
		hubs:     hub.NewRegistry(hub.Options{CloseTimeout: 50 * time.Millisecond, Tick: 10 * time.Millisecond, MaxGroups: 50}),
		instance: &settings.Instance{Name: "default", SubscriptionID: subscriptionID, ResourceGroup: "default", Keys: settings.Keys{Primary: primaryKey, Secondary: secondaryKey}},
		trace:    trace.New(trace.Options{}),
	}
	s.access = access.New(access.Options{
		Endpoints:  func(*settings.Instance) []string { return []string{publicOrigin} },
		ServiceKey: func(*settings.Instance) string { return "the service's own key, which nobody else knows" },
		Tokens:     verifyDirectoryToken,
		Allowed: func(p access.Principal, scope, action string) bool {
			return s.roles != nil && s.roles.Allowed(p.ObjectID, scope, action, true)
		},
	})
	s.handler = s.newHandler(s.trace)
	server := httptest.NewServer(s.handler)
	s.url = server.URL
	t.Cleanup(func() {
		server.Close()
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Millisecond)
		defer cancel()
		s.hubs.Close(ctx) // what is still open is cut off
	})
	return s
}

func (s *service) newHandler(rec *trace.Recorder) http.Handler {
	return dataplane.New(dataplane.Options{
		Instance: func(r *http.Request) *settings.Instance {
			if strings.HasPrefix(r.Host, "nobody.") {
				return nil
			}
			return s.instance
		},
		Hubs:   s.hubs,
		Access: s.access,
		Trace:  rec,
	})
}

// untraced is the same service without a trace.
func (s *service) untraced() *service {
	other := *s
	other.handler = s.newHandler(nil)
	return &other
}

// sign makes the token of an SDK for a URL.
func sign(key, audience string) string {
	token, err := access.SignClientToken(key, access.ClientTokenOptions{Audience: audience})
	if err != nil {
		panic(err)
	}
	return token
}

// A request in the making. Fields that are left out have what an SDK sends.
type request struct {
	method, path string
	body         string
	contentType  string // "-": none
	header       http.Header
	audience     string // default: the whole URL
	token        string // "-": none
	chunked      bool
}

type response struct {
	status int
	header http.Header
	body   string
}

func (s *service) do(q request) response {
	s.t.Helper()
	r, err := http.NewRequest(q.method, s.url+q.path, strings.NewReader(q.body))
	if err != nil {
		s.t.Fatal(err)
	}
	for name, values := range q.header {
		r.Header[name] = values
	}
	if q.chunked {
		r.Body, r.ContentLength = io.NopCloser(strings.NewReader(q.body)), -1
	}
	switch {
	case q.contentType == "" && q.body != "":
		r.Header.Set("Content-Type", "text/plain")
	case q.contentType != "" && q.contentType != "-":
		r.Header.Set("Content-Type", q.contentType)
	}
	if q.audience == "" {
		q.audience = s.url + q.path
	}
	if q.token == "" {
		q.token = sign(primaryKey, q.audience)
	}
	if q.token != "-" {
		r.Header.Set("Authorization", "Bearer "+q.token)
	}
	if host := r.Header.Get("Host"); host != "" {
		r.Host = host
	}
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		s.t.Fatal(err)
	}
	defer resp.Body.Close()
	defer http.DefaultClient.CloseIdleConnections()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		s.t.Fatal(err)
	}
	return response{resp.StatusCode, resp.Header, string(body)}
}

// want sends a request and checks the status, and that an error has the shape of one.
func (s *service) want(status int, q request) response {
	s.t.Helper()
	resp := s.do(q)
	if resp.status != status {
		s.t.Fatalf("%s %.200s: %d %s, want %d", q.method, q.path, resp.status, resp.body, status)
	}
	checkShape(s.t, q, resp)
	return resp
}

func (s *service) post(status int, path, body, contentType string) response {
	s.t.Helper()
	return s.want(status, request{method: "POST", path: path, body: body, contentType: contentType})
}

func (s *service) call(status int, method, path string) response {
	s.t.Helper()
	return s.want(status, request{method: method, path: path})
}

// checkShape checks what is true of every answer.
func checkShape(t testing.TB, q request, resp response) {
	t.Helper()
	if got := resp.header.Get("api-supported-versions"); !strings.Contains(got, "2024-12-01") {
		t.Errorf("%s %s: api-supported-versions is %q", q.method, q.path, got)
	}
	code := resp.header.Get("x-ms-error-code")
	if resp.status < 400 {
		if code != "" {
			t.Errorf("%s %s: success with the error code %q", q.method, q.path, code)
		}
		return
	}
	if q.method == "HEAD" {
		if code == "" || resp.body != "" {
			t.Errorf("HEAD %s: code %q, body %q", q.path, code, resp.body)
		}
		return
	}
	var e map[string]any
	if err := json.Unmarshal([]byte(resp.body), &e); err != nil {
		t.Errorf("%s %s: %v in %s", q.method, q.path, err, resp.body)
		return
	}
	for _, member := range []string{"code", "message", "target", "details", "innererror"} {
		if _, ok := e[member]; !ok || len(e) != 5 {
			t.Errorf("%s %s: no error of the service: %s", q.method, q.path, resp.body)
		}
	}
	if e["code"] != code || e["message"] == "" || resp.header.Get("Content-Type") != "application/json; charset=utf-8" {
		t.Errorf("%s %s: %v with %v", q.method, q.path, e, resp.header)
	}
}

// A client is a connection in a hub, seen from its far end.
type client struct {
	t    testing.TB
	id   string
	conn *hub.Conn
	net  net.Conn
	hubs *hub.Registry
}

type who struct {
	hub, id, user string
	groups, roles []string
	raw           bool // speaks no subprotocol
}

// connect takes a client in; it speaks the JSON subprotocol unless it says otherwise.
func (s *service) connect(w who) *client {
	s.t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		s.t.Fatal(err)
	}
	defer ln.Close()
	far, err := net.Dial("tcp", ln.Addr().String())
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { far.Close() })
	near, err := ln.Accept()
	if err != nil {
		s.t.Fatal(err)
	}
	if w.id == "" {
		w.id = hub.NewID()
	}
	if w.hub == "" {
		w.hub = "chat"
	}
	protocol := subprotocol.JSON
	if w.raw {
		protocol = subprotocol.Raw
	}
	conn, err := s.hubs.Hub("default", w.hub).Connect(hub.ConnOptions{
		ID: w.id, UserID: w.user, Groups: w.groups, Roles: w.roles, Subprotocol: protocol.Name(), Codec: protocol, Socket: near,
	})
	if err != nil {
		s.t.Fatal(err)
	}
	return &client{s.t, w.id, conn, far, s.hubs}
}

// frame reads the next frame.
func (c *client) frame() (ws.OpCode, string) {
	c.t.Helper()
	c.net.SetReadDeadline(time.Now().Add(10 * time.Second))
	h, err := ws.ReadHeader(c.net)
	if err != nil {
		c.t.Fatalf("%s reads: %v", c.id, err)
	}
	if h.Length > 2<<20 {
		c.t.Fatalf("%s gets a frame of %d bytes", c.id, h.Length)
	}
	payload := make([]byte, h.Length)
	if _, err := io.ReadFull(c.net, payload); err != nil {
		c.t.Fatalf("%s reads: %v", c.id, err)
	}
	return h.OpCode, string(payload)
}

// gets checks the next frame of a client against a JSON document.
func (c *client) gets(want string) {
	c.t.Helper()
	if _, got := c.frame(); !sameJSON(got, want) {
		c.t.Errorf("%s got %s, want %s", c.id, got, want)
	}
}

// getsText checks the data of the next message.
func (c *client) getsText(want string) {
	c.t.Helper()
	_, got := c.frame()
	var m struct{ Data any }
	if err := json.Unmarshal([]byte(got), &m); err != nil || m.Data != want {
		c.t.Errorf("%s got %s, want data %q", c.id, got, want)
	}
}

// getsNothing proves that no message is on its way: the next one is the sentinel that is sent now.
func (c *client) getsNothing() {
	c.t.Helper()
	c.conn.SendMessage(&hub.Message{Data: []byte("sentinel")})
	c.getsText("sentinel")
}

// isClosed checks the farewell of a connection that a server closed.
func (c *client) isClosed(reason string) {
	c.t.Helper()
	c.gets(`{"type":"system","event":"disconnected","message":` + quoted(reason) + `}`)
	op, payload := c.frame()
	if op != ws.OpClose || payload[2:] != reason {
		c.t.Errorf("%s got %v %q, want close with %q", c.id, op, payload, reason)
	}
}

func quoted(s string) string {
	b, _ := json.Marshal(s)
	return string(b)
}

func sameJSON(a, b string) bool {
	var x, y any
	if json.Unmarshal([]byte(a), &x) != nil || json.Unmarshal([]byte(b), &y) != nil {
		return false
	}
	i, _ := json.Marshal(x)
	j, _ := json.Marshal(y)
	return string(i) == string(j)
}

func param(name, value string) string { return name + "=" + url.QueryEscape(value) }
