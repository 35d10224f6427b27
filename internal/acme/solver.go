package acme

import (
	"context"
	"crypto/tls"
	"net"
	"strings"
	"sync"

	"github.com/mholt/acmez/v3"
	"github.com/mholt/acmez/v3/acme"
)

// A solver holds the proofs of control that authorities may ask for at the moment.
type solver struct {
	mu    sync.Mutex // guards all below
	texts map[proof]string
	certs map[string]*tls.Certificate // by domain
}

// A proof is what an authority asks for over HTTP.
type proof struct{ domain, token string }

func newSolver() *solver {
	return &solver{texts: map[proof]string{}, certs: map[string]*tls.Certificate{}}
}

// overHTTP and overTLS are the solver as acmez wants it, for each kind of challenge.
type (
	overHTTP struct{ *solver }
	overTLS  struct{ *solver }
)

func (s overHTTP) Present(_ context.Context, c acme.Challenge) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.texts[proof{strings.ToLower(c.Identifier.Value), c.Token}] = c.KeyAuthorization
	return nil
}

func (s overHTTP) CleanUp(_ context.Context, c acme.Challenge) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.texts, proof{strings.ToLower(c.Identifier.Value), c.Token})
	return nil
}

func (s overTLS) Present(_ context.Context, c acme.Challenge) error {
	cert, err := acmez.TLSALPN01ChallengeCert(c)
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.certs[strings.ToLower(c.Identifier.Value)] = cert
	return nil
}

func (s overTLS) CleanUp(_ context.Context, c acme.Challenge) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.certs, strings.ToLower(c.Identifier.Value))
	return nil
}

func (s *solver) certificate(domain string) *tls.Certificate {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.certs[strings.ToLower(domain)]
}

func (s *solver) answer(host, token string) (text string, ok bool) {
	if h, _, err := net.SplitHostPort(host); err == nil {
		host = h
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	text, ok = s.texts[proof{strings.ToLower(host), token}]
	return text, ok
}
