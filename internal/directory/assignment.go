package directory

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"
)

// DefaultAccess is the role id that admits a principal to a resource without giving it a role.
const DefaultAccess = "00000000-0000-0000-0000-000000000000"

// An AppRoleAssignment gives a principal one role of a resource application. All ids are GUIDs.
type AppRoleAssignment struct {
	ID              string    `json:"id"`
	AppRoleID       string    `json:"appRoleId"`   // a role of the application behind ResourceID, or DefaultAccess
	PrincipalID     string    `json:"principalId"` // object id of the service principal that gets the role
	ResourceID      string    `json:"resourceId"`  // object id of the application's service principal
	CreatedDateTime time.Time `json:"createdDateTime"`
}

// AssignAppRole gives the principal a role of the resource, both named by the object ids of their service
// principals. ErrConflict: it has it. A *ValidationError names what is not assignable.
func (d *Directory) AssignAppRole(ctx context.Context, principalID, resourceID, appRoleID string) (AppRoleAssignment, error) {
	var a AppRoleAssignment
	err := d.write(ctx, func() error {
		principal, ok := d.ServicePrincipal(principalID)
		if !ok {
			return &ValidationError{"principalId", fmt.Sprintf("%q is not a service principal of the tenant", principalID)}
		}
		resource, ok := d.ServicePrincipal(resourceID)
		if !ok || resource.Type != TypeApplication {
			return &ValidationError{"resourceId", fmt.Sprintf("%q is not the service principal of an application", resourceID)}
		}
		if err := d.checkAssignable(resource, lower(appRoleID)); err != nil {
			return err
		}
		a = AppRoleAssignment{
			ID: uuid.NewString(), AppRoleID: lower(appRoleID), PrincipalID: principal.ID, ResourceID: resource.ID,
			CreatedDateTime: d.now().UTC().Truncate(time.Second),
		}
		if old, ok := d.index.Load().assignments[assignmentKey{pair{a.PrincipalID, a.ResourceID}, a.AppRoleID}]; ok {
			return fmt.Errorf("assignment %s: %w", old.ID, ErrConflict)
		}
		if len(d.assignments.All()) >= MaxAppRoleAssignments {
			return fmt.Errorf("%w: %d app role assignments", ErrQuota, MaxAppRoleAssignments)
		}
		_, err := d.assignments.Create(ctx, a.ID, a)
		return err
	})
	if err != nil {
		return AppRoleAssignment{}, fmt.Errorf("app role assignment: %w", err)
	}
	return a, nil
}

func (d *Directory) checkAssignable(resource ServicePrincipal, appRoleID string) error {
	if appRoleID == DefaultAccess {
		return nil
	}
	app, _ := d.Application(resource.AppID)
	role, ok := app.role(appRoleID)
	switch {
	case !ok:
		return &ValidationError{"appRoleId", fmt.Sprintf("application %q has no role %q", app.DisplayName, appRoleID)}
	case !role.IsEnabled:
		return &ValidationError{"appRoleId", fmt.Sprintf("role %q of application %q is disabled", role.DisplayName, app.DisplayName)}
	case !slices.Contains(role.AllowedMemberTypes, "Application"):
		return &ValidationError{"appRoleId", fmt.Sprintf("role %q of application %q is for users only", role.DisplayName, app.DisplayName)}
	}
	return nil
}

// AppRoleAssignments lists assignments by id. An empty principalID or resourceID stands for any.
func (d *Directory) AppRoleAssignments(principalID, resourceID string) []AppRoleAssignment {
	principalID, resourceID = lower(principalID), lower(resourceID)
	assignments := slices.Collect(maps.Values(d.index.Load().assignments))
	assignments = slices.DeleteFunc(assignments, func(a AppRoleAssignment) bool {
		return principalID != "" && a.PrincipalID != principalID || resourceID != "" && a.ResourceID != resourceID
	})
	slices.SortFunc(assignments, func(a, b AppRoleAssignment) int { return strings.Compare(a.ID, b.ID) })
	return assignments
}

// DeleteAppRoleAssignment takes an assignment back.
func (d *Directory) DeleteAppRoleAssignment(ctx context.Context, id string) error {
	err := d.write(ctx, func() error { return remove(ctx, d.assignments, lower(id)) })
	if err != nil {
		return fmt.Errorf("app role assignment %q: %w", id, err)
	}
	return nil
}

// Roles returns the sorted values of the enabled roles that the principal has at the resource, and whether
// it is assigned to it at all. Both are named by object id.
func (d *Directory) Roles(principalID, resourceID string) (values []string, assigned bool) {
	values, assigned = d.index.Load().roles[pair{lower(principalID), lower(resourceID)}]
	return slices.Sorted(slices.Values(values)), assigned
}
