package tabard

import (
	"bytes"
	"compress/gzip"
	"encoding/hex"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"sync"
	"testing"

	collector "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	spans "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/protobuf/proto"

	"tabard/internal/access"
	"tabard/internal/trace"
)

// An otlpReceiver is a collector that keeps what it gets.
type otlpReceiver struct {
	*httptest.Server
	mu    sync.Mutex
	spans []*spans.Span
	raw   bytes.Buffer
}

func newOTLPReceiver(t *testing.T) *otlpReceiver {
	c := &otlpReceiver{}
	c.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body := io.Reader(r.Body)
		if r.Header.Get("Content-Encoding") == "gzip" {
			z, err := gzip.NewReader(r.Body)
			if err != nil {
				t.Error(err)
				return
			}
			body = z
		}
		text, err := io.ReadAll(body)
		var req collector.ExportTraceServiceRequest
		if err != nil || r.URL.Path != "/v1/traces" || r.Header.Get("Content-Type") != "application/x-protobuf" || proto.Unmarshal(text, &req) != nil {
			t.Errorf("%s %s: %v", r.URL.Path, r.Header.Get("Content-Type"), err)
			w.WriteHeader(http.StatusBadRequest)
			return
		}
		c.mu.Lock()
		defer c.mu.Unlock()
		c.raw.Write(text)
		for _, rs := range req.ResourceSpans {
			for _, ss := range rs.ScopeSpans {
				c.spans = append(c.spans, ss.Spans...)
			}
		}
		w.Header().Set("Content-Type", "application/x-protobuf")
	}))
	t.Cleanup(c.Close)
	return c
}

// span returns the only span with a name.
func (c *otlpReceiver) span(t *testing.T, name string) *spans.Span {
	t.Helper()
	c.mu.Lock()
	defer c.mu.Unlock()
	var found []*spans.Span
	var names []string
	for _, s := range c.spans {
		names = append(names, s.Name)
		if s.Name == name {
			found = append(found, s)
		}
	}
	if len(found) != 1 {
		t.Fatalf("%d spans with the name %s among %v", len(found), name, names)
	}
	return found[0]
}

func attribute(s *spans.Span, name string) string {
	for _, a := range s.Attributes {
		if a.Key == name {
			return a.Value.GetStringValue()
		}
	}
	return ""
}

const (
	callersTrace  = "0af7651916cd43dd8448eb211c80319c"
	callersSpan   = "b7ad6b7169203331"
	callersParent = "00-" + callersTrace + "-" + callersSpan + "-01"
)

