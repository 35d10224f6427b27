package guard_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"tabard/guard"
	"tabard/guard/reason"
)

// A rig is a guarded handler with its issuer.
type rig struct {
	t      *testing.T
	issuer *testIssuer
	clock  *clock
	guard  *guard.Guard
	http.Handler
	token string // a good one
}

func newRig(t *testing.T, opt guard.Options, h guard.Handlers) *rig {
	t.Helper()
	is, c := newIssuer(t), newClock()
	if opt.Log == nil {
		opt.Log = slog.New(slog.DiscardHandler)
	}
	g, err := guard.New(is.trust(c), opt)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(g.Close)
	return &rig{t: t, issuer: is, clock: c, guard: g, Handler: g.Events(h), token: is.token(is.claims(c))}
}

// event makes a request as the service sends it. Pairs change or, with an empty value, remove headers.
func (g *rig) event(kind, name, body string, pairs ...string) *http.Request {
	r := httptest.NewRequest(http.MethodPost, "/eventhandler", strings.NewReader(body))
	for k, v := range map[string]string{
		"WebHook-Request-Origin": "svc.example", "ce-specversion": "1.0", "ce-awpsversion": "1.0", "ce-type": "azure.webpubsub." + kind + "." + name,
		"ce-eventName": name, "ce-hub": "chat", "ce-connectionId": "c1", "ce-id": "1", "ce-source": "/hubs/chat/client/c1", "ce-time": "2026-11-24T09:00:00Z",
		"ce-userId": "alice", "Content-Type": "text/plain; charset=utf-8", "Authorization": "Bearer " + g.token,
	} {
		r.Header.Set(k, v)
	}
	for i := 0; i < len(pairs); i += 2 {
		if r.Header.Del(pairs[i]); pairs[i+1] != "" {
			r.Header.Set(pairs[i], pairs[i+1])
		}
	}
	return r
}

func (g *rig) do(r *http.Request) *httptest.ResponseRecorder {
	w := httptest.NewRecorder()
	g.ServeHTTP(w, r)
	return w
}

// refused checks status and code, in the header's words and in the body.
func refused(t *testing.T, w *httptest.ResponseRecorder, status int, code reason.Code) {
	t.Helper()
	var body struct {
		Error struct{ Code, Message, Fix string }
	}
	if err := json.Unmarshal(w.Body.Bytes(), &body); err != nil || w.Code != status || body.Error.Code != string(code) || body.Error.Message == "" {
		t.Errorf("answered %d %s, want %d %s", w.Code, w.Body, status, code)
	}
	if challenge := w.Header().Get("WWW-Authenticate"); (status == 401 || status == 403) && !strings.Contains(challenge, string(code)) {
		t.Errorf("WWW-Authenticate is %q, want %s in it", challenge, code)
	}
}

