package conformance_test

import (
	"context"
	"net/url"
	"strings"
	"testing"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore/runtime"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/to"
	"github.com/Azure/azure-sdk-for-go/sdk/resourcemanager/authorization/armauthorization/v2"
	"github.com/Azure/azure-sdk-for-go/sdk/resourcemanager/keyvault/armkeyvault"
	"github.com/Azure/azure-sdk-for-go/sdk/resourcemanager/msi/armmsi"
	"github.com/Azure/azure-sdk-for-go/sdk/resourcemanager/resources/armresources"
	"github.com/Azure/azure-sdk-for-go/sdk/resourcemanager/subscription/armsubscription"
)

func TestEveryMethodOfArmmsi(t *testing.T) {
	s := start(t)
	m := s.manager(t, "Contributor")
	f := must[*armmsi.ClientFactory](t)(armmsi.NewClientFactory(s.SubscriptionID, m.credential, m.options))
	ctx, identities, credentials := t.Context(), f.NewUserAssignedIdentitiesClient(), f.NewFederatedIdentityCredentialsClient()
	create := func() armmsi.Identity {
		return must[armmsi.UserAssignedIdentitiesClientCreateOrUpdateResponse](t)(identities.CreateOrUpdate(ctx, "default", "robot", armmsi.Identity{Location: to.Ptr("local")}, nil)).Identity
	}
	created, again := create(), create()
	if asJSON(created) != asJSON(again) || *created.Properties.PrincipalID == "" || *created.Properties.TenantID != s.TenantID {
		t.Errorf("created %s, then %s", asJSON(created), asJSON(again))
	}
	if updated := must[armmsi.UserAssignedIdentitiesClientUpdateResponse](t)(identities.Update(ctx, "default", "robot", armmsi.IdentityUpdate{Tags: map[string]*string{"a": to.Ptr("b")}}, nil)); *updated.Tags["a"] != "b" {
		t.Errorf("updated %s", asJSON(updated))
	}
	must[armmsi.UserAssignedIdentitiesClientGetResponse](t)(identities.Get(ctx, "default", "robot", nil))
	if n := len(all(t, identities.NewListByResourceGroupPager("default", nil), func(p armmsi.UserAssignedIdentitiesClientListByResourceGroupResponse) []*armmsi.Identity {
		return p.Value
	})); n != 1 {
		t.Errorf("%d in the group", n)
	}
	if n := len(all(t, identities.NewListBySubscriptionPager(nil), func(p armmsi.UserAssignedIdentitiesClientListBySubscriptionResponse) []*armmsi.Identity {
		return p.Value
	})); n != 1 {
		t.Errorf("%d in the subscription", n)
	}
	trust := armmsi.FederatedIdentityCredential{Properties: &armmsi.FederatedIdentityCredentialProperties{
		Issuer: to.Ptr("https://token.actions.githubusercontent.com"), Subject: to.Ptr("repo:a/b:ref:refs/heads/main"), Audiences: []*string{to.Ptr("api://AzureADTokenExchange")},
	}}
	for range 2 {
		must[armmsi.FederatedIdentityCredentialsClientCreateOrUpdateResponse](t)(credentials.CreateOrUpdate(ctx, "default", "robot", "github", trust, nil))
	}
	must[armmsi.FederatedIdentityCredentialsClientGetResponse](t)(credentials.Get(ctx, "default", "robot", "github", nil))
	if n := len(all(t, credentials.NewListPager("default", "robot", nil), func(p armmsi.FederatedIdentityCredentialsClientListResponse) []*armmsi.FederatedIdentityCredential {
		return p.Value
	})); n != 1 {
		t.Errorf("%d federated credentials", n)
	}
	for range 2 {
		must[armmsi.FederatedIdentityCredentialsClientDeleteResponse](t)(credentials.Delete(ctx, "default", "robot", "github", nil))
		must[armmsi.UserAssignedIdentitiesClientDeleteResponse](t)(identities.Delete(ctx, "default", "robot", nil))
	}
	_, err := identities.Get(ctx, "default", "robot", nil)
	refused(t, err, 404, "ResourceNotFound")
	if n := len(all(t, f.NewOperationsClient().NewListPager(nil), func(p armmsi.OperationsClientListResponse) []*armmsi.Operation { return p.Value })); n == 0 {
		t.Error("no operations")
	}
}

