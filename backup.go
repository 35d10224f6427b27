package tabard

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"runtime/debug"
	"time"

	"tabard/internal/backup"
	"tabard/internal/store"
)

// besideStore are the files of a data directory that a backup has besides the store.
var besideStore = []string{"admin.token", "ca.pem", "ca-key.pem"}

// serveBackup serves POST /tabard/v1/backup: everything that the service remembers, as one age file. The body may name
// age recipients for whom it is sealed; without one it is sealed under the master key. An answer that does not come to
// its end is no backup.
func (s *Server) serveBackup(w http.ResponseWriter, r *http.Request) {
	var want struct {
		Recipients []string `json:"recipients"`
	}
	d := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxSmallBody))
	d.DisallowUnknownFields()
	if err := d.Decode(&want); err != nil && !errors.Is(err, io.EOF) {
		writeError(w, http.StatusBadRequest, "InvalidRequestContent", `the body is not an object with "recipients" alone`)
		return
	}
	if err := backup.CheckRecipients(want.Recipients); err != nil {
		writeError(w, http.StatusBadRequest, "InvalidRequestContent", err.Error())
		return
	}
	c := backup.Contents{Files: map[string][]byte{}, Release: release(), Created: time.Now(), Master: s.master}
	for _, name := range besideStore {
		text, err := os.ReadFile(filepath.Join(s.cfg.Data, name))
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			s.internalError(w, r, err)
			return
		}
		if err == nil {
			c.Files[name] = text
		}
	}
	var err error
	if c.Snapshot, err = s.store.Snapshot(r.Context()); err != nil {
		s.internalError(w, r, err)
		return
	}
	w.Header().Set("Content-Type", "application/octet-stream")
	w.Header().Set("Cache-Control", "no-store")
	if err := backup.Write(r.Context(), w, c, want.Recipients); err != nil {
		s.log.Error("a backup broke off", "error", err)
		panic(http.ErrAbortHandler) // so that nobody takes what was sent for a backup
	}
}

// release is that of this program.
func release() string {
	if info, ok := debug.ReadBuildInfo(); ok {
		return info.Main.Version
	}
	return "unknown"
}

// RestoreOptions say what opens a backup and what is made of it.
type RestoreOptions struct {
	// Data is the data directory to make; it must be missing or empty.
	Data string
	// MasterKey is that of the restored service. It also opens a backup that is sealed under a master key, unless
	// IdentityFile or Passphrase is given; then it must be named.
	MasterKey MasterKeySource
	// IdentityFile holds age identities, for one of which the backup is sealed.
	IdentityFile string
	// Passphrase is what it is sealed under.
	Passphrase string
}

// Errors of Restore that callers decide on.
var (
	ErrWrongBackupKey = backup.ErrWrongKey
	ErrDamagedBackup  = backup.ErrDamaged
)

// RestoreInfo says what Restore made.
type RestoreInfo struct {
	Created time.Time `json:"created"` // when the backup was made
	Release string    `json:"release"` // by which release
	Items   int       `json:"items"`   // documents and records
}

// Restore makes a data directory of a backup. Whatever goes wrong, nothing has changed then.
func Restore(ctx context.Context, r io.Reader, o RestoreOptions) (RestoreInfo, error) {
	named, release, err := o.MasterKey.open(o.Data)
	if err != nil {
		return RestoreInfo{}, err
	}
	defer release()
	master := func(dir string) store.MasterKey {
		if o.MasterKey.isDefault() { // it is made where the data is made
			return store.MasterKeyFile(o.MasterKey.keyFile(dir))
		}
		return named
	}
	key, err := o.key(master)
	if err != nil {
		return RestoreInfo{}, err
	}
	done, err := backup.Restore(ctx, r, key, o.Data, besideStore, master)
	return RestoreInfo{Created: done.Created, Release: done.Release, Items: done.Items}, err
}

func (o RestoreOptions) key(master func(string) store.MasterKey) (backup.Key, error) {
	switch {
	case o.IdentityFile != "" && o.Passphrase != "":
		return backup.Key{}, errors.New("give an identity file or a passphrase, not both")
	case o.Passphrase != "":
		return backup.Passphrase(o.Passphrase)
	case o.IdentityFile != "":
		f, err := os.Open(o.IdentityFile)
		if err != nil {
			return backup.Key{}, err
		}
		defer f.Close()
		key, err := backup.Identities(f)
		if err != nil {
			return key, fmt.Errorf("%s %w", o.IdentityFile, err)
		}
		return key, nil
	case o.MasterKey.isDefault():
		return backup.Key{}, fmt.Errorf("%w: name the master key of the service that wrote it, an age identity file or a passphrase", backup.ErrWrongKey)
	}
	return backup.MasterKey(master(o.Data)), nil
}
