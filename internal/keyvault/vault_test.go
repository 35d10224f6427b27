package keyvault

import (
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"tabard/internal/fabric"
	"tabard/internal/store"
)

func TestVaultNames(t *testing.T) {
	for name, ok := range map[string]bool{
		"abc": true, "a-b-c": true, "A1b": true, strings.Repeat("a", 24): true,
		"": false, "ab": false, strings.Repeat("a", 25): false, "1ab": false, "-ab": false, "ab-": false, "a--b": false, "a_b": false, "a.b": false, "äbc": false, "abc\n": false,
	} {
		if ValidVaultName(name) != ok {
			t.Errorf("%q: want %t", name, ok)
		}
	}
}

func TestBadVaultsAreRefusedWithEveryFault(t *testing.T) {
	w := newWorld(t)
	_, _, err := w.vaults.PutVault(t.Context(), Vault{
		Name: "x", TenantID: "bbbb0000-0000-4000-8000-00000000000b", SKU: "gold", RetentionDays: 6,
		AccessPolicies: []AccessPolicy{{TenantID: testTenant, ObjectID: "me", ApplicationID: "you", Permissions: Permissions{Secrets: []string{"read"}}}},
	})
	for _, field := range []string{"name", "properties.tenantId", "properties.sku.name", "properties.softDeleteRetentionInDays",
		"properties.accessPolicies[0].objectId", "properties.accessPolicies[0].applicationId", "properties.accessPolicies[0].permissions.secrets"} {
		if err == nil || !strings.Contains(err.Error(), field+" ") {
			t.Errorf("no fault of %s in %v", field, err)
		}
	}
	if len(w.vaults.List()) != 1 {
		t.Error("something was stored")
	}
}

// Checklist 42.
func TestPoliciesAreAddedReplacedAndRemoved(t *testing.T) {
	w := newWorld(t)
	w.vault("va1")
	const oid = "cccc0000-0000-4000-8000-00000000000c"
	edit := func(how string, secrets ...string) []string {
		t.Helper()
		v, err := w.vaults.EditPolicies(t.Context(), "VA1", how, []AccessPolicy{{TenantID: strings.ToUpper(testTenant), ObjectID: oid, Permissions: Permissions{Secrets: secrets}}})
		if err != nil {
			t.Fatal(err)
		}
		if len(v.AccessPolicies) == 0 {
			return nil
		}
		return v.AccessPolicies[0].Permissions.Secrets
	}
	for _, step := range []struct {
		how   string
		given []string
		want  string
	}{
		{"add", []string{"Get"}, "get"},
		{"add", []string{"list", "get"}, "get list"},
		{"replace", []string{"set"}, "set"},
		{"add", []string{"get", "list"}, "set get list"},
		{"remove", []string{"set"}, "get list"},
		{"remove", []string{"all"}, ""},
		{"remove", []string{"get"}, ""},
		{"add", []string{"all", "purge"}, "all purge"},
		{"remove", []string{"set"}, "get list delete recover backup restore purge"},
	} {
		if got := strings.Join(edit(step.how, step.given...), " "); got != step.want {
			t.Errorf("%s %v: %q, want %q", step.how, step.given, got, step.want)
		}
	}
	if _, err := w.vaults.EditPolicies(t.Context(), "nobody", "add", nil); !errors.Is(err, ErrNotFound) {
		t.Errorf("no vault: %v", err)
	}
}

func TestADeletedVaultComesBackOrGoes(t *testing.T) {
	w := newWorld(t)
	w.vault("va1", func(v *Vault) { v.RetentionDays = 7 })
	u := w.owner("va1")
	u.put("n", "x")
	if err := w.vaults.DeleteVault(t.Context(), "Va1"); err != nil {
		t.Fatal(err)
	}
	if err := w.vaults.DeleteVault(t.Context(), "va1"); !errors.Is(err, ErrNotFound) {
		t.Errorf("again: %v", err)
	}
	u.do("GET", "/secrets/n"+latest, "").refused(404, "VaultNotFound", "")
	if _, _, err := w.vaults.PutVault(t.Context(), Vault{Name: "va1"}); !errors.Is(err, ErrSoftDeleted) {
		t.Errorf("the name was given away: %v", err)
	}
	if list := w.vaults.DeletedVaults(); len(list) != 1 || !list[0].Deleted.Purge.Equal(w.clock.Now().UTC().AddDate(0, 0, 7)) {
		t.Errorf("deleted vaults %+v", list)
	}
	if _, err := w.vaults.RecoverVault(t.Context(), "va1", testSubscription, "another"); !errors.Is(err, ErrNotFound) {
		t.Errorf("recovered into another group: %v", err)
	}
	if _, err := w.vaults.RecoverVault(t.Context(), "va1", testSubscription, "default"); err != nil {
		t.Fatal(err)
	}
	if u.value("/secrets/n") != "x" {
		t.Error("another value")
	}
	if err := w.vaults.DeleteVault(t.Context(), "va1"); err != nil {
		t.Fatal(err)
	}
	if err := w.vaults.PurgeVault(t.Context(), "va1"); err != nil {
		t.Fatal(err)
	}
	for key := range w.vaults.documents.All() {
		if strings.Contains(key, "va1") {
			t.Errorf("%s is left", key)
		}
	}
	w.vault("va1")
	w.owner("va1").do("GET", "/secrets/n"+latest, "").want(404)
}

