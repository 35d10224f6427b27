package keyvault

import (
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"
)

// An Error is an answer of the vault other than success, in the shape of the Key Vault API. Every status and code of
// the data plane is born in this file; clients decide on Status, Code and Inner, so these are Azure's exactly.
type Error struct {
	Status  int
	Code    string        // error.code
	Inner   string        // error.innererror.code; may be empty
	Message string        // error.message
	Retry   time.Duration // Retry-After; 0: none
	// Err is the cause of a 5xx, for the log; callers are not told.
	Err error
}

func (e *Error) Error() string {
	text := fmt.Sprintf("%d %s", e.Status, e.Code)
	if e.Inner != "" {
		text += " (" + e.Inner + ")"
	}
	return text + ": " + e.Message
}

func (e *Error) Unwrap() error { return e.Err }

// The codes that callers decide on.
const (
	codeBadParameter = "BadParameter"
	codeUnauthorized = "Unauthorized"
	codeForbidden    = "Forbidden"
	codeNotFound     = "SecretNotFound"
	codeConflict     = "Conflict"

	InnerAccessDenied   = "AccessDenied"
	InnerForbiddenRBAC  = "ForbiddenByRbac"
	InnerSecretDisabled = "SecretDisabled"
)

func badParameter(format string, args ...any) *Error {
	return &Error{Status: http.StatusBadRequest, Code: codeBadParameter, Message: fmt.Sprintf(format, args...)}
}

func tooLarge(limit int) *Error {
	return &Error{Status: http.StatusRequestEntityTooLarge, Code: codeBadParameter, Message: fmt.Sprintf("The request body is larger than %d bytes.", limit)}
}

func unauthorized(format string, args ...any) *Error {
	return &Error{Status: http.StatusUnauthorized, Code: codeUnauthorized, Message: fmt.Sprintf(format, args...)}
}

func missingToken() *Error {
	return unauthorized("AKV10000: Request is missing a Bearer or PoP token.")
}

func throttled(after time.Duration) *Error {
	return &Error{Status: http.StatusTooManyRequests, Code: "Throttled", Message: "Too many requests with bad tokens came from this address.", Retry: after}
}

func plainHTTP() *Error {
	return &Error{Status: http.StatusForbidden, Code: codeForbidden, Message: "Vaults are served over https only. A token that was sent with this request was visible on the network: use the https address, and consider the token lost."}
}

func (c *Caller) String() string {
	return "appid=" + c.AppID + ";oid=" + c.ObjectID + ";iss=" + c.Issuer
}

func accessDenied(v *Vault, c *Caller, permission string) *Error {
	return &Error{Status: http.StatusForbidden, Code: codeForbidden, Inner: InnerAccessDenied, Message: fmt.Sprintf(
		"The user, group or application '%s' does not have secrets %s permission on key vault '%s;location=%s'.", c, permission, v.Name, v.Location)}
}

func forbiddenByRBAC(v *Vault, c *Caller, action, scope string) *Error {
	return &Error{Status: http.StatusForbidden, Code: codeForbidden, Inner: InnerForbiddenRBAC, Message: fmt.Sprintf(
		"Caller is not authorized to perform action on resource.\r\nCaller: %s\r\nAction: '%s'\r\nResource: '%s'\r\nAssignment: (not found)\r\nVault: %s;location=%s\r\n",
		c, action, strings.ToLower(scope), v.Name, v.Location)}
}

func purgeProtected(name string) *Error {
	return &Error{Status: http.StatusForbidden, Code: codeForbidden, Inner: "ForbiddenByPolicy", Message: fmt.Sprintf(
		"Operation \"purge\" is not allowed because purge protection is enabled for this vault. Secret %s goes when its retention period is over.", name)}
}

func secretDisabled() *Error {
	return &Error{Status: http.StatusForbidden, Code: codeForbidden, Inner: InnerSecretDisabled, Message: "Operation get is not allowed on a disabled secret."}
}

func vaultNotFound() *Error {
	return &Error{Status: http.StatusNotFound, Code: "VaultNotFound", Message: "There is no vault at this address."}
}

func noSuchPath() *Error {
	return &Error{Status: http.StatusNotFound, Code: "NotFound", Message: "The path is not one of the secrets API."}
}

func wrongMethod(method string) *Error {
	return &Error{Status: http.StatusMethodNotAllowed, Code: "MethodNotAllowed", Message: fmt.Sprintf("The method %.20q is not one of this path.", method)}
}

func secretNotFound(id string) *Error {
	return &Error{Status: http.StatusNotFound, Code: codeNotFound, Message: fmt.Sprintf(
		"A secret with (name/id) %s was not found in this key vault. If you recently deleted this secret you may be able to recover it using the correct recovery command.", id)}
}

func deletedSecretNotFound(name string) *Error {
	return &Error{Status: http.StatusNotFound, Code: codeNotFound, Message: "Deleted Secret not found: " + name}
}

func conflict(inner, format string, args ...any) *Error {
	return &Error{Status: http.StatusConflict, Code: codeConflict, Inner: inner, Message: fmt.Sprintf(format, args...)}
}

// marked is the answer to a use of a name that is deleted, or about to be something else.
func marked(m *mark, name string) *Error {
	switch m.State {
	case purging:
		return conflict("ObjectIsBeingDeleted", "Secret %s is currently being deleted and cannot be re-created; retry later.", name)
	case restoring:
		return conflict("ObjectIsBeingRecovered", "Secret %s is currently being recovered or restored; retry later.", name)
	}
	return conflict("ObjectIsDeletedButRecoverable", "Secret %s is currently in a deleted but recoverable state, and its name cannot be reused; in this state, the secret can only be recovered or purged.", name)
}

func badBackup() *Error {
	return badParameter("Backup blob is malformed, was altered, or comes from another installation.")
}

// unavailable is the answer to a failure of our own.
func unavailable(err error) *Error {
	if known, ok := errors.AsType[*Error](err); ok {
		return known
	}
	return &Error{Status: http.StatusServiceUnavailable, Code: "ServiceUnavailable", Message: "The vault cannot do this now; try again.", Retry: time.Second, Err: err}
}
