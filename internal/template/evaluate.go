package template

import (
	"context"
	"errors"
	"fmt"
	"strings"
)

// A State is the service as it is while resources are deployed one after the other.
type State interface {
	// Resource is what a GET of the resource answers; nil if there is none.
	Resource(ctx context.Context, id, apiVersion string) (map[string]any, error)
	// List is what the POST of an action that begins with "list", such as listKeys, answers.
	List(ctx context.Context, id, action, apiVersion string) (map[string]any, error)
}

// errEarly reports that a value that must be fixed before anything is deployed is not.
var errEarly = errors.New("is known only after deployment began, and cannot decide about type, name, place or number of resources")

// A scope is where expressions are computed: a template with its parameters, within loops.
type scope struct {
	tpl       *templ
	params    map[string]binding
	copies    []copyIndex // the innermost last
	group     string
	vars      map[string]bool // being computed, so that a circle is noticed
	functions bool            // within a user-defined function, which sees its parameters alone
}

// A binding is a value, or what will give it.
type binding struct {
	value any
	node  *node
	scope *scope
}

type copyIndex struct {
	name  string
	index int
}

// in is the scope in one more round of a loop.
func (s *scope) in(name string, index int) *scope {
	inner := *s
	inner.copies = append(append([]copyIndex{}, s.copies...), copyIndex{name, index})
	return &inner
}

// An evaluator computes. Without a state it refuses what only a state knows.
type evaluator struct {
	ctx   context.Context
	run   *run
	state State
	depth int
}

// node computes a value: expressions are replaced by their values, at any depth, and copy loops of properties are run.
func (ev *evaluator) node(n *node, sc *scope) (any, error) {
	if n == nil {
		return nil, nil
	}
	if ev.depth++; ev.depth > 4*maxDepth {
		return nil, n.errorf("values refer to each other too deeply")
	}
	defer func() { ev.depth-- }()
	switch v := n.value.(type) {
	case string:
		if !isExpression(v) {
			return plainText(v), nil
		}
		e, err := parseExpression(v)
		if err != nil {
			return nil, n.at(err)
		}
		value, err := ev.expression(e, sc)
		return value, n.at(err)
	case []*node:
		list := make([]any, len(v))
		for i, item := range v {
			var err error
			if list[i], err = ev.node(item, sc); err != nil {
				return nil, err
			}
		}
		return list, nil
	case *object:
		return ev.object(v, sc)
	}
	return n.value, nil
}

func (ev *evaluator) object(o *object, sc *scope) (any, error) {
	out := make(map[string]any, len(o.names))
	for _, name := range o.names {
		n := o.members[name]
		if name == "copy" && isPropertyLoop(n) {
			if err := ev.propertyLoops(n, sc, out); err != nil {
				return nil, err
			}
			continue
		}
		key := plainText(name)
		if isExpression(name) {
			v, err := ev.node(&node{n.Pos, name}, sc)
			if err != nil {
				return nil, err
			}
			text, ok := v.(string)
			if !ok {
				return nil, n.errorf("the name %s is not text", name)
			}
			key = text
		}
		v, err := ev.node(n, sc)
		if err != nil {
			return nil, err
		}
		out[key] = v
	}
	return out, nil
}

// isPropertyLoop tells a loop from a member that happens to be called copy.
func isPropertyLoop(n *node) bool {
	for _, item := range n.list() {
		if o := item.object(); o.get("name") == nil || o.get("count") == nil || o.get("input") == nil {
			return false
		}
	}
	return len(n.list()) > 0
}

func (ev *evaluator) propertyLoops(n *node, sc *scope, out map[string]any) error {
	for _, item := range n.list() {
		o := item.object()
		name, count, err := ev.loop(item, sc)
		if err != nil {
			return err
		}
		list := make([]any, count)
		for i := range list {
			if list[i], err = ev.node(o.get("input"), sc.in(name, i)); err != nil {
				return err
			}
		}
		out[name] = list
	}
	return nil
}

// loop reads name and count of a loop.
func (ev *evaluator) loop(n *node, sc *scope) (name string, count int, err error) {
	o := n.object()
	if name, err = ev.text(o.get("name"), sc, "copy.name"); err != nil {
		return "", 0, err
	}
	v, err := ev.node(o.get("count"), sc)
	if err != nil {
		return "", 0, err
	}
	c, ok := v.(int64)
	if !ok || c < 0 || c > maxCopies {
		return "", 0, n.errorf("copy.count is not a number from 0 to %d", maxCopies)
	}
	return name, int(c), nil
}

