package clientws

import (
	"encoding/json"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/gobwas/ws"

	"tabard/internal/hub"
)

const reliableProtocol = "json.reliable.webpubsub.azure.v1"

// A reliable client knows what recovers it.
type reliable struct {
	*wsClient
	token string
}

// greeted reads the connected frame.
func greeted(c *wsClient) *reliable {
	c.t.Helper()
	var first struct{ Type, Event, ConnectionID, ReconnectionToken string }
	text := c.text()
	if err := json.Unmarshal([]byte(text), &first); err != nil || first.Event != "connected" || first.ReconnectionToken == "" {
		c.t.Fatalf("the first frame is %s", text)
	}
	c.id = first.ConnectionID
	return &reliable{c, first.ReconnectionToken}
}

func (r *rig) reliable(d dial) *reliable {
	r.t.Helper()
	d.subprotocols = []string{reliableProtocol}
	return greeted(r.connect(d))
}

// again is the handshake that SDKs make: the original address with its token, which may have expired, and two
// parameters.
func again(addr, id, token string) dial {
	return dial{addr: addr, token: "expired long ago", subprotocols: []string{reliableProtocol},
		query: url.Values{"awps_connection_id": {id}, "awps_reconnection_token": {token}}}
}

func (r *rig) publish(group, text string) {
	r.hubs.Hub("default", "chat").SendToGroup(&hub.Message{Group: group, Type: hub.Text, Data: []byte(text)}, hub.SendOptions{})
}

const numberedMessage = `{"type":"message","from":"group","group":"g","fromUserId":null,"dataType":"text","data":"`

func TestAReliableClientRecoversItsConnection(t *testing.T) {
	r := newRig(t, rigOptions{})
	everyWay(t, r, func(t *testing.T, addr string) {
		before := len(r.app.events("connected"))
		c := r.reliable(dial{addr: addr, user: "ann", roles: allRoles})
		c.send(`{"type":"joinGroup","group":"g","ackId":1}`)
		c.wantText(`{"type":"ack","ackId":1,"success":true}`)
		r.publish("g", "one")
		r.publish("g", "two")
		c.wantText(numberedMessage + `one","sequenceId":1}`)
		c.wantText(numberedMessage + `two","sequenceId":2}`)
		c.send(`{"type":"sequenceAck","sequenceId":1}`)
		c.send(`{"type":"ping"}`)
		c.wantText(`{"type":"pong"}`) // so the acknowledgement has been dealt with
		c.net.Close()
		r.publish("g", "three")

		back := greeted(r.connect(again(addr, c.id, c.token)))
		if back.id != c.id {
			t.Errorf("connection id %s, was %s", back.id, c.id)
		}
		back.wantText(numberedMessage + `two","sequenceId":2}`)
		back.wantText(numberedMessage + `three","sequenceId":3}`)
		back.send(`{"type":"joinGroup","group":"g","ackId":1}`)
		if ack := back.text(); !strings.Contains(ack, `"name":"Duplicate"`) {
			t.Errorf("the ack memory is lost: %s", ack)
		}
		back.send(`{"type":"event","event":"x","dataType":"text","data":"hi","ackId":2}`)
		back.wantText(`{"type":"ack","ackId":2,"success":true}`)
		back.close()
		r.app.wait(t, "disconnected", before+1)
		if n := len(r.app.events("connected")); n != before+1 {
			t.Errorf("%d connected events for one connection", n-before)
		}
		r.connect(again(addr, c.id, back.token)).wantClose(hub.ClosePolicy, "cannot be recovered")
	})
}

func TestRecoveriesThatProveNothingAreRefused(t *testing.T) {
	now := time.Now()
	r := newRig(t, rigOptions{server: func(o *Options) { o.Now = func() time.Time { return now } }})
	a, b := r.reliable(dial{}), r.reliable(dial{})
	plain := r.json(dial{})
	for name, d := range map[string]dial{
		"no token":                      again("", a.id, ""),
		"half a token":                  again("", a.id, a.token[:20]),
		"a token with a bit changed":    again("", a.id, strings.Map(func(c rune) rune { return c ^ 1 }, a.token[:1])+a.token[1:]),
		"another connection's token":    again("", a.id, b.token),
		"an unknown connection":         again("", hub.NewID(), a.token),
		"an empty connection id":        again("", "", a.token),
		"a connection without recovery": again("", plain.id, a.token),
	} {
		t.Run(name, func(t *testing.T) {
			c := r.connect(d)
			c.t = t
			c.wantClose(hub.ClosePolicy, "cannot be recovered")
		})
	}
	other := again("", a.id, a.token)
	other.path = "/client/hubs/other"
	r.connect(other).wantClose(hub.ClosePolicy, "cannot be recovered")
	now = now.Add(reconnectionLife + time.Second)
	r.connect(again("", a.id, a.token)).wantClose(hub.ClosePolicy, "cannot be recovered")
	now = now.Add(-2 * time.Second)
	a.wantNothing() // none of this has touched the connection itself
	back := greeted(r.connect(again("", a.id, a.token)))
	back.wantNothing()
}

