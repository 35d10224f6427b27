package tabard

import (
	"bytes"
	"context"
	"crypto/hkdf"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"tabard/guard"
	"tabard/guard/reason"
	"tabard/internal/access"
	"tabard/internal/settings"
)

// The resources that directory principals ask tokens for: Azure's own names, so that SDKs need no other.
const (
	dataPlaneResource = "https://webpubsub.azure.com"
	armResource       = "https://management.azure.com"
	oldARMResource    = "https://management.core.windows.net"
)

// A trust verifies access tokens for one surface: those of the embedded issuer, and those of the other issuers that
// the configuration names.
type trust struct {
	s         *Server
	audiences []string
	own       func() []string // further audiences of the embedded issuer's tokens, known once begin is called; may be nil

	// embedded asks our own token service within the process. It is made anew when a signing key is revoked, so that
	// nothing that the key signed is remembered.
	embedded atomic.Pointer[guard.Verifier]
	foreign  *guard.Verifier // nil: no other issuer is trusted
}

// newTrust makes the trust of a surface. Until begin is called it knows no embedded issuer, whose name needs a port.
func (s *Server) newTrust(resources ...string) (*trust, error) {
	t := &trust{s: s}
	for _, uri := range resources {
		t.audiences = append(t.audiences, uri, uri+"/") // v1 tokens have the resource as it was asked for
		known, err := s.directory.ResolveResource(uri)
		if err != nil {
			return nil, err
		}
		if known.AppID != "" {
			t.audiences = append(t.audiences, known.AppID)
		}
	}
	if len(s.cfg.TrustIssuer) == 0 {
		return t, nil
	}
	var err error
	// People sign in elsewhere only: the embedded directory has none.
	t.foreign, err = guard.NewVerifier(guard.Trust{Issuers: s.cfg.TrustIssuer, Audiences: t.audiences, Transport: s.egress.Transport(), Users: true})
	return t, err
}

// begin makes the verifier of the embedded issuer, in place of the one before.
func (t *trust) begin() error {
	audiences := slices.Clone(t.audiences)
	if t.own != nil {
		audiences = append(audiences, t.own()...)
	}
	v, err := guard.NewVerifier(guard.Trust{
		Issuers:   guard.Authority(t.s.origins.authority(), t.s.directory.TenantID()),
		Audiences: audiences,
		Transport: inProcess{t.s.tokens.Handler()},
		// Looking costs microseconds here, so a new key may be asked for at once.
		UnknownKeyInterval: time.Second,
	})
	if err != nil {
		return err
	}
	if old := t.embedded.Swap(v); old != nil {
		old.Close()
	}
	return nil
}

// beginTrust makes every surface trust the embedded issuer, once its name is known, and again when a key is revoked.
func (s *Server) beginTrust() error {
	return errors.Join(s.data.begin(), s.control.begin(), s.vaultTrust.begin())
}

func (t *trust) close() {
	if v := t.embedded.Load(); v != nil {
		v.Close()
	}
	if t.foreign != nil {
		t.foreign.Close()
	}
}

// verify returns the claims of a good token. Its errors are *guard.Error.
func (t *trust) verify(ctx context.Context, token string) (*guard.Claims, error) {
	embedded := t.embedded.Load()
	if embedded == nil {
		return nil, &guard.Error{Code: reason.DiscoveryFailed, Status: http.StatusServiceUnavailable, Message: "the service is starting"}
	}
	claims, err := embedded.Verify(ctx, token)
	var refused *guard.Error
	if err != nil && t.foreign != nil && errors.As(err, &refused) && refused.Code == reason.UnknownKey { // a key of others
		return t.foreign.Verify(ctx, token)
	}
	return claims, err
}

// may tells whether a principal may do an action at a scope. The principals of the embedded directory must still be
// there and be enabled, and nobody else's issuer can speak for them: an object id means something within its tenant
// only.
func (s *Server) may(tenantID, objectID, scope, action string, data bool) bool {
	return s.stands(tenantID, objectID) && s.rbac.Allowed(objectID, scope, action, data)
}

// stands tells whether the principal is one to whom roles can be assigned.
func (s *Server) stands(tenantID, objectID string) bool {
	p, ours := s.directory.ServicePrincipal(objectID)
	if home := strings.EqualFold(tenantID, s.directory.TenantID()); home != ours {
		return false
	}
	return !ours || p.AccountEnabled
}

// mayOnDataPlane is may for the data plane.
func (s *Server) mayOnDataPlane(p access.Principal, scope, action string) bool {
	return s.may(p.TenantID, p.ObjectID, scope, action, true)
}

// serviceKey is the service's own key for an instance's client tokens. It is derived, not stored: every instance has
// one from its first moment, on every node, without a write that could fail or be forgotten; and an instance that is
// created anew under an old name has another one, since its time of creation differs.
func (s *Server) serviceKey(in *settings.Instance) string {
	return s.serviceKeys.of(in, s.deriveServiceKey)
}

// A keyCache remembers derived keys: each connect asks for one, and deriving takes longer than all else about a token.
type keyCache struct {
	mu   sync.Mutex // guards keys
	keys map[keyed]string
}

type keyed struct {
	instance string
	created  time.Time
}

// maxServiceKeys bounds the cache; there are far fewer instances at a time.
const maxServiceKeys = 1024

func (c *keyCache) of(in *settings.Instance, derive func(*settings.Instance) string) string {
	id := keyed{in.Name, in.Created}
	c.mu.Lock()
	defer c.mu.Unlock()
	key, ok := c.keys[id]
	if !ok {
		if len(c.keys) >= maxServiceKeys || c.keys == nil {
			c.keys = make(map[keyed]string)
		}
		key = derive(in)
		c.keys[id] = key
	}
	return key
}

func (s *Server) deriveServiceKey(in *settings.Instance) string {
	about := "client tokens of " + strings.ToLower(in.Name) + " of " + in.Created.UTC().Format(time.RFC3339Nano)
	key, err := hkdf.Key(sha256.New, s.service.ClientTokenKey, nil, about, sha256.Size)
	if err != nil { // only for a length that no hash has
		return ""
	}
	return base64.StdEncoding.EncodeToString(key)
}

// inProcess answers requests by calling a handler, without a connection. It holds the whole answer.
type inProcess struct{ handler http.Handler }

// RoundTrip implements http.RoundTripper.
func (p inProcess) RoundTrip(r *http.Request) (*http.Response, error) {
	if err := r.Context().Err(); err != nil {
		return nil, err
	}
	in := r.Clone(r.Context())
	if in.Body == nil {
		in.Body = http.NoBody // as a server's requests have it
	}
	out := &answer{header: http.Header{}}
	p.handler.ServeHTTP(out, in)
	out.WriteHeader(http.StatusOK) // unless it said something else
	return &http.Response{
		Status: http.StatusText(out.status), StatusCode: out.status, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		Header: out.header, Body: io.NopCloser(&out.body), ContentLength: int64(out.body.Len()), Request: r,
	}, nil
}

// An answer is what a handler wrote.
type answer struct {
	header http.Header
	status int
	body   bytes.Buffer
}

func (a *answer) Header() http.Header { return a.header }

// WriteHeader implements http.ResponseWriter: the first status counts.
func (a *answer) WriteHeader(status int) {
	if a.status == 0 {
		a.status = status
	}
}

func (a *answer) Write(p []byte) (int, error) {
	a.WriteHeader(http.StatusOK)
	return a.body.Write(p)
}
