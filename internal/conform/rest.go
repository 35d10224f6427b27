package conform

import (
	"encoding/base64"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"
)

// restChecks are the lines of the REST API's checklist by number.
var restChecks = merge(authChecks, sendChecks, filterChecks, memberChecks, closeChecks, grantChecks, generateChecks, ruleChecks)

// Lines about who may call.
var authChecks = map[int]check{
	1: {given: "an audience of the full URL with its query", then: "202 with an empty body", run: func(t *trial) {
		a := t.post(202, "groups/"+t.name("g")+"/:send?"+filter("userId eq 'x'"), "hi", "text/plain")
		t.check(len(a.Body) == 0, "the body is %q", a.Body)
	}},
	2: {given: "an audience without the query", then: "202", run: func(t *trial) {
		path := "groups/" + t.name("g") + "/:send"
		t.want(202, request{method: "POST", path: path, body: "hi", contentType: "text/plain", audience: t.endpoint.HubURL() + "/" + path})
	}},
	3: {given: "an audience of another path", then: "401", run: func(t *trial) {
		path := "groups/" + t.name("g") + "/:send"
		t.want(401, request{method: "POST", path: path, body: "hi", contentType: "text/plain", audience: t.endpoint.HubURL() + "/:send"})
	}},
	4: {given: "no Authorization", then: "401", run: func(t *trial) {
		for _, r := range []request{
			{method: "POST", path: "groups/g/:send", body: "hi", contentType: "text/plain"}, {method: "HEAD", path: "connections/c"},
			{method: "POST", path: "users/u/:closeConnections"}, {method: "GET", path: "groups/g/connections"},
			{method: "PUT", path: "users/u/groups/g"}, {method: "PUT", path: "permissions/sendToGroup/connections/c?targetName=g"},
			{method: "POST", path: ":addToGroups", body: `{"groups":["g"]}`, contentType: "application/json"}, {method: "POST", path: ":generateToken"},
		} {
			r.token = "-"
			t.want(401, r)
		}
	}},
	5: {given: "the secondary key", then: "accepted", needs: secondKey, run: func(t *trial) {
		t.want(404, request{method: "HEAD", path: "users/" + t.name("u"), key: t.target.SecondaryKey})
	}},
	6: {given: "a token that expired over five minutes ago", then: "401", run: func(t *trial) {
		t.want(401, request{method: "HEAD", path: "users/" + t.name("u"), exp: time.Now().Add(-6 * time.Minute)})
	}},
	7: {given: "a key whose text looks like base64, used as text", then: "accepted", run: func(t *trial) {
		if _, err := base64.StdEncoding.DecodeString(t.endpoint.Key); err != nil {
			panic(unseen("this key does not look like base64"))
		}
		t.want(404, request{method: "HEAD", path: "users/" + t.name("u")})
	}},
	8: {given: "an audience in other letter case", then: "accepted", run: func(t *trial) {
		path := "users/" + t.name("u")
		t.want(404, request{method: "HEAD", path: path, audience: strings.ToUpper(t.endpoint.HubURL() + "/" + path)})
	}},
	61: {given: "a directory's token without a role", then: "403; with Owner 2xx", blind: "needs principals of the endpoint's directory"},
	62: {given: "a token of a Reader", then: "HEAD is 200 and :send 403", blind: "needs principals of the endpoint's directory"},
	63: {given: "local authentication disabled and an access-key token", then: "401", blind: "needs a change of the resource's settings"},
	64: {given: "a reverse proxy and an audience naming the public endpoint", then: "accepted", run: func(t *trial) {
		t.want(404, request{method: "HEAD", path: "users/" + t.name("u"), host: "proxy.example"})
	}},
	65: {given: "the JavaScript SDK over http", then: "all its operations succeed", blind: "is about that SDK, which this is not"},
}

