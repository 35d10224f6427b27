package clientws

import (
	"bytes"
	"compress/flate"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/gobwas/ws"

	"tabard/internal/hub"
	"tabard/internal/settings"
)

// compressing is an instance that agrees to permessage-deflate.
func compressing(o *Options) {
	instance := o.Instance
	o.Instance = func(r *http.Request) *settings.Instance {
		in := *instance(r)
		in.Extensions.PermessageDeflate = true
		return &in
	}
}

// deflated is a message compressed by other means.
func deflated(text string) string {
	var b bytes.Buffer
	w, _ := flate.NewWriter(&b, flate.DefaultCompression) // the level is good
	io.WriteString(w, text)
	w.Flush()
	return strings.TrimSuffix(b.String(), "\x00\x00\xff\xff")
}

// maskedFrame is a frame with a header of one's own.
func maskedFrame(h ws.Header, payload string) []byte {
	h.Masked, h.Mask, h.Length = true, ws.NewMask(), int64(len(payload))
	var b bytes.Buffer
	ws.WriteHeader(&b, h)
	data := []byte(payload)
	ws.Cipher(data, h.Mask, 0)
	return append(b.Bytes(), data...)
}

var offer = http.Header{"Sec-Websocket-Extensions": {"permessage-deflate; client_max_window_bits"}}

// wantPacked reads a frame that must be compressed or not, and returns its inflated payload.
func (c *wsClient) wantPacked(packed bool) string {
	c.t.Helper()
	c.net.SetReadDeadline(time.Now().Add(10 * time.Second))
	h, err := ws.ReadHeader(c.r)
	payload := make([]byte, h.Length)
	if err == nil {
		_, err = io.ReadFull(c.r, payload)
	}
	if err != nil {
		c.t.Fatal(err)
	}
	if h.Rsv1() != packed {
		c.t.Fatalf("compressed %t, want %t: %.80q", h.Rsv1(), packed, payload)
	}
	if !packed {
		return string(payload)
	}
	got, err := io.ReadAll(flate.NewReader(io.MultiReader(bytes.NewReader(payload), strings.NewReader("\x00\x00\xff\xff\x01\x00\x00\xff\xff"))))
	if err != nil {
		c.t.Fatal(err)
	}
	return string(got)
}

func TestMembersWithAndWithoutCompressionShareAMessage(t *testing.T) {
	r := newRig(t, rigOptions{server: compressing})
	long := strings.Repeat("so many words ", 100)
	member := func(subprotocol string, header http.Header) *wsClient {
		c := r.connect(dial{subprotocols: []string{subprotocol}, groups: []string{"g"}, header: header})
		c.wantPacked(false) // connected: short
		return c
	}
	type row struct {
		c      *wsClient
		packed bool
		tail   string
	}
	rows := []row{
		{member(jsonProtocol, offer), true, `"}`}, {member(jsonProtocol, nil), false, `"}`}, {member(jsonProtocol, offer), true, `"}`},
		{member(reliableProtocol, nil), false, `","sequenceId":1}`}, {member(reliableProtocol, offer), true, `","sequenceId":1}`}, {member(reliableProtocol, offer), true, `","sequenceId":1}`},
	}
	r.publish("g", long)
	for i, row := range rows {
		if got := row.c.wantPacked(row.packed); !strings.Contains(got, long) || !strings.HasSuffix(got, row.tail) {
			t.Errorf("member %d: %.100s … %s", i, got, got[max(0, len(got)-40):])
		}
	}
	r.publish("g", "short")
	for i, row := range rows {
		if got := row.c.wantPacked(false); !strings.Contains(got, `"short"`) {
			t.Errorf("member %d: %s", i, got)
		}
	}
	proto := member("protobuf.reliable.webpubsub.azure.v1", offer)
	r.publish("g", long)
	if got := proto.wantPacked(true); !strings.Contains(got, long) {
		t.Errorf("protobuf: %q", got)
	}
}

