// Package eventhandler delivers what happens on client connections to the applications that care: it finds the
// event handler of a hub, makes sure that the handler wants this service's events, proves who is calling, sends a
// CloudEvent and makes sense of the answer.
//
// The caller holds one [Session] per logical connection, which keeps what belongs together on the handler's side:
// the counter of event ids, the connection state, cookies, the order of events. Blocking events (connect, user
// events) are methods that return the answer; notifications (connected, disconnected) are accepted and delivered
// in order in the background, also after the client has left.
//
// What is fixed, in order of importance: an event that needs an access token is never sent without one; a token
// travels over plain http to loopback alone unless the instance says otherwise; nothing is sent to a URL whose
// owner has not consented (abuse protection); redirects are not followed. Each delivery leaves a trace record with
// one reason code. The facts are in the CloudEvents extension for Azure Web PubSub; where that is silent, the
// behaviour of Microsoft's emulator is followed and cited as EMU.
//
// It leaves to others: which connections exist (clientws, hub), tokens (identity), dialling (egress), what is
// configured (settings). Failures of blocking events are returned, not logged; the caller handles them. Failures
// of notifications and of validations are logged here. [Dispatcher.Close] finishes notifications within its
// deadline and ends all goroutines.
package eventhandler

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"tabard/internal/egress"
	"tabard/internal/identity"
	"tabard/internal/settings"
	"tabard/internal/trace"
)

// Limits. All sizes are in bytes.
const (
	MaxResponse      = 16 << 20 // of a handler's answer; above it the event fails (EMU)
	MaxState         = 8 << 10  // of ce-connectionState in an answer
	MaxRejectionBody = 16 << 10 // of a 4xx answer to connect that is passed on to the client
	maxErrorBody     = 64 << 10 // of a failed answer that is read so that its connection can be reused
	maxGroups        = 8192     // groups and roles each, in an answer to connect
	maxUserID        = 4 << 10  // of userId in an answer to connect
	maxTargets       = 4096     // expanded URLs that are remembered
	maxChecks        = 4096     // endpoint validations that are remembered
)

// Options of [New]. Settings, Egress and Origin are required.
type Options struct {
	// Settings is the present configuration. It is asked at each event, so that a change takes effect for the next
	// event of every live connection.
	Settings func() *settings.Snapshot
	// Identity obtains a token for resource as the instance's managed identity. It is not called for an instance
	// that has none; an error that wraps [ErrNoIdentity] means that the one it has is gone. nil: every handler that
	// needs a token fails.
	Identity func(ctx context.Context, in *settings.Instance, resource string) (*identity.Token, error)
	// Rejected hears that a handler answered 401 or 403 to tok, so that a stale one can be forgotten. claims is what the
	// handler demands of the next token, a JSON object, if it sent a claims challenge. May be nil.
	Rejected func(in *settings.Instance, resource string, tok *identity.Token, claims string)
	// Secrets reads the Key Vault secret at uri with the instance's identity. It is asked for each event and should
	// remember. An error that has a Reason() reason.Code says why. nil: every reference fails closed.
	Secrets func(ctx context.Context, in *settings.Instance, uri string) (string, error)
	// SecretsRejected hears that a handler answered 401 or 403 to a URL with these secrets in it, so that one that was
	// changed just now can be read again. May be nil.
	SecretsRejected func(in *settings.Instance, uris []string)
	// Egress is the way out. The dispatcher does not close it.
	Egress *egress.Egress
	// Trace receives one record for each delivery and validation; nil records nothing.
	Trace *trace.Recorder
	// Tracer makes a span of each delivery; nil makes none.
	Tracer Tracer
	// Origin is the instance's public host name without scheme and port, sent as WebHook-Request-Origin, and other
	// spellings (host:port) that a handler may answer with in WebHook-Allowed-Origin.
	Origin func(*settings.Instance) (host string, aliases []string)
	// Log receives failures of notifications and validations; nil discards. It never sees a token or a resolved URL.
	Log *slog.Logger

	// Budget bounds one exchange, from match to the last byte of the answer, repetitions included. 0 means 100 s.
	Budget time.Duration
	// RetryAfter are the pauses before repetitions; nil means 1 s, 3 s, 5 s (EMU).
	RetryAfter []time.Duration
	// ValidationTimeout bounds each OPTIONS or GET of a validation. 0 means 10 s.
	ValidationTimeout time.Duration
	// ValidationFresh is how long a passed validation is used without looking again. 0 means 60 s.
	ValidationFresh time.Duration
	// ValidationBackoff is the pause after a failed validation, doubled with each further one up to
	// ValidationFresh. 0 means 1 s.
	ValidationBackoff time.Duration
	// MaxNotifications bounds the notifications that wait or are under way, over all hubs; further ones are dropped
	// with a log line and a trace record. 0 means 65,536.
	MaxNotifications int
	// NotificationsPerHub bounds how many notifications of one hub are on the wire at once, so that a slow handler
	// delays its own hub alone. 0 means 128.
	NotificationsPerHub int
}

