package store

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"iter"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

const (
	// watchTimeout bounds how long beginning to watch may take.
	watchTimeout = 30 * time.Second
	// patience is how long a write waits for the watcher before it suspects it dead and asks for a reload.
	patience = 2 * time.Second
	// conflictWait is how long a write that lost waits to see what it lost against.
	conflictWait = 2 * patience
	// markerAge is how long the marker of a deletion is kept, and markerBatch how many old ones are removed
	// each time that the bucket is loaded.
	markerAge   = 24 * time.Hour
	markerBatch = 1000
	// applyBatch is how many waiting changes are applied at once: each time, the snapshot is copied.
	applyBatch = 256
)

// errReload ends a session that shall be followed by another one at once.
var errReload = errors.New("reload")

// A change is one unsealed step of a bucket.
type change struct {
	key      string
	revision uint64
	doc      []byte // in the current version of the schema
	deleted  bool
}

// A bucket is the untyped half of a Collection: it watches, unseals, and knows how far the snapshot is.
type bucket struct {
	store  *Store
	name   string
	schema Schema
	kv     jetstream.KeyValue
	log    *slog.Logger

	apply func([]change) []error // moves the snapshot, tells the listeners, returns what did not decode
	keys  func() []string        // of the snapshot
	// documents returns the documents of the snapshot as it is now, for a reader who comes later.
	documents func() iter.Seq2[string, any]

	seen  atomic.Uint64 // all revisions up to here are in the snapshot and known to the listeners
	kick  chan struct{} // asks for a reload; capacity 1
	ended chan struct{} // closed when nothing is watched any more

	mu    sync.Mutex    // guards moved
	moved chan struct{} // closed and replaced whenever seen grew
}

func newBucket(ctx context.Context, s *Store, name string, schema Schema) (*bucket, error) {
	kv, err := openBucket(ctx, s.fabric, name, "sealed documents: "+name)
	if err != nil {
		return nil, err
	}
	return &bucket{
		store: s, name: name, schema: schema, kv: kv, log: s.log.With("bucket", name),
		kick: make(chan struct{}, 1), ended: make(chan struct{}), moved: make(chan struct{}),
	}, nil
}

// open loads the bucket and leaves a goroutine behind that watches it.
func (b *bucket) open(ctx context.Context) error {
	loaded := make(chan *loadResult, 1)
	opening, cancel := context.WithCancelCause(b.store.life)
	stop := context.AfterFunc(ctx, func() { cancel(context.Cause(ctx)) })
	b.store.done.Go(func() {
		defer close(b.ended)
		b.run(opening, loaded)
		cancel(nil)
	})
	result := <-loaded
	if !stop() && result.err == nil {
		result.err = context.Cause(ctx) // ctx ended so late that loading did not notice, but the watch is over
	}
	if result.err != nil {
		cancel(result.err)
		<-b.ended
		return fmt.Errorf("bucket %s: %w", b.name, result.err)
	}
	b.store.done.Go(func() { b.tidy(result) })
	return nil
}

// loadResult is what the first load found besides documents.
type loadResult struct {
	err        error
	migrated   []change                  // documents stored in an older version
	oldMarkers []jetstream.KeyValueEntry // of deletions
}

// run holds one watch after the other until the store or the connection is closed. The first one reports
// to loaded; if it fails before, there is no second.
func (b *bucket) run(life context.Context, loaded chan<- *loadResult) {
	conn := b.store.fabric.Conn()
	connected := conn.StatusChanged(nats.CONNECTED)
	defer conn.RemoveStatusListener(connected)
	first := true
	report := func(r *loadResult) {
		if first {
			first = false
			loaded <- r
		}
	}
	pause := 100 * time.Millisecond
	for {
		err := b.session(life, connected, report)
		if first {
			report(&loadResult{err: err})
			return
		}
		if life.Err() != nil || conn.IsClosed() {
			return
		}
		if errors.Is(err, errReload) {
			pause = 100 * time.Millisecond
			continue
		}
		b.log.Warn("watch interrupted: the snapshot stays as it is until the bucket can be read again", "error", err)
		select {
		case <-life.Done():
			return
		case <-time.After(pause):
			pause = min(2*pause, 5*time.Second)
		}
	}
}

