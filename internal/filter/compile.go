package filter

import (
	"fmt"
	"strings"
)

// A kind is the static type of an expression. Strings and ints may be null at run time.
type kind uint8

const (
	kindNull kind = iota // the literal
	kindBool
	kindString
	kindInt
	kindCollection
)

func (k kind) String() string {
	return [...]string{"null", "bool", "string", "int", "collection"}[k]
}

// A value is a compiled expression: exactly one of the functions that its kind names is set. A second result of
// false means null.
type value struct {
	kind kind
	// unset tells that it is null for a connection without user and protocol, with which the service checks a
	// filter (3.2). A call that is unset has the type null in messages, as shown; a name keeps its own.
	unset bool
	shown kind

	bool func(Subject) bool
	str  func(Subject) (string, bool)
	int  func(Subject) (int, bool)

	literal *string // a constant string
}

var nullValue = value{kind: kindNull, shown: kindNull, unset: true}

func boolValue(f func(Subject) bool) value {
	return value{kind: kindBool, shown: kindBool, bool: f}
}

func stringValue(f func(Subject) (string, bool)) value {
	return value{kind: kindString, shown: kindString, str: f}
}

func intValue(f func(Subject) (int, bool)) value {
	return value{kind: kindInt, shown: kindInt, int: f}
}

func compile(root *node, src string) (func(Subject) bool, *Error) {
	v, err := root.compile()
	if err == nil && v.kind != kindBool {
		err = typeError(root, v, kindBool)
	}
	if err != nil {
		if err.Expr == "" { // nothing smaller contains the fault
			err.Expr = shorten(src)
		}
		return nil, err
	}
	return v.bool, nil
}

func typeError(at *node, got value, want kind) *Error {
	return &Error{Type, at.pos, shorten(at.String()), fmt.Sprintf("Type '%s', expect '%s'.", got.shown, want)}
}

// unsupported leaves Expr to the closest operation around it, which is what the service names.
func unsupported(n *node) *Error {
	return &Error{Kind: Unsupported, Pos: n.pos, Detail: fmt.Sprintf("Token '%s' is not supported.", shorten(n.String()))}
}

func (n *node) compile() (value, *Error) {
	if n.op == opCall {
		if err := n.checkCall(); err != nil {
			return value{}, err
		}
	}
	args := make([]value, len(n.args))
	for i, a := range n.args {
		v, err := a.compile()
		if err != nil {
			if err.Expr == "" && n.op != opNot {
				err.Expr = shorten(n.String())
			}
			return value{}, err
		}
		args[i] = v
	}
	switch n.op {
	case opNull:
		return nullValue, nil
	case opBool:
		yes := n.text == "true"
		return boolValue(func(Subject) bool { return yes }), nil
	case opInt:
		i := int(n.num)
		return intValue(func(Subject) (int, bool) { return i, true }), nil
	case opString:
		s := n.text
		v := stringValue(func(Subject) (string, bool) { return s, true })
		v.literal = &s
		return v, nil
	case opName:
		return n.compileName()
	case opCall:
		return n.compileCall(args)
	case opNot:
		if args[0].kind != kindBool {
			return value{}, typeError(n, args[0], kindBool)
		}
		f := args[0].bool
		return boolValue(func(s Subject) bool { return !f(s) }), nil
	case opLogic:
		return n.compileLogic(args)
	case opCompare:
		return n.compileCompare(args[0], args[1])
	case opIn:
		if args[1].kind != kindCollection {
			return value{}, typeError(n, args[1], kindCollection)
		}
		return boolValue(isMember(args[0])), nil
	default: // opInList
		return boolValue(isListed(args[0], args[1:])), nil
	}
}

func (n *node) compileName() (value, *Error) {
	switch {
	case strings.EqualFold(n.text, "userId"):
		return value{kind: kindString, shown: kindString, unset: true, str: Subject.UserID}, nil
	case strings.EqualFold(n.text, "protocol"):
		return value{kind: kindString, shown: kindString, unset: true, str: Subject.Protocol}, nil
	case strings.EqualFold(n.text, "connectionId"):
		return stringValue(func(s Subject) (string, bool) { return s.ConnectionID(), true }), nil
	case strings.EqualFold(n.text, "groups"):
		return value{kind: kindCollection, shown: kindCollection}, nil
	}
	return value{}, unsupported(n)
}