// Lines about sending.
var sendChecks = map[int]check{
	9: {given: "text to a connection", then: "a JSON client gets it from the server as text", run: func(t *trial) {
		p := t.json(dial{})
		t.post(202, "connections/"+p.id+"/:send", "hi", "text/plain")
		p.gets(`{"type":"message","from":"server","dataType":"text","data":"hi"}`)
	}},
	10: {given: "application/json", then: "it arrives as the same JSON, a simple client gets its text", run: func(t *trial) {
		g := t.name("g")
		p, raw := t.json(dial{groups: []string{g}}), t.open(dial{groups: []string{g}})
		t.post(202, "groups/"+g+"/:send", `{"a":1}`, "application/json")
		p.gets(`{"dataType":"json","data":{"a":1}}`)
		text := raw.text()
		t.check(text == `{"a":1}`, "the simple client got %q", text)
	}},
	11: {given: "a JSON string", then: "a simple client gets it with quotes", run: func(t *trial) {
		g := t.name("g")
		raw := t.open(dial{groups: []string{g}})
		t.post(202, "groups/"+g+"/:send", `"str"`, "application/json")
		text := raw.text()
		t.check(text == `"str"`, "%q came", text)
	}},
	12: {given: "octets", then: "a simple client gets a binary frame and a JSON client base64", run: func(t *trial) {
		g := t.name("g")
		p, raw := t.json(dial{groups: []string{g}}), t.open(dial{groups: []string{g}})
		t.post(202, "groups/"+g+"/:send", "\x00\xff\x01", "application/octet-stream")
		p.gets(`{"dataType":"binary","data":"AP8B"}`)
		binary, got := raw.frame()
		t.check(binary && got == "\x00\xff\x01", "the simple client got %q, binary %t", got, binary)
	}},
	13: {given: "application/json with invalid JSON", then: "400", run: func(t *trial) {
		t.post(400, "groups/"+t.name("g")+"/:send", "{", "application/json")
	}},
	14: {given: "application/xml", then: "415", run: func(t *trial) {
		t.post(415, "groups/"+t.name("g")+"/:send", "<a/>", "application/xml")
	}},
	15: {given: "a missing connection, user or group", then: "202", run: func(t *trial) {
		for _, target := range []string{"connections/", "users/", "groups/"} {
			t.post(202, target+t.name("x")+"/:send", "hi", "text/plain")
		}
	}},
	16: {given: "a send to group g", then: "members get it from the group, others nothing", run: func(t *trial) {
		g := t.name("g")
		in, out := t.json(dial{groups: []string{g}}), t.json(dial{groups: []string{strings.ToUpper(g)}})
		t.publish(g, "hi")
		in.gets(`{"type":"message","from":"group","group":%q,"data":"hi"}`, g)
		out.hearsNothing()
	}},
	17: {given: "excluded=c1", then: "c1 gets nothing and others do", run: func(t *trial) {
		t.alone()
		g := t.name("g")
		one, two := t.json(dial{groups: []string{g}}), t.json(dial{groups: []string{g}})
		t.post(202, ":send?excluded="+one.id, "all", "text/plain")
		t.post(202, "groups/"+g+"/:send?excluded="+one.id, "group", "text/plain")
		two.gets(`{"data":"all"}`)
		two.gets(`{"data":"group"}`)
		one.hearsNothing()
	}},
	18: {given: "two excluded values", then: "both are honoured", run: func(t *trial) {
		t.alone()
		one, two, three := t.json(dial{}), t.json(dial{}), t.json(dial{})
		t.post(202, ":send?excluded="+one.id+"&excluded="+two.id, "hi", "text/plain")
		three.gets(`{"data":"hi"}`)
		one.hearsNothing()
		two.hearsNothing()
	}},
	19: {given: "a user with two connections", then: "both get what is sent to the user", run: func(t *trial) {
		u := t.name("u")
		one, two, other := t.json(dial{user: u}), t.json(dial{user: u}), t.json(dial{user: u + "x"})
		t.post(202, "users/"+u+"/:send", "hi", "text/plain")
		one.gets(`{"data":"hi"}`)
		two.gets(`{"data":"hi"}`)
		other.hearsNothing()
	}},
	48: {given: "a group name with a slash as %2F", then: "the right group", run: func(t *trial) {
		g := t.name("g")
		in, out := t.json(dial{groups: []string{g + "/1"}}), t.json(dial{groups: []string{g}})
		t.publish(g+"/1", "hi")
		in.gets(`{"data":"hi"}`)
		out.hearsNothing()
	}},
	49: {given: "a user id with space and percent sign", then: "the right user", run: func(t *trial) {
		u := t.name("us er 50%41")
		in, out := t.json(dial{user: u}), t.json(dial{user: t.name("us er 50A")})
		t.post(202, "users/"+url.PathEscape(u)+"/:send", "hi", "text/plain")
		in.gets(`{"data":"hi"}`)
		out.hearsNothing()
	}},
	58: {given: "messageTtlSeconds=301 or abc", then: "400; 300 is 202", run: func(t *trial) {
		for value, status := range map[string]int{"301": 400, "abc": 400, "300": 202} {
			t.post(status, "groups/"+t.name("g")+"/:send?messageTtlSeconds="+value, "hi", "text/plain")
		}
	}},
	59: {given: "a body of 1,048,577 bytes", then: "400 and nothing is sent", run: func(t *trial) {
		g := t.name("g")
		p := t.json(dial{groups: []string{g}})
		t.post(400, "groups/"+g+"/:send", strings.Repeat("x", 1<<20+1), "text/plain")
		p.hearsNothing()
	}},
	60: {given: "X-WebPubSub-Metadata-Foo: bar", then: `JSON clients see metadata {"foo":"bar"}`, run: func(t *trial) {
		g := t.name("g")
		p := t.json(dial{groups: []string{g}})
		t.want(202, request{method: "POST", path: "groups/" + g + "/:send", body: "hi", contentType: "text/plain", header: http.Header{"X-Webpubsub-Metadata-Foo": {"bar"}}})
		p.gets(`{"data":"hi","metadata":{"foo":"bar"}}`)
	}},
	66: {given: "a chunked body under 1 MiB", then: "202", run: func(t *trial) {
		g := t.name("g")
		p := t.json(dial{groups: []string{g}})
		t.want(202, request{method: "POST", path: "groups/" + g + "/:send", body: "hi", contentType: "text/plain", chunks: true})
		p.gets(`{"data":"hi"}`)
	}},
}

