package dataplane_test

import (
	"context"
	"encoding/json"
	"errors"
	"net/http/httptest"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"tabard/guard"
	"tabard/guard/reason"
	"tabard/internal/access"
	"tabard/internal/fabric"
	"tabard/internal/rbac"
	"tabard/internal/store"
	"tabard/internal/trace"
)

const (
	subscriptionID = "11111111-2222-4333-8444-555555555555"
	theGroup       = "/subscriptions/" + subscriptionID + "/resourceGroups/default"

	owner   = "aaaaaaaa-0000-4000-8000-000000000001" // Web PubSub Service Owner
	reader  = "aaaaaaaa-0000-4000-8000-000000000002" // Web PubSub Service Reader
	manager = "aaaaaaaa-0000-4000-8000-000000000003" // Owner, who manages only
	nobody  = "aaaaaaaa-0000-4000-8000-000000000004"
)

// directoryToken stands for a token of a directory: its shape is right, and verifyDirectoryToken knows whose it is.
// Package access has the tests with real ones.
func directoryToken(oid string) string { return "eyJ." + oid + "." + strings.Repeat("A", 342) }

func verifyDirectoryToken(_ context.Context, token string) (*guard.Claims, error) {
	switch oid := strings.Split(token, ".")[1]; oid {
	case "forged":
		return nil, &guard.Error{Code: reason.SignatureInvalid, Status: 401, Message: `the signature does not verify with the issuer's key "k"`}
	case "unreachable":
		return nil, &guard.Error{Code: reason.DiscoveryFailed, Status: 503, Message: "the issuer cannot be asked", Err: errors.New("dial tcp 10.1.2.3")}
	default:
		return &guard.Claims{TenantID: "t", ObjectID: oid, AppID: "app", Raw: json.RawMessage(`{"oid":"` + oid + `"}`)}, nil
	}
}

// withRoles assigns roles to the principals, at scopes above the instance.
func (s *service) withRoles() {
	s.t.Helper()
	dir := s.t.(*testing.T).TempDir()
	f, err := fabric.Open(s.t.Context(), fabric.Options{DataDir: dir})
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(f.Close)
	st, err := store.Open(s.t.Context(), f, store.MasterKeyFile(filepath.Join(dir, "master.key")), nil)
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(st.Close)
	if s.roles, err = rbac.Open(s.t.Context(), st, rbac.Options{}); err != nil {
		s.t.Fatal(err)
	}
	for _, a := range []rbac.Assignment{
		{PrincipalID: owner, RoleID: rbac.WebPubSubOwner, Scope: theGroup},
		{PrincipalID: reader, RoleID: rbac.WebPubSubReader, Scope: s.instance.ResourceID()},
		{PrincipalID: manager, RoleID: rbac.Owner, Scope: rbac.Root},
		{PrincipalID: nobody, RoleID: rbac.WebPubSubOwner, Scope: s.instance.ResourceID() + "2"},
	} {
		if _, _, err := s.roles.Put(s.t.Context(), a, ""); err != nil {
			s.t.Fatal(err)
		}
	}
}

// TestEachOperationNeedsItsAction compares every operation with the table of rest-api.md 5.3: the record of its
// refusal names the action.
func TestEachOperationNeedsItsAction(t *testing.T) {
	actions := map[string]string{
		"SendToAll": "hub/send/action", "SendToGroup": "group/send/action", "SendToUser": "user/send/action", "SendToConnection": "clientConnection/send/action",
		"CloseAllConnections": "clientConnection/write", "CloseGroupConnections": "clientConnection/write", "CloseUserConnections": "clientConnection/write", "CloseConnection": "clientConnection/write",
		"ConnectionExists": "clientConnection/read", "CheckPermission": "clientConnection/read", "GroupExists": "group/read", "ListConnectionsInGroup": "group/read", "UserExists": "user/read",
		"AddConnectionToGroup": "group/write", "RemoveConnectionFromGroup": "group/write", "RemoveConnectionFromAllGroups": "group/write", "AddUserToGroup": "group/write",
		"RemoveUserFromGroup": "group/write", "RemoveUserFromAllGroups": "group/write", "AddConnectionsToGroups": "group/write", "RemoveConnectionsFromGroups": "group/write",
		"GrantPermission": "clientConnection/write", "RevokePermission": "clientConnection/write", "GenerateClientToken": "clientConnection/generateToken/action",
	}
	s := newService(t)
	s.withRoles()
	s.connect(who{id: "c1", user: "u1", groups: []string{"g1"}, roles: []string{"webpubsub.sendToGroup.g"}})
	seen := map[string]bool{}
	for _, row := range documented {
		name, ok := strings.CutPrefix(row.id, "WebPubSub_")
		if !ok {
			continue
		}
		seen[name] = true
		q := request{method: row.method, path: row.path, body: row.body, contentType: row.contentType}
		for _, who := range []string{nobody, manager} {
			q.token = directoryToken(who)
			s.want(403, q)
			records := s.trace.Records(trace.Filter{Instance: "default", Last: 1})
			want := " allows Microsoft.SignalRService/WebPubSub/" + actions[name] + " at " + s.instance.ResourceID() + "."
			if r := records[0]; r.Code != reason.RoleUnassigned || r.Status != 403 || r.Operation != strings.TrimPrefix(row.id, "WebPubSub_") || !strings.HasSuffix(r.Detail, want) || string(r.Claims) != `{"oid":"`+who+`"}` {
				t.Errorf("%s: recorded %+v, want %q", row.id, r, want)
			}
		}
		if q.token = directoryToken(reader); !strings.HasSuffix(actions[name], "/read") {
			s.want(403, q)
		} else {
			s.want(row.status, q)
		}
	}
	if len(seen) != len(actions) {
		t.Errorf("%d operations seen, %d expected", len(seen), len(actions))
	}
}

