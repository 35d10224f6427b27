package guard

import (
	"errors"
	"strconv"
	"strings"
	"unicode/utf16"
	"unicode/utf8"
)

// JSON of tokens and of discovery documents is read by this scanner instead of
// encoding/json for two reasons. encoding/json keeps the last of two members
// with one name, so that two readers of one token may see different claims
// (identity.md 9.3); and it takes 10 µs for the claims of one token, a third of
// what the RSA verification costs. The scanner accepts RFC 8259 objects in
// valid UTF-8, without repeated names on any level, and nothing after them.
const (
	maxDepth   = 16  // nesting of arrays and objects
	maxMembers = 256 // members of one object; names are compared pairwise
)

// A member is one member of an object: its name, unescaped, and its value as
// it stands in the text. Both share the memory of the scanned string if
// possible.
type member struct{ name, value string }

var errJSON = errors.New("malformed JSON")

// scanObject returns the members of the object that is the whole of s.
func scanObject(s string) ([]member, error) {
	if !utf8.ValidString(s) {
		return nil, errors.New("not valid UTF-8")
	}
	sc := scanner{s: s}
	sc.space()
	if sc.peek() != '{' {
		return nil, errors.New("not a JSON object")
	}
	members := make([]member, 0, 24)
	if err := sc.object(0, &members); err != nil {
		return nil, err
	}
	sc.space()
	if sc.i != len(s) {
		return nil, errors.New("data after the JSON object")
	}
	return members, nil
}

type scanner struct {
	s string
	i int
}

// peek returns the next byte, 0 at the end. A NUL byte in the text is an error
// wherever it is met, so the two need not be told apart.
func (sc *scanner) peek() byte {
	if sc.i < len(sc.s) {
		return sc.s[sc.i]
	}
	return 0
}

func (sc *scanner) space() {
	for sc.i < len(sc.s) {
		switch sc.s[sc.i] {
		case ' ', '\t', '\n', '\r':
			sc.i++
		default:
			return
		}
	}
}

func (sc *scanner) expect(c byte) error {
	if sc.peek() != c {
		return errJSON
	}
	sc.i++
	return nil
}

// object reads an object and collects its members.
func (sc *scanner) object(depth int, members *[]member) error {
	if depth >= maxDepth {
		return errors.New("JSON is nested too deeply")
	}
	sc.i++ // {
	sc.space()
	if sc.peek() == '}' {
		sc.i++
		return nil
	}
	for {
		start := sc.i
		if err := sc.str(); err != nil {
			return err
		}
		name, err := unquote(sc.s[start:sc.i])
		if err != nil {
			return err
		}
		for i := range *members {
			if (*members)[i].name == name {
				return errors.New("JSON member " + show(name) + " occurs twice")
			}
		}
		if len(*members) == maxMembers {
			return errors.New("JSON object has too many members")
		}
		sc.space()
		if err := sc.expect(':'); err != nil {
			return err
		}
		sc.space()
		start = sc.i
		if err := sc.value(depth + 1); err != nil {
			return err
		}
		*members = append(*members, member{name, sc.s[start:sc.i]})
		sc.space()
		if sc.peek() == '}' {
			sc.i++
			return nil
		}
		if err := sc.expect(','); err != nil {
			return err
		}
		sc.space()
	}
}

// array reads an array and calls f, if not nil, with each element's text.
func (sc *scanner) array(depth int, f func(string) bool) error {
	if depth >= maxDepth {
		return errors.New("JSON is nested too deeply")
	}
	sc.i++ // [
	sc.space()
	if sc.peek() == ']' {
		sc.i++
		return nil
	}
	for {
		start := sc.i
		if err := sc.value(depth + 1); err != nil {
			return err
		}
		if f != nil && !f(sc.s[start:sc.i]) {
			return errJSON
		}
		sc.space()
		if sc.peek() == ']' {
			sc.i++
			return nil
		}
		if err := sc.expect(','); err != nil {
			return err
		}
		sc.space()
	}
}

func (sc *scanner) value(depth int) error {
	switch c := sc.peek(); {
	case c == '"':
		start := sc.i
		if err := sc.str(); err != nil {
			return err
		}
		// Half a surrogate pair has no meaning; two readers may differ on it.
		_, err := unquote(sc.s[start:sc.i])
		return err
	case c == '{':
		var members []member
		return sc.object(depth, &members)
	case c == '[':
		return sc.array(depth, nil)
	case c == 't':
		return sc.literal("true")
	case c == 'f':
		return sc.literal("false")
	case c == 'n':
		return sc.literal("null")
	case c == '-' || c >= '0' && c <= '9':
		return sc.number()
	}
	return errJSON
}

