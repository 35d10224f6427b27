package access

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/sha512"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"hash"
	"net/http"
	"net/http/httptest"
	"reflect"
	"strings"
	"testing"
	"time"

	"tabard/guard/reason"
	"tabard/internal/settings"
)

// The keys look like base64 and are used as text all the same.
const (
	primary   = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopq="
	secondary = "secondary+secondary/secondary+secondary/abc="
	stranger  = "strangerstrangerstrangerstrangerstranger000="
)

var now = time.Unix(1_800_000_000, 0)

func instance() *settings.Instance {
	return &settings.Instance{Name: "default", Keys: settings.Keys{Primary: primary, Secondary: secondary}}
}

func verifier() *Verifier {
	return New(Options{
		Endpoints: func(*settings.Instance) []string {
			return []string{"https://pubsub.example.com", "https://other.example.com:8443/"}
		},
		Now: func() time.Time { return now },
	})
}

// The tests make their tokens by hand, so that they can be wrong in every way.

const hs256 = `{"alg":"HS256","typ":"JWT"}`

func encode(s string) string { return base64.RawURLEncoding.EncodeToString([]byte(s)) }

func mac(h func() hash.Hash, key, text string) string {
	m := hmac.New(h, []byte(key))
	m.Write([]byte(text))
	return string(m.Sum(nil))
}

func raw(key, header, payload string) string {
	input := encode(header) + "." + encode(payload)
	return input + "." + encode(mac(sha256.New, key, input))
}

type m map[string]any

func sign(key string, claims m) string {
	b, err := json.Marshal(claims)
	if err != nil {
		panic(err)
	}
	return raw(key, hs256, string(b))
}

// good are the claims of a client token for hub chat; change alters or, with nil, removes some.
func good(change m) m {
	c := m{"aud": "http://example.com/client/hubs/chat", "exp": now.Unix() + 60}
	for k, v := range change {
		if c[k] = v; v == nil {
			delete(c, k)
		}
	}
	return c
}

func connect(token string) *http.Request {
	return httptest.NewRequest("GET", "/client/hubs/chat?access_token="+token, nil)
}

func code(err error) reason.Code {
	var r *Refusal
	if !errors.As(err, &r) {
		return ""
	}
	return r.Code
}

func rsaPublicKey(t testing.TB) string {
	k, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKIXPublicKey(&k.PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}))
}

