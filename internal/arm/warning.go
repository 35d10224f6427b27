package arm

import (
	"fmt"
	"maps"
	"slices"

	"tabard/guard/reason"
	"tabard/internal/settings"
)

// warnings says what about an instance was accepted, but will not do what one would think.
func (s *server) warnings(in *settings.Instance) []string {
	warnings := inert("properties", in.Inert)
	for _, h := range in.SortedHubs() {
		warnings = append(warnings, s.handlerWarnings(in, h, "hub "+h.Name+": ")...)
	}
	return warnings
}

// handlerWarnings names the handlers whose events will fail, or carry a token that they cannot verify. Each warning
// ends in the reason code that the trace will show.
func (s *server) handlerWarnings(in *settings.Instance, h *settings.Hub, prefix string) []string {
	var warnings []string
	for i, e := range h.EventHandlers {
		if !e.UsesManagedIdentity() {
			continue
		}
		at := fmt.Sprintf("%sproperties.eventHandlers[%d].auth", prefix, i)
		if problem := s.identityProblem(in); problem != "" {
			warnings = append(warnings, fmt.Sprintf("%s uses the managed identity, but %s: its events fail until one is assigned (%s)", at, problem, reason.IdentityMissing))
		}
		if e.Resource() == "" {
			warnings = append(warnings, fmt.Sprintf("%s.managedIdentity.resource is empty: the token is for Microsoft Graph and the handler cannot verify it; name the handler's application (%s)", at, reason.AudienceEmpty))
		}
	}
	return warnings
}

// identityProblem says why an instance cannot obtain tokens, or "".
func (s *server) identityProblem(in *settings.Instance) string {
	if in.Source() != nil { // another issuer knows who it is
		return ""
	}
	switch in.Identity.Type {
	case settings.IdentitySystemAssigned:
		return ""
	case settings.IdentityUserAssigned:
		if _, ok := s.Directory.UserAssignedIdentity(in.Identity.UserAssigned); !ok {
			return "the identity that is assigned to the instance was deleted"
		}
		return ""
	}
	return "the instance has none"
}

// inert names properties that are stored and returned without effect: some look like protection.
func inert[T any](at string, properties map[string]T) []string {
	var warnings []string
	for _, name := range slices.Sorted(maps.Keys(properties)) {
		warnings = append(warnings, fmt.Sprintf("%s.%s is stored and returned, but has no effect", at, name))
	}
	return warnings
}
