package subprotocol

import "tabard/internal/hub"

// raw is the protocol of clients that negotiated none, or one that only their application knows (section 7): a
// frame is a payload, both ways.
type raw struct{}

func (raw) Name() string   { return "" }
func (raw) Simple() bool   { return true }
func (raw) Reliable() bool { return false }
func (raw) Encoding() int  { return rawEncoding }

// messageEvent is what every frame of a simple client is, unless the client's mode says otherwise.
const messageEvent = "message"

// Decode never fails: any frame is the event "message".
func (raw) Decode(req *Request, op hub.Opcode, data []byte) error {
	*req = Request{Kind: Event, Event: messageEvent, Type: hub.Text, Data: data}
	if op == hub.OpBinary {
		req.Type = hub.Binary
	}
	return nil
}

func (raw) AppendMessage(dst []byte, m *hub.Message) ([]byte, hub.Opcode) {
	dst = append(dst, m.Data...)
	if m.Type == hub.Binary || m.Type == hub.Protobuf {
		return dst, hub.OpBinary
	}
	return dst, hub.OpText
}

func (raw) AppendDisconnected(dst []byte, _ string) ([]byte, hub.Opcode) { return dst, hub.OpText }

func (raw) Connected(string, string, string) *hub.Frame { return nil }
func (raw) Ack(uint64, *AckError) *hub.Frame            { return nil }
func (raw) Pong() *hub.Frame                            { return nil }

func (raw) InvokeResponse(string, *hub.Message, *AckError) *hub.Frame { return nil }
func (raw) StreamAck(string, uint64) *hub.Frame                       { return nil }
func (raw) StreamNack(string, uint64, AckError) *hub.Frame            { return nil }
func (raw) StreamClosed(string, *AckError) *hub.Frame                 { return nil }
