package directory

import (
	"context"
	"errors"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

func TestRestartKeepsTenantAndAllIDs(t *testing.T) {
	dir := t.TempDir()
	s, stop := openStore(t, dir)
	d := must(Open(t.Context(), s, Options{}))(t)
	tenant := d.TenantID()
	if !guid.MatchString(tenant) {
		t.Fatalf("tenant id %q is not a lower-case GUID", tenant)
	}
	two := 2
	a, p := registerAs(t, d, Application{
		DisplayName: "orders", IdentifierURIs: []string{"api://orders"}, RequestedAccessTokenVersion: &two,
		AppRoles: []AppRole{{DisplayName: "Send", Value: "Events.Send", AllowedMemberTypes: []string{"Application"}, IsEnabled: true}},
	})
	u, _, err := d.PutUserAssignedIdentity(t.Context(), UserAssignedIdentity{SubscriptionID: subscription, ResourceGroup: "default", Name: "sender", Location: "local"})
	if err != nil {
		t.Fatal(err)
	}
	must(d.AssignAppRole(t.Context(), u.PrincipalID, p.ID, a.AppRoles[0].ID))(t)
	before := []any{d.Applications(), d.ServicePrincipals(), d.UserAssignedIdentities(), d.AppRoleAssignments("", "")}
	stop()

	s, _ = openStore(t, dir)
	d = must(Open(t.Context(), s, Options{}))(t)
	if d.TenantID() != tenant {
		t.Errorf("tenant id changed from %s to %s", tenant, d.TenantID())
	}
	after := []any{d.Applications(), d.ServicePrincipals(), d.UserAssignedIdentities(), d.AppRoleAssignments("", "")}
	if !reflect.DeepEqual(before, after) {
		t.Errorf("before the restart %+v\nafter it %+v", before, after)
	}
	if roles, _ := d.Roles(u.PrincipalID, p.ID); !slices.Equal(roles, []string{"Events.Send"}) {
		t.Errorf("roles after the restart are %v", roles)
	}
}

func TestTheTenantIDIsFixedAtTheFirstStart(t *testing.T) {
	const chosen = "AAAA0000-0000-4000-8000-00000000000A"
	s, _ := openStore(t, t.TempDir())
	d := must(Open(t.Context(), s, Options{TenantID: chosen}))(t)
	if want := strings.ToLower(chosen); d.TenantID() != want {
		t.Fatalf("tenant id is %s, want %s", d.TenantID(), want)
	}
	for _, same := range []string{"", chosen, strings.ToLower(chosen)} {
		if _, err := Open(t.Context(), s, Options{TenantID: same}); err != nil {
			t.Errorf("opened with %q: %v", same, err)
		}
	}
	_, err := Open(t.Context(), s, Options{TenantID: "bbbb0000-0000-4000-8000-00000000000b"})
	if err == nil || !strings.Contains(err.Error(), d.TenantID()) {
		t.Errorf("another tenant id: %v, want a refusal that names the kept one", err)
	}
	for _, bad := range []string{"contoso", "{aaaa0000-0000-4000-8000-00000000000a}", "aaaa00000000400080000000000000000a"} {
		var v *ValidationError
		if _, err := Open(t.Context(), s, Options{TenantID: bad}); !errors.As(err, &v) || v.Field != "tenantId" {
			t.Errorf("tenant id %q: %v, want a fault of tenantId", bad, err)
		}
	}
}

func TestAChangeInOneProcessReachesTheOther(t *testing.T) {
	s, _ := openStore(t, t.TempDir())
	here := must(Open(t.Context(), s, Options{}))(t)
	there := must(Open(t.Context(), s, Options{}))(t)
	if here.TenantID() != there.TenantID() {
		t.Fatalf("two tenants: %s and %s", here.TenantID(), there.TenantID())
	}
	notified := make(chan struct{}, 100)
	there.OnChange(func() { notified <- struct{}{} })
	_, p := register(t, here, "orders", "api://orders")
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	for {
		r, err := there.ResolveResource("api://orders")
		if err == nil {
			if r.Principal.ID != p.ID {
				t.Fatalf("resolved to %s, want %s", r.Principal.ID, p.ID)
			}
			return
		}
		select {
		case <-notified:
		case <-ctx.Done():
			t.Fatal(err)
		}
	}
}

func TestListenersHearOfAChangeBeforeTheWriteReturns(t *testing.T) {
	d := open(t)
	var mu sync.Mutex
	var seen []string
	d.OnChange(func() {
		mu.Lock()
		defer mu.Unlock()
		for _, p := range d.ServicePrincipals() {
			seen = append(seen, p.ID)
		}
	})
	_, p := register(t, d, "orders", "api://orders")
	mu.Lock()
	defer mu.Unlock()
	if !slices.Contains(seen, p.ID) {
		t.Fatal("the write returned before the listener had seen it")
	}
}

func TestAWriteThatWaitsForAnotherEndsWithItsContext(t *testing.T) {
	d := open(t)
	d.writing <- struct{}{}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := d.CreateApplication(ctx, Application{DisplayName: "orders"})
	wantErr(t, err, context.Canceled)
	<-d.writing
	register(t, d, "orders")
}

func TestConcurrentWritersNeverShareAName(t *testing.T) {
	d := open(t)
	var wg sync.WaitGroup
	var mu sync.Mutex
	var won int
	for range 8 {
		wg.Go(func() {
			_, err := d.CreateApplication(t.Context(), Application{DisplayName: "orders", IdentifierURIs: []string{"api://orders"}})
			if err == nil {
				mu.Lock()
				won++
				mu.Unlock()
			} else if !errors.Is(err, ErrConflict) {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if won != 1 || len(d.Applications()) != 1 {
		t.Fatalf("%d writers won, %d applications exist, want 1", won, len(d.Applications()))
	}
}
