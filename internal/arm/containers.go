package arm

import (
	"cmp"
	"regexp"
	"slices"
	"strings"

	"tabard/internal/settings"
)

// Subscriptions and resource groups are only names here: the subscription is the configured one, and a group exists as
// soon as somebody names it. So neither holds a location or tags of its own.

var (
	guid      = regexp.MustCompile(`^[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}$`)
	groupName = regexp.MustCompile(`^[A-Za-z0-9_().-]{0,89}[A-Za-z0-9_()-]$`)
)

// checkScope refuses paths in a subscription that does not exist or a group that cannot.
func (s *server) checkScope(c *call) error {
	if id, ok := c.params["subscription"]; ok {
		if !guid.MatchString(id) {
			return invalidSubscription(id)
		}
		if !s.hasSubscription(id) {
			return subscriptionNotFound(id)
		}
	}
	if group, ok := c.params["group"]; ok && !groupName.MatchString(group) {
		return invalidGroup(group)
	}
	return nil
}

// subscriptions are the configured one, and those that hold resources from a time with another configuration.
func (s *server) subscriptions() []string {
	ids := []string{strings.ToLower(s.SubscriptionID)}
	for _, in := range s.Settings.Snapshot().Instances() {
		ids = append(ids, strings.ToLower(in.SubscriptionID))
	}
	for _, u := range s.Directory.UserAssignedIdentities() {
		ids = append(ids, strings.ToLower(u.SubscriptionID))
	}
	rest := slices.Compact(slices.Sorted(slices.Values(ids[1:])))
	return append(ids[:1:1], slices.DeleteFunc(rest, func(id string) bool { return id == ids[0] })...)
}

func (s *server) hasSubscription(id string) bool {
	return strings.EqualFold(id, s.SubscriptionID) || slices.Contains(s.subscriptions(), strings.ToLower(id))
}

func (s *server) subscription(id string) map[string]any {
	return map[string]any{
		"id": "/subscriptions/" + id, "subscriptionId": id, "tenantId": s.Directory.TenantID(), "displayName": "Tabard", "state": "Enabled",
		"authorizationSource":  "RoleBased",
		"subscriptionPolicies": map[string]string{"locationPlacementId": "Public_2014-09-01", "quotaId": "PayAsYouGo_2014-09-01", "spendingLimit": "Off"},
	}
}

func (s *server) listSubscriptions(*call) (reply, error) {
	var list []map[string]any
	for _, id := range s.subscriptions() {
		list = append(list, s.subscription(id))
	}
	return values(list), nil
}

func (s *server) getSubscription(c *call) (reply, error) {
	return reply{200, s.subscription(strings.ToLower(c.params["subscription"]))}, nil
}

func (s *server) listTenants(*call) (reply, error) {
	id := s.Directory.TenantID()
	return values([]map[string]any{{"id": "/tenants/" + id, "tenantId": id, "displayName": "Tabard", "tenantCategory": "Home"}}), nil
}

func (s *server) listLocations(c *call) (reply, error) {
	return values([]map[string]any{{
		"id":   "/subscriptions/" + strings.ToLower(c.params["subscription"]) + "/locations/" + settings.DefaultLocation,
		"name": settings.DefaultLocation, "type": "Region", "displayName": "Local", "regionalDisplayName": "Local",
		"metadata": map[string]string{"regionType": "Physical", "regionCategory": "Recommended"},
	}}), nil
}

func group(subscription, name string) map[string]any {
	return map[string]any{
		"id": "/subscriptions/" + strings.ToLower(subscription) + "/resourceGroups/" + name, "name": name, "type": "Microsoft.Resources/resourceGroups",
		"location": settings.DefaultLocation, "tags": map[string]string{}, "properties": map[string]string{"provisioningState": "Succeeded"},
	}
}

// groups are the default group and those that hold something, by name, in the casing of their first resource.
func (s *server) groups(subscription string) []string {
	names := map[string]string{}
	note := func(name string) {
		if key := strings.ToLower(name); names[key] == "" {
			names[key] = name
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
	var list []string
	for _, name := range names {
		list = append(list, name)
	}
	slices.SortFunc(list, func(a, b string) int { return cmp.Compare(strings.ToLower(a), strings.ToLower(b)) })
	return list
}

func (s *server) listGroups(c *call) (reply, error) {
	var list []map[string]any
	for _, name := range s.groups(c.params["subscription"]) {
		list = append(list, group(c.params["subscription"], name))
	}
	return values(list), nil
}

// findGroup gives the group's name in the casing it has, if it holds something, and tells whether it does.
func (s *server) findGroup(c *call) (name string, holds bool) {
	for _, name := range s.groups(c.params["subscription"]) {
		if strings.EqualFold(name, c.params["group"]) {
			return name, true
		}
	}
	return c.params["group"], false
}

func (s *server) getGroup(c *call) (reply, error) {
	name, _ := s.findGroup(c)
	return reply{200, group(c.params["subscription"], name)}, nil
}

func (s *server) headGroup(*call) (reply, error) { return reply{status: 204}, nil }

func (s *server) putGroup(c *call) (reply, error) {
	raw, err := c.readJSON()
	if err != nil {
		return reply{}, err
	}
	var d reader
	doc := d.object("", raw, "location", "tags")
	location, tags := d.text("location", doc["location"]), d.textMap("tags", doc["tags"])
	if err := d.err(); err != nil {
		return reply{}, err
	}
	if location != "" && plainLocation(location) != settings.DefaultLocation || len(tags) > 0 {
		c.warn("a resource group is only a name: its location is " + settings.DefaultLocation + ", and tags are not kept")
	}
	name, holds := s.findGroup(c)
	if holds {
		return reply{200, group(c.params["subscription"], name)}, nil
	}
	return reply{201, group(c.params["subscription"], name)}, nil
}

// listResources lists what a subscription, or one of its groups, holds.
func (s *server) listResources(c *call) (reply, error) {
	var list []map[string]any
	for _, in := range s.instances(c.params["subscription"], c.params["group"]) {
		list = append(list, map[string]any{
			"id": in.ResourceID(), "name": in.Name, "type": instanceType, "location": in.Location, "kind": kind(in), "tags": tags(in.Tags),
			"sku": sku(in.SKU), "identity": s.identity(in),
		})
	}
	for _, v := range s.vaults(c.params["subscription"], c.params["group"]) {
		list = append(list, map[string]any{"id": v.ResourceID(), "name": v.Name, "type": vaultType, "location": v.Location, "tags": tags(v.Tags)})
	}
	for _, u := range s.userIdentities(c.params["subscription"], c.params["group"]) {
		list = append(list, map[string]any{"id": u.ID, "name": u.Name, "type": userIdentityType, "location": u.Location, "tags": tags(u.Tags)})
	}
	return values(list), nil
}
