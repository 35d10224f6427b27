package dataplane_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/gobwas/ws"

	"tabard/internal/access"
	"tabard/internal/hub"
)

// The conformance checklist of the REST specification (rest-api.md, appendix A), by number. Each line runs against a
// service of its own.
var checklist = map[int]struct {
	given string
	then  func(*service)
}{
	1: {"an audience of the full URL with query, then 202 with empty body", func(s *service) {
		path := "/api/hubs/chat/:send?api-version=2024-12-01&filter=userId%20eq%20%27x%27"
		resp := s.want(202, request{method: "POST", path: path, body: "hi", audience: s.url + path})
		if resp.body != "" || resp.header.Get("Content-Length") != "0" {
			s.t.Errorf("body %q, headers %v", resp.body, resp.header)
		}
	}},
	2: {"an audience without the query, then 202", func(s *service) {
		s.want(202, request{method: "POST", path: "/api/hubs/chat/:send?api-version=2024-12-01", body: "hi", audience: s.url + "/api/hubs/chat/:send"})
	}},
	3: {"an audience of another path, then 401", func(s *service) {
		s.want(401, request{method: "POST", path: "/api/hubs/chat/:send", body: "hi", audience: s.url + "/api/hubs/chat/:closeConnections"})
	}},
	4: {"no Authorization, then 401 for every hub operation", func(s *service) {
		for _, row := range documented {
			if row.method+row.path != "HEAD/api/health" {
				s.want(401, request{method: row.method, path: row.path, body: row.body, contentType: row.contentType, token: "-"})
			}
		}
	}},
	5: {"the secondary key, then accepted", func(s *service) {
		s.want(202, request{method: "POST", path: "/api/hubs/chat/:send", body: "hi", token: sign(secondaryKey, s.url+"/api/hubs/chat/:send")})
	}},
	6: {"a token that expired over 5 minutes ago, then 401", func(s *service) {
		for ago, status := range map[time.Duration]int{6 * time.Minute: 401, 4 * time.Minute: 202} {
			token, _ := access.SignClientToken(primaryKey, access.ClientTokenOptions{Audience: s.url + "/api/hubs/chat/:send", Issued: time.Now().Add(-time.Hour), Expires: time.Now().Add(-ago)})
			s.want(status, request{method: "POST", path: "/api/hubs/chat/:send", body: "hi", token: token})
		}
	}},
	7: {"a key whose text looks like base64, used as text, then accepted", func(s *service) {
		if !strings.HasSuffix(primaryKey, "=") {
			s.t.Fatal("the key does not look like base64")
		}
		s.post(202, "/api/hubs/chat/:send", "hi", "text/plain")
	}},
	8: {"an audience in other letter case, then accepted", func(s *service) {
		s.want(202, request{method: "POST", path: "/api/hubs/chat/:send", body: "hi", audience: strings.ToUpper(s.url + "/api/hubs/chat/:send")})
	}},
	9: {"text to a connection, then a JSON client gets it from the server as text", func(s *service) {
		c := s.connect(who{id: "c1"})
		s.post(202, "/api/hubs/chat/connections/c1/:send", "hi", "text/plain")
		c.gets(`{"type":"message","from":"server","dataType":"text","data":"hi"}`)
	}},
	10: {"JSON, then it arrives as the same JSON; a simple client gets its text", func(s *service) {
		c, r := s.connect(who{}), s.connect(who{raw: true})
		s.post(202, "/api/hubs/chat/:send", `{"a":1}`, "application/json")
		c.gets(`{"type":"message","from":"server","dataType":"json","data":{"a":1}}`)
		if op, text := r.frame(); op != ws.OpText || text != `{"a":1}` {
			s.t.Errorf("simple client: %v %q", op, text)
		}
	}},
	11: {"a JSON string, then a simple client gets it with quotes", func(s *service) {
		r := s.connect(who{raw: true})
		s.post(202, "/api/hubs/chat/:send", `"str"`, "application/json")
		if op, text := r.frame(); op != ws.OpText || text != `"str"` {
			s.t.Errorf("%v %q", op, text)
		}
	}},
	12: {"octets, then a simple client gets a binary frame and a JSON client base64", func(s *service) {
		c, r := s.connect(who{}), s.connect(who{raw: true})
		for _, contentType := range []string{"application/octet-stream", "-"} {
			s.post(202, "/api/hubs/chat/:send", "\x00\xff\x01", contentType)
			c.gets(`{"type":"message","from":"server","dataType":"binary","data":"AP8B"}`)
			if op, data := r.frame(); op != ws.OpBinary || data != "\x00\xff\x01" {
				s.t.Errorf("%v %q", op, data)
			}
		}
	}},
	13: {"invalid JSON, then 400 and nothing is sent", func(s *service) {
		c := s.connect(who{})
		for _, body := range []string{"{", "", "{} {}", "\xef\xbb\xbf{}", "\"\xff\"", "NaN"} {
			s.post(400, "/api/hubs/chat/:send", body, "application/json")
		}
		c.getsNothing()
	}},
	14: {"application/xml, then 415", func(s *service) {
		for _, contentType := range []string{"application/xml", "application/x-protobuf", "text/html", "text/plain; charset=unknown", "text/plain;;", "application/json, text/plain"} {
			s.post(415, "/api/hubs/chat/:send", "<a/>", contentType)
		}
	}},
	15: {"a missing connection, user or group, then 202", func(s *service) {
		for _, target := range []string{"connections/x", "users/x", "groups/x"} {
			s.post(202, "/api/hubs/chat/"+target+"/:send", "hi", "text/plain")
			s.post(202, "/api/hubs/nobodyEverConnected/"+target+"/:send", "hi", "text/plain")
		}
	}},
	16: {"send to group g, then members get it from the group, others nothing", func(s *service) {
		in, out := s.connect(who{groups: []string{"g"}}), s.connect(who{groups: []string{"G"}})
		s.post(202, "/api/hubs/chat/groups/g/:send", "hi", "text/plain")
		in.gets(`{"type":"message","from":"group","group":"g","fromUserId":null,"dataType":"text","data":"hi"}`)
		out.getsNothing()
	}},
	17: {"excluded=c1, then c1 gets nothing and others do", func(s *service) {
		one, two := s.connect(who{id: "c1", groups: []string{"g"}}), s.connect(who{id: "c2", groups: []string{"g"}})
		s.post(202, "/api/hubs/chat/:send?excluded=c1", "all", "text/plain")
		s.post(202, "/api/hubs/chat/groups/g/:send?excluded=c1", "group", "text/plain")
		two.getsText("all")
		two.getsText("group")
		one.getsNothing()
	}},
	18: {"two excluded values, then both are honoured", func(s *service) {
		one, two, three := s.connect(who{id: "a"}), s.connect(who{id: "b c"}), s.connect(who{id: "d"})
		s.post(202, "/api/hubs/chat/:send?excluded=a&excluded=b%20c", "hi", "text/plain")
		three.getsText("hi")
		one.getsNothing()
		two.getsNothing()
	}},
	19: {"a user with two connections, then both get it", func(s *service) {
		one, two, other := s.connect(who{user: "u"}), s.connect(who{user: "u"}), s.connect(who{user: "U"})
		s.post(202, "/api/hubs/chat/users/u/:send", "hi", "text/plain")
		one.getsText("hi")
		two.getsText("hi")
		other.getsNothing()
	}},
	20: {"filter userId eq 'x', then only x's connections get it", func(s *service) {
		x, y, anonymous := s.connect(who{user: "x"}), s.connect(who{user: "y"}), s.connect(who{})
		s.post(202, "/api/hubs/chat/:send?"+param("filter", "userId eq 'x'"), "hi", "text/plain")
		x.getsText("hi")
		y.getsNothing()
		anonymous.getsNothing()
	}},
	21: {"a filter on groups, then only those", func(s *service) {
		one, both := s.connect(who{groups: []string{"g1"}}), s.connect(who{groups: []string{"g1", "g2"}})
		filter := param("filter", "'g1' in groups and not ('g2' in groups)")
		s.post(202, "/api/hubs/chat/:send?"+filter, "all", "text/plain")
		s.post(202, "/api/hubs/chat/groups/g1/:send?"+filter, "group", "text/plain")
		one.getsText("all")
		one.getsText("group")
		both.getsNothing()
		filter = param("filter", "length(groups) eq 2 and protocol eq 'json.webpubsub.azure.v1'")
		s.post(202, "/api/hubs/chat/:send?"+filter, "two groups", "text/plain")
		both.getsText("two groups")
		one.getsNothing()
	}},
	22: {"filter userId lt 1, then 400 with the type message", func(s *service) {
		c := s.connect(who{user: "u"})
		for _, path := range []string{"", "groups/g/", "users/u/"} {
			resp := s.post(400, "/api/hubs/chat/"+path+":send?"+param("filter", "userId lt 1"), "hi", "text/plain")
			want := `{"code":"Error.BadRequest","message":"Invalid syntax for 'userId lt 1': Type 'string', expect 'int'. (Parameter 'filter')","target":"Request","details":null,"innererror":null}`
			if resp.body != want {
				s.t.Errorf("got  %s\nwant %s", resp.body, want)
			}
		}
		c.getsNothing()
	}},
	23: {"a doubled quote in a filter, then it matches one", func(s *service) {
		c := s.connect(who{user: "o'neil"})
		s.post(202, "/api/hubs/chat/:send?"+param("filter", "userId eq 'o''neil'"), "hi", "text/plain")
		c.getsText("hi")
	}},
	24: {"an unknown name or function in a filter, then 400", func(s *service) {
		for _, filter := range []string{"name eq 'x'", "sqrt(length(userId)) eq 1", "userId", "userId eq '", " "} {
			s.post(400, "/api/hubs/chat/:send?"+param("filter", filter), "hi", "text/plain")
		}
		s.post(202, "/api/hubs/chat/:send?filter=", "hi", "text/plain")
		s.post(400, "/api/hubs/chat/:send?filter=true&filter=true", "hi", "text/plain")
	}},
	25: {"HEAD connection existing and missing, then 200 and 404 without body", func(s *service) {
		s.connect(who{id: "c1"})
		s.call(200, "HEAD", "/api/hubs/chat/connections/c1")
		s.call(404, "HEAD", "/api/hubs/chat/connections/c2")
		s.call(404, "HEAD", "/api/hubs/other/connections/c1")
	}},
	26: {"HEAD group without and with a member, then 404 and 200", func(s *service) {
		s.connect(who{id: "c1"})
		s.call(404, "HEAD", "/api/hubs/chat/groups/g")
		s.call(200, "PUT", "/api/hubs/chat/groups/g/connections/c1")
		s.call(200, "HEAD", "/api/hubs/chat/groups/g")
	}},
	27: {"HEAD user without connection, then 404", func(s *service) {
		s.connect(who{user: "u"})
		s.call(404, "HEAD", "/api/hubs/chat/users/x")
		s.call(404, "HEAD", "/api/hubs/other/users/u")
		s.call(200, "HEAD", "/api/hubs/chat/users/u")
	}},
	28: {"PUT connection to group, then 200 and group sends reach it", func(s *service) {
		c := s.connect(who{id: "c1"})
		for range 2 { // idempotent
			s.call(200, "PUT", "/api/hubs/chat/groups/g/connections/c1")
		}
		s.post(202, "/api/hubs/chat/groups/g/:send", "hi", "text/plain")
		c.getsText("hi")
		c.getsNothing()
	}},
	29: {"PUT of a missing connection to a group, then 404 Info.Connection.NotExisted", func(s *service) {
		resp := s.call(404, "PUT", "/api/hubs/chat/groups/g/connections/conn1")
		if resp.header.Get("x-ms-error-code") != "Info.Connection.NotExisted" {
			s.t.Error(resp.header)
		}
	}},
	30: {"DELETE connection from group, then 204 and sends no longer reach it", func(s *service) {
		c := s.connect(who{id: "c1", groups: []string{"g"}})
		s.call(204, "DELETE", "/api/hubs/chat/groups/g/connections/c1")
		s.post(202, "/api/hubs/chat/groups/g/:send", "hi", "text/plain")
		c.getsNothing()
		s.call(204, "DELETE", "/api/hubs/chat/groups/g/connections/c1")
		s.call(204, "DELETE", "/api/hubs/chat/groups/g/connections/missing")
	}},
	31: {"PUT user to group, then all the user's current connections are members", func(s *service) {
		one, two, other := s.connect(who{user: "u"}), s.connect(who{user: "u"}), s.connect(who{user: "v"})
		s.call(200, "PUT", "/api/hubs/chat/users/u/groups/g")
		later := s.connect(who{user: "u"})
		s.post(202, "/api/hubs/chat/groups/g/:send", "hi", "text/plain")
		one.getsText("hi")
		two.getsText("hi")
		other.getsNothing()
		later.getsNothing()
		s.call(404, "PUT", "/api/hubs/chat/users/missing/groups/g")
	}},
	32: {"DELETE user from all groups, then 204 and no membership remains", func(s *service) {
		one, two := s.connect(who{user: "u", groups: []string{"g", "h"}}), s.connect(who{user: "u", groups: []string{"g"}})
		s.call(204, "DELETE", "/api/hubs/chat/users/u/groups/h")
		if got := one.conn.Groups(); !slices.Equal(got, []string{"g"}) {
			s.t.Errorf("after leaving h: %v", got)
		}
		s.call(204, "DELETE", "/api/hubs/chat/users/u/groups")
		if len(one.conn.Groups())+len(two.conn.Groups()) > 0 {
			s.t.Errorf("still in %v and %v", one.conn.Groups(), two.conn.Groups())
		}
		s.call(204, "DELETE", "/api/hubs/chat/users/missing/groups")
		s.call(204, "DELETE", "/api/hubs/chat/users/missing/groups/g")
	}},
	33: {"DELETE connection with reason, then 204 and the client is told the reason", func(s *service) {
		c, d := s.connect(who{id: "c1"}), s.connect(who{id: "c2"})
		s.call(204, "DELETE", "/api/hubs/chat/connections/c1?reason=bye%20bye")
		c.isClosed("bye bye")
		s.call(404, "HEAD", "/api/hubs/chat/connections/c1")
		s.call(204, "DELETE", "/api/hubs/chat/connections/c1")
		s.call(204, "DELETE", "/api/hubs/chat/connections/c2")
		d.isClosed("Closed by REST API.")
	}},
	34: {"closeConnections on a hub with excluded, then all but those close", func(s *service) {
		one, two, three := s.connect(who{id: "a"}), s.connect(who{id: "b"}), s.connect(who{id: "c", hub: "other"})
		s.call(204, "POST", "/api/hubs/chat/:closeConnections?excluded=b&reason=r")
		one.isClosed("r")
		two.getsNothing()
		three.getsNothing()
	}},
	35: {"closeConnections on a group or a user, then only those close", func(s *service) {
		one, two, three := s.connect(who{groups: []string{"g"}}), s.connect(who{user: "u"}), s.connect(who{id: "c", user: "u", groups: []string{"g"}})
		s.call(204, "POST", "/api/hubs/chat/groups/g/:closeConnections?excluded=c&reason=r")
		one.isClosed("r")
		two.getsNothing()
		s.call(204, "POST", "/api/hubs/chat/users/u/:closeConnections?excluded=c&reason=r")
		two.isClosed("r")
		three.getsNothing()
	}},
	36: {"grant sendToGroup on g, then HEAD gives 200 and the client may publish to g alone", func(s *service) {
		c := s.connect(who{id: "c1"})
		s.call(404, "HEAD", "/api/hubs/chat/permissions/sendToGroup/connections/c1?targetName=g")
		for range 2 {
			s.call(200, "PUT", "/api/hubs/chat/permissions/sendToGroup/connections/c1?targetName=g")
		}
		s.call(200, "HEAD", "/api/hubs/chat/permissions/sendToGroup/connections/c1?targetName=g")
		if !c.conn.Allows(hub.SendToGroup, "g") || c.conn.Allows(hub.JoinLeaveGroup, "g") || c.conn.Allows(hub.SendToGroup, "h") {
			s.t.Error("the client may do something else than publish to g")
		}
		for _, target := range []string{"*", "room.*", " room ", "a/b+你好", strings.Repeat("x", 1024)} { // names, never patterns
			path := "/api/hubs/chat/permissions/joinLeaveGroup/connections/c1?" + param("targetName", target)
			s.call(404, "HEAD", path)
			s.call(200, "PUT", path)
			s.call(200, "HEAD", path)
		}
		s.call(404, "HEAD", "/api/hubs/chat/permissions/joinLeaveGroup/connections/c1?targetName=room.child")
	}},
	37: {"revoke, then HEAD gives 404 and publishing to g is forbidden", func(s *service) {
		c := s.connect(who{id: "c1", roles: []string{"webpubsub.sendToGroup"}, groups: []string{"g"}})
		s.call(200, "HEAD", "/api/hubs/chat/permissions/sendToGroup/connections/c1?targetName=g")
		s.call(204, "DELETE", "/api/hubs/chat/permissions/sendToGroup/connections/c1?targetName=g")
		resp := s.call(404, "HEAD", "/api/hubs/chat/permissions/sendToGroup/connections/c1?targetName=g")
		if resp.header.Get("x-ms-error-code") != "Info.Connection.NotExisted" {
			s.t.Error(resp.header)
		}
		if c.conn.Allows(hub.SendToGroup, "g") || !c.conn.Allows(hub.SendToGroup, "h") || !c.conn.InGroup("g") {
			s.t.Error("the revocation reaches further than publishing to g")
		}
		s.call(200, "PUT", "/api/hubs/chat/permissions/sendToGroup/connections/c1?targetName=g")
		s.call(200, "HEAD", "/api/hubs/chat/permissions/sendToGroup/connections/c1?targetName=g")
	}},
	38: {"grant on a missing connection, then 404 with the recorded body", func(s *service) {
		resp := s.call(404, "PUT", "/api/hubs/chat/permissions/sendToGroup/connections/conn1?targetName=g")
		want := "{\"code\":\"Info.Connection.NotExisted\",\"message\":\"Connection `conn1` is not found.\",\"target\":\"Connection\",\"details\":null,\"innererror\":null}"
		if resp.body != want {
			s.t.Errorf("got  %s\nwant %s", resp.body, want)
		}
	}},
	39: {"revoke on a missing connection, then 204", func(s *service) {
		s.call(204, "DELETE", "/api/hubs/chat/permissions/sendToGroup/connections/conn1?targetName=g")
	}},
	40: {"an unknown permission or no targetName, then 400", func(s *service) {
		s.connect(who{id: "c1"})
		for _, method := range []string{"HEAD", "PUT", "DELETE"} {
			for _, bad := range []string{
				"unknown/connections/c1?targetName=g", "0/connections/c1?targetName=g", "3/connections/c1?targetName=g", "sendToGroup,joinLeaveGroup/connections/c1?targetName=g",
				"sendToGroup/connections/c1", "sendToGroup/connections/c1?targetName=", "sendToGroup/connections/c1?targetName=%20%09",
				"sendToGroup/connections/c1?targetName=a&targetName=b", "sendToGroup/connections/c1?targetName=" + strings.Repeat("x", 1025),
			} {
				s.call(400, method, "/api/hubs/chat/permissions/"+bad)
			}
			for _, good := range []string{"SENDTOGROUP", "1", "joinleavegroup", "2"} {
				s.do(request{method: method, path: "/api/hubs/chat/permissions/" + good + "/connections/c1?targetName=g"})
			}
		}
		s.call(200, "PUT", "/api/hubs/chat/permissions/1/connections/c1?targetName=one")
		s.call(200, "HEAD", "/api/hubs/chat/permissions/SENDtoGROUP/connections/c1?targetName=one")
		s.call(404, "HEAD", "/api/hubs/chat/permissions/2/connections/c1?targetName=one")
	}},
	41: {":generateToken with user, roles and groups, then a token that connects with them", func(s *service) {
		resp := s.call(200, "POST", "/api/hubs/CHAT/:generateToken?api-version=2024-12-01&userId=%E7%94%A8/a%2Bb&role=r1&role=r2&minutesToExpire=7&group=g1&group=a%2Fb")
		if resp.header.Get("Content-Type") != "application/json; charset=utf-8" {
			s.t.Error(resp.header)
		}
		c, claims := s.admit(resp.body, "/client/hubs/CHAT", "CHAT")
		if c.UserID != "用/a+b" || !slices.Equal(c.Roles, []string{"r1", "r2"}) || !slices.Equal(c.Groups, []string{"g1", "a/b"}) {
			s.t.Errorf("%+v", c)
		}
		if claims.Audience != s.url+"/client/hubs/chat" || claims.Expires-time.Now().Unix() > 420 || claims.Expires-time.Now().Unix() < 400 {
			s.t.Errorf("%+v", claims)
		}
		s.call(400, "POST", "/api/hubs/chat/:generateToken?group=room&group=%20")
		s.call(400, "POST", "/api/hubs/chat/:generateToken?userId=a&userId=b")
		s.want(400, request{method: "POST", path: "/api/hubs/chat/:generateToken?role=" + strings.Repeat("x", access.MaxToken), audience: s.url + "/api/hubs/chat/:generateToken"})
	}},
	42: {"minutesToExpire=0, then 400; absent, then 60 minutes", func(s *service) {
		for _, bad := range []string{"0", "-1", "no", "", "1.5", "2147483648", "+1", "1&minutesToExpire=1"} {
			s.call(400, "POST", "/api/hubs/chat/:generateToken?minutesToExpire="+bad)
		}
		for query, minutes := range map[string]int64{"": 60, "?minutesToExpire=1": 1, "?minutesToExpire=2147483647": 2147483647} {
			c, claims := s.admit(s.call(200, "POST", "/api/hubs/chat/:generateToken"+query).body, "/client/hubs/chat", "chat")
			if left := claims.Expires - claims.Issued; left != 60*minutes {
				s.t.Errorf("%s: valid for %d s", query, left)
			}
			if c.HasUser || c.Roles != nil || c.Groups != nil {
				s.t.Errorf("%s: %+v", query, c)
			}
		}
	}},
	43: {"clientType=mqtt, then a token for MQTT; xyz, then 400", func(s *service) {
		_, claims := s.admit(s.call(200, "POST", "/api/hubs/chat/:generateToken?clientType=mqtt").body, "/clients/mqtt/hubs/chat", "chat")
		if claims.Audience != s.url+"/clients/mqtt/hubs/chat" {
			s.t.Error(claims.Audience)
		}
		s.call(200, "POST", "/api/hubs/chat/:generateToken?clientType=DEFAULT")
		for _, bad := range []string{"xyz", "", "socketio", "mqtt&clientType=mqtt"} {
			s.call(400, "POST", "/api/hubs/chat/:generateToken?clientType="+bad)
		}
	}},
	44: {"any answer, then api-supported-versions lists 2024-12-01", func(s *service) {
		s.call(200, "HEAD", "/api/health") // want checks it for every answer of every line
		s.call(404, "GET", "/api/nothing")
		s.call(405, "PATCH", "/api/health")
		s.want(401, request{method: "POST", path: "/api/hubs/chat/:send", token: "-"})
	}},
	45: {"an older api-version, then all its operations work", func(s *service) {
		s.connect(who{id: "c1", user: "u1", groups: []string{"g1"}})
		for _, version := range []string{"2021-10-01", "2022-11-01", "2023-07-01", "2024-01-01", "2024-12-01"} {
			for _, row := range documented {
				if row.status < 300 && !row.closes {
					s.want(row.status, request{method: row.method, path: withParam(row.path, "api-version="+version), body: row.body, contentType: row.contentType})
				}
			}
		}
	}},
	46: {"an unknown api-version, then 400", func(s *service) {
		for _, version := range []string{"2099-01-01", "", "2024-12-01-preview", "2024-12-01&api-version=2024-12-01"} {
			s.call(400, "HEAD", "/api/health?api-version="+version)
			s.call(400, "HEAD", "/api/hubs/chat/groups/g?api-version="+version)
			s.post(400, "/api/hubs/chat/:send?api-version="+version, "hi", "text/plain")
		}
	}},
	47: {"HEAD /api/health without token, then 200", func(s *service) {
		for _, method := range []string{"HEAD", "GET"} {
			s.want(200, request{method: method, path: "/api/health?api-version=2024-12-01", token: "-"})
		}
	}},
	48: {"a group name with a slash as %2F, then the right group", func(s *service) {
		in, out := s.connect(who{id: "c1", groups: []string{"g/1"}}), s.connect(who{groups: []string{"g"}})
		s.post(202, "/api/hubs/chat/groups/g%2F1/:send", "hi", "text/plain")
		s.post(202, "/api/hubs/chat/groups/g%2f1/%3Asend", "again", "text/plain")
		in.getsText("hi")
		in.getsText("again")
		out.getsNothing()
		s.call(200, "PUT", "/api/hubs/chat/groups/a%2Fconnections%2Fc1/connections/c1")
		if !in.conn.InGroup("a/connections/c1") {
			s.t.Error(in.conn.Groups())
		}
	}},
	49: {"a user id with space and percent sign, then the right user", func(s *service) {
		in, out := s.connect(who{user: "us er/1 50%41"}), s.connect(who{user: "us er/1 50A"})
		s.post(202, "/api/hubs/chat/users/us%20er%2F1%2050%2541/:send", "hi", "text/plain")
		in.getsText("hi")
		out.getsNothing()
	}},
	50: {"the hub in other case, then the same hub", func(s *service) {
		c := s.connect(who{hub: "Chat"})
		s.post(202, "/api/hubs/cHAT/:send", "hi", "text/plain")
		c.getsText("hi")
	}},
	51: {"hub name 1bad, then 400", func(s *service) {
		for _, hub := range []string{"1bad", "", "a%20b", "a%2Fb", strings.Repeat("x", 129), "%C3%A9"} {
			s.call(400, "POST", "/api/hubs/"+hub+"/:send")
		}
		s.post(202, "/api/hubs/a%5B1%5D_%60,./:send", "hi", "text/plain")
	}},
	52: {"maxpagesize=1 and three members, then nextLink leads through all three once", func(s *service) {
		s.members("a", "b", "c")
		var pages [][]string
		for next := "/api/hubs/chat/groups/g/connections?api-version=2023-07-01&maxpagesize=1"; next != ""; {
			var page []string
			page, next = s.page(next)
			pages = append(pages, page)
		}
		if fmt.Sprint(pages) != "[[a] [b] [c]]" {
			s.t.Error(pages)
		}
	}},
	53: {"top=2, then two members in total", func(s *service) {
		s.members("a", "b", "c", "d", "e")
		for query, want := range map[string]string{
			"top=2": "[a b]", "top=2&maxpagesize=1": "[a] [b]", "top=3&maxpagesize=2": "[a b] [c]", "top=5&maxpagesize=5": "[a b c d e]",
			"top=2147483647&maxpagesize=2": "[a b] [c d] [e]", "maxpagesize=5": "[a b c d e]", "maxpagesize=200": "[a b c d e]",
		} {
			var got []string
			for next := "/api/hubs/chat/groups/g/connections?" + query; next != ""; {
				var page []string
				page, next = s.page(next)
				got = append(got, fmt.Sprint(page))
			}
			if strings.Join(got, " ") != want {
				s.t.Errorf("%s: %v, want %s", query, got, want)
			}
		}
	}},
	54: {"maxpagesize=201 or 0, then 400", func(s *service) {
		for _, bad := range []string{
			"maxpagesize=0", "maxpagesize=-1", "maxpagesize=201", "maxpagesize=1.5", "maxpagesize=x", "maxpagesize=", "maxpagesize=1&maxpagesize=2",
			"top=0", "top=-1", "top=2147483648", "top=x", "top=", "top=1&top=2", "continuationToken=", "continuationToken=e30", "continuationToken=%25",
		} {
			s.call(400, "GET", "/api/hubs/chat/groups/g/connections?"+bad)
		}
	}},
	55: {"an empty group, then 200 with an empty list", func(s *service) {
		s.connect(who{})
		for _, hub := range []string{"chat", "other"} {
			if resp := s.call(200, "GET", "/api/hubs/"+hub+"/groups/g/connections"); resp.body != `{"value":[]}` {
				s.t.Error(resp.body)
			}
		}
	}},
	56: {":addToGroups with a filter, then only matching connections are members", func(s *service) {
		in, out := s.connect(who{user: "a"}), s.connect(who{user: "b"})
		s.post(200, "/api/hubs/chat/:addToGroups", `{"groups":["g1","g2","g1"],"filter":"userId eq 'a' and not ('g2' in groups)"}`, "application/json")
		if got := in.conn.Groups(); !slices.Equal(got, []string{"g1", "g2"}) || len(out.conn.Groups()) > 0 {
			s.t.Errorf("%v and %v", got, out.conn.Groups())
		}
		s.post(200, "/api/hubs/chat/:addToGroups", `{"groups":["g3"],"filter":null}`, "application/json; charset=utf-8")
		s.post(200, "/api/hubs/chat/:removeFromGroups", `{"groups":["g1","g3"],"filter":"'g1' in groups"}`, "application/json")
		if got := in.conn.Groups(); !slices.Equal(got, []string{"g2"}) || !out.conn.InGroup("g3") {
			s.t.Errorf("%v and %v", got, out.conn.Groups())
		}
		s.post(200, "/api/hubs/other/:addToGroups", `{"groups":["g"],"filter":""}`, "application/json")
	}},
	57: {":addToGroups with empty groups, then 400 and nothing changed", func(s *service) {
		c := s.connect(who{groups: []string{"room"}})
		for _, operation := range []string{":addToGroups", ":removeFromGroups"} {
			for _, body := range []string{
				"", "{", "null", "[]", "42", "{}", `{"filter":"true"}`, `{"groups":null}`, `{"groups":[]}`, `{"groups":"room"}`, `{"groups":["room",null]}`,
				`{"groups":["room",42]}`, `{"groups":["room",""]}`, `{"groups":["room"," \t"]}`, `{"groups":["room","` + strings.Repeat("x", 1025) + `"]}`,
				`{"groups":["room"],"filter":42}`, `{"groups":["room"],"filter":" "}`, `{"groups":["room"],"filter":"true or userId"}`, `{"groups":["room"],"other":1}`,
				`{"groups":["room"]} {}`,
			} {
				s.post(400, "/api/hubs/chat/"+operation, body, "application/json")
			}
			for _, contentType := range []string{"-", "text/plain", "application/octet-stream", "application/json; charset=unknown", "application/json; charset=\""} {
				s.post(415, "/api/hubs/chat/"+operation, `{"groups":["second"]}`, contentType)
			}
		}
		if got := c.conn.Groups(); !slices.Equal(got, []string{"room"}) {
			s.t.Error(got)
		}
	}},
	58: {"messageTtlSeconds=301 or abc, then 400; 300, then 202", func(s *service) {
		for _, path := range []string{"", "groups/g/", "users/u/", "connections/c/"} {
			for _, bad := range []string{"301", "abc", "-1", "", "1.5", "1&messageTtlSeconds=1"} {
				s.post(400, "/api/hubs/chat/"+path+":send?messageTtlSeconds="+bad, "hi", "text/plain")
			}
			for _, good := range []string{"0", "1", "300"} {
				s.post(202, "/api/hubs/chat/"+path+":send?messageTtlSeconds="+good, "hi", "text/plain")
			}
		}
	}},
	59: {"a body of 1,048,577 bytes, then 400 and nothing is sent", func(s *service) {
		c := s.connect(who{})
		body := strings.Repeat("x", 1<<20)
		s.post(400, "/api/hubs/chat/:send", body+"x", "text/plain")
		s.want(400, request{method: "POST", path: "/api/hubs/chat/:send", body: body + "x", chunked: true})
		c.getsNothing()
		s.post(202, "/api/hubs/chat/:send", body, "text/plain")
		c.getsText(body)
	}},
	60: {"X-WebPubSub-Metadata-Foo, then JSON clients see it", func(s *service) {
		c := s.connect(who{})
		s.want(202, request{method: "POST", path: "/api/hubs/chat/:send", body: "hi", header: http.Header{
			"X-WebPubSub-Metadata-Foo": {"first", "a, bar "}, "X-WEBPUBSUB-METADATA-B-C": {""},
		}})
		c.gets(`{"type":"message","from":"server","dataType":"text","data":"hi","metadata":{"b-c":"","foo":"bar"}}`)
		many := http.Header{}
		for i := range 10 {
			many[fmt.Sprintf("X-Webpubsub-Metadata-%d", i)] = []string{strings.Repeat("x", 1024)}
		}
		for _, bad := range []http.Header{
			{"X-Webpubsub-Metadata-A": {strings.Repeat("x", 1025)}}, {"X-Webpubsub-Metadata-" + strings.Repeat("x", 257): {"v"}},
			{"X-Webpubsub-Metadata-": {"v"}}, {"X-Webpubsub-Metadata-A": {"é"}}, many,
		} {
			s.want(400, request{method: "POST", path: "/api/hubs/chat/:send", body: "hi", header: bad})
		}
		c.getsNothing()
	}},
	61: {"a directory's token without a role, then 403; with Owner, then 2xx", func(s *service) {
		s.withRoles()
		resp := s.want(403, request{method: "POST", path: "/api/hubs/chat/:send", body: "hi", token: directoryToken(nobody)})
		if got := resp.header.Get("x-ms-error-code"); got != "Error.Forbidden" {
			s.t.Error(got)
		}
		c := s.connect(who{})
		s.want(202, request{method: "POST", path: "/api/hubs/chat/:send", body: "hi", token: directoryToken(owner)})
		c.getsText("hi")
	}},
	62: {"Reader, then HEAD is 200 and :send 403", func(s *service) {
		s.withRoles()
		c := s.connect(who{id: "c1"})
		s.want(200, request{method: "HEAD", path: "/api/hubs/chat/connections/c1", token: directoryToken(reader)})
		s.want(403, request{method: "POST", path: "/api/hubs/chat/:send", body: "hi", token: directoryToken(reader)})
		c.getsNothing()
	}},
	63: {"disableLocalAuth, then an access-key token is 401", func(s *service) {
		s.instance.DisableLocalAuth = true
		s.post(401, "/api/hubs/chat/:send", "hi", "text/plain")
		s.call(401, "POST", "/api/hubs/chat/:generateToken")
	}},
	64: {"a reverse proxy and an audience naming the public endpoint, then accepted", func(s *service) {
		s.want(202, request{method: "POST", path: "/api/hubs/chat/:send?api-version=2024-12-01", body: "hi", audience: publicOrigin + "/api/hubs/chat/:send?api-version=2024-12-01"})
		s.want(401, request{method: "POST", path: "/api/hubs/chat/:send", body: "hi", audience: "https://evil.example/api/hubs/chat/:send"})
	}},
	66: {"chunked encoding under 1 MiB, then 202", func(s *service) {
		c := s.connect(who{})
		s.want(202, request{method: "POST", path: "/api/hubs/chat/:send", body: "hi", chunked: true})
		c.getsText("hi")
		s.want(200, request{method: "POST", path: "/api/hubs/chat/:addToGroups", body: `{"groups":["g"]}`, contentType: "application/json", chunked: true})
		if !c.conn.InGroup("g") {
			s.t.Error("not in the group")
		}
	}},
}

