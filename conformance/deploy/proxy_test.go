package deploy_test

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"
)

// writePair makes a certificate for names and writes it and its key.
func writePair(t *testing.T, certFile, keyFile string, names ...string) *x509.CertPool {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), DNSNames: names, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	for file, block := range map[string]*pem.Block{certFile: {Type: "CERTIFICATE", Bytes: der}, keyFile: {Type: "PRIVATE KEY", Bytes: keyDER}} {
		if err := os.WriteFile(file, pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AddCert(cert)
	return pool
}

// startNginx serves deploy/proxy/nginx.conf as it is, but for its addresses and files.
func startNginx(t *testing.T, front, back int) *x509.CertPool {
	t.Helper()
	nginx, err := exec.LookPath("nginx")
	if err != nil {
		t.Fatalf("%v: apt-get install nginx-light, as make conformance does", err)
	}
	dir := t.TempDir()
	certFile, keyFile := filepath.Join(dir, "tls.pem"), filepath.Join(dir, "tls.key")
	pool := writePair(t, certFile, keyFile, "wps.example.com", "*.wps.example.com")
	server := strings.NewReplacer(
		"listen 443 ssl", fmt.Sprintf("listen 127.0.0.1:%d ssl", front), "http://127.0.0.1:8080", fmt.Sprintf("http://127.0.0.1:%d", back),
		"/etc/nginx/tls.pem", certFile, "/etc/nginx/tls.key", keyFile,
	).Replace(string(read(t, "proxy/nginx.conf")))
	config := fmt.Sprintf("daemon off;\nworker_processes 1;\npid %[1]s/pid;\nerror_log %[1]s/error.log warn;\nevents {}\nhttp {\naccess_log off;\n"+
		"client_body_temp_path %[1]s/body;\nproxy_temp_path %[1]s/proxy;\nfastcgi_temp_path %[1]s/f;\nuwsgi_temp_path %[1]s/u;\nscgi_temp_path %[1]s/s;\n%[2]s}\n", dir, server)
	if os.Getuid() == 0 {
		config = "user root;\n" + config // its directory is ours alone
	}
	file := filepath.Join(dir, "nginx.conf")
	if err := os.WriteFile(file, []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	var output bytes.Buffer
	cmd := exec.Command(nginx, "-c", file, "-e", filepath.Join(dir, "start.log"))
	cmd.Stdout, cmd.Stderr = &output, &output
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Signal(os.Interrupt)
		_ = cmd.Wait()
		if t.Failed() {
			text, _ := os.ReadFile(filepath.Join(dir, "error.log"))
			t.Logf("nginx said:\n%s%s", output.String(), text)
		}
	})
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		conn, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", front))
		if err == nil {
			conn.Close()
			return pool
		}
		if time.Now().After(deadline) {
			t.Fatalf("nginx does not answer: %v\n%s", err, output.String())
		}
	}
}

// token signs an access token with the instance's key.
func (s *service) token(audience string) string {
	_, key, _ := strings.Cut(s.ConnectionString, "AccessKey=")
	key, _, _ = strings.Cut(key, ";")
	encode := base64.RawURLEncoding.EncodeToString
	text := encode([]byte(`{"alg":"HS256","typ":"JWT"}`)) + "." + encode(fmt.Appendf(nil, `{"aud":%q,"exp":%d}`, audience, time.Now().Add(time.Hour).Unix()))
	mac := hmac.New(sha256.New, []byte(key))
	mac.Write([]byte(text))
	return text + "." + encode(mac.Sum(nil))
}