func TestAHalfOpenSocketIsTakenOverByWhoHoldsTheToken(t *testing.T) {
	r := newRig(t, rigOptions{})
	everyWay(t, r, func(t *testing.T, addr string) {
		c := r.reliable(dial{addr: addr, groups: []string{"g"}})
		back := greeted(r.connect(again(addr, c.id, c.token)))
		r.publish("g", "new")
		back.wantText(numberedMessage + `new","sequenceId":1}`)
		c.wantEOF()
		back.close()
	})
}

func TestAPendingEventOutlivesTheSocket(t *testing.T) {
	r := newRig(t, rigOptions{})
	entered, release := make(chan struct{}), make(chan struct{})
	r.app.on("slow", func(w http.ResponseWriter, _ *http.Request) {
		close(entered)
		<-release
		w.Header().Set("Content-Type", "text/plain")
		_, _ = w.Write([]byte("done"))
	})
	c := r.reliable(dial{})
	c.send(`{"type":"event","event":"slow","dataType":"text","data":"x"}`)
	<-entered
	c.net.Close()
	back := greeted(r.connect(again("", c.id, c.token)))
	back.send(`{"type":"ping"}`)
	back.wantText(`{"type":"pong"}`)
	back.send(`{"type":"event","event":"next","dataType":"text","data":"x","ackId":1}`) // waits for its turn
	close(release)
	back.wantText(`{"type":"message","from":"server","dataType":"text","data":"done","sequenceId":1}`)
	back.wantText(ackOK(1))
	back.close()
	if n := len(r.app.events("slow")); n != 1 {
		t.Errorf("the event was delivered %d times", n)
	}
}

func TestAfterTheWindowTheApplicationHearsOfTheEnd(t *testing.T) {
	r := newRig(t, rigOptions{hub: hub.Options{RecoveryWindow: 300 * time.Millisecond, Tick: 20 * time.Millisecond}})
	c := r.reliable(dial{})
	c.net.Close()
	if e := r.app.wait(t, "disconnected", 1); e.body != `{"reason":"Connection lost"}` {
		t.Errorf("reason %s", e.body)
	}
	r.connect(again("", c.id, c.token)).wantClose(hub.ClosePolicy, "cannot be recovered")
}

func TestAReliableClientThatClosesWithoutACodeMayComeBack(t *testing.T) {
	r := newRig(t, rigOptions{})
	c := r.reliable(dial{})
	c.frame(true, ws.OpClose, "")
	c.want(ws.OpClose, "")
	c.wantEOF()
	back := greeted(r.connect(again("", c.id, c.token)))
	back.close()
	r.app.wait(t, "disconnected", 1)
}

func TestAServersCloseIsFinalForAReliableClient(t *testing.T) {
	r := newRig(t, rigOptions{})
	c := r.reliable(dial{})
	r.hubs.Hub("default", "chat").CloseConnection(c.id, "go")
	c.wantText(`{"type":"system","event":"disconnected","message":"go"}`)
	c.wantClose(hub.ClosePolicy, "go")
	r.connect(again("", c.id, c.token)).wantClose(hub.ClosePolicy, "cannot be recovered")
}

func FuzzReconnectionToken(f *testing.F) {
	s := New(Options{ReconnectionKey: []byte("a key for the tests")})
	valid := s.token("in", "chat", "id")
	for _, seed := range []string{valid, valid[:len(valid)-1], valid + "A", "", "====", strings.ToLower(valid)} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, token string) {
		if s.proves(token, "in", "chat", "id") != (token == valid) {
			t.Errorf("%q, the one token is %q", token, valid)
		}
		for _, other := range [][3]string{{"i", "nchat", "id"}, {"in", "cha", "tid"}, {"in", "chat", "id2"}} {
			if s.proves(token, other[0], other[1], other[2]) {
				t.Errorf("%q opens %v", token, other)
			}
		}
	})
}
