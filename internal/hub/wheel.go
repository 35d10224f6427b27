package hub

import "sync"

const wheelSlots = 256

// A wheel calls connections back at their time, to the precision of a tick, without a timer for each: connections
// are listed by the slot of their time, and each tick looks at one slot.
type wheel struct {
	tick int64 // nanoseconds

	mu    sync.Mutex // guards the rest and the timers of all connections in it
	slots [wheelSlots]*Conn
	at    int64 // ticks that have passed
}

// A timer is a connection's place in the wheel.
type timer struct {
	prev, next *Conn
	due        int64 // registry time
	listed     bool
	dead       bool // never to be listed again
}

func (w *wheel) slot(due int64) **Conn { return &w.slots[due/w.tick%wheelSlots] }

// set has c called back at due, a registry time, instead of any earlier wish.
func (w *wheel) set(c *Conn, due int64) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if c.timer.dead {
		return
	}
	w.unlink(c)
	c.timer.due = max(due, (w.at+1)*w.tick) // the slot of now was looked at already
	w.link(c)
}

// remove takes c out for good.
func (w *wheel) remove(c *Conn) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.unlink(c)
	c.timer.dead = true
}

func (w *wheel) link(c *Conn) {
	head := w.slot(c.timer.due)
	c.timer.next, c.timer.listed = *head, true
	if *head != nil {
		(*head).timer.prev = c
	}
	*head = c
}

func (w *wheel) unlink(c *Conn) {
	t := &c.timer
	if !t.listed {
		return
	}
	if t.prev != nil {
		t.prev.timer.next = t.next
	} else {
		*w.slot(t.due) = t.next
	}
	if t.next != nil {
		t.next.timer.prev = t.prev
	}
	t.prev, t.next, t.listed = nil, nil, false
}

// advance appends to out the connections whose time has come until now and takes them off the wheel.
func (w *wheel) advance(now int64, out []*Conn) []*Conn {
	w.mu.Lock()
	defer w.mu.Unlock()
	last := now / w.tick
	from := max(w.at+1, last-wheelSlots+1) // a long pause looks at each slot once
	for t := from; t <= last; t++ {
		for c := w.slots[t%wheelSlots]; c != nil; {
			next := c.timer.next
			if c.timer.due/w.tick <= last {
				w.unlink(c)
				out = append(out, c)
			}
			c = next
		}
	}
	w.at = max(w.at, last)
	return out
}

// all appends every connection on the wheel to out.
func (w *wheel) all(out []*Conn) []*Conn {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, c := range w.slots {
		for ; c != nil; c = c.timer.next {
			out = append(out, c)
		}
	}
	return out
}
