package listen

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// api is a path whose requests are brief, and describes what it gets.
const api = "/api"

func isAPI(path string) bool { return strings.HasPrefix(path, api) }

// describe says who serves a request and what is in it.
func describe(w http.ResponseWriter, r *http.Request) {
	by := "net/http"
	if _, ok := w.(*reply); ok {
		by = "here"
	}
	body, err := io.ReadAll(r.Body)
	w.Header().Set("Content-Type", "text/plain")
	fmt.Fprintf(w, "%s %s %s auth=%q body=%d %v tls=%t", by, r.Method, r.URL.RequestURI(), r.Header["Authorization"], len(body), err, r.TLS != nil)
}

func serveBrief(t testing.TB, opt Options) *running {
	opt.IsBrief = isAPI
	if opt.Handler == nil {
		opt.Handler = http.HandlerFunc(describe)
	}
	return serve(t, opt)
}

// ask sends a request as it is and reads the answer.
func ask(t *testing.T, c net.Conn, in *bufio.Reader, method, text string) (*http.Response, string) {
	t.Helper()
	if _, err := io.WriteString(c, text); err != nil {
		t.Fatal(err)
	}
	return answered(t, in, method)
}

func answered(t *testing.T, in *bufio.Reader, method string) (*http.Response, string) {
	t.Helper()
	res, err := http.ReadResponse(in, &http.Request{Method: method})
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return res, string(body)
}

func TestBriefRequestsAreAnsweredHereAndOthersByNetHTTP(t *testing.T) {
	s := serveBrief(t, Options{})
	post := func(path, body string) string {
		return fmt.Sprintf("POST %s HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n%s", path, len(body), body)
	}
	for _, tc := range []struct{ name, text, want string }{
		{"a body", post("/api/x?y=%2F", "abc"), `here POST /api/x?y=%2F auth=[] body=3`},
		{"the largest body", post("/api", strings.Repeat("x", maxBrief)), "here POST /api auth=[] body=65536"},
		{"a larger body", post("/api", strings.Repeat("x", maxBrief+1)), "net/http POST /api auth=[] body=65537"},
		{"no body", "DELETE /api HTTP/1.1\r\nHost: a\r\n\r\n", "here DELETE /api auth=[] body=0"},
		{"another path", post("/other", "abc"), "net/http POST /other auth=[] body=3"},
		{"an escape in the path", post("/api/a%2Fb", ""), "here POST /api/a%2Fb "},
		{"letters that want escapes", post("/api/é", ""), "net/http POST /api/%C3%A9 "},
		{"chunks", "PUT /api HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n", "net/http PUT /api auth=[] body=3"},
		{"an expectation", "PUT /api HTTP/1.1\r\nHost: a\r\nExpect: nothing\r\n\r\n", ""},
		{"another method", "PATCH /api HTTP/1.1\r\nHost: a\r\n\r\n", "net/http PATCH /api"},
		{"an older version", "GET /api HTTP/1.0\r\nHost: a\r\nConnection: keep-alive\r\n\r\n", "net/http GET /api"},
		{"the last request", "GET /api HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n", "net/http GET /api"},
		{"a header that is there twice", "GET /api HTTP/1.1\r\nHost: a\r\nAuthorization: a\r\nauthorization: b\r\n\r\n", `net/http GET /api auth=["a" "b"]`},
		{"two lengths", "POST /api HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab", "400 Bad Request"},
		{"a length and chunks", "POST /api HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", "net/http POST /api auth=[] body=0"},
		{"a length with a sign", "POST /api HTTP/1.1\r\nHost: a\r\nContent-Length: +1\r\n\r\na", "400 Bad Request"},
		{"a line with another end", "GET /api HTTP/1.1\r\nHost: a\nX: y\r\n\r\n", "net/http GET /api"},
		{"no line has the right end", "GET /api HTTP/1.1\nHost: a\n\n", "net/http GET /api"},
		{"a folded line", "GET /api HTTP/1.1\r\nHost: a\r\nX: y\r\n z\r\n\r\n", "net/http GET /api"},
		{"a blank before the colon", "GET /api HTTP/1.1\r\nHost: a\r\nX : y\r\n\r\n", "400 Bad Request"},
		{"no host", "GET /api HTTP/1.1\r\n\r\n", "400 Bad Request"},
		{"two hosts", "GET /api HTTP/1.1\r\nHost: a\r\nhost: b\r\n\r\n", "400 Bad Request"},
	} {
		for _, secure := range []bool{false, true} {
			t.Run(fmt.Sprint(tc.name, " tls=", secure), func(t *testing.T) {
				c := s.dial(t, secure)
				_, got := ask(t, c, bufio.NewReader(c), "GET", tc.text)
				if !strings.HasPrefix(got, tc.want) || strings.HasPrefix(tc.want, "here") && !strings.HasSuffix(got, fmt.Sprintf("tls=%t", secure)) {
					t.Errorf("got  %s\nwant %s", got, tc.want)
				}
			})
		}
	}
}

