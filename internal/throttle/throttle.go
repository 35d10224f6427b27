// Package throttle slows down who fails too often: each key, such as an address, may spend a burst of units at once and
// then one per interval. What is remembered is bounded. What counts as a failure, and the answer to it, is the caller's
// business.
package throttle

import (
	"maps"
	"net/http"
	"net/netip"
	"sync"
	"time"
)

// MaxKeys bounds the keys that a Limiter remembers. At the bound some are forgotten, whichever they are.
const MaxKeys = 8192

// A Limiter lets each key spend burst units at once and one more per interval. Keys that owe nothing cost nothing.
type Limiter struct {
	burst int
	every time.Duration

	mu    sync.Mutex           // guards spent
	spent map[string]time.Time // when the key will owe nothing
}

// New makes a limiter.
func New(burst int, every time.Duration) *Limiter {
	return &Limiter{burst: burst, every: every, spent: make(map[string]time.Time)}
}

// Wait is how long key must wait until it may spend again; 0: not at all.
func (l *Limiter) Wait(key string, now time.Time) time.Duration {
	l.mu.Lock()
	defer l.mu.Unlock()
	until, known := l.spent[key]
	if !known || until.Before(now) {
		return 0
	}
	return max(0, until.Sub(now)-time.Duration(l.burst-1)*l.every)
}

// Take spends a unit of key, whether or not it may.
func (l *Limiter) Take(key string, now time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	until, known := l.spent[key]
	if !known && len(l.spent) >= MaxKeys {
		l.makeRoom(now)
	}
	if until.Before(now) {
		until = now
	}
	l.spent[key] = until.Add(l.every)
}

// Allow is Wait and Take in one: a unit is spent if that is allowed.
func (l *Limiter) Allow(key string, now time.Time) (wait time.Duration) {
	if wait = l.Wait(key, now); wait == 0 {
		l.Take(key, now)
	}
	return wait
}

// Forgive forgets what key spent.
func (l *Limiter) Forgive(key string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.spent, key)
}

// makeRoom forgets the keys that owe nothing, and if that is not enough an eighth of the others, so that a flood of keys
// does not pay for a search with each.
func (l *Limiter) makeRoom(now time.Time) {
	maps.DeleteFunc(l.spent, func(_ string, until time.Time) bool { return !until.After(now) })
	for key := range l.spent {
		if len(l.spent) <= MaxKeys-MaxKeys/8 {
			return
		}
		delete(l.spent, key)
	}
}

// Peer is the address that a request came from, as far as it tells callers apart: of IPv6 the network, since one
// caller has a whole one.
func Peer(r *http.Request) string {
	addr, err := netip.ParseAddrPort(r.RemoteAddr)
	if err != nil {
		return r.RemoteAddr
	}
	a := addr.Addr().Unmap().WithZone("")
	if a.Is6() && !a.IsLoopback() {
		network, _ := a.Prefix(64)
		return network.String()
	}
	return a.String()
}
