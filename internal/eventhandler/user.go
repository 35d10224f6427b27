package eventhandler

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"net/http"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"tabard/guard/reason"
)

// A DataType says what a payload is, independent of any client protocol.
type DataType uint8

// The data types, with the content type that carries each.
const (
	Text     DataType = iota // text/plain; valid UTF-8
	JSON                     // application/json; one JSON value
	Binary                   // application/octet-stream
	Protobuf                 // application/x-protobuf; a google.protobuf.Any
)

var contentTypes = [...][]string{
	Text:     {"text/plain; charset=utf-8"},
	JSON:     {"application/json"},
	Binary:   {"application/octet-stream"},
	Protobuf: {"application/x-protobuf"},
}

// Limits on the metadata of an answer (EMU).
const (
	maxMetadataKey   = 256
	maxMetadataValue = 1024
	maxMetadata      = 8192
)

// A Pair is one entry of a message's metadata.
type Pair struct{ Key, Value string }

// A UserEvent is a message of a client for the event handler.
type UserEvent struct {
	Name string // "message" for a simple client
	Type DataType
	// Data is sent as it is and remembered by the trace: hand over a copy of a buffer that is reused.
	Data     []byte
	Metadata []Pair // keys and values are ASCII; of keys that differ in case the last one counts
}

// A Reply is what a handler wants the client to receive.
type Reply struct {
	Type     DataType
	Data     []byte
	Metadata []Pair // lower-case keys, sorted
}

// User sends a user event to its handler and waits for the answer. A nil Reply means that there is nothing to tell
// the client. Connection state in the answer is in force when User returns. The error is [ErrNoHandler] or a
// *[DeliveryError].
//
// Two user events of a session are never under way at the same time: a second call waits for the first. ctx ends
// the call early, which the caller wants when the client has gone.
func (s *Session) User(ctx context.Context, e UserEvent) (*Reply, error) {
	if !s.begin(ctx) {
		return nil, s.d.interrupted(ctx).deliveryError(s.hub, e.Name)
	}
	defer s.end()
	in, ok := s.instanceNow()
	if !ok {
		return nil, ErrNoHandler
	}
	h := in.Hub(s.hub).UserHandler(e.Name)
	ev := &event{
		name: e.Name, user: true, blocking: true, time: time.Now(),
		contentType: contentTypes[e.Type], body: e.Data, metadata: e.Metadata,
	}
	if h == nil {
		s.unheard(in, ev)
		return nil, ErrNoHandler
	}
	ev.id = s.nextID()
	var reply *Reply
	_, f := s.deliver(ctx, in, h, ev, func(a *answer) (f *fault) {
		reply, f = parseReply(a)
		return f
	})
	if f != nil {
		return nil, f.deliveryError(s.hub, e.Name)
	}
	return reply, nil
}

// parseReply makes sense of a successful answer to a user event.
func parseReply(a *answer) (*Reply, *fault) {
	metadata, f := parseMetadata(a.header)
	if f != nil {
		return nil, f
	}
	if len(a.body) == 0 {
		if len(metadata) == 0 {
			return nil, nil
		}
		return &Reply{Type: Text, Metadata: metadata}, nil
	}
	r := &Reply{Data: a.body, Metadata: metadata}
	media, _, _ := strings.Cut(a.header.Get("Content-Type"), ";") // parameters are ignored
	switch strings.ToLower(strings.TrimSpace(media)) {
	case "text/plain":
		r.Type = Text
		if !utf8.Valid(a.body) {
			r.Data = bytes.ToValidUTF8(a.body, []byte("\uFFFD")) // a text frame must not hold anything else
		}
	case "application/json":
		if r.Type = JSON; !json.Valid(a.body) {
			return nil, invalid("the answer says application/json and is not JSON")
		}
	case "application/x-protobuf":
		r.Type = Protobuf
	case "application/octet-stream", "":
		r.Type = Binary
	default:
		return nil, invalid("the answer's Content-Type is none of text/plain, application/json, application/octet-stream, application/x-protobuf")
	}
	return r, nil
}

func invalid(text string) *fault {
	return &fault{code: reason.HandlerResponseInvalid, err: errText(text)}
}

// parseMetadata collects x-webpubsub-metadata-*: of repeated headers and within a comma-separated value the last
// counts (EMU).
func parseMetadata(h http.Header) ([]Pair, *fault) {
	var pairs []Pair
	total := 0
	for name, values := range h {
		if len(name) <= len(canonicalMetadata) || !strings.EqualFold(name[:len(canonicalMetadata)], canonicalMetadata) || len(values) == 0 {
			continue
		}
		value := values[len(values)-1]
		value = strings.TrimSpace(value[strings.LastIndexByte(value, ',')+1:])
		p := Pair{strings.ToLower(name[len(canonicalMetadata):]), value}
		total += len(p.Key) + len(p.Value)
		if !isToken(p.Key) || !visible(p.Value, false) || len(p.Key) > maxMetadataKey || len(p.Value) > maxMetadataValue || total > maxMetadata {
			return nil, invalid("the answer's x-webpubsub-metadata headers are too large or not ASCII")
		}
		pairs = append(pairs, p)
	}
	slices.SortFunc(pairs, func(a, b Pair) int { return cmp.Compare(a.Key, b.Key) })
	return pairs, nil
}
