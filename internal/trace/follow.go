package trace

import (
	"strings"
	"sync/atomic"

	"tabard/guard/reason"
)

// A Filter selects records; empty fields let everything through.
type Filter struct {
	Instance   string // required
	Hub        string // ignoring case
	Connection string
	User       string
	Event      string // ignoring case
	Kind       Kind
	Code       reason.Code
	After      uint64 // only records with a greater id
	Last       int    // only the newest so many; 0 means all
}

func (f *Filter) match(r *Record) bool {
	return r.Instance == f.Instance &&
		(f.Hub == "" || strings.EqualFold(f.Hub, r.Hub)) &&
		(f.Connection == "" || f.Connection == r.Connection) &&
		(f.User == "" || f.User == r.User) &&
		(f.Event == "" || strings.EqualFold(f.Event, r.Event)) &&
		(f.Kind == "" || f.Kind == r.Kind) &&
		(f.Code == "" || f.Code == r.Code) &&
		r.ID > f.After
}

// A Subscription receives records as they happen.
type Subscription struct {
	r      *Recorder
	filter Filter
	c      chan Record
	lost   atomic.Uint64
}

// followBuffer is how many records a slow follower may be behind before it loses some.
const followBuffer = 256

// Follow begins a subscription. What is kept already and f lets through comes first, without a gap or a repeat
// before what happens next. A follower that is more than a few hundred records behind loses some; Lost counts them.
func (r *Recorder) Follow(f Filter) ([]Record, *Subscription) {
	s := &Subscription{r: r, filter: f, c: make(chan Record, followBuffer)}
	r.mu.Lock()
	defer r.mu.Unlock()
	var kept []Record
	if g, ok := r.rings[f.Instance]; ok {
		g.each(func(rec *Record) {
			if f.match(rec) {
				kept = append(kept, *rec)
			}
		})
	}
	if f.Last > 0 && len(kept) > f.Last {
		kept = kept[len(kept)-f.Last:]
	}
	r.subs[s] = struct{}{}
	return kept, s
}

// C delivers the records. It is never closed.
func (s *Subscription) C() <-chan Record { return s.c }

// Lost is how many records this follower was too slow for.
func (s *Subscription) Lost() uint64 { return s.lost.Load() }

// Close ends the subscription.
func (s *Subscription) Close() {
	s.r.mu.Lock()
	defer s.r.mu.Unlock()
	delete(s.r.subs, s)
}

func (s *Subscription) offer(rec Record) {
	if !s.filter.match(&rec) {
		return
	}
	select {
	case s.c <- rec:
	default:
		s.lost.Add(1)
	}
}
