package hub

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"log/slog"
	"maps"
	"math"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// Options bound what connections may use. The zero value has the defaults.
type Options struct {
	// QueueMessages and QueueBytes are how much may wait for one connection; one that has more is cut off, and
	// nobody else notices. Default: 1000 frames, 16 MiB. Up to 64 KiB that are being written come on top.
	QueueMessages, QueueBytes int
	// WriteStall is how long a socket may take nothing while something waits for it. Default: 30 s.
	WriteStall time.Duration
	// CloseTimeout is how long a connection that was closed waits for the client's answer. Default: 5 s.
	CloseTimeout time.Duration
	// KeepAlive returns the interval of pings for a hub; nil, or a result of 0: 20 s. It is asked at each ping.
	KeepAlive func(instance, hub string) time.Duration
	// PingGrace is how long after two missed pings a silent connection is cut off. Default: 10 s.
	PingGrace time.Duration
	// RecoveryWindow is how long a reliable connection that lost its socket waits for its client. Default: 60 s, twice
	// what clients are promised.
	RecoveryWindow time.Duration
	// MaxConnections of all hubs together; 0: no limit but the system's.
	MaxConnections int
	// MaxGroups that one connection may be in. Default: 10,000.
	MaxGroups int
	// Shards is the number of flushers. Default: GOMAXPROCS.
	Shards int
	// Tick is the precision of pings, time-outs and message lifetimes. Default: 250 ms.
	Tick time.Duration
	// Log gets what has no other way to be noticed. Default: discarded.
	Log *slog.Logger
}

func (o Options) withDefaults() Options {
	def := func(p *int, v int) {
		if *p <= 0 {
			*p = v
		}
	}
	lasts := func(p *time.Duration, v time.Duration) {
		if *p <= 0 {
			*p = v
		}
	}
	def(&o.QueueMessages, 1000)
	def(&o.QueueBytes, 16<<20)
	def(&o.MaxGroups, 10_000)
	def(&o.Shards, runtime.GOMAXPROCS(0))
	lasts(&o.WriteStall, 30*time.Second)
	lasts(&o.CloseTimeout, 5*time.Second)
	lasts(&o.PingGrace, 10*time.Second)
	lasts(&o.RecoveryWindow, 60*time.Second)
	lasts(&o.Tick, 250*time.Millisecond)
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	return o
}

const (
	defaultKeepAlive = 20 * time.Second
	busy             = math.MaxInt64 // in Conn.heard
)

// A Registry holds the hubs of all instances and the goroutines that serve their connections.
type Registry struct {
	opt    Options
	shards []*shard
	turn   atomic.Uint64 // spreads connections over the shards
	count  atomic.Int64  // connections in hubs

	start  time.Time
	coarse atomic.Int64 // now, as of the last tick

	mu     sync.Mutex // guards closed, and hubs against writers
	closed bool
	hubs   atomic.Pointer[map[hubKey]*Hub]

	open sync.WaitGroup // connections with a socket
	wg   sync.WaitGroup // flushers and the clock
	stop chan struct{}
}

type hubKey struct{ instance, hub string } // lower case

func keyOf(instance, hub string) hubKey {
	return hubKey{strings.ToLower(instance), strings.ToLower(hub)}
}

// NewRegistry starts the goroutines that serve connections; Close ends them.
func NewRegistry(opt Options) *Registry {
	r := &Registry{opt: opt.withDefaults(), start: time.Now(), stop: make(chan struct{})}
	r.hubs.Store(&map[hubKey]*Hub{})
	for range r.opt.Shards {
		s := newShard(r.opt.Tick)
		r.shards = append(r.shards, s)
		r.wg.Go(func() { s.run(r.stop) })
	}
	r.wg.Go(r.watch)
	return r
}

// NewID returns a fresh connection id: 32 hexadecimal digits, usable in a path and in a header.
func NewID() string {
	var b [16]byte
	rand.Read(b[:])
	return hex.EncodeToString(b[:])
}

// now is the time since the registry started, in nanoseconds.
func (r *Registry) now() int64 { return int64(time.Since(r.start)) }

// Len returns the number of connections.
func (r *Registry) Len() int { return int(r.count.Load()) }

