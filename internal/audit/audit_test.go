package audit

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"tabard/internal/fabric"
	"tabard/internal/store"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// A world is a log on real state and a clock that stands still unless it is moved.
type world struct {
	*Log
	t   testing.TB
	now time.Time
	log bytes.Buffer
	st  *store.Store
}

func open(t testing.TB, edit ...func(*Options)) *world {
	t.Helper()
	f, err := fabric.Open(t.Context(), fabric.Options{DataDir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(f.Close)
	w := &world{t: t, now: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)}
	if w.st, err = store.Open(t.Context(), f, store.MasterKeyFile(t.TempDir()+"/key"), nil); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(w.st.Close)
	opt := Options{Now: func() time.Time { return w.now }, Log: slog.New(slog.NewTextHandler(&w.log, nil))}
	for _, e := range edit {
		e(&opt)
	}
	if w.Log, err = Open(t.Context(), w.st, opt); err != nil {
		t.Fatal(err)
	}
	return w
}

var someone = Caller{TenantID: "t", ObjectID: "o", AppID: "a"}

// do sends a request through Handler.
func (w *world) do(method, path string, caller Caller, next http.HandlerFunc) *httptest.ResponseRecorder {
	w.t.Helper()
	rec := httptest.NewRecorder()
	r := httptest.NewRequest(method, path, strings.NewReader("{}"))
	w.Handler(next, func(r *http.Request) *Request {
		return &Request{Caller: caller, Operation: "X/write", Resource: r.URL.Path}
	}).ServeHTTP(rec, r)
	return rec
}

func (w *world) all() []Record {
	w.t.Helper()
	var all []Record
	for after := ""; ; {
		found, next, err := w.Find(w.t.Context(), Query{Limit: 7, After: after})
		if err != nil {
			w.t.Fatal(err)
		}
		all = append(all, found...)
		if after = next; after == "" {
			return all
		}
	}
}

func answerWith(status int, body string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(status)
		fmt.Fprint(w, body)
	}
}

func TestAChangeIsRecordedBeforeItIsAnswered(t *testing.T) {
	w := open(t)
	rec := w.do("PUT", "/a?code=in-the-query", someone, func(rw http.ResponseWriter, r *http.Request) {
		From(r.Context()).Before(map[string]any{"size": 1})
		rw.Header().Set("X-Ms-Request-Id", "req")
		rw.WriteHeader(201)
		fmt.Fprint(rw, `{"size":`)
		if got := w.all(); len(got) != 0 {
			t.Error("recorded before it was known how it ended")
		}
		fmt.Fprint(rw, `2}`)
	})
	if rec.Code != 201 || rec.Body.String() != `{"size":2}` {
		t.Errorf("answered %d %s", rec.Code, rec.Body)
	}
	got := w.all()
	if len(got) != 1 {
		t.Fatalf("records are %+v", got)
	}
	r := got[0]
	if r.ID == "" || r.CorrelationID == "" {
		t.Error("no id")
	}
	r.ID, r.CorrelationID = "", ""
	text, _ := json.Marshal(r)
	const want = `{"id":"","time":"2026-01-02T03:04:05Z","caller":{"tenantId":"t","objectId":"o","appId":"a"},"address":"192.0.2.1","method":"PUT","path":"/a","operation":"X/write","resource":"/a","status":201,"requestId":"req","before":{"size":1},"after":{"size":2}}`
	if string(text) != want {
		t.Errorf("got  %s\nwant %s", text, want)
	}
}

