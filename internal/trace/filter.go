package trace

import (
	"cmp"
	"slices"
	"strings"
	"sync/atomic"
	"time"

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
	Category   Category
	Level      Level     // this one and worse
	Since      time.Time // not before
	After      uint64    // only records with a greater id
	Last       int       // only the newest so many; 0 means all

	ids []uint64 // only these
}

func (f *Filter) match(r *Record) bool {
	return r.ID > f.After &&
		(f.ids == nil || slices.Contains(f.ids, r.ID)) &&
		(f.Hub == "" || strings.EqualFold(f.Hub, r.Hub)) &&
		(f.Connection == "" || f.Connection == r.Connection) &&
		(f.User == "" || f.User == r.User) &&
		(f.Event == "" || strings.EqualFold(f.Event, r.Event)) &&
		(f.Kind == "" || f.Kind == r.Kind) &&
		(f.Code == "" || f.Code == r.Code) &&
		(f.Category == "" || f.Category == r.Category()) &&
		(f.Level == "" || slices.Index(Levels(), r.Level()) >= slices.Index(Levels(), f.Level)) &&
		!r.Time.Before(f.Since)
}

// order sorts the records, oldest first, and leaves the last that are wanted.
func (f *Filter) order(list []Record) []Record {
	slices.SortFunc(list, func(a, b Record) int { return cmp.Compare(a.ID, b.ID) })
	if f.Last > 0 && len(list) > f.Last {
		list = list[len(list)-f.Last:]
	}
	return list
}

// A Subscription receives records as they happen.
type Subscription struct {
	book   *book
	filter Filter
	c      chan Record
	lost   atomic.Uint64
}

// followBuffer is how many records a slow follower may be behind before it loses some.
const followBuffer = 256

// Follow begins a subscription. What is kept already and f lets through comes first, without a gap or a repeat
// before what happens next. A follower that is more than a few hundred records behind loses some; Lost counts them.
func (r *Recorder) Follow(f Filter) ([]Record, *Subscription) {
	r.mu.Lock()
	b := r.book(f.Instance)
	b.mu.Lock()
	r.mu.Unlock() // a book that is followed is not dropped
	s := &Subscription{book: b, filter: f, c: make(chan Record, followBuffer)}
	b.subs[s] = struct{}{}
	kept := b.collect(&f)
	b.mu.Unlock()
	return f.order(kept), s
}

// C delivers the records. It is never closed.
func (s *Subscription) C() <-chan Record { return s.c }

// Lost is how many records this follower was too slow for.
func (s *Subscription) Lost() uint64 { return s.lost.Load() }

// Close ends the subscription.
func (s *Subscription) Close() {
	s.book.mu.Lock()
	defer s.book.mu.Unlock()
	delete(s.book.subs, s)
}

func (s *Subscription) offer(rec *Record) {
	if !s.filter.match(rec) {
		return
	}
	select {
	case s.c <- *rec:
	default:
		s.lost.Add(1)
	}
}
