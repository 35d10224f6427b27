package listen

import (
	"io"
	"net/http"
	"time"
)

// bodyChunk is how much of a request's body has the body timeout for itself.
const bodyChunk = 1 << 20 // bytes

// A timedBody fails when a body arrives too slowly. What the handler does before and after reading takes as long as
// it takes, so that answers may be long streams.
type timedBody struct {
	io.ReadCloser
	deadline func(time.Time) error // of reading from the client; the zero time is none
	timeout  time.Duration
	left     int // bytes until the next chunk begins
}

// timeBody gives the body of a request its deadline. It is in force while the handler has not read to the end, and
// for what net/http skips of a body that the handler does not want.
func (s *Server) timeBody(w http.ResponseWriter, r *http.Request) {
	if r.Body == nil || r.Body == http.NoBody {
		return
	}
	b := &timedBody{ReadCloser: r.Body, deadline: http.NewResponseController(w).SetReadDeadline, timeout: s.opt.BodyTimeout}
	b.extend()
	r.Body = b
}

func (b *timedBody) extend() {
	b.left = bodyChunk
	_ = b.deadline(time.Now().Add(b.timeout)) // fails only on a connection that has failed
}

func (b *timedBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	switch b.left -= n; {
	case err == io.EOF:
		_ = b.deadline(time.Time{})
	case err == nil && b.left <= 0:
		b.extend()
	}
	return n, err
}
