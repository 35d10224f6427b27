package conform

import (
	"encoding/base64"
	"fmt"
	"maps"
	"net/url"
	"strings"
	"time"

	"tabard/internal/wire"
)

// clientChecks are the lines of the client protocol's checklist by number.
var clientChecks = merge(handshakeChecks, messageChecks, permissionChecks, reliableChecks, protobufChecks, streamChecks)

func merge(parts ...map[int]check) map[int]check {
	all := map[int]check{}
	for _, part := range parts {
		maps.Copy(all, part)
	}
	return all
}

// Lines about who is let in.
var handshakeChecks = map[int]check{
	1: {given: "a valid token for the hub", then: "101", run: func(t *trial) { t.open(dial{}) }},
	2: {given: "no token, anonymous clients denied", then: "401 and no upgrade", run: func(t *trial) { t.refused(401, dial{noToken: true}) }},
	3: {given: "a token signed with the secondary key", then: "101", needs: secondKey, run: func(t *trial) {
		t.open(dial{key: t.target.SecondaryKey})
	}},
	4: {given: "an audience that differs in letter case", then: "101", run: func(t *trial) {
		t.open(dial{claims: map[string]any{"aud": strings.ToUpper(t.endpoint.ClientURL())}})
	}},
	5: {given: "a token for another hub", then: "401", run: func(t *trial) {
		t.refused(401, dial{claims: map[string]any{"aud": t.endpoint.ClientURL() + "x"}})
	}},
	6: {given: "a token that expired over five minutes ago", then: "401", run: func(t *trial) {
		t.refused(401, dial{claims: map[string]any{"exp": time.Now().Add(-6 * time.Minute).Unix()}})
	}},
	7: {given: "the token in Authorization", then: "101", run: func(t *trial) { t.open(dial{bearer: true}) }},
	8: {given: "the JSON subprotocol", then: "it is echoed and the first frame is connected, with connectionId and userId", run: func(t *trial) {
		user := t.name("ann")
		p := t.json(dial{user: user})
		t.check(p.Subprotocol == jsonProtocol, "subprotocol %q", p.Subprotocol)
		t.check(p.user == user, "userId %v, want %s", p.user, user)
	}},
	9: {given: "the reliable JSON subprotocol", then: "connected has a reconnectionToken; on the plain one it has none", run: func(t *trial) {
		t.check(t.reliable(dial{}).token != "", "no reconnectionToken")
		t.check(t.json(dial{}).token == "", "a reconnectionToken on the plain subprotocol")
	}},
	17: {given: "an idle JavaScript client with defaults for five minutes", then: "it has not reconnected",
		blind: "is about that client, which this is not: answering its pings is line 16"},
	28: {given: "webpubsub.group in the token", then: "messages to both groups arrive", run: func(t *trial) {
		a, b := t.name("a"), t.name("b")
		p := t.json(dial{groups: []string{a, b}})
		t.publish(a, "1")
		p.gets(`{"from":"group","group":%q,"data":"1"}`, a)
		t.publish(b, "2")
		p.gets(`{"from":"group","group":%q,"data":"2"}`, b)
	}},
	29: {given: "role as a bare string", then: "it works like a list of one", run: func(t *trial) {
		t.json(dial{claims: map[string]any{"role": joinLeave}}).join(t.name("g"), 1)
	}},
	30: {given: "sub in the token", then: "connected.userId is it and REST user operations reach it", run: func(t *trial) {
		user := t.name("ann")
		p := t.json(dial{user: user})
		t.check(p.user == user, "userId %v", p.user)
		t.post(202, "users/"+user+"/:send", "hi", "text/plain")
		p.gets(`{"from":"server","data":"hi"}`)
	}},
	53: {given: "/client/?hub=H", then: "the same as /client/hubs/H", run: func(t *trial) {
		p := t.json(dial{url: strings.TrimRight(t.endpoint.Origin, "/") + "/client/", query: url.Values{"hub": {t.endpoint.Hub}}})
		p.hearsNothing() // what is sent to the hub's connection reaches it
	}},
	54: {given: "the hub's name in another letter case", then: "the same hub", run: func(t *trial) {
		other := strings.ToUpper(t.endpoint.Hub)
		if other == t.endpoint.Hub {
			other = strings.ToLower(other)
		}
		p := t.json(dial{url: strings.TrimRight(t.endpoint.Origin, "/") + "/client/hubs/" + url.PathEscape(other)})
		p.hearsNothing()
	}},
	60: {given: "a token that expires while the connection lives", then: "it stays open", run: func(t *trial) {
		p := t.json(dial{claims: map[string]any{"exp": time.Now().Add(time.Second).Unix()}})
		t.pause(2 * time.Second)
		p.hearsNothing()
	}},
}

