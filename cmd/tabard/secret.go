package main

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"
)

const secretVersion = "2026-04-01" // of the secrets API

const secretWords = `

Words: secret, version and soft delete are those of Azure Key Vault's secrets API; an id is what event handlers refer to as SecretUri.`

// A secret is what the commands read of a secret bundle. Attributes and the rest stay as the service told them.
type secret struct {
	Value       string            `json:"value"`
	ID          string            `json:"id"`
	ContentType string            `json:"contentType"`
	Tags        map[string]string `json:"tags"`
	Attributes  struct {
		Enabled   bool  `json:"enabled"`
		NotBefore int64 `json:"nbf"`
		Expires   int64 `json:"exp"`
		Created   int64 `json:"created"`
		Updated   int64 `json:"updated"`
	} `json:"attributes"`
	DeletedDate        int64 `json:"deletedDate"`
	ScheduledPurgeDate int64 `json:"scheduledPurgeDate"`
}

// names are the parts of the id.
func (s *secret) names() (name, version string) {
	u, err := url.Parse(s.ID)
	if err != nil {
		return s.ID, ""
	}
	parts := strings.Split(strings.Trim(u.Path, "/"), "/")
	if len(parts) > 2 {
		version = parts[2]
	}
	if len(parts) > 1 {
		name = parts[1]
	}
	return name, version
}

// A dataPlane is a client of one vault's secrets API.
type dataPlane struct {
	*admin
	vault string
}

// dataPlane finds the vault. Its API is served on the service's admin address, over TLS only, and is told apart by the
// host that a request names: NAME.localhost is understood whatever a vault's public name is. So the admin token goes
// where the address says, however that name resolves.
func (f vaultFlags) dataPlane(ctx context.Context, s *stdio) (*dataPlane, error) {
	a, v, _, err := f.connect(ctx, s)
	if err != nil {
		return nil, err
	}
	plane := *a
	plane.base, plane.host = a.vaultHost(v.Name)
	return &dataPlane{&plane, v.Name}, nil
}

// ask makes one request of the secrets API.
func (p *dataPlane) ask(ctx context.Context, method, path string, body any) (raw json.RawMessage, err error) {
	_, err = p.call(ctx, method, path, apiVersion(secretVersion), body, &raw)
	return raw, p.hinted(err)
}

// hinted says where to look for what was not found.
func (p *dataPlane) hinted(err error) error {
	return hinted(err, exitNotFound, "`tabard secret list "+p.vault+"` shows what there is; a deleted secret is shown with --deleted")
}

func secretPath(name string) string { return "/secrets/" + url.PathEscape(name) }

func deletedPath(name string) string { return "/deletedsecrets/" + url.PathEscape(name) }

// printSecret prints a bundle. reveal adds the value.
func printSecret(s *stdio, asJSON, reveal bool, raw json.RawMessage) error {
	var b secret
	if err := json.Unmarshal(raw, &b); err != nil {
		return errors.New("the vault's answer is not a secret") // whose text may be the value
	}
	if !reveal {
		var members map[string]json.RawMessage
		if err := json.Unmarshal(raw, &members); err != nil {
			return errors.New("the vault's answer is not a secret")
		}
		delete(members, "value")
		var err error
		if raw, err = json.Marshal(members); err != nil {
			return err
		}
	}
	return s.print(asJSON, raw, func(w io.Writer) {
		name, version := b.names()
		row(w, "name", name)
		row(w, "version", version)
		row(w, "id", b.ID)
		row(w, "enabled", yesNo(b.Attributes.Enabled))
		row(w, "created", unixTime(b.Attributes.Created))
		row(w, "updated", unixTime(b.Attributes.Updated))
		for _, noted := range [][2]string{{"not before", unixTime(b.Attributes.NotBefore)}, {"expires", unixTime(b.Attributes.Expires)}, {"content type", orDash(b.ContentType)}} {
			if noted[1] != "-" {
				row(w, noted[0], noted[1])
			}
		}
		for _, tag := range slices.Sorted(maps.Keys(b.Tags)) {
			row(w, "tag "+tag, b.Tags[tag])
		}
		if reveal {
			row(w, "value", b.Value)
		}
	})
}

func yesNo(b bool) string {
	if b {
		return "yes"
	}
	return "no"
}

func unixTime(seconds int64) string {
	if seconds == 0 {
		return "-"
	}
	return time.Unix(seconds, 0).UTC().Format(time.RFC3339)
}

type secretShowCmd struct {
	vaultFlags
	jsonFlag
	Name    string `arg:"" help:"Name of the secret."`
	Version string `help:"Version to show; default the newest." placeholder:"VERSION"`
	Reveal  bool   `help:"Show the value, too: it is then on the screen, and wherever stdout goes."`
}

func (secretShowCmd) Help() string {
	return `Without --reveal the value does not leave the service. The id is what a handler's URL refers to; without its last part it is the newest version.

Example:

    tabard secret show hooks code
    tabard secret show hooks code --reveal --json | jq -r .value` + secretWords
}

func (c *secretShowCmd) Run(ctx context.Context, s *stdio) error {
	p, err := c.dataPlane(ctx, s)
	if err != nil {
		return err
	}
	var raw json.RawMessage
	if c.Reveal {
		raw, err = p.ask(ctx, http.MethodGet, secretPath(c.Name)+"/"+url.PathEscape(c.Version), nil)
	} else {
		raw, err = p.version(ctx, c.Name, c.Version)
	}
	if err != nil {
		return err
	}
	return printSecret(s, c.JSON, c.Reveal, raw)
}

