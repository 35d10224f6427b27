package reference

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"tabard/guard/reason"
	"tabard/internal/settings"
)

const (
	one     = "https://va1." + embeddedDomain + "/secrets/one"
	two     = "https://va1." + embeddedDomain + "/secrets/two"
	inAzure = "https://va1.vault.azure.net/secrets/one"
)

// The numbers are those of appendix A of the key-vault specification. 53 and 54, which are about how a value is
// inserted, are in settings.
func TestChecklist04To07AVersionlessReferenceIsTheNewestAndAPinStays(t *testing.T) {
	w := newWorld(t)
	w.grant(w.vaults, "va1", "get")
	first := w.put("va1", "One", "v1")
	w.hub("chat", one+"/", one+"/"+first)
	for _, spelling := range []string{one, one + "/", "https://VA1." + embeddedDomain + "//secrets/ONE/"} {
		w.want(spelling, "v1")
	}
	w.put("va1", "one", "v2")
	w.want(one, "v2") // the write has returned: no event gets the old one
	w.want(one+"/", "v2")
	w.want(one+"/"+first, "v1")
}

func TestChecklist07AVaultOutsideIsReadAgainAfterTheIntervalAndWhenAHubIsTouched(t *testing.T) {
	w := newWorld(t, func(o *Options) { o.Refresh = 50 * time.Millisecond })
	w.outer.answer(azureSecret("v1"))
	w.hub("chat", inAzure)
	w.want(inAzure, "v1")
	w.outer.answer(azureSecret("v2"))
	w.eventually("the new value", func() bool { v, _ := w.secret(inAzure); return v == "v2" })

	slow := newWorld(t)
	slow.outer.answer(azureSecret("v1"))
	slow.hub("chat", inAzure)
	slow.want(inAzure, "v1")
	slow.outer.answer(azureSecret("v2"))
	slow.hub("chat", inAzure, inAzure) // touched
	slow.want(inAzure, "v2")
	slow.outer.answer(azureSecret("v3"))
	slow.hub("other", one) // another hub
	slow.want(inAzure, "v2")
	slow.resolver.Refresh(slow.instance())
	slow.want(inAzure, "v3")
}

func TestChecklist08WithoutGetTheHubIsUnresolvedAndTheReasonNamesTheCaller(t *testing.T) {
	w := newWorld(t)
	w.grant(w.vaults, "va1", "list", "set")
	w.put("va1", "one", "v1")
	w.hub("chat", one)
	e := w.refused(one, reason.SecretDenied)
	oid := w.instance().Identity.PrincipalID
	if e.Status != 403 || !strings.Contains(e.Message, "oid="+oid) || !strings.Contains(e.Message, "secrets get permission") {
		t.Errorf("error %v", e)
	}
	if s := w.status(); s.Resolved || s.Code != reason.SecretDenied || !strings.Contains(s.Problem, oid) {
		t.Errorf("status %+v", s)
	}
	if log := w.log.String(); !strings.Contains(log, `"status":403`) || !strings.Contains(log, oid) {
		t.Errorf("log %s", log)
	}
	w.grant(w.vaults, "va1", "get")
	w.want(one, "v1") // at once
}

func TestChecklist49TheLastValueServesWhileTheVaultIsAway(t *testing.T) {
	w := newWorld(t, quick, func(o *Options) { o.Refresh = 20 * time.Millisecond })
	w.outer.answer(azureSecret("v1"))
	w.hub("chat", inAzure)
	w.want(inAzure, "v1")
	for _, down := range []http.HandlerFunc{
		azureError(503, `{"error":{"code":"ServiceUnavailable","message":"x"}}`), azureError(500, `oops`), azureError(429, `{}`),
		func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) },
	} {
		w.outer.answer(down)
		before := w.failures()
		w.eventually("many failures", func() bool { return w.failures() > before+5 })
		w.want(inAzure, "v1")
		if s := w.status(); !s.Resolved || s.Code == "" || s.Problem == "" || s.Read.IsZero() {
			t.Errorf("status %+v", s)
		}
	}
	w.outer.answer(azureSecret("v2"))
	w.eventually("the new value", func() bool { v, _ := w.secret(inAzure); return v == "v2" })
	if s := w.status(); s.Code != "" || s.Version == "" {
		t.Errorf("status %+v", s)
	}
}

