package hub

import (
	"encoding/binary"

	"tabard/internal/deflate"
)

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

	// packed is what stands for bytes on connections that compress, nil if it is not shorter. It is made when the first
	// such connection is to receive the frame, before that one can see it, and tried says that it was.
	packed []byte
	tried  bool
}

func (f *Frame) expired(now int64) bool { return f.deadline != 0 && now > f.deadline }

const maxFrameHeader = 10 // of an unmasked frame

const (
	final      = 0x80
	compressed = 0x40 // RSV1, as permessage-deflate uses it
)

// minPacked is the size from which a payload is worth compressing, in bytes.
const minPacked = 256

// pack compresses a message for all who receive it so; numbered tells whether connections add their own parts to it.
func (f *Frame) pack(numbered bool) {
	if f.tried {
		return
	}
	f.tried = true
	payload := f.bytes
	if !numbered {
		payload = payload[headerSize(f.bytes):]
	}
	if len(payload) < minPacked {
		return
	}
	if numbered {
		if buf := deflate.Compress(make([]byte, 0, len(payload)/2), payload); len(buf)+32 < len(payload) { // what the parts around it cost
			f.packed = buf
		}
		return
	}
	if buf := deflate.Message(make([]byte, maxFrameHeader, maxFrameHeader+len(payload)/2), payload); len(buf)-maxFrameHeader < len(payload) {
		f.packed = seal(buf, Opcode(f.bytes[0]&^final|compressed))
	}
}

// headerSize is how long the header of an unmasked frame is.
func headerSize(frame []byte) int {
	switch frame[1] {
	case 126:
		return 4
	case 127:
		return 10
	}
	return 2
}

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
	var room [maxFrameHeader]byte
	header := appendHeader(room[:0], op, len(buf)-maxFrameHeader)
	frame := buf[maxFrameHeader-len(header):]
	copy(frame, header)
	return frame
}

// An outgoing is a frame as one connection gets it.
type outgoing struct {
	*Frame
	sequence uint64 // 0: the bytes are the whole frame, with its header
}

// wire is the whole frame as it goes out, if no part of it is the connection's own.
func (n outgoing) wire(pack bool) []byte {
	if pack && n.packed != nil {
		return n.packed
	}
	return n.bytes
}

// append appends the frame as it goes out, compressed or not. own is scratch memory for a connection's own parts of it.
func (n outgoing) append(dst []byte, codec Sequencer, pack bool, own *[2 * maxOwn]byte) []byte {
	if n.sequence == 0 {
		return append(dst, n.wire(pack)...)
	}
	tail := codec.AppendSequence(own[:0:maxOwn], n.sequence)
	head := codec.AppendStart(own[maxOwn:maxOwn], len(n.bytes)+len(tail))
	if pack && n.packed != nil {
		dst = appendHeader(dst, n.op|compressed, deflate.StoredSize(len(head))+len(n.packed)+deflate.StoredSize(len(tail))+1)
		dst = append(deflate.Store(dst, head), n.packed...)
		return append(deflate.Store(dst, tail), deflate.End)
	}
	dst = appendHeader(dst, n.op, len(head)+len(n.bytes)+len(tail))
	return append(append(append(dst, head...), n.bytes...), tail...)
}

// appendHeader appends the header of a final frame.
func appendHeader(dst []byte, op Opcode, size int) []byte {
	dst = append(dst, final|byte(op))
	switch {
	case size < 126:
		return append(dst, byte(size))
	case size <= 0xFFFF:
		return binary.BigEndian.AppendUint16(append(dst, 126), uint16(size))
	}
	return binary.BigEndian.AppendUint64(append(dst, 127), uint64(size))
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
