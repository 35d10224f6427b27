package main

import (
	"bufio"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/gobwas/ws"

	"tabard/internal/wire"
)

// jsonSubprotocol is what --subprotocol json means.
const jsonSubprotocol = "json.webpubsub.azure.v1"

type connectCmd struct {
	endpointFlags
	jsonFlag
	Hub         string            `required:"" help:"Hub." placeholder:"HUB"`
	User        string            `help:"User id; without it the connection has none." placeholder:"USER"`
	Role        []string          `help:"Role, for example webpubsub.sendToGroup; repeatable." sep:"none" placeholder:"ROLE"`
	Group       []string          `help:"Group that the connection is in from the start; repeatable." sep:"none" placeholder:"GROUP"`
	Expires     time.Duration     `help:"Life of the client access URL." default:"1h" placeholder:"DURATION"`
	Subprotocol []string          `help:"WebSocket subprotocol to offer; json stands for json.webpubsub.azure.v1; repeatable." sep:"none" placeholder:"NAME"`
	Query       map[string]string `help:"Further parameter of the handshake, for example webpubsub_mode=sendToGroup; repeatable." mapsep:"none" placeholder:"NAME=VALUE"`
	Anonymous   bool              `help:"Send no token."`
	PrintURL    bool              `name:"print-url" help:"Print the client access URL and do not connect."`
	Count       int               `help:"End after so many received messages." placeholder:"N"`
	Wait        time.Duration     `help:"End so long after the end of stdin; default: when the service closes or at an interrupt." placeholder:"DURATION"`
}

func (connectCmd) Help() string {
	return `Each line of stdin is sent as one text message. Each received message is printed on a line: text as it is, binary as base64. With the subprotocol json both are JSON, as in the example; without one they are the bare data, and what is sent becomes the user event "message".

Example:

    tabard connect --hub chat --user ann
    tabard connect --hub chat --subprotocol json --role webpubsub.joinLeaveGroup --role webpubsub.sendToGroup
    {"type":"joinGroup","group":"room1","ackId":1}
    tabard connect --hub chat --user ann --print-url

Words: user, role, group, subprotocol and client access URL are Azure Web PubSub's; the claims of the token are sub, role and webpubsub.group.`
}

// Validate finds flags that contradict each other.
func (c *connectCmd) Validate() error {
	switch {
	case c.Anonymous && (c.User != "" || len(c.Role)+len(c.Group) > 0):
		return errors.New("--anonymous sends no token, so --user, --role and --group have no place to go")
	case c.JSON && !c.PrintURL:
		return errors.New("--json goes with --print-url; messages are printed as they come")
	case c.Expires <= 0:
		return errors.New("--expires must be positive")
	case c.Count < 0 || c.Wait < 0:
		return errors.New("--count and --wait must not be negative")
	}
	return nil
}

// access is a client access URL and its parts, named as the SDKs' getClientAccessToken names them.
type access struct {
	URL     string `json:"url"`
	BaseURL string `json:"baseUrl"`
	Token   string `json:"token"`
}

func (c *connectCmd) access(e *endpoint) access {
	audience := e.clientURL(c.Hub)
	a := access{BaseURL: webSocket(audience)}
	query := url.Values{}
	for name, value := range c.Query {
		query.Set(name, value)
	}
	if !c.Anonymous {
		now := time.Now()
		a.Token = wire.Sign(e.key, clientClaims{Audience: audience, Issued: now.Unix(), Expires: now.Add(c.Expires).Unix(),
			Subject: c.User, Roles: c.Role, Groups: c.Group})
		query.Set("access_token", a.Token)
	}
	if a.URL = a.BaseURL; len(query) > 0 {
		a.URL += "?" + query.Encode()
	}
	return a
}

func (c *connectCmd) Run(ctx context.Context, s *stdio) error {
	e, err := c.endpoint(ctx, s)
	if err != nil {
		return err
	}
	a := c.access(e)
	if c.PrintURL {
		return s.print(c.JSON, a, func(w io.Writer) { row(w, a.URL) })
	}
	conn, err := c.dial(ctx, e, a)
	if err != nil {
		return err
	}
	defer conn.Close()
	s.note("connected to %s%s", a.BaseURL, conn.describe())
	return c.converse(ctx, s, conn)
}

