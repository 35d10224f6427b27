package keyvault

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"

	"tabard/internal/store"
)

// Errors of the control plane's operations. They arrive wrapped in a sentence.
var (
	ErrNotFound = errors.New("the vault does not exist")
	// ErrTaken: a vault has the name, in another subscription or resource group.
	ErrTaken = errors.New("the vault name is already in use")
	// ErrSoftDeleted: a deleted vault has the name. It can be recovered, or purged.
	ErrSoftDeleted = errors.New("a vault with the same name already exists in deleted state; recover it (createMode recover) or purge it")
	// ErrProtected: purge protection forbids it.
	ErrProtected = errors.New("purge protection is enabled: the vault cannot be purged before its time")
	ErrQuota     = errors.New("there are as many vaults as can be")
	// ErrChanged: what was to be written is a changed copy of a vault that somebody else changed meanwhile.
	ErrChanged = errors.New("the vault was changed by somebody else meanwhile")
)

// A ValidationError names one faulty field of a vault that was not written. Several at once arrive joined.
type ValidationError struct {
	Field   string // JSON path in the ARM document, such as "properties.accessPolicies[0].objectId"
	Problem string // completes the sentence that begins with the field
}

func (e *ValidationError) Error() string { return e.Field + " " + e.Problem }

const maxPolicies = 1024

// SecretPermissions are the permissions of access policies. "all" stands for every one but purge, which must be named.
var SecretPermissions = []string{"all", "get", "list", "set", "delete", "recover", "backup", "restore", "purge"}

var vaultName = regexp.MustCompile(`^[A-Za-z](-?[A-Za-z0-9])+$`)

// ValidVaultName tells whether a vault can have the name: 3 to 24 letters, digits and single dashes, a letter first, no
// dash last.
func ValidVaultName(name string) bool {
	return len(name) >= 3 && len(name) <= 24 && vaultName.MatchString(name)
}

// complete checks a vault, all of it, and brings it into the form that is stored.
func (v *Vaults) complete(n *Vault, old *Vault) error {
	var faults []error
	fault := func(field, format string, args ...any) {
		faults = append(faults, &ValidationError{field, fmt.Sprintf(format, args...)})
	}
	if !ValidVaultName(n.Name) {
		fault("name", "is not 3 to 24 letters, digits and single dashes, beginning with a letter and not ending in a dash")
	}
	if n.TenantID == "" {
		n.TenantID = v.opt.TenantID
	}
	if !strings.EqualFold(n.TenantID, v.opt.TenantID) {
		fault("properties.tenantId", "is %q, not this service's tenant %q", n.TenantID, v.opt.TenantID)
	}
	n.TenantID = v.opt.TenantID
	switch n.SKU = strings.ToLower(n.SKU); n.SKU {
	case "":
		n.SKU = "standard"
	case "standard", "premium":
	default:
		fault("properties.sku.name", "is neither standard nor premium")
	}
	if old != nil {
		if n.RetentionDays != 0 && n.RetentionDays != old.RetentionDays {
			fault("properties.softDeleteRetentionInDays", "was fixed to %d when the vault was created", old.RetentionDays)
		}
		n.RetentionDays = old.RetentionDays
		if old.PurgeProtection && !n.PurgeProtection {
			fault("properties.enablePurgeProtection", "cannot be switched off")
		}
	}
	if n.RetentionDays == 0 {
		n.RetentionDays = 90
	}
	if n.RetentionDays < 7 || n.RetentionDays > 90 {
		fault("properties.softDeleteRetentionInDays", "is not between 7 and 90")
	}
	if len(n.AccessPolicies) > maxPolicies {
		fault("properties.accessPolicies", "has more than %d entries", maxPolicies)
	}
	var err error
	if n.AccessPolicies, err = completePolicies(n.AccessPolicies, "properties.accessPolicies"); err != nil {
		faults = append(faults, err)
	}
	return errors.Join(faults...)
}

