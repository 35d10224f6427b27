package clientws

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gobwas/ws"

	"tabard/internal/eventhandler"
	"tabard/internal/hub"
	"tabard/internal/settings"
)

func ackOK(id int) string { return fmt.Sprintf(`{"type":"ack","ackId":%d,"success":true}`, id) }

func ackFailed(id int, name, message string) string {
	return fmt.Sprintf(`{"type":"ack","ackId":%d,"success":false,"error":{"name":%q,"message":%q}}`, id, name, message)
}

func fromGroup(group, user, data string) string {
	from := "null"
	if user != "" {
		from = `"` + user + `"`
	}
	return fmt.Sprintf(`{"type":"message","from":"group","group":%q,"fromUserId":%s,"dataType":"json","data":%s}`, group, from, data)
}

func TestAJSONClientsLife(t *testing.T) {
	r := newRig(t, rigOptions{})
	everyWay(t, r, func(t *testing.T, addr string) {
		n := len(r.app.events("connected"))
		c := r.json(dial{addr: addr, user: "u1", roles: allRoles})
		e := r.app.wait(t, "connected", n+1)
		if e.user != "u1" || e.connection != c.id || e.subprotocol != jsonProtocol || e.body != "{}" {
			t.Errorf("connected says %+v", e)
		}
		c.send(`{"type":"joinGroup","group":"g","ackId":1}`)
		c.wantText(ackOK(1))
		c.send(`{"type":"sendToGroup","group":"g","ackId":2,"data":{"x" : 1.0}}`)
		c.wantText(fromGroup("g", "u1", `{"x" : 1.0}`)) // the own message, before the ack
		c.wantText(ackOK(2))
		c.send(`{"type":"ping"}`)
		c.wantText(`{"type":"pong"}`)
		c.send(`{"type":"leaveGroup","group":"g","ackId":3}`)
		c.wantText(ackOK(3))
		c.send(`{"type":"sendToGroup","group":"g","ackId":4,"data":1}`)
		c.wantText(ackOK(4))
		c.send(`{"type":"sequenceAck","sequenceId":1}`) // ignored here
		c.wantNothing()
		c.close()
		e = r.app.wait(t, "disconnected", n+1)
		if e.user != "u1" || e.connection != c.id || e.body != `{"reason":""}` {
			t.Errorf("disconnected says %+v", e)
		}
	})
}

func TestConnectedSaysWhoOneIs(t *testing.T) {
	r := newRig(t, rigOptions{})
	c := r.connect(dial{user: "u1", subprotocols: []string{jsonProtocol}})
	var frame struct {
		Type, Event, ConnectionID string
		UserID                    *string
		ReconnectionToken         *string
	}
	if err := json.Unmarshal([]byte(c.text()), &frame); err != nil || frame.Type != "system" || frame.Event != "connected" ||
		len(frame.ConnectionID) != 32 || frame.UserID == nil || *frame.UserID != "u1" || frame.ReconnectionToken != nil {
		t.Errorf("got %+v, %v", frame, err)
	}
	c = r.connect(dial{subprotocols: []string{jsonProtocol}})
	if text := c.text(); !strings.Contains(text, `"userId":null`) {
		t.Errorf("got %s", text)
	}
}