func TestEventsReachTheApplicationsFunctions(t *testing.T) {
	var log []string
	g := newRig(t, guard.Options{}, guard.Handlers{
		Connect: func(_ context.Context, c *guard.Connect) (guard.Accept, error) {
			log = append(log, fmt.Sprint("connect ", c.ConnectionID, c.Claims["sub"], c.Query["id"], c.Subprotocols, c.Caller.ObjectID))
			return guard.Accept{UserID: "bob", Groups: []string{"g"}, Roles: []string{}, Subprotocol: "json.webpubsub.azure.v1"}.WithStateJSON(map[string]int{"n": 1}), nil
		},
		Connected: func(_ context.Context, e *guard.Event) error { log = append(log, "connected "+e.UserID); return nil },
		User: func(_ context.Context, e *guard.Event) (guard.Reply, error) {
			var state struct{ N int }
			if err := e.StateJSON(&state); err != nil {
				return guard.Reply{}, err
			}
			log = append(log, fmt.Sprint(e.Name, " ", e.UserID, " ", e.Text(), " ", e.ContentType, " ", state.N, " ", e.Metadata["k"]))
			return guard.JSON(map[string]string{"echo": e.Text()}).WithState(""), nil
		},
		Disconnected: func(_ context.Context, d *guard.Disconnected) error {
			log = append(log, "disconnected "+d.Reason)
			return nil
		},
	})
	w := g.do(g.event("sys", "connect", `{"claims":{"sub":["alice"]},"query":{"id":["42"]},"headers":{},"subprotocols":["json.webpubsub.azure.v1"],"clientCertificates":[]}`, "Content-Type", "application/json", "ce-id", "0"))
	var accept map[string]any
	if err := json.Unmarshal(w.Body.Bytes(), &accept); err != nil || w.Code != 200 || accept["userId"] != "bob" || accept["subprotocol"] != "json.webpubsub.azure.v1" || fmt.Sprint(accept["groups"], accept["roles"]) != "[g] []" {
		t.Errorf("connect: %d %s", w.Code, w.Body)
	}
	state := w.Header().Get("ce-connectionState")
	if w := g.do(g.event("sys", "connected", "{}")); w.Code != 204 {
		t.Errorf("connected: %d %s", w.Code, w.Body)
	}
	w = g.do(g.event("user", "greet", "hello", "ce-connectionState", state, "x-webpubsub-metadata-k", "v"))
	if w.Code != 200 || w.Body.String() != `{"echo":"hello"}` || !strings.HasPrefix(w.Header().Get("Content-Type"), "application/json") {
		t.Errorf("user event: %d %s", w.Code, w.Body)
	}
	if cleared, ok := w.Header()["Ce-Connectionstate"]; !ok || cleared[0] != "" {
		t.Errorf("the state was not cleared: %v", w.Header())
	}
	if w := g.do(g.event("sys", "disconnected", `{"reason":"bye"}`)); w.Code != 204 {
		t.Errorf("disconnected: %d %s", w.Code, w.Body)
	}
	want := []string{"connect c1[alice] [42] [json.webpubsub.azure.v1]" + principal, "connected alice", "greet alice hello text/plain 1 v", "disconnected bye"}
	if fmt.Sprint(log) != fmt.Sprint(want) {
		t.Errorf("heard %q\nwant %q", log, want)
	}
}

func TestFunctionsThatAreMissingAccept(t *testing.T) {
	g := newRig(t, guard.Options{}, guard.Handlers{})
	for _, r := range []*http.Request{g.event("sys", "connect", "{}"), g.event("sys", "connected", "{}"), g.event("user", "x", "hi"), g.event("sys", "disconnected", "{}"), g.event("sys", "joined", "{}")} {
		if w := g.do(r); w.Code != http.StatusNoContent || w.Body.Len() > 0 {
			t.Errorf("%s: %d %s", r.Header.Get("ce-type"), w.Code, w.Body)
		}
	}
}

func TestErrorsOfTheApplicationAreAnswered(t *testing.T) {
	var log bytes.Buffer
	var answer error
	g := newRig(t, guard.Options{Log: slog.New(slog.NewTextHandler(&log, nil))}, guard.Handlers{
		Connect: func(context.Context, *guard.Connect) (guard.Accept, error) { return guard.Accept{}, answer },
		User: func(context.Context, *guard.Event) (guard.Reply, error) {
			return guard.Reply{ContentType: "text/plain", Body: []byte("x"), Metadata: map[string]string{"k": "line\nbreak"}}, nil
		},
	})
	answer = guard.Rejectf(403, "not on a %s", "Tuesday")
	if w := g.do(g.event("sys", "connect", "{}")); w.Code != 403 || w.Body.String() != "not on a Tuesday" {
		t.Errorf("a rejection: %d %s", w.Code, w.Body)
	}
	answer = errors.New("the database at 10.0.0.1 is down")
	w := g.do(g.event("sys", "connect", "{}"))
	refused(t, w, 500, reason.HandlerFailedOnEvent)
	if strings.Contains(w.Body.String(), "10.0.0.1") || !strings.Contains(log.String(), "10.0.0.1") {
		t.Errorf("the error's text belongs into the log (%s), not into the answer (%s)", log.String(), w.Body)
	}
	answer = guard.Reject(200, "accepted after all?")
	refused(t, g.do(g.event("sys", "connect", "{}")), 500, reason.HandlerReplyInvalid)
	refused(t, g.do(g.event("user", "x", "hi")), 500, reason.HandlerReplyInvalid)
}

