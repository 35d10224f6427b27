package subprotocol

import (
	encoding "encoding/json"
	"maps"
	"slices"
	"strings"
	"time"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"

	"tabard/internal/hub"
	pb "tabard/internal/subprotocol/webpubsubpb"
)

const (
	protobufName         = "protobuf.webpubsub.azure.v1"
	reliableProtobufName = "protobuf.reliable.webpubsub.azure.v1"
)

// protobuf is protobuf.webpubsub.azure.v1 (section 10): one message of the published schema in each binary frame.
type protobuf struct{}

// reliableProtobuf is protobuf.reliable.webpubsub.azure.v1: each data message has a sequence id.
type reliableProtobuf struct{ protobuf }

var _ hub.Sequencer = reliableProtobuf{}

func (protobuf) Name() string   { return protobufName }
func (protobuf) Simple() bool   { return false }
func (protobuf) Reliable() bool { return false }
func (protobuf) Encoding() int  { return protobufEncoding }

func (reliableProtobuf) Name() string   { return reliableProtobufName }
func (reliableProtobuf) Reliable() bool { return true }
func (reliableProtobuf) Encoding() int  { return reliableProtobufEncoding }

// Field numbers of the schema that are written by hand, because messages are many. A test holds them against the
// generated form.
const (
	downstreamData      = 2 // DownstreamMessage.data_message
	dataFrom            = 1 // DataMessage
	dataGroup           = 2
	dataData            = 3
	dataSequence        = 4
	dataMetadata        = 5
	dataStream          = 6
	messageDataText     = 1 // MessageData
	messageDataBinary   = 2
	messageDataProtobuf = 3
	messageDataJSON     = 4
	entryKey            = 1 // of a map
	entryValue          = 2
)

func (protobuf) AppendMessage(b []byte, m *hub.Message) ([]byte, hub.Opcode) {
	b = protowire.AppendTag(b, downstreamData, protowire.BytesType)
	b = protowire.AppendVarint(b, uint64(dataMessageSize(m)))
	return appendDataMessage(b, m), hub.OpBinary
}

// AppendMessage of a reliable connection writes the data message alone: AppendStart puts its length before it once
// the length of the sequence id is known.
func (reliableProtobuf) AppendMessage(b []byte, m *hub.Message) ([]byte, hub.Opcode) {
	return appendDataMessage(b, m), hub.OpBinary
}

func (reliableProtobuf) AppendStart(b []byte, n int) []byte {
	return protowire.AppendVarint(protowire.AppendTag(b, downstreamData, protowire.BytesType), uint64(n))
}

func (reliableProtobuf) AppendSequence(b []byte, n uint64) []byte {
	return protowire.AppendVarint(protowire.AppendTag(b, dataSequence, protowire.VarintType), n)
}

func fieldSize(number protowire.Number, n int) int {
	return protowire.SizeTag(number) + protowire.SizeBytes(n)
}

func pairSize(kv hub.Pair) int {
	return fieldSize(entryKey, len(kv.Key)) + fieldSize(entryValue, len(kv.Value))
}

func from(m *hub.Message) string {
	if m.Group != "" {
		return "group"
	}
	return "server"
}

func dataMessageSize(m *hub.Message) int {
	n := fieldSize(dataFrom, len(from(m))) + fieldSize(dataData, fieldSize(kindOf(m.Type), len(m.Data)))
	if m.Group != "" {
		n += fieldSize(dataGroup, len(m.Group))
	}
	for _, kv := range m.Metadata {
		n += fieldSize(dataMetadata, pairSize(kv))
	}
	if m.Stream != nil {
		n += fieldSize(dataStream, proto.Size(streamInfo(m.Stream)))
	}
	return n
}

// streamInfo is generated code's business: parts of streams are few.
func streamInfo(s *hub.StreamInfo) *pb.StreamInfo {
	out := &pb.StreamInfo{StreamId: wellFormed(s.ID), StreamSequenceId: s.Sequence}
	if s.End {
		out.EndOfStream = &s.End
	}
	if e := s.Error; e != nil {
		out.Error = &pb.StreamInfo_StreamError{Name: e.Name, Message: wellFormed(e.Message), UserErrorCode: wellFormed(e.UserCode)}
	}
	return out
}

