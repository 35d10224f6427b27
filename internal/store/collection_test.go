package store

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
)

func TestWritesAreReadAtOnceAndKeepTheirRules(t *testing.T) {
	s, _ := open(t, t.TempDir())
	c := notes(t, s)
	r1, err := c.Create(t.Context(), "a", note{Text: "one"})
	if err != nil {
		t.Fatal(err)
	}
	if item, ok := c.Get("a"); !ok || item.Value.Text != "one" || item.Revision != r1 {
		t.Errorf("after Create: %+v, %t", item, ok)
	}
	_, err = c.Create(t.Context(), "a", note{})
	wantErr(t, err, ErrExists)
	r2, err := c.Update(t.Context(), "a", note{Text: "two"}, r1)
	if err != nil || r2 <= r1 {
		t.Fatalf("Update: %d, %v", r2, err)
	}
	_, err = c.Update(t.Context(), "a", note{Text: "late"}, r1)
	wantErr(t, err, ErrConflict)
	_, err = c.Update(t.Context(), "missing", note{}, r1)
	wantErr(t, err, ErrNotFound)
	_, err = c.Update(t.Context(), "missing", note{}, 0)
	wantErr(t, err, ErrNotFound)
	wantErr(t, c.Delete(t.Context(), "a", r1), ErrConflict)
	wantErr(t, c.Delete(t.Context(), "missing", 0), ErrNotFound)
	if item, _ := c.Get("a"); item.Value.Text != "two" || item.Revision != r2 {
		t.Errorf("refused writes changed it to %+v", item)
	}
	if err := c.Delete(t.Context(), "a", r2); err != nil {
		t.Fatal(err)
	}
	if _, ok := c.Get("a"); ok {
		t.Error("deleted, and still there")
	}
	wantErr(t, c.Delete(t.Context(), "a", 0), ErrNotFound)
	if _, err := c.Create(t.Context(), "a", note{Text: "again"}); err != nil {
		t.Errorf("create after delete: %v", err)
	}
}

func TestASnapshotNeverChanges(t *testing.T) {
	s, _ := open(t, t.TempDir())
	c := notes(t, s)
	r, err := c.Create(t.Context(), "a", note{Text: "one"})
	if err != nil {
		t.Fatal(err)
	}
	before := c.All()
	if _, err := c.Update(t.Context(), "a", note{Text: "two"}, r); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Create(t.Context(), "b", note{}); err != nil {
		t.Fatal(err)
	}
	if len(before) != 1 || before["a"].Value.Text != "one" {
		t.Errorf("the old snapshot is now %v", before)
	}
}

func TestListenersHearOfAChangeBeforeItsWriterGoesOn(t *testing.T) {
	s, _ := open(t, t.TempDir())
	c := notes(t, s)
	var heard []string
	c.OnChange(func(changed []string) { heard = append(heard, changed...) })
	r, err := c.Create(t.Context(), "a", note{})
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Delete(t.Context(), "a", r); err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(heard, []string{"a", "a"}) {
		t.Errorf("heard %v", heard)
	}
}

func TestKeysMayHoldAnythingAndAreBounded(t *testing.T) {
	s, _ := open(t, t.TempDir())
	c := notes(t, s)
	for _, key := range []string{"hub`,.[]", "a/b c", "*", ">", "ü∂", strings.Repeat("k", MaxKey)} {
		if _, err := c.Create(t.Context(), key, note{Text: key}); err != nil {
			t.Errorf("%.20q: %v", key, err)
		} else if item, ok := c.Get(key); !ok || item.Value.Text != key {
			t.Errorf("%.20q is not found again", key)
		}
	}
	for key, want := range map[string]error{"": ErrInvalidKey, "\xff": ErrInvalidKey, strings.Repeat("k", MaxKey+1): ErrTooLarge} {
		_, err := c.Create(t.Context(), key, note{})
		wantErr(t, err, want)
	}
}

func TestValuesAreBounded(t *testing.T) {
	s, _ := open(t, t.TempDir())
	c := notes(t, s)
	const frame = len(`{"text":""}`)
	if _, err := c.Create(t.Context(), "fits", note{Text: strings.Repeat("x", MaxValue-frame)}); err != nil {
		t.Errorf("a document of MaxValue bytes: %v", err)
	}
	_, err := c.Create(t.Context(), "large", note{Text: strings.Repeat("x", MaxValue-frame+1)})
	wantErr(t, err, ErrTooLarge)
	if _, ok := c.Get("large"); ok {
		t.Error("a refused document is there")
	}
}

