// Package store keeps JSON documents durably and sealed, and serves reads from memory.
//
// A package that has nouns to keep (instances, principals, keys) opens a Collection per noun. Reading it
// costs a map access: every collection holds an immutable snapshot of all its documents, moved forward by a
// watcher, so a change made by any node reaches all of them without a restart. Writing is compare-and-swap
// on the document's revision, is on disk when it is acknowledged, and returns when the own snapshot shows it.
//
// Every document is sealed whole under a data key; the data key lies beside the documents, sealed under the
// master key, which lies elsewhere (file.go, environment). Keys of documents are stored readable: no secret
// belongs in one.
//
// Store.Close stops the watchers; it comes before the fabric's Close.
package store

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/tink-crypto/tink-go/v2/aead"
	"github.com/tink-crypto/tink-go/v2/keyset"
	"github.com/tink-crypto/tink-go/v2/tink"

	"tabard/internal/fabric"
)

// Errors that callers decide on. They arrive wrapped, with bucket and key.
var (
	ErrExists     = errors.New("exists already")
	ErrConflict   = errors.New("was changed meanwhile")
	ErrNotFound   = errors.New("does not exist")
	ErrTooLarge   = errors.New("is too large")
	ErrInvalidKey = errors.New("is not a valid key")
	ErrClosed     = errors.New("store is closed")
)

// Limits of one document. JetStream takes messages of 1 MiB; sealing and framing need a little of that.
const (
	MaxKey   = 1 << 10   // bytes of a key
	MaxValue = 900 << 10 // bytes of a document as JSON
)

// bucketPrefix keeps our buckets apart from others on a shared NATS.
const bucketPrefix = "tabard-"

// A Store seals and keeps documents. It is safe for concurrent use.
type Store struct {
	fabric *fabric.Fabric
	keys   *keyset.Handle // of data, to seal it under another master key
	data   tink.AEAD
	log    *slog.Logger

	rotation sync.Mutex // held while the master key is replaced

	// gate is held for reading while a write is on its way to the fabric, and for writing while a Snapshot is taken.
	// Nobody who holds it waits for a watcher without a bound, since what a watcher calls may write.
	gate     sync.RWMutex
	registry registry

	life   context.Context // of all watchers
	cancel context.CancelFunc
	done   sync.WaitGroup
}

// A registry is everything that a process has opened of a store.
type registry struct {
	sync.Mutex // guards all below
	buckets    []*bucket
	journals   []*Journal
}

// Open unseals the data key with the master key, or makes both where nothing is stored yet. A master key
// that is missing, unreadable or not the right one is an error; nothing is changed then. log nil discards.
func Open(ctx context.Context, f *fabric.Fabric, key MasterKey, log *slog.Logger) (*Store, error) {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	keys, err := openDataKey(ctx, f, key)
	if err != nil {
		return nil, fmt.Errorf("store: %w", err)
	}
	data, err := aead.New(keys)
	if err != nil {
		return nil, fmt.Errorf("store: %w", err)
	}
	s := &Store{fabric: f, keys: keys, data: data, log: log.With("component", "store")}
	s.life, s.cancel = context.WithCancel(context.Background()) // ends with Close, not with Open's context
	return s, nil
}

// Close stops all watchers and waits for them. Snapshots stay readable; writes give ErrClosed.
func (s *Store) Close() {
	s.cancel()
	s.done.Wait()
}

// openBucket returns the bucket of that name, created if missing.
func openBucket(ctx context.Context, f *fabric.Fabric, name, description string) (jetstream.KeyValue, error) {
	kv, err := f.JetStream().KeyValue(ctx, bucketPrefix+name)
	if errors.Is(err, jetstream.ErrBucketNotFound) {
		kv, err = f.JetStream().CreateKeyValue(ctx, jetstream.KeyValueConfig{
			Bucket:      bucketPrefix + name,
			Description: description,
			History:     1,
			Storage:     jetstream.FileStorage,
			Replicas:    f.Replicas(),
		})
	}
	if err != nil {
		return nil, fmt.Errorf("bucket %s: %w", name, err)
	}
	status, err := kv.Status(ctx)
	if err != nil {
		return nil, fmt.Errorf("bucket %s: %w", name, err)
	}
	// Someone may have made or changed the bucket on an external NATS. What would lose documents is refused.
	if config := status.Config(); config.TTL != 0 || config.Storage != jetstream.FileStorage {
		return nil, fmt.Errorf("bucket %s expires its values or keeps them in memory only: it would lose documents", bucketPrefix+name)
	}
	return kv, nil
}
