package rbac

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"tabard/internal/fabric"
	"tabard/internal/store"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	subscription = "/subscriptions/11111111-2222-4333-8444-555555555555"
	group        = subscription + "/resourceGroups/default"
	instance     = group + "/providers/Microsoft.SignalRService/WebPubSub/orders"
	alice        = "aaaaaaaa-0000-4000-8000-000000000001"
	bob          = "bbbbbbbb-0000-4000-8000-000000000002"

	send = "Microsoft.SignalRService/WebPubSub/hub/send/action"
	read = "Microsoft.SignalRService/WebPubSub/clientConnection/read"
)

var clock = time.Date(2026, 11, 24, 10, 0, 0, 0, time.UTC)

func openStore(t testing.TB, dir string) (*store.Store, func()) {
	t.Helper()
	f, err := fabric.Open(t.Context(), fabric.Options{DataDir: dir})
	if err != nil {
		t.Fatal(err)
	}
	s, err := store.Open(t.Context(), f, store.MasterKeyFile(filepath.Join(dir, "master.key")), nil)
	if err != nil {
		f.Close()
		t.Fatal(err)
	}
	stop := sync.OnceFunc(func() { s.Close(); f.Close() })
	t.Cleanup(stop)
	return s, stop
}

func open(t testing.TB) *RBAC {
	t.Helper()
	s, _ := openStore(t, t.TempDir())
	return openOn(t, s)
}

func openOn(t testing.TB, s *store.Store) *RBAC {
	t.Helper()
	r, err := Open(t.Context(), s, Options{Now: func() time.Time { return clock }})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func (r *RBAC) assign(t testing.TB, principal, role, scope string) Assignment {
	t.Helper()
	a, created, err := r.Put(t.Context(), Assignment{Scope: scope, RoleID: role, PrincipalID: principal}, "")
	if err != nil || !created {
		t.Fatalf("created %v, %v", created, err)
	}
	return a
}

func TestARoleCountsAtItsScopeAndBelow(t *testing.T) {
	for _, tc := range []struct {
		name, assigned, asked string
		want                  bool
	}{
		{"at the instance", instance, instance, true},
		{"below the instance", instance, instance + "/hubs/chat", true},
		{"at the group", group, instance, true},
		{"at the subscription", subscription, instance, true},
		{"at the root", Root, instance, true},
		{"at the root, asked there", Root, Root, true},
		{"in other letters", strings.ToUpper(group), instance, true},
		{"asked in other letters", group, strings.ToUpper(instance), true},
		{"with a slash at the end", group + "/", instance, true},
		{"asked with a slash at the end", instance, instance + "/", true},
		{"above", instance, group, false},
		{"at the root, asked nowhere", instance, "", false},
		{"at another instance", group + "/providers/Microsoft.SignalRService/WebPubSub/other", instance, false},
		{"at an instance whose name begins alike", instance, instance + "2", false},
		{"at a group whose name begins alike", subscription + "/resourceGroups/def", instance, false},
		{"at another subscription", "/subscriptions/11111111-2222-4333-8444-555555555556", instance, false},
		{"asked with a letter that folds into an ASCII one", group, strings.Replace(instance, "default", "defau\u017ft", 1), false},
		{"asked with the Kelvin sign", subscription + "/resourceGroups/k", subscription + "/resourceGroups/\u212a", false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			r := open(t)
			r.assign(t, alice, WebPubSubOwner, tc.assigned)
			if got := r.Allowed(alice, tc.asked, send, true); got != tc.want {
				t.Errorf("got %v", got)
			}
			if r.Allowed(bob, tc.asked, send, true) || r.Allowed("", tc.asked, send, true) {
				t.Error("somebody else may, too")
			}
		})
	}
}

