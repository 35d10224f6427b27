package arm

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"tabard/internal/directory"
)

var applications = collection[directory.Application]{
	name:   "applications",
	fields: map[string]bool{"id": false, "appId": false, "displayName": false, "identifierUris": true},
	value: func(a *directory.Application, field string) []string {
		switch field {
		case "id":
			return []string{a.ID}
		case "appId":
			return []string{a.AppID}
		case "displayName":
			return []string{a.DisplayName}
		}
		return a.IdentifierURIs
	},
	key:    func(a *directory.Application) string { return a.DisplayName + "\x00" + a.ID },
	encode: application,
}

func application(a *directory.Application) map[string]any {
	uris := a.IdentifierURIs
	if uris == nil {
		uris = []string{}
	}
	return map[string]any{
		"id": a.ID, "appId": a.AppID, "displayName": a.DisplayName, "identifierUris": uris, "signInAudience": "AzureADMyOrg",
		"createdDateTime": a.CreatedDateTime, "appRoles": each(a.AppRoles, appRole),
		"api":                 map[string]any{"requestedAccessTokenVersion": a.RequestedAccessTokenVersion, "oauth2PermissionScopes": []any{}},
		"passwordCredentials": each(a.PasswordCredentials, password), "keyCredentials": each(a.KeyCredentials, certificate),
		"requiredResourceAccess": []any{}, "optionalClaims": nil,
	}
}

// each encodes a list, never as null.
func each[T any](list []T, encode func(*T) map[string]any) []map[string]any {
	out := make([]map[string]any, len(list))
	for i := range list {
		out[i] = encode(&list[i])
	}
	return out
}

func appRole(r *directory.AppRole) map[string]any {
	m := map[string]any{
		"id": r.ID, "allowedMemberTypes": r.AllowedMemberTypes, "displayName": r.DisplayName, "description": r.Description,
		"isEnabled": r.IsEnabled, "origin": "Application", "value": nil,
	}
	if r.Value != "" {
		m["value"] = r.Value
	}
	return m
}

func (s *server) listApplications(c *call) (reply, error) {
	return applications.list(c, s.Directory.Applications())
}

// findApplication finds the application that the path names by object id or by appId, never the one for the other.
func (s *server) findApplication(c *call) (directory.Application, error) {
	id, byID := c.params["id"]
	if !byID {
		id = c.params["appId"]
	}
	a, ok := s.Directory.Application(id)
	if !ok || byID != strings.EqualFold(a.ID, id) {
		return directory.Application{}, objectNotFound(id)
	}
	return a, nil
}

func (s *server) getApplication(c *call) (reply, error) {
	a, err := s.findApplication(c)
	if err != nil {
		return reply{}, err
	}
	answer := applications.entity(c, 200, &a)
	if selects(c, "keyCredentials") { // as in Graph, certificates are shown to who names them
		answer.body.(map[string]any)["keyCredentials"] = each(a.KeyCredentials, wholeCertificate)
	}
	return answer, nil
}

func (s *server) createApplication(c *call) (reply, error) {
	edit, err := c.readApplication()
	if err != nil {
		return reply{}, err
	}
	var a directory.Application
	if err := edit(&a); err != nil {
		return reply{}, err
	}
	ctx, cancel := c.writing()
	defer cancel()
	a, err = s.Directory.CreateApplication(ctx, a)
	if err != nil {
		return reply{}, err
	}
	c.w.Header().Set("Location", c.origin()+"/v1.0/applications/"+a.ID)
	return applications.entity(c, 201, &a), nil
}

func (s *server) patchApplication(c *call) (reply, error) {
	edit, err := c.readApplication()
	if err != nil {
		return reply{}, err
	}
	a, err := s.findApplication(c)
	if err != nil {
		return reply{}, err
	}
	ctx, cancel := c.writing()
	defer cancel()
	_, err = s.Directory.UpdateApplication(ctx, a.ID, edit)
	return reply{status: 204}, err
}

func (s *server) deleteApplication(c *call) (reply, error) {
	a, err := s.findApplication(c)
	if err != nil {
		return reply{}, err
	}
	ctx, cancel := c.writing()
	defer cancel()
	err = s.Directory.DeleteApplication(ctx, a.ID)
	if errors.Is(err, directory.ErrNotFound) {
		return reply{}, objectNotFound(a.ID)
	}
	return reply{status: 204}, err
}