func TestMessagesReachMembersInTheirOwnForm(t *testing.T) {
	r := newRig(t, rigOptions{})
	sender := r.json(dial{user: "u1", roles: allRoles, groups: []string{"g"}})
	member := r.json(dial{groups: []string{"g"}})
	raw := r.connect(dial{groups: []string{"g"}})
	other := r.json(dial{groups: []string{"h"}})
	for _, test := range []struct {
		name, rest string // of the request
		json       string // dataType and data
		op         ws.OpCode
		raw        string
	}{
		{"json", `"data":{"n":12345678901234567890,"e":1.50e+1}`, `"dataType":"json","data":{"n":12345678901234567890,"e":1.50e+1}`, ws.OpText, `{"n":12345678901234567890,"e":1.50e+1}`},
		{"a json string keeps its quotes", `"dataType":"JSON","data":"a\"b"`, `"dataType":"json","data":"a\"b"`, ws.OpText, `"a\"b"`},
		{"text", `"dataType":"text","data":"é\n"`, `"dataType":"text","data":"é\n"`, ws.OpText, "é\n"},
		{"binary", `"dataType":"binary","data":"AAH/"`, `"dataType":"binary","data":"AAH/"`, ws.OpBinary, "\x00\x01\xff"},
		{"protobuf", `"dataType":"protobuf","data":"CgN0L3gSAQE="`, `"dataType":"protobuf","data":"CgN0L3gSAQE="`, ws.OpBinary, "\n\x03t/x\x12\x01\x01"},
		{"with metadata", `"data":1,"metadata":{"k":"v","a":""}`, `"dataType":"json","data":1,"metadata":{"k":"v","a":""}`, ws.OpText, "1"},
		{"metadata alone", `"metadata":{"k":"v"}`, `"dataType":"text","data":"","metadata":{"k":"v"}`, ws.OpText, ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			sender.send(`{"type":"sendToGroup","group":"g","noEcho":true,` + test.rest + `}`)
			member.wantText(`{"type":"message","from":"group","group":"g","fromUserId":"u1",` + test.json + `}`)
			raw.want(test.op, test.raw)
			sender.wantNothing()
			other.wantNothing()
		})
	}
}

func TestNoEchoSparesTheSendersConnectionOnly(t *testing.T) {
	r := newRig(t, rigOptions{})
	a := r.json(dial{user: "u", roles: allRoles, groups: []string{"g"}})
	b := r.json(dial{user: "u", groups: []string{"g"}})
	a.send(`{"type":"sendToGroup","group":"g","ackId":1,"noEcho":true,"data":1}`)
	a.wantText(ackOK(1))
	b.wantText(fromGroup("g", "u", "1"))
}

func TestPermissionsAreChecked(t *testing.T) {
	r := newRig(t, rigOptions{})
	for _, test := range []struct {
		name  string
		roles []string
		send  string
		want  string // ack; empty: nothing
	}{
		{"join without a role", nil, `{"type":"joinGroup","group":"g","ackId":1}`, ackFailed(1, "Forbidden", "The client does not have permission to join group 'g'.")},
		{"leave without a role", nil, `{"type":"leaveGroup","group":"g","ackId":1}`, ackFailed(1, "Forbidden", "The client does not have permission to leave group 'g'.")},
		{"send without a role", nil, `{"type":"sendToGroup","group":"g","data":1,"ackId":1}`, ackFailed(1, "Forbidden", "The client does not have permission to send to group 'g'.")},
		{"send without role and ackId", nil, `{"type":"sendToGroup","group":"g","data":1}`, ""},
		{"join by pattern", []string{"webpubsub.joinLeaveGroups.a.**"}, `{"type":"joinGroup","group":"a.b.c","ackId":1}`, ackOK(1)},
		{"send by pattern", []string{"webpubsub.sendToGroups.clientA.*"}, `{"type":"sendToGroup","group":"clientA.x","data":1,"ackId":1}`, ackOK(1)},
		{"send beyond the pattern", []string{"webpubsub.sendToGroups.clientA.*"}, `{"type":"sendToGroup","group":"clientA.x.y","data":1,"ackId":1}`, ackFailed(1, "Forbidden", "The client does not have permission to send to group 'clientA.x.y'.")},
		{"a pattern with six stars grants nothing", []string{"webpubsub.sendToGroups.******"}, `{"type":"sendToGroup","group":"g","data":1,"ackId":1}`, ackFailed(1, "Forbidden", "The client does not have permission to send to group 'g'.")},
		{"one group", []string{"webpubsub.joinLeaveGroup.g"}, `{"type":"joinGroup","group":"g","ackId":1}`, ackOK(1)},
	} {
		t.Run(test.name, func(t *testing.T) {
			r.t = t
			witness := r.json(dial{groups: []string{"g"}})
			c := r.json(dial{roles: test.roles})
			c.send(test.send)
			if test.want != "" {
				c.wantText(test.want)
			}
			c.wantNothing()
			witness.wantNothing()
		})
	}
}

