package fabric

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

const (
	leaseBucket = "tabard-node"
	leaseKey    = "node"
)

// A lease is one key in a bucket whose values expire: created by the node that starts, renewed while it
// lives, deleted when it stops, gone by itself after a crash.
type lease struct {
	kv       jetstream.KeyValue
	log      *slog.Logger
	resource string
	ttl      time.Duration
	value    []byte
	lost     chan struct{}

	cancel context.CancelFunc
	done   sync.WaitGroup

	revision uint64 // owned by takeLease, then by renew, then by release
}

// leaseHolder is the value of the key.
type leaseHolder struct {
	Node  string    `json:"node"`  // unique to this process, so that it knows its own value
	Where string    `json:"where"` // for people
	Since time.Time `json:"since"`
}

func (h leaseHolder) String() string {
	return fmt.Sprintf("%s, since %s", h.Where, h.Since.Format(time.RFC3339))
}

// takeLease makes this process the only node of an external NATS. A key that its holder still renews gives
// an *InUseError; one that is not renewed is waited out.
func takeLease(ctx context.Context, f *Fabric, address string, ttl time.Duration) (*lease, error) {
	resource := "NATS at " + address
	kv, err := f.js.KeyValue(ctx, leaseBucket)
	if errors.Is(err, jetstream.ErrBucketNotFound) {
		kv, err = f.js.CreateKeyValue(ctx, jetstream.KeyValueConfig{
			Bucket: leaseBucket, Description: "the node that uses this NATS", History: 1, TTL: ttl, Replicas: f.replicas,
		})
	}
	if errors.Is(err, jetstream.ErrJetStreamNotEnabled) || errors.Is(err, jetstream.ErrJetStreamNotEnabledForAccount) || errors.Is(err, nats.ErrNoResponders) {
		return nil, fmt.Errorf("fabric: NATS at %s does not offer JetStream to this account: enable it there: %w", address, err)
	}
	if err != nil {
		return nil, fmt.Errorf("fabric: node lease at %s: %w", address, err)
	}
	status, err := kv.Status(ctx)
	if err != nil {
		return nil, fmt.Errorf("fabric: node lease at %s: %w", address, err)
	}
	// The bucket keeps the span of its first node. Renewing in that rhythm is right for any later option.
	if ttl = status.TTL(); ttl <= 0 {
		return nil, fmt.Errorf("fabric: bucket %s at %s does not expire its values, so it is not ours", leaseBucket, address)
	}
	value, err := json.Marshal(leaseHolder{Node: rand.Text(), Where: holderName(), Since: time.Now().UTC().Truncate(time.Second)})
	if err != nil {
		return nil, err
	}
	l := &lease{kv: kv, log: f.log.With("component", "lease"), resource: resource, ttl: ttl, value: value, lost: make(chan struct{})}
	if err := l.acquire(ctx); err != nil {
		return nil, err
	}
	life, cancel := context.WithCancel(context.Background()) // ends with release, not with Open's context
	l.cancel = cancel
	l.done.Go(func() { l.renew(life) })
	return l, nil
}

// acquire creates the key, waiting for as long as a crashed holder's value may live.
func (l *lease) acquire(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 2*l.ttl+10*time.Second)
	defer cancel()
	var seen uint64
	for {
		revision, err := l.kv.Create(ctx, leaseKey, l.value)
		if err == nil {
			l.revision = revision
			return nil
		}
		if !errors.Is(err, jetstream.ErrKeyExists) {
			return fmt.Errorf("fabric: node lease, %s: %w", l.resource, err)
		}
		entry, err := l.kv.Get(ctx, leaseKey)
		switch {
		case errors.Is(err, jetstream.ErrKeyNotFound):
			continue // it expired or was released between the two calls
		case err != nil:
			return fmt.Errorf("fabric: node lease, %s: %w", l.resource, err)
		case seen != 0 && entry.Revision() != seen:
			return l.inUse(entry) // renewed before our eyes: its holder lives
		case seen == 0:
			seen = entry.Revision()
			l.log.Warn("another node holds this NATS: waiting until it renews its lease or the lease expires",
				"holder", holderOf(entry).String(), "ttl", l.ttl)
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%w: %w", l.inUse(entry), ctx.Err())
		case <-time.After(l.ttl / 20):
		}
	}
}

func (l *lease) inUse(entry jetstream.KeyValueEntry) *InUseError {
	return &InUseError{Resource: l.resource, Holder: holderOf(entry).String()}
}

func holderOf(entry jetstream.KeyValueEntry) (h leaseHolder) {
	if json.Unmarshal(entry.Value(), &h) != nil {
		h.Where = "unknown"
	}
	return h
}

// renew rewrites the key three times per TTL. After an outage longer than the TTL the key is gone: it is
// taken again, unless another node was faster.
func (l *lease) renew(life context.Context) {
	tick := time.NewTicker(l.ttl / 3)
	defer tick.Stop()
	for {
		select {
		case <-life.Done():
			return
		case <-tick.C:
		}
		err := l.renewOnce(life)
		var held *InUseError
		switch {
		case err == nil || life.Err() != nil:
		case errors.As(err, &held):
			l.log.Error("another node has taken this NATS while it could not be reached from here", "holder", held.Holder)
			close(l.lost)
			return
		default:
			l.log.Warn("node lease not renewed", "error", err)
		}
	}
}

func (l *lease) renewOnce(life context.Context) error {
	ctx, cancel := context.WithTimeout(life, l.ttl/3)
	defer cancel()
	revision, err := l.kv.Update(ctx, leaseKey, l.value, l.revision)
	if err == nil {
		l.revision = revision
		return nil
	}
	if !errors.Is(err, jetstream.ErrKeyRevisionMismatch) {
		return err
	}
	if revision, err = l.kv.Create(ctx, leaseKey, l.value); err == nil {
		l.revision = revision
		return nil
	}
	entry, getErr := l.kv.Get(ctx, leaseKey)
	if getErr != nil {
		return getErr
	}
	if string(entry.Value()) == string(l.value) {
		l.revision = entry.Revision() // an earlier renewal arrived although its answer did not
		return nil
	}
	return l.inUse(entry)
}

// release gives the lease back, so that the next node need not wait.
func (l *lease) release() {
	l.cancel()
	l.done.Wait()
	select {
	case <-l.lost:
		return
	default:
	}
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second) // Close has no context
	defer cancel()
	if err := l.kv.Delete(ctx, leaseKey, jetstream.LastRevision(l.revision)); err != nil {
		l.log.Warn("node lease not released: it expires by itself", "error", err, "ttl", l.ttl)
	}
}
