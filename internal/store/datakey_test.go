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

func TestMasterKeyFileIsReplacedInPlace(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "master.key")
	s, stop := open(t, dir)
	must(notes(t, s).Create(t.Context(), "a", note{Text: "x"}))(t)
	before := must(os.ReadFile(path))(t)
	for range 2 {
		if err := s.RotateMasterKeyFile(t.Context(), path); err != nil {
			t.Fatal(err)
		}
	}
	stop()
	after := must(os.ReadFile(path))(t)
	if string(before) == string(after) {
		t.Error("the key is the same")
	}
	if _, err := os.Stat(path + nextKey); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a file is left: %v", err)
	}
	s, _ = open(t, dir)
	if notes(t, s).All()["a"].Value.Text != "x" {
		t.Error("the document is gone")
	}
}

func TestARotationThatWasCutOffIsFinishedOrForgotten(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "master.key")
	s, stop := open(t, dir)
	must(notes(t, s).Create(t.Context(), "a", note{Text: "x"}))(t)
	if err := s.Rewrap(t.Context(), MasterKeyFile(path+nextKey)); err != nil { // sealed, not yet renamed
		t.Fatal(err)
	}
	next := must(os.ReadFile(path + nextKey))(t)
	stop()
	s, stop = open(t, dir)
	if notes(t, s).All()["a"].Value.Text != "x" || string(must(os.ReadFile(path))(t)) != string(next) {
		t.Error("the new key did not take the old one's place")
	}
	stop()
	if err := os.WriteFile(path+nextKey, []byte("YWJjZGVmZ2hpamtsbW5vcHFyc3R1dnd4eXoxMjM0NTY=\n"), 0o600); err != nil { // written, nothing sealed
		t.Fatal(err)
	}
	s, stop = open(t, dir)
	if err := s.RotateMasterKeyFile(t.Context(), path); err != nil {
		t.Fatal(err)
	}
	// Sealed, but the file could not be renamed, and the process goes on: the only key that opens the data must stay.
	if err := s.Rewrap(t.Context(), MasterKeyFile(path+nextKey)); err != nil {
		t.Fatal(err)
	}
	sealing := must(os.ReadFile(path + nextKey))(t)
	if err := s.settleNextKey(t.Context(), path); err != nil || string(must(os.ReadFile(path))(t)) != string(sealing) {
		t.Errorf("the key did not take its place: %v", err)
	}
	stop()
	s, _ = open(t, dir)
	if notes(t, s).All()["a"].Value.Text != "x" {
		t.Error("the document is gone")
	}
}
