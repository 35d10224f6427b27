package tokenservice

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"
)

// Tenant segments that stand for any tenant.
const (
	common        = "common"
	organizations = "organizations"
)

// cacheControl of public documents: short, so that a key roll is cheap; receivers add their own patience.
const cacheControl = "public, max-age=300"

// An endpoint answers a request under a tenant segment. The segment was checked: tenant is the tenant's GUID,
// or empty for common and organizations.
type endpoint func(s *Service, w http.ResponseWriter, r *http.Request, a authority, tenant string) error

// endpoints by what follows the tenant segment in the path.
var endpoints = map[string]endpoint{
	".well-known/openid-configuration":      document1,
	"v2.0/.well-known/openid-configuration": document2,
	"discovery/keys":                        keys1,
	"discovery/v2.0/keys":                   keys2,
	"discovery/instance":                    instance,
	"oauth2/token":                          token1,
	"oauth2/v2.0/token":                     token2,

	// Named in the documents, and explained to whoever comes there.
	"oauth2/authorize":       interactive,
	"oauth2/v2.0/authorize":  interactive,
	"oauth2/devicecode":      interactive,
	"oauth2/v2.0/devicecode": interactive,
	"oauth2/logout":          interactive,
	"oauth2/v2.0/logout":     interactive,
	"oauth2/checksession":    interactive,
	"openid/userinfo":        interactive,
	"kerberos":               interactive,
}

// Addresses without a tenant segment.
const (
	userinfoPath = "/oidc/userinfo"
	errorPath    = "/error"
)

// Handler serves the discovery documents, key sets and token endpoints, and answers 404 to every other path.
func (s *Service) Handler() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("X-Content-Type-Options", "nosniff")
		if err := s.serve(w, r); err != nil {
			s.writeError(w, r, err)
		}
	})
}

func (s *Service) serve(w http.ResponseWriter, r *http.Request) error {
	switch r.URL.Path {
	case errorPath:
		return explain(w, r)
	case userinfoPath:
		return interactive(s, w, r, authority{}, "")
	}
	segment, rest, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, "/"), "/")
	serve, ok := endpoints[rest]
	if !ok {
		http.NotFound(w, r)
		return nil
	}
	tenant, err := s.tenant(segment)
	if err != nil {
		return err
	}
	a, err := s.authority()
	if err != nil {
		return err
	}
	return serve(s, w, r, a, tenant)
}

// tenant resolves a tenant segment; empty means any tenant.
func (s *Service) tenant(segment string) (string, error) {
	switch lowered := strings.ToLower(segment); lowered {
	case s.directory.TenantID():
		return lowered, nil
	case common, organizations:
		return "", nil
	}
	return "", refuse(codeTenantNotFound, "Tenant '%.100s' not found. Check to make sure you have the correct tenant ID and are signing into the correct cloud. This service has the tenant '%s' only.", segment, s.directory.TenantID())
}

func document1(_ *Service, w http.ResponseWriter, r *http.Request, a authority, tenant string) error {
	return publish(w, r, a.discovery(1, tenant))
}

func document2(_ *Service, w http.ResponseWriter, r *http.Request, a authority, tenant string) error {
	return publish(w, r, a.discovery(2, tenant))
}

// jwks is the key set: an object with nothing but the keys.
type jwks struct {
	Keys []publicKey `json:"keys"`
}

func keys1(s *Service, w http.ResponseWriter, r *http.Request, a authority, _ string) error {
	return publish(w, r, jwks{s.published(1, a)})
}

func keys2(s *Service, w http.ResponseWriter, r *http.Request, a authority, _ string) error {
	return publish(w, r, jwks{s.published(2, a)})
}

// instance answers MSAL's question whether it may trust an authority: this one, and no other.
func instance(s *Service, w http.ResponseWriter, r *http.Request, a authority, _ string) error {
	asked := r.URL.Query().Get("authorization_endpoint")
	if asked == "" {
		return missing("authorization_endpoint")
	}
	u, err := url.Parse(asked)
	if err != nil || !strings.EqualFold(u.Host, a.host) {
		return refuse(codeUnknownInstance, "Unknown or invalid instance. The authorization endpoint is not under %s.", a.origin)
	}
	segment, _, _ := strings.Cut(strings.TrimPrefix(u.Path, "/"), "/")
	tenant, err := s.tenant(segment)
	if err != nil {
		return err
	}
	if tenant == "" {
		tenant = strings.ToLower(segment)
	}
	return publish(w, r, a.instance(tenant))
}

// publish writes a public document, which scripts of any origin may read.
func publish(w http.ResponseWriter, r *http.Request, document any) error {
	h := w.Header()
	h.Set("Access-Control-Allow-Origin", "*")
	switch r.Method {
	case http.MethodGet, http.MethodHead:
	case http.MethodOptions:
		h.Set("Access-Control-Allow-Methods", "GET, HEAD")
		h.Set("Access-Control-Allow-Headers", "*")
		h.Set("Access-Control-Max-Age", "300")
		w.WriteHeader(http.StatusNoContent)
		return nil
	default:
		return wrongVerb(w, r, "GET, HEAD")
	}
	body, err := json.Marshal(document)
	if err != nil {
		return err
	}
	h.Set("Content-Type", "application/json; charset=utf-8")
	h.Set("Cache-Control", cacheControl)
	h.Set("Content-Length", strconv.Itoa(len(body)))
	_, _ = w.Write(body)
	return nil
}

