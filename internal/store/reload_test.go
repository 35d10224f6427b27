package store

import (
	"bytes"
	"context"
	"log/slog"
	"net"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"tabard/internal/fabric"
)

// external starts a NATS server on a loopback port, 0 for any.
func external(t *testing.T, dir string, port int) (stop func(), url string, boundPort int) {
	t.Helper()
	if port == 0 {
		port = server.RANDOM_PORT
	}
	srv, err := server.NewServer(&server.Options{Host: "127.0.0.1", Port: port, JetStream: true, StoreDir: dir, NoSigs: true, NoLog: true})
	if err != nil {
		t.Fatal(err)
	}
	srv.Start()
	stop = func() { srv.Shutdown(); srv.WaitForShutdown() }
	t.Cleanup(stop)
	if !srv.ReadyForConnections(20 * time.Second) {
		t.Fatal("the NATS server is not ready")
	}
	return stop, srv.ClientURL(), srv.Addr().(*net.TCPAddr).Port
}

func raw(t *testing.T, s *Store, bucket string) jetstream.KeyValue {
	t.Helper()
	kv, err := s.fabric.JetStream().KeyValue(t.Context(), bucketPrefix+bucket)
	if err != nil {
		t.Fatal(err)
	}
	return kv
}

func name(t testing.TB, key string) string {
	t.Helper()
	n, err := encodeKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// A safeBuffer takes the log of several goroutines.
type safeBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (b *safeBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *safeBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}

// A document that is written again while the bucket is reloaded can be missed by the load. The watcher looks it up,
// and must not wait there for the snapshot, which only the watcher itself moves.
func TestALoadThatMissedADocumentLooksItUpWithoutWaitingForItself(t *testing.T) {
	s, _ := open(t, t.TempDir())
	c := notes(t, s)
	must(c.Create(t.Context(), "there", note{}))(t)
	b, err := newBucket(t.Context(), s, "notes", v1) // nobody watches for it: its snapshot stays behind
	if err != nil {
		t.Fatal(err)
	}
	b.keys = func() []string { return []string{"there", "deleted"} }
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	gone, err := b.gone(ctx, nil)
	if ctx.Err() != nil {
		t.Fatal("waits for a snapshot that it has to move itself")
	}
	if err != nil || len(gone) != 1 || gone[0].key != "deleted" || !gone[0].deleted {
		t.Errorf("gone are %+v, %v; want only the deleted one", gone, err)
	}
}

func TestAnOutageOfTheExternalServerLosesNoChange(t *testing.T) {
	files := t.TempDir()
	stop, url, port := external(t, files, 0)
	f, err := fabric.Open(t.Context(), fabric.Options{URL: url, LeaseTTL: time.Second})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(f.Close)
	s, err := Open(t.Context(), f, MasterKeyFile(filepath.Join(t.TempDir(), "master.key")), nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	c := notes(t, s)
	for _, key := range []string{"kept", "changed", "deleted", "deleted without a trace"} {
		must(c.Create(t.Context(), key, note{Text: key}))(t)
	}
	before := c.All()
	stop()
	eventually(t, "the connection notices", func() bool { return !f.Conn().IsConnected() })
	if _, err := c.Create(t.Context(), "during", note{}); err == nil {
		t.Error("a write during the outage was acknowledged")
	}
	if len(c.All()) != len(before) {
		t.Error("the snapshot changed during the outage")
	}

	// Another node, which reaches the server while this one does not.
	stop, url, _ = external(t, files, 0)
	conn, err := nats.Connect(url)
	if err != nil {
		t.Fatal(err)
	}
	js, err := jetstream.New(conn)
	if err != nil {
		t.Fatal(err)
	}
	kv, err := js.KeyValue(t.Context(), bucketPrefix+"notes")
	if err != nil {
		t.Fatal(err)
	}
	for _, key := range []string{"changed", "new"} {
		sealed := must(s.seal("notes", key, 1, []byte(`{"text":"by another node"}`)))(t)
		must(kv.Put(t.Context(), name(t, key), sealed))(t)
	}
	if err := kv.Delete(t.Context(), name(t, "deleted")); err != nil {
		t.Fatal(err)
	}
	stream, err := js.Stream(t.Context(), "KV_"+kv.Bucket())
	if err != nil {
		t.Fatal(err)
	}
	if err := stream.Purge(t.Context(), jetstream.WithPurgeSubject("$KV."+kv.Bucket()+"."+name(t, "deleted without a trace"))); err != nil {
		t.Fatal(err)
	}
	conn.Close()
	stop()

	external(t, files, port)
	eventually(t, "the snapshot has what happened meanwhile", func() bool {
		changed, _ := c.Get("changed")
		made, _ := c.Get("new")
		_, deleted := c.Get("deleted")
		_, purged := c.Get("deleted without a trace")
		return changed.Value.Text == "by another node" && made.Value.Text == "by another node" && !deleted && !purged
	})
	if kept, ok := c.Get("kept"); !ok || kept != before["kept"] {
		t.Errorf("what nobody touched is now %+v", kept)
	}
	must(c.Create(t.Context(), "after", note{}))(t)
	if len(c.All()) != 4 {
		t.Errorf("there are %d documents, want kept, changed, new and after", len(c.All()))
	}
}

func TestAWriteWakesAWatchThatDied(t *testing.T) {
	s, _ := open(t, t.TempDir())
	c := notes(t, s)
	stream, err := s.fabric.JetStream().Stream(t.Context(), "KV_"+bucketPrefix+"notes")
	if err != nil {
		t.Fatal(err)
	}
	for consumer := range stream.ListConsumers(t.Context()).Info() {
		if err := stream.DeleteConsumer(t.Context(), consumer.Name); err != nil {
			t.Fatal(err)
		}
	}
	// The NATS client would find out by itself after two missed heartbeats, 10 s: it must not come to that.
	ctx, cancel := context.WithTimeout(t.Context(), patience+5*time.Second)
	defer cancel()
	r, err := c.Create(ctx, "a", note{Text: "seen"})
	if err != nil {
		t.Fatal(err)
	}
	if item, ok := c.Get("a"); !ok || item.Revision != r {
		t.Errorf("after the write the snapshot has %+v, %t", item, ok)
	}
}

func TestAReloadTellsListenersOnlyWhatIsNew(t *testing.T) {
	s, _ := open(t, t.TempDir())
	c := notes(t, s)
	must(c.Create(t.Context(), "known", note{}))(t)
	if err := c.Delete(t.Context(), "known", 0); err != nil {
		t.Fatal(err)
	}
	must(c.Create(t.Context(), "known", note{Text: "again"}))(t)
	heard := make(chan []string, 10)
	c.OnChange(func(changed []string) { heard <- changed })
	c.bucket.kick <- struct{}{}
	eventually(t, "the watcher begins anew", func() bool { return len(c.bucket.kick) == 0 })
	must(c.Create(t.Context(), "new", note{}))(t)
	if got := <-heard; len(got) != 1 || got[0] != "new" || len(heard) > 0 {
		t.Errorf("heard %v and %d more, want only the new document", got, len(heard))
	}
}

func TestWritersWakeOnlyAfterSnapshotAndListenersMoved(t *testing.T) {
	s, _ := open(t, t.TempDir())
	c := notes(t, s)
	calls := 0
	c.OnChange(func([]string) {
		calls++
		if item, ok := c.Get("a"); !ok || c.bucket.seen.Load() >= item.Revision {
			t.Errorf("a listener is called with document %t, while its writer may go on from revision %d", ok, c.bucket.seen.Load())
		}
	})
	r := must(c.Create(t.Context(), "a", note{}))(t)
	must(c.Update(t.Context(), "a", note{Text: "b"}, r))(t)
	if calls != 2 {
		t.Errorf("%d calls, want 2", calls)
	}
}

func TestAWriteWhoseCallerGivesUpWaitingSaysThatItWasWritten(t *testing.T) {
	s, _ := open(t, t.TempDir())
	b, err := newBucket(t.Context(), s, "notes", v1)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	err = b.await(ctx, 7)
	wantErr(t, err, context.Canceled)
	if !strings.Contains(err.Error(), "written as revision 7") {
		t.Errorf("error is %q", err)
	}
}

func TestADocumentThatCannotBeReadLeavesTheLastGoodOneInUse(t *testing.T) {
	dir := t.TempDir()
	s, stop := open(t, dir)
	var log safeBuffer
	s.log = slog.New(slog.NewTextHandler(&log, nil))
	c := notes(t, s)
	r := must(c.Create(t.Context(), "a", note{Text: "good"}))(t)
	kv := raw(t, s, "notes")
	newer := must(s.seal("notes", "a", 2, []byte(`{}`)))(t)
	foreign := must(s.seal("notes", "typed", 1, []byte(`{"text":{"secret":"canary"}}`)))(t)
	must(kv.Put(t.Context(), name(t, "a"), newer))(t)
	must(kv.Put(t.Context(), name(t, "typed"), foreign))(t)
	must(kv.Put(t.Context(), "=", []byte("whose?")))(t)

	must(c.Create(t.Context(), "b", note{Text: "after"}))(t) // others go on
	if item, ok := c.Get("a"); !ok || item.Value.Text != "good" || item.Revision != r {
		t.Errorf("the last good document is now %+v, %t", item, ok)
	}
	_, err := c.Update(t.Context(), "a", note{Text: "over it"}, r)
	wantErr(t, err, ErrConflict)
	for _, want := range []string{"newer than the 1", `field \"text\" is not a string`, "not one of ours"} {
		if !strings.Contains(strings.ReplaceAll(log.String(), `\\`, `\`), want) {
			t.Errorf("the log lacks %q: %s", want, log.String())
		}
	}
	if strings.Contains(log.String(), "canary") {
		t.Error("the log shows what the document holds")
	}
	stop()

	// At the start they are refused, all of them named.
	s, _ = open(t, dir)
	_, err = OpenCollection[note](t.Context(), s, "notes", v1)
	for _, want := range []string{"newer than the 1", `"typed"`, "not one of ours"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("opening gives %v, want %q in it", err, want)
		}
	}
}

func TestMigratedDocumentsAreWrittenBack(t *testing.T) {
	s, _ := open(t, t.TempDir())
	c := notes(t, s)
	r := must(c.Create(t.Context(), "a", note{Text: "old"}))(t)
	v2 := Schema{Version: 2, Migrate: func(_ int, doc []byte) ([]byte, error) {
		return bytes.Replace(doc, []byte("old"), []byte("new"), 1), nil
	}}
	migrated, err := OpenCollection[note](t.Context(), s, "notes", v2)
	if err != nil {
		t.Fatal(err)
	}
	if item, _ := migrated.Get("a"); item.Value.Text != "new" {
		t.Errorf("read as %+v", item)
	}
	eventually(t, "the stored version is 2", func() bool {
		entry, err := raw(t, s, "notes").Get(t.Context(), name(t, "a"))
		if err != nil {
			return false
		}
		version, _, err := splitSealed(entry.Value())
		return err == nil && version == 2
	})
	eventually(t, "its own snapshot follows", func() bool {
		item, _ := migrated.Get("a")
		return item.Revision > r && item.Value.Text == "new"
	})
}

func TestOldMarkersGoAndWhatWasCreatedAgainStays(t *testing.T) {
	s, _ := open(t, t.TempDir())
	c := notes(t, s)
	kv := raw(t, s, "notes")
	found := &loadResult{}
	for _, key := range []string{"gone", "back"} {
		must(c.Create(t.Context(), key, note{}))(t)
		if err := c.Delete(t.Context(), key, 0); err != nil {
			t.Fatal(err)
		}
	}
	watcher, err := kv.WatchAll(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for entry := range watcher.Updates() {
		if entry == nil {
			break
		}
		found.oldMarkers = append(found.oldMarkers, entry)
	}
	if err := watcher.Stop(); err != nil {
		t.Fatal(err)
	}
	if len(found.oldMarkers) != 2 {
		t.Fatalf("%d markers, want 2", len(found.oldMarkers))
	}
	must(c.Create(t.Context(), "back", note{Text: "again"}))(t)
	c.bucket.tidy(found)
	status, err := kv.Status(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if status.Values() != 1 {
		t.Errorf("%d entries are left, want only the document", status.Values())
	}
	if item, ok := c.Get("back"); !ok || item.Value.Text != "again" {
		t.Error("the document that was created again is gone")
	}
}
