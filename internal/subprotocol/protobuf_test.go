package subprotocol

import (
	"bytes"
	"errors"
	"maps"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"tabard/internal/hub"
	pb "tabard/internal/subprotocol/webpubsubpb"
)

func anyBytes(t testing.TB) (*anypb.Any, []byte) {
	t.Helper()
	value, err := anypb.New(wrapperspb.String("inside"))
	if err != nil {
		t.Fatal(err)
	}
	b, err := proto.Marshal(value)
	if err != nil {
		t.Fatal(err)
	}
	return value, b
}

// data reads an encoded downstream message and returns its data message.
func data(t *testing.T, payload []byte) *pb.DownstreamMessage_DataMessage {
	t.Helper()
	var m pb.DownstreamMessage
	if err := proto.Unmarshal(payload, &m); err != nil {
		t.Fatalf("%v in %x", err, payload)
	}
	if m.GetDataMessage() == nil || len(m.ProtoReflect().GetUnknown()) > 0 || len(m.GetDataMessage().ProtoReflect().GetUnknown()) > 0 {
		t.Fatalf("not a data message alone: %v", &m)
	}
	return m.GetDataMessage()
}

// TestWhatIsPublishedReachesEachKindOfClientInItsForm is the conversion matrix of section 8.3.
func TestWhatIsPublishedReachesEachKindOfClientInItsForm(t *testing.T) {
	value, packed := anyBytes(t)
	for _, tc := range []struct {
		name     string
		m        hub.Message
		raw      string
		rawKind  hub.Opcode
		json     string
		protobuf func(*pb.MessageData) bool
	}{
		{"text", hub.Message{Type: hub.Text, Data: []byte(`he said "hi"`)}, `he said "hi"`, hub.OpText, `"dataType":"text","data":"he said \"hi\""`,
			func(d *pb.MessageData) bool { return d.GetTextData() == `he said "hi"` }},
		{"JSON", hub.Message{Type: hub.JSON, Data: []byte(`{"n": 1.50}`)}, `{"n": 1.50}`, hub.OpText, `"dataType":"json","data":{"n": 1.50}`,
			func(d *pb.MessageData) bool { return d.GetJsonData() == `{"n": 1.50}` }},
		{"binary", hub.Message{Type: hub.Binary, Data: []byte{0, 255}}, "\x00\xff", hub.OpBinary, `"dataType":"binary","data":"AP8="`,
			func(d *pb.MessageData) bool { return bytes.Equal(d.GetBinaryData(), []byte{0, 255}) }},
		{"protobuf", hub.Message{Type: hub.Protobuf, Data: packed}, string(packed), hub.OpBinary, `"dataType":"protobuf","data":"`,
			func(d *pb.MessageData) bool { return proto.Equal(d.GetProtobufData(), value) }},
		{"an empty text", hub.Message{Type: hub.Text, Data: []byte{}}, "", hub.OpText, `"dataType":"text","data":""`,
			func(d *pb.MessageData) bool {
				_, ok := d.GetData().(*pb.MessageData_TextData)
				return ok && d.GetTextData() == ""
			}},
		{"a large one", hub.Message{Type: hub.Text, Data: bytes.Repeat([]byte("x"), 70_000)}, strings.Repeat("x", 70_000), hub.OpText, `"dataType":"text","data":"xxx`,
			func(d *pb.MessageData) bool { return len(d.GetTextData()) == 70_000 }},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if got, kind := Raw.AppendMessage(nil, &tc.m); string(got) != tc.raw || kind != tc.rawKind {
				t.Errorf("raw: %v %.100q", kind, got)
			}
			if got, kind := JSON.AppendMessage(nil, &tc.m); !strings.Contains(string(got), tc.json) || kind != hub.OpText {
				t.Errorf("JSON: %v %.200s", kind, got)
			}
			got, kind := Protobuf.AppendMessage(nil, &tc.m)
			d := data(t, got)
			if kind != hub.OpBinary || !tc.protobuf(d.Data) || d.From != "server" || d.Group != nil || d.SequenceId != nil {
				t.Errorf("protobuf: %v %v", kind, d)
			}
			part := tc.m
			part.Stream = &hub.StreamInfo{ID: "s", Sequence: 9, End: true, Error: &hub.StreamError{Name: UserError, Message: "m", UserCode: "c"}}
			got, _ = Protobuf.AppendMessage(nil, &part)
			if s := data(t, got).Stream; s.GetStreamId() != "s" || s.GetStreamSequenceId() != 9 || !s.GetEndOfStream() || s.GetError().GetUserErrorCode() != "c" {
				t.Errorf("protobuf stream: %v", s)
			}
			tc.m.Group, tc.m.Metadata = "the group", []hub.Pair{{Key: "a", Value: "1"}, {Key: "b", Value: ""}}
			shared, _ := ReliableProtobuf.AppendMessage(nil, &tc.m)
			for _, n := range []uint64{1, 1 << 63} {
				s := ReliableProtobuf.(hub.Sequencer)
				tail := s.AppendSequence(nil, n)
				whole := append(append(s.AppendStart(nil, len(shared)+len(tail)), shared...), tail...)
				d := data(t, whole)
				if !tc.protobuf(d.Data) || d.From != "group" || d.GetGroup() != "the group" || d.GetSequenceId() != n || len(d.Metadata) != 2 || d.Metadata["a"] != "1" {
					t.Errorf("reliable protobuf: %v", d)
				}
			}
		})
	}
}

