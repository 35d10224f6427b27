package keyvault

import (
	"context"
	"log/slog"
	"strings"
	"time"
)

// A Secret is one version of a secret with its value. It prints and logs without it.
type Secret struct {
	Name, Version string
	Value         []byte // the caller's own; may be wiped
	// NotBefore and Expires are what somebody noted about the secret; they forbid nothing. Zero: nothing was noted.
	NotBefore, Expires time.Time
}

// String is the secret's name and version.
func (s *Secret) String() string { return s.Name + "/" + s.Version }

// GoString is String, so that no way of formatting shows the value.
func (s *Secret) GoString() string { return s.String() }

// LogValue logs String.
func (s *Secret) LogValue() slog.Value { return slog.StringValue(s.String()) }

// Read reads a secret in process as whoever the token speaks for, who needs what a client over HTTP needs. version
// empty means the newest. Errors are *Error, as the API answers them.
func (v *Vaults) Read(ctx context.Context, token, vault, name, version string) (secret *Secret, err error) {
	key, name, version := strings.ToLower(vault), strings.ToLower(name), strings.ToLower(version)
	var caller *Caller
	defer func() {
		status := 200
		if err != nil {
			status = unavailable(err).Status
		}
		v.counts.add("get", status, true)
		attrs := []slog.Attr{slog.String("op", "get"), slog.Int("status", status), slog.String("address", "in process"),
			slog.String("vault", key), slog.String("secret", name), slog.String("version", version)}
		v.log.LogAttrs(ctx, slog.LevelInfo, "vault call", append(attrs, auditCaller(caller, err)...)...)
	}()
	if caller, err = v.Identify(ctx, token, ""); err != nil {
		return nil, err
	}
	found, ok := v.Vault(key)
	if !ok {
		return nil, vaultNotFound()
	}
	if err := v.permit(found, caller, permitGet, name); err != nil {
		return nil, err
	}
	s, w, err := v.get(key, name, version)
	if err != nil {
		return nil, err
	}
	if s.Disabled {
		return nil, secretDisabled()
	}
	value, err := v.open(&w, key, name, s)
	if err != nil {
		return nil, err
	}
	version = s.ID
	secret = &Secret{Name: s.Name, Version: s.ID, Value: value}
	if s.NotBefore != nil {
		secret.NotBefore = time.Unix(*s.NotBefore, 0)
	}
	if s.Expires != nil {
		secret.Expires = time.Unix(*s.Expires, 0)
	}
	return secret, nil
}

// run looks for what has to be purged, at once and then every hour.
func (v *Vaults) run(life context.Context) {
	tick := time.NewTicker(sweepEvery)
	defer tick.Stop()
	for {
		if err := v.sweep(life); err != nil && life.Err() == nil {
			v.log.Warn("not everything could be purged whose time is over; it is hidden and tried again", "error", err)
		}
		select {
		case <-tick.C:
		case <-life.Done():
			return
		}
	}
}
