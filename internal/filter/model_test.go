package filter

import (
	"strings"
	"testing"
	"unicode/utf16"

	"pgregory.net/rapid"
)

// The naive evaluator interprets the parsed expression with dynamically typed values, as rest-api.md 3.2 words it:
// no compilation, no static types, no short circuit. It panics with a typeFault where an operand has a wrong type.

type typeFault struct{}

func naive(n *node, s subject) any {
	args := make([]any, 0, len(n.args))
	for _, a := range n.args {
		args = append(args, naive(a, s))
	}
	switch n.op {
	case opNull:
		return nil
	case opBool:
		return n.text == "true"
	case opInt:
		return int(n.num)
	case opString:
		return n.text
	case opName:
		switch strings.ToLower(n.text) {
		case "userid":
			return orNull(s.UserID())
		case "protocol":
			return orNull(s.Protocol())
		case "connectionid":
			return s.id
		case "groups":
			return groupsOf(s)
		}
	case opNot:
		return !boolean(args[0])
	case opLogic:
		yes, no := true, false
		for _, a := range args {
			yes, no = yes && boolean(a), no || boolean(a)
		}
		if n.text == "and" {
			return yes
		}
		return no
	case opCompare:
		switch n.text {
		case "eq":
			return same(args[0], args[1])
		case "ne":
			return !same(args[0], args[1])
		}
		if args[0] == nil || args[1] == nil {
			return false
		}
		a, b := integer(args[0]), integer(args[1])
		return map[string]bool{"lt": a < b, "le": a <= b, "gt": a > b, "ge": a >= b}[n.text]
	case opIn:
		found := false
		for _, g := range args[1].(groupList) {
			found = found || same(args[0], g)
		}
		return found
	case opInList:
		found := false
		for _, item := range args[1:] {
			found = found || same(args[0], item)
		}
		return found
	case opCall:
		return naiveCall(n.text, args)
	}
	panic("not an expression")
}

func naiveCall(name string, args []any) any {
	null := args[0] == nil || len(args) == 2 && args[1] == nil && name != "substring"
	switch name {
	case "length":
		if g, ok := args[0].(groupList); ok {
			return len(g)
		}
		if null {
			return nil
		}
		return len(units(text(args[0])))
	case "tolower", "toupper", "trim":
		if null {
			return nil
		}
		return map[string]func(string) string{"tolower": strings.ToLower, "toupper": strings.ToUpper, "trim": strings.TrimSpace}[name](text(args[0]))
	case "startswith", "endswith", "contains":
		if null {
			return false
		}
		return map[string]func(a, b string) bool{"startswith": strings.HasPrefix, "endswith": strings.HasSuffix, "contains": strings.Contains}[name](text(args[0]), text(args[1]))
	case "indexof":
		if null {
			return -1
		}
		before, _, found := strings.Cut(text(args[0]), text(args[1]))
		if !found {
			return -1
		}
		return len(units(before))
	case "concat":
		if args[0] == nil {
			return args[1]
		}
		if args[1] == nil {
			return args[0]
		}
		return text(args[0]) + text(args[1])
	case "substring":
		start := args[1].(int)
		if args[0] == nil {
			return nil
		}
		u := units(text(args[0]))
		end := len(u)
		if len(args) == 3 {
			end = start + args[2].(int)
		}
		if start < 0 || start > len(u) || end < start || end > len(u) {
			return nil
		}
		return string(utf16.Decode(u[start:end]))
	}
	panic("no function")
}

type groupList []string

func groupsOf(s subject) groupList { return s.groups }

func orNull(s string, ok bool) any {
	if !ok {
		return nil
	}
	return s
}

func same(a, b any) bool {
	_, ga := a.(groupList)
	_, gb := b.(groupList)
	if ga || gb {
		return ga && gb
	}
	return a == b
}

func boolean(v any) bool {
	b, ok := v.(bool)
	if !ok {
		panic(typeFault{})
	}
	return b
}

func integer(v any) int {
	i, ok := v.(int)
	if !ok {
		panic(typeFault{})
	}
	return i
}

func text(v any) string {
	s, ok := v.(string)
	if !ok {
		panic(typeFault{})
	}
	return s
}

