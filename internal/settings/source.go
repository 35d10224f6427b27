package settings

import (
	"crypto/rsa"
	"crypto/tls"
	"net/url"
	"strings"
)

// SourceType says where an instance's access tokens come from.
type SourceType string

// The sources.
const (
	// SourceEmbedded is the directory and token service of this installation.
	SourceEmbedded SourceType = "embedded"
	// SourceAzure is the platform: a managed identity of the machine, app or cluster that this process runs on.
	SourceAzure SourceType = "azure"
	// SourceOAuth is any issuer that knows client_credentials.
	SourceOAuth SourceType = "oauth"
)

// Credentials of SourceAzure.
const (
	CredentialManagedIdentity  = "managedIdentity"
	CredentialWorkloadIdentity = "workloadIdentity"
)

// How SourceOAuth names the resource in its request.
const (
	ResourceAsScope    = "scope"    // scope={resource}/.default, as the Microsoft identity platform (v2) takes it
	ResourceAsResource = "resource" // resource={resource}: RFC 8707, and the platform's v1
	ResourceAsAudience = "audience" // audience={resource}
)

// An IdentitySource replaces the instance's managed identity by one that an issuer elsewhere knows. What belongs to
// another type must be empty. It holds secrets; the whole instance is sealed at rest.
type IdentitySource struct {
	Type SourceType `json:"type"`

	// TenantID and ClientID name the identity. azure: ClientID is that of a user-assigned identity (empty: the
	// system-assigned one); a workload identity takes both from its environment if they are empty. oauth: ClientID is
	// required, TenantID is not used.
	TenantID string `json:"tenantId,omitempty"`
	ClientID string `json:"clientId,omitempty"`

	// Credential of azure is managedIdentity (default) or workloadIdentity. The file with a workload's token and the
	// authority that it is sent to come from the process's environment alone: whoever may edit an instance must not
	// have files of this host sent to an address of his.
	Credential string `json:"credential,omitempty"`

	// Issuer of oauth: its discovery document names the token endpoint. TokenEndpoint names it directly.
	Issuer        string `json:"issuer,omitempty"`
	TokenEndpoint string `json:"tokenEndpoint,omitempty"`
	// ClientSecret of oauth, or Certificate: a PEM certificate and its RSA private key, which signs assertions.
	ClientSecret string `json:"clientSecret,omitempty"`
	Certificate  string `json:"certificate,omitempty"`
	// ResourceParameter of oauth is scope (default), resource or audience.
	ResourceParameter string `json:"resourceParameter,omitempty"`
}

const (
	maxSourceText  = 2 << 10  // bytes of each field but the certificate
	maxCertificate = 64 << 10 // bytes of PEM
)

// Source is the instance's identity source, nil for the embedded one.
func (in *Instance) Source() *IdentitySource {
	if s := in.Extensions.IdentitySource; s != nil && s.Type != SourceEmbedded {
		return s
	}
	return nil
}

// Redacted is a copy without secrets, which may be shown.
func (s *IdentitySource) Redacted() *IdentitySource {
	if s == nil {
		return nil
	}
	c := *s
	c.ClientSecret, c.Certificate = "", ""
	return &c
}

// KeepSecrets takes the secrets of old where s has none and speaks for the same client at the same issuer, so that what
// was shown redacted can be written back. A secret never follows to another issuer.
func (s *IdentitySource) KeepSecrets(old *IdentitySource) {
	if s == nil || old == nil || s.Type != old.Type || s.ClientID != old.ClientID || s.Issuer != old.Issuer || s.TokenEndpoint != old.TokenEndpoint {
		return
	}
	if s.ClientSecret == "" && s.Certificate == "" {
		s.ClientSecret, s.Certificate = old.ClientSecret, old.Certificate
	}
}

// check reports what is wrong, and fills in defaults.
func (s *IdentitySource) check(f *Faults) {
	const at = "properties.tabard.identitySource"
	canonical := func(field string, value *string, allowed ...string) {
		if *value == "" {
			*value = allowed[0]
		}
		for _, a := range allowed {
			if strings.EqualFold(*value, a) {
				*value = a
				return
			}
		}
		f.add(at+"."+field, "%q is none of %s", *value, strings.Join(allowed, ", "))
	}
	address := func(field, value string) {
		u, err := url.Parse(value)
		if value != "" && (err != nil || u.Scheme != "https" || u.Hostname() == "" || u.User != nil || u.RawQuery != "" || strings.Contains(value, "#")) {
			f.add(at+"."+field, "%q is not an https URL without user, query and fragment", value)
		}
	}
	foreign := func(fields ...string) {
		for _, name := range fields {
			if s.field(name) != "" {
				f.add(at+"."+name, "does not belong to the type %s", s.Type)
			}
		}
	}
	kind := string(s.Type)
	canonical("type", &kind, string(SourceEmbedded), string(SourceAzure), string(SourceOAuth))
	s.Type = SourceType(kind)
	for _, name := range []string{"tenantId", "clientId", "credential", "issuer", "tokenEndpoint", "clientSecret", "resourceParameter"} {
		if v := s.field(name); len(v) > maxSourceText || strings.ContainsFunc(v, func(r rune) bool { return r < ' ' || r == 0x7f }) {
			f.add(at+"."+name, "is longer than %d bytes or holds control characters", maxSourceText)
		}
	}
	switch s.Type {
	case SourceEmbedded:
		foreign("tenantId", "clientId", "credential", "issuer", "tokenEndpoint", "clientSecret", "certificate", "resourceParameter")
	case SourceAzure:
		foreign("issuer", "tokenEndpoint", "clientSecret", "certificate", "resourceParameter")
		canonical("credential", &s.Credential, CredentialManagedIdentity, CredentialWorkloadIdentity)
		if s.Credential == CredentialManagedIdentity {
			foreign("tenantId")
		}
	case SourceOAuth:
		foreign("credential", "tenantId")
		canonical("resourceParameter", &s.ResourceParameter, ResourceAsScope, ResourceAsResource, ResourceAsAudience)
		address("issuer", s.Issuer)
		address("tokenEndpoint", s.TokenEndpoint)
		if (s.Issuer == "") == (s.TokenEndpoint == "") {
			f.add(at+".issuer", "and tokenEndpoint: give one of them")
		}
		if s.ClientID == "" {
			f.add(at+".clientId", "is required")
		}
		if (s.ClientSecret == "") == (s.Certificate == "") {
			f.add(at+".clientSecret", "and certificate: give one of them")
		}
		if s.Certificate != "" {
			if problem := checkPair(s.Certificate); problem != "" {
				f.add(at+".certificate", "%s", problem)
			}
		}
	}
}

// checkPair says what is wrong with a certificate and key, in words of its own: a parser's might quote the key.
func checkPair(pem string) string {
	if len(pem) > maxCertificate {
		return "is too long"
	}
	pair, err := tls.X509KeyPair([]byte(pem), []byte(pem))
	if err != nil {
		return "is not PEM of a certificate and its private key"
	}
	if key, ok := pair.PrivateKey.(*rsa.PrivateKey); !ok || key.N.BitLen() < 2048 {
		return "has no RSA key of at least 2048 bits"
	}
	return ""
}

func (s *IdentitySource) field(name string) string {
	return map[string]string{
		"tenantId": s.TenantID, "clientId": s.ClientID, "credential": s.Credential,
		"issuer": s.Issuer, "tokenEndpoint": s.TokenEndpoint, "clientSecret": s.ClientSecret, "certificate": s.Certificate, "resourceParameter": s.ResourceParameter,
	}[name]
}
