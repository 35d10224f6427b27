package hub

import (
	"cmp"
	"slices"
	"strings"
	"sync/atomic"
)

// A Hub is the connections of one hub of one instance. A nil *Hub has none.
type Hub struct {
	registry       *Registry
	instance, name string        // lower case
	population     *atomic.Int64 // connections of all hubs of the instance
	conns          directory
	groups, users  index
	states         states
	closed         atomic.Bool
}

// Name returns the hub's name in lower case.
func (h *Hub) Name() string { return h.name }

// Instance returns the name of the hub's instance in lower case.
func (h *Hub) Instance() string { return h.instance }

// Connect takes a connection in: First is queued, groups are joined, and from then on it can be sent to. On error
// the socket is the caller's again and nothing was written.
func (h *Hub) Connect(o ConnOptions) (*Conn, error) {
	r := h.registry
	c := &Conn{
		hub: h, id: o.ID, user: o.UserID, subprotocol: o.Subprotocol,
		codec: o.Codec, encoding: uint8(o.Codec.Encoding()), maxGroups: cmp.Or(o.MaxGroups, r.opt.MaxGroups), deflate: o.Deflate, owner: o.Owner, ended: o.Ended,
		shard: r.shards[r.turn.Add(1)%uint64(len(r.shards))],
	}
	if s, ok := o.Codec.(Sequencer); ok {
		c.sequencer, c.out.replay = s, newReplay()
	}
	var ignored []IgnoredRole
	c.may, ignored = parseRoles(o.Roles)
	for _, role := range ignored {
		r.opt.Log.Warn("role ignored", "hub", h.name, "conn", c.id, "role", cut(role.Role, 200), "why", role.Why)
	}
	c.out.socket, c.out.raw, c.out.pack = o.Socket, rawConn(o.Socket), o.Deflate

	r.mu.Lock()
	if r.closed {
		r.mu.Unlock()
		return nil, ErrClosed
	}
	if n := r.count.Add(1); r.opt.MaxConnections > 0 && n > int64(r.opt.MaxConnections) {
		r.count.Add(-1)
		r.mu.Unlock()
		return nil, ErrTooManyConnections
	}
	if n := h.population.Add(1); o.MaxConnections > 0 && n > int64(o.MaxConnections) {
		h.population.Add(-1)
		r.count.Add(-1)
		r.mu.Unlock()
		return nil, ErrTooManyConnections
	}
	r.open.Add(1)
	r.mu.Unlock()

	// The queue is marked as scheduled until the connection is listed everywhere, and whoever wants to end it waits
	// for c.mu: nobody sees half of it, and nothing overtakes the greeting.
	c.out.scheduled = true
	for _, f := range o.First {
		c.out.push(f)
	}
	c.mu.Lock()
	if !h.conns.add(c) {
		c.mu.Unlock()
		h.population.Add(-1)
		r.count.Add(-1)
		r.open.Done()
		return nil, ErrDuplicateID
	}
	if c.user != "" {
		h.users.add(c.user, c, &c.inUser)
	}
	for _, g := range o.Groups {
		c.joinLocked(g)
	}
	now := r.now()
	c.heard.Store(now)
	c.pingAt = now + int64(r.keepAlive(h))
	c.shard.wheel.set(c, c.pingAt)
	blocking := c.out.raw == nil
	c.mu.Unlock()
	if c.settle() {
		c.schedule(blocking)
	}
	if h.closed.Load() { // by somebody who may have looked before we were listed
		c.Close(CloseGoingAway, ReasonReload)
	}
	return c, nil
}

func (h *Hub) remove(c *Conn) {
	if c.user != "" {
		h.users.remove(c.user, &c.inUser)
	}
	h.conns.remove(c)
	h.population.Add(-1)
	h.registry.count.Add(-1)
}

// A publication is a message on its way to many: it is encoded once for each form that a receiver needs.
type publication struct {
	m        *Message
	deadline int64
	frames   [MaxEncodings]*Frame
}

func (h *Hub) publication(m *Message) publication {
	p := publication{m: m}
	if m.TTL > 0 {
		p.deadline = h.registry.now() + int64(m.TTL)
	}
	return p
}

func (p *publication) to(c *Conn) bool {
	f := p.frames[c.encoding]
	if f == nil {
		f = p.encode(c.codec)
		p.frames[c.encoding] = f
	}
	if c.deflate {
		f.pack(c.sequencer != nil)
	}
	if c.sequencer != nil {
		return c.publish(f)
	}
	ok, over := c.queueUp(f)
	if over {
		c.overflow()
	}
	return ok
}

func (p *publication) encode(codec Codec) *Frame {
	size := len(p.m.Data) + len(p.m.Data)/3 + len(p.m.Group) + len(p.m.FromUserID) + 128
	for _, kv := range p.m.Metadata {
		size += len(kv.Key) + len(kv.Value) + 8
	}
	buf, op := codec.AppendMessage(make([]byte, maxFrameHeader, maxFrameHeader+size), p.m)
	if _, ok := codec.(Sequencer); ok { // each receiver adds its own end, and then the header
		return &Frame{bytes: buf[maxFrameHeader:], op: op, deadline: p.deadline}
	}
	return &Frame{bytes: seal(buf, op), deadline: p.deadline}
}

// manyExcluded is where a map becomes faster than looking through the list for each member.
const manyExcluded = 16

func (h *Hub) send(members []member, m *Message, o SendOptions) (n int) {
	if len(members) == 0 {
		return 0
	}
	p := h.publication(m)
	if len(o.Excluded) > manyExcluded {
		excluded := make(map[string]bool, len(o.Excluded))
		for _, id := range o.Excluded {
			excluded[id] = true
		}
		match := o.Match
		o.Excluded, o.Match = nil, func(c *Conn) bool { return !excluded[c.id] && (match == nil || match(c)) }
	}
	for _, x := range members {
		if o.takes(x.conn) && p.to(x.conn) {
			n++
		}
	}
	return n
}

