package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"time"
)

type listenCmd struct {
	instanceFlags
	Hub     string `required:"" help:"Hub." placeholder:"HUB"`
	Event   string `help:"Only this event." placeholder:"EVENT"`
	Forward string `help:"Post each event to this URL too." placeholder:"URL"`
	Last    int    `help:"Begin with the newest so many events that are kept." placeholder:"N"`
	Count   int    `help:"End after so many events." placeholder:"N"`
	JSON    bool   `name:"json" help:"Print each event as one JSON object on a line."`
}

func (listenCmd) Help() string {
	return `Prints the events of a hub as they go to its handler, or fail to, with their data; user events that no rule takes are there too. --forward posts each one, with the same ce- headers and body, to a program that needs no public address, for example one under a debugger.

What it is not: the forwarded copy carries no token and no signature, since the service's identity is never handed out, and its answer goes to nobody; the client gets the answer of the hub's own handler. Events over 64 KiB come without data and are not forwarded.

Example:

    tabard listen --hub chat
    tabard listen --hub chat --event message --forward http://localhost:3000/eventhandler

Words: hub, event and the ce- headers are Azure's; listen is Tabard's.`
}

func (c *listenCmd) Validate() error {
	if c.Forward == "" {
		return nil
	}
	if u, err := url.Parse(c.Forward); err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
		return fmt.Errorf("--forward: %q is not an http or https URL", c.Forward)
	}
	return nil
}

// heard is one event as the service tells of it.
type heard struct {
	Record  record
	Content *struct {
		ContentType string      `json:"contentType"`
		Body        []byte      `json:"body"`
		Headers     http.Header `json:"headers"`
	}
}

func (c *listenCmd) Run(ctx context.Context, s *stdio) error {
	a, path, err := c.connect(ctx, s)
	if err != nil {
		return err
	}
	q := apiVersion(armVersion)
	q.Set("hub", c.Hub)
	if c.Event != "" {
		q.Set("event", c.Event)
	}
	q.Set("last", strconv.Itoa(c.Last))
	resp, err := a.do(ctx, http.MethodPost, path+"/listen", q, nil, "text/event-stream")
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	s.note("listening to hub %s", c.Hub)
	n := 0
	err = readEvents(resp.Body, func(e serverEvent) (bool, error) {
		if e.name == "lost" { // we were too slow for some
			s.note("some events were lost: %s", e.data)
			return true, nil
		}
		n++
		return n != c.Count, c.show(ctx, s, e.data)
	})
	switch {
	case ctx.Err() != nil || n == c.Count && c.Count > 0:
		return nil
	case err != nil:
		return err
	}
	return fail(exitUnreachable, "", "the service ended the stream")
}

func (c *listenCmd) show(ctx context.Context, s *stdio, raw []byte) error {
	var h heard
	if err := json.Unmarshal(raw, &h); err != nil {
		return fmt.Errorf("the service sent something that is no event: %w", err)
	}
	if c.JSON {
		if _, err := fmt.Fprintf(s.out, "%s\n", raw); err != nil {
			return err
		}
	} else {
		text := h.Record.String()
		if h.Content != nil {
			text += bodyText(h.Content.Body, h.Content.ContentType)
		}
		if _, err := io.WriteString(s.out, text); err != nil {
			return err
		}
	}
	if c.Forward == "" {
		return nil
	}
	if h.Content == nil {
		s.note("not forwarded: the event's data is not kept")
		return nil
	}
	status, err := c.forward(ctx, &h)
	if err != nil {
		s.note("not forwarded: %v", err)
		return ctx.Err()
	}
	s.note("forwarded: %s", status)
	return nil
}

// forwardTimeout is how long the program may take, as the service would give it.
const forwardTimeout = 100 * time.Second

// forward posts the event and returns the status.
func (c *listenCmd) forward(ctx context.Context, h *heard) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, forwardTimeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, c.Forward, bytes.NewReader(h.Content.Body))
	if err != nil {
		return "", err
	}
	for name, values := range h.Content.Headers {
		req.Header[name] = values
	}
	resp, err := http.DefaultTransport.RoundTrip(req) // follows no redirect, as the service does not
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	_, _ = io.Copy(io.Discard, io.LimitReader(resp.Body, 1<<20))
	return resp.Status, nil
}
