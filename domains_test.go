package tabard

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"log/slog"
	"math/big"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"
)

// selfSigned makes a certificate for a name, as PEM text with its key.
func selfSigned(t *testing.T, name string) (text string, cert *x509.Certificate) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	serial, err := rand.Int(rand.Reader, big.NewInt(1<<62))
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: serial, DNSNames: []string{name}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	if cert, err = x509.ParseCertificate(der); err != nil {
		t.Fatal(err)
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	for _, block := range []*pem.Block{{Type: "PRIVATE KEY", Bytes: keyDER}, {Type: "CERTIFICATE", Bytes: der}} {
		if err := pem.Encode(&b, block); err != nil {
			t.Fatal(err)
		}
	}
	return b.String(), cert
}

// served returns the certificate that the public address serves for a name.
func (s *served) certificate(name string) *x509.Certificate {
	s.t.Helper()
	conn, err := tls.Dial("tcp", s.origins.bound.Load().public, &tls.Config{ServerName: name, InsecureSkipVerify: true}) // it is looked at, not trusted
	if err != nil {
		s.t.Fatal(err)
	}
	defer conn.Close()
	return conn.ConnectionState().PeerCertificates[0]
}

// storeSecret puts a value into the vault "tls", which the identity of an instance may read if grant says so.
func (s *served) storeSecret(name, value string) {
	s.t.Helper()
	body, _ := json.Marshal(map[string]string{"value": value, "contentType": "application/x-pem-file"})
	if status, text := s.vaultCall("tls", "PUT", "/secrets/"+name, s.AdminToken, string(body)); status != 200 {
		s.t.Fatal(status, text)
	}
}

func (s *served) instanceNamed(name string) string {
	return s.group() + "/Microsoft.SignalRService/webPubSub/" + name
}

// hasDomain gives an instance a custom domain whose certificate is a secret of the vault "tls", and returns the states
// of certificate and domain.
func (s *served) hasDomain(instance, domain, secret string) (certificate, domainState string) {
	s.t.Helper()
	put := func(path, body string) string {
		var answer struct {
			Properties struct{ ProvisioningState string }
		}
		url := s.instanceNamed(instance) + path + "?api-version=2024-03-01"
		s.controlPlane("PUT", url, body) // the answer to a failure is that it goes on, for clients that poll
		if err := json.Unmarshal([]byte(s.controlPlane("GET", url, "")), &answer); err != nil {
			s.t.Fatal(err)
		}
		return answer.Properties.ProvisioningState
	}
	certificate = put("/customCertificates/c", `{"properties":{"keyVaultBaseUri":"`+s.origins.vaultOrigin("tls")+`/","keyVaultSecretName":"`+secret+`"}}`)
	return certificate, put("/customDomains/d", `{"properties":{"domainName":"`+domain+`","customCertificate":{"id":"`+s.instanceNamed(instance)+`/customCertificates/c"}}}`)
}

func (s *served) mayReadCertificates(instance string) {
	s.t.Helper()
	s.controlPlane("PATCH", s.instanceNamed(instance)+"?api-version=2024-03-01", `{"identity":{"type":"SystemAssigned"}}`)
	in, _ := s.settings.Snapshot().Instance(instance)
	s.controlPlane("PUT", s.group()+"/Microsoft.KeyVault/vaults/tls/accessPolicies/add"+armVersion,
		`{"properties":{"accessPolicies":[{"tenantId":"`+s.TenantID+`","objectId":"`+in.Identity.PrincipalID+`","permissions":{"secrets":["get"]}}]}}`)
}

