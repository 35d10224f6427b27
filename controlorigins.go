package tabard

import "slices"

// armResources are the identifier URIs of this control plane: the origins under which it is reached. Clients that are
// pointed at one ask for a token for just that.
func (o *origins) armResources() []string {
	var list []string
	for _, base := range o.adminBases(o.armURLs) {
		if uri := "https://" + base; !slices.Contains(list, uri) {
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
