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
)

// hubProperties is the part of ARM's hub properties that the flags of hub set speak of.
type hubProperties struct {
	EventHandlers          []eventHandler `json:"eventHandlers"`
	AnonymousConnectPolicy string         `json:"anonymousConnectPolicy"`
	KeepAliveSeconds       int            `json:"webSocketKeepAliveIntervalInSeconds"`
}

type eventHandler struct {
	URLTemplate      string       `json:"urlTemplate"`
	UserEventPattern string       `json:"userEventPattern,omitempty"`
	SystemEvents     []string     `json:"systemEvents,omitempty"`
	Auth             *handlerAuth `json:"auth,omitempty"`
}

type handlerAuth struct {
	Type            string `json:"type"`
	ManagedIdentity *struct {
		Resource string `json:"resource,omitempty"`
	} `json:"managedIdentity,omitempty"`
}

func (a *handlerAuth) String() string {
	switch {
	case a == nil:
		return "None"
	case a.ManagedIdentity != nil && a.ManagedIdentity.Resource != "":
		return a.Type + ", audience " + a.ManagedIdentity.Resource
	case a.Type == managedIdentity:
		return a.Type + ", no audience: Microsoft Graph"
	}
	return a.Type
}

const managedIdentity = "ManagedIdentity"

const hubWords = `

Words: hub, event handler, URL template, user event pattern, system events and anonymous connect policy are Azure Web PubSub's hub settings (Microsoft.SignalRService/webPubSub/hubs).`

func hubPath(instance, hub string) string { return instance + "/hubs/" + url.PathEscape(hub) }

type hubListCmd struct {
	instanceFlags
	jsonFlag
}

func (hubListCmd) Help() string {
	return `A hub needs no settings to exist: clients may connect to any hub name, and one without settings has no event handlers and denies anonymous clients.

Example:

    tabard hub list` + hubWords
}

func (c *hubListCmd) Run(ctx context.Context, s *stdio) error {
	a, path, err := c.connect(ctx, s)
	if err != nil {
		return err
	}
	all, err := a.list(ctx, path+"/hubs", apiVersion(armVersion))
	if err != nil {
		return err
	}
	hubs, err := itemsOf[hub](all)
	if err != nil {
		return err
	}
	return s.print(c.JSON, armList{Value: all}, func(w io.Writer) {
		row(w, "HUB", "HANDLERS", "ANONYMOUS", "FIRST HANDLER")
		for _, h := range hubs {
			first := ""
			if len(h.Properties.EventHandlers) > 0 {
				first = h.Properties.EventHandlers[0].URLTemplate
			}
			row(w, h.Name, fmt.Sprint(len(h.Properties.EventHandlers)), h.Properties.AnonymousConnectPolicy, orDash(first))
		}
	})
}

type hub struct {
	Name       string        `json:"name"`
	Properties hubProperties `json:"properties"`
}

func printHub(s *stdio, asJSON bool, raw json.RawMessage) error {
	var h hub
	if err := json.Unmarshal(raw, &h); err != nil {
		return err
	}
	return s.print(asJSON, raw, func(w io.Writer) {
		row(w, "hub", h.Name)
		row(w, "anonymous clients", h.Properties.AnonymousConnectPolicy)
		row(w, "keep-alive", fmt.Sprintf("%d s", h.Properties.KeepAliveSeconds))
		if len(h.Properties.EventHandlers) == 0 {
			row(w, "event handlers", "none")
		}
		for i, e := range h.Properties.EventHandlers {
			row(w, fmt.Sprintf("event handler %d", i+1), e.URLTemplate)
			row(w, "  user events", orDash(e.UserEventPattern))
			row(w, "  system events", orDash(strings.Join(e.SystemEvents, ",")))
			row(w, "  authentication", e.Auth.String())
		}
	})
}

type hubShowCmd struct {
	instanceFlags
	jsonFlag
	Hub string `arg:"" help:"Name of the hub."`
}

func (hubShowCmd) Help() string {
	return `URL templates are shown as configured; secrets that they refer to are never resolved here.

Example:

    tabard hub show chat
    tabard hub show chat --json > hub.json` + hubWords
}

func (c *hubShowCmd) Run(ctx context.Context, s *stdio) error {
	a, path, err := c.connect(ctx, s)
	if err != nil {
		return err
	}
	var raw json.RawMessage
	if _, err := a.call(ctx, http.MethodGet, hubPath(path, c.Hub), apiVersion(armVersion), nil, &raw); err != nil {
		return hinted(err, exitNotFound, "`tabard hub list` shows the hubs with settings; any other hub has the defaults")
	}
	return printHub(s, c.JSON, raw)
}

type hubSetCmd struct {
	instanceFlags
	jsonFlag
	Hub          string   `arg:"" help:"Name of the hub."`
	HandlerURL   string   `name:"handler-url" help:"Where events go: a URL template with {hub} and {event}. Replaces all event handlers of the hub by this one." placeholder:"URL"`
	UserEvents   string   `help:"User events for the handler: '*' for all, or names separated by commas." placeholder:"PATTERN"`
	SystemEvents []string `help:"System events for the handler." enum:"connect,connected,disconnected" placeholder:"EVENT"`
	Auth         string   `help:"How the service authenticates to the handler: none or managed-identity." enum:"none,managed-identity," default:"" placeholder:"HOW"`
	Audience     string   `help:"Audience of the token: the application's id or identifier URI. Needs --auth managed-identity." placeholder:"URI"`
	Anonymous    string   `help:"Clients without a token: allow or deny." enum:"allow,deny," default:"" placeholder:"POLICY"`
	KeepAlive    int      `help:"Seconds between the service's WebSocket pings, 1 to 120." placeholder:"SECONDS"`
	File         string   `short:"f" help:"JSON file with the whole settings instead of the flags above: ARM's properties object, alone or as tabard hub show --json prints it; - is stdin." placeholder:"FILE"`
}

