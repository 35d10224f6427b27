package template

import (
	"crypto/sha256"
	"encoding/base32"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/url"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/google/uuid"
)

// A call is a function's arguments, computed.
type call struct {
	ev   *evaluator
	sc   *scope
	args []any
}

// A function takes least to most arguments, any number if most is -1. raw: it gets unknown ones too.
type function struct {
	least, most int
	raw         bool
	run         func(c *call) (any, error)
}

// functions are those whose arguments are all computed first, by their names in lower case. The subset is what
// templates around Web PubSub use: names, ids, texts, lists and conditions.
var functions = map[string]function{
	"concat": {1, -1, false, concat}, "format": {1, -1, false, format},
	"tolower": text1(strings.ToLower), "toupper": text1(strings.ToUpper), "trim": text1(strings.TrimSpace),
	"base64":         text1(func(s string) string { return base64.StdEncoding.EncodeToString([]byte(s)) }),
	"base64tostring": {1, 1, false, base64ToString}, "uricomponent": text1(uriComponent), "uricomponenttostring": {1, 1, false, uriComponentToString},
	"uri": {2, 2, false, uri}, "replace": {3, 3, false, replace}, "split": {2, 2, false, split}, "join": {2, 2, false, joinTexts},
	"substring": {2, 3, false, substring}, "padleft": {2, 3, false, padLeft}, "indexof": {2, 2, false, indexOf}, "lastindexof": {2, 2, false, lastIndexOf},
	"startswith": {2, 2, false, startsWith}, "endswith": {2, 2, false, endsWith},
	"string": {1, 1, false, toText}, "int": {1, 1, false, toInt}, "bool": {1, 1, false, toBool}, "json": {1, 1, false, fromJSON},
	"guid": {1, -1, false, guid}, "uniquestring": {1, -1, false, uniqueString},

	"true": constant(true), "false": constant(false), "null": constant(nil),
	"not": {1, 1, false, not}, "equals": {2, 2, false, equals}, "empty": {1, 1, false, empty}, "contains": {2, 2, false, contains},
	"coalesce": {1, -1, true, coalesce}, "trynull": {1, 1, true, func(c *call) (any, error) { return c.args[0], nil }},
	"less": compare(func(a, b int) bool { return a < b }), "lessorequals": compare(func(a, b int) bool { return a <= b }),
	"greater": compare(func(a, b int) bool { return a > b }), "greaterorequals": compare(func(a, b int) bool { return a >= b }),

	"add": arithmetic(func(a, b int64) (int64, error) { return a + b, nil }), "sub": arithmetic(func(a, b int64) (int64, error) { return a - b, nil }),
	"mul": arithmetic(func(a, b int64) (int64, error) { return a * b, nil }), "div": arithmetic(divide), "mod": arithmetic(modulo),
	"min": {1, -1, false, extreme(func(a, b int64) bool { return a < b })}, "max": {1, -1, false, extreme(func(a, b int64) bool { return a > b })},

	"createarray": {0, -1, true, func(c *call) (any, error) { return append([]any{}, c.args...), nil }}, "createobject": {0, -1, true, createObject},
	"array": {1, 1, true, array}, "length": {1, 1, false, length}, "first": {1, 1, false, first}, "last": {1, 1, false, last},
	"take": {2, 2, false, takeSome}, "skip": {2, 2, false, skipSome}, "union": {1, -1, true, union}, "intersection": {1, -1, false, intersection},
	"range": {2, 2, false, rangeOf}, "items": {1, 1, false, items}, "objectkeys": {1, 1, false, objectKeys}, "flatten": {1, 1, false, flatten},

	"resourceid": {2, -1, false, resourceID}, "subscriptionresourceid": {2, -1, false, subscriptionResourceID}, "tenantresourceid": {2, -1, false, tenantResourceID},
	"extensionresourceid": {3, -1, false, extensionResourceID},
	"subscription":        {0, 0, false, subscription}, "resourcegroup": {0, 0, false, resourceGroup}, "tenant": {0, 0, false, tenant},
	"deployment": {0, 0, false, deploymentInfo}, "environment": {0, 0, false, environment},
}

// refused are functions that exist in ARM and never will here, and why.
var refused = map[string]string{
	"newguid": "it gives another value each time, so that applying twice would change something",
	"utcnow":  "it gives another value each time, so that applying twice would change something",
	"lambda":  "functions on lists (map, filter, sort, reduce) are not computed", "map": "write the list out", "filter": "write the list out",
	"sort": "write the list out", "reduce": "write the list out", "toobject": "write the object out", "mapvalues": "write the object out", "groupby": "write the object out",
	"pickzones": "there are no zones", "providers": "it was withdrawn from ARM", "managementgroup": "there are no management groups",
	"managementgroupresourceid": "there are no management groups", "loadtextcontent": "Bicep replaces it when it compiles",
}

