package arm

import (
	"encoding/json"
	"net"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"tabard/internal/settings"
)

const (
	instanceType = "Microsoft.SignalRService/WebPubSub"
	hubType      = instanceType + "/hubs"
)

// Properties of an instance by what is done with them. Names that are in no list are stored and returned as well:
// a newer client's property must not break it.
var (
	readOnlyProperties = []string{
		"provisioningState", "externalIP", "hostName", "publicPort", "serverPort", "version", "hostNamePrefix",
		"privateEndpointConnections", "sharedPrivateLinkResources",
	}
	// activeProperties have fields of their own in the settings.
	activeProperties = []string{"disableLocalAuth", "disableAadAuth", "publicNetworkAccess", "networkACLs", "resourceStopped", "tabard"}
	// inertProperties are stored and returned without effect. Those with a default are always returned, because
	// clients read them unasked (spec control-plane.md 3.2); a value that differs from it earns a warning.
	inertProperties = []inertProperty{
		{name: "tls", initial: `{"clientCertEnabled":false}`},
		{name: "regionEndpointEnabled", initial: `"Enabled"`, values: []string{"Enabled", "Disabled"}},
		{name: "liveTraceConfiguration"},
		{name: "resourceLogConfiguration"},
		{name: "socketIO"},
		{name: "applicationFirewall"},
	}
	propertyNames = func() []string {
		names := append(slices.Clone(activeProperties), readOnlyProperties...)
		for _, p := range inertProperties {
			names = append(names, p.name)
		}
		return names
	}()
)

// An inertProperty is an object, unless it has values to choose from.
type inertProperty struct {
	name, initial string
	values        []string
}

// An instanceBody is the document of a PUT, or what a PATCH makes of the current one.
type instanceBody struct {
	location, kind string
	tags           map[string]string
	sku            settings.SKU
	identity       *identityChoice // nil: stays as it is
	local, aad     bool            // disabled
	closed         bool            // to the public network
	stopped        bool
	acls           *settings.NetworkACLs
	extensions     *settings.Extensions
	inert          map[string]json.RawMessage
}

// instanceBody decodes a whole document. Faults of form are reported all at once, before what parseIdentity thinks of
// a well-formed identity.
func (d *reader) instanceBody(raw json.RawMessage) (*instanceBody, error) {
	doc := d.object("", raw, "location", "kind", "tags", "sku", "identity", "properties")
	b := &instanceBody{
		location: d.text("location", doc["location"]),
		kind:     d.text("kind", doc["kind"]),
		tags:     d.textMap("tags", doc["tags"]),
		sku:      decodeSKU(d, doc["sku"]),
	}
	for _, kind := range []string{"WebPubSub", "SocketIO"} {
		if strings.EqualFold(b.kind, kind) {
			b.kind = kind
		}
	}
	if absent(doc["location"]) {
		d.fault("location", "is required")
	} else if len(b.location) > 90 {
		d.fault("location", "is longer than 90 characters")
	}
	p := d.object("properties", doc["properties"], propertyNames...)
	b.local = d.boolean("properties.disableLocalAuth", p["disableLocalAuth"])
	b.aad = d.boolean("properties.disableAadAuth", p["disableAadAuth"])
	b.stopped = d.choice("properties.resourceStopped", p["resourceStopped"], "false", "true") == "true"
	if raw, ok := p["tabard"]; ok {
		b.extensions = d.extensions("properties.tabard", raw)
	}
	b.closed = d.choice("properties.publicNetworkAccess", p["publicNetworkAccess"], "Enabled", "Disabled") == "Disabled"
	b.acls = d.networkACLs("properties.networkACLs", p["networkACLs"])
	for _, name := range slices.Concat(activeProperties, readOnlyProperties) {
		delete(p, name)
	}
	for _, known := range inertProperties {
		known.check(d, p)
	}
	b.inert = p
	if absent(doc["identity"]) {
		return b, d.err()
	}
	choice, err := parseIdentity(d, doc["identity"])
	if err == nil || len(d.faults) > 0 {
		err = d.err()
	}
	b.identity = choice
	return b, err
}

func (k *inertProperty) check(d *reader, p object) {
	at := "properties." + k.name
	switch {
	case absent(p[k.name]):
		return
	case k.name == "tls":
		o := d.object(at, p[k.name], "clientCertEnabled")
		p[k.name] = encode(map[string]bool{"clientCertEnabled": d.boolean(at+".clientCertEnabled", o["clientCertEnabled"])})
	case k.values == nil:
		d.object(at, p[k.name])
	default:
		p[k.name] = encode(d.choice(at, p[k.name], k.values...))
	}
	if k.initial != "" && string(p[k.name]) == k.initial {
		delete(p, k.name) // the default is not kept, so that setting it is the same as never setting it
	}
}

