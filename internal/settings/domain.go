package settings

import (
	"maps"
	"net/netip"
	"net/url"
	"regexp"
	"slices"
	"strings"
)

// Limits on the certificates and domains of one instance.
const (
	MaxCustomCertificates = 64
	MaxCustomDomains      = 64
)

var (
	resourceName = regexp.MustCompile(`^[A-Za-z0-9]([A-Za-z0-9._-]{0,126}[A-Za-z0-9])?$`)
	domainName   = regexp.MustCompile(`^([a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?\.)+[a-z]([a-z0-9-]{0,61}[a-z0-9])?$`)
)

// A CustomCertificate is a TLS certificate with its key that lies in a key vault as a secret and is read with the
// instance's managed identity.
type CustomCertificate struct {
	Name          string `json:"name"`                            // as created; compared ignoring case
	VaultBaseURI  string `json:"keyVaultBaseUri"`                 // as given: https, no path
	SecretName    string `json:"keyVaultSecretName"`              // as given
	SecretVersion string `json:"keyVaultSecretVersion,omitempty"` // empty: the newest, followed
}

// SecretURI is the identifier of the secret that holds the certificate.
func (c *CustomCertificate) SecretURI() string {
	uri := strings.TrimRight(c.VaultBaseURI, "/") + "/secrets/" + c.SecretName
	if c.SecretVersion != "" {
		uri += "/" + c.SecretVersion
	}
	return uri
}

// A CustomDomain is a DNS name under which the instance is reached with a certificate of its own.
type CustomDomain struct {
	Name        string `json:"name"`        // of the resource, as created; compared ignoring case
	DomainName  string `json:"domainName"`  // in lower case
	Certificate string `json:"certificate"` // ARM id of one of the instance's custom certificates, as given
}

// CertificateName is the name of the custom certificate that the domain uses.
func (d *CustomDomain) CertificateName() string {
	return d.Certificate[strings.LastIndex(d.Certificate, "/")+1:]
}

// compileDomains checks the custom certificates and domains.
func (in *Instance) compileDomains(f *Faults) {
	if len(in.CustomCertificates) > MaxCustomCertificates {
		f.add("customCertificates", "are more than %d", MaxCustomCertificates)
	}
	if len(in.CustomDomains) > MaxCustomDomains {
		f.add("customDomains", "are more than %d", MaxCustomDomains)
	}
	for key, c := range in.CustomCertificates {
		c.check(f)
		if key != strings.ToLower(c.Name) {
			f.add("customCertificates", "have %q under the name %q", c.Name, key)
		}
	}
	domains := make(map[string]bool, len(in.CustomDomains))
	for key, d := range in.CustomDomains {
		d.DomainName = strings.ToLower(d.DomainName)
		if !resourceName.MatchString(d.Name) {
			f.add("name", "%q is not 1 to 128 letters, digits and ._- between them", d.Name)
		}
		if key != strings.ToLower(d.Name) {
			f.add("customDomains", "have %q under the name %q", d.Name, key)
		}
		if !ValidDomainName(d.DomainName) {
			f.add("properties.domainName", "%q is not a DNS name like wps.example.com", d.DomainName)
		}
		if domains[d.DomainName] {
			f.add("properties.domainName", "%q is that of another custom domain of the instance", d.DomainName)
		}
		domains[d.DomainName] = true
		if _, ok := in.Certificate(d); !ok || !strings.EqualFold(d.Certificate, in.CertificateID(d.CertificateName())) {
			f.add("properties.customCertificate.id", "%q is not a custom certificate of the instance", d.Certificate)
		}
	}
}

// domains finds the owner of each custom domain. Should two instances have one, which two nodes could write at once, it is
// the one whose name comes first.
func domains(instances map[string]*Instance) map[string]*Instance {
	owners := map[string]*Instance{}
	for _, in := range sorted(instances) {
		for _, d := range in.CustomDomains {
			if _, taken := owners[d.DomainName]; !taken {
				owners[d.DomainName] = in
			}
		}
	}
	return owners
}

// sorted lists the values of a map by key.
func sorted[T any](m map[string]*T) []*T {
	list := make([]*T, 0, len(m))
	for _, key := range slices.Sorted(maps.Keys(m)) {
		list = append(list, m[key])
	}
	return list
}

// SortedCertificates lists the custom certificates by name.
func (in *Instance) SortedCertificates() []*CustomCertificate { return sorted(in.CustomCertificates) }

// SortedDomains lists the custom domains by name.
func (in *Instance) SortedDomains() []*CustomDomain { return sorted(in.CustomDomains) }

// SortedLinks lists the shared private links by name.
func (in *Instance) SortedLinks() []*SharedPrivateLink { return sorted(in.SharedPrivateLinks) }

// ValidDomainName tells whether a name in lower case may be a custom domain.
func ValidDomainName(name string) bool {
	_, err := netip.ParseAddr(name)
	return len(name) <= 253 && domainName.MatchString(name) && err != nil
}

// CertificateID is the ARM id of a custom certificate of the instance.
func (in *Instance) CertificateID(name string) string {
	return in.ResourceID() + "/customCertificates/" + name
}

// Certificate finds the custom certificate of a domain.
func (in *Instance) Certificate(d *CustomDomain) (*CustomCertificate, bool) {
	c, ok := in.CustomCertificates[strings.ToLower(d.CertificateName())]
	return c, ok
}

func (c *CustomCertificate) check(f *Faults) {
	if !resourceName.MatchString(c.Name) {
		f.add("name", "%q is not 1 to 128 letters, digits and ._- between them", c.Name)
	}
	if u, err := url.Parse(c.VaultBaseURI); err != nil || u.Scheme != "https" || u.Host == "" || strings.Trim(u.Path, "/") != "" || u.RawQuery != "" || u.Fragment != "" || u.User != nil {
		f.add("properties.keyVaultBaseUri", "%q is not the address of a key vault like https://name.vault.azure.net", c.VaultBaseURI)
		return
	}
	if _, err := ParseSecretURI(c.SecretURI()); err != nil {
		field := "properties.keyVaultSecretName"
		if c.SecretVersion != "" {
			if _, err := ParseSecretURI((&CustomCertificate{VaultBaseURI: c.VaultBaseURI, SecretName: c.SecretName}).SecretURI()); err == nil {
				field = "properties.keyVaultSecretVersion"
			}
		}
		f.add(field, "makes an identifier that %v", err)
	}
}
