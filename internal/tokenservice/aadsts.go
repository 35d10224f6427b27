package tokenservice

import (
	"fmt"
	"strconv"

	"github.com/google/uuid"

	"tabard/internal/identity"
)

// A code is the number of an error of the Microsoft identity platform, AADSTS followed by it. Users look
// their problem up by it, so each refusal has the one that Entra would give.
type code int

const (
	codeServer             code = 50000
	codeResourceInvalid    code = 50001
	codeUnknownInstance    code = 50049
	codeGrantType          code = 70003
	codeTenantNotFound     code = 90002
	codeTransient          code = 90033
	codeResourceNotFound   code = 500011
	codeNotAssigned        code = 501051
	codeClientNotFound     code = 700016
	codeAssertionSignature code = 700027
	codeParameterMissing   code = 900144
	codeVerb               code = 900561
	codeResourceOnV2       code = 901002
	codeClientDisabled     code = 7000112
	codeSecretWrong        code = 7000215
	codeNoCredential       code = 7000218
	codeGrantOnCommon      code = 9001023
	codeMalformed          code = 9002313
)

// aadsts is how each code is answered (identity.md 4.6) and what it means in general.
var aadsts = map[code]struct {
	oauth  string // the OAuth error
	status int
	means  string
}{
	codeResourceInvalid:    {"invalid_resource", 400, "The resource is missing, malformed or disabled."},
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
func (c code) permanent() bool { return c != codeTransient }

// A refusal is an error of the platform with its own sentence. It travels as *identity.Error to callers in
// the process and as the body of identity.md 4.6 to others.
type refusal struct {
	code  code
	text  string
	cause error
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
