package bench_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gobwas/ws"
	"github.com/gobwas/ws/wsutil"
	"go.uber.org/goleak"

	"tabard"
	"tabard/internal/bench"
	"tabard/internal/wire"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func small() bench.Options {
	return bench.Options{Clients: 20, Duration: 200 * time.Millisecond, Warmup: 50 * time.Millisecond, Settle: 2 * time.Second}
}

// service runs Tabard in process and returns it as a target whose hub echoes events.
func service(t *testing.T) bench.Target {
	t.Helper()
	srv, err := tabard.New(tabard.Config{Data: t.TempDir(), Listen: "127.0.0.1:0", AdminListen: "127.0.0.1:0", AllowLoopbackHandlers: true}, nil)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ran := make(chan error, 1)
	go func() { ran <- srv.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ran; err != nil {
			t.Error(err)
		}
	})
	ready, err := srv.Ready(ctx)
	if err != nil {
		t.Fatal(err)
	}
	handler := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("WebHook-Allowed-Origin", "*")
		w.Header().Set("Content-Type", "text/plain")
		_, _ = bufio.NewReader(r.Body).WriteTo(w)
	}))
	t.Cleanup(handler.Close)
	body := fmt.Sprintf(`{"properties":{"eventHandlers":[{"urlTemplate":%q,"userEventPattern":"bench"}]}}`, handler.URL)
	req, _ := http.NewRequest(http.MethodPut, ready.AdminURL+"/subscriptions/"+ready.SubscriptionID+
		"/resourceGroups/default/providers/Microsoft.SignalRService/webPubSub/default/hubs/bench?api-version=2024-03-01", strings.NewReader(body))
	req.Header.Set("Authorization", "Bearer "+ready.AdminToken)
	req.Header.Set("Content-Type", "application/json")
	res, err := http.DefaultClient.Do(req)
	if err != nil || res.StatusCode >= 300 {
		t.Fatalf("hub: %v %v", res, err)
	}
	res.Body.Close()
	http.DefaultClient.CloseIdleConnections()
	_, key, _ := strings.Cut(ready.ConnectionString, "AccessKey=")
	key, _, _ = strings.Cut(key, ";")
	return bench.Target{Endpoint: wire.Endpoint{Origin: ready.Endpoint, Key: key, Hub: "bench"}, PID: os.Getpid()}
}

func TestEveryScenarioRunsWithoutAFault(t *testing.T) {
	target := service(t)
	for _, s := range bench.Scenarios {
		for _, mode := range []struct {
			name string
			edit func(*bench.Options)
		}{
			{"", func(*bench.Options) {}},
			{" with 8 in flight", func(o *bench.Options) { o.InFlight = 8 }},
			{" at 100 per second", func(o *bench.Options) { o.Rate = 100 }},
		} {
			t.Run(s.Name+mode.name, func(t *testing.T) {
				o := small()
				mode.edit(&o)
				r, err := bench.Run(t.Context(), s.Name, target, o)
				if err != nil {
					t.Fatal(err)
				}
				if !r.Faultless() || r.Operations == 0 || r.Seconds == 0 {
					t.Errorf("%+v", r)
				}
				if s.Name != "idle" && (r.Deliveries == 0 || r.Latency.P50 <= 0 || r.Latency.Max < r.Latency.P99) {
					t.Errorf("%+v", r)
				}
			})
		}
	}
}

func TestAnInterruptedLoadEndsWithoutAResult(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	target := bench.Target{Endpoint: wire.Endpoint{Origin: "http://127.0.0.1:1", Key: "k", Hub: "bench"}}
	for _, s := range bench.Scenarios {
		if r, err := bench.Run(ctx, s.Name, target, small()); err == nil {
			t.Errorf("%s: %+v", s.Name, r)
		}
	}
}

// A badServer speaks just enough of the protocol to do wrong things to publications: wrong says which texts every
// member gets instead of the nth publication's.
type badServer struct {
	wrong func(n int, text string) []string

	mu      sync.Mutex // guards all below
	members []net.Conn
	n       int
}

func (s *badServer) start(t *testing.T) bench.Target {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var serving sync.WaitGroup
	serving.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			serving.Go(func() { s.serve(conn) })
		}
	})
	t.Cleanup(func() { l.Close(); serving.Wait() })
	return bench.Target{Endpoint: wire.Endpoint{Origin: "http://" + l.Addr().String(), Key: "k", Hub: "bench"}}
}