// filter is an escaped query parameter.
func filter(f string) string { return "filter=" + strings.ReplaceAll(url.QueryEscape(f), "+", "%20") }

// Lines about filters.
var filterChecks = map[int]check{
	20: {given: "filter userId eq 'x'", then: "only x's connections get it", run: func(t *trial) {
		t.alone()
		x := t.name("x")
		in, out, anonymous := t.json(dial{user: x}), t.json(dial{user: x + "y"}), t.json(dial{})
		t.post(202, ":send?"+filter("userId eq '"+x+"'"), "hi", "text/plain")
		in.gets(`{"data":"hi"}`)
		out.hearsNothing()
		anonymous.hearsNothing()
	}},
	21: {given: "filter 'g1' in groups and not ('g2' in groups)", then: "only those", run: func(t *trial) {
		t.alone()
		g1, g2 := t.name("g1"), t.name("g2")
		one, both := t.json(dial{groups: []string{g1}}), t.json(dial{groups: []string{g1, g2}})
		t.post(202, ":send?"+filter(fmt.Sprintf("'%s' in groups and not ('%s' in groups)", g1, g2)), "hi", "text/plain")
		one.gets(`{"data":"hi"}`)
		both.hearsNothing()
	}},
	22: {given: "filter userId lt 1", then: "400 Error.BadRequest with the type message", run: func(t *trial) {
		a := t.post(400, "groups/"+t.name("g")+"/:send?"+filter("userId lt 1"), "hi", "text/plain")
		t.check(strings.Contains(string(a.Body), `"Error.BadRequest"`) && strings.Contains(string(a.Body), "Type 'string', expect 'int'"), "body %.300s", a.Body)
	}},
	23: {given: "a doubled quote in a filter", then: "it matches one", run: func(t *trial) {
		g, user := t.name("g"), t.name("o'neil")
		p := t.json(dial{user: user, groups: []string{g}})
		t.post(202, "groups/"+g+"/:send?"+filter("userId eq '"+strings.ReplaceAll(user, "'", "''")+"'"), "hi", "text/plain")
		p.gets(`{"data":"hi"}`)
	}},
	24: {given: "an unknown name or function in a filter", then: "400", run: func(t *trial) {
		for _, f := range []string{"name eq 'x'", "sqrt(length(userId)) eq 1"} {
			t.post(400, "groups/"+t.name("g")+"/:send?"+filter(f), "hi", "text/plain")
		}
	}},
}

