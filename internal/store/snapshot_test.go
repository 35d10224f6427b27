package store

import (
	"context"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/nats-io/nats.go/jetstream"

	"tabard/internal/fabric"
)

// copyTo restores a snapshot into a new directory under a master key of its own.
func copyTo(t testing.TB, snap *Snapshot, dir string) {
	t.Helper()
	f, err := fabric.Open(t.Context(), fabric.Options{DataDir: dir})
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	r := must(BeginRestoration(t.Context(), f, must(snap.DataKey())(t)))(t)
	for item, err := range snap.All(t.Context()) {
		if err == nil {
			err = r.Add(t.Context(), item)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := r.Finish(t.Context(), MasterKeyFile(filepath.Join(dir, "master.key"))); err != nil {
		t.Fatal(err)
	}
}

func TestASnapshotIsOfItsMomentAndRestoresUnderAnotherMasterKey(t *testing.T) {
	s, _ := open(t, t.TempDir())
	c, j := notes(t, s), journal(t, s, wide)
	must(OpenJournal(t.Context(), s, "empty", wide))(t)
	r := must(c.Create(t.Context(), "a", note{Text: "before"}))(t)
	must(c.Create(t.Context(), "gone", note{Text: "later deleted"}))(t)
	must(j.Append(t.Context(), []byte("before")))(t)
	snap := must(s.Snapshot(t.Context()))(t)
	must(c.Update(t.Context(), "a", note{Text: "after"}, r))(t)
	must(c.Create(t.Context(), "b", note{Text: "after"}))(t)
	must(j.Append(t.Context(), []byte("after")))(t)
	if err := c.Delete(t.Context(), "gone", 0); err != nil {
		t.Fatal(err)
	}

	dir := t.TempDir()
	copyTo(t, snap, dir)
	s, _ = open(t, dir)
	c, j = notes(t, s), journal(t, s, wide)
	if a, _ := c.Get("a"); len(c.All()) != 2 || a.Value.Text != "before" {
		t.Errorf("restored are %v", c.All())
	}
	if got := back(t, j, 0); !slices.Equal(got, []string{"1 before"}) {
		t.Errorf("the journal has %v", got)
	}
}

// Two documents that are always written one after the other differ by one at most in a snapshot, the first ahead.
func TestASnapshotCutsBetweenWrites(t *testing.T) {
	s, _ := open(t, t.TempDir())
	first, second := notes(t, s), must(OpenCollection[note](t.Context(), s, "more", v1))(t)
	r1, r2 := must(first.Create(t.Context(), "n", note{}))(t), must(second.Create(t.Context(), "n", note{}))(t)
	ctx, stop := context.WithCancel(t.Context())
	var writing sync.WaitGroup
	writing.Go(func() {
		for n := 1; ctx.Err() == nil; n++ {
			var err error
			if r1, err = first.Update(t.Context(), "n", note{N: n}, r1); err == nil {
				r2, err = second.Update(t.Context(), "n", note{N: n}, r2)
			}
			if err != nil {
				t.Error(err)
				return
			}
		}
	})
	for range 50 {
		snap := must(s.Snapshot(t.Context()))(t)
		n := map[string]int{}
		for _, b := range snap.buckets {
			for _, v := range b.documents {
				n[b.bucket.name] = v.(note).N
			}
		}
		if d := n["notes"] - n["more"]; d != 0 && d != 1 {
			t.Errorf("cut at %v", n)
		}
	}
	stop()
	writing.Wait()
}

// The marker of a deletion may be the newest message of a bucket, and be removed after a day: nothing to wait for.
func TestASnapshotNeedsNoMessageThatIsGone(t *testing.T) {
	dir := t.TempDir()
	s, stop := open(t, dir)
	c := notes(t, s)
	must(c.Create(t.Context(), "kept", note{}))(t)
	must(c.Create(t.Context(), "gone", note{}))(t)
	if err := c.Delete(t.Context(), "gone", 0); err != nil {
		t.Fatal(err)
	}
	name := must(encodeKey("gone"))(t)
	stream := must(s.fabric.JetStream().Stream(t.Context(), "KV_tabard-notes"))(t)
	if err := stream.Purge(t.Context(), jetstream.WithPurgeSubject("$KV.tabard-notes."+name)); err != nil {
		t.Fatal(err)
	}
	stop()
	s, _ = open(t, dir)
	notes(t, s)
	must(s.Snapshot(t.Context()))(t)
}

func TestARestorationRefuses(t *testing.T) {
	s, _ := open(t, t.TempDir())
	must(notes(t, s).Create(t.Context(), "a", note{Text: "x"}))(t)
	snap := must(s.Snapshot(t.Context()))(t)
	key := must(snap.DataKey())(t)
	var item Sealed
	for i, err := range snap.All(t.Context()) {
		if err != nil {
			t.Fatal(err)
		}
		item = i
	}
	t.Run("a fabric that has a store", func(t *testing.T) {
		if _, err := BeginRestoration(t.Context(), s.fabric, key); err == nil || !strings.Contains(err.Error(), "there is a store already") {
			t.Error(err)
		}
	})
	f, err := fabric.Open(t.Context(), fabric.Options{DataDir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := BeginRestoration(t.Context(), f, []byte("no key")); err == nil {
		t.Error("a key that is none")
	}
	r := must(BeginRestoration(t.Context(), f, key))(t)
	for name, bad := range map[string]Sealed{
		"moved to another key":    {Bucket: item.Bucket, Key: "b", Data: item.Data},
		"moved to another bucket": {Bucket: "more", Key: item.Key, Data: item.Data},
		"moved into a journal":    {Journal: "log", Data: item.Data},
		"damaged":                 {Bucket: item.Bucket, Key: item.Key, Data: append(slices.Clone(item.Data[:len(item.Data)-1]), item.Data[len(item.Data)-1]^1)},
		"empty":                   {Bucket: item.Bucket, Key: item.Key},
		"in the bucket of keys":   {Bucket: metaBucket, Key: dataKeyKey, Data: item.Data},
	} {
		if err := r.Add(t.Context(), bad); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	if err := r.Add(t.Context(), item); err != nil {
		t.Fatal(err)
	}
	if err := r.Add(t.Context(), item); err == nil {
		t.Error("the same document twice")
	}
}

func TestAMasterKeySealsForOneUse(t *testing.T) {
	path := filepath.Join(t.TempDir(), "key")
	if _, err := createKeyFile(path); err != nil {
		t.Fatal(err)
	}
	k := MasterKeyFile(path)
	sealed := must(k.Seal([]byte("secret"), "this"))(t)
	if got := must(k.Unseal(sealed, "this"))(t); string(got) != "secret" {
		t.Errorf("got %q", got)
	}
	_, err := k.Unseal(sealed, "that")
	wantErr(t, err, ErrWrongMasterKey)
	if _, err := MasterKeyFile(path+"x").Seal(nil, "this"); err == nil {
		t.Error("a missing key was made")
	}
	if s := fmt.Sprint(k); strings.Contains(s, "secret") {
		t.Error(s)
	}
}
