package hub

import (
	"hash/maphash"
	"slices"
	"sync"
	"sync/atomic"
)

const indexShards = 32

var seed = maphash.MakeSeed()

func shardOf(name string) uint64 { return maphash.String(seed, name) % indexShards }

// A set is a number of connections that are sent to together. Readers take the slice as it is and go on without a
// lock: adding only writes behind what they see, and removing copies first if anyone may be reading.
type set struct {
	members []member
	shared  atomic.Bool // members was handed to a reader since it was last copied
}

type member struct {
	conn *Conn
	at   *membership
}

// A membership is the place of one connection in one set.
type membership struct {
	set *set
	pos int
}

func (s *set) add(c *Conn, at *membership) {
	at.set, at.pos = s, len(s.members)
	s.members = append(s.members, member{c, at})
}

func (s *set) remove(at *membership) {
	if s.shared.Load() {
		s.members = slices.Clone(s.members)
		s.shared.Store(false)
	}
	last := len(s.members) - 1
	moved := s.members[last]
	s.members[at.pos] = moved
	moved.at.pos = at.pos
	s.members[last] = member{}
	s.members = s.members[:last]
	at.set = nil
}

// read returns the members. The caller holds the lock of the set, for reading or writing, only during the call.
func (s *set) read() []member {
	s.shared.Store(true)
	return s.members[:len(s.members):len(s.members)]
}

// An index finds sets by name: the groups of a hub, its users. A set exists while it has members.
type index struct {
	shards [indexShards]struct {
		mu   sync.RWMutex // guards sets and everything in them
		sets map[string]*set
	}
}

func (x *index) add(name string, c *Conn, at *membership) {
	sh := &x.shards[shardOf(name)]
	sh.mu.Lock()
	defer sh.mu.Unlock()
	s := sh.sets[name]
	if s == nil {
		if sh.sets == nil {
			sh.sets = make(map[string]*set)
		}
		s = &set{}
		sh.sets[name] = s
	}
	s.add(c, at)
}

func (x *index) remove(name string, at *membership) {
	sh := &x.shards[shardOf(name)]
	sh.mu.Lock()
	defer sh.mu.Unlock()
	s := at.set
	s.remove(at)
	if len(s.members) == 0 {
		delete(sh.sets, name)
	}
}

func (x *index) members(name string) []member {
	sh := &x.shards[shardOf(name)]
	sh.mu.RLock()
	defer sh.mu.RUnlock()
	if s := sh.sets[name]; s != nil {
		return s.read()
	}
	return nil
}

func (x *index) has(name string) bool {
	sh := &x.shards[shardOf(name)]
	sh.mu.RLock()
	defer sh.mu.RUnlock()
	return sh.sets[name] != nil
}

// A directory is all connections of a hub, as a set and by id.
type directory struct {
	mu  sync.RWMutex // guards all
	all set

	shards [indexShards]struct {
		mu   sync.RWMutex // guards byID
		byID map[string]*Conn
	}
}

// add reports whether the id was free.
func (d *directory) add(c *Conn) bool {
	sh := &d.shards[shardOf(c.id)]
	sh.mu.Lock()
	if sh.byID == nil {
		sh.byID = make(map[string]*Conn)
	}
	_, taken := sh.byID[c.id]
	if !taken {
		sh.byID[c.id] = c
	}
	sh.mu.Unlock()
	if taken {
		return false
	}
	d.mu.Lock()
	d.all.add(c, &c.inAll)
	d.mu.Unlock()
	return true
}

func (d *directory) remove(c *Conn) {
	d.mu.Lock()
	d.all.remove(&c.inAll)
	d.mu.Unlock()
	sh := &d.shards[shardOf(c.id)]
	sh.mu.Lock()
	delete(sh.byID, c.id)
	sh.mu.Unlock()
}

func (d *directory) find(id string) *Conn {
	sh := &d.shards[shardOf(id)]
	sh.mu.RLock()
	defer sh.mu.RUnlock()
	return sh.byID[id]
}

func (d *directory) members() []member {
	d.mu.RLock()
	defer d.mu.RUnlock()
	return d.all.read()
}
