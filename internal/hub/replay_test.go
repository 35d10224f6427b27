package hub

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// A numberedCodec writes the data of a message and, at its end, "#" and the sequence id.
type numberedCodec struct{ plainCodec }

func (*numberedCodec) AppendStart(dst []byte, _ int) []byte { return dst }

func (*numberedCodec) AppendSequence(dst []byte, n uint64) []byte {
	return strconv.AppendUint(append(dst, '#'), n, 10)
}

var numbered = &numberedCodec{plainCodec{encoding: 2}}

// resume gives the peer's connection another socket and has the peer read from its other end.
func (p *peer) resume(first ...*Frame) { p.t.Helper(); p.resumeAs(false, first...) }

// resumeAs is resume with a client that inflates or not.
func (p *peer) resumeAs(deflate bool, first ...*Frame) {
	p.t.Helper()
	server, client := tcpPair(p.t)
	if err := p.conn.Resume(server, deflate, first...); err != nil {
		p.t.Fatal(err)
	}
	p.net, p.deflate = client, deflate
}

// lose cuts the connection off as a network does, and has the reader notice.
func (p *peer) lose() {
	socket := p.conn.out.current()
	p.net.Close()
	p.conn.Lost(socket, ReasonLost)
}

func TestMessagesOfAReliableConnectionAreNumberedAndSharedWithOthers(t *testing.T) {
	h := newRegistry(t, Options{}).Hub("in", "chat")
	codec := &numberedCodec{plainCodec{encoding: 2}}
	a := connect(t, h, ConnOptions{Codec: codec, Groups: []string{"g"}})
	b := connect(t, h, ConnOptions{Codec: codec, Groups: []string{"g"}})
	plain := connect(t, h, ConnOptions{Groups: []string{"g"}})
	b.conn.SendMessage(text("alone"))
	h.SendToGroup(toGroup("g", "all"), SendOptions{})
	long := strings.Repeat("x", 70_000)
	h.SendToGroup(toGroup("g", long), SendOptions{})
	a.wantText("all#1")
	a.wantText(long + "#2")
	b.wantText("alone#1")
	b.wantText("all#2")
	b.wantText(long + "#3")
	plain.wantText("all")
	if n := codec.encoded.Load(); n != 3 {
		t.Errorf("3 messages were encoded %d times for two receivers", n)
	}
	a.conn.Send(NewFrame(OpText, []byte("ack")))
	a.wantText("ack")
}

func TestWhatIsNotAcknowledgedIsSentAgainUnderItsOldNumber(t *testing.T) {
	h := newRegistry(t, Options{}).Hub("in", "chat")
	p := connect(t, h, ConnOptions{Codec: numbered, UserID: "u", Groups: []string{"g"}})
	for _, s := range []string{"a", "b", "c"} {
		p.conn.SendMessage(text(s))
	}
	p.wantText("a#1")
	p.wantText("b#2")
	p.wantText("c#3")
	p.conn.Acknowledge(1)
	p.conn.Acknowledge(0)  // late
	p.conn.Acknowledge(99) // of the future: releases what there is, and nothing that comes
	p.conn.SendMessage(text("d"))
	p.wantText("d#4")
	p.lose()
	if _, ok := h.Connection(p.conn.ID()); !ok || !h.HasUser("u") || !p.conn.InGroup("g") {
		t.Fatal("the connection has left the hub")
	}
	if p.conn.Send(NewFrame(OpText, []byte("ack"))) {
		t.Error("a frame without a number was taken although nobody is there")
	}
	h.SendToGroup(toGroup("g", "away"), SendOptions{})
	p.resume(NewFrame(OpText, []byte("hello again")))
	p.wantText("hello again")
	p.wantText("d#4")
	p.wantText("away#5")
	p.conn.SendMessage(text("after"))
	p.wantText("after#6")
}

func TestAHalfOpenSocketIsTakenOver(t *testing.T) {
	h := newRegistry(t, Options{}).Hub("in", "chat")
	p := connect(t, h, ConnOptions{Codec: numbered})
	old := p.conn.out.current()
	was := p.net
	p.conn.SendMessage(text("a"))
	p.resume()
	p.wantText("a#1")
	p.conn.Lost(old, ReasonLost) // the old one's reader notices later
	p.conn.SendMessage(text("b"))
	p.wantText("b#2")
	if _, err := was.Read(make([]byte, 64)); err == nil {
		_, err = was.Read(make([]byte, 64)) // what had been written before the takeover
		if err == nil {
			t.Error("the old socket is still open")
		}
	}
	select {
	case why := <-p.ended:
		t.Errorf("the connection ended: %q", why)
	default:
	}
}

