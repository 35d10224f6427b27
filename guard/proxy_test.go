package guard_test

import (
	"bufio"
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"path"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"tabard/guard"
	"tabard/guard/reason"
)

// A proxied application: an issuer, an upstream that remembers what reaches it, and a proxy before it, each a server
// of its own.
type proxied struct {
	t        *testing.T
	issuer   *testIssuer
	clock    *clock
	upstream *httptest.Server
	proxy    *guard.Proxy
	front    *httptest.Server
	token    string

	mu   sync.Mutex
	seen []*http.Request
}

func newProxied(t *testing.T, opt guard.ProxyOptions, app http.HandlerFunc) *proxied {
	t.Helper()
	p := &proxied{t: t, issuer: newIssuer(t), clock: newClock()}
	p.upstream = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		p.mu.Lock()
		p.seen = append(p.seen, r)
		p.mu.Unlock()
		if app != nil {
			app(w, r)
		}
	}))
	t.Cleanup(p.upstream.Close)
	opt = p.options(opt)
	var err error
	if p.proxy, err = guard.NewProxy(p.issuer.trust(p.clock), opt); err != nil {
		t.Fatal(err)
	}
	p.front = httptest.NewServer(p.proxy)
	t.Cleanup(func() { p.front.CloseClientConnections(); p.proxy.Close(); p.front.Close() })
	p.token = p.issuer.token(p.issuer.claims(p.clock))
	return p
}

func (p *proxied) options(opt guard.ProxyOptions) guard.ProxyOptions {
	if opt.Upstream == "" {
		opt.Upstream = p.upstream.URL
	}
	if opt.Log == nil {
		opt.Log = slog.New(slog.DiscardHandler)
	}
	return opt
}

// do sends a request with the token unless pairs say otherwise; an empty value removes a header.
func (p *proxied) do(method, path, body string, pairs ...string) response {
	p.t.Helper()
	r, err := http.NewRequestWithContext(p.t.Context(), method, p.front.URL+path, strings.NewReader(body))
	if err != nil {
		p.t.Fatal(err)
	}
	r.Header.Set("Authorization", "Bearer "+p.token)
	for i := 0; i < len(pairs); i += 2 {
		if r.Header.Del(pairs[i]); pairs[i+1] != "" {
			r.Header[pairs[i]] = []string{pairs[i+1]} // spelled as it stands
		}
	}
	res, err := p.front.Client().Do(r)
	if err != nil {
		p.t.Fatal(err)
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	if err != nil {
		p.t.Fatal(err)
	}
	return response{res.StatusCode, res.Header, string(text)}
}

// last is what reached the upstream last, nil if nothing has since the last call.
func (p *proxied) last() *http.Request {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.seen) == 0 {
		return nil
	}
	r := p.seen[len(p.seen)-1]
	p.seen = nil
	return r
}

// principalOf decodes X-MS-CLIENT-PRINCIPAL: claim types to values.
func principalOf(t *testing.T, h http.Header) (claims map[string][]string, types [3]string) {
	t.Helper()
	text, err := base64.StdEncoding.DecodeString(h.Get("X-MS-CLIENT-PRINCIPAL"))
	var body struct {
		AuthType string                      `json:"auth_typ"`
		Claims   []struct{ Typ, Val string } `json:"claims"`
		NameType string                      `json:"name_typ"`
		RoleType string                      `json:"role_typ"`
	}
	if err != nil || json.Unmarshal(text, &body) != nil {
		t.Fatalf("X-MS-CLIENT-PRINCIPAL is %q (%v)", h.Get("X-MS-CLIENT-PRINCIPAL"), err)
	}
	claims = map[string][]string{}
	for _, c := range body.Claims {
		claims[c.Typ] = append(claims[c.Typ], c.Val)
	}
	return claims, [3]string{body.AuthType, body.NameType, body.RoleType}
}

