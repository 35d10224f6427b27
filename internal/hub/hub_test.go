package hub

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gobwas/ws"
)

func TestTheGreetingComesFirstAndMessagesFollowInOrder(t *testing.T) {
	h := newRegistry(t, Options{}).Hub("in", "chat")
	p := connect(t, h, ConnOptions{Groups: []string{"g"}, First: []*Frame{NewFrame(OpText, []byte("hello"))}})
	for i := range 500 {
		h.SendToGroup(toGroup("g", fmt.Sprint(i)), SendOptions{})
	}
	p.wantText("hello")
	for i := range 500 {
		p.wantText(fmt.Sprint(i))
	}
}

func TestAMessageIsEncodedOncePerEncodingThatHasAReceiver(t *testing.T) {
	h := newRegistry(t, Options{}).Hub("in", "chat")
	a, b, unused := &plainCodec{encoding: 1}, &plainCodec{encoding: 2}, &plainCodec{encoding: 3}
	var peers []*peer
	for i := range 10 {
		peers = append(peers, connect(t, h, ConnOptions{Codec: []Codec{a, b}[i%2]}))
	}
	connect(t, h, ConnOptions{Codec: unused, UserID: "other"})
	if n := h.SendToAll(text("x"), SendOptions{Match: func(c *Conn) bool { return c.UserID() == "" }}); n != 10 {
		t.Errorf("%d queues took the message, want 10", n)
	}
	for _, p := range peers {
		p.wantText("x")
	}
	if a.encoded.Load() != 1 || b.encoded.Load() != 1 || unused.encoded.Load() != 0 {
		t.Errorf("encoded %d, %d and %d times, want 1, 1 and 0", a.encoded.Load(), b.encoded.Load(), unused.encoded.Load())
	}
}

func TestFramesOfEveryLengthAreFramedRight(t *testing.T) {
	h := newRegistry(t, Options{}).Hub("in", "chat")
	p := connect(t, h, ConnOptions{})
	for _, n := range []int{0, 1, 125, 126, 127, 65535, 65536, 100_000, 1 << 20} {
		data := bytes.Repeat([]byte("z"), n)
		p.conn.SendMessage(&Message{Data: data})
		p.wantText(string(data))
		p.conn.Send(BuildFrame(OpText, 8, func(b []byte) []byte { return append(b, data...) }), NewFrame(OpText, data))
		p.wantText(string(data))
		p.wantText(string(data))
	}
}

func TestReceiversAreChosen(t *testing.T) {
	h := newRegistry(t, Options{}).Hub("In", "Chat")
	a := connect(t, h, ConnOptions{ID: "a", UserID: "u", Groups: []string{"g"}})
	b := connect(t, h, ConnOptions{ID: "b", UserID: "u"})
	c := connect(t, h, ConnOptions{ID: "c", Groups: []string{"g", "h"}})
	all := map[string]*peer{"a": a, "b": b, "c": c}
	many := []string{"a"}
	for i := range manyExcluded {
		many = append(many, fmt.Sprint(i))
	}
	for _, test := range []struct {
		name string
		send func()
		want string
	}{
		{"to all", func() { h.SendToAll(text("m"), SendOptions{}) }, "abc"},
		{"to all but one", func() { h.SendToAll(text("m"), SendOptions{Excluded: []string{"b", "x"}}) }, "ac"},
		{"to all but many", func() { h.SendToAll(text("m"), SendOptions{Excluded: many}) }, "bc"},
		{"to many excluded and a filter", func() {
			h.SendToAll(text("m"), SendOptions{Excluded: many, Match: func(c *Conn) bool { return c.UserID() == "" }})
		}, "c"},
		{"to a group", func() { h.SendToGroup(toGroup("g", "m"), SendOptions{}) }, "ac"},
		{"to a group without echo", func() { h.SendToGroup(toGroup("g", "m"), SendOptions{Except: a.conn}) }, "c"},
		{"to a group of another case", func() { h.SendToGroup(toGroup("G", "m"), SendOptions{}) }, ""},
		{"to a user", func() { h.SendToUser("u", text("m"), SendOptions{}) }, "ab"},
		{"to a filter by group", func() {
			h.SendToAll(text("m"), SendOptions{Match: func(c *Conn) bool { return slices.Contains(c.Groups(), "h") }})
		}, "c"},
		{"to a connection", func() { h.SendToConnection("b", text("m")) }, "b"},
		{"to nobody", func() {
			if h.SendToConnection("x", text("m")) || h.SendToUser("x", text("m"), SendOptions{}) != 0 {
				t.Error("somebody took it")
			}
		}, ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			test.send()
			for id, p := range all {
				p.t = t
				if strings.Contains(test.want, id) {
					p.wantText("m")
				}
				p.wantNothing()
			}
		})
	}
}

