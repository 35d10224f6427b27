package settings

import (
	"encoding/json"
	"fmt"
	"regexp"
	"strings"
)

// Limits on one instance. The stored document of an instance, hubs included, is bounded by the store as well.
const (
	MaxHubs          = 256
	MaxEventHandlers = 32        // per hub
	MaxListeners     = 10        // event listeners of all hubs together, Azure's own limit
	maxPattern       = 4 << 10   // bytes of a userEventPattern
	maxResource      = 2 << 10   // bytes of an audience
	maxKeyText       = 1 << 10   // bytes of an access key
	minKeyText       = 32        // bytes of an access key
	maxTagBytes      = 16 << 10  // names and values together
	maxInert         = 128 << 10 // bytes of stored properties without effect
)

var (
	instanceName = regexp.MustCompile(`^[a-zA-Z][a-zA-Z0-9-]{1,61}[a-zA-Z0-9]$`)
	guid         = regexp.MustCompile(`^[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}$`)
	eventName    = regexp.MustCompile(`^[A-Za-z][A-Za-z0-9_.-]{0,127}$`)
)

// ValidHubName tells whether name is one that the published API allows: ^[A-Za-z][A-Za-z0-9_`,.[\]]{0,127}$. Each connect
// and each call asks.
func ValidHubName(name string) bool {
	for i := range len(name) {
		switch c := name[i]; {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z':
		case i > 0 && ('0' <= c && c <= '9' || strings.IndexByte("_`,.[]", c) >= 0):
		default:
			return false
		}
	}
	return name != "" && len(name) <= 128
}

// ValidInstanceName tells whether name is one that the published API allows.
func ValidInstanceName(name string) bool { return instanceName.MatchString(name) }

// A Fault is one thing that is wrong with a document. Field is its JSON path in the ARM shape.
type Fault struct {
	Field, Problem string
}

// Faults is the error of a refused write: everything that is wrong, at once. Nothing was changed.
type Faults []Fault

// Error lists the faults, one a line when there are several.
func (f Faults) Error() string {
	lines := make([]string, len(f))
	for i, x := range f {
		lines[i] = x.Field + " " + x.Problem
	}
	return strings.Join(lines, "\n")
}

func (f *Faults) add(field, format string, args ...any) {
	*f = append(*f, Fault{field, fmt.Sprintf(format, args...)})
}

// compile checks the instance, brings case-insensitive enumerations into their canonical case, and prepares it
// for readers.
func (in *Instance) compile() error {
	var f Faults
	if !instanceName.MatchString(in.Name) {
		f.add("name", "%q must be 3 to 63 letters, digits and dashes, beginning with a letter and not ending in a dash", in.Name)
	}
	if !guid.MatchString(in.SubscriptionID) {
		f.add("subscriptionId", "%q is not a GUID", in.SubscriptionID)
	}
	if in.ResourceGroup == "" || len(in.ResourceGroup) > 90 {
		f.add("resourceGroup", "must have 1 to 90 characters")
	}
	if in.Location == "" {
		f.add("location", "is required")
	}
	switch in.Kind {
	case "", "WebPubSub", "SocketIO":
	default:
		f.add("kind", "%q is neither WebPubSub nor SocketIO", in.Kind)
	}
	checkKey(&f, "primaryKey", in.Keys.Primary)
	checkKey(&f, "secondaryKey", in.Keys.Secondary)
	in.Identity.check(&f)
	if in.Extensions.IdentitySource != nil {
		in.Extensions.IdentitySource.check(&f)
	}
	if in.DisableLocalAuth && in.DisableAADAuth {
		f.add("properties.disableAadAuth", "and disableLocalAuth are both on: nobody could authenticate")
	}
	if in.NetworkACLs != nil {
		in.NetworkACLs.compile(&f)
	}
	in.compileDomains(&f)
	in.compileLinks(&f)
	in.Extensions.check(&f)
	checkTags(&f, in.Tags)
	inert := 0
	for k, v := range in.Inert {
		inert += len(k) + len(v)
	}
	if inert > maxInert {
		f.add("properties", "hold more than %d bytes", maxInert)
	}
	if len(in.Hubs) > MaxHubs {
		f.add("hubs", "are more than %d", MaxHubs)
	}
	for key, h := range in.Hubs {
		h.compile(&f)
		if key != strings.ToLower(h.Name) {
			f.add("hubs", "have %q under the name %q", h.Name, key)
		}
		if in.Extensions.RefuseGraphAudience {
			for i, e := range h.EventHandlers {
				if e != nil && e.UsesManagedIdentity() && e.Resource() == "" {
					f.add(fmt.Sprintf("properties.eventHandlers[%d].auth.managedIdentity.resource", i),
						"of hub %q is empty, which would obtain a Microsoft Graph token that the handler cannot verify; this instance refuses that", h.Name)
				}
			}
		}
	}
	if len(f) > 0 {
		return f
	}
	in.resourceID = in.ResourceID()
	return nil
}