func TestTheProxyTellsTheApplicationWhoCalls(t *testing.T) {
	p := newProxied(t, guard.ProxyOptions{}, func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		w.Header().Set("X-App", "yes")
		w.WriteHeader(http.StatusTeapot)
		fmt.Fprintf(w, "%s %s", r.RequestURI, body)
	})
	p.token = p.issuer.token(with(p.issuer.claims(p.clock), "roles", []string{"Events.Send", "Read"}))
	res := p.do("PUT", "/a//b%2Fc?x=1;y=%zz", "body")
	if res.status != http.StatusTeapot || res.body != "/a//b%2Fc?x=1;y=%zz body" || res.header.Get("X-App") != "yes" {
		t.Errorf("answered %d %q %v", res.status, res.body, res.header)
	}
	r := p.last()
	for name, want := range map[string]string{
		"X-MS-CLIENT-PRINCIPAL-ID": principal, "X-MS-CLIENT-PRINCIPAL-NAME": client, "X-MS-CLIENT-PRINCIPAL-IDP": "aad",
		"Authorization": "Bearer " + p.token, "X-Forwarded-For": "127.0.0.1", "X-Forwarded-Host": strings.TrimPrefix(p.front.URL, "http://"), "X-Forwarded-Proto": "http",
	} {
		if got := r.Header.Get(name); got != want {
			t.Errorf("%s is %q, want %q", name, got, want)
		}
	}
	claims, types := principalOf(t, r.Header)
	for name, want := range map[string]string{
		"oid": "[" + principal + "]", "http://schemas.microsoft.com/identity/claims/objectidentifier": "[" + principal + "]",
		"http://schemas.microsoft.com/identity/claims/tenantid": "[" + tenant + "]", "aud": "[" + audience + "]",
		"roles": "[Events.Send Read]", "exp": "[1790086400]",
	} {
		if got := fmt.Sprint(claims[name]); got != want {
			t.Errorf("claim %s is %s, want %s", name, got, want)
		}
	}
	if types != [3]string{"aad", "appid", "roles"} {
		t.Errorf("types are %q", types)
	}
	if r.Host != strings.TrimPrefix(p.upstream.URL, "http://") {
		t.Errorf("host is %s", r.Host)
	}
}

// Appendix B 29: whatever spelling a caller finds, the application hears only what the proxy says.
func TestForgedPrincipalsDoNotReachTheApplication(t *testing.T) {
	forged := []string{"X-MS-CLIENT-PRINCIPAL", "x_ms_client_principal", "X-Ms-Client_Principal-Id", "X_MS_CLIENT_PRINCIPAL_NAME", "x-ms.client-principal-idp",
		"X-MS-CLIENT-PRINCIPAL-ANYTHING", "X-MS-TOKEN-AAD-ACCESS-TOKEN", "x_ms_token_aad_id_token", "X-Ms-Token-Google-Access-Token"}
	for _, tc := range []struct {
		name, path string
		anonymous  bool
	}{
		{"with a good token", "/", false}, {"to an excluded path", "/health", true}, {"anonymously", "/", true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			p := newProxied(t, guard.ProxyOptions{ExcludedPaths: []string{"/health"}, Unauthenticated: guard.AllowAnonymous}, nil)
			for _, name := range forged {
				pairs := []string{name, "forged"}
				if tc.anonymous {
					pairs = append(pairs, "Authorization", "")
				}
				if res := p.do("GET", tc.path, "", pairs...); res.status != 200 {
					t.Fatalf("%d %s", res.status, res.body)
				}
				for header, values := range p.last().Header {
					if strings.Contains(fmt.Sprint(values), "forged") {
						t.Errorf("%s arrives as %s: %v", name, header, values)
					}
				}
			}
			p.do("GET", tc.path, "", "X-MS-CLIENT-REQUEST-ID", "mine")
			if r := p.last(); r.Header.Get("X-MS-CLIENT-REQUEST-ID") != "mine" {
				t.Error("a header that is none of the platform's was taken away")
			}
		})
	}

	t.Run("as hop-by-hop headers and trailers", func(t *testing.T) {
		p := newProxied(t, guard.ProxyOptions{}, func(_ http.ResponseWriter, r *http.Request) { _, _ = io.Copy(io.Discard, r.Body) })
		conn := p.dial()
		fmt.Fprintf(conn, "POST / HTTP/1.1\r\nHost: h\r\nAuthorization: Bearer %s\r\nConnection: close, X-MS-CLIENT-PRINCIPAL-ID\r\nX-Forwarded-For: 6.6.6.6\r\nForwarded: for=6.6.6.6\r\n"+
			"Trailer: X-MS-CLIENT-PRINCIPAL-NAME\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\nX-MS-CLIENT-PRINCIPAL-NAME: forged\r\n\r\n", p.token)
		if _, err := io.Copy(io.Discard, conn); err != nil {
			t.Fatal(err)
		}
		r := p.last()
		if r.Header.Get("X-MS-CLIENT-PRINCIPAL-ID") != principal || r.Header.Get("X-MS-CLIENT-PRINCIPAL-NAME") != client || len(r.Trailer) > 0 {
			t.Errorf("headers %v, trailers %v", r.Header, r.Trailer)
		}
		if r.Header.Get("Forwarded") != "" || r.Header.Get("X-Forwarded-For") != "127.0.0.1" {
			t.Errorf("what the caller said about hops arrives: %v", r.Header)
		}
	})
}

