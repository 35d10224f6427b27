package arm

import (
	"context"
	"encoding/json"
	"errors"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"tabard/internal/directory"
	"tabard/internal/settings"
)

// An identityChoice is what a request wants the instance's managed identity to be.
type identityChoice struct {
	kind         settings.IdentityType
	userAssigned string // ARM id, as given
}

// parseIdentity reads an identity and enforces the rule that there is only one. Entries of userAssignedIdentities
// that are null count as removed. Faults of form go to d.
func parseIdentity(d *reader, raw json.RawMessage) (*identityChoice, error) {
	o := d.object("identity", raw, "type", "userAssignedIdentities")
	given := d.text("identity.type", o["type"])
	entries := d.object("identity.userAssignedIdentities", o["userAssignedIdentities"])
	ids := slices.Sorted(maps.Keys(entries))
	for _, id := range ids {
		d.object("identity.userAssignedIdentities."+id, entries[id])
	}
	if len(d.faults) > 0 {
		return nil, nil
	}
	choice := &identityChoice{}
	for _, kind := range []settings.IdentityType{settings.IdentityNone, settings.IdentitySystemAssigned, settings.IdentityUserAssigned} {
		if strings.EqualFold(given, string(kind)) {
			choice.kind = kind
		}
	}
	switch {
	case choice.kind == "" && given == "":
		return nil, oneIdentity("identity.type is required.")
	case choice.kind == "":
		return nil, oneIdentity("The identity type %q is none of None, SystemAssigned, UserAssigned.", given)
	case choice.kind != settings.IdentityUserAssigned && len(ids) > 0:
		return nil, oneIdentity("The identity type %s takes no userAssignedIdentities, but %d were given.", choice.kind, len(ids))
	case choice.kind == settings.IdentityUserAssigned && len(ids) != 1:
		return nil, oneIdentity("The identity type UserAssigned takes exactly one entry of userAssignedIdentities, but %d were given.", len(ids))
	case choice.kind == settings.IdentityUserAssigned:
		choice.userAssigned = ids[0]
	}
	return choice, nil
}

// identity is the identity of an instance as it is answered. A user-assigned identity that was deleted meanwhile has
// no ids any more.
func (s *server) identity(in *settings.Instance) map[string]any {
	id := map[string]any{"type": in.Identity.Type}
	switch in.Identity.Type {
	case settings.IdentitySystemAssigned:
		id["principalId"], id["tenantId"] = in.Identity.PrincipalID, in.Identity.TenantID
	case settings.IdentityUserAssigned:
		entry := map[string]string{}
		if u, ok := s.Directory.UserAssignedIdentity(in.Identity.UserAssigned); ok {
			entry["principalId"], entry["clientId"] = u.PrincipalID, u.ClientID
		}
		id["userAssignedIdentities"] = map[string]any{in.Identity.UserAssigned: entry}
	}
	return id
}

