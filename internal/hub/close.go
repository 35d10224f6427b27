package hub

import (
	"encoding/binary"
	"unicode/utf8"
)

// CloseCode is the status of a WebSocket close frame.
//
//	code  when                                                        should the client connect again?
//	1000  the client closed; a server closed the connection by REST   as it likes
//	1001  the service stops or reloads                                yes, at once
//	1002  the client broke the framing rules of RFC 6455              not before it is mended
//	1003  a kind of frame that the subprotocol does not allow         not before it is mended
//	1007  a request that cannot be parsed or is not valid             not before it is mended
//	1008  recovery refused, or a reliable connection was closed       yes, as a new connection
//	1009  a message over 1 MiB                                        not before it is mended
//	1011  a raw client's event was not handled                        yes, later
//
// A client whose queue overflows, that does not read for long or does not answer pings is cut off without a code.
type CloseCode uint16

// The close codes that the service sends (client protocol, section 15).
const (
	CloseNormal      CloseCode = 1000
	CloseGoingAway   CloseCode = 1001
	CloseProtocol    CloseCode = 1002
	CloseUnsupported CloseCode = 1003
	CloseInvalidData CloseCode = 1007
	ClosePolicy      CloseCode = 1008
	CloseTooBig      CloseCode = 1009
	CloseInternal    CloseCode = 1011

	// CloseNone is a close frame without a status: the answer to a client that sent none.
	CloseNone CloseCode = 0
)

// Reasons of an end that no peer gave: what the disconnected event of the connection says.
const (
	ReasonPingTimeout = "Ping timeout"
	ReasonSlowClient  = "Slow client"
	ReasonLost        = "Connection lost"
	ReasonReload      = "Service reload"
)

const maxCloseReason = 123 // bytes: a control frame has 125, the code takes two

// CloseFrame returns the bytes of a close frame, for a client that the hub never took in.
func CloseFrame(code CloseCode, reason string) []byte { return closeFrame(code, reason).bytes }

// closeFrame returns the close frame for code; a reason that is too long is cut between two characters.
func closeFrame(code CloseCode, reason string) *Frame {
	if code == CloseNone {
		return NewFrame(OpClose, nil)
	}
	return NewFrame(OpClose, append(binary.BigEndian.AppendUint16(nil, uint16(code)), cut(reason, maxCloseReason)...))
}

// cut returns the longest prefix of s of at most n bytes that ends between two characters.
func cut(s string, n int) string {
	if len(s) <= n {
		return s
	}
	for n > 0 && !utf8.RuneStart(s[n]) {
		n--
	}
	return s[:n]
}