// failures counts the failures in a row of the one secret.
func (w *world) failures() int {
	w.resolver.mu.Lock()
	defer w.resolver.mu.Unlock()
	for _, e := range w.resolver.entries {
		e.mu.Lock()
		defer e.mu.Unlock()
		return e.failures
	}
	return 0
}

func TestChecklist50AThrottlingVaultIsLeftAlone(t *testing.T) {
	w := newWorld(t, quick)
	w.outer.answer(azureError(429, `{"error":{"code":"Throttled","message":"Request was not processed because too many requests were received."}}`, "Retry-After", "1"))
	var uris []string
	for i := range 20 {
		uris = append(uris, fmt.Sprint(inAzure, i))
	}
	w.hub("chat", uris...)
	w.refused(uris[0], reason.SecretNeverResolved)
	w.eventually("every secret's turn", func() bool {
		for _, s := range w.resolver.Statuses(w.instance()) {
			if s.Code == "" {
				return false
			}
		}
		return true
	})
	asked := w.outer.count()
	if asked > w.resolver.opt.Parallel+1 {
		t.Errorf("%d calls before the pause was known", asked)
	}
	begin := time.Now()
	for time.Since(begin) < 300*time.Millisecond {
		w.refused(uris[1], reason.SecretNeverResolved)
	}
	if n := w.outer.count(); n != asked {
		t.Errorf("%d calls in the pause", n-asked)
	}
}

func TestChecklist51TheSameCodeReadsEmbeddedAndOuterVaults(t *testing.T) {
	w := newWorld(t)
	outer := "https://va1." + w.outer.domain + "/secrets/one"
	w.grant(w.vaults, "va1", "get")
	w.put("va1", "one", "embedded")
	w.grant(w.outer.vaults, "va1", "get")
	version := set(t, w.outer.vaults, "va1", "one", `{"value":"outer"}`)
	w.hub("chat", one, outer)
	w.want(one, "embedded")
	w.want(outer, "outer")
	w.want(outer+"/"+version, "outer")
	w.refused("https://va1."+w.outer.domain+"/secrets/none", reason.SecretNotFound)
	w.grant(w.outer.vaults, "va1", "list")
	if e := w.refused("https://va1."+w.outer.domain+"/secrets/other", reason.SecretDenied); !strings.Contains(e.Message, w.instance().Identity.PrincipalID) {
		t.Errorf("error %v", e)
	}
	list := w.resolver.Statuses(w.instance())
	if len(list) != 2 || list[0].Source != "azure" || list[1].Source != "embedded" || list[0].Version != version {
		t.Errorf("statuses %+v", list)
	}
}

func TestChecklist52And26ManyReferencesCauseOneReading(t *testing.T) {
	w := newWorld(t)
	w.outer.answer(azureSecret("v1"))
	w.hub("a", inAzure, inAzure+"/")
	w.hub("b", inAzure)
	w.hub("c", "https://va1.vault.azure.net:443/secrets/ONE")
	before := w.outer.count()
	w.resolver.Refresh(w.instance())
	var wg sync.WaitGroup
	for range 200 {
		wg.Go(func() {
			if v, err := w.secret(inAzure); err != nil || v != "v1" {
				t.Error(v, err)
			}
		})
	}
	wg.Wait()
	w.eventually("rest", func() bool { return w.status().Next.After(time.Now()) })
	if n := w.outer.count() - before; n > 2 { // one that was under way when it was refreshed, and its successor
		t.Errorf("%d readings", n)
	}
	if s := w.status(); len(s.Hubs) != 4 {
		t.Errorf("hubs %v", s.Hubs)
	}
}