func TestRequestsWithoutAGoodTokenNeverReachTheApplication(t *testing.T) {
	g := newRig(t, guard.Options{}, guard.Handlers{User: func(context.Context, *guard.Event) (guard.Reply, error) {
		t.Error("the application was called")
		return guard.Reply{}, nil
	}})
	other := g.issuer.token(with(g.issuer.claims(g.clock), "aud", "api://other"))
	for _, tc := range []struct {
		name   string
		change func(*http.Request)
		code   reason.Code
	}{
		{"no header", func(r *http.Request) { r.Header.Del("Authorization") }, reason.TokenMissing},
		{"an empty one", func(r *http.Request) { r.Header.Set("Authorization", "Bearer ") }, reason.TokenMissing},
		{"two", func(r *http.Request) { r.Header.Add("Authorization", "Bearer "+g.token) }, reason.SeveralAuthorizationHeaders},
		{"another scheme", func(r *http.Request) { r.Header.Set("Authorization", "Basic "+g.token) }, reason.AuthorizationSchemeNotBearer},
		{"a token in the query alone", func(r *http.Request) { r.Header.Del("Authorization"); r.URL.RawQuery = "access_token=" + g.token }, reason.TokenMissing},
		{"16 KiB and more", func(r *http.Request) {
			r.Header.Set("Authorization", "Bearer "+strings.Repeat("x", guard.MaxTokenSize+1))
		}, reason.TokenTooLarge},
		{"something behind the token", func(r *http.Request) { r.Header.Set("Authorization", "Bearer "+g.token+" x") }, reason.TokenMalformed},
		{"another audience", func(r *http.Request) { r.Header.Set("Authorization", "Bearer "+other) }, reason.WrongAudience},
	} {
		t.Run(tc.name, func(t *testing.T) {
			r := g.event("user", "x", "hi")
			tc.change(r)
			w := g.do(r)
			refused(t, w, http.StatusUnauthorized, tc.code)
			if strings.Contains(w.Body.String()+w.Header().Get("WWW-Authenticate"), g.token[len(g.token)-20:]) {
				t.Error("the answer repeats the token")
			}
		})
	}
	r := g.event("user", "x", "hi")
	r.Header.Set("Authorization", "bearer  "+g.token) // RFC 7235: the scheme ignores case
	g.Handler = g.guard.Events(guard.Handlers{})
	if w := g.do(r); w.Code != http.StatusNoContent {
		t.Errorf("a lower-case scheme: %d %s", w.Code, w.Body)
	}
}

func TestHiddenReasonsReachTheObserverAlone(t *testing.T) {
	var seen guard.Verification
	g := newRig(t, guard.Options{HideReasons: true, Observe: func(v guard.Verification) { seen = v }}, guard.Handlers{})
	w := g.do(g.event("user", "x", "hi", "Authorization", "Bearer "+g.issuer.token(with(g.issuer.claims(g.clock), "aud", "api://other"))))
	if w.Code != 401 || strings.Contains(w.Body.String()+w.Header().Get("WWW-Authenticate"), "audience") {
		t.Errorf("%d %s %s", w.Code, w.Header(), w.Body)
	}
	if seen.Err == nil || seen.Err.Code != reason.WrongAudience || seen.Method != "POST" || seen.Path != "/eventhandler" || len(seen.Checks) < 3 {
		t.Errorf("observed %+v", seen)
	}
}