func constant(v any) function {
	return function{0, 0, false, func(*call) (any, error) { return v, nil }}
}

func text1(f func(string) string) function {
	return function{1, 1, false, func(c *call) (any, error) {
		s, err := c.text(0)
		return f(s), err
	}}
}

func (c *call) text(i int) (string, error) {
	s, ok := c.args[i].(string)
	if !ok {
		return "", fmt.Errorf("argument %d is %s, not text", i+1, kindOf(c.args[i]))
	}
	return s, nil
}

func (c *call) texts() ([]string, error) {
	list := make([]string, len(c.args))
	for i := range c.args {
		var err error
		if list[i], err = c.text(i); err != nil {
			return nil, err
		}
	}
	return list, nil
}

func (c *call) number(i int) (int64, error) {
	n, ok := c.args[i].(int64)
	if !ok {
		return 0, fmt.Errorf("argument %d is %s, not a number", i+1, kindOf(c.args[i]))
	}
	return n, nil
}

func (c *call) list(i int) ([]any, error) {
	l, ok := c.args[i].([]any)
	if !ok {
		return nil, fmt.Errorf("argument %d is %s, not a list", i+1, kindOf(c.args[i]))
	}
	return l, nil
}

// asText is a value as concat, format and string write it.
func asText(v any) (string, error) {
	switch v := v.(type) {
	case string:
		return v, nil
	case bool:
		if v {
			return "True", nil
		}
		return "False", nil
	case int64:
		return strconv.FormatInt(v, 10), nil
	case nil:
		return "", nil
	}
	raw, err := json.Marshal(v)
	return string(raw), err
}

func concat(c *call) (any, error) {
	if _, ok := c.args[0].([]any); ok {
		all := []any{}
		for i := range c.args {
			l, err := c.list(i)
			if err != nil {
				return nil, err
			}
			all = append(all, l...)
		}
		return all, nil
	}
	var b strings.Builder
	for _, v := range c.args {
		s, err := asText(v)
		if err != nil {
			return nil, err
		}
		if b.WriteString(s); b.Len() > maxText {
			return nil, fmt.Errorf("the text is too long")
		}
	}
	return b.String(), nil
}

var (
	slot   = regexp.MustCompile(`\{\{|\}\}|\{(\d+)(:[^}]*)?\}`)
	digits = regexp.MustCompile(`^:[dD]\d{1,2}$`)
)

func format(c *call) (any, error) {
	pattern, err := c.text(0)
	if err != nil {
		return nil, err
	}
	var bad error
	out := slot.ReplaceAllStringFunc(pattern, func(m string) string {
		switch m {
		case "{{":
			return "{"
		case "}}":
			return "}"
		}
		parts := slot.FindStringSubmatch(m)
		i, _ := strconv.Atoi(parts[1])
		if i+1 >= len(c.args) {
			bad = fmt.Errorf("there is no argument {%d}", i)
			return ""
		}
		v := c.args[i+1]
		if n, ok := v.(int64); ok && digits.MatchString(parts[2]) {
			width, _ := strconv.Atoi(parts[2][2:])
			return fmt.Sprintf("%0*d", width, n)
		}
		if parts[2] != "" {
			bad = fmt.Errorf("the form {%d%s} is not supported", i, parts[2])
		}
		s, err := asText(v)
		if err != nil {
			bad = err
		}
		return s
	})
	if len(out) > maxText {
		return nil, fmt.Errorf("the text is too long")
	}
	return out, bad
}

func base64ToString(c *call) (any, error) {
	s, err := c.text(0)
	if err != nil {
		return nil, err
	}
	raw, err := base64.StdEncoding.DecodeString(s)
	if err != nil {
		return nil, fmt.Errorf("the argument is no base64")
	}
	return string(raw), nil
}

func uriComponent(s string) string { return strings.ReplaceAll(url.QueryEscape(s), "+", "%20") }

func uriComponentToString(c *call) (any, error) {
	s, err := c.text(0)
	if err != nil {
		return nil, err
	}
	out, err := url.PathUnescape(s)
	if err != nil {
		return nil, fmt.Errorf("the argument is not encoded")
	}
	return out, nil
}

