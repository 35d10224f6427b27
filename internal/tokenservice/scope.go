package tokenservice

import (
	"slices"
	"strings"
)

const defaultScope = "/.default"

// ignoredScopes come with every request of some libraries. Nothing of theirs is issued to applications.
var ignoredScopes = []string{"openid", "profile", "email", "offline_access"}

// resourceOf finds the resource that the scope of a v2 client_credentials request names (identity.md 4.2): what stands
// before "/.default", byte for byte, so that "https://x//.default" means the resource "https://x/".
func resourceOf(scope string) (string, error) {
	var scopes, resources []string
	for _, s := range strings.Fields(scope) {
		if slices.Contains(ignoredScopes, s) || slices.Contains(scopes, s) {
			continue
		}
		scopes = append(scopes, s)
		if resource, ok := strings.CutSuffix(s, defaultScope); ok {
			resources = append(resources, resource)
		} else if s == defaultScope[1:] { // the platform's own short form
			resources = append(resources, "")
		}
	}
	switch {
	case len(scopes) == 0:
		return "", refuse(codeNoResource, "The provided value for the input parameter 'scope' is not valid because it names no resource. Ask for 'api://…/.default'.")
	case len(resources) > 1:
		return "", refuse(codeManyResources, "The provided value for the input parameter 'scope' is not valid because it contains more than one resource: %.200q, %.200q.", resources[0], resources[1])
	case len(resources) == 0:
		return "", refuse(codeScopeDefault, "The provided value for scope %.200s is not valid. Client credential flows must have a scope value with /.default suffixed to the resource identifier (application ID URI).", scopes[0])
	case slices.Contains(scopes, defaultScope):
		return "", refuse(codeScopeInvalid, "The provided value for the input parameter 'scope' is not valid: there is no resource before /.default.")
	case len(scopes) > 1:
		return "", refuse(codeScopeInvalid, "The provided value for the input parameter 'scope' is not valid. The scope %.200s cannot be combined with resource-specific scopes.", resources[0]+defaultScope)
	}
	return resources[0], nil
}
