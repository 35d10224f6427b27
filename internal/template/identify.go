package template

import (
	"errors"
	"slices"
	"strings"
)

// name finds out type, name and id.
func (r *Resource) name(ev *evaluator, parent *Resource) error {
	o := r.node.object()
	if id := o.get("id"); id != nil && (o.get("apiVersion") == nil || o.get("type") == nil) {
		text, err := ev.text(id, r.scope, "id")
		if err != nil {
			return err
		}
		if text != "" {
			return r.byID(text)
		}
	}
	kind, err := ev.text(o.get("type"), r.scope, "type")
	if err != nil {
		return err
	}
	kind, version, _ := strings.Cut(kind, "@") // as Bicep's extensions write it
	if r.APIVersion == "" {
		r.APIVersion = version
	}
	if kind == "" {
		return r.errorf("a resource needs a type")
	}
	if strings.HasPrefix(strings.ToLower(kind), "microsoft.graph/") {
		return r.graphName(ev, kind)
	}
	name, err := ev.text(o.get("name"), r.scope, "name")
	if err != nil {
		return err
	}
	if parent != nil && (!strings.Contains(kind, "/") || !strings.EqualFold(kind[:min(len(kind), len(parent.Type)+1)], parent.Type+"/")) {
		kind, name, r.Group = parent.Type+"/"+kind, parent.Name+"/"+name, parent.Group
	}
	r.Type, r.Name = kind, name
	if name == "" && strings.EqualFold(kind, "Microsoft.Authorization/roleAssignments") {
		if name, err = r.assignmentName(ev); err != nil {
			return err
		}
		r.Name = name
	}
	if name == "" {
		return r.errorf("a resource of type %s needs a name", kind)
	}
	base, err := r.base(ev)
	if err != nil {
		return err
	}
	types, names := strings.Split(kind, "/"), strings.Split(name, "/")
	if at := slices.IndexFunc(types, func(t string) bool { return strings.EqualFold(t, "providers") }); at > 0 {
		return r.oldExtension(base, types, names, at)
	}
	if len(types) < 2 || len(types) != len(names)+1 || slices.Contains(names, "") || slices.Contains(types, "") {
		return r.errorf("the type %s takes %d names joined by /, not %q", kind, max(1, len(types)-1), name)
	}
	rest, err := typed(append([]string{kind}, names...))
	if err != nil {
		return r.at(err)
	}
	r.ID = base + "/providers/" + rest
	if strings.EqualFold(kind, "Microsoft.Resources/resourceGroups") {
		r.ID = "/subscriptions/" + r.run.env.Subscription + "/resourceGroups/" + name
	}
	return nil
}

// base is the scope that the resource is in.
func (r *Resource) base(ev *evaluator) (string, error) {
	group := "/subscriptions/" + r.run.env.Subscription + "/resourceGroups/" + r.Group
	n := r.node.object().get("scope")
	if n == nil {
		return group, nil
	}
	scope, err := ev.text(n, r.scope, "scope")
	if err != nil {
		return "", err
	}
	switch {
	case scope == "/":
		return "", nil
	case strings.HasPrefix(scope, "/"):
		return r.absolute(strings.TrimSuffix(scope, "/")), nil
	case scope == "":
		return group, nil
	}
	return group + "/providers/" + scope, nil // Microsoft.X/type/name of the same group
}

// absolute completes an id that leaves the subscription out, as exports write it.
func (r *Resource) absolute(id string) string {
	if strings.HasPrefix(strings.ToLower(id), "/resourcegroups/") {
		return "/subscriptions/" + r.run.env.Subscription + id
	}
	return id
}

// byID takes the resource's id as it stands.
func (r *Resource) byID(id string) error {
	r.ID = r.absolute(strings.TrimSuffix(id, "/"))
	at := strings.LastIndex(strings.ToLower(r.ID), "/providers/")
	parts := strings.Split(r.ID[max(at, 0):], "/")
	if at < 0 || len(parts) < 5 || len(parts)%2 == 0 || slices.Contains(parts[1:], "") {
		return r.errorf("%q is not the id of a resource", id)
	}
	r.Type, r.Name = SplitID(r.ID)
	r.Group = GroupIn(r.ID)
	return nil
}

