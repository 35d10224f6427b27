package guard

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"tabard/guard/reason"
)

// Skew is how far the clocks of issuer and receiver may be apart.
const Skew = 5 * time.Minute

// Trust says whose tokens are accepted, and for whom. Issuers and Audiences are
// required; everything else has a default.
type Trust struct {
	// Issuers are the addresses of token issuers: the iss of their tokens, or the
	// discovery document, with or without /.well-known/openid-configuration. At
	// most 16. Authority lists both versions of one tenant. An address of version
	// 2 ends in /v2.0; which version tokens have is decided by the application
	// that is their audience. A tenant-independent address (common,
	// organizations) needs Tenants.
	Issuers []string

	// Audiences are the accepted values of aud, compared byte for byte: the
	// application id, and for tokens of version 1 the identifier URIs.
	Audiences []string

	// Tenants are the ids of the tenants whose tokens are accepted. Default: the
	// tenants that Issuers name.
	Tenants []string

	// Callers are object ids (oid) or client ids (appid, azp), of which the caller
	// must be one. Default: every application of the tenant that can get a token
	// for the audience. In Microsoft Entra ID that is every application of the
	// tenant, unless the audience's service principal requires an assignment:
	// name the caller, or demand a role.
	Callers []string

	// Roles are application roles, of which the caller must have at least one.
	// Default: none is demanded.
	Roles []string

	// Users lets access tokens of users pass too: those that an application got
	// for a person who signed in, with a scope (scp) for the audience. It is for
	// what people operate, not for event handlers. Default: applications only.
	Users bool

	// CAFile is a PEM file of certificate authorities to trust for the issuers, in
	// addition to the system's or to RootCAs.
	CAFile string

	// RootCAs replaces the system's certificate authorities. Default: the system's.
	RootCAs *x509.CertPool

	// AlsoHosts are further hosts (with their port, if not 443) that a discovery
	// document may name in issuer and jwks_uri, beside its own. The hosts of
	// Microsoft's clouds are known to each other.
	AlsoHosts []string

	// Transport carries the requests for discovery documents and keys, in place of
	// one that dials: for an issuer in the same process, or where everything that
	// goes out must take a certain way. What is fetched is judged all the same.
	// Its connections stay its owner's: CAFile and RootCAs cannot be combined with
	// it, and Close leaves it alone. Default: one of the verifier's own.
	Transport http.RoundTripper

	// AllowLoopbackHTTP permits issuers on http://localhost and loopback
	// addresses. Dangerous outside tests: whoever can listen on this machine can
	// then be the issuer.
	AllowLoopbackHTTP bool

	// MaxLifetime bounds a token's life from issue to expiry. Default 48 h; managed
	// identities have 24 h.
	MaxLifetime time.Duration

	// RefreshInterval is the age at which an issuer's keys are fetched anew in the
	// background; at twice this age a token waits for it. Default 1 h.
	RefreshInterval time.Duration

	// UnknownKeyInterval is the least time between two fetches that are caused by
	// tokens with unknown key ids, for each issuer. Default 5 min. Shorter lets
	// strangers make this receiver ask the issuer more often.
	UnknownKeyInterval time.Duration

	// MaxKeyAge is how long known keys serve while the issuer cannot be reached.
	// Default 24 h.
	MaxKeyAge time.Duration

	// SeenTokens bounds how many verified tokens are remembered until they expire.
	// Default 4096, about 4 KiB each; negative remembers none.
	SeenTokens int

	// Now is the clock, for tests. Default time.Now.
	Now func() time.Time
}

// Authority returns the addresses of a tenant's two issuers, version 1 and 2, at
// an authority's origin: https://login.microsoftonline.com for Microsoft Entra
// ID, or the public https address of a Tabard service.
func Authority(origin, tenantID string) []string {
	base := strings.TrimSuffix(origin, "/") + "/" + tenantID
	return []string{base + "/", base + "/v2.0"}
}

// A Verifier verifies access tokens. It is safe for concurrent use. It fetches
// keys when the first token needs them and has no goroutine while idle.
type Verifier struct {
	issuers   []*issuer
	audiences []string
	tenants   map[string]bool // lower case; empty: those of the issuers
	callers   map[string]bool // lower case; empty: any
	roles     []string
	users     bool
	lifetime  time.Duration
	now       func() time.Time
	seen      *seenTokens // nil: none

	client  *http.Client
	foreign bool // the client's transport is somebody else's
	cancel  context.CancelFunc
	flights sync.WaitGroup
}

