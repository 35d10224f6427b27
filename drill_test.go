package tabard_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gobwas/ws"
	"github.com/gobwas/ws/wsutil"

	"tabard"
	"tabard/guard"
)

// A credential is what a server of the drill calls with, moved from one to the next as an operator moves servers.
type drillCredential struct {
	mu    sync.RWMutex // held for reading while a call uses the value
	value string
}

func (c *drillCredential) move(value string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.value = value
}

// A load counts what its workers did, and keeps the first things that went wrong.
type load struct {
	stopping chan struct{}
	workers  sync.WaitGroup
	done     []*atomic.Int64

	mu     sync.Mutex // guards faults
	faults []string
}

// worker repeats one piece of work until the load ends or the work fails.
func (l *load) worker(name string, work func(n int64) error) {
	count := new(atomic.Int64)
	l.done = append(l.done, count)
	l.workers.Go(func() {
		for n := int64(1); ; n++ {
			select {
			case <-l.stopping:
				return
			default:
			}
			if err := work(n); err != nil {
				l.mu.Lock()
				defer l.mu.Unlock()
				l.faults = append(l.faults, fmt.Sprintf("%s, piece %d: %v", name, n, err))
				return
			}
			count.Store(n)
		}
	})
}

// goesOn waits until every worker has done some more, so that whatever was changed before is behind them.
func (l *load) goesOn(t *testing.T, after string) {
	t.Helper()
	const more = 5
	var goal []int64
	for _, count := range l.done {
		goal = append(goal, count.Load()+more)
	}
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(30 * time.Second); ; <-tick.C {
		behind := slices.IndexFunc(l.done, func(count *atomic.Int64) bool { return count.Load() < goal[slices.Index(l.done, count)] })
		l.mu.Lock()
		faults := slices.Clone(l.faults)
		l.mu.Unlock()
		switch {
		case len(faults) > 0:
			t.Fatalf("after %s:\n%s", after, strings.Join(faults, "\n"))
		case behind < 0:
			return
		case time.Now().After(deadline):
			t.Fatalf("after %s worker %d makes no progress", after, behind)
		}
	}
}

func (l *load) end() {
	close(l.stopping)
	l.workers.Wait()
}

