// Package oauth obtains tokens from any OAuth 2.0 issuer by client_credentials: Microsoft Entra ID, Keycloak, Auth0, or
// another Tabard. The client proves itself with a secret or with a certificate (private_key_jwt).
//
// Which addresses may be reached is the transport's decision; remembering tokens and trying again is identity.Cache's.
package oauth

import (
	"context"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/tls"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/google/uuid"

	"tabard/internal/identity"
)

const (
	maxAnswer        = 1 << 20 // bytes of a document or an answer
	maxText          = 1000    // bytes of a refusal's text
	rediscoverAfter  = time.Hour
	assertionLife    = 10 * time.Minute
	defaultLifetime  = 5 * time.Minute // of a token whose issuer does not say; RFC 6749 leaves it open
	assertionSkew    = 30 * time.Second
	graph            = "https://graph.microsoft.com"
	assertionType    = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
	maxTokenLifetime = 48 * time.Hour // more than that is not believed
)

// Options name the issuer and the client.
type Options struct {
	// Issuer is the iss of the issuer; its discovery document names the token endpoint. TokenEndpoint names it directly.
	// One of the two, an https URL.
	Issuer, TokenEndpoint string
	ClientID              string
	// ClientSecret, or Certificate with its RSA key, proves who the client is.
	ClientSecret string
	Certificate  *tls.Certificate
	// Parameter names the resource in the request: "scope" (default; the resource followed by /.default), "resource" or
	// "audience".
	Parameter string
	// Transport carries the requests. A round trip follows no redirect, so no secret goes elsewhere. Required.
	Transport http.RoundTripper
	// Now is the clock. Default: time.Now.
	Now func() time.Time
}

// A Source is an [identity.Source]. It is safe for concurrent use.
type Source struct {
	opt        Options
	signer     jose.Signer // nil: a secret is used
	mu         sync.Mutex  // guards all below
	endpoint   string
	discovered time.Time
}

// New makes the source. It asks nobody yet.
func New(opt Options) (*Source, error) {
	switch {
	case opt.Transport == nil:
		return nil, errors.New("oauth: no transport is set")
	case opt.ClientID == "":
		return nil, errors.New("oauth: no client id is set")
	case (opt.Issuer == "") == (opt.TokenEndpoint == ""):
		return nil, errors.New("oauth: set the issuer or the token endpoint, one of them")
	case (opt.ClientSecret == "") == (opt.Certificate == nil):
		return nil, errors.New("oauth: set a client secret or a certificate, one of them")
	}
	switch opt.Parameter {
	case "":
		opt.Parameter = "scope"
	case "scope", "resource", "audience":
	default:
		return nil, fmt.Errorf("oauth: %q is none of scope, resource, audience", opt.Parameter)
	}
	for _, address := range []string{opt.Issuer, opt.TokenEndpoint} {
		if address != "" && !isHTTPS(address) {
			return nil, fmt.Errorf("oauth: %q is not an https URL", address)
		}
	}
	if opt.Now == nil {
		opt.Now = time.Now
	}
	s := &Source{opt: opt}
	if opt.Certificate == nil {
		return s, nil
	}
	key, ok := opt.Certificate.PrivateKey.(*rsa.PrivateKey)
	if !ok || len(opt.Certificate.Certificate) == 0 {
		return nil, errors.New("oauth: the certificate has no RSA key")
	}
	thumbprint := sha256.Sum256(opt.Certificate.Certificate[0])
	named := base64.RawURLEncoding.EncodeToString(thumbprint[:])
	var err error
	s.signer, err = jose.NewSigner(jose.SigningKey{Algorithm: jose.PS256, Key: key}, (&jose.SignerOptions{}).WithType("JWT").
		WithHeader("x5t#S256", named).WithHeader("kid", named))
	if err != nil {
		return nil, fmt.Errorf("oauth: %w", err)
	}
	return s, nil
}

func isHTTPS(address string) bool {
	u, err := url.Parse(address)
	return err == nil && u.Scheme == "https" && u.Hostname() != "" && u.User == nil
}

// Token asks the issuer. p is not used: the client is the identity. An empty resource means Microsoft Graph.
func (s *Source) Token(ctx context.Context, p identity.Principal, resource string) (*identity.Token, error) {
	return s.TokenFor(ctx, p, resource, "")
}

// TokenFor implements [identity.ClaimsSource].
func (s *Source) TokenFor(ctx context.Context, _ identity.Principal, resource, claims string) (*identity.Token, error) {
	if resource == "" {
		resource = graph
	}
	endpoint, err := s.tokenEndpoint(ctx)
	if err != nil {
		return nil, err
	}
	form := url.Values{"grant_type": {"client_credentials"}, "client_id": {s.opt.ClientID}}
	if s.opt.Parameter == "scope" {
		form.Set("scope", strings.TrimRight(resource, "/")+"/.default")
	} else {
		form.Set(s.opt.Parameter, resource)
	}
	if claims != "" {
		form.Set("claims", claims)
	}
	now := s.opt.Now()
	if s.signer == nil {
		form.Set("client_secret", s.opt.ClientSecret)
	} else {
		assertion, err := s.assertion(endpoint, now)
		if err != nil {
			return nil, err
		}
		form.Set("client_assertion_type", assertionType)
		form.Set("client_assertion", assertion)
	}
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, endpoint, strings.NewReader(form.Encode()))
	if err != nil {
		return nil, err
	}
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	status, body, err := s.do(r)
	if err != nil {
		return nil, fmt.Errorf("the token endpoint: %w", err)
	}
	if status != http.StatusOK {
		s.forgetEndpoint()
		return nil, s.refusal(status, body)
	}
	return read(body, now)
}

