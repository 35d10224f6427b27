package conformance_test

import (
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/cloud"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/runtime"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/streaming"
	"github.com/Azure/azure-sdk-for-go/sdk/azidentity"
	"github.com/lestrrat-go/jwx/v3/jwa"
	"github.com/lestrrat-go/jwx/v3/jwk"
	"github.com/lestrrat-go/jwx/v3/jwt"
)

const (
	owner  = "Web PubSub Service Owner"
	reader = "Web PubSub Service Reader"
)

// An entraApp is a client of the directory.
type entraApp struct{ AppID, ObjectID, PrincipalID, Secret string }

// app registers an application with a secret, and a role on the default instance if one is named.
func (s *service) app(t *testing.T, name, role string) entraApp {
	t.Helper()
	var a entraApp
	s.json(t, &a, "app", "create", name)
	var secret struct {
		SecretText, KeyID string
		EndDateTime       time.Time
	}
	s.json(t, &secret, "app", "secret", "create", name)
	if secret.SecretText == "" || secret.KeyID == "" || time.Until(secret.EndDateTime) < 700*24*time.Hour {
		t.Fatalf("%+v", secret)
	}
	var principal struct{ ID string }
	s.admin(t, http.MethodGet, "/v1.0/servicePrincipals(appId='"+a.AppID+"')", "", &principal)
	a.Secret, a.PrincipalID = secret.SecretText, principal.ID
	if role != "" {
		s.cli(t, "role", "assign", "--principal", a.PrincipalID, "--role", role, "--instance", "default")
	}
	return a
}

// clientSecret is the application's credential by its secret.
func (s *service) clientSecret(t *testing.T, a entraApp, options azcore.ClientOptions) azcore.TokenCredential {
	t.Helper()
	credential, err := azidentity.NewClientSecretCredential(s.TenantID, a.AppID, a.Secret, &azidentity.ClientSecretCredentialOptions{
		ClientOptions: options, DisableInstanceDiscovery: true, // which asks Microsoft about hosts that it does not know
	})
	if err != nil {
		t.Fatal(err)
	}
	return credential
}

// options point the Azure libraries at this service and nothing else.
func (s *service) options() azcore.ClientOptions {
	authority, _, _ := strings.Cut(s.Issuer, "/"+s.TenantID)
	return azcore.ClientOptions{Cloud: cloud.Configuration{ActiveDirectoryAuthorityHost: authority + "/"}, Transport: s.client, Retry: policy.RetryOptions{MaxRetries: -1}}
}

// An issuer is somebody else's: a cluster that gives its pods tokens.
type issuer struct {
	*httptest.Server
	key jwk.Key
}

func newIssuer(t *testing.T) (*issuer, string) {
	t.Helper()
	private, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	i := &issuer{}
	if i.key, err = jwk.Import(private); err != nil {
		t.Fatal(err)
	}
	_ = i.key.Set(jwk.KeyIDKey, "pods")
	public, err := i.key.PublicKey()
	if err != nil {
		t.Fatal(err)
	}
	set := jwk.NewSet()
	_ = set.AddKey(public)
	i.Server = httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/.well-known/openid-configuration":
			_ = json.NewEncoder(w).Encode(map[string]string{"issuer": i.URL, "jwks_uri": i.URL + "/keys"})
		case "/keys":
			_ = json.NewEncoder(w).Encode(set)
		default:
			http.NotFound(w, r)
		}
	}))
	t.Cleanup(i.Close)
	file := filepath.Join(t.TempDir(), "issuer.pem")
	if err := os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: i.Certificate().Raw}), 0o600); err != nil {
		t.Fatal(err)
	}
	return i, file
}

func (i *issuer) token(t *testing.T, subject string) string {
	t.Helper()
	now := time.Now()
	token, err := jwt.NewBuilder().Issuer(i.URL).Subject(subject).Audience([]string{"api://AzureADTokenExchange"}).IssuedAt(now).Expiration(now.Add(time.Hour)).Build()
	if err != nil {
		t.Fatal(err)
	}
	signed, err := jwt.Sign(token, jwt.WithKey(jwa.RS256(), i.key))
	if err != nil {
		t.Fatal(err)
	}
	return string(signed)
}

// worker is a certificate and its key.
func worker(t *testing.T) (*x509.Certificate, *rsa.PrivateKey) {
	t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "worker"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	certificate, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return certificate, key
}

