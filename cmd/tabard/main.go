// Command tabard runs the service and is its command line.
//
// Someone who has just been told that an event handler answered 401 wants one line that shows the token, one that
// says why it was refused and one that mends the setting, without learning a second vocabulary. So every command
// is a noun and a verb in Azure's own words, reaches a running service over the same ARM- and Graph-shaped routes
// that Azure's tools use, prints results on stdout and everything else on stderr, and ends with a documented exit
// code. `dev`, `serve` and `demo` run the service itself; they end when the process is interrupted.
//
// What it leaves to others: the service (package tabard), verification of tokens (package guard).
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // a second interrupt ends the process at once
	os.Exit(run(ctx, os.Args[1:], &stdio{in: os.Stdin, out: os.Stdout, err: os.Stderr}))
}
