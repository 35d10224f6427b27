//go:build unix

package main

import (
	"net/http"
	"net/http/httptest"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// A SIGHUP replaces the configuration even when no file changed: what it names may have, such as an environment variable
// of a supervisor that restarts nothing, or an operator wants to see in the log that the guard took it.
func TestAHangUpMakesTheGuardReadItsConfigurationAgain(t *testing.T) {
	mine := make(chan os.Signal, 1)
	signal.Notify(mine, syscall.SIGHUP) // so that one which comes too early does not end the test
	defer signal.Stop(mine)
	app := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	defer app.Close()
	issuer, url := keylessIssuer(t)
	certificate, _ := pemOf(t, issuer)
	file, ca := filepath.Join(t.TempDir(), "guard.yaml"), filepath.Join(t.TempDir(), "ca.pem")
	config := "upstream: " + app.URL + "\naudience: [api://orders]\nissuer: [" + url + "]\nca: " + ca + "\n"
	for name, text := range map[string]string{file: config, ca: certificate} {
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	g := startGuard(t, "--config", file)
	g.eventually("it has read its configuration again", func() bool {
		if err := syscall.Kill(os.Getpid(), syscall.SIGHUP); err != nil {
			t.Fatal(err)
		}
		return strings.Contains(g.log.String(), "the configuration was replaced")
	})
	if code := g.stop(); code != exitOK {
		t.Errorf("ended with %d\n%s", code, g.log.String())
	}
}
