// Package egress is the only way out: the HTTP transports with which the service calls addresses that somebody
// else chose.
//
// Whoever may edit a hub's settings names URLs that this process then calls from inside its network. Egress keeps
// that from becoming a way to the cloud's metadata endpoint, to the service's own admin port or to a neighbour that
// the operator did not mean to expose. The decision is made on the numeric address at the moment a socket is about
// to connect to it, after resolution and for each address of a name, so that neither a name that changes its
// address between check and use (DNS rebinding) nor an unusual spelling of an address goes around it.
//
// Redirects are not followed: callers use RoundTrip, and a 3xx is an answer like any other. What it leaves to
// others: retries, deadlines of a whole call, what to send. It starts no goroutines beyond those of its
// connections; Close drops the idle ones.
package egress

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strconv"
	"syscall"
	"time"
)

// Defaults and bounds of the transports.
const (
	// DefaultConnsPerHost bounds the connections to one host; requests beyond it wait within their own deadline.
	// All of them may stay open when idle: with net/http's two, four clients opened 570 connections for 3,358 events.
	DefaultConnsPerHost = 512
	maxIdleConns        = 4096
	maxResponseHeader   = 64 << 10 // bytes
	dialTimeout         = 10 * time.Second
	handshakeTimeout    = 10 * time.Second
	idleTimeout         = 90 * time.Second
)

// Policy says which addresses may be called. The zero value suits production: public and private networks, no
// loopback. Some addresses are refused whatever it says: see [BlockedError].
type Policy struct {
	// AllowLoopback admits 127.0.0.0/8 and ::1; for development, where the handler runs on the same machine.
	AllowLoopback bool
	// DenyPrivate refuses the private networks (10/8, 172.16/12, 192.168/16, 100.64/10, 198.18/15, fc00::/7,
	// fec0::/10), which are admitted by default because a self-hosted service mostly has its handlers there.
	DenyPrivate bool
	// Allow lists networks that are admitted although AllowLoopback or DenyPrivate would refuse them.
	Allow []netip.Prefix
	// Deny lists networks that are refused although everything else would admit them, Allow included.
	Deny []netip.Prefix
	// Refuse reports the service's own ports that nobody may reach through it (admin, token); nil refuses none.
	// The address is unmapped, without a zone. See [OwnPorts].
	Refuse func(netip.AddrPort) bool

	// RootCAs verify https destinations; nil means the system's.
	RootCAs *x509.CertPool
	// Resolver looks names up; nil means the system's.
	Resolver *net.Resolver
	// ConnsPerHost bounds connections per host, busy and idle; 0 means [DefaultConnsPerHost].
	ConnsPerHost int
	// Proxy chooses a proxy for a request, as [http.ProxyFromEnvironment] does; nil uses none, whatever the
	// environment says. Danger: the proxy resolves names, so this policy then sees the proxy's own address and
	// destinations written as numbers, nothing else. Plain-http requests with a credential never use it.
	Proxy func(*http.Request) (*url.URL, error)
}

// An Egress owns the pooled transports of one policy.
type Egress struct {
	far, near *http.Transport
}

// New makes the transports.
func New(p Policy) *Egress {
	if p.ConnsPerHost == 0 {
		p.ConnsPerHost = DefaultConnsPerHost
	}
	near := p.transport(func(a netip.AddrPort) error {
		if !plain(a.Addr()).IsLoopback() {
			return &BlockedError{a, NotLoopback}
		}
		return p.check(a)
	})
	far := p.transport(p.check)
	far.Proxy = p.proxy()
	return &Egress{far: far, near: near}
}

// Transport reaches every address that the policy admits: HTTP/2 where TLS negotiates it, HTTP/1.1 otherwise. It
// neither follows redirects nor asks for compression. Refusals are a [*BlockedError] within the error.
func (e *Egress) Transport() *http.Transport { return e.far }

// LoopbackTransport reaches loopback addresses alone, if the policy admits them. It carries plain-http requests
// that hold a credential: the restriction applies to the address that is dialled, whatever the URL's name says.
func (e *Egress) LoopbackTransport() *http.Transport { return e.near }

// Close drops idle connections. Requests under way go on.
func (e *Egress) Close() {
	e.far.CloseIdleConnections()
	e.near.CloseIdleConnections()
}

func (p *Policy) transport(check func(netip.AddrPort) error) *http.Transport {
	dialer := &net.Dialer{
		Timeout:  dialTimeout, // for all addresses of a name together, resolution included
		Resolver: p.Resolver,
		// Between resolution and connect, once for each address that is tried: what is checked is what is dialled.
		ControlContext: func(_ context.Context, _, address string, _ syscall.RawConn) error {
			a, err := netip.ParseAddrPort(address)
			if err != nil {
				return err
			}
			return check(a)
		},
	}
	protocols := new(http.Protocols)
	protocols.SetHTTP1(true)
	protocols.SetHTTP2(true) // by ALPN; never without TLS
	return &http.Transport{
		DialContext:            dialer.DialContext,
		TLSClientConfig:        &tls.Config{RootCAs: p.RootCAs, MinVersion: tls.VersionTLS12, ClientSessionCache: tls.NewLRUClientSessionCache(256)},
		TLSHandshakeTimeout:    handshakeTimeout,
		Protocols:              protocols,
		HTTP2:                  &http.HTTP2Config{SendPingTimeout: 15 * time.Second, PingTimeout: 15 * time.Second},
		MaxConnsPerHost:        p.ConnsPerHost,
		MaxIdleConnsPerHost:    p.ConnsPerHost,
		MaxIdleConns:           maxIdleConns,
		IdleConnTimeout:        idleTimeout,
		MaxResponseHeaderBytes: maxResponseHeader,
		DisableCompression:     true, // no answer grows beyond what was counted on the wire
	}
}

// proxy wraps Policy.Proxy with the one check that remains possible in front of a proxy.
func (p *Policy) proxy() func(*http.Request) (*url.URL, error) {
	if p.Proxy == nil {
		return nil
	}
	return func(r *http.Request) (*url.URL, error) {
		if a, err := netip.ParseAddr(r.URL.Hostname()); err == nil {
			port, _ := strconv.ParseUint(r.URL.Port(), 10, 16)
			if err := p.check(netip.AddrPortFrom(a, uint16(port))); err != nil {
				return nil, err
			}
		}
		return p.Proxy(r)
	}
}
