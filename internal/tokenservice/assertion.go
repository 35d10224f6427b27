package tokenservice

import (
	"crypto/rsa"
	"encoding/base64"
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/go-jose/go-jose/v4"
	josejson "github.com/go-jose/go-jose/v4/json" // refuses members that are there twice, and other cases of a name

	"tabard/internal/directory"
)

const (
	assertionType = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
	// maxAssertion bounds a client assertion, in bytes; one with a certificate chain takes a few KiB.
	maxAssertion = 32 << 10
	// maxAssertionLife is how far in the future the end of an assertion may lie that the client itself signed.
	maxAssertionLife = 24 * time.Hour
	// maxForeignLife is the same for tokens of other issuers, some of which live long. It refuses ends in milliseconds.
	maxForeignLife = 366 * 24 * time.Hour
	maxKeyID       = 512 // bytes of a kid, thumbprints included
)

// A clientAssertion is a JWT in place of a secret, parsed but not verified.
type clientAssertion struct {
	jws    *jose.JSONWebSignature
	header assertionHeader
	claims assertionClaims
}

// assertionHeader is what is read of the header. Keys that it may bring along (jwk, jku, x5u, x5c) are not: a
// signature proves something only under a key that was registered or published before.
type assertionHeader struct {
	Alg     string              `json:"alg"`
	Kid     string              `json:"kid"`
	X5t     string              `json:"x5t"`
	X5tS256 string              `json:"x5t#S256"`
	Crit    josejson.RawMessage `json:"crit"`
	B64     josejson.RawMessage `json:"b64"`
}

type assertionClaims struct {
	Iss string    `json:"iss"`
	Sub string    `json:"sub"`
	Aud audiences `json:"aud"`
	Jti string    `json:"jti"`
	Exp *float64  `json:"exp"` // seconds; RFC 7519 allows fractions
	Nbf *float64  `json:"nbf"`
	Azp string    `json:"azp"`
}

// audiences is the claim aud: one text or a list of them.
type audiences []string

func (a *audiences) UnmarshalJSON(b []byte) error {
	if len(b) > 0 && b[0] == '[' {
		return josejson.Unmarshal(b, (*[]string)(a))
	}
	*a = make(audiences, 1)
	return josejson.Unmarshal(b, &(*a)[0])
}

// parseAssertion accepts the canonical form alone: three segments of base64url without padding, JSON objects without
// members that are there twice.
func parseAssertion(raw string, algorithms ...jose.SignatureAlgorithm) (*clientAssertion, *refusal) {
	malformed := func(why string) (*clientAssertion, *refusal) {
		return nil, refuse(codeAssertionMalformed, "JWT token is invalid or malformed: %s.", why)
	}
	if len(raw) > maxAssertion {
		return nil, refuse(codeAssertionMalformed, "JWT token is invalid or malformed: it has %d bytes, the limit is %d.", len(raw), maxAssertion)
	}
	segments := strings.Split(raw, ".")
	if len(segments) != 3 || segments[2] == "" {
		return malformed("it is not three segments, the last of which is the signature")
	}
	var decoded [3][]byte
	for i, segment := range segments {
		var err error
		if decoded[i], err = base64.RawURLEncoding.Strict().DecodeString(segment); err != nil || strings.ContainsAny(segment, "\r\n") {
			return malformed("a segment is not canonical base64url")
		}
	}
	a := new(clientAssertion)
	if josejson.Unmarshal(decoded[0], &a.header) != nil {
		return malformed("its header is not an object of the right form, or holds a member twice")
	}
	if !slices.Contains(algorithms, jose.SignatureAlgorithm(a.header.Alg)) {
		return nil, refuse(codeSignature, "JWT token failed signature validation: it is signed with %.20q, accepted is %v.", a.header.Alg, algorithms)
	}
	if a.header.Crit != nil || a.header.B64 != nil {
		return malformed("its header demands an extension that is not understood")
	}
	if len(a.header.Kid) > maxKeyID || len(a.header.X5t) > maxKeyID || len(a.header.X5tS256) > maxKeyID {
		return malformed("its header names a key by more than 512 bytes")
	}
	if josejson.Unmarshal(decoded[1], &a.claims) != nil {
		return malformed("its claims are not an object of the right form, or hold a member twice")
	}
	var err error
	if a.jws, err = jose.ParseSignedCompact(raw, algorithms); err != nil {
		return malformed("it is not a compact JWS")
	}
	for name, value := range map[string]string{"iss": a.claims.Iss, "sub": a.claims.Sub} {
		if value == "" {
			return nil, claimMissing(name)
		}
	}
	switch {
	case len(a.claims.Aud) == 0:
		return nil, claimMissing("aud")
	case a.claims.Exp == nil:
		return nil, claimMissing("exp")
	}
	return a, nil
}

