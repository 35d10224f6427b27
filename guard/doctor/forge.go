package doctor

import (
	"context"
	"crypto"
	"crypto/hmac"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"maps"
	"math/big"
	"net/http"
	"strings"
	"time"

	"tabard/guard"
)

// Who forged tokens are of, if nobody real is known, and who is a stranger to any
// handler.
const (
	somebody = "d0c70000-0000-4000-8000-000000000001"
	stranger = "d0c70000-0000-4000-8000-000000000002"
)

// A forge makes tokens that no issuer made.
type forge struct {
	now       int64
	base      map[string]any // the claims of a good token
	kid       string         // that the issuer's tokens have
	own       *rsa.PrivateKey
	public    *rsa.PublicKey // the issuer's, or our own if that is not known
	published bool           // it is the issuer's
}

func newForge(ctx context.Context, o Options) (*forge, error) {
	f := &forge{now: time.Now().Unix(), kid: "doctor"}
	var err error
	if f.own, err = rsa.GenerateKey(rand.Reader, 2048); err != nil {
		return nil, err
	}
	f.public = &f.own.PublicKey
	issuer := o.Issuer
	if o.Token != "" {
		t, err := guard.Decode(o.Token)
		if err != nil {
			return nil, fmt.Errorf("the good token: %w", err)
		}
		if err := json.Unmarshal(t.Payload, &f.base); err != nil {
			return nil, fmt.Errorf("the good token: %w", err)
		}
		f.kid = orDefault(t.KeyID, f.kid)
		issuer = orDefault(issuer, t.Claims.Issuer)
	} else {
		f.base = f.invent(orDefault(issuer, "https://login.microsoftonline.com/"+somebody+"/v2.0"), orDefault(o.Audience, "api://handler"))
	}
	f.base["iat"], f.base["nbf"], f.base["exp"] = f.now-300, f.now-300, f.now+3600
	if issuer != "" {
		f.learnKey(ctx, o.Client, issuer)
	}
	return f, nil
}

// invent are claims as a managed identity's token has them.
func (f *forge) invent(issuer, audience string) map[string]any {
	c := map[string]any{"aud": audience, "iss": issuer, "oid": somebody, "sub": somebody, "idtyp": "app", "uti": randomID()}
	path := strings.TrimSuffix(issuer, "/")
	if v1, isV2 := strings.CutSuffix(path, "/v2.0"); isV2 {
		path, c["ver"], c["azp"], c["azpacr"] = v1, "2.0", somebody, "2"
	} else {
		c["ver"], c["appid"], c["appidacr"], c["idp"] = "1.0", somebody, "2", issuer
	}
	c["tid"] = path[strings.LastIndexByte(path, '/')+1:]
	return c
}

// learnKey fetches the issuer's public key. Without it one attack is made with
// another key and proves less, so a failure is no error.
func (f *forge) learnKey(ctx context.Context, client *http.Client, issuer string) {
	var document struct {
		KeysAt string `json:"jwks_uri"`
	}
	var set struct {
		Keys []struct{ Kty, Kid, N, E string }
	}
	address := strings.TrimSuffix(strings.TrimSuffix(issuer, "/.well-known/openid-configuration"), "/")
	if getJSON(ctx, client, address+"/.well-known/openid-configuration", &document) != nil || getJSON(ctx, client, document.KeysAt, &set) != nil {
		return
	}
	for _, k := range set.Keys {
		n, errN := base64.RawURLEncoding.DecodeString(k.N)
		e, errE := base64.RawURLEncoding.DecodeString(k.E)
		if k.Kty != "RSA" || errN != nil || errE != nil || len(e) > 4 || f.published && k.Kid != f.kid {
			continue
		}
		f.public = &rsa.PublicKey{N: new(big.Int).SetBytes(n), E: int(new(big.Int).SetBytes(e).Int64())}
		if f.kid == "doctor" {
			f.kid = k.Kid
		}
		f.published = true
	}
}

func getJSON(ctx context.Context, client *http.Client, address string, into any) error {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return err
	}
	res, err := client.Do(r)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusOK {
		return fmt.Errorf("GET %s: %s", address, res.Status)
	}
	return json.NewDecoder(io.LimitReader(res.Body, 1<<20)).Decode(into)
}

// claims are those of a good token with some changed; only claims that it has
// are.
func (f *forge) claims(changes ...any) map[string]any {
	c := maps.Clone(f.base)
	for i := 0; i < len(changes); i += 2 {
		if name := changes[i].(string); c[name] != nil {
			c[name] = changes[i+1]
		}
	}
	return c
}

func encode(v any) string {
	text, err := json.Marshal(v)
	if err != nil {
		panic(err) // made of strings, numbers and what was JSON before
	}
	return base64.RawURLEncoding.EncodeToString(text)
}

func (f *forge) header(changes map[string]any) map[string]any {
	h := map[string]any{"typ": "JWT", "alg": "RS256", "kid": f.kid, "x5t": f.kid}
	maps.Copy(h, changes)
	return h
}

func (f *forge) sign(key *rsa.PrivateKey, claims map[string]any) string {
	return signWith(key, f.header(nil), claims)
}

// signEmbedded brings its own key in the header, under another key id.
func (f *forge) signEmbedded() string {
	jwk := map[string]any{"kty": "RSA", "use": "sig", "alg": "RS256", "kid": "embedded",
		"n": base64.RawURLEncoding.EncodeToString(f.own.N.Bytes()), "e": "AQAB"}
	return signWith(f.own, f.header(map[string]any{"kid": "embedded", "jwk": jwk}), f.base)
}

func signWith(key *rsa.PrivateKey, header, claims map[string]any) string {
	input := encode(header) + "." + encode(claims)
	sum := sha256.Sum256([]byte(input))
	signature, err := rsa.SignPKCS1v15(rand.Reader, key, crypto.SHA256, sum[:])
	if err != nil {
		panic(err) // the key is our own, of a good size
	}
	return input + "." + base64.RawURLEncoding.EncodeToString(signature)
}

// unsigned has no signature and says so, in one of several spellings.
func (f *forge) unsigned(alg string) string {
	return encode(f.header(map[string]any{"alg": alg})) + "." + encode(f.base) + "."
}

// sharedKey are tokens signed with HS256, for each form in which code may hold
// the public key that it takes for a shared one.
func (f *forge) sharedKey() []string {
	var tokens []string
	spki, err := x509.MarshalPKIXPublicKey(f.public)
	if err != nil {
		return []string{f.unsigned("HS256")}
	}
	input := encode(f.header(map[string]any{"alg": "HS256"})) + "." + encode(f.base)
	asPEM := pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: spki})
	for _, key := range [][]byte{asPEM, []byte(strings.TrimSpace(string(asPEM))), spki, x509.MarshalPKCS1PublicKey(f.public)} {
		h := hmac.New(sha256.New, key)
		h.Write([]byte(input))
		tokens = append(tokens, input+"."+base64.RawURLEncoding.EncodeToString(h.Sum(nil)))
	}
	return tokens
}
