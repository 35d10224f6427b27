package arm

import (
	"encoding/json"
	"reflect"
	"strings"
	"testing"
	"unicode/utf8"
)

// FuzzBody holds the strict reading against encoding/json, and merging against the rules of RFC 7396.
func FuzzBody(f *testing.F) {
	for _, seed := range [][2]string{
		{`{"a":{"b":1},"c":[1]}`, `{"A":{"b":null,"d":{"e":null}},"c":{}}`}, {`{"a":1,"a":2}`, `{}`}, {`[`, `null`}, {`{"a":1} x`, `{"a":`}, {`"`, "\xff"},
		{`{}`, `{"properties":{"eventHandlers":[{"urlTemplate":"http://h/"},null]}}`},
	} {
		f.Add(seed[0], seed[1])
	}
	f.Fuzz(func(t *testing.T, target, patch string) {
		for _, text := range []string{target, patch} {
			if err := checkJSON([]byte(text)); err == nil && (!json.Valid([]byte(text)) || !utf8.ValidString(text)) {
				t.Fatalf("%q is admitted", text)
			}
		}
		if checkJSON([]byte(target)) != nil || checkJSON([]byte(patch)) != nil || !strings.HasPrefix(strings.TrimSpace(patch), "{") {
			return
		}
		once := merge(json.RawMessage(target), json.RawMessage(patch))
		var v, w any
		if err := json.Unmarshal(once, &v); err != nil {
			t.Fatalf("the merged document is no JSON: %v", err)
		}
		if err := json.Unmarshal(merge(once, json.RawMessage(patch)), &w); err != nil || !reflect.DeepEqual(v, w) {
			t.Fatalf("merging twice gives %v, once %v", w, v)
		}
		// No document may bring the decoders down, and what they accept has no faults.
		_, _ = decodeHub("chat", json.RawMessage(patch))
		_, _ = new(reader).instanceBody(json.RawMessage(patch))
	})
}

func FuzzRoute(f *testing.F) {
	for _, seed := range []string{theDefault, "//" + theDefault + "/", "/v1.0/applications(appId='x')", "/v1.0/applications(appId='')", "/%2f/%zz/", "/subscriptions/a//b", ""} {
		f.Add("GET", seed)
	}
	routes := compile((&server{}).table())
	f.Fuzz(func(t *testing.T, method, path string) {
		r, found, err := routes.find(method, path)
		if (err == nil) != (r != nil) {
			t.Fatalf("%v and %v", r, err)
		}
		if r == nil {
			return
		}
		for name, value := range found {
			if value == "" || !strings.Contains(r.pattern, "{"+name+"}") {
				t.Fatalf("%s: %s is %q", r.pattern, name, value)
			}
		}
		if want := strings.Count(r.pattern, "{"); len(found) != want {
			t.Fatalf("%s: %d parameters, want %d", r.pattern, len(found), want)
		}
	})
}
