package eventhandler

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"tabard/guard/reason"
	"tabard/internal/egress"
	"tabard/internal/fabric"
	"tabard/internal/identity"
	"tabard/internal/settings"
	"tabard/internal/store"
	"tabard/internal/trace"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	subscription = "11111111-2222-4333-8444-555555555555"
	connectionID = "0f5a6b6f2c7e4a54b0d1c7a0e3f4d5b6"
	primaryKey   = "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789ABCDEFGH"
	secondaryKey = "0123456789ABCDEFGHABCDEFGHIJKLMNOPQRSTUVWXYZ"
	host         = "svc.example"
)

// A world is a dispatcher on real settings, with what it logs, traces and asks for.
type world struct {
	t        testing.TB
	settings *settings.Settings
	d        *Dispatcher
	trace    *trace.Recorder
	log      *lockedBuffer

	mu       sync.Mutex // guards the following
	asked    []string   // resources whose token was wanted
	refused  []string   // resources whose token a handler refused
	tokenErr error
	secrets  map[string]string
}

type lockedBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}

// openSettings opens settings on a store in a temporary directory, with the keys of the test vector and a
// system-assigned identity.
func openSettings(t testing.TB) *settings.Settings {
	t.Helper()
	ctx := context.Background()
	dir := t.TempDir()
	f, err := fabric.Open(ctx, fabric.Options{DataDir: dir})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(f.Close)
	st, err := store.Open(ctx, f, store.MasterKeyFile(dir+"/master.key"), slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(st.Close)
	s, err := settings.Open(ctx, st, settings.Options{SubscriptionID: subscription})
	if err != nil {
		t.Fatal(err)
	}
	_, err = s.Update(ctx, "default", func(in *settings.Instance) error {
		in.Keys = settings.Keys{Primary: primaryKey, Secondary: secondaryKey}
		in.Identity = settings.Identity{Type: settings.IdentitySystemAssigned, PrincipalID: "oid", ClientID: "appid", TenantID: "tid"}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// quick are options for real sockets: everything as in production but short pauses.
func quick() Options {
	return Options{
		RetryAfter: []time.Duration{time.Millisecond, 2 * time.Millisecond, 3 * time.Millisecond},
		Budget:     20 * time.Second, ValidationBackoff: time.Millisecond,
	}
}

func newWorld(t testing.TB, opt Options) *world {
	t.Helper()
	w := &world{t: t, settings: openSettings(t), trace: trace.New(trace.Options{}), log: &lockedBuffer{}, secrets: map[string]string{}}
	w.start(opt)
	return w
}

func (w *world) start(opt Options) {
	w.t.Helper()
	if opt.Egress == nil {
		opt.Egress = egress.New(egress.Policy{AllowLoopback: true})
	}
	w.t.Cleanup(opt.Egress.Close)
	opt.Settings, opt.Trace, opt.Identity, opt.Rejected = w.settings.Snapshot, w.trace, w.token, w.rejected
	opt.Secrets = func(_ context.Context, _ *settings.Instance, uri string) (string, error) {
		w.mu.Lock()
		defer w.mu.Unlock()
		if v, ok := w.secrets[uri]; ok {
			return v, nil
		}
		return "", fmt.Errorf("secret %s: 403", uri)
	}
	opt.Origin = func(*settings.Instance) (string, []string) { return host, []string{host + ":8080"} }
	opt.Log = slog.New(slog.NewTextHandler(w.log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	w.d = New(opt)
	w.t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		if err := w.d.Close(ctx); err != nil {
			w.t.Errorf("close: %v", err)
		}
	})
}

// token makes an access token of the right shape: aud is the resource byte for byte.
func (w *world) token(_ context.Context, _ *settings.Instance, resource string) (*identity.Token, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.asked = append(w.asked, resource)
	if w.tokenErr != nil {
		return nil, w.tokenErr
	}
	return makeToken(resource), nil
}

func makeToken(resource string) *identity.Token {
	part := base64.RawURLEncoding.EncodeToString
	raw := part([]byte(`{"alg":"RS256"}`)) + "." + part(fmt.Appendf(nil, `{"aud":%q,"oid":"oid"}`, resource)) + "." + part([]byte("canary-signature"))
	return identity.NewToken(raw, time.Now(), time.Now().Add(time.Hour), time.Time{})
}

func (w *world) rejected(_ *settings.Instance, resource string, _ *identity.Token, claims string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.refused = append(w.refused, resource+claims)
}

// hub configures a hub's handlers; edits change the instance.
func (w *world) hub(name string, handlers ...*settings.EventHandler) {
	w.t.Helper()
	w.edit(func(in *settings.Instance) {
		in.Hubs[strings.ToLower(name)] = &settings.Hub{Name: name, EventHandlers: handlers}
	})
}

func (w *world) edit(f func(*settings.Instance)) {
	w.t.Helper()
	_, err := w.settings.Update(context.Background(), "default", func(in *settings.Instance) error { f(in); return nil })
	if err != nil {
		w.t.Fatal(err)
	}
}

// all is a handler that takes every event.
func all(url string) *settings.EventHandler {
	return &settings.EventHandler{URLTemplate: url, UserEventPattern: "*", SystemEvents: []string{"connect", "connected", "disconnected"}}
}

// with is a handler that takes every event and wants a token.
func with(url, resource string) *settings.EventHandler {
	h := all(url)
	h.Auth = &settings.Auth{Type: settings.AuthManagedIdentity, ManagedIdentity: &settings.ManagedIdentity{Resource: resource}}
	return h
}

func (w *world) session() *Session { return w.d.NewSession("default", "chat", connectionID) }

func (w *world) send(s *Session, text string) (*Reply, error) {
	return s.User(w.t.Context(), UserEvent{Name: "message", Type: Text, Data: []byte(text)})
}

// record returns the newest record of a kind, waiting for it.
func (w *world) record(kind trace.Kind) trace.Record {
	w.t.Helper()
	var recs []trace.Record
	eventually(w.t, "a "+string(kind)+" record", func() bool {
		recs = w.trace.Records(trace.Filter{Instance: "default", Kind: kind})
		return len(recs) > 0
	})
	return recs[len(recs)-1]
}

// failed checks that err is a DeliveryError with a code.
func (w *world) failed(err error, code reason.Code) *DeliveryError {
	w.t.Helper()
	e, ok := err.(*DeliveryError)
	if !ok || e.Code != code {
		w.t.Fatalf("got %v, want a DeliveryError with %s", err, code)
	}
	return e
}

func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	deadline := time.Now().Add(10 * time.Second)
	for !ok() {
		if time.Now().After(deadline) {
			t.Fatalf("%s did not come", what)
		}
		time.Sleep(time.Millisecond)
	}
}

// A got is a request that a handler received.
type got struct {
	method, path string // path with query, as escaped on the wire
	header       http.Header
	body         string
}

// A sink is an event handler that consents, keeps what it gets and answers as told.
type sink struct {
	*httptest.Server
	answer func(w http.ResponseWriter, r *http.Request, body string) // of everything but OPTIONS; nil: 204
	option func(w http.ResponseWriter, r *http.Request)              // of OPTIONS; nil: consent

	mu  sync.Mutex
	got []got
}

func newSink(t testing.TB, answer func(w http.ResponseWriter, r *http.Request, body string)) *sink {
	s := &sink{answer: answer}
	s.Server = httptest.NewServer(s)
	t.Cleanup(s.Close)
	return s
}

func (s *sink) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	s.mu.Lock()
	s.got = append(s.got, got{r.Method, r.URL.RequestURI(), r.Header, string(body)})
	s.mu.Unlock()
	switch {
	case r.Method == http.MethodOptions && s.option != nil:
		s.option(w, r)
	case r.Method == http.MethodOptions:
		w.Header().Set("WebHook-Allowed-Origin", "*")
	case s.answer == nil:
		w.WriteHeader(http.StatusNoContent)
	default:
		s.answer(w, r, string(body))
	}
}

// calls lists what came with a method.
func (s *sink) calls(method string) []got {
	s.mu.Lock()
	defer s.mu.Unlock()
	var out []got
	for _, g := range s.got {
		if g.method == method {
			out = append(out, g)
		}
	}
	return out
}

// event waits for the only event and returns it.
func (s *sink) event(t testing.TB) got {
	t.Helper()
	eventually(t, "an event", func() bool { return len(s.calls("POST")) > 0 })
	posts := s.calls("POST")
	if len(posts) != 1 {
		t.Fatalf("%d events, want one", len(posts))
	}
	return posts[0]
}

func reply(contentType, body string) func(http.ResponseWriter, *http.Request, string) {
	return func(w http.ResponseWriter, _ *http.Request, _ string) {
		w.Header()["Content-Type"] = nil // none at all
		if contentType != "" {
			w.Header().Set("Content-Type", contentType)
		}
		io.WriteString(w, body)
	}
}

func status(code int) func(http.ResponseWriter, *http.Request, string) {
	return func(w http.ResponseWriter, _ *http.Request, _ string) { w.WriteHeader(code) }
}

func mac(key, message string) string {
	m := hmac.New(sha256.New, []byte(key))
	m.Write([]byte(message))
	return "sha256=" + hex.EncodeToString(m.Sum(nil))
}

// constant is a source of one token, as the identity cache is when it is warm.
func constant(tok *identity.Token) func(context.Context, *settings.Instance, string) (*identity.Token, error) {
	return func(context.Context, *settings.Instance, string) (*identity.Token, error) { return tok, nil }
}