func TestSpansReachACollectorAndTheirContextTheHandler(t *testing.T) {
	receiver := newOTLPReceiver(t)
	s := serve(t, Config{AllowLoopbackHandlers: true, OTLPEndpoint: receiver.URL})
	var mu sync.Mutex
	got := map[string]http.Header{} // by event
	h := handlerOf(t, func(w http.ResponseWriter, r *http.Request) {
		willing(w, r)
		if r.Method == http.MethodPost {
			mu.Lock()
			defer mu.Unlock()
			got[r.Header.Get("ce-eventName")] = r.Header
		}
	})
	rule, _ := json.Marshal(map[string]any{"properties": map[string]any{"anonymousConnectPolicy": "allow", "eventHandlers": []any{
		map[string]any{"urlTemplate": h.URL + "/{event}?code=canary-code-of-the-url", "userEventPattern": "*", "systemEvents": []string{"connect"}},
	}}})
	s.controlPlane("PUT", s.instanceID()+"/hubs/chat?api-version=2024-03-01", string(rule))
	s.controlPlane("POST", s.instanceID()+"/hubs/chat/trigger?api-version=2024-03-01", `{"data":"canary-payload"}`)

	// A client's handshake and a server's request go on with their callers' traces.
	r, _ := http.NewRequest(http.MethodGet, s.Endpoint+"/client/hubs/chat", nil)
	for name, value := range map[string]string{"Connection": "Upgrade", "Upgrade": "websocket", "Sec-WebSocket-Version": "13", "Sec-WebSocket-Key": "AAAAAAAAAAAAAAAAAAAAAA==", "traceparent": callersParent} {
		r.Header.Set(name, value)
	}
	res, err := s.http.Do(r)
	if err != nil || res.StatusCode != http.StatusSwitchingProtocols {
		t.Fatal(res, err)
	}
	res.Body.Close()
	r, _ = http.NewRequest(http.MethodPost, s.Endpoint+"/api/hubs/chat/:send?api-version=2024-12-01", strings.NewReader("hi"))
	r.Header.Set("Content-Type", "text/plain")
	r.Header.Set("traceparent", callersParent)
	token, err := access.SignClientToken(s.theDefault().Keys.Primary, access.ClientTokenOptions{Audience: r.URL.String()})
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Authorization", "Bearer "+token)
	res, err = s.http.Do(r)
	if err != nil || res.StatusCode != http.StatusAccepted {
		t.Fatal(res, err)
	}
	res.Body.Close()
	records := s.Server.trace.Records(trace.Filter{Instance: "default"})
	s.stop() // sends what is left

	message := receiver.span(t, "event message")
	parent := got["message"].Get("traceparent")
	if want := "00-" + hex.EncodeToString(message.TraceId) + "-" + hex.EncodeToString(message.SpanId) + "-01"; parent != want || got["message"].Get("ce-traceparent") != want {
		t.Errorf("the handler was told %q and %q, the span is %s", parent, got["message"].Get("ce-traceparent"), want)
	}
	if attribute(message, "tabard.code") != "delivered" || attribute(message, "tabard.hub") != "chat" || len(message.Events) < 4 || message.Kind != spans.Span_SPAN_KIND_CLIENT {
		t.Errorf("span %v", message)
	}
	connect := receiver.span(t, "event connect")
	if hex.EncodeToString(connect.TraceId) != callersTrace || hex.EncodeToString(connect.ParentSpanId) != callersSpan || !strings.Contains(got["connect"].Get("traceparent"), callersTrace) {
		t.Errorf("the handshake's trace ends: %v", connect)
	}
	rest := receiver.span(t, "REST POST")
	if hex.EncodeToString(rest.TraceId) != callersTrace || hex.EncodeToString(rest.ParentSpanId) != callersSpan {
		t.Errorf("the request's trace ends: %v", rest)
	}
	known := map[trace.Kind]string{}
	for _, rec := range records {
		if rec.TraceID != "" {
			known[rec.Kind] = rec.TraceID
		}
	}
	if known[trace.Request] != callersTrace || known[trace.Message] != callersTrace || len(known[trace.Delivery]) != 32 {
		t.Errorf("records know the traces %v", known)
	}
	receiver.mu.Lock()
	defer receiver.mu.Unlock()
	for _, secret := range []string{"canary", token} {
		if bytes.Contains(receiver.raw.Bytes(), []byte(secret)) {
			t.Errorf("%q is in the spans", secret)
		}
	}
}

func TestWithoutACollectorNothingIsTraced(t *testing.T) {
	s := serve(t, Config{AllowLoopbackHandlers: true})
	var header http.Header
	h := handlerOf(t, func(w http.ResponseWriter, r *http.Request) { willing(w, r); header = r.Header })
	s.fault(h.URL, "")
	for name := range header {
		if regexp.MustCompile(`(?i)trace`).MatchString(name) {
			t.Errorf("the handler was sent %s", name)
		}
	}
	if s.telemetry != nil || s.tracer() != nil {
		t.Error("there is telemetry")
	}
}

func TestACollectorThatIsAwayHarmsNobody(t *testing.T) {
	receiver := newOTLPReceiver(t)
	receiver.Close()
	s := serve(t, Config{AllowLoopbackHandlers: true, OTLPEndpoint: receiver.URL})
	s.says(s.fault(handlerOf(t, willing).URL, ""), "delivered", "")
}
