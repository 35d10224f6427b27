package guard

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"mime"
	"net/http"
	"strings"
	"time"
	"unicode/utf8"

	"tabard/guard/reason"
)

// The prefixes of an event's type, and the names of the system events.
const (
	systemPrefix = "azure.webpubsub.sys."
	userPrefix   = "azure.webpubsub.user."

	eventConnect      = "connect"
	eventConnected    = "connected"
	eventDisconnected = "disconnected"
)

// maxHeaderValue bounds each header that an event is read from, in bytes.
const maxHeaderValue = 16 << 10

// An Event is a CloudEvent of Web PubSub as an event handler receives it
// (event-handlers.md 4, 7, 8).
type Event struct {
	Type         string    // ce-type, for example "azure.webpubsub.user.message"
	System       bool      // a system event (connect, connected, disconnected), not one of a client's making
	Name         string    // ce-eventName, for example "message"
	Hub          string    // ce-hub; compare with strings.EqualFold
	ConnectionID string    // ce-connectionId
	UserID       string    // ce-userId; empty if the client has none
	ID           string    // ce-id: unique for the connection, the same when an event is repeated
	Source       string    // ce-source
	Time         time.Time // ce-time; zero if absent
	Subprotocol  string    // ce-subprotocol; empty if none, and on connect
	State        string    // ce-connectionState: what Reply.WithState or Accept.WithState set last
	Origin       string    // WebHook-Request-Origin: host name of the service

	ContentType string            // media type of Data without parameters, lower case
	Data        []byte            // the body
	Metadata    map[string]string // x-webpubsub-metadata-*, keys in lower case; nil if none

	// Caller are the verified claims of the service that sent the event; nil if
	// the event was not read behind a guard.
	Caller *Claims
}

// Text returns the data as a string.
func (e *Event) Text() string { return string(e.Data) }

// JSON decodes the data into v, as json.Unmarshal does.
func (e *Event) JSON(v any) error { return json.Unmarshal(e.Data, v) }

// StateJSON decodes the connection state into v. It reads what WithStateJSON of
// this package or the Web PubSub SDKs write: base64 of a JSON document. Without
// state v is left alone.
func (e *Event) StateJSON(v any) error {
	if e.State == "" {
		return nil
	}
	text, err := base64.StdEncoding.DecodeString(e.State)
	if err != nil {
		return fmt.Errorf("connection state: %w", err)
	}
	return json.Unmarshal(text, v)
}

// ParseEvent reads an event's headers. Data is set to body, which the caller has
// read; r.Body is not touched. The error is an *Error with the code
// event_malformed. It verifies nothing about the sender.
func ParseEvent(r *http.Request, body []byte) (*Event, error) {
	e, err := parseEvent(r)
	if err != nil {
		return nil, err
	}
	e.Data = body
	return e, nil
}

func notEvent(format string, args ...any) *Error {
	return &Error{Code: reason.EventMalformed, Status: http.StatusBadRequest, Message: fmt.Sprintf(format, args...)}
}

// isEvent reports whether a request claims to be an event.
func isEvent(r *http.Request) bool {
	return r.Method == http.MethodPost && (len(r.Header["Ce-Type"]) > 0 || len(r.Header["Ce-Awpsversion"]) > 0)
}

