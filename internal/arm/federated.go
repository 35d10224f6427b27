package arm

import (
	"errors"
	"slices"
	"strings"

	"tabard/internal/directory"
)

// Federated identity credentials: of applications as in Graph, of user-assigned identities as in ARM.

const federatedType = userIdentityType + federated

func federatedObject(f *directory.FederatedCredential) map[string]any {
	return map[string]any{
		"id": f.ID, "name": f.Name, "issuer": f.Issuer, "subject": f.Subject, "audiences": f.Audiences, "description": orNull(f.Description),
	}
}

// federatedOf is the collection of one application.
func federatedOf(a *directory.Application) *collection[directory.FederatedCredential] {
	return &collection[directory.FederatedCredential]{
		name:   "applications('" + a.ID + "')" + federated,
		fields: map[string]bool{"id": false, "name": false, "issuer": false, "subject": false, "audiences": true},
		value: func(f *directory.FederatedCredential, field string) []string {
			switch field {
			case "id":
				return []string{f.ID}
			case "name":
				return []string{f.Name}
			case "issuer":
				return []string{f.Issuer}
			case "subject":
				return []string{f.Subject}
			}
			return f.Audiences
		},
		key:    func(f *directory.FederatedCredential) string { return strings.ToLower(f.Name) },
		encode: federatedObject,
	}
}

func (s *server) listFederated(c *call) (reply, error) {
	a, err := s.findApplication(c)
	if err != nil {
		return reply{}, err
	}
	return federatedOf(&a).list(c, sortedFederated(a.FederatedCredentials))
}

// findFederated finds a credential of the path's application by id or name.
func (s *server) findFederated(c *call) (a directory.Application, f directory.FederatedCredential, err error) {
	if a, err = s.findApplication(c); err != nil {
		return a, f, err
	}
	name, byName := c.params["credentialName"]
	if !byName {
		name = c.params["credential"]
	}
	for _, f := range a.FederatedCredentials {
		if strings.EqualFold(f.Name, name) || !byName && strings.EqualFold(f.ID, name) {
			return a, f, nil
		}
	}
	return a, f, objectNotFound(name)
}

func (s *server) getFederated(c *call) (reply, error) {
	a, f, err := s.findFederated(c)
	if err != nil {
		return reply{}, err
	}
	return federatedOf(&a).entity(c, 200, &f), nil
}

func (s *server) createFederated(c *call) (reply, error) {
	a, err := s.findApplication(c)
	if err != nil {
		return reply{}, err
	}
	f, err := c.readFederated(directory.FederatedCredential{})
	if err != nil {
		return reply{}, err
	}
	ctx, cancel := c.writing()
	defer cancel()
	f, err = s.Directory.CreateFederatedCredential(ctx, a.ID, f)
	if errors.Is(err, directory.ErrConflict) {
		return reply{}, sameFederated(err)
	}
	if err != nil {
		return reply{}, err
	}
	c.w.Header().Set("Location", c.origin()+graph+"/applications/"+a.ID+federated+"/"+f.ID)
	return federatedOf(&a).entity(c, 201, &f), nil
}

// patchFederated changes a credential; by name, and with "Prefer: create-if-missing", it creates it.
func (s *server) patchFederated(c *call) (reply, error) {
	a, old, err := s.findFederated(c)
	name, byName := c.params["credentialName"]
	var missing *graphError
	if create := byName && strings.EqualFold(c.r.Header.Get("Prefer"), "create-if-missing"); err != nil {
		if !create || a.ID == "" || !errors.As(err, &missing) {
			return reply{}, err
		}
		old = directory.FederatedCredential{Name: name}
	}
	f, err := c.readFederated(old)
	if err != nil {
		return reply{}, err
	}
	ctx, cancel := c.writing()
	defer cancel()
	f, created, err := s.Directory.PutFederatedCredential(ctx, a.ID, f)
	switch {
	case errors.Is(err, directory.ErrConflict):
		return reply{}, sameFederated(err)
	case err != nil:
		return reply{}, err
	case created:
		return federatedOf(&a).entity(c, 201, &f), nil
	}
	return reply{status: 204}, nil
}

func (s *server) deleteFederated(c *call) (reply, error) {
	a, f, err := s.findFederated(c)
	if err != nil {
		return reply{}, err
	}
	ctx, cancel := c.writing()
	defer cancel()
	return reply{status: 204}, s.Directory.DeleteFederatedCredential(ctx, a.ID, f.ID)
}

// readFederated reads a credential's properties over those that it has. Its name never changes.
func (c *call) readFederated(old directory.FederatedCredential) (directory.FederatedCredential, error) {
	raw, err := c.readJSON()
	if err != nil {
		return old, err
	}
	var d reader
	doc := d.object("", raw)
	f := old
	d.over("", doc, "name", &f.Name)
	d.over("", doc, "description", &f.Description)
	d.federated("", doc, &f)
	if old.Name != "" && !strings.EqualFold(old.Name, f.Name) {
		d.fault("name", "cannot be changed from %q", old.Name)
	}
	d.refuseUnkept("", without(doc, "id", "name", "description", "issuer", "subject", "audiences"))
	return f, d.err()
}

