package apply

import (
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"

	"tabard/internal/template"
)

// A Difference is one value that is not what it should be. Values of secrets are never in it.
type Difference struct {
	Path   string `json:"path"`
	Before any    `json:"before"` // nil: it is not there
	After  any    `json:"after"`  // nil: it goes
}

// A secret is text that is sent and never shown.
type secret string

const hidden = "(secret)"

// writeOnly are members, in lower case, that the service takes and does not give back: whether they differ, nobody can
// tell. Their other members tell whether they were set.
var writeOnly = map[string]bool{"clientsecret": true, "certificate": true}

// asIDs are members whose texts are names or ids that the service may spell otherwise.
var asIDs = map[string]bool{"principalid": true, "objectid": true, "tenantid": true, "principaltype": true, "type": true, "anonymousconnectpolicy": true, "kind": true, "name": true, "tier": true}

// rules say what it means when a resource leaves a member out: with PUT it gets its initial value. What is in no rule is
// not compared then, so that what the service adds by itself is no difference.
type rules struct {
	settable []string       // paths of members that are reset when they are left out
	initial  map[string]any // values of members that are not empty, and count as left out
	ignored  []string       // paths of members that have no effect, or are only told
}

var typeRules = map[string]rules{
	"microsoft.signalrservice/webpubsub": {
		settable: []string{"tags", "sku", "properties.disableLocalAuth", "properties.disableAadAuth", "properties.publicNetworkAccess", "properties.networkACLs", "properties.tls", "properties.resourceStopped",
			"properties.regionEndpointEnabled", "properties.liveTraceConfiguration", "properties.resourceLogConfiguration", "properties.applicationFirewall", "properties.socketIO"},
		initial: map[string]any{"properties.publicNetworkAccess": "Enabled", "properties.tls": map[string]any{"clientCertEnabled": false}, "properties.resourceStopped": "false", "properties.regionEndpointEnabled": "Enabled",
			"properties.tabard.endpointValidation": "warn", "sku": map[string]any{"name": "Standard_S1", "tier": "Standard", "size": "S1", "capacity": int64(1)}},
		ignored: []string{"properties.provisioningState", "properties.hostName", "properties.publicPort", "properties.serverPort", "properties.version", "properties.externalIP", "properties.hostNamePrefix",
			"properties.privateEndpointConnections", "properties.sharedPrivateLinkResources", "identity.principalId", "identity.tenantId", "sku.size", "sku.family"},
	},
	"microsoft.signalrservice/webpubsub/hubs": {
		settable: []string{"properties.eventHandlers", "properties.eventListeners", "properties.anonymousConnectPolicy", "properties.webSocketKeepAliveIntervalInSeconds"},
		initial:  map[string]any{"properties.anonymousConnectPolicy": "deny", "properties.webSocketKeepAliveIntervalInSeconds": int64(20)},
	},
	"microsoft.keyvault/vaults": {
		settable: []string{"tags", "properties.accessPolicies", "properties.enableRbacAuthorization"},
		initial: map[string]any{"properties.publicNetworkAccess": "Enabled", "properties.enableSoftDelete": true, "properties.softDeleteRetentionInDays": int64(90),
			"properties.networkAcls": map[string]any{"defaultAction": "Allow"}, "properties.sku": map[string]any{"name": "standard"}},
		ignored: []string{"properties.vaultUri", "properties.provisioningState", "properties.createMode", "properties.hsmPoolResourceId", "properties.privateEndpointConnections",
			"properties.sku.family", "properties.enabledForDeployment", "properties.enabledForDiskEncryption", "properties.enabledForTemplateDeployment"},
	},
	"microsoft.managedidentity/userassignedidentities": {
		settable: []string{"tags"},
		ignored:  []string{"properties.principalId", "properties.clientId", "properties.tenantId", "properties.isolationScope", "properties.assignmentRestrictions"},
	},
	"microsoft.authorization/roleassignments": {
		settable: []string{"properties.description"},
		ignored:  []string{"properties.principalType", "properties.scope"},
	},
	"microsoft.signalrservice/webpubsub/customcertificates":         {ignored: []string{"properties.provisioningState"}},
	"microsoft.signalrservice/webpubsub/customdomains":              {ignored: []string{"properties.provisioningState"}},
	"microsoft.signalrservice/webpubsub/sharedprivatelinkresources": {ignored: []string{"properties.provisioningState", "properties.status"}},
}

