package clientws

import (
	"strings"
	"testing"

	"github.com/gobwas/ws"
	"google.golang.org/protobuf/proto"

	"tabard/internal/hub"
	"tabard/internal/settings"
	pb "tabard/internal/subprotocol/webpubsubpb"
)

// up sends a message of the schema.
func (c *wsClient) up(m *pb.UpstreamMessage) {
	c.t.Helper()
	b, err := proto.Marshal(m)
	if err != nil {
		c.t.Fatal(err)
	}
	c.frame(true, ws.OpBinary, string(b))
}

// down reads one.
func (c *wsClient) down() *pb.DownstreamMessage {
	c.t.Helper()
	op, payload, err := c.next()
	var m pb.DownstreamMessage
	if err != nil || op != ws.OpBinary || proto.Unmarshal([]byte(payload), &m) != nil {
		c.t.Fatalf("got frame %v %q (%v), want a message of the schema", op, payload, err)
	}
	return &m
}

func joinGroup(group string, ack uint64) *pb.UpstreamMessage {
	return &pb.UpstreamMessage{Message: &pb.UpstreamMessage_JoinGroupMessage_{JoinGroupMessage: &pb.UpstreamMessage_JoinGroupMessage{Group: group, AckId: &ack}}}
}

func TestProtobufAndJSONClientsUnderstandEachOther(t *testing.T) {
	r := newRig(t, rigOptions{})
	everyWay(t, r, func(t *testing.T, addr string) {
		for name, isReliable := range map[string]bool{"protobuf.webpubsub.azure.v1": false, "protobuf.reliable.webpubsub.azure.v1": true} {
			c := r.connect(dial{addr: addr, user: "ann", roles: allRoles, subprotocols: []string{name}})
			first := c.down().GetSystemMessage().GetConnectedMessage()
			if first.GetUserId() != "ann" || len(first.GetConnectionId()) != 32 || (first.ReconnectionToken != nil) != isReliable {
				t.Fatalf("connected: %v", first)
			}
			c.up(joinGroup("g", 1<<63))
			if ack := c.down().GetAckMessage(); ack.GetAckId() != 1<<63 || !ack.GetSuccess() {
				t.Errorf("ack: %v", ack)
			}
			j := r.json(dial{addr: addr, user: "bob", roles: allRoles, groups: []string{"g"}})
			j.send(`{"type":"sendToGroup","group":"g","noEcho":true,"dataType":"json","data":{"n": 1.0}}`)
			m := c.down().GetDataMessage()
			if m.GetGroup() != "g" || m.GetData().GetJsonData() != `{"n": 1.0}` || (m.SequenceId != nil) != isReliable {
				t.Errorf("message: %v", m)
			}
			c.up(&pb.UpstreamMessage{Message: &pb.UpstreamMessage_SendToGroupMessage_{SendToGroupMessage: &pb.UpstreamMessage_SendToGroupMessage{
				Group: "g", NoEcho: proto.Bool(true), Data: &pb.MessageData{Data: &pb.MessageData_BinaryData{BinaryData: []byte{1, 2}}},
			}}})
			j.wantText(`{"type":"message","from":"group","group":"g","fromUserId":"ann","dataType":"binary","data":"AQI="}`)
			c.up(&pb.UpstreamMessage{Message: &pb.UpstreamMessage_PingMessage_{PingMessage: &pb.UpstreamMessage_PingMessage{}}})
			if c.down().GetPongMessage() == nil {
				t.Error("no pong")
			}
			r.hubs.Hub("default", "chat").CloseConnection(first.GetConnectionId(), "go")
			if got := c.down().GetSystemMessage().GetDisconnectedMessage().GetReason(); got != "go" {
				t.Errorf("reason %q", got)
			}
			code := hub.CloseNormal
			if isReliable {
				code = hub.ClosePolicy
			}
			c.wantClose(code, "go")
			j.close()
		}
	})
}

func TestAHubMaySendJSONToProtobufClientsAsText(t *testing.T) {
	r := newRig(t, rigOptions{})
	r.configure(func(h *settings.Hub) { h.Extensions.JSONAsText = true })
	r.app.reply("twice", "application/json", `{"n":2}`)
	j := r.json(dial{roles: allRoles, groups: []string{"g"}})
	for name, isReliable := range map[string]bool{"protobuf.webpubsub.azure.v1": false, "protobuf.reliable.webpubsub.azure.v1": true} {
		c := r.connect(dial{groups: []string{"g"}, subprotocols: []string{name}})
		c.down()
		j.send(`{"type":"sendToGroup","group":"g","dataType":"json","data":{"n":1}}`)
		j.wantPart(`"dataType":"json","data":{"n":1}`) // others get JSON
		if m := c.down().GetDataMessage(); m.GetData().GetTextData() != `{"n":1}` || (m.SequenceId != nil) != isReliable {
			t.Errorf("%s: %v", name, m)
		}
		c.up(&pb.UpstreamMessage{Message: &pb.UpstreamMessage_InvokeEventMessage_{InvokeEventMessage: &pb.UpstreamMessage_InvokeEventMessage{
			Event: "twice", InvocationId: "1", Data: &pb.MessageData{Data: &pb.MessageData_JsonData{JsonData: `{"n":1}`}},
		}}})
		if m := c.down().GetInvokeResponseMessage(); m.GetData().GetTextData() != `{"n":2}` {
			t.Errorf("%s: %v", name, m)
		}
	}
}

func TestAProtobufClientRecovers(t *testing.T) {
	r := newRig(t, rigOptions{})
	const name = "protobuf.reliable.webpubsub.azure.v1"
	c := r.connect(dial{groups: []string{"g"}, subprotocols: []string{name}})
	first := c.down().GetSystemMessage().GetConnectedMessage()
	r.publish("g", "one")
	if c.down().GetDataMessage().GetSequenceId() != 1 {
		t.Error("the first message is not number 1")
	}
	c.net.Close()
	r.publish("g", "two")
	d := again("", first.ConnectionId, first.GetReconnectionToken())
	d.subprotocols = []string{name}
	back := r.connect(d)
	if back.down().GetSystemMessage().GetConnectedMessage().GetConnectionId() != first.ConnectionId {
		t.Error("another connection")
	}
	for i, want := range []string{"one", "two"} {
		if m := back.down().GetDataMessage(); m.GetSequenceId() != uint64(i+1) || m.GetData().GetTextData() != want {
			t.Errorf("message %v, want %q", m, want)
		}
	}
	back.close()
}

func TestATextFrameIsNoProtobuf(t *testing.T) {
	r := newRig(t, rigOptions{})
	c := r.connect(dial{subprotocols: []string{"protobuf.webpubsub.azure.v1"}})
	c.down()
	c.send("{}")
	if got := c.down().GetSystemMessage().GetDisconnectedMessage().GetReason(); !strings.Contains(got, "binary frames") {
		t.Errorf("reason %q", got)
	}
	c.wantClose(hub.CloseUnsupported, "binary frames")
}