func TestWhatIsRecordedOfARequest(t *testing.T) {
	for _, tc := range []struct {
		name, method  string
		next          http.HandlerFunc
		records       int
		before, after string
	}{
		{"reading is not a change", "GET", answerWith(200, `{}`), 0, "", ""},
		{"asking for options is none", "OPTIONS", answerWith(200, `{}`), 0, "", ""},
		{"the answer to an action is not what the resource is", "POST", answerWith(200, `{"anything":"secret"}`), 1, "", ""},
		{"unless it made one", "POST", answerWith(201, `{"name":"x"}`), 1, "", `{"name":"x"}`},
		{"what the route says counts more than the answer", "PATCH", func(w http.ResponseWriter, r *http.Request) {
			From(r.Context()).After(map[string]any{"a": 1})
			answerWith(204, "")(w, r)
		}, 1, "", `{"a":1}`},
		{"a handler that says nothing has said 200", "DELETE", func(http.ResponseWriter, *http.Request) {}, 1, "", ""},
		{"an answer that is no JSON", "PUT", answerWith(200, `<html>`), 1, "", ""},
		{"a failure changed nothing", "PUT", func(w http.ResponseWriter, r *http.Request) {
			From(r.Context()).Before(map[string]any{"a": 1})
			answerWith(409, `{"error":{"code":"Conflict"}}`)(w, r)
		}, 1, "", ""},
		{"a long document is left out", "PUT", answerWith(200, `{"a":"`+strings.Repeat("x", maxState-len(`{"a":""}`)+1)+`"}`), 1, "", fmt.Sprintf(`{"omitted":"%d bytes, more than %d"}`, maxState+1, maxState)},
		{"the longest one is not", "PUT", answerWith(200, `{"a":"`+strings.Repeat("x", maxState-len(`{"a":""}`))+`"}`), 1, "", `{"a":"` + strings.Repeat("x", maxState-len(`{"a":""}`)) + `"}`},
	} {
		t.Run(tc.name, func(t *testing.T) {
			w := open(t)
			w.do(tc.method, "/a", someone, tc.next)
			got := w.all()
			if len(got) != tc.records {
				t.Fatalf("%d records, want %d", len(got), tc.records)
			}
			if len(got) == 1 && (string(got[0].Before) != tc.before || string(got[0].After) != tc.after) {
				t.Errorf("before %.200s after %.200s", got[0].Before, got[0].After)
			}
		})
	}
}

func TestALongAnswerIsPassedOnAsItComes(t *testing.T) {
	w := open(t)
	rec := w.do("POST", "/a", someone, func(rw http.ResponseWriter, r *http.Request) {
		for range 3 {
			fmt.Fprint(rw, strings.Repeat("x", maxHeld/2))
		}
		if len(w.all()) != 1 {
			t.Error("a stream is recorded when it begins")
		}
	})
	if rec.Body.Len() != 3*(maxHeld/2) {
		t.Errorf("%d bytes arrived", rec.Body.Len())
	}
	rec = w.do("POST", "/b", someone, func(rw http.ResponseWriter, r *http.Request) {
		fmt.Fprint(rw, "a")
		if err := http.NewResponseController(rw).Flush(); err != nil {
			t.Error(err)
		}
	})
	if !rec.Flushed || rec.Body.String() != "a" || len(w.all()) != 2 {
		t.Error("a flushed answer did not leave")
	}
}

func TestSecretsAreElided(t *testing.T) {
	const canary = "c4n4ry"
	for _, doc := range []string{
		`{"primaryKey":"c4n4ry","secondaryConnectionString":"Endpoint=x;AccessKey=c4n4ry;"}`,
		`{"properties":{"tabard":{"identitySource":{"clientSecret":"c4n4ry","certificate":"c4n4ry"}}}}`,
		`{"passwordCredentials":[{"secretText":"c4n4ry"}]}`,
		`{"eventHandlers":[{"urlTemplate":"https://h/{hub}?code=c4n4ry&x=c4n4ry#f"},{"urlTemplate":"https://u:c4n4ry@h/"},{"urlTemplate":"https://h/?c4n4=c4n4ry"}]}`,
		`{"value":"c4n4ry"}`,
	} {
		if got := elide([]byte(doc)); got == nil || bytes.Contains(got, []byte(canary)) {
			t.Errorf("%s\nbecame %s", doc, got)
		}
	}
	for doc, want := range map[string]string{
		`{"urlTemplate":"https://h/{hub}?code={@Microsoft.KeyVault(SecretUri=https://v/secrets/n?x=1)}&e={event}&n="}`: "",
		`{"appRoles":[{"value":"a role"}]}`:               "",
		`{"n":12345678901234567890,"l":[1,"a"],"x":null}`: "",
		`{"name":"a=b?c=d"}`:                              "",
	} {
		if want == "" {
			want = doc
		}
		var a, b any
		if json.Unmarshal(elide([]byte(doc)), &a) != nil || json.Unmarshal([]byte(want), &b) != nil || fmt.Sprint(a) != fmt.Sprint(b) {
			t.Errorf("%s became %v", doc, a)
		}
	}
	if got := elide([]byte(`["a"]`)); got != nil {
		t.Errorf("what is no object became %s", got)
	}
}

