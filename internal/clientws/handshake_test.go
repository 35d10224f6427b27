package clientws

import (
	"context"
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/gobwas/ws"

	"tabard/guard/reason"
	"tabard/internal/access"
	"tabard/internal/hub"
	"tabard/internal/settings"
	"tabard/internal/trace"
)

// everyWay runs a test against the door of net/http, plain and over TLS, and against the short one.
func everyWay(t *testing.T, r *rig, test func(t *testing.T, addr string)) {
	for name, addr := range map[string]string{"through net/http": r.base, "the short way": r.short, "over TLS": r.secure} {
		t.Run(name, func(t *testing.T) {
			before := r.t
			r.t = t
			defer func() { r.t = before }()
			test(t, addr)
		})
	}
}

func TestHandshakesAreRefusedWithAReason(t *testing.T) {
	r := newRig(t, rigOptions{})
	primary := func() string {
		in, _ := r.settings.Snapshot().Instance("default")
		return in.Keys.Primary
	}()
	sign := func(key string, o access.ClientTokenOptions) string {
		token, err := access.SignClientToken(key, o)
		if err != nil {
			t.Fatal(err)
		}
		return token
	}
	everyWay(t, r, func(t *testing.T, addr string) {
		audience := access.ClientAudience(r.origin(addr), "chat", "")
		for _, test := range []struct {
			name   string
			d      dial
			status int
			body   string
			code   reason.Code // of the trace record, if there is one
		}{
			{"not an upgrade", dial{remove: "Upgrade"}, 400, "does not ask for an upgrade", ""},
			{"no Connection header", dial{remove: "Connection"}, 400, "does not ask for an upgrade", ""},
			{"a POST", dial{method: "POST"}, 400, "GET", ""},
			{"another version", dial{header: http.Header{"Sec-Websocket-Version": {"8"}}}, 400, "version 13", ""},
			{"no key", dial{remove: "Sec-Websocket-Key"}, 400, "Sec-WebSocket-Key", ""},
			{"a key of another length", dial{nonce: "AAAA"}, 400, "Sec-WebSocket-Key", ""},
			{"no hub", dial{path: "/client"}, 400, "hub", reason.HubInvalid},
			{"an empty hub", dial{path: "/client/hubs/"}, 400, "hub", reason.HubInvalid},
			{"a hub name that is not valid", dial{path: "/client/hubs/1chat"}, 400, "hub", reason.HubInvalid},
			{"a hub name with a slash", dial{path: "/client/hubs/a%2Fb"}, 400, "hub", reason.HubInvalid},
			{"another path", dial{path: "/client/hubs/chat/more"}, 404, "/client/hubs/{hub}", ""},
			{"a path of nobody", dial{path: "/other"}, 404, "", ""},
			{"no token", dial{noToken: true}, 401, "no access token", reason.AnonymousDenied},
			{"a malformed token", dial{token: "nonsense"}, 401, "", reason.TokenMalformed},
			{"a token of another key", dial{token: sign(settings.NewKey(), access.ClientTokenOptions{Audience: audience})}, 401, "", reason.KeySignatureInvalid},
			{"an expired token", dial{token: sign(primary, access.ClientTokenOptions{Audience: audience, Issued: time.Now().Add(-2 * time.Hour)})}, 401, "expired", reason.Expired},
			{"a token for another hub", dial{path: "/client/hubs/other"}, 401, "", reason.AudienceMismatch},
			{"a group claim that is not valid", dial{groups: []string{" "}}, 400, "group", reason.GroupClaimInvalid},
			{"a bad mode", dial{query: url.Values{"webpubsub_mode": {"shout"}}}, 400, "webpubsub_mode", ""},
			{"a mode without its group", dial{query: url.Values{"webpubsub_mode": {"sendToGroup"}}}, 400, "group", ""},
			{"a bad noEcho", dial{query: url.Values{"webpubsub_mode": {"sendToGroup"}, "group": {"g"}, "noEcho": {"maybe"}}}, 400, "noEcho", ""},
			{"a bad mode, also on a JSON client", dial{query: url.Values{"webpubsub_mode": {"x"}}, subprotocols: []string{jsonProtocol}}, 400, "webpubsub_mode", ""},
		} {
			t.Run(test.name, func(t *testing.T) {
				r.t = t
				test.d.addr = addr
				last := len(r.trace.Records(trace.Filter{Instance: "default"}))
				resp, c := r.handshake(test.d)
				body, _ := io.ReadAll(resp.Body)
				if resp.StatusCode != test.status || !strings.Contains(string(body), test.body) {
					t.Errorf("got %d %q, want %d %q", resp.StatusCode, body, test.status, test.body)
				}
				if test.status == 401 && resp.Header.Get("WWW-Authenticate") == "" || test.status == 400 && resp.Header.Get("Sec-WebSocket-Version") != "13" {
					t.Errorf("headers %v", resp.Header)
				}
				if test.d.token != "" && strings.Contains(string(body), test.d.token) {
					t.Error("the answer repeats the token")
				}
				if addr == r.short {
					c.wantEOF()
				}
				eventually(t, "a trace record", func() bool { return len(r.trace.Records(trace.Filter{Instance: "default"})) > last })
				recs := r.trace.Records(trace.Filter{Instance: "default"})
				if rec := recs[len(recs)-1]; rec.Code != test.code || rec.Status != test.status || rec.Kind != trace.Connection {
					t.Errorf("trace record %+v, want code %s", rec, test.code)
				}
			})
		}
	})
	if n := len(r.app.events("connected")) + len(r.app.events("disconnected")); n != 0 {
		t.Errorf("%d events of clients that were refused", n)
	}
}

