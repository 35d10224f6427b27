package guard

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"tabard/guard/reason"
)

const (
	discoveryPath = "/.well-known/openid-configuration"
	placeholder   = "{tenantid}" // literal text in tenant-independent documents
	maxIssuers    = 16

	consumersTenant = "9188040d-6c67-4c5b-b112-36a304b66dad" // personal accounts
)

// microsoft lists hosts that speak for each other in Microsoft's clouds: the
// version 1 document of login.microsoftonline.com names sts.windows.net as its
// issuer. A family counts only if the discovery address itself is in it.
var microsoft = [][]string{
	{"login.microsoftonline.com", "login.windows.net", "login.microsoft.com", "sts.windows.net"},
	{"login.microsoftonline.us", "sts.windows.net"},
	{"login.partner.microsoftonline.cn", "login.chinacloudapi.cn", "sts.chinacloudapi.cn"},
}

// An issuer is one configured discovery document with its keys.
type issuer struct {
	discovery string   // address of the document
	base      *url.URL // scheme and host of that address
	prefix    string   // path before the tenant segment, usually ""
	segment   string   // tenant segment: a GUID, common, organizations, consumers or a domain
	version   string   // ver of its tokens: "1.0" or "2.0"
	hosts     []string // hosts that the document may name, the own one first

	client  *http.Client
	plain   bool // http on loopback allowed
	timing  timing
	now     func() time.Time
	flights *sync.WaitGroup
	ctx     context.Context // ends when the verifier is closed

	set atomic.Pointer[keySet] // last known good

	mu       sync.Mutex
	flight   *flight // a fetch under way, or nil
	failures int     // in a row
	failed   time.Time
	demanded time.Time // last fetch caused by an unknown key id
	lastErr  *Error
}

// timing holds the intervals of the key cache; see Trust.
type timing struct{ refresh, demand, maxAge time.Duration }

// A flight is one fetch, shared by all that wait for it.
type flight struct {
	done chan struct{}
	err  *Error
}

// parseIssuer reads a configured address: an issuer as in iss, or the address of
// its discovery document.
func parseIssuer(address string, also []string, plain bool) (*issuer, error) {
	u, err := secureURL(address, plain)
	if err != nil {
		return nil, err
	}
	path := strings.TrimSuffix(strings.TrimSuffix(u.Path, discoveryPath), "/")
	is := &issuer{version: "1.0", plain: plain}
	if rest, ok := strings.CutSuffix(path, "/v2.0"); ok {
		is.version, path = "2.0", rest
	}
	slash := strings.LastIndexByte(path, '/')
	if slash < 0 || path[slash+1:] == "" {
		return nil, fmt.Errorf("has no tenant in its path; want https://host/{tenant}/ or https://host/{tenant}/v2.0")
	}
	is.prefix, is.segment = path[:slash], path[slash+1:]
	if isGUID(is.segment) {
		is.segment = strings.ToLower(is.segment)
	}
	is.base = &url.URL{Scheme: u.Scheme, Host: u.Host}
	is.hosts = append(is.hosts, u.Host)
	for _, family := range microsoft {
		if slices.Contains(family, u.Host) {
			is.hosts = append(is.hosts, family...)
		}
	}
	for _, h := range also {
		is.hosts = append(is.hosts, strings.ToLower(h))
	}
	doc := *is.base
	doc.Path, doc.RawQuery = is.prefix+"/"+is.segment, u.RawQuery
	if is.version == "2.0" {
		doc.Path += "/v2.0"
	}
	doc.Path += discoveryPath
	is.discovery = doc.String()
	return is, nil
}

// independent reports whether the document speaks for more than one tenant.
func (is *issuer) independent() bool {
	return is.segment == "common" || is.segment == "organizations"
}

// tenantOf checks the issuer that a discovery document names and returns its
// tenant, which is the literal {tenantid} if the document is tenant-independent.
// Without this check, whoever can answer for one tenant's address could name
// another.
func (is *issuer) tenantOf(named string) (string, error) {
	for i, host := range is.hosts {
		base := is.base.Scheme + "://" + host
		if i == 0 {
			base += is.prefix
		}
		rest, ok := strings.CutPrefix(named, base+"/")
		if !ok {
			continue
		}
		tenant := strings.TrimSuffix(rest, "/")
		if is.version == "2.0" {
			if tenant, ok = strings.CutSuffix(tenant, "/v2.0"); !ok {
				continue
			}
		}
		switch {
		case is.independent():
			ok = tenant == placeholder
		case is.segment == "consumers":
			ok = tenant == consumersTenant
		case isGUID(is.segment):
			ok = strings.EqualFold(tenant, is.segment)
		default: // a verified domain name; the document tells the tenant's id
			ok = isGUID(tenant)
		}
		if ok {
			return tenant, nil
		}
	}
	return "", fmt.Errorf("%s names the issuer %s, which is not the configured one", is.discovery, show(named))
}

