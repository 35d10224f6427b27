// Package keyvault is the embedded Key Vault: secrets for those who have no Azure, behind the same REST API, the same
// challenge and the same access rules, so that unmodified clients (azsecrets, @azure/keyvault-secrets) work.
//
// A caller proves who it is with an access token for the vault resource; what it may do is decided by the vault's
// access policies (object id and tenant of the token → permissions) or, in RBAC mode, by role assignments. The service
// itself, when it needs a secret for an event handler's URL, comes the same way in process ([Vaults.Read]): there is
// no side door. Several vaults live here, each with a host of its own; which request is for which vault, and what a
// token is worth, the caller of [Open] decides.
//
// Values are sealed under a data key of their vault, bound to vault, name and version, on the disk and in memory; they
// are opened when somebody may read them. That data key is wrapped by the store, whose key is sealed under the master
// key: a new master key touches nothing here. Names of vaults and secrets and ids of versions are keys of documents
// and lie readable in the data directory (base64); everything else of a secret, its tags included, is sealed.
//
// Every change is one write, or becomes visible with its last one: setting a secret creates one document, deleting
// one creates a mark beside it. What a crash leaves half done (a purge, a restore) is hidden and undone by the next
// start. Facts about the API: Microsoft's key-vault data-plane specification, 7.0 to 2026-04-01.
package keyvault

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"sync"
	"time"

	"tabard/guard"
	"tabard/internal/store"
	"tabard/internal/throttle"
)

// Resource is what tokens for key vaults are asked for, without a slash at its end.
const Resource = "https://vault.azure.net"

// DefaultVault is the vault that exists from the first start, on the bare host.
const DefaultVault = "default"

// Limits. At each of them the answer is a 400 or 413 that names it, and nothing is changed.
const (
	MaxValue          = 25_600    // bytes of a secret's value (Azure's)
	MaxVaults         = 256       // of the installation, deleted ones included
	MaxVersions       = 100_000   // of all secrets together
	maxContentType    = 255       // characters
	maxTags           = 15        // of a secret
	maxTag            = 256       // characters of a tag's key or value
	maxPage           = 25        // items of a list
	maxBody           = 64 << 10  // bytes of a request's body
	maxRestore        = 16 << 20  // bytes of a restore's body
	maxBackup         = 8 << 20   // bytes of all values in a backup
	maxBackupVersions = 500       // in a backup (Azure's)
	maxURL            = 8 << 10   // bytes of path and query
	sweepEvery        = time.Hour // between looks for what has to be purged
)

// Options of [Open]. Verify, Authority, TenantID and Origin are required.
type Options struct {
	// Verify judges an access token for the vault resource. Its errors are *guard.Error.
	Verify func(ctx context.Context, token string) (*guard.Claims, error)
	// Admin lets a request in as the service's administrator, who may do everything but purge what is protected. nil:
	// nobody is.
	Admin func(*http.Request) bool
	// Stands tells whether a principal, whose token may outlive it, is still there and enabled. nil: every one is.
	Stands func(tenantID, objectID string) bool
	// Authorize tells whether a role allows the principal a data action at a scope, in vaults with RBAC. nil: none does.
	Authorize func(tenantID, objectID, scope, action string) bool
	// Authority is the origin of the token issuer, named in challenges ("https://127.0.0.1:8080").
	Authority func() string
	// TenantID is the tenant of the vaults, a GUID.
	TenantID string
	// Origin is the public origin of a vault ("https://v1.kv.example.com"), of which ids of secrets are made.
	Origin func(vault string) string
	// SubscriptionID is where the default vault is created.
	SubscriptionID string
	// FailuresPerAddress is how many bad tokens from one address within ten seconds are answered with 401; further
	// ones get 429. 0 means 100.
	FailuresPerAddress int
	// Log receives one line per call of the data plane (the audit), never a value or a token. nil discards.
	Log *slog.Logger
	// Now is the clock. nil means time.Now.
	Now func() time.Time
}

// Vaults are all vaults of the installation. It is safe for concurrent use.
type Vaults struct {
	opt       Options
	log       *slog.Logger
	now       func() time.Time
	store     *store.Store
	documents *store.Collection[document]
	index     index
	failures  *throttle.Limiter // bad tokens, by address
	counts    counts
	backupKey *store.DataKey

	maxVaults, maxVersions int // MaxVaults and MaxVersions, but in tests

	// turn holds a token while a write looks and then writes: what it looks at spans documents.
	turn chan struct{}

	mu        sync.Mutex // guards listeners
	listeners []func(vault, name string)

	stop context.CancelFunc
	done sync.WaitGroup
}