// What is remembered of a request is no part of the next one.
func TestEachRequestOfAConnectionIsReadForItself(t *testing.T) {
	s := serveBrief(t, Options{})
	c := s.dial(t, false)
	in := bufio.NewReader(c)
	for _, tc := range []struct{ headers, want string }{
		{"Host: a\r\nAuthorization: Bearer one\r\n", `auth=["Bearer one"]`},
		{"Host: a\r\nAuthorization: Bearer one\r\n", `auth=["Bearer one"]`},
		{"Host: a\r\nAuthorization: Bearer two\r\n", `auth=["Bearer two"]`},
		{"Host: a\r\n", `auth=[]`},
		{"Authorization: Bearer three\r\nHost: a\r\n", `auth=["Bearer three"]`},
		{"Host: a\r\nX: Bearer three\r\n", `auth=[]`},
		{"Host: a\r\n" + many(maxLines) + "Authorization: Bearer four\r\n", `auth=["Bearer four"]`},
		{"Host: a\r\n" + many(maxLines) + "Authorization: Bearer five\r\n", `auth=["Bearer five"]`},
	} {
		_, got := ask(t, c, in, "GET", "GET /api HTTP/1.1\r\n"+tc.headers+"\r\n")
		if !strings.HasPrefix(got, "here") || !strings.Contains(got, tc.want) {
			t.Errorf("%q: %s", tc.headers, got)
		}
	}
}

func many(n int) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, "X-%d: y\r\n", i)
	}
	return b.String()
}

// However the bytes of requests arrive, the answers are the same and in order.
func TestRequestsArriveInPiecesAndTogether(t *testing.T) {
	s := serveBrief(t, Options{})
	var text strings.Builder
	for i := range 20 {
		body := strings.Repeat("x", i*i*10)
		fmt.Fprintf(&text, "POST /api/%d HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n%s", i, len(body), body)
	}
	for _, size := range []int{1 << 20, 4096, 1000, 7} {
		c := s.dial(t, false)
		go func() {
			for rest := []byte(text.String()); len(rest) > 0; {
				n := min(size, len(rest))
				c.Write(rest[:n])
				rest = rest[n:]
			}
		}()
		in := bufio.NewReader(c)
		for i := range 20 {
			if _, got := answered(t, in, "POST"); !strings.HasPrefix(got, fmt.Sprintf("here POST /api/%d auth=[] body=%d ", i, i*i*10)) {
				t.Fatalf("pieces of %d: answer %d is %s", size, i, got)
			}
		}
	}
}

// What lies behind a request is bounded as if it came alone.
func TestAHeadBehindARequestIsBounded(t *testing.T) {
	entered, leave := make(chan struct{}), make(chan struct{})
	s := serveBrief(t, Options{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/api/slow" {
			close(entered)
			<-leave
		}
		describe(w, r)
	})})
	c := s.dial(t, false)
	in := bufio.NewReader(c)
	go func() {
		io.WriteString(c, fmt.Sprintf("POST /api/slow HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n%sGET /api H", maxBrief, strings.Repeat("b", maxBrief)))
		<-entered
		io.WriteString(c, "TTP/1.1\r\nHost: a\r\nX: "+strings.Repeat("x", MaxHead)+"\r\n\r\n")
		close(leave) // all of it is there for the next read
	}()
	if _, got := answered(t, in, "POST"); !strings.HasPrefix(got, "here POST /api/slow") {
		t.Fatal(got)
	}
	if _, got := answered(t, in, "GET"); !strings.HasPrefix(got, "net/http GET /api") {
		t.Errorf("got %s, want net/http's answer to so large a head", got)
	}
}

