package eventhandler

import (
	"strconv"

	"tabard/guard/reason"
)

// A DeliveryError reports that an event handler did not take an event, or that its answer is of no use. Its text
// holds no secret: neither token nor resolved URL nor the handler's body.
type DeliveryError struct {
	Hub, Event string
	Status     int // of the handler's answer, 0 if there was none
	Code       reason.Code
	Err        error // what exactly; may be nil
}

func (e *DeliveryError) Error() string {
	text := "event " + e.Event + " of hub " + e.Hub + ": " + e.Code.String()
	if e.Status != 0 {
		text += ", status " + strconv.Itoa(e.Status)
	}
	if e.Err != nil {
		text += ": " + e.Err.Error()
	}
	return text
}

func (e *DeliveryError) Unwrap() error { return e.Err }

// A Rejection is why a client may not connect, with the answer that its handshake gets.
type Rejection struct {
	Status      int    // 400 and above
	ContentType string // of Body
	Body        []byte // may be empty; at most [MaxRejectionBody]
	Code        reason.Code
	Err         error // for the log, not for the client; may be nil
}

func (e *Rejection) Error() string {
	text := "connect refused with " + strconv.Itoa(e.Status) + ": " + e.Code.String()
	if e.Err != nil {
		text += ": " + e.Err.Error()
	}
	return text
}

func (e *Rejection) Unwrap() error { return e.Err }

// A fault is why one step of a delivery failed.
type fault struct {
	code   reason.Code
	status int
	err    error

	// What the handler's own challenge says, for the record alone.
	shown     reason.Code // the reason that it names; empty: none
	challenge string
}

// hear notes what the handler's answer says about the fault.
func (f *fault) hear(a *answer) {
	if f == nil || a == nil || a.ok() {
		return
	}
	f.challenge = a.header.Get("Www-Authenticate")
	f.shown, _ = diagnose(a)
}

// copy is for faults that are shared: a delivery completes its own.
func (f *fault) copy() *fault {
	if f == nil {
		return nil
	}
	c := *f
	return &c
}

func (f *fault) text() string {
	if f.err == nil {
		return ""
	}
	return f.err.Error()
}

func (f *fault) deliveryError(hub, event string) *DeliveryError {
	return &DeliveryError{Hub: hub, Event: event, Status: f.status, Code: f.code, Err: f.err}
}
