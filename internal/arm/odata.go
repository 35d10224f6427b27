package arm

import (
	"encoding/base64"
	"regexp"
	"strconv"
	"strings"
)

// A condition is one comparison of a Graph $filter. Several are joined by "and".
type condition struct {
	field  string
	prefix bool // startswith instead of eq
	value  string
}

// match compares ignoring case, as Entra does. A list matches if one of its entries does.
func (f *condition) match(values []string) bool {
	for _, v := range values {
		if strings.EqualFold(v, f.value) || f.prefix && len(v) >= len(f.value) && strings.EqualFold(v[:len(f.value)], f.value) {
			return true
		}
	}
	return false
}

// parseFilter reads the subset of $filter that the directory serves: field eq 'value', startswith(field,'value'),
// list/any(x:x eq 'value'), joined by "and". A GUID, true and false stand without quotes, too. fields tells which names
// there are and which of them are lists.
func parseFilter(text string, fields map[string]bool) ([]condition, error) {
	in := &scanner{rest: text}
	var conditions []condition
	for {
		c, ok := in.condition()
		if !ok {
			return nil, unsupportedQuery("Unsupported or invalid query filter clause at '%.64s'. Supported are field eq 'value', startswith(field,'value') and list/any(x:x eq 'value'), joined by 'and'.", in.rest)
		}
		list, known := fields[c.field]
		if !known || list != c.list {
			return nil, unsupportedQuery("Unsupported or invalid query filter clause specified for property '%.64s'.", c.field)
		}
		conditions = append(conditions, c.condition)
		in.space()
		if in.rest == "" {
			return conditions, nil
		}
		if !in.keyword("and") {
			return nil, unsupportedQuery("Unsupported or invalid query filter clause at '%.64s'.", in.rest)
		}
	}
}

var bareLiteral = regexp.MustCompile(`^(?:true|false|[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12})\b`)

type scanner struct{ rest string }

type scanned struct {
	condition
	list bool
}

func (in *scanner) condition() (c scanned, ok bool) {
	in.space()
	c.field = in.word()
	switch {
	case c.field == "startswith" && in.take("("):
		in.space()
		c.field, c.prefix = in.word(), true
		in.space()
		ok = in.take(",") && in.text(&c.value) && in.close()
	case in.take("/any("):
		c.list = true
		in.space()
		name := in.word()
		in.space()
		ok = name != "" && in.take(":") && in.keyword(name) && in.keyword("eq") && in.text(&c.value) && in.close()
	default:
		ok = c.field != "" && in.keyword("eq") && in.text(&c.value)
	}
	return c, ok && c.field != ""
}

// all reads what clause reads, joined by "and", to the end; nothing at all is right, too.
func (in *scanner) all(clause func() bool) bool {
	if in.space(); in.rest == "" {
		return true
	}
	for {
		if in.space(); !clause() {
			return false
		}
		if in.space(); in.rest == "" {
			return true
		}
		if !in.keyword("and") {
			return false
		}
	}
}

func (in *scanner) space() { in.rest = strings.TrimLeft(in.rest, " ") }

func (in *scanner) take(token string) (ok bool) {
	in.rest, ok = strings.CutPrefix(in.rest, token)
	return ok
}

func (in *scanner) close() bool {
	in.space()
	return in.take(")")
}

func (in *scanner) word() string {
	end := strings.IndexFunc(in.rest, func(r rune) bool {
		return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9')
	})
	if end < 0 {
		end = len(in.rest)
	}
	word := in.rest[:end]
	in.rest = in.rest[end:]
	return word
}

func (in *scanner) keyword(want string) bool {
	in.space()
	before := in.rest
	if in.word() == want {
		return true
	}
	in.rest = before
	return false
}

// text reads a string literal, in which a quote is doubled, or what OData writes without quotes: a GUID or a boolean.
func (in *scanner) text(value *string) bool {
	in.space()
	if !in.take("'") {
		bare := bareLiteral.FindString(in.rest)
		*value, in.rest = strings.ToLower(bare), in.rest[len(bare):]
		return bare != ""
	}
	var b strings.Builder
	for {
		before, after, ok := strings.Cut(in.rest, "'")
		if !ok {
			return false
		}
		b.WriteString(before)
		in.rest = after
		if !in.take("'") {
			*value = b.String()
			return true
		}
		b.WriteByte('\'')
	}
}

// A collection is a kind of Graph object that can be listed.
type collection[T any] struct {
	name   string          // in @odata.context
	fields map[string]bool // that $filter knows; true for lists
	value  func(item *T, field string) []string
	key    func(item *T) string // orders the list, unique
	encode func(item *T) map[string]any
}

const maxTop = 999

// list serves GET on a collection, whose items come ordered by key: $filter, $top and $skiptoken are obeyed, $select
// and $count may be given and change nothing, what else could change the answer is refused.
func (l *collection[T]) list(c *call, items []T) (reply, error) {
	var conditions []condition
	top, after := maxTop, ""
	for name, values := range c.r.URL.Query() {
		value := values[0]
		var err error
		switch strings.ToLower(name) {
		case "$filter":
			conditions, err = parseFilter(value, l.fields)
		case "$top":
			if top, err = strconv.Atoi(value); err != nil || top < 1 || top > maxTop {
				err = unsupportedQuery("Invalid page size specified: '%.20s'. Must be between 1 and %d inclusive.", value, maxTop)
			}
		case "$skiptoken":
			var token []byte
			if token, err = base64.RawURLEncoding.DecodeString(value); err != nil {
				err = unsupportedQuery("Invalid $skiptoken.")
			}
			after = string(token)
		case "$expand", "$search", "$orderby", "$skip", "$apply":
			err = unsupportedQuery("The query option '%s' is not supported.", name)
		}
		if err != nil {
			return reply{}, err
		}
	}
	list := []map[string]any{}
	answer := map[string]any{"@odata.context": c.origin() + "/v1.0/$metadata#" + l.name}
	last := ""
next:
	for i := range items {
		item := &items[i]
		if after != "" && l.key(item) <= after {
			continue
		}
		for _, f := range conditions {
			if !f.match(l.value(item, f.field)) {
				continue next
			}
		}
		if len(list) == top {
			answer["@odata.nextLink"] = c.nextPage(base64.RawURLEncoding.EncodeToString([]byte(last)))
			break
		}
		list = append(list, l.encode(item))
		last = l.key(item)
	}
	answer["value"] = list
	return reply{200, answer}, nil
}

// entity is the answer of an operation on one object.
func (l *collection[T]) entity(c *call, status int, item *T) reply {
	body := l.encode(item)
	body["@odata.context"] = c.origin() + "/v1.0/$metadata#" + l.name + "/$entity"
	return reply{status, body}
}
