package clientws

import (
	"crypto/sha1"
	"encoding/base64"
	"errors"
	"net/http"
	"net/url"
	"strings"

	"tabard/internal/deflate"
	"tabard/internal/hub"
	"tabard/internal/settings"
	"tabard/internal/subprotocol"
)

// checkUpgrade tells whether r asks for a WebSocket (RFC 6455, 4.2.1).
func checkUpgrade(r *http.Request) error {
	switch {
	case r.Method != http.MethodGet:
		return errors.New("a WebSocket handshake is a GET request")
	case !r.ProtoAtLeast(1, 1) || r.ProtoMajor != 1:
		return errors.New("a WebSocket handshake needs HTTP/1.1")
	case !hasToken(r.Header["Connection"], "upgrade") || !hasToken(r.Header["Upgrade"], "websocket"):
		return errors.New("this address is for WebSocket clients: the request does not ask for an upgrade to websocket")
	case r.Header.Get("Sec-Websocket-Version") != "13":
		return errors.New("only version 13 of the WebSocket protocol is spoken here")
	}
	key := r.Header["Sec-Websocket-Key"]
	if len(key) != 1 {
		return errors.New("the handshake needs one Sec-WebSocket-Key")
	}
	if nonce, err := base64.StdEncoding.DecodeString(key[0]); err != nil || len(nonce) != 16 {
		return errors.New("Sec-WebSocket-Key is not 16 bytes in base64")
	}
	return nil
}

// hasToken tells whether a list header has the token, ignoring case.
func hasToken(values []string, token string) bool {
	for _, v := range values {
		for t := range strings.SplitSeq(v, ",") {
			if strings.EqualFold(strings.TrimSpace(t), token) {
				return true
			}
		}
	}
	return false
}

// accepted is the answer that makes the connection a WebSocket.
func accepted(r *http.Request, subprotocol, extension string) []byte {
	b := make([]byte, 0, 320)
	b = append(b, "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: "...)
	sum := sha1.Sum([]byte(r.Header["Sec-Websocket-Key"][0] + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"))
	b = base64.StdEncoding.AppendEncode(b, sum[:])
	if subprotocol != "" {
		b = append(b, "\r\nSec-WebSocket-Protocol: "...)
		b = append(b, subprotocol...)
	}
	if extension != "" {
		b = append(b, "\r\nSec-WebSocket-Extensions: "...)
		b = append(b, extension...)
	}
	return append(b, "\r\n\r\n"...)
}

// extension is the answer to the client's offers of permessage-deflate, empty if there is none to accept or the
// instance does not compress.
func extension(in *settings.Instance, r *http.Request) string {
	offers := r.Header["Sec-Websocket-Extensions"]
	if len(offers) == 0 || !in.Extensions.PermessageDeflate {
		return ""
	}
	answer, _ := deflate.Accepts(offers)
	return answer
}

// hubOf finds the hub in the address: /client/hubs/{hub}, or the older /client?hub={hub}, with or without a slash.
// It works on the escaped path, so that an escaped slash does not make another route. ok is false for other paths;
// the name is not validated.
func hubOf(u *url.URL, query url.Values) (name string, ok bool) {
	path := u.EscapedPath()
	const prefix = "/client/hubs/"
	if len(path) > len(prefix) && strings.EqualFold(path[:len(prefix)], prefix) {
		rest := path[len(prefix):]
		if strings.Contains(rest, "/") {
			return "", false
		}
		name, err := url.PathUnescape(rest)
		return name, err == nil
	}
	if p := strings.TrimSuffix(path, "/"); strings.EqualFold(p, "/client") || strings.EqualFold(p, "/client/hubs") {
		return query.Get("hub"), true
	}
	return "", false
}

// offered lists the subprotocols that the client offers, in its order.
func offered(r *http.Request) []string {
	list := []string{}
	for _, v := range r.Header["Sec-Websocket-Protocol"] {
		for name := range strings.SplitSeq(v, ",") {
			if name = strings.TrimSpace(name); name != "" {
				list = append(list, name)
			}
		}
	}
	return list
}

// negotiate settles the subprotocol: what the connect handler chose, which may be a name that only the application
// knows, else the first of the client's that the service speaks (section 4). The name is in the client's spelling.
func negotiate(offers []string, chosen string) (name string, p subprotocol.Protocol, err error) {
	if chosen != "" {
		if p, ok := subprotocol.ByName(chosen); ok {
			return chosen, p, nil
		}
		return chosen, subprotocol.Raw, nil
	}
	for _, name := range offers {
		if p, ok := subprotocol.ByName(name); ok {
			return name, p, nil
		}
	}
	if len(offers) > 0 {
		return "", nil, errors.New("none of the offered subprotocols is known, and no connect handler chose one")
	}
	return "", subprotocol.Raw, nil
}

// dialect is the protocol as the hub wants it spoken.
func dialect(p subprotocol.Protocol, h *settings.Hub) subprotocol.Protocol {
	if h.Extensions.JSONAsText {
		return subprotocol.WithJSONAsText(p)
	}
	return p
}

// A mode is what becomes of a simple client's frames: the event "message", or messages to a group (section 7).
type mode struct {
	group  string // empty: events
	noEcho bool
}

// modeOf reads webpubsub_mode, group and noEcho; the last of repeated values counts.
func modeOf(query url.Values) (mode, error) {
	switch m := last(query, "webpubsub_mode"); {
	case m == "", strings.EqualFold(m, "sendEvent"):
		return mode{}, nil
	case !strings.EqualFold(m, "sendToGroup"):
		return mode{}, errors.New("webpubsub_mode must be sendEvent or sendToGroup")
	}
	m := mode{group: last(query, "group")}
	if !hub.ValidGroup(m.group) {
		return mode{}, errors.New("webpubsub_mode=sendToGroup needs a group of 1 to 1024 characters, not only white space")
	}
	switch v := last(query, "noEcho"); {
	case v == "", strings.EqualFold(v, "false"):
	case strings.EqualFold(v, "true"):
		m.noEcho = true
	default:
		return mode{}, errors.New("noEcho must be true or false")
	}
	return m, nil
}

func last(query url.Values, name string) string {
	if v := query[name]; len(v) > 0 {
		return v[len(v)-1]
	}
	return ""
}
