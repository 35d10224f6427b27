package hub

import (
	"bytes"
	"errors"
	"net"
	"os"
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
		go c.drain(nil)
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
	batch []*Frame
	limit int
	buf   []byte

	// For the call into the raw connection, made once so that nothing is allocated for each write.
	data []byte
	n    int
	err  error
	try  func(fd uintptr) bool
}

func newWriter(limit int) *writer {
	w := &writer{batch: make([]*Frame, 0, batchSize), limit: limit, buf: make([]byte, 0, limit)}
	w.try = func(fd uintptr) bool {
		w.n, w.err = writeNow(fd, w.data)
		return true
	}
	return w
}

var drainers = sync.Pool{New: func() any { return newWriter(drainBytes) }}

// join returns the batch as one piece, without a copy if it is one frame.
func (w *writer) join() []byte {
	switch len(w.batch) {
	case 0:
		return nil
	case 1:
		return w.batch[0].bytes
	}
	buf := w.buf[:0]
	for _, f := range w.batch {
		buf = append(buf, f.bytes...)
	}
	return buf
}

// take moves what is to be written next into the batch and returns the socket, which is nil if the connection was
// cut off meanwhile.
func (c *Conn) take(w *writer) (net.Conn, syscall.RawConn) {
	clear(w.batch)
	q := &c.out
	q.mu.Lock()
	defer q.mu.Unlock()
	w.batch = q.take(w.batch[:0], w.limit, c.hub.registry.coarse.Load())
	return q.socket, q.raw
}

// settle gives the schedule up if nothing is left to write, and then does what was to be done at the end. It
// reports whether the caller has to go on.
func (c *Conn) settle() bool {
	q := &c.out
	q.mu.Lock()
	if q.len() > 0 {
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
		c.cutOff()
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
		w.data = w.join()
		err := raw.Write(w.try)
		if err == nil {
			err = w.err
		}
		switch {
		case w.n == len(w.data) && err == nil:
		case err == nil || wouldBlock(err):
			rest := w.data[w.n:]
			if len(w.batch) > 1 {
				rest = bytes.Clone(rest) // it is in our buffer
			}
			go c.drain(rest)
			return
		default:
			c.Lost(ReasonLost)
		}
	}
	if c.settle() {
		c.schedule(false) // behind the others
	}
}

// drain writes rest and what is queued, waiting as long as it must, and ends when the queue is empty.
func (c *Conn) drain(rest []byte) {
	w := drainers.Get().(*writer)
	defer drainers.Put(w)
	for {
		socket, _ := c.out.where()
		if socket != nil && len(rest) > 0 {
			socket.SetWriteDeadline(time.Now().Add(c.hub.registry.opt.WriteStall))
			if _, err := socket.Write(rest); err != nil {
				c.fall(err)
			}
		}
		if !c.settle() {
			clear(w.batch)
			return
		}
		c.take(w)
		rest = w.join()
	}
}

// fall ends a connection whose socket refuses what is written to it.
func (c *Conn) fall(err error) {
	if errors.Is(err, os.ErrDeadlineExceeded) {
		c.end(ReasonSlowClient)
	} else {
		c.end(ReasonLost)
	}
	c.abort()
}