func TestChecklist55AStatusSaysHowItStands(t *testing.T) {
	w := newWorld(t)
	w.grant(w.vaults, "va1", "get")
	version := w.put("va1", "one", "v1")
	w.hub("Chat", one+"/")
	w.want(one, "v1")
	s := w.status()
	if s.Secret != one || !s.Resolved || s.Version != version || time.Since(s.Read) > time.Minute || s.Source != "embedded" || len(s.Hubs) != 1 || s.Hubs[0] != (HubName{"default", "Chat"}) {
		t.Errorf("status %+v", s)
	}
	if left := time.Until(s.Next); left < 26*time.Minute || left > 33*time.Minute {
		t.Errorf("the next reading is in %v", left)
	}
	w.hub("Chat")
	if list := w.resolver.Statuses(w.instance()); len(list) != 0 {
		t.Errorf("statuses %+v", list)
	}
}

func TestWhatTheVaultDeniesDoesNotOutliveTwoReadings(t *testing.T) {
	for name, no := range map[string]struct {
		status int
		body   string
		code   reason.Code
	}{
		"denied":    {403, `{"error":{"code":"Forbidden","message":"The user, group or application 'appid=a;oid=o;iss=i' does not have secrets get permission on key vault 'va1;location=westeurope'.","innererror":{"code":"AccessDenied"}}}`, reason.SecretDenied},
		"by a role": {403, `{"error":{"code":"Forbidden","message":"Caller is not authorized to perform action on resource.","innererror":{"code":"ForbiddenByRbac"}}}`, reason.SecretDenied},
		"disabled":  {403, `{"error":{"code":"Forbidden","message":"Operation get is not allowed on a disabled secret.","innererror":{"code":"SecretDisabled"}}}`, reason.SecretDisabled},
		"deleted":   {404, `{"error":{"code":"SecretNotFound","message":"A secret with (name/id) one was not found in this key vault."}}`, reason.SecretNotFound},
		"bad token": {401, `{"error":{"code":"Unauthorized","message":"[TokenExpired] Error validating token: 'S2S12086'."}}`, reason.SecretDenied},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			w.outer.answer(azureSecret("v1"))
			w.hub("chat", inAzure)
			w.want(inAzure, "v1")
			w.outer.answer(azureError(no.status, no.body))
			w.resolver.Refresh(w.instance())
			w.want(inAzure, "v1") // once
			if s := w.status(); s.Code != no.code || !s.Resolved || time.Until(s.Next) > 2*time.Minute {
				t.Errorf("status %+v", s)
			}
			w.resolver.Refresh(w.instance())
			w.refused(inAzure, no.code)
			if s := w.status(); s.Resolved {
				t.Errorf("status %+v", s)
			}
			w.outer.answer(azureSecret("v2"))
			w.resolver.Refresh(w.instance())
			w.want(inAzure, "v2")
		})
	}
}

func TestADisabledOrDeletedEmbeddedSecret(t *testing.T) {
	w := newWorld(t)
	w.grant(w.vaults, "va1", "get")
	w.put("va1", "one", "v1")
	w.hub("chat", one)
	w.want(one, "v1")
	if status, text := ask(w.vaults, "va1", "PATCH", "/secrets/one/", `{"attributes":{"enabled":false}}`); status != 200 {
		t.Fatal(text)
	}
	w.want(one, "v1")
	w.resolver.Refresh(w.instance())
	w.refused(one, reason.SecretDisabled)
	if status, text := ask(w.vaults, "va1", "PATCH", "/secrets/one/", `{"attributes":{"enabled":true,"exp":1}}`); status != 200 {
		t.Fatal(text)
	}
	w.want(one, "v1") // an expired secret is used, with a warning
	if !strings.Contains(w.log.String(), "after the time that it was meant to expire") {
		t.Error("no warning")
	}
	if status, text := ask(w.vaults, "va1", "DELETE", "/secrets/one", ""); status != 200 {
		t.Fatal(text)
	}
	w.resolver.Refresh(w.instance())
	w.eventually("the end", func() bool { _, err := w.secret(one); w.resolver.Refresh(w.instance()); return err != nil })
}

