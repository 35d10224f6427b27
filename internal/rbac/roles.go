package rbac

import (
	"cmp"
	"slices"
	"strings"
)

// A Definition is a role: the actions that it allows. "*" in an action stands for any text, slashes included; case is
// ignored. Slices are shared and must not be changed.
type Definition struct {
	ID          string // GUID
	Name        string
	Description string

	Actions, NotActions         []string // of the control plane
	DataActions, NotDataActions []string // of the data plane
}

// The ids of built-in roles that other packages name.
const (
	Owner             = "8e3af657-a8ff-443c-a75c-2fe8c4bcb635"
	Contributor       = "b24988ac-6180-42a0-ab88-20f7382dd24c"
	Reader            = "acdd72a7-3385-48ef-bd42-f606fba81ae7"
	WebPubSubOwner    = "12cf5a90-567b-43ae-8102-96cf46c7d9b4" // Web PubSub Service Owner
	WebPubSubReader   = "bfb1c7d2-fb1a-466b-b2ba-aee63b92deaf" // Web PubSub Service Reader
	WebPubSubManager  = "8cf5e20a-e4b2-4e9d-b3a1-5ceb692c2761" // SignalR/Web PubSub Contributor
	IdentityManager   = "e40ec5ca-96e0-45a2-b4ff-59039f2c2b59" // Managed Identity Contributor
	IdentityOperator  = "f1a07417-d97a-45cb-824c-7a7467783830" // Managed Identity Operator
	VaultAdmin        = "00482a5a-887f-4fb3-b363-3b7fe8e74483" // Key Vault Administrator
	VaultSecretsAdmin = "b86a8fe4-44ce-4948-aee5-eccb2c155cd7" // Key Vault Secrets Officer
	VaultSecretsUser  = "4633458b-17de-408a-b874-0445c86b69e6" // Key Vault Secrets User
)

// manage are the actions around a resource that Azure gives to those who manage or use it.
var manage = []string{
	"Microsoft.Authorization/*/read", "Microsoft.Insights/alertRules/*", "Microsoft.Resources/deployments/*",
	"Microsoft.Resources/subscriptions/resourceGroups/read", "Microsoft.Support/*",
}

var manageVaults = append(manage[:len(manage):len(manage)],
	"Microsoft.KeyVault/checkNameAvailability/read", "Microsoft.KeyVault/deletedVaults/read", "Microsoft.KeyVault/locations/*/read",
	"Microsoft.KeyVault/vaults/*/read", "Microsoft.KeyVault/operations/read",
)

