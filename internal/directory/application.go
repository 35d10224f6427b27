package directory

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/google/uuid"

	"tabard/internal/store"
)

// An Application is the registration of something that tokens are for, or that asks for tokens.
type Application struct {
	ID          string `json:"id"`    // object id, GUID, given by the directory
	AppID       string `json:"appId"` // client id, GUID, given by the directory
	DisplayName string `json:"displayName"`

	// IdentifierURIs are the names under which a token for the application can be asked for, besides AppID.
	// Each is unique in the tenant, compared without one trailing slash and with the host in any case.
	IdentifierURIs []string `json:"identifierUris,omitempty"`

	// RequestedAccessTokenVersion is the version of the tokens made for the application: nil or 1 means v1, 2 v2.
	RequestedAccessTokenVersion *int      `json:"requestedAccessTokenVersion,omitempty"`
	AppRoles                    []AppRole `json:"appRoles,omitempty"`
	CreatedDateTime             time.Time `json:"createdDateTime"`

	// How the application proves itself; changed by AddPassword, AddKey, SetKeys, PutFederatedCredential and their like
	// only.
	PasswordCredentials  []PasswordCredential  `json:"passwordCredentials,omitempty"`
	KeyCredentials       []KeyCredential       `json:"keyCredentials,omitempty"`
	FederatedCredentials []FederatedCredential `json:"federatedIdentityCredentials,omitempty"`

	// SecretSalt is that of all PasswordCredentials; random, and empty in what readers get.
	SecretSalt []byte `json:"secretSalt,omitempty"`
}

// An AppRole is a permission that an application defines and that principals are assigned.
type AppRole struct {
	ID                 string   `json:"id"`                 // GUID; made if empty
	AllowedMemberTypes []string `json:"allowedMemberTypes"` // of "Application" and "User"
	DisplayName        string   `json:"displayName"`
	Description        string   `json:"description"`
	IsEnabled          bool     `json:"isEnabled"`
	Value              string   `json:"value,omitempty"` // what appears in the claim roles
}

const (
	maxIdentifierURIs = 50
	maxAppRoles       = 200
	maxName           = 256 // characters of a display name or description
	maxRoleValue      = 120 // bytes
)

// CreateApplication registers an application under ids of the directory's choice, without a service
// principal: until it has one (CreateServicePrincipal) nobody gets a token for it.
func (d *Directory) CreateApplication(ctx context.Context, a Application) (Application, error) {
	a = a.clone()
	a.ID, a.AppID = uuid.NewString(), uuid.NewString()
	a.takeCredentials(&Application{})
	a.CreatedDateTime = d.now().UTC().Truncate(time.Second)
	err := d.write(ctx, func() error {
		if err := d.check(&a); err != nil {
			return err
		}
		if len(d.applications.All()) >= MaxApplications {
			return fmt.Errorf("%w: %d applications", ErrQuota, MaxApplications)
		}
		_, err := d.applications.Create(ctx, a.ID, a)
		return err
	})
	if err != nil {
		return Application{}, fmt.Errorf("application %q: %w", a.DisplayName, err)
	}
	return a.clone(), nil
}

// Application finds an application by object id or appId.
func (d *Directory) Application(idOrAppID string) (Application, bool) {
	id := lower(idOrAppID)
	if byAppID, ok := d.index.Load().appByAppID[id]; ok {
		id = byAppID
	}
	item, ok := d.applications.Get(id)
	return item.Value.view(), ok
}

// ApplicationByURI finds the application that has the identifier URI, compared as in a token request.
func (d *Directory) ApplicationByURI(uri string) (Application, bool) {
	item, ok := d.applications.Get(d.index.Load().appByURI[normalizeURI(uri)])
	return item.Value.view(), ok
}

// Applications lists all applications by display name, then id.
func (d *Directory) Applications() []Application {
	return list(d.applications, Application.view, func(a, b Application) int {
		return cmp.Or(strings.Compare(a.DisplayName, b.DisplayName), strings.Compare(a.ID, b.ID))
	})
}

