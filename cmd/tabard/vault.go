package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
)

const (
	keyVault     = "Microsoft.KeyVault/vaults"
	vaultVersion = "2024-11-01" // Microsoft.KeyVault
)

const vaultWords = `

Words: vault, access policy and permission are those of Azure Key Vault (Microsoft.KeyVault/vaults). A policy names its principal by object id, which "tabard identity show" calls the principal id.`

// A vault is what the commands read of a key vault.
type vault struct {
	ID         string `json:"id"`
	Name       string `json:"name"`
	Location   string `json:"location"`
	Properties struct {
		TenantID                  string         `json:"tenantId"`
		VaultURI                  string         `json:"vaultUri"`
		AccessPolicies            []accessPolicy `json:"accessPolicies"`
		EnableRBACAuthorization   bool           `json:"enableRbacAuthorization"`
		SoftDeleteRetentionInDays int            `json:"softDeleteRetentionInDays"`
		EnablePurgeProtection     bool           `json:"enablePurgeProtection"`
	} `json:"properties"`
}

// An accessPolicy says what one principal may do.
type accessPolicy struct {
	TenantID      string              `json:"tenantId"`
	ObjectID      string              `json:"objectId"`
	ApplicationID string              `json:"applicationId,omitempty"`
	Permissions   map[string][]string `json:"permissions"` // by kind: secrets, keys, certificates, storage
}

func (v *vault) access() string {
	if v.Properties.EnableRBACAuthorization {
		return "roles"
	}
	return fmt.Sprintf("%d policies", len(v.Properties.AccessPolicies))
}

// vaults lists the key vaults of the service.
func (a *admin) vaults(ctx context.Context) ([]json.RawMessage, error) {
	path, err := a.subscriptionPath(ctx, keyVault)
	if err != nil {
		return nil, err
	}
	return a.list(ctx, path, apiVersion(vaultVersion))
}

// vault finds a key vault by its name or ARM id.
func (a *admin) vault(ctx context.Context, name string) (*vault, json.RawMessage, error) {
	all, err := a.vaults(ctx)
	if err != nil {
		return nil, nil, err
	}
	raw, ok := find(all, name)
	if !ok {
		return nil, nil, fail(exitNotFound, "`tabard vault list` shows what there is", "there is no vault %q", name)
	}
	v := new(vault)
	return v, raw, json.Unmarshal(raw, v)
}

// vaultFlags name a vault of the service.
type vaultFlags struct {
	adminFlags
	Vault string `arg:"" help:"Name or ARM id of the vault."`
}

// connect finds the service and, in it, the vault.
func (f vaultFlags) connect(ctx context.Context, s *stdio) (*admin, *vault, json.RawMessage, error) {
	a, err := f.open(s)
	if err != nil {
		return nil, nil, nil, err
	}
	v, raw, err := a.vault(ctx, f.Vault)
	return a, v, raw, err
}

type vaultListCmd struct {
	adminFlags
	jsonFlag
	Deleted bool `help:"Those that are deleted and can be recovered."`
}

func (vaultListCmd) Help() string {
	return `Example:

    tabard vault list` + vaultWords
}

func (c *vaultListCmd) Run(ctx context.Context, s *stdio) error {
	a, err := c.open(s)
	if err != nil {
		return err
	}
	if c.Deleted {
		return c.listDeleted(ctx, s, a)
	}
	all, err := a.vaults(ctx)
	if err != nil {
		return err
	}
	rows, err := itemsOf[vault](all)
	if err != nil {
		return err
	}
	return s.print(c.JSON, armList{Value: all}, func(w io.Writer) {
		row(w, "NAME", "ACCESS", "URI")
		for _, v := range rows {
			row(w, v.Name, v.access(), v.Properties.VaultURI)
		}
	})
}