// load fetches the discovery document and the keys that it names.
func (is *issuer) load(ctx context.Context) (*keySet, *Error) {
	failed := func(err error) *Error {
		e := refusal(stageDiscovery, reason.DiscoveryFailed, "the issuer's discovery document or keys cannot be fetched from "+is.base.String())
		e.Err = err
		return e
	}
	invalid := func(err error) *Error {
		e := refusal(stageDiscovery, reason.DiscoveryInvalid, "the discovery document or keys of "+is.base.String()+" are not acceptable")
		e.Err = err
		return e
	}
	text, err := fetch(ctx, is.client, is.discovery)
	if err != nil {
		return nil, failed(err)
	}
	members, err := scanObject(text)
	if err != nil {
		return nil, invalid(fmt.Errorf("%s: %w", is.discovery, err))
	}
	var named, keysAt string
	for _, m := range members {
		switch m.name {
		case "issuer":
			named, _ = jsonString(m.value)
		case "jwks_uri":
			keysAt, _ = jsonString(m.value)
		}
	}
	tenant, err := is.tenantOf(named)
	if err != nil {
		return nil, invalid(err)
	}
	u, err := secureURL(keysAt, is.plain)
	if err != nil {
		return nil, invalid(fmt.Errorf("%s: jwks_uri %s %w", is.discovery, show(keysAt), err))
	}
	if u.Scheme != is.base.Scheme || !slices.Contains(is.hosts, u.Host) {
		return nil, invalid(fmt.Errorf("%s: jwks_uri %s is on another host", is.discovery, show(keysAt)))
	}
	if text, err = fetch(ctx, is.client, u.String()); err != nil {
		return nil, failed(err)
	}
	keys, err := parseKeys(text)
	if err != nil {
		return nil, invalid(fmt.Errorf("%s: %w", u, err))
	}
	return &keySet{issuer: is, template: named, tenant: tenant, keys: keys, fetched: is.now()}, nil
}

// current returns keys that are fresh enough to judge by. It fetches them if
// there are none, waits for new ones if they are old, and lets new ones come in
// the background if they begin to age. While the issuer cannot be reached, the
// last known good keys serve until they are maxAge old.
func (is *issuer) current(ctx context.Context) (*keySet, *Error) {
	set := is.set.Load()
	age := time.Duration(0)
	if set != nil {
		if age = elapsed(is.now(), set.fetched); age < is.timing.refresh {
			return set, nil
		}
	}
	f, lastErr := is.start(false)
	usable := set != nil && age < is.timing.maxAge
	if usable && (f == nil || age < 2*is.timing.refresh) {
		return set, nil
	}
	err := lastErr
	if f != nil {
		err = f.wait(ctx)
	}
	switch {
	case err == nil:
		return is.set.Load(), nil
	case usable:
		return set, nil
	}
	return nil, err
}

// fresh reports whether the keys are young enough to leave them alone.
func (is *issuer) fresh(now time.Time) bool {
	set := is.set.Load()
	return set != nil && elapsed(now, set.fetched) < is.timing.refresh
}

// newer is asked for an unknown key id. It returns keys that were fetched after
// set, or set itself if the limit of such fetches forbids another look.
func (is *issuer) newer(ctx context.Context, set *keySet) *keySet {
	if f, _ := is.start(true); f != nil {
		f.wait(ctx)
	}
	if now := is.set.Load(); now != nil {
		return now
	}
	return set
}

// start begins a fetch or joins the one under way. It returns nil and the last
// failure if neither may be: after a failure the next try waits 1 s, doubling
// to 1 min; on demand there is one try per interval, whatever its outcome.
func (is *issuer) start(onDemand bool) (*flight, *Error) {
	is.mu.Lock()
	defer is.mu.Unlock()
	if is.flight != nil {
		return is.flight, nil
	}
	now := is.now()
	if onDemand {
		if !is.demanded.IsZero() && elapsed(now, is.demanded) < is.timing.demand {
			return nil, is.lastErr
		}
		is.demanded = now
	} else if is.failures > 0 && elapsed(now, is.failed) < backOff(is.failures) {
		return nil, is.lastErr
	}
	if is.ctx.Err() != nil {
		return nil, refusal(stageDiscovery, reason.DiscoveryFailed, "the guard is closed")
	}
	f := &flight{done: make(chan struct{})}
	is.flight = f
	is.flights.Go(func() { is.fly(f) })
	return f, nil
}

// fly performs a fetch. It runs apart from the request that caused it, so that
// one caller hanging up does not cost the others their answer.
func (is *issuer) fly(f *flight) {
	set, err := is.load(is.ctx)
	if err == nil {
		set.replace(is.set.Load())
		is.set.Store(set)
	}
	is.mu.Lock()
	defer is.mu.Unlock()
	if is.flight, is.lastErr = nil, err; err == nil {
		is.failures = 0
	} else {
		is.failures++
		is.failed = is.now()
	}
	f.err = err
	close(f.done)
}

// backOff is the pause after a number of failures in a row.
func backOff(failures int) time.Duration {
	return min(time.Second<<min(failures-1, 6), time.Minute)
}

// elapsed is the time between two moments. A clock that was set back, which only
// a clock without a monotonic reading shows, must not stop fetches until it has
// caught up: the distance counts, not the direction.
func elapsed(now, then time.Time) time.Duration { return now.Sub(then).Abs() }

// wait returns the outcome of a fetch, or a refusal if ctx ends first.
func (f *flight) wait(ctx context.Context) *Error {
	select {
	case <-f.done:
		return f.err
	case <-ctx.Done():
		e := refusal(stageDiscovery, reason.DiscoveryFailed, "the request ended while the issuer's keys were fetched")
		e.Err = ctx.Err()
		return e
	}
}
