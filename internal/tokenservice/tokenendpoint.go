package tokenservice

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"mime"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/google/uuid"

	"tabard/internal/directory"
	"tabard/internal/identity"
	"tabard/internal/throttle"
)

// maxForm bounds the body of a token request. A client assertion with its certificate chain takes a few KiB.
const maxForm = 64 << 10

// A tokenRequest is what a client sent to a token endpoint, parameters that nobody knows left out.
type tokenRequest struct {
	version                  int
	grantType                string
	clientID, clientSecret   string
	assertionType, assertion string
	scope, resource, claims  string
	hasResource              bool
	peer                     string // where it came from, see throttle.Peer
}

func token1(s *Service, w http.ResponseWriter, r *http.Request, a authority, tenant string) error {
	return s.token(w, r, 1, a, tenant)
}

func token2(s *Service, w http.ResponseWriter, r *http.Request, a authority, tenant string) error {
	return s.token(w, r, 2, a, tenant)
}

// token answers a token request (identity.md section 4). The only grant is client_credentials.
func (s *Service) token(w http.ResponseWriter, r *http.Request, version int, a authority, tenant string) error {
	if r.Method != http.MethodPost {
		return wrongVerb(w, r, http.MethodPost)
	}
	if r.TLS == nil && !(s.opt.AllowLoopbackHTTP && fromLoopback(r)) {
		return refuse(codeMalformed, "The token endpoint answers over https only, so that no secret travels in the clear: %s%s.", a.origin, r.URL.Path)
	}
	q, err := readTokenRequest(w, r, version)
	if err != nil {
		return err
	}
	if err := q.check(tenant); err != nil {
		return err
	}
	resource := q.resource
	if version == 2 {
		if resource, err = resourceOf(q.scope); err != nil {
			return err
		}
	}
	q.resource, q.peer = resource, throttle.Peer(r)
	sub, leave, refused := s.authenticate(r.Context(), q, a)
	if refused != nil {
		s.log.Debug("client refused", "client", q.clientID, "address", q.peer, "code", refused.code.String())
		return refused
	}
	lifetime := s.clientLifetime()
	tok, refused := s.issueTo(sub, resource, lifetime)
	if refused != nil {
		leave()
		return refused
	}
	writeToken(w, r, version, resource, tok, s.now())
	return nil
}

// clientLifetime is 60 to 90 minutes unless it is configured: spread, so that a fleet that was started together does not
// come back together.
func (s *Service) clientLifetime() time.Duration {
	if s.opt.ClientLifetime != 0 {
		return s.opt.ClientLifetime
	}
	return time.Hour + time.Duration(rand.Int64N(int64(30*time.Minute/time.Second)))*time.Second
}

// issueTo issues to a client. One that asks for a token for itself must do so by id (identity.md 4.2).
func (s *Service) issueTo(sub subject, resource string, lifetime time.Duration) (*identity.Token, *refusal) {
	target, refused := s.resolve(resource)
	if refused != nil {
		return nil, refused
	}
	if target.AppID == sub.principal.AppID && !strings.EqualFold(resource, target.AppID) {
		return nil, refuse(codeOwnURI, "Application '%s'(%s) is requesting a token for itself. This scenario is supported only if resource is specified using the GUID based App Identifier.", sub.principal.AppID, sub.principal.DisplayName)
	}
	return s.issue(sub, resource, lifetime)
}

// writeToken answers with a token: numbers as JSON numbers on v2, as strings on v1.
func writeToken(w http.ResponseWriter, r *http.Request, version int, resource string, tok *identity.Token, now time.Time) {
	expiresIn := int64(tok.ExpiresOn.Sub(now)/time.Second) - 1 // a client that adds it to its clock must not come out late
	body := map[string]any{"token_type": "Bearer", "expires_in": expiresIn, "ext_expires_in": expiresIn, "access_token": tok.Raw}
	if version == 1 {
		text := strconv.FormatInt(expiresIn, 10)
		body["expires_in"], body["ext_expires_in"] = text, text
		body["expires_on"], body["not_before"] = strconv.FormatInt(tok.ExpiresOn.Unix(), 10), strconv.FormatInt(tok.NotBefore.Unix(), 10)
		if body["resource"] = resource; resource == "" {
			body["resource"] = directory.Graph
		}
	}
	if !tok.RefreshOn.IsZero() {
		body["refresh_in"] = int64(tok.RefreshOn.Sub(now) / time.Second)
	}
	h := w.Header()
	noStore(h)
	h.Set("x-ms-request-id", uuid.NewString())
	if strings.EqualFold(r.Header.Get("return-client-request-id"), "true") {
		h.Set("client-request-id", correlationID(r))
	}
	h.Set("Content-Type", "application/json; charset=utf-8")
	_ = json.NewEncoder(w).Encode(body) // the client is gone, or it is not
}

