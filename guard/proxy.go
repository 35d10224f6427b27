package guard

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"tabard/guard/reason"
)

// Unauthenticated says what becomes of a request without a good token.
type Unauthenticated string

// The actions have the names of App Service authentication. Its
// RedirectToLoginPage has no counterpart: an application that calls cannot sign
// in on a page.
const (
	Return401      Unauthenticated = "Return401"      // the default
	Return403      Unauthenticated = "Return403"      // 403 with the same explanation
	Return404      Unauthenticated = "Return404"      // 404 without any: the path does not seem to exist
	AllowAnonymous Unauthenticated = "AllowAnonymous" // pass without X-MS-CLIENT-PRINCIPAL; a token that is there must be good all the same
)

// ProxyOptions say how a Proxy treats requests. Upstream is required.
type ProxyOptions struct {
	// Upstream is the application: http or https, a host, and a path if it lives
	// below one.
	Upstream string
	// UpstreamCAFile is a PEM file of authorities to trust for an https upstream in
	// addition to the system's.
	UpstreamCAFile string
	// UpstreamTimeout is how long the upstream may take to begin its answer. Default
	// 230 s, as in App Service. An answer may then stream on without limit.
	UpstreamTimeout time.Duration
	// PreserveHost sends the request's own Host to the upstream. Default: the
	// upstream's; X-Forwarded-Host has the original.
	PreserveHost bool

	// Unauthenticated is for requests without a good token. A good token of a caller
	// who may not call is answered with 403 in any case. Default Return401.
	Unauthenticated Unauthenticated

	// ExcludedPaths pass without a token. Each is a path, compared with its letter
	// case, or a path with `/*` at its end for everything below it; a method and a
	// space in front restrict it, as in `OPTIONS /eventhandler`. A request whose path
	// holds anything that servers read in different ways (escapes, dot segments,
	// double slashes, semicolons, backslashes) is never excluded.
	ExcludedPaths []string

	// ValidationOrigins are hosts of services whose endpoint validation the proxy
	// answers itself, without a token; "*" is any. Default: none. The validation is
	// then a request like any other: it needs a token, which Tabard sends, and the
	// upstream answers it.
	ValidationOrigins []string

	// CommaChallenge separates the parameters of WWW-Authenticate with commas, as RFC
	// 7235 demands. Default: with spaces, as App Service does.
	CommaChallenge bool

	// HideReasons, Observe and Log are as in Options.
	HideReasons bool
	Observe     func(Verification)
	Log         *slog.Logger

	// Duplicates, if not nil, answers a repeated event with the first answer; see
	// there.
	Duplicates *Duplicates
	// MaxEvent bounds an event's body in bytes, since events are read before they are
	// passed on. Default 1 MiB and 64 KiB. Other bodies stream through without limit.
	MaxEvent int64
}

// A Proxy is a reverse proxy that stands in front of an application as App
// Service authentication does: it lets only requests with a good token pass,
// takes away what callers could forge, and tells the application who calls in
// X-MS-CLIENT-PRINCIPAL and its relatives. The Authorization header stays.
// WebSockets and streams pass; a WebSocket lives on when its token has expired.
//
// It is an http.Handler, safe for concurrent use, and its configuration can be
// replaced while it serves.
type Proxy struct {
	stopped context.Context
	stop    context.CancelFunc
	counts  counters

	mu      sync.Mutex // guards current, every setup's users, and closed
	current *setup
	closed  bool
	serving sync.WaitGroup // requests under way
}

// A setup is one configuration in use.
type setup struct {
	guard    *Guard
	opt      ProxyOptions
	audience string // that a challenge names
	uri      string // authorization_uri
	excluded []exclusion
	origins  bool // the proxy answers the endpoint validation
	forward  *httputil.ReverseProxy
	upstream *http.Transport
	counts   *counters
	users    int
}

