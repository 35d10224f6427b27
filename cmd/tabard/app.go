package main

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
)

const appWords = `

Words: application, application (client) id, object id, identifier URI (Application ID URI) and requestedAccessTokenVersion are Microsoft Entra's, as in Microsoft Graph.`

// graphApplication is what the commands read and write of Graph's application.
type graphApplication struct {
	ID             string   `json:"id,omitempty"`
	AppID          string   `json:"appId,omitempty"`
	DisplayName    string   `json:"displayName"`
	IdentifierURIs []string `json:"identifierUris"`
	API            struct {
		RequestedAccessTokenVersion *int `json:"requestedAccessTokenVersion"`
	} `json:"api"`
}

// application is how app commands print one.
type application struct {
	AppID          string   `json:"appId"`
	ObjectID       string   `json:"objectId"`
	DisplayName    string   `json:"displayName"`
	IdentifierURIs []string `json:"identifierUris"`
	TokenVersion   int      `json:"tokenVersion"`
}

func (g *graphApplication) plain() application {
	app := application{AppID: g.AppID, ObjectID: g.ID, DisplayName: g.DisplayName, IdentifierURIs: g.IdentifierURIs, TokenVersion: 1}
	if app.IdentifierURIs == nil {
		app.IdentifierURIs = []string{}
	}
	if v := g.API.RequestedAccessTokenVersion; v != nil {
		app.TokenVersion = *v
	}
	return app
}

func printApplication(s *stdio, asJSON bool, app application) error {
	return s.print(asJSON, app, func(w io.Writer) {
		row(w, "name", app.DisplayName)
		row(w, "application id", app.AppID)
		row(w, "object id", app.ObjectID)
		row(w, "identifier URIs", orDash(strings.Join(app.IdentifierURIs, " ")))
		row(w, "token version", fmt.Sprint(app.TokenVersion))
	})
}

type appCreateCmd struct {
	adminFlags
	jsonFlag
	Name          string   `arg:"" help:"Display name."`
	IdentifierURI []string `name:"identifier-uri" help:"Identifier URI, the audience by which handlers name it; repeatable. Without one the audience is the application id." sep:"none" placeholder:"URI"`
	TokenVersion  int      `help:"Version of the tokens that are issued for it: 1 or 2. In version 2 tokens the audience is always the application id." enum:"1,2" default:"1" placeholder:"N"`
}

func (appCreateCmd) Help() string {
	return `An event handler that wants tokens needs an application to be their audience: tokens for an audience that nobody registered are refused with AADSTS500011. Its service principal is created with it.

Example:

    tabard app create orders --identifier-uri api://orders
    tabard hub set chat --handler-url https://127.0.0.1:9000/events --user-events '*' --auth managed-identity --audience api://orders` + appWords
}

func (c *appCreateCmd) Run(ctx context.Context, s *stdio) error {
	a, err := c.open(s)
	if err != nil {
		return err
	}
	g := graphApplication{DisplayName: c.Name, IdentifierURIs: c.IdentifierURI}
	if c.TokenVersion != 1 {
		g.API.RequestedAccessTokenVersion = &c.TokenVersion
	}
	if g.IdentifierURIs == nil {
		g.IdentifierURIs = []string{}
	}
	var made graphApplication
	if _, err := a.call(ctx, http.MethodPost, "/v1.0/applications", nil, g, &made); err != nil {
		return err
	}
	if _, err := a.call(ctx, http.MethodPost, "/v1.0/servicePrincipals", nil, map[string]string{"appId": made.AppID}, nil); err != nil {
		return fmt.Errorf("application %s was created, but no token can be issued for it without its service principal: %w", made.AppID, err)
	}
	return printApplication(s, c.JSON, made.plain())
}

// applications lists all; the lists of a directory of one's own are short.
func (a *admin) applications(ctx context.Context) ([]application, error) {
	all, err := a.list(ctx, "/v1.0/applications", nil)
	if err != nil {
		return nil, err
	}
	items, err := itemsOf[graphApplication](all)
	if err != nil {
		return nil, err
	}
	apps := make([]application, len(items))
	for i := range items {
		apps[i] = items[i].plain()
	}
	return apps, nil
}

// application finds one by application id, object id, identifier URI or display name. Names need not be unique: when
// several match, the ids must tell.
func (a *admin) application(ctx context.Context, name string) (application, error) {
	apps, err := a.applications(ctx)
	if err != nil {
		return application{}, err
	}
	var found []application
	for _, app := range apps {
		if strings.EqualFold(app.AppID, name) || strings.EqualFold(app.ObjectID, name) || slices.Contains(app.IdentifierURIs, name) {
			return app, nil
		}
		if strings.EqualFold(app.DisplayName, name) {
			found = append(found, app)
		}
	}
	switch len(found) {
	case 0:
		return application{}, fail(exitNotFound, "`tabard app list` shows what there is", "there is no application %q", name)
	case 1:
		return found[0], nil
	}
	ids := make([]string, len(found))
	for i, app := range found {
		ids[i] = app.AppID
	}
	return application{}, fail(exitUsage, "name it by its application id: "+strings.Join(ids, ", "), "%d applications are named %q", len(found), name)
}

type appListCmd struct {
	adminFlags
	jsonFlag
}

func (appListCmd) Help() string {
	return `Example:

    tabard app list` + appWords
}

func (c *appListCmd) Run(ctx context.Context, s *stdio) error {
	a, err := c.open(s)
	if err != nil {
		return err
	}
	apps, err := a.applications(ctx)
	if err != nil {
		return err
	}
	return s.print(c.JSON, map[string]any{"value": apps}, func(w io.Writer) {
		row(w, "NAME", "APPLICATION ID", "VERSION", "IDENTIFIER URIS")
		for _, app := range apps {
			row(w, app.DisplayName, app.AppID, fmt.Sprint(app.TokenVersion), orDash(strings.Join(app.IdentifierURIs, " ")))
		}
	})
}

type appShowCmd struct {
	adminFlags
	jsonFlag
	App string `arg:"" help:"Display name, application id, object id or identifier URI."`
}

func (appShowCmd) Help() string {
	return `Example:

    tabard app show api://orders` + appWords
}

func (c *appShowCmd) Run(ctx context.Context, s *stdio) error {
	a, err := c.open(s)
	if err != nil {
		return err
	}
	app, err := a.application(ctx, c.App)
	if err != nil {
		return err
	}
	return printApplication(s, c.JSON, app)
}

type appDeleteCmd struct {
	adminFlags
	App string `arg:"" help:"Display name, application id, object id or identifier URI."`
}

func (appDeleteCmd) Help() string {
	return `Its service principal goes with it. Handlers that name it as their audience get no more events: no token can be issued for them.

Example:

    tabard app delete orders` + appWords
}

func (c *appDeleteCmd) Run(ctx context.Context, s *stdio) error {
	a, err := c.open(s)
	if err != nil {
		return err
	}
	app, err := a.application(ctx, c.App)
	if err != nil {
		return err
	}
	if _, err := a.call(ctx, http.MethodDelete, "/v1.0/applications/"+url.PathEscape(app.ObjectID), nil, nil, nil); err != nil {
		return err
	}
	s.note("application %s (%s) is deleted", app.DisplayName, app.AppID)
	return nil
}
