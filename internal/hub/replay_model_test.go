package hub

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/gobwas/ws"
	"pgregory.net/rapid"
)

// A mirror is a client as SDKs are: it throws away what it has already, and acknowledges when it likes. Beside it
// stands what it must have received.
type mirror struct {
	*peer
	reliable bool
	away     bool
	groups   map[string]bool
	seen     uint64 // the greatest number it has
	got      []string
	want     []string
}

// take reads until the client has n messages. A number that is left out is an error, one that comes again is not.
func (m *mirror) take(n int) error {
	for len(m.got) < n {
		op, payload, err := m.next()
		if err != nil || op != ws.OpText {
			return fmt.Errorf("after %d of %d: frame %v %q, %v", len(m.got), n, op, payload, err)
		}
		if m.reliable {
			body, number, _ := strings.Cut(payload, "#")
			id, err := strconv.ParseUint(number, 10, 64)
			switch {
			case err != nil || id > m.seen+1:
				return fmt.Errorf("%q after number %d", payload, m.seen)
			case id <= m.seen:
				continue
			}
			m.seen, payload = id, body
		}
		m.got = append(m.got, payload)
	}
	return nil
}

// TestARecoveringClientMissesRepeatsAndReordersNothing drives random connects, joins, leaves, sends, acknowledgements,
// cuts, recoveries and closes of several clients, reliable and plain, compressing or not, against a list of what each must
// have. Some messages are worth compressing.
func TestARecoveringClientMissesRepeatsAndReordersNothing(t *testing.T) {
	r := newRegistry(t, Options{Shards: 2})
	round := 0
	rapid.Check(t, func(rt *rapid.T) {
		round++
		h := r.Hub("in", fmt.Sprint("recovery", round))
		var live []*mirror
		groups := rapid.SampledFrom([]string{"a", "b"})
		n := 0
		send := func(takes func(*mirror) bool, deliver func(*Message) int) {
			n++
			words := fmt.Sprint(n) + strings.Repeat(" and so on", rapid.SampledFrom([]int{0, 0, 100}).Draw(rt, "length"))
			taken := 0
			for _, m := range live {
				if takes(m) {
					m.want = append(m.want, words)
					taken++
				}
			}
			if got := deliver(text(words)); got != taken {
				rt.Errorf("message %d was taken by %d, want %d", n, got, taken)
			}
		}
		finish := func(m *mirror) {
			if m.away {
				m.resume()
			}
			if err := m.take(len(m.want)); err != nil {
				rt.Fatal(err)
			}
			m.conn.SendMessage(text("end")) // behind it there must be nothing more
			if err := m.take(len(m.want) + 1); err != nil {
				rt.Fatal(err)
			}
			if want := append(m.want, "end"); !slices.Equal(m.got, want) {
				rt.Errorf("got %v, want %v", m.got, want)
			}
			m.conn.Answer(CloseNormal)
			m.net.Close()
			m.conn.Lost(m.conn.out.current(), "")
			live = slices.DeleteFunc(live, func(x *mirror) bool { return x == m })
		}
		// one has do act upon one of the clients that it may act upon.
		one := func(may func(*mirror) bool, do func(rt *rapid.T, m *mirror)) func(*rapid.T) {
			return func(rt *rapid.T) {
				var some []*mirror
				for _, m := range live {
					if may(m) {
						some = append(some, m)
					}
				}
				if len(some) > 0 {
					do(rt, some[rapid.IntRange(0, len(some)-1).Draw(rt, "who")])
				}
			}
		}
		any := func(*mirror) bool { return true }
		here := func(m *mirror) bool { return !m.away }
		recoverable := func(m *mirror) bool { return m.reliable && !m.away }
		gone := func(m *mirror) bool { return m.away }
		rt.Repeat(map[string]func(*rapid.T){
			"connect": func(rt *rapid.T) {
				if len(live) == 6 {
					return
				}
				m := &mirror{reliable: rapid.IntRange(0, 2).Draw(rt, "kind") > 0, groups: map[string]bool{}}
				o := ConnOptions{UserID: "u", Deflate: rapid.Bool().Draw(rt, "deflate")}
				if m.reliable {
					o.Codec = numbered
				}
				m.peer = connect(t, h, o)
				m.deflate = o.Deflate
				live = append(live, m)
			},
			"join": one(any, func(rt *rapid.T, m *mirror) {
				g := groups.Draw(rt, "group")
				if err := h.Join(m.conn, g); err != nil {
					rt.Error(err)
				}
				m.groups[g] = true
			}),
			"leave": one(any, func(rt *rapid.T, m *mirror) {
				g := groups.Draw(rt, "group")
				if h.Leave(m.conn, g) != m.groups[g] {
					rt.Errorf("leaving %s reported the wrong thing", g)
				}
				delete(m.groups, g)
			}),
			"send to a group": func(rt *rapid.T) {
				g := groups.Draw(rt, "group")
				send(func(m *mirror) bool { return m.groups[g] }, func(x *Message) int { x.Group = g; return h.SendToGroup(x, SendOptions{}) })
			},
			"send to a group without echo": one(any, func(rt *rapid.T, from *mirror) {
				g := groups.Draw(rt, "group")
				send(func(m *mirror) bool { return m != from && m.groups[g] },
					func(x *Message) int { x.Group = g; return h.SendToGroup(x, SendOptions{Except: from.conn}) })
			}),
			"send to the user": func(*rapid.T) {
				send(any, func(x *Message) int { return h.SendToUser("u", x, SendOptions{}) })
			},
			"read": one(here, func(rt *rapid.T, m *mirror) {
				if err := m.take(rapid.IntRange(len(m.got), len(m.want)).Draw(rt, "until")); err != nil {
					rt.Fatal(err)
				}
			}),
			"acknowledge": one(recoverable, func(rt *rapid.T, m *mirror) {
				m.conn.Acknowledge(rapid.Uint64Range(0, m.seen).Draw(rt, "id"))
			}),
			"cut": one(recoverable, func(_ *rapid.T, m *mirror) {
				m.lose()
				m.away = true
			}),
			"come back": one(gone, func(rt *rapid.T, m *mirror) {
				m.resumeAs(rapid.Bool().Draw(rt, "deflate"))
				m.away = false
			}),
			"come back over a half-open socket": one(recoverable, func(rt *rapid.T, m *mirror) {
				old, socket := m.net, m.conn.out.current()
				m.resumeAs(rapid.Bool().Draw(rt, "deflate"))
				old.Close()
				m.conn.Lost(socket, ReasonLost) // its reader notices late
			}),
			"finish": one(any, func(_ *rapid.T, m *mirror) { finish(m) }),
			"": func(rt *rapid.T) {
				for _, g := range []string{"a", "b"} {
					members := 0
					for _, m := range live {
						if m.groups[g] {
							members++
						}
					}
					if got := len(h.GroupConnections(g, "", 0)); got != members {
						rt.Errorf("%s has %d members, want %d", g, got, members)
					}
				}
			},
		})
		for len(live) > 0 {
			finish(live[0])
		}
		h.Each(func(*Conn) bool { rt.Error("somebody stayed"); return false })
	})
}