// completePolicies checks policies and returns them with ids and permissions in lower case.
func completePolicies(list []AccessPolicy, at string) ([]AccessPolicy, error) {
	var faults []error
	done := make([]AccessPolicy, len(list))
	for i, p := range list {
		at := fmt.Sprintf("%s[%d]", at, i)
		for _, id := range []struct {
			name string
			text *string
		}{{"tenantId", &p.TenantID}, {"objectId", &p.ObjectID}, {"applicationId", &p.ApplicationID}} {
			if *id.text == "" && id.name == "applicationId" {
				continue
			}
			parsed, err := uuid.Parse(*id.text)
			if err != nil || len(*id.text) != 36 {
				faults = append(faults, &ValidationError{at + "." + id.name, "is not a GUID"})
			}
			*id.text = parsed.String()
		}
		secrets := make([]string, 0, len(p.Permissions.Secrets))
		for _, name := range p.Permissions.Secrets {
			name = strings.ToLower(name)
			if !slices.Contains(SecretPermissions, name) {
				faults = append(faults, &ValidationError{at + ".permissions.secrets", fmt.Sprintf("holds %.50q; known are %s", name, strings.Join(SecretPermissions, ", "))})
			}
			if !slices.Contains(secrets, name) {
				secrets = append(secrets, name)
			}
		}
		p.Permissions.Secrets = secrets
		done[i] = p
	}
	return done, errors.Join(faults...)
}

// Vault finds a vault by name, ignoring case. Deleted ones are not found.
func (v *Vaults) Vault(name string) (*Vault, bool) {
	found := v.index.vault(name)
	return found, found != nil && found.Deleted == nil
}

// List lists the vaults by name.
func (v *Vaults) List() []*Vault {
	return slices.DeleteFunc(v.index.all(), func(x *Vault) bool { return x.Deleted != nil })
}

// DeletedVault finds a deleted vault that can still be recovered.
func (v *Vaults) DeletedVault(name string) (*Vault, bool) {
	found := v.index.vault(name)
	return found, found != nil && v.recoverable(found)
}

// DeletedVaults lists the deleted vaults that can still be recovered, by name.
func (v *Vaults) DeletedVaults() []*Vault {
	return slices.DeleteFunc(v.index.all(), func(x *Vault) bool { return !v.recoverable(x) })
}

func (v *Vaults) recoverable(x *Vault) bool {
	return x.Deleted != nil && !x.Deleted.Purging && v.now().Before(x.Deleted.Purge)
}

// PutVault creates the vault, or replaces the settings of the one that has its name, subscription and resource group,
// and tells whether it is new. Created, Modified, Deleted and DataKey are not the caller's. A copy of what [Vaults.Vault]
// returned is written only if that is still what there is. Errors: *ValidationError, ErrTaken, ErrSoftDeleted, ErrQuota,
// ErrChanged.
func (v *Vaults) PutVault(ctx context.Context, n Vault) (_ *Vault, created bool, err error) {
	key := docKey(vaultKind, strings.ToLower(n.Name))
	err = v.writeVault(ctx, n.Name, func(ctx context.Context) error {
		old := v.index.vault(n.Name)
		if old != nil && old.Deleted != nil {
			if v.recoverable(old) {
				return ErrSoftDeleted
			}
			if err := v.purgeVault(ctx, old); err != nil { // its time was over before the sweep came
				return err
			}
			old = nil
		}
		if n.revision != 0 && (old == nil || n.revision != old.revision) {
			return ErrChanged
		}
		if err := v.complete(&n, old); err != nil {
			return err
		}
		n.Modified = v.now().UTC().Truncate(time.Second)
		if old != nil {
			if !strings.EqualFold(old.SubscriptionID, n.SubscriptionID) || !strings.EqualFold(old.ResourceGroup, n.ResourceGroup) {
				return ErrTaken
			}
			n.Name, n.SubscriptionID, n.ResourceGroup = old.Name, old.SubscriptionID, old.ResourceGroup
			n.Created, n.DataKey, n.Deleted = old.Created, old.DataKey, nil
			return v.replaceVault(ctx, n, old)
		}
		if len(v.index.all()) >= v.maxVaults {
			return fmt.Errorf("%w: %d, deleted ones included", ErrQuota, v.maxVaults)
		}
		n.Created, n.Deleted = n.Modified, nil
		if _, n.DataKey, err = v.store.NewDataKey(keyUse(strings.ToLower(n.Name))); err != nil {
			return err
		}
		created = true
		_, err := v.documents.Create(ctx, key, document{Vault: &n})
		return err
	})
	if err != nil {
		return nil, false, err
	}
	return v.index.vault(n.Name), created, nil
}

