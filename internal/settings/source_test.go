package settings

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"math/big"
	"slices"
	"strings"
	"testing"
	"time"
)

func pair(t *testing.T) string {
	t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().AddDate(1, 0, 0)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})) + string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private}))
}

func TestIdentitySourcesAreChecked(t *testing.T) {
	st, _ := open(t, t.TempDir())
	good := pair(t)
	const at = "properties.tabard.identitySource."
	for _, row := range []struct {
		name   string
		source IdentitySource
		fields []string
	}{
		{"embedded by default", IdentitySource{}, nil},
		{"embedded in other case", IdentitySource{Type: "Embedded"}, nil},
		{"embedded with a client", IdentitySource{ClientID: "x"}, []string{at + "clientId"}},
		{"an unknown type", IdentitySource{Type: "aws"}, []string{at + "type"}},
		{"azure, system-assigned", IdentitySource{Type: SourceAzure}, nil},
		{"azure, user-assigned", IdentitySource{Type: "AZURE", ClientID: "x", Credential: "ManagedIdentity"}, nil},
		{"azure, workload identity", IdentitySource{Type: SourceAzure, Credential: CredentialWorkloadIdentity, TenantID: "t", ClientID: "x"}, nil},
		{"azure, managed identity of a tenant", IdentitySource{Type: SourceAzure, TenantID: "t"}, []string{at + "tenantId"}},
		{"azure with a secret", IdentitySource{Type: SourceAzure, ClientSecret: "s"}, []string{at + "clientSecret"}},
		{"azure, another credential", IdentitySource{Type: SourceAzure, Credential: "cli"}, []string{at + "credential"}},
		{"oauth with a secret", IdentitySource{Type: SourceOAuth, Issuer: "https://issuer.example/x", ClientID: "x", ClientSecret: "s"}, nil},
		{"oauth with a certificate", IdentitySource{Type: SourceOAuth, TokenEndpoint: "https://issuer.example/token", ClientID: "x", Certificate: good, ResourceParameter: "Audience"}, nil},
		{"oauth with nothing", IdentitySource{Type: SourceOAuth}, []string{at + "issuer", at + "clientId", at + "clientSecret"}},
		{"oauth with too much", IdentitySource{Type: SourceOAuth, Issuer: "https://a", TokenEndpoint: "https://a", ClientID: "x", ClientSecret: "s", Certificate: good, TenantID: "t"},
			[]string{at + "tenantId", at + "issuer", at + "clientSecret"}},
		{"oauth over http", IdentitySource{Type: SourceOAuth, Issuer: "http://a", ClientID: "x", ClientSecret: "s"}, []string{at + "issuer"}},
		{"oauth with a user in the address", IdentitySource{Type: SourceOAuth, TokenEndpoint: "https://a:b@c", ClientID: "x", ClientSecret: "s"}, []string{at + "tokenEndpoint"}},
		{"half a certificate", IdentitySource{Type: SourceOAuth, Issuer: "https://a", ClientID: "x", Certificate: good[:len(good)/2]}, []string{at + "certificate"}},
		{"another way to name the resource", IdentitySource{Type: SourceOAuth, Issuer: "https://a", ClientID: "x", ClientSecret: "s", ResourceParameter: "header"}, []string{at + "resourceParameter"}},
		{"a line break", IdentitySource{Type: SourceOAuth, Issuer: "https://a", ClientID: "x\n", ClientSecret: "s"}, []string{at + "clientId"}},
		{"a long secret", IdentitySource{Type: SourceOAuth, Issuer: "https://a", ClientID: "x", ClientSecret: strings.Repeat("s", 3000)}, []string{at + "clientSecret"}},
	} {
		in, err := st.Update(t.Context(), DefaultInstance, func(in *Instance) error { in.Extensions.IdentitySource = &row.source; return nil })
		var faults Faults
		errors.As(err, &faults)
		var fields []string
		for _, f := range faults {
			fields = append(fields, f.Field)
			if row.source.ClientSecret != "" && len(row.source.ClientSecret) > 1 && strings.Contains(f.Problem, row.source.ClientSecret) {
				t.Errorf("%s: the secret comes back", row.name)
			}
		}
		if !slices.Equal(fields, row.fields) || err != nil && faults == nil {
			t.Errorf("%s: faults %q, want %q (%v)", row.name, fields, row.fields, err)
		}
		if err == nil && (in.Source() == nil) != (in.Extensions.IdentitySource.Type == SourceEmbedded) {
			t.Errorf("%s: source %+v", row.name, in.Source())
		}
	}
}

func TestSecretsOfAnIdentitySourceAreKeptOnlyForTheSameClientAndIssuer(t *testing.T) {
	old := &IdentitySource{Type: SourceOAuth, Issuer: "https://a", ClientID: "x", ClientSecret: "s"}
	if shown := old.Redacted(); shown.ClientSecret != "" || shown.ClientID != "x" || old.ClientSecret != "s" {
		t.Errorf("%+v", shown)
	}
	for name, row := range map[string]struct {
		next IdentitySource
		want string
	}{
		"as it was shown":   {IdentitySource{Type: SourceOAuth, Issuer: "https://a", ClientID: "x", ResourceParameter: "audience"}, "s"},
		"a new secret":      {IdentitySource{Type: SourceOAuth, Issuer: "https://a", ClientID: "x", ClientSecret: "new"}, "new"},
		"a certificate now": {IdentitySource{Type: SourceOAuth, Issuer: "https://a", ClientID: "x", Certificate: "pem"}, ""},
		"another issuer":    {IdentitySource{Type: SourceOAuth, Issuer: "https://attacker", ClientID: "x"}, ""},
		"another endpoint":  {IdentitySource{Type: SourceOAuth, TokenEndpoint: "https://attacker", ClientID: "x"}, ""},
		"another client":    {IdentitySource{Type: SourceOAuth, Issuer: "https://a", ClientID: "y"}, ""},
		"another type":      {IdentitySource{Type: SourceAzure, ClientID: "x"}, ""},
	} {
		if row.next.KeepSecrets(old); row.next.ClientSecret != row.want {
			t.Errorf("%s: %q", name, row.next.ClientSecret)
		}
	}
	(*IdentitySource)(nil).KeepSecrets(old)
	if (*IdentitySource)(nil).Redacted() != nil {
		t.Error("nothing is shown as something")
	}
}
