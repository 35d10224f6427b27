package trace

import (
	"cmp"
	"slices"
	"time"

	"tabard/guard/reason"
)

// Bounds are the upper bounds of a tally's buckets.
var Bounds = [...]time.Duration{
	time.Millisecond, 2500 * time.Microsecond, 5 * time.Millisecond, 10 * time.Millisecond, 25 * time.Millisecond, 50 * time.Millisecond, 100 * time.Millisecond,
	250 * time.Millisecond, 500 * time.Millisecond, time.Second, 2500 * time.Millisecond, 5 * time.Second, 10 * time.Second, 30 * time.Second, 100 * time.Second,
}

// maxTallies bounds the tallies of one instance, maxRule the length of a rule's name in bytes. Records beyond the bound
// are counted without hub and rule.
const (
	maxTallies = 4096
	maxRule    = 200
)

// other stands for what is not told apart any more.
const other = "(other)"

// A Subject is what records are counted by. Its values come from the configuration, the catalogue of reasons and fixed
// lists, never from users or connections.
type Subject struct {
	Kind      Kind
	Operation string // but of deliveries and validations
	Hub       string // in the spelling that it was first seen in; empty where strangers choose it
	Rule      string // a delivery's URL template, redacted
	Code      reason.Code
	Status    int    // of a REST request; of a delivery the first digit
	Close     string // why a connection ended
}

// A Tally is how often something happened since the start, and how long it took.
type Tally struct {
	Instance string
	Subject
	Count     uint64
	Sum       time.Duration
	Buckets   [len(Bounds)]uint64 // each counts what it alone bounds
	Bytes     uint64              // of payloads
	Receivers uint64              // of messages
}

// tallies count an instance's records. Those of one subject mostly follow each other, so the latest of each kind is at
// hand without a look-up.
type tallies struct {
	all    map[Subject]*Tally
	latest map[Kind]*Tally
}

func (t *tallies) count(r *Record) {
	s := subject(r)
	x := t.latest[r.Kind]
	if x == nil || x.Subject != s {
		x = t.find(r.Instance, s)
		t.latest[r.Kind] = x
	}
	x.Count++
	x.Sum += r.Duration
	x.Bytes += uint64(r.Bytes)
	x.Receivers += uint64(r.Receivers)
	if i, _ := slices.BinarySearch(Bounds[:], r.Duration); i < len(x.Buckets) {
		x.Buckets[i]++
	}
}

func (t *tallies) find(instance string, s Subject) *Tally {
	if x := t.all[s]; x != nil {
		return x
	}
	if len(t.all) >= maxTallies {
		s.Hub, s.Rule, s.Close = other, other, ""
		if x := t.all[s]; x != nil {
			return x
		}
	}
	if t.all == nil {
		t.all, t.latest = make(map[Subject]*Tally), make(map[Kind]*Tally)
	}
	x := &Tally{Instance: instance, Subject: s}
	t.all[s] = x
	return x
}

func subject(r *Record) Subject {
	s := Subject{Kind: r.Kind, Code: r.Code}
	switch r.Kind {
	case Delivery, Validation:
		s.Hub, s.Rule, s.Status = r.Hub, r.Template[:min(len(r.Template), maxRule)], r.Status/100
	case Connection:
		s.Operation, s.Close = r.Operation, r.Close
		if !r.Fault() {
			s.Hub = r.Hub
		}
	case Message:
		s.Operation, s.Hub = r.Operation, r.Hub
	case Request:
		s.Operation, s.Status = r.Operation, r.Status
	}
	return s
}

// Tallies are the counts of all instances that have records, by instance, kind and hub.
func (r *Recorder) Tallies() []Tally {
	if r == nil {
		return nil
	}
	var list []Tally
	r.mu.RLock()
	for _, b := range r.books {
		b.mu.Lock()
		for _, t := range b.tallies.all {
			list = append(list, *t)
		}
		b.mu.Unlock()
	}
	r.mu.RUnlock()
	slices.SortFunc(list, func(a, b Tally) int {
		return cmp.Or(cmp.Compare(a.Instance, b.Instance), cmp.Compare(a.Kind, b.Kind), cmp.Compare(a.Hub, b.Hub))
	})
	return list
}

// Usage is what the records and contents use at the moment, about, in bytes.
func (r *Recorder) Usage() (records, contents int64) {
	if r == nil {
		return 0, 0
	}
	r.contents.mu.Lock()
	defer r.contents.mu.Unlock()
	return r.bytes.Load(), int64(r.contents.used)
}
