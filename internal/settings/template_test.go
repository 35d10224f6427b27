package settings

import (
	"errors"
	"net/url"
	"strings"
	"testing"
)

func TestURLTemplateIsExpanded(t *testing.T) {
	for _, tc := range []struct {
		name, template, hub, event, want string
	}{
		{"a template without parameters stays as it is", "http://h.example/api?code=abc", "chat", "message", "http://h.example/api?code=abc"},
		{"hub and event are filled in, names in any case", "https://h.example/{HUB}/{Event}", "chat", "connect", "https://h.example/chat/connect"},
		{"values are escaped as one component each", "https://h.example/{hub}?e={event}", "a[b].`c`", "x/y z?&", "https://h.example/a%5Bb%5D.%60c%60?e=x%2Fy%20z%3F%26"},
		{"unreserved characters stay", "https://h.example/{event}", "h", "A-z.0_9~", "https://h.example/A-z.0_9~"},
		{"a value that looks like a parameter is not expanded again", "https://h.example/{event}", "h", "{hub}", "https://h.example/%7Bhub%7D"},
		{"a secret is inserted raw without its line end", "https://h.example/?code={@Microsoft.KeyVault(SecretUri=https://v.example/secrets/hook/)}", "h", "e", "https://h.example/?code=s%2Fecret=="},
		{"several secrets, the token's name in any case", "https://h.example/{@microsoft.keyvault(secreturi=https://v.example/secrets/a)}/{@MICROSOFT.KEYVAULT(SECRETURI=https://v.example/secrets/b)}", "h", "e", "https://h.example/s%2Fecret==/s%2Fecret=="},
		{"an IPv6 host with a port", "http://[::1]:7071/{hub}", "chat", "e", "http://[::1]:7071/chat"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			tmpl, err := ParseURLTemplate(tc.template)
			if err != nil {
				t.Fatal(err)
			}
			got, err := tmpl.Expand(tc.hub, tc.event, func(string) (string, error) { return "s%2Fecret==\r\n", nil })
			if err != nil || got != tc.want {
				t.Errorf("got %q, %v; want %q", got, err, tc.want)
			}
			if tmpl.String() != tc.template {
				t.Errorf("String() = %q", tmpl)
			}
		})
	}
}

func TestURLTemplateIsRefused(t *testing.T) {
	for _, tc := range []struct {
		name, template, problem string
	}{
		{"nothing", "", "is required"},
		{"too long", "https://h.example/" + strings.Repeat("a", maxURLTemplate), "longer than"},
		{"no scheme", "h.example/api", "absolute http or https"},
		{"another scheme", "ftp://h.example/", "absolute http or https"},
		{"a tunnel", "tunnel:///eventhandler", "absolute http or https"},
		{"a parameter in the host", "http://{hub}.example.com", "not allowed in the scheme or the host"},
		{"a parameter in the port", "http://example.com:{event}/", "not allowed in the scheme or the host"},
		{"a secret in the host", "https://{@Microsoft.KeyVault(SecretUri=https://v.example/secrets/h)}/", "not allowed in the scheme or the host"},
		{"a secret glued to the host", "https://h.example{@Microsoft.KeyVault(SecretUri=https://v.example/secrets/h)}", "not allowed in the scheme or the host"},
		{"a parameter as scheme", "{hub}://example.com/", "absolute http or https"},
		{"an unknown parameter", "https://h.example/{connectionId}", `unknown parameter "{connectionId}"`},
		{"an open brace", "https://h.example/{hub", `"{" without a "}"`},
		{"a stray closing brace", "https://h.example/a}b", `"}" without a "{"`},
		{"nested braces", "https://h.example/{{hub}}", "unknown parameter"},
		{"a reference without braces", "https://h.example/?code=@Microsoft.KeyVault(SecretUri=https://v.example/secrets/h)", "needs braces around it: {@Microsoft.KeyVault("},
		{"a reference that does not end", "https://h.example/?code={@Microsoft.KeyVault(SecretUri=https://v.example/secrets/h", "does not end"},
		{"a reference over http", "https://h.example/{@Microsoft.KeyVault(SecretUri=http://v.example/secrets/h)}", "which is not an https URI; write {@Microsoft.KeyVault("},
		{"a reference to a key", "https://h.example/{@Microsoft.KeyVault(SecretUri=https://v.example/keys/h)}", "which is not of the form https://<vault>/secrets/<name>"},
		{"a reference with a query", "https://h.example/{@Microsoft.KeyVault(SecretUri=https://v.example/secrets/h?api-version=7.4)}", "has a query or a fragment"},
		{"credentials in the URL", "https://user:pass@h.example/", "user name or password"},
		{"a fragment", "https://h.example/#top", "fragment"},
		{"no host", "https:///path", "valid URL"},
		{"a control character", "https://h.example/\x00", "valid URL"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			_, err := ParseURLTemplate(tc.template)
			if err == nil || !strings.Contains(err.Error(), tc.problem) {
				t.Errorf("got %v, want an error containing %q", err, tc.problem)
			}
		})
	}
}