// keyUse is what the data key of a vault is bound to.
func keyUse(vault string) string { return "vault " + vault }

// writeVault is write for the control plane, whose errors are not the data plane's.
func (v *Vaults) writeVault(ctx context.Context, name string, fn func(context.Context) error) error {
	var result error
	if err := v.write(ctx, func(ctx context.Context) error { result = fn(ctx); return nil }); err != nil {
		return fmt.Errorf("vault %.50q: %w", name, err)
	}
	if result == nil {
		return nil
	}
	return fmt.Errorf("vault %.50q: %w", name, result)
}

// replaceVault stores what has changed, if anything has. Called within write.
func (v *Vaults) replaceVault(ctx context.Context, next Vault, old *Vault) error {
	same := *old
	same.Modified, same.revision, next.revision = next.Modified, 0, 0
	if reflect.DeepEqual(same, next) {
		return nil
	}
	_, err := v.documents.Update(ctx, docKey(vaultKind, strings.ToLower(next.Name)), document{Vault: &next}, old.revision)
	return err
}

// EditPolicies changes the access policies of a vault: "add" unites the given permissions with those that the same
// principal has, "replace" puts the given ones in their place, "remove" takes them away. It returns the new policies.
// Errors: *ValidationError, ErrNotFound.
func (v *Vaults) EditPolicies(ctx context.Context, name, how string, list []AccessPolicy) (*Vault, error) {
	given, err := completePolicies(list, "properties.accessPolicies")
	if err != nil {
		return nil, err
	}
	err = v.writeVault(ctx, name, func(ctx context.Context) error {
		old, ok := v.Vault(name)
		if !ok {
			return ErrNotFound
		}
		next := *old
		next.AccessPolicies = slices.Clone(old.AccessPolicies)
		for _, p := range given {
			i := slices.IndexFunc(next.AccessPolicies, func(q AccessPolicy) bool {
				return q.TenantID == p.TenantID && q.ObjectID == p.ObjectID && q.ApplicationID == p.ApplicationID
			})
			switch {
			case how == "remove" && i >= 0:
				left := next.AccessPolicies[i].Permissions.combine(p.Permissions, subtract)
				next.AccessPolicies[i].Permissions = left
				if left.empty() {
					next.AccessPolicies = slices.Delete(next.AccessPolicies, i, i+1)
				}
			case how == "remove":
			case i < 0:
				next.AccessPolicies = append(next.AccessPolicies, p)
			case how == "add":
				next.AccessPolicies[i].Permissions = next.AccessPolicies[i].Permissions.combine(p.Permissions, unite)
			default:
				next.AccessPolicies[i] = p
			}
		}
		if len(next.AccessPolicies) > maxPolicies {
			return &ValidationError{"properties.accessPolicies", fmt.Sprintf("would have more than %d entries", maxPolicies)}
		}
		next.Modified = v.now().UTC().Truncate(time.Second)
		return v.replaceVault(ctx, next, old)
	})
	if err != nil {
		return nil, err
	}
	return v.index.vault(name), nil
}

func (p Permissions) combine(q Permissions, how func(a, b []string) []string) Permissions {
	return Permissions{how(p.Keys, q.Keys), how(p.Secrets, q.Secrets), how(p.Certificates, q.Certificates), how(p.Storage, q.Storage)}
}

