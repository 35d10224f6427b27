package keyvault

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"go.uber.org/goleak"

	"tabard/guard"
	"tabard/internal/directory"
	"tabard/internal/fabric"
	"tabard/internal/identity"
	"tabard/internal/localca"
	"tabard/internal/rbac"
	"tabard/internal/store"
	"tabard/internal/tokenservice"
)

func TestMain(m *testing.M) {
	if childDir() != "" {
		child()
		return
	}
	goleak.VerifyTestMain(m)
}

const (
	testTenant       = "aaaa0000-0000-4000-8000-00000000000a"
	testSubscription = "11111111-2222-4333-8444-555555555555"
	testAuthority    = "https://login.wps.test:8443"
	testDomain       = "kv.wps.test"
	adminText        = "the-admin-token"
	latest           = "?api-version=2026-04-01"
)

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

// A clock that tests turn; it stands still otherwise.
type clock struct {
	mu  sync.Mutex
	now time.Time
}

func (c *clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *clock) advance(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}

// A world is vaults on real state behind real TLS, with the real token service as their issuer.
type world struct {
	t         testing.TB
	dir       string
	store     *store.Store
	directory *directory.Directory
	tokens    *tokenservice.Service
	rbac      *rbac.RBAC
	vaults    *Vaults
	clock     *clock
	log       *lockedBuffer
	port      string // of the server, with its colon
	client    *http.Client
	plain     string // origin of the same handler without TLS
	stop      func()
}

func newWorld(t testing.TB, edit ...func(*Options)) *world {
	t.Helper()
	return openWorld(t, t.TempDir(), edit...)
}

func openWorld(t testing.TB, dir string, edit ...func(*Options)) *world {
	t.Helper()
	ctx := context.Background()
	check := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	f, err := fabric.Open(ctx, fabric.Options{DataDir: dir})
	check(err)
	st, err := store.Open(ctx, f, store.MasterKeyFile(filepath.Join(dir, "master.key")), nil)
	check(err)
	w := &world{t: t, dir: dir, store: st, clock: &clock{now: time.Now().Truncate(time.Second)}, log: &lockedBuffer{}}
	w.directory, err = directory.Open(ctx, st, directory.Options{TenantID: testTenant, VaultResources: func() []string {
		return []string{"https://" + testDomain + w.port}
	}})
	check(err)
	w.rbac, err = rbac.Open(ctx, st, rbac.Options{})
	check(err)
	w.tokens, err = tokenservice.New(ctx, st, w.directory, tokenservice.Options{Authority: func() string { return testAuthority }})
	check(err)

	listener, err := net.Listen("tcp", "127.0.0.1:0")
	check(err)
	w.port = ":" + fmt.Sprint(listener.Addr().(*net.TCPAddr).Port)
	verifier, err := guard.NewVerifier(guard.Trust{
		Issuers:   guard.Authority(testAuthority, testTenant),
		Audiences: []string{Resource, Resource + "/", "cfa8b339-82a2-471a-a3c9-0fc0be7a4093", "https://" + testDomain + w.port},
		Transport: inProcess{w.tokens.Handler()},
	})
	check(err)
	opt := Options{
		Verify:    verifier.Verify,
		Admin:     func(r *http.Request) bool { return r.Header.Get("Authorization") == "Bearer "+adminText },
		Authorize: func(tenant, oid, scope, action string) bool { return w.rbac.Allowed(oid, scope, action, true) },
		Authority: func() string { return testAuthority }, TenantID: testTenant, SubscriptionID: testSubscription,
		Origin: w.origin,
		Log:    slog.New(slog.NewJSONHandler(w.log, &slog.HandlerOptions{Level: slog.LevelDebug})),
		Now:    w.clock.Now,
	}
	for _, e := range edit {
		e(&opt)
	}
	w.vaults, err = Open(ctx, st, opt)
	check(err)

	handler := w.vaults.Handler(w.resolve)
	ca, err := localca.Open(dir, []string{testDomain, "*." + testDomain})
	check(err)
	server := httptest.NewUnstartedServer(handler)
	server.Listener.Close()
	server.Listener, server.TLS = listener, ca.TLSConfig()
	server.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, 0)
	server.StartTLS()
	plain := httptest.NewServer(handler)
	w.plain = plain.URL
	// Every name leads to the server, as it would with a wildcard in DNS.
	w.client = &http.Client{Transport: &http.Transport{
		DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, network, listener.Addr().String())
		},
		TLSClientConfig: &tls.Config{RootCAs: ca.Pool()}, MaxIdleConnsPerHost: 64,
	}}
	var once sync.Once
	w.stop = func() {
		once.Do(func() {
			w.client.CloseIdleConnections()
			server.Close()
			plain.Close()
			w.vaults.Close()
			verifier.Close()
			w.tokens.Close()
			st.Close()
			f.Close()
		})
	}
	t.Cleanup(w.stop)
	return w
}

