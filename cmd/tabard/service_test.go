package main

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io/fs"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"tabard"
	"tabard/guard"

	"github.com/rogpeppe/go-internal/testscript"
)

// TestScriptsOnAService runs each script against a service of its own, whose data is in the script's .tabard, where
// commands look for it. HANDLER is a guarded event handler for the audience api://orders.
func TestScriptsOnAService(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir: filepath.Join("testdata", "service"), RequireExplicitExec: true, UpdateScripts: *update,
		Setup: func(env *testscript.Env) error {
			if err := offline(env); err != nil {
				return err
			}
			ready, err := startService(env)
			if err != nil {
				return err
			}
			h, err := startHandler(env, ready)
			if err != nil {
				return err
			}
			env.Values[handlerKey{}] = h
			example, err := os.ReadFile(filepath.Join("..", "..", "examples", "resources.yaml"))
			if err == nil {
				err = os.WriteFile(filepath.Join(env.WorkDir, "resources.yaml"), example, 0o600)
			}
			if err != nil {
				return err
			}
			env.Vars = append(env.Vars, "HANDLER="+h.srv.URL, "ADMIN="+ready.AdminURL, "ADMIN_TLS="+ready.AdminHTTPSURL, "CA="+ready.CAFile,
				"CONNECTION="+ready.ConnectionString, "ISSUER="+ready.Issuer)
			return nil
		},
		Cmds: map[string]func(ts *testscript.TestScript, neg bool, args []string){
			"exits": scriptCommands["exits"],
			// lasttoken FILE writes the access token of the last event that reached the handler.
			"lasttoken": func(ts *testscript.TestScript, _ bool, args []string) {
				ts.Check(os.WriteFile(ts.MkAbs(args[0]), []byte(ts.Value(handlerKey{}).(*scriptHandler).lastToken()), 0o600))
			},
			// member VAR FILE NAME sets VAR to a text member of the JSON object in FILE.
			"member": func(ts *testscript.TestScript, _ bool, args []string) {
				var object map[string]any
				ts.Check(json.Unmarshal([]byte(ts.ReadFile(args[1])), &object))
				text, ok := object[args[2]].(string)
				if !ok {
					ts.Fatalf("%s has no text %s", args[1], args[2])
				}
				ts.Setenv(args[0], text)
			},
			// recordid VAR FILE sets VAR to the id of the trace record in FILE.
			"recordid": func(ts *testscript.TestScript, _ bool, args []string) {
				var rec struct{ ID uint64 }
				ts.Check(json.Unmarshal([]byte(ts.ReadFile(args[1])), &rec))
				ts.Setenv(args[0], strconv.FormatUint(rec.ID, 10))
			},
			// version VAR ID sets VAR to the version in a secret's id, base VAR ID to the id without it.
			"version": func(ts *testscript.TestScript, _ bool, args []string) { ts.Setenv(args[0], path.Base(args[1])) },
			"base": func(ts *testscript.TestScript, _ bool, args []string) {
				ts.Setenv(args[0], args[1][:strings.LastIndexByte(args[1], '/')])
			},
			// read VAR FILE sets VAR to the line in FILE.
			"read": func(ts *testscript.TestScript, _ bool, args []string) {
				ts.Setenv(args[0], strings.TrimSpace(ts.ReadFile(args[1])))
			},
			// bytes FILE HEX writes bytes.
			"bytes": func(ts *testscript.TestScript, _ bool, args []string) {
				content, err := hex.DecodeString(args[1])
				ts.Check(err)
				ts.Check(os.WriteFile(ts.MkAbs(args[0]), content, 0o600))
			},
			// waitgroup HUB GROUP waits until the group has a member.
			"waitgroup": func(ts *testscript.TestScript, _ bool, args []string) {
				e, err := parseConnectionString(ts.Getenv("CONNECTION"))
				ts.Check(err)
				eventually(ts, "a member of "+args[1], func() bool {
					req, err := http.NewRequest(http.MethodHead, e.origin+"/api/hubs/"+args[0]+"/groups/"+args[1]+"?api-version="+restVersion, nil)
					ts.Check(err)
					e.authorize(req)
					resp, err := http.DefaultClient.Do(req)
					ts.Check(err)
					resp.Body.Close()
					return resp.StatusCode == http.StatusOK
				})
				http.DefaultClient.CloseIdleConnections()
			},
			// waitfile FILE waits until the file is there.
			"waitfile": func(ts *testscript.TestScript, _ bool, args []string) {
				eventually(ts, args[0], func() bool {
					_, err := os.Stat(ts.MkAbs(args[0]))
					if err != nil && !errors.Is(err, fs.ErrNotExist) {
						ts.Check(err)
					}
					return err == nil
				})
			},
		},
	})
}

// eventually polls until ok, and fails the script when that takes longer than a busy machine can explain.
func eventually(ts *testscript.TestScript, what string, ok func() bool) {
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(20 * time.Second); !ok(); <-tick.C {
		if time.Now().After(deadline) {
			ts.Fatalf("waited too long for %s", what)
		}
	}
}

func startService(env *testscript.Env) (tabard.Ready, error) {
	srv, err := tabard.New(tabard.Config{
		Data: filepath.Join(env.WorkDir, defaultData), Listen: "127.0.0.1:0", AdminListen: "127.0.0.1:0",
		AllowLoopbackHandlers: true, ShutdownTimeout: 5 * time.Second,
	}, slog.New(slog.DiscardHandler))
	if err != nil {
		return tabard.Ready{}, err
	}
	ctx, stop := context.WithCancel(context.Background())
	ran := make(chan error, 1)
	go func() { ran <- srv.Run(ctx) }()
	t := env.T().(testing.TB)
	env.Defer(func() {
		stop()
		if err := <-ran; err != nil {
			t.Errorf("the service ended with %v", err)
		}
	})
	ready, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	return srv.Ready(ready)
}

type handlerKey struct{}

// A scriptHandler answers user events with what they said, and remembers the last token that it was sent.
type scriptHandler struct {
	srv *httptest.Server

	mu    sync.Mutex // guards token
	token string
}

func startHandler(env *testscript.Env, ready tabard.Ready) (*scriptHandler, error) {
	g, err := guard.New(guard.Trust{Issuers: []string{ready.Issuer, ready.IssuerV2}, Audiences: []string{"api://orders"}, CAFile: ready.CAFile},
		guard.Options{Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		return nil, err
	}
	h := &scriptHandler{}
	events := g.Events(guard.Handlers{User: func(_ context.Context, e *guard.Event) (guard.Reply, error) {
		return guard.Textf("%s said %s", e.UserID, e.Text()), nil
	}})
	h.srv = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if token, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer "); ok {
			h.mu.Lock()
			h.token = token
			h.mu.Unlock()
		}
		events.ServeHTTP(w, r)
	}))
	env.Defer(func() { h.srv.Close(); g.Close() })
	return h, nil
}

func (h *scriptHandler) lastToken() string {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.token
}
