package tabard

import (
	"slices"
	"testing"

	"tabard/internal/keyvault"
)

func vaultOriginsOf(cfg Config) *origins {
	o := newOrigins(cfg)
	o.bound.Store(&bound{public: "127.0.0.1:8080", admin: "127.0.0.1:8081", vaults: map[string]string{"own": "127.0.0.1:9001"}})
	return o
}

func TestOriginsOfAVault(t *testing.T) {
	public := Config{VaultURL: []string{"https://KV.example.com", "https://kv.internal:8443"}}
	for _, tc := range []struct {
		name, vault string
		cfg         Config
		want        string
	}{
		{"the default vault is on the bound address", "default", Config{}, "https://127.0.0.1:8081"},
		{"another is a name before localhost", "Other", Config{}, "https://other.localhost:8081"},
		{"an address of its own needs no name", "Own", Config{}, "https://127.0.0.1:9001"},
		{"the first public URL is preferred", "default", public, "https://kv.example.com"},
		{"another below it", "other", public, "https://other.kv.example.com"},
	} {
		if got := vaultOriginsOf(tc.cfg).vaultOrigin(tc.vault); got != tc.want {
			t.Errorf("%s: %s, want %s", tc.name, got, tc.want)
		}
	}
	if got := vaultOriginsOf(public).vaultResources(); !slices.Equal(got, []string{"https://kv.example.com", "https://kv.internal:8443", "https://localhost:8081"}) {
		t.Errorf("resources %v", got)
	}
}

func TestReferencesMatchEmbeddedVaultsByExactOrigin(t *testing.T) {
	o := vaultOriginsOf(Config{VaultURL: []string{"https://kv.example.com"}})
	for host, want := range map[string]string{
		"127.0.0.1:8081": keyvault.DefaultVault, "localhost:8081": keyvault.DefaultVault, "[::1]:8081": keyvault.DefaultVault, "kv.example.com": keyvault.DefaultVault,
		"other.localhost:8081": "other", "other.kv.example.com": "other", "127.0.0.1:9001": "own",
		// Another port, another scheme's port or another name is somebody else.
		"127.0.0.1:8080": "", "localhost": "", "localhost:8082": "", "other.localhost": "", "kv.example.com:8081": "", "other.kv.example.com:8081": "",
		"a.b.kv.example.com": "", "kv.example.com.evil.test": "", "evilkv.example.com": "", "other.127.0.0.1:8081": "", "10.0.0.1:8081": "", "127.0.0.1:9002": "",
	} {
		if got, ok := o.vaultAt(host); got != want || ok != (want != "") {
			t.Errorf("%s is %q, want %q", host, got, want)
		}
	}
}

func TestTheHostSelectsTheVault(t *testing.T) {
	o := vaultOriginsOf(Config{VaultURL: []string{"https://kv.example.com"}})
	for host, want := range map[string]string{
		"127.0.0.1:8081": keyvault.DefaultVault, "localhost": keyvault.DefaultVault, "10.0.0.1:9": keyvault.DefaultVault, "[::1]:8081": keyvault.DefaultVault, "KV.example.com:443": keyvault.DefaultVault,
		"Other.localhost:4711": "other", "other.kv.example.com": "other",
		"evil.example": "", "a.b.localhost": "", "kv.example.com.evil.test": "", "": "",
	} {
		if got, ok := o.vaultOf(host); got != want || ok != (want != "") {
			t.Errorf("Host %q selects %q, want %q", host, got, want)
		}
	}
}

func TestFaultsOfVaultSettings(t *testing.T) {
	good := Config{VaultURL: []string{"https://kv.example.com:8443"}, VaultListen: map[string]string{"own": "127.0.0.1:0"}, VaultDomain: []string{"vault.example.com", "kv.example.com:8443=https://kv.example.com:8443"}}
	if err := good.Validate(); err != nil {
		t.Errorf("good settings: %v", err)
	}
	bad := Config{VaultURL: []string{"http://kv.example.com", "https://kv.example.com/x", "kv"}, VaultListen: map[string]string{"x": "127.0.0.1:0", "own": "nowhere"},
		VaultDomain: []string{"", "com", "10.0.0.1", "a.b=http://a.b", "a.b=", "a.b=https://a.b/", "https://a.b"}}
	if faults, ok := bad.Validate().(ConfigError); !ok || len(faults) != 12 {
		t.Errorf("%d faults: %v", len(faults), faults)
	}
}
