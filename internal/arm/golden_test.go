package arm

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

var updateGolden = flag.Bool("update", false, "rewrite testdata/golden")

// unsteady are the texts that differ from run to run; each different one gets a number in its place. Times get none:
// whether two of them differ depends on when the seconds turn.
var unsteady = []struct {
	name string
	text *regexp.Regexp
}{
	{"key", regexp.MustCompile(`[A-Za-z0-9+/]{43}=`)},
	{"guid", regexp.MustCompile(`[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}`)},
	{"time", regexp.MustCompile(`\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}(\.\d+)?Z?`)},
	{"origin", regexp.MustCompile(`http://127\.0\.0\.1:\d+/v1\.0`)},
	{"address", regexp.MustCompile(`https://127\.0\.0\.1:\d{5}`)}, // not the issuer's, which has four digits
}

// A steadier numbers unsteady texts in the order of their first appearance, the same over several answers.
type steadier map[string]string

func (s steadier) steady(text string) string {
	for _, u := range unsteady {
		text = u.text.ReplaceAllStringFunc(text, func(found string) string {
			switch {
			case found == testSubscription:
				return found
			case u.name == "time":
				return "{time}"
			}
			if s[found] == "" {
				n := 1
				for _, name := range s {
					if strings.HasPrefix(name, "{"+u.name+"-") {
						n++
					}
				}
				s[found] = fmt.Sprintf("{%s-%d}", u.name, n)
			}
			return s[found]
		})
	}
	return text
}

// TestBodiesOnTheWireAreTheGoldenOnes holds whole answers, so that a change of any shape is seen and meant.
func TestBodiesOnTheWireAreTheGoldenOnes(t *testing.T) {
	p := start(t)
	replace := steadier{}
	robot := identitiesPath + "/robot"
	for _, step := range []struct{ name, method, path, body string }{
		{"instance-default", "GET", theDefault + version, ""},
		{"instance-created", "PUT", webPubSubs + "/shop" + version, `{"location":"westeurope","tags":{"team":"a"},"sku":{"name":"Premium_P1","capacity":2},"identity":{"type":"SystemAssigned"},
			"properties":{"liveTraceConfiguration":{"enabled":"true","categories":[{"name":"ConnectivityLogs","enabled":"true"}]}}}`},
		{"instance-list", "GET", webPubSubs + version, ""},
		{"instance-system-identity", "GET", webPubSubs + "/shop/providers/Microsoft.ManagedIdentity/identities/default" + identityVersion, ""},
		{"user-identity-created", "PUT", robot + identityVersion, `{"location":"local","tags":{"team":"a"}}`},
		{"instance-user-identity", "PATCH", webPubSubs + "/shop" + version, `{"identity":{"type":"UserAssigned","userAssignedIdentities":{"` + robot + `":{}}}}`},
		{"instance-two-identities", "PATCH", webPubSubs + "/shop" + version, `{"identity":{"type":"SystemAssigned, UserAssigned","userAssignedIdentities":{"` + robot + `":{}}}}`},
		{"keys", "POST", theDefault + "/listKeys" + version, ""},
		{"hub-created", "PUT", webPubSubs + "/shop/hubs/chat" + version, `{"properties":{"eventHandlers":[{"urlTemplate":"https://h.example/{event}","userEventPattern":"*","systemEvents":["connect"],
			"auth":{"type":"ManagedIdentity","managedIdentity":{"resource":"api://handler"}}}]}}`},
		{"hub-with-faults", "PUT", webPubSubs + "/shop/hubs/chat" + version, `{"properties":{"eventHandlers":[{"urlTemplate":"https://{hub}.example/","audience":"x"}],"webSocketKeepAliveIntervalInSeconds":0}}`},
		{"hub-list", "GET", webPubSubs + "/shop/hubs" + version, ""},
		{"hub-missing", "GET", webPubSubs + "/shop/hubs/none" + version, ""},
		{"certificate-created", "PUT", webPubSubs + "/shop/customCertificates/main" + version, `{"properties":{"keyVaultBaseUri":"https://v.vault.azure.net/","keyVaultSecretName":"cert"}}`},
		{"domain-created", "PUT", webPubSubs + "/shop/customDomains/www" + version, `{"properties":{"domainName":"wps.example.com","customCertificate":{"id":"` + strings.Replace(webPubSubs, "webPubSub", "WebPubSub", 1) + `/shop/customCertificates/main"}}}`},
		{"link-created", "PUT", webPubSubs + "/shop/sharedPrivateLinkResources/link" + version, `{"properties":{"groupId":"vault","privateLinkResourceId":"/subscriptions/x"}}`},
		{"private-link-resources", "GET", webPubSubs + "/shop/privateLinkResources" + version, ""},
		{"replica-refused", "PUT", webPubSubs + "/shop/replicas/here" + version, `{"location":"local"}`},
		{"instance-with-everything", "GET", webPubSubs + "/shop" + version, ""},
		{"operations", "GET", "/providers/Microsoft.SignalRService/operations" + version, ""},
		{"providers", "GET", sub + "/providers/Microsoft.SignalRService" + resourceVersion, ""},
		{"metadata", "GET", "/metadata/endpoints?api-version=2022-09-01", ""},
		{"version-unknown", "GET", theDefault + "?api-version=2019-01-01", ""},
		{"group-missing", "GET", sub + "/resourceGroups/none" + resourceVersion, ""},
		{"skus", "GET", theDefault + "/skus" + version, ""},
		{"subscription", "GET", sub + "?api-version=2022-12-01", ""},
		{"resource-group", "GET", rg + "?api-version=2022-12-01", ""},
		{"application-created", "POST", "/v1.0/applications", `{"displayName":"handler","identifierUris":["api://handler"],"appRoles":[{"allowedMemberTypes":["Application"],"displayName":"Send","value":"Events.Send"}]}`},
		{"application-list", "GET", "/v1.0/applications", ""},
		{"application-invalid", "POST", "/v1.0/applications", `{"identifierUris":["nonsense"]}`},
		{"service-principal-list", "GET", "/v1.0/servicePrincipals", ""},
	} {
		t.Run(step.name, func(t *testing.T) {
			a := p.do(step.method, step.path, step.body)
			var body bytes.Buffer
			if err := json.Indent(&body, []byte(a.text), "", "  "); err != nil {
				t.Fatal(err)
			}
			got := replace.steady(fmt.Sprintf("%d\n", a.status))
			for _, w := range a.warnings() {
				got += "X-Tabard-Warning: " + w + "\n"
			}
			got += replace.steady(body.String())
			file := filepath.Join("testdata", "golden", step.name+".txt")
			if *updateGolden {
				if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
					t.Fatal(err)
				}
				if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
				return
			}
			want, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			if got != string(want) {
				t.Errorf("got\n%s\nwant\n%s", got, want)
			}
		})
	}
}
