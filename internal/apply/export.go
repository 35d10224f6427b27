package apply

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"

	"tabard/internal/template"
)

// ExportOptions say what of a service is exported.
type ExportOptions struct {
	Service      Service
	Subscription string
	Group        string // that resources need not name; the others do
	// OnlyGroup and OnlyInstance leave out what is not in the group, or of the instance. The directory is left out then.
	OnlyGroup, OnlyInstance string
}

// An Exported is what files say of a service, and what they cannot say.
type Exported struct {
	Resources []map[string]any
	Notes     []string // for people: what was left out, and what must be given when it is applied
}

// An expression is computed when the file is applied; any other text stands for itself.
type expression string

// literal is text that stands for itself in a file.
func literal(s string) string {
	if strings.HasPrefix(s, "[") && strings.HasSuffix(s, "]") {
		return "[" + s
	}
	return s
}

// A principalName is how files name a principal.
type principalName struct {
	member string // instance, identity or application
	name   string // of an application; the id of the others
}

// An exporter reads one service.
type exporter struct {
	ExportOptions
	client client
	out    Exported
	names  map[string]principalName // by object id
	roles  map[string]string        // names of roles by id
	listed []map[string]any         // instances
}

// Export reads a service and writes it as files would say it: without what the service adds by itself, without ids that
// would be others elsewhere, and without secrets. Applied to the same service it changes nothing; applied to an empty
// one it makes the same again, as far as the secrets are given.
func Export(ctx context.Context, opt ExportOptions) (*Exported, error) {
	e := &exporter{ExportOptions: opt, client: client{opt.Service}, names: map[string]principalName{}, roles: map[string]string{}}
	for _, step := range []func(context.Context) error{e.identities, e.directory, e.readInstances, e.vaults, e.instances, e.assignments} {
		if err := step(ctx); err != nil {
			return nil, err
		}
	}
	return &e.out, nil
}

func (e *exporter) all(ctx context.Context, provider string) ([]map[string]any, error) {
	path := "/subscriptions/" + e.Subscription + "/providers/" + provider
	return e.client.list(ctx, Request{Method: http.MethodGet, Path: path, Query: versionFor(path, "")})
}

// below lists the children of a resource; none if the service does not have that kind.
func (e *exporter) below(ctx context.Context, id, kind string) ([]map[string]any, error) {
	return e.client.list(ctx, Request{Method: http.MethodGet, Path: escape(id) + "/" + kind, Query: versionFor(id, "")})
}

// wanted tells whether a resource is exported.
func (e *exporter) wanted(id string) bool {
	return (e.OnlyGroup == "" || strings.EqualFold(template.GroupIn(id), e.OnlyGroup)) && e.OnlyInstance == ""
}

// named begins a resource by its id.
func (e *exporter) named(id string) map[string]any {
	kind, name := template.SplitID(id)
	r := map[string]any{"type": kind, "name": name}
	if g := template.GroupIn(id); g != "" && !strings.EqualFold(g, e.Group) {
		r["resourceGroup"] = g
	}
	return r
}

// add exports a resource of ARM, without what its type's rules say is not worth saying.
func (e *exporter) add(doc map[string]any) {
	r := e.named(text(get(doc, "id")))
	rules := typeRules[strings.ToLower(text(r["type"]))]
	c := &comparison{rules: rules}
	for _, member := range []string{"location", "kind", "tags", "sku", "identity", "properties"} {
		v := get(doc, member)
		if v == nil || member == "location" && text(v) == "local" || member == "kind" && text(v) == "WebPubSub" {
			continue
		}
		if v = c.worth(member, v); !isEmpty(v) {
			r[member] = v
		}
	}
	if strings.EqualFold(text(r["type"]), hubType) && r["properties"] == nil {
		r["properties"] = map[string]any{} // a hub has to have them
	}
	e.out.Resources = append(e.out.Resources, r)
}

const hubType = instanceType + "/hubs"

