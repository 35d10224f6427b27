package wire

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/gobwas/ws"
)

const (
	readBuffer = 4 << 10
	maxFrame   = 4 << 20 // bounds what is read of one frame
)

// Opcodes of frames.
const (
	Continuation = ws.OpContinuation
	Text         = ws.OpText
	Binary       = ws.OpBinary
)

// A Handshake is how a client asks to be let in.
type Handshake struct {
	URL          string // http or https, with the query
	Subprotocols []string
	Header       http.Header
}

// A Refused handshake was answered with another status than 101.
type Refused int

func (r Refused) Error() string { return fmt.Sprintf("refused with status %d", int(r)) }

// A Closed connection was closed by the service with a close frame.
type Closed struct {
	Code   int // 0: the frame has none
	Reason string
}

func (c *Closed) Error() string { return fmt.Sprintf("closed by the server: %d %q", c.Code, c.Reason) }

// A Conn is a client's WebSocket. Frames may be written by many goroutines and are read by one.
type Conn struct {
	Subprotocol string // as the service chose

	conn   net.Conn
	r      *bufio.Reader
	closed atomic.Bool

	mu    sync.Mutex // guards writes and frame
	frame []byte
}

// Dial opens a WebSocket. The error is a [Refused] if the service says no.
func Dial(ctx context.Context, e *Endpoint, h Handshake) (*Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, Timeout)
	defer cancel()
	d := ws.Dialer{Protocols: h.Subprotocols, TLSConfig: e.TLS, NetDial: dialHost, Header: ws.HandshakeHeaderHTTP(h.Header)}
	conn, early, hs, err := d.Dial(ctx, "ws"+strings.TrimPrefix(h.URL, "http"))
	var status ws.StatusError
	if errors.As(err, &status) {
		return nil, Refused(status)
	}
	if err != nil {
		return nil, err
	}
	c := &Conn{conn: conn, r: early, Subprotocol: hs.Protocol}
	if c.r == nil {
		c.r = bufio.NewReaderSize(conn, readBuffer)
	}
	return c, nil
}

// Close closes the socket without a close frame. It may be called more than once.
func (c *Conn) Close() {
	if !c.closed.Swap(true) {
		c.conn.Close()
	}
}

// IsClosed tells whether Close was called.
func (c *Conn) IsClosed() bool { return c.closed.Load() }

// Deadline bounds the reads from now on; zero: no bound.
func (c *Conn) Deadline(t time.Time) { _ = c.conn.SetReadDeadline(t) } // a closed socket says so when it is read

// Next reads the next data frame. The payload is valid until the next call. Pings are answered; a close frame is
// answered and then a [*Closed] error.
func (c *Conn) Next() (ws.OpCode, []byte, error) {
	for {
		op, payload, err := c.nextFrame()
		switch {
		case err != nil:
			return 0, nil, err
		case op == ws.OpPing:
			if err := c.Write(ws.OpPong, payload); err != nil {
				return 0, nil, err
			}
		case op == ws.OpText, op == ws.OpBinary:
			return op, payload, nil
		}
	}
}

// nextFrame is Next without passing over control frames.
func (c *Conn) nextFrame() (ws.OpCode, []byte, error) {
	h, err := ws.ReadHeader(c.r)
	if err != nil {
		return 0, nil, err
	}
	if h.Length > maxFrame {
		return 0, nil, fmt.Errorf("a frame of %d bytes", h.Length)
	}
	var payload []byte
	if n := int(h.Length); n <= c.r.Size() {
		if payload, err = c.r.Peek(n); err != nil {
			return 0, nil, err
		}
		if _, err := c.r.Discard(n); err != nil { // the bytes stay until the next read
			return 0, nil, err
		}
	} else {
		payload = make([]byte, n)
		if _, err := io.ReadFull(c.r, payload); err != nil {
			return 0, nil, err
		}
	}
	switch {
	case h.OpCode == ws.OpClose:
		closed := &Closed{}
		if len(payload) >= 2 {
			closed.Code, closed.Reason = int(binary.BigEndian.Uint16(payload)), string(payload[2:])
		}
		_ = c.Write(ws.OpClose, payload[:min(2, len(payload))]) // it is as good as gone
		return 0, nil, closed
	case !h.Fin:
		return 0, nil, errors.New("the server fragments its messages")
	}
	return h.OpCode, payload, nil
}

// Write sends one final frame.
func (c *Conn) Write(op ws.OpCode, payload []byte) error { return c.WriteFragment(true, op, payload) }

// WriteFragment sends one frame, which is the last of its message or not.
func (c *Conn) WriteFragment(final bool, op ws.OpCode, payload []byte) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	mask := ws.NewMask()
	var head bytes.Buffer
	if err := ws.WriteHeader(&head, ws.Header{Fin: final, OpCode: op, Masked: true, Mask: mask, Length: int64(len(payload))}); err != nil {
		return err
	}
	c.frame = append(append(c.frame[:0], head.Bytes()...), payload...)
	ws.Cipher(c.frame[head.Len():], mask, 0)
	_, err := c.conn.Write(c.frame)
	return err
}