func TestAnOwnerMayDoEverything(t *testing.T) {
	s := newService(t)
	s.withRoles()
	for _, row := range documented {
		if row.id == "HealthApi_GetServiceStatus" {
			continue
		}
		s.connect(who{id: "c1", user: "u1", groups: []string{"g1"}})
		if strings.HasPrefix(row.id, "WebPubSub_CheckPermission") && row.status == 200 {
			s.want(200, request{method: "PUT", path: row.path, token: directoryToken(owner)})
		}
		s.want(row.status, request{method: row.method, path: row.path, body: row.body, contentType: row.contentType, token: directoryToken(owner)})
		s.hubs.CloseInstance("default", 0, "next")
	}
}

func TestBadTokensOfADirectory(t *testing.T) {
	s := newService(t)
	s.withRoles()
	resp := s.want(401, request{method: "POST", path: "/api/hubs/chat/:send", body: "hi", token: directoryToken("forged")})
	if got, want := resp.header.Get("WWW-Authenticate"), `Bearer error="invalid_token", error_description="The signature does not verify with the issuer's key 'k'."`; got != want {
		t.Errorf("WWW-Authenticate: %s, want %s", got, want)
	}
	resp = s.want(401, request{method: "POST", path: "/api/hubs/chat/:send", body: "hi", token: "-"})
	if got := resp.header.Get("WWW-Authenticate"); got != "Bearer" {
		t.Errorf("WWW-Authenticate without a token: %s", got)
	}
	resp = s.want(503, request{method: "POST", path: "/api/hubs/chat/:send", body: "hi", token: directoryToken("unreachable")})
	if resp.header.Get("Retry-After") != "1" || resp.header.Get("x-ms-error-code") != "Error.ServiceUnavailable" || strings.Contains(resp.body, "10.1.2.3") {
		t.Errorf("%v, %s", resp.header, resp.body)
	}
	s.instance.DisableAADAuth = true
	s.want(401, request{method: "POST", path: "/api/hubs/chat/:send", body: "hi", token: directoryToken(owner)})
	s.post(202, "/api/hubs/chat/:send", "hi", "text/plain")
	var codes []reason.Code
	for _, r := range s.trace.Records(trace.Filter{Instance: "default", Level: trace.Warning}) {
		codes = append(codes, r.Code)
	}
	if want := []reason.Code{reason.SignatureInvalid, reason.NoToken, reason.DiscoveryFailed, reason.AADAuthDisabled}; !slices.Equal(codes, want) {
		t.Errorf("recorded %q, want %q", codes, want)
	}
}

func TestATokenGeneratedForAPrincipalLastsAsLongAsItsRole(t *testing.T) {
	s := newService(t)
	s.withRoles()
	s.instance.DisableLocalAuth = true
	resp := s.want(200, request{method: "POST", path: "/api/hubs/chat/:generateToken?userId=u&role=webpubsub.sendToGroup&group=g", token: directoryToken(owner)})
	var answer struct{ Token string }
	if err := json.Unmarshal([]byte(resp.body), &answer); err != nil {
		t.Fatal(err)
	}
	connect := func() (*access.Client, error) {
		return s.access.Client(s.instance, httptest.NewRequest("GET", s.url+"/client/hubs/chat?access_token="+answer.Token, nil), "chat")
	}
	c, err := connect()
	if err != nil || c.UserID != "u" || !slices.Equal(c.Groups, []string{"g"}) || !slices.Equal(c.Roles, []string{"webpubsub.sendToGroup"}) {
		t.Fatalf("%+v, %v", c, err)
	}
	if err := s.roles.DeleteScope(t.Context(), theGroup); err != nil {
		t.Fatal(err)
	}
	var refusal *access.Refusal
	if _, err := connect(); !errors.As(err, &refusal) || refusal.Code != reason.RoleUnassigned {
		t.Errorf("without the role: %v", err)
	}
}