// Lines about what is sent and what arrives.
var messageChecks = map[int]check{
	10: {given: "the join role", then: "joinGroup is acknowledged and messages arrive", run: func(t *trial) {
		g := t.name("g")
		p := t.json(dial{roles: everything})
		p.join(g, 1)
		t.publish(g, "hi")
		p.gets(`{"type":"message","from":"group","group":%q,"data":"hi"}`, g)
	}},
	11: {given: "no role", then: "joinGroup is Forbidden and the connection stays", run: func(t *trial) {
		p := t.json(dial{})
		p.send(`{"type":"joinGroup","group":%q,"ackId":1}`, t.name("g"))
		p.failed(1, "Forbidden")
		p.hearsNothing()
	}},
	12: {given: "no role and no ackId", then: "nothing is delivered and nothing answered", run: func(t *trial) {
		g := t.name("g")
		p, member := t.json(dial{}), t.json(dial{groups: []string{g}})
		p.send(`{"type":"sendToGroup","group":%q,"data":1}`, g)
		p.hearsNothing()
		member.hearsNothing()
	}},
	13: {given: "two members, one publishes json", then: "the other gets it from the group with the publisher's user", run: func(t *trial) {
		g, user := t.name("g"), t.name("ann")
		a, b := t.json(dial{user: user, roles: everything, groups: []string{g}}), t.json(dial{groups: []string{g}})
		a.send(`{"type":"sendToGroup","group":%q,"dataType":"json","data":{"x":1.5}}`, g)
		b.gets(`{"type":"message","from":"group","group":%q,"fromUserId":%q,"dataType":"json","data":{"x":1.5}}`, g, user)
	}},
	14: {given: "a sender that is a member, without noEcho", then: "it gets its message before the ack", run: func(t *trial) {
		g := t.name("g")
		p := t.json(dial{roles: everything, groups: []string{g}})
		p.send(`{"type":"sendToGroup","group":%q,"data":1,"ackId":1}`, g)
		p.gets(`{"type":"message","data":1}`)
		p.acked(1)
	}},
	15: {given: "noEcho", then: "the sender's connection gets only the ack", run: func(t *trial) {
		g := t.name("g")
		p := t.json(dial{roles: everything, groups: []string{g}})
		p.send(`{"type":"sendToGroup","group":%q,"data":1,"ackId":1,"noEcho":true}`, g)
		p.acked(1)
		p.hearsNothing()
	}},
	16: {given: "a ping", then: "a pong", run: func(t *trial) {
		p := t.json(dial{})
		p.send(`{"type":"ping"}`)
		p.gets(`{"type":"pong"}`)
	}},
	26: {given: "a processed ackId again", then: "Duplicate and no second delivery", run: func(t *trial) {
		g := t.name("g")
		p, member := t.json(dial{roles: everything}), t.json(dial{groups: []string{g}})
		p.send(`{"type":"sendToGroup","group":%q,"data":1,"ackId":7}`, g)
		p.acked(7)
		p.send(`{"type":"sendToGroup","group":%q,"data":1,"ackId":7}`, g)
		p.failed(7, "Duplicate")
		member.gets(`{"data":1}`)
		member.hearsNothing()
	}},
	27: {given: "a failed event with an ackId, repeated", then: "it is executed", needs: handler, run: func(t *trial) {
		p := t.json(dial{})
		event := `{"type":"event","event":"once","dataType":"text","data":"again","ackId":8}`
		p.send("%s", event)
		p.failed(8, "InternalServerError")
		p.send("%s", event)
		p.gets(`{"type":"message","from":"server","data":"again"}`)
		p.acked(8)
	}},
	31: {given: "an event whose handler answers text", then: "a message from the server precedes the ack", needs: handler, run: func(t *trial) {
		p := t.json(dial{})
		p.send(`{"type":"event","event":"echo","dataType":"text","data":"hi","ackId":1}`)
		p.gets(`{"type":"message","from":"server","dataType":"text","data":"hi"}`)
		p.acked(1)
	}},
	32: {given: "an event whose handler fails", then: "InternalServerError in general words, and the connection stays", needs: handler, run: func(t *trial) {
		p := t.json(dial{})
		p.send(`{"type":"event","event":"fail","dataType":"text","data":"hi","ackId":1}`)
		got := p.gets(`{"type":"ack","ackId":1,"success":false,"error":{"name":"InternalServerError"}}`)
		text, _ := got["error"].(map[string]any)["message"].(string)
		t.check(!strings.Contains(text, "checklist"), "the handler's own words: %q", text)
		p.hearsNothing()
	}},
	33: {given: "a text frame of a simple client", then: "the handler gets the event message as text/plain", needs: handler, run: func(t *trial) {
		p, body := t.open(dial{}), t.name("hi")
		p.send("%s", body)
		_, echoed := p.frame()
		e, ok := t.target.Handler.find(body)
		t.check(ok && e.name == "message" && strings.HasPrefix(e.contentType, "text/plain"), "the handler got %+v", e)
		t.check(echoed == body, "its answer came as %q", echoed)
	}},
	34: {given: "json for a simple client", then: "a text frame with only the JSON", run: func(t *trial) {
		g := t.name("g")
		raw, p := t.open(dial{groups: []string{g}}), t.json(dial{roles: everything})
		p.send(`{"type":"sendToGroup","group":%q,"data":{"a":1}}`, g)
		text := raw.text()
		t.check(text == `{"a":1}`, "%q came", text)
	}},
	35: {given: "binary for a simple client", then: "a binary frame", run: func(t *trial) {
		g := t.name("g")
		raw, p := t.open(dial{groups: []string{g}}), t.json(dial{roles: everything})
		p.send(`{"type":"sendToGroup","group":%q,"dataType":"binary","data":"AQI="}`, g)
		binary, got := raw.frame()
		t.check(binary && got == "\x01\x02", "binary %t: %q", binary, got)
	}},
	36: {given: "binary for a JSON client", then: "standard base64", run: func(t *trial) {
		g := t.name("g")
		p := t.json(dial{groups: []string{g}})
		t.post(202, "groups/"+g+"/:send", "\xfb\xff\x01\x02", "application/octet-stream")
		p.gets(`{"dataType":"binary","data":%q}`, base64.StdEncoding.EncodeToString([]byte("\xfb\xff\x01\x02")))
	}},
	37: {given: "no dataType", then: "json", run: func(t *trial) {
		g := t.name("g")
		p := t.json(dial{roles: everything, groups: []string{g}})
		p.send(`{"type":"sendToGroup","group":%q,"data":"x"}`, g)
		p.gets(`{"dataType":"json","data":"x"}`)
	}},
	38: {given: "dataType text with data that is no string", then: "close 1007", run: func(t *trial) {
		p := t.json(dial{})
		p.send(`{"type":"event","event":"e","dataType":"text","data":1}`)
		p.closed(1007)
	}},
	39: {given: "an unknown type", then: "close 1007", run: func(t *trial) {
		p := t.json(dial{})
		p.send(`{"type":"nonsense"}`)
		p.closed(1007)
	}},
	40: {given: "a fragmented message", then: "it is processed once", run: func(t *trial) {
		p := t.json(dial{})
		_ = p.WriteFragment(false, wire.Text, []byte(`{"type":`)) // a failure shows in the missing answer
		_ = p.WriteFragment(true, wire.Continuation, []byte(`"ping"}`))
		p.gets(`{"type":"pong"}`)
		p.hearsNothing()
	}},
	41: {given: "a message over 1 MiB", then: "close 1009", run: func(t *trial) {
		p := t.json(dial{})
		_ = p.Write(wire.Text, make([]byte, 1<<20+1)) // the service may close before all is written
		p.closed(1009)
	}},
	42: {given: "a close over REST with a reason", then: "disconnected with all of it, then a close frame with up to 123 bytes", run: func(t *trial) {
		p, reason := t.json(dial{}), strings.Repeat("ä", 100)
		t.want(204, request{method: "DELETE", path: "connections/" + p.id + "?reason=" + url.QueryEscape(reason)})
		p.gets(`{"type":"system","event":"disconnected","message":%q}`, reason)
		got := p.closed(0)
		t.check(got != "" && len(got) <= 123 && strings.HasPrefix(reason, got), "the close frame's reason is %q", got)
	}},
	55: {given: "webpubsub_mode=sendToGroup and the role", then: "a raw frame reaches the group", run: func(t *trial) {
		g := t.name("G")
		member := t.json(dial{groups: []string{g}})
		p := t.open(dial{roles: everything, query: url.Values{"webpubsub_mode": {"sendToGroup"}, "group": {g}}})
		p.send("hi")
		member.gets(`{"from":"group","group":%q,"dataType":"text","data":"hi"}`, g)
	}},
	59: {given: "metadata on sendToGroup", then: "a member gets the same map", run: func(t *trial) {
		g := t.name("g")
		p := t.json(dial{roles: everything, groups: []string{g}})
		p.send(`{"type":"sendToGroup","group":%q,"data":1,"metadata":{"a":"1","b":"2"}}`, g)
		p.gets(`{"metadata":{"a":"1","b":"2"}}`)
	}},
	70: {given: "a JSON client that never asked", then: "no pong, stream, invokeResponse or groupState frames", run: func(t *trial) {
		g := t.name("g")
		quiet, busy := t.json(dial{groups: []string{g}}), t.json(dial{roles: everything, groups: []string{g}})
		busy.send(`{"type":"ping"}`)
		busy.gets(`{"type":"pong"}`)
		busy.send(`{"type":"setGroupState","group":%q,"ackId":1,"state":{"a":"1"}}`, g)
		busy.acked(1)
		quiet.hearsNothing()
	}},
}

