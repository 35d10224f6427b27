package access

import (
	"reflect"
	"testing"
)

func TestUsualTokensAreReadQuickly(t *testing.T) {
	for _, payload := range []string{
		`{}`,
		`{"aud":"http://h/client/hubs/chat","iat":1700000000,"exp":1800000060,"sub":"ann"}`,
		`{"role":["webpubsub.joinLeaveGroup","webpubsub.sendToGroup"],"webpubsub.group":["a","ü"],"exp":1,"aud":[]}`,
		" { \"aud\" : \"x\" ,\n\"exp\":0} ",
	} {
		c, ok := parseQuickly([]byte(payload))
		want, refusal := parseFully([]byte(payload))
		if !ok || refusal != nil || !reflect.DeepEqual(c, want) {
			t.Errorf("%s: %v %v, want %v", payload, c, ok, want)
		}
		for _, header := range []string{`{"alg":"HS256","typ":"JWT"}`, `{"typ":"JWT","alg":"HS256"}`, `{"alg":"HS256"}`} {
			if _, key, ok := openQuickly(raw(primary, header, payload), []string{"", "other", primary}); !ok || key != primary {
				t.Errorf("%s %s: %q %v", header, payload, key, ok)
			}
		}
	}
}

func TestUnusualAndWrongTokensAreLeftToTheFullReading(t *testing.T) {
	for _, payload := range []string{
		``, `{`, `{}x`, `{"a":"b",}`, `{,}`, `{"a":1 2}`, `{"a":"b" "c":"d"}`, `{"a":"b","a":"c"}`, `{"a":"\u0062"}`, `{"a":"` + "\n" + `"}`,
		`{"a":1.5}`, `{"a":1e3}`, `{"a":-1}`, `{"a":01}`, `{"a":null}`, `{"a":true}`, `{"a":{"b":"c"}}`, `{"a":["b",]}`, `{"a":["b" "c"]}`, `{"a":[1]}`,
		`{"a":["b"}`, "{\"a\":\"\xff\"}", `["a"]`, `"a"`, `{"a"}`, `{a:"b"}`, "\ufeff{}",
	} {
		if c, ok := parseQuickly([]byte(payload)); ok {
			t.Errorf("%s: %v", payload, c)
		}
	}
	good := raw(primary, hs256, `{"exp":1800000060}`)
	for name, token := range map[string]string{
		"another key's":         raw("other", hs256, `{}`),
		"another header":        raw(primary, `{"alg":"HS256","kid":"1"}`, `{}`),
		"two parts":             `eyJhbGciOiJIUzI1NiJ9.e30`,
		"a fourth part":         good + ".x",
		"a longer signature":    good + "AA",
		"a line break":          good + "\n",
		"bits beyond the bytes": good[:len(good)-1] + string(good[len(good)-1]+1),
		"too long":              good + string(make([]byte, MaxToken)),
	} {
		if _, _, ok := openQuickly(token, []string{primary}); ok {
			t.Errorf("%s was read", name)
		}
	}
}

// FuzzQuickReading: what is read quickly is read the same fully.
func FuzzQuickReading(f *testing.F) {
	f.Add(`{"alg":"HS256"}`, `{"aud":["x","y"],"exp":1800000060,"sub":"a"}`, "")
	f.Add(`{"typ":"JWT","alg":"HS256"}`, ` {"a" : 0 , "b":[ ] } `, "=")
	f.Add(`{}`, `{"a":"b","a":"b"}`, ".")
	f.Fuzz(func(t *testing.T, header, payload, tail string) {
		if c, ok := parseQuickly([]byte(payload)); ok {
			if want, refusal := parseFully([]byte(payload)); refusal != nil || !reflect.DeepEqual(c, want) {
				t.Fatalf("%q: %v, want %v, %v", payload, c, want, refusal)
			}
		}
		token := raw(primary, header, payload) + tail
		if got, key, ok := openQuickly(token, []string{"other", primary}); ok {
			want, wantKey, kid, refusal := openFully(token, []string{"other", primary})
			if refusal != nil || string(got) != string(want) || key != wantKey || kid != "" {
				t.Fatalf("%q: %q %q, want %q %q %q %v", token, got, key, want, wantKey, kid, refusal)
			}
		}
	})
}