func TestHandshakesThatAreFine(t *testing.T) {
	r := newRig(t, rigOptions{})
	in, _ := r.settings.Snapshot().Instance("default")
	everyWay(t, r, func(t *testing.T, addr string) {
		base := access.ClientTokenOptions{Audience: access.ClientAudience(r.origin(addr), "chat", "")}
		sign := func(key string, o access.ClientTokenOptions) string {
			token, _ := access.SignClientToken(key, o)
			return token
		}
		for name, d := range map[string]dial{
			"a token of the secondary key":        {token: sign(in.Keys.Secondary, base)},
			"an audience in another case":         {token: sign(in.Keys.Primary, access.ClientTokenOptions{Audience: strings.ToUpper(base.Audience)})},
			"a bearer header":                     {noToken: true, header: http.Header{"Authorization": {"Bearer " + sign(in.Keys.Primary, base)}}},
			"the older address":                   {path: "/client/", query: url.Values{"hub": {"chat"}}},
			"the older address without slash":     {path: "/client", query: url.Values{"hub": {"chat"}}},
			"a hub in another case":               {path: "/client/hubs/CHAT"},
			"an escaped hub":                      {path: "/client/hubs/%63hat"},
			"an empty mode":                       {query: url.Values{"webpubsub_mode": {""}}},
			"the default mode with other members": {query: url.Values{"webpubsub_mode": {"SendEvent"}, "group": {" "}, "noEcho": {"maybe"}}},
			"the last of repeated modes":          {query: url.Values{"webpubsub_mode": {"x", "sendToGroup"}, "group": {"", "g"}, "noEcho": {"x", "TRUE"}}},
			"an origin and keep-alive":            {header: http.Header{"Connection": {"keep-alive, Upgrade"}, "Origin": {"https://elsewhere.example"}, "Upgrade": {"WebSocket"}}},
		} {
			t.Run(name, func(t *testing.T) {
				r.t = t
				d.addr = addr
				resp, c := r.handshake(d)
				if resp.StatusCode != 101 || len(resp.Header["Sec-Websocket-Protocol"]) != 0 {
					t.Fatalf("got %d %v", resp.StatusCode, resp.Header)
				}
				c.wantNothing()
				c.close()
			})
		}
	})
	// The example of RFC 6455, 1.3.
	resp, _ := r.handshake(dial{nonce: "dGhlIHNhbXBsZSBub25jZQ=="})
	if got := resp.Header.Get("Sec-WebSocket-Accept"); got != "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=" {
		t.Errorf("accept key %q", got)
	}
}

