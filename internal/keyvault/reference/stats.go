package reference

import "time"

// Stats are how it stands with all secrets that are referred to.
type Stats struct {
	// Held is how many have a value, Unresolved how many have none, Failing how many could not be read the last time: of
	// those, some have an older value all the same.
	Held, Unresolved, Failing int
	// Oldest is when the value that was confirmed longest ago was confirmed; zero if there is none.
	Oldest time.Time
}

// Stats looks at every secret.
func (r *Resolver) Stats() Stats {
	r.mu.Lock()
	defer r.mu.Unlock()
	var s Stats
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
