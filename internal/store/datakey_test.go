package store

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"tabard/internal/fabric"
)

func TestDataKeyOpensForItsUseAndItsPlaceOnly(t *testing.T) {
	s, _ := open(t, t.TempDir())
	key, wrapped, err := s.NewDataKey("vault a")
	if err != nil {
		t.Fatal(err)
	}
	sealed := must(key.Seal([]byte("value"), []byte("place")))(t)
	again := must(s.OpenDataKey(wrapped, "vault a"))(t)
	if got, err := again.Open(sealed, []byte("place")); err != nil || string(got) != "value" {
		t.Errorf("opened %q, %v", got, err)
	}
	if _, err := again.Open(sealed, []byte("elsewhere")); err == nil {
		t.Error("a value opened at another place")
	}
	sealed[len(sealed)-1] ^= 1
	if _, err := again.Open(sealed, []byte("place")); err == nil {
		t.Error("an altered value opened")
	}
	if _, err := s.OpenDataKey(wrapped, "vault b"); err == nil {
		t.Error("the key opened for another use")
	}
	other, _ := open(t, t.TempDir())
	if _, err := other.OpenDataKey(wrapped, "vault a"); err == nil {
		t.Error("the key opened in another store")
	}
}

func TestRewrapChangesTheMasterKeyAndNothingElse(t *testing.T) {
	dir := t.TempDir()
	s, stop := open(t, dir)
	c := notes(t, s)
	must(c.Create(t.Context(), "a", note{Text: "before"}))(t)
	_, wrapped, err := s.NewDataKey("x")
	if err != nil {
		t.Fatal(err)
	}
	next := filepath.Join(dir, "next.key")
	if err := s.Rewrap(t.Context(), MasterKeyFile(next)); err != nil {
		t.Fatal(err)
	}
	must(c.Create(t.Context(), "b", note{Text: "after"}))(t) // the process goes on
	stop()
	if info, err := os.Stat(next); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the new key file: %v, %v", info, err)
	}

	f, err := fabric.Open(t.Context(), fabric.Options{DataDir: dir})
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := Open(t.Context(), f, MasterKeyFile(filepath.Join(dir, "master.key")), nil); !errors.Is(err, ErrWrongMasterKey) {
		t.Errorf("with the old key: %v", err)
	}
	s, err = Open(t.Context(), f, MasterKeyFile(next), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	all := notes(t, s).All()
	if all["a"].Value.Text != "before" || all["b"].Value.Text != "after" {
		t.Errorf("documents %v", all)
	}
	if _, err := s.OpenDataKey(wrapped, "x"); err != nil {
		t.Error(err)
	}
}

func TestRewrapUnderAnUnusableKeyChangesNothing(t *testing.T) {
	dir := t.TempDir()
	s, stop := open(t, dir)
	must(notes(t, s).Create(t.Context(), "a", note{Text: "x"}))(t)
	if err := s.Rewrap(t.Context(), MasterKeyValue("not a key")); err == nil {
		t.Fatal("a bad key was taken")
	}
	stop()
	s, _ = open(t, dir)
	if notes(t, s).All()["a"].Value.Text != "x" {
		t.Error("the document is gone")
	}
}
