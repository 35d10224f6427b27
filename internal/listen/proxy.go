package listen

import (
	"crypto/tls"
	"net/http"
	"net/netip"
	"slices"
	"strings"
)

// forwarded makes a request from a trusted proxy look as the proxy's client sent it: RemoteAddr is the client's
// address, with port 0, and TLS is there, though empty, if the proxy says that the client used https. Headers of
// anybody else say nothing.
func (s *Server) forwarded(r *http.Request) {
	if len(s.opt.TrustedProxies) == 0 {
		return
	}
	peer, err := netip.ParseAddrPort(r.RemoteAddr)
	if err != nil || !s.trusts(peer.Addr()) {
		return
	}
	if client, ok := s.client(r.Header["X-Forwarded-For"]); ok {
		r.RemoteAddr = netip.AddrPortFrom(client, 0).String()
	}
	switch proto := last(r.Header["X-Forwarded-Proto"]); {
	case strings.EqualFold(proto, "https") && r.TLS == nil:
		r.TLS = &tls.ConnectionState{HandshakeComplete: true}
	case strings.EqualFold(proto, "http"): // whatever lies between the proxy and us
		r.TLS = nil
	}
}

// client is the last address in the list that is not a trusted proxy's: each proxy appends whom it heard, so all
// before that may be invented.
func (s *Server) client(values []string) (client netip.Addr, ok bool) {
	hops := strings.Split(strings.Join(values, ","), ",")
	for _, hop := range slices.Backward(hops) {
		addr, err := hopAddr(strings.TrimSpace(hop))
		if err != nil {
			break
		}
		client, ok = addr, true
		if !s.trusts(addr) {
			break
		}
	}
	return client, ok
}

// hopAddr reads an entry of X-Forwarded-For, to which some proxies add a port.
func hopAddr(text string) (netip.Addr, error) {
	if a, err := netip.ParseAddrPort(text); err == nil {
		return a.Addr().Unmap(), nil
	}
	a, err := netip.ParseAddr(strings.Trim(text, "[]"))
	return a.Unmap(), err
}

func (s *Server) trusts(addr netip.Addr) bool {
	addr = addr.Unmap().WithZone("")
	return slices.ContainsFunc(s.opt.TrustedProxies, func(p netip.Prefix) bool { return p.Contains(addr) })
}

// last is the last entry of a list header.
func last(values []string) string {
	if len(values) == 0 {
		return ""
	}
	text := values[len(values)-1]
	return strings.TrimSpace(text[strings.LastIndexByte(text, ',')+1:])
}
