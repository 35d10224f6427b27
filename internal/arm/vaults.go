package arm

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"tabard/internal/keyvault"
	"tabard/internal/settings"
)

// Microsoft.KeyVault/vaults (key-vault.md 6.1): who may do what in a vault. What is in it is the data plane's.

const vaultType = "Microsoft.KeyVault/vaults"

func (s *server) vault(v *keyvault.Vault) map[string]any {
	policies := make([]map[string]any, len(v.AccessPolicies))
	for i, p := range v.AccessPolicies {
		policies[i] = policyDocument(p)
	}
	p := map[string]any{
		"tenantId": v.TenantID, "sku": map[string]string{"family": "A", "name": v.SKU}, "vaultUri": s.VaultOrigin(v.Name) + "/",
		"accessPolicies": policies, "enableRbacAuthorization": v.EnableRBAC, "enableSoftDelete": true, "softDeleteRetentionInDays": v.RetentionDays,
		"enablePurgeProtection": nil, "publicNetworkAccess": "Enabled", "provisioningState": "Succeeded",
		"networkAcls": map[string]any{"bypass": "AzureServices", "defaultAction": "Allow", "ipRules": []any{}, "virtualNetworkRules": []any{}},
	}
	if v.PurgeProtection {
		p["enablePurgeProtection"] = true
	}
	for name, value := range v.Inert {
		p[name] = value
	}
	return map[string]any{"id": v.ResourceID(), "name": v.Name, "type": vaultType, "location": v.Location, "tags": tags(v.Tags), "properties": p}
}

func policyDocument(p keyvault.AccessPolicy) map[string]any {
	given := map[string]any{"secrets": list(p.Permissions.Secrets), "keys": list(p.Permissions.Keys), "certificates": list(p.Permissions.Certificates)}
	if len(p.Permissions.Storage) > 0 {
		given["storage"] = p.Permissions.Storage
	}
	d := map[string]any{"tenantId": p.TenantID, "objectId": p.ObjectID, "permissions": given}
	if p.ApplicationID != "" {
		d["applicationId"] = p.ApplicationID
	}
	return d
}

func list(names []string) []string {
	if names == nil {
		return []string{}
	}
	return names
}

// vaults are those of a subscription, or of one of its groups, by name.
func (s *server) vaults(subscription, group string) []*keyvault.Vault {
	var found []*keyvault.Vault
	for _, v := range s.Vaults.List() {
		if strings.EqualFold(v.SubscriptionID, subscription) && (group == "" || strings.EqualFold(v.ResourceGroup, group)) {
			found = append(found, v)
		}
	}
	return found
}

func (s *server) listVaults(c *call) (reply, error) {
	var list []map[string]any
	for _, v := range s.vaults(c.params["subscription"], c.params["group"]) {
		list = append(list, s.vault(v))
	}
	return values(list), nil
}

func (s *server) findVault(c *call) (*keyvault.Vault, error) {
	v, ok := s.Vaults.Vault(c.params["name"])
	if !ok || !strings.EqualFold(v.SubscriptionID, c.params["subscription"]) || !strings.EqualFold(v.ResourceGroup, c.params["group"]) {
		return nil, resourceNotFound(vaultType, c.params["name"], c.params["group"])
	}
	return v, nil
}

func (s *server) getVault(c *call) (reply, error) {
	v, err := s.findVault(c)
	if err != nil {
		return reply{}, err
	}
	return reply{200, s.vault(v)}, nil
}