// federated reads what both surfaces have.
func (d *reader) federated(at string, o object, f *directory.FederatedCredential) {
	d.over(at, o, "issuer", &f.Issuer)
	d.over(at, o, "subject", &f.Subject)
	if raw, ok := o["audiences"]; ok {
		f.Audiences = d.texts(join(at, "audiences"), raw)
	}
}

// over reads a text over the one that is there, if it is given.
func (d *reader) over(at string, o object, name string, into *string) {
	if raw, ok := o[name]; ok {
		*into = d.text(join(at, name), raw)
	}
}

// sortedFederated orders credentials by name.
func sortedFederated(list []directory.FederatedCredential) []directory.FederatedCredential {
	return slices.SortedFunc(slices.Values(list), func(a, b directory.FederatedCredential) int {
		return strings.Compare(strings.ToLower(a.Name), strings.ToLower(b.Name))
	})
}

// The same in ARM, for user-assigned identities.

func armFederated(identity string, f *directory.FederatedCredential) map[string]any {
	return map[string]any{
		"id": identity + federated + "/" + f.Name, "name": f.Name, "type": federatedType,
		"properties": map[string]any{"issuer": f.Issuer, "subject": f.Subject, "audiences": f.Audiences},
	}
}

func (s *server) pathIdentity(c *call) (directory.UserAssignedIdentity, error) {
	u, ok := s.Directory.UserAssignedIdentity(identityID(c))
	if !ok {
		return u, parentNotFound(federatedType, userIdentityType+"/"+c.params["name"])
	}
	return u, nil
}

func (s *server) listARMFederated(c *call) (reply, error) {
	u, err := s.pathIdentity(c)
	if err != nil {
		return reply{}, err
	}
	var list []map[string]any
	for _, f := range sortedFederated(u.FederatedCredentials) {
		list = append(list, armFederated(u.ID, &f))
	}
	return values(list), nil
}

// pathFederated finds the credential of the path. The error for a missing one is ARM's.
func (s *server) pathFederated(c *call) (u directory.UserAssignedIdentity, f directory.FederatedCredential, err error) {
	if u, err = s.pathIdentity(c); err != nil {
		return u, f, err
	}
	for _, f := range u.FederatedCredentials {
		if strings.EqualFold(f.Name, c.params["credential"]) {
			return u, f, nil
		}
	}
	return u, f, resourceNotFound(federatedType, c.params["name"]+"/"+c.params["credential"], c.params["group"])
}

func (s *server) getARMFederated(c *call) (reply, error) {
	u, f, err := s.pathFederated(c)
	if err != nil {
		return reply{}, err
	}
	return reply{200, armFederated(u.ID, &f)}, nil
}

func (s *server) putARMFederated(c *call) (reply, error) {
	u, err := s.pathIdentity(c)
	if err != nil {
		return reply{}, err
	}
	raw, err := c.readJSON()
	if err != nil {
		return reply{}, err
	}
	var d reader
	doc := d.strict("", raw, "properties", "id", "name", "type")
	p := d.strict("properties", doc["properties"], "issuer", "subject", "audiences")
	f := directory.FederatedCredential{Name: c.params["credential"]}
	d.federated("properties", p, &f)
	if err := d.err(); err != nil {
		return reply{}, err
	}
	ctx, cancel := c.writing()
	defer cancel()
	f, created, err := s.Directory.PutFederatedCredential(ctx, u.ID, f)
	switch {
	case errors.Is(err, directory.ErrConflict):
		return reply{}, sameIssuerAndSubject(err)
	case errors.Is(err, directory.ErrNotFound):
		return reply{}, parentNotFound(federatedType, userIdentityType+"/"+c.params["name"])
	case err != nil:
		return reply{}, inProperties(err)
	case created:
		return reply{201, armFederated(u.ID, &f)}, nil
	}
	return reply{200, armFederated(u.ID, &f)}, nil
}

// inProperties puts the fields of a fault where ARM has them.
func inProperties(err error) error {
	faults := validationFaults(err)
	if faults == nil {
		return err
	}
	for i := range faults {
		if faults[i].Field != "name" {
			faults[i].Field = "properties." + faults[i].Field
		}
	}
	return faults
}

func (s *server) deleteARMFederated(c *call) (reply, error) {
	u, f, err := s.pathFederated(c)
	if err != nil { // it is not there, which is what was wanted
		return reply{status: 204}, nil
	}
	ctx, cancel := c.writing()
	defer cancel()
	err = s.Directory.DeleteFederatedCredential(ctx, u.ID, f.ID)
	if errors.Is(err, directory.ErrNotFound) {
		return reply{status: 204}, nil
	}
	return reply{status: 200}, err
}
