package clientws

import (
	"context"
	"encoding/binary"
	"errors"
	"sync"
	"time"

	"tabard/internal/eventhandler"
	"tabard/internal/hub"
	"tabard/internal/subprotocol"
)

// A client is the service's side of one logical connection. All but what mu guards belongs to its reader, of which
// there is one at a time: a reliable client that comes back over another socket waits until what the old one brought
// has been dealt with.
type client struct {
	turn     sync.Mutex // held for the reader, which may be this goroutine or that
	server   *Server
	conn     *hub.Conn
	hub      *hub.Hub
	instance string
	session  *eventhandler.Session
	protocol subprotocol.Protocol
	mode     mode
	pace     *pace
	parser   parser
	acks     acked
	streams  streams
	since    time.Time // for the records, and where the client is
	caller   string

	asked  chan struct{} // closed when the event that was under way is over; nil: there was none
	putOff []frame       // what a loop could not take in, see quick

	mu         sync.Mutex              // guards the following
	started    bool                    // the connected event is on its way
	over       bool                    // the connection ended
	why        string                  // for the disconnected event
	cancel     context.CancelCauseFunc // gives the pending event up; nil: none is pending
	invocation string                  // of the pending event; empty: it is none
}

// start sends the connected event, and what could not be sent before it.
func (cl *client) start() {
	cl.session.Connected()
	cl.mu.Lock()
	cl.started = true
	over, why := cl.over, cl.why
	cl.mu.Unlock()
	if over {
		cl.finished(why)
		cl.session.Disconnected(why)
	}
}

// ended is called by the hub when the connection has ended, on any goroutine.
func (cl *client) ended(reason string) {
	cl.mu.Lock()
	cl.over, cl.why = true, reason
	started, cancel := cl.started, cl.cancel
	cl.mu.Unlock()
	if cancel != nil {
		cancel(errEnded) // nobody is left to hear the answer
	}
	cl.cancelStreams()
	if started {
		cl.finished(reason)
		cl.session.Disconnected(reason)
	}
}

// pending notes how to give a blocking event up, or with nil that it is over. It reports false if the connection
// has ended.
func (cl *client) pending(cancel context.CancelCauseFunc, invocation string) bool {
	cl.mu.Lock()
	defer cl.mu.Unlock()
	cl.cancel, cl.invocation = cancel, invocation
	return !cl.over
}

// giveUp cancels an invocation, if it is the one under way: its answer is not wanted any more.
func (cl *client) giveUp(invocation string) {
	cl.mu.Lock()
	cancel := cl.cancel
	if cl.invocation != invocation {
		cancel = nil
	}
	cl.mu.Unlock()
	if cancel != nil {
		cancel(errCancelled)
	}
}

// errClosed ends the reading after the client's close frame.
var errClosed = errors.New("the client closed the connection")

// control acts upon a control frame.
func (cl *client) control(op hub.Opcode, payload []byte) error {
	switch op {
	case hub.OpPing:
		cl.conn.Send(hub.NewFrame(hub.OpPong, payload))
	case hub.OpClose:
		code := hub.CloseNone
		if len(payload) >= 2 {
			code = hub.CloseCode(binary.BigEndian.Uint16(payload))
		}
		cl.settle()
		cl.conn.Answer(code)
		return errClosed
	}
	return nil
}
