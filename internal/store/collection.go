package store

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"unicode/utf8"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// A Schema says which version of its documents a collection writes and how it reads older ones.
type Schema struct {
	// Version is written with each document and increases with each incompatible change. From 1 up.
	Version int
	// Migrate turns a document of version from < Version into one of Version. It may be nil while
	// Version is 1.
	Migrate func(from int, doc []byte) ([]byte, error)
}

// An Item is one document with the revision that Update and Delete compare. Revisions of one bucket grow.
type Item[T any] struct {
	Value    T
	Revision uint64
}

// A Collection is one bucket of documents of one type. It is safe for concurrent use. Values that it hands
// out are shared by all readers and must not be changed.
type Collection[T any] struct {
	bucket *bucket
	items  atomic.Pointer[map[string]Item[T]]

	mu        sync.Mutex // guards listeners
	listeners []func(changed []string)
}

// OpenCollection loads all documents of a bucket, created if missing, and keeps watching it until the
// store is closed. A document of a newer version, or one that does not unseal or decode, is an error that
// names it. Documents of an older version are migrated in memory and written back in the background.
//
// Bucket names consist of letters, digits, "-" and "_".
func OpenCollection[T any](ctx context.Context, s *Store, name string, schema Schema) (*Collection[T], error) {
	if name == metaBucket || name == "node" {
		return nil, fmt.Errorf("store: bucket name %s is taken", name)
	}
	if schema.Version < 1 {
		return nil, fmt.Errorf("store: bucket %s: schema version is %d, want at least 1", name, schema.Version)
	}
	if s.life.Err() != nil {
		return nil, fmt.Errorf("bucket %s: %w", name, ErrClosed)
	}
	b, err := newBucket(ctx, s, name, schema)
	if err != nil {
		return nil, fmt.Errorf("store: %w", err)
	}
	c := &Collection[T]{bucket: b}
	c.items.Store(&map[string]Item[T]{})
	b.apply = c.apply
	b.keys = func() []string { return slices.Collect(maps.Keys(c.All())) }
	b.documents = c.documents
	if err := b.open(ctx); err != nil {
		return nil, fmt.Errorf("store: %w", err)
	}
	s.registry.Lock()
	defer s.registry.Unlock()
	s.registry.buckets = append(s.registry.buckets, b)
	return c, nil
}

// Get returns the document from the snapshot: no lock, no I/O.
func (c *Collection[T]) Get(key string) (Item[T], bool) {
	item, ok := (*c.items.Load())[key]
	return item, ok
}

// All returns the snapshot itself. It never changes and must not be changed.
func (c *Collection[T]) All() map[string]Item[T] { return *c.items.Load() }

// OnChange has fn called with the sorted keys of changed and deleted documents, after the snapshot moved
// and before the write that caused it returns: what fn derives from the snapshot is as fresh to the writer
// as the snapshot itself. Calls come in order from one goroutine. fn must be quick and must not write to
// the same collection, which would wait for fn itself. Register first, then derive for the first time.
func (c *Collection[T]) OnChange(fn func(changed []string)) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.listeners = append(c.listeners, fn)
}

// Create adds a document and returns its revision, or ErrExists. Like every write it returns only after
// the snapshot shows it; if ctx ends between the two, the error says that the document was written.
func (c *Collection[T]) Create(ctx context.Context, key string, v T) (uint64, error) {
	return c.write(ctx, key, v, func(name string, sealed []byte) (uint64, error) {
		revision, err := c.bucket.kv.Create(ctx, name, sealed)
		if errors.Is(err, jetstream.ErrKeyExists) {
			err = ErrExists
		}
		return revision, err
	})
}

// Update replaces the document if its revision is still the given one, and returns the new revision.
// ErrConflict: it is another one. ErrNotFound: there is no such document.
func (c *Collection[T]) Update(ctx context.Context, key string, v T, revision uint64) (uint64, error) {
	return c.write(ctx, key, v, func(name string, sealed []byte) (uint64, error) {
		if revision == 0 { // to NATS, 0 means that there must be none
			return 0, c.bucket.missing(ctx, name)
		}
		next, err := c.bucket.kv.Update(ctx, name, sealed, revision)
		if errors.Is(err, jetstream.ErrKeyRevisionMismatch) {
			err = c.bucket.missing(ctx, name)
		}
		return next, err
	})
}

