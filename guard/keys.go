package guard

import (
	"crypto"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"strings"
	"sync/atomic"
	"time"

	jose "github.com/go-jose/go-jose/v4"

	"tabard/guard/reason"
)

const (
	maxKeys          = 100
	minKeyBits       = 2048
	maxKeyBits       = 8192 // verification takes time with the square of this
	maxVettedHeaders = 64
)

// A signingKey is one published key of an issuer.
type signingKey struct {
	id     string
	public *rsa.PublicKey
	issuer string // the key's own issuer (identity.md 3.2); may hold {tenantid}; "" if the set has none

	// revoked is set when the issuer no longer publishes the key. Verified tokens
	// that are remembered die with it.
	revoked atomic.Bool
}

// A keySet is what an issuer published at one time.
type keySet struct {
	issuer   *issuer
	template string // iss of its tokens, may hold {tenantid}
	tenant   string // the tenant in it, or {tenantid}
	keys     map[string]*signingKey
	fetched  time.Time

	// vetted holds the headers of tokens whose signature go-jose has verified
	// with a key of this set; see verifySignature.
	vetted atomic.Pointer[map[string]*signingKey]
}

// parseKeys reads a JWK set. Keys that cannot sign tokens (other types, private
// or weak ones, for encryption) are left out; a set out of form is an error.
func parseKeys(text string) (map[string]*signingKey, error) {
	members, err := scanObject(text)
	if err != nil {
		return nil, err
	}
	var list []string
	found := false
	for _, m := range members {
		if m.name == "keys" && m.value[0] == '[' {
			found = true
			sc := scanner{s: m.value}
			if err := sc.array(0, func(element string) bool {
				list = append(list, element)
				return true
			}); err != nil {
				return nil, err
			}
		}
	}
	if !found {
		return nil, errors.New("no list of keys")
	}
	if len(list) > maxKeys {
		return nil, fmt.Errorf("%d keys, the limit is %d", len(list), maxKeys)
	}
	keys := make(map[string]*signingKey, len(list))
	for _, element := range list {
		if k := parseKey(element); k != nil && keys[k.id] == nil {
			keys[k.id] = k
		}
	}
	return keys, nil
}

// parseKey reads one key, or returns nil if it cannot be used. go-jose gets to
// see the members that make the key, not the certificates beside it (x5c, x5t):
// they prove nothing here, and go-jose drops a key for an odd one.
func parseKey(text string) *signingKey {
	members, err := scanObject(text)
	if err != nil {
		return nil
	}
	k := &signingKey{}
	needed := map[string]json.RawMessage{}
	for _, m := range members {
		switch m.name {
		case "kty", "use", "alg", "kid", "n", "e":
			needed[m.name] = json.RawMessage(m.value)
		case "d", "p", "q", "dp", "dq", "qi", "k":
			return nil // a private key that was published is everybody's key
		case "issuer":
			var ok bool
			if k.issuer, ok = jsonString(m.value); !ok {
				return nil
			}
		}
	}
	reduced, err := json.Marshal(needed)
	if err != nil {
		return nil
	}
	var jwk jose.JSONWebKey
	if jwk.UnmarshalJSON(reduced) != nil || !jwk.Valid() {
		return nil
	}
	public, ok := jwk.Key.(*rsa.PublicKey)
	switch {
	case !ok,
		jwk.KeyID == "" || len(jwk.KeyID) > maxKeyID,
		jwk.Use != "" && jwk.Use != "sig",
		jwk.Algorithm != "" && jwk.Algorithm != string(jose.RS256),
		public.N.BitLen() < minKeyBits || public.N.BitLen() > maxKeyBits:
		return nil
	}
	k.id, k.public = jwk.KeyID, public
	return k
}

// replace makes a new set the successor of old: keys that stayed keep their
// identity, those that went are marked.
func (set *keySet) replace(old *keySet) {
	if old == nil {
		return
	}
	for id, before := range old.keys {
		if now := set.keys[id]; now != nil && now.public.Equal(before.public) && now.issuer == before.issuer {
			set.keys[id] = before
		} else {
			before.revoked.Store(true)
		}
	}
}

// verifySignature verifies a token with the key of this set that its header
// names, and returns that key.
//
// All tokens signed with one key have the same header, byte for byte. The first
// time a header is met it is judged here and go-jose verifies the whole token.
// A header that passed with a good signature is remembered with its key; for
// tokens with such a header what remains of the work is RSASSA-PKCS1-v1_5 with
// SHA-256 over the bytes at hand. Measured: go-jose alone takes 1.43 times a bare
// verification, 1.2 is the target for all of the guard.
func (set *keySet) verifySignature(t *parsedToken) (*signingKey, *Error) {
	if k := set.vettedKey(t.header64); k != nil {
		sum := sha256.Sum256([]byte(t.signing))
		if rsa.VerifyPKCS1v15(k.public, crypto.SHA256, sum[:], t.signature) != nil {
			return nil, badSignature(t, k.id)
		}
		return k, nil
	}
	h, refused := t.checkedHeader()
	if refused != nil {
		return nil, refused
	}
	k := set.keys[h.kid]
	if k == nil {
		return nil, refusal(stageKey, reason.UnknownKey, "the token is signed with the key "+show(h.kid)+", which "+set.issuer.base.String()+" does not publish")
	}
	object, err := jose.ParseSignedCompact(t.raw, []jose.SignatureAlgorithm{jose.RS256})
	if err != nil {
		return nil, malformed("the token is not a compact JWS")
	}
	if _, err := object.Verify(k.public); err != nil {
		return nil, badSignature(t, k.id)
	}
	set.vet(t.header64, k)
	return k, nil
}

func (set *keySet) vettedKey(header64 string) *signingKey {
	if m := set.vetted.Load(); m != nil {
		return (*m)[header64]
	}
	return nil
}

// vet remembers a header. Only the issuer can make new ones, since its signature
// covers them; the bound is for an issuer that varies them without end. Of two
// concurrent additions one may be lost and is made again by the next token.
func (set *keySet) vet(header64 string, k *signingKey) {
	old := set.vetted.Load()
	next := map[string]*signingKey{}
	if old != nil && len(*old) < maxVettedHeaders {
		next = maps.Clone(*old)
	}
	next[strings.Clone(header64)] = k // a part of the token's string would keep its signature alive
	set.vetted.CompareAndSwap(old, &next)
}

// badSignature explains a signature that does not verify. Tokens for Microsoft
// Graph never do, on purpose (identity.md 5.5); for the explanation, and only
// for it, the unverified audience is believed.
func badSignature(t *parsedToken, kid string) *Error {
	if isGraph(t.claims.Audience) {
		return refusal(stageSignature, reason.AudienceIsGraph,
			"the token is for Microsoft Graph, nobody else can verify its signature; name your own application as the audience")
	}
	return refusal(stageSignature, reason.SignatureInvalid, "the signature does not verify with the issuer's key "+show(kid))
}
