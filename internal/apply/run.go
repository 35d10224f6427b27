package apply

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"tabard/internal/template"
)

// Options of [Run].
type Options struct {
	Service Service
	// Subscription and Tenant are the service's; Group is the resource group of resources that name none.
	Subscription, Tenant, Group string
	// Set names what Prune looks at: resources that an apply of this set created. Default "default".
	Set string
	// Prune deletes what an apply of the set created and no file names any more.
	Prune bool
	// DryRun reads and compares and changes nothing.
	DryRun bool
	// Getenv looks up what {valueFrom: {env: NAME}} names.
	Getenv func(name string) (string, bool)
}

// What is done with a resource.
const (
	Create    = "create"
	Update    = "update"
	Unchanged = "unchanged"
	Delete    = "delete"
	Failed    = "failed"
	Skipped   = "skipped" // what it needs has failed
)

// A Change is what was done, or in a dry run would be done, with one resource.
type Change struct {
	Action   string       `json:"action"`
	ID       string       `json:"id"`
	Type     string       `json:"type"`
	Name     string       `json:"name"`
	Where    string       `json:"where,omitempty"` // file:line
	Diff     []Difference `json:"diff,omitempty"`
	Warnings []string     `json:"warnings,omitempty"`
	Error    string       `json:"error,omitempty"`
	Refused  bool         `json:"refused,omitempty"` // by the service, not by the way there
}

// A Result is all changes in the order in which they were made.
type Result struct {
	DryRun  bool     `json:"dryRun"`
	Changes []Change `json:"changes"`
}

// Count counts changes of an action.
func (r *Result) Count(action string) (n int) {
	for _, c := range r.Changes {
		if c.Action == action {
			n++
		}
	}
	return n
}

// ranks order resources that do not need each other, by type in lower case: what is named by others comes first.
var ranks = map[string]int{
	"microsoft.resources/resourcegroups":                                            0,
	"microsoft.managedidentity/userassignedidentities":                              10,
	"microsoft.managedidentity/userassignedidentities/federatedidentitycredentials": 11,
	"microsoft.graph/applications":                                                  20,
	"microsoft.graph/applications/federatedidentitycredentials":                     21,
	"microsoft.graph/serviceprincipals":                                             22,
	"microsoft.keyvault/vaults":                                                     30,
	"microsoft.keyvault/vaults/accesspolicies":                                      31,
	"microsoft.keyvault/vaults/secrets":                                             40,
	"microsoft.signalrservice/webpubsub":                                            50,
	"microsoft.signalrservice/webpubsub/customcertificates":                         51,
	"microsoft.signalrservice/webpubsub/customdomains":                              52,
	"microsoft.signalrservice/webpubsub/sharedprivatelinkresources":                 53,
	"microsoft.signalrservice/webpubsub/hubs":                                       60,
	"microsoft.authorization/roleassignments":                                       80,
}

const otherRank = 65

func rank(r *template.Resource) int {
	if n, ok := ranks[strings.ToLower(r.Type)]; ok {
		return n
	}
	return otherRank
}

// order puts resources behind those that they need.
func order(ctx context.Context, set *template.Set) (sorted []*template.Resource, needs map[*template.Resource][]*template.Resource, err error) {
	needs = map[*template.Resource][]*template.Resource{}
	var errs []error
	for _, r := range set.Resources {
		list, err := r.Needs(ctx)
		if err != nil {
			errs = append(errs, err)
		}
		principals := r.Members(ctx, "principal")
		for _, other := range set.Resources {
			if other != r && namesPrincipal(r, principals, other) && !slices.Contains(list, other) {
				list = append(list, other)
			}
		}
		needs[r] = list
	}
	if len(errs) > 0 {
		return nil, nil, errors.Join(errs...)
	}
	waiting := slices.Clone(set.Resources)
	slices.SortStableFunc(waiting, func(a, b *template.Resource) int { return cmp.Compare(rank(a), rank(b)) })
	placed := map[*template.Resource]bool{}
	for len(waiting) > 0 {
		i := slices.IndexFunc(waiting, func(r *template.Resource) bool {
			return !slices.ContainsFunc(needs[r], func(n *template.Resource) bool { return !placed[n] })
		})
		if i < 0 {
			var names []string
			for _, r := range waiting {
				names = append(names, r.Name+" ("+r.Pos.String()+")")
			}
			return nil, nil, fmt.Errorf("these resources need each other in a circle: %s", strings.Join(names, ", "))
		}
		placed[waiting[i]] = true
		sorted, waiting = append(sorted, waiting[i]), slices.Delete(waiting, i, i+1)
	}
	return sorted, needs, nil
}

// A runner applies one set.
type runner struct {
	Options
	client client
	state  state
	made   []Owned // what this run created
}

// Run applies the set. A resource that fails does not keep others from being applied, but for those that need it. The
// error is about the set as a whole: then nothing was done.
func Run(ctx context.Context, set *template.Set, opt Options) (*Result, error) {
	if opt.Set == "" {
		opt.Set = "default"
	}
	r := &runner{Options: opt, client: client{opt.Service}, state: state{client{opt.Service}}}
	sorted, needs, err := order(ctx, set)
	if err != nil {
		return nil, err
	}
	before, err := r.inventory(ctx)
	if err != nil {
		return nil, err
	}
	result := &Result{DryRun: opt.DryRun, Changes: []Change{}}
	failed := map[*template.Resource]bool{}
	for _, res := range sorted {
		c := Change{ID: res.ID, Type: res.Type, Name: res.Name, Where: res.Pos.String()}
		if i := slices.IndexFunc(needs[res], func(n *template.Resource) bool { return failed[n] }); i >= 0 {
			c.Action, c.Error = Skipped, "it needs "+needs[res][i].Name+", which failed"
		} else if err := r.one(ctx, res, &c); err != nil {
			if ctx.Err() != nil {
				return result, errors.Join(ctx.Err(), r.remember(context.WithoutCancel(ctx), before))
			}
			var refused *RefusedError
			c.Action, c.Error, c.Refused = Failed, err.Error(), errors.As(err, &refused)
		}
		failed[res] = c.Action == Failed || c.Action == Skipped
		result.Changes = append(result.Changes, c)
	}
	if opt.Prune {
		// What failed may be what would have made it needed: nothing is deleted then.
		if result.Count(Failed)+result.Count(Skipped) == 0 {
			result.Changes = append(result.Changes, r.prune(ctx, &before, set)...)
		}
	}
	return result, r.remember(ctx, before)
}

// one brings one resource to what it should be.
func (r *runner) one(ctx context.Context, res *template.Resource, c *Change) error {
	body, err := res.Body(ctx, r.state)
	if err != nil {
		return err
	}
	k := r.kindOf(res)
	wanted, err := k.prepare(ctx, body)
	if err != nil {
		return err
	}
	current, err := k.read(ctx)
	if err != nil {
		return err
	}
	c.Diff = k.compare(wanted, current)
	switch {
	case current == nil:
		c.Action = Create
	case len(c.Diff) == 0:
		c.Action = Unchanged
		return nil
	default:
		c.Action = Update
	}
	if r.DryRun {
		return nil
	}
	if u, ok := template.FindUnknown(wanted); ok {
		return fmt.Errorf("a value is not known: %s", u)
	}
	c.Warnings, err = k.write(ctx, wanted, current)
	if err != nil {
		return err
	}
	if current == nil {
		owned := Owned{ID: res.ID}
		if owned.Path, owned.Vault, err = k.place(ctx); err != nil {
			return err
		}
		r.made = append(r.made, owned)
	}
	return nil
}
