package directory

import (
	"errors"
	"slices"
	"strings"
	"testing"
)

func TestResolveResource(t *testing.T) {
	d := open(t)
	one, two := 1, 2
	v1, _ := register(t, d, "orders", "api://orders", "https://Orders.example/Api/")
	v2, _ := registerAs(t, d, Application{DisplayName: "billing", IdentifierURIs: []string{"api://billing"}, RequestedAccessTokenVersion: &two})
	explicitV1, _ := registerAs(t, d, Application{DisplayName: "stock", IdentifierURIs: []string{"api://stock"}, RequestedAccessTokenVersion: &one})
	for _, row := range []struct {
		name, resource, appID string
		version               int
		graph                 bool
	}{
		{"an appId", v1.AppID, v1.AppID, 1, false},
		{"an appId in upper case", strings.ToUpper(v1.AppID), v1.AppID, 1, false},
		{"an identifier URI", "api://orders", v1.AppID, 1, false},
		{"with one trailing slash", "api://orders/", v1.AppID, 1, false},
		{"with the host in upper case", "api://ORDERS", v1.AppID, 1, false},
		{"registered with a slash, asked for without", "https://orders.example/Api", v1.AppID, 1, false},
		{"an application that wants v2", "api://billing", v2.AppID, 2, false},
		{"an application that wants v1 explicitly", "api://stock", explicitV1.AppID, 1, false},
		{"nothing means Graph", "", "00000003-0000-0000-c000-000000000000", 1, true},
		{"Graph by URI", "https://graph.microsoft.com", "00000003-0000-0000-c000-000000000000", 1, true},
		{"Graph with a slash", "https://graph.microsoft.com/", "00000003-0000-0000-c000-000000000000", 1, true},
		{"Graph by id", "00000003-0000-0000-C000-000000000000", "00000003-0000-0000-c000-000000000000", 1, true},
		{"Key Vault", "https://vault.azure.net", "cfa8b339-82a2-471a-a3c9-0fc0be7a4093", 1, false},
		{"Resource Manager", "https://management.azure.com/", "797f4846-ba00-4fd7-ba43-dac1f8f63013", 1, false},
		{"Resource Manager, old name", "https://management.core.windows.net/", "797f4846-ba00-4fd7-ba43-dac1f8f63013", 1, false},
		{"Web PubSub", "https://webpubsub.azure.com", "", 1, false},
		{"Event Hubs", "https://eventhubs.azure.net", "80369ed6-5f11-4dd9-bef3-692475845e77", 1, false},
		{"Storage", "https://storage.azure.com/", "e406a681-f3d4-42a8-90b6-c2b029497af1", 1, false},
	} {
		t.Run(row.name, func(t *testing.T) {
			got, err := d.ResolveResource(row.resource)
			if err != nil {
				t.Fatal(err)
			}
			if got.AppID != row.appID || got.TokenVersion != row.version || got.Graph != row.graph || got.Name == "" {
				t.Errorf("got %+v, want %+v", got, row)
			}
			_, ours := d.Application(row.appID)
			if ours != (got.Principal != nil) || ours && got.Principal.AppID != row.appID {
				t.Errorf("principal %+v", got.Principal)
			}
		})
	}
}

func TestAnUnknownResourceIsNamedTogetherWithWhatWasMeant(t *testing.T) {
	d := open(t)
	orders, _ := register(t, d, "Order service", "api://orders", "api://sample-handler")
	bare := must(d.CreateApplication(t.Context(), Application{DisplayName: "no principal", IdentifierURIs: []string{"api://bare"}}))(t)
	managed := must(d.CreateManagedIdentity(t.Context(), "default", instanceID, false))(t)
	for _, row := range []struct {
		name, resource string
		near           []string
	}{
		{"a role appended", "api://orders/Events.Send", []string{"api://orders"}},
		{"a v2 scope", "api://orders/.default", []string{"api://orders"}},
		{"two trailing slashes", "api://orders//", []string{"api://orders"}},
		{"the scheme forgotten", "orders", []string{"api://orders"}},
		{"another scheme", "https://sample-handler", []string{"api://sample-handler"}},
		{"the scheme in upper case", "API://orders", []string{"api://orders"}},
		{"a letter missing", "api://sample-handlr", []string{"api://sample-handler"}},
		{"two letters swapped", "api://smaple-handler", []string{"api://sample-handler"}},
		{"the display name", "order SERVICE", nil}, // white space: not even a URI, see below
		{"a Microsoft resource, mistyped", "https://vaults.azure.net", []string{"https://vault.azure.net"}},
		{"nothing like it", "api://elsewhere", nil},
		{"a GUID that nobody has", "eeee0000-0000-4000-8000-00000000000e", nil},
		{"an object id is not an appId", orders.ID, nil},
		{"a managed identity is not an audience", managed.AppID, nil},
	} {
		t.Run(row.name, func(t *testing.T) {
			_, err := d.ResolveResource(row.resource)
			var unknown *ResourceNotFoundError
			if strings.Contains(row.resource, " ") {
				var v *ValidationError
				if !errors.As(err, &v) || v.Field != "resource" {
					t.Fatalf("got %v, want a fault of resource", err)
				}
				return
			}
			if !errors.As(err, &unknown) || !errors.Is(err, ErrNotFound) {
				t.Fatalf("got %v, want a ResourceNotFoundError", err)
			}
			if !slices.Equal(unknown.Near, row.near) || unknown.Resource != row.resource || !strings.Contains(err.Error(), row.resource) {
				t.Errorf("got %+v (%v), want near %q", unknown, err, row.near)
			}
		})
	}
	_, err := d.ResolveResource("api://bare")
	var unknown *ResourceNotFoundError
	if !errors.As(err, &unknown) || unknown.Unregistered != "no principal" {
		t.Errorf("an application without service principal: %v", err)
	}
	must(d.CreateServicePrincipal(t.Context(), bare.AppID))(t)
	must(d.ResolveResource("api://bare"))(t)
	for _, bad := range []string{"api://a\nb", "api://a b", "\xff", strings.Repeat("a", 2049)} {
		var v *ValidationError
		if _, err := d.ResolveResource(bad); !errors.As(err, &v) || len(err.Error()) > 300 {
			t.Errorf("%.20q: %v", bad, err)
		}
	}
}