// version describes a version, the newest if none is named, without asking for its value.
func (p *dataPlane) version(ctx context.Context, name, version string) (json.RawMessage, error) {
	all, err := p.items(ctx, secretPath(name)+"/versions")
	if err != nil {
		return nil, err
	}
	for _, raw := range slices.Backward(all) { // the newest is the last
		var b secret
		if err := json.Unmarshal(raw, &b); err != nil {
			return nil, err
		}
		if _, is := b.names(); version == "" || strings.EqualFold(version, is) {
			return raw, nil
		}
	}
	return nil, fail(exitNotFound, "`tabard secret list "+p.vault+" "+name+"` shows the versions", "secret %s has no version %q", name, version)
}

// items fetches all pages of a list.
func (p *dataPlane) items(ctx context.Context, path string) ([]json.RawMessage, error) {
	all, err := p.list(ctx, path, apiVersion(secretVersion))
	return all, p.hinted(err)
}

type secretListCmd struct {
	vaultFlags
	jsonFlag
	Name    string `arg:"" optional:"" help:"Secret of which to list the versions, the oldest first."`
	Deleted bool   `help:"The secrets that are deleted and can be recovered."`
}

func (secretListCmd) Help() string {
	return `Lists never hold a value.

Example:

    tabard secret list hooks
    tabard secret list hooks code
    tabard secret list hooks --deleted` + secretWords
}

// Validate finds flags that contradict each other.
func (c *secretListCmd) Validate() error {
	if c.Name != "" && c.Deleted {
		return errors.New("versions of a deleted secret are not listed: --deleted goes without a name")
	}
	return nil
}

func (c *secretListCmd) Run(ctx context.Context, s *stdio) error {
	p, err := c.dataPlane(ctx, s)
	if err != nil {
		return err
	}
	path := "/secrets"
	switch {
	case c.Deleted:
		path = "/deletedsecrets"
	case c.Name != "":
		path = secretPath(c.Name) + "/versions"
	}
	all, err := p.items(ctx, path)
	if err != nil {
		return err
	}
	rows, err := itemsOf[secret](all)
	if err != nil {
		return err
	}
	return s.print(c.JSON, armList{Value: all}, func(w io.Writer) {
		switch {
		case c.Deleted:
			row(w, "NAME", "DELETED", "PURGED ON")
		case c.Name != "":
			row(w, "VERSION", "ENABLED", "CREATED", "EXPIRES")
		default:
			row(w, "NAME", "ENABLED", "UPDATED", "EXPIRES")
		}
		for _, b := range rows {
			name, version := b.names()
			switch {
			case c.Deleted:
				row(w, name, unixTime(b.DeletedDate), unixTime(b.ScheduledPurgeDate))
			case c.Name != "":
				row(w, version, yesNo(b.Attributes.Enabled), unixTime(b.Attributes.Created), unixTime(b.Attributes.Expires))
			default:
				row(w, name, yesNo(b.Attributes.Enabled), unixTime(b.Attributes.Updated), unixTime(b.Attributes.Expires))
			}
		}
	})
}

type secretDeleteCmd struct {
	vaultFlags
	Name string `arg:"" help:"Name of the secret."`
}

func (secretDeleteCmd) Help() string {
	return `Deletes all versions. Event handlers whose URLs refer to it get no events from then on. The name is not free before the secret is purged.

Example:

    tabard secret delete hooks code` + secretWords
}

func (c *secretDeleteCmd) Run(ctx context.Context, s *stdio) error {
	p, err := c.dataPlane(ctx, s)
	if err != nil {
		return err
	}
	raw, err := p.ask(ctx, http.MethodDelete, secretPath(c.Name), nil)
	if err != nil {
		return err
	}
	var b secret
	if err := json.Unmarshal(raw, &b); err != nil {
		return err
	}
	s.note("secret %s is deleted; until %s `tabard secret recover %s %s` brings it back", c.Name, unixTime(b.ScheduledPurgeDate), p.vault, c.Name)
	return nil
}

type secretRecoverCmd struct {
	vaultFlags
	jsonFlag
	Name string `arg:"" help:"Name of the deleted secret."`
}

func (secretRecoverCmd) Help() string {
	return `It comes back with all its versions.

Example:

    tabard secret recover hooks code` + secretWords
}

func (c *secretRecoverCmd) Run(ctx context.Context, s *stdio) error {
	p, err := c.dataPlane(ctx, s)
	if err != nil {
		return err
	}
	raw, err := p.ask(ctx, http.MethodPost, deletedPath(c.Name)+"/recover", nil)
	if err != nil {
		return err
	}
	return printSecret(s, c.JSON, false, raw)
}

type secretPurgeCmd struct {
	vaultFlags
	Name string `arg:"" help:"Name of the deleted secret."`
}

func (secretPurgeCmd) Help() string {
	return `Ends a deleted secret for good, unless the vault has purge protection. There is no way back.

Example:

    tabard secret purge hooks code` + secretWords
}

func (c *secretPurgeCmd) Run(ctx context.Context, s *stdio) error {
	p, err := c.dataPlane(ctx, s)
	if err != nil {
		return err
	}
	if _, err := p.ask(ctx, http.MethodDelete, deletedPath(c.Name), nil); err != nil {
		return err
	}
	s.note("secret %s is gone", c.Name)
	return nil
}
