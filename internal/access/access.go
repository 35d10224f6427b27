// Package access decides who may call: it verifies the client access token of a WebSocket client and the token of a
// server that uses the REST API, which is signed with an access key or comes from a directory, and signs client access
// tokens.
//
// A developer whose token is refused wants to know which of its properties is wrong, and an attacker must learn
// nothing: so the signature is checked before any claim is looked at, and only then a [Refusal] names the claim.
// Nothing is accepted unverified. Tokens of access keys are compact JWS signed with HS256 and one of the instance's two
// keys, the key's text taken as it is; tokens of a directory are signed with RS256 and verified by package guard. The
// two ways never meet: each takes its own algorithm only. What "none", another algorithm, a missing expiry or somebody
// else's audience would gain is what the tests of this package try first.
//
// The package keeps no goroutine. It leaves to others which action an operation is, who has which role, and the shape
// in which a refusal is answered.
package access

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"time"

	"tabard/guard"
	"tabard/guard/reason"
	"tabard/internal/settings"
)

// Limits and tolerances.
const (
	MaxToken = 16 << 10        // bytes of one token; a longer one is refused unread
	Skew     = 5 * time.Minute // by which clocks may differ (client-protocols.md 2.3)

	// Verified tokens that are remembered, per generation. Full, both generations of both kinds hold about 8 MiB.
	maxSeenServers = 2048
	maxSeenClients = 512
)

// A Refusal says why a caller is not let in. Message is for that caller: it holds no key and no token, and claims
// only after the signature was found to be good.
type Refusal struct {
	// Status is 401; 403 for a known caller who may not do this; 400 for a token that is genuine and asks for something
	// impossible; 503 if the issuer of the token cannot be asked for its keys.
	Status  int
	Code    reason.Code
	Message string
	// Claims is the payload of a directory's token that was verified and does not suffice; nil otherwise.
	Claims json.RawMessage
	// Err is the failure behind a 503, for the log only.
	Err error
}

// Error returns the message.
func (r *Refusal) Error() string { return r.Message }

// Unwrap returns the failure behind the refusal, if there is one.
func (r *Refusal) Unwrap() error { return r.Err }

func unauthorized(code reason.Code, format string, args ...any) *Refusal {
	return &Refusal{Status: http.StatusUnauthorized, Code: code, Message: fmt.Sprintf(format, args...)}
}

// A Principal is a caller whom a directory vouches for. The zero Principal is whoever holds an access key.
type Principal struct {
	TenantID string
	ObjectID string // what roles are assigned to
	AppID    string // client id, for people; may be empty
}

// Options of [New]. The zero value accepts the audience of the request's own address only.
type Options struct {
	// Endpoints lists the origins under which clients reach an instance beside the address of the request itself,
	// such as "https://pubsub.example.com": public host names, and the real endpoint behind a reverse proxy.
	Endpoints func(*settings.Instance) []string
	// ServiceKey returns a key of the service's own for an instance. It signs the client tokens of those who hold no
	// access key and is always accepted for them. Nil or an empty key: none.
	ServiceKey func(*settings.Instance) string
	// Tokens verifies an access token of a directory for the data plane, audience included. Its errors are *guard.Error.
	// Nil: such tokens are not accepted.
	Tokens func(context.Context, string) (*guard.Claims, error)
	// Allowed tells whether a role of the principal allows a data action, such as
	// "Microsoft.SignalRService/WebPubSub/hub/send/action", at a scope, which is an ARM id. Nil: none does.
	Allowed func(p Principal, scope, action string) bool
	// Now is the clock; nil means time.Now.
	Now func() time.Time
}

// A Verifier checks tokens. It is safe for concurrent use.
type Verifier struct {
	opt              Options
	servers, clients seen
}

// New returns a Verifier.
func New(opt Options) *Verifier {
	if opt.Endpoints == nil {
		opt.Endpoints = func(*settings.Instance) []string { return nil }
	}
	if opt.ServiceKey == nil {
		opt.ServiceKey = func(*settings.Instance) string { return "" }
	}
	if opt.Allowed == nil {
		opt.Allowed = func(Principal, string, string) bool { return false }
	}
	if opt.Now == nil {
		opt.Now = time.Now
	}
	return &Verifier{opt: opt, servers: seen{size: maxSeenServers}, clients: seen{size: maxSeenClients}}
}
