package tokenservice

import (
	"context"
	"crypto/rsa"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/go-jose/go-jose/v4"

	"tabard/internal/directory"
)

// checkFederated authenticates a client by a token of an issuer that one of its federated credentials trusts
// (identity.md 4.4). The credential is found first, so that keys are fetched only for issuers that an operator named.
func (s *Service) checkFederated(ctx context.Context, a *clientAssertion, credentials []directory.FederatedCredential, at authority) *refusal {
	if r := matchFederated(a.claims, credentials); r != nil {
		return r
	}
	if tenant := s.directory.TenantID(); a.claims.Iss == at.issuer(2, tenant) || a.claims.Iss == at.issuer(1, tenant) {
		return s.checkOwn(a, at)
	}
	if a.header.Alg != string(jose.RS256) {
		return refuse(codeSignature, "JWT token failed signature validation: tokens of other issuers must be signed with RS256, not %.20q.", a.header.Alg)
	}
	key, err := s.issuers.key(ctx, a.claims.Iss, a.header.Kid, s.now())
	var fetching *fetchError
	switch {
	case errors.As(err, &fetching):
		s.log.Warn("keys of a federated issuer could not be fetched", "issuer", a.claims.Iss, "err", fetching.err)
		return &refusal{code: codeIssuerUnreachable, cause: err, text: fmt.Sprintf("Request to External OIDC endpoint failed: %s.", fetching.told)}
	case err != nil:
		return &refusal{code: codeTransient, cause: err, text: "the request was given up while keys were fetched"}
	case key == nil:
		return refuse(codeSignature, "JWT token failed signature validation: issuer '%.300s' publishes no RSA key with kid %.100q.", a.claims.Iss, a.header.Kid)
	case !a.signedBy(key):
		return refuse(codeSignature, "JWT token failed signature validation: the signature does not fit key %.100q of issuer '%.300s'.", a.header.Kid, a.claims.Iss)
	}
	return a.checkTime(s.now(), maxForeignLife)
}

// matchFederated finds the credential that trusts the assertion, or says in which of its three parts none does. The
// presented values are in the text, as Entra shows them: people debug from that line.
func matchFederated(c assertionClaims, credentials []directory.FederatedCredential) *refusal {
	presented := fmt.Sprintf("Assertion Issuer: '%.600s'. Assertion Subject: '%.600s'. Assertion Audience: '%.600s'.", c.Iss, c.Sub, strings.Join(c.Aud, "', '"))
	if len(credentials) == 0 {
		return refuse(codeNothingFederated, "The client has no configured federated identity credentials. %s", presented)
	}
	var issuer, folded bool
	for _, f := range credentials {
		switch {
		case f.Issuer != c.Iss:
			continue
		case f.Subject == c.Sub && slices.ContainsFunc(c.Aud, func(aud string) bool { return f.Audiences[0] == aud || sameExchange(f.Audiences[0], aud) }):
			return nil
		case f.Subject == c.Sub:
			return refuse(codeFederatedAudience, "No matching federated identity record found for presented assertion audience '%.600s'. The record is for '%s'. %s", strings.Join(c.Aud, "', '"), f.Audiences[0], presented)
		}
		issuer, folded = true, folded || strings.EqualFold(f.Subject, c.Sub)
	}
	switch {
	case folded:
		return refuse(codeFederatedCase, "No matching federated identity record found for presented assertion subject '%.600s'. The subject matches with case-insensitive comparison, but not with case-sensitive comparison. %s", c.Sub, presented)
	case issuer:
		return refuse(codeFederatedSubject, "No matching federated identity record found for presented assertion subject '%.600s'. %s", c.Sub, presented)
	}
	return refuse(codeFederatedIssuer, "No matching federated identity record found for presented assertion issuer '%.600s'. %s", c.Iss, presented)
}

// sameExchange tells whether both are names of the token exchange: a v2 token carries its id, credentials its URI.
func sameExchange(a, b string) bool {
	return a == directory.TokenExchange && b == directory.TokenExchangeAppID || a == directory.TokenExchangeAppID && b == directory.TokenExchange
}

// checkOwn verifies a token of this service. Only a user-assigned identity's, made for the exchange, is a credential:
// any other token is held by receivers too.
func (s *Service) checkOwn(a *clientAssertion, at authority) *refusal {
	sp, ok := s.directory.ServicePrincipal(a.claims.Sub)
	_, explicit, managed := sp.ManagedIdentity()
	exchange := slices.Equal(a.claims.Aud, audiences{directory.TokenExchangeAppID}) || slices.Equal(a.claims.Aud, audiences{directory.TokenExchange})
	if !ok || !managed || !explicit || !sp.AccountEnabled || sp.AppID != a.claims.Azp || !exchange || a.claims.Iss != at.issuer(2, s.directory.TenantID()) {
		return refuse(codeFederatedOwn, "Entra ID tokens may only be used as assertions if a user-assigned managed identity obtained them, in version 2, for '%s'.", directory.TokenExchange)
	}
	key := s.ownKey(a.header.Kid)
	if a.header.Alg != string(jose.RS256) || key == nil || !a.signedBy(key) {
		return refuse(codeSignature, "JWT token failed signature validation: it is not signed by a key that this service publishes.")
	}
	return a.checkTime(s.now(), maxAssertionLife)
}

// ownKey is the published key of this id, or nil.
func (s *Service) ownKey(kid string) *rsa.PublicKey {
	for _, k := range s.keys.Load().public {
		if k.Kid == kid && k.key.published(s.now()) {
			return k.rsa
		}
	}
	return nil
}
