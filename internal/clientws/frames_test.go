package clientws

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/gobwas/ws"
	"pgregory.net/rapid"

	"tabard/internal/hub"
)

// closeBody is the payload of a close frame.
func closeBody(code int, reason string) string {
	return string(binary.BigEndian.AppendUint16(nil, uint16(code))) + reason
}

// TestTheFramingRules goes through the cases of the Autobahn test suite that concern a server, over real sockets. A
// simple client's messages are echoed by the application.
func TestTheFramingRules(t *testing.T) {
	r := newRig(t, rigOptions{})
	r.app.on("message", func(w http.ResponseWriter, q *http.Request) {
		w.Header().Set("Content-Type", q.Header.Get("Content-Type"))
		io.Copy(w, q.Body)
	})
	frame := frameBytes
	header := func(h ws.Header) []byte {
		var b bytes.Buffer
		ws.WriteHeader(&b, h)
		return b.Bytes()
	}
	type got struct {
		op      ws.OpCode
		payload string
	}
	text := func(s string) got { return got{ws.OpText, s} }
	pong := func(s string) got { return got{ws.OpPong, s} }
	closed := func(code int, reason string) got { return got{ws.OpClose, closeBody(code, reason)} }
	bad := func(reason string) got { return closed(1002, reason) }
	notUTF8 := closed(1007, "text is not UTF-8")
	big := strings.Repeat("*", 65536)
	for _, test := range []struct {
		name string
		send [][]byte
		want []got // after the last one, if it is a close, the stream ends
	}{
		{"1.1 text of many lengths", [][]byte{frame(true, ws.OpText, big[:1]), frame(true, ws.OpText, big[:125]), frame(true, ws.OpText, big[:126]), frame(true, ws.OpText, big[:127]), frame(true, ws.OpText, big[:65535]), frame(true, ws.OpText, big)},
			[]got{text(big[:1]), text(big[:125]), text(big[:126]), text(big[:127]), text(big[:65535]), text(big)}},
		{"1.2 binary", [][]byte{frame(true, ws.OpBinary, "\xfe\x00")}, []got{{ws.OpBinary, "\xfe\x00"}}},
		{"2.1 empty ping", [][]byte{frame(true, ws.OpPing, "")}, []got{pong("")}},
		{"2.4 ping of 125 bytes", [][]byte{frame(true, ws.OpPing, big[:125])}, []got{pong(big[:125])}},
		{"2.5 ping of 126 bytes", [][]byte{frame(true, ws.OpPing, big[:126])}, []got{bad("control frame payload limit exceeded")}},
		{"2.7 unasked pong", [][]byte{frame(true, ws.OpPong, "x"), frame(true, ws.OpPing, "y")}, []got{pong("y")}},
		{"2.10 many pings", [][]byte{frame(true, ws.OpPing, "1"), frame(true, ws.OpPing, "2"), frame(true, ws.OpPing, "3")}, []got{pong("1"), pong("2"), pong("3")}},
		{"3.1 a reserved bit", [][]byte{header(ws.Header{Fin: true, Rsv: ws.Rsv(true, false, false), OpCode: ws.OpText, Masked: true})}, []got{bad("non-zero rsv bits with no extension negotiated")}},
		{"3.5 reserved bits of a ping", [][]byte{header(ws.Header{Fin: true, Rsv: ws.Rsv(false, true, true), OpCode: ws.OpPing, Masked: true})}, []got{bad("non-zero rsv bits with no extension negotiated")}},
		{"3.6 a message, then a reserved bit", [][]byte{frame(true, ws.OpText, "a"), header(ws.Header{Fin: true, Rsv: ws.Rsv(false, false, true), OpCode: ws.OpText, Masked: true})}, []got{text("a"), bad("non-zero rsv bits with no extension negotiated")}},
		{"4.1 reserved opcode 3", [][]byte{frame(true, 3, "")}, []got{bad("use of reserved op code")}},
		{"4.2 reserved opcode 11", [][]byte{frame(true, 11, "x")}, []got{bad("use of reserved op code")}},
		{"5.1 a ping in pieces", [][]byte{frame(false, ws.OpPing, "a"), frame(true, ws.OpContinuation, "b")}, []got{bad("control frame is not final")}},
		{"5.3 text in two pieces", [][]byte{frame(false, ws.OpText, "ab"), frame(true, ws.OpContinuation, "cd")}, []got{text("abcd")}},
		{"5.6 a ping between pieces", [][]byte{frame(false, ws.OpText, "ab"), frame(true, ws.OpPing, "p"), frame(true, ws.OpContinuation, "cd")}, []got{pong("p"), text("abcd")}},
		{"5.9 continuation of nothing", [][]byte{frame(true, ws.OpContinuation, "x")}, []got{bad("unexpected continuation data frame")}},
		{"5.10 unfinished continuation of nothing", [][]byte{frame(false, ws.OpContinuation, "x")}, []got{bad("unexpected continuation data frame")}},
		{"5.15 continuation after the end", [][]byte{frame(false, ws.OpText, "a"), frame(true, ws.OpContinuation, "b"), frame(false, ws.OpContinuation, "c")}, []got{text("ab"), bad("unexpected continuation data frame")}},
		{"5.18 text within text", [][]byte{frame(false, ws.OpText, "a"), frame(true, ws.OpText, "b")}, []got{bad("unexpected non-continuation data frame")}},
		{"5.19 pings between many pieces", [][]byte{frame(false, ws.OpText, "1"), frame(false, ws.OpContinuation, "2"), frame(true, ws.OpPing, "a"), frame(false, ws.OpContinuation, "3"), frame(false, ws.OpContinuation, ""), frame(true, ws.OpPing, "b"), frame(true, ws.OpContinuation, "5")}, []got{pong("a"), pong("b"), text("1235")}},
		{"6.1 empty pieces of a text", [][]byte{frame(false, ws.OpText, ""), frame(false, ws.OpContinuation, ""), frame(true, ws.OpContinuation, "x")}, []got{text("x")}},
		{"6.2 a character in two pieces", [][]byte{frame(false, ws.OpText, "\xc3"), frame(true, ws.OpContinuation, "\xa9")}, []got{text("é")}},
		{"6.3 bytes that are not UTF-8", [][]byte{frame(true, ws.OpText, "a\xed\xa0\x80")}, []got{notUTF8}},
		{"6.4 not UTF-8 over pieces", [][]byte{frame(false, ws.OpText, "\xc3"), frame(true, ws.OpContinuation, "a")}, []got{notUTF8}},
		{"6.5 an unfinished character", [][]byte{frame(true, ws.OpText, "a\xc3")}, []got{notUTF8}},
		{"7.1.1 a message and a close", [][]byte{frame(true, ws.OpText, "a"), frame(true, ws.OpClose, closeBody(1000, "bye"))}, []got{text("a"), closed(1000, "")}},
		{"7.1.2 two closes", [][]byte{frame(true, ws.OpClose, closeBody(1000, "")), frame(true, ws.OpClose, closeBody(1000, ""))}, []got{closed(1000, "")}},
		{"7.1.3 a ping after a close", [][]byte{frame(true, ws.OpClose, closeBody(1000, "")), frame(true, ws.OpPing, "x")}, []got{closed(1000, "")}},
		{"7.1.5 a close between pieces", [][]byte{frame(false, ws.OpText, "a"), frame(true, ws.OpClose, closeBody(1000, ""))}, []got{closed(1000, "")}},
		{"7.3.1 a close without a status", [][]byte{frame(true, ws.OpClose, "")}, []got{{ws.OpClose, ""}}},
		{"7.3.2 a close of one byte", [][]byte{frame(true, ws.OpClose, "a")}, []got{bad("close frame with half a status")}},
		{"7.3.5 a close with 123 bytes of reason", [][]byte{frame(true, ws.OpClose, closeBody(1000, big[:123]))}, []got{closed(1000, "")}},
		{"7.3.6 a close that is too long", [][]byte{frame(true, ws.OpClose, closeBody(1000, big[:124]))}, []got{bad("control frame payload limit exceeded")}},
		{"7.5.1 a reason that is not UTF-8", [][]byte{frame(true, ws.OpClose, closeBody(1000, "\xff"))}, []got{notUTF8}},
		{"7.7 application status", [][]byte{frame(true, ws.OpClose, closeBody(3000, ""))}, []got{closed(3000, "")}},
		{"7.7 private status", [][]byte{frame(true, ws.OpClose, closeBody(4999, ""))}, []got{closed(4999, "")}},
		{"7.9.1 status 0", [][]byte{frame(true, ws.OpClose, closeBody(0, ""))}, []got{bad("status code is not in use")}},
		{"7.9.3 status 1004", [][]byte{frame(true, ws.OpClose, closeBody(1004, ""))}, []got{bad("status code has no meaning yet")}},
		{"7.9.4 status 1005", [][]byte{frame(true, ws.OpClose, closeBody(1005, ""))}, []got{bad("status code is only application level")}},
		{"7.9.9 status 1100", [][]byte{frame(true, ws.OpClose, closeBody(1100, ""))}, []got{bad("status code is not defined in spec")}},
		{"a frame without a mask", [][]byte{{0x81, 0x01, 'a'}}, []got{bad("frames from client to server must be masked")}},
		{"a length with the highest bit", [][]byte{{0x82, 0xff, 0x80, 0, 0, 0, 0, 0, 0, 0, 1, 2, 3, 4}}, []got{bad("header error: the most significant bit must be 0")}},
		{"9 a message of exactly the limit", [][]byte{frame(true, ws.OpBinary, strings.Repeat("x", MaxMessage))}, []got{{ws.OpBinary, strings.Repeat("x", MaxMessage)}}},
		{"9 a message over the limit, by its header alone", [][]byte{header(ws.Header{Fin: true, OpCode: ws.OpBinary, Masked: true, Length: MaxMessage + 1})}, []got{closed(1009, "message is larger than the limit")}},
		{"9 pieces over the limit together", [][]byte{frame(false, ws.OpBinary, strings.Repeat("x", MaxMessage)), frame(true, ws.OpContinuation, "x")}, []got{closed(1009, "message is larger than the limit")}},
	} {
		for _, chop := range []int{0, 1} { // whole, and one byte at a time
			if chop > 0 && len(bytes.Join(test.send, nil)) > 2000 {
				continue
			}
			t.Run(fmt.Sprintf("%s/chop=%d", test.name, chop), func(t *testing.T) {
				r.t = t
				addr := []string{r.secure, r.short}[chop]
				c := r.connect(dial{addr: addr})
				go func() { // what is sent after a close may not be taken
					all := bytes.Join(test.send, nil)
					for len(all) > 0 {
						n := len(all)
						if chop > 0 {
							n = chop
						}
						if _, err := c.net.Write(all[:n]); err != nil {
							return
						}
						all = all[n:]
					}
				}()
				for _, want := range test.want {
					c.want(want.op, want.payload)
					if want.op == ws.OpClose {
						if code := []byte(want.payload); len(code) > 1 {
							c.net.Write(frameBytes(true, ws.OpClose, want.payload[:2]))
						}
						c.wantEOF()
					}
				}
				if test.want[len(test.want)-1].op != ws.OpClose {
					c.wantNothing()
				}
			})
		}
	}
}