// A Tracer makes spans, for distributed tracing.
type Tracer interface {
	// Start begins the span of an event's delivery, below the one of ctx if there is one.
	Start(ctx context.Context, hub, event string) Span
}

// A Span is one delivery in somebody's trace.
type Span interface {
	// TraceID is the W3C trace id, 32 hexadecimal digits.
	TraceID() string
	// Inject adds the headers by which the handler goes on with the trace.
	Inject(http.Header)
	// End is called once, with what became of the delivery. It must not keep the record.
	End(*trace.Record)
}

// Errors that a caller decides on.
var (
	// ErrNoHandler says that no event handler of the hub takes the user event.
	ErrNoHandler = errors.New("no event handler takes this event")
	// ErrNoIdentity is wrapped by an error of Options.Identity to say that the instance's identity does not exist.
	ErrNoIdentity = errors.New("the instance has no managed identity")
	// ErrClosed is the cause when the dispatcher was closed.
	ErrClosed = errors.New("event delivery has stopped")
)

// A Dispatcher delivers events. All methods are safe for concurrent use.
type Dispatcher struct {
	opt       Options
	log       *slog.Logger
	far, near http.RoundTripper // everywhere the policy admits, and loopback alone

	targets targets
	checks  checks
	notes   notifier
	now     atomic.Pointer[stamp] // ce-time of the current second

	ctx    context.Context // of notifications and validations; ended by Close
	cancel context.CancelFunc
	life   sync.Mutex // orders the start of a goroutine before Close's wait; guards closed
	closed bool
	wg     sync.WaitGroup
}

// New makes a Dispatcher. The caller closes it.
func New(opt Options) *Dispatcher {
	if opt.Log == nil {
		opt.Log = slog.New(slog.DiscardHandler)
	}
	if opt.Origin == nil {
		opt.Origin = func(*settings.Instance) (string, []string) { return "localhost", nil }
	}
	def(&opt.Budget, 100*time.Second)
	if opt.RetryAfter == nil {
		opt.RetryAfter = []time.Duration{time.Second, 3 * time.Second, 5 * time.Second}
	}
	def(&opt.ValidationTimeout, 10*time.Second)
	def(&opt.ValidationFresh, time.Minute)
	def(&opt.ValidationBackoff, time.Second)
	def(&opt.MaxNotifications, 1<<16)
	def(&opt.NotificationsPerHub, 128)
	d := &Dispatcher{opt: opt, log: opt.Log, far: opt.Egress.Transport(), near: opt.Egress.LoopbackTransport()}
	d.targets.m = make(map[targetKey]*target)
	d.checks.m = make(map[checkKey]*check)
	d.notes.d = d
	d.notes.lanes = make(map[laneKey]*lane)
	d.ctx, d.cancel = context.WithCancel(context.Background()) // lives as long as the dispatcher
	return d
}

func def[T comparable](v *T, d T) {
	if *v == *new(T) {
		*v = d
	}
}

// Close accepts no further notification, lets those that were accepted finish until ctx ends, cancels the rest and
// waits for every goroutine. Blocking events belong to their callers: cancel their contexts before. The error is
// ctx's, if notifications had to be cancelled.
func (d *Dispatcher) Close(ctx context.Context) error {
	err := d.notes.drain(ctx)
	d.life.Lock()
	d.closed = true
	d.life.Unlock()
	d.cancel()
	d.wg.Wait()
	return err
}

// start runs fn as a goroutine that Close waits for, unless it is too late for that.
func (d *Dispatcher) start(fn func()) bool {
	d.life.Lock()
	defer d.life.Unlock()
	if d.closed {
		return false
	}
	d.wg.Go(fn)
	return true
}

// A stamp is a time as ce-time has it, shared by all events of its second.
type stamp struct {
	second int64
	value  []string
}

func (d *Dispatcher) stamp(t time.Time) []string {
	if s := d.now.Load(); s != nil && s.second == t.Unix() {
		return s.value
	}
	s := &stamp{t.Unix(), []string{t.UTC().Format("2006-01-02T15:04:05Z")}}
	d.now.Store(s)
	return s.value
}
