package clientws

import (
	"fmt"
	"net/http"
	"runtime"
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