// answer is a token as RFC 6749 gives it. Some issuers write numbers as text.
type answer struct {
	Token     string      `json:"access_token"`
	Type      string      `json:"token_type"`
	ExpiresIn json.Number `json:"expires_in"`
	RefreshIn json.Number `json:"refresh_in"`
}

func read(body []byte, now time.Time) (*identity.Token, error) {
	var a answer
	if err := json.Unmarshal(body, &a); err != nil || a.Token == "" || strings.ContainsAny(a.Token, " \r\n") {
		return nil, errors.New("the token endpoint's answer holds no token") // without the parser's words: they may quote it
	}
	if !strings.EqualFold(a.Type, "Bearer") {
		return nil, fmt.Errorf("the token endpoint gave a token of type %.20q, not Bearer", a.Type)
	}
	life := seconds(a.ExpiresIn)
	if life <= 0 {
		life = defaultLifetime
	}
	var refresh time.Time
	if in := seconds(a.RefreshIn); in > 0 && in < life {
		refresh = now.Add(in)
	}
	return identity.NewToken(a.Token, time.Time{}, now.Add(life), refresh), nil
}

func seconds(n json.Number) time.Duration {
	f, err := strconv.ParseFloat(n.String(), 64)
	if err != nil || f < 0 {
		return 0
	}
	return time.Duration(min(f, maxTokenLifetime.Seconds()) * float64(time.Second))
}

// assertion proves the client for one request (RFC 7523, identity.md 4.3).
func (s *Source) assertion(endpoint string, now time.Time) (string, error) {
	claims, err := json.Marshal(map[string]any{
		"aud": endpoint, "iss": s.opt.ClientID, "sub": s.opt.ClientID, "jti": uuid.NewString(),
		"nbf": now.Add(-assertionSkew).Unix(), "iat": now.Add(-assertionSkew).Unix(), "exp": now.Add(assertionLife).Unix(),
	})
	if err != nil {
		return "", err
	}
	signed, err := s.signer.Sign(claims)
	if err != nil {
		return "", err
	}
	return signed.CompactSerialize()
}

// tokenEndpoint is the configured one, or that of the issuer's discovery document, which is read anew every hour and
// after a refusal.
func (s *Source) tokenEndpoint(ctx context.Context) (string, error) {
	if s.opt.TokenEndpoint != "" {
		return s.opt.TokenEndpoint, nil
	}
	s.mu.Lock()
	known, age := s.endpoint, s.opt.Now().Sub(s.discovered)
	s.mu.Unlock()
	if known != "" && age < rediscoverAfter {
		return known, nil
	}
	found, err := s.discover(ctx)
	if err != nil {
		return "", fmt.Errorf("the discovery document of %s: %w", s.opt.Issuer, err)
	}
	s.mu.Lock()
	s.endpoint, s.discovered = found, s.opt.Now()
	s.mu.Unlock()
	return found, nil
}

func (s *Source) discover(ctx context.Context) (string, error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, strings.TrimSuffix(s.opt.Issuer, "/")+"/.well-known/openid-configuration", nil)
	if err != nil {
		return "", err
	}
	status, body, err := s.do(r)
	if err != nil {
		return "", err
	}
	var document struct {
		Issuer   string `json:"issuer"`
		Endpoint string `json:"token_endpoint"`
	}
	switch {
	case status != http.StatusOK:
		return "", fmt.Errorf("is answered with status %d", status)
	case json.Unmarshal(body, &document) != nil:
		return "", errors.New("is not JSON")
	case document.Issuer != s.opt.Issuer:
		return "", fmt.Errorf("is that of issuer %.200q", document.Issuer)
	case !isHTTPS(document.Endpoint):
		return "", fmt.Errorf("names no https token endpoint: %.200q", document.Endpoint)
	}
	return document.Endpoint, nil
}

func (s *Source) forgetEndpoint() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.endpoint = ""
}

func (s *Source) do(r *http.Request) (status int, body []byte, err error) {
	r.Header.Set("Accept", "application/json")
	resp, err := s.opt.Transport.RoundTrip(r)
	if err != nil {
		return 0, nil, err
	}
	defer resp.Body.Close()
	body, err = io.ReadAll(io.LimitReader(resp.Body, maxAnswer+1))
	if err == nil && len(body) > maxAnswer {
		err = fmt.Errorf("the answer has more than %d bytes", maxAnswer)
	}
	return resp.StatusCode, body, err
}

var (
	aadsts    = regexp.MustCompile(`^AADSTS\d+`)
	oauthCode = regexp.MustCompile(`^[a-z_]{1,50}$`)
)

// refusal is the issuer's answer in its own words. An issuer that repeats the secret is kept from spreading it.
func (s *Source) refusal(status int, body []byte) error {
	var e struct {
		Error         string `json:"error"`
		Description   string `json:"error_description"`
		CorrelationID string `json:"correlation_id"`
	}
	_ = json.Unmarshal(body, &e) // what is not JSON says nothing
	if s.opt.ClientSecret != "" {
		e.Error = strings.ReplaceAll(e.Error, s.opt.ClientSecret, "REDACTED")
		e.Description = strings.ReplaceAll(e.Description, s.opt.ClientSecret, "REDACTED")
	}
	text := e.Description
	switch {
	case text == "" && e.Error != "":
		text = e.Error
	case text == "":
		text = fmt.Sprintf("the token endpoint answered with status %d", status)
	}
	code := aadsts.FindString(text)
	if code == "" {
		code = oauthCode.FindString(e.Error)
	}
	return &identity.Error{
		Code: code, Description: text[:min(len(text), maxText)], CorrelationID: e.CorrelationID,
		Permanent: status == http.StatusBadRequest || status == http.StatusUnauthorized || status == http.StatusForbidden,
	}
}