// session loads what the snapshot lacks and applies changes until something makes a new session necessary.
func (b *bucket) session(life context.Context, connected <-chan nats.Status, report func(*loadResult)) error {
	ctx, cancel := context.WithCancel(life)
	defer cancel()
	slow := time.AfterFunc(watchTimeout, cancel)
	defer slow.Stop()
	watcher, err := b.kv.WatchAll(ctx)
	if err != nil {
		return errors.Join(context.Cause(life), err)
	}
	defer func() { _ = watcher.Stop() }()
	if !slow.Stop() {
		return fmt.Errorf("watch did not begin within %v", watchTimeout)
	}

	var (
		result  = &loadResult{}
		failed  []error
		batch   []change
		newest  = b.seen.Load()
		present = map[string]bool{} // what a load found; nil once it is complete
	)
	take := func(entry jetstream.KeyValueEntry) {
		deleted := entry.Operation() != jetstream.KeyValuePut
		if present != nil {
			present[entry.Key()] = !deleted
			if deleted && len(result.oldMarkers) < markerBatch && time.Since(entry.Created()) > markerAge {
				result.oldMarkers = append(result.oldMarkers, entry)
			}
		}
		if entry.Revision() <= newest {
			return // known: watches begin anew with everything
		}
		newest = entry.Revision()
		ch, migrated, err := b.decode(entry, deleted)
		if err != nil {
			failed = append(failed, err)
			return
		}
		batch = append(batch, ch)
		if migrated {
			result.migrated = append(result.migrated, ch)
		}
	}
	flush := func() {
		failed = append(failed, b.apply(batch)...)
		batch = batch[:0]
		b.advance(newest)
	}
	for {
		select {
		case <-life.Done():
			return context.Cause(life)
		case <-connected:
			return errReload // the watch may have missed what happened in between
		case <-b.kick:
			return errReload
		case entry, ok := <-watcher.Updates():
			switch {
			case !ok:
				return errors.New("watch ended")
			case entry == nil: // all that was there before the watch has come
				gone, err := b.gone(ctx, present)
				if err != nil {
					return err
				}
				batch, present = append(batch, gone...), nil
				flush()
				result.err = errors.Join(failed...)
				report(result)
			case present != nil:
				take(entry)
			default:
				take(entry)
				for more := true; more && len(batch) < applyBatch; {
					select {
					case entry, ok := <-watcher.Updates():
						if more = ok && entry != nil; more {
							take(entry)
						}
					default:
						more = false
					}
				}
				flush()
			}
			if present == nil {
				// After the start, a document that cannot be read must not take the service down: the last
				// good one stays, and compare-and-swap keeps it from being written over what is stored.
				for _, err := range failed {
					b.log.Error("document cannot be read: its last good state stays in use", "error", err)
				}
				failed = nil
			}
		}
	}
}

// gone lists the documents of the snapshot that a complete load did not find. A document that was written
// again while the load ran may be missed by it, so each is looked up.
func (b *bucket) gone(ctx context.Context, present map[string]bool) ([]change, error) {
	var gone []change
	for _, key := range b.keys() {
		name, err := encodeKey(key)
		if err != nil {
			return nil, err
		}
		if _, ok := present[name]; ok {
			continue // there, or its deletion is among the changes
		}
		if _, err := b.exists(ctx, name); errors.Is(err, ErrNotFound) {
			gone = append(gone, change{key: key, deleted: true})
		} else if err != nil {
			return nil, err
		}
	}
	return gone, nil
}

func (b *bucket) decode(entry jetstream.KeyValueEntry, deleted bool) (ch change, migrated bool, err error) {
	key, err := base64.RawURLEncoding.Strict().DecodeString(entry.Key())
	if err != nil {
		return ch, false, fmt.Errorf("document %s: its name is not one of ours", entry.Key())
	}
	ch = change{key: string(key), revision: entry.Revision(), deleted: deleted}
	if deleted {
		return ch, false, nil
	}
	version, sealed, err := splitSealed(entry.Value())
	if err != nil {
		return ch, false, fmt.Errorf("document %q: %w", ch.key, err)
	}
	if ch.doc, err = b.store.unseal(b.name, ch.key, version, sealed); err != nil {
		return ch, false, fmt.Errorf("document %q: %w", ch.key, err)
	}
	if version == b.schema.Version {
		return ch, false, nil
	}
	if version > b.schema.Version || b.schema.Migrate == nil {
		return ch, false, &VersionError{Bucket: b.name, Key: ch.key, Stored: version, Known: b.schema.Version}
	}
	if ch.doc, err = b.schema.Migrate(version, ch.doc); err != nil {
		return ch, false, fmt.Errorf("document %q: migration from version %d to %d: %w", ch.key, version, b.schema.Version, err)
	}
	return ch, true, nil
}

