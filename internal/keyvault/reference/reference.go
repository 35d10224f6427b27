// Package reference reads the Key Vault secrets that event handlers' URLs refer to, for event delivery that asks with
// every event.
//
// The developer of a handler writes {@Microsoft.KeyVault(SecretUri=…)} into its URL; the service reads the secret as
// the instance's managed identity, from an embedded vault in process or from a real one with Azure's own client, and
// nobody ever sees it. A value is remembered per identity and secret, in memory only, and wiped when it is not needed
// any more. It is read again every half hour, at once when hub settings, the identity or an embedded secret change,
// and always by one reading at a time, however many hubs refer to it.
//
// When reading fails the last good value serves on, without an end, as long as the failure is one that passes (the
// vault is away or throttles). If the vault says no (denied, deleted, disabled), somebody probably meant it: the value
// survives one such answer and not the second. What was never read fails closed with a reason code; the literal
// reference is never sent.
//
// A token goes only to vaults of the embedded service and of the domains in [Options], and only for the resource that
// is configured there, whatever a vault's challenge asks for. Nothing here logs or returns a value but
// [Resolver.Secret]. [Resolver.Close] ends the background work and wipes everything.
package reference

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"log/slog"
	"maps"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"tabard/guard/reason"
	"tabard/internal/identity"
	"tabard/internal/keyvault"
	"tabard/internal/settings"
)

// MaxEntries bounds the pairs of identity and secret that are held; at the bound further ones fail.
const MaxEntries = 10_000

// maxSpellings bounds the remembered spellings of identifiers; at the bound they are all forgotten, which costs one
// parse each.
const maxSpellings = 4 * MaxEntries

// Options of [NewResolver]. Settings, Identity and Transport are required.
type Options struct {
	// Vaults are the embedded ones; nil: there are none.
	Vaults *keyvault.Vaults
	// Locate tells which embedded vault has exactly this host ("v1.kv.example.com:8081", in lower case, without the
	// port if that is 443). The vault need not exist. nil: none has.
	Locate func(host string) (vault string, ok bool)
	// Settings is the present configuration, whose hubs say what is referred to.
	Settings func() *settings.Snapshot
	// Identity obtains a token for resource as the instance's managed identity.
	Identity func(ctx context.Context, in *settings.Instance, resource string) (*identity.Token, error)
	// NoIdentity is wrapped by an error of Identity to say that the identity does not exist (any more).
	NoIdentity error
	// Domains are further ones whose vaults may be read, besides Azure's.
	Domains []Domain
	// OtherTenants lets vaults be read that belong to another tenant than the instance's identity.
	OtherTenants bool
	// Transport is the way out to vaults that are not embedded.
	Transport http.RoundTripper
	// Log receives failures and changes, with the secret's URI and version, never with a value. nil discards.
	Log *slog.Logger

	// Observe hears of each reading of a vault: whether it is embedded, what went wrong ("" for nothing), how long it
	// took. nil: nobody does.
	Observe func(embedded bool, why reason.Code, took time.Duration)

	// Refresh is the time between readings, spread by a tenth. 0 means 30 minutes (as in Azure SignalR).
	Refresh time.Duration
	// RetryMin and RetryMax bound the pause after a failure, which doubles. 0 means 1 s and 60 s. After a vault said
	// no it is RetryMax at once, for a value that still serves.
	RetryMin, RetryMax time.Duration
	// Timeout bounds one reading. 0 means 10 s.
	Timeout time.Duration
	// Parallel is how many readings the background does at once; those that an event waits for do not count. 0 means 8.
	Parallel int
}

// A Domain is a DNS domain whose vaults are trusted with a token.
type Domain struct {
	// Suffix is what follows a vault's name and a dot ("vault.azure.net"), with its port unless that is 443.
	Suffix string
	// Resource is what the token is for ("https://vault.azure.net"). Nothing else is ever asked for.
	Resource string
}

// Azure lists the domains of Azure's clouds.
func Azure() []Domain {
	return []Domain{
		{"vault.azure.net", "https://vault.azure.net"},
		{"vault.azure.cn", "https://vault.azure.cn"},
		{"vault.usgovcloudapi.net", "https://vault.usgovcloudapi.net"},
	}
}

// A Resolver reads and remembers secrets. It is safe for concurrent use.
type Resolver struct {
	opt Options
	log *slog.Logger

	// spelled finds entries by identifiers as they are written. It is replaced, never mutated.
	spelled atomic.Pointer[map[spelling]*entry]

	// Order of locks: mu, an entry's, life.
	mu      sync.Mutex // guards the next three
	entries map[key]*entry
	paused  map[string]time.Time // hosts that asked to be left alone, until when
	closed  bool

	life sync.Mutex // orders the start of a reading before Close's wait; guards over
	over bool

	kick  chan struct{} // wakes the background; capacity 1
	slots chan struct{} // of background readings

	ctx    context.Context // of readings; ended by Close
	cancel context.CancelFunc
	wg     sync.WaitGroup
}

