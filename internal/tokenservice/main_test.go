package tokenservice

import (
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"regexp"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"go.uber.org/goleak"

	"tabard/internal/directory"
	"tabard/internal/fabric"
	"tabard/internal/identity"
	"tabard/internal/store"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	testTenant    = "aaaa0000-0000-4000-8000-00000000000a"
	testAuthority = "https://login.wps.test:8443"
	instanceID    = "/subscriptions/dddd0000-0000-4000-8000-00000000000d/resourceGroups/default/providers/Microsoft.SignalRService/WebPubSub/default"
	identityID    = "/subscriptions/dddd0000-0000-4000-8000-00000000000d/resourceGroups/default/providers/Microsoft.ManagedIdentity/userAssignedIdentities/sender"
)

var guid = regexp.MustCompile(`^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$`)

// keyPool spares each test the search for primes. Key ids differ all the same: certificates are new.
var keyPool = sync.OnceValue(func() []*rsa.PrivateKey {
	keys := make([]*rsa.PrivateKey, 4)
	for i := range keys {
		k, err := rsa.GenerateKey(rand.Reader, keyBits)
		if err != nil {
			panic(err)
		}
		keys[i] = k
	}
	return keys
})

var keyPoolNext atomic.Int64

func pooledKey() (*rsa.PrivateKey, error) {
	pool := keyPool()
	return pool[keyPoolNext.Add(1)%int64(len(pool))], nil
}

// A clock that tests turn.
type clock struct {
	mu  sync.Mutex // guards now
	now time.Time
}

func newClock() *clock { return &clock{now: time.Date(2026, 11, 24, 6, 50, 0, 0, time.UTC)} }

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

// A house is a token service on real state.
type house struct {
	*Service
	directory *directory.Directory
	store     *store.Store
	clock     *clock
	origin    atomic.Value // of the authority
	stop      func()       // everything, before the test's end
}

func open(t testing.TB, dir string, edit func(*Options)) *house {
	t.Helper()
	f, err := fabric.Open(t.Context(), fabric.Options{DataDir: dir})
	if err != nil {
		t.Fatal(err)
	}
	st, err := store.Open(t.Context(), f, store.MasterKeyFile(filepath.Join(dir, "master.key")), nil)
	if err != nil {
		f.Close()
		t.Fatal(err)
	}
	d, err := directory.Open(t.Context(), st, directory.Options{TenantID: testTenant})
	if err != nil {
		t.Fatal(err)
	}
	h := &house{directory: d, store: st, clock: newClock()}
	h.origin.Store(testAuthority)
	h.Service = h.process(t, edit)
	h.stop = func() { h.Service.Close(); st.Close(); f.Close() }
	t.Cleanup(h.stop)
	return h
}

func start(t testing.TB) *house { return open(t, t.TempDir(), nil) }

// process is another service on the same state, as another process would be.
func (h *house) process(t testing.TB, edit func(*Options)) *Service {
	t.Helper()
	opt := Options{Authority: func() string { return h.origin.Load().(string) }, Now: h.clock.Now, generate: pooledKey}
	if edit != nil {
		edit(&opt)
	}
	s, err := New(t.Context(), h.store, h.directory, opt)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	return s
}

// serve gives the authority an address that answers.
func (h *house) serve(t testing.TB) *http.Client {
	t.Helper()
	server := httptest.NewTLSServer(h.Handler())
	t.Cleanup(server.Close)
	h.origin.Store(server.URL)
	return server.Client()
}

func (h *house) system(t testing.TB) identity.Principal {
	t.Helper()
	p, err := h.directory.CreateManagedIdentity(t.Context(), "default", instanceID, false)
	if err != nil {
		t.Fatal(err)
	}
	return identity.Principal{TenantID: testTenant, PrincipalID: p.ID, ClientID: p.AppID, ResourceID: instanceID, System: true}
}

func (h *house) user(t testing.TB) identity.Principal {
	t.Helper()
	u, _, err := h.directory.PutUserAssignedIdentity(t.Context(), directory.UserAssignedIdentity{ID: identityID, Location: "local"})
	if err != nil {
		t.Fatal(err)
	}
	return identity.Principal{TenantID: testTenant, PrincipalID: u.PrincipalID, ClientID: u.ClientID, ResourceID: u.ID, HostResourceID: instanceID}
}

func (h *house) register(t testing.TB, a directory.Application) (directory.Application, directory.ServicePrincipal) {
	t.Helper()
	a, err := h.directory.CreateApplication(t.Context(), a)
	if err != nil {
		t.Fatal(err)
	}
	p, err := h.directory.CreateServicePrincipal(t.Context(), a.AppID)
	if err != nil {
		t.Fatal(err)
	}
	return a, p
}

func (h *house) mint(t testing.TB, p identity.Principal, resource string) *identity.Token {
	t.Helper()
	tok, err := h.Token(t.Context(), p, resource)
	if err != nil {
		t.Fatal(err)
	}
	return tok
}

// A receiver verifies tokens with nothing but the address of a discovery document, as a handler would.
type receiver struct {
	client   *http.Client
	document string
}

// verify returns header and claims of a token, or why it is refused.
func (r receiver) verify(ctx context.Context, raw string) (jose.Header, map[string]any, error) {
	var doc struct{ Issuer, Jwks_uri string }
	if err := getJSON(ctx, r.client, r.document, &doc); err != nil {
		return jose.Header{}, nil, err
	}
	var set jose.JSONWebKeySet
	if err := getJSON(ctx, r.client, doc.Jwks_uri, &set); err != nil {
		return jose.Header{}, nil, err
	}
	jws, err := jose.ParseSignedCompact(raw, []jose.SignatureAlgorithm{jose.RS256})
	if err != nil {
		return jose.Header{}, nil, err
	}
	payload, err := jws.Verify(&set)
	if err != nil {
		return jose.Header{}, nil, err
	}
	var claims map[string]any
	return jws.Signatures[0].Protected, claims, json.Unmarshal(payload, &claims)
}

func getJSON(ctx context.Context, c *http.Client, url string, into any) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	resp, err := c.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return err
	}
	return json.Unmarshal(body, into)
}

// do sends a request to the handler itself, as if over TLS.
func (h *house) do(method, target string, edit func(*http.Request)) *httptest.ResponseRecorder {
	r := httptest.NewRequest(method, target, nil)
	r.TLS = &tls.ConnectionState{}
	if edit != nil {
		edit(r)
	}
	w := httptest.NewRecorder()
	h.Handler().ServeHTTP(w, r)
	return w
}
