package eventhandler

import (
	"bytes"
	"encoding/json"
	"errors"
	"net/http"
	"runtime"
	"strings"
	"testing"
	"time"

	"tabard/guard/reason"
	"tabard/internal/egress"
	"tabard/internal/settings"
	"tabard/internal/trace"
)

func (w *world) instance() *settings.Instance {
	in, _ := w.settings.Snapshot().Instance("default")
	return in
}

func (w *world) replay(rec trace.Record, to, audience string) *trace.Comparison {
	w.t.Helper()
	c, err := w.d.Replay(w.t.Context(), w.instance(), &rec, to, audience)
	if err != nil {
		w.t.Fatal(err)
	}
	return c
}

// Headers that differ between an event and its repetition on purpose.
func lasting(h http.Header) http.Header {
	h = h.Clone()
	h.Del("Authorization")
	h.Del("X-Ms-Client-Request-Id")
	return h
}

func TestAReplayIsTheSameRequestWithAFreshToken(t *testing.T) {
	answers := []string{"first", "second"}
	w, h := oneHandler(t, func(w http.ResponseWriter, r *http.Request, _ string) {
		w.Header().Set("Content-Type", "text/plain")
		w.Header().Set("ce-connectionState", "new-state")
		w.Header().Set("Set-Cookie", "affinity=1")
		_, _ = w.Write([]byte(answers[0] + r.Header.Get("Authorization")))
		answers = answers[1:]
	})
	w.hub("chat", with(h.URL, "api://x"))
	s := w.session()
	s.Bind("älice", "json.webpubsub.azure.v1")
	s.state = "old-state"
	if _, err := s.User(t.Context(), UserEvent{Name: "message", Type: JSON, Data: []byte(`{"a":1}`), Metadata: []Pair{{"Key", "value"}}}); err != nil {
		t.Fatal(err)
	}
	rec := w.record(trace.Delivery)
	c := w.replay(rec, "", "")
	posts := h.calls("POST")
	if len(posts) != 2 {
		t.Fatalf("%d requests", len(posts))
	}
	a, b := lasting(posts[0].header), lasting(posts[1].header)
	for name := range a {
		if strings.Join(a[name], "|") != strings.Join(b[name], "|") {
			t.Errorf("%s was %q, is %q", name, a[name], b[name])
		}
	}
	if posts[0].body != posts[1].body || len(a) != len(b) || b.Get("Ce-Connectionstate") != "old-state" || posts[1].header.Get("Authorization") == "" {
		t.Errorf("got %+v after %+v", posts[1], posts[0])
	}
	if len(w.asked) != 3 { // validation, event, replay: the cache in front of the source decides whether it is another
		t.Errorf("tokens were asked for %d times", len(w.asked))
	}
	if c.Replayed.ReplayOf != rec.ID || !c.SameStatus || !c.SameContentType || c.SameBody || c.Token != tokenSent || c.RuleChanged {
		t.Errorf("compared as %+v", c)
	}
	if string(c.Answer.Body) != "second"+"Bearer [token]" {
		t.Errorf("the answer is %q", c.Answer.Body)
	}
	if s.state != "new-state" {
		t.Errorf("the state of the connection is %q", s.state)
	}
	w.hub("chat", with(h.URL+"/moved", "api://x"))
	if c := w.replay(c.Replayed, "", ""); !c.RuleChanged {
		t.Error("another rule is taken for the same one")
	}
}