// vaultBody decodes a vault over what it is now. Members that are absent keep what they were with PATCH, and with PUT
// get their defaults, but for what cannot be taken back.
func (d *reader) vaultBody(raw json.RawMessage, n *keyvault.Vault, patch bool) (createMode string) {
	doc := d.object("", raw, "location", "tags", "properties")
	p := d.object("properties", doc["properties"], "tenantId", "sku", "accessPolicies", "enableRbacAuthorization", "enableSoftDelete",
		"softDeleteRetentionInDays", "enablePurgeProtection", "createMode", "vaultUri", "provisioningState", "networkAcls", "publicNetworkAccess",
		"enabledForDeployment", "enabledForDiskEncryption", "enabledForTemplateDeployment")
	if !absent(doc["location"]) {
		n.Location = d.text("location", doc["location"])
	}
	if !absent(doc["tags"]) || !patch {
		n.Tags = d.textMap("tags", doc["tags"])
	}
	if !absent(p["tenantId"]) {
		n.TenantID = d.text("properties.tenantId", p["tenantId"])
	}
	if !absent(p["sku"]) {
		n.SKU = d.text("properties.sku.name", d.object("properties.sku", p["sku"], "family", "name")["name"])
	}
	if !absent(p["accessPolicies"]) || !patch {
		n.AccessPolicies = d.policies("properties.accessPolicies", p["accessPolicies"])
	}
	if !absent(p["enableRbacAuthorization"]) || !patch {
		n.EnableRBAC = d.boolean("properties.enableRbacAuthorization", p["enableRbacAuthorization"])
	}
	if !absent(p["softDeleteRetentionInDays"]) {
		n.RetentionDays = d.integer("properties.softDeleteRetentionInDays", p["softDeleteRetentionInDays"])
	}
	if !absent(p["enablePurgeProtection"]) {
		n.PurgeProtection = d.boolean("properties.enablePurgeProtection", p["enablePurgeProtection"])
	}
	if !absent(p["enableSoftDelete"]) && !d.boolean("properties.enableSoftDelete", p["enableSoftDelete"]) {
		d.fault("properties.enableSoftDelete", "cannot be switched off")
	}
	inert := map[string]json.RawMessage{}
	if patch {
		for name, value := range n.Inert {
			inert[name] = value
		}
	}
	for _, name := range []string{"networkAcls", "publicNetworkAccess", "enabledForDeployment", "enabledForDiskEncryption", "enabledForTemplateDeployment"} {
		if value, ok := p[name]; ok {
			inert[name] = value
			if isVaultDefault(name, value) {
				delete(inert, name)
			}
		}
	}
	if len(inert) > 0 {
		n.Inert = inert
	} else {
		n.Inert = nil
	}
	return d.text("properties.createMode", p["createMode"])
}

// isVaultDefault tells whether a property without effect says what every vault does anyway: no warning is due then.
func isVaultDefault(name string, value json.RawMessage) bool {
	switch name {
	case "networkAcls":
		var acls struct{ DefaultAction string }
		return json.Unmarshal(value, &acls) == nil && strings.EqualFold(acls.DefaultAction, "Allow")
	case "publicNetworkAccess":
		return strings.EqualFold(string(value), `"Enabled"`)
	}
	return string(value) == "false"
}

func (d *reader) policies(at string, raw json.RawMessage) []keyvault.AccessPolicy {
	var list []keyvault.AccessPolicy
	for i, item := range d.array(at, raw) {
		at := fmt.Sprintf("%s[%d]", at, i)
		o := d.object(at, item, "tenantId", "objectId", "applicationId", "permissions")
		p := d.object(at+".permissions", o["permissions"], "keys", "secrets", "certificates", "storage")
		list = append(list, keyvault.AccessPolicy{
			TenantID: d.text(at+".tenantId", o["tenantId"]), ObjectID: d.text(at+".objectId", o["objectId"]), ApplicationID: d.text(at+".applicationId", o["applicationId"]),
			Permissions: keyvault.Permissions{
				Keys: d.texts(at+".permissions.keys", p["keys"]), Secrets: d.texts(at+".permissions.secrets", p["secrets"]),
				Certificates: d.texts(at+".permissions.certificates", p["certificates"]), Storage: d.texts(at+".permissions.storage", p["storage"]),
			},
		})
	}
	return list
}

// putVault serves PUT, which creates or replaces, or recovers with createMode recover, and PATCH, which leaves alone
// what it does not name.
func (s *server) putVault(c *call) (reply, error) {
	raw, err := c.readJSON()
	if err != nil {
		return reply{}, err
	}
	for {
		r, err := s.writeVault(c, raw)
		if c.r.Method == http.MethodPatch && errors.Is(err, keyvault.ErrChanged) && c.r.Context().Err() == nil {
			continue // what it does not name is as it is now
		}
		return r, err
	}
}

