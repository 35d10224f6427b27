package clientws

import (
	"bytes"
	"context"
	"errors"
	"strconv"
	"time"

	"tabard/guard/reason"
	"tabard/internal/eventhandler"
	"tabard/internal/hub"
	"tabard/internal/settings"
	"tabard/internal/subprotocol"
)

// message acts upon a message of the client.
func (cl *client) message(op hub.Opcode, payload []byte) error {
	if cl.conn.Gone() {
		return nil // on its way out: the client has not read our close frame yet
	}
	if !cl.pace.allows(time.Since(cl.server.started)) {
		cl.server.opt.Counters.refuse(reason.MessageRate)
		cl.settle()
		cl.conn.CloseFor(hub.ClosePolicy, "Too many messages per second.", reasonTooFast)
		return nil
	}
	var req subprotocol.Request
	if err := cl.protocol.Decode(&req, op, payload); err != nil {
		var bad *subprotocol.InvalidError
		if !errors.As(err, &bad) {
			bad = &subprotocol.InvalidError{Code: hub.CloseInternal, Text: "internal error"}
		}
		cl.server.opt.Log.Debug("request refused", "hub", cl.hub.Name(), "conn", cl.conn.ID(), "why", bad.Text)
		cl.settle()
		cl.conn.CloseFor(bad.Code, "Invalid request: "+bad.Text, reasonBadRequest)
		return nil
	}
	switch req.Kind { // what does not wait for the application
	case subprotocol.Ping:
		cl.conn.Send(cl.protocol.Pong())
		return nil
	case subprotocol.SequenceAck: // ignored where nothing is numbered
		cl.conn.Acknowledge(req.Sequence)
		return nil
	case subprotocol.CancelInvocation:
		cl.giveUp(req.Invocation)
		return nil
	}
	if cl.settle(); cl.conn.Gone() {
		return nil
	}
	if cl.mode.group != "" && cl.protocol.Simple() {
		req.Kind, req.Group, req.NoEcho = subprotocol.SendToGroup, cl.mode.group, cl.mode.noEcho
	}
	if req.HasAck && cl.acks.has(req.AckID) {
		cl.conn.Send(cl.protocol.Ack(req.AckID, &subprotocol.AckError{
			Name:    subprotocol.Duplicate,
			Message: "Message with ack-id: " + strconv.FormatUint(req.AckID, 10) + " has been processed",
		}))
		return nil
	}
	var failure *subprotocol.AckError
	switch req.Kind {
	case subprotocol.Event, subprotocol.Invoke:
		cl.begin(&req)
		return nil
	case subprotocol.StreamStart:
		cl.startStream(&req)
	case subprotocol.StreamData:
		cl.streamPart(&req)
	case subprotocol.StreamEnd:
		cl.finishStream(&req)
	case subprotocol.JoinGroup:
		failure = cl.join(req.Group)
	case subprotocol.LeaveGroup:
		failure = cl.leave(req.Group)
	case subprotocol.SendToGroup:
		failure = cl.sendToGroup(&req)
	case subprotocol.SetGroupState:
		failure = stateFailure(cl.hub.SetState(cl.conn, req.Group, req.State))
	case subprotocol.SubscribeGroupState:
		if failure = cl.watch(&req); failure == nil {
			return nil // the answer went before what it announces
		}
	case subprotocol.UnsubscribeGroupState:
		cl.hub.UnwatchState(cl.conn, req.Group)
	}
	cl.answer(&req, failure)
	return nil
}

// answer acknowledges a request that wants it.
func (cl *client) answer(req *subprotocol.Request, failure *subprotocol.AckError) {
	if !req.HasAck {
		return
	}
	if failure == nil {
		cl.acks.add(req.AckID)
	}
	cl.conn.Send(cl.protocol.Ack(req.AckID, failure))
}

