package bench

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"tabard/internal/wire"
)

// A topic is a group under load: how many publications its members have all received.
type topic struct {
	name    string
	members int

	mu       sync.Mutex // guards pending
	pending  map[uint64]int
	complete chan struct{} // one token for each publication that everybody has
}

func newTopic(name string, members, inFlight int) *topic {
	return &topic{name: name, members: members, pending: make(map[uint64]int), complete: make(chan struct{}, inFlight+1)}
}

// got counts one member's receipt.
func (t *topic) got(number uint64) {
	t.mu.Lock()
	t.pending[number]++
	done := t.pending[number] == t.members
	if done {
		delete(t.pending, number)
	}
	t.mu.Unlock()
	if done {
		select {
		case t.complete <- struct{}{}:
		default: // an open loop does not wait for them
		}
	}
}

func fanout(ctx context.Context, l *load) error { return l.publishTo(ctx, 1, l.opt.Clients) }

func groups(ctx context.Context, l *load) error {
	n := l.opt.Clients / l.opt.Group
	return l.publishTo(ctx, n, l.opt.Group)
}

// publishTo runs a publisher over WebSocket against n groups of members each, in turn.
func (l *load) publishTo(ctx context.Context, n, members int) error {
	topics := make([]*topic, n)
	for i := range topics {
		topics[i] = newTopic(fmt.Sprintf("bench-%d", i), members, l.opt.InFlight)
	}
	if err := l.stall(ctx, topics[0].name); err != nil {
		return err
	}
	var received atomic.Uint64
	if err := l.connect(ctx, n*members, func(i int, c *client) error { return c.join(topics[i/members].name) }); err != nil {
		return err
	}
	for i, c := range l.clients[l.opt.Stalled:] {
		t := topics[i/members]
		l.read(c, func(number uint64) { received.Add(1); t.got(number) })
	}
	publisher, err := dial(ctx, &l.target, "bench-publisher")
	if err != nil {
		return err
	}
	defer publisher.Close()
	l.readers.Go(func() { drain(publisher) })
	published := make([]uint64, n) // the last number of each topic
	turn := 0
	send := func(due time.Duration) error {
		i := turn % n
		turn++
		published[i]++
		return publisher.publish(topics[i].name, message{published[i], due}, l.opt.Payload, false)
	}
	run := func(d time.Duration) (sent uint64, err error) {
		if l.opt.Rate > 0 {
			return l.open(ctx, d, send)
		}
		return l.closedLoop(ctx, d, send, topics, &turn)
	}
	if _, err := run(l.opt.Warmup); err != nil {
		return err
	}
	return l.measure(func() error {
		sent, err := run(l.opt.Duration)
		l.result.Operations = sent
		if err != nil {
			return err
		}
		var want uint64
		for _, p := range published {
			want += p * uint64(members)
		}
		l.settle(func() bool { return received.Load() >= want })
		if got := received.Load(); got < want {
			l.result.Lost = want - got
		}
		return nil
	})
}

// stall opens members of a group that are never read again. What the service does with them is its own business; the
// others are held against it.
func (l *load) stall(ctx context.Context, group string) error {
	if l.opt.Stalled == 0 {
		return nil
	}
	return l.connect(ctx, l.opt.Stalled, func(_ int, c *client) error { return c.join(group) })
}

// drain reads a connection that is only written to, so that pings are answered.
func drain(c *client) {
	c.Deadline(time.Time{})
	for {
		if _, err := c.next(); err != nil {
			return
		}
	}
}

// settle waits until late messages are in, at most as long as the options say.
func (l *load) settle(done func() bool) {
	for end := time.Now().Add(l.opt.Settle); !done() && time.Now().Before(end); {
		time.Sleep(5 * time.Millisecond)
	}
}

// open publishes at a fixed rate whatever comes back: a message is due when its turn comes, also if the generator or
// the socket is late.
func (l *load) open(ctx context.Context, d time.Duration, send func(due time.Duration) error) (sent uint64, err error) {
	interval := time.Duration(float64(time.Second) / l.opt.Rate)
	for due, end := now(), now()+d; due < end; due += interval {
		if wait := due - now(); wait > 0 {
			select {
			case <-time.After(wait):
			case <-ctx.Done():
				return sent, ctx.Err()
			}
		}
		if err := send(due); err != nil {
			return sent, err
		}
		sent++
	}
	return sent, nil
}

