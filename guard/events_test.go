package guard_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"reflect"
	"strings"
	"testing"
	"time"

	"tabard/guard"
	"tabard/guard/reason"
)

// A response is an answer read whole.
type response struct {
	status int
	header http.Header
	body   string
}

func (g *rig) send(r *http.Request) response {
	w := g.do(r)
	return response{w.Code, w.Result().Header, w.Body.String()}
}

// code is the reason code in an answer's body, "" if there is none.
func (r response) code() reason.Code {
	var body struct{ Error struct{ Code reason.Code } }
	_ = json.Unmarshal([]byte(r.body), &body) // not every answer is one
	return body.Error.Code
}

func TestUserEventsAreAnswered(t *testing.T) {
	var got *guard.Event
	var reply guard.Reply
	var failure error
	var log bytes.Buffer
	f := newRig(t, guard.Options{Log: slog.New(slog.NewTextHandler(&log, nil))}, guard.Handlers{User: func(_ context.Context, e *guard.Event) (guard.Reply, error) {
		got = e
		return reply, failure
	}})
	for _, tc := range []struct {
		name    string
		reply   guard.Reply
		err     error
		status  int
		headers map[string]string
		body    string
	}{
		{"nothing", guard.Reply{}, nil, 204, map[string]string{"ce-connectionState": ""}, ""},
		{"text", guard.Text("ho"), nil, 200, map[string]string{"Content-Type": "text/plain; charset=utf-8", "ce-connectionState": ""}, "ho"},
		{"formatted text", guard.Textf("%d", 7), nil, 200, nil, "7"},
		{"JSON", guard.JSON(map[string]int{"a": 1}), nil, 200, map[string]string{"Content-Type": "application/json; charset=utf-8"}, `{"a":1}`},
		{"binary", guard.Binary([]byte{1, 2}), nil, 200, map[string]string{"Content-Type": "application/octet-stream"}, "\x01\x02"},
		{"a body without a type", guard.Reply{Body: []byte("<html>")}, nil, 200, map[string]string{"Content-Type": "application/octet-stream"}, "<html>"},
		{"text with state", guard.Text("ho").WithState("s1"), nil, 200, map[string]string{"ce-connectionState": "s1"}, "ho"},
		{"state of the SDKs", guard.Reply{}.WithStateJSON(map[string]int{"n": 1}), nil, 204, map[string]string{"ce-connectionState": "eyJuIjoxfQ=="}, ""},
		{"metadata", guard.Reply{Body: []byte("x"), ContentType: "text/plain", Metadata: map[string]string{"Trace-Id": "7"}}, nil, 200, map[string]string{"x-webpubsub-metadata-trace-id": "7"}, "x"},
		{"a rejection", guard.Text("no"), guard.Rejectf(429, "only %d a minute", 3), 429, map[string]string{"Content-Type": "text/plain; charset=utf-8"}, "only 3 a minute"},
		{"a wrapped rejection", guard.Reply{}, errors.Join(errors.New("x"), guard.Reject(400, "bad")), 400, nil, "bad"},
		{"a rejection with a status of success", guard.Reply{}, guard.Reject(200, "secret detail"), 500, nil, "handler_reply_invalid"},
		{"another error", guard.Reply{}, errors.New("secret detail"), 500, nil, "handler_failed_on_event"},
		{"JSON that cannot be encoded", guard.JSON(func() {}), nil, 500, map[string]string{"ce-connectionState": ""}, "handler_reply_invalid"},
		{"state that cannot be encoded", guard.Reply{}.WithStateJSON(func() {}), nil, 500, map[string]string{"ce-connectionState": ""}, "handler_reply_invalid"},
		{"state with a line end", guard.Reply{}.WithState("a\r\nSet-Cookie: b"), nil, 500, map[string]string{"Set-Cookie": ""}, "handler_reply_invalid"},
		{"state of 8 KiB", guard.Reply{}.WithState(strings.Repeat("s", 8<<10)), nil, 204, nil, ""},
		{"state beyond 8 KiB", guard.Reply{}.WithState(strings.Repeat("s", 8<<10+1)), nil, 500, nil, "handler_reply_invalid"},
		{"metadata with a line end, after state", guard.Reply{Metadata: map[string]string{"a": "b\n"}}.WithState("s"), nil, 500, map[string]string{"ce-connectionState": ""}, "handler_reply_invalid"},
		{"metadata with a bad key", guard.Reply{Metadata: map[string]string{"a b": "c"}}, nil, 500, nil, "handler_reply_invalid"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			reply, failure = tc.reply, tc.err
			res := f.send(f.event("user", "message", "hi"))
			matches := res.body == tc.body
			if tc.status == 500 {
				matches = strings.Contains(res.body, tc.body) && !strings.Contains(res.body, "secret")
			}
			if res.status != tc.status || !matches {
				t.Errorf("got %d %q", res.status, res.body)
			}
			for name, want := range tc.headers {
				if res.header.Get(name) != want {
					t.Errorf("%s is %q, want %q", name, res.header.Get(name), want)
				}
			}
		})
	}
	if !strings.Contains(log.String(), "secret detail") {
		t.Error("the handler's own log does not have the handler's error")
	}
	want := &guard.Event{Type: "azure.webpubsub.user.message", Name: "message", Hub: "chat", ConnectionID: "c1",
		UserID: "alice", ID: "1", Source: "/hubs/chat/client/c1", Time: time.Date(2026, 11, 24, 9, 0, 0, 0, time.UTC),
		Origin: "svc.example", ContentType: "text/plain", Data: []byte("hi"), Caller: got.Caller}
	if !reflect.DeepEqual(got, want) || got.Caller.ObjectID != principal || got.Text() != "hi" {
		t.Errorf("event is %+v", got)
	}
}

