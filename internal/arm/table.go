package arm

import "slices"

const (
	graph     = "/v1.0"
	federated = "/federatedIdentityCredentials"
)

// table is every operation of the surface, Tabard's own included; nothing is routed that is not in this file.
func (s *server) table() []route {
	const (
		subscription = "/subscriptions/{subscription}"
		group        = subscription + "/resourceGroups/{group}"
		webPubSub    = "/providers/Microsoft.SignalRService/webPubSub"
		location     = subscription + "/providers/Microsoft.SignalRService/locations/{location}"
		r            = group + webPubSub + "/{name}"
		identities   = "/providers/Microsoft.ManagedIdentity/userAssignedIdentities"
		u            = group + identities + "/{name}"
	)
	wps, msi, res := webPubSubVersions, identityVersions, resourceVersions
	return slices.Concat(s.authorizationTable(subscription, group), s.vaultTable(subscription, group, r), s.belowTable(r), s.graphTable(), s.liveTable(r), []route{
		{"GET", "/providers/Microsoft.SignalRService/operations", wps, s.listWebPubSubOperations},
		{"POST", location + "/checkNameAvailability", wps, s.checkName},
		{"GET", location + "/operationStatuses/{operation}", wps, s.getOperationStatus},
		{"GET", location + "/operationResults/{operation}", wps, s.getOperationResult},
		{"GET", location + "/usages", wps, s.listUsages},
		{"GET", subscription + webPubSub, wps, s.listInstances},
		{"GET", group + webPubSub, wps, s.listInstances},
		{"GET", r, wps, s.getInstance},
		{"PUT", r, wps, s.async(s.putInstance)},
		{"PATCH", r, wps, s.async(s.patchInstance)},
		{"DELETE", r, wps, s.async(s.deleteInstance)},
		{"POST", r + "/listKeys", wps, s.listKeys},
		{"POST", r + "/regenerateKey", wps, s.regenerateKey},
		{"POST", r + "/restart", wps, s.async(s.restartInstance)},
		{"GET", r + "/skus", wps, s.listSKUs},
		{"GET", r + "/hubs", wps, s.listHubs},
		{"GET", r + "/hubs/{hub}", wps, s.getHub},
		{"PUT", r + "/hubs/{hub}", wps, s.putHub},
		{"DELETE", r + "/hubs/{hub}", wps, s.async(s.deleteHub)},
		{"GET", r + "/trace", wps, s.getTrace}, // from here on Tabard's own
		{"GET", r + "/trace/{record}", wps, s.getRecord},
		{"POST", r + "/trace/{record}/listContent", wps, s.listContent},
		{"POST", r + "/trace/{record}/replay", wps, s.replay},
		{"POST", r + "/hubs/{hub}/trigger", wps, s.trigger},
		{"POST", r + "/listen", wps, s.listen},
		{"GET", r + "/traceReasons", wps, s.traceReasons},

		{"GET", "/providers/Microsoft.ManagedIdentity/operations", msi, s.listIdentityOperations},
		{"GET", r + "/providers/Microsoft.ManagedIdentity/identities/default", msi, s.getSystemIdentity},
		{"GET", subscription + identities, msi, s.listUserIdentities},
		{"GET", group + identities, msi, s.listUserIdentities},
		{"GET", u, msi, s.getUserIdentity},
		{"PUT", u, msi, s.putUserIdentity},
		{"PATCH", u, msi, s.putUserIdentity},
		{"DELETE", u, msi, s.deleteUserIdentity},
		{"GET", u + federated, msi, s.listARMFederated},
		{"GET", u + federated + "/{credential}", msi, s.getARMFederated},
		{"PUT", u + federated + "/{credential}", msi, s.putARMFederated},
		{"DELETE", u + federated + "/{credential}", msi, s.deleteARMFederated},

		{"GET", subscription + "/providers/Microsoft.Insights/eventtypes/management/values", activityVersions, s.listActivity},

		{"GET", "/tenants", res, s.listTenants},
		{"GET", "/subscriptions", res, s.listSubscriptions},
		{"GET", subscription, res, s.getSubscription},
		{"GET", subscription + "/locations", res, s.listLocations},
		{"GET", subscription + "/resources", res, s.listResources},
		{"GET", subscription + "/resourceGroups", res, s.listGroups},
		{"GET", group, res, s.getGroup},
		{"HEAD", group, res, s.headGroup},
		{"PUT", group, res, s.putGroup},
		{"PATCH", group, res, s.putGroup},
		{"DELETE", group, res, s.deleteGroup},
		{"GET", group + "/resources", res, s.listResources},
		{"GET", "/providers", res, s.listProviders},
		{"GET", "/providers/{namespace}", res, s.getProvider},
		{"GET", subscription + "/providers", res, s.listProviders},
		{"GET", subscription + "/providers/{namespace}", res, s.getProvider},
		{"POST", subscription + "/providers/{namespace}/register", res, s.getProvider},
	})
}