// builtIn are Azure's built-in roles, as far as this service has something for them to allow. Owner and Contributor
// have no data actions, as in Azure: who may manage an instance may not therefore use it.
var builtIn = []Definition{
	{ID: Owner, Name: "Owner", Description: "Manages everything, and assigns roles.", Actions: []string{"*"}},
	{ID: Contributor, Name: "Contributor", Description: "Manages everything, but assigns no roles.", Actions: []string{"*"},
		NotActions: []string{"Microsoft.Authorization/*/Delete", "Microsoft.Authorization/*/Write", "Microsoft.Authorization/elevateAccess/Action"}},
	{ID: Reader, Name: "Reader", Description: "Sees everything, changes nothing, reads no keys.", Actions: []string{"*/read"}},

	{ID: WebPubSubOwner, Name: "Web PubSub Service Owner", Description: "Full access to the REST APIs of Web PubSub.",
		DataActions: []string{"Microsoft.SignalRService/WebPubSub/*"}},
	{ID: WebPubSubReader, Name: "Web PubSub Service Reader", Description: "Read-only access to the REST APIs of Web PubSub.",
		DataActions: []string{"Microsoft.SignalRService/WebPubSub/*/read"}},
	{ID: WebPubSubManager, Name: "SignalR/Web PubSub Contributor", Description: "Creates, changes and deletes SignalR and Web PubSub resources.",
		Actions: append(manage[:len(manage):len(manage)], "Microsoft.SignalRService/*", "Microsoft.ResourceHealth/availabilityStatuses/read")},

	{ID: IdentityManager, Name: "Managed Identity Contributor", Description: "Creates, reads, changes and deletes user-assigned identities.",
		Actions: append(manage[:len(manage):len(manage)], "Microsoft.ManagedIdentity/userAssignedIdentities/read", "Microsoft.ManagedIdentity/userAssignedIdentities/write",
			"Microsoft.ManagedIdentity/userAssignedIdentities/delete", "Microsoft.ManagedIdentity/userAssignedIdentities/*/read",
			"Microsoft.ManagedIdentity/userAssignedIdentities/federatedIdentityCredentials/write", "Microsoft.ManagedIdentity/userAssignedIdentities/federatedIdentityCredentials/delete")},
	{ID: IdentityOperator, Name: "Managed Identity Operator", Description: "Reads user-assigned identities and assigns them.",
		Actions: append(manage[:len(manage):len(manage)], "Microsoft.ManagedIdentity/userAssignedIdentities/read", "Microsoft.ManagedIdentity/userAssignedIdentities/*/read",
			"Microsoft.ManagedIdentity/userAssignedIdentities/assign/action", "Microsoft.ManagedIdentity/userAssignedIdentities/*/assign/action")},

	{ID: VaultAdmin, Name: "Key Vault Administrator", Description: "Does everything with the contents of a key vault.",
		Actions: manageVaults, DataActions: []string{"Microsoft.KeyVault/vaults/*"}},
	{ID: VaultSecretsAdmin, Name: "Key Vault Secrets Officer", Description: "Does everything with the secrets of a key vault, except managing permissions.",
		Actions: manageVaults, DataActions: []string{"Microsoft.KeyVault/vaults/secrets/*"}},
	{ID: VaultSecretsUser, Name: "Key Vault Secrets User", Description: "Reads the contents of secrets.",
		DataActions: []string{"Microsoft.KeyVault/vaults/secrets/getSecret/action", "Microsoft.KeyVault/vaults/secrets/readMetadata/action"}},
}

// A role is a Definition made ready: its patterns folded.
type role struct {
	*Definition
	actions, notActions, dataActions, notDataActions []string
}

var byID = func() map[string]*role {
	m := make(map[string]*role, len(builtIn))
	for i := range builtIn {
		d := &builtIn[i]
		m[d.ID] = &role{d, foldAll(d.Actions), foldAll(d.NotActions), foldAll(d.DataActions), foldAll(d.NotDataActions)}
	}
	return m
}()

func foldAll(patterns []string) []string {
	folded := make([]string, len(patterns))
	for i, p := range patterns {
		folded[i] = strings.ToLower(p)
	}
	return folded
}

// Definitions lists the roles by name.
func Definitions() []Definition {
	return slices.SortedFunc(slices.Values(builtIn), func(a, b Definition) int { return cmp.Compare(a.Name, b.Name) })
}

// Find returns a role by its GUID or by the ARM id of its definition, at whatever scope that names it.
func Find(ref string) (Definition, bool) {
	const kind = "/providers/microsoft.authorization/roledefinitions/"
	if i := strings.LastIndexByte(ref, '/'); i >= 0 {
		if head := foldScope(ref[:i]) + "/"; !strings.HasSuffix(head, kind) {
			return Definition{}, false
		}
		ref = ref[i+1:]
	}
	r, ok := byID[strings.ToLower(ref)]
	if !ok {
		return Definition{}, false
	}
	return *r.Definition, true
}

// allows tells whether the role allows an action.
func (r *role) allows(action string, data bool) bool {
	if data {
		return matchAny(r.dataActions, action) && !matchAny(r.notDataActions, action)
	}
	return matchAny(r.actions, action) && !matchAny(r.notActions, action)
}

func matchAny(patterns []string, action string) bool {
	for _, p := range patterns {
		if match(p, action) {
			return true
		}
	}
	return false
}

// match compares an action with a folded pattern. It never looks further back than the last "*", so it takes at most
// the product of both lengths.
func match(pattern, s string) bool {
	p, i, star, mark := 0, 0, -1, 0
	for i < len(s) {
		switch {
		case p < len(pattern) && pattern[p] == '*':
			star, mark = p, i
			p++
		case p < len(pattern) && pattern[p] == fold(s[i]):
			p++
			i++
		case star >= 0: // the last "*" takes one more
			mark++
			p, i = star+1, mark
		default:
			return false
		}
	}
	for p < len(pattern) && pattern[p] == '*' {
		p++
	}
	return p == len(pattern)
}
