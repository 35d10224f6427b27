package tokenservice

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/cloud"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/azidentity"
	"github.com/google/uuid"

	"tabard/internal/directory"
	"tabard/internal/egress"
)

// A counted client counts token requests, and sends what is for the metadata address to a server of ours.
type counted struct {
	client *http.Client
	imds   string // host and port
	tokens atomic.Int64
}

func (c *counted) Do(r *http.Request) (*http.Response, error) {
	if strings.Contains(r.URL.Path, "/token") {
		c.tokens.Add(1)
	}
	if r.URL.Host == "169.254.169.254" {
		r.URL.Host = c.imds
	}
	return c.client.Do(r)
}

// live is a house with the real clock, served over TLS, and its workload endpoints over plain http.
func live(t *testing.T, edit func(*Options)) (*house, *counted, policy.ClientOptions) {
	t.Helper()
	var workloads string
	h := open(t, t.TempDir(), func(o *Options) {
		o.Now, o.WorkloadOrigin = time.Now, func() string { return workloads }
		if edit != nil {
			edit(o)
		}
	})
	client := h.serve(t)
	server := httptest.NewServer(h.WorkloadHandler())
	t.Cleanup(server.Close)
	workloads = server.URL
	c := &counted{client: client, imds: strings.TrimPrefix(server.URL, "http://")}
	t.Cleanup(client.CloseIdleConnections)
	return h, c, policy.ClientOptions{
		Transport: c, Retry: policy.RetryOptions{MaxRetries: -1},
		Cloud: cloud.Configuration{ActiveDirectoryAuthorityHost: h.origin.Load().(string) + "/"},
	}
}

func ask(t *testing.T, cred azcore.TokenCredential, scope string) (azcore.AccessToken, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	return cred.GetToken(ctx, policy.TokenRequestOptions{Scopes: []string{scope}, EnableCAE: true})
}

// unasked is the scope of a resource that no test has asked for: MSAL remembers managed identities' tokens per process,
// whoever gave them.
func (h *house) unasked(t *testing.T) string {
	t.Helper()
	uri := "api://" + uuid.NewString()
	h.register(t, directory.Application{DisplayName: uri, IdentifierURIs: []string{uri}})
	return uri + "/.default"
}

// wantCached asks twice for a token that verifies by discovery, and wants the second answer from memory.
func wantCached(t *testing.T, h *house, c *counted, cred azcore.TokenCredential, scope, clientID string) {
	t.Helper()
	before := c.tokens.Load()
	token, err := ask(t, cred, scope)
	if err != nil {
		t.Fatal(err)
	}
	if _, err = ask(t, cred, scope); err != nil {
		t.Fatal(err)
	}
	if n := c.tokens.Load() - before; n != 1 {
		t.Errorf("two calls made %d requests for a token", n)
	}
	_, claims, err := receiver{c.client, h.origin.Load().(string) + "/common/.well-known/openid-configuration"}.verify(t.Context(), token.Token)
	if err != nil || claims["appid"] != clientID || !time.Unix(int64(claims["exp"].(float64)), 0).After(token.ExpiresOn.Add(-5*time.Second)) {
		t.Errorf("%v, %v", claims, err)
	}
}

func TestA26ClientSecretCredentialOfAzidentity(t *testing.T) {
	h, c, opt := live(t, nil)
	app, _ := h.register(t, directory.Application{DisplayName: "client"})
	h.register(t, directory.Application{DisplayName: "orders", IdentifierURIs: []string{"api://orders"}})
	options := &azidentity.ClientSecretCredentialOptions{ClientOptions: opt, DisableInstanceDiscovery: true}
	cred := must(azidentity.NewClientSecretCredential(testTenant, app.AppID, h.secret(t, app), options))(t)
	wantCached(t, h, c, cred, "api://orders/.default", app.AppID)

	wrong := must(azidentity.NewClientSecretCredential(testTenant, app.AppID, "wrong", options))(t)
	_, err := ask(t, wrong, "api://orders/.default")
	var failed *azidentity.AuthenticationFailedError
	if !errors.As(err, &failed) || failed.RawResponse.StatusCode != 401 || !strings.Contains(err.Error(), "AADSTS7000215") {
		t.Errorf("a wrong secret: %v", err)
	}
	if _, err := ask(t, cred, "api://unknown/.default"); err == nil || !strings.Contains(err.Error(), "AADSTS500011") {
		t.Errorf("an unknown resource: %v", err)
	}
}

func TestA27ClientCertificateCredentialOfAzidentity(t *testing.T) {
	h, c, opt := live(t, nil)
	app, _ := h.register(t, directory.Application{DisplayName: "client"})
	k := newKeyPair(t, time.Now().Add(-time.Hour), time.Now().AddDate(1, 0, 0))
	if _, err := h.directory.AddKey(t.Context(), app.AppID, directory.KeyCredential{Certificate: k.pem(t)}); err != nil {
		t.Fatal(err)
	}
	certs, key, err := azidentity.ParseCertificates(k.pem(t), nil)
	if err != nil {
		t.Fatal(err)
	}
	cred := must(azidentity.NewClientCertificateCredential(testTenant, app.AppID, certs, key, &azidentity.ClientCertificateCredentialOptions{
		ClientOptions: opt, DisableInstanceDiscovery: true, SendCertificateChain: true,
	}))(t)
	wantCached(t, h, c, cred, vaultScope, app.AppID)
	wantCached(t, h, c, cred, "https://storage.azure.com/.default", app.AppID)
}

