package settings

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"sync"
	"testing"

	"tabard/internal/fabric"
	"tabard/internal/store"
)

const subscription = "11111111-2222-4333-8444-555555555555"

// open starts settings on the state in dir; close it before opening the same directory again.
func open(t *testing.T, dir string) (*Settings, func()) {
	t.Helper()
	ctx := context.Background()
	f, err := fabric.Open(ctx, fabric.Options{DataDir: dir})
	if err != nil {
		t.Fatal(err)
	}
	st, err := store.Open(ctx, f, store.MasterKeyFile(dir+"/master.key"), slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	s, err := Open(ctx, st, Options{SubscriptionID: subscription})
	if err != nil {
		t.Fatal(err)
	}
	stop := sync.OnceFunc(func() { st.Close(); f.Close() })
	t.Cleanup(stop)
	return s, stop
}

// putHub replaces the settings of a hub whole.
func putHub(s *Settings, ctx context.Context, instance string, h Hub) (*Hub, bool, error) {
	return s.UpdateHub(ctx, instance, h.Name, func(old *Hub) error {
		h.Name = old.Name
		*old = h
		return nil
	})
}

func handler(url string) *EventHandler {
	return &EventHandler{URLTemplate: url, UserEventPattern: "*", SystemEvents: []string{"connect"}}
}

func TestTheDefaultInstanceExistsFromTheFirstStartAndKeepsItsKeys(t *testing.T) {
	dir := t.TempDir()
	s, stop := open(t, dir)
	in, ok := s.Snapshot().Instance("DEFAULT")
	if !ok || in.SubscriptionID != subscription || len(in.Keys.Primary) != 44 || in.Keys.Primary == in.Keys.Secondary {
		t.Fatalf("got %+v", in)
	}
	if want := "/subscriptions/" + subscription + "/resourceGroups/default/providers/Microsoft.SignalRService/WebPubSub/default"; in.ResourceID() != want {
		t.Errorf("resource id %s, want %s", in.ResourceID(), want)
	}
	stop()
	again, _ := open(t, dir)
	if in2, _ := again.Snapshot().Instance("default"); in2 == nil || in2.Keys != in.Keys {
		t.Error("the keys changed over a restart")
	}
}

func TestADeletedDefaultInstanceStaysDeletedWhileOthersExist(t *testing.T) {
	dir := t.TempDir()
	s, stop := open(t, dir)
	ctx := context.Background()
	if _, err := s.Create(ctx, Instance{Name: "other", SubscriptionID: subscription, ResourceGroup: "g", Location: "local"}); err != nil {
		t.Fatal(err)
	}
	if gone, err := s.Delete(ctx, "Default", nil); err != nil || gone.Name != "default" || gone.Keys.Primary == "" {
		t.Fatalf("got %+v, %v; want the instance as it was", gone, err)
	}
	if _, err := s.Delete(ctx, "default", nil); !errors.Is(err, ErrNotFound) {
		t.Errorf("second delete: %v, want ErrNotFound", err)
	}
	stop()
	again, _ := open(t, dir)
	if _, ok := again.Snapshot().Instance("default"); ok {
		t.Error("a deleted instance came back")
	}
}

func TestNamesAreTakenIgnoringCase(t *testing.T) {
	s, _ := open(t, t.TempDir())
	_, err := s.Create(context.Background(), Instance{Name: "Default", SubscriptionID: subscription, ResourceGroup: "g", Location: "local"})
	if !errors.Is(err, ErrExists) {
		t.Errorf("got %v, want ErrExists", err)
	}
}

func TestAHubWithoutSettingsHasTheDefaults(t *testing.T) {
	s, _ := open(t, t.TempDir())
	in, _ := s.Snapshot().Instance("default")
	h := in.Hub("nobody")
	if h == nil || h.AllowAnonymous() || h.KeepAlive() != DefaultKeepAlive || h.UserHandler("message") != nil {
		t.Errorf("got %+v", h)
	}
}

func TestHubSettingsAreReplacedWholeAndKeepTheirName(t *testing.T) {
	s, _ := open(t, t.TempDir())
	ctx := context.Background()
	before := s.Snapshot()
	h, changed, err := putHub(s, ctx, "default", Hub{Name: "Chat", EventHandlers: []*EventHandler{handler("http://h.example/{event}")}, AnonymousConnectPolicy: "Allow"})
	if err != nil || !changed || !h.AllowAnonymous() || h.UserHandler("x").Template() == nil {
		t.Fatalf("got %+v, %v, %v", h, changed, err)
	}
	if in, _ := before.Instance("default"); len(in.Hubs) != 0 {
		t.Error("an old snapshot changed")
	}
	h, changed, err = putHub(s, ctx, "default", Hub{Name: "CHAT"})
	if err != nil || !changed || h.Name != "Chat" || h.AllowAnonymous() || len(h.EventHandlers) != 0 {
		t.Errorf("got %+v, %v, %v; want a bare hub still named Chat", h, changed, err)
	}
	in, _ := s.Snapshot().Instance("default")
	if _, changed, err = putHub(s, ctx, "default", Hub{Name: "chat"}); err != nil || changed {
		t.Errorf("the same again: changed %v, %v", changed, err)
	}
	if same, _ := s.Snapshot().Instance("default"); same.Revision() != in.Revision() || !same.Modified.Equal(in.Modified) {
		t.Error("an edit that changes nothing wrote something")
	}
	if err := s.DeleteHub(ctx, "default", "chat", nil); err != nil {
		t.Fatal(err)
	}
	if err := s.DeleteHub(ctx, "default", "chat", nil); !errors.Is(err, ErrNotFound) {
		t.Errorf("got %v, want ErrNotFound", err)
	}
}

func TestRegeneratingOneKeyLeavesTheOther(t *testing.T) {
	s, _ := open(t, t.TempDir())
	old, _ := s.Snapshot().Instance("default")
	in, err := s.RegenerateKeys(context.Background(), "default", Secondary)
	if err != nil || in.Keys.Primary != old.Keys.Primary || in.Keys.Secondary == old.Keys.Secondary {
		t.Errorf("got %v; want only the secondary key to change", err)
	}
	if _, err := s.RegenerateKeys(context.Background(), "default", "Tertiary"); err == nil || !strings.Contains(err.Error(), "keyType") {
		t.Errorf("got %v, want a fault of keyType", err)
	}
}

func TestConcurrentWritersLoseNothing(t *testing.T) {
	s, _ := open(t, t.TempDir())
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			name := "hub" + string(rune('a'+i))
			if _, _, err := putHub(s, context.Background(), "default", Hub{Name: name}); err != nil {
				t.Errorf("%s: %v", name, err)
			}
		})
	}
	wg.Wait()
	if in, _ := s.Snapshot().Instance("default"); len(in.Hubs) != 8 {
		t.Errorf("%d hubs, want 8", len(in.Hubs))
	}
}