// readApplication reads the properties that a body gives an application, and returns what sets them. What the
// directory does not keep is refused, unless it says nothing anyway.
func (c *call) readApplication() (func(*directory.Application) error, error) {
	raw, err := c.readJSON()
	if err != nil {
		return nil, err
	}
	var d reader
	doc := d.object("", raw)
	var a directory.Application
	var set []func(*directory.Application)
	given := func(name string, take func(at string, raw json.RawMessage), assign func(*directory.Application)) {
		if raw, ok := doc[name]; ok {
			take(name, raw)
			set = append(set, assign)
			delete(doc, name)
		}
	}
	given("displayName", func(at string, raw json.RawMessage) { a.DisplayName = d.text(at, raw) },
		func(to *directory.Application) { to.DisplayName = a.DisplayName })
	given("identifierUris", func(at string, raw json.RawMessage) { a.IdentifierURIs = d.texts(at, raw) },
		func(to *directory.Application) { to.IdentifierURIs = a.IdentifierURIs })
	given("appRoles", func(at string, raw json.RawMessage) { a.AppRoles = decodeRoles(&d, at, raw) },
		func(to *directory.Application) { to.AppRoles = a.AppRoles })
	if raw, ok := doc["api"]; ok {
		var api map[string]json.RawMessage // not d.object: null has a meaning here, the default version
		if json.Unmarshal(raw, &api) != nil {
			d.fault("api", "is not an object")
		}
		if raw, ok := api["requestedAccessTokenVersion"]; ok {
			if !absent(raw) {
				version := d.integer("api.requestedAccessTokenVersion", raw)
				a.RequestedAccessTokenVersion = &version
			}
			set = append(set, func(to *directory.Application) { to.RequestedAccessTokenVersion = a.RequestedAccessTokenVersion })
			delete(api, "requestedAccessTokenVersion")
		}
		d.refuseUnkept("api", api)
		delete(doc, "api")
	}
	if raw, ok := doc["signInAudience"]; ok {
		if audience := d.text("signInAudience", raw); audience != "AzureADMyOrg" {
			d.fault("signInAudience", "%q is not supported: there is one tenant, AzureADMyOrg", audience)
		}
		delete(doc, "signInAudience")
	}
	list, hasKeys := doc["keyCredentials"]
	keys := decodeKeys(&d, "keyCredentials", list)
	delete(doc, "keyCredentials")
	if raw, ok := doc["passwordCredentials"]; ok && !saysNothing(raw) {
		d.fault("passwordCredentials", "is changed by addPassword and removePassword")
	}
	delete(doc, "passwordCredentials")
	for _, readOnly := range []string{"id", "appId", "createdDateTime"} {
		delete(doc, readOnly)
	}
	d.refuseUnkept("", doc)
	return func(to *directory.Application) error {
		for _, assign := range set {
			assign(to)
		}
		if hasKeys {
			return to.SetKeys(keys)
		}
		return nil
	}, d.err()
}

func decodeRoles(d *reader, at string, raw json.RawMessage) []directory.AppRole {
	roles := []directory.AppRole{}
	for i, item := range d.array(at, raw) {
		at := fmt.Sprintf("%s[%d]", at, i)
		o := d.strict(at, item, "id", "allowedMemberTypes", "displayName", "description", "isEnabled", "value", "origin")
		r := directory.AppRole{
			ID: d.text(at+".id", o["id"]), AllowedMemberTypes: d.texts(at+".allowedMemberTypes", o["allowedMemberTypes"]),
			DisplayName: d.text(at+".displayName", o["displayName"]), Description: d.text(at+".description", o["description"]),
			IsEnabled: true, Value: d.text(at+".value", o["value"]),
		}
		if enabled, ok := o["isEnabled"]; ok {
			r.IsEnabled = d.boolean(at+".isEnabled", enabled)
		}
		roles = append(roles, r)
	}
	return roles
}

// refuseUnkept faults members that the directory does not keep, but for those that say nothing: clients send whole
// documents full of nulls and empty lists.
func (d *reader) refuseUnkept(at string, o map[string]json.RawMessage) {
	for _, name := range slices.Sorted(maps.Keys(o)) {
		if !strings.HasPrefix(name, "@odata.") && !saysNothing(o[name]) {
			d.fault(join(at, name), "is not kept by this directory")
		}
	}
}

// saysNothing tells whether a value is null, false, empty, or an object of such values.
func saysNothing(raw json.RawMessage) bool {
	var v any
	if json.Unmarshal(raw, &v) != nil {
		return false
	}
	return nothing(v)
}

func nothing(v any) bool {
	switch v := v.(type) {
	case nil:
		return true
	case bool:
		return !v
	case string:
		return v == ""
	case []any:
		return len(v) == 0
	case map[string]any:
		for _, member := range v {
			if !nothing(member) {
				return false
			}
		}
		return true
	}
	return false
}
