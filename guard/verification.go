package guard

import (
	"context"
	"slices"
	"time"
)

// A Verification is the record of one token's examination, for a log, a trace or
// a person. It holds no part of the token that could be used again.
type Verification struct {
	Time   time.Time
	Checks []Check // in the order they were made; the last one failed if Err is set
	Cached bool    // the token had been verified before, Checks are from then

	// Claims are the verified claims; nil if the token was refused.
	Claims *Claims
	// Err says why the token was refused; nil if it was accepted.
	Err *Error
	// Token is what a refused token says about itself, unverified; nil if it was
	// accepted, absent or not readable.
	Token *Token

	// Method, Path and RemoteAddr are of the request; empty when Explain was called.
	Method, Path, RemoteAddr string
}

// A Check is one step of a verification.
type Check struct {
	// Name is format, algorithm, key, signature, claims, tenant, version, issuer,
	// audience, lifetime, kind, caller or roles; authorization for a request whose
	// header was not usable.
	Name string
	OK   bool
	// Value is what the token has there; the sentence of the refusal if not OK.
	Value string
}

// Explain verifies a token and tells all that was checked. It is slower than
// Verify.
func (v *Verifier) Explain(ctx context.Context, token string) Verification {
	rec := &record{}
	claims, cached, err := v.verify(ctx, token, rec)
	out := Verification{Time: v.now(), Checks: slices.Clone(rec.checks), Cached: cached, Claims: claims, Err: err}
	if err != nil {
		out.Token, _ = Decode(token)
	}
	return out
}

// A record collects checks. A nil record collects nothing.
type record struct{ checks []Check }

func (r *record) pass(stage int, value string) {
	if r != nil {
		r.checks = append(r.checks, Check{Name: stageNames[stage], OK: true, Value: value})
	}
}

func (r *record) fail(err *Error) {
	if r != nil {
		r.checks = append(r.checks, Check{Name: stageNames[err.stage], Value: err.Message})
	}
}

// fork begins a record of one attempt of several with what is known so far.
func (r *record) fork() *record {
	if r == nil {
		return nil
	}
	return &record{checks: slices.Clone(r.checks)}
}

// adopt makes an attempt's record the final one.
func (r *record) adopt(attempt *record) {
	if r != nil && attempt != nil {
		r.checks = attempt.checks
	}
}
