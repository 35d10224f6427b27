package access

import (
	"context"
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"tabard/guard"
	"tabard/guard/reason"
	"tabard/internal/settings"
)

const (
	sendAction = "Microsoft.SignalRService/WebPubSub/hub/send/action"
	resource   = "https://webpubsub.azure.com"
	authority  = "https://login.example"
	tenant     = "aaaa0000-0000-4000-8000-00000000000a"
	alice      = "cccc0000-0000-4000-8000-00000000000c"
	client     = "dddd0000-0000-4000-8000-00000000000d"
	serviceKey = "service-service-service-service-service-key"
	sendURL    = "http://example.com/api/hubs/chat/:send"
)

var rsaKey = sync.OnceValue(func() *rsa.PrivateKey {
	k, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		panic(err)
	}
	return k
})

// An issuer answers what guard asks for, without a connection.
type issuer struct {
	down    bool
	fetches atomic.Int32 // of keys
}

func (is *issuer) RoundTrip(r *http.Request) (*http.Response, error) {
	if is.down {
		return nil, errors.New("no route to the issuer, says the secret network")
	}
	w := httptest.NewRecorder()
	var body any
	switch r.URL.Path {
	case "/" + tenant + "/.well-known/openid-configuration":
		body = m{"issuer": authority + "/" + tenant + "/", "jwks_uri": authority + "/keys"}
	case "/keys":
		is.fetches.Add(1)
		body = m{"keys": []m{{"kty": "RSA", "use": "sig", "kid": "k",
			"n": encode(string(rsaKey().N.Bytes())), "e": encode(string(big.NewInt(int64(rsaKey().E)).Bytes()))}}}
	}
	json.NewEncoder(w).Encode(body)
	return w.Result(), nil
}

// A directory is an issuer whose principal alice may send, and connect while mayConnect.
type directory struct {
	issuer
	t          testing.TB
	clock      time.Time
	mayConnect bool
	asked      []string
}

// verifier trusts the directory and has a key of its own.
func (d *directory) verifier() *Verifier {
	v, err := guard.NewVerifier(guard.Trust{
		Issuers: []string{authority + "/" + tenant + "/"}, Audiences: []string{resource}, Transport: &d.issuer, Now: func() time.Time { return d.clock },
	})
	if err != nil {
		d.t.Fatal(err)
	}
	d.t.Cleanup(v.Close)
	return New(Options{
		Tokens:     v.Verify,
		ServiceKey: func(*settings.Instance) string { return serviceKey },
		Allowed: func(p Principal, scope, action string) bool {
			d.asked = append(d.asked, scope+" "+action)
			return p.TenantID == tenant && p.ObjectID == alice && (action == sendAction || action == connectAction && d.mayConnect)
		},
		Now: func() time.Time { return d.clock },
	})
}

func newDirectory(t testing.TB) *directory { return &directory{t: t, clock: now, mayConnect: true} }

func accessClaims(change m) m {
	c := m{
		"aud": resource, "iss": authority + "/" + tenant + "/", "iat": now.Unix() - 300, "nbf": now.Unix() - 300, "exp": now.Unix() + 3600,
		"appid": client, "idtyp": "app", "oid": alice, "sub": alice, "tid": tenant, "ver": "1.0",
	}
	for k, v := range change {
		if c[k] = v; v == nil {
			delete(c, k)
		}
	}
	return c
}

// rs256 signs claims as the directory's key does, under any header.
func rs256(k *rsa.PrivateKey, header string, claims m) string {
	payload, _ := json.Marshal(claims)
	return rs256Text(k, header, string(payload))
}

func rs256Text(k *rsa.PrivateKey, header, payload string) string {
	input := encode(header) + "." + encode(payload)
	sum := sha256.Sum256([]byte(input))
	signature, err := rsa.SignPKCS1v15(nil, k, crypto.SHA256, sum[:])
	if err != nil {
		panic(err)
	}
	return input + "." + encode(string(signature))
}

const rsaHeader = `{"typ":"JWT","alg":"RS256","kid":"k"}`

func accessToken(change m) string { return rs256(rsaKey(), rsaHeader, accessClaims(change)) }

