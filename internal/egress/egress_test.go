package egress

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"
	"golang.org/x/net/dns/dnsmessage"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func newEgress(t *testing.T, p Policy) *Egress {
	t.Helper()
	e := New(p)
	t.Cleanup(e.Close)
	return e
}

func get(t *testing.T, rt http.RoundTripper, url string) (*http.Response, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	t.Cleanup(cancel)
	r, err := http.NewRequestWithContext(ctx, "POST", url, strings.NewReader("event"))
	if err != nil {
		t.Fatal(err)
	}
	res, err := rt.RoundTrip(r)
	if err == nil {
		io.Copy(io.Discard, res.Body)
		res.Body.Close()
	}
	return res, err
}

// A nameServer is a real DNS server on a UDP port that answers from a function.
func nameServer(t *testing.T, answer func(name string, query int) netip.Addr) *net.Resolver {
	t.Helper()
	conn, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		buf := make([]byte, 1500)
		queries := 0
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
			m.Response, m.Authoritative, m.Additionals = true, true, nil
			if q.Type == dnsmessage.TypeA {
				if a := answer(strings.TrimSuffix(q.Name.String(), "."), queries); a.Is4() {
					m.Answers = []dnsmessage.Resource{{
						Header: dnsmessage.ResourceHeader{Name: q.Name, Type: q.Type, Class: q.Class},
						Body:   &dnsmessage.AResource{A: a.As4()},
					}}
				} else {
					m.RCode = dnsmessage.RCodeNameError
				}
				queries++
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

func TestRequestReachesAnAdmittedServer(t *testing.T) {
	var got *http.Request
	srv := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { got = r }))
	defer srv.Close()
	res, err := get(t, newEgress(t, Policy{AllowLoopback: true}).Transport(), srv.URL)
	if err != nil {
		t.Fatal(err)
	}
	if res.StatusCode != 200 || got.ContentLength != 5 || len(got.TransferEncoding) != 0 || got.Header.Get("Accept-Encoding") != "" {
		t.Errorf("status %d, length %d, transfer %v, accept-encoding %q", res.StatusCode, got.ContentLength, got.TransferEncoding, got.Header.Get("Accept-Encoding"))
	}
}

func TestLoopbackIsRefusedBeforeAnythingIsSent(t *testing.T) {
	var called atomic.Bool
	srv := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { called.Store(true) }))
	defer srv.Close()
	e := newEgress(t, Policy{})
	port := srv.URL[strings.LastIndex(srv.URL, ":"):]
	for _, host := range []string{"127.0.0.1", "localhost", "[::ffff:127.0.0.1]"} {
		_, err := get(t, e.Transport(), "http://"+host+port)
		if Classify(err) != DestinationBlocked {
			t.Errorf("%s: got %v", host, err)
		}
	}
	if called.Load() {
		t.Error("the server was called")
	}
}

func TestUnusualSpellingsOfAnAddressAreJudgedByWhatTheyResolveTo(t *testing.T) {
	// What a resolver makes of such names differs: Go's own refuses most, the C library's takes them for addresses.
	// Whatever it is, no socket connects to what they hide.
	spellings := []string{"2852039166", "0xa9fea9fe", "0251.0376.0251.0376", "169.16689662", "2130706433", "0x7f.1", "017700000001"}
	hiding := nameServer(t, func(string, int) netip.Addr { return netip.MustParseAddr("169.254.169.254") })
	for _, r := range []*net.Resolver{hiding, {}, {PreferGo: true}} {
		e := newEgress(t, Policy{Resolver: r})
		for _, host := range spellings {
			_, err := get(t, e.Transport(), "http://"+host+":1/latest/meta-data")
			if c := Classify(err); c != DestinationBlocked && c != DNSFailure {
				t.Errorf("%s: got %v", host, err)
			}
		}
	}
	_, err := get(t, newEgress(t, Policy{Resolver: hiding}).Transport(), "http://metadata.test/latest/meta-data")
	if blocked, ok := errors.AsType[*BlockedError](err); !ok || blocked.Rule != Metadata {
		t.Errorf("a name of the metadata address: got %v", err)
	}
}