func TestAckIDsAreRemembered(t *testing.T) {
	r := newRig(t, rigOptions{})
	c := r.json(dial{roles: allRoles, groups: []string{"g"}})
	duplicate := func(id string) string {
		return `{"type":"ack","ackId":` + id + `,"success":false,"error":{"name":"Duplicate","message":"Message with ack-id: ` + id + ` has been processed"}}`
	}
	send := `{"type":"sendToGroup","group":"g","data":1,"ackId":7}`
	c.send(send)
	c.wantText(fromGroup("g", "", "1"))
	c.wantText(ackOK(7))
	c.send(send)
	c.wantText(duplicate("7"))
	c.send(`{"type":"joinGroup","group":"h","ackId":7}`) // the memory is shared by all kinds
	c.wantText(duplicate("7"))
	c.send(`{"type":"joinGroup","group":"h","ackId":18446744073709551615}`)
	c.wantText(`{"type":"ack","ackId":18446744073709551615,"success":true}`)
	c.send(`{"type":"joinGroup","group":"h","ackId":18446744073709551615}`)
	c.wantText(duplicate("18446744073709551615"))

	failing := r.json(dial{})
	failing.send(`{"type":"joinGroup","group":"g","ackId":1}`)
	forbidden := ackFailed(1, "Forbidden", "The client does not have permission to join group 'g'.")
	failing.wantText(forbidden)
	failing.send(`{"type":"joinGroup","group":"g","ackId":1}`)
	failing.wantText(forbidden) // a failed request may be repeated
	conn, _ := r.hubs.Lookup("default", "chat").Connection(failing.id)
	conn.Grant(hub.JoinLeaveGroup, "g")
	failing.send(`{"type":"joinGroup","group":"g","ackId":1}`)
	failing.wantText(ackOK(1))
}

func TestBadRequestsEndTheConnection(t *testing.T) {
	r := newRig(t, rigOptions{})
	for name, frame := range map[string][]byte{
		"not JSON":               frameBytes(true, ws.OpText, "hello"),
		"unknown type":           frameBytes(true, ws.OpText, `{"type":"dance"}`),
		"text that is no text":   frameBytes(true, ws.OpText, `{"type":"sendToGroup","group":"g","dataType":"text","data":1}`),
		"binary that is no JSON": frameBytes(true, ws.OpBinary, "\x00"),
	} {
		t.Run(name, func(t *testing.T) {
			r.t = t
			n := len(r.app.events("disconnected"))
			c := r.json(dial{roles: allRoles})
			c.raw(frame)
			if text := c.text(); !strings.HasPrefix(text, `{"type":"system","event":"disconnected","message":"Invalid request: `) {
				t.Errorf("got %s", text)
			}
			c.wantClose(hub.CloseInvalidData, "Invalid request: ")
			if e := r.app.wait(t, "disconnected", n+1); e.body != `{"reason":"Bad request"}` {
				t.Errorf("disconnected says %s", e.body)
			}
		})
	}
	c := r.json(dial{roles: allRoles})
	c.frame(true, ws.OpBinary, `{"type":"ping"}`) // JSON in a binary frame is fine
	c.wantText(`{"type":"pong"}`)
}

func TestUserEventsAreAnswered(t *testing.T) {
	r := newRig(t, rigOptions{})
	c := r.json(dial{user: "u", subprotocols: []string{jsonProtocol}})
	for i, test := range []struct {
		name              string
		send              string // data type and data
		contentType, body string // that the handler gets
		answerType        string
		answer            string
		want              string // the message; empty: none
	}{
		{"text for text", `"dataType":"text","data":"hi"`, "text/plain; charset=utf-8", "hi", "text/plain", "ho", `"dataType":"text","data":"ho"`},
		{"json for json", `"data":{"a" : 1.0}`, "application/json", `{"a" : 1.0}`, "application/json; charset=utf-8", `{"b" : 2.0}`, `"dataType":"json","data":{"b" : 2.0}`},
		{"binary for binary", `"dataType":"binary","data":"AQ=="`, "application/octet-stream", "\x01", "application/octet-stream", "\x02", `"dataType":"binary","data":"Ag=="`},
		{"protobuf", `"dataType":"protobuf","data":"CgN0L3gSAQE="`, "application/x-protobuf", "\n\x03t/x\x12\x01\x01", "application/x-protobuf", "\x02", `"dataType":"protobuf","data":"Ag=="`},
		{"nothing", `"dataType":"text","data":""`, "text/plain; charset=utf-8", "", "text/plain", "", ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			c.t = t
			r.app.reply("ask", test.answerType, test.answer)
			c.send(fmt.Sprintf(`{"type":"event","event":"ask","ackId":%d,%s}`, i, test.send))
			if test.want != "" {
				c.wantText(`{"type":"message","from":"server",` + test.want + `}`) // before the ack
			}
			c.wantText(ackOK(i))
			e := r.app.wait(t, "ask", i+1)
			if e.contentType != test.contentType || e.body != test.body || e.connection != c.id || e.user != "u" {
				t.Errorf("the handler got %+v", e)
			}
		})
	}
	r.app.on("meta", func(w http.ResponseWriter, q *http.Request) {
		w.Header().Set("X-WebPubSub-Metadata-Back", q.Header.Get("X-WebPubSub-Metadata-K"))
	})
	c.send(`{"type":"event","event":"meta","metadata":{"k":"v"}}`)
	c.wantText(`{"type":"message","from":"server","dataType":"text","data":"","metadata":{"back":"v"}}`)
}

