package identity

import (
	"maps"
	"math"
	"slices"
)

type key struct {
	principal Principal
	resource  string
}

// A table finds entries by their keys. It is replaced, never changed, so that readers need no lock. What it hashes is
// what tells almost all keys apart; hashing every id of a principal would be most of the price of a lookup, comparing
// them is cheap.
type table struct {
	slots map[slot][]*entry
	size  int
}

type slot struct{ principalID, resource string }

func (t *table) find(p *Principal, resource string) *entry {
	for _, e := range t.slots[slot{p.PrincipalID, resource}] {
		if e.key.principal == *p {
			return e
		}
	}
	return nil
}

// with is the table and one entry more.
func (t *table) with(e *entry) *table {
	slots, at := maps.Clone(t.slots), slot{e.key.principal.PrincipalID, e.key.resource}
	if slots == nil {
		slots = make(map[slot][]*entry)
	}
	slots[at] = append(slices.Clone(slots[at]), e)
	return &table{slots, t.size + 1}
}

// without is the table less some of its entries.
func (t *table) without(which func(*entry) bool) *table {
	rest := &table{slots: make(map[slot][]*entry, len(t.slots))}
	for at, entries := range t.slots {
		if kept := slices.DeleteFunc(slices.Clone(entries), which); len(kept) > 0 {
			rest.slots[at] = kept
			rest.size += len(kept)
		}
	}
	return rest
}

// soonestEnd is the entry whose token ends first, one without a token before all others.
func (t *table) soonestEnd() (victim *entry) {
	first := int64(math.MaxInt64)
	for _, entries := range t.slots {
		for _, e := range entries {
			end := int64(0)
			if h := e.held.Load(); h != nil {
				end = h.usableUntil
			}
			if end < first {
				first, victim = end, e
			}
		}
	}
	return victim
}
