package eventhandler

import (
	"context"
	"errors"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"tabard/guard/reason"
	"tabard/internal/trace"
)

// A memory is a listener whose connections are pipes, so that time can be simulated around a real client and server.
type memory struct {
	conns  chan net.Conn
	closed chan struct{}
	refuse atomic.Bool
	dials  atomic.Int32
}

func (m *memory) Accept() (net.Conn, error) {
	select {
	case c := <-m.conns:
		return c, nil
	case <-m.closed:
		return nil, net.ErrClosed
	}
}

func (m *memory) Close() error {
	select {
	case <-m.closed:
	default:
		close(m.closed)
	}
	return nil
}

func (m *memory) Addr() net.Addr { return &net.IPAddr{} }

func (m *memory) dial(context.Context, string, string) (net.Conn, error) {
	m.dials.Add(1)
	if m.refuse.Load() {
		return nil, &net.OpError{Op: "dial", Err: errors.New("connection refused")}
	}
	client, server := net.Pipe()
	select {
	case m.conns <- server:
		return client, nil
	case <-m.closed:
		return nil, net.ErrClosed
	}
}

// simulate runs body with simulated time, production intervals and a handler at the other end of pipes.
func simulate(t *testing.T, opt Options, body func(w *world, h *sink, m *memory)) {
	t.Helper()
	st := openSettings(t) // outside of the simulation: it has real files and goroutines
	outside := &world{t: t, settings: st}
	outside.hub("chat", all("http://handler.test/{event}"))
	synctest.Test(t, func(t *testing.T) {
		w := &world{t: t, settings: st, trace: trace.New(trace.Options{}), log: &lockedBuffer{}}
		h := &sink{}
		m := &memory{conns: make(chan net.Conn), closed: make(chan struct{})}
		srv := &http.Server{Handler: h}
		go srv.Serve(m)
		w.t.Cleanup(func() { srv.Close(); time.Sleep(time.Minute) }) // so that handlers which sleep come to their end
		w.start(opt)
		tr := &http.Transport{DialContext: m.dial}
		w.t.Cleanup(tr.CloseIdleConnections)
		w.d.far, w.d.near = tr, tr
		body(w, h, m)
	})
}

// times are the moments of requests, in seconds since begin.
type times struct {
	begin time.Time
	at    []float64
}

func (x *times) note() { x.at = append(x.at, time.Since(x.begin).Seconds()) }

func TestAppendixA43RepetitionsComeAfter1And3And5Seconds(t *testing.T) {
	repeated, once := []float64{0, 1, 4, 9}, []float64{0}
	for code, want := range map[int][]float64{
		408: repeated, 500: repeated, 502: repeated, 503: repeated, 504: repeated,
		300: once, 307: once, 400: once, 401: once, 403: once, 404: once, 410: once, 429: once,
	} {
		simulate(t, Options{}, func(w *world, h *sink, _ *memory) {
			x := times{begin: time.Now()}
			var bodies, ids []string
			h.answer = func(rw http.ResponseWriter, r *http.Request, body string) {
				x.note()
				bodies, ids = append(bodies, body), append(ids, r.Header.Get("ce-id")+r.Header.Get("ce-time"))
				rw.Header().Set("Retry-After", "2")
				rw.WriteHeader(code)
			}
			e, ok := second(w.send(w.session(), "hi")).(*DeliveryError)
			if !ok || e.Status != code || !slices.Equal(x.at, want) {
				w.t.Errorf("%d: %v, requests at %v, want %v", code, e, x.at, want)
			}
			for i := range bodies {
				if bodies[i] != "hi" || ids[i] != ids[0] {
					w.t.Errorf("%d: request %d has body %q and id %q", code, i, bodies[i], ids[i])
				}
			}
		})
	}
}

