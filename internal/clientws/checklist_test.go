package clientws

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/gobwas/ws"

	"tabard/internal/access"
	"tabard/internal/hub"
)

// The conformance checklist of the client protocol (appendix A), lines 1 to 62, by number; the lines about streams,
// invocations and protobuf are in checklist_more_test.go. Each line runs against a service of its own.
var checklist = map[int]struct {
	given string
	then  func(*rig)
}{
	1: {"a valid token, then 101", func(r *rig) { r.wantStatus(101, dial{}) }},
	2: {"no token and anonymous denied, then 401 and no upgrade", func(r *rig) { r.wantStatus(401, dial{noToken: true}) }},
	3: {"a token signed with the secondary key, then 101", func(r *rig) {
		in, _ := r.settings.Snapshot().Instance("default")
		r.wantStatus(101, dial{token: r.sign(in.Keys.Secondary, access.ClientTokenOptions{})})
	}},
	4: {"an audience that differs in letter case, then 101", func(r *rig) {
		r.wantStatus(101, dial{token: r.sign("", access.ClientTokenOptions{Audience: strings.ToUpper(access.ClientAudience(r.origin(r.base), "chat", ""))})})
	}},
	5: {"a token for another hub, then 401", func(r *rig) { r.wantStatus(401, dial{token: r.tokenFor("other")}) }},
	6: {"a token that expired beyond the skew, then 401", func(r *rig) {
		ago := time.Now().Add(-time.Hour)
		r.wantStatus(401, dial{token: r.sign("", access.ClientTokenOptions{Issued: ago, Expires: ago.Add(50 * time.Minute)})})
	}},
	7: {"the token in Authorization, then 101", func(r *rig) {
		r.wantStatus(101, dial{noToken: true, header: http.Header{"Authorization": {"Bearer " + r.sign("", access.ClientTokenOptions{})}}})
	}},
	8: {"the JSON subprotocol, then it is echoed and the first frame is connected", func(r *rig) {
		resp, c := r.handshake(dial{user: "ann", subprotocols: []string{jsonProtocol}})
		if got := resp.Header.Get("Sec-Websocket-Protocol"); got != jsonProtocol {
			r.t.Errorf("subprotocol %q", got)
		}
		c.wantPart(`{"type":"system","event":"connected","userId":"ann","connectionId":"`)
	}},
	9: {"the reliable one, then connected has a reconnectionToken; on the plain one it has none", func(r *rig) {
		r.reliable(dial{})
		if c := r.connect(dial{subprotocols: []string{jsonProtocol}}); strings.Contains(c.text(), "reconnectionToken") {
			r.t.Error("a plain client got one")
		}
	}},
	10: {"the join role, then joinGroup is acked and messages arrive", func(r *rig) {
		c := r.json(dial{roles: allRoles})
		c.send(`{"type":"joinGroup","group":"g","ackId":1}`)
		c.wantText(ackOK(1))
		r.publish("g", "hi")
		c.wantPart(`"group":"g"`, `"data":"hi"`)
	}},
	11: {"no role, then joinGroup is Forbidden and the connection stays", func(r *rig) {
		c := r.json(dial{})
		c.send(`{"type":"joinGroup","group":"g","ackId":1}`)
		c.wantPart(`"ackId":1,"success":false,"error":{"name":"Forbidden"`)
		c.wantNothing()
	}},
	12: {"no role and no ackId, then nothing is delivered and nothing answered", func(r *rig) {
		c, member := r.json(dial{}), r.json(dial{groups: []string{"g"}})
		c.send(`{"type":"sendToGroup","group":"g","data":1}`)
		c.wantNothing()
		member.wantNothing()
	}},
	13: {"two members, then the other gets what one publishes", func(r *rig) {
		a, b := r.json(dial{user: "ann", roles: allRoles, groups: []string{"g"}}), r.json(dial{groups: []string{"g"}})
		a.send(`{"type":"sendToGroup","group":"g","dataType":"json","data":{"x" : 1.0}}`)
		b.wantText(`{"type":"message","from":"group","group":"g","fromUserId":"ann","dataType":"json","data":{"x" : 1.0}}`)
	}},
	14: {"a sender that is a member, then it gets its own message before the ack", func(r *rig) {
		c := r.json(dial{roles: allRoles, groups: []string{"g"}})
		c.send(`{"type":"sendToGroup","group":"g","data":1,"ackId":1}`)
		c.wantPart(`"type":"message"`)
		c.wantText(ackOK(1))
	}},
	15: {"noEcho, then the sender's connection gets only the ack", func(r *rig) {
		c := r.json(dial{roles: allRoles, groups: []string{"g"}})
		c.send(`{"type":"sendToGroup","group":"g","data":1,"ackId":1,"noEcho":true}`)
		c.wantText(ackOK(1))
		c.wantNothing()
	}},
	16: {"a ping, then a pong", func(r *rig) {
		c := r.json(dial{})
		c.send(`{"type":"ping"}`)
		c.wantText(`{"type":"pong"}`)
	}},
	18: {"data messages of a reliable client, then sequenceId runs 1, 2, 3", func(r *rig) {
		c := r.reliable(dial{groups: []string{"g"}})
		c.wantNumbered(r, 1, 2, 3)
	}},
	19: {"unacked messages and a dropped socket, then they are replayed in order with the same ids", func(r *rig) {
		c := r.reliable(dial{groups: []string{"g"}})
		c.wantNumbered(r, 1, 2, 3)
		c.net.Close()
		r.recovered(c).wantReplay(1, 2, 3)
	}},
	20: {"sequenceAck 2 before the drop, then replay starts at 3", func(r *rig) {
		c := r.reliable(dial{groups: []string{"g"}})
		c.wantNumbered(r, 1, 2, 3)
		c.acknowledge(2)
		c.net.Close()
		r.recovered(c).wantReplay(3)
	}},
	21: {"a recovery address with an expired access_token, then it succeeds", func(r *rig) {
		c := r.reliable(dial{})
		c.net.Close()
		d := again("", c.id, c.token)
		d.token = r.sign("", access.ClientTokenOptions{Issued: time.Now().Add(-2 * time.Hour), Expires: time.Now().Add(-time.Hour)})
		greeted(r.connect(d))
	}},
	22: {"a bad reconnection token, then 101 and 1008", func(r *rig) {
		c := r.reliable(dial{})
		r.connect(again("", c.id, "bad")).wantClose(hub.ClosePolicy, "cannot be recovered")
	}},
	23: {"an unknown connection id, then 101 and 1008, not an HTTP error", func(r *rig) {
		c := r.reliable(dial{})
		r.connect(again("", hub.NewID(), c.token)).wantClose(hub.ClosePolicy, "cannot be recovered")
	}},
	24: {"a recovered connection, then its groups' messages come without joining again", func(r *rig) {
		c := r.reliable(dial{roles: allRoles})
		c.send(`{"type":"joinGroup","group":"g","ackId":1}`)
		c.wantText(ackOK(1))
		c.net.Close()
		r.recovered(c).wantNumbered(r, 1)
	}},
	25: {"a message while the client is away, then it gets it after recovering", func(r *rig) {
		c := r.reliable(dial{groups: []string{"g"}})
		c.leave(r)
		r.publish("g", "1")
		r.recovered(c).wantReplay(1)
	}},
	26: {"a processed ackId again, then Duplicate and no second delivery", func(r *rig) {
		c, member := r.json(dial{roles: allRoles}), r.json(dial{groups: []string{"g"}})
		for _, want := range []string{`"ackId":7,"success":true`, `"ackId":7,"success":false,"error":{"name":"Duplicate","message":"Message with ack-id: 7 has been processed"}`} {
			c.send(`{"type":"sendToGroup","group":"g","data":1,"ackId":7}`)
			c.wantPart(want)
		}
		member.wantPart(`"data":1`)
		member.wantNothing()
	}},
	27: {"a failed event with an ackId, then its retry is executed", func(r *rig) {
		c := r.json(dial{})
		r.app.fail("e", 500)
		c.send(`{"type":"event","event":"e","data":1,"ackId":8}`)
		c.wantPart(`"ackId":8,"success":false`)
		r.app.on("e", nil)
		c.send(`{"type":"event","event":"e","data":1,"ackId":8}`)
		c.wantText(ackOK(8))
		r.app.wait(r.t, "e", 2)
	}},
	28: {"webpubsub.group in the token, then messages of both arrive", func(r *rig) {
		c := r.json(dial{groups: []string{"a", "b"}})
		r.publish("a", "1")
		r.publish("b", "2")
		c.wantPart(`"group":"a"`)
		c.wantPart(`"group":"b"`)
	}},
	29: {"role as a bare string, then it works like a list of one", func(r *rig) {
		in, _ := r.settings.Snapshot().Instance("default")
		claims, _ := json.Marshal(map[string]any{
			"aud": access.ClientAudience(r.origin(r.base), "chat", ""), "exp": time.Now().Add(time.Hour).Unix(),
			"role": "webpubsub.joinLeaveGroup", "webpubsub.group": "alone",
		})
		text := base64.RawURLEncoding.EncodeToString([]byte(`{"alg":"HS256","typ":"JWT"}`)) + "." + base64.RawURLEncoding.EncodeToString(claims)
		mac := hmac.New(sha256.New, []byte(in.Keys.Primary))
		mac.Write([]byte(text))
		c := r.json(dial{token: text + "." + base64.RawURLEncoding.EncodeToString(mac.Sum(nil))})
		c.send(`{"type":"joinGroup","group":"g","ackId":1}`)
		c.wantText(ackOK(1))
		r.publish("alone", "1")
		c.wantPart(`"group":"alone"`)
	}},
	30: {"sub in the token, then connected.userId is it and messages to the user arrive", func(r *rig) {
		c := r.connect(dial{user: "ann", subprotocols: []string{jsonProtocol}})
		c.wantPart(`"userId":"ann"`)
		r.hubs.Hub("default", "chat").SendToUser("ann", &hub.Message{Type: hub.Text, Data: []byte("hi")}, hub.SendOptions{})
		c.wantPart(`"data":"hi"`)
	}},
	31: {"an event whose handler answers text, then a message from the server precedes the ack", func(r *rig) {
		c := r.json(dial{})
		r.app.reply("e", "text/plain", "ho")
		c.send(`{"type":"event","event":"e","dataType":"text","data":"hi","ackId":1}`)
		c.wantText(`{"type":"message","from":"server","dataType":"text","data":"ho"}`)
		c.wantText(ackOK(1))
	}},
	32: {"a handler that fails, then InternalServerError in general words and the connection stays", func(r *rig) {
		c := r.json(dial{})
		r.app.fail("e", 500)
		c.send(`{"type":"event","event":"e","data":1,"ackId":1}`)
		c.wantText(ackFailed(1, "InternalServerError", "Internal server error"))
		c.wantNothing()
	}},
	33: {"a text frame of a simple client, then the handler gets the event message as text/plain", func(r *rig) {
		r.connect(dial{}).send("hi")
		if e := r.app.wait(r.t, "message", 1); !strings.HasPrefix(e.contentType, "text/plain") || e.body != "hi" {
			r.t.Errorf("%+v", e)
		}
	}},
	34: {"JSON for a simple client, then a text frame with only the JSON", func(r *rig) {
		raw, c := r.connect(dial{groups: []string{"g"}}), r.json(dial{roles: allRoles})
		c.send(`{"type":"sendToGroup","group":"g","data":{"a":1}}`)
		raw.want(ws.OpText, `{"a":1}`)
	}},
	35: {"binary for a simple client, then a binary frame", func(r *rig) {
		raw, c := r.connect(dial{groups: []string{"g"}}), r.json(dial{roles: allRoles})
		c.send(`{"type":"sendToGroup","group":"g","dataType":"binary","data":"AQI="}`)
		raw.want(ws.OpBinary, "\x01\x02")
	}},
	36: {"binary for a JSON client, then standard base64", func(r *rig) {
		c := r.json(dial{roles: allRoles, groups: []string{"g"}})
		c.send(`{"type":"sendToGroup","group":"g","dataType":"binary","data":"+/8="}`)
		c.wantPart(`"dataType":"binary","data":"+/8="`)
	}},
	37: {"no dataType, then json", func(r *rig) {
		c := r.json(dial{roles: allRoles, groups: []string{"g"}})
		c.send(`{"type":"sendToGroup","group":"g","data":"x"}`)
		c.wantPart(`"dataType":"json","data":"x"`)
	}},
	38: {"dataType text with other data, then 1007", func(r *rig) {
		r.json(dial{}).wantRefused(`{"type":"event","event":"e","dataType":"text","data":1}`, hub.CloseInvalidData)
	}},
	39: {"an unknown type, then 1007", func(r *rig) { r.json(dial{}).wantRefused(`{"type":"new"}`, hub.CloseInvalidData) }},
	40: {"a fragmented message, then it is processed once", func(r *rig) {
		c := r.json(dial{})
		c.frame(false, ws.OpText, `{"type":`)
		c.frame(true, ws.OpContinuation, `"ping"}`)
		c.wantText(`{"type":"pong"}`)
		c.wantNothing()
	}},
	41: {"a message over 1 MiB, then 1009", func(r *rig) {
		c := r.json(dial{})
		c.raw(frameBytes(true, ws.OpText, strings.Repeat("x", MaxMessage+1))[:64]) // the header says enough
		c.wantClose(hub.CloseTooBig, "larger")
	}},
	42: {"a close by a server, then disconnected with the reason and a close frame with up to 123 bytes of it", func(r *rig) {
		c, long := r.json(dial{}), strings.Repeat("ä", 100)
		r.hubs.Hub("default", "chat").CloseConnection(c.id, long)
		c.wantText(`{"type":"system","event":"disconnected","message":"` + long + `"}`)
		c.wantClose(hub.CloseNormal, long[:122])
	}},
	43: {"a reliable connection that a server closed, then its recovery gets 1008", func(r *rig) {
		c := r.reliable(dial{})
		r.hubs.Hub("default", "chat").CloseConnection(c.id, "go")
		r.connect(again("", c.id, c.token)).wantClose(hub.ClosePolicy, "cannot be recovered")
	}},
	44: {"the role sendToGroups.clientA.*, then clientA.x is allowed and clientA.x.y is not", func(r *rig) {
		c := r.json(dial{roles: []string{"webpubsub.sendToGroups.clientA.*"}})
		c.send(`{"type":"sendToGroup","group":"clientA.x","data":1,"ackId":1}`)
		c.wantText(ackOK(1))
		c.send(`{"type":"sendToGroup","group":"clientA.x.y","data":1,"ackId":2}`)
		c.wantPart(`"ackId":2,"success":false,"error":{"name":"Forbidden"`)
	}},
	45: {"the role joinLeaveGroups.a.**, then a.b.c is allowed", func(r *rig) {
		c := r.json(dial{roles: []string{"webpubsub.joinLeaveGroups.a.**"}})
		c.send(`{"type":"joinGroup","group":"a.b.c","ackId":1}`)
		c.wantText(ackOK(1))
	}},
	46: {"a pattern with six stars, then it grants nothing and the connection succeeds", func(r *rig) {
		c := r.json(dial{roles: []string{"webpubsub.sendToGroups.*.*.*.*.*.*"}})
		c.send(`{"type":"sendToGroup","group":"a.b.c.d.e.f","data":1,"ackId":1}`)
		c.wantPart(`"name":"Forbidden"`)
	}},
	47: {"the role for all groups and a revocation of G, then G is forbidden and H allowed", func(r *rig) {
		c := r.json(dial{roles: allRoles})
		r.conn(c).Revoke(hub.SendToGroup, "G")
		c.send(`{"type":"sendToGroup","group":"G","data":1,"ackId":1}`)
		c.wantPart(`"name":"Forbidden"`)
		c.send(`{"type":"sendToGroup","group":"H","data":1,"ackId":2}`)
		c.wantText(ackOK(2))
	}},
	53: {"/client/?hub=H, then it is the same as /client/hubs/H", func(r *rig) {
		r.wantStatus(101, dial{path: "/client/", query: url.Values{"hub": {"chat"}}})
		c := r.json(dial{path: "/client/", query: url.Values{"hub": {"chat"}}})
		r.conn(c)
	}},
	54: {"a hub in another letter case, then it is the same hub", func(r *rig) { r.conn(r.json(dial{path: "/client/hubs/CHAT"})) }},
	55: {"webpubsub_mode=sendToGroup and the role, then a raw frame reaches the group", func(r *rig) {
		member := r.json(dial{groups: []string{"G"}})
		c := r.connect(dial{roles: allRoles, query: url.Values{"webpubsub_mode": {"sendToGroup"}, "group": {"G"}}})
		c.send("hi")
		member.wantPart(`"group":"G"`, `"dataType":"text","data":"hi"`)
	}},
	56: {"1001 unacked messages, then the connection is dropped, its recovery gets 1008, others go on", func(r *rig) {
		c, other := r.reliable(dial{groups: []string{"g"}}), r.json(dial{groups: []string{"g"}})
		for i := range 1001 {
			r.publish("g", fmt.Sprint(i))
			other.wantPart(fmt.Sprintf(`"data":"%d"`, i))
		}
		if e := r.app.wait(r.t, "disconnected", 1); e.connection != c.id {
			r.t.Errorf("%+v", e)
		}
		r.connect(again("", c.id, c.token)).wantClose(hub.ClosePolicy, "cannot be recovered")
	}},
	57: {"sequenceAck with an old id, then it is ignored", func(r *rig) {
		c := r.reliable(dial{groups: []string{"g"}})
		c.wantNumbered(r, 1, 2, 3)
		c.acknowledge(2)
		c.acknowledge(1)
		c.net.Close()
		r.recovered(c).wantReplay(3)
	}},
	58: {"ttlSeconds 1 and a client away for longer, then the message is not delivered", func(r *rig) {
		c, pub := r.reliable(dial{groups: []string{"g"}}), r.json(dial{roles: allRoles})
		c.leave(r)
		pub.send(`{"type":"sendToGroup","group":"g","dataType":"text","data":"1","ttlSeconds":1,"ackId":1}`)
		pub.wantText(ackOK(1))
		late := time.Now().Add(1100 * time.Millisecond)
		eventually(r.t, "a second passes", func() bool { return time.Now().After(late) })
		back := r.recovered(c)
		r.publish("g", "2")
		back.wantReplay(2)
	}},
	59: {"metadata, then a member gets the same map", func(r *rig) {
		c := r.json(dial{roles: allRoles, groups: []string{"g"}})
		c.send(`{"type":"sendToGroup","group":"g","data":1,"metadata":{"a":"1","b":"2"}}`)
		c.wantPart(`"metadata":{"a":"1","b":"2"}`)
	}},
	60: {"a token that expires, then the connection stays open", func(r *rig) {
		// The skew is 5 minutes: this one has less than a second left.
		o := access.ClientTokenOptions{Issued: time.Now().Add(-time.Hour), Expires: time.Now().Add(-5*time.Minute + 900*time.Millisecond)}
		token := r.sign("", o)
		c := r.json(dial{token: token})
		eventually(r.t, "the token is over", func() bool {
			resp, other := r.handshake(dial{token: token})
			other.net.Close()
			return resp.StatusCode == 401
		})
		c.wantNothing()
	}},
	61: {"a half-open socket, then a recovery takes over", func(r *rig) {
		c := r.reliable(dial{groups: []string{"g"}})
		r.recovered(c).wantNumbered(r, 1)
		c.wantEOF()
	}},
	62: {"a recovery, then the first frame is connected with the same connection id", func(r *rig) {
		c := r.reliable(dial{user: "ann", groups: []string{"g"}})
		c.leave(r)
		r.publish("g", "1")
		back := r.connect(again("", c.id, c.token))
		back.wantPart(`{"type":"system","event":"connected","userId":"ann","connectionId":"`+c.id+`"`, "reconnectionToken")
	}},
}

