package reference

import (
	"context"
	"fmt"
	"net/http"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"tabard/guard/reason"
	"tabard/internal/identity"
	"tabard/internal/settings"
)

// A day is a resolver whose clock is the test's: hours pass at once. Its settings and its token are real, made before
// the clock stood still; its vault is Azure's, in the shapes that were recorded from it.
type day struct {
	t        *testing.T
	in       *settings.Instance
	resolver *Resolver

	mu     sync.Mutex // guards all below
	answer http.HandlerFunc
	times  []time.Time // of the readings
	busy   int
	most   int // at once
}

// overDay prepares hubs in a real world, and then runs fn on a virtual clock.
func overDay(t *testing.T, prepare func(*world), fn func(*day)) {
	w := newWorld(t)
	prepare(w)
	snapshot := w.settings.Snapshot()
	in, _ := snapshot.Instance(settings.DefaultInstance)
	token, err := w.token(t.Context(), in, "https://vault.azure.net")
	if err != nil {
		t.Fatal(err)
	}
	w.resolver.Close() // its clock is the real one
	synctest.Test(t, func(t *testing.T) {
		d := &day{t: t, in: in, answer: azureSecret("v1")}
		d.resolver = NewResolver(Options{
			Settings:  func() *settings.Snapshot { return snapshot },
			Identity:  func(context.Context, *settings.Instance, string) (*identity.Token, error) { return token, nil },
			Transport: d,
		})
		defer d.resolver.Close()
		d.resolver.Begin()
		fn(d)
	})
}

// RoundTrip asks the vault, which takes 50 ms.
func (d *day) RoundTrip(r *http.Request) (*http.Response, error) {
	d.mu.Lock()
	answer := d.answer
	if r.Header.Get("Authorization") != "" {
		d.times = append(d.times, time.Now())
	}
	d.busy++
	d.most = max(d.most, d.busy)
	d.mu.Unlock()
	time.Sleep(50 * time.Millisecond)
	d.mu.Lock()
	d.busy--
	d.mu.Unlock()
	return inProcess{answer}.RoundTrip(r)
}

func (d *day) say(h http.HandlerFunc) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.answer = h
}

// readings are those since the last call.
func (d *day) readings() []time.Time {
	d.mu.Lock()
	defer d.mu.Unlock()
	list := d.times
	d.times = nil
	return list
}

// atOnce is how many readings were under way at the same time, at most.
func (d *day) atOnce() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.most
}

func (d *day) want(value string) {
	d.t.Helper()
	if got, err := d.resolver.Secret(d.t.Context(), d.in, inAzure); err != nil || got != value {
		d.t.Fatalf("after %v: %q, %v; want %q", time.Since(midnight), got, err, value)
	}
}

// midnight is where the virtual clock starts.
var midnight = time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC)

// Checklist 7 and 26 by the clock: all are read at the start, eight at a time; then each
// every 27 to 33 minutes, never many at once.
func TestAThousandReferencesOverHoursAreNeverABurst(t *testing.T) {
	overDay(t, func(w *world) {
		w.thousand(func(h, i int) string { return fmt.Sprintf("https://va1.vault.azure.net/secrets/s%d-%d", h, i) })
	}, func(d *day) {
		time.Sleep(time.Minute)
		if n := len(d.readings()); n != 1000 || d.atOnce() > 8 {
			t.Fatalf("%d readings at the start, %d at once; want 1000 and at most 8", n, d.atOnce())
		}
		time.Sleep(2 * time.Hour)
		list := d.readings()
		if n := len(list); n < 1000*2*60/33-1000 || n > 1000*2*60/27+1000 {
			t.Errorf("%d readings in two hours: that is not each every 27 to 33 minutes", n)
		}
		seconds := map[int64]int{}
		for _, at := range list {
			seconds[at.Unix()]++
		}
		for at, n := range seconds {
			if n > 20 { // of 1000 within six minutes, 2.8 are expected in a second
				t.Errorf("%d readings within a second, at %v", n, time.Unix(at, 0).UTC())
			}
		}
		if n := d.atOnce(); n > 8 {
			t.Errorf("%d readings at once", n)
		}
	})
}

// Checklist 49: the vault is away for an hour, and more.
func TestChecklist49TheLastValueServesThroughHours(t *testing.T) {
	overDay(t, func(w *world) { w.hub("chat", inAzure) }, func(d *day) {
		time.Sleep(time.Minute)
		d.want("v1")
		read := d.resolver.Statuses(d.in)[0].Read
		d.say(azureError(503, `{"error":{"code":"ServiceUnavailable","message":"x"}}`))
		time.Sleep(34 * time.Minute) // now the failure is known
		d.readings()
		for range 12 {
			time.Sleep(10 * time.Minute)
			d.want("v1")
		}
		if n := len(d.readings()); n < 100 || n > 140 {
			t.Errorf("%d tries in two hours, want one a minute", n)
		}
		s := d.resolver.Statuses(d.in)[0]
		if !s.Resolved || s.Code != reason.SecretUnavailable || !s.Read.Equal(read) || time.Since(s.Read) < 2*time.Hour {
			t.Errorf("the status does not tell how old the value is: %+v", s)
		}
		d.say(azureSecret("v2"))
		time.Sleep(70 * time.Second)
		d.want("v2")
	})
}

// The value that a vault has refused twice in a row is gone within some two minutes, not at the next half hour.
func TestARefusedValueEndsWithinMinutes(t *testing.T) {
	overDay(t, func(w *world) { w.hub("chat", inAzure) }, func(d *day) {
		time.Sleep(time.Minute)
		d.say(azureError(403, `{"error":{"code":"Forbidden","message":"no","innererror":{"code":"AccessDenied"}}}`))
		time.Sleep(33*time.Minute + 70*time.Second) // its turn, and once more
		_, err := d.resolver.Secret(t.Context(), d.in, inAzure)
		if e, ok := err.(*Error); !ok || e.Code != reason.SecretDenied {
			t.Errorf("%v", err)
		}
	})
}

// Checklist 50 by the clock: for as long as the vault asked for, nobody asks it; then not all at once.
func TestChecklist50APauseIsKeptToItsEnd(t *testing.T) {
	var uris []string
	for i := range 50 {
		uris = append(uris, fmt.Sprint("https://va1.vault.azure.net/secrets/p", i))
	}
	overDay(t, func(w *world) { w.hub("chat", uris...) }, func(d *day) {
		d.say(azureError(429, `{}`, "Retry-After", "300"))
		time.Sleep(time.Second)
		if n := len(d.readings()); n > 8 {
			t.Errorf("%d calls before the pause was known", n)
		}
		time.Sleep(298 * time.Second)
		if _, err := d.resolver.Secret(t.Context(), d.in, uris[0]); err == nil {
			t.Error("a value out of nowhere")
		}
		if n := len(d.readings()); n != 0 {
			t.Errorf("%d calls in the pause", n)
		}
		d.say(azureSecret("v1"))
		time.Sleep(4 * time.Minute) // 3 are what they are spread over
		list := d.readings()
		if len(list) != 50 || list[49].Sub(list[0]) < time.Minute {
			t.Errorf("%d readings after the pause, within %v", len(list), list[len(list)-1].Sub(list[0]))
		}
	})
}
