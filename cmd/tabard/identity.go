package main

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/url"
)

const userAssigned = "Microsoft.ManagedIdentity/userAssignedIdentities"

const identityWords = `

Words: system-assigned and user-assigned identity, principal id (the service principal's object id) and client id are Azure's, as in "Managed identities for Azure Web PubSub Service".`

// assigned is an instance's managed identity as identity show prints it. Every field is always there; what does not
// apply is empty.
type assigned struct {
	Type        string `json:"type"` // None, SystemAssigned or UserAssigned
	PrincipalID string `json:"principalId"`
	ClientID    string `json:"clientId"`
	TenantID    string `json:"tenantId"`
	ID          string `json:"id"` // ARM id: a user-assigned identity's own, a system-assigned one's below its instance
}

// identityResource is a user-assigned identity, or the system-assigned one as its host resource shows it.
type identityResource struct {
	ID         string `json:"id"`
	Name       string `json:"name"`
	Location   string `json:"location"`
	Properties struct {
		ClientID    string `json:"clientId"`
		PrincipalID string `json:"principalId"`
		TenantID    string `json:"tenantId"`
	} `json:"properties"`
}

// identityOf reads the identity of the instance at path. The instance's own document lacks the client id of a
// system-assigned identity and the tenant of a user-assigned one, so a second document completes it.
func (a *admin) identityOf(ctx context.Context, path string) (assigned, error) {
	var in instance
	if _, err := a.call(ctx, http.MethodGet, path, apiVersion(armVersion), nil, &in); err != nil {
		return assigned{}, err
	}
	id := assigned{Type: in.identityType()}
	var detail identityResource
	switch {
	case in.Identity == nil:
	case len(in.Identity.UserAssignedIdentities) > 0:
		for resource, known := range in.Identity.UserAssignedIdentities {
			id.ID, id.PrincipalID, id.ClientID = resource, known.PrincipalID, known.ClientID
		}
		_, err := a.call(ctx, http.MethodGet, idPath(id.ID), apiVersion(identityVersion), nil, &detail)
		var gone *failure
		if errors.As(err, &gone) && gone.code == exitNotFound {
			return id, nil // deleted while assigned; what the instance knows is all there is
		} else if err != nil {
			return assigned{}, err
		}
		id.TenantID = detail.Properties.TenantID
	case in.Identity.PrincipalID != "":
		if _, err := a.call(ctx, http.MethodGet, path+"/providers/Microsoft.ManagedIdentity/identities/default", apiVersion(identityVersion), nil, &detail); err != nil {
			return assigned{}, err
		}
		id.ID, id.PrincipalID, id.TenantID, id.ClientID = detail.ID, in.Identity.PrincipalID, in.Identity.TenantID, detail.Properties.ClientID
	}
	return id, nil
}

func printAssigned(s *stdio, asJSON bool, id assigned) error {
	return s.print(asJSON, id, func(w io.Writer) {
		row(w, "type", id.Type)
		if id.Type == "None" {
			return
		}
		row(w, "principal id", id.PrincipalID)
		row(w, "client id", id.ClientID)
		row(w, "tenant id", id.TenantID)
		row(w, "id", id.ID)
	})
}

type identityShowCmd struct {
	instanceFlags
	jsonFlag
}

func (identityShowCmd) Help() string {
	return `An event handler allows its caller by principal id (claim oid) or client id (claim appid or azp).

Example:

    tabard identity show
    tabard identity show --json | jq -r .principalId` + identityWords
}

func (c *identityShowCmd) Run(ctx context.Context, s *stdio) error {
	a, path, err := c.connect(ctx, s)
	if err != nil {
		return err
	}
	id, err := a.identityOf(ctx, path)
	if err != nil {
		return err
	}
	return printAssigned(s, c.JSON, id)
}

type identityAssignCmd struct {
	instanceFlags
	jsonFlag
	System bool   `help:"The system-assigned identity: made for this instance, deleted with it."`
	User   string `help:"A user-assigned identity, by name or ARM id." placeholder:"NAME_OR_RESOURCE_ID"`
}

func (identityAssignCmd) Help() string {
	return `An instance has one managed identity at a time: assigning one takes the place of the other. Tokens of the old identity are not used any more, from the next event on.

Example:

    tabard identity assign --system
    tabard identity create orders-identity
    tabard identity assign --user orders-identity` + identityWords
}

// Validate finds a choice of none or both.
func (c *identityAssignCmd) Validate() error {
	switch {
	case c.System && c.User != "":
		return errors.New("an instance has one managed identity: give --system or --user, not both")
	case !c.System && c.User == "":
		return errors.New("which identity? give --system or --user NAME_OR_RESOURCE_ID")
	}
	return nil
}

func (c *identityAssignCmd) Run(ctx context.Context, s *stdio) error {
	a, path, err := c.connect(ctx, s)
	if err != nil {
		return err
	}
	identity := map[string]any{"type": "SystemAssigned"}
	if !c.System {
		resource, err := a.userAssignedIdentity(ctx, c.User)
		if err != nil {
			return err
		}
		identity = map[string]any{"type": "UserAssigned", "userAssignedIdentities": map[string]any{resource.ID: struct{}{}}}
	}
	if _, err := a.call(ctx, http.MethodPatch, path, apiVersion(armVersion), map[string]any{"identity": identity}, nil); err != nil {
		return err
	}
	id, err := a.identityOf(ctx, path)
	if err != nil {
		return err
	}
	return printAssigned(s, c.JSON, id)
}

