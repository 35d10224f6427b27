package subprotocol

import (
	encoding "encoding/json"
	"strings"
	"testing"
)

func TestUsualRequestsArePlain(t *testing.T) {
	for _, s := range []string{
		`{}`, ` { } `, `{"type":"ping"}`, `{"type":"sendToGroup","group":"ü","noEcho":false,"ackId":12,"data":"x"}`, "{\"a\":null,\n\t\"b\" : true , \"c\":0}",
		`[1,-2.50,[],{},[{"a":[false]}]]`, `"a"`, `0`,
	} {
		if !isPlain([]byte(s)) {
			t.Errorf("%s is not", s)
		}
	}
	for _, s := range []string{
		``, `{`, `{"a"`, `{"a":`, `{"a":1`, `{"a":1,`, `{"a":1,}`, `{,}`, `{"a":01}`, `{"a":1.}`, `{"a":.5}`, `{"a":-}`, `{"a":-01}`, `{"a":1e3}`, `{"a":"\n"}`, "{\"a\":\"\n\"}", `{"a":tru}`,
		`{"a":nullx}`, `{"a":1 2}`, `{"a":[}`, `{"a":{]}`, `[1,]`, `[,1]`, `[1 2]`, `{"a":1}{}`, `{a:1}`, `{"a" 1}`, `{"a":"b}`,
		strings.Repeat("[", maxPlain+2) + strings.Repeat("]", maxPlain+2),
	} {
		if isPlain([]byte(s)) {
			t.Errorf("%s is", s)
		}
	}
}

// FuzzPlain: what is plain is valid to the standard library too.
func FuzzPlain(f *testing.F) {
	for _, s := range []string{`{"a":"b","c":1,"d":null}`, ` {"a" : true } `, `{"a":0}x`, `{"a":1.}`} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		if isPlain(data) && !encoding.Valid(data) {
			t.Fatalf("%q is not valid", data)
		}
	})
}
