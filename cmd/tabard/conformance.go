package main

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"time"

	"tabard/internal/conform"
)

type conformanceCmd struct {
	endpointFlags
	jsonFlag
	Hub           string        `help:"Hub to use. Names that begin with it and _ are used too." default:"conformance" placeholder:"HUB"`
	SecondaryKey  string        `help:"The other access key, for the lines about it; known already of a service that is asked." env:"TABARD_SECONDARY_KEY" placeholder:"KEY"`
	HandlerListen string        `help:"Address to answer the hub's events at, for the lines about them, when the endpoint was named by --endpoint or --connection-string: its settings must send all user events of the hub there." placeholder:"HOST:PORT"`
	Only          []string      `help:"Lines to ask, as in \"client 12\" or all of \"rest\"; repeatable." sep:"none" placeholder:"LINE"`
	Timeout       time.Duration `help:"How long each answer is awaited." default:"10s"`
	Parallel      int           `help:"Lines that run at once." default:"8"`
	All           bool          `help:"List passed lines too."`
}

func (conformanceCmd) Help() string {
	return `Asks any Web PubSub endpoint the lines of two checklists, of the client protocol and of the REST API, each by its number: what is given, what must follow, what was seen. Lines that nobody can judge from outside are skipped by name with the reason. It connects, publishes and closes as clients and servers do, in groups and hubs of its own, and disturbs nobody else's.

Example:

    tabard conformance --endpoint https://HOST --key KEY
    tabard conformance --only "client 19" --only rest --all
    tabard conformance --json > report.json

Asked of a running Tabard through its admin address, it sets up the hub's event handler itself, on loopback, as this replaces the settings of --hub. Exit codes: 0 no line failed, 1 one did or there is no report.

Words: lines are those of the project's conformance checklists; hub, group, connection and event are Azure Web PubSub's.`
}

func (c *conformanceCmd) Run(ctx context.Context, s *stdio) error {
	e, err := c.endpoint(ctx, s)
	if err != nil {
		return err
	}
	target := conform.Target{Endpoint: e.wire(c.Hub), SecondaryKey: c.SecondaryKey}
	stop, err := c.prepare(ctx, s, &target)
	if err != nil {
		return err
	}
	defer stop()
	r, err := conform.Run(ctx, target, conform.Options{Timeout: c.Timeout, Parallel: c.Parallel, Only: c.Only})
	if err != nil {
		return err
	}
	err = s.print(c.JSON, struct {
		Endpoint string `json:"endpoint"`
		*conform.Report
	}{e.origin, r}, func(w io.Writer) { c.table(w, r) })
	if err == nil && r.Failed > 0 {
		err = fail(exitFailure, "", "%d of %d lines failed", r.Failed, len(r.Lines))
	}
	return err
}

// prepare finds out what else is known of the endpoint, and serves the hub's event handler.
func (c *conformanceCmd) prepare(ctx context.Context, s *stdio, target *conform.Target) (stop func(), err error) {
	h := &conform.Handler{}
	if c.foreign() {
		if c.HandlerListen == "" {
			return func() {}, nil
		}
		l, err := net.Listen("tcp", c.HandlerListen)
		if err != nil {
			return nil, fail(exitUsage, "it looks like 0.0.0.0:9090", "--handler-listen: %v", err)
		}
		server := serveOn(l, h)
		target.Handler = h
		s.note("the hub %s must send all user events to %s, as it is reached from the endpoint", c.Hub, server.URL)
		return server.Close, nil
	}
	a, path, err := c.connect(ctx, s)
	if err != nil {
		return nil, err
	}
	if target.SecondaryKey == "" {
		keys, err := a.keys(ctx, path)
		if err != nil {
			return nil, err
		}
		target.SecondaryKey = keys.SecondaryKey
	}
	server, err := startServer(h)
	if err != nil {
		return nil, err
	}
	body := map[string]any{"properties": map[string]any{"eventHandlers": []any{map[string]any{"urlTemplate": server.URL, "userEventPattern": "*"}}}}
	if _, err := a.call(ctx, http.MethodPut, hubPath(path, c.Hub), apiVersion(armVersion), body, nil); err != nil {
		server.Close()
		return nil, err
	}
	target.Handler = h
	return server.Close, nil
}

// table lists the lines, those that passed only if they are wanted.
func (c *conformanceCmd) table(w io.Writer, r *conform.Report) {
	for i := range r.Lines {
		l := &r.Lines[i]
		if l.Result == conform.Pass && !c.All {
			continue
		}
		row(w, l.Name(), l.Result, fmt.Sprintf("%s, then %s", l.Given, l.Expected))
		if l.Seen != "" {
			row(w, "", "", "  "+strings.ReplaceAll(l.Seen, "\t", " "))
		}
	}
	row(w, fmt.Sprintf("%d passed, %d failed, %d skipped", r.Passed, r.Failed, r.Skipped))
}
