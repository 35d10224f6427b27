package arm

import (
	"errors"
	"strconv"
	"strings"

	"tabard/internal/directory"
)

func (s *server) principals() *collection[directory.ServicePrincipal] {
	return &collection[directory.ServicePrincipal]{
		name: "servicePrincipals",
		fields: map[string]bool{
			"id": false, "appId": false, "displayName": false, "appDisplayName": false, "servicePrincipalType": false, "servicePrincipalNames": true,
			"alternativeNames": true, "accountEnabled": false, "appRoleAssignmentRequired": false,
		},
		value: func(p *directory.ServicePrincipal, field string) []string {
			switch field {
			case "id":
				return []string{p.ID}
			case "appId":
				return []string{p.AppID}
			case "displayName", "appDisplayName":
				return []string{p.DisplayName}
			case "accountEnabled":
				return []string{strconv.FormatBool(p.AccountEnabled)}
			case "appRoleAssignmentRequired":
				return []string{strconv.FormatBool(p.AppRoleAssignmentRequired)}
			case "servicePrincipalType":
				return []string{p.Type}
			case "alternativeNames":
				return p.AlternativeNames
			}
			return p.ServicePrincipalNames
		},
		key:    func(p *directory.ServicePrincipal) string { return p.DisplayName + "\x00" + p.ID },
		encode: s.principal,
	}
}

func (s *server) principal(p *directory.ServicePrincipal) map[string]any {
	var a directory.Application
	var owner any
	if p.Type == directory.TypeApplication {
		owner = s.Directory.TenantID()
		a, _ = s.Directory.Application(p.AppID)
	}
	names := p.AlternativeNames
	if names == nil {
		names = []string{}
	}
	return map[string]any{
		"id": p.ID, "appId": p.AppID, "displayName": p.DisplayName, "appDisplayName": p.DisplayName, "servicePrincipalType": p.Type,
		"servicePrincipalNames": p.ServicePrincipalNames, "alternativeNames": names, "appOwnerOrganizationId": owner,
		"appRoleAssignmentRequired": p.AppRoleAssignmentRequired, "accountEnabled": p.AccountEnabled, "createdDateTime": p.CreatedDateTime,
		"appRoles": each(a.AppRoles, appRole), "oauth2PermissionScopes": []any{}, "passwordCredentials": []any{}, "keyCredentials": []any{}, "tags": []any{},
	}
}

func (s *server) listPrincipals(c *call) (reply, error) {
	return s.principals().list(c, s.Directory.ServicePrincipals())
}

// findPrincipal finds the service principal that the path names by object id or by appId.
func (s *server) findPrincipal(c *call) (directory.ServicePrincipal, error) {
	id, ok := c.params["id"]
	p, found := s.Directory.ServicePrincipal(id)
	if !ok {
		id = c.params["appId"]
		p, found = s.Directory.ServicePrincipalByAppID(id)
	}
	if !found {
		return directory.ServicePrincipal{}, objectNotFound(id)
	}
	return p, nil
}

func (s *server) getPrincipal(c *call) (reply, error) {
	p, err := s.findPrincipal(c)
	if err != nil {
		return reply{}, err
	}
	return s.principals().entity(c, 200, &p), nil
}

func (s *server) createPrincipal(c *call) (reply, error) {
	var d reader
	doc, err := c.readPrincipal(&d)
	if err != nil {
		return reply{}, err
	}
	appID := d.text("appId", doc["appId"])
	if appID == "" && len(d.faults) == 0 {
		d.fault("appId", "is required")
	}
	delete(doc, "appId")
	edit := editPrincipal(&d, doc)
	if err := d.err(); err != nil {
		return reply{}, err
	}
	ctx, cancel := c.writing()
	defer cancel()
	p, err := s.Directory.CreateServicePrincipal(ctx, appID)
	switch {
	case errors.Is(err, directory.ErrConflict):
		return reply{}, principalExists(appID)
	case errors.Is(err, directory.ErrNotFound):
		return reply{}, noBackingApplication(appID)
	case err != nil:
		return reply{}, err
	}
	if p, err = s.Directory.UpdateServicePrincipal(ctx, p.ID, edit); err != nil {
		return reply{}, err
	}
	c.w.Header().Set("Location", c.origin()+"/v1.0/servicePrincipals/"+p.ID)
	return s.principals().entity(c, 201, &p), nil
}

func (s *server) patchPrincipal(c *call) (reply, error) {
	var d reader
	doc, err := c.readPrincipal(&d)
	if err != nil {
		return reply{}, err
	}
	edit := editPrincipal(&d, doc)
	if err := d.err(); err != nil {
		return reply{}, err
	}
	p, err := s.findPrincipal(c)
	if err != nil {
		return reply{}, err
	}
	ctx, cancel := c.writing()
	defer cancel()
	_, err = s.Directory.UpdateServicePrincipal(ctx, p.ID, edit)
	return reply{status: 204}, err
}

func (c *call) readPrincipal(d *reader) (object, error) {
	raw, err := c.readJSON()
	if err != nil {
		return nil, err
	}
	doc := d.object("", raw)
	return doc, d.err()
}

// editPrincipal reads the two switches of a service principal and faults what the directory does not keep.
func editPrincipal(d *reader, doc object) func(*directory.ServicePrincipal) error {
	enabled, hasEnabled := doc["accountEnabled"]
	required, hasRequired := doc["appRoleAssignmentRequired"]
	var set directory.ServicePrincipal
	set.AccountEnabled = d.boolean("accountEnabled", enabled)
	set.AppRoleAssignmentRequired = d.boolean("appRoleAssignmentRequired", required)
	d.refuseUnkept("", without(doc, "accountEnabled", "appRoleAssignmentRequired"))
	return func(p *directory.ServicePrincipal) error {
		if hasEnabled {
			p.AccountEnabled = set.AccountEnabled
		}
		if hasRequired {
			p.AppRoleAssignmentRequired = set.AppRoleAssignmentRequired
		}
		return nil
	}
}

// deletePrincipal refuses the principals of managed identities: an instance or an ARM resource names them.
func (s *server) deletePrincipal(c *call) (reply, error) {
	p, err := s.findPrincipal(c)
	if err != nil {
		return reply{}, err
	}
	if strings.EqualFold(p.Type, directory.TypeManagedIdentity) {
		return reply{}, managedByARM(p.ID)
	}
	ctx, cancel := c.writing()
	defer cancel()
	err = s.Directory.DeleteServicePrincipal(ctx, p.ID)
	if errors.Is(err, directory.ErrNotFound) {
		return reply{}, objectNotFound(p.ID)
	}
	return reply{status: 204}, err
}
