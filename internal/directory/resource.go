package directory

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// Graph is the identifier URI of Microsoft Graph, the audience of a request that names none.
const Graph = "https://graph.microsoft.com"

// TokenExchangeAppID is what [TokenExchange] is called in the aud of a v2 token.
const TokenExchangeAppID = "fb60f99c-7a34-4190-8149-302f77469936"

// The identifier URIs of Azure Key Vault and Azure Resource Manager.
const (
	keyVault        = "https://vault.azure.net"
	resourceManager = "https://management.azure.com"
)

// maxResource bounds the resource of a token request, in bytes.
const maxResource = 2 << 10

// A Resource is what a token can be made for.
type Resource struct {
	// AppID is the GUID of the application; empty for a Microsoft resource whose GUID is not public.
	AppID        string
	Name         string // display name
	TokenVersion int    // 1 or 2: the version of the tokens that it asks for
	// Principal is the application's service principal in this tenant; nil for Microsoft's own resources.
	Principal *ServicePrincipal
	// Graph marks Microsoft Graph, whose tokens nobody but Graph can verify.
	Graph bool
}

type wellKnown struct {
	Resource
	uris []string
}

// Microsoft's own resources exist in every tenant. All take v1 tokens (identity.md 5.3) but for the token exchange:
// a federated credential that trusts a managed identity names the v2 issuer (4.4).
var wellKnowns = []wellKnown{
	{Resource{AppID: "00000003-0000-0000-c000-000000000000", Name: "Microsoft Graph", Graph: true}, []string{Graph}},
	{Resource{AppID: "cfa8b339-82a2-471a-a3c9-0fc0be7a4093", Name: "Azure Key Vault"}, []string{keyVault}},
	{Resource{AppID: "797f4846-ba00-4fd7-ba43-dac1f8f63013", Name: "Azure Resource Manager"}, []string{resourceManager, "https://management.core.windows.net"}},
	{Resource{Name: "Azure Web PubSub"}, []string{"https://webpubsub.azure.com"}},
	{Resource{AppID: "80369ed6-5f11-4dd9-bef3-692475845e77", Name: "Azure Event Hubs"}, []string{"https://eventhubs.azure.net"}},
	{Resource{AppID: "e406a681-f3d4-42a8-90b6-c2b029497af1", Name: "Azure Storage"}, []string{"https://storage.azure.com"}},
	{Resource{AppID: TokenExchangeAppID, Name: "AAD Token Exchange", TokenVersion: 2}, []string{TokenExchange}},
}

var wellKnownByURI, wellKnownByAppID = func() (byURI, byAppID map[string]Resource) {
	byURI, byAppID = map[string]Resource{}, map[string]Resource{}
	for _, w := range wellKnowns {
		w.TokenVersion = cmp.Or(w.TokenVersion, 1)
		if w.AppID != "" {
			byAppID[w.AppID] = w.Resource
		}
		for _, uri := range w.uris {
			byURI[normalizeURI(uri)] = w.Resource
		}
	}
	return byURI, byAppID
}()

// A ResourceNotFoundError says that no token can be made for a string, and what may have been meant. It is
// an ErrNotFound.
type ResourceNotFoundError struct {
	Resource string // as looked up
	// Near are at most three names that exist, the nearest first.
	Near []string
	// Unregistered is the display name of an application that has the name but no service principal.
	Unregistered string
}

func (e *ResourceNotFoundError) Error() string {
	text := fmt.Sprintf("resource %q", e.Resource)
	switch {
	case e.Unregistered != "":
		return text + fmt.Sprintf(" is application %q, which has no service principal in the tenant: create one", e.Unregistered)
	case len(e.Near) > 0:
		return text + " is not registered in the tenant; names that exist and are similar: " + strings.Join(e.Near, ", ")
	}
	return text + " is not registered in the tenant: no application has it as its id or identifier URI"
}

func (e *ResourceNotFoundError) Unwrap() error { return ErrNotFound }

