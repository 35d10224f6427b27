// Package identity gives the service a token for an audience, as the one managed identity that an
// instance has. The callers are hot (every event to an authenticated handler asks), so a token is
// remembered per principal and resource, renewed ahead of time off the caller's path, and forgotten
// at once when the identity changes.
//
// Where tokens come from is a [Source]: the embedded token service, the platform of Azure, or any OAuth
// issuer. Who may hold an identity is the business of directory and settings; what a receiver makes of the
// token is guard's. Tokens live in memory only. [Cache.Close] ends the background work and waits for it.
package identity

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"log/slog"
	"strings"
	"time"
)

// A Principal is the managed identity that a token speaks for. It is comparable: two principals with the
// same fields share tokens, any difference keeps them apart.
type Principal struct {
	// Source names where its tokens come from; empty is the embedded token service. For other sources the ids below are
	// what is known of it here, not what its tokens say.
	Source string

	TenantID    string // GUID
	PrincipalID string // object id of the service principal: the claims oid and sub
	ClientID    string // the claim appid (v1) or azp (v2)

	// ResourceID is the ARM id behind the claim xms_mirid: that of the instance for a system-assigned
	// identity, that of the identity's own resource for a user-assigned one.
	ResourceID string
	// HostResourceID is the ARM id of the instance that a user-assigned identity is attached to, the claim
	// xms_az_rid; empty for a system-assigned identity.
	HostResourceID string
	// System tells a system-assigned identity from a user-assigned one.
	System bool
}

// A Token is one access token, immutable and shared between callers. It prints, logs and marshals as a
// redacted summary; only Authorization and Raw hold the secret.
type Token struct {
	// Authorization is {"Bearer …"}, ready to be put into an http.Header without allocating. Never mutate.
	Authorization []string
	Raw           string

	NotBefore time.Time
	ExpiresOn time.Time
	// RefreshOn is when the issuer advises to fetch the next token; zero if it gave no advice.
	RefreshOn time.Time

	// Claims is the decoded payload, safe to show (it cannot be replayed without the signature). It is
	// nil for an opaque token.
	Claims json.RawMessage
}

// NewToken wraps an access token as it came from an issuer. refreshOn may be zero. A raw that is not a
// signed JWT (an opaque or encrypted token) is carried all the same, without Claims.
func NewToken(raw string, notBefore, expiresOn, refreshOn time.Time) *Token {
	return &Token{
		Authorization: []string{"Bearer " + raw},
		Raw:           raw,
		NotBefore:     notBefore,
		ExpiresOn:     expiresOn,
		RefreshOn:     refreshOn,
		Claims:        payload(raw),
	}
}

// payload decodes the second of exactly three segments and returns it if it is a JSON object.
func payload(raw string) json.RawMessage {
	_, rest, ok := strings.Cut(raw, ".")
	if !ok {
		return nil
	}
	body, signature, ok := strings.Cut(rest, ".")
	if !ok || strings.Contains(signature, ".") {
		return nil
	}
	claims, err := base64.RawURLEncoding.Strict().DecodeString(body)
	if err != nil || len(claims) == 0 || claims[0] != '{' || !json.Valid(claims) {
		return nil
	}
	return claims
}

// String is a summary without the token.
func (t *Token) String() string {
	if t == nil {
		return "no token"
	}
	return "token (redacted) until " + t.ExpiresOn.UTC().Format(time.RFC3339)
}

// Format prints [Token.String] for every verb, so that not even %#v shows the secret.
func (t *Token) Format(f fmt.State, _ rune) { fmt.Fprint(f, t.String()) }

// LogValue logs [Token.String].
func (t *Token) LogValue() slog.Value { return slog.StringValue(t.String()) }

// MarshalJSON marshals [Token.String].
func (t *Token) MarshalJSON() ([]byte, error) { return json.Marshal(t.String()) }

// A Source obtains tokens from an issuer. It must be safe for concurrent use, honour ctx, and return either
// a token or an error. A refusal that trying again cannot change is an [*Error] with Permanent set; every
// other error is taken for a passing fault.
type Source interface {
	Token(ctx context.Context, p Principal, resource string) (*Token, error)
}

// A ClaimsSource is a Source that can be asked for a token that meets a receiver's claims challenge (identity.md 7.5).
type ClaimsSource interface {
	Source
	// TokenFor is Token, with the claims request of the challenge: a JSON object, as OpenID Connect's parameter claims.
	TokenFor(ctx context.Context, p Principal, resource, claims string) (*Token, error)
}

// An Error is an issuer's refusal or failure, in the words that operators of Azure know.
type Error struct {
	Code          string // such as "AADSTS500011"; empty if the issuer gave none
	Description   string // the issuer's sentence, beginning with the code; never holds a token
	CorrelationID string // finds the refusal in the issuer's log; may be empty
	Permanent     bool   // the same request will be refused again until something is changed
	Err           error  // the cause, may be nil
}

func (e *Error) Error() string {
	switch {
	case e.Description == "" && e.Err == nil:
		return "token refused: " + e.Code
	case e.Description == "":
		return "token refused: " + e.Code + ": " + e.Err.Error()
	default:
		return "token refused: " + e.Description
	}
}

func (e *Error) Unwrap() error { return e.Err }
