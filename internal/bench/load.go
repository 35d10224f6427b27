package bench

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"
)

// A load is one run: its connections and its counters.
type load struct {
	target  Target
	opt     Options
	result  *Result
	process process

	clients []*client
	readers sync.WaitGroup

	measuring atomic.Bool // messages that were due before count for order only
	hist      histogram
	arrived   atomic.Uint64
	repeated  atomic.Uint64
	disorder  atomic.Uint64
	errors    atomic.Uint64
}

func (l *load) close() {
	for _, c := range l.clients {
		c.Close()
	}
	l.readers.Wait()
}

// connect opens the clients, several at once, each ready to receive.
func (l *load) connect(ctx context.Context, n int, prepare func(i int, c *client) error) error {
	first := len(l.clients)
	l.clients = append(l.clients, make([]*client, n)...)
	var (
		next   atomic.Int64
		wg     sync.WaitGroup
		mu     sync.Mutex // guards failed
		failed error
	)
	for range min(dialers, n) {
		wg.Go(func() {
			for {
				i := int(next.Add(1)) - 1
				if i >= n || ctx.Err() != nil {
					return
				}
				c, err := dial(ctx, &l.target, fmt.Sprintf("bench-%d", first+i))
				if err == nil {
					l.clients[first+i] = c
					err = prepare(i, c)
				}
				if err != nil {
					mu.Lock()
					failed = fmt.Errorf("client %d: %w", first+i, err)
					mu.Unlock()
					next.Store(int64(n)) // the others need not go on
					return
				}
			}
		})
	}
	wg.Wait()
	if failed == nil {
		failed = ctx.Err()
	}
	if failed != nil {
		l.clients = compact(l.clients)
	}
	return failed
}

func compact(list []*client) []*client {
	kept := list[:0]
	for _, c := range list {
		if c != nil {
			kept = append(kept, c)
		}
	}
	return kept
}

// read receives a client's messages until it is closed. got is told each number, in order of arrival.
func (l *load) read(c *client, got func(number uint64)) {
	l.readers.Go(func() {
		expect := uint64(1)
		for {
			m, err := c.receive()
			if err != nil {
				if !c.IsClosed() {
					l.errors.Add(1)
				}
				return
			}
			switch {
			case m.number == expect:
				expect++
			case m.number < expect: // known already, or late: the gap before it counted as disorder
				l.repeated.Add(1)
				continue
			default: // a gap: something is late or lost
				l.disorder.Add(1)
				expect = m.number + 1
			}
			if l.measuring.Load() && m.due >= l.startedAt() {
				l.arrived.Add(1)
				l.hist.add(now() - m.due)
			}
			got(m.number)
		}
	})
}

// epoch is the zero of the clock that messages carry: monotonic, and the same for all of a process.
var epoch = time.Now()

func now() time.Duration { return time.Since(epoch) }

// startedAt is when the measured part began, on the clock of messages.
func (l *load) startedAt() time.Duration { return time.Duration(l.hist.start.Load()) }

// measure brackets the measured part with the server's and our own CPU.
func (l *load) measure(body func() error) error {
	before := l.process.cpu()
	own := self().cpu()
	start := time.Now()
	l.hist.start.Store(int64(now()))
	l.measuring.Store(true)
	err := body()
	l.measuring.Store(false)
	r := l.result
	r.Seconds = time.Since(start).Seconds()
	r.Deliveries, r.Repeated, r.Misordered, r.Errors = l.arrived.Load(), l.repeated.Load(), l.disorder.Load(), l.errors.Load()
	r.Latency = l.hist.percentiles()
	r.GeneratorCPUSec = self().cpu() - own
	r.ServerRSS = l.process.rss()
	r.OperationsPerS, r.DeliveriesPerS = float64(r.Operations)/r.Seconds, float64(r.Deliveries)/r.Seconds
	if n := max(r.Deliveries, r.Operations); l.process > 0 && n > 0 {
		r.ServerCPU = (l.process.cpu() - before) * 1e6 / float64(n)
	}
	return err
}
