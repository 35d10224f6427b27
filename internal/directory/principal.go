package directory

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"
)

// Types of service principals.
const (
	TypeApplication     = "Application"
	TypeManagedIdentity = "ManagedIdentity"
)

// A ServicePrincipal is who acts in the tenant: an application, or a managed identity (which has no
// application). Tokens name it in oid and sub.
type ServicePrincipal struct {
	ID    string `json:"id"`    // object id, GUID
	AppID string `json:"appId"` // of the application, or the client id of the managed identity
	// DisplayName is the application's, or the name of the resource behind a managed identity.
	DisplayName string `json:"displayName"`
	Type        string `json:"servicePrincipalType"`
	// AlternativeNames of a managed identity are "isExplicit=True" (user-assigned) or "isExplicit=False"
	// (system-assigned), and the ARM id of the resource. Empty for applications.
	AlternativeNames []string `json:"alternativeNames,omitempty"`
	// ServicePrincipalNames are AppID and the application's identifier URIs. Derived, never stored.
	ServicePrincipalNames []string `json:"-"`

	AppRoleAssignmentRequired bool      `json:"appRoleAssignmentRequired,omitempty"`
	AccountEnabled            bool      `json:"accountEnabled"`
	CreatedDateTime           time.Time `json:"createdDateTime"`
}

const (
	explicitTrue  = "isExplicit=True"
	explicitFalse = "isExplicit=False"
)

// ManagedIdentity returns the ARM id behind a managed identity and whether it is user-assigned (explicit);
// ok is false for the service principal of an application.
func (p *ServicePrincipal) ManagedIdentity() (resourceID string, explicit, ok bool) {
	if p.Type != TypeManagedIdentity || len(p.AlternativeNames) != 2 {
		return "", false, false
	}
	return p.AlternativeNames[1], p.AlternativeNames[0] == explicitTrue, true
}

// CreateServicePrincipal lets an application of this tenant act, and be the audience of tokens.
// ErrConflict: it can already.
func (d *Directory) CreateServicePrincipal(ctx context.Context, appID string) (ServicePrincipal, error) {
	var p ServicePrincipal
	err := d.write(ctx, func() error {
		app, ok := d.Application(appID)
		if !ok || lower(appID) != app.AppID {
			return fmt.Errorf("application: %w", ErrNotFound)
		}
		if id, ok := d.index.Load().principalByAppID[app.AppID]; ok {
			return fmt.Errorf("object id %s: %w", id, ErrConflict)
		}
		p = ServicePrincipal{AppID: app.AppID, DisplayName: app.DisplayName, Type: TypeApplication}
		return d.createPrincipal(ctx, &p)
	})
	if err != nil {
		return ServicePrincipal{}, fmt.Errorf("service principal of appId %q: %w", appID, err)
	}
	return d.complete(p), nil
}

// CreateManagedIdentity makes the service principal of a managed identity. resourceID is the ARM id of the
// instance (explicit false: system-assigned) or of the user-assigned identity (explicit true, for which
// PutUserAssignedIdentity is the way). ErrConflict: the resource has one.
func (d *Directory) CreateManagedIdentity(ctx context.Context, displayName, resourceID string, explicit bool) (ServicePrincipal, error) {
	var p ServicePrincipal
	err := d.write(ctx, func() (err error) {
		p, err = d.createManagedIdentity(ctx, displayName, resourceID, explicit)
		return err
	})
	if err != nil {
		return ServicePrincipal{}, fmt.Errorf("managed identity of %q: %w", resourceID, err)
	}
	return d.complete(p), nil
}

func (d *Directory) createManagedIdentity(ctx context.Context, displayName, resourceID string, explicit bool) (ServicePrincipal, error) {
	if problem := checkName(displayName); problem != "" {
		return ServicePrincipal{}, &ValidationError{"displayName", problem}
	}
	if !strings.HasPrefix(resourceID, "/") || len(resourceID) > maxResource || strings.ContainsFunc(resourceID, func(r rune) bool { return r <= ' ' || r >= 0x7f }) {
		return ServicePrincipal{}, &ValidationError{"resourceId", fmt.Sprintf("%.100q is not an ARM id", resourceID)}
	}
	if id, ok := d.index.Load().managed[managedKey{lower(resourceID), explicit}]; ok {
		return ServicePrincipal{}, fmt.Errorf("object id %s: %w", id, ErrConflict)
	}
	names := []string{explicitFalse, resourceID}
	if explicit {
		names[0] = explicitTrue
	}
	p := ServicePrincipal{AppID: uuid.NewString(), DisplayName: displayName, Type: TypeManagedIdentity, AlternativeNames: names}
	return p, d.createPrincipal(ctx, &p)
}

