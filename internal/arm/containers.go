package arm

import (
	"net/http"
	"regexp"
	"slices"
	"strings"

	"tabard/internal/settings"
)

// A subscription is only a name here: the configured one, and those of resources from a time with another configuration.

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

// checkGroup refuses to look for something in a group that does not exist. Who puts something into one creates it.
func (s *server) checkGroup(c *call) error {
	name, ok := c.params["group"]
	if !ok || c.r.Method == http.MethodPut || c.r.Method == http.MethodDelete {
		return nil
	}
	if _, exists := s.findGroup(c); !exists {
		return groupNotFound(name)
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
	for _, v := range s.Vaults.List() {
		ids = append(ids, strings.ToLower(v.SubscriptionID))
	}
	for _, g := range s.Settings.Groups("") {
		ids = append(ids, g.SubscriptionID)
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

// listResources lists what a subscription, or one of its groups, holds, as $filter wants it.
func (s *server) listResources(c *call) (reply, error) {
	want := map[string]string{} // by the lower-cased name of the field
	in := &scanner{rest: c.query("$filter")}
	if !in.all(func() bool {
		var value string
		field := strings.ToLower(in.word())
		ok := slices.Contains([]string{"resourcetype", "resourcegroup", "name"}, field) && in.keyword("eq") && in.text(&value)
		want[field] = value
		return ok
	}) {
		return reply{}, badResourceFilter()
	}
	var list []map[string]any
	add := func(group string, doc map[string]any) {
		for field, value := range map[string]string{"resourcetype": doc["type"].(string), "resourcegroup": group, "name": doc["name"].(string)} {
			if wanted, ok := want[field]; ok && !strings.EqualFold(value, wanted) {
				return
			}
		}
		list = append(list, doc)
	}
	for _, in := range s.instances(c.params["subscription"], c.params["group"]) {
		add(in.ResourceGroup, map[string]any{
			"id": in.ResourceID(), "name": in.Name, "type": instanceType, "location": in.Location, "kind": kind(in), "tags": tags(in.Tags),
			"sku": sku(in.SKU), "identity": s.identity(in),
		})
	}
	for _, v := range s.vaults(c.params["subscription"], c.params["group"]) {
		add(v.ResourceGroup, map[string]any{"id": v.ResourceID(), "name": v.Name, "type": vaultType, "location": v.Location, "tags": tags(v.Tags)})
	}
	for _, u := range s.userIdentities(c.params["subscription"], c.params["group"]) {
		add(u.ResourceGroup, map[string]any{"id": u.ID, "name": u.Name, "type": userIdentityType, "location": u.Location, "tags": tags(u.Tags)})
	}
	return values(list), nil
}
