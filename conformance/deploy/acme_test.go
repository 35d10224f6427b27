package deploy_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/letsencrypt/pebble/v2/ca"
	"github.com/letsencrypt/pebble/v2/db"
	"github.com/letsencrypt/pebble/v2/va"
	"github.com/letsencrypt/pebble/v2/wfe"
	"github.com/miekg/dns"
)

// A pebble is Let's Encrypt's own ACME test server, in this process. It looks for the names that it checks at the
// ports given, on this machine.
type pebble struct {
	directory string
	roots     *x509.CertPool // of what it issues
	caFile    string         // what its own address is verified by
}

func startPebble(t *testing.T, httpPort, tlsPort int) *pebble {
	t.Helper()
	t.Setenv("PEBBLE_VA_NOSLEEP", "1")
	t.Setenv("PEBBLE_WFE_NONCEREJECT", "5") // percent: clients must cope with a stale nonce
	quiet := log.New(io.Discard, "", 0)
	store := db.NewMemoryStore()
	authority := ca.New(quiet, store, "", "ecdsa", 0, 1, map[string]ca.Profile{"default": {Description: "default", ValidityPeriod: 7776000}})
	validation := va.New(quiet, httpPort, tlsPort, true, names(t), store)
	front := wfe.New(quiet, store, validation, authority, []string{"pebble.letsencrypt.org"}, true, false, 1, 1)
	server := httptest.NewTLSServer(front.Handler())
	t.Cleanup(server.Close)
	p := &pebble{directory: server.URL + wfe.DirectoryPath, roots: x509.NewCertPool(), caFile: filepath.Join(t.TempDir(), "pebble.pem")}
	p.roots.AddCert(authority.GetRootCert(0).Cert)
	if err := os.WriteFile(p.caFile, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw}), 0o600); err != nil {
		t.Fatal(err)
	}
	return p
}

// names is a name server for which every name is this machine.
func names(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0") // pebble asks over TCP
	if err != nil {
		t.Fatal(err)
	}
	server := &dns.Server{Listener: l, Handler: dns.HandlerFunc(func(w dns.ResponseWriter, q *dns.Msg) {
		answer := new(dns.Msg).SetReply(q)
		if q.Question[0].Qtype == dns.TypeA {
			answer.Answer = []dns.RR{&dns.A{Hdr: dns.RR_Header{Name: q.Question[0].Name, Rrtype: dns.TypeA, Class: dns.ClassINET, Ttl: 1}, A: net.IPv4(127, 0, 0, 1)}}
		}
		_ = w.WriteMsg(answer)
	})}
	go func() { _ = server.ActivateAndServe() }()
	t.Cleanup(func() { _ = server.Shutdown() })
	return l.Addr().String()
}

// free is a port that nobody listens on.
func free(t *testing.T) int {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port
}

// Certificates come from a real ACME server, whichever way it checks, and are there at once after a restart.
func TestCertificatesComeFromAnACMEAuthority(t *testing.T) {
	for _, tc := range []struct {
		name          string
		byHTTP, byTLS bool
		flags         []string
		andStays      bool
	}{
		{"by a request over plain HTTP", true, false, nil, false},
		{"by a TLS handshake", false, true, nil, true},
		{"by a TLS handshake, without plain HTTP", false, true, []string{"--tls-only"}, false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			port, closed := free(t), free(t)
			httpPort, tlsPort := closed, closed
			if tc.byHTTP {
				httpPort = port
			}
			if tc.byTLS {
				tlsPort = port
			}
			p := startPebble(t, httpPort, tlsPort)
			flags := append([]string{
				"--acme-domain", "wps.example.com", "--acme-domain", "two.wps.example.com", "--acme-ca", p.directory, "--acme-agree-tos",
				"--acme-email", "ops@example.com", "--handler-ca", p.caFile, "--public-url", "https://wps.example.com",
			}, tc.flags...)
			data := t.TempDir()
			s := startOn(t, port, data, flags...)
			first := p.answers(t, port, "wps.example.com", 60*time.Second)
			p.answers(t, port, "two.wps.example.com", 60*time.Second)
			// Who comes by address still meets the local authority.
			if body, err := s.get(t.Context(), s.AdminHTTPSURL+"/healthz"); err != nil || len(body) != 0 {
				t.Errorf("the admin address: %q, %v", body, err)
			}
			if !tc.andStays {
				return
			}
			s.stop()
			startOn(t, port, data, flags...)
			if again := p.answers(t, port, "wps.example.com", 60*time.Second); again != first {
				t.Error("a restart took another certificate")
			}
		})
	}
}

// answers waits until the service answers under the name with a certificate of the authority, and returns its number.
func (p *pebble) answers(t *testing.T, port int, name string, patience time.Duration) (serial string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	client := &http.Client{Transport: &http.Transport{
		TLSClientConfig: &tls.Config{RootCAs: p.roots},
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "tcp", (&net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: port}).String())
		},
	}}
	defer client.CloseIdleConnections()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, "https://"+name+"/api/health", nil)
		if err != nil {
			t.Fatal(err)
		}
		res, err := client.Do(req)
		if err == nil {
			res.Body.Close()
			if res.StatusCode != http.StatusOK {
				t.Errorf("%s answers %s", name, res.Status)
			}
			return res.TLS.PeerCertificates[0].SerialNumber.String()
		}
		select {
		case <-ctx.Done():
			t.Fatalf("%s has no certificate of the authority: %v", name, err)
		case <-tick.C:
		}
	}
}
