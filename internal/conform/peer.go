package conform

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"reflect"
	"strings"
	"time"

	"tabard/internal/wire"
)

// A peer is a client of a trial.
type peer struct {
	*wire.Conn
	trial *trial
	id    string // known after the first frame of a JSON or protobuf client
	token string // reconnection token
	user  any
	fence int
}

// send sends a text frame.
func (p *peer) send(format string, args ...any) {
	if len(args) > 0 {
		format = fmt.Sprintf(format, args...)
	}
	if err := p.Write(wire.Text, []byte(format)); err != nil {
		p.trial.fail("a frame could not be sent: %v", err)
	}
}

// frame reads the next data frame.
func (p *peer) frame() (binary bool, payload string) {
	p.Deadline(time.Now().Add(p.trial.timeout))
	op, data, err := p.Next()
	if err != nil {
		p.trial.fail("no frame came: %v", err)
	}
	return op == wire.Binary, string(data)
}

// text reads the next frame, which must be text.
func (p *peer) text() string {
	binary, payload := p.frame()
	p.trial.check(!binary, "a binary frame came, want text: %.100q", payload)
	return payload
}

// gets wants the next frame to be a JSON object with at least the members of want, which is JSON too.
func (p *peer) gets(want string, args ...any) map[string]any {
	if len(args) > 0 {
		want = fmt.Sprintf(want, args...)
	}
	text := p.text()
	var got, wanted map[string]any
	if err := json.Unmarshal([]byte(want), &wanted); err != nil {
		panic(fmt.Sprintf("%s: %v", want, err)) // a mistake in the check
	}
	if err := json.Unmarshal([]byte(text), &got); err != nil || !contains(got, wanted) {
		p.trial.fail("%.300s came, want %s", text, want)
	}
	return got
}

// contains tells whether got has all that want has.
func contains(got, want any) bool {
	members, ok := want.(map[string]any)
	if !ok {
		return reflect.DeepEqual(got, want)
	}
	object, ok := got.(map[string]any)
	if !ok {
		return false
	}
	for name, value := range members {
		if have, ok := object[name]; !ok || !contains(have, value) {
			return false
		}
	}
	return true
}

// greeted takes the connected frame.
func (p *peer) greeted() map[string]any {
	got := p.gets(`{"type":"system","event":"connected"}`)
	p.id, _ = got["connectionId"].(string)
	p.token, _ = got["reconnectionToken"].(string)
	p.user = got["userId"]
	p.trial.check(p.id != "", "connected has no connectionId")
	return got
}

// acked wants the next frame to acknowledge n.
func (p *peer) acked(n int) { p.gets(`{"type":"ack","ackId":%d,"success":true}`, n) }

// failed wants the next frame to refuse n under a name.
func (p *peer) failed(n int, name string) {
	p.gets(`{"type":"ack","ackId":%d,"success":false,"error":{"name":%q}}`, n, name)
}

// join joins a group and awaits the ack.
func (p *peer) join(group string, ack int) {
	p.send(`{"type":"joinGroup","group":%q,"ackId":%d}`, group, ack)
	p.acked(ack)
}

// hears nothing: the next that comes is what is sent to the connection now.
func (p *peer) hearsNothing() {
	p.trial.check(p.id != "", "the connection id is not known")
	p.fence++
	text := p.trial.name(fmt.Sprintf("fence %d", p.fence))
	p.trial.post(202, "connections/"+url.PathEscape(p.id)+"/:send", text, "text/plain")
	if _, got := p.frame(); !strings.Contains(got, text) {
		p.trial.fail("%.300s came, want nothing", got)
	}
}

// closed wants the connection to be closed with a code; frames before it are passed over.
func (p *peer) closed(code int) string {
	p.Deadline(time.Now().Add(p.trial.timeout))
	for {
		_, _, err := p.Next()
		var c *wire.Closed
		switch {
		case err == nil:
		case errors.As(err, &c) && (code == 0 || c.Code == code):
			return c.Reason
		default:
			p.trial.fail("the connection ended with %v, want close code %d", err, code)
		}
	}
}

// dropped wants the connection to end somehow; frames before it are passed over.
func (p *peer) dropped() {
	p.Deadline(time.Now().Add(p.trial.timeout))
	for {
		if _, _, err := p.Next(); err != nil {
			var late interface{ Timeout() bool }
			p.trial.check(!errors.As(err, &late) || !late.Timeout(), "the connection is still there after %v", p.trial.timeout)
			return
		}
	}
}

// numbered publishes n texts to a group that the peer is in and wants them under the sequence ids from first on.
func (p *peer) numbered(group string, first, n int) {
	for i := first; i < first+n; i++ {
		p.trial.publish(group, fmt.Sprint("text ", i))
	}
	p.replayed(first, n)
}

// replayed wants n messages with the texts and sequence ids from first on.
func (p *peer) replayed(first, n int) {
	for i := first; i < first+n; i++ {
		p.gets(`{"type":"message","dataType":"text","data":"text %d","sequenceId":%d}`, i, i)
	}
}

// again is how to recover the connection.
func (p *peer) again() dial {
	return dial{noToken: true, subprotocol: reliableProtocol, query: url.Values{"awps_connection_id": {p.id}, "awps_reconnection_token": {p.token}}}
}

// recover drops the socket, comes back over another one and takes the connected frame.
func (p *peer) recover() *peer {
	p.Close()
	back := p.trial.open(p.again())
	back.greeted()
	p.trial.check(back.id == p.id, "connected after the recovery has connectionId %q, want %q", back.id, p.id)
	return back
}

// unrecoverable wants the recovery to be answered with 101 and then 1008.
func (t *trial) unrecoverable(d dial) { t.open(d).closed(1008) }
