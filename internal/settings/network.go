package settings

import (
	"encoding/json"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
)

// A RequestType is a kind of request that network rules tell apart (ARM enum).
type RequestType string

// The request types. Nothing here serves ServerConnection (SignalR's) or Trace (Azure's live trace tool).
const (
	ClientConnection RequestType = "ClientConnection"
	ServerConnection RequestType = "ServerConnection"
	RESTAPI          RequestType = "RESTAPI"
	Trace            RequestType = "Trace"
)

// Actions of network rules.
const (
	Allow = "Allow"
	Deny  = "Deny"
)

// MaxIPRules bounds the address rules of an instance (ARM).
const MaxIPRules = 30

// NetworkACLs are the rules by which requests to an instance's public endpoint are let through or refused, in the
// shape of ARM. A rule that denies wins over every rule that allows; what no rule names has the default action.
type NetworkACLs struct {
	DefaultAction string      `json:"defaultAction,omitempty"` // Allow (also if empty) or Deny
	PublicNetwork *NetworkACL `json:"publicNetwork,omitempty"`
	// PrivateEndpoints are stored and returned; there are none, every request is a public one.
	PrivateEndpoints json.RawMessage `json:"privateEndpoints,omitempty"`
	// IPRules in order: the first that holds the caller's address decides.
	IPRules []IPRule `json:"ipRules,omitzero"`
}

// A NetworkACL allows and denies types of requests.
type NetworkACL struct {
	Allow []RequestType `json:"allow,omitzero"`
	Deny  []RequestType `json:"deny,omitzero"`
}

// An IPRule allows or denies the requests from a network.
type IPRule struct {
	Value  string `json:"value"` // an address, or a network as CIDR
	Action string `json:"action"`

	network netip.Prefix
}

// Admits tells whether the instance's network rules let a request of that type from that address, which may have a
// port, through. An address that is not one matches no rule.
func (in *Instance) Admits(kind RequestType, remoteAddr string) bool {
	if in.PublicNetworkDisabled {
		return false
	}
	if in.NetworkACLs == nil {
		return true
	}
	host, _, err := net.SplitHostPort(remoteAddr)
	if err != nil {
		host = remoteAddr
	}
	from, _ := netip.ParseAddr(host)
	return in.NetworkACLs.admit(kind, from.Unmap().WithZone(""))
}

func (acl *NetworkACLs) admit(kind RequestType, from netip.Addr) bool {
	allowed := acl.DefaultAction != Deny
	if rule := acl.PublicNetwork; rule != nil {
		if slices.Contains(rule.Deny, kind) {
			return false
		}
		allowed = allowed || slices.Contains(rule.Allow, kind)
	}
	for _, rule := range acl.IPRules {
		if rule.network.Contains(from) {
			return rule.Action == Allow
		}
	}
	return allowed
}

// compile checks the rules and prepares them for Admits.
func (acl *NetworkACLs) compile(f *Faults) {
	const at = "properties.networkACLs"
	action := func(at string, v *string) {
		for _, known := range []string{Allow, Deny} {
			if strings.EqualFold(*v, known) {
				*v = known
				return
			}
		}
		f.add(at, "%q is neither %s nor %s", *v, Allow, Deny)
	}
	if acl.DefaultAction != "" {
		action(at+".defaultAction", &acl.DefaultAction)
	}
	if rule := acl.PublicNetwork; rule != nil {
		requestTypes(f, at+".publicNetwork.allow", rule.Allow)
		requestTypes(f, at+".publicNetwork.deny", rule.Deny)
	}
	if len(acl.IPRules) > MaxIPRules {
		f.add(at+".ipRules", "are more than %d", MaxIPRules)
	}
	for i := range acl.IPRules {
		rule := &acl.IPRules[i]
		at := fmt.Sprintf("%s.ipRules[%d]", at, i)
		action(at+".action", &rule.Action)
		if rule.network = Network(rule.Value); !rule.network.IsValid() {
			f.add(at+".value", "%q is neither an address nor a network like 10.0.0.0/8; names of services are not known here", rule.Value)
		}
	}
}

// Network is the network that an address or a CIDR stands for, or none.
func Network(text string) netip.Prefix {
	if a, err := netip.ParseAddr(text); err == nil && a.Zone() == "" {
		a = a.Unmap()
		return netip.PrefixFrom(a, a.BitLen())
	}
	p, err := netip.ParsePrefix(text)
	if err != nil {
		return netip.Prefix{}
	}
	if a := p.Addr(); a.Is4In6() && p.Bits() >= 96 {
		p = netip.PrefixFrom(a.Unmap(), p.Bits()-96)
	}
	return p.Masked()
}

func requestTypes(f *Faults, at string, list []RequestType) {
	known := []RequestType{ClientConnection, ServerConnection, RESTAPI, Trace}
	for i, given := range list {
		j := slices.IndexFunc(known, func(k RequestType) bool { return strings.EqualFold(string(k), string(given)) })
		if j < 0 {
			f.add(fmt.Sprintf("%s[%d]", at, i), "%q is none of ClientConnection, ServerConnection, RESTAPI, Trace", given)
			continue
		}
		list[i] = known[j]
	}
}

func (acl *NetworkACLs) clone() *NetworkACLs {
	if acl == nil {
		return nil
	}
	c := *acl
	c.IPRules = slices.Clone(acl.IPRules)
	c.PrivateEndpoints = slices.Clone(acl.PrivateEndpoints)
	if rule := acl.PublicNetwork; rule != nil {
		c.PublicNetwork = &NetworkACL{slices.Clone(rule.Allow), slices.Clone(rule.Deny)}
	}
	return &c
}