// Lines about what a client may do.
var permissionChecks = map[int]check{
	44: {given: "the role sendToGroups.clientA.*", then: "clientA.x is allowed and clientA.x.y Forbidden", run: func(t *trial) {
		p, a := t.json(dial{roles: []string{"webpubsub.sendToGroups." + t.name("clientA") + ".*"}}), t.name("clientA")
		p.send(`{"type":"sendToGroup","group":%q,"data":1,"ackId":1}`, a+".x")
		p.acked(1)
		p.send(`{"type":"sendToGroup","group":%q,"data":1,"ackId":2}`, a+".x.y")
		p.failed(2, "Forbidden")
	}},
	45: {given: "the role joinLeaveGroups.a.**", then: "a.b.c is allowed", run: func(t *trial) {
		a := t.name("a")
		t.json(dial{roles: []string{"webpubsub.joinLeaveGroups." + a + ".**"}}).join(a+".b.c", 1)
	}},
	46: {given: "a pattern with six stars", then: "it grants nothing and the connection succeeds", run: func(t *trial) {
		p := t.json(dial{roles: []string{"webpubsub.sendToGroups.*.*.*.*.*.*"}})
		p.send(`{"type":"sendToGroup","group":"a.b.c.d.e.f","data":1,"ackId":1}`)
		p.failed(1, "Forbidden")
	}},
	47: {given: "the role for all groups and G revoked over REST", then: "G is Forbidden and H allowed", run: func(t *trial) {
		g := t.name("G")
		p := t.json(dial{roles: everything})
		t.want(204, request{method: "DELETE", path: "permissions/sendToGroup/connections/" + p.id + "?targetName=" + g})
		p.send(`{"type":"sendToGroup","group":%q,"data":1,"ackId":1}`, g)
		p.failed(1, "Forbidden")
		p.send(`{"type":"sendToGroup","group":%q,"data":1,"ackId":2}`, t.name("H"))
		p.acked(2)
	}},
}

