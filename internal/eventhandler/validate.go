package eventhandler

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"time"

	"tabard/guard/reason"
	"tabard/internal/settings"
	"tabard/internal/trace"
)

// Abuse protection: before the first event to a URL, and again whenever the outcome has grown old, the handler is
// asked with OPTIONS whether it wants events of this service (CloudEvents HTTP webhook; timings from EMU). A passed
// outcome is used while it is looked at again in the background. A failed one is used until its back-off has passed;
// the event that comes then waits for a new look, since it would fail anyway.

// checkKey is the resolved validation URL and what else the handler's answer depends on: who asks, and as whom.
type checkKey struct {
	instance, url string
	identity      bool // the request carries a token
	resource      string
	near          bool // it is confined to loopback
}

func keyOf(in *settings.Instance, h *settings.EventHandler, t *target) checkKey {
	k := checkKey{instance: in.Name, url: t.checkURL, identity: h.UsesManagedIdentity()}
	if k.identity {
		k.resource, k.near = h.Resource(), t.plain && !in.Extensions.AllowTokenOverHTTP
	}
	return k
}

type checks struct {
	mu sync.Mutex // guards m, not the checks in it
	m  map[checkKey]*check
}

// get returns the check of k, made if it is missing. At the bound others make room, those under way excepted.
func (c *checks) get(k checkKey) *check {
	c.mu.Lock()
	defer c.mu.Unlock()
	if x := c.m[k]; x != nil {
		return x
	}
	if len(c.m) >= maxChecks {
		for other, x := range c.m { // in random order
			if x.idle() {
				delete(c.m, other)
				break
			}
		}
	}
	x := new(check)
	c.m[k] = x
	return x
}

// A check is what is known about one validation URL.
type check struct {
	mu      sync.Mutex // guards all
	known   bool       // there is an outcome
	fault   *fault     // the outcome; nil: passed
	until   time.Time  // when to look again
	backoff time.Duration
	flight  *flight // under way, or nil
}

// A flight is one validation that any number of events wait for. fault is set before done closes.
type flight struct {
	done  chan struct{}
	fault *fault
}

func (c *check) idle() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.flight == nil
}

// validated returns nil if the handler has consented to events at this target.
func (d *Dispatcher) validated(ctx context.Context, in *settings.Instance, h *settings.EventHandler, hub string, t *target) *fault {
	return d.consult(ctx, d.checks.get(keyOf(in, h, t)), in, h, hub, t)
}

// consult uses what c knows, or has it found out.
func (d *Dispatcher) consult(ctx context.Context, c *check, in *settings.Instance, h *settings.EventHandler, hub string, t *target) *fault {
	c.mu.Lock()
	old := !time.Now().Before(c.until)
	if c.known && (c.fault == nil || !old) {
		if old && c.flight == nil {
			d.begin(c, in, h, hub, t) // in the background
		}
		f := c.fault.copy()
		c.mu.Unlock()
		return f
	}
	if c.flight == nil && !d.begin(c, in, h, hub, t) {
		c.mu.Unlock()
		return &fault{code: reason.Overloaded, err: ErrClosed}
	}
	fl := c.flight
	c.mu.Unlock()
	select {
	case <-fl.done:
		return fl.fault.copy()
	case <-ctx.Done():
		return d.interrupted(ctx)
	}
}

// begin starts c's flight, unless the dispatcher is closed. Called with c.mu held.
func (d *Dispatcher) begin(c *check, in *settings.Instance, h *settings.EventHandler, hub string, t *target) bool {
	fl := &flight{done: make(chan struct{})}
	c.flight = fl
	started := d.start(func() {
		ctx, cancel := context.WithTimeout(d.ctx, d.opt.Budget) // not the waiting event's: others may wait too
		defer cancel()
		f, outcome := d.inspect(ctx, in, h, hub, t, false)
		c.mu.Lock()
		c.settle(f, outcome, &d.opt)
		c.flight = nil
		fl.fault = f
		c.mu.Unlock()
		close(fl.done)
	})
	if !started {
		c.flight = nil
	}
	return started
}

// settle notes how a flight ended. Without an outcome (no token, shutting down) the handler was not asked: what was
// known stays known.
func (c *check) settle(f *fault, outcome bool, opt *Options) {
	now := time.Now()
	switch {
	case !outcome:
		if c.known && c.fault == nil {
			c.until = now.Add(opt.ValidationBackoff)
		}
		return
	case f == nil:
		c.backoff, c.until = 0, now.Add(opt.ValidationFresh)
	default:
		c.backoff = min(max(2*c.backoff, opt.ValidationBackoff), opt.ValidationFresh)
		c.until = now.Add(c.backoff)
	}
	c.known, c.fault = true, f
}

