package tabard

import (
	"cmp"
	"context"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"tabard/guard"
	"tabard/internal/eventhandler"
	"tabard/internal/keyvault"
	"tabard/internal/keyvault/reference"
	"tabard/internal/settings"
)

// openVaults opens the embedded key vaults. It comes after the trust that verifies their callers' tokens.
func (s *Server) openVaults(ctx context.Context) (err error) {
	s.vaults, err = keyvault.Open(ctx, s.store, keyvault.Options{
		Verify:    func(ctx context.Context, token string) (*guard.Claims, error) { return s.vaultTrust.verify(ctx, token) },
		Admin:     func(r *http.Request) bool { return s.admin.authorize(r) == nil },
		Stands:    s.stands,
		Authorize: func(tenant, oid, scope, action string) bool { return s.may(tenant, oid, scope, action, true) },
		Authority: s.origins.authority, TenantID: s.directory.TenantID(), SubscriptionID: s.service.SubscriptionID,
		Origin: s.origins.vaultOrigin, Log: s.log,
	})
	if err != nil {
		return fmt.Errorf("open the vaults: %w", err)
	}
	return nil
}

// newReferences makes what reads the secrets that handlers' URLs refer to, from the vaults that are open.
func (s *Server) newReferences() *reference.Resolver {
	var domains []reference.Domain
	for _, text := range s.cfg.VaultDomain {
		suffix, resource, ok := strings.Cut(text, "=")
		if !ok {
			resource = "https://" + suffix
		}
		domains = append(domains, reference.Domain{Suffix: suffix, Resource: resource})
	}
	return reference.NewResolver(reference.Options{
		Vaults: s.vaults, Locate: s.origins.vaultAt, Settings: s.settings.Snapshot,
		Identity: s.token, NoIdentity: eventhandler.ErrNoIdentity,
		Domains: domains, OtherTenants: s.cfg.VaultOtherTenants, Transport: s.egress.Transport(), Log: s.log,
		Observe: s.metrics.VaultRead,
	})
}

// references are told to the control plane, as what becomes JSON.
type references struct{ *reference.Resolver }

func (r references) Statuses(in *settings.Instance) []any {
	return anys(r.Resolver.Statuses(in))
}

func (r references) Explain(ctx context.Context, in *settings.Instance, uri string) []any {
	return anys(r.Resolver.Explain(ctx, in, uri))
}

func anys[T any](list []T) []any {
	out := make([]any, len(list))
	for i, v := range list {
		out[i] = v
	}
	return out
}

// vaultHandler serves the secrets API of the vaults that have no address of their own.
func (s *Server) vaultHandler() http.Handler {
	return s.vaults.Handler(s.vaultOf)
}

func (s *Server) vaultOf(r *http.Request) (name string, ok bool) { return s.origins.vaultOf(r.Host) }

// ownVaultHandler serves one vault at an address of its own.
func (s *Server) ownVaultHandler(name string) http.Handler {
	this := func(*http.Request) (string, bool) { return name, true }
	return s.audited(s.vaults.Handler(this), this)
}

// vaultBases are the hosts under which the default vault is reached, with their ports, the preferred first. Another
// vault's name and a dot stand before those that are names.
func (o *origins) vaultBases() []string { return o.adminBases(o.vaultURLs) }

// adminBases are the hosts, with their ports, of what the admin address serves: those of the configured origins, then
// the address itself and, if it is on loopback, its other names.
func (o *origins) adminBases(configured []*url.URL) []string {
	var bases []string
	for _, u := range configured {
		bases = append(bases, u.Host)
	}
	admin := o.bound.Load().admin
	bases = append(bases, admin)
	if host, port, err := net.SplitHostPort(admin); err == nil && isLoopback(host) {
		for _, name := range []string{"localhost", "127.0.0.1", "::1"} {
			bases = append(bases, net.JoinHostPort(name, port))
		}
	}
	for i, base := range bases {
		bases[i] = strings.TrimSuffix(strings.ToLower(base), ":443")
	}
	return bases
}

