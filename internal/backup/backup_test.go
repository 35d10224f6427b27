package backup

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"filippo.io/age"
	"go.uber.org/goleak"

	"tabard/internal/fabric"
	"tabard/internal/store"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

type note struct{ Text string }

// open opens the store of a directory, under its own master key unless another is given.
func open(t testing.TB, dir string, key store.MasterKey) (*store.Collection[note], *store.Store, func()) {
	t.Helper()
	f, err := fabric.Open(t.Context(), fabric.Options{DataDir: dir})
	if err != nil {
		t.Fatal(err)
	}
	st, err := store.Open(t.Context(), f, key, nil)
	if err != nil {
		t.Fatal(err)
	}
	c, err := store.OpenCollection[note](t.Context(), st, "notes", store.Schema{Version: 1})
	if err != nil {
		t.Fatal(err)
	}
	stop := func() { st.Close(); f.Close() }
	t.Cleanup(stop)
	return c, st, stop
}

const canary = "backup-canary-7d21"

// made is a backup of some documents, sealed for the recipients or under the master key.
func made(t testing.TB, key store.MasterKey, recipients ...string) []byte {
	t.Helper()
	c, st, stop := open(t, t.TempDir(), key)
	defer stop()
	for i := range 20 {
		if _, err := c.Create(t.Context(), fmt.Sprintf("n%d", i), note{Text: canary}); err != nil {
			t.Fatal(err)
		}
	}
	snap, err := st.Snapshot(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	if err := Write(t.Context(), &b, Contents{Snapshot: snap, Files: map[string][]byte{"token": []byte(canary)}, Release: "r1", Created: time.Unix(1e9, 0), Master: key}, recipients); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func keyFile(dir string) store.MasterKey {
	return store.MasterKeyFile(filepath.Join(dir, "master.key"))
}

// restore restores into a directory that is missing.
func restore(t testing.TB, data []byte, key Key) (string, error) {
	t.Helper()
	parent := t.TempDir()
	dir := filepath.Join(parent, "data")
	_, err := Restore(context.Background(), bytes.NewReader(data), key, dir, []string{"token"}, keyFile)
	if err != nil {
		if left, _ := os.ReadDir(parent); len(left) != 0 {
			t.Errorf("it failed (%v) and left %v", err, left)
		}
	}
	return dir, err
}

func check(t testing.TB, dir string) {
	t.Helper()
	c, _, stop := open(t, dir, keyFile(dir))
	defer stop()
	if n, _ := c.Get("n19"); len(c.All()) != 20 || n.Value.Text != canary {
		t.Errorf("restored are %v", c.All())
	}
	text, err := os.ReadFile(filepath.Join(dir, "token"))
	if err != nil || string(text) != canary {
		t.Errorf("the file has %q, %v", text, err)
	}
	for _, name := range []string{"token", "master.key", "."} {
		if info, err := os.Stat(filepath.Join(dir, name)); err != nil || info.Mode().Perm()&0o077 != 0 {
			t.Errorf("%s: %v, %v", name, info.Mode(), err)
		}
	}
}

func TestABackupIsOpenedByWhatItWasSealedFor(t *testing.T) {
	masterFile := filepath.Join(t.TempDir(), "m")
	id, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	hybrid, err := age.GenerateHybridIdentity()
	if err != nil {
		t.Fatal(err)
	}
	identities := func(text string) Key {
		k, err := Identities(strings.NewReader("# a comment\n" + text + "\n"))
		if err != nil {
			t.Fatal(err)
		}
		return k
	}
	passphrase := func(text string) Key {
		k, err := Passphrase(text)
		if err != nil {
			t.Fatal(err)
		}
		return k
	}
	once, err := NewOnce()
	if err != nil {
		t.Fatal(err)
	}
	var underPassphrase bytes.Buffer
	if err := once.Reseal(&underPassphrase, bytes.NewReader(made(t, store.MasterKeyFile(masterFile), once.Recipient())), "correct horse battery"); err != nil {
		t.Fatal(err)
	}
	other := filepath.Join(t.TempDir(), "other")
	func() { _, _, stop := open(t, t.TempDir(), store.MasterKeyFile(other)); stop() }()
	strangers, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		name         string
		data         []byte
		right, wrong Key
		says         string
	}{
		{"the master key", made(t, store.MasterKeyFile(masterFile)), MasterKey(store.MasterKeyFile(masterFile)), MasterKey(store.MasterKeyFile(other)), "under the master key"},
		{"an age recipient", made(t, store.MasterKeyFile(masterFile), id.Recipient().String()), identities(id.String()), identities(strangers.String()), "for an age identity"},
		{"a hybrid recipient", made(t, store.MasterKeyFile(masterFile), hybrid.Recipient().String()), identities(hybrid.String()), Key{}, "there is none"},
		{"a passphrase", underPassphrase.Bytes(), passphrase("correct horse battery"), passphrase("incorrect horse battery"), "under a passphrase"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if bytes.Contains(tc.data, []byte(canary)) || bytes.Contains(tc.data, []byte("notes")) {
				t.Error("the file shows what is in it")
			}
			if _, err := restore(t, tc.data, tc.wrong); !errors.Is(err, ErrWrongKey) || !strings.Contains(err.Error(), tc.says) {
				t.Errorf("with a wrong key: %v", err)
			}
			dir, err := restore(t, tc.data, tc.right)
			if err != nil {
				t.Fatal(err)
			}
			check(t, dir)
		})
	}
}

