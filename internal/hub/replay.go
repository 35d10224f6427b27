package hub

import (
	"math"
	"net"
)

// A Sequencer is the codec of a reliable subprotocol: each connection numbers its messages, keeps them until the
// client has acknowledged them, and survives the loss of its socket for Options.RecoveryWindow.
//
// AppendMessage of such a codec writes the part of a payload that all receivers share. A connection's own are its end,
// by AppendSequence, and its start, by AppendStart, which is told how many bytes come behind it.
type Sequencer interface {
	Codec
	AppendStart(dst []byte, n int) []byte
	AppendSequence(dst []byte, n uint64) []byte
}

// maxOwn is more than what AppendStart or AppendSequence writes.
const maxOwn = 48

// A replay is the messages that a reliable client has not acknowledged, oldest first, sent or not. The queue's lock
// guards it.
type replay struct {
	last uint64 // sequence id of the newest message
	kept []outgoing
	head int // messages before it are gone
	next int // messages from it on are to be sent
	size int // bytes of the messages from head on

	until  uint64   // messages beyond it are not sent over this socket
	after  []uint64 // for each frame in the queue: the message that it comes behind
	placed int      // entries of after before it are gone
}

func newReplay() *replay { return &replay{until: math.MaxUint64} }

// smallReplay is how much room a replay keeps when it is empty.
const smallReplay = 16

func (p *replay) len() int { return len(p.kept) - p.head }

// unsent tells whether a message is to be sent.
func (p *replay) unsent() bool {
	return p != nil && p.next < len(p.kept) && p.kept[p.next].sequence <= p.until
}

// add numbers a message and keeps it.
func (p *replay) add(shared *Frame) {
	p.last++
	if p.head > 0 && len(p.kept) == cap(p.kept) { // make room before growing
		n := copy(p.kept, p.kept[p.head:])
		clear(p.kept[n:])
		p.kept, p.head, p.next = p.kept[:n], 0, p.next-p.head
	}
	p.kept = append(p.kept, outgoing{shared, p.last})
	p.size += len(shared.bytes)
}

// release forgets what the client has up to a sequence id. Ids of the past and of the future release nothing wrong.
func (p *replay) release(upTo uint64) {
	for p.head < p.next && p.kept[p.head].sequence <= upTo {
		p.size -= len(p.kept[p.head].bytes)
		p.kept[p.head] = outgoing{}
		p.head++
	}
	if p.head == len(p.kept) {
		if p.head, p.next, p.kept = 0, 0, p.kept[:0]; cap(p.kept) > smallReplay {
			p.kept = nil
		}
	}
}

// dropExpired forgets messages whose time is over.
func (p *replay) dropExpired(now int64) {
	kept, next := p.kept[:0], 0
	for i, n := range p.kept[p.head:] {
		if n.expired(now) {
			p.size -= len(n.bytes)
			continue
		}
		if p.head+i < p.next {
			next++
		}
		kept = append(kept, n)
	}
	clear(p.kept[len(kept):])
	p.kept, p.head, p.next = kept, 0, next
}

// rewind makes ready for another socket, over which everything is sent again.
func (p *replay) rewind() {
	p.next, p.until, p.after, p.placed = p.head, math.MaxUint64, p.after[:0], 0
}

// takeNumbered is take for a reliable connection: messages, and frames of the queue behind those that were there
// before them.
func (q *queue) takeNumbered(batch []outgoing, limit int, now int64) []outgoing {
	p, size := q.replay, 0
	for len(batch) < cap(batch) {
		own := q.len() > 0
		if own && p.unsent() {
			own = p.after[p.placed] < p.kept[p.next].sequence
		}
		n := outgoing{}
		switch {
		case own:
			n.Frame = q.frames[q.head]
		case !p.unsent():
			return batch
		default:
			if n = p.kept[p.next]; n.expired(now) {
				p.next++
				continue
			}
		}
		if size += len(n.bytes); size > limit && len(batch) > 0 {
			return batch
		}
		batch = append(batch, n)
		if !own {
			p.next++
			continue
		}
		q.pop()
		if p.placed++; q.len() == 0 {
			q.reset()
			p.after, p.placed = p.after[:0], 0
		}
	}
	return batch
}

// publish numbers a message, keeps it and, if there is a socket, queues it. It reports false if the connection takes
// no more. One that has too much unacknowledged is cut off for good.
func (c *Conn) publish(shared *Frame) bool {
	q, r := &c.out, c.hub.registry
	q.mu.Lock()
	if q.closed {
		q.mu.Unlock()
		return false
	}
	q.replay.add(shared)
	if p := q.replay; p.len() > r.opt.QueueMessages || p.size > r.opt.QueueBytes {
		p.dropExpired(r.now())
		if p.len() > r.opt.QueueMessages || p.size > r.opt.QueueBytes {
			q.closed = true
			q.mu.Unlock()
			c.overflow()
			return false
		}
	}
	if q.socket == nil || q.parting {
		q.mu.Unlock()
		return true // it is written when the client is back
	}
	c.written(q)
	return true
}