type inProcess struct{ handler http.Handler }

func (p inProcess) RoundTrip(r *http.Request) (*http.Response, error) {
	w := httptest.NewRecorder()
	p.handler.ServeHTTP(w, r)
	return w.Result(), nil
}

func (w *world) origin(vault string) string {
	if strings.EqualFold(vault, DefaultVault) {
		return "https://" + testDomain + w.port
	}
	return "https://" + strings.ToLower(vault) + "." + testDomain + w.port
}

// resolve knows the bare domain and what is before it.
func (w *world) resolve(r *http.Request) (string, bool) {
	host, _, err := net.SplitHostPort(r.Host)
	if err != nil {
		host = r.Host
	}
	if host == testDomain || host == "127.0.0.1" {
		return DefaultVault, true
	}
	label, domain, _ := strings.Cut(strings.ToLower(host), ".")
	return label, domain == testDomain
}

// vault creates a vault.
func (w *world) vault(name string, edit ...func(*Vault)) *Vault {
	w.t.Helper()
	n := Vault{Name: name, SubscriptionID: testSubscription, ResourceGroup: "default", Location: "local"}
	for _, e := range edit {
		e(&n)
	}
	v, _, err := w.vaults.PutVault(context.Background(), n)
	if err != nil {
		w.t.Fatal(err)
	}
	return v
}

// identity creates a user-assigned identity.
func (w *world) identity(name string) identity.Principal {
	w.t.Helper()
	u, _, err := w.directory.PutUserAssignedIdentity(context.Background(), directory.UserAssignedIdentity{
		ID: "/subscriptions/" + testSubscription + "/resourceGroups/default/providers/Microsoft.ManagedIdentity/userAssignedIdentities/" + name, Location: "local",
	})
	if err != nil {
		w.t.Fatal(err)
	}
	return identity.Principal{TenantID: testTenant, PrincipalID: u.PrincipalID, ClientID: u.ClientID, ResourceID: u.ID, HostResourceID: "/subscriptions/" + testSubscription}
}

// grant gives an identity permissions in a vault.
func (w *world) grant(vault string, p identity.Principal, secrets ...string) {
	w.t.Helper()
	_, err := w.vaults.EditPolicies(context.Background(), vault, "replace", []AccessPolicy{{TenantID: testTenant, ObjectID: p.PrincipalID, Permissions: Permissions{Secrets: secrets}}})
	if err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) token(p identity.Principal, resource string) string {
	w.t.Helper()
	tok, err := w.tokens.Token(context.Background(), p, resource)
	if err != nil {
		w.t.Fatal(err)
	}
	return tok.Raw
}

// A user is an identity at a vault.
type user struct {
	w     *world
	vault string
	token string
}

// user returns somebody with a token and the given permissions in a vault.
func (w *world) user(vault string, secrets ...string) *user {
	w.t.Helper()
	p := w.identity("id-" + uuid.NewString()[:8])
	if len(secrets) > 0 {
		w.grant(vault, p, secrets...)
	}
	return &user{w, vault, w.token(p, Resource)}
}