// A spelling is an identifier as written, and who asks. It is made anew with every event, so it costs nothing to make.
type spelling struct {
	identity settings.Identity
	source   *settings.IdentitySource // of the present settings
	uri      string
}

func spelled(in *settings.Instance, uri string) spelling {
	return spelling{in.Identity, in.Source(), uri}
}

type key struct {
	who who
	uri settings.SecretURI
}

// A who is an identity that reads secrets. Those with the same fields share what they read.
type who struct {
	identity settings.Identity
	// source is a digest of where the tokens come from, if that is not the embedded issuer, and whose they are.
	source [sha256.Size]byte
}

// whose returns the identity of an instance; ok is false if it has none.
func whose(in *settings.Instance) (w who, ok bool) {
	w.identity = in.Identity
	source := in.Source()
	if source == nil {
		return w, in.Identity.Type != settings.IdentityNone && in.Identity.Type != ""
	}
	text, err := json.Marshal(source)
	if err != nil { // strings alone
		return w, false
	}
	w.source = sha256.Sum256(append([]byte(strings.ToLower(in.Name)+"\n"), text...))
	return w, true
}

// NewResolver makes a Resolver. The caller calls [Resolver.Changed] when the settings change, [Resolver.Begin] once
// vaults can be found, and closes it.
func NewResolver(opt Options) *Resolver {
	if opt.Log == nil {
		opt.Log = slog.New(slog.DiscardHandler)
	}
	if opt.Locate == nil || opt.Vaults == nil {
		opt.Locate = func(string) (string, bool) { return "", false }
	}
	def(&opt.Refresh, 30*time.Minute)
	def(&opt.RetryMin, time.Second)
	def(&opt.RetryMax, time.Minute)
	def(&opt.Timeout, 10*time.Second)
	if opt.Parallel <= 0 {
		opt.Parallel = 8
	}
	opt.Domains = append(Azure(), opt.Domains...)
	r := &Resolver{
		opt: opt, log: opt.Log.With("component", "keyvault-reference"), entries: map[key]*entry{}, paused: map[string]time.Time{},
		kick: make(chan struct{}, 1), slots: make(chan struct{}, opt.Parallel),
	}
	r.spelled.Store(&map[spelling]*entry{})
	r.ctx, r.cancel = context.WithCancel(context.Background()) // lives until Close
	if opt.Vaults != nil {
		opt.Vaults.OnChange(r.vaultChanged)
	}
	return r
}

// Begin reads what the settings refer to and starts the background work that keeps it fresh. It is called once, when the
// addresses of the embedded vaults are known.
func (r *Resolver) Begin() {
	r.Changed(nil, r.opt.Settings())
	r.life.Lock()
	defer r.life.Unlock()
	if !r.over {
		r.wg.Go(r.run)
	}
}

func def(v *time.Duration, d time.Duration) {
	if *v <= 0 {
		*v = d
	}
}

// Close ends all readings, waits for them and wipes what is held. Secret fails afterwards.
func (r *Resolver) Close() {
	r.mu.Lock()
	r.closed = true
	r.mu.Unlock()
	r.life.Lock()
	r.over = true
	r.life.Unlock()
	r.cancel()
	r.wg.Wait()
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, e := range r.entries {
		e.evict()
	}
	clear(r.entries)
	r.spelled.Store(&map[spelling]*entry{})
}

// Secret returns the value of a secret as the instance's identity may read it. A value that is remembered costs a
// lookup and a copy. Otherwise the call waits, within ctx, for the one reading under way. The error is an [*Error].
func (r *Resolver) Secret(ctx context.Context, in *settings.Instance, uri string) (string, error) {
	if e := (*r.spelled.Load())[spelled(in, uri)]; e != nil {
		if v := e.held.Load(); v != nil {
			if text, ok := v.text(); ok {
				return text, nil
			}
		}
	}
	return r.slow(ctx, in, uri)
}

func (r *Resolver) slow(ctx context.Context, in *settings.Instance, text string) (string, error) {
	uri, err := settings.ParseSecretURI(text)
	if err != nil {
		return "", &Error{Code: reason.TemplateInvalid, Secret: text, Message: "the identifier " + err.Error()}
	}
	by, ok := whose(in)
	if !ok {
		return "", r.noIdentity(uri)
	}
	for {
		e, failed := r.find(in, key{by, uri}, text)
		if failed != nil {
			return "", failed
		}
		value, again, err := e.wait(ctx, r)
		if !again {
			if err != nil {
				return "", err
			}
			return value, nil
		}
	}
}