// authenticate finds out for whom the request speaks, by its one credential. leave takes back what the credential was
// used up for, when the request fails for another reason. Failures are counted per client and address; who has failed
// too often waits, whether or not the next credential is right.
func (s *Service) authenticate(ctx context.Context, q tokenRequest, a authority) (_ subject, leave func(), _ *refusal) {
	leave = func() {}
	sp, ok := s.directory.ServicePrincipalByAppID(q.clientID)
	if !ok {
		return subject{}, nil, refuse(codeClientNotFound, "Application with identifier '%.100s' was not found in the directory '%s'. This can happen if the application has no service principal in the tenant, or if the request was sent to the wrong tenant.", q.clientID, s.directory.TenantID())
	}
	who, now := sp.AppID+" "+q.peer, s.now()
	if wait := s.failures.Wait(who, now); wait > 0 {
		return subject{}, nil, &refusal{code: codeThrottled, after: wait, text: fmt.Sprintf("Application '%s' failed to authenticate too often from this address. Try again in %v.", sp.AppID, wait.Round(time.Second))}
	}
	sub := subject{principal: sp, acr: "2"}
	var refused *refusal
	switch {
	case q.assertion != "" && q.clientSecret != "":
		refused = refuse(codeMalformed, "The request carries both a client secret and a client assertion; send one.")
	case q.assertion != "":
		leave, refused = s.checkAssertion(ctx, q, &sub, a)
	case q.clientSecret != "":
		sub.acr = "1"
		refused = s.checkSecret(sp, q.clientSecret)
	default:
		refused = refuse(codeNoCredential, "The request body must contain the following parameter: 'client_assertion' or 'client_secret'.")
	}
	switch {
	case refused == nil:
		s.failures.Forgive(who)
	case aadsts[refused.code].status == http.StatusUnauthorized && refused.code != codeNoCredential, refused.code == codeSignature:
		s.failures.Take(who, now)
	}
	return sub, leave, refused
}

// checkSecret says wrong to whoever does not hold a secret of the application, and more to who does.
func (s *Service) checkSecret(sp directory.ServicePrincipal, secret string) *refusal {
	c, err := s.directory.CheckPassword(sp.AppID, secret)
	switch {
	case errors.Is(err, directory.ErrPasswordExpired):
		return refuse(codeSecretExpired, "The provided client secret keys for app '%s' are expired. The secret with key id '%s' is valid from %s to %s. Create a new one.", sp.AppID, c.KeyID, stamp(c.StartDateTime), stamp(c.EndDateTime))
	case err != nil:
		return refuse(codeSecretWrong, "Invalid client secret provided. Ensure the secret being sent in the request is the client secret value, not the client secret ID, for a secret added to app '%s'.", sp.AppID)
	}
	return nil
}

