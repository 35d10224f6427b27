package keyvault

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"tabard/internal/store"
)

// An index orders the documents by vault and secret. The documents in it are immutable and shared.
type index struct {
	open func(vault string, wrapped []byte) (*store.DataKey, error)

	mu     sync.RWMutex // guards all below
	vaults map[string]*vaultState
	count  int // versions
}

// A vaultState is what is known under a vault's name. vault is nil for what a purged vault left behind.
type vaultState struct {
	vault   *Vault
	key     *store.DataKey
	secrets map[string]*secretState
	sorted  []string // names of secrets; nil: to be made
}

type secretState struct {
	versions []*stored // the newest last
	mark     *mark
}

func (s *secretState) newest() *stored { return s.versions[len(s.versions)-1] }

// apply brings one document's place in the index up to date.
func (x *index) apply(key string, c *store.Collection[document]) error {
	kind, vault, name, id := splitKey(key)
	if kind == backupKind {
		return nil
	}
	item, exists := c.Get(key)
	x.mu.Lock()
	defer x.mu.Unlock()
	st := x.vaults[vault]
	if st == nil {
		if !exists {
			return nil
		}
		st = &vaultState{secrets: map[string]*secretState{}}
		x.vaults[vault] = st
	}
	defer func() {
		if st.vault == nil && len(st.secrets) == 0 {
			delete(x.vaults, vault)
		}
	}()
	doc := item.Value
	switch {
	case kind == vaultKind && exists && doc.Vault != nil:
		return st.setVault(vault, *doc.Vault, item.Revision, x.open)
	case kind == vaultKind:
		st.vault, st.key = nil, nil
	case kind == secretKind && exists && doc.Version != nil:
		v := *doc.Version
		v.revision = item.Revision
		if st.secret(name).put(&v) {
			x.count++
		}
	case kind == secretKind:
		if st.secret(name).remove(id) {
			x.count--
		}
		st.forgetEmpty(name)
	case kind == markKind && exists && doc.Mark != nil:
		m := *doc.Mark
		m.revision = item.Revision
		st.secret(name).mark = &m
	case kind == markKind:
		st.secret(name).mark = nil
		st.forgetEmpty(name)
	}
	return nil
}

func (st *vaultState) setVault(name string, v Vault, revision uint64, open func(string, []byte) (*store.DataKey, error)) error {
	v.revision = revision
	same := st.vault != nil && string(st.vault.DataKey) == string(v.DataKey)
	st.vault = &v
	if same && st.key != nil {
		return nil
	}
	key, err := open(name, v.DataKey)
	if err != nil {
		return fmt.Errorf("vault %s: %w", name, err)
	}
	st.key = key
	return nil
}

// secret returns the state of a name, made if it is missing.
func (st *vaultState) secret(name string) *secretState {
	s := st.secrets[name]
	if s == nil {
		s = &secretState{}
		st.secrets[name] = s
		st.sorted = nil
	}
	return s
}

func (st *vaultState) forgetEmpty(name string) {
	if s := st.secrets[name]; s != nil && len(s.versions) == 0 && s.mark == nil {
		delete(st.secrets, name)
		st.sorted = nil
	}
}

// put adds a version, or replaces it, and tells whether it is new. The order of versions is that of their sequence;
// two that two processes set at once have the same one, and their ids decide. Readers hold the old slice: it is copied.
func (s *secretState) put(v *stored) bool {
	i, found := slices.BinarySearchFunc(s.versions, v, compareVersions)
	next := slices.Clone(s.versions)
	if found {
		next[i] = v
	} else {
		next = slices.Insert(next, i, v)
	}
	s.versions = next
	return !found
}

func (s *secretState) remove(id string) bool {
	i := slices.IndexFunc(s.versions, func(v *stored) bool { return v.ID == id })
	if i < 0 {
		return false
	}
	s.versions = slices.Delete(slices.Clone(s.versions), i, i+1)
	return true
}

func compareVersions(a, b *stored) int {
	return cmp.Or(cmp.Compare(a.Sequence, b.Sequence), strings.Compare(a.ID, b.ID))
}

// A view is one secret at one moment.
type view struct {
	vault    *Vault
	key      *store.DataKey
	versions []*stored
	mark     *mark
}

// secret returns what is known of a name. Without versions the secret does not exist.
func (x *index) secret(vault, name string) view {
	x.mu.RLock()
	defer x.mu.RUnlock()
	st := x.vaults[vault]
	if st == nil {
		return view{}
	}
	w := view{vault: st.vault, key: st.key}
	if s := st.secrets[name]; s != nil {
		w.versions, w.mark = s.versions, s.mark
	}
	return w
}

func (w *view) newest() *stored { return w.versions[len(w.versions)-1] }

func (w *view) version(id string) *stored {
	if id == "" {
		return w.newest()
	}
	for _, v := range w.versions {
		if v.ID == id {
			return v
		}
	}
	return nil
}

// vault returns a vault by its name in any case, nil if there is none. A deleted one is there too.
func (x *index) vault(name string) *Vault {
	x.mu.RLock()
	defer x.mu.RUnlock()
	if st := x.vaults[strings.ToLower(name)]; st != nil {
		return st.vault
	}
	return nil
}

// all lists the vaults by name, deleted ones included.
func (x *index) all() []*Vault {
	x.mu.RLock()
	defer x.mu.RUnlock()
	var list []*Vault
	for _, name := range slices.Sorted(maps.Keys(x.vaults)) {
		if v := x.vaults[name].vault; v != nil {
			list = append(list, v)
		}
	}
	return list
}

// extent tells how many vaults and versions of secrets there are.
func (x *index) extent() (vaults, versions int) {
	x.mu.RLock()
	defer x.mu.RUnlock()
	for _, st := range x.vaults {
		if st.vault != nil {
			vaults++
		}
	}
	return vaults, x.count
}

// lastChange tells when a vault or secret was last changed, so that whoever compares it with what was there before
// notices a store that was put back to an older state. It looks at every version.
func (x *index) lastChange() time.Time {
	x.mu.RLock()
	defer x.mu.RUnlock()
	last := int64(0)
	for _, st := range x.vaults {
		if st.vault == nil {
			continue
		}
		last = max(last, st.vault.Modified.Unix())
		for _, s := range st.secrets {
			if s.mark != nil {
				last = max(last, s.mark.Since)
			}
			for _, v := range s.versions {
				last = max(last, v.Updated)
			}
		}
	}
	return time.Unix(last, 0).UTC()
}

// A named is an item of a list: a secret's newest version and its mark.
type named struct {
	newest *stored
	mark   *mark
}

// page lists at most limit secrets of a vault with names after the given one, in order, and tells whether more follow.
func (x *index) page(vault, after string, limit int, want func(*mark) bool) (list []named, more bool) {
	x.mu.Lock() // sorted may have to be made
	defer x.mu.Unlock()
	st := x.vaults[vault]
	if st == nil {
		return nil, false
	}
	if st.sorted == nil {
		st.sorted = slices.Sorted(maps.Keys(st.secrets))
	}
	from, found := slices.BinarySearch(st.sorted, after)
	if found {
		from++
	}
	for _, name := range st.sorted[from:] {
		s := st.secrets[name]
		if len(s.versions) == 0 || !want(s.mark) {
			continue
		}
		if len(list) == limit {
			return list, true
		}
		list = append(list, named{s.newest(), s.mark})
	}
	return list, false
}
