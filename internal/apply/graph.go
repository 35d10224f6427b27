package apply

import (
	"context"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"strings"
)

// graphKind is an object of the directory, known by its display name: applications, their service principals and their
// federated credentials.
type graphKind struct {
	armKind
	path string // of the object, once it is known
}

func (k *graphKind) collection() string {
	types := strings.Split(k.res.Type, "/")
	switch t := strings.ToLower(strings.Join(types[1:], "/")); t {
	case "applications":
		return "applications"
	case "serviceprincipals":
		return "servicePrincipals"
	case "applications/federatedidentitycredentials":
		return "federatedIdentityCredentials"
	}
	return ""
}

// prepare brings properties, where Azure's other resources have them, to where the directory wants them.
func (k *graphKind) prepare(_ context.Context, body map[string]any) (map[string]any, error) {
	if k.collection() == "" {
		return nil, fmt.Errorf("resources of type %s are not supported; of the directory there are applications, applications/federatedIdentityCredentials and servicePrincipals", k.res.Type)
	}
	v, err := k.resolve(body)
	if err != nil {
		return nil, err
	}
	flat := maps.Clone(object(get(v.(map[string]any), "properties")))
	if flat == nil {
		flat = map[string]any{}
	}
	for name, value := range v.(map[string]any) {
		if !strings.EqualFold(name, "properties") {
			flat[name] = value
		}
	}
	drop(flat, "uniqueName")
	drop(flat, "application")
	switch k.collection() {
	case "applications":
		if get(flat, "displayName") == nil {
			flat["displayName"] = k.res.Name
		}
	case "servicePrincipals":
		drop(flat, "appId") // who it is, its name says
		drop(flat, "displayName")
	case "federatedIdentityCredentials":
		flat["name"] = k.res.Name[strings.LastIndexByte(k.res.Name, '/')+1:]
	}
	return flat, nil
}

func (k *graphKind) read(ctx context.Context) (map[string]any, error) {
	collection, name := k.collection(), k.res.Name
	if collection == "federatedIdentityCredentials" {
		return k.readFederated(ctx)
	}
	o, err := k.directoryObject(ctx, collection, name)
	if err != nil || o == nil {
		return nil, err
	}
	k.path = "/v1.0/" + collection + "/" + url.PathEscape(text(get(o, "id")))
	return o, nil
}

// parent is the path of the application that a federated credential belongs to; empty if it is not there.
func (k *graphKind) parent(ctx context.Context) (string, error) {
	app, _, _ := strings.Cut(k.res.Name, "/")
	o, err := k.directoryObject(ctx, "applications", app)
	if err != nil || o == nil {
		return "", err
	}
	return "/v1.0/applications/" + url.PathEscape(text(get(o, "id"))) + "/federatedIdentityCredentials", nil
}

func (k *graphKind) readFederated(ctx context.Context) (map[string]any, error) {
	path, err := k.parent(ctx)
	if err != nil || path == "" {
		return nil, err
	}
	list, err := k.client.list(ctx, Request{Method: http.MethodGet, Path: path})
	if err != nil {
		return nil, err
	}
	_, name, _ := strings.Cut(k.res.Name, "/")
	for _, o := range list {
		if strings.EqualFold(text(get(o, "name")), name) {
			k.path = path + "/" + url.PathEscape(text(get(o, "id")))
			return o, nil
		}
	}
	return nil, nil
}

func (k *graphKind) compare(wanted, current map[string]any) []Difference {
	c := &comparison{}
	if current == nil {
		for name, v := range wanted {
			if !isEmpty(v) {
				c.add(name, nil, v)
			}
		}
		return c.found
	}
	c.object("", wanted, current)
	return c.found
}

func (k *graphKind) write(ctx context.Context, wanted, current map[string]any) ([]string, error) {
	if current != nil {
		changed := map[string]any{}
		for _, d := range k.compare(wanted, current) {
			name, _, _ := strings.Cut(d.Path, ".")
			name, _, _ = strings.Cut(name, "[")
			changed[name] = get(wanted, name)
		}
		resp, err := k.client.send(ctx, Request{Method: http.MethodPatch, Path: k.path, Body: changed})
		if err != nil {
			return nil, err
		}
		return resp.Warnings, nil
	}
	path := "/v1.0/" + k.collection()
	switch k.collection() {
	case "servicePrincipals":
		app, err := k.directoryObject(ctx, "applications", k.res.Name)
		if err != nil {
			return nil, err
		}
		if app == nil {
			return nil, fmt.Errorf("there is no application %q for the service principal", k.res.Name)
		}
		wanted["appId"] = get(app, "appId")
	case "federatedIdentityCredentials":
		var err error
		if path, err = k.parent(ctx); err != nil {
			return nil, err
		}
		if path == "" {
			return nil, fmt.Errorf("there is no application for the federated credential %q", k.res.Name)
		}
	}
	resp, err := k.client.send(ctx, Request{Method: http.MethodPost, Path: path, Body: wanted})
	if err != nil {
		return nil, err
	}
	made, err := decode(resp.Body)
	k.path = path + "/" + url.PathEscape(text(get(made, "id")))
	return resp.Warnings, err
}

func (k *graphKind) place(context.Context) (path, vault string, err error) { return k.path, "", nil }
