package store

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"iter"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/tink-crypto/tink-go/v2/aead"
	"github.com/tink-crypto/tink-go/v2/insecurecleartextkeyset"
	"github.com/tink-crypto/tink-go/v2/keyset"

	"tabard/internal/fabric"
)

// A Snapshot is everything in a store at one moment, as a loss of power at that moment would have left it: no write is
// in it by half, and none that came before is missing. It costs no copy and may be read while writing goes on.
type Snapshot struct {
	store    *Store
	buckets  []bucketSnapshot
	journals []journalSnapshot
}

type bucketSnapshot struct {
	bucket    *bucket
	documents iter.Seq2[string, any]
}

type journalSnapshot struct {
	journal     *Journal
	first, last uint64
}

// A Sealed is one document or one entry of a journal, sealed under the store's data key and bound to its place.
type Sealed struct {
	Bucket  string // of a document; empty for an entry
	Key     string // of a document
	Journal string // of an entry
	Data    []byte
}

// snapshotWait bounds how long writes are held up while a snapshot is taken.
const snapshotWait = 10 * time.Second

// Snapshot takes one of every collection and journal that is open. Writes wait for that moment only.
func (s *Store) Snapshot(ctx context.Context) (*Snapshot, error) {
	if s.life.Err() != nil {
		return nil, fmt.Errorf("store: snapshot: %w", ErrClosed)
	}
	ctx, cancel := context.WithTimeout(ctx, snapshotWait)
	defer cancel()
	s.registry.Lock()
	buckets, journals := slices.Clone(s.registry.buckets), slices.Clone(s.registry.journals)
	s.registry.Unlock()
	slices.SortFunc(buckets, func(a, b *bucket) int { return cmp.Compare(a.name, b.name) })
	snap := &Snapshot{store: s}
	s.gate.Lock()
	defer s.gate.Unlock()
	for _, b := range buckets {
		if err := b.catchUp(ctx); err != nil {
			return nil, fmt.Errorf("store: snapshot: bucket %s: %w", b.name, err)
		}
		snap.buckets = append(snap.buckets, bucketSnapshot{b, b.documents()})
	}
	for _, j := range journals {
		first, last, err := j.bounds(ctx)
		if err != nil {
			return nil, fmt.Errorf("store: snapshot: %w", err)
		}
		snap.journals = append(snap.journals, journalSnapshot{j, first, last})
	}
	return snap, nil
}

