package subprotocol

import (
	"bytes"
	"encoding/base64"
	encoding "encoding/json"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"

	"tabard/internal/hub"
)

// fields are the values of a request's members as they stand in its text; nil: absent. A member that is repeated
// counts as its last value.
type fields struct {
	typ, group, event, data, dataType, ackID, noEcho, metadata, ttl, sequence, stream []byte
	target, invocationID, streamID, streamSequence, failure, state                    []byte
}

func (f *fields) of(name []byte) *[]byte {
	switch string(name) {
	case "type":
		return &f.typ
	case "group":
		return &f.group
	case "event":
		return &f.event
	case "data":
		return &f.data
	case "dataType":
		return &f.dataType
	case "ackId":
		return &f.ackID
	case "noEcho":
		return &f.noEcho
	case "metadata":
		return &f.metadata
	case "ttlSeconds":
		return &f.ttl
	case "sequenceId":
		return &f.sequence
	case "stream":
		return &f.stream
	case "target":
		return &f.target
	case "invocationId":
		return &f.invocationID
	case "streamId":
		return &f.streamID
	case "streamSequenceId":
		return &f.streamSequence
	case "error":
		return &f.failure
	case "state":
		return &f.state
	}
	return nil
}

// decodeJSON reads one request. Grammar is the standard library's business; because it vouches for the whole text
// first, members and their values can be found by looking for quotes and brackets only.
func decodeJSON(req *Request, data []byte) error {
	*req = Request{}
	if !utf8.Valid(data) {
		return invalid("request is not UTF-8")
	}
	if !valid(data) {
		return invalid("request is not JSON")
	}
	data = trim(data)
	if data[0] != '{' {
		return invalid("request is not a JSON object")
	}
	var f fields
	err := eachMember(data, func(name, value []byte) error {
		if field := f.of(name); field != nil {
			*field = value
		}
		return nil
	})
	if err != nil {
		return err
	}
	return f.request(req)
}

func (f *fields) request(req *Request) error {
	kind, ok := text(f.typ)
	if !ok {
		return invalid("type must be a string")
	}
	switch {
	case strings.EqualFold(kind, "sendToGroup"):
		req.Kind = SendToGroup
	case strings.EqualFold(kind, "event"):
		req.Kind = Event
	case strings.EqualFold(kind, "joinGroup"):
		req.Kind = JoinGroup
	case strings.EqualFold(kind, "leaveGroup"):
		req.Kind = LeaveGroup
	case strings.EqualFold(kind, "ping"):
		req.Kind = Ping
		return nil
	case strings.EqualFold(kind, "sequenceAck"):
		req.Kind = SequenceAck
		return f.sequenceAck(req)
	case strings.EqualFold(kind, "invoke"):
		return f.invoke(req)
	case strings.EqualFold(kind, "cancelInvocation"):
		req.Kind = CancelInvocation
		req.Invocation, _ = text(f.invocationID)
		return checkInvocation(req.Invocation)
	case strings.EqualFold(kind, "streamData"):
		return f.streamData(req)
	case strings.EqualFold(kind, "streamEnd"):
		return f.streamEnd(req)
	case strings.EqualFold(kind, "setGroupState"):
		req.Kind = SetGroupState
	case strings.EqualFold(kind, "subscribeGroupState"):
		req.Kind = SubscribeGroupState
	case strings.EqualFold(kind, "unsubscribeGroupState"):
		req.Kind = UnsubscribeGroupState
	default:
		return invalid("unknown type")
	}
	if f.ackID != nil && !null(f.ackID) {
		if req.AckID, ok = number(f.ackID); !ok {
			return invalid("ackId must be a number from 0 to 18446744073709551615")
		}
		req.HasAck = true
	}
	if req.Kind == Event {
		if req.Event, ok = text(f.event); !ok || !ValidEvent(req.Event) {
			return invalid("event must be a letter followed by up to 127 letters, digits, '_', '.' or '-'")
		}
	} else if req.Group, ok = text(f.group); !ok || !hub.ValidGroup(req.Group) {
		return invalid("group must be 1 to 1024 characters, not only white space")
	}
	switch req.Kind {
	case SendToGroup, Event:
		return f.publication(req)
	case SetGroupState:
		return f.groupState(req)
	}
	return nil
}

func (f *fields) publication(req *Request) error {
	if present(f.stream) {
		if req.Kind == Event {
			return invalid("a stream has a group as its target")
		}
		return f.streamStart(req)
	}
	if err := f.readMetadata(req); err != nil {
		return err
	}
	if f.ttl != nil && !null(f.ttl) && req.Kind == SendToGroup {
		seconds, ok := number(f.ttl)
		if !ok || seconds > uint64(MaxTTL/time.Second) {
			return invalid("ttlSeconds must be a number from 0 to 300")
		}
		req.TTL = time.Duration(seconds) * time.Second
	}
	if err := f.readNoEcho(req); err != nil {
		return err
	}
	return f.payload(req)
}

func (f *fields) readNoEcho(req *Request) error {
	if f.noEcho != nil && req.Kind != Event {
		switch f.noEcho[0] {
		case 't':
			req.NoEcho = true
		case 'f':
		default:
			return invalid("noEcho must be true or false")
		}
	}
	return nil
}