// written unlocks a queue that has something new in it and sees to it that it is written.
func (c *Conn) written(q *queue) {
	if q.scheduled {
		q.mu.Unlock()
		return
	}
	q.scheduled = true
	blocking := q.raw == nil
	q.mu.Unlock()
	c.schedule(blocking)
}

// Reliable tells whether the connection numbers its messages and survives the loss of its socket.
func (c *Conn) Reliable() bool { return c.out.replay != nil }

// Acknowledge releases the messages up to a sequence id. It may be repeated and go backwards; on a connection that
// numbers nothing it does nothing.
func (c *Conn) Acknowledge(upTo uint64) {
	if !c.Reliable() {
		return
	}
	c.out.mu.Lock()
	defer c.out.mu.Unlock()
	c.out.replay.release(upTo)
}

// part answers the close frame of a client that may come back, and gives the socket up when the answer is written.
func (c *Conn) part(code CloseCode) {
	q := &c.out
	q.mu.Lock()
	if q.closed || q.socket == nil || q.parting {
		q.mu.Unlock()
		return
	}
	q.push(closeFrame(code, ""))
	q.parting, q.hangUp, q.replay.until = true, true, q.replay.last
	c.written(q)
}

// detach takes the socket from a connection that its client may resume, and begins the time for that. It reports
// false if the connection is not of that kind, or is over. A socket that is no longer the connection's changes
// nothing.
func (c *Conn) detach(socket net.Conn, reason string, reset bool) bool {
	if !c.Reliable() {
		return false
	}
	gone := c.Gone()
	q, r := &c.out, c.hub.registry
	q.mu.Lock()
	switch {
	case q.socket != nil && q.socket != socket: // the client is back over another one, which may be saying goodbye
		q.mu.Unlock()
		return true
	case gone, q.closed:
		q.mu.Unlock()
		return false
	case q.socket == nil:
		q.mu.Unlock()
		return true
	}
	if q.parting {
		reason = "" // the client said goodbye
	}
	q.release()
	q.why = reason
	until := r.now() + int64(r.opt.RecoveryWindow)
	c.until.Store(until)
	c.shard.wheel.set(c, until)
	scheduled := q.scheduled
	q.mu.Unlock()
	if reset {
		abandon(socket)
	} else {
		socket.Close()
	}
	if !scheduled {
		r.open.Done()
	}
	return true
}

// release lets go of the socket and of what waits for it.
func (q *queue) release() {
	q.socket, q.raw = nil, nil
	q.parting, q.hangUp, q.halfClose = false, false, false
	q.reset()
	q.replay.rewind()
}

// expire ends a connection whose client did not come back in time.
func (c *Conn) expire() {
	q := &c.out
	q.mu.Lock()
	if q.closed || q.socket != nil {
		q.mu.Unlock()
		return
	}
	q.closed = true
	why := q.why
	q.mu.Unlock()
	c.end(why)
	c.shard.wheel.remove(c)
}

// Resume gives a reliable connection a new socket, whether it has lost the old one or not: first is written before
// everything else, then all that the client has not acknowledged, in order and under the old numbers, and then afresh
// the group states that it watches. On error, [ErrGone] or [ErrClosed], the socket is the caller's again and nothing
// was written. Over this socket messages go out compressed if they did before and deflate says that the client has agreed
// to it again.
func (c *Conn) Resume(socket net.Conn, deflate bool, first ...*Frame) error {
	if !c.Reliable() {
		return ErrGone
	}
	q, r := &c.out, c.hub.registry
	r.mu.Lock()
	if r.closed {
		r.mu.Unlock()
		return ErrClosed
	}
	r.open.Add(1)
	r.mu.Unlock()
	raw := rawConn(socket)
	every := int64(r.keepAlive(c.hub))
	q.mu.Lock()
	if q.closed {
		q.mu.Unlock()
		r.open.Done()
		return ErrGone
	}
	now := r.now()
	old := q.socket
	counted := old != nil || q.scheduled // as a connection with a socket; whoever writes to it goes on with the new one
	if c.heard.Load() != busy {
		c.heard.Store(now) // before the socket is there to be found silent
	}
	c.until.Store(0)
	c.shard.wheel.set(c, now+every)
	q.release()
	q.replay.dropExpired(now)
	q.socket, q.raw, q.pack = socket, raw, deflate && c.deflate
	for i, f := range first {
		q.push(f)
		q.replay.after[i] = 0 // before all messages
	}
	c.written(q)
	if counted {
		r.open.Done()
	}
	if old != nil {
		abandon(old)
	}
	c.hub.states.resumed(c)
	return nil
}