func TestALineEndBehindABodyIsSkipped(t *testing.T) {
	s := serveBrief(t, Options{})
	c := s.dial(t, false)
	in := bufio.NewReader(c)
	for range 3 {
		if _, got := ask(t, c, in, "POST", "POST /api HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc\r\n"); !strings.HasPrefix(got, "here POST /api auth=[] body=3") {
			t.Fatal(got)
		}
	}
	if _, got := ask(t, c, in, "GET", "\r\n\r\n"); !strings.HasPrefix(got, "400") {
		t.Errorf("got %s", got)
	}
}

// A client that ends in the middle of a body is told so, and nothing is taken for another request.
func TestABodyThatEndsEarly(t *testing.T) {
	s := serveBrief(t, Options{BodyTimeout: 50 * time.Millisecond})
	for _, hangUp := range []bool{true, false} {
		for _, path := range []string{"/api", "/other"} {
			c := s.dial(t, false)
			io.WriteString(c, "POST "+path+" HTTP/1.1\r\nHost: a\r\nContent-Length: 30\r\n\r\nGET /api HTTP/1.1\r\n")
			if hangUp {
				c.(*net.TCPConn).CloseWrite()
			}
			in := bufio.NewReader(c)
			if res, got := answered(t, in, "POST"); !strings.Contains(got, "body=19") || strings.Contains(got, "<nil>") || path == "/api" && !res.Close {
				t.Errorf("%s: %s, close %t", path, got, res.Close)
			}
			closed(t, c)
		}
	}
}

// A connection may turn to anything else at any time.
func TestADialogueGoesOnAtNetHTTPOrAsAnUpgrade(t *testing.T) {
	s := serveBrief(t, Options{})
	for _, secure := range []bool{false, true} {
		c := s.dial(t, secure)
		in := bufio.NewReader(c)
		brief, other := "GET /api HTTP/1.1\r\nHost: a\r\n\r\n", "GET /x HTTP/1.1\r\nHost: a\r\n\r\n"
		for i, want := range []string{"here GET /api", "here GET /api", "net/http GET /x", "net/http GET /api"} {
			text := brief
			if strings.HasSuffix(want, "/x") {
				text = other
			}
			if _, got := ask(t, c, in, "GET", text); !strings.HasPrefix(got, want) {
				t.Errorf("answer %d is %s, want %s", i, got, want)
			}
		}
		c = s.dial(t, secure)
		in = bufio.NewReader(c)
		io.WriteString(c, brief+upgradeHead+"early")
		answered(t, in, "GET")
		if line, err := in.ReadString('\n'); err != nil || !strings.HasPrefix(line, "upgrade /client/hubs/chat") {
			t.Errorf("got %q %v", line, err)
		}
		if early, err := in.Peek(5); err != nil || string(early) != "early" {
			t.Errorf("got %q %v", early, err)
		}
	}
}

// An answer is what net/http would have made of it.
func TestAnswersAreNetHTTPs(t *testing.T) {
	for name, handler := range map[string]http.HandlerFunc{
		"nothing":             func(http.ResponseWriter, *http.Request) {},
		"a status":            func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusAccepted) },
		"the first status":    func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(404); w.WriteHeader(200) },
		"without content":     func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNoContent) },
		"an unknown status":   func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(599) },
		"more than is wanted": func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(204); w.Write([]byte("x")) },
		"text": func(w http.ResponseWriter, _ *http.Request) {
			w.Header()["X-Some"] = []string{"a", "b"}
			w.Header().Set("Content-Type", "text/plain")
			w.Header().Set("Content-Length", "4")
			io.WriteString(w, "te")
			io.WriteString(w, "xt")
		},
		"much": func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "text/plain")
			w.Header().Set("Content-Length", fmt.Sprint(3*maxKept))
			w.Write(make([]byte, 3*maxKept))
		},
		"a forged header": func(w http.ResponseWriter, _ *http.Request) {
			w.Header()["X-Some"] = []string{"a\r\nX-Forged: b\nX-Forged: c"}
		},
		"a length without a body": func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", "5")
			w.WriteHeader(http.StatusNoContent)
		},
		"a type without a body": func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "text/plain")
			w.WriteHeader(http.StatusNotModified)
		},
		"a forged name": func(w http.ResponseWriter, _ *http.Request) {
			w.Header()["X-Some: a\r\nX-Forged"] = []string{"b"}
		},
		"the last one": func(w http.ResponseWriter, _ *http.Request) { w.Header().Set("Connection", "close") },
	} {
		s := serveBrief(t, Options{Handler: handler})
		for _, method := range []string{"GET", "HEAD", "POST"} {
			t.Run(name+" "+method, func(t *testing.T) {
				dump := func(path string) string {
					c := s.dial(t, false)
					res, body := ask(t, c, bufio.NewReader(c), method, method+" "+path+" HTTP/1.1\r\nHost: a\r\n\r\n")
					if _, err := http.ParseTime(res.Header.Get("Date")); err != nil {
						t.Error(err)
					}
					res.Header.Del("Date")
					return fmt.Sprintf("%s %v length=%d close=%t body=%d", res.Status, res.Header, res.ContentLength, res.Close, len(body))
				}
				if got, want := dump("/api"), dump("/other"); got != want {
					t.Errorf("got  %s\nwant %s", got, want)
				}
			})
		}
	}
}

