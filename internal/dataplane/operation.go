package dataplane

import (
	"net/http"
	"net/url"
	"slices"
	"strings"
	"unicode/utf8"
)

// An operation is one line of the published API. Its id is the operationId of the definition.
type operation struct {
	id     string
	name   string // the id without its prefix, as Azure's metrics and logs have it
	method string
	path   string // with the definition's parameter names
	// action is the data action that a role has to allow, in the table without its provider; which operation needs
	// which is not published, but inferred from the descriptions of the actions (rest-api.md 5.3).
	action string
	serve  func(*call) answer
	public bool // nobody has to prove who they are
	names  names
}

// names says which names an operation has in its path beside the hub.
type names uint8

const (
	hasGroup names = 1 << iota
	hasUser
	hasConnection
)

// operations is the whole API, 2024-12-01 and older: no version removed or changed an operation, so every version
// has the newest behaviour.
var operations = []operation{
	{id: "HealthApi_GetServiceStatus", method: "HEAD", path: "/api/health", serve: (*call).health, public: true},
	{id: "HealthApi_GetServiceStatus", method: "GET", path: "/api/health", serve: (*call).health, public: true}, // some tools ask so

	{id: "WebPubSub_SendToAll", method: "POST", path: "/api/hubs/{hub}/:send", action: "hub/send/action", serve: (*call).sendToAll},
	{id: "WebPubSub_SendToGroup", method: "POST", path: "/api/hubs/{hub}/groups/{group}/:send", action: "group/send/action", serve: (*call).sendToGroup},
	{id: "WebPubSub_SendToUser", method: "POST", path: "/api/hubs/{hub}/users/{userId}/:send", action: "user/send/action", serve: (*call).sendToUser},
	{id: "WebPubSub_SendToConnection", method: "POST", path: "/api/hubs/{hub}/connections/{connectionId}/:send", action: "clientConnection/send/action", serve: (*call).sendToConnection},

	{id: "WebPubSub_CloseAllConnections", method: "POST", path: "/api/hubs/{hub}/:closeConnections", action: "clientConnection/write", serve: (*call).closeAll},
	{id: "WebPubSub_CloseGroupConnections", method: "POST", path: "/api/hubs/{hub}/groups/{group}/:closeConnections", action: "clientConnection/write", serve: (*call).closeGroup},
	{id: "WebPubSub_CloseUserConnections", method: "POST", path: "/api/hubs/{hub}/users/{userId}/:closeConnections", action: "clientConnection/write", serve: (*call).closeUser},
	{id: "WebPubSub_CloseConnection", method: "DELETE", path: "/api/hubs/{hub}/connections/{connectionId}", action: "clientConnection/write", serve: (*call).closeConnection},

	{id: "WebPubSub_ConnectionExists", method: "HEAD", path: "/api/hubs/{hub}/connections/{connectionId}", action: "clientConnection/read", serve: (*call).connectionExists},
	{id: "WebPubSub_GroupExists", method: "HEAD", path: "/api/hubs/{hub}/groups/{group}", action: "group/read", serve: (*call).groupExists},
	{id: "WebPubSub_UserExists", method: "HEAD", path: "/api/hubs/{hub}/users/{userId}", action: "user/read", serve: (*call).userExists},
	{id: "WebPubSub_ListConnectionsInGroup", method: "GET", path: "/api/hubs/{hub}/groups/{group}/connections", action: "group/read", serve: (*call).listGroup},

	{id: "WebPubSub_AddConnectionToGroup", method: "PUT", path: "/api/hubs/{hub}/groups/{group}/connections/{connectionId}", action: "group/write", serve: (*call).addConnection},
	{id: "WebPubSub_RemoveConnectionFromGroup", method: "DELETE", path: "/api/hubs/{hub}/groups/{group}/connections/{connectionId}", action: "group/write", serve: (*call).removeConnection},
	{id: "WebPubSub_RemoveConnectionFromAllGroups", method: "DELETE", path: "/api/hubs/{hub}/connections/{connectionId}/groups", action: "group/write", serve: (*call).removeConnectionFromAll},
	{id: "WebPubSub_AddUserToGroup", method: "PUT", path: "/api/hubs/{hub}/users/{userId}/groups/{group}", action: "group/write", serve: (*call).addUser},
	{id: "WebPubSub_RemoveUserFromGroup", method: "DELETE", path: "/api/hubs/{hub}/users/{userId}/groups/{group}", action: "group/write", serve: (*call).removeUser},
	{id: "WebPubSub_RemoveUserFromAllGroups", method: "DELETE", path: "/api/hubs/{hub}/users/{userId}/groups", action: "group/write", serve: (*call).removeUserFromAll},
	{id: "WebPubSub_AddConnectionsToGroups", method: "POST", path: "/api/hubs/{hub}/:addToGroups", action: "group/write", serve: (*call).addToGroups},
	{id: "WebPubSub_RemoveConnectionsFromGroups", method: "POST", path: "/api/hubs/{hub}/:removeFromGroups", action: "group/write", serve: (*call).removeFromGroups},

	{id: "WebPubSub_GrantPermission", method: "PUT", path: "/api/hubs/{hub}/permissions/{permission}/connections/{connectionId}", action: "clientConnection/write", serve: (*call).grant},
	{id: "WebPubSub_RevokePermission", method: "DELETE", path: "/api/hubs/{hub}/permissions/{permission}/connections/{connectionId}", action: "clientConnection/write", serve: (*call).revoke},
	{id: "WebPubSub_CheckPermission", method: "HEAD", path: "/api/hubs/{hub}/permissions/{permission}/connections/{connectionId}", action: "clientConnection/read", serve: (*call).checkPermission},

	{id: "WebPubSub_GenerateClientToken", method: "POST", path: "/api/hubs/{hub}/:generateToken", action: "clientConnection/generateToken/action", serve: (*call).generateToken},
}