// owner may do everything.
func (w *world) owner(vault string) *user { return w.user(vault, "all", "purge") }

// An answer is a response, read.
type answer struct {
	t      testing.TB
	status int
	header http.Header
	text   string
	body   map[string]any
}

func (u *user) do(method, path string, body string, headers ...string) *answer {
	u.w.t.Helper()
	origin := u.w.origin(u.vault)
	if strings.HasPrefix(path, "https://") { // a link
		origin, path = "", strings.Replace(path, ":443/", "/", 1)
	}
	return u.w.send(method, origin+path, u.token, body, headers...)
}

func (w *world) send(method, url, token, body string, headers ...string) *answer {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, method, url, strings.NewReader(body))
	if err != nil {
		w.t.Fatal(err)
	}
	if token != "" {
		r.Header.Set("Authorization", "Bearer "+token)
	}
	if body != "" {
		r.Header.Set("Content-Type", "application/json")
	}
	for i := 0; i < len(headers); i += 2 {
		if headers[i] == "Host" {
			r.Host = headers[i+1]
		}
		r.Header.Set(headers[i], headers[i+1])
	}
	res, err := w.client.Transport.RoundTrip(r)
	if err != nil {
		w.t.Fatal(err)
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	if err != nil {
		w.t.Fatal(err)
	}
	a := &answer{t: w.t, status: res.StatusCode, header: res.Header, text: string(text)}
	if len(text) > 0 {
		if err := json.Unmarshal(text, &a.body); err != nil {
			w.t.Fatalf("%s %s: %v in %s", method, url, err, text)
		}
	}
	return a
}

func (a *answer) want(status int) *answer {
	a.t.Helper()
	if a.status != status {
		a.t.Fatalf("status %d, want %d: %s", a.status, status, a.text)
	}
	return a
}

// refused wants an error with these codes; inner may be empty.
func (a *answer) refused(status int, code, inner string) *answer {
	a.t.Helper()
	a.want(status)
	if a.get("error.code") != code || inner != "" && a.get("error.innererror.code") != inner || inner == "" && a.get("error.innererror") != nil {
		a.t.Fatalf("want %s, %s: %s", code, inner, a.text)
	}
	if m, _ := a.get("error.message").(string); m == "" {
		a.t.Errorf("no message: %s", a.text)
	}
	return a
}

func (a *answer) get(path string) any {
	var v any = a.body
	for name := range strings.SplitSeq(path, ".") {
		m, ok := v.(map[string]any)
		if !ok {
			return nil
		}
		v = m[name]
	}
	return v
}

func (a *answer) is(path string, want any) *answer {
	a.t.Helper()
	got, _ := json.Marshal(a.get(path))
	wanted, _ := json.Marshal(want)
	if !bytes.Equal(got, wanted) {
		a.t.Errorf("%s is %s, want %s: %s", path, got, wanted, a.text)
	}
	return a
}

func (a *answer) str(path string) string {
	a.t.Helper()
	s, ok := a.get(path).(string)
	if !ok {
		a.t.Fatalf("%s is no string: %s", path, a.text)
	}
	return s
}

func (a *answer) list() []any {
	a.t.Helper()
	list, ok := a.get("value").([]any)
	if !ok {
		a.t.Fatalf("no list: %s", a.text)
	}
	return list
}

func (a *answer) message() string { m, _ := a.get("error.message").(string); return m }

// put sets a secret and returns its version.
func (u *user) put(name, value string) string {
	u.w.t.Helper()
	body, _ := json.Marshal(map[string]string{"value": value})
	id := u.do("PUT", "/secrets/"+name+latest, string(body)).want(200).str("id")
	return id[strings.LastIndexByte(id, '/')+1:]
}

func (u *user) value(path string) string {
	u.w.t.Helper()
	return u.do("GET", path+latest, "").want(200).str("value")
}
