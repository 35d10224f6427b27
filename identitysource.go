package tabard

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"

	"tabard/internal/egress"
	"tabard/internal/identity"
	"tabard/internal/identity/azure"
	"tabard/internal/identity/oauth"
	"tabard/internal/settings"
	"tabard/internal/tokenservice"
)

// Platform identities that have no client id, in Config.AzureIdentity.
const (
	azureSystem   = "system"
	azureWorkload = "workload"
)

// sources is where the cache of tokens gets them: from the embedded token service, or from where the instance's
// settings say. Above it nothing differs.
type sources struct {
	embedded *tokenservice.Service
	settings func() *settings.Snapshot
	outside  http.RoundTripper // the egress
	allowed  []string          // platform identities that instances may use

	mu   sync.Mutex // guards made
	made map[string]madeSource
}

// A madeSource is kept as long as the instance's settings say the same.
type madeSource struct {
	from   settings.IdentitySource
	source identity.ClaimsSource
}

// sourcePrincipal is whom tokens of another source speak for. The issuer knows more; what we know is which instance
// asks, by which client id.
func sourcePrincipal(in *settings.Instance, s *settings.IdentitySource) identity.Principal {
	return identity.Principal{
		Source: string(s.Type), TenantID: s.TenantID, PrincipalID: in.ResourceID(), ClientID: s.ClientID, ResourceID: in.Name, System: s.ClientID == "",
	}
}

// Token implements identity.Source.
func (x *sources) Token(ctx context.Context, p identity.Principal, resource string) (*identity.Token, error) {
	return x.TokenFor(ctx, p, resource, "")
}

// TokenFor implements identity.ClaimsSource. The embedded service puts nothing into a token that somebody asks for; what
// it gives is a new one.
func (x *sources) TokenFor(ctx context.Context, p identity.Principal, resource, claims string) (*identity.Token, error) {
	if p.Source == "" {
		return x.embedded.Token(ctx, p, resource)
	}
	source, err := x.of(p)
	if err != nil {
		return nil, err
	}
	token, err := source.TokenFor(ctx, p, resource, claims)
	var refused *identity.Error
	if err != nil && !errors.As(err, &refused) && egress.Permanent(err) { // no try within seconds reaches an address that is forbidden
		return nil, &identity.Error{Description: err.Error(), Permanent: true, Err: err}
	}
	return token, err
}

func (x *sources) of(p identity.Principal) (identity.ClaimsSource, error) {
	in, ok := x.settings().Instance(p.ResourceID)
	if !ok || in.Source() == nil || sourcePrincipal(in, in.Source()) != p {
		return nil, &identity.Error{Description: "the instance's identity source was changed", Permanent: true}
	}
	want := *in.Source()
	x.mu.Lock()
	defer x.mu.Unlock()
	if made, ok := x.made[in.Name]; ok && made.from == want {
		return made.source, nil
	}
	source, err := x.build(&want)
	if err != nil {
		return nil, &identity.Error{Description: err.Error(), Permanent: true, Err: err}
	}
	x.drop(in.Name)
	x.made[in.Name] = madeSource{want, source}
	return source, nil
}

func (x *sources) build(s *settings.IdentitySource) (identity.ClaimsSource, error) {
	if s.Type == settings.SourceAzure {
		return x.buildAzure(s)
	}
	opt := oauth.Options{
		Issuer: s.Issuer, TokenEndpoint: s.TokenEndpoint, ClientID: s.ClientID, ClientSecret: s.ClientSecret, Parameter: s.ResourceParameter,
		Transport: x.outside,
	}
	if s.Certificate != "" {
		pair, err := tls.X509KeyPair([]byte(s.Certificate), []byte(s.Certificate))
		if err != nil {
			return nil, errors.New("the certificate of the identity source cannot be read")
		}
		opt.Certificate = &pair
	}
	return oauth.New(opt)
}

// buildAzure makes a source of a platform identity that the operator gave to instances. Without that leave whoever may
// edit an instance could have this host's own tokens sent to a handler of his.
func (x *sources) buildAzure(s *settings.IdentitySource) (identity.ClaimsSource, error) {
	workload := s.Credential == settings.CredentialWorkloadIdentity
	name := s.ClientID
	switch {
	case workload:
		name = azureWorkload
	case name == "":
		name = azureSystem
	}
	if !slices.ContainsFunc(x.allowed, func(a string) bool { return strings.EqualFold(a, name) }) {
		return nil, fmt.Errorf("the platform identity %q is not given to instances: start the service with --azure-identity %s", name, name)
	}
	opt := azure.Options{Workload: workload, ClientID: s.ClientID, TenantID: s.TenantID}
	if workload { // its authority is an address like any other; a managed identity's endpoint is not
		opt.Transport = x.outside
	}
	return azure.New(opt)
}

// forget drops the sources of instances that no longer have them.
func (x *sources) forget(now *settings.Snapshot) {
	x.mu.Lock()
	defer x.mu.Unlock()
	for name, made := range x.made {
		if in, ok := now.Instance(name); !ok || in.Source() == nil || *in.Source() != made.from {
			x.drop(name)
		}
	}
}

// drop is called with mu held.
func (x *sources) drop(name string) {
	if a, ok := x.made[name].source.(*azure.Source); ok {
		a.Close()
	}
	delete(x.made, name)
}

// close drops everything.
func (x *sources) close() {
	x.mu.Lock()
	defer x.mu.Unlock()
	for name := range x.made {
		x.drop(name)
	}
}
