package filter

import (
	"strconv"
	"strings"
	"unicode/utf8"
)

// maxShown bounds the parts of an expression that errors repeat.
const maxShown = 256 // bytes

// String writes the expression back in the form that the service's messages have: one space around operators, and
// parentheses around every operand that is an operation itself.
func (n *node) String() string {
	var b strings.Builder
	n.write(&b)
	return b.String()
}

func (n *node) write(b *strings.Builder) {
	switch n.op {
	case opNull, opBool, opName:
		b.WriteString(n.text)
	case opInt:
		b.WriteString(strconv.Itoa(int(n.num)))
	case opString:
		b.WriteString(quote(n.text))
	case opCall:
		b.WriteString(n.text)
		writeList(b, n.args)
	case opNot:
		b.WriteString("not ")
		n.args[0].writeOperand(b)
	case opLogic, opCompare:
		for i, a := range n.args {
			if i > 0 {
				b.WriteString(" " + n.text + " ")
			}
			a.writeOperand(b)
		}
	case opIn:
		n.args[0].writeOperand(b)
		b.WriteString(" in ")
		n.args[1].writeOperand(b)
	case opInList:
		n.args[0].writeOperand(b)
		b.WriteString(" in ")
		writeList(b, n.args[1:])
	}
}

func (n *node) writeOperand(b *strings.Builder) {
	if n.op < opNot {
		n.write(b)
		return
	}
	b.WriteByte('(')
	n.write(b)
	b.WriteByte(')')
}

func writeList(b *strings.Builder, items []*node) {
	b.WriteByte('(')
	for i, n := range items {
		if i > 0 {
			b.WriteByte(',')
		}
		n.write(b)
	}
	b.WriteByte(')')
}

func quote(s string) string { return "'" + strings.ReplaceAll(s, "'", "''") + "'" }

// shorten keeps what an error repeats of its input within maxShown, on a character boundary.
func shorten(s string) string {
	if len(s) <= maxShown {
		return s
	}
	cut := maxShown
	for cut > 0 && !utf8.RuneStart(s[cut]) {
		cut--
	}
	return s[:cut] + "…"
}
