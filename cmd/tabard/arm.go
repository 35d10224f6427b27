package main

import (
	"context"
	"encoding/json"
	"net/http"
	"net/url"
	"strings"
)

// Versions of the APIs that the commands speak, as Azure's own tools of today do.
const (
	armVersion      = "2024-03-01" // Microsoft.SignalRService/webPubSub
	identityVersion = "2023-01-31" // Microsoft.ManagedIdentity
)

func apiVersion(v string) url.Values { return url.Values{"api-version": {v}} }

// An armList is one page of an ARM or Graph list.
type armList struct {
	Value    []json.RawMessage `json:"value"`
	NextLink string            `json:"nextLink,omitempty"`
	Next     string            `json:"@odata.nextLink,omitempty"`
}

// list fetches all pages. maxPages bounds a service that never ends.
func (a *admin) list(ctx context.Context, path string, query url.Values) ([]json.RawMessage, error) {
	const maxPages = 1000
	all := []json.RawMessage{}
	for range maxPages {
		var page armList
		if _, err := a.call(ctx, http.MethodGet, path, query, nil, &page); err != nil {
			return nil, err
		}
		all = append(all, page.Value...)
		next := page.NextLink + page.Next
		if next == "" {
			break
		}
		u, err := url.Parse(next)
		if err != nil {
			return nil, err
		}
		path, query = u.EscapedPath(), u.Query() // on the address that we trust, whatever host the link names
	}
	return all, nil
}

// itemsOf reads the items of a list.
func itemsOf[T any](all []json.RawMessage) ([]T, error) {
	list := make([]T, len(all))
	for i, raw := range all {
		if err := json.Unmarshal(raw, &list[i]); err != nil {
			return nil, err
		}
	}
	return list, nil
}

// subscription is the one that everything of this service lives in.
func (a *admin) subscription(ctx context.Context) (string, error) {
	if a.ready.SubscriptionID != "" {
		return a.ready.SubscriptionID, nil
	}
	var page struct {
		Value []struct {
			SubscriptionID string `json:"subscriptionId"`
		} `json:"value"`
	}
	if _, err := a.call(ctx, http.MethodGet, "/subscriptions", apiVersion("2022-12-01"), nil, &page); err != nil {
		return "", err
	}
	if len(page.Value) == 0 {
		return "", fail(exitNotFound, "", "the service shows no subscription to this token")
	}
	return page.Value[0].SubscriptionID, nil
}

// subscriptionPath is the path of a resource type over all resource groups.
func (a *admin) subscriptionPath(ctx context.Context, provider string) (string, error) {
	id, err := a.subscription(ctx)
	if err != nil {
		return "", err
	}
	return "/subscriptions/" + url.PathEscape(id) + "/providers/" + provider, nil
}

// groupPath is the path of a resource type in a resource group.
func (a *admin) groupPath(ctx context.Context, group, provider string) (string, error) {
	id, err := a.subscription(ctx)
	if err != nil {
		return "", err
	}
	return "/subscriptions/" + url.PathEscape(id) + "/resourceGroups/" + url.PathEscape(group) + "/providers/" + provider, nil
}

// isResourceID tells an ARM id from a bare name.
func isResourceID(s string) bool { return strings.HasPrefix(strings.ToLower(s), "/subscriptions/") }

// idPath is the path of a resource of which the service told the id.
func idPath(id string) string { return (&url.URL{Path: id}).EscapedPath() }

// find returns the resource with the name from a list of raw resources, comparing as ARM does, without case.
func find(resources []json.RawMessage, name string) (json.RawMessage, bool) {
	for _, raw := range resources {
		var r struct{ ID, Name string }
		if json.Unmarshal(raw, &r) == nil && (strings.EqualFold(r.Name, name) || strings.EqualFold(r.ID, name)) {
			return raw, true
		}
	}
	return nil, false
}
