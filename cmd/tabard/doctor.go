package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strings"
	"time"

	"tabard/guard/doctor"
)

type doctorCmd struct {
	instanceFlags
	jsonFlag
	URL string `arg:"" name:"url" help:"The event handler: its http or https URL, {hub} and {event} filled in." placeholder:"URL"`

	Hub       string `help:"Hub of the events. Default: what follows /hubs/ in the URL, or chat." placeholder:"HUB"`
	Event     string `help:"Name of the user event." default:"message" placeholder:"EVENT"`
	Origin    string `help:"Host name of the service, as the handler knows it." default:"localhost" placeholder:"HOST"`
	Audience  string `help:"The handler's audience." placeholder:"AUDIENCE"`
	Issuer    string `help:"Issuer that forged tokens claim. Default: that of the service of DATA/ready.json." placeholder:"ISSUER"`
	AccessKey string `help:"Access key to sign events with, for a handler that checks ce-signature; @FILE reads it from a file." env:"TABARD_ACCESS_KEY" placeholder:"KEY"`

	FromService        bool   `help:"Let the running service send events to a listener of this command, to get real tokens. It makes a hub, an application and an instance for that, and deletes them again."`
	Token              string `help:"A good token, which the handler must accept; @FILE reads it from a file." env:"TABARD_DOCTOR_TOKEN" placeholder:"TOKEN" group:"tokens"`
	OtherAudienceToken string `name:"other-audience-token" help:"A real token of the same identity for another audience." env:"TABARD_DOCTOR_OTHER_AUDIENCE_TOKEN" placeholder:"TOKEN" group:"tokens"`
	OtherToken         string `name:"other-token" help:"A real token of another identity for the handler's audience." env:"TABARD_DOCTOR_OTHER_TOKEN" placeholder:"TOKEN" group:"tokens"`
	ExpiredToken       string `name:"expired-token" help:"A real token that has expired." env:"TABARD_DOCTOR_EXPIRED_TOKEN" placeholder:"TOKEN" group:"tokens"`
}

func (doctorCmd) Help() string {
	return `Sends the handler events with one thing wrong each: no token, another audience, another identity, an expired token, a foreign key, alg none, HS256 with the public key, a repeated event, an unknown service's origin, too large a body. Prints what was accepted and what to do about it. Ends with 0 if nothing was, with 4 if anything was, so that CI can watch it.

What is accepted reaches the application: examine your own handlers only. Some attacks need real tokens; --from-service gets them from a running service on this machine, or give them yourself. Without them forged ones are sent, whose refusal proves less.

Example:

    tabard doctor http://127.0.0.1:7070/eventhandler
    tabard doctor http://127.0.0.1:7070/eventhandler --from-service --audience api://my-handler
    tabard doctor https://app.example.com/eventhandler --token @good.jwt --other-token @other.jwt --json

Words: event handler, hub and audience are Azure Web PubSub's. Reasons in the answers are the handler's own.`
}

func (c *doctorCmd) Run(ctx context.Context, s *stdio) error {
	if u, err := url.Parse(c.URL); err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" || strings.ContainsAny(c.URL, "{}") {
		return fail(exitUsage, "it looks like https://app.example.com/eventhandler", "%q is not an event handler's URL", c.URL)
	}
	opt := doctor.Options{Hub: c.Hub, Event: c.Event, Origin: c.Origin, Audience: c.Audience, Issuer: c.Issuer}
	for _, secret := range []struct {
		given string
		into  *string
	}{
		{c.AccessKey, &opt.AccessKey}, {c.Token, &opt.Token}, {c.OtherAudienceToken, &opt.OtherAudienceToken},
		{c.OtherToken, &opt.OtherIdentityToken}, {c.ExpiredToken, &opt.ExpiredToken},
	} {
		var err error
		if *secret.into, err = secretArgument(secret.given); err != nil {
			return err
		}
	}
	ready, err := c.ready()
	if err == nil && opt.Issuer == "" && opt.Token == "" {
		opt.Issuer = ready.Issuer
	}
	if opt.Client, err = c.client(ready); err != nil {
		return err
	}
	opt.Client.Timeout = 30 * time.Second
	if t, ok := opt.Client.Transport.(*http.Transport); ok {
		t.ExpectContinueTimeout = time.Second // what is refused unread need not be sent
	}
	if c.FromService {
		if err := c.borrowTokens(ctx, s, &opt); err != nil {
			return err
		}
	}
	report, err := doctor.Examine(ctx, c.URL, opt)
	if err != nil {
		return doctorFailure(err)
	}
	if err := s.print(c.JSON, report, func(w io.Writer) { printReport(w, report) }); err != nil {
		return err
	}
	unsure := 0
	for _, f := range report.Refused {
		if !f.Conclusive {
			unsure++
		}
	}
	if unsure > 0 {
		s.note("%d of the refusals (refused?) prove little, because the tokens were forged; give real ones with --from-service and --audience, or with --token, --other-audience-token, --other-token and --expired-token", unsure)
	}
	if n := len(report.Accepted); n > 0 {
		return fail(exitRefused, "", "the handler accepted %d of %d attacks", n, n+len(report.Refused))
	}
	return nil
}

