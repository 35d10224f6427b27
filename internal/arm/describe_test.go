package arm

import (
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// notServed are the published operations that this service does not serve, each with what is to become of it.
var notServed = map[string]string{
	"WebPubSubCustomCertificates_List":                          "issue 6",
	"WebPubSubCustomCertificates_Get":                           "issue 6",
	"WebPubSubCustomCertificates_CreateOrUpdate":                "issue 6",
	"WebPubSubCustomCertificates_Delete":                        "issue 6",
	"WebPubSubCustomDomains_List":                               "issue 6",
	"WebPubSubCustomDomains_Get":                                "issue 6",
	"WebPubSubCustomDomains_CreateOrUpdate":                     "issue 6",
	"WebPubSubCustomDomains_Delete":                             "issue 6",
	"WebPubSubPrivateEndpointConnections_List":                  "issue 6",
	"WebPubSubPrivateEndpointConnections_Get":                   "issue 6",
	"WebPubSubPrivateEndpointConnections_Update":                "issue 6",
	"WebPubSubPrivateEndpointConnections_Delete":                "issue 6",
	"WebPubSubPrivateLinkResources_List":                        "issue 6",
	"WebPubSubReplicas_List":                                    "issue 6",
	"WebPubSubReplicas_Get":                                     "issue 6",
	"WebPubSubReplicas_CreateOrUpdate":                          "issue 6",
	"WebPubSubReplicas_Delete":                                  "issue 6",
	"WebPubSubReplicas_Update":                                  "issue 6",
	"WebPubSubReplicas_Restart":                                 "issue 6",
	"WebPubSubReplicaSharedPrivateLinkResources_List":           "issue 6",
	"WebPubSubReplicaSharedPrivateLinkResources_Get":            "issue 6",
	"WebPubSubReplicaSharedPrivateLinkResources_CreateOrUpdate": "issue 6",
	"WebPubSub_ListReplicaSkus":                                 "issue 6",
	"WebPubSubSharedPrivateLinkResources_List":                  "issue 6",
	"WebPubSubSharedPrivateLinkResources_Get":                   "issue 6",
	"WebPubSubSharedPrivateLinkResources_CreateOrUpdate":        "issue 6",
	"WebPubSubSharedPrivateLinkResources_Delete":                "issue 6",
}

// A description is as much of a swagger document as the walk needs.
type description struct {
	Paths       map[string]map[string]json.RawMessage
	Definitions map[string]schema
}

type operationSpec struct {
	OperationID string `json:"operationId"`
	Responses   map[string]struct{ Schema schema }
}

type schema struct {
	Ref        string `json:"$ref"`
	Type       string
	Items      *schema
	Properties map[string]schema
	Additional *schema  `json:"additionalProperties"`
	AllOf      []schema `json:"allOf"`
	Enum       []string
}

func describe(t *testing.T, file string) description {
	t.Helper()
	text, err := os.ReadFile("testdata/" + file)
	if err != nil {
		t.Fatal(err)
	}
	var d description
	if err := json.Unmarshal(text, &d); err != nil {
		t.Fatal(err)
	}
	return d
}

// TestEveryPublishedOperationIsRoutedOrListed calls each operation that is routed and holds its answer against the
// published statuses and schema.
func TestEveryPublishedOperationIsRoutedOrListed(t *testing.T) {
	p := start(t)
	parameter := regexp.MustCompile(`\{[^}]*\}`)
	values := map[string]string{
		"{subscriptionId}": testSubscription, "{resourceGroupName}": "walk", "{resourceName}": "thing", "{hubName}": "chat", "{location}": "local",
		"{scope}": strings.TrimPrefix(sub, "/") + "/resourceGroups/walk/providers/Microsoft.SignalRService/webPubSub/thing",
	}
	bodies := map[string]string{
		"WebPubSub_CheckNameAvailability":             `{"type":"Microsoft.SignalRService/WebPubSub","name":"free"}`,
		"WebPubSub_CreateOrUpdate":                    `{"location":"local","identity":{"type":"SystemAssigned"},"properties":{"liveTraceConfiguration":{"enabled":"true"}}}`,
		"WebPubSub_Update":                            `{"tags":{"a":"b"}}`,
		"WebPubSub_RegenerateKey":                     `{"keyType":"Primary"}`,
		"WebPubSubHubs_CreateOrUpdate":                `{"properties":{"eventHandlers":[{"urlTemplate":"http://h.example/","auth":{"type":"ManagedIdentity","managedIdentity":{"resource":"api://x"}}}]}}`,
		"UserAssignedIdentities_CreateOrUpdate":       `{"location":"local"}`,
		"UserAssignedIdentities_Update":               `{"tags":{"a":"b"}}`,
		"FederatedIdentityCredentials_CreateOrUpdate": `{"properties":{"issuer":"https://issuer.example","subject":"s","audiences":["api://AzureADTokenExchange"]}}`,
	}
	seen := map[string]bool{}
	for _, doc := range []struct{ namespace, file, version string }{
		{"", "webpubsub-arm.json", "2024-03-01"},
		{"Microsoft.ManagedIdentity:", "managedidentity-arm.json", "2026-05-31"},
	} {
		d := describe(t, doc.file)
		// What an operation of a scope is asked about; the walk over the first document has deleted its own.
		p.do("PUT", "/"+values["{scope}"]+version, bodies["WebPubSub_CreateOrUpdate"])
		type call struct {
			method, path string
			operationSpec
		}
		var calls []call
		for path, methods := range d.Paths {
			for method, raw := range methods {
				var op operationSpec
				if method == "parameters" {
					continue
				}
				if err := json.Unmarshal(raw, &op); err != nil {
					t.Fatal(err)
				}
				calls = append(calls, call{strings.ToUpper(method), path, op})
			}
		}
		// Creation first, parents before children; deletion last, the other way round.
		rank := func(c call) string {
			order := map[string]string{"PUT": "1", "DELETE": "3"}[c.method]
			if order == "" {
				order = "2"
			}
			depth := strings.Count(c.path, "/")
			if order == "3" {
				depth = 99 - depth
			}
			return fmt.Sprintf("%s %02d %s", order, depth, c.OperationID)
		}
		slices.SortFunc(calls, func(a, b call) int { return strings.Compare(rank(a), rank(b)) })
		for _, c := range calls {
			id := doc.namespace + c.OperationID
			why, listed := notServed[id]
			seen[id] = true
			path := parameter.ReplaceAllStringFunc(c.path, func(name string) string {
				if v, ok := values[name]; ok {
					return v
				}
				return "any"
			})
			_, _, err := p.handler.routes.find(c.method, path)
			switch {
			case err != nil && !listed:
				t.Errorf("%s (%s %s) is neither routed nor listed", id, c.method, c.path)
			case err == nil && listed:
				t.Errorf("%s is routed, but listed as missing: %s", id, why)
			}
			if err != nil {
				continue
			}
			t.Run(id, func(t *testing.T) {
				a := p.do(c.method, path+"?api-version="+doc.version, bodies[c.OperationID])
				response, ok := c.Responses[fmt.Sprint(a.status)]
				if !ok {
					t.Fatalf("%s %s answers %d, which is not among %v: %s", c.method, path, a.status, slices.Sorted(maps.Keys(c.Responses)), a.text)
				}
				if a.body != nil {
					d.check(t, "", response.Schema, a.body)
				}
			})
		}
	}
	for id := range notServed {
		if !seen[id] {
			t.Errorf("%s is listed but not published", id)
		}
	}
}

// fromElsewhere are members that the description takes from a file that it refers to, or that are ours.
var fromElsewhere = []string{"id", "name", "type", "location", "tags", "properties.tabard", "value[].properties.tabard"}

func (d *description) check(t *testing.T, at string, s schema, v any) {
	t.Helper()
	s = d.resolve(s)
	switch v := v.(type) {
	case map[string]any:
		for name, member := range v {
			at := strings.TrimPrefix(at+"."+name, ".")
			switch property, ok := s.Properties[name]; {
			case ok:
				d.check(t, at, property, member)
			case s.Additional != nil:
				d.check(t, at, *s.Additional, member)
			case len(s.Properties) > 0 && !slices.Contains(fromElsewhere, strings.TrimPrefix(at, "value[].")) && !slices.Contains(fromElsewhere, at):
				t.Errorf("%s is not described", at)
			}
		}
	case []any:
		if s.Type != "array" && s.Type != "" {
			t.Errorf("%s is a list, want %s", at, s.Type)
		}
		for _, item := range v {
			if s.Items != nil {
				d.check(t, at+"[]", *s.Items, item)
			}
		}
	case string:
		if s.Type != "string" && s.Type != "" || len(s.Enum) > 0 && !slices.Contains(s.Enum, v) {
			t.Errorf("%s is %q, want %s %v", at, v, s.Type, s.Enum)
		}
	case bool:
		if s.Type != "boolean" && s.Type != "" {
			t.Errorf("%s is %v, want %s", at, v, s.Type)
		}
	case float64:
		if s.Type != "integer" && s.Type != "number" && s.Type != "" {
			t.Errorf("%s is %v, want %s", at, v, s.Type)
		}
	}
}

func (d *description) resolve(s schema) schema {
	if name, ok := strings.CutPrefix(s.Ref, "#/definitions/"); ok {
		return d.resolve(d.Definitions[name])
	}
	for _, part := range s.AllOf {
		part = d.resolve(part)
		if s.Properties == nil {
			s.Properties = map[string]schema{}
		}
		maps.Copy(s.Properties, part.Properties)
	}
	return s
}
