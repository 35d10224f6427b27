package template

import (
	"context"
	"fmt"
	"slices"
	"strings"
)

// An Environment is where resources go when they do not say so themselves.
type Environment struct {
	Subscription, Tenant, Group, Location string
	Parameters                            Parameters
}

// A Resource is one that somebody wants, with what is fixed about it. Names keep their spelling.
type Resource struct {
	Pos
	ID         string // of ARM, or "Microsoft.Graph/{collection}/{name}…" for an object of the directory
	Type       string // "Microsoft.SignalRService/webPubSub/hubs"
	Name       string // "default/chat"
	Group      string // resource group, if it is in one
	APIVersion string // as given; may be empty
	Existing   bool   // it is referred to and not deployed

	run       *run
	scope     *scope
	node      *node
	symbol    string
	loop      string // of which it is one round
	dependsOn []dependency
	in        []*deployment
}

// A dependency is an entry of dependsOn and where it is computed.
type dependency struct {
	node  *node
	scope *scope
}

// A Set is all resources of some files.
type Set struct {
	Resources []*Resource // those to be deployed, in the order of the files
	run       *run
}

// A run is the expansion of files into resources.
type run struct {
	env         Environment
	resources   []*Resource // existing ones too
	deployments []*deployment
	byID        map[string]*Resource
	left        []*Resource // out, by their conditions
}

// A deployment is a nested template.
type deployment struct {
	id, name, symbol string
	scope            *scope
	tpl              *templ
}

// Expand finds the resources of the files: parameters are bound, conditions decided, loops run.
func Expand(ctx context.Context, files []*File, env Environment) (*Set, error) {
	r := &run{env: env, byID: map[string]*Resource{}}
	used := map[string]bool{}
	for _, f := range files {
		sc := &scope{tpl: f.tpl, params: map[string]binding{}, group: env.Group}
		if err := r.bind(ctx, sc, used); err != nil {
			return nil, err
		}
		if err := r.expand(ctx, sc, f.tpl.resources, nil, nil, 0); err != nil {
			return nil, err
		}
	}
	for name, p := range env.Parameters {
		if !used[name] {
			return nil, fmt.Errorf("no template has a parameter %q", p.Origin)
		}
	}
	s := &Set{run: r}
	for _, res := range r.resources {
		if !res.Existing {
			s.Resources = append(s.Resources, res)
		}
	}
	return s, nil
}

func (r *run) evaluator(ctx context.Context) *evaluator { return &evaluator{ctx: ctx, run: r} }

// bind gives a template's parameters their values: those that were given, else defaults.
func (r *run) bind(ctx context.Context, sc *scope, used map[string]bool) error {
	if sc.tpl.parameters == nil {
		return nil
	}
	for _, name := range sc.tpl.parameters.names {
		n, key := sc.tpl.parameters.members[name], strings.ToLower(name)
		used[key] = true
		given, ok := r.env.Parameters[key]
		if ok {
			v, err := typedValue(n, given)
			if err != nil {
				return n.errorf("parameter %s: %v", name, err)
			}
			sc.params[key] = binding{value: v}
			continue
		}
		if sc.params[key], ok = defaultOf(n, sc); !ok {
			return n.errorf("parameter %s has no value and no default: give --parameters %s=…", name, name)
		}
	}
	return nil
}

// defaultOf binds a parameter that is given no value, by its declaration. ok is false if it must have one.
func defaultOf(n *node, sc *scope) (b binding, ok bool) {
	if d := n.object().get("defaultValue"); d != nil {
		return binding{node: d, scope: sc}, true
	}
	return binding{}, n.object().get("nullable").isTrue()
}

// isTrue tells whether it is true as it stands.
func (n *node) isTrue() bool { return n != nil && n.value == true }

// typedValue checks a value against a parameter's declaration. Errors do not repeat it: it may be a secret.
func typedValue(n *node, p Parameter) (any, error) {
	o, v := n.object(), p.Value
	kind := strings.ToLower(o.get("type").text())
	if text, ok := v.(string); ok && !p.Typed && kind != "string" && kind != "securestring" && kind != "" {
		doc, err := parseJSON("", []byte(text), 0)
		if err != nil {
			return nil, fmt.Errorf("the value is not %s", kind)
		}
		v = doc.plain()
	}
	ok := true
	switch kind {
	case "string", "securestring":
		_, ok = v.(string)
	case "int":
		_, ok = v.(int64)
	case "bool":
		_, ok = v.(bool)
	case "array":
		_, ok = v.([]any)
	case "object", "secureobject":
		_, ok = v.(map[string]any)
	}
	if !ok {
		return nil, fmt.Errorf("the value is %s, not %s", kindOf(v), kind)
	}
	if allowed := o.get("allowedValues"); allowed != nil {
		list, _ := allowed.plain().([]any)
		if !slices.ContainsFunc(list, func(a any) bool { return same(a, v) }) {
			return nil, fmt.Errorf("the value is none of the allowed ones")
		}
	}
	return v, nil
}

