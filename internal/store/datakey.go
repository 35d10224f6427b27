package store

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/tink-crypto/tink-go/v2/aead"
	"github.com/tink-crypto/tink-go/v2/keyset"
	"github.com/tink-crypto/tink-go/v2/tink"
)

// A DataKey seals values within documents, for those who want to keep them sealed in memory too and under a key of
// their own. It lies in a document, wrapped under the store's data key, which lies sealed under the master key.
type DataKey struct{ aead tink.AEAD }

// NewDataKey makes a key and returns it with its wrapped form, which is meant to be stored. use says what the key is
// for; OpenDataKey opens it only for that.
func (s *Store) NewDataKey(use string) (key *DataKey, wrapped []byte, err error) {
	handle, err := keyset.NewHandle(aead.AES256GCMKeyTemplate())
	if err != nil {
		return nil, nil, fmt.Errorf("store: new data key: %w", err)
	}
	var sealed bytes.Buffer
	if err := handle.WriteWithAssociatedData(keyset.NewBinaryWriter(&sealed), s.data, wrapContext(use)); err != nil {
		return nil, nil, fmt.Errorf("store: new data key: %w", err)
	}
	a, err := aead.New(handle)
	if err != nil {
		return nil, nil, fmt.Errorf("store: new data key: %w", err)
	}
	return &DataKey{a}, sealed.Bytes(), nil
}

// OpenDataKey opens a wrapped key. The error does not tell a damaged key from one that was made for another use.
func (s *Store) OpenDataKey(wrapped []byte, use string) (*DataKey, error) {
	handle, err := keyset.ReadWithAssociatedData(keyset.NewBinaryReader(bytes.NewReader(wrapped)), s.data, wrapContext(use))
	if err != nil {
		return nil, errors.New("store: the data key was damaged or moved: it does not unwrap")
	}
	a, err := aead.New(handle)
	if err != nil {
		return nil, fmt.Errorf("store: data key: %w", err)
	}
	return &DataKey{a}, nil
}

func wrapContext(use string) []byte { return append([]byte("tabard wrapped key 1\n"), use...) }

// Seal encrypts value and binds it to place: it opens there only.
func (k *DataKey) Seal(value, place []byte) ([]byte, error) { return k.aead.Encrypt(value, place) }

// Open decrypts what Seal returned.
func (k *DataKey) Open(sealed, place []byte) ([]byte, error) {
	value, err := k.aead.Decrypt(sealed, place)
	if err != nil {
		return nil, errors.New("was damaged or moved: it does not unseal")
	}
	return value, nil
}

// Rewrap seals the store's data key under another master key, in one write: before it the old master key opens the
// store, after it only the new one. Documents are not touched and this process goes on; the next start needs the new
// key. A file that does not exist is made, 0600.
func (s *Store) Rewrap(ctx context.Context, next MasterKey) error {
	master, err := next.open(true)
	if err != nil {
		return fmt.Errorf("store: %w", err)
	}
	meta, err := openBucket(ctx, s.fabric, metaBucket, "the sealed data key")
	if err != nil {
		return fmt.Errorf("store: %w", err)
	}
	sealed, err := wrapDataKey(s.keys, master)
	if err != nil {
		return fmt.Errorf("store: %w", err)
	}
	if _, err := meta.Put(ctx, dataKeyKey, sealed); err != nil {
		return fmt.Errorf("store: sealed data key: %w", err)
	}
	s.log.Info("data key sealed under another master key", "master", next.String())
	return nil
}

// nextKey is what a file of a master key is called while it takes the place of another.
const nextKey = ".next"

// RotateMasterKeyFile replaces the master key in a file by a new one, in an order in which a crash at any point leaves a
// store that opens: the new key is written beside the old one, the data key is sealed under it, the new file takes the
// old one's place. Open finishes what was begun.
func (s *Store) RotateMasterKeyFile(ctx context.Context, path string) error {
	s.rotation.Lock()
	defer s.rotation.Unlock()
	if err := s.settleNextKey(ctx, path); err != nil {
		return err
	}
	if err := s.Rewrap(ctx, MasterKeyFile(path+nextKey)); err != nil {
		return err
	}
	return adoptNextKey(path)
}

// settleNextKey deals with what a rotation that failed has left: a key under which the data key is sealed takes its
// place, for without it nothing would open; another one is of no use.
func (s *Store) settleNextKey(ctx context.Context, path string) error {
	if _, err := os.Stat(path + nextKey); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	meta, err := openBucket(ctx, s.fabric, metaBucket, "the sealed data key")
	if err != nil {
		return fmt.Errorf("store: %w", err)
	}
	entry, err := meta.Get(ctx, dataKeyKey)
	if err != nil {
		return fmt.Errorf("store: sealed data key: %w", err)
	}
	if _, err := MasterKeyFile(path + nextKey).unwrap(entry.Value()); err == nil {
		return adoptNextKey(path)
	}
	if err := os.Remove(path + nextKey); err != nil {
		return fmt.Errorf("store: %w", err)
	}
	return nil
}

func adoptNextKey(path string) error {
	if err := os.Rename(path+nextKey, path); err != nil {
		return fmt.Errorf("store: the new master key stays in %s: %w", path+nextKey, err)
	}
	return syncDir(filepath.Dir(path))
}