func printReport(w io.Writer, report *doctor.Report) {
	for _, f := range report.Accepted {
		row(w, "ACCEPTED", f.Name, fmt.Sprint(f.Status), "to do: "+f.Fix)
	}
	for _, f := range report.Refused {
		verdict := "refused"
		if !f.Conclusive {
			verdict = "refused?"
		}
		status := fmt.Sprint(f.Status)
		if f.Status == 0 {
			status = "-"
		}
		row(w, verdict, f.Name, status, printable(f.Detail))
	}
}

// doctorFailure explains an examination that proved nothing.
func doctorFailure(err error) error {
	var u *url.Error
	switch {
	case errors.Is(err, doctor.ErrNoHandler):
		return fail(exitNotFound, "check the URL's path, and name the handler's hub with --hub", "%v", err)
	case errors.Is(err, doctor.ErrGoodRefused):
		return fail(exitFailure, "its refusals prove nothing before it accepts what is good; `tabard token verify` says what is wrong with a token", "%v", err)
	case errors.As(err, &u) && !errors.Is(err, context.Canceled):
		return fail(exitUnreachable, "is it running? name the authority that signed its certificate with --ca", "the handler cannot be reached: %v", u.Err)
	}
	return err
}

// secretArgument is a secret on the command line or, better, @ and a file, where no process list shows it.
func secretArgument(given string) (string, error) {
	name, isFile := strings.CutPrefix(given, "@")
	if !isFile {
		return given, nil
	}
	text, err := os.ReadFile(name)
	return strings.TrimSpace(string(text)), err
}

// borrowTokens has the service send events to a listener of ours, as its own identity and as another instance's.
// What it makes for that is deleted again.
func (c *doctorCmd) borrowTokens(ctx context.Context, s *stdio, opt *doctor.Options) (err error) {
	if c.Audience == "" {
		return fail(exitUsage, "name it with --audience", "--from-service needs to know the handler's audience")
	}
	a, instance, err := c.connect(ctx, s)
	if err != nil {
		return err
	}
	var me struct{ Identity struct{ Type string } }
	if _, err := a.call(ctx, http.MethodGet, instance, apiVersion(armVersion), nil, &me); err != nil {
		return err
	}
	if t := me.Identity.Type; t == "" || t == "None" {
		return fail(exitFailure, "`tabard identity assign --system` gives it one", "the instance has no managed identity, so it has no tokens")
	}
	t, err := startTrap()
	if err != nil {
		return err
	}
	defer t.Close()
	name := "doctor" + randomName()
	b := &borrower{ctx: ctx, name: name, trap: t, flags: c.adminArguments()}
	defer func() { err = errors.Join(err, b.cleanUp()) }()
	own := c.Instance
	if opt.Token == "" {
		if opt.Token, err = b.borrow(own, c.Audience); err != nil {
			return err
		}
	}
	if opt.OtherAudienceToken == "" {
		elsewhere := "api://" + name
		if err = b.make([]string{"app", "create", name, "--identifier-uri", elsewhere}, []string{"app", "delete", elsewhere}); err != nil {
			return err
		}
		if opt.OtherAudienceToken, err = b.borrow(own, elsewhere); err != nil {
			return err
		}
	}
	if opt.OtherIdentityToken == "" {
		if err = b.make([]string{"instance", "create", name}, []string{"instance", "delete", name}); err != nil {
			return err
		}
		if err = b.run("", "identity", "assign", "--system", "--instance", name); err != nil {
			return err
		}
		if opt.OtherIdentityToken, err = b.borrow(name, c.Audience); err != nil {
			return err
		}
	}
	return nil
}
