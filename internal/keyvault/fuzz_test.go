package keyvault

import (
	"crypto/tls"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
)

// Whatever a path and a body are, the answer is one of the API's, never a failure of ours, and nothing of another vault.
func FuzzRequest(f *testing.F) {
	w := newWorld(f)
	w.vault("other")
	w.owner("other").put("of-another", "value-of-another")
	for _, seed := range [][3]string{
		{"GET", "/secrets/n/?api-version=7.4", ""}, {"PUT", "/secrets/n?api%2Dversion=7.4", `{"value":"x"}`},
		{"GET", "/secrets?api-version=7.4&$skiptoken=YWJj&maxresults=1", ""}, {"POST", "/secrets/restore?api-version=7.4", `{"value":"AQ"}`},
		{"PATCH", "/secrets/n/0123456789abcdef0123456789abcdef?api-version=7.4", `{"attributes":{"exp":1}}`}, {"DELETE", "/deletedsecrets/..%2f?api-version=7.4", ""},
	} {
		f.Add(seed[0], seed[1], seed[2])
	}
	handler := w.vaults.Handler(func(*http.Request) (string, bool) { return DefaultVault, true })
	f.Fuzz(func(t *testing.T, method, target, body string) {
		u, err := url.ParseRequestURI(target)
		if err != nil || method == "" || strings.ContainsAny(method, " \r\n") {
			return
		}
		r := httptest.NewRequest("GET", "https://"+testDomain+"/", strings.NewReader(body))
		r.Method, r.URL, r.TLS = method, u, &tls.ConnectionState{}
		r.Header.Set("Authorization", "Bearer "+adminText)
		a := httptest.NewRecorder()
		handler.ServeHTTP(a, r)
		if a.Code >= 500 || strings.Contains(a.Body.String(), "of-another") {
			t.Errorf("%s %s: %d %s", method, target, a.Code, a.Body)
		}
	})
}

func FuzzBackup(f *testing.F) {
	w := newWorld(f)
	u := w.owner(DefaultVault)
	u.put("n", "x")
	f.Add(u.do("POST", "/secrets/n/backup"+latest, "").want(200).str("value"))
	f.Add("AQ")
	f.Add("")
	f.Fuzz(func(t *testing.T, blob string) {
		if b, err := w.vaults.openBackup(blob); err == nil && b.Name != "n" {
			t.Errorf("%q opened", blob)
		}
	})
}