func TestCompressionIsOnlyWhereItWasAgreed(t *testing.T) {
	for name, tc := range map[string]struct {
		server func(*Options)
		header http.Header
		want   string
	}{
		"agreed":              {compressing, offer, "permessage-deflate; server_no_context_takeover; client_no_context_takeover"},
		"not offered":         {compressing, nil, ""},
		"off by default":      {nil, offer, ""},
		"for a small window":  {compressing, http.Header{"Sec-Websocket-Extensions": {"permessage-deflate; server_max_window_bits=9"}}, ""},
		"another one offered": {compressing, http.Header{"Sec-Websocket-Extensions": {"x-snappy"}}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, rigOptions{server: tc.server})
			resp, c := r.handshake(dial{subprotocols: []string{jsonProtocol}, header: tc.header})
			if got := resp.Header.Get("Sec-Websocket-Extensions"); got != tc.want {
				t.Errorf("the answer is %q, want %q", got, tc.want)
			}
			c.text()
			c.raw(maskedFrame(ws.Header{Fin: true, Rsv: ws.Rsv(true, false, false), OpCode: ws.OpText}, deflated(`{"type":"ping"}`)))
			if tc.want != "" {
				c.wantText(`{"type":"pong"}`)
			} else {
				c.wantClose(hub.CloseProtocol, "rsv")
			}
		})
	}
}

func TestCompressedMessagesAreTakenApart(t *testing.T) {
	r := newRig(t, rigOptions{server: compressing})
	connect := func() *wsClient {
		c := r.connect(dial{subprotocols: []string{jsonProtocol}, roles: allRoles, groups: []string{"g"}, header: offer})
		c.text()
		return c
	}
	c := connect()
	message := deflated(`{"type":"sendToGroup","group":"g","dataType":"text","data":"` + strings.Repeat("x", 100) + `"}`)
	c.raw(maskedFrame(ws.Header{Rsv: ws.Rsv(true, false, false), OpCode: ws.OpText}, message[:10]))
	c.frame(true, ws.OpPing, "between")
	c.raw(maskedFrame(ws.Header{Fin: true, OpCode: ws.OpContinuation}, message[10:]))
	c.want(ws.OpPong, "between")
	c.wantPart(strings.Repeat("x", 100))
	for name, tc := range map[string]struct {
		header  ws.Header
		payload string
		code    hub.CloseCode
		why     string
	}{
		"not deflated":           {ws.Header{Fin: true, Rsv: ws.Rsv(true, false, false), OpCode: ws.OpText}, "\xff\xff", hub.CloseInvalidData, "deflated"},
		"not UTF-8":              {ws.Header{Fin: true, Rsv: ws.Rsv(true, false, false), OpCode: ws.OpText}, deflated("\xff"), hub.CloseInvalidData, "UTF-8"},
		"a bomb":                 {ws.Header{Fin: true, Rsv: ws.Rsv(true, false, false), OpCode: ws.OpText}, deflated(strings.Repeat(" ", 32<<20)), hub.CloseTooBig, "larger"},
		"a compressed ping":      {ws.Header{Fin: true, Rsv: ws.Rsv(true, false, false), OpCode: ws.OpPing}, "x", hub.CloseProtocol, "rsv"},
		"another reserved bit":   {ws.Header{Fin: true, Rsv: ws.Rsv(true, true, false), OpCode: ws.OpText}, "x", hub.CloseProtocol, "rsv"},
		"a continuation with it": {ws.Header{Fin: true, Rsv: ws.Rsv(true, false, false), OpCode: ws.OpContinuation}, "x", hub.CloseProtocol, "rsv"},
	} {
		t.Run(name, func(t *testing.T) {
			c := connect()
			c.t = t
			c.raw(maskedFrame(tc.header, tc.payload))
			c.wantClose(tc.code, tc.why)
		})
	}
}

func TestARecoveredClientAgreesAnew(t *testing.T) {
	r := newRig(t, rigOptions{server: compressing})
	long := strings.Repeat("so many words ", 100)
	c := r.reliable(dial{groups: []string{"g"}, header: offer})
	c.net.Close()
	r.publish("g", long)
	for _, header := range []http.Header{nil, offer} {
		d := again("", c.id, c.token)
		d.header = header
		back := greeted(r.connect(d))
		if got := back.wantPacked(header != nil); !strings.Contains(got, long) || !strings.HasSuffix(got, `","sequenceId":1}`) {
			t.Errorf("%.100s", got)
		}
	}
}