func (c *vaultListCmd) listDeleted(ctx context.Context, s *stdio, a *admin) error {
	all, rows, err := a.deletedVaults(ctx)
	if err != nil {
		return err
	}
	return s.print(c.JSON, armList{Value: all}, func(w io.Writer) {
		row(w, "NAME", "DELETED", "PURGED ON")
		for _, v := range rows {
			row(w, v.Name, v.Properties.DeletionDate, v.Properties.ScheduledPurgeDate)
		}
	})
}

// A deletedVault is one that can be recovered.
type deletedVault struct {
	ID         string `json:"id"`
	Name       string `json:"name"`
	Properties struct {
		VaultID            string `json:"vaultId"`
		Location           string `json:"location"`
		DeletionDate       string `json:"deletionDate"`
		ScheduledPurgeDate string `json:"scheduledPurgeDate"`
	} `json:"properties"`
}

func (a *admin) deletedVaults(ctx context.Context) ([]json.RawMessage, []deletedVault, error) {
	id, err := a.subscription(ctx)
	if err != nil {
		return nil, nil, err
	}
	all, err := a.list(ctx, "/subscriptions/"+url.PathEscape(id)+"/providers/Microsoft.KeyVault/deletedVaults", apiVersion(vaultVersion))
	if err != nil {
		return nil, nil, err
	}
	list, err := itemsOf[deletedVault](all)
	if err != nil {
		return nil, nil, err
	}
	return all, list, nil
}

func (a *admin) deletedVault(ctx context.Context, name string) (*deletedVault, error) {
	_, list, err := a.deletedVaults(ctx)
	if err != nil {
		return nil, err
	}
	for _, v := range list {
		if strings.EqualFold(v.Name, name) {
			return &v, nil
		}
	}
	return nil, fail(exitNotFound, "`tabard vault list --deleted` shows what there is", "there is no deleted vault %q", name)
}

type vaultShowCmd struct {
	vaultFlags
	jsonFlag
}

func (vaultShowCmd) Help() string {
	return `Shows the vault's address and who may do what in it, nothing of its secrets.

Example:

    tabard vault show default
    tabard vault show hooks --json | jq -r .properties.vaultUri` + vaultWords
}

func (c *vaultShowCmd) Run(ctx context.Context, s *stdio) error {
	_, _, raw, err := c.connect(ctx, s)
	if err != nil {
		return err
	}
	return printVault(s, c.JSON, raw)
}

func printVault(s *stdio, asJSON bool, raw json.RawMessage) error {
	var v vault
	if err := json.Unmarshal(raw, &v); err != nil {
		return err
	}
	return s.print(asJSON, raw, func(w io.Writer) {
		row(w, "name", v.Name)
		row(w, "id", v.ID)
		row(w, "uri", v.Properties.VaultURI)
		row(w, "access", v.access())
		row(w, "deleted secrets", fmt.Sprintf("kept %d days", v.Properties.SoftDeleteRetentionInDays))
		row(w, "purge protection", onOff(v.Properties.EnablePurgeProtection))
	})
}

type vaultCreateCmd struct {
	adminFlags
	jsonFlag
	Vault           string            `arg:"" name:"name" help:"3 to 24 letters, digits and single dashes, a letter first."`
	ResourceGroup   string            `help:"Resource group." default:"default" placeholder:"NAME"`
	Location        string            `help:"Location; only stored." default:"local" placeholder:"NAME"`
	RBAC            bool              `name:"rbac" help:"Let role assignments decide who may do what, instead of access policies."`
	RetentionDays   int               `help:"How long deleted secrets can be recovered, 7 to 90 days; fixed from now on." default:"90" placeholder:"DAYS"`
	PurgeProtection bool              `help:"Keep everybody from purging before that time is over; cannot be switched off."`
	Tag             map[string]string `help:"Tag, repeatable." placeholder:"NAME=VALUE" mapsep:"none"`
}

func (vaultCreateCmd) Help() string {
	return `A vault that exists is refused, not replaced. Nobody but the holder of the admin token may do anything in a new vault. Clients reach it at NAME.<host> of the service's admin address, or at an address of its own given to tabard serve with --vault-listen.

Example:

    tabard vault create hooks
    tabard vault policy set hooks --object-id 11111111-2222-3333-4444-555555555555 --secrets get` + vaultWords
}

