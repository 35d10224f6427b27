package conformance_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/runtime"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/to"
	"github.com/Azure/azure-sdk-for-go/sdk/azidentity"
	"github.com/Azure/azure-sdk-for-go/sdk/resourcemanager/keyvault/armkeyvault"
	"github.com/Azure/azure-sdk-for-go/sdk/security/keyvault/azsecrets"
)

// namesBelowLocalhost makes a transport of the SDKs find *.localhost on this machine, which most systems' resolvers do
// by themselves.
func (s *service) namesBelowLocalhost(t *testing.T) *http.Client {
	transport := s.client.Transport.(*http.Transport).Clone()
	transport.DialContext = func(ctx context.Context, network, addr string) (net.Conn, error) {
		if host, port, err := net.SplitHostPort(addr); err == nil && strings.HasSuffix(host, ".localhost") {
			addr = net.JoinHostPort("127.0.0.1", port)
		}
		return (&net.Dialer{}).DialContext(ctx, network, addr)
	}
	t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport}
}

// managedIdentity makes a user-assigned identity and what its programs have in their environment.
func (s *service) managedIdentity(t *testing.T, name string) (azcore.TokenCredential, string) {
	t.Helper()
	var u struct {
		Properties struct{ ClientID, PrincipalID string }
	}
	id := "/subscriptions/" + s.SubscriptionID + "/resourceGroups/default/providers/Microsoft.ManagedIdentity/userAssignedIdentities/" + name
	s.admin(t, http.MethodPut, id+"?api-version=2023-01-31", `{"location":"local"}`, &u)
	var answer struct{ Environment map[string]string }
	s.admin(t, http.MethodPost, id+"/tabardEnvironment", "{}", &answer)
	for name, value := range answer.Environment {
		t.Setenv(name, value)
	}
	credential, err := azidentity.NewManagedIdentityCredential(nil)
	if err != nil {
		t.Fatal(err)
	}
	return credential, u.Properties.PrincipalID
}

// Checklist 1 of the key-vault specification and all of azsecrets: every method of its client, with the credentials that
// programs use. The check of the challenge's resource is on.
func TestAzsecretsDoesEverythingWithRealCredentials(t *testing.T) {
	s := start(t)
	for name, credential := range map[string]func(*testing.T, string) (azcore.TokenCredential, string){
		"managed": s.managedIdentity,
		"secret": func(t *testing.T, name string) (azcore.TokenCredential, string) {
			a := s.app(t, name, "")
			return s.clientSecret(t, a, s.options()), a.PrincipalID
		},
	} {
		t.Run(name, func(t *testing.T) {
			cred, oid := credential(t, "keeper-"+name)
			var vault struct {
				Properties struct{ VaultURI string }
			}
			s.json(t, &vault, "vault", "create", "v-"+name)
			s.cli(t, "vault", "policy", "set", "v-"+name, "--object-id", oid, "--secrets", "all,purge")
			calls := &recording{}
			client, err := azsecrets.NewClient(vault.Properties.VaultURI, cred, &azsecrets.ClientOptions{ClientOptions: azcore.ClientOptions{
				Transport: s.namesBelowLocalhost(t), PerCallPolicies: []policy.Policy{calls},
			}})
			if err != nil {
				t.Fatal(err)
			}
			ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
			defer cancel()
			everything(ctx, t, client, strings.TrimSuffix(vault.Properties.VaultURI, "/"))
			calls.covers(t, client)

			s.cli(t, "vault", "policy", "set", "v-"+name, "--object-id", oid, "--secrets", "list")
			var refused *azcore.ResponseError
			if _, err := client.GetSecret(ctx, "hookkey", "", nil); !errors.As(err, &refused) || refused.StatusCode != 403 || !strings.Contains(refused.Error(), "AccessDenied") {
				t.Errorf("without get: %v", err)
			}
		})
	}
}

