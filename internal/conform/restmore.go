package conform

import (
	"encoding/base64"
	"encoding/json"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"tabard/internal/wire"
)

// Lines about closing.
var closeChecks = map[int]check{
	33: {given: "DELETE of a connection with a reason", then: "204, a disconnected message and a close frame with that reason", run: func(t *trial) {
		p := t.json(dial{})
		t.want(204, request{method: "DELETE", path: "connections/" + p.id + "?reason=bye%20bye"})
		p.gets(`{"type":"system","event":"disconnected","message":"bye bye"}`)
		reason := p.closed(0)
		t.check(reason == "bye bye", "the close frame's reason is %q", reason)
	}},
	34: {given: "closeConnections on a hub with excluded", then: "all but those close", run: func(t *trial) {
		t.alone()
		one, two := t.json(dial{}), t.json(dial{})
		t.want(204, request{method: "POST", path: ":closeConnections?excluded=" + two.id})
		one.closed(0)
		two.hearsNothing()
	}},
	35: {given: "closeConnections on a group", then: "only members close", run: func(t *trial) {
		g := t.name("g")
		in, out := t.json(dial{groups: []string{g}}), t.json(dial{})
		t.want(204, request{method: "POST", path: "groups/" + g + "/:closeConnections"})
		in.closed(0)
		out.hearsNothing()
	}},
}

// Lines about permissions.
var grantChecks = map[int]check{
	36: {given: "sendToGroup granted on g", then: "HEAD is 200 and the client may publish to g", run: func(t *trial) {
		g, p := t.name("g"), t.json(dial{})
		path := "permissions/sendToGroup/connections/" + p.id + "?targetName=" + g
		t.want(200, request{method: "PUT", path: path})
		t.want(200, request{method: "HEAD", path: path})
		p.send(`{"type":"sendToGroup","group":%q,"data":1,"ackId":1}`, g)
		p.acked(1)
	}},
	37: {given: "sendToGroup revoked on g", then: "HEAD is 404 and publishing to g Forbidden", run: func(t *trial) {
		g, p := t.name("g"), t.json(dial{roles: everything})
		path := "permissions/sendToGroup/connections/" + p.id + "?targetName=" + g
		t.want(200, request{method: "HEAD", path: path})
		t.want(204, request{method: "DELETE", path: path})
		t.want(404, request{method: "HEAD", path: path})
		p.send(`{"type":"sendToGroup","group":%q,"data":1,"ackId":1}`, g)
		p.failed(1, "Forbidden")
	}},
	38: {given: "a grant on a missing connection", then: "404 with code, message, target, details and innererror", run: func(t *trial) {
		a := t.want(404, request{method: "PUT", path: "permissions/sendToGroup/connections/" + t.name("c") + "?targetName=g"})
		body := decode(a.Body)
		t.check(contains(body, map[string]any{"code": "Info.Connection.NotExisted", "target": "Connection", "details": nil, "innererror": nil}) && body["message"] != nil, "body %.300s", a.Body)
	}},
	39: {given: "a revocation on a missing connection", then: "204", run: func(t *trial) {
		t.want(204, request{method: "DELETE", path: "permissions/sendToGroup/connections/" + t.name("c") + "?targetName=g"})
	}},
	40: {given: "permission unknown or no targetName", then: "400", run: func(t *trial) {
		p := t.json(dial{})
		t.want(400, request{method: "PUT", path: "permissions/unknown/connections/" + p.id + "?targetName=g"})
		t.want(400, request{method: "PUT", path: "permissions/sendToGroup/connections/" + p.id})
	}},
}

// Lines about generated tokens.
var generateChecks = map[int]check{
	41: {given: ":generateToken with user, roles and groups", then: "200 and a token that connects with them", run: func(t *trial) {
		g, u := t.name("g"), t.name("u")
		p := t.withToken(t.generated("?userId=" + u + "&role=" + joinLeave + "&role=" + sendTo + "&group=" + g))
		t.check(p.user == u, "userId %v", p.user)
		p.send(`{"type":"sendToGroup","group":%q,"data":1,"ackId":1}`, g)
		p.gets(`{"type":"message","group":%q,"data":1}`, g)
		p.acked(1)
	}},
	42: {given: "minutesToExpire=0", then: "400; absent, exp is 60 minutes ahead", run: func(t *trial) {
		t.want(400, request{method: "POST", path: ":generateToken?minutesToExpire=0"})
		claims := claimsOf(t, t.generated(""))
		exp, _ := claims["exp"].(float64)
		ahead := time.Until(time.Unix(int64(exp), 0)).Round(time.Minute)
		t.check(ahead >= 58*time.Minute && ahead <= 62*time.Minute, "exp is %v ahead", ahead)
	}},
	43: {given: "clientType=mqtt", then: "a token for /clients/mqtt or a clear refusal; xyz is 400", run: func(t *trial) {
		t.want(400, request{method: "POST", path: ":generateToken?clientType=xyz"})
		a := t.call(request{method: "POST", path: ":generateToken?clientType=mqtt"})
		if a.Status == http.StatusOK {
			aud, _ := claimsOf(t, tokenOf(t, a))["aud"].(string)
			t.check(strings.Contains(aud, "/clients/mqtt/hubs/"), "the audience is %q", aud)
			return
		}
		t.check(a.Status >= 400 && a.Status < 500 && len(a.Body) > 0, "status %d %.200s", a.Status, a.Body)
	}},
}

