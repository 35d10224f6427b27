package guard

import (
	"bytes"
	"crypto/sha256"
	"net/http"
	"slices"
	"sync"
	"time"

	"tabard/guard/reason"
)

// Duplicates says how many first answers are remembered. The service repeats an
// event when the connection breaks or the answer is 408 or 5xx, and then cannot
// know whether the handler has acted on it; with Duplicates a handler need not
// care.
//
// An event is the same if ce-source and ce-id are the same and it comes from the
// same caller. Its repetition gets the first answer again: status, headers,
// body, and beside them `Idempotent-Replayed: true`. One that comes while the first is still being handled waits for it. An
// answer of 408 or 5xx is not remembered, since the repetition is what the
// service makes of it, nor one that is larger than a quarter of Bytes: then the
// handler is called again. The memory is this process's.
type Duplicates struct {
	// Entries bounds the number of answers. Default 10,000.
	Entries int
	// Bytes bounds the memory of answers. Default 16 MiB.
	Bytes int
	// Age is how long an answer is remembered. Default 10 min; the service gives up
	// on an event after 100 s.
	Age time.Duration
}

// duplicates remembers answers, oldest first, and knows the events under way.
type duplicates struct {
	opt Duplicates
	now func() time.Time

	mu      sync.Mutex
	events  map[eventKey]*occurrence
	order   []*occurrence // answered ones, oldest first
	bytes   int           // of their answers
	running int
}

type eventKey [sha256.Size]byte

// An occurrence is the first delivery of an event.
type occurrence struct {
	key  eventKey
	done chan struct{} // closed when the first delivery has been answered or failed
	// answer is nil after done if the first delivery left none to repeat.
	answer  *answer
	expires time.Time
}

// An answer is a response that can be sent again.
type answer struct {
	status int
	header http.Header
	body   []byte
}

// size estimates the memory of an answer.
func (a *answer) size() int {
	n := len(a.body) + 512
	for name, values := range a.header {
		for _, v := range values {
			n += len(name) + len(v) + 64
		}
	}
	return n
}

// replayedHeader marks an answer from memory, so that whoever looks from outside
// can tell it from one of the handler's; others name it so too.
const replayedHeader = "Idempotent-Replayed"

func (a *answer) write(w http.ResponseWriter) {
	h := w.Header()
	for name, values := range a.header {
		h[name] = slices.Clone(values)
	}
	h.Set(replayedHeader, "true")
	w.WriteHeader(a.status)
	_, _ = w.Write(a.body) // a caller that hung up gets no answer
}

func newDuplicates(opt Duplicates, now func() time.Time) *duplicates {
	opt.Entries = orDefault(opt.Entries, 10_000)
	opt.Bytes = orDefault(opt.Bytes, 16<<20)
	opt.Age = orDefault(opt.Age, 10*time.Minute)
	return &duplicates{opt: opt, now: now, events: map[eventKey]*occurrence{}}
}

// keyOf names an event. The caller is part of it: another allowed caller must
// not read this one's answers, nor plant one for it.
func keyOf(p *passed) eventKey {
	var b []byte
	for _, s := range [...]string{p.claims.Issuer, p.claims.ObjectID, p.event.Source, p.event.ID} {
		b = append(append(b, s...), 0) // none of them can hold a NUL: three are header values or ids
	}
	return sha256.Sum256(b)
}

// serve answers an event, by next or by memory.
func (d *duplicates) serve(w http.ResponseWriter, r *http.Request, p *passed, next http.Handler) *Error {
	key := keyOf(p)
	for {
		o, first := d.enter(key)
		if o == nil { // as many events under way as may be remembered
			next.ServeHTTP(w, r)
			return nil
		}
		if first {
			d.perform(o, w, r, next)
			return nil
		}
		select {
		case <-o.done:
		case <-r.Context().Done():
			return &Error{Code: reason.DuplicateStillRunning, Status: http.StatusServiceUnavailable,
				Message: sentence(reason.DuplicateStillRunning), Err: r.Context().Err()}
		}
		if o.answer != nil {
			o.answer.write(w)
			return nil
		}
		// The first one left nothing to repeat: this one is now the first.
	}
}

// enter finds the event's occurrence or makes it. It returns nil if there is
// none and none can be kept.
func (d *duplicates) enter(key eventKey) (o *occurrence, first bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.expire()
	if o := d.events[key]; o != nil {
		return o, false
	}
	if d.running >= d.opt.Entries {
		return nil, false
	}
	o = &occurrence{key: key, done: make(chan struct{})}
	d.events[key] = o
	d.running++
	return o, true
}

// perform calls the handler and keeps its answer, if that is one to keep.
func (d *duplicates) perform(o *occurrence, w http.ResponseWriter, r *http.Request, next http.Handler) {
	rec := &recorder{ResponseWriter: w, limit: d.opt.Bytes / 4}
	finished := false
	defer func() { // also if the handler panics
		var a *answer
		if finished {
			a = rec.answer()
		}
		d.leave(o, a)
	}()
	next.ServeHTTP(rec, r)
	finished = true
}

func (d *duplicates) leave(o *occurrence, a *answer) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.running--
	if a == nil {
		delete(d.events, o.key)
	} else {
		o.answer, o.expires = a, d.now().Add(d.opt.Age)
		d.order = append(d.order, o)
		d.bytes += a.size()
		for len(d.order) > d.opt.Entries || d.bytes > d.opt.Bytes {
			d.forgetOldest()
		}
	}
	close(o.done)
}

func (d *duplicates) expire() {
	now := d.now()
	for len(d.order) > 0 && !now.Before(d.order[0].expires) {
		d.forgetOldest()
	}
}

func (d *duplicates) forgetOldest() {
	o := d.order[0]
	d.order[0] = nil
	d.order = d.order[1:]
	d.bytes -= o.answer.size()
	delete(d.events, o.key)
}

// A recorder passes an answer on and keeps a copy of it, up to a limit.
type recorder struct {
	http.ResponseWriter
	limit  int
	status int
	header http.Header
	body   bytes.Buffer
	over   bool
}

func (rec *recorder) WriteHeader(status int) {
	if rec.status == 0 && status >= 200 {
		rec.status = status
		rec.header = rec.Header().Clone()
	}
	rec.ResponseWriter.WriteHeader(status)
}

func (rec *recorder) Write(b []byte) (int, error) {
	if rec.status == 0 {
		rec.WriteHeader(http.StatusOK)
	}
	if rec.over = rec.over || rec.body.Len()+len(b) > rec.limit; rec.over {
		rec.body = bytes.Buffer{}
	} else {
		rec.body.Write(b)
	}
	return rec.ResponseWriter.Write(b)
}

// Unwrap lets http.ResponseController reach what is beneath.
func (rec *recorder) Unwrap() http.ResponseWriter { return rec.ResponseWriter }

// answer returns what was sent if it can be sent again.
func (rec *recorder) answer() *answer {
	if rec.status == 0 {
		rec.status, rec.header = http.StatusOK, rec.Header().Clone()
	}
	if rec.over || rec.status >= 500 || rec.status == http.StatusRequestTimeout {
		return nil
	}
	return &answer{status: rec.status, header: rec.header, body: rec.body.Bytes()}
}
