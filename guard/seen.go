package guard

import (
	"crypto/sha256"
	"sync"
)

// seenTokens remembers verified tokens by their SHA-256, so that neither the
// signature is verified again nor the token kept. It holds two generations of
// limit/2 entries: a full young one becomes the old one and the old one is
// dropped, so that tokens in use survive and memory is bounded without a list,
// a timer or a write for each read.
type seenTokens struct {
	limit int

	mu         sync.RWMutex
	young, old map[[sha256.Size]byte]*seenToken
}

// A seenToken is the outcome of a verification that succeeded.
type seenToken struct {
	claims *Claims
	key    *signingKey
	issuer *issuer
	checks []Check // nil if nobody asked for them
}

// hashToken is written so that the token is not copied to the heap: most tokens
// fit the buffer, and the hash is most of what a token seen before costs.
func hashToken(token string) [sha256.Size]byte {
	var buffer [2048]byte
	if len(token) > len(buffer) {
		return sha256.Sum256([]byte(token))
	}
	return sha256.Sum256(buffer[:copy(buffer[:], token)])
}

func (s *seenTokens) get(sum [sha256.Size]byte) *seenToken {
	s.mu.RLock()
	e := s.young[sum]
	promote := false
	if e == nil {
		e = s.old[sum]
		promote = e != nil
	}
	s.mu.RUnlock()
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