func TestSubprotocolsAreNegotiated(t *testing.T) {
	r := newRig(t, rigOptions{})
	for _, test := range []struct {
		name   string
		offers []string
		answer string // of the connect handler
		want   string
		json   bool
	}{
		{"none", nil, ``, "", false},
		{"the only one", []string{jsonProtocol}, ``, jsonProtocol, true},
		{"the first that is known", []string{"custom", "JSON.webpubsub.azure.v1"}, ``, "JSON.webpubsub.azure.v1", true},
		{"the handler's choice", []string{jsonProtocol, "custom"}, `{"subprotocol":"custom"}`, "custom", false},
		{"the handler's choice of ours", []string{"custom", jsonProtocol}, `{"subprotocol":"` + jsonProtocol + `"}`, jsonProtocol, true},
	} {
		t.Run(test.name, func(t *testing.T) {
			r.t = t
			r.app.reply("connect", "application/json", test.answer)
			resp, c := r.handshake(dial{subprotocols: test.offers})
			if resp.StatusCode != 101 || resp.Header.Get("Sec-WebSocket-Protocol") != test.want {
				t.Fatalf("got %d with subprotocol %q, want %q", resp.StatusCode, resp.Header.Get("Sec-WebSocket-Protocol"), test.want)
			}
			if test.json {
				c.text()
			}
			c.wantNothing()
			n := len(r.app.events("disconnected"))
			c.close()
			if got := r.app.wait(t, "disconnected", n+1); got.subprotocol != test.want {
				t.Errorf("the event says subprotocol %q", got.subprotocol)
			}
		})
	}
	r.app.reply("connect", "application/json", `{"subprotocol":"other"}`)
	if resp, _ := r.handshake(dial{subprotocols: []string{jsonProtocol}}); resp.StatusCode != 500 {
		t.Errorf("a choice that was not offered: %d, want 500", resp.StatusCode)
	}
}

func TestTheConnectHandlerDecides(t *testing.T) {
	r := newRig(t, rigOptions{})
	everyWay(t, r, func(t *testing.T, addr string) {
		for _, test := range []struct {
			name   string
			status int
			want   int
			body   string
		}{
			{"401 with words", 401, 401, "private words\n"},
			{"403", 403, 403, "private words\n"},
			{"a 5xx without its words", 503, 503, ""},
			{"a redirect", 302, 500, ""},
		} {
			t.Run(test.name, func(t *testing.T) {
				r.t = t
				r.app.fail("connect", test.status)
				resp, _ := r.handshake(dial{addr: addr})
				body, _ := io.ReadAll(resp.Body)
				if resp.StatusCode != test.want || string(body) != test.body {
					t.Errorf("got %d %q, want %d %q", resp.StatusCode, body, test.want, test.body)
				}
			})
		}
		if n := len(r.app.events("connected")) + len(r.app.events("disconnected")); n != 0 {
			t.Errorf("%d events of clients that were refused", n)
		}
	})
	r.app.reply("connect", "application/json", `{"userId":"other","groups":["x"],"roles":["webpubsub.sendToGroup.y"]}`)
	c := r.json(dial{user: "me", roles: allRoles, groups: []string{"a"}})
	conn, ok := r.hubs.Lookup("default", "chat").Connection(c.id)
	if !ok || conn.UserID() != "other" || !conn.InGroup("x") || conn.InGroup("a") ||
		conn.Allows(hub.SendToGroup, "a") || !conn.Allows(hub.SendToGroup, "y") || conn.Allows(hub.JoinLeaveGroup, "a") {
		t.Error("the handler's user, groups and roles must replace the token's")
	}
	if e := r.app.wait(t, "connected", 1); e.user != "other" || e.connection != c.id || e.subprotocol != jsonProtocol {
		t.Errorf("connected says %+v", e)
	}
	r.app.reply("connect", "application/json", `{"userId":"","groups":[],"roles":[]}`)
	c = r.json(dial{user: "me", roles: allRoles, groups: []string{"a"}})
	conn, _ = r.hubs.Lookup("default", "chat").Connection(c.id)
	if conn.UserID() != "" || !conn.InGroup("a") || conn.Allows(hub.SendToGroup, "a") {
		t.Error("an empty user id clears, empty groups keep, empty roles remove")
	}
}

