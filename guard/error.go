package guard

import (
	"net/http"
	"strconv"
	"strings"

	"tabard/guard/reason"
)

// An Error says why a token or a request was refused. Every refusal of this
// package is one; find it with errors.As.
type Error struct {
	// Code is the stable reason; reason.Lookup has its sentence and advice.
	Code reason.Code
	// Status is the HTTP status of the refusal: 401 for a token that does not
	// hold, 403 for a good token that does not suffice, 503 if the issuer cannot
	// be asked, and 400, 405, 413 or 500 for what has nothing to do with tokens.
	Status int
	// Message is one sentence with the values that differ, for example
	// `audience is "api://b", want "api://a"`. It repeats what the token says and
	// what the guard expects, never a signature, a key or a list of callers.
	Message string
	// Err is the underlying failure, such as a network error; it may be nil. It
	// is for the receiver's own log and not sent to the caller.
	Err error

	stage int
}

// Error returns the code and the sentence.
func (e *Error) Error() string {
	s := string(e.Code) + ": " + e.Message
	if e.Err != nil {
		s += ": " + e.Err.Error()
	}
	return s
}

// Unwrap returns the underlying failure.
func (e *Error) Unwrap() error { return e.Err }

// The stages of a verification in their order. Where several issuers are
// trusted, the refusal that got furthest is the one worth reporting.
const (
	stageFormat = iota
	stageAlgorithm
	stageKey
	stageDiscovery // no answer from an issuer: its key might have been the right one
	stageSignature
	stageClaims
	stageTenant
	stageVersion
	stageIssuer
	stageAudience
	stageLifetime
	stageKind
	stageCaller
	stageRoles
)

// stageNames are the names of the checks in a Verification.
var stageNames = [...]string{"format", "algorithm", "key", "key", "signature", "claims",
	"tenant", "version", "issuer", "audience", "lifetime", "kind", "caller", "roles"}

// refusal makes the Error of a stage: 401 until the token is proven, 403 when
// it is proven and does not suffice, 503 if it could not be judged.
func refusal(stage int, code reason.Code, message string) *Error {
	status := http.StatusUnauthorized
	switch {
	case stage == stageDiscovery:
		status = http.StatusServiceUnavailable
	case stage >= stageKind:
		status = http.StatusForbidden
	}
	return &Error{Code: code, Status: status, Message: message, stage: stage}
}

// sentence is the catalogue's general text of a code.
func sentence(code reason.Code) string {
	r, _ := reason.Lookup(code)
	return r.Sentence
}

// maxShown is how much of a foreign value an error repeats, in bytes.
const maxShown = 200

// show quotes a value from outside for an error: bounded, ASCII, one line.
func show(s string) string {
	if len(s) > maxShown {
		return strconv.QuoteToASCII(s[:maxShown]) + "…"
	}
	return strconv.QuoteToASCII(s)
}

// showList quotes the values that are expected, joined by `or`.
func showList(list []string) string {
	var b strings.Builder
	for i, s := range list {
		if i > 0 {
			b.WriteString(" or ")
		}
		if i == 8 {
			b.WriteString("others")
			break
		}
		b.WriteString(show(s))
	}
	return b.String()
}
