package conformance_test

import (
	"context"
	"encoding/json"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/azidentity"
	"github.com/coreos/go-oidc/v3/oidc"
)

// admin calls a control-plane route with the admin token.
func (s *service) admin(t *testing.T, method, path, body string, into any) {
	t.Helper()
	req, err := http.NewRequest(method, s.AdminURL+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+s.AdminToken)
	req.Header.Set("Content-Type", "application/json")
	res, err := s.client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	if err := json.NewDecoder(res.Body).Decode(into); err != nil || res.StatusCode >= 300 {
		t.Fatalf("%s %s: %d, %v", method, path, res.StatusCode, err)
	}
}

func TestCredentialsOfAzidentityGetTokensByEnvironmentAlone(t *testing.T) {
	s := start(t)
	var u struct {
		ID         string
		Properties struct{ ClientID, PrincipalID string }
	}
	id := "/subscriptions/" + s.SubscriptionID + "/resourceGroups/default/providers/Microsoft.ManagedIdentity/userAssignedIdentities/sender"
	s.admin(t, http.MethodPut, id+"?api-version=2023-01-31", `{"location":"local"}`, &u)
	var answer struct{ Environment map[string]string }
	s.admin(t, http.MethodPost, id+"/tabardEnvironment", "{}", &answer)
	for name, value := range answer.Environment {
		t.Setenv(name, value)
	}
	ctx, cancel := context.WithTimeout(oidc.ClientContext(context.Background(), s.client), 20*time.Second)
	defer cancel()
	provider, err := oidc.NewProvider(ctx, s.Issuer)
	if err != nil {
		t.Fatal(err)
	}
	for name, make := range map[string]func() (azcore.TokenCredential, error){
		"managed identity, no id": func() (azcore.TokenCredential, error) { return azidentity.NewManagedIdentityCredential(nil) },
		"managed identity, client id": func() (azcore.TokenCredential, error) {
			return azidentity.NewManagedIdentityCredential(&azidentity.ManagedIdentityCredentialOptions{ID: azidentity.ClientID(u.Properties.ClientID)})
		},
		"managed identity, resource id": func() (azcore.TokenCredential, error) {
			return azidentity.NewManagedIdentityCredential(&azidentity.ManagedIdentityCredentialOptions{ID: azidentity.ResourceID(u.ID)})
		},
		"default": func() (azcore.TokenCredential, error) {
			return azidentity.NewDefaultAzureCredential(&azidentity.DefaultAzureCredentialOptions{DisableInstanceDiscovery: true})
		},
	} {
		t.Run(name, func(t *testing.T) {
			credential, err := make()
			if err != nil {
				t.Fatal(err)
			}
			var last string
			for range 2 {
				token, err := credential.GetToken(ctx, policy.TokenRequestOptions{Scopes: []string{"https://vault.azure.net/.default"}})
				if err != nil {
					t.Fatal(err)
				}
				if last != "" && token.Token != last {
					t.Error("the second call asked again")
				}
				last = token.Token
				if life := time.Until(token.ExpiresOn); life < 23*time.Hour || token.RefreshOn.IsZero() && name != "default" {
					t.Errorf("until %v, to be renewed at %v", token.ExpiresOn, token.RefreshOn)
				}
			}
			verified, err := provider.Verifier(&oidc.Config{ClientID: "https://vault.azure.net"}).Verify(ctx, last)
			if err != nil || verified.Subject != u.Properties.PrincipalID {
				t.Errorf("%+v, %v", verified, err)
			}
		})
	}
}
