// Package dataplane is the REST API that an application's servers call: publish, close, manage groups and
// permissions, ask who is there, and get client access tokens.
//
// A server holds an unmodified SDK and expects exactly what Azure Web PubSub answers: the status alone decides
// whether the SDK returns, retries or throws. So every status and body is made in one file (answer.go), the
// operations are one table (operation.go) that a test compares with the published definition, and each operation is
// a function from a request to an answer.
//
// A request is routed on its escaped path, since names may hold slashes; then it is authorized, then validated, and
// only then is anything done: a refused request has changed nothing. Sends and closes are fire and forget, as in
// the service.
//
// What it leaves to others: delivery (hub), tokens (access), expressions (filter). It keeps no state.
package dataplane

import (
	"errors"
	"log/slog"
	"net/http"
	"time"

	"tabard/guard/reason"
	"tabard/internal/access"
	"tabard/internal/hub"
	"tabard/internal/settings"
	"tabard/internal/trace"
)

// Options of [New].
type Options struct {
	// Instance finds the instance that a request is for; nil: there is none at this address.
	Instance func(*http.Request) *settings.Instance
	Hubs     *hub.Registry
	Access   *access.Verifier
	Trace    *trace.Recorder // gets every request and publication; may be nil
	// Authorize lets a request in and says who it is from, as Access.Server does, which is the default. Its error is an
	// *access.Refusal.
	Authorize func(in *settings.Instance, r *http.Request, action string) (access.Principal, error)
	// Origin is the scheme and host under which the caller reached the service, such as "https://example.com". Links
	// to further pages and the audience of generated tokens begin with it. Default: the request's own.
	Origin func(*http.Request) string
	Log    *slog.Logger // default: discarded
}

type handler struct{ opt Options }

// New returns the handler for all paths under /api.
func New(opt Options) http.Handler {
	if opt.Origin == nil {
		opt.Origin = func(r *http.Request) string {
			if r.TLS != nil {
				return "https://" + r.Host
			}
			return "http://" + r.Host
		}
	}
	if opt.Authorize == nil {
		opt.Authorize = opt.Access.Server
	}
	if opt.Log == nil {
		opt.Log = slog.New(slog.DiscardHandler)
	}
	return &handler{opt}
}

// A call is one request on its way to an answer. Handlers read it and hand back what to say.
type call struct {
	*handler
	r        *http.Request
	began    time.Time
	instance *settings.Instance
	op       *operation
	refused  *access.Refusal // why the caller is not let in

	// The names in the path, unescaped; empty where the operation has none.
	hubName, group, user, connection, permission string

	parameters []queryParam // see query
	queried    bool
	few        [4]queryParam // what is usual of them

	caller access.Principal // zero: somebody with an access key

	hub *hub.Hub // nil while nobody was ever connected: it serves as an empty one
}

// ServeHTTP answers one request.
func (h *handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	c := &call{handler: h, r: r, began: time.Now()}
	a := c.answer()
	c.record(&a) // first: who has the answer finds the record
	a.write(w, r)
}

// answer routes, authorizes, validates and does.
func (c *call) answer() answer {
	route := c.route()
	if route == nil {
		return noSuchPath()
	}
	c.op = route.operation(c.r.Method)
	if c.op == nil {
		return methodNotAllowed(route.allow)
	}
	if c.op.public { // is the process alive? Nobody's secret, and nobody's instance
		if refused := c.checkVersion(); refused != nil {
			return *refused
		}
		return c.op.serve(c)
	}
	if c.instance = c.opt.Instance(c.r); c.instance == nil {
		return noSuchInstance()
	}
	if !c.instance.Admits(settings.RESTAPI, c.r.RemoteAddr) {
		return c.refuse(&access.Refusal{
			Status: http.StatusForbidden, Code: reason.NetworkDenied, Message: "The network rules of this instance do not admit REST requests from this address.",
		})
	}
	if c.instance.Stopped {
		return c.refuse(&access.Refusal{Status: http.StatusServiceUnavailable, Code: reason.InstanceStopped, Message: "This instance is stopped."})
	}
	var err error
	if c.caller, err = c.opt.Authorize(c.instance, c.r, c.op.action); err != nil {
		return c.refuse(err)
	}
	if refused := c.validate(); refused != nil {
		return *refused
	}
	c.hub = c.opt.Hubs.Lookup(c.instance.Name, c.hubName)
	return c.op.serve(c)
}

// refuse answers a caller who is not let in, and notes why.
func (c *call) refuse(err error) answer {
	var why *access.Refusal
	if !errors.As(err, &why) {
		c.opt.Log.Error("authorization failed", "operation", c.op.id, "err", err)
		return internalError()
	}
	c.refused = why
	if why.Err != nil {
		c.opt.Log.Warn("a token could not be verified", "operation", c.op.id, "code", why.Code, "err", why.Err)
	}
	return denied(why)
}

// validate checks what every operation has in common: the version and the names in the path.
func (c *call) validate() *answer {
	if refused := c.checkVersion(); refused != nil {
		return refused
	}
	names := c.op.names
	switch {
	case !settings.ValidHubName(c.hubName):
		return refusal(badRequest("Invalid hub name."))
	case names&hasGroup != 0 && !hub.ValidGroup(c.group):
		return refusal(badRequest("Invalid group name."))
	case names&hasUser != 0 && !validName(c.user):
		return refusal(badRequest("Invalid user ID."))
	case names&hasConnection != 0 && !validName(c.connection):
		return refusal(badRequest("Invalid connection ID."))
	}
	return nil
}
