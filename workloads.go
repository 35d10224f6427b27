package tabard

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"strings"
	"time"

	"tabard/internal/arm"
	"tabard/internal/directory"
	"tabard/internal/tokenservice"
)

// workloadOrigin is where programs on this host ask for tokens: the admin address, over plain http where that is
// answered, because not every library can be told a certificate for it.
func (s *Server) workloadOrigin() string {
	scheme := "http://"
	if s.cfg.TLSOnly {
		scheme = "https://"
	}
	return scheme + s.origins.bound.Load().admin
}

// fetch is the transport for the keys of other issuers: that of the egress, which is made after the token service.
type fetch struct{ s *Server }

func (f fetch) RoundTrip(r *http.Request) (*http.Response, error) {
	return f.s.egress.Transport().RoundTrip(r)
}

// signingKeysPath lists the signing keys (GET), rotates them (POST …/rotate) or revokes one (POST …/{kid}/revoke).
const signingKeysPath = "/tabard/v1/signingKeys"

// environmentSuffix of a user-assigned identity's ARM id is where its environment is asked for, see EnvFor.
const environmentSuffix = "/tabardEnvironment"

const (
	maxSmallBody  = 64 << 10
	smallDeadline = 15 * time.Second
)

// serveIdentityAdmin serves the admin routes of the token service, if the request is for one.
func (s *Server) serveIdentityAdmin(w http.ResponseWriter, r *http.Request) bool {
	path := r.URL.Path
	switch {
	case tokenservice.IsWorkloadPath(path): // open to whom its own protocol lets in
		s.tokens.WorkloadHandler().ServeHTTP(w, r)
	case path == signingKeysPath || strings.HasPrefix(path, signingKeysPath+"/"):
		if err := s.admin.authorize(r); err != nil { // whoever changes keys can put the service out of use
			unauthorized(w, err)
			return true
		}
		s.serveSigningKeys(w, r, strings.Split(strings.TrimPrefix(path, signingKeysPath), "/")[1:])
	case r.Method == http.MethodPost && len(path) > len(environmentSuffix) && strings.EqualFold(path[len(path)-len(environmentSuffix):], environmentSuffix):
		if err := s.authorize(r); err != nil {
			unauthorized(w, err)
			return true
		}
		s.serveEnvironment(w, r, "/"+strings.TrimLeft(path[:len(path)-len(environmentSuffix)], "/"))
	default:
		return false
	}
	return true
}

// unauthorized answers whom authorize did not let in, in the codes of the control plane.
func unauthorized(w http.ResponseWriter, err error) {
	if refused, ok := errors.AsType[*arm.Refusal](err); ok {
		code := "ServiceUnavailable"
		if refused.Status == http.StatusForbidden {
			code = "AuthorizationFailed"
		}
		writeError(w, refused.Status, code, refused.Message)
		return
	}
	w.Header().Set("WWW-Authenticate", `Bearer realm="tabard admin"`)
	writeError(w, http.StatusUnauthorized, "AuthenticationFailed", err.Error())
}

// serveEnvironment answers with the variables that give a program on this host tokens of the identity. The body may
// be {"rotate":true} for a new secret, or {"federatedTokenFile":"…"} for the variables of workload identity.
func (s *Server) serveEnvironment(w http.ResponseWriter, r *http.Request, resourceID string) {
	var want struct {
		Rotate             bool   `json:"rotate"`
		FederatedTokenFile string `json:"federatedTokenFile"`
	}
	d := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxSmallBody))
	d.DisallowUnknownFields()
	if err := d.Decode(&want); err != nil && !errors.Is(err, io.EOF) {
		writeError(w, http.StatusBadRequest, "InvalidRequestContent", `the body is not an object with "rotate" and "federatedTokenFile" alone`)
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(r.Context()), smallDeadline)
	defer cancel()
	env, err := s.tokens.EnvFor(ctx, resourceID, tokenservice.EnvOptions{Rotate: want.Rotate, FederatedTokenFile: want.FederatedTokenFile})
	switch {
	case errors.Is(err, directory.ErrNotFound):
		writeError(w, http.StatusNotFound, "ResourceNotFound", err.Error())
		return
	case err != nil:
		s.internalError(w, r, err)
		return
	}
	if s.caFile != "" && want.FederatedTokenFile == "" && s.cfg.TLSOnly || s.caFile != "" && want.FederatedTokenFile != "" {
		env["SSL_CERT_FILE"], env["NODE_EXTRA_CA_CERTS"], env["REQUESTS_CA_BUNDLE"] = s.caFile, s.caFile, s.caFile
	}
	w.Header().Set("Cache-Control", "no-store")
	writeJSON(w, http.StatusOK, map[string]any{"environment": env})
}

// serveSigningKeys answers with the keys as they are after the request.
func (s *Server) serveSigningKeys(w http.ResponseWriter, r *http.Request, rest []string) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(r.Context()), smallDeadline)
	defer cancel()
	var err error
	switch {
	case len(rest) == 0 && r.Method == http.MethodGet:
	case len(rest) == 1 && rest[0] == "rotate" && r.Method == http.MethodPost:
		err = s.tokens.RotateKeys(ctx)
	case len(rest) == 2 && rest[1] == "revoke" && r.Method == http.MethodPost:
		err = s.tokens.RevokeKey(ctx, rest[0])
	default:
		writeError(w, http.StatusNotFound, "NotFound", "there is GET "+signingKeysPath+", POST …/rotate and POST …/{kid}/revoke")
		return
	}
	switch {
	case errors.Is(err, tokenservice.ErrKeyNotFound):
		writeError(w, http.StatusNotFound, "KeyNotFound", err.Error())
	case errors.Is(err, tokenservice.ErrTooManyKeys):
		writeError(w, http.StatusConflict, "TooManyKeys", err.Error())
	case err != nil:
		s.internalError(w, r, err)
	default:
		writeJSON(w, http.StatusOK, map[string]any{"keys": s.tokens.Keys()})
	}
}

func (s *Server) internalError(w http.ResponseWriter, r *http.Request, err error) {
	s.log.Error("request failed", "path", r.URL.Path, "error", err)
	writeError(w, http.StatusInternalServerError, "InternalServerError", "the request failed; see the log")
}