func (s *badServer) serve(conn net.Conn) {
	defer conn.Close()
	u := ws.Upgrader{Protocol: func([]byte) bool { return true }}
	if _, err := u.Upgrade(conn); err != nil {
		return
	}
	if wsutil.WriteServerText(conn, []byte(`{"type":"system","event":"connected","userId":"u","connectionId":"c"}`)) != nil {
		return
	}
	for {
		data, err := wsutil.ReadClientText(conn)
		var m struct {
			Type, Data string
			AckID      int
		}
		if err != nil || json.Unmarshal(data, &m) != nil {
			return
		}
		s.mu.Lock()
		if m.Type == "joinGroup" {
			s.members = append(s.members, conn)
			_ = wsutil.WriteServerText(conn, fmt.Appendf(nil, `{"type":"ack","ackId":%d,"success":true}`, m.AckID))
		} else {
			s.n++
			for _, text := range s.wrong(s.n, m.Data) {
				for _, member := range s.members {
					_ = wsutil.WriteServerText(member, fmt.Appendf(nil, `{"type":"message","from":"group","group":"g","dataType":"text","data":"%s"}`, text))
				}
			}
		}
		s.mu.Unlock()
	}
}

func TestFaultsOfAServerAreCounted(t *testing.T) {
	held := ""
	for _, tc := range []struct {
		name  string
		wrong func(n int, text string) []string
		found func(r *bench.Result) bool
	}{
		{"none", func(_ int, text string) []string { return []string{text} }, (*bench.Result).Faultless},
		{"each fifth publication twice", func(n int, text string) []string {
			if n%5 == 0 {
				return []string{text, text}
			}
			return []string{text}
		}, func(r *bench.Result) bool { return r.Repeated > 0 && r.Lost == 0 }},
		{"each fifth publication lost", func(n int, text string) []string {
			if n%5 == 0 {
				return nil
			}
			return []string{text}
		}, func(r *bench.Result) bool { return r.Lost > 0 && r.Repeated == 0 }},
		{"each fifth publication after the next", func(n int, text string) []string {
			if n%5 == 0 {
				held = text
				return nil
			}
			if n%5 == 1 && held != "" {
				return []string{text, held}
			}
			return []string{text}
		}, func(r *bench.Result) bool { return r.Misordered > 0 }},
	} {
		t.Run(tc.name, func(t *testing.T) {
			o := small()
			o.Clients, o.Rate, o.Settle = 3, 200, 100*time.Millisecond
			r, err := bench.Run(t.Context(), "fanout", (&badServer{wrong: tc.wrong}).start(t), o)
			if err != nil || !tc.found(r) {
				t.Errorf("%+v, %v", r, err)
			}
		})
	}
}

// More is published than the sockets and queues of members take that never read: nobody else may miss anything.
func TestStalledMembersCostNobodyElseAMessage(t *testing.T) {
	target := service(t)
	const enough = 32 << 20 // a queue has 16 MiB, the kernel takes a few more
	for d := time.Second; ; d *= 2 {
		o := small()
		o.Stalled, o.InFlight, o.Payload, o.Duration = 10, 16, 500_000, d
		r, err := bench.Run(t.Context(), "fanout", target, o)
		if err != nil || !r.Faultless() || r.Deliveries == 0 {
			t.Fatalf("%+v, %v", r, err)
		}
		if r.Operations*uint64(o.Payload) >= enough {
			return
		}
	}
}

func TestOptionsAreBounded(t *testing.T) {
	for name, o := range map[string]bench.Options{
		"clients":   {Clients: bench.MaxClients + 1},
		"payload":   {Payload: 31},
		"stalled":   {Stalled: -1},
		"in-flight": {InFlight: bench.MaxInFlight + 1},
		"group":     {Clients: 5, Group: 6},
		"negative":  {Rate: -1},
	} {
		if _, err := bench.Run(t.Context(), "fanout", bench.Target{}, o); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := bench.Run(t.Context(), "nonsense", bench.Target{}, bench.Options{}); err == nil {
		t.Error("an unknown scenario ran")
	}
}

func TestAWrongKeyIsAnError(t *testing.T) {
	target := service(t)
	target.Key = strings.Repeat("x", 44)
	if _, err := bench.Run(t.Context(), "fanout", target, small()); err == nil || !bytes.Contains([]byte(err.Error()), []byte("401")) {
		t.Errorf("got %v, want a 401", err)
	}
}
