package tabard

import (
	"context"
	"fmt"
	"net/url"
	"strings"

	"tabard/internal/acme"
	"tabard/internal/settings"
)

// openACME makes what keeps certificates from an ACME authority, if there are domains.
func (s *Server) openACME(ctx context.Context) (err error) {
	if len(s.cfg.ACMEDomain) == 0 {
		return nil
	}
	s.acme, err = acme.Open(ctx, acme.Options{
		Domains: s.cfg.ACMEDomain, Email: s.cfg.ACMEEmail, Directory: s.cfg.ACMECA, Store: s.store,
		Transport: s.egress.Transport(), NoHTTP: s.cfg.TLSOnly, Log: s.log,
	})
	if err != nil {
		return fmt.Errorf("open the certificates of ACME: %w", err)
	}
	return nil
}

// acmeFaults reports what is wrong with the settings of ACME.
func (c Config) acmeFaults(fault func(format string, args ...any)) {
	if len(c.ACMEDomain) == 0 {
		return
	}
	if len(c.ACMEDomain) > acme.MaxDomains {
		fault("acme-domain: are more than %d", acme.MaxDomains)
	}
	for _, d := range c.ACMEDomain {
		if !settings.ValidDomainName(strings.ToLower(d)) {
			fault("acme-domain: %q is not a DNS name like wps.example.com; there are no wildcards", d)
		}
	}
	if !c.ACMEAgreeTOS {
		fault("acme-agree-tos: is needed with acme-domain; read the terms of %s first", c.ACMECA)
	}
	if u, err := url.Parse(c.ACMECA); err != nil || u.Scheme != "https" || u.Host == "" {
		fault("acme-ca: %q is not the https address of a directory", c.ACMECA)
	}
	if c.ACMEEmail != "" && (!strings.Contains(c.ACMEEmail, "@") || strings.ContainsAny(c.ACMEEmail, " <>,?")) {
		fault("acme-email: %q is not an address like ops@example.com", c.ACMEEmail)
	}
}
