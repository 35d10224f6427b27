package hub

import (
	"errors"
	"slices"
	"strings"
	"unicode/utf8"
)

// Action is what a permission allows a client to do with a group.
type Action uint8

// The actions of the service.
const (
	JoinLeaveGroup Action = iota
	SendToGroup
	actions
)

// String returns the action's name in roles and in REST paths.
func (a Action) String() string {
	if a == JoinLeaveGroup {
		return "joinLeaveGroup"
	}
	return "sendToGroup"
}

// Limits on the roles of one connection (client protocol, section 6). What is over is ignored.
const (
	MaxPatterns      = 10   // pattern roles per action
	MaxPatternLength = 1024 // characters
	MaxPatternStars  = 5    // '*' per pattern, both of "**" counted
	MaxLiterals      = 1000 // groups named one by one, per action; also bounds grants and revocations by REST
)

// ErrTooManyPermissions is returned by [Conn.Grant] and [Conn.Revoke] for a connection that has [MaxLiterals].
var ErrTooManyPermissions = errors.New("the connection has too many permissions of its own")

// An IgnoredRole is a role that grants nothing, and why.
type IgnoredRole struct{ Role, Why string }

// permission is what a connection may do in one action. The zero value allows nothing.
type permission struct {
	all bool
	own *rules // nil: none
}

type rules struct {
	literals map[string]bool // group → granted; false: revoked, whatever else allows it
	patterns []string        // valid
}

func (p *permission) allows(group string) bool {
	if p.own == nil {
		return p.all
	}
	if granted, ok := p.own.literals[group]; ok {
		return granted
	}
	return p.all || slices.ContainsFunc(p.own.patterns, func(pat string) bool { return match(pat, group) })
}

func (p *permission) set(group string, granted bool) error {
	if p.own == nil {
		p.own = &rules{}
	}
	if p.own.literals == nil {
		p.own.literals = make(map[string]bool)
	}
	if _, known := p.own.literals[group]; !known && len(p.own.literals) >= MaxLiterals {
		return ErrTooManyPermissions
	}
	p.own.literals[group] = granted
	return nil
}

type permissions [actions]permission

// parseRoles reads roles as they come from a token or a connect handler. Roles of other families are ignored
// silently; ones that look like ours but cannot be honoured are returned.
func parseRoles(roles []string) (ps permissions, ignored []IgnoredRole) {
	for _, role := range roles {
		if why := ps.add(role); why != "" {
			ignored = append(ignored, IgnoredRole{role, why})
		}
	}
	return ps, ignored
}

func (ps *permissions) add(role string) (why string) {
	name, ok := strings.CutPrefix(role, "webpubsub.")
	if !ok {
		return ""
	}
	for a := range actions {
		rest, ok := strings.CutPrefix(name, a.String())
		if !ok {
			continue
		}
		p := &ps[a]
		switch {
		case rest == "":
			p.all = true
		case strings.HasPrefix(rest, "."):
			if group := rest[1:]; !ValidGroup(group) {
				return "not a valid group name"
			} else if p.set(group, true) != nil {
				return "more than 1000 groups named"
			}
		case strings.HasPrefix(rest, "s."):
			pat := rest[2:]
			if why := checkPattern(pat); why != "" {
				return why
			}
			if p.own == nil {
				p.own = &rules{}
			}
			if len(p.own.patterns) >= MaxPatterns {
				return "more than 10 patterns"
			}
			p.own.patterns = append(p.own.patterns, pat)
		default:
			return "unknown role"
		}
		return ""
	}
	return "unknown role"
}

// checkPattern tells what is wrong with a pattern; empty: nothing.
func checkPattern(p string) string {
	switch {
	case p == "":
		return "empty pattern"
	case !utf8.ValidString(p):
		return "pattern is not UTF-8"
	case utf8.RuneCountInString(p) > MaxPatternLength:
		return "pattern longer than 1024 characters"
	}
	stars := 0
	for i := 0; i < len(p); i++ {
		switch p[i] {
		case '*':
			stars++
		case '\\':
			i++
			if i == len(p) || !strings.ContainsRune(`\*?`, rune(p[i])) {
				return `"\" in a pattern must be followed by "\", "*" or "?"`
			}
		}
	}
	if stars > MaxPatternStars {
		return "more than five * in a pattern"
	}
	return ""
}

// match tells whether the valid pattern matches all of name: "?" is one character but ".", "*" any number of them,
// "**" any number of any characters, "\" takes the next character as it is. It tries only at positions that can
// still match, so its work is bounded by the product of the lengths.
func match(pattern, name string) bool {
	const words = (MaxGroupName*utf8.UTFMax + 64) / 64
	if len(name) >= words*64 {
		return false
	}
	var a, b [words]uint64 // bit i: the pattern so far matches name[:i]
	now, then := &a, &b
	used := len(name)/64 + 1
	now[0] = 1
	each := func(set *[words]uint64, fn func(i int)) {
		for i := range len(name) + 1 {
			if set[i/64]>>(i%64)&1 != 0 {
				fn(i)
			}
		}
	}
	for p := 0; p < len(pattern); {
		clear(then[:used])
		mark := func(i int) { then[i/64] |= 1 << (i % 64) }
		switch c := pattern[p]; {
		case c == '*':
			deep := p+1 < len(pattern) && pattern[p+1] == '*'
			p++
			if deep {
				p++
			}
			open := false
			for i := range len(name) + 1 {
				open = open && (deep || name[i-1] != '.') || now[i/64]>>(i%64)&1 != 0
				if open {
					mark(i)
				}
			}
		case c == '?':
			p++
			each(now, func(i int) {
				if i < len(name) && name[i] != '.' {
					_, n := utf8.DecodeRuneInString(name[i:])
					mark(i + n)
				}
			})
		default:
			if c == '\\' {
				p++
				c = pattern[p]
			}
			p++
			each(now, func(i int) {
				if i < len(name) && name[i] == c {
					mark(i + 1)
				}
			})
		}
		now, then = then, now
	}
	return now[len(name)/64]>>(len(name)%64)&1 != 0
}
