package hub

import (
	"bytes"
	"compress/flate"
	"context"
	"encoding/binary"
	"io"
	"net"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gobwas/ws"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) {
	if spec := os.Getenv(readersEnv); spec != "" {
		runReaders(spec)
		return
	}
	goleak.VerifyTestMain(m)
}

// A plainCodec writes the data of a message as it is, and counts.
type plainCodec struct {
	encoding int
	encoded  atomic.Int64
}

func (c *plainCodec) Encoding() int { return c.encoding }

func (c *plainCodec) AppendMessage(dst []byte, m *Message) ([]byte, Opcode) {
	c.encoded.Add(1)
	return append(dst, m.Data...), OpText
}

func (c *plainCodec) AppendDisconnected(dst []byte, reason string) ([]byte, Opcode) {
	if c.encoding == 0 {
		return dst, OpText
	}
	return append(append(dst, "bye: "...), reason...), OpText
}

func newRegistry(t testing.TB, opt Options) *Registry {
	r := NewRegistry(opt)
	t.Cleanup(func() {
		ctx, cancel := context.WithCancel(context.Background())
		cancel()
		r.Close(ctx)
	})
	return r
}

// A peer is the client's end of a connection.
type peer struct {
	t     testing.TB
	net   net.Conn
	conn  *Conn
	ended chan string

	deflate bool // it inflates what is marked as compressed
}

// tcpPair returns both ends of a connection over loopback.
func tcpPair(t testing.TB) (server, client net.Conn) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	client, err = net.Dial("tcp", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	server, err = ln.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { client.Close() })
	return server, client
}

var testCodec = &plainCodec{encoding: 1}

// connect takes in a connection over loopback TCP.
func connect(t testing.TB, h *Hub, o ConnOptions) *peer {
	t.Helper()
	server, client := tcpPair(t)
	return connectOver(t, h, o, server, client)
}

func connectOver(t testing.TB, h *Hub, o ConnOptions, server, client net.Conn) *peer {
	t.Helper()
	p := &peer{t: t, net: client, ended: make(chan string, 2)}
	if o.ID == "" {
		o.ID = NewID()
	}
	if o.Codec == nil {
		o.Codec = testCodec
	}
	o.Socket = server
	o.Ended = func(reason string) { p.ended <- reason }
	c, err := h.Connect(o)
	if err != nil {
		t.Fatal(err)
	}
	p.conn = c
	return p
}

// read returns the next frame.
func (p *peer) read() (ws.OpCode, string) {
	p.t.Helper()
	op, payload, err := p.next()
	if err != nil {
		p.t.Fatalf("reading a frame: %v", err)
	}
	return op, payload
}

func (p *peer) next() (ws.OpCode, string, error) {
	p.net.SetReadDeadline(time.Now().Add(10 * time.Second))
	h, err := ws.ReadHeader(p.net)
	if err != nil {
		return 0, "", err
	}
	packed := p.deflate && h.Rsv1()
	if packed {
		h.Rsv = ws.Rsv(false, h.Rsv2(), h.Rsv3())
	}
	if err := ws.CheckHeader(h, ws.StateClientSide); err != nil {
		return 0, "", err
	}
	payload := make([]byte, h.Length)
	if _, err = io.ReadFull(p.net, payload); packed && err == nil {
		payload, err = io.ReadAll(flate.NewReader(io.MultiReader(bytes.NewReader(payload), strings.NewReader("\x00\x00\xff\xff\x01\x00\x00\xff\xff"))))
	}
	return h.OpCode, string(payload), err
}

func (p *peer) wantText(want string) {
	p.t.Helper()
	if op, got := p.read(); op != ws.OpText || got != want {
		p.t.Fatalf("got frame %v %q, want text %q", op, got, want)
	}
}

func (p *peer) wantClose(code CloseCode, reason string) {
	p.t.Helper()
	op, got := p.read()
	if op != ws.OpClose || len(got) < 2 || CloseCode(binary.BigEndian.Uint16([]byte(got))) != code || got[2:] != reason {
		p.t.Fatalf("got frame %v %q, want close %d %q", op, got, code, reason)
	}
}

// wantNothing sends a marker to the connection alone and expects it to be the next thing.
func (p *peer) wantNothing() {
	p.t.Helper()
	p.conn.SendMessage(text("marker"))
	p.wantText("marker")
}

func (p *peer) wantEnd(reason string) {
	p.t.Helper()
	select {
	case got := <-p.ended:
		if got != reason {
			p.t.Fatalf("connection ended with reason %q, want %q", got, reason)
		}
	case <-time.After(10 * time.Second):
		p.t.Fatal("connection did not end")
	}
}

// wantEOF expects the socket to be closed, with nothing before.
func (p *peer) wantEOF() {
	p.t.Helper()
	if op, got, err := p.next(); err == nil {
		p.t.Fatalf("got frame %v %q, want the end of the stream", op, got)
	} else if ne, ok := err.(net.Error); ok && ne.Timeout() {
		p.t.Fatal("the socket is still open")
	}
}

func text(s string) *Message { return &Message{Type: Text, Data: []byte(s)} }

func toGroup(g, s string) *Message { return &Message{Group: g, Type: Text, Data: []byte(s)} }

// eventually polls until ok or a deadline.
func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); !ok(); {
		if time.Now().After(deadline) {
			t.Fatalf("never happened: %s", what)
		}
		<-time.After(time.Millisecond)
	}
}
