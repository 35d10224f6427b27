package arm

import (
	"encoding/json"
	"fmt"
	"mime"
	"net/http"
	"strconv"
	"strings"
	"time"

	"tabard/guard/reason"
	"tabard/internal/settings"
	"tabard/internal/trace"
)

// streamTimeout bounds one write to the reader of a live trace; one that takes nothing for so long is cut off.
const streamTimeout = 30 * time.Second

// getTrace serves R/trace, Tabard's window on what happened and why. It answers the kept records as a list, or, to a
// client that accepts text/event-stream, those and then each new one as it happens: an event "record" whose id lets a
// client that reconnects go on where it was, an event "lost" when it was too slow, and comments while nothing happens.
// Query: hub, connectionId, userId, event, kind and code must be equal; after=ID drops older records; last=N keeps the
// newest N (0: only what happens from now on).
func (s *server) getTrace(c *call) (reply, error) {
	in, err := s.findParent(c, instanceType+"/trace")
	if err != nil {
		return reply{}, err
	}
	filter, none, err := traceFilter(c, in)
	if err != nil {
		return reply{}, err
	}
	if acceptsStream(c.r) {
		return s.streamTrace(c, in, filter, none)
	}
	if none {
		return values([]trace.Record{}), nil
	}
	return values(s.Trace.Records(filter)), nil
}

func traceFilter(c *call, in *settings.Instance) (f trace.Filter, none bool, err error) {
	var d reader
	f = trace.Filter{
		Instance: in.Name, Hub: c.query("hub"), Connection: c.query("connectionId"), User: c.query("userId"), Event: c.query("event"),
		Kind: trace.Kind(c.query("kind")), Code: reason.Code(c.query("code")),
	}
	switch f.Kind {
	case "", trace.Delivery, trace.Validation, trace.Connection, trace.Request, trace.Identity:
	default:
		d.fault("kind", "%q is none of delivery, validation, connection, request, identity", string(f.Kind))
	}
	if _, known := reason.Lookup(f.Code); !known && f.Code != "" {
		d.fault("code", "%q is not a reason code", string(f.Code))
	}
	after := c.query("after")
	if resumed := c.r.Header.Get("Last-Event-ID"); resumed != "" {
		after = resumed
	}
	if after != "" {
		if f.After, err = strconv.ParseUint(after, 10, 64); err != nil {
			d.fault("after", "%q is not the id of a record", after)
		}
	}
	if last := c.query("last"); last != "" {
		if f.Last, err = strconv.Atoi(last); err != nil || f.Last < 0 {
			d.fault("last", "%q is not a number of records", last)
		}
		none = f.Last == 0
	}
	return f, none, d.err()
}

func acceptsStream(r *http.Request) bool {
	for _, accept := range r.Header.Values("Accept") {
		for part := range strings.SplitSeq(accept, ",") {
			if media, _, err := mime.ParseMediaType(part); err == nil && media == "text/event-stream" {
				return true
			}
		}
	}
	return false
}

// streamTrace ends when the client goes, when the service stops, or when the instance is gone.
func (s *server) streamTrace(c *call, in *settings.Instance, filter trace.Filter, none bool) (reply, error) {
	if s.followers.Add(1) > maxFollowers {
		s.followers.Add(-1)
		return reply{}, tooManyFollowers()
	}
	defer s.followers.Add(-1)
	var (
		kept   []trace.Record
		events <-chan trace.Record
		lost   = func() uint64 { return 0 }
	)
	if s.Trace != nil {
		var sub *trace.Subscription
		kept, sub = s.Trace.Follow(filter)
		defer sub.Close()
		events, lost = sub.C(), sub.Lost
	}
	if none {
		kept = nil
	}
	c.identify()
	h := c.w.Header()
	h.Set("Content-Type", "text/event-stream; charset=utf-8")
	h.Set("Cache-Control", "no-store")
	h.Set("X-Accel-Buffering", "no") // proxies that buffer would hold events back
	c.w.WriteHeader(http.StatusOK)
	out := &stream{w: c.w, rc: http.NewResponseController(c.w)}
	defer func() { _ = out.rc.SetWriteDeadline(time.Time{}) }() // the connection may serve other requests
	out.send(": tabard trace\n\n")
	for i := range kept {
		out.record(&kept[i])
	}
	tick := time.NewTicker(s.KeepAlive)
	defer tick.Stop()
	var told uint64
	for out.flush() {
		select {
		case rec := <-events:
			out.record(&rec)
		case <-tick.C:
			if now, ok := s.lookup(c); !ok || !now.Created.Equal(in.Created) {
				out.send(": the instance is gone\n\n")
				out.flush()
				return reply{}, nil
			}
			out.send(": keep-alive\n\n")
		case <-s.Done:
			out.send(": the service is stopping\n\n")
			out.flush()
			return reply{}, nil
		case <-c.r.Context().Done():
			return reply{}, nil
		}
		if n := lost(); n > told {
			out.send(fmt.Sprintf("event: lost\ndata: {\"lost\":%d}\n\n", n-told))
			told = n
		}
	}
	return reply{}, nil
}

// A stream writes server-sent events. After its first error it does nothing more.
type stream struct {
	w   http.ResponseWriter
	rc  *http.ResponseController
	err error
}

func (o *stream) send(text string) {
	if o.err != nil {
		return
	}
	_ = o.rc.SetWriteDeadline(time.Now().Add(streamTimeout)) // not every writer can; then the server's own limit holds
	_, o.err = o.w.Write([]byte(text))
}

func (o *stream) record(rec *trace.Record) {
	body, err := json.Marshal(rec)
	if err != nil {
		o.err = err
		return
	}
	o.send(fmt.Sprintf("id: %d\nevent: record\ndata: %s\n\n", rec.ID, body))
}

func (o *stream) flush() bool {
	if o.err == nil {
		o.err = o.rc.Flush()
	}
	return o.err == nil
}
