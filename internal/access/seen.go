package access

import (
	"crypto/sha256"
	"slices"
	"sync"

	"tabard/guard/reason"
)

// A proof is what a verified token claims, without what depends on the request. It is shared and never changed.
type proof struct {
	key       string // that it was signed with
	kid       string // the name of a key in the header, if there is one
	audiences []string
	life      lifetime

	client  *Client  // of a client token: what it says,
	refusal *Refusal // or why that is not acceptable
}

// prove verifies a token, or finds it among those that memory has seen. It is refused when it is not genuine, or
// when now is not within its lifetime. Audience and contents are the caller's to judge.
func (v *Verifier) prove(memory *seen, token string, read func(claims, *proof), keys ...string) (*proof, *Refusal) {
	now := v.opt.Now()
	hash, remember := hashOf(token)
	if remember {
		if p := memory.find(hash); p != nil && slices.Contains(keys, p.key) {
			return p, p.life.check(now)
		}
	}
	p, refusal := verify(token, read, keys...)
	if refusal == nil {
		refusal = p.life.check(now)
	}
	if refusal == nil && remember {
		memory.add(hash, p)
	}
	return p, refusal
}

func verify(token string, read func(claims, *proof), keys ...string) (*proof, *Refusal) {
	payload, key, kid, refusal := open(token, keys...)
	if refusal != nil {
		return nil, refusal
	}
	claims, refusal := parseClaims(payload)
	if refusal != nil {
		return nil, refusal
	}
	life, refusal := claims.lifetime()
	if refusal != nil {
		return nil, refusal
	}
	audiences, err := claims.strings("aud")
	if err != nil {
		return nil, unauthorized(reason.ClaimInvalid, "The claim aud %v.", err)
	}
	p := &proof{key: key, kid: kid, audiences: audiences, life: life}
	read(claims, p)
	return p, nil
}

// maxSeenToken bounds the tokens that are remembered, in bytes; a longer one is verified each time.
const maxSeenToken = 2 << 10

func hashOf(token string) (hash [sha256.Size]byte, ok bool) {
	if len(token) > maxSeenToken {
		return hash, false
	}
	var text [maxSeenToken]byte // on the stack, where a conversion would allocate
	return sha256.Sum256(text[:copy(text[:], token)]), true
}

// seen remembers proofs by the hash of their token, in two generations: when the young one is full it becomes the
// old one, and what nobody asked for since is forgotten. Expired and outdated proofs go the same way.
type seen struct {
	size int // proofs per generation

	mu         sync.RWMutex // guards both
	young, old map[[sha256.Size]byte]*proof
}

func (s *seen) find(hash [sha256.Size]byte) *proof {
	s.mu.RLock()
	p, old := s.young[hash], false
	if p == nil {
		p, old = s.old[hash], true
	}
	s.mu.RUnlock()
	if p != nil && old {
		s.add(hash, p)
	}
	return p
}

func (s *seen) add(hash [sha256.Size]byte, p *proof) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.young) >= s.size {
		s.old, s.young = s.young, nil
	}
	if s.young == nil {
		s.young = make(map[[sha256.Size]byte]*proof)
	}
	s.young[hash] = p
}
