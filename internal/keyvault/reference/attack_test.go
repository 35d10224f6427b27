package reference

import (
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"tabard/guard/reason"
	"tabard/internal/directory"
	"tabard/internal/egress"
	"tabard/internal/settings"
)

// The numbers here are those of appendix B of the key-vault specification.

func TestSecurity12And17HostsThatAreNotKnownGetNoToken(t *testing.T) {
	w := newWorld(t)
	w.outer.answer(azureSecret("v1"))
	for _, uri := range []string{
		"https://evil.test/secrets/n", "https://127.0.0.1/secrets/n", "https://[::1]/secrets/n", "https://169.254.169.254/secrets/n", "https://localhost/secrets/n",
		"https://va1.vault.azure.net.evil.test/secrets/n", "https://vault.azure.net/secrets/n", "https://a.b.vault.azure.net/secrets/n", "https://va1.vault.azure.net:8443/secrets/n",
		"https://evilvault.azure.net/secrets/n", "https://va1.vault.azure.net.:443/secrets/n", "https://x_y.vault.azure.net/secrets/n", "https://kv.wps.test/secrets/n", "https://va1.kv.wps.test:8082/secrets/n",
	} {
		_, err := w.secret(uri)
		e, ok := errors.AsType[*Error](err)
		if !ok || e.Code != reason.SecretHostNotAllowed && e.Code != reason.TemplateInvalid {
			t.Errorf("%s: %v", uri, err)
		}
	}
	if w.outer.count() != 0 || len(w.asked) != 0 {
		t.Errorf("calls %v, tokens for %v", w.outer.calls, w.asked)
	}
}

func TestSecurity13And19ChallengesThatAskForSomethingElseGetNoToken(t *testing.T) {
	w := newWorld(t, quick)
	challenge := func(lines ...string) http.HandlerFunc {
		return func(rw http.ResponseWriter, r *http.Request) {
			for _, line := range lines {
				rw.Header().Add("WWW-Authenticate", line)
			}
			rw.WriteHeader(401)
		}
	}
	good := `authorization="https://login.windows.net/` + testTenant + `"`
	n := 0
	for name, h := range map[string]http.HandlerFunc{
		"another resource":         challenge(`Bearer ` + good + `, resource="https://management.azure.com"`),
		"its own domain":           challenge(`Bearer ` + good + `, resource="https://azure.net"`),
		"a slash more":             challenge(`Bearer ` + good + `, resource="https://vault.azure.net/"`),
		"another scope":            challenge(`Bearer ` + good + `, resource="https://vault.azure.net" scope="https://graph.microsoft.com/.default"`),
		"two resources":            challenge(`Bearer ` + good + `, resource="https://vault.azure.net" resource="https://management.azure.com"`),
		"hidden from our parser":   challenge(`Bearer ` + good + `, resource="https://vault.azure.net", x=y resource=https://management.azure.com`),
		"two challenges":           challenge(`Bearer `+good+`, resource="https://vault.azure.net"`, `Bearer `+good+`, resource="https://evil.test"`),
		"another tenant":           challenge(`Bearer authorization="https://login.windows.net/bbbb0000-0000-4000-8000-00000000000b", resource="https://vault.azure.net"`),
		"no tenant":                challenge(`Bearer authorization="https://login.windows.net", resource="https://vault.azure.net"`), // the client would panic
		"no authority":             challenge(`Bearer authorization="x", resource="https://vault.azure.net"`),
		"an authority without TLS": challenge(`Bearer authorization="http://login.windows.net/` + testTenant + `", resource="https://vault.azure.net"`),
		"nothing":                  challenge(),
		"another scheme":           challenge(`Basic realm="x"`),
	} {
		w.outer.answer(h)
		n++
		uri := fmt.Sprint(inAzure, n)
		if _, err := w.secret(uri); err == nil || !strings.Contains(err.Error(), "vault") {
			t.Errorf("%s: %v", name, err)
		} else if e, _ := errors.AsType[*Error](err); e == nil || e.Code != reason.SecretChallengeRefused {
			t.Errorf("%s: %v", name, err)
		}
	}
	if tokens := w.outer.received(); len(tokens) != 0 {
		t.Errorf("%d tokens left", len(tokens))
	}
}

func TestSecurity14RedirectsAreNotFollowed(t *testing.T) {
	w := newWorld(t, quick)
	w.outer.answer(azure(func(rw http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/secrets/one/" {
			t.Errorf("followed to %s", r.URL)
		}
		http.Redirect(rw, r, "/elsewhere", http.StatusTemporaryRedirect)
	}))
	w.refused(inAzure, reason.SecretUnavailable)
	if n := w.outer.count(); n != 1 {
		t.Errorf("%d calls with the token", n)
	}
}

