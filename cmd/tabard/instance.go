package main

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/url"
	"strings"
)

const webPubSub = "Microsoft.SignalRService/webPubSub"

// An instance is what the commands read of a Web PubSub resource.
type instance struct {
	ID         string            `json:"id"`
	Name       string            `json:"name"`
	Location   string            `json:"location"`
	Tags       map[string]string `json:"tags"`
	Identity   *armIdentity      `json:"identity"`
	Properties struct {
		HostName         string `json:"hostName"`
		DisableLocalAuth bool   `json:"disableLocalAuth"`
		DisableAADAuth   bool   `json:"disableAadAuth"`
	} `json:"properties"`
}

type armIdentity struct {
	Type                   string                          `json:"type"`
	PrincipalID            string                          `json:"principalId,omitempty"`
	TenantID               string                          `json:"tenantId,omitempty"`
	UserAssignedIdentities map[string]userAssignedIdentity `json:"userAssignedIdentities,omitempty"`
}

type userAssignedIdentity struct {
	PrincipalID string `json:"principalId,omitempty"`
	ClientID    string `json:"clientId,omitempty"`
}

func (in *instance) identityType() string {
	if in.Identity == nil || in.Identity.Type == "" {
		return "None"
	}
	return in.Identity.Type
}

// resourceGroup is the one in the ARM id, whose case is not to be relied on.
func (in *instance) resourceGroup() string {
	segments := strings.Split(in.ID, "/")
	for i, s := range segments {
		if strings.EqualFold(s, "resourceGroups") && i+1 < len(segments) {
			return segments[i+1]
		}
	}
	return ""
}

// instancePath is the path of the instance with the name or ARM id, whatever resource group it is in.
func (a *admin) instancePath(ctx context.Context, name string) (string, error) {
	raw, err := a.instance(ctx, name)
	if err != nil {
		return "", err
	}
	var in instance
	if err := json.Unmarshal(raw, &in); err != nil {
		return "", err
	}
	return idPath(in.ID), nil
}

// instance fetches the instance with the name or ARM id.
func (a *admin) instance(ctx context.Context, name string) (json.RawMessage, error) {
	if isResourceID(name) {
		var raw json.RawMessage
		_, err := a.call(ctx, http.MethodGet, idPath(name), apiVersion(armVersion), nil, &raw)
		return raw, err
	}
	all, err := a.instances(ctx)
	if err != nil {
		return nil, err
	}
	raw, ok := find(all, name)
	if !ok {
		return nil, fail(exitNotFound, "`tabard instance list` shows what there is", "there is no instance %q", name)
	}
	return raw, nil
}

func (a *admin) instances(ctx context.Context) ([]json.RawMessage, error) {
	path, err := a.subscriptionPath(ctx, webPubSub)
	if err != nil {
		return nil, err
	}
	return a.list(ctx, path, apiVersion(armVersion))
}

// connect finds the service and, in it, the path of the instance.
func (f instanceFlags) connect(ctx context.Context, s *stdio) (*admin, string, error) {
	a, err := f.open(s)
	if err != nil {
		return nil, "", err
	}
	path, err := a.instancePath(ctx, f.Instance)
	return a, path, err
}

const instanceWords = `

Words: an instance is one Azure Web PubSub resource (Microsoft.SignalRService/webPubSub), with keys, an identity and hubs of its own.`

type instanceListCmd struct {
	adminFlags
	jsonFlag
}

func (instanceListCmd) Help() string {
	return `Example:

    tabard instance list` + instanceWords
}

func (c *instanceListCmd) Run(ctx context.Context, s *stdio) error {
	a, err := c.open(s)
	if err != nil {
		return err
	}
	all, err := a.instances(ctx)
	if err != nil {
		return err
	}
	rows, err := itemsOf[instance](all)
	if err != nil {
		return err
	}
	return s.print(c.JSON, armList{Value: all}, func(w io.Writer) {
		row(w, "NAME", "RESOURCE GROUP", "LOCATION", "IDENTITY", "HOST")
		for _, in := range rows {
			row(w, in.Name, in.resourceGroup(), in.Location, in.identityType(), orDash(in.Properties.HostName))
		}
	})
}