func appendDataMessage(b []byte, m *hub.Message) []byte {
	b = appendField(b, dataFrom, from(m))
	if m.Group != "" {
		b = appendField(b, dataGroup, m.Group)
	}
	kind := kindOf(m.Type)
	b = protowire.AppendTag(b, dataData, protowire.BytesType)
	b = protowire.AppendVarint(b, uint64(fieldSize(kind, len(m.Data))))
	b = appendField(b, kind, m.Data)
	for _, kv := range m.Metadata {
		b = protowire.AppendTag(b, dataMetadata, protowire.BytesType)
		b = protowire.AppendVarint(b, uint64(pairSize(kv)))
		b = appendField(b, entryKey, kv.Key)
		b = appendField(b, entryValue, kv.Value)
	}
	if m.Stream != nil {
		if info, err := proto.Marshal(streamInfo(m.Stream)); err == nil { // it is well formed
			b = appendField(b, dataStream, info)
		}
	}
	return b
}

func appendField[S string | []byte](b []byte, number protowire.Number, s S) []byte {
	b = protowire.AppendTag(b, number, protowire.BytesType)
	b = protowire.AppendVarint(b, uint64(len(s)))
	return append(b, s...)
}

func kindOf(t hub.DataType) protowire.Number {
	switch t {
	case hub.JSON:
		return messageDataJSON
	case hub.Binary:
		return messageDataBinary
	case hub.Protobuf:
		return messageDataProtobuf
	default:
		return messageDataText
	}
}

func (protobuf) AppendDisconnected(b []byte, reason string) ([]byte, hub.Opcode) {
	return appendDownstream(b, &pb.DownstreamMessage{Message: &pb.DownstreamMessage_SystemMessage_{SystemMessage: &pb.DownstreamMessage_SystemMessage{
		Message: &pb.DownstreamMessage_SystemMessage_DisconnectedMessage_{DisconnectedMessage: &pb.DownstreamMessage_SystemMessage_DisconnectedMessage{Reason: wellFormed(reason)}},
	}}}), hub.OpBinary
}

func (protobuf) Connected(connectionID, userID, reconnectionToken string) *hub.Frame {
	connected := &pb.DownstreamMessage_SystemMessage_ConnectedMessage{ConnectionId: connectionID, UserId: wellFormed(userID)}
	if reconnectionToken != "" {
		connected.ReconnectionToken = &reconnectionToken
	}
	return downstream(&pb.DownstreamMessage{Message: &pb.DownstreamMessage_SystemMessage_{SystemMessage: &pb.DownstreamMessage_SystemMessage{
		Message: &pb.DownstreamMessage_SystemMessage_ConnectedMessage_{ConnectedMessage: connected},
	}}})
}

func (protobuf) Ack(id uint64, failure *AckError) *hub.Frame {
	ack := &pb.DownstreamMessage_AckMessage{AckId: id, Success: failure == nil}
	if failure != nil {
		ack.Error = &pb.DownstreamMessage_AckMessage_ErrorMessage{Name: failure.Name, Message: wellFormed(failure.Message)}
	}
	return downstream(&pb.DownstreamMessage{Message: &pb.DownstreamMessage_AckMessage_{AckMessage: ack}})
}

var protobufPong = downstream(&pb.DownstreamMessage{Message: &pb.DownstreamMessage_PongMessage_{PongMessage: &pb.DownstreamMessage_PongMessage{}}})

func (protobuf) Pong() *hub.Frame { return protobufPong }

func (protobuf) InvokeResponse(invocation string, reply *hub.Message, failure *AckError) *hub.Frame {
	out := &pb.DownstreamMessage_InvokeResponseMessage{InvocationId: wellFormed(invocation), Success: failure == nil}
	if failure != nil {
		out.Error = &pb.DownstreamMessage_InvokeResponseMessage_ErrorMessage{Name: failure.Name, Message: wellFormed(failure.Message)}
	} else if reply != nil {
		out.Data = messageData(reply)
		for _, kv := range reply.Metadata {
			if out.Metadata == nil {
				out.Metadata = map[string]string{}
			}
			out.Metadata[wellFormed(kv.Key)] = wellFormed(kv.Value)
		}
	}
	return downstream(&pb.DownstreamMessage{Message: &pb.DownstreamMessage_InvokeResponseMessage_{InvokeResponseMessage: out}})
}

