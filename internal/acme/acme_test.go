package acme

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/tls"
	"errors"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/mholt/acmez/v3/acme"
	"go.uber.org/goleak"

	"tabard/internal/fabric"
	"tabard/internal/store"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func openStore(t *testing.T, dir string) *store.Store {
	t.Helper()
	f, err := fabric.Open(t.Context(), fabric.Options{DataDir: dir})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(f.Close)
	st, err := store.Open(t.Context(), f, store.MasterKeyFile(filepath.Join(dir, "master.key")), slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(st.Close)
	return st
}

func open(t *testing.T, st *store.Store, opt Options) *Manager {
	t.Helper()
	opt.Domains, opt.Store = []string{"wps.example.com"}, st
	m, err := Open(t.Context(), opt)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(m.Close)
	return m
}

func challenge(domain, token string) acme.Challenge {
	return acme.Challenge{Token: token, KeyAuthorization: token + ".thumbprint", Identifier: acme.Identifier{Type: "dns", Value: domain}}
}

func TestAProofOverHTTPIsGivenForItsNameOnly(t *testing.T) {
	m := open(t, openStore(t, t.TempDir()), Options{})
	h := m.Handler(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusTeapot) }))
	over := overHTTP{m.solver}
	if err := over.Present(t.Context(), challenge("WPS.example.com", "t1")); err != nil {
		t.Fatal(err)
	}
	ask := func(method, host, path string) (int, string) {
		r := httptest.NewRequest(method, path, nil)
		r.Host = host
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		return w.Code, w.Body.String()
	}
	const path = "/.well-known/acme-challenge/"
	if status, text := ask("GET", "wps.example.com:80", path+"t1"); status != 200 || text != "t1.thumbprint" {
		t.Errorf("the authority gets %d %q", status, text)
	}
	for _, tc := range [][3]string{
		{"GET", "other.example.com", path + "t1"}, {"GET", "wps.example.com", path + "t2"}, {"GET", "wps.example.com", path},
		{"POST", "wps.example.com", path + "t1"}, {"GET", "wps.example.com", "/api/health"},
	} {
		if status, _ := ask(tc[0], tc[1], tc[2]); status != http.StatusTeapot {
			t.Errorf("%v: %d, want the next handler's answer", tc, status)
		}
	}
	if err := over.CleanUp(t.Context(), challenge("wps.example.com", "t1")); err != nil {
		t.Fatal(err)
	}
	if status, _ := ask("GET", "wps.example.com", path+"t1"); status != http.StatusTeapot {
		t.Errorf("a proof that is over is answered with %d", status)
	}
}

func TestAProofOverTLSIsGivenToAuthoritiesOnly(t *testing.T) {
	m := open(t, openStore(t, t.TempDir()), Options{})
	over := overTLS{m.solver}
	if err := over.Present(t.Context(), challenge("wps.example.com", "t1")); err != nil {
		t.Fatal(err)
	}
	proven := func(name string, protocols ...string) bool {
		t.Helper()
		a, b := net.Pipe()
		defer a.Close()
		got := make(chan bool, 1)
		go func() {
			defer b.Close()
			served := false
			_ = tls.Server(b, &tls.Config{NextProtos: []string{"h2", "http/1.1", Protocol}, GetCertificate: func(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
				cert := m.ForClient(hello)
				served = cert != nil
				return cert, nil
			}}).Handshake()
			got <- served
		}()
		_ = tls.Client(a, &tls.Config{ServerName: name, NextProtos: protocols, InsecureSkipVerify: true}).Handshake() // a proof is signed by nobody
		a.Close()
		return <-got
	}
	if !proven("WPS.example.com", Protocol) {
		t.Error("the authority gets no proof")
	}
	for name, tc := range map[string][]string{
		"a browser":            {"wps.example.com", "h2", "http/1.1"},
		"who offers both":      {"wps.example.com", "h2", Protocol},
		"another name":         {"other.example.com", Protocol},
		"a client of no name":  {""},
		"a client of the name": {"wps.example.com"},
	} {
		if proven(tc[0], tc[1:]...) {
			t.Errorf("%s gets a certificate", name)
		}
	}
	if err := over.CleanUp(t.Context(), challenge("wps.example.com", "t1")); err != nil {
		t.Fatal(err)
	}
	if proven("wps.example.com", Protocol) {
		t.Error("a proof that is over is still given")
	}
}

// unreachable is a way out that leads nowhere; it tells when it was tried.
type unreachable struct {
	tried chan string
	once  *sync.Once
}

