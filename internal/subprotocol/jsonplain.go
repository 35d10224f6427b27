package subprotocol

import encoding "encoding/json"

// valid tells whether data is valid JSON. Most requests are plain, and the standard library takes longer to tell than
// all else about a request.
func valid(data []byte) bool { return isPlain(data) || encoding.Valid(data) }

// isPlain tells whether data is JSON with neither escapes nor exponents, nested a few levels at most. False says nothing
// about its being valid.
func isPlain(data []byte) bool {
	p := plain{data}
	return p.value(0) && len(trim(p.rest)) == 0
}

// maxPlain bounds the nesting of what is plain.
const maxPlain = 16

// plain takes tokens off the front of rest.
type plain struct{ rest []byte }

func (p *plain) eat(c byte) bool {
	p.rest = trim(p.rest)
	if len(p.rest) == 0 || p.rest[0] != c {
		return false
	}
	p.rest = p.rest[1:]
	return true
}

func (p *plain) value(depth int) bool {
	p.rest = trim(p.rest)
	if len(p.rest) == 0 || depth > maxPlain {
		return false
	}
	switch p.rest[0] {
	case '"':
		return p.text()
	case '{':
		return p.list('{', '}', func() bool { return p.text() && p.eat(':') && p.value(depth+1) })
	case '[':
		return p.list('[', ']', func() bool { return p.value(depth + 1) })
	case 't':
		return p.word("true")
	case 'f':
		return p.word("false")
	case 'n':
		return p.word("null")
	}
	return p.number()
}

// list takes items between brackets.
func (p *plain) list(open, closing byte, item func() bool) bool {
	if p.eat(open); p.eat(closing) {
		return true
	}
	for item() {
		if p.eat(closing) {
			return true
		}
		if !p.eat(',') {
			return false
		}
	}
	return false
}

func (p *plain) text() bool {
	if !p.eat('"') {
		return false
	}
	for i, c := range p.rest {
		if c == '"' {
			p.rest = p.rest[i+1:]
			return true
		}
		if c < ' ' || c == '\\' {
			return false
		}
	}
	return false
}

// number takes a number without exponent; one is no comma and no bracket, so what follows is refused.
func (p *plain) number() bool {
	if p.rest[0] == '-' {
		p.rest = p.rest[1:]
	}
	whole := p.digits()
	if len(whole) == 0 || len(whole) > 1 && whole[0] == '0' {
		return false
	}
	if len(p.rest) > 0 && p.rest[0] == '.' {
		p.rest = p.rest[1:]
		return len(p.digits()) > 0
	}
	return true
}

func (p *plain) digits() []byte {
	n := 0
	for n < len(p.rest) && '0' <= p.rest[n] && p.rest[n] <= '9' {
		n++
	}
	digits := p.rest[:n]
	p.rest = p.rest[n:]
	return digits
}

func (p *plain) word(w string) bool {
	if len(p.rest) < len(w) || string(p.rest[:len(w)]) != w {
		return false
	}
	p.rest = p.rest[len(w):]
	return true
}