func (s *server) writeVault(c *call, raw json.RawMessage) (reply, error) {
	n := keyvault.Vault{Name: c.params["name"], SubscriptionID: c.params["subscription"], ResourceGroup: c.params["group"]}
	patch := c.r.Method == http.MethodPatch
	old, err := s.findVault(c)
	switch {
	case err == nil && patch:
		n = *old
	case err == nil: // these outlive a replacement that does not name them
		n.Location, n.PurgeProtection, n.SKU = old.Location, old.PurgeProtection, old.SKU
	case patch:
		return reply{}, err
	}
	var d reader
	mode := d.vaultBody(raw, &n, patch)
	switch {
	case n.Location == "":
		d.fault("location", "is required")
	case old != nil && plainLocation(n.Location) != plainLocation(old.Location):
		d.fault("location", "cannot be changed from %q to %q", old.Location, n.Location)
	}
	if mode != "" && !strings.EqualFold(mode, "default") && !strings.EqualFold(mode, "recover") {
		d.fault("properties.createMode", "is neither default nor recover")
	}
	if err := d.err(); err != nil {
		return reply{}, err
	}
	ctx, cancel := c.writing()
	defer cancel()
	if strings.EqualFold(mode, "recover") && old == nil {
		v, err := s.Vaults.RecoverVault(ctx, n.Name, n.SubscriptionID, n.ResourceGroup)
		if err != nil {
			return reply{}, s.vaultError(c, err)
		}
		return reply{200, s.vault(v)}, nil
	}
	v, created, err := s.Vaults.PutVault(ctx, n)
	if err != nil {
		return reply{}, s.vaultError(c, err)
	}
	c.warn(inert("properties", v.Inert)...)
	if created {
		return reply{201, s.vault(v)}, nil
	}
	return reply{200, s.vault(v)}, nil
}

// vaultError finds the answer to an error of the vaults.
func (s *server) vaultError(c *call, err error) error {
	switch {
	case errors.Is(err, keyvault.ErrNotFound):
		return resourceNotFound(vaultType, c.params["name"], c.params["group"])
	case errors.Is(err, keyvault.ErrTaken):
		return refuse(http.StatusConflict, "VaultAlreadyExists", "The vault name '%s' is already in use. Vault names are unique within the service.", c.params["name"])
	case errors.Is(err, keyvault.ErrSoftDeleted):
		return refuse(http.StatusConflict, "ConflictError", "A vault with the same name already exists in deleted state. You need to either recover or purge existing key vault.")
	case errors.Is(err, keyvault.ErrProtected):
		return refuse(http.StatusMethodNotAllowed, "MethodNotAllowed", "Operation 'DeletedVaultPurge' is not allowed: purge protection is enabled.")
	case errors.Is(err, keyvault.ErrQuota):
		return refuse(http.StatusConflict, "QuotaExceeded", "%v.", err)
	}
	if faults := vaultFaults(err); len(faults) > 0 {
		return invalid(faults)
	}
	return err
}

func vaultFaults(err error) (faults settings.Faults) {
	switch e := err.(type) {
	case *keyvault.ValidationError:
		return settings.Faults{{Field: e.Field, Problem: e.Problem}}
	case interface{ Unwrap() []error }:
		for _, err := range e.Unwrap() {
			faults = append(faults, vaultFaults(err)...)
		}
	case interface{ Unwrap() error }:
		return vaultFaults(e.Unwrap())
	}
	return faults
}

func (s *server) deleteVault(c *call) (reply, error) {
	v, err := s.findVault(c)
	if err != nil {
		return reply{status: 204}, nil
	}
	ctx, cancel := c.writing()
	defer cancel()
	err = s.Vaults.DeleteVault(ctx, v.Name)
	if errors.Is(err, keyvault.ErrNotFound) {
		return reply{status: 204}, nil
	}
	if err != nil {
		return reply{}, s.vaultError(c, err)
	}
	return reply{status: 200}, nil
}

// editPolicies serves add, replace and remove.
func (s *server) editPolicies(c *call) (reply, error) {
	how := strings.ToLower(c.params["how"])
	if how != "add" && how != "replace" && how != "remove" {
		return reply{}, &unrouted{c.r.URL.Path}
	}
	raw, err := c.readJSON()
	if err != nil {
		return reply{}, err
	}
	v, err := s.findVault(c)
	if err != nil {
		return reply{}, err
	}
	var d reader
	doc := d.object("", raw, "properties")
	p := d.object("properties", doc["properties"], "accessPolicies")
	if absent(p["accessPolicies"]) {
		d.fault("properties.accessPolicies", "is required")
	}
	policies := d.policies("properties.accessPolicies", p["accessPolicies"])
	if err := d.err(); err != nil {
		return reply{}, err
	}
	ctx, cancel := c.writing()
	defer cancel()
	if v, err = s.Vaults.EditPolicies(ctx, v.Name, how, policies); err != nil {
		return reply{}, s.vaultError(c, err)
	}
	documents := make([]map[string]any, len(v.AccessPolicies))
	for i, p := range v.AccessPolicies {
		documents[i] = policyDocument(p)
	}
	if v.EnableRBAC {
		c.warn("the vault has enableRbacAuthorization: access policies have no effect, role assignments decide")
	}
	return reply{200, map[string]any{
		"id": v.ResourceID() + "/accessPolicies/", "name": how, "type": vaultType + "/accessPolicies", "location": v.Location, "properties": map[string]any{"accessPolicies": documents},
	}}, nil
}

