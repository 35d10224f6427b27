package directory

import "tabard/internal/store"

// An index is what the collections' documents say when read by other properties than their keys. It is
// immutable and made anew after each change; the directory is small and changes are rare.
type index struct {
	appByAppID map[string]string // lower-cased appId → object id
	appByURI   map[string]string // normalized identifier URI → object id

	principalByAppID map[string]string // lower-cased appId → object id
	managed          map[managedKey]string

	identityByID map[string]string // ARM id of a user-assigned identity as it is written → key; a look-up by it costs nothing

	assignments map[assignmentKey]AppRoleAssignment
	// roles are the values granted, by principal and resource; an entry without values is default access.
	roles map[pair][]string
}

type managedKey struct {
	resource string // lower-cased ARM id
	explicit bool
}

type pair struct{ principal, resource string }

type assignmentKey struct {
	pair
	role string
}

// reindex derives the index from the collections' snapshots and tells the listeners.
func (d *Directory) reindex() {
	d.mu.Lock() // two collections may have changed at once: the later index must not be replaced by the earlier
	defer d.mu.Unlock()
	d.index.Store(d.derive())
	for _, fn := range d.listeners {
		fn()
	}
}

func (d *Directory) derive() *index {
	apps, principals, identities := d.applications.All(), d.principals.All(), d.identities.All()
	x := &index{
		appByAppID:       make(map[string]string, len(apps)),
		appByURI:         make(map[string]string, len(apps)),
		principalByAppID: make(map[string]string, len(principals)),
		managed:          map[managedKey]string{},
		identityByID:     make(map[string]string, len(identities)),
		assignments:      map[assignmentKey]AppRoleAssignment{},
		roles:            map[pair][]string{},
	}
	for id, item := range apps {
		x.appByAppID[item.Value.AppID] = id
		for _, uri := range item.Value.IdentifierURIs {
			key := normalizeURI(uri)
			// Two processes may have registered the same URI at the same moment. All must then agree on whose it is.
			if other, taken := x.appByURI[key]; !taken || older(item, apps[other]) {
				x.appByURI[key] = id
			}
		}
	}
	for id, item := range principals {
		x.principalByAppID[item.Value.AppID] = id
		if resource, explicit, ok := item.Value.ManagedIdentity(); ok {
			x.managed[managedKey{lower(resource), explicit}] = id
		}
	}
	for key, item := range identities {
		x.identityByID[item.Value.ID] = key
	}
	for _, item := range d.assignments.All() {
		a := item.Value
		resource, ok := principals[a.ResourceID]
		if _, alive := principals[a.PrincipalID]; !ok || !alive {
			continue // one of the two is being deleted
		}
		key := pair{a.PrincipalID, a.ResourceID}
		x.assignments[assignmentKey{key, a.AppRoleID}] = a
		values := x.roles[key]
		if app, ok := apps[x.appByAppID[resource.Value.AppID]]; ok {
			if role, ok := app.Value.role(a.AppRoleID); ok && role.IsEnabled && role.Value != "" {
				values = append(values, role.Value)
			}
		}
		x.roles[key] = values
	}
	return x
}

func older(a, b store.Item[Application]) bool {
	if !a.Value.CreatedDateTime.Equal(b.Value.CreatedDateTime) {
		return a.Value.CreatedDateTime.Before(b.Value.CreatedDateTime)
	}
	return a.Value.ID < b.Value.ID
}
