package tabard_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"tabard"
)

func TestMain(m *testing.M) {
	if dir := os.Getenv(crashDir); dir != "" {
		crashingService(dir)
		return
	}
	goleak.VerifyTestMain(m)
}

// A running service under test.
type running struct {
	tabard.Ready
	stop func() error // once; the error of Run
	http *http.Client // trusts the local authority
}

// start runs a service on free ports; it is stopped with the test.
func start(t *testing.T, cfg tabard.Config, log *slog.Logger) *running {
	t.Helper()
	cfg.Listen, cfg.AdminListen = "127.0.0.1:0", "127.0.0.1:0"
	srv, err := tabard.New(cfg, log)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ran := make(chan error, 1)
	go func() { ran <- srv.Run(ctx) }()
	r := &running{stop: sync.OnceValue(func() error { cancel(); return <-ran })}
	t.Cleanup(func() { _ = r.stop() })
	waiting, done := context.WithTimeout(ctx, 20*time.Second)
	defer done()
	if r.Ready, err = srv.Ready(waiting); err != nil {
		t.Fatalf("not ready: %v, %v", err, r.stop())
	}
	pem, err := os.ReadFile(r.CAFile)
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(pem)
	r.http = &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool}, ForceAttemptHTTP2: true}}
	t.Cleanup(r.http.CloseIdleConnections)
	return r
}

// call sends a request with a bearer token, if there is one, and returns status and body.
func (r *running) call(t *testing.T, method, url, token, body string) (int, string) {
	t.Helper()
	req, err := http.NewRequest(method, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	if body != "" {
		req.Header.Set("Content-Type", "application/json")
	}
	res, err := r.http.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return res.StatusCode, string(text)
}

// arm calls the control plane at a path below the default instance and fails the test unless it succeeds.
func (r *running) arm(t *testing.T, method, path, body string) string {
	t.Helper()
	url := r.AdminURL + "/subscriptions/" + r.SubscriptionID + "/resourceGroups/default/providers/Microsoft.SignalRService/webPubSub/default" + path + "?api-version=2024-03-01"
	status, text := r.call(t, method, url, r.AdminToken, body)
	if status >= 300 {
		t.Fatalf("%s %s: %d %s", method, path, status, text)
	}
	return text
}

func TestBothAddressesAnswerPlainAndOverTLS(t *testing.T) {
	r := start(t, tabard.Config{Data: t.TempDir()}, nil)
	for _, url := range []string{
		r.Endpoint + "/api/health", r.HTTPSEndpoint + "/api/health", r.AdminURL + "/healthz", r.AdminHTTPSURL + "/readyz",
		r.Issuer + ".well-known/openid-configuration", r.IssuerV2 + "/.well-known/openid-configuration",
	} {
		if status, body := r.call(t, http.MethodGet, url, "", ""); status != http.StatusOK {
			t.Errorf("GET %s: %d %s", url, status, body)
		}
	}
	if err := r.stop(); err != nil {
		t.Errorf("stop: %v", err)
	}
}

func TestWithTLSOnlyNothingAnswersInPlain(t *testing.T) {
	r := start(t, tabard.Config{Data: t.TempDir(), TLSOnly: true}, nil)
	if !strings.HasPrefix(r.Endpoint, "https://") || !strings.HasPrefix(r.AdminURL, "https://") {
		t.Errorf("ready names %s and %s", r.Endpoint, r.AdminURL)
	}
	for _, url := range []string{r.Endpoint + "/api/health", r.AdminURL + "/healthz"} {
		if status, body := r.call(t, http.MethodGet, strings.Replace(url, "https:", "http:", 1), "", ""); status != http.StatusBadRequest || !strings.Contains(body, "https://") {
			t.Errorf("plain GET %s: %d %s", url, status, body)
		}
		if status, _ := r.call(t, http.MethodGet, url, "", ""); status != http.StatusOK {
			t.Errorf("GET %s: %d", url, status)
		}
	}
}

func TestTheReadyFileIsPrivateAndTrue(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "ready")
	t.Chdir(dir)
	r := start(t, tabard.Config{Data: "data", ReadyFile: file}, nil)
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var got tabard.Ready
	if err := json.Unmarshal(text, &got); err != nil || got != r.Ready {
		t.Errorf("the file says %+v, the server %+v (%v)", got, r.Ready, err)
	}
	for _, name := range []string{file, filepath.Join(dir, "data", "ready.json"), filepath.Join(dir, "data", "admin.token"), filepath.Join(dir, "data", "master.key"), filepath.Join(dir, "data", "ca-key.pem")} {
		if info, err := os.Stat(name); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s: %v, %v; want mode 0600", name, info.Mode(), err)
		}
	}
	if !filepath.IsAbs(got.CAFile) {
		t.Errorf("caFile %s depends on the reader's directory", got.CAFile)
	}
	if !strings.Contains(got.ConnectionString, "Endpoint="+got.Endpoint+";AccessKey=") {
		t.Errorf("connection string %q", got.ConnectionString)
	}
}