func TestEveryMethodOfArmkeyvaultsVaults(t *testing.T) {
	s := start(t)
	m := s.manager(t, "Contributor")
	client := must[*armkeyvault.VaultsClient](t)(armkeyvault.NewVaultsClient(s.SubscriptionID, m.credential, m.options))
	ctx := t.Context()
	check := armkeyvault.VaultCheckNameAvailabilityParameters{Name: to.Ptr("myvault"), Type: to.Ptr("Microsoft.KeyVault/vaults")}
	if free := must[armkeyvault.VaultsClientCheckNameAvailabilityResponse](t)(client.CheckNameAvailability(ctx, check, nil)); !*free.NameAvailable {
		t.Errorf("%s", asJSON(free))
	}
	vault := done(t, func(ctx context.Context) (*runtime.Poller[armkeyvault.VaultsClientCreateOrUpdateResponse], error) {
		return client.BeginCreateOrUpdate(ctx, "default", "myvault", armkeyvault.VaultCreateOrUpdateParameters{Location: to.Ptr("local"), Properties: &armkeyvault.VaultProperties{
			TenantID: to.Ptr(s.TenantID), SKU: &armkeyvault.SKU{Family: to.Ptr(armkeyvault.SKUFamilyA), Name: to.Ptr(armkeyvault.SKUNameStandard)}, AccessPolicies: []*armkeyvault.AccessPolicyEntry{},
		}}, nil)
	})
	if !strings.HasPrefix(*vault.Properties.VaultURI, "https://myvault.") {
		t.Errorf("%s", asJSON(vault))
	}
	must[armkeyvault.VaultsClientGetResponse](t)(client.Get(ctx, "default", "myvault", nil))
	if updated := must[armkeyvault.VaultsClientUpdateResponse](t)(client.Update(ctx, "default", "myvault", armkeyvault.VaultPatchParameters{Properties: &armkeyvault.VaultPatchProperties{EnableRbacAuthorization: to.Ptr(true)}}, nil)); !*updated.Properties.EnableRbacAuthorization {
		t.Errorf("updated %s", asJSON(updated))
	}
	for _, kind := range armkeyvault.PossibleAccessPolicyUpdateKindValues() {
		must[armkeyvault.VaultsClientUpdateAccessPolicyResponse](t)(client.UpdateAccessPolicy(ctx, "default", "myvault", kind, armkeyvault.VaultAccessPolicyParameters{
			Properties: &armkeyvault.VaultAccessPolicyProperties{AccessPolicies: []*armkeyvault.AccessPolicyEntry{{
				TenantID: to.Ptr(s.TenantID), ObjectID: to.Ptr(m.objectID), Permissions: &armkeyvault.Permissions{Secrets: []*armkeyvault.SecretPermissions{to.Ptr(armkeyvault.SecretPermissionsGet)}},
			}}},
		}, nil))
	}
	const vaults = 2 // with the default one
	if n := len(all(t, client.NewListByResourceGroupPager("default", nil), func(p armkeyvault.VaultsClientListByResourceGroupResponse) []*armkeyvault.Vault { return p.Value })); n != vaults {
		t.Errorf("%d in the group", n)
	}
	if n := len(all(t, client.NewListBySubscriptionPager(nil), func(p armkeyvault.VaultsClientListBySubscriptionResponse) []*armkeyvault.Vault { return p.Value })); n != vaults {
		t.Errorf("%d in the subscription", n)
	}
	if n := len(all(t, client.NewListPager(nil), func(p armkeyvault.VaultsClientListResponse) []*armkeyvault.Resource { return p.Value })); n != vaults {
		t.Errorf("%d among the resources", n)
	}
	for range 2 {
		must[armkeyvault.VaultsClientDeleteResponse](t)(client.Delete(ctx, "default", "myvault", nil))
	}
	must[armkeyvault.VaultsClientGetDeletedResponse](t)(client.GetDeleted(ctx, "myvault", "local", nil))
	if n := len(all(t, client.NewListDeletedPager(nil), func(p armkeyvault.VaultsClientListDeletedResponse) []*armkeyvault.DeletedVault { return p.Value })); n != 1 {
		t.Errorf("%d deleted", n)
	}
	done(t, func(ctx context.Context) (*runtime.Poller[armkeyvault.VaultsClientPurgeDeletedResponse], error) {
		return client.BeginPurgeDeleted(ctx, "myvault", "local", nil)
	})
}

