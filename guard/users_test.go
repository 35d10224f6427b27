package guard_test

import (
	"testing"

	"tabard/guard/reason"
)

func TestUsersPassOnlyWhereTheyAreAllowed(t *testing.T) {
	is, c := newIssuer(t), newClock()
	trust := is.trust(c)
	trust.Users = true
	v := newVerifier(t, trust)
	for name, tc := range map[string]struct {
		changes []any
		passes  bool
	}{
		"an application's":            {nil, true},
		"a user's":                    {[]any{"scp", "user_impersonation", "idtyp", "user", "sub", "pairwise"}, true},
		"a user's without idtyp":      {[]any{"scp", "user_impersonation", "idtyp", nil, "sub", "pairwise"}, true},
		"a user's without scope":      {[]any{"idtyp", "user", "sub", "pairwise"}, false},
		"an application's with scope": {[]any{"scp", "x"}, false},
		"an id token":                 {[]any{"scp", "x", "idtyp", "user", "nonce", "n"}, false},
		"without client":              {[]any{"scp", "x", "idtyp", "user", "appid", nil, "azp", nil}, false},
		"without object":              {[]any{"scp", "x", "idtyp", "user", "oid", nil}, false},
		"a device's":                  {[]any{"scp", "x", "idtyp", "device"}, false},
	} {
		_, err := v.Verify(t.Context(), is.token(with(is.claims(c), tc.changes...)))
		if tc.passes && err != nil || !tc.passes && codeOf(t, err) != reason.NotAppToken {
			t.Errorf("%s: %v", name, err)
		}
	}
}
