package conform_test

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"tabard"
	"tabard/internal/conform"
	"tabard/internal/wire"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const hub = "conformance"

// service runs Tabard in process with a hub whose events go to a conformance handler.
func service(t *testing.T) conform.Target {
	t.Helper()
	srv, err := tabard.New(tabard.Config{Data: t.TempDir(), Listen: "127.0.0.1:0", AdminListen: "127.0.0.1:0", AllowLoopbackHandlers: true}, nil)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ran := make(chan error, 1)
	go func() { ran <- srv.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ran; err != nil {
			t.Error(err)
		}
	})
	ready, err := srv.Ready(ctx)
	if err != nil {
		t.Fatal(err)
	}
	h := &conform.Handler{}
	app := httptest.NewServer(h)
	t.Cleanup(app.Close)
	path := "/subscriptions/" + ready.SubscriptionID + "/resourceGroups/default/providers/Microsoft.SignalRService/webPubSub/default"
	admin := func(method, path, body string) string {
		a, err := wire.Do(ctx, http.DefaultClient, wire.Call{Method: method, URL: ready.AdminURL + path, Token: ready.AdminToken,
			Header: http.Header{"Content-Type": {"application/json"}}, Body: []byte(body)})
		if err != nil || a.Status >= 300 {
			t.Fatalf("%s %s: %v %v", method, path, a, err)
		}
		return string(a.Body)
	}
	admin("PUT", path+"/hubs/"+hub+"?api-version=2024-03-01", fmt.Sprintf(`{"properties":{"eventHandlers":[{"urlTemplate":%q,"userEventPattern":"*"}]}}`, app.URL))
	keys := admin("POST", path+"/listKeys?api-version=2024-03-01", "")
	http.DefaultClient.CloseIdleConnections()
	key := func(name string) string {
		_, rest, ok := strings.Cut(keys, `"`+name+`":"`)
		value, _, _ := strings.Cut(rest, `"`)
		if !ok {
			t.Fatalf("no %s in %s", name, keys)
		}
		return value
	}
	return conform.Target{Endpoint: wire.Endpoint{Origin: ready.Endpoint, Key: key("primaryKey"), Hub: hub}, SecondaryKey: key("secondaryKey"), Handler: h}
}

// TestTabardConforms is the checklists asked of Tabard itself. The lines that nobody can judge from outside are these.
func TestTabardConforms(t *testing.T) {
	target := service(t)
	r, err := conform.Run(t.Context(), target, conform.Options{Timeout: 30 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	var skipped []string
	for i := range r.Lines {
		switch l := &r.Lines[i]; l.Result {
		case conform.Fail:
			t.Errorf("%s: %s, then %s: %s", l.Name(), l.Given, l.Expected, l.Seen)
		case conform.Skip:
			skipped = append(skipped, l.Name())
		}
	}
	if want := []string{"client 17", "rest 61", "rest 62", "rest 63", "rest 65"}; !slices.Equal(skipped, want) {
		t.Errorf("skipped %v, want %v", skipped, want)
	}
	if len(r.Lines) != 70+66 || r.Passed+r.Failed+r.Skipped != len(r.Lines) {
		t.Errorf("%d lines, %d + %d + %d", len(r.Lines), r.Passed, r.Failed, r.Skipped)
	}
}

func TestWhatIsNotGivenIsSkippedByName(t *testing.T) {
	target := service(t)
	target.SecondaryKey, target.Handler = "", nil
	r, err := conform.Run(t.Context(), target, conform.Options{Only: []string{"client 3", "client 31", "client 1", "rest 5"}})
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]string{}
	for i := range r.Lines {
		got[r.Lines[i].Name()] = r.Lines[i].Result + " " + r.Lines[i].Seen
	}
	for name, want := range map[string]string{
		"client 1": "pass ", "client 3": "skip needs the secondary key", "rest 5": "skip needs the secondary key",
		"client 31": "skip needs an event handler that the hub calls",
	} {
		if got[name] != want {
			t.Errorf("%s: %q, want %q", name, got[name], want)
		}
	}
}

// Lines that pass against a server that answers everything with a status alone would prove nothing. Each of the
// servers here does one thing right at most, and every line about anything else must see it.
func TestServersThatAnswerTheSameToEverythingFail(t *testing.T) {
	for status, may := range map[int][]string{
		200: {"rest 47"},
		202: {"rest 1", "rest 2", "rest 15"},
		204: {"rest 39"},
		400: {"rest 13", "rest 24", "rest 46", "rest 51", "rest 54", "rest 57"},
		401: {"client 2", "client 5", "client 6", "rest 3", "rest 4", "rest 6"},
		404: {"rest 5", "rest 7", "rest 8", "rest 64"},
		415: {"rest 14"},
	} {
		s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(status) }))
		target := conform.Target{Endpoint: wire.Endpoint{Origin: s.URL, Key: strings.Repeat("x", 44), Hub: hub}, SecondaryKey: "y", Handler: &conform.Handler{}}
		r, err := conform.Run(t.Context(), target, conform.Options{Timeout: time.Second})
		s.Close()
		if err != nil {
			t.Fatal(err)
		}
		for i := range r.Lines {
			if l := &r.Lines[i]; l.Result == conform.Pass && !slices.Contains(may, l.Name()) {
				t.Errorf("%d for everything passes %s: %s, then %s", status, l.Name(), l.Given, l.Expected)
			}
		}
	}
}

func TestBadOptionsAndEndpointsAreErrors(t *testing.T) {
	target := conform.Target{Endpoint: wire.Endpoint{Origin: "http://127.0.0.1:1", Key: "k", Hub: hub}}
	for name, o := range map[string]conform.Options{
		"does not answer": {},
		"at once":         {Parallel: 65},
		"positive":        {Timeout: -1},
		"no line":         {Only: []string{"client 71"}},
	} {
		if _, err := conform.Run(t.Context(), target, o); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
