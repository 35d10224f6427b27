package store

import (
	"errors"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// tidy follows the first load in the background: it writes migrated documents back and removes markers of
// deletions that no watcher can need any more. Whatever fails is left for the next start.
func (b *bucket) tidy(found *loadResult) {
	ctx := b.store.life
	for _, ch := range found.migrated {
		name, err := encodeKey(ch.key)
		if err != nil {
			continue
		}
		sealed, err := b.store.seal(b.name, ch.key, b.schema.Version, ch.doc)
		if err == nil {
			_, err = b.kv.Update(ctx, name, sealed, ch.revision)
		}
		// A conflict means that someone wrote a newer document, in the current version of course.
		if err != nil && !errors.Is(err, jetstream.ErrKeyRevisionMismatch) && ctx.Err() == nil {
			b.log.Warn("migrated document not written back", "key", ch.key, "error", err)
			return
		}
	}
	if len(found.oldMarkers) == 0 {
		return
	}
	stream, err := b.store.fabric.JetStream().Stream(ctx, "KV_"+b.kv.Bucket())
	for _, marker := range found.oldMarkers {
		if err == nil {
			// Only up to the marker: the document may have been created again since.
			err = stream.Purge(ctx, jetstream.WithPurgeSubject("$KV."+b.kv.Bucket()+"."+marker.Key()), jetstream.WithPurgeSequence(marker.Revision()+1))
		}
		if err != nil {
			if ctx.Err() == nil {
				b.log.Warn("markers of deleted documents not removed", "error", err, "older than", markerAge.Round(time.Hour))
			}
			return
		}
	}
}
