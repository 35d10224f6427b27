package identity

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// retryAfter holds the pauses between tries of one acquisition (event-handlers.md 10.3 row 7).
var retryAfter = [...]time.Duration{500 * time.Millisecond, time.Second, 2 * time.Second}

// acquire is [Cache.Token] without a token that can simply be handed out: there is none, or it is time to
// renew it.
func (c *Cache) acquire(ctx context.Context, k key) (*Token, error) {
	e := c.entry(k)
	e.mu.Lock()
	now := time.Now()
	if h := e.held.Load(); h != nil && now.UnixNano() < h.usableUntil {
		if e.flight == nil && now.UnixNano() >= h.next.Load() && c.begin(e) {
			h.next.Store(h.usableUntil)
		}
		e.mu.Unlock()
		return h.token, nil
	}
	if e.flight == nil {
		if now.Before(e.failedUntil) {
			err := e.failure
			e.mu.Unlock()
			return nil, err
		}
		if !c.begin(e) {
			e.mu.Unlock()
			return nil, ErrClosed
		}
	}
	f := e.flight
	e.mu.Unlock()

	select {
	case <-f.done:
		return f.token, f.err
	case <-ctx.Done():
		e.mu.Lock()
		last := f.last
		e.mu.Unlock()
		if last != nil {
			return nil, fmt.Errorf("waiting for a token for %q: %w; latest try: %w", k.resource, ctx.Err(), last)
		}
		return nil, fmt.Errorf("waiting for a token for %q: %w", k.resource, ctx.Err())
	}
}

// begin starts e's flight unless the cache is closed. Called with e.mu held.
func (c *Cache) begin(e *entry) bool {
	c.mu.Lock() // orders wg.Go before Close's wg.Wait
	defer c.mu.Unlock()
	if c.closed {
		return false
	}
	f := &flight{done: make(chan struct{}), claims: e.claims}
	e.flight = f
	c.wg.Go(func() { c.fly(e, f) })
	return true
}

// fly acquires a token and settles what e knows.
func (c *Cache) fly(e *entry, f *flight) {
	f.token, f.err = c.try(e, f)
	e.mu.Lock()
	now := time.Now()
	e.flight = nil
	if f.err == nil {
		h := hold(f.token, now, c.opt.NegativeTTL)
		h.claims = f.claims
		e.held.Store(h)
		e.failure, e.failedUntil = nil, time.Time{}
	} else {
		e.failure, e.failedUntil = f.err, now.Add(c.opt.NegativeTTL)
		if h := e.held.Load(); h != nil {
			h.next.Store(min(e.failedUntil.UnixNano(), h.usableUntil))
		}
	}
	e.mu.Unlock()
	close(f.done)
	if f.err != nil && !errors.Is(f.err, ErrClosed) {
		c.opt.Log.Warn("no token for the managed identity",
			"principal", e.key.principal.PrincipalID, "resource", e.key.resource, "err", f.err)
	}
}

// try asks the source, and again after each pause of retryAfter unless the refusal is final.
func (c *Cache) try(e *entry, f *flight) (*Token, error) {
	for n := 0; ; n++ {
		token, err := c.once(e.key, f.claims)
		switch {
		case err == nil:
			return token, nil
		case c.ctx.Err() != nil:
			return nil, ErrClosed
		case permanent(err) || n == len(retryAfter):
			return nil, err
		}
		e.mu.Lock()
		f.last = err
		e.mu.Unlock()
		select {
		case <-time.After(retryAfter[n]):
		case <-c.ctx.Done():
			return nil, ErrClosed
		}
	}
}

func (c *Cache) once(k key, claims string) (token *Token, err error) {
	ctx, cancel := context.WithTimeout(c.ctx, c.opt.AttemptTimeout)
	defer cancel()
	if src, ok := c.src.(ClaimsSource); ok && claims != "" {
		token, err = src.TokenFor(ctx, k.principal, k.resource, claims)
	} else {
		token, err = c.src.Token(ctx, k.principal, k.resource)
	}
	if err != nil {
		return nil, err
	}
	if token == nil || !time.Now().Before(token.ExpiresOn) {
		return nil, fmt.Errorf("the source's token for %q has expired already", k.resource)
	}
	return token, nil
}

func permanent(err error) bool {
	var refused *Error
	return errors.As(err, &refused) && refused.Permanent
}

// hold decides until when t is used and when it is renewed, at the earliest after pause: an issuer that
// keeps answering with a token due for renewal must not be asked on every call.
func hold(t *Token, now time.Time, pause time.Duration) *held {
	life := t.ExpiresOn.Sub(now)
	var renew time.Time
	switch {
	case !t.RefreshOn.IsZero():
		renew = t.RefreshOn
	case life > longLife || life < 2*early:
		renew = now.Add(life / 2)
	default:
		renew = t.ExpiresOn.Add(-early)
	}
	if soonest := now.Add(pause); renew.Before(soonest) {
		renew = soonest
	}
	h := &held{token: t, obtained: now, usableUntil: t.ExpiresOn.Add(-reserve).UnixNano()}
	h.next.Store(min(renew.UnixNano(), h.usableUntil))
	return h
}
