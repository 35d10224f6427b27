package store

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"

	"tabard/internal/fabric"
)

// writerDir tells a copy of the test binary to be the writer of TestKill9LosesNothingThatWasAcknowledged.
const writerDir = "TABARD_TEST_WRITER_DIR"

// counter is the key of a document that the writer changes again and again.
const counter = "counter"

// write puts documents for ever and prints each key once its write was acknowledged, and so does it for each number
// that it counted to.
func write(dir string) {
	ctx := context.Background()
	fail := func(err error) {
		if err != nil {
			fmt.Println("error:", err)
			os.Exit(1)
		}
	}
	f, err := fabric.Open(ctx, fabric.Options{DataDir: dir})
	fail(err)
	s, err := Open(ctx, f, MasterKeyFile(dir+"/master.key"), nil)
	fail(err)
	c, err := OpenCollection[note](ctx, s, "notes", v1)
	fail(err)
	_, err = c.Create(ctx, counter, note{})
	if !errors.Is(err, ErrExists) {
		fail(err)
	}
	for i := len(c.All()); ; i++ {
		key := fmt.Sprint("k", i)
		_, err := c.Create(ctx, key, note{Text: strings.Repeat("x", i%5000), N: i})
		fail(err)
		fmt.Println(key)
		count, _ := c.Get(counter)
		_, err = c.Update(ctx, counter, note{N: count.Value.N + 1}, count.Revision)
		fail(err)
		fmt.Println(counter, count.Value.N+1)
	}
}

func TestKill9LosesNothingThatWasAcknowledged(t *testing.T) {
	dir := t.TempDir()
	acknowledged, counted := map[string]bool{}, 0
	read := func(line string) {
		if strings.HasPrefix(line, "error:") {
			t.Fatal(line)
		}
		if n, ok := strings.CutPrefix(line, counter+" "); ok {
			var err error
			if counted, err = strconv.Atoi(n); err != nil {
				t.Fatal(err)
			}
			return
		}
		acknowledged[line] = true
	}
	for round, stopAfter := range []int{1, 40, 150} {
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
		for n := 0; n < stopAfter && lines.Scan(); n++ {
			read(lines.Text())
		}
		_ = cmd.Process.Kill() // in the middle of a later write
		for lines.Scan() {     // acknowledged before the kill, read after it
			read(lines.Text())
		}
		_ = cmd.Wait()
		if len(acknowledged) == 0 {
			t.Fatal("the writer never wrote")
		}

		s, stop := open(t, dir)
		all := notes(t, s).All()
		for key := range acknowledged {
			item, ok := all[key]
			if !ok {
				t.Errorf("round %d: %s was acknowledged and is gone", round, key)
			} else if fmt.Sprint("k", item.Value.N) != key || len(item.Value.Text) != item.Value.N%5000 {
				t.Errorf("round %d: %s holds half a document", round, key)
			}
		}
		// One more than was acknowledged may have been written, but not two.
		if n := all[counter].Value.N; n < counted || n > counted+1 {
			t.Errorf("round %d: the counter is %d, acknowledged was %d", round, n, counted)
		}
		stop()
	}
}