func messageData(m *hub.Message) *pb.MessageData {
	switch m.Type {
	case hub.JSON:
		return &pb.MessageData{Data: &pb.MessageData_JsonData{JsonData: wellFormed(string(m.Data))}}
	case hub.Text:
		return &pb.MessageData{Data: &pb.MessageData_TextData{TextData: wellFormed(string(m.Data))}}
	case hub.Protobuf:
		var value anypb.Any
		if proto.Unmarshal(m.Data, &value) == nil {
			return &pb.MessageData{Data: &pb.MessageData_ProtobufData{ProtobufData: &value}}
		}
	}
	return &pb.MessageData{Data: &pb.MessageData_BinaryData{BinaryData: m.Data}}
}

func (protobuf) StreamAck(stream string, expected uint64) *hub.Frame {
	return downstream(&pb.DownstreamMessage{Message: &pb.DownstreamMessage_StreamAckMessage_{StreamAckMessage: &pb.DownstreamMessage_StreamAckMessage{
		StreamId: stream, ExpectedSequenceId: expected}}})
}

func (protobuf) StreamNack(stream string, expected uint64, failure AckError) *hub.Frame {
	return downstream(&pb.DownstreamMessage{Message: &pb.DownstreamMessage_StreamNackMessage_{StreamNackMessage: &pb.DownstreamMessage_StreamNackMessage{
		StreamId: stream, ExpectedSequenceId: expected, Name: failure.Name, Message: failure.Message}}})
}

func (protobuf) StreamClosed(stream string, failure *AckError) *hub.Frame {
	out := &pb.DownstreamMessage_StreamClosedMessage{StreamId: stream}
	if failure != nil {
		out.Error = &pb.DownstreamMessage_StreamClosedMessage_StreamClosedError{Name: failure.Name, Message: failure.Message}
	}
	return downstream(&pb.DownstreamMessage{Message: &pb.DownstreamMessage_StreamClosedMessage_{StreamClosedMessage: out}})
}

func (protobuf) AppendGroupState(b []byte, group string, items []hub.StateItem, snapshot bool) ([]byte, hub.Opcode) {
	list := make([]*pb.GroupStateItem, len(items))
	for i, item := range items {
		list[i] = &pb.GroupStateItem{ConnectionId: item.ConnectionID, UpdatedAt: item.UpdatedAt}
		if item.UserID != "" {
			list[i].UserId = proto.String(wellFormed(item.UserID))
		}
		if item.State != nil {
			list[i].State = &pb.GroupStateItem_GroupState{Entries: item.State}
		}
	}
	if snapshot {
		return appendDownstream(b, &pb.DownstreamMessage{Message: &pb.DownstreamMessage_GroupStateSnapshotMessage_{
			GroupStateSnapshotMessage: &pb.DownstreamMessage_GroupStateSnapshotMessage{Group: group, Items: list}}}), hub.OpBinary
	}
	return appendDownstream(b, &pb.DownstreamMessage{Message: &pb.DownstreamMessage_GroupStateUpdateMessage_{
		GroupStateUpdateMessage: &pb.DownstreamMessage_GroupStateUpdateMessage{Group: group, Items: list}}}), hub.OpBinary
}

func downstream(m *pb.DownstreamMessage) *hub.Frame {
	return hub.BuildFrame(hub.OpBinary, proto.Size(m), func(b []byte) []byte { return appendDownstream(b, m) })
}

// wellFormed makes any text fit for the wire, which takes UTF-8 alone.
func wellFormed(s string) string { return strings.ToValidUTF8(s, "\uFFFD") }

// appendDownstream cannot fail: the one error of marshalling is text that is not UTF-8, and there is none.
func appendDownstream(b []byte, m *pb.DownstreamMessage) []byte {
	out, err := proto.MarshalOptions{}.MarshalAppend(b, m)
	if err != nil {
		return b
	}
	return out
}

