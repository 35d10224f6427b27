package hub

import (
	"fmt"
	"strings"
	"testing"
)

func TestPatternsMatchAsDocumented(t *testing.T) {
	for _, test := range []struct {
		pattern  string
		yes, not []string
	}{
		{"chat-*", []string{"chat-1", "chat-room", "chat-"}, []string{"chat.1", "xchat-1", "chat-a.b"}},
		{"clientA.*", []string{"clientA.alpha", "clientA."}, []string{"clientA.alpha.room1", "clientA"}},
		{"clientA.**", []string{"clientA.alpha", "clientA.alpha.room1"}, []string{"clientB.anything"}},
		{"clientA.rooms.?1", []string{"clientA.rooms.a1", "clientA.rooms.11", "clientA.rooms.é1"}, []string{"clientA.rooms.1", "clientA.rooms.a.1", "clientA.rooms..1"}},
		{`literal\*star`, []string{"literal*star"}, []string{"literalXstar", `literal\*star`}},
		{`a\\b\?`, []string{`a\b?`}, []string{`a\b!`, `a\\b?`}},
		{"**", []string{"a", "a.b", "…"}, nil},
		{"*", []string{"a", "", "…"}, []string{".", "a.b"}},
		{"*.*", []string{".", "a.b"}, []string{"a", "a.b.c"}},
		{"**a**", []string{"a", "x.a.y", "aa"}, []string{"b", ""}},
		{"Case", []string{"Case"}, []string{"case"}},
		{"a?c", []string{"abc", "a…c", "a😀c"}, []string{"a.c", "ac", "abbc"}},
		{"*a*a*a*a*", []string{"aaaa", "xaxaxaxax"}, []string{"aaa", "a.a.a.a"}},
	} {
		if why := checkPattern(test.pattern); why != "" {
			t.Errorf("%q: %s", test.pattern, why)
		}
		for _, name := range test.yes {
			if !match(test.pattern, name) {
				t.Errorf("%q must match %q", test.pattern, name)
			}
		}
		for _, name := range test.not {
			if match(test.pattern, name) {
				t.Errorf("%q must not match %q", test.pattern, name)
			}
		}
	}
	long := strings.Repeat("a", MaxGroupName) + "b"
	if match("*a*a*a*a*", strings.Repeat("😀", MaxGroupName)) || !match("*a*a*a*b", long) {
		t.Error("long names")
	}
}