func (r *Resolver) noIdentity(uri settings.SecretURI) *Error {
	return &Error{Code: reason.IdentityMissing, Secret: uri.String(), Message: "the instance has no managed identity to read the secret with"}
}

// find returns the entry of a secret, made if it is missing, and notes how it is spelled.
func (r *Resolver) find(in *settings.Instance, k key, text string) (*entry, *Error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed {
		return nil, &Error{Code: reason.SecretUnavailable, Secret: k.uri.String(), Message: "the service is stopping"}
	}
	e, ok := r.entries[k]
	if !ok {
		if len(r.entries) >= MaxEntries {
			return nil, &Error{Code: reason.SecretUnavailable, Secret: k.uri.String(), Message: "as many secrets are referred to as can be held"}
		}
		e = newEntry(in, k.uri)
		e.expires = time.Now().Add(unreferenced) // unless a hub refers to it
		r.entries[k] = e
	}
	if old := *r.spelled.Load(); old[spelled(in, text)] != e {
		next := make(map[spelling]*entry, len(old)+1)
		if len(old) < maxSpellings {
			maps.Copy(next, old)
		}
		next[spelled(in, text)] = e
		r.spelled.Store(&next)
	}
	return e, nil
}

// unreferenced is how long a secret is held that no hub refers to, such as one of a handler that is being tried out.
const unreferenced = 10 * time.Minute

// Changed takes note of new settings: what is referred to no more is wiped, what is new is read, and what the hubs that
// changed refer to is read again. old is nil at the start.
func (r *Resolver) Changed(old, now *settings.Snapshot) {
	wanted := map[key]*want{}
	for name, in := range now.Instances() {
		var was *settings.Instance
		if old != nil {
			was, _ = old.Instance(name)
		}
		by, ok := whose(in)
		if !ok {
			continue
		}
		changed := was == nil
		if was != nil && was != in {
			before, _ := whose(was)
			changed = before != by
		}
		references(in, func(hub *settings.Hub, uri settings.SecretURI) {
			k := key{by, uri}
			w := wanted[k]
			if w == nil {
				w = &want{in: in, hubs: []HubName{}}
				wanted[k] = w
			}
			w.anew = w.anew || changed
			if hub == nil {
				return
			}
			w.hubs = append(w.hubs, HubName{in.Name, hub.Name})
			w.anew = w.anew || was != in && !sameHub(was.Hubs[hubKey(hub)], hub)
		})
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed {
		return
	}
	r.spelled.Store(&map[spelling]*entry{}) // they name sources of former settings; the next event finds its entry again
	for k, e := range r.entries {
		if w := wanted[k]; w != nil {
			e.refer(w)
		} else if e.refer(nil); e.expired(time.Now()) {
			r.drop(k, e)
		}
	}
	for k, w := range wanted {
		if _, ok := r.entries[k]; ok {
			continue
		}
		if len(r.entries) >= MaxEntries {
			r.log.Error("more secrets are referred to than can be held; the rest fails", "limit", MaxEntries)
			break
		}
		e := newEntry(w.in, k.uri)
		e.refer(w)
		r.entries[k] = e
	}
	r.wake()
}

// A want is why a secret is held.
type want struct {
	in   *settings.Instance
	hubs []HubName // that refer to it; none, but not nil, if only a custom certificate does
	anew bool      // it shall be read again
}

// A HubName is a hub of an instance.
type HubName struct {
	Instance string `json:"instance"`
	Hub      string `json:"hub"`
}

// references calls fn for each secret that an instance's hubs refer to, repeats included, and without a hub for those
// that are its custom certificates.
func references(in *settings.Instance, fn func(*settings.Hub, settings.SecretURI)) {
	for _, c := range in.CustomCertificates {
		if uri, err := settings.ParseSecretURI(c.SecretURI()); err == nil { // always, in settings that were checked
			fn(nil, uri)
		}
	}
	for _, hub := range in.SortedHubs() {
		for _, h := range hub.EventHandlers {
			for _, text := range h.Template().SecretURIs() {
				if uri, err := settings.ParseSecretURI(text); err == nil { // always, in a parsed template
					fn(hub, uri)
				}
			}
		}
	}
}

// drop forgets an entry. Called with mu held.
func (r *Resolver) drop(k key, e *entry) {
	delete(r.entries, k)
	old := *r.spelled.Load()
	next := make(map[spelling]*entry, len(old))
	for s, other := range old {
		if other != e {
			next[s] = other
		}
	}
	r.spelled.Store(&next)
	e.evict()
}

// Flush wipes all that was read with the instance's identity. What its hubs refer to is read again.
func (r *Resolver) Flush(in *settings.Instance) { r.of(in, (*entry).wipe) }

// IdentitiesChanged says that something about identities changed in the directory: what its identities read is read
// again before it is used again, so that a value does not outlive the identity that could read it.
func (r *Resolver) IdentitiesChanged() {
	r.each(func(k key, e *entry) {
		if k.who.source == (who{}).source {
			e.invalidate()
		}
	})
}

// RolesChanged says that role assignments changed, which may decide who reads embedded vaults.
func (r *Resolver) RolesChanged() {
	r.each(func(k key, e *entry) {
		if _, ok := r.opt.Locate(k.uri.Host); ok {
			e.invalidate()
		}
	})
}

// Refresh reads again what the instance's hubs refer to.
func (r *Resolver) Refresh(in *settings.Instance) { r.of(in, (*entry).invalidate) }

// of calls fn for what is read with the instance's identity.
func (r *Resolver) of(in *settings.Instance, fn func(*entry)) {
	by, _ := whose(in)
	r.each(func(k key, e *entry) {
		if k.who == by {
			fn(e)
		}
	})
}

// Rejected says that a handler answered 401 or 403 to a URL with these secrets: one of them may have been changed just
// now. They are read again, at most once a minute.
func (r *Resolver) Rejected(in *settings.Instance, uris []string) {
	again := false
	for _, text := range uris {
		if e := (*r.spelled.Load())[spelled(in, text)]; e != nil && e.rejected(time.Now()) {
			again = true
		}
	}
	if again {
		r.wake()
	}
}

// vaultChanged hears of a change of an embedded vault (name is empty) or secret, before the write that caused it
// returns: from then on no event gets the value of before, unless the vault cannot be asked.
func (r *Resolver) vaultChanged(vault, name string) {
	r.each(func(k key, e *entry) {
		if name != "" && name != k.uri.Name {
			return
		}
		if at, ok := r.opt.Locate(k.uri.Host); ok && at == vault {
			e.invalidate()
		}
	})
}

func (r *Resolver) each(fn func(key, *entry)) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for k, e := range r.entries {
		fn(k, e)
	}
	r.wake()
}

