package dataplane

import (
	"net/url"
	"slices"
	"strconv"
	"strings"

	"tabard/internal/filter"
	"tabard/internal/hub"
)

// Version is the newest version of the API.
const Version = "2024-12-01"

// versions are all that the service accepts. 2024-01-01 was never published; the service lists it all the same.
var versions = []string{"2021-10-01", "2022-11-01", "2023-07-01", "2024-01-01", Version}

// checkVersion accepts a request without a version, as the service's emulator does.
func (c *call) checkVersion() *answer {
	v, n := c.param("api-version")
	if n == 0 || n == 1 && slices.Contains(versions, v) {
		return nil
	}
	return refusal(unsupportedVersion())
}

// A queryParam is a parameter of the query, unescaped.
type queryParam struct{ name, value string }

// query reads the query once. Most have a parameter or two: looking through them costs less than a map.
func (c *call) query() []queryParam {
	if c.queried {
		return c.parameters
	}
	c.queried, c.parameters = true, c.few[:0]
	for query := c.r.URL.RawQuery; query != ""; {
		var pair string
		pair, query, _ = strings.Cut(query, "&")
		name, value, _ := strings.Cut(pair, "=")
		if isEscaped(name) {
			text, err := url.QueryUnescape(name)
			if err != nil {
				continue
			}
			name = text
		}
		if isEscaped(value) {
			text, err := url.QueryUnescape(value)
			if err != nil {
				text = value // as much as can be understood; a name or a filter will not be valid
			}
			value = strings.ToValidUTF8(text, "\uFFFD")
		}
		c.parameters = append(c.parameters, queryParam{name, value})
	}
	return c.parameters
}

func isEscaped(text string) bool {
	return strings.IndexByte(text, '%') >= 0 || strings.IndexByte(text, '+') >= 0
}

// param returns the last value of a parameter and how many there are.
func (c *call) param(name string) (value string, n int) {
	for _, p := range c.query() {
		if p.name == name {
			value, n = p.value, n+1
		}
	}
	return value, n
}

// params returns all values of a repeatable parameter.
func (c *call) params(name string) (values []string) {
	for _, p := range c.query() {
		if p.name == name {
			values = append(values, p.value)
		}
	}
	return values
}

// once reads a parameter that may be there once at most.
func (c *call) once(name string) (value string, given bool, refused *answer) {
	value, n := c.param(name)
	if n > 1 {
		return "", true, refusal(badRequest("The parameter %s must not be repeated.", name))
	}
	return value, n == 1, nil
}

// integer reads a number that may be absent, in which case it is def.
func (c *call) integer(name string, def, least, most int64) (int64, *answer) {
	text, given, refused := c.once(name)
	if refused != nil || !given {
		return def, refused
	}
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil || n < least || n > most || strings.HasPrefix(text, "+") {
		return 0, refusal(badRequest("Invalid %s: it must be an integer from %d to %d.", name, least, most))
	}
	return n, nil
}

// compileFilter compiles an expression; nil: every connection.
func compileFilter(expression string) (func(*hub.Conn) bool, *answer) {
	f, err := filter.Compile(expression)
	if err != nil {
		return nil, refusal(badRequest("%s", err.Error()))
	}
	if f == nil {
		return nil, nil
	}
	return func(conn *hub.Conn) bool { return f.Match(subject{conn}) }, nil
}

// A subject shows a connection to a filter.
type subject struct{ conn *hub.Conn }

func (s subject) ConnectionID() string      { return s.conn.ID() }
func (s subject) UserID() (string, bool)    { return s.conn.UserID(), s.conn.UserID() != "" }
func (s subject) Protocol() (string, bool)  { return s.conn.Subprotocol(), s.conn.Subprotocol() != "" }
func (s subject) InGroup(group string) bool { return s.conn.InGroup(group) }
func (s subject) GroupCount() int           { return len(s.conn.Groups()) }