// createPrincipal stores p under a new object id. Called within write.
func (d *Directory) createPrincipal(ctx context.Context, p *ServicePrincipal) error {
	if len(d.principals.All()) >= MaxServicePrincipals {
		return fmt.Errorf("%w: %d service principals", ErrQuota, MaxServicePrincipals)
	}
	p.ID, p.AccountEnabled, p.CreatedDateTime = uuid.NewString(), true, d.now().UTC().Truncate(time.Second)
	_, err := d.principals.Create(ctx, p.ID, *p)
	return err
}

// ServicePrincipal finds a service principal by object id.
func (d *Directory) ServicePrincipal(id string) (ServicePrincipal, bool) {
	item, ok := d.principals.Get(lower(id))
	if !ok {
		return ServicePrincipal{}, false
	}
	return d.complete(item.Value), true
}

// ServicePrincipalByAppID finds a service principal by appId or, for a managed identity, client id.
func (d *Directory) ServicePrincipalByAppID(appID string) (ServicePrincipal, bool) {
	id, ok := d.index.Load().principalByAppID[lower(appID)]
	if !ok {
		return ServicePrincipal{}, false
	}
	return d.ServicePrincipal(id)
}

// ManagedIdentity finds the principal of a resource's system-assigned (explicit false) or of a user-assigned
// identity by ARM id, in any case.
func (d *Directory) ManagedIdentity(resourceID string, explicit bool) (ServicePrincipal, bool) {
	id, ok := d.index.Load().managed[managedKey{lower(resourceID), explicit}]
	if !ok {
		return ServicePrincipal{}, false
	}
	return d.ServicePrincipal(id)
}

// ServicePrincipals lists all service principals by display name, then id.
func (d *Directory) ServicePrincipals() []ServicePrincipal {
	return list(d.principals, d.complete, func(a, b ServicePrincipal) int {
		return cmp.Or(strings.Compare(a.DisplayName, b.DisplayName), strings.Compare(a.ID, b.ID))
	})
}

// UpdateServicePrincipal edits AccountEnabled and AppRoleAssignmentRequired; what edit does to other fields
// is ignored. edit may be called several times; its error is returned as it is.
func (d *Directory) UpdateServicePrincipal(ctx context.Context, id string, edit func(*ServicePrincipal) error) (ServicePrincipal, error) {
	var updated ServicePrincipal
	err := d.write(ctx, func() (err error) {
		updated, err = update(ctx, d.principals, lower(id), func(old ServicePrincipal) (ServicePrincipal, error) {
			edited := d.complete(old)
			if err := edit(&edited); err != nil {
				return ServicePrincipal{}, err
			}
			old.AccountEnabled, old.AppRoleAssignmentRequired = edited.AccountEnabled, edited.AppRoleAssignmentRequired
			return old, nil
		})
		return err
	})
	if err != nil {
		return ServicePrincipal{}, fmt.Errorf("service principal %q: %w", id, err)
	}
	return d.complete(updated), nil
}

// DeleteServicePrincipal deletes a service principal and all assignments to and of it. From then on it gets
// no token; those that it holds stay valid until they expire.
func (d *Directory) DeleteServicePrincipal(ctx context.Context, id string) error {
	err := d.write(ctx, func() error { return d.removePrincipal(ctx, lower(id)) })
	if err != nil {
		return fmt.Errorf("service principal %q: %w", id, err)
	}
	return nil
}

// removePrincipal is called within write. Rights go before the principal, so that a process that dies in
// between leaves one with fewer rights, not rights without anyone who could be deleted to end them.
func (d *Directory) removePrincipal(ctx context.Context, id string) error {
	if _, ok := d.principals.Get(id); !ok {
		return ErrNotFound
	}
	for key, item := range d.assignments.All() {
		if item.Value.PrincipalID != id && item.Value.ResourceID != id {
			continue
		}
		if err := remove(ctx, d.assignments, key); err != nil && !errors.Is(err, ErrNotFound) {
			return err
		}
	}
	return remove(ctx, d.principals, id)
}

// complete returns a copy of p with what it shares with its application.
func (d *Directory) complete(p ServicePrincipal) ServicePrincipal {
	p.AlternativeNames = slices.Clone(p.AlternativeNames)
	p.ServicePrincipalNames = []string{p.AppID}
	if p.Type == TypeApplication {
		if app, ok := d.applications.Get(d.index.Load().appByAppID[p.AppID]); ok {
			p.DisplayName = app.Value.DisplayName
			p.ServicePrincipalNames = append(p.ServicePrincipalNames, app.Value.IdentifierURIs...)
		}
	}
	return p
}
