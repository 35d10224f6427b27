package template

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// Functions on lists and objects, and on where things are.

func createObject(c *call) (any, error) {
	if len(c.args)%2 != 0 {
		return nil, fmt.Errorf("it takes pairs of name and value")
	}
	out := map[string]any{}
	for i := 0; i < len(c.args); i += 2 {
		name, err := c.text(i)
		if err != nil {
			return nil, err
		}
		out[name] = c.args[i+1]
	}
	return out, nil
}

func array(c *call) (any, error) {
	if l, ok := c.args[0].([]any); ok {
		return l, nil
	}
	return []any{c.args[0]}, nil
}

func length(c *call) (any, error) {
	switch v := c.args[0].(type) {
	case string:
		return int64(len([]rune(v))), nil
	case []any:
		return int64(len(v)), nil
	case map[string]any:
		return int64(len(v)), nil
	}
	return nil, fmt.Errorf("the argument is %s", kindOf(c.args[0]))
}

func first(c *call) (any, error) { return end(c, func(n int) int { return 0 }) }
func last(c *call) (any, error)  { return end(c, func(n int) int { return n - 1 }) }

func end(c *call, which func(n int) int) (any, error) {
	switch v := c.args[0].(type) {
	case string:
		if r := []rune(v); len(r) > 0 {
			return string(r[which(len(r))]), nil
		}
		return "", nil
	case []any:
		if len(v) > 0 {
			return v[which(len(v))], nil
		}
		return nil, nil
	}
	return nil, fmt.Errorf("the argument is %s", kindOf(c.args[0]))
}

func takeSome(c *call) (any, error) { return part(c, func(n, size int) (int, int) { return 0, n }) }
func skipSome(c *call) (any, error) { return part(c, func(n, size int) (int, int) { return n, size }) }

func part(c *call, bounds func(n, size int) (from, to int)) (any, error) {
	given, err := c.number(1)
	if err != nil {
		return nil, err
	}
	clamp := func(size int) (int, int) { return bounds(int(min(max(given, 0), int64(size))), size) }
	switch v := c.args[0].(type) {
	case string:
		r := []rune(v)
		from, to := clamp(len(r))
		return string(r[from:to]), nil
	case []any:
		from, to := clamp(len(v))
		return slices.Clone(v[from:to]), nil
	}
	return nil, fmt.Errorf("the first argument is %s", kindOf(c.args[0]))
}

// union joins lists without repeating, or objects, whose later members win and whose objects are joined likewise.
func union(c *call) (any, error) {
	if u, ok := c.args[0].(Unknown); ok {
		return u, nil
	}
	if _, ok := c.args[0].([]any); ok {
		all := []any{}
		for i := range c.args {
			l, err := c.list(i)
			if err != nil {
				return nil, err
			}
			for _, v := range l {
				if !slices.ContainsFunc(all, func(x any) bool { return same(x, v) }) {
					all = append(all, v)
				}
			}
		}
		return all, nil
	}
	out := map[string]any{}
	for i, v := range c.args {
		o, ok := v.(map[string]any)
		if !ok {
			return nil, fmt.Errorf("argument %d is %s, not an object", i+1, kindOf(v))
		}
		out = joined(out, o)
	}
	return out, nil
}

func joined(a, b map[string]any) map[string]any {
	out := maps.Clone(a)
	for name, v := range b {
		inner, ok := v.(map[string]any)
		before, was := out[name].(map[string]any)
		if ok && was {
			out[name] = joined(before, inner)
			continue
		}
		out[name] = v
	}
	return out
}

func intersection(c *call) (any, error) {
	all, err := c.list(0)
	if err != nil {
		return nil, err
	}
	for i := range c.args {
		l, err := c.list(i)
		if err != nil {
			return nil, err
		}
		all = slices.DeleteFunc(slices.Clone(all), func(v any) bool { return !slices.ContainsFunc(l, func(x any) bool { return same(x, v) }) })
	}
	return all, nil
}

func rangeOf(c *call) (any, error) {
	from, err := c.number(0)
	if err != nil {
		return nil, err
	}
	n, err := c.number(1)
	if err != nil {
		return nil, err
	}
	if n < 0 || n > 10_000 {
		return nil, fmt.Errorf("it has 0 to 10000 numbers")
	}
	list := make([]any, n)
	for i := range list {
		list[i] = from + int64(i)
	}
	return list, nil
}