// withIdentity performs a write of an instance that may change its identity, keeping directory and settings in step.
// write gets the function that sets the identity on the instance before it is stored.
//
// The order makes every moment safe: the system-assigned principal exists before an instance names it, and is deleted
// only after no instance names it any more. If the write fails, a principal made for it is deleted again. Writes take
// turns, since a principal that no instance names yet looks like one that a crash left behind.
//
// Who may edit an instance may not for that reason make it speak for any identity: giving it another user-assigned one
// needs the action to assign that, too.
func (s *server) withIdentity(ctx context.Context, c *call, want *identityChoice, write func(assign func(*settings.Instance) error) (*settings.Instance, error)) (*settings.Instance, error) {
	if want == nil {
		return write(func(*settings.Instance) error { return nil })
	}
	select {
	case s.turn <- struct{}{}:
		defer func() { <-s.turn }()
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	var refused error
	if want.kind == settings.IdentityUserAssigned {
		refused = s.linked(c, want.userAssigned, "assign")
	}
	var (
		made    *directory.ServicePrincipal
		dropped string // the principal that the stored write takes away
	)
	in, err := write(func(in *settings.Instance) (err error) {
		dropped = ""
		old := in.Identity
		switch want.kind {
		case settings.IdentitySystemAssigned:
			if old.Type == settings.IdentitySystemAssigned {
				return nil // stable across updates
			}
			if made == nil {
				if made, err = s.makePrincipal(ctx, in); err != nil {
					return err
				}
			}
			in.Identity = settings.Identity{
				Type: settings.IdentitySystemAssigned, PrincipalID: made.ID, ClientID: made.AppID, TenantID: s.Directory.TenantID(),
			}
		case settings.IdentityUserAssigned:
			if refused != nil && !strings.EqualFold(old.UserAssigned, want.userAssigned) {
				return refused
			}
			if _, ok := s.Directory.UserAssignedIdentity(want.userAssigned); !ok {
				return identityUnknown(want.userAssigned)
			}
			in.Identity = settings.Identity{Type: settings.IdentityUserAssigned, UserAssigned: want.userAssigned}
		default:
			in.Identity = settings.Identity{Type: settings.IdentityNone}
		}
		if old.Type == settings.IdentitySystemAssigned {
			dropped = old.PrincipalID
		}
		return nil
	})
	switch {
	case err != nil && made != nil && !s.named(made.ID): // an uncertain write may have been stored all the same
		s.dropPrincipal(ctx, made.ID)
	case err == nil && dropped != "":
		s.dropPrincipal(ctx, dropped)
	}
	return in, err
}

// linked is the refusal of a caller who may not do an action on another resource that the request names, or nil.
func (s *server) linked(c *call, resource, action string) error {
	if s.Authorize == nil {
		return errors.New("nobody is authorised here")
	}
	other := c.r.Clone(c.r.Context())
	other.Method, other.URL = http.MethodPost, &url.URL{Path: resource + "/" + action}
	err := s.Authorize(other)
	var refused *Refusal
	if errors.As(err, &refused) && refused.Status == http.StatusForbidden {
		return linkedAuthorizationFailed(refused.Message)
	}
	return err
}

// makePrincipal creates the system-assigned principal of an instance. One that is there already was left by a crash
// between two steps: enabling an identity gives new ids, never somebody's old rights, so it is deleted first.
func (s *server) makePrincipal(ctx context.Context, in *settings.Instance) (*directory.ServicePrincipal, error) {
	if stale, ok := s.Directory.ManagedIdentity(in.ResourceID(), false); ok && !s.named(stale.ID) {
		if err := s.Directory.DeleteServicePrincipal(ctx, stale.ID); err != nil && !errors.Is(err, directory.ErrNotFound) {
			return nil, err
		}
	}
	p, err := s.Directory.CreateManagedIdentity(ctx, in.Name, in.ResourceID(), false)
	if err != nil {
		return nil, err
	}
	return &p, nil
}

// named tells whether an instance has the principal as its system-assigned identity.
func (s *server) named(principal string) bool {
	for _, in := range s.Settings.Snapshot().Instances() {
		if in.Identity.PrincipalID == principal {
			return true
		}
	}
	return false
}

// dropPrincipal deletes a principal that no instance names. A failure is not the caller's: nobody gets a token for the
// principal any more, and the next one that is made for the instance removes it.
func (s *server) dropPrincipal(ctx context.Context, id string) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), writeTimeout)
	defer cancel()
	if err := s.Directory.DeleteServicePrincipal(ctx, id); err != nil && !errors.Is(err, directory.ErrNotFound) {
		s.Log.ErrorContext(ctx, "system-assigned identity left behind", "principal", id, "error", err)
	}
}

// getSystemIdentity serves R/providers/Microsoft.ManagedIdentity/identities/default, the only place of ARM that tells
// a system-assigned identity's client id.
func (s *server) getSystemIdentity(c *call) (reply, error) {
	in, err := s.find(c)
	if err != nil {
		return reply{}, err
	}
	const kind = "Microsoft.ManagedIdentity/identities"
	if in.Identity.Type != settings.IdentitySystemAssigned {
		return reply{}, resourceNotFound(kind, "default", in.ResourceGroup)
	}
	return reply{200, map[string]any{
		"id": in.ResourceID() + "/providers/" + kind + "/default", "name": "default", "type": kind, "location": in.Location,
		"properties": map[string]string{"tenantId": in.Identity.TenantID, "principalId": in.Identity.PrincipalID, "clientId": in.Identity.ClientID},
	}}, nil
}
