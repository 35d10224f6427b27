package apply

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"

	"tabard/internal/template"
)

// A kind knows how resources of a type are read and written. All methods are about one resource.
type kind interface {
	// prepare makes of what the file says what the service is told.
	prepare(ctx context.Context, body map[string]any) (map[string]any, error)
	// read returns the resource as it is, nil if there is none.
	read(ctx context.Context) (map[string]any, error)
	compare(wanted, current map[string]any) []Difference
	write(ctx context.Context, wanted, current map[string]any) (warnings []string, err error)
	// place is where the resource can be deleted, after it was written.
	place(ctx context.Context) (path, vault string, err error)
}

func (r *runner) kindOf(res *template.Resource) kind {
	base := armKind{runner: r, res: res}
	switch t := strings.ToLower(res.Type); {
	case t == "microsoft.keyvault/vaults/secrets":
		return &secretKind{armKind: base}
	case t == "microsoft.keyvault/vaults/accesspolicies":
		return &policiesKind{armKind: base}
	case t == "microsoft.resources/resourcegroups":
		return &groupKind{armKind: base}
	case strings.HasPrefix(t, "microsoft.graph/"):
		return &graphKind{armKind: base}
	}
	return &base
}

// armKind is any resource of ARM.
type armKind struct {
	*runner
	res *template.Resource
}

func (k *armKind) read(ctx context.Context) (map[string]any, error) {
	return k.client.object(ctx, Request{Method: http.MethodGet, Path: escape(k.res.ID), Query: versionFor(k.res.ID, k.res.APIVersion)})
}

func (k *armKind) compare(wanted, current map[string]any) []Difference {
	return compare(k.res.Type, wanted, current)
}

func (k *armKind) write(ctx context.Context, wanted, _ map[string]any) ([]string, error) {
	resp, err := k.client.send(ctx, Request{Method: http.MethodPut, Path: escape(k.res.ID), Query: versionFor(k.res.ID, k.res.APIVersion), Body: wanted})
	if err != nil {
		return nil, err
	}
	return resp.Warnings, nil
}

func (k *armKind) place(context.Context) (path, vault string, err error) {
	return escape(k.res.ID), "", nil
}

func (k *armKind) prepare(ctx context.Context, body map[string]any) (map[string]any, error) {
	v, err := k.resolve(body)
	if err != nil {
		return nil, err
	}
	body = v.(map[string]any)
	switch strings.ToLower(k.res.Type) {
	case "microsoft.signalrservice/webpubsub":
		k.nameIdentities(body)
		k.locate(body)
	case "microsoft.managedidentity/userassignedidentities":
		k.locate(body)
	case "microsoft.keyvault/vaults":
		k.locate(body)
		return body, k.policies(ctx, object(get(body, "properties")))
	case "microsoft.authorization/roleassignments":
		return body, k.assignment(ctx, object(get(body, "properties")))
	}
	return body, nil
}

// locate gives a resource the one location that there is, unless it says one.
func (k *armKind) locate(body map[string]any) {
	if get(body, "location") == nil {
		body["location"] = "local"
	}
}

// nameIdentities completes names of user-assigned identities to ids of the resource's group.
func (k *armKind) nameIdentities(body map[string]any) {
	identity := object(get(body, "identity"))
	named := object(get(identity, "userAssignedIdentities"))
	for name, v := range named {
		if !strings.HasPrefix(name, "/") {
			delete(named, name)
			named[principalResource(identityType, name, k.Subscription, k.group())] = v
		}
	}
}

func (k *armKind) group() string {
	if k.res.Group != "" {
		return k.res.Group
	}
	return k.Group
}

// policies completes access policies: tenants, and object ids of principals that are named.
func (k *armKind) policies(ctx context.Context, properties map[string]any) error {
	for i, item := range items(get(properties, "accessPolicies")) {
		p := object(item)
		if p == nil {
			continue // the service says what is wrong with it
		}
		if get(p, "tenantId") == nil {
			p["tenantId"] = k.Tenant
		}
		if err := k.replacePrincipal(ctx, p, "objectId"); err != nil {
			return fmt.Errorf("properties.accessPolicies[%d]: %w", i, err)
		}
	}
	return nil
}

// assignment completes a role assignment: the principal that is named, and the role by its name.
func (k *armKind) assignment(ctx context.Context, properties map[string]any) error {
	if properties == nil {
		return nil
	}
	if err := k.replacePrincipal(ctx, properties, "principalId"); err != nil {
		return fmt.Errorf("properties: %w", err)
	}
	role, ok := get(properties, "role").(string)
	if !ok {
		return nil
	}
	id, err := k.roleID(ctx, role)
	if err != nil {
		return err
	}
	drop(properties, "role")
	properties["roleDefinitionId"] = id
	return nil
}

func (r *runner) roleID(ctx context.Context, name string) (string, error) {
	path := "/subscriptions/" + r.Subscription + "/providers/Microsoft.Authorization/roleDefinitions"
	query := versionFor(path, "")
	query.Set("$filter", "roleName eq '"+strings.ReplaceAll(name, "'", "''")+"'")
	found, err := r.client.list(ctx, Request{Method: http.MethodGet, Path: path, Query: query})
	if err != nil {
		return "", err
	}
	if len(found) != 1 {
		return "", fmt.Errorf("properties.role: there is no role %q", name)
	}
	return text(get(found[0], "id")), nil
}

