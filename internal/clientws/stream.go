package clientws

import (
	"sync"
	"time"

	"tabard/internal/hub"
	"tabard/internal/subprotocol"
)

// maxStreams bounds the open streams of one connection.
const maxStreams = 100

// streams are what a client publishes in parts (client protocol, section 11). They belong to the logical connection:
// they survive a recovery and die with the connection.
type streams struct {
	mu   sync.Mutex // guards everything, and keeps a stream's messages in order
	open map[string]*stream
}

type stream struct {
	group    string
	noEcho   bool
	expected uint64 // number of the next part
	idle     time.Duration
	timer    *time.Timer
}

func streamFailure(name, message string) *subprotocol.AckError {
	return &subprotocol.AckError{Name: name, Message: message}
}

// startStream opens a stream, or says why not.
func (cl *client) startStream(req *subprotocol.Request) {
	if !cl.conn.Allows(hub.SendToGroup, req.Group) {
		cl.conn.Send(cl.protocol.StreamClosed(req.Stream, forbidden("send to", req.Group)))
		return
	}
	s := &cl.streams
	s.mu.Lock()
	defer cl.releaseStreams()
	switch {
	case s.open[req.Stream] != nil:
		cl.conn.Send(cl.protocol.StreamClosed(req.Stream, streamFailure(subprotocol.BadRequest, "A stream with this id is open.")))
		return
	case len(s.open) >= maxStreams:
		cl.conn.Send(cl.protocol.StreamClosed(req.Stream, streamFailure(subprotocol.BadRequest, "The connection has too many open streams.")))
		return
	case cl.conn.Gone(): // its end has closed all streams
		return
	}
	st := &stream{group: req.Group, noEcho: req.NoEcho, expected: 1, idle: req.IdleTimeout}
	if st.idle == 0 {
		st.idle = subprotocol.DefaultIdleTimeout
	}
	if s.open == nil {
		s.open = make(map[string]*stream)
	}
	s.open[req.Stream] = st
	id := req.Stream
	st.timer = time.AfterFunc(st.idle, func() { cl.streamIdle(id, st) })
	cl.conn.Send(cl.protocol.StreamAck(id, 1))
}

// streamPart publishes the next part of a stream, or notes that it goes on.
func (cl *client) streamPart(req *subprotocol.Request) {
	s := &cl.streams
	s.mu.Lock()
	defer cl.releaseStreams()
	st := s.open[req.Stream]
	if st == nil {
		cl.conn.Send(cl.protocol.StreamClosed(req.Stream, streamFailure(subprotocol.StreamNotFound, "No stream with this id is open.")))
		return
	}
	st.timer.Reset(st.idle)
	switch {
	case req.NoData:
	case !cl.conn.Allows(hub.SendToGroup, st.group): // it was allowed at the start
		failure := forbidden("send to", st.group)
		cl.endStream(req.Stream, st, &hub.StreamError{Name: failure.Name, Message: failure.Message})
		cl.conn.Send(cl.protocol.StreamClosed(req.Stream, failure))
	case req.StreamSequence < st.expected: // a repetition
		cl.conn.Send(cl.protocol.StreamAck(req.Stream, st.expected))
	case req.StreamSequence > st.expected:
		cl.conn.Send(cl.protocol.StreamNack(req.Stream, st.expected, *streamFailure(subprotocol.InvalidSequenceID, "A part is missing before this one.")))
	default:
		cl.publishPart(st, &hub.Message{Type: req.Type, Data: req.Data, Stream: &hub.StreamInfo{ID: req.Stream, Sequence: st.expected}})
		st.expected++
		cl.conn.Send(cl.protocol.StreamAck(req.Stream, st.expected))
	}
}

func (cl *client) publishPart(st *stream, m *hub.Message) {
	m.Group, m.FromUserID = st.group, cl.conn.UserID()
	var o hub.SendOptions
	if st.noEcho {
		o.Except = cl.conn
	}
	if m.Stream.End { // without an envelope it would be an empty frame
		o.Match = func(c *hub.Conn) bool {
			_, enveloped := subprotocol.ByName(c.Subprotocol())
			return enveloped
		}
	}
	cl.published(m, cl.hub.SendToGroup(m, o))
}

// endStream publishes the last message of a stream and forgets it. It carries an empty text, for clients pass over
// messages without data.
func (cl *client) endStream(id string, st *stream, failure *hub.StreamError) {
	st.timer.Stop()
	delete(cl.streams.open, id)
	cl.publishPart(st, &hub.Message{Type: hub.Text, Data: []byte{}, Stream: &hub.StreamInfo{ID: id, Sequence: st.expected, End: true, Error: failure}})
}

// finishStream ends a stream as its publisher wants it.
func (cl *client) finishStream(req *subprotocol.Request) {
	s := &cl.streams
	s.mu.Lock()
	defer cl.releaseStreams()
	st := s.open[req.Stream]
	if st == nil {
		cl.conn.Send(cl.protocol.StreamClosed(req.Stream, streamFailure(subprotocol.StreamNotFound, "No stream with this id is open.")))
		return
	}
	var failure *hub.StreamError
	if e := req.StreamError; e != nil {
		failure = &hub.StreamError{Name: subprotocol.UserError, Message: e.Message, UserCode: e.UserCode}
	}
	cl.endStream(req.Stream, st, failure)
	cl.conn.Send(cl.protocol.StreamClosed(req.Stream, nil))
}

// streamIdle ends a stream that was silent for too long.
func (cl *client) streamIdle(id string, st *stream) {
	s := &cl.streams
	s.mu.Lock()
	defer cl.releaseStreams()
	if s.open[id] != st {
		return
	}
	const message = "The stream was idle for too long."
	cl.endStream(id, st, &hub.StreamError{Name: subprotocol.IdleTimeout, Message: message})
	cl.conn.Send(cl.protocol.StreamClosed(id, streamFailure(subprotocol.IdleTimeout, message)))
}

// releaseStreams gives the lock back. If the connection has ended meanwhile, perhaps by what the holder itself did,
// its streams end here.
func (cl *client) releaseStreams() {
	cl.streams.mu.Unlock()
	if cl.conn.Gone() {
		cl.cancelStreams()
	}
}

// cancelStreams ends what a publisher left open when its connection ended. It never waits: who holds the lock looks
// after the streams when giving it back.
func (cl *client) cancelStreams() {
	s := &cl.streams
	if !s.mu.TryLock() {
		return
	}
	defer s.mu.Unlock()
	for id, st := range s.open {
		cl.endStream(id, st, &hub.StreamError{Name: subprotocol.Cancelled, Message: "The publisher's connection has ended."})
	}
}
