package tokenservice

import (
	"context"
	"crypto/rsa"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"
)

// Bounds of what is fetched from issuers that federated credentials name, and for how long it is believed
// (identity.md 3.3, 4.4).
const (
	maxIssuers      = 256     // remembered; beyond that the one that was used longest ago is fetched again
	maxDocument     = 1 << 20 // bytes of a discovery document or key set
	maxForeignKeys  = 100     // of a set; further ones do not count, as in Entra
	fetchTimeout    = 5 * time.Second
	refetchAfter    = time.Hour        // when known keys are looked at again
	believeFor      = 24 * time.Hour   // how long known keys count while the issuer cannot be reached
	unknownKeyPause = 5 * time.Minute  // between fetches for keys that a set does not have
	failurePause    = 10 * time.Second // between fetches that fail
)

// issuers fetches and remembers the keys of other issuers.
type issuers struct {
	transport http.RoundTripper // never follows a redirect; decides which addresses may be reached

	mu    sync.Mutex // guards known
	known map[string]*issuerKeys
}

// issuerKeys is one issuer. turn is held, instead of a mutex, while its documents are fetched: waiting for it ends with
// the caller's context. It guards all below.
type issuerKeys struct {
	used time.Time // guarded by issuers.mu

	turn      chan struct{}
	keys      map[string]*rsa.PublicKey
	fetched   time.Time // the last time that succeeded
	attempted time.Time
	failure   error
}

// A fetchError says why an issuer's keys are not known: in told for anybody, in err for the operator.
type fetchError struct {
	told string
	err  error
}

func (e *fetchError) Error() string { return e.told }

// key returns the issuer's key of this id; nil if it publishes none. The error is a *fetchError, or ctx's.
func (x *issuers) key(ctx context.Context, issuer, kid string, now time.Time) (*rsa.PublicKey, error) {
	if x.transport == nil {
		return nil, &fetchError{"this service fetches no keys of other issuers", errors.New("no transport is set")}
	}
	e := x.entry(issuer, now)
	select {
	case e.turn <- struct{}{}:
		defer func() { <-e.turn }()
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	age, pause := now.Sub(e.fetched), now.Sub(e.attempted)
	key := e.keys[kid]
	due := age >= refetchAfter && pause >= failurePause || key == nil && (e.failure != nil && pause >= failurePause || pause >= unknownKeyPause)
	if due {
		x.refresh(ctx, e, issuer, now)
		age, key = now.Sub(e.fetched), e.keys[kid]
	}
	switch {
	case age >= believeFor || key == nil && e.failure != nil:
		return nil, e.failure
	case kid == "":
		return nil, nil
	}
	return key, nil
}

func (x *issuers) entry(issuer string, now time.Time) *issuerKeys {
	x.mu.Lock()
	defer x.mu.Unlock()
	e := x.known[issuer]
	if e == nil {
		if len(x.known) >= maxIssuers {
			var oldest string
			for name, k := range x.known {
				if oldest == "" || k.used.Before(x.known[oldest].used) {
					oldest = name
				}
			}
			delete(x.known, oldest)
		}
		e = &issuerKeys{turn: make(chan struct{}, 1)}
		x.known[issuer] = e
	}
	e.used = now
	return e
}

// refresh fetches the issuer's keys. It goes on when the caller gives up, since others wait for the same.
func (x *issuers) refresh(ctx context.Context, e *issuerKeys, issuer string, now time.Time) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), fetchTimeout)
	defer cancel()
	e.attempted = now
	keys, err := x.fetch(ctx, issuer)
	if e.failure = err; err == nil {
		e.keys, e.fetched = keys, now
	}
}

func (x *issuers) fetch(ctx context.Context, issuer string) (map[string]*rsa.PublicKey, error) {
	var document struct {
		Issuer string `json:"issuer"`
		Keys   string `json:"jwks_uri"`
	}
	if err := x.get(ctx, strings.TrimSuffix(issuer, "/")+"/.well-known/openid-configuration", "discovery document", &document); err != nil {
		return nil, err
	}
	if document.Issuer != issuer {
		return nil, &fetchError{"the discovery document of the issuer is another one's", fmt.Errorf("it names issuer %q", document.Issuer)}
	}
	u, err := url.Parse(document.Keys)
	if err != nil || u.Scheme != "https" || u.Hostname() == "" || u.User != nil {
		return nil, &fetchError{"the discovery document names no https address of keys", fmt.Errorf("jwks_uri is %q", document.Keys)}
	}
	var set struct {
		Keys []json.RawMessage `json:"keys"`
	}
	if err := x.get(ctx, document.Keys, "key set", &set); err != nil {
		return nil, err
	}
	keys := make(map[string]*rsa.PublicKey)
	for _, raw := range set.Keys[:min(len(set.Keys), maxForeignKeys)] {
		if kid, key := foreignKey(raw); key != nil && keys[kid] == nil {
			keys[kid] = key
		}
	}
	return keys, nil
}

// get reads one JSON document over https.
func (x *issuers) get(ctx context.Context, address, what string, into any) error {
	fail := func(told string, err error) error { return &fetchError{told: "the " + what + " " + told, err: err} }
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil || r.URL.Scheme != "https" {
		return fail("has no https address", err)
	}
	r.Header.Set("Accept", "application/json")
	resp, err := x.transport.RoundTrip(r) // a round trip follows no redirect
	if err != nil {
		return fail("cannot be reached", err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return fail(fmt.Sprintf("is answered with status %d", resp.StatusCode), fmt.Errorf("%s: status %d", address, resp.StatusCode))
	}
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxDocument+1))
	switch {
	case err != nil:
		return fail("cannot be read", err)
	case len(body) > maxDocument:
		return fail(fmt.Sprintf("has more than %d bytes", maxDocument), errors.New(address))
	}
	if err := json.Unmarshal(body, into); err != nil {
		return fail("is not the JSON that it should be", err)
	}
	return nil
}

// foreignKey reads one member of a key set; nil if it does not verify RS256.
func foreignKey(raw json.RawMessage) (kid string, _ *rsa.PublicKey) {
	var k struct {
		Kty, Use, Alg, Kid, N, E string
		D                        json.RawMessage
	}
	if json.Unmarshal(raw, &k) != nil || k.Kty != "RSA" || k.Use != "" && k.Use != "sig" || k.Alg != "" && k.Alg != "RS256" || k.Kid == "" || len(k.Kid) > maxKeyID {
		return "", nil
	}
	if k.D != nil { // a private key that was published is everybody's
		return "", nil
	}
	n, err1 := base64.RawURLEncoding.DecodeString(k.N)
	e, err2 := base64.RawURLEncoding.DecodeString(k.E)
	if err1 != nil || err2 != nil || len(e) > 4 {
		return "", nil
	}
	public := &rsa.PublicKey{N: new(big.Int).SetBytes(n), E: int(new(big.Int).SetBytes(e).Int64())}
	if bits := public.N.BitLen(); bits < keyBits || bits > maxForeignBits || public.E < 3 || public.E%2 == 0 {
		return "", nil
	}
	return k.Kid, public
}

const maxForeignBits = 8192 // a verification takes time with the square of this