// expand adds the resources of a list, or of a map by symbolic names, below a parent if there is one.
func (r *run) expand(ctx context.Context, sc *scope, list *node, parent *Resource, in []*deployment, depth int) error {
	if depth > 8 {
		return list.errorf("resources are nested deeper than 8 levels")
	}
	if o := list.object(); o != nil {
		for _, symbol := range o.names {
			if err := r.one(ctx, sc, o.members[symbol], symbol, parent, in, depth); err != nil {
				return err
			}
		}
		return nil
	}
	if list.list() == nil && list != nil {
		return list.errorf("resources is not a list")
	}
	for _, n := range list.list() {
		if err := r.one(ctx, sc, n, "", parent, in, depth); err != nil {
			return err
		}
	}
	return nil
}

// one adds a resource, or one for each round of its loop.
func (r *run) one(ctx context.Context, sc *scope, n *node, symbol string, parent *Resource, in []*deployment, depth int) error {
	o := n.object()
	if o == nil {
		return n.errorf("a resource is %s, not an object", kindOf(n.plain()))
	}
	loop := o.get("copy")
	if loop == nil || loop.object() == nil {
		return r.single(ctx, sc, n, symbol, "", parent, in, depth)
	}
	name, count, err := r.evaluator(ctx).loop(loop, sc)
	if err != nil {
		return err
	}
	for i := range count {
		if err := r.single(ctx, sc.in(name, i), n, symbol, name, parent, in, depth); err != nil {
			return err
		}
	}
	return nil
}

func (r *run) single(ctx context.Context, sc *scope, n *node, symbol, loop string, parent *Resource, in []*deployment, depth int) error {
	o, ev := n.object(), r.evaluator(ctx)
	if c := o.get("condition"); c != nil {
		v, err := ev.node(c, sc)
		if err != nil {
			return err
		}
		wanted, ok := v.(bool)
		if !ok {
			return c.errorf("the condition is %s, not true or false", kindOf(v))
		}
		if !wanted {
			return r.leaveOut(ev, sc, n, symbol, loop, parent)
		}
	}
	res := &Resource{Pos: n.Pos, run: r, scope: sc, node: n, symbol: symbol, loop: loop, in: in, Group: sc.group}
	if group := o.get("resourceGroup"); group != nil {
		name, err := ev.text(group, sc, "resourceGroup")
		if err != nil {
			return err
		}
		res.Group = name
	}
	var err error
	if res.APIVersion, err = ev.text(o.get("apiVersion"), sc, "apiVersion"); err != nil {
		return err
	}
	res.Existing = o.get("existing").isTrue()
	for _, d := range o.get("dependsOn").list() {
		res.dependsOn = append(res.dependsOn, dependency{d, sc})
	}
	if err := res.name(ev, parent); err != nil {
		return err
	}
	if strings.EqualFold(res.Type, "Microsoft.Resources/deployments") {
		return r.nested(ctx, res, depth)
	}
	key := strings.ToLower(res.ID)
	if before := r.byID[key]; before != nil && !(before.Existing || res.Existing) {
		return n.errorf("%s is there already, at %s", ShortID(res.ID), before.Pos)
	} else if before == nil || before.Existing {
		r.byID[key] = res
	}
	if r.resources = append(r.resources, res); len(r.resources) > MaxResources {
		return n.errorf("there are more than %d resources", MaxResources)
	}
	if children := o.get("resources"); children != nil {
		return r.expand(ctx, sc, children, res, in, depth+1)
	}
	return nil
}

// leaveOut remembers a resource that is not wanted, so that others may depend on it all the same.
func (r *run) leaveOut(ev *evaluator, sc *scope, n *node, symbol, loop string, parent *Resource) error {
	res := &Resource{Pos: n.Pos, run: r, scope: sc, node: n, symbol: symbol, loop: loop, Group: sc.group}
	if err := res.name(ev, parent); err == nil { // a name that cannot be computed is none that others know
		r.left = append(r.left, res)
	}
	return nil
}

