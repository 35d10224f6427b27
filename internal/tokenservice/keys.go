package tokenservice

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha1"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"errors"
	"fmt"
	"math/big"
	"slices"
	"time"
)

const (
	keyBits = 2048
	// publishAhead is how long a key is published before a scheduled rotation may put it to use.
	publishAhead = 24 * time.Hour
	// publishAfter is how long a retired key stays published: the longest token life, and clocks that differ.
	publishAfter = maxLifetime + 2*skew
	// maxKeys bounds the published keys; readers of such sets keep at least 10, Entra itself 100.
	maxKeys = 32
	// maxTombstones bounds the remembered ids of revoked keys.
	maxTombstones = 100
)

// Errors of key changes.
var (
	// ErrKeyNotFound: no published key has this id.
	ErrKeyNotFound = errors.New("no signing key has this id")
	// ErrTooManyKeys: so many retired keys are still in their overlap that none can be added.
	ErrTooManyKeys = errors.New("too many retired keys are still published: wait until they expire, or revoke some")
)

// A KeyState is where a signing key stands. It moves only forward.
type KeyState string

// The states of a signing key.
const (
	KeyNext    KeyState = "next"    // published, so that receivers know it when it comes into use
	KeyActive  KeyState = "active"  // signs
	KeyRetired KeyState = "retired" // signs no more, is published until the last token that it signed has expired
)

// A ring is all keys of the service, the one document that every change replaces whole: so that there is
// always exactly one active key, whoever changes what at the same time. Its methods return a new ring.
type ring struct {
	Keys    []key       `json:"keys"`
	Revoked []tombstone `json:"revoked,omitempty"`
}

type key struct {
	ID          string    `json:"kid"`
	State       KeyState  `json:"state"`
	Certificate []byte    `json:"certificate"`          // DER
	PrivateKey  []byte    `json:"privateKey,omitempty"` // PKCS #8; gone when retired, for nothing needs it any more
	Created     time.Time `json:"created"`
	Activated   time.Time `json:"activated,omitzero"`
	Retired     time.Time `json:"retired,omitzero"`
	Until       time.Time `json:"until,omitzero"` // of a retired key: when it is published no longer
}

type tombstone struct {
	ID      string    `json:"kid"`
	Revoked time.Time `json:"revoked"`
}

// newRing begins with an active key and its successor.
func newRing(active, next key, now time.Time) ring {
	active.State, active.Activated = KeyActive, now
	return ring{Keys: []key{active, next}}
}

// rotate puts the next key to use, retires the active one, and takes fresh as the new next one.
func (r ring) rotate(now time.Time, fresh key) (ring, error) {
	r = r.prune(now)
	if len(r.Keys) >= maxKeys {
		return ring{}, ErrTooManyKeys
	}
	for i := range r.Keys {
		switch k := &r.Keys[i]; k.State {
		case KeyActive:
			k.State, k.PrivateKey, k.Retired, k.Until = KeyRetired, nil, now, now.Add(publishAfter)
		case KeyNext:
			k.State, k.Activated = KeyActive, now
		}
	}
	r.Keys = append(r.Keys, fresh)
	return r, nil
}

// revoke drops a key at once. If it was active, the next one takes over; fresh fills the place of a lost
// active or next key.
func (r ring) revoke(id string, now time.Time, fresh func() (key, error)) (ring, error) {
	r = r.prune(now)
	i := slices.IndexFunc(r.Keys, func(k key) bool { return k.ID == id })
	if i < 0 {
		return ring{}, ErrKeyNotFound
	}
	state := r.Keys[i].State
	r.Keys = slices.Delete(r.Keys, i, i+1)
	r.Revoked = append(slices.Clone(r.Revoked), tombstone{id, now})
	if n := len(r.Revoked) - maxTombstones; n > 0 {
		r.Revoked = r.Revoked[n:]
	}
	if state == KeyRetired {
		return r, nil
	}
	if state == KeyActive {
		next := slices.IndexFunc(r.Keys, func(k key) bool { return k.State == KeyNext })
		r.Keys[next].State, r.Keys[next].Activated = KeyActive, now
	}
	k, err := fresh()
	r.Keys = append(r.Keys, k)
	return r, err
}

// prune returns a copy without the keys whose overlap has ended.
func (r ring) prune(now time.Time) ring {
	r.Keys = slices.DeleteFunc(slices.Clone(r.Keys), func(k key) bool { return !k.published(now) })
	return r
}

func (k key) published(now time.Time) bool { return k.State != KeyRetired || now.Before(k.Until) }

// due tells whether the schedule wants a rotation: the active key is old enough and its successor known.
func (r ring) due(now time.Time, every time.Duration) bool {
	if every <= 0 {
		return false
	}
	var old, known bool
	for _, k := range r.Keys {
		old = old || k.State == KeyActive && !now.Before(k.Activated.Add(every))
		known = known || k.State == KeyNext && !now.Before(k.Created.Add(publishAhead))
	}
	return old && known
}

// check refuses a document that is not a ring of ours.
func (r ring) check() error {
	var active, next int
	for _, k := range r.Keys {
		switch k.State {
		case KeyActive:
			active++
		case KeyNext:
			next++
		case KeyRetired:
		default:
			return fmt.Errorf("key %s is in the unknown state %q", k.ID, k.State)
		}
	}
	if active != 1 || next != 1 {
		return fmt.Errorf("there are %d active and %d next keys, want one of each", active, next)
	}
	return nil
}

// newKey wraps an RSA key and its new self-signed certificate as a next key.
func newKey(private *rsa.PrivateKey, now time.Time) (key, error) {
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 127))
	if err != nil {
		return key{}, err
	}
	template := &x509.Certificate{
		SerialNumber: serial,
		// The subject that every such certificate of the platform has (identity.md 3.1); nobody verifies it.
		Subject:   pkix.Name{CommonName: "accounts.accesscontrol.windows.net"},
		NotBefore: now.Add(-time.Hour),
		NotAfter:  now.AddDate(5, 0, 0),
		KeyUsage:  x509.KeyUsageDigitalSignature,
	}
	certificate, err := x509.CreateCertificate(rand.Reader, template, template, &private.PublicKey, private)
	if err != nil {
		return key{}, err
	}
	encoded, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		return key{}, err
	}
	thumbprint := sha1.Sum(certificate) // a name, not a protection: the format wants SHA-1
	return key{
		ID:          base64.RawURLEncoding.EncodeToString(thumbprint[:]),
		State:       KeyNext,
		Certificate: certificate,
		PrivateKey:  encoded,
		Created:     now,
	}, nil
}