// Whatever is missing or changed, it is noticed and nothing is left.
func TestADamagedBackupIsRefused(t *testing.T) {
	key := store.MasterKeyFile(filepath.Join(t.TempDir(), "m"))
	data := made(t, key)
	for _, n := range []int{0, 21, 100, len(data) / 2, len(data) - 1} {
		if _, err := restore(t, data[:n], MasterKey(key)); !errors.Is(err, ErrDamaged) {
			t.Errorf("cut to %d of %d bytes: %v", n, len(data), err)
		}
	}
	for _, at := range []int{30, len(data) / 2, len(data) - 1} {
		bad := bytes.Clone(data)
		bad[at] ^= 1
		if _, err := restore(t, bad, MasterKey(key)); !errors.Is(err, ErrDamaged) && !errors.Is(err, ErrWrongKey) {
			t.Errorf("byte %d changed: %v", at, err)
		}
	}
	if _, err := restore(t, append(bytes.Clone(data), 'x'), MasterKey(key)); !errors.Is(err, ErrDamaged) {
		t.Errorf("with something after it: %v", err)
	}
	if _, err := restore(t, []byte(strings.Repeat("no backup\n", 100)), MasterKey(key)); !errors.Is(err, ErrDamaged) {
		t.Errorf("another file: %v", err)
	}
}

