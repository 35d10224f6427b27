package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strings"

	"tabard/internal/apply"
	"tabard/internal/template"
)

const applyWords = `

Words: resources are those of Azure Resource Manager, and files may be what Bicep compiles to; a value that is read elsewhere (valueFrom), principals by name and roles by name are Tabard's own.`

type applyCmd struct {
	adminFlags
	jsonFlag
	File       []string `short:"f" help:"File, folder or - (stdin) of resources: ARM-shaped YAML or JSON, or an ARM template. Repeatable." required:"" placeholder:"FILE" sep:"none"`
	Parameters []string `short:"p" help:"Value of a template's parameter, or a file of them. Repeatable." placeholder:"NAME=VALUE" sep:"none"`
	Group      string   `help:"Resource group of resources that name none." default:"default" placeholder:"NAME"`
	DryRun     bool     `help:"Show what would change; change nothing."`
	Check      bool     `help:"As --dry-run, and end with 1 if anything would change."`
	Prune      bool     `help:"Delete what an earlier apply of the same --set created and no file names any more."`
	Set        string   `help:"Name under which the service remembers what was created." default:"default" placeholder:"NAME"`
}

func (applyCmd) Help() string {
	return `Reads each resource from the service and writes only what differs, in an order in which each finds what it needs. Applying the same files again changes nothing. What a file leaves out gets its default, as with a PUT of ARM; identities and "tabard" extensions that are left out stay.

Secrets come from elsewhere: {type: Microsoft.KeyVault/vaults/secrets, name: VAULT/NAME, properties: {valueFrom: {env: VARIABLE}}}, or {file: PATH} beside the file. Principals are {instance: NAME}, {identity: NAME} or {application: NAME} in place of an object id, roles have their names.

--prune deletes only what an apply of the same --set has created; what was there before, or was made by other means, stays.

Ends with 0 if all is as the files say, 1 if something failed on the way, 2 if the files are wrong (nothing was done then), 4 if the service refused something.

Example:

    tabard apply -f resources.yaml --dry-run
    tabard apply -f resources.yaml --prune
    tabard apply -f main.json -p hubUrl=https://handler.example/` + applyWords
}

// overHTTP is the service as package apply sees it, at its admin address.
type overHTTP struct{ *admin }

func (o overHTTP) Do(ctx context.Context, r apply.Request) (*apply.Response, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	to := *o.admin
	if r.Vault != "" {
		to.base, to.host = o.vaultHost(r.Vault)
	}
	resp, err := to.send(ctx, r.Method, r.Path, r.Query, r.Body, "application/json")
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	if resp.StatusCode == http.StatusUnauthorized {
		return nil, refusal(resp)
	}
	text, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	if err != nil {
		return nil, fmt.Errorf("read the answer of %s: %w", o.base, err)
	}
	return &apply.Response{Status: resp.StatusCode, Body: text, Warnings: resp.Header.Values("X-Tabard-Warning")}, nil
}

// vaultHost is where a vault's secrets are served: the admin address over TLS, told apart by the host in the request.
func (a *admin) vaultHost(vault string) (base, host string) {
	base = a.base
	if !strings.HasPrefix(base, "https://") {
		base = a.ready.AdminHTTPSURL
		if base == "" { // the same port answers both
			base = "https://" + strings.TrimPrefix(a.base, "http://")
		}
	}
	host = strings.ToLower(vault) + ".localhost"
	if u, err := url.Parse(base); err == nil && u.Port() != "" {
		host += ":" + u.Port()
	}
	return base, host
}

// place tells where resources go that do not say so.
func (a *admin) place(ctx context.Context) (subscription, tenant string, err error) {
	if subscription, err = a.subscription(ctx); err != nil {
		return "", "", err
	}
	var s struct {
		TenantID string `json:"tenantId"`
	}
	_, err = a.call(ctx, http.MethodGet, "/subscriptions/"+url.PathEscape(subscription), apiVersion("2022-12-01"), nil, &s)
	return subscription, s.TenantID, err
}

