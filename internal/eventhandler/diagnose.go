package eventhandler

import (
	"net/http"
	"regexp"
	"strings"

	"tabard/guard/reason"
)

// description finds what a challenge says is wrong (RFC 6750, section 3).
var description = regexp.MustCompile(`(?i)\berror_description="([^"]{1,1000})`)

// ofReceivers are the codes with which a guard refuses a request.
var ofReceivers = func() map[reason.Code]bool {
	m := map[reason.Code]bool{}
	for _, r := range reason.All() {
		m[r.Code] = true
		if r.Code == reason.UpstreamUnreachable { // the last of them in the catalogue's order
			return m
		}
	}
	panic("the catalogue has lost its order")
}()

// theirWords are how ASP.NET Core's bearer authentication says what is wrong.
var theirWords = []struct {
	begin string
	code  reason.Code
}{
	{"The audience '", reason.WrongAudience},
	{"The issuer '", reason.IssuerMismatch},
	{"The token expired at", reason.Expired},
	{"The token is not valid before", reason.NotYetValid},
	{"The signature key was not found", reason.UnknownKey},
	{"The signature is invalid", reason.SignatureInvalid},
}

// diagnose reads why a handler refused a token out of its answer's challenge: a guard begins with the code of its
// reason. The words are the handler's claim; they change what is shown, nothing else.
func diagnose(a *answer) (reason.Code, bool) {
	if a == nil || a.status != http.StatusUnauthorized && a.status != http.StatusForbidden {
		return "", false
	}
	for _, challenge := range a.header["Www-Authenticate"] {
		found := description.FindStringSubmatch(challenge)
		if found == nil {
			continue
		}
		if code, _, ok := strings.Cut(found[1], ":"); ok && ofReceivers[reason.Code(code)] {
			return reason.Code(code), true
		}
		for _, w := range theirWords {
			if strings.HasPrefix(found[1], w.begin) {
				return w.code, true
			}
		}
	}
	return "", false
}
