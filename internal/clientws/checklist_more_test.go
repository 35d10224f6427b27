package clientws

import (
	"encoding/base64"
	"strings"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"tabard/internal/hub"
	pb "tabard/internal/subprotocol/webpubsubpb"
)

const (
	protobufProtocol         = "protobuf.webpubsub.azure.v1"
	reliableProtobufProtocol = "protobuf.reliable.webpubsub.azure.v1"
)

// protobuf connects with a protobuf subprotocol and returns what connected says.
func (r *rig) protobuf(d dial, name string) (*wsClient, *pb.DownstreamMessage_SystemMessage_ConnectedMessage) {
	r.t.Helper()
	d.subprotocols = []string{name}
	c := r.connect(d)
	first := c.down().GetSystemMessage().GetConnectedMessage()
	c.id = first.GetConnectionId()
	return c, first
}

// stream connects a publisher whose stream s to group g is open, and a member.
func (r *rig) stream() (pub, member *wsClient) {
	r.t.Helper()
	pub, member = r.json(dial{roles: allRoles}), r.json(dial{groups: []string{"g"}})
	pub.send(`{"type":"sendToGroup","group":"g","stream":{"streamId":"s"}}`)
	pub.wantText(`{"type":"streamAck","streamId":"s","expectedSequenceId":1}`)
	return pub, member
}

func part(n string) string {
	return `{"type":"streamData","streamId":"s","streamSequenceId":` + n + `,"dataType":"text","data":"x"}`
}

