package tabard

import (
	"cmp"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"tabard/guard/reason"
	"tabard/internal/access"
	"tabard/internal/arm"
	"tabard/internal/dataplane"
	"tabard/internal/directory"
	"tabard/internal/eventhandler"
	"tabard/internal/hub"
	"tabard/internal/keyvault"
	"tabard/internal/portal"
	"tabard/internal/settings"
)

// A browser lets the portal's page talk to the address that it came from. So what lies elsewhere, the data plane of an
// instance and the secrets of a vault, is reached beneath the admin address too, by whoever may have their keys.
const (
	dataPlanePath = "/tabard/v1/instances/" // {name}/api/…
	vaultPath     = "/tabard/v1/vaults/"    // {name}/secrets…
	accessPath    = "/tabard/v1/access"
)

// portalHandler serves the page.
func (s *Server) portalHandler() http.Handler {
	opt := portal.Options{Sockets: s.origins.sockets}
	if s.cfg.PortalOIDCIssuer != "" {
		opt.OIDC = &portal.OIDC{
			Issuer: s.cfg.PortalOIDCIssuer, ClientID: s.cfg.PortalOIDCClientID, Scope: s.cfg.PortalOIDCScope, Resource: s.cfg.PortalOIDCResource,
		}
	}
	if sample := s.cfg.Sample; sample != nil {
		opt.Sample = &portal.Sample{URL: sample.URL, Audience: sample.Audience}
	}
	return portal.New(opt)
}

// inPortal tells whether a request is for the page: by its path, or because a browser asks for the root.
func inPortal(r *http.Request) bool {
	path := r.URL.EscapedPath()
	return path == strings.TrimSuffix(portal.Path, "/") || strings.HasPrefix(path, portal.Path) ||
		path == "/" && strings.Contains(r.Header.Get("Accept"), "text/html")
}

// sockets are the origins of every instance's client endpoint, for WebSockets, as sources of a content security policy.
func (o *origins) sockets() []string {
	b := o.bound.Load()
	hosts := []string{b.public}
	for _, u := range o.public {
		hosts = append(hosts, u.Host)
	}
	for _, own := range b.instances {
		hosts = append(hosts, own)
	}
	var list []string
	for _, host := range hosts {
		list = append(list, "ws://"+host, "wss://"+host)
		name, port, err := net.SplitHostPort(host)
		if err != nil {
			name, port = host, ""
		}
		if net.ParseIP(name) != nil { // a name cannot stand before an address; see base
			name = "localhost"
		}
		if port != "" {
			name = net.JoinHostPort(name, port)
		}
		list = append(list, "ws://*."+name, "wss://*."+name)
	}
	slices.Sort(list)
	return slices.Compact(list)
}

// servePortalRoutes serves what the portal needs beside ARM, if the request is for it.
func (s *Server) servePortalRoutes(w http.ResponseWriter, r *http.Request) bool {
	switch path := r.URL.EscapedPath(); {
	case path == accessPath:
		s.serveAccess(w, r)
	case strings.HasPrefix(path, dataPlanePath):
		s.serveDataPlane(w, r)
	case strings.HasPrefix(path, vaultPath):
		s.serveVault(w, r)
	default:
		return false
	}
	return true
}

// beneath cuts {name}/rest off an escaped path and returns the request as it is for rest.
func beneath(r *http.Request, prefix string) (name string, inner *http.Request, ok bool) {
	name, rest, _ := strings.Cut(strings.TrimPrefix(r.URL.EscapedPath(), prefix), "/")
	name, err := url.PathUnescape(name)
	if err != nil || name == "" {
		return "", nil, false
	}
	plain, err := url.PathUnescape("/" + rest)
	if err != nil {
		return "", nil, false
	}
	inner = r.Clone(r.Context())
	inner.URL.Path, inner.URL.RawPath = plain, "/"+rest
	return name, inner, true
}

// serveDataPlane serves the REST API of an instance to whoever may list its keys, and so could sign every request to it.
func (s *Server) serveDataPlane(w http.ResponseWriter, r *http.Request) {
	name, inner, ok := beneath(r, dataPlanePath)
	in := s.instance(name)
	if !ok || in == nil {
		writeError(w, http.StatusNotFound, "ResourceNotFound", fmt.Sprintf("There is no instance '%s'.", name))
		return
	}
	dataplane.New(dataplane.Options{
		Instance: func(*http.Request) *settings.Instance { return in },
		Authorize: func(in *settings.Instance, _ *http.Request, _ string) (access.Principal, error) {
			return access.Principal{}, s.mayListKeys(r, in)
		},
		Origin: func(*http.Request) string { return s.origins.endpoint(in) },
		Hubs:   s.hubs, Access: s.access, Trace: s.trace, Log: s.log,
	}).ServeHTTP(w, inner)
}

func (s *Server) mayListKeys(r *http.Request, in *settings.Instance) error {
	err := s.authorize(askingFor(r, http.MethodPost, in.ResourceID()+"/listKeys"))
	var refused *arm.Refusal
	switch {
	case errors.As(err, &refused):
		return &access.Refusal{Status: refused.Status, Code: reason.RoleUnassigned, Message: refused.Message}
	case err != nil:
		return &access.Refusal{Status: http.StatusUnauthorized, Code: reason.NoToken, Message: err.Error()}
	}
	return nil
}

// askingFor is a request with r's credential for something else.
func askingFor(r *http.Request, method, path string) *http.Request {
	inner := r.Clone(r.Context())
	inner.Method, inner.URL = method, &url.URL{Path: path}
	return inner
}

