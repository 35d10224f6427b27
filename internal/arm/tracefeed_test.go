package arm

import (
	"bufio"
	"context"
	"net/http"
	"strings"
	"testing"
	"time"

	"tabard/guard/reason"
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
