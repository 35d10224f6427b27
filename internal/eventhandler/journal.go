package eventhandler

import (
	"net/http"
	"net/url"
	"strings"
	"time"
	"unicode/utf8"

	"tabard/guard/reason"
	"tabard/internal/identity"
	"tabard/internal/settings"
	"tabard/internal/trace"
)

const maxDetail = 1 << 10 // bytes of a text from a peer or an error, in a record

// A journal collects what becomes of one delivery or validation.
type journal struct {
	d       *Dispatcher
	rec     trace.Record
	content *trace.Content // what is sent; nil for a validation
	mark    time.Time      // when the present stage began
	dial    dial
	span    Span    // nil: nobody traces
	target  *target // once it is known
	token   *identity.Token
}

func (d *Dispatcher) journal(kind trace.Kind, in *settings.Instance, hub string, h *settings.EventHandler) *journal {
	now := time.Now()
	j := &journal{d: d, mark: now, rec: trace.Record{
		Time: now, Kind: kind, Instance: in.Name, Hub: hub, Method: http.MethodPost, Template: h.Template().Redacted(),
		Stages: make([]trace.Stage, 0, 8),
	}}
	if h.UsesManagedIdentity() {
		j.rec.Audience = audience(h)
	}
	return j
}

// about notes whose event it is and what is sent.
func (j *journal) about(s *Session, ev *event) {
	j.rec.Connection, j.rec.User, j.rec.Event, j.rec.EventID = s.id, s.user(), ev.name, ev.idText()
	j.rec.Bytes, j.rec.ReplayOf, j.rec.Synthetic = len(ev.body), ev.replayOf, ev.synthetic
	j.content = s.content(ev)
}

// content is what is kept of an event, so that it can be repeated. The body is shared with the event.
func (s *Session) content(ev *event) *trace.Content {
	c := &trace.Content{User: ev.user, Blocking: ev.blocking, Time: ev.time, ContentType: ev.contentType[0], Body: ev.body}
	for _, p := range ev.metadata {
		c.Metadata = append(c.Metadata, [2]string{p.Key, p.Value})
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	c.Subprotocol, c.State = s.subprotocol, s.state
	return c
}

// stage ends the present stage with its outcome; the next begins.
func (j *journal) stage(name string, f *fault, detail string) {
	now := time.Now()
	st := trace.Stage{Name: name, Outcome: trace.OK, Duration: now.Sub(j.mark), Detail: detail}
	if f != nil {
		st.Outcome, st.Detail = trace.Failed, j.clean(f.text())
	}
	j.rec.Stages = append(j.rec.Stages, st)
	j.mark = now
}

func (j *journal) skip(name, why string) {
	j.rec.Stages = append(j.rec.Stages, trace.Stage{Name: name, Outcome: trace.Skipped, Detail: why})
}

// end writes the record and returns it as it is kept.
func (j *journal) end(a *answer, f *fault) trace.Record {
	j.rec.Duration = time.Since(j.rec.Time)
	j.rec.Code = reason.Delivered
	if a != nil {
		j.rec.Status = a.status
		j.answered(a)
	}
	if f != nil {
		j.rec.Code, j.rec.Detail = f.code, j.clean(f.text())
		if f.shown != "" {
			j.rec.Code = f.shown
		}
		if f.challenge != "" {
			j.rec.Detail += "; WWW-Authenticate: " + j.clean(f.challenge)
		}
	}
	j.rec.Operation = j.operation(a, f)
	if j.span != nil {
		j.span.End(&j.rec)
	}
	kept := j.d.opt.Trace.Keep(j.rec, j.content)
	if a != nil && j.token != nil && j.rec.Audience == graph {
		j.warnGraph()
	}
	return kept
}

// operation is the record's name, Azure's where it has one.
func (j *journal) operation(a *answer, f *fault) string {
	switch validation := j.rec.Kind == trace.Validation; {
	case f == nil && validation:
		return trace.EndpointValidated
	case f == nil:
		return trace.EventDelivered
	case validation && f.code == reason.ValidationHeaderMissing:
		return trace.ValidationNoOrigin
	case validation && a != nil && !a.ok():
		return trace.ValidationBadStatus
	case validation:
		return trace.ValidationFailed
	case a != nil:
		return trace.UnexpectedResponse
	}
	return trace.EventNotDelivered
}

// answered notes what the peer said: the type, the length and, of text, the beginning.
func (j *journal) answered(a *answer) {
	j.rec.AnswerBytes = len(a.body)
	if ct := a.header.Get("Content-Type"); len(ct) <= 256 && visible(ct, false) {
		j.rec.AnswerType = ct
	}
	// A secret that the cut goes through is found whole: none is longer than the window's rest.
	head := string(a.body[:min(len(a.body), trace.MaxAnswer+maxSecret)])
	if head = j.conceal(head); len(head) > trace.MaxAnswer {
		head = head[:trace.MaxAnswer]
		for i := 0; i < utf8.UTFMax && !utf8.ValidString(head); i++ { // cut within a character
			head = head[:len(head)-1]
		}
		head = strings.Clone(head) // or the record keeps the whole window alive
	}
	if utf8.ValidString(head) && strings.IndexByte(head, 0) < 0 {
		j.rec.Answer = head
	}
}

// maxSecret bounds what is looked for in an answer: a token, or a Key Vault secret of 25 KiB that is percent-encoded.
const maxSecret = 80 << 10

// warnGraph records, beside a delivery, that the token it carried is worth nothing to the handler.
func (j *journal) warnGraph() {
	r, _ := reason.Lookup(reason.AudienceEmpty)
	j.d.opt.Trace.Record(trace.Record{
		Kind: trace.Identity, Operation: trace.TokenWarning, Instance: j.rec.Instance, Hub: j.rec.Hub, Connection: j.rec.Connection, Event: j.rec.Event,
		EventID: j.rec.EventID, Template: j.rec.Template, Audience: graph, Claims: j.rec.Claims,
		Code: reason.AudienceEmpty, Detail: r.Sentence,
	})
}

// clean makes a text fit for a record: short, valid, and without the secrets of this delivery, which a handler may
// have echoed.
func (j *journal) clean(text string) string {
	text = j.conceal(text)
	if len(text) > maxDetail {
		text = strings.Clone(text[:maxDetail]) // or the record keeps the rest alive
	}
	return strings.ToValidUTF8(text, "")
}

// conceal takes the secrets of this delivery out of a text.
func (j *journal) conceal(text string) string {
	if text == "" {
		return ""
	}
	if j.token != nil && j.token.Raw != "" {
		text = strings.ReplaceAll(text, j.token.Raw, "[token]")
		if i := strings.LastIndexByte(j.token.Raw, '.'); i >= 0 && i+1 < len(j.token.Raw) {
			text = strings.ReplaceAll(text, j.token.Raw[i+1:], "[signature]")
		}
	}
	if j.target != nil {
		for _, secret := range j.target.secrets {
			text = strings.ReplaceAll(text, secret, "[secret]")
			text = strings.ReplaceAll(text, url.QueryEscape(secret), "[secret]")
			if plain, err := url.QueryUnescape(secret); err == nil {
				text = strings.ReplaceAll(text, plain, "[secret]")
			}
		}
	}
	return text
}
