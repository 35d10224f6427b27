package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"slices"
	"strings"
	"time"

	"tabard"
)

// A stage is where the demo happens: it runs commands, tells what came of them and keeps what later acts need.
type stage struct {
	ctx   context.Context
	out   io.Writer
	data  string
	ready tabard.Ready
	acts  int

	me       struct{ Type, PrincipalID, ClientID string }
	sample   *sample
	original *event

	log      *recorder // the service's log at level debug, until the act that searches it
	hook     *hook
	secretID string   // without a version
	keys     []string // that the vault was given
}

func (s *stage) close() {
	if s.sample != nil {
		s.sample.Close()
	}
	if s.hook != nil {
		s.hook.Close()
	}
}

func (s *stage) say(format string, args ...any) { fmt.Fprintf(s.out, format+"\n", args...) }

func (s *stage) title(text string) {
	s.acts++
	s.say("\n── %d. %s %s\n", s.acts, text, strings.Repeat("─", max(3, 72-len(text))))
}

// facts prints pairs of a name and a value.
func (s *stage) facts(pairs ...string) {
	for i := 0; i < len(pairs); i += 2 {
		s.say("  %-18s %s", pairs[i], pairs[i+1])
	}
}

// surprise is the error of an outcome that is not the one that must be.
func (s *stage) surprise(want, got string) error {
	return fmt.Errorf("the demo expected %s, and got: %s", want, got)
}

// cli runs a command of this program against the demo's service. The error says what the command wrote to stderr.
func (s *stage) cli(stdin string, args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(s.ctx, 30*time.Second)
	defer cancel()
	var out, errOut bytes.Buffer
	code := run(ctx, append(args, "--data", s.data), &stdio{in: strings.NewReader(stdin + "\n"), out: &out, err: &errOut, bare: true})
	text := strings.TrimSpace(out.String())
	if code != exitOK {
		return text, errors.New(strings.TrimSpace(errOut.String()))
	}
	return text, nil
}

// run shows a command and its result.
func (s *stage) run(args ...string) (string, error) {
	s.say("$ tabard %s", shell(args))
	return s.show("", args...)
}

// pipe shows a command with its standard input and its result.
func (s *stage) pipe(stdin string, args ...string) (string, error) {
	s.say("$ echo %s | tabard %s", stdin, shell(args))
	return s.show(stdin, args...)
}

func (s *stage) show(stdin string, args ...string) (string, error) {
	out, err := s.cli(stdin, args...)
	if err != nil {
		return out, fmt.Errorf("tabard %s: %w", shell(args), err)
	}
	if out != "" {
		s.say("%s", indent(out))
	}
	return out, nil
}

// quiet runs a command that the story does not need to show.
func (s *stage) quiet(args ...string) error {
	if _, err := s.cli("", args...); err != nil {
		return fmt.Errorf("tabard %s: %w", shell(args), err)
	}
	return nil
}

func (s *stage) json(into any, args ...string) error {
	out, err := s.cli("", append(args, "--json")...)
	if err != nil {
		return fmt.Errorf("tabard %s: %w", shell(args), err)
	}
	return json.Unmarshal([]byte(out), into)
}

// request prints an event as it arrived, its token redacted.
func (s *stage) request(e *event) {
	s.say("  %s %s", e.method, e.path)
	for _, name := range slices.Sorted(maps.Keys(e.header)) {
		value := strings.Join(e.header[name], ", ")
		if name == "Authorization" {
			value = fmt.Sprintf("Bearer (redacted, %d bytes)", len(e.token()))
		}
		s.say("  %s: %s", wireName(name), value)
	}
	s.say("\n  %s", e.body)
}

func (s *stage) claims(raw json.RawMessage) {
	var claims map[string]any
	if err := json.Unmarshal(raw, &claims); err != nil {
		return
	}
	for _, name := range slices.Sorted(maps.Keys(claims)) {
		s.say("  %-10s %s", name, claimText(name, claims[name]))
	}
}

// wireName spells a header as CloudEvents documents do; Go's own spelling differs.
func wireName(name string) string {
	if rest, ok := strings.CutPrefix(name, "Ce-"); ok {
		for _, known := range []string{"awpsversion", "connectionId", "connectionState", "eventName", "signature", "specversion", "subprotocol", "userId", "hub", "id", "source", "time", "type"} {
			if strings.EqualFold(known, rest) {
				return "ce-" + known
			}
		}
	}
	if name == http.CanonicalHeaderKey("WebHook-Request-Origin") {
		return "WebHook-Request-Origin"
	}
	return name
}

func indent(text string) string { return "  " + strings.ReplaceAll(text, "\n", "\n  ") }

// shell writes arguments as they would be typed.
func shell(args []string) string {
	quoted := make([]string, len(args))
	for i, a := range args {
		if quoted[i] = a; strings.ContainsAny(a, " *?{}$&;|<>'\"") {
			quoted[i] = shellQuote(a)
		}
	}
	return strings.Join(quoted, " ")
}
