package keyvault

import (
	"cmp"
	"slices"
	"strings"
	"sync"
)

// A Count is how many calls of one kind ended in one way since the start. There are few kinds: operations times
// statuses.
type Count struct {
	Operation string // "get", "set", …; "none" for what was refused before it was known
	Status    int    // of the answer, as over HTTP
	InProcess bool   // the service itself asked
	Calls     uint64
}

// counts counts calls; in its keys Calls is 0.
type counts struct {
	mu sync.Mutex // guards m
	m  map[Count]uint64
}

func (c *counts) add(operation string, status int, inProcess bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.m == nil {
		c.m = map[Count]uint64{}
	}
	c.m[Count{Operation: operation, Status: status, InProcess: inProcess}]++
}

// Counts are the calls since the start, by operation, status and road.
func (v *Vaults) Counts() []Count {
	v.counts.mu.Lock()
	defer v.counts.mu.Unlock()
	list := make([]Count, 0, len(v.counts.m))
	for kind, n := range v.counts.m {
		kind.Calls = n
		list = append(list, kind)
	}
	slices.SortFunc(list, func(a, b Count) int {
		inProcess := func(c Count) int {
			if c.InProcess {
				return 1
			}
			return 0
		}
		return cmp.Or(strings.Compare(a.Operation, b.Operation), cmp.Compare(a.Status, b.Status), cmp.Compare(inProcess(a), inProcess(b)))
	})
	return list
}

// Extent tells how many vaults there are, deleted ones included, and how many versions of secrets in them.
func (v *Vaults) Extent() (vaults, versions int) {
	return v.index.extent()
}
