package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"tabard/guard"
	"tabard/guard/reason"
)

const tokenWords = `

Words: issuer (iss), audience (aud), tenant, claims and token version are those of the Microsoft identity platform's access tokens. Reason codes are Tabard's, the same in the trace and in the guard's answers.`

// tokenArg is a token on the command line or, better, on stdin, where no process list shows it.
type tokenArg struct {
	Token string `arg:"" help:"Token, or - to read it from stdin." placeholder:"TOKEN"`
}

func (t tokenArg) read(stdin io.Reader) (string, error) {
	text := t.Token
	if text == "-" {
		b, err := io.ReadAll(io.LimitReader(stdin, guard.MaxTokenSize+64)) // white space around it is no fault
		if err != nil {
			return "", err
		}
		text = string(b)
	}
	text = strings.TrimSpace(text)
	if scheme, rest, ok := strings.Cut(text, " "); ok && strings.EqualFold(scheme, "Bearer") { // copied with its header
		text = strings.TrimSpace(rest)
	}
	return text, nil
}

// refusedToken turns a refusal into the end of a command: what differs, and the catalogue's advice.
func refusedToken(err error) error {
	var refused *guard.Error
	if !errors.As(err, &refused) {
		return err
	}
	f := &failure{code: exitRefused, message: refused.Error()}
	if refused.Status == http.StatusServiceUnavailable { // the issuer was not there to be asked
		f.code = exitUnreachable
	}
	if known, ok := reason.Lookup(refused.Code); ok {
		f.hint = known.Fix
	}
	return f
}

type tokenDecodeCmd struct {
	tokenArg
	jsonFlag
}

func (tokenDecodeCmd) Help() string {
	return `Shows the header and the claims as they stand in the token. Nothing is verified: anyone can write such a token. Remarks say what can be seen without keys, for example that nobody can verify a token for Microsoft Graph.

Example:

    tabard token decode - < token.txt
    pbpaste | tabard token decode - --json | jq .claims.aud` + tokenWords
}

// decoded is a token as token decode prints it.
type decoded struct {
	Header json.RawMessage `json:"header"`
	Claims json.RawMessage `json:"claims"` // null if the token is encrypted
	Notes  []remark        `json:"notes"`
}

type remark struct {
	Code reason.Code `json:"code"`
	Text string      `json:"text"`
}

func (c *tokenDecodeCmd) Run(s *stdio) error {
	text, err := c.read(s.in)
	if err != nil {
		return err
	}
	token, err := guard.Decode(text)
	if err != nil {
		return refusedToken(err)
	}
	d := decoded{Header: token.Header, Claims: token.Payload, Notes: []remark{}}
	for _, n := range token.Notes {
		d.Notes = append(d.Notes, remark(n))
	}
	if c.JSON {
		return s.print(true, d, nil)
	}
	if err := s.print(true, d.Header, nil); err != nil {
		return err
	}
	if d.Claims != nil {
		if err := s.print(true, d.Claims, nil); err != nil {
			return err
		}
	}
	return s.print(false, nil, func(w io.Writer) {
		if token.Claims != nil {
			moment(w, "issued", token.Claims.IssuedAt)
			moment(w, "valid from", token.Claims.NotBefore)
			moment(w, "valid until", token.Claims.Expiry)
		}
		for _, n := range d.Notes {
			row(w, "note", fmt.Sprintf("%s: %s", n.Code, n.Text))
		}
		row(w, "nothing of this is verified")
	})
}

// moment writes a time claim as people read it.
func moment(w io.Writer, name string, t time.Time) {
	if !t.IsZero() {
		row(w, name, t.Format(time.RFC3339))
	}
}

type tokenVerifyCmd struct {
	dataFlags
	tokenArg
	jsonFlag
	Audience []string `help:"Accepted audience; repeatable. Without it the audience is not compared." sep:"none" placeholder:"AUDIENCE"`
	Issuer   []string `help:"Trusted issuer, as in iss, or the address of its discovery document; repeatable. Default: the service of DATA/ready.json, versions 1 and 2." sep:"none" placeholder:"ISSUER"`
	CA       string   `name:"ca" help:"PEM file of the authority to trust for the issuer; default from DATA/ready.json." env:"TABARD_CA" placeholder:"FILE" group:"service"`
}

