package listen

import (
	"bufio"
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// certificate is valid for 127.0.0.1.
func certificate(t testing.TB) (tls.Certificate, *x509.CertPool) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AddCert(leaf)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, pool
}

type running struct {
	*Server
	addr string
	pool *x509.CertPool
}

// serve starts a server whose handler describes the request and whose upgrades describe theirs and echo.
func serve(t testing.TB, opt Options, wrap ...func(net.Listener) net.Listener) *running {
	t.Helper()
	cert, pool := certificate(t)
	opt.TLS = &tls.Config{Certificates: []tls.Certificate{cert}}
	if opt.Handler == nil {
		opt.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			fmt.Fprintf(w, "http %s %s tls=%t", r.Proto, r.URL.RequestURI(), r.TLS != nil)
		})
	}
	if opt.IsUpgrade == nil {
		opt.IsUpgrade = func(path string) bool { return strings.HasPrefix(path, "/client") }
	}
	if opt.Upgrade == nil {
		opt.Upgrade = func(c net.Conn, r *http.Request) {
			defer c.Close()
			fmt.Fprintf(c, "upgrade %s host=%s tls=%t conn=%T local=%v\n", r.URL.RequestURI(), r.Host, r.TLS != nil, c, r.Context().Value(http.LocalAddrContextKey))
			_, _ = io.Copy(c, c)
		}
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &running{New(opt), l.Addr().String(), pool}
	for _, w := range wrap {
		l = w(l)
	}
	ended := make(chan error, 1)
	go func() { ended <- s.Serve(l) }()
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		if err := s.Shutdown(ctx); err != nil {
			t.Errorf("shutdown: %v", err)
		}
		if err := <-ended; !errors.Is(err, http.ErrServerClosed) {
			t.Errorf("Serve: %v", err)
		}
	})
	return s
}

func (s *running) dial(t testing.TB, secure bool) net.Conn {
	t.Helper()
	c, err := net.Dial("tcp", s.addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	_ = c.SetDeadline(time.Now().Add(10 * time.Second))
	if secure {
		return tls.Client(c, &tls.Config{RootCAs: s.pool, ServerName: "127.0.0.1", NextProtos: []string{"http/1.1"}})
	}
	return c
}

const upgradeHead = "GET /client/hubs/chat?x=%2F HTTP/1.1\r\nHost: svc.example\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"

func firstLine(t testing.TB, c net.Conn) string {
	t.Helper()
	line, err := bufio.NewReader(c).ReadString('\n')
	if err != nil {
		t.Fatalf("%v after %q", err, line)
	}
	return strings.TrimSpace(line)
}

func TestUpgradesAreHandedOver(t *testing.T) {
	s := serve(t, Options{})
	for _, tc := range []struct {
		name, head string
		secure     bool
		want       string
	}{
		{"the bare connection on plain HTTP", upgradeHead, false, "upgrade /client/hubs/chat?x=%2F host=svc.example tls=false conn=*net.TCPConn local=" + s.addr},
		{"the TLS connection", upgradeHead, true, "upgrade /client/hubs/chat?x=%2F host=svc.example tls=true conn=*tls.Conn local=" + s.addr},
		{"header names in any case", strings.Replace(upgradeHead, "Upgrade: websocket", "uPGRADE: WebSocket", 1), false, "upgrade /client/hubs/chat?x=%2F host=svc.example tls=false conn=*net.TCPConn local=" + s.addr},
	} {
		t.Run(tc.name, func(t *testing.T) {
			c := s.dial(t, tc.secure)
			io.WriteString(c, tc.head)
			if got := firstLine(t, c); got != tc.want {
				t.Errorf("got  %s\nwant %s", got, tc.want)
			}
		})
	}
}

func TestAPanicInUpgradeCostsOneConnection(t *testing.T) {
	calls := make(chan struct{}, 2)
	s := serve(t, Options{Upgrade: func(net.Conn, *http.Request) {
		calls <- struct{}{}
		panic("a fault of the owner")
	}})
	for range 2 {
		c := s.dial(t, false)
		io.WriteString(c, upgradeHead)
		if _, err := c.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
			t.Errorf("the connection ended with %v, want EOF", err)
		}
		<-calls
	}
}

