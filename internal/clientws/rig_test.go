package clientws

import (
	"bufio"
	"bytes"
	"context"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gobwas/ws"
	"go.uber.org/goleak"

	"tabard/internal/access"
	"tabard/internal/egress"
	"tabard/internal/eventhandler"
	"tabard/internal/fabric"
	"tabard/internal/hub"
	"tabard/internal/settings"
	"tabard/internal/store"
	"tabard/internal/trace"
)

func TestMain(m *testing.M) {
	if spec := os.Getenv(clientsEnv); spec != "" {
		runClients(spec)
		return
	}
	goleak.VerifyTestMain(m)
}

// A rig is the client plane on real parts: settings on a store, an event handler over HTTP, sockets over loopback.
type rig struct {
	t        testing.TB
	settings *settings.Settings
	hubs     *hub.Registry
	server   *Server
	trace    *trace.Recorder
	app      *app
	base     string // host:port behind net/http
	short    string // host:port whose connections go to ServeConn
	secure   string // host:port of TLS behind net/http
	roots    *x509.CertPool
}

type rigOptions struct {
	hub    hub.Options
	server func(*Options)
}

func newRig(t testing.TB, o rigOptions) *rig {
	t.Helper()
	ctx := context.Background()
	dir := t.TempDir()
	f, err := fabric.Open(ctx, fabric.Options{DataDir: dir})
	if err != nil {
		t.Fatal(err)
	}
	st, err := store.Open(ctx, f, store.MasterKeyFile(dir+"/master.key"), slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	set, err := settings.Open(ctx, st, settings.Options{SubscriptionID: "11111111-2222-4333-8444-555555555555"})
	if err != nil {
		t.Fatal(err)
	}
	r := &rig{t: t, settings: set, trace: trace.New(trace.Options{}), app: newApp()}
	handler := httptest.NewServer(r.app)
	out := egress.New(egress.Policy{AllowLoopback: true})
	events := eventhandler.New(eventhandler.Options{Settings: set.Snapshot, Egress: out, Trace: r.trace, RetryAfter: []time.Duration{}})
	r.hubs = hub.NewRegistry(o.hub)
	opt := Options{
		Instance: func(q *http.Request) *settings.Instance {
			in, _ := set.Snapshot().Instance("default")
			return in
		},
		Settings: set.Snapshot, Access: access.New(access.Options{}), Events: events, Hubs: r.hubs, Trace: r.trace,
	}
	if o.server != nil {
		o.server(&opt)
	}
	r.server = New(opt)
	web := httptest.NewServer(r.server)
	r.base = web.Listener.Addr().String()
	r.short = r.shortWay()
	tlsWeb := httptest.NewTLSServer(r.server)
	r.secure, r.roots = tlsWeb.Listener.Addr().String(), x509.NewCertPool()
	r.roots.AddCert(tlsWeb.Certificate())
	r.app.url = handler.URL
	r.configure(func(*settings.Hub) {})
	t.Cleanup(func() {
		gone, cancel := context.WithCancel(ctx)
		cancel()
		r.hubs.Close(gone)
		late, cancel := context.WithTimeout(ctx, 10*time.Second)
		defer cancel()
		if err := r.server.Close(late); err != nil {
			t.Errorf("clients are left: %v", err)
		}
		events.Close(late)
		handler.Close()
		web.Close()
		tlsWeb.Close()
		out.Close()
		st.Close()
		f.Close()
	})
	return r
}

// shortWay reads request heads itself and passes the connections on.
func (r *rig) shortWay() string {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		r.t.Fatal(err)
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			conn, err := ln.Accept()
			if err != nil {
				return
			}
			wg.Go(func() {
				conn, q, err := readHead(conn)
				if err != nil {
					conn.Close()
					return
				}
				q.RemoteAddr = conn.RemoteAddr().String()
				r.server.ServeConn(conn, q)
			})
		}
	})
	r.t.Cleanup(func() { ln.Close(); wg.Wait() })
	return ln.Addr().String()
}

