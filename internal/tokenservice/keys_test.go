package tokenservice

import (
	"bytes"
	"context"
	"crypto/rsa"
	"crypto/sha1"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"errors"
	"io/fs"
	"maps"
	"math/big"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

func states(s *Service) (all []KeyState) {
	for _, k := range s.Keys() {
		all = append(all, k.State)
	}
	return all
}

func wantStates(t testing.TB, s *Service, want ...KeyState) {
	t.Helper()
	if got := states(s); !slices.Equal(got, want) {
		t.Fatalf("keys are %v, want %v", got, want)
	}
}

// eventually polls until cond holds.
func eventually(t testing.TB, what string, cond func() bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for !cond() {
		select {
		case <-ctx.Done():
			t.Fatalf("did not happen in time: %s", what)
		case <-tick.C:
		}
	}
}

func TestTheKeySetHasTheShapeOfThePlatformAndNothingPrivate(t *testing.T) {
	h := start(t)
	for target, extra := range map[string][]string{
		"/common/discovery/keys":                                      nil,
		"/" + testTenant + "/discovery/keys":                          nil,
		"/common/discovery/v2.0/keys":                                 {"issuer"},
		"/organizations/discovery/v2.0/keys":                          {"issuer"},
		"/" + testTenant + "/discovery/v2.0/keys?appid=" + testTenant: {"issuer"},
	} {
		w := h.do("GET", target, nil)
		var set map[string][]map[string]any
		if err := json.Unmarshal(w.Body.Bytes(), &set); err != nil || w.Code != 200 {
			t.Fatalf("%s: %d %v", target, w.Code, err)
		}
		if len(set) != 1 || len(set["keys"]) != 2 {
			t.Fatalf("%s: %v, want two keys and nothing else", target, set)
		}
		for i, k := range set["keys"] {
			want := append([]string{"e", "kid", "kty", "n", "use", "x5c", "x5t"}, extra...)
			slices.Sort(want)
			if got := slices.Sorted(maps.Keys(k)); !slices.Equal(got, want) {
				t.Errorf("%s: members %v, want %v", target, got, want)
			}
			if k["kty"] != "RSA" || k["use"] != "sig" || k["e"] != "AQAB" || k["kid"] != k["x5t"] {
				t.Errorf("%s: %v", target, k)
			}
			if extra != nil && k["issuer"] != testAuthority+"/{tenantid}/v2.0" {
				t.Errorf("%s: issuer %v", target, k["issuer"])
			}
			chain := k["x5c"].([]any)
			der, err := base64.StdEncoding.DecodeString(chain[0].(string))
			if err != nil || len(chain) != 1 {
				t.Fatalf("%s: x5c %v: %v", target, chain, err)
			}
			thumbprint := sha1.Sum(der)
			if got := base64.RawURLEncoding.EncodeToString(thumbprint[:]); got != k["kid"] {
				t.Errorf("%s: thumbprint %s, kid %v", target, got, k["kid"])
			}
			certificate, err := x509.ParseCertificate(der)
			if err != nil {
				t.Fatal(err)
			}
			public := certificate.PublicKey.(*rsa.PublicKey)
			modulus, err := base64.RawURLEncoding.DecodeString(k["n"].(string))
			if err != nil || public.N.Cmp(new(big.Int).SetBytes(modulus)) != 0 || public.N.BitLen() != 2048 {
				t.Errorf("%s: n is not the certificate's 2048 bit modulus", target)
			}
			if err := certificate.CheckSignature(certificate.SignatureAlgorithm, certificate.RawTBSCertificate, certificate.Signature); err != nil {
				t.Errorf("%s: not self-signed: %v", target, err)
			}
			if years := certificate.NotAfter.Sub(h.clock.Now()).Hours() / 24 / 365; certificate.Subject.CommonName != "accounts.accesscontrol.windows.net" || years < 4.9 || years > 5.1 {
				t.Errorf("%s: subject %v, valid for %.2f years", target, certificate.Subject, years)
			}
			if k["kid"] != h.Keys()[i].ID {
				t.Errorf("%s: key %d is %v, want %s", target, i, k["kid"], h.Keys()[i].ID)
			}
		}
	}
}

func TestAFirstStartMakesKeysOfItsOwn(t *testing.T) {
	h := open(t, t.TempDir(), func(o *Options) { o.generate = nil })
	keys := h.keys.Load().public
	if len(keys) != 2 || keys[0].N == keys[1].N {
		t.Fatalf("%d keys, want two different ones", len(keys))
	}
	h.mint(t, h.system(t), "https://vault.azure.net")
}

func TestARestartKeepsTheKeys(t *testing.T) {
	dir := t.TempDir()
	h := open(t, dir, nil)
	if err := h.RotateKeys(t.Context()); err != nil {
		t.Fatal(err)
	}
	before, set := h.Keys(), h.do("GET", "/common/discovery/v2.0/keys", nil).Body.String()
	h.stop()
	h = open(t, dir, nil)
	if got := h.Keys(); !reflect.DeepEqual(got, before) {
		t.Errorf("keys were %+v, are %+v", before, got)
	}
	if got := h.do("GET", "/common/discovery/v2.0/keys", nil).Body.String(); got != set {
		t.Errorf("key set was %s, is %s", set, got)
	}
	h.mint(t, h.system(t), "https://vault.azure.net")
}

func TestPrivateKeysAreSealedOnDisk(t *testing.T) {
	dir := t.TempDir()
	h := open(t, dir, nil)
	var needles [][]byte
	for _, k := range h.keys.Load().ring.Keys {
		needles = append(needles, k.PrivateKey[40:100], []byte(base64.StdEncoding.EncodeToString(k.PrivateKey)[:60]))
	}
	h.stop()
	files := 0
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		files++
		content, err := os.ReadFile(path)
		for _, needle := range needles {
			if bytes.Contains(content, needle) {
				t.Errorf("%s holds a private key", path)
			}
		}
		return err
	})
	if err != nil || files == 0 {
		t.Fatal(files, err)
	}
}