// wake has the background look for what is due.
func (r *Resolver) wake() {
	select {
	case r.kick <- struct{}{}:
	default:
	}
}

// A Status is how it stands with a secret that hubs refer to.
type Status struct {
	Secret   string    `json:"secretUri"` // without trailing slash and usual port
	Hubs     []HubName `json:"hubs"`      // that refer to it with this identity
	Source   string    `json:"source"`    // embedded or azure
	Resolved bool      `json:"resolved"`  // there is a value
	Version  string    `json:"version,omitempty"`
	// Since is when that value was read for the first time and Read when it was last confirmed.
	Since time.Time `json:"since,omitzero"`
	Read  time.Time `json:"lastRead,omitzero"`
	Next  time.Time `json:"nextRead,omitzero"`
	// Code and Problem say why the latest reading failed; empty if it did not. With Resolved the last good value serves.
	Code    reason.Code `json:"code,omitempty"`
	Problem string      `json:"problem,omitempty"`
}

// Statuses lists the secrets that an instance's hubs refer to, by URI.
func (r *Resolver) Statuses(in *settings.Instance) []Status {
	r.mu.Lock()
	defer r.mu.Unlock()
	var list []Status
	by, _ := whose(in)
	for k, e := range r.entries {
		if k.who != by {
			continue
		}
		s := e.status()
		s.Hubs = slices.DeleteFunc(s.Hubs, func(h HubName) bool { return h.Instance != in.Name })
		if len(s.Hubs) == 0 {
			continue
		}
		s.Source = "azure"
		if _, ok := r.opt.Locate(k.uri.Host); ok {
			s.Source = "embedded"
		}
		list = append(list, s)
	}
	slices.SortFunc(list, func(a, b Status) int { return strings.Compare(a.Secret, b.Secret) })
	return list
}

// An Error says why a secret cannot be had. It holds no value and no token.
type Error struct {
	Code    reason.Code
	Secret  string // the identifier
	Status  int    // that a vault answered, 0 if none did
	Message string // what exactly
	Err     error  // the cause; may be nil

	kind  failure
	retry time.Duration // that the vault asked for
	oid   string        // who asked
}

func (e *Error) Error() string { return "secret " + e.Secret + ": " + e.Message }

func (e *Error) Unwrap() error { return e.Err }

// Reason is Code, for callers that do not know this type.
func (e *Error) Reason() reason.Code { return e.Code }

// A failure says what becomes of a value that was read before.
type failure uint8

const (
	passing failure = iota // it serves on
	refusal                // it survives one of these
	final                  // it is gone
)

var errClosed = errors.New("the resolver is closed")
