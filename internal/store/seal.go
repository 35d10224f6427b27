package store

import (
	"bytes"
	"cmp"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"strings"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/tink-crypto/tink-go/v2/aead"
	"github.com/tink-crypto/tink-go/v2/keyset"
	"github.com/tink-crypto/tink-go/v2/tink"

	"tabard/internal/fabric"
)

const (
	metaBucket = "meta"
	dataKeyKey = "data-key"

	// dataKeyContext is the associated data of the sealed data key.
	dataKeyContext = "tabard data key 1"

	// sealFormat is the first byte of every sealed document. The version of the schema follows as uvarint,
	// then the ciphertext.
	sealFormat = 1
)

// ErrWrongMasterKey reports that the stored data was sealed under another master key.
var ErrWrongMasterKey = errors.New("the master key is not the one that the stored data was sealed with")

// A VersionError reports a document that a newer release wrote, or one so old that no migration is left.
type VersionError struct {
	Bucket, Key   string
	Stored, Known int // versions of the schema
}

func (e *VersionError) Error() string {
	if e.Stored > e.Known {
		return fmt.Sprintf("document %q is of version %d, newer than the %d that this release knows: run the release that wrote it, or a later one", e.Key, e.Stored, e.Known)
	}
	return fmt.Sprintf("document %q is of version %d, which this release cannot migrate to %d any more", e.Key, e.Stored, e.Known)
}

// openDataKey returns the key that documents are sealed with. On the very first start it makes the data
// key and, if it may, the master key.
func openDataKey(ctx context.Context, f *fabric.Fabric, key MasterKey) (*keyset.Handle, error) {
	meta, err := openBucket(ctx, f, metaBucket, "the sealed data key")
	if err != nil {
		return nil, err
	}
	entry, err := meta.Get(ctx, dataKeyKey)
	if errors.Is(err, jetstream.ErrKeyNotFound) {
		if err := mustBeEmpty(ctx, f); err != nil {
			return nil, err
		}
		master, err := key.open(true)
		if err != nil {
			return nil, err
		}
		return createDataKey(ctx, meta, master)
	}
	if err != nil {
		return nil, fmt.Errorf("sealed data key: %w", err)
	}
	handle, err := key.unwrap(entry.Value())
	if next := MasterKeyFile(key.path + nextKey); key.path != "" && errors.Is(err, ErrWrongMasterKey) {
		if handle, e := next.unwrap(entry.Value()); e == nil { // a rotation that did not come to its end
			return handle, adoptNextKey(key.path)
		}
	}
	return handle, err
}

// unwrap opens the sealed data key.
func (k MasterKey) unwrap(sealed []byte) (*keyset.Handle, error) {
	master, err := k.open(false)
	if err != nil {
		return nil, err
	}
	handle, err := keyset.ReadWithAssociatedData(keyset.NewBinaryReader(bytes.NewReader(sealed)), master, []byte(dataKeyContext))
	if err := failure(master); err != nil {
		return nil, fmt.Errorf("master key (%s): %w", k, err)
	}
	if err != nil {
		return nil, fmt.Errorf("%w (%s)", ErrWrongMasterKey, k)
	}
	return handle, nil
}

func createDataKey(ctx context.Context, meta jetstream.KeyValue, master tink.AEAD) (*keyset.Handle, error) {
	handle, err := keyset.NewHandle(aead.AES256GCMKeyTemplate())
	if err != nil {
		return nil, err
	}
	sealed, err := wrapDataKey(handle, master)
	if err != nil {
		return nil, err
	}
	if _, err := meta.Create(ctx, dataKeyKey, sealed); err != nil {
		return nil, fmt.Errorf("sealed data key: %w", err)
	}
	return handle, nil
}

func wrapDataKey(handle *keyset.Handle, master tink.AEAD) ([]byte, error) {
	var sealed bytes.Buffer
	err := handle.WriteWithAssociatedData(keyset.NewBinaryWriter(&sealed), master, []byte(dataKeyContext))
	return sealed.Bytes(), cmp.Or(failure(master), err)
}

// mustBeEmpty refuses to make a new data key beside documents that were sealed under one now missing.
func mustBeEmpty(ctx context.Context, f *fabric.Fabric) error {
	buckets := f.JetStream().KeyValueStores(ctx)
	var full []string
	for status := range buckets.Status() {
		name, ours := strings.CutPrefix(status.Bucket(), bucketPrefix)
		if ours && name != metaBucket && name != "node" && status.Values() > 0 {
			full = append(full, name)
		}
	}
	if err := buckets.Error(); err != nil {
		return fmt.Errorf("list of buckets: %w", err)
	}
	if len(full) > 0 {
		return fmt.Errorf("the sealed data key is missing, but sealed documents exist (%s): restore the data from a backup that has both", strings.Join(full, ", "))
	}
	return nil
}

// seal frames and encrypts one document.
func (s *Store) seal(bucket, key string, version int, doc []byte) ([]byte, error) {
	sealed, err := s.data.Encrypt(doc, associatedData(bucket, key, version))
	if err != nil {
		return nil, err
	}
	head := binary.AppendUvarint([]byte{sealFormat}, uint64(version))
	return append(head, sealed...), nil
}

// splitSealed reads the version of a sealed document's schema, which unseal then authenticates.
func splitSealed(stored []byte) (version int, sealed []byte, err error) {
	if len(stored) == 0 || stored[0] != sealFormat {
		return 0, nil, errors.New("is not in a format that this release knows")
	}
	v, n := binary.Uvarint(stored[1:])
	if n <= 0 || v > 1<<30 {
		return 0, nil, errors.New("has a damaged head")
	}
	return int(v), stored[1+n:], nil
}

func (s *Store) unseal(bucket, key string, version int, sealed []byte) ([]byte, error) {
	doc, err := s.data.Decrypt(sealed, associatedData(bucket, key, version))
	if err != nil {
		return nil, errors.New("was damaged or moved: it does not unseal")
	}
	return doc, nil
}

// associatedData binds a document to its place: a sealed value copied to another key, bucket or version
// does not open.
func associatedData(bucket, key string, version int) []byte {
	b := make([]byte, 0, len(bucket)+len(key)+16)
	b = append(b, sealFormat)
	b = append(binary.AppendUvarint(b, uint64(len(bucket))), bucket...)
	b = append(binary.AppendUvarint(b, uint64(len(key))), key...)
	return binary.AppendUvarint(b, uint64(version))
}
