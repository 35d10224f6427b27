package acme

import (
	"context"
	"errors"
	"io/fs"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/caddyserver/certmagic"

	"tabard/internal/store"
)

// storage keeps keys and certificates as documents of the service's store, sealed like everything there. Its locks are
// this process's: no other one serves with the same store.
type storage struct {
	files *store.Collection[file]

	mu    sync.Mutex // guards locks
	locks map[string]chan struct{}
}

// A file is a document of certmagic's. Its path is the key.
type file struct {
	Content  []byte    `json:"content"`
	Modified time.Time `json:"modified"`
}

var _ certmagic.Storage = (*storage)(nil)

func openStorage(ctx context.Context, s *store.Store) (*storage, error) {
	files, err := store.OpenCollection[file](ctx, s, "acme", store.Schema{Version: 1})
	if err != nil {
		return nil, err
	}
	return &storage{files: files, locks: map[string]chan struct{}{}}, nil
}

// Lock waits for the lock of a name.
func (s *storage) Lock(ctx context.Context, name string) error {
	s.mu.Lock()
	lock, ok := s.locks[name]
	if !ok {
		lock = make(chan struct{}, 1)
		s.locks[name] = lock
	}
	s.mu.Unlock()
	select {
	case lock <- struct{}{}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Unlock gives the lock of a name back.
func (s *storage) Unlock(_ context.Context, name string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	select {
	case <-s.locks[name]:
		return nil
	default:
		return errors.New("the lock of " + name + " is not held")
	}
}

// Store writes a file, whether it is there or not.
func (s *storage) Store(ctx context.Context, path string, content []byte) error {
	f := file{content, time.Now().UTC()}
	for {
		item, ok := s.files.Get(path)
		var err error
		if ok {
			_, err = s.files.Update(ctx, path, f, item.Revision)
		} else {
			_, err = s.files.Create(ctx, path, f)
		}
		if !errors.Is(err, store.ErrExists) && !errors.Is(err, store.ErrConflict) && !errors.Is(err, store.ErrNotFound) {
			return err
		}
		if err := ctx.Err(); err != nil {
			return err
		}
	}
}

// Load reads a file; the error of a missing one is fs.ErrNotExist.
func (s *storage) Load(_ context.Context, path string) ([]byte, error) {
	item, ok := s.files.Get(path)
	if !ok {
		return nil, fs.ErrNotExist
	}
	return slices.Clone(item.Value.Content), nil
}

// Delete removes a file, or all below a folder.
func (s *storage) Delete(ctx context.Context, path string) error {
	found := false
	for key := range s.files.All() {
		if key != path && !strings.HasPrefix(key, path+"/") {
			continue
		}
		found = true
		if err := s.files.Delete(ctx, key, 0); err != nil && !errors.Is(err, store.ErrNotFound) {
			return err
		}
	}
	if !found {
		return fs.ErrNotExist
	}
	return nil
}

// Exists tells whether there is a file or folder.
func (s *storage) Exists(ctx context.Context, path string) bool {
	_, err := s.Stat(ctx, path)
	return err == nil
}

// List lists what lies in a folder, and with recursive below it.
func (s *storage) List(_ context.Context, path string, recursive bool) ([]string, error) {
	var list []string
	prefix := strings.TrimSuffix(path, "/") + "/"
	if path == "" {
		prefix = ""
	}
	for key := range s.files.All() {
		rest, ok := strings.CutPrefix(key, prefix)
		if !ok {
			continue
		}
		if name, _, deeper := strings.Cut(rest, "/"); deeper && !recursive {
			key = prefix + name
		}
		list = append(list, key)
	}
	if list == nil {
		return nil, fs.ErrNotExist
	}
	slices.Sort(list)
	return slices.Compact(list), nil
}

// Stat describes a file or folder.
func (s *storage) Stat(ctx context.Context, path string) (certmagic.KeyInfo, error) {
	if item, ok := s.files.Get(path); ok {
		return certmagic.KeyInfo{Key: path, Modified: item.Value.Modified, Size: int64(len(item.Value.Content)), IsTerminal: true}, nil
	}
	if _, err := s.List(ctx, path, true); err != nil {
		return certmagic.KeyInfo{}, err
	}
	return certmagic.KeyInfo{Key: path}, nil
}