func (p *proxied) dial() net.Conn {
	p.t.Helper()
	conn, err := net.Dial("tcp", p.front.Listener.Addr().String())
	if err != nil {
		p.t.Fatal(err)
	}
	p.t.Cleanup(func() { conn.Close() })
	_ = conn.SetDeadline(time.Now().Add(10 * time.Second))
	return conn
}

func TestTheProxyRefusesAsAppServiceDoes(t *testing.T) {
	for _, tc := range []struct {
		name      string
		opt       guard.ProxyOptions
		audiences []string
		status    int
		challenge string // after the realm
	}{
		{"separated by spaces", guard.ProxyOptions{}, nil, 401,
			` authorization_uri="ISSUER/` + tenant + `/oauth2/authorize" resource_id="` + appID + `" error="invalid_token" error_description="token_missing: the request carries no access token"`},
		{"separated by commas", guard.ProxyOptions{CommaChallenge: true}, nil, 401,
			`, authorization_uri="ISSUER/` + tenant + `/oauth2/authorize", resource_id="` + appID + `", error="invalid_token", error_description="token_missing: the request carries no access token"`},
		{"an audience that is no application id", guard.ProxyOptions{HideReasons: true}, []string{audience}, 401,
			` authorization_uri="ISSUER/` + tenant + `/oauth2/authorize" resource_id="` + audience + `" error="invalid_token"`},
		{"403 if that is wanted", guard.ProxyOptions{Unauthenticated: guard.Return403, HideReasons: true}, nil, 403,
			` authorization_uri="ISSUER/` + tenant + `/oauth2/authorize" resource_id="` + appID + `" error="invalid_token"`},
		{"404 tells nothing", guard.ProxyOptions{Unauthenticated: guard.Return404}, nil, 404, ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			p := newProxied(t, tc.opt, nil)
			if tc.audiences != nil {
				trust := p.issuer.trust(p.clock)
				trust.Audiences = tc.audiences
				if err := p.proxy.Reload(t.Context(), trust, p.options(tc.opt)); err != nil {
					t.Fatal(err)
				}
			}
			res := p.do("GET", "/x", "", "Authorization", "")
			want := ""
			if tc.challenge != "" {
				want = `Bearer realm="` + strings.TrimPrefix(p.front.URL, "http://") + `"` + strings.ReplaceAll(tc.challenge, "ISSUER", p.issuer.URL)
			}
			if got := res.header.Get("WWW-Authenticate"); res.status != tc.status || got != want {
				t.Errorf("%d\n got %s\nwant %s", res.status, got, want)
			}
			if tc.status == 404 && strings.Contains(res.body, "token") {
				t.Errorf("the body tells: %s", res.body)
			}
			if p.last() != nil {
				t.Error("the application was reached")
			}
		})
	}
	p := newProxied(t, guard.ProxyOptions{Unauthenticated: guard.AllowAnonymous}, nil)
	for name, token := range map[string]string{"another audience": p.issuer.token(with(p.issuer.claims(p.clock), "aud", "api://other")), "nonsense": "x"} {
		if res := p.do("GET", "/", "", "Authorization", "Bearer "+token); res.status != 401 || p.last() != nil {
			t.Errorf("%s where anonymous callers may pass: %d", name, res.status)
		}
	}
	if res := p.do("GET", "/", "", "Authorization", "Bearer "+p.issuer.token(with(p.issuer.claims(p.clock), "scp", "x"))); res.status != 403 || res.code() != reason.NotAppToken {
		t.Errorf("a user's token: %d %s", res.status, res.body)
	}
}