func TestSystemMessagesOfTheProtobufProtocols(t *testing.T) {
	notice, _ := Protobuf.AppendDisconnected(nil, "why\xff")
	var m pb.DownstreamMessage
	if err := proto.Unmarshal(notice, &m); err != nil || m.GetSystemMessage().GetDisconnectedMessage().GetReason() != "why\uFFFD" {
		t.Errorf("%v %v", &m, err)
	}
	// The reason is field 2; field 1 was never used.
	if !bytes.Contains(notice, []byte{0x12, 3 + 3, 'w', 'h', 'y'}) {
		t.Errorf("%x", notice)
	}
	connected := func(id, user string, token *string) *pb.DownstreamMessage {
		return &pb.DownstreamMessage{Message: &pb.DownstreamMessage_SystemMessage_{SystemMessage: &pb.DownstreamMessage_SystemMessage{
			Message: &pb.DownstreamMessage_SystemMessage_ConnectedMessage_{ConnectedMessage: &pb.DownstreamMessage_SystemMessage_ConnectedMessage{
				ConnectionId: id, UserId: user, ReconnectionToken: token}}}}}
	}
	ack := func(id uint64, failure *pb.DownstreamMessage_AckMessage_ErrorMessage) *pb.DownstreamMessage {
		return &pb.DownstreamMessage{Message: &pb.DownstreamMessage_AckMessage_{AckMessage: &pb.DownstreamMessage_AckMessage{AckId: id, Success: failure == nil, Error: failure}}}
	}
	for name, tc := range map[string]struct {
		got  *hub.Frame
		want *pb.DownstreamMessage
	}{
		"connected, anonymous": {Protobuf.Connected("c", "", ""), connected("c", "", nil)},
		"connected, reliable":  {ReliableProtobuf.Connected("c", "u", "tok"), connected("c", "u", proto.String("tok"))},
		"ack":                  {Protobuf.Ack(1<<63, nil), ack(1<<63, nil)},
		"failed ack":           {Protobuf.Ack(2, &AckError{Forbidden, "no"}), ack(2, &pb.DownstreamMessage_AckMessage_ErrorMessage{Name: Forbidden, Message: "no"})},
		"pong":                 {Protobuf.Pong(), &pb.DownstreamMessage{Message: &pb.DownstreamMessage_PongMessage_{PongMessage: &pb.DownstreamMessage_PongMessage{}}}},
	} {
		payload, err := proto.Marshal(tc.want)
		if err != nil {
			t.Fatal(err)
		}
		if !reflect.DeepEqual(tc.got, hub.NewFrame(hub.OpBinary, payload)) {
			t.Errorf("%s: got %v, want %v", name, tc.got, tc.want)
		}
	}
}

