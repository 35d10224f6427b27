package hub

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"

	"github.com/gobwas/ws"
	"pgregory.net/rapid"
)

// A reference is what a connection must have received, kept the simplest way.
type reference struct {
	*peer
	user   string
	groups map[string]bool
	want   []string
}

func TestNoMemberMissesRepeatsOrReordersAMessage(t *testing.T) {
	r := newRegistry(t, Options{Shards: 2})
	round := 0
	rapid.Check(t, func(rt *rapid.T) {
		round++
		h := r.Hub("in", fmt.Sprint("hub", round))
		var live []*reference
		groups := rapid.SampledFrom([]string{"a", "b", "c"})
		users := rapid.SampledFrom([]string{"", "u", "v"})
		pick := func() *reference { return live[rapid.IntRange(0, len(live)-1).Draw(rt, "who")] }
		n := 0
		send := func(takes func(*reference) bool, deliver func(s string) int) {
			n++
			s := fmt.Sprint("m", n)
			got, want := deliver(s), 0
			for _, p := range live {
				if takes(p) {
					p.want = append(p.want, s)
					want++
				}
			}
			if got != want {
				rt.Errorf("%s was taken by %d, want %d", s, got, want)
			}
		}
		finish := func(p *reference) {
			p.conn.SendMessage(text("end"))
			for _, want := range append(p.want, "end") {
				if op, got, err := p.next(); err != nil || op != ws.OpText || got != want {
					rt.Fatalf("got %v %q (%v), want %q", op, got, err, want)
				}
			}
		}
		someone := func(do func()) func(*rapid.T) {
			return func(rt *rapid.T) {
				if len(live) > 0 {
					do()
				}
			}
		}
		rt.Repeat(map[string]func(*rapid.T){
			"connect": func(rt *rapid.T) {
				if len(live) == 12 {
					return
				}
				user := users.Draw(rt, "user")
				in := rapid.SliceOfDistinct(groups, func(s string) string { return s }).Draw(rt, "groups")
				p := &reference{peer: connect(t, h, ConnOptions{UserID: user, Groups: in}), user: user, groups: map[string]bool{}}
				for _, g := range in {
					p.groups[g] = true
				}
				live = append(live, p)
			},
			"join": someone(func() {
				p, g := pick(), groups.Draw(rt, "group")
				h.Join(p.conn, g)
				p.groups[g] = true
			}),
			"leave": someone(func() {
				p, g := pick(), groups.Draw(rt, "group")
				if h.Leave(p.conn, g) != p.groups[g] {
					rt.Errorf("leaving %s reported the wrong thing", g)
				}
				delete(p.groups, g)
			}),
			"leave all": someone(func() {
				p := pick()
				h.LeaveAll(p.conn)
				clear(p.groups)
			}),
			"user joins": func(rt *rapid.T) {
				g := groups.Draw(rt, "group")
				h.JoinUser("u", g)
				for _, p := range live {
					if p.user == "u" {
						p.groups[g] = true
					}
				}
			},
			"drop": someone(func() {
				p := pick()
				finish(p)
				live = slices.DeleteFunc(live, func(x *reference) bool { return x == p })
				p.net.Close()
				p.conn.Lost(p.conn.out.current(), "")
			}),
			"close": someone(func() {
				p := pick()
				finish(p)
				live = slices.DeleteFunc(live, func(x *reference) bool { return x == p })
				h.CloseConnection(p.conn.ID(), "go")
				p.net.Close()
				p.conn.Lost(p.conn.out.current(), "")
			}),
			"send to group": func(rt *rapid.T) {
				g := groups.Draw(rt, "group")
				send(func(p *reference) bool { return p.groups[g] }, func(s string) int { return h.SendToGroup(toGroup(g, s), SendOptions{}) })
			},
			"send to group without echo": someone(func() {
				from, g := pick(), groups.Draw(rt, "group")
				send(func(p *reference) bool { return p != from && p.groups[g] },
					func(s string) int { return h.SendToGroup(toGroup(g, s), SendOptions{Except: from.conn}) })
			}),
			"send to user": func(rt *rapid.T) {
				send(func(p *reference) bool { return p.user == "v" }, func(s string) int { return h.SendToUser("v", text(s), SendOptions{}) })
			},
			"send to all but one": someone(func() {
				not := pick()
				send(func(p *reference) bool { return p != not },
					func(s string) int { return h.SendToAll(text(s), SendOptions{Excluded: []string{not.conn.ID()}}) })
			}),
			"": func(rt *rapid.T) {
				for _, g := range []string{"a", "b", "c"} {
					var want []Member
					for _, p := range live {
						if p.groups[g] {
							want = append(want, Member{p.conn.ID(), p.user})
						}
						if p.conn.InGroup(g) != p.groups[g] {
							rt.Errorf("membership of %s differs", g)
						}
					}
					got := h.GroupConnections(g, "", 0)
					slices.SortFunc(want, func(a, b Member) int {
						if a.ConnectionID < b.ConnectionID {
							return -1
						}
						return 1
					})
					if !slices.Equal(got, want) || h.HasGroup(g) != (len(want) > 0) {
						rt.Errorf("members of %s: got %v, want %v", g, got, want)
					}
				}
			},
		})
		for _, p := range live {
			finish(p)
			p.net.Close()
			p.conn.Lost(p.conn.out.current(), "")
		}
		h.Each(func(*Conn) bool { rt.Error("somebody stayed"); return false })
	})
}