func items(c *call) (any, error) {
	o, ok := c.args[0].(map[string]any)
	if !ok {
		return nil, fmt.Errorf("the argument is %s", kindOf(c.args[0]))
	}
	list := []any{}
	for _, name := range slices.Sorted(maps.Keys(o)) {
		list = append(list, map[string]any{"key": name, "value": o[name]})
	}
	return list, nil
}

func objectKeys(c *call) (any, error) {
	o, ok := c.args[0].(map[string]any)
	if !ok {
		return nil, fmt.Errorf("the argument is %s", kindOf(c.args[0]))
	}
	return anys(slices.Sorted(maps.Keys(o))), nil
}

func flatten(c *call) (any, error) {
	l, err := c.list(0)
	if err != nil {
		return nil, err
	}
	all := []any{}
	for _, v := range l {
		inner, ok := v.([]any)
		if !ok {
			return nil, fmt.Errorf("it holds %s, not lists", kindOf(v))
		}
		all = append(all, inner...)
	}
	return all, nil
}

// resourceID is resourceId([subscription, ][group, ]type, name…).
func resourceID(c *call) (any, error) {
	t, err := c.texts()
	if err != nil {
		return nil, err
	}
	sub, group := c.ev.run.env.Subscription, c.sc.group
	at := slices.IndexFunc(t, func(s string) bool { return strings.Contains(s, "/") })
	switch at {
	case 0:
	case 1:
		group = t[0]
	case 2:
		sub, group = t[0], t[1]
	default:
		return nil, fmt.Errorf("there is no type like Microsoft.SignalRService/webPubSub")
	}
	rest, err := typed(t[at:])
	return "/subscriptions/" + sub + "/resourceGroups/" + group + "/providers/" + rest, err
}

func subscriptionResourceID(c *call) (any, error) {
	t, err := c.texts()
	if err != nil {
		return nil, err
	}
	sub := c.ev.run.env.Subscription
	if !strings.Contains(t[0], "/") {
		sub, t = t[0], t[1:]
	}
	rest, err := typed(t)
	return "/subscriptions/" + sub + "/providers/" + rest, err
}

func tenantResourceID(c *call) (any, error) {
	t, err := c.texts()
	if err != nil {
		return nil, err
	}
	rest, err := typed(t)
	return "/providers/" + rest, err
}

func extensionResourceID(c *call) (any, error) {
	t, err := c.texts()
	if err != nil {
		return nil, err
	}
	rest, err := typed(t[1:])
	return strings.TrimSuffix(t[0], "/") + "/providers/" + rest, err
}

// typed joins a type and the names of its parts: Microsoft.X/a/b, n, m is Microsoft.X/a/n/b/m.
func typed(t []string) (string, error) {
	if len(t) == 0 {
		return "", fmt.Errorf("there is no type")
	}
	types := strings.Split(t[0], "/")
	names := t[1:]
	if len(names) == 1 && len(types) > 2 {
		names = strings.Split(names[0], "/")
	}
	if len(types) != len(names)+1 {
		return "", fmt.Errorf("%s takes %d names, not %d", t[0], len(types)-1, len(names))
	}
	out := types[0]
	for i, name := range names {
		out += "/" + types[i+1] + "/" + name
	}
	return out, nil
}

func subscription(c *call) (any, error) {
	e := c.ev.run.env
	return map[string]any{"id": "/subscriptions/" + e.Subscription, "subscriptionId": e.Subscription, "tenantId": e.Tenant, "displayName": "Tabard"}, nil
}

func resourceGroup(c *call) (any, error) {
	e := c.ev.run.env
	return map[string]any{
		"id": "/subscriptions/" + e.Subscription + "/resourceGroups/" + c.sc.group, "name": c.sc.group, "type": "Microsoft.Resources/resourceGroups",
		"location": e.Location, "tags": map[string]any{}, "properties": map[string]any{"provisioningState": "Succeeded"},
	}, nil
}

func tenant(c *call) (any, error) {
	id := c.ev.run.env.Tenant
	return map[string]any{"id": "/tenants/" + id, "tenantId": id, "displayName": "Tabard"}, nil
}

func deploymentInfo(c *call) (any, error) {
	return map[string]any{"name": "tabard", "location": c.ev.run.env.Location, "properties": map[string]any{"mode": "Incremental"}}, nil
}

func environment(c *call) (any, error) {
	return map[string]any{
		"name": "Tabard", "authentication": map[string]any{"tenant": c.ev.run.env.Tenant},
		"suffixes": map[string]any{"keyvaultDns": ".vault.azure.net", "storage": "core.windows.net"},
	}, nil
}