func (hubSetCmd) Help() string {
	return `With flags, only what they name changes. With -f, the file is the whole of the settings: everything a hub can have, several event handlers in order included. Takes effect for the next event of every connection.

Example:

    tabard app create orders --identifier-uri api://orders
    tabard identity assign --system
    tabard hub set chat --handler-url https://127.0.0.1:9000/events/{event} --user-events '*' --system-events connect,connected,disconnected --auth managed-identity --audience api://orders
    tabard hub set chat -f hub.json` + hubWords
}

// Validate finds flags that contradict each other.
func (c *hubSetCmd) Validate() error {
	handlerFlags := c.UserEvents != "" || len(c.SystemEvents) > 0 || c.Auth != "" || c.Audience != ""
	otherFlags := c.HandlerURL != "" || c.Anonymous != "" || c.KeepAlive != 0
	switch {
	case c.File != "" && (handlerFlags || otherFlags):
		return errors.New("-f is the whole of the settings: it goes with no other setting")
	case c.File == "" && !handlerFlags && !otherFlags:
		return errors.New("nothing to set: give --handler-url, --anonymous, --keep-alive or -f")
	case handlerFlags && c.HandlerURL == "":
		return errors.New("--user-events, --system-events, --auth and --audience describe a handler: give --handler-url too")
	case c.HandlerURL != "" && c.UserEvents == "" && len(c.SystemEvents) == 0:
		return errors.New("the handler would get no event: give --user-events, --system-events or both")
	case c.Audience != "" && c.Auth != "managed-identity":
		return errors.New("--audience needs --auth managed-identity")
	}
	return nil
}

func (c *hubSetCmd) Run(ctx context.Context, s *stdio) error {
	a, path, err := c.connect(ctx, s)
	if err != nil {
		return err
	}
	path = hubPath(path, c.Hub)
	var properties json.RawMessage
	if c.File != "" {
		properties, err = readProperties(c.File, s.in)
	} else {
		properties, err = c.merged(ctx, a, path)
	}
	if err != nil {
		return err
	}
	var raw json.RawMessage
	body := map[string]json.RawMessage{"properties": properties}
	if _, err := a.call(ctx, http.MethodPut, path, apiVersion(armVersion), body, &raw); err != nil {
		return err
	}
	return printHub(s, c.JSON, raw)
}

// readProperties reads ARM's properties of a hub, or a whole hub resource.
func readProperties(name string, stdin io.Reader) (json.RawMessage, error) {
	text, err := readFileOrStdin(name, stdin)
	if err != nil {
		return nil, err
	}
	var members map[string]json.RawMessage
	if err := json.Unmarshal(text, &members); err != nil {
		return nil, fail(exitUsage, "`tabard hub show HUB --json` prints one that fits", "%s is not a JSON object: %v", name, err)
	}
	if inner, ok := members["properties"]; ok {
		return inner, nil
	}
	return text, nil
}

// readFileOrStdin reads a file, or stdin if its name is "-".
func readFileOrStdin(name string, stdin io.Reader) ([]byte, error) {
	if name == "-" {
		return io.ReadAll(io.LimitReader(stdin, maxAnswer))
	}
	return os.ReadFile(name)
}

// merged is what the hub has now with what the flags say in its place. Properties that no flag speaks of stay.
func (c *hubSetCmd) merged(ctx context.Context, a *admin, path string) (json.RawMessage, error) {
	var current struct{ Properties map[string]any }
	_, err := a.call(ctx, http.MethodGet, path, apiVersion(armVersion), nil, &current)
	var missing *failure
	if err != nil && (!errors.As(err, &missing) || missing.code != exitNotFound) {
		return nil, err
	}
	properties := current.Properties
	if properties == nil {
		properties = map[string]any{}
	}
	if c.HandlerURL != "" {
		properties["eventHandlers"] = []eventHandler{c.handler()}
	}
	if c.Anonymous != "" {
		properties["anonymousConnectPolicy"] = c.Anonymous
	}
	if c.KeepAlive != 0 {
		properties["webSocketKeepAliveIntervalInSeconds"] = c.KeepAlive
	}
	return json.Marshal(properties)
}

func (c *hubSetCmd) handler() eventHandler {
	h := eventHandler{URLTemplate: c.HandlerURL, UserEventPattern: c.UserEvents, SystemEvents: c.SystemEvents}
	switch c.Auth {
	case "none":
		h.Auth = &handlerAuth{Type: "None"}
	case "managed-identity":
		h.Auth = &handlerAuth{Type: managedIdentity}
		if c.Audience != "" {
			h.Auth.ManagedIdentity = &struct {
				Resource string `json:"resource,omitempty"`
			}{c.Audience}
		}
	}
	return h
}

type hubDeleteCmd struct {
	instanceFlags
	Hub string `arg:"" help:"Name of the hub."`
}

func (hubDeleteCmd) Help() string {
	return `Connections stay. The hub then has the defaults: no event handlers, anonymous clients denied.

Example:

    tabard hub delete chat` + hubWords
}

func (c *hubDeleteCmd) Run(ctx context.Context, s *stdio) error {
	a, path, err := c.connect(ctx, s)
	if err != nil {
		return err
	}
	if err := a.remove(ctx, hubPath(path, c.Hub), armVersion, "hub with settings named", c.Hub); err != nil {
		return err
	}
	s.note("the settings of hub %s are deleted", c.Hub)
	return nil
}