func (o *SendOptions) takes(c *Conn) bool {
	return c != o.Except &&
		(len(o.Excluded) == 0 || !slices.Contains(o.Excluded, c.id)) &&
		(o.Match == nil || o.Match(c))
}

// SendToAll sends m to every connection and returns how many queues took it.
func (h *Hub) SendToAll(m *Message, o SendOptions) int {
	if h == nil {
		return 0
	}
	return h.send(h.conns.members(), m, o)
}

// SendToGroup sends m to the members of m.Group and returns how many queues took it.
func (h *Hub) SendToGroup(m *Message, o SendOptions) int {
	if h == nil {
		return 0
	}
	return h.send(h.groups.members(m.Group), m, o)
}

// SendToUser sends m to the connections of a user and returns how many queues took it.
func (h *Hub) SendToUser(user string, m *Message, o SendOptions) int {
	if h == nil {
		return 0
	}
	return h.send(h.users.members(user), m, o)
}

// SendToConnection sends m to one connection; false if there is none that takes it.
func (h *Hub) SendToConnection(id string, m *Message) bool {
	c, ok := h.Connection(id)
	return ok && c.SendMessage(m)
}

// Connection returns a connection by id.
func (h *Hub) Connection(id string) (*Conn, bool) {
	if h == nil {
		return nil, false
	}
	c := h.conns.find(id)
	return c, c != nil
}

// HasGroup tells whether the group has a member.
func (h *Hub) HasGroup(group string) bool { return h != nil && h.groups.has(group) }

// HasUser tells whether the user has a connection.
func (h *Hub) HasUser(user string) bool { return h != nil && h.users.has(user) }

// A Member is one line of a listing.
type Member struct{ ConnectionID, UserID string }

// GroupConnections lists up to limit members of a group, sorted by connection id, beginning behind after; an empty
// after begins at the start. A limit of 0 or less lists all.
func (h *Hub) GroupConnections(group, after string, limit int) []Member {
	if h == nil {
		return nil
	}
	var list []Member
	for _, x := range h.groups.members(group) {
		if x.conn.id > after {
			list = append(list, Member{x.conn.id, x.conn.user})
		}
	}
	slices.SortFunc(list, func(a, b Member) int { return strings.Compare(a.ConnectionID, b.ConnectionID) })
	if limit > 0 && len(list) > limit {
		list = slices.Clone(list[:limit])
	}
	return list
}

// Each calls fn for every connection, until it returns false.
func (h *Hub) Each(fn func(*Conn) bool) {
	if h == nil {
		return
	}
	for _, x := range h.conns.members() {
		if !fn(x.conn) {
			return
		}
	}
}

// Join makes a connection of this hub a member of a group; no permission is needed. Joining again changes nothing.
// The error is [ErrGone] or [ErrTooManyGroups].
func (h *Hub) Join(c *Conn, group string) error { return c.join(group) }

// Leave ends a membership and reports whether there was one.
func (h *Hub) Leave(c *Conn, group string) bool { return c.leave(group) }

// LeaveAll ends all memberships of a connection.
func (h *Hub) LeaveAll(c *Conn) { c.leaveAll() }

// JoinUser makes the user's present connections members of a group and returns how many are.
func (h *Hub) JoinUser(user, group string) (n int) {
	h.eachOfUser(user, func(c *Conn) {
		if c.join(group) == nil {
			n++
		}
	})
	return n
}

// LeaveUser ends the memberships of the user's connections in a group.
func (h *Hub) LeaveUser(user, group string) {
	h.eachOfUser(user, func(c *Conn) { c.leave(group) })
}

// LeaveUserAll ends all memberships of the user's connections.
func (h *Hub) LeaveUserAll(user string) { h.eachOfUser(user, (*Conn).leaveAll) }

func (h *Hub) eachOfUser(user string, fn func(*Conn)) {
	if h == nil {
		return
	}
	for _, x := range h.users.members(user) {
		fn(x.conn)
	}
}

// CloseConnection closes a connection for a server and reports whether there was one. The client is told reason.
func (h *Hub) CloseConnection(id, reason string) bool {
	c, ok := h.Connection(id)
	return ok && c.Close(c.closedByServer(), reason)
}

// closedByServer is the code of a close that a server asked for: 1008 tells a reliable client not to recover.
func (c *Conn) closedByServer() CloseCode {
	if c.Reliable() {
		return ClosePolicy
	}
	return CloseNormal
}

// CloseAll closes every connection that is not excluded, for a server.
func (h *Hub) CloseAll(excluded []string, reason string) {
	if h != nil {
		closeMembers(h.conns.members(), excluded, reason)
	}
}

// CloseGroup closes the members of a group that are not excluded, for a server.
func (h *Hub) CloseGroup(group string, excluded []string, reason string) {
	if h != nil {
		closeMembers(h.groups.members(group), excluded, reason)
	}
}

// CloseUser closes the connections of a user that are not excluded, for a server.
func (h *Hub) CloseUser(user string, excluded []string, reason string) {
	if h != nil {
		closeMembers(h.users.members(user), excluded, reason)
	}
}

func closeMembers(members []member, excluded []string, reason string) {
	for _, x := range members {
		if !slices.Contains(excluded, x.conn.id) {
			x.conn.Close(x.conn.closedByServer(), reason)
		}
	}
}

// close closes all connections, also those that are being made.
func (h *Hub) close(code CloseCode, reason string) {
	h.closed.Store(true)
	for _, x := range h.conns.members() {
		x.conn.Close(code, reason)
	}
}