// What proves who sends an event is for the origin that the hub's rule names.
func TestAReplayElsewhereProvesNothingToThatHost(t *testing.T) {
	w, h := oneHandler(t, nil)
	w.secrets[secretURI] = "the-secret-of-the-rule"
	w.hub("chat", with(h.URL+"/?code={@Microsoft.KeyVault(SecretUri="+secretURI+")}", "api://x"))
	if _, err := w.send(w.session(), "hi"); err != nil {
		t.Fatal(err)
	}
	rec := w.record(trace.Delivery)
	stranger := newSink(t, nil)

	c := w.replay(rec, stranger.URL+"/hook", "")
	got := stranger.event(t)
	for name, values := range got.header {
		if name == "Authorization" || name == "Ce-Signature" || strings.Contains(strings.Join(values, ""), "the-secret-of-the-rule") {
			t.Errorf("the stranger got %s: %s", name, values)
		}
	}
	if got.body != "hi" || got.path != "/hook" || c.Token != tokenOtherHost {
		t.Errorf("got %+v, %+v", got, c)
	}
	for _, call := range stranger.calls("OPTIONS") {
		if call.header.Get("Authorization") != "" {
			t.Error("the validation carried a token")
		}
	}
	// With an audience that the caller names there is a token, for that audience alone.
	w.asked = nil
	c = w.replay(rec, stranger.URL+"/hook2", "api://stranger")
	posts := stranger.calls("POST")
	if last := posts[len(posts)-1]; last.header.Get("Authorization") == "" || last.header.Get("Ce-Signature") != "" || c.Token != tokenSent {
		t.Errorf("got %+v, %+v", last, c)
	}
	for _, resource := range w.asked {
		if resource != "api://stranger" {
			t.Errorf("a token for %s was asked for", resource)
		}
	}
	// Another path of the rule's own origin may have what the rule has.
	if c = w.replay(rec, h.URL+"/elsewhere", ""); c.Token != tokenSent {
		t.Errorf("at the rule's origin: %+v", c)
	}
	posts = h.calls("POST")
	if last := posts[len(posts)-1]; last.path != "/elsewhere" || last.header.Get("Authorization") == "" || last.header.Get("Ce-Signature") == "" {
		t.Errorf("at the rule's origin: %+v", last)
	}
	// The same host by another port, scheme or spelling is another origin.
	other := newSink(t, nil)
	for _, to := range []string{other.URL, strings.Replace(h.URL, "127.0.0.1", "localhost", 1)} {
		if c := w.replay(rec, to, ""); c.Token != tokenOtherHost {
			t.Errorf("%s: %s", to, c.Token)
		}
	}
}

func TestAReplayNeedsConsentAndAPermittedAddress(t *testing.T) {
	w, h := oneHandler(t, nil)
	w.hub("chat", all(h.URL))
	if _, err := w.send(w.session(), "hi"); err != nil {
		t.Fatal(err)
	}
	rec := w.record(trace.Delivery)
	deaf := newSink(t, nil)
	deaf.option = func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusOK) }
	if c := w.replay(rec, deaf.URL, ""); c.Replayed.Code != reason.ValidationHeaderMissing || len(deaf.calls("POST")) != 0 {
		t.Errorf("without consent: %s", c.Replayed.Code)
	}
	if c := w.replay(rec, "http://169.254.169.254/", "api://x"); c.Replayed.Code != reason.DestinationBlocked && c.Replayed.Code != reason.TokenOverPlainHTTP || c.Answer.Status != 0 {
		t.Errorf("the metadata address: %s", c.Replayed.Code)
	}
	for _, to := range []string{
		"{@Microsoft.KeyVault(SecretUri=" + secretURI + ")}", "https://evil.test/?x={@Microsoft.KeyVault(SecretUri=" + secretURI + ")}", "https://evil.test/{event}",
		"file:///etc/passwd", "https://", "/relative", "https://user:pw@evil.test/", "https://evil.test/%zz", "tunnel:///x",
	} {
		var faults settings.Faults
		if _, err := w.d.Replay(t.Context(), w.instance(), &rec, to, ""); !errors.As(err, &faults) || faults[0].Field != "to" {
			t.Errorf("%s: %v", to, err)
		}
	}
	w.hub("chat")
	var faults settings.Faults
	if _, err := w.d.Replay(t.Context(), w.instance(), &rec, "", ""); !errors.As(err, &faults) {
		t.Errorf("without a rule: %v", err)
	}
}

func TestOnlyEventsUpToTheBoundCanBeRepeated(t *testing.T) {
	w, h := oneHandler(t, nil)
	w.hub("chat", all(h.URL))
	for _, size := range []int{trace.MaxContent, trace.MaxContent + 1} {
		if _, err := w.send(w.session(), strings.Repeat("x", size)); err != nil {
			t.Fatal(err)
		}
		rec := w.record(trace.Delivery)
		if kept := rec.Content() != nil; kept != (size <= trace.MaxContent) || rec.Bytes != size {
			t.Errorf("%d bytes: kept %v", size, kept)
		}
	}
	rec := w.record(trace.Delivery)
	if _, err := w.d.Replay(t.Context(), w.instance(), &rec, "", ""); err == nil {
		t.Error("an event without content was repeated")
	}
}

