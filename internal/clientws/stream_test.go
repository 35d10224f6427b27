package clientws

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	"tabard/internal/hub"
	pb "tabard/internal/subprotocol/webpubsubpb"
)

// wantJSON reads frames until one contains the text; what it passes over must be allowed.
func (c *wsClient) wantPart(parts ...string) string {
	c.t.Helper()
	got := c.text()
	for _, p := range parts {
		if !strings.Contains(got, p) {
			c.t.Fatalf("got %s, want %s in it", got, p)
		}
	}
	return got
}

func TestAStreamReachesItsGroupInOrder(t *testing.T) {
	r := newRig(t, rigOptions{})
	pub, sub := r.json(dial{user: "ann", roles: allRoles, groups: []string{"g"}}), r.json(dial{groups: []string{"g"}})
	pub.send(`{"type":"sendToGroup","group":"g","noEcho":true,"stream":{"streamId":"s"}}`)
	pub.wantText(`{"type":"streamAck","streamId":"s","expectedSequenceId":1}`)
	part := func(n int, data string) {
		pub.send(fmt.Sprintf(`{"type":"streamData","streamId":"s","streamSequenceId":%d,"dataType":"text","data":%q}`, n, data))
	}
	const message = `{"type":"message","from":"group","group":"g","fromUserId":"ann","dataType":"text","data":`
	part(1, "one")
	pub.wantText(`{"type":"streamAck","streamId":"s","expectedSequenceId":2}`)
	sub.wantText(message + `"one","stream":{"streamId":"s","streamSequenceId":1}}`)
	part(1, "one") // again: no second delivery
	pub.wantText(`{"type":"streamAck","streamId":"s","expectedSequenceId":2}`)
	part(3, "three") // one is missing: not delivered
	pub.wantPart(`{"type":"streamNack","streamId":"s","expectedSequenceId":2,"name":"InvalidSequenceId"`)
	pub.send(`{"type":"streamData","streamId":"s"}`) // a sign of life is not answered
	part(2, "two")
	pub.wantText(`{"type":"streamAck","streamId":"s","expectedSequenceId":3}`)
	sub.wantText(message + `"two","stream":{"streamId":"s","streamSequenceId":2}}`)
	pub.send(`{"type":"sendToGroup","group":"g","stream":{"streamId":"s"}}`)
	pub.wantPart(`{"type":"streamClosed","streamId":"s","error":{"name":"BadRequest"`)
	pub.send(`{"type":"streamEnd","streamId":"s"}`)
	pub.wantText(`{"type":"streamClosed","streamId":"s"}`)
	sub.wantText(message + `"","stream":{"streamId":"s","streamSequenceId":3,"endOfStream":true}}`)
	part(3, "late")
	pub.wantPart(`{"type":"streamClosed","streamId":"s","error":{"name":"StreamNotFound"`)
	pub.send(`{"type":"streamEnd","streamId":"s"}`)
	pub.wantPart(`"name":"StreamNotFound"`)
	sub.wantNothing()
}

func TestStreamsEndWithAReason(t *testing.T) {
	r := newRig(t, rigOptions{})
	sub := r.json(dial{groups: []string{"g"}})
	begin := func(c *wsClient, more string) {
		c.send(`{"type":"sendToGroup","group":"g","noEcho":true,"stream":{"streamId":"s"` + more + `}}`)
		c.wantText(`{"type":"streamAck","streamId":"s","expectedSequenceId":1}`)
	}
	t.Run("of the publisher's own", func(t *testing.T) {
		pub := r.json(dial{roles: allRoles})
		begin(pub, "")
		pub.send(`{"type":"streamEnd","streamId":"s","error":{"message":"I gave up","userErrorCode":"E7"}}`)
		pub.wantText(`{"type":"streamClosed","streamId":"s"}`)
		sub.wantPart(`"endOfStream":true,"error":{"name":"UserError","message":"I gave up","userErrorCode":"E7"}`)
	})
	t.Run("because it was idle", func(t *testing.T) {
		pub := r.json(dial{roles: allRoles})
		begin(pub, `,"idleTimeoutMs":50`)
		pub.wantPart(`{"type":"streamClosed","streamId":"s","error":{"name":"IdleTimeout"`)
		sub.wantPart(`"streamSequenceId":1,"endOfStream":true,"error":{"name":"IdleTimeout"`)
	})
	t.Run("because its publisher is gone", func(t *testing.T) {
		pub := r.json(dial{roles: allRoles})
		begin(pub, "")
		pub.net.Close()
		sub.wantPart(`"endOfStream":true,"error":{"name":"Cancelled"`)
	})
	t.Run("because it is not allowed any more", func(t *testing.T) {
		pub := r.json(dial{roles: allRoles})
		begin(pub, "")
		c, _ := r.hubs.Hub("default", "chat").Connection(pub.id)
		if err := c.Revoke(hub.SendToGroup, "g"); err != nil {
			t.Fatal(err)
		}
		pub.send(`{"type":"streamData","streamId":"s","streamSequenceId":1,"dataType":"text","data":"x"}`)
		pub.wantPart(`{"type":"streamClosed","streamId":"s","error":{"name":"Forbidden"`)
		sub.wantPart(`"endOfStream":true,"error":{"name":"Forbidden"`)
	})
	t.Run("before it began", func(t *testing.T) {
		pub := r.json(dial{})
		pub.send(`{"type":"sendToGroup","group":"g","stream":{"streamId":"s"}}`)
		pub.wantPart(`{"type":"streamClosed","streamId":"s","error":{"name":"Forbidden"`)
		sub.wantNothing()
	})
	t.Run("because there are too many", func(t *testing.T) {
		pub := r.json(dial{roles: allRoles})
		for i := range maxStreams {
			pub.send(fmt.Sprintf(`{"type":"sendToGroup","group":"other","stream":{"streamId":"s%d"}}`, i))
			pub.wantPart("streamAck")
		}
		pub.send(`{"type":"sendToGroup","group":"other","stream":{"streamId":"one more"}}`)
		pub.wantPart(`"name":"BadRequest"`)
	})
}