// readHead reads a request's head. The connection is the same again unless more than the head was read.
func readHead(conn net.Conn) (net.Conn, *http.Request, error) {
	var head []byte
	buf := make([]byte, 4096)
	for {
		n, err := conn.Read(buf)
		head = append(head, buf[:n]...)
		if end := bytes.Index(head, []byte("\r\n\r\n")); end >= 0 {
			q, err := http.ReadRequest(bufio.NewReaderSize(bytes.NewReader(head), 16))
			if more := head[end+4:]; len(more) > 0 {
				conn = &replay{conn, more}
			}
			return conn, q, err
		}
		if err != nil {
			return conn, nil, err
		}
	}
}

// A replay gives back what was read too much.
type replay struct {
	net.Conn
	more []byte
}

func (c *replay) Read(b []byte) (int, error) {
	if len(c.more) > 0 {
		n := copy(b, c.more)
		c.more = c.more[n:]
		return n, nil
	}
	return c.Conn.Read(b)
}

// configure sets the hub chat up with a handler for everything, then as edit wants it.
func (r *rig) configure(edit func(*settings.Hub)) {
	r.t.Helper()
	_, _, err := r.settings.UpdateHub(context.Background(), "default", "chat", func(h *settings.Hub) error {
		h.AnonymousConnectPolicy = "deny"
		h.Extensions = settings.HubExtensions{}
		h.EventHandlers = []*settings.EventHandler{{
			URLTemplate: r.app.url + "/{event}", UserEventPattern: "*", SystemEvents: []string{"connect", "connected", "disconnected"},
		}}
		edit(h)
		return nil
	})
	if err != nil {
		r.t.Fatal(err)
	}
}

// An app is the application: what it got, and how it answers.
type app struct {
	url string

	mu      sync.Mutex // guards the following
	got     []event
	answers map[string]http.HandlerFunc // by event name
}

type event struct{ name, id, connection, user, subprotocol, contentType, body string }

func newApp() *app { return &app{answers: map[string]http.HandlerFunc{}} }

func (a *app) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.Method == http.MethodOptions {
		w.Header().Set("WebHook-Allowed-Origin", "*")
		return
	}
	body, _ := io.ReadAll(r.Body)
	r.Body = io.NopCloser(bytes.NewReader(body))
	h := r.Header
	a.mu.Lock()
	name := h.Get("ce-eventName")
	a.got = append(a.got, event{
		name, h.Get("ce-id"), h.Get("ce-connectionId"), h.Get("ce-userId"), h.Get("ce-subprotocol"), h.Get("Content-Type"), string(body),
	})
	answer := a.answers[name]
	a.mu.Unlock()
	if answer != nil {
		answer(w, r)
		return
	}
	w.WriteHeader(http.StatusNoContent)
}

// on sets how an event is answered from now on.
func (a *app) on(name string, answer http.HandlerFunc) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.answers[name] = answer
}

func (a *app) reply(name, contentType, body string) {
	a.on(name, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", contentType)
		io.WriteString(w, body)
	})
}

func (a *app) fail(name string, status int) {
	a.on(name, func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "private words", status) })
}

// events returns what was received under a name.
func (a *app) events(name string) []event {
	a.mu.Lock()
	defer a.mu.Unlock()
	var out []event
	for _, e := range a.got {
		if e.name == name {
			out = append(out, e)
		}
	}
	return out
}

// wait waits for the n-th event of a name, counted from 1.
func (a *app) wait(t testing.TB, name string, n int) event {
	t.Helper()
	var e event
	eventually(t, fmt.Sprintf("event %s number %d", name, n), func() bool {
		got := a.events(name)
		if len(got) >= n {
			e = got[n-1]
		}
		return len(got) >= n
	})
	return e
}

func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); !ok(); {
		if time.Now().After(deadline) {
			t.Fatalf("never happened: %s", what)
		}
		<-time.After(time.Millisecond)
	}
}

// A dial is what a client's handshake is made of.
type dial struct {
	addr         string // default: the rig's net/http address
	path         string // default: /client/hubs/chat
	query        url.Values
	header       http.Header
	user         string
	roles        []string
	groups       []string
	noToken      bool
	token        string // instead of one that is made
	subprotocols []string
	remove       string // a header that is left out
	method       string
	nonce        string
	early        []byte // sent with the request
}

const jsonProtocol = "json.webpubsub.azure.v1"

var allRoles = []string{"webpubsub.joinLeaveGroup", "webpubsub.sendToGroup"}