func (tokenVerifyCmd) Help() string {
	return `Judges as an event handler's guard does: fetches the issuer's discovery document and keys over TLS, verifies the signature, then compares issuer, tenant, version, audience and times. Prints each check; ends with 4 and the reason if one fails.

Example:

    tabard token verify --audience api://orders - < token.txt
    tabard token verify --issuer https://login.microsoftonline.com/TENANT/v2.0 --audience APPLICATION_ID - < token.txt` + tokenWords
}

// judgement is the result of token verify.
type judgement struct {
	Valid   bool            `json:"valid"`
	Code    reason.Code     `json:"code"`    // empty if valid
	Message string          `json:"message"` // what differs
	Fix     string          `json:"fix"`
	Checks  []check         `json:"checks"`
	Claims  json.RawMessage `json:"claims"` // unverified if not valid; null if not readable
}

type check struct {
	Name  string `json:"name"`
	OK    bool   `json:"ok"`
	Value string `json:"value"`
}

func (c *tokenVerifyCmd) Run(ctx context.Context, s *stdio) error {
	text, err := c.read(s.in)
	if err != nil {
		return err
	}
	trust, err := c.trust(text)
	if err != nil {
		return err
	}
	verifier, err := guard.NewVerifier(trust)
	if err != nil {
		return fail(exitUsage, "an issuer looks like https://HOST/TENANT/ or https://HOST/TENANT/v2.0", "%s", strings.ReplaceAll(err.Error(), "guard: ", ""))
	}
	defer verifier.Close()
	result := verifier.Explain(ctx, text)
	v := judgement{Valid: result.Err == nil}
	for _, k := range result.Checks {
		v.Checks = append(v.Checks, check(k))
	}
	if result.Claims != nil {
		v.Claims = result.Claims.Raw
	} else if result.Token != nil {
		v.Claims = result.Token.Payload
	}
	if result.Err != nil {
		v.Code, v.Message = result.Err.Code, result.Err.Message
		if known, ok := reason.Lookup(v.Code); ok {
			v.Fix = known.Fix
		}
	}
	err = s.print(c.JSON, v, func(w io.Writer) {
		for _, k := range v.Checks {
			mark := "ok"
			if !k.OK {
				mark = "FAILED"
			}
			row(w, k.Name, mark, printable(k.Value))
		}
	})
	if err != nil {
		return err
	}
	if result.Err != nil {
		return refusedToken(result.Err)
	}
	if len(c.Audience) == 0 {
		s.note("the audience was not compared; give --audience to do so")
	}
	return nil
}

// noAudience stands where no audience is wanted and the token names none that could be. No token has it.
const noAudience = "(no audience)"

// trust is what the guard is told. Without an audience to compare, the token's own is taken, so that every other
// check is made.
func (c *tokenVerifyCmd) trust(token string) (guard.Trust, error) {
	t := guard.Trust{Issuers: c.Issuer, Audiences: c.Audience, CAFile: c.CA, SeenTokens: -1}
	ready, err := c.ready()
	switch {
	case err == nil && len(t.Issuers) == 0:
		t.Issuers = []string{ready.Issuer, ready.IssuerV2}
	case len(t.Issuers) == 0:
		return t, hintedAs(err, "name the issuer with --issuer, or the data directory of the service with --data")
	}
	if t.CAFile == "" && err == nil {
		t.CAFile = ready.CAFile
	}
	if len(t.Audiences) > 0 {
		return t, nil
	}
	t.Audiences = []string{noAudience}
	if decoded, err := guard.Decode(token); err == nil && decoded.Claims != nil && decoded.Claims.Audience != "" {
		own := []string{decoded.Claims.Audience}
		probe, err := guard.NewVerifier(guard.Trust{Issuers: t.Issuers, Audiences: own})
		if err == nil { // Microsoft Graph is no audience that anybody may accept
			probe.Close()
			t.Audiences = own
		}
	}
	return t, nil
}
