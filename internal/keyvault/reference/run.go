package reference

import (
	"context"
	"fmt"
	"math/rand/v2"
	"time"

	"tabard/guard/reason"
	"tabard/internal/settings"
)

// idle is how long the background sleeps when nothing is due, and lull how long at least, so that it does not spin.
const (
	idle = time.Minute
	lull = 20 * time.Millisecond
)

// run begins readings when they are due, until Close.
func (r *Resolver) run() {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-r.kick:
		case <-timer.C:
		case <-r.ctx.Done():
			return
		}
		timer.Reset(max(time.Until(r.beginDue()), lull))
	}
}

// beginDue begins what is due, drops what nobody wants, and returns when to look again.
func (r *Resolver) beginDue() time.Time {
	r.mu.Lock()
	defer r.mu.Unlock()
	now := time.Now()
	wake := now.Add(idle)
	for k, e := range r.entries {
		if e.expired(now) {
			r.drop(k, e)
			continue
		}
		at, busy := e.due()
		switch {
		case busy: // it kicks when it lands
		case at.After(now):
			if at.Before(wake) {
				wake = at
			}
		default:
			e.mu.Lock()
			if e.flight == nil {
				r.begin(e)
			}
			e.mu.Unlock()
		}
	}
	for host, until := range r.paused {
		if now.After(until) {
			delete(r.paused, host)
		}
	}
	return wake
}

// begin starts a reading, unless it is too late for that. Called with e.mu held.
func (r *Resolver) begin(e *entry) *flight {
	r.life.Lock()
	defer r.life.Unlock()
	if r.over {
		return nil
	}
	f := &flight{done: make(chan struct{}), urgent: make(chan struct{}), generation: e.generation, wipes: e.wipes}
	e.flight = f
	in := e.in
	r.wg.Go(func() {
		defer r.wake()
		v, err := r.fly(f, in, e.uri)
		if err != nil {
			err.Secret = e.uri.String()
		}
		if news := e.land(f, v, err, &r.opt); news {
			r.log.Warn("a secret that a handler's URL refers to could not be read", "secret", err.Secret, "instance", in.Name,
				"code", err.Code, "status", err.Status, "oid", err.oid, "problem", err.Message)
		}
	})
	return f
}

// fly reads once, when it is its turn.
func (r *Resolver) fly(f *flight, in *settings.Instance, uri settings.SecretURI) (*value, *Error) {
	release, ok := r.slot(f)
	if !ok {
		return nil, &Error{Code: reason.SecretUnavailable, Message: "the service is stopping", Err: errClosed}
	}
	defer release()
	if err := r.resting(uri.Host); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(r.ctx, r.opt.Timeout) // not the waiting event's: others may wait too
	defer cancel()
	v, err := r.fetch(ctx, in, uri)
	if err != nil {
		r.rest(uri.Host, err)
		return nil, err
	}
	r.log.Debug("secret read", "secret", uri.String(), "instance", in.Name, "version", v.version)
	return v, nil
}

// slot waits for one of the background's, or for an event that needs the value now.
func (r *Resolver) slot(f *flight) (release func(), ok bool) {
	select {
	case <-f.urgent:
		return func() {}, true
	case r.slots <- struct{}{}:
		return func() { <-r.slots }, true
	case <-r.ctx.Done():
		return nil, false
	}
}

// rest leaves a host alone for as long as it asked for.
func (r *Resolver) rest(host string, err *Error) {
	if err.retry <= 0 {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	until := time.Now().Add(err.retry)
	if until.After(r.paused[host]) {
		r.paused[host] = until
	}
	err.retry = r.after(err.retry)
}

// resting returns an error while a host is left alone. All that waits for it is spread over some time afterwards.
func (r *Resolver) resting(host string) *Error {
	r.mu.Lock()
	defer r.mu.Unlock()
	left := time.Until(r.paused[host])
	if left <= 0 {
		return nil
	}
	return &Error{
		Code: reason.SecretUnavailable, Message: fmt.Sprintf("the vault asked to be left alone for another %v", left.Round(time.Second)),
		retry: r.after(left),
	}
}

// after is a time after a pause, spread over a tenth of what lies between two readings.
func (r *Resolver) after(pause time.Duration) time.Duration {
	return pause + time.Duration(rand.Float64()*float64(r.opt.Refresh)/10)
}
