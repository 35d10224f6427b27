package eventhandler

import (
	"encoding/base64"
	"encoding/json"
	"net/http"
	"regexp"
	"strings"
)

// maxClaims bounds a claims challenge, in bytes of its header.
const maxClaims = 4 << 10

var (
	insufficientClaims = regexp.MustCompile(`(?i)\berror="insufficient_claims"`)
	challengedClaims   = regexp.MustCompile(`(?i)\bclaims="([A-Za-z0-9+/_=-]+)"`)
)

// claimsChallenge is what a handler's 401 demands of the next token (identity.md 7.5): a JSON object, or "" for nothing
// that could be understood.
func claimsChallenge(a *answer) string {
	if a.status != http.StatusUnauthorized {
		return ""
	}
	for _, header := range a.header.Values("WWW-Authenticate") {
		found := challengedClaims.FindStringSubmatch(header)
		if len(header) > maxClaims || found == nil || !insufficientClaims.MatchString(header) {
			continue
		}
		encoded := strings.NewReplacer("-", "+", "_", "/", "=", "").Replace(found[1])
		claims, err := base64.RawStdEncoding.DecodeString(encoded)
		if err == nil && len(claims) > 0 && claims[0] == '{' && json.Valid(claims) {
			return string(claims)
		}
	}
	return ""
}
