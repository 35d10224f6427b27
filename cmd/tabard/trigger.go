package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"time"
	"unicode/utf8"
)

// deliveryTimeout bounds a request that waits for an event handler: the service gives one 100 s.
const deliveryTimeout = 2 * time.Minute

type triggerCmd struct {
	instanceFlags
	jsonFlag
	Hub        string `required:"" help:"Hub." placeholder:"HUB"`
	Event      string `help:"Name of the event; default message." placeholder:"EVENT"`
	System     bool   `help:"It is a system event: connect, connected or disconnected."`
	User       string `help:"User that the event is from." placeholder:"USER"`
	Connection string `help:"Connection that it is from; default a fresh id." placeholder:"ID"`
	Type       string `help:"What the data is: text, json or binary." enum:"text,json,binary" default:"text"`
	Payload    string `arg:"" optional:"" name:"data" help:"Data of the event; with - stdin is read to its end."`
}

func (triggerCmd) Help() string {
	return `Delivers an event that no client sent, through the hub's rules like any other: same headers, validation, token, retries and trace. The handler's answer is shown, and goes to nobody else. It ends with 4 if the handler did not take the event.

Example:

    tabard trigger --hub chat --user ann hello
    tabard trigger --hub chat --event order --type json '{"item": 7}'
    tabard trigger --hub chat --system --event connect --user ann

Words: hub, event, user and the three system events are Azure's; trigger is Tabard's.`
}

func (c *triggerCmd) Validate() error {
	if c.System && c.Event == "" {
		return fmt.Errorf("--system goes with --event connect, connected or disconnected")
	}
	return nil
}

// body is what the service is asked for.
func (c *triggerCmd) body(stdin io.Reader) (map[string]any, error) {
	data, given := []byte(c.Payload), c.Payload != ""
	if c.Payload == "-" {
		var err error
		if data, err = io.ReadAll(io.LimitReader(stdin, maxMessage+1)); err != nil {
			return nil, err
		}
	}
	if len(data) > maxMessage {
		return nil, fail(exitUsage, "", "the data has more than %d bytes", maxMessage)
	}
	body := map[string]any{"event": c.Event, "systemEvent": c.System, "userId": c.User, "connectionId": c.Connection}
	switch {
	case !given:
	case c.Type == "json" || c.System:
		if !json.Valid(data) {
			return nil, fail(exitUsage, "a system event's data is JSON too", "the data is not valid JSON")
		}
		body["json"] = json.RawMessage(data)
	case c.Type == "binary":
		body["base64"] = data
	default:
		body["data"] = string(data)
	}
	return body, nil
}

// handlerAnswer is what a handler said.
type handlerAnswer struct {
	Status      int    `json:"status"`
	ContentType string `json:"contentType"`
	Body        []byte `json:"body"`
	Truncated   bool   `json:"truncated"`
}

func (c *triggerCmd) Run(ctx context.Context, s *stdio) error {
	body, err := c.body(s.in)
	if err != nil {
		return err
	}
	a, path, err := c.connect(ctx, s)
	if err != nil {
		return err
	}
	var raw json.RawMessage
	if err := a.wait(ctx, path+"/hubs/"+url.PathEscape(c.Hub)+"/trigger", body, &raw); err != nil {
		return err
	}
	var out struct {
		Record record
		Answer *handlerAnswer
	}
	if err := json.Unmarshal(raw, &out); err != nil {
		return err
	}
	if c.JSON {
		err = s.print(true, raw, nil)
	} else {
		_, err = io.WriteString(s.out, out.Record.String()+out.Answer.String())
	}
	if err == nil && out.Record.fault() {
		err = fail(exitRefused, "", "the event was not delivered: %s", out.Record.Code)
	}
	return err
}

// String is the answer for people.
func (a *handlerAnswer) String() string {
	if a == nil || a.Status == 0 {
		return "    no answer\n"
	}
	return fmt.Sprintf("    answer %d %s\n%s", a.Status, printable(a.ContentType), bodyText(a.Body, a.ContentType))
}

// bodyText shows a body: text as it is, indented, anything else by its length.
func bodyText(body []byte, contentType string) string {
	const limit = 4 << 10 // bytes shown
	switch {
	case len(body) == 0:
		return ""
	case !utf8.Valid(body):
		return fmt.Sprintf("    (%d bytes of %s)\n", len(body), printable(contentType))
	case len(body) > limit:
		return fmt.Sprintf("    %s… (%d bytes)\n", printable(string([]rune(string(body[:limit])))), len(body))
	}
	return "    " + printable(string(body)) + "\n"
}

// wait is call for a request that an event handler answers.
func (a *admin) wait(ctx context.Context, path string, body, out any) error {
	ctx, cancel := context.WithTimeout(ctx, deliveryTimeout)
	defer cancel()
	resp, err := a.do(ctx, http.MethodPost, path, apiVersion(armVersion), body, "application/json")
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	return json.NewDecoder(io.LimitReader(resp.Body, maxAnswer)).Decode(out)
}
