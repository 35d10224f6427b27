package guard

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"tabard/guard/reason"
)

// The checks of a token whose signature has been verified, in the order of
// identity.md 9.1 steps 6 to 10. Each returns nil or the refusal.

// checkTenant: the tenant id is one, and is allowed. Keys are shared by all
// tenants of an authority, so a good signature says nothing about it.
func (v *Verifier) checkTenant(set *keySet, c *Claims) *Error {
	switch {
	case !isGUID(c.TenantID):
		return refusal(stageTenant, reason.WrongTenant, "the token's tenant (tid) is "+show(c.TenantID)+", which is not a tenant id")
	case len(v.tenants) > 0 && !v.tenants[strings.ToLower(c.TenantID)],
		set.tenant != placeholder && !strings.EqualFold(set.tenant, c.TenantID):
		return refusal(stageTenant, reason.WrongTenant, "the token's tenant (tid) is "+show(c.TenantID)+", which is not allowed")
	}
	return nil
}

// checkVersion: tokens of version 1 and 2 have different issuers; neither passes
// as the other.
func checkVersion(is *issuer, c *Claims) *Error {
	if c.Version != is.version {
		return refusal(stageVersion, reason.IssuerVersion, fmt.Sprintf("the token's version (ver) is %s with issuer %s, want version %q of %s",
			show(c.Version), show(c.Issuer), is.version, is.discovery))
	}
	return nil
}

// checkIssuer: iss is exactly what the discovery document and the tenant make,
// and the key's own issuer agrees (identity.md 3.2). The document of version 1
// publishes keys without issuer or, as Microsoft's own validator expects, with
// the one of version 2.
func checkIssuer(set *keySet, key *signingKey, c *Claims) *Error {
	want := set.expectedIssuer(c.TenantID)
	if c.Issuer != want {
		if set.otherVersion(c.TenantID) == c.Issuer {
			return refusal(stageIssuer, reason.IssuerVersion, fmt.Sprintf("the token's version (ver) is %s, but its issuer is %s, that of the other version; want %s",
				show(c.Version), show(c.Issuer), show(want)))
		}
		return refusal(stageIssuer, reason.IssuerMismatch, "issuer is "+show(c.Issuer)+", want "+show(want))
	}
	if key.issuer == "" {
		return nil
	}
	own := strings.ReplaceAll(key.issuer, placeholder, c.TenantID)
	if own == c.Issuer || c.Version == "1.0" && own == set.otherVersion(c.TenantID) {
		return nil
	}
	return refusal(stageIssuer, reason.KeyIssuerMismatch, "the signing key "+show(key.id)+" belongs to "+show(own)+", the token's issuer is "+show(c.Issuer))
}

// expectedIssuer is the iss of the set's tokens for one tenant.
func (set *keySet) expectedIssuer(tenant string) string {
	return strings.Replace(set.template, placeholder, tenant, 1)
}

// otherVersion is the iss that the same authority's tokens of the other version
// have. For version 1 documents under another host (sts.windows.net) it is
// unknown and guessed for explanations only.
func (set *keySet) otherVersion(tenant string) string {
	base := set.issuer.base.String() + set.issuer.prefix + "/" + tenant + "/"
	if set.issuer.version == "1.0" {
		return base + "v2.0"
	}
	return base
}

func (v *Verifier) checkAudience(c *Claims) *Error {
	if err := c.faultAt(stageAudience); err != nil {
		return err
	}
	if slices.Contains(v.audiences, c.Audience) {
		return nil
	}
	if isGraph(c.Audience) {
		return refusal(stageAudience, reason.AudienceIsGraph, "audience is "+show(c.Audience)+" (Microsoft Graph), want "+showList(v.audiences))
	}
	return refusal(stageAudience, reason.WrongAudience, "audience is "+show(c.Audience)+", want "+showList(v.audiences))
}

func (v *Verifier) checkLifetime(c *Claims) *Error {
	if err := c.faultAt(stageLifetime); err != nil {
		return err
	}
	now := v.now()
	switch {
	case !now.Before(c.Expiry.Add(Skew)):
		return refusal(stageLifetime, reason.Expired, "the token expired "+ago(now.Sub(c.Expiry))+" ago, at "+stamp(c.Expiry))
	case c.NotBefore.After(now.Add(Skew)):
		return refusal(stageLifetime, reason.NotYetValid, "the token is valid in "+ago(c.NotBefore.Sub(now))+", from "+stamp(c.NotBefore))
	case c.IssuedAt.After(now.Add(Skew)):
		return refusal(stageLifetime, reason.ClockSkew, "the token was issued "+ago(c.IssuedAt.Sub(now))+" in the future, at "+stamp(c.IssuedAt)+"; here it is "+stamp(now))
	}
	issued := now
	if !c.IssuedAt.IsZero() && c.IssuedAt.Before(issued) {
		issued = c.IssuedAt
	}
	if life := c.Expiry.Sub(issued); life > v.lifetime+Skew {
		return refusal(stageLifetime, reason.LifetimeTooLong, fmt.Sprintf("the token lives %s, the limit is %s", ago(life), ago(v.lifetime)))
	}
	return nil
}

func stamp(t time.Time) string { return t.UTC().Format(time.RFC3339) }

func ago(d time.Duration) string { return d.Round(time.Second).String() }

// checkKind: only an application's access token passes; not a user's, not an id
// token, which may have this receiver as its audience.
func (v *Verifier) checkKind(c *Claims) *Error {
	if v.users && c.delegated() {
		return nil
	}
	return checkKind(c)
}

// delegated tells whether the token is one that an application got for a user:
// it has a scope, names both, and is no id token.
func (c *Claims) delegated() bool {
	return c.Scopes != "" && !c.nonce && (c.IdentityType == "" || c.IdentityType == "user") && c.AppID != "" && c.ObjectID != ""
}

func checkKind(c *Claims) *Error {
	because := ""
	switch {
	case c.Scopes != "":
		because = "it is a user's (it has scp)"
	case c.nonce:
		because = "it is an id token (it has a nonce)"
	case c.IdentityType != "" && c.IdentityType != "app":
		because = "its idtyp is " + show(c.IdentityType)
	case c.AppID == "":
		because = "it names no client (appid or azp)"
	case c.ObjectID == "":
		because = "it names no caller (oid)"
	case c.IdentityType == "" && c.ObjectID != c.Subject:
		because = "its oid and sub differ, as in a user's"
	default:
		return nil
	}
	return refusal(stageKind, reason.NotAppToken, "the token is not an application's access token: "+because)
}

func (v *Verifier) checkCaller(c *Claims) *Error {
	if len(v.callers) == 0 || v.callers[strings.ToLower(c.ObjectID)] || v.callers[strings.ToLower(c.AppID)] {
		return nil
	}
	return refusal(stageCaller, reason.CallerNotAllowed, "the caller, oid "+show(c.ObjectID)+" with client id "+show(c.AppID)+", is not on the list of allowed callers")
}

func (v *Verifier) checkRoles(c *Claims) *Error {
	if len(v.roles) == 0 || slices.ContainsFunc(v.roles, c.HasRole) {
		return nil
	}
	has := "none"
	if len(c.Roles) > 0 {
		has = showList(c.Roles)
	}
	return refusal(stageRoles, reason.RoleMissing, "the caller's roles are "+has+", want "+showList(v.roles))
}
