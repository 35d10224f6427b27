package guard

import (
	"encoding/base64"
	"encoding/json"
	"net/http"
	"strings"
)

// The headers by which App Service authentication tells an application who
// calls (identity.md 9.5).
const (
	principalHeader     = "X-Ms-Client-Principal"
	principalIDHeader   = "X-Ms-Client-Principal-Id"
	principalNameHeader = "X-Ms-Client-Principal-Name"
	principalIDPHeader  = "X-Ms-Client-Principal-Idp"
)

// stripPrincipal removes every header that an application could take for one of
// the platform's. Many servers make variables of header names, in which a hyphen
// and an underscore, and sometimes any other sign, become the same.
func stripPrincipal(h http.Header) {
	for name := range h {
		plain := strings.Map(func(r rune) rune {
			switch {
			case r >= 'A' && r <= 'Z':
				return r + 'a' - 'A'
			case r >= 'a' && r <= 'z', r >= '0' && r <= '9':
				return r
			}
			return '-'
		}, name)
		if strings.HasPrefix(plain, "x-ms-client-principal") || strings.HasPrefix(plain, "x-ms-token-") {
			delete(h, name)
		}
	}
}

// longNames are claim types as App Service and .NET spell them. Applications
// have been written for either spelling, so they get both.
var longNames = map[string]string{
	"oid": "http://schemas.microsoft.com/identity/claims/objectidentifier",
	"tid": "http://schemas.microsoft.com/identity/claims/tenantid",
	"idp": "http://schemas.microsoft.com/identity/claims/identityprovider",
	"sub": "http://schemas.xmlsoap.org/ws/2005/05/identity/claims/nameidentifier",
}

// principalRoles is the type of role claims, principalName that of the name,
// which for an application is its client id.
const principalRoles = "roles"

type principalClaim struct {
	Type  string `json:"typ"`
	Value string `json:"val"`
}

// setPrincipal adds the headers for a verified caller.
func setPrincipal(h http.Header, c *Claims) {
	h.Set(principalHeader, c.principal())
	h.Set(principalIDHeader, c.ObjectID)
	h.Set(principalNameHeader, c.AppID)
	h.Set(principalIDPHeader, "aad")
}

// principal is the value of X-MS-CLIENT-PRINCIPAL.
func (c *Claims) principal() string {
	name := "appid"
	if c.Version == "2.0" {
		name = "azp"
	}
	body := struct {
		AuthType string           `json:"auth_typ"`
		Claims   []principalClaim `json:"claims"`
		NameType string           `json:"name_typ"`
		RoleType string           `json:"role_typ"`
	}{"aad", nil, name, principalRoles}
	members, _ := scanObject(string(c.Raw)) // it has been read before
	for _, m := range members {
		values, isList := jsonStrings(m.value)
		if !isList {
			value, isText := jsonString(m.value)
			if !isText {
				value = m.value // a number or an object, as it stands
			}
			values = []string{value}
		}
		for _, v := range values {
			body.Claims = append(body.Claims, principalClaim{m.name, v})
			if long := longNames[m.name]; long != "" {
				body.Claims = append(body.Claims, principalClaim{long, v})
			}
		}
	}
	text, _ := json.Marshal(body) // strings always encode
	return base64.StdEncoding.EncodeToString(text)
}
