package conformance_test

import (
	"context"
	"strings"
	"testing"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore/runtime"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/to"
	"github.com/Azure/azure-sdk-for-go/sdk/resourcemanager/webpubsub/armwebpubsub"
)

// TestEveryMethodOfArmwebpubsub calls each public method of each client of the module, pollers to their end.
func TestEveryMethodOfArmwebpubsub(t *testing.T) {
	s := start(t)
	m := s.manager(t, "Contributor")
	f := must[*armwebpubsub.ClientFactory](t)(armwebpubsub.NewClientFactory(s.SubscriptionID, m.credential, m.options))
	ctx := t.Context()
	const group, name = "shop", "wps"

	client := f.NewClient()
	check := armwebpubsub.NameAvailabilityParameters{Name: to.Ptr(name), Type: to.Ptr("Microsoft.SignalRService/WebPubSub")}
	if got := must[armwebpubsub.ClientCheckNameAvailabilityResponse](t)(client.CheckNameAvailability(ctx, "local", check, nil)); !*got.NameAvailable {
		t.Errorf("%s", asJSON(got))
	}
	_, err := client.Get(ctx, group, name, nil)
	refused(t, err, 404, "ResourceGroupNotFound")
	created := done(t, func(ctx context.Context) (*runtime.Poller[armwebpubsub.ClientCreateOrUpdateResponse], error) {
		return client.BeginCreateOrUpdate(ctx, group, name, armwebpubsub.ResourceInfo{
			Location: to.Ptr("local"), SKU: &armwebpubsub.ResourceSKU{Name: to.Ptr("Standard_S1"), Capacity: to.Ptr[int32](2)},
			Identity: &armwebpubsub.ManagedIdentity{Type: to.Ptr(armwebpubsub.ManagedIdentityTypeSystemAssigned)},
			Properties: &armwebpubsub.Properties{LiveTraceConfiguration: &armwebpubsub.LiveTraceConfiguration{Enabled: to.Ptr("true"), Categories: []*armwebpubsub.LiveTraceCategory{
				{Name: to.Ptr("ConnectivityLogs"), Enabled: to.Ptr("true")},
			}}},
		}, nil)
	})
	if *created.SKU.Capacity != 2 || *created.Properties.ProvisioningState != armwebpubsub.ProvisioningStateSucceeded || *created.Identity.PrincipalID == "" || *created.Properties.DisableLocalAuth {
		t.Errorf("created %s", asJSON(created))
	}
	got := must[armwebpubsub.ClientGetResponse](t)(client.Get(ctx, group, name, nil))
	if asJSON(got.ResourceInfo) != asJSON(created.ResourceInfo) {
		t.Errorf("GET shows %s, PUT %s", asJSON(got), asJSON(created))
	}
	if taken := must[armwebpubsub.ClientCheckNameAvailabilityResponse](t)(client.CheckNameAvailability(ctx, "local", check, nil)); *taken.NameAvailable || *taken.Reason != "AlreadyExists" {
		t.Errorf("%s", asJSON(taken))
	}
	updated := done(t, func(ctx context.Context) (*runtime.Poller[armwebpubsub.ClientUpdateResponse], error) {
		return client.BeginUpdate(ctx, group, name, armwebpubsub.ResourceInfo{Tags: map[string]*string{"team": to.Ptr("a")}}, nil)
	})
	if *updated.Tags["team"] != "a" || *updated.SKU.Capacity != 2 || *updated.Identity.PrincipalID != *created.Identity.PrincipalID {
		t.Errorf("updated %s", asJSON(updated))
	}
	keys := must[armwebpubsub.ClientListKeysResponse](t)(client.ListKeys(ctx, group, name, nil))
	if !strings.HasSuffix(*keys.PrimaryConnectionString, ";AccessKey="+*keys.PrimaryKey+";Version=1.0;") {
		t.Errorf("connection string without its key")
	}
	renewed := done(t, func(ctx context.Context) (*runtime.Poller[armwebpubsub.ClientRegenerateKeyResponse], error) {
		return client.BeginRegenerateKey(ctx, group, name, armwebpubsub.RegenerateKeyParameters{KeyType: to.Ptr(armwebpubsub.KeyTypePrimary)}, nil)
	})
	if *renewed.PrimaryKey == *keys.PrimaryKey || *renewed.SecondaryKey != *keys.SecondaryKey {
		t.Error("not just the primary key was replaced")
	}
	done(t, func(ctx context.Context) (*runtime.Poller[armwebpubsub.ClientRestartResponse], error) {
		return client.BeginRestart(ctx, group, name, nil)
	})
	if n := len(must[armwebpubsub.ClientListSKUsResponse](t)(client.ListSKUs(ctx, group, name, nil)).Value); n != 4 {
		t.Errorf("%d SKUs", n)
	}
	if list := all(t, client.NewListByResourceGroupPager(group, nil), func(p armwebpubsub.ClientListByResourceGroupResponse) []*armwebpubsub.ResourceInfo { return p.Value }); len(list) != 1 {
		t.Errorf("%d in the group", len(list))
	}
	if list := all(t, client.NewListBySubscriptionPager(nil), func(p armwebpubsub.ClientListBySubscriptionResponse) []*armwebpubsub.ResourceInfo { return p.Value }); len(list) != 2 {
		t.Errorf("%d in the subscription", len(list))
	}
	if list := all(t, f.NewOperationsClient().NewListPager(nil), func(p armwebpubsub.OperationsClientListResponse) []*armwebpubsub.Operation { return p.Value }); len(list) == 0 || !strings.HasPrefix(*list[0].Name, "Microsoft.SignalRService/") {
		t.Errorf("operations: %s", asJSON(list))
	}
	if list := all(t, f.NewUsagesClient().NewListPager("local", nil), func(p armwebpubsub.UsagesClientListResponse) []*armwebpubsub.SignalRServiceUsage { return p.Value }); len(list) != 1 || *list[0].Limit != -1 {
		t.Errorf("usages: %s", asJSON(list))
	}

	hubs(t, f, group, name)
	below(t, f, group, name, *got.ID)
	replicas(t, f, group, name)

	done(t, func(ctx context.Context) (*runtime.Poller[armwebpubsub.ClientDeleteResponse], error) {
		return client.BeginDelete(ctx, group, name, nil)
	})
	_, err = client.Get(ctx, group, name, nil)
	refused(t, err, 404, "ResourceNotFound")
	done(t, func(ctx context.Context) (*runtime.Poller[armwebpubsub.ClientDeleteResponse], error) {
		return client.BeginDelete(ctx, group, name, nil) // 204
	})
}