func units(s string) []uint16 { return utf16.Encode([]rune(s)) }

// Generators of well-typed expressions.

func genBool(depth int) *rapid.Generator[*node] {
	return rapid.Custom(func(t *rapid.T) *node {
		if depth == 0 {
			return &node{op: opBool, text: rapid.SampledFrom([]string{"true", "false"}).Draw(t, "bool")}
		}
		b, s, i := genBool(depth-1), genString(depth-1), genInt(depth-1)
		switch rapid.IntRange(0, 6).Draw(t, "shape") {
		case 0:
			return &node{op: opNot, text: "not", args: []*node{b.Draw(t, "x")}}
		case 1:
			return &node{op: opLogic, text: rapid.SampledFrom([]string{"and", "or"}).Draw(t, "logic"), args: rapid.SliceOfN(b, 2, 4).Draw(t, "operands")}
		case 2:
			word := rapid.SampledFrom([]string{"gt", "ge", "lt", "le"}).Draw(t, "order")
			return &node{op: opCompare, text: word, args: []*node{i.Draw(t, "a"), i.Draw(t, "b")}}
		case 3:
			word := rapid.SampledFrom([]string{"eq", "ne"}).Draw(t, "equality")
			any := rapid.OneOf(b, s, i, rapid.Just(&node{op: opNull, text: "null"}))
			return &node{op: opCompare, text: word, args: []*node{any.Draw(t, "a"), any.Draw(t, "b")}}
		case 4:
			return &node{op: opIn, text: "in", args: []*node{s.Draw(t, "x"), {op: opName, text: "groups"}}}
		case 5:
			any := rapid.OneOf(s, s, i, rapid.Just(&node{op: opNull, text: "null"}))
			return &node{op: opInList, text: "in", args: rapid.SliceOfN(any, 2, 5).Draw(t, "list")}
		default:
			f := rapid.SampledFrom([]string{"startswith", "endswith", "contains"}).Draw(t, "predicate")
			return &node{op: opCall, text: f, args: []*node{s.Draw(t, "a"), s.Draw(t, "b")}}
		}
	})
}

func genString(depth int) *rapid.Generator[*node] {
	return rapid.Custom(func(t *rapid.T) *node {
		shape := rapid.IntRange(0, 5).Draw(t, "shape")
		if depth == 0 {
			shape = min(shape, 1)
		}
		switch shape {
		case 0:
			return &node{op: opString, text: rapid.SampledFrom([]string{"", "a", "A b", "ab", "o'neil", "g1", "é😀"}).Draw(t, "literal")}
		case 1:
			return &node{op: opName, text: rapid.SampledFrom([]string{"userId", "connectionId", "protocol"}).Draw(t, "name")}
		case 2:
			return &node{op: opCall, text: "concat", args: []*node{genString(depth-1).Draw(t, "a"), genString(depth-1).Draw(t, "b")}}
		case 3:
			args := []*node{genString(depth-1).Draw(t, "s")}
			for range rapid.IntRange(1, 2).Draw(t, "bounds") {
				args = append(args, &node{op: opInt, num: int32(rapid.IntRange(-1, 4).Draw(t, "bound"))})
			}
			return &node{op: opCall, text: "substring", args: args}
		default:
			f := rapid.SampledFrom([]string{"tolower", "toupper", "trim"}).Draw(t, "map")
			return &node{op: opCall, text: f, args: []*node{genString(depth-1).Draw(t, "s")}}
		}
	})
}

func genInt(depth int) *rapid.Generator[*node] {
	return rapid.Custom(func(t *rapid.T) *node {
		shape := rapid.IntRange(0, 3).Draw(t, "shape")
		if depth == 0 {
			shape = 0
		}
		switch shape {
		case 0:
			return &node{op: opInt, num: rapid.Int32Range(-2, 5).Draw(t, "int")}
		case 1:
			return &node{op: opCall, text: "length", args: []*node{{op: opName, text: "groups"}}}
		case 2:
			return &node{op: opCall, text: "length", args: []*node{genString(depth-1).Draw(t, "s")}}
		default:
			return &node{op: opCall, text: "indexof", args: []*node{genString(depth-1).Draw(t, "a"), genString(depth-1).Draw(t, "b")}}
		}
	})
}