func TestAStreamSurvivesARecovery(t *testing.T) {
	r := newRig(t, rigOptions{})
	sub := r.json(dial{groups: []string{"g"}})
	pub := r.reliable(dial{roles: allRoles})
	pub.send(`{"type":"sendToGroup","group":"g","noEcho":true,"stream":{"streamId":"s"}}`)
	pub.wantPart("streamAck")
	pub.send(`{"type":"streamData","streamId":"s","streamSequenceId":1,"dataType":"json","data":{"a":1}}`)
	pub.wantPart("streamAck")
	sub.wantPart(`"data":{"a":1}`)
	pub.net.Close()
	back := greeted(r.connect(again("", pub.id, pub.token)))
	back.send(`{"type":"streamData","streamId":"s","streamSequenceId":2,"dataType":"text","data":"after"}`)
	back.wantPart(`"expectedSequenceId":3`)
	sub.wantPart(`"data":"after","stream":{"streamId":"s","streamSequenceId":2}`)
	back.close()
	sub.wantPart(`"name":"Cancelled"`)
}

func TestAnInvocationIsAnsweredUnderItsOwnID(t *testing.T) {
	r := newRig(t, rigOptions{})
	r.app.on("sum", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		_, _ = w.Write([]byte(`{"sum": 3}`))
	})
	r.app.fail("bad", 400)
	c := r.reliable(dial{})
	c.send(`{"type":"invoke","invocationId":"i1","target":"event","event":"sum","dataType":"json","data":[1,2]}`)
	c.wantText(`{"type":"invokeResponse","invocationId":"i1","success":true,"dataType":"json","data":{"sum": 3}}`)
	c.send(`{"type":"invoke","invocationId":"i2","target":"event","event":"quiet"}`)
	c.wantText(`{"type":"invokeResponse","invocationId":"i2","success":true}`)
	c.send(`{"type":"invoke","invocationId":"i3","target":"event","event":"bad","dataType":"text","data":""}`)
	c.wantText(`{"type":"invokeResponse","invocationId":"i3","success":false,"error":{"name":"InternalServerError","message":"Internal server error"}}`)
	c.send(`{"type":"cancelInvocation","invocationId":"i3"}`)
	if e := r.app.wait(t, "sum", 1); e.body != "[1,2]" {
		t.Errorf("the application got %q", e.body)
	}
	nobody := r.connect(dial{path: "/client/hubs/nobody", token: r.tokenFor("nobody"), subprotocols: []string{jsonProtocol}})
	nobody.text()
	nobody.send(`{"type":"invoke","invocationId":"i","target":"event","event":"sum"}`)
	nobody.wantPart(`"invocationId":"i","success":false,"error":{"name":"NotFound"`)
	c.close()
}

