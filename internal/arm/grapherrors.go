package arm

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"tabard/internal/directory"
	"tabard/internal/settings"
)

// A graphError is a refusal in Microsoft Graph's envelope. Every status and code of the surface is born in this file.
type graphError struct {
	Status  int           `json:"-"`
	Code    string        `json:"code"`
	Message string        `json:"message"`
	Details []graphDetail `json:"details,omitempty"`
	Inner   graphInner    `json:"innerError"`
}

type graphDetail struct {
	Code    string `json:"code"`
	Target  string `json:"target"`
	Message string `json:"message"`
}

type graphInner struct {
	Date            string `json:"date"`
	RequestID       string `json:"request-id"`
	ClientRequestID string `json:"client-request-id"`
}

func (e *graphError) Error() string { return e.Code + ": " + e.Message }

func refuseGraph(status int, code, format string, args ...any) *graphError {
	return &graphError{Status: status, Code: code, Message: fmt.Sprintf(format, args...)}
}

func objectNotFound(id string) *graphError {
	return refuseGraph(http.StatusNotFound, "Request_ResourceNotFound", "Resource '%s' does not exist or one of its queried reference-property objects are not present.", id)
}

func unsupportedQuery(format string, args ...any) *graphError {
	return refuseGraph(http.StatusBadRequest, "Request_UnsupportedQuery", format, args...)
}

func principalExists(appID string) *graphError {
	return refuseGraph(http.StatusConflict, "Request_MultipleObjectsWithSameKeyValue",
		"The service principal cannot be created, updated, or restored because the service principal name %s is already in use.", appID)
}

func noBackingApplication(appID string) *graphError {
	return refuseGraph(http.StatusBadRequest, "Request_BadRequest", "The appId '%s' of the service principal does not reference a valid application object.", appID)
}

func managedByARM(id string) *graphError {
	return refuseGraph(http.StatusForbidden, "Authorization_RequestDenied", "Service principal '%s' belongs to a managed identity; it is deleted with that, through the control plane.", id)
}

func noCredential(kind, keyID string) *graphError {
	return refuseGraph(http.StatusBadRequest, "Request_BadRequest", "No %s credential found with keyId '%s'.", kind, keyID)
}

func sameFederated(err error) *graphError {
	return refuseGraph(http.StatusConflict, "Request_MultipleObjectsWithSameKeyValue", "The federated identity credential conflicts with one that the application has: %v.", err)
}

func assignedAlready(err error) *graphError {
	return refuseGraph(http.StatusBadRequest, "Request_BadRequest", "Permission being assigned already exists on the object: %v.", err)
}

// invalidObject is the answer to properties that are not acceptable: one detail for each, all at once.
func invalidObject(faults settings.Faults) *graphError {
	e := &graphError{Status: http.StatusBadRequest, Code: "Request_BadRequest"}
	messages := make([]string, len(faults))
	for i, f := range faults {
		messages[i] = fmt.Sprintf("Invalid value specified for property '%s': %s.", f.Field, f.Problem)
		e.Details = append(e.Details, graphDetail{Code: "InvalidValue", Target: f.Field, Message: messages[i]})
	}
	e.Message = strings.Join(messages, " ")
	return e
}

// validationFaults collects the faults in an error of the directory, which joins them.
func validationFaults(err error) settings.Faults {
	switch e := err.(type) {
	case *directory.ValidationError:
		return settings.Faults{{Field: e.Field, Problem: e.Message}}
	case interface{ Unwrap() []error }:
		var faults settings.Faults
		for _, err := range e.Unwrap() {
			faults = append(faults, validationFaults(err)...)
		}
		return faults
	case interface{ Unwrap() error }:
		return validationFaults(e.Unwrap())
	}
	return nil
}

