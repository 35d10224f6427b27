package reference

import (
	"strings"
	"testing"
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
