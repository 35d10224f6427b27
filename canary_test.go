package tabard_test

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"io"
	"io/fs"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gobwas/ws"
	"github.com/gobwas/ws/wsutil"

	"tabard"
)

// A nosyHandler is an event handler that repeats what it was told, tokens included, in every answer.
type nosyHandler struct {
	*httptest.Server
	mu     sync.Mutex
	tokens []string
	url    string // of the last request
	status int
}

func newNosyHandler(t *testing.T) *nosyHandler {
	h := &nosyHandler{status: http.StatusOK}
	h.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		token := r.Header.Get("Authorization")
		h.mu.Lock()
		h.tokens = append(h.tokens, strings.TrimPrefix(token, "Bearer "))
		h.url = r.URL.String()
		status := h.status
		h.mu.Unlock()
		w.Header().Set("WebHook-Allowed-Origin", "*")
		w.Header().Set("Content-Type", "text/plain")
		w.Header().Set("X-Echo", token)
		if r.Method == http.MethodPost {
			w.WriteHeader(status)
			_, _ = io.WriteString(w, "you sent "+token+" to "+r.URL.String())
		}
	}))
	t.Cleanup(h.Close)
	return h
}

func (h *nosyHandler) lastURL() string {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.url
}

func (h *nosyHandler) answer(status int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.status = status
}

