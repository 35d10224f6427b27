package guard_test

import (
	"context"
	"crypto/rand"
	"crypto/rsa"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"encoding/pem"

	"tabard/guard"
	"tabard/guard/reason"
)

func TestUnknownKeysCauseOneFetchPerInterval(t *testing.T) {
	is, c := newIssuer(t), newClock()
	trust := is.trust(c)
	trust.Issuers = trust.Issuers[:1]
	v := newVerifier(t, trust)
	if err := v.Preload(t.Context()); err != nil {
		t.Fatal(err)
	}
	forged := func(i int) error {
		_, err := v.Verify(context.Background(), sign(rsaKeys()[3], with(goodHeader(), "kid", fmt.Sprint("k", i)), is.claims(c)))
		return err
	}
	var wg sync.WaitGroup
	for i := range 4 {
		wg.Go(func() {
			for j := range 500 {
				if err := forged(1000*i + j); codeOf(t, err) != reason.UnknownKey {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	if n := is.keySets.Load(); n != 2 {
		t.Errorf("keys were fetched %d times, want 2: at first and once for 2,000 unknown keys", n)
	}
	if v.Remembered() != 0 {
		t.Errorf("%d refused tokens are remembered", v.Remembered())
	}
	c.advance(299 * time.Second)
	forged(1)
	if n := is.keySets.Load(); n != 2 {
		t.Errorf("fetched again before 5 minutes: %d", n)
	}
	c.advance(2 * time.Second)
	forged(2)
	if n := is.keySets.Load(); n != 3 {
		t.Errorf("after 5 minutes keys were fetched %d times, want 3", n)
	}
}

func TestANewKeyIsFoundAtOnce(t *testing.T) {
	is, c := newIssuer(t), newClock()
	v := newVerifier(t, is.trust(c))
	if err := v.Preload(t.Context()); err != nil {
		t.Fatal(err)
	}
	old := is.token(is.claims(c))
	is.setKeys(testKey{id: "key-2", private: rsaKeys()[2]}, testKey{id: "key-0", private: rsaKeys()[0]})
	for name, token := range map[string]string{"the new key": is.token(is.claims(c)), "the old key, still published": old} {
		if _, err := v.Verify(t.Context(), token); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestARevokedKeyTakesItsTokensAlong(t *testing.T) {
	is, c := newIssuer(t), newClock()
	v := newVerifier(t, is.trust(c))
	token := is.token(is.claims(c))
	if _, err := v.Verify(t.Context(), token); err != nil {
		t.Fatal(err)
	}
	is.setKeys(testKey{id: "key-1", private: rsaKeys()[1]})
	if _, err := v.Verify(t.Context(), token); err != nil {
		t.Errorf("before anyone could know: %v", err)
	}
	// The token alone, remembered as it is, makes the guard look at the keys.
	c.advance(61 * time.Minute)
	eventually(t, "a background refresh drops the token", func() bool {
		_, err := v.Verify(t.Context(), token)
		return err != nil
	})
	if _, err := v.Verify(t.Context(), token); codeOf(t, err) != reason.UnknownKey {
		t.Errorf("afterwards: %v", err)
	}
}

func TestAKeyThatChangesUnderItsIDCountsAsRevoked(t *testing.T) {
	is, c := newIssuer(t), newClock()
	v := newVerifier(t, is.trust(c))
	token := is.token(is.claims(c))
	if _, err := v.Verify(t.Context(), token); err != nil {
		t.Fatal(err)
	}
	is.setKeys(testKey{id: "key-0", private: rsaKeys()[2]})
	c.advance(2*time.Hour + time.Second) // old enough to wait for the new ones
	if _, err := v.Verify(t.Context(), token); codeOf(t, err) != reason.SignatureInvalid {
		t.Error(err)
	}
	if _, err := v.Verify(t.Context(), is.token(is.claims(c))); err != nil {
		t.Error(err)
	}
}

func TestKnownKeysServeWhileTheIssuerIsDown(t *testing.T) {
	is, c := newIssuer(t), newClock()
	trust := is.trust(c)
	trust.Issuers = trust.Issuers[:1]
	v := newVerifier(t, trust)
	if err := v.Preload(t.Context()); err != nil {
		t.Fatal(err)
	}
	var calls atomic.Int32
	const document = "/" + tenant + "/.well-known/openid-configuration"
	is.answer(document, func(w http.ResponseWriter, r *http.Request) {
		calls.Add(1)
		http.Error(w, "out of order", http.StatusInternalServerError)
	})
	for _, after := range []time.Duration{30 * time.Minute, time.Hour, 4 * time.Hour, 18 * time.Hour} {
		c.advance(after)
		if _, err := v.Verify(t.Context(), is.token(with(is.claims(c), "n", after))); err != nil {
			t.Errorf("%s later: %v", after, err)
		}
	}
	c.advance(time.Hour)
	token := is.token(is.claims(c))
	_, err := v.Verify(t.Context(), token)
	if codeOf(t, err) != reason.DiscoveryFailed || err.(*guard.Error).Status != http.StatusServiceUnavailable {
		t.Errorf("after 24 hours: %v", err)
	}
	before := calls.Load()
	for range 100 {
		if _, err := v.Verify(t.Context(), token); codeOf(t, err) != reason.DiscoveryFailed {
			t.Error(err)
		}
	}
	if n := calls.Load() - before; n > 0 {
		t.Errorf("the issuer was asked %d times within the back-off", n)
	}
	is.answer(document, nil)
	c.advance(time.Minute)
	if _, err := v.Verify(t.Context(), token); err != nil {
		t.Errorf("when it is back: %v", err)
	}
}

func TestAgingKeysAreRefreshedInTheBackground(t *testing.T) {
	is, c := newIssuer(t), newClock()
	trust := is.trust(c)
	trust.Issuers = trust.Issuers[:1]
	v := newVerifier(t, trust)
	if err := v.Preload(t.Context()); err != nil {
		t.Fatal(err)
	}
	release := make(chan struct{})
	is.answer("/common/discovery/keys", func(w http.ResponseWriter, r *http.Request) {
		<-release
		is.keySets.Add(1)
		writeJSON(w, jwks([]testKey{{id: "key-0", private: rsaKeys()[0]}}, ""))
	})
	c.advance(61 * time.Minute)
	if _, err := v.Verify(t.Context(), is.token(is.claims(c))); err != nil { // does not wait
		t.Fatal(err)
	}
	close(release)
	eventually(t, "keys are fetched a second time", func() bool { return is.keySets.Load() == 2 })
}

func TestConcurrentFirstTokensShareOneFetch(t *testing.T) {
	is, c := newIssuer(t), newClock()
	trust := is.trust(c)
	trust.Issuers = trust.Issuers[:1]
	v := newVerifier(t, trust)
	token := is.token(is.claims(c))
	var wg sync.WaitGroup
	for range 20 {
		wg.Go(func() {
			if _, err := v.Verify(context.Background(), token); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if n := is.keySets.Load(); n != 1 {
		t.Errorf("keys were fetched %d times", n)
	}
}

func TestACallerThatGivesUpDoesNotSpoilTheFetch(t *testing.T) {
	is, c := newIssuer(t), newClock()
	v := newVerifier(t, is.trust(c))
	arrived, release := make(chan struct{}, 9), make(chan struct{})
	is.answer("/common/discovery/keys", func(w http.ResponseWriter, r *http.Request) {
		arrived <- struct{}{}
		<-release
		writeJSON(w, jwks([]testKey{{id: "key-0", private: rsaKeys()[0]}}, ""))
	})
	ctx, cancel := context.WithCancel(t.Context())
	token := is.token(is.claims(c))
	refused := make(chan error)
	go func() {
		_, err := v.Verify(ctx, token)
		refused <- err
	}()
	<-arrived
	cancel()
	if err := <-refused; codeOf(t, err) != reason.DiscoveryFailed {
		t.Error(err)
	}
	close(release)
	eventually(t, "the fetch serves the next caller", func() bool {
		_, err := v.Verify(t.Context(), token)
		return err == nil && len(arrived) == 0
	})
}

func TestHostileDiscoveryIsRefused(t *testing.T) {
	c := newClock()
	const document, keysAt = "/" + tenant + "/.well-known/openid-configuration", "/common/discovery/keys"
	evil := newIssuer(t)
	text := func(s string) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) { w.Write([]byte(s)) }
	}
	for _, tc := range []struct {
		name string
		path string
		// answer makes what the issuer says at path
		answer func(is *testIssuer) http.HandlerFunc
		want   reason.Code
	}{
		{"another issuer in the document", document, func(is *testIssuer) http.HandlerFunc {
			return text(`{"issuer":"https://evil/` + tenant + `/","jwks_uri":"` + is.URL + keysAt + `"}`)
		}, reason.DiscoveryInvalid},
		{"another tenant in the document", document, func(is *testIssuer) http.HandlerFunc {
			return text(`{"issuer":"` + is.v1(otherTenant) + `","jwks_uri":"` + is.URL + keysAt + `"}`)
		}, reason.DiscoveryInvalid},
		{"every tenant in a tenant's document", document, func(is *testIssuer) http.HandlerFunc {
			return text(`{"issuer":"` + is.v1("{tenantid}") + `","jwks_uri":"` + is.URL + keysAt + `"}`)
		}, reason.DiscoveryInvalid},
		{"the issuer of the other version", document, func(is *testIssuer) http.HandlerFunc {
			return text(`{"issuer":"` + is.v2(tenant) + `","jwks_uri":"` + is.URL + keysAt + `"}`)
		}, reason.DiscoveryInvalid},
		{"Microsoft's issuer in another host's document", document, func(is *testIssuer) http.HandlerFunc {
			return text(`{"issuer":"https://sts.windows.net/` + tenant + `/","jwks_uri":"` + is.URL + keysAt + `"}`)
		}, reason.DiscoveryInvalid},
		{"no issuer", document, func(is *testIssuer) http.HandlerFunc { return text(`{"jwks_uri":"` + is.URL + keysAt + `"}`) }, reason.DiscoveryInvalid},
		{"keys on another host", document, func(is *testIssuer) http.HandlerFunc {
			return text(`{"issuer":"` + is.v1(tenant) + `","jwks_uri":"` + evil.URL + keysAt + `"}`)
		}, reason.DiscoveryInvalid},
		{"keys over plain http", document, func(is *testIssuer) http.HandlerFunc {
			return text(`{"issuer":"` + is.v1(tenant) + `","jwks_uri":"` + strings.Replace(is.URL, "https", "http", 1) + keysAt + `"}`)
		}, reason.DiscoveryInvalid},
		{"keys in a file", document, func(is *testIssuer) http.HandlerFunc {
			return text(`{"issuer":"` + is.v1(tenant) + `","jwks_uri":"file:///etc/keys"}`)
		}, reason.DiscoveryInvalid},
		{"keys behind a user name", document, func(is *testIssuer) http.HandlerFunc {
			return text(`{"issuer":"` + is.v1(tenant) + `","jwks_uri":"` + strings.Replace(is.URL, "https://", "https://u@", 1) + keysAt + `"}`)
		}, reason.DiscoveryInvalid},
		{"no keys address", document, func(is *testIssuer) http.HandlerFunc { return text(`{"issuer":"` + is.v1(tenant) + `"}`) }, reason.DiscoveryInvalid},
		{"two issuers", document, func(is *testIssuer) http.HandlerFunc {
			return text(`{"issuer":"https://evil/","issuer":"` + is.v1(tenant) + `","jwks_uri":"` + is.URL + keysAt + `"}`)
		}, reason.DiscoveryInvalid},
		{"no JSON", document, func(*testIssuer) http.HandlerFunc { return text(`<html>`) }, reason.DiscoveryInvalid},
		{"a redirect of the document", document, func(*testIssuer) http.HandlerFunc {
			return http.RedirectHandler(evil.URL+document, http.StatusFound).ServeHTTP
		}, reason.DiscoveryFailed},
		{"a redirect of the keys", keysAt, func(*testIssuer) http.HandlerFunc {
			return http.RedirectHandler(evil.URL+keysAt, http.StatusPermanentRedirect).ServeHTTP
		}, reason.DiscoveryFailed},
		{"a document of 2 MiB", document, func(*testIssuer) http.HandlerFunc { return text(`{"a":"` + strings.Repeat("a", 2<<20) + `"}`) }, reason.DiscoveryFailed},
		{"keys of 10 MiB", keysAt, func(*testIssuer) http.HandlerFunc {
			return text(`{"keys":[],"a":"` + strings.Repeat("a", 10<<20) + `"}`)
		}, reason.DiscoveryFailed},
		{"404", document, func(*testIssuer) http.HandlerFunc { return http.NotFound }, reason.DiscoveryFailed},
		{"no list of keys", keysAt, func(*testIssuer) http.HandlerFunc { return text(`{"keys":{}}`) }, reason.DiscoveryInvalid},
		{"101 keys", keysAt, func(*testIssuer) http.HandlerFunc {
			return text(`{"keys":[` + strings.Repeat("{},", 100) + `{}]}`)
		}, reason.DiscoveryInvalid},
	} {
		t.Run(tc.name, func(t *testing.T) {
			is := newIssuer(t)
			is.answer(tc.path, tc.answer(is))
			trust := is.trust(c)
			trust.Issuers = trust.Issuers[:1]
			trust.RootCAs.AddCert(evil.Certificate())
			v := newVerifier(t, trust)
			_, err := v.Verify(t.Context(), is.token(is.claims(c)))
			if codeOf(t, err) != tc.want || err.(*guard.Error).Status != http.StatusServiceUnavailable {
				t.Errorf("got %v, want %s", err, tc.want)
			}
			if err := v.Preload(t.Context()); codeOf(t, err) != tc.want {
				t.Errorf("preload: %v", err)
			}
		})
	}
	if n := evil.keySets.Load(); n > 0 {
		t.Errorf("the other host was asked %d times", n)
	}
}

func TestHostsThatAreNamedMayHoldKeys(t *testing.T) {
	is, other, c := newIssuer(t), newIssuer(t), newClock()
	is.answer("/"+tenant+"/.well-known/openid-configuration", func(w http.ResponseWriter, r *http.Request) {
		writeJSON(w, map[string]any{"issuer": other.v1(tenant), "jwks_uri": other.URL + "/common/discovery/keys"})
	})
	trust := is.trust(c)
	trust.Issuers = trust.Issuers[:1]
	trust.RootCAs.AddCert(other.Certificate())
	trust.AlsoHosts = []string{strings.TrimPrefix(other.URL, "https://")}
	v := newVerifier(t, trust)
	if _, err := v.Verify(t.Context(), other.token(other.claims(c))); err != nil {
		t.Errorf("the issuer as the document names it: %v", err)
	}
	if _, err := v.Verify(t.Context(), is.token(is.claims(c))); codeOf(t, err) != reason.IssuerMismatch {
		t.Errorf("the host of the document: %v", err)
	}
}

func TestUnusableKeysAreLeftOut(t *testing.T) {
	weak, err := rsa.GenerateKey(rand.Reader, 1024)
	if err != nil {
		t.Fatal(err)
	}
	c := newClock()
	for _, tc := range []struct {
		name string
		key  testKey
		want reason.Code
	}{
		{"an ordinary key", testKey{"k", rsaKeys()[2], nil}, ""},
		{"a key with an odd certificate beside it", testKey{"k", rsaKeys()[2], map[string]any{"x5c": []string{"??"}, "x5t": 1}}, ""},
		{"a key with its algorithm", testKey{"k", rsaKeys()[2], map[string]any{"alg": "RS256"}}, ""},
		{"a weak key", testKey{"k", weak, nil}, reason.UnknownKey},
		{"a private key", testKey{"k", rsaKeys()[2], map[string]any{"d": b64(rsaKeys()[2].D.Bytes())}}, reason.UnknownKey},
		{"a key for encryption", testKey{"k", rsaKeys()[2], map[string]any{"use": "enc"}}, reason.UnknownKey},
		{"a key for another algorithm", testKey{"k", rsaKeys()[2], map[string]any{"alg": "PS256"}}, reason.UnknownKey},
		{"a key of another type", testKey{"k", rsaKeys()[2], map[string]any{"kty": "oct", "k": "AAAA"}}, reason.UnknownKey},
		{"a key with an issuer that is a number", testKey{"k", rsaKeys()[2], map[string]any{"issuer": 1}}, reason.UnknownKey},
		{"a key with an exponent of one", testKey{"k", rsaKeys()[2], map[string]any{"e": "AQ"}}, reason.UnknownKey},
	} {
		t.Run(tc.name, func(t *testing.T) {
			is := newIssuer(t)
			is.setKeys(tc.key)
			if _, err := newVerifier(t, is.trust(c)).Verify(t.Context(), is.token(is.claims(c))); codeOf(t, err) != tc.want {
				t.Errorf("got %v, want %s", err, tc.want)
			}
		})
	}
}

func TestCertificatesAreChecked(t *testing.T) {
	is, c := newIssuer(t), newClock()
	token := is.token(is.claims(c))
	trust := is.trust(c)
	trust.RootCAs = nil
	_, err := newVerifier(t, trust).Verify(t.Context(), token)
	if codeOf(t, err) != reason.DiscoveryFailed || !strings.Contains(err.Error(), "certificate") {
		t.Errorf("an unknown authority: %v", err)
	}
	trust.CAFile = filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(trust.CAFile, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: is.Certificate().Raw}), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := newVerifier(t, trust).Verify(t.Context(), token); err != nil {
		t.Errorf("with the file: %v", err)
	}
	trust.CAFile = filepath.Join(t.TempDir(), "empty.pem")
	if err := os.WriteFile(trust.CAFile, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := guard.NewVerifier(trust); err == nil || !strings.Contains(err.Error(), "no certificate") {
		t.Errorf("with an empty file: %v", err)
	}
}

func TestPlainHTTPNeedsAnExplicitOptionAndLoopback(t *testing.T) {
	is, c := newIssuer(t), newClock()
	plain := httptest.NewServer(is)
	defer plain.Close()
	const document = "/" + tenant + "/.well-known/openid-configuration"
	is.answer(document, func(w http.ResponseWriter, r *http.Request) {
		writeJSON(w, map[string]any{"issuer": plain.URL + "/" + tenant + "/", "jwks_uri": plain.URL + "/common/discovery/keys"})
	})
	trust := is.trust(c)
	trust.Issuers = []string{plain.URL + "/" + tenant + "/"}
	if _, err := guard.NewVerifier(trust); err == nil {
		t.Error("http is accepted")
	}
	trust.AllowLoopbackHTTP = true
	if _, err := newVerifier(t, trust).Verify(t.Context(), is.token(with(is.claims(c), "iss", plain.URL+"/"+tenant+"/"))); err != nil {
		t.Error(err)
	}
	trust.Issuers = []string{"http://192.0.2.1/" + tenant + "/"}
	if _, err := guard.NewVerifier(trust); err == nil {
		t.Error("http beyond this machine is accepted")
	}
}

func TestASlowIssuerIsGivenUp(t *testing.T) {
	is, c := newIssuer(t), newClock()
	stop := make(chan struct{})
	defer close(stop)
	is.answer("/"+tenant+"/.well-known/openid-configuration", func(w http.ResponseWriter, r *http.Request) {
		select {
		case <-stop:
		case <-r.Context().Done():
		}
	})
	trust := is.trust(c)
	trust.Issuers = trust.Issuers[:1]
	v := newVerifier(t, trust)
	v.SetFetchTimeout(20 * time.Millisecond)
	if _, err := v.Verify(t.Context(), is.token(is.claims(c))); codeOf(t, err) != reason.DiscoveryFailed {
		t.Error(err)
	}
}

func TestOneDeadIssuerDoesNotStopTheOther(t *testing.T) {
	is, c := newIssuer(t), newClock()
	is.answer("/"+tenant+"/.well-known/openid-configuration", http.NotFound)
	v := newVerifier(t, is.trust(c))
	if _, err := v.Verify(t.Context(), is.token(is.claims2(c))); err != nil {
		t.Errorf("version 2: %v", err)
	}
	// Its keys would have been at the dead one: the caller may come again.
	if _, err := v.Verify(t.Context(), is.token(is.claims(c))); codeOf(t, err) == "" {
		t.Error("version 1 passes")
	}
}

func TestAClosedVerifierRefuses(t *testing.T) {
	is, c := newIssuer(t), newClock()
	v := newVerifier(t, is.trust(c))
	v.Close()
	if _, err := v.Verify(t.Context(), is.token(is.claims(c))); codeOf(t, err) != reason.DiscoveryFailed {
		t.Error(err)
	}
}

func TestAClockSetBackDoesNotStopFetches(t *testing.T) {
	is, c := newIssuer(t), newClock()
	v := newVerifier(t, is.trust(c))
	c.advance(48 * time.Hour)
	v.Verify(t.Context(), sign(rsaKeys()[3], with(goodHeader(), "kid", "x"), is.claims(c)))
	c.advance(-48 * time.Hour)
	is.setKeys(testKey{id: "key-2", private: rsaKeys()[2]})
	if _, err := v.Verify(t.Context(), is.token(is.claims(c))); err != nil {
		t.Error(err)
	}
}