// settle waits until the application has answered the client's last event: the requests of a connection are carried
// out one after the other (event handlers, section 8.5). Meanwhile nothing is read, and the client is not watched.
func (cl *client) settle() {
	if cl.waiting() {
		cl.conn.Hold()
		<-cl.asked
		cl.conn.Heard()
	}
	cl.asked = nil
}

// waiting tells whether the application has yet to answer.
func (cl *client) waiting() bool {
	if cl.asked == nil {
		return false
	}
	select {
	case <-cl.asked:
		return false
	default:
		return true
	}
}

// begin carries out a request that waits for the application, and takes it over, beside the reader: pings,
// acknowledgements and cancellations go on.
func (cl *client) begin(req *subprotocol.Request) {
	req.Data = bytes.Clone(req.Data) // it may lie in the read buffer, and outlives the call
	asked := make(chan struct{})
	cl.asked = asked
	cl.server.wg.Go(func() { // the reader is counted, so the count is not zero
		defer close(asked)
		if req.Kind == subprotocol.Invoke {
			cl.invoke(req)
		} else {
			cl.event(req)
		}
	})
}

// watch begins to show the client the states of a group.
func (cl *client) watch(req *subprotocol.Request) *subprotocol.AckError {
	if failure := cl.mayWatch(req.Group); failure != nil {
		return failure
	}
	var first []*hub.Frame
	if req.HasAck {
		first = append(first, cl.protocol.Ack(req.AckID, nil))
	}
	if err := cl.hub.WatchState(cl.conn, req.Group, first...); err != nil {
		return stateFailure(err)
	}
	if req.HasAck {
		cl.acks.add(req.AckID)
	}
	return nil
}

// mayWatch tells whether the client may see the states of a group: as a member, or with leave to become one.
func (cl *client) mayWatch(group string) *subprotocol.AckError {
	if !cl.conn.InGroup(group) && !cl.conn.Allows(hub.JoinLeaveGroup, group) {
		return forbidden("watch", group)
	}
	return nil
}

func stateFailure(err error) *subprotocol.AckError {
	switch {
	case errors.Is(err, hub.ErrNotMember):
		return &subprotocol.AckError{Name: subprotocol.Forbidden, Message: "The client is not a member of the group."}
	case err != nil:
		return &subprotocol.AckError{Name: subprotocol.Forbidden, Message: "The connection has to do with too many group states."}
	}
	return nil
}

func forbidden(what, group string) *subprotocol.AckError {
	return &subprotocol.AckError{
		Name:    subprotocol.Forbidden,
		Message: "The client does not have permission to " + what + " group '" + group + "'.",
	}
}

func (cl *client) join(group string) *subprotocol.AckError {
	if !cl.conn.Allows(hub.JoinLeaveGroup, group) {
		return forbidden("join", group)
	}
	if errors.Is(cl.hub.Join(cl.conn, group), hub.ErrTooManyGroups) {
		cl.server.opt.Counters.refuse(reason.GroupLimit)
		return &subprotocol.AckError{Name: subprotocol.Forbidden, Message: "The connection is in too many groups."}
	}
	return nil
}

func (cl *client) leave(group string) *subprotocol.AckError {
	if !cl.conn.Allows(hub.JoinLeaveGroup, group) {
		return forbidden("leave", group)
	}
	cl.hub.Leave(cl.conn, group)
	return nil
}

func (cl *client) sendToGroup(req *subprotocol.Request) *subprotocol.AckError {
	if !cl.conn.Allows(hub.SendToGroup, req.Group) {
		return forbidden("send to", req.Group)
	}
	m := &hub.Message{
		Group: req.Group, FromUserID: cl.conn.UserID(),
		Type: req.Type, Data: req.Data, Metadata: req.Metadata, TTL: req.TTL,
	}
	var o hub.SendOptions
	if req.NoEcho {
		o.Except = cl.conn
	}
	cl.published(m, cl.hub.SendToGroup(m, o))
	return nil
}

