package directory

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"regexp"
	"strings"
)

// A UserAssignedIdentity is the ARM resource Microsoft.ManagedIdentity/userAssignedIdentities.
type UserAssignedIdentity struct {
	ID             string            `json:"id"` // ARM id; compared ignoring case
	Name           string            `json:"name"`
	SubscriptionID string            `json:"subscriptionId"` // GUID
	ResourceGroup  string            `json:"resourceGroup"`
	Location       string            `json:"location"`
	Tags           map[string]string `json:"tags,omitempty"`

	TenantID    string `json:"tenantId"`    // given by the directory, as are the next two
	PrincipalID string `json:"principalId"` // object id of its service principal
	ClientID    string `json:"clientId"`

	// Inert keeps ARM properties that are stored and returned but have no effect.
	Inert map[string]json.RawMessage `json:"inert,omitempty"`

	// FederatedCredentials are changed by PutFederatedCredential and its like only.
	FederatedCredentials []FederatedCredential `json:"federatedIdentityCredentials,omitempty"`
}

const (
	maxTags     = 50
	maxTagName  = 512
	maxTagValue = 256
	maxLocation = 90
	maxInert    = 16 << 10 // bytes of properties without effect
)

var (
	identityName  = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9_-]{2,127}$`)
	resourceGroup = regexp.MustCompile(`^[A-Za-z0-9()_.-]{0,89}[A-Za-z0-9()_-]$`)
	identityID    = regexp.MustCompile(`(?i)^/subscriptions/([^/]+)/resourceGroups/([^/]+)/providers/Microsoft\.ManagedIdentity/userAssignedIdentities/([^/]+)$`)
)

// UserAssignedIdentityID builds the ARM id of a user-assigned identity.
func UserAssignedIdentityID(subscriptionID, resourceGroup, name string) string {
	return "/subscriptions/" + subscriptionID + "/resourceGroups/" + resourceGroup +
		"/providers/Microsoft.ManagedIdentity/userAssignedIdentities/" + name
}

// PutUserAssignedIdentity creates the identity and its service principal, or replaces the tags and inert properties
// of the existing one; created tells which. It is named by its ID, or, where that is empty, by subscription,
// resource group and name. The location of an existing identity cannot change: ErrConflict.
func (d *Directory) PutUserAssignedIdentity(ctx context.Context, u UserAssignedIdentity) (_ UserAssignedIdentity, created bool, err error) {
	if u.ID != "" {
		parts := identityID.FindStringSubmatch(u.ID)
		if parts == nil {
			return UserAssignedIdentity{}, false, &ValidationError{"id", fmt.Sprintf("%.300q is not the ARM id of a user-assigned identity", u.ID)}
		}
		u.SubscriptionID, u.ResourceGroup, u.Name = parts[1], parts[2], parts[3]
	}
	u.ID = UserAssignedIdentityID(u.SubscriptionID, u.ResourceGroup, u.Name)
	u = u.clone()
	if err := u.check(); err != nil {
		return UserAssignedIdentity{}, false, fmt.Errorf("user-assigned identity %.100q: %w", u.Name, err)
	}
	err = d.write(ctx, func() error {
		created, err = d.putIdentity(ctx, &u)
		return err
	})
	if err != nil {
		return UserAssignedIdentity{}, false, fmt.Errorf("user-assigned identity %q: %w", u.Name, err)
	}
	return u.clone(), created, nil
}

// putIdentity is called within write. On return u is what is stored.
func (d *Directory) putIdentity(ctx context.Context, u *UserAssignedIdentity) (created bool, err error) {
	key := lower(u.ID)
	old, exists := d.identities.Get(key)
	principal, alive := d.ManagedIdentity(u.ID, true)
	if exists && !strings.EqualFold(old.Value.Location, u.Location) {
		return false, fmt.Errorf("its location %q cannot be changed to %q: %w", old.Value.Location, u.Location, ErrConflict)
	}
	if !exists && len(d.identities.All()) >= MaxUserAssignedIdentities {
		return false, fmt.Errorf("%w: %d user-assigned identities", ErrQuota, MaxUserAssignedIdentities)
	}
	if !alive { // new, or a deletion was cut off after the principal was gone
		if principal, err = d.createManagedIdentity(ctx, u.Name, u.ID, true); err != nil {
			return false, err
		}
	}
	u.TenantID, u.PrincipalID, u.ClientID = d.tenantID, principal.ID, principal.AppID
	u.FederatedCredentials = nil
	if !exists {
		_, err = d.identities.Create(ctx, key, *u)
		return true, err
	}
	_, err = update(ctx, d.identities, key, func(old UserAssignedIdentity) (UserAssignedIdentity, error) {
		u.ID, u.Name, u.SubscriptionID, u.ResourceGroup, u.Location = old.ID, old.Name, old.SubscriptionID, old.ResourceGroup, old.Location
		u.FederatedCredentials = old.FederatedCredentials
		return *u, nil
	})
	return !alive, err
}

// UserAssignedIdentity finds an identity by ARM id, in any case.
func (d *Directory) UserAssignedIdentity(resourceID string) (_ UserAssignedIdentity, ok bool) {
	key, ok := d.index.Load().identityByID[resourceID]
	if !ok {
		key = lower(resourceID)
	}
	item, ok := d.identities.Get(key)
	return item.Value.clone(), ok
}

// UserAssignedIdentities lists all identities by ARM id.
func (d *Directory) UserAssignedIdentities() []UserAssignedIdentity {
	return list(d.identities, UserAssignedIdentity.clone, func(a, b UserAssignedIdentity) int {
		return strings.Compare(lower(a.ID), lower(b.ID))
	})
}

// DeleteUserAssignedIdentity deletes the identity and its service principal.
func (d *Directory) DeleteUserAssignedIdentity(ctx context.Context, resourceID string) error {
	err := d.write(ctx, func() error {
		key := lower(resourceID)
		item, ok := d.identities.Get(key)
		if !ok {
			return ErrNotFound
		}
		if err := d.removePrincipal(ctx, item.Value.PrincipalID); err != nil && !errors.Is(err, ErrNotFound) {
			return err
		}
		return remove(ctx, d.identities, key)
	})
	if err != nil {
		return fmt.Errorf("user-assigned identity %.300q: %w", resourceID, err)
	}
	return nil
}

// check reports every fault at once.
func (u *UserAssignedIdentity) check() error {
	var faults []error
	fault := func(field, format string, args ...any) {
		faults = append(faults, &ValidationError{field, fmt.Sprintf(format, args...)})
	}
	if _, ok := parseGUID(u.SubscriptionID); !ok {
		fault("subscriptionId", "%.100q is not a GUID", u.SubscriptionID)
	}
	if !resourceGroup.MatchString(u.ResourceGroup) {
		fault("resourceGroup", "%.100q must have 1 to 90 letters, digits, dots, dashes, underscores and parentheses, and not end in a dot", u.ResourceGroup)
	}
	inert := 0
	for name, value := range u.Inert {
		inert += len(name) + len(value)
	}
	if inert > maxInert {
		fault("properties", "hold more than %d bytes", maxInert)
	}
	if !identityName.MatchString(u.Name) {
		fault("name", "%.200q must have 3 to 128 letters, digits, dashes and underscores, and begin with a letter or digit", u.Name)
	}
	if problem := checkName(u.Location); problem != "" || len(u.Location) > maxLocation {
		fault("location", "must have 1 to %d characters", maxLocation)
	}
	if len(u.Tags) > maxTags {
		fault("tags", "has %d entries, at most %d", len(u.Tags), maxTags)
	}
	for name, value := range u.Tags {
		if name == "" || len(name) > maxTagName || len(value) > maxTagValue {
			fault("tags", "%.100q: a name has 1 to %d bytes, a value at most %d", name, maxTagName, maxTagValue)
		}
	}
	return errors.Join(faults...)
}

func (u UserAssignedIdentity) clone() UserAssignedIdentity {
	u.Tags, u.Inert = maps.Clone(u.Tags), maps.Clone(u.Inert)
	u.FederatedCredentials = cloneFederated(u.FederatedCredentials)
	return u
}