// worth is a value without what is told only, is initial or is empty; nil if nothing is left.
func (c *comparison) worth(path string, v any) any {
	if strings.HasSuffix(path, ".userAssignedIdentities") {
		return v // its names are what it says
	}
	if slices.ContainsFunc(c.rules.ignored, func(p string) bool { return strings.EqualFold(p, path) }) || c.isInitial(path, v) {
		return nil
	}
	o, ok := v.(map[string]any)
	if !ok {
		if l, ok := v.([]any); ok {
			out := make([]any, 0, len(l))
			for i, item := range l {
				out = append(out, c.ofList(fmt.Sprintf("%s[%d]", path, i), item))
			}
			return out
		}
		if text, ok := v.(string); ok {
			return literal(text)
		}
		return v
	}
	out := map[string]any{}
	for name, m := range o {
		if m = c.worth(path+"."+name, m); !isEmpty(m) || name == "userAssignedIdentities" && len(object(m)) > 0 {
			out[literal(name)] = m
		}
	}
	return out
}

// ofList is an element of a list without its empty members.
func (c *comparison) ofList(path string, v any) any {
	if o, ok := v.(map[string]any); ok {
		out := map[string]any{}
		for name, m := range o {
			if m = c.ofList(path, m); !isEmpty(m) {
				out[name] = m
			}
		}
		return out
	}
	return c.worth(path, v)
}

func (e *exporter) identities(ctx context.Context) error {
	list, err := e.all(ctx, identityType)
	if err != nil {
		return err
	}
	for _, doc := range list {
		id := text(get(doc, "id"))
		e.names[strings.ToLower(text(at(doc, "properties.principalId")))] = principalName{"identity", id}
		if !e.wanted(id) {
			continue
		}
		e.add(doc)
		federated, err := e.below(ctx, id, "federatedIdentityCredentials")
		if err != nil {
			return err
		}
		for _, f := range federated {
			e.add(f)
		}
	}
	return nil
}

// reference names a principal in a resource of a group; nil if it is nobody that files could name.
func (e *exporter) reference(objectID, group string) map[string]any {
	p, ok := e.names[strings.ToLower(objectID)]
	switch {
	case !ok:
		return nil
	case p.member == "application":
		return map[string]any{p.member: p.name}
	}
	return map[string]any{p.member: e.shortName(p.name, group)}
}

// shortName is a bare name for a resource of the same group, and what computes its id for others.
func (e *exporter) shortName(id, group string) any {
	if group == "" {
		group = e.Group
	}
	if strings.EqualFold(template.GroupIn(id), group) {
		return id[strings.LastIndexByte(id, '/')+1:]
	}
	kind, name := template.SplitID(id)
	return expression("[resourceId('" + template.GroupIn(id) + "', '" + kind + "', '" + name + "')]")
}

func (e *exporter) directory(ctx context.Context) error {
	apps, err := e.client.list(ctx, Request{Method: http.MethodGet, Path: "/v1.0/applications"})
	if err != nil {
		return err
	}
	principals, err := e.client.list(ctx, Request{Method: http.MethodGet, Path: "/v1.0/servicePrincipals"})
	if err != nil {
		return err
	}
	count := map[string]int{}
	for _, a := range apps {
		count[text(get(a, "displayName"))]++
	}
	whole := e.OnlyGroup == "" && e.OnlyInstance == ""
	for _, a := range apps {
		name := text(get(a, "displayName"))
		if !whole {
			break
		}
		if count[name] > 1 {
			e.out.Notes = append(e.out.Notes, fmt.Sprintf("application %q (%s) is left out: there are %d of that name, and files tell them apart by it", name, text(get(a, "appId")), count[name]))
			continue
		}
		properties := map[string]any{"displayName": name}
		for _, member := range []string{"identifierUris", "appRoles", "api"} {
			if v := (&comparison{}).worth("", get(a, member)); !isEmpty(v) {
				properties[member] = v
			}
		}
		e.out.Resources = append(e.out.Resources, map[string]any{"type": "Microsoft.Graph/applications", "name": name, "properties": properties})
		if len(items(get(a, "passwordCredentials")))+len(items(get(a, "keyCredentials"))) > 0 {
			e.out.Notes = append(e.out.Notes, fmt.Sprintf("application %q: its secrets and certificates are left out", name))
		}
		federated, err := e.client.list(ctx, Request{Method: http.MethodGet, Path: "/v1.0/applications/" + url.PathEscape(text(get(a, "id"))) + "/federatedIdentityCredentials"})
		if err != nil {
			return err
		}
		for _, f := range federated {
			properties := map[string]any{}
			for _, member := range []string{"issuer", "subject", "audiences", "description"} {
				if v := get(f, member); !isEmpty(v) {
					properties[member] = v
				}
			}
			e.out.Resources = append(e.out.Resources, map[string]any{"type": "Microsoft.Graph/applications/federatedIdentityCredentials", "name": name + "/" + text(get(f, "name")), "properties": properties})
		}
	}
	for _, sp := range principals {
		if !strings.EqualFold(text(get(sp, "servicePrincipalType")), "Application") {
			continue
		}
		name := text(get(sp, "displayName"))
		if count[name] == 1 {
			e.names[strings.ToLower(text(get(sp, "id")))] = principalName{"application", name}
		}
		if !whole || count[name] != 1 {
			continue
		}
		properties := map[string]any{}
		if get(sp, "accountEnabled") == false {
			properties["accountEnabled"] = false
		}
		if get(sp, "appRoleAssignmentRequired") == true {
			properties["appRoleAssignmentRequired"] = true
		}
		r := map[string]any{"type": "Microsoft.Graph/servicePrincipals", "name": name}
		if len(properties) > 0 {
			r["properties"] = properties
		}
		e.out.Resources = append(e.out.Resources, r)
	}
	return nil
}

