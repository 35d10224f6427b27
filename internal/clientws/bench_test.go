package clientws

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net"
	"net/url"
	"os"
	"os/exec"
	"runtime"
	"runtime/debug"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/gobwas/ws"

	"tabard/internal/access"
	"tabard/internal/settings"
)

// clientsEnv makes the test binary the clients of a benchmark, so that the CPU time and the memory of the process
// that measures are the service's. Its value is the address and the query of the handshake. On its standard input
// the process takes "connect N", which opens N more connections that read and drop whatever comes, "drop 0", which
// closes all, and "echo N", which makes N round trips on each connection; it prints a line when it is done.
const clientsEnv = "CLIENTWS_BENCH"

type benchClient struct {
	net  net.Conn
	r    *bufio.Reader
	send []byte
}

func runClients(spec string) {
	addr, query, _ := strings.Cut(spec, "?")
	var clients []*benchClient
	in := bufio.NewReader(os.Stdin)
	for {
		var command string
		var n int
		if _, err := fmt.Fscan(in, &command, &n); err != nil {
			return
		}
		switch command {
		case "connect":
			for range n {
				clients = append(clients, newBenchClient(addr, query, len(clients)))
			}
		case "drop":
			for _, c := range clients {
				c.net.Close()
			}
			clients = nil
		case "echo":
			var wg sync.WaitGroup
			for _, c := range clients {
				wg.Go(func() {
					for range n {
						c.net.Write(c.send)
						c.skip()
					}
				})
			}
			wg.Wait()
		}
		fmt.Println("done")
	}
}

func newBenchClient(addr, query string, i int) *benchClient {
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		panic(err)
	}
	fmt.Fprintf(conn, "GET /client/hubs/chat?%s HTTP/1.1\r\nHost: %s\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"+
		"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Protocol: %s\r\n\r\n", query, addr, jsonProtocol)
	c := &benchClient{net: conn, r: bufio.NewReaderSize(conn, 512)}
	for {
		line, err := c.r.ReadString('\n')
		if err != nil {
			panic(err)
		}
		if line == "\r\n" {
			break
		}
	}
	c.skip() // connected
	group := strconv.Itoa(i)
	conn.Write(frameBytes(true, ws.OpText, `{"type":"joinGroup","group":"`+group+`","ackId":1}`))
	c.skip()
	c.send = frameBytes(true, ws.OpText, `{"type":"sendToGroup","group":"`+group+`","dataType":"text","data":"`+strings.Repeat("x", 128)+`"}`)
	return c
}

func (c *benchClient) skip() {
	for {
		h, err := ws.ReadHeader(c.r)
		if err != nil {
			return
		}
		io.CopyN(io.Discard, c.r, h.Length)
		if h.OpCode == ws.OpText {
			return
		}
	}
}

// startClients returns what has the clients' process do something and waits until it is done.
func startClients(b *testing.B, addr, query string) func(command string, n int) {
	b.Helper()
	child := exec.Command(os.Args[0])
	child.Env = append(os.Environ(), clientsEnv+"="+addr+"?"+query)
	child.Stderr = os.Stderr
	in, err := child.StdinPipe()
	if err != nil {
		b.Fatal(err)
	}
	out, err := child.StdoutPipe()
	if err != nil {
		b.Fatal(err)
	}
	if err := child.Start(); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		in.Close()
		child.Wait()
	})
	answers := bufio.NewReader(out)
	return func(command string, n int) {
		fmt.Fprintln(in, command, n)
		if line, err := answers.ReadString('\n'); line != "done\n" {
			b.Fatal("the clients failed:", line, err)
		}
	}
}

func (r *rig) benchQuery(addr string) string {
	in, _ := r.settings.Snapshot().Instance("default")
	token, err := access.SignClientToken(in.Keys.Primary, access.ClientTokenOptions{
		Audience: access.ClientAudience("http://"+addr, "chat", ""), UserID: "u", Roles: allRoles,
	})
	if err != nil {
		r.t.Fatal(err)
	}
	return url.Values{"access_token": {token}}.Encode()
}

func cpu() time.Duration {
	var u syscall.Rusage
	syscall.Getrusage(syscall.RUSAGE_SELF, &u)
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

func rss(b *testing.B) int64 {
	runtime.GC()
	runtime.GC() // stacks shrink by half at each
	runtime.GC()
	debug.FreeOSMemory()
	data, err := os.ReadFile("/proc/self/statm")
	if err != nil {
		b.Skip("no /proc")
	}
	pages, _ := strconv.ParseInt(string(bytes.Fields(data)[1]), 10, 64)
	return pages * int64(os.Getpagesize())
}

func noHandlers(h *settings.Hub) { h.EventHandlers = nil }

// BenchmarkEcho is a message of each of 64 clients to a group that only it is in.
func BenchmarkEcho(b *testing.B) {
	r := newRig(b, rigOptions{})
	r.configure(noHandlers)
	do := startClients(b, r.short, r.benchQuery(r.short))
	do("connect", 64)
	start, rounds := cpu(), 0
	for b.Loop() {
		do("echo", 100)
		rounds += 64 * 100
	}
	b.ReportMetric(float64(cpu()-start)/float64(rounds), "cpu-ns/echo")
	b.ReportMetric(float64(b.Elapsed())/float64(rounds), "ns/echo")
}

// BenchmarkConnect is a handshake with its token verified, and a group joined. The head is read with net/http's
// parser.
func BenchmarkConnect(b *testing.B) {
	for name, short := range map[string]bool{"short": true, "nethttp": false} {
		b.Run(name, func(b *testing.B) {
			r := newRig(b, rigOptions{})
			r.configure(noHandlers)
			addr := r.base
			if short {
				addr = r.short
			}
			do := startClients(b, addr, r.benchQuery(addr))
			const n = 1000
			do("connect", n) // what the first ones allocate stays
			var used time.Duration
			var memory int64
			rounds := 0
			for b.Loop() {
				do("drop", 0)
				eventually(b, "all are gone", func() bool { return r.hubs.Len() == 0 })
				before, start := rss(b), cpu()
				do("connect", n)
				used += cpu() - start
				memory += rss(b) - before
				rounds++
			}
			b.ReportMetric(float64(used)/float64(n*rounds), "cpu-ns/connect")
			b.ReportMetric(float64(memory)/float64(n*rounds), "rss-B/conn")
		})
	}
}