// TestEveryKeyIsRotatedUnderLoadAndNothingFails is the drill: clients whose events go to a handler that verifies every
// token, servers that publish with access keys, and servers that publish as a principal with a client secret, while
// the token service's signing keys, both access keys and the client secret are replaced, twice. No event may fail, no
// publication may be refused, no client may be dropped.
func TestEveryKeyIsRotatedUnderLoadAndNothingFails(t *testing.T) {
	r := start(t, tabard.Config{Data: t.TempDir(), AllowLoopbackHandlers: true}, slog.New(slog.DiscardHandler))
	var signers sync.Map // headers of the tokens that came, which name their keys
	g, err := guard.New(guard.Trust{Issuers: []string{r.Issuer, r.IssuerV2}, Audiences: []string{"api://drill"}, CAFile: r.CAFile}, guard.Options{
		Log: slog.New(slog.DiscardHandler), TokenOnValidation: true,
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(g.Close)
	events := g.Events(guard.Handlers{User: func(_ context.Context, e *guard.Event) (guard.Reply, error) { return guard.Textf("%s", e.Text()), nil }})
	handler := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		header, _, _ := strings.Cut(strings.TrimPrefix(req.Header.Get("Authorization"), "Bearer "), ".")
		signers.Store(header, true)
		events.ServeHTTP(w, req)
	}))
	t.Cleanup(handler.Close)

	r.application(t, "drill", `"identifierUris":["api://drill"],`)
	client := r.application(t, "publisher", "")
	r.arm(t, http.MethodPatch, "", `{"identity":{"type":"SystemAssigned"}}`)
	r.arm(t, http.MethodPut, "/hubs/chat", fmt.Sprintf(`{"properties":{"eventHandlers":[{"urlTemplate":%q,"userEventPattern":"*",
		"auth":{"type":"ManagedIdentity","managedIdentity":{"resource":"api://drill"}}}]}}`, handler.URL))
	r.assign(t, client.principal, "12cf5a90-567b-43ae-8102-96cf46c7d9b4")

	key, secret := &drillCredential{value: r.keys(t).PrimaryKey}, &drillCredential{}
	keyID := r.addSecret(t, client.path, secret)
	l := &load{stopping: make(chan struct{})}
	for i := range 8 {
		conn := r.dial(t, fmt.Sprintf("client-%d", i), key.value)
		l.worker(fmt.Sprintf("client %d", i), func(n int64) error { return roundTrip(conn, n) })
	}
	publish := func(token string) error {
		status, body, err := r.try(http.MethodPost, r.HTTPSEndpoint+"/api/hubs/chat/groups/nobody/:send?api-version=2024-12-01", token, "text/plain", "hello")
		if err != nil || status != http.StatusAccepted {
			return fmt.Errorf("%d %s %v", status, body, err)
		}
		return nil
	}
	for i := range 2 {
		l.worker(fmt.Sprintf("server %d with an access key", i), func(int64) error {
			key.mu.RLock()
			defer key.mu.RUnlock()
			return publish(hs256(key.value, `{"aud":"`+r.HTTPSEndpoint+`/api/hubs/chat/groups/nobody/:send","exp":`+inAnHour()+`}`))
		})
		l.worker(fmt.Sprintf("server %d with a client secret", i), func(int64) error {
			secret.mu.RLock()
			defer secret.mu.RUnlock()
			form := url.Values{"grant_type": {"client_credentials"}, "client_id": {client.appID}, "client_secret": {secret.value}, "scope": {"https://webpubsub.azure.com/.default"}}
			status, body, err := r.try(http.MethodPost, r.HTTPSEndpoint+"/"+r.TenantID+"/oauth2/v2.0/token", "", "application/x-www-form-urlencoded", form.Encode())
			var answer struct {
				Token string `json:"access_token"`
			}
			if err != nil || status != http.StatusOK || json.Unmarshal([]byte(body), &answer) != nil {
				return fmt.Errorf("no token: %d %s %v", status, body, err)
			}
			return publish(answer.Token)
		})
	}
	defer l.end()
	l.goesOn(t, "the start")
	for round := range 2 {
		step := func(what string) { t.Helper(); l.goesOn(t, fmt.Sprintf("%s, round %d", what, round+1)) }
		if status, body := r.call(t, http.MethodPost, r.AdminURL+"/tabard/v1/signingKeys/rotate", r.AdminToken, ""); status != http.StatusOK {
			t.Fatalf("%d %s", status, body)
		}
		// A change of the directory makes the service ask for new tokens at once, signed by the new key.
		old := keyID
		keyID = r.addSecret(t, client.path, secret)
		step("a new signing key and a new client secret")
		if status, body := r.call(t, http.MethodPost, r.AdminURL+client.path+"/removePassword", r.AdminToken, `{"keyId":"`+old+`"}`); status != http.StatusNoContent {
			t.Fatalf("%d %s", status, body)
		}
		step("the end of the old client secret")
		for _, kind := range []string{"Primary", "Secondary"} {
			keys := r.keys(t)
			key.move(map[string]string{"Primary": keys.SecondaryKey, "Secondary": keys.PrimaryKey}[kind])
			r.arm(t, http.MethodPost, "/regenerateKey", `{"keyType":"`+kind+`"}`)
			step("a new " + strings.ToLower(kind) + " key")
		}
	}
	kids := 0
	signers.Range(func(any, any) bool { kids++; return true })
	if kids < 3 {
		t.Errorf("the handler saw tokens of %d signing keys, want 3: the drill proves nothing", kids)
	}
}