func TestExcludedPathsPassAndNothingThatOnlyLooksLikeThem(t *testing.T) {
	p := newProxied(t, guard.ProxyOptions{ExcludedPaths: []string{"/health", "/public/*", "OPTIONS /events"}}, nil)
	for _, tc := range []struct {
		method, path string
		passes       bool
	}{
		{"GET", "/health", true}, {"POST", "/health", true}, {"GET", "/health?x=/../", true},
		{"GET", "/health/", false}, {"GET", "/healthy", false}, {"GET", "/HEALTH", false}, {"GET", "/health%20", false}, {"GET", "/heal%74h", false},
		{"GET", "/public/a/b.css", true}, {"GET", "/public/", true}, {"GET", "/public", false},
		{"GET", "/public/../admin", false}, {"GET", "/public/..%2fadmin", false}, {"GET", "/public/%2e%2e/admin", false}, {"GET", "/public/..;/admin", false},
		{"GET", "/public/a;b", false}, {"GET", `/public/..\admin`, false}, {"GET", "/public//admin", false}, {"GET", "/public/./a", false}, {"GET", "//public/a", false}, {"GET", "/public/a%00", false},
		{"OPTIONS", "/events", true}, {"POST", "/events", false}, {"GET", "/events", false},
	} {
		conn := p.dial()
		fmt.Fprintf(conn, "%s %s HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n", tc.method, tc.path)
		res, err := http.ReadResponse(bufio.NewReader(conn), nil)
		if err != nil {
			t.Fatalf("%s: %v", tc.path, err)
		}
		res.Body.Close()
		if reached := p.last() != nil; reached != tc.passes || !tc.passes && res.StatusCode != 401 {
			t.Errorf("%s %s reached the application: %t, %d", tc.method, tc.path, reached, res.StatusCode)
		}
	}
	p.do("OPTIONS", "/events", "", "Authorization", "", "X-HTTP-Method-Override", "POST")
	if r := p.last(); r == nil || r.Header.Get("X-HTTP-Method-Override") != "" {
		t.Errorf("an excluded method can become another one: %v", r)
	}
	for _, bad := range []string{"", "health", "/a/../b", "/a%2f", "get /a", " /a", "/*/a*b/ c", "//", "/a;b"} {
		if _, err := guard.NewProxy(p.issuer.trust(p.clock), p.options(guard.ProxyOptions{ExcludedPaths: []string{bad}})); err == nil || !strings.Contains(err.Error(), "ExcludedPaths") {
			t.Errorf("%q is taken for a path: %v", bad, err)
		}
	}
}

// A path that may be excluded is the same path to every server: none decodes, splits or shortens it.
func FuzzExcludedPath(f *testing.F) {
	for _, p := range []string{"/", "/a/b", "/a/", "/a/../b", "/a%2fb", "/a;b", `/a\b`, "//a", "/./a", "/a/..", "a", "", "/\x00", "/a?b"} {
		f.Add(p)
	}
	f.Fuzz(func(t *testing.T, p string) {
		if !guard.Unambiguous(p) {
			return
		}
		u, err := url.Parse("http://h" + p)
		if err != nil || u.Path != p || u.EscapedPath() != p || u.RawQuery != "" || strings.TrimSuffix(path.Clean(p), "/") != strings.TrimSuffix(p, "/") || strings.ContainsAny(p, "%;\\") || strings.Contains(p, "//") {
			t.Errorf("%q is %+v, %v", p, u, err)
		}
	})
}

// upgrade opens a connection through the proxy on which the upstream echoes lines.
func (p *proxied) upgrade() (*bufio.ReadWriter, net.Conn) {
	p.t.Helper()
	conn := p.dial()
	rw := bufio.NewReadWriter(bufio.NewReader(conn), bufio.NewWriter(conn))
	fmt.Fprintf(conn, "GET /ws HTTP/1.1\r\nHost: h\r\nAuthorization: Bearer %s\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: x\r\n\r\n", p.token)
	res, err := http.ReadResponse(rw.Reader, nil)
	if err != nil || res.StatusCode != http.StatusSwitchingProtocols {
		p.t.Fatalf("%v %v", res, err)
	}
	return rw, conn
}

