package keyvault

import (
	"bufio"
	"context"
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"tabard/guard"
	"tabard/internal/fabric"
	"tabard/internal/store"
)

// writerDir tells a copy of the test binary to be the writer of the kill -9 test.
const writerDir = "TABARD_TEST_VAULT_DIR"

func childDir() string { return os.Getenv(writerDir) }

// child sets, deletes, purges and restores for ever and prints what was acknowledged.
func child() {
	ctx := context.Background()
	check := func(err error) {
		if err != nil {
			fmt.Println("error:", err)
			os.Exit(1)
		}
	}
	f, err := fabric.Open(ctx, fabric.Options{DataDir: childDir()})
	check(err)
	st, err := store.Open(ctx, f, store.MasterKeyFile(childDir()+"/master.key"), nil)
	check(err)
	v, err := Open(ctx, st, Options{
		Verify:    func(context.Context, string) (*guard.Claims, error) { return nil, context.Canceled },
		Admin:     func(*http.Request) bool { return true },
		Authority: func() string { return testAuthority }, TenantID: testTenant, Origin: func(string) string { return "https://x" },
	})
	check(err)
	w := v.index.secret(DefaultVault, "counter")
	for i := len(w.versions); ; i++ {
		_, err := v.set(ctx, DefaultVault, "counter", []byte(fmt.Sprint(i)), edit{})
		check(err)
		fmt.Println("set", i)
		name := fmt.Sprint("n", i)
		for n := range 3 {
			_, err := v.set(ctx, DefaultVault, name, []byte(fmt.Sprint(name, ".", n)), edit{})
			check(err)
		}
		blob, err := v.backup(DefaultVault, name)
		check(err)
		_, _, err = v.delete(ctx, DefaultVault, name)
		check(err)
		check(v.purge(ctx, DefaultVault, name))
		_, err = v.restore(ctx, DefaultVault, blob)
		check(err)
		fmt.Println("restored", i)
	}
}

// A real process is killed; what it wrote without syncing survives that, in the kernel. That every acknowledged write is
// synced to the disk is the store's promise, which no test here can cut the power for.
func TestKill9LosesNoAcknowledgedSecretAndShowsNoHalfOne(t *testing.T) {
	dir := t.TempDir()
	set, restored := -1, map[int]bool{}
	for round, stopAfter := range []int{1, 2, 7, 3, 24, 1, 12, 60, 5, 31} {
		cmd := exec.Command(os.Args[0])
		cmd.Env = append(os.Environ(), writerDir+"="+dir)
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		lines := bufio.NewScanner(out)
		for n := 0; lines.Scan(); n++ {
			line := lines.Text()
			if strings.HasPrefix(line, "error:") {
				t.Error(line)
			}
			var i int
			if _, err := fmt.Sscanf(line, "set %d", &i); err == nil {
				set = i
			} else if _, err := fmt.Sscanf(line, "restored %d", &i); err == nil {
				restored[i] = true
			}
			if n == stopAfter { // in the middle of whatever comes some moments later: a set, a purge, a restore
				time.AfterFunc(time.Duration(rand.IntN(4000))*time.Microsecond, func() { _ = cmd.Process.Kill() })
			}
		}
		_ = cmd.Wait()

		w := openWorld(t, dir)
		v := w.vaults
		s, view, err := v.get(DefaultVault, "counter", "")
		if err != nil {
			t.Fatal(err)
		}
		if n := len(view.versions); n < set+1 || n > set+2 {
			t.Errorf("round %d: %d versions, acknowledged %d", round, n, set+1)
		}
		for i, s := range view.versions {
			if value, err := v.open(&view, DefaultVault, "counter", s); err != nil || string(value) != fmt.Sprint(i) {
				t.Errorf("round %d: version %d is %q, %v", round, i, value, err)
			}
		}
		if s != view.newest() {
			t.Error("another newest")
		}
		for i := range set + 2 {
			name := fmt.Sprint("n", i)
			_, view, err := v.get(DefaultVault, name, "")
			if restored[i] && (err != nil || len(view.versions) != 3) {
				t.Errorf("round %d: %s was restored and has %d versions, %v", round, name, len(view.versions), err)
			}
			for n, s := range view.versions {
				// What is visible is whole; what was being set when the process died has fewer versions.
				if value, e := v.open(&view, DefaultVault, name, s); err == nil && (e != nil || string(value) != fmt.Sprint(name, ".", n)) {
					t.Errorf("round %d: %s version %d is %q, %v", round, name, n, value, e)
				}
			}
		}
		// What is left over goes: a name in the middle of a purge or restore can be used again.
		w.clock.advance(time.Hour)
		if err := v.sweep(t.Context()); err != nil {
			t.Error(err)
		}
		for key, item := range v.documents.All() {
			if item.Value.Mark != nil && item.Value.Mark.State != deleted {
				t.Errorf("round %d: %s is left over", round, key)
			}
		}
		w.stop()
	}
}