func TestAttacksOnClientTokens(t *testing.T) {
	payload, _ := json.Marshal(good(nil))
	input := encode(`{"alg":"HS512","typ":"JWT"}`) + "." + encode(string(payload))
	hs512 := input + "." + encode(mac(sha512.New, primary, input))
	publicPEM := rsaPublicKey(t)
	parts := strings.Split(sign(primary, good(nil)), ".")
	decodedKey, _ := base64.StdEncoding.DecodeString(primary)

	for _, tc := range []struct {
		name  string
		token string
		want  reason.Code
	}{
		{"alg none without a signature", encode(`{"alg":"none"}`) + "." + parts[1] + ".", reason.AlgorithmNotAllowed},
		{"alg None in other letters", encode(`{"alg":"nOnE"}`) + "." + parts[1] + ".", reason.AlgorithmNotAllowed},
		{"alg none with the old signature", encode(`{"alg":"none"}`) + "." + parts[1] + "." + parts[2], reason.AlgorithmNotAllowed},
		{"no alg", raw(primary, `{"typ":"JWT"}`, string(payload)), reason.AlgorithmNotAllowed},
		{"RS256 with an HMAC of the public key", raw(publicPEM, `{"alg":"RS256"}`, string(payload)), reason.AlgorithmNotAllowed},
		{"RS256 with our own key as the secret", raw(primary, `{"alg":"RS256"}`, string(payload)), reason.AlgorithmNotAllowed},
		{"HS512 with the right key", hs512, reason.AlgorithmNotAllowed},
		{"HS256 in small letters", raw(primary, `{"alg":"hs256"}`, string(payload)), reason.AlgorithmNotAllowed},
		{"alg twice, the good one last", raw(primary, `{"alg":"none","alg":"HS256"}`, string(payload)), reason.TokenMalformed},
		{"another instance's key", sign(stranger, good(nil)), reason.KeySignatureInvalid},
		{"the empty key", sign("", good(nil)), reason.KeySignatureInvalid},
		{"the key decoded from base64", sign(string(decodedKey), good(nil)), reason.KeySignatureInvalid},
		{"the claims of one token with the signature of another", parts[0] + "." + encode(`{"aud":"http://example.com/client/hubs/chat","exp":9999999999}`) + "." + parts[2], reason.KeySignatureInvalid},
		{"no signature", parts[0] + "." + parts[1] + ".", reason.KeySignatureInvalid},
		{"half a signature", parts[0] + "." + parts[1] + "." + parts[2][:22], reason.KeySignatureInvalid},
		{"a detached payload", parts[0] + ".." + parts[2], reason.KeySignatureInvalid},
		{"an unencoded payload", raw(primary, `{"alg":"HS256","b64":false,"crit":["b64"]}`, string(payload)), reason.CriticalHeader},
		{"b64 that is not critical", raw(primary, `{"alg":"HS256","b64":false}`, string(payload)), reason.CriticalHeader},
		{"an unknown critical extension", raw(primary, `{"alg":"HS256","crit":["exp"],"exp":1}`, string(payload)), reason.CriticalHeader},
		{"a key of its own in the header", raw(stranger, `{"alg":"HS256","jwk":{"kty":"oct","k":"`+encode(stranger)+`"}}`, string(payload)), reason.TokenMalformed},
		{"a kid that is a path", raw(stranger, `{"alg":"HS256","kid":"../../../dev/null"}`, string(payload)), reason.KeySignatureInvalid},

		{"nothing between the dots", "..", reason.AlgorithmNotAllowed},
		{"two parts", parts[0] + "." + parts[1], reason.TokenMalformed},
		{"four parts", sign(primary, good(nil)) + ".x", reason.TokenMalformed},
		{"five parts, an encrypted token", "a.b.c.d.e", reason.TokenMalformed},
		{"padding", parts[0] + "=." + parts[1] + "." + parts[2], reason.TokenMalformed},
		{"a line break inside", parts[0] + "." + parts[1] + "%0A." + parts[2], reason.TokenMalformed},
		{"a JSON serialization", "%7B%22payload%22%3A%22%22%7D", reason.TokenMalformed},
		{"a mebibyte", strings.Repeat("a", 1<<20), reason.TokenTooLarge},
		{"a mebibyte with a good signature", sign(primary, good(m{"x": strings.Repeat("a", 1<<20)})), reason.TokenTooLarge},
		{"a payload that is no JSON", raw(primary, hs256, `{"aud"`), reason.TokenMalformed},
		{"a payload that is a list", raw(primary, hs256, `[]`), reason.TokenMalformed},
		{"a payload that is null", raw(primary, hs256, `null`), reason.TokenMalformed},
		{"something behind the payload", raw(primary, hs256, string(payload)+`{}`), reason.TokenMalformed},
		{"a brace too many, which a decoder of streams does not see", raw(primary, hs256, string(payload)+`}`), reason.TokenMalformed},
		{"exp twice", raw(primary, hs256, `{"aud":"http://example.com/client/hubs/chat","exp":1,"exp":9999999999}`), reason.TokenMalformed},
		{"aud twice", raw(primary, hs256, `{"aud":"x","aud":"http://example.com/client/hubs/chat","exp":9999999999}`), reason.TokenMalformed},
		{"sub twice, once escaped", raw(primary, hs256, `{"sub":"a","s\u0075b":"b","aud":"http://example.com/client/hubs/chat","exp":9999999999}`), reason.TokenMalformed},

		{"no exp", sign(primary, good(m{"exp": nil})), reason.ExpiryMissing},
		{"exp null", raw(primary, hs256, `{"aud":"http://example.com/client/hubs/chat","exp":null}`), reason.ExpiryMissing},
		{"EXP in capitals", sign(primary, good(m{"exp": nil, "EXP": now.Unix() + 60})), reason.ExpiryMissing},
		{"exp as a string", sign(primary, good(m{"exp": "9999999999"})), reason.ClaimInvalid},
		{"exp as a list", sign(primary, good(m{"exp": []int{9999999999}})), reason.ClaimInvalid},
		{"exp in milliseconds", sign(primary, good(m{"exp": now.UnixMilli() + 60_000})), reason.ClaimInvalid},
		{"exp huge", raw(primary, hs256, `{"aud":"http://example.com/client/hubs/chat","exp":1e300}`), reason.ClaimInvalid},
		{"exp beyond a float", raw(primary, hs256, `{"aud":"http://example.com/client/hubs/chat","exp":1e999}`), reason.ClaimInvalid},
		{"exp that overflows to the future", raw(primary, hs256, `{"aud":"http://example.com/client/hubs/chat","exp":-9223372036854775809}`), reason.ClaimInvalid},
		{"expired longer than the skew", sign(primary, good(m{"exp": now.Unix() - 301})), reason.Expired},
		{"exp 0", sign(primary, good(m{"exp": 0})), reason.Expired},
		{"nbf further away than the skew", sign(primary, good(m{"nbf": now.Unix() + 301})), reason.NotYetValid},
		{"nbf as a string", sign(primary, good(m{"nbf": "0"})), reason.ClaimInvalid},

		{"no aud", sign(primary, good(m{"aud": nil})), reason.AudienceMismatch},
		{"aud a number", sign(primary, good(m{"aud": 1})), reason.ClaimInvalid},
		{"aud a list with a null", sign(primary, good(m{"aud": []any{nil}})), reason.ClaimInvalid},
		{"aud an empty list", sign(primary, good(m{"aud": []string{}})), reason.AudienceMismatch},
		{"another hub", sign(primary, good(m{"aud": "http://example.com/client/hubs/other"})), reason.AudienceMismatch},
		{"the beginning of the audience", sign(primary, good(m{"aud": "http://example.com/client/hubs/cha"})), reason.AudienceMismatch},
		{"more than the audience", sign(primary, good(m{"aud": "http://example.com/client/hubs/chat/x"})), reason.AudienceMismatch},
		{"the audience with a slash", sign(primary, good(m{"aud": "http://example.com/client/hubs/chat/"})), reason.AudienceMismatch},
		{"the origin alone", sign(primary, good(m{"aud": "http://example.com"})), reason.AudienceMismatch},
		{"the audience with a query", sign(primary, good(m{"aud": "http://example.com/client/hubs/chat?x"})), reason.AudienceMismatch},
		{"the audience with a fragment", sign(primary, good(m{"aud": "http://example.com/client/hubs/chat#"})), reason.AudienceMismatch},
		{"the host as user information of another", sign(primary, good(m{"aud": "http://example.com@evil.example/client/hubs/chat"})), reason.AudienceMismatch},
		{"another host", sign(primary, good(m{"aud": "http://evil.example/client/hubs/chat"})), reason.AudienceMismatch},
		{"another port", sign(primary, good(m{"aud": "http://example.com:8080/client/hubs/chat"})), reason.AudienceMismatch},
		{"the scheme ws", sign(primary, good(m{"aud": "ws://example.com/client/hubs/chat"})), reason.AudienceMismatch},
		{"no scheme", sign(primary, good(m{"aud": "example.com/client/hubs/chat"})), reason.AudienceMismatch},
		{"the legacy audience for the normal address", sign(primary, good(m{"aud": "http://example.com/client/?hub=chat"})), reason.AudienceMismatch},
		{"the audience of MQTT", sign(primary, good(m{"aud": "http://example.com/clients/mqtt/hubs/chat"})), reason.AudienceMismatch},
		{"a server's token for the same hub", sign(primary, good(m{"aud": "http://example.com/api/hubs/chat/:send"})), reason.AudienceMismatch},

		{"two subs in a list", sign(primary, good(m{"sub": []string{"a", "b"}})), reason.ClaimInvalid},
		{"sub a number", sign(primary, good(m{"sub": 5})), reason.ClaimInvalid},
		{"a role that is a number", sign(primary, good(m{"role": []any{"a", 5}})), reason.ClaimInvalid},
	} {
		t.Run(tc.name, func(t *testing.T) {
			c, err := verifier().Client(instance(), connect(tc.token), "chat")
			if err == nil {
				t.Fatalf("accepted as %+v", c)
			}
			r := err.(*Refusal)
			if r.Code != tc.want || r.Status != 401 {
				t.Errorf("%d %s (%s), want %s", r.Status, r.Code, r.Message, tc.want)
			}
			if len(r.Message) > 1024 {
				t.Errorf("the message has %d bytes", len(r.Message))
			}
			for _, secret := range []string{primary, secondary, parts[2]} {
				if strings.Contains(r.Message, secret) {
					t.Errorf("the message shows a secret: %s", r.Message)
				}
			}
		})
	}
}

