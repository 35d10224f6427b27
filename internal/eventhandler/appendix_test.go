package eventhandler

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"tabard/guard/reason"
	"tabard/internal/identity"
	"tabard/internal/settings"
	"tabard/internal/trace"
)

type appendixRow struct {
	row  int
	name string
	test func(t *testing.T)
}

// The conformance checklist of the event contract (its appendix A), by number: the rows that delivery decides. Rows
// from 31 are in appendix_more_test.go, those about time in timing_test.go, 56 in attack_test.go; the others are
// other packages' business.
var appendix = []appendixRow{
	{1, "a user event is one POST to the resolved URL with the payload unchanged", func(t *testing.T) {
		w, h := oneHandler(t, nil)
		payload := `{"n":1.00000000000000000001,"s":"\u00e9"}`
		if _, err := w.session().User(t.Context(), UserEvent{Name: "echo", Type: JSON, Data: []byte(payload)}); err != nil {
			t.Fatal(err)
		}
		if g := h.event(t); g.path != "/hook/echo" || g.body != payload || g.header.Get("Content-Type") != "application/json" {
			t.Errorf("got %+v", g)
		}
	}},
	{2, "the version headers are on every request", func(t *testing.T) {
		_, h := everything(t)
		for _, g := range h.calls("POST") {
			if g.header.Get("ce-awpsversion") != "1.0" || g.header.Get("ce-specversion") != "1.0" {
				t.Errorf("%+v", g)
			}
		}
		for _, g := range h.calls("OPTIONS") {
			if g.header.Get("ce-awpsversion") != "1.0" {
				t.Errorf("%+v", g)
			}
		}
	}},
	{3, "ce-type tells system from user events", func(t *testing.T) {
		_, h := everything(t)
		for name, want := range map[string]string{
			"connect": "azure.webpubsub.sys.connect", "connected": "azure.webpubsub.sys.connected",
			"disconnected": "azure.webpubsub.sys.disconnected", "message": "azure.webpubsub.user.message",
		} {
			if got := named(t, h, name).header.Get("ce-type"); got != want {
				t.Errorf("%s: %q, want %q", name, got, want)
			}
		}
	}},
	{4, "the headers of the contract are on every event, each exactly once", func(t *testing.T) {
		_, h := everything(t)
		for _, g := range h.calls("POST") {
			for name, want := range map[string]string{
				"ce-hub": "chat", "ce-connectionId": connectionID, "ce-source": "/hubs/chat/client/" + connectionID,
				"WebHook-Request-Origin": host, "ce-eventName": "", "ce-id": "", "ce-time": "", "ce-type": "", "ce-signature": "",
			} {
				if v := g.header.Values(name); len(v) != 1 || v[0] == "" || want != "" && v[0] != want {
					t.Errorf("%s of %s: %q", name, g.path, v)
				}
			}
			if at, err := time.Parse("2006-01-02T15:04:05Z", g.header.Get("ce-time")); err != nil || time.Since(at) > time.Minute {
				t.Errorf("ce-time %q", g.header.Get("ce-time"))
			}
		}
		if g := named(t, h, "connect"); g.header.Get("ce-subprotocol") != "" || g.header.Get("ce-userId") != "token-user" {
			t.Errorf("connect: %+v", g.header)
		}
		if g := named(t, h, "message"); g.header.Get("ce-subprotocol") != "json.webpubsub.azure.v1" || g.header.Get("ce-userId") != "alice" {
			t.Errorf("message: %+v", g.header)
		}
	}},
	{5, "the handler is asked with event = validate before its first event", func(t *testing.T) {
		w, h := oneHandler(t, nil)
		if _, err := w.send(w.session(), "hi"); err != nil {
			t.Fatal(err)
		}
		h.mu.Lock()
		defer h.mu.Unlock()
		if len(h.got) != 2 || h.got[0].method != "OPTIONS" || h.got[0].path != "/hook/validate" || h.got[0].body != "" ||
			h.got[0].header.Get("WebHook-Request-Origin") != host || h.got[0].header.Get("ce-signature") != "" {
			t.Errorf("got %+v", h.got)
		}
	}},
	{6, "a handler that does not name an allowed origin gets no event", func(t *testing.T) {
		for origin, code := range map[string]reason.Code{
			"*": "", host: "", host + ":8080": "", "other.example": reason.ValidationHeaderMissing, "": reason.ValidationHeaderMissing,
			"*, " + host: reason.ValidationHeaderMissing, // a list in one line allows nothing
		} {
			w, h := oneHandler(t, nil)
			h.option = func(w http.ResponseWriter, _ *http.Request) {
				if origin != "" {
					w.Header().Set("WebHook-Allowed-Origin", origin)
				}
			}
			_, err := w.send(w.session(), "hi")
			if code == "" && err != nil {
				t.Errorf("allowed origin %q: %v", origin, err)
			}
			if code != "" {
				w.failed(err, code)
				if len(h.calls("POST")) != 0 {
					t.Errorf("allowed origin %q: the event was sent", origin)
				}
			}
		}
		w, h := oneHandler(t, nil)
		h.option = func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Add("WebHook-Allowed-Origin", "other.example")
			w.Header().Add("WebHook-Allowed-Origin", host)
		}
		if _, err := w.send(w.session(), "hi"); err != nil {
			t.Errorf("the second of two lines allows: %v", err)
		}
	}},
	{7, "the allowed origin is compared ignoring case", func(t *testing.T) {
		w, h := oneHandler(t, nil)
		h.option = func(w http.ResponseWriter, _ *http.Request) { w.Header().Set("WebHook-Allowed-Origin", "SVC.Example") }
		if _, err := w.send(w.session(), "hi"); err != nil {
			t.Error(err)
		}
	}},
	{8, "with a managed identity each request has a token for the resource byte for byte", func(t *testing.T) {
		w, h := oneHandler(t, nil)
		w.hub("chat", with(h.URL, "api://Handler//x/"))
		s := w.session()
		if _, err := s.Connect(t.Context(), ConnectRequest{}); err != nil {
			t.Fatal(err)
		}
		if _, err := w.send(s, "hi"); err != nil {
			t.Fatal(err)
		}
		h.mu.Lock()
		defer h.mu.Unlock()
		for _, g := range h.got { // the validation too
			token, ok := strings.CutPrefix(g.header.Get("Authorization"), "Bearer ")
			if !ok || audOf(t, token) != "api://Handler//x/" || len(g.header.Values("Authorization")) != 1 {
				t.Errorf("%s %s: Authorization %q", g.method, g.path, g.header.Values("Authorization"))
			}
		}
	}},
	{10, "without authentication there is no Authorization header", func(t *testing.T) {
		for _, auth := range []*settings.Auth{nil, {Type: "None"}, {Type: "None", ManagedIdentity: &settings.ManagedIdentity{Resource: "api://x"}}} {
			w, h := oneHandler(t, nil)
			e := all(h.URL)
			e.Auth = auth
			w.hub("chat", e)
			if _, err := w.send(w.session(), "hi"); err != nil {
				t.Fatal(err)
			}
			if g := h.event(t); g.header["Authorization"] != nil || len(w.asked) != 0 {
				t.Errorf("%+v: %v, asked for %v", auth, g.header["Authorization"], w.asked)
			}
		}
	}},
	{11, "without a token nothing is sent, connect is answered 500", func(t *testing.T) {
		w, h := oneHandler(t, nil)
		w.hub("chat", with(h.URL, "api://x"))
		for _, c := range []struct {
			err  error
			code reason.Code
		}{
			{errors.New("issuer is down"), reason.TokenUnavailable},
			{&identity.Error{Code: "AADSTS500011", Description: "AADSTS500011: The resource principal named api://x was not found"}, reason.ResourceUnregistered},
			{fmt.Errorf("%w: deleted", ErrNoIdentity), reason.IdentityMissing},
		} {
			w.tokenErr = c.err
			w.failed(second(w.send(w.session(), "hi")), c.code)
			_, err := w.session().Connect(t.Context(), ConnectRequest{})
			if r, ok := err.(*Rejection); !ok || r.Status != 500 || r.Code != c.code || len(r.Body) != 0 {
				t.Errorf("connect: %v", err)
			}
			if rec := w.record(trace.Delivery); rec.Code != c.code || !strings.Contains(rec.Detail, c.err.Error()) {
				t.Errorf("trace: %+v", rec)
			}
		}
		w.d.opt.Identity = constant(nil)
		w.failed(second(w.send(w.session(), "hi")), reason.TokenUnavailable)
		w.d.opt.Identity = nil
		w.failed(second(w.send(w.session(), "hi")), reason.TokenUnavailable)
		if len(h.got) != 0 {
			t.Errorf("the handler got %+v", h.got)
		}
	}},
	{12, "204 and an empty 200 accept the client as the token has it", func(t *testing.T) {
		for _, code := range []int{200, 202, 204} {
			w, _ := oneHandler(t, status(code))
			r, err := w.session().Connect(t.Context(), ConnectRequest{})
			if err != nil || r == nil || r.UserID != nil || r.Groups != nil || r.Roles != nil || r.Subprotocol != "" {
				t.Errorf("%d: %+v, %v", code, r, err)
			}
		}
	}},
	{13, "the answer to connect decides user, groups, roles and subprotocol", func(t *testing.T) {
		w, _ := oneHandler(t, reply("application/json", `{"userId":"bob","groups":["g1","g2"],"roles":[],"subProtocol":"p2","other":1}`))
		r, err := w.session().Connect(t.Context(), ConnectRequest{Subprotocols: []string{"p1", "p2"}})
		if err != nil || r.UserID == nil || *r.UserID != "bob" || !slices.Equal(r.Groups, []string{"g1", "g2"}) || r.Roles == nil || len(r.Roles) != 0 || r.Subprotocol != "p2" {
			t.Errorf("%+v, %v", r, err)
		}
	}},
	{14, "null members are absent", func(t *testing.T) {
		for _, body := range []string{`{"userId":null,"groups":null,"roles":null,"subprotocol":null}`, `null`, `{}`} {
			w, _ := oneHandler(t, reply("application/json", body))
			r, err := w.session().Connect(t.Context(), ConnectRequest{})
			if err != nil || r.UserID != nil || r.Groups != nil || r.Roles != nil || r.Subprotocol != "" {
				t.Errorf("%s: %+v, %v", body, r, err)
			}
		}
	}},
	{15, "the answer to connect needs no Content-Type", func(t *testing.T) {
		for _, ct := range []string{"", "text/html"} {
			w, _ := oneHandler(t, reply(ct, `{"userId":"bob"}`))
			if r, err := w.session().Connect(t.Context(), ConnectRequest{}); err != nil || *r.UserID != "bob" {
				t.Errorf("%q: %+v, %v", ct, r, err)
			}
		}
	}},
	{16, "a 4xx to connect reaches the client, and nothing follows", func(t *testing.T) {
		for _, code := range []int{400, 401, 403, 404, 429, 451} {
			w, h := oneHandler(t, func(w http.ResponseWriter, _ *http.Request, _ string) {
				w.Header().Set("Content-Type", "application/problem+json")
				w.WriteHeader(code)
				io.WriteString(w, `{"detail":"no"}`)
			})
			s := w.session()
			_, err := s.Connect(t.Context(), ConnectRequest{})
			r, ok := err.(*Rejection)
			if !ok || r.Status != code || string(r.Body) != `{"detail":"no"}` || r.ContentType != "application/problem+json" {
				t.Errorf("%d: %+v", code, err)
			}
			s.Connected()
			s.Disconnected("")
			if err := w.d.Close(t.Context()); err != nil || len(h.calls("POST")) != 1 {
				t.Errorf("%d: %d events, close: %v", code, len(h.calls("POST")), err)
			}
		}
	}},
	{17, "a 5xx to connect reaches the client after the repetitions, without its body", func(t *testing.T) {
		w, h := oneHandler(t, func(w http.ResponseWriter, _ *http.Request, _ string) {
			w.WriteHeader(503)
			io.WriteString(w, "internals")
		})
		_, err := w.session().Connect(t.Context(), ConnectRequest{})
		if r, ok := err.(*Rejection); !ok || r.Status != 503 || len(r.Body) != 0 || len(h.calls("POST")) != 4 {
			t.Errorf("%v after %d attempts", err, len(h.calls("POST")))
		}
	}},
	{18, "the body of connect has its five members, values as arrays", func(t *testing.T) {
		w, h := oneHandler(t, nil)
		if _, err := w.session().Connect(t.Context(), ConnectRequest{}); err != nil {
			t.Fatal(err)
		}
		g := h.event(t)
		if want := `{"claims":{},"query":{},"headers":{},"subprotocols":[],"clientCertificates":[]}`; g.body != want || g.header.Get("Content-Type") != "application/json; charset=utf-8" {
			t.Errorf("got %s, want %s", g.body, want)
		}
	}},
	{19, "the client's credentials are not in the body of connect", func(t *testing.T) {
		w, h := oneHandler(t, nil)
		_, err := w.session().Connect(t.Context(), ConnectRequest{
			Claims: map[string][]string{"sub": {"alice"}, "role": {"a", "b"}},
			Query:  map[string][]string{"access_token": {"canary"}, "Access_Token": {"canary"}, "id": {"42"}},
			Header: map[string][]string{"Authorization": {"canary"}, "authorization": {"canary"}, "X-ASRS-Internal-Secret": {"canary"}, "Cookie": {"c=1"}}, Host: host,
			Subprotocols: []string{"b", "a"},
		})
		if err != nil {
			t.Fatal(err)
		}
		want := `{"claims":{"role":["a","b"],"sub":["alice"]},"query":{"id":["42"]},"headers":{"Cookie":["c=1"],"Host":["svc.example"]},"subprotocols":["b","a"],"clientCertificates":[]}`
		if got := h.event(t).body; got != want {
			t.Errorf("got %s\nwant %s", got, want)
		}
	}},
	{20, "ce-signature equals the test vector", func(t *testing.T) {
		_, h := everything(t)
		const want = "sha256=5df1dae6dae694d8b33f4be6e32838c9b84f1195e93eb00887ef373743b7d370,sha256=eb7e790fa9fb1313260fb06fdc0cbf1ef065f91283e0939244e92c738020d493"
		for _, g := range h.calls("POST") {
			if got := g.header.Values("ce-signature"); len(got) != 1 || got[0] != want {
				t.Errorf("%s: %q", g.path, got)
			}
		}
	}},
	{25, "the answer's content type decides what the client receives", func(t *testing.T) {
		for _, c := range []struct {
			contentType, body string
			want              DataType
			code              reason.Code
		}{
			{"text/plain", "hé", Text, ""},
			{"Text/Plain; charset=utf-8", "hi", Text, ""},
			{"application/json; charset=utf-8", `{"a":1}`, JSON, ""},
			{"application/octet-stream", "\x00\xff", Binary, ""},
			{"application/x-protobuf", "\x0a\x00", Protobuf, ""},
			{"", "hi", Binary, ""},
			{"text/html", "<p>", 0, reason.HandlerResponseInvalid},
			{"application/json", `{"a":`, 0, reason.HandlerResponseInvalid},
		} {
			w, _ := oneHandler(t, reply(c.contentType, c.body))
			r, err := w.send(w.session(), "hi")
			if c.code != "" {
				w.failed(err, c.code)
			} else if err != nil || r == nil || r.Type != c.want || string(r.Data) != c.body {
				t.Errorf("%s: %+v, %v", c.contentType, r, err)
			}
		}
		w, _ := oneHandler(t, reply("text/plain", "a\xffb"))
		if r, err := w.send(w.session(), "hi"); err != nil || string(r.Data) != "a\uFFFDb" {
			t.Errorf("text that is not UTF-8: %+v, %v", r, err)
		}
	}},
	{26, "204 and an empty 200 produce no message", func(t *testing.T) {
		for _, a := range []func(http.ResponseWriter, *http.Request, string){status(204), status(200), reply("application/octet-stream", ""), reply("text/html", "")} {
			w, _ := oneHandler(t, a)
			if r, err := w.send(w.session(), "hi"); r != nil || err != nil {
				t.Errorf("%+v, %v", r, err)
			}
		}
	}},
	{28, "a failed user event says so with its status and without the handler's text", func(t *testing.T) {
		w, _ := oneHandler(t, func(w http.ResponseWriter, _ *http.Request, _ string) {
			w.Header().Set("ce-connectionState", "new")
			w.WriteHeader(409)
			io.WriteString(w, "internals")
		})
		s := w.session()
		e := w.failed(second(w.send(s, "hi")), reason.HandlerError)
		if e.Status != 409 || strings.Contains(e.Error(), "internals") || s.state != "" {
			t.Errorf("%v, state %q", e, s.state)
		}
		if rec := w.record(trace.Delivery); rec.Status != 409 || rec.Answer != "internals" || rec.Code != reason.HandlerError {
			t.Errorf("trace: %+v", rec)
		}
	}},
	{29, "hub and event are percent-encoded in path and query", func(t *testing.T) {
		w, h := oneHandler(t, nil)
		w.hub("a`b,[c]", all(h.URL+"/{HUB}/{Event}?e={event}&h={hub}"))
		s := w.d.NewSession("default", "a`b,[c]", connectionID)
		if _, err := s.User(t.Context(), UserEvent{Name: "x/y?z", Type: Text}); err != nil {
			t.Fatal(err)
		}
		if g := h.event(t); g.path != "/a%60b%2C%5Bc%5D/x%2Fy%3Fz?e=x%2Fy%3Fz&h=a%60b%2C%5Bc%5D" {
			t.Errorf("got %s", g.path)
		}
	}},
}