// A comparison collects differences.
type comparison struct {
	rules rules
	found []Difference
}

// compare finds what a resource of the type must change to be as wanted.
func compare(kind string, wanted, current map[string]any) []Difference {
	c := &comparison{rules: typeRules[strings.ToLower(kind)]}
	c.object("", wanted, current)
	for _, path := range c.rules.settable {
		if at(wanted, path) == nil {
			if now := at(current, path); !c.isInitial(path, now) {
				c.add(path, now, nil)
			}
		}
	}
	slices.SortFunc(c.found, func(a, b Difference) int { return strings.Compare(a.Path, b.Path) })
	return c.found
}

// at follows a path of members.
func at(o map[string]any, path string) any {
	var v any = o
	for name := range strings.SplitSeq(path, ".") {
		v = get(object(v), name)
	}
	return v
}

func (c *comparison) isInitial(path string, v any) bool {
	if isEmpty(v) {
		return true
	}
	for p, initial := range c.rules.initial {
		if strings.EqualFold(p, path) {
			inner := &comparison{rules: c.rules}
			inner.value(path, initial, v)
			return len(inner.found) == 0
		}
	}
	return false
}

// isEmpty tells whether a value says nothing.
func isEmpty(v any) bool {
	switch v := v.(type) {
	case nil:
		return true
	case bool:
		return !v
	case string:
		return v == ""
	case int64:
		return v == 0
	case []any:
		return len(v) == 0
	case map[string]any:
		for _, m := range v {
			if !isEmpty(m) {
				return false
			}
		}
		return true
	}
	return false
}

func (c *comparison) add(path string, before, after any) {
	c.found = append(c.found, Difference{path, shown(path, before), shown(path, after)})
}

// shown is a value as people may see it.
func shown(path string, v any) any {
	switch v := v.(type) {
	case secret:
		return hidden
	case string:
		if writeOnly[strings.ToLower(path[strings.LastIndexByte(path, '.')+1:])] && v != "" {
			return hidden
		}
	case template.Unknown:
		return v.String()
	case map[string]any:
		out := map[string]any{}
		for name, m := range v {
			out[name] = shown(path+"."+name, m)
		}
		return out
	case []any:
		out := make([]any, len(v))
		for i, m := range v {
			out[i] = shown(path, m)
		}
		return out
	}
	return v
}

func (c *comparison) object(path string, wanted, current map[string]any) {
	for _, name := range slices.Sorted(maps.Keys(wanted)) {
		here := strings.TrimPrefix(path+"."+name, ".")
		if slices.ContainsFunc(c.rules.ignored, func(p string) bool { return strings.EqualFold(p, here) }) {
			continue
		}
		c.value(here, wanted[name], get(current, name))
	}
}

func (c *comparison) value(path string, wanted, current any) {
	last := strings.ToLower(path[strings.LastIndexByte(path, '.')+1:])
	if writeOnly[last] && isEmpty(current) {
		return
	}
	switch w := wanted.(type) {
	case map[string]any:
		if last == "userassignedidentities" {
			if !sameKeys(w, object(current)) {
				c.add(path, current, wanted)
			}
			return
		}
		if o, ok := current.(map[string]any); ok || current == nil {
			c.object(path, w, o)
			if last == "tags" || last == "permissions" { // replaced as a whole
				for _, name := range slices.Sorted(maps.Keys(o)) {
					if get(w, name) == nil && !isEmpty(o[name]) {
						c.add(path+"."+name, o[name], nil)
					}
				}
			}
			return
		}
	case []any:
		c.list(path, last, w, items(current))
		return
	case secret:
		if string(w) == text(current) {
			return
		}
	case template.Unknown:
	default:
		if isEmpty(w) && isEmpty(current) || reflect.DeepEqual(w, current) || c.sameText(last, wanted, current) {
			return
		}
	}
	c.add(path, current, wanted)
}