func echoUpgraded(w http.ResponseWriter, r *http.Request) {
	if r.Header.Get("Upgrade") != "websocket" {
		return
	}
	conn, rw, err := http.NewResponseController(w).Hijack()
	if err != nil {
		return
	}
	defer conn.Close()
	fmt.Fprint(rw, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
	for rw.Flush() == nil {
		line, err := rw.ReadString('\n')
		if err != nil {
			return
		}
		fmt.Fprint(rw, r.Header.Get("X-MS-CLIENT-PRINCIPAL-NAME"), " ", line)
	}
}

func echoes(t *testing.T, rw *bufio.ReadWriter, line string) {
	t.Helper()
	fmt.Fprintln(rw, line)
	_ = rw.Flush()
	if got, err := rw.ReadString('\n'); err != nil || got != client+" "+line+"\n" {
		t.Errorf("got %q, %v", got, err)
	}
}

func TestWebSocketsPassAndEndWithTheProxy(t *testing.T) {
	p := newProxied(t, guard.ProxyOptions{}, echoUpgraded)
	rw, _ := p.upgrade()
	echoes(t, rw, "one")
	if err := p.proxy.Reload(t.Context(), p.issuer.trust(p.clock), p.options(guard.ProxyOptions{})); err != nil {
		t.Fatal(err)
	}
	echoes(t, rw, "two, after the configuration was replaced")
	p.clock.advance(48 * time.Hour)
	echoes(t, rw, "three, after the token has expired")
	p.proxy.Close()
	if _, err := rw.ReadByte(); err == nil {
		t.Error("the connection outlives the proxy")
	}
	if res := p.do("GET", "/", ""); res.status != http.StatusServiceUnavailable {
		t.Errorf("a closed proxy answers %d", res.status)
	}
	p.proxy.Close() // twice is no fault
}

func TestStreamsPassAsTheyCome(t *testing.T) {
	next := make(chan string)
	p := newProxied(t, guard.ProxyOptions{MaxEvent: 1000}, func(w http.ResponseWriter, r *http.Request) {
		if r.Method == "POST" {
			n, err := io.Copy(io.Discard, r.Body)
			fmt.Fprint(w, n, err)
			return
		}
		w.Header().Set("Content-Type", "text/event-stream")
		w.(http.Flusher).Flush()
		for line := range next {
			fmt.Fprintln(w, line)
			w.(http.Flusher).Flush()
		}
	})
	r, _ := http.NewRequestWithContext(t.Context(), "GET", p.front.URL, nil)
	r.Header.Set("Authorization", "Bearer "+p.token)
	res, err := p.front.Client().Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	lines := bufio.NewReader(res.Body)
	for _, line := range []string{"one", "two"} {
		next <- line
		if got, err := lines.ReadString('\n'); err != nil || got != line+"\n" {
			t.Errorf("got %q, %v", got, err)
		}
	}
	close(next)
	if res := p.do("POST", "/", strings.Repeat("x", 5<<20)); res.body != "5242880 <nil>" {
		t.Errorf("a large upload: %d %s", res.status, res.body)
	}
	p.last()
	if res := p.do("POST", "/", strings.Repeat("x", 1001), eventHeaders("1")...); res.status != 413 || res.code() != reason.BodyTooLarge || p.last() != nil {
		t.Errorf("an event over the limit: %d %s", res.status, res.body)
	}
}

func eventHeaders(id string) []string {
	return []string{"WebHook-Request-Origin", "svc.example", "Ce-Specversion", "1.0", "Ce-Awpsversion", "1.0", "Ce-Type", "azure.webpubsub.user.message",
		"Ce-Eventname", "message", "Ce-Hub", "chat", "Ce-Connectionid", "c1", "Ce-Id", id, "Ce-Source", "/hubs/chat/client/c1", "Content-Type", "text/plain"}
}

func TestARepeatedEventIsAnsweredByTheProxy(t *testing.T) {
	var calls atomic.Int32
	opt := guard.ProxyOptions{Duplicates: &guard.Duplicates{}}
	p := newProxied(t, opt, func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		w.Header().Set("ce-connectionState", "s")
		fmt.Fprintf(w, "call %d: %s", calls.Add(1), body)
	})
	first := p.do("POST", "/", "hi", eventHeaders("1")...)
	if r := p.last(); r.Header.Get("X-MS-CLIENT-PRINCIPAL-ID") != principal || r.ContentLength != 2 || first.body != "call 1: hi" || first.header.Get("Idempotent-Replayed") != "" {
		t.Errorf("first: %d %s", first.status, first.body)
	}
	again := p.do("POST", "/", "hi", eventHeaders("1")...)
	if p.last() != nil || again.body != first.body || again.header.Get("ce-connectionState") != "s" || again.header.Get("Idempotent-Replayed") != "true" {
		t.Errorf("again: %d %s %v", again.status, again.body, again.header)
	}
	if err := p.proxy.Reload(t.Context(), p.issuer.trust(p.clock), p.options(opt)); err != nil {
		t.Fatal(err)
	}
	if res := p.do("POST", "/", "hi", eventHeaders("1")...); res.body != first.body {
		t.Errorf("after a reload: %s", res.body)
	}
	if res := p.do("POST", "/", "hi", eventHeaders("2")...); res.body != "call 2: hi" {
		t.Errorf("another event: %s", res.body)
	}
}