func TestProtobufRequestsAreDecoded(t *testing.T) {
	value, packed := anyBytes(t)
	up := func(m any) []byte {
		var u pb.UpstreamMessage
		switch m := m.(type) {
		case *pb.UpstreamMessage_SendToGroupMessage:
			u.Message = &pb.UpstreamMessage_SendToGroupMessage_{SendToGroupMessage: m}
		case *pb.UpstreamMessage_EventMessage:
			u.Message = &pb.UpstreamMessage_EventMessage_{EventMessage: m}
		case *pb.UpstreamMessage_JoinGroupMessage:
			u.Message = &pb.UpstreamMessage_JoinGroupMessage_{JoinGroupMessage: m}
		case *pb.UpstreamMessage_LeaveGroupMessage:
			u.Message = &pb.UpstreamMessage_LeaveGroupMessage_{LeaveGroupMessage: m}
		case *pb.UpstreamMessage_SequenceAckMessage:
			u.Message = &pb.UpstreamMessage_SequenceAckMessage_{SequenceAckMessage: m}
		case *pb.UpstreamMessage_PingMessage:
			u.Message = &pb.UpstreamMessage_PingMessage_{PingMessage: m}
		case *pb.UpstreamMessage_StreamDataMessage:
			u.Message = &pb.UpstreamMessage_StreamDataMessage_{StreamDataMessage: m}
		case *pb.UpstreamMessage_StreamEndMessage:
			u.Message = &pb.UpstreamMessage_StreamEndMessage_{StreamEndMessage: m}
		case *pb.UpstreamMessage_InvokeEventMessage:
			u.Message = &pb.UpstreamMessage_InvokeEventMessage_{InvokeEventMessage: m}
		case *pb.UpstreamMessage_CancelInvocationMessage:
			u.Message = &pb.UpstreamMessage_CancelInvocationMessage_{CancelInvocationMessage: m}
		case *pb.UpstreamMessage_SetGroupStateMessage:
			u.Message = &pb.UpstreamMessage_SetGroupStateMessage_{SetGroupStateMessage: m}
		case *pb.UpstreamMessage_SubscribeGroupStateMessage:
			u.Message = &pb.UpstreamMessage_SubscribeGroupStateMessage_{SubscribeGroupStateMessage: m}
		case *pb.UpstreamMessage_UnsubscribeGroupStateMessage:
			u.Message = &pb.UpstreamMessage_UnsubscribeGroupStateMessage_{UnsubscribeGroupStateMessage: m}
		}
		b, err := proto.Marshal(&u)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	text := func(s string) *pb.MessageData { return &pb.MessageData{Data: &pb.MessageData_TextData{TextData: s}} }
	for _, tc := range []struct {
		name string
		in   any
		want Request
	}{
		{"join", &pb.UpstreamMessage_JoinGroupMessage{Group: "g", AckId: proto.Uint64(1 << 63)}, Request{Kind: JoinGroup, Group: "g", HasAck: true, AckID: 1 << 63}},
		{"leave", &pb.UpstreamMessage_LeaveGroupMessage{Group: "g"}, Request{Kind: LeaveGroup, Group: "g"}},
		{"send text", &pb.UpstreamMessage_SendToGroupMessage{Group: "g", Data: text("hi"), AckId: proto.Uint64(0), NoEcho: proto.Bool(true), TtlSeconds: proto.Uint32(300)},
			Request{Kind: SendToGroup, Group: "g", Type: hub.Text, Data: []byte("hi"), HasAck: true, NoEcho: true, TTL: 300 * time.Second}},
		{"send an empty text", &pb.UpstreamMessage_SendToGroupMessage{Group: "g", Data: text("")}, Request{Kind: SendToGroup, Group: "g", Type: hub.Text, Data: []byte{}}},
		{"send JSON", &pb.UpstreamMessage_SendToGroupMessage{Group: "g", Data: &pb.MessageData{Data: &pb.MessageData_JsonData{JsonData: ` {"a": 1} `}}},
			Request{Kind: SendToGroup, Group: "g", Type: hub.JSON, Data: []byte(` {"a": 1} `)}},
		{"send an Any", &pb.UpstreamMessage_SendToGroupMessage{Group: "g", Data: &pb.MessageData{Data: &pb.MessageData_ProtobufData{ProtobufData: value}}},
			Request{Kind: SendToGroup, Group: "g", Type: hub.Protobuf, Data: packed}},
		{"event with metadata alone", &pb.UpstreamMessage_EventMessage{Event: "e", Metadata: map[string]string{"b": "2", "a": "1"}},
			Request{Kind: Event, Event: "e", Type: hub.Text, Data: []byte{}, Metadata: []hub.Pair{{Key: "a", Value: "1"}, {Key: "b", Value: "2"}}}},
		{"event with bytes", &pb.UpstreamMessage_EventMessage{Event: "e", Data: &pb.MessageData{Data: &pb.MessageData_BinaryData{BinaryData: []byte{1}}}},
			Request{Kind: Event, Event: "e", Type: hub.Binary, Data: []byte{1}}},
		{"sequence ack", &pb.UpstreamMessage_SequenceAckMessage{SequenceId: 7}, Request{Kind: SequenceAck, Sequence: 7}},
		{"ping", &pb.UpstreamMessage_PingMessage{}, Request{Kind: Ping}},
		{"stream start", &pb.UpstreamMessage_SendToGroupMessage{Group: "g", Stream: &pb.UpstreamMessage_StreamStartInfo{StreamId: "s", IdleTimeoutMs: proto.Uint32(5)}},
			Request{Kind: StreamStart, Group: "g", Stream: "s", IdleTimeout: 5 * time.Millisecond}},
		{"a part", &pb.UpstreamMessage_StreamDataMessage{StreamId: "s", StreamSequenceId: proto.Uint64(7), Data: text("x")}, Request{Kind: StreamData, Stream: "s", StreamSequence: 7, Type: hub.Text, Data: []byte("x")}},
		{"a sign of life", &pb.UpstreamMessage_StreamDataMessage{StreamId: "s"}, Request{Kind: StreamData, Stream: "s", NoData: true}},
		{"an end", &pb.UpstreamMessage_StreamEndMessage{StreamId: "s", Error: &pb.UpstreamMessage_StreamEndMessage_StreamEndError{Message: proto.String("m")}}, Request{Kind: StreamEnd, Stream: "s", StreamError: &StreamError{Message: "m"}}},
		{"invoke", &pb.UpstreamMessage_InvokeEventMessage{Event: "e", InvocationId: "1", Data: text("x")}, Request{Kind: Invoke, Event: "e", Invocation: "1", Type: hub.Text, Data: []byte("x")}},
		{"cancel", &pb.UpstreamMessage_CancelInvocationMessage{InvocationId: "1"}, Request{Kind: CancelInvocation, Invocation: "1"}},
		{"set state", &pb.UpstreamMessage_SetGroupStateMessage{Group: "g", State: &pb.GroupStateItem_GroupState{}}, Request{Kind: SetGroupState, Group: "g", State: map[string]string{}}},
		{"clear state", &pb.UpstreamMessage_SetGroupStateMessage{Group: "g"}, Request{Kind: SetGroupState, Group: "g"}},
		{"watch", &pb.UpstreamMessage_SubscribeGroupStateMessage{Group: "g"}, Request{Kind: SubscribeGroupState, Group: "g"}},
		{"watch no more", &pb.UpstreamMessage_UnsubscribeGroupStateMessage{Group: "g"}, Request{Kind: UnsubscribeGroupState, Group: "g"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			var got Request
			if err := Protobuf.Decode(&got, hub.OpBinary, up(tc.in)); err != nil {
				t.Fatal(err)
			}
			if got.Stream != tc.want.Stream || got.StreamSequence != tc.want.StreamSequence || got.IdleTimeout != tc.want.IdleTimeout || got.NoData != tc.want.NoData ||
				got.Invocation != tc.want.Invocation || !reflect.DeepEqual(got.StreamError, tc.want.StreamError) || !reflect.DeepEqual(got.State, tc.want.State) {
				t.Errorf("got  %+v\nwant %+v", got, tc.want)
			}
			if got.Kind != tc.want.Kind || got.Group != tc.want.Group || got.Event != tc.want.Event || got.HasAck != tc.want.HasAck || got.AckID != tc.want.AckID ||
				got.NoEcho != tc.want.NoEcho || got.Type != tc.want.Type || !bytes.Equal(got.Data, tc.want.Data) || (got.Data == nil) != (tc.want.Data == nil) ||
				got.TTL != tc.want.TTL || got.Sequence != tc.want.Sequence || !slices.Equal(got.Metadata, tc.want.Metadata) {
				t.Errorf("got  %+v\nwant %+v", got, tc.want)
			}
		})
	}
	for _, tc := range []struct {
		name string
		op   hub.Opcode
		in   []byte
		code hub.CloseCode
		text string
	}{
		{"a text frame", hub.OpText, up(&pb.UpstreamMessage_PingMessage{}), hub.CloseUnsupported, "binary frames"},
		{"no protobuf", hub.OpBinary, []byte{0xff}, hub.CloseInvalidData, "not an UpstreamMessage"},
		{"nothing", hub.OpBinary, nil, hub.CloseInvalidData, "empty or of an unknown kind"},
		{"a kind of the future", hub.OpBinary, []byte{0xfa, 0x01, 0}, hub.CloseInvalidData, "empty or of an unknown kind"},
		{"text that is not UTF-8", hub.OpBinary, []byte{0x32, 3, 0x0a, 1, 0xff}, hub.CloseInvalidData, "not an UpstreamMessage"},
		{"no group", hub.OpBinary, up(&pb.UpstreamMessage_JoinGroupMessage{Group: " "}), hub.CloseInvalidData, "group must be"},
		{"no data", hub.OpBinary, up(&pb.UpstreamMessage_SendToGroupMessage{Group: "g"}), hub.CloseInvalidData, "data is missing"},
		{"empty data", hub.OpBinary, up(&pb.UpstreamMessage_EventMessage{Event: "e", Data: &pb.MessageData{}}), hub.CloseInvalidData, "data is missing"},
		{"JSON that is none", hub.OpBinary, up(&pb.UpstreamMessage_EventMessage{Event: "e", Data: &pb.MessageData{Data: &pb.MessageData_JsonData{JsonData: "{"}}}), hub.CloseInvalidData, "not JSON"},
		{"a bad event", hub.OpBinary, up(&pb.UpstreamMessage_EventMessage{Event: "1e", Data: text("x")}), hub.CloseInvalidData, "event must be"},
		{"a long life", hub.OpBinary, up(&pb.UpstreamMessage_SendToGroupMessage{Group: "g", Data: text("x"), TtlSeconds: proto.Uint32(301)}), hub.CloseInvalidData, "ttlSeconds"},
		{"bad metadata", hub.OpBinary, up(&pb.UpstreamMessage_SendToGroupMessage{Group: "g", Data: text("x"), Metadata: map[string]string{"a b": ""}}), hub.CloseInvalidData, "metadata key"},
		{"a stream with data", hub.OpBinary, up(&pb.UpstreamMessage_SendToGroupMessage{Group: "g", Data: text("x"), Stream: &pb.UpstreamMessage_StreamStartInfo{StreamId: "s"}}), hub.CloseInvalidData, "neither data nor ackId"},
		{"a stream to an event", hub.OpBinary, up(&pb.UpstreamMessage_EventMessage{Event: "e", Stream: &pb.UpstreamMessage_StreamStartInfo{StreamId: "s"}}), hub.CloseInvalidData, "group as its target"},
		{"a part without a number", hub.OpBinary, up(&pb.UpstreamMessage_StreamDataMessage{StreamId: "s", Data: text("x")}), hub.CloseInvalidData, "streamSequenceId"},
		{"a part of no stream", hub.OpBinary, up(&pb.UpstreamMessage_StreamDataMessage{}), hub.CloseInvalidData, "streamId"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			var bad *InvalidError
			err := ReliableProtobuf.Decode(new(Request), tc.op, tc.in)
			if !errors.As(err, &bad) || bad.Code != tc.code || !strings.Contains(bad.Text, tc.text) {
				t.Errorf("got %v, want %d %q", err, tc.code, tc.text)
			}
		})
	}
}

