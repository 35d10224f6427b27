package main

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
)

const (
	roleVersion    = "2022-04-01" // Microsoft.Authorization
	assignmentsOf  = "/providers/Microsoft.Authorization/roleAssignments"
	definitionsOf  = "/providers/Microsoft.Authorization/roleDefinitions"
	everythingHere = "/"
)

const roleWords = `

Words: role, role assignment, scope and principal are those of Azure role-based access control (Microsoft.Authorization). A principal is named by its object id, which "tabard identity show" calls the principal id; the client id is another one.`

// An assignedRole is a role assignment as the commands print it.
type assignedRole struct {
	ID            string `json:"id"`   // ARM id
	Name          string `json:"name"` // GUID
	Role          string `json:"role"`
	PrincipalID   string `json:"principalId"`
	PrincipalType string `json:"principalType"`
	Scope         string `json:"scope"`

	roleID string
}

// scopeFlags say where a role counts.
type scopeFlags struct {
	instanceFlags
	Scope string `help:"ARM id of a subscription, resource group or resource in place of the instance; / is everything." placeholder:"ARM_ID"`
}

// at finds the service, and the scope as the beginning of a path.
func (f scopeFlags) at(ctx context.Context, s *stdio) (*admin, string, error) {
	if f.Scope == "" {
		return f.connect(ctx, s)
	}
	a, err := f.open(s)
	return a, scopePath(f.Scope), err
}

// Validate finds what is no scope.
func (f scopeFlags) Validate() error {
	if f.Scope != "" && f.Scope != everythingHere && !isResourceID(f.Scope) {
		return fmt.Errorf("--scope must be / or begin with /subscriptions/, not %q; an instance is named by --instance", f.Scope)
	}
	return nil
}

func scopePath(scope string) string { return idPath(strings.TrimRight(scope, "/")) }

// everywhere is the path of the scope that sees every assignment: what is above counts there, too.
func (a *admin) everywhere(ctx context.Context) (string, error) {
	id, err := a.subscription(ctx)
	return scopePath("/subscriptions/" + id), err
}

// roleDefinition finds a role by name, GUID or ARM id.
func (a *admin) roleDefinition(ctx context.Context, name string) (id string, err error) {
	names, err := a.roleNames(ctx)
	if err != nil {
		return "", err
	}
	var known []string
	for id, is := range names {
		if strings.EqualFold(name, is) || strings.EqualFold(name, id) || strings.HasSuffix(strings.ToLower(name), "/"+id) {
			return id, nil
		}
		known = append(known, is)
	}
	slices.Sort(known)
	return "", fail(exitNotFound, "there are "+strings.Join(known, ", "), "there is no role %q", name)
}

// roleNames are the names of all roles by their GUID.
func (a *admin) roleNames(ctx context.Context) (map[string]string, error) {
	all, err := a.list(ctx, definitionsOf, apiVersion(roleVersion))
	if err != nil {
		return nil, err
	}
	names := make(map[string]string, len(all))
	for _, raw := range all {
		var d struct {
			Name       string
			Properties struct{ RoleName string }
		}
		if err := json.Unmarshal(raw, &d); err != nil {
			return nil, err
		}
		names[strings.ToLower(d.Name)] = d.Properties.RoleName
	}
	return names, nil
}

// roleAssignments lists what counts at the scope of a path and what is below it, or only a principal's part of it.
func (a *admin) roleAssignments(ctx context.Context, path, principal string) ([]assignedRole, error) {
	names, err := a.roleNames(ctx)
	if err != nil {
		return nil, err
	}
	query := apiVersion(roleVersion)
	if principal != "" {
		query.Set("$filter", "principalId eq '"+strings.ReplaceAll(principal, "'", "''")+"'")
	}
	all, err := a.list(ctx, path+assignmentsOf, query)
	if err != nil {
		return nil, err
	}
	list := make([]assignedRole, len(all))
	for i, raw := range all {
		if list[i], err = readRole(raw, names); err != nil {
			return nil, err
		}
	}
	return list, nil
}

