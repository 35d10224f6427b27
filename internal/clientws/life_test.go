package clientws

import (
	"testing"

	"github.com/gobwas/ws"
)

func TestSmoke(t *testing.T) {
	r := newRig(t, rigOptions{})
	for _, addr := range []string{r.base, r.short} {
		c := r.json(dial{addr: addr, roles: allRoles, user: "u"})
		c.send(`{"type":"joinGroup","group":"g","ackId":1}`)
		c.wantText(`{"type":"ack","ackId":1,"success":true}`)
		c.frame(true, ws.OpPing, "x")
		c.want(ws.OpPong, "x")
		c.close()
	}
	r.app.wait(t, "disconnected", 2)
}