// NewProxy makes a proxy. It reports all faults of the configuration at once and
// makes no call; see Preload.
func NewProxy(trust Trust, opt ProxyOptions) (*Proxy, error) {
	p := &Proxy{}
	s, err := newSetup(trust, opt, &p.counts)
	if err != nil {
		return nil, err
	}
	p.stopped, p.stop = context.WithCancel(context.Background())
	p.current = s
	return p, nil
}

// Preload fetches the issuers' keys; see Verifier.Preload.
func (p *Proxy) Preload(ctx context.Context) error {
	s, ok := p.enter()
	if !ok {
		return errProxyClosed
	}
	defer p.leave(s)
	return s.guard.verifier.Preload(ctx)
}

var errProxyClosed = errors.New("guard: the proxy is closed")

// Reload replaces the configuration for requests that come from now on; those
// under way finish as they began. A configuration that is wrong, or whose
// issuers do not answer, changes nothing.
func (p *Proxy) Reload(ctx context.Context, trust Trust, opt ProxyOptions) (err error) {
	defer func() { p.counts.reloaded(err) }()
	s, err := newSetup(trust, opt, &p.counts)
	if err != nil {
		return err
	}
	if err := s.guard.verifier.Preload(ctx); err != nil {
		s.close()
		return err
	}
	p.mu.Lock()
	if p.closed {
		p.mu.Unlock()
		s.close()
		return errProxyClosed
	}
	old := p.current
	if before, now := old.guard.duplicates, s.guard.duplicates; before != nil && now != nil && before.opt == now.opt {
		s.guard.duplicates = before // what was answered stays answered
	}
	p.current = s
	idle := old.users == 0
	p.mu.Unlock()
	if idle {
		old.close()
	}
	return nil
}

// Close ends all requests under way, WebSockets too, and waits for them. Stop
// the server that calls the proxy first.
func (p *Proxy) Close() {
	p.mu.Lock()
	done := p.closed
	p.closed = true
	idle := p.current.users == 0
	p.mu.Unlock()
	p.stop()
	p.serving.Wait()
	if idle && !done {
		p.current.close()
	}
}

// enter takes the configuration for one request, leave gives it back; the last
// user of a replaced one closes it.
func (p *Proxy) enter() (*setup, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return nil, false
	}
	p.serving.Add(1)
	p.current.users++
	return p.current, true
}

func (p *Proxy) leave(s *setup) {
	p.mu.Lock()
	s.users--
	last := s.users == 0 && (s != p.current || p.closed)
	p.mu.Unlock()
	if last {
		s.close()
	}
	p.serving.Done()
}

// ServeHTTP answers one request.
func (p *Proxy) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s, ok := p.enter()
	if !ok {
		http.Error(w, "the guard is closing", http.StatusServiceUnavailable)
		return
	}
	defer p.leave(s)
	ctx, cancel := context.WithCancel(r.Context())
	defer cancel()
	defer context.AfterFunc(p.stopped, cancel)()
	p.counts.begin()
	defer p.counts.end()
	s.serve(w, r.WithContext(ctx))
}

func (s *setup) serve(w http.ResponseWriter, r *http.Request) {
	r.Header = r.Header.Clone()
	stripPrincipal(r.Header)
	switch {
	case r.Method == http.MethodConnect:
		s.guard.refuse(w, r, &Error{Code: reason.MethodNotAllowed, Status: http.StatusMethodNotAllowed, Message: "CONNECT is not passed on"})
	case s.isExcluded(r):
		for _, name := range methodOverrides {
			r.Header.Del(name)
		}
		s.pass(w, r, nil, outcomeExcluded)
	case s.origins && isValidation(r):
		s.counts.count(outcomeValidation, "")
		s.guard.answerValidation(w, r)
	case s.opt.Unauthenticated == AllowAnonymous && len(r.Header["Authorization"]) == 0:
		s.pass(w, r, nil, outcomeAnonymous)
	default:
		claims, err := s.guard.authenticate(r)
		if err != nil {
			s.guard.refuse(w, r, err)
			return
		}
		s.pass(w, r, claims, outcomePassed)
	}
}