func readRole(raw json.RawMessage, names map[string]string) (assignedRole, error) {
	var r struct {
		ID, Name   string
		Properties struct{ RoleDefinitionID, PrincipalID, PrincipalType, Scope string }
	}
	if err := json.Unmarshal(raw, &r); err != nil {
		return assignedRole{}, err
	}
	p := r.Properties
	id := strings.ToLower(p.RoleDefinitionID[strings.LastIndexByte(p.RoleDefinitionID, '/')+1:])
	name := names[id]
	if name == "" {
		name = id
	}
	return assignedRole{ID: r.ID, Name: r.Name, Role: name, PrincipalID: p.PrincipalID, PrincipalType: p.PrincipalType, Scope: p.Scope, roleID: id}, nil
}

// findRole finds the assignment of a role to a principal at exactly the scope of a path.
func (a *admin) findRole(ctx context.Context, path, principal, roleID string) (assignedRole, bool, error) {
	list, err := a.roleAssignments(ctx, path, principal)
	if err != nil {
		return assignedRole{}, false, err
	}
	for _, r := range list {
		if r.roleID == roleID && strings.EqualFold(scopePath(r.Scope), path) {
			return r, true, nil
		}
	}
	return assignedRole{}, false, nil
}

type roleAssignCmd struct {
	scopeFlags
	jsonFlag
	Principal string `required:"" help:"Object id of the identity or application that gets the role." placeholder:"OBJECT_ID"`
	Role      string `required:"" help:"Name or id of the role." placeholder:"ROLE"`
	Foreign   bool   `help:"The principal is one of another tenant that the service trusts (--trust-issuer), so this directory does not know it."`
}

func (roleAssignCmd) Help() string {
	return `The role counts at once, at the instance or the scope and at everything below. Assigning it again changes nothing. Web PubSub Service Owner and Reader open the REST API to tokens for https://webpubsub.azure.com; Owner, Contributor and Reader open the control plane to tokens for https://management.azure.com.

Example:

    tabard role assign --principal 7c2b1f5e-0000-4000-8000-000000000001 --role "Web PubSub Service Owner" --instance default
    tabard role assign --principal 7c2b1f5e-0000-4000-8000-000000000001 --role Reader --scope /` + roleWords
}

func (c *roleAssignCmd) Run(ctx context.Context, s *stdio) error {
	a, path, err := c.at(ctx, s)
	if err != nil {
		return err
	}
	roleID, err := a.roleDefinition(ctx, c.Role)
	if err != nil {
		return err
	}
	assigned, there, err := a.findRole(ctx, path, c.Principal, roleID)
	if err != nil {
		return err
	}
	if !there {
		if assigned, err = a.assignRole(ctx, path, c.Principal, roleID, c.Foreign); err != nil {
			return err
		}
	}
	return s.print(c.JSON, assigned, func(w io.Writer) {
		row(w, "role", assigned.Role)
		row(w, "principal id", assigned.PrincipalID)
		row(w, "scope", assigned.Scope)
		row(w, "id", assigned.ID)
	})
}

func (a *admin) assignRole(ctx context.Context, path, principal, roleID string, foreign bool) (assignedRole, error) {
	properties := map[string]string{"roleDefinitionId": definitionsOf + "/" + roleID, "principalId": principal}
	if foreign {
		properties["principalType"] = "ServicePrincipal"
	}
	var raw json.RawMessage
	body := map[string]any{"properties": properties}
	if _, err := a.call(ctx, http.MethodPut, path+assignmentsOf+"/"+newGUID(), apiVersion(roleVersion), body, &raw); err != nil {
		return assignedRole{}, err
	}
	names, err := a.roleNames(ctx)
	if err != nil {
		return assignedRole{}, err
	}
	return readRole(raw, names)
}

// newGUID makes a random GUID (RFC 9562 version 4), the name of a role assignment.
func newGUID() string {
	var b [16]byte
	rand.Read(b[:]) // never fails
	b[6], b[8] = b[6]&0x0f|0x40, b[8]&0x3f|0x80
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:])
}