func TestAReloadThatFailsChangesNothing(t *testing.T) {
	p := newProxied(t, guard.ProxyOptions{}, nil)
	dead := newIssuer(t)
	dead.Close()
	good := p.issuer.trust(p.clock)
	for name, reload := range map[string]func() error{
		"a wrong option": func() error { return p.proxy.Reload(t.Context(), good, guard.ProxyOptions{Upstream: "ftp://x"}) },
		"no audience": func() error {
			return p.proxy.Reload(t.Context(), guard.Trust{Issuers: good.Issuers}, p.options(guard.ProxyOptions{}))
		},
		"an issuer that does not answer": func() error { return p.proxy.Reload(t.Context(), dead.trust(p.clock), p.options(guard.ProxyOptions{})) },
	} {
		if err := reload(); err == nil {
			t.Errorf("%s is accepted", name)
		}
		if res := p.do("GET", "/", ""); res.status != 200 {
			t.Errorf("after %s: %d %s", name, res.status, res.body)
		}
	}
	trust := p.issuer.trust(p.clock)
	trust.Audiences = []string{"api://other"}
	if err := p.proxy.Reload(t.Context(), trust, p.options(guard.ProxyOptions{})); err != nil {
		t.Fatal(err)
	}
	if res := p.do("GET", "/", ""); res.status != 401 || res.code() != reason.WrongAudience {
		t.Errorf("after the reload: %d %s", res.status, res.body)
	}
}

func TestRequestsUnderWayFinishAsTheyBegan(t *testing.T) {
	entered, release := make(chan struct{}), make(chan struct{})
	p := newProxied(t, guard.ProxyOptions{}, func(w http.ResponseWriter, _ *http.Request) {
		close(entered)
		<-release
		fmt.Fprint(w, "done")
	})
	var wg sync.WaitGroup
	wg.Go(func() {
		if res := p.do("GET", "/", ""); res.body != "done" {
			t.Errorf("%d %s", res.status, res.body)
		}
	})
	<-entered
	other := p.options(guard.ProxyOptions{Upstream: "http://127.0.0.1:1"})
	if err := p.proxy.Reload(t.Context(), p.issuer.trust(p.clock), other); err != nil {
		t.Fatal(err)
	}
	if res := p.do("GET", "/", ""); res.status != http.StatusBadGateway || res.code() != reason.UpstreamUnreachable || strings.Contains(res.body, "127.0.0.1") {
		t.Errorf("the new upstream, where nobody listens: %d %s", res.status, res.body)
	}
	close(release)
	wg.Wait()
}

func TestTheProxyAnswersTheEndpointValidationIfTold(t *testing.T) {
	p := newProxied(t, guard.ProxyOptions{ValidationOrigins: []string{"svc.example"}}, nil)
	if res := p.do("OPTIONS", "/", "", "Authorization", "", "WebHook-Request-Origin", "svc.example"); res.status != 200 || res.header.Get("WebHook-Allowed-Origin") != "svc.example" {
		t.Errorf("an allowed service: %d %v", res.status, res.header)
	}
	if res := p.do("OPTIONS", "/", "", "Authorization", "", "WebHook-Request-Origin", "evil.example"); res.status != 403 {
		t.Errorf("another one: %d", res.status)
	}
	if p.last() != nil {
		t.Error("the application was asked")
	}
	p = newProxied(t, guard.ProxyOptions{ValidationOrigins: []string{"*"}}, nil)
	if res := p.do("OPTIONS", "/", "", "Authorization", "", "WebHook-Request-Origin", "any.example"); res.header.Get("WebHook-Allowed-Origin") != "*" {
		t.Errorf("any service: %d %v", res.status, res.header)
	}
	p = newProxied(t, guard.ProxyOptions{}, nil)
	if res := p.do("OPTIONS", "/", "", "Authorization", "", "WebHook-Request-Origin", "svc.example"); res.status != 401 {
		t.Errorf("by default: %d", res.status)
	}
	if res := p.do("OPTIONS", "/", "", "WebHook-Request-Origin", "svc.example"); res.status != 200 || p.last().Header.Get("WebHook-Request-Origin") != "svc.example" {
		t.Errorf("by default, with a token: %d", res.status)
	}
}