// nested adds the resources of a nested template (what a Bicep module is).
func (r *run) nested(ctx context.Context, res *Resource, depth int) error {
	o := res.node.object().get("properties").object()
	if mode := o.get("mode").text(); strings.EqualFold(mode, "Complete") {
		return res.errorf("mode Complete is not supported: --prune deletes what is not wanted any more")
	}
	if o.get("templateLink") != nil {
		return res.errorf("templateLink is not supported: give the template itself")
	}
	inner := o.get("template")
	if inner.object() == nil {
		return res.errorf("a nested deployment needs properties.template")
	}
	tpl, err := asTemplate(inner)
	if err != nil {
		return err
	}
	d := &deployment{id: res.ID, name: res.Name, symbol: res.symbol, tpl: tpl}
	if strings.EqualFold(o.get("expressionEvaluationOptions").object().get("scope").text(), "inner") {
		d.scope = &scope{tpl: tpl, params: map[string]binding{}, group: res.Group}
		given := o.get("parameters").object()
		if tpl.parameters != nil {
			for _, name := range tpl.parameters.names {
				b, ok := defaultOf(tpl.parameters.members[name], d.scope)
				if v := given.get(name).object().get("value"); v != nil {
					b, ok = binding{node: v, scope: res.scope}, true
				}
				if !ok {
					return res.errorf("parameter %s of the nested template has no value", name)
				}
				d.scope.params[strings.ToLower(name)] = b
			}
		}
	} else { // its expressions are computed outside
		outer := *res.scope
		outer.group = res.Group
		d.scope = &outer
	}
	r.deployments = append(r.deployments, d)
	before := len(r.resources)
	if err := r.expand(ctx, d.scope, tpl.resources, nil, append(slices.Clone(res.in), d), depth+1); err != nil {
		return err
	}
	for _, inside := range r.resources[before:] {
		if len(res.dependsOn) > 0 {
			inside.dependsOn = append(slices.Clone(inside.dependsOn), res.dependsOn...)
		}
	}
	return nil
}

// deployment is what reference() of a nested deployment gives.
func (ev *evaluator) deployment(d *deployment, full bool) (any, error) {
	outputs := map[string]any{}
	if d.tpl.outputs != nil {
		for _, name := range d.tpl.outputs.names {
			n := d.tpl.outputs.members[name]
			v, err := ev.node(n.object().get("value"), d.scope)
			if err != nil {
				return nil, err
			}
			outputs[name] = map[string]any{"type": n.object().get("type").text(), "value": v}
		}
	}
	properties := map[string]any{"outputs": outputs, "provisioningState": "Succeeded"}
	if full {
		return map[string]any{"id": d.id, "name": d.name, "properties": properties}, nil
	}
	return properties, nil
}

// own are the members of a resource that are not sent.
var own = []string{"id", "type", "name", "apiVersion", "dependsOn", "scope", "condition", "copy", "comments", "metadata", "resources", "resourceGroup", "subscriptionId", "existing", "import", "extension", "asserts", "systemData", "etag"}

// Body computes what the resource shall be, as far as it is known: everything that is sent of it. state is the
// service as it is now.
func (r *Resource) Body(ctx context.Context, state State) (map[string]any, error) {
	ev := &evaluator{ctx: ctx, run: r.run, state: state}
	o := r.node.object()
	wanted := &object{members: map[string]*node{}}
	for _, name := range o.names {
		if !slices.ContainsFunc(own, func(m string) bool { return strings.EqualFold(m, name) }) {
			wanted.names, wanted.members[name] = append(wanted.names, name), o.members[name]
		}
	}
	v, err := ev.object(wanted, r.scope)
	if err != nil {
		return nil, r.at(err)
	}
	body := v.(map[string]any)
	for name, value := range body {
		if value == nil && name != "identity" {
			delete(body, name)
		}
	}
	return body, nil
}

// Literal tells whether the member at a path is text that stands in the file, and not an expression.
func (r *Resource) Literal(path ...string) bool {
	n := r.node
	for _, name := range path {
		n = n.object().get(name)
	}
	text, ok := "", false
	if n != nil {
		text, ok = n.value.(string)
	}
	return ok && !isExpression(text)
}
