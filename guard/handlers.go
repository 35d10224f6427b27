package guard

import (
	"context"
	"errors"
	"log/slog"
	"net/http"

	"tabard/guard/reason"
)

// Handlers are an application's functions for events. One that is nil accepts:
// connect without changes, everything else without an answer.
//
// An error made with Reject is answered as it says. Any other error is logged
// and answered with 500 without its text. The context ends when the service
// gives up waiting.
type Handlers struct {
	// Connect decides whether a client may connect, and as whom. The client waits.
	Connect func(context.Context, *Connect) (Accept, error)
	// Connected is told when a client has connected. Nobody waits; it may be called
	// after the client's first user event.
	Connected func(context.Context, *Event) error
	// User answers a message or an event that a client sent. The client's next
	// event waits.
	User func(context.Context, *Event) (Reply, error)
	// Disconnected is told when a connection has ended, however it ended.
	Disconnected func(context.Context, *Disconnected) error
}

// Events returns a protected handler that calls the application's functions.
func (g *Guard) Events(h Handlers) http.Handler {
	return g.Protect(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		e := EventFrom(r.Context())
		if e == nil {
			g.refuse(w, r, notAnEvent(r))
			return
		}
		if err := h.serve(r.Context(), w, e); err != nil {
			g.answerError(w, r, e, err)
		}
	}))
}

func notAnEvent(r *http.Request) *Error {
	switch r.Method {
	case http.MethodPost:
		return notEvent("ce-type and ce-awpsversion are missing")
	case http.MethodOptions:
		return &Error{Code: reason.OriginMissing, Status: http.StatusBadRequest, Message: sentence(reason.OriginMissing)}
	}
	return &Error{Code: reason.MethodNotAllowed, Status: http.StatusMethodNotAllowed,
		Message: "the method is " + show(r.Method) + ", want POST or OPTIONS"}
}

// serve calls the function for an event and writes its answer. An error means
// that nothing was written.
func (h *Handlers) serve(ctx context.Context, w http.ResponseWriter, e *Event) error {
	switch {
	case !e.System && h.User != nil:
		reply, err := h.User(ctx, e)
		if err != nil {
			return err
		}
		return unsendable(reply.write(w))
	case e.Type == systemPrefix+eventConnect && h.Connect != nil:
		c, fault := parseConnect(e)
		if fault != nil {
			return fault
		}
		accept, err := h.Connect(ctx, c)
		if err != nil {
			return err
		}
		return unsendable(accept.write(w))
	case e.Type == systemPrefix+eventConnected && h.Connected != nil:
		if err := h.Connected(ctx, e); err != nil {
			return err
		}
	case e.Type == systemPrefix+eventDisconnected && h.Disconnected != nil:
		d, fault := parseDisconnected(e)
		if fault != nil {
			return fault
		}
		if err := h.Disconnected(ctx, d); err != nil {
			return err
		}
	}
	w.WriteHeader(http.StatusNoContent)
	return nil
}

func unsendable(err error) error {
	if err == nil {
		return nil
	}
	return &Error{Code: reason.HandlerReplyInvalid, Status: http.StatusInternalServerError,
		Message: sentence(reason.HandlerReplyInvalid), Err: err}
}

// answerError answers for a function that returned an error.
func (g *Guard) answerError(w http.ResponseWriter, r *http.Request, e *Event, err error) {
	clear(w.Header()) // what a reply that failed half-way may have set
	var rejection *Rejection
	var fault *Error
	switch {
	case errors.As(err, &rejection):
		if rejection.Status < 400 || rejection.Status > 599 {
			fault = unsendable(err).(*Error)
			break
		}
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		w.Header().Set("X-Content-Type-Options", "nosniff")
		w.WriteHeader(rejection.Status)
		_, _ = w.Write([]byte(rejection.Message)) // a caller that hung up gets no answer
		return
	case errors.As(err, &fault):
	default:
		fault = &Error{Code: reason.HandlerFailedOnEvent, Status: http.StatusInternalServerError,
			Message: sentence(reason.HandlerFailedOnEvent), Err: err}
	}
	if fault.Status >= http.StatusInternalServerError {
		g.opt.Log.LogAttrs(r.Context(), slog.LevelError, "event handler failed",
			slog.String("type", e.Type), slog.String("hub", e.Hub), slog.String("connectionId", e.ConnectionID),
			slog.String("id", e.ID), slog.String("error", err.Error()))
	}
	fault.write(w, g.opt.Realm, g.opt.HideReasons)
}