func TestSyntheticEventsTakeTheRoadOfAllEvents(t *testing.T) {
	w, h := oneHandler(t, reply("text/plain", "well"))
	w.hub("chat", with(h.URL+"/{event}", "api://x"))
	text := "hello"
	for _, tc := range []struct {
		name              string
		what              trace.Synthetic
		path, body, ctype string
		id, user          string
	}{
		{"a text", trace.Synthetic{Data: &text, User: "ann"}, "/message", "hello", "text/plain; charset=utf-8", "1", "ann"},
		{"JSON", trace.Synthetic{Event: "order", JSON: json.RawMessage(`{"n":1}`)}, "/order", `{"n":1}`, "application/json", "1", ""},
		{"binary", trace.Synthetic{Base64: []byte{0, 255}, Connection: "c-1"}, "/message", "\x00\xff", "application/octet-stream", "1", ""},
		{"nothing", trace.Synthetic{}, "/message", "", "text/plain; charset=utf-8", "1", ""},
		{"connected", trace.Synthetic{System: true, Event: "connected"}, "/connected", "{}", vJSON[0], "1", ""},
		{"disconnected", trace.Synthetic{System: true, Event: "disconnected"}, "/disconnected", `{"reason":""}`, vJSON[0], "1", ""},
		{"disconnected with a reason", trace.Synthetic{System: true, Event: "disconnected", JSON: json.RawMessage(`{"reason":"x"}`)}, "/disconnected", `{"reason":"x"}`, vJSON[0], "1", ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			h.mu.Lock()
			h.got = nil
			h.mu.Unlock()
			out, err := w.d.Trigger(t.Context(), w.instance(), "chat", &tc.what)
			if err != nil {
				t.Fatal(err)
			}
			got := h.event(t)
			if got.path != tc.path || got.body != tc.body || got.header.Get("Content-Type") != tc.ctype || got.header.Get("Ce-Id") != tc.id || got.header.Get("Ce-Userid") != tc.user {
				t.Errorf("got %+v", got)
			}
			if got.header.Get("Authorization") == "" || got.header.Get("Ce-Signature") == "" {
				t.Error("it does not prove who sends it")
			}
			if tc.what.Connection != "" && got.header.Get("Ce-Connectionid") != tc.what.Connection {
				t.Errorf("connection %s", got.header.Get("Ce-Connectionid"))
			}
			if out.Record.Code != reason.Delivered || !out.Record.Synthetic || out.Answer == nil || out.Answer.Status != 200 {
				t.Errorf("told %+v", out)
			}
			if !tc.what.System && string(out.Answer.Body) != "well" {
				t.Errorf("answer %q", out.Answer.Body)
			}
		})
	}
	connect, err := w.d.Trigger(t.Context(), w.instance(), "chat", &trace.Synthetic{System: true, Event: "connect", User: "ann"})
	if err != nil || connect.Record.Code != reason.HandlerResponseInvalid || connect.Record.EventID != "0" { // "well" is no answer to connect
		t.Errorf("connect: %+v, %v", connect, err)
	}
	w.hub("chat")
	alone, err := w.d.Trigger(t.Context(), w.instance(), "chat", &trace.Synthetic{})
	if err != nil || alone.Record.Code != reason.NoHandler || alone.Answer != nil {
		t.Errorf("without a rule: %+v, %v", alone, err)
	}
}

func TestSyntheticEventsThatCannotBe(t *testing.T) {
	w := newWorld(t, quick())
	text := "x"
	for _, tc := range []struct {
		hub   string
		what  trace.Synthetic
		field string
	}{
		{"1x", trace.Synthetic{}, "hub"},
		{"chat", trace.Synthetic{Event: "a b"}, "event"},
		{"chat", trace.Synthetic{Event: strings.Repeat("x", 129)}, "event"},
		{"chat", trace.Synthetic{System: true, Event: "message"}, "event"},
		{"chat", trace.Synthetic{System: true}, "event"},
		{"chat", trace.Synthetic{System: true, Event: "connected", Data: &text}, "data"},
		{"chat", trace.Synthetic{User: "a\r\nb"}, "userId"},
		{"chat", trace.Synthetic{User: strings.Repeat("u", maxUserID+1)}, "userId"},
		{"chat", trace.Synthetic{Connection: "a b"}, "connectionId"},
		{"chat", trace.Synthetic{JSON: json.RawMessage(`{`)}, "json"},
	} {
		var faults settings.Faults
		if _, err := w.d.Trigger(t.Context(), w.instance(), tc.hub, &tc.what); !errors.As(err, &faults) || faults[0].Field != tc.field {
			t.Errorf("%+v: %v", tc, err)
		}
	}
	if n := len(w.trace.Records(trace.Filter{Instance: "default"})); n != 0 {
		t.Errorf("%d records of what was refused", n)
	}
}

