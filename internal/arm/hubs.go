package arm

import (
	"encoding/json"
	"errors"
	"fmt"

	"tabard/internal/settings"
)

var hubPropertyNames = []string{"eventHandlers", "eventListeners", "anonymousConnectPolicy", "webSocketKeepAliveIntervalInSeconds", "tabard"}

// A hubBody is the document of a hub's PUT.
type hubBody struct {
	handlers   []*settings.EventHandler
	policy     string
	keepAlive  int
	extensions *settings.HubExtensions
	inert      map[string]json.RawMessage
}

// decodeHub decodes the document for a hub of that name and reports every fault of it at once.
func decodeHub(name string, raw json.RawMessage) (*hubBody, error) {
	var d reader
	doc := d.object("", raw, "properties")
	if len(d.faults) == 0 && absent(doc["properties"]) {
		d.fault("properties", "is required")
	}
	p := d.object("properties", doc["properties"], hubPropertyNames...)
	b := &hubBody{policy: d.text("properties.anonymousConnectPolicy", p["anonymousConnectPolicy"])}
	for i, item := range d.array("properties.eventHandlers", p["eventHandlers"]) {
		b.handlers = append(b.handlers, decodeHandler(&d, fmt.Sprintf("properties.eventHandlers[%d]", i), item))
	}
	if raw := p["webSocketKeepAliveIntervalInSeconds"]; !absent(raw) {
		const at = "properties.webSocketKeepAliveIntervalInSeconds"
		faults := len(d.faults)
		if b.keepAlive = d.integer(at, raw); b.keepAlive == 0 && len(d.faults) == faults {
			d.fault(at, "0 is not between 1 and 120") // to settings, 0 means the default
		}
	}
	if raw, ok := p["tabard"]; ok {
		const at = "properties.tabard"
		o := d.strict(at, raw, "dropOnUserEventFailure", "encodeSecrets", "jsonAsText")
		b.extensions = &settings.HubExtensions{
			DropOnUserEventFailure: d.boolean(at+".dropOnUserEventFailure", o["dropOnUserEventFailure"]),
			EncodeSecrets:          d.boolean(at+".encodeSecrets", o["encodeSecrets"]),
			JSONAsText:             d.boolean(at+".jsonAsText", o["jsonAsText"]),
		}
	}
	if !d.eventListeners("properties.eventListeners", p["eventListeners"]) {
		delete(p, "eventListeners") // none is what every hub has: nothing to warn about
	}
	for _, name := range []string{"eventHandlers", "anonymousConnectPolicy", "webSocketKeepAliveIntervalInSeconds", "tabard"} {
		delete(p, name)
	}
	b.inert = p
	candidate := settings.Hub{Name: name}
	b.apply(&candidate)
	d.addNew(candidate.Validate())
	return b, d.err()
}

// decodeHandler reads one event handler. A name that is not known is a fault here: a misspelt rule would otherwise
// match other events, or send them without a token.
func decodeHandler(d *reader, at string, raw json.RawMessage) *settings.EventHandler {
	names := []string{"urlTemplate", "userEventPattern", "systemEvents", "auth"}
	if absent(raw) {
		d.fault(at, "is null")
		return &settings.EventHandler{}
	}
	o := d.object(at, raw, append(names, "groupPresenceEvents")...)
	if _, ok := o["groupPresenceEvents"]; ok {
		d.fault(at+".groupPresenceEvents", "is not supported by this service")
		delete(o, "groupPresenceEvents")
	}
	d.only(at, o, names...)
	e := &settings.EventHandler{
		URLTemplate:      d.text(at+".urlTemplate", o["urlTemplate"]),
		UserEventPattern: d.text(at+".userEventPattern", o["userEventPattern"]),
		SystemEvents:     d.texts(at+".systemEvents", o["systemEvents"]),
	}
	if a := d.strict(at+".auth", o["auth"], "type", "managedIdentity"); a != nil {
		e.Auth = &settings.Auth{Type: d.text(at+".auth.type", a["type"])}
		if mi := d.strict(at+".auth.managedIdentity", a["managedIdentity"], "resource"); mi != nil {
			e.Auth.ManagedIdentity = &settings.ManagedIdentity{Resource: d.text(at+".auth.managedIdentity.resource", mi["resource"])}
		}
	}
	return e
}

func (b *hubBody) apply(h *settings.Hub) {
	h.EventHandlers, h.AnonymousConnectPolicy, h.KeepAliveSeconds, h.Inert = b.handlers, b.policy, b.keepAlive, b.inert
	if b.extensions != nil { // unknown to Azure's clients, so a PUT without it keeps it
		h.Extensions = *b.extensions
	}
}