func TestSecurity28AReplacedOrDeletedIdentityEndsItsValues(t *testing.T) {
	w := newWorld(t)
	w.grant(w.vaults, "va1", "get")
	w.put("va1", "one", "v1")
	w.hub("chat", one)
	w.want(one, "v1")
	const id = "/subscriptions/" + testSubscription + "/resourceGroups/default/providers/Microsoft.ManagedIdentity/userAssignedIdentities/robot"
	robot := func() {
		t.Helper()
		if _, _, err := w.directory.PutUserAssignedIdentity(t.Context(), directory.UserAssignedIdentity{ID: id, Location: "local"}); err != nil {
			t.Fatal(err)
		}
	}
	robot()
	w.directory.OnChange(w.resolver.IdentitiesChanged)
	w.update(func(in *settings.Instance) {
		in.Identity = settings.Identity{Type: settings.IdentityUserAssigned, UserAssigned: id}
	})
	w.refused(one, reason.SecretDenied)
	w.grant(w.vaults, "va1", "get")
	w.want(one, "v1")
	if err := w.directory.DeleteUserAssignedIdentity(t.Context(), id); err != nil {
		t.Fatal(err)
	}
	w.refused(one, reason.IdentityMissing)
	robot() // the same name, another principal
	w.refused(one, reason.SecretDenied)
	w.update(func(in *settings.Instance) { in.Identity = settings.Identity{Type: settings.IdentityNone} })
	w.refused(one, reason.IdentityMissing)
	if n := len(w.resolver.entries); n != 0 {
		t.Errorf("%d entries are left", n)
	}
}

func TestSecurity28ADisabledPrincipalEndsItsValuesAtOnce(t *testing.T) {
	w := newWorld(t)
	w.grant(w.vaults, "va1", "get")
	w.put("va1", "one", "v1")
	w.hub("chat", one)
	w.directory.OnChange(w.resolver.IdentitiesChanged)
	w.want(one, "v1")
	_, err := w.directory.UpdateServicePrincipal(t.Context(), w.instance().Identity.PrincipalID, func(p *directory.ServicePrincipal) error { p.AccountEnabled = false; return nil })
	if err != nil {
		t.Fatal(err)
	}
	w.refused(one, reason.TokenUnavailable)
}

// Two instances without an embedded identity whose tokens come from elsewhere have nothing in common.
func TestWhatOneIdentitySourceReadsAnotherDoesNotGet(t *testing.T) {
	w := newWorld(t)
	other, err := w.settings.Create(t.Context(), settings.Instance{Name: "other", SubscriptionID: testSubscription, ResourceGroup: "default", Location: "local"})
	if err != nil {
		t.Fatal(err)
	}
	source := func(name, client string) *settings.Instance {
		t.Helper()
		in, err := w.settings.Update(t.Context(), name, func(in *settings.Instance) error {
			in.Extensions.IdentitySource = &settings.IdentitySource{Type: settings.SourceAzure, ClientID: client}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		return in
	}
	a, b := source("other", "one"), &settings.Instance{Name: "third", Extensions: other.Extensions}
	b.Extensions.IdentitySource = &settings.IdentitySource{Type: settings.SourceAzure, ClientID: "one"}
	of := func(in *settings.Instance) who {
		by, ok := whose(in)
		if !ok {
			t.Errorf("%s has no identity", in.Name)
		}
		return by
	}
	if of(a) == of(b) {
		t.Error("two instances share what they read")
	}
	before := of(a)
	if again := source("other", "one"); of(again) != before {
		t.Error("the same source is another after a change of settings")
	}
	if of(source("other", "two")) == before {
		t.Error("another client is the same")
	}
	if _, ok := whose(&settings.Instance{Name: "x"}); ok {
		t.Error("an instance without identity and source has one")
	}
}

func TestABlockedAddressIsAReason(t *testing.T) {
	e := egress.New(egress.Policy{})
	defer e.Close()
	w := newWorld(t, quick, func(o *Options) {
		o.Transport = roundTripper(func(*http.Request) (*http.Response, error) { return nil, &egress.BlockedError{Rule: egress.Loopback} })
	})
	w.refused(inAzure, reason.DestinationBlocked)
	dns := newWorld(t, quick, func(o *Options) {
		o.Transport = roundTripper(func(*http.Request) (*http.Response, error) { return nil, errors.New("no route") })
	})
	dns.refused(inAzure, reason.SecretNeverResolved)
}

type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// The canary is every value here.
func TestSecurity11ValuesAreNowhereButInTheAnswer(t *testing.T) {
	const canary = "canary-77c2"
	w := newWorld(t, quick)
	w.grant(w.vaults, "va1", "get")
	w.put("va1", "one", canary)
	w.put("va1", "two", canary+" with a space")
	w.outer.answer(azureSecret(canary))
	w.hub("chat", one, two, inAzure)
	var out strings.Builder
	see := func(v ...any) { fmt.Fprintf(&out, "%v %+v\n", v, v) }
	w.want(one, canary)
	see(w.resolver.Explain(t.Context(), w.instance(), one))
	see(w.resolver.Explain(t.Context(), w.instance(), two))
	w.want(inAzure, canary)
	see(w.resolver.Explain(t.Context(), w.instance(), inAzure))
	// A vault that repeats what it was sent, and one that says the value where it should not.
	w.outer.answer(func(rw http.ResponseWriter, r *http.Request) {
		azureError(403, `{"error":{"code":"Forbidden","message":"no `+r.Header.Get("Authorization")+`"}}`)(rw, r)
	})
	w.resolver.Flush(w.instance())
	_, err := w.secret(inAzure)
	see(err, w.resolver.Statuses(w.instance()), w.resolver.Explain(t.Context(), w.instance(), inAzure))
	out.WriteString(w.log.String())
	tokens := w.outer.received()
	for _, tok := range tokens {
		if strings.Contains(out.String(), tok) || strings.Contains(out.String(), tok[strings.LastIndexByte(tok, '.')+1:]) {
			t.Error("a token came out")
		}
	}
	if strings.Contains(out.String(), canary) {
		t.Errorf("a value came out: %s", out.String())
	}
	if len(tokens) == 0 || !strings.Contains(out.String(), "Forbidden") {
		t.Error("the test saw nothing")
	}
}
