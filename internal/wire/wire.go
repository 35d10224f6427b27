// Package wire speaks a Web PubSub endpoint's public protocols from the other side, as clients and servers do through
// their SDKs: it signs tokens, opens WebSockets, reads and writes frames, calls REST.
//
// Whoever measures an endpoint or examines it must not share code with what it examines, and must see what an SDK
// hides: single frames, close codes, headers. So nothing here knows the service's own packages. What is asked and what
// is made of the answers is left to bench and conform. It has no goroutines; a connection ends with [Conn.Close].
package wire

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"crypto/tls"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"
)

// Timeout bounds a handshake and a REST call.
const Timeout = 20 * time.Second

// maxAnswer bounds what is read of a REST answer.
const maxAnswer = 4 << 20

// An Endpoint is one hub of a Web PubSub endpoint.
type Endpoint struct {
	Origin string      // scheme://host[:port], http or https
	Key    string      // access key, used as text
	Hub    string      //
	TLS    *tls.Config // for https; nil trusts the system's authorities
}

// ClientURL is where clients of the hub connect; in its http form it is the audience of their tokens.
func (e *Endpoint) ClientURL() string {
	return strings.TrimRight(e.Origin, "/") + "/client/hubs/" + url.PathEscape(e.Hub)
}

// HubURL is the address of the hub's REST operations.
func (e *Endpoint) HubURL() string {
	return strings.TrimRight(e.Origin, "/") + "/api/hubs/" + url.PathEscape(e.Hub)
}

// Sign makes an HS256 token as the SDKs do: the key's text is the key. Claims are a map or a struct of strings, numbers
// and lists. Writing a token needs none of what makes verifying one delicate, so no JOSE library is drawn in for it.
func Sign(key string, claims any) string {
	payload, _ := json.Marshal(claims) // such always encode
	signed := base64.RawURLEncoding.EncodeToString([]byte(`{"alg":"HS256","typ":"JWT"}`)) + "." + base64.RawURLEncoding.EncodeToString(payload)
	mac := hmac.New(sha256.New, []byte(key))
	mac.Write([]byte(signed))
	return signed + "." + base64.RawURLEncoding.EncodeToString(mac.Sum(nil))
}

// dialHost dials names below localhost as loopback, which many resolvers do not.
func dialHost(ctx context.Context, network, addr string) (net.Conn, error) {
	var d net.Dialer
	if host, port, err := net.SplitHostPort(addr); err == nil && strings.HasSuffix(host, ".localhost") {
		addr = net.JoinHostPort("127.0.0.1", port)
	}
	return d.DialContext(ctx, network, addr)
}

// HTTP makes a client for the endpoint's REST operations that keeps up to idle connections.
func (e *Endpoint) HTTP(idle int) *http.Client {
	return &http.Client{
		Timeout:       Timeout,
		Transport:     &http.Transport{TLSClientConfig: e.TLS, MaxIdleConnsPerHost: idle, DialContext: dialHost},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

// A Call is one REST request.
type Call struct {
	Method string
	URL    string // as it goes out, with its query
	Token  string // empty: none
	Header http.Header
	Body   []byte
	Chunks bool   // send the body without its length
	Host   string // of the Host header; empty: the URL's
}

// An Answer is what came back.
type Answer struct {
	Status int
	Header http.Header
	Body   []byte
}

// Do makes a REST call.
func Do(ctx context.Context, client *http.Client, c Call) (*Answer, error) {
	var body io.Reader
	if c.Body != nil {
		if body = bytes.NewReader(c.Body); c.Chunks {
			body = io.MultiReader(body) // a reader whose length net/http cannot know
		}
	}
	req, err := http.NewRequestWithContext(ctx, c.Method, c.URL, body)
	if err != nil {
		return nil, err
	}
	for name, values := range c.Header {
		req.Header[name] = values
	}
	if c.Token != "" {
		req.Header.Set("Authorization", "Bearer "+c.Token)
	}
	req.Host = c.Host
	res, err := client.Do(req)
	if err != nil {
		return nil, err
	}
	defer res.Body.Close()
	text, err := io.ReadAll(io.LimitReader(res.Body, maxAnswer))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", res.Status, err)
	}
	return &Answer{Status: res.StatusCode, Header: res.Header, Body: text}, nil
}