func (u unreachable) RoundTrip(r *http.Request) (*http.Response, error) {
	u.once.Do(func() { u.tried <- r.URL.String() })
	return nil, errors.New("no way out")
}

// An authority that cannot be reached is no reason not to serve; the account's key is made once and sealed.
func TestAnAuthorityThatIsAwayStopsNothing(t *testing.T) {
	dir := t.TempDir()
	st := openStore(t, dir)
	var log bytes.Buffer
	way := unreachable{make(chan string, 1), new(sync.Once)}
	m := open(t, st, Options{Directory: "https://ca.example/dir", Transport: way, Log: slog.New(slog.NewTextHandler(&log, nil))})
	if err := m.Begin(); err != nil {
		t.Fatal(err)
	}
	if url := <-way.tried; url != "https://ca.example/dir" {
		t.Errorf("called %s", url)
	}
	i := m.config.Issuers[0].(*issuer)
	key, err := i.accountKey(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	again := open(t, st, Options{Directory: "https://ca.example/dir", Transport: way}).config.Issuers[0].(*issuer)
	if now, err := again.accountKey(t.Context()); err != nil || !key.(*ecdsa.PrivateKey).Equal(now) {
		t.Errorf("the account's key was replaced (%v)", err)
	}
	if err := i.storage.Store(t.Context(), "account/ca.example-dir.pem", []byte("nonsense")); err != nil {
		t.Fatal(err)
	}
	if _, err := i.accountKey(t.Context()); err == nil || !strings.Contains(err.Error(), "holds no key") {
		t.Errorf("a damaged key: %v", err)
	}
	err = filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		text, err := os.ReadFile(path)
		if bytes.Contains(text, []byte("PRIVATE KEY")) {
			t.Errorf("%s holds a private key in the clear", path)
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
}

// certmagic's own expectations of a storage.
func TestStorageIsATreeOfFilesWithLocks(t *testing.T) {
	s, err := openStorage(t.Context(), openStore(t, t.TempDir()))
	if err != nil {
		t.Fatal(err)
	}
	ctx := t.Context()
	for _, path := range []string{"a/b/c", "a/b/d", "a/e", "f"} {
		for _, content := range []string{"old", path} {
			if err := s.Store(ctx, path, []byte(content)); err != nil {
				t.Fatal(err)
			}
		}
		if text, err := s.Load(ctx, path); err != nil || string(text) != path {
			t.Errorf("%s holds %q, %v", path, text, err)
		}
	}
	list := func(path string, recursive bool) string {
		t.Helper()
		names, err := s.List(ctx, path, recursive)
		if err != nil {
			return err.Error()
		}
		return strings.Join(names, " ")
	}
	for _, tc := range []struct {
		path      string
		recursive bool
		want      string
	}{{"a", false, "a/b a/e"}, {"a", true, "a/b/c a/b/d a/e"}, {"a/b", false, "a/b/c a/b/d"}, {"", false, "a f"}, {"x", true, fs.ErrNotExist.Error()}} {
		if got := list(tc.path, tc.recursive); got != tc.want {
			t.Errorf("%q (recursive %t) holds %s, want %s", tc.path, tc.recursive, got, tc.want)
		}
	}
	if info, err := s.Stat(ctx, "a/e"); err != nil || !info.IsTerminal || info.Size != 3 || info.Modified.IsZero() {
		t.Errorf("a file: %+v, %v", info, err)
	}
	if info, err := s.Stat(ctx, "a/b"); err != nil || info.IsTerminal {
		t.Errorf("a folder: %+v, %v", info, err)
	}
	if err := s.Delete(ctx, "a/b"); err != nil || s.Exists(ctx, "a/b/c") || s.Exists(ctx, "a/b") || !s.Exists(ctx, "a/e") {
		t.Errorf("a deleted folder: %v", err)
	}
	for _, path := range []string{"a/b", "x"} {
		if _, err := s.Load(ctx, path); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("a missing file: %v", err)
		}
		if err := s.Delete(ctx, path); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("deleting a missing file: %v", err)
		}
	}
	if err := s.Lock(ctx, "l"); err != nil {
		t.Fatal(err)
	}
	late, cancel := context.WithCancel(ctx)
	cancel()
	if err := s.Lock(late, "l"); !errors.Is(err, context.Canceled) {
		t.Errorf("a held lock: %v", err)
	}
	if err := s.Unlock(ctx, "l"); err != nil {
		t.Error(err)
	}
	if err := s.Unlock(ctx, "l"); err == nil {
		t.Error("a lock that is not held was given back")
	}
	if err := s.Lock(ctx, "l"); err != nil {
		t.Error(err)
	}
}