// methodOverrides are headers that make some servers treat a request as one of
// another method, for which no path may have been excluded.
var methodOverrides = [...]string{"X-Http-Method-Override", "X-Http-Method", "X-Method-Override"}

// pass hands a request to the upstream. Without claims it is passed on as it is,
// events too: whose repetition it would be is not known.
func (s *setup) pass(w http.ResponseWriter, r *http.Request, claims *Claims, o outcome) {
	s.counts.count(o, "")
	if claims == nil {
		s.forward.ServeHTTP(w, r)
		return
	}
	s.guard.pass(w, r, claims, s.forward)
}

// refuse answers a request that does not pass, as App Service does but for the
// reason, which it does not tell (identity.md 9.5).
func (s *setup) refuse(w http.ResponseWriter, r *http.Request, e *Error) {
	s.counts.count(outcomeRefused, e.Code)
	hide := s.opt.HideReasons
	parameters := append([]string{`realm="` + descriptionText(r.Host) + `"`, `authorization_uri="` + s.uri + `"`, `resource_id="` + s.audience + `"`}, e.challenge(hide)...)
	separator := " "
	if s.opt.CommaChallenge {
		separator = ", "
	}
	if e.Status == http.StatusUnauthorized && s.opt.Unauthenticated != Return401 && s.opt.Unauthenticated != AllowAnonymous {
		other := *e
		if other.Status = http.StatusForbidden; s.opt.Unauthenticated == Return404 {
			other.Status, hide = http.StatusNotFound, true
		}
		e = &other
	}
	e.writeWith(w, "Bearer "+strings.Join(parameters, separator), hide)
}

// rewrite makes the upstream's request. What hops are for each other, and what
// callers say about hops before, has been taken out by then.
func (s *setup) rewrite(target *url.URL) func(*httputil.ProxyRequest) {
	return func(r *httputil.ProxyRequest) {
		r.Out.URL.RawQuery = r.In.URL.RawQuery // as it came, even where Go would not parse it
		r.SetURL(target)
		r.SetXForwarded()
		r.Out.Trailer = nil // a trailer could bring what was stripped from the header
		if c := ClaimsFrom(r.In.Context()); c != nil {
			setPrincipal(r.Out.Header, c) // here, where no Connection header of the caller's can take it away
		}
		if s.opt.PreserveHost {
			r.Out.Host = r.In.Host
		}
	}
}

// upstreamFailed answers for an upstream that does not.
func (s *setup) upstreamFailed(w http.ResponseWriter, r *http.Request, err error) {
	e := &Error{Code: reason.UpstreamUnreachable, Status: http.StatusBadGateway, Message: sentence(reason.UpstreamUnreachable), Err: err}
	var timeout net.Error
	if errors.As(err, &timeout) && timeout.Timeout() {
		e.Status = http.StatusGatewayTimeout
	}
	if r.Context().Err() == nil { // otherwise the caller left, or the proxy is closing
		s.counts.upstreamFailed()
		s.guard.opt.Log.LogAttrs(r.Context(), slog.LevelWarn, "upstream does not answer",
			slog.String("path", r.URL.Path), slog.String("error", err.Error()))
	}
	e.writeWith(w, "", s.opt.HideReasons)
}

