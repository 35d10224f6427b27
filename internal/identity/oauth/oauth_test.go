package oauth

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"math/big"
	"net/http"
	"net/http/httptest"
	"net/url"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"tabard/internal/directory"
	"tabard/internal/fabric"
	"tabard/internal/identity"
	"tabard/internal/store"
	"tabard/internal/tokenservice"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var rsaKey = sync.OnceValue(func() *rsa.PrivateKey {
	k, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		panic(err)
	}
	return k
})

func certificate(t testing.TB) *tls.Certificate {
	t.Helper()
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().AddDate(1, 0, 0)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, rsaKey().Public(), rsaKey())
	if err != nil {
		t.Fatal(err)
	}
	return &tls.Certificate{Certificate: [][]byte{der}, PrivateKey: rsaKey()}
}

// embedded is our own token service as the issuer, and a client of it.
type embedded struct {
	*httptest.Server
	tokens    *tokenservice.Service
	directory *directory.Directory
	client    directory.Application
	secret    string
	cert      *tls.Certificate
}

func newEmbedded(t *testing.T) *embedded {
	t.Helper()
	dir := t.TempDir()
	f, err := fabric.Open(t.Context(), fabric.Options{DataDir: dir})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(f.Close)
	st, err := store.Open(t.Context(), f, store.MasterKeyFile(filepath.Join(dir, "master.key")), nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(st.Close)
	e := &embedded{cert: certificate(t)}
	if e.directory, err = directory.Open(t.Context(), st, directory.Options{}); err != nil {
		t.Fatal(err)
	}
	if e.tokens, err = tokenservice.New(t.Context(), st, e.directory, tokenservice.Options{Authority: func() string { return e.URL }}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(e.tokens.Close)
	e.Server = httptest.NewTLSServer(e.tokens.Handler())
	t.Cleanup(e.Close)
	e.client = e.register(t, directory.Application{DisplayName: "client"})
	e.register(t, directory.Application{DisplayName: "orders", IdentifierURIs: []string{"api://orders"}})
	if _, e.secret, err = e.directory.AddPassword(t.Context(), e.client.ID, directory.PasswordCredential{}); err != nil {
		t.Fatal(err)
	}
	if _, err = e.directory.AddKey(t.Context(), e.client.ID, directory.KeyCredential{Certificate: e.cert.Certificate[0]}); err != nil {
		t.Fatal(err)
	}
	return e
}

func (e *embedded) register(t *testing.T, a directory.Application) directory.Application {
	t.Helper()
	a, err := e.directory.CreateApplication(t.Context(), a)
	if err == nil {
		_, err = e.directory.CreateServicePrincipal(t.Context(), a.AppID)
	}
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func source(t testing.TB, opt Options) *Source {
	t.Helper()
	s, err := New(opt)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestTokensComeFromTheEmbeddedIssuerForSecretAndCertificate(t *testing.T) {
	e := newEmbedded(t)
	endpoint := e.URL + "/" + e.directory.TenantID() + "/oauth2"
	for name, opt := range map[string]Options{
		"secret, by discovery of v2":      {Issuer: e.tokens.IssuerV2(), ClientSecret: e.secret},
		"secret, by discovery of v1":      {Issuer: e.tokens.Issuer(), ClientSecret: e.secret, Parameter: "resource"},
		"secret, endpoint":                {TokenEndpoint: endpoint + "/v2.0/token", ClientSecret: e.secret, Parameter: "scope"},
		"certificate, by discovery of v2": {Issuer: e.tokens.IssuerV2(), Certificate: e.cert},
		"certificate, endpoint of v1":     {TokenEndpoint: endpoint + "/token", Certificate: e.cert, Parameter: "resource"},
	} {
		opt.ClientID, opt.Transport = e.client.AppID, e.Client().Transport
		s := source(t, opt)
		for range 2 { // an assertion serves once
			tok, err := s.Token(t.Context(), identity.Principal{}, "api://orders")
			if err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			if !strings.Contains(string(tok.Claims), `"aud":"api://orders"`) || !strings.Contains(string(tok.Claims), e.client.AppID) || time.Until(tok.ExpiresOn) < 55*time.Minute {
				t.Errorf("%s: %s until %v", name, tok.Claims, tok.ExpiresOn)
			}
		}
	}
	s := source(t, Options{Issuer: e.tokens.IssuerV2(), ClientID: e.client.AppID, ClientSecret: e.secret, Transport: e.Client().Transport})
	if tok, err := s.Token(t.Context(), identity.Principal{}, ""); err != nil || !strings.Contains(string(tok.Claims), graph) {
		t.Errorf("no resource: %v, %v", tok, err)
	}
	_, err := s.Token(t.Context(), identity.Principal{}, "api://unknown")
	var refused *identity.Error
	if !errors.As(err, &refused) || refused.Code != "AADSTS500011" || !refused.Permanent || refused.CorrelationID == "" {
		t.Errorf("an unknown resource: %+v", err)
	}
	s = source(t, Options{Issuer: e.tokens.IssuerV2(), ClientID: e.client.AppID, ClientSecret: "wrong-secret", Transport: e.Client().Transport})
	if _, err = s.Token(t.Context(), identity.Principal{}, "api://orders"); !errors.As(err, &refused) || refused.Code != "AADSTS7000215" || !refused.Permanent || strings.Contains(err.Error(), "wrong-secret") {
		t.Errorf("a wrong secret: %+v", err)
	}
}

// scripted is an issuer that answers as a test wants.
func scripted(t *testing.T, handler http.HandlerFunc) *httptest.Server {
	t.Helper()
	server := httptest.NewTLSServer(handler)
	t.Cleanup(server.Close)
	return server
}

func TestAnswersOfStrangeIssuers(t *testing.T) {
	for _, row := range []struct {
		name      string
		status    int
		body      string
		life      time.Duration // of a token; 0: an error
		permanent bool
		says      string
	}{
		{"numbers as text", 200, `{"access_token":"t","token_type":"bearer","expires_in":"600"}`, 10 * time.Minute, false, ""},
		{"no life", 200, `{"access_token":"t","token_type":"Bearer"}`, defaultLifetime, false, ""},
		{"a life of a century", 200, `{"access_token":"t","token_type":"Bearer","expires_in":1e300}`, maxTokenLifetime, false, ""},
		{"a negative life", 200, `{"access_token":"t","token_type":"Bearer","expires_in":-5}`, defaultLifetime, false, ""},
		{"no token", 200, `{"token_type":"Bearer"}`, 0, false, "no token"},
		{"a token with a line break", 200, `{"access_token":"a\r\nb","token_type":"Bearer"}`, 0, false, "no token"},
		{"another type", 200, `{"access_token":"t","token_type":"DPoP"}`, 0, false, "DPoP"},
		{"no JSON", 200, `<html>`, 0, false, "no token"},
		{"too long", 200, `{"access_token":"` + strings.Repeat("a", 2<<20) + `"}`, 0, false, "bytes"},
		{"a refusal", 401, `{"error":"invalid_client","error_description":"who are you"}`, 0, true, "who are you"},
		{"a refusal without words", 400, `{"error":"invalid_scope"}`, 0, true, "invalid_scope"},
		{"a refusal that repeats the secret", 400, `{"error":"hush","error_description":"your secret is hush"}`, 0, true, "REDACTED"},
		{"busy", 429, ``, 0, false, "429"},
		{"broken", 503, `<html>`, 0, false, "503"},
		{"a redirect", 302, ``, 0, false, "302"},
	} {
		t.Run(row.name, func(t *testing.T) {
			server := scripted(t, func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("Location", "/elsewhere")
				w.WriteHeader(row.status)
				_, _ = w.Write([]byte(row.body))
			})
			now := time.Now()
			s := source(t, Options{TokenEndpoint: server.URL, ClientID: "x", ClientSecret: "hush", Transport: server.Client().Transport, Now: func() time.Time { return now }})
			tok, err := s.Token(t.Context(), identity.Principal{}, "api://orders")
			if row.life != 0 {
				if err != nil || tok.ExpiresOn.Sub(now) != row.life {
					t.Fatalf("%v, %v", tok, err)
				}
				return
			}
			var refused *identity.Error
			if err == nil || (errors.As(err, &refused) && refused.Permanent) != row.permanent || !strings.Contains(err.Error(), row.says) || strings.Contains(fmt.Sprintf("%+v %s", err, codeOf(refused)), "hush") {
				t.Errorf("%v", err)
			}
		})
	}
}

func codeOf(e *identity.Error) string {
	if e == nil {
		return ""
	}
	return e.Code
}

func TestTheResourceIsNamedAsTheIssuerWantsIt(t *testing.T) {
	for parameter, want := range map[string]url.Values{
		"":         {"scope": {"api://orders/.default"}},
		"scope":    {"scope": {"api://orders/.default"}},
		"resource": {"resource": {"api://orders/"}},
		"audience": {"audience": {"api://orders/"}},
	} {
		var got url.Values
		server := scripted(t, func(w http.ResponseWriter, r *http.Request) {
			_ = r.ParseForm()
			got = r.PostForm
			_, _ = w.Write([]byte(`{"access_token":"t","token_type":"Bearer","expires_in":600,"refresh_in":300}`))
		})
		s := source(t, Options{TokenEndpoint: server.URL, ClientID: "x", ClientSecret: "s", Parameter: parameter, Transport: server.Client().Transport})
		tok, err := s.Token(t.Context(), identity.Principal{}, "api://orders/")
		if err != nil || tok.RefreshOn.IsZero() {
			t.Fatal(err)
		}
		want.Set("grant_type", "client_credentials")
		want.Set("client_id", "x")
		want.Set("client_secret", "s")
		if got.Encode() != want.Encode() {
			t.Errorf("%q: sent %v, want %v", parameter, got, want)
		}
		const claims = `{"access_token":{"nbf":{"value":"1"}}}`
		want.Set("claims", claims)
		if _, err := s.TokenFor(t.Context(), identity.Principal{}, "api://orders/", claims); err != nil || got.Encode() != want.Encode() {
			t.Errorf("%q: for a challenge sent %v, want %v (%v)", parameter, got, want, err)
		}
	}
}

func TestDiscoveryIsBelievedForAnHourAndReadAgainAfterARefusal(t *testing.T) {
	var documents, status atomic.Int64
	status.Store(200)
	var server *httptest.Server
	server = scripted(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/tenant/.well-known/openid-configuration" {
			documents.Add(1)
			_ = json.NewEncoder(w).Encode(map[string]string{"issuer": server.URL + "/tenant/", "token_endpoint": server.URL + "/token"})
			return
		}
		w.WriteHeader(int(status.Load()))
		_, _ = w.Write([]byte(`{"access_token":"t","token_type":"Bearer"}`))
	})
	now := time.Now()
	s := source(t, Options{Issuer: server.URL + "/tenant/", ClientID: "x", ClientSecret: "s", Transport: server.Client().Transport, Now: func() time.Time { return now }})
	ask := func(want int64, ok bool) {
		t.Helper()
		if _, err := s.Token(t.Context(), identity.Principal{}, "api://orders"); (err == nil) != ok {
			t.Fatal(err)
		}
		if n := documents.Load(); n != want {
			t.Errorf("%d documents were read, want %d", n, want)
		}
	}
	ask(1, true)
	ask(1, true)
	now = now.Add(rediscoverAfter)
	ask(2, true)
	status.Store(400)
	ask(2, false)
	status.Store(200)
	ask(3, true)
}

func TestDocumentsOfOtherIssuersAreRefused(t *testing.T) {
	for name, body := range map[string]string{
		"another issuer":      `{"issuer":"https://other.example","token_endpoint":"https://other.example/token"}`,
		"an http endpoint":    `{"issuer":"ISSUER","token_endpoint":"http://127.0.0.1/token"}`,
		"no endpoint":         `{"issuer":"ISSUER"}`,
		"a user in the URL":   `{"issuer":"ISSUER","token_endpoint":"https://a:b@127.0.0.1/token"}`,
		"something else":      `[]`,
		"a very long one":     `{"x":"` + strings.Repeat("a", 2<<20) + `"}`,
		"the issuer and more": `{"issuer":"ISSUER/","token_endpoint":"https://127.0.0.1/token"}`,
	} {
		var server *httptest.Server
		server = scripted(t, func(w http.ResponseWriter, r *http.Request) {
			if r.Method == http.MethodPost {
				t.Errorf("%s: the secret was sent", name)
			}
			_, _ = w.Write([]byte(strings.ReplaceAll(body, "ISSUER", server.URL)))
		})
		s := source(t, Options{Issuer: server.URL, ClientID: "x", ClientSecret: "s", Transport: server.Client().Transport})
		if _, err := s.Token(t.Context(), identity.Principal{}, "api://orders"); err == nil || !strings.Contains(err.Error(), "discovery document") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestOptionsThatCannotWorkAreRefused(t *testing.T) {
	good := Options{Issuer: "https://a", ClientID: "x", ClientSecret: "s", Transport: http.DefaultTransport}
	for name, edit := range map[string]func(*Options){
		"no transport":        func(o *Options) { o.Transport = nil },
		"no client":           func(o *Options) { o.ClientID = "" },
		"no issuer":           func(o *Options) { o.Issuer = "" },
		"issuer and endpoint": func(o *Options) { o.TokenEndpoint = "https://a" },
		"no credential":       func(o *Options) { o.ClientSecret = "" },
		"two credentials":     func(o *Options) { o.Certificate = &tls.Certificate{} },
		"http":                func(o *Options) { o.Issuer = "http://a" },
		"another parameter":   func(o *Options) { o.Parameter = "x" },
		"no key":              func(o *Options) { o.ClientSecret, o.Certificate = "", &tls.Certificate{} },
	} {
		opt := good
		edit(&opt)
		if _, err := New(opt); err == nil {
			t.Errorf("%s: taken", name)
		}
	}
}
