package tokenservice

import (
	"maps"
	"net/http"
	"net/netip"
	"sync"
	"time"
)

// maxLimited bounds the keys that a limiter remembers. At the bound some are forgotten, whichever they are.
const maxLimited = 8192

// A limiter lets each key spend burst units at once and one more per interval. Keys that owe nothing cost nothing.
type limiter struct {
	burst int
	every time.Duration

	mu    sync.Mutex           // guards spent
	spent map[string]time.Time // when the key will owe nothing
}

func newLimiter(burst int, every time.Duration) *limiter {
	return &limiter{burst: burst, every: every, spent: make(map[string]time.Time)}
}

// wait is how long key must wait until it may spend again; 0: not at all.
func (l *limiter) wait(key string, now time.Time) time.Duration {
	l.mu.Lock()
	defer l.mu.Unlock()
	until, known := l.spent[key]
	if !known || until.Before(now) {
		return 0
	}
	return max(0, until.Sub(now)-time.Duration(l.burst-1)*l.every)
}

// take spends a unit of key, whether or not it may.
func (l *limiter) take(key string, now time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	until, known := l.spent[key]
	if !known && len(l.spent) >= maxLimited {
		l.makeRoom(now)
	}
	if until.Before(now) {
		until = now
	}
	l.spent[key] = until.Add(l.every)
}

// allow is wait and take in one: a unit is spent if that is allowed.
func (l *limiter) allow(key string, now time.Time) (wait time.Duration) {
	if wait = l.wait(key, now); wait == 0 {
		l.take(key, now)
	}
	return wait
}

// forgive forgets what key spent.
func (l *limiter) forgive(key string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.spent, key)
}

// makeRoom forgets the keys that owe nothing, and if that is not enough an eighth of the others, so that a flood of keys
// does not pay for a search with each.
func (l *limiter) makeRoom(now time.Time) {
	maps.DeleteFunc(l.spent, func(_ string, until time.Time) bool { return !until.After(now) })
	for key := range l.spent {
		if len(l.spent) <= maxLimited-maxLimited/8 {
			return
		}
		delete(l.spent, key)
	}
}

// peer is the address that a request came from, as far as it tells callers apart: of IPv6 the network, since one
// caller has a whole one.
func peer(r *http.Request) string {
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

// fromLoopback tells whether a request came from this machine.
func fromLoopback(r *http.Request) bool {
	addr, err := netip.ParseAddrPort(r.RemoteAddr)
	return err == nil && addr.Addr().Unmap().WithZone("").IsLoopback()
}
