package hub

import (
	"errors"
	"maps"
	"net"
	"slices"
	"sync"
	"sync/atomic"
)

// ConnOptions describe a connection that is ready to be served.
type ConnOptions struct {
	ID          string // unique in the hub; see [NewID]
	UserID      string // empty: anonymous
	Subprotocol string // as negotiated; empty: none
	Codec       Codec  // a [Sequencer] makes the connection reliable

	Roles  []string // what the client may do; see the package's role limits
	Groups []string // joined before the first message can arrive; valid names

	MaxGroups      int // that it may be in; 0: as Options say
	MaxConnections int // of the instance, this one included; 0: no limit of its own

	// Socket carries the connection. The hub writes to it and closes it; the caller reads from it. A plain TCP socket,
	// which is a [syscall.Conn], is written to by the shard's flusher, any other by a goroutine of its own while there
	// is something to write.
	Socket net.Conn
	// Deflate compresses messages: the client and the service have agreed on permessage-deflate without context
	// takeover.
	Deflate bool
	// First is written before everything else: the handshake's answer and the first frames.
	First []*Frame
	// Owner is what [Conn.Owner] returns.
	Owner any
	// Ended, if set, is called exactly once when the connection has left the hub, with the reason for the
	// disconnected event: empty when the client closed. It runs on whatever goroutine noticed and must not block.
	Ended func(reason string)
}

// Errors of [Hub.Connect] and [Hub.Join].
var (
	ErrClosed             = errors.New("the hub is closed")
	ErrGone               = errors.New("the connection is gone")
	ErrDuplicateID        = errors.New("a connection with this id exists")
	ErrTooManyConnections = errors.New("connection count reaches limit")
	ErrTooManyGroups      = errors.New("the connection is in too many groups")
)

// A Conn is one logical connection: its identity, memberships, permissions and what waits to be written to it.
// All methods may be used by many goroutines.
type Conn struct {
	hub         *Hub
	id, user    string
	subprotocol string
	codec       Codec
	sequencer   Sequencer // the codec of a reliable connection; else nil
	encoding    uint8
	maxGroups   int
	deflate     bool // messages are made ready to go out compressed
	shard       *shard
	owner       any
	ended       func(reason string)

	inAll, inUser membership // guarded by the directory and the index of users

	mu          sync.Mutex             // guards the next three
	gone        bool                   // left the hub, for good
	memberships map[string]*membership // by group
	may         permissions

	out   queue
	after *Conn // in the shard's list of scheduled connections

	heard    atomic.Int64 // registry time of the last byte received; busy: a reader that is not reading
	pingAt   int64        // when the next ping is due; only used by the wheel's goroutine
	hangUpAt atomic.Int64 // when a closing connection is cut off; 0: not closing
	until    atomic.Int64 // when a reliable connection without a socket ends; 0: it has one
	timer    timer
}

// ID returns the connection id.
func (c *Conn) ID() string { return c.id }

// UserID returns the user id, empty if the connection is anonymous.
func (c *Conn) UserID() string { return c.user }

// Subprotocol returns the negotiated WebSocket subprotocol, empty for none.
func (c *Conn) Subprotocol() string { return c.subprotocol }

// Owner returns what the connection was made with, for whoever finds it by its id.
func (c *Conn) Owner() any { return c.owner }

// Hub returns the hub that the connection belongs to.
func (c *Conn) Hub() *Hub { return c.hub }

// InGroup tells whether the connection is a member of group.
func (c *Conn) InGroup(group string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.memberships[group] != nil
}

// Groups returns the names of the groups that the connection is in, sorted.
func (c *Conn) Groups() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Sorted(maps.Keys(c.memberships))
}

// Allows tells whether the client may do action with group, by its roles, grants and revocations.
func (c *Conn) Allows(action Action, group string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.may[action].allows(group)
}

// Grant allows action with exactly group, also if it was revoked before.
func (c *Conn) Grant(action Action, group string) error { return c.permit(action, group, true) }

// Revoke forbids action with exactly group, whatever role allowed it. Memberships stay.
func (c *Conn) Revoke(action Action, group string) error { return c.permit(action, group, false) }

func (c *Conn) permit(action Action, group string, granted bool) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.may[action].set(group, granted)
}

// join and leave are idempotent.
func (c *Conn) join(group string) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.joinLocked(group)
}

func (c *Conn) joinLocked(group string) error {
	switch {
	case c.gone:
		return ErrGone
	case c.memberships[group] != nil:
		return nil
	case len(c.memberships) >= c.maxGroups:
		return ErrTooManyGroups
	}
	if c.memberships == nil {
		c.memberships = make(map[string]*membership, 1)
	}
	at := &membership{}
	c.memberships[group] = at
	c.hub.groups.add(group, c, at)
	return nil
}

