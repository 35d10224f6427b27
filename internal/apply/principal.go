package apply

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"

	"tabard/internal/template"
)

// A principal is named in files by what it is: {instance: NAME}, {identity: NAME} or {application: NAME}. A name may be
// an id too; a bare one is looked for in the resource's own group.

const (
	instanceType = "Microsoft.SignalRService/webPubSub"
	identityType = "Microsoft.ManagedIdentity/userAssignedIdentities"
)

// principalResource is the ARM id that a name stands for.
func principalResource(kind, name, subscription, group string) string {
	if strings.HasPrefix(name, "/") {
		return name
	}
	return "/subscriptions/" + subscription + "/resourceGroups/" + group + "/providers/" + kind + "/" + name
}

// namesPrincipal tells whether a resource that has these values of "principal" names another one as a principal.
func namesPrincipal(r *template.Resource, principals []any, other *template.Resource) bool {
	for _, v := range principals {
		p := object(v)
		for member, kind := range map[string]string{"instance": instanceType, "identity": identityType, "application": "Microsoft.Graph/applications"} {
			name := text(get(p, member))
			if name == "" {
				continue
			}
			if strings.EqualFold(other.Type, kind) && (strings.EqualFold(other.Name, name) || strings.EqualFold(other.ID, name)) {
				return true
			}
			if member == "application" && strings.EqualFold(other.Type, "Microsoft.Graph/servicePrincipals") && strings.EqualFold(other.Name, name) {
				return true
			}
		}
	}
	return strings.EqualFold(r.Type, "Microsoft.Graph/servicePrincipals") && strings.EqualFold(other.Type, "Microsoft.Graph/applications")
}

// replacePrincipal puts the object id of a named principal in place of its name.
func (k *armKind) replacePrincipal(ctx context.Context, o map[string]any, member string) error {
	named := object(get(o, "principal"))
	if named == nil {
		return nil
	}
	if get(o, member) != nil {
		return fmt.Errorf("give principal or %s, not both", member)
	}
	id, err := k.principal(ctx, named)
	if err != nil {
		return fmt.Errorf("principal: %w", err)
	}
	drop(o, "principal")
	o[member] = id
	return nil
}

// principal finds the object id of a principal, or what it is known after.
func (k *armKind) principal(ctx context.Context, named map[string]any) (any, error) {
	if len(named) != 1 {
		return nil, errors.New("give one of instance, identity and application")
	}
	for member, v := range named {
		name := text(v)
		if name == "" {
			return nil, fmt.Errorf("%s is not a name", member)
		}
		switch strings.ToLower(member) {
		case "instance":
			return k.instancePrincipal(ctx, principalResource(instanceType, name, k.Subscription, k.group()))
		case "identity":
			return k.identityPrincipal(ctx, principalResource(identityType, name, k.Subscription, k.group()))
		case "application":
			return k.applicationPrincipal(ctx, name)
		}
		return nil, fmt.Errorf("%q is none of instance, identity and application", member)
	}
	return nil, nil
}

// instancePrincipal is the object id of an instance's one managed identity.
func (k *armKind) instancePrincipal(ctx context.Context, id string) (any, error) {
	doc, err := k.state.Resource(ctx, id, "")
	if err != nil {
		return nil, err
	}
	for user := range object(at(doc, "identity.userAssignedIdentities")) {
		return k.identityPrincipal(ctx, user)
	}
	return k.objectID(id, doc, "identity.principalId", "has no managed identity")
}

// identityPrincipal is the object id of a user-assigned identity.
func (k *armKind) identityPrincipal(ctx context.Context, id string) (any, error) {
	doc, err := k.state.Resource(ctx, id, "")
	if err != nil {
		return nil, err
	}
	return k.objectID(id, doc, "properties.principalId", "is not there")
}

// objectID takes an object id from a resource. In a dry run it may be known only later.
func (k *armKind) objectID(id string, doc map[string]any, path, otherwise string) (any, error) {
	if found := text(at(doc, path)); found != "" {
		return found, nil
	}
	if k.DryRun {
		return template.Unknown{Of: template.ShortID(id)}, nil
	}
	return nil, fmt.Errorf("%s %s", template.ShortID(id), otherwise)
}

// applicationPrincipal is the object id of an application's service principal.
func (k *armKind) applicationPrincipal(ctx context.Context, name string) (any, error) {
	sp, err := k.directoryObject(ctx, "servicePrincipals", name)
	if err != nil {
		return nil, err
	}
	if sp != nil {
		return text(get(sp, "id")), nil
	}
	if k.DryRun {
		return template.Unknown{Of: "application " + name}, nil
	}
	return nil, fmt.Errorf("application %q has no service principal", name)
}

// directoryObject finds the one object of a collection with a display name; nil if there is none.
func (r *runner) directoryObject(ctx context.Context, collection, name string) (map[string]any, error) {
	query := map[string][]string{"$filter": {"displayName eq '" + strings.ReplaceAll(name, "'", "''") + "'"}}
	found, err := r.client.list(ctx, Request{Method: http.MethodGet, Path: "/v1.0/" + collection, Query: query})
	if err != nil {
		return nil, err
	}
	if collection == "servicePrincipals" { // managed identities have names too
		var of []map[string]any
		for _, sp := range found {
			if strings.EqualFold(text(get(sp, "servicePrincipalType")), "Application") {
				of = append(of, sp)
			}
		}
		found = of
	}
	switch len(found) {
	case 0:
		return nil, nil
	case 1:
		return found[0], nil
	}
	return nil, fmt.Errorf("there are %d %s named %q: files tell them apart by their names", len(found), collection, name)
}