// hub is the document of a hub's settings. The policy and the interval are always there: clients read them unchecked.
func hub(in *settings.Instance, h *settings.Hub) map[string]any {
	handlers := make([]map[string]any, len(h.EventHandlers))
	for i, e := range h.EventHandlers {
		systemEvents := e.SystemEvents
		if systemEvents == nil {
			systemEvents = []string{}
		}
		handlers[i] = map[string]any{"urlTemplate": e.URLTemplate, "systemEvents": systemEvents}
		if e.UserEventPattern != "" {
			handlers[i]["userEventPattern"] = e.UserEventPattern
		}
		if e.Auth != nil {
			handlers[i]["auth"] = e.Auth
		}
	}
	policy := h.AnonymousConnectPolicy
	if policy == "" {
		policy = "deny"
	}
	p := map[string]any{
		"eventHandlers":                       handlers,
		"anonymousConnectPolicy":              policy,
		"webSocketKeepAliveIntervalInSeconds": int(h.KeepAlive().Seconds()),
		"tabard":                              map[string]bool{"dropOnUserEventFailure": h.Extensions.DropOnUserEventFailure, "encodeSecrets": h.Extensions.EncodeSecrets, "jsonAsText": h.Extensions.JSONAsText},
	}
	for name, value := range h.Inert {
		p[name] = value
	}
	return map[string]any{"id": in.ResourceID() + "/hubs/" + h.Name, "name": h.Name, "type": hubType, "properties": p}
}

func (s *server) listHubs(c *call) (reply, error) {
	in, err := s.findParent(c, hubType)
	if err != nil {
		return reply{}, err
	}
	var list []map[string]any
	for _, h := range in.SortedHubs() {
		list = append(list, hub(in, h))
	}
	return values(list), nil
}

func (s *server) getHub(c *call) (reply, error) {
	in, err := s.findParent(c, hubType)
	if err != nil {
		return reply{}, err
	}
	h := in.Hub(c.params["hub"])
	if h.Name == "" { // the defaults of a hub that nobody configured
		return reply{}, resourceNotFound(hubType, c.params["name"]+"/"+c.params["hub"], in.ResourceGroup)
	}
	return c.resource(200, hub(in, h)), nil
}

// putHub answers 201 when it made or changed the settings and 200 when they were just that (spec 2.7). Handlers are asked
// afterwards whether they want events, so that the question is that of the hub as it is now; before, if the instance
// lets nobody in who does not.
func (s *server) putHub(c *call) (reply, error) {
	raw, err := c.readJSON()
	if err != nil {
		return reply{}, err
	}
	body, err := decodeHub(c.params["hub"], raw)
	if err != nil {
		return reply{}, err
	}
	in, err := s.findParent(c, hubType)
	if err != nil {
		return reply{}, err
	}
	ctx, cancel := c.writing()
	defer cancel()
	if in.Extensions.Validation() == settings.ValidationEnforce {
		candidate := settings.Hub{Name: c.params["hub"]}
		body.apply(&candidate)
		compiled, faults := candidate.Compiled()
		if len(faults) == 0 {
			faults = s.validateHandlers(ctx, in, compiled)
		}
		if len(faults) > 0 {
			return reply{}, faults
		}
	}
	h, changed, err := s.Settings.UpdateHub(ctx, c.params["name"], c.params["hub"], func(h *settings.Hub) error {
		if err := s.matchHub(c, in, h); err != nil {
			return err
		}
		body.apply(h)
		return nil
	})
	if errors.Is(err, settings.ErrNotFound) {
		return reply{}, parentNotFound(hubType, c.params["name"])
	}
	if err != nil {
		return reply{}, err
	}
	if in, err = s.findParent(c, hubType); err != nil { // deleted right after our write
		return reply{}, err
	}
	c.warn(append(s.handlerWarnings(in, h, ""), inert("properties", h.Inert)...)...)
	if in.Extensions.Validation() == settings.ValidationWarn {
		c.warn(warningsOf(s.validateHandlers(ctx, in, h))...)
	}
	if changed {
		return c.resource(201, hub(in, h)), nil
	}
	return c.resource(200, hub(in, h)), nil
}

// matchHub holds the request's preconditions against a hub's settings.
func (s *server) matchHub(c *call, in *settings.Instance, h *settings.Hub) error {
	if !h.Stored() {
		return c.match(nil)
	}
	return c.match(hub(in, h))
}

func (s *server) deleteHub(c *call) (reply, error) {
	in, err := s.findParent(c, hubType)
	if err != nil {
		return reply{}, err
	}
	ctx, cancel := c.writing()
	defer cancel()
	err = s.Settings.DeleteHub(ctx, c.params["name"], c.params["hub"], func(h *settings.Hub) error { return c.match(hub(in, h)) })
	if errors.Is(err, settings.ErrNotFound) {
		return reply{status: 204}, c.match(nil)
	}
	return reply{status: 200}, err
}
