package tokenservice

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/go-jose/go-jose/v4"

	"tabard/internal/directory"
	"tabard/internal/identity"
)

// claims are those of an app-only access token (identity.md 5.2), in the order in which Azure's samples
// show them. What a version does not have stays empty.
type claims struct {
	Aud      string   `json:"aud"`
	Iss      string   `json:"iss"`
	Iat      int64    `json:"iat"`
	Nbf      int64    `json:"nbf"`
	Exp      int64    `json:"exp"`
	Aio      string   `json:"aio"`
	AppID    string   `json:"appid,omitempty"`
	AppIDACR string   `json:"appidacr,omitempty"`
	Azp      string   `json:"azp,omitempty"`
	AzpACR   string   `json:"azpacr,omitempty"`
	Idp      string   `json:"idp,omitempty"`
	Idtyp    string   `json:"idtyp"`
	Oid      string   `json:"oid"`
	Rh       string   `json:"rh"`
	Roles    []string `json:"roles,omitempty"`
	Sub      string   `json:"sub"`
	Tid      string   `json:"tid"`
	Uti      string   `json:"uti"`
	Ver      string   `json:"ver"`
	XmsAzRid string   `json:"xms_az_rid,omitempty"`
	XmsMirid string   `json:"xms_mirid,omitempty"`
}

// A subject is who a token speaks for and how it proved that.
type subject struct {
	principal directory.ServicePrincipal
	acr       string // "1" secret, "2" certificate, assertion or managed identity
	mirid     string // ARM id behind a managed identity
	azRID     string // ARM id of the instance that uses a user-assigned identity
}

// Token issues a token for a managed identity of the directory: the embedded [identity.Source]. Everything
// that the token says of the identity comes from the directory, not from p. Errors are *identity.Error, or ctx's.
func (s *Service) Token(ctx context.Context, p identity.Principal, resource string) (*identity.Token, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	sub, err := s.managedIdentity(p)
	if err != nil {
		return nil, err.identity()
	}
	tok, err := s.issue(sub, resource, s.opt.Lifetime)
	if err != nil {
		return nil, err.identity()
	}
	return tok, nil
}

func (s *Service) managedIdentity(p identity.Principal) (subject, *refusal) {
	tenant := s.directory.TenantID()
	if p.TenantID != tenant {
		return subject{}, refuse(codeTenantNotFound, "Tenant '%.100s' not found. This service issues for tenant '%s' only.", p.TenantID, tenant)
	}
	sp, ok := s.directory.ServicePrincipal(p.PrincipalID)
	resourceID, explicit, managed := sp.ManagedIdentity()
	if !ok || !managed || sp.AppID != p.ClientID || explicit == p.System {
		return subject{}, refuse(codeClientNotFound, "Application with identifier '%.100s' was not found in the directory '%s'. The managed identity (object id '%.100s') does not exist or has been deleted; switch the identity on, or assign another.", p.ClientID, tenant, p.PrincipalID)
	}
	sub := subject{principal: sp, acr: "2", mirid: resourceID}
	if explicit {
		sub.azRID = p.HostResourceID
	}
	return sub, nil
}

