package main

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gobwas/ws"
)

// serveSocket is the service's side of one WebSocket, written frame by frame.
func serveSocket(t *testing.T, serve func(conn net.Conn)) (connectionString string) {
	t.Helper()
	var serving sync.WaitGroup
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		u := ws.HTTPUpgrader{Protocol: func(p string) bool { return p == jsonSubprotocol }}
		conn, _, _, err := u.Upgrade(r, w)
		if err != nil {
			t.Error(err)
			return
		}
		serving.Go(func() {
			defer conn.Close()
			conn.SetDeadline(time.Now().Add(10 * time.Second))
			serve(conn)
		})
	}))
	t.Cleanup(func() { srv.Close(); serving.Wait() })
	return "Endpoint=" + srv.URL + ";AccessKey=k"
}

// next reads a frame of the client, which must be masked.
func next(t *testing.T, conn net.Conn) (ws.OpCode, string) {
	h, err := ws.ReadHeader(conn)
	if err != nil {
		t.Error(err)
		return 0, ""
	}
	if !h.Masked {
		t.Error("the client sent a frame without a mask")
	}
	data := make([]byte, h.Length)
	if _, err := io.ReadFull(conn, data); err != nil {
		t.Error(err)
	}
	ws.Cipher(data, h.Mask, 0)
	return h.OpCode, string(data)
}

func frames(t *testing.T, conn net.Conn, frames ...ws.Frame) {
	for _, f := range frames {
		if err := ws.WriteFrame(conn, f); err != nil {
			t.Error(err)
		}
	}
}

func client(ctx context.Context, stdin string, args ...string) (code int, out, errOut string) {
	var o, e bytes.Buffer
	code = run(ctx, append([]string{"connect", "--hub", "chat"}, args...), &stdio{in: strings.NewReader(stdin), out: &o, err: &e})
	return code, o.String(), e.String()
}

func TestLinesGoOutAndMessagesComeIn(t *testing.T) {
	at := serveSocket(t, func(conn net.Conn) {
		frames(t, conn, ws.NewPingFrame([]byte("p")))
		want := map[string]bool{"one": true, "two": true, "p": true} // the pong may overtake the lines
		for range 3 {
			if op, text := next(t, conn); !want[text] || text == "p" && op != ws.OpPong {
				t.Errorf("%v %q", op, text)
			}
		}
		frames(t, conn, ws.NewTextFrame([]byte("hello")), ws.NewBinaryFrame([]byte{0, 255}),
			ws.NewFrame(ws.OpText, false, []byte("in ")), ws.NewPingFrame(nil), ws.NewFrame(ws.OpContinuation, true, []byte("pieces")))
		for {
			if op, text := next(t, conn); op == ws.OpClose {
				frames(t, conn, ws.NewCloseFrame([]byte(text)))
				return
			}
		}
	})
	code, out, errOut := client(t.Context(), "one\ntwo\n", "--connection-string", at, "--subprotocol", "json", "--count", "3")
	if code != exitOK || out != "hello\nAP8=\nin pieces\n" {
		t.Errorf("%d %q", code, out)
	}
	if !strings.HasSuffix(errOut, "/client/hubs/chat with json.webpubsub.azure.v1\nclosed by us: 1000\n") || strings.Contains(errOut, "access_token") {
		t.Errorf("%q", errOut)
	}
}

func TestAConnectionThatTheServiceEnds(t *testing.T) {
	for _, c := range []struct {
		name  string
		serve func(conn net.Conn)
		code  int
		says  string
	}{
		{"in good order", func(conn net.Conn) {
			frames(t, conn, ws.NewCloseFrame(ws.NewCloseFrameBody(1000, "bye")))
			next(t, conn)
		},
			exitOK, "closed by the service: 1000 bye\n"},
		{"with an error", func(conn net.Conn) {
			frames(t, conn, ws.NewCloseFrame(ws.NewCloseFrameBody(1011, "no handler")))
			next(t, conn)
		}, exitFailure, "closed by the service: 1011 no handler\ntabard: the service ended the connection\n"},
		{"without a word", func(net.Conn) {}, exitFailure, "tabard: the connection broke: the service is gone without a goodbye\n"},
		{"with a message that is too long", func(conn net.Conn) {
			_ = ws.WriteHeader(conn, ws.Header{Fin: true, OpCode: ws.OpText, Length: maxAnswer + 1})
			_, _ = ws.ReadHeader(conn)
		}, exitFailure, "tabard: the connection broke: a message has more than 8388608 bytes\n"},
	} {
		t.Run(c.name, func(t *testing.T) {
			at := serveSocket(t, c.serve)
			code, out, errOut := client(t.Context(), "", "--connection-string", at)
			if code != c.code || out != "" || !strings.HasSuffix(errOut, c.says) {
				t.Errorf("%d %q %q", code, out, errOut)
			}
		})
	}
}

