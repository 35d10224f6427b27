package access

import (
	"net/http"
	"strings"

	"tabard/guard/reason"
	"tabard/internal/settings"
)

// Server decides whether a REST request may do a data action, such as
// "Microsoft.SignalRService/WebPubSub/hub/send/action". The error is a [*Refusal].
//
// The bearer is a token that was signed with an access key (rest-api.md 5.1), which may do everything and whose
// audience is the URL of the request, with the query or without; or a token of a directory (rest-api.md 5.3), whose
// principal needs a role that allows the action at the instance. Who it is, is returned.
//
// A token that was verified before is found again by its hash until it expires or its key is replaced; only its
// times and its audience, or the roles of its principal, are looked at then.
func (v *Verifier) Server(in *settings.Instance, r *http.Request, action string) (Principal, error) {
	token, refusal := bearer(r.Header)
	if refusal != nil {
		return Principal{}, refusal
	}
	if isRSA(token) {
		p, refusal := v.verifyDirectory(in, r, token, action)
		if refusal != nil {
			return Principal{}, refusal
		}
		return p, nil
	}
	if refusal := v.verifyServer(in, r, token); refusal != nil {
		return Principal{}, refusal
	}
	return Principal{}, nil
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
