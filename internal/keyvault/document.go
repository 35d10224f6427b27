package keyvault

import (
	"encoding/json"
	"strings"
	"time"
)

// A document is one entry of the store's bucket; exactly one member is set, as its key says (see docKey).
type document struct {
	Vault   *Vault  `json:"vault,omitempty"`
	Version *stored `json:"version,omitempty"`
	Mark    *mark   `json:"mark,omitempty"`
	Key     []byte  `json:"key,omitempty"` // of backups, wrapped
}

// stored is one version of a secret. Once it is in the index it is not changed, only replaced.
type stored struct {
	Name        string            `json:"name"` // in the case in which it was set
	ID          string            `json:"id"`   // 32 hex digits
	Sequence    uint64            `json:"sequence"`
	Sealed      []byte            `json:"sealed"` // the value, under the vault's data key, bound to the document's key
	ContentType string            `json:"contentType,omitempty"`
	Disabled    bool              `json:"disabled,omitempty"`
	NotBefore   *int64            `json:"nbf,omitempty"` // Unix seconds, like all below
	Expires     *int64            `json:"exp,omitempty"`
	Created     int64             `json:"created"`
	Updated     int64             `json:"updated"`
	Tags        map[string]string `json:"tags,omitempty"`

	revision uint64
}

// A mark hides all versions of a secret: it is deleted, or a purge or restore of it is under way.
type mark struct {
	State    markState `json:"state"`
	Since    int64     `json:"since"`           // Unix seconds, like the next
	Purge    int64     `json:"purge,omitempty"` // when a deleted secret ends for good
	revision uint64
}

type markState string

const (
	deleted   markState = "deleted"
	purging   markState = "purging"   // to be finished by whoever finds it
	restoring markState = "restoring" // to be undone by whoever finds it old
)

// abandoned is the age at which a restore is taken for one whose process died.
const abandoned = 2 * time.Minute

// The kinds of documents, the first part of their keys.
const (
	vaultKind  = "vault"
	secretKind = "secret"
	markKind   = "mark"
	backupKind = "backup-key"
)

// docKey names a document: vault/NAME, secret/VAULT/NAME/VERSION, mark/VAULT/NAME, backup-key. All names are in lower
// case and hold no slash. A version's key is also what its value is sealed to.
func docKey(parts ...string) string { return strings.Join(parts, "/") }

func splitKey(key string) (kind, vault, name, version string) {
	parts := strings.SplitN(key, "/", 4)
	for len(parts) < 4 {
		parts = append(parts, "")
	}
	return parts[0], parts[1], parts[2], parts[3]
}

// A Vault is one key vault in the shape of ARM's Microsoft.KeyVault/vaults. Values that are handed out are shared and
// must not be changed.
type Vault struct {
	Name           string            `json:"name"` // as created; compared ignoring case
	SubscriptionID string            `json:"subscriptionId"`
	ResourceGroup  string            `json:"resourceGroup"`
	Location       string            `json:"location"`
	Tags           map[string]string `json:"tags,omitempty"`
	SKU            string            `json:"sku"`      // standard or premium; no difference here
	TenantID       string            `json:"tenantId"` // whose tokens the vault takes: always the service's own
	// AccessPolicies say who may do what, unless EnableRBAC is set.
	AccessPolicies []AccessPolicy `json:"accessPolicies,omitempty"`
	// EnableRBAC makes role assignments decide instead of AccessPolicies.
	EnableRBAC bool `json:"enableRbacAuthorization,omitempty"`
	// RetentionDays is how long deleted secrets, and the deleted vault, can be recovered: 7 to 90. It is fixed at
	// creation; 0 there means 90.
	RetentionDays int `json:"softDeleteRetentionInDays"`
	// PurgeProtection keeps everybody from purging before that time is over. It cannot be switched off.
	PurgeProtection bool `json:"enablePurgeProtection,omitempty"`
	// Inert keeps ARM properties that are stored and returned but have no effect.
	Inert map[string]json.RawMessage `json:"inert,omitempty"`

	Created  time.Time `json:"created"`
	Modified time.Time `json:"modified"`
	// Deleted says since when the vault is deleted and how long it can be recovered; nil: it is not.
	Deleted *Deletion `json:"deleted,omitempty"`
	// DataKey seals the values, wrapped by the store.
	DataKey []byte `json:"dataKey"`

	revision uint64
}

// A Deletion is the time between a vault's deletion and its end.
type Deletion struct {
	On      time.Time `json:"on"`
	Purge   time.Time `json:"purge"`
	Purging bool      `json:"purging,omitempty"` // to be finished by whoever finds it
}

// An AccessPolicy gives permissions to one principal. Both ids must be those of the caller's token; an ApplicationID, if
// there is one, must be its client.
type AccessPolicy struct {
	TenantID      string      `json:"tenantId"`
	ObjectID      string      `json:"objectId"`
	ApplicationID string      `json:"applicationId,omitempty"`
	Permissions   Permissions `json:"permissions"`
}

// Permissions of an AccessPolicy. Those for keys, certificates and storage are kept for clients that send them; there is
// nothing here that they could be used for.
type Permissions struct {
	Keys         []string `json:"keys,omitempty"`
	Secrets      []string `json:"secrets,omitempty"`
	Certificates []string `json:"certificates,omitempty"`
	Storage      []string `json:"storage,omitempty"`
}

// ResourceID is the vault's ARM id.
func (v *Vault) ResourceID() string {
	return "/subscriptions/" + v.SubscriptionID + "/resourceGroups/" + v.ResourceGroup + "/providers/Microsoft.KeyVault/vaults/" + v.Name
}

// Revision changes with every write of the vault's settings; it serves as its etag.
func (v *Vault) Revision() uint64 { return v.revision }

// recoveryLevel is what the API says about deletions in this vault.
func (v *Vault) recoveryLevel() string {
	level := "Recoverable"
	if v.RetentionDays < 90 {
		level = "CustomizedRecoverable"
	}
	if !v.PurgeProtection {
		level += "+Purgeable"
	}
	return level
}
