package directory

import (
	"bytes"
	"context"
	"crypto/rsa"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"
)

// Limits of an application's certificates.
const (
	MaxKeys        = 20
	maxCertificate = 16 << 10 // bytes of DER
	minKeyBits     = 2048
	maxKeyBits     = 8192 // a verification takes time with the square of this
)

// A KeyCredential is a certificate whose private key an application signs its client assertions with. The certificate
// counts by itself: nobody asks who issued it.
type KeyCredential struct {
	KeyID         string    `json:"keyId"` // GUID
	DisplayName   string    `json:"displayName,omitempty"`
	Certificate   []byte    `json:"key"`           // DER, with an RSA key of 2048 to 8192 bits
	StartDateTime time.Time `json:"startDateTime"` // the certificate's own time, or within it
	EndDateTime   time.Time `json:"endDateTime"`
}

// Thumbprint is the SHA-1 of the certificate: Graph's customKeyIdentifier, and the x5t of assertions.
func (k *KeyCredential) Thumbprint() []byte {
	sum := sha1.Sum(k.Certificate) // a name, not a protection: the format wants SHA-1
	return sum[:]
}

// ThumbprintSHA256 is the x5t#S256 of assertions.
func (k *KeyCredential) ThumbprintSHA256() []byte {
	sum := sha256.Sum256(k.Certificate)
	return sum[:]
}

// PublicKey is the certificate's.
func (k *KeyCredential) PublicKey() (*rsa.PublicKey, error) {
	c, err := x509.ParseCertificate(k.Certificate)
	if err != nil {
		return nil, errors.New("the certificate cannot be read")
	}
	public, ok := c.PublicKey.(*rsa.PublicKey)
	if !ok || public.N.BitLen() < minKeyBits || public.N.BitLen() > maxKeyBits {
		return nil, fmt.Errorf("the certificate has no RSA key of %d to %d bits", minKeyBits, maxKeyBits)
	}
	return public, nil
}

// Key finds the application's certificate with this thumbprint, SHA-1 or SHA-256 by its length.
func (a *Application) Key(thumbprint []byte) (KeyCredential, bool) {
	for _, k := range a.KeyCredentials {
		if bytes.Equal(thumbprint, k.Thumbprint()) || bytes.Equal(thumbprint, k.ThumbprintSHA256()) {
			return k, true
		}
	}
	return KeyCredential{}, false
}

// AddKey registers a certificate, DER or PEM, for the application with this object id or appId. Of want,
// Certificate, DisplayName and the times count; the default times are the certificate's.
func (d *Directory) AddKey(ctx context.Context, idOrAppID string, want KeyCredential) (KeyCredential, error) {
	k, err := newKey(want)
	if err != nil {
		return KeyCredential{}, fmt.Errorf("application %q: %w", idOrAppID, err)
	}
	return k, d.editApplication(ctx, idOrAppID, func(a *Application) error {
		a.KeyCredentials = append(a.KeyCredentials, k)
		return checkKeys(a.KeyCredentials)
	})
}

// RemoveKey ends a certificate at once. ErrNotFound: the application has none of this key id.
func (d *Directory) RemoveKey(ctx context.Context, idOrAppID, keyID string) error {
	return d.editApplication(ctx, idOrAppID, func(a *Application) error {
		n := len(a.KeyCredentials)
		a.KeyCredentials = slices.DeleteFunc(a.KeyCredentials, func(k KeyCredential) bool { return strings.EqualFold(k.KeyID, keyID) })
		if len(a.KeyCredentials) == n {
			return fmt.Errorf("certificate %.100q: %w", keyID, ErrNotFound)
		}
		return nil
	})
}

// SetKeys replaces all certificates, as Graph's PATCH of keyCredentials does: an entry without a certificate keeps the
// registered one of that KeyID, the others are new. It is for use within UpdateApplication, and before
// CreateApplication. After an error a is unchanged.
func (a *Application) SetKeys(want []KeyCredential) error {
	keys := make([]KeyCredential, len(want))
	for i, k := range want {
		field := fmt.Sprintf("keyCredentials[%d].", i)
		if len(k.Certificate) == 0 {
			at := slices.IndexFunc(a.KeyCredentials, func(old KeyCredential) bool { return strings.EqualFold(old.KeyID, k.KeyID) })
			if at < 0 {
				return &ValidationError{field + "key", fmt.Sprintf("is empty, and no certificate has the key id %.100q", k.KeyID)}
			}
			keys[i] = a.KeyCredentials[at]
			continue
		}
		var err error
		if keys[i], err = newKey(k); err != nil {
			var invalid *ValidationError
			if errors.As(err, &invalid) {
				err = &ValidationError{field + invalid.Field, invalid.Message}
			}
			return err
		}
	}
	if err := checkKeys(keys); err != nil {
		return err
	}
	a.KeyCredentials = keys
	return nil
}

func checkKeys(keys []KeyCredential) error {
	if len(keys) > MaxKeys {
		return &ValidationError{"keyCredentials", fmt.Sprintf("has %d entries, at most %d", len(keys), MaxKeys)}
	}
	for i, k := range keys {
		if slices.ContainsFunc(keys[:i], func(other KeyCredential) bool { return bytes.Equal(other.Certificate, k.Certificate) }) {
			return &ValidationError{"keyCredentials", fmt.Sprintf("has the certificate %X twice", k.Thumbprint())}
		}
	}
	return nil
}

// newKey makes a credential of what a caller gave.
func newKey(want KeyCredential) (KeyCredential, error) {
	k := KeyCredential{KeyID: uuid.NewString(), DisplayName: want.DisplayName, Certificate: want.Certificate}
	if block, _ := pem.Decode(want.Certificate); block != nil {
		if block.Type != "CERTIFICATE" { // a private key, perhaps: not even its type comes back
			return k, &ValidationError{"key", "is PEM of something else than a certificate"}
		}
		k.Certificate = block.Bytes
	}
	if len(k.Certificate) > maxCertificate {
		return k, &ValidationError{"key", fmt.Sprintf("has %d bytes, at most %d", len(k.Certificate), maxCertificate)}
	}
	certificate, err := x509.ParseCertificate(k.Certificate)
	if err != nil {
		return k, &ValidationError{"key", "is not an X.509 certificate, DER or PEM"}
	}
	if _, err := k.PublicKey(); err != nil {
		return k, &ValidationError{"key", err.Error()}
	}
	if k.DisplayName == "" {
		k.DisplayName = certificate.Subject.String()
		if checkName(k.DisplayName) != "" {
			k.DisplayName = fmt.Sprintf("%X", k.Thumbprint())
		}
	}
	if problem := checkName(k.DisplayName); problem != "" {
		return k, &ValidationError{"displayName", problem}
	}
	if err := lifetime(&k.StartDateTime, &k.EndDateTime, want.StartDateTime, want.EndDateTime, certificate.NotBefore.UTC(), certificate.NotAfter.UTC()); err != nil {
		return k, err
	}
	if k.StartDateTime.Before(certificate.NotBefore) || k.EndDateTime.After(certificate.NotAfter) {
		return k, &ValidationError{"endDateTime", "the credential's time is not within the certificate's"}
	}
	return k, nil
}
