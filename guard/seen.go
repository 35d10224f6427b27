package guard

import (
	"crypto/sha256"
	"strings"
	"sync"
)

// seenTokens remembers verified tokens, so that their signature is verified
// once. What it keeps of a token is no credential: all but the signature, and of
// that the SHA-256, which is the key. A lookup hashes the signature and compares
// the rest, which costs half of hashing all of it and is as exact.
//
// It holds two generations of limit/2 entries: a full young one becomes the old
// one and the old one is dropped, so that tokens in use survive and memory is
// bounded without a list, a timer or a write for each read.
type seenTokens struct {
	limit int

	mu         sync.RWMutex
	young, old map[[sha256.Size]byte]*seenToken
}

// A seenToken is the outcome of a verification that succeeded.
type seenToken struct {
	signed string // the token up to the signature
	claims *Claims
	key    *signingKey
	issuer *issuer
	checks []Check // nil if nobody asked for them
}

// splitSeen returns the part of a token that is compared and the hash of the one
// that is not kept. It is written so that nothing is copied to the heap.
func splitSeen(token string) (signed string, sum [sha256.Size]byte) {
	dot := strings.LastIndexByte(token, '.')
	signature := token[dot+1:]
	var buffer [512]byte // a signature of 2048 bits has 342 characters
	if len(signature) > len(buffer) {
		sum = sha256.Sum256([]byte(signature))
	} else {
		sum = sha256.Sum256(buffer[:copy(buffer[:], signature)])
	}
	return token[:max(dot, 0)], sum
}

func (s *seenTokens) get(signed string, sum [sha256.Size]byte) *seenToken {
	s.mu.RLock()
	e := s.young[sum]
	promote := false
	if e == nil {
		e = s.old[sum]
		promote = e != nil
	}
	s.mu.RUnlock()
	if e == nil || e.signed != signed {
		return nil
	}
	if promote {
		s.put(sum, e)
	}
	return e
}

func (s *seenTokens) put(sum [sha256.Size]byte, e *seenToken) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.young) >= max(s.limit/2, 1) {
		s.young, s.old = nil, s.young
	}
	if s.young == nil {
		s.young = map[[sha256.Size]byte]*seenToken{}
	}
	s.young[sum] = e
}

func (s *seenTokens) drop(sum [sha256.Size]byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.young, sum)
	delete(s.old, sum)
}