func TestRolesWithArmauthorization(t *testing.T) {
	s := start(t)
	m := s.manager(t, "Owner")
	f := must[*armauthorization.ClientFactory](t)(armauthorization.NewClientFactory(s.SubscriptionID, m.credential, m.options))
	ctx, assignments, definitions := t.Context(), f.NewRoleAssignmentsClient(), f.NewRoleDefinitionsClient()
	scope := "/subscriptions/" + s.SubscriptionID + "/resourceGroups/default/providers/Microsoft.SignalRService/WebPubSub/default"

	found := all(t, definitions.NewListPager(scope, &armauthorization.RoleDefinitionsClientListOptions{Filter: to.Ptr("roleName eq 'Web PubSub Service Owner'")}), func(p armauthorization.RoleDefinitionsClientListResponse) []*armauthorization.RoleDefinition {
		return p.Value
	})
	if len(found) != 1 || *found[0].Name != "12cf5a90-567b-43ae-8102-96cf46c7d9b4" {
		t.Fatalf("definitions %s", asJSON(found))
	}
	must[armauthorization.RoleDefinitionsClientGetResponse](t)(definitions.Get(ctx, scope, *found[0].Name, nil))
	must[armauthorization.RoleDefinitionsClientGetByIDResponse](t)(definitions.GetByID(ctx, *found[0].ID, nil))

	const id = "11111111-2222-4333-8444-555555555555"
	body := armauthorization.RoleAssignmentCreateParameters{Properties: &armauthorization.RoleAssignmentProperties{RoleDefinitionID: found[0].ID, PrincipalID: to.Ptr(m.objectID), PrincipalType: to.Ptr(armauthorization.PrincipalTypeServicePrincipal)}}
	created := must[armauthorization.RoleAssignmentsClientCreateResponse](t)(assignments.Create(ctx, scope, id, body, nil))
	if *created.Properties.Scope != scope || *created.Properties.PrincipalID != m.objectID || *created.Properties.CreatedBy != m.objectID {
		t.Errorf("created %s", asJSON(created))
	}
	must[armauthorization.RoleAssignmentsClientCreateByIDResponse](t)(assignments.CreateByID(ctx, *created.ID, body, nil))
	_, err := assignments.Create(ctx, scope, "11111111-2222-4333-8444-666666666666", body, nil)
	refused(t, err, 409, "RoleAssignmentExists")
	must[armauthorization.RoleAssignmentsClientGetResponse](t)(assignments.Get(ctx, scope, id, nil))
	must[armauthorization.RoleAssignmentsClientGetByIDResponse](t)(assignments.GetByID(ctx, *created.ID, nil))
	mine := url.QueryEscape("principalId eq '" + m.objectID + "'") // the client sends it as it is
	for name, n := range map[string]int{
		"scope": len(all(t, assignments.NewListForScopePager(scope, &armauthorization.RoleAssignmentsClientListForScopeOptions{Filter: to.Ptr("atScope()")}), func(p armauthorization.RoleAssignmentsClientListForScopeResponse) []*armauthorization.RoleAssignment {
			return p.Value
		})),
		"resource": len(all(t, assignments.NewListForResourcePager("default", "Microsoft.SignalRService", "WebPubSub", "default", nil), func(p armauthorization.RoleAssignmentsClientListForResourceResponse) []*armauthorization.RoleAssignment {
			return p.Value
		})),
		"group": len(all(t, assignments.NewListForResourceGroupPager("default", &armauthorization.RoleAssignmentsClientListForResourceGroupOptions{Filter: &mine}), func(p armauthorization.RoleAssignmentsClientListForResourceGroupResponse) []*armauthorization.RoleAssignment {
			return p.Value
		})),
		"all": len(all(t, assignments.NewListForSubscriptionPager(&armauthorization.RoleAssignmentsClientListForSubscriptionOptions{Filter: &mine}), func(p armauthorization.RoleAssignmentsClientListForSubscriptionResponse) []*armauthorization.RoleAssignment {
			return p.Value
		})),
	} {
		if n != 2 { // with the manager's own
			t.Errorf("%d assignments for %s", n, name)
		}
	}
	must[armauthorization.RoleAssignmentsClientDeleteResponse](t)(assignments.Delete(ctx, scope, id, nil))
	must[armauthorization.RoleAssignmentsClientDeleteByIDResponse](t)(assignments.DeleteByID(ctx, *created.ID, nil))
	_, err = assignments.Get(ctx, scope, id, nil)
	refused(t, err, 404, "RoleAssignmentNotFound")
}