func TestTheAdminAddressIsClosedWithoutTheToken(t *testing.T) {
	r := start(t, tabard.Config{Data: t.TempDir()}, nil)
	subscription := "/subscriptions/" + r.SubscriptionID
	for _, path := range []string{
		"/", "/subscriptions?api-version=2022-12-01", subscription + "/providers/Microsoft.SignalRService/webPubSub?api-version=2024-03-01",
		"/v1.0/applications", "/v1.0/servicePrincipals", "/metrics", "/ca.pem",
	} {
		for name, token := range map[string]string{"no token": "", "another token": strings.Repeat("x", 43), "an access key": "key"} {
			if status, body := r.call(t, http.MethodGet, r.AdminURL+path, token, ""); status != http.StatusUnauthorized {
				t.Errorf("GET %s with %s: %d %.200s", path, name, status, body)
			}
		}
	}
	if status, _ := r.call(t, http.MethodPost, r.AdminURL+"/tabard/v1/adminToken/rotate", "", ""); status != http.StatusUnauthorized {
		t.Errorf("rotate without a token: %d", status)
	}
	for _, path := range []string{"/subscriptions", "//subscriptions"} { // the Go SDK doubles the first slash of a scope
		if status, _ := r.call(t, http.MethodGet, r.AdminURL+path+"?api-version=2022-12-01", r.AdminToken, ""); status != http.StatusOK {
			t.Errorf("%s with the token: %d", path, status)
		}
	}
}

func TestARotatedAdminTokenReplacesTheOldOneAtOnce(t *testing.T) {
	dir := t.TempDir()
	r := start(t, tabard.Config{Data: dir}, nil)
	status, body := r.call(t, http.MethodPost, r.AdminURL+"/tabard/v1/adminToken/rotate", r.AdminToken, "")
	var fresh struct{ AdminToken string }
	if err := json.Unmarshal([]byte(body), &fresh); status != http.StatusOK || err != nil || fresh.AdminToken == r.AdminToken {
		t.Fatalf("%d %s", status, body)
	}
	url := r.AdminURL + "/subscriptions?api-version=2022-12-01"
	if status, _ := r.call(t, http.MethodGet, url, r.AdminToken, ""); status != http.StatusUnauthorized {
		t.Errorf("the old token: %d", status)
	}
	if status, _ := r.call(t, http.MethodGet, url, fresh.AdminToken, ""); status != http.StatusOK {
		t.Errorf("the new token: %d", status)
	}
	text, err := os.ReadFile(filepath.Join(dir, "ready.json"))
	if err != nil || !strings.Contains(string(text), fresh.AdminToken) {
		t.Errorf("ready.json has not followed: %v", err)
	}
}

