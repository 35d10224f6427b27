package hub

import (
	"bytes"
	"errors"
	"net"
	"os"
	"runtime"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

const (
	flushBytes = 32 << 10 // what a flusher joins into one write, at most
	drainBytes = 16 << 10 // the same for a goroutine of its own; also a TLS record
	batchSize  = 256      // frames in one write, at most
)

// A shard writes for its share of the connections and watches their time.
type shard struct {
	dirty  atomic.Pointer[Conn] // connections with something to write, newest first, linked by after
	asleep atomic.Bool          // the flusher waits for wake
	wake   chan struct{}        // holds at most one
	wheel  wheel
}

func newShard(tick time.Duration) *shard {
	return &shard{wake: make(chan struct{}, 1), wheel: wheel{tick: int64(tick)}}
}

// schedule has the queue written by its shard's flusher or, if the socket may block, by a goroutine. The caller
// has set the queue's scheduled mark.
func (c *Conn) schedule(blocking bool) {
	if blocking {
		go c.drain(nil, nil)
		return
	}
	s := c.shard
	for {
		head := s.dirty.Load()
		c.after = head
		if s.dirty.CompareAndSwap(head, c) {
			break
		}
	}
	if s.asleep.Load() && s.asleep.CompareAndSwap(true, false) {
		s.wake <- struct{}{}
	}
}

// run is the shard's flusher.
func (s *shard) run(stop <-chan struct{}) {
	w := newWriter(flushBytes)
	for {
		list := s.dirty.Swap(nil)
		if list == nil {
			s.asleep.Store(true)
			if s.dirty.Load() != nil && s.asleep.CompareAndSwap(true, false) {
				continue
			}
			select {
			case <-s.wake:
				runtime.Gosched() // whoever is ready to publish does so first: what is queued by then goes out in one write
				continue
			case <-stop:
				return
			}
		}
		for c := reverse(list); c != nil; {
			after := c.after
			c.after = nil
			c.flush(w)
			c = after
		}
	}
}

func reverse(list *Conn) *Conn {
	var out *Conn
	for list != nil {
		list, list.after, out = list.after, out, list
	}
	return out
}

// A writer is the scratch memory of a goroutine that writes: a batch of frames and room to join them.
type writer struct {
	batch []outgoing
	pack  bool // the socket's client inflates
	limit int
	buf   []byte
	own   [2 * maxOwn]byte // see outgoing.append

	// For the call into the raw connection, made once so that nothing is allocated for each write.
	data []byte
	n    int
	err  error
	try  func(fd uintptr) bool
}

func newWriter(limit int) *writer {
	w := &writer{batch: make([]outgoing, 0, batchSize), limit: limit, buf: make([]byte, 0, limit)}
	w.try = func(fd uintptr) bool {
		w.n, w.err = writeNow(fd, w.data)
		return true
	}
	return w
}

var drainers = sync.Pool{New: func() any { return newWriter(drainBytes) }}

// join returns the batch as one piece, without a copy if it is one finished frame. copied tells whether the piece
// lies in the writer's own memory.
func (w *writer) join(codec Sequencer) (data []byte, copied bool) {
	switch {
	case len(w.batch) == 0:
		return nil, false
	case len(w.batch) == 1 && w.batch[0].sequence == 0:
		return w.batch[0].wire(w.pack), false
	}
	buf := w.buf[:0]
	if codec == nil {
		for _, n := range w.batch {
			buf = append(buf, n.wire(w.pack)...)
		}
		return buf, true
	}
	for _, n := range w.batch {
		buf = n.append(buf, codec, w.pack, &w.own)
	}
	if cap(buf) <= 2*w.limit { // grown by connections' own parts, not by a large message
		w.buf = buf
	}
	return buf, true
}

// take moves what is to be written next into the batch and returns the socket, which is nil if the connection was
// cut off meanwhile.
func (c *Conn) take(w *writer) (net.Conn, syscall.RawConn) {
	clear(w.batch)
	q := &c.out
	q.mu.Lock()
	defer q.mu.Unlock()
	w.batch, w.pack = q.take(w.batch[:0], w.limit, c.hub.registry.coarse.Load()), q.pack
	return q.socket, q.raw
}

// settle gives the schedule up if nothing is left to write, and then does what was to be done at the end. It
// reports whether the caller has to go on.
func (c *Conn) settle() bool {
	q := &c.out
	q.mu.Lock()
	if q.len() > 0 || q.socket != nil && q.replay.unsent() {
		q.mu.Unlock()
		return true
	}
	q.scheduled = false
	socket, hangUp, halfClose := q.socket, q.hangUp, q.halfClose
	q.mu.Unlock()
	switch {
	case socket == nil:
		c.hub.registry.open.Done()
	case hangUp:
		if !c.detach(socket, "", false) {
			c.cutOff()
		}
	case halfClose:
		if s, ok := socket.(interface{ CloseWrite() error }); ok {
			s.CloseWrite() // an error means that the socket is gone, which its reader notices
		}
	}
	return false
}

// flush writes one batch without waiting. What the socket does not take is left to a goroutine.
func (c *Conn) flush(w *writer) {
	socket, raw := c.take(w)
	if socket != nil && len(w.batch) > 0 {
		var copied bool
		w.data, copied = w.join(c.sequencer)
		w.n, w.err = 0, nil
		var err error
		if raw != nil { // else the client has just come back over a socket that may block
			if err = raw.Write(w.try); err == nil {
				err = w.err
			}
		}
		switch {
		case w.n == len(w.data) && err == nil:
		case err == nil || wouldBlock(err):
			rest := w.data[w.n:]
			if copied {
				rest = bytes.Clone(rest)
			}
			go c.drain(socket, rest)
			return
		default:
			c.Lost(socket, ReasonLost)
		}
	}
	if c.settle() {
		c.schedule(false) // behind the others
	}
}

// drain writes rest, which is the socket's, and what is queued, waiting as long as it must, and ends when the queue is
// empty.
func (c *Conn) drain(socket net.Conn, rest []byte) {
	w := drainers.Get().(*writer)
	defer drainers.Put(w)
	for {
		if socket != nil && len(rest) > 0 {
			socket.SetWriteDeadline(time.Now().Add(c.hub.registry.opt.WriteStall))
			if _, err := socket.Write(rest); err != nil {
				c.fall(socket, err)
			}
		}
		if !c.settle() {
			clear(w.batch)
			return
		}
		socket, _ = c.take(w)
		rest, _ = w.join(c.sequencer)
	}
}

// fall is what becomes of a connection whose socket refuses what is written to it.
func (c *Conn) fall(socket net.Conn, err error) {
	reason := ReasonLost
	if errors.Is(err, os.ErrDeadlineExceeded) {
		reason = ReasonSlowClient
	}
	if !c.detach(socket, reason, true) {
		c.end(reason)
		c.abort()
	}
}