func TestFailedEventsOfJSONClientsAreAcked(t *testing.T) {
	r := newRig(t, rigOptions{})
	c := r.json(dial{})
	r.app.fail("ask", 400)
	failed := ackFailed(8, "InternalServerError", "Internal server error")
	c.send(`{"type":"event","event":"ask","ackId":8,"data":1}`)
	c.wantText(failed)
	c.send(`{"type":"event","event":"ask","data":1}`) // nobody wants to know
	c.wantNothingOfEvents()
	r.app.reply("ask", "text/plain", "now")
	c.send(`{"type":"event","event":"ask","ackId":8,"data":1}`) // a failed one may be repeated
	c.wantText(`{"type":"message","from":"server","dataType":"text","data":"now"}`)
	c.wantText(ackOK(8))

	r.configure(func(h *settings.Hub) { h.EventHandlers = nil })
	c.send(`{"type":"event","event":"ask","ackId":9,"data":1}`)
	c.wantText(ackFailed(9, "InternalServerError", "Internal server error"))
	c.wantNothing()

	r.configure(func(h *settings.Hub) { h.Extensions.DropOnUserEventFailure = true }) // reaches the next event
	r.app.fail("ask", 500)
	c.send(`{"type":"event","event":"ask","ackId":10,"data":1}`)
	c.text() // disconnected
	c.wantClose(hub.CloseInternal, "Event handler invocation failed")
}

func TestASimpleClientsFramesAreEvents(t *testing.T) {
	r := newRig(t, rigOptions{})
	everyWay(t, r, func(t *testing.T, addr string) {
		n := len(r.app.events("message"))
		c := r.connect(dial{addr: addr, user: "u"})
		r.app.reply("message", "application/json", `"quoted"`)
		c.send("hi")
		c.wantText(`"quoted"`)
		if e := r.app.wait(t, "message", n+1); e.contentType != "text/plain; charset=utf-8" || e.body != "hi" || e.user != "u" || e.subprotocol != "" {
			t.Errorf("the handler got %+v", e)
		}
		r.app.reply("message", "application/octet-stream", "\x00")
		c.frame(true, ws.OpBinary, "\xff")
		c.want(ws.OpBinary, "\x00")
		if e := r.app.wait(t, "message", n+2); e.contentType != "application/octet-stream" || e.body != "\xff" {
			t.Errorf("the handler got %+v", e)
		}
		r.app.on("message", nil)
		c.send("no answer")
		r.app.wait(t, "message", n+3)
		c.wantNothing()
		r.app.on("message", func(w http.ResponseWriter, _ *http.Request) { w.Header().Set("x-webpubsub-metadata-a", "b") })
		c.send("metadata alone")
		c.wantText("")
		c.send(`{"type":"joinGroup","group":"g"}`) // just text here
		c.wantText("")
	})
}

func TestASimpleClientWhoseEventFailsIsClosed(t *testing.T) {
	r := newRig(t, rigOptions{})
	r.app.fail("message", 500)
	c := r.connect(dial{})
	c.send("x")
	c.wantClose(hub.CloseInternal, "Event handler invocation failed.")
	if e := r.app.wait(t, "disconnected", 1); e.body != `{"reason":"Event handler invocation failed"}` {
		t.Errorf("disconnected says %s", e.body)
	}
	r.configure(func(h *settings.Hub) { h.EventHandlers[0].UserEventPattern = "other" })
	c = r.connect(dial{})
	c.send("x")
	c.wantClose(hub.CloseInternal, "Event handler not found.")
	if e := r.app.wait(t, "disconnected", 2); e.body != `{"reason":"Event handler not found"}` {
		t.Errorf("disconnected says %s", e.body)
	}
}

