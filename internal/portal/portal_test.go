package portal

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"testing"
	"testing/fstest"
)

// built is a handler whose page was built, whether this machine has npm or not.
func built(opt Options) http.Handler {
	h := New(opt).(*handler)
	h.files = fstest.MapFS{"assets/a-1234.js": {Data: []byte("js")}, ".gitkeep": {}}
	h.index = `<meta property="csp-nonce" nonce="` + noncePlaceholder + `"><script type="module" nonce="` + noncePlaceholder + `" src="./assets/a-1234.js"></script>`
	return h
}

func sockets() []string { return []string{"ws://127.0.0.1:8080", "wss://127.0.0.1:8080"} }

func get(h http.Handler, path string) *httptest.ResponseRecorder {
	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequest("GET", path, nil))
	return w
}

func TestThePageHasAFreshNonceAndAStrictPolicy(t *testing.T) {
	h := built(Options{Sockets: sockets, OIDC: &OIDC{Issuer: "https://login.example.com/tenant/v2.0"}})
	seen := map[string]bool{}
	for range 2 {
		w := get(h, Path)
		policy := w.Header().Get("Content-Security-Policy")
		nonce := regexp.MustCompile(`'nonce-([\w-]{24})'`).FindStringSubmatch(policy)
		if w.Code != 200 || nonce == nil || strings.Count(w.Body.String(), `nonce="`+nonce[1]+`"`) != 2 || seen[nonce[1]] {
			t.Fatalf("status %d, policy %q, page %q", w.Code, policy, w.Body)
		}
		seen[nonce[1]] = true
		for _, directive := range []string{
			"default-src 'none'", "script-src 'self'", "base-uri 'none'", "form-action 'none'", "frame-ancestors 'none'",
			"connect-src 'self' ws://127.0.0.1:8080 wss://127.0.0.1:8080 https://login.example.com",
		} {
			if !strings.Contains("; "+policy+";", "; "+directive+";") {
				t.Errorf("no %q in %q", directive, policy)
			}
		}
		if strings.Contains(policy, "unsafe") || strings.Contains(policy, "*") {
			t.Errorf("the policy is lax: %q", policy)
		}
		if got := w.Header().Get("Cache-Control"); got != "no-store" {
			t.Errorf("the page may be cached: %q", got)
		}
	}
}

func TestEveryAnswerIsProtected(t *testing.T) {
	h := built(Options{Sockets: sockets})
	for _, path := range []string{Path, "/portal", Path + "settings.json", Path + "assets/a-1234.js", Path + "none", Path + "assets/", Path + ".gitkeep", Path + "assets/../.gitkeep"} {
		w := get(h, path)
		for name, want := range map[string]string{"X-Frame-Options": "DENY", "X-Content-Type-Options": "nosniff", "Referrer-Policy": "no-referrer", "Access-Control-Allow-Origin": ""} {
			if got := w.Header().Get(name); got != want {
				t.Errorf("%s: %s is %q", path, name, got)
			}
		}
		if !strings.Contains(w.Header().Get("Content-Security-Policy"), "frame-ancestors 'none'") {
			t.Errorf("%s may be framed", path)
		}
	}
}

func TestFilesAreFoundAndNothingElseIs(t *testing.T) {
	h := built(Options{Sockets: sockets})
	if w := get(h, Path+"assets/a-1234.js"); w.Code != 200 || w.Body.String() != "js" || !strings.Contains(w.Header().Get("Cache-Control"), "immutable") {
		t.Errorf("the script: %d %q %v", w.Code, w.Body, w.Header())
	}
	for _, path := range []string{"none", "assets/", "assets/none.js", ".gitkeep", "index.html"} {
		if w := get(h, Path+path); w.Code != 404 {
			t.Errorf("%s: %d", path, w.Code)
		}
	}
	for _, path := range []string{"/portal", "/"} {
		if w := get(h, path); w.Code != 302 || w.Header().Get("Location") != "portal/" {
			t.Errorf("%s: %d to %q", path, w.Code, w.Header().Get("Location"))
		}
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequest("POST", Path, nil))
	if w.Code != 405 || w.Header().Get("Allow") != "GET, HEAD" {
		t.Errorf("POST: %d %v", w.Code, w.Header())
	}
}

func TestTheSettingsSayHowToSignIn(t *testing.T) {
	want := `{"oidc":{"issuer":"https://i.example","clientId":"c","scope":"s"},"sampleHandler":{"url":"http://127.0.0.1:1/","audience":"api://a"}}`
	h := built(Options{OIDC: &OIDC{Issuer: "https://i.example", ClientID: "c", Scope: "s"}, Sample: &Sample{"http://127.0.0.1:1/", "api://a"}})
	if got := strings.TrimSpace(get(h, Path+"settings.json").Body.String()); got != want {
		t.Errorf("got %s", got)
	}
	var none map[string]any
	if err := json.Unmarshal(get(built(Options{}), Path+"settings.json").Body.Bytes(), &none); err != nil || none["oidc"] != nil || none["sampleHandler"] != nil {
		t.Errorf("got %v, %v", none, err)
	}
}

func TestABinaryWithoutThePageSaysHowToBuildIt(t *testing.T) {
	h := built(Options{Sockets: sockets}).(*handler)
	h.index = ""
	if w := get(h, Path); w.Code != 404 || !strings.Contains(w.Body.String(), "make portal build") {
		t.Errorf("%d %s", w.Code, w.Body)
	}
}
