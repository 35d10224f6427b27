package clientws

import (
	"cmp"
	"errors"
	"net"

	"tabard/internal/hub"
)

// read serves the client, whose turn it is, until its socket is gone. It is the only place that knows how bytes come to
// the parser: a loop over many sockets would feed the same parser.
func (cl *client) read(conn net.Conn, early []byte) {
	cl.parser = parser{limit: cl.server.opt.MaxMessage}
	feed := func(s *scratch, data []byte) error {
		cl.conn.Heard()
		return cl.parser.feed(s, data, cl)
	}
	s := scratches.Get().(*scratch)
	err := feed(s, early)
	scratches.Put(s)
	if err == nil {
		err = receive(conn, feed)
	}
	var bad *violation
	if errors.As(err, &bad) {
		cl.settle()
		cl.server.opt.Log.Debug("frame refused", "hub", cl.hub.Name(), "conn", cl.conn.ID(), "why", bad.text)
		cl.conn.Fail(bad.code, bad.text, reasonBadRequest)
	}
	if bad != nil || errors.Is(err, errClosed) {
		// The last frames are on their way, and the hub closes the socket after them or in time. What the client is
		// still sending is read until then: closing a socket with unread bytes can take back what was written.
		_ = receive(conn, func(*scratch, []byte) error { return nil })
	}
	if !cl.conn.Reliable() {
		cl.settle() // what the client sent before it went is carried out
	}
	cl.conn.Lost(conn, hub.ReasonLost)
}

// receive passes on what comes until it or the socket fails. Between messages it holds no buffer.
func receive(conn net.Conn, feed func(*scratch, []byte) error) error {
	if raw := rawConn(conn); raw != nil {
		return receiveRaw(raw, feed)
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
