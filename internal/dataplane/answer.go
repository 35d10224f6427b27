package dataplane

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"

	"tabard/guard/reason"
	"tabard/internal/access"
)

// Every status, error code and body of this API is made in this file (rest-api.md 1.1, 2).

// An answer is what goes back to the caller.
type answer struct {
	status  int
	code    string // of an error, also sent as x-ms-error-code
	message string // of an error
	body    []byte // JSON; empty: no body

	allow     string // of 405
	challenge string // of 401, what is wrong with the token; empty: there was none
}

// The headers that every answer shares. Nobody changes these slices.
var (
	supportedVersions = []string{"2021-10-01, 2022-11-01, 2023-07-01, 2024-01-01, 2024-12-01"}
	jsonContent       = []string{"application/json; charset=utf-8"}
	bearerChallenge   = []string{"Bearer"}
	retrySoon         = []string{"1"}
)

// maxEcho bounds the request id that is sent back.
const maxEcho = 1 << 10 // bytes

func (a answer) write(w http.ResponseWriter, r *http.Request) {
	h := w.Header()
	h["Api-Supported-Versions"] = supportedVersions
	if id := r.Header["X-Ms-Client-Request-Id"]; len(id) == 1 && len(id[0]) <= maxEcho {
		h["X-Ms-Client-Request-Id"] = id
	}
	if a.code != "" {
		h.Set("x-ms-error-code", a.code)
	}
	switch a.status {
	case http.StatusMethodNotAllowed:
		h.Set("Allow", a.allow)
	case http.StatusUnauthorized:
		h["Www-Authenticate"] = bearerChallenge
		if a.challenge != "" {
			h["Www-Authenticate"] = []string{a.challenge}
		}
	case http.StatusServiceUnavailable:
		h["Retry-After"] = retrySoon
	}
	if len(a.body) > 0 {
		h["Content-Type"] = jsonContent
	}
	w.WriteHeader(a.status)
	if r.Method != http.MethodHead {
		w.Write(a.body) // an error means that the caller has gone
	}
}

// refusal is an answer that ends a call early, where nil means to go on.
func refusal(a answer) *answer { return &a }

// succeeded is an answer without a body.
func succeeded(status int) answer { return answer{status: status} }

// accepted, of sends: the message is on its way to whoever is there.
func accepted() answer { return succeeded(http.StatusAccepted) }

// found answers HEAD: SDKs turn 200 and 404 into a boolean and throw on anything else.
func found(yes bool, missing answer) answer {
	if yes {
		return succeeded(http.StatusOK)
	}
	return missing
}

func jsonAnswer(v any) answer {
	body, err := json.Marshal(v)
	if err != nil {
		return internalError()
	}
	return answer{status: http.StatusOK, body: body}
}

// failed is an error in the shape of the service: the object is the whole body, and the last member's name is
// innererror on the wire, not inner as in the definition.
func failed(status int, code, target, message string) answer {
	body, _ := json.Marshal(struct { // strings always encode
		Code       string  `json:"code"`
		Message    string  `json:"message"`
		Target     string  `json:"target"`
		Details    *string `json:"details"`
		InnerError *string `json:"innererror"`
	}{Code: code, Message: message, Target: target})
	return answer{status: status, code: code, message: message, body: body}
}

func badRequest(format string, args ...any) answer {
	return failed(http.StatusBadRequest, "Error.BadRequest", "Request", fmt.Sprintf(format, args...))
}

func unsupportedVersion() answer {
	return failed(http.StatusBadRequest, "Error.BadRequest", "api-version", "The specified API version is not supported.")
}

func invalidJSON() answer { return badRequest("The request body is not a valid JSON.") }

func invalidLength() answer { return badRequest("Invalid Content-Length header.") }

func bodyTooLarge() answer {
	return badRequest("The request body is larger than %d bytes.", MaxBody)
}

// denied answers a caller who is not let in: 401, 403 for one who is known and may not do this, or 503 if the issuer of
// the token cannot be asked whether it is good.
func denied(why *access.Refusal) answer {
	code := "Error.Unauthorized"
	switch why.Status {
	case http.StatusForbidden:
		code = "Error.Forbidden"
	case http.StatusServiceUnavailable:
		code = "Error.ServiceUnavailable"
	}
	a := failed(why.Status, code, "Request", why.Message)
	if why.Code != reason.NoToken {
		a.challenge = `Bearer error="invalid_token", error_description="` + quotable(why.Message) + `"`
	}
	return a
}

// quotable makes a text fit for a quoted string of a header: printable ASCII, bounded.
func quotable(text string) string {
	const limit = 512 // bytes
	text = strings.Map(func(r rune) rune {
		switch {
		case r == '"' || r == '\\':
			return '\''
		case r < ' ' || r > '~':
			return '?'
		}
		return r
	}, text)
	return text[:min(len(text), limit)]
}

func nothingToSignWith() answer {
	return failed(http.StatusForbidden, "Error.Forbidden", "Request", "Access keys are switched off for this instance, and there is nothing else to sign a client token with.")
}

func noSuchPath() answer {
	return failed(http.StatusNotFound, "Error.NotFound", "Request", "The API has no such path.")
}

func noSuchInstance() answer {
	return failed(http.StatusNotFound, "Error.NotFound", "Request", "No instance of the service has this host name.")
}

func methodNotAllowed(allow string) answer {
	a := failed(http.StatusMethodNotAllowed, "Error.MethodNotAllowed", "Request", "The path supports "+allow+" only.")
	a.allow = allow
	return a
}

func unsupportedMediaType() answer {
	return failed(http.StatusUnsupportedMediaType, "Error.UnsupportedMediaType", "Request", "The Content-Type is not one that the operation supports.")
}

// The codes of missing things differ in their first word: those of connections are the service's own, those of
// groups and users are the ones that its emulator took from a recording.

func noConnection(id string) answer {
	return failed(http.StatusNotFound, "Info.Connection.NotExisted", "Connection", "Connection `"+id+"` is not found.")
}

func noGroup(group string) answer {
	return failed(http.StatusNotFound, "Warning.Group.NotExisted", "Group", "Group `"+group+"` is not found.")
}

func noUser(user string) answer {
	return failed(http.StatusNotFound, "Warning.User.NotExisted", "User", "User `"+user+"` is not found.")
}

// conflict answers a change that a limit of the connection forbids.
func conflict(format string, args ...any) answer {
	return failed(http.StatusConflict, "Error.Connection.Conflict", "Connection", fmt.Sprintf(format, args...))
}

func internalError() answer {
	return failed(http.StatusInternalServerError, "Error.InternalServerError", "Request", "Internal server error.")
}
