package arm

import (
	"context"
	"net/http"

	"tabard/internal/settings"
)

// Custom certificates and domains (control-plane.md 6). This file keeps them; the listeners serve them.

// Certificates read custom certificates from their vaults, for the listeners.
type Certificates interface {
	// Load reads a certificate now, as the instance's identity, and says what is wrong with it: it cannot be read, is
	// none, has no key, has expired. The error is shown to operators and holds no secret.
	Load(ctx context.Context, in *settings.Instance, c *settings.CustomCertificate) error
	// Problem is what was wrong with the certificate when it was read last; nil: nothing.
	Problem(in *settings.Instance, c *settings.CustomCertificate) error
	// DomainProblem is why a domain is not served with its certificate; nil: it is.
	DomainProblem(in *settings.Instance, d *settings.CustomDomain) error
}

func (s *server) customCertificates() *subresource[settings.CustomCertificate] {
	return &subresource[settings.CustomCertificate]{
		kind:   "customCertificates",
		of:     func(in *settings.Instance) map[string]*settings.CustomCertificate { return in.CustomCertificates },
		sorted: (*settings.Instance).SortedCertificates,
		name:   func(c *settings.CustomCertificate) string { return c.Name },
		decode: func(d *reader, name string, doc object, old *settings.CustomCertificate) *settings.CustomCertificate {
			p := d.properties(doc, "keyVaultBaseUri", "keyVaultSecretName", "keyVaultSecretVersion")
			if old == nil {
				old = &settings.CustomCertificate{Name: name}
			}
			return &settings.CustomCertificate{
				Name: old.Name, VaultBaseURI: d.fixed("properties.keyVaultBaseUri", p["keyVaultBaseUri"], old.VaultBaseURI),
				SecretName:    d.fixed("properties.keyVaultSecretName", p["keyVaultSecretName"], old.SecretName),
				SecretVersion: d.text("properties.keyVaultSecretVersion", p["keyVaultSecretVersion"]),
			}
		},
		properties: func(in *settings.Instance, c *settings.CustomCertificate) map[string]any {
			p := map[string]any{"keyVaultBaseUri": c.VaultBaseURI, "keyVaultSecretName": c.SecretName, "provisioningState": "Succeeded"}
			if c.SecretVersion != "" {
				p["keyVaultSecretVersion"] = c.SecretVersion
			}
			if s.Certificates != nil && s.Certificates.Problem(in, c) != nil {
				p["provisioningState"] = "Failed"
			}
			return p
		},
		removable: func(in *settings.Instance, c *settings.CustomCertificate) error {
			for _, d := range in.SortedDomains() {
				if used, ok := in.Certificate(d); ok && used.Name == c.Name {
					return inUse("The custom certificate '%s' is used by the custom domain '%s'.", c.Name, d.Name)
				}
			}
			return nil
		},
	}
}

// putCertificate stores where the certificate is and reads it.
func (s *server) putCertificate(c *call) (reply, error) {
	kind := s.customCertificates()
	in, cert, created, err := kind.store(s, c)
	if err != nil {
		return reply{}, err
	}
	status := 200
	if created {
		status = 201
	}
	if s.Certificates == nil {
		c.warn("the certificate is stored, but this service does not serve it")
		return c.resource(status, kind.document(in, cert)), nil
	}
	ctx, cancel := c.writing()
	defer cancel()
	return s.judged(c, status, kind.document(in, cert), s.Certificates.Load(ctx, in, cert)), nil
}

// putDomain stores a domain and looks whether it can be served. The official Go client takes no status but 201.
func (s *server) putDomain(c *call) (reply, error) {
	kind := s.customDomains()
	in, domain, _, err := kind.store(s, c)
	if err != nil {
		return reply{}, err
	}
	var problem error
	if s.Certificates != nil {
		problem = s.Certificates.DomainProblem(in, domain)
	}
	return s.judged(c, 201, kind.document(in, domain), problem), nil
}

// judged is the answer to a write of something that is stored, but perhaps cannot be served. What is wrong with it is
// told by the operation that the answer names, where clients' pollers look for it: they take the word Failed in the
// answer itself for the end, without a reason. A GET says Failed from then on.
func (s *server) judged(c *call, status int, doc map[string]any, problem error) reply {
	if problem != nil {
		c.warn("it cannot be served: " + problem.Error())
		s.finished(c, reply{}, refuse(http.StatusBadRequest, "CustomCertificateInvalid", "%s cannot be served: %v.", doc["name"], problem))
		doc["properties"].(map[string]any)["provisioningState"] = "Updating"
	}
	return c.resource(status, doc)
}

func (s *server) customDomains() *subresource[settings.CustomDomain] {
	return &subresource[settings.CustomDomain]{
		kind:   "customDomains",
		of:     func(in *settings.Instance) map[string]*settings.CustomDomain { return in.CustomDomains },
		sorted: (*settings.Instance).SortedDomains,
		name:   func(d *settings.CustomDomain) string { return d.Name },
		decode: func(d *reader, name string, doc object, old *settings.CustomDomain) *settings.CustomDomain {
			p := d.properties(doc, "domainName", "customCertificate")
			cert := d.object("properties.customCertificate", p["customCertificate"], "id")
			if len(d.faults) == 0 && absent(p["customCertificate"]) {
				d.fault("properties.customCertificate", "is required")
			}
			if old == nil {
				old = &settings.CustomDomain{Name: name}
			}
			return &settings.CustomDomain{
				Name: old.Name, DomainName: d.text("properties.domainName", p["domainName"]), Certificate: d.text("properties.customCertificate.id", cert["id"]),
			}
		},
		properties: func(in *settings.Instance, d *settings.CustomDomain) map[string]any {
			state := "Succeeded"
			if s.Certificates != nil && s.Certificates.DomainProblem(in, d) != nil {
				state = "Failed"
			}
			return map[string]any{"domainName": d.DomainName, "customCertificate": map[string]string{"id": d.Certificate}, "provisioningState": state}
		},
	}
}
