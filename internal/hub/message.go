package hub

import (
	"strings"
	"time"
	"unicode/utf8"
)

// DataType says what a message's bytes are; each subprotocol renders them accordingly.
type DataType uint8

// The data types of the service. JSON data is the text of one JSON value and is passed on byte for byte. Protobuf
// data is a serialized google.protobuf.Any.
const (
	Text DataType = iota
	JSON
	Binary
	Protobuf
)

// String returns the name that the JSON subprotocols use.
func (t DataType) String() string {
	switch t {
	case Text:
		return "text"
	case JSON:
		return "json"
	case Binary:
		return "binary"
	default:
		return "protobuf"
	}
}

// A Pair is one entry of a message's metadata.
type Pair struct{ Key, Value string }

// A Message is what a client receives from a group, from the server or from an event handler. It must not change
// after it was sent.
type Message struct {
	Group      string   // not empty: the client sees it as from this group; empty: from the server
	FromUserID string   // user id of the sending client; empty for servers and anonymous clients
	Type       DataType //
	Data       []byte   // valid for Type; Text and JSON are UTF-8
	Metadata   []Pair   // in order, without repeated keys; nil for none

	// Stream says which part of which stream the message is; nil: none.
	Stream *StreamInfo
	// TTL is how long the message may wait in a receiver's queue; it is dropped there afterwards. 0: for ever.
	TTL time.Duration
}

// StreamInfo is what a message that belongs to a stream says about it (client protocol, section 11).
type StreamInfo struct {
	ID       string
	Sequence uint64 // from 1; of the last message: what would have come next
	End      bool   // the last message
	Error    *StreamError
}

// A StreamError says why a stream ended, if not as its publisher meant it.
type StreamError struct {
	Name, Message string
	UserCode      string // of the publisher's own errors
}

// SendOptions choose among the receivers of a send. The zero value takes all.
type SendOptions struct {
	Excluded []string         // connection ids that do not get the message
	Except   *Conn            // one connection that does not get it: the sender that wants no echo
	Match    func(*Conn) bool // if set, only connections for which it returns true; must not block
}

// MaxGroupName is the length limit of a group's name in characters.
const MaxGroupName = 1024

// ValidGroup tells whether name may name a group: 1 to 1024 characters of valid UTF-8, not only white space
// (published API: ^(?!\s+$).+$).
func ValidGroup(name string) bool {
	return name != "" && len(name) <= MaxGroupName*utf8.UTFMax && utf8.ValidString(name) &&
		utf8.RuneCountInString(name) <= MaxGroupName && strings.TrimSpace(name) != ""
}