// The whole road with an embedded vault: the certificate is read as the instance's identity, served by name, swapped
// when the secret changes, and what goes wrong with one domain is no other's trouble.
func TestACustomDomainIsServedWithItsCertificateFromAVault(t *testing.T) {
	var log bytes.Buffer
	var mu sync.Mutex
	s := serveLogged(t, Config{PublicURL: []string{"https://pub.example.net"}}, slog.New(slog.NewTextHandler(&locked{&mu, &log}, nil)))
	s.controlPlane("PUT", s.group()+"/Microsoft.KeyVault/vaults/tls"+armVersion, `{"location":"local","properties":{"sku":{"family":"A","name":"standard"},"tenantId":"`+s.TenantID+`"}}`)
	for _, name := range []string{"one", "two"} {
		s.controlPlane("PUT", s.instanceNamed(name)+"?api-version=2024-03-01", `{"location":"local"}`)
		s.controlPlane("PUT", s.instanceNamed(name)+"/hubs/chat?api-version=2024-03-01", `{"properties":{"anonymousConnectPolicy":"allow"}}`)
	}
	first, firstCert := selfSigned(t, "one.example.com")
	s.storeSecret("one", first)
	for _, name := range []string{"one", "two"} { // the first may not be read, the second does not exist
		if c, d := s.hasDomain(name, name+".example.com", name); c != "Failed" || d != "Failed" {
			t.Errorf("without an identity the states of %s are %s and %s", name, c, d)
		}
	}

	if c := s.certificate("one.example.com"); c.Equal(firstCert) {
		t.Fatal("served although the identity may not read it")
	}
	one, _ := s.settings.Snapshot().Instance("one")
	if err := s.domains.Load(t.Context(), one, one.CustomCertificates["c"]); err == nil || !strings.Contains(err.Error(), "no managed identity") {
		t.Errorf("the problem is told as %v", err)
	}
	s.mayReadCertificates("one")
	if c := s.certificate("one.example.com"); !c.Equal(firstCert) {
		t.Fatalf("served for %v, want the custom domain's certificate", c.DNSNames)
	}
	if c, d := s.hasDomain("one", "one.example.com", "one"); c != "Succeeded" || d != "Succeeded" {
		t.Errorf("the states of a domain that is served are %s and %s", c, d)
	}
	second, secondCert := selfSigned(t, "one.example.com")
	s.storeSecret("one", second)
	if c := s.certificate("one.example.com"); !c.Equal(secondCert) {
		t.Error("the new certificate is not served")
	}

	s.mayReadCertificates("two")
	two, _ := s.settings.Snapshot().Instance("two")
	if err := s.domains.DomainProblem(two, two.CustomDomains["d"]); err == nil || !strings.Contains(err.Error(), "not found") {
		t.Errorf("a missing secret is told as %v", err)
	}
	if c := s.certificate("two.example.com"); len(c.DNSNames) == 0 || c.DNSNames[0] != "pub.example.net" && !strings.Contains(strings.Join(c.DNSNames, " "), "localhost") {
		t.Errorf("without a certificate of its own, %v is served", c.DNSNames)
	}
	if status, text := s.vaultCall("tls", "PATCH", "/secrets/one/", s.AdminToken, `{"attributes":{"enabled":false}}`); status != 200 {
		t.Fatal(status, text)
	}
	if c := s.certificate("one.example.com"); !c.Equal(secondCert) {
		t.Error("a certificate that can no longer be read does not serve on")
	}
	if err := s.domains.Load(t.Context(), one, one.CustomCertificates["c"]); err == nil {
		t.Error("nor is it told that it cannot be read")
	}

	// Requests go to the instance that has the domain; the service's own names stay its own.
	s.hasDomain("two", "pub.example.net", "two")
	for host, want := range map[string]string{"one.example.com": "one", "ONE.example.com:443": "one", "pub.example.net": "default", "two.pub.example.net": "two", "other.example.com": "default"} {
		if in := s.chooseInstance(&http.Request{Host: host}); in == nil || in.Name != want {
			t.Errorf("%s is answered by %v, want %s", host, in, want)
		}
	}
	third, thirdCert := selfSigned(t, "pub.example.net")
	s.storeSecret("two", third)
	if c := s.certificate("pub.example.net"); c.Equal(thirdCert) {
		t.Error("an instance took the service's own name")
	}
	s.controlPlane("DELETE", s.instanceNamed("one")+"?api-version=2024-03-01", "")
	if c := s.certificate("one.example.com"); c.Equal(secondCert) {
		t.Error("the domain of a deleted instance is still served")
	}
	s.stop()
	mu.Lock()
	defer mu.Unlock()
	if strings.Contains(log.String(), "PRIVATE") || !strings.Contains(log.String(), "custom certificate in use") {
		t.Errorf("the log:\n%s", &log)
	}
}