type identityRemoveCmd struct{ instanceFlags }

func (identityRemoveCmd) Help() string {
	return `Events for handlers that want a token then fail: nothing is sent without it. A system-assigned identity is deleted, and assigning it again gives it new ids; a user-assigned one lives on as a resource.

Example:

    tabard identity remove` + identityWords
}

func (c *identityRemoveCmd) Run(ctx context.Context, s *stdio) error {
	a, path, err := c.connect(ctx, s)
	if err != nil {
		return err
	}
	body := map[string]any{"identity": map[string]any{"type": "None"}}
	if _, err := a.call(ctx, http.MethodPatch, path, apiVersion(armVersion), body, nil); err != nil {
		return err
	}
	s.note("instance %s has no managed identity", c.Instance)
	return nil
}

func (a *admin) userAssignedIdentities(ctx context.Context) ([]json.RawMessage, error) {
	path, err := a.subscriptionPath(ctx, userAssigned)
	if err != nil {
		return nil, err
	}
	return a.list(ctx, path, apiVersion(identityVersion))
}

// userAssignedIdentity finds one by name or ARM id.
func (a *admin) userAssignedIdentity(ctx context.Context, name string) (identityResource, error) {
	var r identityResource
	if isResourceID(name) {
		_, err := a.call(ctx, http.MethodGet, idPath(name), apiVersion(identityVersion), nil, &r)
		return r, err
	}
	all, err := a.userAssignedIdentities(ctx)
	if err != nil {
		return r, err
	}
	raw, ok := find(all, name)
	if !ok {
		return r, fail(exitNotFound, "`tabard identity list` shows what there is, `tabard identity create "+name+"` creates it",
			"there is no user-assigned identity %q", name)
	}
	return r, json.Unmarshal(raw, &r)
}

// created is a user-assigned identity as identity create and list print it.
type created struct {
	ID          string `json:"id"`
	Name        string `json:"name"`
	ClientID    string `json:"clientId"`
	PrincipalID string `json:"principalId"`
	TenantID    string `json:"tenantId"`
}

func (r *identityResource) plain() created {
	return created{ID: r.ID, Name: r.Name, ClientID: r.Properties.ClientID, PrincipalID: r.Properties.PrincipalID, TenantID: r.Properties.TenantID}
}

type identityCreateCmd struct {
	adminFlags
	jsonFlag
	Name          string `arg:"" help:"Name of the identity."`
	ResourceGroup string `help:"Resource group." default:"default" placeholder:"NAME"`
	Location      string `help:"Location; only stored." default:"local" placeholder:"NAME"`
}

func (identityCreateCmd) Help() string {
	return `A user-assigned identity is a resource of its own: several instances may have it, and it outlives them. One that exists already is shown as it is.

Example:

    tabard identity create orders-identity
    tabard identity assign --user orders-identity` + identityWords
}

func (c *identityCreateCmd) Run(ctx context.Context, s *stdio) error {
	a, err := c.open(s)
	if err != nil {
		return err
	}
	group, err := a.groupPath(ctx, c.ResourceGroup, userAssigned)
	if err != nil {
		return err
	}
	var r identityResource
	if _, err := a.call(ctx, http.MethodPut, group+"/"+url.PathEscape(c.Name), apiVersion(identityVersion), map[string]any{"location": c.Location}, &r); err != nil {
		return err
	}
	id := r.plain()
	return s.print(c.JSON, id, func(w io.Writer) {
		row(w, "name", id.Name)
		row(w, "id", id.ID)
		row(w, "principal id", id.PrincipalID)
		row(w, "client id", id.ClientID)
		row(w, "tenant id", id.TenantID)
	})
}

type identityListCmd struct {
	adminFlags
	jsonFlag
}

func (identityListCmd) Help() string {
	return `System-assigned identities are not resources; tabard identity show shows an instance's.

Example:

    tabard identity list` + identityWords
}

func (c *identityListCmd) Run(ctx context.Context, s *stdio) error {
	a, err := c.open(s)
	if err != nil {
		return err
	}
	all, err := a.userAssignedIdentities(ctx)
	if err != nil {
		return err
	}
	items, err := itemsOf[identityResource](all)
	if err != nil {
		return err
	}
	list := make([]created, len(items))
	for i := range items {
		list[i] = items[i].plain()
	}
	return s.print(c.JSON, map[string]any{"value": list}, func(w io.Writer) {
		row(w, "NAME", "PRINCIPAL ID", "CLIENT ID", "ID")
		for _, id := range list {
			row(w, id.Name, id.PrincipalID, id.ClientID, id.ID)
		}
	})
}

type identityDeleteCmd struct {
	adminFlags
	Name string `arg:"" help:"Name or ARM id."`
}

func (identityDeleteCmd) Help() string {
	return `As in Azure it may be deleted while it is assigned; events that need its token then fail with a reason.

Example:

    tabard identity delete orders-identity` + identityWords
}

func (c *identityDeleteCmd) Run(ctx context.Context, s *stdio) error {
	a, err := c.open(s)
	if err != nil {
		return err
	}
	r, err := a.userAssignedIdentity(ctx, c.Name)
	if err != nil {
		return err
	}
	if err := a.remove(ctx, idPath(r.ID), identityVersion, "user-assigned identity", c.Name); err != nil {
		return err
	}
	s.note("user-assigned identity %s is deleted", r.Name)
	return nil
}