func TestWhatIsPastItsTimeIsPurged(t *testing.T) {
	w := newWorld(t)
	w.vault("short", func(v *Vault) { v.RetentionDays = 7; v.PurgeProtection = true })
	w.vault("gone", func(v *Vault) { v.RetentionDays = 7; v.PurgeProtection = true })
	u := w.owner("short")
	u.put("n", "x")
	u.put("m", "x")
	u.do("DELETE", "/secrets/n"+latest, "").want(200)
	u.do("DELETE", "/secrets/m"+latest, "").want(200)
	if err := w.vaults.DeleteVault(t.Context(), "gone"); err != nil {
		t.Fatal(err)
	}
	w.clock.advance(7 * 24 * time.Hour)
	admin := &user{w, "short", adminText}
	admin.do("GET", "/deletedsecrets/n"+latest, "").refused(404, "SecretNotFound", "")
	admin.do("POST", "/deletedsecrets/n/recover"+latest, "").refused(404, "SecretNotFound", "")
	admin.put("n", "new") // before the sweep came
	if err := w.vaults.sweep(t.Context()); err != nil {
		t.Fatal(err)
	}
	for key := range w.vaults.documents.All() {
		if strings.Contains(key, "/m") || strings.Contains(key, "gone") {
			t.Errorf("%s is left", key)
		}
	}
	if admin.value("/secrets/n") != "new" {
		t.Error("the new secret is another")
	}
}