func TestTheHeadersOfARecordProveNothing(t *testing.T) {
	w, h := oneHandler(t, nil)
	w.hub("chat", with(h.URL, "api://x"))
	if _, err := w.send(w.session(), "hi"); err != nil {
		t.Fatal(err)
	}
	rec := w.record(trace.Delivery)
	header := map[string][]string(w.d.Header(w.instance(), &rec)) // its names are as CloudEvents spell them
	if header["ce-hub"][0] != "chat" || header["ce-connectionId"][0] != connectionID || header["Authorization"] != nil || header["ce-signature"] != nil {
		t.Errorf("headers %v", header)
	}
}

func TestARecordShowsWhereTheTimeWent(t *testing.T) {
	w := newWorld(t, quick())
	h := newSink(t, reply("text/plain", strings.Repeat("ä", trace.MaxAnswer)))
	w.hub("chat", all(strings.Replace(h.URL, "127.0.0.1", "localhost", 1)))
	w.edit(func(in *settings.Instance) { in.Extensions.SkipLoopbackValidation = true })
	if _, err := w.send(w.session(), "hi"); err != nil {
		t.Fatal(err)
	}
	rec := w.record(trace.Delivery)
	var names []string
	var sum time.Duration
	for _, s := range rec.Stages {
		names = append(names, s.Name+" "+s.Outcome)
		sum += s.Duration
	}
	want := "match ok, secret skipped, validation skipped, token skipped, resolve ok, connect ok, call ok, answer ok"
	if got := strings.Join(names, ", "); got != want || sum > rec.Duration {
		t.Errorf("stages %s, together %v of %v", got, sum, rec.Duration)
	}
	if len(rec.Answer) > trace.MaxAnswer || !strings.HasPrefix(rec.Answer, "ää") || rec.AnswerBytes != 2*trace.MaxAnswer || rec.AnswerType != "text/plain" {
		t.Errorf("answer of %d bytes, %d, %s", len(rec.Answer), rec.AnswerBytes, rec.AnswerType)
	}
}

// A secret that the cut of the answer's beginning goes through must not be shown in part.
func TestTheBeginningOfAnAnswerHoldsNoHalfOfASecret(t *testing.T) {
	w := newWorld(t, quick())
	h := newSink(t, func(w http.ResponseWriter, r *http.Request, _ string) {
		w.Header().Set("Content-Type", "text/plain")
		_, _ = w.Write(append(bytes.Repeat([]byte("x"), trace.MaxAnswer-20), r.Header.Get("Authorization")...))
	})
	w.hub("chat", with(h.URL, "api://x"))
	if _, err := w.send(w.session(), "hi"); err != nil {
		t.Fatal(err)
	}
	token := makeToken("api://x").Raw
	if rec := w.record(trace.Delivery); strings.Contains(rec.Answer, token[:8]) {
		t.Errorf("the answer ends in %q", rec.Answer[trace.MaxAnswer-40:])
	}
}

// A record counts with the length of its texts, so it may not keep what they were cut from alive.
func TestALongAnswerDoesNotStayInMemory(t *testing.T) {
	const events, long = 100, 80 << 10
	w := newWorld(t, quick())
	h := newSink(t, func(w http.ResponseWriter, _ *http.Request, _ string) {
		w.Header().Set("Content-Type", "text/plain")
		_, _ = w.Write(bytes.Repeat([]byte("x"), long))
	})
	w.hub("chat", all(h.URL))
	s := w.session()
	inUse := func() int {
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return int(m.HeapAlloc)
	}
	if _, err := w.send(s, "hi"); err != nil {
		t.Fatal(err)
	}
	before := inUse()
	for range events {
		if _, err := w.send(s, "hi"); err != nil {
			t.Fatal(err)
		}
	}
	if more := inUse() - before; more > events*long/2 {
		t.Errorf("%d events with answers of %d bytes keep %d bytes alive", events, long, more)
	}
	if rec := w.record(trace.Delivery); len(rec.Answer) != trace.MaxAnswer || rec.AnswerBytes != long {
		t.Errorf("%d bytes of %d were kept", len(rec.Answer), rec.AnswerBytes)
	}
}