func TestRegistriesKnowWhoIsThere(t *testing.T) {
	r := newRegistry(t, Options{MaxGroups: 3})
	h := r.Hub("In", "Chat")
	if r.Hub("IN", "chat") != h || r.Lookup("in", "CHAT") != h || r.Lookup("in", "other") != nil {
		t.Error("hub names must ignore case")
	}
	if h.Name() != "chat" || h.Instance() != "in" {
		t.Errorf("got %q of %q", h.Name(), h.Instance())
	}
	a := connect(t, h, ConnOptions{ID: "a", UserID: "u", Subprotocol: "p", Groups: []string{"g"}})
	b := connect(t, h, ConnOptions{ID: "b", UserID: "u"})
	if c, ok := h.Connection("a"); !ok || c != a.conn || c.Hub() != h || c.Subprotocol() != "p" || c.ID() != "a" || r.Len() != 2 {
		t.Error("connection a is not found as it is")
	}
	if n := h.JoinUser("u", "g"); n != 2 {
		t.Errorf("%d connections are in the group, want 2", n)
	}
	if err := h.Join(b.conn, "h"); err != nil {
		t.Error(err)
	}
	h.Join(b.conn, "h")
	if got := b.conn.Groups(); !slices.Equal(got, []string{"g", "h"}) || !b.conn.InGroup("h") || a.conn.InGroup("h") {
		t.Errorf("b is in %q", got)
	}
	if got := h.GroupConnections("g", "", 0); !slices.Equal(got, []Member{{"a", "u"}, {"b", "u"}}) {
		t.Errorf("members %v", got)
	}
	if got := h.GroupConnections("g", "", 1); !slices.Equal(got, []Member{{"a", "u"}}) {
		t.Errorf("first page %v", got)
	}
	if got := h.GroupConnections("g", "a", 1); !slices.Equal(got, []Member{{"b", "u"}}) {
		t.Errorf("second page %v", got)
	}
	h.Join(b.conn, "i")
	if err := h.Join(b.conn, "j"); !errors.Is(err, ErrTooManyGroups) {
		t.Errorf("a fourth group: %v", err)
	}
	if !h.Leave(b.conn, "h") || h.Leave(b.conn, "h") || h.HasGroup("h") {
		t.Error("leaving h must work once and empty it")
	}
	h.LeaveUser("u", "g")
	if h.HasGroup("g") {
		t.Error("g must be empty")
	}
	h.JoinUser("u", "g")
	h.LeaveUserAll("u")
	if h.HasGroup("g") || h.HasGroup("i") || len(b.conn.Groups()) != 0 {
		t.Error("the user must be in no group")
	}
	h.Join(a.conn, "g")
	h.LeaveAll(a.conn)
	if h.HasGroup("g") || !h.HasUser("u") {
		t.Error("a must be in no group, u must be there")
	}
	seen := 0
	h.Each(func(*Conn) bool { seen++; return false })
	if seen != 1 {
		t.Errorf("Each went on after false: %d", seen)
	}
	h.Join(a.conn, "g")
	a.conn.Lost(a.conn.out.current(), "gone")
	a.wantEnd("gone")
	if err := h.Join(a.conn, "k"); !errors.Is(err, ErrGone) || h.HasGroup("g") || h.HasGroup("k") || !a.conn.Gone() {
		t.Errorf("a connection that is gone is in no group: %v", err)
	}
	b.conn.Lost(b.conn.out.current(), "gone")
	if _, ok := h.Connection("a"); ok || h.HasUser("u") || r.Len() != 0 {
		t.Error("somebody is still there")
	}
}

func TestANilHubIsEmpty(t *testing.T) {
	var h *Hub
	h.SendToAll(text("x"), SendOptions{})
	h.SendToGroup(toGroup("g", "x"), SendOptions{})
	h.SendToUser("u", text("x"), SendOptions{})
	h.CloseAll(nil, "")
	h.CloseGroup("g", nil, "")
	h.CloseUser("u", nil, "")
	h.LeaveUser("u", "g")
	h.LeaveUserAll("u")
	h.Each(func(*Conn) bool { t.Error("somebody"); return true })
	if h.HasGroup("g") || h.HasUser("u") || h.CloseConnection("c", "") || h.SendToConnection("c", text("x")) ||
		h.JoinUser("u", "g") != 0 || h.GroupConnections("g", "", 0) != nil {
		t.Error("a nil hub has something")
	}
}

