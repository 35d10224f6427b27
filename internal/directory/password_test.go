package directory

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestASecretIsShownOnceAndKnownByItsHashAlone(t *testing.T) {
	dir := t.TempDir()
	s, stop := openStore(t, dir)
	d := must(Open(t.Context(), s, Options{}))(t)
	a, _ := register(t, d, "orders")
	other, _ := register(t, d, "billing")
	c, secret, err := d.AddPassword(t.Context(), a.AppID, PasswordCredential{DisplayName: "ci"})
	if err != nil {
		t.Fatal(err)
	}
	if !regexp.MustCompile(`^[A-Za-z0-9]{40}$`).MatchString(secret) || c.Hint != secret[:3] || !guid.MatchString(c.KeyID) || c.DisplayName != "ci" {
		t.Fatalf("%+v", c)
	}
	if years := c.EndDateTime.Sub(c.StartDateTime).Hours() / 24 / 365; years < 1.9 || years > 2.1 {
		t.Errorf("it lives from %v to %v", c.StartDateTime, c.EndDateTime)
	}
	for _, shown := range []string{fmt.Sprintf("%+v", must1(d.Application(a.ID))(t)), fmt.Sprintf("%+v", d.Applications()), fmt.Sprintf("%+v", c)} {
		if strings.Contains(shown, secret) {
			t.Error("the secret is shown again")
		}
	}
	got := must1(d.Application(a.ID))(t)
	if len(got.PasswordCredentials) != 1 || got.PasswordCredentials[0].Hash != nil || got.SecretSalt != nil || got.PasswordCredentials[0].KeyID != c.KeyID {
		t.Fatalf("readers get %+v", got)
	}

	stop() // the secret works after a restart
	s, _ = openStore(t, dir)
	d = must(Open(t.Context(), s, Options{}))(t)
	if found, err := d.CheckPassword(strings.ToUpper(a.AppID), secret); err != nil || found.KeyID != c.KeyID || found.Hash != nil {
		t.Errorf("the right secret: %+v, %v", found, err)
	}
	for name, try := range map[string][2]string{
		"another secret": {a.AppID, strings.Repeat("a", 40)}, "none": {a.AppID, ""}, "the key id": {a.AppID, c.KeyID},
		"in other case": {a.AppID, strings.ToLower(secret)}, "with a blank": {a.AppID, secret + " "}, "too long": {a.AppID, strings.Repeat("a", 1<<20)},
		"of another application": {other.AppID, secret}, "of nobody": {"x", secret},
	} {
		if _, err := d.CheckPassword(try[0], try[1]); !errors.Is(err, ErrNotFound) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func must1[T any](v T, ok bool) func(testing.TB) T {
	return func(t testing.TB) T {
		t.Helper()
		if !ok {
			t.Fatal("not found")
		}
		return v
	}
}

func TestASecretHasItsTime(t *testing.T) {
	now := time.Date(2026, 11, 24, 6, 50, 0, 0, time.UTC)
	s, _ := openStore(t, t.TempDir())
	d := must(Open(t.Context(), s, Options{Now: func() time.Time { return now }}))(t)
	a, _ := register(t, d, "orders")
	add := func(start, end time.Time) (PasswordCredential, string) {
		t.Helper()
		c, secret, err := d.AddPassword(t.Context(), a.ID, PasswordCredential{StartDateTime: start, EndDateTime: end})
		if err != nil {
			t.Fatal(err)
		}
		return c, secret
	}
	_, short := add(time.Time{}, now.Add(time.Hour))
	_, later := add(now.Add(2*time.Hour), time.Time{})
	for _, row := range []struct {
		at           time.Duration
		short, later bool
	}{{0, true, false}, {time.Hour - time.Second, true, false}, {time.Hour, false, false}, {2 * time.Hour, false, true}} {
		start := now
		now = now.Add(row.at)
		for secret, valid := range map[string]bool{short: row.short, later: row.later} {
			if _, err := d.CheckPassword(a.AppID, secret); valid != (err == nil) || !valid && !errors.Is(err, ErrPasswordExpired) {
				t.Errorf("after %v: %v, want valid %v", row.at, err, valid)
			}
		}
		now = start
	}
	for name, want := range map[string]PasswordCredential{
		"an end before the start": {StartDateTime: now, EndDateTime: now.Add(-time.Second)},
		"an end in 2400":          {EndDateTime: now.AddDate(374, 0, 0)},
	} {
		if _, _, err := d.AddPassword(t.Context(), a.ID, want); !slices.Equal(fields(err), []string{"endDateTime"}) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, _, err := d.AddPassword(t.Context(), a.ID, PasswordCredential{DisplayName: "a\nb"}); !slices.Equal(fields(err), []string{"displayName"}) {
		t.Errorf("a name with a line break: %v", err)
	}
	if _, _, err := d.AddPassword(t.Context(), "nobody", PasswordCredential{}); !errors.Is(err, ErrNotFound) {
		t.Errorf("nobody's: %v", err)
	}
}

func TestSecretsAreSeveralUpToTheLimitAndEndOneByOne(t *testing.T) {
	d := open(t)
	a, _ := register(t, d, "orders")
	var ids, secrets []string
	for range MaxPasswords {
		c, secret, err := d.AddPassword(t.Context(), a.ID, PasswordCredential{})
		if err != nil {
			t.Fatal(err)
		}
		ids, secrets = append(ids, c.KeyID), append(secrets, secret)
	}
	if _, _, err := d.AddPassword(t.Context(), a.ID, PasswordCredential{}); !slices.Equal(fields(err), []string{"passwordCredentials"}) {
		t.Errorf("one too many: %v", err)
	}
	if err := d.RemovePassword(t.Context(), a.AppID, strings.ToUpper(ids[3])); err != nil {
		t.Fatal(err)
	}
	wantErr(t, d.RemovePassword(t.Context(), a.AppID, ids[3]), ErrNotFound)
	for i, secret := range secrets {
		c, err := d.CheckPassword(a.AppID, secret)
		if (err == nil) != (i != 3) || err == nil && c.KeyID != ids[i] {
			t.Errorf("secret %d: %+v, %v", i, c, err)
		}
	}
	// Editing the rest of the application leaves its credentials alone, whatever the edit does to them.
	updated, err := d.UpdateApplication(t.Context(), a.ID, func(a *Application) error {
		a.DisplayName, a.PasswordCredentials, a.SecretSalt = "renamed", nil, []byte("x")
		return nil
	})
	if err != nil || updated.DisplayName != "renamed" || len(updated.PasswordCredentials) != MaxPasswords-1 {
		t.Fatalf("%+v, %v", updated, err)
	}
	if _, err := d.CheckPassword(a.AppID, secrets[0]); err != nil {
		t.Error(err)
	}
	// Nor can credentials be brought along.
	made, err := d.CreateApplication(t.Context(), Application{DisplayName: "forged", PasswordCredentials: updated.PasswordCredentials, FederatedCredentials: []FederatedCredential{{}}})
	if err != nil || made.PasswordCredentials != nil || made.FederatedCredentials != nil {
		t.Errorf("%+v, %v", made, err)
	}
	if _, err := d.CreateApplication(t.Context(), Application{DisplayName: "forged", KeyCredentials: []KeyCredential{{}}}); !slices.Equal(fields(err), []string{"keyCredentials[0].key"}) {
		t.Errorf("a key that did not pass SetKeys: %v", err)
	}
}

func BenchmarkCheckPassword(b *testing.B) {
	d := open(b)
	a, _ := register(b, d, "orders")
	_, secret, err := d.AddPassword(b.Context(), a.ID, PasswordCredential{})
	if err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		if _, err := d.CheckPassword(a.AppID, secret); err != nil {
			b.Fatal(err)
		}
	}
}
