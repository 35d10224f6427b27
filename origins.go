package tabard

import (
	"cmp"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync/atomic"

	"tabard/internal/settings"
)

// origins knows under which names each instance is reached. The ports are known only once the listeners are
// bound, so it is filled then, before anything is served.
type origins struct {
	public    []*url.URL // configured, the first preferred; none: the bound address speaks for itself
	vaultURLs []*url.URL // the same of the key vaults
	armURLs   []*url.URL // the same of the control plane
	tlsOnly   bool
	bound     atomic.Pointer[bound]
}

// bound is what the listeners turned out to be, as host:port that a client on this machine can dial.
type bound struct {
	public, admin string
	instances     map[string]string // by lower-cased name, for those with an address of their own
	vaults        map[string]string // the same
}

func newOrigins(cfg Config) *origins {
	o := &origins{tlsOnly: cfg.TLSOnly, public: originURLs(cfg.PublicURL), vaultURLs: originURLs(cfg.VaultURL), armURLs: originURLs(cfg.ARMURL)}
	o.bound.Store(&bound{public: "127.0.0.1:0", admin: "127.0.0.1:0"})
	return o
}

// isOrigin tells whether text is a scheme, of those, and a host, and nothing more.
func isOrigin(text string, schemes ...string) bool {
	u, err := url.Parse(text)
	return err == nil && u.Host != "" && slices.Contains(schemes, u.Scheme) && strings.Trim(u.Path, "/") == "" && u.RawQuery == "" && u.Fragment == "" && u.User == nil
}

// originURLs are configured origins, which were validated before, as clients spell them.
func originURLs(texts []string) []*url.URL {
	var list []*url.URL
	for _, text := range texts {
		if u, err := url.Parse(text); err == nil {
			list = append(list, &url.URL{Scheme: u.Scheme, Host: plainHost(u)})
		}
	}
	return list
}

// plainHost is the host of an origin as clients spell it: in lower case, without the scheme's usual port.
func plainHost(u *url.URL) string {
	host := strings.ToLower(u.Host)
	usual := map[string]string{"https": ":443", "http": ":80"}[u.Scheme]
	return strings.TrimSuffix(host, usual)
}

// dialable turns a bound address into one that can be dialled: an unspecified host becomes loopback.
func dialable(a net.Addr) string {
	host, port, err := net.SplitHostPort(a.String())
	if err != nil {
		return a.String()
	}
	if ip := net.ParseIP(host); ip != nil && ip.IsUnspecified() {
		host = "127.0.0.1"
	}
	return net.JoinHostPort(host, port)
}

// authority is the token service's origin. It is always https: libraries refuse any other.
func (o *origins) authority() string {
	for _, u := range o.public {
		if u.Scheme == "https" {
			return u.String()
		}
	}
	return "https://" + o.bound.Load().public
}

// base lists the origins of the default instance, the preferred first, without scheme variants.
func (o *origins) base(in *settings.Instance) []*url.URL {
	b := o.bound.Load()
	scheme := "http"
	if o.tlsOnly {
		scheme = "https"
	}
	if addr, ok := b.instances[strings.ToLower(in.Name)]; ok {
		return []*url.URL{{Scheme: scheme, Host: addr}}
	}
	list := o.public
	if len(list) == 0 {
		list = []*url.URL{{Scheme: scheme, Host: b.public}}
	}
	if strings.EqualFold(in.Name, settings.DefaultInstance) {
		return list
	}
	named := make([]*url.URL, len(list))
	for i, u := range list {
		host := u.Host
		if hostname := u.Hostname(); net.ParseIP(hostname) != nil { // a name cannot stand before an address
			host = "localhost"
			if u.Port() != "" {
				host = net.JoinHostPort("localhost", u.Port())
			}
		}
		named[i] = &url.URL{Scheme: u.Scheme, Host: strings.ToLower(in.Name) + "." + host}
	}
	return named
}

// endpoint is the origin that connection strings of the instance name.
func (o *origins) endpoint(in *settings.Instance) string { return o.base(in)[0].String() }

// httpsEndpoint is the same over TLS.
func (o *origins) httpsEndpoint(in *settings.Instance) string {
	for _, u := range o.base(in) {
		if u.Scheme == "https" {
			return u.String()
		}
	}
	if len(o.public) > 0 && o.ownAddress(in) == "" {
		return "https://" + o.bound.Load().public
	}
	return "https://" + o.base(in)[0].Host
}

func (o *origins) ownAddress(in *settings.Instance) string {
	return o.bound.Load().instances[strings.ToLower(in.Name)]
}

// endpoints lists every origin that an audience of the instance may name.
func (o *origins) endpoints(in *settings.Instance) []string {
	var list []string
	for _, u := range o.base(in) {
		list = append(list, u.String())
	}
	return append(list, o.httpsEndpoint(in))
}

// hostName is the instance's bare host, for WebHook-Request-Origin; aliases are what handlers that compare with
// the port may answer instead.
func (o *origins) hostName(in *settings.Instance) (host string, aliases []string) {
	u := o.base(in)[0]
	if u.Host != u.Hostname() {
		aliases = []string{u.Host}
	}
	return u.Hostname(), aliases
}

// reached is the origin under which a caller reached us: that of a public URL whose host it used, since a proxy that
// ends TLS may stand before it, else that of the connection. Of two with one host the connection's scheme counts.
func (o *origins) reached(r *http.Request) string {
	scheme := "http"
	if r.TLS != nil {
		scheme = "https"
	}
	host, found := strings.ToLower(r.Host), ""
	for _, u := range o.public {
		label, named := strings.CutSuffix(host, "."+u.Host)
		if host != u.Host && (!named || strings.Contains(label, ".")) {
			continue
		}
		if found == "" || u.Scheme == scheme {
			found = u.Scheme
		}
	}
	return cmp.Or(found, scheme) + "://" + r.Host
}

// named tells which instance a host, with or without a port, names: a host of the service itself is the default one,
// {name}.<host> another. ok is false for hosts that are not the service's.
func (o *origins) named(host string) (name string, ok bool) {
	host = strings.TrimSuffix(hostOf(host), ".")
	if host == "localhost" || net.ParseIP(host) != nil {
		return settings.DefaultInstance, true
	}
	label, parent, _ := strings.Cut(host, ".")
	if parent == "localhost" {
		return label, true
	}
	for _, u := range o.public {
		switch u.Hostname() {
		case host:
			return settings.DefaultInstance, true
		case parent:
			name, ok = label, true
		}
	}
	return name, ok
}

// names are the hosts that a certificate must cover.
func (o *origins) names() []string {
	var hosts []string
	for _, u := range slices.Concat(o.public, o.vaultURLs, o.armURLs) {
		hosts = append(hosts, u.Hostname())
		if net.ParseIP(u.Hostname()) == nil {
			hosts = append(hosts, "*."+u.Hostname())
		}
	}
	return hosts
}
