package conform

import (
	"encoding/base64"

	"google.golang.org/protobuf/encoding/protowire"

	"tabard/internal/wire"
)

// Lines about the protobuf subprotocols. Messages are taken apart by field number, as the published schema numbers
// them, and not by code generated from it, which the examined service may share.
var protobufChecks = map[int]check{
	48: {given: "the protobuf subprotocol and a join with ack_id 2^63", then: "the AckMessage has the same id", run: func(t *trial) {
		p := t.protobuf(dial{roles: everything})
		p.up(field(6, str(1, t.name("g")), num(2, 1<<63)))
		ack := p.down().message(1)
		t.check(ack.number(1) == 1<<63 && ack.number(2) == 1, "ack_id %d, success %d", ack.number(1), ack.number(2))
	}},
	49: {given: "an Any from a protobuf publisher", then: "a JSON member gets dataType protobuf and base64 of the Any", run: func(t *trial) {
		g := t.name("g")
		member, p := t.json(dial{groups: []string{g}}), t.protobuf(dial{roles: everything})
		any := append(str(1, "type.googleapis.com/x"), str(2, "\x08\x01")...)
		p.up(field(1, str(1, g), field(3, field(3, any))))
		member.gets(`{"dataType":"protobuf","data":%q}`, base64.StdEncoding.EncodeToString(any))
	}},
	50: {given: "json from a JSON publisher", then: "a protobuf member gets json_data with the text", run: func(t *trial) {
		g := t.name("g")
		member, p := t.protobuf(dial{groups: []string{g}}), t.json(dial{roles: everything})
		p.send(`{"type":"sendToGroup","group":%q,"dataType":"json","data":{"a":1}}`, g)
		data := member.down().message(2)
		t.check(data.text(1) == "group" && data.text(2) == g, "from %q, group %q", data.text(1), data.text(2))
		t.check(data.message(3).text(4) == `{"a":1}`, "json_data %q", data.message(3).text(4))
	}},
	51: {given: "the reliable protobuf subprotocol", then: "connected has a reconnection_token; on the plain one it has none", run: func(t *trial) {
		t.check(t.protobuf(dial{subprotocol: reliableProtobufProtocol}).token != "", "no reconnection_token")
		t.check(t.protobuf(dial{}).token == "", "a reconnection_token on the plain subprotocol")
	}},
	52: {given: "a disconnect by the service", then: "DisconnectedMessage.reason is field 2", run: func(t *trial) {
		p := t.protobuf(dial{})
		t.want(204, request{method: "DELETE", path: "connections/" + p.id + "?reason=enough"})
		reason := p.down().message(3).message(2).text(2)
		t.check(reason == "enough", "reason %q", reason)
	}},
}

// protobuf connects with a protobuf subprotocol and takes the first frame.
func (t *trial) protobuf(d dial) *peer {
	if d.subprotocol == "" {
		d.subprotocol = protobufProtocol
	}
	p := t.open(d)
	connected := p.down().message(3).message(1)
	p.id, p.token = connected.text(1), connected.text(3)
	t.check(p.id != "", "ConnectedMessage has no connection_id")
	return p
}

// up sends an UpstreamMessage.
func (p *peer) up(message []byte) {
	if err := p.Write(wire.Binary, message); err != nil {
		p.trial.fail("a frame could not be sent: %v", err)
	}
}

// down reads a DownstreamMessage.
func (p *peer) down() fields {
	binary, payload := p.frame()
	p.trial.check(binary, "a text frame came, want binary: %.100q", payload)
	return fields{p.trial, []byte(payload)}
}

// fields is an encoded message.
type fields struct {
	trial   *trial
	encoded []byte
}

// find returns the last field of a number, or nothing.
func (f fields) find(number protowire.Number) (bytes []byte, value uint64) {
	for rest := f.encoded; len(rest) > 0; {
		n, kind, size := protowire.ConsumeTag(rest)
		if size < 0 {
			f.trial.fail("what came is no protobuf message: %v", protowire.ParseError(size))
		}
		rest = rest[size:]
		var b []byte
		var v uint64
		switch kind {
		case protowire.BytesType:
			b, size = protowire.ConsumeBytes(rest)
		case protowire.VarintType:
			v, size = protowire.ConsumeVarint(rest)
		default:
			size = protowire.ConsumeFieldValue(n, kind, rest)
		}
		if size < 0 {
			f.trial.fail("what came is no protobuf message: %v", protowire.ParseError(size))
		}
		rest = rest[size:]
		if n == number {
			bytes, value = b, v
		}
	}
	return bytes, value
}

func (f fields) message(number protowire.Number) fields {
	b, _ := f.find(number)
	f.trial.check(b != nil, "field %d is missing in %x", number, f.encoded)
	return fields{f.trial, b}
}

func (f fields) text(number protowire.Number) string {
	b, _ := f.find(number)
	return string(b)
}

func (f fields) number(number protowire.Number) uint64 {
	_, v := f.find(number)
	return v
}

// field, str and num encode a field.
func field(number protowire.Number, parts ...[]byte) []byte {
	var inner []byte
	for _, part := range parts {
		inner = append(inner, part...)
	}
	return protowire.AppendBytes(protowire.AppendTag(nil, number, protowire.BytesType), inner)
}

func str(number protowire.Number, s string) []byte { return field(number, []byte(s)) }

func num(number protowire.Number, v uint64) []byte {
	return protowire.AppendVarint(protowire.AppendTag(nil, number, protowire.VarintType), v)
}
