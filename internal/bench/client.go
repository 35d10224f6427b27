package bench

import (
	"bytes"
	"context"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"sync/atomic"
	"time"

	"tabard/internal/wire"
)

const subprotocol = "json.webpubsub.azure.v1"

// A client is one WebSocket connection with json.webpubsub.azure.v1.
type client struct {
	*wire.Conn
	acks atomic.Uint64
}

// dial opens a client of the given user, who may do everything.
func dial(ctx context.Context, t *Target, user string) (*client, error) {
	token := wire.Sign(t.Key, map[string]any{
		"aud": t.ClientURL(), "exp": time.Now().Add(time.Hour).Unix(), "sub": user,
		"role": []string{"webpubsub.joinLeaveGroup", "webpubsub.sendToGroup"},
	})
	conn, err := wire.Dial(ctx, &t.Endpoint, wire.Handshake{URL: t.ClientURL() + "?access_token=" + token, Subprotocols: []string{subprotocol}})
	if err != nil {
		return nil, err
	}
	c := &client{Conn: conn}
	c.Deadline(time.Now().Add(wire.Timeout))
	first, err := c.next()
	if err == nil && !bytes.Contains(first, []byte(`"event":"connected"`)) {
		err = fmt.Errorf("the first message is %.80s", first)
	}
	if err != nil {
		c.Close()
		return nil, err
	}
	return c, nil
}

// next reads the payload of the next data frame, valid until the next call.
func (c *client) next() ([]byte, error) {
	_, payload, err := c.Next()
	return payload, err
}

// request sends a JSON request with an ack id and awaits its ack; nothing else may be under way.
func (c *client) request(format string, args ...any) error {
	id := c.acks.Add(1)
	if err := c.Write(wire.Text, fmt.Appendf(nil, `{"ackId":%d,`+format+`}`, append([]any{id}, args...)...)); err != nil {
		return err
	}
	for {
		payload, err := c.next()
		if err != nil {
			return err
		}
		if bytes.Contains(payload, []byte(`"type":"ack"`)) && bytes.Contains(payload, fmt.Appendf(nil, `"ackId":%d,`, id)) {
			if !bytes.Contains(payload, []byte(`"success":true`)) {
				return fmt.Errorf("refused: %s", payload)
			}
			return nil
		}
	}
}

func (c *client) join(group string) error { return c.request(`"type":"joinGroup","group":%q`, group) }

// A message is what the text of a measured message says.
type message struct {
	number uint64
	due    time.Duration // on the clock of epoch
}

// text makes a message's text of exactly n bytes: number, due time, filler.
func (m message) text(n int) string {
	b := strconv.AppendUint(make([]byte, 0, n), m.number, 10)
	b = append(b, '|')
	b = strconv.AppendInt(b, int64(m.due), 10)
	b = append(b, '|')
	for len(b) < n {
		b = append(b, 'x')
	}
	return string(b)
}

var dataMember = []byte(`"data":"`)

// receive reads the next measured message; other frames are passed over.
func (c *client) receive() (message, error) {
	c.Deadline(time.Time{})
	for {
		payload, err := c.next()
		if err != nil {
			return message{}, err
		}
		i := bytes.Index(payload, dataMember)
		if i < 0 {
			continue // an ack
		}
		number, rest, ok := cutNumber(payload[i+len(dataMember):])
		due, _, ok2 := cutNumber(rest)
		if !ok || !ok2 {
			return message{}, fmt.Errorf("not a message of ours: %.80s", payload)
		}
		return message{number, time.Duration(due)}, nil
	}
}

// cutNumber reads digits up to a bar.
func cutNumber(b []byte) (n uint64, rest []byte, ok bool) {
	for i, d := range b {
		switch {
		case d >= '0' && d <= '9':
			n = n*10 + uint64(d-'0')
		case d == '|' && i > 0:
			return n, b[i+1:], true
		default:
			return 0, nil, false
		}
	}
	return 0, nil, false
}

// publish sends a message to a group over the client's socket.
func (c *client) publish(group string, m message, size int, echo bool) error {
	return c.Write(wire.Text, fmt.Appendf(nil, `{"type":"sendToGroup","group":%q,"noEcho":%t,"dataType":"text","data":"%s"}`, group, !echo, m.text(size)))
}

// sendEvent sends a user event; the handler is expected to answer with its data.
func (c *client) sendEvent(m message, size int) error {
	return c.Write(wire.Text, fmt.Appendf(nil, `{"type":"event","event":"bench","dataType":"text","data":"%s"}`, m.text(size)))
}

var textPlain = http.Header{"Content-Type": {"text/plain"}}

// A publisher publishes over REST.
type publisher struct {
	url, token string
	http       *http.Client
}

func newPublisher(t *Target, group string) *publisher {
	u := t.HubURL() + "/groups/" + url.PathEscape(group) + "/:send?api-version=2024-12-01"
	token := wire.Sign(t.Key, map[string]any{"aud": u, "exp": time.Now().Add(time.Hour).Unix()})
	return &publisher{url: u, token: token, http: t.HTTP(MaxInFlight)}
}

func (p *publisher) publish(ctx context.Context, text string) error {
	a, err := wire.Do(ctx, p.http, wire.Call{Method: http.MethodPost, URL: p.url, Token: p.token, Header: textPlain, Body: []byte(text)})
	if err != nil {
		return err
	}
	if a.Status != http.StatusAccepted {
		return fmt.Errorf("publish: %d %s %s", a.Status, http.StatusText(a.Status), a.Body[:min(len(a.Body), 512)])
	}
	return nil
}
