package conformance_test

import (
	"context"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/runtime"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/to"
	"github.com/Azure/azure-sdk-for-go/sdk/resourcemanager/keyvault/armkeyvault"
	"github.com/Azure/azure-sdk-for-go/sdk/resourcemanager/msi/armmsi"
	"github.com/Azure/azure-sdk-for-go/sdk/resourcemanager/resources/armresources"
	"github.com/Azure/azure-sdk-for-go/sdk/resourcemanager/webpubsub/armwebpubsub"
	"github.com/Azure/azure-sdk-for-go/sdk/security/keyvault/azsecrets"
	"github.com/coder/websocket"
	"github.com/coreos/go-oidc/v3/oidc"
)

// A receiver is an event handler that accepts nothing but tokens of the service's identity, and keeps what it accepted:
// who called, and with which code in the URL.
type receiver struct {
	*httptest.Server
	mu   sync.Mutex // guards seen
	seen []call
}

type call struct{ subject, code string }

func newReceiver(t *testing.T, s *service, audience string) *receiver {
	t.Helper()
	ctx := oidc.ClientContext(context.Background(), s.client)
	provider, err := oidc.NewProvider(ctx, s.Issuer)
	if err != nil {
		t.Fatal(err)
	}
	verifier := provider.VerifierContext(ctx, &oidc.Config{ClientID: audience})
	h := &receiver{}
	h.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		token, err := verifier.Verify(r.Context(), strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer "))
		if err != nil {
			http.Error(w, err.Error(), http.StatusUnauthorized)
			return
		}
		w.Header().Set("WebHook-Allowed-Origin", "*")
		if r.Method != http.MethodPost {
			return
		}
		h.mu.Lock()
		h.seen = append(h.seen, call{subject: token.Subject, code: r.URL.Query().Get("code")})
		h.mu.Unlock()
		w.Header().Set("Content-Type", "text/plain")
		_, _ = w.Write([]byte("verified"))
	}))
	t.Cleanup(h.Close)
	return h
}

func (h *receiver) last(t *testing.T) call {
	t.Helper()
	h.mu.Lock()
	defer h.mu.Unlock()
	if len(h.seen) == 0 {
		t.Fatal("no event arrived")
	}
	return h.seen[len(h.seen)-1]
}

// send opens a connection to a hub of an instance, anonymously, and returns the handler's answer to one event.
func send(ctx context.Context, t *testing.T, endpoint string) (*websocket.Conn, string) {
	t.Helper()
	conn, _, err := websocket.Dial(ctx, "ws"+strings.TrimPrefix(endpoint, "http")+"/client/hubs/chat", nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.CloseNow() })
	if err := conn.Write(ctx, websocket.MessageText, []byte("hello")); err != nil {
		t.Fatal(err)
	}
	_, answer, err := conn.Read(ctx)
	if err != nil {
		t.Fatal(err)
	}
	return conn, string(answer)
}