// UpdateApplication edits the application with this object id or appId. edit may be called several times;
// what it does to the ids, the creation time, secrets and federated credentials is ignored, and its error is returned as
// it is.
func (d *Directory) UpdateApplication(ctx context.Context, idOrAppID string, edit func(*Application) error) (Application, error) {
	current, ok := d.Application(idOrAppID)
	if !ok {
		return Application{}, fmt.Errorf("application %q: %w", idOrAppID, ErrNotFound)
	}
	var updated Application
	err := d.write(ctx, func() (err error) {
		updated, err = update(ctx, d.applications, current.ID, func(old Application) (Application, error) {
			next := old.view()
			if err := edit(&next); err != nil {
				return Application{}, err
			}
			next = next.clone() // edit may keep what it put in
			next.ID, next.AppID, next.CreatedDateTime = old.ID, old.AppID, old.CreatedDateTime
			next.takeCredentials(&old)
			return next, d.check(&next)
		})
		return err
	})
	if err != nil {
		return Application{}, fmt.Errorf("application %q: %w", idOrAppID, err)
	}
	return updated.view(), nil
}

// editApplication replaces the application by what edit makes of a copy, credentials included. edit may be called
// several times; it checks what it changes.
func (d *Directory) editApplication(ctx context.Context, idOrAppID string, edit func(*Application) error) error {
	err := d.write(ctx, func() error {
		current, ok := d.Application(idOrAppID)
		if !ok {
			return ErrNotFound
		}
		_, err := update(ctx, d.applications, current.ID, func(a Application) (Application, error) {
			a = a.clone()
			return a, edit(&a)
		})
		return err
	})
	if err != nil {
		return fmt.Errorf("application %q: %w", idOrAppID, err)
	}
	return nil
}

// DeleteApplication deletes the application with this object id or appId, its service principal and all
// assignments to and of it.
func (d *Directory) DeleteApplication(ctx context.Context, idOrAppID string) error {
	a, ok := d.Application(idOrAppID)
	if !ok {
		return fmt.Errorf("application %q: %w", idOrAppID, ErrNotFound)
	}
	err := d.write(ctx, func() error {
		// The principal goes first: what is left if the process dies in between gets no tokens any more.
		if id, ok := d.index.Load().principalByAppID[a.AppID]; ok {
			if err := d.removePrincipal(ctx, id); err != nil && !errors.Is(err, ErrNotFound) {
				return err
			}
		}
		return remove(ctx, d.applications, a.ID)
	})
	if err != nil {
		return fmt.Errorf("application %q: %w", idOrAppID, err)
	}
	return nil
}

// check reports every fault of a at once, and fills in ids of roles.
func (d *Directory) check(a *Application) error {
	var faults []error
	fault := func(field, format string, args ...any) {
		faults = append(faults, &ValidationError{field, fmt.Sprintf(format, args...)})
	}
	if problem := checkName(a.DisplayName); problem != "" {
		fault("displayName", "%s", problem)
	}
	if v := a.RequestedAccessTokenVersion; v != nil && *v != 1 && *v != 2 {
		fault("api.requestedAccessTokenVersion", "%d is neither 1 nor 2", *v)
	}
	if len(a.IdentifierURIs) > maxIdentifierURIs {
		fault("identifierUris", "has %d entries, at most %d", len(a.IdentifierURIs), maxIdentifierURIs)
	} else {
		faults = append(faults, d.checkURIs(a)...)
	}
	if len(a.AppRoles) > maxAppRoles {
		fault("appRoles", "has %d entries, at most %d", len(a.AppRoles), maxAppRoles)
	} else {
		checkRoles(a.AppRoles, fault)
	}
	for i, k := range a.KeyCredentials {
		if _, err := k.PublicKey(); err != nil || k.KeyID == "" {
			fault(fmt.Sprintf("keyCredentials[%d].key", i), "was not checked")
		}
	}
	return errors.Join(faults...)
}

func (d *Directory) checkURIs(a *Application) (faults []error) {
	seen := map[string]bool{}
	for i, uri := range a.IdentifierURIs {
		field, key := fmt.Sprintf("identifierUris[%d]", i), normalizeURI(uri)
		if problem := checkURI(uri); problem != "" {
			faults = append(faults, &ValidationError{field, problem})
			continue
		}
		if seen[key] {
			faults = append(faults, &ValidationError{field, fmt.Sprintf("%q is in the list twice; a trailing slash and the case of the host make no difference", uri)})
		}
		seen[key] = true
		if known, ok := wellKnownByURI[key]; ok {
			faults = append(faults, fmt.Errorf("%s: %q is the name of %s: %w", field, uri, known.Name, ErrConflict))
		}
		if owner, ok := d.applications.Get(d.index.Load().appByURI[key]); ok && owner.Value.ID != a.ID {
			faults = append(faults, fmt.Errorf("%s: %q belongs to application %q (%s): %w", field, uri, owner.Value.DisplayName, owner.Value.AppID, ErrConflict))
		}
	}
	return faults
}