func TestRolesAllowWhatAzureSays(t *testing.T) {
	const (
		control = false
		data    = true
		arm     = "Microsoft.SignalRService/webPubSub/"
		secrets = "Microsoft.KeyVault/vaults/secrets/"
	)
	for _, tc := range []struct {
		role, action string
		data, want   bool
	}{
		{Owner, arm + "write", control, true},
		{Owner, "Microsoft.Authorization/roleAssignments/write", control, true},
		{Owner, send, data, false}, // whoever manages does not therefore use
		{Owner, secrets + "getSecret/action", data, false},
		{Contributor, arm + "listKeys/action", control, true},
		{Contributor, "Microsoft.Authorization/roleAssignments/read", control, true},
		{Contributor, "Microsoft.Authorization/roleAssignments/write", control, false},
		{Contributor, "MICROSOFT.AUTHORIZATION/ROLEASSIGNMENTS/DELETE", control, false},
		{Contributor, send, data, false},
		{Reader, arm + "read", control, true},
		{Reader, arm + "hubs/read", control, true},
		{Reader, arm + "write", control, false},
		{Reader, arm + "listKeys/action", control, false},
		{Reader, "read", control, false}, // no provider
		{Reader, read, data, false},
		{WebPubSubOwner, send, data, true},
		{WebPubSubOwner, strings.ToLower(send), data, true},
		{WebPubSubOwner, send, control, false},
		{WebPubSubOwner, "Microsoft.SignalRService/SignalR/hub/send/action", data, false},
		{WebPubSubOwner, "Microsoft.SignalRService/WebPubSub", data, false},
		{WebPubSubOwner, secrets + "getSecret/action", data, false},
		{WebPubSubReader, read, data, true},
		{WebPubSubReader, send, data, false},
		{WebPubSubReader, "Microsoft.SignalRService/WebPubSub/clientConnection/generateToken/action", data, false},
		{WebPubSubReader, "Microsoft.SignalRService/WebPubSub/clientConnection/write", data, false},
		{WebPubSubReader, "Microsoft.SignalRService/WebPubSub/clientConnection/readwrite", data, false},
		{WebPubSubManager, arm + "write", control, true},
		{WebPubSubManager, "Microsoft.Resources/subscriptions/resourceGroups/read", control, true},
		{WebPubSubManager, "Microsoft.ManagedIdentity/userAssignedIdentities/write", control, false},
		{WebPubSubManager, send, data, false},
		{VaultAdmin, secrets + "setSecret/action", data, true},
		{VaultAdmin, "Microsoft.KeyVault/vaults/keys/read", data, true},
		{VaultSecretsAdmin, secrets + "purge/action", data, true},
		{VaultSecretsAdmin, "Microsoft.KeyVault/vaults/keys/read", data, false},
		{VaultSecretsUser, secrets + "getSecret/action", data, true},
		{VaultSecretsUser, secrets + "readMetadata/action", data, true},
		{VaultSecretsUser, secrets + "setSecret/action", data, false},
		{VaultSecretsUser, secrets + "getSecret/action", control, false},
	} {
		if got := byID[tc.role].allows(tc.action, tc.data); got != tc.want {
			t.Errorf("%s, %s, data %v: got %v", byID[tc.role].Name, tc.action, tc.data, got)
		}
	}
}

func TestDefinitionsAreFoundByGUIDAndARMID(t *testing.T) {
	for _, ref := range []string{
		WebPubSubOwner, strings.ToUpper(WebPubSubOwner), "/providers/Microsoft.Authorization/roleDefinitions/" + WebPubSubOwner,
		subscription + "/providers/microsoft.authorization/ROLEDEFINITIONS/" + WebPubSubOwner,
	} {
		if d, ok := Find(ref); !ok || d.Name != "Web PubSub Service Owner" {
			t.Errorf("%s: %v, %v", ref, d.Name, ok)
		}
	}
	for _, ref := range []string{
		"", "/", alice, "Web PubSub Service Owner", "/" + WebPubSubOwner, "/providers/Microsoft.Authorization/roleAssignments/" + WebPubSubOwner,
		"/providers/Microsoft.Authorization/roleDefinitions/" + WebPubSubOwner + "/", "/providers/Microsoft.Authorization/roleDefinitions/",
	} {
		if d, ok := Find(ref); ok {
			t.Errorf("%q found %s", ref, d.Name)
		}
	}
	names := map[string]bool{}
	for _, d := range Definitions() {
		if _, ok := parseGUID(d.ID); !ok || names[d.Name] || d.Description == "" {
			t.Errorf("%+v", d)
		}
		names[d.Name] = true
	}
	if len(names) != len(byID) {
		t.Errorf("%d names, %d ids", len(names), len(byID))
	}
}

