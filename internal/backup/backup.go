// Package backup writes everything that a service remembers into one sealed file, and makes a data directory of it.
//
// Whoever operates the service wants one command for each, wants to keep the file anywhere, and wants to hear of a
// wrong key or a damaged file before anything has changed. So a backup is an age file (age-encryption.org/v1): sealed
// for age recipients, under a passphrase, or, where nobody chose, under the service's master key; and so authenticated
// that a byte changed or missing is noticed. In it is a tar archive of the documents, still sealed one by one, of the
// data key that opens them, and of the few files beside the store. Since the data key travels inside, a restored
// service has a master key of its own choice.
//
// What the documents are is of no interest here; that they are of one moment is the business of package store.
package backup

import (
	"archive/tar"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"filippo.io/age"

	"tabard/internal/fabric"
	"tabard/internal/store"
)

// format is what this release writes, and the newest that it reads.
const format = 1

// Names in the archive. The order is: about, data key, files, documents and entries, end.
const (
	nameAbout     = "tabard-backup.json"
	nameDataKey   = "data-key"
	nameFiles     = "files/"
	nameDocuments = "documents/"
	nameJournals  = "journals/"
	nameEnd       = "end.json"
)

// Limits of what is read, so that a file of somebody else's making cannot fill memory.
const (
	maxItem  = 2 << 20
	maxFiles = 16
)

// About says of what a backup is.
type About struct {
	Format  int       `json:"format"`
	Release string    `json:"release"` // of the program that wrote it
	Created time.Time `json:"created"`
}

// Contents are what a backup is made of.
type Contents struct {
	Snapshot *store.Snapshot
	Files    map[string][]byte // by name, beside the store in the data directory
	Release  string
	Created  time.Time
	Master   store.MasterKey // seals the backup if there are no recipients
}

// Write writes a backup, sealed for the age recipients. Whatever it has written when it fails is no backup.
func Write(ctx context.Context, w io.Writer, c Contents, recipients []string) error {
	to, err := parseRecipients(recipients)
	if err != nil {
		return err
	}
	if len(to) == 0 {
		to = []age.Recipient{master{c.Master}}
	}
	key, err := c.Snapshot.DataKey()
	if err != nil {
		return fmt.Errorf("backup: data key: %w", err)
	}
	sealed, err := age.Encrypt(w, to...)
	if err != nil {
		return fmt.Errorf("backup: %w", err)
	}
	a := &archive{tar: tar.NewWriter(sealed), created: c.Created}
	a.json(nameAbout, About{format, c.Release, c.Created.UTC()})
	a.add(nameDataKey, key)
	for _, name := range slices.Sorted(maps.Keys(c.Files)) {
		a.add(nameFiles+name, c.Files[name])
	}
	for item, err := range c.Snapshot.All(ctx) {
		if err != nil {
			return fmt.Errorf("backup: %w", err)
		}
		if item.Journal != "" {
			a.add(nameJournals+item.Journal+"/"+strconv.Itoa(a.items), item.Data)
		} else {
			a.add(nameDocuments+item.Bucket+"/"+base64.RawURLEncoding.EncodeToString([]byte(item.Key)), item.Data)
		}
		if a.items++; a.err != nil {
			return a.err
		}
	}
	a.json(nameEnd, map[string]int{"items": a.items})
	if a.err == nil {
		a.err = a.tar.Close()
	}
	if a.err == nil {
		a.err = sealed.Close()
	}
	return a.err
}

// An archive adds members until one fails.
type archive struct {
	tar     *tar.Writer
	created time.Time
	items   int
	err     error
}

func (a *archive) add(name string, data []byte) {
	if a.err != nil {
		return
	}
	a.err = a.tar.WriteHeader(&tar.Header{Name: name, Mode: 0o600, Size: int64(len(data)), ModTime: a.created, Format: tar.FormatPAX})
	if a.err == nil {
		_, a.err = a.tar.Write(data)
	}
}

func (a *archive) json(name string, v any) {
	text, err := json.Marshal(v)
	if err != nil {
		a.err = err
		return
	}
	a.add(name, append(text, '\n'))
}

// Restored says what was.
type Restored struct {
	About
	Items int
}

// Restore makes a data directory of a backup. dir must be missing or empty; it appears whole or, if anything fails, not
// at all. The store is sealed under the master key that master returns for a directory: it is asked for the place where
// dir is made, which is beside it. files are the names that may lie beside the store.
func Restore(ctx context.Context, r io.Reader, key Key, dir string, files []string, master func(dir string) store.MasterKey) (done Restored, err error) {
	if err := mustBeEmpty(dir); err != nil {
		return done, err
	}
	plain, err := unseal(r, key)
	if err != nil {
		return done, err
	}
	parent := filepath.Dir(filepath.Clean(dir))
	if err := os.MkdirAll(parent, 0o700); err != nil {
		return done, err
	}
	made, err := os.MkdirTemp(parent, "."+filepath.Base(dir)+"-restore-*") // 0700
	if err != nil {
		return done, err
	}
	defer os.RemoveAll(made) // it is gone once it was renamed
	in := &restoration{dir: made, files: files, rest: plain, tar: tar.NewReader(plain)}
	err = in.run(ctx, master(made))
	if in.fabric != nil {
		in.fabric.Close()
	}
	if err != nil {
		return done, err
	}
	if err := os.Remove(dir); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return done, err
	}
	return Restored{in.about, in.items}, errors.Join(os.Rename(made, dir), syncDir(parent))
}