// belowTable is the routes of what lies below an instance, its hubs excepted.
func (s *server) belowTable(r string) []route {
	wps := webPubSubVersions
	var (
		certificates, domains           = s.customCertificates(), s.customDomains()
		cert, domain                    = r + "/customCertificates", r + "/customDomains"
		link, connection, replica       = r + "/sharedPrivateLinkResources", r + "/privateEndpointConnections", r + "/replicas"
		noConnection, noReplica, noLink = s.missing(connectionType), s.missing(replicaType), s.missing(replicaType + "/sharedPrivateLinkResources")
	)
	const one = "/{child}"
	return []route{
		{"GET", r + "/operationStatuses/{operation}", wps, s.getOperationStatus},
		{"GET", r + "/operationResults/{operation}", wps, s.getOperationResult},

		{"GET", cert, wps, certificates.list(s)},
		{"GET", cert + one, wps, certificates.get(s)},
		{"PUT", cert + one, wps, s.putCertificate},
		{"DELETE", cert + one, wps, certificates.delete(s)},
		{"GET", domain, wps, domains.list(s)},
		{"GET", domain + one, wps, domains.get(s)},
		{"PUT", domain + one, wps, s.putDomain},
		{"DELETE", domain + one, wps, s.async(domains.delete(s))},

		{"GET", link, wps, sharedLinks.list(s)},
		{"GET", link + one, wps, sharedLinks.get(s)},
		{"PUT", link + one, wps, sharedLinks.put(s, linkWarning)},
		{"DELETE", link + one, wps, s.async(sharedLinks.delete(s))},
		{"GET", r + "/privateLinkResources", wps, s.listPrivateLinks},
		{"GET", connection, wps, s.none(connectionType)},
		{"GET", connection + one, wps, noConnection},
		{"PUT", connection + one, wps, noConnection},
		{"DELETE", connection + one, wps, noConnection},
		{"GET", replica, wps, s.none(replicaType)},
		{"GET", replica + one, wps, noReplica},
		{"PUT", replica + one, wps, s.putReplica},
		{"PATCH", replica + one, wps, noReplica},
		{"DELETE", replica + one, wps, noReplica},
		{"POST", replica + one + "/restart", wps, noReplica},
		{"GET", replica + one + "/skus", wps, noReplica},
		{"GET", replica + one + "/sharedPrivateLinkResources", wps, noReplica},
		{"GET", replica + one + "/sharedPrivateLinkResources/{link}", wps, noLink},
		{"PUT", replica + one + "/sharedPrivateLinkResources/{link}", wps, noLink},
	}
}

// authorizationTable is the routes of Microsoft.Authorization at every scope.
func (s *server) authorizationTable(subscription, group string) []route {
	const resource = "/providers/{scopeNamespace}/{scopeType}/{scopeName}"
	var table []route
	for _, scope := range []string{"", subscription, group, group + resource, group + resource + "/{childType}/{childName}"} {
		assignments, definitions := scope+authorizationProvider+"/roleAssignments", scope+authorizationProvider+"/roleDefinitions"
		table = append(table,
			route{"GET", assignments, authorizationVersions, s.listAssignments},
			route{"GET", assignments + "/{assignment}", authorizationVersions, s.getAssignment},
			route{"PUT", assignments + "/{assignment}", authorizationVersions, s.putAssignment},
			route{"DELETE", assignments + "/{assignment}", authorizationVersions, s.deleteAssignment},
			route{"GET", definitions, authorizationVersions, s.listDefinitions},
			route{"GET", definitions + "/{definition}", authorizationVersions, s.getDefinition},
		)
	}
	return table
}