func TestA28WorkloadIdentityCredentialOfAzidentity(t *testing.T) {
	x := newForeignIssuer(t, "")
	out := egress.New(egress.Policy{AllowLoopback: true, RootCAs: x.Client().Transport.(*http.Transport).TLSClientConfig.RootCAs})
	t.Cleanup(out.Close)
	h, c, opt := live(t, func(o *Options) { o.Transport = out.Transport() })
	h.clock.now = time.Now()
	u := h.identity(t, "sender")
	if _, err := h.directory.CreateFederatedCredential(t.Context(), u.ID, directory.FederatedCredential{Name: "cluster", Issuer: x.issuer, Subject: subject1}); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(file, []byte(x.sign(t, h, nil)+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, value := range must(h.EnvFor(t.Context(), u.ID, EnvOptions{FederatedTokenFile: file}))(t) {
		t.Setenv(name, value)
	}
	opt.Cloud = cloud.Configuration{} // the authority comes from the environment
	cred := must(azidentity.NewWorkloadIdentityCredential(&azidentity.WorkloadIdentityCredentialOptions{ClientOptions: opt, DisableInstanceDiscovery: true}))(t)
	wantCached(t, h, c, cred, vaultScope, u.ClientID)
}

func TestA2ManagedIdentityCredentialOfAzidentityOnAppService(t *testing.T) {
	h, c, opt := live(t, nil)
	u, other := h.identity(t, "sender"), h.identity(t, "other")
	scope := h.unasked(t)
	for name, value := range must(h.EnvFor(t.Context(), u.ID, EnvOptions{}))(t) {
		t.Setenv(name, value)
	}
	managed := func(id azidentity.ManagedIDKind) *azidentity.ManagedIdentityCredential {
		return must(azidentity.NewManagedIdentityCredential(&azidentity.ManagedIdentityCredentialOptions{ClientOptions: opt, ID: id}))(t)
	}
	wantCached(t, h, c, managed(nil), scope, u.ClientID)
	wantCached(t, h, c, managed(azidentity.ClientID(u.ClientID)), h.unasked(t), u.ClientID)
	wantCached(t, h, c, managed(azidentity.ObjectID(u.PrincipalID)), h.unasked(t), u.ClientID)
	wantCached(t, h, c, managed(azidentity.ResourceID(u.ID)), h.unasked(t), u.ClientID)
	// What a program that was written for Azure has in it.
	def := must(azidentity.NewDefaultAzureCredential(&azidentity.DefaultAzureCredentialOptions{ClientOptions: opt, DisableInstanceDiscovery: true}))(t)
	if token, err := ask(t, def, scope); err != nil || h.claims(t, token.Token)["appid"] != u.ClientID {
		t.Errorf("DefaultAzureCredential: %v", err)
	}
	if _, err := ask(t, managed(azidentity.ClientID(other.ClientID)), h.unasked(t)); err == nil || !strings.Contains(err.Error(), "Identity not found") {
		t.Errorf("another identity: %v", err)
	}
	t.Setenv("IDENTITY_HEADER", "wrong")
	if _, err := ask(t, managed(nil), h.unasked(t)); err == nil || !strings.Contains(err.Error(), "401") {
		t.Errorf("a wrong header: %v", err)
	}
}

func TestA37ManagedIdentityCredentialOfAzidentityOnAMachine(t *testing.T) {
	h, c, opt := live(t, func(o *Options) { o.IMDS = []string{"sender"} })
	u, other := h.identity(t, "sender"), h.identity(t, "other")
	for _, name := range []string{"IDENTITY_ENDPOINT", "IDENTITY_HEADER", "MSI_ENDPOINT", "IMDS_ENDPOINT"} {
		t.Setenv(name, "") // restored afterwards
		os.Unsetenv(name)
	}
	managed := func(id azidentity.ManagedIDKind) *azidentity.ManagedIdentityCredential {
		return must(azidentity.NewManagedIdentityCredential(&azidentity.ManagedIdentityCredentialOptions{ClientOptions: opt, ID: id}))(t)
	}
	wantCached(t, h, c, managed(nil), h.unasked(t), u.ClientID)
	wantCached(t, h, c, managed(azidentity.ClientID(u.ClientID)), h.unasked(t), u.ClientID)
	wantCached(t, h, c, managed(azidentity.ResourceID(u.ID)), h.unasked(t), u.ClientID)
	if _, err := ask(t, managed(azidentity.ClientID(other.ClientID)), h.unasked(t)); err == nil || !strings.Contains(err.Error(), "the requested identity isn't assigned to this resource") {
		t.Errorf("an identity that is not on the list: %v", err)
	}
}