// everything calls every method of the client.
func everything(ctx context.Context, t *testing.T, client *azsecrets.Client, origin string) {
	check := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	set, err := client.SetSecret(ctx, "hookkey", azsecrets.SetSecretParameters{Value: to.Ptr("s3cr3t"), Tags: map[string]*string{"env": to.Ptr("dev")}}, nil)
	check(err)
	if !strings.HasPrefix(string(*set.ID), origin+"/secrets/hookkey/") || set.ID.Name() != "hookkey" {
		t.Errorf("id %s, vault %s", *set.ID, origin)
	}
	_, err = client.SetSecret(ctx, "hookkey", azsecrets.SetSecretParameters{Value: to.Ptr("second"), ContentType: to.Ptr("text/plain")}, nil)
	check(err)
	for version, want := range map[string]string{"": "second", set.ID.Version(): "s3cr3t"} {
		if got, err := client.GetSecret(ctx, "hookkey", version, nil); err != nil || *got.Value != want {
			t.Errorf("version %q: %+v, %v", version, got.Secret, err)
		}
	}
	updated, err := client.UpdateSecretProperties(ctx, "hookkey", set.ID.Version(), azsecrets.UpdateSecretPropertiesParameters{
		SecretAttributes: &azsecrets.SecretAttributes{Enabled: to.Ptr(false)},
	}, nil)
	check(err)
	if updated.Value != nil || *updated.Attributes.Enabled || *updated.Tags["env"] != "dev" {
		t.Errorf("updated %+v", updated.Secret)
	}
	for i := range 26 { // more than a page
		_, err = client.SetSecret(ctx, fmt.Sprint("s", i), azsecrets.SetSecretParameters{Value: to.Ptr("x")}, nil)
		check(err)
	}
	if n := count(ctx, t, client.NewListSecretPropertiesPager(nil), func(p azsecrets.ListSecretPropertiesResponse) int { return len(p.Value) }); n != 27 {
		t.Errorf("%d secrets", n)
	}
	if n := count(ctx, t, client.NewListSecretPropertiesVersionsPager("hookkey", nil), func(p azsecrets.ListSecretPropertiesVersionsResponse) int { return len(p.Value) }); n != 2 {
		t.Errorf("%d versions", n)
	}
	saved, err := client.BackupSecret(ctx, "hookkey", nil)
	check(err)
	_, err = client.DeleteSecret(ctx, "hookkey", nil)
	check(err)
	var refused *azcore.ResponseError
	if _, err := client.GetSecret(ctx, "hookkey", "", nil); !errors.As(err, &refused) || refused.ErrorCode != "SecretNotFound" {
		t.Errorf("a deleted secret: %v", err)
	}
	if _, err := client.RestoreSecret(ctx, azsecrets.RestoreSecretParameters{SecretBackup: saved.Value}, nil); !errors.As(err, &refused) || refused.StatusCode != 409 {
		t.Errorf("restored over a deleted one: %v", err)
	}
	deleted, err := client.GetDeletedSecret(ctx, "hookkey", nil)
	check(err)
	if *deleted.RecoveryID != origin+"/deletedsecrets/hookkey" || deleted.ScheduledPurgeDate == nil {
		t.Errorf("deleted %+v", deleted.DeletedSecret)
	}
	if n := count(ctx, t, client.NewListDeletedSecretPropertiesPager(nil), func(p azsecrets.ListDeletedSecretPropertiesResponse) int { return len(p.Value) }); n != 1 {
		t.Errorf("%d deleted secrets", n)
	}
	_, err = client.RecoverDeletedSecret(ctx, "hookkey", nil)
	check(err)
	_, err = client.DeleteSecret(ctx, "hookkey", nil)
	check(err)
	_, err = client.PurgeDeletedSecret(ctx, "hookkey", nil)
	check(err)
	_, err = client.RestoreSecret(ctx, azsecrets.RestoreSecretParameters{SecretBackup: saved.Value}, nil)
	check(err)
	if got, err := client.GetSecret(ctx, "hookkey", "", nil); err != nil || *got.Value != "second" || *got.ContentType != "text/plain" {
		t.Errorf("restored: %+v, %v", got.Secret, err)
	}
}

func count[T any](ctx context.Context, t *testing.T, pager *runtime.Pager[T], items func(T) int) (n int) {
	t.Helper()
	pages := 0
	for ; pager.More(); pages++ {
		page, err := pager.NextPage(ctx)
		if err != nil {
			t.Fatal(err)
		}
		n += items(page)
	}
	if pages != (n+24)/25 {
		t.Errorf("%d items on %d pages", n, pages)
	}
	return n
}

// A recording notes what was asked of the vault.
type recording struct{ seen []string }