// toGraph finds the envelope of any error. What it does not know is the service's fault and told to the log only.
func (s *server) toGraph(c *call, err error) *graphError {
	var (
		known    *graphError
		faults   settings.Faults
		caller   *unauthorized
		denied   *Refusal
		path     *unrouted
		method   *methodNotAllowed
		content  *badJSON
		media    *badMediaType
		tooLarge *http.MaxBytesError
	)
	const unreadable = "Unable to read JSON request payload. Please ensure Content-Type header is set and payload is of valid JSON format: "
	switch {
	case errors.As(err, &known):
		return known
	case errors.As(err, &faults):
		return invalidObject(faults)
	case errors.As(err, &caller):
		return refuseGraph(http.StatusUnauthorized, "InvalidAuthenticationToken", "%v", caller.err)
	case errors.As(err, &denied) && denied.Status == http.StatusForbidden:
		return refuseGraph(denied.Status, "Authorization_RequestDenied", "Insufficient privileges to complete the operation. %s", denied.Message)
	case errors.As(err, &denied):
		return refuseGraph(http.StatusServiceUnavailable, "ServiceUnavailable", "%s", denied.Message)
	case errors.As(err, &path):
		return refuseGraph(http.StatusBadRequest, "BadRequest", "Resource not found for the path '%s'.", path.path)
	case errors.As(err, &method):
		return refuseGraph(http.StatusMethodNotAllowed, "Request_BadRequest", "Specified HTTP method is not allowed for the request target.")
	case errors.As(err, &content):
		return refuseGraph(http.StatusBadRequest, "Request_BadRequest", unreadable+"%s.", content.problem)
	case errors.As(err, &media):
		return refuseGraph(http.StatusBadRequest, "Request_BadRequest", unreadable+"its media type is %q.", media.given)
	case errors.As(err, &tooLarge):
		return refuseGraph(http.StatusRequestEntityTooLarge, "RequestEntityTooLarge", "The request body is larger than the limit of %d bytes.", maxBody)
	case errors.Is(err, directory.ErrConflict):
		return refuseGraph(http.StatusBadRequest, "Request_BadRequest", "Another object with the same value for property identifierUris already exists: %v.", err)
	case errors.Is(err, directory.ErrQuota):
		return refuseGraph(http.StatusForbidden, "Directory_QuotaExceeded", "%v.", err)
	case errors.Is(err, directory.ErrNotFound):
		return refuseGraph(http.StatusNotFound, "Request_ResourceNotFound", "The object does not exist.")
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, context.Canceled):
		return refuseGraph(http.StatusServiceUnavailable, "ServiceUnavailable", "The store did not answer in time; try again.")
	}
	if faults := validationFaults(err); faults != nil {
		return invalidObject(faults)
	}
	s.logFailure(c, err)
	return refuseGraph(http.StatusInternalServerError, "InternalServerError", "The service failed to handle the request; its log has the cause under request id %s.", c.id)
}

// answerGraph writes a reply or an error with Graph's headers.
func (s *server) answerGraph(c *call, rep reply, err error) {
	h := c.w.Header()
	own := c.r.Header.Get("client-request-id")
	if own == "" || len(own) > 128 {
		own = c.id
	}
	own = headerText(own)
	h.Set("request-id", c.id)
	h.Set("client-request-id", own)
	h.Set("OData-Version", "4.0")
	if err != nil {
		e := s.toGraph(c, err)
		answer := *e
		answer.Inner = graphInner{Date: time.Now().UTC().Format("2006-01-02T15:04:05"), RequestID: c.id, ClientRequestID: own}
		rep = reply{e.Status, struct {
			Error graphError `json:"error"`
		}{answer}}
		var method *methodNotAllowed
		switch {
		case e.Status == http.StatusUnauthorized:
			h.Set("WWW-Authenticate", fmt.Sprintf(`Bearer realm="", authorization_uri="%s/common/oauth2/authorize", client_id="00000003-0000-0000-c000-000000000000"`, s.Authority()))
		case errors.As(err, &method):
			h.Set("Allow", strings.Join(method.allowed, ", "))
		case e.Status == http.StatusServiceUnavailable:
			h.Set("Retry-After", "1")
		}
	}
	c.write(rep)
}

// isGraph tells whether a path belongs to the Graph surface, routed or not.
func isGraph(path string) bool {
	first, _, _ := strings.Cut(strings.TrimLeft(path, "/"), "/")
	return strings.EqualFold(first, "v1.0")
}
