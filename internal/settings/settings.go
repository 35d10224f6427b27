package settings

import (
	"bytes"
	"cmp"
	"context"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"tabard/internal/store"
)

// Errors of writes. Conflicts between writers are retried inside, so a caller meets ErrConflict only when the
// retries ran out.
var (
	ErrNotFound = errors.New("not found")
	ErrExists   = errors.New("already exists")
	ErrConflict = errors.New("changed by somebody else at the same time")
)

// Options of [Open].
type Options struct {
	// SubscriptionID places the default instance; it is used only when that is created.
	SubscriptionID string
	// Now is the clock of created and modified times; nil means time.Now.
	Now func() time.Time
}

// Settings reads and writes the instances.
type Settings struct {
	instances *store.Collection[Instance]
	groups    *store.Collection[Group]
	now       func() time.Time
	snapshot  atomic.Pointer[Snapshot]

	mu        sync.Mutex // guards listeners
	listeners []func(old, new *Snapshot)
}

// A Snapshot is every instance at one moment. It never changes.
type Snapshot struct {
	instances map[string]*Instance // by lower-cased name
	domains   map[string]*Instance // by custom domain, in lower case
}

// Open loads the instances from the store. On the first start it creates the default one, with fresh keys.
func Open(ctx context.Context, s *store.Store, opt Options) (*Settings, error) {
	c, err := store.OpenCollection[Instance](ctx, s, "instances", store.Schema{Version: 2, Migrate: migrate})
	if err != nil {
		return nil, err
	}
	groups, err := store.OpenCollection[Group](ctx, s, "resource-groups", store.Schema{Version: 1})
	if err != nil {
		return nil, err
	}
	st := &Settings{instances: c, groups: groups, now: opt.Now}
	if st.now == nil {
		st.now = time.Now
	}
	st.snapshot.Store(&Snapshot{})
	c.OnChange(func([]string) { st.reload() })
	st.reload()
	if len(st.Snapshot().instances) == 0 {
		_, err := st.Create(ctx, Instance{
			Name: DefaultInstance, SubscriptionID: opt.SubscriptionID, ResourceGroup: DefaultResourceGroup, Location: DefaultLocation,
		})
		if err != nil && !errors.Is(err, ErrExists) {
			return nil, fmt.Errorf("create the default instance: %w", err)
		}
	}
	return st, nil
}

// Snapshot is the current state of all instances.
func (s *Settings) Snapshot() *Snapshot { return s.snapshot.Load() }

// OnChange registers fn to be called, in order, after each new snapshot. It must not write settings.
func (s *Settings) OnChange(fn func(old, new *Snapshot)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.listeners = append(s.listeners, fn)
}

// reload builds the snapshot from the stored documents, keeping what did not change.
func (s *Settings) reload() {
	s.mu.Lock()
	defer s.mu.Unlock()
	old := s.Snapshot()
	next := &Snapshot{instances: make(map[string]*Instance)}
	for key, item := range s.instances.All() {
		if in, ok := old.instances[key]; ok && in.revision == item.Revision {
			next.instances[key] = in
			continue
		}
		in := item.Value.clone() // the stored value is shared with the collection
		in.revision = item.Revision
		if err := in.compile(); err != nil {
			// Only possible when a newer validation meets an older document: keep serving what was good.
			if prev, ok := old.instances[key]; ok {
				in = prev
			} else {
				continue
			}
		}
		next.instances[key] = in
	}
	next.domains = domains(next.instances)
	s.snapshot.Store(next)
	for _, fn := range s.listeners {
		fn(old, next)
	}
}

// Instance finds an instance by name, ignoring case.
func (sn *Snapshot) Instance(name string) (*Instance, bool) {
	if in, ok := sn.instances[name]; ok {
		return in, true
	}
	in, ok := sn.instances[strings.ToLower(name)]
	return in, ok
}

// Instances are all instances by lower-cased name; not to be changed.
func (sn *Snapshot) Instances() map[string]*Instance { return sn.instances }

// InstanceOf finds the instance that has the host as a custom domain, ignoring case.
func (sn *Snapshot) InstanceOf(host string) (*Instance, bool) {
	in, ok := sn.domains[strings.ToLower(strings.TrimSuffix(host, "."))]
	return in, ok
}

// Create stores a new instance. Missing keys are made, an absent SKU and identity get their defaults. The error
// is [Faults] for a bad document and ErrExists when the name is taken.
func (s *Settings) Create(ctx context.Context, in Instance) (*Instance, error) {
	n := in.clone()
	if n.Keys.Primary == "" {
		n.Keys.Primary = NewKey()
	}
	if n.Keys.Secondary == "" {
		n.Keys.Secondary = NewKey()
	}
	if n.SKU.Name == "" {
		n.SKU = SKU{Name: "Standard_S1", Tier: "Standard", Capacity: 1}
	}
	n.Created = s.now().UTC()
	n.Modified = n.Created
	if err := cmp.Or(n.compile(), s.Snapshot().admit(n)); err != nil {
		return nil, err
	}
	key := strings.ToLower(n.Name)
	if _, err := s.instances.Create(ctx, key, *n); err != nil {
		return nil, translate(err)
	}
	return s.must(key)
}

// Update edits a copy of the instance and stores it by compare-and-swap, repeating edit when somebody else was
// faster. An edit that changes nothing writes nothing. The error is whatever edit returned, [Faults], ErrNotFound,
// or ErrConflict after many tries.
func (s *Settings) Update(ctx context.Context, name string, edit func(*Instance) error) (*Instance, error) {
	in, _, err := s.update(ctx, name, edit)
	return in, err
}