// SplitID takes an id apart, as far as its last provider names it: …/providers/Microsoft.X/a/n/b/m is Microsoft.X/a/b
// and n/m.
func SplitID(id string) (kind, name string) {
	if at := strings.LastIndex(strings.ToLower(id), "/providers/"); at >= 0 {
		id = id[at+len("/providers/"):]
	}
	parts := strings.Split(id, "/") // namespace, then pairs
	kind = parts[0]
	for i := 1; i+1 < len(parts); i += 2 {
		kind += "/" + parts[i]
		name = strings.TrimPrefix(name+"/"+parts[i+1], "/")
	}
	return kind, name
}

// GroupIn is the resource group in an id; empty if it is in none.
func GroupIn(id string) string {
	segments := strings.Split(id, "/")
	if len(segments) > 4 && strings.EqualFold(segments[3], "resourceGroups") {
		return segments[4]
	}
	return ""
}

// oldExtension is a role assignment as older templates write it: the type Microsoft.X/a/providers/roleAssignments, the
// name n/Microsoft.Authorization/guid.
func (r *Resource) oldExtension(base string, types, names []string, at int) error {
	if len(names) != len(types)-1 || at != len(names)-1 {
		return r.errorf("the type %s and the name %s do not fit together", r.Type, r.Name)
	}
	rest, err := typed(append([]string{strings.Join(types[:at], "/")}, names[:at-1]...))
	if err != nil {
		return r.at(err)
	}
	r.ID = base + "/providers/" + rest + "/providers/" + names[at-1] + "/" + types[at+1] + "/" + names[at]
	r.Type, r.Name = names[at-1]+"/"+types[at+1], names[at]
	return nil
}

// graphName names an object of the directory: by the resource's name, else by uniqueName or displayName.
func (r *Resource) graphName(ev *evaluator, kind string) error {
	o := r.node.object()
	for _, n := range []*node{o.get("name"), o.get("properties").object().get("uniqueName"), o.get("uniqueName"), o.get("properties").object().get("displayName"), o.get("displayName")} {
		if n == nil {
			continue
		}
		name, err := ev.text(n, r.scope, "name")
		if err != nil {
			return err
		}
		if name != "" {
			r.Name = name
			break
		}
	}
	r.Type, r.Group = kind, ""
	if r.Name == "" {
		return r.errorf("a resource of type %s needs a name", kind)
	}
	types := strings.Split(kind, "/")
	names := []string{r.Name}
	if len(types) > 2 {
		names = strings.Split(r.Name, "/")
	}
	if len(types) != len(names)+1 || slices.Contains(names, "") {
		return r.errorf("the type %s takes %d names joined by /", kind, len(types)-1)
	}
	var err error
	r.ID, err = typed(append([]string{kind}, names...))
	return r.at(err)
}

// assignmentName makes the name of a role assignment that has none: who has which role where decides it, so that it is
// the same next time.
func (r *Resource) assignmentName(ev *evaluator) (string, error) {
	o := r.node.object()
	p := o.get("properties").object()
	parts := []any{r.Group}
	for _, n := range []*node{o.get("scope"), p.get("role"), p.get("roleDefinitionId"), p.get("principal"), p.get("principalId")} {
		v, err := ev.node(n, r.scope)
		if errors.Is(err, errEarly) || err != nil && strings.Contains(err.Error(), errEarly.Error()) {
			v, err = n.text(), nil // the expression itself
		}
		if err != nil {
			return "", err
		}
		text, err := asText(v)
		if err != nil {
			return "", err
		}
		parts = append(parts, text)
	}
	v, err := guid(&call{ev, r.scope, parts})
	if err != nil {
		return "", err
	}
	return v.(string), nil
}
