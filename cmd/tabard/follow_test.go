package main

import (
	"bufio"
	"bytes"
	"context"
	"io"
	"log/slog"
	"strings"
	"testing"
	"time"

	"tabard"
)

// Whoever follows the trace sees what happens, and does not hold the service up when it stops.
func TestTheEndOfTheServiceEndsTheTrace(t *testing.T) {
	data := t.TempDir()
	srv, err := tabard.New(tabard.Config{Data: data, Listen: "127.0.0.1:0", AdminListen: "127.0.0.1:0", ShutdownTimeout: time.Minute}, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	ran := make(chan error, 1)
	go func() { ran <- srv.Run(ctx) }()
	if _, err := srv.Ready(t.Context()); err != nil {
		t.Fatal(err)
	}

	following, giveUp := context.WithCancel(t.Context())
	defer giveUp()
	out, in := io.Pipe()
	var errOut bytes.Buffer
	followed := make(chan int, 1)
	go func() {
		followed <- run(following, []string{"trace", "tail", "--data", data}, &stdio{in: strings.NewReader(""), out: in, err: &errOut})
	}()
	// A refused client is something to see; a follower that comes later begins with what is kept.
	if code := run(t.Context(), []string{"connect", "--hub", "chat", "--anonymous", "--data", data}, &stdio{in: strings.NewReader(""), out: io.Discard, err: io.Discard}); code != exitRefused {
		t.Fatalf("the client ended with %d", code)
	}
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil || !strings.Contains(line, " connection anonymous_denied hub=chat") {
		t.Fatalf("%q, %v", line, err)
	}
	go func() { _, _ = io.Copy(io.Discard, out) }() // ends when the pipe is closed below

	stop()
	late := time.NewTimer(10 * time.Second)
	defer late.Stop()
	select {
	case err := <-ran:
		if err != nil {
			t.Errorf("the service ended with %v", err)
		}
	case <-late.C:
		t.Error("the service waits for a follower of the trace")
		giveUp()
		<-ran
	}
	if code := <-followed; code != exitUnreachable || errOut.String() != "tabard: the service ended the trace\n" {
		t.Errorf("%d %q", code, errOut.String())
	}
	in.Close()
}
