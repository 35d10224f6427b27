package main

import (
	"context"
	"io"
	"net/http"
	"net/url"
	"time"
)

const signingKeysPath = "/tabard/v1/signingKeys"

const signingKeyWords = `

Words: signing key, key id (kid) and key set (JWKS) are OpenID Connect's. They are the token service's keys; an instance's access keys are "tabard key".`

// A signingKey is a key of the token service, without the key.
type signingKey struct {
	Kid       string     `json:"kid"`
	State     string     `json:"state"` // active, next or retired
	Created   time.Time  `json:"created"`
	Activated *time.Time `json:"activated,omitempty"`
	Retired   *time.Time `json:"retired,omitempty"`
	Until     *time.Time `json:"until,omitempty"` // published until
}

// signingKeys makes a request about signing keys and prints them as they are afterwards.
func signingKeys(ctx context.Context, s *stdio, flags adminFlags, asJSON bool, method, path string) error {
	a, err := flags.open(s)
	if err != nil {
		return err
	}
	var answer struct {
		Keys []signingKey `json:"keys"`
	}
	if _, err := a.call(ctx, method, signingKeysPath+path, nil, nil, &answer); err != nil {
		return hinted(err, exitNotFound, "`tabard signing-key list` shows the key ids")
	}
	return s.print(asJSON, map[string]any{"value": answer.Keys}, func(w io.Writer) {
		row(w, "KEY ID", "STATE", "CREATED", "PUBLISHED UNTIL")
		for _, k := range answer.Keys {
			until := "-"
			if k.Until != nil {
				until = k.Until.UTC().Format(time.RFC3339)
			}
			row(w, k.Kid, k.State, k.Created.UTC().Format(time.RFC3339), until)
		}
	})
}

type signingKeyListCmd struct {
	adminFlags
	jsonFlag
}

func (signingKeyListCmd) Help() string {
	return `The active key signs. The next one is published already, so that receivers know it when it comes into use; retired ones stay published until the last token that they signed has expired.

Example:

    tabard signing-key list` + signingKeyWords
}

func (c *signingKeyListCmd) Run(ctx context.Context, s *stdio) error {
	return signingKeys(ctx, s, c.adminFlags, c.JSON, http.MethodGet, "")
}

type signingKeyRotateCmd struct {
	adminFlags
	jsonFlag
}

func (signingKeyRotateCmd) Help() string {
	return `The next key becomes the active one, and another next one is made. Tokens that were signed before stay valid; no receiver needs a restart. The service does this by itself on schedule.

Example:

    tabard signing-key rotate` + signingKeyWords
}

func (c *signingKeyRotateCmd) Run(ctx context.Context, s *stdio) error {
	return signingKeys(ctx, s, c.adminFlags, c.JSON, http.MethodPost, "/rotate")
}

type signingKeyRevokeCmd struct {
	adminFlags
	jsonFlag
	Kid string `arg:"" help:"Key id."`
}

func (signingKeyRevokeCmd) Help() string {
	return `For a key that somebody else may have: it disappears from the key set at once and for good, and tokens that it signed are worth nothing to whoever looks at the key set again. Receivers that remember it refuse them only after that. If it is the active one, the next key takes its place.

Example:

    tabard signing-key revoke nOo3ZDrODXEK1jKWhXslHR_KXEg` + signingKeyWords
}

func (c *signingKeyRevokeCmd) Run(ctx context.Context, s *stdio) error {
	return signingKeys(ctx, s, c.adminFlags, c.JSON, http.MethodPost, "/"+url.PathEscape(c.Kid)+"/revoke")
}
