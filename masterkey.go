package tabard

import (
	"cmp"
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"

	"tabard/internal/egress"
	"tabard/internal/store"
)

// A MasterKeySource says where the master key is. At most one of Value, File and URI is set; with none it is the file
// master.key in the data directory, made on the first start.
type MasterKeySource struct {
	Value string // the key itself, 32 bytes as base64
	File  string
	// URI is file:///PATH, env://NAME, or hcvault://HOST[:PORT]/MOUNT/keys/NAME: a key of the Transit engine of HashiCorp
	// Vault or OpenBao, which never leaves there.
	URI string
	// TokenFile holds the token for hcvault, read anew for each use, as an agent writes it; Token is the token itself.
	TokenFile, Token string
	// CA is a PEM bundle that is trusted for hcvault in addition to the system's.
	CA string
}

// masterKeySource is the one that the configuration names.
func (c Config) masterKeySource() MasterKeySource {
	return MasterKeySource{Value: c.MasterKey, File: c.MasterKeyFile, URI: c.MasterKeyURI, TokenFile: c.MasterKeyTokenFile, Token: c.MasterKeyToken, CA: c.HandlerCA}
}

// fault says what is wrong with the source; empty if nothing is.
func (m MasterKeySource) fault() string {
	if m.URI == "" {
		if m.TokenFile != "" {
			return "master-key-token-file: needs master-key-uri"
		}
		return ""
	}
	u, err := url.Parse(m.URI)
	switch {
	case m.Value != "" || m.File != "":
		return "master-key-uri: there is a master key in a file or an environment variable as well; give one"
	case err != nil:
		return fmt.Sprintf("master-key-uri: %q is not a URI", m.URI)
	case u.Scheme == "file":
		if u.Host != "" || !filepath.IsAbs(filepath.FromSlash(u.Path)) {
			return fmt.Sprintf("master-key-uri: %q is not file:///PATH", m.URI)
		}
	case u.Scheme == "env":
		if u.Host == "" || u.Path != "" {
			return fmt.Sprintf("master-key-uri: %q is not env://NAME", m.URI)
		}
	case strings.HasPrefix(m.URI, store.TransitScheme):
		if err := store.CheckTransitURI(m.URI); err != nil {
			return fmt.Sprintf("master-key-uri: %q %v", m.URI, err)
		}
	default:
		return fmt.Sprintf("master-key-uri: %q is none of file:///PATH, env://NAME, hcvault://HOST/MOUNT/keys/NAME", m.URI)
	}
	return ""
}

// isDefault tells whether the key is the file in the data directory, because nothing else is named.
func (m MasterKeySource) isDefault() bool { return m.Value == "" && m.File == "" && m.URI == "" }

// keyFile is the file that holds the key; empty if none does.
func (m MasterKeySource) keyFile(dir string) string {
	if path, ok := strings.CutPrefix(m.URI, "file://"); ok {
		return filepath.FromSlash(path)
	}
	if m.Value != "" || m.URI != "" {
		return ""
	}
	return cmp.Or(m.File, filepath.Join(dir, "master.key"))
}

// open finds the key of the data directory dir. done releases what reaches it, when the key is not used any more.
func (m MasterKeySource) open(dir string) (key store.MasterKey, done func(), err error) {
	done = func() {}
	if fault := m.fault(); fault != "" {
		return key, done, ConfigError{fault}
	}
	if path := m.keyFile(dir); path != "" {
		return store.MasterKeyFile(path), done, nil
	}
	if name, ok := strings.CutPrefix(m.URI, "env://"); ok {
		value := os.Getenv(name) // which one, the configuration says
		if value == "" {
			return key, done, fmt.Errorf("master-key-uri: the environment variable %s is empty", name)
		}
		return store.MasterKeyValue(value), done, nil
	}
	if m.Value != "" {
		return store.MasterKeyValue(m.Value), done, nil
	}
	// An agent of the key service often listens on loopback; who names it here is who runs this service.
	policy := egress.Policy{AllowLoopback: true}
	if policy.RootCAs, err = rootsWith(m.CA); err != nil {
		return key, done, err
	}
	out := egress.New(policy)
	return store.MasterKeyTransit(store.TransitKey{URI: m.URI, Transport: out.Transport(), Token: m.token}), out.Close, nil
}

