package eventhandler

import (
	"bufio"
	"context"
	"crypto/x509"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"

	"golang.org/x/net/dns/dnsmessage"

	"tabard/guard/reason"
	"tabard/internal/egress"
	"tabard/internal/settings"
	"tabard/internal/trace"
)

// names is a resolver that knows some names; a name's later addresses come at later queries.
func names(t testing.TB, known map[string][]string) *net.Resolver {
	t.Helper()
	conn, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	asked := map[string]int{}
	go func() {
		defer close(done)
		buf := make([]byte, 1500)
		for {
			n, from, err := conn.ReadFrom(buf)
			if err != nil {
				return
			}
			var m dnsmessage.Message
			if m.Unpack(buf[:n]) != nil || len(m.Questions) != 1 {
				continue
			}
			q := m.Questions[0]
			m.Response, m.Additionals = true, nil
			name := strings.TrimSuffix(q.Name.String(), ".")
			addrs := known[name]
			switch {
			case len(addrs) == 0:
				m.RCode = dnsmessage.RCodeNameError
			case q.Type == dnsmessage.TypeA:
				a := netip.MustParseAddr(addrs[min(asked[name], len(addrs)-1)])
				asked[name]++
				m.Answers = []dnsmessage.Resource{{
					Header: dnsmessage.ResourceHeader{Name: q.Name, Type: q.Type, Class: q.Class},
					Body:   &dnsmessage.AResource{A: a.As4()},
				}}
			}
			if out, err := m.Pack(); err == nil {
				conn.WriteTo(out, from)
			}
		}
	}()
	t.Cleanup(func() { conn.Close(); <-done })
	return &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "udp", conn.LocalAddr().String())
	}}
}

// otherAddress is an address of this machine that is not loopback; the test is about plain http beyond it.
func otherAddress(t *testing.T) string {
	t.Helper()
	addrs, err := net.InterfaceAddrs()
	if err != nil {
		t.Fatal(err)
	}
	for _, a := range addrs {
		if n, ok := a.(*net.IPNet); ok && n.IP.To4() != nil && !n.IP.IsLoopback() && !n.IP.IsLinkLocalUnicast() {
			return n.IP.String()
		}
	}
	return ""
}

func port(url string) string { return url[strings.LastIndexByte(url, ':'):] }

func TestAppendixA56ATokenGoesOverPlainHTTPToLoopbackAlone(t *testing.T) {
	opt := quick()
	opt.Egress = egress.New(egress.Policy{AllowLoopback: true, Resolver: names(t, map[string][]string{
		"handler.test": {"127.0.0.1"}, "public.test": {"192.0.2.1"}, "moves.test": {"127.0.0.1", "192.0.2.1"},
	})})
	w := newWorld(t, opt)
	h := newSink(t, func(w http.ResponseWriter, _ *http.Request, _ string) { w.Header().Set("Connection", "close") })
	h.option = func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("WebHook-Allowed-Origin", "*")
		w.Header().Set("Connection", "close")
	}

	w.hub("chat", with("http://handler.test"+port(h.URL), "api://x"))
	if _, err := w.send(w.session(), "hi"); err != nil {
		t.Errorf("a name of a loopback address: %v", err)
	}
	w.hub("chat", with("http://public.test"+port(h.URL), "api://x"))
	w.failed(second(w.send(w.session(), "hi")), reason.TokenOverPlainHTTP)
	_, err := w.session().Connect(t.Context(), ConnectRequest{})
	if r, ok := err.(*Rejection); !ok || r.Status != 500 || r.Code != reason.TokenOverPlainHTTP {
		t.Errorf("connect: %v", err)
	}

	// The validation finds loopback, the event another address.
	w.hub("chat", with("http://moves.test"+port(h.URL), "api://x"))
	w.failed(second(w.send(w.session(), "hi")), reason.TokenOverPlainHTTP)

	addr := otherAddress(t)
	if addr == "" {
		return // this machine has no other address; the name above is the same case
	}
	far := &sink{}
	l, err := net.Listen("tcp", addr+":0")
	if err != nil {
		t.Fatal(err)
	}
	srv := &httptest.Server{Listener: l, Config: &http.Server{Handler: far}}
	srv.Start()
	defer srv.Close()
	w.hub("chat", with(srv.URL, "api://x"))
	w.failed(second(w.send(w.session(), "hi")), reason.TokenOverPlainHTTP)
	if len(far.got) != 0 {
		t.Errorf("the handler beyond loopback got %+v", far.got)
	}
	w.hub("chat", all(srv.URL))
	if _, err := w.send(w.session(), "hi"); err != nil {
		t.Errorf("without a token: %v", err)
	}
	w.hub("chat", with(srv.URL, "api://x"))
	w.edit(func(in *settings.Instance) { in.Extensions.AllowTokenOverHTTP = true })
	if _, err := w.send(w.session(), "hi"); err != nil {
		t.Errorf("with the instance's consent: %v", err)
	}
}

