package listen

import (
	"bytes"
	"io"
	"net/http"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"golang.org/x/net/http/httpguts"
)

// A reply is the answer to a brief request, which is kept until the handler returns and sent in one piece. One reply
// serves all requests of a connection in turn.
type reply struct {
	body   content // of the request
	method string

	header  http.Header
	status  int // 0: none yet
	length  int // of what was written; HEAD's goes nowhere
	written []byte
	out     []byte
}

// begin makes the reply ready for a request.
func (a *reply) begin(r *http.Request) {
	a.method, a.status, a.length, a.written = r.Method, 0, 0, a.written[:0]
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
	if !bodyAllowed(a.status) {
		return 0, http.ErrBodyNotAllowed
	}
	a.length += len(p)
	if a.method != http.MethodHead {
		a.written = append(a.written, p...)
	}
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
	for name, values := range a.header {
		if !a.sends(name) {
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
	if bodyAllowed(a.status) && (a.method != http.MethodHead || a.length > 0 && a.header["Content-Length"] == nil) {
		out = append(out, "Content-Length: "...)
		out = strconv.AppendInt(out, int64(a.length), 10)
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

// sends tells whether a header of the handler's is sent as it is.
func (a *reply) sends(name string) bool {
	switch name {
	case "Date", "Transfer-Encoding":
		return false
	case "Content-Length": // of anything else it is counted
		return a.method == http.MethodHead && bodyAllowed(a.status)
	case "Content-Type":
		return a.status != http.StatusNotModified
	}
	return httpguts.ValidHeaderFieldName(name)
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

// A content is the body of a request, as far as it came.
type content struct {
	in  bytes.Reader // not embedded: WriteTo would hide that it ended early
	cut bool         // it ended early
}

func (c *content) set(data []byte, cut bool) {
	c.in.Reset(data)
	c.cut = cut
}

// Read implements io.Reader.
func (c *content) Read(p []byte) (int, error) {
	n, err := c.in.Read(p)
	if err == io.EOF && c.cut {
		err = io.ErrUnexpectedEOF
	}
	return n, err
}

// Close implements io.Closer.
func (c *content) Close() error { return nil }
