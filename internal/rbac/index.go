package rbac

import "strings"

// An index is all assignments, made ready for questions. It never changes.
type index struct {
	byID        map[string]Assignment
	byPrincipal map[string][]grant
}

// A grant is what one assignment gives to its principal.
type grant struct {
	scope string // folded
	role  *role
}

func (r *RBAC) reindex() {
	r.mu.Lock()
	defer r.mu.Unlock()
	all := r.assignments.All()
	x := &index{byID: make(map[string]Assignment, len(all)), byPrincipal: make(map[string][]grant)}
	for _, item := range all {
		a := item.Value
		x.byID[a.ID] = a
		if role, ok := byID[a.RoleID]; ok { // a role that only a newer version knows gives nothing here
			x.byPrincipal[a.PrincipalID] = append(x.byPrincipal[a.PrincipalID], grant{foldScope(a.Scope), role})
		}
	}
	r.index.Store(x)
	for _, fn := range r.listeners {
		fn()
	}
}

// Allowed tells whether the principal may do an action ("Microsoft.SignalRService/WebPubSub/hub/send/action") at a
// scope (an ARM id), because a role that has the action is assigned to it there or above. data tells data actions from
// those of the control plane. It takes no lock, does no I/O and allocates nothing for a lower-case principalID.
func (r *RBAC) Allowed(principalID, scope, action string, data bool) bool {
	for _, g := range r.index.Load().byPrincipal[strings.ToLower(principalID)] {
		if covers(g.scope, scope) && g.role.allows(action, data) {
			return true
		}
	}
	return false
}

// Known tells whether any role is assigned to the principal, anywhere.
func (r *RBAC) Known(principalID string) bool {
	return len(r.index.Load().byPrincipal[strings.ToLower(principalID)]) > 0
}