// TestWhatIsAroundResources is what tools ask before they manage anything.
func TestWhatIsAroundResources(t *testing.T) {
	s := start(t)
	m := s.manager(t, "Contributor")
	ctx := t.Context()
	f := must[*armresources.ClientFactory](t)(armresources.NewClientFactory(s.SubscriptionID, m.credential, m.options))
	groups, resources, providers := f.NewResourceGroupsClient(), f.NewClient(), f.NewProvidersClient()
	must[armresources.ResourceGroupsClientCreateOrUpdateResponse](t)(groups.CreateOrUpdate(ctx, "mine", armresources.ResourceGroup{Location: to.Ptr("local")}, nil))
	must[armresources.ResourceGroupsClientUpdateResponse](t)(groups.Update(ctx, "mine", armresources.ResourceGroupPatchable{Tags: map[string]*string{"a": to.Ptr("b")}}, nil))
	if got := must[armresources.ResourceGroupsClientGetResponse](t)(groups.Get(ctx, "mine", nil)); *got.Tags["a"] != "b" {
		t.Errorf("%s", asJSON(got))
	}
	if n := len(all(t, groups.NewListPager(nil), func(p armresources.ResourceGroupsClientListResponse) []*armresources.ResourceGroup { return p.Value })); n != 2 {
		t.Errorf("%d groups", n)
	}
	id := "/subscriptions/" + s.SubscriptionID + "/resourceGroups/mine/providers/Microsoft.SignalRService/webPubSub/generic"
	done(t, func(ctx context.Context) (*runtime.Poller[armresources.ClientCreateOrUpdateByIDResponse], error) {
		return resources.BeginCreateOrUpdateByID(ctx, id, "2024-03-01", armresources.GenericResource{Location: to.Ptr("local")}, nil)
	})
	must[armresources.ClientGetByIDResponse](t)(resources.GetByID(ctx, id, "2024-03-01", nil))
	if n := len(all(t, resources.NewListByResourceGroupPager("mine", nil), func(p armresources.ClientListByResourceGroupResponse) []*armresources.GenericResourceExpanded {
		return p.Value
	})); n != 1 {
		t.Errorf("%d resources", n)
	}
	if n := len(all(t, resources.NewListPager(&armresources.ClientListOptions{Filter: to.Ptr("resourceType eq 'Microsoft.SignalRService/webPubSub'")}), func(p armresources.ClientListResponse) []*armresources.GenericResourceExpanded { return p.Value })); n != 2 {
		t.Errorf("%d instances", n)
	}
	done(t, func(ctx context.Context) (*runtime.Poller[armresources.ClientDeleteByIDResponse], error) {
		return resources.BeginDeleteByID(ctx, id, "2024-03-01", nil)
	})
	for _, namespace := range []string{"Microsoft.SignalRService", "Microsoft.ManagedIdentity", "Microsoft.KeyVault", "Microsoft.Authorization", "Microsoft.Resources"} {
		if p := must[armresources.ProvidersClientRegisterResponse](t)(providers.Register(ctx, namespace, nil)); *p.RegistrationState != "Registered" {
			t.Errorf("%s", asJSON(p))
		}
		must[armresources.ProvidersClientGetResponse](t)(providers.Get(ctx, namespace, nil))
	}
	all(t, providers.NewListPager(nil), func(p armresources.ProvidersClientListResponse) []*armresources.Provider { return p.Value })

	subscriptions := must[*armsubscription.SubscriptionsClient](t)(armsubscription.NewSubscriptionsClient(m.credential, m.options))
	if list := all(t, subscriptions.NewListPager(nil), func(p armsubscription.SubscriptionsClientListResponse) []*armsubscription.Subscription {
		return p.Value
	}); len(list) != 1 || *list[0].SubscriptionID != s.SubscriptionID {
		t.Errorf("subscriptions %s", asJSON(list))
	}
	must[armsubscription.SubscriptionsClientGetResponse](t)(subscriptions.Get(ctx, s.SubscriptionID, nil))
	if n := len(all(t, subscriptions.NewListLocationsPager(s.SubscriptionID, nil), func(p armsubscription.SubscriptionsClientListLocationsResponse) []*armsubscription.Location {
		return p.Value
	})); n == 0 {
		t.Error("no locations")
	}
	tenants := must[*armsubscription.TenantsClient](t)(armsubscription.NewTenantsClient(m.credential, m.options))
	if list := all(t, tenants.NewListPager(nil), func(p armsubscription.TenantsClientListResponse) []*armsubscription.TenantIDDescription {
		return p.Value
	}); len(list) != 1 || *list[0].TenantID != s.TenantID {
		t.Errorf("tenants %s", asJSON(list))
	}
}