func TestBytesBehindTheHeadAreReadFirst(t *testing.T) {
	s := serve(t, Options{})
	for _, secure := range []bool{false, true} {
		c := s.dial(t, secure)
		io.WriteString(c, upgradeHead+"early")
		r := bufio.NewReader(c)
		r.ReadString('\n')
		io.WriteString(c, " late")
		got := make([]byte, 10)
		if _, err := io.ReadFull(r, got); err != nil || string(got) != "early late" {
			t.Errorf("tls %t: got %q, %v", secure, got, err)
		}
	}
}

func TestAHeadMayArriveByteByByte(t *testing.T) {
	s := serve(t, Options{})
	c := s.dial(t, false)
	for i := range len(upgradeHead) {
		io.WriteString(c, upgradeHead[i:i+1])
	}
	if got := firstLine(t, c); !strings.HasPrefix(got, "upgrade ") {
		t.Errorf("got %s", got)
	}
}

func TestEverythingElseIsNetHTTPs(t *testing.T) {
	s := serve(t, Options{})
	long := "GET /client HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nX: " + strings.Repeat("x", MaxHead) + "\r\nConnection: close\r\n\r\n"
	for _, tc := range []struct{ name, head, status, body string }{
		{"a plain GET", "GET /x HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n", "200 OK", "http HTTP/1.1 /x tls=false"},
		{"another method", "POST /client HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nContent-Length: 0\r\nConnection: close\r\n\r\n", "200 OK", "http HTTP/1.1 /client"},
		{"an upgrade of another path", "GET /other HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: close\r\n\r\n", "200 OK", "http HTTP/1.1 /other"},
		{"an upgrade to something else", "GET /client HTTP/1.1\r\nHost: a\r\nUpgrade: h2c\r\nConnection: close\r\n\r\n", "200 OK", "http HTTP/1.1 /client"},
		{"HTTP/1.0", "GET /client HTTP/1.0\r\nHost: a\r\nUpgrade: websocket\r\n\r\n", "200 OK", "http HTTP/1.0 /client"},
		{"a head over the limit", long, "200 OK", "http HTTP/1.1 /client"},
		{"no host", "GET /client HTTP/1.1\r\nUpgrade: websocket\r\nConnection: close\r\n\r\n", "400 Bad Request: missing required Host header", ""},
		{"two hosts", "GET /client HTTP/1.1\r\nHost: a\r\nHost: b\r\nUpgrade: websocket\r\n\r\n", "400 Bad Request", "400 Bad Request"},
		{"a malformed header", "GET /client HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nno colon\r\n\r\n", "400 Bad Request", ""},
		{"a body", "GET /client HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nContent-Length: 3\r\nConnection: close\r\n\r\nabc", "200 OK", "http HTTP/1.1 /client"},
		{"garbage", "\x00\x01\x02\r\n\r\n", "400 Bad Request", ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			c := s.dial(t, false)
			io.WriteString(c, tc.head)
			res, err := http.ReadResponse(bufio.NewReader(c), nil)
			if err != nil {
				t.Fatal(err)
			}
			defer res.Body.Close()
			body, _ := io.ReadAll(res.Body)
			if res.Status != tc.status || !strings.Contains(string(body), tc.body) {
				t.Errorf("got %s %q, want %s %q", res.Status, body, tc.status, tc.body)
			}
		})
	}
}

func TestHTTP2AndKeepAliveWork(t *testing.T) {
	s := serve(t, Options{})
	for _, tc := range []struct {
		scheme string
		h2     bool
		want   string
	}{{"http", false, "http HTTP/1.1 /a tls=false"}, {"https", false, "http HTTP/1.1 /a tls=true"}, {"https", true, "http HTTP/2.0 /a tls=true"}} {
		transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: s.pool}, ForceAttemptHTTP2: tc.h2}
		client := &http.Client{Transport: transport}
		for range 2 {
			res, err := client.Get(tc.scheme + "://" + s.addr + "/a")
			if err != nil {
				t.Fatal(err)
			}
			body, _ := io.ReadAll(res.Body)
			res.Body.Close()
			if string(body) != tc.want {
				t.Errorf("got %q, want %q", body, tc.want)
			}
		}
		transport.CloseIdleConnections()
	}
}

