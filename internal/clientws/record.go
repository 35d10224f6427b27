package clientws

import (
	"net/http"
	"strings"
	"time"

	"tabard/guard/reason"
	"tabard/internal/hub"
	"tabard/internal/settings"
	"tabard/internal/trace"
)

// refused leaves a record of a handshake that failed for a reason of ours.
func (s *Server) refused(r *http.Request, in *settings.Instance, hubName string, no *refusal) {
	operation := trace.ConnectionRefused
	if no.code == reason.ConnectionLimit {
		operation = trace.ConnectionLimit
	}
	s.opt.Trace.Record(trace.Record{
		Kind: trace.Connection, Operation: operation, Instance: in.Name, Hub: strings.Clone(hubName[:min(len(hubName), 128)]),
		CallerIP: trace.Caller(r), Method: r.Method, URL: cutURL(r.URL.EscapedPath()), TraceID: trace.ID(r.Header),
		Status: no.status, Code: no.code, Detail: no.why(),
	})
}

// cutURL bounds what a record holds of a path, which a stranger chose.
func cutURL(path string) string { return path[:min(len(path), 512)] }

// begun leaves a record of a connection that was let in.
func (cl *client) begun(r *http.Request, user, subprotocol string) {
	cl.since, cl.caller = time.Now(), trace.Caller(r)
	cl.server.opt.Trace.Record(trace.Record{
		Time: cl.since, Kind: trace.Connection, Operation: trace.ConnectionStarted, Instance: cl.instance, Hub: cl.hub.Name(),
		Connection: cl.conn.ID(), User: user, Subprotocol: subprotocol,
		CallerIP: cl.caller, Method: r.Method, URL: cutURL(r.URL.EscapedPath()), TraceID: trace.ID(r.Header), Status: http.StatusSwitchingProtocols,
	})
}

// closeCategories are Azure's ConnectionCloseCategory of each unexpected end.
var closeCategories = map[string]string{
	hub.ReasonPingTimeout: "PingTimeout", hub.ReasonSlowClient: "SlowClient", hub.ReasonLost: "ServiceTransientError", hub.ReasonReload: "ServiceReload",
	reasonBadRequest: "BadRequest", reasonTooFast: "Throttled", reasonNoHandler: "EventHandlerNotFound", reasonFailed: "SendEventFailed",
}

// finished leaves a record of a connection's end, for which why is empty if the client wanted it.
func (cl *client) finished(why string) {
	operation, detail := trace.ConnectionAborted, why
	category, unexpected := closeCategories[why]
	switch {
	case why == "":
		operation, detail, category = trace.ConnectionEnded, "Closed by the client", "Normal"
	case !unexpected: // in a server's own words
		operation, category = trace.ConnectionEnded, "ClosedByAppServer"
	}
	now := time.Now()
	cl.server.opt.Trace.Record(trace.Record{
		Time: now, Duration: now.Sub(cl.since), Kind: trace.Connection, Operation: operation, Instance: cl.instance, Hub: cl.hub.Name(),
		Connection: cl.conn.ID(), User: cl.conn.UserID(), Subprotocol: cl.conn.Subprotocol(), CallerIP: cl.caller, Detail: detail, Close: category,
	})
}

// published leaves a record of a message to a group: one, however many receive it.
func (cl *client) published(m *hub.Message, receivers int) {
	cl.server.opt.Trace.Record(trace.Record{
		Kind: trace.Message, Operation: "SendToGroup", Instance: cl.instance, Hub: cl.hub.Name(), Connection: cl.conn.ID(), User: m.FromUserID,
		Group: m.Group, DataType: m.Type.String(), Bytes: len(m.Data), Receivers: receivers,
	})
}
