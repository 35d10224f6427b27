package egress

import (
	"net"
	"net/netip"
)

// A Rule names why an address is refused.
type Rule string

// The rules. Those marked always hold under every policy.
const (
	Metadata    Rule = "a cloud metadata or platform address" // always
	LinkLocal   Rule = "a link-local address"                 // always
	Unspecified Rule = "an unspecified address"               // always
	Multicast   Rule = "a multicast or broadcast address"     // always
	Reserved    Rule = "a reserved address"                   // always
	OwnPort     Rule = "a port of this service itself"        // always
	Loopback    Rule = "a loopback address"
	Private     Rule = "a private network"
	Denied      Rule = "a network that the operator denies"
	NotLoopback Rule = "not a loopback address, as this request needs"
)

// A BlockedError says that the policy refuses an address. Nothing was sent to it.
type BlockedError struct {
	Addr netip.AddrPort
	Rule Rule
}

func (e *BlockedError) Error() string {
	return "destination " + e.Addr.String() + " is refused: " + string(e.Rule)
}

// prefixes that are one of the rules. The first that contains an address decides.
var special = []struct {
	prefix netip.Prefix
	rule   Rule
}{
	// Single addresses within ranges that are otherwise admitted.
	{netip.MustParsePrefix("168.63.129.16/32"), Metadata},   // Azure's platform channel
	{netip.MustParsePrefix("100.100.100.200/32"), Metadata}, // Alibaba Cloud
	{netip.MustParsePrefix("192.0.0.192/32"), Metadata},     // Oracle Cloud
	{netip.MustParsePrefix("fd00:ec2::/32"), Metadata},      // AWS: instance metadata, task and pod identity, DNS
	{netip.MustParsePrefix("fd20:ce::/32"), Metadata},       // Google Cloud

	{netip.MustParsePrefix("169.254.169.254/32"), Metadata}, // within link-local; named for the message
	{netip.MustParsePrefix("169.254.0.0/16"), LinkLocal},
	{netip.MustParsePrefix("fe80::/10"), LinkLocal},
	{netip.MustParsePrefix("0.0.0.0/8"), Unspecified}, // many systems send 0.x to loopback
	{netip.MustParsePrefix("::/128"), Unspecified},
	{netip.MustParsePrefix("224.0.0.0/4"), Multicast},
	{netip.MustParsePrefix("255.255.255.255/32"), Multicast},
	{netip.MustParsePrefix("ff00::/8"), Multicast},
	{netip.MustParsePrefix("240.0.0.0/4"), Reserved},
	{netip.MustParsePrefix("192.0.0.0/24"), Reserved},    // IETF protocol assignments, NAT64 discovery
	{netip.MustParsePrefix("64:ff9b:1::/48"), Reserved},  // NAT64 of unknown shape: an IPv4 address hides anywhere
	{netip.MustParsePrefix("2001::/32"), Reserved},       // Teredo: an obfuscated IPv4 address inside
	{netip.MustParsePrefix("::1/128"), Loopback},         // before the IPv4-compatible range around it
	{netip.MustParsePrefix("127.0.0.0/8"), Loopback},     //
	{netip.MustParsePrefix("::/96"), Reserved},           // IPv4-compatible, obsolete
	{netip.MustParsePrefix("::ffff:0:0:0/96"), Reserved}, // IPv4-translated
	{netip.MustParsePrefix("10.0.0.0/8"), Private},
	{netip.MustParsePrefix("172.16.0.0/12"), Private},
	{netip.MustParsePrefix("192.168.0.0/16"), Private},
	{netip.MustParsePrefix("100.64.0.0/10"), Private}, // carrier-grade NAT
	{netip.MustParsePrefix("198.18.0.0/15"), Private}, // benchmarking
	{netip.MustParsePrefix("fc00::/7"), Private},
	{netip.MustParsePrefix("fec0::/10"), Private}, // site-local, obsolete
}

var (
	nat64     = netip.MustParsePrefix("64:ff9b::/96") // well-known: the last four bytes are an IPv4 address
	sixToFour = netip.MustParsePrefix("2002::/16")    // bytes 2 to 5 are an IPv4 address
)

// check returns a *BlockedError if the policy refuses the address.
func (p *Policy) check(a netip.AddrPort) error {
	addr := plain(a.Addr())
	target := netip.AddrPortFrom(addr, a.Port())
	if rule, ok := p.refused(addr); ok {
		return &BlockedError{target, rule}
	}
	if p.Refuse != nil && p.Refuse(target) {
		return &BlockedError{target, OwnPort}
	}
	// An IPv6 address that a translator turns into an IPv4 one is judged by that as well.
	if inner, ok := embedded(addr); ok {
		if err := p.check(netip.AddrPortFrom(inner, a.Port())); err != nil {
			return err
		}
	}
	return nil
}

func (p *Policy) refused(addr netip.Addr) (Rule, bool) {
	if contains(p.Deny, addr) {
		return Denied, true
	}
	for _, s := range special {
		if !s.prefix.Contains(addr) {
			continue
		}
		switch s.rule {
		case Loopback:
			return s.rule, !p.AllowLoopback && !contains(p.Allow, addr)
		case Private:
			return s.rule, p.DenyPrivate && !contains(p.Allow, addr)
		default:
			return s.rule, true
		}
	}
	return "", false
}

// plain removes the ways to write one address differently: the IPv4-mapped form and a zone.
func plain(a netip.Addr) netip.Addr { return a.Unmap().WithZone("") }

func embedded(a netip.Addr) (netip.Addr, bool) {
	b := a.As16()
	switch {
	case nat64.Contains(a):
		return netip.AddrFrom4([4]byte(b[12:16])), true
	case sixToFour.Contains(a):
		return netip.AddrFrom4([4]byte(b[2:6])), true
	}
	return netip.Addr{}, false
}

func contains(list []netip.Prefix, a netip.Addr) bool {
	for _, p := range list {
		if p.Contains(a) {
			return true
		}
	}
	return false
}

// OwnPorts makes a [Policy.Refuse] for listeners of this process: a port bound to one address is refused there, a
// port bound to the unspecified address is refused on every address of this machine. listeners is called at each
// dial, so it may answer late or change. Addresses by which others reach this machine (a load balancer's, say)
// cannot be known here; deny them by Policy.Deny.
func OwnPorts(listeners func() []netip.AddrPort) func(netip.AddrPort) bool {
	return func(target netip.AddrPort) bool {
		for _, l := range listeners() {
			if l.Port() != target.Port() {
				continue
			}
			if own := plain(l.Addr()); own == target.Addr() || own.IsUnspecified() && local(target.Addr()) {
				return true
			}
		}
		return false
	}
}

// local tells whether a is an address of this machine. When the system does not say, every address is.
func local(a netip.Addr) bool {
	if a.IsLoopback() {
		return true
	}
	addrs, err := net.InterfaceAddrs()
	if err != nil {
		return true
	}
	for _, i := range addrs {
		if n, ok := i.(*net.IPNet); ok {
			if ip, ok := netip.AddrFromSlice(n.IP); ok && plain(ip) == a {
				return true
			}
		}
	}
	return false
}
