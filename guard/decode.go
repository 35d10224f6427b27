package guard

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"strings"

	"tabard/guard/reason"
)

// MaxTokenSize is the largest token that is looked at, in bytes. Access tokens
// of applications have 1 to 3 KiB; roles may make them larger.
const MaxTokenSize = 16 << 10

// maxKeyID bounds the key id (kid) of a token, in bytes.
const maxKeyID = 256

// A Token is what a token says about itself, nothing of it verified.
type Token struct {
	Header    json.RawMessage // the JOSE header
	Payload   json.RawMessage // the claims; nil if the token is encrypted
	Algorithm string          // alg
	KeyID     string          // kid
	Claims    *Claims         // nil if the token is encrypted
	// Notes are remarks that need neither keys nor configuration: why no guard
	// will accept this token, or why nobody can verify it.
	Notes []Note
}

// A Note is a remark about a token, with the reason code that a guard would use.
type Note struct {
	Code reason.Code
	Text string
}

// Decode reads a token without verifying it. Never decide anything by what it
// returns; it is for people who want to see what a token holds. An encrypted
// token (five parts) is returned with its header only and a note. The error is
// an *Error with the code token_malformed or token_too_large.
func Decode(token string) (*Token, error) {
	if len(token) > MaxTokenSize {
		return nil, tooLarge(token)
	}
	if first, _, _ := strings.Cut(token, "."); strings.Count(token, ".") == 4 {
		text, err := decodeSegment("header", first)
		if err != nil {
			return nil, err
		}
		h, err := parseHeader(text)
		if err != nil {
			return nil, err
		}
		return &Token{Header: json.RawMessage(text), Algorithm: h.alg, KeyID: h.kid,
			Notes: []Note{{reason.EncryptedToken, sentence(reason.EncryptedToken)}}}, nil
	}
	p, err := parseToken(token)
	if err != nil {
		return nil, err
	}
	text, err := decodeSegment("header", p.header64)
	if err != nil {
		return nil, err
	}
	h, err := parseHeader(text)
	if err != nil {
		return nil, err
	}
	t := &Token{Header: json.RawMessage(text), Payload: p.claims.Raw, Algorithm: h.alg, KeyID: h.kid, Claims: p.claims}
	t.Notes = notes(h, p.claims)
	return t, nil
}

func notes(h *header, c *Claims) []Note {
	var list []Note
	add := func(code reason.Code, text string) { list = append(list, Note{code, text}) }
	if isGraph(c.Audience) || h.nonce {
		add(reason.AudienceIsGraph, "this token is for Microsoft Graph: it is signed over a changed header, and nobody but Graph can verify it; it results from an empty audience")
	}
	if err := h.check(); err != nil {
		text := err.Message
		if strings.HasPrefix(h.alg, "HS") {
			text += "; " + h.alg + " is signed with a shared key, as Web PubSub's client and access-key tokens are"
		}
		add(err.Code, text)
	}
	for _, f := range c.faults {
		add(f.code, f.message)
	}
	if err := checkKind(c); err != nil {
		add(err.Code, err.Message)
	}
	if strings.HasSuffix(c.Issuer, "/v2.0") && c.Version == "1.0" {
		add(reason.IssuerVersion, "ver is \"1.0\", but the issuer "+show(c.Issuer)+" is one of version 2")
	}
	return list
}

// parsedToken is a token taken apart, its claims read, nothing verified.
type parsedToken struct {
	raw       string
	header64  string // first part, as it came
	signing   string // what the signature covers: first and second part with the dot
	signature []byte
	claims    *Claims
	head      *header // once it has been read and found good
}

func tooLarge(token string) *Error {
	return refusal(stageFormat, reason.TokenTooLarge, fmt.Sprintf("the token has %d bytes, the limit is %d", len(token), MaxTokenSize))
}

func malformed(format string, args ...any) *Error {
	return refusal(stageFormat, reason.TokenMalformed, fmt.Sprintf(format, args...))
}