// newSetup checks a configuration.
func newSetup(trust Trust, opt ProxyOptions, counts *counters) (*setup, error) {
	var faults []error
	fault := func(format string, args ...any) { faults = append(faults, fmt.Errorf("guard: "+format, args...)) }
	s := &setup{counts: counts}
	if opt.Unauthenticated == "" {
		opt.Unauthenticated = Return401
	}
	if !slices.Contains([]Unauthenticated{Return401, Return403, Return404, AllowAnonymous}, opt.Unauthenticated) {
		fault("Unauthenticated: %q is none of Return401, Return403, Return404, AllowAnonymous", opt.Unauthenticated)
	}
	target, err := url.Parse(opt.Upstream)
	switch {
	case err != nil || target.Host == "" || target.Scheme != "http" && target.Scheme != "https":
		fault("Upstream: %q is not an http or https URL", redactedURL(opt.Upstream))
	case target.User != nil || target.RawQuery != "" || target.Fragment != "":
		fault("Upstream: %q holds a user, a query or a fragment", redactedURL(opt.Upstream))
	}
	for _, text := range opt.ExcludedPaths {
		x, err := parseExclusion(text)
		if err != nil {
			fault("ExcludedPaths: %q %w", text, err)
		}
		s.excluded = append(s.excluded, x)
	}
	roots, err := rootsWith(nil, opt.UpstreamCAFile)
	if err != nil {
		fault("UpstreamCAFile: %w", err)
	}
	s.origins = len(opt.ValidationOrigins) > 0
	origins := opt.ValidationOrigins
	if slices.Contains(origins, "*") {
		origins = nil
	}
	g, err := New(trust, Options{HideReasons: opt.HideReasons, AllowedOrigins: origins, Duplicates: opt.Duplicates,
		MaxBody: opt.MaxEvent, Observe: opt.Observe, Log: opt.Log})
	if err != nil {
		faults = append(faults, err)
	}
	if len(faults) > 0 {
		if g != nil {
			g.Close()
		}
		return nil, errors.Join(faults...)
	}
	g.stream, g.answerRefusal = true, s.refuse
	s.guard, s.opt = g, opt
	s.audience = descriptionText(resourceOf(trust.Audiences))
	s.uri = descriptionText(g.verifier.issuers[0].authorizeURL())
	s.upstream = &http.Transport{
		DialContext:            (&net.Dialer{Timeout: 10 * time.Second}).DialContext,
		TLSClientConfig:        &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12},
		TLSHandshakeTimeout:    10 * time.Second,
		ForceAttemptHTTP2:      true,
		DisableCompression:     true, // bodies pass as they are
		MaxIdleConnsPerHost:    256,
		IdleConnTimeout:        90 * time.Second,
		ResponseHeaderTimeout:  orDefault(opt.UpstreamTimeout, 230*time.Second),
		ExpectContinueTimeout:  time.Second,
		MaxResponseHeaderBytes: 256 << 10,
	}
	s.forward = &httputil.ReverseProxy{
		Rewrite:      s.rewrite(target),
		Transport:    s.upstream,
		BufferPool:   &bufferPool{},
		ErrorHandler: s.upstreamFailed,
		ErrorLog:     slog.NewLogLogger(g.opt.Log.Handler(), slog.LevelDebug),
	}
	return s, nil
}

func (s *setup) close() {
	s.guard.Close()
	s.upstream.CloseIdleConnections()
}

// A bufferPool lends the buffers that answers are copied with.
type bufferPool struct{ pool sync.Pool }

func (b *bufferPool) Get() []byte {
	if p, ok := b.pool.Get().(*[32 << 10]byte); ok {
		return p[:]
	}
	return make([]byte, 32<<10)
}

func (b *bufferPool) Put(buffer []byte) { b.pool.Put((*[32 << 10]byte)(buffer)) }

// resourceOf is the audience that a challenge names: an application id if there
// is one, as App Service has no other.
func resourceOf(audiences []string) string {
	if i := slices.IndexFunc(audiences, isGUID); i >= 0 {
		return audiences[i]
	}
	return audiences[0]
}

// authorizeURL is where the issuer would let people sign in.
func (is *issuer) authorizeURL() string {
	path := "/oauth2/authorize"
	if is.version == "2.0" {
		path = "/oauth2/v2.0/authorize"
	}
	return is.base.String() + is.prefix + "/" + is.segment + path
}

// redactedURL is an address without what could be a password in it.
func redactedURL(address string) string {
	if u, err := url.Parse(address); err == nil {
		return u.Redacted()
	}
	if strings.Contains(address, "@") {
		return "(not a URL)"
	}
	return address
}
