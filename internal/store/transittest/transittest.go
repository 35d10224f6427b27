// Package transittest stands in for the Transit engine of HashiCorp Vault in tests: the same requests and answers over
// TLS, with real keys. It is no replacement for a run against the real one, which no package registry offers as a
// binary; its shapes are those of the published API and of the official client.
package transittest

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"strconv"
	"strings"
	"sync"
	"testing"
)

// A Server has one key, "tabard" at the mount "transit".
type Server struct {
	*httptest.Server
	t     testing.TB
	token string

	mu       sync.Mutex // guards all below
	versions []cipher.AEAD
	oldest   int // version that may still be used
	fail     int // status; 0: none
}

// Start starts a server that knows one token; it ends with the test.
func Start(t testing.TB, token string) *Server {
	s := &Server{t: t, token: token, oldest: 1}
	s.Rotate()
	s.Server = httptest.NewTLSServer(http.HandlerFunc(s.serve))
	t.Cleanup(s.Close)
	return s
}

// URI names a key of the server.
func (s *Server) URI(path string) string {
	return "hcvault://" + strings.TrimPrefix(s.URL, "https://") + "/" + path
}

// ClientTLS trusts the server.
func (s *Server) ClientTLS() *tls.Config {
	pool := x509.NewCertPool()
	pool.AddCert(s.Certificate())
	return &tls.Config{RootCAs: pool}
}

// WriteCA writes what ClientTLS trusts as a PEM file.
func (s *Server) WriteCA(path string) {
	s.t.Helper()
	if err := os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.Certificate().Raw}), 0o600); err != nil {
		s.t.Fatal(err)
	}
}

// Rotate makes a new version of the key; old ones still open.
func (s *Server) Rotate() {
	s.t.Helper()
	key := make([]byte, 32)
	rand.Read(key) // never fails
	block, err := aes.NewCipher(key)
	if err != nil {
		s.t.Fatal(err)
	}
	gcm, err := cipher.NewGCMWithRandomNonce(block)
	if err != nil {
		s.t.Fatal(err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.versions = append(s.versions, gcm)
}

// ForgetFirstVersion makes the first version of the key unusable.
func (s *Server) ForgetFirstVersion() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.oldest = 2
}

// Fail has every request answered with a status; 0 ends that.
func (s *Server) Fail(status int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.fail = status
}

func refuse(w http.ResponseWriter, status int, problem string) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(map[string][]string{"errors": {problem}})
}

func (s *Server) serve(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var q struct {
		Plaintext      string `json:"plaintext"`
		Ciphertext     string `json:"ciphertext"`
		AssociatedData string `json:"associated_data"`
	}
	switch {
	case s.fail != 0:
		refuse(w, s.fail, "Vault is sealed")
		return
	case r.Header.Get("X-Vault-Token") != s.token:
		refuse(w, http.StatusForbidden, "permission denied")
		return
	case r.Method != http.MethodPut && r.Method != http.MethodPost:
		refuse(w, http.StatusMethodNotAllowed, "unsupported operation")
		return
	case json.NewDecoder(http.MaxBytesReader(w, r.Body, 1<<20)).Decode(&q) != nil:
		refuse(w, http.StatusBadRequest, "error parsing JSON")
		return
	}
	associated, err := base64.StdEncoding.DecodeString(q.AssociatedData)
	if err != nil {
		refuse(w, http.StatusBadRequest, "failed to base64-decode associated_data")
		return
	}
	var data map[string]any
	switch r.URL.Path {
	case "/v1/transit/encrypt/tabard":
		data, err = s.encrypt(q.Plaintext, associated)
	case "/v1/transit/decrypt/tabard":
		data, err = s.decrypt(q.Ciphertext, associated)
	default:
		refuse(w, http.StatusNotFound, "no handler for route")
		return
	}
	if err != nil {
		refuse(w, http.StatusBadRequest, err.Error())
		return
	}
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(map[string]any{
		"request_id": "5c1b1a2e-0000-4000-8000-000000000000", "lease_id": "", "renewable": false, "lease_duration": 0,
		"data": data, "wrap_info": nil, "warnings": nil, "auth": nil, "mount_type": "transit",
	})
}

func (s *Server) encrypt(plaintext string, associated []byte) (map[string]any, error) {
	text, err := base64.StdEncoding.DecodeString(plaintext)
	if err != nil {
		return nil, fmt.Errorf("failed to base64-decode plaintext")
	}
	version := len(s.versions)
	sealed := s.versions[version-1].Seal(nil, nil, text, associated)
	return map[string]any{"ciphertext": fmt.Sprintf("vault:v%d:%s", version, base64.StdEncoding.EncodeToString(sealed)), "key_version": version}, nil
}

func (s *Server) decrypt(ciphertext string, associated []byte) (map[string]any, error) {
	rest, ok := strings.CutPrefix(ciphertext, "vault:v")
	number, text, cut := strings.Cut(rest, ":")
	version, err := strconv.Atoi(number)
	if !ok || !cut || err != nil || version < 1 || version > len(s.versions) {
		return nil, fmt.Errorf("invalid ciphertext: no prefix")
	}
	if version < s.oldest {
		return nil, fmt.Errorf("ciphertext or signature version is disallowed by policy (too old)")
	}
	sealed, err := base64.StdEncoding.DecodeString(text)
	if err != nil {
		return nil, fmt.Errorf("invalid ciphertext: could not decode base64")
	}
	opened, err := s.versions[version-1].Open(nil, nil, sealed, associated)
	if err != nil {
		return nil, fmt.Errorf("cipher: message authentication failed")
	}
	return map[string]any{"plaintext": base64.StdEncoding.EncodeToString(opened)}, nil
}