func TestClientTokensThatAreAccepted(t *testing.T) {
	for _, tc := range []struct {
		name  string
		token string
	}{
		{"the primary key", sign(primary, good(nil))},
		{"the secondary key", sign(secondary, good(nil))},
		{"a header without typ", raw(primary, `{"alg":"HS256"}`, `{"aud":"http://example.com/client/hubs/chat","exp":1800000060}`)},
		{"a header with a kid", raw(primary, `{"alg":"HS256","kid":"1"}`, `{"aud":"http://example.com/client/hubs/chat","exp":1800000060}`)},
		{"expired within the skew", sign(primary, good(m{"exp": now.Unix() - 299}))},
		{"not yet valid within the skew", sign(primary, good(m{"nbf": now.Unix() + 299}))},
		{"a fractional exp", raw(primary, hs256, `{"aud":"http://example.com/client/hubs/chat","exp":1800000060.75}`)},
		{"the longest lifetime that :generateToken makes", sign(primary, good(m{"exp": now.Unix() + 2147483647*60}))},
		{"any issuer", sign(primary, good(m{"iss": "me"}))},
		{"an audience in other letters", sign(primary, good(m{"aud": "HTTP://EXAMPLE.com/CLIENT/Hubs/ChAt"}))},
		{"an https audience, since TLS may end before the service", sign(primary, good(m{"aud": "https://example.com/client/hubs/chat"}))},
		{"an audience with the default port", sign(primary, good(m{"aud": "https://example.com:443/client/hubs/chat"}))},
		{"an escaped audience", sign(primary, good(m{"aud": "http://example.com/client/hubs/ch%61t"}))},
		{"one audience of several", sign(primary, good(m{"aud": []string{"x", "http://example.com/client/hubs/chat"}}))},
		{"a public endpoint", sign(primary, good(m{"aud": "https://pubsub.example.com/client/hubs/chat"}))},
		{"a public endpoint with a port", sign(primary, good(m{"aud": "https://other.example.com:8443/client/hubs/chat"}))},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if _, err := verifier().Client(instance(), connect(tc.token), "chat"); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestWhereClientTokensAreFound(t *testing.T) {
	token, other := sign(primary, good(m{"sub": "query"})), sign(primary, good(m{"sub": "header"}))
	for _, tc := range []struct {
		name, url string
		header    []string
		user      string
		want      reason.Code
	}{
		{"in the query", "/client/hubs/chat?a=b&access_token=" + token + "&c=d", nil, "query", ""},
		{"under an escaped name", "/client/hubs/chat?access%5Ftoken=" + token, nil, "query", ""},
		{"in the header", "/client/hubs/chat", []string{"Bearer " + other}, "header", ""},
		{"in the header, the scheme in other letters", "/client/hubs/chat", []string{"bEARER " + other}, "header", ""},
		{"in both, the query counts", "/client/hubs/chat?access_token=" + token, []string{"Bearer " + other}, "query", ""},
		{"in both, a bad one in the query counts", "/client/hubs/chat?access_token=x.y.z", []string{"Bearer " + other}, "", reason.TokenMalformed},
		{"an empty parameter is none", "/client/hubs/chat?access_token=", []string{"Bearer " + other}, "header", ""},
		{"twice in the query", "/client/hubs/chat?access_token=" + token + "&access_token=" + token, nil, "", reason.TokenMalformed},
		{"two headers", "/client/hubs/chat", []string{"Bearer " + other, "Bearer " + other}, "", reason.SeveralAuthorizationHeaders},
		{"two tokens in one header", "/client/hubs/chat", []string{"Bearer " + other + ", Bearer " + other}, "", reason.AuthorizationSchemeNotBearer},
		{"another scheme", "/client/hubs/chat", []string{"Basic " + other}, "", reason.AuthorizationSchemeNotBearer},
		{"a scheme without token", "/client/hubs/chat", []string{"Bearer "}, "", reason.AuthorizationSchemeNotBearer},
		{"a broken escape", "/client/hubs/chat?access_token=%zz", nil, "", reason.TokenMalformed},
	} {
		t.Run(tc.name, func(t *testing.T) {
			r := httptest.NewRequest("GET", "/client/hubs/chat", nil)
			path, query, _ := strings.Cut(tc.url, "?")
			r.URL.Path, r.URL.RawQuery = path, query
			r.Header["Authorization"] = tc.header
			c, err := verifier().Client(instance(), r, "chat")
			if code(err) != tc.want {
				t.Fatalf("got %v, want %q", err, tc.want)
			}
			if err == nil && c.UserID != tc.user {
				t.Errorf("user %q, want %q", c.UserID, tc.user)
			}
		})
	}
}

func TestAddressesOfClients(t *testing.T) {
	for _, tc := range []struct {
		name, url, hub, aud string
		want                reason.Code
	}{
		{"the hub in other letters than the audience", "/client/hubs/CHAT", "CHAT", "http://example.com/client/hubs/chat", ""},
		{"a hub with characters that some escape", "/client/hubs/a%5B1%5D%60", "a[1]`", "http://example.com/client/hubs/a%5b1]`", ""},
		{"the legacy address, the audience in the normal form", "/client/?hub=chat", "chat", "http://example.com/client/hubs/chat", ""},
		{"the legacy address, the audience likewise", "/client/?hub=chat", "chat", "http://example.com/client/?hub=chat", ""},
		{"the legacy address without slash", "/client?hub=chat", "chat", "http://example.com/client?hub=chat", ""},
		{"the legacy address, the audience for another hub", "/client/?hub=chat", "chat", "http://example.com/client/?hub=other", reason.AudienceMismatch},
		{"the legacy address, the audience without hub", "/client/?hub=chat", "chat", "http://example.com/client/", reason.AudienceMismatch},
		{"an MQTT client", "/clients/mqtt/hubs/chat", "chat", "http://example.com/clients/mqtt/hubs/chat", ""},
		{"an MQTT client with a token for WebSocket", "/clients/mqtt/hubs/chat", "chat", "http://example.com/client/hubs/chat", reason.AudienceMismatch},
		{"a Socket.IO client", "/clients/socketio/hubs/chat", "chat", "http://example.com/clients/socketio/hubs/chat", ""},
		{"a port", "http://example.com:8080/client/hubs/chat", "chat", "https://example.com:8080/client/hubs/chat", ""},
		{"a default port in the request", "http://example.com:80/client/hubs/chat", "chat", "https://example.com/client/hubs/chat", ""},
		{"an IPv6 address", "http://[::1]:8080/client/hubs/chat", "chat", "http://[::1]:8080/client/hubs/chat", ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			r := httptest.NewRequest("GET", tc.url, nil)
			r.Header.Set("Authorization", "Bearer "+sign(primary, good(m{"aud": tc.aud})))
			if _, err := verifier().Client(instance(), r, tc.hub); code(err) != tc.want {
				t.Errorf("got %v, want %q", err, tc.want)
			}
		})
	}
}

func TestWhatAClientTokenSays(t *testing.T) {
	payload := `{"aud":"http://example.com/client/hubs/chat","exp":1800000060,"sub":"al ice","role":["r1","r2"],` +
		`"webpubsub.group":"g","big":12345678901234567890.0100,"yes":true,"nothing":null,"object":{"a": 1},"mixed":["x",1,null,false],"empty":[]}`
	c, err := verifier().Client(instance(), connect(raw(primary, hs256, payload)), "chat")
	if err != nil {
		t.Fatal(err)
	}
	want := &Client{
		UserID: "al ice", HasUser: true, Roles: []string{"r1", "r2"}, Groups: []string{"g"},
		Claims: map[string][]string{
			"aud": {"http://example.com/client/hubs/chat"}, "exp": {"1800000060"}, "sub": {"al ice"}, "role": {"r1", "r2"},
			"webpubsub.group": {"g"}, "big": {"12345678901234567890.0100"}, "yes": {"true"}, "object": {`{"a":1}`}, "mixed": {"x", "1", "false"},
		},
	}
	if !reflect.DeepEqual(c, want) {
		t.Errorf("got  %+v\nwant %+v", c, want)
	}
	c, err = verifier().Client(instance(), connect(sign(primary, good(m{"sub": "", "role": "one", "webpubsub.group": []string{"a", "b"}}))), "chat")
	if err != nil || c.HasUser || !reflect.DeepEqual(c.Roles, []string{"one"}) || !reflect.DeepEqual(c.Groups, []string{"a", "b"}) {
		t.Errorf("%+v, %v", c, err)
	}
}

func TestAnImpossibleGroupIsABadRequest(t *testing.T) {
	for _, group := range []any{"", " \t", strings.Repeat("x", 1025), 5, []any{"ok", nil}, []string{"ok", ""}, m{}} {
		_, err := verifier().Client(instance(), connect(sign(primary, good(m{"webpubsub.group": group}))), "chat")
		var r *Refusal
		if !errors.As(err, &r) || r.Status != 400 || r.Code != reason.GroupClaimInvalid {
			t.Errorf("group %.20v: %v", group, err)
		}
	}
	for _, group := range []any{strings.Repeat("é", 1024), []string{}, nil} {
		if _, err := verifier().Client(instance(), connect(sign(primary, good(m{"webpubsub.group": group}))), "chat"); err != nil {
			t.Errorf("group %.20v: %v", group, err)
		}
	}
}

func TestAnonymousClients(t *testing.T) {
	r := httptest.NewRequest("GET", "/client/hubs/chat", nil)
	if _, err := verifier().Client(instance(), r, "chat"); code(err) != reason.AnonymousDenied {
		t.Errorf("by default: %v", err)
	}
	in := instance()
	in.Hubs = map[string]*settings.Hub{"chat": {AnonymousConnectPolicy: "Allow"}}
	c, err := verifier().Client(in, r, "CHAT")
	if err != nil || !c.Anonymous || c.HasUser || c.Claims == nil || len(c.Claims) > 0 {
		t.Errorf("allowed: %+v, %v", c, err)
	}
	if _, err := verifier().Client(in, connect("bad"), "chat"); code(err) != reason.TokenMalformed {
		t.Errorf("a bad token where none is needed: %v", err)
	}
	if _, err := verifier().Client(in, r, "other"); code(err) != reason.AnonymousDenied {
		t.Errorf("another hub: %v", err)
	}
}

func TestWithoutLocalAuthentication(t *testing.T) {
	const service = "service-service-service-service-service-key"
	in := instance()
	in.DisableLocalAuth = true
	v := New(Options{Now: func() time.Time { return now }, ServiceKey: func(*settings.Instance) string { return service }})
	for _, key := range []string{primary, secondary} {
		if _, err := v.Client(in, connect(sign(key, good(nil))), "chat"); code(err) != reason.LocalAuthDisabled {
			t.Errorf("client with an access key: %v", err)
		}
	}
	if _, err := v.Client(in, connect(sign(service, good(nil))), "chat"); err != nil {
		t.Errorf("client with the service's key: %v", err)
	}
	for _, tc := range []struct {
		name string
		in   *settings.Instance
		want string
	}{{"with keys switched off", in, service}, {"with keys", instance(), primary}} {
		token, err := v.SignFor(tc.in, Principal{}, ClientTokenOptions{Audience: "http://example.com/client/hubs/chat", Issued: now})
		if err != nil {
			t.Fatal(err)
		}
		if _, _, kid, refusal := open(token, tc.want); refusal != nil || kid != "" {
			t.Errorf("%s: signed with another key, or kid %q", tc.name, kid)
		}
	}
	if _, err := verifier().SignFor(in, Principal{}, ClientTokenOptions{}); !errors.Is(err, ErrNoKey) {
		t.Errorf("signs without a key: %v", err)
	}
	if _, err := verifier().Client(in, connect(sign("", good(nil))), "chat"); code(err) != reason.LocalAuthDisabled {
		t.Errorf("an empty key: %v", err)
	}
}

func TestSignedClientTokenIsAccepted(t *testing.T) {
	token, err := SignClientToken(primary, ClientTokenOptions{
		Audience: ClientAudience("http://example.com/", "chat", ""), UserID: "u", Roles: []string{"r"}, Groups: []string{"g"}, Issued: now,
	})
	if err != nil {
		t.Fatal(err)
	}
	c, err := verifier().Client(instance(), connect(token), "chat")
	if err != nil {
		t.Fatal(err)
	}
	want := map[string][]string{
		"aud": {"http://example.com/client/hubs/chat"}, "sub": {"u"}, "role": {"r"}, "webpubsub.group": {"g"},
		"iat": {"1800000000"}, "nbf": {"1800000000"}, "exp": {"1800003600"},
	}
	if !reflect.DeepEqual(c.Claims, want) {
		t.Errorf("got  %v\nwant %v", c.Claims, want)
	}
	header, _ := base64.RawURLEncoding.DecodeString(strings.Split(token, ".")[0])
	if string(header) != hs256 {
		t.Errorf("header %s", header)
	}
	if _, err := SignClientToken("", ClientTokenOptions{}); err == nil {
		t.Error("signed without a key")
	}
	if got := ClientAudience("https://h", "a[1]", "mqtt"); got != "https://h/clients/mqtt/hubs/a%5B1%5D" {
		t.Error(got)
	}
}

func TestARememberedClientTokenIsJudgedAgain(t *testing.T) {
	clock := now
	v := New(Options{Now: func() time.Time { return clock }})
	in, token := instance(), sign(primary, good(m{"sub": "u"}))
	for range 2 {
		if c, err := v.Client(in, connect(token), "chat"); err != nil || c.UserID != "u" {
			t.Fatal(c, err)
		}
	}
	if len(v.clients.young) != 1 {
		t.Errorf("%d tokens remembered", len(v.clients.young))
	}
	if _, err := v.Client(in, httptest.NewRequest("GET", "/client/hubs/other?access_token="+token, nil), "other"); code(err) != reason.AudienceMismatch {
		t.Errorf("for another hub: %v", err)
	}
	if err := server(v, in, call("/client/hubs/chat", token)); err != nil {
		t.Errorf("the memories of clients and servers are mixed: %v", err)
	}
	clock = now.Add(time.Hour)
	if _, err := v.Client(in, connect(token), "chat"); code(err) != reason.Expired {
		t.Errorf("after its expiry: %v", err)
	}
	clock, in.Keys.Primary = now, stranger
	if _, err := v.Client(in, connect(token), "chat"); code(err) != reason.KeySignatureInvalid {
		t.Errorf("after its key was regenerated: %v", err)
	}
	in.Keys.Primary, in.DisableLocalAuth = primary, true
	if _, err := v.Client(in, connect(token), "chat"); code(err) != reason.LocalAuthDisabled {
		t.Errorf("after access keys were switched off: %v", err)
	}
}

func BenchmarkClientTokenNew(b *testing.B) { benchmarkClientToken(b, false) }

func BenchmarkClientTokenSeen(b *testing.B) { benchmarkClientToken(b, true) }

func benchmarkClientToken(b *testing.B, remembered bool) {
	v, in := verifier(), instance()
	r := connect(sign(primary, good(m{"sub": "user", "role": []string{"webpubsub.joinLeaveGroup", "webpubsub.sendToGroup"}, "iat": now.Unix()})))
	b.ReportAllocs()
	for b.Loop() {
		if !remembered {
			v.clients.young = nil
		}
		if _, err := v.Client(in, r, "chat"); err != nil {
			b.Fatal(err)
		}
	}
}

// FuzzClientToken signs any header and payload with the right key: whatever is accepted must be a token that this
// test, reading it with other means, finds good as well.
func FuzzClientToken(f *testing.F) {
	f.Add(hs256, `{"aud":"http://example.com/client/hubs/chat","exp":1800000060,"sub":"a","role":["r"],"webpubsub.group":"g"}`, false)
	f.Add(hs256, `{"aud":["x","HTTPS://pubsub.example.com/client/hubs/CH%41T"],"exp":1.8e9,"nbf":0,"x":{"y":[null]}}`, false)
	f.Add(`{"alg":"none"}`, `{"aud":1,"exp":"1","sub":[],"webpubsub.group":[" "]}`, true)
	f.Add(`{"alg":"HS256","crit":["b64"],"b64":false,"jwk":{}}`, "\xff", true)
	v, in := verifier(), instance()
	f.Fuzz(func(t *testing.T, header, payload string, unsigned bool) {
		token := raw(primary, header, payload)
		if unsigned {
			token = header + "." + payload
		}
		r := httptest.NewRequest("GET", "/client/hubs/chat", nil)
		r.Header["Authorization"] = []string{"Bearer " + token}
		c, err := v.Client(in, r, "chat")
		if err != nil {
			if x := err.(*Refusal); x.Status != 401 && x.Status != 400 || x.Code == "" || x.Message == "" {
				t.Fatalf("bad refusal %#v", x)
			}
			return
		}
		var h struct{ Alg string }
		var p struct {
			Aud any
			Exp *float64
		}
		if unsigned && strings.Count(token, ".") != 2 {
			t.Fatalf("accepted %q", token)
		}
		if err := json.Unmarshal([]byte(header), &h); !unsigned && (err != nil || h.Alg != "HS256") {
			t.Fatalf("accepted header %s", header)
		}
		if err := json.Unmarshal([]byte(payload), &p); !unsigned && (err != nil || p.Exp == nil || *p.Exp < float64(now.Unix()-301)) {
			t.Fatalf("accepted payload %s", payload)
		}
		if !unsigned && !strings.Contains(strings.ToLower(fmt.Sprint(p.Aud)), "://") || c.Claims == nil {
			t.Fatalf("accepted audience %v", p.Aud)
		}
	})
}
