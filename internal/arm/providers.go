package arm

import (
	"strings"

	"tabard/internal/settings"
)

// A provider is a namespace of resource types. All are registered, always.
type provider struct {
	versions *versions
	types    []string
}

var providers = []provider{
	{webPubSubVersions, []string{"operations", "locations", "locations/checkNameAvailability", "locations/usages", "locations/operationStatuses", "locations/operationResults",
		"WebPubSub", "WebPubSub/hubs", "WebPubSub/customCertificates", "WebPubSub/customDomains", "WebPubSub/sharedPrivateLinkResources", "WebPubSub/privateLinkResources",
		"WebPubSub/privateEndpointConnections", "WebPubSub/replicas"}},
	{identityVersions, []string{"operations", "identities", "userAssignedIdentities"}},
	{vaultVersions, []string{"operations", "checkNameAvailability", "vaults", "vaults/accessPolicies", "deletedVaults", "locations/deletedVaults"}},
	{authorizationVersions, []string{"roleAssignments", "roleDefinitions"}},
	{resourceVersions, []string{"subscriptions", "resourceGroups", "subscriptions/resourceGroups", "resources", "providers"}},
}

func (p *provider) describe(subscription string) map[string]any {
	types := make([]map[string]any, len(p.types))
	for i, name := range p.types {
		locations := []string{}
		if !strings.HasPrefix(name, "operations") {
			locations = append(locations, settings.DefaultLocation)
		}
		types[i] = map[string]any{"resourceType": name, "locations": locations, "apiVersions": p.versions.list, "capabilities": "None"}
	}
	id := "/providers/" + p.versions.namespace
	if subscription != "" {
		id = "/subscriptions/" + strings.ToLower(subscription) + id
	}
	return map[string]any{
		"id": id, "namespace": p.versions.namespace, "registrationPolicy": "RegistrationFree", "registrationState": "Registered", "resourceTypes": types,
	}
}

func (s *server) listProviders(c *call) (reply, error) {
	var list []map[string]any
	for i := range providers {
		list = append(list, providers[i].describe(c.params["subscription"]))
	}
	return values(list), nil
}

// getProvider serves GET and the registration, which changes nothing.
func (s *server) getProvider(c *call) (reply, error) {
	for i := range providers {
		if strings.EqualFold(providers[i].versions.namespace, c.params["namespace"]) {
			return reply{200, providers[i].describe(c.params["subscription"])}, nil
		}
	}
	return reply{}, invalidNamespace(c.params["namespace"])
}

// operation is one entry of an operations list. Its name is what role definitions allow.
func operation(provider, resource, action, description string) map[string]any {
	return map[string]any{
		"name": provider + "/" + resource + "/" + action, "isDataAction": false, "origin": "user,system",
		"display": map[string]string{"provider": provider, "resource": resource, "operation": description, "description": description},
	}
}

func (s *server) listWebPubSubOperations(*call) (reply, error) {
	const p, r = "Microsoft.SignalRService", "WebPubSub"
	var list []map[string]any
	for _, o := range [][3]string{
		{r, "read", "Read Web PubSub resources"},
		{r, "write", "Create or change Web PubSub resources"},
		{r, "delete", "Delete Web PubSub resources"},
		{r, "listkeys/action", "List the access keys of a Web PubSub resource"},
		{r, "regeneratekey/action", "Regenerate an access key of a Web PubSub resource"},
		{r, "restart/action", "Restart a Web PubSub resource"},
		{r + "/skus", "read", "List the SKUs of a Web PubSub resource"},
		{r + "/hubs", "read", "Read hub settings"},
		{r + "/hubs", "write", "Create or change hub settings"},
		{r + "/hubs", "delete", "Delete hub settings"},
		{r + "/customCertificates", "read", "Read custom certificates"},
		{r + "/customCertificates", "write", "Create or change custom certificates"},
		{r + "/customCertificates", "delete", "Delete custom certificates"},
		{r + "/customDomains", "read", "Read custom domains"},
		{r + "/customDomains", "write", "Create or change custom domains"},
		{r + "/customDomains", "delete", "Delete custom domains"},
		{r + "/sharedPrivateLinkResources", "read", "Read shared private links"},
		{r + "/sharedPrivateLinkResources", "write", "Create or change shared private links"},
		{r + "/sharedPrivateLinkResources", "delete", "Delete shared private links"},
		{r + "/privateLinkResources", "read", "Read the private link resources of a Web PubSub resource"},
		{r + "/operationStatuses", "read", "Read how an operation on a Web PubSub resource stands"},
		{r + "/operationResults", "read", "Read the result of an operation on a Web PubSub resource"},
		{r + "/trace", "read", "Read the trace of a Web PubSub resource (an extension of Tabard)"},
		{"locations", "checknameavailability/action", "Check whether a name is available"},
		{"locations/usages", "read", "Read the usages of a location"},
		{"operations", "read", "List the operations of the provider"},
	} {
		list = append(list, operation(p, o[0], o[1], o[2]))
	}
	return values(list), nil
}

func (s *server) listIdentityOperations(*call) (reply, error) {
	const p, r = "Microsoft.ManagedIdentity", "userAssignedIdentities"
	var list []map[string]any
	for _, o := range [][3]string{
		{r, "read", "Read user-assigned identities"},
		{r, "write", "Create or change user-assigned identities"},
		{r, "delete", "Delete user-assigned identities"},
		{r, "assign/action", "Assign a user-assigned identity to a resource"},
		{"identities", "read", "Read the system-assigned identity of a resource"},
		{"operations", "read", "List the operations of the provider"},
	} {
		op := operation(p, o[0], o[1], o[2])
		delete(op, "isDataAction") // this provider's description has neither
		delete(op, "origin")
		list = append(list, op)
	}
	return values(list), nil
}
