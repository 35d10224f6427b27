package arm

import (
	"bufio"
	"context"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"tabard/guard/reason"
	"tabard/internal/settings"
	"tabard/internal/trace"
)

func (p *plane) record(event string, code reason.Code) {
	p.trace.Record(trace.Record{Instance: "default", Kind: trace.Delivery, Hub: "chat", Connection: "c1", User: "u1", Event: event, Code: code})
}

func TestTheTraceIsListedAndFiltered(t *testing.T) {
	p := start(t)
	p.do("GET", theDefault+"/trace"+version, "").want(200).is("value", []any{})
	p.record("connect", reason.Delivered)
	p.record("message", reason.HandlerError)
	p.record("message", reason.Delivered)
	p.trace.Record(trace.Record{Instance: "other", Kind: trace.Delivery, Event: "message", Code: reason.Delivered})
	for query, want := range map[string]string{
		"": "1 2 3", "&event=Message": "2 3", "&code=handler_error": "2", "&last=1": "3", "&after=2": "3", "&hub=CHAT&connectionId=c1&userId=u1&kind=delivery": "1 2 3",
		"&hub=none": "", "&connectionId=c2": "", "&userId=U1": "", "&kind=request": "", "&last=0": "", "&after=99": "",
	} {
		var ids []string
		for _, item := range p.do("GET", theDefault+"/trace"+version+query, "").want(200).items() {
			ids = append(ids, string('0'+rune(item.(map[string]any)["id"].(float64))))
		}
		if got := strings.Join(ids, " "); got != want {
			t.Errorf("%q lists %q, want %q", query, got, want)
		}
	}
	for query, target := range map[string]string{"kind=letter": "kind", "code=because": "code", "after=x": "after", "last=-1": "last", "last=many": "last"} {
		p.do("GET", theDefault+"/trace"+version+"&"+query, "").refused(400, "BadRequest").is("error.target", target)
	}
	p.do("GET", webPubSubs+"/nobody/trace"+version, "").refused(404, "ParentResourceNotFound")
	none := start(t, func(o *Options) { o.Trace = nil })
	none.do("GET", theDefault+"/trace"+version, "").want(200).is("value", []any{})
}

// A feed is a live trace, read event by event.
type feed struct {
	t      *testing.T
	resp   *http.Response
	lines  *bufio.Scanner
	cancel context.CancelFunc
}

func (p *plane) follow(query string, headers ...string) *feed {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second) // a feed that is silent fails the test
	r, _ := http.NewRequestWithContext(ctx, "GET", p.url+theDefault+"/trace"+version+query, nil)
	r.Header.Set("Authorization", "Bearer "+testToken)
	r.Header.Set("Accept", "text/event-stream")
	for i := 0; i < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
	}
	resp, err := http.DefaultTransport.RoundTrip(r)
	if err != nil {
		p.t.Fatal(err)
	}
	f := &feed{p.t, resp, bufio.NewScanner(resp.Body), cancel}
	p.t.Cleanup(f.close)
	return f
}

func (f *feed) close() {
	f.cancel()
	f.resp.Body.Close()
	http.DefaultTransport.(*http.Transport).CloseIdleConnections()
}

// next returns the lines up to the next empty one, "" at the end.
func (f *feed) next() string {
	var lines []string
	for f.lines.Scan() {
		if f.lines.Text() == "" {
			return strings.Join(lines, "\n")
		}
		lines = append(lines, f.lines.Text())
	}
	return ""
}

func (f *feed) expect(prefix string) string {
	f.t.Helper()
	got := f.next()
	if !strings.HasPrefix(got, prefix) {
		f.t.Fatalf("got %q, want %q…", got, prefix)
	}
	return got
}

func TestALiveTraceShowsWhatIsKeptAndWhatHappens(t *testing.T) {
	p := start(t)
	p.record("connect", reason.Delivered)
	p.record("message", reason.HandlerError)
	f := p.follow("&last=1")
	if got := f.resp.Header.Get("Content-Type"); got != "text/event-stream; charset=utf-8" || f.resp.Header.Get("X-Ms-Request-Id") == "" {
		t.Errorf("headers %v", f.resp.Header)
	}
	f.expect(": tabard trace")
	f.expect("id: 2\nevent: record\ndata: {\"id\":2,")
	p.record("joined", reason.Delivered)
	if got := f.expect("id: 3\nevent: record\ndata: "); !strings.Contains(got, `"event":"joined"`) {
		t.Errorf("got %s", got)
	}
	resumed := p.follow("", "Last-Event-ID", "2")
	resumed.expect(": tabard trace")
	resumed.expect("id: 3\n")
	fresh := p.follow("&last=0&code=handler_error")
	fresh.expect(": tabard trace")
	p.record("message", reason.Delivered)
	p.record("message", reason.HandlerError)
	fresh.expect("id: 5\n")
}