func TestRotationWithOverlap(t *testing.T) {
	h := start(t)
	client := h.serve(t)
	p := h.system(t)
	r := receiver{client, h.origin.Load().(string) + "/common/.well-known/openid-configuration"}
	verifies := func(raw string) bool { _, _, err := r.verify(t.Context(), raw); return err == nil }
	wantStates(t, h.Service, KeyActive, KeyNext)

	before := h.Keys()
	old := h.mint(t, p, "https://vault.azure.net").Raw
	if err := h.RotateKeys(t.Context()); err != nil {
		t.Fatal(err)
	}
	wantStates(t, h.Service, KeyActive, KeyNext, KeyRetired)
	after := h.Keys()
	if after[0].ID != before[1].ID {
		t.Error("the new active key was not published before")
	}
	if after[2].ID != before[0].ID || !after[2].Until.Equal(h.clock.Now().Add(24*time.Hour+10*time.Minute)) {
		t.Errorf("the old one is %+v", after[2])
	}
	fresh := h.mint(t, p, "https://vault.azure.net").Raw
	if !verifies(old) || !verifies(fresh) {
		t.Fatal("a token from before or after the rotation is refused")
	}
	for _, k := range h.keys.Load().ring.Keys {
		if (k.PrivateKey == nil) != (k.State == KeyRetired) {
			t.Errorf("a key that is %s has a private key: %v", k.State, k.PrivateKey != nil)
		}
	}

	h.clock.advance(24*time.Hour + 10*time.Minute - time.Second)
	if !verifies(old) {
		t.Fatal("the retired key is gone before the last token that it signed has expired")
	}
	h.clock.advance(time.Second)
	wantStates(t, h.Service, KeyActive, KeyNext)
	if verifies(old) || !verifies(fresh) {
		t.Fatal("the retired key is published too long, or the active one not any more")
	}
	if n := len(h.keys.Load().ring.Keys); n != 3 {
		t.Fatalf("%d keys are stored, want 3 before maintenance", n)
	}
	if err := h.maintain(t.Context()); err != nil {
		t.Fatal(err)
	}
	if n := len(h.keys.Load().ring.Keys); n != 2 {
		t.Errorf("%d keys are stored, want 2 after maintenance", n)
	}
}

func TestRotationIsBounded(t *testing.T) {
	h := start(t)
	for i := range maxKeys - 2 {
		if err := h.RotateKeys(t.Context()); err != nil {
			t.Fatalf("rotation %d: %v", i, err)
		}
	}
	before := h.Keys()
	if err := h.RotateKeys(t.Context()); !errors.Is(err, ErrTooManyKeys) {
		t.Fatalf("got %v, want ErrTooManyKeys", err)
	}
	if !reflect.DeepEqual(h.Keys(), before) {
		t.Error("the refused rotation changed something")
	}
	h.clock.advance(25 * time.Hour)
	if err := h.RotateKeys(t.Context()); err != nil {
		t.Fatal(err)
	}
	wantStates(t, h.Service, KeyActive, KeyNext, KeyRetired)
}

