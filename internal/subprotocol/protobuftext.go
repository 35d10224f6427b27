package subprotocol

import "tabard/internal/hub"

// Clients that were built from the schema's older form have no field for JSON and see such a message as empty. For
// their sake a hub may be set to send them JSON as text (client protocol, section 8.3).
type (
	textProtobuf         struct{ protobuf }
	reliableTextProtobuf struct{ reliableProtobuf }
)

var _ hub.Sequencer = reliableTextProtobuf{}

// WithJSONAsText is the protocol for a hub that is set so; others than the protobuf ones are as they are.
func WithJSONAsText(p Protocol) Protocol {
	switch p {
	case Protobuf:
		return textProtobuf{}
	case ReliableProtobuf:
		return reliableTextProtobuf{}
	}
	return p
}

func (textProtobuf) Encoding() int         { return textProtobufEncoding }
func (reliableTextProtobuf) Encoding() int { return reliableTextProtobufEncoding }

// asText is m with JSON as text.
func asText(m *hub.Message) *hub.Message {
	if m == nil || m.Type != hub.JSON {
		return m
	}
	text := *m
	text.Type = hub.Text
	return &text
}

func (p textProtobuf) AppendMessage(b []byte, m *hub.Message) ([]byte, hub.Opcode) {
	return p.protobuf.AppendMessage(b, asText(m))
}

func (p reliableTextProtobuf) AppendMessage(b []byte, m *hub.Message) ([]byte, hub.Opcode) {
	return p.reliableProtobuf.AppendMessage(b, asText(m))
}

func (p textProtobuf) InvokeResponse(invocation string, reply *hub.Message, failure *AckError) *hub.Frame {
	return p.protobuf.InvokeResponse(invocation, asText(reply), failure)
}

func (p reliableTextProtobuf) InvokeResponse(invocation string, reply *hub.Message, failure *AckError) *hub.Frame {
	return p.reliableProtobuf.InvokeResponse(invocation, asText(reply), failure)
}