func (c *Conn) leave(group string) bool {
	c.mu.Lock()
	at := c.memberships[group]
	if at != nil {
		delete(c.memberships, group)
		c.hub.groups.remove(group, at)
	}
	c.mu.Unlock()
	if at == nil {
		return false
	}
	c.hub.states.left(c, group)
	return true
}

func (c *Conn) leaveAll() {
	c.mu.Lock()
	was := c.leaveAllLocked()
	c.mu.Unlock()
	for group := range was {
		c.hub.states.left(c, group)
	}
}

func (c *Conn) leaveAllLocked() (was map[string]*membership) {
	for group, at := range c.memberships {
		c.hub.groups.remove(group, at)
	}
	was, c.memberships = c.memberships, nil
	return was
}

// end takes the connection out of the hub and tells the owner. It reports whether this call did it.
func (c *Conn) end(reason string) bool {
	c.mu.Lock()
	if c.gone {
		c.mu.Unlock()
		return false
	}
	c.gone = true
	c.leaveAllLocked()
	c.mu.Unlock()
	c.hub.states.gone(c)
	c.hub.remove(c)
	if c.ended != nil {
		c.ended(reason)
	}
	return true
}

// Gone tells whether the connection has left the hub.
func (c *Conn) Gone() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.gone
}

// Send queues frames of the subprotocol's own making, such as acks, in one piece. It reports false if the
// connection takes no more.
func (c *Conn) Send(frames ...*Frame) bool { return c.enqueue(frames...) }

// SendMessage queues m for this connection alone.
func (c *Conn) SendMessage(m *Message) bool {
	p := c.hub.publication(m)
	return p.to(c)
}

// Close ends the connection from the service's side: what is queued, the subprotocol's own notice, a close frame.
// The socket is closed when the client has answered, or after Options.CloseTimeout. It reports whether the
// connection was open.
func (c *Conn) Close(code CloseCode, reason string) bool { return c.CloseFor(code, reason, reason) }

// CloseFor is [Conn.Close] with another reason for the disconnected event than the client is told.
func (c *Conn) CloseFor(code CloseCode, reason, event string) bool {
	if !c.end(event) {
		return false
	}
	var last []*Frame
	notice := frame(len(reason)+64, func(dst []byte) ([]byte, Opcode) { return c.codec.AppendDisconnected(dst, reason) })
	if notice != nil {
		last = append(last, notice)
	}
	c.hangUp(false, false, append(last, closeFrame(code, reason))...)
	return true
}

// Answer ends the connection after the client's close frame: the frame is answered with code, and the socket is
// closed when all is written. It is also how a connection that the service closed learns of the client's answer.
//
// A reliable connection ends by a client's 1000 alone; after any other code the client may resume it.
func (c *Conn) Answer(code CloseCode) {
	if c.Reliable() && code != CloseNormal && !c.Gone() {
		c.part(code)
		return
	}
	if c.end("") {
		c.hangUp(true, false, closeFrame(code, ""))
		return
	}
	c.cutOff()
}

// Fail ends the connection after a violation that leaves no hope for its stream: a close frame is queued without
// the subprotocol's notice, and the socket is closed once the client has gone. event is the reason for the
// disconnected event.
func (c *Conn) Fail(code CloseCode, reason, event string) {
	if c.end(event) {
		c.hangUp(false, true, closeFrame(code, reason))
	}
}

// Lost ends a connection whose socket cannot be read any more, and closes the socket. A reliable connection waits for
// its client instead; if the client has resumed it over another socket, nothing happens.
func (c *Conn) Lost(socket net.Conn, reason string) {
	if c.detach(socket, reason, false) {
		return
	}
	c.end(reason)
	c.cutOff()
}

// hangUp queues the last frames, after which the queue takes no more, and sets the deadline for the farewell.
func (c *Conn) hangUp(answered, halfClose bool, last ...*Frame) {
	r := c.hub.registry
	at := r.now() + int64(r.opt.CloseTimeout)
	c.hangUpAt.Store(at)
	c.finish(answered, halfClose, last)
	c.shard.wheel.set(c, at)
}

// Heard notes that the client sent something just now.
func (c *Conn) Heard() { c.heard.Store(c.hub.registry.coarse.Load()) }

// Hold stops the watch for a silent client while the reader does something else; [Conn.Heard] starts it again.
func (c *Conn) Hold() { c.heard.Store(busy) }
