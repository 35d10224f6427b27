package guard

import (
	"encoding/json"
	"slices"
	"strings"
	"time"

	"tabard/guard/reason"
)

// Claims are the claims of an access token of the Microsoft identity platform,
// version 1 or 2 (identity.md 5.2). One Claims value may be shared by many
// requests with the same token: treat it as read-only.
type Claims struct {
	Issuer   string // iss
	Audience string // aud
	Subject  string // sub; equal to ObjectID in an application's token
	TenantID string // tid
	ObjectID string // oid: the calling service principal, the best thing to authorise by
	AppID    string // appid (version 1) or azp (version 2): the caller's client id
	Version  string // ver: "1.0" or "2.0"

	IdentityType string   // idtyp: "app", or empty if the issuer does not say
	Scopes       string   // scp: set in a user's token, empty in an application's
	Roles        []string // roles: application roles assigned to the caller

	// ResourceID is xms_mirid, the ARM id of the managed identity's resource. Its
	// letter case varies: compare with strings.EqualFold.
	ResourceID string
	// HostResourceID is xms_az_rid, the ARM id of the resource that used a
	// user-assigned identity; empty for a system-assigned one.
	HostResourceID string
	TokenID        string // uti: unique per token, the key of the issuer's audit log

	IssuedAt  time.Time // iat; zero if absent
	NotBefore time.Time // nbf; zero if absent
	Expiry    time.Time // exp

	// Raw is the token's whole payload, a JSON object.
	Raw json.RawMessage

	nonce bool
	// faults are the claims that cannot be used as they are. They are reported
	// when their turn comes, after the signature: an unsigned token learns
	// nothing but that it is unsigned.
	faults []fault
}

// A fault is what is wrong with the form of one claim.
type fault struct {
	stage   int
	code    reason.Code
	message string
}

// HasRole reports whether the caller was assigned the application role.
func (c *Claims) HasRole(role string) bool { return slices.Contains(c.Roles, role) }

// parseClaims reads a payload. The error is about JSON only; what is wrong with
// single claims is kept in faults.
func parseClaims(payload string) (*Claims, error) {
	members, err := scanObject(payload)
	if err != nil {
		return nil, err
	}
	c := &Claims{Raw: json.RawMessage(payload)}
	var appid, azp string
	hasExp, hasAud := false, false
	for _, m := range members {
		switch m.name {
		case "iss":
			c.text(m, &c.Issuer)
		case "aud":
			hasAud = true
			c.audience(m.value)
		case "sub":
			c.text(m, &c.Subject)
		case "tid":
			c.text(m, &c.TenantID)
		case "oid":
			c.text(m, &c.ObjectID)
		case "appid":
			c.text(m, &appid)
		case "azp":
			c.text(m, &azp)
		case "ver":
			c.text(m, &c.Version)
		case "idtyp":
			c.text(m, &c.IdentityType)
		case "scp":
			c.text(m, &c.Scopes)
		case "xms_mirid":
			c.text(m, &c.ResourceID)
		case "xms_az_rid":
			c.text(m, &c.HostResourceID)
		case "uti":
			c.text(m, &c.TokenID)
		case "roles":
			list, ok := jsonStrings(m.value)
			if !ok {
				c.fault(stageClaims, reason.ClaimInvalid, "claim roles is not a list of strings")
			}
			c.Roles = list
		case "iat":
			c.moment(m, &c.IssuedAt)
		case "nbf":
			c.moment(m, &c.NotBefore)
		case "exp":
			hasExp = true
			c.moment(m, &c.Expiry)
		case "nonce":
			c.nonce = true
		}
	}
	if c.AppID = appid; c.Version == "2.0" || appid == "" {
		c.AppID = azp
	}
	if !hasAud {
		c.fault(stageAudience, reason.WrongAudience, "the token has no audience")
	}
	if !hasExp {
		c.fault(stageLifetime, reason.ExpiryMissing, sentence(reason.ExpiryMissing))
	}
	return c, nil
}

func (c *Claims) fault(stage int, code reason.Code, message string) {
	c.faults = append(c.faults, fault{stage, code, message})
}

// faultAt returns the refusal for the first fault of a stage, or nil.
func (c *Claims) faultAt(stage int) *Error {
	for _, f := range c.faults {
		if f.stage == stage {
			return refusal(f.stage, f.code, f.message)
		}
	}
	return nil
}

func (c *Claims) text(m member, to *string) {
	s, ok := jsonString(m.value)
	if !ok {
		c.fault(stageClaims, reason.ClaimInvalid, "claim "+m.name+" is not a string")
	}
	*to = s
}

func (c *Claims) audience(value string) {
	s, ok := jsonString(value)
	switch {
	case ok:
		c.Audience = s
	case strings.HasPrefix(value, "["):
		c.fault(stageAudience, reason.AudienceIsList, sentence(reason.AudienceIsList))
	default:
		c.fault(stageAudience, reason.ClaimInvalid, "claim aud is not a string")
	}
}

func (c *Claims) moment(m member, to *time.Time) {
	n, ok := jsonSeconds(m.value)
	if !ok {
		c.fault(stageLifetime, reason.ClaimInvalid, "claim "+m.name+" is "+show(m.value)+", not whole seconds since 1970")
		return
	}
	*to = time.Unix(n, 0).UTC()
}

// Microsoft Graph as an audience: its application id and its identifier URIs.
const graphAppID = "00000003-0000-0000-c000-000000000000"

func isGraph(audience string) bool {
	audience = strings.TrimSuffix(strings.ToLower(audience), "/")
	return audience == graphAppID || audience == "https://graph.microsoft.com" || audience == "https://graph.windows.net"
}

// isGUID reports whether s has the form of a tenant, object or client id.
func isGUID(s string) bool {
	if len(s) != 36 {
		return false
	}
	for i := range len(s) {
		c := s[i]
		switch i {
		case 8, 13, 18, 23:
			if c != '-' {
				return false
			}
		default:
			if !(c >= '0' && c <= '9' || c >= 'a' && c <= 'f' || c >= 'A' && c <= 'F') {
				return false
			}
		}
	}
	return true
}