func TestExpandNeverShowsASecret(t *testing.T) {
	tmpl, err := ParseURLTemplate("https://h.example/{@Microsoft.KeyVault(SecretUri=https://v.example/secrets/h)}")
	if err != nil {
		t.Fatal(err)
	}
	for _, secret := range []string{"canary\x00", "canary{x}", "canary#frag", "canary%zz"} {
		got, err := tmpl.Expand("h", "e", func(string) (string, error) { return secret, nil })
		if err == nil || strings.Contains(err.Error(), "canary") || got != "" {
			t.Errorf("secret %q: got %q, %v; want an error without the secret", secret, got, err)
		}
	}
	denied := errors.New("denied")
	if _, err := tmpl.Expand("h", "e", func(string) (string, error) { return "", denied }); !errors.Is(err, denied) {
		t.Errorf("got %v, want the resolver's error", err)
	}
}

func TestARedactedTemplateHidesWhatAQueryHolds(t *testing.T) {
	for text, want := range map[string]string{
		"https://h.example/{hub}":                   "https://h.example/{hub}",
		"https://h.example/p?code=abc&hub={hub}&x=": "https://h.example/p?code=…&hub={hub}&x=",
		"https://h.example/p?abc":                   "https://h.example/p?…",
		"https://h.example/p?k=a{event}b&k=c":       "https://h.example/p?k=…{event}…&k=…",
		"https://h.example/?c={@Microsoft.KeyVault(SecretUri=https://v.example/secrets/h/)}x": "https://h.example/?c={@Microsoft.KeyVault(SecretUri=https://v.example/secrets/h/)}…",
	} {
		tmpl, err := ParseURLTemplate(text)
		if err != nil {
			t.Fatal(err)
		}
		if got := tmpl.Redacted(); got != want {
			t.Errorf("%s: got %s, want %s", text, got, want)
		}
	}
}

func FuzzURLTemplate(f *testing.F) {
	f.Add("https://h.example/{hub}/{event}?code={@Microsoft.KeyVault(SecretUri=https://v.example/secrets/h)}", "chat", "message", "value")
	f.Add("http://h.example", "", "", "@evil.example/")
	f.Add("http://h.example?{event}", "h", "//evil", "\r\n")
	f.Fuzz(func(t *testing.T, text, hub, event, secret string) {
		tmpl, err := ParseURLTemplate(text)
		if err != nil {
			return
		}
		want, err := tmpl.Expand("h", "e", func(string) (string, error) { return "s", nil })
		if err != nil {
			t.Fatalf("an accepted template does not expand: %v", err)
		}
		got, err := tmpl.Expand(hub, event, func(string) (string, error) { return secret, nil })
		if err != nil {
			return
		}
		a, err1 := url.Parse(want)
		b, err2 := url.Parse(got)
		if err1 != nil || err2 != nil || a.Scheme != b.Scheme || a.Host != b.Host || b.User != nil {
			t.Errorf("values moved the request from %q to %q", want, got)
		}
	})
}