func (c *applyCmd) Run(ctx context.Context, s *stdio) error {
	files, err := template.Load(c.File, s.in)
	if err != nil {
		return fail(exitUsage, "", "%v", err)
	}
	parameters := template.Parameters{}
	for _, p := range c.Parameters {
		if err := parameters.Set(p); err != nil {
			return fail(exitUsage, "give --parameters NAME=VALUE, or a file of parameters", "%v", err)
		}
	}
	a, err := c.open(s)
	if err != nil {
		return err
	}
	subscription, tenant, err := a.place(ctx)
	if err != nil {
		return err
	}
	set, err := template.Expand(ctx, files, template.Environment{Subscription: subscription, Tenant: tenant, Group: c.Group, Location: "local", Parameters: parameters})
	if err != nil {
		return fail(exitUsage, "nothing was changed", "%v", err)
	}
	result, err := apply.Run(ctx, set, apply.Options{
		Service: overHTTP{a}, Subscription: subscription, Tenant: tenant, Group: c.Group, Set: c.Set, Prune: c.Prune, DryRun: c.DryRun || c.Check, Getenv: os.LookupEnv,
	})
	var known *failure
	switch {
	case errors.As(err, &known) || err != nil && result != nil:
		return err
	case err != nil:
		return fail(exitUsage, "nothing was changed", "%v", err)
	}
	if err := printApplied(s, c.JSON, result); err != nil {
		return err
	}
	return c.outcome(result)
}

// outcome is the exit code.
func (c *applyCmd) outcome(r *apply.Result) error {
	failed, code := 0, exitRefused
	for _, change := range r.Changes {
		if change.Action == apply.Failed {
			failed++
			if !change.Refused {
				code = exitFailure
			}
		}
	}
	todo := r.Count(apply.Create) + r.Count(apply.Update) + r.Count(apply.Delete)
	switch {
	case failed > 0:
		return fail(code, "apply again once it is mended: what is done is not done twice", "%d of %d resources failed", failed, len(r.Changes))
	case c.Check && todo > 0:
		return fail(exitFailure, "", "%d resources are not as the files say", todo)
	}
	return nil
}

var applySigns = map[string]string{apply.Create: "+", apply.Update: "~", apply.Unchanged: "=", apply.Delete: "-", apply.Failed: "!", apply.Skipped: "!"}

func printApplied(s *stdio, asJSON bool, r *apply.Result) error {
	for _, c := range r.Changes {
		for _, w := range c.Warnings {
			s.note("warning: %s: %s", c.Name, w)
		}
	}
	return s.print(asJSON, r, func(w io.Writer) {
		for _, c := range r.Changes {
			if c.Action == apply.Unchanged {
				continue
			}
			where := ""
			if c.Where != "" {
				where = " (" + c.Where + ")"
			}
			row(w, applySigns[c.Action]+" "+c.Type+" "+c.Name+where)
			if c.Error != "" {
				row(w, "    "+strings.ReplaceAll(c.Error, "\n", "\n    "))
			}
			for _, d := range c.Diff {
				switch {
				case c.Action == apply.Create, d.Before == nil:
					row(w, "    + "+d.Path+": "+compact(d.After))
				case d.After == nil:
					row(w, "    - "+d.Path+": "+compact(d.Before))
				default:
					row(w, "    ~ "+d.Path+": "+compact(d.Before)+" -> "+compact(d.After))
				}
			}
		}
		verb := [3]string{"created", "changed", "deleted"}
		if r.DryRun {
			verb = [3]string{"to create", "to change", "to delete"}
		}
		summary := fmt.Sprintf("%d %s, %d %s, %d %s, %d unchanged", r.Count(apply.Create), verb[0], r.Count(apply.Update), verb[1], r.Count(apply.Delete), verb[2], r.Count(apply.Unchanged))
		if n := r.Count(apply.Failed); n > 0 {
			summary += fmt.Sprintf(", %d failed", n)
		}
		if n := r.Count(apply.Skipped); n > 0 {
			summary += fmt.Sprintf(", %d skipped", n)
		}
		row(w, summary)
	})
}

// compact is a value on one line.
func compact(v any) string {
	if text, ok := v.(string); ok {
		return text
	}
	var b strings.Builder
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		return fmt.Sprint(v)
	}
	return strings.TrimSpace(b.String())
}