func TestALiveTraceIsKeptAliveAndEnds(t *testing.T) {
	done := make(chan struct{})
	p := start(t, func(o *Options) { o.Done, o.KeepAlive = done, 5*time.Millisecond })
	p.do("PUT", webPubSubs+"/abc"+version, `{"location":"local"}`).want(201)
	f := p.follow("")
	f.expect(": tabard trace")
	f.expect(": keep-alive")
	p.do("DELETE", theDefault+version, "").want(200)
	for got := f.next(); got != ": the instance is gone"; got = f.next() {
		if got != ": keep-alive" {
			t.Fatalf("got %q", got)
		}
	}
	if got := f.next(); got != "" {
		t.Errorf("after the end: %q", got)
	}
	p.do("PUT", theDefault+version, `{"location":"local"}`).want(201)
	f = p.follow("")
	f.expect(": tabard trace")
	close(done)
	for got := f.next(); got != ": the service is stopping"; got = f.next() {
		if got != ": keep-alive" {
			t.Fatalf("got %q", got)
		}
	}
}

func TestASlowReaderIsToldWhatItLost(t *testing.T) {
	p := start(t)
	f := p.follow("&last=0")
	f.expect(": tabard trace")
	// More at once than a follower may be behind, in records that fill the socket's buffers.
	const n = 3000
	for range n {
		p.trace.Record(trace.Record{Instance: "default", Kind: trace.Delivery, Code: reason.Delivered, Detail: strings.Repeat("x", 8<<10)})
	}
	seen, lost := 0, 0
	for seen+lost < n {
		got := f.next()
		switch {
		case strings.Contains(got, "event: record"):
			seen++
		case strings.HasPrefix(got, "event: lost\ndata: {\"lost\":"):
			var count int
			for _, c := range strings.TrimSuffix(strings.TrimPrefix(got, "event: lost\ndata: {\"lost\":"), "}") {
				count = count*10 + int(c-'0')
			}
			lost += count
		default:
			t.Fatalf("after %d records and %d lost: %q", seen, lost, got)
		}
	}
	if lost == 0 {
		t.Error("nothing was lost: the test does not show what it should")
	}
}

func TestLiveTracesAreBounded(t *testing.T) {
	p := start(t)
	for range maxFollowers {
		p.follow("").expect(": tabard trace")
	}
	a := p.do("GET", theDefault+"/trace"+version, "", "Accept", "text/html, text/event-stream;q=0.9").refused(429, "TooManyRequests")
	if a.header.Get("Retry-After") == "" {
		t.Error("no Retry-After")
	}
	if got := p.do("GET", theDefault+"/trace"+version, "").want(200); got == nil {
		t.Error("a plain list must still be served")
	}
}

// An events is what the control plane asks to send events: it notes what it was asked for.
type events struct {
	asked []string
	err   error
}

func (e *events) Replay(_ context.Context, in *settings.Instance, rec *trace.Record, to, audience string) (*trace.Comparison, error) {
	e.asked = append(e.asked, fmt.Sprintf("replay %s %d %s %s", in.Name, rec.ID, to, audience))
	return &trace.Comparison{Original: *rec, SameBody: true}, e.err
}

func (e *events) Trigger(_ context.Context, in *settings.Instance, hub string, ev *trace.Synthetic) (*trace.Triggered, error) {
	data := "-"
	if ev.Data != nil {
		data = *ev.Data
	}
	e.asked = append(e.asked, fmt.Sprintf("trigger %s %s %s %v %s %s %s %s %x", in.Name, hub, ev.Event, ev.System, ev.User, ev.Connection, data, ev.JSON, ev.Base64))
	return &trace.Triggered{Record: trace.Record{Event: ev.Event}, Answer: &trace.Answer{Status: 200, Body: []byte("ok")}}, e.err
}

func (*events) Header(*settings.Instance, *trace.Record) http.Header {
	return http.Header{"ce-hub": {"chat"}}
}

