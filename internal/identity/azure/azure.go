// Package azure obtains tokens as an identity that the platform gave to this process: the managed identity of a virtual
// machine, an App Service or Container App, an Arc machine, or the workload identity of a pod.
//
// Which door the platform has open is found out by azidentity, from the process's environment; that is the one place
// outside main where it is read, because azidentity offers no other. Remembering and renewing is identity.Cache's task,
// although azidentity remembers tokens too: a token that a receiver refused may come from its memory again.
package azure

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/runtime"
	"github.com/Azure/azure-sdk-for-go/sdk/azidentity"

	"tabard/internal/identity"
)

// Options choose the identity.
type Options struct {
	// Workload presents the token in $AZURE_FEDERATED_TOKEN_FILE at $AZURE_AUTHORITY_HOST. Otherwise the platform's
	// managed-identity endpoint is asked.
	Workload bool
	// ClientID is that of a user-assigned identity. Empty: the system-assigned one, or for a workload $AZURE_CLIENT_ID.
	ClientID string
	// TenantID of a workload. Empty: $AZURE_TENANT_ID.
	TenantID string
	// Transport carries the requests; no redirect is followed. nil: a plain one without a proxy, since the platform's
	// endpoint is at an address that no other request may reach.
	Transport http.RoundTripper
}

// A Source is an [identity.Source].
type Source struct {
	credential azcore.TokenCredential
	workload   bool
	client     *http.Client
}

// New makes the source. It asks nobody yet. The error says what the environment lacks.
func New(opt Options) (*Source, error) {
	transport := opt.Transport
	if transport == nil {
		transport = &http.Transport{Proxy: nil, MaxIdleConns: 4, IdleConnTimeout: time.Minute, TLSHandshakeTimeout: 10 * time.Second}
	}
	s := &Source{workload: opt.Workload, client: &http.Client{
		Transport:     transport,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}
	client := policy.ClientOptions{Transport: s.client}
	var err error
	if opt.Workload {
		s.credential, err = azidentity.NewWorkloadIdentityCredential(&azidentity.WorkloadIdentityCredentialOptions{
			ClientOptions: client, ClientID: opt.ClientID, TenantID: opt.TenantID, DisableInstanceDiscovery: !isMicrosoft(os.Getenv("AZURE_AUTHORITY_HOST")),
		})
	} else {
		managed := &azidentity.ManagedIdentityCredentialOptions{ClientOptions: client}
		if opt.ClientID != "" {
			managed.ID = azidentity.ClientID(opt.ClientID)
		}
		s.credential, err = azidentity.NewManagedIdentityCredential(managed)
	}
	if err != nil {
		return nil, fmt.Errorf("azure identity: %w", err)
	}
	return s, nil
}

// isMicrosoft tells whether an authority is one that Microsoft's instance discovery knows; an empty one is. For any
// other azidentity would ask Microsoft whether to trust it, and fail.
func isMicrosoft(authority string) bool {
	u, err := url.Parse(authority)
	if authority == "" || err != nil {
		return authority == ""
	}
	host := strings.ToLower(u.Hostname())
	return slices.ContainsFunc([]string{"microsoftonline.com", "microsoftonline.us", "microsoftonline.cn", "chinacloudapi.cn", "windows.net"}, func(domain string) bool {
		return strings.HasSuffix(host, "."+domain)
	})
}

// Close drops idle connections.
func (s *Source) Close() { s.client.CloseIdleConnections() }

// Token asks the platform. p is not used: the platform knows one identity, or the one that Options name. An empty
// resource means Microsoft Graph.
func (s *Source) Token(ctx context.Context, p identity.Principal, resource string) (*identity.Token, error) {
	return s.TokenFor(ctx, p, resource, "")
}

// TokenFor implements [identity.ClaimsSource].
func (s *Source) TokenFor(ctx context.Context, _ identity.Principal, resource, claims string) (*identity.Token, error) {
	if resource == "" {
		resource = "https://graph.microsoft.com"
	}
	if s.workload { // a v2 scope; the managed-identity endpoint takes the resource as it is
		resource = strings.TrimRight(resource, "/")
	}
	token, err := s.credential.GetToken(ctx, policy.TokenRequestOptions{Scopes: []string{resource + "/.default"}, Claims: claims, EnableCAE: claims != ""})
	if err != nil {
		return nil, translate(err)
	}
	return identity.NewToken(token.Token, time.Time{}, token.ExpiresOn, token.RefreshOn), nil
}

// aadsts finds the code that operators look a refusal up by.
var aadsts = regexp.MustCompile(`AADSTS\d+`)

const maxText = 1000 // bytes of a refusal's text

// translate tells a refusal from a passing fault. azidentity's own text holds the whole answer, many lines of it; what
// is kept is the sentence that the platform gave.
func translate(err error) error {
	var failed *azidentity.AuthenticationFailedError
	if !errors.As(err, &failed) || failed.RawResponse == nil {
		return fmt.Errorf("azure identity: %w", err)
	}
	status := failed.RawResponse.StatusCode
	var body struct {
		Description   string `json:"error_description"`
		Message       string `json:"message"`
		CorrelationID string `json:"correlation_id"`
		Correlation   string `json:"correlationId"`
	}
	if payload, readErr := runtime.Payload(failed.RawResponse); readErr == nil {
		_ = json.Unmarshal(payload, &body) // what is not JSON says nothing
	}
	text := body.Description
	if text == "" {
		text = body.Message
	}
	if text == "" {
		text = fmt.Sprintf("the platform's identity endpoint answered with status %d", status)
	}
	refused := &identity.Error{
		Code: aadsts.FindString(text), Description: text[:min(len(text), maxText)], CorrelationID: body.CorrelationID,
		Permanent: status == http.StatusBadRequest || status == http.StatusUnauthorized || status == http.StatusForbidden,
	}
	if refused.CorrelationID == "" {
		refused.CorrelationID = body.Correlation
	}
	return refused
}