func hubs(t *testing.T, f *armwebpubsub.ClientFactory, group, name string) {
	t.Helper()
	client := f.NewHubsClient()
	hub := armwebpubsub.Hub{Properties: &armwebpubsub.HubProperties{
		AnonymousConnectPolicy: to.Ptr("Allow"), WebSocketKeepAliveIntervalInSeconds: to.Ptr[int32](30),
		EventHandlers: []*armwebpubsub.EventHandler{
			{URLTemplate: to.Ptr("http://127.0.0.1:9/{hub}/{event}"), UserEventPattern: to.Ptr("a, b"), SystemEvents: []*string{to.Ptr("connect")}, Auth: &armwebpubsub.UpstreamAuthSettings{
				Type: to.Ptr(armwebpubsub.UpstreamAuthTypeManagedIdentity), ManagedIdentity: &armwebpubsub.ManagedIdentitySettings{Resource: to.Ptr("uri://myUri")},
			}},
			{URLTemplate: to.Ptr("http://127.0.0.1:9/"), UserEventPattern: to.Ptr("*")},
		},
		EventListeners: []*armwebpubsub.EventListener{{
			Filter:   &armwebpubsub.EventNameFilter{Type: to.Ptr(armwebpubsub.EventListenerFilterDiscriminatorEventName), SystemEvents: []*string{to.Ptr("connected")}, UserEventPattern: to.Ptr("*")},
			Endpoint: &armwebpubsub.EventHubEndpoint{Type: to.Ptr(armwebpubsub.EventListenerEndpointDiscriminatorEventHub), FullyQualifiedNamespace: to.Ptr("n.servicebus.windows.net"), EventHubName: to.Ptr("e")},
		}},
	}}
	put := func() armwebpubsub.HubsClientCreateOrUpdateResponse {
		return done(t, func(ctx context.Context) (*runtime.Poller[armwebpubsub.HubsClientCreateOrUpdateResponse], error) {
			return client.BeginCreateOrUpdate(ctx, "chat", group, name, hub, nil)
		})
	}
	created := put()
	if asJSON(created.Properties) != asJSON(hub.Properties) {
		// the second handler gets the empty list of system events that every handler shows
		hub.Properties.EventHandlers[1].SystemEvents = []*string{}
		if asJSON(created.Properties) != asJSON(hub.Properties) {
			t.Errorf("sent %s, got %s", asJSON(hub.Properties), asJSON(created.Properties))
		}
	}
	put()
	if got := must[armwebpubsub.HubsClientGetResponse](t)(client.Get(t.Context(), "CHAT", group, name, nil)); asJSON(got.Hub) != asJSON(created.Hub) {
		t.Errorf("GET shows %s", asJSON(got))
	}
	if list := all(t, client.NewListPager(group, name, nil), func(p armwebpubsub.HubsClientListResponse) []*armwebpubsub.Hub { return p.Value }); len(list) != 1 {
		t.Errorf("%d hubs", len(list))
	}
	for range 2 {
		done(t, func(ctx context.Context) (*runtime.Poller[armwebpubsub.HubsClientDeleteResponse], error) {
			return client.BeginDelete(ctx, "chat", group, name, nil)
		})
	}
	_, err := client.Get(t.Context(), "chat", group, name, nil)
	refused(t, err, 404, "ResourceNotFound")
}