func isLoopback(host string) bool {
	ip := net.ParseIP(host)
	return ip != nil && ip.IsLoopback()
}

// hostOf is a host without its port.
func hostOf(host string) string {
	if h, _, err := net.SplitHostPort(host); err == nil {
		host = h
	}
	return strings.Trim(strings.ToLower(host), "[]")
}

func isName(host string) bool { return net.ParseIP(hostOf(host)) == nil }

// vaultOrigin is the origin of which ids of a vault's secrets are made.
func (o *origins) vaultOrigin(name string) string {
	name = strings.ToLower(name)
	if own, ok := o.bound.Load().vaults[name]; ok {
		return "https://" + own
	}
	bases := o.vaultBases()
	if name == keyvault.DefaultVault {
		return "https://" + bases[0]
	}
	if i := slices.IndexFunc(bases, isName); i >= 0 {
		return "https://" + name + "." + bases[i]
	}
	return "https://" + name + "." + bases[0] // an admin address beyond this machine that has no name: see --vault-url
}

// vaultAt finds the embedded vault that has exactly this host, in lower case and without the port if that is 443.
func (o *origins) vaultAt(host string) (name string, ok bool) {
	for name, own := range o.bound.Load().vaults {
		if host == strings.TrimSuffix(own, ":443") {
			return name, true
		}
	}
	for _, base := range o.vaultBases() {
		if host == base {
			return keyvault.DefaultVault, true
		}
		if label, ok := strings.CutSuffix(host, "."+base); ok && isName(base) && !strings.Contains(label, ".") {
			return label, true
		}
	}
	return "", false
}

// vaultOf finds the vault that a request to the admin address is for. A port in front of ours may be another, so it
// does not count: {name}.<host> selects a vault, and the bare host, or an address, is the default one.
func (o *origins) vaultOf(host string) (name string, ok bool) {
	host = hostOf(host)
	if !isName(host) {
		return keyvault.DefaultVault, true
	}
	for _, base := range append(o.vaultBases(), "localhost") {
		base = hostOf(base)
		if host == base {
			return keyvault.DefaultVault, true
		}
		if label, ok := strings.CutSuffix(host, "."+base); ok && isName(base) && !strings.Contains(label, ".") {
			return label, true
		}
	}
	return "", false
}

// vaultResources are the identifier URIs that vaults' challenges name, besides Azure's.
func (o *origins) vaultResources() []string {
	var list []string
	for _, base := range o.vaultBases() {
		if isName(base) && !slices.Contains(list, "https://"+base) {
			list = append(list, "https://"+base)
		}
	}
	return list
}

// vaultFaults reports what is wrong with the settings of vaults.
func (c Config) vaultFaults(fault func(format string, args ...any)) {
	for name, addr := range c.VaultListen {
		if !keyvault.ValidVaultName(name) {
			fault("vault-listen %s: is not the name of a vault", name)
		}
		if _, _, err := net.SplitHostPort(addr); err != nil {
			fault("vault-listen %s: %q is not HOST:PORT", name, addr)
		}
	}
	for _, text := range c.VaultURL {
		if !isOrigin(text, "https") {
			fault("vault-url: %q is not an origin like https://kv.example.com", text)
		}
	}
	for _, text := range c.VaultDomain {
		suffix, resource, ok := strings.Cut(text, "=")
		if !ok {
			resource = "https://" + suffix
		}
		u, err := url.Parse("https://" + suffix)
		r, rerr := url.Parse(resource)
		if err != nil || u.Host != suffix || suffix == "" || !strings.Contains(cmp.Or(u.Hostname(), "x"), ".") || !isName(suffix) || rerr != nil || r.Scheme != "https" || r.Host == "" || strings.HasSuffix(resource, "/") {
			fault("vault-domain: %q is not DOMAIN or DOMAIN=RESOURCE, like vault.example.com=https://vault.example.com", text)
		}
	}
}
