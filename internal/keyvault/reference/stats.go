package reference

import (
	"maps"
	"sync"
	"time"

	"tabard/guard/reason"
)

// Stats are what a monitoring system wants to know.
type Stats struct {
	// Readings are those since the start by their outcome: "ok", or why not.
	Readings map[reason.Code]uint64
	// Held is how many secrets have a value, Unresolved how many have none, Failing how many could not be read the last
	// time; of those that have a value all the same, the value is an older one.
	Held, Unresolved, Failing int
	// Oldest is when the value that was confirmed longest ago was confirmed; zero if there is none.
	Oldest time.Time
}

// ok is the outcome of a reading that is none of the catalogue's.
const ok reason.Code = "ok"

// counts counts readings by outcome.
type counts struct {
	mu sync.Mutex // guards m
	m  map[reason.Code]uint64
}

func (c *counts) add(err *Error) {
	code := ok
	if err != nil {
		code = err.Code
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.m == nil {
		c.m = map[reason.Code]uint64{}
	}
	c.m[code]++
}

// Stats looks at every secret that is held.
func (r *Resolver) Stats() Stats {
	r.counts.mu.Lock()
	s := Stats{Readings: maps.Clone(r.counts.m)}
	r.counts.mu.Unlock()
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, e := range r.entries {
		st := e.status()
		if st.Code != "" {
			s.Failing++
		}
		if !st.Resolved {
			s.Unresolved++
			continue
		}
		s.Held++
		if s.Oldest.IsZero() || st.Read.Before(s.Oldest) {
			s.Oldest = st.Read
		}
	}
	return s
}
