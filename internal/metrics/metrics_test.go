package metrics

import (
	"errors"
	"fmt"
	"io"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"tabard/guard/reason"
	"tabard/internal/trace"
)

func scrape(t *testing.T, m *Metrics) string {
	t.Helper()
	w := httptest.NewRecorder()
	m.Handler().ServeHTTP(w, httptest.NewRequest("GET", "/metrics", nil))
	text, err := io.ReadAll(w.Result().Body)
	if err != nil || w.Code != 200 {
		t.Fatalf("%d %v: %s", w.Code, err, text)
	}
	return string(text)
}

// has fails the test for every line that the text does not have.
func has(t *testing.T, text string, lines ...string) {
	t.Helper()
	for _, line := range lines {
		if !strings.Contains(text, line+"\n") {
			t.Errorf("no line %s", line)
		}
	}
}

func TestRecordsBecomeSeries(t *testing.T) {
	rec := trace.New(trace.Options{Records: 1}) // counts last longer than records
	m := New(Sources{Trace: rec, Pending: func() int { return 3 }, Version: "v1", Refusals: func() map[reason.Code]uint64 { return map[reason.Code]uint64{reason.MessageRate: 4, "": 1} }})
	for range 2 {
		rec.Record(trace.Record{Kind: trace.Delivery, Instance: "i", Hub: "Chat", Template: "https://h/{event}", Code: reason.Delivered, Status: 204, Duration: 30 * time.Millisecond})
	}
	rec.Record(trace.Record{Kind: trace.Delivery, Instance: "i", Hub: "chat", Template: "https://h/{event}", Code: reason.HandlerError, Status: 502, Duration: 9 * time.Second})
	rec.Record(trace.Record{Kind: trace.Delivery, Instance: "i", Hub: "chat", Template: "https://h/{event}", Code: reason.DNSFailure, Duration: time.Hour})
	rec.Record(trace.Record{Kind: trace.Connection, Operation: trace.ConnectionStarted, Instance: "i", Hub: "chat"})
	rec.Record(trace.Record{Kind: trace.Connection, Operation: trace.ConnectionAborted, Instance: "i", Hub: "chat", Close: "SlowClient"})
	rec.Record(trace.Record{Kind: trace.Connection, Operation: trace.ConnectionRefused, Instance: "i", Hub: "whatever-a-stranger-writes", Code: reason.NoToken, Status: 401})
	rec.Record(trace.Record{Kind: trace.Message, Operation: "SendToGroup", Instance: "i", Hub: "chat", Bytes: 5, Receivers: 7})
	rec.Record(trace.Record{Kind: trace.Request, Operation: "SendToAll", Instance: "i", Status: 202, Duration: time.Millisecond})
	rec.Record(trace.Record{Kind: trace.Request, Operation: "SendToAll", Instance: "i", Status: 401, Code: reason.Expired})
	m.Token("", nil, 2*time.Second)
	m.Token("oauth", errors.New("no"), time.Millisecond)
	m.VaultRead(true, "", time.Millisecond)
	m.VaultRead(false, reason.SecretDenied, time.Millisecond)

	text := scrape(t, m)
	has(t, text,
		`tabard_build_info{version="v1"} 1`,
		`tabard_notifications_pending 3`,
		`tabard_client_refusals_total{code="message_rate"} 4`, `tabard_client_refusals_total{code="other"} 1`,
		`tabard_event_duration_seconds_count{code="delivered",hub="chat",instance="i",rule="https://h/{event}",status="2xx"} 2`,
		`tabard_event_duration_seconds_bucket{code="delivered",hub="chat",instance="i",rule="https://h/{event}",status="2xx",le="0.025"} 0`,
		`tabard_event_duration_seconds_bucket{code="delivered",hub="chat",instance="i",rule="https://h/{event}",status="2xx",le="0.05"} 2`,
		`tabard_event_duration_seconds_sum{code="delivered",hub="chat",instance="i",rule="https://h/{event}",status="2xx"} 0.06`,
		`tabard_event_duration_seconds_count{code="handler_error",hub="chat",instance="i",rule="https://h/{event}",status="5xx"} 1`,
		`tabard_event_duration_seconds_bucket{code="dns_failure",hub="chat",instance="i",rule="https://h/{event}",status="none",le="100"} 0`,
		`tabard_event_duration_seconds_bucket{code="dns_failure",hub="chat",instance="i",rule="https://h/{event}",status="none",le="+Inf"} 1`,
		`tabard_connections_opened_total{hub="chat",instance="i"} 1`,
		`tabard_connections_closed_total{category="SlowClient",hub="chat",instance="i"} 1`,
		`tabard_connections_refused_total{code="no_token",instance="i"} 1`,
		`tabard_messages_total{hub="chat",instance="i",operation="SendToGroup"} 1`,
		`tabard_message_bytes_total{hub="chat",instance="i",operation="SendToGroup"} 5`,
		`tabard_message_deliveries_total{hub="chat",instance="i",operation="SendToGroup"} 7`,
		`tabard_rest_request_duration_seconds_count{instance="i",operation="SendToAll",status="202"} 1`,
		`tabard_rest_requests_refused_total{code="expired",instance="i"} 1`,
		`tabard_token_acquisition_duration_seconds_count{outcome="ok",source="embedded"} 1`,
		`tabard_token_acquisition_duration_seconds_count{outcome="failed",source="oauth"} 1`,
		`tabard_vault_read_duration_seconds_count{code="ok",vault="embedded"} 1`,
		`tabard_vault_read_duration_seconds_count{code="secret_denied",vault="external"} 1`,
	)
	if !strings.Contains(text, "\ngo_goroutines ") || !strings.Contains(text, "\nprocess_open_fds ") {
		t.Error("the process says nothing of itself")
	}
	if strings.Contains(text, "stranger") {
		t.Error("a stranger chose a label")
	}
}