func TestNoTokenOfOneKindPassesAsTheOther(t *testing.T) {
	spki, _ := x509.MarshalPKIXPublicKey(&rsaKey().PublicKey)
	pkcs1 := x509.MarshalPKCS1PublicKey(&rsaKey().PublicKey)
	publicPEM := string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: spki}))
	jwk := fmt.Sprintf(`{"kty":"RSA","kid":"k","n":%q,"e":"AQAB"}`, encode(string(rsaKey().N.Bytes())))
	directoryClaims, _ := json.Marshal(accessClaims(nil))
	serverClaims := m{"aud": sendURL, "exp": now.Unix() + 60}
	keyClaims, _ := json.Marshal(serverClaims)
	long := strings.Repeat("A", minRSASignature)
	short := strings.Repeat("A", 43)
	input := encode(rsaHeader) + "." + encode(string(directoryClaims))

	for _, tc := range []struct {
		name, token string
		want        reason.Code
	}{
		{"HS256 with the public key as PEM", raw(publicPEM, `{"alg":"HS256","kid":"k"}`, string(directoryClaims)), reason.KeySignatureInvalid},
		{"HS256 with the public key as PEM without its last line break", raw(strings.TrimSpace(publicPEM), `{"alg":"HS256","kid":"k"}`, string(directoryClaims)), reason.KeySignatureInvalid},
		{"HS256 with the public key as DER", raw(string(spki), `{"alg":"HS256","kid":"k"}`, string(directoryClaims)), reason.KeySignatureInvalid},
		{"HS256 with the public key as PKCS #1", raw(string(pkcs1), `{"alg":"HS256","kid":"k"}`, string(directoryClaims)), reason.KeySignatureInvalid},
		{"HS256 with the public key as JWK", raw(jwk, `{"alg":"HS256","kid":"k"}`, string(directoryClaims)), reason.KeySignatureInvalid},
		{"HS256 with an access key and the directory's claims", raw(primary, hs256, string(directoryClaims)), reason.AudienceMismatch},
		{"HS256 with an access key that calls itself RS256", raw(primary, rsaHeader, string(keyClaims)), reason.AlgorithmNotAllowed},
		{"HS256 with the service's own key, whose tokens are for clients", raw(serviceKey, hs256, string(keyClaims)), reason.KeySignatureInvalid},
		{"RS256 that calls itself HS256", rs256(rsaKey(), `{"alg":"HS256","kid":"k"}`, accessClaims(nil)), reason.AlgorithmNotAllowed},
		{"RS256 with the claims of an access key", rs256(rsaKey(), rsaHeader, serverClaims), reason.WrongTenant},
		{"alg none, and a signature as long as RS256's", encode(`{"alg":"none"}`) + "." + encode(string(directoryClaims)) + "." + long, reason.AlgorithmNotAllowed},
		{"alg none, and a signature as long as HS256's", encode(`{"alg":"none"}`) + "." + encode(string(directoryClaims)) + "." + short, reason.AlgorithmNotAllowed},
		{"alg none without a signature", encode(`{"alg":"none"}`) + "." + encode(string(directoryClaims)) + ".", reason.AlgorithmNotAllowed},
		{"RS256 with a signature as short as HS256's", input + "." + short, reason.AlgorithmNotAllowed},
		{"RS256 with a signature of zeros", input + "." + long, reason.SignatureInvalid},
		{"HS256 with zeros behind its signature", raw(primary, hs256, string(keyClaims)) + long, reason.TokenMalformed},
		{"a client token of an access key", sign(primary, good(nil)), reason.AudienceMismatch},
	} {
		t.Run(tc.name, func(t *testing.T) {
			d := newDirectory(t)
			v := d.verifier()
			for range 2 { // nothing of it is remembered
				p, err := v.Server(instance(), call(sendURL, tc.token), sendAction)
				if code(err) != tc.want {
					t.Errorf("%v (%s), want %s", err, code(err), tc.want)
				}
				if p != (Principal{}) || len(d.asked) > 0 {
					t.Errorf("it became %+v, roles were asked %q", p, d.asked)
				}
			}
		})
	}
	t.Run("a token of the directory as a client token", func(t *testing.T) {
		if _, err := newDirectory(t).verifier().Client(instance(), connect(accessToken(m{"aud": "http://example.com/client/hubs/chat"})), "chat"); code(err) != reason.AlgorithmNotAllowed {
			t.Error(err)
		}
	})
}