// below is what else lies below an instance. The certificate cannot be read, for its vault has no secret of that name:
// the poller says so.
func below(t *testing.T, f *armwebpubsub.ClientFactory, group, name, id string) {
	t.Helper()
	ctx := t.Context()
	certificates, domains, links := f.NewCustomCertificatesClient(), f.NewCustomDomainsClient(), f.NewSharedPrivateLinkResourcesClient()
	poller := must[*runtime.Poller[armwebpubsub.CustomCertificatesClientCreateOrUpdateResponse]](t)(certificates.BeginCreateOrUpdate(ctx, group, name, "cert", armwebpubsub.CustomCertificate{
		Properties: &armwebpubsub.CustomCertificateProperties{KeyVaultBaseURI: to.Ptr("https://nowhere.vault.localhost"), KeyVaultSecretName: to.Ptr("cert")},
	}, nil))
	if _, err := poller.PollUntilDone(ctx, nil); err == nil || !strings.Contains(err.Error(), "CustomCertificateInvalid") {
		t.Errorf("a certificate that cannot be read: %v", err)
	}
	got := must[armwebpubsub.CustomCertificatesClientGetResponse](t)(certificates.Get(ctx, group, name, "cert", nil))
	if *got.Properties.ProvisioningState != armwebpubsub.ProvisioningStateFailed {
		t.Errorf("%s", asJSON(got))
	}
	if list := all(t, certificates.NewListPager(group, name, nil), func(p armwebpubsub.CustomCertificatesClientListResponse) []*armwebpubsub.CustomCertificate {
		return p.Value
	}); len(list) != 1 {
		t.Errorf("%d certificates", len(list))
	}
	for range 2 { // 201 both times
		poller := must[*runtime.Poller[armwebpubsub.CustomDomainsClientCreateOrUpdateResponse]](t)(domains.BeginCreateOrUpdate(ctx, group, name, "domain", armwebpubsub.CustomDomain{
			Properties: &armwebpubsub.CustomDomainProperties{DomainName: to.Ptr("wps.example.com"), CustomCertificate: &armwebpubsub.ResourceReference{ID: to.Ptr(id + "/customCertificates/cert")}},
		}, nil))
		if _, err := poller.PollUntilDone(ctx, nil); err == nil || !strings.Contains(err.Error(), "CustomCertificateInvalid") {
			t.Errorf("a domain whose certificate cannot be read: %v", err)
		}
	}
	if domain := must[armwebpubsub.CustomDomainsClientGetResponse](t)(domains.Get(ctx, group, name, "domain", nil)); *domain.Properties.DomainName != "wps.example.com" {
		t.Errorf("%s", asJSON(domain))
	}
	if list := all(t, domains.NewListPager(group, name, nil), func(p armwebpubsub.CustomDomainsClientListResponse) []*armwebpubsub.CustomDomain { return p.Value }); len(list) != 1 {
		t.Errorf("%d domains", len(list))
	}
	_, err := certificates.Delete(ctx, group, name, "cert", nil)
	refused(t, err, 409, "ResourceInUse")
	for range 2 {
		done(t, func(ctx context.Context) (*runtime.Poller[armwebpubsub.CustomDomainsClientDeleteResponse], error) {
			return domains.BeginDelete(ctx, group, name, "domain", nil)
		})
		must[armwebpubsub.CustomCertificatesClientDeleteResponse](t)(certificates.Delete(ctx, group, name, "cert", nil))
	}

	link := done(t, func(ctx context.Context) (*runtime.Poller[armwebpubsub.SharedPrivateLinkResourcesClientCreateOrUpdateResponse], error) {
		return links.BeginCreateOrUpdate(ctx, "link", group, name, armwebpubsub.SharedPrivateLinkResource{Properties: &armwebpubsub.SharedPrivateLinkResourceProperties{
			GroupID: to.Ptr("sites"), PrivateLinkResourceID: to.Ptr(id), RequestMessage: to.Ptr("please"),
		}}, nil)
	})
	if *link.Properties.Status != armwebpubsub.SharedPrivateLinkResourceStatusApproved {
		t.Errorf("%s", asJSON(link))
	}
	must[armwebpubsub.SharedPrivateLinkResourcesClientGetResponse](t)(links.Get(ctx, "link", group, name, nil))
	if list := all(t, links.NewListPager(group, name, nil), func(p armwebpubsub.SharedPrivateLinkResourcesClientListResponse) []*armwebpubsub.SharedPrivateLinkResource {
		return p.Value
	}); len(list) != 1 {
		t.Errorf("%d links", len(list))
	}
	done(t, func(ctx context.Context) (*runtime.Poller[armwebpubsub.SharedPrivateLinkResourcesClientDeleteResponse], error) {
		return links.BeginDelete(ctx, "link", group, name, nil)
	})

	connections := f.NewPrivateEndpointConnectionsClient()
	if list := all(t, connections.NewListPager(group, name, nil), func(p armwebpubsub.PrivateEndpointConnectionsClientListResponse) []*armwebpubsub.PrivateEndpointConnection {
		return p.Value
	}); len(list) != 0 {
		t.Errorf("%d private endpoint connections", len(list))
	}
	_, err = connections.Get(ctx, "any", group, name, nil)
	refused(t, err, 404, "ResourceNotFound")
	_, err = connections.Update(ctx, "any", group, name, armwebpubsub.PrivateEndpointConnection{}, nil)
	refused(t, err, 404, "ResourceNotFound")
	done(t, func(ctx context.Context) (*runtime.Poller[armwebpubsub.PrivateEndpointConnectionsClientDeleteResponse], error) {
		return connections.BeginDelete(ctx, "any", group, name, nil)
	})
	if list := all(t, f.NewPrivateLinkResourcesClient().NewListPager(group, name, nil), func(p armwebpubsub.PrivateLinkResourcesClientListResponse) []*armwebpubsub.PrivateLinkResource {
		return p.Value
	}); len(list) != 1 || *list[0].Properties.GroupID != "webpubsub" {
		t.Errorf("private link resources: %s", asJSON(list))
	}
}

