package tabard_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io/fs"
	"log/slog"
	"net/http"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/gobwas/ws"

	"tabard"
)

// crashDir tells a copy of the test binary to be a service that dies.
const crashDir = "CRASHING_SERVICE_DATA"

// crashingService serves until it is signalled: USR1 makes it panic, QUIT is Go's own.
func crashingService(data string) {
	log := slog.New(slog.NewJSONHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelDebug}))
	srv, err := tabard.New(tabard.Config{Data: data, Listen: "127.0.0.1:0", AdminListen: "127.0.0.1:0", AllowLoopbackHandlers: true}, log)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	die := make(chan os.Signal, 1)
	signal.Notify(die, syscall.SIGUSR1)
	go func() {
		<-die
		panic("on purpose")
	}()
	if err := srv.Run(context.Background()); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// What a dying process prints, on a panic and on SIGQUIT, shows stacks of every goroutine and no secret that went
// through them. A core dump is another matter: it has whatever memory has, and nothing here can change that; Go writes
// one only if it is told to (GOTRACEBACK=crash).
func TestADyingProcessPrintsNoSecret(t *testing.T) {
	for name, sig := range map[string]syscall.Signal{"a panic": syscall.SIGUSR1, "SIGQUIT": syscall.SIGQUIT} {
		t.Run(name, func(t *testing.T) {
			canary := "canary-" + strings.ReplaceAll(name, " ", "-") + "-9e41"
			dir := t.TempDir()
			cmd := exec.Command(os.Args[0])
			cmd.Env = append(os.Environ(), crashDir+"="+dir, "GOTRACEBACK=all")
			var output bytes.Buffer
			cmd.Stdout, cmd.Stderr = &output, &output
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			exited := sync.OnceValue(cmd.Wait)
			t.Cleanup(func() { _ = cmd.Process.Kill(); _ = exited() })
			r := &running{http: &http.Client{}}
			defer r.http.CloseIdleConnections()
			deadline := time.Now().Add(30 * time.Second)
			for {
				text, err := os.ReadFile(filepath.Join(dir, "ready.json"))
				if err == nil && json.Unmarshal(text, &r.Ready) == nil {
					break
				}
				if time.Now().After(deadline) {
					t.Fatal("not ready")
				}
				time.Sleep(5 * time.Millisecond) // a poll, bounded by the deadline
			}
			handler := newNosyHandler(t)
			var in struct {
				Identity struct{ PrincipalID string }
			}
			if err := json.Unmarshal([]byte(r.arm(t, http.MethodPatch, "", `{"identity":{"type":"SystemAssigned"}}`)), &in); err != nil {
				t.Fatal(err)
			}
			want := func(method, path, body string) {
				t.Helper()
				if status, text := r.call(t, method, r.AdminURL+path, r.AdminToken, body); status >= 300 {
					t.Fatalf("%s %s: %d %s", method, path, status, text)
				}
			}
			vaults := "/subscriptions/" + r.SubscriptionID + "/resourceGroups/default/providers/Microsoft.KeyVault/vaults/default"
			want(http.MethodPut, vaults+"/accessPolicies/add?api-version=2024-11-01", `{"properties":{"accessPolicies":[{"tenantId":"`+r.TenantID+`","objectId":"`+in.Identity.PrincipalID+`","permissions":{"secrets":["get"]}}]}}`)
			want(http.MethodPut, "/tabard/v1/vaults/default/secrets/code?api-version=7.4", `{"value":"`+canary+`"}`)
			template := handler.URL + "/?code={@Microsoft.KeyVault(SecretUri=" + r.AdminHTTPSURL + "/secrets/code)}"
			r.arm(t, http.MethodPut, "/hubs/chat", `{"properties":{"eventHandlers":[{"urlTemplate":"`+template+`","userEventPattern":"*","systemEvents":["connect"]}]}}`)
			var keys struct{ PrimaryKey string }
			if err := json.Unmarshal([]byte(r.arm(t, http.MethodPost, "/listKeys", "{}")), &keys); err != nil {
				t.Fatal(err)
			}
			token := hs256(keys.PrimaryKey, `{"aud":"`+r.Endpoint+`/client/hubs/chat","sub":"alice","exp":`+inAnHour()+`}`)
			conn, _, _, err := ws.Dial(t.Context(), "ws"+strings.TrimPrefix(r.Endpoint, "http")+"/client/hubs/chat?access_token="+token)
			if err == nil {
				defer conn.Close()
			}
			if !strings.Contains(handler.lastURL(), canary) {
				t.Fatalf("the handler saw %q: the test proves nothing", handler.lastURL())
			}
			if err := cmd.Process.Signal(sig); err != nil {
				t.Fatal(err)
			}
			if err := exited(); err == nil {
				t.Error("the process ended well")
			}
			text := output.String()
			if !strings.Contains(text, "goroutine ") || !strings.Contains(text, "tabard/internal/keyvault/reference.(*Resolver).run") {
				t.Errorf("that is no crash: %s", text[max(0, len(text)-2000):])
			}
			if strings.Contains(text, canary) {
				t.Errorf("the secret is in the output: …%s…", around(text, canary))
			}
			err = filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
				if err != nil || d.IsDir() {
					return err
				}
				content, err := os.ReadFile(path)
				if bytes.Contains(content, []byte(canary)) {
					t.Errorf("the secret is in %s", path)
				}
				return err
			})
			if err != nil {
				t.Error(err)
			}
		})
	}
}