// advance tells waiting writes how far the snapshot is.
func (b *bucket) advance(revision uint64) {
	if revision <= b.seen.Load() {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.seen.Store(revision)
	close(b.moved)
	b.moved = make(chan struct{})
}

// await waits until the snapshot contains the revision of a write that was acknowledged.
func (b *bucket) await(ctx context.Context, revision uint64) error {
	var suspicion <-chan time.Time
	for {
		b.mu.Lock()
		moved := b.moved
		b.mu.Unlock()
		if b.seen.Load() >= revision {
			return nil
		}
		if suspicion == nil {
			timer := time.NewTimer(patience)
			defer timer.Stop()
			suspicion = timer.C
		}
		select {
		case <-moved:
		case <-suspicion:
			select {
			case b.kick <- struct{}{}:
			default: // asked already
			}
			suspicion = make(chan time.Time) // once is enough: a session that fails is repeated anyway
		case <-b.ended:
			return fmt.Errorf("written as revision %d, but the %w", revision, ErrClosed)
		case <-ctx.Done():
			return fmt.Errorf("written as revision %d, but not visible here yet: %w", revision, context.Cause(ctx))
		}
	}
}

// exists asks the bucket itself, past the snapshot: the revision of the document, or ErrNotFound.
func (b *bucket) exists(ctx context.Context, name string) (revision uint64, err error) {
	entry, err := b.kv.Get(ctx, name)
	switch {
	case errors.Is(err, jetstream.ErrKeyNotFound):
		return 0, ErrNotFound
	case err != nil:
		return 0, err
	}
	return entry.Revision(), nil
}

// missing says why a document does not have the revision that a write expected. It is for writers only: see conflict.
func (b *bucket) missing(ctx context.Context, name string) error {
	revision, err := b.exists(ctx, name)
	if err != nil {
		return err
	}
	return b.conflict(ctx, revision)
}

// conflict is ErrConflict, returned only after the snapshot shows the revision that somebody else was faster with, so
// that whoever tries again starts from there. It waits for the watcher, which therefore must not call it.
func (b *bucket) conflict(ctx context.Context, revision uint64) error {
	ctx, cancel := context.WithTimeout(ctx, conflictWait)
	defer cancel()
	_ = b.await(ctx, revision) // a conflict it is, whether or not it shows in time
	return ErrConflict
}

// delete replaces the document by a marker, which watchers need to see, and returns the marker's revision.
// (jetstream.KeyValue does the same, but keeps the revision to itself.)
func (b *bucket) delete(ctx context.Context, name string, revision uint64) (uint64, error) {
	for {
		entry, err := b.kv.Get(ctx, name)
		switch {
		case errors.Is(err, jetstream.ErrKeyNotFound):
			return 0, ErrNotFound
		case err != nil:
			return 0, err
		case revision != 0 && entry.Revision() != revision:
			return 0, b.conflict(ctx, entry.Revision())
		}
		marker := nats.NewMsg("$KV." + b.kv.Bucket() + "." + name)
		marker.Header.Set("KV-Operation", "DEL")
		ack, err := b.store.fabric.JetStream().PublishMsg(ctx, marker, jetstream.WithExpectLastSequencePerSubject(entry.Revision()))
		if err == nil {
			return ack.Sequence, nil
		}
		var api *jetstream.APIError
		if !errors.As(err, &api) || api.ErrorCode != jetstream.JSErrCodeStreamWrongLastSequence && api.ErrorCode != jetstream.JSErrCodeStreamWrongLastSequenceConstant {
			return 0, err
		}
		// It changed between the two calls: look again. Whoever changed it has made progress.
	}
}
