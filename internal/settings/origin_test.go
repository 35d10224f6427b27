package settings

import (
	"regexp"
	"slices"
	"strings"
	"testing"
)

func TestOriginsAreComparedAsBrowsersSendThem(t *testing.T) {
	e := Extensions{AllowedOrigins: []string{"https://App.example", "http://localhost:3000", "https://*.example.org"}}
	var f Faults
	if e.check(&f); len(f) > 0 {
		t.Fatal(f)
	}
	for origin, want := range map[string]bool{
		"https://app.example": true, "HTTPS://APP.EXAMPLE": true, "http://localhost:3000": true, "https://a.example.org": true, "https://a.b.example.org": true,
		"http://app.example": false, "https://app.example:8443": false, "https://app.example.evil.com": false, "https://evilapp.example": false,
		"http://localhost": false, "https://example.org": false, "https://.example.org": false, "http://a.example.org": false, "https://a.example.org:444": false,
		"https://evil.com/.example.org": false, "https://evil.com@x.example.org": false, "null": false, "": false,
	} {
		if got := e.AllowsOrigin([]string{origin}); got != want {
			t.Errorf("%q: %v", origin, got)
		}
	}
	if !e.AllowsOrigin(nil) || e.AllowsOrigin([]string{"https://app.example", "https://app.example"}) {
		t.Error("no header is no browser; two are no browser's")
	}
	if all := (&Extensions{AllowedOrigins: []string{"*"}}); !all.AllowsOrigin([]string{"null"}) {
		t.Error("* is all")
	}
	if none := (&Extensions{}); !none.AllowsOrigin([]string{"https://anything"}) {
		t.Error("an empty list is no list")
	}
}

func TestOriginsAndLimitsAreChecked(t *testing.T) {
	for _, bad := range []string{"", "app.example", "https://", "https://a/", "https://a/b", "https://*", "https://a.*.b", "https://u@a", "https://a b", "://a"} {
		var f Faults
		if (&Extensions{AllowedOrigins: []string{bad}}).check(&f); len(f) != 1 || !strings.Contains(f.Error(), "allowedOrigins") {
			t.Errorf("%q: %v", bad, f)
		}
	}
	for n, faults := range map[int]int{MaxAllowedOrigins: 0, MaxAllowedOrigins + 1: 1} {
		var f Faults
		if (&Extensions{AllowedOrigins: slices.Repeat([]string{"https://a"}, n)}).check(&f); len(f) != faults {
			t.Errorf("%d origins: %v", n, f)
		}
	}
	var f Faults
	if (&Extensions{MaxMessagesPerSecond: -1, MaxGroupsPerConnection: -1, MaxConnections: -1}).check(&f); len(f) != 3 {
		t.Error(f)
	}
}

func TestHubNamesAreThoseOfThePublishedAPI(t *testing.T) {
	published := regexp.MustCompile("^[A-Za-z][A-Za-z0-9_`,.\\[\\]]{0,127}$")
	for _, name := range []string{"", "a", "Z9", "1a", "_a", "a_`,.[]", "a-b", "a b", "é", "aé", "a\n", "a/b", strings.Repeat("a", 128), strings.Repeat("a", 129)} {
		if ValidHubName(name) != published.MatchString(name) {
			t.Errorf("%q: %v", name, ValidHubName(name))
		}
	}
	for c := range 256 {
		for _, name := range []string{string([]byte{byte(c)}), string([]byte{'a', byte(c)})} {
			if ValidHubName(name) != published.MatchString(name) {
				t.Errorf("%q: %v", name, ValidHubName(name))
			}
		}
	}
}
