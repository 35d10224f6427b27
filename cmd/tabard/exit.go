package main

import (
	"context"
	"errors"
	"fmt"
	"io"

	"tabard"

	"github.com/alecthomas/kong"
)

// Exit codes, the same for every command. Scripts rely on them; the root help lists them.
const (
	exitOK          = 0
	exitFailure     = 1 // something went wrong on the way
	exitUsage       = 2 // flags, arguments or configuration are wrong; nothing was done
	exitNotFound    = 3 // what the command names does not exist
	exitRefused     = 4 // the service, or a verification, says no
	exitUnreachable = 5 // no service answers
)

// A failure ends a command with an exit code of its own and, if there is one, advice.
type failure struct {
	code    int
	message string
	hint    string // what to do about it; may be empty
}

func (f *failure) Error() string { return f.message }

func fail(code int, hint, format string, args ...any) error {
	return &failure{code: code, message: fmt.Sprintf(format, args...), hint: hint}
}

// report writes what went wrong, if anything did, and returns the exit code.
func report(w io.Writer, err error) int {
	var (
		f      *failure
		parse  *kong.ParseError
		faults tabard.ConfigError
	)
	switch {
	case err == nil:
		return exitOK
	case errors.As(err, &f):
		fmt.Fprintf(w, "tabard: %s\n", f.message)
		if f.hint != "" {
			fmt.Fprintf(w, "hint: %s\n", f.hint)
		}
		return f.code
	case errors.As(err, &faults):
		for _, fault := range faults {
			fmt.Fprintf(w, "tabard: %s\n", fault)
		}
		fmt.Fprintln(w, "hint: `tabard serve --help` explains each setting; it may come from a flag, the environment or --config")
		return exitUsage
	case errors.As(err, &parse):
		fmt.Fprintf(w, "tabard: %v\n", err)
		help := "tabard --help"
		if node := parse.Context.Selected(); node != nil {
			help = node.FullPath() + " --help"
		}
		fmt.Fprintf(w, "hint: `%s` explains the command\n", help)
		return exitUsage
	case errors.Is(err, context.Canceled):
		fmt.Fprintln(w, "tabard: interrupted")
		return exitFailure
	default:
		fmt.Fprintf(w, "tabard: %v\n", err)
		return exitFailure
	}
}
