package dataplane_test

import (
	"encoding/json"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// documented has a request for every status that the published definition documents, against a service where
// connection c1 of user u1 is in group g1. "default" in the definition is any error; 401 stands for it, and where no
// token is needed 400.
var documented = []struct {
	id           string
	status       int
	method, path string
	body         string
	contentType  string
	closes       bool // c1
}{
	{id: "HealthApi_GetServiceStatus", status: 200, method: "HEAD", path: "/api/health"},
	{id: "WebPubSub_SendToAll", status: 202, method: "POST", path: "/api/hubs/chat/:send", body: "hi", contentType: "text/plain"},
	{id: "WebPubSub_SendToGroup", status: 202, method: "POST", path: "/api/hubs/chat/groups/g1/:send", body: "{}", contentType: "application/json"},
	{id: "WebPubSub_SendToUser", status: 202, method: "POST", path: "/api/hubs/chat/users/u1/:send", body: "hi", contentType: "application/octet-stream"},
	{id: "WebPubSub_SendToConnection", status: 202, method: "POST", path: "/api/hubs/chat/connections/c1/:send", body: "hi", contentType: "text/plain"},
	{id: "WebPubSub_ConnectionExists", status: 200, method: "HEAD", path: "/api/hubs/chat/connections/c1"},
	{id: "WebPubSub_ConnectionExists", status: 404, method: "HEAD", path: "/api/hubs/chat/connections/missing"},
	{id: "WebPubSub_GroupExists", status: 200, method: "HEAD", path: "/api/hubs/chat/groups/g1"},
	{id: "WebPubSub_GroupExists", status: 404, method: "HEAD", path: "/api/hubs/chat/groups/missing"},
	{id: "WebPubSub_UserExists", status: 200, method: "HEAD", path: "/api/hubs/chat/users/u1"},
	{id: "WebPubSub_UserExists", status: 404, method: "HEAD", path: "/api/hubs/chat/users/missing"},
	{id: "WebPubSub_ListConnectionsInGroup", status: 200, method: "GET", path: "/api/hubs/chat/groups/g1/connections"},
	{id: "WebPubSub_AddConnectionToGroup", status: 200, method: "PUT", path: "/api/hubs/chat/groups/g2/connections/c1"},
	{id: "WebPubSub_RemoveConnectionFromGroup", status: 204, method: "DELETE", path: "/api/hubs/chat/groups/g2/connections/c1"},
	{id: "WebPubSub_AddUserToGroup", status: 200, method: "PUT", path: "/api/hubs/chat/users/u1/groups/g2"},
	{id: "WebPubSub_RemoveUserFromGroup", status: 204, method: "DELETE", path: "/api/hubs/chat/users/u1/groups/g2"},
	{id: "WebPubSub_GrantPermission", status: 200, method: "PUT", path: "/api/hubs/chat/permissions/sendToGroup/connections/c1?targetName=g"},
	{id: "WebPubSub_CheckPermission", status: 200, method: "HEAD", path: "/api/hubs/chat/permissions/sendToGroup/connections/c1?targetName=g"},
	{id: "WebPubSub_CheckPermission", status: 404, method: "HEAD", path: "/api/hubs/chat/permissions/joinLeaveGroup/connections/c1?targetName=g"},
	{id: "WebPubSub_RevokePermission", status: 204, method: "DELETE", path: "/api/hubs/chat/permissions/sendToGroup/connections/c1?targetName=g"},
	{id: "WebPubSub_GenerateClientToken", status: 200, method: "POST", path: "/api/hubs/chat/:generateToken"},
	{id: "WebPubSub_RemoveConnectionFromAllGroups", status: 204, method: "DELETE", path: "/api/hubs/chat/connections/c1/groups"},
	{id: "WebPubSub_RemoveUserFromAllGroups", status: 204, method: "DELETE", path: "/api/hubs/chat/users/u1/groups"},
	{id: "WebPubSub_AddConnectionsToGroups", status: 200, method: "POST", path: "/api/hubs/chat/:addToGroups", body: `{"groups":["g1"]}`, contentType: "application/json"},
	{id: "WebPubSub_RemoveConnectionsFromGroups", status: 200, method: "POST", path: "/api/hubs/chat/:removeFromGroups", body: `{"groups":["g2"]}`, contentType: "application/json"},
	{id: "WebPubSub_CloseGroupConnections", status: 204, method: "POST", path: "/api/hubs/chat/groups/g1/:closeConnections", closes: true},
	{id: "WebPubSub_CloseUserConnections", status: 204, method: "POST", path: "/api/hubs/chat/users/u1/:closeConnections", closes: true},
	{id: "WebPubSub_CloseConnection", status: 204, method: "DELETE", path: "/api/hubs/chat/connections/c1", closes: true},
	{id: "WebPubSub_CloseAllConnections", status: 204, method: "POST", path: "/api/hubs/chat/:closeConnections", closes: true},
}

// TestEveryDocumentedStatusIsProduced walks the definition that Azure publishes.
func TestEveryDocumentedStatusIsProduced(t *testing.T) {
	text, err := os.ReadFile("testdata/webpubsub-data-plane.json")
	if err != nil {
		t.Fatal(err)
	}
	var definition struct {
		Paths map[string]map[string]struct {
			OperationID string
			Responses   map[string]any
		}
	}
	if err := json.Unmarshal(text, &definition); err != nil {
		t.Fatal(err)
	}
	s := newService(t)
	s.connect(who{id: "c1", user: "u1", groups: []string{"g1"}})
	produced := map[string][]string{} // statuses by operation
	for _, row := range documented {
		s.want(row.status, request{method: row.method, path: row.path, body: row.body, contentType: row.contentType})
		produced[row.id] = append(produced[row.id], strconv.Itoa(row.status))
		if row.id == "HealthApi_GetServiceStatus" {
			s.want(400, request{method: row.method, path: row.path + "?api-version=1"})
		} else {
			s.want(401, request{method: row.method, path: row.path, body: row.body, contentType: row.contentType, token: "-"})
		}
		produced[row.id] = append(produced[row.id], "default")
	}

	operations := 0
	parameter := regexp.MustCompile(`\\\{[^}]+\\\}`)
	for path, methods := range definition.Paths {
		pattern := regexp.MustCompile("^" + parameter.ReplaceAllString(regexp.QuoteMeta(path), "[^/]+") + "$")
		for method, op := range methods {
			operations++
			for status := range op.Responses {
				if !slices.Contains(produced[op.OperationID], status) {
					t.Errorf("%s: no test produces %s", op.OperationID, status)
				}
			}
			for _, row := range documented {
				bare, _, _ := strings.Cut(row.path, "?")
				if row.id == op.OperationID && (!strings.EqualFold(method, row.method) || !pattern.MatchString(bare)) {
					t.Errorf("%s is %s %s in the definition, not %s %s", row.id, method, path, row.method, row.path)
				}
			}
		}
	}
	if operations != 25 {
		t.Errorf("the definition has %d operations, want 25", operations)
	}
}