// However many requests are refused, no record of a change goes, and what is recorded of them is bounded.
func TestRefusedRequestsDisplaceNoChange(t *testing.T) {
	w := open(t, func(o *Options) { o.MaxRecords = 2 })
	w.do("PUT", "/change", someone, answerWith(200, `{}`))
	refuse := func(n int) {
		for i := range n {
			status, caller := 401, Caller{}
			if i%2 == 1 {
				status, caller = 403, someone
			}
			w.do("PUT", "/refused", caller, func(rw http.ResponseWriter, r *http.Request) {
				From(r.Context()).Before(map[string]any{"a": "not for you"})
				answerWith(status, `{"error":{"code":"Denied"}}`)(rw, r)
			})
		}
	}
	refuse(refusedPerTick + 40)
	w.now = w.now.Add(tick)
	refuse(1)
	got := w.all()
	var listed, unlisted, changes int
	for _, r := range got {
		switch {
		case r.Unlisted > 0:
			unlisted += r.Unlisted
		case r.Resource == "/change":
			changes++
		case r.Code == "Denied" && r.Before == nil:
			listed++
		default:
			t.Errorf("%+v", r)
		}
	}
	if listed != refusedPerTick+1 || unlisted != 40 || changes != 1 {
		t.Errorf("%d recorded, %d counted, %d changes", listed, unlisted, changes)
	}
	refuse(refusedPerTick + 4) // one more fits: there was one already
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	if last := w.all()[0]; last.Unlisted != 5 {
		t.Errorf("closing recorded %+v", last)
	}
}

func TestOnlyTheLimitsRemoveRecords(t *testing.T) {
	w := open(t, func(o *Options) { o.MaxRecords = 3 })
	for i := range 5 {
		w.do("PUT", fmt.Sprintf("/%d", i), someone, answerWith(200, `{}`))
	}
	var left []string
	for _, r := range w.all() {
		left = append(left, r.Resource)
	}
	if !slices.Equal(left, []string{"/4", "/3", "/2"}) {
		t.Errorf("left are %v", left)
	}
}

func TestPagesJoinBothJournalsByTime(t *testing.T) {
	w := open(t)
	var want []string
	for i := range 40 {
		w.now = w.now.Add(time.Second)
		path := fmt.Sprintf("/%02d", i)
		if i%3 == 0 {
			w.do("PUT", path, Caller{}, answerWith(401, ``))
		} else {
			w.do("PUT", path, someone, answerWith(200, `{}`))
		}
		want = append(want, path)
	}
	slices.Reverse(want)
	for _, limit := range []int{1, 2, 3, 39, 40, 41} {
		var got []string
		pages := 0
		for after := ""; ; pages++ {
			found, next, err := w.Find(t.Context(), Query{Limit: limit, After: after})
			if err != nil {
				t.Fatal(err)
			}
			for _, r := range found {
				got = append(got, r.Resource)
			}
			if after = next; after == "" {
				break
			}
		}
		if !slices.Equal(got, want) {
			t.Errorf("pages of %d: %v", limit, got)
		}
	}
	found, next, err := w.Find(t.Context(), Query{Limit: 100, From: w.now.Add(-2 * time.Second), To: w.now.Add(-time.Second)})
	if err != nil || next != "" || len(found) != 2 || found[0].Resource != "/38" || found[1].Resource != "/37" {
		t.Errorf("between two times: %+v %q %v", found, next, err)
	}
	found, _, err = w.Find(t.Context(), Query{Limit: 100, Match: func(r *Record) bool { return r.Status == 401 }})
	if err != nil || len(found) != 14 {
		t.Errorf("%d match, %v", len(found), err)
	}
	for _, bad := range []string{"x", "!", "MS4yLjM", "LTEuMg"} {
		if _, _, err := w.Find(t.Context(), Query{Limit: 1, After: bad}); err != ErrBadToken {
			t.Errorf("token %q: %v", bad, err)
		}
	}
}

func TestAChangeWithoutARecordIsAnsweredAndSaidSo(t *testing.T) {
	w := open(t)
	w.st.Close()
	if rec := w.do("PUT", "/a", someone, answerWith(200, `{}`)); rec.Code != 200 {
		t.Errorf("answered %d", rec.Code)
	}
	if !strings.Contains(w.log.String(), "a change has no record") {
		t.Errorf("the log has %s", &w.log)
	}
}

func TestAnEntryOutsideTakesEverything(t *testing.T) {
	From(context.Background()).Before(1)
	From(context.Background()).After(1)
}

func TestAHandlerThatBreaksOffIsRecordedAsFailed(t *testing.T) {
	w := open(t)
	func() {
		defer func() { _ = recover() }()
		w.do("POST", "/a", someone, func(rw http.ResponseWriter, r *http.Request) {
			fmt.Fprint(rw, "half")
			panic(http.ErrAbortHandler)
		})
	}()
	if got := w.all(); len(got) != 1 || got[0].Status != 500 {
		t.Errorf("records are %+v", got)
	}
}
