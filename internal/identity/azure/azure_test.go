package azure

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"go.uber.org/goleak"

	"tabard/internal/directory"
	"tabard/internal/fabric"
	"tabard/internal/identity"
	"tabard/internal/store"
	"tabard/internal/tokenservice"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// platform is our own App Service endpoint, for one user-assigned identity, as the process's environment names it.
func platform(t *testing.T) (*directory.Directory, directory.UserAssignedIdentity) {
	t.Helper()
	dir := t.TempDir()
	f, err := fabric.Open(t.Context(), fabric.Options{DataDir: dir})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(f.Close)
	st, err := store.Open(t.Context(), f, store.MasterKeyFile(filepath.Join(dir, "master.key")), nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(st.Close)
	d, err := directory.Open(t.Context(), st, directory.Options{})
	if err != nil {
		t.Fatal(err)
	}
	var origin string
	tokens, err := tokenservice.New(t.Context(), st, d, tokenservice.Options{
		Authority: func() string { return "https://login.wps.test" }, WorkloadOrigin: func() string { return origin },
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(tokens.Close)
	server := httptest.NewServer(tokens.WorkloadHandler())
	t.Cleanup(server.Close)
	origin = server.URL
	u, _, err := d.PutUserAssignedIdentity(t.Context(), directory.UserAssignedIdentity{
		SubscriptionID: "dddd0000-0000-4000-8000-00000000000d", ResourceGroup: "default", Name: "sender", Location: "local",
	})
	if err != nil {
		t.Fatal(err)
	}
	env, err := tokens.EnvFor(t.Context(), u.ID, tokenservice.EnvOptions{})
	if err != nil {
		t.Fatal(err)
	}
	for name, value := range env {
		t.Setenv(name, value)
	}
	return d, u
}

// unasked registers a resource that nobody has asked for: azidentity remembers tokens for the whole process.
func unasked(t *testing.T, d *directory.Directory) string {
	t.Helper()
	uri := "api://" + uuid.NewString()
	app, err := d.CreateApplication(t.Context(), directory.Application{DisplayName: uri, IdentifierURIs: []string{uri}})
	if err == nil {
		_, err = d.CreateServicePrincipal(t.Context(), app.AppID)
	}
	if err != nil {
		t.Fatal(err)
	}
	return uri
}

func source(t *testing.T, opt Options) *Source {
	t.Helper()
	s, err := New(opt)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	return s
}

func TestTheManagedIdentityOfAppServiceGetsTokens(t *testing.T) {
	d, u := platform(t)
	for name, opt := range map[string]Options{"system-assigned": {}, "user-assigned": {ClientID: u.ClientID}} {
		for _, slash := range []string{"", "/"} { // the resource reaches the platform byte for byte
			resource := unasked(t, d) + slash
			tok, err := source(t, opt).Token(t.Context(), identity.Principal{}, resource)
			if err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			if !strings.Contains(string(tok.Claims), `"aud":"`+resource+`"`) || !strings.Contains(string(tok.Claims), u.PrincipalID) {
				t.Errorf("%s: %s", name, tok.Claims)
			}
			if life := time.Until(tok.ExpiresOn); life < 23*time.Hour || tok.RefreshOn.IsZero() {
				t.Errorf("%s: until %v, to be renewed at %v", name, tok.ExpiresOn, tok.RefreshOn)
			}
		}
	}
}

func TestRefusalsOfThePlatformAreToldFromPassingFaults(t *testing.T) {
	d, u := platform(t)
	_, err := source(t, Options{}).Token(t.Context(), identity.Principal{}, "api://nowhere-"+uuid.NewString())
	var refused *identity.Error
	if !errors.As(err, &refused) || refused.Code != "AADSTS500011" || !refused.Permanent || refused.CorrelationID == "" || !strings.Contains(refused.Description, "api://nowhere") {
		t.Errorf("an unknown resource: %+v", err)
	}
	_, err = source(t, Options{ClientID: uuid.NewString()}).Token(t.Context(), identity.Principal{}, unasked(t, d))
	if !errors.As(err, &refused) || !refused.Permanent || !strings.Contains(refused.Description, "Identity not found") {
		t.Errorf("another identity: %v", err)
	}
	header := os.Getenv("IDENTITY_HEADER")
	t.Setenv("IDENTITY_HEADER", "wrong")
	_, err = source(t, Options{}).Token(t.Context(), identity.Principal{}, unasked(t, d))
	if !errors.As(err, &refused) || !refused.Permanent {
		t.Errorf("a wrong header: %v", err)
	}
	t.Setenv("IDENTITY_HEADER", header)
	canceled, cancel := context.WithCancel(t.Context())
	cancel()
	_, err = source(t, Options{}).Token(canceled, identity.Principal{}, unasked(t, d))
	if err == nil || errors.As(err, &refused) && refused.Permanent {
		t.Errorf("given up: %v", err)
	}
	_ = u
}

func TestAPlatformThatIsDownOrRedirectsIsAPassingFaultAndGetsNoSecret(t *testing.T) {
	elsewhere := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		t.Errorf("a redirect was followed with header %q", r.Header.Get("X-IDENTITY-HEADER"))
	}))
	defer elsewhere.Close()
	server := httptest.NewServer(http.RedirectHandler(elsewhere.URL, http.StatusFound))
	defer server.Close()
	t.Setenv("IDENTITY_ENDPOINT", server.URL)
	t.Setenv("IDENTITY_HEADER", "secret")
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	_, err := source(t, Options{}).Token(ctx, identity.Principal{}, "api://"+uuid.NewString())
	var refused *identity.Error
	if err == nil || errors.As(err, &refused) && refused.Permanent || strings.Contains(err.Error(), "secret") {
		t.Errorf("%v", err)
	}
}

func TestAWorkloadNeedsItsEnvironment(t *testing.T) {
	for _, name := range []string{"AZURE_FEDERATED_TOKEN_FILE", "AZURE_CLIENT_ID", "AZURE_TENANT_ID"} {
		t.Setenv(name, "")
	}
	if _, err := New(Options{Workload: true}); err == nil || !strings.Contains(err.Error(), "azure identity") {
		t.Errorf("%v", err)
	}
	t.Setenv("AZURE_FEDERATED_TOKEN_FILE", "/nowhere")
	t.Setenv("AZURE_AUTHORITY_HOST", "https://127.0.0.1:1/") // nobody asks Microsoft about it
	s := source(t, Options{Workload: true, ClientID: uuid.NewString(), TenantID: uuid.NewString()})
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond) // it would try for long
	defer cancel()
	if _, err := s.Token(ctx, identity.Principal{}, "api://x"); err == nil {
		t.Error("a token came from nowhere")
	}
}

func TestOnlyMicrosoftsOwnAuthoritiesAreAskedAboutAtMicrosoft(t *testing.T) {
	for authority, want := range map[string]bool{
		"": true, "https://login.microsoftonline.com/": true, "https://login.microsoftonline.us": true, "https://login.partner.microsoftonline.cn/": true,
		"https://LOGIN.WINDOWS.NET/": true, "https://login.wps.test:8443/": false, "https://127.0.0.1:8080/": false, "https://login.microsoftonline.com.evil.example/": false,
		"https://evilmicrosoftonline.com/": false, "::": false,
	} {
		if got := isMicrosoft(authority); got != want {
			t.Errorf("%q: %v", authority, got)
		}
	}
}