func (e *Extensions) check(f *Faults) {
	switch e.EndpointValidation = strings.ToLower(e.EndpointValidation); e.EndpointValidation {
	case "", ValidationEnforce, ValidationOff:
	case ValidationWarn:
		e.EndpointValidation = ""
	default:
		f.add("properties.tabard.endpointValidation", "%q is none of warn, enforce, off", e.EndpointValidation)
	}
	for _, limit := range []struct {
		name  string
		value int
	}{{"maxConnections", e.MaxConnections}, {"maxMessagesPerSecond", e.MaxMessagesPerSecond}, {"maxGroupsPerConnection", e.MaxGroupsPerConnection}} {
		if limit.value < 0 {
			f.add("properties.tabard."+limit.name, "%d is negative; 0 sets no limit", limit.value)
		}
	}
	if len(e.AllowedOrigins) > MaxAllowedOrigins {
		f.add("properties.tabard.allowedOrigins", "has more than %d origins", MaxAllowedOrigins)
	}
	for i, origin := range e.AllowedOrigins {
		if !validOrigin(origin) {
			f.add("properties.tabard.allowedOrigins", "%q is neither *, nor an origin such as https://app.example or https://*.example, without a path", origin)
		}
		e.AllowedOrigins[i] = strings.ToLower(origin)
	}
}

// admit refuses what an instance cannot have beside the others, or more of than it may: rules for what is written,
// since a document that is stored must stay readable.
func (sn *Snapshot) admit(in *Instance) error {
	var f Faults
	for _, d := range sorted(in.CustomDomains) {
		if owner, ok := sn.domains[d.DomainName]; ok && !strings.EqualFold(owner.Name, in.Name) {
			f.add("properties.domainName", "%q is a custom domain of another resource", d.DomainName)
		}
	}
	listeners := 0
	for _, h := range in.Hubs {
		listeners += h.listeners()
	}
	if listeners > MaxListeners {
		f.add("properties.eventListeners", "of all hubs together are more than %d", MaxListeners)
	}
	if len(f) > 0 {
		return f
	}
	return nil
}

// listeners counts the hub's event listeners, which are kept without effect.
func (h *Hub) listeners() int {
	var list []json.RawMessage
	if json.Unmarshal(h.Inert["eventListeners"], &list) != nil {
		return 0
	}
	return len(list)
}

func checkTags(f *Faults, tags map[string]string) {
	bytes := 0
	for k, v := range tags {
		bytes += len(k) + len(v)
	}
	if bytes > maxTagBytes {
		f.add("tags", "hold more than %d bytes", maxTagBytes)
	}
}

func checkKey(f *Faults, field, key string) {
	if len(key) < minKeyText || len(key) > maxKeyText {
		f.add(field, "must have %d to %d bytes", minKeyText, maxKeyText)
	}
	if strings.ContainsFunc(key, func(r rune) bool { return r < ' ' || r == ';' || r == 0x7f }) || strings.TrimSpace(key) != key {
		f.add(field, `must not contain ";", control characters or surrounding spaces`)
	}
}

func (id *Identity) check(f *Faults) {
	switch {
	case id.Type == "" || strings.EqualFold(string(id.Type), string(IdentityNone)):
		*id = Identity{Type: IdentityNone}
	case strings.EqualFold(string(id.Type), string(IdentitySystemAssigned)):
		id.Type, id.UserAssigned = IdentitySystemAssigned, ""
		if id.PrincipalID == "" || id.ClientID == "" {
			f.add("identity", "is system-assigned but has no service principal")
		}
	case strings.EqualFold(string(id.Type), string(IdentityUserAssigned)):
		*id = Identity{Type: IdentityUserAssigned, UserAssigned: id.UserAssigned}
		if id.UserAssigned == "" {
			f.add("identity.userAssignedIdentities", "must name one identity")
		}
	default:
		f.add("identity.type", "%q is none of None, SystemAssigned, UserAssigned; only one managed identity is supported at a time", id.Type)
	}
}

