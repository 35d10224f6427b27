package main

import (
	"context"
	"errors"
	"net/http"
	"os"

	"tabard/internal/apply"
)

type exportCmd struct {
	adminFlags
	jsonFlag
	OnlyInstance string `name:"instance" help:"Only this instance, with its hubs and the roles at it." placeholder:"NAME"`
	OnlyGroup    string `name:"group" help:"Only what is in this resource group." placeholder:"NAME"`
	Out          string `short:"o" help:"File to write instead of stdout, 0600." placeholder:"FILE"`
}

func (exportCmd) Help() string {
	return `Writes what the service has as a file for tabard apply: identities, applications, vaults, secrets without their values, instances, hubs and role assignments. Ids that would be others elsewhere, defaults, access keys and credentials are left out; comments say what must be given.

Applied to the same service it changes nothing. Applied to an empty one it makes the same again.

Example:

    tabard export > resources.yaml
    tabard export --instance orders -o orders.yaml` + applyWords
}

func (c *exportCmd) Run(ctx context.Context, s *stdio) (err error) {
	a, err := c.open(s)
	if err != nil {
		return err
	}
	subscription, err := a.subscription(ctx)
	if err != nil {
		return err
	}
	e, err := apply.Export(ctx, apply.ExportOptions{Service: overHTTP{a}, Subscription: subscription, Group: "default", OnlyInstance: c.OnlyInstance, OnlyGroup: c.OnlyGroup})
	var refused *apply.RefusedError
	if errors.As(err, &refused) {
		code := exitRefused
		if refused.Status == http.StatusNotFound {
			code = exitNotFound
		}
		return fail(code, "", "%v", err)
	}
	if err != nil {
		return err
	}
	out := s
	if c.Out != "" {
		f, cannot := os.OpenFile(c.Out, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
		if cannot != nil {
			return cannot
		}
		defer func() { err = errors.Join(err, f.Close()) }() // a full disk may show only then
		out = &stdio{in: s.in, out: f, err: s.err}
	}
	if c.JSON {
		if e.Resources == nil {
			e.Resources = []map[string]any{}
		}
		return out.print(true, map[string]any{"resources": e.Resources}, nil)
	}
	text, err := e.YAML()
	if err != nil {
		return err
	}
	_, err = out.out.Write(text)
	return err
}
