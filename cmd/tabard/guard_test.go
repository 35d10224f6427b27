package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

// A safeBuffer takes what a command writes while the test reads it.
type safeBuffer struct {
	mu sync.Mutex
	b  strings.Builder
}

func (s *safeBuffer) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}

func (s *safeBuffer) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}

// A runningGuard is `tabard guard` in this process.
type runningGuard struct {
	t     *testing.T
	ready guardReady
	log   safeBuffer
	http  *http.Client
	stop  func() int // ends it and returns its exit code
}

func startGuard(t *testing.T, args ...string) *runningGuard {
	t.Helper()
	g := &runningGuard{t: t, http: &http.Client{Transport: &http.Transport{DisableKeepAlives: true, TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}}}
	file := filepath.Join(t.TempDir(), "ready.json")
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan int, 1)
	go func() {
		ended <- run(ctx, append([]string{"guard", "--listen", "127.0.0.1:0", "--ready-file", file}, args...), &stdio{in: strings.NewReader(""), out: io.Discard, err: &g.log})
	}()
	g.stop = sync.OnceValue(func() int { cancel(); return <-ended })
	t.Cleanup(func() { g.stop() })
	g.eventually("the guard is ready", func() bool {
		text, err := os.ReadFile(file)
		return err == nil && json.Unmarshal(text, &g.ready) == nil
	})
	return g
}

func (g *runningGuard) eventually(what string, holds func() bool) {
	g.t.Helper()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(20 * time.Second); !holds(); <-tick.C {
		if time.Now().After(deadline) {
			g.t.Fatalf("still not: %s\n%s", what, g.log.String())
		}
	}
}

func (g *runningGuard) get(url string) (int, string) {
	g.t.Helper()
	res, err := g.http.Get(url)
	if err != nil {
		g.t.Fatal(err)
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	if err != nil {
		g.t.Fatal(err)
	}
	return res.StatusCode, string(text)
}

// keylessIssuer answers over the certificate of every httptest server; nobody gets a token of it.
func keylessIssuer(t *testing.T) (issuer *httptest.Server, url string) {
	const tenant = "11111111-2222-3333-4444-555555555555"
	issuer = httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.HasSuffix(r.URL.Path, "/keys") {
			fmt.Fprint(w, `{"keys":[]}`)
			return
		}
		fmt.Fprintf(w, `{"issuer":"https://%[1]s/%[2]s/","jwks_uri":"https://%[1]s/keys"}`, r.Host, tenant)
	}))
	t.Cleanup(issuer.Close)
	return issuer, issuer.URL + "/" + tenant + "/"
}

func TestTheGuardFollowsItsFiles(t *testing.T) {
	app := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "the application") }))
	defer app.Close()
	_, url := keylessIssuer(t)

	dir := t.TempDir()
	in := func(name string) string { return filepath.Join(dir, name) }
	write := func(name, text string) {
		t.Helper()
		if err := os.WriteFile(in(name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	certificate, key := pemOf(t, app)
	write("cert.pem", certificate)
	write("key.pem", key)
	settings := "upstream: " + app.URL + "\nupstream-ca: " + in("cert.pem") + "\naudience: [api://orders]\nissuer: [" + url + "]\nca: " + in("cert.pem") +
		"\ntls-cert: " + in("cert.pem") + "\ntls-key: " + in("key.pem") + "\nmetrics-listen: 127.0.0.1:0\n"
	write("guard.yaml", settings)

	g := startGuard(t, "--config", in("guard.yaml"))
	if !strings.HasPrefix(g.ready.Endpoint, "https://127.0.0.1:") {
		t.Errorf("endpoint is %s", g.ready.Endpoint)
	}
	if status, body := g.get(g.ready.Endpoint + "/health"); status != http.StatusUnauthorized || !strings.Contains(body, "token_missing") {
		t.Errorf("without a token: %d %s", status, body)
	}

	write("guard.yaml", settings+"exclude-path: [health]\n")
	g.eventually("a wrong file is complained about", func() bool { return strings.Contains(g.log.String(), "the configuration stays as it was") })
	if status, _ := g.get(g.ready.Endpoint + "/health"); status != http.StatusUnauthorized {
		t.Errorf("with a wrong file: %d", status)
	}
	// Half of a change is not made: the path would be excluded, but the certificate cannot be read.
	write("key.pem", "nothing")
	write("guard.yaml", settings+"exclude-path: [/health]\n")
	g.eventually("the wrong key is complained about", func() bool { return strings.Contains(g.log.String(), "failed to find any PEM data") })
	if status, _ := g.get(g.ready.Endpoint + "/health"); status != http.StatusUnauthorized {
		t.Errorf("with half a change: %d", status)
	}
	write("key.pem", key)
	g.eventually("the path is excluded", func() bool {
		status, body := g.get(g.ready.Endpoint + "/health")
		return status == http.StatusOK && body == "the application"
	})
	g.eventually("the metrics say so", func() bool {
		_, body := g.get(g.ready.MetricsURL)
		return strings.Contains(body, `tabard_guard_reloads_total{result="ok"} 1`) && strings.Contains(body, `outcome="excluded"`)
	})
	if status, body := g.get(strings.TrimSuffix(g.ready.MetricsURL, "/metrics") + "/healthz"); status != http.StatusOK || body != "ok\n" {
		t.Errorf("health: %d %s", status, body)
	}
	if code := g.stop(); code != exitOK {
		t.Errorf("ended with %d\n%s", code, g.log.String())
	}
}

func TestAGuardWhoseIssuerIsNotThereYetServesAndRefuses(t *testing.T) {
	g := startGuard(t, "--upstream", "http://127.0.0.1:1", "--audience", "api://orders", "--issuer", "https://127.0.0.1:1/11111111-2222-3333-4444-555555555555/")
	if status, _ := g.get(g.ready.Endpoint); status != http.StatusUnauthorized {
		t.Errorf("%d", status)
	}
	for _, want := range []string{"an issuer does not answer", "every application that gets a token"} {
		if !strings.Contains(g.log.String(), want) {
			t.Errorf("no warning %q in\n%s", want, g.log.String())
		}
	}
	if code := g.stop(); code != exitOK {
		t.Errorf("ended with %d", code)
	}
}

// pemOf are a test server's certificate and key.
func pemOf(t *testing.T, s *httptest.Server) (certificate, key string) {
	t.Helper()
	pair := s.TLS.Certificates[0]
	der, err := x509.MarshalPKCS8PrivateKey(pair.PrivateKey)
	if err != nil {
		t.Fatal(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: pair.Certificate[0]})), string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}))
}