// catchUp waits until the collection's own snapshot shows all that is stored. Nobody may be writing.
func (b *bucket) catchUp(ctx context.Context) error {
	stream, err := b.store.fabric.JetStream().Stream(ctx, "KV_"+b.kv.Bucket())
	if err != nil {
		return err
	}
	last, err := stream.GetLastMsgForSubject(ctx, "$KV."+b.kv.Bucket()+".>")
	if errors.Is(err, jetstream.ErrMsgNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	return b.await(ctx, last.Sequence)
}

func (c *Collection[T]) documents() iter.Seq2[string, any] {
	items := c.All()
	return func(yield func(string, any) bool) {
		for _, key := range slices.Sorted(maps.Keys(items)) {
			if !yield(key, items[key].Value) {
				return
			}
		}
	}
}

// All yields documents, then entries, each sealed. It ends after the first error.
func (s *Snapshot) All(ctx context.Context) iter.Seq2[Sealed, error] {
	return func(yield func(Sealed, error) bool) {
		for _, b := range s.buckets {
			for key, value := range b.documents {
				sealed, err := b.bucket.sealValue(key, value)
				if err = b.bucket.describe(key, err); !yield(Sealed{Bucket: b.bucket.name, Key: key, Data: sealed}, err) || err != nil {
					return
				}
			}
		}
		for _, j := range s.journals {
			for seq := max(j.first, 1); seq <= j.last; seq++ { // an empty stream begins at 0
				msg, err := j.journal.stream.GetMsg(ctx, seq)
				if errors.Is(err, jetstream.ErrMsgNotFound) {
					continue // it has made room for newer ones since
				}
				if err != nil {
					yield(Sealed{}, j.journal.describe(err))
					return
				}
				if !yield(Sealed{Journal: j.journal.name, Data: msg.Data}, nil) {
					return
				}
			}
		}
	}
}

// DataKey is the key that everything of the snapshot is sealed under, in the clear: whoever has both reads all.
func (s *Snapshot) DataKey() ([]byte, error) {
	var b bytes.Buffer
	err := insecurecleartextkeyset.Write(s.store.keys, keyset.NewBinaryWriter(&b))
	return b.Bytes(), err
}

// A Restoration fills an empty fabric with what a Snapshot held. Until Finish no store opens it.
type Restoration struct {
	store    *Store // without watchers: to unseal
	buckets  map[string]jetstream.KeyValue
	journals map[string]string // subjects of those that are made, by name
}

// BeginRestoration takes the snapshot's data key. A fabric that holds a store already is refused.
func BeginRestoration(ctx context.Context, f *fabric.Fabric, dataKey []byte) (*Restoration, error) {
	names := f.JetStream().StreamNames(ctx)
	for name := range names.Name() {
		if strings.HasPrefix(name, bucketPrefix) || strings.HasPrefix(name, "KV_"+bucketPrefix) && name != "KV_"+bucketPrefix+"node" {
			return nil, errors.New("store: there is a store already; nothing is restored over it")
		}
	}
	if err := names.Err(); err != nil {
		return nil, fmt.Errorf("store: restore: %w", err)
	}
	keys, err := insecurecleartextkeyset.Read(keyset.NewBinaryReader(bytes.NewReader(dataKey)))
	if err != nil {
		return nil, errors.New("store: restore: the data key cannot be read")
	}
	data, err := aead.New(keys)
	if err != nil {
		return nil, errors.New("store: restore: the data key cannot be used")
	}
	return &Restoration{store: &Store{fabric: f, keys: keys, data: data}, buckets: map[string]jetstream.KeyValue{}, journals: map[string]string{}}, nil
}

// Add writes one document or entry, after it was unsealed at its place.
func (r *Restoration) Add(ctx context.Context, item Sealed) error {
	version, sealed, err := splitSealed(item.Data)
	if err != nil {
		return fmt.Errorf("store: restore: %w", err)
	}
	if item.Journal != "" {
		if _, err := r.store.unseal(journalPlace(item.Journal), "", version, sealed); err != nil {
			return fmt.Errorf("store: restore: an entry of journal %s %w", item.Journal, err)
		}
		return r.append(ctx, item)
	}
	if _, err := r.store.unseal(item.Bucket, item.Key, version, sealed); err != nil {
		return fmt.Errorf("store: restore: document %q of %s %w", item.Key, item.Bucket, err)
	}
	kv := r.buckets[item.Bucket]
	if kv == nil {
		if item.Bucket == metaBucket {
			return fmt.Errorf("store: restore: bucket name %s is taken", item.Bucket)
		}
		if kv, err = openBucket(ctx, r.store.fabric, item.Bucket, "sealed documents: "+item.Bucket); err != nil {
			return fmt.Errorf("store: restore: %w", err)
		}
		r.buckets[item.Bucket] = kv
	}
	name, err := encodeKey(item.Key)
	if err != nil {
		return fmt.Errorf("store: restore: %w", err)
	}
	if _, err := kv.Create(ctx, name, item.Data); err != nil {
		return fmt.Errorf("store: restore: document %q of %s: %w", item.Key, item.Bucket, err)
	}
	return nil
}

func (r *Restoration) append(ctx context.Context, item Sealed) error {
	js := r.store.fabric.JetStream()
	subject, made := r.journals[item.Journal]
	if !made {
		cfg := journalStream(item.Journal, r.store.fabric.Replicas()) // whoever opens it bounds it
		if _, err := js.CreateOrUpdateStream(ctx, cfg); err != nil {
			return fmt.Errorf("store: restore: journal %s: %w", item.Journal, err)
		}
		subject = cfg.Subjects[0]
		r.journals[item.Journal] = subject
	}
	if _, err := js.Publish(ctx, subject, item.Data); err != nil {
		return fmt.Errorf("store: restore: journal %s: %w", item.Journal, err)
	}
	return nil
}

// Finish seals the data key under the master key, made if it is a file that is missing, and so makes the store whole.
func (r *Restoration) Finish(ctx context.Context, key MasterKey) error {
	master, err := key.open(true)
	if err != nil {
		return fmt.Errorf("store: restore: %w", err)
	}
	sealed, err := wrapDataKey(r.store.keys, master)
	if err != nil {
		return fmt.Errorf("store: restore: %w", err)
	}
	meta, err := openBucket(ctx, r.store.fabric, metaBucket, "the sealed data key")
	if err != nil {
		return fmt.Errorf("store: restore: %w", err)
	}
	if _, err := meta.Create(ctx, dataKeyKey, sealed); err != nil {
		return fmt.Errorf("store: restore: sealed data key: %w", err)
	}
	return nil
}