func (p Permissions) empty() bool {
	return len(p.Keys)+len(p.Secrets)+len(p.Certificates)+len(p.Storage) == 0
}

func unite(a, b []string) []string {
	a = slices.Clone(a)
	for _, s := range b {
		if !slices.ContainsFunc(a, func(x string) bool { return strings.EqualFold(x, s) }) {
			a = append(a, s)
		}
	}
	return a
}

// subtract takes b away from a. A permission within "all" cannot be taken out of it: what is left is spelt out.
func subtract(a, b []string) []string {
	if slices.Contains(a, "all") && !slices.Contains(b, "all") && len(b) > 0 {
		a = unite(SecretPermissions[1:len(SecretPermissions)-1], slices.DeleteFunc(slices.Clone(a), func(s string) bool { return s == "all" }))
	}
	if slices.Contains(b, "all") {
		b = unite(b, SecretPermissions[:len(SecretPermissions)-1])
	}
	return slices.DeleteFunc(slices.Clone(a), func(x string) bool {
		return slices.ContainsFunc(b, func(s string) bool { return strings.EqualFold(x, s) })
	})
}

// DeleteVault deletes a vault with all that is in it, for now: it can be recovered as long as its retention says. From
// then on nothing in it is found. ErrNotFound.
func (v *Vaults) DeleteVault(ctx context.Context, name string) error {
	return v.writeVault(ctx, name, func(ctx context.Context) error {
		old, ok := v.Vault(name)
		if !ok {
			return ErrNotFound
		}
		next := *old
		on := v.now().UTC().Truncate(time.Second)
		next.Deleted = &Deletion{On: on, Purge: on.AddDate(0, 0, old.RetentionDays)}
		return v.replaceVault(ctx, next, old)
	})
}

// RecoverVault brings a deleted vault back as it was. ErrNotFound if no deleted vault has the name, subscription and
// resource group.
func (v *Vaults) RecoverVault(ctx context.Context, name, subscription, group string) (*Vault, error) {
	err := v.writeVault(ctx, name, func(ctx context.Context) error {
		old, ok := v.DeletedVault(name)
		if !ok || !strings.EqualFold(old.SubscriptionID, subscription) || !strings.EqualFold(old.ResourceGroup, group) {
			return ErrNotFound
		}
		next := *old
		next.Deleted = nil
		return v.replaceVault(ctx, next, old)
	})
	if err != nil {
		return nil, err
	}
	return v.index.vault(name), nil
}

// PurgeVault ends a deleted vault for good. Errors: ErrNotFound, ErrProtected.
func (v *Vaults) PurgeVault(ctx context.Context, name string) error {
	return v.writeVault(ctx, name, func(ctx context.Context) error {
		old, ok := v.DeletedVault(name)
		switch {
		case !ok:
			return ErrNotFound
		case old.PurgeProtection:
			return ErrProtected
		}
		return v.purgeVault(ctx, old)
	})
}

// purgeVault removes a deleted vault and all that is in it. It may be repeated after a crash. Called within write.
func (v *Vaults) purgeVault(ctx context.Context, old *Vault) error {
	name := strings.ToLower(old.Name)
	if !old.Deleted.Purging {
		next := *old
		gone := *old.Deleted
		gone.Purging = true
		next.Deleted = &gone
		if err := v.replaceVault(ctx, next, old); err != nil {
			return err
		}
	}
	for key := range v.documents.All() {
		if kind, vault, _, _ := splitKey(key); vault != name || kind == vaultKind {
			continue
		}
		if err := v.remove(ctx, key); err != nil {
			return err
		}
	}
	return v.remove(ctx, docKey(vaultKind, name)) // the key last: what is sealed under it is lost with it
}

// remove deletes a document that may be gone already.
func (v *Vaults) remove(ctx context.Context, key string) error {
	if err := v.documents.Delete(ctx, key, 0); err != nil && !errors.Is(err, store.ErrNotFound) {
		return err
	}
	return nil
}
