package settings

import (
	"errors"
	"strings"
	"testing"
)

func TestSpellingsOfOneSecretAreTheSame(t *testing.T) {
	const version = "0123456789abcdef0123456789abcdef"
	for text, want := range map[string]SecretURI{
		"https://v.vault.azure.net/secrets/n":                        {"v.vault.azure.net", "n", ""},
		"https://v.vault.azure.net/secrets/n/":                       {"v.vault.azure.net", "n", ""},
		"https://V.Vault.Azure.net:443/secrets/N":                    {"v.vault.azure.net", "n", ""},
		"https://v.vault.azure.net:/secrets/n":                       {"v.vault.azure.net", "n", ""},
		"https://v.vault.azure.net//secrets//n//":                    {"v.vault.azure.net", "n", ""},
		"https://v.kv.test:8443/secrets/n/" + version:                {"v.kv.test:8443", "n", version},
		"HTTPS://[::1]:8443/Secrets/a-1/" + strings.ToUpper(version): {"[::1]:8443", "a-1", version},
	} {
		got, err := ParseSecretURI(text)
		if err != nil || got != want {
			t.Errorf("%s: %+v, %v", text, got, err)
		}
		if again, err := ParseSecretURI(got.String()); err != nil || again != got {
			t.Errorf("%s: its text %s is %+v, %v", text, got, again, err)
		}
	}
}

// Security checklist 12 of the key-vault specification, as far as the text decides it.
func TestWhatIsNoSecretIdentifierIsRefused(t *testing.T) {
	for _, text := range []string{
		"", "n", "/secrets/n", "http://v/secrets/n", "ftp://v/secrets/n", "https:v/secrets/n", "https:///secrets/n", "https://:443/secrets/n",
		"https://user@v/secrets/n", "https://vault.azure.net:443@evil/secrets/n", "https://user:pass@v/secrets/n", "https://v./secrets/n",
		"https://v/secrets", "https://v/secrets/", "https://v/keys/n", "https://v/secrets/n/x", "https://v/secrets/n/0123456789abcdef0123456789abcdef/x",
		"https://v/secrets/a_b", "https://v/secrets/" + strings.Repeat("a", 128), "https://v/secrets/..", "https://v/secrets/%6e", "https://v/%73ecrets/n",
		"https://v/secrets/n?api-version=7.4", "https://v/secrets/n?", "https://v/secrets/n#x", "https://v/secrets/n#", "https://v/secrets/ä", "https://v /secrets/n", "https://v/secrets/n\n",
	} {
		if got, err := ParseSecretURI(text); err == nil {
			t.Errorf("%q: %+v", text, got)
		}
	}
}

func FuzzSecretURI(f *testing.F) {
	f.Add("https://v.vault.azure.net/secrets/n/0123456789abcdef0123456789abcdef")
	f.Add("https://v.vault.azure.net:443@evil.test//secrets/n/")
	f.Fuzz(func(t *testing.T, text string) {
		s, err := ParseSecretURI(text)
		if err != nil {
			return
		}
		if again, err := ParseSecretURI(s.String()); err != nil || again != s {
			t.Errorf("%q is %+v, whose text %q is %+v, %v", text, s, s, again, err)
		}
		if strings.ContainsAny(s.Host, "@/ \\") {
			t.Errorf("%q has the host %q", text, s.Host)
		}
	})
}

func TestSecretsThatCannotStandInAURL(t *testing.T) {
	raw, err := ParseURLTemplate("https://h.example/?code={@Microsoft.KeyVault(SecretUri=https://v.example/secrets/h)}&x={hub}")
	if err != nil {
		t.Fatal(err)
	}
	encoded := *raw
	encoded.encode = true
	for _, tc := range []struct{ secret, raw, encoded string }{
		{"abc==/\r\n", "abc==/", "abc%3D%3D%2F"},
		{"a+b&c", "a+b&c", "a%2Bb%26c"},
		{"a%2Bb", "a%2Bb", "a%252Bb"},
		{"x y", "", "x%20y"},
		{"a#b", "", "a%23b"},
		{"{hub}", "", "%7Bhub%7D"},
		{"{@Microsoft.KeyVault(SecretUri=https://v.example/secrets/other)}", "", "%7B%40Microsoft.KeyVault%28SecretUri%3Dhttps%3A%2F%2Fv.example%2Fsecrets%2Fother%29%7D"},
		{"grün", "", "gr%C3%BCn"},
		{"", "", ""}, {"\r\n", "", ""}, {"a\r\nb", "", ""}, {"a\x00", "", ""}, {"\ta", "", ""}, {"a\x7f", "", ""},
	} {
		for _, mode := range []struct {
			t    *URLTemplate
			want string
		}{{raw, tc.raw}, {&encoded, tc.encoded}} {
			got, err := mode.t.Expand("chat", "e", func(string) (string, error) { return tc.secret, nil })
			if mode.want == "" {
				if !errors.Is(err, ErrSecretUnusable) || strings.Contains(err.Error(), tc.secret) && tc.secret != "" {
					t.Errorf("%q, encoded %t: %q, %v", tc.secret, mode.t.encode, got, err)
				}
			} else if err != nil || got != "https://h.example/?code="+mode.want+"&x=chat" {
				t.Errorf("%q, encoded %t: %q, %v", tc.secret, mode.t.encode, got, err)
			}
		}
	}
}

func TestAHubEncodesSecretsIfItSaysSo(t *testing.T) {
	h := &Hub{Name: "chat", Extensions: HubExtensions{EncodeSecrets: true}, EventHandlers: []*EventHandler{{URLTemplate: "https://h.example/?code={@Microsoft.KeyVault(SecretUri=https://v.example/secrets/h)}"}}}
	var f Faults
	h.compile(&f)
	got, err := h.EventHandlers[0].Template().Expand("h", "e", func(string) (string, error) { return "a+b", nil })
	if len(f) != 0 || err != nil || got != "https://h.example/?code=a%2Bb" {
		t.Errorf("%q, %v, %v", got, err, f)
	}
}