// checkAssertion verifies a client assertion: one that the application signed itself if it says so, otherwise one of an
// issuer that a federated credential trusts.
func (s *Service) checkAssertion(ctx context.Context, q tokenRequest, sub *subject, a authority) (leave func(), _ *refusal) {
	leave = func() {}
	if q.assertionType != assertionType {
		return leave, refuse(codeMalformed, "The client_assertion_type is %.100q, must be '%s'.", q.assertionType, assertionType)
	}
	assertion, refused := parseAssertion(q.assertion, jose.PS256, jose.RS256)
	if refused != nil {
		return leave, refused
	}
	resourceID, explicit, managed := sub.principal.ManagedIdentity()
	if managed {
		sub.mirid = resourceID
		if !explicit { // a system-assigned identity has no credential that anybody could hold
			return leave, matchFederated(assertion.claims, nil)
		}
		u, _ := s.directory.UserAssignedIdentity(resourceID)
		return leave, s.checkFederated(ctx, assertion, u.FederatedCredentials, a)
	}
	app, _ := s.directory.Application(sub.principal.AppID)
	if !strings.EqualFold(assertion.claims.Iss, app.AppID) {
		return leave, s.checkFederated(ctx, assertion, app.FederatedCredentials, a)
	}
	if refused := s.checkCertificate(assertion, app, a); refused != nil {
		return leave, refused
	}
	p := presentation{client: app.AppID, peer: q.peer, id: assertion.claims.Jti, request: q.resource + "\x00" + q.claims, until: assertion.until().Add(skew)}
	if p.id == "" {
		p.id = q.assertion[:strings.LastIndexByte(q.assertion, '.')] // what is signed
	}
	if refused := s.replays.enter(p, s.now()); refused != nil {
		return leave, refused
	}
	return func() { s.replays.leave(p) }, nil
}

// readTokenRequest reads the form, and the client from HTTP Basic if it is there.
func readTokenRequest(w http.ResponseWriter, r *http.Request, version int) (tokenRequest, error) {
	q := tokenRequest{version: version}
	media, _, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	if err != nil || media != "application/x-www-form-urlencoded" {
		return q, refuse(codeMalformed, "The body must be of type application/x-www-form-urlencoded.")
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxForm))
	var tooLarge *http.MaxBytesError
	switch {
	case errors.As(err, &tooLarge):
		return q, refuse(codeMalformed, "The body has more than %d bytes.", maxForm)
	case err != nil:
		return q, refuse(codeMalformed, "The body could not be read.")
	}
	form, err := url.ParseQuery(string(body))
	if err != nil {
		return q, refuse(codeMalformed, "The body is not a well-formed form.")
	}
	_, q.hasResource = form["resource"]
	for name, into := range map[string]*string{
		"grant_type": &q.grantType, "client_id": &q.clientID, "client_secret": &q.clientSecret, "scope": &q.scope,
		"resource": &q.resource, "claims": &q.claims, "client_assertion_type": &q.assertionType, "client_assertion": &q.assertion,
	} {
		if len(form[name]) > 1 {
			return q, refuse(codeMalformed, "The parameter '%s' is there %d times.", name, len(form[name]))
		}
		*into = form.Get(name)
	}
	q.assertion = strings.TrimSpace(q.assertion) // some libraries send a token file with its line break
	return q, q.basic(r)
}

// basic takes the client's id and secret from an Authorization header, where both are form-encoded.
func (q *tokenRequest) basic(r *http.Request) error {
	scheme, encoded, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	if !strings.EqualFold(scheme, "Basic") {
		return nil // a scheme that is not a client credential is none
	}
	decoded, err := base64.StdEncoding.DecodeString(strings.TrimSpace(encoded))
	id, secret, ok := strings.Cut(string(decoded), ":")
	id, idErr := url.QueryUnescape(id)
	secret, secretErr := url.QueryUnescape(secret)
	if err := errors.Join(err, idErr, secretErr); err != nil || !ok {
		return refuse(codeMalformed, "The Authorization header is not well-formed Basic authentication.")
	}
	if q.clientID != "" && !strings.EqualFold(q.clientID, id) || q.clientSecret != "" {
		return refuse(codeMalformed, "The client is named in the Authorization header and, differently or with a secret, in the body.")
	}
	q.clientID, q.clientSecret = id, secret
	return nil
}

// check reports what keeps the request from being one for client_credentials.
func (q tokenRequest) check(tenant string) error {
	switch {
	case q.grantType == "":
		return missing("grant_type")
	case q.grantType != "client_credentials":
		return refuse(codeGrantType, "The app requested an unsupported grant type '%.100s'.", q.grantType)
	case tenant == "":
		return refuse(codeGrantOnCommon, "The grant type is not supported over the /common or /organizations endpoints. Please use the tenant-specific endpoint.")
	case q.clientID == "":
		return missing("client_id")
	case q.version == 2 && q.hasResource:
		return refuse(codeResourceOnV2, "The 'resource' request parameter is not supported; name the resource in 'scope'.")
	case q.version == 2 && strings.TrimSpace(q.scope) == "":
		return missing("scope")
	}
	return nil
}
