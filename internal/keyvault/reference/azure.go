package reference

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/runtime"
	"github.com/Azure/azure-sdk-for-go/sdk/security/keyvault/azsecrets"

	"tabard/guard/reason"
	"tabard/internal/egress"
	"tabard/internal/identity"
	"tabard/internal/keyvault"
	"tabard/internal/settings"
)

const (
	// apiVersion is one that the vaults of every cloud know.
	apiVersion = "7.4"
	// maxAnswer bounds a vault's answer: a secret of 25,600 bytes, escaped, and what is around it.
	maxAnswer = 256 << 10
	// maxRetryAfter bounds how long a vault can have itself left alone.
	maxRetryAfter = 10 * time.Minute
)

// readAzure asks a vault that is not ours, with Azure's client. Each reading has a client of its own: a client keeps
// the token of whoever used it first. That costs one more round trip for the challenge, every half hour.
func (r *Resolver) readAzure(ctx context.Context, uri settings.SecretURI, at place, tok *identity.Token) (*keyvault.Secret, *Error) {
	cred := &credential{token: tok, resource: at.resource, otherTenants: r.opt.OtherTenants}
	client, err := azsecrets.NewClient("https://"+uri.Host, cred, &azsecrets.ClientOptions{ClientOptions: azcore.ClientOptions{
		APIVersion: apiVersion,
		Transport:  &transporter{road: r.opt.Transport, host: uri.Host, resource: at.resource},
		Retry:      policy.RetryOptions{MaxRetries: -1}, // when to try again is decided here
		Telemetry:  policy.TelemetryOptions{ApplicationID: "tabard"},
	}})
	if err != nil {
		return nil, &Error{Code: reason.SecretUnavailable, Message: "no client for the vault", Err: err}
	}
	got, err := client.GetSecret(ctx, uri.Name, uri.Version, nil)
	if err != nil {
		return nil, explainAzure(err, tok)
	}
	if got.Value == nil {
		return nil, &Error{Code: reason.SecretUnavailable, Message: "the vault's answer holds no value", kind: refusal}
	}
	s := &keyvault.Secret{Name: uri.Name, Version: uri.Version, Value: []byte(*got.Value)}
	if got.ID != nil {
		s.Version = got.ID.Version()
	}
	if a := got.Attributes; a != nil {
		if a.NotBefore != nil {
			s.NotBefore = *a.NotBefore
		}
		if a.Expires != nil {
			s.Expires = *a.Expires
		}
	}
	return s, nil
}

// explainAzure turns the client's error into ours. Texts of a vault are repeated in part only, without the token, which
// a vault could have put there.
func explainAzure(err error, tok *identity.Token) *Error {
	if refused, ok := errors.AsType[*challengeError](err); ok {
		return &Error{Code: reason.SecretChallengeRefused, Message: refused.problem, kind: refusal, Err: err}
	}
	answer, ok := errors.AsType[*azcore.ResponseError](err)
	if !ok {
		e := &Error{Code: reason.SecretUnavailable, Message: "the vault could not be asked: " + string(egress.Classify(err)), Err: errors.New("no answer")}
		if egress.Classify(err) == egress.DestinationBlocked {
			e.Code, e.kind, e.Message = reason.DestinationBlocked, refusal, "the vault's address is one that the service does not call"
		}
		return e
	}
	var body struct {
		Error struct {
			Code, Message string
			Inner         struct{ Code string } `json:"innererror"`
		}
	}
	if text, err := runtime.Payload(answer.RawResponse); err == nil {
		_ = json.Unmarshal(text, &body) // what is not of that shape says nothing
	}
	message := fmt.Sprintf("the vault answered %d", answer.StatusCode)
	if code := body.Error.Code; codeText.MatchString(code) {
		message += " " + code
	}
	if said := clean(body.Error.Message, tok); said != "" {
		message += ": " + said
	}
	e := judge(answer.StatusCode, body.Error.Inner.Code, message)
	if e.kind == passing {
		e.retry = retryAfter(answer.RawResponse.Header)
	}
	return e
}

var codeText = regexp.MustCompile(`^[A-Za-z0-9]{1,64}$`)

// clean makes a vault's text fit to be shown: short, one line, and without the token.
func clean(text string, tok *identity.Token) string {
	if tok.Raw != "" {
		text = strings.ReplaceAll(text, tok.Raw, "[token]")
		if i := strings.LastIndexByte(tok.Raw, '.'); i >= 0 && i+1 < len(tok.Raw) {
			text = strings.ReplaceAll(text, tok.Raw[i+1:], "[signature]")
		}
	}
	text = strings.Join(strings.Fields(text), " ")
	if len(text) > 500 {
		text = text[:500] + "…"
	}
	return strings.ToValidUTF8(text, "")
}

