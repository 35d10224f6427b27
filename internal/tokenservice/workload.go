package tokenservice

import (
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"

	"tabard/internal/directory"
	"tabard/internal/identity"
	"tabard/internal/throttle"
)

// Paths at which programs ask for a token of a managed identity, with or without a slash behind.
const (
	imdsPath       = "/metadata/identity/oauth2/token" // virtual machines
	appServicePath = "/msi/token"                      // App Service, Functions, Container Apps
)

// What one identity may ask for at once, and per second. The first is Azure's own limit (identity.md 6.2).
const (
	imdsRate       = 20
	appServiceRate = 100
)

// IsWorkloadPath tells whether WorkloadHandler serves the path.
func IsWorkloadPath(path string) bool {
	path = strings.ToLower(strings.TrimSuffix(path, "/"))
	return path == imdsPath || path == appServicePath
}

// WorkloadHandler gives programs tokens of user-assigned identities in the two protocols that Azure's libraries speak
// (identity.md 6.2, 6.3). What an instance uses itself, a system-assigned identity, is never handed out.
//
// IMDS knows its caller by where it is: it answers loopback only, and only for the identities of Options.IMDS. The App
// Service protocol knows it by a secret that belongs to one identity, see EnvFor.
func (s *Service) WorkloadHandler() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("X-Content-Type-Options", "nosniff")
		noStore(w.Header())
		switch strings.ToLower(strings.TrimSuffix(r.URL.Path, "/")) {
		case imdsPath:
			s.serveIMDS(w, r)
		case appServicePath:
			s.serveAppService(w, r)
		default:
			http.NotFound(w, r)
		}
	})
}

// A workloadRequest is the query of either protocol.
type workloadRequest struct {
	version, resource string
	selector, id      string // which identity: by which property, and its value; empty: none named
}

// selectors are all names that either protocol has for a property of an identity.
var selectors = map[string]func(directory.UserAssignedIdentity) string{
	"client_id":    func(u directory.UserAssignedIdentity) string { return u.ClientID },
	"object_id":    func(u directory.UserAssignedIdentity) string { return u.PrincipalID },
	"principal_id": func(u directory.UserAssignedIdentity) string { return u.PrincipalID },
	"msi_res_id":   func(u directory.UserAssignedIdentity) string { return u.ID },
	"mi_res_id":    func(u directory.UserAssignedIdentity) string { return u.ID },
}

var apiVersion = regexp.MustCompile(`^\d{4}-\d{2}-\d{2}(-preview)?$`)

// readWorkload reads a query, or says what is wrong with it. oldest is the first version of the protocol.
func readWorkload(r *http.Request, oldest string) (q workloadRequest, problem string) {
	query, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		return q, "the query is not well-formed"
	}
	for name, values := range query {
		if len(values) > 1 {
			return q, fmt.Sprintf("the query variable '%.50s' is there %d times", name, len(values))
		}
		if _, ok := selectors[name]; !ok || values[0] == "" {
			continue
		}
		if q.selector != "" {
			return q, "only one of 'client_id', 'object_id', 'principal_id', 'msi_res_id' and 'mi_res_id' may be given"
		}
		q.selector, q.id = name, values[0]
	}
	q.version, q.resource = query.Get("api-version"), query.Get("resource")
	switch {
	case q.version == "":
		return q, "the required query variable 'api-version' is missing"
	case !apiVersion.MatchString(q.version) || q.version < oldest:
		return q, fmt.Sprintf("the api-version '%.30s' is not supported; use %s or newer", q.version, oldest)
	case q.resource == "":
		return q, "the required query variable 'resource' is missing"
	}
	return q, ""
}

// names tells whether the request is for u, or for nobody in particular.
func (q workloadRequest) names(u directory.UserAssignedIdentity) bool {
	return q.selector == "" || strings.EqualFold(selectors[q.selector](u), q.id)
}

// workloadToken issues a token of a user-assigned identity to a program on this host.
func (s *Service) workloadToken(u directory.UserAssignedIdentity, resource string) (*identity.Token, *refusal) {
	p := identity.Principal{TenantID: u.TenantID, PrincipalID: u.PrincipalID, ClientID: u.ClientID, ResourceID: u.ID, HostResourceID: s.hostID(u)}
	sub, refused := s.managedIdentity(p)
	if refused != nil {
		return nil, refused
	}
	return s.issue(sub, resource, s.opt.Lifetime)
}

