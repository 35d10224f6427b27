package reference

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"time"

	"tabard/guard/reason"
	"tabard/internal/identity"
	"tabard/internal/keyvault"
	"tabard/internal/settings"
)

// A place is where a secret is read, and for what a token is needed there.
type place struct {
	vault    string // embedded; empty: at the host of the identifier
	embedded bool
	resource string
}

// locate finds the place of a host. Everything but embedded vaults and one label before a known domain is refused, so
// that whoever may edit a template cannot have the identity's token sent to a host of his own.
func (r *Resolver) locate(uri settings.SecretURI) (place, *Error) {
	if vault, ok := r.opt.Locate(uri.Host); ok {
		return place{vault, true, keyvault.Resource}, nil
	}
	for _, d := range r.opt.Domains {
		label, ok := strings.CutSuffix(uri.Host, "."+strings.ToLower(d.Suffix))
		if ok && keyvault.ValidVaultName(label) {
			return place{resource: d.Resource}, nil
		}
	}
	known := make([]string, len(r.opt.Domains))
	for i, d := range r.opt.Domains {
		known[i] = "<vault>." + d.Suffix
	}
	return place{}, &Error{Code: reason.SecretHostNotAllowed, kind: final, Message: "the host " + uri.Host +
		" is neither an embedded vault's nor one of " + strings.Join(known, ", ")}
}

// token obtains the token for a place.
func (r *Resolver) token(ctx context.Context, in *settings.Instance, uri settings.SecretURI, at place) (*identity.Token, *Error) {
	if _, ok := whose(in); !ok {
		e := r.noIdentity(uri)
		e.kind = final
		return nil, e
	}
	tok, err := r.opt.Identity(ctx, in, at.resource)
	if err == nil {
		return tok, nil
	}
	e := &Error{Code: reason.TokenUnavailable, Message: "no token for " + at.resource + ": " + err.Error(), Err: err}
	if refused, ok := errors.AsType[*identity.Error](err); ok && refused.Permanent {
		e.kind = final
	}
	if r.opt.NoIdentity != nil && errors.Is(err, r.opt.NoIdentity) {
		e.Code, e.kind = reason.IdentityMissing, final
	}
	return nil, e
}

// fetch reads a secret once. Its caller owns the value.
func (r *Resolver) fetch(ctx context.Context, in *settings.Instance, uri settings.SecretURI) (*value, *Error) {
	at, err := r.locate(uri)
	if err != nil {
		return nil, err
	}
	tok, err := r.token(ctx, in, uri, at)
	if err != nil {
		return nil, err
	}
	start := time.Now()
	got, err := r.read(ctx, uri, at, tok)
	if r.opt.Observe != nil {
		var why reason.Code
		if err != nil {
			why = err.Code
		}
		r.opt.Observe(at.embedded, why, time.Since(start))
	}
	oid := claim(tok, "oid")
	if err != nil {
		err.oid = oid
		return nil, err
	}
	if !got.Expires.IsZero() && time.Now().After(got.Expires) {
		r.log.Warn("a secret is used after the time that it was meant to expire", "secret", uri.String(), "version", got.Version, "expired", got.Expires)
	}
	return &value{version: got.Version, oid: oid, since: time.Now(), bytes: got.Value}, nil
}

// read asks the vault.
func (r *Resolver) read(ctx context.Context, uri settings.SecretURI, at place, tok *identity.Token) (*keyvault.Secret, *Error) {
	if !at.embedded {
		return r.readAzure(ctx, uri, at, tok)
	}
	got, err := r.opt.Vaults.Read(ctx, tok.Raw, at.vault, uri.Name, uri.Version)
	if err == nil {
		return got, nil
	}
	answer, ok := errors.AsType[*keyvault.Error](err)
	if !ok {
		return nil, &Error{Code: reason.SecretUnavailable, Message: err.Error(), Err: err}
	}
	return nil, judge(answer.Status, answer.Inner, answer.Message)
}

// judge turns a vault's answer into an error.
func judge(status int, inner, message string) *Error {
	e := &Error{Status: status, Message: message, kind: refusal}
	switch {
	case status == http.StatusForbidden && inner == keyvault.InnerSecretDisabled:
		e.Code = reason.SecretDisabled
	case status == http.StatusUnauthorized, status == http.StatusForbidden:
		e.Code = reason.SecretDenied
	case status == http.StatusNotFound:
		e.Code = reason.SecretNotFound
	case status == http.StatusTooManyRequests, status == http.StatusRequestTimeout, status >= 500:
		e.Code, e.kind = reason.SecretUnavailable, passing
	default:
		e.Code = reason.SecretUnavailable
	}
	return e
}