func claimMissing(name string) *refusal {
	return refuse(codeClaimMissing, "The required field '%s' is missing from the credential. Ensure that you have all the necessary parameters for the login request.", name)
}

// signedBy tells whether the assertion's signature is the key's.
func (a *clientAssertion) signedBy(key *rsa.PublicKey) bool {
	_, err := a.jws.Verify(key)
	return err == nil
}

// until is the assertion's end.
func (a *clientAssertion) until() time.Time { return numericDate(*a.claims.Exp) }

// checkTime refuses an assertion that is not valid now, clocks being five minutes apart at most, or for too long.
func (a *clientAssertion) checkTime(now time.Time, longest time.Duration) *refusal {
	from := time.Time{}
	if a.claims.Nbf != nil {
		from = numericDate(*a.claims.Nbf)
	}
	until := a.until()
	switch {
	case !now.Before(until.Add(skew)), now.Add(skew).Before(from):
		return refuse(codeAssertionTime, "Client assertion is not within its valid time range. Current time: %s, assertion valid from %s, expiry time of assertion %s.", stamp(now), stamp(from), stamp(until))
	case until.After(now.Add(longest + skew)):
		return refuse(codeAssertionInvalid, "The assertion expires at %s, more than %v from now. Times are in seconds.", stamp(until), longest)
	}
	return nil
}

// numericDate reads seconds since 1970. What lies outside four-digit years becomes a moment far away.
func numericDate(seconds float64) time.Time {
	const year9999 = 253402300799
	return time.Unix(int64(max(0, min(seconds, year9999))), 0)
}

func stamp(t time.Time) string { return t.UTC().Format(time.RFC3339) }

// checkCertificate authenticates an application by an assertion that it signed itself (identity.md 4.3).
func (s *Service) checkCertificate(a *clientAssertion, app directory.Application, at authority) *refusal {
	if !strings.EqualFold(a.claims.Iss, app.AppID) || !strings.EqualFold(a.claims.Sub, app.AppID) {
		return refuse(codeAssertionClient, "Client assertion application identifier doesn't match 'client_id' parameter: 'iss' and 'sub' must be %s.", app.AppID)
	}
	invalid := func(reason string) *refusal {
		return refuse(codeAssertionSignature, "Client assertion contains an invalid signature. [Reason - %s]", reason)
	}
	spelled := a.header.X5tS256
	if spelled == "" {
		spelled = a.header.X5t
	}
	thumbprint, err := decodeThumbprint(spelled)
	if err != nil {
		return invalid("The header names no key: it needs 'x5t#S256' or 'x5t', the base64 of the certificate's thumbprint.")
	}
	registered, ok := app.Key(thumbprint)
	if !ok {
		return refuse(codeAssertionSignature, "Client assertion contains an invalid signature. [Reason - The key was not found., Thumbprint of key used by client: '%X'. Register the certificate for application '%s'.]", thumbprint, app.AppID)
	}
	public, err := registered.PublicKey()
	if err != nil || !a.signedBy(public) {
		return refuse(codeAssertionSignature, "Client assertion contains an invalid signature. [Reason - The provided signature value did not match the expected signature value., Thumbprint of key used by client: '%X']", thumbprint)
	}
	now := s.now()
	if now.Before(registered.StartDateTime) || !now.Before(registered.EndDateTime) {
		return refuse(codeCertificate, "The certificate with thumbprint '%X' is valid from %s to %s only.", thumbprint, stamp(registered.StartDateTime), stamp(registered.EndDateTime))
	}
	accepted := at.assertionAudiences(s.directory.TenantID())
	if len(a.claims.Aud) != 1 || !slices.Contains(accepted, a.claims.Aud[0]) {
		return refuse(codeAssertionInvalid, "Client assertion audience claim does not match Realm issuer: it is %.300q, must be %q.", []string(a.claims.Aud), accepted[0])
	}
	return a.checkTime(now, maxAssertionLife)
}

// assertionAudiences are what the aud of an assertion may be that is made for this service.
func (a authority) assertionAudiences(tenant string) []string {
	return []string{
		a.origin + "/" + tenant + "/oauth2/v2.0/token",
		a.origin + "/" + tenant + "/oauth2/token",
		a.issuer(2, tenant),
		a.issuer(1, tenant),
	}
}

// decodeThumbprint reads both spellings of base64, since MSAL Go writes the standard one and MSAL Node base64url.
func decodeThumbprint(s string) ([]byte, error) {
	s = strings.NewReplacer("+", "-", "/", "_").Replace(strings.TrimRight(s, "="))
	b, err := base64.RawURLEncoding.Strict().DecodeString(s)
	if err == nil && len(b) != 20 && len(b) != 32 {
		err = errors.New("no thumbprint has this length")
	}
	return b, err
}