func TestClientsThatAreCutOffWhilePublishersGoOnMissNothing(t *testing.T) {
	h := newRegistry(t, Options{Shards: 2, QueueMessages: 100_000}).Hub("in", "chat")
	const publishers, messages, members, cuts = 3, 400, 6, 25
	var work sync.WaitGroup
	for range members {
		m := &mirror{peer: connect(t, h, ConnOptions{Codec: numbered, Groups: []string{"g"}}), reliable: true}
		work.Go(func() {
			for range cuts {
				if err := m.take(len(m.got) + rand.IntN(publishers*messages/cuts)); err != nil {
					t.Error(err)
					return
				}
				switch rand.IntN(3) {
				case 0:
					m.conn.Acknowledge(m.seen)
				case 1:
					m.lose()
				}
				m.resume()
			}
			if err := m.take(publishers * messages); err != nil {
				t.Error(err)
				return
			}
			var next [publishers]int
			for _, got := range m.got {
				var i, n int
				if _, err := fmt.Sscanf(got, "%d %d", &i, &n); err != nil || n != next[i] {
					t.Errorf("got %q (%v), want number %d of publisher %d", got, err, next[i], i)
					return
				}
				next[i]++
			}
		})
	}
	for i := range publishers {
		work.Go(func() {
			for n := range messages {
				h.SendToGroup(toGroup("g", fmt.Sprintf("%d %d", i, n)), SendOptions{})
			}
		})
	}
	work.Wait()
}
