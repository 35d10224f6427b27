package arm

import (
	"cmp"
	"context"
	"errors"
	"net/http"
	"slices"
	"strings"

	"tabard/internal/keyvault"
	"tabard/internal/settings"
)

const groupType = "Microsoft.Resources/resourceGroups"

func group(g settings.Group) map[string]any {
	return map[string]any{
		"id": "/subscriptions/" + strings.ToLower(g.SubscriptionID) + "/resourceGroups/" + g.Name, "name": g.Name, "type": groupType,
		"location": cmp.Or(g.Location, settings.DefaultLocation), "tags": tags(g.Tags), "properties": map[string]string{"provisioningState": "Succeeded"},
	}
}

// groups are the default one, those of a subscription that somebody created, and those that hold something since before
// groups were kept, by name.
func (s *server) groups(subscription string) []settings.Group {
	list := s.Settings.Groups(subscription)
	known := map[string]bool{}
	for _, g := range list {
		known[strings.ToLower(g.Name)] = true
	}
	note := func(name string) {
		if key := strings.ToLower(name); !known[key] {
			known[key] = true
			list = append(list, settings.Group{Name: name, SubscriptionID: subscription})
		}
	}
	if strings.EqualFold(subscription, s.SubscriptionID) {
		note(settings.DefaultResourceGroup)
	}
	for _, in := range s.instances(subscription, "") {
		note(in.ResourceGroup)
	}
	for _, u := range s.userIdentities(subscription, "") {
		note(u.ResourceGroup)
	}
	for _, v := range s.vaults(subscription, "") {
		note(v.ResourceGroup)
	}
	slices.SortFunc(list, func(a, b settings.Group) int { return cmp.Compare(strings.ToLower(a.Name), strings.ToLower(b.Name)) })
	return list
}

// findGroup finds the path's group.
func (s *server) findGroup(c *call) (settings.Group, bool) {
	if g, ok := s.Settings.Group(c.params["subscription"], c.params["group"]); ok {
		return g, true
	}
	for _, g := range s.groups(c.params["subscription"]) {
		if strings.EqualFold(g.Name, c.params["group"]) {
			return g, true
		}
	}
	return settings.Group{}, false
}

func (s *server) listGroups(c *call) (reply, error) {
	var list []map[string]any
	for _, g := range s.groups(c.params["subscription"]) {
		list = append(list, group(g))
	}
	return values(list), nil
}

func (s *server) getGroup(c *call) (reply, error) {
	g, ok := s.findGroup(c)
	if !ok {
		return reply{}, groupNotFound(c.params["group"])
	}
	return c.resource(200, group(g)), nil
}

func (s *server) headGroup(c *call) (reply, error) {
	if _, ok := s.findGroup(c); !ok {
		return reply{}, groupNotFound(c.params["group"])
	}
	return reply{status: 204}, nil
}

// putGroup serves PUT, which creates a group or replaces its tags, and PATCH, which leaves alone what it does not name.
// Without a location a group has the service's own.
func (s *server) putGroup(c *call) (reply, error) {
	raw, err := c.readJSON()
	if err != nil {
		return reply{}, err
	}
	var d reader
	doc := d.object("", raw, "location", "tags", "properties", "managedBy")
	location, given := d.text("location", doc["location"]), d.textMap("tags", doc["tags"])
	if err := d.err(); err != nil {
		return reply{}, err
	}
	patch, exists := c.r.Method == http.MethodPatch, false
	ctx, cancel := c.writing()
	defer cancel()
	g, _, err := s.Settings.PutGroup(ctx, c.params["subscription"], c.params["group"], func(g *settings.Group) error {
		var was settings.Group
		was, exists = s.findGroup(c) // perhaps only because it holds something
		if patch && !exists {
			return groupNotFound(c.params["group"])
		}
		if exists && was.Location != "" && location != "" && plainLocation(location) != plainLocation(was.Location) {
			return groupLocation(was.Name, was.Location, location)
		}
		if err := c.match(groupDocument(was, exists)); err != nil {
			return err
		}
		if exists {
			g.Name = was.Name
		}
		g.Location = cmp.Or(g.Location, location)
		if !patch || !absent(doc["tags"]) {
			g.Tags = given
		}
		return nil
	})
	if err != nil {
		return reply{}, err
	}
	if exists {
		return c.resource(200, group(g)), nil
	}
	return c.resource(201, group(g)), nil
}

// groupDocument is the document of a group, nil if it does not exist.
func groupDocument(g settings.Group, exists bool) map[string]any {
	if !exists {
		return nil
	}
	return group(g)
}

// enterGroup creates the group that a resource was put into, unless it exists, so that it stays when the resource goes.
// Should that fail, the group exists as long as the resource does.
func (s *server) enterGroup(c *call) {
	name := c.params["group"]
	if _, exists := s.Settings.Group(c.params["subscription"], name); exists {
		return
	}
	ctx, cancel := c.writing()
	defer cancel()
	_, created, err := s.Settings.PutGroup(ctx, c.params["subscription"], name, func(*settings.Group) error { return nil })
	if err != nil {
		s.logFailure(c, err)
	}
	if created && !strings.EqualFold(name, settings.DefaultResourceGroup) {
		c.warn("the resource group " + name + " did not exist and was created: Azure would have refused")
	}
}

// deleteGroup deletes what lies in a group, then what was assigned at it, then the group: last, so that a second
// deletion finds what an error leaves behind.
func (s *server) deleteGroup(c *call) (reply, error) {
	was, exists := s.findGroup(c)
	if !exists {
		return reply{}, groupNotFound(c.params["group"])
	}
	if strings.EqualFold(was.Name, settings.DefaultResourceGroup) && strings.EqualFold(c.params["subscription"], s.SubscriptionID) {
		return reply{}, refuse(http.StatusConflict, "ResourceGroupDeletionBlocked", "The resource group '%s' is where the service's own instance and vault belong; delete what is in it instead.", was.Name)
	}
	if err := c.match(group(was)); err != nil {
		return reply{}, err
	}
	ctx, cancel := c.writing()
	defer cancel()
	if err := s.emptyGroup(ctx, c.params["subscription"], c.params["group"]); err != nil {
		return reply{}, err
	}
	if err := s.Roles.DeleteScope(ctx, "/subscriptions/"+c.params["subscription"]+"/resourceGroups/"+c.params["group"]); err != nil {
		return reply{}, err
	}
	if err := s.Settings.DeleteGroup(ctx, c.params["subscription"], c.params["group"]); err != nil && !errors.Is(err, settings.ErrNotFound) {
		return reply{}, err
	}
	return reply{status: 200}, nil
}

func (s *server) emptyGroup(ctx context.Context, subscription, group string) error {
	for _, in := range s.instances(subscription, group) {
		if err := s.dropInstance(ctx, in.Name, nil); err != nil && !errors.Is(err, settings.ErrNotFound) {
			return err
		}
	}
	for _, v := range s.vaults(subscription, group) {
		if err := s.Vaults.DeleteVault(ctx, v.Name); err != nil && !errors.Is(err, keyvault.ErrNotFound) {
			return err
		}
	}
	for _, u := range s.userIdentities(subscription, group) {
		if err := s.dropUserIdentity(ctx, u.ID); err != nil {
			return err
		}
	}
	return nil
}
