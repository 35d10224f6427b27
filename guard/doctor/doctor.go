// Package doctor is for those who own an event handler and want to know what it
// lets in. It sends the handler events as the service would, each with one thing
// wrong that a handler must notice, and reports which of them were accepted.
//
//	report, err := doctor.Examine(ctx, "https://app.example.com/eventhandler", doctor.Options{Token: good})
//
// An attack that is accepted was an event for the application: examine handlers
// of your own only, and not with data that matters. A handler that refuses
// everything has passed only if it accepts what is good: give Token, so that this
// is tried first.
//
// The package leaves getting real tokens to its caller; `tabard doctor
// --from-service` gets them from a running service.
package doctor

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"
)

// Options say how the handler is reached and what is known. The zero value works
// and finds a handler that verifies nothing.
type Options struct {
	// Hub is the hub of the events. Default: what follows /hubs/ in the URL, or
	// "chat". Some handlers ignore events of other hubs.
	Hub string
	// Event is the name of the user event. Default "message".
	Event string
	// Origin is the service's host name. Default "localhost".
	Origin string
	// AccessKey signs the events (ce-signature), for handlers that check that too.
	AccessKey string

	// Token is a good token: the handler must accept it. The others are real tokens
	// of the same issuer that it must refuse: of the same caller for another
	// audience, of another caller for the handler's audience, and one that has
	// expired. Without them forged ones are sent, whose refusal proves less.
	Token              string
	OtherAudienceToken string
	OtherIdentityToken string
	ExpiredToken       string

	// Issuer and Audience are what forged tokens claim, and where the public key for
	// one of the attacks is taken from. Default: as in Token.
	Issuer, Audience string

	// Oversize is the size of the event that is too large, in bytes. Default 4 MiB;
	// the service never sends more than 1 MiB.
	Oversize int

	// Client sends the requests; it must not follow redirects by itself. Default: one
	// that trusts the system's authorities and gives up after 30 s.
	Client *http.Client
}

// A Report is what became of each attack. Both lists keep the order of the
// attacks and are never nil.
type Report struct {
	URL      string    `json:"url"`
	Accepted []Finding `json:"accepted"`
	Refused  []Finding `json:"refused"`
}

// A Finding is the outcome of one attack.
type Finding struct {
	Attack string `json:"attack"` // stable name, for example "alg_none"
	Name   string `json:"name"`   // what was sent
	Status int    `json:"status"` // of the answer; 0 if the handler hung up
	Detail string `json:"detail"` // the answer's reason, if it gave one
	// Conclusive is false for a refusal that proves little: it took a token that was
	// not at hand to make the attack as an attacker would.
	Conclusive bool   `json:"conclusive"`
	Fix        string `json:"fix,omitempty"` // what to do about an attack that was accepted
}

var (
	// ErrNoHandler reports that nothing at the URL takes events.
	ErrNoHandler = errors.New("no event handler answers there")
	// ErrGoodRefused reports that the handler refuses the good token too, so that
	// its refusals prove nothing.
	ErrGoodRefused = errors.New("the handler refuses the good token")
)

// Examine makes the attacks, one after the other. The error is not about what was
// accepted: the handler cannot be reached, or wraps ErrNoHandler or
// ErrGoodRefused.
func Examine(ctx context.Context, handler string, opt Options) (*Report, error) {
	u, err := url.Parse(handler)
	if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
		return nil, fmt.Errorf("%q is not an http or https URL", handler)
	}
	if opt.Hub == "" {
		opt.Hub = "chat"
		if _, rest, ok := strings.Cut(u.Path, "/hubs/"); ok {
			if hub, _, _ := strings.Cut(rest, "/"); hub != "" {
				opt.Hub = hub
			}
		}
	}
	opt.Event = orDefault(opt.Event, "message")
	opt.Origin = orDefault(opt.Origin, "localhost")
	if opt.Oversize <= 0 {
		opt.Oversize = 4 << 20
	}
	if opt.Client == nil {
		opt.Client = &http.Client{
			Timeout:       30 * time.Second,
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		}
		defer opt.Client.CloseIdleConnections()
	}
	x := &examination{handler: u.String(), opt: opt}
	if x.forge, err = newForge(ctx, opt); err != nil {
		return nil, err
	}
	return x.run(ctx)
}

func orDefault(s, otherwise string) string {
	if s == "" {
		return otherwise
	}
	return s
}

// An examination is one run against one handler.
type examination struct {
	handler string
	opt     Options
	forge   *forge
}