func TestRequestsThatAreNoEventsAreRefused(t *testing.T) {
	g := newRig(t, guard.Options{MaxBody: 100}, guard.Handlers{User: func(_ context.Context, e *guard.Event) (guard.Reply, error) { return guard.Text(e.Text()), nil }})
	for _, tc := range []struct {
		name    string
		request func() *http.Request
		status  int
		code    reason.Code
	}{
		{"a header is missing", func() *http.Request { return g.event("user", "x", "hi", "ce-hub", "") }, 400, reason.EventMalformed},
		{"another version", func() *http.Request { return g.event("user", "x", "hi", "ce-awpsversion", "2.0") }, 400, reason.EventMalformed},
		{"type and name disagree", func() *http.Request { return g.event("user", "x", "hi", "ce-eventName", "y") }, 400, reason.EventMalformed},
		{"a header twice", func() *http.Request {
			r := g.event("user", "x", "hi")
			r.Header.Add("ce-connectionId", "c2")
			return r
		}, 400, reason.EventMalformed},
		{"not an event at all", func() *http.Request { return g.event("user", "x", "hi", "ce-type", "", "ce-awpsversion", "") }, 400, reason.EventMalformed},
		{"a body over the limit", func() *http.Request { return g.event("user", "x", strings.Repeat("b", 101)) }, 413, reason.BodyTooLarge},
		{"connect with a body that is no JSON", func() *http.Request { return g.event("sys", "connect", "{") }, 204, ""},
		{"another method", func() *http.Request {
			r := g.event("user", "x", "hi")
			r.Method = http.MethodPut
			return r
		}, 405, reason.MethodNotAllowed},
	} {
		t.Run(tc.name, func(t *testing.T) {
			w := g.do(tc.request())
			if tc.code == "" {
				if w.Code != tc.status {
					t.Errorf("%d %s", w.Code, w.Body)
				}
				return
			}
			refused(t, w, tc.status, tc.code)
		})
	}
	if w := g.do(g.event("user", "x", strings.Repeat("b", 100))); w.Code != 200 || w.Body.Len() != 100 {
		t.Errorf("a body at the limit: %d %s", w.Code, w.Body)
	}
}

func TestTheEndpointValidationIsAnswered(t *testing.T) {
	for _, tc := range []struct {
		name, method, origin string
		allowed              []string
		demand               bool
		token                string // "" none, "good" or another
		status               int
		want                 string
	}{
		{"any origin by default", "OPTIONS", "svc.example", nil, false, "", 200, "*"},
		{"GET where OPTIONS got lost", "GET", "svc.example", nil, false, "", 200, "*"},
		{"an allowed origin, whatever its case", "OPTIONS", "SVC.example", []string{"svc.example"}, false, "", 200, "SVC.example"},
		{"given as a URL with a port", "OPTIONS", "svc.example", []string{"https://svc.example:8080"}, false, "", 200, "svc.example"},
		{"one of several in one header", "OPTIONS", "other.example, svc.example", []string{"svc.example"}, false, "", 200, "svc.example"},
		{"an origin that is not allowed", "OPTIONS", "evil.example", []string{"svc.example"}, false, "", 403, ""},
		{"a token is demanded", "OPTIONS", "svc.example", nil, true, "", 401, ""},
		{"a token is demanded and there", "OPTIONS", "svc.example", nil, true, "good", 200, "*"},
		{"a bad token although none is demanded", "OPTIONS", "svc.example", nil, false, "bad", 401, ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			g := newRig(t, guard.Options{AllowedOrigins: tc.allowed, TokenOnValidation: tc.demand}, guard.Handlers{})
			r := httptest.NewRequest(tc.method, "/eventhandler", nil)
			r.Header.Set("WebHook-Request-Origin", tc.origin)
			r.Header.Set("ce-awpsversion", "1.0")
			switch tc.token {
			case "good":
				r.Header.Set("Authorization", "Bearer "+g.token)
			case "bad":
				r.Header.Set("Authorization", "Bearer nonsense")
			}
			w := g.do(r)
			if w.Code != tc.status || w.Header().Get("WebHook-Allowed-Origin") != tc.want {
				t.Errorf("%d %v", w.Code, w.Header())
			}
		})
	}
}

