package keyvault

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"strings"

	"tabard/internal/store"
)

// A backup is what a blob holds, sealed under a key of this installation: it can be restored into any of its vaults
// and nowhere else.
type backup struct {
	Name     string          `json:"name"`
	Versions []backupVersion `json:"versions"` // the oldest first
}

type backupVersion struct {
	stored
	Value []byte `json:"value"` // in place of Sealed
}

// blobFormat is the first byte of a blob, before the ciphertext.
const blobFormat = 1

const backupUse = "secret backups"

func (v *Vaults) openBackupKey(ctx context.Context) error {
	for range 2 {
		if item, ok := v.documents.Get(backupKind); ok {
			var err error
			v.backupKey, err = v.store.OpenDataKey(item.Value.Key, backupUse)
			return err
		}
		_, wrapped, err := v.store.NewDataKey(backupUse)
		if err != nil {
			return err
		}
		if _, err := v.documents.Create(ctx, backupKind, document{Key: wrapped}); err != nil && !errors.Is(err, store.ErrExists) {
			return err
		}
	}
	return errors.New("the key of backups cannot be created")
}

// backup returns all versions of a secret as a blob.
func (v *Vaults) backup(vault, name string) (string, error) {
	_, w, err := v.get(vault, name, "")
	if err != nil {
		return "", err
	}
	if len(w.versions) > maxBackupVersions {
		return "", badParameter("Secret %s has more versions than a backup can have: %d.", name, maxBackupVersions)
	}
	b := backup{Name: w.versions[0].Name}
	size := 0
	for _, s := range w.versions {
		value, err := v.open(&w, vault, name, s)
		if err != nil {
			return "", err
		}
		if size += len(value); size > maxBackup {
			return "", badParameter("The versions of secret %s together are larger than a backup can be: %d bytes.", name, maxBackup)
		}
		version := backupVersion{stored: *s, Value: value}
		version.Sealed = nil
		b.Versions = append(b.Versions, version)
	}
	text, err := json.Marshal(b)
	if err != nil {
		return "", unavailable(err)
	}
	sealed, err := v.backupKey.Seal(text, []byte{blobFormat})
	if err != nil {
		return "", unavailable(err)
	}
	return base64.RawURLEncoding.EncodeToString(append([]byte{blobFormat}, sealed...)), nil
}

func (v *Vaults) openBackup(blob string) (*backup, error) {
	raw, err := base64.RawURLEncoding.Strict().DecodeString(strings.TrimRight(blob, "="))
	if err != nil || strings.ContainsAny(blob, "\r\n") || len(raw) == 0 || raw[0] != blobFormat { // the decoder skips line ends
		return nil, badBackup()
	}
	text, err := v.backupKey.Open(raw[1:], raw[:1])
	if err != nil {
		return nil, badBackup()
	}
	var b backup
	if json.Unmarshal(text, &b) != nil || len(b.Versions) == 0 || !secretName.MatchString(b.Name) {
		return nil, badBackup()
	}
	return &b, nil
}

// restore brings the secret in a blob into a vault that has none of its name. A mark hides the versions until all are
// there: taking it away is what makes them visible.
func (v *Vaults) restore(ctx context.Context, vault, blob string) (newest *stored, err error) {
	b, err := v.openBackup(blob)
	if err != nil {
		return nil, err
	}
	name := strings.ToLower(b.Name)
	err = v.write(ctx, func(ctx context.Context) error {
		w, err := v.settled(ctx, vault, name)
		switch {
		case err != nil:
			return err
		case w.vault == nil || w.vault.Deleted != nil:
			return vaultNotFound()
		case w.mark != nil:
			return marked(w.mark, b.Name)
		case len(w.versions) > 0:
			return conflict("", "Secret %s already exists in this vault; a backup is restored under its own name only.", b.Name)
		case w.key == nil:
			return errNoKey
		case v.index.versions()+len(b.Versions) > v.maxVersions:
			return badParameter("This service holds as many versions of secrets as it can: %d. Purge what is not needed.", v.maxVersions)
		}
		at := docKey(markKind, vault, name)
		hidden, err := v.documents.Create(ctx, at, document{Mark: &mark{State: restoring, Since: v.now().Unix()}})
		if err != nil {
			return err
		}
		for _, version := range b.Versions {
			s := version.stored
			key := docKey(secretKind, vault, name, s.ID)
			if s.Sealed, err = w.key.Seal(version.Value, []byte(key)); err != nil {
				return err
			}
			if _, err := v.documents.Create(ctx, key, document{Version: &s}); err != nil {
				return err
			}
			newest = &s
		}
		return v.documents.Delete(ctx, at, hidden)
	})
	return newest, err
}