// Delete removes the document if its revision is still the given one; 0 stands for any. ErrConflict and
// ErrNotFound as in Update.
func (c *Collection[T]) Delete(ctx context.Context, key string, revision uint64) error {
	name, err := c.bucket.begin(key)
	var marker uint64
	if err == nil {
		c.bucket.store.gate.RLock()
		marker, err = c.bucket.delete(ctx, name, revision)
		c.bucket.store.gate.RUnlock()
	}
	if err == nil {
		err = c.bucket.await(ctx, marker)
	}
	return c.bucket.describe(key, err)
}

func (c *Collection[T]) write(ctx context.Context, key string, v T, put func(name string, sealed []byte) (uint64, error)) (uint64, error) {
	name, err := c.bucket.begin(key)
	if err != nil {
		return 0, c.bucket.describe(key, err)
	}
	sealed, err := c.bucket.sealValue(key, v)
	if err != nil {
		return 0, c.bucket.describe(key, err)
	}
	c.bucket.store.gate.RLock()
	revision, err := put(name, sealed)
	c.bucket.store.gate.RUnlock()
	if errors.Is(err, nats.ErrMaxPayload) { // an external NATS may take less than 1 MiB
		err = fmt.Errorf("%w: %w", ErrTooLarge, err)
	}
	if err != nil {
		return 0, c.bucket.describe(key, err)
	}
	return revision, c.bucket.describe(key, c.bucket.await(ctx, revision))
}

// sealValue makes of a value what is stored of it.
func (b *bucket) sealValue(key string, v any) ([]byte, error) {
	doc, err := json.Marshal(v)
	if err != nil {
		return nil, err
	}
	if len(doc) > MaxValue {
		return nil, fmt.Errorf("%w: %d bytes, at most %d", ErrTooLarge, len(doc), MaxValue)
	}
	return b.store.seal(b.name, key, b.schema.Version, doc)
}

// apply moves the snapshot forward by decoded changes. It is called by one goroutine only.
func (c *Collection[T]) apply(changes []change) (failed []error) {
	old := *c.items.Load()
	next := maps.Clone(old)
	changed := make([]string, 0, len(changes))
	for _, ch := range changes {
		if ch.deleted {
			if _, ok := next[ch.key]; !ok {
				continue
			}
			delete(next, ch.key)
		} else {
			var v T
			if err := json.Unmarshal(ch.doc, &v); err != nil {
				failed = append(failed, decodeError(ch.key, err))
				continue
			}
			next[ch.key] = Item[T]{Value: v, Revision: ch.revision}
		}
		changed = append(changed, ch.key)
	}
	if len(changed) == 0 {
		return failed
	}
	c.items.Store(&next)
	slices.Sort(changed)
	changed = slices.Compact(changed)
	c.mu.Lock()
	listeners := c.listeners
	c.mu.Unlock()
	for _, fn := range listeners {
		fn(changed)
	}
	return failed
}

// decodeError describes a document whose JSON does not fit T, without repeating any of it.
func decodeError(key string, err error) error {
	var typ *json.UnmarshalTypeError
	if errors.As(err, &typ) {
		return fmt.Errorf("document %q: field %q is not a %v", key, typ.Field, typ.Type)
	}
	return fmt.Errorf("document %q does not decode", key)
}

// begin checks what every write needs and returns the name of the document in the bucket.
func (b *bucket) begin(key string) (name string, err error) {
	if b.store.life.Err() != nil {
		return "", ErrClosed
	}
	return encodeKey(key)
}

// describe says which document an error is about.
func (b *bucket) describe(key string, err error) error {
	if err == nil {
		return nil
	}
	if len(key) > 100 { // an invalid key may have any size
		key = strings.ToValidUTF8(key[:100], "") + "…"
	}
	return fmt.Errorf("store: %s %q: %w", b.name, key, err)
}

// encodeKey turns a key into a token that NATS takes.
func encodeKey(key string) (string, error) {
	switch {
	case len(key) > MaxKey:
		return "", fmt.Errorf("%w: %d bytes, at most %d", ErrTooLarge, len(key), MaxKey)
	case key == "" || !utf8.ValidString(key):
		return "", ErrInvalidKey
	}
	return base64.RawURLEncoding.EncodeToString([]byte(key)), nil
}
