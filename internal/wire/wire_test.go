package wire

import (
	"bytes"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/gobwas/ws"
	"github.com/gobwas/ws/wsutil"
)

// peer accepts one WebSocket and runs serve on it.
func peer(t *testing.T, serve func(net.Conn)) *Endpoint {
	t.Helper()
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") == "" && r.URL.Query().Get("access_token") == "" {
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		u := ws.HTTPUpgrader{Protocol: func(string) bool { return true }}
		conn, _, _, err := u.Upgrade(r, w)
		if err != nil {
			return
		}
		defer conn.Close()
		serve(conn)
	}))
	t.Cleanup(s.Close)
	return &Endpoint{Origin: s.URL + "/", Key: "k", Hub: "a b"}
}

// control reads a control frame.
func control(conn net.Conn) (ws.OpCode, error) {
	h, err := ws.ReadHeader(conn)
	if err == nil {
		_, err = io.CopyN(io.Discard, conn, min(h.Length, ws.MaxControlFramePayloadSize))
	}
	return h.OpCode, err
}

func TestFramesGoBothWaysAndAClosedConnectionSaysWhy(t *testing.T) {
	large := strings.Repeat("x", 3*readBuffer)
	e := peer(t, func(conn net.Conn) {
		data, op, err := wsutil.ReadClientData(conn)
		if err != nil || op != ws.OpText || string(data) != "hello" {
			t.Errorf("got %v %q, %v", op, data, err)
		}
		_ = ws.WriteFrame(conn, ws.NewPingFrame([]byte("p")))
		if op, err := control(conn); err != nil || op != ws.OpPong {
			t.Errorf("the ping was answered with %v, %v", op, err)
		}
		_ = wsutil.WriteServerText(conn, []byte(large))
		_ = ws.WriteFrame(conn, ws.NewCloseFrame(ws.NewCloseFrameBody(1008, "go")))
		if op, err := control(conn); err != nil || op != ws.OpClose {
			t.Errorf("the close frame was answered with %v, %v", op, err)
		}
	})
	if got, want := e.ClientURL(), strings.TrimRight(e.Origin, "/")+"/client/hubs/a%20b"; got != want {
		t.Errorf("%s, want %s", got, want)
	}
	c, err := Dial(t.Context(), e, Handshake{URL: e.ClientURL() + "?access_token=x", Subprotocols: []string{"one"}})
	if err != nil || c.Subprotocol != "one" {
		t.Fatal(c, err)
	}
	defer c.Close()
	c.Deadline(time.Now().Add(10 * time.Second))
	if err := errors.Join(c.WriteFragment(false, Text, []byte("hel")), c.WriteFragment(true, Continuation, []byte("lo"))); err != nil {
		t.Fatal(err)
	}
	if op, got, err := c.Next(); err != nil || op != Text || string(got) != large {
		t.Errorf("got %v, %d bytes, %v", op, len(got), err)
	}
	var closed *Closed
	if _, _, err := c.Next(); !errors.As(err, &closed) || closed.Code != 1008 || closed.Reason != "go" {
		t.Error(err)
	}
}

func TestARefusalHasItsStatus(t *testing.T) {
	e := peer(t, func(net.Conn) { t.Error("it was let in") })
	_, err := Dial(t.Context(), e, Handshake{URL: e.ClientURL()})
	if refused := Refused(0); !errors.As(err, &refused) || refused != 401 {
		t.Error(err)
	}
}

func TestCallsSayWhatTheyAreToldTo(t *testing.T) {
	var seen *http.Request
	var body []byte
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		seen = r
		body, _ = io.ReadAll(r.Body)
		http.Redirect(w, r, "/elsewhere", http.StatusFound)
	}))
	defer s.Close()
	e := &Endpoint{Origin: s.URL}
	client := e.HTTP(1)
	defer client.CloseIdleConnections()
	a, err := Do(t.Context(), client, Call{Method: "POST", URL: s.URL + "/x?y=z", Token: "t", Body: []byte("hi"), Chunks: true, Host: "other.example", Header: http.Header{"X-A": {"b"}}})
	if err != nil || a.Status != http.StatusFound {
		t.Fatal(a, err) // and not followed: the token is meant for this endpoint
	}
	if seen.Header.Get("Authorization") != "Bearer t" || seen.Host != "other.example" || seen.ContentLength != -1 || !bytes.Equal(body, []byte("hi")) || seen.Header.Get("X-A") != "b" {
		t.Errorf("%+v %q", seen, body)
	}
}