func (s *Settings) update(ctx context.Context, name string, edit func(*Instance) error) (in *Instance, changed bool, err error) {
	key := strings.ToLower(name)
	for range maxTries {
		current, ok := s.instances.Get(key)
		if !ok {
			return nil, false, ErrNotFound
		}
		n := current.Value.clone()
		if err := edit(n); err != nil {
			return nil, false, err
		}
		if err := cmp.Or(n.compile(), s.Snapshot().admit(n)); err != nil {
			return nil, false, err
		}
		if strings.ToLower(n.Name) != key {
			return nil, false, Faults{{"name", "cannot be changed"}}
		}
		if same, err := equal(n, &current.Value); err != nil {
			return nil, false, err
		} else if same {
			in, err := s.must(key)
			return in, false, err
		}
		n.Modified = s.now().UTC()
		_, err := s.instances.Update(ctx, key, *n, current.Revision)
		if err == nil {
			in, err := s.must(key)
			return in, true, err
		}
		if !errors.Is(err, store.ErrConflict) {
			return nil, false, translate(err)
		}
		if err := ctx.Err(); err != nil {
			return nil, false, err
		}
	}
	return nil, false, ErrConflict
}

// maxTries bounds the repetitions of a compare-and-swap.
const maxTries = 16

// equal tells whether two instances are stored as the same document.
func equal(a, b *Instance) (bool, error) {
	x, err := json.Marshal(a)
	if err != nil {
		return false, err
	}
	y, err := json.Marshal(b)
	return bytes.Equal(x, y), err
}

// Delete removes an instance with its keys and hubs if may, which can be nil, does not object to what it is, and
// returns what it was at that moment, so that the caller can clean up after it. ErrNotFound when it is not there.
func (s *Settings) Delete(ctx context.Context, name string, may func(*Instance) error) (*Instance, error) {
	key := strings.ToLower(name)
	for range maxTries {
		current, ok := s.instances.Get(key)
		if !ok {
			return nil, ErrNotFound
		}
		in := current.Value.clone()
		in.revision = current.Revision
		if may != nil {
			if err := may(in); err != nil {
				return nil, err
			}
		}
		err := s.instances.Delete(ctx, key, current.Revision)
		if err == nil {
			s.reload()
			return in, nil
		}
		if !errors.Is(err, store.ErrConflict) {
			return nil, translate(err)
		}
		if err := ctx.Err(); err != nil {
			return nil, err
		}
	}
	return nil, ErrConflict
}

// UpdateHub edits a copy of a hub's settings, beginning with the defaults when it has none, and tells whether that
// changed anything. Errors are those of Update. The copy is Stored if it has some already.
func (s *Settings) UpdateHub(ctx context.Context, instance, name string, edit func(*Hub) error) (hub *Hub, changed bool, err error) {
	key := strings.ToLower(name)
	in, changed, err := s.update(ctx, instance, func(in *Instance) error {
		h, ok := in.Hubs[key] // a copy already
		if !ok {
			h = &Hub{Name: name}
			in.Hubs[key] = h
		}
		h.stored = ok
		return edit(h)
	})
	if err != nil {
		return nil, false, err
	}
	return in.Hub(name), changed, nil
}

// DeleteHub forgets the settings of a hub if may, which can be nil, does not object to what they are; its connections
// stay. ErrNotFound when it has none.
func (s *Settings) DeleteHub(ctx context.Context, instance, name string, may func(*Hub) error) error {
	_, err := s.Update(ctx, instance, func(in *Instance) error {
		key := strings.ToLower(name)
		h, ok := in.Hubs[key]
		if !ok {
			return ErrNotFound
		}
		if may != nil {
			if err := may(h); err != nil {
				return err
			}
		}
		delete(in.Hubs, key)
		return nil
	})
	return err
}

// Key names one of the access keys.
type Key string

// The two keys.
const (
	Primary   Key = "Primary"
	Secondary Key = "Secondary"
)

// RegenerateKeys replaces the named keys by fresh ones. Tokens signed with an old key stop working at once;
// connections that they opened stay.
func (s *Settings) RegenerateKeys(ctx context.Context, instance string, keys ...Key) (*Instance, error) {
	return s.Update(ctx, instance, func(in *Instance) error {
		for _, k := range keys {
			switch k {
			case Primary:
				in.Keys.Primary = NewKey()
			case Secondary:
				in.Keys.Secondary = NewKey()
			default:
				return Faults{{"keyType", fmt.Sprintf("%q is neither Primary nor Secondary", string(k))}}
			}
		}
		return nil
	})
}

// NewKey makes an access key: 32 random bytes as base64 text.
func NewKey() string {
	var b [32]byte
	rand.Read(b[:]) // never fails
	return base64.StdEncoding.EncodeToString(b[:])
}

// must returns what was just written. The collection shows it already; our own snapshot may follow a moment later.
func (s *Settings) must(key string) (*Instance, error) {
	s.reload()
	in, ok := s.Snapshot().instances[key]
	if !ok { // deleted by somebody else right after our write
		return nil, ErrNotFound
	}
	return in, nil
}

func translate(err error) error {
	switch {
	case errors.Is(err, store.ErrNotFound):
		return ErrNotFound
	case errors.Is(err, store.ErrExists):
		return ErrExists
	case errors.Is(err, store.ErrConflict):
		return ErrConflict
	case errors.Is(err, store.ErrTooLarge):
		return Faults{{"properties", "and hubs together are larger than one instance may store"}}
	}
	return err
}
