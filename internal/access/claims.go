package access

import (
	"bytes"
	"errors"
	"io"
	"math"
	"time"

	"github.com/go-jose/go-jose/v4/json" // refuses a member that is there twice; names are compared exactly

	"tabard/guard/reason"
)

// lastExpiry is the end of the year 9999. A later exp is a mistake, usually milliseconds.
const lastExpiry = 253402300799

// claims is the payload of a token whose signature is good. Numbers are json.Number, with the digits they have there.
type claims map[string]any

func parseClaims(payload []byte) (claims, *Refusal) {
	if c, ok := parseQuickly(payload); ok {
		return c, nil
	}
	return parseFully(payload)
}

func parseFully(payload []byte) (claims, *Refusal) {
	var c claims
	d := json.NewDecoder(bytes.NewReader(payload))
	d.SetNumberType(json.UnmarshalJSONNumber)
	err := d.Decode(&c)
	if err == nil {
		_, err = d.Token() // nothing may follow
	}
	if err != io.EOF || c == nil {
		return nil, unauthorized(reason.TokenMalformed, "The token's payload is not one JSON object with each member once.")
	}
	return c, nil
}

// A lifetime is the time in which a token counts, in Unix seconds.
type lifetime struct{ notBefore, expires int64 }

func (c claims) lifetime() (l lifetime, refusal *Refusal) {
	exp, ok, err := c.date("exp")
	switch {
	case err != nil:
		return l, unauthorized(reason.ClaimInvalid, "The claim exp %v.", err)
	case !ok:
		return l, unauthorized(reason.ExpiryMissing, "The token has no expiry time (exp).")
	case exp > lastExpiry:
		return l, unauthorized(reason.ClaimInvalid, "The claim exp is beyond the year 9999; it must be in seconds.")
	}
	nbf, ok, err := c.date("nbf")
	if err != nil {
		return l, unauthorized(reason.ClaimInvalid, "The claim nbf %v.", err)
	}
	if !ok {
		nbf = math.MinInt64
	}
	return lifetime{nbf, exp}, nil
}

func (l lifetime) check(now time.Time) *Refusal {
	skew := int64(Skew / time.Second)
	switch at := now.Unix(); {
	case at-skew > l.expires:
		return unauthorized(reason.Expired, "The token expired at %s.", time.Unix(l.expires, 0).UTC().Format(time.RFC3339))
	case at+skew < l.notBefore:
		return unauthorized(reason.NotYetValid, "The token is not valid before %d (nbf).", l.notBefore)
	}
	return nil
}

// date reads a NumericDate: a JSON number of seconds, a fraction dropped.
func (c claims) date(name string) (int64, bool, error) {
	value := c[name]
	if value == nil {
		return 0, false, nil
	}
	if n, ok := value.(json.Number); ok {
		if f, err := n.Float64(); err == nil && math.Abs(f) <= 1<<53 {
			return int64(f), true, nil
		}
	}
	return 0, false, errors.New("is not a number of seconds")
}

// strings reads a claim that may be there once as a string or several times as a list of strings.
func (c claims) strings(name string) ([]string, error) {
	switch value := c[name].(type) {
	case nil:
		return nil, nil
	case string:
		return []string{value}, nil
	case []any:
		list := make([]string, len(value))
		for i, item := range value {
			s, ok := item.(string)
			if !ok {
				return nil, errors.New("has a value that is not a string")
			}
			list[i] = s
		}
		return list, nil
	default:
		return nil, errors.New("is neither a string nor a list of strings")
	}
}

// string reads a claim that may be there once only.
func (c claims) string(name string) (string, error) {
	value := c[name]
	s, ok := value.(string)
	if !ok && value != nil {
		return "", errors.New("is not a string")
	}
	return s, nil
}

// all renders every claim as a list of strings, the form of the connect event: strings as they are, numbers with
// the digits they were written with, true and false as words, objects as JSON text. Nulls are left out.
func (c claims) all() map[string][]string {
	m := make(map[string][]string, len(c))
	for name, value := range c {
		items, isList := value.([]any)
		if !isList {
			items = []any{value}
		}
		list := make([]string, 0, len(items))
		for _, item := range items {
			switch x := item.(type) {
			case nil:
			case string:
				list = append(list, x)
			case json.Number:
				list = append(list, x.String())
			default:
				text, err := json.Marshal(x)
				if err == nil { // always: it was decoded from JSON
					list = append(list, string(text))
				}
			}
		}
		if len(list) > 0 {
			m[name] = list
		}
	}
	return m
}
