// Package guard is for those who write an event handler and must trust nobody.
// It stands in front of the handler and lets only events pass that carry a good
// access token: signed by the issuer you trust, for your audience, in time, of a
// caller you allow. It answers the service's endpoint validation, hands you the
// event already parsed, and, if asked to, checks the event's signature and
// answers repeated events without calling you twice.
//
//	g, err := guard.New(guard.Trust{
//		Issuers:   guard.Authority("https://login.microsoftonline.com", tenantID),
//		Audiences: []string{"api://my-handler"},
//	}, guard.Options{})
//	…
//	http.Handle("/eventhandler", g.Events(guard.Handlers{
//		User: func(ctx context.Context, e *guard.Event) (guard.Reply, error) {
//			return guard.Textf("%s said %s", e.UserID, e.Text()), nil
//		},
//	}))
//
// It works with the token service of Tabard and with Microsoft Entra ID; see
// Trust. To protect any other http.Handler use Guard.Protect, to verify tokens
// only use a Verifier. A refusal is an *Error with a code of package reason; it is
// answered with 401 or 403 and says why.
//
// The guard proves who sends, not that a proxy on the way left the event
// unchanged: serve it over TLS wherever the way is not your own machine.
package guard

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"strings"
	"time"

	"tabard/guard/reason"
)

// Options say how requests are treated. The zero value is a good choice.
type Options struct {
	// Realm is named in WWW-Authenticate. Default "event handler".
	Realm string

	// HideReasons answers refusals without saying why. The reason then reaches
	// Observe and Log only.
	HideReasons bool

	// AllowedOrigins are host names of services, with or without port, that pass
	// the endpoint validation. Default: any; events need a token all the same.
	AllowedOrigins []string

	// TokenOnValidation demands a token on endpoint validation too. Default: a
	// token is verified if it is there. Tabard sends it when the event handler's
	// authentication is on; whether Azure does is not documented.
	TokenOnValidation bool

	// AccessKeys are access keys of the service's instance. If there are any, each
	// request must carry a ce-signature made with one of them, in addition to the
	// token. It proves the key's holder and covers the connection id only.
	AccessKeys []string

	// Duplicates, if not nil, answers a repeated event with the first answer.
	Duplicates *Duplicates

	// MaxBody bounds a request's body in bytes. Default 1 MiB for the largest
	// message and 64 KiB for what is around it. A larger one is answered with 413.
	MaxBody int64

	// Observe, if not nil, is called once for each request that is judged by its
	// token, accepted or refused, before it is answered. It must not block.
	Observe func(Verification)

	// Log receives errors of handlers at level error and refusals at level debug.
	// It never receives tokens. Default slog.Default().
	Log *slog.Logger
}

// A Guard stands in front of handlers. It is safe for concurrent use.
type Guard struct {
	verifier   *Verifier
	opt        Options
	signatures [][]byte // access keys
	duplicates *duplicates

	// answerRefusal answers a request that does not pass; a proxy has its own way.
	answerRefusal func(http.ResponseWriter, *http.Request, *Error)
	// stream leaves the bodies of requests that are no events unbounded: a proxy
	// passes them on and holds none.
	stream bool
}