// elsewhere are the lines that this package alone cannot show.
var elsewhere = map[int]string{
	65: "the SDK itself runs against the binary in conformance/js",
}

func TestChecklist(t *testing.T) {
	for n := 1; n <= 66; n++ {
		line, ok := checklist[n]
		if !ok {
			if elsewhere[n] == "" {
				t.Errorf("line %d is not covered and nobody says why", n)
			}
			continue
		}
		t.Run(fmt.Sprintf("%02d given %s", n, line.given), func(t *testing.T) {
			line.then(newService(t))
		})
	}
}

// generated is what a generated token says.
type generated struct {
	Audience string `json:"aud"`
	Issued   int64  `json:"iat"`
	Expires  int64  `json:"exp"`
}

// admit verifies the token in the body of :generateToken as the handshake does.
func (s *service) admit(body, path, hubName string) (*access.Client, generated) {
	s.t.Helper()
	var answer struct{ Token string }
	if err := json.Unmarshal([]byte(body), &answer); err != nil {
		s.t.Fatal(err)
	}
	r := httptest.NewRequest("GET", s.url+path+"?access_token="+answer.Token, nil)
	c, err := access.New(access.Options{}).Client(s.instance, r, hubName)
	if err != nil {
		s.t.Fatal(err)
	}
	var claims generated
	claims.Audience = c.Claims["aud"][0]
	fmt.Sscan(c.Claims["iat"][0], &claims.Issued)
	fmt.Sscan(c.Claims["exp"][0], &claims.Expires)
	return c, claims
}

