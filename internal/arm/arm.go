package arm

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"strings"
	"sync/atomic"
	"time"

	"github.com/google/uuid"

	"tabard/internal/audit"
	"tabard/internal/directory"
	"tabard/internal/keyvault"
	"tabard/internal/rbac"
	"tabard/internal/settings"
	"tabard/internal/trace"
)

// Options of [New]. Fields without a default are required.
type Options struct {
	Settings  *settings.Settings
	Directory *directory.Directory
	Roles     *rbac.RBAC
	// Vaults are the embedded key vaults, VaultOrigin the public origin of one of them ("https://v1.kv.example.com").
	Vaults      *keyvault.Vaults
	VaultOrigin func(vault string) string
	// VaultSuffix is what follows a vault's name in its host ("kv.example.com:8081").
	VaultSuffix func() string
	// References are the secrets that handlers' URLs refer to.
	References References
	// Trace holds the records that R/trace shows; nil shows none.
	Trace *trace.Recorder
	// Events repeats events and makes some up; nil can do neither.
	Events Events

	// SubscriptionID is the subscription in which resources are created, a GUID. Resources that were created under
	// another id before stay reachable under it.
	SubscriptionID string
	// Endpoint is the public origin of an instance ("https://wps.example.com:8080"), used in connection strings.
	Endpoint func(*settings.Instance) string
	// HostName is the host of that origin, without a port.
	HostName func(*settings.Instance) string
	// Authority is the origin of the token issuer ("https://127.0.0.1:8080"), named to callers without a token.
	Authority func() string
	// Authorize decides whether a request may be served. Its error is shown to the caller and must hold no secret; it
	// is answered with 401 unless it is a *Refusal. Without it everything is refused.
	Authorize func(*http.Request) error
	// Caller is the object id of the principal whose request was let in, empty for the holder of the admin token. nil:
	// it is never known.
	Caller func(*http.Request) string

	// Certificates are read when they are configured and tell how it stands with them. nil: none is served.
	Certificates Certificates

	// Restart ends the client connections of an instance so that they come back. nil: there are none.
	Restart func(context.Context, *settings.Instance) error

	// Live is who is connected; nil: nobody.
	Live Live
	// CheckHandler asks an event handler of a hub now whether it wants events. nil: it is not asked.
	CheckHandler func(ctx context.Context, in *settings.Instance, hub string, h *settings.EventHandler) HandlerCheck

	// Audit finds what was recorded of changes. nil: nothing was.
	Audit *audit.Log

	// Done ends live traces when it is closed, so that a shutdown need not wait for their readers. nil: never.
	Done <-chan struct{}
	// KeepAlive is the interval of comments on an idle live trace. Default 15 s.
	KeepAlive time.Duration
	// Log receives what callers are not told, such as the cause of a 500. Default: discarded.
	Log *slog.Logger
}

// Events sends events that no client sent, as R/trace/{id}/replay and R/hubs/{hub}/trigger ask for. settings.Faults
// are what the caller did wrong; whatever the handler does is in the result.
type Events interface {
	// Replay sends the record's event again: to the rule that takes it now, or to a URL; there, with a token for the
	// audience or, if that is empty, without one.
	Replay(ctx context.Context, in *settings.Instance, rec *trace.Record, to, audience string) (*trace.Comparison, error)
	// Trigger delivers an event of the hub.
	Trigger(ctx context.Context, in *settings.Instance, hub string, ev *trace.Synthetic) (*trace.Triggered, error)
	// Header is what the record's event carries, but for what proves who sends it.
	Header(in *settings.Instance, rec *trace.Record) http.Header
}

// Limits of the surface.
const (
	maxBody      = 1 << 20 // bytes of a request body
	maxFollowers = 64      // live traces at once, over all instances
	// writeTimeout bounds a write to the store or the directory. It does not end with the client's connection.
	writeTimeout = 15 * time.Second
)

type server struct {
	Options
	routes    *node
	turn      chan struct{} // holds a token while a write may change an identity; see withIdentity
	followers atomic.Int32

	operations operations
}

// New returns the handler of the control plane. It must be reached without a multiplexer that cleans paths: clients
// put "//" in front of a scope, and no answer of a control plane is a redirect.
func New(opt Options) http.Handler {
	if opt.KeepAlive == 0 {
		opt.KeepAlive = 15 * time.Second
	}
	if opt.Log == nil {
		opt.Log = slog.New(slog.DiscardHandler)
	}
	opt.Log = opt.Log.With("component", "arm")
	s := &server{Options: opt, turn: make(chan struct{}, 1)}
	s.routes = compile(s.table())
	return s
}

