package tabard

import (
	"errors"
	"strings"
	"testing"
	"time"
)

func TestTheZeroConfigIsValid(t *testing.T) {
	if err := (Config{}).Validate(); err != nil {
		t.Error(err)
	}
}

func TestEveryFaultOfAConfigIsReportedAtOnce(t *testing.T) {
	err := Config{
		Listen: "8080", AdminListen: "x", InstanceListen: map[string]string{"two": "y"},
		TLSCert: "a.pem", PublicURL: []string{"wps.example.com", "https://u:p@h", "https://h/path", "ftp://h"},
		TrustIssuer: []string{"https://login.example/common/v2.0", "http://login.example/x"}, NATSCredentials: "f", NATSReplicas: 6, AllowHandlerNetworks: []string{"10.0.0.0"}, DenyHandlerNetworks: []string{"net"},
		TokenLifetime: time.Minute, ClientTokenLifetime: time.Minute, MaxConnections: -1, ShutdownTimeout: -1, AuditAge: time.Minute, AuditRecords: 99, TrustedProxy: []string{"10.0.0.0/8", "::1", "proxy.internal"},
		ACMEDomain: []string{"wps.example.com", "*.example.com"}, ACMECA: "http://ca.example", ACMEEmail: "ops",
	}.Validate()
	var faults ConfigError
	if !errors.As(err, &faults) || len(faults) != 25 {
		t.Fatalf("%d faults, want 25:\n%v", len(faults), err)
	}
	for _, want := range []string{
		`listen: "8080" is not HOST:PORT`, `admin-listen: "x"`, `instance-listen two: "y"`, "tls-cert, tls-key", `public-url: "https://u:p@h"`,
		`trust-issuer: "https://login.example/common/v2.0"`, `trust-issuer: "http://login.example/x"`, `trusted-proxy: "proxy.internal"`, `acme-domain: "*.example.com"`, "acme-agree-tos", `acme-ca: "http://ca.example"`, `acme-email: "ops"`, "nats-credentials", "nats-replicas: 6", `allow-handler-networks: "10.0.0.0"`, "token-lifetime: 1m0s", "client-token-lifetime: 1m0s", "max-connections", "shutdown-timeout", "audit-age: 1m0s is less", "audit-records: 99 is less",
	} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("no fault %q in:\n%v", want, err)
		}
	}
}