// NewVerifier checks the configuration, all of it before it returns an error,
// and makes no call. Preload finds out whether the issuers answer.
func NewVerifier(t Trust) (*Verifier, error) {
	v := &Verifier{
		audiences: slices.Clone(t.Audiences),
		roles:     slices.Clone(t.Roles),
		users:     t.Users,
		tenants:   lowerSet(t.Tenants),
		callers:   lowerSet(t.Callers),
		lifetime:  orDefault(t.MaxLifetime, 48*time.Hour),
		now:       t.Now,
	}
	if v.now == nil {
		v.now = time.Now
	}
	if t.SeenTokens >= 0 {
		v.seen = &seenTokens{limit: orDefault(t.SeenTokens, 4096)}
	}
	var faults []error
	fault := func(format string, args ...any) { faults = append(faults, fmt.Errorf("guard: "+format, args...)) }
	client, err := newClient(t)
	if err != nil {
		faults = append(faults, err)
	}
	v.client, v.foreign = client, t.Transport != nil
	ctx, cancel := context.WithCancel(context.Background())
	v.cancel = cancel
	if len(t.Issuers) == 0 {
		fault("Issuers: at least one is needed")
	}
	if len(t.Issuers) > maxIssuers {
		fault("Issuers: %d, the limit is %d", len(t.Issuers), maxIssuers)
	}
	for _, address := range t.Issuers {
		is, err := parseIssuer(address, t.AlsoHosts, t.AllowLoopbackHTTP)
		if err != nil {
			fault("Issuers: %q %w", address, err)
			continue
		}
		if is.independent() && len(v.tenants) == 0 {
			fault("Issuers: %q speaks for every tenant; name the accepted ones in Tenants", address)
		}
		is.client, is.now, is.ctx, is.flights = v.client, v.now, ctx, &v.flights
		is.timing = timing{
			refresh: orDefault(t.RefreshInterval, time.Hour),
			demand:  orDefault(t.UnknownKeyInterval, 5*time.Minute),
			maxAge:  orDefault(t.MaxKeyAge, 24*time.Hour),
		}
		v.issuers = append(v.issuers, is)
	}
	if len(t.Audiences) == 0 {
		fault("Audiences: at least one is needed")
	}
	for _, a := range t.Audiences {
		switch {
		case a == "":
			fault("Audiences: an empty audience")
		case isGraph(a):
			fault("Audiences: %q is Microsoft Graph, whose tokens nobody else can verify", a)
		}
	}
	for tenant := range v.tenants {
		if !isGUID(tenant) {
			fault("Tenants: %q is not a tenant id", tenant)
		}
	}
	for caller := range v.callers {
		if !isGUID(caller) {
			fault("Callers: %q is neither an object id nor a client id", caller)
		}
	}
	if len(faults) > 0 {
		cancel()
		return nil, errors.Join(faults...)
	}
	return v, nil
}

func orDefault[T int | int64 | time.Duration](value, otherwise T) T {
	if value <= 0 {
		return otherwise
	}
	return value
}

func lowerSet(list []string) map[string]bool {
	set := make(map[string]bool, len(list))
	for _, s := range list {
		set[strings.ToLower(s)] = true
	}
	return set
}

// Close ends fetches under way and closes idle connections, unless they belong to
// Trust.Transport. Tokens that need a fetch are refused afterwards.
func (v *Verifier) Close() {
	v.cancel()
	for _, is := range v.issuers {
		is.mu.Lock()   // a fetch that is just being started is counted when this is free
		is.mu.Unlock() //lint:ignore SA2001 taking the lock is the waiting
	}
	v.flights.Wait()
	if !v.foreign {
		v.client.CloseIdleConnections()
	}
}

// Preload fetches the discovery documents and keys of all issuers, so that a
// wrong address or an untrusted certificate is found at start. The verifier works
// without it. The error joins one *Error for each issuer that failed.
func (v *Verifier) Preload(ctx context.Context) error {
	var faults []error
	for _, is := range v.issuers {
		if _, err := is.current(ctx); err != nil {
			faults = append(faults, err)
		}
	}
	return errors.Join(faults...)
}

// Verify returns the claims of a token that holds: signed by a trusted issuer
// for one of the audiences, in time, of an application that may call. The error
// is an *Error. A token that was verified before costs a hash and a comparison.
func (v *Verifier) Verify(ctx context.Context, token string) (*Claims, error) {
	claims, _, err := v.verify(ctx, token, nil)
	if err != nil {
		return nil, err
	}
	return claims, nil
}

