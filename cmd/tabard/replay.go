package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strconv"
)

type traceShowCmd struct {
	instanceFlags
	ID      uint64 `arg:"" help:"Id of the record, as tabard trace tail --json shows it."`
	Content bool   `help:"Show what was sent to the handler instead: headers and body, but nothing that proves who sent it."`
}

func (traceShowCmd) Help() string {
	return `Prints one record of the trace as JSON, or with --content the event that it is about. Contents are kept up to 64 KiB each, as long as there is room; they are the clients' own data, so reading them needs more than a reader's role.

Example:

    tabard trace show 42
    tabard trace show 42 --content

Words: record and reason code are Tabard's; the columns of a record are those of Azure's live trace.`
}

func (c *traceShowCmd) Run(ctx context.Context, s *stdio) error {
	a, path, err := c.connect(ctx, s)
	if err != nil {
		return err
	}
	path += "/trace/" + strconv.FormatUint(c.ID, 10)
	method := http.MethodGet
	if c.Content {
		method, path = http.MethodPost, path+"/listContent"
	}
	var raw json.RawMessage
	if _, err := a.call(ctx, method, path, apiVersion(armVersion), nil, &raw); err != nil {
		return err
	}
	return s.print(true, raw, nil)
}

type traceReplayCmd struct {
	instanceFlags
	jsonFlag
	ID       uint64 `arg:"" help:"Id of the record, as tabard trace tail --json shows it."`
	To       string `help:"Send it to this URL instead of the rule that takes the event." placeholder:"URL"`
	Audience string `help:"With --to: send a token for this audience. Without it a token goes along only if the URL has the origin that the rule names." placeholder:"URI"`
}

func (traceReplayCmd) Help() string {
	return `Sends a recorded event again, the same bytes with a fresh token, and compares the answers. No client hears of it. The handler sees the same ce-id, connection and state; cookies are not repeated.

Token, signature and secrets of the rule's URL belong to the origin that the rule names. Sent elsewhere, the event proves nothing, unless --audience asks for a token for that very receiver. The URL must consent like any event handler (OPTIONS). It ends with 4 if the event was not taken this time.

Example:

    tabard trace replay 42
    tabard trace replay 42 --to https://staging.example.com/hook --json

Words: replay and comparison are Tabard's; what is sent and answered is Azure's event handler protocol.`
}

func (c *traceReplayCmd) Validate() error {
	if c.Audience != "" && c.To == "" {
		return fmt.Errorf("--audience goes with --to: otherwise the rule's own audience is used")
	}
	return nil
}

func (c *traceReplayCmd) Run(ctx context.Context, s *stdio) error {
	a, path, err := c.connect(ctx, s)
	if err != nil {
		return err
	}
	var raw json.RawMessage
	body := map[string]string{"to": c.To, "audience": c.Audience}
	if err := a.wait(ctx, path+"/trace/"+strconv.FormatUint(c.ID, 10)+"/replay", body, &raw); err != nil {
		return err
	}
	var out struct {
		Original, Replayed                                 record
		Answer                                             handlerAnswer
		SameStatus, SameContentType, SameBody, RuleChanged bool
		Token                                              string
	}
	if err := json.Unmarshal(raw, &out); err != nil {
		return err
	}
	if c.JSON {
		err = s.print(true, raw, nil)
	} else {
		same := map[bool]string{true: "same", false: "different"}
		_, err = fmt.Fprintf(s.out, "first    %sagain    %s%s    token %s\n    status %s, content type %s, body %s\n", out.Original.String(), out.Replayed.String(), out.Answer.String(),
			out.Token, same[out.SameStatus], same[out.SameContentType], same[out.SameBody])
		if out.RuleChanged && err == nil {
			_, err = io.WriteString(s.out, "    the hub's rule for this event has changed since\n")
		}
	}
	if err == nil && out.Replayed.fault() {
		err = fail(exitRefused, "", "the event was not delivered: %s", out.Replayed.Code)
	}
	return err
}