func (c *vaultCreateCmd) Run(ctx context.Context, s *stdio) error {
	a, err := c.open(s)
	if err != nil {
		return err
	}
	var missing *failure
	if _, _, err := a.vault(ctx, c.Vault); err == nil {
		return fail(exitRefused, "`tabard vault show "+c.Vault+"` shows it", "there is a vault %q already", c.Vault)
	} else if !errors.As(err, &missing) || missing.code != exitNotFound {
		return err
	}
	group, err := a.groupPath(ctx, c.ResourceGroup, keyVault)
	if err != nil {
		return err
	}
	properties := map[string]any{
		"sku": map[string]string{"family": "A", "name": "standard"}, "accessPolicies": []any{},
		"enableRbacAuthorization": c.RBAC, "softDeleteRetentionInDays": c.RetentionDays,
	}
	if c.PurgeProtection {
		properties["enablePurgeProtection"] = true
	}
	body := map[string]any{"location": c.Location, "properties": properties}
	if len(c.Tag) > 0 {
		body["tags"] = c.Tag
	}
	var raw json.RawMessage
	if _, err := a.call(ctx, http.MethodPut, group+"/"+url.PathEscape(c.Vault), apiVersion(vaultVersion), body, &raw); err != nil {
		return err
	}
	return printVault(s, c.JSON, raw)
}

type vaultDeleteCmd struct {
	vaultFlags
}

func (vaultDeleteCmd) Help() string {
	return `From then on nothing in it is found, and event handlers whose URLs refer to it get no events. It can be recovered as long as its retention says; its name is not free before it is purged.

Example:

    tabard vault delete hooks` + vaultWords
}

func (c *vaultDeleteCmd) Run(ctx context.Context, s *stdio) error {
	a, v, _, err := c.connect(ctx, s)
	if err != nil {
		return err
	}
	if err := a.remove(ctx, idPath(v.ID), vaultVersion, "vault", c.Vault); err != nil {
		return err
	}
	s.note("vault %s is deleted; for %d days `tabard vault recover %s` brings it back", v.Name, v.Properties.SoftDeleteRetentionInDays, v.Name)
	return nil
}

type vaultRecoverCmd struct {
	adminFlags
	jsonFlag
	Vault string `arg:"" help:"Name of the deleted vault."`
}

func (vaultRecoverCmd) Help() string {
	return `It comes back as it was, with its secrets and policies.

Example:

    tabard vault recover hooks` + vaultWords
}

func (c *vaultRecoverCmd) Run(ctx context.Context, s *stdio) error {
	a, err := c.open(s)
	if err != nil {
		return err
	}
	v, err := a.deletedVault(ctx, c.Vault)
	if err != nil {
		return err
	}
	body := map[string]any{"location": v.Properties.Location, "properties": map[string]any{"createMode": "recover"}}
	var raw json.RawMessage
	if _, err := a.call(ctx, http.MethodPut, idPath(v.Properties.VaultID), apiVersion(vaultVersion), body, &raw); err != nil {
		return err
	}
	return printVault(s, c.JSON, raw)
}

type vaultPurgeCmd struct {
	adminFlags
	Vault string `arg:"" help:"Name of the deleted vault."`
}

func (vaultPurgeCmd) Help() string {
	return `Ends a deleted vault and all that is in it for good. There is no way back.

Example:

    tabard vault purge hooks` + vaultWords
}

func (c *vaultPurgeCmd) Run(ctx context.Context, s *stdio) error {
	a, err := c.open(s)
	if err != nil {
		return err
	}
	v, err := a.deletedVault(ctx, c.Vault)
	if err != nil {
		return err
	}
	if _, err := a.call(ctx, http.MethodPost, idPath(v.ID)+"/purge", apiVersion(vaultVersion), nil, nil); err != nil {
		return err
	}
	s.note("vault %s is gone", v.Name)
	return nil
}