// parseToken splits a compact JWS and reads its claims.
func parseToken(token string) (*parsedToken, *Error) {
	if len(token) > MaxTokenSize {
		return nil, tooLarge(token)
	}
	dot1 := strings.IndexByte(token, '.')
	dot2 := strings.LastIndexByte(token, '.')
	if dot1 < 0 || dot1 == dot2 || strings.IndexByte(token[dot1+1:dot2], '.') >= 0 {
		switch n := strings.Count(token, "."); n {
		case 0:
			return nil, malformed("the token is opaque, not a JWT: it has no parts to read")
		case 4:
			return nil, refusal(stageFormat, reason.EncryptedToken, "the token has five parts: it is encrypted, only its audience can read it")
		default:
			return nil, malformed("a signed token has 3 parts, this one has %d", n+1)
		}
	}
	p := &parsedToken{raw: token, header64: token[:dot1], signing: token[:dot2]}
	var err *Error
	if p.signature, err = decodeBytes("signature", token[dot2+1:]); err != nil {
		return nil, err
	}
	payload, err := decodeSegment("payload", token[dot1+1:dot2])
	if err != nil {
		return nil, err
	}
	claims, e := parseClaims(payload)
	if e != nil {
		return nil, malformed("the token's payload: %v", e)
	}
	p.claims = claims
	return p, nil
}

var strictBase64 = base64.RawURLEncoding.Strict()

func decodeBytes(part, s string) ([]byte, *Error) {
	// The decoder skips line ends, which would give one token many spellings.
	if strings.IndexByte(s, '\r') >= 0 || strings.IndexByte(s, '\n') >= 0 {
		return nil, malformed("the token's %s holds a line end", part)
	}
	b, err := strictBase64.DecodeString(s)
	if err != nil {
		return nil, malformed("the token's %s is not canonical base64url without padding", part)
	}
	return b, nil
}

func decodeSegment(part, s string) (string, *Error) {
	b, err := decodeBytes(part, s)
	return string(b), err
}

// header is what matters of a JOSE header. Members that point to keys (jku,
// x5u, jwk, x5c, x5t) are not among it: a token does not choose its key.
type header struct {
	alg, kid, typ, cty string
	crit, nonce, odd   bool // odd: holds a member that no plain signed token has
}

func parseHeader(text string) (*header, *Error) {
	members, err := scanObject(text)
	if err != nil {
		return nil, malformed("the token's header: %v", err)
	}
	h := &header{}
	for _, m := range members {
		ok := true
		switch m.name {
		case "alg":
			h.alg, ok = jsonString(m.value)
		case "kid":
			h.kid, ok = jsonString(m.value)
		case "typ":
			h.typ, ok = jsonString(m.value)
		case "cty":
			h.cty, ok = jsonString(m.value)
		case "crit":
			h.crit = true
		case "nonce":
			h.nonce = true
		case "enc", "zip", "b64":
			h.odd = true
		}
		if !ok {
			return nil, malformed("the token's header: %s is not a string", m.name)
		}
	}
	return h, nil
}

// checkedHeader reads and judges the token's header, once.
func (t *parsedToken) checkedHeader() (*header, *Error) {
	if t.head != nil {
		return t.head, nil
	}
	text, err := decodeSegment("header", t.header64)
	if err != nil {
		return nil, err
	}
	h, err := parseHeader(text)
	if err != nil {
		return nil, err
	}
	if err := h.check(); err != nil {
		return nil, err
	}
	t.head = h
	return h, nil
}

// check judges a header: one algorithm, no extensions, a key id of sane size.
func (h *header) check() *Error {
	switch {
	case h.alg != "RS256":
		return refusal(stageAlgorithm, reason.AlgorithmNotAllowed, "the token's algorithm is "+show(h.alg)+", want \"RS256\"")
	case h.crit:
		return refusal(stageAlgorithm, reason.CriticalHeader, "the token's header holds crit")
	case h.odd:
		return malformed("the token's header holds enc, zip or b64: that is not a plain signed token")
	case h.cty != "":
		return malformed("the token's content type is %s: a token inside a token is not accepted", show(h.cty))
	case h.typ != "" && !strings.EqualFold(h.typ, "JWT") && !strings.EqualFold(h.typ, "at+jwt"):
		return malformed("the token's type is %s, want \"JWT\"", show(h.typ))
	case h.kid == "":
		return refusal(stageAlgorithm, reason.KeyIDInvalid, "the token's header has no key id (kid)")
	case len(h.kid) > maxKeyID:
		return refusal(stageAlgorithm, reason.KeyIDInvalid, fmt.Sprintf("the key id (kid) has %d bytes, the limit is %d", len(h.kid), maxKeyID))
	}
	return nil
}