func TestACancelledInvocationIsGivenUpAndNotAnswered(t *testing.T) {
	r := newRig(t, rigOptions{})
	entered, gone := make(chan struct{}), make(chan struct{})
	r.app.on("slow", func(_ http.ResponseWriter, q *http.Request) {
		entered <- struct{}{}
		<-q.Context().Done()
		gone <- struct{}{}
	})
	c := r.json(dial{})
	p := r.connect(dial{subprotocols: []string{"protobuf.webpubsub.azure.v1"}})
	p.down()
	for name, on := range map[string]struct {
		invoke, cancel func(id string)
		alive          func()
	}{
		"json": {
			func(id string) {
				c.send(`{"type":"invoke","invocationId":"` + id + `","target":"event","event":"slow","dataType":"text","data":"x"}`)
			},
			func(id string) { c.send(`{"type":"cancelInvocation","invocationId":"` + id + `"}`) },
			func() {
				c.send(`{"type":"event","event":"quiet","dataType":"text","data":"","ackId":1}`)
				c.wantText(ackOK(1))
			},
		},
		"protobuf": {
			func(id string) {
				p.up(&pb.UpstreamMessage{Message: &pb.UpstreamMessage_InvokeEventMessage_{InvokeEventMessage: &pb.UpstreamMessage_InvokeEventMessage{Event: "slow", InvocationId: id}}})
			},
			func(id string) {
				p.up(&pb.UpstreamMessage{Message: &pb.UpstreamMessage_CancelInvocationMessage_{CancelInvocationMessage: &pb.UpstreamMessage_CancelInvocationMessage{InvocationId: id}}})
			},
			func() {
				p.up(&pb.UpstreamMessage{Message: &pb.UpstreamMessage_EventMessage_{EventMessage: &pb.UpstreamMessage_EventMessage{
					Event: "quiet", AckId: proto.Uint64(1), Data: &pb.MessageData{Data: &pb.MessageData_TextData{}}}}})
				if p.down().GetAckMessage() == nil {
					t.Error("something else than an ack")
				}
			},
		},
	} {
		t.Run(name, func(t *testing.T) {
			on.invoke("i1")
			<-entered
			on.cancel("another one")
			select {
			case <-gone:
				t.Fatal("it was cancelled by another id")
			case <-time.After(20 * time.Millisecond):
			}
			on.cancel("i1")
			<-gone
			on.alive() // the first thing that comes is its ack
		})
	}
}

func TestWhoWasAwaySeesTheStatesAfresh(t *testing.T) {
	r := newRig(t, rigOptions{})
	a := r.json(dial{user: "ann", roles: allRoles, groups: []string{"g"}})
	w := r.reliable(dial{roles: allRoles, groups: []string{"g", "other"}})
	a.send(`{"type":"setGroupState","group":"g","state":{"n":"1"},"ackId":1}`)
	a.wantText(ackOK(1))
	w.send(`{"type":"subscribeGroupState","group":"g"}`)
	w.wantPart("groupStateSnapshot", `"n":"1"`)
	w.net.Close()
	conn, _ := r.hubs.Hub("default", "chat").Connection(w.id)
	eventually(t, "it is away", func() bool { return !conn.Send(hub.NewFrame(hub.OpText, []byte("?"))) })
	a.send(`{"type":"setGroupState","group":"g","state":{"n":"2"},"ackId":2}`)
	a.wantText(ackOK(2))
	r.publish("g", "meanwhile")
	back := greeted(r.connect(again("", w.id, w.token)))
	back.wantText(numberedMessage + `meanwhile","sequenceId":1}`)
	back.wantPart("groupStateSnapshot", `"n":"2"`)
	a.send(`{"type":"setGroupState","group":"g"}`)
	back.wantPart("groupStateUpdate", a.id)
	back.close()
}

func TestWhoWatchesTooMuchIsToldSo(t *testing.T) {
	r := newRig(t, rigOptions{})
	c := r.json(dial{roles: allRoles})
	for i := range hub.MaxStates {
		c.send(fmt.Sprintf(`{"type":"subscribeGroupState","group":"g%d"}`, i))
		c.wantPart("groupStateSnapshot")
	}
	c.send(`{"type":"subscribeGroupState","group":"one more","ackId":1}`)
	c.wantPart(`"ackId":1,"success":false,"error":{"name":"Forbidden"`)
	c.send(`{"type":"unsubscribeGroupState","group":"g7"}`)
	c.send(`{"type":"subscribeGroupState","group":"one more","ackId":1}`)
	c.wantText(ackOK(1))
	c.wantPart("groupStateSnapshot", "one more")
}