// Decode reads one message of the schema; what the schema does not know is passed over.
func (protobuf) Decode(req *Request, op hub.Opcode, data []byte) error {
	*req = Request{}
	if op != hub.OpBinary {
		return &InvalidError{hub.CloseUnsupported, "this subprotocol speaks in binary frames"}
	}
	var up pb.UpstreamMessage
	if proto.Unmarshal(data, &up) != nil {
		return invalid("request is not an UpstreamMessage")
	}
	switch m := up.Message.(type) {
	case *pb.UpstreamMessage_SendToGroupMessage_:
		return decodeSend(req, m.SendToGroupMessage)
	case *pb.UpstreamMessage_EventMessage_:
		return decodeEvent(req, m.EventMessage)
	case *pb.UpstreamMessage_JoinGroupMessage_:
		return req.membership(JoinGroup, m.JoinGroupMessage.Group, m.JoinGroupMessage.AckId)
	case *pb.UpstreamMessage_LeaveGroupMessage_:
		return req.membership(LeaveGroup, m.LeaveGroupMessage.Group, m.LeaveGroupMessage.AckId)
	case *pb.UpstreamMessage_SequenceAckMessage_:
		req.Kind, req.Sequence = SequenceAck, m.SequenceAckMessage.SequenceId
		return nil
	case *pb.UpstreamMessage_PingMessage_:
		req.Kind = Ping
		return nil
	case *pb.UpstreamMessage_InvokeEventMessage_:
		return decodeInvoke(req, m.InvokeEventMessage)
	case *pb.UpstreamMessage_CancelInvocationMessage_:
		req.Kind, req.Invocation = CancelInvocation, m.CancelInvocationMessage.InvocationId
		return checkInvocation(req.Invocation)
	case *pb.UpstreamMessage_StreamDataMessage_:
		return decodeStreamData(req, m.StreamDataMessage)
	case *pb.UpstreamMessage_StreamEndMessage_:
		return decodeStreamEnd(req, m.StreamEndMessage)
	case *pb.UpstreamMessage_SetGroupStateMessage_:
		if s := m.SetGroupStateMessage.State; s != nil {
			if req.State = s.Entries; req.State == nil {
				req.State = map[string]string{}
			}
		}
		if err := checkState(req.State); err != nil {
			return err
		}
		return req.membership(SetGroupState, m.SetGroupStateMessage.Group, m.SetGroupStateMessage.AckId)
	case *pb.UpstreamMessage_SubscribeGroupStateMessage_:
		return req.membership(SubscribeGroupState, m.SubscribeGroupStateMessage.Group, m.SubscribeGroupStateMessage.AckId)
	case *pb.UpstreamMessage_UnsubscribeGroupStateMessage_:
		return req.membership(UnsubscribeGroupState, m.UnsubscribeGroupStateMessage.Group, m.UnsubscribeGroupStateMessage.AckId)
	}
	return invalid("request is empty or of an unknown kind")
}

func decodeInvoke(req *Request, m *pb.UpstreamMessage_InvokeEventMessage) error {
	if m.Stream != nil {
		return errStreamTarget
	}
	if !ValidEvent(m.Event) {
		return errEvent
	}
	req.Kind, req.Event, req.Invocation = Invoke, m.Event, m.InvocationId
	if err := checkInvocation(m.InvocationId); err != nil {
		return err
	}
	if m.Data == nil && len(m.Metadata) == 0 {
		req.NoData = true
		return nil
	}
	return req.payload(m.Data, m.Metadata)
}

func decodeStreamStart(req *Request, s *pb.UpstreamMessage_StreamStartInfo, m *pb.UpstreamMessage_SendToGroupMessage) error {
	if m.Data != nil || m.AckId != nil {
		return invalid("the start of a stream has neither data nor ackId")
	}
	if s.IdleTimeoutMs != nil && *s.IdleTimeoutMs == 0 {
		return invalid("idleTimeoutMs must be a number from 1 to 4294967295")
	}
	req.Kind, req.Stream, req.IdleTimeout = StreamStart, s.StreamId, time.Duration(s.GetIdleTimeoutMs())*time.Millisecond
	return checkStream(s.StreamId)
}

