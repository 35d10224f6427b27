package tokenservice

import (
	"fmt"
	"strconv"
	"time"

	"github.com/google/uuid"

	"tabard/internal/identity"
)

// A code is the number of an error of the Microsoft identity platform, AADSTS followed by it. Users look
// their problem up by it, so each refusal has the one that Entra would give.
type code int

const (
	codeServer             code = 50000
	codeResourceInvalid    code = 50001
	codeCertificate        code = 50012
	codeAssertionInvalid   code = 50013
	codeAssertionMalformed code = 50027
	codeUnknownInstance    code = 50049
	codeIssuerUnreachable  code = 50166
	codeGrantType          code = 70003
	codeScopeInvalid       code = 70011
	codeNothingFederated   code = 70025
	codeTenantNotFound     code = 90002
	codeOwnURI             code = 90009
	codeClaimMissing       code = 90014
	codeTransient          code = 90033
	codeThrottled          code = 90055
	codeResourceNotFound   code = 500011
	codeNotAssigned        code = 501051
	codeClientNotFound     code = 700016
	codeAssertionClient    code = 700021
	codeManyResources      code = 700022
	codeNoResource         code = 700023
	codeAssertionTime      code = 700024
	codeAssertionSignature code = 700027
	codeFederatedIssuer    code = 700211
	codeFederatedAudience  code = 700212
	codeFederatedSubject   code = 700213
	codeFederatedOwn       code = 700229
	codeParameterMissing   code = 900144
	codeSignature          code = 900384
	codeVerb               code = 900561
	codeResourceOnV2       code = 901002
	codeScopeDefault       code = 1002012
	codeClientDisabled     code = 7000112
	codeSecretWrong        code = 7000215
	codeNoCredential       code = 7000218
	codeSecretExpired      code = 7000222
	codeFederatedCase      code = 7002138
	codeGrantOnCommon      code = 9001023
	codeMalformed          code = 9002313
)

