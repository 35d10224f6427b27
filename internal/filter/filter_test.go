package filter

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
)

type subject struct {
	id, user, protocol string
	groups             []string
}

func (s subject) ConnectionID() string     { return s.id }
func (s subject) UserID() (string, bool)   { return s.user, s.user != "" }
func (s subject) Protocol() (string, bool) { return s.protocol, s.protocol != "" }
func (s subject) InGroup(name string) bool { return slices.Contains(s.groups, name) }
func (s subject) GroupCount() int          { return len(s.groups) }

var (
	alice = subject{id: "connection-1", user: "tenant1-Alice", protocol: "json.webpubsub.azure.v1", groups: []string{"g1", "g2"}}
	anon  = subject{id: "connection-2", groups: []string{"g1"}}
)

func TestMatch(t *testing.T) {
	for _, tc := range []struct {
		name, filter string
		who          subject
		want         bool
	}{
		{"no filter selects everybody", "", anon, true},
		{"a constant may be the whole filter", "true", anon, true},
		{"false selects nobody", "false", alice, false},
		{"a user is compared as written", "userId eq 'tenant1-Alice'", alice, true},
		{"a user differs in letter case", "userId eq 'tenant1-alice'", alice, false},
		{"names may have any letter case", "USERID eq 'tenant1-Alice' and ConnectionID ne '1'", alice, true},
		{"an anonymous connection has the user null", "userId eq null", anon, true},
		{"a named one has not", "userId ne null", alice, true},
		{"a user is one of a list", "userId in ('a', 'tenant1-Alice')", alice, true},
		{"a listed string may contain a comma", "userId in ('Doe, John','x')", subject{user: "Doe, John"}, true},
		{"a listed null finds the anonymous", "userId in ('a',null)", anon, true},
		{"a listed expression is evaluated", "userId in (tolower('BOB'))", subject{user: "bob"}, true},
		{"two quotes stand for one", "userId eq 'o''neil'", subject{user: "o'neil"}, true},
		{"two quotes in a list", "userId in ('O''Brien, Jane', 'Alice')", subject{user: "O'Brien, Jane"}, true},
		{"in one group and not in another", "'g1' in groups and not ('g2' in groups)", anon, true},
		{"the other group excludes", "'g1' in groups and not ('g2' in groups)", alice, false},
		{"in binds tighter than not, as in OData", "not 'g2' in groups", anon, true},
		{"a user may be looked for among the groups", "userId in groups", subject{user: "g", groups: []string{"g"}}, true},
		{"null is in no group", "userId in groups", anon, false},
		{"and binds tighter than or", "true or true and false", anon, true},
		{"parentheses change that", "(true or true) and false", anon, false},
		{"a collection has a length", "length(groups) gt 1", alice, true},
		{"a string has a length", "length(userId) ge 13 and length(userId) le 13", alice, true},
		{"the length of null compares as false", "length(userId) ge 0", anon, false},
		{"a comparison with null is false", "length(groups) lt null", alice, false},
		{"length counts UTF-16 units", "length(userId) eq 2", subject{user: "😀"}, true},
		{"a prefix", "startswith(userId,'tenant1-')", alice, true},
		{"a suffix", "endswith(userId, 'Alice')", alice, true},
		{"a part", "contains(userId,'1-A')", alice, true},
		{"a part of null is not there", "contains(userId,'')", anon, false},
		{"an index", "indexof(userId,'-') eq 7", alice, true},
		{"an index that is not there", "indexof(userId,'zz') eq -1", alice, true},
		{"an index counts UTF-16 units", "indexof(userId,'b') eq 2", subject{user: "😀b"}, true},
		{"an index in null is -1", "indexof(userId,'a') eq -1", anon, true},
		{"lower case", "tolower(userId) eq 'tenant1-alice'", alice, true},
		{"upper case", "toupper(userId) eq 'TENANT1-ALICE'", alice, true},
		{"white space trimmed", "trim(userId) eq 'u'", subject{user: " u\t"}, true},
		{"null stays null through a function", "tolower(userId) eq null", anon, true},
		{"a substring to the end", "substring(userId,8) eq 'Alice'", alice, true},
		{"a substring with length", "substring(userId, 1, 1) eq 'b'", subject{user: "abc"}, true},
		{"a substring that begins beyond the end is null", "substring(userId,99) eq null", alice, true},
		{"a substring that is longer than the string is null", "substring(userId, 1, 2) eq 'bc'", subject{user: "a"}, false},
		{"a substring with negative start is null", "substring(userId,-1) eq null", alice, true},
		{"a substring beyond ASCII", "substring(userId,1,1) eq 'é'", subject{user: "aéb"}, true},
		{"strings joined", "concat(userId,'!') eq 'tenant1-Alice!'", alice, true},
		{"null joined is the other", "concat(userId,'!') eq '!'", anon, true},
		{"null and null joined is null", "concat(userId,null) eq null", anon, true},
		{"the subprotocol", "protocol eq 'json.webpubsub.azure.v1'", alice, true},
		{"a raw connection has the protocol null", "protocol eq null", anon, true},
		{"values of different types differ", "userId eq 1", alice, false},
		{"a signed number", "length(groups) gt -1 and length(groups) eq +2", alice, true},
		{"the smallest number", "length(groups) gt -2147483648", alice, true},
		{"booleans compare", "(userId eq null) eq true", anon, true},
		{"groups equal themselves", "groups eq groups and groups ne null", anon, true},
		{"white space is free", " \t'g1'in groups\n", alice, true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			f, err := Compile(tc.filter)
			if err != nil {
				t.Fatal(err)
			}
			if got := f.Match(tc.who); got != tc.want {
				t.Errorf("%s matches %+v: %v, want %v", tc.filter, tc.who, got, tc.want)
			}
		})
	}
}