// members connects members of group g, every second one with a user.
func (s *service) members(ids ...string) {
	for i, id := range ids {
		user := ""
		if i%2 == 1 {
			user = "user of " + id
		}
		s.connect(who{id: id, user: user, groups: []string{"g"}})
	}
}

// page reads one page of a listing and returns the path of the next, checked for what a client relies on.
func (s *service) page(path string) (ids []string, next string) {
	s.t.Helper()
	var page struct {
		Value []struct {
			ConnectionID string  `json:"connectionId"`
			UserID       *string `json:"userId"`
		}
		NextLink string
	}
	if err := json.Unmarshal([]byte(s.call(200, "GET", path).body), &page); err != nil {
		s.t.Fatal(err)
	}
	for _, m := range page.Value {
		ids = append(ids, m.ConnectionID)
		if c, _ := s.hubs.Lookup("default", "chat").Connection(m.ConnectionID); (m.UserID == nil) != (c.UserID() == "") || m.UserID != nil && *m.UserID != c.UserID() {
			s.t.Errorf("%s is listed with the user %v", m.ConnectionID, m.UserID)
		}
	}
	if page.NextLink == "" {
		return ids, ""
	}
	u, err := url.Parse(page.NextLink)
	if err != nil || u.Scheme+"://"+u.Host != s.url {
		s.t.Fatalf("nextLink %q, %v", page.NextLink, err)
	}
	before, _ := url.Parse(path)
	want := before.Query().Get("api-version")
	if want == "" {
		want = "2024-12-01"
	}
	if got := u.Query().Get("api-version"); got != want {
		s.t.Errorf("nextLink has the version %q, want %q", got, want)
	}
	return ids, strings.TrimPrefix(page.NextLink, s.url)
}

func withParam(path, param string) string {
	if strings.Contains(path, "?") {
		return path + "&" + param
	}
	return path + "?" + param
}
