package eventhandler

import (
	"net/url"
	"strings"
	"time"

	"tabard/guard/reason"
	"tabard/internal/identity"
	"tabard/internal/settings"
	"tabard/internal/trace"
)

const maxDetail = 1 << 10 // bytes of a text from a peer or an error, in a record

// A journal collects what becomes of one delivery or validation.
type journal struct {
	d      *Dispatcher
	rec    trace.Record
	mark   time.Time // when the present stage began
	target *target   // once it is known
	token  *identity.Token
}

func (d *Dispatcher) journal(kind trace.Kind, in *settings.Instance, hub string, h *settings.EventHandler) *journal {
	now := time.Now()
	j := &journal{d: d, mark: now, rec: trace.Record{
		Time: now, Kind: kind, Instance: in.Name, Hub: hub, Template: h.Template().Redacted(),
		Stages: make([]trace.Stage, 0, 6),
	}}
	if h.UsesManagedIdentity() {
		j.rec.Audience = audience(h)
	}
	return j
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

// end writes the record.
func (j *journal) end(a *answer, f *fault) {
	j.rec.Duration = time.Since(j.rec.Time)
	j.rec.Code = reason.Delivered
	if a != nil {
		j.rec.Status = a.status
	}
	if f != nil {
		j.rec.Code, j.rec.Detail = f.code, j.clean(f.text())
		if a != nil && !a.ok() {
			j.rec.Answer = j.cleanTo(string(a.body), trace.MaxAnswer)
			if challenge := a.header.Get("Www-Authenticate"); challenge != "" {
				j.rec.Detail += "; WWW-Authenticate: " + j.clean(challenge)
			}
		}
	}
	j.d.opt.Trace.Record(j.rec)
	if a != nil && j.token != nil && j.rec.Audience == graph {
		j.warnGraph()
	}
}

// warnGraph records, beside a delivery, that the token it carried is worth nothing to the handler.
func (j *journal) warnGraph() {
	r, _ := reason.Lookup(reason.AudienceEmpty)
	j.d.opt.Trace.Record(trace.Record{
		Kind: trace.Identity, Instance: j.rec.Instance, Hub: j.rec.Hub, Connection: j.rec.Connection, Event: j.rec.Event,
		EventID: j.rec.EventID, Template: j.rec.Template, Audience: graph, Claims: j.rec.Claims,
		Code: reason.AudienceEmpty, Detail: r.Sentence,
	})
}

// clean makes a text fit for a record: short, valid, and without the secrets of this delivery, which a handler may
// have echoed.
func (j *journal) clean(text string) string { return j.cleanTo(text, maxDetail) }

func (j *journal) cleanTo(text string, limit int) string {
	text = j.conceal(text)
	if len(text) > limit {
		text = text[:limit]
	}
	return strings.ToValidUTF8(text, "")
}

// conceal takes the secrets of this delivery out of a text.
func (j *journal) conceal(text string) string {
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
