package keyvault

import (
	"fmt"
	"testing"
)

// Throughput of the vault over TLS, and in process.
func BenchmarkVault(b *testing.B) {
	w := newWorld(b)
	w.vault("va1")
	u := w.owner("va1")
	u.put("n", "a secret of usual size: 0123456789abcdef0123456789abcdef")
	b.Run("get over https", func(b *testing.B) {
		for b.Loop() {
			u.value("/secrets/n")
		}
	})
	b.Run("set over https", func(b *testing.B) {
		i := 0
		for b.Loop() {
			i++
			u.put(fmt.Sprint("b", i%100), "a secret of usual size: 0123456789abcdef0123456789abcdef")
		}
	})
	b.Run("read in process", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if _, err := w.vaults.Read(b.Context(), u.token, "va1", "n", ""); err != nil {
				b.Fatal(err)
			}
		}
	})
}
