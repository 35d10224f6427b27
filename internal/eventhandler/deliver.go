package eventhandler

import (
	"context"
	"errors"
	"net/http"
	"time"

	"tabard/guard/reason"
	"tabard/internal/identity"
	"tabard/internal/settings"
	"tabard/internal/trace"
)

// graph is the resource that an empty audience stands for. The handler cannot verify such a token.
const graph = "https://graph.microsoft.com"

// An event is one thing that happened on a connection, ready to be told.
type event struct {
	name        string
	user        bool
	blocking    bool // the answer matters: it is read, may change the state, and is returned
	id          uint64
	time        time.Time
	contentType []string
	body        []byte
	metadata    []Pair

	// Of an event that no client sent.
	replayOf  uint64
	synthetic bool
	report    *report // where the end is told in full; nil for a client's event
}

// A report is the end of a delivery as the control plane shows it.
type report struct {
	rec    trace.Record
	answer *answer // without the secrets of the delivery; nil: there was none
	token  bool    // it carried one
}

// deliver sends an event to its handler. read makes sense of a successful answer; what it refuses is a failed
// delivery, and only what it accepts may change the session. The answer is nil if there was none. Whatever happens
// leaves one trace record.
func (s *Session) deliver(ctx context.Context, in *settings.Instance, h *settings.EventHandler, ev *event, read func(*answer) *fault) (*answer, *fault) {
	ctx, cancel := context.WithTimeout(ctx, s.d.opt.Budget)
	defer cancel()
	j := s.d.journal(trace.Delivery, in, s.hub, h)
	j.about(s, ev)
	if tracer := s.d.opt.Tracer; tracer != nil {
		j.span = tracer.Start(ctx, s.hub, ev.name)
		j.rec.TraceID = j.span.TraceID()
	}
	j.stage("match", nil, "")

	a, f := s.exchange(ctx, in, h, ev, j)
	if f == nil {
		f = read(a)
		if f == nil && ev.blocking {
			f = s.adopt(a)
		}
		if f == nil {
			s.keepCookies(j.target, a)
		}
		j.stage("answer", f, "")
	}
	if f != nil {
		if f.status == 0 && a != nil {
			f.status = a.status
		}
		if text := j.clean(f.text()); text != f.text() {
			f.err = errText(text)
		}
		if a != nil { // a refused client may be shown it
			a.body = []byte(j.conceal(string(a.body)))
		}
	}
	kept := j.end(a, f)
	if ev.report != nil {
		*ev.report = report{rec: kept, answer: j.shown(a), token: j.token != nil}
	}
	return a, f
}

// shown is a copy of the answer that holds no secret.
func (j *journal) shown(a *answer) *answer {
	if a == nil {
		return nil
	}
	c := *a
	c.body = []byte(j.conceal(string(a.body)))
	return &c
}

// exchange is deliver up to the answer.
func (s *Session) exchange(ctx context.Context, in *settings.Instance, h *settings.EventHandler, ev *event, j *journal) (*answer, *fault) {
	d := s.d
	t, f := d.resolve(ctx, in, h, s.hub, ev.name, ev.user)
	if len(h.Template().SecretURIs()) > 0 || f != nil {
		j.stage("secret", f, "")
	} else {
		j.skip("secret", "no reference in the template")
	}
	if f != nil {
		return nil, f
	}
	j.target = t

	road, skip := d.road(in, h, t)
	if skip {
		j.skip("validation", "loopback, as the instance's settings have it")
	} else if f = d.validated(ctx, in, h, s.hub, t); f != nil {
		j.stage("validation", f, "")
		return nil, f
	} else {
		j.stage("validation", nil, "")
	}

	tok, f := d.token(ctx, in, h, j)
	if f != nil {
		return nil, f
	}

	header, f := s.header(in, t, ev, tok)
	var a *answer
	if f == nil {
		if j.span != nil {
			j.span.Inject(header)
		}
		r := request{method: http.MethodPost, url: t.url, header: header, body: ev.body, road: road, dial: &j.dial}
		if ev.blocking {
			r.keep = MaxResponse
		}
		a, j.rec.Attempts, f = d.call(ctx, &r)
	}
	if f != nil && f.code == reason.TokenOverPlainHTTP && tok == nil {
		f.code = reason.DestinationBlocked // confined to loopback because its validation was omitted
	}
	j.dial.stages(j, f)
	f.hear(a)
	d.refused(in, h, tok, a)
	return a, f
}