func TestEverythingThatIsPartOfTrustStaysOverARestart(t *testing.T) {
	dir := t.TempDir()
	first := start(t, tabard.Config{Data: dir}, nil)
	keys := first.arm(t, http.MethodPost, "/listKeys", "{}")
	_, jwks := first.call(t, http.MethodGet, first.HTTPSEndpoint+"/common/discovery/keys", "", "")
	if err := first.stop(); err != nil {
		t.Fatal(err)
	}
	second := start(t, tabard.Config{Data: dir}, nil)
	if second.TenantID != first.TenantID || second.SubscriptionID != first.SubscriptionID || second.AdminToken != first.AdminToken {
		t.Error("tenant, subscription or admin token changed")
	}
	var a, b struct{ PrimaryKey, SecondaryKey string }
	if err := errors.Join(json.Unmarshal([]byte(keys), &a), json.Unmarshal([]byte(second.arm(t, http.MethodPost, "/listKeys", "{}")), &b)); err != nil || a != b {
		t.Errorf("access keys changed (%v)", err)
	}
	if _, again := second.call(t, http.MethodGet, second.HTTPSEndpoint+"/common/discovery/keys", "", ""); again != jwks {
		t.Error("signing keys changed")
	}
}

func TestOneDataDirectoryServesOneProcess(t *testing.T) {
	dir := t.TempDir()
	start(t, tabard.Config{Data: dir}, nil)
	if srv, err := tabard.New(tabard.Config{Data: dir}, nil); err == nil {
		_ = srv.Close()
		t.Error("a second one opened it")
	} else if !strings.Contains(err.Error(), dir) {
		t.Errorf("the error does not name the directory: %v", err)
	}
}

func TestALostMasterKeyIsNotReplaced(t *testing.T) {
	dir := t.TempDir()
	if err := start(t, tabard.Config{Data: dir}, nil).stop(); err != nil {
		t.Fatal(err)
	}
	key := filepath.Join(dir, "master.key")
	if err := os.Rename(key, key+".away"); err != nil {
		t.Fatal(err)
	}
	if srv, err := tabard.New(tabard.Config{Data: dir}, nil); err == nil {
		_ = srv.Close()
		t.Fatal("started without its master key")
	} else if !strings.Contains(err.Error(), "master.key") {
		t.Errorf("the error does not name the file: %v", err)
	}
	if _, err := os.Stat(key); err == nil {
		t.Error("a new key was made although sealed data exists")
	}
	if err := os.Rename(key+".away", key); err != nil {
		t.Fatal(err)
	}
	start(t, tabard.Config{Data: dir}, nil)
}

func TestAnAddressInUseEndsTheStartCleanly(t *testing.T) {
	first := start(t, tabard.Config{Data: t.TempDir()}, nil)
	srv, err := tabard.New(tabard.Config{Data: t.TempDir(), Listen: strings.TrimPrefix(first.Endpoint, "http://"), AdminListen: "127.0.0.1:0"}, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := srv.Run(context.Background()); err == nil || !strings.Contains(err.Error(), "public listener") {
		t.Errorf("got %v, want an error of the public listener", err)
	}
}

// lockedBuffer collects a log that is written by many goroutines.
type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

func ExampleServer() {
	dir, err := os.MkdirTemp("", "tabard")
	if err != nil {
		panic(err)
	}
	defer os.RemoveAll(dir)
	srv, err := tabard.New(tabard.Config{Data: dir, Listen: "127.0.0.1:0", AdminListen: "127.0.0.1:0"}, nil)
	if err != nil {
		panic(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ran := make(chan error)
	go func() { ran <- srv.Run(ctx) }()
	ready, err := srv.Ready(ctx)
	fmt.Println(strings.HasPrefix(ready.ConnectionString, "Endpoint=http://127.0.0.1:"), err)
	cancel()
	fmt.Println(<-ran)
	// Output:
	// true <nil>
	// <nil>
}