// TestTheSeedTextsJourneyWithTheOfficialClients does what Microsoft's page about managed identities does in the portal
// with Microsoft's management clients: create an instance, switch its system-assigned identity on, set an event
// handler's authentication, grant the identity a vault permission, refer to a secret in the handler's URL; then change
// to a user-assigned identity. Each time a real event reaches a handler that accepts verified tokens only.
func TestTheSeedTextsJourneyWithTheOfficialClients(t *testing.T) {
	s := start(t, "--instance-listen", "shop=127.0.0.1:0", "--vault-listen", "shopvault=127.0.0.1:0")
	m := s.manager(t, "Contributor")
	ctx, cancel := context.WithTimeout(context.Background(), 90*time.Second)
	defer cancel()
	const group, name, audience = "shop-rg", "shop", "api://orders"

	// Resource group, instance with its system-assigned identity.
	groups := must[*armresources.ResourceGroupsClient](t)(armresources.NewResourceGroupsClient(s.SubscriptionID, m.credential, m.options))
	if exists, err := groups.CheckExistence(ctx, group, nil); err != nil || exists.Success {
		t.Fatalf("the group exists before: %v, %v", exists, err)
	}
	must[armresources.ResourceGroupsClientCreateOrUpdateResponse](t)(groups.CreateOrUpdate(ctx, group, armresources.ResourceGroup{Location: to.Ptr("westeurope"), Tags: map[string]*string{"a": to.Ptr("b")}}, nil))
	wps := must[*armwebpubsub.ClientFactory](t)(armwebpubsub.NewClientFactory(s.SubscriptionID, m.credential, m.options))
	instances := wps.NewClient()
	none := done(t, func(ctx context.Context) (*runtime.Poller[armwebpubsub.ClientCreateOrUpdateResponse], error) {
		return instances.BeginCreateOrUpdate(ctx, group, name, armwebpubsub.ResourceInfo{Location: to.Ptr("West Europe"), SKU: &armwebpubsub.ResourceSKU{Name: to.Ptr("Free_F1")}}, nil)
	})
	if *none.Identity.Type != armwebpubsub.ManagedIdentityTypeNone {
		t.Errorf("identity %s", asJSON(none.Identity))
	}
	identity := func(i *armwebpubsub.ManagedIdentity) *armwebpubsub.ManagedIdentity {
		t.Helper()
		return done(t, func(ctx context.Context) (*runtime.Poller[armwebpubsub.ClientUpdateResponse], error) {
			return instances.BeginUpdate(ctx, group, name, armwebpubsub.ResourceInfo{Identity: i}, nil)
		}).Identity
	}
	system := identity(&armwebpubsub.ManagedIdentity{Type: to.Ptr(armwebpubsub.ManagedIdentityTypeSystemAssigned)})
	msi := must[*armmsi.ClientFactory](t)(armmsi.NewClientFactory(s.SubscriptionID, m.credential, m.options))
	if mine := must[armmsi.SystemAssignedIdentitiesClientGetByScopeResponse](t)(msi.NewSystemAssignedIdentitiesClient().GetByScope(ctx, *none.ID, nil)); *mine.Properties.PrincipalID != *system.PrincipalID || *mine.Properties.ClientID == "" {
		t.Errorf("by scope %s", asJSON(mine))
	}

	// A vault with a secret, which the identity may read.
	vaults := must[*armkeyvault.VaultsClient](t)(armkeyvault.NewVaultsClient(s.SubscriptionID, m.credential, m.options))
	policy := func(principal string, permissions ...armkeyvault.SecretPermissions) *armkeyvault.AccessPolicyEntry {
		p := &armkeyvault.AccessPolicyEntry{TenantID: to.Ptr(s.TenantID), ObjectID: to.Ptr(principal), Permissions: &armkeyvault.Permissions{}}
		for _, one := range permissions {
			p.Permissions.Secrets = append(p.Permissions.Secrets, to.Ptr(one))
		}
		return p
	}
	vault := done(t, func(ctx context.Context) (*runtime.Poller[armkeyvault.VaultsClientCreateOrUpdateResponse], error) {
		return vaults.BeginCreateOrUpdate(ctx, group, "shopvault", armkeyvault.VaultCreateOrUpdateParameters{Location: to.Ptr("westeurope"), Properties: &armkeyvault.VaultProperties{
			TenantID: to.Ptr(s.TenantID), SKU: &armkeyvault.SKU{Family: to.Ptr(armkeyvault.SKUFamilyA), Name: to.Ptr(armkeyvault.SKUNameStandard)},
			AccessPolicies: []*armkeyvault.AccessPolicyEntry{policy(m.objectID, armkeyvault.SecretPermissionsSet)},
		}}, nil)
	})
	secrets := must[*azsecrets.Client](t)(azsecrets.NewClient(*vault.Properties.VaultURI, m.credential, &azsecrets.ClientOptions{
		ClientOptions: azcore.ClientOptions{Transport: s.client, Cloud: m.options.Cloud}, DisableChallengeResourceVerification: true, // the vault has an address, no domain
	}))
	secret := must[azsecrets.SetSecretResponse](t)(secrets.SetSecret(ctx, "hook", azsecrets.SetSecretParameters{Value: to.Ptr("k-0ne")}, nil))
	grant := func(principal string) {
		t.Helper()
		must[armkeyvault.VaultsClientUpdateAccessPolicyResponse](t)(vaults.UpdateAccessPolicy(ctx, group, "shopvault", armkeyvault.AccessPolicyUpdateKindAdd, armkeyvault.VaultAccessPolicyParameters{
			Properties: &armkeyvault.VaultAccessPolicyProperties{AccessPolicies: []*armkeyvault.AccessPolicyEntry{policy(principal, armkeyvault.SecretPermissionsGet)}},
		}, nil))
	}
	grant(*system.PrincipalID)

	// The handler's application, its authentication, a URL with a reference to the secret.
	s.cli(t, "app", "create", "orders", "--identifier-uri", audience)
	receiver := newReceiver(t, s, audience)
	unversioned, _, _ := strings.Cut(strings.TrimPrefix(string(*secret.ID), *vault.Properties.VaultURI), "hook/")
	uri := *vault.Properties.VaultURI + unversioned + "hook"
	done(t, func(ctx context.Context) (*runtime.Poller[armwebpubsub.HubsClientCreateOrUpdateResponse], error) {
		return wps.NewHubsClient().BeginCreateOrUpdate(ctx, "chat", group, name, armwebpubsub.Hub{Properties: &armwebpubsub.HubProperties{
			AnonymousConnectPolicy: to.Ptr("allow"), EventHandlers: []*armwebpubsub.EventHandler{{
				URLTemplate: to.Ptr(receiver.URL + "/{event}?code={@Microsoft.KeyVault(SecretUri=" + uri + ")}"), UserEventPattern: to.Ptr("*"),
				Auth: &armwebpubsub.UpstreamAuthSettings{Type: to.Ptr(armwebpubsub.UpstreamAuthTypeManagedIdentity), ManagedIdentity: &armwebpubsub.ManagedIdentitySettings{Resource: to.Ptr(audience)}},
			}},
		}}, nil)
	})
	keys := must[armwebpubsub.ClientListKeysResponse](t)(instances.ListKeys(ctx, group, name, nil))
	endpoint, _, _ := strings.Cut(strings.TrimPrefix(*keys.PrimaryConnectionString, "Endpoint="), ";")
	conn, answer := send(ctx, t, endpoint)
	if got := receiver.last(t); answer != "verified" || got.subject != *system.PrincipalID || got.code != "k-0ne" {
		t.Errorf("answer %q; the handler saw %+v, want %s with k-0ne", answer, got, *system.PrincipalID)
	}

	// From the system-assigned to a user-assigned identity in one request, with a vault permission of its own.
	robot := must[armmsi.UserAssignedIdentitiesClientCreateOrUpdateResponse](t)(msi.NewUserAssignedIdentitiesClient().CreateOrUpdate(ctx, group, "robot", armmsi.Identity{Location: to.Ptr("westeurope")}, nil))
	grant(*robot.Properties.PrincipalID)
	assigned := identity(&armwebpubsub.ManagedIdentity{Type: to.Ptr(armwebpubsub.ManagedIdentityTypeUserAssigned), UserAssignedIdentities: map[string]*armwebpubsub.UserAssignedIdentityProperty{*robot.ID: {}}})
	if u := assigned.UserAssignedIdentities[*robot.ID]; u == nil || *u.PrincipalID != *robot.Properties.PrincipalID || *u.ClientID != *robot.Properties.ClientID {
		t.Errorf("assigned %s", asJSON(assigned))
	}
	if _, answer := send(ctx, t, endpoint); answer != "verified" || receiver.last(t).subject != *robot.Properties.PrincipalID {
		t.Errorf("answer %q; the handler saw %+v, want %s", answer, receiver.last(t), *robot.Properties.PrincipalID)
	}

	// Two at once are refused with the rule.
	_, err := instances.BeginUpdate(ctx, group, name, armwebpubsub.ResourceInfo{Identity: &armwebpubsub.ManagedIdentity{
		Type: to.Ptr(armwebpubsub.ManagedIdentityTypeUserAssigned), UserAssignedIdentities: map[string]*armwebpubsub.UserAssignedIdentityProperty{*robot.ID: {}, *robot.ID + "2": {}},
	}}, nil)
	refused(t, err, 400, "InvalidIdentity")

	// Deleting the group ends everything in it, live connections included.
	done(t, func(ctx context.Context) (*runtime.Poller[armresources.ResourceGroupsClientDeleteResponse], error) {
		return groups.BeginDelete(ctx, group, nil)
	})
	if _, _, err := conn.Read(ctx); websocket.CloseStatus(err) != websocket.StatusPolicyViolation {
		t.Errorf("the connection ended with %v", err)
	}
	_, err = instances.Get(ctx, group, name, nil)
	refused(t, err, 404, "ResourceGroupNotFound")
}
