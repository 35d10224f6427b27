package access

import (
	"errors"
	"net/http"
	"strings"
	"unicode"
	"unicode/utf8"

	"tabard/guard"
	"tabard/guard/reason"
	"tabard/internal/settings"
)

// minRSASignature is the length in base64url of a signature by the shortest RSA key that guard accepts: 2048 bits.
const minRSASignature = (2048 + 5) / 6

// isRSA tells whether a token is to be judged as one of a directory. The length of its signature decides: that of HS256
// has 43 characters, that of RS256 342 at least. So nothing that an attacker writes into the header leads to a key of
// the other kind, and each way then insists on its own algorithm.
func isRSA(token string) bool {
	return len(token) <= MaxToken && len(token)-strings.LastIndexByte(token, '.')-1 >= minRSASignature
}

// verifyDirectory verifies a token of a directory and finds a role that allows the action.
func (v *Verifier) verifyDirectory(in *settings.Instance, r *http.Request, token, action string) (Principal, *Refusal) {
	if in.DisableAADAuth || v.opt.Tokens == nil {
		return Principal{}, unauthorized(reason.AADAuthDisabled, "Tokens of a directory are switched off for this instance.")
	}
	claims, err := v.opt.Tokens(r.Context(), token)
	if err != nil {
		return Principal{}, badToken(err)
	}
	p := Principal{TenantID: claims.TenantID, ObjectID: claims.ObjectID, AppID: claims.AppID}
	if !v.opt.Allowed(p, in.ResourceID(), action) {
		refusal := noRole(p, in, action)
		refusal.Claims = claims.Raw
		return Principal{}, refusal
	}
	return p, nil
}

// badToken turns a refusal of guard into one of this package.
func badToken(err error) *Refusal {
	var why *guard.Error
	if !errors.As(err, &why) {
		return &Refusal{Status: http.StatusServiceUnavailable, Code: reason.DiscoveryFailed, Message: "The token cannot be verified at the moment.", Err: err}
	}
	return &Refusal{Status: why.Status, Code: why.Code, Message: sentence(why.Message), Err: why.Err}
}

// sentence gives guard's message, which goes on from a code, the form of one that stands alone.
func sentence(message string) string {
	first, size := utf8.DecodeRuneInString(message)
	return string(unicode.ToUpper(first)) + message[size:] + "."
}

func noRole(p Principal, in *settings.Instance, action string) *Refusal {
	r := unauthorized(reason.RoleUnassigned, "The principal with the object id %q has no role that allows %s at %s.", p.ObjectID, action, in.ResourceID())
	r.Status = http.StatusForbidden
	return r
}

// connectAction is what a principal must be allowed for the client tokens that were signed on its behalf
// (DOC-RBAC, concept-azure-ad-authorization.md).
const connectAction = "Microsoft.SignalRService/WebPubSub/clientConnection/write"

// keyID names the principal in the header of a client token of the service's own key. It is not among the claims,
// because those are shown to event handlers.
func (p Principal) keyID() string {
	if p == (Principal{}) {
		return ""
	}
	return p.TenantID + "/" + p.ObjectID
}

// mayStillConnect tells whether the principal for whom a client token of the service's own key was signed may still
// let clients in: taking its role away ends what it gave out. A token without a principal is the service's own.
func (v *Verifier) mayStillConnect(in *settings.Instance, kid string) *Refusal {
	if kid == "" {
		return nil
	}
	var p Principal
	p.TenantID, p.ObjectID, _ = strings.Cut(kid, "/")
	if !v.opt.Allowed(p, in.ResourceID(), connectAction) {
		return noRole(p, in, connectAction)
	}
	return nil
}

// ErrNoKey says that nothing can sign a client token: access keys are switched off and the service has no key.
var ErrNoKey = errors.New("there is no key to sign a client token with")

// SignFor makes a client access token for a caller of the REST API: for a holder of an access key with the primary
// one, so that regenerating that ends it; for a principal of a directory, or while access keys are switched off, with
// the service's own. ErrNoKey.
func (v *Verifier) SignFor(in *settings.Instance, p Principal, o ClientTokenOptions) (string, error) {
	key := in.Keys.Primary
	if o.keyID = p.keyID(); o.keyID != "" || in.DisableLocalAuth {
		key = v.opt.ServiceKey(in)
	}
	if key == "" {
		return "", ErrNoKey
	}
	return SignClientToken(key, o)
}