func TestStatsTellHowItStands(t *testing.T) {
	w := newWorld(t, func(o *Options) { o.RetryMin = time.Hour })
	if s := w.resolver.Stats(); s != (Stats{}) {
		t.Errorf("nothing was read: %+v", s)
	}
	w.grant(w.vaults, "va1", "get")
	w.put("va1", "one", "v1")
	w.hub("chat", one, two)
	w.want(one, "v1")
	w.refused(two, reason.SecretNotFound)
	s := w.resolver.Stats()
	if s.Held != 1 || s.Unresolved != 1 || s.Failing != 1 || time.Since(s.Oldest) > time.Hour {
		t.Errorf("%+v", s)
	}
	var got []string
	for _, c := range w.vaults.Counts() {
		if c.InProcess {
			got = append(got, fmt.Sprint(c.Operation, " ", c.Status, " ", c.Calls))
		}
	}
	if strings.Join(got, ", ") != "get 200 1, get 404 1" {
		t.Errorf("the vault counted %s", got)
	}
}

func TestAnEventGivesUpWithinItsTime(t *testing.T) {
	w := newWorld(t)
	stuck := make(chan struct{})
	w.outer.answer(func(_ http.ResponseWriter, r *http.Request) {
		select {
		case <-r.Context().Done():
		case <-stuck:
		}
	})
	defer close(stuck)
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	_, err := w.resolver.Secret(ctx, w.instance(), inAzure)
	if e, ok := errors.AsType[*Error](err); !ok || e.Code != reason.SecretNeverResolved || !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("%v", err)
	}
}

func TestRejectedByTheHandlerReadsAgainOnceAMinute(t *testing.T) {
	w := newWorld(t)
	w.outer.answer(azureSecret("v1"))
	w.hub("chat", inAzure)
	w.want(inAzure, "v1")
	before := w.outer.count()
	w.resolver.Rejected(w.instance(), []string{inAzure}) // it was read just now
	if w.outer.count() != before {
		t.Error("it was read again at once")
	}
	e := w.only()
	e.mu.Lock()
	e.read = e.read.Add(-time.Minute)
	e.mu.Unlock()
	w.outer.answer(azureSecret("v2"))
	for range 50 {
		w.resolver.Rejected(w.instance(), []string{inAzure, "https://evil.test/secrets/x"})
	}
	w.want(inAzure, "v2")
	if n := w.outer.count() - before; n != 1 {
		t.Errorf("%d readings", n)
	}
}

func (w *world) only() *entry {
	w.resolver.mu.Lock()
	defer w.resolver.mu.Unlock()
	for _, e := range w.resolver.entries {
		return e
	}
	w.t.Fatal("no entry")
	return nil
}

func TestWhatIsNotNeededAnyMoreIsWiped(t *testing.T) {
	w := newWorld(t)
	w.grant(w.vaults, "va1", "get")
	w.put("va1", "one", "a-value-to-wipe")
	w.hub("chat", one)
	w.want(one, "a-value-to-wipe")
	wiped := func(why string, do func()) {
		t.Helper()
		e := w.only()
		bytes := e.held.Load().bytes
		do()
		w.eventually("wiping "+why, func() bool {
			e.mu.Lock()
			defer e.mu.Unlock()
			return e.gone || e.last == nil || &e.last.bytes[0] != &bytes[0]
		})
		if strings.Trim(string(bytes), "\x00") != "" {
			t.Errorf("%s: the memory still holds %q", why, bytes)
		}
	}
	wiped("after a new version", func() { w.put("va1", "one", "another-value"); w.want(one, "another-value") })
	wiped("after a flush", func() { w.resolver.Flush(w.instance()) })
	w.want(one, "another-value")
	wiped("when no hub refers to it", func() { w.hub("chat") })
	w.hub("chat", one)
	w.want(one, "another-value")
	wiped("at the end", func() { w.resolver.Close() })
	w.refused(one, reason.SecretUnavailable)
}