// The texts of the first rows are documented or were recorded; the others follow their pattern.
func TestErrors(t *testing.T) {
	for _, tc := range []struct {
		filter string
		kind   Kind
		want   string
	}{
		{"not length(userId) gt 5", Type, "Invalid syntax for 'not length(userId)': Type 'null', expect 'bool'. (Parameter 'filter')"},
		{"userId lt 1", Type, "Invalid syntax for 'userId lt 1': Type 'string', expect 'int'. (Parameter 'filter')"},
		{"( not 'a' )", Type, "Invalid syntax for 'not 'a'': Type 'string', expect 'bool'. (Parameter 'filter')"},
		{"invalid(ab,c)", Unsupported, "Invalid syntax for 'invalid(ab,c)': Token 'invalid(ab,c)' is not supported. (Parameter 'filter')"},
		{"ab eq 1", Unsupported, "Invalid syntax for 'ab eq 1': Token 'ab' is not supported. (Parameter 'filter')"},

		{"not length(groups) gt 5", Type, "Invalid syntax for 'not length(groups)': Type 'int', expect 'bool'. (Parameter 'filter')"},
		{"userId", Type, "Invalid syntax for 'userId': Type 'string', expect 'bool'. (Parameter 'filter')"},
		{"nobody", Unsupported, "Invalid syntax for 'nobody': Token 'nobody' is not supported. (Parameter 'filter')"},
		{"not nobody", Unsupported, "Invalid syntax for 'not nobody': Token 'nobody' is not supported. (Parameter 'filter')"},
		{"true and userId", Type, "Invalid syntax for 'true and userId': Type 'string', expect 'bool'. (Parameter 'filter')"},
		{"false and userId eq 'a' and groups and true", Type, "Invalid syntax for 'false and (userId eq 'a') and groups': Type 'collection', expect 'bool'. (Parameter 'filter')"},
		{"true or null", Type, "Invalid syntax for 'true or null': Type 'null', expect 'bool'. (Parameter 'filter')"},
		{"tolower(userId) and true", Type, "Invalid syntax for 'tolower(userId) and true': Type 'null', expect 'bool'. (Parameter 'filter')"},
		{"tolower(connectionId) lt 1", Type, "Invalid syntax for 'tolower(connectionId) lt 1': Type 'string', expect 'int'. (Parameter 'filter')"},
		{"startswith(userId,5)", Type, "Invalid syntax for 'startswith(userId,5)': Type 'int', expect 'string'. (Parameter 'filter')"},
		{"'a' in userId", Type, "Invalid syntax for ''a' in userId': Type 'string', expect 'collection'. (Parameter 'filter')"},
		{"substring(userId,null) eq 'a'", Type, "Invalid syntax for 'substring(userId,null)': Type 'null', expect 'int'. (Parameter 'filter')"},
		{"substring(userId) eq 'a'", Unsupported, "Invalid syntax for 'substring(userId)': Invalid token 'substring(userId)'. (Parameter 'filter')"},
		{"length(5) eq 1", Type, "Invalid syntax for 'length(5)': Invalid token 'length(5)'. (Parameter 'filter')"},
		{"Length(userId) eq 1", Unsupported, "Invalid syntax for 'Length(userId)': Token 'Length(userId)' is not supported. (Parameter 'filter')"},
		{"length() eq 1", Unsupported, "Invalid syntax for 'length()': Invalid token 'length()'. (Parameter 'filter')"},

		{" ", Syntax, "Invalid syntax for ' ': Found the end at position 1, expect a value. (Parameter 'filter')"},
		{"userId eq", Syntax, "Invalid syntax for 'userId eq': Found the end at position 9, expect a value. (Parameter 'filter')"},
		{"userId eq 'a", Syntax, "Invalid syntax for 'userId eq 'a': The string that begins at position 10 has no closing quote. (Parameter 'filter')"},
		{"userId eq 'a' userId", Syntax, "Invalid syntax for 'userId eq 'a' userId': Found userId at position 14, expect an operator or the end. (Parameter 'filter')"},
		{"1 eq 1 eq true", Syntax, "Invalid syntax for '1 eq 1 eq true': Found eq at position 7, expect an operator or the end. (Parameter 'filter')"},
		{"(true", Syntax, "Invalid syntax for '(true': Found the end at position 5, expect ')'. (Parameter 'filter')"},
		{"true)", Syntax, "Invalid syntax for 'true)': Found ) at position 4, expect an operator or the end. (Parameter 'filter')"},
		{"userId in ()", Syntax, "Invalid syntax for 'userId in ()': Found ) at position 11, expect a value. (Parameter 'filter')"},
		{"userId in ('a' 'b')", Syntax, "Invalid syntax for 'userId in ('a' 'b')': Found 'b' at position 15, expect ',' or ')'. (Parameter 'filter')"},
		{"userId eq and", Syntax, "Invalid syntax for 'userId eq and': Found and at position 10, expect a value. (Parameter 'filter')"},
		{"groups/any(g: g)", Syntax, "Invalid syntax for 'groups/any(g: g)': Found '/' at position 6, which no expression contains outside of a string. (Parameter 'filter')"},
		{"length(groups) gt 2147483648", Syntax, "Invalid syntax for 'length(groups) gt 2147483648': The number 2147483648 at position 18 does not fit 32 bits. (Parameter 'filter')"},
		{"length(groups) gt -", Syntax, "Invalid syntax for 'length(groups) gt -': The number - at position 18 does not fit 32 bits. (Parameter 'filter')"},
		{"true AND true", Syntax, "Invalid syntax for 'true AND true': Found AND at position 5, expect an operator or the end. (Parameter 'filter')"},
	} {
		t.Run(tc.filter, func(t *testing.T) {
			f, err := Compile(tc.filter)
			var e *Error
			if !errors.As(err, &e) {
				t.Fatalf("compiled: %v", f)
			}
			if e.Error() != tc.want || e.Kind != tc.kind {
				t.Errorf("kind %d: %s\nwant %d: %s", e.Kind, e, tc.kind, tc.want)
			}
			if e.Pos < 0 || e.Pos > len(tc.filter) {
				t.Errorf("position %d is not in the expression", e.Pos)
			}
		})
	}
}

