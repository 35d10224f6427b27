package eventhandler

import (
	"context"
	"encoding/json"
	"sync"
	"time"

	"tabard/guard/reason"
	"tabard/internal/settings"
	"tabard/internal/trace"
)

// A note is a notification on its way: which handler it goes to was decided when it happened.
type note struct {
	in *settings.Instance
	h  *settings.EventHandler
	ev *event
}

// notifier queues notifications. Those of one session are delivered in order, one at a time. Sessions of one hub
// share a lane with a bounded number of workers.
type notifier struct {
	d *Dispatcher

	mu       sync.Mutex // guards all below, and waiting and scheduled of every Session; no other lock is taken within
	lanes    map[laneKey]*lane
	pending  int // notes that wait or are under way
	draining bool
	empty    chan struct{} // closed when pending reaches 0 while draining
}

type laneKey struct{ instance, hub string }

type lane struct {
	ready   []*Session // scheduled, first in first out
	workers int
}

// Connected tells the hub's handler, if one wants to know, that the connection is established. It returns at once.
func (s *Session) Connected() { s.notify("connected", []byte("{}")) }

// Disconnected tells the hub's handler, if one wants to know, that the logical connection has ended: reason is ""
// when the client closed it. It is delivered after everything before it, even if the client or its request has
// gone, and once; later notifications are ignored. It returns at once.
func (s *Session) Disconnected(reason string) {
	body, err := json.Marshal(struct {
		Reason string `json:"reason"`
	}{reason})
	if err != nil {
		panic(err) // a string always encodes
	}
	s.notify("disconnected", body)
}

func (s *Session) notify(name string, body []byte) {
	s.mu.Lock()
	ended := s.ended
	s.ended = ended || name == "disconnected"
	s.mu.Unlock()
	if ended {
		return
	}
	in, ok := s.instanceNow()
	if !ok {
		return
	}
	h := in.Hub(s.hub).SystemHandler(name)
	if h == nil {
		return
	}
	n := note{in, h, &event{name: name, id: s.nextID(), time: time.Now(), contentType: vJSON, body: body}}
	if !s.d.notes.add(s, n) {
		s.dropped(n, "too many notifications wait, or the service is stopping")
	}
}

// add queues a note unless there are too many.
func (q *notifier) add(s *Session, n note) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.draining || q.pending >= q.d.opt.MaxNotifications {
		return false
	}
	q.pending++
	s.waiting = append(s.waiting, n)
	if s.scheduled {
		return true
	}
	s.scheduled = true
	k := laneKey{s.instance, s.hub}
	l := q.lanes[k]
	if l == nil {
		l = new(lane)
		q.lanes[k] = l
	}
	l.ready = append(l.ready, s)
	if l.workers < q.d.opt.NotificationsPerHub {
		// A worker lives while there is work, so it begins before Close stops waiting: pending is not 0.
		l.workers++
		q.d.wg.Go(func() { q.work(k, l) })
	}
	return true
}

// work delivers notes of a lane until there are none.
func (q *notifier) work(k laneKey, l *lane) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for len(l.ready) > 0 {
		s := l.ready[0]
		l.ready[0] = nil
		l.ready = l.ready[1:]
		n := s.waiting[0]
		s.waiting = s.waiting[1:]
		q.mu.Unlock()

		s.tell(q.d.ctx, n)

		q.mu.Lock()
		q.pending--
		if q.draining && q.pending == 0 {
			close(q.empty)
		}
		if len(s.waiting) > 0 {
			l.ready = append(l.ready, s)
		} else {
			s.waiting, s.scheduled = nil, false
		}
	}
	if l.workers--; l.workers == 0 {
		delete(q.lanes, k)
	}
}

// Pending is how many notifications wait or are under way.
func (d *Dispatcher) Pending() int {
	d.notes.mu.Lock()
	defer d.notes.mu.Unlock()
	return d.notes.pending
}

// drain refuses new notes and waits until the others are done or ctx ends.
func (q *notifier) drain(ctx context.Context) error {
	q.mu.Lock()
	if !q.draining {
		q.draining = true
		q.empty = make(chan struct{})
		if q.pending == 0 {
			close(q.empty)
		}
	}
	empty := q.empty
	q.mu.Unlock()
	select {
	case <-empty:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// tell delivers one note. What the handler answers does not matter, but that it took it.
func (s *Session) tell(ctx context.Context, n note) {
	if n.ev.name == "disconnected" {
		// Not before the client's last event was answered or cancelled.
		if !s.begin(ctx) {
			s.dropped(n, ErrClosed.Error())
			return
		}
		defer s.end()
	}
	_, f := s.deliver(ctx, n.in, n.h, n.ev, func(*answer) *fault { return nil })
	if f != nil {
		s.d.log.Warn("event handler did not take the notification", "instance", s.instance, "hub", s.hub, "connection", s.id,
			"event", n.ev.name, "template", n.h.Template().Redacted(), "code", f.code, "status", f.status, "err", f.text())
	}
}

// dropped says that a notification will not be sent.
func (s *Session) dropped(n note, why string) {
	s.d.log.Warn("notification dropped", "instance", s.instance, "hub", s.hub, "connection", s.id, "event", n.ev.name, "why", why)
	s.d.opt.Trace.Record(trace.Record{
		Time: time.Now(), Kind: trace.Delivery, Operation: trace.EventNotDelivered, Instance: n.in.Name, Hub: s.hub, Connection: s.id, User: s.user(), Event: n.ev.name,
		EventID: n.ev.idText(), Template: n.h.Template().Redacted(), Code: reason.Overloaded, Detail: why,
	})
}
