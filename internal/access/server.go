package access

import (
	"net/http"
	"strings"

	"tabard/guard/reason"
	"tabard/internal/settings"
)

// Server verifies the access-key token of a REST request (rest-api.md 5.1): its audience is the URL of the request,
// with the query or without. The error is a [*Refusal] with status 401.
//
// A token that was verified before is found again by its hash until it expires or its key is replaced; only its
// times and its audience are compared then.
func (v *Verifier) Server(in *settings.Instance, r *http.Request) error {
	token, refusal := bearer(r.Header)
	if refusal == nil {
		refusal = v.verifyServer(in, r, token)
	}
	if refusal != nil {
		return refusal
	}
	return nil
}

func (v *Verifier) verifyServer(in *settings.Instance, r *http.Request, token string) *Refusal {
	if in.DisableLocalAuth {
		return unauthorized(reason.LocalAuthDisabled, "Access keys are switched off for this instance.")
	}
	p, refusal := v.prove(&v.servers, token, func(claims, *proof) {}, in.Keys.Primary, in.Keys.Secondary)
	if refusal != nil {
		return refusal
	}
	path, query := r.URL.EscapedPath(), r.URL.RawQuery
	ok := v.allowed(in, r, p.audiences, func(resource string) bool {
		audPath, audQuery, withQuery := strings.Cut(resource, "?")
		return sameResource(audPath, path) && (!withQuery || sameResource(audQuery, query))
	})
	if !ok {
		return audienceMismatch(p.audiences, path)
	}
	return nil
}
