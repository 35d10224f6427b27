package access

import (
	"errors"
	"net/url"
	"strings"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"
)

// DefaultLifetime is how long a client token is valid where nobody says otherwise.
const DefaultLifetime = 60 * time.Minute

// ClientTokenOptions are the contents of a client access token.
type ClientTokenOptions struct {
	Audience string    // see [ClientAudience]
	UserID   string    // empty: a user without id
	Roles    []string  // such as webpubsub.sendToGroup
	Groups   []string  // joined at connect
	Issued   time.Time // zero: now
	Expires  time.Time // zero: DefaultLifetime after Issued

	keyID string // names the principal that asked for a token of the service's own key
}

// ClientAudience is the audience of a client token for a hub at an endpoint such as "https://pubsub.example.com".
// kind is "" for WebSocket clients, "mqtt" or "socketio".
func ClientAudience(endpoint, hub, kind string) string {
	path := "/client/hubs/"
	if kind != "" {
		path = "/clients/" + kind + "/hubs/"
	}
	return strings.TrimRight(endpoint, "/") + path + url.PathEscape(hub)
}

// SignClientToken makes a client access token with an access key, whose text is the secret as it is. It is what the
// SDKs do in a server; here it serves :generateToken and the command line.
func SignClientToken(key string, o ClientTokenOptions) (string, error) {
	if key == "" {
		return "", errors.New("sign client token: no key")
	}
	if o.Issued.IsZero() {
		o.Issued = time.Now()
	}
	if o.Expires.IsZero() {
		o.Expires = o.Issued.Add(DefaultLifetime)
	}
	header := (&jose.SignerOptions{}).WithType("JWT")
	if o.keyID != "" {
		header = header.WithHeader("kid", o.keyID)
	}
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.HS256, Key: []byte(key)}, header)
	if err != nil {
		return "", err
	}
	return jwt.Signed(signer).Claims(struct {
		Audience  string   `json:"aud"`
		Issued    int64    `json:"iat"`
		NotBefore int64    `json:"nbf"`
		Expires   int64    `json:"exp"`
		Subject   string   `json:"sub,omitempty"`
		Roles     []string `json:"role,omitempty"`
		Groups    []string `json:"webpubsub.group,omitempty"`
	}{o.Audience, o.Issued.Unix(), o.Issued.Unix(), o.Expires.Unix(), o.UserID, o.Roles, o.Groups}).Serialize()
}