// A recorder is a sink that writes down what it gets.
type recorder struct{ got []string }

func (r *recorder) message(op hub.Opcode, payload []byte) error {
	r.got = append(r.got, fmt.Sprintf("message %d %x", op, payload))
	return nil
}

func (r *recorder) control(op hub.Opcode, payload []byte) error {
	r.got = append(r.got, fmt.Sprintf("control %d %x", op, payload))
	if op == hub.OpClose {
		return errClosed
	}
	return nil
}

// parseIn parses stream in pieces of the given sizes, repeated.
func parseIn(stream []byte, sizes ...int) ([]string, string, *parser) {
	p := parser{limit: 1 << 10, deflate: true}
	s := new(scratch)
	var r recorder
	for i := 0; len(stream) > 0; i++ {
		n := min(len(stream), max(1, sizes[i%len(sizes)]))
		if err := p.feed(s, bytes.Clone(stream[:n]), &r); err != nil {
			return r.got, err.Error(), &p
		}
		stream = stream[n:]
	}
	return r.got, "", &p
}

func TestTheParserDoesNotCareHowTheStreamIsCut(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		var stream []byte
		var want []string
		var message []byte
		open := ws.OpCode(0)
		for range rapid.IntRange(0, 12).Draw(rt, "frames") {
			payload := rapid.SliceOfN(rapid.ByteRange('a', 'z'), 0, 140).Draw(rt, "payload")
			if rapid.IntRange(0, 3).Draw(rt, "kind") == 0 {
				payload = payload[:min(len(payload), 125)]
				op := rapid.SampledFrom([]ws.OpCode{ws.OpPing, ws.OpPong}).Draw(rt, "control")
				stream = append(stream, frameBytes(true, op, string(payload))...)
				want = append(want, fmt.Sprintf("control %d %x", op, payload))
				continue
			}
			fin := rapid.Bool().Draw(rt, "fin") || len(message) > 800
			op := ws.OpContinuation
			if open == 0 {
				open = rapid.SampledFrom([]ws.OpCode{ws.OpText, ws.OpBinary}).Draw(rt, "op")
				op = open
			}
			stream = append(stream, frameBytes(fin, op, string(payload))...)
			message = append(message, payload...)
			if fin {
				want = append(want, fmt.Sprintf("message %d %x", open, message))
				open, message = 0, nil
			}
		}
		sizes := rapid.SliceOfN(rapid.IntRange(1, 200), 1, 5).Draw(rt, "sizes")
		got, err, p := parseIn(stream, sizes...)
		if err != "" || !slices.Equal(got, want) {
			rt.Errorf("got  %q %s\nwant %q", got, err, want)
		}
		if open == 0 && p.part != nil {
			rt.Error("the parser keeps memory though nothing is missing")
		}
	})
}

