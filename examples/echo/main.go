// Command echo is an event handler that trusts nobody: only events with a good access token reach it.
package main

import (
	"context"
	"encoding/json"
	"flag"
	"log"
	"net/http"
	"os"

	"tabard/guard"
)

func main() {
	listen := flag.String("listen", "127.0.0.1:7070", "address to listen on")
	audience := flag.String("audience", "api://my-handler", "audience that tokens must have")
	ready := flag.String("ready", ".tabard/ready.json", "ready file of the Tabard service to trust")
	flag.Parse()
	var service struct{ Issuer, IssuerV2, CAFile string }
	if text, err := os.ReadFile(*ready); err != nil || json.Unmarshal(text, &service) != nil {
		log.Fatalf("ready file %s cannot be used: %v", *ready, err)
	}
	g, err := guard.New(guard.Trust{
		Issuers:   []string{service.Issuer, service.IssuerV2},
		Audiences: []string{*audience},
		CAFile:    service.CAFile,
	}, guard.Options{Duplicates: &guard.Duplicates{}})
	if err != nil {
		log.Fatal(err)
	}
	http.Handle("/eventhandler", g.Events(guard.Handlers{
		User: func(_ context.Context, e *guard.Event) (guard.Reply, error) {
			return guard.Textf("%s said %s", e.UserID, e.Text()), nil
		},
	}))
	log.Fatal(http.ListenAndServe(*listen, nil))
}