func checkRoles(roles []AppRole, fault func(field, format string, args ...any)) {
	ids, values := map[string]bool{}, map[string]bool{}
	for i := range roles {
		r := &roles[i]
		field := fmt.Sprintf("appRoles[%d].", i)
		if r.ID == "" {
			r.ID = uuid.NewString()
		}
		id, ok := parseGUID(r.ID)
		switch {
		case !ok || id == DefaultAccess:
			fault(field+"id", "%q is not the GUID of a role", r.ID)
		case ids[id]:
			fault(field+"id", "%s is in the list twice", id)
		default:
			r.ID = id
		}
		ids[id] = true
		if problem := checkName(r.DisplayName); problem != "" {
			fault(field+"displayName", "%s", problem)
		}
		if r.Description != "" {
			if problem := checkName(r.Description); problem != "" {
				fault(field+"description", "%s", problem)
			}
		}
		if len(r.AllowedMemberTypes) == 0 || len(r.AllowedMemberTypes) > 2 {
			fault(field+"allowedMemberTypes", "needs Application, User or both")
		}
		for _, member := range r.AllowedMemberTypes {
			if member != "Application" && member != "User" {
				fault(field+"allowedMemberTypes", "%q is neither Application nor User", member)
			}
		}
		switch {
		case r.Value == "":
		case len(r.Value) > maxRoleValue || r.Value[0] == '.' || strings.ContainsFunc(r.Value, func(c rune) bool { return c <= ' ' || c >= 0x7f || c == '"' || c == '\\' }):
			fault(field+"value", "%q must have at most %d visible ASCII characters without quotes and backslashes, and not begin with a dot", r.Value, maxRoleValue)
		case values[r.Value]:
			fault(field+"value", "%q is in the list twice", r.Value)
		}
		values[r.Value] = true
	}
}

func checkName(name string) string {
	switch {
	case strings.TrimSpace(name) == "":
		return "is required"
	case !utf8.ValidString(name) || strings.ContainsFunc(name, func(r rune) bool { return r < ' ' || r == 0x7f }):
		return "holds control characters or is not UTF-8"
	case utf8.RuneCountInString(name) > maxName:
		return fmt.Sprintf("has more than %d characters", maxName)
	}
	return ""
}

func (a *Application) role(id string) (AppRole, bool) {
	for _, r := range a.AppRoles {
		if r.ID == id {
			return r, true
		}
	}
	return AppRole{}, false
}

// takeCredentials gives a the secrets and federated credentials of from.
func (a *Application) takeCredentials(from *Application) {
	a.PasswordCredentials, a.SecretSalt, a.FederatedCredentials = from.PasswordCredentials, from.SecretSalt, from.FederatedCredentials
}

// view is a copy for readers, without what proves a secret.
func (a Application) view() Application {
	a = a.clone()
	a.SecretSalt = nil
	for i := range a.PasswordCredentials {
		a.PasswordCredentials[i].Hash = nil
	}
	return a
}

func (a Application) clone() Application {
	a.PasswordCredentials = slices.Clone(a.PasswordCredentials)
	a.KeyCredentials = slices.Clone(a.KeyCredentials) // certificates are never changed in place
	a.FederatedCredentials = cloneFederated(a.FederatedCredentials)
	a.IdentifierURIs = slices.Clone(a.IdentifierURIs)
	a.AppRoles = slices.Clone(a.AppRoles)
	for i := range a.AppRoles {
		a.AppRoles[i].AllowedMemberTypes = slices.Clone(a.AppRoles[i].AllowedMemberTypes)
	}
	if a.RequestedAccessTokenVersion != nil {
		v := *a.RequestedAccessTokenVersion
		a.RequestedAccessTokenVersion = &v
	}
	return a
}

// list copies a collection's values in order.
func list[T any](c *store.Collection[T], clone func(T) T, order func(a, b T) int) []T {
	values := make([]T, 0, len(c.All()))
	for item := range maps.Values(c.All()) {
		values = append(values, clone(item.Value))
	}
	slices.SortFunc(values, order)
	return values
}
