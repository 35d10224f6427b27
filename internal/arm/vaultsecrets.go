package arm

import (
	"encoding/json"
	"errors"
	"net/http"
	"strings"

	"tabard/internal/keyvault"
)

// Microsoft.KeyVault/vaults/secrets: secrets as templates write them. A value goes in and never comes out.

const (
	vaultSecretType = vaultType + "/secrets"
	// secretsPage is how many secrets one answer has at most.
	secretsPage = 100
)

func (s *server) vaultSecret(v *keyvault.Vault, d *keyvault.Description) map[string]any {
	uri := s.VaultOrigin(v.Name) + "/secrets/" + d.Name
	attributes := map[string]any{"enabled": d.Enabled, "created": d.Created, "updated": d.Updated}
	if d.NotBefore != nil {
		attributes["nbf"] = *d.NotBefore
	}
	if d.Expires != nil {
		attributes["exp"] = *d.Expires
	}
	p := map[string]any{"attributes": attributes, "secretUri": uri, "secretUriWithVersion": uri + "/" + d.Version}
	if d.ContentType != "" {
		p["contentType"] = d.ContentType
	}
	return map[string]any{"id": v.ResourceID() + "/secrets/" + d.Name, "name": d.Name, "type": vaultSecretType, "location": v.Location, "tags": tags(d.Tags), "properties": p}
}

func (s *server) listVaultSecrets(c *call) (reply, error) {
	v, err := s.findVault(c)
	if err != nil {
		return reply{}, err
	}
	found, more := s.Vaults.DescribeAll(v.Name, c.query("$skiptoken"), secretsPage)
	list := make([]map[string]any, len(found))
	for i, d := range found {
		list[i] = s.vaultSecret(v, d)
	}
	answer := map[string]any{"value": list}
	if more {
		answer["nextLink"] = c.nextPage(found[len(found)-1].Name)
	}
	return reply{200, answer}, nil
}

func (s *server) getVaultSecret(c *call) (reply, error) {
	v, err := s.findVault(c)
	if err != nil {
		return reply{}, err
	}
	d, err := s.Vaults.Describe(v.Name, c.params["secret"])
	if err != nil {
		return reply{}, s.secretError(c, err)
	}
	return reply{200, s.vaultSecret(v, d)}, nil
}

// putVaultSecret serves PUT, which needs a value, and PATCH, which changes what it names of a secret that exists.
func (s *server) putVaultSecret(c *call) (reply, error) {
	raw, err := c.readJSON()
	if err != nil {
		return reply{}, err
	}
	v, err := s.findVault(c)
	if err != nil {
		return reply{}, err
	}
	patch := c.r.Method == http.MethodPatch
	if patch {
		if _, err := s.Vaults.Describe(v.Name, c.params["secret"]); err != nil {
			return reply{}, s.secretError(c, err)
		}
	}
	var d reader
	given := d.secretSetting(raw, patch)
	if err := d.err(); err != nil {
		return reply{}, err
	}
	ctx, cancel := c.writing()
	defer cancel()
	made, created, err := s.Vaults.Put(ctx, v.Name, c.params["secret"], given)
	if err != nil {
		return reply{}, s.secretError(c, err)
	}
	status := 200
	if created && !patch {
		status = 201
	}
	return reply{status, s.vaultSecret(v, made)}, nil
}

// secretSetting decodes a secret.
func (d *reader) secretSetting(raw json.RawMessage, patch bool) (s keyvault.Setting) {
	doc := d.object("", raw, "tags", "properties")
	p := d.object("properties", doc["properties"], "value", "contentType", "attributes")
	a := d.object("properties.attributes", p["attributes"], "enabled", "nbf", "exp")
	if !absent(p["value"]) {
		text := d.text("properties.value", p["value"])
		s.Value = &text
	} else if !patch {
		d.fault("properties.value", "is required")
	}
	if !absent(p["contentType"]) {
		text := d.text("properties.contentType", p["contentType"])
		s.ContentType = &text
	}
	if !absent(a["enabled"]) {
		on := d.boolean("properties.attributes.enabled", a["enabled"])
		s.Enabled = &on
	}
	for name, into := range map[string]**int64{"nbf": &s.NotBefore, "exp": &s.Expires} {
		if !absent(a[name]) {
			at := int64(d.integer("properties.attributes."+name, a[name]))
			*into = &at
		}
	}
	if !absent(doc["tags"]) {
		s.Tags = d.textMap("tags", doc["tags"])
	}
	return s
}

// secretError finds the answer to an error of a vault's secrets.
func (s *server) secretError(c *call, err error) error {
	e, ok := errors.AsType[*keyvault.Error](err)
	switch {
	case !ok || e.Status >= 500:
		return err
	case e.Status == http.StatusNotFound:
		return resourceNotFound(vaultSecretType, c.params["name"]+"/"+c.params["secret"], c.params["group"])
	case e.Status == http.StatusBadRequest:
		return refuse(e.Status, "BadRequest", "%s", e.Message)
	}
	return refuse(e.Status, strings.TrimPrefix(e.Code+"."+e.Inner, "."), "%s", e.Message)
}
