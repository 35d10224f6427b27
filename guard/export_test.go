package guard

import "time"

// SetFetchTimeout shortens the limit for one document of an issuer.
func (v *Verifier) SetFetchTimeout(d time.Duration) { v.client.Timeout = d }

// Remembered counts the verified tokens that are remembered.
func (v *Verifier) Remembered() int {
	v.seen.mu.RLock()
	defer v.seen.mu.RUnlock()
	return len(v.seen.young) + len(v.seen.old)
}

// Kept counts the events that are remembered or under way.
func (g *Guard) Kept() int {
	g.duplicates.mu.Lock()
	defer g.duplicates.mu.Unlock()
	return len(g.duplicates.events)
}

// Unambiguous reports whether a path may be excluded.
func Unambiguous(path string) bool { return unambiguous(path) }
