package clientws

import (
	"bytes"
	"fmt"
	"net"
	"net/http"
	"time"
)

// A door is where a handshake came in: through net/http, or on a connection whose request head was read elsewhere.
type door struct {
	w    http.ResponseWriter // nil for the latter
	conn net.Conn            // ours to write to; nil while net/http has it
}

// refuseTimeout bounds the write of an answer to a client that is not let in.
const refuseTimeout = 5 * time.Second

// refuse answers the handshake with an error and is done with the connection.
func (d *door) refuse(status int, header http.Header, body []byte) {
	if d.conn == nil {
		for k, v := range header {
			d.w.Header()[k] = v
		}
		d.w.WriteHeader(status)
		d.w.Write(body)
		return
	}
	var b bytes.Buffer
	fmt.Fprintf(&b, "HTTP/1.1 %d %s\r\nConnection: close\r\nContent-Length: %d\r\n", status, http.StatusText(status), len(body))
	header.Write(&b) // replaces line ends in values
	b.WriteString("\r\n")
	b.Write(body)
	d.conn.SetWriteDeadline(time.Now().Add(refuseTimeout))
	d.conn.Write(b.Bytes()) // a client that is gone is as good as answered
	d.conn.Close()
}

// enter takes the connection over and returns what the client sent too early. Nothing is answered yet.
func (d *door) enter() (early []byte, err error) {
	if d.conn != nil {
		return nil, nil
	}
	conn, rw, err := http.NewResponseController(d.w).Hijack()
	if err != nil {
		return nil, err
	}
	d.conn = conn
	if n := rw.Reader.Buffered(); n > 0 {
		early, _ = rw.Reader.Peek(n)
		early = bytes.Clone(early)
	}
	return early, conn.SetDeadline(time.Time{})
}