// inspect asks the handler, repeatedly while its network fails, unless only once. outcome is false if it could not be
// asked.
func (d *Dispatcher) inspect(ctx context.Context, in *settings.Instance, h *settings.EventHandler, hub string, t *target, once bool) (f *fault, outcome bool) {
	j := d.journal(trace.Validation, in, hub, h)
	j.rec.Event, j.rec.Method = "validate", http.MethodOptions
	j.target = t
	var a *answer
	tok, f := d.token(ctx, in, h, j)
	if f == nil {
		origin, aliases := d.opt.Origin(in)
		header := http.Header{hOrigin: {origin}, hAWPSVersion: vOne, "User-Agent": vUserAgent}
		if tok != nil {
			// A handler behind App Service authentication refuses every request without a token, this one too.
			header["Authorization"] = tok.Authorization
		}
		road, _ := d.road(in, h, t)
		r := request{method: http.MethodOptions, url: t.validation, header: header, road: road, each: d.opt.ValidationTimeout, once: once, dial: &j.dial}
		a, j.rec.Attempts, f = d.call(ctx, &r)
		if a != nil && a.status == http.StatusNotFound {
			r.method = http.MethodGet // for servers that do not route OPTIONS
			var more int
			a, more, f = d.call(ctx, &r)
			j.rec.Attempts += more
		}
		d.refused(in, h, tok, a)
		f = judge(f, a, origin, aliases)
		f.hear(a)
		j.dial.stages(j, f)
		outcome = d.ctx.Err() == nil
	}
	if f != nil && outcome {
		f.err = fmt.Errorf("abuse protection for '%s' %w", h.Template().Redacted(), f.err)
		if text := f.err.Error(); j.conceal(text) != text {
			f.err = errors.New(j.conceal(text))
		}
	}
	j.end(a, f)
	if f != nil && outcome {
		d.log.Warn("event handler did not pass the endpoint validation",
			"instance", in.Name, "hub", hub, "template", h.Template().Redacted(), "code", f.code, "status", f.status, "err", j.clean(f.text()))
	}
	return f, outcome
}

// judge turns the end of the exchange into the outcome of a validation.
func judge(f *fault, a *answer, origin string, aliases []string) *fault {
	if f != nil && (a == nil || f.status == 0) {
		return &fault{code: f.code, err: fmt.Errorf("failed: %w", f.err)}
	}
	if f != nil {
		v := &fault{code: reason.ValidationFailed, status: a.status, err: fmt.Errorf("failed: %d", a.status)}
		switch f.code {
		case reason.HandlerUnauthorized, reason.HandlerForbidden:
			v.code = reason.ValidationUnauthorized
		case reason.HandlerRedirect, reason.Timeout:
			v.code = f.code
		}
		return v
	}
	// One header line, one origin: a list within a line allows nothing (EMU).
	for _, line := range a.header["Webhook-Allowed-Origin"] {
		line = strings.TrimSpace(line)
		if line == "*" || strings.EqualFold(line, origin) {
			return nil
		}
		for _, alias := range aliases {
			if strings.EqualFold(line, alias) {
				return nil
			}
		}
	}
	return &fault{code: reason.ValidationHeaderMissing, status: a.status, err: errors.New("is missing allowed origins: " + origin)}
}

// Validate asks a handler now, once, whether it wants this service's events, as the control plane does when a hub is
// configured. Consent is remembered for the events to come; a failure is not, since who configures a hub may start its
// handler next. hub is the name as clients will use it. The error is a *DeliveryError that holds no secret; nil also if
// the instance's settings omit the validation.
func (d *Dispatcher) Validate(ctx context.Context, in *settings.Instance, hub string, h *settings.EventHandler) error {
	ctx, cancel := context.WithTimeout(ctx, d.opt.Budget)
	defer cancel()
	defer context.AfterFunc(d.ctx, cancel)()
	t, f := d.resolve(ctx, in, h, hub, "validate", false)
	if f == nil {
		if _, skip := d.road(in, h, t); skip {
			return nil
		}
		var outcome bool
		if f, outcome = d.inspect(ctx, in, h, hub, t, true); outcome && f == nil {
			c := d.checks.get(keyOf(in, h, t))
			c.mu.Lock()
			c.settle(nil, true, &d.opt)
			c.mu.Unlock()
		}
	}
	if f != nil {
		return f.deliveryError(hub, "validate")
	}
	return nil
}
