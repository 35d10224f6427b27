package arm

import (
	"errors"
	"strings"

	"tabard/internal/directory"
)

// App role assignments: a principal's roles at an application. Graph shows each from both ends.

// An assignmentEnd is the end at which a list hangs, as paths name it.
type assignmentEnd string

const (
	toPrincipal assignmentEnd = "appRoleAssignments" // what the path's principal was assigned
	ofResource  assignmentEnd = "appRoleAssignedTo"  // who was assigned the roles of the path's application
)

func (s *server) appRoleAssignments(end assignmentEnd, p *directory.ServicePrincipal) *collection[directory.AppRoleAssignment] {
	return &collection[directory.AppRoleAssignment]{
		name:   "servicePrincipals('" + p.ID + "')/" + string(end),
		fields: map[string]bool{"id": false, "appRoleId": false, "principalId": false, "resourceId": false, "principalType": false, "principalDisplayName": false, "resourceDisplayName": false},
		value: func(a *directory.AppRoleAssignment, field string) []string {
			switch field {
			case "id":
				return []string{a.ID}
			case "appRoleId":
				return []string{a.AppRoleID}
			case "principalId":
				return []string{a.PrincipalID}
			case "resourceId":
				return []string{a.ResourceID}
			case "principalType":
				return []string{"ServicePrincipal"}
			case "principalDisplayName":
				return []string{s.displayName(a.PrincipalID)}
			}
			return []string{s.displayName(a.ResourceID)}
		},
		key: func(a *directory.AppRoleAssignment) string { return a.ID },
		encode: func(a *directory.AppRoleAssignment) map[string]any {
			return map[string]any{
				"id": a.ID, "appRoleId": a.AppRoleID, "createdDateTime": a.CreatedDateTime, "deletedDateTime": nil,
				"principalId": a.PrincipalID, "principalType": "ServicePrincipal", "principalDisplayName": s.displayName(a.PrincipalID),
				"resourceId": a.ResourceID, "resourceDisplayName": s.displayName(a.ResourceID),
			}
		},
	}
}

func (s *server) displayName(principalID string) string {
	p, _ := s.Directory.ServicePrincipal(principalID)
	return p.DisplayName
}

// assignmentsAt are those of the path's principal, at the end at which it stands.
func (s *server) assignmentsAt(end assignmentEnd, p *directory.ServicePrincipal) []directory.AppRoleAssignment {
	if end == ofResource {
		return s.Directory.AppRoleAssignments("", p.ID)
	}
	return s.Directory.AppRoleAssignments(p.ID, "")
}

func (s *server) listAppRoleAssignments(end assignmentEnd) handler {
	return func(c *call) (reply, error) {
		p, err := s.findPrincipal(c)
		if err != nil {
			return reply{}, err
		}
		return s.appRoleAssignments(end, &p).list(c, s.assignmentsAt(end, &p))
	}
}

func (s *server) findAppRoleAssignment(end assignmentEnd, c *call) (p directory.ServicePrincipal, a directory.AppRoleAssignment, err error) {
	if p, err = s.findPrincipal(c); err != nil {
		return p, a, err
	}
	for _, a := range s.assignmentsAt(end, &p) {
		if strings.EqualFold(a.ID, c.params["assignment"]) {
			return p, a, nil
		}
	}
	return p, a, objectNotFound(c.params["assignment"])
}

func (s *server) getAppRoleAssignment(end assignmentEnd) handler {
	return func(c *call) (reply, error) {
		p, a, err := s.findAppRoleAssignment(end, c)
		if err != nil {
			return reply{}, err
		}
		return s.appRoleAssignments(end, &p).entity(c, 200, &a), nil
	}
}

// assignAppRole takes both ends from the body; one must be the path's, which stands for it where it is missing.
func (s *server) assignAppRole(end assignmentEnd) handler {
	own, known := "principalId", []string{"principalId", "resourceId", "appRoleId"}
	if end == ofResource {
		own = "resourceId"
	}
	return func(c *call) (reply, error) {
		p, err := s.findPrincipal(c)
		if err != nil {
			return reply{}, err
		}
		doc, d, err := c.readAction(known...)
		if err != nil {
			return reply{}, err
		}
		ids := map[string]string{}
		for _, name := range known {
			ids[name] = d.text(name, doc[name])
			switch {
			case name == own && ids[name] == "":
				ids[name] = p.ID
			case name == own && !strings.EqualFold(ids[name], p.ID):
				d.fault(name, "%.100q is not the service principal of the path", ids[name])
			case ids[name] == "":
				d.fault(name, "is required")
			}
		}
		if err := d.err(); err != nil {
			return reply{}, err
		}
		ctx, cancel := c.writing()
		defer cancel()
		a, err := s.Directory.AssignAppRole(ctx, ids["principalId"], ids["resourceId"], ids["appRoleId"])
		if errors.Is(err, directory.ErrConflict) {
			return reply{}, assignedAlready(err)
		}
		if err != nil {
			return reply{}, err
		}
		c.w.Header().Set("Location", c.origin()+graph+"/servicePrincipals/"+p.ID+"/"+string(end)+"/"+a.ID)
		return s.appRoleAssignments(end, &p).entity(c, 201, &a), nil
	}
}

func (s *server) deleteAppRoleAssignment(end assignmentEnd) handler {
	return func(c *call) (reply, error) {
		_, a, err := s.findAppRoleAssignment(end, c)
		if err != nil {
			return reply{}, err
		}
		ctx, cancel := c.writing()
		defer cancel()
		err = s.Directory.DeleteAppRoleAssignment(ctx, a.ID)
		if errors.Is(err, directory.ErrNotFound) {
			return reply{}, objectNotFound(a.ID)
		}
		return reply{status: 204}, err
	}
}