// A route is one path of the API with its operations.
type route struct {
	segments []string // literals, or a parameter's name in braces
	ops      []*operation
	allow    string // the methods, for the header Allow
}

func (r *route) operation(method string) *operation {
	for _, op := range r.ops {
		if op.method == method {
			return op
		}
	}
	return nil
}

// maxSegments of a path below /api, the empty first one not counted.
const maxSegments = 7

var routes = func() (routes []*route) {
	byPath := map[string]*route{}
	for i := range operations {
		op := &operations[i]
		rt := byPath[op.path]
		if rt == nil {
			rt = &route{segments: strings.Split(op.path[1:], "/")}
			byPath[op.path] = rt
			routes = append(routes, rt)
		}
		for name, bit := range map[string]names{"{group}": hasGroup, "{userId}": hasUser, "{connectionId}": hasConnection} {
			if slices.Contains(rt.segments, name) {
				op.names |= bit
			}
		}
		rt.ops = append(rt.ops, op)
		op.name = op.id[strings.IndexByte(op.id, '_')+1:]
		op.action = "Microsoft.SignalRService/WebPubSub/" + op.action
		rt.allow = strings.TrimPrefix(rt.allow+", "+op.method, ", ")
	}
	return routes
}()

// route finds the path among the routes and reads the names in it. The escaped path is cut at its slashes first and
// each segment unescaped afterwards, so that a name may hold "%2F". Literals ignore case, as the service does.
func (c *call) route() *route {
	var buf [maxSegments]string
	segments := buf[:0]
	for rest, more := strings.TrimPrefix(c.r.URL.EscapedPath(), "/"), true; more; {
		if len(segments) == maxSegments {
			return nil
		}
		var segment string
		segment, rest, more = strings.Cut(rest, "/")
		if strings.IndexByte(segment, '%') >= 0 {
			var err error
			if segment, err = url.PathUnescape(segment); err != nil {
				return nil
			}
		}
		segments = append(segments, segment)
	}
	for _, rt := range routes {
		if rt.match(segments) {
			c.readNames(rt, segments)
			return rt
		}
	}
	return nil
}

func (r *route) match(segments []string) bool {
	if len(segments) != len(r.segments) {
		return false
	}
	for i, want := range r.segments {
		if want[0] != '{' && want != segments[i] && !strings.EqualFold(want, segments[i]) {
			return false
		}
	}
	return true
}

func (c *call) readNames(rt *route, segments []string) {
	for i, name := range rt.segments {
		switch name {
		case "{hub}":
			c.hubName = segments[i]
		case "{group}":
			c.group = segments[i]
		case "{userId}":
			c.user = segments[i]
		case "{connectionId}":
			c.connection = segments[i]
		case "{permission}":
			c.permission = segments[i]
		}
	}
}

// validName tells whether a user or connection can have this name: not blank, and text.
func validName(name string) bool { return strings.TrimSpace(name) != "" && utf8.ValidString(name) }

func (c *call) health() answer { return succeeded(http.StatusOK) }