func TestConnectRefuses(t *testing.T) {
	r := newRegistry(t, Options{MaxConnections: 2})
	h := r.Hub("in", "chat")
	connect(t, h, ConnOptions{ID: "a"})
	try := func(id string) error {
		s, c := net.Pipe()
		defer s.Close()
		defer c.Close()
		_, err := h.Connect(ConnOptions{ID: id, Codec: testCodec, Socket: s})
		return err
	}
	if err := try("a"); !errors.Is(err, ErrDuplicateID) {
		t.Errorf("the same id again: %v", err)
	}
	connect(t, h, ConnOptions{ID: "b"})
	if err := try("c"); !errors.Is(err, ErrTooManyConnections) {
		t.Errorf("a third connection: %v", err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	r.Close(ctx)
	if err := try("d"); !errors.Is(err, ErrClosed) {
		t.Errorf("after Close: %v", err)
	}
}

func TestASlowClientIsCutOffAloneAndSlowsNobody(t *testing.T) {
	identity := httptest.NewTLSServer(nil)
	identity.Close()
	roots := x509.NewCertPool()
	roots.AddCert(identity.Certificate())
	overTLS := func(t testing.TB) (net.Conn, net.Conn) {
		server, client := tcpPair(t)
		return tls.Server(server, identity.TLS), tls.Client(client, &tls.Config{RootCAs: roots, ServerName: "example.com"})
	}
	for name, pair := range map[string]func(testing.TB) (net.Conn, net.Conn){"plain": tcpPair, "TLS": overTLS} {
		t.Run(name, func(t *testing.T) {
			h := newRegistry(t, Options{QueueMessages: 100}).Hub("in", "chat")
			join := func() *peer {
				server, client := pair(t)
				p := connectOver(t, h, ConnOptions{Groups: []string{"g"}}, server, client)
				p.conn.SendMessage(text("hello"))
				p.wantText("hello") // the TLS handshake is done
				return p
			}
			slow, fast := join(), join()
			data := strings.Repeat("x", 64<<10)
			var worst time.Duration
			for sent := 0; !slow.conn.Gone() && sent < 10_000; sent++ {
				start := time.Now()
				h.SendToGroup(toGroup("g", data), SendOptions{})
				worst = max(worst, time.Since(start))
				fast.wantText(data)
			}
			slow.wantEnd(ReasonSlowClient)
			if worst > 2*time.Second {
				t.Errorf("a publisher waited %v for a slow client", worst)
			}
			h.SendToGroup(toGroup("g", "after"), SendOptions{})
			fast.wantText("after")
			for {
				if _, _, err := slow.next(); err != nil {
					break
				}
			}
			if h.SendToConnection(slow.conn.ID(), text("x")) || slow.conn.SendMessage(text("x")) {
				t.Error("a connection that was cut off takes messages")
			}
			fast.conn.Close(CloseNormal, "go")
			fast.wantText("bye: go")
			fast.wantClose(CloseNormal, "go")
			fast.conn.Answer(CloseNormal)
			fast.wantEOF()
		})
	}
}

func TestTheQueueIsBoundedInBytesToo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newRegistry(t, Options{QueueBytes: 100_000}).Hub("in", "chat")
		s, c := net.Pipe()
		p := connectOver(t, h, ConnOptions{}, s, c)
		p.conn.SendMessage(text("taken by the writer"))
		synctest.Wait()
		big := text(strings.Repeat("x", 49_000))
		for range 2 {
			if !p.conn.SendMessage(big) {
				t.Error("98,000 of 100,000 bytes must fit")
			}
		}
		if p.conn.SendMessage(big) {
			t.Error("147,000 of 100,000 bytes must not fit")
		}
		p.wantEnd(ReasonSlowClient)
	})
}

func TestExpiredMessagesLeaveTheQueueUnsent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newRegistry(t, Options{QueueMessages: 3}).Hub("in", "chat")
		s, c := net.Pipe()
		p := connectOver(t, h, ConnOptions{}, s, c)
		p.conn.SendMessage(text("0")) // taken by the writer, which waits
		synctest.Wait()
		brief, long := text("brief"), text("long")
		brief.TTL, long.TTL = time.Second, time.Hour
		p.conn.SendMessage(brief)
		p.conn.SendMessage(long)
		p.conn.SendMessage(brief)
		<-time.After(2 * time.Second)
		if !p.conn.SendMessage(text("1")) || !p.conn.SendMessage(text("2")) {
			t.Error("expired messages must make room")
		}
		for _, want := range []string{"0", "long", "1", "2"} {
			p.wantText(want)
		}
		p.wantNothing()
	})
}

