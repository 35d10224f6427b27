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

// getTrace serves R/trace, Tabard's window on what happened and why: the routes and their query are described in package
// trace. It answers the kept records as a list, or, to a client that accepts text/event-stream, those and then each new
// one as it happens, with comments while nothing happens.
func (s *server) getTrace(c *call) (reply, error) {
	in, err := s.findParent(c, instanceType+"/trace")
	if err != nil {
		return reply{}, err
	}
	filter, none, err := s.traceFilter(c, in)
	if err != nil {
		return reply{}, err
	}
	if acceptsStream(c.r) {
		return s.streamTrace(c, in, filter, none, func(rec *trace.Record) any { return rec })
	}
	if none {
		return values([]trace.Record{}), nil
	}
	if !strings.EqualFold(c.query("history"), "true") {
		return values(s.Trace.Records(filter)), nil
	}
	list, durable, err := s.Trace.History(c.r.Context(), filter)
	if err == nil && !durable {
		err = refuse(http.StatusConflict, "HistoryNotKept", "The records of this service are kept in memory alone; start it with --trace-durable to have a history.")
	}
	return values(list), err
}

// listen serves R/listen: the deliveries as they happen, with what is sent.
func (s *server) listen(c *call) (reply, error) {
	in, err := s.findParent(c, instanceType+"/listen")
	if err != nil {
		return reply{}, err
	}
	filter, none, err := s.traceFilter(c, in)
	if err != nil {
		return reply{}, err
	}
	filter.Kind = trace.Delivery
	if c.query("last") == "" && filter.After == 0 {
		none = true // only what happens from now on
	}
	return s.streamTrace(c, in, filter, none, func(rec *trace.Record) any {
		return map[string]any{"record": rec, "content": s.shown(in, rec)}
	})
}

// oneRecord finds the record that the path names.
func (s *server) oneRecord(c *call, kind string) (*settings.Instance, trace.Record, error) {
	in, err := s.findParent(c, instanceType+kind)
	if err != nil {
		return nil, trace.Record{}, err
	}
	id, err := strconv.ParseUint(c.params["record"], 10, 64)
	if err == nil {
		if rec, ok := s.Trace.Find(in.Name, id); ok {
			return in, rec, nil
		}
	}
	return nil, trace.Record{}, recordNotFound(c.params["record"])
}

func (s *server) getRecord(c *call) (reply, error) {
	_, rec, err := s.oneRecord(c, "/trace")
	if err != nil {
		return reply{}, err
	}
	return reply{http.StatusOK, rec}, nil
}

// listContent is a POST, as whatever shows more than a reader may see is: bodies are the clients' own.
func (s *server) listContent(c *call) (reply, error) {
	in, rec, err := s.oneRecord(c, "/trace/listContent")
	if err != nil {
		return reply{}, err
	}
	content := s.shown(in, &rec)
	if content == nil {
		return reply{}, contentNotKept(rec.ID)
	}
	return reply{http.StatusOK, content}, nil
}

// shown is what was sent, with its headers; nil if it is not kept.
func (s *server) shown(in *settings.Instance, rec *trace.Record) *trace.Content {
	content := rec.Content()
	if content == nil || s.Events == nil {
		return content
	}
	with := *content
	with.Header = s.Events.Header(in, rec)
	return &with
}

// traceReasons serves the catalogue of reason codes, so that a reader of records needs no copy of it.
func (s *server) traceReasons(c *call) (reply, error) {
	if _, err := s.findParent(c, instanceType+"/traceReasons"); err != nil {
		return reply{}, err
	}
	type entry struct {
		Code     reason.Code `json:"code"`
		Sentence string      `json:"sentence"`
		Fix      string      `json:"fix"`
	}
	var list []entry
	for _, r := range reason.All() {
		list = append(list, entry{r.Code, r.Sentence, r.Fix})
	}
	return values(list), nil
}

func (s *server) traceFilter(c *call, in *settings.Instance) (f trace.Filter, none bool, err error) {
	var d reader
	f = trace.Filter{
		Instance: in.Name, Hub: c.query("hub"), Connection: c.query("connectionId"), User: c.query("userId"), Event: c.query("event"),
		Kind: trace.Kind(c.query("kind")), Code: reason.Code(c.query("code")),
		Category: trace.Category(c.query("category")), Level: trace.Level(c.query("level")),
	}
	oneOf(&d, "kind", &f.Kind, trace.Kinds())
	oneOf(&d, "category", &f.Category, trace.Categories())
	oneOf(&d, "level", &f.Level, trace.Levels())
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
	if since := c.query("since"); since != "" {
		if ago, err := time.ParseDuration(since); err == nil && ago >= 0 {
			f.Since = time.Now().Add(-ago)
		} else if f.Since, err = time.Parse(time.RFC3339, since); err != nil {
			d.fault("since", "%q is neither a time like 2026-01-02T15:04:05Z nor a duration like 10m", since)
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

// oneOf checks that value, unless it is empty, is one of the list, ignoring case, and gives it that spelling.
func oneOf[T ~string](d *reader, name string, value *T, list []T) {
	if *value == "" {
		return
	}
	names := make([]string, len(list))
	for i, v := range list {
		names[i] = string(v)
		if strings.EqualFold(string(v), string(*value)) {
			*value = v
			return
		}
	}
	d.fault(name, "%q is none of %s", string(*value), strings.Join(names, ", "))
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
func (s *server) streamTrace(c *call, in *settings.Instance, filter trace.Filter, none bool, show func(*trace.Record) any) (reply, error) {
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
		out.record(kept[i].ID, show(&kept[i]))
	}
	tick := time.NewTicker(s.KeepAlive)
	defer tick.Stop()
	var told uint64
	for out.flush() {
		select {
		case rec := <-events:
			out.record(rec.ID, show(&rec))
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

func (o *stream) record(id uint64, what any) {
	body, err := json.Marshal(what)
	if err != nil {
		o.err = err
		return
	}
	o.send(fmt.Sprintf("id: %d\nevent: record\ndata: %s\n\n", id, body))
}

func (o *stream) flush() bool {
	if o.err == nil {
		o.err = o.rc.Flush()
	}
	return o.err == nil
}