func TestTokensOfADirectory(t *testing.T) {
	stranger, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		name, token string
		status      int
		want        reason.Code
	}{
		{"a principal with a role", accessToken(nil), 0, ""},
		{"a principal without", accessToken(m{"oid": client, "sub": client}), 403, reason.RoleUnassigned},
		{"for a key vault", accessToken(m{"aud": "https://vault.azure.net"}), 401, reason.WrongAudience},
		{"for the URL of the request", accessToken(m{"aud": sendURL}), 401, reason.WrongAudience},
		{"for several audiences", accessToken(m{"aud": []string{resource}}), 401, reason.AudienceIsList},
		{"of another tenant", accessToken(m{"tid": "bbbb0000-0000-4000-8000-00000000000b"}), 401, reason.WrongTenant},
		{"of another issuer", accessToken(m{"iss": "https://evil.example/" + tenant + "/"}), 401, reason.IssuerMismatch},
		{"of a user", accessToken(m{"idtyp": nil, "scp": "user_impersonation"}), 403, reason.NotAppToken},
		{"expired", accessToken(m{"exp": now.Unix() - 301}), 401, reason.Expired},
		{"not valid yet", accessToken(m{"nbf": now.Unix() + 600}), 401, reason.NotYetValid},
		{"without an expiry", accessToken(m{"exp": nil}), 401, reason.ExpiryMissing},
		{"signed by a stranger", rs256(stranger, rsaHeader, accessClaims(nil)), 401, reason.SignatureInvalid},
		{"signed with an unknown key", rs256(stranger, `{"alg":"RS256","kid":"x"}`, accessClaims(nil)), 401, reason.UnknownKey},
		{"of a mebibyte", accessToken(m{"x": strings.Repeat("x", 1<<20)}), 401, reason.TokenTooLarge},
	} {
		t.Run(tc.name, func(t *testing.T) {
			d := newDirectory(t)
			v := d.verifier()
			for range 2 {
				p, err := v.Server(instance(), call(sendURL, tc.token), sendAction)
				if code(err) != tc.want {
					t.Fatalf("%v (%s), want %q", err, code(err), tc.want)
				}
				if err == nil {
					if p != (Principal{tenant, alice, client}) {
						t.Errorf("it is %+v", p)
					}
					continue
				}
				refusal := err.(*Refusal)
				if refusal.Status != tc.status || p != (Principal{}) || !strings.HasSuffix(refusal.Message, ".") {
					t.Errorf("status %d, want %d; %q", refusal.Status, tc.status, refusal.Message)
				}
				if (refusal.Claims != nil) != (tc.want == reason.RoleUnassigned) {
					t.Errorf("claims %s", refusal.Claims)
				}
				if strings.Contains(refusal.Message+string(refusal.Claims), tc.token[strings.LastIndexByte(tc.token, '.'):]) {
					t.Error("the refusal shows the signature")
				}
			}
		})
	}
}

func TestTheActionDecidesAtTheInstance(t *testing.T) {
	d := newDirectory(t)
	v := d.verifier()
	in := instance()
	in.SubscriptionID, in.ResourceGroup = tenant, "rg"
	if _, err := v.Server(in, call(sendURL, accessToken(nil)), "Microsoft.SignalRService/WebPubSub/group/write"); code(err) != reason.RoleUnassigned {
		t.Errorf("an action that no role has: %v", err)
	}
	want := "/subscriptions/" + tenant + "/resourceGroups/rg/providers/Microsoft.SignalRService/WebPubSub/default Microsoft.SignalRService/WebPubSub/group/write"
	if len(d.asked) != 1 || d.asked[0] != want {
		t.Errorf("asked %q, want %q", d.asked, want)
	}
	if _, err := New(Options{Tokens: v.opt.Tokens}).Server(in, call(sendURL, accessToken(nil)), sendAction); code(err) != reason.RoleUnassigned {
		t.Errorf("nobody knows roles: %v", err)
	}
}

func TestTokensOfADirectoryCanBeSwitchedOff(t *testing.T) {
	d := newDirectory(t)
	v := d.verifier()
	in := instance()
	in.DisableAADAuth = true
	_, err := v.Server(in, call(sendURL, accessToken(nil)), sendAction)
	if code(err) != reason.AADAuthDisabled || err.(*Refusal).Status != 401 {
		t.Error(err)
	}
	if err := server(v, in, call(sendURL, serverToken(sendURL))); err != nil {
		t.Errorf("an access key: %v", err)
	}
	in.DisableAADAuth, in.DisableLocalAuth = false, true
	if _, err := v.Server(in, call(sendURL, accessToken(nil)), sendAction); err != nil {
		t.Errorf("access keys switched off: %v", err)
	}
	if err := server(v, in, call(sendURL, serverToken(sendURL))); code(err) != reason.LocalAuthDisabled {
		t.Errorf("an access key, switched off: %v", err)
	}
	if _, err := verifier().Server(in, call(sendURL, accessToken(nil)), sendAction); code(err) != reason.AADAuthDisabled {
		t.Errorf("without any directory: %v", err)
	}
}