func TestTheSignatureIsCheckedIfKeysAreGiven(t *testing.T) {
	// The vector of the contract (event-handlers.md 4.1).
	const (
		id        = "0f5a6b6f2c7e4a54b0d1c7a0e3f4d5b6"
		primary   = "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789ABCDEFGH"
		signature = "sha256=5df1dae6dae694d8b33f4be6e32838c9b84f1195e93eb00887ef373743b7d370,sha256=eb7e790fa9fb1313260fb06fdc0cbf1ef065f91283e0939244e92c738020d493"
	)
	g := newRig(t, guard.Options{AccessKeys: []string{primary}}, guard.Handlers{})
	for _, tc := range []struct {
		name, id, signature string
		code                reason.Code
	}{
		{"one of two values fits", id, signature, ""},
		{"in capitals, with a space", id, "sha256=EB7E790FA9FB1313260FB06FDC0CBF1EF065F91283E0939244E92C738020D493, " + strings.ToUpper(signature[7:71]), reason.EventSignatureInvalid},
		{"of another connection", "another", signature, reason.EventSignatureInvalid},
		{"cut short", id, signature[:70], reason.EventSignatureInvalid},
		{"none", id, "", reason.EventSignatureMissing},
		{"nonsense", id, "sha256=zz,,;", reason.EventSignatureInvalid},
	} {
		t.Run(tc.name, func(t *testing.T) {
			w := g.do(g.event("user", "x", "hi", "ce-connectionId", tc.id, "ce-signature", tc.signature))
			if tc.code == "" {
				if w.Code != http.StatusNoContent {
					t.Errorf("%d %s", w.Code, w.Body)
				}
				return
			}
			refused(t, w, http.StatusUnauthorized, tc.code)
		})
	}
}

func TestAProtectedHandlerCanReadTheBodyAgain(t *testing.T) {
	g := newRig(t, guard.Options{}, guard.Handlers{})
	g.Handler = g.guard.Protect(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		event := "no event"
		if e := guard.EventFrom(r.Context()); e != nil {
			event = e.Name
		}
		fmt.Fprint(w, event, " ", string(body), " ", guard.ClaimsFrom(r.Context()).ObjectID == principal, " ", err)
	}))
	if w := g.do(g.event("user", "x", "hi")); w.Body.String() != "x hi true <nil>" {
		t.Errorf("an event: %s", w.Body)
	}
	r := httptest.NewRequest("GET", "/any", nil)
	r.Header.Set("Authorization", "Bearer "+g.token)
	if w := g.do(r); w.Body.String() != "no event  true <nil>" {
		t.Errorf("another request: %s", w.Body)
	}
	if guard.ClaimsFrom(context.Background()) != nil || guard.EventFrom(context.Background()) != nil {
		t.Error("something without a guard")
	}
}

func TestARepeatedEventGetsTheFirstAnswerAgain(t *testing.T) {
	var calls atomic.Int32
	status := http.StatusOK
	g := newRig(t, guard.Options{Duplicates: &guard.Duplicates{Age: time.Minute}}, guard.Handlers{User: func(_ context.Context, e *guard.Event) (guard.Reply, error) {
		n := calls.Add(1)
		if status != http.StatusOK {
			return guard.Reply{}, guard.Reject(status, "no")
		}
		return guard.Textf("call %d of %s", n, e.ID).WithState(fmt.Sprint(n)), nil
	}})
	first := g.do(g.event("user", "x", "hi"))
	again := g.do(g.event("user", "x", "hi"))
	if calls.Load() != 1 || again.Body.String() != first.Body.String() || again.Code != first.Code || again.Header().Get("ce-connectionState") != "1" {
		t.Errorf("%d calls; %d %s, then %d %s", calls.Load(), first.Code, first.Body, again.Code, again.Body)
	}
	for name, r := range map[string]*http.Request{
		"another id":         g.event("user", "x", "hi", "ce-id", "2"),
		"another connection": g.event("user", "x", "hi", "ce-source", "/hubs/chat/client/c2"),
		"another caller":     g.event("user", "x", "hi", "Authorization", "Bearer "+g.issuer.token(with(g.issuer.claims(g.clock), "oid", client, "sub", client))),
	} {
		before := calls.Load()
		if g.do(r); calls.Load() != before+1 {
			t.Errorf("%s was taken for a repetition", name)
		}
	}
	g.clock.advance(61 * time.Second)
	before := calls.Load()
	if g.do(g.event("user", "x", "hi")); calls.Load() != before+1 {
		t.Error("an answer outlived its age")
	}
	for _, tc := range []struct {
		status     int
		remembered bool
	}{{400, true}, {403, true}, {408, false}, {500, false}, {503, false}} {
		status = tc.status
		id := fmt.Sprint("s", tc.status)
		before := calls.Load()
		g.do(g.event("user", "x", "hi", "ce-id", id))
		g.do(g.event("user", "x", "hi", "ce-id", id))
		if remembered := calls.Load() == before+1; remembered != tc.remembered {
			t.Errorf("an answer of %d was remembered: %t, want %t", tc.status, remembered, tc.remembered)
		}
	}
}

