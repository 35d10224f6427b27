package keyvault

import (
	"slices"
	"strings"
)

// A Caller is who asks, as its token says.
type Caller struct {
	TenantID string // tid
	ObjectID string // oid
	AppID    string // appid or azp
	Issuer   string // iss
	TokenID  string // uti
	// Admin marks the holder of the service's admin token, who has none of the above.
	Admin bool
}

// A Permission is what an operation needs: a permission of access policies, and the data action that stands for it
// with RBAC.
type Permission struct {
	Name   string // as in access policies
	Action string // as in role definitions
}

// The permissions for secrets.
var (
	permitGet     = Permission{"get", "Microsoft.KeyVault/vaults/secrets/getSecret/action"}
	permitList    = Permission{"list", "Microsoft.KeyVault/vaults/secrets/readMetadata/action"}
	permitSet     = Permission{"set", "Microsoft.KeyVault/vaults/secrets/setSecret/action"}
	permitUpdate  = Permission{"set", "Microsoft.KeyVault/vaults/secrets/update/action"}
	permitDelete  = Permission{"delete", "Microsoft.KeyVault/vaults/secrets/delete"}
	permitSee     = Permission{"get", "Microsoft.KeyVault/vaults/secrets/readMetadata/action"} // of a deleted secret
	permitRecover = Permission{"recover", "Microsoft.KeyVault/vaults/secrets/recover/action"}
	permitPurge   = Permission{"purge", "Microsoft.KeyVault/vaults/secrets/purge/action"}
	permitBackup  = Permission{"backup", "Microsoft.KeyVault/vaults/secrets/backup/action"}
	permitRestore = Permission{"restore", "Microsoft.KeyVault/vaults/secrets/restore/action"}
)

// permit returns nil if the caller may do something with the vault, or with the one secret that is named.
func (v *Vaults) permit(vault *Vault, c *Caller, p Permission, secret string) error {
	if c.Admin {
		return nil
	}
	if vault.EnableRBAC {
		scope := vault.ResourceID()
		if secret != "" {
			scope += "/secrets/" + secret
		}
		if v.opt.Authorize != nil && v.opt.Authorize(c.TenantID, c.ObjectID, scope, p.Action) {
			return nil
		}
		return forbiddenByRBAC(vault, c, p.Action, scope)
	}
	stands := v.opt.Stands == nil || v.opt.Stands(c.TenantID, c.ObjectID)
	if stands && slices.ContainsFunc(vault.AccessPolicies, func(a AccessPolicy) bool { return a.gives(c, p.Name) }) {
		return nil
	}
	return accessDenied(vault, c, p.Name)
}

// gives tells whether the policy is the caller's and holds the permission. Tenant and object id must both fit: an
// object id means something within its tenant only.
func (a *AccessPolicy) gives(c *Caller, permission string) bool {
	if c.ObjectID == "" || !strings.EqualFold(a.ObjectID, c.ObjectID) || !strings.EqualFold(a.TenantID, c.TenantID) {
		return false
	}
	if a.ApplicationID != "" && !strings.EqualFold(a.ApplicationID, c.AppID) {
		return false
	}
	return slices.Contains(a.Permissions.Secrets, permission) ||
		permission != permitPurge.Name && slices.Contains(a.Permissions.Secrets, "all")
}