// Lines that are held elsewhere, and where.
var elsewhere = map[int]string{
	17: "conformance/js/test/client-sdk.test.js: an idle client stays connected",
}

func TestChecklist(t *testing.T) {
	for n := 1; n <= 70; n++ {
		line, ok := checklist[n]
		if more, found := checklistMore[n]; found {
			line, ok = more, true
		}
		if elsewhere[n] != "" {
			continue
		}
		if !ok {
			t.Errorf("line %d is not covered", n)
			continue
		}
		t.Run(fmt.Sprintf("%d: given %s", n, line.given), func(t *testing.T) { line.then(newRig(t, rigOptions{})) })
	}
}

func (r *rig) wantStatus(want int, d dial) {
	r.t.Helper()
	if resp, _ := r.handshake(d); resp.StatusCode != want {
		r.t.Errorf("answered %d, want %d", resp.StatusCode, want)
	}
}

// sign makes a client token for chat; with the primary key unless another is given.
func (r *rig) sign(key string, o access.ClientTokenOptions) string {
	r.t.Helper()
	in, _ := r.settings.Snapshot().Instance("default")
	o.Audience = either(o.Audience, access.ClientAudience(r.origin(r.base), "chat", ""))
	token, err := access.SignClientToken(either(key, in.Keys.Primary), o)
	if err != nil {
		r.t.Fatal(err)
	}
	return token
}

