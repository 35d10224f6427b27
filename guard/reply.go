package guard

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
)

// MaxState is the largest connection state, in bytes (event-handlers.md 9).
const MaxState = 8 << 10

// A Reply is the answer to a user event. The zero Reply sends nothing to the
// client. Make one with Text, JSON or Binary.
type Reply struct {
	// ContentType of Body: text/plain, application/json, application/octet-stream
	// or application/x-protobuf. The service refuses others.
	ContentType string
	Body        []byte
	// Metadata goes to clients of the JSON and protobuf subprotocols with the
	// message. Keys are not case-sensitive; values are ASCII.
	Metadata map[string]string

	state state
	err   error
}

// Text replies with a text message.
func Text(s string) Reply {
	return Reply{ContentType: "text/plain; charset=utf-8", Body: []byte(s)}
}

// Textf replies with a formatted text message.
func Textf(format string, args ...any) Reply { return Text(fmt.Sprintf(format, args...)) }

// JSON replies with v as a JSON message. If v cannot be encoded the event fails.
func JSON(v any) Reply {
	body, err := json.Marshal(v)
	return Reply{ContentType: "application/json; charset=utf-8", Body: body, err: err}
}

// Binary replies with a binary message.
func Binary(b []byte) Reply {
	return Reply{ContentType: "application/octet-stream", Body: b}
}

// WithState returns the reply that also replaces the connection's state: at most
// MaxState bytes of printable ASCII, which the service sends along with every
// later event of this connection. The empty string removes it. Without WithState
// it stays as it is.
func (r Reply) WithState(s string) Reply {
	r.state = rawState(s)
	return r
}

// WithStateJSON is WithState with v encoded as the Web PubSub SDKs do; read it
// with Event.StateJSON.
func (r Reply) WithStateJSON(v any) Reply {
	r.state = jsonState(v)
	return r
}

// An Accept is the answer that lets a client connect. The zero Accept takes user
// id, groups and roles from the client's access token.
type Accept struct {
	// UserID replaces the token's user id; empty keeps it.
	UserID string
	// DropUserID removes the token's user id.
	DropUserID bool
	// Groups replaces the groups that the token joins the client to; empty keeps them.
	Groups []string
	// Roles replaces the token's roles, also if it is empty and not nil; nil keeps them.
	Roles []string
	// Subprotocol chooses one of the offered subprotocols; empty leaves the choice
	// to the service.
	Subprotocol string

	state state
}

// WithState is as Reply.WithState.
func (a Accept) WithState(s string) Accept {
	a.state = rawState(s)
	return a
}

// WithStateJSON is as Reply.WithStateJSON.
func (a Accept) WithStateJSON(v any) Accept {
	a.state = jsonState(v)
	return a
}

// A Rejection is the error that refuses a client or an event with a status and
// words of the application's choice. Make it with Reject.
type Rejection struct {
	Status  int
	Message string
}

// Reject refuses with an HTTP status of 400 to 599. On connect the status and,
// below 500, the message reach the client; for user events the client learns of
// the failure only.
func Reject(status int, message string) error { return &Rejection{status, message} }

// Rejectf is Reject with a formatted message.
func Rejectf(status int, format string, args ...any) error {
	return Reject(status, fmt.Sprintf(format, args...))
}

func (r *Rejection) Error() string { return fmt.Sprintf("rejected with %d: %s", r.Status, r.Message) }

// state is a change of the connection state, or none.
type state struct {
	value string
	set   bool
	err   error
}

func rawState(s string) state { return state{value: s, set: true} }

func jsonState(v any) state {
	text, err := json.Marshal(v)
	return state{value: base64.StdEncoding.EncodeToString(text), set: true, err: err}
}

// write puts the change into the answer's header.
func (s state) write(h http.Header) error {
	switch {
	case !s.set:
		return nil
	case s.err != nil:
		return fmt.Errorf("connection state: %w", s.err)
	case len(s.value) > MaxState:
		return fmt.Errorf("connection state has %d bytes, the limit is %d", len(s.value), MaxState)
	case !headerSafe(s.value):
		return fmt.Errorf("connection state is not printable ASCII without spaces at its ends; WithStateJSON encodes anything")
	}
	h.Set("ce-connectionState", s.value)
	return nil
}

func headerSafe(s string) bool {
	for i := range len(s) {
		if s[i] < 0x20 || s[i] > 0x7e {
			return false
		}
	}
	return strings.TrimSpace(s) == s
}

// write sends the answer to a user event. An error means that nothing was sent.
func (r Reply) write(w http.ResponseWriter) error {
	if r.err != nil {
		return fmt.Errorf("reply: %w", r.err)
	}
	h := w.Header()
	if err := r.state.write(h); err != nil {
		return err
	}
	for key, value := range r.Metadata {
		if !headerName(key) || !headerSafe(value) {
			return fmt.Errorf("metadata %q cannot be sent as a header", key)
		}
		h.Set(metadataPrefix+key, value)
	}
	if len(r.Body) == 0 {
		w.WriteHeader(http.StatusNoContent)
		return nil
	}
	if r.ContentType != "" {
		h.Set("Content-Type", r.ContentType)
	} else {
		h.Set("Content-Type", "application/octet-stream")
	}
	_, _ = w.Write(r.Body) // a caller that hung up gets no answer
	return nil
}

func headerName(s string) bool {
	for i := range len(s) {
		c := s[i]
		if !(c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || strings.IndexByte("!#$%&'*+-.^_`|~", c) >= 0) {
			return false
		}
	}
	return s != ""
}

// write sends the answer to connect (event-handlers.md 7.1). An error means that
// nothing was sent.
func (a Accept) write(w http.ResponseWriter) error {
	if err := a.state.write(w.Header()); err != nil {
		return err
	}
	body := map[string]any{}
	if a.UserID != "" || a.DropUserID {
		body["userId"] = a.UserID
	}
	if len(a.Groups) > 0 {
		body["groups"] = a.Groups
	}
	if a.Roles != nil {
		body["roles"] = a.Roles
	}
	if a.Subprotocol != "" {
		body["subprotocol"] = a.Subprotocol
	}
	if len(body) == 0 {
		w.WriteHeader(http.StatusNoContent)
		return nil
	}
	text, err := json.Marshal(body)
	if err != nil {
		return err
	}
	w.Header().Set("Content-Type", "application/json; charset=utf-8")
	_, _ = w.Write(text) // a caller that hung up gets no answer
	return nil
}
