package tokenservice

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"maps"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"

	"tabard/internal/directory"
	"tabard/internal/identity"
)

func two() *int { v := 2; return &v }

// sendRole is an application's role that managed identities can have.
func sendRole() []directory.AppRole {
	return []directory.AppRole{{DisplayName: "Send events", Value: "Events.Send", AllowedMemberTypes: []string{"Application"}, IsEnabled: true}}
}

func TestATokenIsVerifiedByDiscoveryAloneAndHasExactlyTheClaimsOfThePlatform(t *testing.T) {
	h := start(t)
	client := h.serve(t)
	system, user := h.system(t), h.user(t)
	v1, sp1 := h.register(t, directory.Application{DisplayName: "orders", IdentifierURIs: []string{"api://orders"}, AppRoles: sendRole()})
	v2, _ := h.register(t, directory.Application{DisplayName: "billing", IdentifierURIs: []string{"api://billing"}, RequestedAccessTokenVersion: two()})
	if _, err := h.directory.AssignAppRole(t.Context(), user.PrincipalID, sp1.ID, v1.AppRoles[0].ID); err != nil {
		t.Fatal(err)
	}
	origin := h.origin.Load().(string)
	issuer1, issuer2 := origin+"/"+testTenant+"/", origin+"/"+testTenant+"/v2.0"
	iat := float64(h.clock.Now().Unix() - 300)
	exp := float64(h.clock.Now().Unix() + 24*3600)

	for _, row := range []struct {
		name     string
		p        identity.Principal
		resource string
		document string // a receiver may use any of them
		want     map[string]any
	}{
		{"system-assigned, v1 by URI", system, "api://orders", "/" + testTenant + "/.well-known/openid-configuration", map[string]any{
			"aud": "api://orders", "iss": issuer1, "idp": issuer1, "ver": "1.0", "appid": system.ClientID, "appidacr": "2",
			"oid": system.PrincipalID, "sub": system.PrincipalID, "xms_mirid": instanceID,
		}},
		{"v1 by URI with a trailing slash: byte for byte", system, "api://orders/", "/common/.well-known/openid-configuration", map[string]any{
			"aud": "api://orders/", "iss": issuer1, "idp": issuer1, "ver": "1.0", "appid": system.ClientID, "appidacr": "2",
			"oid": system.PrincipalID, "sub": system.PrincipalID, "xms_mirid": instanceID,
		}},
		{"v1 by id in upper case: byte for byte", system, strings.ToUpper(v1.AppID), "/" + testTenant + "/v2.0/.well-known/openid-configuration", map[string]any{
			"aud": strings.ToUpper(v1.AppID), "iss": issuer1, "idp": issuer1, "ver": "1.0", "appid": system.ClientID, "appidacr": "2",
			"oid": system.PrincipalID, "sub": system.PrincipalID, "xms_mirid": instanceID,
		}},
		{"user-assigned with a role, v1", user, "api://orders", "/common/v2.0/.well-known/openid-configuration", map[string]any{
			"aud": "api://orders", "iss": issuer1, "idp": issuer1, "ver": "1.0", "appid": user.ClientID, "appidacr": "2",
			"oid": user.PrincipalID, "sub": user.PrincipalID, "xms_mirid": identityID, "xms_az_rid": instanceID, "roles": []any{"Events.Send"},
		}},
		{"user-assigned, v2: the audience is the application's id", user, "api://billing", "/" + testTenant + "/v2.0/.well-known/openid-configuration", map[string]any{
			"aud": v2.AppID, "iss": issuer2, "ver": "2.0", "azp": user.ClientID, "azpacr": "2",
			"oid": user.PrincipalID, "sub": user.PrincipalID, "xms_mirid": identityID, "xms_az_rid": instanceID,
		}},
		{"v2 by id", system, v2.AppID, "/organizations/v2.0/.well-known/openid-configuration", map[string]any{
			"aud": v2.AppID, "iss": issuer2, "ver": "2.0", "azp": system.ClientID, "azpacr": "2",
			"oid": system.PrincipalID, "sub": system.PrincipalID, "xms_mirid": instanceID,
		}},
		{"a resource of Microsoft's is v1", system, "https://vault.azure.net", "/common/.well-known/openid-configuration", map[string]any{
			"aud": "https://vault.azure.net", "iss": issuer1, "idp": issuer1, "ver": "1.0", "appid": system.ClientID, "appidacr": "2",
			"oid": system.PrincipalID, "sub": system.PrincipalID, "xms_mirid": instanceID,
		}},
	} {
		t.Run(row.name, func(t *testing.T) {
			tok := h.mint(t, row.p, row.resource)
			header, claims, err := receiver{client, origin + row.document}.verify(t.Context(), tok.Raw)
			if err != nil {
				t.Fatal(err)
			}
			for name, shape := range map[string]string{"uti": `^[A-Za-z0-9_-]{22}$`, "aio": `^[A-Za-z0-9_-]{40}$`, "rh": `^1\.[A-Za-z0-9_-]+\.$`} {
				if got, _ := claims[name].(string); !regexp.MustCompile(shape).MatchString(got) {
					t.Errorf("%s is %q, want %s", name, got, shape)
				}
				delete(claims, name)
			}
			want := maps.Clone(row.want)
			want["tid"], want["idtyp"], want["iat"], want["nbf"], want["exp"] = testTenant, "app", iat, iat, exp
			for _, name := range slices.Sorted(maps.Keys(claims)) {
				if _, ok := want[name]; !ok {
					t.Errorf("claim %s=%v is too much", name, claims[name])
				}
			}
			for name, value := range want {
				if got, err := json.Marshal(claims[name]); err != nil || string(got) != mustJSON(value) {
					t.Errorf("claim %s is %s, want %s", name, got, mustJSON(value))
				}
			}
			kid := h.Keys()[0].ID
			if header.KeyID != kid || header.Algorithm != "RS256" || header.ExtraHeaders["typ"] != "JWT" {
				t.Errorf("header %+v", header)
			}
			if x5t, ok := header.ExtraHeaders["x5t"]; ok != (row.want["ver"] == "1.0") || ok && x5t != kid {
				t.Errorf("x5t is %v in a token of version %v", x5t, row.want["ver"])
			}
			if len(header.ExtraHeaders) > 2 {
				t.Errorf("more headers than typ and x5t: %v", header.ExtraHeaders)
			}

			now := h.clock.Now()
			if !tok.NotBefore.Equal(now.Add(-300*time.Second)) || !tok.ExpiresOn.Equal(now.Add(24*time.Hour)) || !tok.RefreshOn.Equal(now.Add(12*time.Hour)) {
				t.Errorf("times of the token: %v, %v, %v", tok.NotBefore, tok.ExpiresOn, tok.RefreshOn)
			}
			if len(tok.Authorization) != 1 || tok.Authorization[0] != "Bearer "+tok.Raw {
				t.Error("the header's value is not the token")
			}
			if string(tok.Claims) == "" || !strings.Contains(tok.Raw, base64.RawURLEncoding.EncodeToString(tok.Claims)) {
				t.Errorf("claims %s are not the token's", tok.Claims)
			}
		})
	}
}