func TestListenersSeeEachChange(t *testing.T) {
	s, _ := open(t, t.TempDir())
	seen := make(chan int, 16)
	s.OnChange(func(old, new *Snapshot) {
		in, _ := new.Instance("default")
		seen <- len(in.Hubs)
	})
	if _, _, err := putHub(s, context.Background(), "default", Hub{Name: "chat"}); err != nil {
		t.Fatal(err)
	}
	if got := <-seen; got != 1 {
		t.Errorf("a listener saw %d hubs, want 1", got)
	}
}

func TestEveryFaultIsNamedAtOnceAndNothingChanges(t *testing.T) {
	s, _ := open(t, t.TempDir())
	_, _, err := putHub(s, context.Background(), "default", Hub{
		Name:                   "chat",
		AnonymousConnectPolicy: "perhaps",
		KeepAliveSeconds:       121,
		EventHandlers: []*EventHandler{
			{URLTemplate: "http://{hub}.example.com", SystemEvents: []string{"connect", "joined"}, UserEventPattern: "a,,pre*"},
			{URLTemplate: "https://h.example/", Auth: &Auth{Type: "Basic"}},
		},
	})
	var faults Faults
	if !errors.As(err, &faults) {
		t.Fatalf("got %v, want Faults", err)
	}
	for _, field := range []string{
		"properties.anonymousConnectPolicy", "properties.webSocketKeepAliveIntervalInSeconds",
		"properties.eventHandlers[0].urlTemplate", "properties.eventHandlers[0].systemEvents[1]",
		"properties.eventHandlers[0].userEventPattern", "properties.eventHandlers[1].auth.type",
	} {
		if !strings.Contains(err.Error(), field+" ") {
			t.Errorf("no fault of %s in:\n%v", field, err)
		}
	}
	if in, _ := s.Snapshot().Instance("default"); len(in.Hubs) != 0 {
		t.Error("a refused write changed something")
	}
}

