package listen

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"testing"
)

func TestWhoTheClientIsBehindProxies(t *testing.T) {
	ours := []string{"10.0.0.0/8", "2001:db8:1::/48"}
	for _, tc := range []struct {
		name, peer string
		forwarded  []string
		proto      string
		addr       string // of the client
		secure     bool
	}{
		{"no proxy", "192.0.2.1:5", nil, "", "192.0.2.1:5", false},
		{"somebody who pretends to be one", "192.0.2.1:5", []string{"198.51.100.7"}, "https", "192.0.2.1:5", false},
		{"a proxy", "10.0.0.1:5", []string{"198.51.100.7"}, "https", "198.51.100.7:0", true},
		{"a proxy that says nothing", "10.0.0.1:5", nil, "", "10.0.0.1:5", false},
		{"what the client invented comes first", "10.0.0.1:5", []string{"127.0.0.1, 198.51.100.7"}, "https", "198.51.100.7:0", true},
		{"a header of the client's own, another of the proxy's", "10.0.0.1:5", []string{"127.0.0.1", "198.51.100.7"}, "https", "198.51.100.7:0", true},
		{"two proxies", "10.0.0.1:5", []string{"127.0.0.1, 198.51.100.7, 10.9.9.9"}, "https", "198.51.100.7:0", true},
		{"a proxy that asks for itself", "10.0.0.1:5", []string{"10.9.9.9"}, "http", "10.9.9.9:0", false},
		{"an invented entry behind which nothing counts", "10.0.0.1:5", []string{"198.51.100.7, nonsense, 10.9.9.9"}, "", "10.9.9.9:0", false},
		{"nonsense", "10.0.0.1:5", []string{"unknown"}, "gopher", "10.0.0.1:5", false},
		{"an entry with a port", "10.0.0.1:5", []string{"198.51.100.7:4711"}, "", "198.51.100.7:0", false},
		{"version 6", "[2001:db8:1::1]:5", []string{"[2001:db8:2::2]:4711"}, "HTTPS", "[2001:db8:2::2]:0", true},
		{"version 6 without a port", "[2001:db8:1::1]:5", []string{"2001:db8:2::2"}, "", "[2001:db8:2::2]:0", false},
		{"a v4 proxy on a v6 socket", "[::ffff:10.0.0.1]:5", []string{"198.51.100.7"}, "https", "198.51.100.7:0", true},
		{"two schemes: the nearer proxy's counts", "10.0.0.1:5", []string{"198.51.100.7"}, "https, http", "198.51.100.7:0", false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s := New(Options{})
			for _, text := range ours {
				s.opt.TrustedProxies = append(s.opt.TrustedProxies, netip.MustParsePrefix(text))
			}
			r := &http.Request{RemoteAddr: tc.peer, Header: http.Header{"X-Forwarded-Host": {"evil.example"}}, Host: "wps.example.com"}
			if tc.forwarded != nil {
				r.Header["X-Forwarded-For"] = tc.forwarded
			}
			if tc.proto != "" {
				r.Header.Set("X-Forwarded-Proto", tc.proto)
			}
			s.forwarded(r)
			if r.RemoteAddr != tc.addr || (r.TLS != nil) != tc.secure || r.Host != "wps.example.com" {
				t.Errorf("the client is %s, secure %t, of %s; want %s, %t", r.RemoteAddr, r.TLS != nil, r.Host, tc.addr, tc.secure)
			}
			s.opt.TrustedProxies = nil
			before := tc.peer
			r.RemoteAddr, r.TLS = before, nil
			if s.forwarded(r); r.RemoteAddr != before || r.TLS != nil {
				t.Error("headers were believed although nobody is trusted")
			}
		})
	}
}

// Both ways, past net/http and through it, see the same client.
func TestAProxysClientIsSeenOnBothWays(t *testing.T) {
	s := serve(t, Options{
		TrustedProxies: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")},
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			fmt.Fprintf(w, "%s %t", r.RemoteAddr, r.TLS != nil)
		}),
		Upgrade: func(c net.Conn, r *http.Request) {
			defer c.Close()
			fmt.Fprintf(c, "%s %t\n", r.RemoteAddr, r.TLS != nil)
		},
	})
	const want = "198.51.100.7:0 true"
	headers := "X-Forwarded-For: 198.51.100.7\r\nX-Forwarded-Proto: https\r\n\r\n"
	c := s.dial(t, false)
	io.WriteString(c, strings.TrimSuffix(upgradeHead, "\r\n")+headers)
	if got := firstLine(t, c); got != want {
		t.Errorf("an upgrade is from %s, want %s", got, want)
	}
	c = s.dial(t, false)
	io.WriteString(c, "GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n"+headers)
	res, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	if got, err := io.ReadAll(res.Body); err != nil || string(got) != want {
		t.Errorf("a request is from %s, want %s (%v)", got, want, err)
	}
}