// issue signs a token for a resource as it was asked for.
func (s *Service) issue(sub subject, resource string, lifetime time.Duration) (*identity.Token, *refusal) {
	if !sub.principal.AccountEnabled {
		return nil, refuse(codeClientDisabled, "Application '%s'(%s) is disabled.", sub.principal.AppID, sub.principal.DisplayName)
	}
	target, r := s.resolve(resource)
	if r != nil {
		return nil, r
	}
	var roles []string
	if target.Principal != nil {
		var assigned bool
		roles, assigned = s.directory.Roles(sub.principal.ID, target.Principal.ID)
		if target.Principal.AppRoleAssignmentRequired && !assigned {
			return nil, refuse(codeNotAssigned, "Application '%s'(%s) is not assigned to a role for the application '%s'(%s).", sub.principal.AppID, sub.principal.DisplayName, target.AppID, target.Name)
		}
	}
	a, err := s.authority()
	if err != nil {
		var r *refusal
		errors.As(err, &r)
		return nil, r
	}
	now := s.now()
	c := claims{
		Iat: now.Add(-skew).Unix(), Nbf: now.Add(-skew).Unix(), Exp: now.Add(lifetime).Unix(),
		Iss: a.issuer(target.TokenVersion, s.directory.TenantID()),
		Aio: opaque(30), Rh: "1." + opaque(30) + ".", Uti: opaque(16),
		Idtyp: "app", Oid: sub.principal.ID, Sub: sub.principal.ID, Tid: s.directory.TenantID(),
		Roles: roles, XmsMirid: sub.mirid, XmsAzRid: sub.azRID,
	}
	if target.TokenVersion == 2 {
		c.Ver, c.Aud, c.Azp, c.AzpACR = "2.0", target.AppID, sub.principal.AppID, sub.acr
	} else {
		c.Ver, c.Aud, c.AppID, c.AppIDACR, c.Idp = "1.0", resource, sub.principal.AppID, sub.acr, c.Iss
		if resource == "" {
			c.Aud = directory.Graph
		}
	}
	raw, err := s.keys.Load().active.sign(c, target)
	if err != nil {
		return nil, &refusal{code: codeTransient, text: "the token could not be signed", cause: err}
	}
	s.log.Debug("token issued", "uti", c.Uti, "aud", c.Aud, "oid", c.Oid, "ver", c.Ver, "exp", c.Exp, "graph", target.Graph)
	var refresh time.Time
	if lifetime > 2*time.Hour {
		refresh = now.Add(lifetime / 2)
	}
	return identity.NewToken(raw, time.Unix(c.Nbf, 0), time.Unix(c.Exp, 0), refresh), nil
}

// resolve finds the resource, or says in Entra's words why not, naming what was looked up.
func (s *Service) resolve(resource string) (directory.Resource, *refusal) {
	target, err := s.directory.ResolveResource(resource)
	var unknown *directory.ResourceNotFoundError
	switch {
	case errors.As(err, &unknown):
		return target, &refusal{code: codeResourceNotFound, cause: err, text: fmt.Sprintf("The resource principal named %s was not found in the tenant named %s. This can happen if no application registers it, or if the wrong tenant is asked. Looked up: %s.", unknown.Resource, s.directory.TenantID(), err)}
	case err != nil:
		return target, &refusal{code: codeResourceInvalid, cause: err, text: fmt.Sprintf("The resource is not valid: %v.", err)}
	case target.Principal != nil && !target.Principal.AccountEnabled:
		return target, refuse(codeResourceInvalid, "The application named %s was found in the tenant named %s, but its service principal is disabled.", resource, s.directory.TenantID())
	}
	return target, nil
}

// sign makes the compact token.
func (k signer) sign(c claims, target directory.Resource) (string, error) {
	payload, err := json.Marshal(c)
	if err != nil {
		return "", err
	}
	signer := k.v1
	switch {
	case target.Graph:
		return k.signForGraph(payload)
	case target.TokenVersion == 2:
		signer = k.v2
	}
	signed, err := signer.Sign(payload)
	if err != nil {
		return "", err
	}
	return signed.CompactSerialize()
}

// signForGraph makes a token that nobody but Microsoft Graph could verify (identity.md 5.5): its header shows
// a nonce, and the signature is one over the header with the nonce's SHA-256 in its place. Receivers must
// not learn to accept tokens that are not for them.
func (k signer) signForGraph(payload []byte) (string, error) {
	nonce := opaque(32)
	hash := sha256.Sum256([]byte(nonce))
	encode := base64.RawURLEncoding.EncodeToString
	signer, err := k.with(map[jose.HeaderKey]any{"x5t": k.kid, "nonce": encode(hash[:])})
	if err != nil {
		return "", err
	}
	signed, err := signer.Sign(payload)
	if err != nil {
		return "", err
	}
	header, err := json.Marshal(struct {
		Typ   string `json:"typ"`
		Nonce string `json:"nonce"`
		Alg   string `json:"alg"`
		X5t   string `json:"x5t"`
		Kid   string `json:"kid"`
	}{"JWT", nonce, string(jose.RS256), k.kid, k.kid})
	if err != nil {
		return "", err
	}
	return encode(header) + "." + encode(payload) + "." + encode(signed.Signatures[0].Signature), nil
}

// opaque returns n random bytes as base64url.
func opaque(n int) string {
	b := make([]byte, n)
	rand.Read(b) // never fails
	return base64.RawURLEncoding.EncodeToString(b)
}
