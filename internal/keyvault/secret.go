package keyvault

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"reflect"
	"regexp"
	"slices"
	"strings"
)

var (
	secretName    = regexp.MustCompile(`^[0-9a-zA-Z-]{1,127}$`)
	secretVersion = regexp.MustCompile(`^[0-9a-fA-F]{32}$`)
)

// An edit is what a caller may say about a version of a secret; nil means nothing is said.
type edit struct {
	contentType *string
	enabled     *bool
	notBefore   *int64
	expires     *int64
	tags        map[string]string
}

func (e *edit) apply(v *stored) {
	if e.contentType != nil {
		v.ContentType = *e.contentType
	}
	if e.enabled != nil {
		v.Disabled = !*e.enabled
	}
	if e.notBefore != nil {
		v.NotBefore = e.notBefore
	}
	if e.expires != nil {
		v.Expires = e.expires
	}
	if e.tags != nil {
		v.Tags = e.tags
	}
}

// changes tells whether apply would change a version.
func (e *edit) changes(v *stored) bool {
	next := *v
	e.apply(&next)
	return !reflect.DeepEqual(&next, v)
}

// get returns a version of a secret, the newest if id is empty. Errors are the API's answers.
func (v *Vaults) get(vault, name, id string) (*stored, view, error) {
	w := v.index.secret(vault, name)
	if len(w.versions) == 0 || w.mark != nil {
		return nil, w, secretNotFound(name)
	}
	found := w.version(id)
	if found == nil {
		return nil, w, secretNotFound(name + "/" + id)
	}
	return found, w, nil
}

// errNoKey is why nothing can be sealed or opened in a vault whose data key does not open.
var errNoKey = errors.New("the key of the vault does not open")

// open unseals the value of a version.
func (v *Vaults) open(w *view, vault, name string, s *stored) ([]byte, error) {
	if w.key == nil {
		return nil, unavailable(errNoKey)
	}
	value, err := w.key.Open(s.Sealed, []byte(docKey(secretKind, vault, name, s.ID)))
	if err != nil {
		return nil, unavailable(fmt.Errorf("secret %s of vault %s: the value %w", name, vault, err))
	}
	return value, nil
}

// set adds a version.
func (v *Vaults) set(ctx context.Context, vault, name string, value []byte, e edit) (made *stored, err error) {
	key := strings.ToLower(name)
	err = v.write(ctx, func(ctx context.Context) error {
		w, err := v.settled(ctx, vault, key)
		switch {
		case err != nil:
			return err
		case w.vault == nil || w.vault.Deleted != nil:
			return vaultNotFound()
		case w.mark != nil:
			return marked(w.mark, name)
		case w.key == nil:
			return errNoKey
		}
		if v.index.versions() >= v.maxVersions {
			return badParameter("This service holds as many versions of secrets as it can: %d. Purge what is not needed.", v.maxVersions)
		}
		now := v.now().Unix()
		made = &stored{Name: name, ID: newVersion(), Sequence: 1, Created: now, Updated: now}
		if len(w.versions) > 0 {
			made.Name, made.Sequence = w.versions[0].Name, w.newest().Sequence+1
		}
		e.apply(made)
		at := docKey(secretKind, vault, key, made.ID)
		if made.Sealed, err = w.key.Seal(value, []byte(at)); err != nil {
			return err
		}
		_, err = v.documents.Create(ctx, at, document{Version: made})
		return err
	})
	return made, err
}

func newVersion() string {
	var b [16]byte
	rand.Read(b[:]) // never fails
	return hex.EncodeToString(b[:])
}

// update edits a version, the newest if id is empty.
func (v *Vaults) update(ctx context.Context, vault, name, id string, e edit) (next *stored, err error) {
	err = v.write(ctx, func(ctx context.Context) error {
		old, _, err := v.get(vault, name, id)
		if err != nil {
			return err
		}
		changed := *old
		next = &changed
		e.apply(next)
		next.Updated = v.now().Unix()
		_, err = v.documents.Update(ctx, docKey(secretKind, vault, name, old.ID), document{Version: next}, old.revision)
		return err
	})
	return next, err
}