func TestAnIssuerThatCannotBeAskedIsNotTheCallersFault(t *testing.T) {
	d := newDirectory(t)
	d.down = true
	_, err := d.verifier().Server(instance(), call(sendURL, accessToken(nil)), sendAction)
	var refusal *Refusal
	if !errors.As(err, &refusal) || refusal.Status != 503 || refusal.Code != reason.DiscoveryFailed {
		t.Fatal(err)
	}
	if refusal.Err == nil || strings.Contains(refusal.Message, "secret") {
		t.Errorf("the caller is told %q, the log %v", refusal.Message, refusal.Err)
	}
	broken := New(Options{Tokens: func(context.Context, string) (*guard.Claims, error) { return nil, errors.New("secret") }})
	if _, err := broken.Server(instance(), call(sendURL, accessToken(nil)), sendAction); !errors.As(err, &refusal) || refusal.Status != 503 || strings.Contains(refusal.Message, "secret") {
		t.Errorf("an error that is none of guard's: %v", err)
	}
}

func TestClientTokensForPrincipals(t *testing.T) {
	d := newDirectory(t)
	v := d.verifier()
	in := instance()
	p, err := v.Server(in, call(sendURL, accessToken(nil)), sendAction)
	if err != nil {
		t.Fatal(err)
	}
	token, err := v.SignFor(in, p, ClientTokenOptions{Audience: "http://example.com/client/hubs/chat", UserID: "u", Issued: now})
	if err != nil {
		t.Fatal(err)
	}
	for _, state := range []string{"new", "seen"} {
		c, err := v.Client(in, connect(token), "chat")
		if err != nil || c.UserID != "u" {
			t.Fatalf("%s: %+v, %v", state, c, err)
		}
		if len(c.Claims) != 5 { // aud, sub, iat, nbf, exp
			t.Errorf("event handlers would see %v", c.Claims)
		}
	}
	in.Keys = settings.Keys{Primary: stranger, Secondary: stranger + "2"}
	if _, err := v.Client(in, connect(token), "chat"); err != nil {
		t.Errorf("after both access keys were regenerated: %v", err)
	}
	in.DisableLocalAuth = true
	if _, err := v.Client(in, connect(token), "chat"); err != nil {
		t.Errorf("with access keys switched off: %v", err)
	}
	if _, err := v.Client(in, connect(token), "other"); code(err) != reason.AudienceMismatch {
		t.Errorf("another hub: %v", err)
	}
	if _, err := v.Server(in, call("http://example.com/client/hubs/chat", token), sendAction); code(err) != reason.LocalAuthDisabled {
		t.Errorf("as a server's token: %v", err)
	}
	d.mayConnect = false
	if _, err := v.Client(in, connect(token), "chat"); code(err) != reason.RoleUnassigned || err.(*Refusal).Status != 403 {
		t.Errorf("after the role was taken away: %v", err)
	}
	forged, _ := SignClientToken(primary, ClientTokenOptions{Audience: "http://example.com/client/hubs/chat", Issued: now, keyID: p.keyID()})
	in = instance()
	if _, err := v.Client(in, connect(forged), "chat"); err != nil {
		t.Errorf("an access key whose holder names a principal needs no role: %v", err)
	}
}

func TestSeenDirectoryTokenDoesNotAllocateMuch(t *testing.T) {
	d := newDirectory(t)
	v := d.verifier()
	v.opt.Allowed = func(Principal, string, string) bool { return true }
	in, r := instance(), call(sendURL, accessToken(nil))
	if n := testing.AllocsPerRun(100, func() {
		if _, err := v.Server(in, r, sendAction); err != nil {
			t.Fatal(err)
		}
	}); n > 1 { // the ARM id of an instance that is not from a snapshot
		t.Errorf("%v allocations", n)
	}
}

func BenchmarkDirectoryTokenSeen(b *testing.B) {
	d := newDirectory(b)
	v := d.verifier()
	v.opt.Allowed = func(Principal, string, string) bool { return true }
	in, r := instance(), call(sendURL, accessToken(nil))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := v.Server(in, r, sendAction); err != nil {
			b.Fatal(err)
		}
	}
}
