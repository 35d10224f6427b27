package listen

import (
	"bytes"
	"io"
	"net/http"
	"strconv"
	"strings"
	"sync/atomic"
	"time"
)

// A reply is the answer to a brief request, which is kept until the handler returns and sent in one piece. One reply
// serves all requests of a connection in turn.
type reply struct {
	body   content // of the request
	method string

	header  http.Header
	status  int // 0: none yet
	written []byte
	out     []byte
}

// begin makes the reply ready for a request.
func (a *reply) begin(r *http.Request) {
	a.method, a.status, a.written = r.Method, 0, a.written[:0]
	if a.header == nil {
		a.header = make(http.Header)
	}
	clear(a.header)
}

// Header implements http.ResponseWriter.
func (a *reply) Header() http.Header { return a.header }

// WriteHeader implements http.ResponseWriter. Informational statuses are not sent.
func (a *reply) WriteHeader(status int) {
	if a.status == 0 && status >= http.StatusOK {
		a.status = status
	}
}

// Write implements http.ResponseWriter.
func (a *reply) Write(p []byte) (int, error) {
	a.WriteHeader(http.StatusOK)
	switch {
	case !bodyAllowed(a.status):
		return 0, http.ErrBodyNotAllowed
	case a.method == http.MethodHead:
		return len(p), nil
	}
	a.written = append(a.written, p...)
	return len(p), nil
}

// bodyAllowed tells whether answers of the status have a body (RFC 9110, 6.4.1).
func bodyAllowed(status int) bool {
	return status != http.StatusNoContent && status != http.StatusNotModified
}

// oneLine keeps a header's value from being more than that.
var oneLine = strings.NewReplacer("\r", " ", "\n", " ")

// maxKept keeps the room for a rare large answer from living as long as the connection.
const maxKept = 16 << 10 // bytes

// send writes the answer. It reports false when nothing may follow it on the connection.
func (a *reply) send(w io.Writer, last bool) bool {
	a.WriteHeader(http.StatusOK)
	out := append(a.out[:0], "HTTP/1.1 "...)
	out = strconv.AppendInt(out, int64(a.status), 10)
	out = append(out, ' ')
	if text := http.StatusText(a.status); text != "" {
		out = append(out, text...)
	} else {
		out = strconv.AppendInt(append(out, "status code "...), int64(a.status), 10)
	}
	out = append(out, "\r\nDate: "...)
	out = append(out, date()...)
	out = append(out, "\r\n"...)
	counted := bodyAllowed(a.status) && a.method != http.MethodHead
	for name, values := range a.header {
		if name == "Content-Length" && counted || name == "Date" {
			continue
		}
		last = last || name == "Connection" && len(values) > 0 && values[0] == "close"
		for _, value := range values {
			out = append(out, name...)
			out = append(out, ": "...)
			if strings.ContainsAny(value, "\r\n") {
				value = oneLine.Replace(value)
			}
			out = append(out, value...)
			out = append(out, "\r\n"...)
		}
	}
	if counted {
		out = append(out, "Content-Length: "...)
		out = strconv.AppendInt(out, int64(len(a.written)), 10)
		out = append(out, "\r\n"...)
	}
	if last && a.header["Connection"] == nil {
		out = append(out, "Connection: close\r\n"...)
	}
	out = append(out, "\r\n"...)
	out = append(out, a.written...)
	_, err := w.Write(out)
	if a.out = out; cap(out) > maxKept {
		a.out, a.written = nil, nil
	}
	return err == nil && !last
}

// A second is a time as the header Date has it.
type second struct {
	at   int64
	text string
}

var clock atomic.Pointer[second]

// date is the present second, formatted once.
func date() string {
	now := time.Now()
	if s := clock.Load(); s != nil && s.at == now.Unix() {
		return s.text
	}
	s := &second{now.Unix(), now.UTC().Format(http.TimeFormat)}
	clock.Store(s)
	return s.text
}

// A content is the body of a request that is all there.
type content struct{ bytes.Reader }

func (c *content) set(data []byte) { c.Reset(data) }

// Close implements io.Closer.
func (c *content) Close() error { return nil }
