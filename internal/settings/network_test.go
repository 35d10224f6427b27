package settings

import (
	"encoding/json"
	"errors"
	"net"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// valid is an instance with nothing wrong.
func valid() *Instance {
	return &Instance{
		Name: "shop", SubscriptionID: "11111111-2222-4333-8444-555555555555", ResourceGroup: "g", Location: "l",
		Keys: Keys{NewKey(), NewKey()}, SKU: SKU{Name: "Standard_S1", Capacity: 1},
	}
}

func TestNetworkRulesDecide(t *testing.T) {
	everything := `"publicNetwork":{"allow":["ServerConnection","ClientConnection","RESTAPI","Trace"]}`
	for _, tc := range []struct {
		name, acl string
		kind      RequestType
		from      string
		admitted  bool
	}{
		{"no rules", ``, RESTAPI, "192.0.2.1", true},
		{"empty rules", `{}`, RESTAPI, "192.0.2.1", true},
		{"denied by default", `{"defaultAction":"deny"}`, RESTAPI, "192.0.2.1", false},
		{"a type that is allowed", `{"defaultAction":"Deny","publicNetwork":{"allow":["clientconnection"]}}`, ClientConnection, "192.0.2.1", true},
		{"a type that is not", `{"defaultAction":"Deny","publicNetwork":{"allow":["ClientConnection"]}}`, RESTAPI, "192.0.2.1", false},
		{"a type that is denied", `{"publicNetwork":{"deny":["RESTAPI"]}}`, RESTAPI, "192.0.2.1", false},
		{"another type than the denied one", `{"publicNetwork":{"deny":["RESTAPI"]}}`, ClientConnection, "192.0.2.1", true},
		{"allowed and denied", `{"publicNetwork":{"allow":["RESTAPI"],"deny":["RESTAPI"]}}`, RESTAPI, "192.0.2.1", false},
		{"an address that is allowed (the documents' example)", `{"defaultAction":"Deny","ipRules":[{"value":"123.0.0.0/8","action":"Allow"},{"value":"0.0.0.0/0","action":"Deny"}]}`, RESTAPI, "123.4.5.6", true},
		{"any other address", `{"defaultAction":"Deny","ipRules":[{"value":"123.0.0.0/8","action":"Allow"},{"value":"0.0.0.0/0","action":"Deny"}]}`, RESTAPI, "124.4.5.6", false},
		{"an address that is denied beats a type that is allowed", `{"defaultAction":"Deny",` + everything + `,"ipRules":[{"value":"10.0.0.0/8","action":"Deny"}]}`, RESTAPI, "10.1.1.1", false},
		{"an address that is allowed does not beat a type that is denied", `{"publicNetwork":{"deny":["RESTAPI"]},"ipRules":[{"value":"10.0.0.0/8","action":"Allow"}]}`, RESTAPI, "10.1.1.1", false},
		{"the first rule that matches", `{"ipRules":[{"value":"10.1.1.1","action":"Allow"},{"value":"10.0.0.0/8","action":"Deny"}]}`, RESTAPI, "10.1.1.1", true},
		{"a later rule", `{"ipRules":[{"value":"10.1.1.1","action":"Allow"},{"value":"10.0.0.0/8","action":"Deny"}]}`, RESTAPI, "10.1.1.2", false},
		{"a v4 address in v6 clothes", `{"ipRules":[{"value":"10.0.0.0/8","action":"Deny"}]}`, RESTAPI, "::ffff:10.1.1.1", false},
		{"a v4 rule in v6 clothes", `{"ipRules":[{"value":"::ffff:10.0.0.0/104","action":"Deny"}]}`, RESTAPI, "10.1.1.1", false},
		{"a v6 network", `{"ipRules":[{"value":"2603::/8","action":"Deny"}]}`, RESTAPI, "2603::1", false},
		{"a v4 rule for everybody is not about v6", `{"ipRules":[{"value":"0.0.0.0/0","action":"Deny"}]}`, RESTAPI, "2603::1", true},
		{"a network written with host bits", `{"ipRules":[{"value":"10.1.1.1/8","action":"Deny"}]}`, RESTAPI, "10.2.2.2", false},
		{"an address that nobody knows", `{"defaultAction":"Deny","ipRules":[{"value":"0.0.0.0/0","action":"Allow"}]}`, RESTAPI, "", false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			in := valid()
			if tc.acl != "" {
				if err := json.Unmarshal([]byte(tc.acl), &in.NetworkACLs); err != nil {
					t.Fatal(err)
				}
			}
			if err := in.compile(); err != nil {
				t.Fatal(err)
			}
			from := net.JoinHostPort(tc.from, "1234")
			if got := in.Admits(tc.kind, from); got != tc.admitted {
				t.Errorf("admitted: %t, want %t", got, tc.admitted)
			}
			in.PublicNetworkDisabled = true
			if in.Admits(tc.kind, from) {
				t.Error("admitted although the public network is switched off")
			}
		})
	}
}

