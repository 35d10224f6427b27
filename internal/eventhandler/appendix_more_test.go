package eventhandler

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"tabard/guard/reason"
	"tabard/internal/settings"
	"tabard/internal/trace"
)

var appendixMore = []appendixRow{
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
		for _, v := range []string{"", "\r\n", "a b", "a#b", "a\x00", "{hub}"} {
			w.secrets[secretURI] = v
			w.failed(second(w.send(w.session(), "hi")), reason.SecretUnusable)
		}
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
		h.answer = func(w http.ResponseWriter, r *http.Request, _ string) {
			http.Redirect(w, r, other.URL, http.StatusTemporaryRedirect)
		}
		w.hub("chat", with(h.URL, "api://x"))
		w.failed(second(w.send(w.session(), "hi")), reason.HandlerRedirect)
		_, err := w.session().Connect(t.Context(), ConnectRequest{})
		if r, ok := err.(*Rejection); !ok || r.Status != 500 || len(r.Body) != 0 {
			t.Errorf("connect: %v", err)
		}
		h.option = func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, other.URL, http.StatusFound) }
		w.hub("chat", with(h.URL+"/again", "api://x"))
		w.failed(second(w.send(w.session(), "hi")), reason.HandlerRedirect)
		if len(other.got) != 0 {
			t.Errorf("the other server got %+v", other.got)
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
