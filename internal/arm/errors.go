package arm

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"

	"tabard/internal/directory"
	"tabard/internal/settings"
	"tabard/internal/trace"
)

// An armError is a refusal in ARM's envelope (spec: Azure/azure-resource-manager-rpc, common-api-details.md). Every
// status and code of the surface is born in this file.
type armError struct {
	Status  int         `json:"-"`
	Code    string      `json:"code"`
	Message string      `json:"message"`
	Target  string      `json:"target,omitempty"` // JSON path of the field
	Details []*armError `json:"details,omitempty"`
}

func (e *armError) Error() string { return e.Code + ": " + e.Message }

func refuse(status int, code, format string, args ...any) *armError {
	return &armError{Status: status, Code: code, Message: fmt.Sprintf(format, args...)}
}

func (e *armError) at(target string) *armError {
	e.Target = target
	return e
}

// invalid is the answer to a body that is JSON but not acceptable: one detail for each fault, all at once.
func invalid(faults settings.Faults) *armError {
	e := &armError{Status: http.StatusBadRequest, Code: "BadRequest"}
	messages := make([]string, len(faults))
	for i, f := range faults {
		messages[i] = f.Field + " " + f.Problem
		e.Details = append(e.Details, &armError{Code: "BadRequest", Message: messages[i], Target: f.Field})
	}
	e.Message = strings.Join(messages, "; ")
	if len(faults) == 1 {
		e.Target = faults[0].Field
	}
	return e
}

func invalidContent(format string, args ...any) *armError {
	return refuse(http.StatusBadRequest, "InvalidRequestContent", "The request content was invalid: "+format, args...)
}

func contentTooLarge() *armError {
	return refuse(http.StatusRequestEntityTooLarge, "RequestContentTooLarge", "The request content is larger than the limit of %d bytes.", maxBody)
}

func unsupportedMediaType(given string) *armError {
	return refuse(http.StatusUnsupportedMediaType, "UnsupportedMediaType", "The content media type %q is not supported. Only 'application/json' is supported.", given)
}

func resourceNotFound(kind, name, group string) *armError {
	return refuse(http.StatusNotFound, "ResourceNotFound", "The Resource '%s/%s' under resource group '%s' was not found.", kind, name, group)
}

func parentNotFound(kind, parent string) *armError {
	return refuse(http.StatusNotFound, "ParentResourceNotFound", "Failed to perform the operation on a resource of type '%s', because its parent resource '%s' could not be found.", kind, parent)
}

func subscriptionNotFound(id string) *armError {
	return refuse(http.StatusNotFound, "SubscriptionNotFound", "The subscription '%s' could not be found.", id)
}

func invalidSubscription(id string) *armError {
	return refuse(http.StatusBadRequest, "InvalidSubscriptionId", "The provided subscription identifier '%s' is malformed or invalid.", id)
}

func invalidGroup(name string) *armError {
	return refuse(http.StatusBadRequest, "InvalidResourceGroup", "The provided resource group name '%s' is invalid: 1 to 90 letters, digits and -_.() are allowed, not ending in a period.", name)
}

func invalidNamespace(name string) *armError {
	return refuse(http.StatusNotFound, "InvalidResourceNamespace", "The resource namespace '%s' is invalid.", name)
}

func nameTaken(name string) *armError {
	return refuse(http.StatusConflict, "NameAlreadyExists", "The name '%s' is already taken by a resource in another resource group; names are unique within the service.", name).at("name")
}

// oneIdentity refuses what the enumeration of identities cannot say: an instance has one managed identity at a time.
func oneIdentity(format string, args ...any) *armError {
	const rule = "A Web PubSub resource supports only one managed identity at a time: none, the system-assigned one, or one user-assigned identity."
	return refuse(http.StatusBadRequest, "InvalidIdentity", "%s %s", fmt.Sprintf(format, args...), rule).at("identity")
}

func identityUnknown(id string) *armError {
	return refuse(http.StatusBadRequest, "FailedIdentityOperation", "The identity operation failed: no user-assigned identity has the id '%s'.", id).at("identity.userAssignedIdentities")
}

func sameIssuerAndSubject(err error) *armError {
	return refuse(http.StatusConflict, "IssuerSubjectConflict", "Issuer and subject combination already exists for this identity: %v.", err)
}

// linkedAuthorizationFailed is the answer to who may change a resource, but not do with another what the change needs.
func linkedAuthorizationFailed(message string) *armError {
	return refuse(http.StatusForbidden, "LinkedAuthorizationFailed", "The change needs permission on a linked scope, too. %s", message)
}

