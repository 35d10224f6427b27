package eventhandler

import (
	"context"
	"sync"
	"time"

	"tabard/guard/reason"
	"tabard/internal/settings"
	"tabard/internal/trace"
)

// A Session is the event side of one logical client connection; it survives a reliable reconnect. It is safe for
// concurrent use and needs no closing: it owns no goroutine but while notifications wait.
type Session struct {
	d                 *Dispatcher
	instance, hub, id string

	mu                         sync.Mutex // guards the following
	userID, subprotocol, state string
	unsigned                   bool          // its events go to a host that no rule names, without ce-signature
	last                       uint64        // ce-id; 0 belongs to connect
	jar                        *jar          // nil until a handler sets a cookie
	wire                       *wire         // nil until the first event, and after Bind
	turn                       chan struct{} // holds one element while a blocking event is under way; nil until the first
	ended                      bool          // rejected or disconnected: nothing more to notify

	// Of the notifier, guarded by its lock.
	waiting   []note
	scheduled bool
}

// NewSession begins the event side of a connection. hub is the name as the client gave it; connectionID is the
// service's own, ASCII.
func (d *Dispatcher) NewSession(instance, hub, connectionID string) *Session {
	return &Session{d: d, instance: instance, hub: hub, id: connectionID}
}

// Bind sets what the handshake decided: the user ("" for none) and the negotiated subprotocol ("" for none). Later
// events carry it.
func (s *Session) Bind(userID, subprotocol string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.userID, s.subprotocol, s.wire = userID, subprotocol, nil
}

func (s *Session) user() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.userID
}

// nextID counts the events of the connection, notifications and user events alike, from 1.
func (s *Session) nextID() uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.last++
	return s.last
}

// instanceNow is the instance as it is configured now; false if it was deleted.
func (s *Session) instanceNow() (*settings.Instance, bool) {
	return s.d.opt.Settings().Instance(s.instance)
}

// begin waits until no other blocking event of the session is under way. True must be followed by end.
func (s *Session) begin(ctx context.Context) bool {
	s.mu.Lock()
	if s.turn == nil {
		s.turn = make(chan struct{}, 1)
	}
	turn := s.turn
	s.mu.Unlock()
	select {
	case turn <- struct{}{}:
		return true
	case <-ctx.Done():
		return false
	}
}

func (s *Session) end() { <-s.turn }

// adopt takes over the connection state of a successful answer to a blocking event. It fails, and changes nothing,
// for a state that no later request could carry.
func (s *Session) adopt(a *answer) *fault {
	states := a.header[canonicalState]
	if len(states) > 1 {
		s.d.log.Warn("event handler repeats ce-connectionState, the last one counts", "instance", s.instance, "hub", s.hub, "connection", s.id)
	}
	if len(states) > 0 {
		state := states[len(states)-1]
		switch {
		case len(state) > MaxState:
			return &fault{code: reason.StateTooLarge, err: errText("the answer's ce-connectionState is larger than 8 KiB")}
		case !visible(state, false):
			return &fault{code: reason.HeaderNotASCII, err: errText("the answer's ce-connectionState holds characters that a header may not hold")}
		}
		s.mu.Lock()
		s.state = state
		s.mu.Unlock()
	}
	return nil
}

// keepCookies stores what a successful answer sets.
func (s *Session) keepCookies(t *target, a *answer) {
	lines := a.header["Set-Cookie"]
	if len(lines) == 0 {
		return
	}
	s.mu.Lock()
	if s.jar == nil {
		s.jar = new(jar)
	}
	j := s.jar
	s.mu.Unlock()
	if n := j.store(t.url, lines); n > 0 {
		s.d.log.Warn("event handler sets an invalid cookie", "instance", s.instance, "hub", s.hub, "connection", s.id, "count", n)
	}
}

// unheard records an event that no handler takes, and returns the record.
func (s *Session) unheard(in *settings.Instance, ev *event) trace.Record {
	return s.d.opt.Trace.Keep(trace.Record{
		Time: time.Now(), Kind: trace.Delivery, Operation: trace.EventNotDelivered, Instance: in.Name, Hub: s.hub,
		Connection: s.id, User: s.user(), Event: ev.name, Bytes: len(ev.body), Synthetic: ev.synthetic,
		Stages: []trace.Stage{{Name: "match", Outcome: trace.Failed, Detail: "no rule of the hub takes it"}}, Code: reason.NoHandler,
	}, s.content(ev))
}

// errText is an error that is nothing but its text.
type errText string

func (e errText) Error() string { return string(e) }
