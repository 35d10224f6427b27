package eventhandler

import (
	"encoding/base64"
	"net/http"
	"slices"
	"strings"
	"testing"
)

func TestA54WhatAHandlerDemandsOfTheNextTokenIsPassedOn(t *testing.T) {
	const claims = `{"access_token":{"nbf":{"essential":true,"value":"1790000000"}}}`
	encoded := base64.StdEncoding.EncodeToString([]byte(claims))
	challenge := `Bearer realm="", authorization_uri="https://login.example/common/oauth2/authorize", error="insufficient_claims", claims="` + encoded + `"`
	for name, row := range map[string]struct {
		status int
		header string
		want   string
	}{
		"a challenge":           {401, challenge, claims},
		"in base64url":          {401, strings.Replace(challenge, encoded, base64.RawURLEncoding.EncodeToString([]byte(claims)), 1), claims},
		"with another status":   {403, challenge, ""},
		"with another error":    {401, strings.Replace(challenge, "insufficient_claims", "invalid_token", 1), ""},
		"that is no object":     {401, strings.Replace(challenge, encoded, base64.StdEncoding.EncodeToString([]byte(`"x"`)), 1), ""},
		"that is no JSON":       {401, strings.Replace(challenge, encoded, base64.StdEncoding.EncodeToString([]byte(`{x`)), 1), ""},
		"that is no base64":     {401, strings.Replace(challenge, encoded, "A", 1), ""},
		"that is too long":      {401, challenge + `, x="` + strings.Repeat("x", maxClaims) + `"`, ""},
		"without claims":        {401, `Bearer error="insufficient_claims"`, ""},
		"no challenge whatever": {401, "", ""},
	} {
		t.Run(name, func(t *testing.T) {
			w, h := oneHandler(t, func(w http.ResponseWriter, _ *http.Request, _ string) {
				w.Header().Set("WWW-Authenticate", row.header)
				w.WriteHeader(row.status)
			})
			w.hub("chat", with(h.URL, "api://x"))
			_, err := w.send(w.session(), "hi")
			if e, ok := err.(*DeliveryError); !ok || e.Status != row.status || len(h.calls("POST")) != 1 {
				t.Errorf("%v, %d requests", err, len(h.calls("POST")))
			}
			if want := []string{"api://x" + row.want}; !slices.Equal(w.refused, want) {
				t.Errorf("reported %q, want %q", w.refused, want)
			}
		})
	}
}