func parseEvent(r *http.Request) (*Event, *Error) {
	if r.Method != http.MethodPost {
		return nil, notEvent("an event is sent with POST, not %s", show(r.Method))
	}
	var fault *Error
	one := func(name string, required bool) string {
		values := r.Header[http.CanonicalHeaderKey(name)]
		value := ""
		if len(values) > 0 {
			value = values[0]
		}
		switch {
		case fault != nil:
		case len(values) > 1:
			fault = notEvent("%s occurs %d times", name, len(values))
		case required && value == "":
			fault = notEvent("%s is missing", name)
		case len(value) > maxHeaderValue:
			fault = notEvent("%s has %d bytes, the limit is %d", name, len(value), maxHeaderValue)
		case !utf8.ValidString(value):
			fault = notEvent("%s is not valid UTF-8", name)
		}
		return value
	}
	specVersion, awpsVersion := one("ce-specversion", true), one("ce-awpsversion", true)
	e := &Event{
		Type:         one("ce-type", true),
		Name:         one("ce-eventName", true),
		Hub:          one("ce-hub", true),
		ConnectionID: one("ce-connectionId", true),
		UserID:       one("ce-userId", false),
		ID:           one("ce-id", true),
		Source:       one("ce-source", true),
		Subprotocol:  one("ce-subprotocol", false),
		State:        one("ce-connectionState", false),
		Origin:       one("WebHook-Request-Origin", true),
	}
	when, contentType := one("ce-time", false), one("Content-Type", false)
	if fault != nil {
		return nil, fault
	}
	if specVersion != "1.0" || awpsVersion != "1.0" {
		return nil, notEvent("ce-specversion is %s and ce-awpsversion is %s, want \"1.0\" for both", show(specVersion), show(awpsVersion))
	}
	name, isUser := strings.CutPrefix(e.Type, userPrefix)
	if !isUser {
		name, e.System = strings.CutPrefix(e.Type, systemPrefix)
	}
	if !isUser && !e.System || !strings.EqualFold(name, e.Name) {
		return nil, notEvent("ce-type %s does not fit ce-eventName %s", show(e.Type), show(e.Name))
	}
	if when != "" {
		t, err := time.Parse(time.RFC3339, when)
		if err != nil {
			return nil, notEvent("ce-time is %s, not a time as in RFC 3339", show(when))
		}
		e.Time = t
	}
	if contentType != "" {
		mediaType, _, err := mime.ParseMediaType(contentType)
		if err != nil {
			return nil, notEvent("Content-Type is %s, not a media type", show(contentType))
		}
		e.ContentType = mediaType
	}
	e.Metadata = metadata(r.Header)
	return e, nil
}

const metadataPrefix = "X-Webpubsub-Metadata-"

// metadata collects the message's metadata; of a repeated key the last value
// counts (event-handlers.md 4).
func metadata(h http.Header) map[string]string {
	var m map[string]string
	for name, values := range h {
		key, ok := strings.CutPrefix(name, metadataPrefix)
		if !ok || key == "" || len(values) == 0 {
			continue
		}
		if m == nil {
			m = map[string]string{}
		}
		m[strings.ToLower(key)] = values[len(values)-1]
	}
	return m
}

// A Connect is the event that asks whether a client may connect. What the client
// sent is in it; nothing is decided until the handler answers.
type Connect struct {
	Event
	// Claims are those of the client's access token, verified by the service; each
	// value as a string. Empty for an anonymous client.
	Claims map[string][]string
	// Query and Headers are those of the client's request, without its access token.
	Query, Headers map[string][]string
	// Subprotocols are offered by the client, in its order. One that Web PubSub
	// does not know itself must be chosen in the answer, or it is not used.
	Subprotocols []string
	// ClientCertificates are those of the client's TLS connection, if the service
	// asks for one.
	ClientCertificates []ClientCertificate
}

// A ClientCertificate is a certificate that a client showed to the service.
type ClientCertificate struct {
	Thumbprint string `json:"thumbprint"` // SHA-1 in hexadecimal
	Content    string `json:"content"`    // PEM
}

func parseConnect(e *Event) (*Connect, *Error) {
	c := &Connect{Event: *e}
	var body struct {
		Claims, Query, Headers map[string][]string
		Subprotocols           []string
		ClientCertificates     []ClientCertificate
	}
	if len(e.Data) > 0 {
		if err := json.Unmarshal(e.Data, &body); err != nil {
			return nil, notEvent("the body of connect is not the documented JSON object: %v", err)
		}
	}
	c.Claims, c.Query, c.Headers = body.Claims, body.Query, body.Headers
	c.Subprotocols, c.ClientCertificates = body.Subprotocols, body.ClientCertificates
	return c, nil
}

// A Disconnected is the event that tells that a client's connection has ended.
type Disconnected struct {
	Event
	Reason string // why; empty if the client closed it
}

func parseDisconnected(e *Event) (*Disconnected, *Error) {
	d := &Disconnected{Event: *e}
	var body struct{ Reason string }
	if len(e.Data) > 0 {
		if err := json.Unmarshal(e.Data, &body); err != nil {
			return nil, notEvent("the body of disconnected is not the documented JSON object: %v", err)
		}
	}
	d.Reason = body.Reason
	return d, nil
}