// ResolveResource finds what the resource of a token request means (identity.md 4.2): empty is Microsoft
// Graph, a GUID is an appId, everything else an identifier URI. Errors are a *ValidationError for what no
// resource can be called and a *ResourceNotFoundError.
func (d *Directory) ResolveResource(resource string) (Resource, error) {
	if resource == "" {
		resource = Graph
	}
	if len(resource) > maxResource || strings.ContainsFunc(resource, func(r rune) bool { return r <= ' ' || r == 0x7f || r == '\uFFFD' }) {
		return Resource{}, &ValidationError{"resource", fmt.Sprintf("%.100q is not a GUID or URI of at most %d bytes", resource, maxResource)}
	}
	var id string
	if guid, ok := parseGUID(resource); ok {
		if known, ok := wellKnownByAppID[guid]; ok {
			return known, nil
		}
		id = d.index.Load().appByAppID[guid]
	} else {
		uri := normalizeURI(resource)
		if known, ok := wellKnownByURI[uri]; ok {
			return known, nil
		}
		if slices.Contains(d.vaults(), uri) {
			return wellKnownByURI[keyVault], nil
		}
		if slices.Contains(d.control(), uri) {
			return wellKnownByURI[resourceManager], nil
		}
		id = d.index.Load().appByURI[uri]
	}
	app, ok := d.applications.Get(id)
	if !ok {
		return Resource{}, &ResourceNotFoundError{Resource: resource, Near: d.near(resource)}
	}
	p, ok := d.ServicePrincipalByAppID(app.Value.AppID)
	if !ok {
		return Resource{}, &ResourceNotFoundError{Resource: resource, Unregistered: app.Value.DisplayName}
	}
	r := Resource{AppID: app.Value.AppID, Name: app.Value.DisplayName, TokenVersion: 1, Principal: &p}
	if v := app.Value.RequestedAccessTokenVersion; v != nil {
		r.TokenVersion = *v
	}
	return r, nil
}

// near returns up to three existing names that a person may have meant by resource.
func (d *Directory) near(resource string) []string {
	type match struct {
		name     string
		distance int
	}
	var matches []match
	consider := func(name string) {
		if n, ok := likeness(resource, name); ok {
			matches = append(matches, match{name, n})
		}
	}
	for _, item := range d.applications.All() {
		for _, uri := range item.Value.IdentifierURIs {
			consider(uri)
		}
		if strings.EqualFold(item.Value.DisplayName, resource) {
			matches = append(matches, match{item.Value.AppID, 1})
		}
	}
	for uri := range wellKnownByURI {
		consider(uri)
	}
	slices.SortFunc(matches, func(a, b match) int {
		return cmp.Or(cmp.Compare(a.distance, b.distance), strings.Compare(a.name, b.name))
	})
	var names []string
	for _, m := range matches[:min(len(matches), 3)] {
		names = append(names, m.name)
	}
	return names
}

// likeness tells whether a person may have meant name by resource, and how far the two are apart. The
// mistakes that are made: a scope or role appended to the URI, the scheme forgotten or another one, the case
// of the path, a letter or two.
func likeness(resource, name string) (distance int, ok bool) {
	a, b := lower(normalizeURI(resource)), lower(normalizeURI(name))
	if a == b {
		return 0, true
	}
	if strings.HasPrefix(a, b+"/") || strings.HasPrefix(b, a+"/") {
		return 1, true
	}
	bareA, bareB := a[strings.LastIndex(a, ":")+1:], b[strings.LastIndex(b, ":")+1:]
	bareA, bareB = strings.TrimLeft(bareA, "/"), strings.TrimLeft(bareB, "/")
	if bareA == bareB {
		return 1, true
	}
	limit := min(3, len(bareB)/4)
	n := editDistance(bareA, bareB, limit)
	return 1 + n, n <= limit
}

// editDistance is Levenshtein's, or limit+1 if it is more than limit. It costs length times limit.
func editDistance(a, b string, limit int) int {
	if len(a)-len(b) > limit || len(b)-len(a) > limit {
		return limit + 1
	}
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := 1; i <= len(a); i++ {
		from, to := max(1, i-limit), min(len(b), i+limit)
		diagonal := row[from-1]
		if from == 1 {
			row[0] = i
		} else {
			row[from-1] = limit + 1
		}
		best := row[from-1]
		for j := from; j <= to; j++ {
			above := row[j]
			if j == i+limit {
				above = limit + 1 // outside the band in the previous row
			}
			cost := diagonal
			if a[i-1] != b[j-1] {
				cost = 1 + min(diagonal, above, row[j-1])
			}
			diagonal, row[j] = row[j], cost
			best = min(best, cost)
		}
		if best > limit {
			return limit + 1
		}
	}
	return min(row[len(b)], limit+1)
}