func decodeStreamData(req *Request, m *pb.UpstreamMessage_StreamDataMessage) error {
	req.Kind, req.Stream = StreamData, m.StreamId
	if err := checkStream(m.StreamId); err != nil {
		return err
	}
	if m.StreamSequenceId == nil && m.Data == nil {
		req.NoData = true
		return nil
	}
	if req.StreamSequence = m.GetStreamSequenceId(); req.StreamSequence == 0 {
		return invalid("streamSequenceId must be a positive number")
	}
	return req.payload(m.Data, nil)
}

func decodeStreamEnd(req *Request, m *pb.UpstreamMessage_StreamEndMessage) error {
	req.Kind, req.Stream = StreamEnd, m.StreamId
	if m.Error != nil {
		req.StreamError = &StreamError{m.Error.GetMessage(), m.Error.GetUserErrorCode()}
	}
	if err := checkStream(m.StreamId); err != nil {
		return err
	}
	return checkStreamError(req.StreamError)
}

func (req *Request) ack(id *uint64) {
	if id != nil {
		req.HasAck, req.AckID = true, *id
	}
}

func (req *Request) membership(kind Kind, group string, id *uint64) error {
	if !hub.ValidGroup(group) {
		return errGroup
	}
	req.Kind, req.Group = kind, group
	req.ack(id)
	return nil
}

var (
	errGroup        = invalid("group must be 1 to 1024 characters, not only white space")
	errEvent        = invalid("event must be a letter followed by up to 127 letters, digits, '_', '.' or '-'")
	errStreamTarget = invalid("a stream has a group as its target")
	errTTL          = invalid("ttlSeconds must be a number from 0 to 300")
)

func decodeSend(req *Request, m *pb.UpstreamMessage_SendToGroupMessage) error {
	if err := req.membership(SendToGroup, m.Group, m.AckId); err != nil {
		return err
	}
	req.NoEcho = m.GetNoEcho()
	if m.Stream != nil {
		return decodeStreamStart(req, m.Stream, m)
	}
	if m.GetTtlSeconds() > uint32(MaxTTL/time.Second) {
		return errTTL
	}
	req.TTL = time.Duration(m.GetTtlSeconds()) * time.Second
	return req.payload(m.Data, m.Metadata)
}

func decodeEvent(req *Request, m *pb.UpstreamMessage_EventMessage) error {
	if !ValidEvent(m.Event) {
		return errEvent
	}
	if m.Stream != nil {
		return errStreamTarget
	}
	req.Kind, req.Event = Event, m.Event
	req.ack(m.AckId)
	return req.payload(m.Data, m.Metadata)
}

func (req *Request) payload(data *pb.MessageData, metadata map[string]string) error {
	total := 0
	for _, key := range slices.Sorted(maps.Keys(metadata)) { // a map has no order: ours is at least the same each time
		kv := hub.Pair{Key: key, Value: metadata[key]}
		total += len(kv.Key) + len(kv.Value)
		if err := CheckMetadata(kv.Key, kv.Value, total); err != nil {
			return invalid(err.Error())
		}
		req.Metadata = append(req.Metadata, kv)
	}
	switch d := data.GetData().(type) {
	case *pb.MessageData_TextData:
		req.Type, req.Data = hub.Text, []byte(d.TextData)
	case *pb.MessageData_BinaryData:
		req.Type, req.Data = hub.Binary, d.BinaryData
	case *pb.MessageData_JsonData:
		req.Type, req.Data = hub.JSON, []byte(d.JsonData)
		if !encoding.Valid(req.Data) {
			return invalid("json_data is not JSON")
		}
	case *pb.MessageData_ProtobufData:
		return req.any(d.ProtobufData)
	default:
		if len(metadata) == 0 {
			return invalid("data is missing")
		}
		req.Type, req.Data = hub.Text, []byte{} // metadata alone travels with an empty text
	}
	return nil
}

func (req *Request) any(value *anypb.Any) error {
	b, err := proto.MarshalOptions{Deterministic: true}.Marshal(value)
	if err != nil {
		return invalid("protobuf_data is not a google.protobuf.Any")
	}
	req.Type, req.Data = hub.Protobuf, b
	return nil
}
