package identity

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"
)

// ErrClosed is returned for a token that would have to be fetched after [Cache.Close].
var ErrClosed = errors.New("token cache is closed")

const (
	reserve       = 60 * time.Second // a token this close to its end is not used any more
	early         = 5 * time.Minute  // when a short-lived token is renewed, before its end
	longLife      = 2 * time.Hour    // beyond this life a token is renewed at half of it
	rejectableAge = 5 * time.Minute  // a younger token is not the reason for a refusal
)

// Options tune a [Cache]; the zero value is right for production.
type Options struct {
	// MaxEntries bounds the remembered pairs of principal and resource. 0 means 1024. At the bound the pair
	// whose token ends first makes room; it is fetched again when it is next asked for.
	MaxEntries int
	// AttemptTimeout bounds one call of the source. 0 means 20 s, so that all tries together fit into the
	// 100 s budget of an event.
	AttemptTimeout time.Duration
	// NegativeTTL is how long a failure is remembered and answered without asking the source again. 0 means 5 s.
	NegativeTTL time.Duration
	// Log receives failures, with identity and resource, never with a token. nil discards.
	Log *slog.Logger
}

// A Cache remembers tokens per (principal, resource) in front of a [Source]. All methods are safe for
// concurrent use.
//
// A token is renewed in the background by the first call after the time its issuer advises, or after half
// of a life over two hours, or 5 minutes before its end (but not in the first half of a life that is shorter
// than 10 minutes). Until 60 s before its end the old token is returned meanwhile, however often renewing fails.
type Cache struct {
	src Source
	opt Options

	entries atomic.Pointer[table]

	ctx    context.Context // of the flights; they outlive the caller that began them, for others may wait too
	cancel context.CancelFunc
	wg     sync.WaitGroup

	mu     sync.Mutex // serialises replacements of entries; guards closed. Taken after entry.mu, never before.
	closed bool
}

// An entry is all that is known of one key. Flushing removes it from the table; a flight that is still under
// way then ends in an entry that nobody can find, which is how an old identity's token is kept from coming back.
type entry struct {
	key  key
	held atomic.Pointer[held]

	mu          sync.Mutex // guards the fields below and the replacement of held
	flight      *flight
	failure     error
	failedUntil time.Time
	claims      string // that a receiver demands of the next tokens
}

// held is a token with its appointments, in Unix nanoseconds.
type held struct {
	token       *Token
	claims      string // of the challenge that it was fetched for
	obtained    time.Time
	usableUntil int64
	next        atomic.Int64 // when a caller has to look closer: time to renew, or usableUntil while that is under way
}

// A flight is one acquisition that any number of callers wait for. token and err are set before done closes.
type flight struct {
	done   chan struct{}
	token  *Token
	err    error
	claims string
	last   error // failure of the latest try, guarded by entry.mu; says why, to a caller who gives up waiting
}

// NewCache returns a cache in front of src. The caller closes it.
func NewCache(src Source, opt Options) *Cache {
	if opt.MaxEntries <= 0 {
		opt.MaxEntries = 1024
	}
	if opt.AttemptTimeout <= 0 {
		opt.AttemptTimeout = 20 * time.Second
	}
	if opt.NegativeTTL <= 0 {
		opt.NegativeTTL = 5 * time.Second
	}
	if opt.Log == nil {
		opt.Log = slog.New(slog.DiscardHandler)
	}
	c := &Cache{src: src, opt: opt}
	c.ctx, c.cancel = context.WithCancel(context.Background()) // lives as long as the cache, ended by Close
	c.entries.Store(&table{})
	return c
}

// Close stops background work and waits for it. Callers that wait for a token get an error.
func (c *Cache) Close() {
	c.mu.Lock()
	c.closed = true
	c.mu.Unlock()
	c.cancel()
	c.wg.Wait()
}

// Token returns a token of p for resource. A remembered token costs a lookup, no lock and no allocation.
// Otherwise the call waits, within ctx, for the one acquisition under way for this pair; that goes on when
// the caller gives up. Errors are the source's ([*Error] for a refusal by the issuer), [ErrClosed], or wrap
// ctx.Err().
func (c *Cache) Token(ctx context.Context, p Principal, resource string) (*Token, error) {
	if e := c.entries.Load().find(&p, resource); e != nil {
		if h := e.held.Load(); h != nil && time.Now().UnixNano() < h.next.Load() {
			return h.token, nil
		}
	}
	return c.acquire(ctx, key{p, resource})
}

// Flush forgets every token and failure of the principal with this object id. An acquisition under way still
// answers those who wait for it, but is not remembered.
func (c *Cache) Flush(principalID string) {
	c.forget(func(e *entry) bool { return e.key.principal.PrincipalID == principalID })
}

// FlushAll is Flush for all principals.
func (c *Cache) FlushAll() {
	c.forget(func(*entry) bool { return true })
}

func (c *Cache) forget(which func(*entry) bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.entries.Store(c.entries.Load().without(which))
}

// Reject reports that a receiver refused tok with 401 or 403. If tok is still the remembered one and was
// obtained more than 5 minutes ago it is forgotten, so that the next call fetches another: roles or keys may
// have changed since. A younger one stays, since a fresh token would be refused for the same reason.
//
// claims is the receiver's claims challenge, a JSON object, or empty. Tokens are fetched with it from then on, if the
// source is a [ClaimsSource]; the first one at once, whatever the age of tok. A receiver that keeps challenging is no
// reason to keep asking: a tok that was fetched for a challenge is judged by its age again.
func (c *Cache) Reject(p Principal, resource string, tok *Token, claims string) {
	e := c.entries.Load().find(&p, resource)
	if e == nil {
		return
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	h := e.held.Load()
	if h == nil || h.token != tok {
		return
	}
	challenged := claims != "" && h.claims == ""
	if challenged || time.Since(h.obtained) > rejectableAge {
		e.held.Store(nil)
		if claims != "" {
			e.claims = claims
		}
	}
}

// entry returns k's entry, made if it is missing.
func (c *Cache) entry(k key) *entry {
	if e := c.entries.Load().find(&k.principal, k.resource); e != nil {
		return e
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	entries := c.entries.Load()
	if e := entries.find(&k.principal, k.resource); e != nil {
		return e
	}
	if entries.size >= c.opt.MaxEntries {
		victim := entries.soonestEnd()
		entries = entries.without(func(e *entry) bool { return e == victim })
	}
	e := &entry{key: k}
	c.entries.Store(entries.with(e))
	return e
}