var genSubject = rapid.Custom(func(t *rapid.T) subject {
	word := rapid.SampledFrom([]string{"", "a", "ab", "A b", "g1", "o'neil", "x😀é", " a"})
	return subject{
		id: word.Draw(t, "id"), user: word.Draw(t, "user"), protocol: word.Draw(t, "protocol"),
		groups: rapid.SliceOfNDistinct(rapid.SampledFrom([]string{"a", "ab", "g1", "g2"}), 0, 3, rapid.ID).Draw(t, "groups"),
	}
})

func TestCompiledAgreesWithNaiveEvaluation(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		root := genBool(4).Draw(t, "expression")
		src := root.String()
		f, err := Compile(src)
		if err != nil {
			t.Fatalf("%s: %v", src, err)
		}
		again, _ := parse(src)
		if again.String() != src {
			t.Fatalf("printed %s, parsed and printed again %s", src, again)
		}
		for range 5 {
			s := genSubject.Draw(t, "subject")
			if got, want := f.Match(s), naive(root, s).(bool); got != want {
				t.Fatalf("%s on %+v: %v, want %v", src, s, got, want)
			}
		}
	})
}

// Whatever compiles never meets a wrong type at run time, whoever is connected.
func TestTypesAreSettledBeforeAnybodyIsMatched(t *testing.T) {
	mixed := func(depth int) *rapid.Generator[*node] {
		return rapid.OneOf(genBool(depth), genString(depth), genInt(depth),
			rapid.Just(&node{op: opName, text: "groups"}), rapid.Just(&node{op: opNull, text: "null"}))
	}
	rapid.Check(t, func(t *rapid.T) {
		var root *node
		args := rapid.SliceOfN(mixed(2), 1, 3).Draw(t, "operands")
		switch rapid.IntRange(0, 3).Draw(t, "shape") {
		case 0:
			root = &node{op: opNot, text: "not", args: args[:1]}
		case 1:
			root = &node{op: opLogic, text: "or", args: append(args, &node{op: opBool, text: "true"})}
		case 2:
			root = &node{op: opCompare, text: "lt", args: append(args, args[0])[:2]}
		default:
			f := rapid.SampledFrom([]string{"startswith", "indexof", "concat", "length", "substring", "tolower"}).Draw(t, "function")
			call := &node{op: opCall, text: f, args: args}
			root = &node{op: opCompare, text: "eq", args: []*node{call, {op: opNull, text: "null"}}}
		}
		f, err := Compile(root.String())
		if err != nil {
			return
		}
		s := genSubject.Draw(t, "subject")
		defer func() {
			if r := recover(); r != nil {
				t.Fatalf("%s compiled, and on %+v: %v", root, s, r)
			}
		}()
		if f.Match(s) != naive(root, s) {
			t.Fatalf("%s on %+v: want %v", root, s, naive(root, s))
		}
	})
}

func FuzzCompile(f *testing.F) {
	for _, seed := range []string{
		"", "true", "userId eq 'o''neil'", "'g1' in groups and not ('g2' in groups)", "userId in ('a','b',null)",
		"substring(userId,1,2) eq 'é' or length(groups) gt -1", "not length(userId) gt 5", "((((", "a(b,c)", "'",
		"indexof(concat(userId,null),toupper('x')) le +2147483647", "groups/any(g: g)", "\xff'\xff'",
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, src string) {
		compiled, err := Compile(src)
		if err != nil {
			e := err.(*Error)
			if e.Pos < 0 || e.Pos > len(src) || e.Detail == "" || e.Expr == "" || len(e.Error()) > 3*maxShown {
				t.Fatalf("%q: bad error %#v", src, e)
			}
			return
		}
		if src == "" {
			return
		}
		root, _ := parse(src)
		again, err := Compile(root.String())
		if err != nil && len(root.String()) <= MaxLength {
			t.Fatalf("%q printed as %q: %v", src, root, err)
		}
		for _, s := range []subject{alice, anon, {id: src, user: src, groups: []string{src}}} {
			if err == nil && compiled.Match(s) != again.Match(s) {
				t.Fatalf("%q and its print %q differ on %+v", src, root, s)
			}
		}
	})
}