func TestTheSameAssignmentTwiceIsRefused(t *testing.T) {
	r := open(t)
	a := r.assign(t, alice, WebPubSubOwner, instance)
	if a.CreatedOn != clock || a.PrincipalType != "ServicePrincipal" || a.Scope != instance {
		t.Errorf("%+v", a)
	}
	for _, again := range []Assignment{
		{Scope: instance, RoleID: WebPubSubOwner, PrincipalID: alice},
		{Scope: strings.ToUpper(instance) + "/", RoleID: "/providers/Microsoft.Authorization/roleDefinitions/" + strings.ToUpper(WebPubSubOwner), PrincipalID: strings.ToUpper(alice), PrincipalType: "User"},
	} {
		_, _, err := r.Put(t.Context(), again, bob)
		if !errors.Is(err, ErrExists) || !strings.Contains(err.Error(), a.ID) {
			t.Errorf("%v, want ErrExists naming %s", err, a.ID)
		}
	}
	r.assign(t, alice, WebPubSubReader, instance)
	r.assign(t, alice, WebPubSubOwner, group)
	r.assign(t, bob, WebPubSubOwner, instance)
	if n := len(r.Assignments(Filter{})); n != 4 {
		t.Errorf("%d assignments", n)
	}
}

func TestTheSameIDAgainChangesNothingButTheDescription(t *testing.T) {
	r := open(t)
	a := r.assign(t, alice, WebPubSubOwner, instance)
	same, created, err := r.Put(t.Context(), Assignment{ID: strings.ToUpper(a.ID), Scope: instance, RoleID: WebPubSubOwner, PrincipalID: alice}, bob)
	if err != nil || created || same != a {
		t.Errorf("%+v, created %v, %v", same, created, err)
	}
	described, created, err := r.Put(t.Context(), Assignment{ID: a.ID, Scope: instance, RoleID: WebPubSubOwner, PrincipalID: alice, Description: "the orders service"}, bob)
	if err != nil || created || described.Description == "" || described.UpdatedBy != bob || described.CreatedBy != "" {
		t.Errorf("%+v, created %v, %v", described, created, err)
	}
	if kept, _ := r.Assignment(a.ID); kept != described {
		t.Errorf("kept %+v", kept)
	}
	for name, other := range map[string]Assignment{
		"another principal": {ID: a.ID, Scope: instance, RoleID: WebPubSubOwner, PrincipalID: bob},
		"another role":      {ID: a.ID, Scope: instance, RoleID: Owner, PrincipalID: alice},
		"another scope":     {ID: a.ID, Scope: Root, RoleID: WebPubSubOwner, PrincipalID: alice},
	} {
		if _, _, err := r.Put(t.Context(), other, ""); !errors.Is(err, ErrImmutable) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if r.Allowed(bob, instance, send, true) || r.Allowed(alice, Root, send, true) {
		t.Error("a refused change counts")
	}
}

func TestEveryFaultOfAnAssignmentIsNamed(t *testing.T) {
	r := open(t)
	_, _, err := r.Put(t.Context(), Assignment{ID: "x", Scope: "y", RoleID: "z", PrincipalID: "{" + alice[1:] + "}", PrincipalType: "Robot", Description: strings.Repeat("x", maxDescription+1)}, "")
	var fields []string
	for _, e := range err.(interface{ Unwrap() []error }).Unwrap() {
		var v *ValidationError
		if errors.As(e, &v) {
			fields = append(fields, v.Field)
		}
	}
	if want := []string{"roleAssignmentName", "scope", "roleDefinitionId", "principalId", "principalType", "description"}; !slices.Equal(fields, want) {
		t.Errorf("faults %v, want %v", fields, want)
	}
	if len(r.Assignments(Filter{})) != 0 {
		t.Error("it was kept")
	}
}

func TestScopes(t *testing.T) {
	long := group + "/providers/Microsoft.KeyVault/vaults/v/secrets/"
	for _, ok := range []string{
		Root, "//", subscription, group, instance, instance + "/", instance + "/hubs/chat", strings.ToLower(instance),
		subscription + "/providers/Microsoft.X/types/name", instance + "/providers/Microsoft.Y/types/name", long + strings.Repeat("a", maxScope-len(long)),
	} {
		if got, err := ParseScope(ok); err != nil || got != Root && got != strings.TrimRight(ok, "/") {
			t.Errorf("%s: %q, %v", ok, got, err)
		}
	}
	for _, bad := range []string{
		"", "x", "subscriptions/" + alice, "/subscriptions", "/subscriptions/", "/subscriptions/mine", "/tenants/" + alice,
		subscription + "/resourceGroups", subscription + "/x/y", subscription + "//resourceGroups/default", group + "/providers", group + "/providers/Microsoft.X",
		group + "/providers/Microsoft.X/types", instance + "/hubs", instance + "/hubs/chat/x", instance + "/providers/providers/providers",
		group + "/../other", group + "%2Fx", group + "?x=y", group + "*", group + " ", group + "\n", group + "é", strings.Repeat("/", maxScope+1) + "x",
		long + strings.Repeat("a", maxScope-len(long)+1), subscription + strings.Repeat("/providers/a/b/c", maxSegments),
		"/providers/Microsoft.Management/managementGroups/g",
	} {
		if got, err := ParseScope(bad); err == nil {
			t.Errorf("%.200s is %q", bad, got)
		}
	}
}

func TestListsByScopeAndPrincipal(t *testing.T) {
	r := open(t)
	root := r.assign(t, alice, Reader, Root)
	atGroup := r.assign(t, bob, Contributor, group)
	atInstance := r.assign(t, alice, WebPubSubOwner, instance)
	elsewhere := r.assign(t, alice, WebPubSubOwner, instance+"2")
	for _, tc := range []struct {
		name string
		f    Filter
		want []Assignment
	}{
		{"everything", Filter{}, []Assignment{root, atGroup, atInstance, elsewhere}},
		{"what counts at the instance", Filter{Scope: instance}, []Assignment{root, atGroup, atInstance}},
		{"the group and below", Filter{Scope: strings.ToUpper(group)}, []Assignment{root, atGroup, atInstance, elsewhere}},
		{"the group, nothing below", Filter{Scope: group, AtScope: true}, []Assignment{root, atGroup}},
		{"the root, nothing below", Filter{Scope: Root, AtScope: true}, []Assignment{root}},
		{"the root and below", Filter{Scope: Root}, []Assignment{root, atGroup, atInstance, elsewhere}},
		{"one principal", Filter{PrincipalID: strings.ToUpper(bob)}, []Assignment{atGroup}},
		{"one principal at the instance", Filter{Scope: instance, PrincipalID: alice}, []Assignment{root, atInstance}},
		{"nobody", Filter{PrincipalID: "cccccccc-0000-4000-8000-000000000003"}, nil},
	} {
		if got := r.Assignments(tc.f); !slices.Equal(got, tc.want) {
			t.Errorf("%s: got %v, want %v", tc.name, got, tc.want)
		}
	}
}

func TestADeletedAssignmentCountsNoMore(t *testing.T) {
	r := open(t)
	changes := 0
	r.OnChange(func() { changes++ })
	a := r.assign(t, alice, WebPubSubOwner, instance)
	if !r.Known(strings.ToUpper(alice)) {
		t.Error("not known")
	}
	if was, err := r.Delete(t.Context(), strings.ToUpper(a.ID)); err != nil || was != a {
		t.Errorf("%+v, %v", was, err)
	}
	if r.Allowed(alice, instance, send, true) || r.Known(alice) || changes != 2 {
		t.Errorf("it counts, or %d changes were told", changes)
	}
	if _, err := r.Delete(t.Context(), a.ID); !errors.Is(err, ErrNotFound) {
		t.Errorf("again: %v", err)
	}
}

func TestTheEndOfAScopeEndsItsAssignments(t *testing.T) {
	r := open(t)
	r.assign(t, alice, WebPubSubOwner, instance)
	r.assign(t, alice, WebPubSubReader, instance+"/hubs/chat")
	kept := r.assign(t, alice, WebPubSubReader, instance+"2")
	above := r.assign(t, bob, Reader, group)
	if err := r.DeleteScope(t.Context(), strings.ToUpper(instance)); err != nil {
		t.Fatal(err)
	}
	if got := r.Assignments(Filter{}); !slices.Equal(got, []Assignment{above, kept}) {
		t.Errorf("left: %v", got)
	}
}

func TestAssignmentsSurviveARestart(t *testing.T) {
	dir := t.TempDir()
	s, stop := openStore(t, dir)
	a := openOn(t, s).assign(t, alice, WebPubSubOwner, instance)
	stop()
	s, _ = openStore(t, dir)
	r := openOn(t, s)
	if got, ok := r.Assignment(a.ID); !ok || got != a || !r.Allowed(alice, instance, send, true) {
		t.Errorf("%+v, %v", got, ok)
	}
}

func TestAnotherProcessSeesAndCannotRepeatAnAssignment(t *testing.T) {
	s, _ := openStore(t, t.TempDir())
	one, two := openOn(t, s), openOn(t, s)
	changed := make(chan struct{}, 1)
	for _, r := range []*RBAC{one, two} {
		r.OnChange(func() {
			select {
			case changed <- struct{}{}:
			default:
			}
		})
	}
	const racers = 8
	var wg sync.WaitGroup
	var mu sync.Mutex
	won := 0
	for i := range racers {
		wg.Go(func() {
			r := one
			if i%2 == 1 {
				r = two
			}
			_, created, err := r.Put(context.Background(), Assignment{Scope: instance, RoleID: WebPubSubOwner, PrincipalID: alice}, "")
			if err != nil && !errors.Is(err, ErrExists) {
				t.Error(err)
			}
			if created && err == nil {
				mu.Lock()
				won++
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	if won != 1 {
		t.Errorf("%d of %d created it", won, racers)
	}
	deadline := time.After(10 * time.Second)
	for !one.Allowed(alice, instance, send, true) || !two.Allowed(alice, instance, send, true) {
		select {
		case <-changed:
		case <-deadline:
			t.Fatal("the other one does not learn of it")
		}
	}
}

func TestTheNumberOfAssignmentsIsBounded(t *testing.T) {
	s, _ := openStore(t, t.TempDir())
	r, err := Open(t.Context(), s, Options{limit: 3})
	if err != nil {
		t.Fatal(err)
	}
	for i := range 3 {
		r.assign(t, fmt.Sprintf("aaaaaaaa-0000-4000-8000-%012d", i), Reader, Root)
	}
	if _, created, err := r.Put(t.Context(), Assignment{Scope: instance, RoleID: Reader, PrincipalID: bob}, ""); !errors.Is(err, ErrQuota) || created {
		t.Errorf("%v, created %v", err, created)
	}
	if r.Allowed(bob, instance, read, false) {
		t.Error("it counts")
	}
}

func TestAQuestionAllocatesNothing(t *testing.T) {
	r := open(t)
	for i := range 20 {
		r.assign(t, alice, WebPubSubOwner, fmt.Sprintf("%s%d", instance, i))
	}
	r.assign(t, alice, WebPubSubOwner, group)
	if n := testing.AllocsPerRun(100, func() { r.Allowed(alice, instance, send, true) }); n > 0 {
		t.Errorf("%v allocations", n)
	}
}

func BenchmarkAllowed(b *testing.B) {
	r := open(b)
	for i := range 200 {
		r.assign(b, fmt.Sprintf("cccccccc-0000-4000-8000-%012d", i), WebPubSubOwner, instance)
	}
	r.assign(b, alice, WebPubSubReader, instance)
	r.assign(b, alice, WebPubSubOwner, subscription)
	b.ReportAllocs()
	for b.Loop() {
		if !r.Allowed(alice, instance, send, true) {
			b.Fatal("refused")
		}
	}
}

func FuzzParseScope(f *testing.F) {
	for _, seed := range []string{Root, subscription, group, instance, instance + "/hubs/chat", "/subscriptions/x", "//", group + "/providers/a/b"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		scope, err := ParseScope(text)
		if err != nil {
			return
		}
		if again, err := ParseScope(scope); err != nil || again != scope {
			t.Errorf("%q becomes %q, which becomes %q, %v", text, scope, again, err)
		}
		folded := foldScope(scope)
		if !covers(folded, scope) || !covers("", scope) || folded != "" && covers(folded, folded+"x") || !covers(folded, scope+"/x") {
			t.Errorf("%q does not cover itself, or more than itself", scope)
		}
	})
}

func FuzzMatch(f *testing.F) {
	f.Add("*/read", "a/b/read")
	f.Add("a*b*c", "abcabc")
	f.Add("*", "")
	f.Fuzz(func(t *testing.T, pattern, s string) {
		pattern = strings.ToLower(pattern)
		if len(pattern) > 64 || len(s) > 64 || strings.ToLower(s) != asciiLower(s) {
			return
		}
		if got, want := match(pattern, s), naive(pattern, asciiLower(s)); got != want {
			t.Errorf("match(%q, %q) is %v", pattern, s, got)
		}
	})
}

func asciiLower(s string) string {
	b := []byte(s)
	for i := range b {
		b[i] = fold(b[i])
	}
	return string(b)
}

// naive says what match must say, by a table of all prefixes.
func naive(pattern, s string) bool {
	row := make([]bool, len(s)+1)
	row[0] = true
	for i := range len(pattern) {
		next := make([]bool, len(s)+1)
		for j := range next {
			switch {
			case pattern[i] == '*':
				next[j] = row[j] || j > 0 && next[j-1]
			case j > 0:
				next[j] = row[j-1] && pattern[i] == s[j-1]
			}
		}
		row = next
	}
	return row[len(s)]
}
