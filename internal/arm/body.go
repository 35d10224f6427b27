package arm

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"mime"
	"net/http"
	"slices"
	"strings"
	"unicode/utf8"

	"tabard/internal/settings"
)

// maxDepth bounds the nesting of a body.
const maxDepth = 64

// Faults of a body as a whole; each surface words them in its envelope.
type (
	badJSON      struct{ problem string }
	badMediaType struct{ given string }
)

func (e *badJSON) Error() string      { return e.problem }
func (e *badMediaType) Error() string { return "media type " + e.given }

// readJSON returns the request's body, which must be one JSON object, read strictly: UTF-8, each member of an object
// once, nothing after the value.
func (c *call) readJSON() (json.RawMessage, error) {
	body, err := io.ReadAll(http.MaxBytesReader(c.w, c.r.Body, maxBody))
	if err != nil {
		var tooLarge *http.MaxBytesError
		if errors.As(err, &tooLarge) {
			return nil, err
		}
		return nil, &badJSON{"the body ended early"}
	}
	if len(bytes.TrimSpace(body)) == 0 {
		return nil, &badJSON{"a JSON object is required"}
	}
	given := c.r.Header.Get("Content-Type")
	if media, _, err := mime.ParseMediaType(given); err != nil || media != "application/json" && media != "text/json" {
		return nil, &badMediaType{given}
	}
	if err := checkJSON(body); err != nil {
		return nil, err
	}
	if bytes.TrimSpace(body)[0] != '{' {
		return nil, &badJSON{"a JSON object is required"}
	}
	return body, nil
}

// checkJSON refuses what encoding/json would read leniently, and readers elsewhere differently.
func checkJSON(body []byte) error {
	if !utf8.Valid(body) {
		return &badJSON{"the body is not UTF-8"}
	}
	dec := json.NewDecoder(bytes.NewReader(body))
	dec.UseNumber()
	if err := checkValue(dec, "", 0); err != nil {
		var known *badJSON
		if errors.As(err, &known) {
			return err
		}
		return &badJSON{fmt.Sprintf("%v, at byte %d", err, dec.InputOffset())}
	}
	if _, err := dec.Token(); err != io.EOF {
		return &badJSON{fmt.Sprintf("something follows the JSON value, at byte %d", dec.InputOffset())}
	}
	return nil
}

func checkValue(dec *json.Decoder, at string, depth int) error {
	if depth > maxDepth {
		return &badJSON{fmt.Sprintf("it is nested deeper than %d levels", maxDepth)}
	}
	token, err := dec.Token()
	if err == io.EOF {
		return io.ErrUnexpectedEOF
	}
	if err != nil {
		return err
	}
	switch token {
	case json.Delim('{'):
		seen := map[string]bool{}
		for dec.More() {
			name, err := dec.Token()
			if err != nil {
				return err
			}
			member := join(at, name.(string)) // the decoder admits nothing else here
			if seen[name.(string)] {
				return &badJSON{fmt.Sprintf("%q is there twice", member)}
			}
			seen[name.(string)] = true
			if err := checkValue(dec, member, depth+1); err != nil {
				return err
			}
		}
	case json.Delim('['):
		for i := 0; dec.More(); i++ {
			if err := checkValue(dec, fmt.Sprintf("%s[%d]", at, i), depth+1); err != nil {
				return err
			}
		}
	default:
		return nil
	}
	_, err = dec.Token() // the closing delimiter
	if err == io.EOF {
		err = io.ErrUnexpectedEOF
	}
	return err
}

// An object is a JSON object whose members are decoded one by one, so that absent, null and wrong can be told apart.
type object map[string]json.RawMessage

// A reader decodes checked JSON and collects what is wrong with it under the fields' JSON paths. A null counts as
// absent everywhere, as in ARM's own services.
type reader struct{ faults settings.Faults }

func (d *reader) fault(at, format string, args ...any) {
	d.faults = append(d.faults, settings.Fault{Field: at, Problem: fmt.Sprintf(format, args...)})
}

// addNew adds faults of fields that have none yet, neither themselves nor around them.
func (d *reader) addNew(more settings.Faults) {
	known := d.faults
	for _, f := range more {
		if !slices.ContainsFunc(known, func(k settings.Fault) bool {
			return f.Field == k.Field || strings.HasPrefix(f.Field, k.Field+".") || strings.HasPrefix(f.Field, k.Field+"[")
		}) {
			d.faults = append(d.faults, f)
		}
	}
}

// err is the answer to the faults so far, nil if there are none.
func (d *reader) err() error {
	if len(d.faults) == 0 {
		return nil
	}
	return d.faults
}