func (n *node) compileLogic(args []value) (value, *Error) {
	fs := make([]func(Subject) bool, len(args))
	for i, a := range args {
		if a.kind != kindBool {
			// A chain associates to the left: the operation that fails ends with this operand.
			upTo := &node{op: opLogic, pos: n.pos, text: n.text, args: n.args[:max(i, 1)+1]}
			return value{}, typeError(upTo, a, kindBool)
		}
		fs[i] = a.bool
	}
	stop := n.text == "or" // the value that decides the chain
	return boolValue(func(s Subject) bool {
		for _, f := range fs {
			if f(s) == stop {
				return stop
			}
		}
		return !stop
	}), nil
}

func (n *node) compileCompare(a, b value) (value, *Error) {
	switch n.text {
	case "eq":
		return boolValue(equal(a, b)), nil
	case "ne":
		eq := equal(a, b)
		return boolValue(func(s Subject) bool { return !eq(s) }), nil
	}
	if a.kind == kindNull || b.kind == kindNull {
		return boolValue(never), nil
	}
	for _, v := range []value{a, b} {
		if v.kind != kindInt {
			return value{}, typeError(n, v, kindInt)
		}
	}
	var holds func(x, y int) bool
	switch n.text {
	case "gt":
		holds = func(x, y int) bool { return x > y }
	case "ge":
		holds = func(x, y int) bool { return x >= y }
	case "lt":
		holds = func(x, y int) bool { return x < y }
	case "le":
		holds = func(x, y int) bool { return x <= y }
	}
	return boolValue(func(s Subject) bool {
		x, okX := a.int(s)
		y, okY := b.int(s)
		return okX && okY && holds(x, y)
	}), nil
}

func never(Subject) bool { return false }

// equal compares two values of any types: values of different types differ, unless both are null.
func equal(a, b value) func(Subject) bool {
	switch {
	case a.kind == b.kind:
		switch a.kind {
		case kindString:
			return func(s Subject) bool {
				x, okX := a.str(s)
				y, okY := b.str(s)
				return okX == okY && (!okX || x == y)
			}
		case kindInt:
			return func(s Subject) bool {
				x, okX := a.int(s)
				y, okY := b.int(s)
				return okX == okY && (!okX || x == y)
			}
		case kindBool:
			return func(s Subject) bool { return a.bool(s) == b.bool(s) }
		}
		return func(Subject) bool { return true } // null and null; groups and groups
	default:
		return func(s Subject) bool { return a.isNull(s) && b.isNull(s) }
	}
}

func (v value) isNull(s Subject) bool {
	ok := true
	switch v.kind {
	case kindNull:
		return true
	case kindString:
		_, ok = v.str(s)
	case kindInt:
		_, ok = v.int(s)
	}
	return !ok
}

// isMember compiles `v in groups`: only a string can be a group.
func isMember(v value) func(Subject) bool {
	if v.kind != kindString {
		return never
	}
	return func(s Subject) bool {
		name, ok := v.str(s)
		return ok && s.InGroup(name)
	}
}

// isListed compiles `v in (…)`. Constant strings, the usual long lists, become a set.
func isListed(v value, items []value) func(Subject) bool {
	set := map[string]struct{}{}
	var others []func(Subject) bool
	for _, item := range items {
		if item.literal != nil && v.kind == kindString {
			set[*item.literal] = struct{}{}
		} else {
			others = append(others, equal(v, item))
		}
	}
	return func(s Subject) bool {
		if len(set) > 0 {
			if x, ok := v.str(s); ok {
				if _, found := set[x]; found {
					return true
				}
			}
		}
		for _, f := range others {
			if f(s) {
				return true
			}
		}
		return false
	}
}
