package reference

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"tabard/guard"
	"tabard/guard/reason"
	"tabard/internal/directory"
	"tabard/internal/fabric"
	"tabard/internal/identity"
	"tabard/internal/keyvault"
	"tabard/internal/localca"
	"tabard/internal/settings"
	"tabard/internal/store"
	"tabard/internal/tokenservice"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	testTenant       = "aaaa0000-0000-4000-8000-00000000000a"
	testSubscription = "11111111-2222-4333-8444-555555555555"
	testAuthority    = "https://login.wps.test:8443"
	adminText        = "the-admin-token"
	embeddedDomain   = "kv.wps.test:8081" // nobody listens there: its vaults are read in process
	outerDomain      = "kv.outer.test"    // vaults of another installation, over TLS
)

var errNoIdentity = errors.New("no identity")

type lockedBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}

// A world is a resolver on real settings, identities and vaults. One more vault stands outside, behind real TLS.
type world struct {
	t         testing.TB
	settings  *settings.Settings
	directory *directory.Directory
	tokens    *tokenservice.Service
	vaults    *keyvault.Vaults
	resolver  *Resolver
	log       *lockedBuffer
	outer     *outside

	mu    sync.Mutex // guards the following
	asked []string   // resources
}

// An outside is a server at every host of Azure and of outerDomain.
type outside struct {
	domain  string // outerDomain with its port
	vaults  *keyvault.Vaults
	road    *http.Transport
	mu      sync.Mutex // guards all below
	handler http.Handler
	calls   []string // "GET host/path 200", those with a token
	tokens  []string // that arrived
	busy    int
	most    int // at once
}

func quick(o *Options) {
	o.RetryMin, o.RetryMax = time.Millisecond, 20*time.Millisecond
}

func newWorld(t testing.TB, edit ...func(*Options)) *world {
	t.Helper()
	ctx, dir := context.Background(), t.TempDir()
	check := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	w := &world{t: t, log: &lockedBuffer{}}
	f, err := fabric.Open(ctx, fabric.Options{DataDir: dir})
	check(err)
	t.Cleanup(f.Close)
	st, err := store.Open(ctx, f, store.MasterKeyFile(filepath.Join(dir, "master.key")), nil)
	check(err)
	t.Cleanup(st.Close)
	w.settings, err = settings.Open(ctx, st, settings.Options{SubscriptionID: testSubscription})
	check(err)
	w.outer = &outside{}
	w.directory, err = directory.Open(ctx, st, directory.Options{TenantID: testTenant, VaultResources: func() []string { return []string{"https://" + w.outer.domain} }})
	check(err)
	w.tokens, err = tokenservice.New(ctx, st, w.directory, tokenservice.Options{Authority: func() string { return testAuthority }})
	check(err)
	t.Cleanup(w.tokens.Close)
	log := slog.New(slog.NewJSONHandler(w.log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	w.vaults, err = keyvault.Open(ctx, st, w.vaultOptions(keyvault.Resource, embeddedDomain, log))
	check(err)
	t.Cleanup(w.vaults.Close)
	w.startOutside(dir)

	opt := Options{
		Vaults: w.vaults, Settings: w.settings.Snapshot, Identity: w.token, NoIdentity: errNoIdentity, Log: log, Transport: w.outer.road,
		Locate: func(host string) (string, bool) {
			if host == embeddedDomain {
				return keyvault.DefaultVault, true
			}
			return strings.CutSuffix(host, "."+embeddedDomain)
		},
		Domains: []Domain{{Suffix: w.outer.domain, Resource: "https://" + w.outer.domain}},
	}
	for _, e := range edit {
		e(&opt)
	}
	w.system()
	w.resolver = NewResolver(opt)
	w.resolver.Begin()
	t.Cleanup(w.resolver.Close)
	w.settings.OnChange(w.resolver.Changed)
	return w
}

// vaultOptions are those of an installation of vaults that takes this tenant's tokens for one audience.
func (w *world) vaultOptions(audience, domain string, log *slog.Logger) keyvault.Options {
	verifier, err := guard.NewVerifier(guard.Trust{
		Issuers: guard.Authority(testAuthority, testTenant), Audiences: []string{audience}, Transport: inProcess{w.tokens.Handler()},
	})
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(verifier.Close)
	return keyvault.Options{
		Verify: verifier.Verify, Authority: func() string { return testAuthority }, TenantID: testTenant, SubscriptionID: testSubscription, Log: log,
		Admin:  func(r *http.Request) bool { return r.Header.Get("Authorization") == "Bearer "+adminText },
		Origin: func(vault string) string { return "https://" + strings.ToLower(vault) + "." + domain },
	}
}

type inProcess struct{ handler http.Handler }

func (p inProcess) RoundTrip(r *http.Request) (*http.Response, error) {
	w := httptest.NewRecorder()
	p.handler.ServeHTTP(w, r)
	return w.Result(), nil
}

func (w *world) startOutside(dir string) {
	o := w.outer
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		w.t.Fatal(err)
	}
	o.domain = fmt.Sprintf("%s:%d", outerDomain, listener.Addr().(*net.TCPAddr).Port)
	f, err := fabric.Open(context.Background(), fabric.Options{DataDir: filepath.Join(dir, "outer")})
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(f.Close)
	st, err := store.Open(context.Background(), f, store.MasterKeyFile(filepath.Join(dir, "outer", "master.key")), nil)
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(st.Close)
	if o.vaults, err = keyvault.Open(context.Background(), st, w.vaultOptions("https://"+o.domain, o.domain, nil)); err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(o.vaults.Close)
	o.handler = o.vaults.Handler(func(r *http.Request) (string, bool) {
		host, _, _ := net.SplitHostPort(r.Host)
		return strings.CutSuffix(host, "."+outerDomain)
	})
	ca, err := localca.Open(dir, []string{"*." + outerDomain, "*.vault.azure.net"})
	if err != nil {
		w.t.Fatal(err)
	}
	server := httptest.NewUnstartedServer(o)
	server.Listener.Close()
	server.Listener, server.TLS = listener, ca.TLSConfig()
	server.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, 0)
	server.StartTLS()
	o.road = &http.Transport{
		DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, network, listener.Addr().String())
		},
		TLSClientConfig: &tls.Config{RootCAs: ca.Pool()}, MaxIdleConnsPerHost: 64,
	}
	w.t.Cleanup(func() { o.road.CloseIdleConnections(); server.Close() })
}

