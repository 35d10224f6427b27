package guard

import (
	"encoding/json"
	"reflect"
	"strings"
	"testing"
	"unicode/utf8"
)

func TestStrictJSON(t *testing.T) {
	for _, c := range []struct {
		name, in string
		ok       bool
	}{
		{"an empty object", `{}`, true},
		{"white space around everything", " {\t\"a\" :\r\n 1 , \"b\":[ ] } ", true},
		{"every kind of value", `{"a":"x","b":-1.5e+3,"c":true,"d":false,"e":null,"f":[1,{"g":[]}],"h":{}}`, true},
		{"escapes", `{"a\u0062\"\\\/\b\f\n\r\t":"\ud83d\ude00"}`, true},
		{"text beyond ASCII", `{"ü":"日本"}`, true},
		{"the same name on two levels", `{"a":{"a":1}}`, true},
		{"a repeated name", `{"a":1,"a":1}`, false},
		{"a repeated name, once escaped", `{"aud":1,"\u0061ud":2}`, false},
		{"a repeated name inside", `{"x":{"a":1,"a":2}}`, false},
		{"a repeated name inside an array", `{"x":[{"a":1,"a":2}]}`, false},
		{"data after the object", `{} {}`, false},
		{"a NUL after the object", "{}\x00", false},
		{"an array", `[]`, false},
		{"nothing", ``, false},
		{"an open object", `{`, false},
		{"an open string", `{"a`, false},
		{"a string that ends in a backslash", `{"a\`, false},
		{"an open escape", `{"a":"\u12"}`, false},
		{"an unknown escape", `{"a":"\x41"}`, false},
		{"signs in an escape", `{"a":"\u+123"}`, false},
		{"half a surrogate pair", `{"a":"\ud83d"}`, false},
		{"two first halves", `{"a":"\ud83d\ud83d"}`, false},
		{"a second half alone", `{"a":"\ude00"}`, false},
		{"half a surrogate pair deep inside", `{"a":[["\ud83d"]]}`, false},
		{"a control character in a string", "{\"a\":\"\n\"}", false},
		{"broken UTF-8", "{\"a\":\"\xff\"}", false},
		{"a trailing comma", `{"a":1,}`, false},
		{"a trailing comma in an array", `{"a":[1,]}`, false},
		{"a missing colon", `{"a" 1}`, false},
		{"a name without quotes", `{a:1}`, false},
		{"single quotes", `{'a':1}`, false},
		{"a comment", `{"a":1/**/}`, false},
		{"a number with a leading zero", `{"a":01}`, false},
		{"a number with a plus", `{"a":+1}`, false},
		{"a number without digits", `{"a":-}`, false},
		{"a number that ends in a point", `{"a":1.}`, false},
		{"a number that ends in e", `{"a":1e}`, false},
		{"NaN", `{"a":NaN}`, false},
		{"a literal cut short", `{"a":tru}`, false},
		{"15 levels", `{"a":` + strings.Repeat("[", 15) + strings.Repeat("]", 15) + `}`, true},
		{"10,000 levels", `{"a":` + strings.Repeat("[", 10000) + strings.Repeat("]", 10000) + `}`, false},
		{"257 members", `{` + manyMembers(257) + `}`, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := scanObject(c.in)
			if (err == nil) != c.ok {
				t.Errorf("%.80s: %v", c.in, err)
			}
		})
	}
}

func manyMembers(n int) string {
	var b strings.Builder
	for i := range n {
		if i > 0 {
			b.WriteByte(',')
		}
		name, _ := json.Marshal(strings.Repeat("a", i))
		b.Write(name)
		b.WriteString(":1")
	}
	return b.String()
}

func TestSecondsAreStrict(t *testing.T) {
	for in, ok := range map[string]bool{
		"0": true, "1790000000": true, "253402300799": true,
		"253402300800": false, "1790000000000": false, "-1": false, "1.5": false, "1e9": false,
		`"1790000000"`: false, "99999999999999999999999": false, "null": false, "": false, "+1": false,
	} {
		if _, got := jsonSeconds(in); got != ok {
			t.Errorf("%s: %v", in, got)
		}
	}
}

// FuzzStrictJSON compares the scanner with encoding/json: what it accepts,
// encoding/json accepts too and reads the same from it.
func FuzzStrictJSON(f *testing.F) {
	for _, s := range []string{`{}`, `{"a":1,"b":[true,null,{"c":"\ud83d\ude00"}]}`, `{"a":1,"a":2}`, `{"a":"\u0000"} `, `{"e":-0.1E-2}`} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		members, err := scanObject(s)
		if err != nil {
			return
		}
		want := map[string]json.RawMessage{}
		if err := json.Unmarshal([]byte(s), &want); err != nil {
			t.Fatalf("accepted %q, encoding/json says %v", s, err)
		}
		got := map[string]json.RawMessage{}
		for _, m := range members {
			got[m.name] = json.RawMessage(m.value)
			text, isString := jsonString(m.value)
			var other string
			if json.Unmarshal([]byte(m.value), &other) == nil && m.value != "null" != isString {
				t.Fatalf("%q: string %v", m.value, isString)
			}
			if isString && (text != other || !utf8.ValidString(text)) {
				t.Fatalf("%q is %q, encoding/json says %q", m.value, text, other)
			}
		}
		if !reflect.DeepEqual(got, want) {
			t.Fatalf("%q: got %q, want %q", s, got, want)
		}
	})
}
