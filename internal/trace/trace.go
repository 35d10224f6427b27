// Package trace remembers what happened and why.
//
// When a handler answers 401, or is never called, the first question is why. Every client that comes, goes or is
// refused, every publication, every REST request and every event on its way to a handler leaves one [Record], with the
// columns of Azure's live trace and resource logs. A delivery's record has its stages with their durations, the claims
// of the token that was sent, the beginning of the answer and one reason code with a sentence and a fix. It costs
// nothing to switch on because it is never off. Nothing secret enters: no token, signature, key or resolved URL.
//
// The newest records of each instance are kept in memory within bounds, those that report a fault apart from the
// routine so that no flood of messages washes them away. If asked to ([Recorder.Restore]) they are written to a journal,
// too, and outlast the process. What was sent to a handler is kept beside its record, within
// bounds of its own, as a [Content], so that an event can be looked at and sent again.
//
// # Routes
//
// They are below an instance R in the control plane (package arm), at the instance's api-versions:
//
//	GET  R/trace                       {"value":[Record…]}, oldest first
//	GET  R/trace  Accept: text/event-stream
//	                                   the same records and then each new one as it happens: "id: 7", "event: record",
//	                                   "data: Record"; "event: lost" with {"lost":n} to a reader that is too slow. A
//	                                   Last-Event-ID goes on where the reader was
//	GET  R/trace/{id}                  one Record
//	POST R/trace/{id}/listContent      what was sent: [Content], for those who may do more than read
//	POST R/trace/{id}/replay           {"to":URL?,"audience":A?} → [Comparison]: the event again, with a fresh token
//	POST R/hubs/{hub}/trigger          [Synthetic] → [Triggered]: an event that nobody sent
//	POST R/listen  Accept: text/event-stream
//	                                   like the live trace, deliveries only, "data: {"record":Record,"content":Content?}"
//	GET  R/traceReasons                {"value":[{"code","sentence","fix"}…]}: the catalogue
//
// Query of the lists and streams: hub, event (ignoring case), connectionId, userId, kind, code, category, level (that
// one and worse), since (RFC 3339 or a duration such as 10m), after=ID, last=N (0: only what happens from now on);
// the list also history=true: what the journal has, instead of what is in memory.
//
// Records are counted by subject, for whoever makes metrics of them ([Recorder.Tallies]).
//
// What the package leaves to others: logs, and deciding what the reason is.
package trace

