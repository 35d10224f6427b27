package tabard

import (
	"context"
	"fmt"

	"tabard/internal/eventhandler"
	"tabard/internal/hub"
	"tabard/internal/identity"
	"tabard/internal/settings"
)

// token obtains an access token for the resource as the instance's one managed identity.
func (s *Server) token(ctx context.Context, in *settings.Instance, resource string) (*identity.Token, error) {
	p, err := s.principal(in)
	if err != nil {
		return nil, err
	}
	return s.identity.Token(ctx, p, resource)
}

// tokenRejected hears that a handler refused the token.
func (s *Server) tokenRejected(in *settings.Instance, resource string, t *identity.Token, claims string) {
	if p, err := s.principal(in); err == nil {
		s.identity.Reject(p, resource, t, claims)
	}
}

// principal is the instance's managed identity. The error wraps eventhandler.ErrNoIdentity and says what is missing.
func (s *Server) principal(in *settings.Instance) (identity.Principal, error) {
	if source := in.Source(); source != nil {
		return sourcePrincipal(in, source), nil
	}
	switch id := in.Identity; id.Type {
	case settings.IdentitySystemAssigned:
		return identity.Principal{
			TenantID: s.directory.TenantID(), PrincipalID: id.PrincipalID, ClientID: id.ClientID, ResourceID: in.ResourceID(), System: true,
		}, nil
	case settings.IdentityUserAssigned:
		u, ok := s.directory.UserAssignedIdentity(id.UserAssigned)
		if !ok {
			return identity.Principal{}, fmt.Errorf("%w: the user-assigned identity %s does not exist any more", eventhandler.ErrNoIdentity, id.UserAssigned)
		}
		return identity.Principal{
			TenantID: s.directory.TenantID(), PrincipalID: u.PrincipalID, ClientID: u.ClientID, ResourceID: u.ID, HostResourceID: in.ResourceID(),
		}, nil
	}
	return identity.Principal{}, eventhandler.ErrNoIdentity
}

// settingsChanged drops what is cached about identities that an instance no longer has, and ends deleted instances.
func (s *Server) settingsChanged(old, new *settings.Snapshot) {
	s.sources.forget(new)
	for _, was := range old.Instances() {
		is, ok := new.Instance(was.Name)
		if !ok {
			s.hubs.CloseInstance(was.Name, hub.ClosePolicy, "The service was deleted")
			s.trace.Forget(was.Name)
		} else if is.Stopped && !was.Stopped {
			s.hubs.CloseInstance(was.Name, hub.ClosePolicy, "The service was stopped")
		}
		if was.Source() != nil && (!ok || is.Source() == nil || *is.Source() != *was.Source()) {
			s.identity.Flush(was.ResourceID())
		}
		if ok && is.Identity == was.Identity {
			continue
		}
		if was.Identity.PrincipalID != "" {
			s.identity.Flush(was.Identity.PrincipalID)
		}
		if u, found := s.directory.UserAssignedIdentity(was.Identity.UserAssigned); found {
			s.identity.Flush(u.PrincipalID)
		}
	}
	s.secrets.Changed(old, new)
}

// directoryChanged drops all cached tokens: an application may ask for another version now, a role may have been
// assigned, a principal may be gone. Changes are rare and a token is one signature away. Secrets are read again for the
// same reason.
func (s *Server) directoryChanged() {
	s.identity.FlushAll()
	s.secrets.IdentitiesChanged()
}