// closedLoop keeps InFlight publications under way; each is due when it is sent.
func (l *load) closedLoop(ctx context.Context, d time.Duration, send func(due time.Duration) error, topics []*topic, turn *int) (sent uint64, err error) {
	end := now() + d
	inFlight := make([]*topic, 0, l.opt.InFlight)
	await := func() error {
		select {
		case <-inFlight[0].complete:
			inFlight = inFlight[1:]
			return nil
		case <-time.After(l.opt.Settle + wire.Timeout):
			return errors.New("a publication did not reach all members in time")
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	for now() < end {
		if len(inFlight) == l.opt.InFlight {
			if err := await(); err != nil {
				return sent, err
			}
		}
		inFlight = append(inFlight, topics[*turn%len(topics)])
		if err := send(now()); err != nil {
			return sent, err
		}
		sent++
	}
	for len(inFlight) > 0 {
		if err := await(); err != nil {
			return sent, err
		}
	}
	return sent, nil
}

// idle opens connections and lets them rest.
func idle(ctx context.Context, l *load) error {
	cpu, rss := l.process.cpu(), l.process.rss()
	start := time.Now()
	if err := l.connect(ctx, l.opt.Clients, func(_ int, c *client) error { return c.join("bench-idle") }); err != nil {
		return err
	}
	r := l.result
	r.Operations, r.Seconds = uint64(l.opt.Clients), time.Since(start).Seconds()
	r.OperationsPerS = float64(r.Operations) / r.Seconds
	r.ConnectCPU = (l.process.cpu() - cpu) * 1e6 / float64(l.opt.Clients)
	select { // what the handshakes left behind is collected while they rest
	case <-time.After(l.opt.Duration):
	case <-ctx.Done():
		return ctx.Err()
	}
	r.ServerRSS = l.process.rss()
	if l.process > 0 {
		r.RSSPerClient = (r.ServerRSS - rss) / int64(l.opt.Clients)
	}
	return nil
}

// rest publishes over REST to one member, InFlight requests at a time.
func rest(ctx context.Context, l *load) error {
	const group = "bench-rest"
	if err := l.connect(ctx, 1, func(_ int, c *client) error { return c.join(group) }); err != nil {
		return err
	}
	p := newPublisher(&l.target, group)
	defer p.http.CloseIdleConnections()
	var received, number atomic.Uint64
	l.readers.Go(func() { // several requests at once have no order: only their count is held against it
		for {
			m, err := l.clients[0].receive()
			if err != nil {
				return
			}
			received.Add(1)
			if l.measuring.Load() && m.due >= l.startedAt() {
				l.arrived.Add(1)
				l.hist.add(now() - m.due)
			}
		}
	})
	return l.workers(ctx, l.opt.InFlight, func(context.Context, int) error {
		return p.publish(ctx, message{number.Add(1), now()}.text(l.opt.Payload))
	}, func() { l.settle(func() bool { return received.Load() >= number.Load() }) }, func() uint64 { return number.Load() - received.Load() })
}

// workers runs op over and over on n goroutines, first to warm up, then measured.
func (l *load) workers(ctx context.Context, n int, op func(ctx context.Context, worker int) error, settle func(), lost func() uint64) error {
	run := func(d time.Duration) (done uint64, err error) {
		var (
			count atomic.Uint64
			wg    sync.WaitGroup
			once  sync.Once
		)
		end := now() + d
		for w := range n {
			wg.Go(func() {
				for now() < end && ctx.Err() == nil {
					if e := op(ctx, w); e != nil {
						once.Do(func() { err = e })
						return
					}
					count.Add(1)
				}
			})
		}
		wg.Wait()
		return count.Load(), errors.Join(err, ctx.Err())
	}
	if _, err := run(l.opt.Warmup); err != nil {
		return err
	}
	return l.measure(func() error {
		done, err := run(l.opt.Duration)
		l.result.Operations = done
		settle()
		l.result.Lost = lost()
		return err
	})
}

// echo has each client publish to a group of its own and wait for the message.
func echo(ctx context.Context, l *load) error {
	return l.roundTrips(ctx, func(i int) string { return fmt.Sprintf("bench-echo-%d", i) }, func(c *client, i int, m message) error {
		return c.publish(fmt.Sprintf("bench-echo-%d", i), m, l.opt.Payload, true)
	})
}

// event has each client send an event whose handler answers with the event's own data. The hub must have such a
// handler; the command line sets one up.
func event(ctx context.Context, l *load) error {
	return l.roundTrips(ctx, nil, func(c *client, _ int, m message) error { return c.sendEvent(m, l.opt.Payload) })
}

// roundTrips has every client send and wait for the answer, over and over.
func (l *load) roundTrips(ctx context.Context, group func(i int) string, send func(c *client, i int, m message) error) error {
	err := l.connect(ctx, l.opt.Clients, func(i int, c *client) error {
		if group == nil {
			return nil
		}
		return c.join(group(i))
	})
	if err != nil {
		return err
	}
	arrivals := make([]chan struct{}, len(l.clients))
	for i, c := range l.clients {
		arrivals[i] = make(chan struct{}, 1)
		l.read(c, func(uint64) { arrivals[i] <- struct{}{} })
	}
	numbers := make([]uint64, len(l.clients))
	var lost atomic.Uint64
	return l.workers(ctx, len(l.clients), func(ctx context.Context, i int) error {
		numbers[i]++
		if err := send(l.clients[i], i, message{numbers[i], now()}); err != nil {
			return err
		}
		select {
		case <-arrivals[i]:
			return nil
		case <-time.After(l.opt.Settle + wire.Timeout):
			lost.Add(1)
			return errors.New("an answer did not come in time")
		case <-ctx.Done():
			return ctx.Err()
		}
	}, func() {}, lost.Load)
}
