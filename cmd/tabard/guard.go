package main

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"time"

	"tabard/guard"

	"github.com/alecthomas/kong"
)

// guardCmd runs a guard.Proxy. All of it but the addresses can be changed while it serves: see follow.
type guardCmd struct {
	dataFlags
	File configFile `name:"config" help:"YAML file of settings: the flags below without dashes. Flags win over the environment, that over the file. Read again when it changes." env:"TABARD_GUARD_CONFIG" placeholder:"FILE"`

	Listen   string `help:"Address to listen on. Port 0 picks a free one." default:"127.0.0.1:8090" env:"TABARD_GUARD_LISTEN" placeholder:"ADDR"`
	Upstream string `help:"The application: http or https URL." required:"" env:"TABARD_GUARD_UPSTREAM" placeholder:"URL"`

	Issuer        []string `help:"Trusted issuer, as in iss, or the address of its discovery document; repeatable. Default: the service of DATA/ready.json, versions 1 and 2." env:"TABARD_GUARD_ISSUER" sep:"," placeholder:"ISSUER"`
	CA            string   `name:"ca" help:"PEM file of the authority to trust for the issuers; default from DATA/ready.json." env:"TABARD_CA" placeholder:"FILE"`
	Audience      []string `help:"Accepted audience: the application's id or identifier URI; repeatable." required:"" env:"TABARD_GUARD_AUDIENCE" sep:"," placeholder:"AUDIENCE"`
	AllowIdentity []string `help:"Object id or client id of an identity that may call; repeatable. Default: every application that gets a token for the audience." env:"TABARD_GUARD_ALLOW_IDENTITY" sep:"," placeholder:"ID"`
	RequireRole   []string `help:"Application role of which the caller must have one; repeatable." env:"TABARD_GUARD_REQUIRE_ROLE" sep:"," placeholder:"ROLE"`
	AllowTenant   []string `help:"Tenant whose tokens are accepted; repeatable. Default: those that the issuers name." env:"TABARD_GUARD_ALLOW_TENANT" sep:"," placeholder:"TENANT"`

	Unauthenticated  string   `help:"What a request without a good token gets: Return401, Return403, Return404, or AllowAnonymous to let it pass unnamed." enum:"Return401,Return403,Return404,AllowAnonymous" default:"Return401" env:"TABARD_GUARD_UNAUTHENTICATED"`
	ExcludePath      []string `help:"Path that needs no token, with /* at its end for all below it, with a method in front for that alone: 'OPTIONS /events'; repeatable." env:"TABARD_GUARD_EXCLUDE_PATH" sep:"," placeholder:"PATH"`
	ValidationOrigin []string `help:"Host of a service whose endpoint validation is answered here, without a token; * for any; repeatable. Default: the validation needs a token and the application answers it." env:"TABARD_GUARD_VALIDATION_ORIGIN" sep:"," placeholder:"HOST"`
	CommaChallenge   bool     `help:"Separate the parts of WWW-Authenticate with commas, as the RFC demands, instead of spaces, as App Service does." env:"TABARD_GUARD_COMMA_CHALLENGE"`
	HideReasons      bool     `help:"Do not tell callers why they are refused." env:"TABARD_GUARD_HIDE_REASONS"`
	Duplicates       bool     `help:"Answer a repeated event with the first answer (--no-duplicates: ask the application again)." negatable:"" default:"true" env:"TABARD_GUARD_DUPLICATES"`

	UpstreamCA      string        `name:"upstream-ca" help:"PEM file of the authority to trust for an https upstream." env:"TABARD_GUARD_UPSTREAM_CA" placeholder:"FILE"`
	UpstreamTimeout time.Duration `help:"How long the application may take to begin its answer." default:"230s" env:"TABARD_GUARD_UPSTREAM_TIMEOUT"`
	PreserveHost    bool          `help:"Send the request's own Host to the application instead of the upstream's." env:"TABARD_GUARD_PRESERVE_HOST"`

	TLSCert         string        `name:"tls-cert" help:"Certificate chain (PEM) to serve https with, read again when it changes." env:"TABARD_GUARD_TLS_CERT" placeholder:"FILE" and:"tls"`
	TLSKey          string        `name:"tls-key" help:"Private key of --tls-cert (PEM)." env:"TABARD_GUARD_TLS_KEY" placeholder:"FILE" and:"tls"`
	MetricsListen   string        `help:"Address for /metrics (Prometheus) and /healthz; off by default." env:"TABARD_GUARD_METRICS_LISTEN" placeholder:"ADDR"`
	ReadyFile       string        `help:"File that receives one JSON object with the endpoint once it answers." env:"TABARD_GUARD_READY_FILE" placeholder:"FILE"`
	ShutdownTimeout time.Duration `help:"How long a stop waits for requests." default:"20s" env:"TABARD_GUARD_SHUTDOWN_TIMEOUT"`

	logFlags
}