// The classic faults that are repeated, or waited for, before they are one; the others are in the root package
// (TestClassicFaults).
func TestClassicFaultsThatAreRepeated(t *testing.T) {
	last := func(w *world) (rec trace.Record, failed string) {
		rec = w.record(trace.Delivery)
		for _, s := range rec.Stages {
			if s.Outcome == trace.Failed {
				failed = s.Name
			}
		}
		return rec, failed
	}
	skip := func(in *settings.Instance) { in.Extensions.SkipLoopbackValidation = true }

	t.Run("DNS failure", func(t *testing.T) {
		opt := quick()
		opt.Egress = egress.New(egress.Policy{AllowLoopback: true, Resolver: names(t, nil)})
		w := newWorld(t, opt)
		w.hub("chat", all("http://nowhere.test/"))
		w.failed(second(w.send(w.session(), "hi")), reason.DNSFailure)
		if rec, failed := last(w); rec.Code != reason.DNSFailure || failed != "validation" {
			t.Errorf("%s at %s", rec.Code, failed)
		}
		if rec := w.record(trace.Validation); rec.Stages[len(rec.Stages)-1].Name != "resolve" || rec.Attempts != 4 {
			t.Errorf("%+v", rec)
		}
	})
	t.Run("timeout", func(t *testing.T) {
		opt := quick()
		opt.Budget = 100 * time.Millisecond
		w := newWorld(t, opt)
		release := make(chan struct{})
		h := newSink(t, func(http.ResponseWriter, *http.Request, string) { <-release })
		defer close(release)
		w.hub("chat", all(h.URL))
		w.edit(skip)
		w.failed(second(w.send(w.session(), "hi")), reason.Timeout)
		if rec, failed := last(w); rec.Code != reason.Timeout || failed != "call" {
			t.Errorf("%s at %s", rec.Code, failed)
		}
	})
	t.Run("handler 5xx after retries", func(t *testing.T) {
		w := newWorld(t, quick())
		h := newSink(t, func(w http.ResponseWriter, _ *http.Request, _ string) {
			w.WriteHeader(http.StatusBadGateway)
			_, _ = w.Write([]byte("the database is away"))
		})
		w.hub("chat", all(h.URL))
		w.edit(skip)
		w.failed(second(w.send(w.session(), "hi")), reason.HandlerError)
		rec, failed := last(w)
		if rec.Code != reason.HandlerError || failed != "call" || rec.Attempts != 4 || rec.Status != 502 || rec.Answer != "the database is away" || rec.Operation != trace.UnexpectedResponse {
			t.Errorf("%+v at %s", rec, failed)
		}
	})
	t.Run("connection refused", func(t *testing.T) {
		w := newWorld(t, quick())
		h := newSink(t, nil)
		h.Close()
		w.hub("chat", all(h.URL))
		w.edit(skip)
		w.failed(second(w.send(w.session(), "hi")), reason.ConnectFailure)
		if rec, failed := last(w); rec.Code != reason.ConnectFailure || failed != "connect" || rec.Operation != trace.EventNotDelivered {
			t.Errorf("%s at %s", rec.Code, failed)
		}
	})
}

func TestAHandlersOwnReasonIsShown(t *testing.T) {
	for challenge, want := range map[string]reason.Code{
		`Bearer realm="h", error="invalid_token", error_description="wrong_audience: audience is 'a', want 'b'"`: reason.WrongAudience,
		`Bearer error="invalid_token", error_description="The audience 'a' is invalid"`:                          reason.WrongAudience,
		`Bearer error="invalid_token", error_description="The token expired at '01/01/2026 00:00:00'"`:           reason.Expired,
		`Bearer error="invalid_token", error_description="The issuer 'x' is invalid"`:                            reason.IssuerMismatch,
		`Bearer error="invalid_token", error_description="The signature key was not found"`:                      reason.UnknownKey,
		`Bearer error="invalid_token", error_description="delivered: all is well"`:                               reason.HandlerUnauthorized, // no code of a receiver
		`Bearer error="invalid_token", error_description="made_up_code: x"`:                                      reason.HandlerUnauthorized,
		`Bearer`: reason.HandlerUnauthorized,
	} {
		w, _ := oneHandler(t, func(w http.ResponseWriter, _ *http.Request, _ string) {
			w.Header().Set("WWW-Authenticate", challenge)
			w.WriteHeader(http.StatusUnauthorized)
		})
		w.failed(second(w.send(w.session(), "hi")), reason.HandlerUnauthorized) // what clients are answered by stays
		if rec := w.record(trace.Delivery); rec.Code != want {
			t.Errorf("%s: %s, want %s", challenge, rec.Code, want)
		}
	}
}
