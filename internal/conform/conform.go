// Package conform asks a Web PubSub endpoint, any one, whether it speaks the published protocols.
//
// Somebody who moves from one service to another, or runs a new build of one, wants to know line by line what still
// holds. So this is the black-box part of two checklists, of the client protocol and of the REST API, each line by its
// number: what is given, what must follow, and what was seen. A line that cannot be judged from outside is skipped by
// name with the reason; nothing is passed unseen.
//
// It speaks only the public wire (package wire) with an access key. Lines about events need an event handler that the
// hub calls: [Handler]. Each line uses groups, users and, where it acts on a whole hub, hubs of its own, so lines run
// side by side and disturb no other clients of the endpoint's hubs.
package conform

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"tabard/internal/wire"
)

// The two checklists.
const (
	Client = "client" // of the client protocol
	REST   = "rest"   // of the REST API
)

// The results of a line.
const (
	Pass = "pass"
	Fail = "fail"
	Skip = "skip"
)

// A Target is the endpoint that is examined, and what is known of it.
type Target struct {
	wire.Endpoint
	// SecondaryKey is the other access key. Without it the lines about it are skipped.
	SecondaryKey string
	// Handler answers the events of the hub Endpoint.Hub. Without it the lines about events are skipped.
	Handler *Handler
}

// Options of a run. The zero value of each field stands for its default.
type Options struct {
	Timeout  time.Duration // for each answer that is awaited; default 10 s
	Parallel int           // lines that run at once, 1 to 64; default 8
	Only     []string      // lines by name, such as "client 12" or "rest"; empty: all
	// Each, if set, is told every line as soon as it is decided, one at a time.
	Each func(Line)
}

// A Line is one line of a checklist and what became of it.
type Line struct {
	Checklist string `json:"checklist"`
	Number    int    `json:"number"`
	Given     string `json:"given"`
	Expected  string `json:"expected"`
	Result    string `json:"result"`
	Seen      string `json:"seen,omitempty"` // why it failed or was skipped
}

// Name is checklist and number, as in "client 12".
func (l *Line) Name() string { return fmt.Sprintf("%s %d", l.Checklist, l.Number) }

// A Report is all lines in order.
type Report struct {
	Lines   []Line `json:"lines"`
	Passed  int    `json:"passed"`
	Failed  int    `json:"failed"`
	Skipped int    `json:"skipped"`
}

// A check is how a line is judged.
type check struct {
	given, then string
	needs       need
	run         func(*trial) // nil: blind says why nobody outside can tell
	blind       string
}

// A need is what a line cannot do without.
type need int

const (
	nothing need = iota
	handler
	secondKey
)

// Run examines the endpoint. The error says why there is no report: options that are out of bounds, an endpoint that
// does not answer, or the end of ctx.
func Run(ctx context.Context, target Target, o Options) (*Report, error) {
	if o.Timeout == 0 {
		o.Timeout = 10 * time.Second
	}
	if o.Parallel == 0 {
		o.Parallel = 8
	}
	if o.Timeout < 0 || o.Parallel < 1 || o.Parallel > 64 {
		return nil, errors.New("the timeout must be positive, and 1 to 64 lines may run at once")
	}
	lines, checks, err := choose(o.Only)
	if err != nil {
		return nil, err
	}
	client := target.HTTP(o.Parallel * 2)
	defer client.CloseIdleConnections()
	if _, err := wire.Do(ctx, client, wire.Call{Method: http.MethodHead, URL: strings.TrimRight(target.Origin, "/") + "/api/health"}); err != nil {
		return nil, fmt.Errorf("the endpoint does not answer: %w", err)
	}
	run := newRun()
	var (
		wg   sync.WaitGroup
		mu   sync.Mutex // guards calls of Each
		slot = make(chan struct{}, o.Parallel)
	)
	for i := range lines {
		slot <- struct{}{}
		wg.Go(func() {
			defer func() { <-slot }()
			t := &trial{ctx: ctx, target: target, endpoint: target.Endpoint, http: client, timeout: o.Timeout, line: &lines[i], run: run}
			t.judge(checks[i])
			if o.Each != nil {
				mu.Lock()
				defer mu.Unlock()
				o.Each(lines[i])
			}
		})
	}
	wg.Wait()
	r := &Report{Lines: lines}
	for _, l := range lines {
		switch l.Result {
		case Pass:
			r.Passed++
		case Fail:
			r.Failed++
		default:
			r.Skipped++
		}
	}
	return r, ctx.Err()
}

// choose lists the lines that were asked for, in order, with their checks.
func choose(only []string) (lines []Line, checks []check, err error) {
	known := map[string]bool{Client: true, REST: true}
	for _, list := range []struct {
		name   string
		checks map[int]check
	}{{Client, clientChecks}, {REST, restChecks}} {
		for n := 1; n <= len(list.checks); n++ {
			c := list.checks[n]
			l := Line{Checklist: list.name, Number: n, Given: c.given, Expected: c.then}
			known[l.Name()] = true
			if len(only) == 0 || slices.Contains(only, l.Name()) || slices.Contains(only, list.name) {
				lines, checks = append(lines, l), append(checks, c)
			}
		}
	}
	for _, name := range only {
		if !known[name] {
			return nil, nil, fmt.Errorf("there is no line %q; lines are called %q or %q, or all of one checklist %q", name, "client 12", "rest 3", "rest")
		}
	}
	return lines, checks, nil
}

// judge runs a check and notes the result.
func (t *trial) judge(c check) {
	l := t.line
	switch {
	case c.run == nil:
		l.Result, l.Seen = Skip, c.blind
		return
	case c.needs == handler && t.target.Handler == nil:
		l.Result, l.Seen = Skip, "needs an event handler that the hub calls"
		return
	case c.needs == secondKey && t.target.SecondaryKey == "":
		l.Result, l.Seen = Skip, "needs the secondary key"
		return
	}
	defer func() {
		for _, p := range t.peers {
			p.Close()
		}
		switch p := recover().(type) {
		case nil:
			l.Result = Pass
		case mismatch:
			l.Result, l.Seen = Fail, string(p)
		case unseen:
			l.Result, l.Seen = Skip, string(p)
		default:
			panic(p)
		}
	}()
	c.run(t)
}
