package arm

import (
	"cmp"
	"context"
	"errors"
	"maps"
	"slices"
	"strings"

	"tabard/internal/settings"
)

// lookup finds the instance that the path names: names are unique in the service, but an instance answers only in its
// own subscription and group.
func (s *server) lookup(c *call) (*settings.Instance, bool) {
	in, ok := s.Settings.Snapshot().Instance(c.params["name"])
	if !ok || !s.here(c, in) {
		return nil, false
	}
	return in, true
}

// here tells whether an instance is in the path's subscription and group.
func (s *server) here(c *call, in *settings.Instance) bool {
	return strings.EqualFold(in.SubscriptionID, c.params["subscription"]) && strings.EqualFold(in.ResourceGroup, c.params["group"])
}

func (s *server) find(c *call) (*settings.Instance, error) {
	if in, ok := s.lookup(c); ok {
		return in, nil
	}
	return nil, s.noInstance(c)
}

func (s *server) noInstance(c *call) *armError {
	return resourceNotFound(instanceType, c.params["name"], c.params["group"])
}

// findParent is find for operations on what lies below an instance.
func (s *server) findParent(c *call, kind string) (*settings.Instance, error) {
	if in, ok := s.lookup(c); ok {
		return in, nil
	}
	return nil, parentNotFound(kind, c.params["name"])
}

func (s *server) listInstances(c *call) (reply, error) {
	var list []map[string]any
	for _, in := range s.instances(c.params["subscription"], c.params["group"]) {
		list = append(list, s.instance(in))
	}
	return values(list), nil
}

// instances are those of a subscription, or of one of its groups, by name.
func (s *server) instances(subscription, group string) []*settings.Instance {
	var list []*settings.Instance
	for in := range maps.Values(s.Settings.Snapshot().Instances()) {
		if strings.EqualFold(in.SubscriptionID, subscription) && (group == "" || strings.EqualFold(in.ResourceGroup, group)) {
			list = append(list, in)
		}
	}
	slices.SortFunc(list, func(a, b *settings.Instance) int {
		return cmp.Compare(strings.ToLower(a.Name), strings.ToLower(b.Name))
	})
	return list
}

func (s *server) getInstance(c *call) (reply, error) {
	in, err := s.find(c)
	if err != nil {
		return reply{}, err
	}
	return c.resource(200, s.instance(in)), nil
}

func (s *server) putInstance(c *call) (reply, error) {
	raw, err := c.readJSON()
	if err != nil {
		return reply{}, err
	}
	var d reader
	if !settings.ValidInstanceName(c.params["name"]) {
		d.fault("name", nameRule)
	}
	body, err := d.instanceBody(raw)
	if err != nil {
		return reply{}, err
	}
	// Somebody may create or delete the name between our look and our write; then the other way is tried.
	for range 3 {
		status := 200
		var in *settings.Instance
		switch _, exists := s.lookup(c); exists {
		case true:
			in, err = s.replaceInstance(c, body)
		default:
			status = 201
			in, err = s.createInstance(c, body)
		}
		if errors.Is(err, settings.ErrNotFound) || errors.Is(err, settings.ErrExists) {
			continue
		}
		if err != nil {
			return reply{}, err
		}
		c.warn(s.warnings(in)...)
		return c.resource(status, s.instance(in)), nil
	}
	return reply{}, changedMeanwhile()
}

func (s *server) createInstance(c *call, body *instanceBody) (*settings.Instance, error) {
	if _, taken := s.Settings.Snapshot().Instance(c.params["name"]); taken {
		return nil, nameTaken(c.params["name"])
	}
	if err := c.match(nil); err != nil {
		return nil, err
	}
	ctx, cancel := c.writing()
	defer cancel()
	return s.withIdentity(ctx, c, body.identity, func(assign func(*settings.Instance) error) (*settings.Instance, error) {
		in := settings.Instance{Name: c.params["name"], SubscriptionID: c.params["subscription"], ResourceGroup: c.params["group"]}
		var d reader
		body.apply(&d, &in)
		if err := d.err(); err != nil {
			return nil, err
		}
		if err := assign(&in); err != nil {
			return nil, err
		}
		// What an earlier instance of this name left behind, because its deletion was cut short, is not this one's.
		if err := s.Roles.DeleteScope(ctx, in.ResourceID()); err != nil {
			return nil, err
		}
		return s.Settings.Create(ctx, in)
	})
}

