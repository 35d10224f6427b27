// Package portal is the web page on which an operator clicks what the command line types.
//
// The page is a program for the browser (web/), built by npm and embedded here. It is a client of the control plane and
// of what lies beside it on the admin address, with the caller's own credential, and knows nothing that another client
// could not ask for; this package serves its files and one document of settings, and checks no credential, since it
// has nothing to hide. Everything the page loads comes from the address it came from, at whatever path a reverse proxy
// puts it, and its content security policy lets it talk to that address, to the sockets of the instances and, if one is
// configured, to the issuer that signs operators in.
//
// It leaves to others: what callers may do (root package), every answer of the control plane (arm). The handler starts
// no goroutine and has no state. A binary that was built without the page says how to build it.
package portal

import (
	"crypto/rand"
	"embed"
	"encoding/base64"
	"encoding/json"
	"io/fs"
	"net/http"
	"net/url"
	"strings"
)

// The embedded page. Without a build there is nothing but a file that keeps the folder.
//
//go:embed all:web/dist
var embedded embed.FS

// Path is where the page lies on the admin address.
const Path = "/portal/"

// Options of [New].
type Options struct {
	// Sockets are the origins of the instances' client endpoints, as sources of a content security policy
	// ("ws://127.0.0.1:8080"). It is asked for each page, once the listeners are bound.
	Sockets func() []string
	// OIDC signs operators in; nil: with the admin token only.
	OIDC *OIDC
	// Sample is an event handler that this process runs for newcomers; nil: none.
	Sample *Sample
}

// OIDC is how operators sign in at an issuer: authorization code with PKCE, without a secret.
type OIDC struct {
	Issuer   string `json:"issuer"`             // as in its discovery document
	ClientID string `json:"clientId"`           // of the application that the portal is there
	Scope    string `json:"scope"`              // what gives an access token for the control plane
	Resource string `json:"resource,omitempty"` // RFC 8707, for issuers that want it beside the scope
}

// Sample is an event handler with the guard in front that echoes what a client says.
type Sample struct {
	URL      string `json:"url"`
	Audience string `json:"audience"`
}

type handler struct {
	opt   Options
	files fs.FS
	index string // with noncePlaceholder in it; empty: the page was not built
}

// noncePlaceholder stands in the built page for what vouches for its style elements (web/vite.config.ts).
const noncePlaceholder = "__TABARD_NONCE__"

// New returns the handler of everything below [Path], and of the way there from above it.
func New(opt Options) http.Handler {
	files, err := fs.Sub(embedded, "web/dist")
	if err != nil {
		panic(err) // the name is a constant
	}
	h := &handler{opt: opt, files: files}
	if text, err := fs.ReadFile(files, "index.html"); err == nil {
		h.index = string(text)
	}
	return h
}

func (h *handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	protect(w.Header())
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		w.Header().Set("Allow", "GET, HEAD")
		http.Error(w, "the portal is read with GET", http.StatusMethodNotAllowed)
		return
	}
	switch name := strings.TrimPrefix(r.URL.Path, Path); {
	case r.URL.Path == strings.TrimSuffix(Path, "/"), r.URL.Path == "/":
		// Relative, since a proxy may have put us below a path that we do not know.
		w.Header().Set("Location", strings.Trim(Path, "/")+"/")
		w.WriteHeader(http.StatusFound)
	case name == "":
		h.servePage(w)
	case name == "settings.json":
		h.serveSettings(w)
	case strings.HasPrefix(name, "assets/") && !strings.HasSuffix(name, "/"):
		w.Header().Set("Cache-Control", "public, max-age=31536000, immutable") // their names are hashes
		http.ServeFileFS(w, r, h.files, name)
	default:
		http.NotFound(w, r)
	}
}

// protect keeps the page from being framed, sniffed and from telling others where it was.
func protect(h http.Header) {
	h.Set("Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'")
	h.Set("X-Frame-Options", "DENY")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Referrer-Policy", "no-referrer")
	h.Set("Cross-Origin-Opener-Policy", "same-origin")
	h.Set("Cross-Origin-Resource-Policy", "same-origin")
	h.Set("Permissions-Policy", "camera=(), geolocation=(), microphone=()")
	h.Set("Cache-Control", "no-store")
}

func (h *handler) servePage(w http.ResponseWriter) {
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	if h.index == "" {
		w.WriteHeader(http.StatusNotFound)
		_, _ = w.Write([]byte(unbuilt)) // a client that has gone is no one's error
		return
	}
	var random [18]byte
	rand.Read(random[:]) // never fails
	nonce := base64.RawURLEncoding.EncodeToString(random[:])
	w.Header().Set("Content-Security-Policy", h.policy(nonce))
	_, _ = w.Write([]byte(strings.ReplaceAll(h.index, noncePlaceholder, nonce)))
}

// unbuilt is the page of a binary without the portal.
const unbuilt = `<!doctype html><html lang="en"><title>Tabard</title><h1>The portal is not in this binary</h1>
<p>It was built without Node. Run <code>make portal build</code> in the source tree, which needs npm, and start the new <code>bin/tabard</code>.</p>
<p>Everything else works: see <code>tabard --help</code>.</p></html>
`

// policy admits the page's own scripts, and style elements that carry the nonce: the components insert their rules
// into those. Attributes with styles are set through the DOM, which needs no permission.
func (h *handler) policy(nonce string) string {
	connect := append([]string{"'self'"}, h.opt.Sockets()...)
	if h.opt.OIDC != nil {
		if u, err := url.Parse(h.opt.OIDC.Issuer); err == nil {
			connect = append(connect, u.Scheme+"://"+u.Host)
		}
	}
	return "default-src 'none'; script-src 'self'; style-src 'self' 'nonce-" + nonce + "'; img-src 'self' data:; font-src 'self'; connect-src " +
		strings.Join(connect, " ") + "; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
}

func (h *handler) serveSettings(w http.ResponseWriter) {
	w.Header().Set("Content-Type", "application/json; charset=utf-8")
	_ = json.NewEncoder(w).Encode(struct { // a client that has gone is no one's error
		OIDC   *OIDC   `json:"oidc"`
		Sample *Sample `json:"sampleHandler"`
	}{h.opt.OIDC, h.opt.Sample})
}
