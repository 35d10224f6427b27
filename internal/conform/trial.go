package conform

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"strings"
	"time"

	"tabard/internal/wire"
)

const (
	jsonProtocol             = "json.webpubsub.azure.v1"
	reliableProtocol         = "json.reliable.webpubsub.azure.v1"
	protobufProtocol         = "protobuf.webpubsub.azure.v1"
	reliableProtobufProtocol = "protobuf.reliable.webpubsub.azure.v1"

	apiVersion = "2024-12-01"
	joinLeave  = "webpubsub.joinLeaveGroup"
	sendTo     = "webpubsub.sendToGroup"
)

var everything = []string{joinLeave, sendTo}

// A trial is one line being judged. Its methods end the judgement, by a panic that [trial.judge] catches, when what
// they look at is not what must be.
type trial struct {
	ctx      context.Context
	target   Target
	endpoint wire.Endpoint
	http     *http.Client
	timeout  time.Duration
	line     *Line
	run      string
	peers    []*peer
}

type (
	mismatch string // what was seen instead
	unseen   string // why it cannot be judged here
)

func newRun() string {
	var b [4]byte
	rand.Read(b[:])
	return hex.EncodeToString(b[:])
}

// fail ends the judgement.
func (t *trial) fail(format string, args ...any) { panic(mismatch(fmt.Sprintf(format, args...))) }

// check is fail unless ok.
func (t *trial) check(ok bool, format string, args ...any) {
	if !ok {
		t.fail(format, args...)
	}
}

// name makes the name of a group, user or connection that no other line and no other run uses.
func (t *trial) name(s string) string {
	return fmt.Sprintf("%s-%s-%s-%d", s, t.run, t.line.Checklist, t.line.Number)
}

// alone moves to a hub that no other line uses. Runs share it, so that an endpoint does not fill up with hubs.
func (t *trial) alone() {
	t.endpoint.Hub = fmt.Sprintf("%s_%s_%d", t.target.Hub, t.line.Checklist, t.line.Number)
}

// A dial is how a client of a trial wants to connect. The zero value is a simple client with a good token.
type dial struct {
	claims      map[string]any // beside aud and exp, which it may replace
	key         string
	noToken     bool
	bearer      bool // the token goes into Authorization
	url         string
	query       url.Values
	subprotocol string
	roles       []string
	groups      []string
	user        string
}

func (t *trial) handshake(d dial) wire.Handshake {
	claims := map[string]any{"aud": t.endpoint.ClientURL(), "exp": time.Now().Add(time.Hour).Unix()}
	if d.roles != nil {
		claims["role"] = d.roles
	}
	if d.groups != nil {
		claims["webpubsub.group"] = d.groups
	}
	if d.user != "" {
		claims["sub"] = d.user
	}
	maps.Copy(claims, d.claims)
	key := t.endpoint.Key
	if d.key != "" {
		key = d.key
	}
	h := wire.Handshake{URL: t.endpoint.ClientURL()}
	if d.url != "" {
		h.URL = d.url
	}
	query := url.Values{}
	maps.Copy(query, d.query)
	token := wire.Sign(key, claims)
	switch {
	case d.noToken:
	case d.bearer:
		h.Header = http.Header{"Authorization": {"Bearer " + token}}
	default:
		query.Set("access_token", token)
	}
	if len(query) > 0 {
		h.URL += "?" + query.Encode()
	}
	if d.subprotocol != "" {
		h.Subprotocols = []string{d.subprotocol}
	}
	return h
}

// open connects.
func (t *trial) open(d dial) *peer {
	conn, err := wire.Dial(t.ctx, &t.endpoint, t.handshake(d))
	if err != nil {
		t.fail("the handshake failed: %v", err)
	}
	p := &peer{Conn: conn, trial: t}
	t.peers = append(t.peers, p)
	return p
}

// refused wants the handshake to fail with a status.
func (t *trial) refused(status int, d dial) {
	conn, err := wire.Dial(t.ctx, &t.endpoint, t.handshake(d))
	var got wire.Refused
	switch {
	case err == nil:
		conn.Close()
		t.fail("status 101, want %d", status)
	case !errors.As(err, &got):
		t.fail("the handshake failed without a status: %v", err)
	case int(got) != status:
		t.fail("status %d, want %d", int(got), status)
	}
}

// json connects with the JSON subprotocol and takes the first frame.
func (t *trial) json(d dial) *peer {
	if d.subprotocol == "" {
		d.subprotocol = jsonProtocol
	}
	p := t.open(d)
	p.greeted()
	return p
}

// reliable connects with the reliable JSON subprotocol and takes the first frame.
func (t *trial) reliable(d dial) *peer {
	d.subprotocol = reliableProtocol
	return t.json(d)
}

// A request is one REST call of a trial. The zero value is a GET with a good token.
type request struct {
	method, path string // path below the hub, or absolute with a slash at its start; with a query or not
	version      string // empty: the newest; "-": none
	body         string
	contentType  string
	header       http.Header
	chunks       bool
	key          string
	audience     string // empty: the whole address
	token        string // "-": none
	exp          time.Time
	host         string
}

// call makes a REST call whatever it is answered.
func (t *trial) call(r request) *wire.Answer {
	address := t.endpoint.HubURL() + "/" + r.path
	if strings.HasPrefix(r.path, "/") {
		address = strings.TrimRight(t.endpoint.Origin, "/") + r.path
	}
	if r.version != "-" {
		sep := "?"
		if strings.Contains(address, "?") {
			sep = "&"
		}
		version := apiVersion
		if r.version != "" {
			version = r.version
		}
		address += sep + "api-version=" + version
	}
	c := wire.Call{Method: r.method, URL: address, Header: http.Header{}, Chunks: r.chunks, Host: r.host}
	if c.Method == "" {
		c.Method = http.MethodGet
	}
	maps.Copy(c.Header, r.header)
	if r.body != "" {
		c.Body = []byte(r.body)
	}
	if r.contentType != "" {
		c.Header.Set("Content-Type", r.contentType)
	}
	key, audience, exp := t.endpoint.Key, address, time.Now().Add(time.Hour)
	if r.key != "" {
		key = r.key
	}
	if r.audience != "" {
		audience = r.audience
	}
	if !r.exp.IsZero() {
		exp = r.exp
	}
	if r.token != "-" {
		c.Token = wire.Sign(key, map[string]any{"aud": audience, "exp": exp.Unix()})
	}
	ctx, cancel := context.WithTimeout(t.ctx, max(t.timeout, wire.Timeout))
	defer cancel()
	a, err := wire.Do(ctx, t.http, c)
	if err != nil {
		t.fail("%s %s: %v", r.method, r.path, err)
	}
	return a
}

// want makes a REST call and wants it answered with a status.
func (t *trial) want(status int, r request) *wire.Answer {
	a := t.call(r)
	t.check(a.Status == status, "%s %s: status %d %.200s, want %d", r.method, r.path, a.Status, a.Body, status)
	return a
}

// post sends a body.
func (t *trial) post(status int, path, body, contentType string) *wire.Answer {
	return t.want(status, request{method: http.MethodPost, path: path, body: body, contentType: contentType})
}

// publish sends text to a group over REST.
func (t *trial) publish(group, text string) {
	t.post(202, "groups/"+url.PathEscape(group)+"/:send", text, "text/plain")
}

// pause lets time pass.
func (t *trial) pause(d time.Duration) {
	select {
	case <-time.After(d):
	case <-t.ctx.Done():
		t.fail("interrupted")
	}
}
