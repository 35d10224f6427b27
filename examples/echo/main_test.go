package main

import (
	"bytes"
	"context"
	"errors"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"tabard"
)

// TestTheReadmesFiveMinutes runs what the README tells a newcomer to type, with the command line and this handler
// as programs of their own.
func TestTheReadmesFiveMinutes(t *testing.T) {
	dir := t.TempDir()
	build := func(module, pkg, name string) string {
		out := filepath.Join(dir, name)
		cmd := exec.Command("go", "build", "-C", module, "-o", out, pkg)
		if text, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("build %s: %v\n%s", pkg, err, text)
		}
		return out
	}
	cli, echo := build("../..", "./cmd/tabard", "tabard"), build(".", ".", "echo")

	data := filepath.Join(dir, "data")
	srv, err := tabard.New(tabard.Config{Data: data, Listen: "127.0.0.1:0", AdminListen: "127.0.0.1:0", AllowLoopbackHandlers: true}, nil)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ran := make(chan error, 1)
	go func() { ran <- srv.Run(ctx) }()
	defer func() {
		cancel()
		if err := <-ran; err != nil {
			t.Error(err)
		}
	}()
	if _, err := srv.Ready(ctx); err != nil {
		t.Fatal(err)
	}
	address := freeAddress(t)
	handler := exec.Command(echo, "--listen", address, "--audience", "api://my-handler", "--ready", filepath.Join(data, "ready.json"))
	var log bytes.Buffer
	handler.Stderr = &log
	if err := handler.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = handler.Process.Signal(syscall.SIGTERM); _ = handler.Wait() }()
	answers(t, "http://"+address+"/eventhandler", &log)

	run := func(stdin string, args ...string) string {
		t.Helper()
		cmd := exec.Command(cli, args...)
		cmd.Env = append(os.Environ(), "TABARD_DATA="+data)
		cmd.Stdin = strings.NewReader(stdin)
		var errOut bytes.Buffer
		cmd.Stderr = &errOut
		out, err := cmd.Output()
		if err != nil {
			t.Fatalf("tabard %s: %v\n%s\nhandler: %s", strings.Join(args, " "), err, errOut.String(), log.String())
		}
		return strings.TrimSpace(string(out))
	}
	run("", "identity", "assign", "--system")
	run("", "app", "create", "my-handler", "--identifier-uri", "api://my-handler")
	run("", "hub", "set", "chat", "--handler-url", "http://"+address+"/eventhandler", "--user-events", "*", "--auth", "managed-identity", "--audience", "api://my-handler")
	if got := run("hello\n", "connect", "--hub", "chat", "--user", "alice", "--count", "1"); got != "alice said hello" {
		t.Errorf("the handler answered %q", got)
	}
	if got := run("", "trace", "tail", "--kind", "delivery", "--last", "1", "--no-follow"); !strings.Contains(got, "delivered") {
		t.Errorf("the trace says %q", got)
	}
}

func freeAddress(t *testing.T) string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// answers waits until something listens at the URL; without a token it must refuse.
func answers(t *testing.T, url string, log *bytes.Buffer) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); ; {
		res, err := http.Post(url, "text/plain", nil)
		switch {
		case err == nil:
			res.Body.Close()
			if res.StatusCode != http.StatusUnauthorized {
				t.Fatalf("without a token the handler answers %s", res.Status)
			}
			return
		case !errors.Is(err, syscall.ECONNREFUSED) || time.Now().After(deadline):
			t.Fatalf("%v\n%s", err, log.String())
		}
		time.Sleep(10 * time.Millisecond) // until the program listens; bounded above
	}
}