// Lines about what exists and who is where.
var memberChecks = map[int]check{
	25: {given: "HEAD of an existing and a missing connection", then: "200 and 404 without a body", run: func(t *trial) {
		p := t.json(dial{})
		t.want(200, request{method: "HEAD", path: "connections/" + p.id})
		t.want(404, request{method: "HEAD", path: "connections/" + t.name("c")})
	}},
	26: {given: "HEAD of a group without and with a member", then: "404 and 200", run: func(t *trial) {
		g := t.name("g")
		t.want(404, request{method: "HEAD", path: "groups/" + g})
		t.json(dial{groups: []string{g}})
		t.want(200, request{method: "HEAD", path: "groups/" + g})
	}},
	27: {given: "HEAD of a user without a connection", then: "404", run: func(t *trial) {
		u := t.name("u")
		t.want(404, request{method: "HEAD", path: "users/" + u})
		t.json(dial{user: u})
		t.want(200, request{method: "HEAD", path: "users/" + u})
	}},
	28: {given: "PUT of a connection into a group", then: "200 and group sends reach it", run: func(t *trial) {
		g, p := t.name("g"), t.json(dial{})
		t.want(200, request{method: "PUT", path: "groups/" + g + "/connections/" + p.id})
		t.publish(g, "hi")
		p.gets(`{"group":%q,"data":"hi"}`, g)
	}},
	29: {given: "PUT of a missing connection into a group", then: "404 with x-ms-error-code Info.Connection.NotExisted", run: func(t *trial) {
		a := t.want(404, request{method: "PUT", path: "groups/" + t.name("g") + "/connections/" + t.name("c")})
		code := a.Header.Get("x-ms-error-code")
		t.check(code == "Info.Connection.NotExisted", "x-ms-error-code %q", code)
	}},
	30: {given: "DELETE of a connection from a group", then: "204 and sends no longer reach it", run: func(t *trial) {
		g := t.name("g")
		p := t.json(dial{groups: []string{g}})
		t.want(204, request{method: "DELETE", path: "groups/" + g + "/connections/" + p.id})
		t.publish(g, "hi")
		p.hearsNothing()
	}},
	31: {given: "PUT of a user into a group", then: "all the user's current connections are members", run: func(t *trial) {
		g, u := t.name("g"), t.name("u")
		one, two := t.json(dial{user: u}), t.json(dial{user: u})
		t.want(200, request{method: "PUT", path: "users/" + u + "/groups/" + g})
		t.publish(g, "hi")
		one.gets(`{"data":"hi"}`)
		two.gets(`{"data":"hi"}`)
	}},
	32: {given: "DELETE of a user from all groups", then: "204 and no membership remains", run: func(t *trial) {
		g, h, u := t.name("g"), t.name("h"), t.name("u")
		p := t.json(dial{user: u, groups: []string{g, h}})
		t.want(204, request{method: "DELETE", path: "users/" + u + "/groups"})
		t.publish(g, "hi")
		t.publish(h, "hi")
		p.hearsNothing()
	}},
	52: {given: "three members listed with maxpagesize=1", then: "nextLink leads through all three once", run: func(t *trial) {
		g := t.name("g")
		for range 3 {
			t.json(dial{groups: []string{g}})
		}
		got := t.list("groups/" + g + "/connections?maxpagesize=1")
		t.check(len(got) == 3, "%d members, want 3: %v", len(got), got)
	}},
	53: {given: "top=2", then: "two members in total", run: func(t *trial) {
		g := t.name("g")
		for range 3 {
			t.json(dial{groups: []string{g}})
		}
		got := t.list("groups/" + g + "/connections?maxpagesize=1&top=2")
		t.check(len(got) == 2, "%d members, want 2", len(got))
	}},
	54: {given: "maxpagesize=201 or 0", then: "400", run: func(t *trial) {
		for _, n := range []string{"201", "0"} {
			t.want(400, request{path: "groups/" + t.name("g") + "/connections?maxpagesize=" + n})
		}
	}},
	55: {given: "an empty group", then: "200 with an empty value", run: func(t *trial) {
		a := t.want(200, request{path: "groups/" + t.name("g") + "/connections"})
		t.check(contains(decode(a.Body), map[string]any{"value": []any{}}), "body %.300s", a.Body)
	}},
	56: {given: ":addToGroups with groups and a filter", then: "200 and only matching connections are members", run: func(t *trial) {
		t.alone()
		g, u := t.name("g"), t.name("u")
		in, out := t.json(dial{user: u}), t.json(dial{})
		t.post(200, ":addToGroups", fmt.Sprintf(`{"groups":[%q],"filter":"userId eq '%s'"}`, g, u), "application/json")
		t.publish(g, "hi")
		in.gets(`{"data":"hi"}`)
		out.hearsNothing()
	}},
	57: {given: ":addToGroups with empty groups", then: "400", run: func(t *trial) {
		t.alone()
		t.post(400, ":addToGroups", `{"groups":[]}`, "application/json")
	}},
}
