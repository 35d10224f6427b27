package tabard

import (
	"crypto/tls"
	"net/http"
	"slices"

	"tabard/internal/acme"
	"tabard/internal/customdomain"
	"tabard/internal/settings"
)

// newDomains makes what serves the certificates of custom domains, read like the secrets of handlers' URLs.
func (s *Server) newDomains() *customdomain.Certificates {
	return customdomain.New(customdomain.Options{
		Owner:  func(domain string) (*settings.Instance, bool) { return s.settings.Snapshot().InstanceOf(domain) },
		Secret: s.secrets.Secret,
		Log:    s.log,
	})
}

// chooseInstance finds the instance that a request on the public address is for. The names of the service itself go
// before custom domains, so that nobody who may edit one instance takes another's clients; any other host is the
// default instance.
func (s *Server) chooseInstance(r *http.Request) *settings.Instance {
	name, ok := s.origins.named(r.Host)
	if ok {
		return s.instance(name)
	}
	if in, ok := s.settings.Snapshot().InstanceOf(hostOf(r.Host)); ok {
		return in
	}
	return s.instance(settings.DefaultInstance)
}

// publicTLS is the configuration of the public address: as everywhere, with the certificates of an ACME authority and
// of custom domains.
func (s *Server) publicTLS() *tls.Config {
	config := s.tls.Clone()
	usual := config.GetCertificate
	if s.acme != nil {
		config.NextProtos = append(slices.Clone(config.NextProtos), acme.Protocol)
	}
	config.GetCertificate = func(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
		if s.acme != nil {
			if cert := s.acme.ForClient(hello); cert != nil {
				return cert, nil
			}
		}
		if _, ours := s.origins.named(hello.ServerName); !ours {
			if cert := s.domains.ForClient(hello); cert != nil {
				return cert, nil
			}
		}
		return usual(hello)
	}
	return config
}
