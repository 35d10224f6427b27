package settings

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"tabard/internal/store"
)

// MaxGroups is Azure's own limit for one subscription.
const MaxGroups = 980

// A Group is a resource group: a name, a location and tags, under which resources lie. It does not hold them: whoever
// deletes a group deletes what lies in it first.
type Group struct {
	Name           string            `json:"name"` // as created; compared ignoring case
	SubscriptionID string            `json:"subscriptionId"`
	Location       string            `json:"location,omitempty"` // empty: nobody has chosen one
	Tags           map[string]string `json:"tags,omitempty"`
}

// groupKey is where a group is stored.
func groupKey(subscription, name string) string {
	return strings.ToLower(subscription) + "/" + strings.ToLower(name)
}

// Group finds a resource group by name, ignoring case.
func (s *Settings) Group(subscription, name string) (Group, bool) {
	item, ok := s.groups.Get(groupKey(subscription, name))
	return item.Value, ok
}

// Groups lists the resource groups of a subscription by name; of all, if it is empty.
func (s *Settings) Groups(subscription string) []Group {
	var list []Group
	for item := range maps.Values(s.groups.All()) {
		if subscription == "" || strings.EqualFold(item.Value.SubscriptionID, subscription) {
			list = append(list, item.Value)
		}
	}
	slices.SortFunc(list, func(a, b Group) int { return cmp.Compare(strings.ToLower(a.Name), strings.ToLower(b.Name)) })
	return list
}

// PutGroup creates a resource group or edits a copy of the one that is there, whose name and location stay, and tells
// whether it is new. edit begins with a new group's name, subscription and no location. Errors are those of edit,
// [Faults], and ErrConflict after many tries.
func (s *Settings) PutGroup(ctx context.Context, subscription, name string, edit func(*Group) error) (group Group, created bool, err error) {
	key := groupKey(subscription, name)
	for range maxTries {
		item, ok := s.groups.Get(key)
		group = item.Value
		group.Tags = maps.Clone(group.Tags)
		if !ok {
			group = Group{Name: name, SubscriptionID: strings.ToLower(subscription)}
		}
		if err := edit(&group); err != nil {
			return Group{}, false, err
		}
		if err := group.check(ok, &item.Value, len(s.groups.All())); err != nil {
			return Group{}, false, err
		}
		if ok {
			_, err = s.groups.Update(ctx, key, group, item.Revision)
		} else {
			_, err = s.groups.Create(ctx, key, group)
		}
		switch {
		case err == nil:
			return group, !ok, nil
		case !errors.Is(err, store.ErrConflict) && !errors.Is(err, store.ErrExists) && !errors.Is(err, store.ErrNotFound):
			return Group{}, false, translate(err)
		}
		if err := ctx.Err(); err != nil {
			return Group{}, false, err
		}
	}
	return Group{}, false, ErrConflict
}

func (g *Group) check(exists bool, old *Group, count int) error {
	var f Faults
	if len(g.Location) > 90 {
		f.add("location", "is longer than 90 characters")
	}
	checkTags(&f, g.Tags)
	if exists && old.Location != "" && g.Location != old.Location {
		f.add("location", "cannot be changed from %q to %q", old.Location, g.Location)
	}
	if !exists && count >= MaxGroups {
		f.add("name", "%q would be one group more than the %d that can be", g.Name, MaxGroups)
	}
	if len(f) > 0 {
		return f
	}
	return nil
}

// DeleteGroup forgets a resource group. ErrNotFound when it is not there.
func (s *Settings) DeleteGroup(ctx context.Context, subscription, name string) error {
	if err := s.groups.Delete(ctx, groupKey(subscription, name), 0); err != nil {
		return fmt.Errorf("resource group %s: %w", name, translate(err))
	}
	return nil
}