type instanceShowCmd struct {
	adminFlags
	jsonFlag
	Name string `arg:"" optional:"" default:"default" help:"Name or ARM id."`
}

func (instanceShowCmd) Help() string {
	return `Example:

    tabard instance show
    tabard instance show --json | jq -r .id` + instanceWords
}

func (c *instanceShowCmd) Run(ctx context.Context, s *stdio) error {
	a, err := c.open(s)
	if err != nil {
		return err
	}
	raw, err := a.instance(ctx, c.Name)
	if err != nil {
		return err
	}
	return printInstance(s, c.JSON, raw)
}

func printInstance(s *stdio, asJSON bool, raw json.RawMessage) error {
	var in instance
	if err := json.Unmarshal(raw, &in); err != nil {
		return err
	}
	return s.print(asJSON, raw, func(w io.Writer) {
		row(w, "name", in.Name)
		row(w, "id", in.ID)
		row(w, "location", in.Location)
		row(w, "host", orDash(in.Properties.HostName))
		row(w, "identity", in.identityType())
		row(w, "access keys", onOff(!in.Properties.DisableLocalAuth))
		row(w, "directory tokens", onOff(!in.Properties.DisableAADAuth))
	})
}

func onOff(on bool) string {
	if on {
		return "on"
	}
	return "off"
}

type instanceCreateCmd struct {
	adminFlags
	jsonFlag
	Name          string            `arg:"" help:"3 to 63 letters, digits and dashes."`
	ResourceGroup string            `help:"Resource group." default:"default" placeholder:"NAME"`
	Location      string            `help:"Location; only stored." default:"local" placeholder:"NAME"`
	Tag           map[string]string `help:"Tag, repeatable." placeholder:"NAME=VALUE" mapsep:"none"`
}

func (instanceCreateCmd) Help() string {
	return `An instance that exists is refused, not replaced. Clients reach it at NAME.<host> of the service, or at an address of its own given to tabard serve with --instance-listen.

Example:

    tabard instance create orders
    tabard key list --instance orders` + instanceWords
}

func (c *instanceCreateCmd) Run(ctx context.Context, s *stdio) error {
	a, err := c.open(s)
	if err != nil {
		return err
	}
	var missing *failure
	if _, err := a.instance(ctx, c.Name); err == nil {
		return fail(exitRefused, "`tabard instance show "+c.Name+"` shows it", "there is an instance %q already", c.Name)
	} else if !errors.As(err, &missing) || missing.code != exitNotFound {
		return err
	}
	group, err := a.groupPath(ctx, c.ResourceGroup, webPubSub)
	if err != nil {
		return err
	}
	body := map[string]any{"location": c.Location, "properties": map[string]any{}}
	if len(c.Tag) > 0 {
		body["tags"] = c.Tag
	}
	var raw json.RawMessage
	if _, err := a.call(ctx, http.MethodPut, group+"/"+url.PathEscape(c.Name), apiVersion(armVersion), body, &raw); err != nil {
		return err
	}
	return printInstance(s, c.JSON, raw)
}

type instanceDeleteCmd struct {
	adminFlags
	Name string `arg:"" help:"Name or ARM id."`
}

func (instanceDeleteCmd) Help() string {
	return `Its keys, hubs and system-assigned identity go with it, and its clients are disconnected. There is no way back.

Example:

    tabard instance delete orders` + instanceWords
}

func (c *instanceDeleteCmd) Run(ctx context.Context, s *stdio) error {
	a, err := c.open(s)
	if err != nil {
		return err
	}
	path, err := a.instancePath(ctx, c.Name)
	if err != nil {
		return err
	}
	if err := a.remove(ctx, path, armVersion, "instance", c.Name); err != nil {
		return err
	}
	s.note("instance %s is deleted", c.Name)
	return nil
}

// remove deletes a resource; that it was not there is an error to the one who named it.
func (a *admin) remove(ctx context.Context, path, version, what, name string) error {
	status, err := a.call(ctx, http.MethodDelete, path, apiVersion(version), nil, nil)
	if err == nil && status == http.StatusNoContent {
		return fail(exitNotFound, "", "there is no %s %q", what, name)
	}
	return err
}