func TestAnEmptyStateIsSent(t *testing.T) {
	f := newRig(t, guard.Options{}, guard.Handlers{User: func(context.Context, *guard.Event) (guard.Reply, error) {
		return guard.Reply{}.WithState(""), nil
	}})
	res := f.send(f.event("user", "message", "hi"))
	if values, ok := res.header["Ce-Connectionstate"]; !ok || len(values) != 1 || values[0] != "" {
		t.Errorf("headers are %v", res.header)
	}
}

func TestConnectIsAskedAndAnswered(t *testing.T) {
	var got *guard.Connect
	var accept guard.Accept
	var failure error
	f := newRig(t, guard.Options{}, guard.Handlers{Connect: func(_ context.Context, c *guard.Connect) (guard.Accept, error) {
		got = c
		return accept, failure
	}})
	const body = `{"claims":{"sub":["alice"],"exp":["1790000000"]},"query":{"id":["42"]},"headers":{"Host":["svc.example"]},"subprotocols":["json.webpubsub.azure.v1"],"clientCertificates":[{"thumbprint":"AB","content":"PEM"}],"mqtt":{"protocolVersion":5}}`
	for _, tc := range []struct {
		name   string
		accept guard.Accept
		err    error
		status int
		body   string
	}{
		{"as the token says", guard.Accept{}, nil, 204, ""},
		{"another user", guard.Accept{UserID: "bob"}, nil, 200, `{"userId":"bob"}`},
		{"no user", guard.Accept{DropUserID: true}, nil, 200, `{"userId":""}`},
		{"groups, roles, subprotocol", guard.Accept{Groups: []string{"g"}, Roles: []string{"webpubsub.sendToGroup"}, Subprotocol: "x"}, nil, 200, `{"groups":["g"],"roles":["webpubsub.sendToGroup"],"subprotocol":"x"}`},
		{"no roles at all", guard.Accept{Roles: []string{}}, nil, 200, `{"roles":[]}`},
		{"no", guard.Accept{}, guard.Reject(401, "who are you?"), 401, "who are you?"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			accept, failure = tc.accept, tc.err
			res := f.send(f.event("sys", "connect", body))
			if res.status != tc.status || res.body != tc.body {
				t.Errorf("got %d %q", res.status, res.body)
			}
		})
	}
	if !got.System || got.Claims["sub"][0] != "alice" || got.Query["id"][0] != "42" || got.Headers["Host"][0] != "svc.example" ||
		got.Subprotocols[0] != "json.webpubsub.azure.v1" || got.ClientCertificates[0] != (guard.ClientCertificate{Thumbprint: "AB", Content: "PEM"}) {
		t.Errorf("connect is %+v", got)
	}
	accept, failure = guard.Accept{}.WithState("s"), nil
	if res := f.send(f.event("sys", "connect", "")); res.header.Get("ce-connectionState") != "s" || res.status != 204 {
		t.Errorf("state: %d %v", res.status, res.header)
	}
	if res := f.send(f.event("sys", "connect", "[]")); res.status != 400 || res.code() != reason.EventMalformed {
		t.Errorf("a body of another form: %d %s", res.status, res.body)
	}
}

func TestNotificationsAreHandedOver(t *testing.T) {
	var names []string
	f := newRig(t, guard.Options{}, guard.Handlers{
		Connected: func(_ context.Context, e *guard.Event) error { names = append(names, e.Name); return nil },
		Disconnected: func(_ context.Context, d *guard.Disconnected) error {
			names = append(names, d.Name+": "+d.Reason)
			return errors.New("no")
		},
	})
	for _, tc := range []struct {
		name, body string
		status     int
	}{
		{"connected", "{}", 204},
		{"disconnected", `{"reason":"bye"}`, 500},
		{"disconnected", `{"reason":null}`, 500},
		{"disconnected", ``, 500},
		{"disconnected", `7`, 400},
		{"joined", `{"group":"g"}`, 204}, // of a later version: accepted, ignored
		{"connect", `{}`, 204},           // no function for it
	} {
		if res := f.send(f.event("sys", tc.name, tc.body)); res.status != tc.status {
			t.Errorf("%s %s: %d %s", tc.name, tc.body, res.status, res.body)
		}
	}
	if res := f.send(f.event("user", "message", "x")); res.status != 204 {
		t.Errorf("a user event without a function: %d", res.status)
	}
	if got := strings.Join(names, ", "); got != "connected, disconnected: bye, disconnected: , disconnected: " {
		t.Error(got)
	}
}