func TestRecordsAreLookedAtAndRepeated(t *testing.T) {
	e := &events{}
	p := start(t, func(o *Options) { o.Events = e })
	p.trace.Keep(trace.Record{Instance: "default", Kind: trace.Delivery, Code: reason.Delivered}, &trace.Content{Body: []byte("hello"), ContentType: "text/plain"})
	p.record("message", reason.Timeout)
	one := theDefault + "/trace/1"
	p.do("GET", one+version, "").want(200).is("hasContent", true).is("category", "HttpRequestLogs")
	p.do("GET", theDefault+"/trace/2"+version, "").want(200).is("hasContent", false).is("level", "Error")
	p.do("POST", one+"/listContent"+version, "").want(200).is("body", "aGVsbG8=").is("contentType", "text/plain").is("headers", map[string]any{"ce-hub": []any{"chat"}})
	p.do("POST", one+"/replay"+version, `{"to":"https://x.test/","audience":"api://x"}`).want(200).is("sameBody", true)
	p.do("POST", one+"/replay"+version, `{}`).want(200)
	for _, id := range []string{"3", "0", "-1", "x", "18446744073709551616"} {
		p.do("GET", theDefault+"/trace/"+id+version, "").refused(404, "RecordNotFound")
	}
	p.do("POST", theDefault+"/trace/2/listContent"+version, "").refused(409, "ContentNotKept")
	p.do("POST", theDefault+"/trace/2/replay"+version, `{}`).refused(409, "ContentNotKept")
	p.do("POST", one+"/replay"+version, `{"audience":"api://x"}`).refused(400, "BadRequest").is("error.target", "audience")
	p.do("POST", one+"/replay"+version, `{"url":"x"}`).refused(400, "BadRequest").is("error.target", "url")
	p.do("POST", one+"/replay"+version, `{"to":7}`).refused(400, "BadRequest").is("error.target", "to")
	p.do("POST", one+"/replay"+version, ``).refused(400, "InvalidRequestContent")
	if got := strings.Join(e.asked, "; "); got != "replay default 1 https://x.test/ api://x; replay default 1  " {
		t.Errorf("asked for %s", got)
	}
	e.err = settings.Faults{{Field: "to", Problem: "is bad"}}
	p.do("POST", one+"/replay"+version, `{"to":"x"}`).refused(400, "BadRequest").is("error.target", "to")
	if n := len(p.do("GET", theDefault+"/traceReasons"+version, "").want(200).items()); n != len(reason.All()) {
		t.Errorf("%d reasons", n)
	}
}

func TestEventsAreTriggered(t *testing.T) {
	e := &events{}
	p := start(t, func(o *Options) { o.Events = e })
	at := theDefault + "/hubs/chat/trigger" + version
	for body, want := range map[string]string{
		`{"event":"e","userId":"u","connectionId":"c","data":"hi"}`: "trigger default chat e false u c hi  ",
		`{"json":{"a":[1]}}`:                     `trigger default chat  false   - {"a":[1]} `,
		`{"base64":"AP8="}`:                      "trigger default chat  false   -  00ff",
		`{"systemEvent":true,"event":"connect"}`: "trigger default chat connect true   -  ",
	} {
		e.asked = nil
		p.do("POST", at, body).want(200).is("answer.status", 200.0).is("answer.body", "b2s=")
		if len(e.asked) != 1 || e.asked[0] != want {
			t.Errorf("%s: asked for %q, want %q", body, e.asked, want)
		}
	}
	e.asked = nil
	for body, target := range map[string]string{
		`{"data":"x","json":1}`: "data", `{"base64":"!"}`: "base64", `{"event":1}`: "event", `{"system":true}`: "system", `{"systemEvent":"yes"}`: "systemEvent",
	} {
		p.do("POST", at, body).refused(400, "BadRequest").is("error.target", target)
	}
	if e.asked != nil {
		t.Errorf("asked for %v", e.asked)
	}
	e.err = settings.Faults{{Field: "event", Problem: "is bad"}}
	p.do("POST", at, `{}`).refused(400, "BadRequest").is("error.target", "event")
	start(t).do("POST", at, `{}`).refused(503, "ServiceUnavailable")
}

func TestWhoeverListensGetsDeliveriesWithTheirContents(t *testing.T) {
	p := start(t, func(o *Options) { o.Events = &events{} })
	p.record("message", reason.Delivered) // before
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	r, _ := http.NewRequestWithContext(ctx, "POST", p.url+theDefault+"/listen"+version+"&hub=chat", nil)
	r.Header.Set("Authorization", "Bearer "+testToken)
	resp, err := http.DefaultTransport.RoundTrip(r)
	if err != nil || resp.StatusCode != 200 {
		t.Fatal(resp, err)
	}
	f := &feed{t, resp, bufio.NewScanner(resp.Body), cancel}
	t.Cleanup(f.close)
	f.expect(": tabard trace")
	p.trace.Record(trace.Record{Instance: "default", Kind: trace.Message, Hub: "chat"}) // no delivery
	p.trace.Keep(trace.Record{Instance: "default", Kind: trace.Delivery, Hub: "other"}, &trace.Content{})
	p.trace.Keep(trace.Record{Instance: "default", Kind: trace.Delivery, Hub: "chat", Code: reason.Delivered}, &trace.Content{Body: []byte("hello")})
	got := f.expect("id: 4\nevent: record\ndata: ")
	for _, part := range []string{`"body":"aGVsbG8="`, `"ce-hub":["chat"]`, `"hub":"chat"`} {
		if !strings.Contains(got, part) {
			t.Errorf("no %s in %s", part, got)
		}
	}
	p.record("message", reason.Timeout)
	if got := f.expect("id: 5\n"); !strings.Contains(got, `"content":null`) {
		t.Errorf("got %s", got)
	}
}
