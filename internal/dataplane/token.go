package dataplane

import (
	"errors"
	"math"
	"strings"
	"time"

	"tabard/internal/access"
	"tabard/internal/hub"
)

// generateToken signs a client access token for the caller. SDKs ask for it when they hold a token of the directory
// and no access key; a caller with an access key gets one as well. The token counts only as long as the caller's key,
// or its role.
func (c *call) generateToken() answer {
	user, _, refused := c.once("userId")
	if refused != nil {
		return *refused
	}
	minutes, refused := c.integer("minutesToExpire", int64(access.DefaultLifetime/time.Minute), 1, math.MaxInt32)
	if refused != nil {
		return *refused
	}
	groups := c.params("group")
	for _, g := range groups {
		if !hub.ValidGroup(g) {
			return badRequest("Invalid group: every group must be a valid group name.")
		}
	}
	kind := ""
	clientType, given, refused := c.once("clientType")
	switch {
	case refused != nil:
		return *refused
	case !given || strings.EqualFold(clientType, "Default"):
	case strings.EqualFold(clientType, "MQTT"):
		kind = "mqtt"
	default:
		return badRequest("Invalid clientType: it must be Default or MQTT.")
	}
	now := time.Now()
	token, err := c.opt.Access.SignFor(c.instance, c.caller, access.ClientTokenOptions{
		Audience: access.ClientAudience(c.opt.Origin(c.r), strings.ToLower(c.hubName), kind),
		UserID:   user, Roles: c.params("role"), Groups: groups,
		Issued: now, Expires: time.Unix(now.Unix()+60*minutes, 0), // beyond what a time.Duration holds
	})
	switch {
	case errors.Is(err, access.ErrNoKey):
		return nothingToSignWith()
	case err != nil:
		c.opt.Log.Error("client token not signed", "hub", c.hubName, "err", err)
		return internalError()
	case len(token) > access.MaxToken:
		return badRequest("The token would be larger than %d bytes.", access.MaxToken)
	}
	return jsonAnswer(struct {
		Token string `json:"token"`
	}{token})
}
