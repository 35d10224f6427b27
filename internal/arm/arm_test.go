package arm

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"tabard/guard"
	"tabard/internal/directory"
	"tabard/internal/fabric"
	"tabard/internal/keyvault"
	"tabard/internal/rbac"
	"tabard/internal/settings"
	"tabard/internal/store"
	"tabard/internal/trace"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	testSubscription = "11111111-2222-4333-8444-555555555555"
	testToken        = "the-admin-token"
	version          = "?api-version=2024-03-01"
	sub              = "/subscriptions/" + testSubscription
	rg               = sub + "/resourceGroups/default"
	webPubSubs       = rg + "/providers/Microsoft.SignalRService/webPubSub"
	theDefault       = webPubSubs + "/default"
	identitiesPath   = rg + "/providers/Microsoft.ManagedIdentity/userAssignedIdentities"
)

// A plane is a control plane on real state in a temporary directory, with what its callbacks saw.
type plane struct {
	t         *testing.T
	url       string
	settings  *settings.Settings
	directory *directory.Directory
	roles     *rbac.RBAC
	trace     *trace.Recorder
	handler   *server
	restarted []string
	refreshed []string
	vaults    *keyvault.Vaults
	log       bytes.Buffer
}

func start(t *testing.T, edit ...func(*Options)) *plane {
	t.Helper()
	ctx := context.Background()
	dir := t.TempDir()
	f, err := fabric.Open(ctx, fabric.Options{DataDir: dir})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(f.Close)
	st, err := store.Open(ctx, f, store.MasterKeyFile(dir+"/master.key"), nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(st.Close)
	p := &plane{t: t, trace: trace.New(trace.Options{})}
	if p.settings, err = settings.Open(ctx, st, settings.Options{SubscriptionID: testSubscription}); err != nil {
		t.Fatal(err)
	}
	if p.directory, err = directory.Open(ctx, st, directory.Options{}); err != nil {
		t.Fatal(err)
	}
	if p.roles, err = rbac.Open(ctx, st, rbac.Options{}); err != nil {
		t.Fatal(err)
	}
	p.vaults, err = keyvault.Open(ctx, st, keyvault.Options{
		Verify:    func(context.Context, string) (*guard.Claims, error) { return nil, errors.New("no tokens here") },
		Authority: func() string { return "https://127.0.0.1:8080" }, TenantID: p.directory.TenantID(), SubscriptionID: testSubscription,
		Origin: vaultOrigin,
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.vaults.Close)
	opt := Options{
		Vaults: p.vaults, VaultOrigin: vaultOrigin, VaultSuffix: func() string { return "kv.example:8081" }, References: p,
		Settings: p.settings, Directory: p.directory, Roles: p.roles, Trace: p.trace, SubscriptionID: testSubscription,
		Endpoint:  func(in *settings.Instance) string { return "http://127.0.0.1:8080" },
		HostName:  func(in *settings.Instance) string { return "127.0.0.1" },
		Authority: func() string { return "https://127.0.0.1:8080" },
		Authorize: func(r *http.Request) error {
			if r.Header.Get("Authorization") != "Bearer "+testToken {
				return errors.New(`the "Authorization" header is missing or wrong`)
			}
			return nil
		},
		Restart: func(_ context.Context, in *settings.Instance) error {
			p.restarted = append(p.restarted, in.Name)
			return nil
		},
		Log: slog.New(slog.NewTextHandler(&p.log, nil)),
	}
	for _, e := range edit {
		e(&opt)
	}
	p.handler = New(opt).(*server)
	web := httptest.NewServer(p.handler)
	t.Cleanup(web.Close)
	p.url = web.URL
	return p
}

func vaultOrigin(vault string) string {
	return "https://" + strings.ToLower(vault) + ".kv.example:8081"
}

// The plane is its own source of references.
func (p *plane) Statuses(in *settings.Instance) []any {
	return []any{map[string]string{"of": in.Name}}
}
func (p *plane) Refresh(in *settings.Instance) { p.refreshed = append(p.refreshed, in.Name) }
func (p *plane) Explain(_ context.Context, in *settings.Instance, uri string) []any {
	return []any{map[string]string{"of": in.Name, "uri": uri}}
}

// An answer is a response, read.
type answer struct {
	t      *testing.T
	status int
	header http.Header
	text   string
	body   map[string]any
}

// raw is do for an answer that is no object.
func (p *plane) raw(method, path string, headers ...string) []byte {
	p.t.Helper()
	r, err := http.NewRequestWithContext(p.t.Context(), method, p.url+path, nil)
	if err != nil {
		p.t.Fatal(err)
	}
	for i := 0; i < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
	}
	w := httptest.NewRecorder()
	r.RequestURI = ""
	p.handler.ServeHTTP(w, r)
	return w.Body.Bytes()
}

func (p *plane) do(method, path, body string, headers ...string) *answer {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(p.t.Context(), 20*time.Second) // an answer that does not end fails the test
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, method, p.url+path, strings.NewReader(body))
	if err != nil {
		p.t.Fatal(err)
	}
	r.Header.Set("Authorization", "Bearer "+testToken)
	if body != "" {
		r.Header.Set("Content-Type", "application/json")
	}
	for i := 0; i < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
	}
	resp, err := http.DefaultTransport.RoundTrip(r) // follows no redirect: there must be none
	if err != nil {
		p.t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		p.t.Fatal(err)
	}
	http.DefaultTransport.(*http.Transport).CloseIdleConnections()
	a := &answer{t: p.t, status: resp.StatusCode, header: resp.Header, text: string(text)}
	if len(text) > 0 {
		if err := json.Unmarshal(text, &a.body); err != nil {
			p.t.Fatalf("%s %s: %v in %s", method, path, err, text)
		}
	}
	return a
}

