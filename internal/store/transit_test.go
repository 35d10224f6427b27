package store

import (
	"errors"
	"log/slog"
	"net/http"
	"strings"
	"testing"

	"tabard/internal/fabric"
	"tabard/internal/store/transittest"
)

func transitKey(t *testing.T, s *transittest.Server, token string) MasterKey {
	t.Helper()
	transport := &http.Transport{TLSClientConfig: s.ClientTLS()}
	t.Cleanup(transport.CloseIdleConnections)
	return MasterKeyTransit(TransitKey{URI: s.URI("transit/keys/tabard"), Transport: transport, Token: func() (string, error) {
		if token == "" {
			return "", errors.New("no token")
		}
		return token, nil
	}})
}

func TestADataKeyIsSealedByAKeyService(t *testing.T) {
	server := transittest.Start(t, "right")
	ctx, dir := t.Context(), t.TempDir()
	f, err := fabric.Open(ctx, fabric.Options{DataDir: dir})
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	open := func(key MasterKey) (*Store, error) { return Open(ctx, f, key, slog.New(slog.DiscardHandler)) }
	put := func(key MasterKey, want string) {
		t.Helper()
		s, err := open(key)
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		c, err := OpenCollection[string](ctx, s, "notes", v1)
		if err != nil {
			t.Fatal(err)
		}
		if want == "" {
			if _, err := c.Create(ctx, "a", "kept"); err != nil {
				t.Fatal(err)
			}
		} else if item, ok := c.Get("a"); !ok || item.Value != want {
			t.Errorf("read %q, %t", item.Value, ok)
		}
	}
	right := transitKey(t, server, "right")
	put(right, "")
	put(right, "kept")

	// Rotation: the key service has a newer version, and the older one may be taken away.
	server.Rotate()
	s, err := open(right)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Rewrap(ctx, right); err != nil {
		t.Fatal(err)
	}
	s.Close()
	server.ForgetFirstVersion()
	put(right, "kept")

	for name, tc := range map[string]struct {
		key  MasterKey
		fail int
		want string
	}{
		"a wrong token":             {transitKey(t, server, "wrong"), 0, "403: permission denied"},
		"no token":                  {transitKey(t, server, ""), 0, "no token"},
		"a sealed key service":      {right, 503, "503"},
		"a key service that is ill": {right, 500, "500"},
		"an authority not trusted": {MasterKeyTransit(TransitKey{URI: server.URI("transit/keys/tabard"), Transport: &http.Transport{}, Token: func() (string, error) { return "right", nil }}),
			0, "certificate"},
		"nobody there": {MasterKeyTransit(TransitKey{URI: "hcvault://127.0.0.1:1/transit/keys/tabard", Transport: &http.Transport{}, Token: func() (string, error) { return "right", nil }}),
			0, "127.0.0.1:1"},
	} {
		server.Fail(tc.fail)
		_, err := open(tc.key)
		if err == nil || errors.Is(err, ErrWrongMasterKey) || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s: %v, want %q and not that the key is wrong", name, err, tc.want)
		}
		if err != nil && (strings.Contains(err.Error(), "right") || strings.Contains(err.Error(), "plaintext")) {
			t.Errorf("%s: the error tells too much: %v", name, err)
		}
	}
	server.Fail(0)
	if _, err := open(MasterKeyFile(dir + "/master.key")); err == nil {
		t.Error("opened without the key service")
	}
	another := transittest.Start(t, "right")
	if _, err := open(transitKey(t, another, "right")); !errors.Is(err, ErrWrongMasterKey) {
		t.Errorf("another service's key of the same name: %v", err)
	}
	put(right, "kept")
	if text := right.String(); !strings.HasPrefix(text, "hcvault://") || strings.Contains(text, "right") {
		t.Errorf("it is shown as %s", text)
	}
	// A backup's key is sealed by it in the same way.
	sealed, err := right.Seal([]byte("secret"), "backup")
	if err != nil {
		t.Fatal(err)
	}
	if got, err := right.Unseal(sealed, "backup"); err != nil || string(got) != "secret" {
		t.Errorf("unsealed %q, %v", got, err)
	}
	if _, err := right.Unseal(sealed, "another use"); !errors.Is(err, ErrWrongMasterKey) {
		t.Errorf("unsealed for another use: %v", err)
	}
}

func TestURIsOfTransitKeysAreChecked(t *testing.T) {
	for uri, good := range map[string]bool{
		"hcvault://vault.example:8200/transit/keys/tabard": true, "hcvault://vault.example/a/b/keys/k-1": true,
		"hcvault://vault.example/transit/tabard": false, "hcvault:///transit/keys/k": false, "https://vault.example/transit/keys/k": false,
		"hcvault://token@vault.example/transit/keys/k": false, "hcvault://vault.example/transit/keys/k?x=1": false,
		"hcvault://vault.example/../sys/keys/k": false, "hcvault://vault.example/transit/keys/": false, "hcvault://vault.example/tr%2fansit/keys/k": false,
	} {
		if err := CheckTransitURI(uri); (err == nil) != good {
			t.Errorf("%s: %v", uri, err)
		}
	}
}