func TestTheConnectEventDescribesTheClientWithoutItsToken(t *testing.T) {
	r := newRig(t, rigOptions{})
	everyWay(t, r, func(t *testing.T, addr string) {
		n := len(r.app.events("connect"))
		r.connect(dial{addr: addr, user: "u", query: url.Values{"id": {"1", "2"}}, subprotocols: []string{jsonProtocol}, header: http.Header{"Cookie": {"a=b"}}})
		e := r.app.wait(t, "connect", n+1)
		for _, want := range []string{`"sub":["u"]`, `"id":["1","2"]`, `"Cookie":["a=b"]`, `"Host":["` + addr + `"]`, `"subprotocols":["` + jsonProtocol + `"]`} {
			if !strings.Contains(e.body, want) {
				t.Errorf("%s lacks %s", e.body, want)
			}
		}
		if strings.Contains(e.body, "access_token") || strings.Contains(e.body, "eyJ") {
			t.Error("the event holds the token")
		}
	})
}

func TestAClientWhoseUpgradeFailsAfterConnectIsDisconnected(t *testing.T) {
	r := newRig(t, rigOptions{})
	if resp, _ := r.handshake(dial{subprotocols: []string{"unknown"}}); resp.StatusCode != 400 {
		t.Errorf("got %d", resp.StatusCode)
	}
	r.app.wait(t, "disconnected", 1)
	if n := len(r.app.events("connected")); n != 0 {
		t.Errorf("%d connected events", n)
	}
}

func TestAnonymousClientsNeedTheHubsLeave(t *testing.T) {
	r := newRig(t, rigOptions{})
	r.configure(func(h *settings.Hub) { h.AnonymousConnectPolicy = "Allow" })
	c := r.json(dial{noToken: true})
	if conn, _ := r.hubs.Lookup("default", "chat").Connection(c.id); conn.UserID() != "" || conn.Allows(hub.SendToGroup, "g") {
		t.Error("an anonymous client has no user and no roles")
	}
	if resp, _ := r.handshake(dial{token: "bad"}); resp.StatusCode != 401 {
		t.Errorf("a bad token under the policy allow: %d, want 401", resp.StatusCode)
	}
}

func TestConnectionLimits(t *testing.T) {
	r := newRig(t, rigOptions{hub: hub.Options{MaxConnections: 1}})
	r.connect(dial{})
	everyWay(t, r, func(t *testing.T, addr string) {
		resp, _ := r.handshake(dial{addr: addr})
		if body, _ := io.ReadAll(resp.Body); resp.StatusCode != 429 || !strings.Contains(string(body), "reaches limit") {
			t.Errorf("got %d %q, want 429", resp.StatusCode, body)
		}
	})
}

func TestARecoveryOfNothingIsLetInAndToldToGo(t *testing.T) {
	r := newRig(t, rigOptions{})
	everyWay(t, r, func(t *testing.T, addr string) {
		c := r.connect(dial{addr: addr, token: "expired", subprotocols: []string{jsonProtocol}, query: url.Values{
			"awps_connection_id": {"x"}, "awps_reconnection_token": {"y"},
		}})
		c.wantClose(hub.ClosePolicy, "cannot be recovered")
	})
	if len(r.app.events("connect")) != 0 {
		t.Error("the application was asked")
	}
}

func TestAServerThatIsClosedRefuses(t *testing.T) {
	r := newRig(t, rigOptions{})
	if err := r.server.Close(context.Background()); err != nil {
		t.Fatal(err)
	}
	if resp, _ := r.handshake(dial{}); resp.StatusCode != 503 {
		t.Errorf("got %d, want 503", resp.StatusCode)
	}
}

func TestAnAddressOfNoInstance(t *testing.T) {
	r := newRig(t, rigOptions{server: func(o *Options) { o.Instance = func(*http.Request) *settings.Instance { return nil } }})
	if resp, _ := r.handshake(dial{}); resp.StatusCode != 404 {
		t.Errorf("got %d, want 404", resp.StatusCode)
	}
}

func TestFramesThatComeWithTheHandshakeAreNotLost(t *testing.T) {
	r := newRig(t, rigOptions{})
	// The client does not wait for the answer: request and first frame are one write.
	everyWay(t, r, func(t *testing.T, addr string) {
		c := r.connect(dial{addr: addr, early: frameBytes(true, ws.OpPing, "early")})
		c.want(ws.OpPong, "early")
		c.wantNothing()
	})
}