// delete marks a secret as deleted.
func (v *Vaults) delete(ctx context.Context, vault, name string) (newest *stored, m *mark, err error) {
	err = v.write(ctx, func(ctx context.Context) error {
		var w view
		newest, w, err = v.get(vault, name, "")
		if err != nil {
			return err
		}
		now := v.now()
		m = &mark{State: deleted, Since: now.Unix(), Purge: now.AddDate(0, 0, w.vault.RetentionDays).Unix()}
		_, err = v.documents.Create(ctx, docKey(markKind, vault, name), document{Mark: m})
		return err
	})
	return newest, m, err
}

// getDeleted returns a deleted secret.
func (v *Vaults) getDeleted(vault, name string) (*stored, view, error) {
	w := v.index.secret(vault, name)
	if len(w.versions) == 0 || !v.deleted(w.mark) {
		return nil, w, deletedSecretNotFound(name)
	}
	return w.newest(), w, nil
}

// deleted tells whether a mark is that of a secret that can be recovered.
func (v *Vaults) deleted(m *mark) bool {
	return m != nil && m.State == deleted && v.now().Unix() < m.Purge
}

// recover takes the mark of a deleted secret away.
func (v *Vaults) recover(ctx context.Context, vault, name string) (newest *stored, err error) {
	err = v.write(ctx, func(ctx context.Context) error {
		var w view
		newest, w, err = v.getDeleted(vault, name)
		if err != nil {
			return err
		}
		return v.documents.Delete(ctx, docKey(markKind, vault, name), w.mark.revision)
	})
	return newest, err
}

// purge ends a deleted secret.
func (v *Vaults) purge(ctx context.Context, vault, name string) error {
	return v.write(ctx, func(ctx context.Context) error {
		_, w, err := v.getDeleted(vault, name)
		if err != nil {
			return err
		}
		if w.vault.PurgeProtection {
			return purgeProtected(name)
		}
		return v.purgeSecret(ctx, vault, name, w)
	})
}

// purgeSecret removes all versions of a marked secret, its mark last, so that a crash leaves nothing visible. Called
// within write.
func (v *Vaults) purgeSecret(ctx context.Context, vault, name string, w view) error {
	at := docKey(markKind, vault, name)
	if w.mark.State == deleted {
		next := *w.mark
		next.State = purging
		if _, err := v.documents.Update(ctx, at, document{Mark: &next}, w.mark.revision); err != nil {
			return err
		}
	}
	for _, s := range w.versions {
		if err := v.remove(ctx, docKey(secretKind, vault, name, s.ID)); err != nil {
			return err
		}
	}
	return v.remove(ctx, at)
}

// settled returns what is known of a name after what was left half done, or whose time is over, was cleared away.
// Called within write.
func (v *Vaults) settled(ctx context.Context, vault, name string) (view, error) {
	w := v.index.secret(vault, name)
	if w.mark == nil || !v.leftOver(w.mark) {
		return w, nil
	}
	if err := v.purgeSecret(ctx, vault, name, w); err != nil {
		return w, err
	}
	return v.index.secret(vault, name), nil
}

// leftOver tells whether a mark's secret has to be cleared away. Within write, no purge of this process is under way.
func (v *Vaults) leftOver(m *mark) bool {
	switch m.State {
	case purging:
		return true
	case restoring:
		return v.now().Unix()-m.Since > int64(abandoned.Seconds())
	}
	return v.now().Unix() >= m.Purge
}

func (x *index) versions() int {
	x.mu.RLock()
	defer x.mu.RUnlock()
	return x.count
}

// sweep clears away what is left over, in all vaults.
func (v *Vaults) sweep(ctx context.Context) error {
	var errs []error
	keys := make([]string, 0)
	for key, item := range v.documents.All() {
		if item.Value.Mark != nil && v.leftOver(item.Value.Mark) {
			keys = append(keys, key)
		}
	}
	slices.Sort(keys)
	for _, key := range keys {
		_, vault, name, _ := splitKey(key)
		errs = append(errs, v.write(ctx, func(ctx context.Context) error { _, err := v.settled(ctx, vault, name); return err }))
	}
	for _, x := range v.index.all() {
		if x.Deleted == nil || v.recoverable(x) {
			continue
		}
		err := v.writeVault(ctx, x.Name, func(ctx context.Context) error {
			now := v.index.vault(x.Name)
			if now == nil || now.Deleted == nil || v.recoverable(now) {
				return nil
			}
			return v.purgeVault(ctx, now)
		})
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}
