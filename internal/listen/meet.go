package listen

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"io"
	"net"
	"net/http"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/net/http/httpguts"
)

// heads are the buffers that first requests are read into, lent for as long as it takes to know what they want.
var heads = sync.Pool{New: func() any { b := make([]byte, 0, 4<<10); return &b }}

// maxPooledHead keeps a rare large head from living in the pool for ever.
const maxPooledHead = 8 << 10

// How long, in time and bytes, a client that is refused may go on sending.
const (
	lingerTime = 2 * time.Second
	maxLinger  = 256 << 10
)

const (
	recordTypeHandshake = 0x16 // the first byte of a TLS connection
	useHTTPS            = "HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain; charset=utf-8\r\nConnection: close\r\nContent-Length: 52\r\n\r\n" +
		"Plain HTTP is turned off here: use https:// instead\n"
)

// meet finds out what a new connection wants and passes it on.
func (s *Server) meet(conn net.Conn) {
	buf := heads.Get().(*[]byte)
	defer func() {
		if cap(*buf) <= maxPooledHead {
			*buf = (*buf)[:0]
			heads.Put(buf)
		}
	}()
	_ = conn.SetReadDeadline(time.Now().Add(s.opt.HeadTimeout))
	*buf = (*buf)[:0]
	if !read(conn, buf, 1) {
		s.drop(conn)
		return
	}
	switch isTLS := (*buf)[0] == recordTypeHandshake; {
	case isTLS && s.opt.TLS != nil:
		s.meetTLS(conn, buf)
	case s.opt.TLSOnly:
		sayUseHTTPS(conn)
		s.drop(conn)
	default:
		s.meetHTTP(conn, conn, nil, buf)
	}
}

// sayUseHTTPS answers a client that speaks plain HTTP. It reads what the client sends before the connection may be
// closed: closing it over unread bytes resets it, and the client might never see the answer.
func sayUseHTTPS(conn net.Conn) {
	_ = conn.SetDeadline(time.Now().Add(lingerTime))
	if _, err := io.WriteString(conn, useHTTPS); err != nil {
		return
	}
	if half, ok := conn.(interface{ CloseWrite() error }); ok && half.CloseWrite() == nil {
		_, _ = io.CopyN(io.Discard, conn, maxLinger)
	}
}

func (s *Server) meetTLS(conn net.Conn, buf *[]byte) {
	// What was read must be read again, by TLS. It is copied, for the buffer goes on to read what TLS holds.
	secure := tls.Server(&replayed{Conn: conn, rest: bytes.Clone(*buf)}, s.opt.TLS)
	_ = conn.SetWriteDeadline(time.Now().Add(s.opt.HeadTimeout))
	if err := secure.HandshakeContext(s.ctx); err != nil {
		s.opt.Log.Debug("TLS handshake failed", "peer", conn.RemoteAddr(), "error", err)
		s.drop(conn)
		return
	}
	_ = conn.SetWriteDeadline(time.Time{})
	state := secure.ConnectionState()
	switch state.NegotiatedProtocol {
	case "", "http/1.1":
	case "h2":
		if s.known(conn) {
			_ = conn.SetReadDeadline(time.Time{})
			s.handed.hand(secure) // net/http knows a *tls.Conn and speaks HTTP/2 on it
		}
		return
	default:
		_ = secure.Close()
		s.drop(conn)
		return
	}
	*buf = (*buf)[:0]
	s.meetHTTP(conn, secure, &state, buf)
}

// meetHTTP reads the head of the first request and decides. conn is what was accepted, stream what HTTP is spoken on.
func (s *Server) meetHTTP(conn, stream net.Conn, state *tls.ConnectionState, buf *[]byte) {
	end := -1
	if s.opt.IsUpgrade != nil {
		var alive bool
		if end, alive = readHead(stream, buf); !alive {
			s.drop(conn)
			return
		}
	}
	if !s.known(conn) {
		return
	}
	_ = conn.SetReadDeadline(time.Time{})
	if end >= 0 {
		if r := s.upgrade((*buf)[:end], conn, state); r != nil {
			if rest := (*buf)[end:]; len(rest) > 0 {
				stream = &replayed{Conn: stream, rest: bytes.Clone(rest)}
			}
			ctx, cancel := context.WithCancel(context.WithValue(s.ctx, http.LocalAddrContextKey, conn.LocalAddr()))
			defer cancel()
			s.handOver(stream, r.WithContext(ctx))
			return
		}
	}
	if len(*buf) > 0 || state != nil {
		stream = &replayed{Conn: stream, rest: bytes.Clone(*buf), state: state}
	}
	s.handed.hand(stream)
}