// text computes what has to be text, and known.
func (ev *evaluator) text(n *node, sc *scope, what string) (string, error) {
	v, err := ev.node(n, sc)
	if err != nil || n == nil {
		return "", err
	}
	text, ok := v.(string)
	if !ok {
		return "", n.errorf("%s is not text", what)
	}
	return text, nil
}

func (ev *evaluator) expression(e *expression, sc *scope) (v any, err error) {
	if ev.depth++; ev.depth > 4*maxDepth {
		return nil, errors.New("values refer to each other too deeply")
	}
	defer func() { ev.depth-- }()
	v = e.literal
	if e.call != "" {
		if v, err = ev.call(e, sc); err != nil {
			return nil, err
		}
	}
	for i, step := range e.path {
		key, err := ev.expression(step, sc)
		if err != nil {
			return nil, err
		}
		if v, err = take(v, key, e.safe[i]); err != nil {
			return nil, err
		}
	}
	return v, nil
}

// take is a member of an object or an element of a list.
func take(v, key any, safe bool) (any, error) {
	if u, ok := FindUnknown(v, key); ok {
		return u, nil
	}
	switch of := v.(type) {
	case map[string]any:
		if name, ok := key.(string); ok {
			if found, ok := member(of, name); ok {
				return found, nil
			}
			if safe {
				return nil, nil
			}
			return nil, fmt.Errorf("there is no %q in the object", name)
		}
	case []any:
		if i, ok := key.(int64); ok {
			if i >= 0 && i < int64(len(of)) {
				return of[i], nil
			}
			if safe {
				return nil, nil
			}
			return nil, fmt.Errorf("there is no element %d in a list of %d", i, len(of))
		}
	case nil:
		if safe {
			return nil, nil
		}
	}
	return nil, fmt.Errorf("%v cannot be taken of a value that is %s", key, kindOf(v))
}

// FindUnknown finds a value within the arguments that is not known yet.
func FindUnknown(values ...any) (Unknown, bool) {
	for _, v := range values {
		switch v := v.(type) {
		case Unknown:
			return v, true
		case []any:
			if u, ok := FindUnknown(v...); ok {
				return u, true
			}
		case map[string]any:
			for _, m := range v {
				if u, ok := FindUnknown(m); ok {
					return u, true
				}
			}
		}
	}
	return Unknown{}, false
}

func (ev *evaluator) call(e *expression, sc *scope) (any, error) {
	name := strings.ToLower(e.call)
	if f := formOf(name); f != nil {
		return f(ev, e, sc)
	}
	args := make([]any, len(e.args))
	for i, arg := range e.args {
		var err error
		if args[i], err = ev.expression(arg, sc); err != nil {
			return nil, err
		}
	}
	if strings.Contains(name, ".") {
		return ev.userFunction(e.call, args, sc)
	}
	f, ok := functions[name]
	if !ok {
		if why, ok := refused[name]; ok {
			return nil, fmt.Errorf("%s() is not supported: %s", e.call, why)
		}
		return nil, fmt.Errorf("%s() is not supported", e.call)
	}
	if len(args) < f.least || f.most >= 0 && len(args) > f.most {
		return nil, fmt.Errorf("%s() does not take %d arguments", e.call, len(args))
	}
	if !f.raw {
		if u, ok := FindUnknown(args...); ok {
			return u, nil
		}
	}
	v, err := f.run(&call{ev, sc, args})
	if err != nil {
		return nil, fmt.Errorf("%s(): %w", e.call, err)
	}
	return v, nil
}

// userFunction calls one that the template defines.
func (ev *evaluator) userFunction(name string, args []any, sc *scope) (any, error) {
	namespace, short, _ := strings.Cut(name, ".")
	for _, group := range sc.tpl.functions.list() {
		o := group.object()
		if !strings.EqualFold(o.get("namespace").text(), namespace) {
			continue
		}
		f := o.get("members").object().get(short).object()
		if f == nil {
			break
		}
		params := f.get("parameters").list()
		if len(args) != len(params) {
			return nil, fmt.Errorf("%s() takes %d arguments, not %d", name, len(params), len(args))
		}
		inner := &scope{tpl: sc.tpl, params: map[string]binding{}, group: sc.group, functions: true}
		for i, p := range params {
			inner.params[strings.ToLower(p.object().get("name").text())] = binding{value: args[i]}
		}
		return ev.node(f.get("output").object().get("value"), inner)
	}
	return nil, fmt.Errorf("%s() is not defined in the template", name)
}

func kindOf(v any) string {
	switch v.(type) {
	case nil:
		return "null"
	case bool:
		return "true or false"
	case int64, float64:
		return "a number"
	case string:
		return "text"
	case []any:
		return "a list"
	case map[string]any:
		return "an object"
	}
	return "unknown"
}
