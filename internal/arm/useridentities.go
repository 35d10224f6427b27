package arm

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"tabard/internal/directory"
	"tabard/internal/settings"
)

const userIdentityType = "Microsoft.ManagedIdentity/userAssignedIdentities"

// identityID is the ARM id of the path's user-assigned identity.
func identityID(c *call) string {
	return directory.UserAssignedIdentityID(c.params["subscription"], c.params["group"], c.params["name"])
}

func userIdentity(u directory.UserAssignedIdentity) map[string]any {
	p := map[string]any{"tenantId": u.TenantID, "principalId": u.PrincipalID, "clientId": u.ClientID}
	for name, value := range u.Inert {
		p[name] = value
	}
	return map[string]any{
		"id": u.ID, "name": u.Name, "type": userIdentityType, "location": u.Location, "tags": tags(u.Tags),
		"properties": p,
	}
}

// userIdentities are those of a subscription, or of one of its groups, by name.
func (s *server) userIdentities(subscription, group string) []directory.UserAssignedIdentity {
	list := slices.DeleteFunc(s.Directory.UserAssignedIdentities(), func(u directory.UserAssignedIdentity) bool {
		return !strings.EqualFold(u.SubscriptionID, subscription) || group != "" && !strings.EqualFold(u.ResourceGroup, group)
	})
	slices.SortStableFunc(list, func(a, b directory.UserAssignedIdentity) int {
		return cmp.Compare(strings.ToLower(a.Name), strings.ToLower(b.Name))
	})
	return list
}

func (s *server) listUserIdentities(c *call) (reply, error) {
	var list []map[string]any
	for _, u := range s.userIdentities(c.params["subscription"], c.params["group"]) {
		list = append(list, userIdentity(u))
	}
	return values(list), nil
}

func (s *server) getUserIdentity(c *call) (reply, error) {
	u, ok := s.Directory.UserAssignedIdentity(identityID(c))
	if !ok {
		return reply{}, s.noUserIdentity(c)
	}
	return reply{200, userIdentity(u)}, nil
}

func (s *server) noUserIdentity(c *call) *armError {
	return resourceNotFound(userIdentityType, c.params["name"], c.params["group"])
}

// putUserIdentity serves PUT, which replaces, and PATCH, which leaves alone what it does not name.
func (s *server) putUserIdentity(c *call) (reply, error) {
	raw, err := c.readJSON()
	if err != nil {
		return reply{}, err
	}
	patch := c.r.Method == "PATCH"
	old, exists := s.Directory.UserAssignedIdentity(identityID(c))
	if patch && !exists {
		return reply{}, s.noUserIdentity(c)
	}
	var d reader
	doc := d.object("", raw, "location", "tags", "properties")
	p := d.object("properties", doc["properties"], "isolationScope", "assignmentRestrictions", "tenantId", "principalId", "clientId")
	if scope := d.choice("properties.isolationScope", p["isolationScope"], "None", "Regional"); scope != "" {
		p["isolationScope"] = encode(scope)
	}
	d.object("properties.assignmentRestrictions", p["assignmentRestrictions"])
	u := directory.UserAssignedIdentity{ID: identityID(c), Location: d.text("location", doc["location"]), Tags: d.textMap("tags", doc["tags"])}
	switch {
	case patch && absent(doc["location"]):
		u.Location = old.Location
	case len(d.faults) > 0:
	case u.Location == "":
		d.fault("location", "is required")
	case exists && plainLocation(u.Location) != plainLocation(old.Location):
		d.fault("location", "cannot be changed from %q to %q", old.Location, u.Location)
	}
	if patch {
		u.Inert = old.Inert
	}
	for _, name := range []string{"isolationScope", "assignmentRestrictions"} {
		if value, ok := p[name]; ok {
			if u.Inert == nil {
				u.Inert = map[string]json.RawMessage{}
			}
			u.Inert[name] = value
		}
	}
	if exists { // as it was written then
		u.Location = old.Location
	}
	if patch && absent(doc["tags"]) {
		u.Tags = old.Tags
	}
	if err := d.err(); err != nil {
		return reply{}, err
	}
	ctx, cancel := c.writing()
	defer cancel()
	u, created, err := s.Directory.PutUserAssignedIdentity(ctx, u)
	if err != nil {
		return reply{}, err
	}
	c.warn(inert("properties", u.Inert)...)
	if created {
		return reply{201, userIdentity(u)}, nil
	}
	return reply{200, userIdentity(u)}, nil
}

// deleteUserIdentity deletes an identity even while it is assigned, as Azure does; deliveries that need it then fail.
func (s *server) deleteUserIdentity(c *call) (reply, error) {
	id := identityID(c)
	if _, ok := s.Directory.UserAssignedIdentity(id); !ok {
		return reply{status: 204}, nil
	}
	ctx, cancel := c.writing()
	defer cancel()
	if err := s.dropUserIdentity(ctx, id); err != nil {
		return reply{}, err
	}
	for _, in := range s.Settings.Snapshot().Instances() {
		if in.Identity.Type == settings.IdentityUserAssigned && strings.EqualFold(in.Identity.UserAssigned, id) {
			c.warn(fmt.Sprintf("instance %s still has this identity: its events that need a token fail until it gets another", in.Name))
		}
	}
	return reply{status: 200}, nil
}

// dropUserIdentity deletes an identity with the roles at it.
func (s *server) dropUserIdentity(ctx context.Context, id string) error {
	if err := s.Directory.DeleteUserAssignedIdentity(ctx, id); err != nil && !errors.Is(err, directory.ErrNotFound) {
		return err
	}
	return s.Roles.DeleteScope(ctx, id)
}