func mustJSON(v any) string {
	b, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	return string(b)
}

func TestEachTokenHasAnIDOfItsOwn(t *testing.T) {
	h := start(t)
	p := h.system(t)
	h.register(t, directory.Application{DisplayName: "orders", IdentifierURIs: []string{"api://orders"}})
	seen := map[string]bool{}
	for range 20 {
		var c struct{ Uti string }
		if err := json.Unmarshal(h.mint(t, p, "api://orders").Claims, &c); err != nil {
			t.Fatal(err)
		}
		if seen[c.Uti] {
			t.Fatalf("uti %s twice", c.Uti)
		}
		seen[c.Uti] = true
	}
}

func TestAGraphTokenCannotBeVerifiedByAnybodyElse(t *testing.T) {
	h := start(t)
	client := h.serve(t)
	p := h.system(t)
	document := receiver{client, h.origin.Load().(string) + "/common/.well-known/openid-configuration"}
	for resource, aud := range map[string]string{
		"":                                     "https://graph.microsoft.com",
		"https://graph.microsoft.com":          "https://graph.microsoft.com",
		"https://graph.microsoft.com/":         "https://graph.microsoft.com/",
		"00000003-0000-0000-c000-000000000000": "00000003-0000-0000-c000-000000000000",
	} {
		tok := h.mint(t, p, resource)
		if _, _, err := document.verify(t.Context(), tok.Raw); !errors.Is(err, jose.ErrCryptoFailure) {
			t.Errorf("%q: verification says %v, want that the signature is wrong", resource, err)
		}
		var c claims
		if err := json.Unmarshal(tok.Claims, &c); err != nil {
			t.Fatal(err)
		}
		if c.Aud != aud || c.Ver != "1.0" || c.Oid != p.PrincipalID {
			t.Errorf("%q: claims %+v", resource, c)
		}
		// Graph itself knows what was signed: the header with the hash of the nonce.
		parts := strings.Split(tok.Raw, ".")
		header, err := base64.RawURLEncoding.DecodeString(parts[0])
		if err != nil {
			t.Fatal(err)
		}
		var shown map[string]string
		if err := json.Unmarshal(header, &shown); err != nil {
			t.Fatal(err)
		}
		if shown["nonce"] == "" || shown["alg"] != "RS256" || shown["typ"] != "JWT" || shown["kid"] != h.Keys()[0].ID || shown["x5t"] != shown["kid"] || len(shown) != 5 {
			t.Fatalf("%q: header %s", resource, header)
		}
		hash := sha256.Sum256([]byte(shown["nonce"]))
		shown["nonce"] = base64.RawURLEncoding.EncodeToString(hash[:])
		signed := base64.RawURLEncoding.EncodeToString([]byte(mustJSON(shown))) + "." + parts[1] + "." + parts[2]
		if _, _, err := document.verify(t.Context(), signed); err != nil {
			t.Errorf("%q: the signature is not over the header with the hashed nonce: %v", resource, err)
		}
	}
}

