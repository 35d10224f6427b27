package tabard

import (
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"tabard/guard"
	"tabard/guard/reason"
	"tabard/internal/arm"
)

// authorize lets a request to the control plane in: with the admin token, which may do everything, or with an access
// token for Azure Resource Manager of a principal whose roles allow the action at the path's scope or above. The
// directory's own routes (Graph's) need what only an Owner of the subscription has, since whoever registers
// applications and identities can become any of them.
func (s *Server) authorize(r *http.Request) error {
	err := s.judge(r)
	var refused *arm.Refusal
	if errors.As(err, &refused) && refused.Status == http.StatusForbidden {
		s.log.Info("control-plane caller refused", "code", reason.RoleUnassigned, "why", refused.Message)
	}
	return err
}

// judge is authorize without a word in the log.
func (s *Server) judge(r *http.Request) error {
	if err := s.admin.authorize(r); err == nil {
		return nil
	}
	token, ok := accessToken(r)
	if !ok {
		return errAdminToken
	}
	claims, err := s.control.verify(r.Context(), token)
	if err != nil {
		return s.badControlToken(err)
	}
	scope, action := s.asked(r)
	if action != "" && (s.may(claims.TenantID, claims.ObjectID, scope, action, false) || s.isIntroduction(claims, scope, action)) {
		return nil
	}
	return &arm.Refusal{Status: http.StatusForbidden, Message: fmt.Sprintf(
		"The client '%s' with object id '%s' does not have authorization to perform action '%s' over scope '%s' or the scope is invalid. A role that was assigned just now counts at once.",
		claims.AppID, claims.ObjectID, action, scope)}
}

// caller is the object id of the principal whose request authorize let in, empty for the holder of the admin token.
func (s *Server) caller(r *http.Request) string { return s.auditCaller(r, s.control).ObjectID }

// accessToken is the request's one credential, if that has the form of an access token.
func accessToken(r *http.Request) (token string, ok bool) {
	scheme, token, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	return token, len(r.Header.Values("Authorization")) == 1 && strings.EqualFold(scheme, "Bearer") && strings.Count(token, ".") == 2
}

// badControlToken is the answer to a token that does not hold.
func (s *Server) badControlToken(err error) error {
	var why *guard.Error
	if !errors.As(err, &why) {
		return errAdminToken
	}
	s.log.Info("control-plane token refused", "code", why.Code, "error", why)
	if why.Status == http.StatusUnauthorized {
		return fmt.Errorf("the access token was refused: %s", why.Message)
	}
	return &arm.Refusal{Status: why.Status, Message: "The access token was refused: " + why.Message + "."}
}

// asked tells which action a request is and at which scope; an empty action is one that nobody has.
func (s *Server) asked(r *http.Request) (scope, action string) {
	segments, ok := pathSegments(r.URL.EscapedPath())
	switch {
	case !ok:
		return "/", ""
	case strings.EqualFold(segments[0], "v1.0"):
		return "/subscriptions/" + s.service.SubscriptionID, "Microsoft.Authorization/roleAssignments/write"
	case len(segments) == 1 && segments[0] == "metrics":
		return "/subscriptions/" + s.service.SubscriptionID, metricsRead
	}
	return armAction(r.Method, segments)
}

// introductions are what every principal with any role may ask outside subscriptions: clients learn from it where
// their resources are. They are the same for everybody.
var introductions = []string{
	"Microsoft.Resources/tenants/read", "Microsoft.Resources/subscriptions/read", "Microsoft.Resources/providers/read",
	"Microsoft.Authorization/roleDefinitions/read", "Microsoft.SignalRService/operations/read", "Microsoft.ManagedIdentity/operations/read",
}

func (s *Server) isIntroduction(c *guard.Claims, scope, action string) bool {
	return !strings.HasPrefix(strings.ToLower(scope), "/subscriptions/") && s.stands(c.TenantID, c.ObjectID) && s.rbac.Known(c.ObjectID) &&
		slices.ContainsFunc(introductions, func(a string) bool { return strings.EqualFold(a, action) })
}

// pathSegments cuts an escaped path as arm does: slashes in front are ignored and one at the end. A path with an empty
// segment, or with a slash or a percent sign within one, is no resource's.
func pathSegments(escaped string) (segments []string, ok bool) {
	segments = strings.Split(strings.TrimSuffix(strings.TrimLeft(escaped, "/"), "/"), "/")
	for i, segment := range segments {
		var err error
		if segments[i], err = url.PathUnescape(segment); err != nil || segments[i] == "" || strings.ContainsAny(segments[i], "/%") {
			return nil, false
		}
	}
	return segments, true
}

// armAction reads scope and action from a path of Azure Resource Manager, whose form says both: pairs of type and
// name make the scope, the types make the action's name, the method its end. A type without a name behind it is a
// list, or the verb of a POST; neither is part of the scope.
func armAction(method string, segments []string) (scope, action string) {
	kind, prefix := "Microsoft.Resources", ""
	for len(segments) > 0 {
		switch {
		case strings.EqualFold(segments[0], "providers") && len(segments) > 2:
			kind, prefix, segments = segments[1], "/"+segments[0]+"/"+segments[1], segments[2:]
		case strings.EqualFold(segments[0], "providers"): // the providers themselves
			kind, segments = kind+"/providers", nil
		case len(segments) == 1:
			kind, segments = kind+"/"+segments[0], nil
		default:
			kind += "/" + segments[0]
			scope += prefix + "/" + segments[0] + "/" + segments[1]
			prefix, segments = "", segments[2:]
		}
	}
	if scope == "" {
		scope = "/"
	}
	switch method {
	case http.MethodGet, http.MethodHead:
		return scope, kind + "/read"
	case http.MethodPut, http.MethodPatch:
		return scope, kind + "/write"
	case http.MethodDelete:
		return scope, kind + "/delete"
	}
	return scope, kind + "/action"
}