import (
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// Options of [New]. The zero value has the defaults.
type Options struct {
	// Records is how many records of one kind are kept for each instance, those that report a fault and the others
	// counted apart. 0 means 1024.
	Records int
	// Bytes bounds what the records of all instances may use together, about. At the bound each new record takes the
	// place of older ones of its own kind and instance. 0 means 64 MiB.
	Bytes int
	// ContentBytes bounds what the kept contents may use together; the oldest give way. 0 means 32 MiB, less than 0
	// keeps none.
	ContentBytes int
	// Instances bounds how many instances have records; a further one takes the place of the oldest. 0 means 1024.
	Instances int
	// Now is the clock; nil means time.Now.
	Now func() time.Time
}

// A Recorder keeps records. A nil *Recorder is valid and keeps nothing.
type Recorder struct {
	opt   Options
	next  atomic.Uint64
	bytes atomic.Int64 // of all records

	mu    sync.RWMutex // guards the following; taken before book.mu
	books map[string]*book
	order []string // instances by age of their book

	contents contents
	keeper   *keeper // nil: records are in memory alone
}

// A book is what is kept of one instance.
type book struct {
	mu    sync.Mutex // guards all
	rings map[page]*ring
	subs  map[*Subscription]struct{}

	tallies tallies
}

// A page is a kind of records, in good or in bad.
type page struct {
	kind  Kind
	fault bool
}

// New makes a Recorder.
func New(opt Options) *Recorder {
	def := func(p *int, v int) {
		if *p == 0 {
			*p = v
		}
	}
	def(&opt.Records, 1024)
	def(&opt.Bytes, 64<<20)
	def(&opt.ContentBytes, 32<<20)
	def(&opt.Instances, 1024)
	if opt.Now == nil {
		opt.Now = time.Now
	}
	return &Recorder{opt: opt, books: make(map[string]*book), contents: contents{limit: opt.ContentBytes}}
}

// Record keeps rec, giving it an id and, if it has none, the current time, and hands it to whoever follows.
// The caller must not change rec's slices afterwards. It never blocks on a follower.
func (r *Recorder) Record(rec Record) { r.Keep(rec, nil) }

// Keep is Record for an event with what was sent, which may be nil. It returns the record as it is kept.
func (r *Recorder) Keep(rec Record, c *Content) Record {
	if r == nil {
		return rec
	}
	if rec.Time.IsZero() {
		rec.Time = r.opt.Now()
	}
	rec.Time = rec.Time.UTC()
	if len(rec.Answer) > MaxAnswer {
		rec.Answer = strings.Clone(rec.Answer[:MaxAnswer])
	}
	// Copies, for these are often parts of something longer, such as an address with its query, which would live as long
	// as the record.
	rec.URL, rec.TraceID = strings.Clone(rec.URL), strings.Clone(rec.TraceID)
	if c != nil {
		rec.slot = r.contents.keep(rec.Instance, c)
	}
	r.mu.RLock() // so that the book is not dropped meanwhile
	b := r.books[rec.Instance]
	if b == nil {
		r.mu.RUnlock()
		r.mu.Lock()
		defer r.mu.Unlock()
		b = r.book(rec.Instance)
	} else {
		defer r.mu.RUnlock()
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	rec.ID = r.next.Add(1) // under the lock: a follower sees them in order
	b.tallies.count(&rec)
	b.ring(&rec, r.opt.Records).add(&rec, r)
	for s := range b.subs {
		s.offer(&rec)
	}
	if r.keeper != nil {
		r.keeper.offer(&rec)
	}
	return rec
}

// book returns an instance's book, made if it is missing. Called with mu held for writing.
func (r *Recorder) book(instance string) *book {
	if b := r.books[instance]; b != nil {
		return b
	}
	for _, name := range slices.Clone(r.order) { // those that are followed stay
		if len(r.order) < r.opt.Instances {
			break
		}
		r.drop(name)
	}
	b := &book{rings: make(map[page]*ring), subs: make(map[*Subscription]struct{})}
	r.books[instance] = b
	r.order = append(r.order, instance)
	return b
}

// Forget drops the records of a deleted instance.
func (r *Recorder) Forget(instance string) {
	if r == nil {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.drop(instance)
}

// drop empties the instance's book, which those who follow it keep. Called with mu held for writing.
func (r *Recorder) drop(instance string) {
	b := r.books[instance]
	if b == nil {
		return
	}
	b.mu.Lock()
	for _, g := range b.rings {
		for g.len() > 0 {
			g.shift(r)
		}
	}
	following := len(b.subs) > 0
	b.mu.Unlock()
	r.contents.forget(instance)
	if !following {
		delete(r.books, instance)
		r.order = slices.DeleteFunc(r.order, func(name string) bool { return name == instance })
	}
}

// Records lists the kept records that f lets through, oldest first.
func (r *Recorder) Records(f Filter) []Record {
	if r == nil {
		return nil
	}
	r.mu.RLock()
	b := r.books[f.Instance]
	r.mu.RUnlock()
	if b == nil {
		return nil
	}
	b.mu.Lock()
	found := b.collect(&f)
	b.mu.Unlock()
	return f.order(found)
}

// Find returns the kept record with an id.
func (r *Recorder) Find(instance string, id uint64) (Record, bool) {
	found := r.Records(Filter{Instance: instance, ids: []uint64{id}})
	if len(found) == 0 {
		return Record{}, false
	}
	return found[0], true
}

// collect returns the kept records that f lets through, in no order: messages wait for the lock, so whoever has it sorts
// afterwards. Called with mu held.
func (b *book) collect(f *Filter) []Record {
	var out []Record
	for p, g := range b.rings {
		if f.Kind == "" || f.Kind == p.kind {
			out = g.appendMatching(out, f)
		}
	}
	return out
}

func (b *book) ring(rec *Record, limit int) *ring {
	p := page{rec.Kind, rec.Fault()}
	g := b.rings[p]
	if g == nil {
		g = &ring{limit: limit}
		b.rings[p] = g
	}
	return g
}

// ring is a circular buffer that grows up to its limit.
type ring struct {
	limit int
	start int
	count int
	recs  []Record
}

func (g *ring) len() int { return g.count }

func (g *ring) add(rec *Record, r *Recorder) {
	size := int64(rec.size())
	for g.count > 0 && (g.count >= g.limit || r.bytes.Load()+size > int64(r.opt.Bytes)) {
		g.shift(r)
	}
	r.bytes.Add(size)
	if g.count == len(g.recs) {
		g.grow()
	}
	g.recs[(g.start+g.count)%len(g.recs)] = *rec
	g.count++
}

// grow doubles the buffer, its oldest record first.
func (g *ring) grow() {
	recs := make([]Record, min(max(8, 2*len(g.recs)), g.limit))
	for i := range g.count {
		recs[i] = g.recs[(g.start+i)%len(g.recs)]
	}
	g.recs, g.start = recs, 0
}

// shift forgets the oldest record.
func (g *ring) shift(r *Recorder) {
	old := &g.recs[g.start]
	r.bytes.Add(-int64(old.size()))
	*old = Record{}
	g.start = (g.start + 1) % len(g.recs)
	g.count--
}

func (g *ring) appendMatching(out []Record, f *Filter) []Record {
	for i := range g.count {
		if rec := &g.recs[(g.start+i)%len(g.recs)]; f.match(rec) {
			out = append(out, *rec)
		}
	}
	return out
}
