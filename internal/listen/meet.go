package listen

import (
	"bytes"
	"crypto/tls"
	"io"
	"net"
	"sync"
	"time"
)

// heads are the buffers that first requests are read into, lent for as long as it takes to know what they want.
var heads = sync.Pool{New: func() any { b := make([]byte, 0, minHead); return &b }}

const (
	minHead = 4 << 10 // bytes, of a new buffer
	// maxPooledHead keeps a rare large head from living in the pool for ever.
	maxPooledHead = 8 << 10
)

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
		s.converse(conn, conn, nil, buf)
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
	s.converse(conn, secure, &state, buf)
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