func TestAppendixA43RefusedConnectionsAreTriedAgain(t *testing.T) {
	simulate(t, Options{}, func(w *world, h *sink, m *memory) {
		h.answer = func(rw http.ResponseWriter, _ *http.Request, body string) { rw.Header().Set("Connection", "close") }
		h.option = func(rw http.ResponseWriter, _ *http.Request) {
			rw.Header().Set("WebHook-Allowed-Origin", "*")
			rw.Header().Set("Connection", "close")
		}
		s := w.session()
		if _, err := w.send(s, "validated"); err != nil {
			w.t.Fatal(err)
		}
		m.refuse.Store(true)
		begin, dials := time.Now(), m.dials.Load()
		w.failed(second(w.send(s, "hi")), reason.ConnectFailure)
		if n, took := m.dials.Load()-dials, time.Since(begin); n != 4 || took != 9*time.Second {
			w.t.Errorf("%d attempts in %v", n, took)
		}
		go func() { time.Sleep(2 * time.Second); m.refuse.Store(false) }()
		if _, err := w.send(s, "hi"); err != nil {
			w.t.Errorf("a handler that comes back after 2 s: %v", err)
		}
	})
}

func TestAppendixA44TheWholeExchangeIsGivenUpAfter100Seconds(t *testing.T) {
	t.Run("a handler that never answers", func(t *testing.T) {
		simulate(t, Options{}, func(w *world, h *sink, _ *memory) {
			h.answer = func(_ http.ResponseWriter, r *http.Request, _ string) { <-r.Context().Done() }
			begin := time.Now()
			w.failed(second(w.send(w.session(), "hi")), reason.Timeout)
			if took := time.Since(begin); took != 100*time.Second || len(h.calls("POST")) != 1 {
				w.t.Errorf("given up after %v and %d requests", took, len(h.calls("POST")))
			}
		})
	})
	t.Run("repetitions included", func(t *testing.T) {
		simulate(t, Options{}, func(w *world, h *sink, _ *memory) {
			h.answer = func(rw http.ResponseWriter, r *http.Request, _ string) {
				if !pause(r.Context(), 40*time.Second) {
					return
				}
				rw.WriteHeader(500)
			}
			begin := time.Now()
			w.failed(second(w.send(w.session(), "hi")), reason.Timeout)
			if took := time.Since(begin); took != 100*time.Second || len(h.calls("POST")) != 3 {
				w.t.Errorf("given up after %v and %d requests", took, len(h.calls("POST")))
			}
		})
	})
	t.Run("an answer that does not end", func(t *testing.T) {
		simulate(t, Options{}, func(w *world, h *sink, _ *memory) {
			h.answer = func(rw http.ResponseWriter, r *http.Request, _ string) {
				rw.Write([]byte("drip"))
				rw.(http.Flusher).Flush()
				<-r.Context().Done()
			}
			begin := time.Now()
			_, err := w.session().Connect(w.t.Context(), ConnectRequest{})
			if r, ok := err.(*Rejection); !ok || r.Status != 500 || r.Code != reason.Timeout || time.Since(begin) != 100*time.Second {
				w.t.Errorf("%v after %v", err, time.Since(begin))
			}
		})
	})
}

func TestAppendixA45APassedValidationIsReusedFor60SecondsWithoutBlocking(t *testing.T) {
	simulate(t, Options{}, func(w *world, h *sink, _ *memory) {
		slow := true
		h.option = func(rw http.ResponseWriter, _ *http.Request) {
			if slow {
				time.Sleep(3 * time.Second)
			}
			rw.Header().Set("WebHook-Allowed-Origin", "*")
		}
		begin := time.Now()
		errs := make(chan error)
		for range 10 { // concurrent first events share one validation and wait for it
			go func() { errs <- second(w.send(w.session(), "hi")) }()
		}
		for range 10 {
			if err := <-errs; err != nil {
				w.t.Error(err)
			}
		}
		if time.Since(begin) != 3*time.Second || len(h.calls("OPTIONS")) != 1 {
			w.t.Errorf("%v, %d validations", time.Since(begin), len(h.calls("OPTIONS")))
		}
		send := func() time.Duration {
			w.t.Helper()
			at := time.Now()
			if _, err := w.send(w.session(), "hi"); err != nil {
				w.t.Fatal(err)
			}
			return time.Since(at)
		}
		time.Sleep(59 * time.Second)
		if took := send(); took != 0 || len(h.calls("OPTIONS")) != 1 {
			w.t.Errorf("within 60 s: %v, %d validations", took, len(h.calls("OPTIONS")))
		}
		time.Sleep(2 * time.Second)
		if took := send(); took != 0 {
			w.t.Errorf("the event after 60 s waited %v", took)
		}
		synctest.Wait()
		if n := len(h.calls("OPTIONS")); n != 2 {
			w.t.Errorf("%d validations after 60 s", n)
		}
	})
}