// vaultTable is the routes of Microsoft.KeyVault, and Tabard's own about the secrets that an instance's hubs refer to.
func (s *server) vaultTable(subscription, group, instance string) []route {
	const provider = "/providers/Microsoft.KeyVault"
	v := group + provider + "/vaults/{name}"
	kv, wps := vaultVersions, webPubSubVersions
	return []route{
		{"GET", provider + "/operations", kv, s.listVaultOperations},
		{"POST", subscription + provider + "/checkNameAvailability", kv, s.checkVaultName},
		{"GET", subscription + provider + "/vaults", kv, s.listVaults},
		{"GET", group + provider + "/vaults", kv, s.listVaults},
		{"GET", v, kv, s.getVault},
		{"PUT", v, kv, s.putVault},
		{"PATCH", v, kv, s.putVault},
		{"DELETE", v, kv, s.deleteVault},
		{"PUT", v + "/accessPolicies/{how}", kv, s.editPolicies},
		{"GET", v + "/secrets", kv, s.listVaultSecrets},
		{"GET", v + "/secrets/{secret}", kv, s.getVaultSecret},
		{"PUT", v + "/secrets/{secret}", kv, s.putVaultSecret},
		{"PATCH", v + "/secrets/{secret}", kv, s.putVaultSecret},
		{"GET", subscription + provider + "/deletedVaults", kv, s.listDeletedVaults},
		{"GET", subscription + provider + "/locations/{location}/deletedVaults/{name}", kv, s.getDeletedVault},
		{"POST", subscription + provider + "/locations/{location}/deletedVaults/{name}/purge", kv, s.purgeVault},

		{"GET", instance + "/secretReferences", wps, s.listReferences},
		{"POST", instance + "/refreshSecretReferences", wps, s.refreshReferences},
		{"POST", instance + "/explainSecretReference", wps, s.explainReference},
	}
}

// liveTable is the routes of the window on the present.
func (s *server) liveTable(instance string) []route {
	return []route{
		{"GET", instance + "/live", webPubSubVersions, s.getLive},
		{"GET", instance + "/hubs/{hub}/connections", webPubSubVersions, s.listConnections},
		{"POST", instance + "/hubs/{hub}/checkEventHandler", webPubSubVersions, s.checkHandler},
	}
}

// graphTable is the routes of the directory, whose objects are named by object id or by appId.
func (s *server) graphTable() []route {
	table := []route{
		{"GET", graph + "/applications", nil, s.listApplications},
		{"POST", graph + "/applications", nil, s.createApplication},
		{"GET", graph + "/servicePrincipals", nil, s.listPrincipals},
		{"POST", graph + "/servicePrincipals", nil, s.createPrincipal},
	}
	for _, name := range []string{"/{id}", "(appId='{appId}')"} {
		a, p := graph+"/applications"+name, graph+"/servicePrincipals"+name
		table = append(table, []route{
			{"GET", a, nil, s.getApplication},
			{"PATCH", a, nil, s.patchApplication},
			{"DELETE", a, nil, s.deleteApplication},
			{"POST", a + "/addPassword", nil, s.addPassword},
			{"POST", a + "/removePassword", nil, s.removePassword},
			{"POST", a + "/addKey", nil, s.addKey},
			{"POST", a + "/removeKey", nil, s.removeKey},
			{"GET", a + federated, nil, s.listFederated},
			{"POST", a + federated, nil, s.createFederated},

			{"GET", p, nil, s.getPrincipal},
			{"PATCH", p, nil, s.patchPrincipal},
			{"DELETE", p, nil, s.deletePrincipal},
		}...)
		for _, credential := range []string{"/{credential}", "(name='{credentialName}')"} {
			f := a + federated + credential
			table = append(table, route{"GET", f, nil, s.getFederated}, route{"PATCH", f, nil, s.patchFederated}, route{"DELETE", f, nil, s.deleteFederated})
		}
		for _, end := range []assignmentEnd{toPrincipal, ofResource} {
			list := p + "/" + string(end)
			table = append(table,
				route{"GET", list, nil, s.listAppRoleAssignments(end)},
				route{"POST", list, nil, s.assignAppRole(end)},
				route{"GET", list + "/{assignment}", nil, s.getAppRoleAssignment(end)},
				route{"DELETE", list + "/{assignment}", nil, s.deleteAppRoleAssignment(end)})
		}
	}
	return table
}