func TestAnInterruptTakesLeave(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	at := serveSocket(t, func(conn net.Conn) {
		next(t, conn) // the client is through with the handshake
		cancel()
		op, text := next(t, conn)
		if code, _ := ws.ParseCloseFrameData([]byte(text)); op != ws.OpClose || code != ws.StatusNormalClosure {
			t.Errorf("%v %d", op, code)
		}
		// and never answers: the client does not wait for ever
		_, _ = ws.ReadHeader(conn)
	})
	if code, _, errOut := client(ctx, "hi\n", "--connection-string", at); code != exitOK {
		t.Errorf("%d %s", code, errOut)
	}
}

func TestWaitBoundsTheTimeAfterTheInput(t *testing.T) {
	at := serveSocket(t, func(conn net.Conn) {
		next(t, conn)
		op, text := next(t, conn)
		frames(t, conn, ws.NewFrame(op, true, []byte(text)))
	})
	if code, _, errOut := client(t.Context(), "only\n", "--connection-string", at, "--wait", "1ms"); code != exitOK {
		t.Errorf("%d %s", code, errOut)
	}
}

func TestALineThatIsTooLong(t *testing.T) {
	at := serveSocket(t, func(conn net.Conn) {
		op, text := next(t, conn)
		frames(t, conn, ws.NewFrame(op, true, []byte(text)))
	})
	code, _, errOut := client(t.Context(), strings.Repeat("x", maxMessage+1), "--connection-string", at)
	if code != exitUsage || !strings.Contains(errOut, "a line of stdin has more than 1048576 bytes") {
		t.Errorf("%d %s", code, errOut)
	}
}

func TestARefusedHandshakeSaysWhy(t *testing.T) {
	for status, code := range map[int]int{401: exitRefused, 404: exitRefused, 503: exitFailure} {
		srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			http.Error(w, "because", status)
		}))
		got, _, errOut := client(t.Context(), "", "--connection-string", "Endpoint="+srv.URL+";AccessKey=k")
		srv.Close()
		if got != code || !strings.Contains(errOut, ": because") {
			t.Errorf("%d: %d %q", status, got, errOut)
		}
	}
}

func TestRefusalsOfEitherAPI(t *testing.T) {
	for _, c := range []struct {
		name   string
		status int
		body   string
		code   int
		says   string
	}{
		{"ARM", 400, `{"error":{"code":"BadRequest","message":"no good","details":[{"message":"no good"},{"target":"properties.x","message":"is odd"}]}}`, exitRefused, "no good\n  properties.x is odd"},
		{"ARM, not found", 404, `{"error":{"code":"ResourceNotFound","message":"no such thing"}}`, exitNotFound, "no such thing"},
		{"the data plane", 401, `{"code":"Error.Unauthorized","message":"not you","innererror":null}`, exitRefused, "not you"},
		{"a proxy in between", 502, `<html>`, exitFailure, "the service answered 502 Bad Gateway"},
		{"nothing", 500, ``, exitFailure, "the service answered 500 Internal Server Error"},
		{"a redirect, which is not followed", 302, ``, exitRefused, "the service answered 302 Found"},
	} {
		t.Run(c.name, func(t *testing.T) {
			srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("Location", "http://127.0.0.1:1/")
				w.WriteHeader(c.status)
				_, _ = w.Write([]byte(c.body))
			}))
			defer srv.Close()
			a, err := adminFlags{AdminURL: srv.URL, AdminToken: "x", dataFlags: dataFlags{Data: t.TempDir()}}.open(&stdio{})
			if err != nil {
				t.Fatal(err)
			}
			_, err = a.call(t.Context(), http.MethodGet, "/x", nil, nil, nil)
			var f *failure
			if !errors.As(err, &f) || f.code != c.code || f.message != c.says {
				t.Errorf("%v", err)
			}
		})
	}
}