func TestLimits(t *testing.T) {
	nest := func(open, inner, shut string, n int) string {
		return strings.Repeat(open, n) + inner + strings.Repeat(shut, n)
	}
	long := "userId in ('" + strings.Repeat("x", MaxLength)
	for _, tc := range []struct {
		name, filter string
		ok           bool
	}{
		{"100 parentheses", nest("(", "true", ")", 100), true},
		{"101 parentheses", nest("(", "true", ")", 101), false},
		{"100 negations", nest("not ", "true", "", 100), true},
		{"101 negations", nest("not ", "true", "", 101), false},
		{"101 calls", nest("tolower(", "'a'", ")", 101) + " eq 'a'", false},
		{"101 lists", nest("true in (", "true", ")", 101), false},
		{"a long chain nests nothing", strings.TrimSuffix(strings.Repeat("userId eq 'a' or ", 3000), " or "), true},
		{"the longest expression", long[:MaxLength-2] + "')", true},
		{"a byte more", long[:MaxLength-1] + "')", false},
		{"a million parentheses", nest("(", "true", ")", 500_000), false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			_, err := Compile(tc.filter)
			var e *Error
			if tc.ok && err != nil {
				t.Error(err)
			} else if !tc.ok && (!errors.As(err, &e) || e.Kind != TooComplex) {
				t.Errorf("got %v, want too complex", err)
			} else if err != nil && len(err.Error()) > 3*maxShown {
				t.Errorf("the error repeats %d bytes", len(err.Error()))
			}
		})
	}
}

func TestErrorsAreBounded(t *testing.T) {
	for _, src := range []string{
		strings.Repeat("é", 30_000), "'" + strings.Repeat("a", 60_000) + "' and true", strings.Repeat("a", 60_000) + " eq 1",
		strings.Repeat("a", 60_000) + "(1) eq 1", strings.Repeat("9", 60_000) + " eq 1", "true 'é" + strings.Repeat("é", 30_000) + "'",
	} {
		_, err := Compile(src)
		if err == nil || len(err.Error()) > 3*maxShown {
			t.Errorf("%.20s…: %d bytes of error", src, len(fmt.Sprint(err)))
		}
	}
}

func TestMatchDoesNotAllocate(t *testing.T) {
	f, err := Compile("userId in ('a','b','tenant1-Alice') and ('g1' in groups or startswith(userId,'x')) and length(userId) gt 3 and connectionId ne '1'")
	if err != nil {
		t.Fatal(err)
	}
	var s Subject = &alice
	if n := testing.AllocsPerRun(100, func() { f.Match(s) }); n != 0 {
		t.Errorf("%v allocations per match", n)
	}
}

func BenchmarkCompile(b *testing.B) {
	b.ReportAllocs()
	for b.Loop() {
		if _, err := Compile("startswith(userId,'tenant1-') and not ('g2' in groups)"); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkMatch(b *testing.B) {
	f, _ := Compile("startswith(userId,'tenant1-') and not ('g3' in groups)")
	var s Subject = &alice
	b.ReportAllocs()
	for b.Loop() {
		if !f.Match(s) {
			b.Fatal("no match")
		}
	}
}