func TestHandlersAtForbiddenAddressesAreNeverCalled(t *testing.T) {
	opt := quick()
	opt.Egress = egress.New(egress.Policy{Resolver: names(t, map[string][]string{"metadata.test": {"169.254.169.254"}, "local.test": {"127.0.0.1"}})})
	w := newWorld(t, opt)
	h := newSink(t, nil)
	for _, url := range []string{
		"http://169.254.169.254/latest/meta-data", "http://metadata.test/", "http://[::ffff:169.254.169.254]/", "http://[64:ff9b::a9fe:a9fe]/",
		"http://168.63.129.16/", "http://[fd00:ec2::254]/", "http://0.0.0.0" + port(h.URL), h.URL, "http://local.test" + port(h.URL), "http://localhost" + port(h.URL),
	} {
		w.hub("chat", all(url))
		w.failed(second(w.send(w.session(), "hi")), reason.DestinationBlocked)
		if rec := w.record(trace.Delivery); rec.Code != reason.DestinationBlocked || rec.Status != 0 || rec.Attempts > 0 {
			t.Errorf("%s: %+v", url, rec)
		}
	}
	if len(h.got) != 0 {
		t.Errorf("the handler got %+v", h.got)
	}
}

func TestANameThatMovesAfterItsValidationIsRefused(t *testing.T) {
	opt := quick()
	opt.Egress = egress.New(egress.Policy{AllowLoopback: true, Resolver: names(t, map[string][]string{"rebinding.test": {"127.0.0.1", "169.254.169.254"}})})
	w := newWorld(t, opt)
	h := newSink(t, nil)
	h.option = func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("WebHook-Allowed-Origin", "*")
		w.Header().Set("Connection", "close")
	}
	w.hub("chat", all("http://rebinding.test"+port(h.URL)))
	w.failed(second(w.send(w.session(), "hi")), reason.DestinationBlocked)
	if len(h.calls("OPTIONS")) != 1 || len(h.calls("POST")) != 0 {
		t.Errorf("got %+v", h.got)
	}
}

func TestFailuresOfTheNetworkHaveTheirReason(t *testing.T) {
	opt := quick()
	opt.Egress = egress.New(egress.Policy{AllowLoopback: true, RootCAs: x509.NewCertPool(), Resolver: names(t, nil)})
	w := newWorld(t, opt)
	secure := httptest.NewUnstartedServer(&sink{})
	secure.Config.ErrorLog = log.New(io.Discard, "", 0)
	secure.StartTLS()
	defer secure.Close()
	cut := newSink(t, func(http.ResponseWriter, *http.Request, string) { panic(http.ErrAbortHandler) })
	for url, code := range map[string]reason.Code{
		"http://nobody.test/": reason.DNSFailure, "http://127.0.0.1:1/": reason.ConnectFailure, secure.URL: reason.TLSFailure, cut.URL: reason.ConnectFailure,
	} {
		w.hub("chat", all(url))
		e := w.failed(second(w.send(w.session(), "hi")), code)
		if _, known := reason.Lookup(code); !known || e.Err == nil {
			t.Errorf("%s: %v", url, e)
		}
	}
	if n := len(cut.calls("POST")); n != 4 {
		t.Errorf("an answer that is cut off: %d attempts", n)
	}
}

// The wire of an HTTP/1.1 event: casing, order of nothing, each header once, a length instead of chunks.
func TestEventOnTheWire(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	heads := make(chan []string, 8)
	var wg sync.WaitGroup
	defer wg.Wait()
	defer l.Close()
	wg.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			wg.Go(func() {
				defer c.Close()
				r := bufio.NewReader(c)
				var head []string
				for {
					line, err := r.ReadString('\n')
					if err != nil {
						return
					}
					if line = strings.TrimRight(line, "\r\n"); line == "" {
						break
					}
					head = append(head, line)
				}
				heads <- head
				io.WriteString(c, "HTTP/1.1 200 OK\r\nwebhook-allowed-origin: *\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
			})
		}
	})
	w := newWorld(t, quick())
	w.hub("chat", with("http://"+l.Addr().String()+"/hook?code=1", "api://x"))
	s := w.session()
	s.Bind("alice", "json.webpubsub.azure.v1")
	s.state = "state"
	if _, err := s.User(t.Context(), UserEvent{Name: "echo", Type: JSON, Data: []byte("{}"), Metadata: []Pair{{"Key", "v"}}}); err != nil {
		t.Fatal(err)
	}

	split := func(head []string) (string, []string) {
		var names []string
		for _, line := range head[1:] {
			name, _, _ := strings.Cut(line, ":")
			names = append(names, name)
		}
		slices.Sort(names)
		return head[0], names
	}
	first, got := split(<-heads)
	if want := []string{"Authorization", "Host", "User-Agent", "WebHook-Request-Origin", "ce-awpsversion"}; first != "OPTIONS /hook?code=1 HTTP/1.1" || !slices.Equal(got, want) {
		t.Errorf("validation: %s\n got %v\nwant %v", first, got, want)
	}
	first, got = split(<-heads)
	want := []string{
		"Authorization", "Content-Length", "Content-Type", "Host", "User-Agent", "WebHook-Request-Origin", "ce-awpsversion", "ce-connectionId",
		"ce-connectionState", "ce-eventName", "ce-hub", "ce-id", "ce-signature", "ce-source", "ce-specversion", "ce-subprotocol", "ce-time", "ce-type",
		"ce-userId", "x-ms-client-request-id", "x-webpubsub-metadata-key",
	}
	if first != "POST /hook?code=1 HTTP/1.1" || !slices.Equal(got, want) {
		t.Errorf("event: %s\n got %v\nwant %v", first, got, want)
	}
}

