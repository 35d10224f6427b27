package guard

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"strings"
	"time"
)

const (
	fetchLimit   = 1 << 20         // bytes of a discovery document or key set
	fetchTimeout = 5 * time.Second // for one of them
)

// newClient returns the client that issuers are asked with: https with the
// given roots, no redirects, small answers.
func newClient(t Trust) (*http.Client, error) {
	transport := t.Transport
	if transport == nil {
		var err error
		if transport, err = newTransport(t); err != nil {
			return nil, err
		}
	} else if t.CAFile != "" || t.RootCAs != nil {
		return nil, errors.New("guard: Transport: CAFile and RootCAs have no effect on it; set them there")
	}
	return &http.Client{
		Transport: transport,
		Timeout:   fetchTimeout,
		// A redirect would let whoever answers choose another issuer.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}, nil
}

func newTransport(t Trust) (http.RoundTripper, error) {
	roots, err := rootsWith(t.RootCAs, t.CAFile)
	if err != nil {
		return nil, fmt.Errorf("guard: CAFile: %w", err)
	}
	return &http.Transport{
		Proxy:                  http.ProxyFromEnvironment,
		DialContext:            (&net.Dialer{Timeout: fetchTimeout}).DialContext,
		TLSClientConfig:        &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12},
		TLSHandshakeTimeout:    fetchTimeout,
		ForceAttemptHTTP2:      true,
		MaxIdleConnsPerHost:    1,
		IdleConnTimeout:        30 * time.Second,
		MaxResponseHeaderBytes: 64 << 10,
	}, nil
}

// rootsWith adds the authorities of a PEM file to roots, or to the system's if
// there are none. Without a file it returns roots.
func rootsWith(roots *x509.CertPool, file string) (*x509.CertPool, error) {
	if file == "" {
		return roots, nil
	}
	pem, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	if roots != nil {
		roots = roots.Clone()
	} else if roots, err = x509.SystemCertPool(); err != nil {
		roots = x509.NewCertPool()
	}
	if !roots.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("no certificate in %s", file)
	}
	return roots, nil
}

// fetch reads one small JSON document.
func fetch(ctx context.Context, client *http.Client, address string) (string, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return "", err
	}
	req.Header.Set("Accept", "application/json")
	res, err := client.Do(req)
	if err != nil {
		return "", err
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusOK {
		return "", fmt.Errorf("GET %s: status %d", address, res.StatusCode)
	}
	body, err := io.ReadAll(io.LimitReader(res.Body, fetchLimit+1))
	if err != nil {
		return "", fmt.Errorf("GET %s: %w", address, err)
	}
	if len(body) > fetchLimit {
		return "", fmt.Errorf("GET %s: more than %d bytes", address, fetchLimit)
	}
	return string(body), nil
}

// secureURL parses an address that keys may come from: https, nothing odd.
func secureURL(address string, allowLoopbackHTTP bool) (*url.URL, error) {
	u, err := url.Parse(address)
	if err != nil {
		return nil, errors.New("is not a URL")
	}
	switch {
	case u.Host == "" || u.Opaque != "":
		return nil, errors.New("is not an absolute https URL")
	case u.User != nil:
		return nil, errors.New("holds a user name or password")
	case u.Fragment != "":
		return nil, errors.New("holds a fragment")
	case u.Scheme == "https":
	case u.Scheme == "http" && allowLoopbackHTTP && isLoopback(u.Hostname()):
	default:
		return nil, errors.New("is not an https URL")
	}
	u.Host = strings.ToLower(u.Host)
	return u, nil
}

func isLoopback(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}