func TestANewMasterKeyTouchesNoSecret(t *testing.T) {
	dir := t.TempDir()
	w := openWorld(t, dir)
	w.owner(DefaultVault).put("n", "kept")
	next := filepath.Join(t.TempDir(), "next.key")
	if err := w.store.Rewrap(t.Context(), store.MasterKeyFile(next)); err != nil {
		t.Fatal(err)
	}
	w.owner(DefaultVault).put("m", "after") // no downtime
	w.stop()
	f, err := fabric.Open(t.Context(), fabric.Options{DataDir: dir})
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	st, err := store.Open(t.Context(), f, store.MasterKeyFile(next), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer st.Close()
	v, err := Open(t.Context(), st, w.vaults.opt)
	if err != nil {
		t.Fatal(err)
	}
	defer v.Close()
	for name, want := range map[string]string{"n": "kept", "m": "after"} {
		s, view, err := v.get(DefaultVault, name, "")
		if err != nil {
			t.Fatal(err)
		}
		if value, err := v.open(&view, DefaultVault, name, s); err != nil || string(value) != want {
			t.Errorf("%s is %q, %v", name, value, err)
		}
	}
}

func TestAValueIsBoundToItsPlace(t *testing.T) {
	w := newWorld(t)
	w.vault("va1")
	u := w.owner("va1")
	u.put("a", "secret of a")
	u.put("b", "secret of b")
	a, _, err := w.vaults.get("va1", "a", "")
	if err != nil {
		t.Fatal(err)
	}
	b, _, err := w.vaults.get("va1", "b", "")
	if err != nil {
		t.Fatal(err)
	}
	moved := *b
	moved.Sealed = a.Sealed
	if _, err := w.vaults.documents.Update(t.Context(), docKey(secretKind, "va1", "b", b.ID), document{Version: &moved}, b.revision); err != nil {
		t.Fatal(err)
	}
	answer := u.do("GET", "/secrets/b"+latest, "").refused(503, "ServiceUnavailable", "")
	if strings.Contains(answer.text, "unseal") || !strings.Contains(w.log.String(), "damaged or moved") {
		t.Errorf("told %s", answer.text)
	}
}

func TestChangesAreTold(t *testing.T) {
	w := newWorld(t)
	var got []string
	w.vaults.OnChange(func(vault, name string) { got = append(got, vault+"/"+name) })
	w.vault("va1")
	u := w.owner("va1")
	got = nil
	u.put("N", "x")
	if len(got) != 1 || got[0] != "va1/n" {
		t.Errorf("after a set: %v", got)
	}
	got = nil
	w.grant("va1", w.identity("another"), "get")
	if len(got) != 1 || got[0] != "va1/" {
		t.Errorf("after a change of policies: %v", got)
	}
}

func TestBounds(t *testing.T) {
	w := newWorld(t)
	w.vault("va1")
	u := w.owner("va1")
	w.vaults.maxVaults = 2
	if _, _, err := w.vaults.PutVault(t.Context(), Vault{Name: "one-too-many"}); !errors.Is(err, ErrQuota) {
		t.Errorf("a vault too many: %v", err)
	}
	u.put("n", "x")
	blob := u.do("POST", "/secrets/n/backup"+latest, "").want(200).str("value")
	u.do("DELETE", "/secrets/n"+latest, "").want(200)
	u.do("DELETE", "/deletedsecrets/n"+latest, "").want(204)
	w.vaults.maxVersions = 2
	u.put("a", "x")
	u.put("b", "x")
	if m := u.do("PUT", "/secrets/a"+latest, `{"value":"y"}`).refused(400, "BadParameter", "").message(); !strings.Contains(m, "2") {
		t.Errorf("message %s", m)
	}
	u.do("POST", "/secrets/restore"+latest, `{"value":"`+blob+`"}`).refused(400, "BadParameter", "")
	u.do("DELETE", "/secrets/a"+latest, "").want(200)
	u.do("DELETE", "/deletedsecrets/a"+latest, "").want(204)
	u.put("b", "there is room again")

	w.vaults.maxVersions = MaxVersions
	for range maxBackup/MaxValue + 1 {
		if _, err := w.vaults.set(t.Context(), "va1", "big", make([]byte, MaxValue), edit{}); err != nil {
			t.Fatal(err)
		}
	}
	u.do("POST", "/secrets/big/backup"+latest, "").refused(400, "BadParameter", "")
	for i := range maxBackupVersions + 1 {
		if i == maxBackupVersions {
			u.do("POST", "/secrets/many/backup"+latest, "").want(200)
		}
		if _, err := w.vaults.set(t.Context(), "va1", "many", []byte("x"), edit{}); err != nil {
			t.Fatal(err)
		}
	}
	if m := u.do("POST", "/secrets/many/backup"+latest, "").refused(400, "BadParameter", "").message(); !strings.Contains(m, "500") {
		t.Errorf("message %s", m)
	}
	u.do("GET", "/secrets?x="+strings.Repeat("x", maxURL), "").refused(400, "BadParameter", "")
}

func TestCallsAreCountedByOperationAndStatus(t *testing.T) {
	w := newWorld(t)
	w.vault("va1")
	u := w.owner("va1")
	u.put("n", "x")
	u.do("GET", "/secrets/n"+latest, "").want(200)
	u.do("GET", "/secrets/n"+latest, "").want(200)
	u.do("GET", "/secrets/m"+latest, "").want(404)
	w.send("GET", w.origin("va1")+"/secrets/n"+latest, "", "").want(401)
	var got []string
	for _, c := range w.vaults.Counts() {
		got = append(got, fmt.Sprint(c.Operation, " ", c.Status, " ", c.Calls, " ", c.InProcess))
	}
	if want := "get 200 2 false, get 404 1 false, none 401 1 false, set 200 1 false"; strings.Join(got, ", ") != want {
		t.Errorf("counted %s, want %s", strings.Join(got, ", "), want)
	}
	if vaults, versions := w.vaults.Extent(); vaults != 2 || versions != 1 {
		t.Errorf("%d vaults, %d versions", vaults, versions)
	}
}

// Whoever changes a part of a vault writes all of it: what somebody else changed meanwhile must not be lost with that.
func TestAStaleCopyOfAVaultDoesNotTakeAPolicyBack(t *testing.T) {
	w := newWorld(t)
	w.vault("va1")
	read, _ := w.vaults.Vault("va1")
	stale := *read
	p := w.identity("meanwhile")
	w.grant("va1", p, "get")
	stale.Tags = map[string]string{"a": "b"}
	if _, _, err := w.vaults.PutVault(t.Context(), stale); !errors.Is(err, ErrChanged) {
		t.Errorf("a stale copy was written: %v", err)
	}
	now, _ := w.vaults.Vault("va1")
	if len(now.AccessPolicies) != 1 {
		t.Errorf("policies %v", now.AccessPolicies)
	}
	fresh := *now
	fresh.Tags = map[string]string{"a": "b"}
	if _, _, err := w.vaults.PutVault(t.Context(), fresh); err != nil {
		t.Error(err)
	}
}
