package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/alecthomas/kong"
	"github.com/rogpeppe/go-internal/testscript"
	"go.uber.org/goleak"
)

// TestMain lets the scripts run this binary as tabard, and afterwards looks for goroutines that outlived their owner.
func TestMain(m *testing.M) {
	testscript.Main(leakChecked{m}, map[string]func(){"tabard": main})
}

type leakChecked struct{ m *testing.M }

func (l leakChecked) Run() int {
	code := l.m.Run()
	if err := goleak.Find(); err != nil && code == 0 {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return code
}

// offline is the environment of scripts that must not meet a service, nor the settings of whoever runs the tests.
func offline(env *testscript.Env) error {
	env.Vars = append(env.Vars, "TZ=UTC", "GORACE=atexit_sleep_ms=0") // a race-enabled process idles a second before it ends
	for _, v := range os.Environ() {
		if name, _, _ := strings.Cut(v, "="); strings.HasPrefix(name, "TABARD_") {
			return fmt.Errorf("%s is set: it would change what the scripts do", name)
		}
	}
	return nil
}

var update = flag.Bool("update", false, "write the outputs that the scripts compare with")

func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{Dir: "testdata", Setup: offline, RequireExplicitExec: true, Cmds: scriptCommands, UpdateScripts: *update})
}

// scriptCommands are what the scripts have beside testscript's own commands.
var scriptCommands = map[string]func(ts *testscript.TestScript, neg bool, args []string){
	// exits CODE ARGS... runs tabard and demands the exit code.
	"exits": func(ts *testscript.TestScript, neg bool, args []string) {
		if neg || len(args) < 1 {
			ts.Fatalf("usage: exits CODE ARGS...")
		}
		err := ts.Exec("tabard", args[1:]...)
		got := "0"
		if err != nil {
			got = strings.TrimPrefix(err.Error(), "exit status ")
		}
		if got != args[0] {
			ts.Fatalf("tabard ended with %s, want %s", got, args[0])
		}
	},
}

func TestEveryCommandTeaches(t *testing.T) {
	s := &stdio{out: &strings.Builder{}, err: &strings.Builder{}}
	parser, err := newParser(s, func(int) {})
	if err != nil {
		t.Fatal(err)
	}
	for _, command := range parser.Model.Leaves(true) {
		switch {
		case command.Help == "" || !strings.HasSuffix(command.Help, ".") || strings.Contains(command.Help, "\n"):
			t.Errorf("%s: its purpose is not one line that ends in a full stop: %q", command.Path(), command.Help)
		case !strings.Contains(command.Detail, "Example:\n\n    ") || !strings.Contains(command.Detail, "tabard "+command.Path()):
			t.Errorf("%s: its help has no example of it", command.Path())
		case !strings.Contains(command.Detail, "\n\nWords: "):
			t.Errorf("%s: its help does not say where its words come from", command.Path())
		}
		for _, f := range command.Flags {
			if f.Help == "" {
				t.Errorf("%s --%s has no help", command.Path(), f.Name)
			}
		}
	}
}

// The examples of the help are commands that parse.
func TestTheExamplesParse(t *testing.T) {
	parser := func() *kong.Kong { // what one parse sets stays set in the next
		p, err := newParser(&stdio{out: &strings.Builder{}, err: &strings.Builder{}}, func(int) {})
		if err != nil {
			t.Fatal(err)
		}
		return p
	}
	tried, model := 0, parser().Model
	for _, command := range append(model.Leaves(true), model.Node) {
		for line := range strings.SplitSeq(command.Detail, "\n") {
			line, ok := strings.CutPrefix(line, "    tabard ")
			if !ok {
				continue
			}
			line, _, _ = strings.Cut(line, " | ")
			line, _, _ = strings.Cut(line, " > ")
			line, _, _ = strings.Cut(line, " < ")
			if strings.Contains(line, "--config") || strings.HasPrefix(line, "hub set") && strings.Contains(line, "-f ") {
				continue // names a file
			}
			tried++
			if _, err := parser().Parse(shellWords(line)); err != nil {
				t.Errorf("%s: the example does not parse: tabard %s: %v", command.Path(), line, err)
			}
		}
	}
	if tried < 20 {
		t.Errorf("only %d examples were found", tried)
	}
}

// shellWords splits as a shell does, as far as the examples need it.
func shellWords(line string) (words []string) {
	for line = strings.TrimLeft(line, " "); line != ""; line = strings.TrimLeft(line, " ") {
		end, word := " ", ""
		if line[0] == '\'' || line[0] == '"' {
			end, line = line[:1], line[1:]
		}
		word, line, _ = strings.Cut(line, end)
		words = append(words, word)
	}
	return words
}

func TestAnInterruptEndsACommand(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	var errOut strings.Builder
	s := &stdio{in: strings.NewReader(""), out: &strings.Builder{}, err: &errOut}
	code := run(ctx, []string{"key", "list", "--admin-url", "http://127.0.0.1:1", "--admin-token", "x"}, s)
	if code != exitFailure || errOut.String() != "tabard: interrupted\n" {
		t.Errorf("%d, %q", code, errOut.String())
	}
}
