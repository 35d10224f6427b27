package eventhandler

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"tabard/internal/settings"
	"tabard/internal/trace"
)

// Why a replay carried no token.
const (
	tokenSent       = "sent"
	tokenUnwanted   = "none: the rule has no authentication"
	tokenOtherHost  = "none: the URL is not of the origin that the rule names; name an audience to have one"
	tokenNotReached = "none: nothing was sent"
)

// Replay sends a recorded event again and compares the answers: the same bytes with a fresh token. Without to it goes
// to the rule of the hub that takes the event now, as a client's event would. Otherwise it goes to that URL: what proves
// who sends it (token and signature), and the secrets of the rule's URL, belong to the origin that the rule names, so
// another origin gets the signature never and a token only for an audience that the caller names. The URL's owner is
// asked for consent like every handler. No client hears of the answer, and the connection's state stays as it is.
//
// The error is settings.Faults about to; what the handler does is in the result.
func (d *Dispatcher) Replay(ctx context.Context, in *settings.Instance, rec *trace.Record, to, audience string) (*trace.Comparison, error) {
	content := rec.Content()
	if content == nil {
		return nil, settings.Faults{{Field: "record", Problem: "has no content any more"}}
	}
	rule := rule(in.Hub(rec.Hub), rec.Event, content.User)
	h, why := rule, tokenUnwanted
	s, ev := d.recorded(rec, content)
	ev.replayOf, ev.report = rec.ID, new(report)
	switch {
	case to != "":
		other, same, err := elsewhere(rec, rule, to, audience)
		if err != nil {
			return nil, err
		}
		if h, s.unsigned = other, !same; s.unsigned {
			why = tokenOtherHost
		}
	case rule == nil:
		return nil, settings.Faults{{Field: "to", Problem: "is required: no event handler of the hub takes this event any more"}}
	}
	_, f := s.deliver(ctx, in, h, ev, readFor(ev))
	r := ev.report
	switch {
	case r.token:
		why = tokenSent
	case h.UsesManagedIdentity() && f != nil:
		why = tokenNotReached
	}
	c := &trace.Comparison{
		Original: *rec, Replayed: r.rec, Token: why, Answer: r.shown(),
		SameStatus:      rec.Status == r.rec.Status,
		SameContentType: rec.AnswerType == r.rec.AnswerType,
		SameBody:        rec.Answer == r.rec.Answer && rec.AnswerBytes == r.rec.AnswerBytes,
		RuleChanged:     rule == nil || rule.Template().Redacted() != rec.Template,
	}
	return c, nil
}

// rule is the event handler that takes an event now, or nil.
func rule(h *settings.Hub, event string, user bool) *settings.EventHandler {
	if user {
		return h.UserHandler(event)
	}
	return h.SystemHandler(event)
}

// elsewhere makes an event handler of a URL that the caller names, and tells whether that is of the rule's origin. Its
// token is for the audience, or, at the origin of the rule, for the rule's.
func elsewhere(rec *trace.Record, rule *settings.EventHandler, to, audience string) (h *settings.EventHandler, same bool, err error) {
	fault := func(problem string) error { return settings.Faults{{Field: "to", Problem: problem}} }
	if strings.ContainsAny(to, "{}") {
		return nil, false, fault("has braces: a URL is wanted here, not a template, so that no secret is read for it")
	}
	u, err := url.Parse(to)
	if err != nil || u.Host == "" || u.User != nil || u.Scheme != "http" && u.Scheme != "https" {
		return nil, false, fault("is not an absolute http or https URL without credentials")
	}
	var auth *settings.Auth
	if audience != "" {
		auth = &settings.Auth{Type: settings.AuthManagedIdentity, ManagedIdentity: &settings.ManagedIdentity{Resource: audience}}
	}
	if h, err = settings.NewEventHandler(to, auth); err != nil {
		return nil, false, fault(err.Error())
	}
	same = sameOrigin(rec, rule, u)
	if same && audience == "" {
		h.Auth = rule.Auth
	}
	return h, same, nil
}

// sameOrigin tells whether to is of the origin that the rule names. A rule whose URL cannot be known names none.
func sameOrigin(rec *trace.Record, rule *settings.EventHandler, to *url.URL) bool {
	if rule == nil {
		return false
	}
	// The origin is literal: a template has no parameter in it. So no secret need be read to know it.
	u, err := expand(rule.Template(), rec.Hub, rec.Event, slices.Repeat([]string{"x"}, len(rule.Template().SecretURIs())))
	return err == nil && origin(u) == origin(to)
}

func origin(u *url.URL) string {
	port := u.Port()
	if port == "" {
		port = map[string]string{"http": "80", "https": "443"}[strings.ToLower(u.Scheme)]
	}
	return strings.ToLower(u.Scheme + "://" + strings.TrimSuffix(u.Hostname(), ".") + ":" + port)
}

// recorded makes the session and the event of a record anew. The session is nobody's connection.
func (d *Dispatcher) recorded(rec *trace.Record, c *trace.Content) (*Session, *event) {
	s := d.NewSession(rec.Instance, rec.Hub, rec.Connection)
	s.userID, s.subprotocol, s.state = rec.User, c.Subprotocol, c.State
	id, _ := strconv.ParseUint(rec.EventID, 10, 64)
	ev := &event{name: rec.Event, user: c.User, blocking: c.Blocking, id: id, time: c.Time, contentType: []string{c.ContentType}, body: c.Body}
	for _, p := range c.Metadata {
		ev.metadata = append(ev.metadata, Pair{p[0], p[1]})
	}
	return s, ev
}