// token is what the service is known by at the key service.
func (m MasterKeySource) token() (string, error) {
	token := m.Token
	if m.TokenFile != "" {
		text, err := os.ReadFile(m.TokenFile)
		if err != nil {
			return "", err
		}
		token = string(text)
	}
	if token = strings.TrimSpace(token); token == "" {
		return "", errors.New("there is none: give master-key-token-file, or VAULT_TOKEN in the environment")
	}
	return token, nil
}

// rootsWith are the system's certificate authorities and those of a PEM file; nil, which means the system's, without a
// file.
func rootsWith(file string) (*x509.CertPool, error) {
	if file == "" {
		return nil, nil
	}
	pem, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("handler-ca: %w", err)
	}
	pool, err := x509.SystemCertPool()
	if err != nil {
		return nil, fmt.Errorf("system certificates: %w", err)
	}
	if !pool.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("handler-ca: %s has no certificate", file)
	}
	return pool, nil
}

// openStore opens the store with the configured master key. A store that is still sealed under the key file in the data
// directory, while the configuration names another key by URI, is sealed under that one now.
func (s *Server) openStore(ctx context.Context) (err error) {
	if s.master, s.masterDone, err = s.cfg.masterKeySource().open(s.cfg.Data); err != nil {
		return err
	}
	s.store, err = store.Open(ctx, s.fabric, s.master, s.log)
	if !errors.Is(err, store.ErrWrongMasterKey) || s.cfg.MasterKeyURI == "" {
		return err
	}
	file := MasterKeySource{}.keyFile(s.cfg.Data)
	if _, missing := os.Stat(file); missing != nil {
		return err
	}
	former, wrong := store.Open(ctx, s.fabric, store.MasterKeyFile(file), s.log)
	if wrong != nil {
		return err
	}
	defer former.Close()
	if err := former.Rewrap(ctx, s.master); err != nil {
		return err
	}
	s.log.Warn("the store is sealed under the master key of master-key-uri now; remove the file when no older backup is needed any more", "file", file)
	s.store, err = store.Open(ctx, s.fabric, s.master, s.log)
	return err
}

// rotateMasterKey serves POST /tabard/v1/masterKey/rotate: the data key is sealed under a new master key, which takes
// the old one's place in its file, or under the newest version of the one that a key service keeps. Nothing else is
// touched, and serving goes on.
func (s *Server) rotateMasterKey(w http.ResponseWriter, r *http.Request) {
	source, ctx := s.cfg.masterKeySource(), context.WithoutCancel(r.Context())
	file := source.keyFile(s.cfg.Data)
	var err error
	switch {
	case file != "":
		err = s.store.RotateMasterKeyFile(ctx, file)
	case strings.HasPrefix(source.URI, store.TransitScheme):
		err = s.store.Rewrap(ctx, s.master)
	default:
		writeError(w, http.StatusConflict, "MasterKeyNotInFile", "the master key was given as a value; only one in a file or a key service can be replaced while serving")
		return
	}
	if err != nil {
		s.log.Error("the master key could not be replaced", "error", err)
		writeError(w, http.StatusInternalServerError, "InternalServerError", "the master key could not be replaced; see the log")
		return
	}
	s.log.Warn("the master key was replaced: backups of the old one open only older copies of the data", "key", s.master.String())
	w.Header().Set("Cache-Control", "no-store")
	answer := map[string]string{"masterKeyUri": source.URI}
	if file != "" {
		answer = map[string]string{"masterKeyFile": file}
	}
	writeJSON(w, http.StatusOK, answer)
}