// apply brings the document into an instance, all but its identity.
func (b *instanceBody) apply(d *reader, in *settings.Instance) {
	switch {
	case in.Created.IsZero():
		in.Location = b.location
	case plainLocation(b.location) != plainLocation(in.Location):
		d.fault("location", "cannot be changed from %q to %q", in.Location, b.location)
	}
	switch {
	case in.Created.IsZero():
		in.Kind = b.kind
	case b.kind != "" && b.kind != kind(in):
		d.fault("kind", "cannot be changed from %q to %q", kind(in), b.kind)
	}
	in.Tags, in.SKU, in.Inert = b.tags, b.sku, b.inert
	in.DisableLocalAuth, in.DisableAADAuth, in.Stopped = b.local, b.aad, b.stopped
	in.PublicNetworkDisabled, in.NetworkACLs = b.closed, b.acls
	if b.extensions != nil { // unknown to Azure's clients, so a PUT without it keeps it
		source := in.Extensions.IdentitySource
		in.Extensions = *b.extensions
		in.Extensions.IdentitySource.KeepSecrets(source)
	}
}

// plainLocation is the form in which ARM compares locations: "West US 2" is "westus2".
func plainLocation(location string) string {
	return strings.ToLower(strings.ReplaceAll(location, " ", ""))
}

func kind(in *settings.Instance) string {
	if in.Kind == "" {
		return "WebPubSub"
	}
	return in.Kind
}

// patched is the current document with a merge patch applied to sku and properties, and with the patch's tags and
// identity in place of the current ones. Null leaves location, kind and identity alone.
func patched(in *settings.Instance, patch json.RawMessage) (json.RawMessage, error) {
	var d reader
	p := d.object("", patch, "location", "kind", "tags", "sku", "identity", "properties")
	if err := d.err(); err != nil {
		return nil, err
	}
	current := map[string]any{"location": in.Location, "kind": kind(in), "tags": in.Tags, "sku": in.SKU, "properties": writable(in)}
	doc := object{}
	for name, value := range current {
		doc[name] = encode(value)
	}
	for _, name := range []string{"location", "kind", "tags", "identity"} {
		if given, ok := p[name]; ok {
			doc[name] = given
		}
	}
	for _, name := range []string{"sku", "properties"} {
		if given, ok := p[name]; ok {
			doc[name] = merge(doc[name], given)
		}
	}
	return encode(doc), nil
}

// writable are the properties that a client may set, defaults included.
func writable(in *settings.Instance) map[string]any {
	p := map[string]any{"disableLocalAuth": in.DisableLocalAuth, "disableAadAuth": in.DisableAADAuth, "tabard": writableExtensions(in), "resourceStopped": strconv.FormatBool(in.Stopped)}
	writableNetwork(in, p)
	for _, k := range inertProperties {
		if k.initial != "" {
			p[k.name] = json.RawMessage(k.initial)
		}
	}
	for name, value := range in.Inert {
		p[name] = value
	}
	return p
}

// instance is the document that GET, PUT and PATCH answer.
func (s *server) instance(in *settings.Instance) map[string]any {
	p := writable(in)
	host := s.HostName(in)
	port := publicPort(s.Endpoint(in))
	p["provisioningState"] = "Succeeded"
	p["hostName"], p["publicPort"], p["serverPort"], p["version"] = host, port, port, "1.0"
	if net.ParseIP(strings.Trim(host, "[]")) != nil {
		p["externalIP"] = strings.Trim(host, "[]")
	}
	links := []map[string]any{}
	for _, l := range in.SortedLinks() {
		links = append(links, sharedLinks.document(in, l))
	}
	p["privateEndpointConnections"], p["sharedPrivateLinkResources"] = []string{}, links
	return map[string]any{
		"id": in.ResourceID(), "name": in.Name, "type": instanceType, "location": in.Location,
		"kind": kind(in), "tags": tags(in.Tags), "sku": sku(in.SKU), "identity": s.identity(in), "properties": p,
	}
}

func tags(t map[string]string) map[string]string {
	if t == nil {
		return map[string]string{} // never null: some clients iterate over it
	}
	return t
}

func publicPort(endpoint string) int {
	u, err := url.Parse(endpoint)
	if err != nil {
		return 443
	}
	if port, err := strconv.Atoi(u.Port()); err == nil {
		return port
	}
	if u.Scheme == "http" {
		return 80
	}
	return 443
}