func TestEveryCredentialOfAzidentityGetsTokensThatOthersVerify(t *testing.T) {
	pods, ca := newIssuer(t)
	s := start(t, "--handler-ca", ca, "--token-lifetime", "5m", "--client-token-lifetime", "5m")
	s.cli(t, "app", "create", "one", "--identifier-uri", "api://one")
	var two struct{ AppID string }
	s.json(t, &two, "app", "create", "two", "--identifier-uri", "api://two", "--token-version", "2")
	client := s.app(t, "client", "")
	certificate, key := worker(t)
	file := filepath.Join(t.TempDir(), "worker.pem")
	if err := os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: certificate.Raw}), 0o600); err != nil {
		t.Fatal(err)
	}
	s.cli(t, "app", "certificate", "add", "client", file)
	const subject = "system:serviceaccount:shop:worker"
	s.cli(t, "app", "federated", "create", "client", "pod", "--issuer", pods.URL, "--subject", subject)
	var robot struct{ ClientID, PrincipalID string }
	s.json(t, &robot, "identity", "create", "robot")
	s.cli(t, "identity", "federated", "create", "robot", "pod", "--issuer", pods.URL, "--subject", subject)
	tokenFile := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(tokenFile, []byte(pods.token(t, subject)+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	options := s.options()
	workload := func(clientID string) func() (azcore.TokenCredential, error) {
		return func() (azcore.TokenCredential, error) {
			return azidentity.NewWorkloadIdentityCredential(&azidentity.WorkloadIdentityCredentialOptions{
				ClientOptions: options, ClientID: clientID, TenantID: s.TenantID, TokenFilePath: tokenFile, DisableInstanceDiscovery: true,
			})
		}
	}
	for _, row := range []struct {
		name, principal string
		credential      func() (azcore.TokenCredential, error)
	}{
		{"ClientSecretCredential", client.PrincipalID, func() (azcore.TokenCredential, error) {
			return azidentity.NewClientSecretCredential(s.TenantID, client.AppID, client.Secret, &azidentity.ClientSecretCredentialOptions{ClientOptions: options, DisableInstanceDiscovery: true})
		}},
		{"ClientCertificateCredential", client.PrincipalID, func() (azcore.TokenCredential, error) {
			return azidentity.NewClientCertificateCredential(s.TenantID, client.AppID, []*x509.Certificate{certificate}, key, &azidentity.ClientCertificateCredentialOptions{ClientOptions: options, DisableInstanceDiscovery: true})
		}},
		{"WorkloadIdentityCredential of an application", client.PrincipalID, workload(client.AppID)},
		{"WorkloadIdentityCredential of an identity", robot.PrincipalID, workload(robot.ClientID)},
		{"ManagedIdentityCredential", robot.PrincipalID, func() (azcore.TokenCredential, error) {
			for line := range strings.SplitSeq(s.cli(t, "identity", "env", "robot"), "\n") {
				name, value, _ := strings.Cut(line, "=")
				t.Setenv(name, value)
			}
			return azidentity.NewManagedIdentityCredential(&azidentity.ManagedIdentityCredentialOptions{ClientOptions: options})
		}},
		{"DefaultAzureCredential with a secret", client.PrincipalID, func() (azcore.TokenCredential, error) {
			t.Setenv("AZURE_TENANT_ID", s.TenantID)
			t.Setenv("AZURE_CLIENT_ID", client.AppID)
			t.Setenv("AZURE_CLIENT_SECRET", client.Secret)
			return azidentity.NewDefaultAzureCredential(&azidentity.DefaultAzureCredentialOptions{ClientOptions: options, DisableInstanceDiscovery: true})
		}},
	} {
		t.Run(row.name, func(t *testing.T) {
			credential, err := row.credential()
			if err != nil {
				t.Fatal(err)
			}
			for _, want := range []struct{ scope, issuer, audience string }{{"api://one/.default", s.Issuer, "api://one"}, {"api://two/.default", s.IssuerV2, two.AppID}} {
				token := get(t, credential, want.scope)
				withOIDC(t, s, token, want.issuer, want.audience, row.principal)
				withJWX(t, s, token, want.issuer, want.audience, row.principal)
				withIdentityModel(t, s, token, want.issuer, want.audience, row.principal)
				if again := get(t, credential, want.scope); again == token {
					t.Error("a token within five minutes of its end was handed out again")
				}
			}
		})
	}
}

func get(t *testing.T, credential azcore.TokenCredential, scope string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	token, err := credential.GetToken(ctx, policy.TokenRequestOptions{Scopes: []string{scope}})
	if err != nil {
		t.Fatal(err)
	}
	return token.Token
}

func TestRolesOnTheDataPlaneThroughAzcoresOwnPolicies(t *testing.T) {
	s := start(t)
	credential := func(a entraApp) azcore.TokenCredential { return s.clientSecret(t, a, s.options()) }
	read, send := [2]string{http.MethodHead, "/api/hubs/chat/groups/none"}, [2]string{http.MethodPost, "/api/hubs/chat/:send"}
	token := [2]string{http.MethodPost, "/api/hubs/chat/:generateToken"}
	const scope, elsewhere = "https://webpubsub.azure.com/.default", "https://vault.azure.net/.default"
	owning, reading, nobody := credential(s.app(t, "owner", owner)), credential(s.app(t, "reader", reader)), credential(s.app(t, "nobody", ""))
	for _, row := range []struct {
		name       string
		credential azcore.TokenCredential
		scope      string
		call       [2]string
		status     int
		says       string
	}{
		{"an owner reads", owning, scope, read, 404, ""}, // there is no such group
		{"an owner sends", owning, scope, send, 202, ""},
		{"an owner makes tokens", owning, scope, token, 200, ""},
		{"a reader reads", reading, scope, read, 404, ""},
		{"a reader does not send", reading, scope, send, 403, "Microsoft.SignalRService/WebPubSub/hub/send/action"},
		{"a reader makes no tokens", reading, scope, token, 403, "Microsoft.SignalRService/WebPubSub/clientConnection/generateToken/action"},
		{"who has no role does not read", nobody, scope, read, 403, ""},
		{"who has no role does not send", nobody, scope, send, 403, "Microsoft.SignalRService/WebPubSub/hub/send/action"},
		{"a token for another resource", owning, elsewhere, send, 401, "Audience is"},
	} {
		t.Run(row.name, func(t *testing.T) {
			options := azcore.ClientOptions{Transport: s.client, Retry: policy.RetryOptions{MaxRetries: -1}}
			pipeline := runtime.NewPipeline("conformance", "v1", runtime.PipelineOptions{PerRetry: []policy.Policy{runtime.NewBearerTokenPolicy(row.credential, []string{row.scope}, nil)}}, &options)
			req, err := runtime.NewRequest(t.Context(), row.call[0], s.HTTPSEndpoint+row.call[1]+"?api-version=2024-12-01")
			if err != nil {
				t.Fatal(err)
			}
			if row.call == send {
				if err := req.SetBody(streaming.NopCloser(strings.NewReader("hello")), "text/plain"); err != nil {
					t.Fatal(err)
				}
			}
			res, err := pipeline.Do(req)
			if err != nil {
				t.Fatal(err)
			}
			body, err := io.ReadAll(res.Body)
			res.Body.Close()
			if err != nil || res.StatusCode != row.status || !strings.Contains(string(body), row.says) {
				t.Errorf("%d %s %v, want %d and %q", res.StatusCode, body, err, row.status, row.says)
			}
		})
	}
}

func TestRefusalsOfTheTokenEndpointReachTheProgram(t *testing.T) {
	s := start(t)
	client := s.app(t, "client", "")
	stranger, key := worker(t)
	for code, make := range map[string]func() (azcore.TokenCredential, error){
		"AADSTS7000215": func() (azcore.TokenCredential, error) {
			return azidentity.NewClientSecretCredential(s.TenantID, client.AppID, "wrong", &azidentity.ClientSecretCredentialOptions{ClientOptions: s.options(), DisableInstanceDiscovery: true})
		},
		"AADSTS700016": func() (azcore.TokenCredential, error) {
			return azidentity.NewClientSecretCredential(s.TenantID, "aaaa0000-0000-4000-8000-00000000000a", client.Secret, &azidentity.ClientSecretCredentialOptions{ClientOptions: s.options(), DisableInstanceDiscovery: true})
		},
		"AADSTS700027": func() (azcore.TokenCredential, error) {
			return azidentity.NewClientCertificateCredential(s.TenantID, client.AppID, []*x509.Certificate{stranger}, key, &azidentity.ClientCertificateCredentialOptions{ClientOptions: s.options(), DisableInstanceDiscovery: true})
		},
	} {
		credential, err := make()
		if err != nil {
			t.Fatal(err)
		}
		_, err = credential.GetToken(t.Context(), policy.TokenRequestOptions{Scopes: []string{"https://webpubsub.azure.com/.default"}})
		var failed *azidentity.AuthenticationFailedError
		if !errors.As(err, &failed) || !strings.Contains(fmt.Sprint(err), code) {
			t.Errorf("%v, want %s", err, code)
		}
	}
}
