package template

import (
	"fmt"
	"strconv"
	"strings"
)

// An expression is what stands in brackets: a literal, or a call, followed by members and elements that are taken of it.
type expression struct {
	call    string // function, "" for a literal
	args    []*expression
	literal any
	path    []*expression // of .name (a literal) and [index]
	safe    []bool        // of .?name: null instead of an error
}

// isExpression tells an expression from text. "[[" begins text that begins with a bracket.
func isExpression(text string) bool {
	return strings.HasPrefix(text, "[") && strings.HasSuffix(text, "]") && !strings.HasPrefix(text, "[[")
}

// plainText undoes the doubled bracket.
func plainText(text string) string {
	if strings.HasPrefix(text, "[[") && strings.HasSuffix(text, "]") {
		return text[1:]
	}
	return text
}

// parseExpression reads what is between the outer brackets.
func parseExpression(text string) (*expression, error) {
	p := &parser{rest: text[1 : len(text)-1]}
	e, err := p.expression(0)
	if err != nil {
		return nil, fmt.Errorf("the expression %.200s %w", text, err)
	}
	if p.space(); p.rest != "" {
		return nil, fmt.Errorf("the expression %.200s has something after its end: %.40s", text, p.rest)
	}
	return e, nil
}

type parser struct{ rest string }

func (p *parser) space() { p.rest = strings.TrimLeft(p.rest, " \t\r\n") }

func (p *parser) take(token string) bool {
	p.space()
	rest, ok := strings.CutPrefix(p.rest, token)
	if ok {
		p.rest = rest
	}
	return ok
}

func (p *parser) expression(depth int) (*expression, error) {
	if depth > maxDepth {
		return nil, fmt.Errorf("is nested deeper than %d levels", maxDepth)
	}
	e, err := p.primary(depth)
	if err != nil {
		return nil, err
	}
	for {
		safe := p.take(".?")
		switch {
		case safe, p.take("."):
			name := p.word()
			if name == "" {
				return nil, fmt.Errorf("has no name after a dot")
			}
			e.path, e.safe = append(e.path, &expression{literal: name}), append(e.safe, safe)
		case p.take("["):
			safe := p.take("?")
			index, err := p.expression(depth + 1)
			if err != nil {
				return nil, err
			}
			if !p.take("]") {
				return nil, fmt.Errorf("lacks a ]")
			}
			e.path, e.safe = append(e.path, index), append(e.safe, safe)
		default:
			return e, nil
		}
	}
}

func (p *parser) primary(depth int) (*expression, error) {
	p.space()
	switch {
	case p.rest == "":
		return nil, fmt.Errorf("ends too early")
	case p.rest[0] == '\'':
		text, ok := p.quoted()
		if !ok {
			return nil, fmt.Errorf("lacks a closing quote")
		}
		return &expression{literal: text}, nil
	case p.rest[0] == '-' || p.rest[0] >= '0' && p.rest[0] <= '9':
		end := 1
		for end < len(p.rest) && p.rest[end] >= '0' && p.rest[end] <= '9' {
			end++
		}
		n, err := strconv.ParseInt(p.rest[:end], 10, 64)
		if err != nil {
			return nil, fmt.Errorf("has a bad number %.30s", p.rest[:end])
		}
		p.rest = p.rest[end:]
		return &expression{literal: n}, nil
	}
	name := p.word()
	for strings.HasPrefix(p.rest, ".") { // namespace.function
		p.rest = p.rest[1:]
		name += "." + p.word()
	}
	if name == "" {
		return nil, fmt.Errorf("has %.20q where a value should be", p.rest)
	}
	if !p.take("(") {
		return nil, fmt.Errorf("has %q, which is no function call", name)
	}
	e := &expression{call: name}
	for !p.take(")") {
		if len(e.args) > 0 && !p.take(",") {
			return nil, fmt.Errorf("lacks a comma or parenthesis in %s()", name)
		}
		arg, err := p.expression(depth + 1)
		if err != nil {
			return nil, err
		}
		e.args = append(e.args, arg)
	}
	return e, nil
}

func (p *parser) word() string {
	p.space()
	end := 0
	for end < len(p.rest) && (p.rest[end] == '_' || p.rest[end] >= '0' && p.rest[end] <= '9' || p.rest[end]|0x20 >= 'a' && p.rest[end]|0x20 <= 'z') {
		end++
	}
	word := p.rest[:end]
	p.rest = p.rest[end:]
	return word
}

// quoted reads a string; a quote within it is doubled.
func (p *parser) quoted() (string, bool) {
	var b strings.Builder
	for i := 1; i < len(p.rest); i++ {
		if p.rest[i] != '\'' {
			b.WriteByte(p.rest[i])
			continue
		}
		if i+1 < len(p.rest) && p.rest[i+1] == '\'' {
			b.WriteByte('\'')
			i++
			continue
		}
		p.rest = p.rest[i+1:]
		return b.String(), true
	}
	return "", false
}