func TestARepetitionWaitsForTheFirst(t *testing.T) {
	var calls atomic.Int32
	entered, release := make(chan struct{}), make(chan struct{})
	g := newRig(t, guard.Options{Duplicates: &guard.Duplicates{}}, guard.Handlers{User: func(context.Context, *guard.Event) (guard.Reply, error) {
		calls.Add(1)
		close(entered)
		<-release
		return guard.Text("once"), nil
	}})
	var wg sync.WaitGroup
	answers := make(chan string, 5)
	wg.Go(func() { answers <- g.do(g.event("user", "x", "hi")).Body.String() })
	<-entered
	for range 4 {
		wg.Go(func() { answers <- g.do(g.event("user", "x", "hi")).Body.String() })
	}
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	refused(t, g.do(g.event("user", "x", "hi").WithContext(gone)), http.StatusServiceUnavailable, reason.DuplicateStillRunning)
	close(release)
	wg.Wait()
	for range 5 {
		if got := <-answers; got != "once" {
			t.Errorf("answered %q", got)
		}
	}
	if calls.Load() != 1 {
		t.Errorf("%d calls", calls.Load())
	}
}

func TestRememberedAnswersAreBounded(t *testing.T) {
	g := newRig(t, guard.Options{Duplicates: &guard.Duplicates{Entries: 10, Bytes: 20_000}}, guard.Handlers{User: func(_ context.Context, e *guard.Event) (guard.Reply, error) {
		return guard.Text(strings.Repeat("x", len(e.Data))), nil
	}})
	for i := range 30 {
		g.do(g.event("user", "x", "hi", "ce-id", fmt.Sprint(i)))
	}
	if n := g.guard.Kept(); n > 10 {
		t.Errorf("%d answers are remembered, 10 at most", n)
	}
	for i := range 30 {
		g.do(g.event("user", "x", strings.Repeat("y", 4000), "ce-id", fmt.Sprint("large", i)))
	}
	if n := g.guard.Kept(); n > 4 {
		t.Errorf("%d answers of 4 kB are remembered in 20 kB", n)
	}
	g.do(g.event("user", "x", strings.Repeat("y", 6000), "ce-id", "over a quarter"))
	if w := g.do(g.event("user", "x", "changed", "ce-id", "over a quarter")); w.Body.Len() != len("changed") {
		t.Error("an answer over a quarter of the memory was remembered")
	}
}

func TestAPanicLeavesNoAnswerBehind(t *testing.T) {
	var calls int
	g := newRig(t, guard.Options{Duplicates: &guard.Duplicates{}}, guard.Handlers{User: func(context.Context, *guard.Event) (guard.Reply, error) {
		if calls++; calls == 1 {
			panic("at the first")
		}
		return guard.Text("fine"), nil
	}})
	func() {
		defer func() { _ = recover() }()
		g.do(g.event("user", "x", "hi"))
	}()
	if w := g.do(g.event("user", "x", "hi")); w.Body.String() != "fine" {
		t.Errorf("after a panic: %d %s", w.Code, w.Body)
	}
}

func TestFaultsOfTheOptionsAreAllReported(t *testing.T) {
	_, err := guard.New(guard.Trust{}, guard.Options{Realm: "a\"b", AccessKeys: []string{""}, AllowedOrigins: []string{"*"}})
	for _, want := range []string{"Issuers", "Audiences", "Realm", "AccessKeys", "AllowedOrigins"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("no fault of %s in %v", want, err)
		}
	}
}
