package tokenservice

import (
	"context"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"fmt"
	"math/big"
	"slices"
	"time"

	"github.com/go-jose/go-jose/v4"

	"tabard/internal/store"
)

const (
	ringKey       = "signing"
	maintainEvery = time.Hour
	tries         = 10 // of a change that others interfere with
)

// A keySet is a ring made ready for use. Immutable.
type keySet struct {
	ring     ring
	revision uint64
	public   []publicKey
	active   signer
}

// A publicKey is one member of the key set as published (identity.md 3.1). There is no alg, and there is no
// field that a private member could get into.
type publicKey struct {
	Kty    string   `json:"kty"`
	Use    string   `json:"use"`
	Kid    string   `json:"kid"`
	X5t    string   `json:"x5t"`
	N      string   `json:"n"`
	E      string   `json:"e"`
	X5c    []string `json:"x5c"`
	Issuer string   `json:"issuer,omitempty"` // v2 set only

	key key
	rsa *rsa.PublicKey
}

// A signer signs with the active key.
type signer struct {
	kid     string
	private *rsa.PrivateKey
	v1, v2  jose.Signer
}

// KeyInfo describes a signing key without its secret.
type KeyInfo struct {
	ID        string    `json:"kid"`
	State     KeyState  `json:"state"`
	Created   time.Time `json:"created"`
	Activated time.Time `json:"activated,omitzero"`
	Retired   time.Time `json:"retired,omitzero"`
	Until     time.Time `json:"until,omitzero"` // when a retired key stops being published
}

func (s *Service) openKeys(ctx context.Context, st *store.Store) (err error) {
	if s.rings, err = store.OpenCollection[ring](ctx, st, "token-keys", store.Schema{Version: 1}); err != nil {
		return err
	}
	if _, ok := s.rings.Get(ringKey); !ok {
		if err := s.createRing(ctx); err != nil {
			return err
		}
	}
	s.rings.OnChange(func([]string) {
		if err := s.load(); err != nil { // the last good keys stay in use
			s.log.Error("signing keys cannot be loaded", "err", err)
		}
	})
	if err := s.load(); err != nil {
		return err
	}
	for _, kid := range s.opt.RevokedKeys {
		if err := s.RevokeKey(ctx, kid); err != nil && !errors.Is(err, ErrKeyNotFound) {
			return err
		}
	}
	return s.maintain(ctx)
}

func (s *Service) createRing(ctx context.Context) error {
	type result struct {
		key key
		err error
	}
	second := make(chan result, 1)
	go func() { // two at once: finding primes is most of a first start
		k, err := s.fresh()
		second <- result{k, err}
	}()
	active, err := s.fresh()
	next := <-second
	if err := errors.Join(err, next.err); err != nil {
		return err
	}
	_, err = s.rings.Create(ctx, ringKey, newRing(active, next.key, s.now()))
	if errors.Is(err, store.ErrExists) { // another process was first: its keys count
		return nil
	}
	return err
}

func (s *Service) now() time.Time { return s.opt.Now().UTC() }

func (s *Service) fresh() (key, error) {
	private, err := s.opt.generate()
	if err != nil {
		return key{}, err
	}
	return newKey(private, s.now())
}

// load makes the stored ring the one in use, unless a newer one is.
func (s *Service) load() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	item, ok := s.rings.Get(ringKey)
	if !ok {
		return errors.New("the signing keys are gone from the store")
	}
	old := s.keys.Load()
	if old != nil && old.revision >= item.Revision {
		return nil
	}
	set, err := newKeySet(item.Value)
	if err != nil {
		return fmt.Errorf("signing keys: %w", err)
	}
	set.revision = item.Revision
	s.keys.Store(set)
	if old == nil {
		return nil
	}
	if old.active.kid != set.active.kid {
		s.log.Info("signing key changed", "kid", set.active.kid, "previous", old.active.kid)
	}
	for _, t := range set.ring.Revoked {
		if slices.ContainsFunc(old.public, func(k publicKey) bool { return k.Kid == t.ID }) {
			s.log.Warn("signing key revoked", "kid", t.ID)
			for _, fn := range s.onRevoke {
				fn()
			}
			break
		}
	}
	return nil
}

func newKeySet(r ring) (*keySet, error) {
	if err := r.check(); err != nil {
		return nil, err
	}
	set := &keySet{ring: r}
	for _, k := range r.Keys {
		certificate, err := x509.ParseCertificate(k.Certificate)
		if err != nil {
			return nil, fmt.Errorf("key %s: %w", k.ID, err)
		}
		public, ok := certificate.PublicKey.(*rsa.PublicKey)
		if !ok || public.N.BitLen() < keyBits {
			return nil, fmt.Errorf("key %s: not an RSA key of %d bits", k.ID, keyBits)
		}
		set.public = append(set.public, publicKey{
			Kty: "RSA", Use: "sig", Kid: k.ID, X5t: k.ID,
			N:   base64.RawURLEncoding.EncodeToString(public.N.Bytes()),
			E:   base64.RawURLEncoding.EncodeToString(big.NewInt(int64(public.E)).Bytes()),
			X5c: []string{base64.StdEncoding.EncodeToString(k.Certificate)},
			key: k, rsa: public,
		})
		if k.State == KeyActive {
			if set.active, err = newSigner(k, public); err != nil {
				return nil, fmt.Errorf("key %s: %w", k.ID, err)
			}
		}
	}
	return set, nil
}