func TestASecretThatNoHubRefersToIsForgotten(t *testing.T) {
	w := newWorld(t)
	w.grant(w.vaults, "va1", "get")
	w.put("va1", "one", "v1")
	w.want(one, "v1")
	w.hub("chat", two) // a change of settings does not end the trial
	w.resolver.mu.Lock()
	by, _ := whose(w.instance())
	e := w.resolver.entries[key{by, settings.SecretURI{Host: "va1." + embeddedDomain, Name: "one"}}]
	w.resolver.mu.Unlock()
	if e == nil {
		t.Fatal("it is gone already")
	}
	e.mu.Lock()
	e.expires = time.Now()
	e.mu.Unlock()
	w.resolver.wake()
	w.eventually("forgetting", func() bool { e.mu.Lock(); defer e.mu.Unlock(); return e.gone })
}

func TestExplainTellsStepByStep(t *testing.T) {
	w := newWorld(t, quick)
	oid := w.instance().Identity.PrincipalID
	explain := func(uri string) (line string, failed *Step) {
		t.Helper()
		var outcomes []string
		for _, s := range w.resolver.Explain(t.Context(), w.instance(), uri) {
			outcomes = append(outcomes, s.Name+" "+s.Outcome)
			if s.Outcome == StepFailed {
				failed = &s
			}
		}
		return strings.Join(outcomes, ", "), failed
	}
	for _, step := range []struct {
		name, uri string
		before    func()
		fails     string
		code      reason.Code
		detail    string
		fix       string
	}{
		{"not an identifier", "https://va1.x/keys/n", nil, "reference", reason.TemplateInvalid, "is not of the form", ""},
		{"a stranger's host", "https://evil.test/secrets/n", nil, "host", reason.SecretHostNotAllowed, "evil.test", "--vault-domain"},
		{"a vault that does not exist", "https://nobody." + embeddedDomain + "/secrets/n", nil, "vault", reason.SecretNotFound, "no vault", ""},
		{"no policy", one, func() { w.grant(w.vaults, "va1", "list") }, "permission", reason.SecretDenied, oid, "tabard vault policy set va1 --object-id " + oid + " --secrets get"},
		{"no secret", one, func() { w.grant(w.vaults, "va1", "get") }, "secret", reason.SecretNotFound, "was not found", ""},
		{"disabled", one, func() { set(t, w.vaults, "va1", "one", `{"value":"x","attributes":{"enabled":false}}`) }, "secret", reason.SecretDisabled, "disabled", "enable the version"},
		{"not for a URL", one, func() { w.put("va1", "one", "a b") }, "value", reason.SecretUnusable, "holds a space", "percent-encoded"},
		{"all well", one, func() { w.put("va1", "one", "ab") }, "", "", "", ""},
		{"expired", one, func() { set(t, w.vaults, "va1", "one", `{"value":"x","attributes":{"exp":1}}`) }, "", "", "", ""},
		{"in Azure, denied", inAzure, func() { w.outer.answer(azureError(403, `{"error":{"code":"Forbidden","message":"no"}}`)) }, "permission", reason.SecretDenied, "no", oid},
		{"in Azure, away", inAzure, func() { w.outer.answer(azureError(503, ``)) }, "vault", reason.SecretUnavailable, "503", ""},
		{"in Azure, well", inAzure, func() { w.outer.answer(azureSecret("x")) }, "", "", "", ""},
		{"no identity", one, func() {
			w.update(func(in *settings.Instance) { in.Identity = settings.Identity{Type: settings.IdentityNone} })
		}, "identity", reason.IdentityMissing, "no managed identity", "assign"},
	} {
		t.Run(step.name, func(t *testing.T) {
			if step.before != nil {
				step.before()
			}
			line, failed := explain(step.uri)
			if step.fails == "" {
				if failed != nil || !strings.Contains(line, "value ok") || step.name == "expired" && !strings.Contains(line, "window warning") {
					t.Errorf("%s, %+v", line, failed)
				}
				return
			}
			if failed == nil || failed.Name != step.fails || failed.Code != step.code || !strings.Contains(failed.Detail, step.detail) || !strings.Contains(failed.Fix, step.fix) || failed.Fix == "" {
				t.Errorf("%s: %+v", line, failed)
			}
			if strings.Count(line, "failed") != 1 || strings.Count(line, ",") != len(stepNames)-1 {
				t.Errorf("steps: %s", line)
			}
		})
	}
	if steps := w.resolver.Explain(t.Context(), w.instance(), one); len(steps) != len(stepNames) {
		t.Errorf("%d steps", len(steps))
	}
}