func TestTheDisplayNameOfAnApplicationLeadsToItsID(t *testing.T) {
	d := open(t)
	a, _ := register(t, d, "Orders")
	_, err := d.ResolveResource("orders")
	var unknown *ResourceNotFoundError
	if !errors.As(err, &unknown) || !slices.Equal(unknown.Near, []string{a.AppID}) {
		t.Errorf("got %v, want %s near", err, a.AppID)
	}
}

func TestEditDistance(t *testing.T) {
	for _, row := range []struct {
		a, b  string
		limit int
		want  int
	}{
		{"", "", 3, 0}, {"a", "a", 0, 0}, {"a", "b", 0, 1}, {"kitten", "sitting", 3, 3}, {"kitten", "sitting", 2, 3},
		{"abc", "abcdef", 3, 3}, {"abcdef", "abc", 3, 3}, {"abcdefg", "abc", 3, 4}, {"flaw", "lawn", 3, 2}, {"", "ab", 3, 2},
	} {
		if got := editDistance(row.a, row.b, row.limit); got != row.want {
			t.Errorf("%q to %q within %d: %d, want %d", row.a, row.b, row.limit, got, row.want)
		}
	}
}

func FuzzResolveResource(f *testing.F) {
	for _, s := range []string{"", "api://orders", "api://orders/", "00000003-0000-0000-c000-000000000000", "urn:x", "://", "a://B/C?d#e"} {
		f.Add(s)
	}
	d := open(f)
	register(f, d, "orders", "api://orders")
	f.Fuzz(func(t *testing.T, resource string) {
		if r, err := d.ResolveResource(resource); err != nil && r != (Resource{}) {
			t.Fatalf("%q: both %+v and %v", resource, r, err)
		}
		if n := normalizeURI(resource); checkURI(resource) == "" && n != "" {
			// What may be registered is found again under what it is compared by.
			if again := normalizeURI(n + "/"); again != n {
				t.Fatalf("%q compares as %q, with a slash as %q", resource, n, again)
			}
		}
	})
}

func FuzzEditDistance(f *testing.F) {
	f.Add("kitten", "sitting", 3)
	f.Fuzz(func(t *testing.T, a, b string, limit int) {
		if limit < 0 || limit > 5 || len(a) > 40 || len(b) > 40 {
			return
		}
		if got, want := editDistance(a, b, limit), min(levenshtein(a, b), limit+1); got != want {
			t.Fatalf("%q to %q within %d: %d, want %d", a, b, limit, got, want)
		}
	})
}

// levenshtein is the definition, to compare with.
func levenshtein(a, b string) int {
	m := make([][]int, len(a)+1)
	for i := range m {
		m[i] = make([]int, len(b)+1)
		m[i][0] = i
	}
	for j := range m[0] {
		m[0][j] = j
	}
	for i := 1; i <= len(a); i++ {
		for j := 1; j <= len(b); j++ {
			cost := 1
			if a[i-1] == b[j-1] {
				cost = 0
			}
			m[i][j] = min(m[i-1][j]+1, m[i][j-1]+1, m[i-1][j-1]+cost)
		}
	}
	return m[len(a)][len(b)]
}

func TestEmbeddedVaultsAreKeyVault(t *testing.T) {
	s, _ := openStore(t, t.TempDir())
	d := must(Open(t.Context(), s, Options{VaultResources: func() []string { return []string{"https://kv.test:8443"} }}))(t)
	for _, resource := range []string{"https://kv.test:8443", "https://kv.test:8443/", "https://KV.test:8443"} {
		r, err := d.ResolveResource(resource)
		if err != nil || r.AppID != "cfa8b339-82a2-471a-a3c9-0fc0be7a4093" || r.TokenVersion != 1 {
			t.Errorf("%s: %+v, %v", resource, r, err)
		}
	}
	for _, resource := range []string{"https://kv.test", "https://v1.kv.test:8443"} {
		if _, err := d.ResolveResource(resource); err == nil {
			t.Errorf("%s is a resource", resource)
		}
	}
}

func TestTheTokenExchangeIsKnownByBothNamesAndTakesVersion2(t *testing.T) {
	d := open(t)
	for _, name := range []string{TokenExchange, "api://azureadtokenexchange", TokenExchangeAppID} {
		r, err := d.ResolveResource(name)
		if err != nil || r.AppID != TokenExchangeAppID || r.TokenVersion != 2 {
			t.Errorf("%s: %+v, %v", name, r, err)
		}
	}
	if r, err := d.ResolveResource("https://vault.azure.net"); err != nil || r.TokenVersion != 1 {
		t.Errorf("%+v, %v", r, err)
	}
}