func TestASocketThatTakesNothingIsCutOff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newRegistry(t, Options{WriteStall: 7 * time.Second}).Hub("in", "chat")
		s, c := net.Pipe()
		p := connectOver(t, h, ConnOptions{}, s, c)
		start := time.Now()
		p.conn.SendMessage(text("0"))
		p.wantEnd(ReasonSlowClient)
		if d := time.Since(start); d != 7*time.Second {
			t.Errorf("after %v, want 7s", d)
		}
	})
}

func TestAConnectionIsPingedAndASilentOneCutOff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRegistry(t, Options{KeepAlive: func(instance, hub string) time.Duration {
			if instance != "in" || hub != "chat" {
				t.Errorf("asked for %q of %q", hub, instance)
			}
			return 3 * time.Second
		}})
		s, c := net.Pipe()
		p := connectOver(t, r.Hub("in", "chat"), ConnOptions{}, s, c)
		start := time.Now()
		for range 5 {
			if op, _ := p.read(); op != ws.OpPing {
				t.Fatalf("got %v, want a ping", op)
			}
			p.conn.Heard()
		}
		if d := time.Since(start); d < 15*time.Second || d > 17*time.Second {
			t.Errorf("five pings in %v", d)
		}
		p.conn.Hold() // an event handler is being asked: silence is no sign
		for range 20 {
			p.read()
		}
		p.conn.Heard()
		start = time.Now()
		go func() {
			for _, _, err := p.next(); err == nil; _, _, err = p.next() {
			}
		}()
		p.t = t
		if got := <-p.ended; got != ReasonPingTimeout {
			t.Errorf("ended with %q", got)
		}
		if d := time.Since(start); d < 16*time.Second || d > 17*time.Second {
			t.Errorf("cut off after %v, want two intervals and 10 s", d)
		}
	})
}

func TestCloseTellsTheClientWhy(t *testing.T) {
	long := strings.Repeat("é", 100)
	for _, test := range []struct {
		name   string
		codec  Codec
		close  func(c *Conn)
		notice string
		code   CloseCode
		reason string
		event  string
	}{
		{"with a notice", testCodec, func(c *Conn) { c.Close(CloseNormal, "go") }, "bye: go", CloseNormal, "go", "go"},
		{"without one on a raw connection", &plainCodec{}, func(c *Conn) { c.Close(CloseInternal, "go") }, "", CloseInternal, "go", "go"},
		{"with another reason for the event", testCodec, func(c *Conn) { c.CloseFor(CloseInternal, "go", "why") }, "bye: go", CloseInternal, "go", "why"},
		{"cut at 123 bytes between characters", testCodec, func(c *Conn) { c.Close(CloseNormal, long) }, "bye: " + long, CloseNormal, strings.Repeat("é", 61), long},
		{"by its id", testCodec, func(c *Conn) { c.Hub().CloseConnection(c.ID(), "rest") }, "bye: rest", CloseNormal, "rest", "rest"},
		{"with all", testCodec, func(c *Conn) { c.Hub().CloseAll([]string{"x"}, "all") }, "bye: all", CloseNormal, "all", "all"},
		{"with its group", testCodec, func(c *Conn) { c.Hub().CloseGroup("g", nil, "all") }, "bye: all", CloseNormal, "all", "all"},
		{"with its user", testCodec, func(c *Conn) { c.Hub().CloseUser("u", nil, "all") }, "bye: all", CloseNormal, "all", "all"},
		{"with its instance", testCodec, func(c *Conn) { c.Hub().registry.CloseInstance("IN", ClosePolicy, "gone") }, "bye: gone", ClosePolicy, "gone", "gone"},
	} {
		t.Run(test.name, func(t *testing.T) {
			h := newRegistry(t, Options{}).Hub("in", "chat")
			p := connect(t, h, ConnOptions{ID: "c", Codec: test.codec, UserID: "u", Groups: []string{"g"}})
			p.conn.SendMessage(text("before"))
			test.close(p.conn)
			p.conn.SendMessage(text("after"))
			if p.conn.Close(CloseNormal, "again") {
				t.Error("closed twice")
			}
			p.wantText("before")
			if test.notice != "" {
				p.wantText(test.notice)
			}
			p.wantClose(test.code, test.reason)
			p.wantEnd(test.event)
			p.conn.Answer(test.code) // as the reader does when the client answers
			p.wantEOF()
		})
	}
}