// readInstances learns whose the principals of instances are, before vaults name them.
func (e *exporter) readInstances(ctx context.Context) (err error) {
	if e.listed, err = e.all(ctx, instanceType); err != nil {
		return err
	}
	for _, doc := range e.listed {
		if id := text(at(doc, "identity.principalId")); id != "" {
			e.names[strings.ToLower(id)] = principalName{"instance", text(get(doc, "id"))}
		}
	}
	return nil
}

func (e *exporter) vaults(ctx context.Context) error {
	list, err := e.all(ctx, "Microsoft.KeyVault/vaults")
	if err != nil {
		return err
	}
	for _, doc := range list {
		id := text(get(doc, "id"))
		if !e.wanted(id) {
			continue
		}
		properties := object(get(doc, "properties"))
		tenant := text(get(properties, "tenantId"))
		delete(properties, "tenantId")
		for _, item := range items(get(properties, "accessPolicies")) {
			p := object(item)
			if strings.EqualFold(text(get(p, "tenantId")), tenant) {
				delete(p, "tenantId")
			}
			if who := e.reference(text(get(p, "objectId")), template.GroupIn(id)); who != nil {
				delete(p, "objectId")
				p["principal"] = who
			}
			given := object(get(p, "permissions"))
			for kind, permissions := range given {
				if isEmpty(permissions) {
					delete(given, kind)
				}
			}
		}
		e.add(doc)
		if err := e.secrets(ctx, id); err != nil {
			return err
		}
	}
	return nil
}

var notInEnv = regexp.MustCompile(`[^A-Z0-9]+`)

func (e *exporter) secrets(ctx context.Context, vaultID string) error {
	vault := vaultID[strings.LastIndexByte(vaultID, '/')+1:]
	list, err := e.client.list(ctx, Request{Method: http.MethodGet, Path: "/secrets", Query: url.Values{"api-version": {secretsVersion}}, Vault: vault})
	if err != nil {
		return err
	}
	for _, s := range list {
		_, name, _ := cutLast(text(get(s, "id")), "/secrets/")
		env := "TABARD_SECRET_" + notInEnv.ReplaceAllString(strings.ToUpper(vault+"_"+name), "_")
		properties := map[string]any{"valueFrom": map[string]any{"env": env, "keepExisting": true}}
		if v := text(get(s, "contentType")); v != "" {
			properties["contentType"] = v
		}
		attributes := map[string]any{}
		for _, member := range []string{"nbf", "exp"} {
			if v := at(s, "attributes."+member); v != nil {
				attributes[member] = v
			}
		}
		if at(s, "attributes.enabled") == false {
			attributes["enabled"] = false
		}
		if len(attributes) > 0 {
			properties["attributes"] = attributes
		}
		r := e.named(vaultID + "/secrets/" + name)
		r["properties"] = properties
		if tags := get(s, "tags"); !isEmpty(tags) {
			r["tags"] = tags
		}
		e.out.Resources = append(e.out.Resources, r)
		e.out.Notes = append(e.out.Notes, fmt.Sprintf("the value of secret %s/%s is taken from %s; where that is not set, what is stored stays", vault, name, env))
	}
	return nil
}