// Clients, servers and tokens behind a real proxy that ends TLS, with the configuration that we ship.
func TestBehindNginx(t *testing.T) {
	front, back := free(t), free(t)
	s := startOn(t, back, t.TempDir(), "--public-url", "https://wps.example.com", "--trusted-proxy", "127.0.0.1/32")
	pool := startNginx(t, front, back)
	from := func(address string) *http.Client { // a client elsewhere: trusted is the proxy's own address
		transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool}, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(address)}}
			return d.DialContext(ctx, "tcp", fmt.Sprintf("127.0.0.1:%d", front))
		}}
		t.Cleanup(transport.CloseIdleConnections)
		return &http.Client{Transport: transport}
	}
	client := from("127.0.0.9")
	call := func(c *http.Client, method, path, body string, header ...string) (int, string) {
		t.Helper()
		r, err := http.NewRequestWithContext(t.Context(), method, "https://wps.example.com"+path, strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		base, _, _ := strings.Cut(path, "?")
		r.Header.Set("Authorization", "Bearer "+s.token("https://wps.example.com"+base))
		r.Header.Set("Content-Type", "text/plain")
		for i := 0; i < len(header); i += 2 {
			r.Header.Set(header[i], header[i+1])
		}
		res, err := c.Do(r)
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

	var sockets []*websocket.Conn
	for range 2 {
		url := "wss://wps.example.com/client/hubs/chat?access_token=" + s.token("https://wps.example.com/client/hubs/chat")
		conn, _, err := websocket.Dial(t.Context(), url, &websocket.DialOptions{HTTPClient: client, Subprotocols: []string{"json.webpubsub.azure.v1"}})
		if err != nil {
			t.Fatal(err)
		}
		defer conn.CloseNow()
		sockets = append(sockets, conn)
		var connected struct{ ConnectionID string }
		receive(t, conn, &connected)
		if status, text := call(client, "PUT", "/api/hubs/chat/groups/g/connections/"+connected.ConnectionID+"?api-version=2024-12-01", ""); status != 200 {
			t.Fatalf("join: %d %s", status, text)
		}
	}
	if status, text := call(client, "POST", "/api/hubs/chat/groups/g/:send?api-version=2024-12-01", "hello"); status != 202 {
		t.Fatalf("send: %d %s", status, text)
	}
	for _, conn := range sockets {
		var message struct{ Data string }
		if receive(t, conn, &message); message.Data != "hello" {
			t.Errorf("received %q", message.Data)
		}
	}
	status, text := call(client, "GET", "/api/hubs/chat/groups/g/connections?api-version=2024-12-01&maxpagesize=1", "")
	if status != 200 || !strings.Contains(text, `"nextLink":"https://wps.example.com/api/`) {
		t.Errorf("the link to the next page is not the proxy's: %d %s", status, text)
	}

	// Network rules see the client behind the proxy, and believe nothing that it says of itself.
	rules := func(value string) {
		t.Helper()
		url := s.AdminURL + "/subscriptions/" + s.SubscriptionID + "/resourceGroups/default/providers/Microsoft.SignalRService/webPubSub/default?api-version=2024-03-01"
		r, err := http.NewRequestWithContext(t.Context(), "PATCH", url, strings.NewReader(`{"properties":{"networkACLs":{"ipRules":[{"value":"`+value+`","action":"Deny"}]}}}`))
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Authorization", "Bearer "+s.AdminToken)
		r.Header.Set("Content-Type", "application/json")
		res, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		res.Body.Close()
		if res.StatusCode != 200 {
			t.Fatalf("rules: %s", res.Status)
		}
	}
	const path = "/api/hubs/chat/groups/g/connections?api-version=2024-12-01"
	rules("127.0.0.9")
	if status, text := call(client, "GET", path, "", "X-Forwarded-For", "198.51.100.7"); status != 403 {
		t.Errorf("a denied client gets in by a header of its own: %d %s", status, text)
	}
	if status, text := call(from("127.0.0.8"), "GET", path, ""); status != 200 {
		t.Errorf("another client: %d %s", status, text)
	}
	rules("198.51.100.7")
	if status, text := call(client, "GET", path, "", "X-Forwarded-For", "198.51.100.7"); status != 200 {
		t.Errorf("the client's own header counts: %d %s", status, text)
	}
}

func receive(t *testing.T, conn *websocket.Conn, into any) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	_, text, err := conn.Read(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(text, into); err != nil {
		t.Fatalf("%v in %s", err, text)
	}
}
