package store

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// JournalOptions bound a journal. The oldest entries make room for new ones; nothing else ever removes an entry.
type JournalOptions struct {
	MaxAge     time.Duration // of an entry; at least a second
	MaxEntries int64         // at least 1
	MaxBytes   int64         // of all entries as they are stored; at least 1 MiB
}

// An Entry is one entry of a journal.
type Entry struct {
	Sequence uint64 // grows by one with each entry, from 1 up
	Data     []byte
}

// A Journal keeps what happened, in order: entries are appended and read, never changed. Each is sealed like a
// document and is on disk when Append returns. Nothing of it is kept in memory. It is safe for concurrent use.
type Journal struct {
	store   *Store
	name    string
	subject string
	stream  jetstream.Stream
}

// OpenJournal opens the journal of that name, made if missing, under these bounds. A name consists of letters, digits
// and "-".
func OpenJournal(ctx context.Context, s *Store, name string, opt JournalOptions) (*Journal, error) {
	if opt.MaxAge < time.Second || opt.MaxEntries < 1 || opt.MaxBytes < 1<<20 {
		return nil, fmt.Errorf("store: journal %s: its bounds %+v are too small", name, opt)
	}
	if s.life.Err() != nil {
		return nil, fmt.Errorf("store: journal %s: %w", name, ErrClosed)
	}
	cfg := journalStream(name, s.fabric.Replicas())
	cfg.MaxAge, cfg.MaxMsgs, cfg.MaxBytes = opt.MaxAge, opt.MaxEntries, opt.MaxBytes
	stream, err := s.fabric.JetStream().CreateOrUpdateStream(ctx, cfg)
	if err != nil {
		return nil, fmt.Errorf("store: journal %s: %w", name, err)
	}
	j := &Journal{store: s, name: name, subject: cfg.Subjects[0], stream: stream}
	s.registry.Lock()
	defer s.registry.Unlock()
	s.registry.journals = append(s.registry.journals, j)
	return j, nil
}

// journalStream is the stream of a journal, still without bounds.
func journalStream(name string, replicas int) jetstream.StreamConfig {
	return jetstream.StreamConfig{
		Name: bucketPrefix + "journal-" + name, Description: "sealed entries: " + name, Subjects: []string{"tabard.journal." + name},
		Storage: jetstream.FileStorage, Replicas: replicas, Discard: jetstream.DiscardOld, AllowDirect: true, DenyDelete: true,
	}
}

// Append adds an entry and returns its sequence once it is on disk.
func (j *Journal) Append(ctx context.Context, data []byte) (uint64, error) {
	if j.store.life.Err() != nil {
		return 0, j.describe(ErrClosed)
	}
	if len(data) > MaxValue {
		return 0, j.describe(fmt.Errorf("%w: %d bytes, at most %d", ErrTooLarge, len(data), MaxValue))
	}
	sealed, err := j.store.seal(journalPlace(j.name), "", journalFormat, data)
	if err != nil {
		return 0, j.describe(err)
	}
	j.store.gate.RLock()
	defer j.store.gate.RUnlock()
	ack, err := j.store.fabric.JetStream().Publish(ctx, j.subject, sealed)
	if errors.Is(err, nats.ErrMaxPayload) {
		err = fmt.Errorf("%w: %w", ErrTooLarge, err)
	}
	if err != nil {
		return 0, j.describe(err)
	}
	return ack.Sequence, nil
}

// Back reads entries from the newest to the oldest and gives each to visit until that returns false. It begins below
// the sequence before, or with the newest if that is 0. An entry that does not unseal ends it with an error.
func (j *Journal) Back(ctx context.Context, before uint64, visit func(Entry) bool) error {
	first, last, err := j.bounds(ctx)
	if err != nil {
		return err
	}
	if before > 0 && before-1 < last {
		last = before - 1
	}
	for seq := last; seq >= first && seq > 0; seq-- {
		e, ok, err := j.read(ctx, seq)
		if err != nil {
			return err
		}
		if ok && !visit(e) {
			return nil
		}
	}
	return nil
}

// bounds are the sequences of the oldest and of the newest entry; first is above last while there is none.
func (j *Journal) bounds(ctx context.Context) (first, last uint64, err error) {
	info, err := j.stream.Info(ctx)
	if err != nil {
		return 0, 0, j.describe(err)
	}
	return info.State.FirstSeq, info.State.LastSeq, nil
}

// read reads one entry. ok is false if it made room for newer ones meanwhile.
func (j *Journal) read(ctx context.Context, seq uint64) (e Entry, ok bool, err error) {
	msg, err := j.stream.GetMsg(ctx, seq)
	if errors.Is(err, jetstream.ErrMsgNotFound) {
		return e, false, nil
	}
	if err != nil {
		return e, false, j.describe(err)
	}
	version, sealed, err := splitSealed(msg.Data)
	if err == nil && version != journalFormat {
		err = &VersionError{Bucket: journalPlace(j.name), Key: fmt.Sprint(seq), Stored: version, Known: journalFormat}
	}
	if err == nil {
		e.Data, err = j.store.unseal(journalPlace(j.name), "", version, sealed)
	}
	if err != nil {
		return e, false, j.describe(fmt.Errorf("entry %d %w", seq, err))
	}
	e.Sequence = seq
	return e, true, nil
}

// journalFormat is the version that entries are sealed under; what is in them is their writer's.
const journalFormat = 1

// journalPlace is what an entry is bound to when it is sealed. No bucket has such a name.
func journalPlace(name string) string { return "journal/" + name }

func (j *Journal) describe(err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("store: journal %s: %w", j.name, err)
}
