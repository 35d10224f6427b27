package guard

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"time"

	"tabard/guard/reason"
)

// An outcome is what became of a request at a proxy.
type outcome string

const (
	outcomePassed     outcome = "passed"     // with a good token
	outcomeAnonymous  outcome = "anonymous"  // without one, which was allowed
	outcomeExcluded   outcome = "excluded"   // to an excluded path
	outcomeValidation outcome = "validation" // an endpoint validation that the proxy answered
	outcomeRefused    outcome = "refused"
)

// counters are a proxy's metrics. They outlive a reload.
type counters struct {
	mu       sync.Mutex // guards all below
	requests map[requestKind]uint64
	inFlight int
	failed   uint64 // the upstream did not answer
	reloads  [2]uint64
	loaded   time.Time // of the last reload that succeeded
}

type requestKind struct {
	outcome outcome
	code    reason.Code // of a refusal
}

func (c *counters) count(o outcome, code reason.Code) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.requests == nil {
		c.requests = map[requestKind]uint64{}
	}
	c.requests[requestKind{o, code}]++
}

func (c *counters) begin() { c.mu.Lock(); c.inFlight++; c.mu.Unlock() }
func (c *counters) end()   { c.mu.Lock(); c.inFlight--; c.mu.Unlock() }

func (c *counters) upstreamFailed() { c.mu.Lock(); c.failed++; c.mu.Unlock() }

func (c *counters) reloaded(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if err != nil {
		c.reloads[1]++
		return
	}
	c.reloads[0]++
	c.loaded = time.Now()
}

// WriteMetrics writes the proxy's counters in the text format of Prometheus. The
// label code is a reason code of package reason, so the number of series is
// bounded. A request that passed and was refused later, for a body that is too
// large, counts as both.
func (p *Proxy) WriteMetrics(w io.Writer) error {
	c := &p.counts
	c.mu.Lock()
	defer c.mu.Unlock()
	var b strings.Builder
	metric := func(name, kind, help string) { fmt.Fprintf(&b, "# HELP %s %s\n# TYPE %s %s\n", name, help, name, kind) }
	metric("tabard_guard_requests_total", "counter", "Requests by what became of them; code is the reason of a refusal.")
	kinds := make([]requestKind, 0, len(c.requests))
	for k := range c.requests {
		kinds = append(kinds, k)
	}
	slices.SortFunc(kinds, func(a, b requestKind) int {
		return strings.Compare(string(a.outcome)+" "+string(a.code), string(b.outcome)+" "+string(b.code))
	})
	for _, k := range kinds {
		fmt.Fprintf(&b, "tabard_guard_requests_total{outcome=%q,code=%q} %d\n", k.outcome, k.code, c.requests[k])
	}
	metric("tabard_guard_requests_in_flight", "gauge", "Requests under way, WebSockets included.")
	fmt.Fprintf(&b, "tabard_guard_requests_in_flight %d\n", c.inFlight)
	metric("tabard_guard_upstream_failures_total", "counter", "Requests that the upstream did not answer.")
	fmt.Fprintf(&b, "tabard_guard_upstream_failures_total %d\n", c.failed)
	metric("tabard_guard_reloads_total", "counter", "Attempts to replace the configuration.")
	fmt.Fprintf(&b, "tabard_guard_reloads_total{result=\"ok\"} %d\ntabard_guard_reloads_total{result=\"failed\"} %d\n", c.reloads[0], c.reloads[1])
	if !c.loaded.IsZero() {
		metric("tabard_guard_reload_timestamp_seconds", "gauge", "When the configuration was last replaced.")
		fmt.Fprintf(&b, "tabard_guard_reload_timestamp_seconds %d\n", c.loaded.Unix())
	}
	_, err := io.WriteString(w, b.String())
	return err
}
