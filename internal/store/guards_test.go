package store

import (
	"bytes"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"tabard/internal/fabric"
)

func TestWhereSealedDocumentsAreANewDataKeyIsNotMade(t *testing.T) {
	dir := t.TempDir()
	s, stop := open(t, dir)
	must(notes(t, s).Create(t.Context(), "a", note{Text: "kept"}))(t)
	meta := raw(t, s, metaBucket)
	sealedKey := must(meta.Get(t.Context(), dataKeyKey))(t).Value()
	if err := meta.Purge(t.Context(), dataKeyKey); err != nil {
		t.Fatal(err)
	}
	stop()
	err := reopen(t, dir, MasterKeyFile(filepath.Join(dir, "another.key")))
	if err == nil || !strings.Contains(err.Error(), "sealed documents exist (notes)") {
		t.Fatalf("got %v, want a refusal that names the bucket", err)
	}

	f, err := fabric.Open(t.Context(), fabric.Options{DataDir: dir})
	if err != nil {
		t.Fatal(err)
	}
	kv, err := f.JetStream().KeyValue(t.Context(), bucketPrefix+metaBucket)
	if err != nil {
		t.Fatal(err)
	}
	must(kv.Put(t.Context(), dataKeyKey, sealedKey))(t) // as from a backup
	f.Close()
	s, _ = open(t, dir)
	if item, ok := notes(t, s).Get("a"); !ok || item.Value.Text != "kept" {
		t.Error("the document is gone")
	}
}

func TestACollectionRefusesWhatWouldLoseDocuments(t *testing.T) {
	s, stop := open(t, t.TempDir())
	for bucket, config := range map[string]jetstream.KeyValueConfig{
		"expiring": {TTL: time.Hour},
		"volatile": {Storage: jetstream.MemoryStorage},
	} {
		config.Bucket = bucketPrefix + bucket
		if _, err := s.fabric.JetStream().CreateKeyValue(t.Context(), config); err != nil {
			t.Fatal(err)
		}
	}
	for _, tc := range []struct {
		name, bucket string
		schema       Schema
		want         string
	}{
		{"values that expire", "expiring", v1, "would lose documents"},
		{"values in memory only", "volatile", v1, "would lose documents"},
		{"the bucket of the data key", "meta", v1, "is taken"},
		{"the bucket of the lease", "node", v1, "is taken"},
		{"a schema without a version", "notes", Schema{}, "schema version is 0"},
		{"a name that NATS does not take", "no.dots", v1, "no.dots"},
	} {
		if _, err := OpenCollection[note](t.Context(), s, tc.bucket, tc.schema); err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s: got %v, want %q", tc.name, err, tc.want)
		}
	}
	stop()
	_, err := OpenCollection[note](t.Context(), s, "notes", v1)
	wantErr(t, err, ErrClosed)
}

func TestWhatCannotBeMigratedIsNamed(t *testing.T) {
	s, _ := open(t, t.TempDir())
	must(notes(t, s).Create(t.Context(), "a", note{}))(t)
	for name, tc := range map[string]struct {
		schema Schema
		want   string
	}{
		"no migration is left":    {Schema{Version: 3}, `"a" is of version 1, which this release cannot migrate to 3`},
		"the migration is broken": {Schema{Version: 2, Migrate: func(int, []byte) ([]byte, error) { return nil, ErrInvalidKey }}, `"a": migration from version 1 to 2`},
	} {
		if _, err := OpenCollection[note](t.Context(), s, "notes", tc.schema); err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s: got %v, want %q", name, err, tc.want)
		}
	}
}

// FuzzStored throws any bytes at the reader of stored documents: nothing but what was sealed for this place opens.
func FuzzStored(f *testing.F) {
	s, _ := open(f, f.TempDir())
	doc := []byte(`{"text":"x"}`)
	sealed, err := s.seal("notes", "a", 300, doc)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(sealed)
	f.Add([]byte{})
	f.Add([]byte{sealFormat, 0x80})
	f.Add(append([]byte{sealFormat}, bytes.Repeat([]byte{0xff}, 12)...))
	f.Fuzz(func(t *testing.T, stored []byte) {
		version, body, err := splitSealed(stored)
		if err != nil {
			return
		}
		got, err := s.unseal("notes", "a", version, body)
		if err == nil && (version != 300 || !bytes.Equal(got, doc) || !bytes.Equal(body, sealed[len(sealed)-len(body):])) {
			t.Errorf("%x opens as version %d %q", stored, version, got)
		}
	})
}

// FuzzMasterKey holds the reader of master keys to 32 bytes, and to errors that do not repeat what it read.
func FuzzMasterKey(f *testing.F) {
	f.Add("AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=\n")
	f.Add("__________________________________________8")
	f.Add("c2VjcmV0LXNlY3JldA")
	f.Fuzz(func(t *testing.T, text string) {
		key, err := decodeKey(text)
		if err == nil && len(key) != masterKeySize {
			t.Errorf("a key of %d bytes", len(key))
		}
		if err != nil && len(text) > 12 && strings.Contains(err.Error(), text) && !strings.Contains("is not base64 text, has bytes, want 32", text) {
			t.Errorf("the error repeats the text: %v", err)
		}
	})
}