// replicas are refused by name, and there are none.
func replicas(t *testing.T, f *armwebpubsub.ClientFactory, group, name string) {
	t.Helper()
	ctx := t.Context()
	client, shared := f.NewReplicasClient(), f.NewReplicaSharedPrivateLinkResourcesClient()
	_, err := client.BeginCreateOrUpdate(ctx, group, name, "replica", armwebpubsub.Replica{Location: to.Ptr("elsewhere")}, nil)
	refused(t, err, 400, "FeatureNotSupported")
	if list := all(t, client.NewListPager(group, name, nil), func(p armwebpubsub.ReplicasClientListResponse) []*armwebpubsub.Replica { return p.Value }); len(list) != 0 {
		t.Errorf("%d replicas", len(list))
	}
	_, err = client.Get(ctx, group, name, "replica", nil)
	refused(t, err, 404, "ResourceNotFound")
	_, err = client.BeginUpdate(ctx, group, name, "replica", armwebpubsub.Replica{}, nil)
	refused(t, err, 404, "ResourceNotFound")
	_, err = client.BeginRestart(ctx, group, name, "replica", nil)
	refused(t, err, 404, "ResourceNotFound")
	_, err = f.NewClient().ListReplicaSKUs(ctx, group, name, "replica", nil)
	refused(t, err, 404, "ResourceNotFound")
	_, err = shared.Get(ctx, group, name, "replica", "link", nil)
	refused(t, err, 404, "ResourceNotFound")
	_, err = shared.BeginCreateOrUpdate(ctx, group, name, "replica", "link", armwebpubsub.SharedPrivateLinkResource{}, nil)
	refused(t, err, 404, "ResourceNotFound")
	_, err = shared.NewListPager(group, name, "replica", nil).NextPage(ctx)
	refused(t, err, 404, "ResourceNotFound")
	must[armwebpubsub.ReplicasClientDeleteResponse](t)(client.Delete(ctx, group, name, "replica", nil))
}
