// Package subprotocol reads and writes what is inside the WebSocket messages of a client: the JSON and protobuf
// subprotocols, reliable or not, and the bare frames of clients that speak none.
//
// A client must be able to tell a refused request from a broken one, and what one client publishes must reach the
// next unchanged. So decoding is strict, in the manner of the service: a request either is exactly what the
// protocol describes, or the connection is closed with a reason that says what is wrong with it; and the JSON text
// of a payload travels byte for byte, numbers, white space and all.
//
// Facts: the client protocol of Azure Web PubSub, sections 7 to 10 and 14. What requests mean is decided by clientws;
// who receives what, by hub. Everything here is free of state and safe for concurrent use.
package subprotocol

import (
	"errors"
	"strings"
	"time"

	"tabard/internal/hub"
)

// A Protocol is one subprotocol. It is also the codec with which the hub writes to its connections.
type Protocol interface {
	hub.Codec
	// Name is the name for the handshake, empty for bare frames.
	Name() string
	// Simple tells that the client speaks bare frames: it has no acks, no system events, and no way to say what a
	// frame is meant to be.
	Simple() bool
	// Decode reads one message of the client into req, which it overwrites. req.Data and nothing else may share
	// memory with data. The error is an [*InvalidError].
	Decode(req *Request, op hub.Opcode, data []byte) error
	// Reliable tells that messages are numbered and a lost connection can be recovered; the protocol is then also a
	// [hub.Sequencer].
	Reliable() bool
	// Connected is the first frame of a connection; nil for a simple one. Reliable clients get the token that
	// recovers it.
	Connected(connectionID, userID, reconnectionToken string) *hub.Frame
	// Ack answers a request that has an ackId: with success if failure is nil. It is nil for a simple protocol.
	Ack(id uint64, failure *AckError) *hub.Frame
	// Pong answers a ping request.
	Pong() *hub.Frame
	// InvokeResponse answers an Invoke: with the reply, which may be nil for none, or with a failure.
	InvokeResponse(invocation string, reply *hub.Message, failure *AckError) *hub.Frame
	// StreamAck tells a publisher which number of its stream is expected next.
	StreamAck(stream string, expected uint64) *hub.Frame
	// StreamNack refuses a part of a stream that stays open.
	StreamNack(stream string, expected uint64, failure AckError) *hub.Frame
	// StreamClosed ends a stream; failure is nil for the end that the publisher asked for.
	StreamClosed(stream string, failure *AckError) *hub.Frame
}

// The protocols of the service.
var (
	Raw              Protocol = raw{}
	JSON             Protocol = json{}
	ReliableJSON     Protocol = reliableJSON{}
	Protobuf         Protocol = protobuf{}
	ReliableProtobuf Protocol = reliableProtobuf{}
)

// ByName returns the protocol that a client asked for; names ignore case.
func ByName(name string) (Protocol, bool) {
	for _, p := range [...]Protocol{JSON, ReliableJSON, Protobuf, ReliableProtobuf} {
		if strings.EqualFold(name, p.Name()) {
			return p, true
		}
	}
	return nil, false
}

// Numbers of the forms that messages are encoded in.
const (
	rawEncoding = iota
	jsonEncoding
	reliableJSONEncoding
	protobufEncoding
	reliableProtobufEncoding
	textProtobufEncoding
	reliableTextProtobufEncoding
)

// Kind is what a request asks for.
type Kind uint8

// The kinds of requests.
const (
	JoinGroup Kind = iota + 1
	LeaveGroup
	SendToGroup
	Event
	Ping
	SequenceAck
	Invoke
	CancelInvocation
	StreamStart
	StreamData
	StreamEnd
	SetGroupState
	SubscribeGroupState
	UnsubscribeGroupState
)

// A Request is a client's message, decoded and valid.
type Request struct {
	Kind     Kind
	HasAck   bool // the client wants an ack with AckID
	NoEcho   bool
	Type     hub.DataType
	AckID    uint64
	Group    string // of JoinGroup, LeaveGroup, SendToGroup
	Event    string // of Event
	Data     []byte // of SendToGroup, Event
	Metadata []hub.Pair
	TTL      time.Duration
	Sequence uint64 // of SequenceAck

	Invocation string // of Invoke, CancelInvocation
	NoData     bool   // an Invoke without a payload; a StreamData that only keeps the stream alive

	Stream         string        // of StreamStart, StreamData, StreamEnd
	StreamSequence uint64        // of StreamData
	IdleTimeout    time.Duration // of StreamStart; 0: the default
	StreamError    *StreamError  // of StreamEnd; nil: a good end

	State map[string]string // of SetGroupState; nil: clear
}

