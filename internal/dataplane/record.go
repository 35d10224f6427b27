package dataplane

import (
	"time"

	"tabard/internal/hub"
	"tabard/internal/trace"
)

// record leaves a record of the request. Those that belong to no instance leave none.
func (c *call) record(a *answer) {
	if c.instance == nil {
		return
	}
	rec := trace.Record{
		Time: c.began, Duration: time.Since(c.began), Kind: trace.Request, Operation: c.op.name,
		Instance: c.instance.Name, Hub: c.hubName, Connection: c.connection, User: c.user, Group: c.group,
		CallerIP: trace.Caller(c.r), Method: c.op.method, Route: c.op.path, URL: c.r.URL.EscapedPath(), TraceID: trace.ID(c.r.Header),
		Status: a.status, Detail: a.message,
	}
	if why := c.refused; why != nil {
		rec.Claims, rec.Code, rec.Detail = why.Claims, why.Code, why.Message
	}
	c.opt.Trace.Record(rec)
}

// published leaves a record of a publication: one, however many receive it.
func (c *call) published(m *hub.Message, receivers int) {
	c.opt.Trace.Record(trace.Record{
		Kind: trace.Message, Operation: c.op.name, Instance: c.instance.Name, Hub: c.hubName, Connection: c.connection, User: c.user, Group: c.group,
		CallerIP: trace.Caller(c.r), TraceID: trace.ID(c.r.Header), DataType: m.Type.String(), Bytes: len(m.Data), Receivers: receivers,
	})
}