func deletedVault(v *keyvault.Vault) map[string]any {
	id := "/subscriptions/" + v.SubscriptionID + "/providers/Microsoft.KeyVault/locations/" + v.Location + "/deletedVaults/" + v.Name
	protected := any(nil)
	if v.PurgeProtection {
		protected = true
	}
	return map[string]any{"id": id, "name": v.Name, "type": "Microsoft.KeyVault/deletedVaults", "properties": map[string]any{
		"vaultId": v.ResourceID(), "location": v.Location, "tags": tags(v.Tags), "purgeProtectionEnabled": protected,
		"deletionDate": v.Deleted.On.Format(time.RFC3339), "scheduledPurgeDate": v.Deleted.Purge.Format(time.RFC3339),
	}}
}

func (s *server) listDeletedVaults(c *call) (reply, error) {
	var list []map[string]any
	for _, v := range s.Vaults.DeletedVaults() {
		if strings.EqualFold(v.SubscriptionID, c.params["subscription"]) {
			list = append(list, deletedVault(v))
		}
	}
	return values(list), nil
}

func (s *server) findDeletedVault(c *call) (*keyvault.Vault, error) {
	v, ok := s.Vaults.DeletedVault(c.params["name"])
	if !ok || !strings.EqualFold(v.SubscriptionID, c.params["subscription"]) || plainLocation(v.Location) != plainLocation(c.params["location"]) {
		return nil, refuse(http.StatusNotFound, "DeletedVaultNotFound", "The deleted vault '%s' was not found in location '%s'.", c.params["name"], c.params["location"])
	}
	return v, nil
}

func (s *server) getDeletedVault(c *call) (reply, error) {
	v, err := s.findDeletedVault(c)
	if err != nil {
		return reply{}, err
	}
	return reply{200, deletedVault(v)}, nil
}

func (s *server) purgeVault(c *call) (reply, error) {
	v, err := s.findDeletedVault(c)
	if err != nil {
		return reply{}, err
	}
	ctx, cancel := c.writing()
	defer cancel()
	// Roles go first: whoever had one here must not have it at a later vault of the same name.
	if !v.PurgeProtection {
		if err := s.Roles.DeleteScope(ctx, v.ResourceID()); err != nil {
			return reply{}, err
		}
	}
	if err := s.Vaults.PurgeVault(ctx, v.Name); err != nil {
		return reply{}, s.vaultError(c, err)
	}
	return reply{status: 200}, nil
}

func (s *server) checkVaultName(c *call) (reply, error) {
	raw, err := c.readJSON()
	if err != nil {
		return reply{}, err
	}
	var d reader
	name := d.text("name", d.object("", raw, "name", "type")["name"])
	if err := d.err(); err != nil {
		return reply{}, err
	}
	no := func(why, message string) (reply, error) {
		return reply{200, map[string]any{"nameAvailable": false, "reason": why, "message": message}}, nil
	}
	if !keyvault.ValidVaultName(name) {
		return no("AccountNameInvalid", "The vault name is invalid. It must be 3 to 24 letters, digits and single dashes, beginning with a letter and not ending in a dash.")
	}
	_, taken := s.Vaults.Vault(name)
	if _, gone := s.Vaults.DeletedVault(name); taken || gone {
		return no("AlreadyExists", "The vault name is already in use.")
	}
	return reply{200, map[string]any{"nameAvailable": true}}, nil
}

func (s *server) listVaultOperations(*call) (reply, error) {
	var list []map[string]any
	for _, o := range [][3]string{
		{"vaults", "read", "Read key vaults"}, {"vaults", "write", "Create or change key vaults"}, {"vaults", "delete", "Delete key vaults"},
		{"vaults/accessPolicies", "write", "Change the access policies of a key vault"},
		{"vaults/secrets", "read", "Read what a secret is, not its value"}, {"vaults/secrets", "write", "Create a secret or a version of it"},
		{"deletedVaults", "read", "Read deleted key vaults"}, {"locations/deletedVaults", "read", "Read a deleted key vault"},
		{"locations/deletedVaults/purge", "action", "Purge a deleted key vault"},
		{"checkNameAvailability", "action", "Check whether a name is available"}, {"operations", "read", "List the operations of the provider"},
	} {
		list = append(list, operation("Microsoft.KeyVault", o[0], o[1], o[2]))
	}
	return values(list), nil
}
