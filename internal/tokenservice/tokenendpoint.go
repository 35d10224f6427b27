package tokenservice

import (
	"encoding/base64"
	"errors"
	"io"
	"mime"
	"net/http"
	"net/url"
	"strings"
)

// maxForm bounds the body of a token request. A client assertion with its certificate chain takes a few KiB.
const maxForm = 64 << 10

// A tokenRequest is what a client sent to a token endpoint, parameters that nobody knows left out.
type tokenRequest struct {
	version                  int
	grantType                string
	clientID, clientSecret   string
	assertionType, assertion string
	scope, resource          string
	hasResource              bool
}

func token1(s *Service, w http.ResponseWriter, r *http.Request, _ authority, tenant string) error {
	return s.token(w, r, 1, tenant)
}

func token2(s *Service, w http.ResponseWriter, r *http.Request, _ authority, tenant string) error {
	return s.token(w, r, 2, tenant)
}

// token answers a token request. No application of the directory can hold a credential, so client_credentials,
// the only grant, ends in the refusal that Entra gives to a client that is unknown or not authenticated.
func (s *Service) token(w http.ResponseWriter, r *http.Request, version int, tenant string) error {
	if r.Method != http.MethodPost {
		return wrongVerb(w, r, http.MethodPost)
	}
	q, err := readTokenRequest(w, r, version)
	if err != nil {
		return err
	}
	if err := q.check(tenant); err != nil {
		return err
	}
	return s.authenticate(q, tenant)
}

// authenticate refuses the client, for the reason that applies.
func (s *Service) authenticate(q tokenRequest, tenant string) error {
	if _, ok := s.directory.ServicePrincipalByAppID(q.clientID); !ok {
		return refuse(codeClientNotFound, "Application with identifier '%.100s' was not found in the directory '%s'. This can happen if the application has no service principal in the tenant, or if the request was sent to the wrong tenant.", q.clientID, tenant)
	}
	switch {
	case q.assertion != "":
		return refuse(codeAssertionSignature, "Client assertion failed signature validation: no certificate and no federated credential is registered for application '%s'.", q.clientID)
	case q.clientSecret != "":
		return refuse(codeSecretWrong, "Invalid client secret provided. No secret is registered for application '%s'.", q.clientID)
	}
	return refuse(codeNoCredential, "The request body must contain the following parameter: 'client_assertion' or 'client_secret'.")
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
		"resource": &q.resource, "client_assertion_type": &q.assertionType, "client_assertion": &q.assertion,
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