func TestSimpleClientsSeeAStreamsPartsAndNotItsEnd(t *testing.T) {
	r := newRig(t, rigOptions{})
	raw := r.connect(dial{groups: []string{"g"}})
	pub := r.json(dial{roles: allRoles})
	pub.send(`{"type":"sendToGroup","group":"g","stream":{"streamId":"s"}}`)
	pub.wantPart("streamAck")
	pub.send(`{"type":"streamData","streamId":"s","streamSequenceId":1,"dataType":"json","data":{"a":1}}`)
	pub.wantPart("streamAck")
	pub.send(`{"type":"streamEnd","streamId":"s"}`)
	pub.wantPart("streamClosed")
	r.publish("g", "after")
	raw.wantText(`{"a":1}`)
	raw.wantText("after")
}

func TestMembersShowTheirStateToThoseWhoWatch(t *testing.T) {
	r := newRig(t, rigOptions{})
	a, b := r.json(dial{user: "ann", roles: allRoles, groups: []string{"g"}}), r.json(dial{user: "bob", roles: allRoles, groups: []string{"g"}})
	p := r.connect(dial{roles: allRoles, subprotocols: []string{"protobuf.webpubsub.azure.v1"}})
	p.down()
	a.send(`{"type":"setGroupState","group":"g","ackId":1,"state":{"status":"typing","a":"1"}}`)
	a.wantText(`{"type":"ack","ackId":1,"success":true}`)
	b.send(`{"type":"subscribeGroupState","group":"g","ackId":2}`)
	b.wantText(`{"type":"ack","ackId":2,"success":true}`)
	b.wantPart(`{"type":"groupStateSnapshot","group":"g","items":[{"connectionId":"` + a.id + `","userId":"ann","state":{"a":"1","status":"typing"},"updatedAt":`)
	p.up(&pb.UpstreamMessage{Message: &pb.UpstreamMessage_SubscribeGroupStateMessage_{SubscribeGroupStateMessage: &pb.UpstreamMessage_SubscribeGroupStateMessage{Group: "g"}}})
	if items := p.down().GetGroupStateSnapshotMessage().GetItems(); len(items) != 1 || items[0].State.Entries["status"] != "typing" {
		t.Errorf("snapshot %v", items)
	}
	b.send(`{"type":"setGroupState","group":"g","state":{}}`)
	b.wantPart(`{"type":"groupStateUpdate","group":"g","items":[{"connectionId":"` + b.id + `","userId":"bob","state":{},"updatedAt":`)
	if items := p.down().GetGroupStateUpdateMessage().GetItems(); len(items) != 1 || items[0].GetUserId() != "bob" {
		t.Errorf("update %v", items)
	}
	a.send(`{"type":"setGroupState","group":"g"}`)
	if got := b.text(); !strings.Contains(got, a.id) || strings.Contains(got, `"state"`) {
		t.Errorf("a cleared state is shown as %s", got)
	}
	p.down()
	a.send(`{"type":"setGroupState","group":"g","state":{"x":"y"}}`)
	b.wantPart(`"x":"y"`)
	p.down()
	a.send(`{"type":"leaveGroup","group":"g"}`)
	if got := b.text(); !strings.Contains(got, a.id) || strings.Contains(got, `"state"`) {
		t.Errorf("who left still shows %s", got)
	}
	p.down()
	a.send(`{"type":"setGroupState","group":"g","ackId":9,"state":{"x":"y"}}`)
	a.wantPart(`"ackId":9,"success":false,"error":{"name":"Forbidden"`)
	b.send(`{"type":"unsubscribeGroupState","group":"g","ackId":3}`)
	b.wantPart(`"ackId":3,"success":true`)
	b.close()
	if items := p.down().GetGroupStateUpdateMessage().GetItems(); len(items) != 1 || items[0].ConnectionId != b.id || items[0].State != nil {
		t.Errorf("after the end of a connection: %v", items)
	}
	stranger := r.json(dial{})
	stranger.send(`{"type":"subscribeGroupState","group":"g","ackId":1}`)
	stranger.wantPart(`"success":false,"error":{"name":"Forbidden"`)
}

func TestUpdatesOfOneStateHaveIncreasingTimes(t *testing.T) {
	r := newRig(t, rigOptions{})
	a := r.json(dial{roles: allRoles, groups: []string{"g"}})
	a.send(`{"type":"subscribeGroupState","group":"g"}`)
	a.wantText(`{"type":"groupStateSnapshot","group":"g","items":[]}`)
	last := int64(0)
	for i := range 20 {
		a.send(fmt.Sprintf(`{"type":"setGroupState","group":"g","state":{"i":"%d"}}`, i))
		got := a.text()
		var at int64
		if _, err := fmt.Sscanf(got[strings.Index(got, `"updatedAt":`):], `"updatedAt":%d`, &at); err != nil || at <= last || at > time.Now().Add(time.Second).UnixMilli() {
			t.Fatalf("%s after %d (%v)", got, last, err)
		}
		last = at
	}
}
