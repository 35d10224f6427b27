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
	"sync/atomic"
	"testing"
	"time"

	"tabard/guard/reason"
	"tabard/internal/identity"
	"tabard/internal/settings"
	"tabard/internal/trace"
)

// The conformance checklist of the event contract (its appendix A), by number: the rows that delivery decides. Rows
// about time are in timing_test.go, the others are other packages' business.
var appendix = []struct {
	row  int
	name string
	test func(t *testing.T)
}{
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
			Claims:       map[string][]string{"sub": {"alice"}, "role": {"a", "b"}},
			Query:        map[string][]string{"access_token": {"canary"}, "Access_Token": {"canary"}, "id": {"42"}},
			Header:       map[string][]string{"Authorization": {"canary"}, "authorization": {"canary"}, "X-ASRS-Internal-Secret": {"canary"}, "Cookie": {"c=1"}, "Host": {host}},
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
	{31, "a Key Vault reference is replaced by the secret's value", func(t *testing.T) {
		w, h := oneHandler(t, nil)
		w.hub("chat", all(h.URL+"/api?code={@Microsoft.KeyVault(SecretUri="+secretURI+")}"))
		w.secrets[secretURI] = "s3cret/+=\r\n"
		if _, err := w.send(w.session(), "hi"); err != nil {
			t.Fatal(err)
		}
		if g := h.event(t); g.path != "/api?code=s3cret/+=" {
			t.Errorf("got %s", g.path)
		}
	}},
	{32, "an unreadable or empty secret never leads to a request", func(t *testing.T) {
		w, h := oneHandler(t, nil)
		w.hub("chat", all(h.URL+"/api?code={@Microsoft.KeyVault(SecretUri="+secretURI+")}"))
		w.failed(second(w.send(w.session(), "hi")), reason.SecretUnavailable)
		w.secrets[secretURI] = "\r\n"
		w.failed(second(w.send(w.session(), "hi")), reason.SecretUnavailable)
		w.d.opt.Secrets = nil
		w.failed(second(w.send(w.session(), "hi")), reason.SecretUnavailable)
		if len(h.got) != 0 {
			t.Errorf("the handler got %+v", h.got)
		}
	}},
	{33, "a changed secret is used at the next event", func(t *testing.T) {
		w, h := oneHandler(t, nil)
		w.hub("chat", all(h.URL+"/api?code={@Microsoft.KeyVault(SecretUri="+secretURI+")}"))
		for _, v := range []string{"one", "two"} {
			w.mu.Lock()
			w.secrets[secretURI] = v
			w.mu.Unlock()
			if _, err := w.send(w.session(), "hi"); err != nil {
				t.Fatal(err)
			}
		}
		if p := h.calls("POST"); p[0].path != "/api?code=one" || p[1].path != "/api?code=two" {
			t.Errorf("got %s, %s", p[0].path, p[1].path)
		}
	}},
	{34, "secrets and tokens are in no log, trace or error, even if the handler echoes them", func(t *testing.T) {
		const canary = "canary/secret+value"
		w, h := oneHandler(t, func(w http.ResponseWriter, r *http.Request, _ string) {
			w.Header().Set("WWW-Authenticate", `Bearer error="`+r.Header.Get("Authorization")+`"`)
			w.WriteHeader(401)
			fmt.Fprintf(w, "%v %s %s", r.Header, r.URL, r.FormValue("code"))
		})
		h.option = func(w http.ResponseWriter, r *http.Request) { w.Header().Set("WebHook-Allowed-Origin", "*") }
		w.hub("chat", with(h.URL+"/api?code={@Microsoft.KeyVault(SecretUri="+secretURI+")}", "api://x"))
		w.secrets[secretURI] = canary
		s := w.session()
		_, err := w.send(s, "hi")
		w.failed(err, reason.HandlerUnauthorized)
		s.Connected()
		h.option = func(w http.ResponseWriter, r *http.Request) {
			w.WriteHeader(401)
			fmt.Fprintf(w, "%v %s", r.Header, r.URL)
		}
		in, _ := w.settings.Snapshot().Instance("default")
		invalid := w.d.Validate(t.Context(), in, "chat", in.Hub("chat").EventHandlers[0])
		if err := w.d.Close(t.Context()); err != nil {
			t.Fatal(err)
		}
		records, _ := json.Marshal(w.trace.Records(trace.Filter{Instance: "default"}))
		out := string(records) + w.log.String() + err.Error() + fmt.Sprint(invalid)
		for _, secret := range []string{canary, "canary secret value", "canary%2Fsecret", base64.RawURLEncoding.EncodeToString([]byte("canary-signature")), primaryKey, secondaryKey} {
			if strings.Contains(out, secret) {
				t.Errorf("%q is in %s", secret, out)
			}
		}
		if !strings.Contains(out, "api://x") || !strings.Contains(out, secretURI) || !strings.Contains(out, "notification") {
			t.Errorf("the traces and logs do not say what happened: %s", out)
		}
	}},
	{35, "the first matching handler wins", func(t *testing.T) {
		w, h := oneHandler(t, nil)
		_, other := oneHandler(t, nil)
		w.hub("chat", &settings.EventHandler{URLTemplate: other.URL, UserEventPattern: "x"}, all(h.URL), all(other.URL))
		if _, err := w.send(w.session(), "hi"); err != nil || len(h.calls("POST")) != 1 || len(other.got) != 0 {
			t.Errorf("%v, %d, %d", err, len(h.calls("POST")), len(other.got))
		}
	}},
	{36, "user events match by name, list or star", func(t *testing.T) {
		w, h := oneHandler(t, nil)
		for pattern, events := range map[string]map[string]bool{
			"a, b": {"B": true, "a": true, "c": false, "a, b": false}, "*": {"anything": true}, "": {"a": false, "message": false},
		} {
			w.hub("chat", &settings.EventHandler{URLTemplate: h.URL, UserEventPattern: pattern})
			for event, matches := range events {
				_, err := w.session().User(t.Context(), UserEvent{Name: event})
				if matches && err != nil || !matches && !errors.Is(err, ErrNoHandler) {
					t.Errorf("%q %q: %v", pattern, event, err)
				}
			}
		}
		w.hub("chat")
		if _, err := w.send(w.session(), "hi"); err != ErrNoHandler || w.record(trace.Delivery).Code != reason.NoHandler {
			t.Errorf("a hub without handlers: %v", err)
		}
	}},
	{37, "system events match systemEvents alone", func(t *testing.T) {
		w, h := oneHandler(t, nil)
		w.hub("chat", &settings.EventHandler{URLTemplate: h.URL, UserEventPattern: "*", SystemEvents: []string{"connected"}})
		s := w.session()
		if r, err := s.Connect(t.Context(), ConnectRequest{}); r != nil || err != nil {
			t.Errorf("connect: %v, %v", r, err)
		}
		s.Connected()
		s.Disconnected("")
		if _, err := s.User(t.Context(), UserEvent{Name: "connect"}); err != nil {
			t.Errorf("a user event of the name of a system event: %v", err)
		}
		if err := w.d.Close(t.Context()); err != nil || len(h.calls("POST")) != 2 {
			t.Errorf("%d events, %v", len(h.calls("POST")), err)
		}
		for _, g := range h.calls("POST") {
			if typ := g.header.Get("ce-type"); typ != "azure.webpubsub.sys.connected" && typ != "azure.webpubsub.user.connect" {
				t.Errorf("got %s", typ)
			}
		}
	}},
	{38, "a failing connected is repeated and logged", func(t *testing.T) {
		w, h := oneHandler(t, status(500))
		w.session().Connected()
		eventually(t, "the log line", func() bool { return strings.Contains(w.log.String(), "did not take the notification") })
		if n := len(h.calls("POST")); n != 4 || w.record(trace.Delivery).Attempts != 4 {
			t.Errorf("%d attempts", n)
		}
	}},
	{39, "disconnected is sent once, with its reason", func(t *testing.T) {
		w, h := oneHandler(t, nil)
		s := w.session()
		s.Disconnected(`Ping "timeout"`)
		s.Disconnected("again")
		s.Connected()
		if g := h.event(t); g.body != `{"reason":"Ping \"timeout\""}` || g.header.Get("ce-eventName") != "disconnected" {
			t.Errorf("got %+v", g)
		}
		if err := w.d.Close(t.Context()); err != nil || len(h.calls("POST")) != 1 {
			t.Errorf("%d events, %v", len(h.calls("POST")), err)
		}
	}},
	{41, "connection state comes back until it is replaced or cleared, and only blocking events change it", func(t *testing.T) {
		var set atomic.Pointer[string]
		w, h := oneHandler(t, func(w http.ResponseWriter, r *http.Request, _ string) {
			if v := set.Load(); v != nil {
				w.Header()["ce-connectionState"] = strings.Split(*v, "|")
			}
		})
		s := w.session()
		// next sends an event whose answer sets a state and returns the state that the event carried.
		next := func(answer *string) string {
			set.Store(answer)
			if _, err := w.send(s, "hi"); err != nil {
				t.Fatal(err)
			}
			p := h.calls("POST")
			return p[len(p)-1].header.Get("ce-connectionState")
		}
		set.Store(new("one"))
		if _, err := s.Connect(t.Context(), ConnectRequest{}); err != nil {
			t.Fatal(err)
		}
		if got := h.calls("POST")[0].header["Ce-Connectionstate"]; got != nil {
			t.Errorf("connect carries %q", got)
		}
		set.Store(new("from connected"))
		s.Connected()
		eventually(t, "connected", func() bool { return len(w.trace.Records(trace.Filter{Instance: "default", Event: "connected"})) == 1 })
		for i, step := range []struct {
			answer *string
			want   string
		}{{nil, "one"}, {new("a|b"), "one"}, {new(""), "b"}, {nil, ""}} {
			if got := next(step.answer); got != step.want {
				t.Errorf("step %d: the event carries %q, want %q", i, got, step.want)
			}
		}
		if !strings.Contains(w.log.String(), "repeats ce-connectionState") {
			t.Error("a repeated header is not logged")
		}
	}},
	{42, "ce-id is 0 on connect, counts on from there, and is repeated with the event", func(t *testing.T) {
		var fails atomic.Int32
		w, h := oneHandler(t, func(w http.ResponseWriter, _ *http.Request, _ string) {
			if fails.Add(1) == 3 {
				w.WriteHeader(500)
			}
		})
		s := w.session()
		if _, err := s.Connect(t.Context(), ConnectRequest{}); err != nil {
			t.Fatal(err)
		}
		for range 3 {
			if _, err := w.send(s, "hi"); err != nil {
				t.Fatal(err)
			}
		}
		s.Disconnected("")
		if err := w.d.Close(t.Context()); err != nil {
			t.Fatal(err)
		}
		var ids []string
		requests := map[string]string{}
		for _, g := range h.calls("POST") {
			id := g.header.Get("ce-id")
			ids = append(ids, id)
			if known, ok := requests[id]; ok && known != g.header.Get("x-ms-client-request-id") {
				t.Errorf("the repetition of %s has another x-ms-client-request-id", id)
			}
			requests[id] = g.header.Get("x-ms-client-request-id")
		}
		if want := []string{"0", "1", "2", "2", "3", "4"}; !slices.Equal(ids, want) {
			t.Errorf("got %v, want %v", ids, want)
		}
		s2 := w.d.NewSession("default", "nohandler", "c2")
		if r, err := s2.Connect(t.Context(), ConnectRequest{}); r != nil || err != nil || s2.nextID() != 1 {
			t.Error("0 is not reserved for connect without a handler")
		}
	}},
	{46, "a 404 to OPTIONS is followed by GET, a 405 is a failure", func(t *testing.T) {
		w, h := oneHandler(t, nil)
		h.option = func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(404) }
		h.answer = func(w http.ResponseWriter, r *http.Request, _ string) { w.Header().Set("WebHook-Allowed-Origin", host) }
		if _, err := w.send(w.session(), "hi"); err != nil {
			t.Error(err)
		}
		if g := h.calls("GET"); len(g) != 1 || g[0].path != "/hook/validate" || g[0].header.Get("WebHook-Request-Origin") != host || g[0].header.Get("ce-awpsversion") != "1.0" {
			t.Errorf("got %+v", g)
		}
		w, h = oneHandler(t, nil)
		h.option = func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("WebHook-Allowed-Origin", "*")
			w.WriteHeader(405)
		}
		w.failed(second(w.send(w.session(), "hi")), reason.ValidationFailed)
		if len(h.got) != 1 {
			t.Errorf("got %+v", h.got)
		}
	}},
	{47, "cookies of a 2xx answer come back on later events of the same connection only", func(t *testing.T) {
		w, h := oneHandler(t, func(w http.ResponseWriter, _ *http.Request, body string) {
			switch body {
			case "set":
				w.Header().Add("Set-Cookie", "ARRAffinity=1; Path=/")
				w.Header().Add("Set-Cookie", "elsewhere=1; Path=/other")
				w.Header().Add("Set-Cookie", "=;;")
			case "fail":
				w.Header().Add("Set-Cookie", "failed=1; Path=/")
				w.WriteHeader(400)
			}
		})
		h.option = func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Set-Cookie", "validation=1; Path=/")
			w.Header().Set("WebHook-Allowed-Origin", "*")
		}
		one, two := w.session(), w.session()
		for _, step := range []struct {
			s          *Session
			body, want string
		}{{one, "set", ""}, {one, "", "ARRAffinity=1"}, {two, "", ""}, {one, "fail", "ARRAffinity=1"}, {one, "", "ARRAffinity=1"}} {
			_, err := w.send(step.s, step.body)
			if (err != nil) != (step.body == "fail") {
				t.Fatal(err)
			}
			p := h.calls("POST")
			if got := p[len(p)-1].header.Get("Cookie"); got != step.want {
				t.Errorf("%q: Cookie %q, want %q", step.body, got, step.want)
			}
		}
		if !strings.Contains(w.log.String(), "invalid cookie") {
			t.Error("an invalid cookie is not logged")
		}
	}},
	{48, "redirects are not followed", func(t *testing.T) {
		_, other := oneHandler(t, nil)
		w, h := oneHandler(t, nil)
		h.answer = func(w http.ResponseWriter, r *http.Request, _ string) { http.Redirect(w, r, other.URL, 307) }
		w.hub("chat", with(h.URL, "api://x"))
		w.failed(second(w.send(w.session(), "hi")), reason.HandlerRedirect)
		_, err := w.session().Connect(t.Context(), ConnectRequest{})
		if r, ok := err.(*Rejection); !ok || r.Status != 500 || len(r.Body) != 0 {
			t.Errorf("connect: %v", err)
		}
		h.option = func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, other.URL, 302) }
		w.hub("chat", with(h.URL+"/again", "api://x"))
		w.failed(second(w.send(w.session(), "hi")), reason.HandlerRedirect)
		if len(other.got) != 0 {
			t.Errorf("the other server got %+v", other.got)
		}
	}},
	{49, "two user events of one connection are never under way at the same time", func(t *testing.T) {
		var now, most atomic.Int32
		w, h := oneHandler(t, func(http.ResponseWriter, *http.Request, string) {
			most.Store(max(most.Load(), now.Add(1)))
			time.Sleep(time.Millisecond) // long enough to meet another
			now.Add(-1)
		})
		s := w.session()
		errs := make(chan error)
		for range 20 {
			go func() { errs <- second(w.send(s, "hi")) }()
		}
		for range 20 {
			if err := <-errs; err != nil {
				t.Error(err)
			}
		}
		if most.Load() != 1 || len(h.calls("POST")) != 20 {
			t.Errorf("%d at once, %d in all", most.Load(), len(h.calls("POST")))
		}
	}},
	{51, "changed settings take effect for the next event of a live connection", func(t *testing.T) {
		w, h := oneHandler(t, nil)
		_, other := oneHandler(t, nil)
		s := w.session()
		if _, err := w.send(s, "one"); err != nil {
			t.Fatal(err)
		}
		w.hub("chat", all(other.URL))
		w.edit(func(in *settings.Instance) { in.Keys.Primary = secondaryKey[:32] })
		if _, err := w.send(s, "two"); err != nil {
			t.Fatal(err)
		}
		if h.event(t).body != "one" || other.event(t).body != "two" {
			t.Error("the second event went to the old handler")
		}
		if got, want := other.event(t).header.Get("ce-signature"), mac(secondaryKey[:32], connectionID)+","+mac(secondaryKey, connectionID); got != want {
			t.Errorf("signature %s, want %s", got, want)
		}
		w.edit(func(in *settings.Instance) { in.DisableLocalAuth = true })
		if _, err := w.send(s, "three"); err != nil {
			t.Fatal(err)
		}
		if g := other.calls("POST")[1]; g.header["Ce-Signature"] != nil {
			t.Errorf("without local authentication: %q", g.header["Ce-Signature"])
		}
	}},
	{52, "a user id beyond ASCII arrives as UTF-8, nothing else may be beyond it", func(t *testing.T) {
		w, h := oneHandler(t, nil)
		s := w.session()
		s.Bind("Zoë 山", "")
		if _, err := w.send(s, "hi"); err != nil {
			t.Fatal(err)
		}
		if got := h.event(t).header.Get("ce-userId"); got != "Zoë 山" {
			t.Errorf("got %q", got)
		}
		for name, send := range map[string]func() error{
			"event name": func() error { return second(s.User(t.Context(), UserEvent{Name: "é"})) },
			"metadata value": func() error {
				return second(s.User(t.Context(), UserEvent{Name: "a", Metadata: []Pair{{"k", "é"}}}))
			},
			"metadata key": func() error { return second(s.User(t.Context(), UserEvent{Name: "a", Metadata: []Pair{{"a b", "v"}}})) },
			"line end": func() error {
				return second(s.User(t.Context(), UserEvent{Name: "a", Metadata: []Pair{{"k", "a\r\nX: y"}}}))
			},
			"user's bytes":  func() error { s.Bind("a\r\nX: y", ""); return second(w.send(s, "hi")) },
			"subprotocol's": func() error { s.Bind("a", "é"); return second(w.send(s, "hi")) },
		} {
			if e, ok := send().(*DeliveryError); !ok || e.Code != reason.HeaderNotASCII {
				t.Errorf("%s: %v", name, e)
			}
		}
		if n := len(h.calls("POST")); n != 1 {
			t.Errorf("%d requests", n)
		}
	}},
	{53, "metadata goes both ways", func(t *testing.T) {
		w, h := oneHandler(t, func(w http.ResponseWriter, _ *http.Request, _ string) {
			w.Header().Add("X-WebPubSub-Metadata-Trace", "first")
			w.Header().Add("x-webpubsub-metadata-trace", "a, last")
			w.Header().Add("X-WebPubSub-Metadata-A", "1")
		})
		r, err := w.session().User(t.Context(), UserEvent{Name: "a", Metadata: []Pair{{"Key", "one"}, {"kEY", "two"}}})
		if err != nil || r == nil || r.Type != Text || len(r.Data) != 0 || !slices.Equal(r.Metadata, []Pair{{"a", "1"}, {"trace", "last"}}) {
			t.Errorf("%+v, %v", r, err)
		}
		if got := h.event(t).header.Values("x-webpubsub-metadata-key"); !slices.Equal(got, []string{"two"}) {
			t.Errorf("got %q", got)
		}
	}},
	{54, "without an identity deliveries that need one stop, others go on", func(t *testing.T) {
		w, h := oneHandler(t, nil)
		w.hub("chat", &settings.EventHandler{URLTemplate: h.URL, UserEventPattern: "open"}, with(h.URL, "api://x"))
		w.edit(func(in *settings.Instance) { in.Identity = settings.Identity{} })
		s := w.session()
		w.failed(second(w.send(s, "hi")), reason.IdentityMissing)
		if len(h.got) != 0 || len(w.asked) != 0 {
			t.Errorf("the handler got %+v, tokens asked for %v", h.got, w.asked)
		}
		if _, err := s.User(t.Context(), UserEvent{Name: "open"}); err != nil {
			t.Error(err)
		}
	}},
	{60, "an answer above 16 MiB fails the event", func(t *testing.T) {
		announced := func(w http.ResponseWriter, _ *http.Request, _ string) {
			w.Header().Set("Content-Length", fmt.Sprint(MaxResponse+1))
			w.Write(make([]byte, 1<<20))
		}
		chunked := func(w http.ResponseWriter, _ *http.Request, _ string) {
			for range 17 {
				w.Write(make([]byte, 1<<20))
			}
		}
		for _, a := range []func(http.ResponseWriter, *http.Request, string){announced, chunked} {
			w, h := oneHandler(t, a)
			w.failed(second(w.send(w.session(), "hi")), reason.ResponseTooLarge)
			_, err := w.session().Connect(t.Context(), ConnectRequest{})
			if r, ok := err.(*Rejection); !ok || r.Status != 500 || r.Code != reason.ResponseTooLarge || len(h.calls("POST")) != 2 {
				t.Errorf("connect: %v, %d requests", err, len(h.calls("POST")))
			}
		}
		w, _ := oneHandler(t, func(w http.ResponseWriter, _ *http.Request, _ string) { w.Write(make([]byte, MaxResponse)) })
		if r, err := w.send(w.session(), "hi"); err != nil || len(r.Data) != MaxResponse {
			t.Errorf("16 MiB exactly: %v", err)
		}
	}},
}

const secretURI = "https://v.vault.azure.net/secrets/code/"

func TestAppendixA(t *testing.T) {
	for _, c := range appendix {
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