// aadsts is how each code is answered (identity.md 4.6) and what it means in general. Of the codes listed there, those
// about users, consent, on-behalf-of and public clients have nothing here that they could be about.
var aadsts = map[code]struct {
	oauth  string // the OAuth error
	status int
	means  string
}{
	codeResourceInvalid:    {"invalid_resource", 400, "The resource is missing, malformed or disabled."},
	codeCertificate:        {"invalid_client", 401, "The certificate that signed the client assertion is registered, but not valid at this time."},
	codeAssertionInvalid:   {"invalid_client", 401, "The client assertion is for another audience, lives too long, or was presented before."},
	codeAssertionMalformed: {"invalid_client", 401, "The client assertion is not a well-formed signed JWT."},
	codeIssuerUnreachable:  {"invalid_request", 400, "The keys of the issuer of the client assertion could not be fetched. The operator finds the cause in the log."},
	codeScopeInvalid:       {"invalid_scope", 400, "The scope is malformed, or mixes .default with others."},
	codeNothingFederated:   {"invalid_client", 401, "The client has no federated identity credential."},
	codeOwnURI:             {"invalid_request", 400, "An application that asks for a token for itself names itself by its id, not by an identifier URI."},
	codeClaimMissing:       {"invalid_request", 400, "The credential lacks a field."},
	codeThrottled:          {"temporarily_unavailable", 429, "There were too many failed attempts for this client from this address, or too many requests. Wait as long as Retry-After says."},
	codeAssertionClient:    {"invalid_client", 401, "The client assertion speaks for another client than the request."},
	codeManyResources:      {"invalid_request", 400, "The scope names more than one resource."},
	codeNoResource:         {"invalid_request", 400, "The scope names no resource."},
	codeAssertionTime:      {"invalid_client", 401, "The client assertion is expired or not valid yet. Compare the clocks."},
	codeFederatedIssuer:    {"invalid_client", 401, "No federated identity credential of the client has the issuer of the assertion; they are compared byte for byte, a trailing slash included."},
	codeFederatedAudience:  {"invalid_client", 401, "The federated identity credential with the assertion's issuer and subject is for another audience."},
	codeFederatedSubject:   {"invalid_client", 401, "No federated identity credential of the client has the subject of the assertion."},
	codeFederatedOwn:       {"unauthorized_client", 400, "Of the tokens that this service issues, only those of user-assigned managed identities can be client assertions."},
	codeSignature:          {"invalid_request", 400, "The client assertion is not signed with RS256 by a key that its issuer publishes."},
	codeScopeDefault:       {"invalid_scope", 400, "The scope of client_credentials is a resource followed by /.default."},
	codeSecretExpired:      {"invalid_client", 401, "The client secret is the application's, but outside its time. Make a new one."},
	codeFederatedCase:      {"invalid_client", 401, "The subject of the assertion is that of a federated identity credential but for the case of letters."},
	codeUnknownInstance:    {"invalid_instance", 400, "The authority that the client asks about is not this one."},
	codeGrantType:          {"unsupported_grant_type", 400, "The grant type is not one that this endpoint supports."},
	codeTenantNotFound:     {"invalid_request", 400, "The tenant in the address is not one of this service."},
	codeTransient:          {"temporarily_unavailable", 503, "The service cannot answer at the moment. Try again."},
	codeServer:             {"server_error", 500, "The service is configured in a way that keeps it from answering. Its operator finds the cause in its log."},
	codeResourceNotFound:   {"invalid_resource", 400, "No application in the tenant has the resource as its id or identifier URI, or it has no service principal."},
	codeNotAssigned:        {"invalid_grant", 400, "The resource demands that callers are assigned one of its roles, and this caller is not."},
	codeClientNotFound:     {"unauthorized_client", 400, "No application or identity in the tenant has the client id. It may have been deleted."},
	codeAssertionSignature: {"invalid_client", 401, "The client assertion is not signed by a key that is registered for the application."},
	codeParameterMissing:   {"invalid_request", 400, "The request lacks a parameter."},
	codeVerb:               {"invalid_request", 400, "The endpoint does not take requests of this method."},
	codeResourceOnV2:       {"invalid_request", 400, "The parameter 'resource' belongs to the v1 endpoint; the v2 endpoint takes 'scope'."},
	codeClientDisabled:     {"unauthorized_client", 400, "The application or identity is disabled in the tenant."},
	codeSecretWrong:        {"invalid_client", 401, "The client secret is not one of the application's."},
	codeNoCredential:       {"invalid_client", 401, "The request carries neither a client secret nor a client assertion."},
	codeGrantOnCommon:      {"invalid_request", 400, "The grant type needs the address of a concrete tenant."},
	codeMalformed:          {"invalid_request", 400, "The request is malformed."},
}

func (c code) String() string { return "AADSTS" + strconv.Itoa(int(c)) }

// permanent tells whether asking again is pointless until someone changes something.
func (c code) permanent() bool { return c != codeTransient && c != codeThrottled }

// A refusal is an error of the platform with its own sentence. It travels as *identity.Error to callers in
// the process and as the body of identity.md 4.6 to others.
type refusal struct {
	code  code
	text  string
	cause error
	after time.Duration // of a passing refusal: when to come back; 0 means a second
}

func refuse(c code, format string, args ...any) *refusal {
	return &refusal{code: c, text: fmt.Sprintf(format, args...)}
}

func (r *refusal) Error() string { return r.code.String() + ": " + r.text }

func (r *refusal) Unwrap() error { return r.cause }

// identity is the refusal as a source of tokens gives it.
func (r *refusal) identity() *identity.Error {
	return &identity.Error{
		Code: r.code.String(), Description: r.Error(), CorrelationID: uuid.NewString(),
		Permanent: r.code.permanent(), Err: r.cause,
	}
}
