package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"strings"
	"time"

	"tabard"
	"tabard/guard/reason"
)

// demoOptions are the flags of the demo.
type demoOptions struct {
	Once bool `help:"End after the last step instead of serving on; any surprise ends with 1."`
}

// What the demo is about.
const (
	demoAudience = "api://sample-handler"
	demoMessage  = "hello"
)

// runDemo narrates the whole loop. Every line with a "$" is a command that anybody can type, run here through the
// same code on the same service; every outcome is compared with what it must be, and the first surprise ends the demo.
func runDemo(ctx context.Context, o demoOptions, out, errOut io.Writer) (err error) {
	data, err := os.MkdirTemp("", "tabard-demo-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(data)
	ctx, stop := context.WithCancel(ctx)
	served := make(chan error, 1)
	ready := make(chan tabard.Ready, 1)
	cfg := tabard.Config{Data: data, Listen: "127.0.0.1:0", AdminListen: "127.0.0.1:0", AllowLoopbackHandlers: true, ShutdownTimeout: 5 * time.Second}
	s := &stage{ctx: ctx, out: out, data: data, log: &recorder{}}
	log := slog.New(slog.NewMultiHandler((&logFlags{LogFormat: "text", LogLevel: "error"}).logger(errOut).Handler(),
		slog.NewJSONHandler(s.log, &slog.HandlerOptions{Level: slog.LevelDebug})))
	go func() { served <- serve(ctx, cfg, log, func(r tabard.Ready) { ready <- r }) }()
	running := true
	defer func() {
		stop()
		if running {
			err = errors.Join(err, <-served)
		}
	}()

	select {
	case s.ready = <-ready:
	case err := <-served:
		running = false
		return fmt.Errorf("the service did not start: %w", err)
	}
	start := time.Now()
	for _, act := range []func() error{s.open, s.identity, s.handler, s.event, s.attacks, s.identityOff, s.secretInURL, s.rotation, s.nowhere} {
		if err := act(); err != nil {
			s.close()
			return err
		}
	}
	defer s.close()
	s.say("\nEverything happened as it must, in %s.", time.Since(start).Round(10*time.Millisecond))
	if o.Once {
		return nil
	}
	s.say("\nStill serving, until Ctrl-C: %s   control plane: %s", s.ready.Endpoint, s.ready.AdminURL)
	s.say("Try, in another terminal:\n\n  export TABARD_DATA=%s\n  tabard connect --hub %s --user bob\n  tabard vault explain %s\n  tabard trace tail", data, hookHub, s.secretID)
	select {
	case <-ctx.Done():
		return nil
	case err := <-served:
		running = false
		return err
	}
}

func (s *stage) open() error {
	s.title("The service")
	s.say("One process, free ports, data in a temporary directory.")
	s.facts(
		"clients and REST", s.ready.Endpoint,
		"control plane", s.ready.AdminURL,
		"token issuer", s.ready.Issuer,
	)
	return nil
}

func (s *stage) identity() error {
	s.title("An identity, and an audience")
	if _, err := s.run("identity", "assign", "--system"); err != nil {
		return err
	}
	if err := s.json(&s.me, "identity", "show"); err != nil {
		return err
	}
	if s.me.Type != "SystemAssigned" || s.me.PrincipalID == "" {
		return s.surprise("a system-assigned identity", fmt.Sprintf("%+v", s.me))
	}
	_, err := s.run("app", "create", "sample-handler", "--identifier-uri", demoAudience)
	return err
}

func (s *stage) handler() error {
	s.title("An event handler that trusts nobody")
	var err error
	if s.sample, err = startSample(s.ready, s.me.PrincipalID); err != nil {
		return err
	}
	s.say("An HTTP server of its own, with the guard library in front. It accepts tokens")
	s.facts(
		"issued by", s.ready.Issuer,
		"for the audience", demoAudience,
		"to the caller", s.me.PrincipalID+" (oid)",
	)
	_, err = s.run("hub", "set", "chat", "--handler-url", s.sample.URL+"/eventhandler", "--user-events", "*", "--auth", "managed-identity", "--audience", demoAudience)
	return err
}

func (s *stage) event() error {
	s.title("A client sends an event")
	answer, err := s.pipe(demoMessage, "connect", "--hub", "chat", "--user", "alice", "--count", "1")
	if err != nil {
		return err
	}
	if want := "alice said " + demoMessage; answer != want {
		return s.surprise(want, answer)
	}
	s.original = s.sample.lastEvent()
	if s.original == nil {
		return s.surprise("one event at the handler", "none")
	}
	s.say("\nWhat the handler received:\n")
	s.request(s.original)
	v := s.sample.lastVerification()
	if v.Err != nil || v.Claims == nil {
		return s.surprise("an accepted token", fmt.Sprint(v.Err))
	}
	s.say("\nThe claims of its token:\n")
	s.claims(v.Claims.Raw)
	s.say("\nWhat the guard checked:\n")
	for _, c := range v.Checks {
		s.say("  ✓ %-10s %s", c.Name, c.Value)
	}
	s.say("\nThe handler's answer reached the client: %q", answer)
	return nil
}

func (s *stage) attacks() error {
	s.title("The same call, by somebody else")
	good := s.original.token()
	trap, err := startTrap()
	if err != nil {
		return err
	}
	defer trap.Close()
	elsewhere, err := s.lure(trap, "default", "api://somebody-else")
	if err != nil {
		return err
	}
	if err := s.quiet("instance", "create", "intruder"); err != nil {
		return err
	}
	intruder, err := s.lure(trap, "intruder", demoAudience)
	if err != nil {
		return err
	}
	foreign, err := signedByAnotherKey(good)
	if err != nil {
		return err
	}
	for _, a := range []struct {
		name, token string
		later       time.Duration
		status      int
		code        reason.Code
	}{
		{"without a token", "", 0, http.StatusUnauthorized, reason.TokenMissing},
		{"with a token for another audience, replayed by the handler that got it", elsewhere, 0, http.StatusUnauthorized, reason.WrongAudience},
		{"with another identity's token for this audience", intruder, 0, http.StatusForbidden, reason.CallerNotAllowed},
		{"with the same token, 25 hours later on the handler's clock", good, 25 * time.Hour, http.StatusUnauthorized, reason.Expired},
		{"with the same claims, signed by another key", foreign, 0, http.StatusUnauthorized, reason.SignatureInvalid},
		{"with the same claims and alg none", withoutSignature(good), 0, http.StatusUnauthorized, reason.AlgorithmNotAllowed},
	} {
		if err := s.attack(a.name, a.token, a.later, a.status, a.code); err != nil {
			return err
		}
	}
	return s.attack("with its own good token, to show that it still passes", good, 0, http.StatusOK, "")
}

// attack repeats the original event with another token and compares the handler's answer.
func (s *stage) attack(name, token string, later time.Duration, status int, code reason.Code) error {
	s.sample.advance(later)
	defer s.sample.advance(0)
	answer, err := s.original.replay(s.ctx, s.sample.URL, token)
	if err != nil {
		return err
	}
	verdict := answer.challenge
	if answer.status == http.StatusOK {
		verdict = "accepted"
	}
	mark := "✗"
	if code == "" {
		mark = "✓"
	}
	s.say("%s %s\n    %d %s", mark, name, answer.status, verdict)
	if answer.status != status || !strings.Contains(answer.challenge, string(code)) {
		return s.surprise(fmt.Sprintf("%d %s", status, code), fmt.Sprintf("%d %s", answer.status, answer.challenge))
	}
	return nil
}

// lure makes an instance send an event with its token for the audience to a handler that verifies nothing.
func (s *stage) lure(t *trap, instance, audience string) (token string, err error) {
	for _, args := range [][]string{
		{"app", "create", "somebody-else", "--identifier-uri", audience},
		{"identity", "assign", "--system", "--instance", instance},
	} {
		if audience == demoAudience && args[0] == "app" || instance == "default" && args[0] == "identity" {
			continue // exist already
		}
		if err := s.quiet(args...); err != nil {
			return "", err
		}
	}
	err = s.quiet("hub", "set", "lure", "--instance", instance, "--handler-url", t.URL, "--user-events", "*", "--auth", "managed-identity", "--audience", audience)
	if err != nil {
		return "", err
	}
	if _, err := s.cli(demoMessage, "connect", "--hub", "lure", "--instance", instance, "--count", "1"); err != nil {
		return "", err
	}
	if token = t.token(); token == "" {
		return "", s.surprise("a token at the other handler", "none")
	}
	return token, nil
}

func (s *stage) identityOff() error {
	s.title("The identity is switched off")
	if _, err := s.run("identity", "remove"); err != nil {
		return err
	}
	before := s.sample.events()
	s.say("$ echo %s | tabard connect --hub chat --user alice --count 1", demoMessage)
	answer, err := s.cli(demoMessage, "connect", "--hub", "chat", "--user", "alice", "--count", "1")
	if err == nil {
		return s.surprise("a failed event", answer)
	}
	s.say("%s", indent(err.Error()))
	if s.sample.events() != before {
		return s.surprise("no request at all without a token", "one")
	}
	s.say("\nThe handler was not called: an event is never sent without its token. Why, says the trace:\n")
	why, err := s.run("trace", "tail", "--hub", "chat", "--kind", "delivery", "--last", "1", "--no-follow")
	if err != nil {
		return err
	}
	if !strings.Contains(why, string(reason.IdentityMissing)) {
		return s.surprise(string(reason.IdentityMissing), why)
	}
	return nil
}
