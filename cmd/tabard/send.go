package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
)

// restVersion is the data plane's api-version.
const restVersion = "2024-12-01"

// maxMessage bounds a message in bytes, as the service does.
const maxMessage = 1 << 20

type sendCmd struct {
	endpointFlags
	jsonFlag
	Hub        string   `required:"" help:"Hub." placeholder:"HUB"`
	Group      string   `xor:"to" help:"Send to the members of a group instead of all." placeholder:"GROUP"`
	User       string   `xor:"to" help:"Send to the connections of a user." placeholder:"USER"`
	Connection string   `xor:"to" help:"Send to one connection." placeholder:"ID"`
	Type       string   `help:"text, json or binary." enum:"text,json,binary" default:"text"`
	Exclude    []string `help:"Connection that gets nothing; repeatable; for all and groups." sep:"none" placeholder:"ID"`
	Filter     string   `help:"OData filter that a connection must match, as in \"userId ne 'ann'\"; not for one connection." placeholder:"FILTER"`
	Message    string   `arg:"" optional:"" help:"Message; without it, or as -, stdin is read to its end."`
}

func (sendCmd) Help() string {
	return `Publishes one message with the instance's access key, as a server does through its SDK. It is accepted when the service answers; that nobody was there to receive it is no error.

Example:

    tabard send --hub chat 'good morning'
    tabard send --hub chat --group room1 --type json '{"temperature": 21}'
    tabard send --hub chat --user ann --type binary - < picture.png

Words: hub, group, user and connection, and text, json and binary as types of data, are those of Azure Web PubSub's REST API (SendToAll, SendToGroup, SendToUser, SendToConnection).`
}

// Validate refuses what the API has no parameter for.
func (c *sendCmd) Validate() error {
	switch {
	case len(c.Exclude) > 0 && (c.User != "" || c.Connection != ""):
		return fmt.Errorf("--exclude goes with all connections or a group")
	case c.Filter != "" && c.Connection != "":
		return fmt.Errorf("--filter does not go with --connection")
	}
	return nil
}

// target is the path below the hub and what people call it.
func (c *sendCmd) target() (path, name string) {
	switch {
	case c.Group != "":
		return "/groups/" + url.PathEscape(c.Group), "group " + c.Group
	case c.User != "":
		return "/users/" + url.PathEscape(c.User), "user " + c.User
	case c.Connection != "":
		return "/connections/" + url.PathEscape(c.Connection), "connection " + c.Connection
	}
	return "", "all"
}

var contentTypes = map[string]string{"text": "text/plain; charset=utf-8", "json": "application/json", "binary": "application/octet-stream"}

// sent is the result of a send.
type sent struct {
	Hub    string `json:"hub"`
	To     string `json:"to"` // "all", or a kind and a name
	Type   string `json:"type"`
	Bytes  int    `json:"bytes"`
	Status int    `json:"status"`
}

func (c *sendCmd) Run(ctx context.Context, s *stdio) error {
	message, err := c.message(s.in)
	if err != nil {
		return err
	}
	e, err := c.endpoint(ctx, s)
	if err != nil {
		return err
	}
	path, name := c.target()
	query := url.Values{"api-version": {restVersion}}
	if len(c.Exclude) > 0 {
		query["excluded"] = c.Exclude
	}
	if c.Filter != "" {
		query.Set("filter", c.Filter)
	}
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	address := e.origin + "/api/hubs/" + url.PathEscape(c.Hub) + path + "/:send?" + query.Encode()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, address, bytes.NewReader(message))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", contentTypes[c.Type])
	e.authorize(req)
	resp, err := e.http.Do(req)
	if err != nil {
		return unreachable(err, e.origin)
	}
	defer resp.Body.Close()
	if resp.StatusCode >= 300 {
		return refusal(resp)
	}
	result := sent{Hub: c.Hub, To: name, Type: c.Type, Bytes: len(message), Status: resp.StatusCode}
	if c.JSON {
		return s.print(true, result, nil)
	}
	s.note("%d bytes of %s accepted for %s of hub %s", result.Bytes, result.Type, result.To, result.Hub)
	return nil
}

// message reads what to send and refuses what the service would refuse anyway.
func (c *sendCmd) message(stdin io.Reader) ([]byte, error) {
	message := []byte(c.Message)
	if c.Message == "" || c.Message == "-" {
		var err error
		if message, err = io.ReadAll(io.LimitReader(stdin, maxMessage+1)); err != nil {
			return nil, err
		}
	}
	if len(message) > maxMessage {
		return nil, fail(exitUsage, "", "the message has more than %d bytes", maxMessage)
	}
	if c.Type == "json" && !json.Valid(message) {
		return nil, fail(exitUsage, "quote text, as in '\"hello\"', or send it with --type text", "the message is not valid JSON")
	}
	return message, nil
}
