package main

import (
	"context"
	"encoding/json"
	"io"
	"maps"
	"net/http"
	"strings"
)

type vaultPolicyListCmd struct {
	vaultFlags
	jsonFlag
}

func (vaultPolicyListCmd) Help() string {
	return `Example:

    tabard vault policy list hooks` + vaultWords
}

func (c *vaultPolicyListCmd) Run(ctx context.Context, s *stdio) error {
	_, v, _, err := c.connect(ctx, s)
	if err != nil {
		return err
	}
	return printPolicies(s, c.JSON, v)
}

func printPolicies(s *stdio, asJSON bool, v *vault) error {
	if v.Properties.EnableRBACAuthorization {
		s.note("in vault %s role assignments decide, its access policies have no effect: `tabard role list --scope %s`", v.Name, v.ID)
	}
	list := struct {
		Value []accessPolicy `json:"value"`
	}{append([]accessPolicy{}, v.Properties.AccessPolicies...)}
	return s.print(asJSON, list, func(w io.Writer) {
		row(w, "OBJECT ID", "SECRETS")
		for _, p := range list.Value {
			who := p.ObjectID
			if p.ApplicationID != "" {
				who += " through application " + p.ApplicationID
			}
			row(w, who, orDash(strings.Join(p.Permissions["secrets"], ",")))
		}
	})
}

type vaultPolicySetCmd struct {
	vaultFlags
	jsonFlag
	ObjectID string   `name:"object-id" required:"" help:"Object id of the principal; of an identity that is its principal id." placeholder:"GUID"`
	Secrets  []string `required:"" help:"What it may do with secrets: get, list, set, delete, recover, backup, restore, purge, or all of these but purge." placeholder:"PERMISSION,..."`
}

func (vaultPolicySetCmd) Help() string {
	return `Replaces what the principal may do with secrets; counts from its next request on. An event handler's URL needs get and nothing more.

Example:

    tabard vault policy set hooks --object-id 11111111-2222-3333-4444-555555555555 --secrets get,list` + vaultWords
}

func (c *vaultPolicySetCmd) Run(ctx context.Context, s *stdio) error {
	a, v, _, err := c.connect(ctx, s)
	if err != nil {
		return err
	}
	p, found := v.policy(c.ObjectID)
	if !found {
		p = accessPolicy{TenantID: v.Properties.TenantID, ObjectID: c.ObjectID}
	}
	p.Permissions = maps.Clone(p.Permissions) // those for keys and certificates stay
	if p.Permissions == nil {
		p.Permissions = map[string][]string{}
	}
	p.Permissions["secrets"] = c.Secrets
	if err := a.editPolicies(ctx, v, "replace", p); err != nil {
		return err
	}
	return printPolicies(s, c.JSON, v)
}

// policy finds the policy of a principal that acts for itself.
func (v *vault) policy(objectID string) (accessPolicy, bool) {
	for _, p := range v.Properties.AccessPolicies {
		if strings.EqualFold(p.ObjectID, objectID) && p.ApplicationID == "" {
			return p, true
		}
	}
	return accessPolicy{}, false
}

// editPolicies changes one policy, and v to what is then.
func (a *admin) editPolicies(ctx context.Context, v *vault, how string, p accessPolicy) error {
	body := map[string]any{"properties": map[string]any{"accessPolicies": []accessPolicy{p}}}
	var raw json.RawMessage
	if _, err := a.call(ctx, http.MethodPut, idPath(v.ID)+"/accessPolicies/"+how, apiVersion(vaultVersion), body, &raw); err != nil {
		return err
	}
	var answer vault
	if err := json.Unmarshal(raw, &answer); err != nil {
		return err
	}
	v.Properties.AccessPolicies = answer.Properties.AccessPolicies
	return nil
}

type vaultPolicyRemoveCmd struct {
	vaultFlags
	ObjectID string `name:"object-id" required:"" help:"Object id of the principal." placeholder:"GUID"`
}

func (vaultPolicyRemoveCmd) Help() string {
	return `Takes everything back that the principal may do; counts from its next request on.

Example:

    tabard vault policy remove hooks --object-id 11111111-2222-3333-4444-555555555555` + vaultWords
}

func (c *vaultPolicyRemoveCmd) Run(ctx context.Context, s *stdio) error {
	a, v, _, err := c.connect(ctx, s)
	if err != nil {
		return err
	}
	p, found := v.policy(c.ObjectID)
	if !found {
		return fail(exitNotFound, "`tabard vault policy list "+v.Name+"` shows them", "vault %s has no access policy for %s", v.Name, c.ObjectID)
	}
	if err := a.editPolicies(ctx, v, "remove", p); err != nil {
		return err
	}
	s.note("%s may do nothing in vault %s any more", p.ObjectID, v.Name)
	return nil
}
