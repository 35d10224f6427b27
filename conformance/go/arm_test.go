package conformance_test

import (
	"context"
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/arm"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/cloud"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/runtime"
)

// A manager is an application of the directory with a role, and what the management clients need to speak for it: a
// client secret, and a custom cloud configuration as Microsoft documents it for sovereign clouds.
type manager struct {
	credential azcore.TokenCredential
	options    *arm.ClientOptions
	objectID   string
}

// manager registers an application and gives it a role at the subscription.
func (s *service) manager(t *testing.T, role string) *manager {
	t.Helper()
	a := s.app(t, "manager-"+strings.ToLower(strings.ReplaceAll(role, " ", "-")), "")
	s.cli(t, "role", "assign", "--principal", a.PrincipalID, "--role", role, "--scope", "/subscriptions/"+s.SubscriptionID)
	own := cloud.Configuration{
		ActiveDirectoryAuthorityHost: s.HTTPSEndpoint,
		Services:                     map[cloud.ServiceName]cloud.ServiceConfiguration{cloud.ResourceManager: {Endpoint: s.AdminHTTPSURL, Audience: "https://management.azure.com"}},
	}
	client := policy.ClientOptions{Cloud: own, Transport: s.client}
	return &manager{credential: s.clientSecret(t, a, client), options: &arm.ClientOptions{ClientOptions: client}, objectID: a.PrincipalID}
}

// done waits for a long-running operation, and fails the test if the client would have had to wait for its next poll:
// that is 30 seconds away.
func done[T any](t *testing.T, begin func(ctx context.Context) (*runtime.Poller[T], error)) T {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 25*time.Second)
	defer cancel()
	poller, err := begin(ctx)
	if err != nil {
		t.Fatal(err)
	}
	result, err := poller.PollUntilDone(ctx, nil)
	if err != nil {
		t.Fatal(err)
	}
	return result
}

// all reads every page of a list.
func all[P, T any](t *testing.T, pager *runtime.Pager[P], items func(P) []*T) []*T {
	t.Helper()
	var list []*T
	for pager.More() {
		page, err := pager.NextPage(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		list = append(list, items(page)...)
	}
	return list
}

func must[T any](t *testing.T) func(T, error) T {
	return func(v T, err error) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

// refused fails the test unless the error is ARM's with that status and code.
func refused(t *testing.T, err error, status int, code string) {
	t.Helper()
	var e *azcore.ResponseError
	if !errors.As(err, &e) || e.StatusCode != status || e.ErrorCode != code {
		t.Errorf("got %v, want %d %s", err, status, code)
	}
}

func asJSON(v any) string {
	text, _ := json.Marshal(v)
	return string(text)
}
