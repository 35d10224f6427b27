package listen

import (
	"bytes"
	"context"
	"crypto/tls"
	"net"
	"net/http"
	"runtime/debug"
	"strings"
	"sync/atomic"
	"time"
)

// A dialogue is an HTTP/1.1 connection until it is handed to Upgrade or net/http. Brief requests are answered here, one
// after the other; the first request that is neither brief nor an upgrade, nor plain to read, takes the connection with
// it to net/http.
type dialogue struct {
	s      *Server
	conn   net.Conn             // as it was accepted
	stream net.Conn             // what HTTP is spoken on: conn, or TLS on it
	state  *tls.ConnectionState // of TLS; nil for plain connections
	buf    *[]byte              // what was read and not used yet

	known    bool          // it has said what it wants
	listed   bool          // it is among the server's dialogues
	request  *http.Request // what all requests have in common
	lines    *lines        // nil before the first brief request
	leave    func()        // ends their context
	reply    reply         // to the request under way
	deadline time.Time     // of reading, while nothing is awaited in particular; zero: it is to be set
	phase    atomic.Int32
}

// Phases of a dialogue, for a shutdown that wants to end the idle ones.
const (
	busy  int32 = iota // with a request
	idle               // between requests
	ended              // by interrupt
)

// converse serves a connection from its first request on.
func (s *Server) converse(conn, stream net.Conn, state *tls.ConnectionState, buf *[]byte) {
	d := &dialogue{s: s, conn: conn, stream: stream, state: state, buf: buf}
	defer d.end()
	for {
		end, alive := d.readHead()
		if !alive || d.listed && !d.phase.CompareAndSwap(idle, busy) {
			if !d.known {
				s.known(conn)
			}
			stream.Close()
			return
		}
		r, upgrade := d.parse((*buf)[:max(end, 0)])
		if !d.known {
			if d.known = s.known(conn); !d.known {
				return
			}
		}
		switch {
		case r == nil:
			d.passOn()
			return
		case upgrade:
			d.upgrade(r, end)
			return
		case !d.begin() || !d.answer(r, end):
			stream.Close()
			return
		}
	}
}

// begin lists the dialogue among those with brief requests, if it is not there yet. It reports false when the server
// stops.
func (d *dialogue) begin() bool {
	if d.listed {
		return true
	}
	d.s.mu.Lock()
	defer d.s.mu.Unlock()
	d.listed, d.lines = true, new(lines)
	d.s.dialogues[d] = struct{}{}
	d.extend()
	return !d.s.stopping.Load()
}

// extend gives the client time for its next request, and to read the answer. A deadline costs more than it tells: it is
// moved only when it is not far enough away.
func (d *dialogue) extend() {
	if now := time.Now(); d.deadline.Before(now.Add(idleTimeout)) {
		d.deadline = now.Add(idleTimeout + idleTimeout/4)
		_ = d.stream.SetReadDeadline(d.deadline)
		_ = d.stream.SetWriteDeadline(d.deadline.Add(idleTimeout))
	}
}

// hurry is the deadline of what should come soon. The usual one is set anew afterwards.
func (d *dialogue) hurry(timeout time.Duration) time.Time {
	d.deadline = time.Time{}
	return time.Now().Add(timeout)
}

// relax takes all deadlines away.
func (d *dialogue) relax() {
	_ = d.stream.SetReadDeadline(time.Time{})
	if d.listed {
		_ = d.stream.SetWriteDeadline(time.Time{})
	}
}

// end leaves the connection to whoever has it now.
func (d *dialogue) end() {
	if d.leave != nil {
		d.leave()
	}
	if d.listed {
		d.s.mu.Lock()
		defer d.s.mu.Unlock()
		delete(d.s.dialogues, d)
	}
}

// interrupt closes the connection if it rests. One with a request is closed after the answer.
func (d *dialogue) interrupt() {
	if d.phase.CompareAndSwap(idle, ended) {
		d.conn.Close()
	}
}

// readHead waits for a request and reads its head. It returns where that ends, or -1 as soon as it is clear that the
// request is net/http's; alive is false when the connection ended before.
func (d *dialogue) readHead() (end int, alive bool) {
	if d.s.opt.IsUpgrade == nil && d.s.opt.IsBrief == nil {
		return -1, true
	}
	if d.listed && !d.await() {
		return -1, false
	}
	for looked, hurried := 0, !d.known; ; {
		for {
			i := bytes.IndexByte((*d.buf)[looked:], '\n')
			if i < 0 {
				break
			}
			line := (*d.buf)[looked : looked+i+1]
			looked += i + 1
			switch {
			case len(line) < 2 || line[i-1] != '\r':
				return -1, true // a line that some end here and some do not
			case looked == 2 && d.reply.method == http.MethodPost: // a line's end too many behind a body, as net/http has it
				d.reply.method = ""
				*d.buf = (*d.buf)[:copy(*d.buf, (*d.buf)[2:])]
				return d.readHead()
			case len(line) == 2 && looked > MaxHead:
				return -1, true
			case len(line) == 2:
				return looked, true
			}
		}
		if len(*d.buf) >= MaxHead {
			return -1, true
		}
		if !hurried {
			hurried = true
			_ = d.stream.SetReadDeadline(d.hurry(d.s.opt.HeadTimeout))
		}
		if !read(d.stream, d.buf, len(*d.buf)+1) {
			return -1, false
		}
	}
}