func changedMeanwhile() *armError {
	return refuse(http.StatusConflict, "Conflict", "Another operation on this resource is in progress; try again.")
}

func preconditionFailed(header string) *armError {
	return refuse(http.StatusPreconditionFailed, "PreconditionFailed", "The condition of the header '%s' is not met: the resource is not as the caller knows it.", header)
}

func notSupported(message string) *armError {
	return refuse(http.StatusBadRequest, "FeatureNotSupported", "%s", message)
}

func inUse(format string, args ...any) *armError {
	return refuse(http.StatusConflict, "ResourceInUse", format, args...)
}

func groupNotFound(name string) *armError {
	return refuse(http.StatusNotFound, "ResourceGroupNotFound", "Resource group '%s' could not be found.", name)
}

func groupLocation(name, is, wanted string) *armError {
	return refuse(http.StatusConflict, "InvalidResourceGroupLocation", "Invalid resource group location '%s'. The resource group '%s' already exists in location '%s'.", wanted, name, is).at("location")
}

func badResourceFilter() *armError {
	return refuse(http.StatusBadRequest, "InvalidFilterInQueryString", "The $filter is not supported. Supported are resourceType eq '{type}', resourceGroup eq '{name}' and name eq '{name}', joined by 'and'.")
}

func assignmentNotFound(id string) *armError {
	return refuse(http.StatusNotFound, "RoleAssignmentNotFound", "The role assignment '%s' is not found.", id)
}

func invalidAssignmentID(id string) *armError {
	return refuse(http.StatusBadRequest, "InvalidRoleAssignmentId", "The role assignment ID '%s' is not valid. The role assignment ID must be a GUID.", id)
}

func definitionNotFound(id string) *armError {
	return refuse(http.StatusNotFound, "RoleDefinitionDoesNotExist", "The specified role definition with ID '%s' does not exist.", id)
}

func principalNotFound(id, tenant string) *armError {
	return refuse(http.StatusBadRequest, "PrincipalNotFound", "Principal '%s' does not exist in the directory '%s'. Check that you have the correct principal ID.", id, tenant)
}

func (e *armError) hint(text string) *armError {
	e.Message += " " + text
	return e
}

func badFilter(supported string) *armError {
	return refuse(http.StatusBadRequest, "UnsupportedQuery", "The $filter is not supported. Supported are %s, joined by 'and'.", supported)
}

func recordNotFound(id string) *armError {
	return refuse(http.StatusNotFound, "RecordNotFound", "The trace has no record with the id '%s'; it may have made room for newer ones.", id)
}

func contentNotKept(id uint64) *armError {
	return refuse(http.StatusConflict, "ContentNotKept", "What was sent for record %d is not kept: it is no delivery, had more than %d bytes, or has made room for newer ones.", id, trace.MaxContent)
}

func tooManyFollowers() *armError {
	return refuse(http.StatusTooManyRequests, "TooManyRequests", "%d live traces are open already; close one of them.", maxFollowers)
}

func unknownVersion(v *versions, kind, version string) *armError {
	return refuse(http.StatusBadRequest, "NoRegisteredProviderFound", "No registered resource provider found for API version '%s' for type '%s' of '%s'. The supported api-versions are '%s'.",
		version, kind, v.namespace, strings.Join(v.list, ", "))
}

func missingVersion() *armError {
	return refuse(http.StatusBadRequest, "MissingApiVersionParameter", "The api-version query parameter (?api-version=) is required for all requests.")
}

func malformedVersion(version string) *armError {
	return refuse(http.StatusBadRequest, "InvalidApiVersionParameter", "The api-version '%s' is invalid; it has the form yyyy-mm-dd, followed by -preview if it is one.", version)
}