// Lines about versions and names.
var ruleChecks = map[int]check{
	44: {given: "any answer", then: "api-supported-versions lists 2024-12-01", run: func(t *trial) {
		for _, r := range []request{
			{method: "HEAD", path: "users/" + t.name("u")}, {method: "POST", path: "groups/g/:send", token: "-"}, {method: "HEAD", path: "/api/health"},
		} {
			versions := t.call(r).Header.Get("api-supported-versions")
			t.check(strings.Contains(versions, apiVersion), "%s %s: api-supported-versions %q", r.method, r.path, versions)
		}
	}},
	45: {given: "api-version=2021-10-01", then: "its operations work", run: func(t *trial) {
		g, p := t.name("g"), t.json(dial{user: t.name("u")})
		for _, row := range []struct {
			status       int
			method, path string
		}{
			{200, "HEAD", "connections/" + p.id}, {200, "PUT", "groups/" + g + "/connections/" + p.id}, {200, "HEAD", "groups/" + g},
			{200, "PUT", "users/" + t.name("u") + "/groups/" + g}, {204, "DELETE", "users/" + t.name("u") + "/groups/" + g},
			{200, "PUT", "permissions/sendToGroup/connections/" + p.id + "?targetName=" + g}, {200, "HEAD", "permissions/sendToGroup/connections/" + p.id + "?targetName=" + g},
			{204, "DELETE", "permissions/sendToGroup/connections/" + p.id + "?targetName=" + g}, {200, "POST", ":generateToken"}, {204, "DELETE", "connections/" + p.id},
		} {
			t.want(row.status, request{method: row.method, path: row.path, version: "2021-10-01"})
		}
		t.want(202, request{method: "POST", path: "groups/" + g + "/:send", body: "hi", contentType: "text/plain", version: "2021-10-01"})
	}},
	46: {given: "api-version=2099-01-01", then: "400", run: func(t *trial) {
		t.want(400, request{method: "HEAD", path: "users/" + t.name("u"), version: "2099-01-01"})
	}},
	47: {given: "HEAD /api/health without token", then: "200", run: func(t *trial) {
		t.want(200, request{method: "HEAD", path: "/api/health", token: "-"})
	}},
	50: {given: "the hub's name in other case", then: "the same hub", run: func(t *trial) {
		g := t.name("g")
		p := t.json(dial{groups: []string{g}})
		hub := t.endpoint.Hub
		if t.endpoint.Hub = strings.ToUpper(hub); t.endpoint.Hub == hub {
			t.endpoint.Hub = strings.ToLower(hub)
		}
		t.publish(g, "hi")
		p.gets(`{"data":"hi"}`)
	}},
	51: {given: "the hub name 1bad", then: "400", run: func(t *trial) {
		t.endpoint.Hub = "1bad"
		t.want(400, request{method: "HEAD", path: "users/u"})
	}},
}

// list follows a listing's pages and returns the connection ids.
func (t *trial) list(path string) (ids []string) {
	type page struct {
		Value []struct {
			ConnectionID string `json:"connectionId"`
		} `json:"value"`
		NextLink string `json:"nextLink"`
	}
	a := t.want(200, request{path: path})
	for range 10 {
		var p page
		if err := json.Unmarshal(a.Body, &p); err != nil {
			t.fail("the page is not JSON: %.200q", a.Body)
		}
		for _, m := range p.Value {
			t.check(!slices.Contains(ids, m.ConnectionID), "%s is listed twice", m.ConnectionID)
			ids = append(ids, m.ConnectionID)
		}
		if p.NextLink == "" {
			return ids
		}
		var err error
		if a, err = wire.Do(t.ctx, t.http, wire.Call{Method: "GET", URL: p.NextLink, Token: wire.Sign(t.endpoint.Key, map[string]any{"aud": p.NextLink, "exp": time.Now().Add(time.Hour).Unix()})}); err != nil || a.Status != 200 {
			t.fail("nextLink %s: %v %v", p.NextLink, a, err)
		}
	}
	t.fail("the pages do not end")
	return nil
}

// generated asks for a client token.
func (t *trial) generated(query string) string {
	return tokenOf(t, t.want(200, request{method: "POST", path: ":generateToken" + query}))
}

func tokenOf(t *trial, a *wire.Answer) string {
	token, _ := decode(a.Body)["token"].(string)
	t.check(token != "", "the answer has no token: %.200s", a.Body)
	return token
}

// withToken connects with the JSON subprotocol and a token that the service made.
func (t *trial) withToken(token string) *peer {
	return t.json(dial{noToken: true, query: url.Values{"access_token": {token}}})
}

// claimsOf reads a token's claims without verifying it.
func claimsOf(t *trial, token string) map[string]any {
	parts := strings.Split(token, ".")
	t.check(len(parts) == 3, "the token has %d parts", len(parts))
	payload, err := base64.RawURLEncoding.DecodeString(parts[1])
	t.check(err == nil, "the token is not base64url")
	return decode(payload)
}

func decode(text []byte) map[string]any {
	var v map[string]any
	_ = json.Unmarshal(text, &v) // what is no object has no members
	return v
}
