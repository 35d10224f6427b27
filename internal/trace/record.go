package trace

import (
	"cmp"
	"encoding/json"
	"time"
	"unsafe"

	"tabard/guard/reason"
)

// Kind says what a record is about.
type Kind string

// The kinds of records.
const (
	Delivery   Kind = "delivery"   // an event on its way to a handler
	Validation Kind = "validation" // the abuse-protection handshake with a handler
	Connection Kind = "connection" // a client that was let in, refused, or went
	Message    Kind = "message"    // a publication, by REST or by a client: one, however many receive it
	Request    Kind = "request"    // a REST request
	Identity   Kind = "identity"   // a token that could not be obtained, or a warning about one
)

// Kinds lists them all.
func Kinds() []Kind { return []Kind{Delivery, Validation, Connection, Message, Request, Identity} }

// A Category is one of Azure's resource logs.
type Category string

// The categories.
const (
	ConnectivityLogs Category = "ConnectivityLogs"
	MessagingLogs    Category = "MessagingLogs"
	HTTPRequestLogs  Category = "HttpRequestLogs"
)

// Categories lists them all.
func Categories() []Category { return []Category{ConnectivityLogs, MessagingLogs, HTTPRequestLogs} }

// A Level is how much a record matters.
type Level string

// The levels, as Azure names them.
const (
	Debug         Level = "Debug"
	Informational Level = "Informational"
	Warning       Level = "Warning"
	Error         Level = "Error"
)

// Levels lists them all, the least first.
func Levels() []Level { return []Level{Debug, Informational, Warning, Error} }

// A Record is one thing that happened. As JSON it also has the columns that follow from the others: category, level,
// collection, message, sentence and fix.
type Record struct {
	ID         uint64        `json:"id"` // increasing within the process
	Time       time.Time     `json:"time"`
	Duration   time.Duration `json:"durationNs"`
	Kind       Kind          `json:"kind"`
	Operation  string        `json:"operationName"` // Azure's name where it has one: ConnectionStarted, HttpHandlerUnexpectedResponse …
	Instance   string        `json:"instance"`
	Hub        string        `json:"hub,omitempty"`
	Connection string        `json:"connectionId,omitempty"`
	User       string        `json:"userId,omitempty"`
	Group      string        `json:"group,omitempty"`
	Event      string        `json:"event,omitempty"`
	EventID    string        `json:"eventId,omitempty"` // ce-id

	CallerIP string `json:"callerIpAddress,omitempty"` // of the client or server that called
	Method   string `json:"httpMethod,omitempty"`
	Route    string `json:"routeTemplate,omitempty"` // of a REST operation
	URL      string `json:"url,omitempty"`           // path of a REST request or handshake, never its query
	TraceID  string `json:"traceId,omitempty"`       // W3C trace id, 32 hexadecimal digits

	Subprotocol string `json:"subprotocol,omitempty"`   // of a connection
	Close       string `json:"closeCategory,omitempty"` // why a connection ended, as Azure's metrics have it: Normal, SlowClient …
	DataType    string `json:"dataType,omitempty"`      // of a message: text, json, binary, protobuf
	Bytes       int    `json:"bytes,omitempty"`         // of a message's or event's payload
	Receivers   int    `json:"receivers,omitempty"`     // connections whose queue took the message

	// Template is the handler's URL template as configured, never the resolved URL.
	Template string `json:"urlTemplate,omitempty"`
	// Audience is the resource whose token was wanted.
	Audience string `json:"audience,omitempty"`
	// Claims is the decoded payload of the token that was sent or presented; never its signature.
	Claims json.RawMessage `json:"claims,omitempty"`

	Stages []Stage `json:"stages,omitempty"`
	// Status is the HTTP status that the peer answered or that we answered, 0 if there was none.
	Status int `json:"status,omitempty"`
	// Answer is the beginning of the peer's body, at most MaxAnswer bytes, if it is text.
	Answer     string `json:"answer,omitempty"`
	AnswerType string `json:"answerContentType,omitempty"`
	// AnswerBytes is how long the body was, as far as it was read.
	AnswerBytes int `json:"answerBytes,omitempty"`
	// Attempts counts the requests that were made.
	Attempts int `json:"attempts,omitempty"`
	// ReplayOf is the id of the record whose event this one repeats; Synthetic says that nobody sent it.
	ReplayOf  uint64 `json:"replayOf,omitempty"`
	Synthetic bool   `json:"synthetic,omitempty"`

	// Code is why; delivered, or empty where there is nothing to explain.
	Code   reason.Code `json:"code"`
	Detail string      `json:"detail,omitempty"` // what exactly, with the values compared

	slot *slot
}

