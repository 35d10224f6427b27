package store

import (
	"encoding/base64"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"tabard/internal/fabric"
)

func TestTheMasterKeyFileIsPrivateAndMadeOnce(t *testing.T) {
	dir := t.TempDir()
	_, stop := open(t, dir)
	path := filepath.Join(dir, "master.key")
	first, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if info, _ := os.Stat(path); info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v", info.Mode())
	}
	stop()
	open(t, dir)
	if second, _ := os.ReadFile(path); string(second) != string(first) {
		t.Error("another key after a restart")
	}
}

// reopen opens fabric and store with a master key and returns the store's error.
func reopen(t *testing.T, dir string, key MasterKey) error {
	t.Helper()
	f, err := fabric.Open(t.Context(), fabric.Options{DataDir: dir})
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	s, err := Open(t.Context(), f, key, nil)
	if err == nil {
		s.Close()
	}
	return err
}

func TestAMasterKeyThatIsNotTheRightOneChangesNothing(t *testing.T) {
	dir := t.TempDir()
	s, stop := open(t, dir)
	if _, err := notes(t, s).Create(t.Context(), "a", note{Text: "kept"}); err != nil {
		t.Fatal(err)
	}
	stop()
	path := filepath.Join(dir, "master.key")
	good, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	other := base64.StdEncoding.EncodeToString(make([]byte, masterKeySize))
	for _, tc := range []struct {
		name string
		key  func() MasterKey
		want string
	}{
		{"another key", func() MasterKey { return MasterKeyValue(other) }, ErrWrongMasterKey.Error()},
		{"a missing file where sealed data exists", func() MasterKey { return MasterKeyFile(filepath.Join(dir, "other.key")) }, "other.key does not exist, but data sealed with it does"},
		{"half a key", func() MasterKey { return MasterKeyValue("c2hvcnQ=") }, "has 5 bytes, want 32"},
		{"no base64", func() MasterKey { return MasterKeyValue("§§§") }, "is not base64 text"},
		{"none", func() MasterKey { return MasterKey{} }, "no master key is configured"},
		{"a file that others may read", func() MasterKey {
			shared := filepath.Join(dir, "shared.key")
			if err := os.WriteFile(shared, good, 0o644); err != nil {
				t.Fatal(err)
			}
			return MasterKeyFile(shared)
		}, "others may read it"},
		{"a file that is something else", func() MasterKey {
			large := filepath.Join(dir, "large.key")
			if err := os.WriteFile(large, make([]byte, 2<<10), 0o600); err != nil {
				t.Fatal(err)
			}
			return MasterKeyFile(large)
		}, "want one line of base64 text"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			err := reopen(t, dir, tc.key())
			if err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("got %v, want %q", err, tc.want)
			}
			if err != nil && strings.Contains(err.Error(), strings.TrimSpace(string(good))) {
				t.Error("the error shows the key")
			}
		})
	}
	if _, err := os.Stat(filepath.Join(dir, "other.key")); err == nil {
		t.Error("a key was made where sealed data exists")
	}
	if err := reopen(t, dir, MasterKeyValue(string(good))); err != nil {
		t.Fatalf("the right key as a value: %v", err)
	}
	s, _ = open(t, dir)
	if item, ok := notes(t, s).Get("a"); !ok || item.Value.Text != "kept" {
		t.Error("the document is gone")
	}
}

func TestNoWayOfPrintingAMasterKeyShowsIt(t *testing.T) {
	text := base64.StdEncoding.EncodeToString(make([]byte, masterKeySize))
	for _, format := range []string{"%v", "%+v", "%#v", "%s"} {
		if got := fmt.Sprintf(format, MasterKeyValue(text)); strings.Contains(got, text) {
			t.Errorf("%s prints %s", format, got)
		}
	}
}

func TestADocumentThatWasMovedOrAlteredDoesNotOpen(t *testing.T) {
	s, _ := open(t, t.TempDir())
	sealed, err := s.seal("notes", "a", 1, []byte(`{"text":"x"}`))
	if err != nil {
		t.Fatal(err)
	}
	version, body, err := splitSealed(sealed)
	if err != nil || version != 1 {
		t.Fatalf("version %d, %v", version, err)
	}
	if _, err := s.unseal("notes", "a", 1, body); err != nil {
		t.Fatalf("as it was sealed: %v", err)
	}
	flipped := append([]byte{}, body...)
	flipped[len(flipped)-1] ^= 1
	for _, tc := range []struct {
		name, bucket, key string
		version           int
		body              []byte
	}{
		{"under another key", "notes", "b", 1, body},
		{"in another bucket", "others", "a", 1, body},
		{"as another version", "notes", "a", 2, body},
		{"with one bit changed", "notes", "a", 1, flipped},
		{"cut short", "notes", "a", 1, body[:3]},
		{"with nothing in it", "notes", "a", 1, nil},
	} {
		if doc, err := s.unseal(tc.bucket, tc.key, tc.version, tc.body); err == nil {
			t.Errorf("%s: opens as %s", tc.name, doc)
		}
	}
	for _, broken := range [][]byte{nil, {sealFormat}, {sealFormat + 1, 1, 0}} {
		if _, _, err := splitSealed(broken); err == nil {
			t.Errorf("%v passes for a sealed document", broken)
		}
	}
}
