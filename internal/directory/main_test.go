package directory

import (
	"errors"
	"path/filepath"
	"regexp"
	"testing"

	"go.uber.org/goleak"

	"tabard/internal/fabric"
	"tabard/internal/store"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var guid = regexp.MustCompile(`^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$`)

func openStore(t testing.TB, dir string) (*store.Store, func()) {
	t.Helper()
	f, err := fabric.Open(t.Context(), fabric.Options{DataDir: dir})
	if err != nil {
		t.Fatal(err)
	}
	s, err := store.Open(t.Context(), f, store.MasterKeyFile(filepath.Join(dir, "master.key")), nil)
	if err != nil {
		f.Close()
		t.Fatal(err)
	}
	stop := func() { s.Close(); f.Close() }
	t.Cleanup(stop)
	return s, stop
}

func open(t testing.TB) *Directory {
	t.Helper()
	s, _ := openStore(t, t.TempDir())
	return must(Open(t.Context(), s, Options{}))(t)
}

func must[T any](v T, err error) func(testing.TB) T {
	return func(t testing.TB) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

func register(t testing.TB, d *Directory, name string, uris ...string) (Application, ServicePrincipal) {
	t.Helper()
	return registerAs(t, d, Application{DisplayName: name, IdentifierURIs: uris})
}

func registerAs(t testing.TB, d *Directory, a Application) (Application, ServicePrincipal) {
	t.Helper()
	a = must(d.CreateApplication(t.Context(), a))(t)
	return a, must(d.CreateServicePrincipal(t.Context(), a.AppID))(t)
}

func wantErr(t testing.TB, err, want error) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Fatalf("error is %v, want %v", err, want)
	}
}

// fields lists the fields that a joined error blames.
func fields(err error) []string {
	var v *ValidationError
	var joined interface{ Unwrap() []error }
	switch {
	case err == nil:
		return nil
	case errors.As(err, &joined):
		var all []string
		for _, e := range joined.Unwrap() {
			all = append(all, fields(e)...)
		}
		return all
	case errors.As(err, &v):
		return []string{v.Field}
	}
	return []string{err.Error()}
}