func TestNameThatChangesItsAddressIsJudgedAtEachDial(t *testing.T) {
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.Header().Set("Connection", "close") }))
	defer srv.Close()
	r := nameServer(t, func(_ string, query int) netip.Addr {
		if query == 0 {
			return netip.MustParseAddr("127.0.0.1") // innocent at first sight
		}
		return netip.MustParseAddr("169.254.169.254")
	})
	e := newEgress(t, Policy{AllowLoopback: true, Resolver: r})
	url := "http://rebinding.test" + srv.URL[strings.LastIndex(srv.URL, ":"):]
	if _, err := get(t, e.Transport(), url); err != nil {
		t.Fatalf("the first call: %v", err)
	}
	_, err := get(t, e.Transport(), url)
	if blocked, ok := errors.AsType[*BlockedError](err); !ok || blocked.Rule != Metadata {
		t.Errorf("after the name moved: got %v", err)
	}
}

func TestLoopbackTransportJudgesTheDialledAddressNotTheName(t *testing.T) {
	srv := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	defer srv.Close()
	r := nameServer(t, func(name string, _ int) netip.Addr {
		if name == "handler.test" {
			return netip.MustParseAddr("127.0.0.1")
		}
		return netip.MustParseAddr("192.0.2.1") // what "localhost.test" claims to be is of no interest
	})
	e := newEgress(t, Policy{AllowLoopback: true, Resolver: r})
	port := srv.URL[strings.LastIndex(srv.URL, ":"):]
	if _, err := get(t, e.LoopbackTransport(), "http://handler.test"+port); err != nil {
		t.Errorf("a name of a loopback address: %v", err)
	}
	if _, err := get(t, e.LoopbackTransport(), "http://localhost.test"+port); Classify(err) != TokenOverPlainHTTP {
		t.Errorf("another address: got %v", err)
	}
	if _, err := get(t, newEgress(t, Policy{}).LoopbackTransport(), srv.URL); Classify(err) != DestinationBlocked {
		t.Errorf("loopback in production: got %v", err)
	}
}

func TestTLSNegotiatesHTTP2AndVerifiesTheServer(t *testing.T) {
	srv := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, r.Proto) }))
	srv.EnableHTTP2 = true
	srv.Config.ErrorLog = log.New(io.Discard, "", 0)
	srv.StartTLS()
	defer srv.Close()
	pool := x509.NewCertPool()
	pool.AddCert(srv.Certificate())

	res, err := get(t, newEgress(t, Policy{AllowLoopback: true, RootCAs: pool}).Transport(), srv.URL)
	if err != nil || res.ProtoMajor != 2 {
		t.Errorf("got %v, %v; want HTTP/2", res, err)
	}
	_, err = get(t, newEgress(t, Policy{AllowLoopback: true, RootCAs: x509.NewCertPool()}).Transport(), srv.URL)
	if Classify(err) != TLSFailure || !Permanent(err) {
		t.Errorf("an unknown authority: got %v", err)
	}
}

func TestRedirectIsAnAnswerLikeAnyOther(t *testing.T) {
	var called atomic.Bool
	other := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { called.Store(true) }))
	defer other.Close()
	srv := httptest.NewServer(http.RedirectHandler(other.URL, http.StatusTemporaryRedirect))
	defer srv.Close()
	res, err := get(t, newEgress(t, Policy{AllowLoopback: true}).Transport(), srv.URL)
	if err != nil || res.StatusCode != 307 || called.Load() {
		t.Errorf("got %v, %v, other server called: %v", res, err, called.Load())
	}
}