func TestAppendixA49UserEventsOfOneConnectionAreNeverUnderWayAtTheSameTime(t *testing.T) {
	simulate(t, Options{}, func(w *world, h *sink, _ *memory) {
		var now, most atomic.Int32
		h.answer = func(http.ResponseWriter, *http.Request, string) {
			most.Store(max(most.Load(), now.Add(1)))
			time.Sleep(time.Second)
			now.Add(-1)
		}
		begin := time.Now()
		s := w.session()
		errs := make(chan error)
		for range 20 {
			go func() { errs <- second(w.send(s, "hi")) }()
		}
		for range 20 {
			if err := <-errs; err != nil {
				w.t.Error(err)
			}
		}
		if most.Load() != 1 || time.Since(begin) != 20*time.Second {
			w.t.Errorf("%d at once, 20 events of a second each in %v", most.Load(), time.Since(begin))
		}
	})
}

func TestAFailedRefreshStopsEventsAndIsTriedAgainAfterGrowingPauses(t *testing.T) {
	simulate(t, Options{}, func(w *world, h *sink, _ *memory) {
		consent := true
		h.option = func(rw http.ResponseWriter, _ *http.Request) {
			if consent {
				rw.Header().Set("WebHook-Allowed-Origin", "*")
			}
		}
		send := func() error { return second(w.send(w.session(), "hi")) }
		if err := send(); err != nil {
			w.t.Fatal(err)
		}
		consent = false
		time.Sleep(time.Minute)
		if err := send(); err != nil {
			w.t.Errorf("the event that finds the outcome old: %v", err)
		}
		synctest.Wait()
		for _, pause := range []int{1, 2, 4, 8, 16, 32, 60, 60} {
			asked := len(h.calls("OPTIONS"))
			time.Sleep(time.Duration(pause)*time.Second - time.Millisecond)
			w.failed(send(), reason.ValidationHeaderMissing)
			if n := len(h.calls("OPTIONS")); n != asked {
				w.t.Fatalf("asked again before %d s", pause)
			}
			time.Sleep(time.Millisecond)
			w.failed(send(), reason.ValidationHeaderMissing)
			if n := len(h.calls("OPTIONS")); n != asked+1 {
				w.t.Fatalf("not asked again after %d s", pause)
			}
		}
		consent = true
		time.Sleep(time.Minute)
		if err := send(); err != nil {
			w.t.Errorf("the first event after the handler consents again: %v", err)
		}
		if n := len(h.calls("POST")); n != 3 {
			w.t.Errorf("%d events, want 3", n)
		}
	})
}

func TestAValidationWaits10SecondsForAnAnswerAndDoesNotRepeatThat(t *testing.T) {
	simulate(t, Options{}, func(w *world, h *sink, _ *memory) {
		h.option = func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }
		begin := time.Now()
		w.failed(second(w.send(w.session(), "hi")), reason.Timeout)
		if took := time.Since(begin); took != 10*time.Second || len(h.calls("OPTIONS")) != 1 || len(h.calls("POST")) != 0 {
			w.t.Errorf("%v, %d validations", took, len(h.calls("OPTIONS")))
		}
	})
}

func TestAfterCloseNoHandlerIsAskedAnyMore(t *testing.T) {
	simulate(t, Options{}, func(w *world, h *sink, m *memory) {
		if err := w.d.Close(w.t.Context()); err != nil {
			w.t.Fatal(err)
		}
		w.failed(second(w.send(w.session(), "hi")), reason.Overloaded)
		if n := m.dials.Load(); n != 0 {
			w.t.Errorf("%d connections", n)
		}
	})
}