// await waits for the first bytes of a further request. The connection rests until the request's head is there.
func (d *dialogue) await() bool {
	d.extend()
	d.phase.Store(idle)
	return !d.s.stopping.Load() && read(d.stream, d.buf, 1)
}

// parse reads a head. It returns nil unless it is a plain one, of a brief request or a WebSocket upgrade.
func (d *dialogue) parse(head []byte) (r *http.Request, upgrade bool) {
	method, target, headers, ok := requestLine(head)
	if !ok {
		return nil, false
	}
	opt, uri := &d.s.opt, string(target)
	path, _, _ := strings.Cut(uri, "?")
	upgrade = method == http.MethodGet && opt.IsUpgrade != nil && opt.IsUpgrade(path)
	if !upgrade && (opt.IsBrief == nil || !opt.IsBrief(path)) {
		return nil, false
	}
	if d.request == nil {
		d.introduce()
	}
	r = new(http.Request)
	*r = *d.request
	r.Method, r.RequestURI, r.URL = method, uri, parseTarget(uri)
	if r.URL == nil || !d.lines.headers(r, headers) {
		return nil, false
	}
	if upgrade {
		if u := r.Header["Upgrade"]; u == nil || !strings.EqualFold(u[0], "websocket") || r.ContentLength > 0 {
			return nil, false
		}
	} else if c := r.Header["Connection"]; c != nil && !strings.EqualFold(c[0], "keep-alive") {
		return nil, false
	}
	d.s.forwarded(r)
	return r, upgrade
}

// introduce notes what all requests of the connection have in common.
func (d *dialogue) introduce() {
	ctx, cancel := context.WithCancel(context.WithValue(d.s.ctx, http.LocalAddrContextKey, d.conn.LocalAddr()))
	d.leave = cancel
	d.request = (&http.Request{
		Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1, Body: http.NoBody, RemoteAddr: d.conn.RemoteAddr().String(), TLS: d.state,
	}).WithContext(ctx)
}

// passOn gives the connection to net/http, from the request that was just looked at on.
func (d *dialogue) passOn() {
	d.relax()
	stream := d.stream
	if len(*d.buf) > 0 || d.state != nil {
		stream = &replayed{Conn: stream, rest: bytes.Clone(*d.buf), state: d.state}
	}
	d.s.handed.hand(stream)
}

// upgrade gives the connection to Upgrade. As in net/http, a panic costs the connection that caused it and nothing else.
func (d *dialogue) upgrade(r *http.Request, end int) {
	d.relax()
	stream := d.stream
	if rest := (*d.buf)[end:]; len(rest) > 0 {
		stream = &replayed{Conn: stream, rest: bytes.Clone(rest)}
	}
	defer func() {
		if p := recover(); p != nil {
			d.s.panicked(r, p)
			stream.Close()
		}
	}()
	d.s.opt.Upgrade(stream, r)
}

// answer reads the body of a request whose head ends at the given place, and answers it. It reports false when the
// connection is to be closed.
func (d *dialogue) answer(r *http.Request, end int) (more bool) {
	whole, last := end+int(r.ContentLength), false
	if len(*d.buf) < whole {
		_ = d.stream.SetReadDeadline(d.hurry(d.s.opt.BodyTimeout))
		if !read(d.stream, d.buf, whole) {
			whole, last = len(*d.buf), true
		}
	}
	if r.ContentLength > 0 {
		d.reply.body.set((*d.buf)[end:whole], last)
		r.Body = &d.reply.body
	}
	d.reply.begin(r)
	if !d.handle(r) {
		return false
	}
	last = last || d.s.stopping.Load()
	if !d.reply.send(d.stream, last) {
		return false
	}
	rest := (*d.buf)[whole:]
	if cap(*d.buf) > maxPooledHead && len(rest) <= minHead { // a rare large request
		*d.buf = make([]byte, 0, minHead)
	}
	*d.buf = append((*d.buf)[:0], rest...)
	return true
}

// handle lets the handler make its answer. As in net/http, a panic costs the connection that caused it and nothing else.
func (d *dialogue) handle(r *http.Request) (ok bool) {
	defer func() {
		d.reply.body.set(nil, false)
		if p := recover(); p != nil {
			ok = false
			d.s.panicked(r, p)
		}
	}()
	d.s.opt.Handler.ServeHTTP(&d.reply, r)
	return true
}

func (s *Server) panicked(r *http.Request, p any) {
	if p != http.ErrAbortHandler {
		s.opt.Log.Error("panic while serving a connection", "peer", r.RemoteAddr, "panic", p, "stack", string(debug.Stack()))
	}
}