var checklistMore = map[int]struct {
	given string
	then  func(*rig)
}{
	48: {"a protobuf join with ack_id 2^63, then the ack has the same id", func(r *rig) {
		c, _ := r.protobuf(dial{roles: allRoles}, protobufProtocol)
		c.up(joinGroup("g", 1<<63))
		if ack := c.down().GetAckMessage(); ack.GetAckId() != 1<<63 || !ack.GetSuccess() {
			r.t.Errorf("%v", ack)
		}
	}},
	49: {"a protobuf publisher with an Any, then a JSON member gets protobuf and base64 of its bytes", func(r *rig) {
		c, _ := r.protobuf(dial{roles: allRoles}, protobufProtocol)
		member := r.json(dial{groups: []string{"g"}})
		value, err := anypb.New(wrapperspb.String("inside"))
		if err != nil {
			r.t.Fatal(err)
		}
		c.up(&pb.UpstreamMessage{Message: &pb.UpstreamMessage_SendToGroupMessage_{SendToGroupMessage: &pb.UpstreamMessage_SendToGroupMessage{
			Group: "g", Data: &pb.MessageData{Data: &pb.MessageData_ProtobufData{ProtobufData: value}}}}})
		want, _ := proto.Marshal(value)
		member.wantPart(`"dataType":"protobuf","data":"` + base64.StdEncoding.EncodeToString(want) + `"`)
	}},
	50: {"a JSON publisher, then a protobuf member gets json_data", func(r *rig) {
		c, _ := r.protobuf(dial{groups: []string{"g"}}, protobufProtocol)
		r.json(dial{roles: allRoles}).send(`{"type":"sendToGroup","group":"g","data":{"x" : 1.0}}`)
		if got := c.down().GetDataMessage().GetData().GetJsonData(); got != `{"x" : 1.0}` {
			r.t.Errorf("%q", got)
		}
	}},
	51: {"reliable protobuf, then connected has a reconnection_token; on plain protobuf it is absent", func(r *rig) {
		if _, first := r.protobuf(dial{}, reliableProtobufProtocol); first.GetReconnectionToken() == "" {
			r.t.Errorf("%v", first)
		}
		if _, first := r.protobuf(dial{}, protobufProtocol); first.ReconnectionToken != nil {
			r.t.Errorf("%v", first)
		}
	}},
	52: {"a close of a protobuf client by the service, then DisconnectedMessage.reason is field 2", func(r *rig) {
		c, _ := r.protobuf(dial{}, protobufProtocol)
		r.hubs.Hub("default", "chat").CloseConnection(c.id, "why")
		_, payload, err := c.next()
		if err != nil || !strings.HasSuffix(payload, "\x12\x05\x12\x03why") {
			r.t.Errorf("%q %v", payload, err)
		}
	}},
	63: {"a permitted start of a stream, then streamAck 1 is the first of it", func(r *rig) { r.stream() }},
	64: {"part 1 twice, then one delivery and streamAck 2", func(r *rig) {
		pub, member := r.stream()
		for range 2 {
			pub.send(part("1"))
			pub.wantText(`{"type":"streamAck","streamId":"s","expectedSequenceId":2}`)
		}
		member.wantPart(`"streamSequenceId":1}`)
		member.wantNothing()
	}},
	65: {"part 3 when 2 is expected, then streamNack InvalidSequenceId and no delivery", func(r *rig) {
		pub, member := r.stream()
		pub.send(part("1"))
		pub.wantPart("streamAck")
		pub.send(part("3"))
		pub.wantPart(`{"type":"streamNack","streamId":"s","expectedSequenceId":2,"name":"InvalidSequenceId"`)
		member.wantPart(`"streamSequenceId":1}`)
		member.wantNothing()
	}},
	66: {"streamEnd, then members get endOfStream and the publisher streamClosed without error", func(r *rig) {
		pub, member := r.stream()
		pub.send(`{"type":"streamEnd","streamId":"s"}`)
		pub.wantText(`{"type":"streamClosed","streamId":"s"}`)
		member.wantPart(`"stream":{"streamId":"s","streamSequenceId":1,"endOfStream":true}`)
	}},
	67: {"no activity for idleTimeoutMs, then streamClosed IdleTimeout and a terminal message", func(r *rig) {
		pub, member := r.json(dial{roles: allRoles}), r.json(dial{groups: []string{"g"}})
		pub.send(`{"type":"sendToGroup","group":"g","stream":{"streamId":"s","idleTimeoutMs":30}}`)
		pub.wantPart("streamAck")
		pub.wantPart(`{"type":"streamClosed","streamId":"s","error":{"name":"IdleTimeout"`)
		member.wantPart(`"endOfStream":true,"error":{"name":"IdleTimeout"`)
	}},
	68: {"invoke and a handler's reply, then one invokeResponse with id, type and data", func(r *rig) {
		c := r.json(dial{})
		r.app.reply("e", "application/json", `{"a":1}`)
		c.send(`{"type":"invoke","invocationId":"i","target":"event","event":"e","dataType":"text","data":"x"}`)
		c.wantText(`{"type":"invokeResponse","invocationId":"i","success":true,"dataType":"json","data":{"a":1}}`)
		c.wantNothingOfEvents()
	}},
	69: {"subscribeGroupState, then ack and snapshot; after another's setGroupState an update", func(r *rig) {
		c, other := r.json(dial{roles: allRoles}), r.json(dial{roles: allRoles, groups: []string{"g"}})
		c.send(`{"type":"subscribeGroupState","group":"g","ackId":1}`)
		c.wantText(ackOK(1))
		c.wantText(`{"type":"groupStateSnapshot","group":"g","items":[]}`)
		other.send(`{"type":"setGroupState","group":"g","state":{"a":"b"}}`)
		c.wantPart(`{"type":"groupStateUpdate","group":"g"`, other.id, `"state":{"a":"b"}`)
	}},
	70: {"a JSON client that never asked, then it never gets frames that it does not know", func(r *rig) {
		c := r.json(dial{groups: []string{"g"}})
		pub := r.json(dial{roles: allRoles, groups: []string{"g"}})
		pub.send(`{"type":"subscribeGroupState","group":"g","ackId":1}`)
		pub.send(`{"type":"setGroupState","group":"g","state":{"a":"b"}}`)
		pub.send(`{"type":"sendToGroup","group":"g","noEcho":true,"stream":{"streamId":"s"}}`)
		pub.send(`{"type":"streamEnd","streamId":"s"}`)
		pub.send(`{"type":"invoke","invocationId":"i","target":"event","event":"e"}`)
		pub.send(`{"type":"ping"}`)
		for _, want := range []string{"ack", "groupStateSnapshot", "groupStateUpdate", "streamAck", "streamClosed"} {
			pub.wantPart(`{"type":"` + want + `"`)
		}
		if a, b := pub.text(), pub.text(); !strings.Contains(a+b, "invokeResponse") || !strings.Contains(a+b, "pong") {
			r.t.Errorf("%s %s", a, b)
		}
		c.wantPart(`{"type":"message"`, `"endOfStream":true`) // an ordinary message
		c.wantNothing()
		r.hubs.Hub("default", "chat").SendToAll(&hub.Message{Type: hub.Text, Data: []byte("x")}, hub.SendOptions{})
		c.wantPart(`"from":"server"`)
	}},
}