// verify is Verify; it also tells whether the token was known, and notes each
// check in rec if that is not nil.
func (v *Verifier) verify(ctx context.Context, token string, rec *record) (*Claims, bool, *Error) {
	if v.seen == nil || len(token) > MaxTokenSize {
		e, err := v.judge(ctx, token, rec)
		if err != nil {
			return nil, false, err
		}
		return e.claims, false, nil
	}
	signed, sum := splitSeen(token)
	if e := v.seen.get(signed, sum); e != nil && (rec == nil || e.checks != nil) {
		// The keys are looked at even for a known token: without this a receiver
		// that sees one token all day would not learn of a revoked key.
		now, holds := v.now(), true
		if !e.issuer.fresh(now) {
			_, err := e.issuer.current(ctx)
			holds = err == nil
		}
		if holds && !e.key.revoked.Load() && now.Before(e.claims.Expiry) {
			if rec != nil {
				rec.checks = e.checks
			}
			return e.claims, true, nil
		}
		v.seen.drop(sum)
	}
	e, err := v.judge(ctx, token, rec)
	if err != nil {
		return nil, false, err
	}
	if v.now().Before(e.claims.Expiry) { // in the minutes of skew it is judged each time
		e.signed = strings.Clone(signed) // a part of the token's string would keep its signature alive
		v.seen.put(sum, e)
	}
	return e.claims, false, nil
}

// judge verifies a token from scratch.
func (v *Verifier) judge(ctx context.Context, token string, rec *record) (*seenToken, *Error) {
	t, err := parseToken(token)
	if err != nil {
		rec.fail(err)
		return nil, err
	}
	rec.pass(stageFormat, "")
	var best *Error
	var bestRec *record
	for _, is := range v.candidates(t.claims) {
		attempt := rec.fork()
		e, err := v.judgeBy(ctx, is, t, attempt)
		if err == nil {
			rec.adopt(attempt)
			if rec != nil {
				e.checks = rec.checks
			}
			return e, nil
		}
		attempt.fail(err)
		if best == nil || err.stage > best.stage {
			best, bestRec = err, attempt
		}
	}
	rec.adopt(bestRec)
	return nil, best
}

// candidates are the issuers to try: those whose tokens have the version and
// issuer that this one claims, or all if there is none. The claim is not yet
// verified and decides nothing but the order of work.
func (v *Verifier) candidates(c *Claims) []*issuer {
	for i, is := range v.issuers {
		set := is.set.Load()
		if set != nil && is.version == c.Version && set.expectedIssuer(c.TenantID) == c.Issuer {
			return v.issuers[i : i+1]
		}
	}
	return v.issuers
}

// judgeBy verifies a token as one of a certain issuer (identity.md 9.1).
func (v *Verifier) judgeBy(ctx context.Context, is *issuer, t *parsedToken, rec *record) (*seenToken, *Error) {
	set, key, err := v.signedBy(ctx, is, t, rec)
	if err != nil {
		return nil, err
	}
	c := t.claims
	if err := c.faultAt(stageClaims); err != nil {
		return nil, err
	}
	for _, check := range [...]struct {
		stage int
		value string
		err   *Error
	}{
		{stageTenant, c.TenantID, v.checkTenant(set, c)},
		{stageVersion, c.Version, checkVersion(is, c)},
		{stageIssuer, c.Issuer, checkIssuer(set, key, c)},
		{stageAudience, c.Audience, v.checkAudience(c)},
		{stageLifetime, "", v.checkLifetime(c)},
		{stageKind, c.IdentityType, v.checkKind(c)},
		{stageCaller, c.ObjectID, v.checkCaller(c)},
		{stageRoles, "", v.checkRoles(c)},
	} {
		if check.err != nil {
			return nil, check.err
		}
		rec.pass(check.stage, check.value)
	}
	return &seenToken{claims: c, key: key, issuer: is}, nil
}

// signedBy finds the key and verifies the signature.
func (v *Verifier) signedBy(ctx context.Context, is *issuer, t *parsedToken, rec *record) (*keySet, *signingKey, *Error) {
	// A bad header is refused before anything is fetched for it.
	if set := is.set.Load(); set == nil || set.vettedKey(t.header64) == nil {
		if _, err := t.checkedHeader(); err != nil {
			return nil, nil, err
		}
	}
	rec.pass(stageAlgorithm, "RS256")
	set, err := is.current(ctx)
	if err != nil {
		return nil, nil, err
	}
	key, err := set.verifySignature(t)
	if err != nil && err.Code == reason.UnknownKey {
		set = is.newer(ctx, set)
		key, err = set.verifySignature(t)
	}
	if err != nil {
		return nil, nil, err
	}
	rec.pass(stageKey, key.id)
	rec.pass(stageSignature, "")
	return set, key, nil
}