func (guardCmd) Help() string {
	return `A reverse proxy in front of an event handler, or any application, that does what App Service authentication does: it refuses requests without a good access token, removes X-MS-CLIENT-PRINCIPAL* and X-MS-TOKEN-* in every spelling, and tells the application who calls in X-MS-CLIENT-PRINCIPAL, -ID, -NAME and -IDP. The Authorization header stays, WebSockets and streams pass. Why a request was refused is in the answer.

An issuer that ends in /v2.0 accepts tokens of version 2, one without it tokens of version 1; the audience's application decides which it gets. A changed file (--config, --ca, --upstream-ca, --tls-cert, --tls-key) takes effect within a second or two, as does SIGHUP; one that is wrong changes nothing.

Example:

    tabard guard --upstream http://127.0.0.1:3000 --audience api://orders
    tabard guard --upstream http://127.0.0.1:3000 --issuer https://login.microsoftonline.com/TENANT/v2.0 --audience APPLICATION_ID --allow-identity OBJECT_ID
    tabard guard --config guard.yaml --listen 127.0.0.1:0 --ready-file F

Words: audience, allowed identities, excluded paths and the actions Return401 and so on are those of App Service authentication ("Easy Auth").`
}

// trust is what the guard is told of tokens.
func (c *guardCmd) trust() (guard.Trust, error) {
	t := guard.Trust{Issuers: c.Issuer, Audiences: c.Audience, Callers: c.AllowIdentity, Roles: c.RequireRole, Tenants: c.AllowTenant, CAFile: c.CA}
	ready, err := c.ready()
	if len(t.Issuers) == 0 {
		if err != nil {
			return t, hintedAs(err, "name the issuer with --issuer, or the data directory of the service with --data")
		}
		t.Issuers = []string{ready.Issuer, ready.IssuerV2}
	}
	ours := slices.Equal(t.Issuers, []string{ready.Issuer, ready.IssuerV2}) || slices.Equal(t.Issuers, []string{ready.Issuer}) || slices.Equal(t.Issuers, []string{ready.IssuerV2})
	if t.CAFile == "" && err == nil && ours {
		t.CAFile = ready.CAFile
	}
	return t, nil
}

func (c *guardCmd) options(log *slog.Logger) guard.ProxyOptions {
	o := guard.ProxyOptions{
		Upstream: c.Upstream, UpstreamCAFile: c.UpstreamCA, UpstreamTimeout: c.UpstreamTimeout, PreserveHost: c.PreserveHost,
		Unauthenticated: guard.Unauthenticated(c.Unauthenticated), ExcludedPaths: c.ExcludePath, ValidationOrigins: c.ValidationOrigin,
		CommaChallenge: c.CommaChallenge, HideReasons: c.HideReasons, Log: log,
	}
	if c.Duplicates {
		o.Duplicates = &guard.Duplicates{}
	}
	return o
}

// warn says what is probably not meant so.
func (c *guardCmd) warn(log *slog.Logger) {
	if len(c.AllowIdentity) == 0 && len(c.RequireRole) == 0 {
		log.Warn("every application that gets a token for the audience may call; name the callers with --allow-identity or demand a role with --require-role")
	}
	if c.Unauthenticated == string(guard.AllowAnonymous) {
		log.Warn("requests without a token reach the application; it must look at X-MS-CLIENT-PRINCIPAL-ID itself")
	}
	if u, err := url.Parse(c.Upstream); err == nil && u.Scheme == "http" && !isLoopback(u.Hostname()) {
		log.Warn("the way to the application is not encrypted: whoever listens there can take the tokens", "upstream", u.Redacted())
	}
}

// guardUsage makes a fault of the configuration one of the command line.
func guardUsage(err error) error {
	return fail(exitUsage, "`tabard guard --help` explains each setting; it may come from a flag, the environment or --config", "%s", plainFaults(err))
}

// files are what the proxy is made of besides its flags.
func (c *guardCmd) files() []string {
	t, err := c.trust()
	if err != nil {
		t.CAFile = c.CA
	}
	return []string{string(c.File), t.CAFile, c.UpstreamCA, c.TLSCert, c.TLSKey}
}

func (c *guardCmd) Run(ctx context.Context, s *stdio, command *kong.Context) error {
	log := c.logger(s.err)
	trust, err := c.trust()
	if err != nil {
		return err
	}
	proxy, err := guard.NewProxy(trust, c.options(log))
	if err != nil {
		return guardUsage(err)
	}
	server, err := c.listen(proxy, log)
	if err != nil {
		proxy.Close()
		return err
	}
	c.warn(log)
	return server.run(ctx, command.Args)
}

// guardReady is what --ready-file holds.
type guardReady struct {
	Endpoint   string `json:"endpoint"`
	MetricsURL string `json:"metricsUrl,omitempty"`
}

func (r guardReady) write(name string) error {
	text, err := json.Marshal(r)
	if err != nil {
		return err
	}
	f, err := os.CreateTemp(filepath.Dir(name), ".ready-*") // 0600, and never seen half written
	if err != nil {
		return err
	}
	_, err = f.Write(append(text, '\n'))
	if closed := f.Close(); err == nil {
		err = closed
	}
	if err == nil {
		err = os.Rename(f.Name(), name)
	}
	if err != nil {
		_ = os.Remove(f.Name())
		return fmt.Errorf("ready file: %w", err)
	}
	return nil
}
