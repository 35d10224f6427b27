package settings

import (
	"cmp"
	"encoding/json"
	"maps"
	"slices"
	"strings"
	"time"
)

// Default coordinates of the instance that exists from the first start. Its ARM id is
// /subscriptions/{subscriptionId}/resourceGroups/default/providers/Microsoft.SignalRService/webPubSub/default.
const (
	DefaultInstance      = "default"
	DefaultResourceGroup = "default"
	DefaultLocation      = "local"
)

// An Instance is one Web PubSub resource: its own host name, keys, identity and hubs. Values that readers get
// from a [Snapshot] are shared and must not be changed; [Settings.Update] hands out a copy to edit.
type Instance struct {
	Name           string            `json:"name"`           // as created; compared ignoring case
	SubscriptionID string            `json:"subscriptionId"` // GUID
	ResourceGroup  string            `json:"resourceGroup"`
	Location       string            `json:"location"`
	Kind           string            `json:"kind,omitempty"` // WebPubSub (default) or SocketIO
	Tags           map[string]string `json:"tags,omitempty"`
	SKU            SKU               `json:"sku"`

	Keys     Keys     `json:"keys"`
	Identity Identity `json:"identity"`

	// DisableLocalAuth switches access keys off: no token signed with them is accepted and events carry no ce-signature.
	DisableLocalAuth bool `json:"disableLocalAuth,omitempty"`
	// DisableAADAuth switches Entra tokens off on the data plane.
	DisableAADAuth bool `json:"disableAadAuth,omitempty"`

	// PublicNetworkDisabled refuses every request to the public endpoint; NetworkACLs refuse some. See Admits.
	PublicNetworkDisabled bool         `json:"publicNetworkDisabled,omitempty"`
	NetworkACLs           *NetworkACLs `json:"networkACLs,omitempty"`

	// Stopped shuts the instance's data plane down: no connection, no REST call (ARM resourceStopped).
	Stopped bool `json:"resourceStopped,omitempty"`

	// CustomCertificates, CustomDomains and SharedPrivateLinks by lower-cased name.
	CustomCertificates map[string]*CustomCertificate `json:"customCertificates,omitempty"`
	CustomDomains      map[string]*CustomDomain      `json:"customDomains,omitempty"`
	SharedPrivateLinks map[string]*SharedPrivateLink `json:"sharedPrivateLinkResources,omitempty"`

	// Extensions are switches that Azure does not have.
	Extensions Extensions `json:"extensions,omitzero"`

	// Hubs by lower-cased name. A hub without an entry has the defaults of [Hub].
	Hubs map[string]*Hub `json:"hubs,omitempty"`

	// Inert keeps ARM properties that are stored and returned but have no effect.
	Inert map[string]json.RawMessage `json:"inert,omitempty"`

	Created  time.Time `json:"created"`
	Modified time.Time `json:"modified"`

	resourceID string
	revision   uint64
}

// SKU is stored and returned; it limits nothing.
type SKU struct {
	Name     string `json:"name"`
	Tier     string `json:"tier,omitempty"`
	Capacity int    `json:"capacity"`
}

// Keys are the two access keys. Both are valid at any time; each is used as text, never base64-decoded.
type Keys struct {
	Primary   string `json:"primary"`
	Secondary string `json:"secondary"`
}

// Extensions are per-instance switches outside Azure's model, all off by default.
type Extensions struct {
	// AllowTokenOverHTTP lets a bearer token travel to a handler over plain http beyond loopback. Dangerous: whoever
	// can read that network can replay the token against every handler with the same audience until it expires.
	AllowTokenOverHTTP bool `json:"allowTokenOverPlainHttp,omitempty"`
	// SkipLoopbackValidation omits the abuse-protection handshake for handlers on a loopback address.
	SkipLoopbackValidation bool `json:"skipLoopbackValidation,omitempty"`
	// RefuseGraphAudience refuses, at configuration, a handler whose empty resource would obtain a Microsoft Graph token.
	RefuseGraphAudience bool `json:"refuseGraphAudience,omitempty"`
	// EndpointValidation says what comes of a handler that fails the endpoint validation when a hub is configured: a
	// warning ("", the default), a refusal ("enforce"), or nothing, since it is not asked ("off").
	EndpointValidation string `json:"endpointValidation,omitempty"`
	// MaxConnections bounds the client connections of the instance; 0: only the process's own limit holds.
	MaxConnections int `json:"maxConnections,omitempty"`
	// MaxMessagesPerSecond bounds the messages of one client, of whatever kind, with as many at once as in a second; one
	// that sends more is closed. 0: no limit. Like the other limits of a connection it counts for those made after it was
	// set.
	MaxMessagesPerSecond int `json:"maxMessagesPerSecond,omitempty"`
	// MaxGroupsPerConnection bounds the groups that one connection is in; 0: 10,000.
	MaxGroupsPerConnection int `json:"maxGroupsPerConnection,omitempty"`
	// AllowedOrigins are the origins whose pages may connect, in lower case; empty: all. See [Extensions.AllowsOrigin].
	AllowedOrigins []string `json:"allowedOrigins,omitempty"`
	// PermessageDeflate compresses messages to and from clients that offer it (RFC 7692): fewer bytes for more CPU.
	PermessageDeflate bool `json:"permessageDeflate,omitempty"`
	// IdentitySource says where the instance's access tokens come from; nil: from its managed identity in the embedded
	// directory. With another source the choice of managed identity does not matter.
	IdentitySource *IdentitySource `json:"identitySource,omitempty"`
}

