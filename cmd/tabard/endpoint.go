package main

import (
	"context"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"tabard"
	"tabard/internal/wire"
)

// endpointFlags find the public address of an instance and its access key: of a running service through its admin
// address, or of any service that speaks the protocol by address and key or by its connection string.
type endpointFlags struct {
	instanceFlags
	Endpoint         string `help:"Address of any Web PubSub endpoint, as in https://HOST, instead of asking the service; goes with --key." and:"endpoint" env:"TABARD_ENDPOINT" placeholder:"URL" group:"service"`
	Key              string `help:"Access key of --endpoint." and:"endpoint" env:"TABARD_KEY" placeholder:"KEY" group:"service"`
	ConnectionString string `help:"Connection string to use instead of asking the service; works with any Web PubSub endpoint." env:"TABARD_CONNECTION_STRING" placeholder:"STRING" group:"service"`
}

// An endpoint is an instance as its clients and servers reach it.
type endpoint struct {
	origin string // scheme://host[:port]
	key    string // access key, used as text
	http   *http.Client
}

// foreign tells whether the endpoint was named, so that its settings are not this command's to write.
func (f endpointFlags) foreign() bool { return f.Endpoint != "" || f.ConnectionString != "" }

func (f endpointFlags) endpoint(ctx context.Context, s *stdio) (*endpoint, error) {
	text := f.ConnectionString
	var ready tabard.Ready
	if f.Endpoint != "" {
		text = "Endpoint=" + f.Endpoint + ";AccessKey=" + f.Key
	}
	if text == "" {
		a, path, err := f.connect(ctx, s)
		if err != nil {
			return nil, err
		}
		keys, err := a.keys(ctx, path)
		if err != nil {
			return nil, err
		}
		text, ready = keys.PrimaryConnectionString, a.ready
	} else if r, err := f.ready(); err == nil {
		ready = r // only for the authority to trust
	}
	e, err := parseConnectionString(text)
	if err != nil {
		return nil, err
	}
	e.http, err = f.client(ready)
	return e, err
}

// parseConnectionString reads Endpoint=…;AccessKey=…;Version=1.0;Port=… as the SDKs do: names ignore case, the first
// "=" splits, empty parts are skipped. The error does not repeat the string, which holds a secret.
func parseConnectionString(text string) (*endpoint, error) {
	const hint = "it looks like Endpoint=https://HOST;AccessKey=KEY;Version=1.0; and `tabard key list` prints it"
	parts := map[string]string{}
	for part := range strings.SplitSeq(text, ";") {
		if strings.TrimSpace(part) == "" {
			continue
		}
		name, value, ok := strings.Cut(part, "=")
		if !ok {
			return nil, fail(exitUsage, hint, "the connection string has a part without \"=\"")
		}
		parts[strings.ToLower(strings.TrimSpace(name))] = value
	}
	address := parts["endpoint"]
	if !strings.Contains(address, "://") {
		address = "https://" + address
	}
	u, err := url.Parse(strings.TrimRight(address, "/"))
	if err != nil || u.Hostname() == "" || u.Scheme != "http" && u.Scheme != "https" {
		return nil, fail(exitUsage, hint, "the connection string has no usable Endpoint")
	}
	if parts["accesskey"] == "" {
		return nil, fail(exitUsage, hint, "the connection string has no AccessKey")
	}
	if port := parts["port"]; port != "" {
		if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 {
			return nil, fail(exitUsage, hint, "the connection string's Port is not a number from 1 to 65535")
		}
		u.Host = net.JoinHostPort(u.Hostname(), port)
	}
	return &endpoint{origin: u.Scheme + "://" + u.Host, key: parts["accesskey"]}, nil
}

// clientURL is the address at which clients of the hub connect; its http form is also the audience of their tokens.
func (e *endpoint) clientURL(hub string) string {
	return e.origin + "/client/hubs/" + url.PathEscape(hub)
}

// wire is a hub of the endpoint for those who speak its protocols frame by frame.
func (e *endpoint) wire(hub string) wire.Endpoint {
	return wire.Endpoint{Origin: e.origin, Key: e.key, Hub: hub, TLS: e.http.Transport.(*http.Transport).TLSClientConfig}
}

// webSocket turns an http origin into ws, https into wss.
func webSocket(address string) string { return "ws" + strings.TrimPrefix(address, "http") }

// clientClaims are the claims of a client access token.
type clientClaims struct {
	Audience string   `json:"aud"`
	Issued   int64    `json:"iat"`
	Expires  int64    `json:"exp"`
	Subject  string   `json:"sub,omitempty"`
	Roles    []string `json:"role,omitempty"`
	Groups   []string `json:"webpubsub.group,omitempty"`
}

// serverClaims are the claims with which a server calls REST: the audience is the whole address, with its query.
type serverClaims struct {
	Audience string `json:"aud"`
	Issued   int64  `json:"iat"`
	Expires  int64  `json:"exp"`
}

// authorize signs a REST request.
func (e *endpoint) authorize(req *http.Request) {
	now := time.Now()
	token := wire.Sign(e.key, serverClaims{Audience: req.URL.String(), Issued: now.Unix(), Expires: now.Add(5 * time.Minute).Unix()})
	req.Header.Set("Authorization", "Bearer "+token)
}
