package dataplane

import (
	"encoding/json"
	"errors"
	"net/http"
	"strings"

	"tabard/internal/hub"
)

func (c *call) addConnection() answer {
	conn, ok := c.hub.Connection(c.connection)
	if !ok {
		return noConnection(c.connection)
	}
	switch err := c.hub.Join(conn, c.group); {
	case errors.Is(err, hub.ErrTooManyGroups):
		return conflict("Connection `%s` is in too many groups.", c.connection)
	case err != nil: // it went away meanwhile
		return noConnection(c.connection)
	}
	return succeeded(http.StatusOK)
}

func (c *call) removeConnection() answer {
	if conn, ok := c.hub.Connection(c.connection); ok {
		c.hub.Leave(conn, c.group)
	}
	return succeeded(http.StatusNoContent)
}

func (c *call) removeConnectionFromAll() answer {
	if conn, ok := c.hub.Connection(c.connection); ok {
		c.hub.LeaveAll(conn)
	}
	return succeeded(http.StatusNoContent)
}

// addUser changes the user's present connections; nothing is remembered for later ones.
func (c *call) addUser() answer {
	if c.hub.JoinUser(c.user, c.group) > 0 {
		return succeeded(http.StatusOK)
	}
	if c.hub.HasUser(c.user) {
		return conflict("The connections of user `%s` are in too many groups.", c.user)
	}
	return noUser(c.user)
}

func (c *call) removeUser() answer {
	c.hub.LeaveUser(c.user, c.group)
	return succeeded(http.StatusNoContent)
}

func (c *call) removeUserFromAll() answer {
	c.hub.LeaveUserAll(c.user)
	return succeeded(http.StatusNoContent)
}

func (c *call) addToGroups() answer {
	full := 0
	refused := c.bulk(func(conn *hub.Conn, groups []string) {
		for _, g := range groups {
			if errors.Is(c.hub.Join(conn, g), hub.ErrTooManyGroups) {
				full++
				return
			}
		}
	})
	if refused != nil {
		return *refused
	}
	if full > 0 {
		return conflict("%d connections are in too many groups; the others were added.", full)
	}
	return succeeded(http.StatusOK)
}

func (c *call) removeFromGroups() answer {
	refused := c.bulk(func(conn *hub.Conn, groups []string) {
		for _, g := range groups {
			c.hub.Leave(conn, g)
		}
	})
	if refused != nil {
		return *refused
	}
	return succeeded(http.StatusOK)
}

// bulk reads the body of the two bulk operations and calls change for every connection that its filter selects.
// The connections are selected before the first one is changed, since a filter may ask for groups.
func (c *call) bulk(change func(conn *hub.Conn, groups []string)) *answer {
	kind, charset, ok := dataType(c.r.Header["Content-Type"])
	if !ok || kind != hub.JSON || charset != nil {
		return refusal(unsupportedMediaType())
	}
	body, refused := readBody(c.r)
	if refused != nil {
		return refused
	}
	var request struct {
		Groups []*string `json:"groups"`
		Filter *string   `json:"filter"`
	}
	decoder := json.NewDecoder(strings.NewReader(string(body)))
	decoder.DisallowUnknownFields() // additionalProperties: false
	if !json.Valid(body) {
		return refusal(invalidJSON())
	}
	if err := decoder.Decode(&request); err != nil {
		return refusal(badRequest("The request body must be an object with a list of strings, groups, and optionally a string, filter."))
	}
	if len(request.Groups) == 0 {
		return refusal(badRequest("The list groups is missing or empty."))
	}
	groups := make([]string, len(request.Groups))
	for i, g := range request.Groups {
		if g == nil || !hub.ValidGroup(*g) {
			return refusal(badRequest("Invalid group name at position %d of groups.", i))
		}
		groups[i] = *g
	}
	var match func(*hub.Conn) bool
	if request.Filter != nil {
		if match, refused = compileFilter(*request.Filter); refused != nil {
			return refused
		}
	}
	var selected []*hub.Conn
	c.hub.Each(func(conn *hub.Conn) bool {
		if match == nil || match(conn) {
			selected = append(selected, conn)
		}
		return true
	})
	for _, conn := range selected {
		change(conn, groups)
	}
	return nil
}