func TestWhatIsSentRightAfterATakeoverIsNotLostWithTheOldSocket(t *testing.T) {
	h := newRegistry(t, Options{}).Hub("in", "chat")
	p := connect(t, h, ConnOptions{Codec: numbered})
	big := strings.Repeat("x", 12<<20) // more than the system takes: its writer waits for the old socket
	p.conn.SendMessage(text(big))
	eventually(t, "the writer has it", func() bool {
		p.conn.out.mu.Lock()
		defer p.conn.out.mu.Unlock()
		return !p.conn.out.replay.unsent()
	})
	was := p.net
	defer was.Close()
	p.resume(NewFrame(OpText, []byte("hello")))
	if !p.conn.Send(NewFrame(OpText, []byte("ack"))) {
		t.Error("the ack was refused")
	}
	p.conn.SendMessage(text("next"))
	p.wantText("hello")
	p.wantText(big + "#1")
	p.wantText("ack")
	p.wantText("next#2")
}

func TestTheOldSocketsReaderDoesNotCutTheFarewellOnTheNewOneShort(t *testing.T) {
	h := newRegistry(t, Options{}).Hub("in", "chat")
	p := connect(t, h, ConnOptions{Codec: numbered})
	old := p.conn.out.current()
	p.resume()
	h.CloseConnection(p.conn.ID(), "go")
	p.conn.Lost(old, ReasonLost)
	if p.conn.out.current() == nil {
		t.Error("the new socket is closed before the client could answer")
	}
	p.wantText("bye: go")
	p.wantClose(ClosePolicy, "go")
}

func TestAClientThatComesBackWhileItsEventIsPendingIsNotTakenForSilent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newRegistry(t, Options{KeepAlive: func(string, string) time.Duration { return time.Second }, PingGrace: time.Second}).Hub("in", "chat")
		s, c := net.Pipe()
		p := connectOver(t, h, ConnOptions{Codec: numbered}, s, c)
		p.conn.Hold() // by the reader of the old socket
		s2, c2 := net.Pipe()
		go func() { _, _ = io.Copy(io.Discard, c2) }()
		if err := p.conn.Resume(s2, false); err != nil {
			t.Fatal(err)
		}
		c.Close()
		time.Sleep(30 * time.Second)
		if p.conn.out.current() != s2 {
			t.Error("it was cut off although nobody reads what it sends")
		}
		p.conn.Heard()
		time.Sleep(10 * time.Second)
		if p.conn.out.current() != nil {
			t.Error("it is silent and still there")
		}
	})
}

func TestWhoDoesNotComeBackInTimeIsGone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRegistry(t, Options{RecoveryWindow: 30 * time.Second})
		h := r.Hub("in", "chat")
		s, c := net.Pipe()
		p := connectOver(t, h, ConnOptions{Codec: numbered}, s, c)
		time.Sleep(time.Second)
		c.Close()
		p.conn.Lost(s, ReasonLost)
		time.Sleep(29 * time.Second)
		if p.conn.Gone() {
			t.Fatal("it is gone within the window")
		}
		time.Sleep(2 * time.Second)
		p.wantEnd(ReasonLost)
		if err := p.conn.Resume(s, false); !errors.Is(err, ErrGone) {
			t.Errorf("resume: %v, want ErrGone", err)
		}
		if r.Len() != 0 {
			t.Errorf("%d connections", r.Len())
		}
	})
}

func TestASilentReliableClientMayComeBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newRegistry(t, Options{KeepAlive: func(string, string) time.Duration { return time.Second }, PingGrace: time.Second, RecoveryWindow: time.Minute}).Hub("in", "chat")
		s, c := net.Pipe()
		p := connectOver(t, h, ConnOptions{Codec: numbered}, s, c)
		go func() { // takes what comes and answers nothing
			for buf := make([]byte, 64); ; {
				if _, err := c.Read(buf); err != nil {
					return
				}
			}
		}()
		time.Sleep(10 * time.Second)
		if p.conn.Gone() || p.conn.out.current() != nil {
			t.Fatalf("gone %t, socket %v; want it waiting for its client", p.conn.Gone(), p.conn.out.current())
		}
		s2, c2 := net.Pipe()
		if err := p.conn.Resume(s2, false); err != nil {
			t.Fatal(err)
		}
		go p.conn.SendMessage(text("back"))
		p.net = c2
		p.wantText("back#1")
		c2.Close()
		p.conn.Lost(s2, ReasonLost)
		time.Sleep(2 * time.Minute)
		p.wantEnd(ReasonLost)
	})
}

func TestAReliableConnectionEndsByTheClientsNormalCloseAlone(t *testing.T) {
	h := newRegistry(t, Options{RecoveryWindow: time.Minute}).Hub("in", "chat")
	p := connect(t, h, ConnOptions{Codec: numbered})
	p.conn.Answer(CloseGoingAway)
	p.wantClose(CloseGoingAway, "")
	p.wantEOF()
	if p.conn.Gone() {
		t.Fatal("a close with 1001 ended it")
	}
	eventually(t, "the socket is given up", func() bool { return p.conn.out.current() == nil })
	p.conn.SendMessage(text("away"))
	p.resume()
	p.wantText("away#1")
	p.conn.Answer(CloseNormal)
	p.wantClose(CloseNormal, "")
	p.wantEnd("")
}