// hostID is the claim xms_az_rid: where the identity is used. Azure knows machines that are not its own as resources of
// this type. It is not the id of an instance, so that a receiver can tell the service from a program beside it.
func (s *Service) hostID(u directory.UserAssignedIdentity) string {
	return "/subscriptions/" + u.SubscriptionID + "/resourceGroups/" + u.ResourceGroup + "/providers/Microsoft.HybridCompute/machines/" + s.opt.HostName
}

// writeWorkloadToken answers with the one body that suits every client library (identity.md 6.3): all numbers are
// strings but refresh_in, and the resource is as it was asked for, since some cache under it.
func (s *Service) writeWorkloadToken(w http.ResponseWriter, u directory.UserAssignedIdentity, resource string, tok *identity.Token) {
	now := s.now()
	text := func(n int64) string { return strconv.FormatInt(n, 10) }
	expiresIn := text(int64(tok.ExpiresOn.Sub(now) / time.Second))
	body := map[string]any{
		"access_token": tok.Raw, "client_id": u.ClientID, "resource": resource, "token_type": "Bearer",
		"expires_in": expiresIn, "ext_expires_in": expiresIn,
		"expires_on": text(tok.ExpiresOn.Unix()), "not_before": text(tok.NotBefore.Unix()),
	}
	if !tok.RefreshOn.IsZero() {
		body["refresh_in"] = int64(tok.RefreshOn.Sub(now) / time.Second)
	}
	writeWorkload(w, http.StatusOK, body)
}

func writeWorkload(w http.ResponseWriter, status int, body any) {
	w.Header().Set("Content-Type", "application/json; charset=utf-8")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(body) // the client is gone, or it is not
}

// serveIMDS answers as the instance metadata service of a virtual machine does.
func (s *Service) serveIMDS(w http.ResponseWriter, r *http.Request) {
	refuse := func(status int, code, text string) {
		writeWorkload(w, status, map[string]string{"error": code, "error_description": text})
	}
	switch {
	case !fromLoopback(r):
		refuse(http.StatusForbidden, "access_denied", "This endpoint answers programs on the same host only.")
		return
	case !ownName(r.Host):
		refuse(http.StatusForbidden, "access_denied", "This endpoint is reached by an address or as localhost.")
		return
	case len(r.Header.Values("Metadata")) != 1 || r.Header.Get("Metadata") != "true":
		refuse(http.StatusBadRequest, "bad_request_102", "Required metadata header not specified")
		return
	case r.Header.Get("X-Forwarded-For") != "" || r.Header.Get("Forwarded") != "": // an open proxy would speak for this host
		refuse(http.StatusBadRequest, "invalid_request", "Requests that were forwarded (X-Forwarded-For) are not served")
		return
	case r.Method != http.MethodGet:
		w.Header().Set("Allow", http.MethodGet)
		refuse(http.StatusMethodNotAllowed, "invalid_request", "Use GET")
		return
	}
	allowed := s.imdsIdentities()
	if len(allowed) == 0 {
		refuse(http.StatusBadRequest, "invalid_request", "Identity not found. This endpoint is off, or lists no identity that exists.")
		return
	}
	q, problem := readWorkload(r, "2018-02-01")
	if problem != "" {
		refuse(http.StatusBadRequest, "invalid_request", strings.ToUpper(problem[:1])+problem[1:])
		return
	}
	named := slices.DeleteFunc(allowed, func(u directory.UserAssignedIdentity) bool { return !q.names(u) })
	switch {
	case len(named) == 0:
		refuse(http.StatusBadRequest, "invalid_request", "Identity not found")
		return
	case len(named) > 1:
		refuse(http.StatusBadRequest, "invalid_request", "Multiple user assigned identities exist, please specify the clientId / resourceId of the identity in the token request")
		return
	}
	if wait := s.imdsLimit.Allow(named[0].PrincipalID, s.now()); wait > 0 {
		w.Header().Set("Retry-After", "1")
		refuse(http.StatusTooManyRequests, "too_many_requests", "There are more than 20 requests per second. Remember the token.")
		return
	}
	tok, refused := s.workloadToken(named[0], q.resource)
	if refused != nil {
		s.writeError(w, r, refused) // IMDS hands on what the directory's token service says
		return
	}
	s.writeWorkloadToken(w, named[0], q.resource, tok)
}