func uri(c *call) (any, error) {
	t, err := c.texts()
	if err != nil {
		return nil, err
	}
	base, err := url.Parse(t[0])
	if err != nil {
		return nil, fmt.Errorf("the first argument is no URI")
	}
	rel, err := url.Parse(t[1])
	if err != nil {
		return nil, fmt.Errorf("the second argument is no URI")
	}
	return base.ResolveReference(rel).String(), nil
}

func replace(c *call) (any, error) {
	t, err := c.texts()
	if err != nil {
		return nil, err
	}
	return strings.ReplaceAll(t[0], t[1], t[2]), nil
}

func split(c *call) (any, error) {
	s, err := c.text(0)
	if err != nil {
		return nil, err
	}
	seps := []string{}
	switch by := c.args[1].(type) {
	case string:
		seps = append(seps, by)
	case []any:
		for _, v := range by {
			sep, ok := v.(string)
			if !ok {
				return nil, fmt.Errorf("a separator is %s, not text", kindOf(v))
			}
			seps = append(seps, sep)
		}
	default:
		return nil, fmt.Errorf("the separator is %s, not text", kindOf(by))
	}
	parts := []string{s}
	for _, sep := range seps {
		var next []string
		for _, p := range parts {
			next = append(next, strings.Split(p, sep)...)
		}
		parts = next
	}
	return anys(parts), nil
}

func anys(texts []string) []any {
	list := make([]any, len(texts))
	for i, t := range texts {
		list[i] = t
	}
	return list
}

func joinTexts(c *call) (any, error) {
	l, err := c.list(0)
	if err != nil {
		return nil, err
	}
	sep, err := c.text(1)
	if err != nil {
		return nil, err
	}
	parts := make([]string, len(l))
	for i, v := range l {
		if parts[i], err = asText(v); err != nil {
			return nil, err
		}
	}
	return strings.Join(parts, sep), nil
}

func substring(c *call) (any, error) {
	s, err := c.text(0)
	if err != nil {
		return nil, err
	}
	runes := []rune(s)
	from, err := c.number(1)
	if err != nil {
		return nil, err
	}
	n := int64(len(runes)) - from
	if len(c.args) == 3 {
		if n, err = c.number(2); err != nil {
			return nil, err
		}
	}
	if from < 0 || n < 0 || from+n > int64(len(runes)) || from+n < 0 {
		return nil, fmt.Errorf("the text has %d characters: none from %d, %d of them", len(runes), from, n)
	}
	return string(runes[from : from+n]), nil
}

func padLeft(c *call) (any, error) {
	s, err := asText(c.args[0])
	if err != nil {
		return nil, err
	}
	n, err := c.number(1)
	if err != nil {
		return nil, err
	}
	pad := " "
	if len(c.args) == 3 {
		if pad, err = c.text(2); err != nil {
			return nil, err
		}
	}
	if len(pad) != 1 || n < 0 || n > 1024 {
		return nil, fmt.Errorf("it pads with one character, up to 1024")
	}
	return strings.Repeat(pad, max(0, int(n)-len(s))) + s, nil
}

func indexOf(c *call) (any, error)     { return position(c, strings.Index, false) }
func lastIndexOf(c *call) (any, error) { return position(c, strings.LastIndex, true) }

func position(c *call, find func(s, sub string) int, last bool) (any, error) {
	if l, ok := c.args[0].([]any); ok {
		at := int64(-1)
		for i, v := range l {
			if same(v, c.args[1]) {
				if at = int64(i); !last {
					break
				}
			}
		}
		return at, nil
	}
	t, err := c.texts()
	if err != nil {
		return nil, err
	}
	return int64(find(strings.ToLower(t[0]), strings.ToLower(t[1]))), nil
}

func startsWith(c *call) (any, error) {
	t, err := c.texts()
	return err == nil && strings.HasPrefix(strings.ToLower(t[0]), strings.ToLower(t[1])), err
}

func endsWith(c *call) (any, error) {
	t, err := c.texts()
	return err == nil && strings.HasSuffix(strings.ToLower(t[0]), strings.ToLower(t[1])), err
}

func toText(c *call) (any, error) { return asText(c.args[0]) }

func toInt(c *call) (any, error) {
	switch v := c.args[0].(type) {
	case int64:
		return v, nil
	case string:
		n, err := strconv.ParseInt(v, 10, 64)
		if err != nil {
			return nil, fmt.Errorf("the argument is no number")
		}
		return n, nil
	}
	return nil, fmt.Errorf("the argument is %s", kindOf(c.args[0]))
}

func toBool(c *call) (any, error) {
	switch v := c.args[0].(type) {
	case bool:
		return v, nil
	case int64:
		return v != 0, nil
	case string:
		switch strings.ToLower(v) {
		case "true", "1":
			return true, nil
		case "false", "0":
			return false, nil
		}
	}
	return nil, fmt.Errorf("the argument is neither true nor false")
}