func TestALaterUpgradeOnAKeptConnectionIsHijacked(t *testing.T) {
	s := serve(t, Options{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Upgrade") == "" {
			return
		}
		c, _, err := http.NewResponseController(w).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		fmt.Fprintf(c, "hijacked tls=%t\n", r.TLS != nil)
		c.Close()
	})})
	for _, secure := range []bool{false, true} {
		c := s.dial(t, secure)
		io.WriteString(c, "GET / HTTP/1.1\r\nHost: a\r\n\r\n")
		r := bufio.NewReader(c)
		res, err := http.ReadResponse(r, nil)
		if err != nil {
			t.Fatal(err)
		}
		io.Copy(io.Discard, res.Body)
		io.WriteString(c, upgradeHead)
		if line, _ := r.ReadString('\n'); line != fmt.Sprintf("hijacked tls=%t\n", secure) {
			t.Errorf("got %q", line)
		}
	}
}

func TestPlainHTTPIsRefusedWhereTLSIsDemanded(t *testing.T) {
	s := serve(t, Options{TLSOnly: true})
	c := s.dial(t, false)
	io.WriteString(c, upgradeHead)
	res, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		t.Fatal(err)
	}
	body, err := io.ReadAll(res.Body)
	if err != nil || res.StatusCode != 400 || !strings.Contains(string(body), "use https://") {
		t.Errorf("got %s %q %v", res.Status, body, err)
	}
	secure := s.dial(t, true)
	io.WriteString(secure, upgradeHead)
	if got := firstLine(t, secure); !strings.Contains(got, "tls=true") {
		t.Errorf("got %s", got)
	}
}

// closed waits until the server has closed the connection.
func closed(t *testing.T, c net.Conn) {
	t.Helper()
	if _, err := io.Copy(io.Discard, c); err != nil {
		var timeout net.Error
		if errors.As(err, &timeout) && timeout.Timeout() {
			t.Fatal("the connection is still open")
		}
	}
}

func TestSlowConnectionsAreClosedInTime(t *testing.T) {
	s := serve(t, Options{HeadTimeout: 50 * time.Millisecond})
	for name, start := range map[string]string{"silent": "", "half a head": "GET /client HTTP/1.1\r\nHost: a\r\n", "half a TLS handshake": "\x16\x03\x01\x02\x00\x01"} {
		t.Run(name, func(t *testing.T) {
			c := s.dial(t, false)
			io.WriteString(c, start)
			closed(t, c)
		})
	}
}

// An announced listener says that it is about to accept.
type announced struct {
	net.Listener
	accepting chan<- struct{}
}

func (l announced) Accept() (net.Conn, error) {
	l.accepting <- struct{}{}
	return l.Listener.Accept()
}

func TestThereIsRoomForOnlySoManyStrangers(t *testing.T) {
	accepting := make(chan struct{}, 16)
	s := serve(t, Options{MaxWaiting: 2, HeadTimeout: time.Minute}, func(l net.Listener) net.Listener { return announced{l, accepting} })
	a := s.dial(t, false)
	s.dial(t, false)
	for range 3 { // it accepts a third one: the first two wait inside
		<-accepting
	}
	closed(t, s.dial(t, false))
	io.WriteString(a, upgradeHead)
	if got := firstLine(t, a); !strings.HasPrefix(got, "upgrade ") {
		t.Errorf("got %s", got)
	}
	c := s.dial(t, false) // a is known now, there is room again
	io.WriteString(c, upgradeHead)
	if got := firstLine(t, c); !strings.HasPrefix(got, "upgrade ") {
		t.Errorf("got %s", got)
	}
}

func TestShutdownEndsStrangersAndWaitsForUpgrades(t *testing.T) {
	left := make(chan struct{})
	s := New(Options{Handler: http.NotFoundHandler(), IsUpgrade: func(string) bool { return true }, Upgrade: func(c net.Conn, r *http.Request) {
		defer c.Close()
		io.WriteString(c, "in\n")
		<-r.Context().Done()
		close(left)
	}})
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	go s.Serve(l)
	stranger, client := (&running{Server: s, addr: l.Addr().String()}).dial(t, false), (&running{Server: s, addr: l.Addr().String()}).dial(t, false)
	io.WriteString(client, upgradeHead)
	firstLine(t, client)
	ctx, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
	defer cancel()
	if err := s.Shutdown(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v, want the deadline: an upgrade was still served", err)
	}
	closed(t, stranger)
	<-left // its context has ended
	if err := s.Serve(l); !errors.Is(err, http.ErrServerClosed) {
		t.Errorf("Serve after Shutdown: %v", err)
	}
}