func TestEventsTravelOverHTTP2WhereTLSNegotiatesIt(t *testing.T) {
	h := &sink{answer: reply("text/plain", "hello")}
	srv := httptest.NewUnstartedServer(h)
	srv.EnableHTTP2 = true
	protos := make(chan string, 8)
	srv.Config.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		protos <- fmt.Sprint(r.Proto, " ", r.ContentLength)
		h.ServeHTTP(w, r)
	})
	srv.StartTLS()
	defer srv.Close()
	pool := x509.NewCertPool()
	pool.AddCert(srv.Certificate())
	opt := quick()
	opt.Egress = egress.New(egress.Policy{AllowLoopback: true, RootCAs: pool})
	w := newWorld(t, opt)
	w.hub("chat", with(srv.URL, "api://x"))
	s := w.session()
	s.Bind("Zoë", "")
	r, err := w.send(s, "hi")
	if err != nil || string(r.Data) != "hello" {
		t.Fatalf("%+v, %v", r, err)
	}
	<-protos // validation
	if got := <-protos; got != "HTTP/2.0 2" {
		t.Errorf("got %s", got)
	}
	g := h.event(t)
	if g.header.Get("ce-userId") != "Zoë" || !strings.HasPrefix(g.header.Get("Authorization"), "Bearer ") || g.header.Get("ce-signature") == "" {
		t.Errorf("got %+v", g.header)
	}
}

func TestSkippingTheValidationHoldsForLoopbackAlone(t *testing.T) {
	opt := quick()
	opt.Egress = egress.New(egress.Policy{AllowLoopback: true, Resolver: names(t, map[string][]string{"x.localhost": {"192.0.2.1"}, "handler.test": {"127.0.0.1"}})})
	w := newWorld(t, opt)
	w.edit(func(in *settings.Instance) { in.Extensions.SkipLoopbackValidation = true })
	h := newSink(t, nil)
	w.hub("chat", all(h.URL))
	if _, err := w.send(w.session(), "hi"); err != nil || len(h.calls("OPTIONS")) != 0 {
		t.Errorf("loopback: %v, %d validations", err, len(h.calls("OPTIONS")))
	}
	if rec := w.record(trace.Delivery); !slices.ContainsFunc(rec.Stages, func(s trace.Stage) bool { return s.Name == "validation" && s.Outcome == trace.Skipped }) {
		t.Errorf("stages %+v", rec.Stages)
	}
	w.hub("chat", all("http://handler.test"+port(h.URL))) // loopback in fact, but not by its name
	if _, err := w.send(w.session(), "hi"); err != nil || len(h.calls("OPTIONS")) != 1 {
		t.Errorf("another name: %v, %d validations", err, len(h.calls("OPTIONS")))
	}
	w.hub("chat", all("http://x.localhost"+port(h.URL))) // loopback by its name, but not in fact
	w.failed(second(w.send(w.session(), "hi")), reason.DestinationBlocked)
}

// What an event is for comes from the hub's settings alone: a client that names its events cannot choose an audience.
func TestB25NothingOfAConnectionChangesWhatATokenIsFor(t *testing.T) {
	w, h := oneHandler(t, nil)
	const resource = "api://{event}/{hub}"
	w.hub("chat", with(h.URL+"/{event}", resource))
	s := w.session()
	s.Bind("api://other", "json.webpubsub.azure.v1")
	if _, err := s.User(t.Context(), UserEvent{Name: "api:other", Type: Text, Data: []byte(`{"resource":"api://other"}`)}); err != nil {
		t.Fatal(err)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.asked) == 0 || slices.ContainsFunc(w.asked, func(asked string) bool { return asked != resource }) {
		t.Errorf("tokens were asked for %q, want %q alone", w.asked, resource)
	}
}