func TestRotationOnSchedule(t *testing.T) {
	h := open(t, t.TempDir(), func(o *Options) { o.RotateEvery = 30 * 24 * time.Hour })
	active := func() string { return h.Keys()[0].ID }
	first := active()
	maintain := func(after time.Duration) {
		t.Helper()
		h.clock.advance(after)
		if err := h.maintain(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	maintain(30*24*time.Hour - time.Second)
	if active() != first {
		t.Fatal("rotated too early")
	}
	maintain(time.Second)
	second := active()
	if second == first {
		t.Fatal("not rotated")
	}
	maintain(0)
	if active() != second {
		t.Fatal("rotated twice")
	}
	// A successor that is younger than a day is not known to all receivers: the schedule waits for it.
	maintain(30*24*time.Hour - time.Hour)
	if err := h.RevokeKey(t.Context(), h.Keys()[1].ID); err != nil {
		t.Fatal(err)
	}
	maintain(2 * time.Hour)
	if active() != second {
		t.Fatal("rotated to a key that nobody knows")
	}
	maintain(22 * time.Hour)
	if active() == second {
		t.Fatal("not rotated after the successor had been published for a day")
	}
	never := ring{Keys: h.keys.Load().ring.Keys}
	if never.due(h.clock.Now().AddDate(10, 0, 0), -1) {
		t.Error("rotates although it shall not")
	}
	if _, err := New(t.Context(), h.store, h.directory, Options{Authority: h.opt.Authority, RotateEvery: time.Hour}); err == nil {
		t.Error("a rotation every hour was accepted")
	}
}

func TestTwoProcessesThatFindARotationDueRotateOnce(t *testing.T) {
	h := start(t)
	other := h.process(t, nil)
	late := other.keys.Load()
	h.clock.advance(91 * 24 * time.Hour)
	if err := h.maintain(t.Context()); err != nil {
		t.Fatal(err)
	}
	wantStates(t, h.Service, KeyActive, KeyNext, KeyRetired)
	rotated := h.Keys()
	eventually(t, "the other process follows", func() bool { return reflect.DeepEqual(other.Keys(), rotated) })
	other.keys.Store(late) // it decided before it heard
	if err := other.maintain(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := h.Keys(); !reflect.DeepEqual(got, rotated) {
		t.Errorf("rotated again: %+v", got)
	}
}

func TestRevoke(t *testing.T) {
	for _, row := range []struct {
		name    string
		victim  int // in Keys
		want    []KeyState
		sameKey bool // the active key stays
	}{
		{"the active key: the next one takes over", 0, []KeyState{KeyActive, KeyNext, KeyRetired}, false},
		{"the next key: another is made", 1, []KeyState{KeyActive, KeyNext, KeyRetired}, true},
		{"a retired key", 2, []KeyState{KeyActive, KeyNext}, true},
	} {
		t.Run(row.name, func(t *testing.T) {
			h := start(t)
			client := h.serve(t)
			p := h.system(t)
			r := receiver{client, h.origin.Load().(string) + "/common/v2.0/.well-known/openid-configuration"}
			retired := h.mint(t, p, "https://vault.azure.net").Raw
			if err := h.RotateKeys(t.Context()); err != nil {
				t.Fatal(err)
			}
			active := h.mint(t, p, "https://vault.azure.net").Raw
			var told atomic.Int64
			h.OnRevoke(func() { told.Add(1) })
			before := h.Keys()
			victim := before[row.victim].ID
			if err := h.RevokeKey(t.Context(), victim); err != nil {
				t.Fatal(err)
			}
			wantStates(t, h.Service, row.want...)
			after := h.Keys()
			if slices.ContainsFunc(after, func(k KeyInfo) bool { return k.ID == victim }) {
				t.Error("it is still there")
			}
			if (after[0].ID == before[0].ID) != row.sameKey || !row.sameKey && after[0].ID != before[1].ID {
				t.Errorf("active key was %s, next %s, active is %s", before[0].ID, before[1].ID, after[0].ID)
			}
			for raw, signer := range map[string]string{active: before[0].ID, retired: before[2].ID} {
				if _, _, err := r.verify(t.Context(), raw); (err == nil) != (signer != victim) {
					t.Errorf("token of key %s after %s was revoked: %v", signer, victim, err)
				}
			}
			if _, _, err := r.verify(t.Context(), h.mint(t, p, "https://vault.azure.net").Raw); err != nil {
				t.Errorf("a new token is refused: %v", err)
			}
			if told.Load() != 1 {
				t.Errorf("listeners were told %d times, want once", told.Load())
			}
			if err := h.RevokeKey(t.Context(), victim); !errors.Is(err, ErrKeyNotFound) {
				t.Errorf("again: %v, want ErrKeyNotFound", err)
			}
			if err := h.RotateKeys(t.Context()); err != nil || told.Load() != 1 {
				t.Errorf("after a rotation listeners were told %d times (%v)", told.Load(), err)
			}
		})
	}
}

func TestTwoProcessesPublishAndSignWithTheSameKeys(t *testing.T) {
	h := start(t)
	other := h.process(t, nil)
	same := func() bool { return reflect.DeepEqual(h.Keys(), other.Keys()) }
	if !same() {
		t.Fatalf("keys %+v and %+v", h.Keys(), other.Keys())
	}
	var told atomic.Int64
	other.OnRevoke(func() { told.Add(1) })
	if err := h.RotateKeys(t.Context()); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the other process follows the rotation", same)
	if err := h.RevokeKey(t.Context(), h.Keys()[0].ID); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the other process follows the revocation", func() bool { return same() && told.Load() == 1 })
	tok, err := other.Token(t.Context(), h.system(t), "https://vault.azure.net")
	if err != nil {
		t.Fatal(err)
	}
	client := h.serve(t)
	if _, _, err := (receiver{client, h.origin.Load().(string) + "/common/.well-known/openid-configuration"}).verify(t.Context(), tok.Raw); err != nil {
		t.Errorf("a token of the other process: %v", err)
	}
}

func TestConcurrentChangesLeaveOneActiveAndOneNextKey(t *testing.T) {
	h := start(t)
	other := h.process(t, nil)
	var wg sync.WaitGroup
	for _, s := range []*Service{h.Service, other} {
		for range 3 {
			wg.Go(func() {
				if err := s.RotateKeys(t.Context()); err != nil {
					t.Error(err)
				}
			})
		}
	}
	wg.Wait()
	eventually(t, "both agree", func() bool { return reflect.DeepEqual(h.Keys(), other.Keys()) })
	wantStates(t, h.Service, KeyActive, KeyNext, KeyRetired, KeyRetired, KeyRetired, KeyRetired, KeyRetired, KeyRetired)
}

func TestADamagedKeyDocumentIsRefusedAndLeavesTheGoodKeysInUse(t *testing.T) {
	h := start(t)
	good := h.keys.Load().ring
	alter := func(edit func(*ring)) ring {
		r := ring{Keys: slices.Clone(good.Keys)}
		edit(&r)
		return r
	}
	foreign := good.Keys[1].PrivateKey
	for _, row := range []struct {
		name string
		ring ring
	}{
		{"no keys", ring{}},
		{"two active keys", alter(func(r *ring) { r.Keys[1].State = KeyActive })},
		{"no next key", alter(func(r *ring) { r.Keys = r.Keys[:1] })},
		{"an unknown state", alter(func(r *ring) { r.Keys[0].State = "dormant" })},
		{"no certificate", alter(func(r *ring) { r.Keys[0].Certificate = nil })},
		{"no private key", alter(func(r *ring) { r.Keys[0].PrivateKey = nil })},
		{"another's private key", alter(func(r *ring) { r.Keys[0].PrivateKey = foreign })},
	} {
		if _, err := newKeySet(row.ring); err == nil {
			t.Errorf("%s: accepted", row.name)
		} else if strings.Contains(err.Error(), base64.StdEncoding.EncodeToString(foreign)[:20]) {
			t.Errorf("%s: %v shows the key", row.name, err)
		}
	}
	before := h.Keys()
	item, _ := h.rings.Get(ringKey)
	if _, err := h.rings.Update(t.Context(), ringKey, ring{}, item.Revision); err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(h.Keys(), before) {
		t.Error("the damaged document replaced the keys in use")
	}
	h.mint(t, h.system(t), "https://vault.azure.net")
	if _, err := New(t.Context(), h.store, h.directory, Options{Authority: h.opt.Authority}); err == nil {
		t.Error("a start with damaged keys succeeded")
	}
}

func TestTombstonesAreBounded(t *testing.T) {
	now := time.Now()
	made := 0
	fresh := func() (key, error) {
		made++
		return key{ID: string(rune('a' + made)), State: KeyNext, Created: now}, nil
	}
	r := newRing(key{ID: "a0", State: KeyNext}, key{ID: "a1", State: KeyNext}, now)
	for range maxTombstones + 20 {
		var err error
		if r, err = r.revoke(r.Keys[0].ID, now, fresh); err != nil {
			t.Fatal(err)
		}
		if err := r.check(); err != nil {
			t.Fatal(err)
		}
	}
	if len(r.Revoked) != maxTombstones {
		t.Errorf("%d tombstones, want %d", len(r.Revoked), maxTombstones)
	}
}
