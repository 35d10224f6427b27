package store

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"go.uber.org/goleak"

	"tabard/internal/fabric"
)

type note struct {
	Text string `json:"text"`
	N    int    `json:"n,omitempty"`
}

var v1 = Schema{Version: 1}

// open opens fabric and store on dir; close them with the returned function (again at the test's end).
func open(t testing.TB, dir string) (*Store, func()) {
	t.Helper()
	f, err := fabric.Open(t.Context(), fabric.Options{DataDir: dir})
	if err != nil {
		t.Fatal(err)
	}
	s, err := Open(t.Context(), f, MasterKeyFile(filepath.Join(dir, "master.key")), nil)
	if err != nil {
		f.Close()
		t.Fatal(err)
	}
	closeAll := func() { s.Close(); f.Close() }
	t.Cleanup(closeAll)
	return s, closeAll
}

func notes(t testing.TB, s *Store) *Collection[note] {
	t.Helper()
	c, err := OpenCollection[note](t.Context(), s, "notes", v1)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func must[T any](v T, err error) func(testing.TB) T {
	return func(t testing.TB) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

// eventually polls until cond holds.
func eventually(t testing.TB, what string, cond func() bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for !cond() {
		select {
		case <-ctx.Done():
			t.Fatalf("did not happen in time: %s", what)
		case <-tick.C:
		}
	}
}

func wantErr(t testing.TB, err, want error) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Fatalf("error is %v, want %v", err, want)
	}
}

func TestADocumentIsReadAsItWasWrittenAlsoAfterReopening(t *testing.T) {
	dir := t.TempDir()
	s, closeAll := open(t, dir)
	c := notes(t, s)
	key := "Hub/ä b.c*>" // none of this may be in a NATS subject
	r1 := must(c.Create(t.Context(), key, note{Text: "one"}))(t)
	if got, ok := c.Get(key); !ok || got.Value.Text != "one" || got.Revision != r1 {
		t.Fatalf("after create: %+v %v", got, ok)
	}
	_, err := c.Create(t.Context(), key, note{})
	wantErr(t, err, ErrExists)
	r2 := must(c.Update(t.Context(), key, note{Text: "two"}, r1))(t)
	_, err = c.Update(t.Context(), key, note{Text: "three"}, r1)
	wantErr(t, err, ErrConflict)
	_, err = c.Update(t.Context(), "other", note{}, r1)
	wantErr(t, err, ErrNotFound)
	wantErr(t, c.Delete(t.Context(), key, r1), ErrConflict)
	wantErr(t, c.Delete(t.Context(), "other", 0), ErrNotFound)
	must(c.Create(t.Context(), "gone", note{Text: "gone"}))(t)
	if err := c.Delete(t.Context(), "gone", 0); err != nil {
		t.Fatal(err)
	}
	if _, ok := c.Get("gone"); ok {
		t.Fatal("deleted document is still there")
	}
	closeAll()

	s, _ = open(t, dir)
	c = notes(t, s)
	if got, ok := c.Get(key); !ok || got.Value.Text != "two" || got.Revision != r2 {
		t.Fatalf("after reopening: %+v %v", got, ok)
	}
	if len(c.All()) != 1 {
		t.Fatalf("after reopening there are %d documents, want 1", len(c.All()))
	}
	must(c.Create(t.Context(), "gone", note{Text: "back"}))(t)
}

func TestMain(m *testing.M) {
	if dir := os.Getenv(writerDir); dir != "" {
		write(dir)
	}
	goleak.VerifyTestMain(m)
}
