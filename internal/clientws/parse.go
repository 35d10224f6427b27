package clientws

import (
	"bytes"
	"errors"
	"io"
	"sync"
	"unicode/utf8"

	"github.com/gobwas/ws"

	"tabard/internal/deflate"
	"tabard/internal/hub"
)

// readSize is the size of the buffers that connections borrow to read with. A connection holds one only while there
// is something to read or a request of it is being handled.
const readSize = 16 << 10

// A scratch is what reading needs and an idle connection does not have.
type scratch struct {
	buf    [readSize]byte
	header [ws.MaxHeaderSize]byte
	reader bytes.Reader
}

var scratches = sync.Pool{New: func() any { return new(scratch) }}

// A parser takes the byte stream of a client apart into messages and control frames, however the stream is cut. It
// keeps what is incomplete and nothing else. Rules: RFC 6455, section 5.
type parser struct {
	limit   int64 // bytes of a message, inflated
	deflate bool  // the client may compress messages (RFC 7692)
	part    *partial
}

// A partial is a message, a frame or a header of which something is missing.
type partial struct {
	header  [ws.MaxHeaderSize]byte // the beginning of a header
	have    int                    // bytes in header
	inFrame bool                   // frame is being received
	frame   ws.Header
	got     int64     // payload bytes of frame that were received
	control []byte    // payload of a control frame so far
	message []byte    // payload of the message so far, all its frames
	op      ws.OpCode // of the fragmented message; 0: none is open
	packed  bool      // the fragmented message is compressed
}

// A sink takes what a parser found. The payload is valid during the call only and may be written to. An error ends
// the parsing and is returned to whoever feeds.
type sink interface {
	message(op hub.Opcode, payload []byte) error
	control(op hub.Opcode, payload []byte) error
}

// A violation is a breach of RFC 6455, or a message that is too large, with the close code that it earns.
type violation struct {
	code hub.CloseCode
	text string
}

func (v *violation) Error() string { return v.text }

var (
	errTooBig  = &violation{hub.CloseTooBig, "message is larger than the limit"}
	errNotUTF8 = &violation{hub.CloseInvalidData, "text is not UTF-8"}

	errNotDeflated = &violation{hub.CloseInvalidData, "message is not deflated data"}
)

// feed goes on with data, which it unmasks in place.
func (p *parser) feed(s *scratch, data []byte, to sink) error {
	for len(data) > 0 {
		if p.part != nil && p.part.inFrame {
			n, err := p.goOn(data, to)
			if err != nil {
				return err
			}
			data = data[n:]
			continue
		}
		h, n, err := p.readHeader(s, data)
		if err != nil {
			return err
		}
		data = data[n:]
		if h == nil {
			return nil // all of data was the beginning of a header
		}
		packed := p.unpack(h)
		if err := p.check(*h); err != nil {
			return err
		}
		if int64(len(data)) >= h.Length && (h.OpCode.IsControl() || h.Fin && h.OpCode != ws.OpContinuation) {
			// The usual case: a whole message or control frame lies before us.
			payload := data[:h.Length]
			data = data[h.Length:]
			ws.Cipher(payload, h.Mask, 0)
			if err := p.deliver(h.OpCode, payload, packed, to); err != nil {
				return err
			}
			continue
		}
		part := p.need()
		part.packed = part.packed || packed
		part.inFrame, part.frame, part.got = true, *h, 0
		if h.Length == 0 {
			if err := p.endFrame(to); err != nil {
				return err
			}
		}
	}
	return nil
}

func (p *parser) need() *partial {
	if p.part == nil {
		p.part = new(partial)
	}
	return p.part
}

