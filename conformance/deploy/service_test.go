// Package deploy_test runs the built binary as production would have it: certificates from a real ACME server, real
// reverse proxies in front, and what lies in deploy/ checked by the tools that will read it.
package deploy_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"syscall"
	"testing"
	"time"
)

// A service is one running `tabard serve`.
type service struct {
	Endpoint, HTTPSEndpoint, ConnectionString string
	AdminURL, AdminHTTPSURL, AdminToken       string
	SubscriptionID, CAFile                    string
	stop                                      func() // once; fails the test if it ends badly
	client                                    *http.Client
}

func binary(t *testing.T) string {
	t.Helper()
	path, err := filepath.Abs("../../bin/tabard")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(path); err != nil {
		t.Fatalf("make build makes the binary: %v", err)
	}
	return path
}

// startOn serves at a port of this machine with data in a directory.
func startOn(t *testing.T, port int, data string, flags ...string) *service {
	t.Helper()
	readyFile := filepath.Join(t.TempDir(), "ready")
	var output bytes.Buffer
	args := append([]string{"serve", "--data", data, "--listen", fmt.Sprintf("127.0.0.1:%d", port), "--admin-listen", "127.0.0.1:0",
		"--allow-loopback-handlers", "--ready-file", readyFile}, flags...)
	cmd := exec.Command(binary(t), args...)
	return running(t, cmd, readyFile, &output)
}

// running starts a command that serves and waits until it answers.
func running(t *testing.T, cmd *exec.Cmd, readyFile string, output *bytes.Buffer) *service {
	t.Helper()
	cmd.Stdout, cmd.Stderr = output, output
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	exited := make(chan error, 1)
	go func() { exited <- cmd.Wait() }()
	s := &service{}
	s.stop = sync.OnceFunc(func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		select {
		case err := <-exited:
			if err != nil {
				t.Errorf("the service ended with %v:\n%s", err, output.String())
			}
		case <-time.After(30 * time.Second):
			_ = cmd.Process.Kill()
			<-exited
			t.Errorf("the service did not stop:\n%s", output.String())
		}
		if t.Failed() {
			t.Logf("the service said:\n%s", output.String())
		}
	})
	t.Cleanup(s.stop)
	for deadline := time.Now().Add(30 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		if text, err := os.ReadFile(readyFile); err == nil {
			if err := json.Unmarshal(text, s); err != nil {
				t.Fatal(err)
			}
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("the service was not ready in time")
		}
	}
	if _, err := os.Stat(s.CAFile); err != nil { // it sees another root than we do
		s.CAFile = filepath.Join(filepath.Dir(readyFile), filepath.Base(s.CAFile))
	}
	pem, err := os.ReadFile(s.CAFile)
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(pem)
	s.client = &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots}}}
	t.Cleanup(s.client.CloseIdleConnections)
	return s
}

func (s *service) get(ctx context.Context, url string) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return nil, err
	}
	res, err := s.client.Do(req)
	if err != nil {
		return nil, err
	}
	defer res.Body.Close()
	return io.ReadAll(res.Body)
}
