package main

import (
	"context"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"sync"

	"tabard"
)

// serviceFlags are what the service is run with.
type serviceFlags struct {
	File   configFile    `name:"config" help:"YAML file of settings: the flags below without dashes. Flags win over the environment, that over the file." env:"TABARD_CONFIG" placeholder:"FILE"`
	Config tabard.Config `embed:""`
	logFlags
}

// logFlags are how a command that serves writes its log.
type logFlags struct {
	LogFormat string `help:"text or json." enum:"text,json" default:"${log_format}" env:"TABARD_LOG_FORMAT" group:"log"`
	LogLevel  string `help:"debug, info, warn or error." enum:"debug,info,warn,error" default:"info" env:"TABARD_LOG_LEVEL" group:"log"`
}

// config completes the settings with those that have no flag, so that they never show in a process list.
func (f *serviceFlags) config() tabard.Config {
	cfg := f.Config
	cfg.MasterKey, cfg.MasterKeyToken = os.Getenv("TABARD_MASTER_KEY"), os.Getenv("VAULT_TOKEN")
	return cfg
}

func (f *logFlags) logger(w io.Writer) *slog.Logger {
	var level slog.Level
	_ = level.UnmarshalText([]byte(f.LogLevel)) // one of the four that the flag admits
	opt := &slog.HandlerOptions{Level: level}
	if f.LogFormat == "json" {
		return slog.New(slog.NewJSONHandler(w, opt))
	}
	return slog.New(slog.NewTextHandler(w, opt))
}

// serve runs the service until ctx ends. ready is called once every listener answers.
func serve(ctx context.Context, cfg tabard.Config, log *slog.Logger, ready func(tabard.Ready)) error {
	srv, err := tabard.New(cfg, log)
	if err != nil {
		return err
	}
	ctx, stop := context.WithCancel(ctx)
	var waiting sync.WaitGroup
	waiting.Go(func() {
		if r, err := srv.Ready(ctx); err == nil { // otherwise Run says why
			ready(r)
		}
	})
	err = srv.Run(ctx)
	stop()
	waiting.Wait()
	return err
}

type serveCmd struct{ serviceFlags }

func (serveCmd) Help() string {
	return `Event handlers on this machine's loopback are refused unless you allow them, logs are JSON lines. Ends cleanly on SIGTERM or SIGINT: clients are told to come back, accepted work is finished within --shutdown-timeout.

Example:

    tabard serve --config /etc/tabard.yaml
    tabard serve --listen 0.0.0.0:443 --public-url https://wps.example.com --tls-only

Every flag is also an environment variable and a key of the file. tabard config check says what is wrong with them.

Words: an instance is one Azure Web PubSub resource; the public address serves what Azure serves at NAME.webpubsub.azure.com, the admin address what Azure serves at management.azure.com.`
}

func (c *serveCmd) Run(ctx context.Context, s *stdio) error {
	return serve(ctx, c.config(), c.logger(s.err), func(tabard.Ready) {}) // the log says when it is ready
}

type devCmd struct {
	serviceFlags
	SampleHandler       bool   `help:"Run an event handler that verifies who calls it and echoes, for the portal's first steps." default:"true" negatable:"" env:"TABARD_SAMPLE_HANDLER"`
	SampleHandlerListen string `help:"Address of the sample handler. Port 0 picks a free one." default:"127.0.0.1:0" env:"TABARD_SAMPLE_HANDLER_LISTEN" placeholder:"ADDR"`
}

func (devCmd) Help() string {
	return `The same service as tabard serve with four differences: event handlers may live on this machine's loopback, one that verifies and echoes runs beside the service, logs are text, and links are printed. Nothing else is relaxed: tokens and keys are checked as in production.

The first link opens the portal, signed in: the admin token is in its fragment, which browsers send to nobody. Quickstart there leads to an event with a verified identity.

Example:

    tabard dev
    tabard dev --data DIR --listen 127.0.0.1:0 --admin-listen 127.0.0.1:0 --ready-file F

Words: an event handler is, as in Azure Web PubSub, the HTTP endpoint of yours that receives the clients' events.`
}

func (c *devCmd) Run(ctx context.Context, s *stdio) error {
	cfg := c.config()
	cfg.AllowLoopbackHandlers = true
	log := c.logger(s.err)
	if !c.SampleHandler {
		return serve(ctx, cfg, log, func(r tabard.Ready) { printLinks(s, cfg.Data, r) })
	}
	sample, err := startEcho(c.SampleHandlerListen)
	if err != nil {
		return err
	}
	defer sample.Close()
	cfg.Sample = sample.settings()
	return serve(ctx, cfg, log, func(r tabard.Ready) {
		if err := sample.trust(r, log); err != nil {
			log.Error("the sample handler cannot verify tokens", "error", err)
		}
		printLinks(s, cfg.Data, r)
	})
}

// portalLink opens the portal signed in. The token is in the fragment: it is in no request, and in no log of one.
func portalLink(r tabard.Ready) string { return r.AdminURL + "/portal/#token=" + r.AdminToken }

func printLinks(s *stdio, data string, r tabard.Ready) {
	// A failed write to stdout is no reason to stop serving.
	_ = s.print(false, nil, func(w io.Writer) {
		row(w, "Tabard is ready.")
		row(w, "")
		row(w, "  portal, signed in", portalLink(r))
		row(w, "")
		row(w, "  clients and REST", r.Endpoint)
		row(w, "  over TLS", r.HTTPSEndpoint)
		row(w, "  control plane", r.AdminURL)
		row(w, "  token issuer", r.Issuer)
		if r.CAFile != "" {
			row(w, "  local CA", r.CAFile)
		}
		row(w, "")
		row(w, "In another terminal:")
		if filepath.Clean(data) != defaultData {
			if abs, err := filepath.Abs(data); err == nil {
				data = abs
			}
			row(w, "  export TABARD_DATA="+data)
		}
		row(w, "  tabard connect --hub chat --user me", "be a client")
		row(w, "  tabard send --hub chat hello", "publish to it")
		row(w, "  tabard key list", "connection string for your SDK")
		row(w, "  tabard trace tail", "what happens and why")
	})
}

type demoCmd struct {
	Options demoOptions `embed:""`
}

func (demoCmd) Help() string {
	return `Starts the service on free ports with a temporary data directory and a guarded event handler, then: switches a system-assigned identity on, registers an application, configures a hub, connects a client, sends an event, shows the request with the token's claims and what was verified; then attacks the handler in every way it must refuse. Then the URL of another handler takes a key from a vault: refused and explained until the identity may read it, rotated while serving, and searched for wherever it must not be. Each step is real and checked.

Example:

    tabard demo --once

Words: system-assigned identity, application ID URI and audience are Azure's, as in "Managed identities for Azure Web PubSub Service"; a Key Vault reference is, too.`
}

func (c *demoCmd) Run(ctx context.Context, s *stdio) error {
	return runDemo(ctx, c.Options, s.out, s.err)
}