// Somebody who may seal a backup still cannot write where he likes, nor make documents up.
func TestAnArchiveWithWrongPartsIsRefused(t *testing.T) {
	key := store.MasterKeyFile(filepath.Join(t.TempDir(), "m"))
	id, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	type part struct {
		name string
		data []byte
	}
	var good []part
	plain, err := age.Decrypt(bytes.NewReader(made(t, key, id.Recipient().String())), id)
	if err != nil {
		t.Fatal(err)
	}
	for tr := tar.NewReader(plain); ; {
		h, err := tr.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		data, err := io.ReadAll(tr)
		if err != nil {
			t.Fatal(err)
		}
		good = append(good, part{h.Name, data})
	}
	last := len(good) - 1
	seal := func(parts []part) []byte {
		var b bytes.Buffer
		w, err := age.Encrypt(&b, id.Recipient())
		if err != nil {
			t.Fatal(err)
		}
		tw := tar.NewWriter(w)
		for _, p := range parts {
			if err := tw.WriteHeader(&tar.Header{Name: p.name, Mode: 0o600, Size: int64(len(p.data))}); err != nil {
				t.Fatal(err)
			}
			if _, err := tw.Write(p.data); err != nil {
				t.Fatal(err)
			}
		}
		if err := errors.Join(tw.Close(), w.Close()); err != nil {
			t.Fatal(err)
		}
		return b.Bytes()
	}
	with := func(at int, p part) []part {
		list := append([]part{}, good...)
		list[at] = p
		return list
	}
	before := func(at int, p part) []part {
		return append(append(append([]part{}, good[:at]...), p), good[at:]...)
	}
	for _, tc := range []struct {
		name  string
		parts []part
	}{
		{"it has no end", good[:last]},
		{"a document is missing", append(append([]part{}, good[:5]...), good[6:]...)},
		{"it does not begin as one", good[1:]},
		{"it has no data key", append(append([]part{}, good[:1]...), good[2:]...)},
		{"a newer format", with(0, part{nameAbout, []byte(`{"format":2,"release":"r2"}`)})},
		{"no format", with(0, part{nameAbout, []byte(`{}`)})},
		{"a bad data key", with(1, part{nameDataKey, []byte("x")})},
		{"a file elsewhere", before(2, part{nameFiles + "../evil", nil})},
		{"a file that is not one of the directory's", before(2, part{nameFiles + "master.key", nil})},
		{"a file twice", before(2, part{nameFiles + "token", nil})},
		{"a document of a made-up key", with(5, part{nameDocuments + "notes/eA", good[5].data})},
		{"a document whose name is no base64", with(5, part{nameDocuments + "notes/=", good[5].data})},
		{"a document without a bucket", with(5, part{nameDocuments + "x", good[5].data})},
		{"something unknown", before(4, part{"other", nil})},
		{"something after the end", append(append([]part{}, good...), part{"other", nil})},
		{"something too large", before(2, part{nameFiles + "token", make([]byte, maxItem+1)})},
	} {
		t.Run(tc.name, func(t *testing.T) {
			key, err := Identities(strings.NewReader(id.String()))
			if err != nil {
				t.Fatal(err)
			}
			if _, err := restore(t, seal(tc.parts), key); err == nil {
				t.Error("accepted")
			}
		})
	}
	k, _ := Identities(strings.NewReader(id.String()))
	if _, err := restore(t, seal(good), k); err != nil {
		t.Errorf("unchanged: %v", err)
	}
}

func TestNothingIsRestoredOverWhatIsThere(t *testing.T) {
	key := store.MasterKeyFile(filepath.Join(t.TempDir(), "m"))
	data := made(t, key)
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "x"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Restore(t.Context(), bytes.NewReader(data), MasterKey(key), dir, nil, keyFile); err == nil || !strings.Contains(err.Error(), "is not empty") {
		t.Error(err)
	}
	empty := t.TempDir()
	if _, err := Restore(t.Context(), bytes.NewReader(data), MasterKey(key), empty, []string{"token"}, keyFile); err != nil {
		t.Fatal(err)
	}
	check(t, empty)
}

func TestKeysThatAreNone(t *testing.T) {
	if _, err := Passphrase("elevenchars"); err == nil {
		t.Error("a passphrase of 11 characters")
	}
	if _, err := Identities(strings.NewReader("AGE-SECRET-KEY-1oops-canary")); err == nil || strings.Contains(err.Error(), "canary") {
		t.Errorf("a bad identity: %v", err)
	}
	if err := CheckRecipients([]string{"age1nonsense"}); err == nil {
		t.Error("a bad recipient")
	}
	once, err := NewOnce()
	if err != nil {
		t.Fatal(err)
	}
	many := make([]string, MaxRecipients+1)
	for i := range many {
		many[i] = once.Recipient()
	}
	if CheckRecipients(many) == nil || CheckRecipients(many[1:]) != nil {
		t.Error("the bound of recipients")
	}
	missing := MasterKey(store.MasterKeyFile(filepath.Join(t.TempDir(), "none")))
	if _, err := restore(t, made(t, store.MasterKeyFile(filepath.Join(t.TempDir(), "m"))), missing); err == nil || errors.Is(err, ErrDamaged) {
		t.Errorf("a master key file that is missing: %v", err)
	}
}