func TestOverlongResponseHeadersFail(t *testing.T) {
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("X-Long", strings.Repeat("x", maxResponseHeader))
	}))
	defer srv.Close()
	if _, err := get(t, newEgress(t, Policy{AllowLoopback: true}).Transport(), srv.URL); err == nil {
		t.Error("headers beyond the limit were read")
	}
}

func TestConnectionsAreBoundedAndReused(t *testing.T) {
	var conns atomic.Int32
	srv := httptest.NewUnstartedServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	srv.Config.ConnState = func(_ net.Conn, s http.ConnState) {
		if s == http.StateNew {
			conns.Add(1)
		}
	}
	srv.Start()
	defer srv.Close()
	e := newEgress(t, Policy{AllowLoopback: true, ConnsPerHost: 4})
	errs := make(chan error)
	for range 32 {
		go func() {
			r, _ := http.NewRequest("POST", srv.URL, strings.NewReader("event"))
			res, err := e.Transport().RoundTrip(r)
			if err == nil {
				res.Body.Close()
			}
			errs <- err
		}()
	}
	for range 32 {
		if err := <-errs; err != nil {
			t.Error(err)
		}
	}
	if n := conns.Load(); n > 4 {
		t.Errorf("%d connections, want at most 4", n)
	}
}

func TestProxyIsUsedOnlyWhenGiven(t *testing.T) {
	t.Setenv("HTTP_PROXY", "http://192.0.2.1:1")
	var asked atomic.Value
	proxy := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { asked.Store(r.URL.String()) }))
	defer proxy.Close()
	at, _ := url.Parse(proxy.URL)
	via := newEgress(t, Policy{AllowLoopback: true, Proxy: http.ProxyURL(at)})

	if _, err := get(t, via.Transport(), "http://handler.test/hook"); err != nil || asked.Load() != "http://handler.test/hook" {
		t.Errorf("proxy was asked for %v, %v", asked.Load(), err)
	}
	if _, err := get(t, via.Transport(), "http://169.254.169.254/"); Classify(err) != DestinationBlocked {
		t.Errorf("a metadata address by way of a proxy: %v", err)
	}
	if tr := newEgress(t, Policy{}).Transport(); tr.Proxy != nil {
		t.Error("a proxy without being told")
	}
}

func TestClassifyNamesTheFailure(t *testing.T) {
	closed, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	closed.Close()
	plain := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	defer plain.Close()
	cut := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { panic(http.ErrAbortHandler) }))
	defer cut.Close()
	resolver := nameServer(t, func(string, int) netip.Addr { return netip.Addr{} })
	e := newEgress(t, Policy{AllowLoopback: true, Resolver: resolver})

	for _, c := range []struct {
		name, url string
		want      Failure
		permanent bool
	}{
		{"nobody listens", "http://" + closed.Addr().String(), ConnectFailure, false},
		{"the answer is cut off", cut.URL, ConnectFailure, false},
		{"a plain-http server is called by https", "https" + strings.TrimPrefix(plain.URL, "http"), TLSFailure, true},
		{"the name does not exist", "http://nobody.test/", DNSFailure, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := get(t, e.Transport(), c.url)
			if got := Classify(err); got != c.want || Permanent(err) != c.permanent {
				t.Errorf("got %s for %v (permanent: %t), want %s (%t)", got, err, Permanent(err), c.want, c.permanent)
			}
		})
	}
	t.Run("the caller's deadline passes", func(t *testing.T) {
		if got := Classify(fmt.Errorf("post: %w", context.DeadlineExceeded)); got != Timeout {
			t.Errorf("got %s", got)
		}
	})
	t.Run("a name of another host in the certificate", func(t *testing.T) {
		err := fmt.Errorf("post: %w", &tls.CertificateVerificationError{Err: x509.HostnameError{Certificate: &x509.Certificate{}, Host: "a"}})
		if got := Classify(err); got != TLSFailure {
			t.Errorf("got %s", got)
		}
	})
}
