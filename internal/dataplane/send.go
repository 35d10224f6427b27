package dataplane

import (
	"net/http"
	"time"

	"tabard/internal/hub"
)

// MaxTTL is the longest messageTtlSeconds.
const MaxTTL = 300

// send reads what the sends have in common and hands it to deliver.
func (c *call) send(filtered bool, deliver func(*hub.Message, hub.SendOptions) int) answer {
	ttl, refused := c.integer("messageTtlSeconds", 0, 0, MaxTTL)
	if refused != nil {
		return *refused
	}
	var o hub.SendOptions
	if filtered {
		expression, _, refused := c.once("filter")
		if refused != nil {
			return *refused
		}
		if o.Match, refused = compileFilter(expression); refused != nil {
			return *refused
		}
	}
	m, refused := c.message(time.Duration(ttl) * time.Second)
	if refused != nil {
		return *refused
	}
	c.published(m, deliver(m, o))
	return accepted()
}

func (c *call) sendToAll() answer {
	return c.send(true, func(m *hub.Message, o hub.SendOptions) int {
		o.Excluded = c.params("excluded")
		return c.hub.SendToAll(m, o)
	})
}

func (c *call) sendToGroup() answer {
	return c.send(true, func(m *hub.Message, o hub.SendOptions) int {
		o.Excluded = c.params("excluded")
		return c.hub.SendToGroup(m, o)
	})
}

func (c *call) sendToUser() answer {
	return c.send(true, func(m *hub.Message, o hub.SendOptions) int { return c.hub.SendToUser(c.user, m, o) })
}

func (c *call) sendToConnection() answer {
	return c.send(false, func(m *hub.Message, _ hub.SendOptions) int {
		if c.hub.SendToConnection(c.connection, m) {
			return 1
		}
		return 0
	})
}

// defaultReason is what clients are told when the server gives no reason (EMU).
const defaultReason = "Closed by REST API."

// close reads the reason and hands it to end.
func (c *call) close(end func(reason string)) answer {
	reason, _, refused := c.once("reason")
	if refused != nil {
		return *refused
	}
	if reason == "" {
		reason = defaultReason
	}
	end(reason)
	return succeeded(http.StatusNoContent)
}

func (c *call) closeAll() answer {
	return c.close(func(reason string) { c.hub.CloseAll(c.params("excluded"), reason) })
}

func (c *call) closeGroup() answer {
	return c.close(func(reason string) { c.hub.CloseGroup(c.group, c.params("excluded"), reason) })
}

func (c *call) closeUser() answer {
	return c.close(func(reason string) { c.hub.CloseUser(c.user, c.params("excluded"), reason) })
}

func (c *call) closeConnection() answer {
	return c.close(func(reason string) { c.hub.CloseConnection(c.connection, reason) })
}

func (c *call) connectionExists() answer {
	_, ok := c.hub.Connection(c.connection)
	return found(ok, noConnection(c.connection))
}

func (c *call) groupExists() answer { return found(c.hub.HasGroup(c.group), noGroup(c.group)) }

func (c *call) userExists() answer { return found(c.hub.HasUser(c.user), noUser(c.user)) }
