package tabard

import (
	"net"
	"slices"
	"strings"
)

// armResources are the identifier URIs of this control plane: the origins under which it is reached. Clients that are
// pointed at one ask for a token for just that.
func (o *origins) armResources() []string {
	var list []string
	for _, u := range o.armURLs {
		list = append(list, u.String())
	}
	admin := o.bound.Load().admin
	bases := []string{admin}
	if host, port, err := net.SplitHostPort(admin); err == nil && isLoopback(host) {
		for _, name := range []string{"localhost", "127.0.0.1", "::1"} {
			bases = append(bases, net.JoinHostPort(name, port))
		}
	}
	for _, base := range bases {
		if uri := "https://" + strings.TrimSuffix(strings.ToLower(base), ":443"); !slices.Contains(list, uri) {
			list = append(list, uri)
		}
	}
	return list
}

// armAudiences are the same as tokens may spell them.
func (o *origins) armAudiences() []string {
	var list []string
	for _, uri := range o.armResources() {
		list = append(list, uri, uri+"/")
	}
	return list
}

// vaultSuffix is what follows a vault's name in its host.
func (o *origins) vaultSuffix() string {
	bases := o.vaultBases()
	if i := slices.IndexFunc(bases, isName); i >= 0 {
		return bases[i]
	}
	return bases[0]
}

// armFaults reports what is wrong with the settings of the control plane.
func (c Config) armFaults(fault func(format string, args ...any)) {
	for _, text := range c.ARMURL {
		if !isOrigin(text, "https") {
			fault("arm-url: %q is not an origin like https://arm.example.com", text)
		}
	}
}
