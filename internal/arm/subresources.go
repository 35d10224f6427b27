package arm

import (
	"encoding/json"
	"errors"
	"net/http"
	"strings"

	"tabard/internal/settings"
)

// A subresource is a kind of resource that is kept in the document of its instance: custom certificates and domains,
// shared private links (control-plane.md 6, 7). Its name in paths is the parameter {child}.
type subresource[T any] struct {
	kind   string // as paths name it: "customDomains"
	of     func(*settings.Instance) map[string]*T
	sorted func(*settings.Instance) []*T
	// decode reads the document of a PUT over the present resource, which is nil if it is new.
	decode func(d *reader, name string, doc object, old *T) *T
	// properties are those of the document that is answered.
	properties func(in *settings.Instance, v *T) map[string]any
	name       func(*T) string
	// removable says why a resource cannot be deleted; nil: each can.
	removable func(in *settings.Instance, v *T) error
}

func (k *subresource[T]) resourceType() string { return instanceType + "/" + k.kind }

func (k *subresource[T]) document(in *settings.Instance, v *T) map[string]any {
	return map[string]any{
		"id": in.ResourceID() + "/" + k.kind + "/" + k.name(v), "name": k.name(v), "type": k.resourceType(), "properties": k.properties(in, v),
	}
}

// match holds the request's preconditions against the resource, which may be missing.
func (k *subresource[T]) match(c *call, in *settings.Instance, v *T) error {
	if v == nil {
		return c.match(nil)
	}
	return c.match(k.document(in, v))
}

func (k *subresource[T]) list(s *server) handler {
	return func(c *call) (reply, error) {
		in, err := s.findParent(c, k.resourceType())
		if err != nil {
			return reply{}, err
		}
		var list []map[string]any
		for _, v := range k.sorted(in) {
			list = append(list, k.document(in, v))
		}
		return values(list), nil
	}
}

func (k *subresource[T]) find(s *server, c *call) (*settings.Instance, *T, error) {
	in, err := s.findParent(c, k.resourceType())
	if err != nil {
		return nil, nil, err
	}
	v, ok := k.of(in)[strings.ToLower(c.params["child"])]
	if !ok {
		return nil, nil, resourceNotFound(k.resourceType(), in.Name+"/"+c.params["child"], in.ResourceGroup)
	}
	return in, v, nil
}

func (k *subresource[T]) get(s *server) handler {
	return func(c *call) (reply, error) {
		in, v, err := k.find(s, c)
		if err != nil {
			return reply{}, err
		}
		return c.resource(200, k.document(in, v)), nil
	}
}

// store keeps the document of a PUT and returns what it made of the resource.
func (k *subresource[T]) store(s *server, c *call) (in *settings.Instance, v *T, created bool, err error) {
	raw, err := c.readJSON()
	if err != nil {
		return nil, nil, false, err
	}
	if _, err := s.findParent(c, k.resourceType()); err != nil {
		return nil, nil, false, err
	}
	key := strings.ToLower(c.params["child"])
	ctx, cancel := c.writing()
	defer cancel()
	in, err = s.Settings.Update(ctx, c.params["name"], func(in *settings.Instance) error {
		if !s.here(c, in) {
			return settings.ErrNotFound
		}
		old := k.of(in)[key]
		if err := k.match(c, in, old); err != nil {
			return err
		}
		created = old == nil
		var d reader
		v = k.decode(&d, c.params["child"], d.object("", raw, "properties"), old)
		if err := d.err(); err != nil {
			return err
		}
		k.of(in)[key] = v
		return nil
	})
	if errors.Is(err, settings.ErrNotFound) {
		err = parentNotFound(k.resourceType(), c.params["name"])
	}
	if err != nil {
		return nil, nil, false, err
	}
	return in, k.of(in)[key], created, nil
}

// put serves PUT: 201 when the resource is new.
func (k *subresource[T]) put(s *server, warnings ...string) handler {
	return func(c *call) (reply, error) {
		in, v, created, err := k.store(s, c)
		if err != nil {
			return reply{}, err
		}
		c.warn(warnings...)
		if created {
			return c.resource(201, k.document(in, v)), nil
		}
		return c.resource(200, k.document(in, v)), nil
	}
}

func (k *subresource[T]) delete(s *server) handler {
	return func(c *call) (reply, error) {
		if _, err := s.findParent(c, k.resourceType()); err != nil {
			return reply{}, err
		}
		ctx, cancel := c.writing()
		defer cancel()
		key, found := strings.ToLower(c.params["child"]), false
		_, err := s.Settings.Update(ctx, c.params["name"], func(in *settings.Instance) error {
			if !s.here(c, in) {
				return settings.ErrNotFound
			}
			v, ok := k.of(in)[key]
			if found = ok; !ok {
				return c.match(nil)
			}
			if err := k.match(c, in, v); err != nil {
				return err
			}
			if k.removable != nil {
				if err := k.removable(in, v); err != nil {
					return err
				}
			}
			delete(k.of(in), key)
			return nil
		})
		switch {
		case errors.Is(err, settings.ErrNotFound):
			return reply{}, parentNotFound(k.resourceType(), c.params["name"])
		case err != nil:
			return reply{}, err
		case !found:
			return reply{status: http.StatusNoContent}, nil
		}
		return reply{status: http.StatusOK}, nil
	}
}

// properties decodes the properties of a sub-resource's document, which are required.
func (d *reader) properties(doc object, names ...string) object {
	if len(d.faults) == 0 && absent(doc["properties"]) {
		d.fault("properties", "is required")
	}
	return d.object("properties", doc["properties"], names...)
}

// fixed decodes a text that cannot be changed once it is set.
func (d *reader) fixed(at string, raw json.RawMessage, old string) string {
	given := d.text(at, raw)
	if old != "" && !absent(raw) && !strings.EqualFold(strings.TrimRight(given, "/"), strings.TrimRight(old, "/")) {
		d.fault(at, "cannot be changed from %q to %q", old, given)
	}
	if given == "" {
		return old
	}
	return given
}
