// Package filter decides which connections an OData filter expression selects.
//
// A server that publishes to "everyone of tenant 1 who is in room a but not in room b" writes that sentence as the
// `filter` of its request. [Compile] parses and type-checks it once per request, so that a mistake is answered
// before anything is sent, whoever happens to be connected; [Filter.Match] then runs once per connection without
// allocating, unless the expression itself builds strings.
//
// The language is the subset that Azure Web PubSub documents, with `protocol` as a further name. What a connection
// is, and combining a filter with a group, a user or excluded connections, is left to the caller.
package filter

import "fmt"

// Limits of one expression. Both are checked while parsing; exceeding one is an [*Error].
const (
	MaxLength  = 64 << 10 // bytes
	MaxNesting = 100      // parentheses, calls and negations inside one another
)

// A Subject is one connection as a filter sees it. The methods are called any number of times per match, from the
// goroutine that matches.
type Subject interface {
	ConnectionID() string
	// UserID reports false for an anonymous connection: userId is null then.
	UserID() (string, bool)
	// Protocol is the name of the subprotocol and reports false for a raw WebSocket connection: protocol is null then.
	Protocol() (string, bool)
	InGroup(name string) bool
	GroupCount() int
}

// A Filter is a compiled expression. It is immutable and safe for concurrent use; nil selects every connection.
type Filter struct {
	match func(Subject) bool
}

// Compile parses and checks an expression. The empty expression is no filter: the result is nil. The error is
// always an [*Error], meant for the caller of the API.
func Compile(expression string) (*Filter, error) {
	if expression == "" {
		return nil, nil
	}
	root, err := parse(expression)
	if err != nil {
		return nil, err
	}
	match, err := compile(root, expression)
	if err != nil {
		return nil, err
	}
	return &Filter{match}, nil
}

// Match tells whether the expression is true for the connection.
func (f *Filter) Match(s Subject) bool { return f == nil || f.match(s) }

// A Kind classifies what is wrong with an expression.
type Kind uint8

// The kinds of faults.
const (
	Syntax      Kind = iota // it does not follow the grammar
	Type                    // an operand has the wrong type
	Unsupported             // it uses a name or function that does not exist, or with the wrong number of arguments
	TooComplex              // it is longer or nests deeper than the limits
)

// An Error says why an expression is not a filter.
type Error struct {
	Kind   Kind
	Pos    int    // byte offset of the fault in the expression
	Expr   string // the faulty part, as the service understood it; the whole expression for a syntax fault. Shortened
	Detail string // what is wrong with it
}

// Error has the service's own shape (DOC-F), which tells the developer the part and the type.
func (e *Error) Error() string {
	return fmt.Sprintf("Invalid syntax for '%s': %s (Parameter 'filter')", e.Expr, e.Detail)
}
