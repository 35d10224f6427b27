package eventhandler

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"net/http"
	"strconv"
	"strings"

	"tabard/guard/reason"
	"tabard/internal/identity"
	"tabard/internal/settings"
)

// The headers of an event in the casing that the contract prints, which is how HTTP/1.1 carries them; they are
// written to the map as they are, past the canonical form.
const (
	hOrigin       = "WebHook-Request-Origin"
	hSpecVersion  = "ce-specversion"
	hAWPSVersion  = "ce-awpsversion" // mandatory: handler SDKs ignore a request without it
	hType         = "ce-type"
	hSource       = "ce-source"
	hID           = "ce-id"
	hTime         = "ce-time"
	hSignature    = "ce-signature"
	hConnectionID = "ce-connectionId"
	hHub          = "ce-hub"
	hEventName    = "ce-eventName"
	hUserID       = "ce-userId"
	hSubprotocol  = "ce-subprotocol"
	hState        = "ce-connectionState"
	hRequestID    = "x-ms-client-request-id"
	hMetadata     = "x-webpubsub-metadata-" // and the key in lower case

	canonicalState    = "Ce-Connectionstate" // of an answer
	canonicalMetadata = "X-Webpubsub-Metadata-"
)

// Values that all events share; never mutated.
var (
	vOne       = []string{"1.0"}
	vUserAgent = []string{"tabard"}
	vJSON      = []string{"application/json; charset=utf-8"}
)

// wire holds a session's header values between events. Guarded by Session.mu.
type wire struct {
	source, connection, hub, user, subprotocol, origin []string

	keys      settings.Keys // that signature was made with
	signature []string
}

// header makes the headers of an event. The fault is a value that a header may not hold; such an event is not
// repeated (EMU).
func (s *Session) header(in *settings.Instance, t *target, ev *event, token *identity.Token) (http.Header, *fault) {
	origin, _ := s.d.opt.Origin(in)

	s.mu.Lock()
	w := s.wire
	if w == nil {
		w = &wire{
			source:     []string{"/hubs/" + s.hub + "/client/" + s.id},
			connection: []string{s.id},
			hub:        []string{s.hub},
		}
		if s.userID != "" {
			w.user = []string{s.userID}
		}
		if s.subprotocol != "" {
			w.subprotocol = []string{s.subprotocol}
		}
		s.wire = w
	}
	if w.origin == nil || w.origin[0] != origin {
		w.origin = []string{origin}
	}
	if w.signature == nil || w.keys != in.Keys {
		w.keys, w.signature = in.Keys, []string{sign(in.Keys, s.id)}
	}
	h := make(http.Header, 18+len(ev.metadata))
	h[hOrigin] = w.origin
	h[hSource] = w.source
	h[hConnectionID] = w.connection
	h[hHub] = w.hub
	if w.user != nil {
		h[hUserID] = w.user
	}
	if w.subprotocol != nil {
		h[hSubprotocol] = w.subprotocol
	}
	if s.state != "" {
		h[hState] = []string{s.state}
	}
	if !in.DisableLocalAuth && !s.unsigned {
		h[hSignature] = w.signature
	}
	jar := s.jar
	f := w.check(t, ev)
	s.mu.Unlock()
	if f != nil {
		return nil, f
	}

	h[hSpecVersion] = vOne
	h[hAWPSVersion] = vOne
	h[hType] = t.eventType
	h[hEventName] = t.eventName
	h[hID] = []string{ev.idText()}
	h[hTime] = s.d.stamp(ev.time)
	h[hRequestID] = []string{newGUID()}
	h["Content-Type"] = ev.contentType
	h["User-Agent"] = vUserAgent
	for _, p := range ev.metadata {
		h[hMetadata+strings.ToLower(p.Key)] = []string{p.Value} // of keys that differ in case the last wins
	}
	if token != nil {
		h["Authorization"] = token.Authorization
	}
	if c := jar.header(t.url); c != "" {
		h["Cookie"] = []string{c}
	}
	return h, nil
}

func (ev *event) idText() string { return strconv.FormatUint(ev.id, 10) }

// check finds what HTTP or the contract forbids in the values that come from outside, before a transport stumbles
// over it. The others are ours, or were checked when they came.
func (w *wire) check(t *target, ev *event) *fault {
	bad := func(name string) *fault {
		return &fault{code: reason.HeaderNotASCII, err: errText(name + " would hold characters that a header may not hold")}
	}
	switch {
	case w.user != nil && !visible(w.user[0], true):
		return bad(hUserID)
	case w.subprotocol != nil && !visible(w.subprotocol[0], false):
		return bad(hSubprotocol)
	case !visible(w.hub[0], false):
		return bad(hHub)
	case !visible(w.connection[0], false):
		return bad(hConnectionID)
	case !visible(w.origin[0], false):
		return bad(hOrigin)
	case !visible(t.eventName[0], false):
		return bad(hEventName)
	}
	for _, p := range ev.metadata {
		if !isToken(p.Key) || !visible(p.Value, false) {
			return bad(hMetadata + "*")
		}
	}
	return nil
}

// visible tells whether every byte is printable ASCII, a space or a tab; with utf8, bytes above ASCII pass too.
func visible(s string, utf8 bool) bool {
	for i := range len(s) {
		if c := s[i]; c < ' ' && c != '\t' || c == 0x7f || c > 0x7f && !utf8 {
			return false
		}
	}
	return true
}

// isToken tells whether s is a token of RFC 9110, as header names and metadata keys are.
func isToken(s string) bool {
	for i := range len(s) {
		c := s[i]
		if 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || strings.IndexByte("!#$%&'*+-.^_`|~", c) >= 0 {
			continue
		}
		return false
	}
	return s != ""
}

// sign is ce-signature: the connection id under both keys, each taken as text. It proves where an event comes from,
// not what it says.
func sign(keys settings.Keys, connectionID string) string {
	out := make([]byte, 0, 2*len("sha256=")+4*sha256.Size+1)
	for i, key := range []string{keys.Primary, keys.Secondary} {
		if i > 0 {
			out = append(out, ',') // no space after it: handler SDKs do not trim
		}
		mac := hmac.New(sha256.New, []byte(key))
		mac.Write([]byte(connectionID))
		out = append(out, "sha256="...)
		out = hex.AppendEncode(out, mac.Sum(nil))
	}
	return string(out)
}

// newGUID is a random (version 4) GUID.
func newGUID() string {
	var b [16]byte
	rand.Read(b[:]) // never fails
	b[6] = b[6]&0x0f | 0x40
	b[8] = b[8]&0x3f | 0x80
	var t [36]byte
	hex.Encode(t[:8], b[:4])
	hex.Encode(t[9:13], b[4:6])
	hex.Encode(t[14:18], b[6:8])
	hex.Encode(t[19:23], b[8:10])
	hex.Encode(t[24:], b[10:])
	t[8], t[13], t[18], t[23] = '-', '-', '-', '-'
	return string(t[:])
}