const nameRule = "must be 3 to 63 letters, digits and dashes, beginning with a letter and not ending in a dash"

func (s *server) replaceInstance(c *call, body *instanceBody) (*settings.Instance, error) {
	return s.updateInstance(c, body.identity, func(in *settings.Instance) error {
		var d reader
		body.apply(&d, in)
		return d.err()
	})
}

// updateInstance stores an edit of the path's instance together with its identity.
func (s *server) updateInstance(c *call, identity *identityChoice, edit func(*settings.Instance) error) (*settings.Instance, error) {
	ctx, cancel := c.writing()
	defer cancel()
	return s.withIdentity(ctx, c, identity, func(assign func(*settings.Instance) error) (*settings.Instance, error) {
		return s.Settings.Update(ctx, c.params["name"], func(in *settings.Instance) error {
			if !s.here(c, in) {
				return settings.ErrNotFound
			}
			if err := c.match(s.instance(in)); err != nil {
				return err
			}
			if err := edit(in); err != nil {
				return err
			}
			return assign(in)
		})
	})
}

func (s *server) patchInstance(c *call) (reply, error) {
	patch, err := c.readJSON()
	if err != nil {
		return reply{}, err
	}
	current, err := s.find(c)
	if err != nil {
		return reply{}, err
	}
	// What the patch makes of the document depends on the document, so it is applied within the compare-and-swap.
	// Its identity does not, and is needed before.
	parse := func(in *settings.Instance) (*instanceBody, error) {
		doc, err := patched(in, patch)
		if err != nil {
			return nil, err
		}
		var d reader
		return d.instanceBody(doc)
	}
	body, err := parse(current)
	if err != nil {
		return reply{}, err
	}
	in, err := s.updateInstance(c, body.identity, func(in *settings.Instance) error {
		body, err := parse(in)
		if err != nil {
			return err
		}
		var d reader
		body.apply(&d, in)
		return d.err()
	})
	if errors.Is(err, settings.ErrNotFound) {
		return reply{}, s.noInstance(c)
	}
	if err != nil {
		return reply{}, err
	}
	c.warn(s.warnings(in)...)
	return c.resource(200, s.instance(in)), nil
}

func (s *server) deleteInstance(c *call) (reply, error) {
	ctx, cancel := c.writing()
	defer cancel()
	err := s.dropInstance(ctx, c.params["name"], func(in *settings.Instance) error {
		if !s.here(c, in) {
			return settings.ErrNotFound
		}
		return c.match(s.instance(in))
	})
	if errors.Is(err, settings.ErrNotFound) {
		return reply{status: 204}, c.match(nil)
	}
	return reply{status: 200}, err
}

// dropInstance deletes an instance, if may does not object, with its system-assigned identity and the roles at it.
func (s *server) dropInstance(ctx context.Context, name string, may func(*settings.Instance) error) error {
	in, err := s.Settings.Delete(ctx, name, may)
	if err != nil {
		return err
	}
	if in.Identity.Type == settings.IdentitySystemAssigned {
		s.dropPrincipal(ctx, in.Identity.PrincipalID)
	}
	return s.Roles.DeleteScope(ctx, in.ResourceID())
}

func (s *server) restartInstance(c *call) (reply, error) {
	in, err := s.find(c)
	if err != nil {
		return reply{}, err
	}
	if s.Restart != nil {
		if err := s.Restart(c.r.Context(), in); err != nil {
			return reply{}, err
		}
	}
	return reply{status: 204}, nil // the official Go client takes 202 or 204 only
}

