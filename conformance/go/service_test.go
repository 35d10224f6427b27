// Package conformance_test drives the built binary with other people's Go libraries, unmodified.
package conformance_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// A service is one running `tabard dev` with data of its own.
type service struct {
	Endpoint, HTTPSEndpoint, ConnectionString  string
	AdminURL, AdminHTTPSURL, AdminToken        string
	Issuer, IssuerV2, TenantID, SubscriptionID string
	CAFile                                     string
	binary                                     string
	client                                     *http.Client // trusts the service's local authority
}

func start(t *testing.T, flags ...string) *service {
	t.Helper()
	binary, err := filepath.Abs("../../bin/tabard")
	if err != nil {
		t.Fatal(err)
	}
	data := t.TempDir()
	readyFile := filepath.Join(data, "ready")
	var output bytes.Buffer
	cmd := exec.Command(binary, append([]string{"dev", "--data", data, "--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0", "--ready-file", readyFile}, flags...)...)
	cmd.Stdout, cmd.Stderr = &output, &output
	if err := cmd.Start(); err != nil {
		t.Fatalf("start the binary (make build makes it): %v", err)
	}
	exited := make(chan error, 1)
	go func() { exited <- cmd.Wait() }()
	t.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		select {
		case err := <-exited:
			if err != nil {
				t.Errorf("the service ended with %v:\n%s", err, output.String())
			}
		case <-time.After(30 * time.Second):
			_ = cmd.Process.Kill()
			t.Errorf("the service did not stop:\n%s", output.String())
		}
	})
	s := &service{binary: binary}
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		if text, err := os.ReadFile(readyFile); err == nil {
			if err := json.Unmarshal(text, s); err != nil {
				t.Fatal(err)
			}
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("the service was not ready in time:\n%s", output.String())
		}
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

// cli runs a verb of the same binary against the service.
func (s *service) cli(t *testing.T, args ...string) string {
	t.Helper()
	cmd := exec.Command(s.binary, args...)
	cmd.Env = append(os.Environ(), "TABARD_ADMIN_URL="+s.AdminURL, "TABARD_ADMIN_TOKEN="+s.AdminToken)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("tabard %s: %v\n%s", strings.Join(args, " "), err, stderr.String())
	}
	return strings.TrimSpace(string(out))
}

func (s *service) json(t *testing.T, into any, args ...string) {
	t.Helper()
	if err := json.Unmarshal([]byte(s.cli(t, append(args, "--json")...)), into); err != nil {
		t.Fatal(err)
	}
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