const secretURI = "https://v.vault.azure.net/secrets/code/"

func TestAppendixA(t *testing.T) {
	for _, c := range slices.Concat(appendix, appendixMore) {
		t.Run(fmt.Sprintf("%d %s", c.row, c.name), c.test)
	}
}

// oneHandler is a world whose hub "chat" has one handler for everything, at /hook/{event}.
func oneHandler(t *testing.T, answer func(http.ResponseWriter, *http.Request, string)) (*world, *sink) {
	t.Helper()
	h := newSink(t, answer)
	w := newWorld(t, quick())
	w.hub("chat", all(h.URL+"/hook/{event}"))
	return w, h
}

// everything is one connection's whole life, delivered.
func everything(t *testing.T) (*world, *sink) {
	t.Helper()
	w, h := oneHandler(t, nil)
	s := w.session()
	if _, err := s.Connect(t.Context(), ConnectRequest{UserID: "token-user"}); err != nil {
		t.Fatal(err)
	}
	s.Bind("alice", "json.webpubsub.azure.v1")
	s.Connected()
	if _, err := w.send(s, "hi"); err != nil {
		t.Fatal(err)
	}
	s.Disconnected("")
	if err := w.d.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	if len(h.calls("POST")) != 4 {
		t.Fatalf("%d events, want 4", len(h.calls("POST")))
	}
	return w, h
}

func named(t *testing.T, h *sink, event string) got {
	t.Helper()
	for _, g := range h.calls("POST") {
		if g.header.Get("ce-eventName") == event {
			return g
		}
	}
	t.Fatalf("no event %s", event)
	return got{}
}

func audOf(t *testing.T, token string) string {
	t.Helper()
	payload, err := base64.RawURLEncoding.DecodeString(strings.Split(token+"..", ".")[1])
	if err != nil {
		t.Fatal(err)
	}
	var claims struct{ Aud string }
	if err := json.Unmarshal(payload, &claims); err != nil {
		t.Fatal(err)
	}
	return claims.Aud
}

func second[T any](_ T, err error) error { return err }
