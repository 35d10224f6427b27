package arm

import (
	"errors"
	"net/http"
	"strings"
	"time"

	"tabard/internal/rbac"
	"tabard/internal/settings"
)

// Role assignments and role definitions (control-plane.md 5.2). Both are extension resources: their paths begin with
// the scope at which the assignment counts, or from which the definition is looked at.

const (
	authorizationProvider = "/providers/Microsoft.Authorization"
	assignmentType        = "Microsoft.Authorization/roleAssignments"
	definitionType        = "Microsoft.Authorization/roleDefinitions"
)

// scope is what the path names before Microsoft.Authorization, in the spelling of ids that the service itself gives out.
func (c *call) scope() string {
	scope := ""
	for _, part := range [][2]string{
		{"/subscriptions/", "subscription"}, {"/resourceGroups/", "group"}, {"/providers/", "scopeNamespace"},
		{"/", "scopeType"}, {"/", "scopeName"}, {"/", "childType"}, {"/", "childName"},
	} {
		if value, ok := c.params[part[1]]; ok {
			scope += part[0] + value
		}
	}
	if scope == "" {
		return rbac.Root
	}
	return scope
}

// below is the id of something of Microsoft.Authorization at a scope.
func below(scope, kind, name string) string {
	return strings.TrimSuffix(scope, "/") + "/providers/" + kind + "/" + name
}

// definitionID is where a role definition is found by those who look from a scope: in its subscription.
func definitionID(scope, id string) string {
	const prefix = "/subscriptions/"
	if len(scope) < len(prefix) || !strings.EqualFold(scope[:len(prefix)], prefix) {
		return below("", definitionType, id)
	}
	subscription, _, _ := strings.Cut(scope[len(prefix):], "/")
	return below(prefix+subscription, definitionType, id)
}

func assignment(a *rbac.Assignment) map[string]any {
	return map[string]any{
		"id": below(a.Scope, assignmentType, a.ID), "name": a.ID, "type": assignmentType,
		"properties": map[string]any{
			"roleDefinitionId": definitionID(a.Scope, a.RoleID), "principalId": a.PrincipalID, "principalType": a.PrincipalType, "scope": a.Scope,
			"description": orNull(a.Description), "condition": nil, "conditionVersion": nil, "delegatedManagedIdentityResourceId": nil,
			"createdOn": a.CreatedOn.Format(time.RFC3339), "updatedOn": a.UpdatedOn.Format(time.RFC3339),
			"createdBy": orNull(a.CreatedBy), "updatedBy": orNull(a.UpdatedBy),
		},
	}
}

func orNull(text string) any {
	if text == "" {
		return nil
	}
	return text
}

// listAssignments obeys the filters of Azure: atScope() leaves out what is below, principalId eq '…' and
// assignedTo('…') select a principal (there are no groups through which it could have more).
func (s *server) listAssignments(c *call) (reply, error) {
	f := rbac.Filter{Scope: c.scope()}
	in := &scanner{rest: c.query("$filter")}
	for in.space(); in.rest != ""; {
		ok := false
		switch field := in.word(); {
		case strings.EqualFold(field, "atScope"):
			f.AtScope, ok = true, in.take("(") && in.close()
		case strings.EqualFold(field, "assignedTo"):
			ok = in.take("(") && in.text(&f.PrincipalID) && in.close()
		case strings.EqualFold(field, "principalId"):
			ok = in.keyword("eq") && in.text(&f.PrincipalID)
		}
		if in.space(); !ok || in.rest != "" && !in.keyword("and") {
			return reply{}, badFilter("atScope(), principalId eq '{id}' and assignedTo('{id}')")
		}
		in.space()
	}
	var list []map[string]any
	for _, a := range s.Roles.Assignments(f) {
		list = append(list, assignment(&a))
	}
	return values(list), nil
}

// findAssignment finds the assignment that the path names, at exactly the path's scope.
func (s *server) findAssignment(c *call) (rbac.Assignment, bool) {
	a, ok := s.Roles.Assignment(c.params["assignment"])
	return a, ok && strings.EqualFold(a.Scope, c.scope())
}