// A StreamError is why a publisher ends its stream.
type StreamError struct{ Message, UserCode string }

// AckError says why a request with an ackId was not carried out. Clients show both; only Name has a meaning.
type AckError struct{ Name, Message string }

// The names of ack errors that the service emits.
const (
	Forbidden           = "Forbidden"
	InternalServerError = "InternalServerError"
	Duplicate           = "Duplicate"
	NotFound            = "NotFound"          // of an invocation that nobody takes
	BadRequest          = "BadRequest"        // of a stream that cannot begin like this
	StreamNotFound      = "StreamNotFound"    // of a stream that is not open
	InvalidSequenceID   = "InvalidSequenceId" // of a part that is not the next
	IdleTimeout         = "IdleTimeout"       // of a stream that was silent for too long
	UserError           = "UserError"         // of a stream that its publisher gave up; for subscribers
	Cancelled           = "Cancelled"         // of a stream whose publisher is gone; for subscribers
)

// An InvalidError says what is wrong with a message. The connection is to be closed with Code; the text is fit for
// the close reason and holds nothing of the message but short names.
type InvalidError struct {
	Code hub.CloseCode
	Text string
}

func (e *InvalidError) Error() string { return e.Text }

func invalid(text string) error { return &InvalidError{hub.CloseInvalidData, text} }

// Limits of metadata (client protocol, section 14), in bytes.
const (
	MaxMetadataKey   = 256
	MaxMetadataValue = 1024
	MaxMetadata      = 8192 // all keys and values together
)

// Limits of our own on what clients choose freely, in bytes.
const (
	MaxStreamID     = 256
	MaxInvocationID = 256
	MaxStateBytes   = 8192 // keys and values of one state together
	MaxStreamError  = 1024 // message and code of a publisher's error, each
)

// DefaultIdleTimeout ends a stream without activity (section 11).
const DefaultIdleTimeout = 300 * time.Second

// MaxTTL is the longest lifetime that a publisher may ask for.
const MaxTTL = 300 * time.Second

// CheckMetadata tells what is wrong with one entry and the total size so far, which includes it; nil if nothing.
func CheckMetadata(key, value string, total int) error {
	switch {
	case key == "" || len(key) > MaxMetadataKey || strings.ContainsFunc(key, notToken):
		return errors.New("metadata key must be 1 to 256 letters, digits or !#$%&'*+-.^_`|~")
	case len(value) > MaxMetadataValue:
		return errors.New("metadata value is longer than 1024 bytes")
	case strings.ContainsFunc(value, func(r rune) bool { return r >= 0x80 }):
		return errors.New("metadata value must be ASCII")
	case total > MaxMetadata:
		return errors.New("metadata is larger than 8192 bytes")
	}
	return nil
}

func notToken(r rune) bool {
	switch {
	case 'a' <= r && r <= 'z', 'A' <= r && r <= 'Z', '0' <= r && r <= '9':
		return false
	}
	return !strings.ContainsRune("!#$%&'*+-.^_`|~", r)
}

// ValidEvent tells whether name may name a user event: a letter, then up to 127 letters, digits, "_", "." or "-".
func ValidEvent(name string) bool {
	for i, r := range name {
		switch {
		case 'a' <= r && r <= 'z', 'A' <= r && r <= 'Z':
		case i > 0 && ('0' <= r && r <= '9' || r == '_' || r == '.' || r == '-'):
		default:
			return false
		}
	}
	return name != "" && len(name) <= 128
}

// checkStream, checkInvocation, checkState and checkStreamError hold decoded values against the limits.
func checkStream(id string) error {
	if id == "" || len(id) > MaxStreamID {
		return invalid("streamId must have 1 to 256 bytes")
	}
	return nil
}

func checkInvocation(id string) error {
	if id == "" || len(id) > MaxInvocationID {
		return invalid("invocationId must have 1 to 256 bytes")
	}
	return nil
}

func checkState(state map[string]string) error {
	n := 0
	for k, v := range state {
		n += len(k) + len(v)
	}
	if n > MaxStateBytes {
		return invalid("state is larger than 8192 bytes")
	}
	return nil
}

func checkStreamError(e *StreamError) error {
	if e != nil && (len(e.Message) > MaxStreamError || len(e.UserCode) > MaxStreamError) {
		return invalid("error of a stream is larger than 1024 bytes")
	}
	return nil
}
