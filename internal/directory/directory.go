// Package directory is the tenant: which applications and identities exist, what they are called, and who
// may act in which role. An operator who registers an event handler as an application, or gives an instance
// a managed identity, ends here; the token service asks here before it signs anything.
//
// The nouns are those of Microsoft Graph and of Microsoft.ManagedIdentity (identity.md section 10). HTTP
// shapes belong to arm, tokens to tokenservice, which instance uses which identity to settings. Reads come
// from memory without a lock, as values that the caller owns; writes are durable when they return. Nothing
// runs in the background; the store owns the watchers and stops them.
package directory

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/uuid"

	"tabard/internal/store"
)

// Limits of the directory. At a limit, creating gives ErrQuota and changes nothing.
const (
	MaxApplications           = 5_000
	MaxServicePrincipals      = 10_000
	MaxUserAssignedIdentities = 5_000
	MaxAppRoleAssignments     = 20_000
)

// Errors that callers decide on. They arrive wrapped in a sentence that names the object.
var (
	ErrNotFound = errors.New("does not exist in the directory")
	ErrConflict = errors.New("conflicts with an object in the directory")
	ErrQuota    = errors.New("the directory is full")
)

// A ValidationError names one faulty field of an object that was not written. Several at once arrive joined.
type ValidationError struct {
	Field   string // as on the wire, such as "identifierUris"
	Message string // begins with the offending value where that helps
}

func (e *ValidationError) Error() string { return e.Field + ": " + e.Message }

// Options configure the directory.
type Options struct {
	// TenantID is the GUID of the tenant. Empty: made on the first start and kept from then on. A value that
	// differs from the one kept is refused, since every token and every trust set up elsewhere names it.
	TenantID string
	// VaultResources are the identifier URIs of the embedded key vaults ("https://kv.example.com:8081"), which clients
	// learn from a vault's challenge. They stand for Azure Key Vault, and no application can take their place. nil:
	// there are none.
	VaultResources func() []string
	// ControlPlane are those of the service's own control plane, and stand for Azure Resource Manager in the same way.
	ControlPlane func() []string
	// Now is the clock of creation times. Default: time.Now.
	Now func() time.Time
}

// A Directory holds one tenant. It is safe for concurrent use.
type Directory struct {
	tenantID string
	vaults   func() []string
	control  func() []string
	now      func() time.Time

	applications *store.Collection[Application]
	principals   *store.Collection[ServicePrincipal]
	identities   *store.Collection[UserAssignedIdentity]
	assignments  *store.Collection[AppRoleAssignment]

	// writing holds a token while a write checks and stores: uniqueness spans documents, compare-and-swap
	// only one. It is a channel, not a mutex, because the wait must end with the caller's context.
	writing chan struct{}

	index atomic.Pointer[index]

	mu        sync.Mutex // guards listeners and orders replacements of index
	listeners []func()
}

type tenant struct {
	TenantID        string    `json:"tenantId"`
	CreatedDateTime time.Time `json:"createdDateTime"`
}

// Open loads the directory, and makes the tenant on the first start.
func Open(ctx context.Context, s *store.Store, opt Options) (*Directory, error) {
	d := &Directory{now: opt.Now, vaults: opt.VaultResources, control: opt.ControlPlane, writing: make(chan struct{}, 1)}
	if d.vaults == nil {
		d.vaults = func() []string { return nil }
	}
	if d.control == nil {
		d.control = func() []string { return nil }
	}
	if d.now == nil {
		d.now = time.Now
	}
	v1 := store.Schema{Version: 1}
	tenants, err := store.OpenCollection[tenant](ctx, s, "directory-tenant", v1)
	if err == nil {
		d.applications, err = store.OpenCollection[Application](ctx, s, "directory-applications", v1)
	}
	if err == nil {
		d.principals, err = store.OpenCollection[ServicePrincipal](ctx, s, "directory-principals", v1)
	}
	if err == nil {
		d.identities, err = store.OpenCollection[UserAssignedIdentity](ctx, s, "directory-identities", v1)
	}
	if err == nil {
		d.assignments, err = store.OpenCollection[AppRoleAssignment](ctx, s, "directory-assignments", v1)
	}
	if err == nil {
		d.tenantID, err = openTenant(ctx, tenants, opt.TenantID, d.now())
	}
	if err != nil {
		return nil, fmt.Errorf("directory: %w", err)
	}
	changed := func([]string) { d.reindex() }
	d.applications.OnChange(changed)
	d.principals.OnChange(changed)
	d.identities.OnChange(changed)
	d.assignments.OnChange(changed)
	d.reindex()
	return d, nil
}

func openTenant(ctx context.Context, tenants *store.Collection[tenant], want string, now time.Time) (string, error) {
	if want != "" {
		id, err := uuid.Parse(want)
		if err != nil || !strings.EqualFold(id.String(), want) {
			return "", &ValidationError{"tenantId", fmt.Sprintf("%q is not a GUID", want)}
		}
		want = id.String()
	}
	const key = "tenant"
	kept, ok := tenants.Get(key)
	if !ok {
		id := want
		if id == "" {
			id = uuid.NewString()
		}
		_, err := tenants.Create(ctx, key, tenant{TenantID: id, CreatedDateTime: now.UTC().Truncate(time.Second)})
		if err != nil && !errors.Is(err, store.ErrExists) { // another process may have been first; its tenant counts
			return "", err
		}
		if kept, ok = tenants.Get(key); !ok {
			return "", fmt.Errorf("tenant: %w", store.ErrNotFound)
		}
	}
	if want != "" && want != kept.Value.TenantID {
		return "", fmt.Errorf("tenant id is configured as %s, but the data directory belongs to tenant %s: remove the setting, or begin with an empty data directory", want, kept.Value.TenantID)
	}
	return kept.Value.TenantID, nil
}

// TenantID is the tenant's GUID in lower case. It never changes.
func (d *Directory) TenantID() string { return d.tenantID }

// OnChange has fn called after any object was created, changed or deleted, here or by another process, and
// before the write that caused it returns. Calls come one at a time. fn must be quick and must not write to
// the directory.
func (d *Directory) OnChange(fn func()) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.listeners = append(d.listeners, fn)
}

// write runs fn while no other write of this process is between its checks and its changes.
func (d *Directory) write(ctx context.Context, fn func() error) error {
	select {
	case d.writing <- struct{}{}:
		defer func() { <-d.writing }()
		return fn()
	case <-ctx.Done():
		return fmt.Errorf("waiting for other writes to the directory: %w", ctx.Err())
	}
}

// tries bounds how often an update is repeated because another process changed the document meanwhile.
const tries = 10

// update replaces the document under key by what change makes of it. change may be called several times.
func update[T any](ctx context.Context, c *store.Collection[T], key string, change func(T) (T, error)) (T, error) {
	var zero T
	for range tries {
		item, ok := c.Get(key)
		if !ok {
			return zero, ErrNotFound
		}
		next, err := change(item.Value)
		if err != nil {
			return zero, err
		}
		_, err = c.Update(ctx, key, next, item.Revision)
		switch {
		case err == nil:
			return next, nil
		case errors.Is(err, store.ErrNotFound):
			return zero, ErrNotFound
		case !errors.Is(err, store.ErrConflict):
			return zero, err
		}
	}
	return zero, fmt.Errorf("%w: it is being changed by others all the time", ErrConflict)
}

// remove deletes the document under key, whatever its revision.
func remove[T any](ctx context.Context, c *store.Collection[T], key string) error {
	err := c.Delete(ctx, key, 0)
	if errors.Is(err, store.ErrNotFound) {
		return ErrNotFound
	}
	return err
}