func TestASimpleClientCanSendToAGroup(t *testing.T) {
	r := newRig(t, rigOptions{})
	member := r.json(dial{groups: []string{"G"}})
	mode := url.Values{"webpubsub_mode": {"SENDTOGROUP"}, "group": {"G"}}
	c := r.connect(dial{user: "u", query: mode, roles: []string{"webpubsub.sendToGroup.G"}, groups: []string{"G"}})
	c.send("hi")
	member.wantText(`{"type":"message","from":"group","group":"G","fromUserId":"u","dataType":"text","data":"hi"}`)
	c.wantText("hi") // an echo, because it is a member
	c.frame(true, ws.OpBinary, "\x01")
	member.wantText(`{"type":"message","from":"group","group":"G","fromUserId":"u","dataType":"binary","data":"AQ=="}`)
	c.want(ws.OpBinary, "\x01")

	quiet := r.connect(dial{query: url.Values{"webpubsub_mode": {"sendToGroup"}, "group": {"G"}, "noEcho": {"true"}}, roles: allRoles, groups: []string{"G"}})
	quiet.send("x")
	member.text()
	c.wantText("x")
	quiet.wantNothing()

	stranger := r.connect(dial{query: mode})
	stranger.send("x")
	stranger.wantNothing() // no role: no delivery, and no way to say so
	member.wantNothing()
	if len(r.app.events("message")) != 0 {
		t.Error("the application was asked")
	}
	// The mode is for simple clients only.
	j := r.json(dial{query: mode})
	j.send(`{"type":"event","event":"e","ackId":1,"data":1}`)
	j.wantText(ackOK(1))
}

func TestWhileAnEventIsPendingTheConnectionsNextFrameWaits(t *testing.T) {
	r := newRig(t, rigOptions{})
	everyWay(t, r, func(t *testing.T, addr string) {
		n := len(r.app.events("slow"))
		release := make(chan struct{})
		let := sync.OnceFunc(func() { close(release) })
		defer let()
		r.app.on("slow", func(http.ResponseWriter, *http.Request) { <-release })
		c := r.json(dial{addr: addr})
		c.send(`{"type":"event","event":"slow","ackId":1,"data":1}`)
		c.send(`{"type":"event","event":"next","ackId":2,"data":1}`)
		c.frame(true, ws.OpPing, "x")
		r.app.wait(t, "slow", n+1)
		other := r.json(dial{addr: addr}) // others go on
		other.send(`{"type":"ping"}`)
		other.wantText(`{"type":"pong"}`)
		conn, _ := r.hubs.Lookup("default", "chat").Connection(c.id)
		conn.SendMessage(&hub.Message{Type: hub.Text, Data: []byte("still delivered")})
		c.wantText(`{"type":"message","from":"server","dataType":"text","data":"still delivered"}`)
		if len(r.app.events("next")) != n {
			t.Error("the second event overtook the first")
		}
		let()
		c.wantText(ackOK(1))
		c.send(`{"type":"joinGroup","group":"none","ackId":3}`)
		var rest []string // what asks for no event does not wait for the second one
		for range 3 {
			_, payload, err := c.next()
			if err != nil {
				t.Fatal(err)
			}
			rest = append(rest, payload)
		}
		if slices.Sort(rest); rest[0] != "x" || rest[1] != ackOK(2) || !strings.Contains(rest[2], `"ackId":3`) {
			t.Errorf("got %q", rest)
		}
	})
}

func TestPingsAreAnsweredWhileAnEventIsPending(t *testing.T) {
	r := newRig(t, rigOptions{})
	entered, release := make(chan struct{}), make(chan struct{})
	r.app.on("slow", func(http.ResponseWriter, *http.Request) { close(entered); <-release })
	c := r.reliable(dial{groups: []string{"g"}})
	c.send(`{"type":"event","event":"slow","ackId":1,"data":1}`)
	<-entered
	c.send(`{"type":"ping"}`)
	c.wantText(`{"type":"pong"}`)
	c.frame(true, ws.OpPing, "x")
	c.want(ws.OpPong, "x")
	r.publish("g", "one")
	c.wantText(numberedMessage + `one","sequenceId":1}`)
	c.send(`{"type":"sequenceAck","sequenceId":1}`)
	c.send(`{"type":"ping"}`)
	c.wantText(`{"type":"pong"}`)
	c.net.Close()
	back := greeted(r.connect(again("", c.id, c.token)))
	close(release) // the acknowledgement was read: nothing comes again
	back.wantText(ackOK(1))
	back.close()
}