func TestRacesOfRotationAndReading(t *testing.T) {
	w := newWorld(t)
	w.grant(w.vaults, "va1", "get")
	w.put("va1", "one", "value-0")
	w.hub("chat", one)
	var wg sync.WaitGroup
	stop := make(chan struct{})
	for range 4 {
		wg.Go(func() {
			last := 0
			for {
				select {
				case <-stop:
					return
				default:
				}
				got, err := w.secret(one)
				n := 0
				if _, e := fmt.Sscanf(got, "value-%d", &n); err != nil || e != nil || n < last {
					t.Errorf("got %q after %d, %v", got, last, err)
					return
				}
				last = n
			}
		})
	}
	for i := 1; i <= 40; i++ {
		w.put("va1", "one", fmt.Sprint("value-", i))
		if got, err := w.secret(one); err != nil || got != fmt.Sprint("value-", i) {
			t.Errorf("after writing %d: %q, %v", i, got, err)
		}
		if i%10 == 0 {
			w.hub("chat", one, one)
			w.hub("chat", one)
			w.resolver.IdentitiesChanged()
		}
	}
	close(stop)
	wg.Wait()
}

func TestAThousandReferencesInAHundredHubsAreReadWithoutABurst(t *testing.T) {
	w := newWorld(t, func(o *Options) { o.Parallel = 4 })
	w.outer.answer(azureSecret("v"))
	w.thousand(func(h, i int) string { return fmt.Sprintf("https://va1.vault.azure.net/secrets/s%d-%d", h, i) })
	w.eventually("all readings", func() bool {
		n := 0
		for _, s := range w.resolver.Statuses(w.instance()) {
			if s.Resolved {
				n++
			}
		}
		return n == 1000
	})
	w.outer.mu.Lock()
	calls, most := len(w.outer.calls), w.outer.most
	w.outer.mu.Unlock()
	if calls != 1000 || most > 4 {
		t.Errorf("%d readings, at most %d at once; want 1000 and 4", calls, most)
	}
	first, last := time.Now().Add(time.Hour), time.Time{}
	buckets := map[time.Time]int{}
	for _, s := range w.resolver.Statuses(w.instance()) {
		if s.Next.Before(first) {
			first = s.Next
		}
		if s.Next.After(last) {
			last = s.Next
		}
		buckets[s.Next.Truncate(time.Second)]++
	}
	for at, n := range buckets {
		if n > 30 {
			t.Errorf("%d readings in the second of %v", n, at)
		}
	}
	if last.Sub(first) < 4*time.Minute {
		t.Errorf("the next readings lie within %v", last.Sub(first))
	}
}