// handshake sends the request and returns the answer and the socket.
func (r *rig) handshake(d dial) (*http.Response, *wsClient) {
	r.t.Helper()
	addr := either(d.addr, r.base)
	in, _ := r.settings.Snapshot().Instance("default")
	query := url.Values{}
	for k, v := range d.query {
		query[k] = v
	}
	if d.token == "" && !d.noToken {
		token, err := access.SignClientToken(in.Keys.Primary, access.ClientTokenOptions{
			Audience: access.ClientAudience(r.origin(addr), "chat", ""), UserID: d.user, Roles: d.roles, Groups: d.groups,
		})
		if err != nil {
			r.t.Fatal(err)
		}
		d.token = token
	}
	if d.token != "" {
		query.Set("access_token", d.token)
	}
	nonce := make([]byte, 16)
	rand.Read(nonce)
	header := http.Header{
		"Host": {addr}, "Connection": {"Upgrade"}, "Upgrade": {"websocket"}, "Sec-Websocket-Version": {"13"},
		"Sec-Websocket-Key": {either(d.nonce, base64.StdEncoding.EncodeToString(nonce))},
	}
	if len(d.subprotocols) > 0 {
		header["Sec-Websocket-Protocol"] = []string{strings.Join(d.subprotocols, ", ")}
	}
	for k, v := range d.header {
		header[k] = v
	}
	delete(header, d.remove)
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		r.t.Fatal(err)
	}
	if addr == r.secure {
		conn = tls.Client(conn, &tls.Config{RootCAs: r.roots, ServerName: "example.com"})
	}
	r.t.Cleanup(func() { conn.Close() })
	var b bytes.Buffer
	fmt.Fprintf(&b, "%s %s?%s HTTP/1.1\r\n", either(d.method, "GET"), either(d.path, "/client/hubs/chat"), query.Encode())
	header.Write(&b)
	b.WriteString("\r\n")
	b.Write(d.early)
	conn.Write(b.Bytes())
	c := &wsClient{t: r.t, net: conn, r: bufio.NewReader(conn)}
	conn.SetReadDeadline(time.Now().Add(10 * time.Second))
	resp, err := http.ReadResponse(c.r, &http.Request{Method: http.MethodGet})
	if err != nil {
		r.t.Fatalf("reading the answer to the handshake: %v", err)
	}
	if resp.StatusCode != http.StatusSwitchingProtocols {
		body, _ := io.ReadAll(resp.Body)
		resp.Body = io.NopCloser(bytes.NewReader(body))
	}
	return resp, c
}

func (r *rig) origin(addr string) string {
	if addr == r.secure {
		return "https://" + addr
	}
	return "http://" + addr
}

func either(a, b string) string {
	if a != "" {
		return a
	}
	return b
}

// connect expects the handshake to succeed.
func (r *rig) connect(d dial) *wsClient {
	r.t.Helper()
	resp, c := r.handshake(d)
	if resp.StatusCode != http.StatusSwitchingProtocols {
		body, _ := io.ReadAll(resp.Body)
		r.t.Fatalf("handshake answered %d %s", resp.StatusCode, body)
	}
	return c
}

// json connects with the JSON subprotocol, reads the connected frame and keeps the connection id.
func (r *rig) json(d dial) *wsClient {
	r.t.Helper()
	d.subprotocols = []string{jsonProtocol}
	c := r.connect(d)
	const before = `"connectionId":"`
	frame := c.text()
	i := strings.Index(frame, before)
	if i < 0 || !strings.HasPrefix(frame, `{"type":"system","event":"connected","userId":`) {
		r.t.Fatalf("the first frame is %s", frame)
	}
	c.id = frame[i+len(before) : i+len(before)+32]
	return c
}

// A wsClient is a client that can do everything wrong.
type wsClient struct {
	t   testing.TB
	net net.Conn
	r   *bufio.Reader
	id  string
}

// frame sends one masked frame.
func (c *wsClient) frame(fin bool, op ws.OpCode, payload string) {
	c.t.Helper()
	c.raw(frameBytes(fin, op, payload))
}