func retryAfter(h http.Header) time.Duration {
	text := h.Get("Retry-After")
	d := time.Duration(0)
	if n, err := strconv.Atoi(text); err == nil {
		d = time.Duration(n) * time.Second
	} else if at, err := http.ParseTime(text); err == nil {
		d = time.Until(at)
	}
	return min(max(d, 0), maxRetryAfter)
}

// A challengeError says that a vault asked for a token that it does not get.
type challengeError struct{ problem string }

func (e *challengeError) Error() string { return e.problem }

// NonRetriable tells azcore not to try again.
func (e *challengeError) NonRetriable() {}

// A credential gives the one token that was obtained before, if that is what the vault asks for.
type credential struct {
	token        *identity.Token
	resource     string
	otherTenants bool
}

func (c *credential) GetToken(_ context.Context, o policy.TokenRequestOptions) (azcore.AccessToken, error) {
	if len(o.Scopes) != 1 || o.Scopes[0] != c.resource+"/.default" {
		return azcore.AccessToken{}, &challengeError{"the vault demands a token for " + printable(strings.Join(o.Scopes, " ")) + ", configured is " + c.resource}
	}
	if own := claim(c.token, "tid"); !c.otherTenants && own != "" && !strings.EqualFold(o.TenantID, own) {
		return azcore.AccessToken{}, &challengeError{"the vault belongs to the tenant " + printable(o.TenantID) + ", the identity to " + own}
	}
	if o.Claims != "" {
		return azcore.AccessToken{}, &challengeError{"the vault demands claims that a managed identity cannot give"}
	}
	return azcore.AccessToken{Token: c.token.Raw, ExpiresOn: c.token.ExpiresOn}, nil
}

// claim reads one claim of a token.
func claim(tok *identity.Token, name string) string {
	var claims map[string]any
	if tok == nil || json.Unmarshal(tok.Claims, &claims) != nil {
		return ""
	}
	text, _ := claims[name].(string)
	return text
}

func printable(s string) string {
	s = strings.Map(func(r rune) rune {
		if r < ' ' || r > '~' {
			return '?'
		}
		return r
	}, s)
	return s[:min(len(s), 200)]
}

// A transporter carries the client's requests to the one vault, follows no redirect, reads no endless answer and lets
// no challenge through that is not of the known form: the client's parser takes everything and panics at some.
type transporter struct {
	road     http.RoundTripper
	host     string
	resource string
}

func (t *transporter) Do(req *http.Request) (*http.Response, error) {
	if req.URL.Scheme != "https" || !strings.EqualFold(req.URL.Host, t.host) {
		return nil, &challengeError{"the client left the vault's host"}
	}
	res, err := t.road.RoundTrip(req)
	if err != nil {
		return nil, err
	}
	res.Body = struct {
		io.Reader
		io.Closer
	}{io.LimitReader(res.Body, maxAnswer), res.Body}
	if res.StatusCode == http.StatusUnauthorized && req.Header.Get("Authorization") == "" {
		if err := t.checkChallenge(res.Header); err != nil {
			res.Body.Close()
			return nil, err
		}
	}
	return res, nil
}

// What has another form, the client might understand differently.
var challengeForm = regexp.MustCompile(`^Bearer( [a-z_]+="[^" ]*",?)+$`)

var challengePart = regexp.MustCompile(`(?:^|[ ,])(authorization|resource|scope)="([^"]*)"`)

// checkChallenge wants one challenge that names an https authority with a tenant, and the configured resource.
func (t *transporter) checkChallenge(h http.Header) error {
	lines := h.Values("WWW-Authenticate")
	if len(lines) != 1 || !challengeForm.MatchString(lines[0]) {
		return &challengeError{"the vault refused the request without a challenge of the known form"}
	}
	seen := map[string]string{}
	for _, m := range challengePart.FindAllStringSubmatch(strings.TrimPrefix(lines[0], "Bearer "), -1) {
		if _, twice := seen[m[1]]; twice {
			return &challengeError{"the vault's challenge says " + m[1] + " twice"}
		}
		seen[m[1]] = m[2]
	}
	wants := seen["resource"]
	if scope, ok := seen["scope"]; ok {
		wants = strings.TrimSuffix(scope, "/.default")
	}
	if wants != t.resource {
		return &challengeError{"the vault demands a token for " + printable(wants) + ", configured is " + t.resource}
	}
	u, err := url.Parse(seen["authorization"])
	if err != nil || u.Scheme != "https" || u.Host == "" || strings.Trim(u.Path, "/") == "" || strings.Contains(strings.Trim(u.Path, "/"), "/") || u.RawQuery != "" {
		return &challengeError{"the vault's challenge names no tenant's authority"}
	}
	return nil
}