// Header is what a record's event carries, but for what proves who sends it.
func (d *Dispatcher) Header(in *settings.Instance, rec *trace.Record) http.Header {
	c := rec.Content()
	if c == nil {
		return nil
	}
	s, ev := d.recorded(rec, c)
	s.unsigned = true
	h, f := s.header(in, targetNamed(ev.name, ev.user), ev, nil)
	if f != nil {
		return nil // it could not be sent either
	}
	return h
}

// readFor makes sense of an answer as it is done for an event of that kind.
func readFor(ev *event) func(*answer) *fault {
	return func(a *answer) (f *fault) {
		switch {
		case ev.user:
			_, f = parseReply(a)
		case ev.name == "connect":
			var offered struct{ Subprotocols []string }
			_ = json.Unmarshal(ev.body, &offered) // a body that is none offers nothing
			_, f = parseConnect(a.body, offered.Subprotocols)
		}
		return f
	}
}

func (r *report) shown() trace.Answer {
	out := trace.Answer{Duration: r.rec.Duration}
	if a := r.answer; a != nil {
		out.Status, out.ContentType = a.status, r.rec.AnswerType
		out.Body, out.Truncated = a.body, len(a.body) > trace.MaxContent
		out.Body = out.Body[:min(len(out.Body), trace.MaxContent)]
	}
	return out
}

// Trigger delivers an event that no client sent, on the road of all events, and returns what became of it. The error is
// settings.Faults about ev.
func (d *Dispatcher) Trigger(ctx context.Context, in *settings.Instance, hub string, what *trace.Synthetic) (*trace.Triggered, error) {
	s, ev, faults := d.synthetic(in, hub, what)
	if len(faults) > 0 {
		return nil, faults
	}
	h := rule(in.Hub(hub), ev.name, ev.user)
	if h == nil {
		return &trace.Triggered{Record: s.unheard(in, ev)}, nil
	}
	ev.report = new(report)
	s.deliver(ctx, in, h, ev, readFor(ev))
	out := &trace.Triggered{Record: ev.report.rec}
	if ev.report.answer != nil {
		answer := ev.report.shown()
		out.Answer = &answer
	}
	return out, nil
}

const maxEventName = 128 // characters, as for clients

// synthetic makes the session and the event that are asked for.
func (d *Dispatcher) synthetic(in *settings.Instance, hub string, what *trace.Synthetic) (*Session, *event, settings.Faults) {
	var faults settings.Faults
	fault := func(field, problem string) { faults = append(faults, settings.Fault{Field: field, Problem: problem}) }
	if !settings.ValidHubName(hub) {
		fault("hub", "is not a hub name")
	}
	ev := &event{name: what.Event, user: !what.System, blocking: true, time: time.Now(), synthetic: true}
	if ev.name == "" && ev.user {
		ev.name = "message"
	}
	switch {
	case ev.user && (len(ev.name) > maxEventName || !isToken(ev.name)):
		fault("event", "is not an event name: a letter, then up to 127 letters, digits and _.-")
	case !ev.user && ev.name != "connect" && ev.name != "connected" && ev.name != "disconnected":
		fault("event", "is none of the system events connect, connected, disconnected")
	}
	if len(what.User) > maxUserID || !visible(what.User, true) {
		fault("userId", "is longer than 4 KiB or has control characters")
	}
	id := what.Connection
	switch {
	case id == "":
		var b [16]byte
		rand.Read(b[:]) // never fails
		id = hex.EncodeToString(b[:])
	case len(id) > 128 || !isToken(id):
		fault("connectionId", "is not one: at most 128 letters, digits and a few signs")
	}
	switch {
	case !ev.user && (what.Data != nil || what.Base64 != nil):
		fault("data", "a system event has a JSON body, or its usual one if none is given")
	case what.JSON != nil:
		ev.contentType, ev.body = contentTypes[JSON], what.JSON
		if !json.Valid(what.JSON) {
			fault("json", "is not JSON")
		}
	case what.Base64 != nil:
		ev.contentType, ev.body = contentTypes[Binary], what.Base64
	case what.Data != nil:
		ev.contentType, ev.body = contentTypes[Text], []byte(*what.Data)
	default:
		ev.contentType = contentTypes[Text]
	}
	if !ev.user {
		ev.blocking = ev.name == "connect"
		ev.contentType = vJSON
		if what.JSON == nil {
			ev.body = usualBody(ev.name, what.User)
		}
	}
	s := d.NewSession(in.Name, hub, id)
	s.userID = what.User
	if ev.name != "connect" || ev.user {
		ev.id = s.nextID()
	}
	return s, ev, faults
}

// usualBody is the body of a system event about a client of which only the user is known.
func usualBody(event, user string) []byte {
	switch event {
	case "connect":
		c := ConnectRequest{UserID: user}
		if user != "" {
			c.Claims = map[string][]string{"sub": {user}}
		}
		return c.body()
	case "disconnected":
		return []byte(`{"reason":""}`)
	}
	return []byte("{}")
}
