package filter

import (
	"fmt"
	"strconv"
	"strings"
	"unicode/utf8"
)

// A node is one piece of the parsed expression. Chains of `and` and `or` are one node with many arguments, so that
// depth is bounded by MaxNesting and not by length.
type node struct {
	op   op
	pos  int
	text string // the name, the function, the operator's word, or a string literal's value
	num  int32
	args []*node
}

type op uint8

const (
	opNull op = iota
	opBool    // text is "true" or "false"
	opInt
	opString
	opName
	opCall
	opNot
	opLogic   // text is "and" or "or"
	opCompare // text is "eq" … "le"
	opIn      // args[0] in args[1]
	opInList  // args[0] in (args[1:])
)

// A parser is a recursive descent over the grammar, lowest precedence first (rest-api.md 3.1):
//
//	expr    := and { 'or' and }
//	and     := cmp { 'and' cmp }
//	cmp     := unary [ ('eq'|'ne'|'gt'|'ge'|'lt'|'le') unary ]
//	unary   := 'not' unary | member
//	member  := primary [ 'in' ( '(' expr { ',' expr } ')' | primary ) ]
//	primary := string | int | 'true' | 'false' | 'null' | name [ '(' [ expr { ',' expr } ] ')' ] | '(' expr ')'
//
// `in` binds tighter than `not`, as in OData's own parser; the other reading, (not x) in (…), has no meaning.
//
// The first fault is kept and turns every following token into the end, so that the descent unwinds by itself.
type parser struct {
	src   string
	next  int // offset of the first byte that is not lexed yet
	tok   token
	depth int
	err   *Error
}

type token struct {
	kind tokenKind
	pos  int
	text string // a string's value, a name, an int's digits with sign, a sign's own byte
}

type tokenKind uint8

const (
	tokEnd tokenKind = iota
	tokSign
	tokString
	tokInt
	tokName
)

func parse(src string) (*node, *Error) {
	p := &parser{src: src}
	if len(src) > MaxLength {
		p.fail(TooComplex, MaxLength, fmt.Sprintf("The expression is longer than %d bytes.", MaxLength))
		return nil, p.err
	}
	p.advance()
	root := p.expr()
	if p.tok.kind != tokEnd {
		p.unexpected("an operator or the end")
	}
	if p.err != nil {
		return nil, p.err
	}
	return root, nil
}

func (p *parser) fail(kind Kind, pos int, detail string) {
	if p.err == nil {
		p.err = &Error{Kind: kind, Pos: pos, Expr: shorten(p.src), Detail: detail}
	}
	p.tok, p.next = token{pos: len(p.src)}, len(p.src)
}

func (p *parser) unexpected(want string) {
	got := "the end"
	switch p.tok.kind {
	case tokString:
		got = quote(p.tok.text)
	case tokSign, tokInt, tokName:
		got = p.tok.text
	}
	p.fail(Syntax, p.tok.pos, fmt.Sprintf("Found %s at position %d, expect %s.", shorten(got), p.tok.pos, want))
}

// enter counts one level of nesting; the caller leaves it by itself.
func (p *parser) enter() {
	if p.depth++; p.depth > MaxNesting+1 { // the expression itself is no nesting
		p.fail(TooComplex, p.tok.pos, fmt.Sprintf("The expression nests deeper than %d levels.", MaxNesting))
	}
}

func (p *parser) expr() *node {
	p.enter()
	n := p.chain("or", p.and)
	p.depth--
	return n
}

func (p *parser) and() *node { return p.chain("and", p.cmp) }

func (p *parser) chain(word string, operand func() *node) *node {
	first := operand()
	if !p.isWord(word) {
		return first
	}
	n := &node{op: opLogic, pos: first.pos, text: word, args: []*node{first}}
	for p.isWord(word) {
		p.advance()
		n.args = append(n.args, operand())
	}
	return n
}

func (p *parser) cmp() *node {
	left := p.unary()
	if p.tok.kind != tokName {
		return left
	}
	switch p.tok.text {
	case "eq", "ne", "gt", "ge", "lt", "le":
		word := p.tok.text
		p.advance()
		return &node{op: opCompare, pos: left.pos, text: word, args: []*node{left, p.unary()}}
	}
	return left
}