func (r *recording) Do(req *policy.Request) (*http.Response, error) {
	raw := req.Raw()
	parts := strings.Split(strings.Trim(raw.URL.Path, "/"), "/")
	if len(parts) > 1 && parts[1] != "restore" {
		parts[1] = "NAME"
	}
	if len(parts) > 2 && len(parts[2]) == 32 {
		parts[2] = "VERSION"
	}
	r.seen = append(r.seen, raw.Method+" "+strings.Join(parts, "/"))
	return req.Next()
}

// covers wants every operation of the secrets API, and that the client has no method that is none of these.
func (r *recording) covers(t *testing.T, client *azsecrets.Client) {
	t.Helper()
	operations := map[string]string{
		"SetSecret": "PUT secrets/NAME", "GetSecret": "GET secrets/NAME", "UpdateSecretProperties": "PATCH secrets/NAME/VERSION", "DeleteSecret": "DELETE secrets/NAME",
		"NewListSecretPropertiesPager": "GET secrets", "NewListSecretPropertiesVersionsPager": "GET secrets/NAME/versions", "NewListDeletedSecretPropertiesPager": "GET deletedsecrets",
		"GetDeletedSecret": "GET deletedsecrets/NAME", "PurgeDeletedSecret": "DELETE deletedsecrets/NAME", "RecoverDeletedSecret": "POST deletedsecrets/NAME/recover",
		"BackupSecret": "POST secrets/NAME/backup", "RestoreSecret": "POST secrets/restore",
	}
	for i := range reflect.TypeOf(client).NumMethod() {
		method := reflect.TypeOf(client).Method(i).Name
		if operation, known := operations[method]; !known || !slices.Contains(r.seen, operation) {
			t.Errorf("%s (%s) was not tried", method, operation)
		}
	}
}

// Azure's control plane writes secrets too, as templates do, and reads everything of them but the value.
func TestArmkeyvaultWritesSecretsAndReadsNoValue(t *testing.T) {
	s := start(t)
	m := s.manager(t, "Contributor")
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	s.cli(t, "vault", "create", "hooks")
	secrets := must[*armkeyvault.SecretsClient](t)(armkeyvault.NewSecretsClient(s.SubscriptionID, m.credential, m.options))
	write := func(value string) armkeyvault.Secret {
		t.Helper()
		return must[armkeyvault.SecretsClientCreateOrUpdateResponse](t)(secrets.CreateOrUpdate(ctx, "default", "hooks", "hookkey", armkeyvault.SecretCreateOrUpdateParameters{
			Properties: &armkeyvault.SecretProperties{Value: to.Ptr(value), ContentType: to.Ptr("text/plain")}, Tags: map[string]*string{"a": to.Ptr("b")},
		}, nil)).Secret
	}
	first, same, second := write("s3cr3t"), write("s3cr3t"), write("another")
	if *first.Properties.SecretURIWithVersion != *same.Properties.SecretURIWithVersion || *first.Properties.SecretURIWithVersion == *second.Properties.SecretURIWithVersion {
		t.Errorf("versions %s, %s, %s", *first.Properties.SecretURIWithVersion, *same.Properties.SecretURIWithVersion, *second.Properties.SecretURIWithVersion)
	}
	off := must[armkeyvault.SecretsClientUpdateResponse](t)(secrets.Update(ctx, "default", "hooks", "hookkey", armkeyvault.SecretPatchParameters{
		Properties: &armkeyvault.SecretPatchProperties{Attributes: &armkeyvault.SecretAttributes{Enabled: to.Ptr(false)}},
	}, nil))
	got := must[armkeyvault.SecretsClientGetResponse](t)(secrets.Get(ctx, "default", "hooks", "hookkey", nil))
	if *off.Properties.Attributes.Enabled || *got.Properties.Attributes.Enabled || *got.Properties.ContentType != "text/plain" || *got.Tags["a"] != "b" || got.Properties.Value != nil {
		t.Errorf("%+v, %+v", off.Properties, got.Properties)
	}
	n := 0
	for pager := secrets.NewListPager("default", "hooks", nil); pager.More(); {
		n += len(must[armkeyvault.SecretsClientListResponse](t)(pager.NextPage(ctx)).Value)
	}
	if n != 1 {
		t.Errorf("%d secrets", n)
	}
}
