package hub

import (
	"bufio"
	"encoding/binary"
	"fmt"
	"net"
	"os"
	"os/exec"
	"sync"
	"syscall"
	"testing"
	"time"
)

// readersEnv makes the test binary the reading side of a benchmark: it opens as many connections as the variable
// says to the address that follows, and prints how many bytes it has read whenever it is asked on its standard
// input for a total and has reached it.
const readersEnv = "HUB_BENCH_READERS"

func runReaders(spec string) {
	var n int
	var addr string
	fmt.Sscan(spec, &n, &addr)
	var mu sync.Mutex
	cond := sync.NewCond(&mu)
	var total int64
	for range n {
		conn, err := net.Dial("tcp", addr)
		if err != nil {
			panic(err)
		}
		go func() {
			buf := make([]byte, 64<<10)
			for {
				n, err := conn.Read(buf)
				mu.Lock()
				total += int64(n)
				mu.Unlock()
				cond.Signal()
				if err != nil {
					return
				}
			}
		}()
	}
	in := bufio.NewReader(os.Stdin)
	for {
		var want int64
		if _, err := fmt.Fscan(in, &want); err != nil {
			return
		}
		mu.Lock()
		for total < want {
			cond.Wait()
		}
		mu.Unlock()
		fmt.Println(want)
	}
}

// benchHub connects n members of group g over loopback TCP to a process of its own, so that the CPU time of this
// process is the service's. wait returns when that process has read so many more bytes.
func benchHub(b *testing.B, n int, o ConnOptions) (h *Hub, conns []*Conn, wait func(bytes int64)) {
	b.Helper()
	h = newRegistry(b, Options{QueueMessages: 1 << 20}).Hub("in", "bench")
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { ln.Close() })
	child := exec.Command(os.Args[0])
	child.Env = append(os.Environ(), fmt.Sprintf("%s=%d %s", readersEnv, n, ln.Addr()))
	child.Stderr = os.Stderr
	ask, err := child.StdinPipe()
	if err != nil {
		b.Fatal(err)
	}
	answer, err := child.StdoutPipe()
	if err != nil {
		b.Fatal(err)
	}
	if err := child.Start(); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		ask.Close()
		child.Wait()
	})
	for range n {
		server, err := ln.Accept()
		if err != nil {
			b.Fatal(err)
		}
		o.ID, o.Socket = NewID(), server
		c, err := h.Connect(o)
		if err != nil {
			b.Fatal(err)
		}
		conns = append(conns, c)
	}
	var total, got int64
	replies := bufio.NewReader(answer)
	return h, conns, func(bytes int64) {
		total += bytes
		fmt.Fprintln(ask, total)
		if _, err := fmt.Fscan(replies, &got); err != nil || got != total {
			b.Fatal("the reading process failed", err)
		}
	}
}

func cpu() time.Duration {
	var u syscall.Rusage
	syscall.Getrusage(syscall.RUSAGE_SELF, &u)
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// BenchmarkFanout sends 128-byte messages to a group; the clock stops when every member has read them. With one
// publication in flight nothing can be joined; with 64 a member's frames share writes. The readers are
// a process of their own; cpu-ns is the CPU time of this one.
func BenchmarkFanout(b *testing.B) { benchFanout(b, testCodec, 128+4) }

// BenchmarkFanoutReliable is the same for members that number and keep their messages; after each round all
// acknowledge.
func BenchmarkFanoutReliable(b *testing.B) {
	benchFanout(b, &stampedCodec{plainCodec{encoding: 3}}, 128+4+8)
}

// A stampedCodec is a numberedCodec whose frames have one size.
type stampedCodec struct{ plainCodec }

func (*stampedCodec) AppendStart(dst []byte, _ int) []byte { return dst }

func (*stampedCodec) AppendSequence(dst []byte, n uint64) []byte {
	return binary.BigEndian.AppendUint64(dst, n)
}

func benchFanout(b *testing.B, codec Codec, frame int64) {
	for _, members := range []int{10, 1000} {
		for _, inFlight := range []int{1, 64} {
			b.Run(fmt.Sprintf("members=%d/inflight=%d", members, inFlight), func(b *testing.B) {
				h, conns, wait := benchHub(b, members, ConnOptions{Codec: codec, Groups: []string{"g"}})
				m := &Message{Group: "g", Type: Text, Data: make([]byte, 128)}
				b.ReportAllocs()
				start, rounds := cpu(), 0
				for b.Loop() {
					for range inFlight {
						h.SendToGroup(m, SendOptions{})
					}
					wait(frame * int64(members*inFlight))
					rounds++
					if conns[0].Reliable() {
						for _, c := range conns {
							c.Acknowledge(uint64(rounds * inFlight))
						}
					}
				}
				deliveries := float64(rounds * members * inFlight)
				b.ReportMetric(float64(cpu()-start)/deliveries, "cpu-ns/delivery")
				b.ReportMetric(float64(b.Elapsed())/deliveries, "ns/delivery")
			})
		}
	}
}

// BenchmarkFloor is what the kernel takes for the same as BenchmarkFanout with one publication in flight: one write
// to each socket, and nothing else.
func BenchmarkFloor(b *testing.B) {
	const members = 1000
	_, conns, wait := benchHub(b, members, ConnOptions{Codec: testCodec})
	data := make([]byte, 132)
	write := func(fd uintptr) bool { writeNow(fd, data); return true }
	start, rounds := cpu(), 0
	for b.Loop() {
		for _, c := range conns {
			c.out.raw.Write(write)
		}
		wait(int64(len(data) * members))
		rounds++
	}
	b.ReportMetric(float64(cpu()-start)/float64(rounds*members), "cpu-ns/delivery")
}

// BenchmarkEnqueue is the hub's own share of a delivery: nothing is written.
func BenchmarkEnqueue(b *testing.B) {
	h := newRegistry(b, Options{QueueMessages: 1 << 40, QueueBytes: 1 << 60, CloseTimeout: time.Millisecond}).Hub("in", "bench")
	const members = 1000
	var conns []*Conn
	for range members {
		s, c := net.Pipe()
		b.Cleanup(func() { c.Close() })
		conn, err := h.Connect(ConnOptions{ID: NewID(), Codec: testCodec, Socket: s, Groups: []string{"g"}})
		if err != nil {
			b.Fatal(err)
		}
		conn.out.mu.Lock()
		conn.out.scheduled = true // nobody will write
		conn.out.mu.Unlock()
		conns = append(conns, conn)
	}
	m := &Message{Group: "g", Type: Text, Data: make([]byte, 128)}
	b.ReportAllocs()
	n := 0
	for b.Loop() {
		h.SendToGroup(m, SendOptions{})
		if n++; n%64 == 0 {
			for _, c := range conns {
				c.out.mu.Lock()
				c.out.reset()
				c.out.mu.Unlock()
			}
		}
	}
	b.ReportMetric(float64(b.Elapsed())/float64(n*members), "ns/delivery")
	for _, c := range conns {
		c.out.mu.Lock()
		c.out.scheduled = false
		c.out.mu.Unlock()
	}
}

func BenchmarkJoinLeave(b *testing.B) {
	h, conns, _ := benchHub(b, 1000, ConnOptions{Codec: testCodec, Groups: []string{"g"}})
	b.ReportAllocs()
	i := 0
	for b.Loop() {
		c := conns[i%len(conns)]
		h.Leave(c, "g")
		h.Join(c, "g")
		i++
	}
}
