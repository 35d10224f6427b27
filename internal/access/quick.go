package access

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"strings"
	"unicode/utf8"

	"github.com/go-jose/go-jose/v4/json"
)

// Every SDK writes its tokens in one of few ways, and each connect pays for reading one. This file reads those, and
// nothing else: whatever is unusual, or wrong, is left to the general reading, which alone refuses. A fuzz target holds
// the two together.

// isUsual tells whether an encoded header is one that SDKs write.
func isUsual(header string) bool {
	switch header {
	case "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9", // {"alg":"HS256","typ":"JWT"}
		"eyJ0eXAiOiJKV1QiLCJhbGciOiJIUzI1NiJ9", // {"typ":"JWT","alg":"HS256"}
		"eyJhbGciOiJIUzI1NiJ9":                 // {"alg":"HS256"}
		return true
	}
	return false
}

// openQuickly is open for a token with a usual header and a good signature.
func openQuickly(token string, keys []string) (payload []byte, key string, ok bool) {
	header, rest, _ := strings.Cut(token, ".")
	encoded, signature, found := strings.Cut(rest, ".")
	if !found || !isUsual(header) || len(token) > MaxToken {
		return nil, "", false
	}
	var given [sha256.Size + 1]byte // one more than fits, so that a longer one is seen
	strict := base64.RawURLEncoding.Strict()
	if strict.DecodedLen(len(signature)) > len(given) {
		return nil, "", false
	}
	n, err := strict.Decode(given[:], []byte(signature))
	if err != nil || n != sha256.Size || strings.ContainsAny(signature, "\r\n") {
		return nil, "", false
	}
	signed := []byte(token[:len(header)+1+len(encoded)])
	var sum [sha256.Size]byte
	for _, k := range keys {
		if k == "" {
			continue
		}
		mac := hmac.New(sha256.New, []byte(k))
		mac.Write(signed)
		if hmac.Equal(given[:n], mac.Sum(sum[:0])) {
			payload, err := strict.DecodeString(encoded)
			return payload, k, err == nil && !strings.ContainsAny(encoded, "\r\n")
		}
	}
	return nil, "", false
}

// parseQuickly is parseClaims for an object of strings without escapes, integers and lists of such strings, each
// member once.
func parseQuickly(payload []byte) (claims, bool) {
	s := scanner{string(payload)}
	if !utf8.ValidString(s.rest) || !s.eat('{') {
		return nil, false
	}
	c := make(claims, 8)
	for more := !s.eat('}'); more; more = s.eat(',') {
		name, ok := s.text()
		if _, twice := c[name]; !ok || twice || !s.eat(':') {
			return nil, false
		}
		if c[name], ok = s.value(); !ok {
			return nil, false
		}
	}
	if len(c) > 0 && !s.eat('}') {
		return nil, false
	}
	s.space()
	return c, s.rest == ""
}

// A scanner takes JSON tokens off the front of rest.
type scanner struct{ rest string }

func (s *scanner) space() { s.rest = strings.TrimLeft(s.rest, " \t\r\n") }

func (s *scanner) eat(c byte) bool {
	s.space()
	if s.rest == "" || s.rest[0] != c {
		return false
	}
	s.rest = s.rest[1:]
	return true
}

func (s *scanner) value() (any, bool) {
	s.space()
	switch {
	case s.rest == "":
		return nil, false
	case s.rest[0] == '"':
		return s.text()
	case s.rest[0] == '[':
		s.rest = s.rest[1:]
		list := []any{}
		for more := !s.eat(']'); more; more = s.eat(',') {
			item, ok := s.text()
			if !ok {
				return nil, false
			}
			list = append(list, item)
		}
		return list, len(list) == 0 || s.eat(']')
	}
	return s.integer()
}

// text takes a string without escapes.
func (s *scanner) text() (string, bool) {
	if !s.eat('"') {
		return "", false
	}
	for i := range len(s.rest) {
		switch c := s.rest[i]; {
		case c == '"':
			text := s.rest[:i]
			s.rest = s.rest[i+1:]
			return text, true
		case c == '\\' || c < ' ':
			return "", false
		}
	}
	return "", false
}

// integer takes digits that are a whole number as JSON spells it.
func (s *scanner) integer() (any, bool) {
	n := 0
	for n < len(s.rest) && '0' <= s.rest[n] && s.rest[n] <= '9' {
		n++
	}
	number := s.rest[:n]
	s.rest = s.rest[n:]
	return json.Number(number), n > 0 && (n == 1 || number[0] != '0') && (s.rest == "" || !strings.ContainsRune(".eE", rune(s.rest[0])))
}
