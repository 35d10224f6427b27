package arm

import (
	"context"
	"encoding/json"
	"math"
	"strconv"
	"strings"
	"time"

	"tabard/guard/reason"
	"tabard/internal/settings"
)

// Tabard's own window on the present, below an instance: who is connected, and whether an event handler would take an
// event. Azure's portal shows the first as metrics minutes later and the second not at all.

// Live is who is connected to instances now.
type Live interface {
	// Hubs lists the hubs of an instance that have had connections, by name.
	Hubs(in *settings.Instance) []LiveHub
	// Connections lists up to limit connections of a hub in the order of their ids, beginning behind after, and tells
	// whether there are more; only those in the group and of the user, where these are not empty.
	Connections(in *settings.Instance, hub, group, user, after string, limit int) ([]LiveConnection, bool)
}

// A LiveHub is how many are in a hub.
type LiveHub struct {
	Name        string  `json:"name"`
	Connections int     `json:"connections"`
	Users       []Crowd `json:"users"`  // by name, the first MaxCrowds
	Groups      []Crowd `json:"groups"` // the same
	UserCount   int     `json:"userCount"`
	GroupCount  int     `json:"groupCount"`
}

// A Crowd is a group or user and the number of its connections.
type Crowd struct {
	Name        string `json:"name"`
	Connections int    `json:"connections"`
}

// MaxCrowds bounds the groups, and the users, that are listed of one hub.
const MaxCrowds = 200

// A LiveConnection is one client.
type LiveConnection struct {
	ID          string   `json:"connectionId"`
	User        string   `json:"userId,omitempty"`
	Subprotocol string   `json:"subprotocol,omitempty"`
	Groups      []string `json:"groups"` // the first MaxCrowds
}

// A HandlerCheck is what came of asking an event handler whether it wants events.
type HandlerCheck struct {
	Code   reason.Code     // reason.Delivered: it does
	Status int             // of its answer, 0 if there was none
	Detail string          // what exactly; holds no secret
	Claims json.RawMessage // of the token that it was sent; nil: none was
}

// checkTimeout bounds asking a handler.
const checkTimeout = 30 * time.Second

// getLive answers how many are connected, by hub, and under which address clients reach the instance.
func (s *server) getLive(c *call) (reply, error) {
	in, err := s.find(c)
	if err != nil {
		return reply{}, err
	}
	total, users, hubs := 0, 0, []LiveHub{}
	if s.Live != nil {
		hubs = append(hubs, s.Live.Hubs(in)...)
	}
	for _, h := range hubs {
		total += h.Connections
		users += h.UserCount
	}
	return reply{200, map[string]any{"endpoint": s.Endpoint(in), "connections": total, "users": users, "hubs": hubs}}, nil
}

// maxPage bounds the connections in one answer; it is also the default.
const maxPage = 200

// listConnections answers who is connected to a hub. Query: group, userId, top (1 to 200), after (a connection id).
func (s *server) listConnections(c *call) (reply, error) {
	in, err := s.find(c)
	if err != nil {
		return reply{}, err
	}
	var d reader
	top := maxPage
	if text := c.query("top"); text != "" {
		if top, err = strconv.Atoi(text); err != nil || top < 1 || top > maxPage {
			d.fault("top", "%q is not between 1 and %d", text, maxPage)
		}
	}
	if err := d.err(); err != nil {
		return reply{}, err
	}
	list, more := []LiveConnection{}, false
	if s.Live != nil {
		found, rest := s.Live.Connections(in, c.params["hub"], c.query("group"), c.query("userId"), c.query("after"), top)
		list, more = append(list, found...), rest
	}
	body := map[string]any{"value": list}
	if more {
		body["after"] = list[len(list)-1].ID // where the next page begins
	}
	return reply{200, body}, nil
}

// checkHandler judges one event handler of the body as putHub would, without storing it, shows the URL that an event of
// the name in "event" would go to, and, if "ask" is true, asks the handler whether it wants events, as the service does
// before the first one. Values of secrets are not in the answer.
func (s *server) checkHandler(c *call) (reply, error) {
	raw, err := c.readJSON()
	if err != nil {
		return reply{}, err
	}
	in, err := s.find(c)
	if err != nil {
		return reply{}, err
	}
	var d reader
	doc := d.object("", raw, "handler", "event", "ask")
	event := d.text("event", doc["event"])
	if event == "" {
		event = "message"
	}
	if len(event) > math.MaxUint8 {
		d.fault("event", "is longer than %d characters", math.MaxUint8)
	}
	ask := d.boolean("ask", doc["ask"])
	hub := settings.Hub{Name: c.params["hub"], EventHandlers: []*settings.EventHandler{decodeHandler(&d, "handler", doc["handler"])}}
	judged, faults := hub.Compiled()
	for _, f := range faults { // of a list with one handler
		f.Field = strings.Replace(f.Field, "properties.eventHandlers[0]", "handler", 1)
		d.addNew(settings.Faults{f})
	}
	if err := d.err(); err != nil {
		return reply{}, err
	}
	handler := judged.EventHandlers[0]
	url, err := handler.Template().Expand(c.params["hub"], event, func(string) (string, error) { return "[secret]", nil })
	if err != nil {
		return reply{}, err
	}
	body := map[string]any{"url": url, "secretUris": list(handler.Template().SecretURIs()), "warnings": list(s.handlerWarnings(in, judged, ""))}
	if ask && s.Options.CheckHandler != nil {
		ctx, cancel := context.WithTimeout(c.r.Context(), checkTimeout)
		defer cancel()
		body["check"] = checkDocument(s.Options.CheckHandler(ctx, in, c.params["hub"], handler))
	}
	return reply{200, body}, nil
}

func checkDocument(o HandlerCheck) map[string]any {
	r, _ := reason.Lookup(o.Code)
	doc := map[string]any{"passed": o.Code == reason.Delivered, "code": o.Code, "status": o.Status, "sentence": r.Sentence, "fix": r.Fix, "detail": o.Detail}
	if o.Claims != nil {
		doc["claims"] = o.Claims
	}
	return doc
}