func newSigner(k key, public *rsa.PublicKey) (signer, error) {
	parsed, err := x509.ParsePKCS8PrivateKey(k.PrivateKey)
	if err != nil {
		return signer{}, errors.New("its private key cannot be read") // without the parser's words: they may quote it
	}
	private, ok := parsed.(*rsa.PrivateKey)
	if !ok || !private.PublicKey.Equal(public) {
		return signer{}, errors.New("its private key is not the certificate's")
	}
	s := signer{kid: k.ID, private: private}
	if s.v1, err = s.with(map[jose.HeaderKey]any{"x5t": k.ID}); err == nil {
		s.v2, err = s.with(nil)
	}
	return s, err
}

// with returns a JOSE signer for the headers that all tokens have (identity.md 5.1) and more.
func (s signer) with(more map[jose.HeaderKey]any) (jose.Signer, error) {
	opt := (&jose.SignerOptions{}).WithType("JWT")
	for name, value := range more {
		opt.WithHeader(name, value)
	}
	return jose.NewSigner(jose.SigningKey{Algorithm: jose.RS256, Key: jose.JSONWebKey{Key: s.private, KeyID: s.kid}}, opt)
}

// published lists the public keys; version 2 adds the issuer that each may sign for, with the literal
// placeholder that a receiver replaces by the token's tenant (identity.md 3.2).
func (s *Service) published(version int, a authority) []publicKey {
	now := s.now()
	var keys []publicKey
	for _, k := range s.keys.Load().public {
		if !k.key.published(now) {
			continue
		}
		if version == 2 {
			k.Issuer = a.issuer(2, tenantPlaceholder)
		}
		keys = append(keys, k)
	}
	return keys
}

// Keys lists the published keys: the active one, the next, then the retired from new to old.
func (s *Service) Keys() []KeyInfo {
	order := map[KeyState]int{KeyActive: 0, KeyNext: 1, KeyRetired: 2}
	var keys []KeyInfo
	for _, k := range s.keys.Load().ring.prune(s.now()).Keys {
		keys = append(keys, KeyInfo{k.ID, k.State, k.Created, k.Activated, k.Retired, k.Until})
	}
	slices.SortStableFunc(keys, func(a, b KeyInfo) int {
		if n := order[a.State] - order[b.State]; n != 0 {
			return n
		}
		return b.Retired.Compare(a.Retired)
	})
	return keys
}

// RotateKeys puts the next key, published already, to use now. Tokens signed before stay verifiable until
// they expire. ErrTooManyKeys if that was done too often within a day.
func (s *Service) RotateKeys(ctx context.Context) error {
	fresh, err := s.fresh()
	if err == nil {
		err = s.change(ctx, func(r ring) (ring, error) { return r.rotate(s.now(), fresh) })
	}
	if err != nil {
		return fmt.Errorf("rotating signing keys: %w", err)
	}
	return nil
}

// RevokeKey takes a key out of the published set at once, for the emergency that it became known. Tokens that
// it signed are refused as soon as receivers refresh their copy of the set. If it was the active one, the
// next takes over. ErrKeyNotFound if there is no such key.
func (s *Service) RevokeKey(ctx context.Context, kid string) error {
	var made *key
	fresh := func() (key, error) {
		if made == nil {
			k, err := s.fresh()
			if err != nil {
				return key{}, err
			}
			made = &k
		}
		return *made, nil
	}
	if err := s.change(ctx, func(r ring) (ring, error) { return r.revoke(kid, s.now(), fresh) }); err != nil {
		return fmt.Errorf("revoking signing key %.100q: %w", kid, err)
	}
	return nil
}

// OnRevoke has fn called after a key was revoked, here or by another process: whoever remembers tokens
// forgets them. fn must be quick.
func (s *Service) OnRevoke(fn func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.onRevoke = append(s.onRevoke, fn)
}

// run maintains the keys every hour until ctx ends.
func (s *Service) run(ctx context.Context) {
	tick := time.NewTicker(maintainEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			if err := s.maintain(ctx); err != nil && ctx.Err() == nil {
				s.log.Error("signing keys could not be maintained", "err", err)
			}
			if err := s.headers.forgetDeleted(ctx, s.directory); err != nil && ctx.Err() == nil {
				s.log.Error("secrets of deleted identities could not be removed", "err", err)
			}
		}
	}
}

// maintain rotates when the schedule wants it, and removes keys whose overlap has ended.
func (s *Service) maintain(ctx context.Context) error {
	r, now := s.keys.Load().ring, s.now()
	switch {
	case r.due(now, s.opt.RotateEvery):
		fresh, err := s.fresh()
		if err != nil {
			return err
		}
		return s.change(ctx, func(r ring) (ring, error) {
			if !r.due(now, s.opt.RotateEvery) { // another process was quicker
				return r, errUnchanged
			}
			return r.rotate(now, fresh)
		})
	case len(r.prune(now).Keys) < len(r.Keys):
		return s.change(ctx, func(r ring) (ring, error) { return r.prune(now), nil })
	}
	return nil
}

// errUnchanged ends a change that has become unnecessary.
var errUnchanged = errors.New("unchanged")

// change replaces the stored ring by what edit makes of it. edit may be called several times.
func (s *Service) change(ctx context.Context, edit func(ring) (ring, error)) error {
	for range tries {
		item, ok := s.rings.Get(ringKey)
		if !ok {
			return store.ErrNotFound
		}
		next, err := edit(item.Value)
		if errors.Is(err, errUnchanged) {
			return nil
		}
		if err != nil {
			return err
		}
		if _, err = s.rings.Update(ctx, ringKey, next, item.Revision); !errors.Is(err, store.ErrConflict) {
			return err
		}
	}
	return store.ErrConflict
}