func (o *outside) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	o.mu.Lock()
	handler := o.handler
	o.busy++
	o.most = max(o.most, o.busy)
	if token := r.Header.Get("Authorization"); token != "" {
		o.calls = append(o.calls, r.Method+" "+r.Host+r.URL.Path)
		o.tokens = append(o.tokens, strings.TrimPrefix(token, "Bearer "))
	}
	o.mu.Unlock()
	handler.ServeHTTP(w, r)
	o.mu.Lock()
	o.busy--
	o.mu.Unlock()
}

func (o *outside) answer(h http.HandlerFunc) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.handler = h
}

// received are the tokens that came.
func (o *outside) received() []string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return slices.Clone(o.tokens)
}

func (o *outside) count() int {
	o.mu.Lock()
	defer o.mu.Unlock()
	return len(o.calls)
}

// azure answers in the shapes of the real service, as recorded from it: the challenge, then whatever reply does.
func azure(reply http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json; charset=utf-8")
		w.Header().Set("X-Ms-Keyvault-Region", "westeurope")
		w.Header().Set("X-Ms-Keyvault-Service-Version", "1.9.2300.1")
		w.Header().Set("Strict-Transport-Security", "max-age=31536000;includeSubDomains")
		if r.Header.Get("Authorization") == "" {
			w.Header().Set("WWW-Authenticate", `Bearer authorization="https://login.windows.net/`+testTenant+`", resource="https://vault.azure.net"`)
			w.WriteHeader(401)
			io.WriteString(w, `{"error":{"code":"Unauthorized","message":"AKV10000: Request is missing a Bearer or PoP token."}}`)
			return
		}
		reply(w, r)
	}
}

func azureSecret(value string) http.HandlerFunc {
	return azure(func(w http.ResponseWriter, r *http.Request) {
		text, _ := json.Marshal(value)
		fmt.Fprintf(w, `{"value":%s,"id":"https://%s%s","attributes":{"enabled":true,"created":1790000000,"updated":1790000000,"recoveryLevel":"Recoverable+Purgeable","recoverableDays":90},"tags":{}}`,
			text, r.Host, strings.TrimSuffix(r.URL.Path, "/")+"/4387e9f3d6e14c459867679a90fd0f79")
	})
}

func azureError(status int, body string, headers ...string) http.HandlerFunc {
	return azure(func(w http.ResponseWriter, r *http.Request) {
		for i := 0; i < len(headers); i += 2 {
			w.Header().Set(headers[i], headers[i+1])
		}
		w.WriteHeader(status)
		io.WriteString(w, body)
	})
}

// token is a managed identity's, of the real token service.
func (w *world) token(ctx context.Context, in *settings.Instance, resource string) (*identity.Token, error) {
	w.mu.Lock()
	w.asked = append(w.asked, resource)
	w.mu.Unlock()
	p := identity.Principal{TenantID: testTenant, PrincipalID: in.Identity.PrincipalID, ClientID: in.Identity.ClientID, ResourceID: in.ResourceID(), System: true}
	if in.Identity.Type == settings.IdentityUserAssigned {
		u, ok := w.directory.UserAssignedIdentity(in.Identity.UserAssigned)
		if !ok {
			return nil, fmt.Errorf("%w: it does not exist any more", errNoIdentity)
		}
		p = identity.Principal{TenantID: testTenant, PrincipalID: u.PrincipalID, ClientID: u.ClientID, ResourceID: u.ID, HostResourceID: in.ResourceID()}
	}
	return w.tokens.Token(ctx, p, resource)
}

