package reference

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"time"

	"tabard/guard/reason"
	"tabard/internal/identity"
	"tabard/internal/settings"
)

// A Step is one thing that has to hold for a secret to be read, and whether it does.
type Step struct {
	// Name is reference, host, identity, token, vault, permission, secret, window, value or held.
	Name string `json:"name"`
	// Outcome is ok, warning, failed or skipped.
	Outcome string `json:"outcome"`
	// Detail says what was found; it holds no value.
	Detail string `json:"detail,omitempty"`
	// Code and Fix say, of a failed step, why and what to change.
	Code reason.Code `json:"code,omitempty"`
	Fix  string      `json:"fix,omitempty"`
	// Claims are those of the token, of the step token.
	Claims json.RawMessage `json:"claims,omitempty"`
}

// The outcomes of a Step.
const (
	StepOK      = "ok"
	StepWarning = "warning"
	StepFailed  = "failed"
	StepSkipped = "skipped"
)

// stepNames are the steps in their order.
var stepNames = []string{"reference", "host", "identity", "token", "vault", "permission", "secret", "window", "value"}

// An account collects steps.
type account struct{ steps []Step }

func (a *account) ok(name, format string, args ...any) {
	a.steps = append(a.steps, Step{Name: name, Outcome: StepOK, Detail: fmt.Sprintf(format, args...)})
}

func (a *account) warn(name, format string, args ...any) {
	a.steps = append(a.steps, Step{Name: name, Outcome: StepWarning, Detail: fmt.Sprintf(format, args...)})
}

func (a *account) fail(name string, e *Error) {
	why, _ := reason.Lookup(e.Code)
	a.steps = append(a.steps, Step{Name: name, Outcome: StepFailed, Detail: e.Message, Code: e.Code, Fix: why.Fix})
}

// finish adds the steps that were not reached.
func (a *account) finish() []Step {
	for _, name := range stepNames[min(len(a.steps), len(stepNames)):] {
		a.steps = append(a.steps, Step{Name: name, Outcome: StepSkipped, Detail: "not reached"})
	}
	return a.steps
}

// Explain reads a secret anew as the instance's identity and tells step by step what came of it and what to change. It
// does not touch what is remembered, and does not return the value.
func (r *Resolver) Explain(ctx context.Context, in *settings.Instance, text string) []Step {
	ctx, cancel := context.WithTimeout(ctx, r.opt.Timeout)
	defer cancel()
	var a account
	uri, err := settings.ParseSecretURI(text)
	if err != nil {
		a.fail("reference", &Error{Code: reason.TemplateInvalid, Message: fmt.Sprintf("%.300q %v", text, err)})
		return a.finish()
	}
	which := "the newest version of secret " + uri.Name
	if uri.Version != "" {
		which = "version " + uri.Version + " of secret " + uri.Name
	}
	a.ok("reference", "%s at %s", which, uri.Host)
	at, failed := r.locate(uri)
	if failed != nil {
		a.fail("host", failed)
		return a.finish()
	}
	if at.embedded {
		a.ok("host", "the embedded vault %s, read in process", at.vault)
	} else {
		a.ok("host", "a vault outside, in a known domain; it gets a token for %s only", at.resource)
	}
	tok, failed := r.token(ctx, in, uri, at)
	if failed != nil && failed.Code == reason.IdentityMissing {
		a.fail("identity", failed)
		return a.finish()
	}
	a.ok("identity", "%s", describeIdentity(in))
	if failed != nil {
		a.fail("token", failed)
		return a.finish()
	}
	oid := claim(tok, "oid")
	a.ok("token", "issued for %s to object id %s", at.resource, oid)
	a.steps[len(a.steps)-1].Claims = tok.Claims
	r.explainVault(ctx, &a, in, uri, at, tok)
	return a.finish()
}

func describeIdentity(in *settings.Instance) string {
	switch source := in.Source(); {
	case source != nil:
		return "from the instance's identity source " + string(source.Type)
	case in.Identity.Type == settings.IdentityUserAssigned:
		return "user-assigned: " + in.Identity.UserAssigned
	}
	return "system-assigned, object id " + in.Identity.PrincipalID
}