// resolve replaces each {valueFrom: …} by what it names.
func (k *armKind) resolve(v any) (any, error) {
	switch v := v.(type) {
	case map[string]any:
		if from := object(get(v, "valueFrom")); from != nil && len(v) == 1 {
			s, there, err := k.valueFrom(from)
			if keep, _ := get(from, "keepExisting").(bool); err == nil && !there && keep {
				return kept{}, nil
			}
			if err == nil && !there {
				err = fmt.Errorf("valueFrom: %s", missing(from))
			}
			return s, err
		}
		for name, m := range v {
			var err error
			if v[name], err = k.resolve(m); err != nil {
				return nil, err
			}
			if v[name] == (kept{}) {
				delete(v, name)
			}
		}
	case []any:
		for i := range v {
			var err error
			if v[i], err = k.resolve(v[i]); err != nil {
				return nil, err
			}
		}
	}
	return v, nil
}

// kept stands for a value that is not given, so that the stored one stays: the member is left out.
type kept struct{}

func missing(from map[string]any) string {
	if name := text(get(from, "env")); name != "" {
		return "the environment has no " + name
	}
	return "there is no file " + text(get(from, "file"))
}

// maxValue bounds what a file or variable gives; vaults take less.
const maxValue = 64 << 10

// valueFrom reads a value from the environment or from a file, beside the resource's own file. One line end at the end
// of a file is not part of it.
func (k *armKind) valueFrom(from map[string]any) (value secret, there bool, err error) {
	env, file := text(get(from, "env")), text(get(from, "file"))
	for name := range from {
		if n := strings.ToLower(name); n != "env" && n != "file" && n != "keepexisting" {
			return "", false, fmt.Errorf("valueFrom: %q is neither env nor file nor keepExisting", name)
		}
	}
	switch {
	case (env == "") == (file == ""):
		return "", false, errors.New("valueFrom: give env or file")
	case env != "":
		if k.Getenv == nil {
			return "", false, errors.New("valueFrom: there is no environment here")
		}
		v, ok := k.Getenv(env)
		return secret(v), ok && v != "", nil
	}
	if !filepath.IsAbs(file) {
		file = filepath.Join(filepath.Dir(k.res.File), file)
	}
	f, err := os.Open(file)
	if errors.Is(err, os.ErrNotExist) {
		return "", false, nil
	}
	if err != nil {
		return "", false, fmt.Errorf("valueFrom: %w", err)
	}
	defer f.Close()
	raw, err := io.ReadAll(io.LimitReader(f, maxValue+1))
	if err == nil && len(raw) > maxValue {
		err = fmt.Errorf("%s has more than %d bytes", file, maxValue)
	}
	if err != nil {
		return "", false, fmt.Errorf("valueFrom: %w", err)
	}
	return secret(strings.TrimSuffix(strings.TrimSuffix(string(raw), "\n"), "\r")), true, nil
}

// groupKind is a resource group, which is only a name: it is always there.
type groupKind struct{ armKind }

func (k *groupKind) compare(_, current map[string]any) []Difference { return nil }

func (k *groupKind) read(context.Context) (map[string]any, error) { return map[string]any{}, nil }

// policiesKind adds to, replaces or removes from the access policies of a vault: …/accessPolicies/add.
type policiesKind struct{ armKind }

func (k *policiesKind) vaultID() string {
	id, _, _ := cutLast(k.res.ID, "/accesspolicies/")
	return id
}

func (k *policiesKind) how() string {
	return strings.ToLower(k.res.ID[strings.LastIndexByte(k.res.ID, '/')+1:])
}

func (k *policiesKind) read(ctx context.Context) (map[string]any, error) {
	return k.client.object(ctx, Request{Method: http.MethodGet, Path: escape(k.vaultID()), Query: versionFor(k.vaultID(), "")})
}

func (k *policiesKind) prepare(ctx context.Context, body map[string]any) (map[string]any, error) {
	return body, k.policies(ctx, object(get(body, "properties")))
}

func (k *policiesKind) compare(wanted, current map[string]any) []Difference {
	now := items(at(current, "properties.accessPolicies"))
	if k.how() == "replace" {
		return compare("Microsoft.KeyVault/vaults", map[string]any{"properties": get(wanted, "properties"), "tags": get(current, "tags")}, map[string]any{"properties": map[string]any{"accessPolicies": now}, "tags": get(current, "tags")})
	}
	var found []Difference
	for i, w := range items(at(wanted, "properties.accessPolicies")) {
		id, have := text(get(object(w), "objectId")), map[string]any(nil)
		for _, p := range now {
			if strings.EqualFold(text(get(object(p), "objectId")), id) {
				have = object(p)
			}
		}
		for _, kind := range []string{"secrets", "keys", "certificates", "storage"} {
			for _, permission := range items(at(object(w), "permissions."+kind)) {
				has := false
				for _, p := range items(at(have, "permissions."+kind)) {
					has = has || strings.EqualFold(text(p), text(permission))
				}
				if has == (k.how() == "remove") {
					d := Difference{Path: fmt.Sprintf("properties.accessPolicies[%d].permissions.%s", i, kind), After: permission}
					if has {
						d.Before, d.After = permission, nil
					}
					found = append(found, d)
				}
			}
		}
	}
	return found
}

// place is none: what was added to a vault is not a resource that could be deleted.
func (k *policiesKind) place(context.Context) (path, vault string, err error) { return "", "", nil }