// Whatever the rules are: one that denies is never outvoted.
func TestNoRuleOutvotesADenial(t *testing.T) {
	kinds := rapid.SampledFrom([]RequestType{ClientConnection, ServerConnection, RESTAPI, Trace})
	rules := rapid.SliceOfN(rapid.Custom(func(t *rapid.T) IPRule {
		return IPRule{Value: rapid.SampledFrom([]string{"10.0.0.0/8", "10.1.0.0/16", "10.1.1.1", "::/0", "0.0.0.0/0"}).Draw(t, "network"), Action: rapid.SampledFrom([]string{Allow, Deny}).Draw(t, "action")}
	}), 0, 5)
	rapid.Check(t, func(t *rapid.T) {
		in := valid()
		in.NetworkACLs = &NetworkACLs{
			DefaultAction: rapid.SampledFrom([]string{"", Allow, Deny}).Draw(t, "default"),
			PublicNetwork: &NetworkACL{Allow: rapid.SliceOf(kinds).Draw(t, "allow"), Deny: rapid.SliceOf(kinds).Draw(t, "deny")},
			IPRules:       rules.Draw(t, "rules"),
		}
		kind := kinds.Draw(t, "kind")
		if err := in.compile(); err != nil {
			t.Fatal(err)
		}
		from := rapid.SampledFrom([]string{"10.1.1.1", "10.1.2.3", "10.9.9.9", "192.0.2.1", "2001:db8::1"}).Draw(t, "from")
		in.NetworkACLs.PublicNetwork.Deny = append(in.NetworkACLs.PublicNetwork.Deny, kind)
		if in.Admits(kind, from) {
			t.Fatal("a denied type is admitted")
		}
		in.NetworkACLs.PublicNetwork.Deny = nil
		in.NetworkACLs.IPRules = append([]IPRule{{Value: from, Action: Deny}}, in.NetworkACLs.IPRules...)
		if err := in.compile(); err != nil {
			t.Fatal(err)
		}
		if in.Admits(kind, from) {
			t.Fatal("a denied address is admitted")
		}
	})
}

func TestBadNetworkRulesAreRefusedWithEveryFault(t *testing.T) {
	in := valid()
	in.NetworkACLs = &NetworkACLs{
		DefaultAction: "perhaps", PublicNetwork: &NetworkACL{Allow: []RequestType{"Telnet"}, Deny: []RequestType{""}},
		IPRules: []IPRule{{Value: "AzureCloud", Action: Allow}, {Value: "10.0.0.0/33", Action: "no"}, {Value: "fe80::1%eth0", Action: Deny}},
	}
	err := in.compile()
	faults, _ := errors.AsType[Faults](err)
	var fields []string
	for _, f := range faults {
		fields = append(fields, strings.TrimPrefix(f.Field, "properties.networkACLs."))
	}
	want := "defaultAction publicNetwork.allow[0] publicNetwork.deny[0] ipRules[0].value ipRules[1].action ipRules[1].value ipRules[2].value"
	if got := strings.Join(fields, " "); got != want {
		t.Errorf("faults of %s\nwant      %s", got, want)
	}
	in.NetworkACLs = &NetworkACLs{IPRules: make([]IPRule, MaxIPRules)}
	for i := range in.NetworkACLs.IPRules {
		in.NetworkACLs.IPRules[i] = IPRule{Value: "10.0.0.0/8", Action: Allow}
	}
	if err := in.compile(); err != nil {
		t.Errorf("as many rules as there may be: %v", err)
	}
	in.NetworkACLs.IPRules = append(in.NetworkACLs.IPRules, IPRule{Value: "10.0.0.0/8", Action: Allow})
	if err := in.compile(); err == nil {
		t.Error("one rule too many was accepted")
	}
}