func (s *server) getAssignment(c *call) (reply, error) {
	a, ok := s.findAssignment(c)
	if !ok {
		return reply{}, assignmentNotFound(c.params["assignment"])
	}
	return reply{200, assignment(&a)}, nil
}

func (s *server) putAssignment(c *call) (reply, error) {
	raw, err := c.readJSON()
	if err != nil {
		return reply{}, err
	}
	a, err := s.readAssignment(c, raw)
	if err != nil {
		return reply{}, err
	}
	by := ""
	if s.Caller != nil {
		by = s.Caller(c.r)
	}
	ctx, cancel := c.writing()
	defer cancel()
	a, created, err := s.Roles.Put(ctx, a, by)
	if err != nil {
		return reply{}, s.refuseAssignment(&a, err)
	}
	if created {
		return reply{201, assignment(&a)}, nil
	}
	return reply{200, assignment(&a)}, nil
}

// readAssignment makes an assignment of a body. A condition is refused and not ignored: without it the assignment
// would allow more than it says.
func (s *server) readAssignment(c *call, raw []byte) (rbac.Assignment, error) {
	var d reader
	p := d.object("properties", d.object("", raw, "properties")["properties"],
		"roleDefinitionId", "principalId", "principalType", "description", "condition", "conditionVersion", "delegatedManagedIdentityResourceId", "scope")
	a := rbac.Assignment{
		ID: c.params["assignment"], Scope: c.scope(),
		RoleID: d.text("properties.roleDefinitionId", p["roleDefinitionId"]), PrincipalID: d.text("properties.principalId", p["principalId"]),
		PrincipalType: d.text("properties.principalType", p["principalType"]), Description: d.text("properties.description", p["description"]),
	}
	if d.text("properties.condition", p["condition"]) != "" {
		d.fault("properties.condition", "is not supported: it would not be evaluated")
	}
	if d.text("properties.delegatedManagedIdentityResourceId", p["delegatedManagedIdentityResourceId"]) != "" {
		d.fault("properties.delegatedManagedIdentityResourceId", "is not supported: there is one tenant")
	}
	for _, name := range []string{"roleDefinitionId", "principalId"} {
		if absent(p[name]) {
			d.fault("properties."+name, "is required")
		}
	}
	if err := d.err(); err != nil {
		return a, err
	}
	if !guid.MatchString(a.ID) {
		return a, invalidAssignmentID(a.ID)
	}
	if _, ok := rbac.Find(a.RoleID); !ok {
		return a, definitionNotFound(a.RoleID)
	}
	if scope, err := s.existingScope(c, a.Scope); err != nil {
		return a, err
	} else {
		a.Scope = scope
	}
	return a, s.checkPrincipal(c, &a)
}

// existingScope refuses the scope of an instance that does not exist, most likely a slip, and spells the id of one that
// does as it is spelled elsewhere.
func (s *server) existingScope(c *call, scope string) (string, error) {
	if kind := c.params["scopeNamespace"] + "/" + c.params["scopeType"]; !strings.EqualFold(kind, instanceType) {
		return scope, nil
	}
	in, ok := s.Settings.Snapshot().Instance(c.params["scopeName"])
	if !ok || !s.here(c, in) {
		return scope, resourceNotFound(instanceType, c.params["scopeName"], c.params["group"])
	}
	if child, ok := c.params["childType"]; ok {
		return in.ResourceID() + "/" + child + "/" + c.params["childName"], nil
	}
	return in.ResourceID(), nil
}

// checkPrincipal refuses a principal that the directory does not know, unless the type is given, as in Azure: then the
// principal may be one of another tenant.
func (s *server) checkPrincipal(c *call, a *rbac.Assignment) error {
	if _, ok := s.Directory.ServicePrincipal(a.PrincipalID); ok {
		return nil
	}
	if p, ok := s.Directory.ServicePrincipalByAppID(a.PrincipalID); ok {
		return principalNotFound(a.PrincipalID, s.Directory.TenantID()).hint("It is the client id of '" + p.DisplayName + "', whose object id is '" + p.ID + "'.")
	}
	if a.PrincipalType == "" {
		return principalNotFound(a.PrincipalID, s.Directory.TenantID()).hint("For a principal of another tenant that the service trusts, give its principalType.")
	}
	c.warn("principal " + a.PrincipalID + " is not in the directory: the role counts for a principal of another tenant that the service trusts")
	return nil
}