// Lines about reliable clients.
var reliableChecks = map[int]check{
	18: {given: "data messages of a reliable client", then: "sequenceId runs 1, 2, 3", run: func(t *trial) {
		g := t.name("g")
		t.reliable(dial{groups: []string{g}}).numbered(g, 1, 3)
	}},
	19: {given: "unacked messages 1 to 3 and a dropped socket", then: "they are replayed in order with the same ids", run: func(t *trial) {
		g := t.name("g")
		p := t.reliable(dial{groups: []string{g}})
		p.numbered(g, 1, 3)
		p.recover().replayed(1, 3)
	}},
	20: {given: "sequenceAck 2 before the drop", then: "replay starts at 3", run: func(t *trial) {
		g := t.name("g")
		p := t.reliable(dial{groups: []string{g}})
		p.numbered(g, 1, 3)
		p.acknowledge(2)
		p.recover().replayed(3, 1)
	}},
	21: {given: "a recovery address that also carries an expired access_token", then: "recovery succeeds", run: func(t *trial) {
		p := t.reliable(dial{})
		p.Close()
		d := p.again()
		d.noToken, d.claims = false, map[string]any{"exp": time.Now().Add(-time.Hour).Unix()}
		back := t.open(d)
		back.greeted()
		t.check(back.id == p.id, "connectionId %q, want %q", back.id, p.id)
	}},
	22: {given: "a bad reconnection token", then: "101, then close 1008", run: func(t *trial) {
		p := t.reliable(dial{})
		p.token = "bad"
		t.unrecoverable(p.again())
	}},
	23: {given: "an unknown connection id", then: "101, then close 1008, not an HTTP error", run: func(t *trial) {
		p := t.reliable(dial{})
		p.id = strings.Repeat("0", 32)
		t.unrecoverable(p.again())
	}},
	24: {given: "a recovered connection", then: "its groups' messages come without joining again", run: func(t *trial) {
		g := t.name("g")
		p := t.reliable(dial{roles: everything})
		p.join(g, 1)
		p.recover().numbered(g, 1, 1)
	}},
	25: {given: "a message published while the client is away", then: "it gets it after recovering", run: func(t *trial) {
		g := t.name("g")
		p := t.reliable(dial{groups: []string{g}})
		p.Close()
		t.publish(g, "text 1")
		p.recover().replayed(1, 1)
	}},
	43: {given: "a reliable connection closed by REST", then: "its recovery gets 1008", run: func(t *trial) {
		p := t.reliable(dial{})
		t.want(204, request{method: "DELETE", path: "connections/" + p.id})
		p.closed(0)
		t.unrecoverable(p.again())
	}},
	56: {given: "1001 unacked messages", then: "the connection is dropped, its recovery gets 1008, publishers go on", run: func(t *trial) {
		g := t.name("g")
		p, publisher := t.reliable(dial{groups: []string{g}}), t.json(dial{roles: everything})
		for i := 1; i <= 1001; i++ {
			publisher.send(`{"type":"sendToGroup","group":%q,"dataType":"text","data":"x","ackId":%d}`, g, i)
			publisher.acked(i)
		}
		p.dropped()
		t.unrecoverable(p.again())
		publisher.hearsNothing()
	}},
	57: {given: "sequenceAck with an old id", then: "it is ignored", run: func(t *trial) {
		g := t.name("g")
		p := t.reliable(dial{groups: []string{g}})
		p.numbered(g, 1, 3)
		p.acknowledge(2)
		p.acknowledge(1)
		p.recover().replayed(3, 1)
	}},
	58: {given: "ttlSeconds 1 and a client away for longer", then: "the message is not delivered", run: func(t *trial) {
		g := t.name("g")
		p, publisher := t.reliable(dial{groups: []string{g}}), t.json(dial{roles: everything})
		p.Close()
		t.pause(500 * time.Millisecond) // the service learns of it
		publisher.send(`{"type":"sendToGroup","group":%q,"dataType":"text","data":"old","ttlSeconds":1,"ackId":1}`, g)
		publisher.acked(1)
		t.pause(3 * time.Second)
		back := p.recover()
		t.publish(g, "new")
		back.gets(`{"type":"message","data":"new"}`)
	}},
	61: {given: "a half-open old socket and a recovery with a valid token", then: "the new socket takes over", run: func(t *trial) {
		g := t.name("g")
		p := t.reliable(dial{groups: []string{g}})
		back := t.open(p.again())
		back.greeted()
		t.check(back.id == p.id, "connectionId %q, want %q", back.id, p.id)
		back.numbered(g, 1, 1)
	}},
	62: {given: "a recovery", then: "the first frame is connected with the same connectionId", run: func(t *trial) {
		g := t.name("g")
		p := t.reliable(dial{groups: []string{g}})
		p.numbered(g, 1, 1)
		p.recover().replayed(1, 1)
	}},
}

// acknowledge sends a sequenceAck and a ping, whose pong shows that it was read.
func (p *peer) acknowledge(n int) {
	p.send("%s", fmt.Sprintf(`{"type":"sequenceAck","sequenceId":%d}`, n))
	p.send(`{"type":"ping"}`)
	p.gets(`{"type":"pong"}`)
}
