package tabard

import (
	"context"
	"net/http"
	"strings"

	"tabard/internal/apply"
	"tabard/internal/arm"
	"tabard/internal/clientws"
	"tabard/internal/dataplane"
	"tabard/internal/hub"
	"tabard/internal/keyvault"
	"tabard/internal/settings"
)

// publicHandler serves clients, the REST data plane and the token service for whatever instance a request is for.
// WebSocket upgrades and the REST data plane take the short way past net/http.
func (s *Server) publicHandler(instance func(*http.Request) *settings.Instance) (http.Handler, *clientws.Server) {
	clients := clientws.New(clientws.Options{
		Instance: instance,
		Settings: s.settings.Snapshot,
		Hubs:     s.hubs,
		Access:   s.access,
		Events:   s.events,
		Trace:    s.trace,
		Log:      s.log,
		Counters: &s.clients,

		ReconnectionKey: s.service.ReconnectionKey,
	})
	rest := s.telemetry.Serve("REST", dataplane.New(dataplane.Options{
		Instance: instance, Hubs: s.hubs, Access: s.access, Trace: s.trace, Origin: s.origins.reached, Log: s.log,
	}))
	issuer := s.tokens.Handler()
	// No http.ServeMux here: it would redirect names with "//" or "." in them, which are legal in this API.
	route := func(w http.ResponseWriter, r *http.Request) {
		switch path := r.URL.EscapedPath(); {
		case isDataPlanePath(path):
			rest.ServeHTTP(w, r)
		case isClientPath(path):
			clients.ServeHTTP(w, r)
		default:
			issuer.ServeHTTP(w, r)
		}
	}
	if s.acme != nil {
		return s.acme.Handler(http.HandlerFunc(route)), clients
	}
	return http.HandlerFunc(route), clients
}

// isDataPlanePath tells whether the escaped path belongs to the REST data plane.
func isDataPlanePath(path string) bool { return path == "/api" || strings.HasPrefix(path, "/api/") }

// isClientPath tells whether WebSocket clients connect to the escaped path.
func isClientPath(path string) bool {
	const root = "/client"
	return len(path) >= len(root) && strings.EqualFold(path[:len(root)], root) && (len(path) == len(root) || path[len(root)] == '/')
}

// adminHandler serves the operators. Nothing on it but health is open without the admin token. Streams end when
// stopping is closed.
func (s *Server) adminHandler(stopping <-chan struct{}) http.Handler {
	control := arm.New(arm.Options{
		Settings:       s.settings,
		Directory:      s.directory,
		Vaults:         s.vaults,
		VaultOrigin:    s.origins.vaultOrigin,
		VaultSuffix:    s.origins.vaultSuffix,
		References:     references{s.secrets},
		Certificates:   s.domains,
		Roles:          s.rbac,
		Trace:          s.trace,
		Events:         s.events,
		Endpoint:       s.origins.endpoint,
		HostName:       func(in *settings.Instance) string { host, _ := s.origins.hostName(in); return host },
		SubscriptionID: s.service.SubscriptionID,
		Authority:      s.origins.authority,
		Authorize:      s.authorize,
		Caller:         s.caller,
		Restart: func(_ context.Context, in *settings.Instance) error {
			s.hubs.CloseInstance(in.Name, hub.CloseGoingAway, hub.ReasonReload)
			return nil
		},
		Live:         live{s.hubs},
		CheckHandler: s.checkHandler,

		Audit: s.audit,
		Done:  stopping,
		Log:   s.log,
	})
	vaults, page := s.vaultHandler(), s.portalHandler()
	ok := func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusOK) }
	// No http.ServeMux here either: SDKs send paths with "//" in front, which it would redirect.
	return s.slowGuessing(s.audited(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.Method + " " + r.URL.EscapedPath() {
		case "GET /healthz", "HEAD /healthz":
			ok(w, r)
		case "GET /readyz", "HEAD /readyz":
			select {
			case <-s.ready:
				ok(w, r)
			default:
				writeError(w, http.StatusServiceUnavailable, "NotReady", "the service is starting")
			}
		case "GET /metrics", "HEAD /metrics":
			s.serveMetrics(w, r)
		case "POST /tabard/v1/adminToken/rotate":
			s.asAdmin(w, r, s.rotateAdminToken)
		case "POST /tabard/v1/masterKey/rotate":
			s.asAdmin(w, r, s.rotateMasterKey)
		case "POST /tabard/v1/backup":
			s.asAdmin(w, r, s.serveBackup)
		default:
			if keyvault.InPath(r.URL.EscapedPath()) {
				vaults.ServeHTTP(w, r)
				return
			}
			if strings.HasPrefix(r.URL.EscapedPath(), apply.InventoryPath) {
				s.asAdmin(w, r, s.serveApplySets)
				return
			}
			if inPortal(r) {
				page.ServeHTTP(w, r)
				return
			}
			if s.serveIdentityAdmin(w, r) || s.servePortalRoutes(w, r) {
				return
			}
			control.ServeHTTP(w, r)
		}
	}), s.vaultOf))
}

// asAdmin serves what only the admin token may do.
func (s *Server) asAdmin(w http.ResponseWriter, r *http.Request, serve http.HandlerFunc) {
	if err := s.admin.authorize(r); err != nil {
		unauthorized(w, err)
		return
	}
	serve(w, r)
}
