package clientws

import (
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"tabard/guard/reason"
	"tabard/internal/hub"
	"tabard/internal/settings"
)

// limited is an instance with the given limits.
func limited(e settings.Extensions) func(*Options) {
	return func(o *Options) {
		instance := o.Instance
		o.Instance = func(r *http.Request) *settings.Instance {
			in := *instance(r)
			in.Extensions = e
			return &in
		}
	}
}

func (r *rig) wantRefusedAs(code reason.Code, status int, d dial) {
	r.t.Helper()
	before := r.server.opt.Counters.Stats().Refused[code]
	resp, _ := r.handshake(d)
	if resp.StatusCode != status {
		r.t.Errorf("status %d, want %d", resp.StatusCode, status)
	}
	if got := r.server.opt.Counters.Stats().Refused[code]; got != before+1 {
		r.t.Errorf("%s was counted %d times, want %d", code, got, before+1)
	}
}

func TestPagesOfOtherOriginsCannotConnect(t *testing.T) {
	r := newRig(t, rigOptions{server: limited(settings.Extensions{AllowedOrigins: []string{"https://app.example"}})})
	origin := func(o string) http.Header { return http.Header{"Origin": {o}} }
	r.wantStatus(101, dial{header: origin("https://app.example")})
	r.wantStatus(101, dial{}) // no browser
	r.wantRefusedAs(reason.OriginDenied, 403, dial{header: origin("https://evil.example")})
	r.wantRefusedAs(reason.OriginDenied, 403, dial{header: origin("null"), noToken: true}) // before its token is looked at
	r.wantRefusedAs(reason.OriginDenied, 403, dial{header: origin("https://evil.example"), query: url.Values{"awps_connection_id": {"x"}}})
}

func TestAnInstanceHasItsOwnConnectionLimit(t *testing.T) {
	r := newRig(t, rigOptions{server: limited(settings.Extensions{MaxConnections: 2})})
	a, _ := r.json(dial{}), r.json(dial{path: "/client/hubs/chat"})
	r.wantRefusedAs(reason.ConnectionLimit, 429, dial{})
	a.net.Close()
	eventually(t, "it is gone", func() bool { return r.hubs.Len() == 1 })
	r.json(dial{})
	r.wantRefusedAs(reason.ConnectionLimit, 429, dial{})
}

func TestWhoSendsTooFastIsClosed(t *testing.T) {
	r := newRig(t, rigOptions{server: limited(settings.Extensions{MaxMessagesPerSecond: 5})})
	c := r.json(dial{})
	for range 5 { // as many at once as in a second
		c.send(`{"type":"ping"}`)
		c.wantText(`{"type":"pong"}`)
	}
	for range 5 { // if a second has passed, five more go through
		c.net.Write(frameBytes(true, 1, `{"type":"ping"}`))
	}
	for {
		_, text, err := c.next()
		if err != nil {
			t.Fatal(err)
		}
		if text == `{"type":"pong"}` {
			c.net.Write(frameBytes(true, 1, `{"type":"ping"}`))
			continue
		}
		if !strings.Contains(text, "Too many messages") {
			t.Fatal(text)
		}
		break
	}
	c.wantClose(hub.ClosePolicy, "Too many messages")
	if got := r.server.opt.Counters.Stats().Refused[reason.MessageRate]; got != 1 {
		t.Errorf("counted %d times", got)
	}
}

func TestThePaceAllowsAsManyAtOnceAsInASecond(t *testing.T) {
	for _, n := range []int{1, 5, 1000} {
		p := newPace(n)
		now := 3 * time.Second
		for i := range n {
			if !p.allows(now) {
				t.Fatalf("%d per second: message %d was too many", n, i+1)
			}
		}
		if p.allows(now) || p.allows(now+p.interval-1) {
			t.Errorf("%d per second: one more at once", n)
		}
		if !p.allows(now + p.interval) {
			t.Errorf("%d per second: none after its interval", n)
		}
	}
	if none := newPace(0); !none.allows(0) {
		t.Error("no limit refuses")
	}
}

func TestGroupsPerConnectionAreBounded(t *testing.T) {
	r := newRig(t, rigOptions{server: limited(settings.Extensions{MaxGroupsPerConnection: 2})})
	c := r.json(dial{roles: allRoles, groups: []string{"a", "a"}})
	c.send(`{"type":"joinGroup","group":"b","ackId":1}`)
	c.wantText(ackOK(1))
	c.send(`{"type":"joinGroup","group":"c","ackId":2}`)
	c.wantPart(`"ackId":2,"success":false,"error":{"name":"Forbidden"`, "too many groups")
	c.send(`{"type":"joinGroup","group":"b","ackId":3}`) // it is in
	c.wantText(ackOK(3))
	if got := r.server.opt.Counters.Stats().Refused[reason.GroupLimit]; got != 1 {
		t.Errorf("counted %d times", got)
	}
	r.wantRefusedAs(reason.GroupLimit, 400, dial{groups: []string{"a", "b", "c"}})
}

func TestHandshakesAreBounded(t *testing.T) {
	r := newRig(t, rigOptions{})
	everyWay(t, r, func(t *testing.T, addr string) {
		pad := func(n int) url.Values { return url.Values{"x": {strings.Repeat("x", n)}} }
		r.wantStatus(101, dial{addr: addr, query: pad(8 << 10)})
		r.wantRefusedAs(reason.HeadTooLarge, 414, dial{addr: addr, query: pad(MaxURL)})
		headers := http.Header{}
		for i := range 7 {
			headers.Set(fmt.Sprint("X-", i), strings.Repeat("x", 4<<10))
		}
		r.wantStatus(101, dial{addr: addr, header: headers})
		headers.Set("X-8", strings.Repeat("x", 5<<10))
		r.wantRefusedAs(reason.HeadTooLarge, 431, dial{addr: addr, header: headers})
	})
	if r.server.opt.Counters.Stats().Connected == 0 {
		t.Error("nobody was counted")
	}
}
