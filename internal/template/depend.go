package template

import (
	"context"
	"slices"
	"strings"
)

// resolve finds the resource, or the nested deployment, that a text names: by its id, its symbolic name, its name, or
// as Microsoft.X/type/name in the group of the scope.
func (r *run) resolve(text string, sc *scope) (id string, d *deployment) {
	for _, d := range r.deployments {
		if strings.EqualFold(d.id, text) || d.symbol != "" && d.symbol == text || strings.EqualFold(d.name, text) {
			return "", d
		}
	}
	if strings.HasPrefix(text, "/") {
		return strings.TrimSuffix(text, "/"), nil
	}
	for _, res := range r.resources {
		if res.symbol != "" && res.symbol == text && res.scope.tpl == sc.tpl {
			return res.ID, nil
		}
	}
	if strings.Contains(text, "/") {
		id = "/subscriptions/" + r.env.Subscription + "/resourceGroups/" + sc.group + "/providers/" + text
		if r.byID[strings.ToLower(id)] != nil || strings.Contains(strings.SplitN(text, "/", 2)[0], ".") {
			return id, nil
		}
	}
	var found []*Resource
	for _, res := range r.resources {
		if strings.EqualFold(res.Name, text) {
			found = append(found, res)
		}
	}
	if len(found) == 1 {
		return found[0].ID, nil
	}
	return "", nil
}

func (r *run) planned(id string) bool {
	res := r.byID[strings.ToLower(id)]
	return res != nil && !res.Existing
}

// versionOf is the api-version that the template gives a resource.
func (r *run) versionOf(id string) string {
	if res := r.byID[strings.ToLower(id)]; res != nil {
		return res.APIVersion
	}
	return ""
}

// Needs are the resources of the set that have to be there before this one: those it names in dependsOn, its parent and
// its scope, and those whose state its expressions use.
func (r *Resource) Needs(ctx context.Context) ([]*Resource, error) {
	var needs []*Resource
	add := func(res *Resource) {
		if res != r && !res.Existing && !slices.Contains(needs, res) {
			needs = append(needs, res)
		}
	}
	use := func(text string, sc *scope) (known bool) {
		id, d := r.run.resolve(text, sc)
		for _, res := range r.run.resources {
			if d != nil && slices.Contains(res.in, d) || id != "" && strings.EqualFold(res.ID, id) {
				add(res)
			}
		}
		return d != nil || r.run.byID[strings.ToLower(id)] != nil
	}
	name := func(text string, sc *scope) bool { // a loop or a symbol may stand for several
		known := use(text, sc)
		for _, res := range r.run.resources {
			if res.loop != "" && strings.EqualFold(res.loop, text) && res.scope.tpl == sc.tpl || res.symbol != "" && res.symbol == text && res.scope.tpl == sc.tpl {
				add(res)
				known = true
			}
		}
		return known
	}
	ev := r.run.evaluator(ctx)
	for _, d := range r.dependsOn {
		n := d.node
		v, err := ev.node(n, d.scope)
		if err != nil {
			return nil, err
		}
		text, ok := v.(string)
		if !ok {
			return nil, n.errorf("dependsOn has %s, not the name of a resource", kindOf(v))
		}
		if !name(text, d.scope) && !r.run.leftOut(text, d.scope) {
			return nil, n.errorf("dependsOn: there is no resource %q", text)
		}
	}
	for _, res := range r.run.resources {
		// "/providers/" comes after a scope, "/" after a parent.
		if len(res.ID) < len(r.ID) && strings.EqualFold(r.ID[:len(res.ID)], res.ID) && r.ID[len(res.ID)] == '/' {
			add(res)
		}
	}
	w := &walker{ev: ev, found: func(text string, sc *scope) { use(text, sc) }}
	w.node(r.node, r.scope, 0)
	return needs, nil
}

// leftOut tells whether a name is that of a resource that its condition leaves out.
func (r *run) leftOut(text string, sc *scope) bool {
	id, _ := r.resolve(text, sc)
	return slices.ContainsFunc(r.left, func(res *Resource) bool {
		return strings.EqualFold(res.ID, text) || strings.EqualFold(res.ID, id) || strings.EqualFold(res.Name, text) || res.symbol != "" && res.symbol == text || res.loop != "" && strings.EqualFold(res.loop, text)
	})
}

// A walker looks for the resources whose state expressions use, through parameters and variables.
type walker struct {
	ev    *evaluator
	found func(text string, sc *scope)
}

func (w *walker) node(n *node, sc *scope, depth int) {
	if n == nil || depth > maxDepth {
		return
	}
	switch v := n.value.(type) {
	case string:
		if isExpression(v) {
			if e, err := parseExpression(v); err == nil { // otherwise Body tells
				w.expression(e, sc, depth)
			}
		}
	case []*node:
		for _, item := range v {
			w.node(item, sc, depth+1)
		}
	case *object:
		for _, name := range v.names {
			if name == "resources" || name == "template" {
				continue // they are resources of their own
			}
			w.node(v.members[name], sc, depth+1)
			if isExpression(name) {
				w.node(&node{n.Pos, name}, sc, depth+1)
			}
		}
	}
}

func (w *walker) expression(e *expression, sc *scope, depth int) {
	if depth > maxDepth {
		return
	}
	name := strings.ToLower(e.call)
	if (name == "reference" || strings.HasPrefix(name, "list") || name == "resourceinfo") && len(e.args) > 0 {
		if v, err := w.ev.expression(e.args[0], sc); err == nil {
			if text, ok := v.(string); ok {
				w.found(text, sc)
				if _, d := w.ev.run.resolve(text, sc); d != nil && d.tpl.outputs != nil {
					for _, out := range d.tpl.outputs.names {
						w.node(d.tpl.outputs.members[out], d.scope, depth+1)
					}
				}
			}
		}
	}
	if (name == "parameters" || name == "variables") && len(e.args) == 1 {
		key, _ := e.args[0].literal.(string)
		if name == "parameters" {
			if b := sc.params[strings.ToLower(key)]; b.node != nil {
				w.node(b.node, b.scope, depth+1)
			}
		} else if n, _, inner, err := sc.variable(key); err == nil {
			w.node(n, inner, depth+1)
		}
	}
	for _, arg := range e.args {
		w.expression(arg, sc, depth+1)
	}
	for _, step := range e.path {
		w.expression(step, sc, depth+1)
	}
}

// Members are the values of all members of that name anywhere in the resource, as far as they can be computed before
// anything is deployed.
func (r *Resource) Members(ctx context.Context, name string) (found []any) {
	ev := r.run.evaluator(ctx)
	var walk func(n *node, depth int)
	walk = func(n *node, depth int) {
		if n == nil || depth > maxDepth {
			return
		}
		for _, item := range n.list() {
			walk(item, depth+1)
		}
		if o := n.object(); o != nil {
			for _, member := range o.names {
				if strings.EqualFold(member, name) {
					if v, err := ev.node(o.members[member], r.scope); err == nil {
						found = append(found, v)
					}
				}
				if member != "resources" {
					walk(o.members[member], depth+1)
				}
			}
		}
	}
	walk(r.node, 0)
	return found
}
