// Package trace remembers what happened and why.
//
// When a handler answers 401, or is never called, the first question is why. Every delivery, refused handshake and
// refused request leaves one [Record] with its stages, the claims of the token that was sent and one reason code
// with a sentence and a fix. The newest records of each instance stay in a bounded ring in memory and can be
// followed live. Nothing secret enters: no token, signature, key or resolved URL.
//
// What it leaves to others: metrics, logs, and deciding what the reason is.
package trace

import (
	"encoding/json"
	"sync"
	"sync/atomic"
	"time"

	"tabard/guard/reason"
)

// Kind says what a record is about.
type Kind string

// The kinds of records.
const (
	Delivery   Kind = "delivery"   // an event on its way to a handler
	Validation Kind = "validation" // the abuse-protection handshake with a handler
	Connection Kind = "connection" // a client's handshake, refused or accepted, and its end
	Request    Kind = "request"    // a REST request that was refused
	Identity   Kind = "identity"   // a token that could not be obtained, or a warning about one
)

// A Record is one thing that happened.
type Record struct {
	ID         uint64        `json:"id"` // increasing within the process
	Time       time.Time     `json:"time"`
	Duration   time.Duration `json:"durationNs"`
	Kind       Kind          `json:"kind"`
	Instance   string        `json:"instance"`
	Hub        string        `json:"hub,omitempty"`
	Connection string        `json:"connectionId,omitempty"`
	User       string        `json:"userId,omitempty"`
	Event      string        `json:"event,omitempty"`
	EventID    string        `json:"eventId,omitempty"` // ce-id

	// Template is the handler's URL template as configured, never the resolved URL.
	Template string `json:"urlTemplate,omitempty"`
	// Audience is the resource whose token was wanted.
	Audience string `json:"audience,omitempty"`
	// Claims is the decoded payload of the token that was sent or presented; never its signature.
	Claims json.RawMessage `json:"claims,omitempty"`

	Stages []Stage `json:"stages,omitempty"`
	// Status is the HTTP status that the peer answered or that we answered, 0 if there was none.
	Status int `json:"status,omitempty"`
	// Answer is the beginning of the peer's body, at most MaxAnswer bytes.
	Answer string `json:"answer,omitempty"`
	// Attempts counts the requests that were made.
	Attempts int `json:"attempts,omitempty"`

	Code   reason.Code `json:"code"`
	Detail string      `json:"detail,omitempty"` // what exactly, with the values compared
}

// MaxAnswer bounds Record.Answer in bytes.
const MaxAnswer = 2 << 10

// A Stage is one step of a delivery.
type Stage struct {
	Name     string        `json:"name"`             // match, secret, validation, token, call, answer
	Outcome  string        `json:"outcome"`          // ok, failed or skipped
	Duration time.Duration `json:"durationNs"`       // of this step alone
	Detail   string        `json:"detail,omitempty"` // for people
}

// The outcomes of a stage.
const (
	OK      = "ok"
	Failed  = "failed"
	Skipped = "skipped"
)

// Options of [New].
type Options struct {
	// Records is how many records of each instance are kept; 0 means 1024.
	Records int
	// Instances bounds how many instances have a ring; further ones share the oldest's fate and evict it. 0 means 1024.
	Instances int
	// Now is the clock; nil means time.Now.
	Now func() time.Time
}

// A Recorder keeps records. A nil *Recorder is valid and keeps nothing.
type Recorder struct {
	opt  Options
	next atomic.Uint64

	mu    sync.Mutex // guards all below
	rings map[string]*ring
	order []string // instances by age of their ring
	subs  map[*Subscription]struct{}
}

// New makes a Recorder.
func New(opt Options) *Recorder {
	if opt.Records == 0 {
		opt.Records = 1024
	}
	if opt.Instances == 0 {
		opt.Instances = 1024
	}
	if opt.Now == nil {
		opt.Now = time.Now
	}
	return &Recorder{opt: opt, rings: make(map[string]*ring), subs: make(map[*Subscription]struct{})}
}

// Record keeps rec, giving it an id and, if it has none, the current time, and hands it to whoever follows.
// The caller must not change rec's slices afterwards. It never blocks on a follower.
func (r *Recorder) Record(rec Record) {
	if r == nil {
		return
	}
	rec.ID = r.next.Add(1)
	if rec.Time.IsZero() {
		rec.Time = r.opt.Now()
	}
	rec.Time = rec.Time.UTC()
	if len(rec.Answer) > MaxAnswer {
		rec.Answer = rec.Answer[:MaxAnswer]
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.ring(rec.Instance).add(rec)
	for s := range r.subs {
		s.offer(rec)
	}
}

func (r *Recorder) ring(instance string) *ring {
	if g, ok := r.rings[instance]; ok {
		return g
	}
	if len(r.order) >= r.opt.Instances {
		delete(r.rings, r.order[0])
		r.order = r.order[1:]
	}
	g := &ring{limit: r.opt.Records}
	r.rings[instance] = g
	r.order = append(r.order, instance)
	return g
}

// Forget drops the records of a deleted instance.
func (r *Recorder) Forget(instance string) {
	if r == nil {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if _, ok := r.rings[instance]; !ok {
		return
	}
	delete(r.rings, instance)
	for i, name := range r.order {
		if name == instance {
			r.order = append(r.order[:i:i], r.order[i+1:]...)
			break
		}
	}
}

// Records lists the kept records that f lets through, oldest first.
func (r *Recorder) Records(f Filter) []Record {
	if r == nil {
		return nil
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	var out []Record
	if g, ok := r.rings[f.Instance]; ok {
		g.each(func(rec *Record) {
			if f.match(rec) {
				out = append(out, *rec)
			}
		})
	}
	if f.Last > 0 && len(out) > f.Last {
		out = out[len(out)-f.Last:]
	}
	return out
}

// ring is a circular buffer that grows up to its limit.
type ring struct {
	limit int
	start int
	recs  []Record
}

func (g *ring) add(rec Record) {
	if len(g.recs) < g.limit {
		g.recs = append(g.recs, rec)
		return
	}
	g.recs[g.start] = rec
	g.start = (g.start + 1) % g.limit
}

func (g *ring) each(fn func(*Record)) {
	for i := range g.recs {
		fn(&g.recs[(g.start+i)%len(g.recs)])
	}
}