func TestAValidationRepeats5xxLikeAnEvent(t *testing.T) {
	simulate(t, Options{}, func(w *world, h *sink, _ *memory) {
		x := times{begin: time.Now()}
		h.option = func(rw http.ResponseWriter, r *http.Request) {
			x.note()
			if len(x.at) < 4 {
				rw.WriteHeader(503)
				return
			}
			rw.Header().Set("WebHook-Allowed-Origin", "*")
		}
		if _, err := w.send(w.session(), "hi"); err != nil || !slices.Equal(x.at, []float64{0, 1, 4, 9}) {
			w.t.Errorf("%v, validations at %v", err, x.at)
		}
	})
}

func TestAClientThatLeavesEndsItsEventButNotTheSharedValidation(t *testing.T) {
	simulate(t, Options{}, func(w *world, h *sink, _ *memory) {
		h.option = func(rw http.ResponseWriter, r *http.Request) {
			time.Sleep(5 * time.Second)
			rw.Header().Set("WebHook-Allowed-Origin", "*")
		}
		ctx, leave := context.WithTimeout(w.t.Context(), time.Second)
		defer leave()
		patient := make(chan error)
		first := make(chan error)
		go func() { first <- second(w.session().User(ctx, UserEvent{Name: "a"})) }()
		synctest.Wait()
		go func() { patient <- second(w.session().User(w.t.Context(), UserEvent{Name: "b"})) }()
		if err := <-first; err == nil {
			w.t.Error("the event of the client that left was delivered")
		}
		if err := <-patient; err != nil || len(h.calls("OPTIONS")) != 1 {
			w.t.Errorf("the other's: %v, %d validations", err, len(h.calls("OPTIONS")))
		}
	})
}

func TestAClientThatLeavesEndsItsRequest(t *testing.T) {
	simulate(t, Options{}, func(w *world, h *sink, _ *memory) {
		ended := make(chan struct{})
		h.answer = func(_ http.ResponseWriter, r *http.Request, _ string) { <-r.Context().Done(); close(ended) }
		ctx, leave := context.WithCancel(w.t.Context())
		go func() { time.Sleep(time.Second); leave() }()
		begin := time.Now()
		w.failed(second(w.session().User(ctx, UserEvent{Name: "a"})), reason.ClientGone)
		<-ended
		if took := time.Since(begin); took != time.Second {
			w.t.Errorf("after %v", took)
		}
	})
}

func TestThePauseBeforeARepetitionEndsWithTheClientOrTheBudget(t *testing.T) {
	simulate(t, Options{Budget: 2 * time.Second}, func(w *world, h *sink, _ *memory) {
		h.answer = func(rw http.ResponseWriter, _ *http.Request, _ string) { rw.WriteHeader(503) }
		ctx, leave := context.WithTimeout(w.t.Context(), 500*time.Millisecond)
		defer leave()
		begin := time.Now()
		if e := w.failed(second(w.session().User(ctx, UserEvent{Name: "a"})), reason.Timeout); e.Status != 503 || time.Since(begin) != 500*time.Millisecond {
			w.t.Errorf("%v after %v", e, time.Since(begin))
		}
		begin = time.Now()
		e := w.failed(second(w.send(w.session(), "hi")), reason.Timeout)
		if e.Status != 503 || time.Since(begin) != 2*time.Second || !strings.Contains(e.Error(), "latest attempt: got unexpected response with status code 503") {
			w.t.Errorf("%v after %v", e, time.Since(begin))
		}
		ctx, leave = context.WithCancel(w.t.Context())
		leave()
		s := w.session()
		if !s.begin(w.t.Context()) {
			w.t.Fatal("a fresh session is busy")
		}
		w.failed(second(s.User(ctx, UserEvent{Name: "waits for its turn"})), reason.ClientGone)
		s.end()
	})
}

func TestNotificationsOutliveTheClientAndKeepTheirOrder(t *testing.T) {
	simulate(t, Options{}, func(w *world, h *sink, _ *memory) {
		var order []string
		h.answer = func(rw http.ResponseWriter, r *http.Request, _ string) {
			name := r.Header.Get("ce-eventName")
			order = append(order, name)
			if name == "connected" && len(order) < 3 {
				rw.WriteHeader(503)
			}
		}
		s := w.session()
		s.Connected()
		s.Disconnected("gone")
		if err := w.d.Close(w.t.Context()); err != nil {
			w.t.Fatal(err)
		}
		if want := []string{"connected", "connected", "connected", "disconnected"}; !slices.Equal(order, want) {
			w.t.Errorf("got %v, want %v", order, want)
		}
	})
}