// conn is the service's end of a client of chat.
func (r *rig) conn(c *wsClient) *hub.Conn {
	r.t.Helper()
	conn, ok := r.hubs.Hub("default", "chat").Connection(c.id)
	if !ok {
		r.t.Fatal("the client is not in the hub")
	}
	return conn
}

// wantRefused expects a request to end the connection.
func (c *wsClient) wantRefused(request string, code hub.CloseCode) {
	c.t.Helper()
	c.send(request)
	c.wantPart(`"event":"disconnected"`)
	c.wantClose(code, "Invalid request")
}

func (r *rig) recovered(c *reliable) *reliable {
	r.t.Helper()
	return greeted(r.connect(again("", c.id, c.token)))
}

// leave cuts the client off and waits until the service has noticed.
func (c *reliable) leave(r *rig) {
	c.t.Helper()
	conn := r.conn(c.wsClient)
	c.net.Close()
	eventually(c.t, "the service notices", func() bool { return !conn.Send(hub.NewFrame(hub.OpPing, nil)) })
}

// acknowledge returns when the acknowledgement has been dealt with.
func (c *reliable) acknowledge(id int) {
	c.t.Helper()
	c.send(fmt.Sprintf(`{"type":"sequenceAck","sequenceId":%d}`, id))
	c.wantNothing()
}

// wantNumbered publishes to group g and expects the messages under these numbers.
func (c *reliable) wantNumbered(r *rig, numbers ...int) {
	c.t.Helper()
	for _, n := range numbers {
		r.publish("g", fmt.Sprint(n))
	}
	c.wantReplay(numbers...)
}

// wantReplay expects messages of group g whose text is their number, and nothing more.
func (c *reliable) wantReplay(numbers ...int) {
	c.t.Helper()
	for _, n := range numbers {
		c.wantText(fmt.Sprintf(`%s%d","sequenceId":%d}`, numberedMessage, n, n))
	}
	c.wantNothing()
}