// refuseAssignment words the refusals of rbac.
func (s *server) refuseAssignment(a *rbac.Assignment, err error) error {
	var faults settings.Faults
	joined, several := err.(interface{ Unwrap() []error })
	var one *rbac.ValidationError
	switch {
	case several:
		for _, e := range joined.Unwrap() {
			if errors.As(e, &one) {
				faults = append(faults, settings.Fault{Field: "properties." + one.Field, Problem: one.Message})
			}
		}
		return faults
	case errors.Is(err, rbac.ErrExists):
		return refuse(http.StatusConflict, "RoleAssignmentExists", "The role assignment already exists: %v.", err)
	case errors.Is(err, rbac.ErrImmutable):
		return refuse(http.StatusBadRequest, "RoleAssignmentUpdateNotPermitted", "Tenant ID, application ID, principal ID, and scope are not allowed to be updated.")
	case errors.Is(err, rbac.ErrQuota):
		return refuse(http.StatusBadRequest, "RoleAssignmentLimitExceeded", "No more role assignments can be created; there are %d.", rbac.MaxAssignments)
	}
	return err
}

func (s *server) deleteAssignment(c *call) (reply, error) {
	a, ok := s.findAssignment(c)
	if !ok {
		return reply{status: 204}, nil
	}
	ctx, cancel := c.writing()
	defer cancel()
	a, err := s.Roles.Delete(ctx, a.ID)
	if errors.Is(err, rbac.ErrNotFound) {
		return reply{status: 204}, nil
	}
	if err != nil {
		return reply{}, err
	}
	return reply{200, assignment(&a)}, nil
}

func definition(scope string, d *rbac.Definition) map[string]any {
	list := func(actions []string) []string { return append([]string{}, actions...) } // never null
	return map[string]any{
		"id": definitionID(scope, d.ID), "name": d.ID, "type": definitionType,
		"properties": map[string]any{
			"roleName": d.Name, "type": "BuiltInRole", "description": d.Description, "assignableScopes": []string{"/"},
			"permissions": []map[string]any{{
				"actions": list(d.Actions), "notActions": list(d.NotActions), "dataActions": list(d.DataActions), "notDataActions": list(d.NotDataActions),
			}},
		},
	}
}

// listDefinitions obeys roleName eq '…', by which clients find the id of a role, and type eq '…'; what else they write,
// such as atScopeAndBelow(), selects nothing among built-in roles.
func (s *server) listDefinitions(c *call) (reply, error) {
	name, kind := "", ""
	in := &scanner{rest: c.query("$filter")}
	for in.space(); in.rest != ""; {
		ok := false
		switch field := in.word(); {
		case strings.EqualFold(field, "atScopeAndBelow"), strings.EqualFold(field, "atScope"):
			ok = in.take("(") && in.close()
		case strings.EqualFold(field, "roleName"):
			ok = in.keyword("eq") && in.text(&name)
		case strings.EqualFold(field, "type"):
			ok = in.keyword("eq") && in.text(&kind)
		}
		if in.space(); !ok || in.rest != "" && !in.keyword("and") {
			return reply{}, badFilter("roleName eq '{name}', type eq '{type}' and atScopeAndBelow()")
		}
		in.space()
	}
	var list []map[string]any
	for _, d := range rbac.Definitions() {
		if (name == "" || strings.EqualFold(name, d.Name)) && (kind == "" || strings.EqualFold(kind, "BuiltInRole")) {
			list = append(list, definition(c.scope(), &d))
		}
	}
	return values(list), nil
}

func (s *server) getDefinition(c *call) (reply, error) {
	d, ok := rbac.Find(c.params["definition"])
	if !ok {
		return reply{}, definitionNotFound(c.params["definition"])
	}
	return reply{200, definition(c.scope(), &d)}, nil
}
