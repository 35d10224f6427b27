// Package access decides who may call: it verifies the client access token of a WebSocket client and the access-key
// token of a server that uses the REST API, and signs client access tokens.
//
// A developer whose token is refused wants to know which of its properties is wrong, and an attacker must learn
// nothing: so the signature is checked before any claim is looked at, and only then a [Refusal] names the claim.
// Nothing is accepted unverified. Tokens are compact JWS signed with HS256 and one of the instance's two access
// keys, the key's text taken as it is; what "none", another algorithm, a missing expiry or somebody else's audience
// would gain is what the tests of this package try first.
//
// The package keeps no goroutine. It leaves to others which permission an operation needs, and the shape in which a
// refusal is answered.
package access

import (
	"fmt"
	"net/http"
	"time"

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
	Status  int // 401, or 400 for a token that is genuine and asks for something impossible
	Code    reason.Code
	Message string
}

// Error returns the message.
func (r *Refusal) Error() string { return r.Message }

func unauthorized(code reason.Code, format string, args ...any) *Refusal {
	return &Refusal{http.StatusUnauthorized, code, fmt.Sprintf(format, args...)}
}

// Options of [New]. The zero value accepts the audience of the request's own address only.
type Options struct {
	// Endpoints lists the origins under which clients reach an instance beside the address of the request itself,
	// such as "https://pubsub.example.com": public host names, and the real endpoint behind a reverse proxy.
	Endpoints func(*settings.Instance) []string
	// ServiceKey returns a key of the service's own for an instance. It signs client tokens while the access keys
	// are switched off and is always accepted for them. Nil or an empty key: none.
	ServiceKey func(*settings.Instance) string
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
	if opt.Now == nil {
		opt.Now = time.Now
	}
	return &Verifier{opt: opt, servers: seen{size: maxSeenServers}, clients: seen{size: maxSeenClients}}
}

// ClientKey is the key to sign an instance's client tokens with: its primary access key, or the service's own while
// access keys are switched off. It reports false if there is none.
func (v *Verifier) ClientKey(in *settings.Instance) (string, bool) {
	key := in.Keys.Primary
	if in.DisableLocalAuth {
		key = v.opt.ServiceKey(in)
	}
	return key, key != ""
}