func TestLifetimes(t *testing.T) {
	for _, row := range []struct {
		name            string
		lifetime        time.Duration
		refused         bool
		exp, refreshing time.Duration
	}{
		{"default", 0, false, 24 * time.Hour, 12 * time.Hour},
		{"the longest", 24 * time.Hour, false, 24 * time.Hour, 12 * time.Hour},
		{"an hour: no advice, its users renew late in its life", time.Hour, false, time.Hour, 0},
		{"two hours: still none", 2 * time.Hour, false, 2 * time.Hour, 0},
		{"the shortest", 5 * time.Minute, false, 5 * time.Minute, 0},
		{"too short", 5*time.Minute - 1, true, 0, 0},
		{"too long", 24*time.Hour + 1, true, 0, 0},
		{"negative", -time.Hour, true, 0, 0},
	} {
		t.Run(row.name, func(t *testing.T) {
			h := start(t)
			s, err := New(t.Context(), h.store, h.directory, Options{Authority: h.opt.Authority, Lifetime: row.lifetime, Now: h.clock.Now, generate: pooledKey})
			if row.refused {
				if err == nil {
					s.Close()
					t.Fatal("accepted")
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			defer s.Close()
			tok, err := s.Token(t.Context(), h.system(t), "https://vault.azure.net")
			if err != nil {
				t.Fatal(err)
			}
			now := h.clock.Now()
			if got := tok.ExpiresOn.Sub(now); got != row.exp {
				t.Errorf("expires in %v, want %v", got, row.exp)
			}
			if want := row.refreshing; want == 0 != tok.RefreshOn.IsZero() || want != 0 && tok.RefreshOn.Sub(now) != want {
				t.Errorf("refresh on %v, want in %v", tok.RefreshOn, want)
			}
		})
	}
}

func TestRefusalsHaveTheCodesOfThePlatform(t *testing.T) {
	h := start(t)
	system, user := h.system(t), h.user(t)
	h.register(t, directory.Application{DisplayName: "orders", IdentifierURIs: []string{"api://orders"}})
	_, disabled := h.register(t, directory.Application{DisplayName: "closed", IdentifierURIs: []string{"api://closed"}})
	guarded, guardedSP := h.register(t, directory.Application{DisplayName: "guarded", IdentifierURIs: []string{"api://guarded"}})
	if _, err := h.directory.CreateApplication(t.Context(), directory.Application{DisplayName: "bare", IdentifierURIs: []string{"api://bare"}}); err != nil {
		t.Fatal(err)
	}
	deleted, err := h.directory.CreateManagedIdentity(t.Context(), "gone", instanceID+"2", false)
	if err != nil {
		t.Fatal(err)
	}
	if err := h.directory.DeleteServicePrincipal(t.Context(), deleted.ID); err != nil {
		t.Fatal(err)
	}
	asleep, err := h.directory.CreateManagedIdentity(t.Context(), "asleep", instanceID+"3", false)
	if err != nil {
		t.Fatal(err)
	}
	for id, edit := range map[string]func(*directory.ServicePrincipal) error{
		disabled.ID:  func(p *directory.ServicePrincipal) error { p.AccountEnabled = false; return nil },
		asleep.ID:    func(p *directory.ServicePrincipal) error { p.AccountEnabled = false; return nil },
		guardedSP.ID: func(p *directory.ServicePrincipal) error { p.AppRoleAssignmentRequired = true; return nil },
	} {
		if _, err := h.directory.UpdateServicePrincipal(t.Context(), id, edit); err != nil {
			t.Fatal(err)
		}
	}
	with := func(edit func(*identity.Principal)) identity.Principal { p := system; edit(&p); return p }
	for _, row := range []struct {
		name     string
		p        identity.Principal
		resource string
		code     string
		says     []string
	}{
		{"an unknown resource", system, "api://elsewhere", "AADSTS500011", []string{"api://elsewhere", testTenant}},
		{"a role instead of a resource: what was meant is named", system, "api://orders/Events.Send", "AADSTS500011", []string{"named api://orders/Events.Send ", "similar: api://orders"}},
		{"an application without service principal", system, "api://bare", "AADSTS500011", []string{"bare", "no service principal"}},
		{"a malformed resource", system, "api://a b", "AADSTS50001", []string{"a b"}},
		{"a resource that is disabled", system, "api://closed", "AADSTS50001", []string{"api://closed", "disabled"}},
		{"assignment is required", system, "api://guarded", "AADSTS501051", []string{"Application '" + system.ClientID + "'(default) is not assigned to a role for the application '" + guarded.AppID + "'(guarded)"}},
		{"a deleted principal", identity.Principal{TenantID: testTenant, PrincipalID: deleted.ID, ClientID: deleted.AppID, System: true}, "api://orders", "AADSTS700016", []string{deleted.AppID, "deleted"}},
		{"a disabled principal", identity.Principal{TenantID: testTenant, PrincipalID: asleep.ID, ClientID: asleep.AppID, System: true}, "api://orders", "AADSTS7000112", []string{asleep.AppID}},
		{"another tenant", with(func(p *identity.Principal) { p.TenantID = "bbbb0000-0000-4000-8000-00000000000b" }), "api://orders", "AADSTS90002", []string{testTenant}},
		{"no principal at all", identity.Principal{TenantID: testTenant, System: true}, "api://orders", "AADSTS700016", nil},
		{"the principal of an application is not a managed identity", with(func(p *identity.Principal) { p.PrincipalID, p.ClientID = guardedSP.ID, guarded.AppID }), "api://orders", "AADSTS700016", nil},
		{"the client id of another", with(func(p *identity.Principal) { p.ClientID = user.ClientID }), "api://orders", "AADSTS700016", nil},
		{"a user-assigned identity passed off as system-assigned", identity.Principal{TenantID: testTenant, PrincipalID: user.PrincipalID, ClientID: user.ClientID, System: true}, "api://orders", "AADSTS700016", nil},
	} {
		t.Run(row.name, func(t *testing.T) {
			tok, err := h.Token(t.Context(), row.p, row.resource)
			var refused *identity.Error
			if tok != nil || !errors.As(err, &refused) {
				t.Fatalf("got %v, %v, want an *identity.Error", tok, err)
			}
			if refused.Code != row.code || !refused.Permanent || !guid.MatchString(refused.CorrelationID) || !strings.HasPrefix(refused.Description, row.code+": ") {
				t.Errorf("got %+v, want %s", refused, row.code)
			}
			for _, s := range row.says {
				if !strings.Contains(refused.Description, s) {
					t.Errorf("%q does not say %q", refused.Description, s)
				}
			}
		})
	}
	if _, err := h.directory.AssignAppRole(t.Context(), system.PrincipalID, guardedSP.ID, directory.DefaultAccess); err != nil {
		t.Fatal(err)
	}
	if tok := h.mint(t, system, "api://guarded"); strings.Contains(string(tok.Claims), "roles") {
		t.Errorf("default access gave roles: %s", tok.Claims)
	}
}

func TestTheRequesterCannotChooseWhatTheTokenSaysOfIt(t *testing.T) {
	h := start(t)
	p := h.system(t)
	p.ResourceID, p.HostResourceID = "/somebody/else", "/somebody/else"
	if tok := h.mint(t, p, "https://vault.azure.net"); strings.Contains(string(tok.Claims), "somebody") || !strings.Contains(string(tok.Claims), instanceID) {
		t.Errorf("claims %s", tok.Claims)
	}
}

func TestWithoutAnOriginOfItsOwnNothingIsIssued(t *testing.T) {
	h := start(t)
	p := h.system(t)
	for _, row := range []struct {
		origin    string
		code      string
		permanent bool
	}{
		{"", "AADSTS90033", false}, // not listening yet
		{"https://sts.windows.net", "AADSTS50000", true},
		{"https://login.microsoftonline.com/", "AADSTS50000", true},
		{"https://LOGIN.microsoftonline.com:8443", "AADSTS50000", true},
		{"https://login.microsoftonline.com.", "AADSTS50000", true},
		{"https://eu.login.microsoft.com", "AADSTS50000", true},
		{"https://login.chinacloudapi.cn", "AADSTS50000", true},
		{"https://windows.net", "AADSTS50000", true},
		{"login.wps.test", "AADSTS50000", true},
		{"ftp://login.wps.test", "AADSTS50000", true},
		{"https://login.wps.test/path", "AADSTS50000", true},
		{"https://user@login.wps.test", "AADSTS50000", true},
		{"https://login.wps.test?q", "AADSTS50000", true},
		{"https://:8443", "AADSTS50000", true},
	} {
		h.origin.Store(row.origin)
		tok, err := h.Token(t.Context(), p, "https://vault.azure.net")
		var refused *identity.Error
		if !errors.As(err, &refused) || refused.Code != row.code || refused.Permanent != row.permanent {
			t.Errorf("authority %q: %v, %v, want %s", row.origin, tok, err, row.code)
		}
		if h.Issuer() != "" || h.IssuerV2() != "" {
			t.Errorf("authority %q: issuers %q and %q, want none", row.origin, h.Issuer(), h.IssuerV2())
		}
	}
	for _, fine := range []string{"https://notmicrosoft.com", "https://windows.net.example", "http://127.0.0.1:8080", "https://[::1]:8443", "https://login.wps.test/"} {
		h.origin.Store(fine)
		h.mint(t, p, "https://vault.azure.net")
	}
	h.origin.Store("https://login.wps.test/")
	if h.Issuer() != "https://login.wps.test/"+testTenant+"/" || h.IssuerV2() != "https://login.wps.test/"+testTenant+"/v2.0" {
		t.Errorf("issuers %q and %q", h.Issuer(), h.IssuerV2())
	}
}

func TestAMicrosoftOriginHasToBeAllowed(t *testing.T) {
	h := open(t, t.TempDir(), func(o *Options) { o.AllowMicrosoftAuthority = true })
	h.origin.Store("https://sts.windows.net")
	if tok := h.mint(t, h.system(t), "https://vault.azure.net"); !strings.Contains(string(tok.Claims), `"iss":"https://sts.windows.net/`+testTenant+`/"`) {
		t.Errorf("claims %s", tok.Claims)
	}
}

func TestTheCacheInFrontServesTheEmbeddedIssuersTokens(t *testing.T) {
	h := start(t)
	client := h.serve(t)
	p := h.system(t)
	cache := identity.NewCache(h, identity.Options{})
	defer cache.Close()
	_, err := cache.Token(t.Context(), p, "api://orders")
	var refused *identity.Error
	if !errors.As(err, &refused) || refused.Code != "AADSTS500011" {
		t.Fatalf("got %v", err)
	}
	h.directory.OnChange(cache.FlushAll)
	h.register(t, directory.Application{DisplayName: "orders", IdentifierURIs: []string{"api://orders"}})
	first, err := cache.Token(t.Context(), p, "api://orders")
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := (receiver{client, h.origin.Load().(string) + "/common/.well-known/openid-configuration"}).verify(t.Context(), first.Raw); err != nil {
		t.Fatal(err)
	}
	if again, err := cache.Token(t.Context(), p, "api://orders"); err != nil || again != first {
		t.Fatalf("got %v, %v, want the same token", again, err)
	}
}

func BenchmarkMint(b *testing.B) {
	h := start(b)
	p := h.system(b)
	h.register(b, directory.Application{DisplayName: "orders", IdentifierURIs: []string{"api://orders"}})
	for b.Loop() {
		if _, err := h.Token(b.Context(), p, "api://orders"); err != nil {
			b.Fatal(err)
		}
	}
}