func TestNamesOfSubprotocolsIgnoreCase(t *testing.T) {
	for name, want := range map[string]Protocol{
		"JSON.webpubsub.azure.v1": JSON, "json.Reliable.webpubsub.azure.v1": ReliableJSON, "protobuf.WEBPUBSUB.azure.v1": Protobuf, "protobuf.reliable.webpubsub.azure.V1": ReliableProtobuf,
	} {
		if p, ok := ByName(name); !ok || p != want {
			t.Errorf("%s: %v %t", name, p, ok)
		}
	}
	if _, ok := ByName("json.webpubsub.azure.v2"); ok {
		t.Error("an unknown name was found")
	}
	seen := map[int]bool{}
	for _, p := range []Protocol{Raw, JSON, ReliableJSON, Protobuf, ReliableProtobuf} {
		if seen[p.Encoding()] || p.Encoding() >= hub.MaxEncodings {
			t.Errorf("%s has encoding %d", p.Name(), p.Encoding())
		}
		seen[p.Encoding()] = true
	}
}

func FuzzDecodeProtobuf(f *testing.F) {
	f.Add([]byte{0x32, 3, 0x0a, 1, 'g'}, true)
	f.Add([]byte{0x0a, 9, 0x0a, 1, 'g', 0x1a, 4, 0x0a, 2, 'h', 'i'}, true)
	for _, m := range []*pb.UpstreamMessage{
		{Message: &pb.UpstreamMessage_InvokeEventMessage_{InvokeEventMessage: &pb.UpstreamMessage_InvokeEventMessage{Event: "e", InvocationId: "1"}}},
		{Message: &pb.UpstreamMessage_StreamDataMessage_{StreamDataMessage: &pb.UpstreamMessage_StreamDataMessage{StreamId: "s"}}},
		{Message: &pb.UpstreamMessage_StreamEndMessage_{StreamEndMessage: &pb.UpstreamMessage_StreamEndMessage{StreamId: "s"}}},
		{Message: &pb.UpstreamMessage_SetGroupStateMessage_{SetGroupStateMessage: &pb.UpstreamMessage_SetGroupStateMessage{
			Group: "g", State: &pb.GroupStateItem_GroupState{Entries: map[string]string{"a": "b"}}}}},
	} {
		b, err := proto.Marshal(m)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b, true)
	}
	f.Fuzz(func(t *testing.T, in []byte, binary bool) {
		op := hub.OpText
		if binary {
			op = hub.OpBinary
		}
		var req Request
		if err := Protobuf.Decode(&req, op, in); err != nil {
			var bad *InvalidError
			if !errors.As(err, &bad) {
				t.Errorf("%T %v", err, err)
			}
			return
		}
		if req.Kind == SendToGroup || req.Kind == Event {
			m := hub.Message{Group: req.Group, Type: req.Type, Data: req.Data, Metadata: req.Metadata}
			out, _ := Protobuf.AppendMessage(nil, &m)
			d := data(t, out)
			if len(d.Metadata) != len(req.Metadata) || d.Data == nil {
				t.Errorf("%v does not come out as it went in: %v", req, d)
			}
		}
		if req.Kind == SetGroupState {
			out, _ := Protobuf.(hub.StateCodec).AppendGroupState(nil, req.Group, []hub.StateItem{{ConnectionID: "c", State: req.State}}, false)
			var down pb.DownstreamMessage
			if err := proto.Unmarshal(out, &down); err != nil || !maps.Equal(down.GetGroupStateUpdateMessage().GetItems()[0].GetState().GetEntries(), req.State) {
				t.Errorf("%q comes out as %v, %v", req.State, &down, err)
			}
		}
	})
}

func BenchmarkEncodeProtobuf(b *testing.B) {
	m := &hub.Message{Group: "group", Type: hub.Text, Data: bytes.Repeat([]byte("x"), 128)}
	buf := make([]byte, 0, 1024)
	b.ReportAllocs()
	for b.Loop() {
		buf, _ = Protobuf.AppendMessage(buf[:0], m)
	}
}