func FuzzParser(f *testing.F) {
	f.Add(frameBytes(true, ws.OpText, "hello"), 1, 3)
	f.Add(append(frameBytes(false, ws.OpBinary, "a"), frameBytes(true, ws.OpContinuation, "b")...), 2, 7)
	f.Add(frameBytes(true, ws.OpClose, closeBody(1000, "x")), 100, 1)
	f.Add([]byte{0x82, 0xff, 0x80, 0, 0, 0, 0, 0, 0, 0, 1, 2, 3, 4}, 1, 1)
	f.Add(frameBytes(false, ws.OpText, strings.Repeat("x", 2000)), 1, 1)
	packed := ws.Header{Fin: true, Rsv: ws.Rsv(true, false, false), OpCode: ws.OpText}
	f.Add(append(maskedFrame(packed, deflated("hello")), maskedFrame(packed, deflated(strings.Repeat("x", 2000)))...), 1, 5)
	f.Fuzz(func(t *testing.T, stream []byte, a, b int) {
		whole, errWhole, _ := parseIn(stream, max(1, len(stream)))
		parts, errParts, p := parseIn(stream, a%300, b%300)
		if errWhole != errParts || !slices.Equal(whole, parts) {
			t.Errorf("whole: %q %s\nparts: %q %s", whole, errWhole, parts, errParts)
		}
		if p.part != nil && len(p.part.message) > 1<<10 {
			t.Errorf("keeps %d bytes", len(p.part.message))
		}
	})
}

func TestAckMemory(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		var a acked
		var want []uint64 // the latest
		for range rapid.IntRange(0, 40).Draw(rt, "runs") {
			id := rapid.Uint64Range(0, 3000).Draw(rt, "id")
			if rapid.IntRange(0, 9).Draw(rt, "far") == 0 {
				id = 1<<64 - 1
			}
			for range rapid.IntRange(1, 200).Draw(rt, "n") {
				known := slices.Contains(want, id)
				if a.has(id) != known {
					rt.Fatalf("has(%d) = %v", id, !known)
				}
				if !known {
					a.add(id)
					if want = append(want, id); len(want) > ackMemory {
						want = want[1:]
					}
				}
				id++
			}
		}
		for id := range uint64(3300) {
			if a.has(id) != slices.Contains(want, id) {
				rt.Fatalf("has(%d) = %v", id, a.has(id))
			}
		}
	})
	var a acked
	for id := range uint64(100_000) {
		a.add(id)
	}
	if len(a.runs) != 1 || a.has(100_000-ackMemory-1) || !a.has(100_000-ackMemory) {
		t.Errorf("counting ids take %d runs", len(a.runs))
	}
}