func TestNetworkRulesOfTheFirstVersionComeIntoForce(t *testing.T) {
	in := valid()
	in.Inert = map[string]json.RawMessage{
		"publicNetworkAccess": json.RawMessage(`"Disabled"`), "networkACLs": json.RawMessage(`{"defaultAction":"Deny"}`), "tls": json.RawMessage(`{}`),
	}
	doc, err := json.Marshal(in)
	if err != nil {
		t.Fatal(err)
	}
	if doc, err = migrate(1, doc); err != nil {
		t.Fatal(err)
	}
	var now Instance
	if err := json.Unmarshal(doc, &now); err != nil {
		t.Fatal(err)
	}
	if !now.PublicNetworkDisabled || now.NetworkACLs == nil || now.NetworkACLs.DefaultAction != Deny || len(now.Inert) != 1 {
		t.Errorf("migrated to %s", doc)
	}
}

func TestCustomDomainsAndCertificatesAreChecked(t *testing.T) {
	for _, tc := range []struct {
		name  string
		edit  func(*Instance)
		field string // of the only fault; empty: none
	}{
		{"nothing wrong", func(*Instance) {}, ""},
		{"plain http", func(in *Instance) { in.CustomCertificates["c"].VaultBaseURI = "http://v.vault.azure.net" }, "properties.keyVaultBaseUri"},
		{"a path", func(in *Instance) { in.CustomCertificates["c"].VaultBaseURI = "https://v.vault.azure.net/x" }, "properties.keyVaultBaseUri"},
		{"no secret", func(in *Instance) { in.CustomCertificates["c"].SecretName = "" }, "properties.keyVaultSecretName"},
		{"a secret that cannot be", func(in *Instance) { in.CustomCertificates["c"].SecretName = "a_b" }, "properties.keyVaultSecretName"},
		{"a secret that is a path", func(in *Instance) { in.CustomCertificates["c"].SecretName = "a/../b" }, "properties.keyVaultSecretName"},
		{"a version that cannot be", func(in *Instance) { in.CustomCertificates["c"].SecretVersion = "latest" }, "properties.keyVaultSecretVersion"},
		{"an address instead of a name", func(in *Instance) { in.CustomDomains["d"].DomainName = "192.0.2.1" }, "properties.domainName"},
		{"a wildcard", func(in *Instance) { in.CustomDomains["d"].DomainName = "*.example.com" }, "properties.domainName"},
		{"one label", func(in *Instance) { in.CustomDomains["d"].DomainName = "localhost" }, "properties.domainName"},
		{"capitals", func(in *Instance) { in.CustomDomains["d"].DomainName = "WPS.example.com" }, ""},
		{"an unknown certificate", func(in *Instance) { in.CustomDomains["d"].Certificate = in.CertificateID("other") }, "properties.customCertificate.id"},
		{"another instance's certificate", func(in *Instance) {
			in.CustomDomains["d"].Certificate = strings.Replace(in.CertificateID("c"), "shop", "other", 1)
		}, "properties.customCertificate.id"},
		{"a certificate in other case", func(in *Instance) { in.CustomDomains["d"].Certificate = strings.ToUpper(in.CertificateID("c")) }, ""},
		{"two domains of one name", func(in *Instance) {
			in.CustomDomains["e"] = &CustomDomain{Name: "e", DomainName: "wps.example.com", Certificate: in.CertificateID("c")}
		}, "properties.domainName"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			in := valid()
			in.CustomCertificates = map[string]*CustomCertificate{"c": {Name: "C", VaultBaseURI: "https://v.vault.azure.net/", SecretName: "tls"}}
			in.CustomDomains = map[string]*CustomDomain{"d": {Name: "d", DomainName: "wps.example.com", Certificate: in.CertificateID("c")}}
			tc.edit(in)
			err := in.compile()
			faults, _ := errors.AsType[Faults](err)
			switch {
			case tc.field == "" && err != nil:
				t.Error(err)
			case tc.field != "" && (len(faults) != 1 || faults[0].Field != tc.field):
				t.Errorf("got %v, want one fault of %s", err, tc.field)
			}
		})
	}
}