// road chooses the transport to a target and tells whether its validation is omitted. A token goes over plain http
// to loopback alone, and so does what was not validated for being on loopback: both are judged by the address that
// is dialled, for the loopback road leads nowhere else.
func (d *Dispatcher) road(in *settings.Instance, h *settings.EventHandler, t *target) (road http.RoundTripper, skipValidation bool) {
	skip := t.loopback && in.Extensions.SkipLoopbackValidation
	if skip || t.plain && h.UsesManagedIdentity() && !in.Extensions.AllowTokenOverHTTP {
		return d.near, skip
	}
	return d.far, false
}

// token obtains the access token that a handler wants; nil for one that wants none. Without one there is a fault,
// so nothing is sent in its place.
func (d *Dispatcher) token(ctx context.Context, in *settings.Instance, h *settings.EventHandler, j *journal) (*identity.Token, *fault) {
	if !h.UsesManagedIdentity() {
		j.skip("token", "the handler has no authentication")
		return nil, nil
	}
	note := ""
	if h.Resource() == "" {
		r, _ := reason.Lookup(reason.AudienceEmpty)
		note = r.Sentence
	}
	tok, f := d.acquire(ctx, in, audience(h))
	j.stage("token", f, note)
	if f != nil {
		return nil, f
	}
	j.token = tok
	j.rec.Claims = tok.Claims
	return tok, nil
}

func audience(h *settings.EventHandler) string {
	if r := h.Resource(); r != "" {
		return r
	}
	return graph
}

func (d *Dispatcher) acquire(ctx context.Context, in *settings.Instance, resource string) (*identity.Token, *fault) {
	if in.Source() == nil && (in.Identity.Type == settings.IdentityNone || in.Identity.Type == "") {
		return nil, &fault{code: reason.IdentityMissing, err: ErrNoIdentity}
	}
	if d.opt.Identity == nil {
		return nil, &fault{code: reason.TokenUnavailable, err: errors.New("no source of tokens is configured")}
	}
	tok, err := d.opt.Identity(ctx, in, resource)
	switch {
	case err == nil && (tok == nil || len(tok.Authorization) != 1):
		return nil, &fault{code: reason.TokenUnavailable, err: errors.New("the source of tokens gave none")}
	case err == nil:
		return tok, nil
	case ctx.Err() != nil:
		f := d.interrupted(ctx)
		f.err = err
		return nil, f
	case errors.Is(err, ErrNoIdentity):
		return nil, &fault{code: reason.IdentityMissing, err: err}
	}
	f := &fault{code: reason.TokenUnavailable, err: err}
	// AADSTS500011: no application with this id or identifier URI in the directory.
	if refusal, ok := errors.AsType[*identity.Error](err); ok && refusal.Code == "AADSTS500011" {
		f.code = reason.ResourceUnregistered
	}
	return nil, f
}

// refused passes on that a handler did not like the token, or a secret in its URL. The event is not sent again: the
// handler's 401 is an answer, on connect even the client's.
func (d *Dispatcher) refused(in *settings.Instance, h *settings.EventHandler, tok *identity.Token, a *answer) {
	if a == nil || a.status != http.StatusUnauthorized && a.status != http.StatusForbidden {
		return
	}
	if tok != nil && d.opt.Rejected != nil {
		d.opt.Rejected(in, audience(h), tok, claimsChallenge(a))
	}
	if uris := h.Template().SecretURIs(); len(uris) > 0 && d.opt.SecretsRejected != nil {
		d.opt.SecretsRejected(in, uris)
	}
}
