package eventhandler

import (
	"bytes"
	"context"
	"crypto/sha1"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"net/http"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"tabard/guard/reason"
)

// A ConnectRequest is a client that wants to connect, after its access token was verified or the hub admitted it
// without one.
type ConnectRequest struct {
	UserID string              // of the token; "" for none
	Claims map[string][]string // of the token, under its own names; every value as text
	Query  map[string][]string // of the request; access_token is left out here
	Header map[string][]string // of the request; Authorization is left out here
	Host   string              // of the request, as net/http takes it out of the others

	Subprotocols       []string // as offered, in order
	ClientCertificates []*x509.Certificate
}

// A ConnectResponse is what a handler decides about a client that may connect.
type ConnectResponse struct {
	UserID      *string  // nil keeps the token's; "" clears it
	Groups      []string // replace the token's, unless empty
	Roles       []string // replace the token's, even if empty; nil keeps them
	Subprotocol string   // one of those offered; "" leaves the choice to the service
}

// Connect asks the handler of the connect event whether the client may connect, and as whom. Without such a handler
// it returns (nil, nil). The error is a *[Rejection]; after one, the session sends no notifications. Call it before
// Bind, at most once.
func (s *Session) Connect(ctx context.Context, c ConnectRequest) (*ConnectResponse, error) {
	in, ok := s.instanceNow()
	if !ok {
		return nil, nil
	}
	h := in.Hub(s.hub).SystemHandler("connect")
	if h == nil {
		return nil, nil
	}
	s.Bind(c.UserID, "")
	ev := &event{name: "connect", blocking: true, time: time.Now(), contentType: vJSON, body: c.body()}
	var response *ConnectResponse
	a, f := s.deliver(ctx, in, h, ev, func(a *answer) (f *fault) {
		response, f = parseConnect(a.body, c.Subprotocols)
		return f
	})
	if f != nil {
		s.mu.Lock()
		s.ended = true
		s.mu.Unlock()
		return nil, reject(a, f)
	}
	return response, nil
}

// body is the connect event's body. All members are always present.
func (c *ConnectRequest) body() []byte {
	type certificate struct {
		Thumbprint string `json:"thumbprint"`
		Content    string `json:"content"`
	}
	b := struct {
		Claims             map[string][]string `json:"claims"`
		Query              map[string][]string `json:"query"`
		Headers            map[string][]string `json:"headers"`
		Subprotocols       []string            `json:"subprotocols"`
		ClientCertificates []certificate       `json:"clientCertificates"`
	}{
		Claims:             without(c.Claims, func(string) bool { return false }),
		Query:              without(c.Query, func(k string) bool { return k == "access_token" }),
		Headers:            without(c.Header, func(k string) bool { return k == "authorization" || strings.HasPrefix(k, "x-asrs-internal-") }),
		Subprotocols:       append([]string{}, c.Subprotocols...),
		ClientCertificates: []certificate{},
	}
	if c.Host != "" {
		b.Headers["Host"] = []string{c.Host}
	}
	for _, cert := range c.ClientCertificates {
		sum := sha1.Sum(cert.Raw) // a name, not a proof: what the contract calls thumbprint
		text := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert.Raw})
		text = bytes.ReplaceAll(bytes.TrimSpace(text), []byte("\n"), []byte("\r\n"))
		b.ClientCertificates = append(b.ClientCertificates, certificate{strings.ToUpper(hex.EncodeToString(sum[:])), string(text)})
	}
	out, err := json.Marshal(b)
	if err != nil {
		panic(err) // strings always encode
	}
	return out
}

// without copies a multi-map but for the keys that drop names in lower case. Values are never null.
func without(m map[string][]string, drop func(string) bool) map[string][]string {
	out := make(map[string][]string, len(m))
	for k, v := range m {
		if !drop(strings.ToLower(k)) {
			out[k] = append([]string{}, v...)
		}
	}
	return out
}

// parseConnect reads a successful answer to connect. Nothing of it counts unless all of it is valid. Its content
// type does not matter: some SDKs send none.
func parseConnect(body []byte, offered []string) (*ConnectResponse, *fault) {
	r := &ConnectResponse{}
	if len(body) == 0 {
		return r, nil
	}
	var in struct { // names match ignoring case; null is absent; unknown members are ignored
		UserID      *string   `json:"userId"`
		Groups      []*string `json:"groups"`
		Roles       []*string `json:"roles"`
		Subprotocol *string   `json:"subprotocol"`
	}
	if !utf8.Valid(body) || json.Unmarshal(body, &in) != nil {
		return nil, invalid("the answer to connect is not the JSON object that it should be")
	}
	if len(in.Groups) > maxGroups || len(in.Roles) > maxGroups {
		return nil, invalid("the answer to connect has more than 8192 groups or roles")
	}
	r.UserID = in.UserID
	if r.UserID != nil && (len(*r.UserID) > maxUserID || !visible(*r.UserID, true)) {
		return nil, invalid("the answer to connect has a userId that is too long or has control characters")
	}
	for _, g := range in.Groups {
		if g == nil || !validGroup(*g) {
			return nil, invalid("the answer to connect has a group whose name is not 1 to 1024 characters")
		}
		r.Groups = append(r.Groups, *g)
	}
	if in.Roles != nil {
		r.Roles = make([]string, 0, len(in.Roles))
	}
	for _, role := range in.Roles {
		if role == nil {
			return nil, invalid("the answer to connect has a role that is null")
		}
		r.Roles = append(r.Roles, *role)
	}
	if in.Subprotocol != nil && *in.Subprotocol != "" {
		if !slices.Contains(offered, *in.Subprotocol) { // a client would break the connection off anyway (RFC 6455)
			return nil, invalid("the answer to connect chooses a subprotocol that the client does not offer")
		}
		r.Subprotocol = *in.Subprotocol
	}
	return r, nil
}

// validGroup has the published API's rule: 1 to 1024 characters, not all white space.
func validGroup(name string) bool {
	return name != "" && (len(name) <= 1024 || utf8.RuneCountInString(name) <= 1024) && strings.TrimSpace(name) != ""
}

// reject decides what a client sees that may not connect: the handler's own status where it answered with a
// failure, and the body of a 4xx; 500 without a reason for everything else.
func reject(a *answer, f *fault) *Rejection {
	r := &Rejection{Status: http.StatusInternalServerError, Code: f.code, Err: f.err}
	if a != nil && a.status >= 400 && a.status <= 599 {
		r.Status = a.status
	}
	switch {
	case r.Status < 500:
		r.Body = a.body[:min(len(a.body), MaxRejectionBody)]
		if ct := a.header.Get("Content-Type"); len(r.Body) > 0 && len(ct) <= 256 && visible(ct, false) {
			r.ContentType = ct
		}
	case validationCodes[f.code]:
		// What clients of the cloud service see.
		r.Body, r.ContentType = []byte("Request is denied as target server is invalid"), "text/plain; charset=utf-8"
	}
	return r
}

var validationCodes = map[reason.Code]bool{
	reason.ValidationFailed: true, reason.ValidationHeaderMissing: true, reason.ValidationUnauthorized: true,
}