func TestTheProxyCountsWhatBecameOfRequests(t *testing.T) {
	p := newProxied(t, guard.ProxyOptions{ExcludedPaths: []string{"/health"}}, nil)
	p.do("GET", "/", "")
	p.do("GET", "/", "")
	p.do("GET", "/health", "")
	p.do("GET", "/", "", "Authorization", "")
	p.do("GET", "/", "", "Authorization", "Bearer "+p.issuer.token(with(p.issuer.claims(p.clock), "aud", "api://other")))
	_ = p.proxy.Reload(t.Context(), p.issuer.trust(p.clock), p.options(guard.ProxyOptions{Upstream: "x"}))
	var b strings.Builder
	if err := p.proxy.WriteMetrics(&b); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"# TYPE tabard_guard_requests_total counter\n",
		"\ntabard_guard_requests_total{outcome=\"excluded\",code=\"\"} 1\n", "\ntabard_guard_requests_total{outcome=\"passed\",code=\"\"} 2\n",
		"\ntabard_guard_requests_total{outcome=\"refused\",code=\"token_missing\"} 1\n", "\ntabard_guard_requests_total{outcome=\"refused\",code=\"wrong_audience\"} 1\n",
		"\ntabard_guard_reloads_total{result=\"failed\"} 1\n", "\ntabard_guard_upstream_failures_total 0\n", "\ntabard_guard_requests_in_flight ",
	} {
		if !strings.Contains(b.String(), want) {
			t.Errorf("no %q in\n%s", want, b.String())
		}
	}
}

func TestFaultsOfAProxyAreAllReported(t *testing.T) {
	_, err := guard.NewProxy(guard.Trust{}, guard.ProxyOptions{Upstream: "http://u:secret@h/?q", Unauthenticated: "RedirectToLoginPage", ExcludedPaths: []string{"x"},
		ValidationOrigins: []string{"a b"}, UpstreamCAFile: "/does/not/exist"})
	for _, want := range []string{"Issuers", "Audiences", "Upstream:", "Unauthenticated", "ExcludedPaths", "AllowedOrigins", "UpstreamCAFile"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("no fault of %s in %v", want, err)
		}
	}
	if strings.Contains(err.Error(), "secret") {
		t.Errorf("the password is in the error: %v", err)
	}
	if _, err := guard.NewProxy(guard.Trust{}, guard.ProxyOptions{Upstream: "localhost:3000"}); err == nil || !strings.Contains(err.Error(), "Upstream") {
		t.Error("an upstream without a scheme is accepted")
	}
}

func TestAnUpstreamThatIsSlowIsGivenUp(t *testing.T) {
	stop := make(chan struct{})
	p := newProxied(t, guard.ProxyOptions{UpstreamTimeout: 20 * time.Millisecond}, func(_ http.ResponseWriter, r *http.Request) {
		select {
		case <-stop:
		case <-r.Context().Done():
		}
	})
	defer close(stop)
	if res := p.do("GET", "/", ""); res.status != http.StatusGatewayTimeout || res.code() != reason.UpstreamUnreachable {
		t.Errorf("%d %s", res.status, res.body)
	}
}

func BenchmarkProxy(b *testing.B) {
	is, c := newIssuer(b), newClock()
	upstream := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	defer upstream.Close()
	p, err := guard.NewProxy(is.trust(c), guard.ProxyOptions{Upstream: upstream.URL})
	if err != nil {
		b.Fatal(err)
	}
	defer p.Close()
	r := httptest.NewRequestWithContext(context.Background(), "GET", "/", nil)
	r.Header.Set("Authorization", "Bearer "+is.token(is.claims(c)))
	b.ReportAllocs()
	for b.Loop() {
		w := httptest.NewRecorder()
		if p.ServeHTTP(w, r); w.Code != 200 {
			b.Fatal(w.Code)
		}
	}
}
