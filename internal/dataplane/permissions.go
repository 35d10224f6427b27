package dataplane

import (
	"net/http"
	"strings"

	"tabard/internal/hub"
)

// permissionOn reads which action the path names and which group the query. The group is a name and never a pattern.
func (c *call) permissionOn() (action hub.Action, group string, refused *answer) {
	switch strings.ToLower(c.permission) {
	case "sendtogroup", "1": // the numbers of the service's enumeration
		action = hub.SendToGroup
	case "joinleavegroup", "2":
		action = hub.JoinLeaveGroup
	default:
		return 0, "", refusal(badRequest("Invalid permission: it must be sendToGroup or joinLeaveGroup."))
	}
	group, _, refused = c.once("targetName")
	if refused == nil && !hub.ValidGroup(group) {
		refused = refusal(badRequest("Invalid targetName: it must be the name of a group."))
	}
	return action, group, refused
}

func (c *call) grant() answer {
	action, group, refused := c.permissionOn()
	if refused != nil {
		return *refused
	}
	conn, ok := c.hub.Connection(c.connection)
	if !ok {
		return noConnection(c.connection)
	}
	if conn.Grant(action, group) != nil {
		return tooManyPermissions(c.connection)
	}
	return succeeded(http.StatusOK)
}

func (c *call) revoke() answer {
	action, group, refused := c.permissionOn()
	if refused != nil {
		return *refused
	}
	if conn, ok := c.hub.Connection(c.connection); ok && conn.Revoke(action, group) != nil {
		return tooManyPermissions(c.connection)
	}
	return succeeded(http.StatusNoContent)
}

func tooManyPermissions(connection string) answer {
	return conflict("Connection `%s` has %d permissions of its own already.", connection, hub.MaxLiterals)
}

// checkPermission answers what is in force: roles, patterns, grants and revocations together. A connection that is
// not there and one that may not are told apart by nobody, as in the service.
func (c *call) checkPermission() answer {
	action, group, refused := c.permissionOn()
	if refused != nil {
		return *refused
	}
	conn, ok := c.hub.Connection(c.connection)
	return found(ok && conn.Allows(action, group), noConnection(c.connection))
}