func frameBytes(fin bool, op ws.OpCode, payload string) []byte {
	f := ws.MaskFrame(ws.NewFrame(op, fin, []byte(payload)))
	b, err := ws.CompileFrame(f)
	if err != nil {
		panic(err)
	}
	return b
}

func (c *wsClient) raw(b []byte) {
	c.t.Helper()
	if _, err := c.net.Write(b); err != nil {
		c.t.Fatalf("writing: %v", err)
	}
}

// send sends a text message.
func (c *wsClient) send(text string) {
	c.t.Helper()
	c.frame(true, ws.OpText, text)
}

func (c *wsClient) next() (ws.OpCode, string, error) {
	c.net.SetReadDeadline(time.Now().Add(10 * time.Second))
	h, err := ws.ReadHeader(c.r)
	if err != nil {
		return 0, "", err
	}
	if err := ws.CheckHeader(h, ws.StateClientSide); err != nil {
		return 0, "", err
	}
	payload := make([]byte, h.Length)
	_, err = io.ReadFull(c.r, payload)
	return h.OpCode, string(payload), err
}

// want expects the next frame.
func (c *wsClient) want(op ws.OpCode, payload string) {
	c.t.Helper()
	gotOp, got, err := c.next()
	if err != nil || gotOp != op || got != payload {
		c.t.Fatalf("got frame %v %q (%v)\nwant %v %q", gotOp, got, err, op, payload)
	}
}

func (c *wsClient) wantText(payload string) { c.t.Helper(); c.want(ws.OpText, payload) }

func (c *wsClient) text() string {
	c.t.Helper()
	op, got, err := c.next()
	if err != nil || op != ws.OpText {
		c.t.Fatalf("got frame %v %q (%v), want a text", op, got, err)
	}
	return got
}

// wantClose expects a close frame with a code and a reason that contains the text, answers it, and expects the end.
func (c *wsClient) wantClose(code hub.CloseCode, reason string) {
	c.t.Helper()
	op, got, err := c.next()
	if err != nil || op != ws.OpClose || len(got) < 2 || hub.CloseCode(binary.BigEndian.Uint16([]byte(got))) != code || !strings.Contains(got[2:], reason) {
		c.t.Fatalf("got frame %v %q (%v), want close %d %q", op, got, err, code, reason)
	}
	c.net.Write(frameBytes(true, ws.OpClose, got[:2])) // the service may be half gone already
	c.wantEOF()
}

// wantEOF expects the stream to end without another frame.
func (c *wsClient) wantEOF() {
	c.t.Helper()
	op, got, err := c.next()
	if err == nil {
		c.t.Fatalf("got frame %v %q, want the end of the stream", op, got)
	}
	if ne, ok := err.(net.Error); ok && ne.Timeout() {
		c.t.Fatal("the socket is still open")
	}
}

// wantNothing expects the connection to be open and nothing to have been sent.
func (c *wsClient) wantNothing() {
	c.t.Helper()
	c.frame(true, ws.OpPing, "still there?")
	c.want(ws.OpPong, "still there?")
}

// wantNothingOfEvents is wantNothing for a client that may have an event pending: it waits for that first. The client
// speaks JSON and is not in the group.
func (c *wsClient) wantNothingOfEvents() {
	c.t.Helper()
	c.send(`{"type":"setGroupState","group":"of nobody","ackId":999999}`)
	c.wantPart(`{"type":"ack","ackId":999999,"success":false`)
}

// close leaves in good order.
func (c *wsClient) close() {
	c.t.Helper()
	code := ws.NewCloseFrameBody(ws.StatusNormalClosure, "")
	c.frame(true, ws.OpClose, string(code))
	for {
		op, _, err := c.next()
		if err != nil {
			c.t.Fatalf("waiting for the answer to a close: %v", err)
		}
		if op == ws.OpClose {
			c.wantEOF()
			return
		}
	}
}

// tokenFor makes a client token for another hub than chat.
func (r *rig) tokenFor(hubName string) string {
	r.t.Helper()
	in, _ := r.settings.Snapshot().Instance("default")
	token, err := access.SignClientToken(in.Keys.Primary, access.ClientTokenOptions{Audience: access.ClientAudience(r.origin(r.base), hubName, "")})
	if err != nil {
		r.t.Fatal(err)
	}
	return token
}
