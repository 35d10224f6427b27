package settings

import (
	"encoding/json"
	"maps"
	"slices"
	"strings"
	"time"
)

// DefaultKeepAlive is the interval of WebSocket pings where a hub names none (ARM: 20 s, 1 to 120).
const DefaultKeepAlive = 20 * time.Second

var defaultHub Hub

// A Hub is the settings of one hub in the shape of ARM's hub properties. The zero value is what an unconfigured
// hub has.
type Hub struct {
	Name string `json:"name,omitempty"` // as created; compared ignoring case

	// EventHandlers in order: the first that matches an event gets it, alone.
	EventHandlers []*EventHandler `json:"eventHandlers,omitempty"`
	// AnonymousConnectPolicy is "allow" or "deny" (default), as given; see AllowAnonymous.
	AnonymousConnectPolicy string `json:"anonymousConnectPolicy,omitempty"`
	// KeepAliveSeconds is the interval of the service's WebSocket pings, 1 to 120; 0 means 20.
	KeepAliveSeconds int `json:"webSocketKeepAliveIntervalInSeconds,omitempty"`
	// Extensions are switches that Azure does not have.
	Extensions HubExtensions `json:"extensions,omitzero"`

	// Inert keeps ARM properties that are stored and returned but have no effect.
	Inert map[string]json.RawMessage `json:"inert,omitempty"`

	stored bool
}

// Stored tells an edit whether the hub has settings already.
func (h *Hub) Stored() bool { return h.stored }

// HubExtensions are per-hub switches outside Azure's model, all off by default.
type HubExtensions struct {
	// DropOnUserEventFailure closes a client's connection when its user event fails, as Azure's CloudEvents page has
	// it, instead of a failed ack (the newer behaviour and our default). Raw clients are closed either way.
	DropOnUserEventFailure bool `json:"dropOnUserEventFailure,omitempty"`
	// EncodeSecrets percent-encodes the secrets that URL templates refer to, as one URI component each, so that a value
	// with "+" or "&" reaches a handler as it is. By default they are inserted as stored, since many store text that is
	// encoded already.
	EncodeSecrets bool `json:"encodeSecrets,omitempty"`
	// JSONAsText sends JSON to protobuf clients as text_data, for those that were built from a schema without json_data.
	// It counts for connections made after it was set.
	JSONAsText bool `json:"jsonAsText,omitempty"`
}

// An EventHandler is one entry of a hub's ordered list.
type EventHandler struct {
	URLTemplate      string   `json:"urlTemplate"`
	UserEventPattern string   `json:"userEventPattern,omitempty"` // "*", one name, or names separated by commas; "" matches none
	SystemEvents     []string `json:"systemEvents,omitempty"`     // connect, connected, disconnected
	Auth             *Auth    `json:"auth,omitempty"`             // nil: no authentication

	template *URLTemplate
	names    []string // of UserEventPattern, trimmed
}

// Auth says how the service authenticates to a handler.
type Auth struct {
	Type            string           `json:"type"` // None or ManagedIdentity
	ManagedIdentity *ManagedIdentity `json:"managedIdentity,omitempty"`
}

// ManagedIdentity names the audience of the token. An empty Resource means Microsoft Graph, whose tokens no other
// receiver can verify.
type ManagedIdentity struct {
	Resource string `json:"resource,omitempty"`
}

// The values of Auth.Type.
const (
	AuthNone            = "None"
	AuthManagedIdentity = "ManagedIdentity"
)

// AllowAnonymous tells whether a client without a token may connect.
func (h *Hub) AllowAnonymous() bool { return strings.EqualFold(h.AnonymousConnectPolicy, "allow") }

// KeepAlive is the interval of WebSocket pings.
func (h *Hub) KeepAlive() time.Duration {
	if h.KeepAliveSeconds == 0 {
		return DefaultKeepAlive
	}
	return time.Duration(h.KeepAliveSeconds) * time.Second
}

// SystemHandler returns the first handler that wants the system event, or nil.
func (h *Hub) SystemHandler(event string) *EventHandler {
	for _, e := range h.EventHandlers {
		if slices.ContainsFunc(e.SystemEvents, func(s string) bool { return strings.EqualFold(s, event) }) {
			return e
		}
	}
	return nil
}

// UserHandler returns the first handler that wants the user event, or nil.
func (h *Hub) UserHandler(event string) *EventHandler {
	for _, e := range h.EventHandlers {
		if slices.ContainsFunc(e.names, func(s string) bool { return s == "*" || strings.EqualFold(s, event) }) {
			return e
		}
	}
	return nil
}

// NewEventHandler makes an event handler outside a hub's settings: for the events of somebody who names a URL himself.
func NewEventHandler(url string, auth *Auth) (*EventHandler, error) {
	template, err := ParseURLTemplate(url)
	if err != nil {
		return nil, err
	}
	return &EventHandler{URLTemplate: url, Auth: auth, template: template}, nil
}

// Template is the parsed URLTemplate; never nil on a handler that came from a Snapshot.
func (e *EventHandler) Template() *URLTemplate { return e.template }

// UsesManagedIdentity tells whether requests to the handler carry an access token.
func (e *EventHandler) UsesManagedIdentity() bool {
	return e.Auth != nil && strings.EqualFold(e.Auth.Type, AuthManagedIdentity)
}

// Resource is the audience of the handler's tokens, byte for byte as configured; "" means Microsoft Graph.
func (e *EventHandler) Resource() string {
	if e.Auth == nil || e.Auth.ManagedIdentity == nil {
		return ""
	}
	return e.Auth.ManagedIdentity.Resource
}

func (h *Hub) clone() *Hub {
	c := *h
	c.Inert = maps.Clone(h.Inert)
	c.EventHandlers = make([]*EventHandler, len(h.EventHandlers))
	for i, e := range h.EventHandlers {
		ce := *e
		ce.SystemEvents = slices.Clone(e.SystemEvents)
		if e.Auth != nil {
			a := *e.Auth
			if a.ManagedIdentity != nil {
				mi := *a.ManagedIdentity
				a.ManagedIdentity = &mi
			}
			ce.Auth = &a
		}
		c.EventHandlers[i] = &ce
	}
	return &c
}