func (c *connectCmd) dial(ctx context.Context, e *endpoint, a access) (*socket, error) {
	var refused *failure
	d := ws.Dialer{
		Timeout:   callTimeout,
		NetDial:   dial,
		TLSConfig: e.http.Transport.(*http.Transport).TLSClientConfig,
		OnStatusError: func(status int, _ []byte, answer io.Reader) {
			refused = c.handshakeRefusal(status, answer)
		},
	}
	for _, name := range c.Subprotocol {
		if name == "json" {
			name = jsonSubprotocol
		}
		d.Protocols = append(d.Protocols, name)
	}
	conn, rest, handshake, err := d.Dial(ctx, a.URL)
	if refused != nil {
		return nil, refused
	}
	if err != nil {
		return nil, unreachable(err, a.BaseURL)
	}
	if rest == nil {
		rest = bufio.NewReader(conn)
	}
	return &socket{conn: conn, r: rest, protocol: handshake.Protocol}, nil
}

// handshakeRefusal reads the service's answer to a handshake that it did not accept.
func (c *connectCmd) handshakeRefusal(status int, answer io.Reader) *failure {
	f := &failure{code: exitFailure, message: fmt.Sprintf("the service refused the client: %d %s", status, http.StatusText(status))}
	if status >= 400 && status < 500 {
		f.code = exitRefused
	}
	resp, err := http.ReadResponse(bufio.NewReader(answer), nil)
	if err != nil {
		return f
	}
	defer resp.Body.Close()
	if text, err := io.ReadAll(io.LimitReader(resp.Body, 4<<10)); err == nil && len(text) > 0 {
		f.message += ": " + strings.TrimSpace(string(text))
	}
	f.hint = c.whereToLook()
	return f
}

// whereToLook is advice for connections that the service ended or refused, if it is one that can be asked.
func (c *connectCmd) whereToLook() string {
	if c.foreign() {
		return ""
	}
	return "`tabard trace tail --level Warning --last 1 --no-follow` says why"
}

// converse sends lines and prints messages until something ends it.
func (c *connectCmd) converse(ctx context.Context, s *stdio, conn *socket) error {
	stop := context.AfterFunc(ctx, conn.hangUp)
	defer stop()

	sent := make(chan error, 1)
	// Nothing can end a read of a terminal, so this goroutine is not waited for; the process ends with the command.
	go func() { sent <- sendLines(s.in, conn) }()

	received := make(chan error, 1)
	go func() { received <- c.printMessages(s, conn) }()

	for {
		select {
		case err := <-received:
			if ctx.Err() != nil {
				return nil // interrupted, and the service took leave
			}
			return err
		case err := <-sent:
			sent = nil
			if err != nil {
				conn.hangUp()
				<-received
				return err
			}
			if c.Wait > 0 {
				timer := time.AfterFunc(c.Wait, conn.hangUp)
				defer timer.Stop()
			}
		}
	}
}

// sendLines sends each line as a text message.
func sendLines(in io.Reader, conn *socket) error {
	lines := bufio.NewScanner(in)
	lines.Buffer(nil, maxMessage)
	for lines.Scan() {
		if err := conn.send(ws.OpText, lines.Bytes()); err != nil {
			return nil // the receiving side has the better reason
		}
	}
	if errors.Is(lines.Err(), bufio.ErrTooLong) {
		return fail(exitUsage, "", "a line of stdin has more than %d bytes", maxMessage)
	}
	return lines.Err()
}

// printMessages prints until the connection ends or enough has come.
func (c *connectCmd) printMessages(s *stdio, conn *socket) error {
	for n := 0; ; {
		op, data, err := conn.receive()
		var closed *closedError
		switch {
		case errors.As(err, &closed):
			s.note("%v", closed)
			if closed.ours || closed.code == ws.StatusNormalClosure {
				return nil
			}
			return fail(exitFailure, c.whereToLook(), "the service ended the connection")
		case err != nil:
			return fmt.Errorf("the connection broke: %w", err)
		case op == ws.OpBinary:
			data = base64.StdEncoding.AppendEncode(nil, data)
		}
		if _, err := s.out.Write(append(data, '\n')); err != nil {
			return err
		}
		if n++; n == c.Count {
			conn.hangUp()
		}
	}
}
