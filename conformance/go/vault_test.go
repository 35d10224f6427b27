package conformance_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/to"
	"github.com/Azure/azure-sdk-for-go/sdk/azidentity"
	"github.com/Azure/azure-sdk-for-go/sdk/security/keyvault/azsecrets"
)

// Checklist 1 of the key-vault specification: azsecrets with a managed identity, no options but the trust in the local
// authority. Its transport finds *.localhost on this machine, which most systems' resolvers do by themselves; the check
// of the challenge's resource is on.
func TestAzsecretsReadsAndWritesAVaultWithAManagedIdentity(t *testing.T) {
	s := start(t)
	var u struct {
		Properties struct{ ClientID, PrincipalID string }
	}
	id := "/subscriptions/" + s.SubscriptionID + "/resourceGroups/default/providers/Microsoft.ManagedIdentity/userAssignedIdentities/keeper"
	s.admin(t, http.MethodPut, id+"?api-version=2023-01-31", `{"location":"local"}`, &u)
	var answer struct{ Environment map[string]string }
	s.admin(t, http.MethodPost, id+"/tabardEnvironment", "{}", &answer)
	for name, value := range answer.Environment {
		t.Setenv(name, value)
	}
	var vault struct {
		Properties struct{ VaultURI string }
	}
	policy := fmt.Sprintf(`{"location":"local","properties":{"tenantId":%q,"sku":{"family":"A","name":"standard"},"accessPolicies":[{"tenantId":%q,"objectId":%q,"permissions":{"secrets":["all","purge"]}}]}}`, s.TenantID, s.TenantID, u.Properties.PrincipalID)
	s.admin(t, http.MethodPut, "/subscriptions/"+s.SubscriptionID+"/resourceGroups/default/providers/Microsoft.KeyVault/vaults/hooks?api-version=2024-11-01", policy, &vault)

	transport := s.client.Transport.(*http.Transport).Clone()
	transport.DialContext = func(ctx context.Context, network, addr string) (net.Conn, error) {
		if host, port, err := net.SplitHostPort(addr); err == nil && strings.HasSuffix(host, ".localhost") {
			addr = net.JoinHostPort("127.0.0.1", port)
		}
		return (&net.Dialer{}).DialContext(ctx, network, addr)
	}
	defer transport.CloseIdleConnections()
	credential, err := azidentity.NewManagedIdentityCredential(nil)
	if err != nil {
		t.Fatal(err)
	}
	client, err := azsecrets.NewClient(vault.Properties.VaultURI, credential, &azsecrets.ClientOptions{ClientOptions: azcore.ClientOptions{Transport: &http.Client{Transport: transport}}})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	set, err := client.SetSecret(ctx, "hookkey", azsecrets.SetSecretParameters{Value: to.Ptr("s3cr3t"), Tags: map[string]*string{"env": to.Ptr("dev")}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	if !strings.HasPrefix(string(*set.ID), strings.TrimSuffix(vault.Properties.VaultURI, "/")+"/secrets/hookkey/") {
		t.Errorf("id %s, vault %s", *set.ID, vault.Properties.VaultURI)
	}
	for _, version := range []string{"", set.ID.Version()} {
		if got, err := client.GetSecret(ctx, "hookkey", version, nil); err != nil || *got.Value != "s3cr3t" || *got.Tags["env"] != "dev" {
			t.Errorf("version %q: %+v, %v", version, got.Secret, err)
		}
	}
	n := 0
	for pager := client.NewListSecretPropertiesPager(nil); pager.More(); {
		page, err := pager.NextPage(ctx)
		if err != nil {
			t.Fatal(err)
		}
		n += len(page.Value)
	}
	if n != 1 {
		t.Errorf("%d secrets", n)
	}
	if _, err := client.DeleteSecret(ctx, "hookkey", nil); err != nil {
		t.Error(err)
	}
	var refused *azcore.ResponseError
	if _, err := client.GetSecret(ctx, "hookkey", "", nil); !errors.As(err, &refused) || refused.ErrorCode != "SecretNotFound" {
		t.Errorf("a deleted secret: %v", err)
	}
	if _, err := client.PurgeDeletedSecret(ctx, "hookkey", nil); err != nil {
		t.Error(err)
	}
	s.admin(t, http.MethodPut, "/subscriptions/"+s.SubscriptionID+"/resourceGroups/default/providers/Microsoft.KeyVault/vaults/hooks/accessPolicies/replace?api-version=2024-11-01",
		fmt.Sprintf(`{"properties":{"accessPolicies":[{"tenantId":%q,"objectId":%q,"permissions":{"secrets":["list"]}}]}}`, s.TenantID, u.Properties.PrincipalID), &answer)
	if _, err := client.GetSecret(ctx, "hookkey", "", nil); !errors.As(err, &refused) || refused.StatusCode != 403 || !strings.Contains(refused.Error(), "AccessDenied") {
		t.Errorf("without get: %v", err)
	}
}
