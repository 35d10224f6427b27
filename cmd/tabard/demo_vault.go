package main

import (
	"bytes"
	"crypto/rand"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"tabard/guard/reason"
)

// What the chapter about vaults is about.
const (
	hookHub   = "hooks"
	hookVault = "hooks"
	hookName  = "function-key"
)

// A hook is an event handler that knows its callers by a key in the URL, as functions do.
type hook struct {
	*demoServer

	mu    sync.Mutex // guards all below
	key   string     // that it wants
	calls int
	right int // calls with that key
}

func startHook() (*hook, error) {
	h := &hook{key: rand.Text()}
	var err error
	h.demoServer, err = startServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h.mu.Lock()
		defer h.mu.Unlock()
		right := r.URL.Query().Get("code") == h.key
		switch {
		case !right:
			w.WriteHeader(http.StatusUnauthorized)
		case r.Method == http.MethodOptions:
			w.Header().Set("WebHook-Allowed-Origin", "*")
		default:
			h.right++
			_, _ = w.Write([]byte("the key is right"))
		}
		h.calls++
	}))
	return h, err
}

// rotate makes the handler want another key.
func (h *hook) rotate() string {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.key = rand.Text()
	return h.key
}

func (h *hook) counts() (calls, right int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.calls, h.right
}

func (s *stage) secretInURL() error {
	s.title("A handler that still wants a key in its URL")
	s.say("Not every handler verifies tokens. This one wants ?code=KEY. The key goes into a vault, the URL\nonly says where it is, and the service reads it with its managed identity.\n")
	if _, err := s.run("identity", "assign", "--system"); err != nil {
		return err
	}
	if err := s.json(&s.me, "identity", "show"); err != nil { // another one than before
		return err
	}
	if _, err := s.run("vault", "create", hookVault); err != nil {
		return err
	}
	var err error
	if s.hook, err = startHook(); err != nil {
		return err
	}
	if s.secretID, err = s.store(s.hook.key); err != nil {
		return err
	}
	template := s.hook.URL + "/eventhandler?code={@Microsoft.KeyVault(SecretUri=" + s.secretID + ")}"
	if _, err := s.run("hub", "set", hookHub, "--handler-url", template, "--user-events", "*"); err != nil {
		return err
	}
	s.say("\nThe identity may not read the vault yet:\n")
	if err := s.hookRefused(); err != nil {
		return err
	}
	return s.explained()
}

// store stores a key as the newest version of the secret and returns the secret's id without a version.
func (s *stage) store(key string) (id string, err error) {
	s.keys = append(s.keys, key)
	s.say("$ … | tabard secret set %s %s --file -      (the key comes through the pipe)", hookVault, hookName)
	out, err := s.show(key, "secret", "set", hookVault, hookName, "--file", "-")
	if err != nil {
		return "", err
	}
	var shown secret
	if err := s.json(&shown, "secret", "show", hookVault, hookName); err != nil {
		return "", err
	}
	i := strings.LastIndexByte(shown.ID, '/')
	if i < 0 || !strings.Contains(out, shown.ID) {
		return "", s.surprise("the secret that was just stored", shown.ID)
	}
	return shown.ID[:i], nil
}

// hookRefused sends an event that must not reach the handler.
func (s *stage) hookRefused() error {
	before, _ := s.hook.counts()
	s.say("$ echo %s | tabard connect --hub %s --user alice --count 1", demoMessage, hookHub)
	answer, err := s.cli(demoMessage, "connect", "--hub", hookHub, "--user", "alice", "--count", "1")
	if err == nil {
		return s.surprise("a failed event", answer)
	}
	s.say("%s", indent(err.Error()))
	if calls, _ := s.hook.counts(); calls != before {
		return s.surprise("no request at all without the key", "one")
	}
	why, err := s.cli("", "trace", "tail", "--hub", hookHub, "--kind", "delivery", "--last", "1", "--no-follow")
	if err != nil {
		return err
	}
	if !strings.Contains(why, string(reason.SecretDenied)) {
		return s.surprise(string(reason.SecretDenied), why)
	}
	s.say("\nThe handler was not called, neither without the key nor with the reference in its place.")
	return nil
}

// explained asks why, and does what the answer advises.
func (s *stage) explained() error {
	s.say("\n$ tabard vault explain %s", s.secretID)
	steps, err := s.cli("", "vault", "explain", s.secretID)
	if err == nil {
		return s.surprise("a step that fails", steps)
	}
	s.say("%s\n%s", indent(steps), indent(err.Error()))
	_, advice, _ := strings.Cut(err.Error(), "hint: tabard ")
	want := []string{"vault", "policy", "set", hookVault, "--object-id", s.me.PrincipalID, "--secrets", "get"}
	if advice != strings.Join(want, " ") {
		return s.surprise("the advice to run tabard "+strings.Join(want, " "), advice)
	}
	s.say("\nWhat the hint says, and the same event again:\n")
	if _, err := s.run(want...); err != nil {
		return err
	}
	return s.hookAccepts()
}

