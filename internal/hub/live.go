package hub

import (
	"cmp"
	"slices"
	"strings"
)

// What operators ask: who is connected. Nothing here is on the way of a message.

// Hubs lists the hubs of an instance that have had connections, by name.
func (r *Registry) Hubs(instance string) []*Hub {
	var list []*Hub
	for key, h := range *r.hubs.Load() {
		if key.instance == strings.ToLower(instance) {
			list = append(list, h)
		}
	}
	slices.SortFunc(list, func(a, b *Hub) int { return cmp.Compare(a.name, b.name) })
	return list
}

// Len returns the number of connections.
func (h *Hub) Len() int {
	if h == nil {
		return 0
	}
	h.conns.mu.RLock()
	defer h.conns.mu.RUnlock()
	return len(h.conns.all.members)
}

// A Crowd is a group or a user with its connections.
type Crowd struct {
	Name        string
	Connections int
}

// Groups lists the groups that have members, by name.
func (h *Hub) Groups() []Crowd { return h.crowds(func(h *Hub) *index { return &h.groups }) }

// Users lists the users who have connections, by name.
func (h *Hub) Users() []Crowd { return h.crowds(func(h *Hub) *index { return &h.users }) }

func (h *Hub) crowds(of func(*Hub) *index) []Crowd {
	if h == nil {
		return nil
	}
	var list []Crowd
	x := of(h)
	for i := range x.shards {
		sh := &x.shards[i]
		sh.mu.RLock()
		for name, s := range sh.sets {
			list = append(list, Crowd{name, len(s.members)})
		}
		sh.mu.RUnlock()
	}
	slices.SortFunc(list, func(a, b Crowd) int { return cmp.Compare(a.Name, b.Name) })
	return list
}

// Connections lists up to limit connections in the order of their ids, beginning behind after; only those of the group
// and of the user, where these are not empty. More tells whether there are more.
func (h *Hub) Connections(group, user, after string, limit int) (list []*Conn, more bool) {
	if h == nil {
		return nil, false
	}
	members := h.conns.members()
	switch {
	case group != "":
		members = h.groups.members(group)
	case user != "":
		members = h.users.members(user)
	}
	for _, x := range members {
		if x.conn.id > after && (user == "" || x.conn.user == user) {
			list = append(list, x.conn)
		}
	}
	slices.SortFunc(list, func(a, b *Conn) int { return strings.Compare(a.id, b.id) })
	if len(list) > limit {
		return slices.Clone(list[:limit]), true
	}
	return list, false
}
