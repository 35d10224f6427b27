package directory

import (
	"context"
	"crypto/pbkdf2"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"
)

// Limits of an application's secrets.
const (
	MaxPasswords = 20
	MaxSecret    = 128 // bytes of a secret that is looked at; ours have 40

	passwordYears = 2 // life of a secret without an end of its own, as in Entra
	secretLength  = 40
	saltLength    = 16

	// hashRounds of PBKDF2. Secrets are never chosen by people: each is one of 2^238, which no hardware guesses at
	// any speed. The rounds are a second line, at a price that a token request can pay.
	hashRounds = 4096
)

// ErrPasswordExpired: the secret is the application's, but its time has not begun or is over.
var ErrPasswordExpired = errors.New("the secret is outside its time")

// latest is the last end of a credential that is taken, Entra's own bound.
var latest = time.Date(2299, 12, 31, 0, 0, 0, 0, time.UTC)

// A PasswordCredential is a client secret without the secret: that is shown once, by AddPassword.
type PasswordCredential struct {
	KeyID         string    `json:"keyId"` // GUID
	DisplayName   string    `json:"displayName,omitempty"`
	Hint          string    `json:"hint"` // the secret's first three characters
	StartDateTime time.Time `json:"startDateTime"`
	EndDateTime   time.Time `json:"endDateTime"`

	// Hash is PBKDF2-HMAC-SHA-256 of the secret under the application's salt. It never leaves the directory.
	Hash []byte `json:"hash,omitempty"`
}

// AddPassword makes a client secret for the application with this object id or appId, and returns it beside what is
// kept of it. Of want, DisplayName, StartDateTime (default now) and EndDateTime (default two years later) count.
func (d *Directory) AddPassword(ctx context.Context, idOrAppID string, want PasswordCredential) (_ PasswordCredential, secretText string, err error) {
	now := d.now().UTC().Truncate(time.Second)
	c := PasswordCredential{KeyID: uuid.NewString(), DisplayName: want.DisplayName}
	if err := lifetime(&c.StartDateTime, &c.EndDateTime, want.StartDateTime, want.EndDateTime, now, now.AddDate(passwordYears, 0, 0)); err != nil {
		return PasswordCredential{}, "", fmt.Errorf("application %q: %w", idOrAppID, err)
	}
	if problem := checkName(c.DisplayName); c.DisplayName != "" && problem != "" {
		return PasswordCredential{}, "", &ValidationError{"displayName", problem}
	}
	secretText = newSecret()
	c.Hint = secretText[:3]
	err = d.editApplication(ctx, idOrAppID, func(a *Application) error {
		if len(a.PasswordCredentials) >= MaxPasswords {
			return &ValidationError{"passwordCredentials", fmt.Sprintf("has %d entries, at most %d: remove one", len(a.PasswordCredentials), MaxPasswords)}
		}
		if len(a.SecretSalt) == 0 {
			a.SecretSalt = make([]byte, saltLength)
			rand.Read(a.SecretSalt) // never fails
		}
		hash, err := hashSecret(secretText, a.SecretSalt)
		if err != nil {
			return err
		}
		c.Hash = hash
		a.PasswordCredentials = append(a.PasswordCredentials, c)
		return nil
	})
	if err != nil {
		return PasswordCredential{}, "", err
	}
	c.Hash = nil
	return c, secretText, nil
}

// RemovePassword ends a client secret at once. ErrNotFound: the application has none of this key id.
func (d *Directory) RemovePassword(ctx context.Context, idOrAppID, keyID string) error {
	return d.editApplication(ctx, idOrAppID, func(a *Application) error {
		n := len(a.PasswordCredentials)
		a.PasswordCredentials = slices.DeleteFunc(a.PasswordCredentials, func(c PasswordCredential) bool { return strings.EqualFold(c.KeyID, keyID) })
		if len(a.PasswordCredentials) == n {
			return fmt.Errorf("secret %.100q: %w", keyID, ErrNotFound)
		}
		return nil
	})
}

// CheckPassword finds the application's secret that secretText is. ErrNotFound: it is none of them;
// ErrPasswordExpired: it is one, but not at this time, which nobody learns who does not hold it. The secret is
// compared with all of the application's, in constant time.
func (d *Directory) CheckPassword(appID, secretText string) (PasswordCredential, error) {
	item, ok := d.applications.Get(d.index.Load().appByAppID[lower(appID)])
	if !ok || len(item.Value.PasswordCredentials) == 0 || len(secretText) > MaxSecret {
		return PasswordCredential{}, fmt.Errorf("secret: %w", ErrNotFound)
	}
	hash, err := hashSecret(secretText, item.Value.SecretSalt)
	if err != nil {
		return PasswordCredential{}, err
	}
	found := -1
	for i, c := range item.Value.PasswordCredentials {
		found = subtle.ConstantTimeSelect(subtle.ConstantTimeCompare(hash, c.Hash), i, found)
	}
	if found < 0 {
		return PasswordCredential{}, fmt.Errorf("secret: %w", ErrNotFound)
	}
	c := item.Value.PasswordCredentials[found]
	c.Hash = nil
	if now := d.now(); now.Before(c.StartDateTime) || !now.Before(c.EndDateTime) {
		return c, ErrPasswordExpired
	}
	return c, nil
}

func hashSecret(secret string, salt []byte) ([]byte, error) {
	return pbkdf2.Key(sha256.New, secret, salt, hashRounds, sha256.Size)
}

// newSecret draws letters and digits: they need no escaping in forms, shells and URLs.
func newSecret() string {
	const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"
	secret := make([]byte, 0, secretLength)
	var random [64]byte
	for {
		rand.Read(random[:]) // never fails
		for _, b := range random {
			if b &= 0x3f; int(b) < len(alphabet) { // 62 of 64 values, so that all are equally likely
				secret = append(secret, alphabet[b])
			}
			if len(secret) == secretLength {
				return string(secret)
			}
		}
	}
}

// lifetime fills in the defaults of a credential's time, and checks it.
func lifetime(start, end *time.Time, wantStart, wantEnd, defaultStart, defaultEnd time.Time) error {
	*start, *end = defaultStart, defaultEnd
	if !wantStart.IsZero() {
		*start = wantStart.UTC().Truncate(time.Second)
	}
	if !wantEnd.IsZero() {
		*end = wantEnd.UTC().Truncate(time.Second)
	}
	switch {
	case !start.Before(*end):
		return &ValidationError{"endDateTime", fmt.Sprintf("%s is not after the start, %s", end.Format(time.RFC3339), start.Format(time.RFC3339))}
	case end.After(latest):
		return &ValidationError{"endDateTime", fmt.Sprintf("%s is after %s", end.Format(time.RFC3339), latest.Format(time.RFC3339))}
	}
	return nil
}