func (p *parser) unary() *node {
	if !p.isWord("not") {
		return p.member()
	}
	pos := p.tok.pos
	p.enter()
	p.advance()
	n := &node{op: opNot, pos: pos, text: "not", args: []*node{p.unary()}}
	p.depth--
	return n
}

func (p *parser) member() *node {
	left := p.primary()
	if !p.isWord("in") {
		return left
	}
	p.advance()
	if !p.isSign("(") {
		return &node{op: opIn, pos: left.pos, text: "in", args: []*node{left, p.primary()}}
	}
	list := &node{op: opInList, pos: left.pos, text: "in", args: []*node{left}}
	list.args = append(list.args, p.list(false)...)
	return list
}

// list parses a parenthesized list of expressions; p.tok is its opening sign.
func (p *parser) list(mayBeEmpty bool) []*node {
	p.advance()
	if mayBeEmpty && p.isSign(")") {
		p.advance()
		return nil
	}
	items := []*node{p.expr()}
	for p.isSign(",") {
		p.advance()
		items = append(items, p.expr())
	}
	if !p.isSign(")") {
		p.unexpected("',' or ')'")
	}
	p.advance()
	return items
}

func (p *parser) primary() *node {
	t := p.tok
	n := &node{pos: t.pos, text: t.text}
	switch {
	case t.kind == tokString:
		n.op = opString
	case t.kind == tokInt:
		v, err := strconv.ParseInt(t.text, 10, 32)
		if err != nil {
			p.fail(Syntax, t.pos, fmt.Sprintf("The number %s at position %d does not fit 32 bits.", shorten(t.text), t.pos))
		}
		n.op, n.num = opInt, int32(v)
	case p.isSign("("):
		p.advance()
		inner := p.expr()
		if !p.isSign(")") {
			p.unexpected("')'")
		}
		p.advance()
		return inner
	case t.kind == tokName:
		switch t.text {
		case "null":
			n.op = opNull
		case "true", "false":
			n.op = opBool
		case "and", "or", "not", "in", "eq", "ne", "gt", "ge", "lt", "le":
			p.unexpected("a value")
		default:
			p.advance()
			if n.op = opName; p.isSign("(") {
				n.op, n.args = opCall, p.list(true)
			}
			return n
		}
	default:
		p.unexpected("a value")
	}
	p.advance()
	return n
}

func (p *parser) isWord(w string) bool { return p.tok.kind == tokName && p.tok.text == w }
func (p *parser) isSign(s string) bool { return p.tok.kind == tokSign && p.tok.text == s }

// advance lexes the next token into p.tok.
func (p *parser) advance() {
	for p.next < len(p.src) && strings.IndexByte(" \t\r\n", p.src[p.next]) >= 0 {
		p.next++
	}
	start := p.next
	if start == len(p.src) {
		p.tok = token{pos: start}
		return
	}
	kind := tokName
	switch c := p.src[start]; {
	case c == '\'':
		p.lexString()
		return
	case c == '(' || c == ')' || c == ',':
		kind = tokSign
		p.next++
	case isDigit(c) || c == '+' || c == '-':
		kind = tokInt
		p.next++
		for p.next < len(p.src) && isDigit(p.src[p.next]) {
			p.next++
		}
	case isLetter(c):
		for p.next < len(p.src) && (isLetter(p.src[p.next]) || isDigit(p.src[p.next])) {
			p.next++
		}
	default:
		r, _ := utf8.DecodeRuneInString(p.src[start:])
		p.fail(Syntax, start, fmt.Sprintf("Found %q at position %d, which no expression contains outside of a string.", r, start))
		return
	}
	p.tok = token{kind, start, p.src[start:p.next]}
}

// lexString reads a string in single quotes; two of them inside stand for one.
func (p *parser) lexString() {
	start := p.next
	for i := start + 1; i < len(p.src); i++ {
		if p.src[i] != '\'' {
			continue
		}
		if i+1 < len(p.src) && p.src[i+1] == '\'' {
			i++
			continue
		}
		p.next = i + 1
		p.tok = token{tokString, start, strings.ReplaceAll(p.src[start+1:i], "''", "'")}
		return
	}
	p.fail(Syntax, start, fmt.Sprintf("The string that begins at position %d has no closing quote.", start))
}

func isDigit(c byte) bool { return '0' <= c && c <= '9' }

func isLetter(c byte) bool {
	return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || c == '_'
}
