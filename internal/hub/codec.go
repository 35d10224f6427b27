package hub

import "encoding/binary"

// Opcode is the kind of a WebSocket frame (RFC 6455, 5.2).
type Opcode byte

// The opcodes that a service sends.
const (
	OpText   Opcode = 0x1
	OpBinary Opcode = 0x2
	OpClose  Opcode = 0x8
	OpPing   Opcode = 0x9
	OpPong   Opcode = 0xA
)

// MaxEncodings bounds [Codec.Encoding].
const MaxEncodings = 8

// A Codec writes what a connection receives in the form of its subprotocol. One value without state serves all
// connections of a subprotocol and is used by many goroutines at once.
type Codec interface {
	// Encoding numbers the form that the codec writes, from 0 to MaxEncodings-1. The hub encodes a message once
	// for each number and shares the bytes among all receivers with that number.
	Encoding() int
	// AppendMessage appends m to dst as the payload of one frame of the returned kind.
	AppendMessage(dst []byte, m *Message) ([]byte, Opcode)
	// AppendDisconnected appends the notice that precedes a close by the service. Appending nothing means that
	// the subprotocol has none.
	AppendDisconnected(dst []byte, reason string) ([]byte, Opcode)
}

// A Frame is one finished WebSocket frame, shared by every queue that refers to it.
type Frame struct {
	bytes    []byte
	deadline int64  // registry time after which it is dropped unsent; 0: never
	op       Opcode // of a message for reliable connections, whose bytes are the part of the payload that all share
}

func (f *Frame) expired(now int64) bool { return f.deadline != 0 && now > f.deadline }

const maxFrameHeader = 10 // of an unmasked frame

// frame runs write on an empty buffer with room for size bytes and puts the header of one final frame before what
// it appended. It returns nil if nothing was appended.
func frame(size int, write func(dst []byte) ([]byte, Opcode)) *Frame {
	buf, op := write(make([]byte, maxFrameHeader, maxFrameHeader+size))
	if len(buf) == maxFrameHeader {
		return nil
	}
	return &Frame{bytes: seal(buf, op)}
}

// seal writes the header for the payload that follows the first maxFrameHeader bytes of buf and returns the frame.
func seal(buf []byte, op Opcode) []byte {
	n := len(buf) - maxFrameHeader
	var h int
	switch {
	case n < 126:
		h = maxFrameHeader - 2
		buf[h+1] = byte(n)
	case n <= 0xFFFF:
		h = maxFrameHeader - 4
		buf[h+1] = 126
		binary.BigEndian.PutUint16(buf[h+2:], uint16(n))
	default:
		h = 0
		buf[h+1] = 127
		binary.BigEndian.PutUint64(buf[h+2:], uint64(n))
	}
	buf[h] = 0x80 | byte(op)
	return buf[h:]
}

// An outgoing is a frame as one connection gets it.
type outgoing struct {
	*Frame
	sequence uint64 // 0: the bytes are the whole frame, with its header
}

// append appends the frame as it goes out. own is scratch memory for a connection's own parts of it.
func (n outgoing) append(dst []byte, codec Sequencer, own *[2 * maxOwn]byte) []byte {
	if n.sequence == 0 {
		return append(dst, n.bytes...)
	}
	tail := codec.AppendSequence(own[:0:maxOwn], n.sequence)
	head := codec.AppendStart(own[maxOwn:maxOwn], len(n.bytes)+len(tail))
	size := len(head) + len(n.bytes) + len(tail)
	dst = append(dst, 0x80|byte(n.op))
	switch {
	case size < 126:
		dst = append(dst, byte(size))
	case size <= 0xFFFF:
		dst = binary.BigEndian.AppendUint16(append(dst, 126), uint16(size))
	default:
		dst = binary.BigEndian.AppendUint64(append(dst, 127), uint64(size))
	}
	return append(append(append(dst, head...), n.bytes...), tail...)
}

// Verbatim returns bytes that go out as they are, such as the answer to a handshake.
func Verbatim(b []byte) *Frame { return &Frame{bytes: b} }

// NewFrame returns a final frame with a copy of payload.
func NewFrame(op Opcode, payload []byte) *Frame {
	buf := make([]byte, maxFrameHeader+len(payload))
	copy(buf[maxFrameHeader:], payload)
	return &Frame{bytes: seal(buf, op)}
}

// BuildFrame returns a final frame whose payload is what write appends to the slice that it is given, saving the
// copy of [NewFrame]. size is a guess at the payload's length.
func BuildFrame(op Opcode, size int, write func(dst []byte) []byte) *Frame {
	return &Frame{bytes: seal(write(make([]byte, maxFrameHeader, maxFrameHeader+size)), op)}
}
