package reference

import (
	"context"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"tabard/internal/identity"
	"tabard/internal/settings"
)

// What every event with a reference pays: a lookup, and a copy of the value.
func BenchmarkSecretHeld(b *testing.B) {
	w := newWorld(b)
	w.grant(w.vaults, "va1", "get")
	w.put("va1", "one", "0123456789abcdef0123456789abcdef0123456789abcdef")
	w.hub("chat", one)
	w.want(one, "0123456789abcdef0123456789abcdef0123456789abcdef")
	in := w.instance()
	b.Run("one", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if _, err := w.resolver.Secret(b.Context(), in, one); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("parallel", func(b *testing.B) {
		b.RunParallel(func(pb *testing.PB) {
			for pb.Next() {
				if _, err := w.resolver.Secret(b.Context(), in, one); err != nil {
					b.Error(err)
				}
			}
		})
	})
}

// thousand makes 100 hubs refer to ten secrets each.
func (w *world) thousand(uri func(hub, n int) string) {
	w.update(func(in *settings.Instance) {
		for h := range 100 {
			template, name := "https://handler.example/?x=1", fmt.Sprint("hub", h)
			for i := range 10 {
				template += fmt.Sprintf("&c%d={@Microsoft.KeyVault(SecretUri=%s)}", i, uri(h, i))
			}
			in.Hubs[name] = &settings.Hub{Name: name, EventHandlers: []*settings.EventHandler{{URLTemplate: template, UserEventPattern: "*"}}}
		}
	})
}

// What a thousand references cost: reading them all again, as after a change of roles, and one secret's change.
func BenchmarkThousandReferences(b *testing.B) {
	var token atomic.Pointer[identity.Token] // as the service's cache of tokens does
	w := newWorld(b, func(o *Options) {
		mint := o.Identity
		o.Identity = func(ctx context.Context, in *settings.Instance, resource string) (*identity.Token, error) {
			if tok := token.Load(); tok != nil {
				return tok, nil
			}
			tok, err := mint(ctx, in, resource)
			token.Store(tok)
			return tok, err
		}
	})
	w.grant(w.vaults, "va1", "get")
	for i := range 1000 {
		w.put("va1", fmt.Sprintf("s%d-%d", i/10, i%10), "0123456789abcdef0123456789abcdef")
	}
	w.thousand(func(h, i int) string { return fmt.Sprintf("https://va1.%s/secrets/s%d-%d", embeddedDomain, h, i) })
	resolved := func() bool {
		w.resolver.mu.Lock()
		defer w.resolver.mu.Unlock()
		for _, e := range w.resolver.entries {
			if e.held.Load() == nil {
				return false
			}
		}
		return len(w.resolver.entries) == 1000
	}
	w.eventually("a thousand values", resolved)
	b.Run("read again", func(b *testing.B) {
		for b.Loop() {
			w.resolver.Refresh(w.instance())
			for !resolved() {
				time.Sleep(100 * time.Microsecond) // the next look
			}
		}
		b.ReportMetric(float64(b.N)*1000/b.Elapsed().Seconds(), "readings/s")
	})
	b.Run("set one", func(b *testing.B) {
		for b.Loop() {
			w.put("va1", "s0-0", "0123456789abcdef0123456789abcdef")
		}
	})
}

func TestAHeldSecretCostsOneCopy(t *testing.T) {
	w := newWorld(t)
	w.grant(w.vaults, "va1", "get")
	w.put("va1", "one", "0123456789abcdef0123456789abcdef0123456789abcdef")
	w.hub("chat", one)
	w.want(one, "0123456789abcdef0123456789abcdef0123456789abcdef")
	in, ctx := w.instance(), t.Context()
	if n := testing.AllocsPerRun(1000, func() { _, _ = w.resolver.Secret(ctx, in, one) }); n > 1 {
		t.Errorf("%v allocations, want at most the copy", n)
	}
}

// What passes our check, Azure's client must understand as we do, and not panic at.
func FuzzChallenge(f *testing.F) {
	f.Add(`Bearer authorization="https://login.windows.net/t", resource="https://vault.azure.net"`)
	f.Add(`Bearer authorization="https://login.windows.net", resource="https://vault.azure.net" scope="x"`)
	f.Add(`Bearer x="a=b", authorization="https://h/t", resource="https://vault.azure.net"`)
	f.Fuzz(func(t *testing.T, header string) {
		tr := &transporter{resource: "https://vault.azure.net"}
		if tr.checkChallenge(map[string][]string{"Www-Authenticate": {header}}) != nil {
			return
		}
		vals := map[string]string{} // as keyvault/internal 1.2.0 reads it
		for part := range strings.SplitSeq(strings.ReplaceAll(header, "Bearer ", ""), " ") {
			if sub := strings.Split(part, "="); len(sub) == 2 {
				vals[sub[0]] = strings.TrimSuffix(strings.ReplaceAll(sub[1], `"`, ""), ",")
			}
		}
		scope, ok := vals["scope"]
		if !ok {
			scope = vals["resource"]
		}
		if strings.TrimSuffix(scope, "/.default") != tr.resource || vals["authorization"] != "" && len(strings.Split(vals["authorization"], "/")) < 4 {
			t.Errorf("%q passed, the client reads %v", header, vals)
		}
	})
}