// Open loads the vaults, creates the default one on the first start, and looks every hour for what has to be purged,
// until [Vaults.Close].
func Open(ctx context.Context, s *store.Store, opt Options) (*Vaults, error) {
	c, err := store.OpenCollection[document](ctx, s, "vaults", store.Schema{Version: 1})
	if err != nil {
		return nil, fmt.Errorf("keyvault: %w", err)
	}
	if opt.Log == nil {
		opt.Log = slog.New(slog.DiscardHandler)
	}
	if opt.Now == nil {
		opt.Now = time.Now
	}
	if opt.FailuresPerAddress == 0 {
		opt.FailuresPerAddress = 100
	}
	v := &Vaults{opt: opt, log: opt.Log.With("component", "keyvault"), now: opt.Now, store: s, documents: c, turn: make(chan struct{}, 1)}
	v.failures = throttle.New(opt.FailuresPerAddress, failureWindow/time.Duration(opt.FailuresPerAddress))
	v.maxVaults, v.maxVersions = MaxVaults, MaxVersions
	v.index.open = func(name string, wrapped []byte) (*store.DataKey, error) { return s.OpenDataKey(wrapped, keyUse(name)) }
	v.index.vaults = map[string]*vaultState{}
	c.OnChange(v.changed)
	for key := range c.All() {
		if err := v.index.apply(key, c); err != nil {
			return nil, fmt.Errorf("keyvault: %w", err)
		}
	}
	if err := v.openBackupKey(ctx); err != nil {
		return nil, fmt.Errorf("keyvault: %w", err)
	}
	if len(v.index.vaults) == 0 {
		_, _, err := v.PutVault(ctx, Vault{Name: DefaultVault, SubscriptionID: opt.SubscriptionID, ResourceGroup: "default", Location: "local"})
		if err != nil {
			return nil, fmt.Errorf("keyvault: create the default vault: %w", err)
		}
	}
	vaults, versions := v.index.extent()
	v.log.Info("vaults opened", "vaults", vaults, "versions", versions, "lastChange", v.index.lastChange())
	life, stop := context.WithCancel(context.Background()) // lives until Close
	v.stop = stop
	v.done.Go(func() { v.run(life) })
	return v, nil
}

// Close ends the background work and waits for it. It comes before the store's.
func (v *Vaults) Close() {
	v.stop()
	v.done.Wait()
}

// OnChange has fn called after anything of a vault (name is empty) or of one of its secrets changed, here or in another
// process, and before the write that caused it returns. Names are lower case. fn must be quick and must not write.
func (v *Vaults) OnChange(fn func(vault, name string)) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.listeners = append(v.listeners, fn)
}

func (v *Vaults) changed(keys []string) {
	for _, key := range keys {
		if err := v.index.apply(key, v.documents); err != nil {
			v.log.Error("a vault's key does not open; its secrets cannot be read", "document", key, "error", err)
		}
	}
	v.mu.Lock()
	listeners := v.listeners
	v.mu.Unlock()
	for _, key := range keys {
		_, vault, name, _ := splitKey(key)
		for _, fn := range listeners {
			fn(vault, name)
		}
	}
}

// write runs fn while no other write of this process is between its look and its writes. A write outlives the caller's
// connection: what was begun is finished.
func (v *Vaults) write(ctx context.Context, fn func(context.Context) error) error {
	select {
	case v.turn <- struct{}{}:
	case <-ctx.Done():
		return unavailable(fmt.Errorf("waiting for other writes: %w", ctx.Err()))
	}
	defer func() { <-v.turn }()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), writeTimeout)
	defer cancel()
	err := fn(ctx)
	if _, known := errors.AsType[*Error](err); err == nil || known {
		return err
	}
	if errors.Is(err, store.ErrConflict) || errors.Is(err, store.ErrExists) {
		return conflict("ObjectIsBeingChanged", "Somebody else changed the same object at the same time; try again.")
	}
	return unavailable(err)
}

const (
	writeTimeout  = 15 * time.Second
	failureWindow = 10 * time.Second // in which an address may send as many bad tokens as it may
)