func TestExcludedConnectionsStayOpen(t *testing.T) {
	h := newRegistry(t, Options{}).Hub("in", "chat")
	p := connect(t, h, ConnOptions{ID: "c", UserID: "u", Groups: []string{"g"}})
	h.CloseAll([]string{"c"}, "")
	h.CloseGroup("g", []string{"c"}, "")
	h.CloseUser("u", []string{"c"}, "")
	if h.CloseConnection("x", "") {
		t.Error("closed a connection that does not exist")
	}
	p.wantNothing()
}

func TestAClientThatClosesIsAnswered(t *testing.T) {
	h := newRegistry(t, Options{}).Hub("in", "chat")
	p := connect(t, h, ConnOptions{})
	p.conn.SendMessage(text("last"))
	p.conn.Answer(4000)
	p.wantText("last")
	p.wantClose(4000, "")
	p.wantEOF()
	p.wantEnd("")

	p = connect(t, h, ConnOptions{})
	p.conn.Answer(CloseNone)
	if op, payload := p.read(); op != ws.OpClose || payload != "" {
		t.Errorf("got %v %q, want an empty close frame", op, payload)
	}
	p.wantEOF()
}

func TestAViolationEndsTheStream(t *testing.T) {
	h := newRegistry(t, Options{}).Hub("in", "chat")
	p := connect(t, h, ConnOptions{})
	p.conn.Fail(CloseProtocol, "no", "why")
	p.wantClose(CloseProtocol, "no")
	p.wantEOF() // half closed
	p.wantEnd("why")
}

func TestAClientThatDoesNotAnswerAClosePaysWithItsSocket(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newRegistry(t, Options{CloseTimeout: 4 * time.Second}).Hub("in", "chat")
		s, c := net.Pipe()
		p := connectOver(t, h, ConnOptions{}, s, c)
		start := time.Now()
		p.conn.Close(CloseNormal, "go")
		p.wantText("bye: go")
		p.wantClose(CloseNormal, "go")
		p.wantEOF()
		if d := time.Since(start); d < 4*time.Second || d > 5*time.Second {
			t.Errorf("cut off after %v", d)
		}
	})
}

func TestRegistryCloseAsksClientsToComeBackAndWaits(t *testing.T) {
	r := NewRegistry(Options{})
	h := r.Hub("in", "chat")
	var peers []*peer
	for range 20 {
		peers = append(peers, connect(t, h, ConnOptions{}))
	}
	h.SendToAll(text("last"), SendOptions{})
	done := make(chan error, 1)
	go func() { done <- r.Close(context.Background()) }()
	for _, p := range peers {
		p.wantText("last")
		p.wantText("bye: " + ReasonReload)
		p.wantClose(CloseGoingAway, ReasonReload)
		p.wantEnd(ReasonReload)
	}
	select {
	case <-done:
		t.Error("Close did not wait for the sockets")
	default:
	}
	for _, p := range peers {
		p.conn.Answer(CloseGoingAway)
	}
	if err := <-done; err != nil {
		t.Error(err)
	}
}

func TestRegistryCloseIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := NewRegistry(Options{CloseTimeout: time.Hour, WriteStall: time.Hour})
		h := r.Hub("in", "chat")
		s, c := net.Pipe()
		connectOver(t, h, ConnOptions{}, s, c)
		s, c = net.Pipe()
		connectOver(t, h, ConnOptions{}, s, c)
		ctx, cancel := context.WithTimeout(context.Background(), 3*time.Second)
		defer cancel()
		start := time.Now()
		if err := r.Close(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Error(err)
		}
		if d := time.Since(start); d != 3*time.Second {
			t.Errorf("took %v", d)
		}
		if err := r.Close(ctx); err != nil {
			t.Error(err)
		}
	})
}

func TestLostConnectionsEndOnce(t *testing.T) {
	h := newRegistry(t, Options{}).Hub("in", "chat")
	p := connect(t, h, ConnOptions{})
	p.net.Close()
	eventually(t, "a write fails", func() bool { p.conn.SendMessage(text("x")); return p.conn.Gone() })
	p.wantEnd(ReasonLost)
	p.conn.Lost(p.conn.out.current(), "again")
	p.conn.Close(CloseNormal, "again")
	select {
	case got := <-p.ended:
		t.Errorf("ended again: %q", got)
	default:
	}
}
