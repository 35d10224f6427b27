package subprotocol

import (
	"encoding/base64"
	"maps"
	"slices"
	"strconv"
	"unicode/utf8"

	"tabard/internal/hub"
)

const jsonName = "json.webpubsub.azure.v1"

const reliableJSONName = "json.reliable.webpubsub.azure.v1"

// json is json.webpubsub.azure.v1 (section 8).
type json struct{}

// reliableJSON is json.reliable.webpubsub.azure.v1: the same, and each message ends with its sequence id (section 9).
type reliableJSON struct{ json }

var _ hub.Sequencer = reliableJSON{}

func (reliableJSON) Name() string   { return reliableJSONName }
func (reliableJSON) Reliable() bool { return true }
func (reliableJSON) Encoding() int  { return reliableJSONEncoding }

func (reliableJSON) AppendMessage(b []byte, m *hub.Message) ([]byte, hub.Opcode) {
	return appendMessage(b, m), hub.OpText
}

func (reliableJSON) AppendStart(b []byte, _ int) []byte { return b }

func (reliableJSON) AppendSequence(b []byte, n uint64) []byte {
	return append(strconv.AppendUint(append(b, `,"sequenceId":`...), n, 10), '}')
}

func (json) Name() string   { return jsonName }
func (json) Simple() bool   { return false }
func (json) Reliable() bool { return false }
func (json) Encoding() int  { return jsonEncoding }

func (json) Decode(req *Request, _ hub.Opcode, data []byte) error { return decodeJSON(req, data) }

func (json) AppendMessage(b []byte, m *hub.Message) ([]byte, hub.Opcode) {
	return append(appendMessage(b, m), '}'), hub.OpText
}

// appendMessage appends a message up to its last brace.
func appendMessage(b []byte, m *hub.Message) []byte {
	b = append(b, `{"type":"message","from":`...)
	if m.Group != "" {
		b = append(b, `"group","group":`...)
		b = appendString(b, m.Group)
		b = append(b, `,"fromUserId":`...)
		b = appendOptional(b, m.FromUserID)
	} else {
		b = append(b, `"server"`...)
	}
	b = appendPayload(b, m)
	if s := m.Stream; s != nil {
		b = append(b, `,"stream":{"streamId":`...)
		b = appendString(b, s.ID)
		b = append(b, `,"streamSequenceId":`...)
		b = strconv.AppendUint(b, s.Sequence, 10)
		if s.End {
			b = append(b, `,"endOfStream":true`...)
		}
		if e := s.Error; e != nil {
			b = append(b, `,"error":`...)
			b = appendError(b, e.Name, e.Message)
			if e.UserCode != "" {
				b = append(b[:len(b)-1], `,"userErrorCode":`...)
				b = append(appendString(b, e.UserCode), '}')
			}
		}
		b = append(b, '}')
	}
	return b
}

// appendPayload appends type, data and metadata, with a comma before them.
func appendPayload(b []byte, m *hub.Message) []byte {
	b = append(b, `,"dataType":"`...)
	b = append(b, m.Type.String()...)
	b = append(b, `","data":`...)
	switch m.Type {
	case hub.JSON:
		b = append(b, m.Data...)
	case hub.Text:
		b = appendString(b, m.Data)
	default:
		b = append(b, '"')
		b = base64.StdEncoding.AppendEncode(b, m.Data)
		b = append(b, '"')
	}
	if len(m.Metadata) > 0 {
		b = append(b, `,"metadata":{`...)
		for i, kv := range m.Metadata {
			if i > 0 {
				b = append(b, ',')
			}
			b = appendString(b, kv.Key)
			b = append(b, ':')
			b = appendString(b, kv.Value)
		}
		b = append(b, '}')
	}
	return b
}

func appendError(b []byte, name, message string) []byte {
	b = append(b, `{"name":`...)
	b = appendString(b, name)
	b = append(b, `,"message":`...)
	return append(appendString(b, message), '}')
}

func (json) AppendDisconnected(b []byte, reason string) ([]byte, hub.Opcode) {
	b = append(b, `{"type":"system","event":"disconnected","message":`...)
	b = appendString(b, reason)
	return append(b, '}'), hub.OpText
}

func (json) Connected(connectionID, userID, reconnectionToken string) *hub.Frame {
	return hub.BuildFrame(hub.OpText, 128+len(connectionID)+len(userID)+len(reconnectionToken), func(b []byte) []byte {
		b = append(b, `{"type":"system","event":"connected","userId":`...)
		b = appendOptional(b, userID)
		b = append(b, `,"connectionId":`...)
		b = appendString(b, connectionID)
		if reconnectionToken != "" {
			b = append(b, `,"reconnectionToken":`...)
			b = appendString(b, reconnectionToken)
		}
		return append(b, '}')
	})
}

func (json) Ack(id uint64, failure *AckError) *hub.Frame {
	size := 64
	if failure != nil {
		size += 64 + len(failure.Message)
	}
	return hub.BuildFrame(hub.OpText, size, func(b []byte) []byte {
		b = append(b, `{"type":"ack","ackId":`...)
		b = strconv.AppendUint(b, id, 10)
		if failure == nil {
			return append(b, `,"success":true}`...)
		}
		b = append(b, `,"success":false,"error":`...)
		return append(appendError(b, failure.Name, failure.Message), '}')
	})
}

