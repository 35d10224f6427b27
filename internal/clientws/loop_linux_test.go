package clientws

import (
	"fmt"
	"net/http"
	"runtime"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/gobwas/ws"
)

func TestSilentClientsCostNoGoroutine(t *testing.T) {
	r := newRig(t, rigOptions{})
	r.json(dial{addr: r.short}) // the loops run
	const n = 100
	before := runtime.NumGoroutine()
	for range n {
		r.json(dial{addr: r.short})
	}
	eventually(t, "those who let them in are gone", func() bool { return runtime.NumGoroutine() < before+n/2 })
}

func TestWhoWaitsForTheApplicationHoldsUpNobodyElse(t *testing.T) {
	r := newRig(t, rigOptions{})
	entered, release := make(chan struct{}, 1), make(chan struct{})
	r.app.on("slow", func(http.ResponseWriter, *http.Request) { entered <- struct{}{}; <-release })
	waiting := r.json(dial{roles: allRoles, groups: []string{"g"}})
	frames := frameBytes(true, ws.OpText, `{"type":"event","event":"slow","dataType":"text","data":"x","ackId":1}`)
	for i := 2; i < 5; i++ { // in one piece, so that one read brings them all
		frames = append(frames, frameBytes(true, ws.OpText, fmt.Sprintf(`{"type":"sendToGroup","group":"g","data":%d,"ackId":%d}`, i, i))...)
	}
	waiting.raw(append(frames, frameBytes(true, ws.OpPing, "here")...))
	<-entered
	for range 2 * runtime.GOMAXPROCS(0) { // some of them are read by the same loop
		c := r.json(dial{})
		c.send(`{"type":"ping"}`)
		c.wantText(`{"type":"pong"}`)
	}
	waiting.send(`{"type":"event","event":"e","dataType":"text","data":"x","ackId":5}`)
	close(release)
	waiting.wantText(ackOK(1))
	for i := 2; i < 5; i++ {
		waiting.wantPart(`"type":"message"`, fmt.Sprintf(`"data":%d`, i))
		waiting.wantText(ackOK(i))
	}
	waiting.want(ws.OpPong, "here")
	waiting.wantText(ackOK(5))
	for i := 6; i < 9; i++ { // a loop has taken over again, or will
		waiting.send(fmt.Sprintf(`{"type":"joinGroup","group":"h","ackId":%d}`, i))
		waiting.wantText(ackOK(i))
	}
}

// A counted raw connection counts how often it is read.
type counted struct {
	syscall.RawConn
	reads atomic.Int64
}

func (c *counted) Read(f func(uintptr) bool) error {
	c.reads.Add(1)
	return c.RawConn.Read(f)
}

// The loop that is asked may have no room: the system bounds how many sockets can be watched.
func TestWhoNoLoopTakesIsReadWithoutTryingOverAndOver(t *testing.T) {
	r := newRig(t, rigOptions{})
	c := r.json(dial{addr: r.short})
	var p *polled
	eventually(t, "a loop reads it", func() bool {
		for _, l := range r.server.loops.list {
			l.mu.Lock()
			for _, s := range l.sockets {
				p = s
			}
			l.mu.Unlock()
		}
		return p != nil
	})
	p.unwatch()
	none, err := newLoop()
	if err != nil {
		t.Fatal(err)
	}
	if err := none.file.Close(); err != nil {
		t.Fatal(err)
	}
	raw := &counted{RawConn: p.raw}
	p.loop, p.raw = none, raw
	go p.cl.goOn(p, errAtRest)
	for range 3 {
		c.send(`{"type":"ping"}`)
		c.wantText(`{"type":"pong"}`)
	}
	if n := raw.reads.Load(); n > 4 { // one for each ping, and one that waits
		t.Errorf("%d reads", n)
	}
}
