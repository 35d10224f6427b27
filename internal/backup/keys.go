package backup

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"filippo.io/age"

	"tabard/internal/store"
)

// What a backup can be sealed for, each a kind of age recipient. The names are those in the file's head.
const (
	kindMaster     = "tabard-master-key"
	kindPassphrase = "scrypt"
)

// Errors that callers decide on.
var (
	ErrWrongKey = errors.New("this key does not open the backup")
	ErrDamaged  = errors.New("the backup is damaged or cut short")
)

// A Key opens a backup. The zero Key opens none.
type Key struct{ identities []age.Identity }

// MasterKey opens what was sealed for the service's own master key.
func MasterKey(k store.MasterKey) Key { return Key{[]age.Identity{master{k}}} }

// Passphrase opens what Reseal sealed.
func Passphrase(text string) (Key, error) {
	if err := checkPassphrase(text); err != nil {
		return Key{}, err
	}
	id, err := age.NewScryptIdentity(text)
	if err != nil {
		return Key{}, err
	}
	id.SetMaxWorkFactor(maxWorkFactor)
	return Key{[]age.Identity{id}}, nil
}

// Identities opens what was sealed for the recipients of an age identity file, as age-keygen makes it.
func Identities(file io.Reader) (Key, error) {
	ids, err := age.ParseIdentities(file)
	if err != nil {
		return Key{}, errors.New("is not a file of age identities, as age-keygen makes it") // age's own words repeat the line
	}
	return Key{ids}, nil
}

const (
	minPassphrase = 12 // characters
	maxWorkFactor = 22 // of scrypt, in powers of two: 4 GiB would be needed above
)

func checkPassphrase(text string) error {
	if len(text) < minPassphrase {
		return fmt.Errorf("the passphrase has %d characters, fewer than %d", len(text), minPassphrase)
	}
	return nil
}

// MaxRecipients bounds for how many a backup is sealed.
const MaxRecipients = 20

// parseRecipients reads age recipients ("age1…").
func parseRecipients(texts []string) ([]age.Recipient, error) {
	if len(texts) > MaxRecipients {
		return nil, fmt.Errorf("%d recipients are more than %d", len(texts), MaxRecipients)
	}
	var list []age.Recipient
	for _, text := range texts {
		found, err := age.ParseRecipients(strings.NewReader(text))
		if err != nil || len(found) != 1 {
			return nil, fmt.Errorf("%.80q is not an age recipient (age1…)", text)
		}
		list = append(list, found[0])
	}
	return list, nil
}

// CheckRecipients refuses what no backup can be sealed for.
func CheckRecipients(texts []string) error {
	_, err := parseRecipients(texts)
	return err
}

// A Once is a pair of keys for one transfer.
type Once struct{ id *age.X25519Identity }

// NewOnce makes one.
func NewOnce() (Once, error) {
	id, err := age.GenerateX25519Identity()
	return Once{id}, err
}

// Recipient is for whom the backup is asked to be sealed.
func (o Once) Recipient() string { return o.id.Recipient().String() }

// Reseal copies a backup that was sealed for o, sealing it under a passphrase: so that whoever makes the backup never
// learns that.
func (o Once) Reseal(dst io.Writer, src io.Reader, passphrase string) error {
	if err := checkPassphrase(passphrase); err != nil {
		return err
	}
	to, err := age.NewScryptRecipient(passphrase)
	if err != nil {
		return err
	}
	plain, err := age.Decrypt(src, o.id)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrDamaged, err)
	}
	sealed, err := age.Encrypt(dst, to)
	if err != nil {
		return err
	}
	if _, err := io.Copy(sealed, plain); err != nil {
		return err
	}
	return sealed.Close()
}

// master seals the key of the file under the service's master key, and opens it.
type master struct{ key store.MasterKey }

const masterUse = "backup file key 1"

func (m master) Wrap(fileKey []byte) ([]*age.Stanza, error) {
	sealed, err := m.key.Seal(fileKey, masterUse)
	if err != nil {
		return nil, err
	}
	return []*age.Stanza{{Type: kindMaster, Body: sealed}}, nil
}

func (m master) Unwrap(stanzas []*age.Stanza) ([]byte, error) {
	for _, s := range stanzas {
		if s.Type == kindMaster {
			fileKey, err := m.key.Unseal(s.Body, masterUse)
			if errors.Is(err, store.ErrWrongMasterKey) {
				return nil, fmt.Errorf("%w: %w", age.ErrIncorrectIdentity, err)
			}
			if err != nil {
				return nil, keyError{err}
			}
			return fileKey, nil
		}
	}
	return nil, age.ErrIncorrectIdentity
}

// A keyError is about a key that could not be read, not about the backup.
type keyError struct{ error }

func (e keyError) Unwrap() error { return e.error }

// unseal opens a backup's seal.
func unseal(r io.Reader, key Key) (io.Reader, error) {
	if len(key.identities) == 0 {
		return nil, fmt.Errorf("%w: there is none", ErrWrongKey)
	}
	plain, err := age.Decrypt(r, key.identities...)
	var none *age.NoIdentityMatchError
	var unread keyError
	switch {
	case err == nil:
		return plain, nil
	case errors.As(err, &none):
		return nil, fmt.Errorf("%w: it is sealed %s", ErrWrongKey, sealedFor(none.StanzaTypes))
	case errors.As(err, &unread):
		return nil, unread.error
	}
	return nil, fmt.Errorf("%w, or is none: %w", ErrDamaged, err)
}

func sealedFor(kinds []string) string {
	switch {
	case slices.Contains(kinds, kindMaster):
		return "under the master key of the service that wrote it"
	case slices.Contains(kinds, kindPassphrase):
		return "under a passphrase"
	}
	return "for an age identity"
}