// explainVault is Explain from the vault's answer on: what it refused tells how far the request came.
func (r *Resolver) explainVault(ctx context.Context, a *account, in *settings.Instance, uri settings.SecretURI, at place, tok *identity.Token) {
	got, failed := r.read(ctx, uri, at, tok)
	oid := claim(tok, "oid")
	switch {
	case failed == nil:
	case failed.Status == 0, failed.Status >= 500, failed.Status == http.StatusUnauthorized, failed.Status == http.StatusTooManyRequests, failed.Code == reason.SecretUnavailable,
		failed.Code == reason.SecretNotFound && at.embedded && !r.exists(at.vault):
		a.fail("vault", failed)
		return
	case failed.Code == reason.SecretDenied:
		a.ok("vault", "answered %d", failed.Status)
		a.fail("permission", failed)
		last := &a.steps[len(a.steps)-1]
		last.Fix = r.grantFix(at, uri, oid)
		return
	default: // not found, or disabled
		a.ok("vault", "answered %d", failed.Status)
		a.ok("permission", "object id %s may read secrets", oid)
		a.fail("secret", failed)
		return
	}
	a.ok("vault", "answered 200")
	a.ok("permission", "object id %s may read the secret", oid)
	a.ok("secret", "version %s is enabled", got.Version)
	now := time.Now()
	switch {
	case !got.Expires.IsZero() && now.After(got.Expires):
		a.warn("window", "it was meant to expire at %s; it can be read and is used all the same", got.Expires.UTC().Format(time.RFC3339))
	case now.Before(got.NotBefore):
		a.warn("window", "it was meant to be used from %s on; it can be read and is used all the same", got.NotBefore.UTC().Format(time.RFC3339))
	default:
		a.ok("window", "within the times that were noted for it, if any")
	}
	template, err := settings.ParseURLTemplate("https://handler.invalid/?code={@Microsoft.KeyVault(SecretUri=" + uri.String() + ")}")
	if err == nil {
		_, err = template.Expand("", "", func(string) (string, error) { return string(got.Value), nil })
	}
	clear(got.Value)
	if err != nil {
		a.fail("value", &Error{Code: reason.SecretUnusable, Message: strings.TrimPrefix(err.Error(), settings.ErrSecretUnusable.Error()+": ")})
		return
	}
	a.ok("value", "can stand in a URL as it is (its text is not shown)")
	a.held(r, in, uri, got.Version)
}

// exists tells whether an embedded vault is there.
func (r *Resolver) exists(vault string) bool {
	_, ok := r.opt.Vaults.Vault(vault)
	return ok
}

// grantFix says what gives an identity the right to read.
func (r *Resolver) grantFix(at place, uri settings.SecretURI, oid string) string {
	if !at.embedded {
		return "give object id " + oid + " the secret permission Get in the access policies of " + uri.Host + ", or the role Key Vault Secrets User there"
	}
	vault, ok := r.opt.Vaults.Vault(at.vault)
	if ok && vault.EnableRBAC {
		return "assign the role Key Vault Secrets User to object id " + oid + " at " + vault.ResourceID() + "; it counts at once"
	}
	return "tabard vault policy set " + at.vault + " --object-id " + oid + " --secrets get"
}

// held adds what events get at present.
func (a *account) held(r *Resolver, in *settings.Instance, uri settings.SecretURI, version string) {
	by, _ := whose(in)
	r.mu.Lock()
	e := r.entries[key{by, uri}]
	r.mu.Unlock()
	if e == nil {
		a.ok("held", "nothing: no handler of a hub refers to it with this identity")
		return
	}
	s := e.status()
	switch {
	case !s.Resolved:
		a.warn("held", "nothing yet; the next event reads it")
	case s.Version != version:
		a.warn("held", "version %s, read at %s; the newest is used from the next reading on, at %s", s.Version, s.Read.UTC().Format(time.RFC3339), s.Next.UTC().Format(time.RFC3339))
	default:
		a.ok("held", "the same version, read at %s", s.Read.UTC().Format(time.RFC3339))
	}
}