func (json) InvokeResponse(invocation string, reply *hub.Message, failure *AckError) *hub.Frame {
	size := 96 + len(invocation)
	if reply != nil {
		size += len(reply.Data) + len(reply.Data)/3
	}
	return hub.BuildFrame(hub.OpText, size, func(b []byte) []byte {
		b = append(b, `{"type":"invokeResponse","invocationId":`...)
		b = appendString(b, invocation)
		if failure != nil {
			b = append(b, `,"success":false,"error":`...)
			return append(appendError(b, failure.Name, failure.Message), '}')
		}
		b = append(b, `,"success":true`...)
		if reply != nil {
			b = appendPayload(b, reply)
		}
		return append(b, '}')
	})
}

func streamFrame(kind, stream string, rest func(b []byte) []byte) *hub.Frame {
	return hub.BuildFrame(hub.OpText, 128+len(stream), func(b []byte) []byte {
		b = append(b, `{"type":"`...)
		b = append(b, kind...)
		b = append(b, `","streamId":`...)
		return append(rest(appendString(b, stream)), '}')
	})
}

func (json) StreamAck(stream string, expected uint64) *hub.Frame {
	return streamFrame("streamAck", stream, func(b []byte) []byte {
		return strconv.AppendUint(append(b, `,"expectedSequenceId":`...), expected, 10)
	})
}

func (json) StreamNack(stream string, expected uint64, failure AckError) *hub.Frame {
	return streamFrame("streamNack", stream, func(b []byte) []byte {
		b = strconv.AppendUint(append(b, `,"expectedSequenceId":`...), expected, 10)
		b = appendString(append(b, `,"name":`...), failure.Name)
		return appendString(append(b, `,"message":`...), failure.Message)
	})
}

func (json) StreamClosed(stream string, failure *AckError) *hub.Frame {
	return streamFrame("streamClosed", stream, func(b []byte) []byte {
		if failure == nil {
			return b
		}
		return appendError(append(b, `,"error":`...), failure.Name, failure.Message)
	})
}

// AppendGroupState writes states of a group: all of them, or those that changed (section 13).
func (json) AppendGroupState(b []byte, group string, items []hub.StateItem, snapshot bool) ([]byte, hub.Opcode) {
	kind := "groupStateUpdate"
	if snapshot {
		kind = "groupStateSnapshot"
	}
	b = append(b, `{"type":"`...)
	b = append(b, kind...)
	b = appendString(append(b, `","group":`...), group)
	b = append(b, `,"items":[`...)
	for i, item := range items {
		if i > 0 {
			b = append(b, ',')
		}
		b = appendString(append(b, `{"connectionId":`...), item.ConnectionID)
		if item.UserID != "" {
			b = appendString(append(b, `,"userId":`...), item.UserID)
		}
		if item.State != nil {
			b = append(b, `,"state":{`...)
			for j, key := range slices.Sorted(maps.Keys(item.State)) {
				if j > 0 {
					b = append(b, ',')
				}
				b = appendString(append(appendString(b, key), ':'), item.State[key])
			}
			b = append(b, '}')
		}
		b = strconv.AppendInt(append(b, `,"updatedAt":`...), item.UpdatedAt, 10)
		b = append(b, '}')
	}
	return append(b, `]}`...), hub.OpText
}

var jsonPong = hub.NewFrame(hub.OpText, []byte(`{"type":"pong"}`))

func (json) Pong() *hub.Frame { return jsonPong }

// appendOptional appends null for an absent value: clients look for the key (section 8.2).
func appendOptional(b []byte, s string) []byte {
	if s == "" {
		return append(b, "null"...)
	}
	return appendString(b, s)
}

const hexDigits = "0123456789abcdef"

// appendString appends s as a JSON string. Bytes that are not UTF-8 become U+FFFD, one each.
func appendString[S string | []byte](b []byte, s S) []byte {
	b = append(b, '"')
	done := 0 // s[:done] is written
	for i := 0; i < len(s); {
		c := s[i]
		if c < utf8.RuneSelf {
			if c >= ' ' && c != '"' && c != '\\' {
				i++
				continue
			}
			b = append(b, s[done:i]...)
			switch c {
			case '"', '\\':
				b = append(b, '\\', c)
			case '\n':
				b = append(b, `\n`...)
			case '\r':
				b = append(b, `\r`...)
			case '\t':
				b = append(b, `\t`...)
			default:
				b = append(b, `\u00`...)
				b = append(b, hexDigits[c>>4], hexDigits[c&0xF])
			}
			i++
			done = i
			continue
		}
		n := min(len(s)-i, utf8.UTFMax)
		r, size := utf8.DecodeRuneInString(string(s[i : i+n]))
		if r == utf8.RuneError && size == 1 {
			b = append(b, s[done:i]...)
			b = append(b, "\uFFFD"...)
			done = i + 1
		}
		i += size
	}
	b = append(b, s[done:]...)
	return append(b, '"')
}