func fromJSON(c *call) (any, error) {
	s, err := c.text(0)
	if err != nil {
		return nil, err
	}
	n, err := parseJSON("", []byte(s), 0)
	if err != nil {
		return nil, fmt.Errorf("the argument is no JSON")
	}
	return n.plain(), nil
}

// plain is a document as it stands: expressions in it are text.
func (n *node) plain() any {
	switch v := n.value.(type) {
	case []*node:
		list := make([]any, len(v))
		for i, item := range v {
			list[i] = item.plain()
		}
		return list
	case *object:
		out := map[string]any{}
		for name, m := range v.members {
			out[name] = m.plain()
		}
		return out
	}
	return n.value
}

// guidNamespace is that of ARM's guid().
var guidNamespace = uuid.MustParse("11fb06fb-712d-4ddd-98c7-e71bbd588830")

func guid(c *call) (any, error) {
	t, err := c.texts()
	if err != nil {
		return nil, err
	}
	return uuid.NewSHA1(guidNamespace, []byte(strings.Join(t, "-"))).String(), nil
}

// uniqueString is 13 characters that the arguments decide. They are not those of Azure.
func uniqueString(c *call) (any, error) {
	t, err := c.texts()
	if err != nil {
		return nil, err
	}
	sum := sha256.Sum256([]byte(strings.Join(t, "-")))
	return strings.ToLower(base32.StdEncoding.EncodeToString(sum[:9])[:13]), nil
}

func not(c *call) (any, error) {
	b, ok := c.args[0].(bool)
	if !ok {
		return nil, fmt.Errorf("the argument is %s", kindOf(c.args[0]))
	}
	return !b, nil
}

func same(a, b any) bool { return reflect.DeepEqual(a, b) }

func equals(c *call) (any, error) { return same(c.args[0], c.args[1]), nil }

func empty(c *call) (any, error) {
	switch v := c.args[0].(type) {
	case nil:
		return true, nil
	case string:
		return v == "", nil
	case []any:
		return len(v) == 0, nil
	case map[string]any:
		return len(v) == 0, nil
	}
	return nil, fmt.Errorf("the argument is %s", kindOf(c.args[0]))
}

func contains(c *call) (any, error) {
	switch v := c.args[0].(type) {
	case string:
		s, err := asText(c.args[1])
		return strings.Contains(v, s), err
	case []any:
		return slices.ContainsFunc(v, func(x any) bool { return same(x, c.args[1]) }), nil
	case map[string]any:
		name, err := c.text(1)
		_, ok := member(v, name)
		return ok, err
	}
	return nil, fmt.Errorf("the first argument is %s", kindOf(c.args[0]))
}

func coalesce(c *call) (any, error) {
	for _, v := range c.args {
		if v != nil {
			return v, nil
		}
	}
	return nil, nil
}

func compare(holds func(a, b int) bool) function {
	return function{2, 2, false, func(c *call) (any, error) {
		if a, ok := c.args[0].(string); ok {
			b, err := c.text(1)
			return holds(strings.Compare(a, b), 0), err
		}
		a, err := c.number(0)
		if err != nil {
			return nil, err
		}
		b, err := c.number(1)
		switch {
		case a < b:
			return holds(-1, 0), err
		case a > b:
			return holds(1, 0), err
		}
		return holds(0, 0), err
	}}
}

func arithmetic(f func(a, b int64) (int64, error)) function {
	return function{2, 2, false, func(c *call) (any, error) {
		a, err := c.number(0)
		if err != nil {
			return nil, err
		}
		b, err := c.number(1)
		if err != nil {
			return nil, err
		}
		return f(a, b)
	}}
}

func divide(a, b int64) (int64, error) {
	if b == 0 {
		return 0, fmt.Errorf("a division by 0")
	}
	return a / b, nil
}

func modulo(a, b int64) (int64, error) {
	if b == 0 {
		return 0, fmt.Errorf("a division by 0")
	}
	return a % b, nil
}

func extreme(better func(a, b int64) bool) func(c *call) (any, error) {
	return func(c *call) (any, error) {
		args := c.args
		if l, ok := args[0].([]any); ok && len(args) == 1 {
			args = l
		}
		inner := &call{c.ev, c.sc, args}
		var best int64
		for i := range args {
			n, err := inner.number(i)
			if err != nil {
				return nil, err
			}
			if i == 0 || better(n, best) {
				best = n
			}
		}
		return best, nil
	}
}
