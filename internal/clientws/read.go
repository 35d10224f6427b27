package clientws

import (
	"bytes"
	"cmp"
	"errors"
	"net"

	"tabard/internal/hub"
)

// serve has the client, whose turn it is, served until its socket is gone: by a loop over many sockets where there is
// one for it, otherwise by a goroutine. The caller is counted in the server's goroutines, and so is the client from now
// on.
func (cl *client) serve(conn net.Conn, early []byte, deflate bool) {
	cl.server.wg.Add(1)
	cl.parser = parser{limit: cl.server.opt.MaxMessage, deflate: deflate}
	if len(early) > 0 || !watch(conn, cl) {
		go cl.read(conn, early)
	}
}

// read serves the client on a goroutine of its own, which may wait for the application.
func (cl *client) read(conn net.Conn, early []byte) {
	s := scratches.Get().(*scratch)
	err := cl.take(s, early)
	scratches.Put(s)
	if err == nil {
		err = errBusy
	}
	cl.goOn(conn, err)
}

// Ways in which reading ends for the time being.
var (
	errBusy   = errors.New("the client's next request waits for the application")
	errAtRest = errors.New("nothing waits for the application any more")
)

// take takes in what the client sent.
func (cl *client) take(s *scratch, data []byte) error {
	cl.conn.Heard()
	return cl.parser.feed(s, data, cl)
}

// takeQuickly is take for a loop, which must not wait: what has to wait for the application is put off, and the error is
// errBusy.
func (cl *client) takeQuickly(s *scratch, data []byte) error {
	cl.conn.Heard()
	err := cl.parser.feed(s, data, quick{cl})
	if err == nil && len(cl.putOff) > 0 {
		return errBusy
	}
	return err
}

// A quick sink puts off what comes while the application is asked.
type quick struct{ *client }

func (q quick) message(op hub.Opcode, payload []byte) error {
	return q.now((*client).message, op, payload)
}

func (q quick) control(op hub.Opcode, payload []byte) error {
	return q.now((*client).control, op, payload)
}

// now passes a frame on to take, unless it has to wait, itself or for something before it.
func (q quick) now(take taker, op hub.Opcode, payload []byte) error {
	if len(q.putOff) > 0 || q.waiting() {
		q.putOff = append(q.putOff, frame{take, op, bytes.Clone(payload)})
		return nil
	}
	return take(q.client, op, payload)
}

// A taker is how a client takes a message or a control frame.
type taker func(cl *client, op hub.Opcode, payload []byte) error

// A frame is a message or control frame that was put off.
type frame struct {
	take    taker
	op      hub.Opcode
	payload []byte
}

// goOn serves the client after err: with what was put off and what comes then if it is errBusy, until a loop can take
// over again; to the end of the socket otherwise.
func (cl *client) goOn(conn net.Conn, err error) {
	for _, f := range cl.putOff {
		if failed := f.take(cl, f.op, f.payload); failed != nil {
			err = failed
			break
		}
	}
	cl.putOff = nil
	for err == errBusy || err == errAtRest {
		busy := cl.waiting
		if err == errAtRest {
			if watch(conn, cl) {
				return
			}
			busy = nil // no loop takes it, and it is this goroutine's to the end
		}
		err = receive(conn, cl.take, busy)
	}
	cl.finish(conn, err)
}

// finish ends the reading of a socket from which nothing more is expected, for the reason err.
func (cl *client) finish(conn net.Conn, err error) {
	var bad *violation
	if errors.As(err, &bad) {
		cl.settle()
		cl.server.opt.Log.Debug("frame refused", "hub", cl.hub.Name(), "conn", cl.conn.ID(), "why", bad.text)
		cl.conn.Fail(bad.code, bad.text, reasonBadRequest)
	}
	if bad != nil || errors.Is(err, errClosed) {
		// The last frames are on their way, and the hub closes the socket after them or in time. What the client is
		// still sending is read until then: closing a socket with unread bytes can take back what was written.
		_ = receive(conn, func(*scratch, []byte) error { return nil }, nil)
	}
	if !cl.conn.Reliable() {
		cl.settle() // what the client sent before it went is carried out
	}
	cl.conn.Lost(conn, hub.ReasonLost)
	release(conn)
	cl.turn.Unlock()
	cl.server.wg.Done()
}

// receive passes on what comes until it or the socket fails. Between messages it holds no buffer. If busy is given and
// says no when there is nothing to read, and the socket is one that a loop can read, that ends with errAtRest.
func receive(conn net.Conn, feed func(*scratch, []byte) error, busy func() bool) error {
	if raw := rawConn(conn); raw != nil {
		if !loopable(conn) {
			busy = nil
		}
		return receiveRaw(raw, feed, busy)
	}
	// A read that waits needs a buffer: a small one, since most connections wait most of the time.
	var small [512]byte
	for {
		n, err := conn.Read(small[:])
		s := scratches.Get().(*scratch)
		stop := feed(s, small[:n])
		for full := n == len(small); full && stop == nil && err == nil; full = n == len(s.buf) {
			n, err = conn.Read(s.buf[:]) // the rest of what came
			stop = feed(s, s.buf[:n])
		}
		scratches.Put(s)
		if stop = cmp.Or(stop, err); stop != nil {
			return stop
		}
	}
}