// A call is one request on its way.
type call struct {
	w      http.ResponseWriter
	r      *http.Request
	params params
	id     string // x-ms-request-id
	start  time.Time
}

// A reply is a success: a status and what becomes the JSON body, nil for none. The zero reply means that the handler
// has answered itself.
type reply struct {
	status int
	body   any
}

// A handler serves one operation. Its error becomes an answer in the shape of the route's surface.
type handler func(*call) (reply, error)

func (s *server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	c := &call{w: w, r: r, id: uuid.NewString(), start: time.Now().UTC()}
	answer := s.answerARM
	if isGraph(r.URL.Path) {
		answer = s.answerGraph
	}
	rep, err := s.serve(c)
	answer(c, rep, err)
}

func (s *server) serve(c *call) (reply, error) {
	if isMetadata(c.r) { // how a client finds out where to get a token
		return s.getMetadata(c)
	}
	if s.Authorize == nil {
		return reply{}, &unauthorized{errors.New("nobody is authorised here")}
	}
	if err := s.Authorize(c.r); err != nil {
		var refused *Refusal
		if errors.As(err, &refused) {
			return reply{}, refused
		}
		return reply{}, &unauthorized{err}
	}
	rt, params, err := s.routes.find(c.r.Method, c.r.URL.EscapedPath())
	if err != nil {
		return reply{}, err
	}
	c.params = params
	if rt.versions != nil {
		if err := rt.versions.check(c, rt.kind()); err != nil {
			return reply{}, err
		}
	}
	if err := s.checkScope(c); err != nil {
		return reply{}, err
	}
	if err := s.checkGroup(c); err != nil {
		return reply{}, err
	}
	rep, err := s.audited(rt, c)
	if err == nil && rt.intoGroup() {
		s.enterGroup(c)
	}
	return rep, err
}

// A Refusal is what Authorize says to a caller whose credential is good and does not suffice (status 403), or cannot be
// judged at the moment (503).
type Refusal struct {
	Status  int
	Message string // for the caller
}

// Error returns the message.
func (e *Refusal) Error() string { return e.Message }

// Refusals that happen before a surface's handler runs; each surface words them in its own envelope.
type (
	unauthorized     struct{ err error } // the caller may not
	unrouted         struct{ path string }
	methodNotAllowed struct {
		method  string
		allowed []string
	}
)

func (e *unauthorized) Error() string     { return e.err.Error() }
func (e *unrouted) Error() string         { return "no such path" }
func (e *methodNotAllowed) Error() string { return "method not allowed" }

// writing returns the context of a change: it outlives the client's connection, and ends after writeTimeout.
func (c *call) writing() (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.WithoutCancel(c.r.Context()), writeTimeout)
}

// query returns a query parameter, its name ignoring case.
func (c *call) query(name string) string {
	for key, values := range c.r.URL.Query() {
		if strings.EqualFold(key, name) {
			return values[0]
		}
	}
	return ""
}

// origin is the scheme and host that the client used.
func (c *call) origin() string {
	if c.r.TLS != nil {
		return "https://" + c.r.Host
	}
	return "http://" + c.r.Host
}

// nextPage is the address of the page behind the one that is answered: the request's own, with the token of the next.
func (c *call) nextPage(token string) string {
	const name = "$skiptoken"
	query := c.r.URL.Query()
	for given := range query {
		if strings.EqualFold(given, name) {
			query.Del(given)
		}
	}
	query.Set(name, token)
	return c.origin() + c.r.URL.EscapedPath() + "?" + query.Encode()
}

// warn adds a header that the command line and the portal show: the request was accepted, but probably not meant so.
func (c *call) warn(warnings ...string) {
	const limit = 16 // headers of one answer
	for i, w := range warnings {
		if i == limit {
			return
		}
		c.w.Header().Add("X-Tabard-Warning", headerText(w))
	}
}

// headerText makes text fit for a header: printable ASCII, bounded.
func headerText(text string) string {
	text = strings.Map(func(r rune) rune {
		if r < ' ' || r > '~' {
			return '?'
		}
		return r
	}, text)
	if len(text) > 512 {
		text = text[:509] + "..."
	}
	return text
}