// An answer that is sent in one piece says so, whatever the handler says.
func TestAnAnswerIsNeverSentInChunks(t *testing.T) {
	s := serveBrief(t, Options{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Transfer-Encoding", "chunked")
		w.Header().Set("Content-Length", "1")
		io.WriteString(w, "text")
	})})
	c := s.dial(t, false)
	if res, got := ask(t, c, bufio.NewReader(c), "GET", "GET /api HTTP/1.1\r\nHost: a\r\n\r\n"); got != "text" || res.ContentLength != 4 || res.TransferEncoding != nil {
		t.Errorf("%q %+v", got, res)
	}
}

func TestAPanicCostsOneDialogue(t *testing.T) {
	s := serveBrief(t, Options{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { panic("a fault of the owner") })})
	for range 2 {
		c := s.dial(t, false)
		io.WriteString(c, "GET /api HTTP/1.1\r\nHost: a\r\n\r\n")
		if n, err := c.Read(make([]byte, 1)); n != 0 || !errors.Is(err, io.EOF) {
			t.Errorf("the connection ended with %d bytes, %v; want EOF", n, err)
		}
	}
}

// The body of a request cannot be read after its answer: its place is the next one's.
func TestABodyIsGoneAfterTheAnswer(t *testing.T) {
	bodies := make(chan io.Reader, 1)
	s := serveBrief(t, Options{Handler: http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { bodies <- r.Body })})
	c := s.dial(t, false)
	ask(t, c, bufio.NewReader(c), "POST", "POST /api HTTP/1.1\r\nHost: a\r\nContent-Length: 6\r\n\r\nsecret")
	if got, _ := io.ReadAll(<-bodies); len(got) != 0 {
		t.Errorf("read %q", got)
	}
}

// withClock runs a dialogue over a pipe with a clock of its own and reports how long after start the server closed it.
func withClock(t *testing.T, opt Options, client func(net.Conn)) (lasted time.Duration) {
	synctest.Test(t, func(t *testing.T) {
		opt.IsBrief, opt.Handler = isAPI, http.HandlerFunc(describe)
		s := New(opt)
		defer s.cancel()
		theirs, ours := net.Pipe()
		defer theirs.Close()
		began := time.Now()
		s.begin(ours)
		var asking sync.WaitGroup
		asking.Go(func() { client(theirs) })
		s.wg.Wait()
		lasted = time.Since(began)
		asking.Wait()
		if _, err := io.Copy(io.Discard, theirs); err != nil {
			t.Errorf("the connection ended with %v", err)
		}
	})
	return lasted
}

func TestDeadlinesOfADialogue(t *testing.T) {
	const request = "POST /api HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc"
	opt := Options{HeadTimeout: 7 * time.Second, BodyTimeout: 11 * time.Second}
	rest := idleTimeout + idleTimeout/4
	send := func(text string) func(net.Conn) {
		return func(c net.Conn) {
			go io.Copy(io.Discard, c)
			io.WriteString(c, text)
		}
	}
	for _, tc := range []struct {
		name   string
		client func(net.Conn)
		want   time.Duration
	}{
		{"silent from the start", send(""), opt.HeadTimeout},
		{"half a head", send(request[:20]), opt.HeadTimeout},
		{"half a body", send(request[:len(request)-1]), opt.BodyTimeout},
		{"silent after a request", send(request), rest},
		{"half a second head", send(request + request[:20]), opt.HeadTimeout},
		{"half a second body", send(request + request[:len(request)-1]), opt.BodyTimeout},
		{"a byte now and then", func(c net.Conn) {
			go io.Copy(io.Discard, c)
			io.WriteString(c, request)
			for i := range request {
				time.Sleep(time.Second)
				if _, err := io.WriteString(c, request[i:i+1]); err != nil {
					return
				}
			}
		}, time.Second + opt.HeadTimeout},
		{"requests now and then", func(c net.Conn) {
			go io.Copy(io.Discard, c)
			for range 5 {
				io.WriteString(c, request)
				time.Sleep(idleTimeout)
			}
		}, 0},
		{"requests that are never whole when the one before is answered", func(c net.Conn) {
			go io.Copy(io.Discard, c)
			io.WriteString(c, request[:10])
			for range 5 * idleTimeout / (5 * time.Second) {
				io.WriteString(c, request[10:]+request[:10])
				time.Sleep(5 * time.Second)
			}
			io.WriteString(c, request[10:])
		}, 0},
		{"answers that nobody reads", func(c net.Conn) { io.WriteString(c, request) }, rest + idleTimeout},
	} {
		t.Run(tc.name, func(t *testing.T) {
			got := withClock(t, opt, tc.client)
			if tc.want == 0 { // at least as long as it goes on, and not much longer
				if got < 5*idleTimeout || got > 5*idleTimeout+rest {
					t.Errorf("closed after %v", got)
				}
			} else if got != tc.want {
				t.Errorf("closed after %v, want %v", got, tc.want)
			}
		})
	}
}

