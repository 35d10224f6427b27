package tokenservice

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"time"

	"tabard/internal/directory"
	"tabard/internal/store"
)

// headers are the secrets of the App Service protocol, one per user-assigned identity that was ever asked for. They are
// sealed in the store and can be shown again, since each new process needs it.
type headers struct {
	stored *store.Collection[identityHeader] // by lower-cased ARM id
	byHash atomic.Pointer[map[[sha256.Size]byte]identityHeader]
}

type identityHeader struct {
	ResourceID string `json:"resourceId"`
	// PrincipalID ends the secret with the identity: one that is created anew under the old name has another.
	PrincipalID string    `json:"principalId"`
	Secret      string    `json:"secret"`
	Created     time.Time `json:"created"`
}

func openHeaders(ctx context.Context, st *store.Store) (*headers, error) {
	c, err := store.OpenCollection[identityHeader](ctx, st, "identity-headers", store.Schema{Version: 1})
	if err != nil {
		return nil, err
	}
	h := &headers{stored: c}
	c.OnChange(func([]string) { h.index() })
	h.index()
	return h, nil
}

// index hashes the secrets: a lookup by hash takes the same time whatever is presented.
func (h *headers) index() {
	all := h.stored.All()
	byHash := make(map[[sha256.Size]byte]identityHeader, len(all))
	for _, item := range all {
		byHash[sha256.Sum256([]byte(item.Value.Secret))] = item.Value
	}
	h.byHash.Store(&byHash)
}

// owner is the identity that the secret belongs to, if that still exists.
func (h *headers) owner(secret string, d *directory.Directory) (directory.UserAssignedIdentity, bool) {
	found, ok := (*h.byHash.Load())[sha256.Sum256([]byte(secret))]
	if !ok || subtle.ConstantTimeCompare([]byte(found.Secret), []byte(secret)) != 1 {
		return directory.UserAssignedIdentity{}, false
	}
	u, ok := d.UserAssignedIdentity(found.ResourceID)
	return u, ok && u.PrincipalID == found.PrincipalID
}

// EnvOptions say what EnvFor is for.
type EnvOptions struct {
	// Rotate makes a new secret; programs that hold the old one are refused from then on.
	Rotate bool
	// FederatedTokenFile asks for the variables of workload identity instead: the program then presents the token in
	// this file, of an issuer that a federated credential of the identity trusts.
	FederatedTokenFile string
}

// EnvFor returns the environment variables with which a program on this host gets tokens of the user-assigned identity,
// through DefaultAzureCredential or ManagedIdentityCredential and without a change of its code. They hold a secret.
// directory.ErrNotFound: there is no such identity.
func (s *Service) EnvFor(ctx context.Context, resourceID string, opt EnvOptions) (map[string]string, error) {
	u, ok := s.directory.UserAssignedIdentity(resourceID)
	if !ok {
		return nil, fmt.Errorf("user-assigned identity %.300q: %w", resourceID, directory.ErrNotFound)
	}
	a, err := s.authority()
	if err != nil {
		return nil, err
	}
	env := map[string]string{"AZURE_CLIENT_ID": u.ClientID, "AZURE_TENANT_ID": u.TenantID, "AZURE_AUTHORITY_HOST": a.origin + "/"}
	if opt.FederatedTokenFile != "" {
		env["AZURE_FEDERATED_TOKEN_FILE"] = opt.FederatedTokenFile
		return env, nil
	}
	if s.opt.WorkloadOrigin == nil {
		return nil, errors.New("this service has no address for workloads")
	}
	secret, err := s.headers.secret(ctx, u, opt.Rotate, s.now())
	if err != nil {
		return nil, fmt.Errorf("user-assigned identity %q: %w", u.Name, err)
	}
	env["IDENTITY_ENDPOINT"], env["IDENTITY_HEADER"] = s.opt.WorkloadOrigin()+appServicePath, secret
	return env, nil
}

// secret returns the identity's, made if there is none for this principal, or if a new one is wanted.
func (h *headers) secret(ctx context.Context, u directory.UserAssignedIdentity, rotate bool, now time.Time) (string, error) {
	key := strings.ToLower(u.ID)
	for range tries {
		item, exists := h.stored.Get(key)
		if exists && !rotate && item.Value.PrincipalID == u.PrincipalID {
			return item.Value.Secret, nil
		}
		var b [32]byte
		rand.Read(b[:]) // never fails
		made := identityHeader{ResourceID: u.ID, PrincipalID: u.PrincipalID, Secret: base64.RawURLEncoding.EncodeToString(b[:]), Created: now}
		var err error
		if exists {
			_, err = h.stored.Update(ctx, key, made, item.Revision)
		} else {
			_, err = h.stored.Create(ctx, key, made)
		}
		switch {
		case err == nil:
			return made.Secret, nil
		case !errors.Is(err, store.ErrConflict) && !errors.Is(err, store.ErrExists) && !errors.Is(err, store.ErrNotFound):
			return "", err
		}
		rotate = rotate && exists // another process made one a moment ago: that is new enough
	}
	return "", store.ErrConflict
}

// forgetDeleted removes the secrets of identities that are gone, so that they do not gather.
func (h *headers) forgetDeleted(ctx context.Context, d *directory.Directory) error {
	for key, item := range h.stored.All() {
		u, ok := d.UserAssignedIdentity(item.Value.ResourceID)
		if ok && u.PrincipalID == item.Value.PrincipalID {
			continue
		}
		err := h.stored.Delete(ctx, key, item.Revision)
		if err != nil && !errors.Is(err, store.ErrNotFound) && !errors.Is(err, store.ErrConflict) {
			return err
		}
	}
	return nil
}