// FuzzHead holds this package's judgement against net/http's: what is answered here or handed over as an upgrade must be
// a request that net/http would serve, and be the same one.
func FuzzHead(f *testing.F) {
	for _, head := range []string{
		upgradeHead,
		"GET /client HTTP/1.1\r\nHost: a\r\nhost: b\r\nUpgrade: websocket\r\n\r\n",
		"GET /client HTTP/1.1\r\nHost: a\r\n upgrade: x\r\nUpgrade : websocket\r\n\r\n",
		"GET http://b/client HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nTransfer-Encoding: chunked\r\n\r\n",
		"POST /api/hubs/a%2Fb/:send?x=%zz&y;z HTTP/1.1\r\nHost: a:1\r\nContent-Length: 12\r\nx-y:\t a \r\nX-Y: b\r\nPragma: no-cache\r\n\r\n",
		"PUT //api/'(!) HTTP/1.1\r\nhost: [::1]\r\nContent-Length: 012\r\nConnection: keep-alive\r\nContent-Type: \xff\r\n\r\n",
		"HEAD /? HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nTrailer: x\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\n",
		"DELETE /a?b#c HTTP/1.1\r\nHost: a\nX: y\r\nContent-Length: +1\r\n\r\n",
	} {
		f.Add([]byte(head))
	}
	all := func(string) bool { return true }
	s := New(Options{IsUpgrade: all, IsBrief: all})
	defer s.cancel()
	f.Fuzz(func(t *testing.T, head []byte) {
		if !bytes.Contains(head, []byte("\r\n\r\n")) {
			return
		}
		client, server := net.Pipe()
		defer client.Close()
		defer server.Close()
		d := &dialogue{s: s, conn: server, stream: server, buf: &head}
		defer d.end()
		end, _ := d.readHead()
		if end < 0 {
			return
		}
		ours, _ := d.parse(head[:end])
		d.lines = new(lines)
		for _, before := range []string{string(head[:end]), briefRequest, string(head[:end])} { // whatever is remembered
			if again, _ := d.parse([]byte(before)); before != briefRequest && (again == nil) != (ours == nil) {
				t.Fatalf("after other requests, %q is read as another one", head[:end])
			} else if before != briefRequest && ours != nil && seen(again) != seen(ours) {
				t.Fatalf("after other requests, %q is read as\n%s\nnot as\n%s", head[:end], seen(again), seen(ours))
			}
		}
		if ours == nil {
			return
		}
		theirs := byNetHTTP(t, head[:end])
		if theirs == nil {
			t.Fatalf("net/http refuses what is served here: %q", head)
		}
		if got, want := seen(ours), seen(theirs); got != want {
			t.Errorf("net/http reads %q as\n%s\nwe as\n%s", head, want, got)
		}
	})
}

// seen is all that a handler can see of a request's head.
func seen(r *http.Request) string {
	return fmt.Sprintf("%s %q %#v %s %d.%d host=%q length=%d close=%t %q %v", r.Method, r.RequestURI, *r.URL, r.Proto, r.ProtoMajor, r.ProtoMinor,
		r.Host, r.ContentLength, r.Close, r.Header, r.TransferEncoding)
}

// byNetHTTP lets a real server read the head; nil when it refuses.
func byNetHTTP(t *testing.T, head []byte) *http.Request {
	client, server := net.Pipe()
	defer client.Close()
	got := make(chan *http.Request, 1)
	h := newHanded()
	srv := &http.Server{Handler: http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { got <- r })}
	done := make(chan struct{})
	go func() { defer close(done); _ = srv.Serve(h) }()
	h.hand(server)
	go func() { _, _ = client.Write(append(bytes.Clone(head), make([]byte, maxBrief)...)) }() // whatever body it waits for
	defer func() { srv.Close(); <-done }()
	answer := make([]byte, 64)
	_ = client.SetReadDeadline(time.Now().Add(5 * time.Second))
	if _, err := client.Read(answer); err != nil {
		t.Fatalf("no answer to %q: %v", head, err)
	}
	select {
	case r := <-got:
		return r
	default:
		return nil
	}
}

func BenchmarkUpgradeHead(b *testing.B) {
	done := make(chan struct{})
	s := serve(b, Options{Upgrade: func(c net.Conn, _ *http.Request) { c.Close(); done <- struct{}{} }})
	b.ReportAllocs()
	for b.Loop() {
		c, err := net.Dial("tcp", s.addr)
		if err != nil {
			b.Fatal(err)
		}
		io.WriteString(c, upgradeHead)
		<-done
		c.Close()
	}
}