func (e *exporter) instances(ctx context.Context) error {
	found := false
	for _, doc := range e.listed {
		id := text(get(doc, "id"))
		if e.OnlyInstance != "" && !strings.EqualFold(text(get(doc, "name")), e.OnlyInstance) && !strings.EqualFold(id, e.OnlyInstance) || e.OnlyGroup != "" && !strings.EqualFold(template.GroupIn(id), e.OnlyGroup) {
			continue
		}
		found = true
		e.identityOf(doc)
		e.add(doc)
		for _, kind := range []string{"customCertificates", "customDomains", "sharedPrivateLinkResources", "hubs"} {
			children, err := e.below(ctx, id, kind)
			if err != nil {
				return err
			}
			for _, child := range children {
				e.add(child)
			}
		}
		if source := object(at(doc, "properties.tabard.identitySource")); source != nil {
			e.out.Notes = append(e.out.Notes, fmt.Sprintf("instance %s: the secrets of properties.tabard.identitySource are left out", text(get(doc, "name"))))
		}
	}
	if e.OnlyInstance != "" && !found {
		return &RefusedError{Status: http.StatusNotFound, Code: "ResourceNotFound", Message: "there is no instance " + e.OnlyInstance}
	}
	return nil
}

// identityOf names an instance's identity as files do.
func (e *exporter) identityOf(doc map[string]any) {
	identity := object(get(doc, "identity"))
	named := object(get(identity, "userAssignedIdentities"))
	for id := range named {
		delete(named, id)
		// Never null: an empty object is what Azure's tools send.
		named[fmt.Sprint(e.shortName(id, template.GroupIn(text(get(doc, "id")))))] = map[string]any{}
	}
	if strings.EqualFold(text(get(identity, "type")), "None") {
		delete(doc, "identity")
	}
}

func (e *exporter) assignments(ctx context.Context) error {
	list, err := e.all(ctx, "Microsoft.Authorization/roleAssignments")
	if err != nil {
		return err
	}
	roles, err := e.all(ctx, "Microsoft.Authorization/roleDefinitions")
	if err != nil {
		return err
	}
	for _, r := range roles {
		e.roles[strings.ToLower(text(get(r, "name")))] = text(at(r, "properties.roleName"))
	}
	slices.SortStableFunc(list, func(a, b map[string]any) int { return strings.Compare(text(get(a, "id")), text(get(b, "id"))) })
	for _, doc := range list {
		scope := text(at(doc, "properties.scope"))
		instance := "/providers/" + instanceType + "/" + e.OnlyInstance
		if e.OnlyInstance != "" && !strings.Contains(strings.ToLower(scope+"/"), strings.ToLower(instance)+"/") || e.OnlyGroup != "" && !strings.EqualFold(template.GroupIn(scope), e.OnlyGroup) {
			continue
		}
		e.out.Resources = append(e.out.Resources, e.assignment(doc, scope))
	}
	return nil
}

func (e *exporter) assignment(doc map[string]any, scope string) map[string]any {
	r := map[string]any{"type": "Microsoft.Authorization/roleAssignments", "name": text(get(doc, "name"))}
	group := template.GroupIn(scope)
	_, resource, inResource := strings.Cut(scope, "/providers/")
	switch {
	case inResource:
		r["scope"] = resource
	case group == "" && strings.HasPrefix(scope, "/subscriptions/"):
		r["scope"] = "[subscription().id]"
	case group == "":
		r["scope"] = "/"
	}
	if group != "" && !strings.EqualFold(group, e.Group) {
		r["resourceGroup"] = group
	}
	roleID := text(at(doc, "properties.roleDefinitionId"))
	roleID = roleID[strings.LastIndexByte(roleID, '/')+1:]
	properties := map[string]any{}
	if name := e.roles[strings.ToLower(roleID)]; name != "" {
		properties["role"] = name
	} else {
		properties["roleDefinitionId"] = roleID
	}
	who := text(at(doc, "properties.principalId"))
	if named := e.reference(who, group); named != nil {
		properties["principal"] = named
	} else {
		properties["principalId"], properties["principalType"] = who, get(object(get(doc, "properties")), "principalType")
	}
	if d := text(at(doc, "properties.description")); d != "" {
		properties["description"] = d
	}
	r["properties"] = properties
	return r
}
