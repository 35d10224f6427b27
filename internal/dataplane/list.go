package dataplane

import (
	"crypto/sha256"
	"encoding/base64"
	"math"
	"net/url"
	"strconv"
	"strings"
)

// MaxPageSize is the largest, and the default, number of members in a page.
const MaxPageSize = 200

type groupMember struct {
	ConnectionID string `json:"connectionId"`
	UserID       string `json:"userId,omitempty"`
}

type groupMemberPage struct {
	Value    []groupMember `json:"value"`
	NextLink string        `json:"nextLink,omitempty"`
}

// listGroup answers one page of a group's members in the order of their connection ids, so that a member that is
// there all the time is seen exactly once, whatever comes and goes between the pages.
func (c *call) listGroup() answer {
	size, refused := c.integer("maxpagesize", MaxPageSize, 1, MaxPageSize)
	if refused != nil {
		return *refused
	}
	top, refused := c.integer("top", math.MaxInt64, 1, math.MaxInt32)
	if refused != nil {
		return *refused
	}
	after := ""
	token, given, refused := c.once("continuationToken")
	if refused != nil {
		return *refused
	}
	if given {
		var ok bool
		if after, ok = c.position(token); !ok {
			return badRequest("Invalid continuationToken.")
		}
	}

	take := min(size, top)
	members := c.hub.GroupConnections(c.group, after, int(take)+1) // one more tells whether there is more
	page := groupMemberPage{Value: make([]groupMember, 0, take)}
	for _, m := range members[:min(len(members), int(take))] {
		page.Value = append(page.Value, groupMember(m))
	}
	if len(members) > int(take) && top > take {
		page.NextLink = c.nextLink(page.Value[take-1].ConnectionID, size, top, take)
	}
	return jsonAnswer(page)
}

// nextLink is absolute and complete: SDKs follow it as it is and sign a new token for it.
func (c *call) nextLink(last string, size, top, taken int64) string {
	version := Version
	if v, n := c.param("api-version"); n > 0 {
		version = v
	}
	q := url.Values{
		"api-version":       {version},
		"maxpagesize":       {strconv.FormatInt(size, 10)},
		"continuationToken": {c.continuation(last)},
	}
	if top != math.MaxInt64 {
		q.Set("top", strconv.FormatInt(top-taken, 10))
	}
	return c.opt.Origin(c.r) + c.r.URL.EscapedPath() + "?" + q.Encode()
}

const positionCheck = 8 // bytes before the id in a continuation token

// continuation is the position behind a connection id, bound to the group so that a token from elsewhere, or one
// that was cut, is recognized. It is no secret.
func (c *call) continuation(id string) string {
	return base64.RawURLEncoding.EncodeToString(append(c.checkOf(id), id...))
}

func (c *call) position(token string) (id string, ok bool) {
	b, err := base64.RawURLEncoding.DecodeString(token)
	if err != nil || len(b) <= positionCheck {
		return "", false
	}
	id = string(b[positionCheck:])
	return id, string(b[:positionCheck]) == string(c.checkOf(id))
}

func (c *call) checkOf(id string) []byte {
	sum := sha256.Sum256([]byte(strings.ToLower(c.instance.Name+"\x00"+c.hubName) + "\x00" + c.group + "\x00" + id))
	return sum[:positionCheck]
}