type roleListCmd struct {
	adminFlags
	jsonFlag
	Instance  string `help:"Only what counts at this instance, inherited roles included." placeholder:"NAME"`
	Principal string `help:"Only the roles of this principal." placeholder:"OBJECT_ID"`
}

func (roleListCmd) Help() string {
	return `Example:

    tabard role list
    tabard role list --instance orders --principal 7c2b1f5e-0000-4000-8000-000000000001` + roleWords
}

func (c *roleListCmd) Run(ctx context.Context, s *stdio) error {
	a, err := c.open(s)
	if err != nil {
		return err
	}
	path, err := a.everywhere(ctx)
	if err == nil && c.Instance != "" {
		path, err = a.instancePath(ctx, c.Instance)
	}
	if err != nil {
		return err
	}
	list, err := a.roleAssignments(ctx, path, c.Principal)
	if err != nil {
		return err
	}
	return s.print(c.JSON, map[string]any{"value": list}, func(w io.Writer) {
		row(w, "ROLE", "PRINCIPAL ID", "SCOPE", "NAME")
		for _, r := range list {
			row(w, r.Role, r.PrincipalID, r.Scope, r.Name)
		}
	})
}

type roleRemoveCmd struct {
	scopeFlags
	ID        string `arg:"" optional:"" help:"Name (a GUID) or ARM id of the assignment, as list shows it."`
	Principal string `help:"Object id of the principal that loses the role." placeholder:"OBJECT_ID"`
	Role      string `help:"Name or id of the role." placeholder:"ROLE"`
}

func (roleRemoveCmd) Help() string {
	return `The role counts no more at once. Client access tokens that the principal had made with it let nobody in any more; clients that are connected stay.

Example:

    tabard role remove --principal 7c2b1f5e-0000-4000-8000-000000000001 --role "Web PubSub Service Owner" --instance default
    tabard role remove 0d3f8a52-0000-4000-8000-000000000001` + roleWords
}

// Validate finds a choice of none or both.
func (c *roleRemoveCmd) Validate() error {
	switch named := c.Principal != "" && c.Role != ""; {
	case c.ID != "" && (c.Principal != "" || c.Role != ""), c.ID == "" && !named:
		return errors.New("which assignment? give its id, or --principal and --role")
	}
	return c.scopeFlags.Validate()
}

func (c *roleRemoveCmd) Run(ctx context.Context, s *stdio) error {
	role, a, err := c.find(ctx, s)
	if err != nil {
		return err
	}
	if err := a.remove(ctx, scopePath(role.ID), roleVersion, "role assignment", role.Name); err != nil {
		return err
	}
	s.note("principal %s no longer has the role %s at %s", role.PrincipalID, role.Role, role.Scope)
	return nil
}

func (c *roleRemoveCmd) find(ctx context.Context, s *stdio) (assignedRole, *admin, error) {
	if c.ID != "" {
		a, err := c.open(s)
		if err != nil {
			return assignedRole{}, nil, err
		}
		path, err := a.everywhere(ctx)
		if err != nil {
			return assignedRole{}, nil, err
		}
		all, err := a.roleAssignments(ctx, path, "")
		for _, r := range all {
			if strings.EqualFold(r.Name, c.ID) || strings.EqualFold(r.ID, c.ID) {
				return r, a, nil
			}
		}
		if err == nil {
			err = fail(exitNotFound, "`tabard role list` shows what there is", "there is no role assignment %q", c.ID)
		}
		return assignedRole{}, nil, err
	}
	a, path, err := c.at(ctx, s)
	if err != nil {
		return assignedRole{}, nil, err
	}
	roleID, err := a.roleDefinition(ctx, c.Role)
	if err != nil {
		return assignedRole{}, nil, err
	}
	role, there, err := a.findRole(ctx, path, c.Principal, roleID)
	if err == nil && !there {
		err = fail(exitNotFound, "`tabard role list --principal "+c.Principal+"` shows what it has; a role that is inherited is removed where it was assigned",
			"principal %s does not have the role %q there", c.Principal, c.Role)
	}
	return role, a, err
}
