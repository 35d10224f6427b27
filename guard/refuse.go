package guard

import (
	"encoding/json"
	"net/http"
	"strconv"
	"strings"

	"tabard/guard/reason"
)

// Write answers a request with the refusal: its status, for 401 and 403 a
// WWW-Authenticate header with the reason and the values that differ, and a small
// JSON body with the reason in general.
//
// The body has no values on purpose: the service forwards the body of a refused
// connect to the client that wanted to connect (event-handlers.md 7.1), and the
// client is not the one whose token was refused.
func (e *Error) Write(w http.ResponseWriter, realm string) { e.write(w, realm, false) }

func (e *Error) write(w http.ResponseWriter, realm string, hide bool) {
	parameters := append([]string{`realm="` + realm + `"`}, e.challenge(hide)...)
	e.writeWith(w, "Bearer "+strings.Join(parameters, ", "), hide)
}

// writeWith is write with a challenge for WWW-Authenticate, which only 401 and
// 403 have.
func (e *Error) writeWith(w http.ResponseWriter, challenge string, hide bool) {
	var body struct {
		Error struct {
			Code    string `json:"code"`
			Message string `json:"message"`
			Fix     string `json:"fix,omitempty"`
		} `json:"error"`
	}
	r, _ := reason.Lookup(e.Code)
	body.Error.Code, body.Error.Message, body.Error.Fix = string(e.Code), r.Sentence, r.Fix
	if hide {
		text := strings.ToLower(http.StatusText(e.Status))
		body.Error.Code, body.Error.Message, body.Error.Fix = strings.ReplaceAll(text, " ", "_"), text, ""
	}
	h := w.Header()
	switch e.Status {
	case http.StatusUnauthorized, http.StatusForbidden:
		h.Set("WWW-Authenticate", challenge)
	case http.StatusServiceUnavailable:
		h.Set("Retry-After", strconv.Itoa(int(retryAfter.Seconds())))
	case http.StatusMethodNotAllowed:
		h.Set("Allow", "OPTIONS, POST")
	}
	h.Set("Content-Type", "application/json; charset=utf-8")
	h.Set("Cache-Control", "no-store")
	text, _ := json.Marshal(body) // strings always encode
	w.WriteHeader(e.Status)
	_, _ = w.Write(append(text, '\n')) // a caller that hung up gets no answer
}

// challenge are the parameters of WWW-Authenticate that say what is wrong (RFC
// 6750 section 3).
func (e *Error) challenge(hide bool) []string {
	kind := "invalid_token"
	if e.Status == http.StatusForbidden {
		kind = "insufficient_scope"
	}
	parameters := []string{`error="` + kind + `"`}
	if !hide {
		parameters = append(parameters, `error_description="`+descriptionText(string(e.Code)+": "+e.Message)+`"`)
	}
	return parameters
}

// descriptionText makes a text fit for error_description, which may hold neither
// a double quote nor a backslash, not even escaped, and ASCII only (RFC 6750).
func descriptionText(s string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case r == '"':
			return '\''
		case r == '\\':
			return '/'
		case r == '…':
			return '~'
		case r < 0x20 || r > 0x7e:
			return '?'
		}
		return r
	}, s)
}