// imdsIdentities are the identities of Options.IMDS that exist, each once.
func (s *Service) imdsIdentities() []directory.UserAssignedIdentity {
	if len(s.opt.IMDS) == 0 {
		return nil
	}
	return slices.DeleteFunc(s.directory.UserAssignedIdentities(), func(u directory.UserAssignedIdentity) bool {
		return !slices.ContainsFunc(s.opt.IMDS, func(name string) bool {
			return strings.EqualFold(name, u.ID) || strings.EqualFold(name, u.Name) || strings.EqualFold(name, u.ClientID)
		})
	})
}

// serveAppService answers as the platform of App Service does.
func (s *Service) serveAppService(w http.ResponseWriter, r *http.Request) {
	correlation := correlationID(r)
	refuse := func(status int, text string) {
		writeWorkload(w, status, map[string]any{"statusCode": status, "message": text, "correlationId": correlation})
	}
	secrets := r.Header.Values("X-IDENTITY-HEADER")
	var u directory.UserAssignedIdentity
	ok := false
	if len(secrets) == 1 {
		u, ok = s.headers.owner(secrets[0], s.directory)
	}
	if !ok {
		// Guessing is hopeless; what is limited is the noise. A right header is never held up by the wrong ones.
		who, now := "identity header "+throttle.Peer(r), s.now()
		if wait := s.failures.Allow(who, now); wait > 0 {
			w.Header().Set("Retry-After", strconv.Itoa(int(wait/time.Second)+1))
			refuse(http.StatusTooManyRequests, "There were too many requests with a wrong X-IDENTITY-HEADER.")
			return
		}
		refuse(http.StatusUnauthorized, "The X-IDENTITY-HEADER is missing or wrong: it may have been rotated, or its identity deleted. 'tabard identity env' prints the current one.")
		return
	}
	if r.Method != http.MethodGet {
		w.Header().Set("Allow", http.MethodGet)
		refuse(http.StatusMethodNotAllowed, "Use GET.")
		return
	}
	q, problem := readWorkload(r, "2019-08-01")
	switch {
	case problem != "":
		refuse(http.StatusBadRequest, "Bad request: "+problem+".")
		return
	case !q.names(u): // the header speaks for one identity, and ids are no secrets
		refuse(http.StatusBadRequest, fmt.Sprintf("Identity not found: the X-IDENTITY-HEADER belongs to another identity than the %s '%.300s'.", q.selector, q.id))
		return
	}
	if wait := s.appServiceLimit.Allow(u.PrincipalID, s.now()); wait > 0 {
		w.Header().Set("Retry-After", "1")
		refuse(http.StatusTooManyRequests, "There are more than 100 requests per second. Remember the token.")
		return
	}
	tok, refused := s.workloadToken(u, q.resource)
	if refused != nil {
		how := aadsts[refused.code]
		text := refused.Error()
		if how.status >= http.StatusInternalServerError {
			s.log.Error("request failed", "path", r.URL.Path, "err", refused)
			text = refused.code.String() + ": " + how.means
		}
		w.Header().Set("x-ms-request-id", uuid.NewString())
		refuse(how.status, text)
		return
	}
	s.writeWorkloadToken(w, u, q.resource, tok)
}

// ownName tells whether a Host header names this machine as only its own programs do. A web page whose name was made to
// resolve here (DNS rebinding) may send any header, but its name stays in Host.
func ownName(host string) bool {
	if name, _, err := net.SplitHostPort(host); err == nil {
		host = name
	}
	host = strings.ToLower(strings.Trim(host, "[]"))
	return net.ParseIP(host) != nil || host == "localhost" || strings.HasSuffix(host, ".localhost")
}

// fromLoopback tells whether a request came from this machine.
func fromLoopback(r *http.Request) bool {
	addr, err := netip.ParseAddrPort(r.RemoteAddr)
	return err == nil && addr.Addr().Unmap().WithZone("").IsLoopback()
}
