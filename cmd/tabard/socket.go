package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"time"

	"github.com/gobwas/ws"
)

// leaveTime is how long the service may take to answer our closing the connection.
const leaveTime = 2 * time.Second

// A socket is the client's end of a WebSocket. One goroutine receives; any may send or hang up.
type socket struct {
	conn     net.Conn
	r        *bufio.Reader
	protocol string // that the service chose

	mu      sync.Mutex // guards writes and leaving
	leaving bool
}

// closedError is the end of a connection by its close handshake.
type closedError struct {
	code   ws.StatusCode
	reason string
	ours   bool // we began it
}

func (e *closedError) Error() string {
	who := "the service"
	if e.ours {
		who = "us"
	}
	text := fmt.Sprintf("closed by %s: %d", who, e.code)
	if e.reason != "" {
		text += " " + e.reason
	}
	return text
}

func (c *socket) describe() string {
	if c.protocol == "" {
		return ""
	}
	return " with " + c.protocol
}

func (c *socket) Close() error { return c.conn.Close() }

// send writes one message, or a control frame, in one write.
func (c *socket) send(op ws.OpCode, data []byte) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.write(ws.NewFrame(op, true, data))
}

func (c *socket) write(f ws.Frame) error {
	if c.leaving {
		return net.ErrClosed
	}
	text, err := ws.CompileFrame(ws.MaskFrame(f)) // a client masks, RFC 6455 section 5.3
	if err != nil {
		return err
	}
	_, err = c.conn.Write(text)
	return err
}

// hangUp says goodbye. The receiver then gets the service's answer, or a timeout when there is none.
func (c *socket) hangUp() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.leaving {
		return
	}
	if c.write(ws.NewCloseFrame(ws.NewCloseFrameBody(ws.StatusNormalClosure, ""))) != nil {
		c.conn.Close()
	}
	c.leaving = true
	c.conn.SetReadDeadline(time.Now().Add(leaveTime))
}

// left tells whether we began to close.
func (c *socket) left() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.leaving
}

// receive returns the next message, its fragments joined, and answers pings on the way. The error is a *closedError
// if the connection was closed in good order.
func (c *socket) receive() (ws.OpCode, []byte, error) {
	var (
		op      ws.OpCode
		message []byte
	)
	for {
		h, err := ws.ReadHeader(c.r)
		if err != nil {
			return 0, nil, c.ended(err)
		}
		if h.Length > maxAnswer-int64(len(message)) {
			return 0, nil, fmt.Errorf("a message has more than %d bytes", maxAnswer)
		}
		data := make([]byte, h.Length)
		if _, err := io.ReadFull(c.r, data); err != nil {
			return 0, nil, c.ended(err)
		}
		switch h.OpCode {
		case ws.OpPing:
			_ = c.send(ws.OpPong, data) // a broken connection shows at the next read
			continue
		case ws.OpPong:
			continue
		case ws.OpClose:
			code, reason := ws.ParseCloseFrameData(data)
			closed := &closedError{code: code, reason: reason, ours: c.left()}
			_ = c.send(ws.OpClose, data) // the answer; it may find nobody
			return 0, nil, closed
		case ws.OpText, ws.OpBinary:
			op = h.OpCode
		}
		message = append(message, data...)
		if h.Fin {
			return op, message, nil
		}
	}
}

// ended turns the end of reading into a goodbye if we had said ours.
func (c *socket) ended(err error) error {
	if c.left() {
		return &closedError{code: ws.StatusNormalClosure, ours: true}
	}
	if errors.Is(err, io.EOF) {
		return errors.New("the service is gone without a goodbye")
	}
	return err
}