func (f *fields) payload(req *Request) error {
	dataType, ok := "json", true
	if f.dataType != nil && !null(f.dataType) {
		if dataType, ok = text(f.dataType); !ok {
			return invalid("dataType must be a string")
		}
	}
	if req.Type, ok = typeNamed(dataType); !ok {
		return invalid("unknown dataType")
	}
	if f.data == nil {
		if f.metadata == nil || null(f.metadata) {
			return invalid("data is missing")
		}
		req.Type, req.Data = hub.Text, []byte{} // metadata alone travels with an empty text
		return nil
	}
	if req.Type == hub.JSON {
		if null(f.data) {
			return invalid("data must not be null")
		}
		req.Data = f.data
		return nil
	}
	b, ok := unquote(f.data)
	if !ok {
		return invalid("data must be a string for this dataType")
	}
	req.Data = b
	if req.Type == hub.Text {
		return nil
	}
	decoded, err := base64.StdEncoding.AppendDecode(make([]byte, 0, base64.StdEncoding.DecodedLen(len(b))), b)
	if err != nil {
		return invalid("data must be base64 for this dataType")
	}
	if req.Type == hub.Protobuf && proto.Unmarshal(decoded, new(anypb.Any)) != nil {
		return invalid("data must be a google.protobuf.Any for this dataType")
	}
	req.Data = decoded
	return nil
}

func typeNamed(s string) (hub.DataType, bool) {
	for _, t := range [...]hub.DataType{hub.JSON, hub.Text, hub.Binary, hub.Protobuf} {
		if strings.EqualFold(s, t.String()) {
			return t, true
		}
	}
	return 0, false
}

func (f *fields) readMetadata(req *Request) error {
	if f.metadata == nil || null(f.metadata) {
		return nil
	}
	if f.metadata[0] != '{' {
		return invalid("metadata must be an object of strings")
	}
	total := 0
	return eachMember(f.metadata, func(name, value []byte) error {
		v, ok := text(value)
		if !ok {
			return invalid("metadata must be an object of strings")
		}
		kv := hub.Pair{Key: string(name), Value: v}
		total += len(kv.Key) + len(kv.Value)
		if err := CheckMetadata(kv.Key, kv.Value, total); err != nil {
			return invalid(err.Error())
		}
		for _, earlier := range req.Metadata {
			if earlier.Key == kv.Key {
				return invalid("metadata has a key twice")
			}
		}
		req.Metadata = append(req.Metadata, kv)
		return nil
	})
}

// sequenceAck tolerates a number in quotes, which the documentation shows (section 17).
func (f *fields) sequenceAck(req *Request) error {
	value := f.sequence
	if b, ok := unquote(value); ok {
		value = b
	}
	var ok bool
	if req.Sequence, ok = number(value); !ok {
		return invalid("sequenceId must be a number")
	}
	return nil
}

// eachMember calls fn with each member of an object whose text is valid JSON and begins with the brace. The name is
// unquoted.
func eachMember(obj []byte, fn func(name, value []byte) error) error {
	rest := trim(obj[1:])
	for rest[0] != '}' {
		if rest[0] == ',' {
			rest = trim(rest[1:])
		}
		n := valueLen(rest)
		name, ok := unquote(rest[:n])
		if !ok {
			return invalid("member name is not a string")
		}
		rest = trim(trim(rest[n:])[1:]) // the colon
		n = valueLen(rest)
		if err := fn(name, rest[:n]); err != nil {
			return err
		}
		rest = trim(rest[n:])
	}
	return nil
}

// valueLen returns the length of the value that valid JSON text begins with.
func valueLen(b []byte) int {
	switch b[0] {
	case '"':
		return stringLen(b)
	case '{', '[':
		depth := 0
		for i := 0; ; {
			switch b[i] {
			case '"':
				i += stringLen(b[i:])
				continue
			case '{', '[':
				depth++
			case '}', ']':
				if depth--; depth == 0 {
					return i + 1
				}
			}
			i++
		}
	}
	if n := bytes.IndexAny(b, ",]} \t\r\n"); n >= 0 {
		return n
	}
	return len(b)
}

func stringLen(b []byte) int {
	for i := 1; ; i++ {
		switch b[i] {
		case '\\':
			i++
		case '"':
			return i + 1
		}
	}
}

// unquote returns the text of a JSON string, sharing its memory where nothing is escaped.
func unquote(b []byte) ([]byte, bool) {
	if len(b) == 0 || b[0] != '"' {
		return nil, false
	}
	if bytes.IndexByte(b, '\\') < 0 {
		return b[1 : len(b)-1], true
	}
	var s string
	if encoding.Unmarshal(b, &s) != nil {
		return nil, false
	}
	return []byte(s), true
}

func text(b []byte) (string, bool) {
	t, ok := unquote(b)
	return string(t), ok
}

// number accepts what stands in the text as a plain non-negative integer.
func number(b []byte) (uint64, bool) {
	n, err := strconv.ParseUint(string(b), 10, 64)
	return n, err == nil
}

func null(b []byte) bool { return string(b) == "null" }

func present(b []byte) bool { return b != nil && !null(b) }

func trim(b []byte) []byte {
	for len(b) > 0 && (b[0] == ' ' || b[0] == '\t' || b[0] == '\r' || b[0] == '\n') {
		b = b[1:]
	}
	return b
}
