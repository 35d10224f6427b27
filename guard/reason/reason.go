// Package reason is the catalogue of why something was refused or not
// delivered. Every refusal of the guard, every refused client or server of the
// service, and every event that did not reach its handler carries one Code;
// the code is stable, so that scripts and dashboards may match on it, while the
// sentence and the advice may be reworded between releases.
//
// The package is a leaf: it knows codes and words, not requests.
package reason

// A Code names one cause, in snake_case. Codes are never renamed or reused.
type Code string

// String returns the code as it appears on the wire.
func (c Code) String() string { return string(c) }

// A Reason is the explanation of a Code.
type Reason struct {
	Code     Code   // the stable name
	Sentence string // what happened, in general; the place of use adds the values
	Fix      string // what a developer or operator does about it
}

// Lookup returns the entry of a code. The second result is false if the
// catalogue has no such code, for example because another version wrote it.
func Lookup(c Code) (Reason, bool) {
	i, ok := index[c]
	if !ok {
		return Reason{}, false
	}
	return catalogue[i], true
}

// All returns the whole catalogue in its fixed order: tokens, handler requests,
// access, delivery. The slice is a copy.
func All() []Reason {
	return append([]Reason(nil), catalogue...)
}

var index = func() map[Code]int {
	m := make(map[Code]int, len(catalogue))
	for i, r := range catalogue {
		m[r.Code] = i
	}
	return m
}()