// Reasons of the disconnected event for ends that have their cause here (event handlers, section 7.3).
const (
	reasonBadRequest = "Bad request"
	reasonTooFast    = "Message rate exceeded"
	reasonNoHandler  = "Event handler not found"
	reasonFailed     = "Event handler invocation failed"
)

// event asks the application and passes its answer on.
func (cl *client) event(req *subprotocol.Request) {
	reply, err := cl.ask(req)
	switch {
	case errors.Is(err, errEnded): // nobody is left to be told
		return
	case err != nil:
		cl.answer(req, cl.eventFailed(err))
		return
	case reply != nil:
		cl.conn.SendMessage(reply)
	}
	cl.answer(req, nil)
}

// Why an event is given up.
var (
	errEnded     = errors.New("the connection has ended")
	errCancelled = errors.New("the client has cancelled the invocation")
)

// ask asks the application. The reply is nil if there is none.
func (cl *client) ask(req *subprotocol.Request) (*hub.Message, error) {
	ctx, cancel := context.WithCancelCause(context.Background()) // ended by the end of the connection, or by the client
	defer cancel(nil)
	defer cl.pending(nil, "")
	if !cl.pending(cancel, req.Invocation) {
		return nil, errEnded
	}
	reply, err := cl.session.User(ctx, eventhandler.UserEvent{
		Name: req.Event, Type: eventhandler.DataType(req.Type), Data: req.Data, Metadata: convert[eventhandler.Pair](req.Metadata),
	})
	if given := context.Cause(ctx); given != nil {
		return nil, given
	}
	if err != nil || reply == nil {
		return nil, err
	}
	return &hub.Message{Type: hub.DataType(reply.Type), Data: reply.Data, Metadata: convert[hub.Pair](reply.Metadata)}, nil
}

// invoke is an event whose answer goes to one invocation (section 12).
func (cl *client) invoke(req *subprotocol.Request) {
	reply, err := cl.ask(req)
	var failure *subprotocol.AckError
	switch {
	case errors.Is(err, errCancelled), errors.Is(err, errEnded):
		return
	case errors.Is(err, eventhandler.ErrNoHandler):
		failure = &subprotocol.AckError{Name: subprotocol.NotFound, Message: "Event handler not found."}
	case err != nil:
		cl.server.opt.Log.Debug("invocation failed", "hub", cl.hub.Name(), "conn", cl.conn.ID(), "error", err)
		failure = &subprotocol.AckError{Name: subprotocol.InternalServerError, Message: "Internal server error"}
	}
	cl.conn.Send(cl.protocol.InvokeResponse(req.Invocation, reply, failure))
}

// convert passes metadata from one package's pairs to the other's.
func convert[To, From ~struct{ Key, Value string }](from []From) []To {
	if from == nil {
		return nil
	}
	to := make([]To, len(from))
	for i, kv := range from {
		to[i] = To(kv)
	}
	return to
}

// eventFailed closes a simple client, and one of a hub that wants it so (section 7; event handlers, section 8.4).
// The application's words are not passed on.
func (cl *client) eventFailed(err error) *subprotocol.AckError {
	text, why := "Event handler invocation failed.", reasonFailed
	if errors.Is(err, eventhandler.ErrNoHandler) {
		text, why = "Event handler not found.", reasonNoHandler
	}
	cl.server.opt.Log.Debug("event failed", "hub", cl.hub.Name(), "conn", cl.conn.ID(), "error", err)
	if cl.protocol.Simple() || cl.settings().Extensions.DropOnUserEventFailure {
		cl.conn.CloseFor(hub.CloseInternal, text, why)
	}
	return &subprotocol.AckError{Name: subprotocol.InternalServerError, Message: "Internal server error"}
}

// settings are the present ones of the client's hub.
func (cl *client) settings() *settings.Hub {
	if in, ok := cl.server.opt.Settings().Instance(cl.instance); ok {
		return in.Hub(cl.hub.Name())
	}
	return &settings.Hub{}
}
