package keyvault

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/to"
	"github.com/Azure/azure-sdk-for-go/sdk/security/keyvault/azsecrets"

	"tabard/internal/identity"
)

// minted is a credential that asks the token service for what the vault's challenge names.
type minted struct {
	w *world
	p identity.Principal
}

func (m minted) GetToken(ctx context.Context, o policy.TokenRequestOptions) (azcore.AccessToken, error) {
	if len(o.Scopes) != 1 || o.TenantID != testTenant {
		return azcore.AccessToken{}, fmt.Errorf("asked for %v in %q", o.Scopes, o.TenantID)
	}
	tok, err := m.w.tokens.Token(ctx, m.p, strings.TrimSuffix(o.Scopes[0], "/.default"))
	if err != nil {
		return azcore.AccessToken{}, err
	}
	return azcore.AccessToken{Token: tok.Raw, ExpiresOn: tok.ExpiresOn}, nil
}

func (w *world) azsecrets(vault string, p identity.Principal, edit ...func(*azsecrets.ClientOptions)) *azsecrets.Client {
	w.t.Helper()
	opt := &azsecrets.ClientOptions{ClientOptions: azcore.ClientOptions{Transport: w.client}}
	for _, e := range edit {
		e(opt)
	}
	c, err := azsecrets.NewClient(w.origin(vault), minted{w, p}, opt)
	if err != nil {
		w.t.Fatal(err)
	}
	return c
}

// Checklist 1 and 25, 26, 29, 37 with Azure's own client, which checks the challenge's resource against the host.
func TestAzsecretsWorksUnmodified(t *testing.T) {
	w := newWorld(t)
	w.vault("va1")
	p := w.identity("someone")
	w.grant("va1", p, "all", "purge")
	c, ctx := w.azsecrets("va1", p), t.Context()
	check := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	expires := time.Unix(1821536000, 0)
	set, err := c.SetSecret(ctx, "hookkey", azsecrets.SetSecretParameters{
		Value: to.Ptr("s3cr3t"), ContentType: to.Ptr("text/plain"), Tags: map[string]*string{"env": to.Ptr("dev")}, SecretAttributes: &azsecrets.SecretAttributes{Expires: &expires},
	}, nil)
	check(err)
	if set.ID.Name() != "hookkey" || len(set.ID.Version()) != 32 {
		t.Errorf("id %s", *set.ID)
	}
	got, err := c.GetSecret(ctx, "hookkey", "", nil)
	check(err)
	if *got.Value != "s3cr3t" || *got.ContentType != "text/plain" || *got.Tags["env"] != "dev" || !got.Attributes.Expires.Equal(expires) || *got.Attributes.RecoveryLevel != "Recoverable+Purgeable" {
		t.Errorf("got %+v", got.Secret)
	}
	updated, err := c.UpdateSecretProperties(ctx, "hookkey", "", azsecrets.UpdateSecretPropertiesParameters{SecretAttributes: &azsecrets.SecretAttributes{Enabled: to.Ptr(false)}}, nil)
	check(err)
	if updated.Value != nil || *updated.Attributes.Enabled {
		t.Errorf("updated %+v", updated.Secret)
	}
	var refused *azcore.ResponseError
	if _, err := c.GetSecret(ctx, "hookkey", "", nil); !errors.As(err, &refused) || refused.StatusCode != 403 || refused.ErrorCode != "Forbidden" || !strings.Contains(refused.Error(), "SecretDisabled") {
		t.Errorf("disabled: %v", err)
	}
	_, err = c.UpdateSecretProperties(ctx, "hookkey", set.ID.Version(), azsecrets.UpdateSecretPropertiesParameters{SecretAttributes: &azsecrets.SecretAttributes{Enabled: to.Ptr(true)}}, nil)
	check(err)
	for i := range 30 {
		_, err := c.SetSecret(ctx, fmt.Sprint("s", i), azsecrets.SetSecretParameters{Value: to.Ptr("x")}, nil)
		check(err)
	}
	n := 0
	for pager := c.NewListSecretPropertiesPager(nil); pager.More(); {
		page, err := pager.NextPage(ctx)
		check(err)
		n += len(page.Value)
	}
	if n != 31 {
		t.Errorf("%d secrets in the list", n)
	}
	_, err = c.SetSecret(ctx, "hookkey", azsecrets.SetSecretParameters{Value: to.Ptr("second")}, nil)
	check(err)
	n = 0
	for pager := c.NewListSecretPropertiesVersionsPager("hookkey", nil); pager.More(); {
		page, err := pager.NextPage(ctx)
		check(err)
		n += len(page.Value)
	}
	if n != 2 {
		t.Errorf("%d versions", n)
	}
	saved, err := c.BackupSecret(ctx, "hookkey", nil)
	check(err)
	gone, err := c.DeleteSecret(ctx, "hookkey", nil)
	check(err)
	if gone.DeletedDate == nil || gone.ScheduledPurgeDate == nil || *gone.RecoveryID != w.origin("va1")+"/deletedsecrets/hookkey" {
		t.Errorf("deleted %+v", gone.DeletedSecret)
	}
	if _, err := c.GetSecret(ctx, "hookkey", "", nil); !errors.As(err, &refused) || refused.ErrorCode != "SecretNotFound" {
		t.Errorf("deleted: %v", err)
	}
	if _, err := c.SetSecret(ctx, "hookkey", azsecrets.SetSecretParameters{Value: to.Ptr("x")}, nil); !errors.As(err, &refused) || refused.StatusCode != 409 || !strings.Contains(refused.Error(), "ObjectIsDeletedButRecoverable") {
		t.Errorf("deleted: %v", err)
	}
	_, err = c.GetDeletedSecret(ctx, "hookkey", nil)
	check(err)
	_, err = c.RecoverDeletedSecret(ctx, "hookkey", nil)
	check(err)
	_, err = c.DeleteSecret(ctx, "hookkey", nil)
	check(err)
	_, err = c.PurgeDeletedSecret(ctx, "hookkey", nil)
	check(err)
	_, err = c.RestoreSecret(ctx, azsecrets.RestoreSecretParameters{SecretBackup: saved.Value}, nil)
	check(err)
	if got, err := c.GetSecret(ctx, "hookkey", set.ID.Version(), nil); err != nil || *got.Value != "s3cr3t" {
		t.Errorf("restored: %v, %v", got.Value, err)
	}
}

func TestAzsecretsNeedsItsOptionOnABareHost(t *testing.T) {
	w := newWorld(t)
	p := w.identity("someone")
	w.grant(DefaultVault, p, "all")
	if _, err := w.azsecrets(DefaultVault, p).GetSecret(t.Context(), "n", "", nil); err == nil || !strings.Contains(err.Error(), "DisableChallengeResourceVerification") {
		t.Errorf("without the option: %v", err)
	}
	c := w.azsecrets(DefaultVault, p, func(o *azsecrets.ClientOptions) { o.DisableChallengeResourceVerification = true })
	if _, err := c.SetSecret(t.Context(), "n", azsecrets.SetSecretParameters{Value: to.Ptr("x")}, nil); err != nil {
		t.Error(err)
	}
}

func TestAzsecretsRefusesPlainHTTPBeforeItSends(t *testing.T) {
	w := newWorld(t)
	c, err := azsecrets.NewClient(w.plain, minted{w, w.identity("someone")}, &azsecrets.ClientOptions{DisableChallengeResourceVerification: true, ClientOptions: azcore.ClientOptions{Transport: w.client}})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.GetSecret(t.Context(), "n", "", nil); err == nil {
		t.Error("a secret over plain http")
	}
}