func TestWhatAClientSentBeforeItClosedIsCarriedOut(t *testing.T) {
	for name, end := range map[string]func(*wsClient){
		"with a close frame":    func(c *wsClient) { c.frame(true, ws.OpClose, closeBody(1000, "")) },
		"without one":           func(c *wsClient) { c.net.(interface{ CloseWrite() error }).CloseWrite() },
		"with an invalid frame": func(c *wsClient) { c.send(`{`) },
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, rigOptions{})
			entered, release := make(chan struct{}), make(chan struct{})
			given := make(chan error, 1)
			r.app.on("last", func(_ http.ResponseWriter, q *http.Request) {
				close(entered)
				<-release
				given <- q.Context().Err()
			})
			c := r.json(dial{})
			c.send(`{"type":"event","event":"last","ackId":1,"data":1}`)
			<-entered
			end(c)
			select {
			case err := <-given:
				t.Error("the event was given up:", err)
			case <-time.After(50 * time.Millisecond): // long enough for the end to be read
			}
			close(release)
			if err := <-given; err != nil {
				t.Error(err)
			}
			r.app.wait(t, "disconnected", 1)
		})
	}
}

func TestAPendingEventIsGivenUpWhenTheConnectionIsClosed(t *testing.T) {
	r := newRig(t, rigOptions{})
	gone := make(chan struct{})
	r.app.on("slow", func(_ http.ResponseWriter, q *http.Request) {
		<-q.Context().Done()
		close(gone)
	})
	c := r.json(dial{})
	c.send(`{"type":"event","event":"slow","ackId":1,"data":1}`)
	r.app.wait(t, "slow", 1)
	r.hubs.Lookup("default", "chat").CloseConnection(c.id, "enough")
	c.wantText(`{"type":"system","event":"disconnected","message":"enough"}`)
	c.wantClose(hub.CloseNormal, "enough")
	<-gone
	if e := r.app.wait(t, "disconnected", 1); e.body != `{"reason":"enough"}` || e.id <= r.app.events("slow")[0].id {
		t.Errorf("disconnected says %+v", e)
	}
}

func TestAServersCloseReachesClientAndApplicationInFull(t *testing.T) {
	r := newRig(t, rigOptions{})
	long := strings.Repeat("because ", 30)
	c := r.json(dial{})
	r.hubs.Lookup("default", "chat").CloseConnection(c.id, long)
	c.wantText(`{"type":"system","event":"disconnected","message":"` + long + `"}`)
	c.wantClose(hub.CloseNormal, long[:123])
	if e := r.app.wait(t, "disconnected", 1); e.body != `{"reason":"`+long+`"}` {
		t.Errorf("disconnected says %s", e.body)
	}
}

func TestDisconnectedComesOnceHoweverItEnds(t *testing.T) {
	r := newRig(t, rigOptions{hub: hub.Options{QueueMessages: 10}})
	h := r.hubs.Hub("default", "chat")
	for i, test := range []struct {
		name   string
		end    func(c *wsClient)
		reason string
	}{
		{"a close frame", func(c *wsClient) { c.close() }, ""},
		{"a lost socket", func(c *wsClient) { c.net.Close() }, hub.ReasonLost},
		{"a frame that breaks the rules", func(c *wsClient) {
			c.raw([]byte{0x81, 0x00})
			c.wantClose(hub.CloseProtocol, "masked")
		}, reasonBadRequest},
		{"a server's close and a lost socket", func(c *wsClient) {
			h.CloseConnection(c.id, "go")
			c.net.Close()
		}, "go"},
		{"a client that does not read", func(c *wsClient) {
			conn, _ := h.Connection(c.id)
			big := make([]byte, 1<<20)
			for range 10_000 {
				conn.SendMessage(&hub.Message{Type: hub.Binary, Data: big})
				if conn.Gone() {
					return
				}
			}
		}, hub.ReasonSlowClient},
	} {
		t.Run(test.name, func(t *testing.T) {
			r.t = t
			c := r.json(dial{})
			test.end(c)
			want := fmt.Sprintf(`{"reason":%q}`, test.reason)
			if e := r.app.wait(t, "disconnected", i+1); e.body != want || e.connection != c.id {
				t.Errorf("got %+v, want %s", e, want)
			}
			if _, ok := h.Connection(c.id); ok {
				t.Error("the connection is still there")
			}
		})
	}
	if n, m := len(r.app.events("connected")), len(r.app.events("disconnected")); n != m {
		t.Errorf("%d connected, %d disconnected", n, m)
	}
}

