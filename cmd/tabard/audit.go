package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"
)

const activityVersion = "2015-04-01" // Microsoft.Insights

type auditListCmd struct {
	adminFlags
	jsonFlag
	Since     string `help:"From this time on: a time (2026-01-31T12:00:00Z) or a span before now (90m, 24h)." placeholder:"TIME"`
	Until     string `help:"Up to this time, likewise." placeholder:"TIME"`
	Caller    string `help:"Object id or client id of who did it, or 'admin token'." placeholder:"ID"`
	Resource  string `help:"ARM id of a resource: what was done to it and below." placeholder:"ID"`
	Group     string `help:"Resource group." placeholder:"NAME"`
	Operation string `help:"Operation, for example Microsoft.SignalRService/WebPubSub/hubs/write." placeholder:"NAME"`
	Status    string `help:"succeeded or failed." enum:"succeeded,failed," default:""`
	Filter    string `help:"Azure's $filter, joined to the flags above." placeholder:"ODATA"`
	Limit     int    `help:"At most so many, the newest first." default:"50"`
}

func (auditListCmd) Help() string {
	return `Who changed what: every write to the control plane, the directory and the vaults, with what was there before and after (--json), secrets left out; and, apart from them and counted when they are many, requests that were refused.

Example:

    tabard audit list --since 24h
    tabard audit list --caller 'admin token' --json
    tabard audit list --filter "resourceProvider eq 'Microsoft.KeyVault'"

Words: records are events of Azure's activity log, Microsoft.Insights/eventtypes/management/values.`
}

func (c *auditListCmd) filter(now time.Time) (string, error) {
	var parts []string
	eq := func(field, value string) {
		if value != "" {
			parts = append(parts, field+" eq '"+strings.ReplaceAll(value, "'", "''")+"'")
		}
	}
	for _, bound := range [][2]string{{"ge", c.Since}, {"le", c.Until}} {
		if bound[1] == "" {
			continue
		}
		at, err := time.Parse(time.RFC3339, bound[1])
		if span, e := time.ParseDuration(bound[1]); e == nil {
			at, err = now.Add(-span), nil
		}
		if err != nil {
			return "", fail(exitUsage, "", "%q is neither a time like 2026-01-31T12:00:00Z nor a span like 24h", bound[1])
		}
		parts = append(parts, "eventTimestamp "+bound[0]+" '"+at.UTC().Format(time.RFC3339Nano)+"'")
	}
	eq("caller", c.Caller)
	eq("resourceId", c.Resource)
	eq("resourceGroupName", c.Group)
	eq("operationName", c.Operation)
	eq("status", c.Status)
	if c.Filter != "" {
		parts = append(parts, c.Filter)
	}
	return strings.Join(parts, " and "), nil
}

func (c *auditListCmd) Run(ctx context.Context, s *stdio) error {
	if c.Limit < 1 {
		return fail(exitUsage, "", "--limit must be positive")
	}
	filter, err := c.filter(time.Now())
	if err != nil {
		return err
	}
	a, err := c.open(s)
	if err != nil {
		return err
	}
	path, err := a.subscriptionPath(ctx, "Microsoft.Insights/eventtypes/management/values")
	if err != nil {
		return err
	}
	query := apiVersion(activityVersion)
	if filter != "" {
		query.Set("$filter", filter)
	}
	events := []json.RawMessage{}
	for len(events) < c.Limit {
		var page armList
		if _, err := a.call(ctx, http.MethodGet, path, query, nil, &page); err != nil {
			return err
		}
		events = append(events, page.Value...)
		if page.NextLink == "" {
			break
		}
		next, err := url.Parse(page.NextLink)
		if err != nil {
			return err
		}
		path, query = next.EscapedPath(), next.Query()
	}
	events = events[:min(len(events), c.Limit)]
	return s.print(c.JSON, map[string]any{"value": events}, func(w io.Writer) {
		row(w, "TIME", "CALLER", "OPERATION", "RESOURCE", "RESULT")
		for _, raw := range events {
			row(w, eventRow(raw)...)
		}
	})
}

func eventRow(raw json.RawMessage) []string {
	var e struct {
		EventTimestamp time.Time
		Caller         string
		Description    string
		OperationName  struct{ Value string }
		ResourceID     string `json:"resourceId"`
		Properties     struct{ StatusCode, StatusMessage string }
	}
	_ = json.Unmarshal(raw, &e) // what does not decode is shown empty
	result := strings.TrimSpace(e.Properties.StatusCode + " " + e.Properties.StatusMessage)
	if e.Description != "" {
		result = e.Description
	}
	_, short, found := strings.Cut(e.ResourceID, "/providers/")
	if !found {
		short = e.ResourceID
	}
	return []string{e.EventTimestamp.Format("2006-01-02 15:04:05"), orDash(e.Caller), orDash(e.OperationName.Value), orDash(short), orDash(fmt.Sprint(result))}
}