func TestInstancesAreValidated(t *testing.T) {
	s, _ := open(t, t.TempDir())
	ok := Instance{Name: "abc", SubscriptionID: subscription, ResourceGroup: "g", Location: "local"}
	for _, tc := range []struct {
		name, field string
		edit        func(*Instance)
	}{
		{"a name that ends in a dash", "name", func(in *Instance) { in.Name = "abc-" }},
		{"a short name", "name", func(in *Instance) { in.Name = "ab" }},
		{"a subscription that is no GUID", "subscriptionId", func(in *Instance) { in.SubscriptionID = "s" }},
		{"a short key", "primaryKey", func(in *Instance) { in.Keys.Primary = "short" }},
		{"a key with a semicolon", "secondaryKey", func(in *Instance) { in.Keys.Secondary = strings.Repeat("k", 40) + ";" }},
		{"both ways in switched off", "properties.disableAadAuth", func(in *Instance) { in.DisableLocalAuth, in.DisableAADAuth = true, true }},
		{"two identities at once", "identity.type", func(in *Instance) { in.Identity.Type = "SystemAssigned, UserAssigned" }},
		{"a user-assigned identity without a name", "identity.userAssignedIdentities", func(in *Instance) { in.Identity.Type = IdentityUserAssigned }},
		{"an unknown kind", "kind", func(in *Instance) { in.Kind = "SignalR" }},
		{"a Graph audience where that is refused", "properties.eventHandlers[0].auth.managedIdentity.resource", func(in *Instance) {
			in.Extensions.RefuseGraphAudience = true
			in.Hubs = map[string]*Hub{"chat": {Name: "chat", EventHandlers: []*EventHandler{{URLTemplate: "https://h.example/", Auth: &Auth{Type: "managedidentity"}}}}}
		}},
		{"tags without end", "tags", func(in *Instance) { in.Tags = map[string]string{"t": strings.Repeat("x", maxTagBytes)} }},
	} {
		t.Run(tc.name, func(t *testing.T) {
			in := ok
			tc.edit(&in)
			_, err := s.Create(context.Background(), in)
			var faults Faults
			if !errors.As(err, &faults) || faults[0].Field != tc.field {
				t.Errorf("got %v, want a fault of %s", err, tc.field)
			}
		})
	}
	if _, err := s.Create(context.Background(), ok); err != nil {
		t.Errorf("the valid one: %v", err)
	}
}

func TestAnInstanceTooLargeForTheStoreIsAFault(t *testing.T) {
	s, _ := open(t, t.TempDir())
	_, err := s.Update(context.Background(), "default", func(in *Instance) error {
		for i := range MaxHubs {
			name := "hub" + strings.Repeat("x", i%100) + string(rune('a'+i/100))
			in.Hubs[strings.ToLower(name)] = &Hub{Name: name, EventHandlers: []*EventHandler{handler("http://h.example/" + strings.Repeat("p", 8000))}}
		}
		return nil
	})
	var faults Faults
	if !errors.As(err, &faults) {
		t.Errorf("got %v, want Faults", err)
	}
}

func TestHandlersAreMatchedInOrder(t *testing.T) {
	s, _ := open(t, t.TempDir())
	h, _, err := putHub(s, context.Background(), "default", Hub{Name: "chat", EventHandlers: []*EventHandler{
		{URLTemplate: "http://1.example/", UserEventPattern: "a, B"},
		{URLTemplate: "http://2.example/", UserEventPattern: "*", SystemEvents: []string{"Connected"}},
		{URLTemplate: "http://3.example/", SystemEvents: []string{"connect", "connected"}},
	}})
	if err != nil {
		t.Fatal(err)
	}
	url := func(e *EventHandler) string {
		if e == nil {
			return "none"
		}
		return e.URLTemplate
	}
	for _, tc := range []struct{ name, got, want string }{
		{"the first match wins", url(h.UserHandler("a")), "http://1.example/"},
		{"names ignore case and spaces after commas", url(h.UserHandler("b")), "http://1.example/"},
		{"a star takes the rest", url(h.UserHandler("c")), "http://2.example/"},
		{"system events ignore case", url(h.SystemHandler("connected")), "http://2.example/"},
		{"a star is for user events only", url(h.SystemHandler("connect")), "http://3.example/"},
		{"nobody wants it", url(h.SystemHandler("disconnected")), "none"},
	} {
		if tc.got != tc.want {
			t.Errorf("%s: got %s, want %s", tc.name, tc.got, tc.want)
		}
	}
}

func TestAuthOfTypeNoneKeepsItsBlock(t *testing.T) {
	s, _ := open(t, t.TempDir())
	h, _, err := putHub(s, context.Background(), "default", Hub{Name: "chat", EventHandlers: []*EventHandler{
		{URLTemplate: "http://1.example/", Auth: &Auth{Type: "none", ManagedIdentity: &ManagedIdentity{Resource: "api://x"}}},
	}})
	if err != nil {
		t.Fatal(err)
	}
	e := h.EventHandlers[0]
	if e.UsesManagedIdentity() || e.Auth.Type != AuthNone || e.Resource() != "api://x" {
		t.Errorf("got %+v", e.Auth)
	}
}

func BenchmarkUserHandler(b *testing.B) {
	h := &Hub{Name: "chat", EventHandlers: []*EventHandler{{URLTemplate: "http://1.example/", UserEventPattern: "a, b"}, {URLTemplate: "http://2.example/", UserEventPattern: "*"}}}
	var f Faults
	if h.compile(&f); len(f) > 0 {
		b.Fatal(f)
	}
	b.ReportAllocs()
	for b.Loop() {
		if h.UserHandler("message") == nil {
			b.Fatal("no match")
		}
	}
}