// hookAccepts sends an event that must reach the handler with the key that it wants.
func (s *stage) hookAccepts() error {
	_, before := s.hook.counts()
	answer, err := s.pipe(demoMessage, "connect", "--hub", hookHub, "--user", "alice", "--count", "1")
	if err != nil {
		return err
	}
	if _, right := s.hook.counts(); right != before+1 || answer != "the key is right" {
		return s.surprise("an event with the right key", answer)
	}
	return nil
}

func (s *stage) rotation() error {
	s.title("The key is rotated")
	s.say("The handler wants another key from now on. It is stored; nothing is restarted.\n")
	if _, err := s.store(s.hook.rotate()); err != nil {
		return err
	}
	return s.hookAccepts()
}

// nowhere searches for the keys wherever somebody might look.
func (s *stage) nowhere() error {
	s.title("Where the keys are not")
	log, lines := s.log.end()
	places := []place{{"log, at level debug", fmt.Sprintf("%d lines", lines), log}}
	trace, err := s.cli("", "trace", "tail", "--no-follow", "--json")
	if err != nil {
		return err
	}
	places = append(places, place{"trace", fmt.Sprintf("%d records", strings.Count(trace, "\n")+1), []byte(trace)})
	metrics, err := s.metrics()
	if err != nil {
		return err
	}
	places = append(places, place{"metrics", fmt.Sprintf("%d lines", bytes.Count(metrics, []byte("\n"))), metrics})
	var answers strings.Builder
	commands := [][]string{
		{"hub", "show", hookHub, "--json"}, {"vault", "show", hookVault, "--json"}, {"vault", "explain", s.secretID, "--json"},
		{"secret", "show", hookVault, hookName, "--json"}, {"secret", "list", hookVault, "--json"}, {"secret", "list", hookVault, hookName, "--json"},
	}
	for _, args := range commands {
		out, err := s.cli("", args...)
		if err != nil {
			return err
		}
		answers.WriteString(out)
	}
	places = append(places, place{"answers of the control plane", fmt.Sprintf("%d commands", len(commands)), []byte(answers.String())})
	files, n, err := readFiles(s.data)
	if err != nil {
		return err
	}
	places = append(places, place{"data directory, every file", fmt.Sprintf("%d files, %d KiB", n, len(files)>>10), files})

	for _, p := range places {
		for _, key := range s.keys {
			for _, spelling := range spellings(key) {
				if bytes.Contains(p.content, []byte(spelling)) {
					return s.surprise("no key in the "+p.name, "one")
				}
			}
		}
		s.say("  ✓ %-30s %s", p.name, p.size)
	}
	// The search itself is real: what may be known is found.
	if !bytes.Contains(log, []byte(hookName)) || !bytes.Contains(metrics, []byte(`tabard_vault_calls_total{caller="service"`)) || !strings.Contains(trace, string(reason.SecretDenied)) || !bytes.Contains(files, []byte(base64.RawURLEncoding.EncodeToString([]byte("vault/"+hookVault)))) {
		return s.surprise("the secret's name in the log and the reason in the trace", "neither")
	}
	s.say("\nSearched for both keys, as they are, in base64 and in hex. The name of the secret is found, the\nvalues are not: they are in the vault, sealed, in this process's memory, and with the handler.")
	return nil
}

// A place is where a key must not be.
type place struct {
	name, size string
	content    []byte
}

// metrics are what a monitoring system scrapes.
func (s *stage) metrics() ([]byte, error) {
	a, err := adminFlags{dataFlags: dataFlags{Data: s.data}}.open(&stdio{err: s.out})
	if err != nil {
		return nil, err
	}
	resp, err := a.do(s.ctx, http.MethodGet, "/metrics", nil, nil, "text/plain")
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	var text bytes.Buffer
	_, err = text.ReadFrom(http.MaxBytesReader(nil, resp.Body, maxAnswer))
	return text.Bytes(), err
}

// readFiles reads all files below a directory.
func readFiles(dir string) (content []byte, n int, err error) {
	err = filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) { // the service goes on writing
			return nil
		}
		if err != nil || d.IsDir() {
			return err
		}
		text, err := os.ReadFile(path)
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		n++
		content = append(content, text...)
		return err
	})
	return content, n, err
}

// spellings are what a text looks like in the usual encodings, wherever in a longer text it stands.
func spellings(text string) []string {
	list := []string{text, hex.EncodeToString([]byte(text))}
	for skip := range 3 { // base64 takes three bytes at once
		part := text[skip:]
		list = append(list, base64.RawStdEncoding.EncodeToString([]byte(part[:len(part)/3*3])))
	}
	return list
}

// A recorder keeps what is written to it, until it is ended.
type recorder struct {
	mu    sync.Mutex // guards all below
	text  bytes.Buffer
	ended bool
}

func (r *recorder) Write(p []byte) (int, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.ended {
		r.text.Write(p)
	}
	return len(p), nil
}

// end returns what was written; from now on nothing is kept.
func (r *recorder) end() (text []byte, lines int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.ended = true
	return r.text.Bytes(), bytes.Count(r.text.Bytes(), []byte("\n"))
}
