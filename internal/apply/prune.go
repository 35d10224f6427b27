package apply

import (
	"context"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"tabard/internal/template"
)

// Owned is a resource that an apply created, and where it is deleted.
type Owned struct {
	ID    string `json:"id"`
	Path  string `json:"path"`            // escaped
	Vault string `json:"vault,omitempty"` // whose secret it is
}

// An Inventory is what the applies of one set have created. The service keeps it, so that any machine can prune.
type Inventory struct {
	Resources []Owned `json:"resources"`
	ETag      string  `json:"etag,omitempty"`
}

// InventoryPath is where the service keeps inventories.
const InventoryPath = "/tabard/v1/applySets/"

func (r *runner) inventory(ctx context.Context) (inv Inventory, err error) {
	doc, err := r.client.object(ctx, Request{Method: http.MethodGet, Path: InventoryPath + url.PathEscape(r.Set)})
	if err != nil {
		return inv, err
	}
	inv.ETag = text(get(doc, "etag"))
	for _, item := range items(get(doc, "resources")) {
		o := object(item)
		inv.Resources = append(inv.Resources, Owned{text(get(o, "id")), text(get(o, "path")), text(get(o, "vault"))})
	}
	return inv, nil
}

// remember adds what was created to the inventory. Nothing is written if nothing changed.
func (r *runner) remember(ctx context.Context, before Inventory) error {
	now := Inventory{ETag: before.ETag}
	now.Resources = slices.DeleteFunc(slices.Clone(before.Resources), func(o Owned) bool { return o.Path == "" })
	changed := len(now.Resources) < len(before.Resources)
	for _, o := range r.made {
		if o.Path == "" {
			continue
		}
		now.Resources = slices.DeleteFunc(now.Resources, func(old Owned) bool { return strings.EqualFold(old.ID, o.ID) })
		now.Resources = append(now.Resources, o)
		changed = true
	}
	if !changed || r.DryRun {
		return nil
	}
	_, err := r.client.send(ctx, Request{Method: http.MethodPut, Path: InventoryPath + url.PathEscape(r.Set), Body: now})
	return err
}

// prune deletes what applies of the set created and the files do not name any more, the newest first. Entries that are
// gone lose their path, by which remember knows.
func (r *runner) prune(ctx context.Context, inv *Inventory, set *template.Set) (changes []Change) {
	named := map[string]bool{}
	for _, res := range set.Resources {
		named[strings.ToLower(res.ID)] = true
	}
	for i := len(inv.Resources) - 1; i >= 0; i-- {
		o := &inv.Resources[i]
		if named[strings.ToLower(o.ID)] {
			continue
		}
		kind, _ := template.SplitID(o.ID)
		c := Change{Action: Delete, ID: o.ID, Name: o.ID[strings.LastIndexByte(o.ID, '/')+1:], Type: kind}
		request := Request{Method: http.MethodGet, Path: o.Path, Vault: o.Vault, Query: versionFor(o.ID, "")}
		switch {
		case o.Vault != "":
			request.Query = url.Values{"api-version": {secretsVersion}}
		case strings.HasPrefix(o.Path, "/v1.0/"):
			request.Query = nil
		}
		there, err := r.client.Do(ctx, request)
		if err == nil && there.Status == http.StatusNotFound {
			if !r.DryRun {
				o.Path = ""
			}
			continue
		}
		if err == nil && !r.DryRun {
			request.Method = http.MethodDelete
			_, err = r.client.send(ctx, request)
		}
		if err != nil {
			c.Action, c.Error = Failed, err.Error()
		} else if !r.DryRun {
			o.Path = ""
		}
		changes = append(changes, c)
	}
	return changes
}