func mustBeEmpty(dir string) error {
	list, err := os.ReadDir(dir)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return err
	case len(list) > 0:
		return fmt.Errorf("%s is not empty: nothing is restored over what is there", dir)
	}
	return nil
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	_ = d.Sync() // Windows cannot, and need not
	return d.Close()
}

type restoration struct {
	fabric *fabric.Fabric // from the data key on
	dir    string
	files  []string
	rest   io.Reader // what tar reads
	tar    *tar.Reader
	about  About
	store  *store.Restoration
	items  int
	seen   int // files
}

func (r *restoration) run(ctx context.Context, master store.MasterKey) error {
	for ended := false; ; {
		name, data, err := r.next()
		switch {
		case errors.Is(err, io.EOF) && ended:
			return r.finish(ctx, master)
		case errors.Is(err, io.EOF):
			err = fmt.Errorf("%w: it has no end", ErrDamaged)
		case err == nil && ended:
			err = fmt.Errorf("%w: something follows its end", ErrDamaged)
		}
		if err == nil {
			ended, err = r.take(ctx, name, data)
		}
		if err != nil {
			return err
		}
	}
}

// finish makes the store whole, after the seal was read to its end.
func (r *restoration) finish(ctx context.Context, master store.MasterKey) error {
	if n, err := io.Copy(io.Discard, r.rest); err != nil || n > 0 {
		return fmt.Errorf("%w: something follows its end", ErrDamaged)
	}
	return r.store.Finish(ctx, master)
}

// next reads one member of the archive; io.EOF comes from its end alone.
func (r *restoration) next() (name string, data []byte, err error) {
	h, err := r.tar.Next()
	if errors.Is(err, io.EOF) {
		return "", nil, io.EOF
	}
	if err != nil {
		return "", nil, fmt.Errorf("%w: %w", ErrDamaged, err)
	}
	if h.Typeflag != tar.TypeReg || h.Size > maxItem {
		return "", nil, fmt.Errorf("%w: %.80q is none of its parts", ErrDamaged, h.Name)
	}
	if data, err = io.ReadAll(r.tar); err != nil {
		return "", nil, fmt.Errorf("%w: %w", ErrDamaged, err)
	}
	return h.Name, data, nil
}

func (r *restoration) take(ctx context.Context, name string, data []byte) (ended bool, err error) {
	switch {
	case r.about.Format == 0:
		if name != nameAbout || json.Unmarshal(data, &r.about) != nil || r.about.Format < 1 {
			return false, fmt.Errorf("%w: it does not begin as one", ErrDamaged)
		}
		if r.about.Format > format {
			return false, fmt.Errorf("the backup is of format %d, written by %s; this release reads up to %d: use that release or a later one", r.about.Format, r.about.Release, format)
		}
		return false, nil
	case r.store == nil:
		if name != nameDataKey {
			return false, fmt.Errorf("%w: it has no data key", ErrDamaged)
		}
		if r.fabric, err = fabric.Open(ctx, fabric.Options{DataDir: r.dir}); err == nil {
			r.store, err = store.BeginRestoration(ctx, r.fabric, data)
		}
		return false, err
	case name == nameEnd:
		var end struct{ Items int }
		if json.Unmarshal(data, &end) != nil || end.Items != r.items {
			return false, fmt.Errorf("%w: it has %d items, not %d", ErrDamaged, r.items, end.Items)
		}
		return true, nil
	case strings.HasPrefix(name, nameFiles):
		return false, r.file(strings.TrimPrefix(name, nameFiles), data)
	}
	item, ok := sealedItem(name, data)
	if !ok {
		return false, fmt.Errorf("%w: %.80q is none of its parts", ErrDamaged, name)
	}
	r.items++
	return false, r.store.Add(ctx, item)
}

func sealedItem(name string, data []byte) (item store.Sealed, ok bool) {
	item.Data = data
	if rest, is := strings.CutPrefix(name, nameJournals); is {
		item.Journal, _, ok = strings.Cut(rest, "/")
		return item, ok && item.Journal != ""
	}
	rest, is := strings.CutPrefix(name, nameDocuments)
	bucket, encoded, cut := strings.Cut(rest, "/")
	key, err := base64.RawURLEncoding.Strict().DecodeString(encoded)
	item.Bucket, item.Key = bucket, string(key)
	return item, is && cut && bucket != "" && err == nil
}

func (r *restoration) file(name string, data []byte) error {
	if r.seen++; r.seen > maxFiles || !slices.Contains(r.files, name) {
		return fmt.Errorf("%w: %.80q is no file of a data directory", ErrDamaged, name)
	}
	f, err := os.OpenFile(filepath.Join(r.dir, name), os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	return errors.Join(err, f.Sync(), f.Close())
}