// toARM finds the envelope of any error. What it does not know is the service's fault and told to the log only.
func (s *server) toARM(c *call, err error) *armError {
	var (
		known    *armError
		faults   settings.Faults
		caller   *unauthorized
		denied   *Refusal
		path     *unrouted
		method   *methodNotAllowed
		content  *badJSON
		media    *badMediaType
		tooLarge *http.MaxBytesError
	)
	switch {
	case errors.As(err, &known):
		return known
	case errors.As(err, &faults):
		return invalid(faults)
	case errors.As(err, &caller):
		return refuse(http.StatusUnauthorized, "AuthenticationFailed", "Authentication failed: %v", caller.err)
	case errors.As(err, &denied) && denied.Status == http.StatusForbidden:
		return refuse(denied.Status, "AuthorizationFailed", "%s", denied.Message)
	case errors.As(err, &denied):
		return refuse(http.StatusServiceUnavailable, "ServiceUnavailable", "%s", denied.Message)
	case errors.As(err, &path):
		return refuse(http.StatusNotFound, "InvalidResourceType", "No resource type or operation of this service has the path '%s'.", path.path)
	case errors.As(err, &method):
		return refuse(http.StatusMethodNotAllowed, "MethodNotAllowed", "The HTTP method '%s' is not supported here; allowed are %s.", method.method, strings.Join(method.allowed, ", "))
	case errors.As(err, &content):
		return invalidContent("%s.", content.problem)
	case errors.As(err, &media):
		return unsupportedMediaType(media.given)
	case errors.As(err, &tooLarge):
		return contentTooLarge()
	case errors.Is(err, directory.ErrQuota):
		return refuse(http.StatusConflict, "QuotaExceeded", "%v.", err)
	case errors.Is(err, settings.ErrConflict), errors.Is(err, directory.ErrConflict):
		return changedMeanwhile()
	case errors.Is(err, settings.ErrNotFound), errors.Is(err, directory.ErrNotFound):
		return refuse(http.StatusNotFound, "ResourceNotFound", "The resource was not found.")
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, context.Canceled):
		return refuse(http.StatusServiceUnavailable, "ServiceUnavailable", "The store did not answer in time; try again.")
	}
	if faults := validationFaults(err); faults != nil {
		return invalid(faults)
	}
	s.logFailure(c, err)
	return refuse(http.StatusInternalServerError, "InternalServerError", "The service failed to handle the request; its log has the cause under request id %s.", c.id)
}

func (s *server) logFailure(c *call, err error) {
	s.Log.ErrorContext(c.r.Context(), "control-plane request failed", "request", c.id, "method", c.r.Method, "path", c.r.URL.Path, "error", err)
}

// answerARM writes a reply or an error with ARM's headers. The last one tells HashiCorp's pollers not to wait before
// they look: everything here is finished when it is answered.
func (s *server) answerARM(c *call, rep reply, err error) {
	c.identify()
	h := c.w.Header()
	if err != nil {
		e := s.toARM(c, err)
		rep = reply{e.Status, struct {
			Error *armError `json:"error"`
		}{e}}
		var caller *unauthorized
		var method *methodNotAllowed
		switch {
		case errors.As(err, &caller):
			h.Set("WWW-Authenticate", fmt.Sprintf(`Bearer authorization_uri="%s/%s", error="invalid_token", error_description="%s"`,
				s.Authority(), s.Directory.TenantID(), strings.ReplaceAll(headerText(e.Message), `"`, "'")))
		case errors.As(err, &method):
			h.Set("Allow", strings.Join(method.allowed, ", "))
		case e.Status == http.StatusConflict && e.Code == "Conflict", e.Status == http.StatusTooManyRequests, e.Status == http.StatusServiceUnavailable:
			h.Set("Retry-After", "1")
		}
	}
	if rep.status == 0 {
		return
	}
	h.Set("X-Go-Azure-Sdk-Skip-Polling-Delay", "true")
	c.write(rep)
}

// identify sets the headers that name the request: ours, the caller's correlation, and the caller's own id if asked.
func (c *call) identify() {
	h := c.w.Header()
	h.Set("X-Ms-Request-Id", c.id)
	correlation := c.r.Header.Get("X-Ms-Correlation-Request-Id")
	if correlation == "" || len(correlation) > 128 {
		correlation = c.id
	}
	h.Set("X-Ms-Correlation-Request-Id", headerText(correlation))
	if own := c.r.Header.Get("X-Ms-Client-Request-Id"); own != "" && strings.EqualFold(c.r.Header.Get("X-Ms-Return-Client-Request-Id"), "true") {
		h.Set("X-Ms-Client-Request-Id", headerText(own))
	}
}

// write sends a reply. Bodies hold keys at times, so none is cached.
func (c *call) write(rep reply) {
	h := c.w.Header()
	h.Set("Cache-Control", "no-store")
	h.Set("X-Content-Type-Options", "nosniff")
	if rep.body == nil {
		c.w.WriteHeader(rep.status)
		return
	}
	var body strings.Builder
	enc := json.NewEncoder(&body)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(rep.body); err != nil { // every body is made of our own types
		panic(err)
	}
	h.Set("Content-Type", "application/json; charset=utf-8")
	h.Set("Content-Length", fmt.Sprint(body.Len()))
	c.w.WriteHeader(rep.status)
	_, _ = c.w.Write([]byte(body.String())) // a client that has gone is no one's error
}