// Hub returns a hub, which is made when it is first asked for. Names ignore case.
func (r *Registry) Hub(instance, hub string) *Hub {
	if h := r.Lookup(instance, hub); h != nil {
		return h
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if h := r.Lookup(instance, hub); h != nil {
		return h
	}
	key := keyOf(instance, hub)
	h := &Hub{registry: r, instance: key.instance, name: key.hub, population: new(atomic.Int64)}
	hubs := maps.Clone(*r.hubs.Load())
	for _, other := range hubs {
		if other.instance == h.instance {
			h.population = other.population
		}
	}
	hubs[key] = h
	r.hubs.Store(&hubs)
	return h
}

// Lookup returns a hub that has had connections, or nil, which serves as an empty hub for everything but Connect.
func (r *Registry) Lookup(instance, hub string) *Hub { return (*r.hubs.Load())[keyOf(instance, hub)] }

// CloseInstance closes all connections of an instance with the code and forgets its hubs.
func (r *Registry) CloseInstance(instance string, code CloseCode, reason string) {
	r.mu.Lock()
	var gone []*Hub
	hubs := maps.Clone(*r.hubs.Load())
	for key, h := range hubs {
		if key.instance == strings.ToLower(instance) {
			delete(hubs, key)
			gone = append(gone, h)
		}
	}
	r.hubs.Store(&hubs)
	r.mu.Unlock()
	for _, h := range gone {
		h.close(code, reason)
	}
}

// Close asks every client to come back (1001), waits until all sockets are closed or ctx ends, cuts off the rest
// and stops. It returns ctx's error if connections had to be cut off.
func (r *Registry) Close(ctx context.Context) error {
	r.mu.Lock()
	first := !r.closed
	r.closed = true
	r.mu.Unlock()
	if !first {
		r.wg.Wait()
		return nil
	}
	for _, h := range *r.hubs.Load() {
		h.close(CloseGoingAway, ReasonReload)
	}
	drained := make(chan struct{})
	go func() {
		r.open.Wait()
		close(drained)
	}()
	var err error
	select {
	case <-drained:
	case <-ctx.Done():
		err = ctx.Err()
		for _, s := range r.shards {
			for _, c := range s.wheel.all(nil) {
				c.abort()
			}
		}
		<-drained
	}
	close(r.stop)
	r.wg.Wait()
	return err
}

// watch is the registry's clock.
func (r *Registry) watch() {
	ticker := time.NewTicker(r.opt.Tick)
	defer ticker.Stop()
	var due []*Conn
	for {
		select {
		case <-r.stop:
			return
		case <-ticker.C:
		}
		now := r.now()
		r.coarse.Store(now)
		for _, s := range r.shards {
			due = s.wheel.advance(now, due[:0])
			for _, c := range due {
				c.due(now)
			}
			clear(due)
		}
	}
}

var ping = NewFrame(OpPing, nil)

// due does what a connection's time has come for, and says when to look again.
func (c *Conn) due(now int64) {
	r := c.hub.registry
	if at := c.hangUpAt.Load(); at != 0 {
		if now >= at {
			c.abort()
		} else {
			c.shard.wheel.set(c, at)
		}
		return
	}
	if at := c.until.Load(); at != 0 {
		if now >= at {
			c.expire()
			return
		}
		c.shard.wheel.set(c, at)
		if c.until.Load() != at { // the client came back meanwhile, and its next ping is not to wait that long
			c.shard.wheel.set(c, now)
		}
		return
	}
	every := int64(r.keepAlive(c.hub))
	socket := c.out.current() // before heard: who comes back over another one is heard before it is there
	heard := c.heard.Load()
	if heard == busy {
		heard = now
	}
	if silence := 2*every + int64(r.opt.PingGrace); now >= heard+silence {
		if !c.detach(socket, ReasonPingTimeout, true) {
			c.end(ReasonPingTimeout)
			c.abort()
		}
		return
	} else if now >= c.pingAt {
		c.pingAt = now + every
		c.enqueue(ping)
		c.shard.wheel.set(c, min(c.pingAt, heard+silence))
	} else {
		c.shard.wheel.set(c, min(c.pingAt, heard+silence))
	}
	if at := c.hangUpAt.Load(); at != 0 { // closed meanwhile: its deadline may be the earlier one
		c.shard.wheel.set(c, at)
	}
}

func (r *Registry) keepAlive(h *Hub) time.Duration {
	if r.opt.KeepAlive != nil {
		if d := r.opt.KeepAlive(h.instance, h.name); d > 0 {
			return d
		}
	}
	return defaultKeepAlive
}

// overflows tells whether too much waits to be written. What a reliable connection keeps is bounded by itself.
func (r *Registry) overflows(q *queue) bool {
	return q.len() > r.opt.QueueMessages || q.size > r.opt.QueueBytes
}