// Validate lists everything that is wrong with a hub's settings taken by themselves; h itself is not changed.
func (h *Hub) Validate() Faults {
	_, f := h.Compiled()
	return f
}

// Compiled returns a copy that is as good as one from a Snapshot: templates are parsed, names are split. It may be used
// if nothing is at fault.
func (h *Hub) Compiled() (*Hub, Faults) {
	var f Faults
	c := h.clone()
	c.compile(&f)
	return c, f
}

func (h *Hub) compile(f *Faults) {
	if !ValidHubName(h.Name) {
		f.add("name", "%q is not a hub name: a letter, then up to 127 letters, digits and _`,.[]", h.Name)
	}
	switch strings.ToLower(h.AnonymousConnectPolicy) {
	case "", "allow", "deny":
	default:
		f.add("properties.anonymousConnectPolicy", "%q is neither allow nor deny", h.AnonymousConnectPolicy)
	}
	if h.KeepAliveSeconds < 0 || h.KeepAliveSeconds > 120 {
		f.add("properties.webSocketKeepAliveIntervalInSeconds", "%d is not between 1 and 120", h.KeepAliveSeconds)
	}
	if len(h.EventHandlers) > MaxEventHandlers {
		f.add("properties.eventHandlers", "are more than %d", MaxEventHandlers)
	}
	inert := 0
	for k, v := range h.Inert {
		inert += len(k) + len(v)
	}
	if inert > maxInert {
		f.add("properties", "hold more than %d bytes", maxInert)
	}
	for i, e := range h.EventHandlers {
		if e == nil {
			f.add(fmt.Sprintf("properties.eventHandlers[%d]", i), "is null")
			continue
		}
		e.compile(f, fmt.Sprintf("properties.eventHandlers[%d]", i))
		if e.template != nil {
			e.template.encode = h.Extensions.EncodeSecrets
		}
	}
}

func (e *EventHandler) compile(f *Faults, at string) {
	var err error
	if e.template, err = ParseURLTemplate(e.URLTemplate); err != nil {
		f.add(at+".urlTemplate", "%v", err)
	}
	for i, s := range e.SystemEvents {
		switch strings.ToLower(s) {
		case "connect", "connected", "disconnected":
		default:
			f.add(fmt.Sprintf("%s.systemEvents[%d]", at, i), "%q is none of connect, connected, disconnected", s)
		}
	}
	if len(e.UserEventPattern) > maxPattern {
		f.add(at+".userEventPattern", "is longer than %d bytes", maxPattern)
	}
	e.names = e.names[:0:0]
	for name := range strings.SplitSeq(e.UserEventPattern, ",") {
		name = strings.TrimSpace(name)
		switch {
		case name == "":
			if strings.TrimSpace(e.UserEventPattern) != "" {
				f.add(at+".userEventPattern", "has an empty name in %q", e.UserEventPattern)
			}
		case name != "*" && !eventName.MatchString(name):
			f.add(at+".userEventPattern", `%q is neither "*" nor an event name; wildcards within a name are not supported`, name)
		default:
			e.names = append(e.names, name)
		}
	}
	if e.Auth == nil {
		return
	}
	switch {
	case strings.EqualFold(e.Auth.Type, AuthManagedIdentity):
		e.Auth.Type = AuthManagedIdentity
	case e.Auth.Type == "" || strings.EqualFold(e.Auth.Type, AuthNone):
		e.Auth.Type = AuthNone
	default:
		f.add(at+".auth.type", "%q is neither None nor ManagedIdentity", e.Auth.Type)
	}
	if len(e.Resource()) > maxResource {
		f.add(at+".auth.managedIdentity.resource", "is longer than %d bytes", maxResource)
	}
	if strings.ContainsFunc(e.Resource(), func(r rune) bool { return r < ' ' || r == 0x7f }) {
		f.add(at+".auth.managedIdentity.resource", "contains control characters")
	}
}
