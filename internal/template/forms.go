package template

import (
	"fmt"
	"strings"
)

// A form is a function that does not compute all of its arguments, or looks at more than those.
type form func(ev *evaluator, e *expression, sc *scope) (any, error)

// formOf finds a form by its name in lower case, nil if it is none.
func formOf(name string) form {
	switch name {
	case "if":
		return ifForm
	case "and":
		return andForm
	case "or":
		return orForm
	case "parameters":
		return parametersForm
	case "variables":
		return variablesForm
	case "copyindex":
		return copyIndexForm
	case "reference", "resourceinfo":
		return referenceForm
	}
	if strings.HasPrefix(name, "list") {
		return listing
	}
	return nil
}

func (e *expression) want(least, most int) error {
	if len(e.args) < least || len(e.args) > most {
		return fmt.Errorf("%s() does not take %d arguments", e.call, len(e.args))
	}
	return nil
}

// textArgs computes the arguments, which must be text.
func (ev *evaluator) textArgs(e *expression, sc *scope) (texts []string, u any, err error) {
	for _, arg := range e.args {
		v, err := ev.expression(arg, sc)
		if err != nil {
			return nil, nil, err
		}
		switch v := v.(type) {
		case string:
			texts = append(texts, v)
		case Unknown:
			return nil, v, nil
		default:
			return nil, nil, fmt.Errorf("%s(): an argument is %s, not text", e.call, kindOf(v))
		}
	}
	return texts, nil, nil
}

func ifForm(ev *evaluator, e *expression, sc *scope) (any, error) {
	if err := e.want(3, 3); err != nil {
		return nil, err
	}
	c, err := ev.expression(e.args[0], sc)
	if err != nil {
		return nil, err
	}
	switch c := c.(type) {
	case Unknown:
		return c, nil
	case bool:
		if c {
			return ev.expression(e.args[1], sc)
		}
		return ev.expression(e.args[2], sc)
	}
	return nil, fmt.Errorf("if(): the condition is %s", kindOf(c))
}

func andForm(ev *evaluator, e *expression, sc *scope) (any, error) { return logic(ev, e, sc, false) }
func orForm(ev *evaluator, e *expression, sc *scope) (any, error)  { return logic(ev, e, sc, true) }

// logic computes arguments until one decides.
func logic(ev *evaluator, e *expression, sc *scope, decides bool) (any, error) {
	for _, arg := range e.args {
		v, err := ev.expression(arg, sc)
		if err != nil {
			return nil, err
		}
		if u, ok := v.(Unknown); ok {
			return u, nil
		}
		b, ok := v.(bool)
		if !ok {
			return nil, fmt.Errorf("%s(): an argument is %s", e.call, kindOf(v))
		}
		if b == decides {
			return decides, nil
		}
	}
	return !decides, nil
}

func parametersForm(ev *evaluator, e *expression, sc *scope) (any, error) {
	name, err := oneName(ev, e, sc)
	if err != nil {
		return nil, err
	}
	b, ok := sc.params[strings.ToLower(name)]
	if !ok {
		return nil, fmt.Errorf("the template has no parameter %q", name)
	}
	if b.node == nil {
		return b.value, nil
	}
	return ev.node(b.node, b.scope)
}

func variablesForm(ev *evaluator, e *expression, sc *scope) (any, error) {
	name, err := oneName(ev, e, sc)
	if err != nil {
		return nil, err
	}
	if sc.functions {
		return nil, fmt.Errorf("a function of the template cannot use variables()")
	}
	n, loop, inner, err := sc.variable(name)
	if err != nil {
		return nil, err
	}
	if loop {
		out := map[string]any{}
		err := ev.propertyLoops(&node{n.Pos, []*node{n}}, inner, out)
		v, _ := member(out, name)
		return v, err
	}
	return ev.node(n, inner)
}

