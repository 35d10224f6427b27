// Package template reads what resources somebody wants: files of ARM-shaped YAML or JSON, and ARM templates as Bicep
// compiles them.
//
// A person writes a list of resources by hand; a tool hands over a template with parameters, variables, conditions,
// loops, nested deployments and expressions in brackets. Both become the same [Resource]s. What is fixed before
// anything is deployed (type, name, dependencies) is computed at once; bodies are computed one by one with
// [Resource.Body], since they may refer to what exists only after others were deployed. Each fault names file and line.
//
// Which functions there are, the table in functions.go says; any other is refused by its name, never guessed. Where
// the resources go, and whether they differ from what is there, is the business of package apply.
package template

import (
	"fmt"
	"strings"
)

// A Pos is a place in a file.
type Pos struct {
	File string
	Line int
}

// String is "file:line".
func (p Pos) String() string {
	if p.Line == 0 {
		return p.File
	}
	return fmt.Sprintf("%s:%d", p.File, p.Line)
}

// An Error is a fault at a place.
type Error struct {
	Pos
	Message string
}

func (e *Error) Error() string { return e.Pos.String() + ": " + e.Message }

func (p Pos) errorf(format string, args ...any) error {
	return &Error{p, fmt.Sprintf(format, args...)}
}

// at gives an error a place unless it has one.
func (p Pos) at(err error) error {
	if err == nil {
		return nil
	}
	if e, ok := err.(*Error); ok {
		return e
	}
	return &Error{p, err.Error()}
}

// Limits of what is read. A template that needs more is most likely a mistake.
const (
	MaxFile      = 16 << 20 // bytes
	MaxFiles     = 1000
	MaxResources = 20_000 // after loops
	maxDepth     = 64     // of documents, expressions and nested deployments
	maxCopies    = 800    // of one loop, as in Azure
	maxText      = 4 << 20
)

// An Unknown is a value that is known only after another resource was deployed.
type Unknown struct{ Of string }

// String is what takes its place in a text for people.
func (u Unknown) String() string { return "(known after " + u.Of + " is there)" }

// member finds a member of an object, ignoring case as ARM does.
func member(o map[string]any, name string) (any, bool) {
	if v, ok := o[name]; ok {
		return v, true
	}
	for n, v := range o {
		if strings.EqualFold(n, name) {
			return v, true
		}
	}
	return nil, false
}