func (s *server) listKeys(c *call) (reply, error) {
	in, err := s.find(c)
	if err != nil {
		return reply{}, err
	}
	return reply{200, s.keys(in)}, nil
}

func (s *server) keys(in *settings.Instance) map[string]string {
	connection := func(key string) string {
		return "Endpoint=" + s.Endpoint(in) + ";AccessKey=" + key + ";Version=1.0;"
	}
	return map[string]string{
		"primaryKey": in.Keys.Primary, "primaryConnectionString": connection(in.Keys.Primary),
		"secondaryKey": in.Keys.Secondary, "secondaryConnectionString": connection(in.Keys.Secondary),
	}
}

// regenerateKey replaces the named key. What "Salt" does in the cloud is not documented; here it replaces both.
func (s *server) regenerateKey(c *call) (reply, error) {
	raw, err := c.readJSON()
	if err != nil {
		return reply{}, err
	}
	var d reader
	given := d.text("keyType", d.object("", raw, "keyType")["keyType"])
	var keys []settings.Key
	switch strings.ToLower(given) {
	case "primary":
		keys = []settings.Key{settings.Primary}
	case "secondary":
		keys = []settings.Key{settings.Secondary}
	case "salt":
		keys = []settings.Key{settings.Primary, settings.Secondary}
	default:
		if len(d.faults) == 0 {
			d.fault("keyType", "%q is none of Primary, Secondary, Salt", given)
		}
	}
	if err := d.err(); err != nil {
		return reply{}, err
	}
	if _, err := s.find(c); err != nil {
		return reply{}, err
	}
	ctx, cancel := c.writing()
	defer cancel()
	in, err := s.Settings.RegenerateKeys(ctx, c.params["name"], keys...)
	if errors.Is(err, settings.ErrNotFound) {
		return reply{}, s.noInstance(c)
	}
	if err != nil {
		return reply{}, err
	}
	return reply{200, s.keys(in)}, nil
}

// checkName tells whether an instance could be created under a name. Names are unique in the service, whatever the
// location of the path.
func (s *server) checkName(c *call) (reply, error) {
	raw, err := c.readJSON()
	if err != nil {
		return reply{}, err
	}
	var d reader
	o := d.object("", raw, "type", "name")
	kind, name := d.text("type", o["type"]), d.text("name", o["name"])
	known := []string{instanceType, "Microsoft.SignalRService/SignalR", instanceType + "/replicas"}
	if len(d.faults) == 0 && !slices.ContainsFunc(known, func(k string) bool { return strings.EqualFold(k, kind) }) {
		d.fault("type", "%q is none of %s", kind, strings.Join(known, ", "))
	}
	if len(d.faults) == 0 && name == "" {
		d.fault("name", "is required")
	}
	if err := d.err(); err != nil {
		return reply{}, err
	}
	answer := map[string]any{"nameAvailable": false}
	if !settings.ValidInstanceName(name) {
		answer["reason"], answer["message"] = "Invalid", "The name "+nameRule+"."
	} else if _, taken := s.Settings.Snapshot().Instance(name); taken {
		answer["reason"], answer["message"] = "AlreadyExists", "The name is already taken. Please try a different name."
	} else {
		answer["nameAvailable"] = true
	}
	return reply{200, answer}, nil
}

// usages has one quota, and it is none.
func (s *server) listUsages(c *call) (reply, error) {
	const name = "WebPubSub"
	return values([]any{map[string]any{
		"id":           "/subscriptions/" + c.params["subscription"] + "/providers/Microsoft.SignalRService/locations/" + c.params["location"] + "/usages/" + name,
		"currentValue": len(s.instances(c.params["subscription"], "")), "limit": -1, "unit": "Count",
		"name": map[string]string{"value": name, "localizedValue": "Web PubSub resources"},
	}}), nil
}
