package bench

import (
	"bufio"
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/gobwas/ws"
)

const (
	subprotocol = "json.webpubsub.azure.v1"
	dialTimeout = 20 * time.Second
	readBuffer  = 4 << 10
)

// A client is one WebSocket connection with json.webpubsub.azure.v1.
type client struct {
	conn   net.Conn
	r      *bufio.Reader
	closed atomic.Bool

	mu    sync.Mutex // guards writes and frame
	frame []byte
	acks  atomic.Uint64
}

// sign makes an access-key token as the SDKs do: the key's text is the key.
func sign(key, audience, subject string) string {
	claims := map[string]any{"aud": audience, "exp": time.Now().Add(time.Hour).Unix()}
	if subject != "" {
		claims["sub"] = subject
		claims["role"] = []string{"webpubsub.joinLeaveGroup", "webpubsub.sendToGroup"}
	}
	payload, _ := json.Marshal(claims) // maps of strings and numbers always encode
	signed := base64.RawURLEncoding.EncodeToString([]byte(`{"alg":"HS256","typ":"JWT"}`)) + "." + base64.RawURLEncoding.EncodeToString(payload)
	mac := hmac.New(sha256.New, []byte(key))
	mac.Write([]byte(signed))
	return signed + "." + base64.RawURLEncoding.EncodeToString(mac.Sum(nil))
}

func dial(ctx context.Context, t *Target, user string) (*client, error) {
	audience := strings.TrimRight(t.Endpoint, "/") + "/client/hubs/" + url.PathEscape(t.Hub)
	ctx, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	d := ws.Dialer{Protocols: []string{subprotocol}, TLSConfig: t.TLS, NetDial: dialHost}
	conn, early, _, err := d.Dial(ctx, "ws"+strings.TrimPrefix(audience, "http")+"?access_token="+sign(t.Key, audience, user))
	if err != nil {
		return nil, err
	}
	c := &client{conn: conn, r: early}
	if c.r == nil {
		c.r = bufio.NewReaderSize(conn, readBuffer)
	}
	_ = conn.SetReadDeadline(time.Now().Add(dialTimeout))
	first, err := c.next()
	if err == nil && !bytes.Contains(first, []byte(`"event":"connected"`)) {
		err = fmt.Errorf("the first message is %.80s", first)
	}
	if err != nil {
		conn.Close()
		return nil, err
	}
	return c, nil
}

// dialHost dials names below localhost as loopback, which many resolvers do not.
func dialHost(ctx context.Context, network, addr string) (net.Conn, error) {
	var d net.Dialer
	if host, port, err := net.SplitHostPort(addr); err == nil && strings.HasSuffix(host, ".localhost") {
		addr = net.JoinHostPort("127.0.0.1", port)
	}
	return d.DialContext(ctx, network, addr)
}

func (c *client) close() {
	if c != nil && !c.closed.Swap(true) {
		c.conn.Close()
	}
}

// next reads the payload of the next data frame, valid until the next call. Pings are answered.
func (c *client) next() ([]byte, error) {
	for {
		h, err := ws.ReadHeader(c.r)
		if err != nil {
			return nil, err
		}
		if h.Length > maxPayload*2 {
			return nil, fmt.Errorf("a frame of %d bytes", h.Length)
		}
		var payload []byte
		if n := int(h.Length); n <= c.r.Size() {
			if payload, err = c.r.Peek(n); err != nil {
				return nil, err
			}
			if _, err := c.r.Discard(n); err != nil { // the bytes stay until the next read
				return nil, err
			}
		} else {
			payload = make([]byte, n)
			if _, err := io.ReadFull(c.r, payload); err != nil {
				return nil, err
			}
		}
		switch h.OpCode {
		case ws.OpPing:
			if err := c.write(ws.OpPong, payload); err != nil {
				return nil, err
			}
		case ws.OpClose:
			return nil, fmt.Errorf("closed by the server: %q", payload)
		case ws.OpText, ws.OpBinary:
			if !h.Fin {
				return nil, errors.New("the server fragments its messages")
			}
			return payload, nil
		}
	}
}

// write sends one masked frame.
func (c *client) write(op ws.OpCode, payload []byte) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	mask := ws.NewMask()
	var head bytes.Buffer
	if err := ws.WriteHeader(&head, ws.Header{Fin: true, OpCode: op, Masked: true, Mask: mask, Length: int64(len(payload))}); err != nil {
		return err
	}
	c.frame = append(append(c.frame[:0], head.Bytes()...), payload...)
	ws.Cipher(c.frame[head.Len():], mask, 0)
	_, err := c.conn.Write(c.frame)
	return err
}

// request sends a JSON request with an ack id and awaits its ack; nothing else may be under way.
func (c *client) request(format string, args ...any) error {
	id := c.acks.Add(1)
	if err := c.write(ws.OpText, fmt.Appendf(nil, `{"ackId":%d,`+format+`}`, append([]any{id}, args...)...)); err != nil {
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
	_ = c.conn.SetReadDeadline(time.Time{})
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
	return c.write(ws.OpText, fmt.Appendf(nil, `{"type":"sendToGroup","group":%q,"noEcho":%t,"dataType":"text","data":"%s"}`, group, !echo, m.text(size)))
}

// sendEvent sends a user event; the handler is expected to answer with its data.
func (c *client) sendEvent(m message, size int) error {
	return c.write(ws.OpText, fmt.Appendf(nil, `{"type":"event","event":"bench","dataType":"text","data":"%s"}`, m.text(size)))
}

// A publisher publishes over REST.
type publisher struct {
	url, token string
	http       *http.Client
}

func newPublisher(t *Target, group string) *publisher {
	u := strings.TrimRight(t.Endpoint, "/") + "/api/hubs/" + url.PathEscape(t.Hub) + "/groups/" + url.PathEscape(group) + "/:send?api-version=2024-12-01"
	return &publisher{url: u, token: sign(t.Key, u, ""), http: &http.Client{Timeout: dialTimeout, Transport: &http.Transport{
		TLSClientConfig: t.TLS, MaxIdleConnsPerHost: MaxInFlight, DialContext: dialHost,
	}}}
}

func (p *publisher) publish(ctx context.Context, text string) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, p.url, strings.NewReader(text))
	if err != nil {
		return err
	}
	req.Header.Set("Authorization", "Bearer "+p.token)
	req.Header.Set("Content-Type", "text/plain")
	res, err := p.http.Do(req)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusAccepted {
		body, _ := io.ReadAll(io.LimitReader(res.Body, 512))
		return fmt.Errorf("publish: %s %s", res.Status, body)
	}
	_, err = io.Copy(io.Discard, res.Body)
	return err
}