func TestPatternsThatCannotBeHonouredAreIgnored(t *testing.T) {
	for _, p := range []string{"", `a\`, `a\x`, "******", "*a**b***", strings.Repeat("a", 1025), "a\xff"} {
		if checkPattern(p) == "" {
			t.Errorf("%q must be refused", p)
		}
	}
	for _, p := range []string{"*****", `\******\*`, strings.Repeat("é", 1024)} {
		if why := checkPattern(p); why != "" {
			t.Errorf("%q: %s", p, why)
		}
	}
}

func TestRolesGiveExactlyTheirPermissions(t *testing.T) {
	tooMany := []string{}
	for i := range 11 {
		tooMany = append(tooMany, fmt.Sprintf("webpubsub.sendToGroups.p%d.*", i))
	}
	for i := range 1001 {
		tooMany = append(tooMany, fmt.Sprintf("webpubsub.joinLeaveGroup.l%d", i))
	}
	for _, test := range []struct {
		name    string
		roles   []string
		yes, no string // "action group", separated by commas
		ignored int
	}{
		{"none", nil, "", "join g,send g", 0},
		{"all joins", []string{"webpubsub.joinLeaveGroup"}, "join g,join h", "send g", 0},
		{"all sends", []string{"webpubsub.sendToGroup"}, "send g", "join g", 0},
		{"one group", []string{"webpubsub.sendToGroup.g", "webpubsub.joinLeaveGroup.h"}, "send g,join h", "send h,join g", 0},
		{"a literal with a star is no pattern", []string{"webpubsub.sendToGroup.a*"}, "send a*", "send ab", 0},
		{"a pattern", []string{"webpubsub.sendToGroups.a.*", "webpubsub.joinLeaveGroups.b.**"}, "send a.x,join b.x.y", "send a.x.y,join a.x,send b.x", 0},
		{"bad ones beside a good one", []string{"webpubsub.sendToGroups.******", "webpubsub.sendToGroup.", "webpubsub.sendToGroupX", "webpubsub.nothing", "webpubsub.sendToGroup.g"}, "send g", "send h", 4},
		{"roles of other families", []string{"admin", "Webpubsub.sendToGroup"}, "", "send g", 0},
		{"too many", tooMany, "send p0.x,send p9.x,join l0,join l999", "send p10.x,join l1000", 2},
	} {
		t.Run(test.name, func(t *testing.T) {
			ps, ignored := parseRoles(test.roles)
			if len(ignored) != test.ignored {
				t.Errorf("ignored %v, want %d", ignored, test.ignored)
			}
			check := func(list string, want bool) {
				for item := range strings.SplitSeq(list, ",") {
					action, group, ok := strings.Cut(item, " ")
					if a := map[string]Action{"join": JoinLeaveGroup, "send": SendToGroup}[action]; ok && ps[a].allows(group) != want {
						t.Errorf("%s: allowed %v, want %v", item, !want, want)
					}
				}
			}
			check(test.yes, true)
			check(test.no, false)
		})
	}
}

func TestGrantsAndRevocationsNameOneGroup(t *testing.T) {
	h := newRegistry(t, Options{}).Hub("in", "chat")
	c := connect(t, h, ConnOptions{Roles: []string{"webpubsub.sendToGroup", "webpubsub.joinLeaveGroups.a.*"}, Groups: []string{"a.x"}}).conn
	c.Revoke(SendToGroup, "g")
	if c.Allows(SendToGroup, "g") || !c.Allows(SendToGroup, "h") {
		t.Error("revoking g from a connection that may send to all must take g only")
	}
	c.Grant(SendToGroup, "g")
	if !c.Allows(SendToGroup, "g") {
		t.Error("granting again must undo it")
	}
	c.Revoke(JoinLeaveGroup, "a.x")
	if c.Allows(JoinLeaveGroup, "a.x") || !c.Allows(JoinLeaveGroup, "a.y") || !c.InGroup("a.x") {
		t.Error("revoking from a pattern must take one group and keep memberships")
	}
	c.Grant(JoinLeaveGroup, "b.*")
	if !c.Allows(JoinLeaveGroup, "b.*") || c.Allows(JoinLeaveGroup, "b.x") {
		t.Error("a granted name is never a pattern")
	}
	for i := range MaxLiterals {
		c.Grant(SendToGroup, fmt.Sprint(i))
	}
	if err := c.Grant(SendToGroup, "one more"); err != ErrTooManyPermissions {
		t.Errorf("over the limit: %v", err)
	}
	if err := c.Revoke(SendToGroup, "g"); err != nil {
		t.Errorf("a known group can still change: %v", err)
	}
}

func TestGroupNames(t *testing.T) {
	for name, want := range map[string]bool{
		"g": true, " g ": true, "": false, " \t": false, "a\xff": false, "g/1": true,
		strings.Repeat("é", 1024): true, strings.Repeat("é", 1025): false,
	} {
		if ValidGroup(name) != want {
			t.Errorf("ValidGroup(%.20q) = %v", name, !want)
		}
	}
}

func FuzzMatch(f *testing.F) {
	f.Add("clientA.**?b", "clientA.x.yb")
	f.Add(`\*a?`, "*ab")
	f.Fuzz(func(t *testing.T, pattern, name string) {
		if checkPattern(pattern) != "" || len(name) > 200 || len(pattern) > 30 {
			return
		}
		if got, want := match(pattern, name), naive(pattern, name); got != want {
			t.Errorf("match(%q, %q) = %v", pattern, name, got)
		}
	})
}

// naive says the same as match, by trying everything.
func naive(p, s string) bool {
	if p == "" {
		return s == ""
	}
	rest := p[1:]
	switch p[0] {
	case '*':
		deep := strings.HasPrefix(rest, "*")
		if deep {
			rest = rest[1:]
		}
		for i := 0; ; i++ {
			if naive(rest, s[i:]) {
				return true
			}
			if i == len(s) || !deep && s[i] == '.' {
				return false
			}
		}
	case '?':
		if s == "" || s[0] == '.' {
			return false
		}
		n := 0
		for i := range s {
			if i > 0 {
				n = i
				break
			}
		}
		if n == 0 {
			n = len(s)
		}
		return naive(rest, s[n:])
	case '\\':
		p, rest = rest, rest[1:]
	}
	return s != "" && s[0] == p[0] && naive(rest, s[1:])
}
