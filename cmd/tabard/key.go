package main

import (
	"context"
	"io"
	"net/http"
)

// accessKeys are what listKeys and regenerateKey answer.
type accessKeys struct {
	PrimaryKey                string `json:"primaryKey"`
	SecondaryKey              string `json:"secondaryKey"`
	PrimaryConnectionString   string `json:"primaryConnectionString"`
	SecondaryConnectionString string `json:"secondaryConnectionString"`
}

const keyWords = `

Words: primary and secondary access key and connection string are Azure Web PubSub's (listKeys, regenerateKey); every SDK takes the connection string.`

type keyListCmd struct {
	instanceFlags
	jsonFlag
}

func (keyListCmd) Help() string {
	return `Both keys are valid at any time. Whoever has one can do everything on the data plane of the instance: it is a secret.

Example:

    tabard key list
    export CONNECTION=$(tabard key list --json | jq -r .primaryConnectionString)` + keyWords
}

func (c *keyListCmd) Run(ctx context.Context, s *stdio) error {
	a, path, err := c.connect(ctx, s)
	if err != nil {
		return err
	}
	keys, err := a.keys(ctx, path)
	if err != nil {
		return err
	}
	return printKeys(s, c.JSON, keys)
}

func (a *admin) keys(ctx context.Context, instance string) (accessKeys, error) {
	var keys accessKeys
	_, err := a.call(ctx, http.MethodPost, instance+"/listKeys", apiVersion(armVersion), nil, &keys)
	return keys, err
}

func printKeys(s *stdio, asJSON bool, k accessKeys) error {
	return s.print(asJSON, k, func(w io.Writer) {
		row(w, "primary key", k.PrimaryKey)
		row(w, "secondary key", k.SecondaryKey)
		row(w, "primary connection string", k.PrimaryConnectionString)
		row(w, "secondary connection string", k.SecondaryConnectionString)
	})
}

type keyRegenerateCmd struct {
	instanceFlags
	jsonFlag
	Key string `arg:"" enum:"primary,secondary" help:"primary or secondary."`
}

func (keyRegenerateCmd) Help() string {
	return `Takes effect at once and without restart: new tokens signed with the old key are refused, clients that are connected stay. To rotate without a gap move your servers to the other key first.

Example:

    tabard key regenerate primary` + keyWords
}

func (c *keyRegenerateCmd) Run(ctx context.Context, s *stdio) error {
	a, path, err := c.connect(ctx, s)
	if err != nil {
		return err
	}
	var keys accessKeys
	kind := map[string]string{"primary": "Primary", "secondary": "Secondary"}[c.Key]
	if _, err := a.call(ctx, http.MethodPost, path+"/regenerateKey", apiVersion(armVersion), map[string]string{"keyType": kind}, &keys); err != nil {
		return err
	}
	return printKeys(s, c.JSON, keys)
}
