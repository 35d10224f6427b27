package reference

import (
	"context"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"tabard/guard/reason"
	"tabard/internal/settings"
)

// An entry is all that is known of one secret as one identity reads it.
type entry struct {
	uri settings.SecretURI

	// held is the value while nothing speaks against using it; nil: look closer. It is what an event reads.
	held atomic.Pointer[value]

	mu         sync.Mutex // guards all below
	in         *settings.Instance
	hubs       []HubName
	expires    time.Time // when it goes if no hub refers to it
	last       *value    // the last good one; held is nil or the same
	read       time.Time // when last was confirmed
	next       time.Time // when to read again; zero: at once
	failures   int       // in a row
	refusals   int       // in a row
	err        *Error    // of the latest reading
	generation int       // counts what made a reading under way out of date
	wipes      int       // counts what made its value one that must not be used
	flight     *flight
	again      time.Time // when a handler's refusal may cause another reading
	gone       bool
}

// A value is a secret in memory. Its bytes are zeroed as soon as it is not needed any more.
type value struct {
	version string
	oid     string    // who could read it
	since   time.Time // when it was read for the first time

	mu    sync.RWMutex // guards what follows: a reader copies under it, so that it gets all of the value or nothing
	bytes []byte
	wiped bool
}

func (v *value) text() (string, bool) {
	v.mu.RLock()
	defer v.mu.RUnlock()
	return string(v.bytes), !v.wiped
}

func (v *value) wipe() {
	if v == nil {
		return
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	clear(v.bytes)
	v.bytes, v.wiped = nil, true
}

// A flight is one reading that any number of events wait for.
type flight struct {
	done       chan struct{}
	urgent     chan struct{} // closed when an event waits
	isUrgent   bool          // guarded by the entry's mu
	generation int           // of the entry when it began, like the next
	wipes      int
	err        *Error // why there is no value; set before done closes
}

func newEntry(in *settings.Instance, uri settings.SecretURI) *entry {
	return &entry{in: in, uri: uri}
}

// refer notes who refers to the secret, nil for nobody.
func (e *entry) refer(w *want) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if w == nil {
		if e.hubs != nil || e.expires.IsZero() { // referred to until now: it goes at once
			e.expires = time.Now()
		}
		e.hubs = nil
		return
	}
	e.in, e.hubs = w.in, w.hubs
	if w.anew {
		e.invalidateLocked()
	}
}

func (e *entry) expired(now time.Time) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.hubs == nil && !now.Before(e.expires)
}

// evict ends the entry and wipes it.
func (e *entry) evict() {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.gone = true
	e.forget()
}

// wipe forgets the value, for good.
func (e *entry) wipe() {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.forget()
	e.err = nil
	e.wipes++
	e.invalidateLocked()
}

// forget is called with mu held.
func (e *entry) forget() {
	e.held.Store(nil)
	e.last.wipe()
	e.last = nil
}

// invalidate has the secret read again before it is used again.
func (e *entry) invalidate() {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.invalidateLocked()
}

func (e *entry) invalidateLocked() {
	e.held.Store(nil)
	e.generation++
	e.next = time.Time{}
}

// rejected has the secret read again, if it was not just read.
func (e *entry) rejected(now time.Time) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	if now.Before(e.again) || now.Sub(e.read) < time.Second {
		return false
	}
	e.again = now.Add(time.Minute)
	e.invalidateLocked()
	return true
}

// due tells when the entry has to be read.
func (e *entry) due() (at time.Time, busy bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.next, e.flight != nil
}

// wait returns the value, or why there is none; again is true if the entry ended meanwhile.
func (e *entry) wait(ctx context.Context, r *Resolver) (text string, again bool, err error) {
	for {
		e.mu.Lock()
		if e.gone {
			e.mu.Unlock()
			return "", true, nil
		}
		if v := e.held.Load(); v != nil {
			e.mu.Unlock()
			if text, ok := v.text(); ok {
				return text, false, nil
			}
			continue
		}
		if e.flight == nil && e.err != nil && time.Now().Before(e.next) {
			err := e.err
			e.mu.Unlock()
			return "", false, err
		}
		f := e.flight
		if f == nil {
			if f = r.begin(e); f == nil {
				e.mu.Unlock()
				return "", false, &Error{Code: reason.SecretUnavailable, Secret: e.uri.String(), Message: "the service is stopping", Err: errClosed}
			}
		}
		if !f.isUrgent {
			f.isUrgent = true
			close(f.urgent)
		}
		e.mu.Unlock()
		select {
		case <-f.done:
			if f.err != nil {
				return "", false, f.err
			}
		case <-ctx.Done():
			return "", false, e.interrupted(ctx)
		}
	}
}

