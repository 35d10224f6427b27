// Package rbac answers one question: may this principal do that, here? It keeps who has which role at which scope,
// in the words of Azure role-based access control: a role assignment gives a principal the actions of a role
// definition at a scope and at everything below it.
//
// The roles are Azure's built-in ones (roles.go); an operator assigns them with the tools that they know, and the same
// ids. Assignments are durable and sealed in the store; the answer comes from an immutable index in memory, without a
// lock, since every REST call of a directory principal asks for it. A deleted assignment counts no more as soon as the
// deletion returns.
//
// What it leaves to others: whether a principal exists and whether its token is good (directory, guard), which action
// an operation is (dataplane, the root package), and HTTP shapes (arm). Nothing runs in the background; the store owns
// the watcher.
package rbac

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/uuid"

	"tabard/internal/store"
)

// Limits. MaxAssignments is Azure's own for one subscription; at it, Put gives ErrQuota.
const (
	MaxAssignments = 4000
	maxDescription = 1024 // bytes
)

// Errors that callers decide on. They arrive wrapped in a sentence that names the object.
var (
	ErrNotFound = errors.New("does not exist")
	// ErrExists: the principal has the role at exactly this scope already, under another id.
	ErrExists = errors.New("the role assignment already exists")
	// ErrImmutable: an assignment with this id gives something else; only its description can be changed.
	ErrImmutable = errors.New("scope, role and principal of a role assignment cannot be changed")
	ErrQuota     = errors.New("there are as many role assignments as can be")
)

// A ValidationError names one faulty field of an assignment that was not written. Several at once arrive joined.
type ValidationError struct {
	Field   string // as on the wire, such as "principalId"
	Message string
}

func (e *ValidationError) Error() string { return e.Field + ": " + e.Message }

// An Assignment gives a principal a role at a scope and below it.
type Assignment struct {
	ID            string    `json:"id"`            // GUID, lower case; the name of the resource
	Scope         string    `json:"scope"`         // ARM id as given, or "/" for everything; compared ignoring case
	RoleID        string    `json:"roleId"`        // GUID of a role definition
	PrincipalID   string    `json:"principalId"`   // object id, GUID, lower case
	PrincipalType string    `json:"principalType"` // ServicePrincipal, User, Group, ForeignGroup or Device; for people
	Description   string    `json:"description,omitempty"`
	CreatedOn     time.Time `json:"createdOn"`
	UpdatedOn     time.Time `json:"updatedOn"`
	// CreatedBy and UpdatedBy are object ids; empty for whoever held the admin token.
	CreatedBy string `json:"createdBy,omitempty"`
	UpdatedBy string `json:"updatedBy,omitempty"`
}

// principalTypes are the spellings of the wire. Only service principals exist in the embedded directory; the others
// are for principals of tenants that the service trusts.
var principalTypes = []string{"ServicePrincipal", "User", "Group", "ForeignGroup", "Device"}

// Options of [Open].
type Options struct {
	// Now is the clock of creation times. Default: time.Now.
	Now func() time.Time

	limit int // in tests: another MaxAssignments
}

// RBAC holds the role assignments. It is safe for concurrent use.
type RBAC struct {
	// assignments are stored under what they give and not under their id, so that two processes cannot both give it.
	assignments *store.Collection[Assignment]
	now         func() time.Time
	limit       int
	index       atomic.Pointer[index]
	writing     chan struct{} // holds a token while a write checks ids and the quota, which span documents

	mu        sync.Mutex // guards listeners and orders replacements of index
	listeners []func()
}

// Open loads the assignments.
func Open(ctx context.Context, s *store.Store, opt Options) (*RBAC, error) {
	c, err := store.OpenCollection[Assignment](ctx, s, "role-assignments", store.Schema{Version: 1})
	if err != nil {
		return nil, fmt.Errorf("rbac: %w", err)
	}
	r := &RBAC{assignments: c, now: opt.Now, limit: opt.limit, writing: make(chan struct{}, 1)}
	if r.now == nil {
		r.now = time.Now
	}
	if r.limit == 0 {
		r.limit = MaxAssignments
	}
	c.OnChange(func([]string) { r.reindex() })
	r.reindex()
	return r, nil
}

// OnChange has fn called after assignments changed, here or in another process, and before the write that caused it
// returns. Calls come one at a time. fn must be quick and must not write assignments.
func (r *RBAC) OnChange(fn func()) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.listeners = append(r.listeners, fn)
}

// key names the document of what an assignment gives.
func (a *Assignment) key() string {
	return foldScope(a.Scope) + "\n" + a.RoleID + "\n" + a.PrincipalID
}

// Put creates the assignment, or changes the description of the one that has its id, and tells whether it is new. An
// empty ID is made up, an empty PrincipalType is ServicePrincipal. by is the object id of whoever asks, empty for the
// holder of the admin token. Errors: *ValidationError, ErrExists, ErrImmutable, ErrQuota.
func (r *RBAC) Put(ctx context.Context, a Assignment, by string) (_ Assignment, created bool, err error) {
	if err := a.complete(); err != nil {
		return Assignment{}, false, err
	}
	now := r.now().UTC().Truncate(time.Second)
	a.CreatedOn, a.CreatedBy, a.UpdatedOn, a.UpdatedBy = now, by, now, by
	err = r.write(ctx, func() error {
		if old, ok := r.Assignment(a.ID); ok {
			a, err = r.redescribe(ctx, old, a)
			return err
		}
		if len(r.assignments.All()) >= r.limit {
			return fmt.Errorf("%w: %d", ErrQuota, r.limit)
		}
		created = true
		_, err := r.assignments.Create(ctx, a.key(), a)
		if errors.Is(err, store.ErrExists) {
			if other, ok := r.assignments.Get(a.key()); ok {
				return fmt.Errorf("%w under the id %s", ErrExists, other.Value.ID)
			}
			return ErrExists
		}
		return err
	})
	if err != nil {
		return Assignment{}, false, fmt.Errorf("role assignment %s: %w", a.ID, err)
	}
	return a, created, nil
}