func TestDocumentsStayOverARestart(t *testing.T) {
	dir := t.TempDir()
	s, stop := open(t, dir)
	c := notes(t, s)
	want := map[string]Item[note]{}
	for i := range 20 {
		key := fmt.Sprint(i)
		r, err := c.Create(t.Context(), key, note{N: i})
		if err != nil {
			t.Fatal(err)
		}
		want[key] = Item[note]{note{N: i}, r}
	}
	if err := c.Delete(t.Context(), "7", 0); err != nil {
		t.Fatal(err)
	}
	delete(want, "7")
	stop()
	s, _ = open(t, dir)
	if got := notes(t, s).All(); !maps.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

func TestConcurrentWritersOfOneDocumentLoseNothing(t *testing.T) {
	s, _ := open(t, t.TempDir())
	c := notes(t, s)
	if _, err := c.Create(t.Context(), "n", note{}); err != nil {
		t.Fatal(err)
	}
	const writers, each = 8, 10
	var wg sync.WaitGroup
	for range writers {
		wg.Go(func() {
			for done := 0; done < each; {
				item, _ := c.Get("n")
				_, err := c.Update(t.Context(), "n", note{N: item.Value.N + 1}, item.Revision)
				switch {
				case err == nil:
					done++
				case !errors.Is(err, ErrConflict):
					t.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
	if item, _ := c.Get("n"); item.Value.N != writers*each {
		t.Errorf("counted %d, want %d", item.Value.N, writers*each)
	}
}

func TestTwoCollectionsOnOneBucketSeeEachOther(t *testing.T) {
	s, _ := open(t, t.TempDir())
	a, b := notes(t, s), notes(t, s)
	r, err := a.Create(t.Context(), "k", note{Text: "from a"})
	if err != nil {
		t.Fatal(err)
	}
	eventually(t, "b sees a's document", func() bool { item, ok := b.Get("k"); return ok && item.Revision == r })
	if _, err := b.Update(t.Context(), "k", note{Text: "from b"}, r); err != nil {
		t.Fatal(err)
	}
	eventually(t, "a sees b's change", func() bool { item, _ := a.Get("k"); return item.Value.Text == "from b" })
	if err := b.Delete(t.Context(), "k", 0); err != nil {
		t.Fatal(err)
	}
	eventually(t, "a sees the deletion", func() bool { _, ok := a.Get("k"); return !ok })
}

func TestAClosedStoreRefusesWritesAndStillReads(t *testing.T) {
	s, stop := open(t, t.TempDir())
	c := notes(t, s)
	if _, err := c.Create(t.Context(), "a", note{Text: "kept"}); err != nil {
		t.Fatal(err)
	}
	stop()
	if _, err := c.Create(t.Context(), "b", note{}); err == nil {
		t.Error("a closed store took a document")
	}
	if item, ok := c.Get("a"); !ok || item.Value.Text != "kept" {
		t.Error("the snapshot is gone")
	}
}

func TestOldDocumentsAreMigratedAndNewerOnesRefused(t *testing.T) {
	dir := t.TempDir()
	s, stop := open(t, dir)
	if _, err := notes(t, s).Create(t.Context(), "a", note{Text: "old"}); err != nil {
		t.Fatal(err)
	}
	stop()

	v2 := Schema{Version: 2, Migrate: func(from int, doc []byte) ([]byte, error) {
		if from != 1 {
			return nil, fmt.Errorf("from %d", from)
		}
		return []byte(strings.Replace(string(doc), "old", "migrated", 1)), nil
	}}
	s, stop = open(t, dir)
	c, err := OpenCollection[note](t.Context(), s, "notes", v2)
	if err != nil {
		t.Fatal(err)
	}
	if item, _ := c.Get("a"); item.Value.Text != "migrated" {
		t.Errorf("got %+v", item)
	}
	item, _ := c.Get("a")
	if _, err := c.Update(t.Context(), "a", note{Text: "migrated, then changed"}, item.Revision); err != nil && !errors.Is(err, ErrConflict) {
		t.Errorf("update of a migrated document: %v", err)
	}
	stop()

	s, _ = open(t, dir)
	_, err = OpenCollection[note](t.Context(), s, "notes", v1)
	var version *VersionError
	if !errors.As(err, &version) || version.Stored != 2 || version.Known != 1 || !strings.Contains(err.Error(), "newer than") {
		t.Errorf("got %v, want a VersionError", err)
	}
}

func TestNothingOfADocumentIsOnDiskInPlain(t *testing.T) {
	dir := t.TempDir()
	s, stop := open(t, dir)
	c := notes(t, s)
	const canary = "canary-5f1d2c"
	r, err := c.Create(t.Context(), "name", note{Text: canary})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.Update(t.Context(), "name", note{Text: canary + canary}, r); err != nil {
		t.Fatal(err)
	}
	stop()
	files := 0
	err = filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		files++
		text, err := os.ReadFile(path)
		if strings.Contains(string(text), canary) {
			t.Errorf("%s holds it", path)
		}
		return err
	})
	if err != nil || files < 3 {
		t.Errorf("%d files searched, %v", files, err)
	}
}

func BenchmarkGet(b *testing.B) {
	s, _ := open(b, b.TempDir())
	c := notes(b, s)
	for i := range 1000 {
		if _, err := c.Create(b.Context(), fmt.Sprint(i), note{N: i}); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportAllocs()
	for b.Loop() {
		if _, ok := c.Get("500"); !ok {
			b.Fatal("missing")
		}
	}
}

func BenchmarkCreate(b *testing.B) {
	s, _ := open(b, b.TempDir())
	c := notes(b, s)
	for i := 0; b.Loop(); i++ {
		if _, err := c.Create(b.Context(), fmt.Sprint(i), note{Text: "x", N: i}); err != nil {
			b.Fatal(err)
		}
	}
}