// roundTrip sends an event and waits for what the handler says to it.
func roundTrip(conn io.ReadWriter, n int64) error {
	want := fmt.Sprint(n)
	if err := wsutil.WriteClientText(conn, []byte(want)); err != nil {
		return err
	}
	got, _, err := wsutil.ReadServerData(conn)
	if err != nil || string(got) != want {
		return fmt.Errorf("the answer is %q, %v", got, err)
	}
	return nil
}

// dial connects a raw client, which stays until the test ends.
func (r *running) dial(t *testing.T, user, key string) io.ReadWriter {
	t.Helper()
	token := hs256(key, `{"aud":"`+r.Endpoint+`/client/hubs/chat","sub":"`+user+`","exp":`+inAnHour()+`}`)
	conn, _, _, err := ws.Dial(t.Context(), "ws"+strings.TrimPrefix(r.Endpoint, "http")+"/client/hubs/chat?access_token="+token)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return conn
}

type registered struct{ path, appID, principal string }

// application registers an application with further members, and its service principal.
func (r *running) application(t *testing.T, name, members string) registered {
	t.Helper()
	var app, principal struct{ ID, AppID string }
	for _, step := range []struct {
		path, body string
		into       any
	}{
		{"/v1.0/applications", `{` + members + `"displayName":"` + name + `"}`, &app},
		{"/v1.0/servicePrincipals", "", &principal},
	} {
		if step.body == "" {
			step.body = `{"appId":"` + app.AppID + `"}`
		}
		status, body := r.call(t, http.MethodPost, r.AdminURL+step.path, r.AdminToken, step.body)
		if err := json.Unmarshal([]byte(body), step.into); err != nil || status != http.StatusCreated {
			t.Fatalf("%s: %d %s", step.path, status, body)
		}
	}
	return registered{"/v1.0/applications/" + app.ID, app.AppID, principal.ID}
}

// addSecret makes a client secret, moves the credential to it and returns its key id.
func (r *running) addSecret(t *testing.T, path string, c *drillCredential) string {
	t.Helper()
	status, body := r.call(t, http.MethodPost, r.AdminURL+path+"/addPassword", r.AdminToken, `{}`)
	var made struct{ KeyID, SecretText string }
	if err := json.Unmarshal([]byte(body), &made); err != nil || status != http.StatusOK {
		t.Fatalf("%d %s", status, body)
	}
	c.move(made.SecretText)
	return made.KeyID
}

// assign gives a principal a role on the default instance.
func (r *running) assign(t *testing.T, principal, role string) {
	t.Helper()
	scope := "/subscriptions/" + r.SubscriptionID + "/resourceGroups/default/providers/Microsoft.SignalRService/webPubSub/default"
	status, body := r.call(t, http.MethodPut, r.AdminURL+scope+"/providers/Microsoft.Authorization/roleAssignments/"+principal+"?api-version=2022-04-01", r.AdminToken,
		`{"properties":{"principalId":"`+principal+`","roleDefinitionId":"/providers/Microsoft.Authorization/roleDefinitions/`+role+`"}}`)
	if status != http.StatusCreated {
		t.Fatalf("%d %s", status, body)
	}
}

func (r *running) keys(t *testing.T) (keys struct{ PrimaryKey, SecondaryKey string }) {
	t.Helper()
	if err := json.Unmarshal([]byte(r.arm(t, http.MethodPost, "/listKeys", "{}")), &keys); err != nil {
		t.Fatal(err)
	}
	return keys
}

// try is call for goroutines, with a content type.
func (r *running) try(method, url, token, contentType, body string) (int, string, error) {
	req, err := http.NewRequest(method, url, strings.NewReader(body))
	if err != nil {
		return 0, "", err
	}
	req.Header.Set("Content-Type", contentType)
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	res, err := r.http.Do(req)
	if err != nil {
		return 0, "", err
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	return res.StatusCode, string(text), err
}