func TestMalformedEventsAreRefused(t *testing.T) {
	var log bytes.Buffer
	f := newRig(t, guard.Options{Log: slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug}))}, guard.Handlers{})
	for _, tc := range []struct {
		name   string
		change []string
	}{
		{"no specversion", []string{"ce-specversion", ""}},
		{"another specversion", []string{"ce-specversion", "0.3"}},
		{"no awpsversion", []string{"ce-awpsversion", ""}},
		{"no type", []string{"ce-type", ""}},
		{"a foreign type", []string{"ce-type", "com.example.message"}},
		{"a type that is not the event's", []string{"ce-type", "azure.webpubsub.user.other"}},
		{"a user event called connect, which is no system event", []string{"ce-type", "azure.webpubsub.sys.message", "ce-eventName", "connect"}},
		{"no source", []string{"ce-source", ""}},
		{"no id", []string{"ce-id", ""}},
		{"no hub", []string{"ce-hub", ""}},
		{"no connection", []string{"ce-connectionId", ""}},
		{"no name", []string{"ce-eventName", ""}},
		{"no origin", []string{"WebHook-Request-Origin", ""}},
		{"a time that is none", []string{"ce-time", "yesterday"}},
		{"a content type that is none", []string{"Content-Type", ";;"}},
		{"a user id of broken UTF-8", []string{"ce-userId", "\xff"}},
		{"a state of 17 KiB", []string{"ce-connectionState", strings.Repeat("s", 17<<10)}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if res := f.send(f.event("user", "message", "hi", tc.change...)); res.status != 400 || res.code() != reason.EventMalformed {
				t.Errorf("got %d %s", res.status, res.body)
			}
		})
	}
	for _, name := range []string{"ce-connectionId", "ce-hub", "ce-type", "ce-eventName", "ce-userId", "ce-id", "ce-source", "ce-connectionState"} {
		r := f.event("user", "message", "hi", "ce-connectionState", "s")
		r.Header.Add(name, r.Header.Get(name))
		if res := f.send(r); res.status != 400 || !strings.Contains(log.String(), name+" occurs 2 times") {
			t.Errorf("%s twice: %d %s", name, res.status, res.body)
		}
	}
	if res := f.send(f.event("user", "message", "hi", "ce-type", "", "ce-awpsversion", "")); res.status != 400 || res.code() != reason.EventMalformed {
		t.Errorf("no event at all: %d %s", res.status, res.body)
	}
}

func TestParseEventReadsWhatMayBeThere(t *testing.T) {
	f := newRig(t, guard.Options{}, guard.Handlers{})
	r := f.event("user", "message", "", "ce-userId", "Jürgen", "ce-subprotocol", "json.webpubsub.azure.v1",
		"ce-connectionState", "eyJuIjoxfQ==", "ce-time", "", "Content-Type", "Application/JSON;charset=utf-8", "X-WebPubSub-Metadata-Trace-ID", "7")
	r.Header.Add("X-WebPubSub-Metadata-Trace-ID", "8")
	e, err := guard.ParseEvent(r, []byte(`{"a":1}`))
	if err != nil {
		t.Fatal(err)
	}
	var data, state struct{ A, N int }
	if err := errors.Join(e.JSON(&data), e.StateJSON(&state)); err != nil || data.A != 1 || state.N != 1 {
		t.Errorf("%v %+v %+v", err, data, state)
	}
	if e.UserID != "Jürgen" || e.Subprotocol != "json.webpubsub.azure.v1" || !e.Time.IsZero() || e.ContentType != "application/json" ||
		!reflect.DeepEqual(e.Metadata, map[string]string{"trace-id": "8"}) || e.Caller != nil {
		t.Errorf("event is %+v", e)
	}
	e.State = "not base64"
	if err := e.StateJSON(&state); err == nil {
		t.Error("state that is not base64 is read")
	}
	e.State = ""
	if err := e.StateJSON(&state); err != nil || state.N != 1 {
		t.Error("absent state is an error or changes something")
	}
	if _, err := guard.ParseEvent(httptest.NewRequest("GET", "/", nil), nil); codeOf(t, err) != reason.EventMalformed {
		t.Error(err)
	}
}
