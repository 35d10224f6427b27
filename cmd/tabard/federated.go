package main

import (
	"context"
	"io"
	"net/http"
	"net/url"
)

const federatedWords = `

Words: federated identity credential, issuer, subject and audience are those of Microsoft Entra's workload identity federation. All three are compared letter by letter.`

// A federated credential as the commands print it.
type federatedInfo struct {
	Name      string   `json:"name"`
	Issuer    string   `json:"issuer"`
	Subject   string   `json:"subject"`
	Audiences []string `json:"audiences"`
}

// trusted says whose tokens are taken.
type trusted struct {
	Name     string `arg:"" help:"Name of the credential."`
	Issuer   string `required:"" help:"Issuer, exactly as the claim iss says it, a slash at its end included; https only." placeholder:"URL"`
	Subject  string `required:"" help:"Subject, exactly as the claim sub says it." placeholder:"TEXT"`
	Audience string `help:"Audience that the token must be for." default:"api://AzureADTokenExchange" placeholder:"TEXT"`
}

func (t *trusted) info() federatedInfo {
	return federatedInfo{t.Name, t.Issuer, t.Subject, []string{t.Audience}}
}

func printFederated(s *stdio, asJSON bool, f federatedInfo) error {
	return s.print(asJSON, f, func(w io.Writer) {
		row(w, "name", f.Name)
		row(w, "issuer", f.Issuer)
		row(w, "subject", f.Subject)
		row(w, "audience", f.Audiences[0])
	})
}

func printFederatedList(s *stdio, asJSON bool, list []federatedInfo) error {
	return s.print(asJSON, map[string]any{"value": list}, func(w io.Writer) {
		row(w, "NAME", "ISSUER", "SUBJECT", "AUDIENCE")
		for _, f := range list {
			row(w, f.Name, f.Issuer, f.Subject, f.Audiences[0])
		}
	})
}

const federationHelp = `Who holds a token of that issuer about that subject can get tokens here without a secret: a pod with its service account's token, a job of a build service. The issuer's keys are fetched by OpenID discovery; tokens must be signed with RS256.

Example:

`

type appFederatedCreateCmd struct {
	appFlags
	jsonFlag
	trusted
}

func (appFederatedCreateCmd) Help() string {
	return federationHelp + `    tabard app federated create worker cluster --issuer https://issuer.example --subject system:serviceaccount:shop:worker` + federatedWords
}

func (c *appFederatedCreateCmd) Run(ctx context.Context, s *stdio) error {
	a, path, _, err := c.connect(ctx, s)
	if err != nil {
		return err
	}
	var made federatedInfo
	if _, err := a.call(ctx, http.MethodPost, path+"/federatedIdentityCredentials", nil, c.info(), &made); err != nil {
		return err
	}
	return printFederated(s, c.JSON, made)
}

type appFederatedListCmd struct {
	appFlags
	jsonFlag
}

func (appFederatedListCmd) Help() string {
	return `Example:

    tabard app federated list worker` + federatedWords
}

func (c *appFederatedListCmd) Run(ctx context.Context, s *stdio) error {
	a, path, _, err := c.connect(ctx, s)
	if err != nil {
		return err
	}
	all, err := a.list(ctx, path+"/federatedIdentityCredentials", nil)
	if err != nil {
		return err
	}
	list, err := itemsOf[federatedInfo](all)
	if err != nil {
		return err
	}
	return printFederatedList(s, c.JSON, list)
}

type appFederatedDeleteCmd struct {
	appFlags
	Name string `arg:"" help:"Name of the credential."`
}

func (appFederatedDeleteCmd) Help() string {
	return `Example:

    tabard app federated delete worker cluster` + federatedWords
}

