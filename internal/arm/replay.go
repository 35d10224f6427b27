package arm

import (
	"encoding/base64"
	"net/http"

	"tabard/internal/trace"
)

// replay serves POST R/trace/{record}/replay: a recorded event again, and how its answer compares. It needs the content
// of the event, which is kept within bounds.
func (s *server) replay(c *call) (reply, error) {
	in, rec, err := s.oneRecord(c, "/trace/replay")
	if err != nil {
		return reply{}, err
	}
	body, err := c.readJSON()
	if err != nil {
		return reply{}, err
	}
	var d reader
	o := d.strict("", body, "to", "audience")
	to, audience := d.text("to", o["to"]), d.text("audience", o["audience"])
	if audience != "" && to == "" {
		d.fault("audience", "is for another URL: without to, the rule's own audience is used")
	}
	if err := d.err(); err != nil {
		return reply{}, err
	}
	if rec.Content() == nil || s.Events == nil {
		return reply{}, contentNotKept(rec.ID)
	}
	result, err := s.Events.Replay(c.r.Context(), in, &rec, to, audience)
	if err != nil {
		return reply{}, err
	}
	return reply{http.StatusOK, result}, nil
}

// trigger serves POST R/hubs/{hub}/trigger: an event that no client sent, on the road of all events.
func (s *server) trigger(c *call) (reply, error) {
	in, err := s.findParent(c, instanceType+"/hubs/trigger")
	if err != nil {
		return reply{}, err
	}
	body, err := c.readJSON()
	if err != nil {
		return reply{}, err
	}
	var d reader
	o := d.strict("", body, "event", "systemEvent", "userId", "connectionId", "data", "json", "base64")
	ev := &trace.Synthetic{
		Event: d.text("event", o["event"]), System: d.boolean("systemEvent", o["systemEvent"]),
		User: d.text("userId", o["userId"]), Connection: d.text("connectionId", o["connectionId"]),
	}
	given := 0
	if raw := o["data"]; !absent(raw) {
		given++
		text := d.text("data", raw)
		ev.Data = &text
	}
	if raw := o["json"]; !absent(raw) {
		given++
		ev.JSON = raw
	}
	if raw := o["base64"]; !absent(raw) {
		given++
		if ev.Base64, err = base64.StdEncoding.DecodeString(d.text("base64", raw)); err != nil {
			d.fault("base64", "is not base64")
		}
	}
	if given > 1 {
		d.fault("data", "excludes json and base64: an event has one body")
	}
	if err := d.err(); err != nil {
		return reply{}, err
	}
	if s.Events == nil {
		return reply{}, refuse(http.StatusServiceUnavailable, "ServiceUnavailable", "This process delivers no events.")
	}
	result, err := s.Events.Trigger(c.r.Context(), in, c.params["hub"], ev)
	if err != nil {
		return reply{}, err
	}
	return reply{http.StatusOK, result}, nil
}