func TestConcurrentPublishersKeepTheirOrderWhileOthersComeAndGo(t *testing.T) {
	h := newRegistry(t, Options{Shards: 2, QueueMessages: 100_000}).Hub("in", "chat")
	const publishers, messages, members = 4, 300, 10
	var peers []*peer
	for range members {
		peers = append(peers, connect(t, h, ConnOptions{Groups: []string{"g"}}))
	}
	stop := make(chan struct{})
	var churn, work sync.WaitGroup
	for range 2 {
		others := []*peer{connect(t, h, ConnOptions{}), connect(t, h, ConnOptions{}), connect(t, h, ConnOptions{})}
		for _, p := range others {
			churn.Go(func() { // reads all it gets
				for {
					if _, _, err := p.next(); err != nil {
						return
					}
				}
			})
		}
		churn.Go(func() {
			for {
				select {
				case <-stop:
					for _, p := range others {
						p.conn.Lost(p.conn.out.current(), "")
					}
					return
				default:
				}
				p := others[rand.IntN(len(others))]
				h.Join(p.conn, "g")
				h.Leave(others[rand.IntN(len(others))].conn, "g")
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
	for _, p := range peers {
		work.Go(func() {
			var next [publishers]int
			for range publishers * messages {
				_, got, err := p.next()
				var i, n int
				if _, scan := fmt.Sscanf(got, "%d %d", &i, &n); err != nil || scan != nil || n != next[i] {
					t.Errorf("got %q (%v), want number %d of publisher %d", got, err, next[i], i)
					return
				}
				next[i]++
			}
		})
	}
	work.Wait()
	close(stop)
	churn.Wait()
	for _, p := range peers {
		p.wantNothing()
	}
}

func TestTheQueueIsAQueue(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		var q queue
		var want []*Frame
		size := func() (n int) {
			for _, f := range want {
				n += len(f.bytes)
			}
			return n
		}
		rt.Repeat(map[string]func(*rapid.T){
			"push": func(rt *rapid.T) {
				for range rapid.IntRange(1, 40).Draw(rt, "n") {
					f := NewFrame(OpText, make([]byte, rapid.IntRange(0, 300).Draw(rt, "size")))
					f.deadline = int64(rapid.IntRange(0, 3).Draw(rt, "deadline"))
					q.push(f)
					want = append(want, f)
				}
			},
			"take": func(rt *rapid.T) {
				now := int64(rapid.IntRange(0, 2).Draw(rt, "now"))
				limit := rapid.IntRange(1, 2000).Draw(rt, "limit")
				got := q.take(make([]outgoing, 0, 8), limit, now)
				total := 0
				for _, f := range got {
					for len(want) > 0 && want[0].expired(now) {
						want = want[1:]
					}
					if f.Frame != want[0] || f.sequence != 0 {
						rt.Fatal("took the wrong frame")
					}
					want = want[1:]
					total += len(f.bytes)
				}
				if len(got) > 1 && total > limit {
					rt.Errorf("took %d bytes, limit %d", total, limit)
				}
				want = want[len(want)-q.len():] // expired ones at the end of the batch are gone as well
			},
			"drop expired": func(rt *rapid.T) {
				now := int64(rapid.IntRange(0, 3).Draw(rt, "now"))
				q.dropExpired(now)
				want = slices.DeleteFunc(want, func(f *Frame) bool { return f.expired(now) })
			},
			"": func(rt *rapid.T) {
				if q.len() != len(want) || q.size != size() {
					rt.Fatalf("holds %d frames of %d bytes, want %d of %d", q.len(), q.size, len(want), size())
				}
			},
		})
	})
}

func TestTheWheelCallsBackInTime(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		w := wheel{tick: 10}
		now := int64(0)
		conns := make([]Conn, 6)
		due := map[*Conn]int64{}
		removed := map[*Conn]bool{}
		rt.Repeat(map[string]func(*rapid.T){
			"set": func(rt *rapid.T) {
				c := &conns[rapid.IntRange(0, 5).Draw(rt, "c")]
				at := now + rapid.Int64Range(0, 10_000).Draw(rt, "in")
				w.set(c, at)
				if !removed[c] {
					due[c] = at
				}
			},
			"remove": func(rt *rapid.T) {
				c := &conns[rapid.IntRange(0, 5).Draw(rt, "c")]
				w.remove(c)
				delete(due, c)
				removed[c] = true
			},
			"advance": func(rt *rapid.T) {
				now += rapid.Int64Range(0, 6000).Draw(rt, "by")
				for _, c := range w.advance(now, nil) {
					at, ok := due[c]
					if !ok || at > now+w.tick {
						rt.Errorf("called back at %d, want %d (%v)", now, at, ok)
					}
					delete(due, c)
				}
				for _, at := range due {
					if at < now-w.tick {
						rt.Errorf("due at %d, not called at %d", at, now)
					}
				}
			},
			"": func(rt *rapid.T) {
				if got := w.all(nil); len(got) != len(due) {
					rt.Errorf("lists %d, want %d", len(got), len(due))
				}
			},
		})
	})
}
