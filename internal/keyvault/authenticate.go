package keyvault

import (
	"context"
	"errors"
	"net"
	"net/http"
	"strings"

	"tabard/guard"
	"tabard/guard/reason"
	"tabard/internal/throttle"
)

// challenge is what a request without a usable token is told: where to get one, and for what. Clients parse it with
// little care: one space after the comma, no "=" or space within a value, the tenant as the whole path.
func (v *Vaults) challenge(resource string) string {
	return `Bearer authorization="` + strings.TrimSuffix(v.opt.Authority(), "/") + "/" + v.opt.TenantID + `", resource="` + resource + `"`
}

// challengeResource is what a client of the vault has to ask a token for. Clients refuse a resource whose host is not
// the domain around the vault's own, with the port that they used. On a bare host there is no such domain: Azure's
// resource is named, which every source of tokens knows, and clients have to be told to skip that check.
func challengeResource(vault, host string) string {
	host = strings.ToLower(host)
	domain, found := strings.CutPrefix(host, strings.ToLower(vault)+".")
	if !found || vault == "" || domain == "" || strings.ContainsAny(domain, "\" \\,=/") {
		return Resource
	}
	return "https://" + domain
}

// authenticate finds out who sent a request. The error is the answer to it.
func (v *Vaults) authenticate(r *http.Request, resource string) (*Caller, error) {
	headers := r.Header.Values("Authorization")
	if len(headers) == 0 {
		return nil, missingToken()
	}
	if v.opt.Admin != nil && v.opt.Admin(r) {
		return &Caller{Admin: true}, nil
	}
	scheme, token, _ := strings.Cut(headers[0], " ")
	if len(headers) > 1 || !strings.EqualFold(scheme, "Bearer") || token == "" {
		return nil, missingToken()
	}
	c, err := v.Identify(r.Context(), token, resource)
	if refused, ok := errors.AsType[*Error](err); ok && refused.Status == http.StatusUnauthorized {
		if wait := v.failures.Allow(throttle.Peer(r), v.now()); wait > 0 {
			return nil, throttled(wait)
		}
	}
	return c, err
}

// Identify verifies a token and says whose it is. resource is what the token should have been asked for, named when
// it was not; empty means Azure's. Errors are *Error, as the API answers them.
func (v *Vaults) Identify(ctx context.Context, token, resource string) (*Caller, error) {
	claims, err := v.opt.Verify(ctx, token)
	if err == nil {
		return &Caller{TenantID: claims.TenantID, ObjectID: claims.ObjectID, AppID: claims.AppID, Issuer: claims.Issuer, TokenID: claims.TokenID}, nil
	}
	if resource == "" {
		resource = Resource
	}
	refused, ok := errors.AsType[*guard.Error](err)
	if !ok || refused.Status == http.StatusServiceUnavailable {
		return nil, unavailable(err)
	}
	// What the token says of itself is only repeated to whoever sent it.
	said, _ := guard.Decode(token)
	if said != nil && said.Claims != nil && !strings.EqualFold(said.Claims.TenantID, v.opt.TenantID) && foreign(refused.Code) {
		a := strings.TrimSuffix(v.opt.Authority(), "/") + "/" + v.opt.TenantID
		return nil, unauthorized("AKV10032: Invalid issuer. Expected one of %s/, %s/v2.0, found %.200s.", a, a, printable(said.Claims.Issuer))
	}
	switch refused.Code {
	case reason.WrongAudience, reason.AudienceIsGraph, reason.AudienceIsList:
		found := ""
		if said != nil && said.Claims != nil {
			found = printable(said.Claims.Audience)
		}
		return nil, unauthorized("AKV10022: Invalid audience. Expected %s, found: %.200s.", resource, found)
	case reason.UnknownKey:
		return nil, unauthorized("AKV10046: Unable to resolve the key used for signature validation. %s", refused.Message)
	}
	return nil, unauthorized("Error validating token: %s (%s).", refused.Message, refused.Code)
}

// foreign tells whether a refusal may be due to the token's being of another tenant.
func foreign(code reason.Code) bool {
	switch code {
	case reason.UnknownKey, reason.SignatureInvalid, reason.WrongTenant, reason.IssuerMismatch, reason.KeyIssuerMismatch, reason.IssuerVersion:
		return true
	}
	return false
}

// printable keeps a text from outside on one line.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f || r == '\uFFFD' {
			return '?'
		}
		return r
	}, s)
}

func remoteHost(r *http.Request) string {
	host, _, err := net.SplitHostPort(r.RemoteAddr)
	if err != nil {
		return r.RemoteAddr
	}
	return host
}
