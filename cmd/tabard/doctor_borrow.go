package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"
)

// A borrower gets tokens of a service's identities: it lets the service send events to a handler that keeps them. It
// types the commands that anybody could type.
type borrower struct {
	ctx   context.Context
	name  string // of everything that is made
	trap  *trap
	flags []string
	undo  [][]string
}

// adminArguments are the flags that find the service, for commands that are run on our behalf.
func (f adminFlags) adminArguments() []string {
	args := []string{"--data", f.Data}
	for flag, value := range map[string]string{"--admin-url": f.AdminURL, "--admin-token": f.AdminToken, "--ca": f.CA} {
		if value != "" {
			args = append(args, flag, value)
		}
	}
	return args
}

func (b *borrower) run(stdin string, args ...string) error { return b.runIn(b.ctx, stdin, args...) }

func (b *borrower) runIn(ctx context.Context, stdin string, args ...string) error {
	var out, errOut bytes.Buffer
	if code := run(ctx, append(args, b.flags...), &stdio{in: strings.NewReader(stdin), out: &out, err: &errOut}); code != exitOK {
		return fail(code, "", "to get tokens: tabard %s: %s", shell(args), strings.TrimPrefix(strings.TrimSpace(errOut.String()), "tabard: "))
	}
	return nil
}

// make runs a command and remembers the one that undoes it.
func (b *borrower) make(command, undo []string) error {
	if err := b.run("", command...); err != nil {
		return err
	}
	b.undo = append(b.undo, undo)
	return nil
}

// borrow returns the token that the instance sends to a handler of the audience.
func (b *borrower) borrow(instance, audience string) (string, error) {
	b.trap.token()
	at := []string{"--instance", instance}
	set := append([]string{"hub", "set", b.name, "--handler-url", b.trap.URL, "--user-events", "*", "--auth", "managed-identity", "--audience", audience}, at...)
	if err := b.make(set, append([]string{"hub", "delete", b.name}, at...)); err != nil {
		return "", err
	}
	if err := b.run("token, please\n", append([]string{"connect", "--hub", b.name, "--count", "1"}, at...)...); err != nil {
		return "", err
	}
	token := b.trap.token()
	if token == "" {
		return "", fail(exitFailure, "`tabard trace tail --level Warning --last 5 --no-follow` says why", "the service sent no token for the audience %s", audience)
	}
	return token, nil
}

// cleanUp deletes what was made, the last first, even if the command was interrupted.
func (b *borrower) cleanUp() error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(b.ctx), callTimeout)
	defer cancel()
	var faults []error
	done := map[string]bool{}
	for _, undo := range slices.Backward(b.undo) {
		if key := fmt.Sprint(undo); !done[key] {
			done[key] = true
			faults = append(faults, b.runIn(ctx, "", undo...))
		}
	}
	return errors.Join(faults...)
}

func randomName() string {
	var b [6]byte
	_, _ = rand.Read(b[:]) // never fails
	return hex.EncodeToString(b[:])
}
