package filter

import (
	"fmt"
	"strings"
	"unicode/utf16"
	"unicode/utf8"
)

// checkCall refuses unknown functions and wrong numbers of arguments, whatever the arguments are.
func (n *node) checkCall() *Error {
	least, most := 2, 2
	switch n.text {
	case "tolower", "toupper", "trim", "length":
		least, most = 1, 1
	case "startswith", "endswith", "contains", "indexof", "concat":
	case "substring":
		most = 3
	default:
		err := unsupported(n)
		err.Expr = shorten(n.String())
		return err
	}
	if len(n.args) < least || len(n.args) > most {
		return n.invalidCall(Unsupported)
	}
	return nil
}

func (n *node) invalidCall(kind Kind) *Error {
	text := shorten(n.String())
	return &Error{kind, n.pos, text, fmt.Sprintf("Invalid token '%s'.", text)}
}

// compileCall compiles a function of the language that checkCall accepts.
func (n *node) compileCall(args []value) (value, *Error) {
	switch n.text {
	case "length":
		return n.compileLength(args[0])
	case "tolower":
		return n.compileMap(args[0], strings.ToLower)
	case "toupper":
		return n.compileMap(args[0], strings.ToUpper)
	case "trim":
		return n.compileMap(args[0], strings.TrimSpace)
	case "startswith":
		return n.compilePredicate(args[0], args[1], strings.HasPrefix)
	case "endswith":
		return n.compilePredicate(args[0], args[1], strings.HasSuffix)
	case "contains":
		return n.compilePredicate(args[0], args[1], strings.Contains)
	case "indexof":
		return n.compileIndexOf(args[0], args[1])
	case "concat":
		return n.compileConcat(args[0], args[1])
	default:
		return n.compileSubstring(args[0], args[1:])
	}
}

// result marks what a call yields for the connection that filters are checked with.
func result(v value, unset bool) value {
	if v.unset = unset; unset {
		v.shown = kindNull
	}
	return v
}

// wantString refuses anything but a string or the literal null.
func (n *node) wantString(vs ...value) *Error {
	for _, v := range vs {
		if v.kind != kindString && v.kind != kindNull {
			return typeError(n, v, kindString)
		}
	}
	return nil
}

func (n *node) compileLength(v value) (value, *Error) {
	switch v.kind {
	case kindNull:
		return nullValue, nil
	case kindCollection:
		return intValue(func(s Subject) (int, bool) { return s.GroupCount(), true }), nil
	case kindString:
		return result(intValue(func(s Subject) (int, bool) {
			text, ok := v.str(s)
			return length16(text), ok
		}), v.unset), nil
	}
	return value{}, n.invalidCall(Type)
}

func (n *node) compileMap(v value, f func(string) string) (value, *Error) {
	if err := n.wantString(v); err != nil {
		return value{}, err
	}
	if v.kind == kindNull {
		return nullValue, nil
	}
	return result(stringValue(func(s Subject) (string, bool) {
		text, ok := v.str(s)
		if !ok {
			return "", false
		}
		return f(text), true
	}), v.unset), nil
}

func (n *node) compilePredicate(a, b value, f func(string, string) bool) (value, *Error) {
	if a.kind == kindNull || b.kind == kindNull {
		return boolValue(never), nil
	}
	if err := n.wantString(a, b); err != nil {
		return value{}, err
	}
	return boolValue(func(s Subject) bool {
		x, okX := a.str(s)
		y, okY := b.str(s)
		return okX && okY && f(x, y)
	}), nil
}

func (n *node) compileIndexOf(a, b value) (value, *Error) {
	if a.kind == kindNull || b.kind == kindNull {
		return intValue(func(Subject) (int, bool) { return -1, true }), nil
	}
	if err := n.wantString(a, b); err != nil {
		return value{}, err
	}
	return intValue(func(s Subject) (int, bool) {
		x, okX := a.str(s)
		y, okY := b.str(s)
		if !okX || !okY {
			return -1, true
		}
		i := strings.Index(x, y)
		if i < 0 {
			return -1, true
		}
		return length16(x[:i]), true
	}), nil
}

// compileConcat takes null for the empty string, unless both are null.
func (n *node) compileConcat(a, b value) (value, *Error) {
	if err := n.wantString(a, b); err != nil {
		return value{}, err
	}
	switch {
	case a.kind == kindNull && b.kind == kindNull:
		return nullValue, nil
	case a.kind == kindNull:
		return result(b, b.unset), nil
	case b.kind == kindNull:
		return result(a, a.unset), nil
	}
	return result(stringValue(func(s Subject) (string, bool) {
		x, okX := a.str(s)
		y, okY := b.str(s)
		return x + y, okX || okY
	}), a.unset && b.unset), nil
}

// compileSubstring yields null for a null string and for a range that is not within the string.
func (n *node) compileSubstring(v value, bounds []value) (value, *Error) {
	for _, b := range bounds {
		if b.shown != kindInt {
			return value{}, typeError(n, b, kindInt)
		}
	}
	if err := n.wantString(v); err != nil {
		return value{}, err
	}
	if v.kind == kindNull {
		return nullValue, nil
	}
	return result(stringValue(func(s Subject) (string, bool) {
		text, ok := v.str(s)
		if !ok {
			return "", false
		}
		start, ok := bounds[0].int(s)
		if !ok {
			return "", false
		}
		if len(bounds) == 1 {
			return substring16(text, start, length16(text)-start)
		}
		length, ok := bounds[1].int(s)
		if !ok {
			return "", false
		}
		return substring16(text, start, length)
	}), v.unset), nil
}

// The service counts UTF-16 code units, as .NET does: a character beyond the basic plane has the length 2.

func length16(s string) int {
	n := len(s)
	for i := range len(s) {
		if s[i] >= utf8.RuneSelf {
			return len(utf16.Encode([]rune(s)))
		}
	}
	return n
}

// substring16 replaces a half of a surrogate pair, if the range cuts one, with U+FFFD.
func substring16(s string, start, length int) (string, bool) {
	total := length16(s)
	if start < 0 || length < 0 || start > total || length > total-start {
		return "", false
	}
	if total == len(s) { // every byte is one unit
		return s[start : start+length], true
	}
	return string(utf16.Decode(utf16.Encode([]rune(s))[start : start+length])), true
}