// want fails the test unless the status is the given one.
func (a *answer) want(status int) *answer {
	a.t.Helper()
	if a.status != status {
		a.t.Fatalf("status %d, want %d; body %s", a.status, status, a.text)
	}
	return a
}

// refused fails the test unless the answer is that error.
func (a *answer) refused(status int, code string) *answer {
	a.t.Helper()
	a.want(status)
	if got := a.get("error.code"); got != code {
		a.t.Fatalf("code %v, want %s; body %s", got, code, a.text)
	}
	if message, _ := a.get("error.message").(string); message == "" {
		a.t.Errorf("no message in %s", a.text)
	}
	return a
}

// get follows a path of member names, "/" in place of "." when a name holds a dot.
func (a *answer) get(path string) any {
	sep := "."
	if strings.Contains(path, "|") {
		sep = "|"
	}
	var v any = a.body
	for name := range strings.SplitSeq(path, sep) {
		m, ok := v.(map[string]any)
		if !ok {
			return nil
		}
		v = m[name]
	}
	return v
}

func (a *answer) str(path string) string {
	a.t.Helper()
	s, ok := a.get(path).(string)
	if !ok {
		a.t.Fatalf("%s is %v, want a string; body %s", path, a.get(path), a.text)
	}
	return s
}

func (a *answer) is(path string, want any) *answer {
	a.t.Helper()
	got, _ := json.Marshal(a.get(path))
	wanted, _ := json.Marshal(want)
	if !bytes.Equal(got, wanted) {
		a.t.Errorf("%s is %s, want %s", path, got, wanted)
	}
	return a
}

func (a *answer) items() []any {
	a.t.Helper()
	list, ok := a.body["value"].([]any)
	if !ok {
		a.t.Fatalf("no list in %s", a.text)
	}
	if link, there := a.body["nextLink"]; there {
		a.t.Errorf("nextLink is %v, want none", link)
	}
	return list
}

// details are the targets of an error's details.
func (a *answer) details() []string {
	list, _ := a.get("error.details").([]any)
	var targets []string
	for _, d := range list {
		targets = append(targets, d.(map[string]any)["target"].(string))
	}
	return targets
}

func (a *answer) warnings() []string { return a.header.Values("X-Tabard-Warning") }

// systemPrincipals counts the service principals of system-assigned identities.
func (p *plane) systemPrincipals() int {
	n := 0
	for _, sp := range p.directory.ServicePrincipals() {
		if _, explicit, ok := sp.ManagedIdentity(); ok && !explicit {
			n++
		}
	}
	return n
}
