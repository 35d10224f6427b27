package access

import (
	"net/http"
	"net/url"
	"strings"
	"unicode/utf8"

	"tabard/guard/reason"
	"tabard/internal/settings"
)

// A Client is what a client access token says about the client that connects with it. It may be shared by all who
// connect with that token and must not be changed.
type Client struct {
	UserID  string   // the claim sub
	HasUser bool     // false: a user without id
	Roles   []string // as written; the hub decides what they mean
	Groups  []string // valid names, joined at connect

	// Claims are all claims of the token as the connect event shows them; empty, never nil, without a token.
	Claims map[string][]string
	// Anonymous: there was no token, and the hub admits such clients.
	Anonymous bool
}

// Client verifies the client access token of a WebSocket handshake for a hub (client-protocols.md 2). The token is
// the query parameter access_token or, without that, the bearer of the Authorization header. A request without a
// token is refused unless the hub's anonymousConnectPolicy allows it; a bad token is refused either way. The error
// is a [*Refusal].
func (v *Verifier) Client(in *settings.Instance, r *http.Request, hub string) (*Client, error) {
	token, refusal := clientToken(r)
	if refusal != nil {
		return nil, refusal
	}
	if token == "" {
		if !in.Hub(hub).AllowAnonymous() {
			return nil, unauthorized(reason.AnonymousDenied, "The request carries no access token, and the hub does not admit anonymous clients.")
		}
		return &Client{Anonymous: true, Claims: map[string][]string{}}, nil
	}
	c, refusal := v.verifyClient(in, r, hub, token)
	if refusal != nil {
		return nil, refusal
	}
	return c, nil
}

func (v *Verifier) verifyClient(in *settings.Instance, r *http.Request, hub, token string) (*Client, *Refusal) {
	service := v.opt.ServiceKey(in)
	keys := []string{service}
	if !in.DisableLocalAuth {
		keys = append(keys, in.Keys.Primary, in.Keys.Secondary)
	}
	p, refusal := v.prove(&v.clients, token, claims.client, keys...)
	if refusal != nil {
		if in.DisableLocalAuth && refusal.Code == reason.KeySignatureInvalid {
			refusal = unauthorized(reason.LocalAuthDisabled, "Access keys are switched off for this instance; clients need a token from :generateToken.")
		}
		return nil, refusal
	}
	want, legacy := clientPath(r.URL.Path)+hub, isLegacyPath(r.URL.Path)
	ok := v.allowed(in, r, p.audiences, func(resource string) bool {
		return sameResource(resource, want) ||
			legacy && (sameResource(resource, "/client/?hub="+hub) || sameResource(resource, "/client?hub="+hub))
	})
	if !ok {
		return nil, audienceMismatch(p.audiences, want)
	}
	if p.key == service && p.refusal == nil { // and not an access key
		if refusal := v.mayStillConnect(in, p.kid); refusal != nil {
			return nil, refusal
		}
	}
	return p.client, p.refusal
}

// clientPath is the part of the audience before the hub for the kind of client that connects to path.
func clientPath(path string) string {
	for _, kind := range []string{"/clients/mqtt/hubs/", "/clients/socketio/hubs/"} {
		if len(path) > len(kind) && strings.EqualFold(path[:len(kind)], kind) {
			return kind
		}
	}
	return "/client/hubs/"
}

// isLegacyPath tells whether the hub is in the query. No source says which audience such clients have.
func isLegacyPath(path string) bool {
	return strings.EqualFold(strings.TrimSuffix(path, "/"), "/client")
}

// client reads what the service itself understands of a token.
func (c claims) client(p *proof) {
	user, err := c.string("sub")
	if err != nil {
		p.refusal = unauthorized(reason.ClaimInvalid, "The claim sub %v.", err)
		return
	}
	roles, err := c.strings("role")
	if err != nil {
		p.refusal = unauthorized(reason.ClaimInvalid, "The claim role %v.", err)
		return
	}
	groups, err := c.strings("webpubsub.group")
	if err != nil {
		p.refusal = badGroup("The claim webpubsub.group " + err.Error() + ".")
		return
	}
	for _, g := range groups {
		if !validGroup(g) {
			p.refusal = badGroup("The claim webpubsub.group has a value that is not a valid group name.")
			return
		}
	}
	p.client = &Client{UserID: user, HasUser: user != "", Roles: roles, Groups: groups, Claims: c.all()}
}

// badGroup is a 400 and not a 401: the token is genuine, but asks for the impossible.
func badGroup(message string) *Refusal {
	return &Refusal{Status: http.StatusBadRequest, Code: reason.GroupClaimInvalid, Message: message}
}

// validGroup tells whether name has 1 to 1024 characters, not only white space.
func validGroup(name string) bool {
	return strings.TrimSpace(name) != "" && utf8.RuneCountInString(name) <= 1024
}

// clientToken finds the token of a handshake, empty if there is none.
func clientToken(r *http.Request) (string, *Refusal) {
	inQuery, refusal := queryToken(r.URL.RawQuery)
	if refusal != nil || inQuery != "" {
		return inQuery, refusal
	}
	if len(r.Header["Authorization"]) == 0 {
		return "", nil
	}
	return bearer(r.Header)
}

// queryToken reads access_token alone; the other parameters are none of our business here.
func queryToken(query string) (token string, refusal *Refusal) {
	found := false
	for query != "" {
		var pair string
		pair, query, _ = strings.Cut(query, "&")
		name, value, _ := strings.Cut(pair, "=")
		if name, err := url.QueryUnescape(name); err != nil || name != "access_token" {
			continue
		}
		if found {
			return "", unauthorized(reason.TokenMalformed, "The query has access_token more than once.")
		}
		found = true
		value, err := url.QueryUnescape(value)
		if err != nil {
			return "", unauthorized(reason.TokenMalformed, "The query's access_token is not escaped correctly.")
		}
		token = value
	}
	return token, nil
}

// bearer reads the token of the one Authorization header.
func bearer(h http.Header) (string, *Refusal) {
	values := h["Authorization"]
	switch len(values) {
	case 0:
		return "", unauthorized(reason.NoToken, "The request carries no Authorization header.")
	case 1:
	default:
		return "", unauthorized(reason.SeveralAuthorizationHeaders, "The request carries %d Authorization headers.", len(values))
	}
	const scheme = "Bearer "
	value := values[0]
	if len(value) < len(scheme) || !strings.EqualFold(value[:len(scheme)], scheme) {
		return "", unauthorized(reason.AuthorizationSchemeNotBearer, "The Authorization header does not have the scheme Bearer.")
	}
	token := strings.Trim(value[len(scheme):], " ")
	if token == "" || strings.IndexByte(token, ' ') >= 0 || strings.IndexByte(token, ',') >= 0 {
		return "", unauthorized(reason.AuthorizationSchemeNotBearer, "The Authorization header does not have exactly one token.")
	}
	return token, nil
}