// TestNothingSecretReachesALogATraceAnAnswerOrTheDisk runs events that succeed and fail in many ways, with a
// handler that echoes its token and a log at debug level, and then searches everything that came out.
func TestNothingSecretReachesALogATraceAnAnswerOrTheDisk(t *testing.T) {
	dir := t.TempDir()
	var log lockedBuffer
	r := start(t, tabard.Config{Data: dir, AllowLoopbackHandlers: true}, slog.New(slog.NewJSONHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug})))
	handler := newNosyHandler(t)
	var keys struct{ PrimaryKey, SecondaryKey string }
	if err := json.Unmarshal([]byte(r.arm(t, http.MethodPost, "/listKeys", "{}")), &keys); err != nil {
		t.Fatal(err)
	}
	var answers strings.Builder // of everything but the calls that are there to show a secret
	admin := func(method, path, body string) {
		status, text := r.call(t, method, r.AdminURL+path, r.AdminToken, body)
		answers.WriteString(text)
		if status >= 500 {
			t.Errorf("%s %s: %d %s", method, path, status, text)
		}
	}
	admin(http.MethodPost, "/v1.0/applications", `{"displayName":"h","identifierUris":["api://h"]}`)
	var app struct {
		Value []struct{ AppID string }
	}
	if _, text := r.call(t, http.MethodGet, r.AdminURL+"/v1.0/applications", r.AdminToken, ""); json.Unmarshal([]byte(text), &app) != nil || len(app.Value) != 1 {
		t.Fatalf("applications: %s", text)
	}
	admin(http.MethodPost, "/v1.0/servicePrincipals", `{"appId":"`+app.Value[0].AppID+`"}`)
	answers.WriteString(r.arm(t, http.MethodPatch, "", `{"identity":{"type":"SystemAssigned"}}`))
	hub := func(template, resource string) {
		body, _ := json.Marshal(map[string]any{"properties": map[string]any{"eventHandlers": []any{map[string]any{
			"urlTemplate": template, "userEventPattern": "*", "systemEvents": []string{"connect", "connected", "disconnected"},
			"auth": map[string]any{"type": "ManagedIdentity", "managedIdentity": map[string]any{"resource": resource}},
		}}}})
		answers.WriteString(r.arm(t, http.MethodPut, "/hubs/chat", string(body)))
	}
	const code = "canary-code-in-the-url"
	clientTokens := []string{}
	connect := func(key string) {
		ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
		defer cancel()
		token := hs256(key, `{"aud":"`+r.Endpoint+`/client/hubs/chat","sub":"alice","exp":`+inAnHour()+`}`)
		clientTokens = append(clientTokens, token)
		d := ws.Dialer{OnStatusError: func(_ int, _ []byte, resp io.Reader) { text, _ := io.ReadAll(resp); answers.Write(text) }}
		conn, _, _, err := d.Dial(ctx, "ws"+strings.TrimPrefix(r.Endpoint, "http")+"/client/hubs/chat?access_token="+url.QueryEscape(token))
		if err != nil {
			return
		}
		defer conn.Close()
		_ = conn.SetDeadline(time.Now().Add(15 * time.Second))
		if wsutil.WriteClientText(conn, []byte("hello")) == nil {
			_, _, _ = wsutil.ReadServerData(conn) // the handler's own words are the application's business
		}
	}
	for _, tc := range []struct {
		template, resource, key string
		status                  int
	}{
		{handler.URL + "/?code=" + code, "api://h", keys.PrimaryKey, http.StatusOK},
		{handler.URL + "/?code=" + code, "api://h", keys.SecondaryKey, http.StatusUnauthorized},
		{handler.URL + "/?code=" + code, "api://h", keys.PrimaryKey, http.StatusForbidden},
		{handler.URL + "/?code=" + code, "api://h", strings.Repeat("k", 44), http.StatusOK},
		{handler.URL + "/?code=" + code, "api://nobody-registered-this", keys.PrimaryKey, http.StatusOK},
		{handler.URL + "/?code=" + code, "", keys.PrimaryKey, http.StatusOK},
		{"http://169.254.169.254/?code=" + code, "api://h", keys.PrimaryKey, http.StatusOK},
		{"http://127.0.0.1:1/?code=" + code, "api://h", keys.PrimaryKey, http.StatusOK},
		{"https://" + strings.TrimPrefix(handler.URL, "http://") + "/?code=" + code, "api://h", keys.PrimaryKey, http.StatusOK},
	} {
		if strings.Contains(tc.template, ":1/") {
			continue // refused connections are retried for seconds; the unit tests of event delivery cover them
		}
		hub(tc.template, tc.resource)
		handler.answer(tc.status)
		connect(tc.key)
	}
	admin(http.MethodPut, "/subscriptions/"+r.SubscriptionID+"/nonsense", `{"broken`)
	// Events that are repeated and made up, what was sent for them, and the numbers.
	hub(handler.URL+"/?code="+code, "api://h")
	handler.answer(http.StatusOK)
	var made struct {
		Record struct{ ID uint64 }
	}
	triggered := r.arm(t, http.MethodPost, "/hubs/chat/trigger", `{"data":"hello"}`)
	if err := json.Unmarshal([]byte(triggered), &made); err != nil || !strings.Contains(triggered, `"status":200`) {
		t.Fatalf("%v: %s", err, triggered)
	}
	id := strconv.FormatUint(made.Record.ID, 10)
	repeated := r.arm(t, http.MethodPost, "/trace/"+id+"/replay", "{}")
	if !strings.Contains(repeated, `"token":"sent"`) {
		t.Fatalf("replayed as %s", repeated)
	}
	for _, text := range []string{triggered, repeated, r.arm(t, http.MethodPost, "/trace/"+id+"/listContent", "")} {
		answers.WriteString(text)
		for _, m := range regexp.MustCompile(`"body":"([^"]+)"`).FindAllStringSubmatch(text, -1) {
			body, err := base64.StdEncoding.DecodeString(m[1])
			if err != nil {
				t.Fatal(err)
			}
			answers.Write(body)
		}
	}
	admin(http.MethodGet, "/metrics", "")
	trace := r.arm(t, http.MethodGet, "/trace", "")
	if !strings.Contains(trace, "wrong") && !strings.Contains(trace, "api://h") {
		t.Fatalf("the trace holds nothing of what happened: %s", trace)
	}
	if err := r.stop(); err != nil {
		t.Error(err)
	}

	handler.mu.Lock()
	defer handler.mu.Unlock()
	if len(handler.tokens) == 0 {
		t.Fatal("the handler never saw a token: the test proves nothing")
	}
	secrets := map[string]string{"primary key": keys.PrimaryKey, "secondary key": keys.SecondaryKey, "admin token": r.AdminToken}
	for _, token := range append(handler.tokens, clientTokens...) {
		if i := strings.LastIndexByte(token, '.'); i > 0 {
			secrets["signature of "+token[:8]+"…"+token[i:i+6]] = token[i+1:]
		}
	}
	for name, secret := range secrets {
		for where, text := range map[string]string{"the log": log.String(), "the trace": trace, "an answer": answers.String()} {
			if strings.Contains(text, secret) {
				t.Errorf("the %s is in %s: …%s…", name, where, around(text, secret))
			}
		}
	}
	// The URL's own code is in the configuration, which the operator wrote and may read; log and trace are for others.
	for where, text := range map[string]string{"log": log.String(), "trace": trace} {
		if strings.Contains(text, code) {
			t.Errorf("the URL of the handler is in the %s: …%s…", where, around(text, code))
		}
	}
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		if name := d.Name(); name == "admin.token" || name == "ready.json" {
			return nil // 0600 and there to be read by their owner
		}
		text, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		for name, secret := range secrets {
			if strings.Contains(string(text), secret) {
				t.Errorf("the %s is on disk in %s", name, path)
			}
		}
		if strings.Contains(string(text), code) || strings.Contains(string(text), "api://h") {
			t.Errorf("a setting is on disk in plain text, in %s", path)
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
}

// around shows where a secret was found, without the secret.
func around(text, secret string) string {
	i := strings.Index(text, secret)
	return text[max(0, i-300):i] + "<secret>" + text[i+len(secret):min(len(text), i+len(secret)+100)]
}