func TestSeriesAreBounded(t *testing.T) {
	rec := trace.New(trace.Options{})
	m := New(Sources{Trace: rec})
	const hubs = 6000
	for i := range hubs {
		rec.Record(trace.Record{Kind: trace.Message, Operation: "SendToGroup", Instance: "i", Hub: fmt.Sprintf("hub%d", i), Receivers: 1})
	}
	text := scrape(t, m)
	if n := strings.Count(text, "\ntabard_messages_total{"); n > maxHubs+1 {
		t.Errorf("%d series of one metric", n)
	}
	sum := 0
	for line := range strings.SplitSeq(text, "\n") {
		if rest, ok := strings.CutPrefix(line, "tabard_messages_total{"); ok {
			var n int
			if _, err := fmt.Sscan(rest[strings.LastIndexByte(rest, ' '):], &n); err != nil {
				t.Fatal(err)
			}
			sum += n
		}
	}
	if sum != hubs {
		t.Errorf("%d publications were counted, want %d", sum, hubs)
	}
}

func TestLabelsThatAreNoTextDoNoHarm(t *testing.T) {
	rec := trace.New(trace.Options{})
	m := New(Sources{Trace: rec})
	rec.Record(trace.Record{Kind: trace.Delivery, Instance: "i", Hub: "a\x00b", Template: "https://h/\xff", Code: reason.Delivered, Status: 200})
	if text := scrape(t, m); !strings.Contains(text, `hub="a?b"`) {
		t.Error(text)
	}
}

func BenchmarkScrape(b *testing.B) {
	rec := trace.New(trace.Options{})
	for i := range 200 {
		for j := range 8 {
			rec.Record(trace.Record{Kind: trace.Delivery, Instance: "i", Hub: fmt.Sprint("h", i), Template: fmt.Sprint("https://h/", j), Code: reason.Delivered, Status: 200})
		}
	}
	h := New(Sources{Trace: rec}).Handler()
	for b.Loop() {
		h.ServeHTTP(httptest.NewRecorder(), httptest.NewRequest("GET", "/metrics", nil))
	}
}

// The bound belongs to the service, not to a request: whoever serves asks for the handler each time.
func TestScrapesAtOnceAreBounded(t *testing.T) {
	begun, release := make(chan struct{}, maxScrapes+1), make(chan struct{})
	m := New(Sources{Pending: func() int {
		begun <- struct{}{}
		<-release
		return 0
	}})
	status := func() int {
		w := httptest.NewRecorder()
		m.Handler().ServeHTTP(w, httptest.NewRequest("GET", "/metrics", nil))
		return w.Code
	}
	under := make(chan int, maxScrapes+1)
	for range maxScrapes {
		go func() { under <- status() }()
	}
	for range maxScrapes {
		<-begun
	}
	go func() { under <- status() }()
	select {
	case got := <-under:
		if got != 503 {
			t.Errorf("one more was answered %d", got)
		}
	case <-begun:
		t.Error("one more began")
	}
	close(release)
	for range maxScrapes {
		if got := <-under; got != 200 {
			t.Errorf("a scrape was answered %d", got)
		}
	}
}
