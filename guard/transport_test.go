package guard_test

import (
	"crypto/x509"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"tabard/guard"
	"tabard/guard/reason"
)

// inProcess answers requests by calling a handler: no connection is made.
type inProcess struct {
	handler http.Handler
	closed  int
}

func (p *inProcess) RoundTrip(r *http.Request) (*http.Response, error) {
	w := httptest.NewRecorder()
	p.handler.ServeHTTP(w, r)
	return w.Result(), nil
}

func (p *inProcess) CloseIdleConnections() { p.closed++ }

func TestAnIssuerInTheSameProcessIsAskedWithoutAConnection(t *testing.T) {
	is, c := newIssuer(t), newClock()
	is.Server.Close() // nobody listens
	transport := &inProcess{handler: is}
	trust := is.trust(c)
	trust.RootCAs, trust.Transport = nil, transport
	v := newVerifier(t, trust)
	for _, claims := range []map[string]any{is.claims(c), is.claims2(c)} {
		if _, err := v.Verify(t.Context(), is.token(claims)); err != nil {
			t.Error(err)
		}
	}
	var refused *guard.Error
	if _, err := v.Verify(t.Context(), sign(rsaKeys()[3], goodHeader(), is.claims(c))); !errors.As(err, &refused) || refused.Code != reason.SignatureInvalid {
		t.Errorf("a foreign key: %v", err)
	}
	v.Close()
	if transport.closed != 0 {
		t.Error("the verifier closed connections that are not its own")
	}
}

func TestWhatAForeignTransportBringsIsJudgedAllTheSame(t *testing.T) {
	is, c := newIssuer(t), newClock()
	for name, answer := range map[string]http.HandlerFunc{
		"another issuer": func(w http.ResponseWriter, _ *http.Request) {
			writeJSON(w, map[string]any{"issuer": is.v1(otherTenant), "jwks_uri": is.URL + "/common/discovery/keys"})
		},
		"keys on another host": func(w http.ResponseWriter, _ *http.Request) {
			writeJSON(w, map[string]any{"issuer": is.v1(tenant), "jwks_uri": "https://evil.example/keys"})
		},
		"a redirect": func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "/common/discovery/keys", http.StatusFound)
		},
	} {
		trust := is.trust(c)
		trust.Issuers, trust.RootCAs = trust.Issuers[:1], nil
		trust.Transport = &inProcess{handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if strings.HasSuffix(r.URL.Path, "/openid-configuration") {
				answer(w, r)
				return
			}
			is.ServeHTTP(w, r)
		})}
		if claims, err := newVerifier(t, trust).Verify(t.Context(), is.token(is.claims(c))); err == nil {
			t.Errorf("%s: %+v", name, claims)
		}
	}
}

func TestATransportTakesNoCertificatesOfOthers(t *testing.T) {
	is, c := newIssuer(t), newClock()
	trust := is.trust(c)
	trust.Transport = http.DefaultTransport
	for _, roots := range []*x509.CertPool{trust.RootCAs, nil} {
		trust.RootCAs = roots
		if roots == nil {
			trust.CAFile = "/does/not/matter"
		}
		if _, err := guard.NewVerifier(trust); err == nil || !strings.Contains(err.Error(), "Transport") {
			t.Errorf("%v, want a fault of Transport", err)
		}
	}
}