func TestDisconnectedWaitsForTheUserEventUnderWay(t *testing.T) {
	simulate(t, Options{}, func(w *world, h *sink, _ *memory) {
		var order []string
		h.answer = func(rw http.ResponseWriter, r *http.Request, _ string) {
			time.Sleep(5 * time.Second)
			order = append(order, r.Header.Get("ce-eventName"))
		}
		s := w.session()
		done := make(chan error)
		go func() { done <- second(w.send(s, "hi")) }()
		synctest.Wait()
		s.Disconnected("")
		if err := <-done; err != nil {
			w.t.Fatal(err)
		}
		if err := w.d.Close(w.t.Context()); err != nil {
			w.t.Fatal(err)
		}
		if want := []string{"message", "disconnected"}; !slices.Equal(order, want) {
			w.t.Errorf("got %v, want %v", order, want)
		}
	})
}

func TestASlowHubDelaysItsOwnNotificationsAlone(t *testing.T) {
	st := Options{NotificationsPerHub: 2}
	simulate(t, st, func(w *world, h *sink, _ *memory) {
		h.answer = func(rw http.ResponseWriter, r *http.Request, _ string) {
			if r.Header.Get("ce-hub") == "chat" {
				time.Sleep(10 * time.Second)
			}
		}
		begin := time.Now()
		for range 5 {
			w.session().Connected()
		}
		// The same settings under another spelling of the hub's name are another lane.
		w.d.NewSession("default", "CHAT", "other").Connected()
		synctest.Wait()
		if n := len(w.trace.Records(trace.Filter{Instance: "default", Connection: "other"})); n != 1 {
			w.t.Errorf("the other hub's notification waits")
		}
		if err := w.d.Close(w.t.Context()); err != nil || time.Since(begin) != 30*time.Second {
			w.t.Errorf("5 notifications, 2 at a time, 10 s each: %v, %v", time.Since(begin), err)
		}
	})
}

func TestNotificationsBeyondTheBoundAreDroppedAndSaidSo(t *testing.T) {
	simulate(t, Options{MaxNotifications: 3, NotificationsPerHub: 1}, func(w *world, h *sink, _ *memory) {
		h.answer = func(rw http.ResponseWriter, r *http.Request, _ string) { time.Sleep(time.Second) }
		for range 5 {
			w.session().Connected()
		}
		if n := len(w.trace.Records(trace.Filter{Instance: "default", Code: reason.Overloaded})); n != 2 {
			w.t.Errorf("%d records of dropped notifications, want 2", n)
		}
		if err := w.d.Close(w.t.Context()); err != nil || len(h.calls("POST")) != 3 {
			w.t.Errorf("%d delivered, %v", len(h.calls("POST")), err)
		}
	})
}

func TestCloseFinishesWithinItsDeadline(t *testing.T) {
	simulate(t, Options{}, func(w *world, h *sink, _ *memory) {
		h.answer = func(_ http.ResponseWriter, r *http.Request, _ string) { <-r.Context().Done() }
		w.session().Connected()
		synctest.Wait()
		ctx, cancel := context.WithTimeout(w.t.Context(), 5*time.Second)
		defer cancel()
		begin := time.Now()
		if err := w.d.Close(ctx); !errors.Is(err, context.DeadlineExceeded) || time.Since(begin) != 5*time.Second {
			w.t.Errorf("closed after %v: %v", time.Since(begin), err)
		}
		if rec := w.record(trace.Delivery); rec.Code != reason.Overloaded {
			w.t.Errorf("the cancelled notification: %+v", rec)
		}
		w.session().Connected() // dropped, and said so
		if n := len(w.trace.Records(trace.Filter{Instance: "default", Code: reason.Overloaded})); n != 2 {
			w.t.Errorf("%d records", n)
		}
	})
}