// sameText compares texts that mean the same in several spellings.
func (c *comparison) sameText(last string, wanted, current any) bool {
	a, ok := wanted.(string)
	b, isText := current.(string)
	if !ok || !isText {
		// azurerm and az write some switches as text.
		return isText == ok && fmt.Sprint(wanted) == fmt.Sprint(current)
	}
	switch {
	case last == "location":
		plain := func(s string) string { return strings.ToLower(strings.ReplaceAll(s, " ", "")) }
		return plain(a) == plain(b)
	case last == "roledefinitionid":
		return strings.EqualFold(a[strings.LastIndexByte(a, '/')+1:], b[strings.LastIndexByte(b, '/')+1:])
	case asIDs[last], strings.HasPrefix(strings.ToLower(a), "/subscriptions/"):
		return strings.EqualFold(a, b)
	}
	return strings.EqualFold(a, b) && slices.Contains([]string{"enabled", "disabled", "true", "false", "allow", "deny"}, strings.ToLower(a))
}

func sameKeys(a, b map[string]any) bool {
	for name, v := range a {
		if v != nil && get(b, name) == nil {
			return false
		}
	}
	for name := range b {
		if get(a, name) == nil {
			return false
		}
	}
	return true
}

// list compares element by element, but access policies by their object ids and permissions as sets.
func (c *comparison) list(path, last string, wanted, current []any) {
	switch last {
	case "accesspolicies":
		c.policies(path, wanted, current)
		return
	case "keys", "secrets", "certificates", "storage", "systemevents", "identifieruris", "audiences":
		if !sameSet(wanted, current) {
			c.add(path, current, wanted)
		}
		return
	}
	for i := range max(len(wanted), len(current)) {
		here := fmt.Sprintf("%s[%d]", path, i)
		switch {
		case i >= len(current):
			c.add(here, nil, wanted[i])
		case i >= len(wanted):
			c.add(here, current[i], nil)
		default:
			c.element(here, wanted[i], current[i])
		}
	}
}

// element compares one element of a list, which is replaced as a whole: what it leaves out goes.
func (c *comparison) element(path string, wanted, current any) {
	c.value(path, wanted, current)
	w, o := object(wanted), object(current)
	for _, name := range slices.Sorted(maps.Keys(o)) {
		if get(w, name) == nil && !isEmpty(o[name]) && !isImplied(name, o[name]) {
			c.add(path+"."+name, o[name], nil)
		}
	}
}

// isImplied tells what an element of a list has without saying so: a handler no authentication, an app role that it is
// enabled and whose it is.
func isImplied(name string, v any) bool {
	switch strings.ToLower(name) {
	case "auth":
		return strings.EqualFold(text(get(object(v), "type")), "None")
	case "isenabled":
		return v == true
	}
	return strings.EqualFold(name, "origin")
}

func sameSet(a, b []any) bool {
	has := func(l []any, v any) bool {
		return slices.ContainsFunc(l, func(x any) bool { return strings.EqualFold(fmt.Sprint(x), fmt.Sprint(v)) })
	}
	for _, v := range a {
		if !has(b, v) {
			return false
		}
	}
	for _, v := range b {
		if !has(a, v) {
			return false
		}
	}
	return true
}

func (c *comparison) policies(path string, wanted, current []any) {
	key := func(v any) string {
		return strings.ToLower(fmt.Sprint(get(object(v), "objectId"), "/", text(get(object(v), "applicationId"))))
	}
	for i, w := range wanted {
		j := slices.IndexFunc(current, func(o any) bool { return key(o) == key(w) })
		if j < 0 {
			c.add(fmt.Sprintf("%s[%d]", path, i), nil, w)
			continue
		}
		wp, cp := object(get(object(w), "permissions")), object(get(object(current[j]), "permissions"))
		for _, kind := range []string{"secrets", "keys", "certificates", "storage"} {
			if !sameSet(items(get(wp, kind)), items(get(cp, kind))) {
				c.add(fmt.Sprintf("%s[%d].permissions.%s", path, i, kind), get(cp, kind), get(wp, kind))
			}
		}
	}
	for _, o := range current {
		if !slices.ContainsFunc(wanted, func(w any) bool { return key(o) == key(w) }) {
			c.add(path+"["+text(get(object(o), "objectId"))+"]", o, nil)
		}
	}
}