func TestShutdownSendsClientsElsewhere(t *testing.T) {
	r := newRig(t, rigOptions{})
	c, raw := r.json(dial{}), r.connect(dial{})
	done := make(chan error, 1)
	go func() {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		if err := r.hubs.Close(ctx); err != nil {
			done <- err
			return
		}
		done <- r.server.Close(ctx)
	}()
	c.wantText(`{"type":"system","event":"disconnected","message":"Service reload"}`)
	c.wantClose(hub.CloseGoingAway, "Service reload")
	raw.wantClose(hub.CloseGoingAway, "Service reload")
	if err := <-done; err != nil {
		t.Error(err)
	}
	r.app.wait(t, "disconnected", 2)
}

func TestASilentClientIsDroppedAndABusyOneIsNot(t *testing.T) {
	r := newRig(t, rigOptions{hub: hub.Options{
		KeepAlive: func(string, string) time.Duration { return 40 * time.Millisecond },
		PingGrace: 500 * time.Millisecond, Tick: 5 * time.Millisecond,
	}})
	release := make(chan struct{})
	let := sync.OnceFunc(func() { close(release) })
	defer let()
	r.app.on("message", func(http.ResponseWriter, *http.Request) { <-release })
	busy := r.connect(dial{})
	busy.send("x")
	busy.send("y") // waits, and nothing more is read
	r.app.wait(t, "message", 1)
	silent := r.connect(dial{})
	for range 3 {
		silent.want(ws.OpPing, "")
	}
	if e := r.app.wait(t, "disconnected", 1); e.body != `{"reason":"Ping timeout"}` {
		t.Errorf("disconnected says %s", e.body)
	}
	if len(r.app.events("disconnected")) != 1 {
		t.Error("a client whose handler is slow is not silent")
	}
	let()
	live := r.connect(dial{})
	for range 20 { // beyond the time of a silent one
		live.want(ws.OpPing, "")
		live.frame(true, ws.OpPong, "")
	}
}

func TestOneMessageIsALotOfFragments(t *testing.T) {
	r := newRig(t, rigOptions{})
	everyWay(t, r, func(t *testing.T, addr string) {
		c := r.json(dial{addr: addr, roles: allRoles, groups: []string{"g"}})
		text := `{"type":"sendToGroup","group":"g","ackId":1,"data":"é"}`
		for i := range len(text) {
			op := ws.OpContinuation
			if i == 0 {
				op = ws.OpText
			}
			c.frame(i == len(text)-1, op, text[i:i+1])
			if i%10 == 0 {
				c.frame(true, ws.OpPing, "between")
				c.want(ws.OpPong, "between")
			}
		}
		c.wantText(fromGroup("g", "", `"é"`))
		c.wantText(ackOK(1))
	})
}

func TestDataTypesMeanTheSameInBothPackages(t *testing.T) {
	for ours, theirs := range map[hub.DataType]eventhandler.DataType{
		hub.Text: eventhandler.Text, hub.JSON: eventhandler.JSON, hub.Binary: eventhandler.Binary, hub.Protobuf: eventhandler.Protobuf,
	} {
		if uint8(ours) != uint8(theirs) {
			t.Errorf("%v is %d here and %d there", ours, ours, theirs)
		}
	}
	if got := convert[eventhandler.Pair]([]hub.Pair{{Key: "a", Value: "b"}}); !reflect.DeepEqual(got, []eventhandler.Pair{{Key: "a", Value: "b"}}) {
		t.Errorf("got %v", got)
	}
}