func (x *examination) run(ctx context.Context) (*Report, error) {
	if x.opt.Token != "" {
		a, err := x.send(ctx, x.event(x.opt.Token))
		if err != nil {
			return nil, err
		}
		if !a.accepted() {
			return nil, fmt.Errorf("%w: %s", ErrGoodRefused, a)
		}
	}
	report := &Report{URL: x.handler, Accepted: []Finding{}, Refused: []Finding{}}
	missing := 0
	attacks := x.attacks()
	for _, attack := range attacks {
		a, err := attack.make(ctx)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", attack.name, err)
		}
		f := Finding{Attack: attack.id, Name: attack.name, Status: a.status, Detail: a.reason(), Conclusive: true}
		if a.accepted() {
			f.Fix = attack.fix
			report.Accepted = append(report.Accepted, f)
			continue
		}
		f.Conclusive = attack.conclusive
		report.Refused = append(report.Refused, f)
		if a.status == http.StatusNotFound || a.status == http.StatusMethodNotAllowed {
			missing++
		}
	}
	if missing == len(attacks) && x.opt.Token == "" {
		return nil, fmt.Errorf("%w: everything was answered with %d; events were of hub %q", ErrNoHandler, report.Refused[0].Status, x.opt.Hub)
	}
	return report, nil
}

// An attack is one thing that a handler must not let in.
type attack struct {
	id, name, fix string
	conclusive    bool
	make          func(context.Context) (answer, error)
}

// attacks are all that is tried. The fix says what an application adds.
func (x *examination) attacks() []attack {
	o, f := x.opt, x.forge
	const verify = "verify the access token before anything else, for example with the guard library or tabard guard"
	known := o.Token != "" || o.Issuer != "" && o.Audience != ""
	withToken := func(tokens ...string) func(context.Context) (answer, error) {
		return func(ctx context.Context) (answer, error) {
			var last answer
			for _, token := range tokens {
				var err error
				if last, err = x.send(ctx, x.event(token)); err != nil || last.accepted() {
					return last, err
				}
			}
			return last, nil
		}
	}
	return []attack{
		{"no_token", "an event without a token", verify, true, withToken("")},
		{"wrong_audience", "a token for another audience", "compare the token's aud with your own audience, byte for byte", o.OtherAudienceToken != "",
			withToken(orDefault(o.OtherAudienceToken, f.sign(f.own, f.claims("aud", "api://somebody-else"))))},
		{"other_identity", "a token for this audience, of another identity", "compare the token's oid (or appid, azp) with the identities that may call, or demand a role", o.OtherIdentityToken != "",
			withToken(orDefault(o.OtherIdentityToken, f.sign(f.own, f.claims("oid", stranger, "sub", stranger, "appid", stranger, "azp", stranger))))},
		{"expired", "a token that has expired", "compare the token's exp with the time, with at most 5 minutes of leeway", o.ExpiredToken != "",
			withToken(orDefault(o.ExpiredToken, f.sign(f.own, f.claims("iat", f.now-90000, "nbf", f.now-90000, "exp", f.now-3600))))},
		{"foreign_key", "a good token's claims, signed by another key", "verify the signature with the keys that the issuer's discovery document names, never with one that the token brings", known,
			withToken(f.signEmbedded(), f.sign(f.own, f.claims()))},
		{"alg_none", "a good token's claims, not signed (alg none)", "accept RS256 only, whatever the token's header says", known,
			withToken(f.unsigned("nOnE"), f.unsigned("None"), f.unsigned("none"))},
		{"hs256_public_key", "a good token's claims, signed with HS256 and the issuer's public key as the secret", "accept RS256 only, whatever the token's header says", known && f.published,
			withToken(f.sharedKey()...)},
		{"replayed_id", "the same event twice", "remember ce-source and ce-id for some minutes and answer a repetition with the first answer", o.Token != "", x.replay},
		{"wrong_origin", "validation and an event of a service that is not yours", "allow the origins of your own services in the validation, and " + verify, true, x.wrongOrigin},
		{"oversize", fmt.Sprintf("an event of %d bytes", o.Oversize), "bound the body: the service never sends more than 1 MiB", o.Token != "", x.oversize},
	}
}

// replay sends one event twice, with the good token if there is one.
func (x *examination) replay(ctx context.Context) (answer, error) {
	e := x.event(x.opt.Token)
	a, err := x.send(ctx, e)
	if err != nil || !a.accepted() {
		return a, err
	}
	return x.send(ctx, e)
}

// wrongOrigin is what a service that the handler does not know would do: ask
// whether it may send, and send.
func (x *examination) wrongOrigin(ctx context.Context) (answer, error) {
	const origin = "doctor.invalid"
	a, err := x.validate(ctx, origin)
	if err != nil || !a.accepted() {
		return a, err
	}
	e := x.event("")
	e.origin = origin
	return x.send(ctx, e)
}

func (x *examination) oversize(ctx context.Context) (answer, error) {
	e := x.event(x.opt.Token)
	e.body = strings.Repeat("x", x.opt.Oversize)
	a, err := x.send(ctx, e)
	if err != nil && ctx.Err() == nil {
		return answer{detail: "the handler hung up"}, nil // a way to refuse what is too large
	}
	return a, err
}

func randomID() string {
	var b [8]byte
	_, _ = rand.Read(b[:]) // never fails
	return hex.EncodeToString(b[:])
}