// redescribe gives an assignment another description. Called within write.
func (r *RBAC) redescribe(ctx context.Context, old, next Assignment) (Assignment, error) {
	if next.key() != old.key() {
		return old, ErrImmutable
	}
	if next.Description == old.Description {
		return old, nil
	}
	old.Description, old.UpdatedOn, old.UpdatedBy = next.Description, next.UpdatedOn, next.UpdatedBy
	item, ok := r.assignments.Get(old.key())
	if !ok {
		return old, ErrNotFound
	}
	_, err := r.assignments.Update(ctx, old.key(), old, item.Revision)
	return old, translate(err)
}

// complete checks an assignment, all of it, and brings it into the form that is stored.
func (a *Assignment) complete() error {
	var faults []error
	fault := func(field, format string, args ...any) {
		faults = append(faults, &ValidationError{field, fmt.Sprintf(format, args...)})
	}
	if a.ID == "" {
		a.ID = uuid.NewString()
	}
	id, ok := parseGUID(a.ID)
	if !ok {
		fault("roleAssignmentName", "%.100q is not a GUID", a.ID)
	}
	a.ID = id
	scope, err := ParseScope(a.Scope)
	if err != nil {
		fault("scope", "%v", err)
	}
	a.Scope = scope
	role, ok := Find(a.RoleID)
	if !ok {
		fault("roleDefinitionId", "%.200q is not a role definition of this service", a.RoleID)
	}
	a.RoleID = role.ID
	if a.PrincipalID, ok = parseGUID(a.PrincipalID); !ok {
		fault("principalId", "is not the object id (a GUID) of a principal")
	}
	if a.PrincipalType == "" {
		a.PrincipalType = principalTypes[0]
	}
	i := slices.IndexFunc(principalTypes, func(t string) bool { return strings.EqualFold(t, a.PrincipalType) })
	if i < 0 {
		fault("principalType", "%.100q is none of %s", a.PrincipalType, strings.Join(principalTypes, ", "))
	} else {
		a.PrincipalType = principalTypes[i]
	}
	if len(a.Description) > maxDescription {
		fault("description", "is longer than %d bytes", maxDescription)
	}
	return errors.Join(faults...)
}

// Assignment finds an assignment by id.
func (r *RBAC) Assignment(id string) (Assignment, bool) {
	a, ok := r.index.Load().byID[strings.ToLower(id)]
	return a, ok
}

// A Filter selects assignments; its zero value selects all.
type Filter struct {
	// Scope selects assignments that count there (at it or above it) and those below it. Empty: everywhere.
	Scope string
	// AtScope leaves out those below Scope.
	AtScope bool
	// PrincipalID selects the assignments of one principal. Empty: of all.
	PrincipalID string
}

// Assignments lists assignments by scope, then by id.
func (r *RBAC) Assignments(f Filter) []Assignment {
	principal, scope := strings.ToLower(f.PrincipalID), foldScope(f.Scope)
	var list []Assignment
	for _, a := range r.index.Load().byID {
		own := foldScope(a.Scope)
		if f.PrincipalID != "" && a.PrincipalID != principal {
			continue
		}
		if f.Scope != "" && !covers(own, scope) && (f.AtScope || !covers(scope, own)) {
			continue
		}
		list = append(list, a)
	}
	slices.SortFunc(list, func(a, b Assignment) int {
		return cmp.Or(strings.Compare(foldScope(a.Scope), foldScope(b.Scope)), strings.Compare(a.ID, b.ID))
	})
	return list
}

// Delete takes an assignment back and returns what it was. It counts no more when Delete returns. ErrNotFound.
func (r *RBAC) Delete(ctx context.Context, id string) (Assignment, error) {
	var a Assignment
	err := r.write(ctx, func() error {
		var ok bool
		if a, ok = r.Assignment(id); !ok {
			return ErrNotFound
		}
		return translate(r.assignments.Delete(ctx, a.key(), 0))
	})
	if err != nil {
		return Assignment{}, fmt.Errorf("role assignment %.100q: %w", id, err)
	}
	return a, nil
}

// DeleteScope takes back every assignment at a scope and below it. It is for the end of a resource: whoever had a role
// there must not have one at a later resource of the same name.
func (r *RBAC) DeleteScope(ctx context.Context, scope string) error {
	scope = foldScope(scope)
	return r.write(ctx, func() error {
		for key, item := range r.assignments.All() {
			if !covers(scope, foldScope(item.Value.Scope)) {
				continue
			}
			if err := translate(r.assignments.Delete(ctx, key, 0)); err != nil && !errors.Is(err, ErrNotFound) {
				return fmt.Errorf("role assignments at %s: %w", scope, err)
			}
		}
		return nil
	})
}

// write runs fn while no other write of this process is between its checks and its changes.
func (r *RBAC) write(ctx context.Context, fn func() error) error {
	select {
	case r.writing <- struct{}{}:
		defer func() { <-r.writing }()
		return fn()
	case <-ctx.Done():
		return fmt.Errorf("waiting for other changes of role assignments: %w", ctx.Err())
	}
}

func translate(err error) error {
	if errors.Is(err, store.ErrNotFound) {
		return ErrNotFound
	}
	return err
}

// parseGUID returns a GUID in lower case.
func parseGUID(s string) (string, bool) {
	id, err := uuid.Parse(s)
	if err != nil || len(s) != 36 {
		return "", false
	}
	return id.String(), true
}
