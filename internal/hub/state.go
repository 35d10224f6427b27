package hub

import (
	"errors"
	"maps"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// A StateItem is what one member of a group shows the others, such as whether it is typing (client protocol,
// section 13).
type StateItem struct {
	ConnectionID, UserID string
	State                map[string]string // nil: cleared; not to be changed
	UpdatedAt            int64             // Unix milliseconds; increases with every change of the item
}

// A StateCodec is the codec of connections that can be told about group states.
type StateCodec interface {
	Codec
	// AppendGroupState appends all states of a group, or those that changed, as the payload of one frame.
	AppendGroupState(dst []byte, group string, items []StateItem, snapshot bool) ([]byte, Opcode)
}

// Errors of group states.
var (
	ErrNotMember     = errors.New("the connection is not a member of the group")
	ErrTooManyStates = errors.New("the connection watches or shows too many group states")
)

// MaxStates bounds the groups whose states one connection watches, and those in which it shows one.
const MaxStates = 1000

// states are the group states of a hub. They live as long as their connections.
type states struct {
	// used counts groups and calls under way. Connections that leave look at it first, so that hubs without states
	// have no lock in common; a call counts itself before it looks whether its connection is still there.
	used atomic.Int64

	mu     sync.Mutex // guards everything, and keeps snapshots and updates in order
	groups map[string]*groupStates
	held   map[*Conn]map[string]bool // groups that a connection shows a state in or watches
	over   []*Conn                   // could not take what they were told; ended when the lock is free
}

// unlock ends those who were too slow: their end takes the lock again.
func (s *states) unlock() {
	over := s.over
	s.over = nil
	s.mu.Unlock()
	for _, c := range over {
		c.overflow()
	}
}

type groupStates struct {
	items    map[*Conn]StateItem
	watchers map[*Conn]bool
}

func (s *states) group(name string) *groupStates {
	g := s.groups[name]
	if g == nil {
		if s.groups == nil {
			s.groups, s.held = make(map[string]*groupStates), make(map[*Conn]map[string]bool)
		}
		g = &groupStates{items: make(map[*Conn]StateItem), watchers: make(map[*Conn]bool)}
		s.groups[name] = g
		s.used.Add(1)
	}
	return g
}

// hold notes that the connection has to do with the group; false if with too many.
func (s *states) hold(c *Conn, group string) bool {
	if len(s.held[c]) >= MaxStates && !s.held[c][group] {
		return false
	}
	if s.held[c] == nil {
		s.held[c] = make(map[string]bool)
	}
	s.held[c][group] = true
	return true
}

// tidy forgets what is empty.
func (s *states) tidy(c *Conn, group string, g *groupStates) {
	if _, shows := g.items[c]; !shows && !g.watchers[c] {
		if delete(s.held[c], group); len(s.held[c]) == 0 {
			delete(s.held, c)
		}
	}
	if len(g.items)+len(g.watchers) == 0 {
		delete(s.groups, group)
		s.used.Add(-1)
	}
}

// send queues frames for a connection.
func (s *states) send(c *Conn, frames ...*Frame) {
	if _, over := c.queueUp(frames...); over {
		s.over = append(s.over, c)
	}
}

// tell sends a change to those who watch the group, encoded once for each form.
func (s *states) tell(g *groupStates, group string, item StateItem) {
	var frames [MaxEncodings]*Frame
	for c := range g.watchers {
		f := frames[c.encoding]
		if f == nil {
			if f = stateFrame(c, group, []StateItem{item}, false); f == nil {
				continue
			}
			frames[c.encoding] = f
		}
		s.send(c, f)
	}
}

func stateFrame(c *Conn, group string, items []StateItem, snapshot bool) *Frame {
	codec, ok := c.codec.(StateCodec)
	if !ok {
		return nil
	}
	return frame(256*(len(items)+1), func(dst []byte) ([]byte, Opcode) { return codec.AppendGroupState(dst, group, items, snapshot) })
}

// SetState changes what a member shows the group, nil clears it, and tells those who watch. The error is
// [ErrNotMember] or [ErrTooManyStates].
func (h *Hub) SetState(c *Conn, group string, state map[string]string) error {
	s := &h.states
	s.used.Add(1)
	defer s.used.Add(-1)
	s.mu.Lock()
	defer s.unlock()
	if !c.InGroup(group) {
		return ErrNotMember
	}
	g := s.group(group)
	defer s.tidy(c, group, g)
	if state != nil && !s.hold(c, group) {
		return ErrTooManyStates
	}
	s.change(c, group, g, state)
	return nil
}

func (s *states) change(c *Conn, group string, g *groupStates, state map[string]string) {
	old, had := g.items[c]
	if state == nil && !had {
		return
	}
	item := StateItem{c.id, c.user, state, max(time.Now().UnixMilli(), old.UpdatedAt+1)}
	if state == nil {
		delete(g.items, c)
	} else {
		g.items[c] = item
	}
	s.tell(g, group, item)
}

// WatchState sends the connection first, which says that it watches, then all states of the group, and every change
// from now on. The error is [ErrGone] or [ErrTooManyStates]; nothing was sent then.
func (h *Hub) WatchState(c *Conn, group string, first ...*Frame) error {
	s := &h.states
	s.used.Add(1)
	defer s.used.Add(-1)
	s.mu.Lock()
	defer s.unlock()
	if c.Gone() {
		return ErrGone
	}
	g := s.group(group)
	defer s.tidy(c, group, g)
	if !s.hold(c, group) {
		return ErrTooManyStates
	}
	g.watchers[c] = true
	s.send(c, slices.Concat(first, g.snapshot(c, group))...)
	return nil
}

// snapshot is the frame that shows a connection all states of a group; none if it could not read it.
func (g *groupStates) snapshot(c *Conn, group string) []*Frame {
	items := make([]StateItem, 0, len(g.items))
	for _, item := range g.items {
		items = append(items, item)
	}
	slices.SortFunc(items, func(a, b StateItem) int { return strings.Compare(a.ConnectionID, b.ConnectionID) })
	if f := stateFrame(c, group, items, true); f != nil {
		return []*Frame{f}
	}
	return nil
}

// resumed shows a client that was away, and was not told of changes, all that it watches.
func (s *states) resumed(c *Conn) {
	if s.used.Load() == 0 {
		return
	}
	s.mu.Lock()
	defer s.unlock()
	for _, group := range slices.Sorted(maps.Keys(s.held[c])) {
		if g := s.groups[group]; g.watchers[c] {
			s.send(c, g.snapshot(c, group)...)
		}
	}
}

// UnwatchState ends what WatchState began.
func (h *Hub) UnwatchState(c *Conn, group string) {
	s := &h.states
	s.mu.Lock()
	defer s.unlock()
	if g := s.groups[group]; g != nil {
		delete(g.watchers, c)
		s.tidy(c, group, g)
	}
}

// left clears what the connection showed in a group that it is no longer in.
func (s *states) left(c *Conn, group string) {
	if s.used.Load() == 0 {
		return
	}
	s.mu.Lock()
	defer s.unlock()
	if g := s.groups[group]; g != nil {
		s.change(c, group, g, nil)
		s.tidy(c, group, g)
	}
}

// gone forgets a connection that has ended.
func (s *states) gone(c *Conn) {
	if s.used.Load() == 0 {
		return
	}
	s.mu.Lock()
	defer s.unlock()
	for group := range s.held[c] {
		g := s.groups[group]
		delete(g.watchers, c)
		s.change(c, group, g, nil)
		s.tidy(c, group, g)
	}
}