// interrupted is the error of whoever could not wait any longer.
func (e *entry) interrupted(ctx context.Context) *Error {
	e.mu.Lock()
	defer e.mu.Unlock()
	message := "the vault did not answer in time"
	if e.err != nil {
		message += "; the latest try: " + e.err.Message
	}
	return &Error{Code: reason.SecretNeverResolved, Secret: e.uri.String(), Message: message, Err: ctx.Err()}
}

// land notes how a reading ended, wipes what is not needed any more, and tells whether the failure, if it was one, is
// news.
func (e *entry) land(f *flight, v *value, err *Error, opt *Options) (news bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	defer close(f.done)
	e.flight = nil
	now := time.Now()
	switch {
	case e.gone || f.wipes != e.wipes:
		v.wipe()
		return false
	case err == nil:
		if e.last != nil && e.last.version == v.version && e.last.oid == v.oid {
			v.since = e.last.since
		}
		e.last.wipe()
		e.last, e.read, e.err, e.failures, e.refusals = v, now, nil, 0, 0
		e.next = now.Add(jitter(opt.Refresh))
	default:
		news = e.err == nil || e.err.Code != err.Code
		e.failed(err, now, opt)
	}
	if f.generation != e.generation { // it began before something changed: it says nothing about now
		e.next = time.Time{}
		e.held.Store(nil)
		return news
	}
	e.held.Store(e.last)
	if e.last == nil {
		f.err = e.err
	}
	return news
}

// failed decides what a failure does to the value. Called with mu held.
func (e *entry) failed(err *Error, now time.Time, opt *Options) {
	e.failures++
	if err.kind == refusal {
		e.refusals++
	} else {
		e.refusals = 0
	}
	// A value that another identity could read, before this one took its place, is nothing that this one may use.
	stranger := err.kind == refusal && e.last != nil && err.oid != "" && e.last.oid != err.oid
	if err.kind == final || stranger || e.refusals >= maxRefusals {
		e.forget()
	}
	pause := min(opt.RetryMin<<min(e.failures-1, 20), opt.RetryMax)
	if err.kind == refusal && e.last != nil {
		pause = opt.RetryMax
	}
	e.next = now.Add(max(jitter(pause), err.retry))
	if e.last == nil && err.kind == passing && err.Code != reason.TokenUnavailable {
		err.Code = reason.SecretNeverResolved
	}
	e.err = err
}

// maxRefusals is how many refusals in a row a value does not survive.
const maxRefusals = 2

// jitter spreads a duration by a tenth up and down.
func jitter(d time.Duration) time.Duration {
	return d + time.Duration((rand.Float64()-0.5)*0.2*float64(d))
}

func (e *entry) status() Status {
	e.mu.Lock()
	defer e.mu.Unlock()
	s := Status{Secret: e.uri.String(), Hubs: slices.Clone(e.hubs), Read: e.read, Next: e.next}
	if e.last != nil {
		s.Resolved, s.Version, s.Since = true, e.last.version, e.last.since
	}
	if e.err != nil {
		s.Code, s.Problem = e.err.Code, e.err.Message
	}
	return s
}

func hubKey(h *settings.Hub) string { return strings.ToLower(h.Name) }

// sameHub tells whether two settings of a hub send events to the same places.
func sameHub(a, b *settings.Hub) bool {
	if a == b {
		return true
	}
	if a == nil || b == nil || a.Extensions != b.Extensions || len(a.EventHandlers) != len(b.EventHandlers) {
		return false
	}
	for i, h := range a.EventHandlers {
		o := b.EventHandlers[i]
		if h.URLTemplate != o.URLTemplate || h.UserEventPattern != o.UserEventPattern || h.Resource() != o.Resource() ||
			h.UsesManagedIdentity() != o.UsesManagedIdentity() || !slices.Equal(h.SystemEvents, o.SystemEvents) {
			return false
		}
	}
	return true
}