// serveVault serves the secrets of one vault, whatever name the admin address was reached by. Vaults answer over TLS
// only; what comes from this machine itself crosses no network.
func (s *Server) serveVault(w http.ResponseWriter, r *http.Request) {
	name, inner, ok := beneath(r, vaultPath)
	if !ok || !keyvault.InPath(inner.URL.EscapedPath()) {
		writeError(w, http.StatusNotFound, "ResourceNotFound", "There is nothing at this path of a vault.")
		return
	}
	if host, _, err := net.SplitHostPort(r.RemoteAddr); err == nil && isLoopback(host) && inner.TLS == nil {
		inner.TLS = &tls.ConnectionState{}
	}
	s.vaults.Handler(func(*http.Request) (string, bool) { return name, true }).ServeHTTP(w, inner)
}

// maxAsked bounds the questions in one request.
const maxAsked = 64

// serveAccess answers which of a number of requests the caller may make and, for the others, the very words of their
// refusal, so that a page can show what cannot be done before it is tried.
func (s *Server) serveAccess(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodPost {
		w.Header().Set("Allow", http.MethodPost)
		writeError(w, http.StatusMethodNotAllowed, "MethodNotAllowed", "Questions are asked with POST.")
		return
	}
	var questions []struct{ Method, Path string }
	err := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxSmallBody)).Decode(&questions)
	if err != nil || len(questions) > maxAsked {
		writeError(w, http.StatusBadRequest, "InvalidRequestContent", fmt.Sprintf("The body is not a list of at most %d objects with method and path.", maxAsked))
		return
	}
	type verdict struct {
		Allowed bool   `json:"allowed"`
		Message string `json:"message,omitempty"`
	}
	verdicts := make([]verdict, len(questions))
	for i, q := range questions {
		err := s.judge(askingFor(r, strings.ToUpper(q.Method), q.Path))
		var refused *arm.Refusal
		if err != nil && !errors.As(err, &refused) {
			unauthorized(w, err) // nobody knows who asks
			return
		}
		verdicts[i].Allowed = err == nil
		if err != nil {
			verdicts[i].Message = err.Error()
		}
	}
	w.Header().Set("Cache-Control", "no-store")
	writeJSON(w, http.StatusOK, map[string]any{"value": verdicts})
}

// live tells the control plane who is connected.
type live struct{ hubs *hub.Registry }

func (l live) Hubs(in *settings.Instance) []arm.LiveHub {
	var list []arm.LiveHub
	for _, h := range l.hubs.Hubs(in.Name) {
		users, groups := h.Users(), h.Groups()
		list = append(list, arm.LiveHub{
			Name: h.Name(), Connections: h.Len(), Users: crowds(users), Groups: crowds(groups), UserCount: len(users), GroupCount: len(groups),
		})
	}
	return list
}

func crowds(from []hub.Crowd) []arm.Crowd {
	list := []arm.Crowd{}
	for _, c := range from[:min(len(from), arm.MaxCrowds)] {
		list = append(list, arm.Crowd(c))
	}
	return list
}

func (l live) Connections(in *settings.Instance, name, group, user, after string, limit int) ([]arm.LiveConnection, bool) {
	found, more := l.hubs.Lookup(in.Name, name).Connections(group, user, after, limit)
	var list []arm.LiveConnection
	for _, c := range found {
		groups := c.Groups()
		list = append(list, arm.LiveConnection{ID: c.ID(), User: c.UserID(), Subprotocol: c.Subprotocol(), Groups: append([]string{}, groups[:min(len(groups), arm.MaxCrowds)]...)})
	}
	return list, more
}

// checkHandler asks an event handler whether it wants events.
func (s *Server) checkHandler(ctx context.Context, in *settings.Instance, hub string, h *settings.EventHandler) arm.HandlerCheck {
	check := arm.HandlerCheck{Code: reason.Delivered}
	var failed *eventhandler.DeliveryError
	if err := s.events.Validate(ctx, in, hub, h); errors.As(err, &failed) {
		check.Code, check.Status = failed.Code, failed.Status
		if failed.Err != nil {
			check.Detail = failed.Err.Error()
		}
	}
	if h.UsesManagedIdentity() {
		if token, err := s.token(ctx, in, cmp.Or(h.Resource(), directory.Graph)); err == nil {
			check.Claims = token.Claims
		}
	}
	return check
}

// portalFaults reports what is wrong with the portal's settings.
func (c Config) portalFaults(fault func(format string, args ...any)) {
	if c.PortalOIDCIssuer == "" && c.PortalOIDCClientID == "" {
		return
	}
	if c.PortalOIDCIssuer == "" || c.PortalOIDCClientID == "" {
		fault("portal-oidc-issuer, portal-oidc-client-id: give both or neither")
		return
	}
	issuer, err := url.Parse(c.PortalOIDCIssuer)
	if err != nil || issuer.Scheme != "https" || issuer.Host == "" {
		fault("portal-oidc-issuer: %q is not the address of an issuer like https://login.microsoftonline.com/TENANT/v2.0", c.PortalOIDCIssuer)
		return
	}
	// Not the very address: Entra ID signs in by version 2 and gives tokens of version 1 for the control plane.
	sameHost := func(trusted string) bool {
		u, err := url.Parse(trusted)
		return err == nil && u.Host == issuer.Host
	}
	if !slices.ContainsFunc(c.TrustIssuer, sameHost) {
		fault("portal-oidc-issuer: no trust-issuer is of the host %q: whoever signed in there would be refused", issuer.Host)
	}
}