func (c *appFederatedDeleteCmd) Run(ctx context.Context, s *stdio) error {
	a, path, app, err := c.connect(ctx, s)
	if err != nil {
		return err
	}
	if _, err := a.call(ctx, http.MethodDelete, path+"/federatedIdentityCredentials/"+url.PathEscape(c.Name), nil, nil, nil); err != nil {
		return err
	}
	s.note("federated credential %s of application %s is deleted", c.Name, app.DisplayName)
	return nil
}

// identityFlags name a user-assigned identity in commands about something of it.
type identityFlags struct {
	adminFlags
	Identity string `arg:"" help:"User-assigned identity: name or ARM id."`
}

// connect finds the service and, in it, the identity.
func (f identityFlags) connect(ctx context.Context, s *stdio) (*admin, identityResource, error) {
	a, err := f.open(s)
	if err != nil {
		return nil, identityResource{}, err
	}
	r, err := a.userAssignedIdentity(ctx, f.Identity)
	return a, r, err
}

// federated is the path of an identity's credentials.
func (r identityResource) federated() string { return idPath(r.ID) + "/federatedIdentityCredentials" }

// armFederated is a credential in ARM's shape.
type armFederated struct {
	Name       string `json:"name,omitempty"`
	Properties struct {
		Issuer    string   `json:"issuer"`
		Subject   string   `json:"subject"`
		Audiences []string `json:"audiences"`
	} `json:"properties"`
}

func (f *armFederated) plain() federatedInfo {
	return federatedInfo{f.Name, f.Properties.Issuer, f.Properties.Subject, f.Properties.Audiences}
}

type identityFederatedCreateCmd struct {
	identityFlags
	jsonFlag
	trusted
}

func (identityFederatedCreateCmd) Help() string {
	return federationHelp + `    tabard identity federated create orders-identity cluster --issuer https://issuer.example --subject system:serviceaccount:shop:orders
    tabard identity env orders-identity --workload /var/run/secrets/tokens/azure-identity-token` + federatedWords
}

func (c *identityFederatedCreateCmd) Run(ctx context.Context, s *stdio) error {
	a, r, err := c.connect(ctx, s)
	if err != nil {
		return err
	}
	var want, made armFederated
	want.Properties.Issuer, want.Properties.Subject, want.Properties.Audiences = c.Issuer, c.Subject, []string{c.Audience}
	if _, err := a.call(ctx, http.MethodPut, r.federated()+"/"+url.PathEscape(c.Name), apiVersion(identityVersion), want, &made); err != nil {
		return err
	}
	return printFederated(s, c.JSON, made.plain())
}

type identityFederatedListCmd struct {
	identityFlags
	jsonFlag
}

func (identityFederatedListCmd) Help() string {
	return `Example:

    tabard identity federated list orders-identity` + federatedWords
}

func (c *identityFederatedListCmd) Run(ctx context.Context, s *stdio) error {
	a, r, err := c.connect(ctx, s)
	if err != nil {
		return err
	}
	all, err := a.list(ctx, r.federated(), apiVersion(identityVersion))
	if err != nil {
		return err
	}
	items, err := itemsOf[armFederated](all)
	if err != nil {
		return err
	}
	list := make([]federatedInfo, len(items))
	for i := range items {
		list[i] = items[i].plain()
	}
	return printFederatedList(s, c.JSON, list)
}

type identityFederatedDeleteCmd struct {
	identityFlags
	Name string `arg:"" help:"Name of the credential."`
}

func (identityFederatedDeleteCmd) Help() string {
	return `Example:

    tabard identity federated delete orders-identity cluster` + federatedWords
}

func (c *identityFederatedDeleteCmd) Run(ctx context.Context, s *stdio) error {
	a, r, err := c.connect(ctx, s)
	if err != nil {
		return err
	}
	if err := a.remove(ctx, r.federated()+"/"+url.PathEscape(c.Name), identityVersion, "federated credential", c.Name); err != nil {
		return err
	}
	s.note("federated credential %s of identity %s is deleted", c.Name, r.Name)
	return nil
}
