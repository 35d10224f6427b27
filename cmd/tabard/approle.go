package main

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/url"
	"strings"
)

// appRoleInfo is a role of an application, and who has it, as app role list prints it.
type appRoleInfo struct {
	Value string         `json:"value"`
	ID    string         `json:"id"`
	Given []roleGivenRow `json:"assignedTo"`
}

type roleGivenRow struct {
	ID          string `json:"id"`
	PrincipalID string `json:"principalId"`
	Name        string `json:"principalDisplayName"`
}

type graphRole struct {
	ID                 string   `json:"id,omitempty"`
	AllowedMemberTypes []string `json:"allowedMemberTypes"`
	DisplayName        string   `json:"displayName"`
	Description        string   `json:"description"`
	IsEnabled          bool     `json:"isEnabled"`
	Value              string   `json:"value"`
}

const appRoleWords = `

Words: app role and app role assignment are Microsoft Entra's: permissions that an application defines, in the claim roles of the tokens for it. They are not the roles of "tabard role", which count on this service.`

type appRoleCreateCmd struct {
	appFlags
	Value string `arg:"" help:"What the claim roles will say, such as Events.Send."`
}

func (appRoleCreateCmd) Help() string {
	return `A handler can then demand the role of its callers.

Example:

    tabard app role create orders Events.Send
    tabard app role assign orders Events.Send --principal "$(tabard identity show --json | jq -r .principalId)"` + appRoleWords
}

func (c *appRoleCreateCmd) Run(ctx context.Context, s *stdio) error {
	a, path, app, err := c.connect(ctx, s)
	if err != nil {
		return err
	}
	var had struct {
		AppRoles []graphRole `json:"appRoles"`
	}
	if _, err := a.call(ctx, http.MethodGet, path, nil, nil, &had); err != nil {
		return err
	}
	roles := append(had.AppRoles, graphRole{AllowedMemberTypes: []string{"Application"}, DisplayName: c.Value, Description: c.Value, IsEnabled: true, Value: c.Value})
	if _, err := a.call(ctx, http.MethodPatch, path, nil, map[string]any{"appRoles": roles}, nil); err != nil {
		return err
	}
	s.note("application %s has the role %s", app.DisplayName, c.Value)
	return nil
}

type appRoleListCmd struct {
	appFlags
	jsonFlag
}

func (appRoleListCmd) Help() string {
	return `Example:

    tabard app role list orders` + appRoleWords
}

// appRoles reads the roles of an application and who has them, and the path of its service principal.
func (a *admin) appRoles(ctx context.Context, app application) (principal string, roles []appRoleInfo, err error) {
	principal = "/v1.0/servicePrincipals(appId='" + url.PathEscape(app.AppID) + "')"
	var p struct {
		AppRoles []graphRole `json:"appRoles"`
	}
	if _, err := a.call(ctx, http.MethodGet, principal, nil, nil, &p); err != nil {
		return "", nil, err
	}
	given, err := a.list(ctx, principal+"/appRoleAssignedTo", nil)
	if err != nil {
		return "", nil, err
	}
	for _, r := range p.AppRoles {
		info := appRoleInfo{Value: r.Value, ID: r.ID, Given: []roleGivenRow{}}
		for _, raw := range given {
			var one struct {
				roleGivenRow
				AppRoleID string `json:"appRoleId"`
			}
			if err := json.Unmarshal(raw, &one); err != nil {
				return "", nil, err
			}
			if one.AppRoleID == r.ID {
				info.Given = append(info.Given, one.roleGivenRow)
			}
		}
		roles = append(roles, info)
	}
	return principal, roles, nil
}

func (c *appRoleListCmd) Run(ctx context.Context, s *stdio) error {
	a, _, app, err := c.connect(ctx, s)
	if err != nil {
		return err
	}
	_, roles, err := a.appRoles(ctx, app)
	if err != nil {
		return err
	}
	if roles == nil {
		roles = []appRoleInfo{}
	}
	return s.print(c.JSON, map[string]any{"value": roles}, func(w io.Writer) {
		row(w, "ROLE", "PRINCIPAL ID", "PRINCIPAL")
		for _, r := range roles {
			if len(r.Given) == 0 {
				row(w, r.Value, "-", "-")
			}
			for _, g := range r.Given {
				row(w, r.Value, g.PrincipalID, g.Name)
			}
		}
	})
}

// appRoleOf is what assigning and taking back have in common.
type appRoleOf struct {
	appFlags
	Role      string `arg:"" help:"The role's value."`
	Principal string `required:"" help:"Object id of the service principal: a managed identity's principal id." placeholder:"OBJECT_ID"`
}

func (c *appRoleOf) find(ctx context.Context, s *stdio) (a *admin, principal string, role appRoleInfo, err error) {
	a, _, app, err := c.connect(ctx, s)
	if err != nil {
		return nil, "", role, err
	}
	principal, roles, err := a.appRoles(ctx, app)
	if err != nil {
		return nil, "", role, err
	}
	for _, r := range roles {
		if r.Value == c.Role || strings.EqualFold(r.ID, c.Role) {
			return a, principal, r, nil
		}
	}
	return nil, "", role, fail(exitNotFound, "`tabard app role create` makes one", "application %s has no role %q", app.DisplayName, c.Role)
}

type appRoleAssignCmd struct{ appRoleOf }

func (appRoleAssignCmd) Help() string {
	return `From the next token on the role is in its claim roles.

Example:

    tabard app role assign orders Events.Send --principal 5f9b6c1e-1111-4222-8333-444444444444` + appRoleWords
}

func (c *appRoleAssignCmd) Run(ctx context.Context, s *stdio) error {
	a, principal, role, err := c.find(ctx, s)
	if err != nil {
		return err
	}
	for _, g := range role.Given {
		if strings.EqualFold(g.PrincipalID, c.Principal) {
			s.note("%s has the role %s already", g.Name, role.Value)
			return nil
		}
	}
	var made roleGivenRow
	if _, err := a.call(ctx, http.MethodPost, principal+"/appRoleAssignedTo", nil, map[string]string{"principalId": c.Principal, "appRoleId": role.ID}, &made); err != nil {
		return err
	}
	s.note("%s has the role %s", made.Name, role.Value)
	return nil
}

type appRoleUnassignCmd struct{ appRoleOf }

func (appRoleUnassignCmd) Help() string {
	return `Tokens that were issued keep the role until they expire.

Example:

    tabard app role unassign orders Events.Send --principal 5f9b6c1e-1111-4222-8333-444444444444` + appRoleWords
}

func (c *appRoleUnassignCmd) Run(ctx context.Context, s *stdio) error {
	a, principal, role, err := c.find(ctx, s)
	if err != nil {
		return err
	}
	for _, g := range role.Given {
		if strings.EqualFold(g.PrincipalID, c.Principal) {
			if _, err := a.call(ctx, http.MethodDelete, principal+"/appRoleAssignedTo/"+url.PathEscape(g.ID), nil, nil, nil); err != nil {
				return err
			}
			s.note("%s has the role %s no more", g.Name, role.Value)
			return nil
		}
	}
	return fail(exitNotFound, "`tabard app role list` shows who has which", "%s does not have the role %s", c.Principal, role.Value)
}