// system gives the default instance a system-assigned identity.
func (w *world) system() {
	w.t.Helper()
	p, err := w.directory.CreateManagedIdentity(context.Background(), "default", w.instance().ResourceID(), false)
	if err != nil {
		w.t.Fatal(err)
	}
	w.update(func(in *settings.Instance) {
		in.Identity = settings.Identity{Type: settings.IdentitySystemAssigned, PrincipalID: p.ID, ClientID: p.AppID, TenantID: testTenant}
	})
}

func (w *world) instance() *settings.Instance {
	in, _ := w.settings.Snapshot().Instance(settings.DefaultInstance)
	return in
}

func (w *world) update(edit func(*settings.Instance)) {
	w.t.Helper()
	if _, err := w.settings.Update(context.Background(), settings.DefaultInstance, func(in *settings.Instance) error { edit(in); return nil }); err != nil {
		w.t.Fatal(err)
	}
}

// hub makes a hub's one handler refer to secrets.
func (w *world) hub(name string, uris ...string) {
	w.t.Helper()
	template := "https://handler.example/{hub}?x=1"
	for _, uri := range uris {
		template += "&code={@Microsoft.KeyVault(SecretUri=" + uri + ")}"
	}
	_, _, err := w.settings.UpdateHub(context.Background(), settings.DefaultInstance, name, func(h *settings.Hub) error {
		h.EventHandlers = []*settings.EventHandler{{URLTemplate: template, UserEventPattern: "*"}}
		return nil
	})
	if err != nil {
		w.t.Fatal(err)
	}
}

// put sets a secret of an embedded vault and returns its version.
func (w *world) put(vault, name, value string) string {
	return set(w.t, w.vaults, vault, name, `{"value":"`+value+`"}`)
}

// set puts a secret by way of the API, as the administrator.
func set(t testing.TB, v *keyvault.Vaults, vault, name, body string) string {
	t.Helper()
	status, text := ask(v, vault, "PUT", "/secrets/"+name, body)
	var bundle struct{ ID string }
	if json.Unmarshal([]byte(text), &bundle); status != 200 {
		t.Fatalf("set: %d %s", status, text)
	}
	return bundle.ID[strings.LastIndexByte(bundle.ID, '/')+1:]
}

func ask(v *keyvault.Vaults, vault, method, path, body string) (int, string) {
	r := httptest.NewRequest(method, "https://"+vault+".x"+path+"?api-version=7.4", strings.NewReader(body))
	r.Header.Set("Authorization", "Bearer "+adminText)
	w := httptest.NewRecorder()
	v.Handler(func(*http.Request) (string, bool) { return vault, true }).ServeHTTP(w, r)
	return w.Code, w.Body.String()
}

// grant gives the default instance's identity permissions in a vault, which is made if it is missing.
func (w *world) grant(v *keyvault.Vaults, vault string, secrets ...string) {
	w.t.Helper()
	if _, ok := v.Vault(vault); !ok {
		if _, _, err := v.PutVault(context.Background(), keyvault.Vault{Name: vault, SubscriptionID: testSubscription, ResourceGroup: "default", Location: "local"}); err != nil {
			w.t.Fatal(err)
		}
	}
	oid := w.instance().Identity.PrincipalID
	if u, ok := w.directory.UserAssignedIdentity(w.instance().Identity.UserAssigned); ok {
		oid = u.PrincipalID
	}
	_, err := v.EditPolicies(context.Background(), vault, "replace", []keyvault.AccessPolicy{{TenantID: testTenant, ObjectID: oid, Permissions: keyvault.Permissions{Secrets: secrets}}})
	if err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) secret(uri string) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	return w.resolver.Secret(ctx, w.instance(), uri)
}

func (w *world) want(uri, value string) {
	w.t.Helper()
	if got, err := w.secret(uri); err != nil || got != value {
		w.t.Fatalf("%s is %q, %v; want %q", uri, got, err, value)
	}
}

// refused wants an error with a code, and returns it.
func (w *world) refused(uri string, code reason.Code) *Error {
	w.t.Helper()
	got, err := w.secret(uri)
	var e *Error
	if !errors.As(err, &e) || got != "" || e.Code != code {
		w.t.Fatalf("%s is %q, %v; want %s", uri, got, err, code)
	}
	return e
}

// status is that of the one secret that is referred to.
func (w *world) status() Status {
	w.t.Helper()
	list := w.resolver.Statuses(w.instance())
	if len(list) != 1 {
		w.t.Fatalf("statuses %+v, want one", list)
	}
	return list[0]
}

// eventually polls until cond holds.
func (w *world) eventually(what string, cond func() bool) {
	w.t.Helper()
	deadline := time.Now().Add(time.Minute)
	for !cond() {
		if time.Now().After(deadline) {
			w.t.Fatalf("%s did not happen; log: %s", what, w.log)
		}
		time.Sleep(2 * time.Millisecond) // a poll, bounded by the deadline
	}
}
