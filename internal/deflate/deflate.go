// Package deflate compresses messages for permessage-deflate (RFC 7692), each by itself: no message refers to one
// before it, so a message is compressed once for all who receive it, and an idle connection holds no window.
//
// Somebody whose clients are on slow links trades the service's CPU for bytes. What it leaves to others: which frame
// carries the bit that says so, and what is worth compressing.
package deflate

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"sync"

	"github.com/gobwas/httphead"
	"github.com/klauspost/compress/flate"
)

// Answer is what accepts an offer, the value of Sec-WebSocket-Extensions.
const Answer = "permessage-deflate; server_no_context_takeover; client_no_context_takeover"

// Accepts tells whether one of a client's offers, the values of its Sec-WebSocket-Extensions headers, is for what this
// package does. An offer that wants a smaller window than 32 KiB, or that says something unknown, is none; answer is
// what accepts the first good one.
func Accepts(offers []string) (answer string, ok bool) {
	for _, value := range offers {
		options, valid := httphead.ParseOptions([]byte(value), nil)
		if !valid {
			continue
		}
		for _, o := range options {
			if answer, ok := accept(o); ok {
				return answer, true
			}
		}
	}
	return "", false
}

func accept(o httphead.Option) (answer string, ok bool) {
	if string(o.Name) != "permessage-deflate" {
		return "", false
	}
	answer, ok = Answer, true
	seen := map[string]bool{}
	o.Parameters.ForEach(func(k, v []byte) bool {
		name, value := string(k), string(v)
		switch {
		case seen[name]:
			ok = false
		case name == "server_no_context_takeover" || name == "client_no_context_takeover":
			ok = value == ""
		case name == "server_max_window_bits":
			ok = value == "15" // the window is what it is
			answer += "; server_max_window_bits=15"
		case name == "client_max_window_bits": // what the client may do; it need not
			ok = value == "" || windowBits(value)
		default:
			ok = false
		}
		seen[name] = true
		return ok
	})
	return answer, ok
}

func windowBits(v string) bool {
	return len(v) == 1 && v[0] >= '8' && v[0] <= '9' || len(v) == 2 && v[0] == '1' && v[1] >= '0' && v[1] <= '5'
}

// tail is what ends a flushed part of a stream; a message goes without it.
const tail = "\x00\x00\xff\xff"

// Compress appends src to dst as parts of a message: further parts may come before or behind it, also of other
// origin, and [End] must be the last.
func Compress(dst, src []byte) []byte {
	b := bytes.NewBuffer(dst)
	_ = flate.StatelessDeflate(b, src, false, nil) // a buffer takes everything
	return b.Bytes()
}

// Message appends src to dst as a whole message.
func Message(dst, src []byte) []byte {
	return bytes.TrimSuffix(Compress(dst, src), []byte(tail))
}

// Store appends src, of at most 64 KiB - 1, to dst as a part that is not compressed.
func Store(dst, src []byte) []byte {
	if len(src) == 0 {
		return dst
	}
	dst = append(dst, 0)
	dst = binary.LittleEndian.AppendUint16(dst, uint16(len(src)))
	dst = binary.LittleEndian.AppendUint16(dst, ^uint16(len(src)))
	return append(dst, src...)
}

// StoredSize is how many bytes [Store] appends for n.
func StoredSize(n int) int {
	if n == 0 {
		return 0
	}
	return n + 5
}

// End ends a message: the receiver puts the rest of an empty part behind it.
const End = 0

// ErrTooLarge is an inflated message beyond its limit.
var ErrTooLarge = errors.New("the message inflates beyond the limit")

// ErrInvalid is a message that is not compressed data.
var ErrInvalid = errors.New("the message is not deflated data")

// An inflater is borrowed for one message.
type inflater struct {
	in  tailed
	out bytes.Buffer
	r   io.ReadCloser
}

var inflaters = sync.Pool{New: func() any {
	i := &inflater{}
	i.r = flate.NewReader(&i.in)
	return i
}}

// maxKept keeps the memory of a rare large message from living in the pool.
const maxKept = 64 << 10

// Inflate inflates a message of at most limit bytes and passes it to use, for the time of the call. The error is
// [ErrTooLarge], without more than limit bytes having been made, [ErrInvalid], or that of use.
func Inflate(message []byte, limit int64, use func([]byte) error) error {
	i := inflaters.Get().(*inflater)
	defer func() {
		i.in = tailed{}
		if i.out.Cap() > maxKept {
			i.out = bytes.Buffer{}
		}
		inflaters.Put(i)
	}()
	i.in = tailed{message: message}
	i.out.Reset()
	if err := i.r.(flate.Resetter).Reset(&i.in, nil); err != nil {
		return errors.Join(ErrInvalid, err)
	}
	n, err := i.out.ReadFrom(io.LimitReader(i.r, limit+1))
	switch {
	case n > limit:
		return ErrTooLarge
	case err != nil && err != io.ErrUnexpectedEOF: // the stream has no end, only parts
		return errors.Join(ErrInvalid, err)
	case err == io.ErrUnexpectedEOF && !i.in.done():
		return ErrInvalid
	}
	return use(i.out.Bytes())
}

// tailed reads a message and what was taken from its end.
type tailed struct {
	message []byte
	pos     int
}

func (t *tailed) at(i int) byte {
	if i < len(t.message) {
		return t.message[i]
	}
	return tail[i-len(t.message)]
}

func (t *tailed) done() bool { return t.pos == len(t.message)+len(tail) }

func (t *tailed) ReadByte() (byte, error) {
	if t.done() {
		return 0, io.EOF
	}
	b := t.at(t.pos)
	t.pos++
	return b, nil
}

func (t *tailed) Read(p []byte) (n int, err error) {
	for n < len(p) && !t.done() {
		p[n] = t.at(t.pos)
		t.pos++
		n++
	}
	if n == 0 && len(p) > 0 {
		return 0, io.EOF
	}
	return n, nil
}
