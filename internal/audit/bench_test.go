package audit

import (
	"net/http"
	"testing"
)

// What a record costs the caller who waits for it, state before and after included.
func BenchmarkAChange(b *testing.B) {
	w := open(b)
	body := `{"properties":{"eventHandlers":[{"urlTemplate":"https://h.example/{event}?code=x","systemEvents":["connect"]}]}}`
	for b.Loop() {
		w.do("PUT", "/a", someone, func(rw http.ResponseWriter, r *http.Request) {
			From(r.Context()).Before(map[string]any{"properties": map[string]any{"size": 1}})
			answerWith(200, body)(rw, r)
		})
	}
}

// What it costs to look through a thousand records of which none matches.
func BenchmarkAThousandRecordsLookedAt(b *testing.B) {
	w := open(b)
	for range 1000 {
		w.do("PUT", "/a", someone, answerWith(200, `{"a":1}`))
	}
	for b.Loop() {
		if _, _, err := w.Find(b.Context(), Query{Limit: 10, Match: func(*Record) bool { return false }}); err != nil {
			b.Fatal(err)
		}
	}
}