func TestShutdownEndsDialogues(t *testing.T) {
	entered, leave := make(chan struct{}), make(chan struct{})
	s := New(Options{IsBrief: isAPI, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/api/slow" {
			close(entered)
			<-leave
		}
		w.WriteHeader(http.StatusAccepted)
	})})
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	go s.Serve(l)
	at := &running{Server: s, addr: l.Addr().String()}
	resting, slow := at.dial(t, false), at.dial(t, false)
	ask(t, resting, bufio.NewReader(resting), "GET", "GET /api HTTP/1.1\r\nHost: a\r\n\r\n")
	io.WriteString(slow, "GET /api/slow HTTP/1.1\r\nHost: a\r\n\r\n")
	<-entered
	ended := make(chan error, 1)
	go func() { ended <- s.Shutdown(t.Context()) }()
	closed(t, resting)
	select {
	case err := <-ended:
		t.Fatalf("Shutdown returned %v while a request was under way", err)
	default:
	}
	close(leave)
	in := bufio.NewReader(slow)
	if res, _ := answered(t, in, "GET"); res.StatusCode != http.StatusAccepted || !res.Close {
		t.Errorf("%s, close %t; want the answer and then the end", res.Status, res.Close)
	}
	closed(t, slow)
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

func TestShutdownDoesNotWaitForHalfAHead(t *testing.T) {
	s := New(Options{IsBrief: isAPI, Handler: http.HandlerFunc(describe), HeadTimeout: time.Hour})
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	go s.Serve(l)
	c := (&running{Server: s, addr: l.Addr().String()}).dial(t, false)
	ask(t, c, bufio.NewReader(c), "GET", "GET /api HTTP/1.1\r\nHost: a\r\n\r\n")
	io.WriteString(c, "GET /api HTTP")
	if err := s.Shutdown(t.Context()); err != nil {
		t.Error(err)
	}
	closed(t, c)
}

func TestShutdownInHasteCutsDialoguesOff(t *testing.T) {
	entered, given := make(chan struct{}), make(chan error, 1)
	s := New(Options{IsBrief: isAPI, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		close(entered)
		<-r.Context().Done()
		given <- r.Context().Err()
	})})
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	go s.Serve(l)
	c := (&running{Server: s, addr: l.Addr().String()}).dial(t, false)
	io.WriteString(c, "GET /api HTTP/1.1\r\nHost: a\r\n\r\n")
	<-entered
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if err := s.Shutdown(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v, want the deadline", err)
	}
	closed(t, c)
	if err := <-given; err == nil {
		t.Error("its context has not ended")
	}
}

// A brief request over HTTP/2 is net/http's.
func TestBriefRequestsOverHTTP2(t *testing.T) {
	s := serveBrief(t, Options{})
	transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: s.pool}, ForceAttemptHTTP2: true}
	defer transport.CloseIdleConnections()
	req := httptest.NewRequest("POST", "https://"+s.addr+"/api", bytes.NewReader([]byte("abc")))
	req.RequestURI = ""
	res, err := (&http.Client{Transport: transport}).Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	if body, err := io.ReadAll(res.Body); err != nil || res.ProtoMajor != 2 || !strings.HasPrefix(string(body), "net/http POST /api auth=[] body=3") {
		t.Errorf("%s %q %v", res.Proto, body, err)
	}
}