// interactive tells a person who was sent to a sign-in page that there is none.
func interactive(_ *Service, w http.ResponseWriter, _ *http.Request, _ authority, _ string) error {
	plain(w, http.StatusBadRequest, "There is no interactive sign-in here.\n\n"+
		"This token service issues access tokens to applications and managed identities only. The address is in\n"+
		"the discovery document because client libraries refuse a document without it.\n")
	return nil
}

// explain is where error_uri leads.
func explain(w http.ResponseWriter, r *http.Request) error {
	n, err := strconv.Atoi(strings.TrimPrefix(strings.ToUpper(r.URL.Query().Get("code")), "AADSTS"))
	known, ok := aadsts[code(n)]
	if err != nil || !ok {
		plain(w, http.StatusNotFound, "This service gives no error of that code.\n")
		return nil
	}
	plain(w, http.StatusOK, fmt.Sprintf("%v (%s)\n\n%s\n", code(n), known.oauth, known.means))
	return nil
}

func plain(w http.ResponseWriter, status int, text string) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	_, _ = w.Write([]byte(text))
}

// failure is the body of every error (identity.md 4.6).
type failure struct {
	Error            string `json:"error"`
	ErrorDescription string `json:"error_description"`
	ErrorCodes       []int  `json:"error_codes"`
	Timestamp        string `json:"timestamp"`
	TraceID          string `json:"trace_id"`
	CorrelationID    string `json:"correlation_id"`
	ErrorURI         string `json:"error_uri,omitempty"`
}

func (s *Service) writeError(w http.ResponseWriter, r *http.Request, err error) {
	var refused *refusal
	if !errors.As(err, &refused) {
		refused = &refusal{code: codeTransient, cause: err}
	}
	how := aadsts[refused.code]
	text := refused.text
	if how.status >= http.StatusInternalServerError { // its details are for the operator, not for callers
		s.log.Error("request failed", "path", r.URL.Path, "err", err)
		text = how.means
	}
	correlation := correlationID(r)
	f := failure{
		Error: how.oauth, ErrorCodes: []int{int(refused.code)},
		Timestamp: s.now().Format("2006-01-02 15:04:05Z"), TraceID: uuid.NewString(), CorrelationID: correlation,
	}
	f.ErrorDescription = fmt.Sprintf("%v: %s Trace ID: %s Correlation ID: %s Timestamp: %s", refused.code, text, f.TraceID, f.CorrelationID, f.Timestamp)
	if a, err := s.authority(); err == nil {
		f.ErrorURI = a.origin + errorPath + "?code=" + strconv.Itoa(int(refused.code))
	}
	body, err := json.Marshal(f)
	if err != nil {
		http.Error(w, http.StatusText(http.StatusInternalServerError), http.StatusInternalServerError)
		return
	}
	h := w.Header()
	h.Set("Content-Type", "application/json; charset=utf-8")
	noStore(h)
	h.Set("x-ms-request-id", f.TraceID)
	if strings.EqualFold(r.Header.Get("return-client-request-id"), "true") {
		h.Set("client-request-id", correlation)
	}
	switch {
	case !refused.code.permanent():
		h.Set("Retry-After", strconv.Itoa(max(1, int((refused.after+time.Second-1)/time.Second))))
	case (refused.code == codeSecretWrong || refused.code == codeSecretExpired) && r.Header.Get("Authorization") != "": // RFC 6749 5.2
		h.Set("WWW-Authenticate", `Basic realm="token"`)
	}
	w.WriteHeader(how.status)
	_, _ = w.Write(body)
}

func noStore(h http.Header) {
	h.Set("Cache-Control", "no-store, no-cache")
	h.Set("Pragma", "no-cache")
}

// correlationID is the caller's client-request-id, from the header, from that of Azure's other libraries, or (as JS
// libraries send it) from the query, if it is a GUID.
func correlationID(r *http.Request) string {
	for _, id := range []string{r.Header.Get("client-request-id"), r.Header.Get("x-ms-client-request-id"), r.URL.Query().Get("client-request-id")} {
		if parsed, err := uuid.Parse(id); err == nil && len(id) == 36 {
			return parsed.String()
		}
	}
	return uuid.NewString()
}

func missing(parameter string) error {
	return refuse(codeParameterMissing, "The request must contain the following parameter: '%s'.", parameter)
}

func wrongVerb(w http.ResponseWriter, r *http.Request, allowed string) error {
	w.Header().Set("Allow", allowed)
	return refuse(codeVerb, "The endpoint only accepts %s requests. Received a %.20s request.", allowed, r.Method)
}