// variable finds a variable, or the loop that makes it, and the scope in which it is computed: there it cannot be used
// again.
func (s *scope) variable(name string) (n *node, loop bool, inner *scope, err error) {
	key := strings.ToLower(name)
	if s.vars[key] {
		return nil, false, nil, fmt.Errorf("variable %q refers to itself", name)
	}
	within := *s
	within.vars = map[string]bool{key: true}
	for other := range s.vars {
		within.vars[other] = true
	}
	if n := s.tpl.variables.get(name); n != nil && !strings.EqualFold(name, "copy") {
		return n, false, &within, nil
	}
	for _, item := range s.tpl.variables.get("copy").list() {
		if strings.EqualFold(item.object().get("name").text(), name) {
			return item, true, &within, nil
		}
	}
	return nil, false, nil, fmt.Errorf("the template has no variable %q", name)
}

func oneName(ev *evaluator, e *expression, sc *scope) (string, error) {
	if err := e.want(1, 1); err != nil {
		return "", err
	}
	texts, u, err := ev.textArgs(e, sc)
	if err == nil && u != nil {
		err = fmt.Errorf("%s(): the name %w", e.call, errEarly)
	}
	if err != nil {
		return "", err
	}
	return texts[0], nil
}

// copyIndexForm is copyIndex([loop][, offset]).
func copyIndexForm(ev *evaluator, e *expression, sc *scope) (any, error) {
	if err := e.want(0, 2); err != nil {
		return nil, err
	}
	name, offset := "", int64(0)
	for _, arg := range e.args {
		v, err := ev.expression(arg, sc)
		if err != nil {
			return nil, err
		}
		switch v := v.(type) {
		case string:
			name = v
		case int64:
			offset = v
		default:
			return nil, fmt.Errorf("copyIndex() takes a loop's name and a number, not %s", kindOf(v))
		}
	}
	for i := len(sc.copies) - 1; i >= 0; i-- {
		if c := sc.copies[i]; name == "" || strings.EqualFold(c.name, name) {
			return int64(c.index) + offset, nil
		}
	}
	return nil, fmt.Errorf("copyIndex(%s) is outside of that loop", name)
}

// referenceForm is reference(resource[, apiVersion][, 'Full']): the properties of a resource as it is, or all of it.
func referenceForm(ev *evaluator, e *expression, sc *scope) (any, error) {
	if err := e.want(1, 3); err != nil {
		return nil, err
	}
	texts, u, err := ev.textArgs(e, sc)
	if err != nil || u != nil {
		return u, err
	}
	if ev.state == nil {
		return nil, fmt.Errorf("reference() %w", errEarly)
	}
	full := len(texts) == 3 && strings.EqualFold(texts[2], "Full") || strings.EqualFold(e.call, "resourceInfo")
	target, d := ev.run.resolve(texts[0], sc)
	if d != nil {
		return ev.deployment(d, full)
	}
	version := ev.run.versionOf(target)
	if len(texts) > 1 && texts[1] != "" {
		version = texts[1]
	}
	if target == "" {
		return nil, fmt.Errorf("reference(): %q is neither the id nor the name of a resource of the template", texts[0])
	}
	doc, err := ev.state.Resource(ev.ctx, target, version)
	if err != nil {
		return nil, err
	}
	if doc == nil {
		if ev.run.planned(target) {
			return Unknown{ShortID(target)}, nil
		}
		return nil, fmt.Errorf("reference(): there is no %s", target)
	}
	if full {
		return doc, nil
	}
	properties, _ := member(doc, "properties")
	return properties, nil
}

// listing is listKeys(resource, apiVersion) and its kin.
func listing(ev *evaluator, e *expression, sc *scope) (any, error) {
	if err := e.want(1, 3); err != nil {
		return nil, err
	}
	texts, u, err := ev.textArgs(e, sc)
	if err != nil || u != nil {
		return u, err
	}
	if ev.state == nil {
		return nil, fmt.Errorf("%s() %w", e.call, errEarly)
	}
	target, _ := ev.run.resolve(texts[0], sc)
	if target == "" {
		return nil, fmt.Errorf("%s(): %q is neither the id nor the name of a resource of the template", e.call, texts[0])
	}
	version := ev.run.versionOf(target)
	if len(texts) > 1 {
		version = texts[1]
	}
	doc, err := ev.state.List(ev.ctx, target, e.call, version)
	if doc == nil && err == nil {
		return Unknown{ShortID(target)}, nil
	}
	return doc, err
}

// ShortID is an id without where it is.
func ShortID(id string) string {
	if _, rest, ok := strings.Cut(id, "/providers/"); ok {
		return rest
	}
	return id
}