// MaxAnswer bounds Record.Answer in bytes.
const MaxAnswer = 2 << 10

// A Stage is one step of a delivery.
type Stage struct {
	Name     string        `json:"name"`             // match, secret, validation, token, resolve, connect, tls, call, answer
	Outcome  string        `json:"outcome"`          // ok, failed or skipped
	Duration time.Duration `json:"durationNs"`       // of this step alone
	Detail   string        `json:"detail,omitempty"` // for people
}

// The outcomes of a stage.
const (
	OK      = "ok"
	Failed  = "failed"
	Skipped = "skipped"
)

// Fault tells whether the record reports something that did not go as it should.
func (r *Record) Fault() bool {
	return r.Code != reason.Delivered && r.Code != "" || r.Operation == ConnectionRefused
}

// Category is the resource log that the record belongs to.
func (r *Record) Category() Category {
	switch r.Kind {
	case Connection:
		return ConnectivityLogs
	case Message:
		return MessagingLogs
	default:
		return HTTPRequestLogs
	}
}

// Collection is what Azure's logs call the part of the service.
func (r *Record) Collection() string {
	switch {
	case r.Status == 401 || r.Status == 403:
		return "Authorization"
	case r.Status == 429:
		return "Throttling"
	case r.Kind == Connection:
		return "Connection"
	case r.Kind == Message:
		return "Message"
	default:
		return "HttpRequest"
	}
}

// Level is how much the record matters.
func (r *Record) Level() Level {
	switch {
	case r.Fault() && (r.Kind == Delivery || r.Kind == Validation):
		return Error
	case r.Fault() || r.Operation == ConnectionAborted || r.Status >= 400 && r.Status != 404 && r.Kind == Request:
		return Warning
	case r.Kind == Message || r.Kind == Validation:
		return Debug
	default:
		return Informational
	}
}

// The operation names that are not REST operations' or handlers'. The first five are Azure's.
const (
	ConnectionStarted   = "ConnectionStarted"
	ConnectionEnded     = "ConnectionEnded"
	ConnectionAborted   = "ConnectionAborted"
	ConnectionLimit     = "ConnectionCountLimitReached"
	UnexpectedResponse  = "HttpHandlerUnexpectedResponse"
	ConnectionRefused   = "ConnectionRefused"
	EventDelivered      = "EventDelivered"
	EventNotDelivered   = "EventNotDelivered"
	EndpointValidated   = "AbuseProtectionPassed"
	ValidationNoOrigin  = "AbuseProtectionResponseMissingAllowedOrigin"
	ValidationBadStatus = "AbuseProtectionResponseInvalidStatusCode"
	ValidationFailed    = "AbuseProtectionResponseFailed"
	TokenWarning        = "ManagedIdentityToken"
)

// message is the record in a sentence, as Azure's live trace has it.
func (r *Record) message() string {
	if why, ok := reason.Lookup(r.Code); ok && r.Fault() {
		return cmp.Or(r.Detail, why.Sentence)
	}
	switch r.Kind {
	case Delivery:
		return "The event was delivered"
	case Validation:
		return "The event handler passed the endpoint validation"
	case Connection:
		return cmp.Or(r.Detail, map[string]string{ConnectionStarted: "Connection started", ConnectionEnded: "Connection ended"}[r.Operation])
	case Message:
		return "The message was handed to those it is for"
	}
	return r.Detail
}

// MarshalJSON adds the columns that follow from the others.
func (r Record) MarshalJSON() ([]byte, error) {
	type record Record
	why, _ := reason.Lookup(r.Code)
	if !r.Fault() {
		why.Fix = ""
	}
	return json.Marshal(struct {
		record
		Category   Category `json:"category"`
		Collection string   `json:"collection"`
		Level      Level    `json:"level"`
		Message    string   `json:"message,omitempty"`
		Sentence   string   `json:"sentence,omitempty"`
		Fix        string   `json:"fix,omitempty"`
		Content    bool     `json:"hasContent"` // listContent and replay work
	}{record(r), r.Category(), r.Collection(), r.Level(), r.message(), why.Sentence, why.Fix, r.Content() != nil})
}

// size is about how many bytes the record uses.
func (r *Record) size() int {
	n := int(unsafe.Sizeof(*r)) + len(r.Connection) + len(r.User) + len(r.Group) + len(r.Event) + len(r.URL) + len(r.Claims) + len(r.Answer) + len(r.Detail) +
		len(r.CallerIP) + len(r.TraceID) + len(r.EventID)
	for i := range r.Stages {
		n += int(unsafe.Sizeof(r.Stages[i])) + len(r.Stages[i].Detail)
	}
	return n
}
