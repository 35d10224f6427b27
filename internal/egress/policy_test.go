package egress

import (
	"errors"
	"net/netip"
	"testing"
)

func TestPolicyJudgesAddresses(t *testing.T) {
	prefix := netip.MustParsePrefix
	production := Policy{}
	development := Policy{AllowLoopback: true}
	strict := Policy{DenyPrivate: true, Allow: []netip.Prefix{prefix("10.1.0.0/16"), prefix("127.0.0.1/32")}, Deny: []netip.Prefix{prefix("10.1.9.0/24"), prefix("203.0.113.0/24")}}
	// A policy as careless as the type allows: the fixed rules must survive it.
	careless := Policy{AllowLoopback: true, Allow: []netip.Prefix{prefix("0.0.0.0/0"), prefix("::/0")}}

	for _, c := range []struct {
		name   string
		policy Policy
		addr   string
		want   Rule // "" = admitted
	}{
		{"a public IPv4 address is admitted", production, "93.184.216.34", ""},
		{"a public IPv6 address is admitted", production, "2606:2800:220:1::1", ""},
		{"loopback is refused in production", production, "127.0.0.1", Loopback},
		{"all of 127/8 is loopback", production, "127.8.9.10", Loopback},
		{"IPv6 loopback is refused in production", production, "::1", Loopback},
		{"loopback is admitted in development", development, "127.0.0.1", ""},
		{"IPv6 loopback is admitted in development", development, "::1", ""},
		{"an IPv4-mapped loopback address is loopback", production, "::ffff:127.0.0.1", Loopback},
		{"private networks are admitted by default", production, "192.168.1.5", ""},
		{"unique local IPv6 is admitted by default", production, "fd12:3456::1", ""},
		{"carrier-grade NAT is private", strict, "100.64.0.1", Private},
		{"10/8 is private", strict, "10.2.0.1", Private},
		{"172.16/12 is private", strict, "172.31.255.255", Private},
		{"172.32 is not", strict, "172.32.0.1", ""},
		{"unique local IPv6 is private", strict, "fc00::1", Private},
		{"an IPv4-mapped private address is private", strict, "::ffff:10.2.0.1", Private},
		{"the allow list admits a private network", strict, "10.1.2.3", ""},
		{"the allow list admits one loopback address", strict, "127.0.0.1", ""},
		{"but not its neighbour", strict, "127.0.0.2", Loopback},
		{"the deny list beats the allow list", strict, "10.1.9.1", Denied},
		{"the deny list refuses a public network", strict, "203.0.113.7", Denied},

		{"the metadata address is refused", careless, "169.254.169.254", Metadata},
		{"also IPv4-mapped", careless, "::ffff:169.254.169.254", Metadata},
		{"also behind NAT64", careless, "64:ff9b::a9fe:a9fe", Metadata},
		{"also by 6to4", careless, "2002:a9fe:a9fe::1", Metadata},
		{"also IPv4-compatible", careless, "::169.254.169.254", Reserved},
		{"also IPv4-translated", careless, "::ffff:0:169.254.169.254", Reserved},
		{"also behind a NAT64 of its own prefix", careless, "64:ff9b:1::a9fe:a9fe", Reserved},
		{"Azure's platform channel is refused", careless, "168.63.129.16", Metadata},
		{"Alibaba's metadata address is refused", careless, "100.100.100.200", Metadata},
		{"Oracle's metadata address is refused", careless, "192.0.0.192", Metadata},
		{"AWS's IPv6 metadata address is refused", careless, "fd00:ec2::254", Metadata},
		{"AWS's pod identity address is refused", careless, "fd00:ec2::23", Metadata},
		{"Google's IPv6 metadata address is refused", careless, "fd20:ce::254", Metadata},
		{"the ECS task address is link-local", careless, "169.254.170.2", LinkLocal},
		{"IPv6 link-local is refused", careless, "fe80::1", LinkLocal},
		{"a zone does not hide it", careless, "fe80::1%eth0", LinkLocal},
		{"0.0.0.0 is refused", careless, "0.0.0.0", Unspecified},
		{"all of 0/8 is refused", careless, "0.1.2.3", Unspecified},
		{":: is refused", careless, "::", Unspecified},
		{"multicast is refused", careless, "224.0.0.1", Multicast},
		{"IPv6 multicast is refused", careless, "ff02::1", Multicast},
		{"broadcast is refused", careless, "255.255.255.255", Multicast},
		{"class E is refused", careless, "240.0.0.1", Reserved},
		{"Teredo is refused", careless, "2001:0:1234::1", Reserved},
		{"NAT64 of a public address is admitted", production, "64:ff9b::5db8:d822", ""},
		{"NAT64 of loopback is refused in production", production, "64:ff9b::7f00:1", Loopback},
		{"6to4 of a denied network is refused", strict, "2002:cb00:7107::1", Denied},
	} {
		t.Run(c.name, func(t *testing.T) {
			err := c.policy.check(netip.AddrPortFrom(netip.MustParseAddr(c.addr), 443))
			blocked, _ := errors.AsType[*BlockedError](err)
			switch {
			case c.want == "" && err != nil:
				t.Errorf("%s is refused: %v", c.addr, err)
			case c.want != "" && (blocked == nil || blocked.Rule != c.want):
				t.Errorf("%s: got %v, want rule %q", c.addr, err, c.want)
			}
		})
	}
}

func TestOwnPortsAreRefusedWhereverTheyAnswer(t *testing.T) {
	own := OwnPorts(func() []netip.AddrPort {
		return []netip.AddrPort{netip.MustParseAddrPort("127.0.0.1:8081"), netip.MustParseAddrPort("[::]:9090")}
	})
	policy := Policy{AllowLoopback: true, Refuse: own}
	for addr, refused := range map[string]bool{
		"127.0.0.1:8081":          true,
		"[::ffff:127.0.0.1]:8081": true,
		"[64:ff9b::7f00:1]:8081":  true,
		"127.0.0.1:8080":          false,
		"93.184.216.34:8081":      false,
		"127.0.0.1:9090":          true, // bound to every address
		"127.7.7.7:9090":          true,
		"[::1]:9090":              true,
		"93.184.216.34:9090":      false,
	} {
		err := policy.check(netip.MustParseAddrPort(addr))
		if blocked, ok := errors.AsType[*BlockedError](err); refused != (ok && blocked.Rule == OwnPort) {
			t.Errorf("%s: got %v, want refused = %v", addr, err, refused)
		}
	}
}
