package tokenservice

import (
	"crypto/sha256"
	"sync"
	"time"
)

// Bounds of the memory of client assertions. A client that presents more than perClient different ones within their
// life waits until some expire; no client can crowd another out before all of them together reach the total.
const (
	maxAssertions          = 1 << 17
	maxAssertionsPerClient = 1 << 13
)

// A replays remembers which client assertions were presented, until they expire (identity.md 4.3).
//
// An assertion is not simply used up: MSAL Node keeps one for ten minutes and presents it for every resource that the
// program asks for. So what is used up is the assertion for one request (resource and claims), and everything it is
// good for stays with the address that presented it first.
type replays struct {
	mu       sync.Mutex // guards all below
	presents map[[32]byte]*presented
	clients  map[string]int // how many of presents are the client's
	swept    time.Time
}

type presented struct {
	client, peer string
	until        time.Time
	requests     map[[32]byte]struct{} // bounded by maxRequestsPerAssertion
}

const maxRequestsPerAssertion = 256

func newReplays() *replays {
	return &replays{presents: make(map[[32]byte]*presented), clients: make(map[string]int)}
}

// A presentation is one assertion in one request.
type presentation struct {
	client, peer string
	id           string // jti, or what else is unique to the assertion
	request      string // what it is presented for
	until        time.Time
}

// enter remembers p. It returns why p is refused, or nil.
func (m *replays) enter(p presentation, now time.Time) *refusal {
	id := sha256.Sum256([]byte(p.client + "\x00" + p.id))
	request := sha256.Sum256([]byte(p.request))
	m.mu.Lock()
	defer m.mu.Unlock()
	old, known := m.presents[id]
	if known && !old.until.After(now) {
		m.drop(id, old)
		known = false
	}
	if known {
		switch _, again := old.requests[request]; {
		case old.peer != p.peer:
			return refuse(codeAssertionInvalid, "The assertion was presented before, from another address. Sign a new one, with a 'jti' of its own.")
		case again:
			return refuse(codeAssertionInvalid, "The assertion was presented before for the same request. Sign a new one, with a 'jti' of its own.")
		case len(old.requests) >= maxRequestsPerAssertion:
			return refuse(codeAssertionInvalid, "The assertion was presented %d times. Sign a new one, with a 'jti' of its own.", maxRequestsPerAssertion)
		}
		old.requests[request] = struct{}{}
		return nil
	}
	if len(m.presents) >= maxAssertions || m.clients[p.client] >= maxAssertionsPerClient {
		m.expire(now)
	}
	if len(m.presents) >= maxAssertions || m.clients[p.client] >= maxAssertionsPerClient {
		r := refuse(codeThrottled, "There are too many client assertions that have not expired yet. Let them live shorter.")
		r.after = time.Minute
		return r
	}
	m.presents[id] = &presented{client: p.client, peer: p.peer, until: p.until, requests: map[[32]byte]struct{}{request: {}}}
	m.clients[p.client]++
	return nil
}

// leave takes back what enter remembered, after the request failed for a reason that is not the caller's.
func (m *replays) leave(p presentation) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if old := m.presents[sha256.Sum256([]byte(p.client+"\x00"+p.id))]; old != nil {
		delete(old.requests, sha256.Sum256([]byte(p.request)))
	}
}

// expire drops what has expired, at most once a second: it looks at everything.
func (m *replays) expire(now time.Time) {
	if now.Sub(m.swept) < time.Second {
		return
	}
	m.swept = now
	for id, p := range m.presents {
		if !p.until.After(now) {
			m.drop(id, p)
		}
	}
}

func (m *replays) drop(id [32]byte, p *presented) {
	delete(m.presents, id)
	if m.clients[p.client]--; m.clients[p.client] <= 0 {
		delete(m.clients, p.client)
	}
}