// object decodes an object. Members whose names are the given ones but for their case get the given spelling, as
// ARM's services read names ignoring case; null members are dropped.
func (d *reader) object(at string, raw json.RawMessage, names ...string) object {
	if absent(raw) {
		return nil
	}
	var o object
	if json.Unmarshal(raw, &o) != nil {
		d.fault(at, "is not an object")
		return nil
	}
	for _, given := range slices.Sorted(maps.Keys(o)) {
		name := given
		if i := slices.IndexFunc(names, func(n string) bool { return strings.EqualFold(n, given) }); i >= 0 {
			name = names[i]
		}
		value := o[given]
		if name != given {
			delete(o, given)
			if _, twice := o[name]; twice {
				d.fault(join(at, name), "is there twice, in different case")
				continue
			}
			o[name] = value
		}
		if absent(value) {
			delete(o, name)
		}
	}
	return o
}

// only faults the members of an object that are not among the names.
func (d *reader) only(at string, o object, names ...string) {
	for _, name := range slices.Sorted(maps.Keys(o)) {
		if !slices.Contains(names, name) {
			d.fault(join(at, name), "is unknown; known are %s", strings.Join(names, ", "))
		}
	}
}

// strict decodes an object that may have no members but the given ones.
func (d *reader) strict(at string, raw json.RawMessage, names ...string) object {
	o := d.object(at, raw, names...)
	d.only(at, o, names...)
	return o
}

func (d *reader) array(at string, raw json.RawMessage) []json.RawMessage {
	return decode[[]json.RawMessage](d, at, raw, "an array")
}

func (d *reader) text(at string, raw json.RawMessage) string {
	return decode[string](d, at, raw, "a string")
}

func (d *reader) boolean(at string, raw json.RawMessage) bool {
	return decode[bool](d, at, raw, "true or false")
}

func (d *reader) integer(at string, raw json.RawMessage) int {
	return decode[int](d, at, raw, "an integer")
}

// choice decodes one of several texts, ignoring case, and returns it as it is spelled here; "" if it is absent.
func (d *reader) choice(at string, raw json.RawMessage, values ...string) string {
	faults := len(d.faults)
	given := d.text(at, raw)
	if absent(raw) || len(d.faults) > faults {
		return ""
	}
	i := slices.IndexFunc(values, func(v string) bool { return strings.EqualFold(v, given) })
	if i < 0 {
		d.fault(at, "%q is none of %s", given, strings.Join(values, ", "))
		return ""
	}
	return values[i]
}

func (d *reader) texts(at string, raw json.RawMessage) []string {
	var list []string
	for i, item := range d.array(at, raw) {
		at := fmt.Sprintf("%s[%d]", at, i)
		if absent(item) {
			d.fault(at, "is null")
			continue
		}
		list = append(list, d.text(at, item))
	}
	return list
}

func (d *reader) textMap(at string, raw json.RawMessage) map[string]string {
	o := d.object(at, raw)
	if o == nil {
		return nil
	}
	m := make(map[string]string, len(o))
	for _, name := range slices.Sorted(maps.Keys(o)) {
		m[name] = d.text(join(at, name), o[name])
	}
	return m
}

func decode[T any](d *reader, at string, raw json.RawMessage, want string) (v T) {
	if absent(raw) {
		return v
	}
	if json.Unmarshal(raw, &v) != nil {
		d.fault(at, "is not %s", want)
	}
	return v
}

func absent(raw json.RawMessage) bool {
	return len(raw) == 0 || bytes.Equal(bytes.TrimSpace(raw), []byte("null"))
}

func join(at, name string) string {
	if at == "" {
		return name
	}
	return at + "." + name
}

// merge applies a JSON merge patch (RFC 7396) to a document, names ignoring case: objects are merged, null removes,
// everything else replaces.
func merge(target, patch json.RawMessage) json.RawMessage {
	var p, t object
	if json.Unmarshal(patch, &p) != nil || p == nil {
		return patch
	}
	if json.Unmarshal(target, &t) != nil || t == nil {
		t = object{}
	}
	for _, name := range slices.Sorted(maps.Keys(p)) {
		value := p[name]
		for existing := range t {
			if existing != name && strings.EqualFold(existing, name) {
				name = existing
				break
			}
		}
		if absent(value) {
			delete(t, name)
			continue
		}
		t[name] = merge(t[name], value)
	}
	return encode(t)
}

// encode is json.Marshal for values that cannot fail.
func encode(v any) json.RawMessage {
	raw, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	return raw
}