func (sc *scanner) literal(word string) error {
	if !strings.HasPrefix(sc.s[sc.i:], word) {
		return errJSON
	}
	sc.i += len(word)
	return nil
}

// str reads a string with its quotes. Escapes are checked by unquote.
func (sc *scanner) str() error {
	if err := sc.expect('"'); err != nil {
		return err
	}
	for sc.i < len(sc.s) {
		switch c := sc.s[sc.i]; {
		case c == '"':
			sc.i++
			return nil
		case c == '\\':
			sc.i += 2
		case c < 0x20:
			return errors.New("control character in a JSON string")
		default:
			sc.i++
		}
	}
	return errJSON
}

func (sc *scanner) number() error {
	if sc.peek() == '-' {
		sc.i++
	}
	if sc.peek() == '0' {
		sc.i++
	} else if err := sc.digits(); err != nil {
		return err
	}
	if sc.peek() == '.' {
		sc.i++
		if err := sc.digits(); err != nil {
			return err
		}
	}
	if c := sc.peek(); c == 'e' || c == 'E' {
		sc.i++
		if c := sc.peek(); c == '+' || c == '-' {
			sc.i++
		}
		return sc.digits()
	}
	return nil
}

func (sc *scanner) digits() error {
	start := sc.i
	for c := sc.peek(); c >= '0' && c <= '9'; c = sc.peek() {
		sc.i++
	}
	if sc.i == start {
		return errJSON
	}
	return nil
}

// unquote returns the text of a JSON string that str has read.
func unquote(quoted string) (string, error) {
	s := quoted[1 : len(quoted)-1]
	if strings.IndexByte(s, '\\') < 0 {
		return s, nil
	}
	var b strings.Builder
	b.Grow(len(s))
	for i := 0; i < len(s); i++ {
		if s[i] != '\\' {
			b.WriteByte(s[i])
			continue
		}
		i++
		switch s[i] {
		case '"', '\\', '/':
			b.WriteByte(s[i])
		case 'b':
			b.WriteByte('\b')
		case 'f':
			b.WriteByte('\f')
		case 'n':
			b.WriteByte('\n')
		case 'r':
			b.WriteByte('\r')
		case 't':
			b.WriteByte('\t')
		case 'u':
			r, ok := hex4(s[i+1:])
			if !ok {
				return "", errJSON
			}
			i += 4
			if utf16.IsSurrogate(r) {
				if !strings.HasPrefix(s[i+1:], `\u`) {
					return "", errors.New("half a surrogate pair in a JSON string")
				}
				low, ok := hex4(s[i+3:])
				if !ok {
					return "", errJSON
				}
				if r = utf16.DecodeRune(r, low); r == utf8.RuneError {
					return "", errors.New("half a surrogate pair in a JSON string")
				}
				i += 6
			}
			b.WriteRune(r)
		default:
			return "", errJSON
		}
	}
	return b.String(), nil
}

func hex4(s string) (rune, bool) {
	if len(s) < 4 {
		return 0, false
	}
	n, err := strconv.ParseUint(s[:4], 16, 16)
	return rune(n), err == nil
}

// The functions below read the value of a member; false means another type.

func jsonString(value string) (string, bool) {
	if value == "" || value[0] != '"' {
		return "", false
	}
	s, err := unquote(value)
	return s, err == nil
}

// maxSeconds is the last second of the year 9999. A time in milliseconds is
// beyond it, so such a mistake is found by its size.
const maxSeconds = 253402300799

// jsonSeconds reads a NumericDate. Fractions and exponents are legal there, but
// no issuer of access tokens writes them, and every reader rounds differently.
func jsonSeconds(value string) (int64, bool) {
	if value == "" || value[0] < '0' || value[0] > '9' {
		return 0, false
	}
	n, err := strconv.ParseInt(value, 10, 64)
	return n, err == nil && n <= maxSeconds
}

func jsonStrings(value string) ([]string, bool) {
	if value == "" || value[0] != '[' {
		return nil, false
	}
	var list []string
	sc := scanner{s: value}
	err := sc.array(0, func(element string) bool {
		s, ok := jsonString(element)
		list = append(list, s)
		return ok
	})
	return list, err == nil
}