func TestACloseByTheServiceIsFinalAlsoForWhoIsAway(t *testing.T) {
	r := newRegistry(t, Options{})
	h := r.Hub("in", "chat")
	here, away := connect(t, h, ConnOptions{Codec: numbered}), connect(t, h, ConnOptions{Codec: numbered})
	away.lose()
	for _, p := range []*peer{here, away} {
		if !h.CloseConnection(p.conn.ID(), "go") {
			t.Error("was not there")
		}
		p.wantEnd("go")
		s, c := tcpPair(t)
		defer s.Close()
		defer c.Close()
		if err := p.conn.Resume(s, false); !errors.Is(err, ErrGone) {
			t.Errorf("resume: %v, want ErrGone", err)
		}
	}
	here.wantText("bye: go")
	here.wantClose(ClosePolicy, "go")
	if r.Len() != 0 {
		t.Errorf("%d connections", r.Len())
	}
}

func TestTooMuchUnacknowledgedIsTheEnd(t *testing.T) {
	for name, o := range map[string]Options{"messages": {QueueMessages: 10}, "bytes": {QueueBytes: 100}} {
		t.Run(name, func(t *testing.T) {
			h := newRegistry(t, o).Hub("in", "chat")
			p := connect(t, h, ConnOptions{Codec: numbered})
			for i := range 10 {
				if !p.conn.SendMessage(text("0123456789")) {
					t.Fatalf("message %d was refused", i+1)
				}
			}
			p.wantText("0123456789#1")
			p.conn.Acknowledge(1)
			if !p.conn.SendMessage(text("0123456789")) {
				t.Fatal("there was room for one more")
			}
			p.lose() // being away does not change it
			if p.conn.SendMessage(text("0123456789")) {
				t.Error("one too many was taken")
			}
			p.wantEnd(ReasonSlowClient)
			if p.conn.SendMessage(text("x")) {
				t.Error("a connection that ended takes messages")
			}
		})
	}
}

func TestMessagesThatOutliveTheirTimeAreNotSentAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newRegistry(t, Options{QueueMessages: 3}).Hub("in", "chat")
		s, c := net.Pipe()
		p := connectOver(t, h, ConnOptions{Codec: numbered}, s, c)
		c.Close()
		p.conn.Lost(s, ReasonLost)
		short := text("short")
		short.TTL = time.Second
		p.conn.SendMessage(short)
		p.conn.SendMessage(text("long"))
		p.conn.SendMessage(short)
		time.Sleep(3 * time.Second)
		if !p.conn.SendMessage(text("more")) { // the expired ones make room
			t.Fatal("there was no room")
		}
		s2, c2 := net.Pipe()
		if err := p.conn.Resume(s2, false); err != nil {
			t.Fatal(err)
		}
		p.net = c2
		p.wantText("long#2")
		p.wantText("more#4")
		c2.Close()
		p.conn.Lost(s2, "")
	})
}

func TestResumesThatRaceLeaveOneSocketAndLoseNothing(t *testing.T) {
	r := newRegistry(t, Options{})
	h := r.Hub("in", "chat")
	p := connect(t, h, ConnOptions{Codec: numbered})
	var wg sync.WaitGroup
	wg.Go(func() {
		for i := range 200 {
			p.conn.SendMessage(text(fmt.Sprint(i)))
		}
	})
	for range 4 {
		wg.Go(func() {
			for i := range 10 {
				server, client := tcpPair(t)
				if i%2 == 1 { // one that the hub may only write to by waiting, like TLS
					server = struct{ net.Conn }{server}
				}
				if err := p.conn.Resume(server, false); err != nil {
					t.Error(err)
					return
				}
				go func() { // each end reads until it is taken from it
					for buf := make([]byte, 4096); ; {
						if _, err := client.Read(buf); err != nil {
							return
						}
					}
				}()
			}
		})
	}
	wg.Wait()
	p.resume()
	for i := range 200 {
		p.wantText(fmt.Sprintf("%d#%d", i, i+1))
	}
	p.conn.Answer(CloseNormal)
	p.wantEnd("")
	p.net.Close()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	if err := r.Close(ctx); err != nil {
		t.Errorf("sockets are left: %v", err)
	}
}

func TestAPlainConnectionCannotBeResumed(t *testing.T) {
	h := newRegistry(t, Options{}).Hub("in", "chat")
	p := connect(t, h, ConnOptions{})
	s, _ := tcpPair(t)
	defer s.Close()
	if err := p.conn.Resume(s, false); !errors.Is(err, ErrGone) {
		t.Errorf("got %v", err)
	}
	p.conn.Acknowledge(1)
	p.wantNothing()
}