// The values of Extensions.EndpointValidation; ValidationWarn is stored as "".
const (
	ValidationWarn    = "warn"
	ValidationEnforce = "enforce"
	ValidationOff     = "off"
)

// Validation is EndpointValidation with its default filled in.
func (e *Extensions) Validation() string { return cmp.Or(e.EndpointValidation, ValidationWarn) }

// IdentityType says which managed identity an instance has. There is no combined value: one at a time.
type IdentityType string

// The three choices (ARM enum).
const (
	IdentityNone           IdentityType = "None"
	IdentitySystemAssigned IdentityType = "SystemAssigned"
	IdentityUserAssigned   IdentityType = "UserAssigned"
)

// Identity is the instance's choice of managed identity.
type Identity struct {
	Type IdentityType `json:"type"`
	// PrincipalID, ClientID and TenantID belong to the system-assigned service principal; empty otherwise.
	PrincipalID string `json:"principalId,omitempty"`
	ClientID    string `json:"clientId,omitempty"`
	TenantID    string `json:"tenantId,omitempty"`
	// UserAssigned is the ARM id of the one user-assigned identity, as given; compared ignoring case.
	UserAssigned string `json:"userAssigned,omitempty"`
}

// ResourceID is the instance's ARM id; it costs nothing on an instance from a Snapshot.
func (in *Instance) ResourceID() string {
	if in.resourceID != "" {
		return in.resourceID
	}
	return "/subscriptions/" + in.SubscriptionID + "/resourceGroups/" + in.ResourceGroup +
		"/providers/Microsoft.SignalRService/WebPubSub/" + in.Name
}

// Revision changes with every write of the instance; it serves as its etag.
func (in *Instance) Revision() uint64 { return in.revision }

// Hub returns the settings of a hub, its name compared ignoring case. A hub that nobody configured has the
// defaults: no handlers, anonymous clients denied. It never returns nil.
func (in *Instance) Hub(name string) *Hub {
	if h, ok := in.Hubs[name]; ok { // the common case: already lower case, no allocation
		return h
	}
	if h, ok := in.Hubs[strings.ToLower(name)]; ok {
		return h
	}
	return &defaultHub
}

// clone copies everything that an edit may touch.
func (in *Instance) clone() *Instance {
	c := *in
	c.resourceID = ""
	if s := in.Extensions.IdentitySource; s != nil {
		source := *s
		c.Extensions.IdentitySource = &source
	}
	c.Extensions.AllowedOrigins = slices.Clone(in.Extensions.AllowedOrigins)
	c.NetworkACLs = in.NetworkACLs.clone()
	c.CustomCertificates = cloneEach(in.CustomCertificates)
	c.CustomDomains = cloneEach(in.CustomDomains)
	c.SharedPrivateLinks = cloneEach(in.SharedPrivateLinks)
	for _, l := range c.SharedPrivateLinks {
		l.FQDNs = slices.Clone(l.FQDNs)
	}
	c.Tags = maps.Clone(in.Tags)
	c.Inert = maps.Clone(in.Inert)
	c.Hubs = make(map[string]*Hub, len(in.Hubs))
	for name, h := range in.Hubs {
		c.Hubs[name] = h.clone()
	}
	return &c
}

// cloneEach copies a map and the values that it points to; the copy of an empty one can be written to.
func cloneEach[T any](m map[string]*T) map[string]*T {
	c := make(map[string]*T, len(m))
	for key, v := range m {
		copied := *v
		c[key] = &copied
	}
	return c
}

// SortedHubs lists the configured hubs by name.
func (in *Instance) SortedHubs() []*Hub { return sorted(in.Hubs) }