// handOver calls Upgrade. As in net/http, a panic costs the connection that caused it and nothing else.
func (s *Server) handOver(stream net.Conn, r *http.Request) {
	defer func() {
		if p := recover(); p != nil {
			s.opt.Log.Error("panic while serving a WebSocket", "peer", r.RemoteAddr, "panic", p, "stack", string(debug.Stack()))
			stream.Close()
		}
	}()
	s.opt.Upgrade(stream, r)
}

// drop closes a connection that never said what it wanted.
func (s *Server) drop(conn net.Conn) {
	s.known(conn)
	conn.Close()
}

// read reads until buf has n bytes; false if the connection ends or the time is up before.
func read(conn net.Conn, buf *[]byte, n int) bool {
	for len(*buf) < n {
		if len(*buf) == cap(*buf) {
			grown := make([]byte, len(*buf), 2*cap(*buf))
			copy(grown, *buf)
			*buf = grown
		}
		k, err := conn.Read((*buf)[len(*buf):cap(*buf)])
		*buf = (*buf)[:len(*buf)+k]
		if err != nil && len(*buf) < n {
			return false
		}
	}
	return true
}

// readHead reads a request's head and returns where it ends, or -1 as soon as the request cannot be an upgrade;
// alive is false when the connection ended before.
func readHead(conn net.Conn, buf *[]byte) (end int, alive bool) {
	const get = "GET "
	for looked := 0; ; {
		if n := min(len(*buf), len(get)); string((*buf)[:n]) != get[:n] {
			return -1, true
		}
		if i := bytes.Index((*buf)[looked:], []byte("\r\n\r\n")); i >= 0 {
			return looked + i + 4, true
		}
		if len(*buf) >= MaxHead {
			return -1, true
		}
		looked = max(0, len(*buf)-3)
		if !read(conn, buf, len(*buf)+1) {
			return -1, false
		}
	}
}

// upgrade parses a head and returns the request if it is a WebSocket upgrade to be handed over. Whatever is odd about
// it is net/http's to judge, so this side refuses nothing and accepts only what is plain.
func (s *Server) upgrade(head []byte, conn net.Conn, state *tls.ConnectionState) *http.Request {
	if !mentions(head, "upgrade") {
		return nil
	}
	r, err := http.ReadRequest(bufio.NewReaderSize(bytes.NewReader(head), len(head)))
	if err != nil || r.ProtoMajor != 1 || r.ProtoMinor != 1 || r.Host == "" || count(head, "host") != 1 ||
		r.ContentLength != 0 || len(r.TransferEncoding) > 0 || r.URL.IsAbs() || r.URL.Host != "" ||
		!strings.EqualFold(r.Header.Get("Upgrade"), "websocket") || !valid(r) || !s.opt.IsUpgrade(r.URL.EscapedPath()) {
		return nil
	}
	r.RemoteAddr = conn.RemoteAddr().String()
	r.TLS = state
	r.Body = http.NoBody
	s.forwarded(r)
	return r
}

// valid checks what net/http's server checks beyond http.ReadRequest.
func valid(r *http.Request) bool {
	if !httpguts.ValidHostHeader(r.Host) {
		return false
	}
	for name, values := range r.Header {
		if !httpguts.ValidHeaderFieldName(name) || slices.ContainsFunc(values, func(v string) bool { return !httpguts.ValidHeaderFieldValue(v) }) {
			return false
		}
	}
	return true
}

// mentions tells whether a header of this lower-case name may be there, without parsing.
func mentions(head []byte, name string) bool { return count(head, name) > 0 }

// count counts the lines of head that begin with the lower-case name and a colon.
func count(head []byte, name string) (n int) {
	for line := range bytes.Lines(head) {
		if len(line) > len(name) && line[len(name)] == ':' && bytes.EqualFold(line[:len(name)], []byte(name)) {
			n++
		}
	}
	return n
}