// New makes a guard. It reports all faults of the configuration at once and makes
// no call; see Verifier.Preload.
func New(trust Trust, opt Options) (*Guard, error) {
	var faults []error
	v, err := NewVerifier(trust)
	if err != nil {
		faults = append(faults, err)
	}
	if opt.Realm == "" {
		opt.Realm = "event handler"
	}
	if !headerSafe(opt.Realm) || strings.ContainsAny(opt.Realm, `"\`) {
		faults = append(faults, fmt.Errorf("guard: Realm: %q cannot be in a header", opt.Realm))
	}
	if opt.MaxBody <= 0 {
		opt.MaxBody = 1<<20 + 64<<10
	}
	if opt.Log == nil {
		opt.Log = slog.Default()
	}
	g := &Guard{verifier: v, opt: opt}
	g.answerRefusal = func(w http.ResponseWriter, _ *http.Request, e *Error) { e.write(w, g.opt.Realm, g.opt.HideReasons) }
	for i, key := range opt.AccessKeys {
		if key == "" {
			faults = append(faults, fmt.Errorf("guard: AccessKeys: number %d is empty", i))
		}
		g.signatures = append(g.signatures, []byte(key))
	}
	g.opt.AllowedOrigins = nil
	for _, origin := range opt.AllowedOrigins {
		host, err := originHost(origin)
		if err != nil {
			faults = append(faults, fmt.Errorf("guard: AllowedOrigins: %q %w", origin, err))
		}
		g.opt.AllowedOrigins = append(g.opt.AllowedOrigins, host)
	}
	if len(faults) > 0 {
		if v != nil {
			v.Close()
		}
		return nil, errors.Join(faults...)
	}
	if opt.Duplicates != nil {
		g.duplicates = newDuplicates(*opt.Duplicates, v.now)
	}
	return g, nil
}

// Verifier returns the guard's verifier.
func (g *Guard) Verifier() *Verifier { return g.verifier }

// Close ends what the guard has under way towards issuers. It does not wait for
// requests.
func (g *Guard) Close() { g.verifier.Close() }

// passed is what the guard knows of a request that it let pass.
type passed struct {
	claims *Claims
	event  *Event
}

type passedKey struct{}

// ClaimsFrom returns the verified claims of the caller of a request that a guard
// let pass, or nil. They are shared: do not change them.
func ClaimsFrom(ctx context.Context) *Claims {
	if p, ok := ctx.Value(passedKey{}).(*passed); ok {
		return p.claims
	}
	return nil
}

// EventFrom returns the event of a request that a guard let pass, or nil if the
// request is none.
func EventFrom(ctx context.Context) *Event {
	if p, ok := ctx.Value(passedKey{}).(*passed); ok {
		return p.event
	}
	return nil
}

// Protect returns a handler that calls next for requests with a good token only.
// It answers the endpoint validation itself. If the request is an event, its body
// has been read and checked, next can read it again, and EventFrom has it.
func (g *Guard) Protect(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if isValidation(r) {
			g.answerValidation(w, r)
			return
		}
		claims, err := g.authenticate(r)
		if err == nil {
			err = g.checkSignature(r)
		}
		if err != nil {
			g.refuse(w, r, err)
			return
		}
		g.pass(w, r, claims, next)
	})
}

// pass hands a request to next whose caller is known; an event is read first.
func (g *Guard) pass(w http.ResponseWriter, r *http.Request, claims *Claims, next http.Handler) {
	p := &passed{claims: claims}
	r = r.WithContext(context.WithValue(r.Context(), passedKey{}, p))
	event := isEvent(r)
	if event || !g.stream {
		r.Body = http.MaxBytesReader(w, r.Body, g.opt.MaxBody)
	}
	if !event {
		next.ServeHTTP(w, r)
		return
	}
	var err *Error
	if p.event, err = readEvent(r); err != nil {
		g.refuse(w, r, err)
		return
	}
	p.event.Caller = claims
	r.Body = io.NopCloser(bytes.NewReader(p.event.Data))
	r.ContentLength, r.TransferEncoding = int64(len(p.event.Data)), nil
	if g.duplicates == nil {
		next.ServeHTTP(w, r)
		return
	}
	if err := g.duplicates.serve(w, r, p, next); err != nil {
		g.refuse(w, r, err)
	}
}

// authenticate verifies the request's token and lets the observer know.
func (g *Guard) authenticate(r *http.Request) (*Claims, *Error) {
	token, err := bearer(r)
	if g.opt.Observe == nil {
		if err != nil {
			return nil, err
		}
		claims, _, err := g.verifier.verify(r.Context(), token, nil)
		return claims, err
	}
	var out Verification
	if err != nil {
		out = Verification{Time: g.verifier.now(), Err: err, Checks: []Check{{Name: "authorization", Value: err.Message}}}
	} else {
		out = g.verifier.Explain(r.Context(), token)
	}
	out.Method, out.Path, out.RemoteAddr = r.Method, r.URL.Path, r.RemoteAddr
	g.opt.Observe(out)
	return out.Claims, out.Err
}

// bearer takes the token from the one Authorization header. Tokens in the query
// are not looked for: they end up in logs.
func bearer(r *http.Request) (string, *Error) {
	values := r.Header["Authorization"]
	switch len(values) {
	case 0:
		return "", refusal(stageFormat, reason.TokenMissing, sentence(reason.TokenMissing))
	case 1:
	default:
		return "", refusal(stageFormat, reason.SeveralAuthorizationHeaders, fmt.Sprintf("the request carries %d Authorization headers", len(values)))
	}
	scheme, token, _ := strings.Cut(values[0], " ")
	if !strings.EqualFold(scheme, "Bearer") {
		return "", refusal(stageFormat, reason.AuthorizationSchemeNotBearer, sentence(reason.AuthorizationSchemeNotBearer))
	}
	token = strings.TrimLeft(token, " ")
	if token == "" {
		return "", refusal(stageFormat, reason.TokenMissing, "the Authorization header holds no token")
	}
	if len(token) > MaxTokenSize {
		return "", tooLarge(token)
	}
	if strings.ContainsAny(token, " ,") {
		return "", malformed("the Authorization header holds more than one token")
	}
	return token, nil
}

// readEvent parses an event and reads its body.
func readEvent(r *http.Request) (*Event, *Error) {
	e, err := parseEvent(r)
	if err != nil {
		return nil, err
	}
	body, readErr := io.ReadAll(r.Body)
	var tooBig *http.MaxBytesError
	switch {
	case errors.As(readErr, &tooBig):
		return nil, &Error{Code: reason.BodyTooLarge, Status: http.StatusRequestEntityTooLarge,
			Message: fmt.Sprintf("the body has more than %d bytes", tooBig.Limit)}
	case readErr != nil:
		e := notEvent("the body could not be read whole")
		e.Err = readErr
		return nil, e
	}
	e.Data = body
	return e, nil
}

// refuse answers a request that does not pass.
func (g *Guard) refuse(w http.ResponseWriter, r *http.Request, err *Error) {
	g.opt.Log.LogAttrs(r.Context(), slog.LevelDebug, "request refused",
		slog.String("code", string(err.Code)), slog.Int("status", err.Status), slog.String("error", err.Error()),
		slog.String("path", r.URL.Path), slog.String("remote", r.RemoteAddr))
	g.answerRefusal(w, r, err)
}

// retryAfter is what a caller is told to wait if the issuer could not be asked.
const retryAfter = time.Second
