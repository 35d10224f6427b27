package tabard

import (
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
)

// errAdminToken is the one answer to every bad credential on the admin address.
var errAdminToken = errors.New("a valid admin token is required: Authorization: Bearer, as in the data directory's admin.token")

// An adminToken is the credential of the admin address: random, in a 0600 file, replaceable while serving.
type adminToken struct {
	path string

	mu   sync.RWMutex // guards all below
	text string
	sum  [sha256.Size]byte
}

// openAdminToken reads the token, or makes one on the first start.
func openAdminToken(path string) (*adminToken, error) {
	t := &adminToken{path: path}
	info, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return t, t.rotate()
	}
	if err != nil {
		return nil, err
	}
	if info.Mode().Perm()&0o077 != 0 {
		return nil, fmt.Errorf("%s may be read by others: chmod 600 it, then rotate the token", path)
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	token := strings.TrimSpace(string(text))
	if len(token) < 32 || len(token) > 1024 {
		return nil, fmt.Errorf("%s does not hold a token of 32 to 1024 characters; delete it to have one made", path)
	}
	t.set(token)
	return t, nil
}

// rotate replaces the token. The old one stops working at once.
func (t *adminToken) rotate() error {
	var b [32]byte
	rand.Read(b[:]) // never fails
	token := base64.RawURLEncoding.EncodeToString(b[:])
	if err := writePrivate(t.path, []byte(token+"\n")); err != nil {
		return err
	}
	t.set(token)
	return nil
}

func (t *adminToken) set(token string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.text, t.sum = token, sha256.Sum256([]byte(token))
}

func (t *adminToken) String() string { return "admin token" } // never the token itself

func (t *adminToken) reveal() string {
	t.mu.RLock()
	defer t.mu.RUnlock()
	return t.text
}

// authorize tells whether the request carries the token, exactly once. It compares digests in constant time.
func (t *adminToken) authorize(r *http.Request) error {
	headers := r.Header.Values("Authorization")
	if len(headers) != 1 {
		return errAdminToken
	}
	scheme, token, _ := strings.Cut(headers[0], " ")
	sum := sha256.Sum256([]byte(token))
	t.mu.RLock()
	defer t.mu.RUnlock()
	if !strings.EqualFold(scheme, "Bearer") || subtle.ConstantTimeCompare(sum[:], t.sum[:]) != 1 {
		return errAdminToken
	}
	return nil
}

// writePrivate replaces a file at once, mode 0600, so that a reader never sees half of it.
func writePrivate(path string, text []byte) error {
	tmp, err := os.CreateTemp(filepath.Dir(path), ".tmp-*") // CreateTemp makes it 0600
	if err != nil {
		return err
	}
	defer os.Remove(tmp.Name())
	_, err = tmp.Write(text)
	if err == nil {
		err = tmp.Sync()
	}
	if e := tmp.Close(); err == nil {
		err = e
	}
	if err != nil {
		return err
	}
	return os.Rename(tmp.Name(), path)
}

// rotateAdminToken serves POST /tabard/v1/adminToken/rotate: a new token for whoever holds the old one.
func (s *Server) rotateAdminToken(w http.ResponseWriter, _ *http.Request) {
	if err := s.admin.rotate(); err != nil {
		s.log.Error("the admin token could not be replaced", "error", err)
		writeError(w, http.StatusInternalServerError, "InternalServerError", "the token could not be replaced; see the log")
		return
	}
	if err := s.writeReady(); err != nil {
		s.log.Error("the ready file could not be replaced", "error", err)
	}
	w.Header().Set("Cache-Control", "no-store")
	writeJSON(w, http.StatusOK, map[string]string{"adminToken": s.admin.reveal()})
}

func writeJSON(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json; charset=utf-8")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(v) // the client is gone, or it is not
}

// writeError answers in the control plane's shape.
func writeError(w http.ResponseWriter, status int, code, message string) {
	writeJSON(w, status, map[string]any{"error": map[string]string{"code": code, "message": message}})
}