// readHeader returns the next header and how many bytes of data belong to it; no header if some are missing.
func (p *parser) readHeader(s *scratch, data []byte) (*ws.Header, int, error) {
	text, before := data, 0
	if p.part != nil && p.part.have > 0 {
		before = p.part.have
		p.part.have += copy(p.part.header[before:], data)
		text = p.part.header[:p.part.have]
	}
	s.reader.Reset(text)
	h, err := ws.ReadHeaderBuffer(&s.reader, s.header[:])
	switch {
	case err == nil:
		if p.part != nil {
			p.part.have = 0
			p.tidy()
		}
		return &h, len(text) - s.reader.Len() - before, nil
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		if before == 0 {
			p.need().have = copy(p.part.header[:], data)
		}
		return nil, len(data), nil
	}
	return nil, 0, &violation{hub.CloseProtocol, err.Error()}
}

// unpack tells whether the header begins a compressed message, and takes that mark off it.
func (p *parser) unpack(h *ws.Header) bool {
	if !p.deflate || !h.Rsv1() || h.OpCode != ws.OpText && h.OpCode != ws.OpBinary {
		return false
	}
	h.Rsv = ws.Rsv(false, h.Rsv2(), h.Rsv3())
	return true
}

func (p *parser) check(h ws.Header) error {
	state := ws.StateServerSide
	size := h.Length
	if p.part != nil && p.part.op != 0 {
		state = state.Set(ws.StateFragmented)
		size += int64(len(p.part.message))
	}
	if err := ws.CheckHeader(h, state); err != nil {
		return &violation{hub.CloseProtocol, err.Error()}
	}
	if !h.OpCode.IsControl() && size > p.limit {
		return errTooBig
	}
	return nil
}

// goOn takes what data has of the frame's payload.
func (p *parser) goOn(data []byte, to sink) (int, error) {
	part := p.part
	n := int(min(int64(len(data)), part.frame.Length-part.got))
	ws.Cipher(data[:n], part.frame.Mask, int(part.got%4))
	if part.frame.OpCode.IsControl() {
		part.control = append(part.control, data[:n]...)
	} else {
		part.message = append(part.message, data[:n]...)
	}
	part.got += int64(n)
	if part.got < part.frame.Length {
		return n, nil
	}
	return n, p.endFrame(to)
}

func (p *parser) endFrame(to sink) error {
	part := p.part
	part.inFrame = false
	op := part.frame.OpCode
	switch {
	case op.IsControl():
		payload := part.control
		part.control = nil
		p.tidy()
		return p.deliver(op, payload, false, to)
	case op != ws.OpContinuation:
		part.op = op
	}
	if !part.frame.Fin {
		return nil
	}
	op, payload, packed := part.op, part.message, part.packed
	part.op, part.message, part.packed = 0, nil, false
	p.tidy()
	return p.deliver(op, payload, packed, to)
}

// tidy forgets the partial state if nothing is in it.
func (p *parser) tidy() {
	if part := p.part; part.have == 0 && !part.inFrame && part.op == 0 && part.message == nil {
		p.part = nil
	}
}

// deliver passes a message on, inflated if it is compressed, or a control frame.
func (p *parser) deliver(op ws.OpCode, payload []byte, packed bool, to sink) error {
	if !packed {
		return deliver(op, payload, to)
	}
	err := deflate.Inflate(payload, p.limit, func(inflated []byte) error { return deliver(op, inflated, to) })
	switch {
	case errors.Is(err, deflate.ErrTooLarge):
		return errTooBig
	case errors.Is(err, deflate.ErrInvalid):
		return errNotDeflated
	}
	return err
}

func deliver(op ws.OpCode, payload []byte, to sink) error {
	switch op {
	case ws.OpText:
		if !utf8.Valid(payload) {
			return errNotUTF8
		}
		return to.message(hub.OpText, payload)
	case ws.OpBinary:
		return to.message(hub.OpBinary, payload)
	case ws.OpClose:
		if len(payload) > 0 {
			if len(payload) == 1 {
				return &violation{hub.CloseProtocol, "close frame with half a status"}
			}
			code, reason := ws.ParseCloseFrameDataUnsafe(payload)
			switch err := ws.CheckCloseFrameData(code, reason); err {
			case nil:
			case ws.ErrProtocolInvalidUTF8:
				return errNotUTF8
			default:
				return &violation{hub.CloseProtocol, err.Error()}
			}
		}
	}
	return to.control(hub.Opcode(op), payload)
}
