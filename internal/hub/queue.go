package hub

import (
	"net"
	"sync"
	"syscall"
)

// A queue holds what waits to be written to one socket, in order, with next to no memory of its own while it is
// short. At most one goroutine writes to the socket at a time: the one that holds the queue's schedule.
type queue struct {
	mu sync.Mutex // guards everything here

	scheduled bool // listed with the shard, or being written by somebody
	closed    bool // takes nothing more
	hangUp    bool // close the socket as soon as the queue is empty
	halfClose bool // shut the sending side down as soon as the queue is empty
	parting   bool // of a reliable connection: the last frame for this socket is queued

	frames []*Frame // in near, in an array of the pool, or in one that append made
	head   int      // frames before it are gone
	size   int      // bytes of the frames from head on
	replay *replay  // of a reliable connection: its messages, which wait there and not in frames; else nil
	near   [3]*Frame

	raw    syscall.RawConn // of a plain TCP socket: may be written to without waiting; else nil
	socket net.Conn        // nil after it was closed
	pack   bool            // its client inflates
	why    string          // of a reliable connection: its socket is gone, for the disconnected event
}

type far [64]*Frame

var fars = sync.Pool{New: func() any { return new(far) }}

func (q *queue) len() int { return len(q.frames) - q.head }

// push appends a frame; on a reliable connection behind the messages that are there.
func (q *queue) push(f *Frame) {
	if p := q.replay; p != nil {
		p.after = append(p.after, p.last)
	}
	switch {
	case q.frames == nil:
		q.frames = q.near[:0]
	case len(q.frames) < cap(q.frames):
	case q.head > 0: // make room before growing
		n := copy(q.frames, q.frames[q.head:])
		clear(q.frames[n:])
		q.frames, q.head = q.frames[:n], 0
	case cap(q.frames) == len(q.near):
		q.frames = append(fars.Get().(*far)[:0], q.frames...)
		q.near = [3]*Frame{}
	}
	q.frames = append(q.frames, f)
	q.size += len(f.bytes)
}

func (q *queue) current() net.Conn {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.socket
}

// reset forgets all frames and gives the memory back.
func (q *queue) reset() {
	clear(q.frames)
	if cap(q.frames) == len(far{}) {
		fars.Put((*far)(q.frames[:len(far{})]))
	}
	q.frames, q.head, q.size = nil, 0, 0
}

// dropExpired takes out the frames whose time is over.
func (q *queue) dropExpired(now int64) {
	kept := q.frames[:q.head]
	for _, f := range q.frames[q.head:] {
		if f.expired(now) {
			q.size -= len(f.bytes)
			continue
		}
		kept = append(kept, f)
	}
	clear(q.frames[len(kept):])
	q.frames = kept
}

// take moves frames to batch until they have limit bytes together, always at least one, dropping expired ones.
func (q *queue) take(batch []outgoing, limit int, now int64) []outgoing {
	if q.replay != nil {
		return q.takeNumbered(batch, limit, now)
	}
	size := 0
	for q.head < len(q.frames) && len(batch) < cap(batch) {
		f := q.frames[q.head]
		if !f.expired(now) {
			if size += len(f.bytes); size > limit && len(batch) > 0 {
				break
			}
			batch = append(batch, outgoing{Frame: f})
		}
		q.pop()
	}
	if q.head == len(q.frames) {
		q.reset()
	}
	return batch
}

// pop forgets the first frame.
func (q *queue) pop() {
	q.size -= len(q.frames[q.head].bytes)
	q.frames[q.head] = nil
	q.head++
}

// enqueue appends frames in one piece and sees to it that they are written. It reports false if the connection
// takes no more. One that has too much waiting is cut off.
func (c *Conn) enqueue(frames ...*Frame) bool {
	ok, over := c.queueUp(frames...)
	if over {
		c.overflow()
	}
	return ok
}

// overflow ends a connection that has too much waiting.
func (c *Conn) overflow() {
	c.end(ReasonSlowClient)
	c.abort()
}

// queueUp is enqueue, but leaves it to the caller to end a connection that has too much waiting.
func (c *Conn) queueUp(frames ...*Frame) (ok, over bool) {
	q, r := &c.out, c.hub.registry
	q.mu.Lock()
	if q.closed || q.replay != nil && (q.socket == nil || q.parting) {
		q.mu.Unlock()
		return false, false
	}
	for _, f := range frames {
		q.push(f)
	}
	if r.overflows(q) {
		q.dropExpired(r.now())
		if r.overflows(q) {
			q.closed = true
			q.mu.Unlock()
			return false, true
		}
	}
	if q.scheduled { // as in written, and without a call
		q.mu.Unlock()
	} else {
		c.written(q)
	}
	return true, false
}

// finish queues the last frames, even if that exceeds the bounds, and closes the queue.
func (c *Conn) finish(hangUp, halfClose bool, frames []*Frame) {
	q := &c.out
	q.mu.Lock()
	if q.closed {
		q.mu.Unlock()
		return
	}
	if q.socket == nil { // nobody is there to be told
		q.closed = true
		q.mu.Unlock()
		c.shard.wheel.remove(c)
		return
	}
	for _, f := range frames {
		q.push(f)
	}
	q.closed, q.hangUp, q.halfClose = true, hangUp, halfClose
	c.written(q)
}

// cutOff closes the socket and forgets what was not written.
func (c *Conn) cutOff() { c.drop(false) }

// abort is cutOff for a client that does not read: what the kernel holds is thrown away too.
func (c *Conn) abort() { c.drop(true) }

func (c *Conn) drop(reset bool) {
	q := &c.out
	q.mu.Lock()
	socket := q.socket
	q.socket, q.raw, q.closed = nil, nil, true
	q.reset()
	if q.replay != nil {
		*q.replay = replay{}
	}
	scheduled := q.scheduled
	q.mu.Unlock()
	if socket == nil {
		c.shard.wheel.remove(c)
		return
	}
	if reset {
		abandon(socket)
	} else {
		socket.Close()
	}
	c.shard.wheel.remove(c)
	if !scheduled {
		c.hub.registry.open.Done()
	}
}

// abandon closes a socket without a farewell: what the kernel has not sent is thrown away, and a TLS connection, whose
// Close would first wait for room to say goodbye, is closed underneath.
func abandon(socket net.Conn) {
	if over, ok := socket.(interface{ NetConn() net.Conn }); ok {
		socket = over.NetConn()
	}
	if tcp, ok := socket.(interface{ SetLinger(sec int) error }); ok {
		tcp.SetLinger(0) // fails only if it is closed already
	}
	socket.Close()
}
